//! The documents of a case file read again: what another program wrote by now, perhaps another version, perhaps an attacker.
//!
//! What does not parse is told and left out, and the rest is taken. No document is read beyond what a person could look at.

use std::io::{BufRead, BufReader, Read};

use casefile_evidence::archive::layout;
use casefile_proto::units::Bytes;
use serde::de::DeserializeOwned;

use crate::casefile::{CaseFile, chain};
use crate::display::safe;
use crate::finding::Finding;
use crate::review::Document;
use crate::timeline::Row;

/// The most that the review may have: every check of some thousand nodes fits.
const MAX_REVIEW: Bytes = Bytes::mib(16);
/// The most that is looked at of a document of lines.
const MAX_LINES: Bytes = Bytes::mib(64);
/// The longest line: a finding with all its evidence.
const MAX_LINE: u64 = 4 << 20;
/// The most findings that are looked at: more than a person reads.
const MAX_FINDINGS: usize = 5_000;
/// The most rows of the timeline.
const MAX_ROWS: usize = 200_000;
/// The longest text of a finding or a row: what is longer is cut, and the bytes stay in the case file.
pub(crate) const MAX_TEXT: usize = 8 << 10;
/// The most evidence of one finding, and of any other list in it.
const MAX_LIST: usize = 500;
/// Broken lines that are told one by one; a file full of them is not looked at to its end.
const MAX_BROKEN: usize = 20;

/// What could not be read, and why; safe to show.
pub type Unread = Vec<(String, String)>;

/// The review; `None`: there is none, or none that this version understands.
pub(crate) fn document(case: &mut CaseFile, unread: &mut Unread) -> Option<Document> {
    let path = layout::path(layout::REVIEW);
    case.entries.find(&path)?;
    let read = case.entries.read(&path, MAX_REVIEW).map_err(|error| chain(&error));
    let parsed = read.and_then(|bytes| {
        serde_json::from_slice::<Document>(&bytes).map_err(|error| newer(&bytes, &error.to_string()))
    });
    match parsed {
        Ok(mut document) => {
            cut(&mut document.verdict.sentence);
            document.verdict.cites.truncate(MAX_LIST);
            if document.format != Document::FORMAT {
                unread.push((layout::REVIEW.to_owned(), of_form(document.format, Document::FORMAT)));
            }
            Some(document)
        }
        Err(why) => {
            unread.push((layout::REVIEW.to_owned(), safe(&why)));
            None
        }
    }
}

/// Why a document does not parse: that it is of another form says more than what the parser stumbled over.
fn newer(bytes: &[u8], why: &str) -> String {
    match form(bytes) {
        Some(form) if form != Document::FORMAT => format!("{}: {why}", of_form(form, Document::FORMAT)),
        _ => why.to_owned(),
    }
}

/// Of which form a document says that it is, whatever else it says.
pub(crate) fn form(bytes: &[u8]) -> Option<u32> {
    #[derive(serde::Deserialize)]
    struct Head {
        format: u32,
    }
    serde_json::from_slice::<Head>(bytes).ok().map(|head| head.format)
}

/// What is said of a document of another form.
pub(crate) fn of_form(form: u32, known: u32) -> String {
    format!("it is of form {form}, and this version knows form {known}: what is new in it is not shown")
}

/// The findings, in the order in which they stand there.
pub(crate) fn findings(case: &mut CaseFile, unread: &mut Unread) -> Vec<Finding> {
    let mut all: Vec<Finding> = lines(case, layout::FINDINGS, MAX_FINDINGS, unread);
    all.iter_mut().for_each(cut_finding);
    all
}

/// What our own checks never exceed.
fn cut_finding(finding: &mut Finding) {
    finding.not_proof.truncate(MAX_LIST);
    finding.evidence.truncate(MAX_LIST);
    let texts = [&mut finding.id, &mut finding.kind, &mut finding.check, &mut finding.summary];
    let more = [&mut finding.subject, &mut finding.meaning, &mut finding.now, &mut finding.part_of];
    let pod = finding.pod.iter_mut().flat_map(|pod| [&mut pod.namespace, &mut pod.name, &mut pod.uid]);
    texts.into_iter().chain(more.into_iter().chain(pod).flatten()).chain(&mut finding.not_proof).for_each(cut);
    for evidence in &mut finding.evidence {
        let more = [&mut evidence.metric, &mut evidence.unit];
        [&mut evidence.reference, &mut evidence.text].into_iter().chain(more.into_iter().flatten()).for_each(cut);
        while evidence.labels.len() > MAX_LIST {
            evidence.labels.pop_last();
        }
    }
}

/// Cuts a text that is too long.
pub(crate) fn cut(text: &mut String) {
    text.truncate(text.floor_char_boundary(MAX_TEXT));
}

/// The rows of the timeline, in the order in which they stand there.
pub(crate) fn rows(case: &mut CaseFile, unread: &mut Unread) -> Vec<Row> {
    let mut all: Vec<Row> = lines(case, layout::TIMELINE, MAX_ROWS, unread);
    for row in &mut all {
        let more = [&mut row.evidence, &mut row.finding, &mut row.entry];
        let texts = [&mut row.message, &mut row.node, &mut row.severity, &mut row.id];
        texts.into_iter().chain(more.into_iter().flatten()).for_each(cut);
    }
    all
}

fn lines<T: DeserializeOwned>(case: &mut CaseFile, entry: &'static str, most: usize, unread: &mut Unread) -> Vec<T> {
    numbered(case, entry, most, unread).into_iter().map(|(_, one)| one).collect()
}

/// The lines of a document of lines, each with its number from 1.
pub(crate) fn numbered<T: DeserializeOwned>(
    case: &mut CaseFile,
    entry: &'static str,
    most: usize,
    unread: &mut Unread,
) -> Vec<(u64, T)> {
    let path = layout::path(entry);
    let mut all = Vec::new();
    if case.entries.find(&path).is_none() {
        return all;
    }
    let mut told = |why: String| unread.push((entry.to_owned(), why));
    let mut read = match case.entries.entry(&path) {
        Ok(read) => BufReader::new(read.take(MAX_LINES.0)),
        Err(error) => {
            told(safe(&chain(&error)));
            return all;
        }
    };
    let (mut line, mut number, mut size, mut broken) = (Vec::new(), 0_u64, 0_u64, 0);
    loop {
        line.clear();
        number += 1;
        match (&mut read).take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) if size >= MAX_LINES.0 => {
                told(format!("only the first {MAX_LINES} are looked at"));
                return all;
            }
            Ok(0) => return all,
            Ok(_) if all.len() >= most => {
                told(format!("only the first {most} lines are looked at"));
                return all;
            }
            Ok(n) => {
                size += n as u64;
                match serde_json::from_slice(&line) {
                    Ok(one) => all.push((number, one)),
                    Err(error) => {
                        broken += 1;
                        told(format!("line {number}: {}", safe(&error.to_string())));
                    }
                }
            }
            Err(error) => {
                told(safe(&error.to_string()));
                return all;
            }
        }
        if broken >= MAX_BROKEN {
            told("the lines behind these are not looked at".to_owned());
            return all;
        }
    }
}
