//! What happened, as one list in the order of time: records, events, findings, gaps, what people did. The forms of `timeline.jsonl`.
//!
//! A row has Timesketch's three fields (`message`, `datetime`, `timestamp_desc`), so that the file opens there and in lnav as it is.
//! A flood is cut and its rest counted in a row of its own: the logs have all of it.

use std::collections::BTreeMap;

use casefile_evidence::archive::connectivity::KeptTest;
use casefile_evidence::archive::layout::{self, IncidentFile};
use casefile_proto::connectivity::Blame;
use casefile_proto::coverage::{Coverage, NodeCoverage};
use casefile_proto::event::EventKind;
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::incident::Trigger;
use casefile_proto::time::{ClockOffset, WallTime};
use serde::{Deserialize, Serialize};

use crate::checks::facts::NodeFacts;
use crate::checks::kubernetes::ClusterFacts;
use crate::checks::seen::Seen;
use crate::connectivity::verdict::{judge, nodes};
use crate::connectivity::{Outcome, outcome};
use crate::finding::{Evidence, Finding, Severity};
use crate::kubernetes::{self, Event};
use crate::logs::corrected;
use crate::signatures::logged::{Author, Stream, Written};
use crate::signatures::record::Lines;

/// The most rows of one signature of one node.
const MAX_ALIKE: usize = 100;

/// The longest message, in bytes: Timesketch does not search longer ones by word, and nobody reads them in a list.
const MAX_MESSAGE: usize = 2048;

/// What a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// A record of the kernel or of a service.
    Kernel,
    /// An event of the recording: an agent that started, a source that came or went, a GPU.
    Event,
    /// What the cluster reports, or what changed in it.
    Kubernetes,
    /// A finding, at its beginning.
    Finding,
    /// Evidence that is missing, over an interval.
    Gap,
    /// What somebody did.
    Human,
    /// A test of connectivity, and what it says.
    Connectivity,
}

/// A time as ISO 8601 with an offset: Python and lnav read nine digits and `+00:00`, and not every one reads `Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Stamp(pub WallTime);

impl From<Stamp> for String {
    fn from(stamp: Stamp) -> Self {
        let text = stamp.0.to_string();
        let text = text.strip_suffix('Z').unwrap_or(&text);
        let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
        format!("{seconds}.{fraction:0<9}+00:00")
    }
}

impl TryFrom<String> for Stamp {
    type Error = casefile_proto::time::InvalidTime;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// When, on the collector's clock.
    pub datetime: Stamp,
    /// What it is about.
    pub timestamp_desc: What,
    /// What it says. Text from the node: escape before showing.
    pub message: String,
    /// The node; empty: about the whole.
    pub node: String,
    /// How bad it is: `FATAL`, `ERROR`, `WARN`, `INFO`.
    pub severity: String,
    /// The id of the signature, the check, or the reason of the gap; empty where there is none.
    pub id: String,
    /// The evidence that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// The finding that it is, or belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<String>,
    /// Where an interval ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Stamp>,
    /// The entry and line where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// Its line there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
}

/// The word for a severity as lnav's format and syslog readers have it.
pub const fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "INFO",
        Severity::Warning => "WARN",
        Severity::Error => "ERROR",
        Severity::Fatal => "FATAL",
    }
}

impl Row {
    fn new(at: WallTime, what: What, severity: Severity, node: &str, id: &str, message: &str) -> Self {
        let message = message.get(..message.floor_char_boundary(MAX_MESSAGE)).unwrap_or_default();
        Self {
            datetime: Stamp(at),
            timestamp_desc: what,
            message: message.to_owned(),
            node: node.to_owned(),
            severity: word(severity).to_owned(),
            id: id.to_owned(),
            evidence: None,
            finding: None,
            until: None,
            entry: None,
            line: None,
        }
    }
}

