//! One session, from hello to its end: reads what the collector says, sends what the feed gives, starts what is asked.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use casefile_evidence::recording::delta::Encoder;
use casefile_proto::connectivity::Ability;
use casefile_proto::ids::FrameSeq;
use casefile_proto::session::{ClockAnswer, FromAgent, Hello, MAX_MESSAGE, PROTOCOL, RedactionKey, ToAgent, Welcome};
use casefile_proto::wire::v1;
use casefile_proto::wire::v1::agent_service_client::AgentServiceClient;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::backoff::Backoff;
use super::catch_up::Wanted;
use super::collections::Collections;
use super::in_cluster::is_over;
use super::stream::Stream;
use super::upload::Link;
use super::{Run, Uplink};
use crate::connectivity::Tests;

/// Messages that wait for the connection. When it is full nothing more is taken from the feed.
const OUTBOX: usize = 4;

/// Short messages that wait. Beyond this a probe is not answered: the collector sends more of them than is sensible.
const SHORT: usize = 64;

/// Frames that wait between the thread that reads the ring and the session. When it is full the thread waits.
const FETCHED: usize = 32;

/// Welcome must come within this.
const WELCOME: Duration = Duration::from_secs(15);

/// A collector that says nothing for this long is gone: it sends a clock probe every few seconds.
const SILENCE: Duration = Duration::from_secs(90);

/// At a stop, how long what was sent may take to be acknowledged.
const LAST_ACKS: Duration = Duration::from_secs(3);

/// How a session ended.
pub(super) enum End {
    /// As we were told.
    Stopped,
    /// In any other way: the next one resumes.
    Broken(String),
    /// Our certificate is not taken.
    NotTaken(String),
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        if status.code() == Code::Unauthenticated || is_over(&status) {
            return Self::NotTaken(format!("{:?}: {}", status.code(), status.message()));
        }
        Self::Broken(match status.code() {
            // The collector goes away, or the connection was closed in an orderly way (GOAWAY).
            Code::Unavailable | Code::Cancelled => "the collector closed the connection".to_owned(),
            code => format!("{code:?}: {}", status.message()),
        })
    }
}

/// Talks until the session breaks or the agent stops. Uploads go over a connection of their own.
pub(super) async fn talk(
    uplink: &Uplink,
    (collections, tests): (&mut Collections, &mut Tests),
    (vitals, bulk): (Channel, Channel),
    stop: &mut watch::Receiver<Run>,
    backoff: &mut Backoff,
) -> End {
    let greeted = tokio::select! {
        // Within its own deadline.
        greeted = greet(uplink, tests.ability(), vitals) => greeted,
        // The agent stops.
        _ = stop.wait_for(|run| *run == Run::Stop) => return End::Stopped,
    };
    let (welcome, outbox, inbound) = match greeted {
        Ok(greeted) => greeted,
        Err(end) => return end,
    };
    tracing::info!(collector = %uplink.collector.address, have = welcome.have.map(|seq| seq.0), "session stands");
    if let Some(key) = &welcome.redaction_key {
        redact_with(uplink, key);
    }
    collections.set_link(Some(Link::new(bulk, welcome.token)));
    let stats = uplink.context.host.stats();
    stats.session_stands.set(1);
    if let Some(have) = welcome.have {
        stats.acknowledged.set(have.0);
    }
    let end = match Talk::new(uplink, &welcome, outbox, backoff).go_on((collections, tests), inbound, stop).await {
        Ok(()) => End::Stopped,
        Err(end) => end,
    };
    stats.session_stands.set(0);
    collections.set_link(None);
    uplink.live.unfollow();
    end
}

/// What a session has when it stands.
type Greeted = (Welcome, mpsc::Sender<v1::SessionRequest>, Streaming<v1::SessionResponse>);

