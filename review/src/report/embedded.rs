//! What a report carries of its case file: the answers that the page asks for, made small. The rest stays in the archive, and the
//! report says so.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use casefile_proto::ids::NodeName;
use casefile_proto::item::EntryPath;
use casefile_proto::time::{WallTime, Window};
use casefile_proto::units::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use crate::casefile::CaseFile;
use crate::derived::{self, Strand};
use crate::finding::{EvidenceKind, Finding, Severity};
use crate::logs::{self, Selector};
use crate::page::documents::Documents;
use crate::page::lines::{LogLine, cited, log_line};
use crate::page::series::{columns, largest};
use crate::page::templates::{Seen, Templates};
use crate::page::{compare, node, overview, postmortem};
use crate::review::cost;
use crate::seriesset::SeriesSet;
use crate::use_matrix;

/// Columns of a series.
const COLUMNS: usize = 600;
/// The fewest columns, of a very short window.
const MIN_COLUMNS: usize = 60;
/// What all series together may have, in bytes of the report.
const MAX_SERIES: usize = 2_400_000;
/// Strands of one metric on one node.
const MAX_STRANDS: usize = 6;
/// What all rows of the timeline may have, in bytes.
const MAX_TIMELINE: usize = 700_000;
/// Citations with their lines.
const MAX_CITED: usize = 400;
/// Lines on each side of a cited one.
const AROUND: u64 = 8;
/// Cited lines that begin further behind in their entry are not looked for: they stand in the archive.
const MAX_OFFSET: u64 = 64 << 20;
/// Lines around findings, in all.
const MAX_LINES: usize = 2_500;
/// Lines around one finding.
const MAX_LINES_EACH: usize = 120;
/// How far around a finding lines are taken.
const LINES_AROUND: std::time::Duration = std::time::Duration::from_secs(15);
/// Templates.
const MAX_TEMPLATES: usize = 400;
/// Findings that stand in the report with all they say.
const MAX_FINDINGS: usize = 400;
/// What they may have, in bytes.
const MAX_FINDING_BYTES: usize = 1_500_000;
/// What all citations with the lines around them may have, in bytes.
const MAX_CITED_BYTES: usize = 2_000_000;
/// What the texts of the lines around findings may have, in bytes.
const MAX_LINE_BYTES: usize = 1_000_000;
/// Nodes that are compared with another of their kind.
const MAX_COMPARED: usize = 8;
/// Rows of one comparison.
const COMPARED_ROWS: usize = 60;
/// Lines that are looked at for that: the first of each log around each finding.
const MAX_CANDIDATES: usize = 10_000;

/// What every node has: the strips of the timeline.
const STRIPS: &[&str] = &[
    "cpu_busy_ratio",
    "memory_used_ratio",
    "node_pressure_cpu_waiting_seconds_total",
    "node_pressure_memory_waiting_seconds_total",
    "node_pressure_io_waiting_seconds_total",
    "DCGM_FI_DEV_GPU_UTIL",
];

/// What nodes have while there is room, those with findings first.
const CHARTS: &[&str] = &[
    "node_pressure_memory_stalled_seconds_total",
    "node_pressure_io_stalled_seconds_total",
    "disk_busy_ratio",
    "disk_wait_seconds",
    "disk_bytes_per_second",
    "filesystem_used_ratio",
    "network_bytes_per_second",
    "network_drops_per_second",
    "node_load1",
    "node_procs_blocked",
    "node_vmstat_pgmajfault",
    "container_memory_rss",
    "container_cpu_usage_seconds_total",
    "DCGM_FI_DEV_POWER_USAGE",
    "DCGM_FI_DEV_GPU_TEMP",
    "DCGM_FI_DEV_FB_USED",
    "casefile_gpu_state",
];

/// A series in few bytes: two characters a column, `..` where nothing was read.
#[derive(Serialize)]
struct Packed {
    node: NodeName,
    metric: String,
    labels: BTreeMap<String, String>,
    unit: &'static str,
    kind: &'static str,
    lo: f64,
    hi: f64,
    /// The smallest value of each column.
    q: String,
    /// The largest, where it is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    p: Option<String>,
}

