//! Connectivity: a target, the steps by which a node reaches it or does not, what came of it on every node, and whose fault
//! it is.
//!
//! [`target`] is what may be tested, [`steps`] what is found. How a verdict is reached is no matter of the contract: that is
//! derived from the results, in `casefile-review`, and can be derived again.

pub mod steps;
pub mod target;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::NodeName;
use crate::time::WallTime;
use steps::{Step, Steps};
use target::Target;

/// The longest that one node may take for a test.
pub const MAX_DEADLINE: Duration = Duration::from_secs(10);

/// How long one node may take when nothing is said.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(5);

/// The most bytes of a detail, and of a name in a certificate.
pub const MAX_DETAIL: usize = 256;

/// The most bytes of the name of a target in the configuration.
pub const MAX_TARGET_NAME: usize = 63;

/// The most targets of a collector's configuration.
pub const MAX_TARGETS: usize = 256;

/// The most remarks of a verdict.
pub const MAX_REMARKS: usize = 16;

/// Names one test in its answers: unique while a collector runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TestId(pub u64);

/// Whether an agent tests connectivity when it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ability {
    /// It is of a version that does not know how.
    Unknown,
    /// Its configuration does not allow it.
    Off,
    /// It does.
    On,
}

/// From collector to agent: test this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectivityAsk {
    /// Names the test.
    pub test: TestId,
    /// What.
    pub target: Target,
    /// How long it may take; more than nothing, at most [`MAX_DEADLINE`].
    pub deadline: Duration,
}

/// From agent to collector: how it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectivityAnswer {
    /// The test's.
    pub test: TestId,
    /// How it went.
    pub outcome: NodeOutcome,
}

/// What came of a test on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeOutcome {
    /// It was tested.
    Tested(Box<Steps>),
    /// It was not, which says nothing about the node or the target.
    Untested(Untested),
}

/// Why a node was not tested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untested {
    /// Why.
    pub reason: UntestedReason,
    /// More about it; at most [`MAX_DETAIL`] bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// Why there is no result of a node. Closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UntestedReason {
    /// Its agent has no session.
    NotConnected,
    /// Its agent is of a version that cannot.
    TooOld,
    /// Its agent's configuration does not allow it.
    SwitchedOff,
    /// Its agent has as much to test as it takes on.
    Busy,
    /// It did not answer within the deadline.
    NoAnswer,
    /// Its session ended meanwhile.
    Disconnected,
}

impl UntestedReason {
    /// Every reason, in the order of its numbers on the wire. To add one: a variant, a line here and one in
    /// [`UntestedReason::words`], and a value in `connectivity.proto`.
    pub const ALL: [Self; 6] =
        [Self::NotConnected, Self::TooOld, Self::SwitchedOff, Self::Busy, Self::NoAnswer, Self::Disconnected];

    /// For a person.
    pub const fn words(self) -> &'static str {
        match self {
            Self::NotConnected => "its agent is not connected",
            Self::TooOld => "its agent is of a version that cannot test",
            Self::SwitchedOff => "its agent's configuration has no test_connectivity = true",
            Self::Busy => "its agent has enough to test already",
            Self::NoAnswer => "its agent gave no answer in time",
            Self::Disconnected => "its agent's session ended meanwhile",
        }
    }
}

/// A target that a collector's configuration lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedTarget {
    /// Its name; 1 to [`MAX_TARGET_NAME`] bytes.
    pub name: String,
    /// What it is.
    pub target: Target,
}

/// Everything that may be tested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetList {
    /// In the order of the configuration; at most [`MAX_TARGETS`].
    pub targets: Vec<ListedTarget>,
}

/// What is asked of a collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestAsk {
    /// Name or URL of a target of its configuration, as it came: 1 to 2,048 bytes.
    pub target: String,
    /// The nodes; empty: all.
    pub nodes: Vec<NodeName>,
    /// How long each may take; `None`: [`DEFAULT_DEADLINE`]. At most [`MAX_DEADLINE`].
    pub deadline: Option<Duration>,
}

/// One test of one target from several nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectivityTest {
    /// When it was begun, on the collector's clock; no two tests of one collector have the same.
    pub at: WallTime,
    /// The target's name in the configuration; at most [`MAX_TARGET_NAME`] bytes.
    pub name: String,
    /// The target.
    pub target: Target,
    /// Who asked.
    pub asked_by: String,
    /// In order of name.
    pub nodes: Vec<NodeResult>,
}

/// One node of a test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeResult {
    /// Which.
    pub node: NodeName,
    /// How it went.
    #[serde(flatten)]
    pub outcome: NodeOutcome,
}

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Blame {
    /// Nobody's: every node that was tested reaches the target.
    Nobody,
    /// The target's, or a part of it.
    Target,
    /// Of some nodes.
    Nodes,
    /// Of the name resolution of some nodes.
    Resolvers,
    /// It cannot be told.
    Undecided,
}

impl Blame {
    /// All of them, in the order of their numbers on the wire.
    pub const ALL: [Self; 5] = [Self::Nobody, Self::Target, Self::Nodes, Self::Resolvers, Self::Undecided];

    /// Its name for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Target => "target",
            Self::Nodes => "nodes",
            Self::Resolvers => "resolvers",
            Self::Undecided => "undecided",
        }
    }
}

/// What a test says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whose fault it is.
    pub blame: Blame,
    /// At which step; `None`: none, or several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
    /// The nodes that are to blame, or that see it where the target is.
    pub nodes: Vec<NodeName>,
    /// All of it in one sentence. Has text from nodes: escape before showing.
    pub sentence: String,
    /// What else sticks out, a sentence each; at most [`MAX_REMARKS`]. Has text from nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

/// A test with what it says: what the API answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// The test.
    pub test: ConnectivityTest,
    /// What it says.
    pub verdict: Verdict,
}

/// A detail, cut where it is too long.
pub fn detail(text: impl Into<String>) -> String {
    let mut text: String = text.into();
    text.truncate(text.floor_char_boundary(MAX_DETAIL));
    text
}
