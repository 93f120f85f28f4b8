//! The records of a node's logs that signatures recognise, each with the place where it stands.
//!
//! The kernel's records come from `kernel.log`, and from the events of the recording where that log is not here or was cut short;
//! of the journal only the units are read of which there are signatures. What a program wrote into the kernel's log itself is
//! marked: it is not the kernel's word.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;

use casefile_proto::event::EventKind;
use casefile_proto::item::EntryPath;
use casefile_proto::time::{WallTime, Window};

use super::facts::NodeFacts;
use crate::casefile::{CaseFile, chain};
use crate::finding::{Confidence, Evidence, EvidenceKind, Severity};
use crate::logs::corrected;
use crate::logs::origin::Origin;
use crate::logs::records::{Grammar, records};
use crate::signatures::explain::{Explanation, explain};
use crate::signatures::logged::{Author, Stream, Written, of_our_journal, of_our_record};
use crate::signatures::record::{Lines, Record};
use crate::signatures::set::Signatures;
use crate::signatures::signature::Log;

/// The most records of one node that are kept: a flood says no more with more lines, and is counted.
const MAX_SEEN: usize = 50_000;

/// The most unknown records of one node that are kept.
const MAX_UNKNOWN: usize = 500;

/// The worst level of a kernel record that is ordinary: 4 is a warning, of which a healthy boot has many.
const ERROR_LEVEL: u8 = 3;

/// A record with its place.
#[derive(Debug)]
pub struct Seen<'c> {
    /// When, on the collector's clock.
    pub at: Option<WallTime>,
    /// What it was recognised as; `None`: no signature knows it.
    pub record: Option<Record<'c>>,
    /// Its text.
    pub text: String,
    /// The entry in which it stands; `None`: it is an event of the recording.
    pub entry: Option<EntryPath>,
    /// Its line there, from 1.
    pub line: u64,
    /// Where that begins, in bytes.
    pub offset: u64,
    /// Who wrote it.
    pub author: Author,
}

impl Seen<'_> {
    /// The id of its signature; empty where there is none.
    pub fn id(&self) -> &str {
        self.record.as_ref().map_or("", |record| record.signature.id.as_str())
    }

    /// What it means.
    pub fn explained(&self) -> Option<Explanation> {
        explain(self.record.as_ref()?.subject)
    }

    /// How bad it is to us, or to whoever is named first; and how sure that is. What a program wrote is no word of the kernel.
    pub fn severity(&self) -> (Severity, Confidence) {
        let explained = self.explained();
        let weight = explained.as_ref().and_then(|e| e.opinions.iter().find_map(|said| said.weight));
        let weight = weight.unwrap_or(Severity::Warning);
        match self.author {
            Author::Program => (weight.min(Severity::Warning), Confidence::Low),
            Author::Kernel | Author::Unknown => (weight, Confidence::High),
        }
    }

    /// Where it stands.
    pub fn evidence(&self, facts: &NodeFacts<'_>) -> Evidence {
        let Some(entry) = &self.entry else {
            return facts.event(self.at.unwrap_or(WallTime::MIN), &self.text);
        };
        let mut evidence = Evidence::new(EvidenceKind::Line, Some(&facts.name), self.text.as_str());
        evidence.entry = Some(entry.clone());
        (evidence.line, evidence.offset) = (Some(self.line), Some(self.offset));
        evidence.at = self.at;
        evidence
    }
}

/// Reads the logs of a node into its facts.
pub(super) fn read<'c>(casefile: &mut CaseFile, signatures: &'c Signatures, facts: &mut NodeFacts<'c>) {
    let units: BTreeSet<&str> = signatures.iter().flat_map(|s| &s.logs).filter_map(unit).collect();
    let entries: Vec<_> = casefile.node_entries(Some(&facts.name)).collect();
    let mut kernel_log = false;
    for (_, entry, item) in entries {
        let Some(origin) = Origin::of(item.as_str()) else { continue };
        let wanted = match origin.source.as_str() {
            "kernel" => true,
            "journal" => units.iter().any(|unit| origin.is_unit(unit)),
            _ => false,
        };
        if wanted {
            kernel_log |= origin.source == "kernel" && casefile.entries.find(&entry).is_some_and(|e| e.size > 0);
            one_log(casefile, signatures, facts, &entry, &origin);
        }
    }
    if !kernel_log || facts.knows_kernel_log_in_part() {
        of_recording(signatures, facts);
    }
    facts.seen.sort_by_key(|seen| seen.at);
    facts.unknown.sort_by_key(|seen| seen.at);
}

