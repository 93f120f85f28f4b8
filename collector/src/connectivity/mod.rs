//! Tests of connectivity: a target of the configuration's list, asked of every node at once, with one deadline; what came of it is kept.
//!
//! [`targets`] is the list, without which nothing is tested; [`kept`] the file that archives take their part from. Whose fault it
//! is, `casefile_review::connectivity` says.

pub mod kept;
pub mod targets;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use casefile_proto::connectivity::{
    ConnectivityAsk, ConnectivityTest, DEFAULT_DEADLINE, ListedTarget, NodeOutcome, NodeResult, TargetList, TestAsk,
    TestId, Untested, UntestedReason, detail,
};
use casefile_proto::ids::NodeName;
use casefile_proto::time::WallTime;
use tokio::sync::{Semaphore, TryAcquireError};
use tokio::time::timeout_at;

use crate::audit::Sums;
use crate::chain::chain;
use crate::incident::fleet::Fleet;
use crate::ingest::Clock;
use kept::Kept;
use targets::Targets;

/// Tests at a time: an agent takes on no more.
const AT_A_TIME: usize = 4;

/// How much longer than its deadline an agent is waited for: what it found has to come here.
const GRACE: std::time::Duration = std::time::Duration::from_secs(2);

/// Names in one refusal.
const MAX_NAMED: usize = 20;

/// Why a test was not begun.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotBegun {
    /// The list does not have it.
    #[error("{0}")]
    Unlisted(String),
    /// Nobody has ever heard of these nodes.
    #[error("no such node: {0}: casefile nodes lists them")]
    NoNode(String),
    /// There is no node at all.
    #[error("no agent has ever reported here")]
    NoNodes,
    /// There are enough.
    #[error("{AT_A_TIME} tests are under way already: try again in a few seconds")]
    TooMany,
    /// A defect of ours.
    #[error("the test ended in a defect of ours")]
    Defect,
}

/// A test that was made.
#[derive(Debug)]
pub struct Made {
    /// The test.
    pub test: ConnectivityTest,
    /// Why it could not be kept, if it could not.
    pub not_kept: Option<String>,
}

/// A test that may be begun.
#[derive(Debug, Clone)]
pub struct Planned {
    listed: ListedTarget,
    nodes: Vec<NodeName>,
    ask: TestAsk,
}

impl Planned {
    /// What the audit log is told: the target, and from how many nodes.
    pub fn told(&self) -> String {
        format!("{} {} from {} nodes", self.listed.name, self.listed.target, self.nodes.len())
    }
}

/// Tests connectivity.
pub struct Connectivity {
    targets: Targets,
    fleet: Arc<dyn Fleet>,
    kept: Arc<Kept>,
    clock: Clock,
    turns: Arc<Semaphore>,
    /// When the last test was begun: no two have the same time.
    last: Mutex<WallTime>,
    /// What was refused, so that a flood of it is told in sums.
    pub(crate) refused: Sums,
}

impl Connectivity {
    /// Of these targets, from these nodes.
    pub fn new(targets: Targets, fleet: Arc<dyn Fleet>, kept: Kept, clock: Clock) -> Self {
        Self {
            targets,
            fleet,
            kept: Arc::new(kept),
            clock,
            turns: Arc::new(Semaphore::new(AT_A_TIME)),
            last: Mutex::new(WallTime::MIN),
            refused: Sums::default(),
        }
    }

    /// Everything that may be tested.
    pub fn listed(&self) -> TargetList {
        TargetList { targets: self.targets.all().to_vec() }
    }

    /// What would be tested; or why it is not.
    ///
    /// # Errors
    /// When the target is not listed, or a node is not known.
    pub fn plan(&self, ask: TestAsk) -> Result<Planned, NotBegun> {
        let listed = self.targets.find(&ask.target).cloned();
        let listed = listed.ok_or_else(|| NotBegun::Unlisted(self.targets.refusal(&ask.target)))?;
        let known: Vec<NodeName> = self.fleet.nodes().into_iter().map(|status| status.node).collect();
        let mut nodes = if ask.nodes.is_empty() { known.clone() } else { ask.nodes.clone() };
        nodes.sort();
        nodes.dedup();
        let strangers: Vec<&str> = nodes
            .iter()
            .filter(|node| known.binary_search(node).is_err())
            .take(MAX_NAMED)
            .map(NodeName::as_str)
            .collect();
        if !strangers.is_empty() {
            return Err(NotBegun::NoNode(strangers.join(", ")));
        }
        if nodes.is_empty() {
            return Err(NotBegun::NoNodes);
        }
        Ok(Planned { listed, nodes, ask })
    }

