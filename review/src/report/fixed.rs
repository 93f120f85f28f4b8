//! What a report says without scripts, and on paper: the verdict, the findings with what they rest on, what is missing, what had
//! changed, a bounded timeline and the draft of a post-mortem.

use casefile_proto::coverage::SourceKind;
use casefile_proto::time::WallTime;
use serde_json::Value;

use super::html::Html;
use crate::casefile::CaseFile;
use crate::finding::{Evidence, Finding, Severity};
use crate::page::documents::Documents;
use crate::page::overview::{Overview, Whole, overview};
use crate::page::postmortem::{self, Section, state};

/// Findings that are told with all they say.
const MAX_FINDINGS: usize = 60;
/// Citations of one finding.
const MAX_CITED: usize = 6;
/// How much of a cited text is told, in characters.
const MAX_TEXT: usize = 600;
/// Rows of the timeline.
const MAX_ROWS: usize = 300;
/// Gaps that are told one by one.
const MAX_GAPS: usize = 60;
/// Changes.
const MAX_CHANGES: usize = 60;

/// Writes it.
pub(super) fn fixed(html: &mut Html, case: &CaseFile, documents: &Documents, left: &[String]) {
    let view = overview(case, documents);
    html.raw("<main id=\"static\">\n");
    if case.incident.synthetic {
        html.raw("<div class=\"synthetic\">SYNTHETIC<span>made by a generator: no machine ever was in this state</span></div>\n");
    }
    title(html, &view);
    verdict(html, documents);
    findings(html, &documents.findings);
    coverage(html, &view);
    changes(html, documents);
    checks(html, documents);
    timeline(html, documents);
    sections(html, &postmortem::draft(case, documents));
    html.raw("<h2>Not in this report</h2>\n<ul>");
    for what in left {
        html.within("<li>", what, "</li>");
    }
    html.raw("<li>every byte else: it is in the archive; <code>casefile review FILE</code> opens it whole</li></ul>\n</main>\n");
}

fn title(html: &mut Html, view: &Overview<'_>) {
    let incident = view.incident;
    html.raw("<h1>");
    if let Some(id) = incident.id {
        html.text(&format!("{id} ")).raw("<span class=\"muted\">");
        html.text(&incident.severity.to_string()).raw("</span> ");
    }
    html.text(&incident.title).raw("</h1>\n<p class=\"muted\">");
    html.text(&format!(
        "{} to {} (UTC), {} s",
        incident.window.from(),
        incident.window.until(),
        incident.window.duration().as_secs()
    ));
    if !incident.reason.is_empty() {
        html.text(&format!(" · {}", incident.reason));
    }
    html.text(&format!(" · sealed {} by {}", incident.sealed_at, incident.sealed_by)).raw("</p>\n");
    if view.truncated {
        html.raw("<p class=\"bad\">The file ends early: what is listed may not all be in it.</p>\n");
    }
    for (what, why) in view.unread.iter().take(10) {
        html.raw("<p class=\"bad\">").text(&format!("{what}: {why}")).raw("</p>\n");
    }
}

fn verdict(html: &mut Html, documents: &Documents) {
    html.raw("<section class=\"verdict ");
    html.raw(match documents.findings.first().map(|f| f.severity) {
        Some(Severity::Fatal) => "fatal",
        Some(Severity::Error) => "error",
        _ => "calm",
    });
    html.raw("\"><p class=\"sentence\">");
    match documents.verdict("sentence").and_then(Value::as_str) {
        Some(sentence) => {
            for (n, part) in sentence_lines(sentence).into_iter().enumerate() {
                html.raw(if n > 0 { "<br>" } else { "" });
                citing(html, part);
            }
        }
        None => {
            html.raw("This case file holds no review: its findings have not been looked for.");
        }
    }
    html.raw("</p>\n");
    if let Some(first) = documents.verdict("first_anomaly") {
        let part = |name: &str| first.get(name).and_then(Value::as_str).unwrap_or_default();
        html.raw("<p class=\"first\">First anomaly <b>").text(part("at")).raw("</b>");
        if !part("node").is_empty() {
            html.raw(" on <b>").text(part("node")).raw("</b>");
        }
        html.text(&format!(" ({})", part("finding"))).raw("</p>\n");
    }
    html.raw("</section>\n");
}

