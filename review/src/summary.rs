//! The summary that a person reads in ten seconds: what it is, what is missing (worst first), what is there.
//!
//! Text only; colours and widths are the terminal's business. Every word that came from a node is made safe here.

use std::cmp::Reverse;
use std::fmt::Write;

use casefile_evidence::archive::layout::IncidentFile;
use casefile_proto::coverage::{Coverage, NodeState, OutcomeCounts, SourceCoverage, SourceKind};
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::time::Window;
use casefile_proto::units::Bytes;
use comfy_table::{Table, presets};
use serde::Serialize;

use crate::display::safe;

/// What stands in the place of a node where something of the cluster is missing. No node can have this name.
pub const CLUSTER: &str = "(cluster)";

/// One thing that is missing, with where it belongs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing<'a> {
    /// The node, or [`CLUSTER`].
    pub node: &'a str,
    /// The source, or the kind of objects; `None` for the node, or the cluster, as a whole.
    pub source: Option<&'a str>,
    /// What is missing and why.
    #[serde(flatten)]
    pub gap: &'a Gap,
}

/// Everything that is missing, worst first.
pub fn missing(coverage: &Coverage) -> Vec<Missing<'_>> {
    let of_nodes = coverage.nodes.iter().flat_map(|node| {
        let name = node.node.as_str();
        let whole = node.gaps.iter().map(move |gap| Missing { node: name, source: None, gap });
        let sources = node.sources.iter();
        whole.chain(
            sources
                .flat_map(move |s| s.gaps.iter().map(move |gap| Missing { node: name, source: Some(&s.source), gap })),
        )
    });
    let of_cluster = coverage.cluster.iter().flat_map(|cluster| {
        let whole = cluster.gaps.iter().map(|gap| Missing { node: CLUSTER, source: None, gap });
        whole.chain(
            cluster
                .kinds
                .iter()
                .flat_map(|kind| kind.gaps.iter().map(|gap| Missing { node: CLUSTER, source: Some(&kind.kind), gap })),
        )
    });
    let mut all: Vec<_> = of_nodes.chain(of_cluster).collect();
    // Stable: within one rank the order of nodes and sources stays.
    all.sort_by_key(|m| (Reverse(badness(m.gap.reason)), m.source.is_some()));
    all
}

/// How much a reader must mind a reason: what is lost for ever first, what this machine never had last.
pub const fn badness(reason: GapReason) -> u8 {
    match reason {
        GapReason::NodeSilent => 9,
        GapReason::NodeRebooted => 8,
        GapReason::RingOverwritten
        | GapReason::RotatedAway
        | GapReason::RateLimited
        | GapReason::NotRecorded
        | GapReason::CollectorAway => 7,
        GapReason::TimedOut | GapReason::SourceFailed | GapReason::ParseFailed => 6,
        GapReason::Budget | GapReason::Cancelled => 5,
        GapReason::ClockUncertain => 4,
        GapReason::PermissionDenied | GapReason::RefusedUnsafePath => 3,
        GapReason::SourceAbsent => 1,
    }
}

/// The whole summary: head, what is missing, coverage.
pub fn render(incident: &IncidentFile, coverage: &Coverage) -> String {
    let mut out = head(incident, coverage);
    out.push('\n');
    out.push_str(&render_coverage(coverage));
    out
}

/// What is missing (worst first), then every node × source.
pub fn render_coverage(coverage: &Coverage) -> String {
    let mut out = String::new();
    if !coverage.scope.is_everything() {
        out.push_str(&format!("Asked: {}. What was not asked is not missing.\n\n", safe(&coverage.scope.to_string())));
    }
    let missing = missing(coverage);
    let (lost, never): (Vec<_>, Vec<_>) = missing.iter().partition(|m| m.gap.reason != GapReason::SourceAbsent);
    if lost.is_empty() {
        out.push_str("Missing: nothing that this was able to see.\n");
    } else {
        out.push_str(&format!("Missing ({}), worst first:\n", lost.len()));
        out.push_str(&rows(folded(&lost).iter().map(|(sources, m)| missing_row(sources, m, coverage.window))));
    }
    if !never.is_empty() {
        out.push_str("\nNot on this machine (no gap):\n");
        out.push_str(&rows(folded(&never).iter().map(|(sources, m)| missing_row(sources, m, coverage.window))));
    }
    out.push_str("\nCoverage, node × source:\n");
    let mut all: Vec<_> = coverage.nodes.iter().flat_map(|n| n.sources.iter().map(move |s| (n, s))).collect();
    all.sort_by_key(|(_, s)| Reverse(s.gaps.iter().map(|g| badness(g.reason)).max().unwrap_or(0)));
    let mut table = table();
    table.set_header(["  NODE", "SOURCE", "KIND", "OUTCOME", "COVERED", "RECORDS", "BYTES"]);
    for (node, source) in all {
        table.add_row([
            format!("  {}", safe(node.node.as_str())),
            safe(&source.source),
            kind(source.kind).to_owned(),
            outcome(source),
            covered(source),
            source.records.to_string(),
            if source.cost.bytes == 0 { String::new() } else { Bytes(source.cost.bytes).to_string() },
        ]);
    }
    out.push_str(&finish(&table));
    out.push_str(&masked(coverage));
    out.push_str(&cluster(coverage));
    out
}

