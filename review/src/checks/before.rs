//! A node against itself: what moved when its first anomaly began, against up to four times as long right before. No fault by itself:
//! where a reader looks next.

use std::time::Duration;

use casefile_proto::ids::NodeName;
use casefile_proto::time::{WallTime, Window};

use crate::casefile::{CaseFile, CaseFileError};
use crate::compare::{self, Row};
use crate::finding::{Confidence, Evidence, EvidenceKind, Finding, Severity};

/// The id of the check.
pub const ID: &str = "outlier.before";

/// What it looks for.
pub const TITLE: &str = "What moved on a node when its first anomaly began";

/// How much of what follows an anomaly is looked at: what comes later has other causes too.
const AFTER: Duration = Duration::from_secs(300);

/// Less before it says nothing of what is ordinary.
const LEAST_BEFORE: Duration = Duration::from_secs(60);

/// The most series that are named.
const NAMED: usize = 5;

/// What moved; an empty list where nothing did, and `None` where there is not enough before the anomaly.
///
/// # Errors
/// When the case file cannot be read.
pub fn moved(casefile: &mut CaseFile, node: &NodeName, at: WallTime) -> Result<Option<Vec<Finding>>, CaseFileError> {
    let window = casefile.coverage.window;
    let Ok(since) = Window::new(at.max(window.from()), at.after(AFTER).min(window.until())) else { return Ok(None) };
    let Some(before) = compare::before(since, window.from()) else { return Ok(None) };
    if before.until().nanos_since(before.from()) < i64::try_from(LEAST_BEFORE.as_nanos()).unwrap_or(i64::MAX) {
        return Ok(None);
    }
    let (comparison, _damaged) = compare::of_times(casefile, node, since, before)?;
    let told: Vec<&Row> = comparison.rows.iter().filter(|row| row.effect.is_some()).take(NAMED).collect();
    if told.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let entry = casefile.recordings(Some(node)).into_iter().map(|(_, entry)| entry).next();
    let evidence = |row: &&Row| {
        let (a, b) = (row.a?, row.b?);
        let text = format!("{} was {} on average, {} before", named(row), short(a.mean), short(b.mean));
        let mut evidence = Evidence::new(EvidenceKind::Series, Some(node), text);
        evidence.entry.clone_from(&entry);
        evidence.at = Some(since.from());
        evidence.metric = Some(row.metric.clone());
        evidence.labels.clone_from(&row.labels);
        (evidence.from, evidence.until) = (Some(since.from()), Some(since.until()));
        evidence.value = Some(a.mean);
        evidence.unit = Some(row.unit.clone());
        Some(evidence)
    };
    let names: Vec<_> = told.iter().map(|row| named(row)).collect();
    Ok(Some(vec![Finding {
        id: String::new(),
        kind: ID.to_owned(),
        check: ID.to_owned(),
        severity: Severity::Info,
        confidence: Confidence::Low,
        node: Some(node.clone()),
        subject: None,
        summary: format!("what moved most from then on: {}", names.join(", ")),
        meaning: None,
        now: Some("casefile diff shows all that moved, and by how much".to_owned()),
        not_proof: vec!["a cause: what follows from the fault moves too".to_owned()],
        first: Some(since.from()),
        last: Some(since.until()),
        count: told.len() as u64,
        pod: None,
        part_of: None,
        evidence: told.iter().filter_map(evidence).collect(),
    }]))
}

fn named(row: &Row) -> String {
    let labels: Vec<_> = row.labels.values().filter(|value| !value.is_empty()).map(String::as_str).collect();
    if labels.is_empty() { row.metric.clone() } else { format!("{} of {}", row.metric, labels.join(" ")) }
}

/// Three significant digits.
pub(super) fn short(value: f64) -> String {
    let size = value.abs();
    if size >= 1e6 || (size > 0.0 && size < 1e-3) {
        format!("{value:.2e}")
    } else if size >= 100.0 {
        format!("{value:.0}")
    } else if size >= 1.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    }
}