/// The sentence, a line for each node that it names: it has `; node: ` between them.
fn sentence_lines(sentence: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let (mut begin, mut from) = (0, 0);
    while let Some(at) = sentence[from..].find("; ").map(|at| from + at) {
        let rest = &sentence[at + 2..];
        let name = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "-._".contains(c)));
        if name.is_some_and(|end| end > 0 && rest[end..].starts_with(": ")) {
            lines.push(&sentence[begin..at]);
            begin = at + 2;
        }
        from = at + 2;
    }
    lines.push(&sentence[begin..]);
    lines
}

/// A text in which what it cites, `[E1, E2]`, leads to where that is told.
fn citing(html: &mut Html, text: &str) {
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("[E") {
        html.text(before);
        let Some((inside, behind)) = after.split_once(']') else {
            html.text("[E").text(after);
            return;
        };
        for (n, name) in format!("E{inside}").split(", ").enumerate() {
            html.raw(if n > 0 { " " } else { "" });
            reference(html, name);
        }
        rest = behind;
    }
    html.text(rest);
}

/// `[E5]`, which leads to where E5 is told.
fn reference(html: &mut Html, reference: &str) {
    if is_reference(reference) {
        html.raw("<a class=\"cite\" href=\"#told-").text(reference).raw("\">[").text(reference).raw("]</a>");
    } else {
        html.text(&format!("[{reference}]"));
    }
}

/// Whether it is one of our names for evidence, and may stand in an attribute.
fn is_reference(text: &str) -> bool {
    text.strip_prefix('E').is_some_and(|n| !n.is_empty() && n.len() < 10 && n.bytes().all(|b| b.is_ascii_digit()))
}

fn severity(html: &mut Html, severity: Severity) {
    let (class, word) = match severity {
        Severity::Fatal => ("<span class=\"sev fatal\">●", "fatal"),
        Severity::Error => ("<span class=\"sev error\">▲", "error"),
        Severity::Warning => ("<span class=\"sev warning\">△", "warning"),
        Severity::Info => ("<span class=\"sev info\">○", "info"),
    };
    html.raw(class).raw("<span class=\"word\">").raw(word).raw("</span></span> ");
}

fn findings(html: &mut Html, findings: &[Finding]) {
    html.raw("<h2>Findings</h2>\n");
    if findings.is_empty() {
        html.raw("<p>Nothing was found in what was recorded.</p>\n");
    }
    let mut told = std::collections::BTreeSet::new();
    for finding in findings.iter().take(MAX_FINDINGS) {
        html.raw("<article class=\"finding\"><h3>");
        severity(html, finding.severity);
        html.text(&finding.summary).raw("</h3>\n<p class=\"meta\">");
        html.raw("<span>").text(&finding.id).raw("</span> <span class=\"kind\">").text(&finding.kind).raw("</span>");
        if let Some(node) = &finding.node {
            html.raw(" <span class=\"node\">").text(node.as_str()).raw("</span>");
        }
        if let Some(subject) = &finding.subject {
            html.raw(" <span>").text(subject).raw("</span>");
        }
        html.raw(" <span>").text(&when(finding)).raw("</span></p>\n<dl>");
        fact(html, "means", finding.meaning.as_deref());
        fact(html, "first action", finding.now.as_deref());
        let not_proof = finding.not_proof.join("; ");
        fact(html, "does not prove", Some(not_proof.as_str()).filter(|text| !text.is_empty()));
        fact(html, "beside", finding.part_of.as_deref());
        html.raw("</dl>\n<ol class=\"proof\">");
        for evidence in finding.evidence.iter().take(MAX_CITED) {
            proof(html, evidence, told.insert(evidence.reference.clone()));
        }
        html.raw("</ol>");
        let more = finding.evidence.len().saturating_sub(MAX_CITED);
        if more > 0 {
            html.raw("<p class=\"muted\">").text(&format!("and {more} more")).raw("</p>");
        }
        html.raw("</article>\n");
    }
    let more = findings.len().saturating_sub(MAX_FINDINGS);
    if more > 0 {
        html.raw("<p class=\"muted\">").text(&format!("and {more} findings of lower rank")).raw("</p>\n");
    }
}

