//! The draft of a post-mortem in the sections of PagerDuty's template: what the case file knows is filled in, each row of the
//! timeline with where it stands; what only people know is `TODO`.
//!
//! It says what was seen and when, and never who is to blame or what it was for want of: contributing factors are for people.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;

use casefile_evidence::archive::layout::IncidentFile;
use casefile_proto::time::WallTime;

use crate::casefile::CaseFile;
use crate::finding::{Finding, Severity};
use crate::review::{CheckVerdict, Review};
use crate::timeline::{Row, What, word};
use crate::told::markdown;

use super::tables::wants_row;
use super::{Ask, ExportError, Form, Shape, Target, reviewed};

/// The name of the file.
const FILE: &str = "postmortem.md";

/// The most rows of its timeline: what a meeting can read.
const MAX_ROWS: usize = 100;

/// What is repeated of a message.
const MAX_MESSAGE: usize = 240;

/// What people fill in.
const TODO: &str = "TODO";

/// The form.
pub(super) static FORM: Form = Form {
    name: "postmortem",
    about: "a draft in the sections of PagerDuty's template, in Markdown; what only people know is TODO",
    then: "$EDITOR PATH",
    shape: Shape::File(FILE),
    write,
};

fn write(casefile: &mut CaseFile, ask: &Ask, target: &mut Target) -> Result<(), ExportError> {
    let review = reviewed(casefile, &mut target.done)?;
    let text = draft(&casefile.incident, &review, ask);
    let mut file = target.create(FILE)?;
    file.write_all(text.as_bytes()).map_err(ExportError::write(FILE))?;
    target.finish(FILE, file, text.lines().count() as u64)
}

