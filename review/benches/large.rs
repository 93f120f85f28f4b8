//! The first screen of a large archive: from starting `casefile review` to the answer that the page shows first, and the most memory
//! that it took.
//!
//! `cargo bench -p casefile-review --bench large [-- GIBIBYTES]`: the demonstration, sealed again with its review and with 5 GiB of
//! logs of one node beside it, in the directory for temporary files (TMPDIR names another one).
#![expect(clippy::print_stdout, reason = "a measurement prints its figures")]
#![expect(clippy::expect_used, reason = "a measurement that cannot be made ends")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use casefile_evidence::archive::Title;
use casefile_evidence::archive::chunk::{Chunk, Chunker, Pack};
use casefile_evidence::archive::limits::Limits;
use casefile_evidence::archive::reader::Archive;
use casefile_evidence::archive::writer::{ArchiveWriter, ChunkedItem};
use casefile_proto::incident::IncidentAsk;
use casefile_proto::item::EntryPath;
use casefile_review::casefile::CaseFile;
use casefile_review::review::Review;
use casefile_review::signatures::catalogue::catalogue;

/// Bytes of plain text in one chunk.
const CHUNK: usize = 1 << 20;

fn main() {
    let gibibytes: u64 = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(5);
    let dir = tempfile::tempdir().expect("a directory for it");
    let file = large(dir.path(), gibibytes);
    let size = std::fs::metadata(&file).expect("ask for its size").len() >> 20;
    let (mut best, mut most) = (Duration::MAX, 0);
    for _ in 0..3 {
        let (took, memory) = first_screen(&file);
        best = best.min(took);
        most = most.max(memory);
    }
    let verdict = |reached| if reached { "reached" } else { "MISSED" };
    let seconds = best.as_secs_f64();
    println!(
        "figure | first screen of an archive of {size} MiB | {seconds:.2} s | ≤ 1 s | {}",
        verdict(seconds <= 1.0)
    );
    println!("figure | memory for it | {most} MiB | < 128 MiB | {}", verdict(most < 128));
}

/// The demonstration with its review and a very large log.
fn large(dir: &Path, gibibytes: u64) -> PathBuf {
    let demo = casefile_demo::write(dir).expect("make the demonstration");
    let mut case = CaseFile::open(&demo).expect("open it");
    let review = Review::of(&mut case, &catalogue().signatures, None).expect("look at it");
    let archive = Archive::open(&demo, Limits::default()).expect("open it");
    let mut entries: Vec<(EntryPath, Option<Vec<u8>>)> = archive
        .entries()
        .iter()
        .filter(|entry| entry.path.as_str().starts_with("data/"))
        .map(|entry| (entry.path.clone(), None))
        .collect();
    entries.extend(review.documents().expect("its documents").map(|(path, bytes)| (path, Some(bytes))));
    let big: EntryPath = "data/nodes/web-01/logs/files/var/log/large.log".parse().expect("a path");
    entries.push((big.clone(), None));
    entries.sort();
    let title = title(&case);
    let path = dir.join("large.tar.gz");
    let out = std::io::BufWriter::new(std::fs::File::create(&path).expect("make the file"));
    let mut writer = ArchiveWriter::new(out, title, None).expect("begin");
    for (entry, bytes) in entries {
        if entry == big {
            repeated(&mut writer, &entry, gibibytes << 10);
        } else if let Some(bytes) = bytes {
            writer.add(&entry, &mut bytes.as_slice()).expect("add it");
        } else {
            let packed = archive.packed(&entry).expect("an entry");
            let item = ChunkedItem { size: packed.size, sha256: packed.sha256, chunks: &mut packed.chunks() };
            writer.add_chunks(&entry, item).expect("add it");
        }
    }
    writer.seal().expect("seal").1.into_inner().expect("write it out");
    path
}

fn title(case: &CaseFile) -> Title {
    let incident = &case.incident;
    let ask = IncidentAsk {
        title: incident.title.clone(),
        reason: incident.reason.clone(),
        requested_by: incident.requested_by.clone(),
        severity: incident.severity,
        trigger: incident.trigger,
        resource: None,
        runbook: None,
        window: incident.window,
        nodes: Vec::new(),
        scope: incident.scope.clone(),
    };
    let sealed_by = incident.sealed_by.clone();
    Title { ask, incident: incident.id, sealed_at: incident.sealed_at, sealed_by, amends: None }
}

/// One MiB of lines.
fn block() -> Vec<u8> {
    let line = |n: usize| format!("2026-11-23T02:50:{:02}Z request {n:06} of nobody was answered\n", n % 60);
    let mut block: Vec<u8> = (0..).flat_map(|n| line(n).into_bytes()).take(CHUNK - 1).collect();
    block.push(b'\n');
    block
}

/// Adds an entry of so many blocks, stored: what it would be deflated to is not what is measured.
fn repeated<W: Write>(writer: &mut ArchiveWriter<W>, path: &EntryPath, blocks: u64) {
    let (block, mut chunk) = (block(), None);
    let mut chunker = Chunker::new(Pack::Store, |made: Chunk| {
        chunk.get_or_insert(made);
        Ok(())
    });
    for _ in 0..blocks {
        chunker.write_all(&block).expect("cut it");
    }
    let (size, sha256) = chunker.finish().expect("finish it");
    let chunk = chunk.expect("a chunk");
    let mut chunks = (0..blocks).map(|_| Ok(chunk.clone()));
    writer.add_chunks(path, ChunkedItem { size, sha256, chunks: &mut chunks }).expect("add it");
}

/// How long it took from the start of the command to the whole first answer, and the most memory of it in MiB.
fn first_screen(file: &Path) -> (Duration, u64) {
    let began = Instant::now();
    #[expect(clippy::disallowed_methods, reason = "the program that is measured")]
    let mut child = Command::new(env!("CARGO_BIN_EXE_casefile"))
        .args(["review", "--no-open"])
        .arg(file)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("start it");
    let out = BufReader::new(child.stdout.take().expect("its output"));
    let address = out.lines().map_while(Result::ok).find(|line| line.starts_with("http://")).expect("its address");
    let (host, token) = address.strip_prefix("http://").and_then(|a| a.split_once("/#token=")).expect("its parts");
    let mut stream = TcpStream::connect(host).expect("reach it");
    let ask = format!(
        "GET /api/v1/incidents/INC-999999/page/review HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(ask.as_bytes()).expect("ask it");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("its answer");
    let took = began.elapsed();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..answer.len().min(200)]));
    let memory = peak_mib(&child);
    child.kill().expect("end it");
    child.wait().expect("end it");
    (took, memory)
}

/// `VmHWM` of a process, in MiB.
fn peak_mib(child: &Child) -> u64 {
    let mut text = String::new();
    let mut status = std::fs::File::open(format!("/proc/{}/status", child.id())).expect("its status");
    status.read_to_string(&mut text).expect("its status");
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib >> 10
}
