//! Everything else of a case file that is made of rows: logs, the coverage, what the checks said, the timeline.

use std::ops::ControlFlow;

use casefile_proto::gap::Gap;
use casefile_proto::ids::NodeName;
use casefile_proto::item::EntryPath;
use casefile_proto::time::{ClockOffset, Window};

use crate::casefile::CaseFile;
use crate::display::safe;
use crate::finding::{Evidence, Finding};
use crate::logs::{self, Selector, corrected};
use crate::review::CheckRow;
use crate::timeline::Row;

use super::cells::{Cell, Column, Group, Kind, Rows, Table, lines, word};
use super::recorded::RECORDED;
use super::{Ask, ExportError, Exported, MEMORY, reviewed};

/// Every table, in groups that are filled together.
pub(super) static GROUPS: &[&Group] = &[&RECORDED, &LOGS, &COVERAGE, &REVIEWED];

static LOGS: Group = Group {
    tables: &[Table { name: "logs", about: "a record of a log", columns: LOG }],
    there: |_| true,
    fill: fill_logs,
};

static COVERAGE: Group = Group {
    tables: &[
        Table { name: "gaps", about: "something that is missing, and why", columns: GAP },
        Table { name: "sources", about: "a source of a node: what was asked and what is there", columns: SOURCE },
        Table { name: "nodes", about: "a node that was expected", columns: NODE },
    ],
    there: |_| true,
    fill: fill_coverage,
};

static REVIEWED: Group = Group {
    tables: &[
        Table { name: "findings", about: "what a check found", columns: FINDING },
        Table { name: "evidence", about: "what a finding rests on", columns: EVIDENCE },
        Table { name: "checks", about: "what a check said of a node: found, clear, or cannot-tell", columns: CHECK },
        Table { name: "timeline", about: "something that happened, in the order of time", columns: ROW },
    ],
    there: |_| true,
    fill: fill_reviewed,
};

const LOG: &[Column] = &[
    ("time", Kind::Time),
    ("node_time", Kind::Time),
    ("node", Kind::Text),
    ("source", Kind::Text),
    ("namespace", Kind::Text),
    ("pod", Kind::Text),
    ("container", Kind::Text),
    ("unit", Kind::Text),
    ("file", Kind::Text),
    ("stream", Kind::Text),
    ("entry", Kind::Text),
    ("line", Kind::Integer),
    ("text", Kind::Text),
];

const GAP: &[Column] = &[
    ("node", Kind::Text),
    ("source", Kind::Text),
    ("kind", Kind::Text),
    ("reason", Kind::Text),
    ("from_time", Kind::Time),
    ("until_time", Kind::Time),
    ("count", Kind::Integer),
    ("detail", Kind::Text),
];

const SOURCE: &[Column] = &[
    ("node", Kind::Text),
    ("source", Kind::Text),
    ("kind", Kind::Text),
    ("asked_from", Kind::Time),
    ("asked_until", Kind::Time),
    ("covered_seconds", Kind::Real),
    ("records", Kind::Integer),
    ("items", Kind::Integer),
    ("gaps", Kind::Integer),
    ("ticks_complete", Kind::Integer),
    ("ticks_partial", Kind::Integer),
    ("ticks_absent", Kind::Integer),
    ("ticks_failed", Kind::Integer),
    ("ticks_timed_out", Kind::Integer),
    ("ticks_skipped", Kind::Integer),
];

const NODE: &[Column] = &[
    ("node", Kind::Text),
    ("state", Kind::Text),
    ("clock_ahead_seconds", Kind::Real),
    ("clock_bound_seconds", Kind::Real),
    ("gaps", Kind::Integer),
];

const FINDING: &[Column] = &[
    ("id", Kind::Text),
    ("severity", Kind::Text),
    ("confidence", Kind::Text),
    ("kind", Kind::Text),
    ("check_id", Kind::Text),
    ("node", Kind::Text),
    ("subject", Kind::Text),
    ("summary", Kind::Text),
    ("meaning", Kind::Text),
    ("now", Kind::Text),
    ("not_proof", Kind::Text),
    ("first", Kind::Time),
    ("last", Kind::Time),
    ("count", Kind::Integer),
    ("namespace", Kind::Text),
    ("pod", Kind::Text),
    ("pod_uid", Kind::Text),
    ("part_of", Kind::Text),
    ("evidence", Kind::Text),
];