/// What there is of the cluster; nothing when there is none.
fn cluster(coverage: &Coverage) -> String {
    let Some(cluster) = &coverage.cluster else { return String::new() };
    let narrowed = match &cluster.namespaces[..] {
        [] => String::new(),
        names => format!(", of namespaces only {}", safe(&names.join(", "))),
    };
    let mut out = format!("\nCluster, as of the end of the window{narrowed}:\n");
    let mut table = table();
    table.set_header(["  KIND", "COVERED", "OBJECTS", "CHANGES"]);
    for kind in &cluster.kinds {
        let seconds: f64 = kind.covered.iter().map(|w| w.duration().as_secs_f64()).sum();
        let share = 100.0 * seconds / cluster.asked.duration().as_secs_f64();
        // What was not read has no number.
        let number = |n: u64| if kind.covered.is_empty() && n == 0 { "-".to_owned() } else { n.to_string() };
        let covered = if kind.covered.is_empty() { "-".to_owned() } else { format!("{:.0} %", share.floor()) };
        table.add_row([format!("  {}", safe(&kind.kind)), covered, number(kind.objects), number(kind.changes)]);
    }
    out.push_str(&finish(&table));
    out
}

/// What was replaced with tokens, for every row that had something; nothing when nothing was.
fn masked(coverage: &Coverage) -> String {
    let all = || coverage.nodes.iter().flat_map(|n| n.sources.iter().map(move |s| (n, s)));
    let found: Vec<_> = all()
        .filter_map(|(node, source)| Some((node, source, source.redaction.as_ref()?)))
        .filter(|(.., redaction)| !redaction.rules.is_empty())
        .collect();
    if found.is_empty() {
        return String::new();
    }
    let total = found.iter().flat_map(|(.., r)| r.rules.values()).fold(0_u64, |sum, n| sum.saturating_add(*n));
    let rows = rows(found.iter().map(|(node, source, redaction)| {
        let rules: Vec<_> = redaction.rules.iter().map(|(rule, n)| format!("{n} {}", safe(rule))).collect();
        let key = format!("key {}", safe(&redaction.key_id));
        [format!("  {}", safe(node.node.as_str())), safe(&source.source), key, rules.join(", ")]
    }));
    format!("\nMasked on the nodes, before anything was stored or sent ({total}):\n{rows}")
}

fn head(incident: &IncidentFile, coverage: &Coverage) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let mut line = |name: &str, text: String| {
        let _infallible = writeln!(out, "{name:<9} {text}");
    };
    let id = incident.id.map_or_else(|| "case file".to_owned(), |id| id.to_string());
    line(&id, safe(&incident.title));
    if incident.synthetic {
        line("SYNTHETIC", "nothing in it happened anywhere: it was made up for a demonstration or a drill".to_owned());
    }
    let verified = if incident.requested_by_verified { "" } else { " (as the caller said)" };
    line("asked", format!("{}, by {}{verified}", incident.severity, safe(&incident.requested_by)));
    if !incident.reason.is_empty() {
        line("reason", safe(&incident.reason));
    }
    if let Some(runbook) = &incident.runbook {
        line("runbook", safe(runbook));
    }
    line("window", window(coverage.window));
    line("nodes", nodes(coverage));
    let key = incident.signing_key.as_deref().map_or_else(|| "unsigned".to_owned(), |key| format!("key {}", safe(key)));
    if let Some(before) = &incident.amends {
        let revision = before.revision.saturating_add(1);
        line("revision", format!("{revision}, amends {}", safe(&before.file_name)));
        line("came back", amended(coverage));
    }
    line("sealed", format!("{} by {}, {key}", incident.sealed_at.to_seconds_text(), safe(&incident.sealed_by)));
    out
}

