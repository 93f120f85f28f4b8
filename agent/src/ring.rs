//! The ring on the node's disk: frames are encoded on the recorder's thread, in order and without exception, and written
//! by a thread of its own, so that neither a full nor a hanging disk stops the recorder or the live stream.
//!
//! What cannot be written is counted, and declared as a hole as soon as something can be written again. How records
//! look and what is forgotten when is `casefile-evidence`'s business.

pub(crate) mod disk;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use casefile_evidence::recording::delta::Encoder;
use casefile_evidence::recording::segment::StoreError;
use casefile_evidence::recording::{Header, Hole};
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::ids::FrameSeq;
use casefile_proto::sample::Frame;
use casefile_proto::time::{WallTime, Window};
use casefile_proto::units::Bytes;

use crate::runner::lane::chain;
use crate::runner::pool::thread_cpu_nanos;
use crate::stats::Stats;

/// Frames that may wait for a slow disk; when there are more they are lost, counted and declared.
const MAX_QUEUED: usize = 60;

/// The most bytes that may wait for a slow disk.
const MAX_QUEUED_BYTES: usize = 2 << 20;

/// How long the recorder waits for a frame to be written before the live stream gets it: in all but the worst hours
/// the ring has every frame before the collector does, so that no number is used twice after a crash.
const PATIENCE: Duration = Duration::from_millis(100);

/// Frames between two syncs of the disk. A crash of the agent loses nothing that was written; a crash of the machine
/// loses at most this many, and those the collector's last words have.
const SYNC_EVERY: u32 = 10;

/// Time before a failed ring is tried again; it doubles up to the most.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// How long an orderly stop waits for the disk.
const CLOSE_PATIENCE: Duration = Duration::from_secs(3);

/// The encoder is called on the writer's stack nowhere; the store keeps its buffers on the heap.
const STACK: usize = 512 << 10;

/// Where records go: [`disk::OnDisk`]; in tests, one whose disk fails.
pub(crate) trait Keep: Send {
    fn append(&mut self, records: &[u8]) -> Result<(), StoreError>;
    fn sync(&mut self) -> Result<(), StoreError>;
    fn held(&self) -> Bytes;
}

/// Opens it (again).
pub(crate) type Open = Box<dyn FnMut() -> Result<Box<dyn Keep>, StoreError> + Send>;

/// The recorder's end of the ring.
pub(crate) struct Ring {
    encoder: Encoder,
    shared: Arc<Shared>,
    stats: Arc<Stats>,
    every: Duration,
    last: Option<FrameSeq>,
    /// What is not in the ring and not declared yet.
    lost: Option<Lost>,
    /// The next records must explain themselves: nothing was written yet, or something was lost.
    broken: bool,
    failures: u32,
    retry_at: Option<Instant>,
}

struct Shared {
    state: Mutex<State>,
    for_writer: Condvar,
    for_recorder: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Entry>,
    queued_bytes: usize,
    written: Option<FrameSeq>,
    failed: Option<Lost>,
    stop: bool,
    stopped: bool,
}

/// Records of one frame on their way to the disk.
struct Entry {
    bytes: Vec<u8>,
    /// Whether they begin with a header and a keyframe.
    fresh: bool,
    /// What is lost when they are.
    stake: Lost,
    urgent: bool,
}

/// A range of frames that the ring does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Lost {
    first: FrameSeq,
    last: FrameSeq,
    from: WallTime,
    until: WallTime,
    frames: u64,
    /// Those of them that the shared figures know of.
    counted: u64,
    why: String,
}

/// Why frames are lost, as far as it is counted.
#[derive(Clone, Copy)]
enum Why {
    /// Writing failed.
    Failed,
    /// The disk does not keep up.
    Slow,
}

impl Lost {
    /// Both, the earlier one's reason: it is what began it.
    fn and(mut self, later: &Self) -> Self {
        self.last = self.last.max(later.last);
        self.until = later.until;
        self.frames += later.frames;
        self.counted += later.counted;
        if self.why.is_empty() {
            self.why.clone_from(&later.why);
        }
        self
    }

    fn gap(&self) -> Gap {
        let gap = Gap::new(GapReason::NotRecorded, self.why.clone());
        let gap = if self.frames > 0 { gap.counting(self.frames) } else { gap };
        // A wall clock that was set back meanwhile leaves no interval to name; the numbers are exact all the same.
        Window::new(self.from, self.until).map_or(gap.clone(), |window| gap.over(window))
    }
}