const EVIDENCE: &[Column] = &[
    ("ref", Kind::Text),
    ("finding", Kind::Text),
    ("kind", Kind::Text),
    ("node", Kind::Text),
    ("at", Kind::Time),
    ("entry", Kind::Text),
    ("line", Kind::Integer),
    ("byte_offset", Kind::Integer),
    ("sha256", Kind::Text),
    ("metric", Kind::Text),
    ("labels", Kind::Text),
    ("from_time", Kind::Time),
    ("until_time", Kind::Time),
    ("value", Kind::Real),
    ("unit", Kind::Text),
    ("text", Kind::Text),
];

const CHECK: &[Column] = &[
    ("check_id", Kind::Text),
    ("title", Kind::Text),
    ("node", Kind::Text),
    ("verdict", Kind::Text),
    ("missing", Kind::Text),
];

const ROW: &[Column] = &[
    ("time", Kind::Time),
    ("until_time", Kind::Time),
    ("what", Kind::Text),
    ("severity", Kind::Text),
    ("node", Kind::Text),
    ("id", Kind::Text),
    ("message", Kind::Text),
    ("finding", Kind::Text),
    ("evidence", Kind::Text),
    ("entry", Kind::Text),
    ("line", Kind::Integer),
];

fn fill_logs(casefile: &mut CaseFile, ask: &Ask, done: &mut Exported, out: &mut dyn Rows) -> Result<(), ExportError> {
    let selector = Selector { nodes: ask.nodes.clone(), range: ask.range, ..Selector::default() };
    let mut failed = Ok(());
    let told = logs::merged(casefile, &selector, MEMORY, &mut |line| {
        let origin = &line.log.origin;
        let named = [&origin.namespace, &origin.pod, &origin.container, &origin.unit, &origin.file];
        let named = named.map(|part| part.as_deref().map(safe));
        let [namespace, pod, container, unit, file] = named.each_ref().map(|part| Cell::text(part.as_deref()));
        let stream = line.stream.map(word);
        failed = out.row(
            0,
            &[
                Cell::time(line.when.map(|when| when.corrected)),
                Cell::time(line.when.map(|when| when.node)),
                Cell::Text(&safe(line.log.node.as_str())),
                Cell::Text(&safe(&origin.source)),
                namespace,
                pod,
                container,
                unit,
                file,
                Cell::text(stream.as_deref()),
                Cell::Text(line.log.entry.as_str()),
                Cell::count(line.number),
                Cell::Text(&lines(line.text)),
            ],
        );
        if failed.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    failed?;
    done.damaged.extend(told.damaged.into_iter().map(|(entry, why)| (entry.to_string(), why)));
    if told.unplaced > 0 {
        done.left_out.push(format!("{} record(s) of logs without a time that is understood", told.unplaced));
    }
    Ok(())
}

fn fill_coverage(casefile: &mut CaseFile, ask: &Ask, _: &mut Exported, out: &mut dyn Rows) -> Result<(), ExportError> {
    for row in casefile.coverage.nodes.iter().filter(|row| ask.wants_node(&row.node)) {
        let node = safe(row.node.as_str());
        for gap in &row.gaps {
            gap_row(out, (&node, None, None), gap, row.clock)?;
        }
        let mut gaps = row.gaps.len();
        for source in &row.sources {
            let (name, kind) = (safe(&source.source), word(source.kind));
            for gap in &source.gaps {
                gap_row(out, (&node, Some(&name), Some(&kind)), gap, row.clock)?;
            }
            gaps += source.gaps.len();
            let covered: f64 = source.covered.iter().map(|window| window.duration().as_secs_f64()).sum();
            let ticks = &source.outcomes;
            out.row(
                1,
                &[
                    Cell::Text(&node),
                    Cell::Text(&name),
                    Cell::Text(&kind),
                    Cell::Time(corrected(source.asked.from(), row.clock)),
                    Cell::Time(corrected(source.asked.until(), row.clock)),
                    Cell::Real(covered),
                    Cell::count(source.records),
                    Cell::count(source.items),
                    Cell::count(source.gaps.len()),
                    Cell::count(ticks.complete),
                    Cell::count(ticks.partial),
                    Cell::count(ticks.absent),
                    Cell::count(ticks.failed),
                    Cell::count(ticks.timed_out),
                    Cell::count(ticks.skipped),
                ],
            )?;
        }
        let seconds = |nanos: f64| Cell::Real(nanos / 1e9);
        out.row(
            2,
            &[
                Cell::Text(&node),
                Cell::Text(&word(row.state)),
                row.clock.map_or(Cell::None, |clock| seconds(clock.ahead_nanos as f64)),
                row.clock.map_or(Cell::None, |clock| seconds(clock.bound_nanos as f64)),
                Cell::count(gaps),
            ],
        )?;
    }
    Ok(())
}

fn gap_row(
    out: &mut dyn Rows,
    (node, source, kind): (&str, Option<&String>, Option<&String>),
    gap: &Gap,
    clock: Option<ClockOffset>,
) -> Result<(), ExportError> {
    out.row(
        0,
        &[
            Cell::Text(node),
            Cell::text(source.map(String::as_str)),
            Cell::text(kind.map(String::as_str)),
            Cell::Text(gap.reason.name()),
            Cell::time(gap.interval.map(|interval| corrected(interval.from(), clock))),
            Cell::time(gap.interval.map(|interval| corrected(interval.until(), clock))),
            Cell::counted(gap.count),
            Cell::Text(&safe(&gap.detail)),
        ],
    )
}

fn fill_reviewed(
    casefile: &mut CaseFile,
    ask: &Ask,
    done: &mut Exported,
    out: &mut dyn Rows,
) -> Result<(), ExportError> {
    let review = reviewed(casefile, done)?;
    let wanted = |node: &Option<NodeName>| node.as_ref().is_none_or(|node| ask.wants_node(node));
    for finding in review.findings.iter().filter(|finding| wanted(&finding.node)) {
        finding_row(finding, out)?;
        for evidence in &finding.evidence {
            evidence_row(&finding.id, evidence, out)?;
        }
    }
    for check in &review.document.checks {
        check_rows(check, ask, out)?;
    }
    for row in review.timeline.iter().filter(|row| wants_row(ask, row)) {
        timeline_row(row, out)?;
    }
    Ok(())
}

/// Whether a row of the timeline is wanted: what is about no node is about all, and an interval that reaches into the part of
/// the window belongs to it.
pub(super) fn wants_row(ask: &Ask, row: &Row) -> bool {
    let node = row.node.is_empty() || row.node.parse().is_ok_and(|node| ask.wants_node(&node));
    let inside = |range: Window| {
        let until = row.until.map_or(row.datetime.0, |until| until.0);
        range.contains(row.datetime.0) || (row.datetime.0 < range.from() && until > range.from())
    };
    node && ask.range.is_none_or(inside)
}

fn check_rows(check: &CheckRow, ask: &Ask, out: &mut dyn Rows) -> Result<(), ExportError> {
    let nodes = check.nodes.iter().filter(|node| ask.wants_node(node)).map(|node| Some(safe(node.as_str())));
    let nodes: Vec<_> = if check.nodes.is_empty() { vec![None] } else { nodes.collect() };
    let missing = lines(check.missing.join("\n").as_bytes());
    for node in nodes {
        out.row(
            2,
            &[
                Cell::Text(&safe(&check.id)),
                Cell::Text(&safe(&check.title)),
                Cell::text(node.as_deref()),
                Cell::Text(&word(check.verdict)),
                Cell::text(Some(missing.as_str()).filter(|text| !text.is_empty())),
            ],
        )?;
    }
    Ok(())
}

fn timeline_row(row: &Row, out: &mut dyn Rows) -> Result<(), ExportError> {
    let there = |text: &str| Some(safe(text)).filter(|text| !text.is_empty());
    let (node, id) = (there(&row.node), there(&row.id));
    let part = |part: &Option<String>| part.as_deref().map(safe);
    let (finding, evidence, entry) = (part(&row.finding), part(&row.evidence), part(&row.entry));
    out.row(
        3,
        &[
            Cell::Time(row.datetime.0),
            Cell::time(row.until.map(|until| until.0)),
            Cell::Text(&word(row.timestamp_desc)),
            Cell::Text(&safe(&row.severity)),
            Cell::text(node.as_deref()),
            Cell::text(id.as_deref()),
            Cell::Text(&lines(row.message.as_bytes())),
            Cell::text(finding.as_deref()),
            Cell::text(evidence.as_deref()),
            Cell::text(entry.as_deref()),
            Cell::counted(row.line),
        ],
    )
}

fn finding_row(finding: &Finding, out: &mut dyn Rows) -> Result<(), ExportError> {
    let shown = |text: &Option<String>| text.as_deref().map(|text| lines(text.as_bytes()));
    let pod = finding.pod.as_ref();
    let part = |part: fn(&crate::finding::Pod) -> &Option<String>| pod.and_then(|pod| shown(part(pod)));
    let refs: Vec<_> = finding.evidence.iter().map(|evidence| safe(&evidence.reference)).collect();
    let node = finding.node.as_ref().map(|node| safe(node.as_str()));
    let not_proof = finding.not_proof.iter().map(|text| lines(text.as_bytes())).collect::<Vec<_>>().join("\n");
    let (subject, meaning, now) = (shown(&finding.subject), shown(&finding.meaning), shown(&finding.now));
    let (namespace, name, uid) = (part(|p| &p.namespace), part(|p| &p.name), part(|p| &p.uid));
    out.row(
        0,
        &[
            Cell::Text(&safe(&finding.id)),
            Cell::Text(&word(finding.severity)),
            Cell::Text(&word(finding.confidence)),
            Cell::Text(&safe(&finding.kind)),
            Cell::Text(&safe(&finding.check)),
            Cell::text(node.as_deref()),
            Cell::text(subject.as_deref()),
            Cell::Text(&lines(finding.summary.as_bytes())),
            Cell::text(meaning.as_deref()),
            Cell::text(now.as_deref()),
            Cell::text(Some(not_proof.as_str()).filter(|text| !text.is_empty())),
            Cell::time(finding.first),
            Cell::time(finding.last),
            Cell::count(finding.count),
            Cell::text(namespace.as_deref()),
            Cell::text(name.as_deref()),
            Cell::text(uid.as_deref()),
            Cell::text(finding.part_of.as_deref().map(safe).as_deref()),
            Cell::Text(&refs.join(" ")),
        ],
    )
}

fn evidence_row(finding: &str, evidence: &Evidence, out: &mut dyn Rows) -> Result<(), ExportError> {
    let node = evidence.node.as_ref().map(|node| safe(node.as_str()));
    let labels = evidence.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let labels = (!evidence.labels.is_empty()).then(|| super::cells::labels(labels));
    let digest = evidence.sha256.as_ref().map(ToString::to_string);
    let (metric, unit) = (evidence.metric.as_deref().map(safe), evidence.unit.as_deref().map(safe));
    out.row(
        1,
        &[
            Cell::Text(&safe(&evidence.reference)),
            Cell::Text(&safe(finding)),
            Cell::Text(&word(evidence.kind)),
            Cell::text(node.as_deref()),
            Cell::time(evidence.at),
            Cell::text(evidence.entry.as_ref().map(EntryPath::as_str)),
            Cell::counted(evidence.line),
            Cell::counted(evidence.offset),
            Cell::text(digest.as_deref()),
            Cell::text(metric.as_deref()),
            Cell::text(labels.as_deref()),
            Cell::time(evidence.from),
            Cell::time(evidence.until),
            evidence.value.map_or(Cell::None, Cell::Real),
            Cell::text(unit.as_deref()),
            Cell::Text(&lines(evidence.text.as_bytes())),
        ],
    )
}