/// Which nodes came back after an earlier archive, and how many gaps of it that closed.
fn amended(coverage: &Coverage) -> String {
    let each = coverage.nodes.iter().filter_map(|n| {
        let amendment = n.amended.as_ref()?;
        Some(format!("{} in revision {}, {} gaps closed", n.node, amendment.revision, amendment.closed.len()))
    });
    each.collect::<Vec<_>>().join("; ")
}

fn nodes(coverage: &Coverage) -> String {
    let of = |state| coverage.nodes.iter().filter(|n| n.state == state).count();
    let mut parts = vec![];
    for (state, word) in [
        (NodeState::Answered, "answered"),
        (NodeState::Trimmed, "cut short"),
        (NodeState::LastWords, "silent, sealed from last words"),
        (NodeState::Silent, "silent, nothing here"),
    ] {
        match of(state) {
            0 => {}
            n => parts.push(format!("{n} {word}")),
        }
    }
    format!("{} asked: {}", coverage.nodes.len(), parts.join(", "))
}

/// `2026-11-23T02:44:10Z to 2026-11-23T03:14:10Z (30m)`.
pub fn window(window: Window) -> String {
    format!(
        "{} to {} ({})",
        window.from().to_seconds_text(),
        window.until().to_seconds_text(),
        length(u64::try_from(window.duration().as_nanos()).unwrap_or(u64::MAX))
    )
}

/// Nanoseconds for people: `250ms`, `10.5s`, `30m`, `1h30m`.
pub fn length(nanos: u64) -> String {
    let (millis, secs) = (nanos / 1_000_000, nanos / 1_000_000_000);
    match secs {
        0 => format!("{millis}ms"),
        1..60 if !millis.is_multiple_of(1000) => format!("{}.{}s", secs, millis % 1000 / 100),
        1..60 => format!("{secs}s"),
        60..3600 if secs.is_multiple_of(60) => format!("{}m", secs / 60),
        60..3600 => format!("{}m{}s", secs / 60, secs % 60),
        _ if secs / 60 % 60 == 0 => format!("{}h", secs / 3600),
        _ => format!("{}h{}m", secs / 3600, secs / 60 % 60),
    }
}

/// What is missing of several sources for one and the same reason, in one row: a dead node is one story, not twenty.
fn folded<'a>(missing: &[&'a Missing<'a>]) -> Vec<(Vec<&'a str>, &'a Missing<'a>)> {
    let mut rows: Vec<(Vec<&str>, &Missing<'_>)> = Vec::new();
    for m in missing {
        let source = m.source.unwrap_or(if m.node == CLUSTER { "all" } else { "(node)" });
        match rows.iter_mut().find(|(_, known)| known.node == m.node && known.gap == m.gap) {
            Some((sources, _)) => sources.push(source),
            None => rows.push((vec![source], m)),
        }
    }
    rows
}

fn missing_row(sources: &[&str], missing: &Missing<'_>, whole: Window) -> [String; 5] {
    let gap = missing.gap;
    let when = match gap.interval {
        Some(interval) if interval != whole => {
            format!(
                "{} +{}",
                interval.from().to_seconds_text(),
                length(u64::try_from(interval.duration().as_nanos()).unwrap_or(u64::MAX))
            )
        }
        _ => "the whole window".to_owned(),
    };
    let count = gap.count.map(|n| format!("{n}× ")).unwrap_or_default();
    [
        format!("  {}", safe(missing.node)),
        safe(&sources.join(", ")),
        gap.reason.to_string(),
        when,
        format!("{count}{}", safe(&gap.detail)),
    ]
}

fn kind(kind: SourceKind) -> &'static str {
    match kind {
        SourceKind::Metrics => "metrics",
        SourceKind::Logs => "logs",
        SourceKind::State => "state",
    }
}

/// How a source fared in one or two words: `complete`, `58 complete, 2 timed out`, or its worst reason.
pub fn outcome(source: &SourceCoverage) -> String {
    if source.outcomes.total() > 0 {
        return counts(&source.outcomes);
    }
    match source.gaps.iter().map(|g| g.reason).max_by_key(|r| badness(*r)) {
        None => "complete".to_owned(),
        Some(GapReason::SourceAbsent) => "absent".to_owned(),
        Some(worst) if source.items == 0 => worst.to_string(),
        Some(worst) => format!("partial: {worst}"),
    }
}

