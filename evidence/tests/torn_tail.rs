//! A recording that was cut off at any byte: what is whole is there, nothing else is, and the store goes on.

#![expect(clippy::unwrap_used, reason = "what helps a test may panic as the test does")]

#[expect(dead_code, reason = "other test crates use the rest")]
mod recording;

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use casefile_evidence::recording::Header;
use casefile_evidence::recording::delta::Encoder;
use casefile_evidence::recording::reader::{Piece, Recording};
use casefile_evidence::recording::segment::{Retention, Store};
use casefile_proto::gap::GapReason;
use casefile_proto::sample::Frame;
use casefile_proto::time::Window;
use casefile_proto::units::Bytes;
use recording::{Machine, Names, Plain, plain};

const KEEP: Retention = Retention { bytes: Bytes::mib(64), age: Duration::from_secs(7 * 86_400) };

fn read(dir: &Path) -> (Vec<Plain>, Vec<GapReason>) {
    let (mut frames, mut holes, mut names) = (Vec::new(), Vec::new(), Names::default());
    let mut recording = Recording::open_dir(dir).unwrap();
    recording
        .pieces(None, &mut |piece| {
            match piece {
                Piece::Frame(frame) => frames.push(names.plain(&frame)),
                Piece::Hole(hole) => holes.push(hole.gap.reason),
                Piece::Header(_) => {}
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    (frames, holes)
}

/// Frames of a block in these tests: short ones, so that every byte of one can be tried.
const BLOCK: usize = 4;

/// Appends frame by frame, with a keyframe every [`BLOCK`]; returns the length of the tail after each.
fn store(dir: &Path, header: &Header, frames: &[Frame]) -> Vec<u64> {
    let mut store = Store::open(dir, KEEP).unwrap();
    let mut encoder = Encoder::new(header.clone());
    store.append(&encoder.header()).unwrap();
    let mut lengths = Vec::new();
    for (i, frame) in frames.iter().enumerate() {
        let mut record = Vec::new();
        if i % BLOCK == 0 {
            encoder.restart();
        }
        encoder.frame(frame, &mut record);
        store.append(&record).unwrap();
        lengths.push(dir.join("tail").metadata().unwrap().len());
    }
    lengths
}

/// The records of the frames from this one on, by an encoder that knows all series.
fn records_from(header: &Header, frames: &[Frame], first: usize) -> Vec<u8> {
    let (mut encoder, mut unused) = (Encoder::new(header.clone()), Vec::new());
    let mut records = encoder.header();
    frames[..first].iter().for_each(|frame| encoder.frame(frame, &mut unused));
    encoder.restart();
    frames[first..].iter().for_each(|frame| encoder.frame(frame, &mut records));
    records
}

/// Puts these files there and nothing else.
fn lay_out(dir: &Path, segment: &[u8], tail: &[u8]) {
    for entry in std::fs::read_dir(dir).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    std::fs::write(dir.join("00000001.seg"), segment).unwrap();
    std::fs::write(dir.join("tail"), tail).unwrap();
}

/// That the directory has these frames and no holes. Says little when it fails: frames are long.
fn assert_read(dir: &Path, frames: &[Plain], what: &str) {
    let (found, holes) = read(dir);
    assert_eq!((found.len(), holes), (frames.len(), vec![]), "{what}");
    assert!(found == frames, "{what}: other frames");
}

#[test]
fn a_tail_cut_at_any_byte_has_its_whole_frames_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(1, 11);
    let frames = machine.frames(11);
    let lengths = store(dir.path(), &machine.header, &frames);
    let tail = std::fs::read(dir.path().join("tail")).unwrap();
    let segment = std::fs::read(dir.path().join("00000001.seg")).unwrap();
    let all = plain(&frames);
    for cut in 0..=tail.len() {
        lay_out(dir.path(), &segment, &tail[..cut]);
        let whole = 8 + lengths[8..].iter().filter(|length| **length <= cut as u64).count();
        assert_read(dir.path(), &all[..whole], &format!("read at {cut}"));
        let mut store = Store::open(dir.path(), KEEP).unwrap();
        assert_eq!(store.last().unwrap().seq.0, whole as u64, "last at {cut}");
        if cut % 5 == 0 || lengths.contains(&(cut as u64)) {
            store.append(&records_from(&machine.header, &frames, whole)).unwrap();
            assert_read(dir.path(), &all, &format!("appended at {cut}"));
        }
    }
}

#[test]
fn a_block_cut_at_any_byte_is_read_from_the_tail_that_it_was_made_of() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(1, 13);
    let frames = machine.frames(BLOCK + 3);
    store(dir.path(), &machine.header, &frames[..BLOCK]);
    let before = std::fs::read(dir.path().join("tail")).unwrap();
    std::fs::remove_dir_all(dir.path()).unwrap();
    store(dir.path(), &machine.header, &frames[..BLOCK + 1]);
    let segment = std::fs::read(dir.path().join("00000001.seg")).unwrap();
    let all = plain(&frames);
    for cut in 0..=segment.len() {
        // The machine went down while the block was written: the tail was not yet emptied.
        lay_out(dir.path(), &segment[..cut], &before);
        assert_read(dir.path(), &all[..BLOCK], &format!("read at {cut}"));
        let mut store = Store::open(dir.path(), KEEP).unwrap();
        assert_eq!(store.last().unwrap().seq.0, BLOCK as u64, "last at {cut}");
        assert_read(dir.path(), &all[..BLOCK], &format!("opened at {cut}"));
        if cut % 5 == 0 || cut == segment.len() {
            store.append(&records_from(&machine.header, &frames, BLOCK)).unwrap();
            assert_read(dir.path(), &all, &format!("appended at {cut}"));
        }
    }
}

#[test]
fn a_flipped_bit_costs_what_it_hit_and_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(1, 17);
    let frames = machine.frames(3 * BLOCK + 3);
    store(dir.path(), &machine.header, &frames);
    let all = plain(&frames);
    for name in ["00000001.seg", "tail"] {
        let path = dir.path().join(name);
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            std::fs::write(&path, &bad).unwrap();
            let (found, holes) = read(dir.path());
            // Nothing that was not recorded, and what is missing between frames has its reason.
            let mut left = all.iter();
            assert!(found.iter().all(|frame| left.any(|f| f == frame)), "{name} at {at}");
            assert!(found.len() < all.len(), "{name} at {at}: a flipped bit went unnoticed");
            let first = found.first().map_or(0, |f| f.seq);
            let is_missing_inside = first + found.len() as u64 - 1 < found.last().map_or(0, |f| f.seq);
            if is_missing_inside {
                assert_eq!(holes, [GapReason::ParseFailed], "{name} at {at}");
            }
        }
        std::fs::write(&path, &good).unwrap();
    }
    assert_read(dir.path(), &all, "undamaged");
}

