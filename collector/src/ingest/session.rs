//! The conversation with one agent, decided: what it said, what became of it → what to do. Pure: no clock, no I/O.
//!
//! Frames of a boot are numbered without a hole. This machine sees to it that what is appended to the last words is so
//! too: a batch that is there already is dropped, what is left out is appended as described holes, anything else ends the
//! session. Records are decoded before they are appended. An ack is only sent for what [`Session::stored`] was told.

use std::collections::BTreeSet;
use std::time::Duration;

use casefile_evidence::recording::delta::{DecodeError, Decoded, Decoder, Encoder};
use casefile_evidence::recording::segment::Last;
use casefile_evidence::recording::skim::{Skimmed, Skimmer};
use casefile_evidence::recording::{Header, Hole, MAX_RECORD};
use casefile_proto::connectivity::{Ability, ConnectivityAnswer, ConnectivityAsk};
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::ids::{BootId, FrameSeq, NodeName, RequestId};
use casefile_proto::sample::{Outcome, SourceIndex};
use casefile_proto::session::{
    Buffer, Collectable, CollectionAsk, CollectionDone, CollectionProgress, Ends, FrameBatch, FromAgent, Hello,
    MAX_WINDOW_BATCHES, PROTOCOL, RedactionKey, SessionToken, ToAgent, Welcome,
};
use casefile_proto::time::{BootTime, ClockOffset, Stamp, Window};

use super::clock::OffsetFilter;
use super::refusal::Refusal;
use crate::space::Taking;

/// Batches that an agent may have in flight. h2 ends a connection with more than some 150 small unread messages; this
/// stays far below, and at one frame a second it is more than is ever needed.
pub(crate) const WINDOW_BATCHES: u32 = 16;
const _: () = assert!(WINDOW_BATCHES <= MAX_WINDOW_BATCHES);

/// Bytes that one agent may have in flight: beyond this nothing of it is read until some of it is synced. An agent at one
/// frame a second has a few KiB there; one that floods does not fill the memory that all share.
const IN_FLIGHT: usize = 2 << 20;

/// An agent that says nothing for this long is not there any more, whatever its connection says: probes are answered
/// every few seconds.
const SILENCE: Duration = Duration::from_secs(60);

/// While nothing is read, probes only tell the agent that we are there, which gives us up after 90 s of nothing; their
/// answers wait unread, and h2 ends a connection with more than some 150 of them.
const PROBE_EVERY_UNREAD: Duration = Duration::from_secs(30);

/// Bytes before the body of a record, rounded up.
const RECORD_HEAD: usize = 16;

/// The first message must come within this.
const HELLO: Duration = Duration::from_secs(5);

/// What one session is made with.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// Whose certificate the connection showed: the node, whatever is said.
    pub node: NodeName,
    /// Names the session in uploads.
    pub token: SessionToken,
    /// How far back missed frames are wanted.
    pub catch_up: Duration,
    /// Time between two clock probes.
    pub probe_every: Duration,
    /// The key with which agents replace secrets.
    pub redaction_key: RedactionKey,
}

/// What is to be done.
#[derive(Debug)]
pub enum Action {
    /// Take the right to append to the last words of this node, and say what is there with [`Session::opened`].
    Open(NodeName),
    /// Say this to the agent.
    Send(ToAgent),
    /// Append these records, in order; when they are synced say so with [`Session::stored`].
    Append {
        /// Records of the recording format.
        records: Vec<Buffer>,
        /// The frames in them.
        frames: Vec<Last>,
        /// The last frame in them.
        up_to: FrameSeq,
    },
    /// A collection got further.
    Progress(CollectionProgress),
    /// A collection is done, as the agent says.
    Done(CollectionDone),
    /// How a test of connectivity went, as the agent says. Whoever asked knows whether it was asked.
    Tested(ConnectivityAnswer),
    /// End the session and say why.
    Close(Refusal),
}

/// What lists of nodes show of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The boot of the session.
    pub boot: BootId,
    /// The agent's version.
    pub agent_version: String,
    /// When the last frame came, on our clock; `None`: none came in this session.
    pub last_frame: Option<Stamp>,
    /// Sources whose last measurement was not complete, with its outcome.
    pub troubles: Vec<String>,
    /// Whether it tests connectivity.
    pub connectivity: Ability,
}

/// The collector's end of the conversation with one agent.
pub struct Session {
    config: SessionConfig,
    phase: Phase,
    clock: OffsetFilter,
    last_heard: Option<BootTime>,
    last_probe: Option<BootTime>,
    /// What was asked in this session and is not done.
    requests: BTreeSet<RequestId>,
    /// Whether evidence is taken.
    taking: Taking,
}