/// The draft.
pub fn draft(incident: &IncidentFile, review: &Review, ask: &Ask) -> String {
    let mut out = String::new();
    let id = incident.id.map_or_else(|| "case file".to_owned(), |id| id.to_string());
    let part = |out: &mut String, text: &str| {
        // Writing to a String does not fail.
        let _infallible = writeln!(out, "{text}\n");
    };
    part(&mut out, &format!("# Post-mortem: {id} {}", markdown(&incident.title)));
    part(&mut out, &format!("**Postmortem owner:** {TODO}"));
    part(&mut out, &format!("**Meeting scheduled for:** {TODO}"));
    part(&mut out, &format!("**Call recording:** {TODO}"));
    part(&mut out, "## Overview");
    part(&mut out, &format!("{TODO}: one or two sentences on contributing factors, duration and impact."));
    part(&mut out, "## What Happened");
    part(&mut out, &what_happened(incident, review));
    part(&mut out, "## Contributing Factors");
    part(&mut out, &format!("{TODO}. What was found is listed above; which of it contributed, people decide."));
    part(&mut out, "## Resolution");
    part(&mut out, TODO);
    part(&mut out, "## Impact");
    part(&mut out, &impact(incident));
    part(&mut out, "## Responders");
    part(&mut out, &format!("* Incident commander: {TODO}\n* Scribe: {TODO}\n* Others: {TODO}"));
    part(&mut out, "## Timeline");
    part(&mut out, &timeline(review, ask));
    part(&mut out, "## How'd We Do?");
    part(&mut out, &format!("### What Went Well?\n\n* {TODO}"));
    part(&mut out, &format!("### What Didn't Go So Well?\n\n* {TODO}"));
    part(&mut out, &not_known(review));
    part(&mut out, "## Action Items");
    part(&mut out, &format!("| Action | Owner | Ticket |\n| ------ | ----- | ------ |\n| {TODO} | {TODO} | {TODO} |"));
    part(&mut out, "## Messaging");
    part(&mut out, &format!("### Internal Email\n\n{TODO}"));
    part(&mut out, &format!("### External Message\n\n{TODO}"));
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn what_happened(incident: &IncidentFile, review: &Review) -> String {
    let window = incident.window;
    let covered = &review.document.verdict.coverage;
    let mut out = format!("{}\n\n", markdown(&review.document.verdict.sentence));
    let _infallible = write!(
        out,
        "The evidence covers {} to {}; {} of {} nodes answered, {} ({}).",
        window.from(),
        window.until(),
        covered.answered,
        covered.nodes,
        if covered.gaps == 1 { "1 gap".to_owned() } else { format!("{} gaps", covered.gaps) },
        markdown(&review.document.by)
    );
    for finding in review.findings.iter().filter(|f| f.part_of.is_none() && f.severity >= Severity::Warning) {
        let with = review.findings.iter().filter(|f| f.part_of.as_deref() == Some(finding.id.as_str())).count();
        let with = if with > 0 { format!(", and {with} more that belong to it") } else { String::new() };
        let at = finding.first.map(|at| format!(" at {}", millis(at))).unwrap_or_default();
        let node = finding.node.as_ref().map(|node| format!(" {}", markdown(node.as_str()))).unwrap_or_default();
        let _infallible = write!(
            out,
            "\n{}* **{}** {}{node}{at}: {}{with} ({})",
            if out.ends_with(").") { "\n" } else { "" },
            markdown(&finding.id),
            word(finding.severity),
            markdown(&finding.summary),
            references(finding)
        );
    }
    out
}

fn references(finding: &Finding) -> String {
    let all: Vec<_> = finding.evidence.iter().take(8).map(|evidence| markdown(&evidence.reference)).collect();
    let more = finding.evidence.len() - all.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", all.join(", "))
}

fn impact(incident: &IncidentFile) -> String {
    let severity = incident.severity;
    let rows = ["Notifications delivered late", "Requests or events lost", "Accounts affected", "Users affected"];
    let rows: String = rows.iter().map(|row| format!("| {row} | {TODO} |\n")).collect();
    format!("| | |\n|-|-|\n| Time in {severity} | {TODO} |\n{rows}| Support requests raised | {TODO} |")
}

/// The rows that lead somewhere: findings and what they rest on, what people did, what is a warning or worse. From the
/// beginning, not backwards from the end.
fn timeline(review: &Review, ask: &Ask) -> String {
    let grave = review.findings.iter().filter(|finding| finding.severity >= Severity::Warning);
    let grave: BTreeSet<&str> = grave.map(|finding| finding.id.as_str()).collect();
    let counts = |row: &&Row| {
        let cited = row.finding.as_deref().is_some_and(|finding| grave.contains(finding));
        let told = cited
            || matches!(row.timestamp_desc, What::Human | What::Connectivity)
            || row.severity != word(Severity::Info);
        told && wants_row(ask, row)
    };
    let rows: Vec<_> = review.timeline.iter().filter(counts).collect();
    let mut out = "| Time (UTC) | Event | Data Link |\n| ---------- | ----- | --------- |".to_owned();
    for row in rows.iter().take(MAX_ROWS) {
        let node = if row.node.is_empty() { String::new() } else { format!("{}: ", markdown(&row.node)) };
        let cut = row.message.floor_char_boundary(MAX_MESSAGE);
        let (message, more) = (&row.message[..cut], if cut < row.message.len() { "…" } else { "" });
        let until = row.until.filter(|_| row.timestamp_desc == What::Gap);
        let lasting = until.map(|until| lasting(row, until.0)).unwrap_or_default();
        let _infallible = write!(
            out,
            "\n| {} | {node}{}{more}{lasting} | {} |",
            millis(row.datetime.0),
            markdown(message),
            link(row)
        );
    }
    if rows.len() > MAX_ROWS {
        let _infallible = write!(out, "\n\n{} more rows: `casefile timeline` has them.", rows.len() - MAX_ROWS);
    }
    out + "\n\nTODO: when people were paged, when the status page said so, what was done when, when it ended."
}

fn lasting(row: &Row, until: WallTime) -> String {
    format!(" (for {:.0} s)", until.nanos_since(row.datetime.0) as f64 / 1e9)
}

/// A time to the millisecond: the clocks of machines are seldom compared to less.
fn millis(at: WallTime) -> String {
    let seconds = at.to_seconds_text();
    let millis = at.nanos().rem_euclid(1_000_000_000) / 1_000_000;
    format!("{}.{millis:03}Z", seconds.trim_end_matches('Z'))
}

/// Where the row stands: the evidence or the finding, and entry and line.
fn link(row: &Row) -> String {
    let named = row.evidence.as_ref().or(row.finding.as_ref()).map(|name| markdown(name));
    let place = row.entry.as_ref().map(|entry| {
        let line = row.line.map(|line| format!(" line {line}")).unwrap_or_default();
        format!("{}{line}", markdown(entry))
    });
    let of_itself = || match row.timestamp_desc {
        What::Gap => "data/coverage.json",
        What::Human => "data/incident.json",
        What::Connectivity => "data/connectivity.jsonl",
        What::Kernel | What::Event | What::Kubernetes | What::Finding => "data/timeline.jsonl",
    };
    match (named, place) {
        (Some(named), Some(place)) => format!("{named}: {place}"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => markdown(of_itself()),
    }
}

/// What nobody can say out of this case file: a meeting that does not know it takes silence for health.
fn not_known(review: &Review) -> String {
    let unsure: Vec<_> = review.document.checks.iter().filter(|row| row.verdict == CheckVerdict::CannotTell).collect();
    let mut out = "### What The Evidence Cannot Tell".to_owned();
    if unsure.is_empty() {
        return out + "\n\nEvery check had what it needs.";
    }
    out.push('\n');
    for row in unsure {
        let nodes: Vec<_> = row.nodes.iter().take(4).map(|node| markdown(node.as_str())).collect();
        let more = row.nodes.len() - nodes.len();
        let more = if more > 0 { format!(" and {more} more nodes") } else { String::new() };
        let of = if nodes.is_empty() { String::new() } else { format!(" ({}{more})", nodes.join(", ")) };
        let missing: Vec<_> = row.missing.iter().map(|text| markdown(text)).collect();
        let _infallible = write!(out, "\n* {}{of}: {}", markdown(&row.title), missing.join("; "));
    }
    out
}
