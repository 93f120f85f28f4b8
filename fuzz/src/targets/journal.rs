//! systemd's journal: any bytes as one of its files, through the whole log source.

use std::cell::RefCell;

use casefile_agent::host::Host;
use casefile_agent::logs::fuzzing::Given;
use casefile_agent::logs::{ALL, LogAsk, LogConfig, Selection};

use crate::Target;
use crate::input::Input;
use crate::scratch::Scratch;

pub(crate) const TARGET: Target =
    Target { name: "journal", about: "Files of systemd's journal, read as a log source", run, seeds };

/// The bytes before the file: the window and the budget.
const ASKED: [u8; 4] = [31, 0, 255, 255];

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::new());
}

fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let asked = input.asked();
    SCRATCH.with_borrow(|scratch| {
        scratch.write("var/log/journal/0123/system.journal", input.rest);
        let host = Host::new(scratch.path()).unwrap();
        let ask = LogAsk { window: asked.window, budget: asked.budget, select: Selection::default() };
        let mut given = Given::default();
        let spec = ALL.iter().find(|s| s.name == "journal").unwrap();
        given.covered = (spec.open)(&host, &LogConfig::default()).read(&ask, &mut given);
        assert_eq!(given.records.len() as u64, given.covered.records);
        for (at, text) in &given.records {
            assert!(asked.window.contains(*at) && text.ends_with(b"\n"), "{at}");
            assert!(
                text.split(|b| *b == b'\n').skip(1).all(|line| line.is_empty() || line[0] == b' '),
                "forged a line"
            );
        }
        assert!(given.records.iter().map(|(_, b)| b.len() as u64).sum::<u64>() <= asked.budget.0);
    });
}

/// A file of two entries, in both layouts.
fn seeds() -> Vec<Vec<u8>> {
    [false, true].map(|compact| [&ASKED[..], &file(compact)].concat()).into()
}

/// An entry a second from the begin of the window on: header, DATA, ENTRY and ENTRY_ARRAY objects, no hash tables, which
/// are not looked at.
fn file(compact: bool) -> Vec<u8> {
    const HEADER: usize = 272;
    let mut bytes = vec![0; HEADER];
    bytes[..8].copy_from_slice(b"LPKSHHRH");
    bytes[12] = u8::from(compact) << 4;
    bytes[72..88].fill(9);
    put(&mut bytes, 88, HEADER as u64);
    let mut entries = Vec::new();
    for n in 0..2_u64 {
        let fields = ["_SYSTEMD_UNIT=a.service", "SYSLOG_IDENTIFIER=a", "_PID=7", &format!("MESSAGE=line {n}")];
        let fields = fields.map(|field| {
            let head = if compact { 56 } else { 48 };
            object(&mut bytes, 1, &[&vec![0; head], field.as_bytes()].concat())
        });
        let mut entry = Vec::new();
        let at = crate::input::BEGIN.nanos().unsigned_abs() / 1000 + n * 1_000_000;
        for number in [n + 1, at, n * 1_000_000 + 5] {
            entry.extend_from_slice(&number.to_le_bytes());
        }
        entry.extend_from_slice(&[3; 16]);
        entry.extend_from_slice(&n.to_le_bytes());
        for field in fields {
            place(&mut entry, field, compact);
            if !compact {
                entry.extend_from_slice(&[0; 8]);
            }
        }
        entries.push(object(&mut bytes, 3, &entry));
    }
    let mut array = vec![0; 8];
    entries.iter().for_each(|entry| place(&mut array, *entry, compact));
    let array = object(&mut bytes, 6, &array);
    let size = (bytes.len() - HEADER) as u64;
    for (at, number) in [(96, size), (152, 2), (160, 2), (168, 1), (176, array as u64)] {
        put(&mut bytes, at, number);
    }
    bytes
}

fn put(bytes: &mut [u8], at: usize, number: u64) {
    bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
}

fn place(into: &mut Vec<u8>, offset: usize, compact: bool) {
    let bytes = (offset as u64).to_le_bytes();
    into.extend_from_slice(if compact { &bytes[..4] } else { &bytes });
}

fn object(bytes: &mut Vec<u8>, kind: u8, payload: &[u8]) -> usize {
    let at = bytes.len();
    bytes.extend_from_slice(&[kind, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend_from_slice(&(payload.len() as u64 + 16).to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_are_journals_and_not_just_bytes() {
        for seed in seeds() {
            let scratch = Scratch::new();
            scratch.write("var/log/journal/0123/system.journal", &seed[ASKED.len()..]);
            let ask = LogAsk { ..ask_of(&seed) };
            let mut given = Given::default();
            let spec = ALL.iter().find(|s| s.name == "journal").unwrap();
            given.covered =
                (spec.open)(&Host::new(scratch.path()).unwrap(), &LogConfig::default()).read(&ask, &mut given);
            assert_eq!(given.records.len(), 4, "two entries, as text and as JSON: {:?}", given.covered);
        }
    }

    fn ask_of(seed: &[u8]) -> LogAsk {
        let asked = Input::new(seed).asked();
        LogAsk { window: asked.window, budget: asked.budget, select: Selection::default() }
    }
}