impl NodeFacts<'_> {
    fn knows_kernel_log_in_part(&self) -> bool {
        self.knows(super::facts::Need::Log("kernel")) != super::facts::Known::Enough
    }
}

fn unit(log: &Log) -> Option<&str> {
    match log {
        Log::Journal(name) => Some(name),
        Log::Kernel | Log::Kubernetes => None,
    }
}

fn one_log<'c>(
    casefile: &mut CaseFile,
    signatures: &'c Signatures,
    facts: &mut NodeFacts<'c>,
    entry: &EntryPath,
    origin: &Origin,
) {
    let mut read = match casefile.entries.entry(entry) {
        Ok(read) => BufReader::with_capacity(64 << 10, read),
        Err(error) => {
            facts.damaged.push((entry.clone(), chain(&error)));
            return;
        }
    };
    let sample = read.fill_buf().unwrap_or_default();
    let mut grammar = Grammar::new(&origin.source, None, sample, facts.window);
    let mut lines = Lines::new(signatures);
    let unit = origin.unit.clone();
    let clock = facts.clock();
    let ended = records(&mut read, &mut grammar, &mut |record| {
        let Ok(whole) = std::str::from_utf8(record.text) else { return ControlFlow::Continue(()) };
        let at = record.at.map(|at| corrected(at, clock));
        let (text, author, level) = match &unit {
            Some(_) => (of_our_journal(whole), Author::Unknown, u8::MAX),
            None => match of_our_record(whole) {
                Some(record) => (record.text, record.author, record.level),
                None => (whole, Author::Unknown, u8::MAX),
            },
        };
        let stream = unit.as_deref().map_or(Stream::Kernel, Stream::Journal);
        let known = lines.record(Written { text, author, stream });
        let place = Place { at, entry: Some(entry), line: record.line, offset: record.offset };
        keep(facts, known, text, author, level, place);
        ControlFlow::Continue(())
    });
    if let Err(error) = ended {
        facts.damaged.push((entry.clone(), error.to_string()));
    }
}

/// The kernel's events of the recording that `kernel.log` does not have.
fn of_recording<'c>(signatures: &'c Signatures, facts: &mut NodeFacts<'c>) {
    let covered: Vec<Window> = facts
        .row
        .sources
        .iter()
        .filter(|s| s.source == "kernel" && s.kind == casefile_proto::coverage::SourceKind::Logs && s.items > 0)
        .flat_map(|s| s.covered.clone())
        .collect();
    let mut lines = Lines::new(signatures);
    for happened in std::mem::take(&mut facts.set.events) {
        if let EventKind::Kernel { facility, level, .. } = happened.event.kind
            && !covered.iter().any(|window| window.contains(happened.event.at.wall))
        {
            let author = Author::of_facility(facility);
            let text = happened.event.text.as_str();
            let known = lines.record(Written { text, author, stream: Stream::Kernel });
            let place = Place { at: Some(happened.at), entry: None, line: 0, offset: 0 };
            keep(facts, known, text, author, level, place);
        } else if !matches!(happened.event.kind, EventKind::Kernel { .. }) {
            facts.set.events.push(happened);
        }
    }
}

struct Place<'e> {
    at: Option<WallTime>,
    entry: Option<&'e EntryPath>,
    line: u64,
    offset: u64,
}

fn keep<'c>(
    facts: &mut NodeFacts<'c>,
    record: Option<Record<'c>>,
    text: &str,
    author: Author,
    level: u8,
    place: Place<'_>,
) {
    let known = record.is_some();
    if !known && level > ERROR_LEVEL {
        return;
    }
    let full = if known { facts.seen.len() >= MAX_SEEN } else { facts.unknown.len() >= MAX_UNKNOWN };
    if full {
        facts.left_out += 1;
        return;
    }
    let seen = Seen {
        at: place.at,
        record,
        text: text[..text.floor_char_boundary(Evidence::MAX_TEXT)].to_owned(),
        entry: place.entry.cloned(),
        line: place.line,
        offset: place.offset,
        author,
    };
    if known { facts.seen.push(seen) } else { facts.unknown.push(seen) }
}
