//! Whose fault it is: the node's or the target's. Pure: what each node saw, compared with what the others saw.
//!
//! One rule stands above all: a node that could not test says nothing, and where what was seen fits both, that is said. What is
//! told of a failure that all share is what they share: the target, or something between all of them and it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use casefile_proto::connectivity::steps::{Failure, Step, Steps};
use casefile_proto::connectivity::{Blame, ConnectivityTest, NodeOutcome, Verdict};
use casefile_proto::ids::NodeName;

use super::remarks::remarks;

/// Names in one sentence; the rest is counted.
const MAX_NAMED: usize = 5;

/// A node that was tested, and where it failed.
pub(super) struct Seen<'a> {
    pub(super) node: &'a NodeName,
    pub(super) steps: &'a Steps,
    failed: Option<(Step, Failure)>,
}

impl Seen<'_> {
    /// The address that it went to.
    fn peer(&self) -> Option<SocketAddr> {
        self.steps.connect.as_ref().and_then(|connect| connect.address)
    }
}

/// What a test says; with what is known to be missing of it.
pub fn judge(test: &ConnectivityTest, missing: u32) -> Verdict {
    let (mut seen, mut untested) = (Vec::new(), Vec::new());
    for row in &test.nodes {
        match &row.outcome {
            // What an agent does not do is no fault of anybody.
            NodeOutcome::Tested(steps) if matches!(steps.failed(), Some((_, Failure::NotAllowed))) => {
                untested.push(&row.node);
            }
            NodeOutcome::Tested(steps) => seen.push(Seen { node: &row.node, steps, failed: steps.failed() }),
            NodeOutcome::Untested(_) => untested.push(&row.node),
        }
    }
    let mut verdict = compared(test, &seen);
    let unsure = untested.len().saturating_add(usize::try_from(missing).unwrap_or(usize::MAX));
    if unsure > 0 && !seen.is_empty() {
        let them = if untested.is_empty() { String::new() } else { format!(" ({})", named(&untested)) };
        verdict.sentence.push_str(&format!("; {} could not be tested{them}", nodes(unsure)));
    }
    verdict.remarks = remarks(test, &seen);
    verdict
}

