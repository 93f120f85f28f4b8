//! The node as a whole: whether it answered, whether it was restarted, what an earlier boot left, how its agent fared.

use casefile_proto::coverage::NodeState;
use casefile_proto::event::EventKind;
use casefile_proto::gap::GapReason;
use casefile_proto::time::WallTime;

use super::CheckSpec;
use super::facts::{Need, NodeFacts};
use crate::finding::{Confidence, Finding, Severity};
use crate::seriesset::OneSeries;

/// The checks of this file.
pub const CHECKS: &[CheckSpec] = &[
    CheckSpec {
        id: "node.silent",
        title: "The node does not answer",
        needs: &[Need::Nothing],
        metrics: &[],
        examine: silent,
    },
    CheckSpec {
        id: "node.rebooted",
        title: "The node was restarted",
        needs: &[Need::Readings("kernel")],
        metrics: &[],
        examine: rebooted,
    },
    CheckSpec {
        id: "node.previous_boot",
        title: "An earlier boot left its last words",
        needs: &[Need::Nothing],
        metrics: &[],
        examine: previous_boot,
    },
    CheckSpec {
        id: "evidence.agent",
        title: "The agent lost evidence or was held back",
        needs: &[Need::Readings("agent")],
        metrics: &[
            "casefile_agent_events_dropped_total",
            "casefile_agent_ring_frames_lost_total",
            "casefile_agent_ticks_missed_total",
            "casefile_agent_sources_off",
        ],
        examine: agent,
    },
    CheckSpec {
        id: "evidence.damaged",
        title: "Something of the node's evidence cannot be read",
        needs: &[Need::Nothing],
        metrics: &[],
        examine: damaged,
    },
];

/// Silence at the end of the window that is longer than any hiccup of a network: the collector waits less for an answer.
const SILENCE_SECONDS: f64 = 30.0;

fn silent(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let state = facts.row.state;
    if matches!(state, NodeState::Answered | NodeState::Trimmed) {
        return Vec::new();
    }
    let last = facts.set.ticks.last().map(|tick| tick.at);
    let gap = facts
        .row
        .gaps
        .iter()
        .chain(facts.row.sources.iter().flat_map(|s| &s.gaps))
        .find(|gap| gap.reason == GapReason::NodeSilent);
    let missing = |last: WallTime| facts.window.until().nanos_since(last) as f64 / 1e9;
    let (summary, severity) = match last {
        Some(last) if missing(last) >= SILENCE_SECONDS => {
            ("nothing more was heard of it, and it did not answer when it was asked".to_owned(), Severity::Fatal)
        }
        // It was recorded to the end, and was only not there when it was asked.
        Some(_) => (
            "it did not answer when it was asked, and was recorded to the end of the window".to_owned(),
            Severity::Error,
        ),
        None => (
            "nothing was heard of it in the whole window, and it did not answer when it was asked".to_owned(),
            Severity::Fatal,
        ),
    };
    let mut finding = facts.finding("node.silent", severity, Confidence::Medium, summary.clone());
    (finding.first, finding.last) = (last.or(Some(facts.window.from())), Some(facts.window.until()));
    finding.meaning = Some(
        "what is here of it is what it had sent before; its own ring has more, and is fetched when it comes back"
            .to_owned(),
    );
    finding.now = Some("look whether the machine is on and whether other nodes can reach it; a console or the BMC says more than the network".to_owned());
    finding.not_proof = vec![
        "that the node died: a network that is cut, or an agent that was killed, looks the same from here".to_owned(),
    ];
    finding.evidence = vec![facts.coverage(last, gap.map_or(summary, |gap| format!("{}: {}", gap.reason, gap.detail)))];
    vec![finding]
}

fn rebooted(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for pair in facts.set.ticks.windows(2).filter(|pair| pair[0].boot != pair[1].boot) {
        let away = pair[1].at.nanos_since(pair[0].at) as f64 / 1e9;
        let text = format!(
            "{} was restarted: nothing is recorded of the {away:.0} s before {}",
            facts.name,
            pair[1].at.to_seconds_text()
        );
        let mut finding = facts.finding("node.rebooted", Severity::Error, Confidence::High, text.clone());
        (finding.first, finding.last) = (Some(pair[0].at), Some(pair[1].at));
        finding.not_proof = vec!["that it crashed: somebody may have restarted it".to_owned()];
        finding.evidence = vec![facts.event(pair[1].at, &text)];
        found.push(finding);
    }
    found
}

fn previous_boot(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let mut left = facts.events().filter(|(_, kind, _)| matches!(kind, EventKind::PreviousBoot { .. }));
    let Some((at, _, text)) = left.next() else { return Vec::new() };
    let count = 1 + left.count();
    let summary = format!("an earlier boot left {count} lines of the kernel's last words: it ended in a crash");
    let mut finding = facts.finding("node.previous_boot", Severity::Error, Confidence::High, summary);
    (finding.first, finding.last, finding.count) = (Some(at), Some(at), count as u64);
    finding.not_proof = vec!["that it crashed in this window: the lines may be of any boot before this one".to_owned()];
    finding.evidence = vec![facts.event(at, text)];
    vec![finding]
}

fn agent(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let lost = |metric: &str, what: &str| {
        let series = facts.set.of(metric).next()?;
        let grown = facts.set.grown(series).filter(|grown| *grown >= 1.0)?;
        told(facts, series, grown, format!("the agent lost {grown:.0} {what}"))
    };
    let mut found: Vec<_> = [
        lost("casefile_agent_events_dropped_total", "events"),
        lost("casefile_agent_ring_frames_lost_total", "frames of its ring"),
        lost("casefile_agent_ticks_missed_total", "ticks"),
    ]
    .into_iter()
    .flatten()
    .collect();
    if let Some(off) = facts.set.of("casefile_agent_sources_off").next()
        && let Some(most) = off.values.iter().map(|value| value.value).reduce(f64::max).filter(|most| *most > 0.0)
    {
        found.extend(told(facts, off, most, format!("{most:.0} sources of the agent were switched off")));
    }
    found
}

fn told(facts: &NodeFacts<'_>, series: &OneSeries, value: f64, text: String) -> Option<Finding> {
    let (first, last) = (facts.set.at(*series.values.first()?), facts.set.at(*series.values.last()?));
    let mut finding = facts.finding("evidence.agent", Severity::Warning, Confidence::High, text.clone());
    (finding.first, finding.last) = (Some(first), Some(last));
    finding.subject = Some(series.metric.name.clone());
    finding.evidence = vec![facts.series(series, first, last, value, text)];
    Some(finding)
}

fn damaged(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let entries = facts.damaged.iter().map(|(entry, why)| (entry.to_string(), why));
    let all: Vec<_> = entries.chain(facts.set.damaged.iter().map(|(entry, why)| (entry.clone(), why))).collect();
    let Some((entry, why)) = all.first() else { return Vec::new() };
    let summary = format!("{} entries of {} cannot be read to their end: {entry}: {why}", all.len(), facts.name);
    let mut finding = facts.finding("evidence.damaged", Severity::Warning, Confidence::High, summary);
    finding.count = all.len() as u64;
    finding.meaning = Some("what is whole of them was looked at; what comes behind the damage was not".to_owned());
    finding.now = Some("casefile verify names everything that is damaged".to_owned());
    finding.evidence = vec![facts.coverage(None, format!("{entry}: {why}"))];
    vec![finding]
}