enum Phase {
    /// Nothing was said yet.
    Silent,
    /// Hello was said; the last words are being opened.
    Opening(Box<Speaker>),
    /// Welcome was said.
    Streaming(Box<Stream>),
    /// Nothing is taken any more.
    Over,
}

/// What was heard and is not counted yet.
#[derive(Debug, Default)]
pub struct Tally {
    /// Batches of frames that are new and in order.
    pub batches: u64,
    /// The frames in them.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Gaps that were declared, each with the number of frames that it stands for.
    pub gaps: Vec<(GapReason, u64)>,
}

/// Who is speaking.
struct Speaker {
    header: Header,
    header_record: Buffer,
    collectable: Vec<Collectable>,
    connectivity: Ability,
}

/// The frames of a session.
struct Stream {
    speaker: Speaker,
    /// The frame that is wanted next.
    next: FrameSeq,
    /// When the newest frame that is there was taken.
    last_at: Option<Stamp>,
    /// The last frame that is synced.
    stored: Option<FrameSeq>,
    /// Last frames of batches that were appended and are not synced, and their bytes.
    in_flight: Vec<(FrameSeq, usize)>,
    /// `None`: the next batch must begin with a keyframe.
    skimmer: Option<Skimmer>,
    /// Whether the header is already in what was appended in this session.
    announced: bool,
    received: Option<Stamp>,
    /// The last outcome of each source that was not complete.
    troubles: Vec<Option<&'static str>>,
    /// The pieces of a record that is larger than a message, so far.
    partial: Option<FrameBatch>,
    tally: Tally,
}

/// When the first and the last frame of a batch were taken.
#[derive(Clone, Copy)]
struct Times {
    first_at: Stamp,
    last_at: Stamp,
}

impl Session {
    /// A session in which nothing was said yet.
    pub fn new(config: SessionConfig, now: Stamp) -> Self {
        Self {
            config,
            phase: Phase::Silent,
            clock: OffsetFilter::default(),
            last_heard: Some(now.boot),
            last_probe: None,
            requests: BTreeSet::new(),
            taking: Taking::Yes,
        }
    }

    /// The agent said something.
    pub fn on(&mut self, message: FromAgent, now: Stamp) -> Vec<Action> {
        self.last_heard = Some(now.boot);
        let decided = match (&mut self.phase, message) {
            (Phase::Silent, FromAgent::Hello(hello)) => self.hello(hello),
            (Phase::Silent, _) => Err(Refusal::HelloFirst),
            (Phase::Opening(_) | Phase::Streaming(_), FromAgent::Hello(_)) => Err(Refusal::HelloTwice),
            (Phase::Opening(_), _) => Err(Refusal::BeforeWelcome),
            (Phase::Streaming(stream), FromAgent::Frames(batch)) => stream.batch(batch, now),
            (Phase::Streaming(_), FromAgent::Clock(answer)) => {
                self.clock.answer(answer, now);
                // The first few probes follow each other at once, so that an offset is known soon.
                Ok(if self.clock.is_full() { Vec::new() } else { vec![self.probe(now)] })
            }
            (Phase::Streaming(_), FromAgent::Progress(progress)) => {
                // One that was cancelled in the meantime is nobody's.
                let known = self.requests.contains(&progress.request);
                Ok(if known { vec![Action::Progress(progress)] } else { Vec::new() })
            }
            (Phase::Streaming(_), FromAgent::Done(done)) => {
                let known = self.requests.remove(&done.request);
                Ok(if known { vec![Action::Done(done)] } else { Vec::new() })
            }
            (Phase::Streaming(_), FromAgent::Connectivity(answer)) => Ok(vec![Action::Tested(answer)]),
            (Phase::Over, _) => Ok(Vec::new()),
        };
        decided.unwrap_or_else(|refusal| self.close(refusal))
    }