impl Ring {
    /// Starts the writer. `kept` is the store that is open already; `None`: it is tried again soon. `last` is the newest
    /// frame of this boot that is known of.
    pub(crate) fn start(
        header: &Header,
        kept: Option<Box<dyn Keep>>,
        open: Open,
        last: Option<FrameSeq>,
        every: Duration,
        stats: &Arc<Stats>,
    ) -> std::io::Result<Self> {
        let state = Mutex::new(State::default());
        let shared = Arc::new(Shared { state, for_writer: Condvar::new(), for_recorder: Condvar::new() });
        let writer = Writer { shared: Arc::clone(&shared), kept, open, stats: Arc::clone(stats), unsynced: 0 };
        std::thread::Builder::new().name("ring".to_owned()).stack_size(STACK).spawn(move || writer.run())?;
        Ok(Self {
            encoder: Encoder::new(header.clone()),
            shared,
            stats: Arc::clone(stats),
            every,
            last,
            lost: None,
            broken: true,
            failures: 0,
            retry_at: None,
        })
    }

    /// Takes the next frame and waits a little for it to be written. Every frame of the run must come here, in order.
    pub(crate) fn append(&mut self, frame: &Frame, now: Instant) {
        self.learn_of_failure(now);
        let mut stake = self.stake(frame);
        let full = {
            let state = self.shared.state();
            state.queue.len() >= MAX_QUEUED || state.queued_bytes >= MAX_QUEUED_BYTES
        };
        if full && !self.broken {
            tracing::error!(seq = frame.seq.0, "the disk does not keep up: frames are lost to the ring");
            self.broken = true;
            stake.why = "the disk did not answer".to_owned();
        }
        let failed = self.retry_at.is_some_and(|at| now < at);
        if full || failed {
            // The encoder must see it all the same: it defines series that later frames use.
            let mut unused = Vec::new();
            self.encoder.frame(frame, &mut unused);
            self.lose(&stake, if failed { Why::Failed } else { Why::Slow });
            return;
        }
        let mut bytes = Vec::new();
        if self.broken {
            self.encoder.restart();
            bytes.extend_from_slice(&self.encoder.header());
        }
        if let Some(lost) = &self.lost {
            let seqs = Some((lost.first, lost.last));
            self.encoder.hole(&Hole { boot: frame.boot, seqs, gap: lost.gap() }, &mut bytes);
        }
        self.encoder.frame(frame, &mut bytes);
        let stake = self.lost.take().map_or(stake.clone(), |lost| lost.and(&stake));
        let entry = Entry { bytes, fresh: self.broken, stake, urgent: !frame.events.is_empty() };
        self.broken = false;
        self.shared.put(entry, frame.seq);
        self.learn_of_failure(now);
    }

    /// What would be lost with this frame; numbers that were left out before it are declared as such.
    fn stake(&mut self, frame: &Frame) -> Lost {
        let until = frame.at.wall.after(self.every);
        let expected = self.last.map(FrameSeq::next);
        if let Some(expected) = expected.filter(|e| *e < frame.seq) {
            let why = "these numbers were left out, because frames that others hold have them".to_owned();
            let left_out = FrameSeq(frame.seq.0 - 1);
            // An instant: nothing happened in time, only the numbers jump.
            let at = frame.at.wall;
            let none = Lost { first: expected, last: left_out, from: at, until: at, frames: 0, counted: 0, why };
            self.lose(&none, Why::Failed);
        }
        self.last = Some(frame.seq);
        Lost {
            first: frame.seq,
            last: frame.seq,
            from: frame.at.wall,
            until,
            frames: 1,
            counted: 0,
            why: String::new(),
        }
    }

    fn lose(&mut self, more: &Lost, why: Why) {
        let mut lost = self.lost.take().map_or_else(|| more.clone(), |lost| lost.and(more));
        let losses = &self.stats.ring_frames_lost;
        let of = match why {
            Why::Failed => &losses.failed,
            Why::Slow => &losses.slow,
        };
        of.add(lost.frames - lost.counted);
        lost.counted = lost.frames;
        self.lost = Some(lost);
    }

    fn learn_of_failure(&mut self, now: Instant) {
        let (failed, written) = {
            let mut state = self.shared.state();
            (state.failed.take(), state.written)
        };
        if let Some(failed) = failed {
            if self.failures == 0 {
                tracing::error!(
                    why = failed.why.as_str(),
                    "the ring cannot be written: frames go to the live stream only"
                );
            }
            // It came before whatever was lost since.
            let later = self.lost.take();
            self.lose(&later.map_or(failed.clone(), |later| failed.and(&later)), Why::Failed);
            let wait = RETRY.saturating_mul(1 << self.failures.min(8)).min(RETRY_MAX);
            self.retry_at = Some(now + wait);
            self.failures = self.failures.saturating_add(1);
            self.broken = true;
        } else if self.failures > 0 && written == self.last && !self.broken {
            tracing::info!("the ring is written again");
            self.failures = 0;
            self.retry_at = None;
        }
    }