fn when(finding: &Finding) -> String {
    let times = if finding.count == 1 { "once".to_owned() } else { format!("{} times", finding.count) };
    match (finding.first, finding.last) {
        (Some(first), Some(last)) if first != last => format!("{times}, {first} to {last}"),
        (Some(first), _) => format!("{times}, {first}"),
        _ => times,
    }
}

fn fact(html: &mut Html, name: &'static str, value: Option<&str>) {
    if let Some(value) = value {
        html.raw("<div class=\"fact\"><dt>").raw(name).raw("</dt><dd>").text(value).raw("</dd></div>");
    }
}

fn proof(html: &mut Html, evidence: &Evidence, first: bool) {
    html.raw("<li");
    if first && is_reference(&evidence.reference) {
        html.raw(" id=\"told-").text(&evidence.reference).raw("\"");
    }
    html.raw("><b>").text(&evidence.reference).raw("</b> <span>");
    let mut where_it_is: Vec<String> = Vec::new();
    where_it_is.extend(evidence.node.as_ref().map(ToString::to_string));
    where_it_is.extend(evidence.at.map(|at| at.to_string()));
    where_it_is.extend(evidence.entry.as_ref().map(|entry| match evidence.line {
        Some(line) => format!("{entry}:{line}"),
        None => entry.to_string(),
    }));
    where_it_is.extend(evidence.offset.map(|offset| format!("byte {offset}")));
    where_it_is.extend(evidence.sha256.map(|digest| format!("sha256 {digest}")));
    where_it_is.extend(evidence.metric.clone());
    html.text(&where_it_is.join(" · ")).raw("</span><pre>");
    let cut: String = evidence.text.chars().take(MAX_TEXT).collect();
    html.lines(&cut).raw(if cut.len() < evidence.text.len() { " …</pre></li>" } else { "</pre></li>" });
}

fn coverage(html: &mut Html, view: &Overview<'_>) {
    html.raw("<h2>Coverage</h2>\n<table class=\"rows\"><thead><tr><th>node</th><th>state</th><th>clock</th><th>not whole</th></tr></thead><tbody>\n");
    for node in &view.nodes {
        let clock = node.clock.map_or_else(
            || "not measured".to_owned(),
            |c| format!("{:.1} ms ahead, ±{:.1} ms", c.ahead_nanos as f64 / 1e6, c.bound_nanos as f64 / 1e6),
        );
        let part = |s: &&crate::page::overview::SourceView<'_>| matches!(s.whole, Whole::Part | Whole::Missing);
        let word = |s: &crate::page::overview::SourceView<'_>| {
            let kind = match s.kind {
                SourceKind::Metrics => "",
                SourceKind::Logs => " logs",
                SourceKind::State => " state",
            };
            let much = if s.whole == Whole::Missing { "nothing" } else { "a part" };
            format!("{}{kind}: {much}{}", s.source, s.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default())
        };
        let not_whole: Vec<_> = node.sources.iter().filter(part).map(word).collect();
        html.raw("<tr><td class=\"node\">").text(node.node.as_str()).raw("</td><td>").text(state(node.state));
        html.raw("</td><td>").text(&clock).raw("</td><td class=\"text\">");
        html.text(&if not_whole.is_empty() {
            "everything that was asked is here".to_owned()
        } else {
            not_whole.join("; ")
        });
        html.raw("</td></tr>\n");
    }
    html.raw("</tbody></table>\n");
    let of_nodes: Vec<_> = view.gaps.iter().filter(|gap| gap.source.is_none()).collect();
    if !of_nodes.is_empty() {
        html.raw("<h2>Gaps of whole nodes</h2>\n<ul class=\"plain\">");
        for gap in of_nodes.iter().take(MAX_GAPS) {
            let time = |at: Option<WallTime>| at.map_or_else(|| "–".to_owned(), |at| at.to_string());
            html.raw("<li><b>").text(gap.node.as_str()).raw("</b> ");
            html.text(&format!("{} {} to {} {}", gap.reason, time(gap.from), time(gap.until), gap.detail)).raw("</li>");
        }
        html.raw("</ul>\n");
    }
}