/// The data of a report, and what is to be said of what is not in it.
pub(super) struct Embedded {
    /// The data.
    pub(super) json: Value,
    /// What stayed in the archive, in words.
    pub(super) left: Vec<String>,
}

/// Reads what a report carries.
pub(super) fn embedded(case: &mut CaseFile, documents: &Documents, budget: Option<Bytes>) -> Embedded {
    let mut left = Vec::new();
    let window = case.incident.window;
    let cols = usize::try_from(window.duration().as_secs()).unwrap_or(COLUMNS).clamp(MIN_COLUMNS, COLUMNS);
    let mut shown = documents.clone();
    let mut room = MAX_FINDING_BYTES;
    let size = |finding: &Finding| serde_json::to_string(finding).map_or(0, |json| json.len());
    let fits = |finding: &&Finding| {
        let fitting = room.checked_sub(size(finding));
        room = fitting.unwrap_or(0);
        fitting.is_some()
    };
    let fitting = shown.findings.iter().take(MAX_FINDINGS).take_while(fits).count();
    if shown.findings.len() > fitting {
        left.push(format!("{} findings of the lowest rank", shown.findings.len() - fitting));
        shown.findings.truncate(fitting);
    }
    let mut room = budget.map_or(u64::MAX, |budget| budget.0);
    let (series, nodes) = series(case, &shown, (window, cols), &mut room, &mut left);
    let (lines, templates) = if take(case, None, "logs/", &mut room) {
        lines(case, &shown, &mut left)
    } else {
        left.push("log lines: there are so many that they would have held up sealing".to_owned());
        (Vec::new(), json!({ "templates": [], "left_out": 0, "others": 0, "anomaly": null }))
    };
    let evidence = evidence(case, &shown, &mut left);
    let timeline = timeline(&shown, &mut left);
    let grave =
        |(node, worst): (NodeName, Option<Severity>)| worst.is_some_and(|w| w >= Severity::Error).then_some(node);
    let grave: Vec<_> = ranked(case, &shown.findings).into_iter().filter_map(grave).take(MAX_COMPARED).collect();
    let compared: Vec<_> = grave.iter().filter_map(|n| compare::of_report(case, &shown, n, COMPARED_ROWS)).collect();
    let json = json!({
        "format": 1,
        "review": overview::overview(case, &shown),
        "timeline": timeline,
        "nodes": nodes,
        "series": { "from": window.from(), "until": window.until(), "cols": cols, "list": series },
        "evidence": evidence,
        "logs": { "lines": lines, "note": "a report holds the lines around its findings; the others are in the archive" },
        "templates": templates,
        "compare": compared,
        "postmortem": { "sections": postmortem::draft(case, &shown) },
        "left": left,
    });
    Embedded { json, left }
}

/// The nodes, those with the gravest findings first.
fn ranked(case: &CaseFile, findings: &[Finding]) -> Vec<(NodeName, Option<Severity>)> {
    let worst = |node: &NodeName| findings.iter().filter(|f| f.node.as_ref() == Some(node)).map(|f| f.severity).max();
    let mut nodes: Vec<_> = case.coverage.nodes.iter().map(|row| (row.node.clone(), worst(&row.node))).collect();
    nodes.sort_by(|a, b| a.1.is_none().cmp(&b.1.is_none()).then(b.1.cmp(&a.1)).then_with(|| a.0.cmp(&b.0)));
    nodes
}