async fn greet(uplink: &Uplink, connectivity: Ability, channel: Channel) -> Result<Greeted, End> {
    let late = || End::Broken("the collector did not answer in time".to_owned());
    let mut client =
        AgentServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
    let (outbox, messages) = mpsc::channel(OUTBOX);
    // There is room: nothing was sent yet.
    let _ = outbox.try_send(FromAgent::Hello(hello(uplink, connectivity)).into());
    let call = tokio::time::timeout(WELCOME, client.session(ReceiverStream::new(messages)));
    let mut inbound = call.await.map_err(|_| late())??.into_inner();
    let first = tokio::time::timeout(WELCOME, inbound.message()).await.map_err(|_| late())??;
    match first.map(ToAgent::try_from) {
        Some(Ok(ToAgent::Welcome(welcome))) if welcome.protocol == PROTOCOL => Ok((welcome, outbox, inbound)),
        Some(Ok(ToAgent::Welcome(welcome))) => Err(End::Broken(format!(
            "the collector speaks protocol {}, this agent speaks {PROTOCOL}",
            welcome.protocol
        ))),
        Some(Ok(_)) => Err(End::Broken("something came before welcome".to_owned())),
        Some(Err(error)) => Err(End::Broken(error.to_string())),
        None => Err(End::Broken("the collector closed the session".to_owned())),
    }
}

fn redact_with(uplink: &Uplink, key: &RedactionKey) {
    if uplink.context.redaction.use_key(key.0) {
        let (context, key) = (Arc::clone(&uplink.context), key.clone());
        // Not awaited: the key is in use already, and a disk that hangs must not hang the session.
        tokio::task::spawn_blocking(move || context.redaction.keep_key(&key.0));
    }
}

fn hello(uplink: &Uplink, connectivity: Ability) -> Hello {
    let header = uplink.live.header();
    Hello {
        protocol: PROTOCOL,
        node: header.node.clone(),
        boot: header.boot,
        agent_version: header.agent_version.clone(),
        clock: (uplink.clock)(),
        recording_header: Encoder::new(header.clone()).header().into(),
        last_seq: uplink.live.last(),
        collectable: uplink.collectable.clone(),
        connectivity,
    }
}

/// A session that stands.
struct Talk<'a> {
    uplink: &'a Uplink,
    outbox: mpsc::Sender<v1::SessionRequest>,
    stream: Stream,
    /// Begins with short waits again when the collector takes frames: one that refuses them is not dialled all the time.
    backoff: &'a mut Backoff,
    /// Short messages, sent before frames. Bounded by what causes them: a probe, a collection.
    first: VecDeque<FromAgent>,
}

impl<'a> Talk<'a> {
    fn new(
        uplink: &'a Uplink,
        welcome: &Welcome,
        outbox: mpsc::Sender<v1::SessionRequest>,
        backoff: &'a mut Backoff,
    ) -> Self {
        let now = (uplink.clock)().wall;
        let (stream, wanted) = Stream::begin(uplink.live.clone(), uplink.ring_dir.clone(), welcome, now);
        let mut talk = Self { uplink, outbox, stream, backoff, first: VecDeque::new() };
        talk.fetch(wanted);
        talk
    }

    async fn go_on(
        mut self,
        (collections, tests): (&mut Collections, &mut Tests),
        mut inbound: Streaming<v1::SessionResponse>,
        stop: &mut watch::Receiver<Run>,
    ) -> Result<(), End> {
        let silence = tokio::time::sleep(SILENCE);
        tokio::pin!(silence);
        loop {
            let wanted = self.stream.take_live((self.uplink.clock)().wall);
            self.fetch(wanted);
            let (want_fetched, want_room) =
                (self.stream.wants_fetched(), !self.first.is_empty() || self.stream.is_ready());
            // Every arm takes out of one queue or stream, so that dropping it loses nothing.
            tokio::select! {
                // The collector said something.
                said = inbound.message() => {
                    silence.as_mut().reset(tokio::time::Instant::now() + SILENCE);
                    match said? {
                        Some(said) => self.hear(said, collections, tests)?,
                        None => return Err(End::Broken("the collector closed the session".to_owned())),
                    }
                }
                // There is room for a message.
                room = self.outbox.clone().reserve_owned(), if want_room => {
                    let room = room.map_err(|_| End::Broken("the connection was closed".to_owned()))?;
                    if let Some(message) = self.first.pop_front().or_else(|| self.stream.take().map(FromAgent::Frames)) {
                        room.send(message.into());
                    }
                }
                // A frame was recorded.
                () = self.uplink.live.changed() => {}
                // The ring gave something.
                fetched = self.stream.fetched(), if want_fetched => self.stream.take_fetched(fetched),
                // A collection has something to say.
                said = collections.next() => self.first.push_back(said),
                // A test of connectivity has ended; there are few at a time.
                answer = tests.next() => self.first.push_back(FromAgent::Connectivity(answer)),
                // The collector hangs.
                () = &mut silence => return Err(End::Broken("the collector says nothing".to_owned())),
                // The agent stops.
                () = told_to_stop(stop) => return self.finish(inbound).await,
            }
        }
    }

