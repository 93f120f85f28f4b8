//! Lines: of all logs in the order of time, of one entry around a place, and those that a citation points at, with their offset and digest.

use std::fmt::Write;
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;

use casefile_evidence::archive::layout;
use casefile_proto::ids::NodeName;
use casefile_proto::item::{Digest, EntryPath};
use casefile_proto::time::{WallTime, Window};
use casefile_proto::units::Bytes;
use regex::bytes::RegexBuilder;
use serde::Serialize;

use super::documents::Documents;
use super::query::{Query, Refused};
use super::templates::{Seen, Template, Templates};
use crate::casefile::{CaseFile, CaseFileError, chain};
use crate::finding::Evidence;
use crate::logs::{self, Selector};

/// The most lines of one answer.
const MAX_LINES: usize = 5_000;
/// How many lines there are when nobody says.
const LINES: usize = 500;
/// The most lines on each side of a place.
const MAX_AROUND: usize = 500;
/// How much of a line is shown, in bytes.
const MAX_TEXT: usize = 4 << 10;
/// The most templates of one answer.
const MAX_TEMPLATES: usize = 500;
/// What a pattern may cost, in bytes of its program.
const MAX_PATTERN: usize = 1 << 20;
/// What is held in memory while lines are sorted.
const MEMORY: usize = 16 << 20;
/// The most that the manifest may have.
const MAX_MANIFEST: Bytes = Bytes::mib(64);

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LogLine {
    /// When, on the collector's clock.
    pub at: Option<WallTime>,
    /// The node.
    pub node: NodeName,
    /// The log source.
    pub source: String,
    /// From which log, in a word or two.
    pub label: String,
    /// The entry.
    pub entry: EntryPath,
    /// The line in it.
    pub line: u64,
    /// The text; bytes that are no text as `\xff`. Escape before showing.
    pub text: String,
}

/// Lines in the order of time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LogLines {
    /// The lines.
    pub lines: Vec<LogLine>,
    /// Where to go on: what `after` is to be; absent: there is no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Logs that were looked at.
    pub logs: u64,
    /// Known gaps of these logs.
    pub gaps: u64,
    /// Entries that could not be read to their end, and why.
    pub damaged: Vec<(EntryPath, String)>,
}

/// A line of an entry as it stands there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RawLine {
    /// Its number, from 1.
    pub line: u64,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Its text; bytes that are no text as `\xff`. Escape before showing.
    pub text: String,
    /// Whether it was cut.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

/// The lines of one entry around a place.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Around {
    /// The entry.
    pub entry: EntryPath,
    /// Its digest, as the manifest has it.
    pub sha256: Option<Digest>,
    /// Its size.
    pub size: u64,
    /// The lines.
    pub lines: Vec<RawLine>,
    /// What went wrong while it was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damaged: Option<String>,
}

/// What a citation points at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cited<'d> {
    /// The citation.
    pub evidence: &'d Evidence,
    /// The findings that cite it.
    pub findings: Vec<&'d str>,
    /// The lines around it, where it is a line.
    pub around: Option<Around>,
    /// Why there are none although it is a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
}

/// `logs?node=&source=&from=&until=&grep=&limit=&after=`, and the same with `collapse=1`: templates instead of lines.
pub(super) fn logs(case: &mut CaseFile, documents: &Documents, query: &Query) -> Result<serde_json::Value, Refused> {
    let selector = selector(case, query)?;
    let answer = if query.get("collapse").is_some() {
        let anomaly = documents.first_anomaly();
        let (templates, others) = templates(case, &selector, anomaly)?;
        let left_out = templates.len().saturating_sub(MAX_TEMPLATES);
        let shown: Vec<_> = templates.into_iter().take(MAX_TEMPLATES).collect();
        serde_json::json!({ "templates": shown, "left_out": left_out, "others": others, "anomaly": anomaly })
    } else {
        let limit = query.number("limit", LINES, MAX_LINES)?;
        let answer = lines(case, selector, limit, query.get("after"))?;
        serde_json::to_value(answer).map_err(|error| Refused::Unreadable(error.to_string()))?
    };
    Ok(answer)
}

fn selector(case: &CaseFile, query: &Query) -> Result<Selector, Refused> {
    let mut selector = Selector { nodes: query.node("node")?.into_iter().collect(), ..Selector::default() };
    selector.sources.extend(query.get("source").map(str::to_owned));
    if let Some(pattern) = query.get("grep") {
        let built = RegexBuilder::new(pattern).case_insensitive(true).size_limit(MAX_PATTERN).build();
        let pattern = built.map_err(|error| Refused::Question(format!("`grep` is no pattern: {error}")))?;
        selector.include.push(pattern);
    }
    // Without a range, lines that bear no time are wanted too.
    if query.get("from").is_some() || query.get("until").is_some() {
        selector.range = Some(query.window(case.incident.window)?);
    }
    Ok(selector)
}

