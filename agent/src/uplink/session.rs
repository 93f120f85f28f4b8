//! One session, from hello to its end: reads what the collector says, sends what the feed gives, starts what is asked.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use casefile_evidence::recording::delta::Encoder;
use casefile_proto::ids::FrameSeq;
use casefile_proto::session::{ClockAnswer, FromAgent, Hello, MAX_MESSAGE, PROTOCOL, RedactionKey, ToAgent, Welcome};
use casefile_proto::wire::v1;
use casefile_proto::wire::v1::agent_service_client::AgentServiceClient;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::backoff::Backoff;
use super::catch_up::{self, Fetched, Wanted};
use super::collections::Collections;
use super::feed::Feed;
use super::upload::Link;
use super::{Run, Uplink};

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
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
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
    collections: &mut Collections,
    (vitals, bulk): (Channel, Channel),
    stop: &mut watch::Receiver<Run>,
    backoff: &mut Backoff,
) -> End {
    let greeted = tokio::select! {
        // Within its own deadline.
        greeted = greet(uplink, vitals) => greeted,
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
    let end = match Talk::new(uplink, &welcome, outbox, backoff).go_on(collections, inbound, stop).await {
        Ok(()) => End::Stopped,
        Err(end) => end,
    };
    collections.set_link(None);
    uplink.live.unfollow();
    end
}

/// What a session has when it stands.
type Greeted = (Welcome, mpsc::Sender<v1::SessionRequest>, Streaming<v1::SessionResponse>);

async fn greet(uplink: &Uplink, channel: Channel) -> Result<Greeted, End> {
    let late = || End::Broken("the collector did not answer in time".to_owned());
    let mut client =
        AgentServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
    let (outbox, messages) = mpsc::channel(OUTBOX);
    // There is room: nothing was sent yet.
    let _ = outbox.try_send(FromAgent::Hello(hello(uplink)).into());
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

fn hello(uplink: &Uplink) -> Hello {
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
    }
}

/// A session that stands.
struct Talk<'a> {
    uplink: &'a Uplink,
    outbox: mpsc::Sender<v1::SessionRequest>,
    feed: Feed,
    source: Source,
    catch_up: Duration,
    /// Begins with short waits again when the collector takes frames: one that refuses them is not dialled all the time.
    backoff: &'a mut Backoff,
    /// Short messages, sent before frames. Bounded by what causes them: a probe, a collection.
    first: VecDeque<FromAgent>,
}

/// Where the next frame comes from.
enum Source {
    /// The queue of the newest frames; the stretch that the last record was of.
    Live(Option<u64>),
    /// The ring.
    Ring(mpsc::Receiver<Fetched>),
}

impl<'a> Talk<'a> {
    fn new(
        uplink: &'a Uplink,
        welcome: &Welcome,
        outbox: mpsc::Sender<v1::SessionRequest>,
        backoff: &'a mut Backoff,
    ) -> Self {
        let next = welcome.have.map_or(FrameSeq::FIRST, FrameSeq::next);
        let last = uplink.live.follow();
        if let Some(have) = welcome.have.filter(|have| last.is_none_or(|last| *have > last)) {
            tracing::warn!(%have, last = last.map(|seq| seq.0), "the collector holds frames that the ring has lost");
            uplink.live.raise_floor(have);
        }
        let mut talk = Self {
            uplink,
            outbox,
            feed: Feed::new(next, welcome.window_batches),
            source: Source::Live(None),
            catch_up: welcome.catch_up,
            backoff,
            first: VecDeque::new(),
        };
        talk.fetch_up_to(last);
        talk
    }

    async fn go_on(
        mut self,
        collections: &mut Collections,
        mut inbound: Streaming<v1::SessionResponse>,
        stop: &mut watch::Receiver<Run>,
    ) -> Result<(), End> {
        let silence = tokio::time::sleep(SILENCE);
        tokio::pin!(silence);
        loop {
            self.take_live();
            let (want_fetched, want_room) = (self.feed.wants_more(), !self.first.is_empty() || self.feed.is_ready());
            // Every arm takes out of one queue or stream, so that dropping it loses nothing.
            tokio::select! {
                // The collector said something.
                said = inbound.message() => {
                    silence.as_mut().reset(tokio::time::Instant::now() + SILENCE);
                    match said? {
                        Some(said) => self.hear(said, collections)?,
                        None => return Err(End::Broken("the collector closed the session".to_owned())),
                    }
                }
                // There is room for a message.
                room = self.outbox.clone().reserve_owned(), if want_room => {
                    let room = room.map_err(|_| End::Broken("the connection was closed".to_owned()))?;
                    if let Some(message) = self.first.pop_front().or_else(|| self.feed.take().map(FromAgent::Frames)) {
                        room.send(message.into());
                    }
                }
                // A frame was recorded.
                () = self.uplink.live.changed() => {}
                // The ring gave something.
                fetched = fetched(&mut self.source), if want_fetched => self.take_fetched(fetched),
                // A collection has something to say.
                said = collections.next() => self.first.push_back(said),
                // The collector hangs.
                () = &mut silence => return Err(End::Broken("the collector says nothing".to_owned())),
                // The agent stops.
                () = told_to_stop(stop) => return self.finish(inbound).await,
            }
        }
    }

