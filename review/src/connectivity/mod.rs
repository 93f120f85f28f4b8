//! Tests of connectivity, looked at: the verdict of one, and those that a case file holds.
//!
//! A case file has what each node saw and nothing that was derived from it: a verdict is reached anew, by today's rules.

pub mod matrix;
mod remarks;
pub mod verdict;

use casefile_evidence::archive::connectivity::{ConnectivityLine, KeptTest, tests};
use casefile_evidence::archive::layout;
use casefile_proto::connectivity::{Blame, NodeOutcome};

use crate::casefile::CaseFile;
use crate::written::{self, Unread};

pub use verdict::judge;

/// The most lines that are looked at: more than a collector keeps.
const MAX_LINES: usize = 100_000;

/// The tests of a case file, in the order in which they were begun; none is no sign of anything. What could not be read goes
/// into `unread`.
pub fn kept(case: &mut CaseFile, unread: &mut Unread) -> Vec<KeptTest> {
    let lines: Vec<(u64, ConnectivityLine)> = written::numbered(case, layout::CONNECTIVITY, MAX_LINES, unread);
    tests(lines)
}

/// How a test ended, for an exit code: a fault first, then what could not be tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Every node that was asked reaches the target.
    Fine,
    /// Nobody fails, and some could not test.
    Unsure,
    /// Somebody does not reach it.
    Fault,
}

/// How a test ended.
pub fn outcome(kept: &KeptTest) -> Outcome {
    let rows = || kept.test.nodes.iter();
    let fails = |outcome: &NodeOutcome| matches!(outcome, NodeOutcome::Tested(steps) if steps.failed().is_some());
    let verdict = judge(&kept.test, kept.missing);
    let untested = rows().any(|row| matches!(row.outcome, NodeOutcome::Untested(_)) || fails(&row.outcome));
    match verdict.blame {
        Blame::Nobody if untested || kept.missing > 0 => Outcome::Unsure,
        Blame::Nobody => Outcome::Fine,
        // Whose fault it is may be open; that it fails is not, where it was tested at all.
        Blame::Undecided if verdict.nodes.is_empty() => Outcome::Unsure,
        _ => Outcome::Fault,
    }
}