/// Lines from `after` on: `TIME~N`, of which N of that time were given already.
pub(crate) fn lines(
    case: &mut CaseFile,
    mut selector: Selector,
    limit: usize,
    after: Option<&str>,
) -> Result<LogLines, Refused> {
    let mut skip = 0_usize;
    let mut from: Option<WallTime> = None;
    if let Some(after) = after {
        let bad = || Refused::Question("`after` is none that was given".to_owned());
        let (time, given) = after.split_once('~').ok_or_else(bad)?;
        skip = given.parse().map_err(|_| bad())?;
        if time != "-" {
            let time = time.parse().map_err(|_| bad())?;
            let whole = selector.range.unwrap_or(Window::new(time, WallTime::MAX).map_err(|_| bad())?);
            selector.range = Some(Window::new(time.max(whole.from()), whole.until()).map_err(|_| bad())?);
            from = Some(time);
        }
    }
    let mut out = LogLines { lines: Vec::new(), next: None, logs: 0, gaps: 0, damaged: Vec::new() };
    // How many of the time of the last line have been given, with those that were skipped.
    let mut of_time = (from, 0_usize);
    let told = logs::merged(case, &selector, MEMORY, &mut |line| {
        let at = line.when.map(|when| when.corrected);
        if out.lines.len() >= limit {
            let (time, given) = of_time;
            out.next = Some(format!("{}~{given}", time.map_or_else(|| "-".to_owned(), |t| t.to_string())));
            return ControlFlow::Break(());
        }
        if of_time.0 != at {
            of_time = (at, 0);
        }
        of_time.1 += 1;
        if at == from && skip > 0 {
            skip -= 1;
            return ControlFlow::Continue(());
        }
        out.lines.push(log_line(line));
        ControlFlow::Continue(())
    })?;
    out.logs = told.logs;
    out.gaps = told.gaps;
    out.damaged = told.damaged;
    Ok(out)
}

/// A line as it is shown.
pub(crate) fn log_line(line: &logs::Line<'_>) -> LogLine {
    LogLine {
        at: line.when.map(|when| when.corrected),
        node: line.log.node.clone(),
        source: line.log.origin.source.clone(),
        label: line.log.origin.label(),
        entry: line.log.entry.clone(),
        line: line.number,
        text: text(line.text).0,
    }
}

/// The templates of the selected lines, and of how many lines there were too many.
pub(crate) fn templates(
    case: &mut CaseFile,
    selector: &Selector,
    anomaly: Option<WallTime>,
) -> Result<(Vec<Template>, u64), CaseFileError> {
    let mut all = Templates::default();
    logs::merged(case, selector, MEMORY, &mut |line| {
        if !line.continues {
            all.count(&Seen {
                at: line.when.map(|when| when.corrected),
                node: line.log.node.as_str(),
                label: &line.log.origin.label(),
                entry: line.log.entry.as_str(),
                line: line.number,
                text: &text(line.text).0,
            });
        }
        ControlFlow::Continue(())
    })?;
    let others = all.others;
    Ok((all.finish(anomaly), others))
}

/// The text as it stands there, cut; bytes that are no text as `\xff`. A backslash stays one: this is read, and not made bytes again.
fn text(bytes: &[u8]) -> (String, bool) {
    let cut = bytes.len() > MAX_TEXT;
    let mut out = String::new();
    for piece in bytes.get(..MAX_TEXT).unwrap_or(bytes).utf8_chunks() {
        out.push_str(piece.valid());
        for byte in piece.invalid() {
            // Writing to a String does not fail.
            let _infallible = write!(out, "\\x{byte:02x}");
        }
    }
    (out, cut)
}

/// `lines?entry=&line=&around=`.
pub(super) fn around(case: &mut CaseFile, query: &Query) -> Result<Around, Refused> {
    let bad = |_| Refused::Question("`entry` is no path of an entry".to_owned());
    let entry: EntryPath = query.need("entry")?.parse().map_err(bad)?;
    let line = query.number("line", 1, usize::MAX)?;
    let around = query.number("around", 20, MAX_AROUND)?;
    lines_around(case, &entry, line as u64, around as u64)
}

/// `evidence?ref=&around=`.
pub(super) fn evidence<'d>(case: &mut CaseFile, documents: &'d Documents, query: &Query) -> Result<Cited<'d>, Refused> {
    let reference = query.need("ref")?;
    let around = query.number("around", 20, MAX_AROUND)?;
    cited(case, documents, reference, around as u64)
        .ok_or_else(|| Refused::Nothing("there is no such evidence in the case file".to_owned()))
}

