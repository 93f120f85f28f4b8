//! Somebody who speaks the agent's protocol by hand: as well as an agent, or with anything else in it.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use casefile_evidence::recording::delta::Encoder;
use casefile_proto::connectivity::Ability;
use casefile_proto::ids::{BootId, FrameSeq, NodeName};
use casefile_proto::session::{
    ClockAnswer, CollectionAsk, Ends, FrameBatch, FromAgent, Hello, PROTOCOL, ToAgent, Welcome,
};
use casefile_proto::wire::v1;
use casefile_proto::wire::v1::agent_service_client::AgentServiceClient;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::case::{Answer, PATIENCE, Site};
use super::raw::by;
use crate::frames::{self, Series};

/// Larger than anything that is tried.
const ANY_SIZE: usize = 80 << 20;

/// A session, as its client has it.
pub(super) struct Speaker {
    site: Arc<Site>,
    node: NodeName,
    boot: BootId,
    stub: AgentServiceClient<Channel>,
    to: mpsc::Sender<v1::SessionRequest>,
    from: Streaming<v1::SessionResponse>,
    encoder: Encoder,
    series: Series,
    sent: u64,
    acked: u64,
}

/// A boot that is this number.
pub(super) fn boot(number: u8) -> BootId {
    BootId::from_bytes([number; 16])
}

/// What an agent says first.
pub(super) fn hello(node: &NodeName, boot: BootId) -> Hello {
    let header = frames::header(node, boot);
    Hello {
        protocol: PROTOCOL,
        node: node.clone(),
        boot,
        agent_version: header.agent_version.clone(),
        clock: casefile_collector::clock::now(),
        recording_header: Encoder::new(header).header().into(),
        last_seq: None,
        collectable: Vec::new(),
        connectivity: Ability::Unknown,
    }
}

/// The same, as it goes over the wire, to be changed.
pub(super) fn raw_hello(node: &NodeName, boot: BootId) -> v1::Hello {
    hello(node, boot).into()
}

/// A message of a session.
pub(super) fn message(message: v1::session_request::Message) -> v1::SessionRequest {
    v1::SessionRequest { message: Some(message) }
}

impl Speaker {
    /// Opens a session with the certificate of this node, and says nothing yet.
    pub(super) async fn open(site: &Arc<Site>, node: &NodeName, boot: BootId) -> Result<Self> {
        let stub = AgentServiceClient::new(site.agent(node).await?).max_encoding_message_size(ANY_SIZE);
        let (to, messages) = mpsc::channel(64);
        let opening = stub.clone().session(ReceiverStream::new(messages)).await;
        let from = opening.with_context(|| format!("open a session of {node}"))?.into_inner();
        let encoder = Encoder::new(frames::header(node, boot));
        Ok(Self {
            site: Arc::clone(site),
            node: node.clone(),
            boot,
            stub,
            to,
            from,
            encoder,
            series: Series::New,
            sent: 0,
            acked: 0,
        })
    }

    /// A session that stands.
    pub(super) async fn stand(site: &Arc<Site>, node: &NodeName, boot: BootId) -> Result<(Self, Welcome)> {
        let mut speaker = Self::open(site, node, boot).await?;
        speaker.say(FromAgent::Hello(hello(node, boot)).into()).await;
        loop {
            match speaker.hear().await?? {
                ToAgent::Welcome(welcome) => {
                    speaker.sent = welcome.have.map_or(0, |have| have.0);
                    speaker.acked = speaker.sent;
                    return Ok((speaker, welcome));
                }
                ToAgent::Probe(_) => {}
                other => bail!("{other:?} came before welcome"),
            }
        }
    }

    /// The connection.
    pub(super) fn stub(&self) -> AgentServiceClient<Channel> {
        self.stub.clone()
    }

    /// What says something in it.
    pub(super) fn sender(&self) -> mpsc::Sender<v1::SessionRequest> {
        self.to.clone()
    }

    /// Says something. When the other end has closed, what it said last is looked at.
    pub(super) async fn say(&self, message: v1::SessionRequest) {
        let _ = timeout(PATIENCE, self.to.send(message)).await;
    }

    /// What it hears, or why the session ended.
    pub(super) async fn hear(&mut self) -> Result<Result<ToAgent, Status>> {
        match timeout(PATIENCE, self.from.message()).await.context("nothing was heard")? {
            Ok(Some(message)) => Ok(Ok(message.try_into()?)),
            Ok(None) => Ok(Err(Status::ok("the end"))),
            Err(status) => Ok(Err(status)),
        }
    }

    /// The next frames, in good faith.
    pub(super) fn batch(&mut self, count: u64) -> FrameBatch {
        let (first, last) = (self.sent + 1, self.sent + count);
        let mut records = Vec::new();
        for seq in first..=last {
            let at = casefile_collector::clock::now();
            self.encoder.frame(&frames::frame(self.boot, FrameSeq(seq), at, self.series), &mut records);
            self.series = Series::Known;
        }
        self.sent = last;
        let (first, last) = (FrameSeq(first), FrameSeq(last));
        FrameBatch { first, last, records: records.into(), skipped: Vec::new(), ends: Ends::Here }
    }

    /// Sends frames in good faith and waits for their ack: they must be found afterwards.
    pub(super) async fn frames(&mut self, count: u64) -> Result<()> {
        let batch = self.batch(count);
        let last = batch.last.0;
        self.site.expected().frames.insert(self.node.clone(), (self.boot, last));
        self.say(FromAgent::Frames(batch).into()).await;
        while self.acked < last {
            if let ToAgent::Ack(up_to) = self.hear().await?? {
                self.acked = up_to.0;
            }
        }
        Ok(())
    }

    /// Stays and answers, until the session ends.
    pub(super) async fn stay(mut self) {
        while let Ok(Ok(heard)) = self.hear().await {
            if let ToAgent::Probe(token) = heard {
                let answer = ClockAnswer { token, clock: casefile_collector::clock::now() };
                self.say(FromAgent::Clock(answer).into()).await;
            }
        }
    }

    /// What the collector asks to be collected.
    pub(super) async fn asked(&mut self) -> Result<CollectionAsk> {
        loop {
            if let ToAgent::Collect(ask) = self.hear().await?? {
                return Ok(ask);
            }
        }
    }

    /// With what the session is ended. Whatever is acknowledged or welcomed before, beyond what was good, is accepted.
    pub(super) async fn ended(&mut self) -> Result<Answer> {
        loop {
            let Ok(heard) = self.hear().await else { return Ok(Answer::accepted("the session goes on")) };
            match heard {
                Ok(ToAgent::Welcome(_)) => return Ok(Answer::accepted("welcome")),
                Ok(ToAgent::Ack(up_to)) if up_to.0 > self.acked => {
                    return Ok(Answer::accepted(format!("frame {up_to} was acknowledged")));
                }
                Ok(_) => {}
                Err(status) => return Ok(by(&status)),
            }
        }
    }
}