fn series(
    case: &mut CaseFile,
    documents: &Documents,
    (window, cols): (Window, usize),
    to_read: &mut u64,
    left: &mut Vec<String>,
) -> (Vec<Packed>, BTreeMap<String, Value>) {
    let nodes = ranked(case, &documents.findings);
    // Cited series stand in the report whatever they are called.
    let mut cited: BTreeMap<NodeName, BTreeSet<String>> = BTreeMap::new();
    for evidence in documents.findings.iter().flat_map(|f| &f.evidence) {
        if let (Some(node), Some(metric), EvidenceKind::Series) = (&evidence.node, &evidence.metric, evidence.kind) {
            cited.entry(node.clone()).or_default().insert(metric.clone());
        }
    }
    // Every node's strips have their room before any node's charts.
    let strip_room = nodes.len() * STRIPS.len() * (2 * cols + 200);
    let mut room = MAX_SERIES.saturating_sub(strip_room);
    let (mut packed, mut views, mut without, mut unread) = (Vec::new(), BTreeMap::new(), 0_usize, 0_usize);
    for (node, _) in &nodes {
        if !take(case, Some(node), "recording/", to_read) {
            unread += 1;
            continue;
        }
        let more = cited.remove(node).unwrap_or_default();
        let names: Vec<&str> = STRIPS.iter().chain(CHARTS).copied().chain(more.iter().map(String::as_str)).collect();
        let wanted = |name: &str| derived::needed(&names, name) || derived::needed(use_matrix::WANTED, name);
        let Ok(set) = SeriesSet::load(case, node, &|_, metric| wanted(&metric.name)) else { continue };
        if let Some(row) = case.node(node).cloned() {
            views.insert(node.to_string(), node::view(case, &row, &set));
        }
        let pods: Vec<&str> = documents.findings.iter().filter_map(|f| f.pod.as_ref()?.uid.as_deref()).collect();
        let mut seen = BTreeSet::new();
        for name in names.iter().filter(|name| seen.insert(**name)) {
            let (strands, _) = chosen(derived::strands(&set, name), name, &pods);
            let all: Vec<_> = strands.into_iter().map(|s| pack(&set, node, name, s, window, cols)).collect();
            let size: usize = all.iter().map(Packed::size).sum();
            if STRIPS.contains(name) {
                packed.extend(all);
            } else if size <= room {
                room -= size;
                packed.extend(all);
            } else {
                without += all.len();
            }
        }
    }
    if unread > 0 {
        left.push(format!("the charts of {unread} nodes: so many recordings would have held up sealing"));
    }
    if without > 0 {
        left.push(format!("{without} series of nodes with fewer findings"));
    }
    (packed, views)
}

/// Takes the cost of items from the room that is left, when it fits.
fn take(case: &CaseFile, node: Option<&NodeName>, below: &str, room: &mut u64) -> bool {
    let cost = cost(case, node, |item| item.starts_with(below));
    let fits = cost <= *room;
    if fits {
        *room -= cost;
    }
    fits
}

/// The largest strands, and of containers those of the pods that findings are about before them.
fn chosen(all: Vec<Strand>, name: &str, pods: &[&str]) -> (Vec<Strand>, usize) {
    if !name.starts_with("container_") {
        return largest(all, MAX_STRANDS);
    }
    // A kernel writes a uid with dashes or with underscores in the name of a cgroup.
    let about = |s: &Strand| {
        let id = s.labels.get("id").map(|id| id.replace('_', "-")).unwrap_or_default();
        pods.iter().any(|uid| !uid.is_empty() && id.contains(uid))
    };
    let (mut kept, others): (Vec<_>, Vec<_>) = all.into_iter().partition(about);
    kept.truncate(MAX_STRANDS);
    let room = MAX_STRANDS - kept.len();
    let (more, without) = largest(others, room);
    kept.extend(more);
    (kept, without)
}

impl Packed {
    fn size(&self) -> usize {
        let labels: usize = self.labels.iter().map(|(name, value)| name.len() + value.len() + 6).sum();
        self.q.len()
            + self.p.as_ref().map_or(0, String::len)
            + labels
            + self.metric.len()
            + self.node.as_str().len()
            + 100
    }
}

fn pack(set: &SeriesSet, node: &NodeName, metric: &str, strand: Strand, window: Window, cols: usize) -> Packed {
    let columns = columns(set, node, metric, strand, window, cols);
    let all = columns.min.iter().chain(columns.max.iter().flatten()).flatten().copied();
    let (lo, hi) = all.fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), v| (lo.min(v), hi.max(v)));
    let (lo, hi) = if lo <= hi { (lo, hi) } else { (0.0, 0.0) };
    Packed {
        node: columns.node,
        metric: columns.metric,
        labels: columns.labels,
        unit: columns.unit,
        kind: columns.kind,
        lo,
        hi,
        q: steps(&columns.min, lo, hi),
        p: columns.max.map(|max| steps(&max, lo, hi)),
    }
}