/// The rows of one node: its records, its events, its gaps.
pub fn of_node(facts: &NodeFacts<'_>) -> Vec<Row> {
    let node = facts.name.as_str();
    let mut rows = Vec::new();
    let mut alike: BTreeMap<&str, (usize, Option<WallTime>)> = BTreeMap::new();
    for seen in facts.seen.iter().chain(&facts.unknown) {
        let Some(at) = seen.at else { continue };
        let known = alike.entry(seen.id()).or_default();
        known.0 += 1;
        if known.0 > MAX_ALIKE {
            known.1 = Some(at);
            continue;
        }
        rows.push(of_record(seen, node, at));
    }
    for (id, (count, last)) in alike {
        if let Some(last) = last {
            let what = if id.is_empty() { "of the kernel at level error" } else { id };
            let message = format!("{} more records {what} up to here: the log has them", count - MAX_ALIKE);
            rows.push(Row::new(last, What::Kernel, Severity::Info, node, id, &message));
        }
    }
    rows.extend(facts.events().filter_map(|(at, kind, text)| of_event(node, at, kind, text)));
    rows.extend(of_gaps(&facts.row));
    rows
}

fn of_record(seen: &Seen<'_>, node: &str, at: WallTime) -> Row {
    let severity = if seen.record.is_some() { seen.severity().0 } else { Severity::Info };
    let mut row = Row::new(at, What::Kernel, severity, node, seen.id(), &seen.text);
    row.entry = seen.entry.as_ref().map(ToString::to_string);
    row.line = seen.entry.as_ref().map(|_| seen.line);
    row
}

fn of_event(node: &str, at: WallTime, kind: &EventKind, text: &str) -> Option<Row> {
    let (id, severity) = match kind {
        // Those are the records of the kernel, and stand there.
        EventKind::Kernel { .. } => return None,
        EventKind::AgentStarted => ("agent.started", Severity::Info),
        EventKind::Source { .. } => ("agent.source", Severity::Info),
        EventKind::ClockStepped { .. } => ("time.stepped", Severity::Info),
        EventKind::PreviousBoot { .. } => ("node.previous_boot", Severity::Warning),
        EventKind::Gpu { .. } => ("gpu.event", Severity::Warning),
        EventKind::Lost { .. } => ("kernel.lost", Severity::Warning),
    };
    Some(Row::new(at, What::Event, severity, node, id, text))
}

fn of_gaps(node: &NodeCoverage) -> Vec<Row> {
    let whole = node.gaps.iter().map(|gap| (None, gap));
    let of_sources = node.sources.iter().flat_map(|s| s.gaps.iter().map(|gap| (Some(s.source.as_str()), gap)));
    let rows = whole.chain(of_sources).filter_map(|(source, gap)| of_gap(node.node.as_str(), source, gap, node.clock));
    let mut rows: Vec<Row> = rows.collect();
    // The same silence is a gap of every source: told once, with their number.
    rows.sort_by(|a, b| (a.datetime, a.until, &a.id).cmp(&(b.datetime, b.until, &b.id)));
    let mut folded: Vec<(Row, usize)> = Vec::new();
    for row in rows {
        match folded.last_mut() {
            Some((last, count)) if (last.datetime, last.until, &last.id) == (row.datetime, row.until, &row.id) => {
                *count += 1;
            }
            _ => folded.push((row, 1)),
        }
    }
    let told = |(mut row, count): (Row, usize)| {
        if count > 1 {
            row.message = format!("{} (and {} more sources)", row.message, count - 1);
        }
        row
    };
    folded.into_iter().map(told).collect()
}

fn of_gap(node: &str, source: Option<&str>, gap: &Gap, clock: Option<ClockOffset>) -> Option<Row> {
    let interval = gap.interval?;
    if gap.reason == GapReason::SourceAbsent {
        return None;
    }
    let severity = match gap.reason {
        GapReason::NodeSilent | GapReason::NodeRebooted => Severity::Warning,
        _ => Severity::Info,
    };
    let message = format!("{}: {}", source.unwrap_or("the whole node"), gap.detail);
    let mut row = Row::new(corrected(interval.from(), clock), What::Gap, severity, node, gap.reason.name(), &message);
    row.until = Some(Stamp(corrected(interval.until(), clock)));
    Some(row)
}

