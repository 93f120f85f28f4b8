//! Processes that wait for something that does not come.

use std::collections::BTreeMap;
use std::time::Duration;

use super::CheckSpec;
use super::facts::{Need, NodeFacts};
use super::spans::{Span, above, longest};
use super::threshold::lasting;
use crate::finding::{Confidence, Finding, Severity};
use crate::seriesset::OneSeries;

/// The checks of this file.
pub const CHECKS: &[CheckSpec] = &[
    CheckSpec {
        id: "proc.blocked",
        title: "A task waits in the kernel and cannot be killed",
        needs: &[Need::Readings("process")],
        metrics: &["casefile_process_blocked"],
        examine: blocked,
    },
    CheckSpec {
        id: "kernel.hung_tasks",
        title: "The kernel counted tasks that hang",
        needs: &[Need::Readings("load")],
        metrics: &["casefile_hung_tasks_detected_total"],
        examine: hung,
    },
];

/// Two minutes are longer than any disk takes; five are what gpud calls persistent.
const LONG: Duration = Duration::from_secs(120);
const PERSISTENT: f64 = 300.0;

fn blocked(facts: &NodeFacts<'_>) -> Vec<Finding> {
    // A task that waits in one place and then in another has two series: the same wait.
    let mut by_task: BTreeMap<(&str, &str), Vec<&OneSeries>> = BTreeMap::new();
    for series in facts.set.of("casefile_process_blocked") {
        let (Some(pid), Some(tid)) = (series.label("pid"), series.label("tid")) else { continue };
        by_task.entry((pid, tid)).or_default().push(series);
    }
    let mut by_name: BTreeMap<(String, String), Vec<(&OneSeries, Span)>> = BTreeMap::new();
    for series in by_task.values() {
        let mut values: Vec<_> = series.iter().flat_map(|s| facts.timed(&s.values)).collect();
        values.sort_by_key(|(at, _)| *at);
        let Some(span) = longest(above(&values, 1.0, LONG)) else { continue };
        let Some(last) = series.last() else { continue };
        let label = |name| last.label(name).unwrap_or_default().to_owned();
        by_name.entry((label("comm"), label("wchan"))).or_default().push((last, span));
    }
    let one = |((comm, wchan), tasks): ((String, String), Vec<(&OneSeries, Span)>)| {
        let (series, span) = tasks.iter().copied().reduce(|a, b| if b.1.seconds() > a.1.seconds() { b } else { a })?;
        let severity = if span.seconds() >= PERSISTENT { Severity::Error } else { Severity::Warning };
        let whom = if tasks.len() == 1 { comm.clone() } else { format!("{} tasks of {comm}", tasks.len()) };
        let place = if wchan.is_empty() { String::new() } else { format!(" in {wchan}") };
        let text = format!("{whom} waited in state D{place} for up to {}", lasting(&span));
        let mut finding = facts.finding("proc.blocked", severity, Confidence::High, text.clone());
        (finding.first, finding.last, finding.count) = (Some(span.from), Some(span.until), tasks.len() as u64);
        finding.subject = Some(comm);
        finding.meaning =
            Some("it waits for a disk, a file server or a driver; SIGKILL cannot help until that answers".to_owned());
        finding.evidence = vec![facts.series(series, span.from, span.until, span.seconds(), text)];
        Some(finding)
    };
    by_name.into_iter().filter_map(one).collect()
}

fn hung(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let one = |series: &OneSeries| {
        let grown = facts.set.grown(series).filter(|grown| *grown >= 1.0)?;
        let values = facts.timed(&series.values);
        let step = values.windows(2).find(|pair| pair[1].1 > pair[0].1)?;
        let text = format!("the kernel counted {grown:.0} tasks that hang");
        let mut finding = facts.finding("kernel.hung_tasks", Severity::Error, Confidence::High, text.clone());
        (finding.first, finding.last) = (Some(step[1].0), values.last().map(|v| v.0));
        finding.evidence = vec![facts.series(series, step[0].0, step[1].0, grown, text)];
        Some(finding)
    };
    facts.set.of("casefile_hung_tasks_detected_total").filter_map(one).collect()
}
