//! A node against another of its kind, or against itself before: only what differs.

use std::time::Duration;

use casefile_proto::coverage::NodeState;
use casefile_proto::ids::NodeName;
use casefile_proto::time::{WallTime, Window};
use serde_json::Value;

use super::documents::Documents;
use super::query::{Query, Refused};
use crate::casefile::CaseFile;
use crate::compare::{self, BASELINE, Comparison};

/// Rows of one answer: more is no comparison that a person reads.
const MAX_ROWS: usize = 200;
/// What stands for the node itself, right before.
pub const BEFORE: &str = "~before";

/// `compare?a=&b=&from=&until=`; without `b`, with a node of the same kind of which nothing was found.
pub(super) fn compare(case: &mut CaseFile, documents: &Documents, query: &Query) -> Result<Value, Refused> {
    let a = query.node("a")?.ok_or_else(|| Refused::Question("`a` is missing".to_owned()))?;
    let window = query.window(case.incident.window)?;
    if query.get("b") == Some(BEFORE) {
        let before = before(window, case.incident.window)
            .ok_or_else(|| Refused::Question("there is nothing before that part of the window".to_owned()))?;
        known(case, &a)?;
        let (done, damaged) = compare::of_times(case, &a, window, before)?;
        return answer(done, &damaged);
    }
    let b = match query.node("b")? {
        Some(b) => b,
        None => twin(case, documents, &a)
            .ok_or_else(|| Refused::Nothing("there is no other node to compare it with".to_owned()))?,
    };
    known(case, &a)?;
    known(case, &b)?;
    let (done, damaged) = compare::of_nodes(case, (&a, &b), window)?;
    answer(done, &damaged)
}

fn known(case: &CaseFile, node: &NodeName) -> Result<(), Refused> {
    let missing = || Refused::Nothing(format!("the case file knows of no node {node}"));
    case.node(node).map(|_| ()).ok_or_else(missing)
}

/// What lies right before a part of the window, four times as long where there is so much.
fn before(part: Window, all: Window) -> Option<Window> {
    let length = part.duration().saturating_mul(BASELINE).max(Duration::from_secs(1));
    let from: WallTime = part.from().before(length).max(all.from());
    Window::new(from, part.from()).ok()
}

fn answer(mut done: Comparison, damaged: &[(String, String)]) -> Result<Value, Refused> {
    done.more += done.rows.len().saturating_sub(MAX_ROWS);
    done.rows.truncate(MAX_ROWS);
    let mut value = serde_json::to_value(&done).map_err(|error| Refused::Unreadable(error.to_string()))?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("damaged".to_owned(), serde_json::json!(damaged));
    }
    Ok(value)
}

/// A comparison for a report; `None`: there is nothing to compare with, or it cannot be read.
pub(crate) fn of_report(case: &mut CaseFile, documents: &Documents, node: &NodeName, rows: usize) -> Option<Value> {
    let twin = twin(case, documents, node)?;
    let window = case.incident.window;
    let (mut done, damaged) = compare::of_nodes(case, (node, &twin), window).ok()?;
    done.more += done.rows.len().saturating_sub(rows);
    done.rows.truncate(rows);
    answer(done, &damaged).ok()
}

/// A node that is like this one and of which nothing grave was found: of the same kind by its name (`gpu-03` and `gpu-04`) where there
/// is one, whole where there is one.
pub(crate) fn twin(case: &CaseFile, documents: &Documents, node: &NodeName) -> Option<NodeName> {
    let worst =
        |of: &NodeName| documents.findings.iter().filter(|f| f.node.as_ref() == Some(of)).map(|f| f.severity).max();
    let others = case.coverage.nodes.iter().filter(|row| row.node != *node && row.state != NodeState::Silent);
    let rank =
        |of: &NodeName, state: NodeState| (state != NodeState::Answered, kind(of) != kind(node), worst(of), of.clone());
    others.min_by_key(|row| rank(&row.node, row.state)).map(|row| row.node.clone())
}

/// The name without what counts machines of a kind: digits at its end, and what stands before them.
fn kind(node: &NodeName) -> &str {
    let host = node.as_str().split('.').next().unwrap_or_default();
    host.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches(['-', '_'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_of_one_kind_when_only_their_number_differs() {
        let kind_of = |name: &str| kind(&name.parse().unwrap()).to_owned();
        assert_eq!(kind_of("gpu-03"), kind_of("gpu-17.example.com"));
        assert_ne!(kind_of("gpu-03"), kind_of("db-03"));
        assert_eq!(kind_of("n7"), "n");
    }

    #[test]
    fn before_a_part_of_the_window_is_what_the_window_has_of_it() {
        let window = |from, until| Window::new(WallTime::from_secs(from), WallTime::from_secs(until)).unwrap();
        let all = window(0, 1_000);
        assert_eq!(before(window(500, 600), all), Some(window(100, 500)));
        assert_eq!(before(window(100, 600), all), Some(window(0, 100)));
        assert_eq!(before(window(0, 600), all), None);
    }
}