    /// What the last words of the node hold. The session stands from here on.
    pub fn opened(&mut self, last: Option<Last>, now: Stamp) -> Vec<Action> {
        let speaker = match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Opening(speaker) => speaker,
            other => {
                self.phase = other;
                return Vec::new();
            }
        };
        let last = last.filter(|last| last.boot == speaker.header.boot);
        let have = last.map(|last| last.seq);
        let welcome = Welcome {
            protocol: PROTOCOL,
            token: self.config.token,
            have,
            catch_up: self.config.catch_up,
            window_batches: WINDOW_BATCHES,
            redaction_key: Some(self.config.redaction_key.clone()),
        };
        let troubles = vec![None; speaker.header.schema.sources.len()];
        self.phase = Phase::Streaming(Box::new(Stream {
            speaker: *speaker,
            next: have.map_or(FrameSeq::FIRST, FrameSeq::next),
            last_at: last.map(|last| last.at),
            stored: have,
            in_flight: Vec::new(),
            skimmer: None,
            announced: false,
            received: None,
            troubles,
            partial: None,
            tally: Tally::default(),
        }));
        vec![Action::Send(ToAgent::Welcome(welcome)), self.probe(now)]
    }

    /// Everything up to this frame is on disk.
    pub fn stored(&mut self, up_to: FrameSeq) -> Vec<Action> {
        let Phase::Streaming(stream) = &mut self.phase else { return Vec::new() };
        stream.in_flight.retain(|(last, _)| *last > up_to);
        stream.stored = Some(up_to);
        vec![Action::Send(ToAgent::Ack(up_to))]
    }

    /// Time has passed: to be called every few seconds.
    pub fn tick(&mut self, now: Stamp) -> Vec<Action> {
        let silent = self.last_heard.map_or(Duration::ZERO, |heard| now.boot.since(heard));
        match &self.phase {
            Phase::Silent if silent > HELLO => self.close(Refusal::HelloFirst),
            // As long as nothing is read, silence says nothing of the agent. A connection that is gone ends by itself.
            Phase::Streaming(_) if silent > SILENCE && self.has_room() => self.close(Refusal::Silent),
            Phase::Streaming(_) if self.last_probe.is_none_or(|sent| now.boot.since(sent) >= self.probe_every()) => {
                vec![self.probe(now)]
            }
            _ => Vec::new(),
        }
    }

    /// A collection is wanted. Asking again for one that is under way does nothing.
    pub fn ask(&mut self, ask: CollectionAsk) -> Vec<Action> {
        match self.phase {
            Phase::Streaming(_) if self.requests.insert(ask.request) => vec![Action::Send(ToAgent::Collect(ask))],
            _ => Vec::new(),
        }
    }

    /// A collection is not wanted any more.
    pub fn cancel(&mut self, request: RequestId) -> Vec<Action> {
        if self.requests.remove(&request) { vec![Action::Send(ToAgent::Cancel(request))] } else { Vec::new() }
    }

    /// A test of connectivity is wanted. An agent that does not do it is not asked.
    pub fn test(&mut self, ask: ConnectivityAsk) -> Vec<Action> {
        match &self.phase {
            Phase::Streaming(stream) if stream.speaker.connectivity == Ability::On => {
                vec![Action::Send(ToAgent::TestConnectivity(ask))]
            }
            _ => Vec::new(),
        }
    }

    /// There is another key for secrets. An agent that has no welcome yet gets it there.
    pub fn redact_with(&mut self, key: RedactionKey) -> Vec<Action> {
        if self.config.redaction_key == key {
            return Vec::new();
        }
        self.config.redaction_key = key.clone();
        match self.phase {
            Phase::Streaming(_) => vec![Action::Send(ToAgent::Redact(key))],
            _ => Vec::new(),
        }
    }

    /// From now on evidence is taken, or it is not: then the session stands, and the agent waits.
    pub fn take(&mut self, taking: Taking, now: Stamp) {
        self.taking = taking;
        // Until now nothing was read, so it could not be heard.
        self.last_heard = self.last_heard.map(|_| now.boot);
    }

    /// Whether another batch may be taken: as long as not, nothing is read, and the agent waits.
    pub fn has_room(&self) -> bool {
        match &self.phase {
            Phase::Streaming(stream) => {
                let bytes: usize = stream.in_flight.iter().map(|(_, bytes)| bytes).sum();
                self.taking == Taking::Yes && stream.in_flight.len() < WINDOW_BATCHES as usize && bytes < IN_FLIGHT
            }
            Phase::Silent => true,
            Phase::Opening(_) | Phase::Over => false,
        }
    }

    /// Whether something was appended that is not synced yet.
    pub fn is_waiting(&self) -> bool {
        matches!(&self.phase, Phase::Streaming(stream) if !stream.in_flight.is_empty())
    }

    /// The boot that hello was of; before hello, none that there is.
    pub fn boot(&self) -> BootId {
        match &self.phase {
            Phase::Opening(speaker) => speaker.header.boot,
            Phase::Streaming(stream) => stream.speaker.header.boot,
            Phase::Silent | Phase::Over => BootId::from_bytes([0; 16]),
        }
    }

    /// What lists show; `None` before the session stands.
    pub fn facts(&self) -> Option<Facts> {
        let Phase::Streaming(stream) = &self.phase else { return None };
        let header = &stream.speaker.header;
        let troubles = header.schema.sources.iter().zip(&stream.troubles);
        Some(Facts {
            boot: header.boot,
            agent_version: header.agent_version.clone(),
            last_frame: stream.received,
            troubles: troubles.filter_map(|(source, word)| word.map(|w| format!("{}: {w}", source.name))).collect(),
            connectivity: stream.speaker.connectivity,
        })
    }

    /// What was heard since this was last asked.
    pub fn take_tally(&mut self) -> Tally {
        if let Phase::Streaming(stream) = &mut self.phase {
            std::mem::take(&mut stream.tally)
        } else {
            Tally::default()
        }
    }

    /// What the agent can collect besides the recording; empty before the session stands.
    pub fn collectable(&self) -> &[Collectable] {
        if let Phase::Streaming(stream) = &self.phase { &stream.speaker.collectable } else { &[] }
    }

    /// The node's clock against ours; `None`: not measured yet.
    pub fn offset(&self, now: BootTime) -> Option<ClockOffset> {
        self.clock.offset(now)
    }

    fn hello(&mut self, hello: Hello) -> Result<Vec<Action>, Refusal> {
        if hello.protocol != PROTOCOL {
            return Err(Refusal::Protocol { theirs: hello.protocol });
        }
        let header = match Decoder::new().next(&hello.recording_header).map_err(Refusal::Record)? {
            Some((Decoded::Header(header), len)) if len == hello.recording_header.len() => header,
            _ => return Err(Refusal::NoHeader),
        };
        if header.node != hello.node || header.boot != hello.boot {
            return Err(Refusal::OtherHeader);
        }
        if hello.node != self.config.node {
            return Err(Refusal::OtherNode { proven: self.config.node.clone(), claimed: hello.node });
        }
        let node = hello.node;
        let (collectable, connectivity) = (hello.collectable, hello.connectivity);
        let header_record = hello.recording_header;
        self.phase = Phase::Opening(Box::new(Speaker { header, header_record, collectable, connectivity }));
        Ok(vec![Action::Open(node)])
    }

    fn probe_every(&self) -> Duration {
        if self.has_room() { self.config.probe_every } else { self.config.probe_every.max(PROBE_EVERY_UNREAD) }
    }

    fn probe(&mut self, now: Stamp) -> Action {
        self.last_probe = Some(now.boot);
        Action::Send(ToAgent::Probe(self.clock.probe(now)))
    }

    fn close(&mut self, refusal: Refusal) -> Vec<Action> {
        self.phase = Phase::Over;
        vec![Action::Close(refusal)]
    }
}

