//! Archives: opened, listed, verified, read and unpacked. The input is an archive, or edits of a good one.

use std::cell::RefCell;
use std::fs;

use casefile_evidence::archive::Title;
use casefile_evidence::archive::extract::extract;
use casefile_evidence::archive::layout::{self, IncidentFile};
use casefile_evidence::archive::limits::Limits;
use casefile_evidence::archive::reader::Archive;
use casefile_evidence::archive::sign::AllowedSigners;
use casefile_evidence::archive::writer::ArchiveWriter;
use casefile_proto::coverage::Coverage;
use casefile_proto::ids::IncidentId;
use casefile_proto::incident::{IncidentAsk, Severity, Trigger};
use casefile_proto::scope::Scope;
use casefile_proto::time::{NANOS_PER_SEC, Window};
use casefile_proto::units::Bytes;

use crate::Target;
use crate::input::{BEGIN, Input};
use crate::scratch::Scratch;

pub(crate) const TARGET: Target = Target {
    name: "archive",
    about: "An archive, or edits of a good one: opened, verified, every entry read, unpacked",
    run,
    seeds,
};

/// A fuzzer has no time for a terabyte.
const LIMITS: Limits = Limits { entries: 200, entry_bytes: Bytes::mib(2), total_bytes: Bytes::mib(8) };

thread_local! {
    static SCRATCH: RefCell<(Scratch, Vec<u8>)> = RefCell::new((Scratch::new(), good()));
}

fn good() -> Vec<u8> {
    let window = Window::new(BEGIN, BEGIN.offset(60 * NANOS_PER_SEC)).unwrap();
    let ask = IncidentAsk {
        title: "fuzz".to_owned(),
        reason: String::new(),
        requested_by: String::new(),
        severity: Severity::Sev3,
        trigger: Trigger::Person,
        resource: None,
        runbook: None,
        scope: Scope::default(),
        window,
        nodes: vec![],
    };
    let title =
        Title { ask, incident: Some(IncidentId(1)), sealed_at: BEGIN, sealed_by: "fuzz".to_owned(), amends: None };
    let coverage = Coverage { window, scope: Scope::default(), nodes: vec![], cluster: None };
    let incident = layout::incident_json(&IncidentFile::new(&title, &coverage, None)).unwrap();
    let mut writer = ArchiveWriter::new(Vec::new(), title, None).unwrap();
    let mut add = |path: &str, bytes: &[u8]| {
        writer.add(&path.parse().unwrap(), &mut &*bytes).unwrap();
    };
    add(layout::COVERAGE, &layout::coverage_json(&coverage).unwrap());
    add(layout::INCIDENT, &incident);
    add("data/nodes/n/logs/empty.log", b"");
    add("data/nodes/n/logs/kernel.log", &b"6,1,2,-;one line\n".repeat(40));
    add(&format!("data/nodes/n/state/{}", "x".repeat(120)), b"a long name\n");
    writer.seal().unwrap().1
}

/// A good archive with bytes changed, its end moved, and something behind it.
fn edited(good: &[u8], input: &mut Input<'_>) -> Vec<u8> {
    let mut bytes = good.to_vec();
    let (edits, cut, more) = (input.byte() % 16, input.short(), input.byte());
    for _ in 0..edits {
        let at = usize::from(input.short()) % bytes.len();
        bytes[at] ^= input.byte();
    }
    bytes.truncate(bytes.len() - usize::from(cut) % bytes.len());
    bytes.extend(input.rest.iter().take(usize::from(more)));
    bytes
}

fn seeds() -> Vec<Vec<u8>> {
    let edits: [&[u8]; 4] = [&[1, 0, 0, 0, 0], &[1, 1, 0, 0, 0, 1, 0, 1], &[1, 0, 0, 30, 0], &[1, 0, 0, 0, 9, b'x']];
    edits.into_iter().map(<[u8]>::to_vec).chain([[&[0], &good()[..]].concat()]).collect()
}

fn run(bytes: &[u8]) {
    SCRATCH.with_borrow(|(scratch, good)| {
        scratch.clear();
        let mut input = Input::new(bytes);
        let bytes = if input.byte() & 1 == 0 { input.rest.to_vec() } else { edited(good, &mut input) };
        let Ok(mut archive) = Archive::open(&scratch.write("a.tar.gz", &bytes), LIMITS) else { return };
        let verified = archive.verify(&AllowedSigners::parse(""));
        assert!(!verified.is_intact() || bytes == *good || input.rest.len() > 100, "a changed byte was not noticed");
        let entries = archive.entries().to_vec();
        assert!(entries.len() as u64 <= LIMITS.entries);
        for entry in &entries {
            assert!(entry.size <= LIMITS.entry_bytes.0);
            match archive.read(&entry.path, LIMITS.entry_bytes) {
                Ok(content) => assert_eq!(content.len() as u64, entry.size),
                Err(_) => assert!(!verified.is_intact(), "{} is whole and cannot be read", entry.path),
            }
        }
        fs::create_dir(scratch.path().join("out")).unwrap();
        fs::create_dir(scratch.path().join("out/dest")).unwrap();
        if let Ok(done) = extract(&mut archive, &scratch.path().join("out/dest")) {
            assert!(done.files as usize <= entries.len() && done.dir.starts_with(scratch.path().join("out/dest")));
            assert!(!verified.is_intact() || done.problems.is_empty());
        }
        // Nothing beside the place to unpack to.
        let names = |dir: &str| fs::read_dir(scratch.path().join(dir)).unwrap().count();
        assert_eq!((names(""), names("out")), (2, 1));
    });
}