fn text<'v>(row: &'v Value, name: &str) -> &'v str {
    row.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn changes(html: &mut Html, documents: &Documents) {
    let all: Vec<_> = documents.findings.iter().filter(|finding| finding.check.starts_with("change.")).collect();
    html.raw("<h2>What had changed</h2>\n");
    if all.is_empty() {
        html.raw("<p>No change was found in what was recorded of it.</p>\n");
        return;
    }
    html.raw("<ul class=\"plain\">");
    for change in all.into_iter().take(MAX_CHANGES) {
        let node = change.node.as_ref().map(ToString::to_string).unwrap_or_default();
        html.raw("<li><b>").text(&node).raw("</b> ").text(&change.summary).raw("</li>");
    }
    html.raw("</ul>\n");
}

fn checks(html: &mut Html, documents: &Documents) {
    let checks = documents.review.as_ref().and_then(|review| review.get("checks")).and_then(Value::as_array);
    let Some(checks) = checks.filter(|checks| !checks.is_empty()) else { return };
    let count = |verdict: &str| checks.iter().filter(|check| text(check, "verdict") == verdict).count();
    html.raw("<h2>Checks</h2>\n<p>");
    html.text(&format!(
        "{} found something, {} are clear, {} cannot tell:",
        count("found"),
        count("clear"),
        count("cannot-tell")
    ));
    html.raw("</p><ul class=\"plain\">");
    for check in checks.iter().filter(|check| text(check, "verdict") == "cannot-tell").take(MAX_FINDINGS) {
        let missing = check.get("missing").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let missing: Vec<_> = missing.take(4).collect();
        html.raw("<li>")
            .text(&format!("{} {}: {}", text(check, "title"), text(check, "node"), missing.join(", ")))
            .raw("</li>");
    }
    html.raw("</ul>\n");
}

fn timeline(html: &mut Html, documents: &Documents) {
    let grave = |row: &&Value| {
        !matches!(text(row, "severity"), "INFO" | "")
            || matches!(text(row, "timestamp_desc"), "human" | "change" | "connectivity")
    };
    let all: Vec<_> = documents.rows.iter().filter(grave).collect();
    html.raw("<h2>Timeline</h2>\n<p class=\"muted\">");
    html.text(&format!(
        "{} of {} rows: warnings and worse, changes and people",
        all.len().min(MAX_ROWS),
        documents.rows.len()
    ));
    html.raw("</p>\n");
    rows(html, all.into_iter().take(MAX_ROWS));
}

fn rows<'v>(html: &mut Html, all: impl Iterator<Item = &'v Value>) {
    html.raw("<table class=\"rows\"><tbody>\n");
    for row in all {
        html.raw("<tr><td class=\"time\">").text(text(row, "datetime")).raw("</td><td>").text(text(row, "severity"));
        html.raw("</td><td class=\"node\">")
            .text(text(row, "node"))
            .raw("</td><td class=\"text\">")
            .text(text(row, "message"));
        html.raw("</td><td>");
        if !text(row, "evidence").is_empty() {
            reference(html, text(row, "evidence"));
        }
        html.raw("</td></tr>\n");
    }
    html.raw("</tbody></table>\n");
}

fn sections(html: &mut Html, sections: &[Section]) {
    html.raw("<h2>Post-mortem: a draft</h2>\n");
    // The timeline stands above already.
    for section in sections.iter().filter(|section| section.title != "Timeline") {
        html.within("<h3>", section.title, "</h3>\n");
        if !section.known.is_empty() {
            html.raw("<ul>");
            for known in &section.known {
                html.within("<li>", known, "</li>");
            }
            html.raw("</ul>\n");
        }
        if let Some(todo) = section.todo {
            html.raw("<p class=\"todo\">TODO ").text(todo).raw("</p>\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_has_a_line_for_each_node_and_no_more() {
        let sentence =
            "db-01: a disk stopped at 1 [E1]; web-02: killed, 2 times; it used 2 GiB [E5]; and 2 more. Of n7 not all.";
        let lines = sentence_lines(sentence);
        assert_eq!(lines.len(), 2);
        assert!(lines[1].starts_with("web-02: ") && lines[1].ends_with("not all."));
        assert_eq!(sentence_lines(""), [""]);
    }
}