impl Stream {
    fn batch(&mut self, batch: FrameBatch, now: Stamp) -> Result<Vec<Action>, Refusal> {
        let Some(batch) = self.joined(batch)? else { return Ok(Vec::new()) };
        if self.in_flight.len() >= WINDOW_BATCHES as usize {
            return Err(Refusal::Window);
        }
        if batch.last < self.next {
            // It is there already. What follows it cannot lean on it, because it is not appended again.
            self.skimmer = None;
            return Ok(self
                .stored
                .filter(|s| *s >= batch.last)
                .map(|s| Action::Send(ToAgent::Ack(s)))
                .into_iter()
                .collect());
        }
        if batch.first < self.next {
            return Err(Refusal::Overlap { wanted: self.next, got: batch.first });
        }
        if batch.first > self.next || !batch.skipped.is_empty() {
            self.skimmer = None;
        }
        let (frames, times) = self.decode(&batch)?;
        let mut records = Vec::new();
        if !self.announced {
            // Not needed again: it is not kept for as long as the session lives.
            records.push(std::mem::take(&mut self.speaker.header_record));
        }
        if let Some(holes) = self.holes(&batch, times.map(|t| t.first_at)) {
            records.push(holes);
        }
        self.tally.batches += 1;
        self.tally.frames += (batch.last.0 - batch.first.0).saturating_add(1);
        self.tally.bytes += batch.records.len() as u64;
        records.push(batch.records);
        self.announced = true;
        self.next = batch.last.next();
        self.last_at = times.map(|t| t.last_at).or(self.last_at);
        self.received = Some(now);
        self.in_flight.push((batch.last, records.iter().map(|r| r.len()).sum()));
        Ok(vec![Action::Append { records, frames, up_to: batch.last }])
    }

