//! A post-mortem to begin with, in PagerDuty's sections: what the case file knows stands in it with its evidence, what only people
//! know is left to them. It names no person as a cause, and none at all but who opened the incident.

use serde::Serialize;
use serde_json::Value;

use super::documents::Documents;
use crate::casefile::CaseFile;
use crate::finding::Severity;

/// The most rows of its timeline.
const MAX_ROWS: usize = 120;
/// The most findings in it.
const MAX_FINDINGS: usize = 20;

/// A section.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Section {
    /// Its title.
    pub title: &'static str,
    /// What is known. May hold text from nodes: escape before showing.
    pub known: Vec<String>,
    /// Rows of `time, what, evidence`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<[String; 3]>,
    /// What people have to fill in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub todo: Option<&'static str>,
}

/// The sections.
pub fn draft(case: &CaseFile, documents: &Documents) -> Vec<Section> {
    let section = |title, known, todo| Section { title, known, rows: Vec::new(), todo };
    let grave = |f: &&crate::finding::Finding| f.severity >= Severity::Error && f.part_of.is_none();
    let told: Vec<_> = documents.findings.iter().filter(grave).take(MAX_FINDINGS).collect();
    let cited = |f: &crate::finding::Finding| {
        let refs: Vec<_> = f.evidence.iter().map(|e| e.reference.as_str()).collect();
        format!("{} [{}]", f.summary, refs.join(", "))
    };
    let factor = |f: &&crate::finding::Finding| match &f.meaning {
        Some(meaning) => format!("{} — {meaning}", cited(f)),
        None => cited(f),
    };
    let window = case.incident.window;
    vec![
        section(
            "Overview",
            vec![
                format!("{} ({}).", case.incident.title, case.incident.severity),
                format!("Window looked at: {} to {} (UTC).", window.from(), window.until()),
            ],
            Some("two sentences for someone who was not there"),
        ),
        section("What happened", told.iter().map(|f| cited(f)).collect(), Some("what users saw")),
        section(
            "Contributing factors",
            told.iter().map(factor).collect(),
            Some("which of these contributed, and what else did"),
        ),
        section("Resolution", Vec::new(), Some("what was done, when, and how it was known that it helped")),
        section("Impact", Vec::new(), Some("who was affected, how, and for how long")),
        section("Responders", opened(case), Some("who else responded, and in which role")),
        Section {
            title: "Timeline",
            known: Vec::new(),
            rows: rows(documents),
            todo: Some("what people did, with where that is recorded"),
        },
        section("What went well", Vec::new(), Some("to be filled in")),
        section("What did not go so well", coverage(case), Some("to be filled in")),
        section("Action items", first_actions(&told), Some("each with an owner and a ticket")),
    ]
}

fn opened(case: &CaseFile) -> Vec<String> {
    let incident = &case.incident;
    let by = if incident.requested_by.is_empty() { "nobody in particular" } else { &incident.requested_by };
    vec![format!("Opened by {by} ({:?}).", incident.trigger).to_lowercase().replacen('o', "O", 1)]
}

/// The rows that matter: not the ordinary lines.
fn rows(documents: &Documents) -> Vec<[String; 3]> {
    let text = |row: &Value, name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let matters = |row: &&Value| {
        let severity = text(row, "severity");
        let what = text(row, "timestamp_desc");
        matches!(severity.as_str(), "FATAL" | "ERROR")
            || matches!(what.as_str(), "human" | "change" | "connectivity" | "finding")
    };
    let row = |row: &Value| {
        let (node, message) = (text(row, "node"), text(row, "message"));
        let what = if node.is_empty() { message } else { format!("{node}: {message}") };
        [text(row, "datetime"), what, text(row, "evidence")]
    };
    documents.rows.iter().filter(matters).take(MAX_ROWS).map(row).collect()
}

fn coverage(case: &CaseFile) -> Vec<String> {
    let cut = case.coverage.nodes.iter().filter(|n| n.state != casefile_proto::coverage::NodeState::Answered);
    cut.map(|n| format!("Evidence of {} is not whole: {}.", n.node, state(n.state))).collect()
}

/// A state of a node in words.
pub fn state(state: casefile_proto::coverage::NodeState) -> &'static str {
    use casefile_proto::coverage::NodeState::{Answered, LastWords, Silent, Trimmed};
    match state {
        Answered => "answered",
        Trimmed => "cut short by the deadline",
        LastWords => "did not answer; what is here is what it had sent before",
        Silent => "nothing of it is here",
    }
}

fn first_actions(findings: &[&crate::finding::Finding]) -> Vec<String> {
    let mut actions: Vec<_> =
        findings.iter().filter_map(|f| f.now.as_ref().map(|now| format!("{now} [{}]", f.id))).collect();
    actions.dedup();
    actions
}
