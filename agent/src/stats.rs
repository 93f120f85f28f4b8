//! What the recorder knows about itself, as counters that any thread may read: the `agent` source turns them into
//! readings, collection into notes. Nothing here decides anything, and no thread waits here for work of another.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::refusals::Refusals;
use crate::sandbox::standing::Standing;
use crate::sources::SourceSpec;

/// A counter, or a figure that goes up and down, that one thread writes and others read. Readers need each figure to be
/// right, not all of them to be of one instant.
#[derive(Debug, Default)]
pub struct Figure(AtomicU64);

impl Figure {
    /// What it is now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds to a counter.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Takes from a figure that goes up and down.
    pub fn take(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    /// Sets a figure that goes up and down.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }
}

/// One source's cost and outcomes since the agent started.
#[derive(Debug, Default)]
pub struct SourceStats {
    /// Measurements that ended, in time or late.
    pub measured: Figure,
    /// Wall nanoseconds that they took together.
    pub took_nanos: Figure,
    /// CPU nanoseconds that they took together.
    pub cpu_nanos: Figure,
    /// Readings given out.
    pub readings: Figure,
    /// Measurements that ended in an error or a panic.
    pub failed: Figure,
    /// Of these, panics.
    pub panicked: Figure,
    /// Ticks at which it had not answered by its deadline.
    pub timed_out: Figure,
    /// Series that it knows now.
    pub series: Figure,
}

/// The recorder about itself.
#[derive(Debug, Default)]
pub struct Stats {
    sources: Box<[(&'static str, SourceStats)]>,
    /// The sandbox that the agent is in; `None`: nobody said.
    sandbox: Option<Standing>,
    /// Whether an agent before this one recorded since this machine booted, as its ring says: what an earlier boot left
    /// was told by that one.
    pub boot_was_recorded: AtomicBool,
    /// What the kernel log said of firmware commands that were refused: from the `kernel` source to `hardware`.
    pub refusals: Refusals,
    /// Frames taken.
    pub frames: Figure,
    /// Ticks that were due and not taken: the machine was suspended or overloaded.
    pub ticks_missed: Figure,
    /// Wall nanoseconds by which the last tick began late.
    pub tick_late_nanos: Figure,
    /// Threads that a source blocks at the moment and that were given up.
    pub threads_abandoned: Figure,
    /// Name lookups of tests of connectivity that were given up and have not returned, each with a thread.
    pub lookups_blocked: Figure,
    /// Sources that are switched off at the moment because too many threads are blocked.
    pub sources_off: Figure,
    /// Sources that are measured less often at the moment because measuring costs too much.
    pub sources_slowed: Figure,
    /// Bytes written into the ring since the agent started, before blocks are rewritten as columns.
    pub ring_written_bytes: Figure,
    /// Bytes that the ring has on disk.
    pub ring_held_bytes: Figure,
    /// What the ring may hold at the moment: less than configured while its disk is nearly full.
    pub ring_limit_bytes: Figure,
    /// Frames that could not be kept in the ring, by reason.
    pub ring_frames_lost: RingLosses,
    /// Times that writing the ring failed.
    pub ring_errors: Figure,
    /// CPU nanoseconds of the thread that encodes and writes the ring.
    pub ring_cpu_nanos: Figure,
    /// CPU nanoseconds of the thread that takes the ticks.
    pub recorder_cpu_nanos: Figure,
    /// Whether a collector is configured.
    pub has_collector: AtomicBool,
    /// 1 while a session with the collector stands, else 0.
    pub session_stands: Figure,
    /// The newest frame of this boot that a collector has on its disk; 0: none said so to this run of the agent.
    pub acknowledged: Figure,
    /// The newest frame that there is; 0: none yet.
    pub newest: Figure,
    /// Bytes of evidence items that wait on the node's disk until the collector has them.
    pub spool_bytes: Figure,
    /// Frames that the live stream was too slow for; it fetches them from the ring.
    pub live_frames_dropped: Figure,
    /// Events that did not fit into their frame.
    pub events_dropped: Figure,
}

/// Frames that the ring does not have, by reason.
#[derive(Debug, Default)]
pub struct RingLosses {
    /// Writing failed: a full or read-only disk, an error of the device.
    pub failed: Figure,
    /// The disk did not keep up, or hangs.
    pub slow: Figure,
}

impl RingLosses {
    /// All of them.
    pub fn get(&self) -> u64 {
        self.failed.get() + self.slow.get()
    }
}

impl Stats {
    /// Frames that exist and that no collector has said it holds; `None`: none has said anything to this run.
    pub fn unacknowledged(&self) -> Option<u64> {
        let acknowledged = self.acknowledged.get();
        (acknowledged > 0).then(|| self.newest.get().saturating_sub(acknowledged))
    }

    /// All at zero, for these sources.
    pub fn new(sources: &[&'static SourceSpec]) -> Self {
        Self { sources: sources.iter().map(|s| (s.name, SourceStats::default())).collect(), ..Self::default() }
    }

    /// The same, of an agent that is in this sandbox.
    pub fn in_sandbox(self, sandbox: Option<Standing>) -> Self {
        Self { sandbox, ..self }
    }

    /// The sandbox that the agent is in; `None`: nobody said.
    pub fn sandbox(&self) -> Option<&Standing> {
        self.sandbox.as_ref()
    }

    /// Each source by name, in the order of the schema.
    pub fn sources(&self) -> impl ExactSizeIterator<Item = (&'static str, &SourceStats)> {
        self.sources.iter().map(|(name, stats)| (*name, stats))
    }

    pub(crate) fn source(&self, index: usize) -> Option<&SourceStats> {
        self.sources.get(index).map(|(_, stats)| stats)
    }
}