fn compared(test: &ConnectivityTest, seen: &[Seen<'_>]) -> Verdict {
    let (failed, passed): (Vec<&Seen<'_>>, Vec<&Seen<'_>>) = seen.iter().partition(|seen| seen.failed.is_some());
    let name = &test.name;
    let say = |blame, step, of: &[&Seen<'_>], sentence: String| Verdict {
        blame,
        step,
        nodes: of.iter().map(|seen| seen.node.clone()).collect(),
        sentence,
        remarks: Vec::new(),
    };
    if seen.is_empty() {
        let sentence = format!("nobody can tell: no node could test {name}");
        return say(Blame::Undecided, None, &[], sentence);
    }
    let them = || named(&failed.iter().map(|seen| seen.node).collect::<Vec<_>>());
    let step = shared(failed.iter().filter_map(|seen| seen.failed.map(|(step, _)| step)));
    match (failed.as_slice(), passed.len()) {
        ([], all) => say(Blame::Nobody, None, &[], format!("{name} is reached by {}", every(all))),
        ([only], 0) => {
            let (what, _) = told(only);
            let sentence =
                format!("nobody can tell the node from the target: {} alone was tested, and {what}", only.node);
            say(Blame::Undecided, step, &failed, sentence)
        }
        (_, 0) => match step {
            Some(at) => say(Blame::Target, step, &failed, all_fail(name, at, &failed)),
            None => {
                let sentence = format!(
                    "nobody can tell: no node reaches {name}, and not all fail at the same step ({})",
                    counted(&failed)
                );
                say(Blame::Undecided, None, &failed, sentence)
            }
        },
        (_, good) => {
            let many = format!("{} of {}", failed.len(), nodes(seen.len()));
            if step == Some(Step::Resolve) {
                let sentence =
                    format!("the name resolution of {}: {}, and {}", them(), why(&failed), others_reach(good, name));
                return say(Blame::Resolvers, step, &failed, sentence);
            }
            if let Some(sentence) = part_of_target(name, step, &failed, &passed) {
                return say(Blame::Target, step, &failed, sentence);
            }
            if failed.len() < good {
                let sentence =
                    format!("the fault is with {}: {}, and {}", them(), why(&failed), others_reach(good, name));
                return say(Blame::Nodes, step, &failed, sentence);
            }
            let sentence = format!(
                "nobody can tell: {many} do not reach {name} and {good} do, which is neither a few nodes nor all ({})",
                counted(&failed)
            );
            say(Blame::Undecided, step, &failed, sentence)
        }
    }
}

/// What is said when all fail at one step.
fn all_fail(name: &str, step: Step, failed: &[&Seen<'_>]) -> String {
    let all = every(failed.len());
    match step {
        Step::Resolve => format!(
            "the fault is with {name} or the name service that all share: its name is resolved by none of {} ({})",
            nodes(failed.len()),
            why(failed)
        ),
        Step::Connect => {
            let refused = shared(failed.iter().filter_map(|seen| seen.failed.map(|(_, why)| why)));
            let between = if refused == Some(Failure::Refused) {
                "nobody listens there"
            } else {
                "it is down, or something between all nodes and it (a network policy of the agents' own among that)"
            };
            let none =
                if failed.len() == 2 { "neither node".to_owned() } else { format!("none of {} nodes", failed.len()) };
            format!("the fault is with {name}, not with a node: {none} can connect ({}): {between}", why(failed))
        }
        Step::Tls | Step::Http => {
            format!(
                "the fault is with {name}, not with a node: {all} connect, and {} fails ({})",
                step.name(),
                why(failed)
            )
        }
    }
}

/// What is said when what failed is a part of the target: those that fail went where no other went, or came so far that the
/// target answered them.
fn part_of_target(name: &str, step: Option<Step>, failed: &[&Seen<'_>], passed: &[&Seen<'_>]) -> Option<String> {
    let answered = |seen: &&Seen<'_>| matches!(seen.failed, Some((_, Failure::HttpStatus)));
    if failed.iter().all(answered) {
        return Some(format!(
            "the fault is with a part of {name}: it answers {} with an error ({}) and {} without, so their way to it is good",
            nodes(failed.len()),
            why(failed),
            passed.len()
        ));
    }
    step.filter(|step| *step >= Step::Connect)?;
    let bad: Vec<SocketAddr> = failed.iter().filter_map(|seen| seen.peer()).collect();
    // On one address that only they went to; where the name has one address for each node, as headless services do, that says
    // nothing of the nodes.
    let (first, rest) = bad.split_first()?;
    let alone = bad.len() == failed.len()
        && failed.len() > 1
        && rest.iter().all(|peer| peer == first)
        && passed.iter().filter_map(|seen| seen.peer()).all(|peer| peer != *first);
    alone.then(|| {
        format!(
            "the fault is with {first}, a part of {name}: {} went there and fail ({}), and {} went elsewhere and do not",
            nodes(failed.len()),
            why(failed),
            passed.len()
        )
    })
}

/// The value that all have.
fn shared<T: PartialEq>(mut values: impl Iterator<Item = T>) -> Option<T> {
    let first = values.next()?;
    values.all(|value| value == first).then_some(first)
}

/// Where and why one failed.
fn told(seen: &Seen<'_>) -> (String, Option<Step>) {
    match seen.failed {
        None => (String::new(), None),
        Some((step, failure)) => {
            let detail = seen.steps.of(step).map(|went| went.detail()).unwrap_or_default();
            let detail = if detail.is_empty() { String::new() } else { format!(" ({detail})") };
            (format!("{} failed: {}{detail}", step.name(), failure.words()), Some(step))
        }
    }
}

/// Why they fail: in the words of the one, or by their number.
fn why(failed: &[&Seen<'_>]) -> String {
    if let [only] = failed { told(only).0 } else { counted(failed) }
}

/// `TCP timed out on 3, DNS no such name on 1`, the most frequent first.
fn counted(failed: &[&Seen<'_>]) -> String {
    let mut counts: BTreeMap<(Step, Failure), usize> = BTreeMap::new();
    for (step, failure) in failed.iter().filter_map(|seen| seen.failed) {
        *counts.entry((step, failure)).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let told =
        |((step, failure), count): &((Step, Failure), usize)| format!("{} {} on {count}", step.name(), failure.words());
    counts.iter().map(told).collect::<Vec<_>>().join(", ")
}

/// The names of the first of them, and how many more there are.
pub(super) fn named(of: &[&NodeName]) -> String {
    let names: Vec<_> = of.iter().take(MAX_NAMED).map(|node| node.as_str()).collect();
    match of.len().saturating_sub(MAX_NAMED) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

pub(crate) fn nodes(count: usize) -> String {
    if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") }
}

fn others_reach(count: usize, name: &str) -> String {
    if count == 1 { format!("another node reaches {name}") } else { format!("{count} others reach {name}") }
}

fn every(count: usize) -> String {
    match count {
        1 => "the one node that was tested".to_owned(),
        2 => "both nodes".to_owned(),
        count => format!("all {count} nodes"),
    }
}

#[cfg(test)]
mod tests;
