//! Recordings: frames at rest, in segments. The same records make the agent's ring, the live stream, the collector's
//! last words and the `recording/` of an archive. Described in `FORMAT.md`.

mod block;
mod bytes;
mod columns;
mod continuity;
mod cut;
pub mod delta;
mod disk;
mod encoder;
mod facts;
mod listing;
mod names;
pub mod newest;
mod pass;
pub mod reader;
mod retention;
mod scan;
pub mod segment;
pub mod skim;
mod tail;
mod tally;
mod tick;
pub mod wal;
mod walk;
mod whole;

use std::sync::Arc;
use std::time::Duration;

use casefile_proto::gap::Gap;
use casefile_proto::ids::{BootId, FrameSeq, NodeName};
use casefile_proto::sample::Schema;

pub use bytes::MAX_RECORD;

/// Ticks in a block: a keyframe begins each, and a closed block is rewritten as columns.
pub const BLOCK_TICKS: usize = 60;

/// What the header record of a stream or segment says: everything that explains the records after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The node.
    pub node: NodeName,
    /// The boot.
    pub boot: BootId,
    /// The version of the agent that recorded.
    pub agent_version: String,
    /// The sources and their metrics.
    pub schema: Arc<Schema>,
}

/// A described hole between frames: at rest and in what a reader yields. There is no third way to lose data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hole {
    /// The boot whose frames are missing; the boot of the frame after the hole when it spans a reboot.
    pub boot: BootId,
    /// The missing sequence numbers, inclusive, where they are known.
    pub seqs: Option<(FrameSeq, FrameSeq)>,
    /// Why, and over which interval of the node's wall clock.
    pub gap: Gap,
}

/// The time between two frames: the shortest cadence of all sources; a second where there is none.
pub(crate) fn tick_of(schema: &Schema) -> Duration {
    let every = schema.sources.iter().map(|s| s.every_nanos).filter(|every| *every > 0).min();
    Duration::from_nanos(every.unwrap_or(1_000_000_000))
}