    /// Writes and syncs what is queued, within a few seconds. What is not written by then is told.
    pub(crate) fn close(self) {
        let mut state = self.shared.state();
        state.stop = true;
        self.shared.for_writer.notify_one();
        let (state, _) = self
            .shared
            .for_recorder
            .wait_timeout_while(state, CLOSE_PATIENCE, |s| !s.stopped)
            .unwrap_or_else(PoisonError::into_inner);
        if !state.stopped {
            tracing::error!(
                frames = state.queue.len(),
                "the disk does not answer: the last frames are not in the ring"
            );
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that panics runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, entry: Entry, seq: FrameSeq) {
        let mut state = self.state();
        state.queued_bytes += entry.bytes.len();
        state.queue.push_back(entry);
        self.for_writer.notify_one();
        if state.queue.len() > 1 {
            // The disk is behind already; this frame cannot wait for all of them.
            return;
        }
        let pending = |s: &mut State| s.written < Some(seq) && s.failed.is_none();
        drop(self.for_recorder.wait_timeout_while(state, PATIENCE, pending).unwrap_or_else(PoisonError::into_inner));
    }
}

struct Writer {
    shared: Arc<Shared>,
    kept: Option<Box<dyn Keep>>,
    open: Open,
    stats: Arc<Stats>,
    unsynced: u32,
}

impl Writer {
    fn run(mut self) {
        while let Some(entry) = self.next() {
            // A bug in what writes must not end the writing for good: it costs what it was given.
            let written =
                catch_unwind(AssertUnwindSafe(|| self.write(&entry))).unwrap_or_else(|_| Err("a bug".to_owned()));
            let mut state = self.shared.state();
            match written {
                Ok(()) => state.written = Some(entry.stake.last),
                Err(why) => {
                    let why = format!("the ring could not be written: {why}");
                    self.kept = None;
                    self.stats.ring_errors.add(1);
                    // Everything behind it builds on it.
                    let mut lost = Lost { why, ..entry.stake };
                    for entry in state.queue.drain(..) {
                        lost = lost.and(&entry.stake);
                    }
                    state.queued_bytes = 0;
                    state.failed = Some(match state.failed.take() {
                        Some(before) => before.and(&lost),
                        None => lost,
                    });
                }
            }
            self.shared.for_recorder.notify_one();
            drop(state);
            self.sync_if_due(entry.urgent);
            self.stats.ring_cpu_nanos.set(thread_cpu_nanos());
        }
        self.sync();
        // Who is told that this has stopped may open the ring at once, so its lock is given up first.
        self.kept = None;
        self.shared.state().stopped = true;
        self.shared.for_recorder.notify_one();
    }

    /// Blocks for the next entry; `None` when the ring is closed and nothing is queued.
    fn next(&self) -> Option<Entry> {
        let idle = |s: &mut State| s.queue.is_empty() && !s.stop;
        let mut state =
            self.shared.for_writer.wait_while(self.shared.state(), idle).unwrap_or_else(PoisonError::into_inner);
        let entry = state.queue.pop_front()?;
        state.queued_bytes -= entry.bytes.len();
        Some(entry)
    }

    fn write(&mut self, entry: &Entry) -> Result<(), String> {
        if self.kept.is_none() && entry.fresh {
            self.kept = Some((self.open)().map_err(|e| chain(&e))?);
        }
        let Some(kept) = &mut self.kept else { return Err("something before it was not written".to_owned()) };
        kept.append(&entry.bytes).map_err(|e| chain(&e))?;
        self.unsynced += 1;
        self.stats.ring_written_bytes.add(entry.bytes.len() as u64);
        self.stats.ring_held_bytes.set(kept.held().0);
        Ok(())
    }

    /// A frame with events goes to the disk at once: what happens next may be the end of the machine.
    fn sync_if_due(&mut self, urgent: bool) {
        if self.unsynced >= SYNC_EVERY || (urgent && self.unsynced > 0) {
            self.sync();
        }
    }

    fn sync(&mut self) {
        self.unsynced = 0;
        if let Some(Err(error)) = self.kept.as_mut().map(|kept| kept.sync()) {
            // After a failed sync nobody knows what is on the disk: the store is opened anew, and reads what is there.
            tracing::error!(error = chain(&error), "the ring cannot be synced: the last frames may not be on the disk");
            self.stats.ring_errors.add(1);
            self.kept = None;
        }
    }
}

#[cfg(test)]
mod tests;
