//! Coverage: for every node × source what was asked, what is there, what is missing and why, and what it cost.
//!
//! The types only; who compares expected with received is the collector (or the agent, when it works alone).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cluster::ClusterCoverage;
use crate::gap::Gap;
use crate::ids::NodeName;
use crate::scope::Scope;
use crate::time::{ClockOffset, WallTime, Window};

/// Where the evidence of a node comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// The agent answered and said that it was done.
    Answered,
    /// The agent began to answer, and the deadline or a lost connection cut it short.
    Trimmed,
    /// The agent did not answer; what is here is what it had streamed before.
    LastWords,
    /// Nothing at all is here.
    Silent,
}

impl NodeState {
    /// Every state; the position plus one is its number on the wire.
    pub const ALL: [Self; 4] = [Self::Answered, Self::Trimmed, Self::LastWords, Self::Silent];
}

/// What kind of source a row of the coverage is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// A source of readings, recorded at every tick.
    Metrics,
    /// A log source.
    Logs,
    /// State and inventory at collection time.
    State,
}

impl SourceKind {
    /// Every kind; the position plus one is its number on the wire.
    pub const ALL: [Self; 3] = [Self::Metrics, Self::Logs, Self::State];
}

/// How many ticks of the window ended how, for a source of readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct OutcomeCounts {
    /// Ticks at which everything was read.
    pub complete: u64,
    /// Ticks with something missing.
    pub partial: u64,
    /// Ticks at which this machine had no such thing.
    pub absent: u64,
    /// Ticks with nothing usable.
    pub failed: u64,
    /// Ticks whose deadline passed.
    pub timed_out: u64,
    /// Ticks at which the source was switched off. Ticks between two due ones are not counted anywhere.
    pub skipped: u64,
}

impl OutcomeCounts {
    /// All of them.
    pub const fn total(&self) -> u64 {
        self.complete + self.partial + self.absent + self.failed + self.timed_out + self.skipped
    }
}

/// What collecting cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Nanoseconds of wall time on the node.
    pub took_nanos: u64,
    /// Bytes of evidence, before compression.
    pub bytes: u64,
}

/// One row: one source of one node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SourceCoverage {
    /// The name of the source or log source.
    pub source: String,
    /// What kind it is.
    pub kind: SourceKind,
    /// What was asked, on the node's clock. For [`SourceKind::State`] the window is that of the incident, and no
    /// interval is covered: it shows the moment of collection.
    pub asked: Window,
    /// What was really read, oldest first, not overlapping.
    pub covered: Vec<Window>,
    /// How the ticks ended; all zero for what has no ticks.
    pub outcomes: OutcomeCounts,
    /// Records found: readings, rows, and the records of all items together (the journal has two of an entry: the line
    /// of its unit, and the whole entry).
    pub records: u64,
    /// Evidence items of this source in the archive.
    pub items: u64,
    /// What is missing, and why.
    pub gaps: Vec<Gap>,
    /// What it cost the node.
    pub cost: Cost,
    /// What was masked on the node; `None`: it holds no free text, nothing of it was read, or the node did not get to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redaction: Option<Redaction>,
}

/// The secrets that were replaced with tokens before anything was stored or sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Redaction {
    /// The key of the tokens, 8 hexadecimal digits: tokens can be compared only where this is the same.
    pub key_id: String,
    /// How many by rule, in order of the rules' ids; empty: nothing was found.
    pub rules: BTreeMap<String, u64>,
}

/// All rows of one node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NodeCoverage {
    /// The node.
    pub node: NodeName,
    /// Where its evidence comes from.
    pub state: NodeState,
    /// Its clock against the collector's; `None` when it was never measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockOffset>,
    /// One row for every source that the agent has, and one for every log source and kind of state that was asked.
    pub sources: Vec<SourceCoverage>,
    /// What is missing of the node as a whole.
    pub gaps: Vec<Gap>,
    /// What it brought when it had come back after an earlier archive; `None`: nothing, or there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amended: Option<Amendment>,
}

/// What a node brought that came back after its incident had been sealed without it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Amendment {
    /// The archive in which it is for the first time.
    pub revision: u32,
    /// When that was sealed, on the collector's clock.
    pub sealed_at: WallTime,
    /// Gaps of the archive before that are none any more, or are told otherwise now.
    pub closed: Vec<ClosedGap>,
}

/// A gap that an amendment closed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClosedGap {
    /// The source; `None`: of the node as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The gap as it was told.
    pub gap: Gap,
}

/// What an archive says of its own completeness: `data/coverage.json`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Coverage {
    /// The window that was asked, on the collector's clock (the node's own when an agent worked alone).
    pub window: Window,
    /// One entry for every node that was asked, in order of name.
    pub nodes: Vec<NodeCoverage>,
    /// What was asked of each; what was not asked is not missing.
    #[serde(default, skip_serializing_if = "Scope::is_everything")]
    pub scope: Scope,
    /// What there is of the cluster itself; `None`: the collector belongs to none, or an agent worked alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterCoverage>,
}

impl Coverage {
    /// Whether nothing is missing anywhere. [`crate::gap::GapReason::SourceAbsent`] is no gap in this sense: the
    /// machine has no such thing.
    pub fn is_whole(&self) -> bool {
        use crate::gap::GapReason::SourceAbsent;
        let cluster = self.cluster.as_ref().is_none_or(ClusterCoverage::is_whole);
        let mut nodes = self.nodes.iter();
        cluster
            && nodes
                .all(|n| n.gaps.iter().chain(n.sources.iter().flat_map(|s| &s.gaps)).all(|g| g.reason == SourceAbsent))
    }
}