/// What a citation points at; `None`: nothing is cited so.
pub(crate) fn cited<'d>(
    case: &mut CaseFile,
    documents: &'d Documents,
    reference: &str,
    around: u64,
) -> Option<Cited<'d>> {
    let has = |evidence: &&Evidence| evidence.reference == reference;
    let evidence = documents.findings.iter().flat_map(|f| &f.evidence).find(has)?;
    let citing = documents.findings.iter().filter(|f| f.evidence.iter().any(|e| e.reference == reference));
    let mut cited = Cited { evidence, findings: citing.map(|f| f.id.as_str()).collect(), around: None, unread: None };
    if let (Some(entry), Some(line)) = (&evidence.entry, evidence.line) {
        match lines_around(case, entry, line, around) {
            // While an archive is being sealed there is no manifest yet.
            Ok(around) => cited.around = Some(Around { sha256: around.sha256.or(evidence.sha256), ..around }),
            Err(refused) => cited.unread = Some(refused.to_string()),
        }
    }
    Some(cited)
}

/// The lines of an entry around one of them.
fn lines_around(case: &mut CaseFile, entry: &EntryPath, line: u64, around: u64) -> Result<Around, Refused> {
    let missing = || Refused::Nothing("there is no such entry in the case file".to_owned());
    let size = case.entries.find(entry).ok_or_else(missing)?.size;
    let sha256 = digest(case, entry);
    let read = case.entries.entry(entry).map_err(|error| Refused::Unreadable(chain(&error)))?;
    let (first, last) = (line.saturating_sub(around).max(1), line.saturating_add(around));
    let mut out = Around { entry: entry.clone(), sha256, size, lines: Vec::new(), damaged: None };
    if let Err(error) = raw_lines(&mut BufReader::with_capacity(64 << 10, read), first, last, &mut out.lines) {
        out.damaged = Some(error.to_string());
    }
    Ok(out)
}

fn raw_lines(read: &mut impl BufRead, first: u64, last: u64, out: &mut Vec<RawLine>) -> std::io::Result<()> {
    let (mut number, mut offset) = (1_u64, 0_u64);
    while number <= last {
        let begins = offset;
        let mut line = Vec::new();
        let mut whole = 0_u64;
        // A line may be as long as the entry: what is not shown is passed over, piece by piece.
        let ended = loop {
            let piece = read.fill_buf()?;
            if piece.is_empty() {
                break true;
            }
            let (len, end) = match piece.iter().position(|b| *b == b'\n') {
                Some(at) => (at + 1, true),
                None => (piece.len(), false),
            };
            if number >= first {
                line.extend_from_slice(&piece[..len.min((MAX_TEXT + 1).saturating_sub(line.len()))]);
            }
            read.consume(len);
            whole += len as u64;
            if end {
                break false;
            }
        };
        if whole == 0 {
            return Ok(());
        }
        offset += whole;
        if number >= first {
            let bare = line.strip_suffix(b"\n").unwrap_or(&line);
            let (text, cut) = text(bare);
            out.push(RawLine { line: number, offset: begins, text, cut });
        }
        if ended {
            return Ok(());
        }
        number += 1;
    }
    Ok(())
}

/// The digest of an entry, as the manifest has it.
fn digest(case: &mut CaseFile, entry: &EntryPath) -> Option<Digest> {
    let manifest = layout::path("manifest-sha256.txt");
    let bytes = case.entries.read(&manifest, MAX_MANIFEST).ok()?;
    let lines = bytes.split(|b| *b == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    let named = lines.filter_map(|line| line.split_once("  ")).find(|(_, path)| *path == entry.as_str());
    named.and_then(|(digest, _)| digest.parse().ok())
}

/// Reads at most so much of an entry.
pub(super) fn document(case: &mut CaseFile, entry: &EntryPath, at_most: Bytes) -> Option<serde_json::Value> {
    let read = case.entries.entry(entry).ok()?;
    let mut bytes = Vec::new();
    read.take(at_most.0).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_lines_have_their_numbers_and_offsets_however_long_they_are() {
        let mut text = b"first\n".to_vec();
        text.resize(text.len() + 3 * MAX_TEXT, b'x');
        text.extend_from_slice(b"\n\nfour\xff\nlast");
        for piece in [1, 7, 64 << 10] {
            let mut lines = Vec::new();
            raw_lines(&mut BufReader::with_capacity(piece, &text[..]), 2, 9, &mut lines).unwrap();
            let told: Vec<_> = lines.iter().map(|l| (l.line, l.offset, l.text.len(), l.cut)).collect();
            let second = 6 + 3 * MAX_TEXT as u64 + 1;
            assert_eq!(
                told,
                [(2, 6, MAX_TEXT, true), (3, second, 0, false), (4, second + 1, 8, false), (5, second + 7, 4, false)]
            );
            assert_eq!(lines[2].text, "four\\xff");
        }
    }
}