    /// Makes a test, and keeps what came of it, also when whoever asked has gone meanwhile.
    ///
    /// # Errors
    /// When there are enough at a time.
    pub async fn test(&self, planned: Planned, asked_by: String) -> Result<Made, NotBegun> {
        let turn = match Arc::clone(&self.turns).try_acquire_owned() {
            Ok(turn) => turn,
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => return Err(NotBegun::TooMany),
        };
        let at = self.begins();
        let (fleet, kept) = (Arc::clone(&self.fleet), Arc::clone(&self.kept));
        // A task of its own: it ends within its deadline, and what was found is evidence whoever still waits for it.
        let testing = tokio::spawn(async move {
            let Planned { listed, nodes, ask } = planned;
            let results = asked(&*fleet, &listed, nodes, &ask, at).await;
            let test = ConnectivityTest { at, name: listed.name, target: listed.target, asked_by, nodes: results };
            let keeping = test.clone();
            let done = tokio::task::spawn_blocking(move || kept.append(&keeping)).await;
            let not_kept = match done {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(chain(&error)),
                Err(panicked) => Some(panicked.to_string()),
            };
            if let Some(error) = &not_kept {
                tracing::error!(error, target = %test.target, "a test of connectivity could not be kept");
            }
            drop(turn);
            Made { test, not_kept }
        });
        testing.await.map_err(|error| {
            tracing::error!(%error, "a test of connectivity broke down");
            NotBegun::Defect
        })
    }

    /// Now, or a little later when another test was begun now.
    fn begins(&self) -> WallTime {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = (self.clock)().wall.max(last.offset(1));
        *last
    }
}

/// Asks every node, and waits for all of them until one moment.
async fn asked(
    fleet: &dyn Fleet,
    listed: &ListedTarget,
    nodes: Vec<NodeName>,
    ask: &TestAsk,
    at: WallTime,
) -> Vec<NodeResult> {
    let deadline = ask.deadline.unwrap_or(DEFAULT_DEADLINE);
    let until = tokio::time::Instant::now() + deadline + GRACE;
    let untested = |reason| NodeOutcome::Untested(Untested { reason, detail: String::new() });
    // Its time is unique among tests, and no secret.
    let test = TestId(at.nanos().unsigned_abs());
    let began = Instant::now();
    let asked: BTreeMap<NodeName, _> = nodes
        .into_iter()
        .map(|node| {
            let ask = ConnectivityAsk { test, target: listed.target.clone(), deadline };
            let answer = fleet.test(&node, ask);
            (node, answer)
        })
        .collect();
    let mut results = Vec::with_capacity(asked.len());
    // One after the other: they all run at once, and all are over at the same moment.
    for (node, answer) in asked {
        let outcome = match answer {
            Err(reason) => untested(reason),
            Ok(answer) => match timeout_at(until, answer).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => untested(UntestedReason::Disconnected),
                Err(_) => NodeOutcome::Untested(Untested {
                    reason: UntestedReason::NoAnswer,
                    detail: detail(format!("within {} s", began.elapsed().as_secs())),
                }),
            },
        };
        results.push(NodeResult { node, outcome: sound(listed, outcome) });
    }
    results
}

/// What an agent said, if it is of the target that was asked: one that leaves out a step has not tested it.
fn sound(listed: &ListedTarget, outcome: NodeOutcome) -> NodeOutcome {
    use casefile_proto::connectivity::steps::Step;
    if let NodeOutcome::Tested(steps) = &outcome {
        let has = |step: &Step| steps.of(*step).is_some();
        let wanted = listed.target.scheme().steps();
        if !Step::ALL.iter().all(|step| has(step) == wanted.contains(step)) {
            return NodeOutcome::Untested(Untested {
                reason: UntestedReason::NoAnswer,
                detail: "its agent answered with other steps than this target has".to_owned(),
            });
        }
    }
    outcome
}

#[cfg(test)]
mod tests;