/// Reasons of events that are no warning and yet say what happened: who was ended, scaled, moved, started.
const TOLD: [&str; 12] = [
    "Killing",
    "ScalingReplicaSet",
    "SuccessfulRescale",
    "SuccessfulDelete",
    "NodeReady",
    "NodeSchedulable",
    "NodeNotSchedulable",
    "NodeNotReady",
    "Rebooted",
    "Preempting",
    "TaintManagerEviction",
    "BackOff",
];

/// The most changes: more belong to a cluster of which nobody reads every change.
const MAX_CHANGES: usize = 5_000;

/// The rows of the cluster: warnings, what else is worth telling of its events, and what changed.
pub fn of_cluster(facts: &ClusterFacts<'_>) -> Vec<Row> {
    let mut alike: BTreeMap<&str, (usize, Option<WallTime>)> = BTreeMap::new();
    let mut rows = Vec::new();
    let mut lines = Lines::new(facts.signatures);
    for event in facts.cluster.events.iter().filter(|event| event.warning || TOLD.contains(&event.reason.as_str())) {
        let Some(last) = event.last.filter(|at| facts.window.contains(*at)) else { continue };
        let known = alike.entry(&event.reason).or_default();
        known.0 += 1;
        if known.0 > MAX_ALIKE {
            known.1 = Some(last);
            continue;
        }
        rows.push(of_cluster_event(facts, &mut lines, event, last));
    }
    for (reason, (count, last)) in alike {
        if let Some(last) = last {
            let message = format!("{} more events {reason} up to here: the list has them", count - MAX_ALIKE);
            rows.push(Row::new(last, What::Kubernetes, Severity::Info, "", reason, &message));
        }
    }
    let changes = facts.cluster.changes.iter().filter(|change| facts.window.contains(change.at));
    rows.extend(changes.clone().take(MAX_CHANGES).map(|change| {
        let node = if change.kind == "Node" { change.name.as_str() } else { "" };
        let node = if facts.nodes.iter().any(|known| known.as_str() == node) { node } else { "" };
        let mut row = Row::new(change.at, What::Kubernetes, Severity::Info, node, "k8s.change", &change.sentence());
        row.entry = Some(kubernetes::CHANGES.to_owned());
        row.line = Some(change.line);
        row
    }));
    if let Some(cut) = changes.clone().nth(MAX_CHANGES) {
        let message = format!("{} more changes from here on: changes.jsonl has them", changes.count() - MAX_CHANGES);
        rows.push(Row::new(cut.at, What::Kubernetes, Severity::Info, "", "k8s.change", &message));
    }
    rows
}

fn of_cluster_event(facts: &ClusterFacts<'_>, lines: &mut Lines<'_>, event: &Event, last: WallTime) -> Row {
    let line = event.line();
    let written = Written { text: &line, author: Author::Unknown, stream: Stream::Kubernetes };
    let known = lines.record(written);
    let id = known.as_ref().map_or(event.reason.as_str(), |known| known.signature.id.as_str());
    let severity = if event.warning { Severity::Warning } else { Severity::Info };
    let pod = facts.cluster.pod_named(&event.about.called()).filter(|_| event.about.kind == "Pod");
    let names = [
        (event.about.kind == "Node").then_some(event.about.name.as_str()),
        pod.and_then(|pod| pod.node.as_deref()),
        event.host.as_deref(),
    ];
    let known_node = |name: &&str| facts.nodes.iter().any(|node| node.as_str() == *name);
    let node = names.into_iter().flatten().find(known_node).unwrap_or("");
    let first = event.first.filter(|first| event.count > 1 && *first < last && facts.window.contains(*first));
    let times = if event.count > 1 { format!(" ({} times)", event.count) } else { String::new() };
    let mut row = Row::new(first.unwrap_or(last), What::Kubernetes, severity, node, id, &format!("{line}{times}"));
    row.until = first.map(|_| Stamp(last));
    row.entry = facts.cluster.entry_of(&event.meta).map(ToString::to_string);
    row
}

