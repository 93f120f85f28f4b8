//! Archives larger than memory and larger than 8 GiB. One test only: it measures the memory of its process.

#![expect(clippy::unwrap_used, reason = "what helps a test may panic as the test does")]

use std::fs;
use std::io::{self, BufReader, BufWriter, Read};

use casefile_evidence::archive::Title;
use casefile_evidence::archive::chunk::{Chunk, Chunker, MAX_PLAIN, Pack};
use casefile_evidence::archive::reader::{Archive, Limits};
use casefile_evidence::archive::sign::AllowedSigners;
use casefile_evidence::archive::writer::{ArchiveWriter, ChunkedItem};
use casefile_proto::incident::{IncidentAsk, Severity, Trigger};
use casefile_proto::item::{Digest, EntryPath};
use casefile_proto::scope::Scope;
use casefile_proto::time::{WallTime, Window};
use sha2::{Digest as _, Sha256};

const SMALL: u64 = 300;
const HUGE: u64 = 9 << 10;

fn title() -> Title {
    let window = Window::new(WallTime::from_secs(1), WallTime::from_secs(2)).unwrap();
    let ask = IncidentAsk {
        title: String::new(),
        reason: String::new(),
        requested_by: String::new(),
        severity: Severity::Sev4,
        trigger: Trigger::Extract,
        resource: None,
        runbook: None,
        window,
        nodes: vec![],
        scope: Scope::default(),
    };
    Title { ask, incident: None, sealed_at: WallTime::from_secs(3), sealed_by: "a test".to_owned(), amends: None }
}

/// The most memory that this process has ever had, in MiB (proc_pid_status(5), VmHWM).
fn peak_mib() -> u64 {
    let status = String::from_utf8(fs::read("/proc/self/status").unwrap()).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() >> 10
}

fn path(text: &str) -> EntryPath {
    text.parse().unwrap()
}

#[test]
fn memory_does_not_grow_with_the_archive_and_sizes_above_8_gib_are_right() {
    let dir = tempfile::tempdir().unwrap();
    let plain: Vec<u8> = (0..MAX_PLAIN).map(|i| (i % 251) as u8).collect();
    let mut chunk = None;
    let mut chunker = Chunker::new(Pack::Deflate, |c| {
        chunk = Some(c);
        Ok(())
    });
    io::Write::write_all(&mut chunker, &plain).unwrap();
    chunker.finish().unwrap();
    let chunk: Chunk = chunk.unwrap();
    let add = |writer: &mut ArchiveWriter<_>, name: &str, mib: u64, sha256: Digest| {
        let mut chunks = (0..mib).map(|_| Ok(chunk.clone()));
        writer.add_chunks(&path(name), ChunkedItem { size: mib << 20, sha256, chunks: &mut chunks }).unwrap();
    };
    let begin = peak_mib();

    // 300 MiB: sealed, verified, read from its end and, without its index, from the front.
    let file = dir.path().join("small.tar.gz");
    let mut sha256 = Sha256::new();
    (0..SMALL).for_each(|_| sha256.update(&plain));
    let sha256 = Digest(sha256.finalize().into());
    let mut writer = ArchiveWriter::new(BufWriter::new(fs::File::create(&file).unwrap()), title(), None).unwrap();
    add(&mut writer, "data/a", SMALL, sha256);
    add(&mut writer, "data/b", 1, Digest(Sha256::digest(&plain).into()));
    writer.seal().unwrap();
    let mut archive = Archive::open(&file, Limits::default()).unwrap();
    assert!(archive.verify(&AllowedSigners::default()).is_intact());
    let len = fs::metadata(&file).unwrap().len();
    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(len - 1).unwrap();
    let mut archive = Archive::open(&file, Limits::default()).unwrap();
    let mut out = Vec::new();
    archive.entry(&path("data/b")).unwrap().read_to_end(&mut out).unwrap();
    assert!(archive.truncated() && out == plain);

    // 9 GiB in one entry, 40 MiB compressed: any tar reader finds its size, and we find what lies behind it.
    let file = dir.path().join("huge.tar.gz");
    let mut writer = ArchiveWriter::new(BufWriter::new(fs::File::create(&file).unwrap()), title(), None).unwrap();
    add(&mut writer, "data/huge", HUGE, Digest([0; 32]));
    add(&mut writer, "data/last", 1, Digest(Sha256::digest(&plain).into()));
    writer.seal().unwrap();
    let mut archive = Archive::open(&file, Limits::default()).unwrap();
    assert_eq!(archive.find(&path("data/huge")).unwrap().size, HUGE << 20);
    out.clear();
    archive.entry(&path("data/last")).unwrap().read_to_end(&mut out).unwrap();
    assert!(out == plain);
    let gz = flate2::read::GzDecoder::new(BufReader::new(fs::File::open(&file).unwrap()));
    let sizes: Vec<u64> = tar::Archive::new(gz).entries().unwrap().take(3).map(|e| e.unwrap().size()).collect();
    assert_eq!(sizes[2], HUGE << 20);

    let grown = peak_mib() - begin;
    assert!(grown < 24, "{grown} MiB more than before");
}