/// `complete`, or every outcome with its count.
pub fn counts(counts: &OutcomeCounts) -> String {
    let parts: Vec<_> = [
        (counts.complete, "complete"),
        (counts.partial, "partial"),
        (counts.absent, "absent"),
        (counts.failed, "failed"),
        (counts.timed_out, "timed out"),
        (counts.skipped, "skipped"),
    ]
    .into_iter()
    .filter(|(n, _)| *n > 0)
    .collect();
    match parts.as_slice() {
        [] => "no tick".to_owned(),
        [(_, word)] => (*word).to_owned(),
        many => many.iter().map(|(n, word)| format!("{n} {word}")).collect::<Vec<_>>().join(", "),
    }
}

/// The part of what was asked that was read, rounded down so that only all of it says 100 %.
fn covered(source: &SourceCoverage) -> String {
    if source.kind == SourceKind::State {
        return "at collection".to_owned();
    }
    let asked = source.asked.duration().as_nanos().max(1);
    let read: u128 = source.covered.iter().map(|w| w.duration().as_nanos()).sum();
    format!("{} %", (read * 100 / asked).min(100))
}

fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

fn rows<const N: usize>(rows: impl Iterator<Item = [String; N]>) -> String {
    let mut table = table();
    table.add_rows(rows);
    finish(&table)
}

fn finish(table: &Table) -> String {
    let mut out: String = table.lines().map(|l| l.trim_end().to_owned() + "\n").collect();
    if table.is_empty() && table.header().is_none() {
        out.clear();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use casefile_proto::coverage::{Cost, NodeCoverage, Redaction};
    use casefile_proto::scope::Scope;
    use casefile_proto::time::WallTime;

    fn coverage() -> Coverage {
        let asked = Window::new(WallTime::from_secs(0), WallTime::from_secs(60)).unwrap();
        let row = |source: &str, kind, gaps: Vec<Gap>| SourceCoverage {
            source: source.to_owned(),
            kind,
            asked,
            covered: if gaps.is_empty() { vec![asked] } else { vec![] },
            outcomes: OutcomeCounts::default(),
            records: 3,
            items: 1,
            gaps,
            cost: Cost::default(),
            redaction: None,
        };
        Coverage {
            window: asked,
            cluster: None,
            nodes: vec![NodeCoverage {
                node: "n1".parse().unwrap(),
                state: NodeState::LastWords,
                clock: None,
                sources: vec![
                    row("pods", SourceKind::Logs, vec![Gap::new(GapReason::SourceAbsent, "no /var/log/pods")]),
                    row("kernel", SourceKind::Logs, vec![Gap::new(GapReason::RotatedAway, "evil\x1b[2J").counting(7)]),
                    row("cpu", SourceKind::Metrics, vec![]),
                ],
                gaps: vec![Gap::new(GapReason::NodeSilent, "no answer")],
                amended: None,
            }],
            scope: Scope::default(),
        }
    }

    #[test]
    fn what_is_lost_comes_before_what_never_was() {
        let coverage = coverage();
        let order: Vec<_> = missing(&coverage).iter().map(|m| m.gap.reason).collect();
        assert_eq!(order, [GapReason::NodeSilent, GapReason::RotatedAway, GapReason::SourceAbsent]);
    }

    #[test]
    fn what_was_masked_is_counted_by_rule_and_silence_about_it_is_not_a_zero() {
        assert!(!render_coverage(&coverage()).contains("Masked"));
        let mut coverage = coverage();
        let rules = [("jwt".to_owned(), 12), ("\x1b[2J".to_owned(), 1)].into();
        coverage.nodes[0].sources[1].redaction = Some(Redaction { key_id: "1a2b3c4d".to_owned(), rules });
        let text = render_coverage(&coverage);
        assert!(text.contains("before anything was stored or sent (13):"), "{text}");
        assert!(text.contains("key 1a2b3c4d") && text.contains("12 jwt") && !text.contains('\x1b'), "{text}");
    }

    #[test]
    fn every_source_and_every_gap_is_named_and_nothing_can_be_injected() {
        let text = render_coverage(&coverage());
        for word in
            ["pods", "kernel", "cpu", "rotated-away", "node-silent", "source-absent", "7× evil\\u{1b}[2J", "100 %"]
        {
            assert!(text.contains(word), "{word} is not in\n{text}");
        }
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn a_length_reads_like_a_length() {
        for (nanos, text) in [
            (250_000_000, "250ms"),
            (10_500_000_000, "10.5s"),
            (1_800_000_000_000, "30m"),
            (5_400_000_000_000, "1h30m"),
            (90_000_000_000, "1m30s"),
        ] {
            assert_eq!(length(nanos), text);
        }
    }
}
