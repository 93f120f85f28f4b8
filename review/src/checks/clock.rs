//! Time: clocks that nothing keeps in step, and clocks that were stepped. They also say how far times here can be trusted.

use casefile_proto::event::EventKind;

use super::CheckSpec;
use super::facts::{Need, NodeFacts};
use crate::finding::{Confidence, Finding, Severity};

/// The checks of this file.
pub const CHECKS: &[CheckSpec] = &[
    CheckSpec {
        id: "time.unsynchronised",
        title: "Nothing keeps the clock in step",
        needs: &[Need::Readings("clock")],
        metrics: &["node_timex_sync_status"],
        examine: unsynchronised,
    },
    CheckSpec {
        id: "time.stepped",
        title: "The clock was set",
        needs: &[Need::Readings("clock")],
        metrics: &[],
        examine: stepped,
    },
];

fn unsynchronised(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let Some(series) = facts.set.of("node_timex_sync_status").next() else { return Vec::new() };
    let values = facts.timed(&series.values);
    let out: Vec<_> = values.iter().filter(|(_, status)| *status == 0.0).collect();
    let (Some(first), Some(last)) = (out.first(), out.last()) else { return Vec::new() };
    let all = out.len() == values.len();
    let text = if all {
        "nothing kept the clock in step at any time of the window".to_owned()
    } else {
        format!("nothing kept the clock in step in {} of {} readings", out.len(), values.len())
    };
    // Virtual machines often have a good clock that nobody reports to the kernel: worth a line, not a page.
    let severity = if all { Severity::Info } else { Severity::Warning };
    let mut finding = facts.finding("time.unsynchronised", severity, Confidence::High, text.clone());
    (finding.first, finding.last, finding.count) = (Some(first.0), Some(last.0), out.len() as u64);
    finding.not_proof = vec!["that the clock is wrong: the kernel only knows that nobody disciplines it".to_owned()];
    finding.evidence = vec![facts.series(series, first.0, last.0, 0.0, text)];
    vec![finding]
}

fn stepped(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let one = |(at, kind, text): (_, &EventKind, &str)| {
        let EventKind::ClockStepped { by_nanos } = kind else { return None };
        let seconds = *by_nanos as f64 / 1e9;
        let severity = if seconds.abs() >= 1.0 { Severity::Warning } else { Severity::Info };
        let summary = format!("the clock was set by {seconds:+.3} s");
        let mut finding = facts.finding("time.stepped", severity, Confidence::High, summary);
        (finding.first, finding.last) = (Some(at), Some(at));
        finding.evidence = vec![facts.event(at, text)];
        Some(finding)
    };
    facts.events().filter_map(one).collect()
}
