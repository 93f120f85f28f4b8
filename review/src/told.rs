//! Findings, the verdict and the timeline as text: for a terminal, for a chat, for a post-mortem.
//!
//! Every text of a node is made safe here. Colours and widths are the terminal's business.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use casefile_evidence::archive::layout::IncidentFile;
use casefile_proto::ids::NodeName;
use casefile_proto::time::WallTime;

use crate::display::safe;
use crate::finding::{Evidence, EvidenceKind, Finding};
use crate::review::{CheckVerdict, Review};
use crate::timeline::{Row, word};

/// What stands on top of a summary: the sentence of the verdict, and what was seen first.
pub fn on_top(review: &Review) -> String {
    let verdict = &review.document.verdict;
    let first = verdict.first_anomaly.as_ref().map(|first| {
        let node = first.node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
        format!("First anomaly at {}{node} [{}].\n", first.at, safe(&first.finding))
    });
    format!("{}\n{}", safe(&verdict.sentence), first.unwrap_or_default())
}

/// The verdict, what leads, what belongs to it, and what could not be told.
pub fn verdict(review: &Review, incident: &IncidentFile) -> String {
    let verdict = &review.document.verdict;
    let mut out = String::new();
    // Writing to a String does not fail.
    let mut line = |text: &str| {
        let _infallible = writeln!(out, "{text}");
    };
    let id = incident.id.map_or_else(|| "no incident".to_owned(), |id| id.to_string());
    line(&format!(
        "{id}  {}  {}  {}",
        incident.severity,
        crate::summary::window(incident.window),
        safe(&incident.title)
    ));
    line("");
    line(on_top(review).trim_end());
    let covered = &verdict.coverage;
    let part = |count: u64, what: &str| if count == 0 { String::new() } else { format!(", {count} {what}") };
    line(&format!(
        "Coverage: {} of {} nodes answered{}{}{}; {}.",
        covered.answered,
        covered.nodes,
        part(covered.trimmed, "were cut short"),
        part(covered.last_words, "have last words only"),
        part(covered.silent, "gave nothing"),
        if covered.whole { "nothing is missing".to_owned() } else { format!("{} gaps", covered.gaps) }
    ));
    line("");
    for leader in review.findings.iter().filter(|finding| finding.part_of.is_none()) {
        line(finding(leader).trim_end());
        for member in review.findings.iter().filter(|f| f.part_of.as_deref() == Some(leader.id.as_str())) {
            line(&format!("         with it: {}", one_line(member)));
        }
    }
    for (n, text) in unsure(review).iter().enumerate() {
        if n == 0 {
            line("\nCannot tell:");
        }
        line(&format!("  {text}"));
    }
    out
}

/// What nobody can tell: a line for all checks that want for the same thing on the same nodes.
fn unsure(review: &Review) -> Vec<String> {
    /// More are not named one by one.
    const NAMED: usize = 3;
    type Same<'r> = (&'r [NodeName], BTreeSet<&'r str>);
    let mut same: BTreeMap<Same<'_>, Vec<&str>> = BTreeMap::new();
    for row in review.document.checks.iter().filter(|row| row.verdict == CheckVerdict::CannotTell) {
        // What is missing begins with the source that it is missing of; of all checks together only the reason says something.
        let why = row.missing.iter().map(|what| what.split_once(": ").map_or(what.as_str(), |(_, why)| why));
        let why = why.map(|why| why.split_once(' ').map_or(why, |(reason, _)| reason));
        same.entry((&row.nodes, why.collect())).or_default().push(&row.id);
    }
    let mut out = Vec::new();
    for ((nodes, why), checks) in &same {
        let names: Vec<_> = nodes.iter().map(|node| safe(node.as_str())).collect();
        let whose = match names.len() {
            0 => String::new(),
            1..=NAMED => format!("{}: ", names.join(", ")),
            n => format!("{n} nodes: "),
        };
        let which = if checks.len() <= NAMED { checks.join(", ") } else { format!("{} checks", checks.len()) };
        let rows = review.document.checks.iter().filter(|row| row.verdict == CheckVerdict::CannotTell);
        let whole = rows.filter(|row| row.nodes.as_slice() == *nodes && checks.contains(&row.id.as_str()));
        let whole: BTreeSet<_> = whole.flat_map(|row| &row.missing).map(String::as_str).collect();
        let why: Vec<_> = if checks.len() <= NAMED || whole.len() == 1 {
            whole.into_iter().collect()
        } else {
            why.iter().copied().collect()
        };
        out.push(format!("{whose}{}: {}", safe(&which), safe(&why.join("; "))));
    }
    out
}

/// A finding: what, where, when, what it means, what to do first, what it rests on.
pub fn finding(finding: &Finding) -> String {
    let mut out = format!("{}\n", one_line(finding));
    let mut line = |name: &str, text: &str| {
        let _infallible = writeln!(out, "         {name}: {}", safe(text));
    };
    if let Some(now) = &finding.now {
        line("now", now);
    }
    for not in &finding.not_proof {
        line("no proof", not);
    }
    out
}

/// `F1  FATAL  gpu-03  2026-11-23T03:07:10Z  GPU has fallen off the bus … [E1 E2]`.
pub fn one_line(finding: &Finding) -> String {
    let node = finding.node.as_ref().map_or("-", |node| node.as_str());
    let at = finding.first.map_or_else(|| "-".to_owned(), WallTime::to_seconds_text);
    let references: Vec<_> = finding.evidence.iter().map(|e| e.reference.as_str()).collect();
    let (id, severity) = (safe(&finding.id), word(finding.severity));
    format!(
        "{id:<4} {severity:<5} {}  {at}  {} ({}) [{}]",
        safe(node),
        safe(&finding.summary),
        safe(&finding.kind),
        safe(&references.join(" "))
    )
}