    fn hear(&mut self, said: v1::SessionResponse, collections: &mut Collections, tests: &mut Tests) -> Result<(), End> {
        // A newer collector may say things that this agent does not know.
        if said.message.is_none() {
            return Ok(());
        }
        match ToAgent::try_from(said).map_err(|e| End::Broken(format!("refused: {e}")))? {
            ToAgent::Welcome(_) => return Err(End::Broken("welcome came twice".to_owned())),
            ToAgent::Ack(up_to) => {
                acked(self.uplink, &mut self.stream, up_to);
                self.backoff.reset();
            }
            ToAgent::Probe(token) if self.first.len() < SHORT => {
                self.first.push_front(FromAgent::Clock(ClockAnswer { token, clock: (self.uplink.clock)() }));
            }
            ToAgent::Probe(_) => {}
            ToAgent::Collect(ask) => self.first.extend(collections.ask(ask).map(FromAgent::Done)),
            ToAgent::Cancel(request) => collections.cancel(request),
            ToAgent::Redact(key) => redact_with(self.uplink, &key),
            ToAgent::TestConnectivity(ask) if self.first.len() < SHORT => {
                self.first.extend(tests.ask(ask).map(FromAgent::Connectivity));
            }
            // It asks for more than is sensible, and finds that there is no answer.
            ToAgent::TestConnectivity(_) => {}
        }
        Ok(())
    }

    fn fetch(&mut self, wanted: Option<Wanted>) {
        if let Some(wanted) = wanted {
            let (out, fetched) = mpsc::channel(FETCHED);
            // Not awaited: it ends when it has given everything, or when nobody takes it.
            tokio::task::spawn_blocking(move || wanted.fetch(out));
            self.stream.fetched_from(fetched);
        }
    }

    /// Nothing more is sent; what was sent is acknowledged if that does not take long.
    async fn finish(self, mut inbound: Streaming<v1::SessionResponse>) -> Result<(), End> {
        let Self { uplink, outbox, mut stream, .. } = self;
        drop(outbox);
        let acks = async {
            while !stream.is_done() {
                match inbound.message().await {
                    Ok(Some(said)) => {
                        if let Ok(ToAgent::Ack(up_to)) = ToAgent::try_from(said) {
                            acked(uplink, &mut stream, up_to);
                        }
                    }
                    Ok(None) | Err(_) => break,
                }
            }
        };
        // What was not acknowledged by then is in the ring.
        let _ = tokio::time::timeout(LAST_ACKS, acks).await;
        Ok(())
    }
}

/// The collector has everything up to here on its disk.
fn acked(uplink: &Uplink, stream: &mut Stream, up_to: FrameSeq) {
    stream.acked(up_to);
    uplink.context.host.stats().acknowledged.set(up_to.0);
}

/// Ready when the agent stops. Keeps no guard of the channel, which must not be held across a wait.
async fn told_to_stop(stop: &mut watch::Receiver<Run>) {
    // An error means that nobody can say it any more, which says it too.
    let _ = stop.wait_for(|run| *run == Run::Stop).await;
}
