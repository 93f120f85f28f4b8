//! One simulated node of a collection: it streams what it recorded, and answers one incident with everything it has.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use casefile_evidence::recording::delta::Encoder;
use casefile_proto::connectivity::Ability;
use casefile_proto::coverage::SourceKind;
use casefile_proto::ids::{ItemNumber, NodeName};
use casefile_proto::session::{
    ClockAnswer, Collectable, CollectionAsk, CollectionDone, FromAgent, Hello, PROTOCOL, RunId, SessionToken, ToAgent,
    UploadAnswer, UploadBegin, UploadPart,
};
use casefile_proto::time::{BootTime, Stamp, Window};
use casefile_proto::wire::v1;
use casefile_proto::wire::v1::agent_service_client::AgentServiceClient;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use super::possessions::{Item, Machine, Possessions};
use crate::dial::{self, Ticket};

/// What is waited for longer is broken.
const ANSWER: Duration = Duration::from_secs(60);

/// Uploads at a time: an agent has as many.
const UPLOADS: usize = 4;

/// A node whose session stands and whose frames are acknowledged.
pub(super) struct Played {
    client: AgentServiceClient<Channel>,
    outbox: mpsc::Sender<v1::SessionRequest>,
    inbound: Streaming<v1::SessionResponse>,
    token: SessionToken,
    clock: Clock,
    has: Possessions,
}

/// What it brought.
pub(super) struct Answer {
    /// How many items.
    pub(super) items: u64,
    /// Plain bytes of them.
    pub(super) bytes: u64,
}

/// A machine that goes on from its last frame.
#[derive(Clone, Copy)]
struct Clock {
    last: Stamp,
}

impl Clock {
    fn now(self) -> Stamp {
        let wall = casefile_tests::now();
        let passed = wall.nanos_since(self.last.wall).max(0);
        Stamp { wall, boot: BootTime::from_nanos(self.last.boot.nanos() + u64::try_from(passed).unwrap_or(0)) }
    }
}

impl Played {
    /// Connects a node that is this machine, and streams its quarter of an hour.
    pub(super) async fn stand(ticket: &Ticket, machine: &Arc<Machine>, window: Window) -> Result<Self> {
        let (node, machine) = (ticket.node.clone(), Arc::clone(machine));
        let mut has = tokio::task::spawn_blocking(move || machine.as_node(&node, window)).await??;
        let clock = Clock { last: has.last };
        let mut client = dial::node(ticket).await?;
        let (outbox, messages) = mpsc::channel(8);
        outbox.send(FromAgent::Hello(hello(&ticket.node, &has, clock.now())).into()).await?;
        let call = timeout(ANSWER, client.session(ReceiverStream::new(messages))).await??;
        let mut inbound = call.into_inner();
        let first = timeout(ANSWER, inbound.message()).await??.context("a welcome")?;
        let ToAgent::Welcome(welcome) = ToAgent::try_from(first)? else { bail!("no welcome came first") };
        ensure!(welcome.have.is_none(), "nobody has sent frames of {} before", ticket.node);
        let last = has.batches.last().context("a batch")?.last;
        let (mut waiting, window) = (Vec::new(), usize::try_from(welcome.window_batches)?);
        let mut batches = std::mem::take(&mut has.batches).into_iter();
        let mut played = Self { client, outbox, inbound, token: welcome.token, clock, has };
        loop {
            while waiting.len() < window
                && let Some(batch) = batches.next()
            {
                waiting.push(batch.last);
                played.outbox.send(FromAgent::Frames(batch).into()).await?;
            }
            match played.hear().await? {
                ToAgent::Ack(up_to) if up_to == last => return Ok(played),
                ToAgent::Ack(up_to) => waiting.retain(|sent| *sent > up_to),
                other => bail!("{other:?} came while frames were sent"),
            }
        }
    }

    /// What it hears next, clock probes apart: those are answered.
    async fn hear(&mut self) -> Result<ToAgent> {
        loop {
            let message = timeout(ANSWER, self.inbound.message()).await??.context("the session goes on")?;
            match ToAgent::try_from(message)? {
                ToAgent::Probe(token) => {
                    let answer = ClockAnswer { token, clock: self.clock.now() };
                    self.outbox.send(FromAgent::Clock(answer).into()).await?;
                }
                other => return Ok(other),
            }
        }
    }

    /// Waits until it is asked, uploads everything, and says that it is done.
    pub(super) async fn answer(mut self) -> Result<Answer> {
        let ToAgent::Collect(ask) = self.hear().await? else { bail!("something else than an incident came") };
        let began = Instant::now();
        let items = std::mem::take(&mut self.has.items);
        let bytes = items.iter().map(|item| item.tail.size).sum();
        let count = items.len() as u64;
        let mut left = (0..).zip(items);
        let mut uploads = JoinSet::new();
        loop {
            while uploads.len() < UPLOADS
                && let Some((number, item)) = left.next()
            {
                uploads.spawn(upload(self.client.clone(), self.token, ask.clone(), ItemNumber(number), item));
            }
            tokio::select! {
                uploaded = uploads.join_next() => match uploaded {
                    Some(uploaded) => uploaded??,
                    None => break,
                },
                // A probe of the clock; nothing else is said now.
                heard = self.hear() => bail!("{:?} came while items were uploaded", heard?),
            }
        }
        let took = u64::try_from(began.elapsed().as_nanos())?;
        let mut sources = std::mem::take(&mut self.has.rows);
        for row in &mut sources {
            row.cost.took_nanos = took;
        }
        let done = CollectionDone { request: ask.request, sources, gaps: Vec::new() };
        self.outbox.send(FromAgent::Done(done).into()).await?;
        // It stays connected until what it said last has gone.
        tokio::spawn(async move { while self.hear().await.is_ok() {} });
        Ok(Answer { items: count, bytes })
    }
}

fn hello(node: &NodeName, has: &Possessions, clock: Stamp) -> Hello {
    let rows = has.rows.iter().filter(|row| row.kind != SourceKind::Metrics);
    Hello {
        protocol: PROTOCOL,
        node: node.clone(),
        boot: has.header.boot,
        agent_version: has.header.agent_version.clone(),
        clock,
        recording_header: Encoder::new(has.header.clone()).header().into(),
        last_seq: has.batches.last().map(|batch| batch.last),
        collectable: rows.map(|row| Collectable { name: row.source.clone(), kind: row.kind }).collect(),
        connectivity: Ability::Unknown,
    }
}

async fn upload(
    mut client: AgentServiceClient<Channel>,
    token: SessionToken,
    ask: CollectionAsk,
    number: ItemNumber,
    item: Item,
) -> Result<()> {
    let (parts, messages) = mpsc::channel::<v1::UploadRequest>(4);
    let begin = UploadBegin { token, request: ask.request, run: RunId(1), item: number, head: item.head };
    parts.send(UploadPart::Begin(begin).into()).await?;
    let mut answers = timeout(ANSWER, client.upload(ReceiverStream::new(messages))).await??.into_inner();
    for piece in item.pieces {
        timeout(ANSWER, parts.send(UploadPart::Piece(piece).into())).await??;
    }
    parts.send(UploadPart::End(item.tail).into()).await?;
    loop {
        let message = timeout(ANSWER, answers.message()).await??.context("the call goes on")?;
        match UploadAnswer::try_from(message)? {
            UploadAnswer::Done => return Ok(()),
            UploadAnswer::Ack(_) | UploadAnswer::Resume(0) => {}
            UploadAnswer::Resume(offset) => bail!("a new item is to go on at {offset}"),
        }
    }
}