    fn hear(&mut self, said: v1::SessionResponse, collections: &mut Collections) -> Result<(), End> {
        // A newer collector may say things that this agent does not know.
        if said.message.is_none() {
            return Ok(());
        }
        match ToAgent::try_from(said).map_err(|e| End::Broken(format!("refused: {e}")))? {
            ToAgent::Welcome(_) => return Err(End::Broken("welcome came twice".to_owned())),
            ToAgent::Ack(up_to) => {
                self.feed.acked(up_to);
                self.backoff.reset();
            }
            ToAgent::Probe(token) if self.first.len() < SHORT => {
                self.first.push_front(FromAgent::Clock(ClockAnswer { token, clock: (self.uplink.clock)() }));
            }
            ToAgent::Probe(_) => {}
            ToAgent::Collect(ask) => self.first.extend(collections.ask(ask).map(FromAgent::Done)),
            ToAgent::Cancel(request) => collections.cancel(request),
            ToAgent::Redact(key) => redact_with(self.uplink, &key),
        }
        Ok(())
    }

    /// Takes what follows from the queue of the newest frames; begins to fetch from the ring what is missing before it.
    fn take_live(&mut self) {
        let live = &self.uplink.live;
        while let Source::Live(stretch) = self.source
            && self.feed.wants_more()
            && let Some((of, seq)) = live.front()
        {
            let next = self.feed.next();
            if seq > next {
                // The frame before is in the ring already: the recorder gives it there first.
                self.fetch(FrameSeq(seq.0 - 1));
            } else if seq < next {
                // The collector has it. What follows leans on it, so begin anew with a keyframe.
                let last = live.follow();
                self.fetch_up_to(last);
            } else if let Some(record) = live.pop() {
                debug_assert!(stretch.is_none_or(|stretch| stretch <= of), "stretches go forward");
                self.feed.add(&record.bytes);
                self.source = Source::Live(Some(of));
            }
        }
    }

    fn fetch_up_to(&mut self, last: Option<FrameSeq>) {
        if let Some(last) = last.filter(|last| *last >= self.feed.next()) {
            self.fetch(last);
        }
    }

    fn fetch(&mut self, to: FrameSeq) {
        let not_before = (self.uplink.clock)().wall.before(self.catch_up);
        let wanted = Wanted {
            ring_dir: self.uplink.ring_dir.clone(),
            header: self.uplink.live.header().clone(),
            from: self.feed.next(),
            to,
            not_before,
        };
        let (out, fetched) = mpsc::channel(FETCHED);
        // Not awaited: it ends when it has given everything, or when nobody takes it.
        tokio::task::spawn_blocking(move || catch_up::fetch(wanted, out));
        self.source = Source::Ring(fetched);
    }

    fn take_fetched(&mut self, fetched: Option<Fetched>) {
        match fetched {
            Some(Fetched::Record(record)) => self.feed.add(&record),
            Some(Fetched::Skip(to, gap)) => self.feed.skip(to, gap),
            None => self.source = Source::Live(None),
        }
    }

    /// Nothing more is sent; what was sent is acknowledged if that does not take long.
    async fn finish(mut self, mut inbound: Streaming<v1::SessionResponse>) -> Result<(), End> {
        drop(self.outbox);
        let acks = async {
            while !self.feed.is_done() {
                match inbound.message().await {
                    Ok(Some(said)) => {
                        if let Ok(ToAgent::Ack(up_to)) = ToAgent::try_from(said) {
                            self.feed.acked(up_to);
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

/// The next thing from the ring; never ready when nothing is fetched.
async fn fetched(source: &mut Source) -> Option<Fetched> {
    match source {
        Source::Ring(fetched) => fetched.recv().await,
        Source::Live(_) => std::future::pending().await,
    }
}

/// Ready when the agent stops. Keeps no guard of the channel, which must not be held across a wait.
async fn told_to_stop(stop: &mut watch::Receiver<Run>) {
    // An error means that nobody can say it any more, which says it too.
    let _ = stop.wait_for(|run| *run == Run::Stop).await;
}