    /// Puts a record together that came in several batches; `None`: more of it follows.
    fn joined(&mut self, batch: FrameBatch) -> Result<Option<FrameBatch>, Refusal> {
        let whole = match self.partial.take() {
            None => batch,
            Some(before) => {
                if (before.first, before.last) != (batch.first, batch.last) || !batch.skipped.is_empty() {
                    return Err(Refusal::OtherFrame { wanted: before.first, got: batch.first });
                }
                if before.records.len() + batch.records.len() > MAX_RECORD + RECORD_HEAD {
                    return Err(Refusal::Record(DecodeError::Malformed("a record above 8 MiB")));
                }
                let mut records = Vec::from(before.records);
                records.extend_from_slice(&batch.records);
                FrameBatch { records: records.into(), ends: batch.ends, ..before }
            }
        };
        match whole.ends {
            Ends::Here => Ok(Some(whole)),
            Ends::Later => {
                self.partial = Some(whole);
                Ok(None)
            }
        }
    }

    /// Decodes the records of a batch: exactly the frames that it says, of this boot, nothing else.
    fn decode(&mut self, batch: &FrameBatch) -> Result<(Vec<Last>, Option<Times>), Refusal> {
        // A new one knows no frame before, so only a keyframe can come first.
        let mut skimmer = self.skimmer.take().unwrap_or_else(|| Skimmer::new(self.speaker.header.clone()));
        let (mut frames, mut times) = (Vec::new(), None::<Times>);
        let (mut rest, mut expected) = (&batch.records[..], batch.first);
        let boot = self.speaker.header.boot;
        while let Some((skimmed, taken)) = skimmer.next(rest).map_err(Refusal::Record)? {
            let (first, last) = match &skimmed {
                Skimmed::Frame { seq, .. } => (*seq, *seq),
                // Stands for frames that the format cannot hold.
                Skimmed::Hole(Hole { boot: of, seqs: Some((first, last)), .. }) if *of == boot => (*first, *last),
                Skimmed::Hole(Hole { seqs: Some((first, _)), .. }) => {
                    return Err(Refusal::OtherFrame { wanted: expected, got: *first });
                }
                Skimmed::Hole(_) | Skimmed::Other => return Err(Refusal::NoFrame),
            };
            if first != expected || last < first || last > batch.last {
                return Err(Refusal::OtherFrame { wanted: expected, got: first });
            }
            if let Skimmed::Frame { seq, at } = skimmed {
                frames.push(Last { boot, seq, at });
                self.note(skimmer.outcomes());
                times = Some(Times { first_at: times.map_or(at, |t| t.first_at), last_at: at });
            }
            expected = last.next();
            rest = &rest[taken..];
        }
        if expected != batch.last.next() {
            return Err(Refusal::OtherFrame { wanted: batch.last, got: expected });
        }
        self.skimmer = Some(skimmer);
        Ok((frames, times))
    }

    fn note(&mut self, outcomes: &[(SourceIndex, Outcome)]) {
        for (source, outcome) in outcomes {
            if let Some(trouble) = self.troubles.get_mut(usize::from(source.0))
                && !outcome.is_not_due()
            {
                let word = outcome.word();
                *trouble = (word != "complete").then_some(word);
            }
        }
    }

    /// What is left out before a batch, as records.
    fn holes(&mut self, batch: &FrameBatch, first_at: Option<Stamp>) -> Option<Buffer> {
        let missing = (batch.first > self.next).then(|| (self.next, FrameSeq(batch.first.0 - 1)));
        let mut gaps = batch.skipped.clone();
        if let (Some((from, to)), true) = (missing, gaps.is_empty()) {
            let detail = format!("the agent left out frames {from} to {to} without a word");
            gaps.push(Gap::new(GapReason::NotRecorded, detail));
        }
        if gaps.is_empty() {
            return None;
        }
        let interval = self.last_at.zip(first_at).and_then(|(last, first)| Window::new(last.wall, first.wall).ok());
        let mut encoder = Encoder::new(self.speaker.header.clone());
        let mut out = Vec::new();
        for (i, mut gap) in gaps.into_iter().enumerate() {
            gap.interval = gap.interval.or(interval);
            // The numbers are said once; further gaps are further reasons for the same hole.
            let seqs = missing.filter(|_| i == 0);
            let frames = seqs.map_or(0, |(from, to)| (to.0 - from.0).saturating_add(1));
            self.tally.gaps.push((gap.reason, frames));
            encoder.hole(&Hole { boot: self.speaker.header.boot, seqs, gap }, &mut out);
        }
        Some(out.into())
    }
}

#[cfg(test)]
mod tests;
