//! The recorder: at each tick it has the sources measured, puts their samples together to a frame, and gives it to the
//! ring and then to the live stream. A tick that was missed is told, never made up.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use casefile_evidence::recording::Header;
use casefile_proto::event::{Event, EventKind};
use casefile_proto::ids::FrameSeq;
use casefile_proto::sample::{Frame, Schema, SourceDef};
use casefile_proto::time::Stamp;

use crate::clock::{Clock, Steps, Tick, Ticker};
use crate::redaction::{self, Redaction};
use crate::ring::Ring;
use crate::runner::pool::thread_cpu_nanos;
use crate::runner::{Runner, Ticked, lane};
use crate::sources::SourceSpec;
use crate::stats::Stats;
use crate::uplink::live::Live;

/// Events of one frame; the rest are counted in a last one. A kernel that says more than this in a second is repeating
/// itself, and its log is collected from the log.
const MAX_EVENTS: usize = 2048;

/// Of the recorder's thread: it encodes frames, whose vectors are on the heap.
pub(crate) const STACK: usize = 512 << 10;

/// Asks a thread to stop.
#[derive(Default)]
pub(crate) struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    pub(crate) fn stop(&self) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Waits, and says whether it is time to stop.
    fn wait(&self, timeout: Duration) -> bool {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let (stopped, _) =
            self.changed.wait_timeout_while(stopped, timeout, |s| !*s).unwrap_or_else(PoisonError::into_inner);
        *stopped
    }
}

/// What these sources may say, as it travels and rests, and how often: a second of their cadence is one tick.
pub(crate) fn schema(specs: &[&'static SourceSpec], every: Duration) -> Schema {
    let nanos = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
    let source = |spec: &&'static SourceSpec| SourceDef {
        name: spec.name.to_owned(),
        about: spec.about.to_owned(),
        every_nanos: nanos(every).saturating_mul(spec.every.as_secs().max(1)),
        deadline_nanos: nanos(spec.deadline),
        metrics: spec.metrics.iter().map(Into::into).collect(),
    };
    Schema { sources: specs.iter().map(source).collect() }
}

/// Takes the ticks of one run.
pub(crate) struct Recorder {
    pub(crate) header: Header,
    pub(crate) runner: Runner,
    pub(crate) ring: Ring,
    pub(crate) live: Live,
    pub(crate) clock: Clock,
    pub(crate) every: Duration,
    /// The number of the next frame.
    pub(crate) next: FrameSeq,
    pub(crate) stats: Arc<Stats>,
    /// What masks secrets, before the ring gets the frame.
    pub(crate) redaction: Arc<Redaction>,
}

impl Recorder {
    /// Until it is stopped; then the ring is closed.
    pub(crate) fn run(mut self, stop: &Stop) {
        let mut ticker = Ticker::new(self.every);
        let mut steps = Steps::default();
        let mut turn = 0;
        while !stop.wait(ticker.wait((self.clock)())) {
            let now = (self.clock)();
            let Some(tick) = ticker.take(now) else { continue };
            let stepped = steps.look(now);
            turn += tick.missed;
            let frame = self.frame(turn, tick, stepped);
            self.keep(frame);
            turn += 1;
        }
        self.ring.close();
    }

    /// Measures, and puts the frame together.
    fn frame(&mut self, turn: u64, tick: Tick, stepped: Option<i64>) -> Frame {
        let Tick { at, missed, late } = tick;
        let Ticked { mut samples, mut events, news } = self.runner.tick(turn);
        redaction::mask_frame(&self.redaction, &mut samples, &mut events);
        if turn == 0 {
            let found = samples.iter().zip(&self.header.schema.sources);
            let found: Vec<_> = found.map(|(s, def)| format!("{} {}", def.name, lane::told(&s.outcome))).collect();
            let text = format!("casefile-agent {} started: {}", self.header.agent_version, found.join(", "));
            events.push(event(at, EventKind::AgentStarted, text));
        }
        for (index, text) in news {
            let source = self.header.schema.sources.get(index).map(|def| def.name.clone()).unwrap_or_default();
            events.push(event(at, EventKind::Source { source }, text));
        }
        if let Some(by_nanos) = stepped {
            let text = format!("the wall clock was set by {by_nanos} ns");
            events.push(event(at, EventKind::ClockStepped { by_nanos }, text));
        }
        if missed > 0 {
            self.stats.ticks_missed.add(missed);
            let text = format!("{missed} ticks before this one were not taken: the machine slept or had no time");
            events.push(event(at, EventKind::Lost { count: Some(missed) }, text));
        }
        let left_out = limit(&mut events, at);
        self.stats.events_dropped.add(left_out);
        self.stats.tick_late_nanos.set(u64::try_from(late.as_nanos()).unwrap_or(u64::MAX));
        self.next = self.next.max(self.live.floor().next());
        let seq = self.next;
        self.next = seq.next();
        Frame { boot: self.header.boot, seq, at, samples, events }
    }

    /// First the ring, then the live stream: what the collector holds, a restarted agent knows of.
    fn keep(&mut self, frame: Frame) {
        self.ring.append(&frame, Instant::now());
        self.live.push(&frame);
        self.stats.live_frames_dropped.set(self.live.dropped());
        self.stats.frames.add(1);
        self.stats.newest.set(frame.seq.0);
        self.runner.recycle(frame.samples);
        self.stats.recorder_cpu_nanos.set(thread_cpu_nanos());
    }
}

fn event(at: Stamp, kind: EventKind, mut text: String) -> Event {
    text.truncate(text.floor_char_boundary(Event::MAX_TEXT));
    Event { at, kind, text }
}

/// At most [`MAX_EVENTS`]; says in a last one how many there were more.
fn limit(events: &mut Vec<Event>, at: Stamp) -> u64 {
    let more = events.len().saturating_sub(MAX_EVENTS) as u64;
    if more > 0 {
        // Ours come last and are few; they stay.
        let ours = events.split_off(events.len().saturating_sub(8));
        events.truncate(MAX_EVENTS - ours.len());
        events.extend(ours);
        events.push(event(at, EventKind::Lost { count: Some(more) }, format!("{more} more events at this tick")));
    }
    more
}