/// The rows of findings: each at its beginning.
pub fn of_findings(findings: &[Finding]) -> Vec<Row> {
    let row = |finding: &Finding| {
        let node = finding.node.as_ref().map_or("", |node| node.as_str());
        let mut row = Row::new(finding.first?, What::Finding, finding.severity, node, &finding.kind, &finding.summary);
        row.finding = Some(finding.id.clone());
        row.evidence = finding.evidence.first().map(|evidence| evidence.reference.clone());
        row.until = finding.last.filter(|last| Some(*last) > finding.first).map(Stamp);
        Some(row)
    };
    findings.iter().filter_map(row).collect()
}

/// What people did, as far as the incident says it.
pub fn of_people(incident: &IncidentFile, coverage: &Coverage) -> Vec<Row> {
    if incident.trigger == Trigger::Extract && incident.requested_by.is_empty() {
        return Vec::new();
    }
    let window = coverage.window;
    let by = if incident.requested_by.is_empty() { "somebody" } else { &incident.requested_by };
    let why = if incident.reason.is_empty() { String::new() } else { format!(": {}", incident.reason) };
    let asked = format!("{by} asked for the evidence from {} to {}{why}", window.from(), window.until());
    let sealed = format!("sealed by {}", incident.sealed_by);
    vec![
        Row::new(window.until(), What::Human, Severity::Info, "", "incident.window", &asked),
        Row::new(incident.sealed_at, What::Human, Severity::Info, "", "incident.sealed", &sealed),
    ]
}

/// Tests of connectivity, each with its verdict.
pub fn of_connectivity(tests: &[KeptTest]) -> Vec<Row> {
    let row = |kept: &KeptTest| {
        let (test, verdict) = (&kept.test, judge(&kept.test, kept.missing));
        let severity = if outcome(kept) == Outcome::Fault { Severity::Warning } else { Severity::Info };
        let asked =
            format!("{} tested {} ({}) from {}", test.asked_by, test.name, test.target, nodes(test.nodes.len()));
        let message = format!("{asked}: {}", verdict.sentence);
        let node = match verdict.nodes.as_slice() {
            [only] if verdict.blame != Blame::Target => only.as_str(),
            _ => "",
        };
        let id = format!("connectivity.{}", verdict.blame.name());
        let mut row = Row::new(test.at, What::Connectivity, severity, node, &id, &message);
        row.entry = Some(layout::CONNECTIVITY.to_owned());
        row.line = Some(kept.line);
        row
    };
    tests.iter().map(row).collect()
}

/// In the order of time; what is at one time in the order of node and text, so that the same case file gives the same list. Rows
/// that findings cite are marked.
pub fn ordered(mut rows: Vec<Row>, findings: &[Finding]) -> Vec<Row> {
    let cited: BTreeMap<(&str, u64), (&Evidence, &Finding)> = findings
        .iter()
        .flat_map(|finding| finding.evidence.iter().map(move |evidence| (evidence, finding)))
        .filter_map(|(evidence, finding)| {
            Some(((evidence.entry.as_ref()?.as_str(), evidence.line?), (evidence, finding)))
        })
        .collect();
    for row in &mut rows {
        let place = row.entry.as_deref().zip(row.line);
        if let Some((evidence, finding)) = place.and_then(|place| cited.get(&place)) {
            row.evidence = Some(evidence.reference.clone());
            row.finding = Some(finding.id.clone());
        }
    }
    rows.sort_by(|a, b| {
        (a.datetime, &a.node, a.timestamp_desc, &a.message).cmp(&(b.datetime, &b.node, b.timestamp_desc, &b.message))
    });
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_nine_digits_and_an_offset_and_is_read_again() {
        for (given, written) in [
            ("2026-11-23T03:11:42.118Z", "2026-11-23T03:11:42.118000000+00:00"),
            ("2026-11-23T03:11:42Z", "2026-11-23T03:11:42.000000000+00:00"),
        ] {
            let stamp = Stamp(given.parse().unwrap());
            assert_eq!(String::from(stamp), written);
            assert_eq!(Stamp::try_from(written.to_owned()).unwrap(), stamp);
        }
    }
}