#[test]
fn numbers_behind_damage_are_not_given_out_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(1, 18);
    let frames = machine.frames(4 * BLOCK + 1);
    store(dir.path(), &machine.header, &frames[..3 * BLOCK + 1]);
    let good = std::fs::read(dir.path().join("00000001.seg")).unwrap();
    let header = Encoder::new(machine.header.clone()).header().len();
    for at in header..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        lay_out(dir.path(), &bad, &[]);
        let last = Store::open(dir.path(), KEEP).unwrap().last().map_or(0, |last| last.seq.0 as usize);
        // Either the last block is damaged and cut off, or it counts.
        assert!(last == 2 * BLOCK || last == 3 * BLOCK, "{last} at {at}");
        if at % 16 == 0 {
            Store::open(dir.path(), KEEP).unwrap().append(&records_from(&machine.header, &frames, last)).unwrap();
            let (found, _) = read(dir.path());
            assert_eq!(found.last().unwrap().seq as usize, frames.len(), "at {at}");
            assert!(found.len() >= frames.len() - BLOCK, "at {at}");
        }
    }
}

#[test]
fn damage_in_a_block_that_a_window_passes_over_costs_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(1, 18);
    let frames = machine.frames(3 * BLOCK + 1);
    store(dir.path(), &machine.header, &frames);
    let good = std::fs::read(dir.path().join("00000001.seg")).unwrap();
    let header = Encoder::new(machine.header.clone()).header().len();
    let length = u32::from_le_bytes(good[header..header + 4].try_into().unwrap()) as usize;
    let window = Window::new(frames[BLOCK].at.wall, frames[3 * BLOCK].at.wall).unwrap();
    let mut out = Vec::new();
    for at in header..header + 9 + length {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        std::fs::write(dir.path().join("00000001.seg"), &bad).unwrap();
        out.clear();
        let cut = Recording::open_dir(dir.path()).unwrap().cut(window, &mut out).unwrap();
        assert_eq!(cut.frames as usize, 2 * BLOCK, "at {at}");
    }
}

#[test]
fn bytes_of_any_kind_are_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let mut dice = recording::Dice::new(3);
    let mut machine = Machine::new(1, 19);
    let header = Encoder::new(machine.header.clone()).header();
    let mut records = Vec::new();
    let mut encoder = Encoder::new(machine.header.clone());
    machine.frames(5).iter().for_each(|f| encoder.frame(f, &mut records));
    for round in 0..200 {
        let mut bytes = if round % 2 == 0 { header.clone() } else { [&header[..], &records].concat() };
        bytes.extend((0..dice.below(600)).map(|_| dice.next().to_le_bytes()[0]));
        for name in ["00000001.seg", "00000002.seg", "tail"] {
            std::fs::write(dir.path().join(name), &bytes[..bytes.len() - dice.below(9) as usize]).unwrap();
        }
        std::fs::write(dir.path().join("forgotten"), &bytes[..8]).unwrap();
        read(dir.path());
        drop(Store::open(dir.path(), KEEP).unwrap());
        read(dir.path());
    }
}
