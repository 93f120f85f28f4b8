//! Sources: each reads one subject of the machine at its cadence. One file each, listed in [`ALL`].
//!
//! How to add one: write `sources/<name>.rs` with a `SPEC`, a pure `parse`, and a `measure` that opens files below the
//! [`Host`]; add `&<name>::SPEC` to [`ALL`]. `tests/sources.rs` then runs it over every fixture host by itself.

pub mod agent;
pub mod cgroup;
pub mod clock;
pub mod cpu;
pub mod disk;
pub mod filesystem;
pub mod gpu;
pub mod hardware;
pub mod inventory;
pub(crate) mod kept;
pub mod kernel;
pub mod load;
mod mdstat;
pub mod measurement;
pub mod memory;
mod memory_metrics;
pub mod network;
pub mod pressure;
pub mod process;
pub(crate) mod spec;

use std::time::Duration;

use casefile_proto::sample::MetricSpec;

pub use measurement::Measurement;

use crate::host::{Host, HostError};

/// What a source is: static, documented, and all that is known of it before it is opened.
#[derive(Debug)]
pub struct SourceSpec {
    /// `cpu`, `memory`, ….
    pub name: &'static str,
    /// What it reads and what it is for, one sentence.
    pub about: &'static str,
    /// Time between two measurements: whole seconds.
    pub every: Duration,
    /// After this long a measurement counts as timed out.
    pub deadline: Duration,
    /// The metrics that it may emit.
    pub metrics: &'static [MetricSpec],
    /// Opens what it reads.
    pub open: fn(&Host) -> Result<Opened, SourceError>,
}

/// What opening found.
pub enum Opened {
    /// There is something to measure.
    Ready(Box<dyn Source>),
    /// This machine has no such thing.
    Absent {
        /// What was looked for.
        why: String,
    },
}

/// Why a source failed.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Reading the host failed.
    #[error(transparent)]
    Host(#[from] HostError),
    /// What was read did not parse: the file and the offending line (cut at 200 bytes).
    #[error("{file}: cannot parse {line:?}: {why}")]
    Parse {
        /// Below the root.
        file: String,
        /// The line, lossy.
        line: String,
        /// What was expected.
        why: &'static str,
    },
    /// What is asked did not answer: it hangs, and whoever asked it goes on.
    #[error("{what} has not returned for {} s", after.as_secs())]
    Stalled {
        /// What was called.
        what: String,
        /// Since when.
        after: Duration,
    },
    /// It turned out that this machine has no such thing, or has it no more.
    #[error("{why}")]
    Absent {
        /// What was looked for.
        why: String,
    },
    /// What is asked refuses or failed, in its own words.
    #[error("{why}")]
    Refused {
        /// The words.
        why: String,
    },
    /// A system call failed.
    #[error("{call}")]
    Call {
        /// Which, such as `adjtimex`.
        call: &'static str,
        /// What it said.
        #[source]
        source: std::io::Error,
    },
}

/// A source that has been opened: measured on a thread of its own, blocking is its right.
pub trait Source: Send {
    /// Reads once and pushes readings and gaps. Readings made before an error survive it.
    fn measure(&mut self, out: &mut Measurement) -> Result<(), SourceError>;
}

/// Every source, in the order in which they appear in frames and lists.
pub const ALL: &[&SourceSpec] = &[
    &cpu::SPEC,
    &load::SPEC,
    &memory::SPEC,
    &pressure::SPEC,
    &disk::SPEC,
    &network::SPEC,
    &filesystem::SPEC,
    &cgroup::SPEC,
    &process::SPEC,
    &gpu::SPEC,
    &clock::SPEC,
    &hardware::SPEC,
    &kernel::SPEC,
    &inventory::SPEC,
    &agent::SPEC,
];
