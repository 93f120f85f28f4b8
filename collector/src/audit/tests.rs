//! The audit log: chained, checked to the byte, and never written on blindly.

use super::*;
use casefile_proto::time::{Stamp, WallTime};
use std::fs;

fn clock() -> Clock {
    Arc::new(|| Stamp { wall: WallTime::from_secs(1_795_000_000), boot: casefile_proto::time::BootTime::from_nanos(1) })
}

fn entry(what: &str) -> Entry {
    let (who, from) = ("kim\u{1b}[31m".to_owned(), "127.0.0.1:1".to_owned());
    Entry { who, from, verb: Verb::DownloadArchive, what: what.to_owned(), outcome: Outcome::Granted, times: 1 }
}

fn verified(path: &Path) -> Verified {
    read(path, |_| {}).unwrap()
}

#[test]
fn lines_are_chained_also_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    for _ in 0..3 {
        let audit = Audit::open(&path, clock()).unwrap();
        audit.record(entry("INC-1")).unwrap();
        audit.record(Entry { times: 7, ..entry("INC-2") }).unwrap();
    }
    let found = verified(&path);
    assert_eq!((found.lines, found.broken.len()), (6, 0));
    let mut seen = Vec::new();
    read(&path, |line| seen.push((line.number, line.entry.times))).unwrap();
    assert_eq!(seen, [(1, 1), (2, 7), (3, 1), (4, 7), (5, 1), (6, 7)]);
}

#[test]
fn a_change_of_any_byte_shows_and_a_line_that_is_gone_shows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let audit = Audit::open(&path, clock()).unwrap();
    for n in 0..4 {
        audit.record(entry(&format!("INC-{n}"))).unwrap();
    }
    let good = fs::read(&path).unwrap();
    let head = verified(&path).head;
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, &bad).unwrap();
        let found = verified(&path);
        assert!(!found.broken.is_empty() || found.head != head, "byte {at} can be changed unseen");
    }
    let lines: Vec<_> = good.split_inclusive(|b| *b == b'\n').collect();
    for gone in 0..lines.len() - 1 {
        let rest: Vec<u8> =
            lines.iter().enumerate().filter(|(i, _)| *i != gone).flat_map(|(_, l)| l.to_vec()).collect();
        fs::write(&path, rest).unwrap();
        assert_eq!(verified(&path).broken.len(), 1, "line {gone} can be removed unseen");
    }
    // The end of a chain is known by its newest hash alone.
    fs::write(&path, lines[..3].concat()).unwrap();
    assert!(verified(&path).broken.is_empty() && verified(&path).head != head);
}

#[test]
fn what_a_crash_left_of_a_line_is_cut_off_at_every_byte() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let audit = Audit::open(&path, clock()).unwrap();
    audit.record(entry("INC-1")).unwrap();
    let one = fs::read(&path).unwrap().len();
    audit.record(entry("INC-2")).unwrap();
    let two = fs::read(&path).unwrap();
    for cut in one..two.len() {
        fs::write(&path, &two[..cut]).unwrap();
        Audit::open(&path, clock()).unwrap().record(entry("INC-3")).unwrap();
        let found = verified(&path);
        assert_eq!((found.lines, found.broken.len()), (2, 0), "cut at {cut}");
    }
}

#[test]
fn a_file_that_is_no_audit_log_is_not_written_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    fs::write(&path, "something else\n").unwrap();
    assert!(matches!(Audit::open(&path, clock()), Err(AuditError::Malformed { .. })));
    assert_eq!(verified(&path).broken, [1]);
}

#[test]
fn a_log_that_cannot_be_written_says_so_and_goes_on_when_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log/audit.jsonl");
    fs::create_dir(path.parent().unwrap()).unwrap();
    let audit = Audit::open(&path, clock()).unwrap();
    audit.record(entry("INC-1")).unwrap();
    audit.spoil(&dir.path().join("aside"));
    assert!(audit.record(entry("INC-2")).is_err());
    fs::remove_dir(&path).unwrap();
    fs::rename(dir.path().join("aside"), &path).unwrap();
    audit.record(entry("INC-2")).unwrap();
    assert_eq!((verified(&path).lines, verified(&path).broken.len()), (2, 0));
}