/// A row of the timeline as a line.
pub fn row(row: &Row) -> String {
    let node = if row.node.is_empty() { "-" } else { &row.node };
    let cites = row.evidence.as_ref().or(row.finding.as_ref()).map(|e| format!(" [{e}]")).unwrap_or_default();
    let until = row.until.map(|until| format!(" (until {})", until.0.to_seconds_text())).unwrap_or_default();
    let what = serde_json::to_value(row.timestamp_desc).ok();
    let what = what.as_ref().and_then(|w| w.as_str()).unwrap_or_default();
    format!(
        "{} {} {:<5} {what:<7} {}{until}{}",
        row.datetime.0,
        safe(node),
        safe(&row.severity),
        safe(&row.message),
        safe(&cites)
    )
}

/// A line for a chat or a post-mortem, in Markdown: what the evidence says, where it stands, and by which digest it is known.
pub fn citation(incident: &IncidentFile, finding: &Finding, evidence: &Evidence) -> String {
    let id = incident.id.map_or_else(|| "case file".to_owned(), |id| id.to_string());
    let node = evidence.node.as_ref().map(|node| format!(" {}", markdown(node.as_str()))).unwrap_or_default();
    let at = evidence.at.map(|at| format!(" {at}")).unwrap_or_default();
    let place = evidence.entry.as_ref().map(|entry| {
        let entry = markdown(entry.as_str());
        let line = evidence.line.map(|line| format!(" line {line}")).unwrap_or_default();
        let digest = evidence.sha256.map(|d| format!(", sha256 {}…", &d.to_string()[..12])).unwrap_or_default();
        format!(" ({entry}{line}{digest})")
    });
    let what = if evidence.kind == EvidenceKind::Line || evidence.kind == EvidenceKind::Event {
        code(&evidence.text)
    } else {
        markdown(&evidence.text)
    };
    let reference = markdown(&evidence.reference);
    let severity = word(finding.severity);
    format!("**{id} {reference}** {severity}{node}{at}: {what}{}", place.unwrap_or_default())
}

/// A finding as a line of Markdown, with the names of its evidence.
pub fn finding_citation(incident: &IncidentFile, finding: &Finding) -> String {
    let id = incident.id.map_or_else(|| "case file".to_owned(), |id| id.to_string());
    let node = finding.node.as_ref().map(|node| format!(" {}", markdown(node.as_str()))).unwrap_or_default();
    let at = finding.first.map(|at| format!(" {at}")).unwrap_or_default();
    let references: Vec<_> = finding.evidence.iter().map(|e| markdown(&e.reference)).collect();
    format!(
        "**{id} {}** {}{node}{at}: {} ({})",
        markdown(&finding.id),
        word(finding.severity),
        markdown(&finding.summary),
        references.join(", ")
    )
}

/// Text that Markdown shows as it is: nothing of it becomes markup, a link, a mention, a formula or HTML.
pub fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let safe = safe(text);
    // At the begin of a paragraph it would begin a list, or make a heading of what stands before it.
    if safe.starts_with(['-', '=']) {
        out.push('\\');
    }
    for c in safe.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\t' => out.push(' '),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '(' | ')' | '#' | '+' | '!' | '|' | '~' | '$' | '^' => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    unlinked(&out)
}

/// Addresses become links, and names of people mentions, in many readers by themselves, also where a backslash stands before them: a
/// space of no width within them keeps them texts.
fn unlinked(text: &str) -> String {
    // Twice, for three in a row are two pairs.
    let text = text.replace("//", "/\u{200b}/").replace("//", "/\u{200b}/").replace('@', "@\u{200b}");
    let mut out = String::with_capacity(text.len());
    for (n, c) in text.char_indices() {
        let begins =
            c == '.' && text[..n].get(n.saturating_sub(3)..).is_some_and(|www| www.eq_ignore_ascii_case("www"));
        out.push_str(if begins { "\u{200b}." } else { "" });
        if !begins {
            out.push(c);
        }
    }
    out
}

/// Text as code in Markdown, on one line. What could end the code, or the cell of a table around it, is text instead.
pub fn code(text: &str) -> String {
    if text.contains(['`', '|']) {
        return markdown(text);
    }
    let safe = safe(text).replace('\t', " ");
    if safe.trim().is_empty() { "(empty)".to_owned() } else { format!("`{safe}`") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_node_is_active_in_markdown() {
        let hostile =
            "[x](javascript:alert(1)) <img src=x onerror=alert(1)> `a` | b **c** ![i](http://e.vil) \x1b[2J\u{202e}";
        let shown = markdown(hostile);
        assert!(!shown.contains('<') && !shown.contains("](") && !shown.contains("://") && !shown.contains('\x1b'));
        assert_eq!(code("a b\nd"), "`a b\\u{a}d`");
        assert_eq!(code("a\\|`b"), "a\\\\\\|\\`b");
        assert_eq!(markdown("WwW.a.b me@b.c ftp://d"), "WwW\u{200b}.a.b me@\u{200b}b.c ftp:/\u{200b}/d");
        assert_eq!(markdown("- $x$ [^1]"), "\\- \\$x\\$ \\[\\^1\\]");
    }
}