/// Of each value which of 4,096 steps between `lo` and `hi` it is, in two characters.
fn steps(values: &[Option<f64>], lo: f64, hi: f64) -> String {
    const STEPS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::with_capacity(2 * values.len());
    for value in values {
        let Some(value) = value.filter(|v| v.is_finite()) else {
            out.push_str("..");
            continue;
        };
        let part = if hi > lo { (value - lo) / (hi - lo) } else { 0.0 };
        let step = (part * 4095.0).round().clamp(0.0, 4095.0) as usize;
        out.push(char::from(STEPS[step >> 6]));
        out.push(char::from(STEPS[step & 63]));
    }
    out
}

/// The lines around findings, and the templates of all lines: in one pass over the logs, of which nothing else is kept.
fn lines(case: &mut CaseFile, documents: &Documents, left: &mut Vec<String>) -> (Vec<LogLine>, Value) {
    let mut around: BTreeMap<NodeName, Vec<Around>> = BTreeMap::new();
    for finding in documents.findings.iter().filter(|f| f.severity > Severity::Info) {
        for evidence in finding.evidence.iter().take(3) {
            if let (Some(node), Some(at)) = (&evidence.node, evidence.at) {
                let place = Around { from: at.before(LINES_AROUND), until: at.after(LINES_AROUND), taken: 0, of: None };
                around.entry(node.clone()).or_default().push(place);
            }
        }
    }
    let (mut lines, mut templates, mut total) = (Vec::new(), Templates::default(), 0_u64);
    let told = logs::unsorted(case, &Selector::default(), &mut |line| {
        if line.continues {
            return ControlFlow::Continue(());
        }
        total += 1;
        let shown = log_line(line);
        templates.count(&Seen {
            at: shown.at,
            node: shown.node.as_str(),
            label: &shown.label,
            entry: shown.entry.as_str(),
            line: shown.line,
            text: &shown.text,
        });
        let places = shown.at.zip(around.get_mut(&shown.node));
        let place = places.and_then(|(at, all)| all.iter_mut().find(|p| p.from <= at && at <= p.until));
        if let Some(place) = place
            && place.takes(&shown)
            && lines.len() < MAX_CANDIDATES
        {
            lines.push(shown);
        }
        ControlFlow::Continue(())
    });
    lines.sort_by(|a, b| (a.at, &a.node, &a.entry, a.line).cmp(&(b.at, &b.node, &b.entry, b.line)));
    let mut taken: BTreeMap<(NodeName, usize), usize> = BTreeMap::new();
    lines.retain(|line| {
        let places = line.at.zip(around.get(&line.node));
        let Some(place) = places.and_then(|(at, all)| all.iter().position(|p| p.from <= at && at <= p.until)) else {
            return false;
        };
        let taken = taken.entry((line.node.clone(), place)).or_default();
        *taken += 1;
        *taken <= MAX_LINES_EACH
    });
    lines.truncate(MAX_LINES);
    let mut room = MAX_LINE_BYTES;
    let fits = |line: &&LogLine| {
        let fitting = room.checked_sub(line.text.len());
        room = fitting.unwrap_or(0);
        fitting.is_some()
    };
    let fitting = lines.iter().take_while(fits).count();
    lines.truncate(fitting);
    match told {
        Ok(told) => {
            left.extend(told.damaged.iter().map(|(entry, why)| format!("a part of {entry}: {why}")));
        }
        Err(error) => left.push(format!("log lines: {}", crate::casefile::chain(&error))),
    }
    let beside = total.saturating_sub(lines.len() as u64);
    if beside > 0 {
        left.push(format!("{beside} log lines that are not around findings"));
    }
    let others = templates.others;
    let anomaly = documents.first_anomaly();
    let mut all = templates.finish(anomaly);
    let left_out = all.len().saturating_sub(MAX_TEMPLATES);
    all.truncate(MAX_TEMPLATES);
    (lines, json!({ "templates": all, "left_out": left_out, "others": others, "anomaly": anomaly }))
}

