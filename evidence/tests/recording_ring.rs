//! A ring in use: what retention removes and what it says of it, pins, and readers beside a writer.

#![expect(clippy::unwrap_used, reason = "what helps a test may panic as the test does")]

#[expect(dead_code, reason = "other test crates use the rest")]
mod recording;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use casefile_evidence::recording::Hole;
use casefile_evidence::recording::delta::Encoder;
use casefile_evidence::recording::reader::{Piece, Recording};
use casefile_evidence::recording::segment::{Retention, Store};
use casefile_proto::gap::GapReason;
use casefile_proto::ids::FrameSeq;
use casefile_proto::sample::Frame;
use casefile_proto::time::{WallTime, Window};
use casefile_proto::units::Bytes;
use recording::{EPOCH, Machine, Names};

/// Small enough that segments are followed by another after 64 KiB.
const SMALL: Retention = Retention { bytes: Bytes::kib(256), age: Duration::from_secs(7 * 86_400) };

fn window(from: i64, until: i64) -> Window {
    Window::new(WallTime::from_secs(from), WallTime::from_secs(until)).unwrap()
}

fn read(dir: &Path, window: Option<Window>) -> (Vec<u64>, Vec<Hole>) {
    let (mut seqs, mut holes, mut names) = (Vec::new(), Vec::new(), Names::default());
    let mut recording = Recording::open_dir(dir).unwrap();
    recording
        .pieces(window, &mut |piece| {
            match piece {
                Piece::Frame(frame) => seqs.push(names.plain(&frame).seq),
                Piece::Hole(hole) => holes.push(hole),
                Piece::Header(_) => {}
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    (seqs, holes)
}

/// A machine with long lines in its kernel log, so that a ring fills quickly.
fn noisy(machine: &mut Machine, count: usize) -> Vec<Frame> {
    let mut frames = machine.frames(count);
    let mut dice = recording::Dice::new(machine.seq);
    for frame in &mut frames {
        for event in &mut frame.events {
            event.text = (0..400).map(|_| char::from(b'a' + dice.below(26) as u8)).collect();
        }
    }
    frames
}

fn append(store: &mut Store, encoder: &mut Encoder, frames: &[Frame]) {
    for frame in frames {
        let mut records = encoder.header();
        encoder.frame(frame, &mut records);
        store.append(&records).unwrap();
    }
}

#[test]
fn retention_removes_the_oldest_and_says_up_to_when() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(1, 21);
    let mut store = Store::open(dir.path(), SMALL).unwrap();
    let mut encoder = Encoder::new(machine.header.clone());
    for _ in 0..80 {
        append(&mut store, &mut encoder, &noisy(&mut machine, 60));
        assert!(store.held().0 <= SMALL.bytes, "{:?}", store.held());
    }
    let (seqs, holes) = read(dir.path(), None);
    assert_eq!((seqs.last(), holes), (Some(&machine.seq), vec![]));
    let first = seqs[0];
    assert!(first > 1 && seqs.len() as u64 == machine.seq - first + 1);
    // The window begins before the ring does.
    let first_wall = EPOCH + i64::try_from(first).unwrap();
    let (seqs, holes) = read(dir.path(), Some(window(EPOCH + 1, first_wall + 10)));
    assert_eq!(seqs, (first..first + 10).collect::<Vec<_>>());
    let [hole] = &holes[..] else { panic!("{holes:?}") };
    assert_eq!(hole.gap.reason, GapReason::RingOverwritten);
    assert_eq!(hole.gap.interval, Some(window(EPOCH + 1, first_wall)));
    // So does what a session wants.
    let mut found = Vec::new();
    let mut recording = Recording::open_dir(dir.path()).unwrap();
    recording
        .after(machine.header.boot, FrameSeq(1), &mut |piece| {
            if let Piece::Hole(hole) = piece {
                found.push((hole.gap.reason, hole.seqs));
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(found, [(GapReason::RingOverwritten, Some((FrameSeq(2), FrameSeq(first - 1))))]);
    // It is remembered when the store is opened again.
    drop(store);
    drop(Store::open(dir.path(), SMALL).unwrap());
    assert_eq!(read(dir.path(), Some(window(EPOCH, EPOCH + 2))).1[0].gap.reason, GapReason::RingOverwritten);
}

#[test]
fn what_is_pinned_is_kept_until_the_pin_is_lifted() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(1, 22);
    let keep = Retention { bytes: Bytes::mib(64), age: Duration::from_secs(120) };
    let mut store = Store::open(dir.path(), keep).unwrap();
    let mut encoder = Encoder::new(machine.header.clone());
    store.pin(WallTime::from_secs(EPOCH + 1));
    for boot in 1..=6 {
        // A header of its own gives each boot a segment of its own.
        machine.header.agent_version = format!("0.{boot}.0");
        let mut next = Encoder::new(machine.header.clone());
        std::mem::swap(&mut encoder, &mut next);
        let mut frames = machine.frames(61);
        // The new encoder has seen no definition: what counts here is the numbers.
        frames.iter_mut().flat_map(|f| &mut f.samples).for_each(|s| s.readings.clear());
        append(&mut store, &mut encoder, &frames);
    }
    assert_eq!(read(dir.path(), None).0[0], 1);
    store.unpin();
    append(&mut store, &mut encoder, &machine.frames(60));
    let first = read(dir.path(), None).0[0];
    assert!(first > 61, "{first}");
}

#[test]
fn a_window_says_what_it_asks_for_in_vain() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(1, 23);
    let mut store = Store::open(dir.path(), SMALL).unwrap();
    let holes = |from, until| {
        let (seqs, holes) = read(dir.path(), Some(window(EPOCH + from, EPOCH + until)));
        let holes: Vec<_> = holes.iter().map(|h| (h.gap.reason, h.gap.interval.unwrap())).collect();
        (seqs.len(), holes)
    };
    let not_recorded = |from, until| (GapReason::NotRecorded, window(EPOCH + from, EPOCH + until));
    assert_eq!(holes(0, 9), (0, vec![not_recorded(0, 9)]), "an empty ring");
    append(&mut store, &mut Encoder::new(machine.header.clone()), &machine.frames(100));
    // Frames at seconds 1 to 100.
    assert_eq!(holes(1, 101), (100, vec![]));
    assert_eq!(holes(0, 101), (100, vec![]), "a tick that is less than one and a half away is not missed");
    assert_eq!(holes(-5, 50), (49, vec![not_recorded(-5, 1)]));
    assert_eq!(holes(50, 110), (51, vec![not_recorded(101, 110)]));
    assert_eq!(holes(-10, -5), (0, vec![not_recorded(-10, -5)]));
    assert_eq!(holes(200, 210), (0, vec![not_recorded(200, 210)]));
}

#[test]
fn a_reader_beside_a_writer_sees_every_frame_up_to_some_moment_and_no_hole() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(1, 24);
    let frames = machine.frames(900);
    let keep = Retention { bytes: Bytes::mib(64), ..SMALL };
    let mut store = Store::open(dir.path(), keep).unwrap();
    let mut encoder = Encoder::new(machine.header.clone());
    append(&mut store, &mut encoder, &frames[..1]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (i, frame) in frames.iter().enumerate().skip(1) {
                // Short blocks: what is tried is a reader between the closing of one and the next.
                if i % 5 == 0 {
                    encoder.restart();
                }
                append(&mut store, &mut encoder, std::slice::from_ref(frame));
            }
            done.store(true, Ordering::Release);
        });
        let mut reads = 0;
        loop {
            let is_last = done.load(Ordering::Acquire);
            let (seqs, holes) = read(dir.path(), None);
            assert_eq!(holes, []);
            assert!(seqs.iter().copied().eq(1..=seqs.len() as u64), "{} frames", seqs.len());
            reads += 1;
            if is_last {
                assert_eq!(seqs.len(), 900);
                assert!(reads > 1);
                break;
            }
        }
    });
}
