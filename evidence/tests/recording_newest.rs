//! The newest frame of a directory: what a whole pass would find last, whatever is torn, and beside a writer.

#![expect(clippy::unwrap_used, reason = "what helps a test may panic as the test does")]

#[expect(dead_code, reason = "other test crates use the rest")]
mod recording;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use casefile_evidence::recording::Header;
use casefile_evidence::recording::delta::Encoder;
use casefile_evidence::recording::newest::newest;
use casefile_evidence::recording::reader::{Piece, ReadError, Recording};
use casefile_evidence::recording::segment::{Last, Retention, Store};
use casefile_proto::ids::BootId;
use casefile_proto::sample::Frame;
use casefile_proto::units::Bytes;
use recording::Machine;

const KEEP: Retention = Retention { bytes: Bytes::mib(64), age: Duration::from_secs(86_400) };

fn append(store: &mut Store, encoder: &mut Encoder, frames: &[Frame]) {
    for frame in frames {
        let mut records = encoder.header();
        encoder.frame(frame, &mut records);
        store.append(&records).unwrap();
    }
}

/// What a whole pass finds last.
fn last(dir: &Path) -> Option<Last> {
    let mut last = None;
    let each = &mut |piece| {
        if let Piece::Frame(Frame { boot, seq, at, .. }) = piece {
            last = Some(Last { boot, seq, at });
        }
        ControlFlow::Continue(())
    };
    Recording::open_dir(dir).unwrap().pieces(None, each).unwrap();
    last
}

#[test]
fn it_is_the_frame_that_was_stored_last_in_blocks_that_are_open_and_closed() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(1, 31);
    let mut store = Store::open(dir.path(), KEEP).unwrap();
    assert_eq!(newest(dir.path()).unwrap(), None, "there is no frame");
    let mut encoder = Encoder::new(machine.header.clone());
    for _ in 0..150 {
        append(&mut store, &mut encoder, &[machine.frame()]);
        let found = newest(dir.path()).unwrap().unwrap();
        assert_eq!(found.frame, store.last().unwrap());
        assert_eq!(found.every, Duration::from_secs(1));
    }
    // Of the next boot, whose clock and numbers begin anew, under a header that is another.
    let mut machine = Machine::new(2, 32);
    machine.header = Header { agent_version: "0.2.0".to_owned(), ..machine.header };
    append(&mut store, &mut Encoder::new(machine.header.clone()), &machine.frames(1));
    let found = newest(dir.path()).unwrap().unwrap().frame;
    assert_eq!((found.boot, found.seq.0), (BootId::from_bytes([2; 16]), 1));
    // The open block is lost: what was closed before it is what there is.
    std::fs::remove_file(dir.path().join("tail")).unwrap();
    assert_eq!(newest(dir.path()).unwrap().unwrap().frame.seq.0, 150);
}

#[test]
fn a_directory_that_is_not_there_and_a_tail_that_is_a_link_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let Err(ReadError::Io { source, .. }) = newest(&dir.path().join("none")) else { panic!("there is one") };
    assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("tail")).unwrap();
    assert!(newest(dir.path()).is_err());
}

#[test]
fn of_a_file_cut_at_any_byte_it_is_the_last_whole_frame() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(1, 33);
    let mut store = Store::open(dir.path(), KEEP).unwrap();
    append(&mut store, &mut Encoder::new(machine.header.clone()), &machine.frames(64));
    drop(store);
    let tail = dir.path().join("tail");
    let bytes = std::fs::read(&tail).unwrap();
    for length in 0..bytes.len() {
        std::fs::write(&tail, &bytes[..length]).unwrap();
        assert_eq!(newest(dir.path()).unwrap().map(|newest| newest.frame), last(dir.path()), "{length} bytes");
    }
    // And with a byte that is another: what is behind it, nobody knows.
    let mut found = std::collections::BTreeSet::new();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x40;
        std::fs::write(&tail, damaged).unwrap();
        found.insert(newest(dir.path()).unwrap().unwrap().frame.seq.0);
    }
    assert_eq!(found, (60..64).collect());
}

#[test]
fn whoever_asks_beside_a_writer_is_never_told_an_older_frame_than_there_was_when_it_asked() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(1, 34);
    let frames = machine.frames(2_000);
    let mut store = Store::open(dir.path(), KEEP).unwrap();
    let mut encoder = Encoder::new(machine.header.clone());
    append(&mut store, &mut encoder, &frames[..1]);
    let stored = AtomicU64::new(1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (i, frame) in frames.iter().enumerate().skip(1) {
                // Short blocks: what is tried is a look between the closing of one and the next.
                if i % 5 == 0 {
                    encoder.restart();
                }
                append(&mut store, &mut encoder, std::slice::from_ref(frame));
                stored.store(frame.seq.0, Ordering::Release);
            }
        });
        loop {
            let before = stored.load(Ordering::Acquire);
            let found = newest(dir.path()).unwrap().unwrap().frame.seq.0;
            assert!(found >= before, "{found} and not {before}");
            if before == 2_000 {
                break;
            }
        }
    });
}