/// A part of the window of which lines are taken.
struct Around {
    from: WallTime,
    until: WallTime,
    /// How many of the log that is read now.
    taken: usize,
    of: Option<EntryPath>,
}

impl Around {
    /// Whether one more line is taken: no log may take the room of another.
    fn takes(&mut self, line: &LogLine) -> bool {
        if self.of.as_ref() != Some(&line.entry) {
            (self.of, self.taken) = (Some(line.entry.clone()), 0);
        }
        self.taken += 1;
        self.taken <= MAX_LINES_EACH
    }
}

fn evidence(case: &mut CaseFile, documents: &Documents, left: &mut Vec<String>) -> BTreeMap<String, Value> {
    let mut out = BTreeMap::new();
    let (mut without, mut room) = (0, MAX_CITED_BYTES);
    for evidence in documents.findings.iter().flat_map(|f| &f.evidence) {
        if out.contains_key(&evidence.reference) {
            continue;
        }
        let is_far = evidence.offset.is_some_and(|offset| offset > MAX_OFFSET);
        let around = if out.len() >= MAX_CITED || is_far {
            None
        } else {
            let Some(cited) = cited(case, documents, &evidence.reference, AROUND) else { continue };
            serde_json::to_value(cited).ok().filter(|value| {
                let fitting = room.checked_sub(value.to_string().len());
                room = fitting.unwrap_or(room);
                fitting.is_some()
            })
        };
        let value = around.unwrap_or_else(|| {
            without += 1;
            let why = "the lines around it are in the archive: casefile review FILE";
            json!({ "evidence": evidence, "findings": [], "around": null, "unread": why })
        });
        out.insert(evidence.reference.clone(), value);
    }
    if without > 0 {
        left.push(format!("the lines around {without} citations"));
    }
    out
}

/// The rows of the timeline, the gravest first where not all have room; in the order of time.
fn timeline(documents: &Documents, left: &mut Vec<String>) -> Value {
    let rank = |row: &Value| {
        let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
        let plain = matches!(text("timestamp_desc"), "kernel" | "event" | "kubernetes" | "node");
        match text("severity") {
            "FATAL" => 0,
            "ERROR" => 1,
            _ if !plain => 2,
            "WARN" => 3,
            _ => 4,
        }
    };
    let mut order: Vec<usize> = (0..documents.rows.len()).collect();
    order.sort_by_key(|n| (rank(&documents.rows[*n]), *n));
    let mut room = MAX_TIMELINE;
    let mut kept = BTreeSet::new();
    for n in order {
        let size = documents.rows[n].to_string().len() + 1;
        if size > room {
            break;
        }
        room -= size;
        kept.insert(n);
    }
    let left_out = documents.rows.len() - kept.len();
    if left_out > 0 {
        left.push(format!("{left_out} rows of the timeline, the least grave"));
    }
    json!({ "rows": kept.iter().map(|n| &documents.rows[*n]).collect::<Vec<_>>(), "left_out": left_out })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_has_two_characters_and_one_of_which_nothing_was_read_has_dots() {
        assert_eq!(steps(&[Some(1.0), None, Some(3.0), Some(2.0), Some(f64::NAN)], 1.0, 3.0), "AA..__gA..");
        assert_eq!(steps(&[Some(5.0)], 5.0, 5.0), "AA");
    }

    #[test]
    fn of_a_timeline_that_is_too_long_the_gravest_rows_stay_in_their_order() {
        let row = |n: usize, severity: &str| json!({ "n": n, "severity": severity, "timestamp_desc": "kernel", "message": "x".repeat(MAX_TIMELINE / 4) });
        let rows = vec![row(0, "INFO"), row(1, "INFO"), row(2, "ERROR"), row(3, "INFO"), row(4, "FATAL")];
        let mut left = Vec::new();
        let told = timeline(&Documents { rows, ..Documents::default() }, &mut left);
        let kept: Vec<_> = told["rows"].as_array().unwrap().iter().map(|r| r["n"].as_u64().unwrap()).collect();
        assert_eq!((kept, &told["left_out"]), (vec![0, 2, 4], &json!(2)));
        assert_eq!(left.len(), 1);
    }
}
