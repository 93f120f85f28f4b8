//! Frames through a store on disk and back through a reader: the ring and the last words.

#![expect(clippy::unwrap_used, reason = "what helps a test may panic as the test does")]

mod recording;

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use casefile_evidence::recording::delta::Encoder;
use casefile_evidence::recording::reader::{Cut, Piece, Recording};
use casefile_evidence::recording::segment::{Last, Retention, Store, StoreError};
use casefile_evidence::recording::skim::{Skimmed, Skimmer};
use casefile_evidence::recording::wal::Wal;
use casefile_evidence::recording::{Header, Hole};
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::ids::{BootId, FrameSeq};
use casefile_proto::sample::{Frame, Outcome};
use casefile_proto::time::{WallTime, Window};
use casefile_proto::units::Bytes;
use proptest::prelude::*;
use recording::{EPOCH, Machine, Names, Plain, SECOND, count_outcomes, plain};

const KEEP: Retention = Retention { bytes: Bytes::mib(64), age: Duration::from_secs(7 * 86_400) };

/// What a reader yielded.
#[derive(Default)]
struct Read {
    frames: Vec<Plain>,
    holes: Vec<Hole>,
    headers: Vec<Header>,
}

impl Read {
    fn piece(&mut self, names: &mut Names, piece: Piece) {
        match piece {
            Piece::Header(header) => self.headers.push(header),
            Piece::Frame(frame) => self.frames.push(names.plain(&frame)),
            Piece::Hole(hole) => self.holes.push(hole),
        }
    }
}

fn read(recording: &mut Recording, window: Option<Window>) -> Read {
    let (mut read, mut names) = (Read::default(), Names::default());
    recording
        .pieces(window, &mut |piece| {
            read.piece(&mut names, piece);
            ControlFlow::Continue(())
        })
        .unwrap();
    read
}

fn read_dir(dir: &Path) -> Read {
    read(&mut Recording::open_dir(dir).unwrap(), None)
}

fn after(dir: &Path, boot: BootId, seq: u64) -> Read {
    let (mut read, mut names) = (Read::default(), Names::default());
    let mut recording = Recording::open_dir(dir).unwrap();
    let each = &mut |piece| {
        read.piece(&mut names, piece);
        ControlFlow::Continue(())
    };
    recording.after(boot, FrameSeq(seq), each).unwrap();
    read
}

fn cut(dir: &Path, window: Window) -> (Cut, Vec<u8>) {
    let mut out = Vec::new();
    (Recording::open_dir(dir).unwrap().cut(window, &mut out).unwrap(), out)
}

/// Appends frame by frame, as an agent does.
fn store(store: &mut Store, header: &Header, frames: &[Frame]) {
    let mut encoder = Encoder::new(header.clone());
    store.append(&encoder.header()).unwrap();
    for frame in frames {
        let mut record = Vec::new();
        encoder.frame(frame, &mut record);
        store.append(&record).unwrap();
    }
}

fn seconds(from: i64, until: i64) -> Window {
    Window::new(WallTime::from_secs(EPOCH + from), WallTime::from_secs(EPOCH + until)).unwrap()
}

fn recorded(seed: u64, count: usize) -> (tempfile::TempDir, Vec<Frame>, Machine) {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(1, seed);
    let frames = machine.frames(count);
    store(&mut Store::open(dir.path(), KEEP).unwrap(), &machine.header, &frames);
    (dir, frames, machine)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_stored_is_read(seed: u64, count in 1usize..300) {
        let (dir, frames, machine) = recorded(seed, count);
        let found = read_dir(dir.path());
        prop_assert_eq!(&found.frames, &plain(&frames));
        prop_assert_eq!(found.holes, vec![]);
        prop_assert_eq!(found.headers, vec![machine.header]);
    }

    #[test]
    fn a_cut_has_the_frames_of_its_window_and_says_so(seed: u64, from in -20i64..250, length in 1i64..150) {
        let (dir, frames, _) = recorded(seed, 200);
        let window = seconds(from, from + length);
        let expected: Vec<_> = plain(&frames).into_iter().filter(|f| window.contains(f.at.wall)).collect();
        let (cut, segment) = cut(dir.path(), window);
        prop_assert_eq!(cut.frames, expected.len() as u64);
        let mut recording = Recording::from_segment(&mut segment.as_slice(), Bytes::mib(16)).unwrap();
        let found = read(&mut recording, None);
        prop_assert_eq!(&found.frames, &expected);
        let outcomes = count_outcomes(&expected);
        for (source, row) in (0u16..).zip(&cut.sources) {
            let count = |word| outcomes.get(&(source, word)).copied().unwrap_or(0);
            let counted = row.outcomes;
            prop_assert_eq!(counted.complete, count("complete"));
            prop_assert_eq!(counted.partial, count("partial"));
            prop_assert_eq!(counted.absent, count("absent"));
            prop_assert_eq!(counted.failed, count("failed"));
            prop_assert_eq!(counted.timed_out, count("timed out"));
            prop_assert_eq!(counted.skipped, count("skipped"));
            let readings: usize = expected.iter().map(|f| f.samples[usize::from(source)].3.len()).sum();
            prop_assert_eq!(row.records, readings as u64);
            prop_assert!(row.covered.windows(2).all(|w| w[0].until() < w[1].from()));
            prop_assert!(row.covered.iter().all(|w| window.intersect(w) == Some(*w)));
        }
        // The holes at its ends are in it, and reading it again in its window finds the same ones.
        prop_assert_eq!(found.holes.iter().map(|h| h.gap.clone()).collect::<Vec<_>>(), cut.gaps.clone());
        prop_assert_eq!(read(&mut recording, Some(window)).holes, found.holes);
    }

    #[test]
    fn a_session_catches_up_after_any_frame(seed: u64, seq in 0u64..200) {
        let (dir, frames, machine) = recorded(seed, 190);
        let found = after(dir.path(), machine.header.boot, seq);
        prop_assert_eq!(&found.frames[..], &plain(&frames)[(seq as usize).min(190)..]);
        prop_assert_eq!(found.holes, vec![]);
        prop_assert!(after(dir.path(), BootId::from_bytes([9; 16]), seq).frames.is_empty());
    }
}

#[test]
fn a_store_goes_on_where_it_was_left() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(1, 1);
    let mut frames = Vec::new();
    for count in [1, 59, 60, 61, 7, 130] {
        let mut open = Store::open(dir.path(), KEEP).unwrap();
        assert_eq!(open.last().map(|l| l.seq.0), frames.last().map(|f: &Frame| f.seq.0));
        // Every run is an agent that has to learn its series anew.
        let (seq, at) = (machine.seq, machine.at);
        machine = Machine::new(1, count as u64);
        (machine.seq, machine.at) = (seq, at);
        let more = machine.frames(count);
        store(&mut open, &machine.header, &more);
        open.sync().unwrap();
        frames.extend(more);
    }
    let found = read_dir(dir.path());
    assert_eq!(found.frames.len(), frames.len());
    assert_eq!(found.frames.iter().map(|f| f.seq).collect::<Vec<_>>(), (1..=318).collect::<Vec<_>>());
    assert_eq!(found.holes, []);
    let held = Store::open(dir.path(), KEEP).unwrap().held().1.unwrap();
    assert_eq!((held.from(), held.until()), (frames[0].at.wall, machine.at.wall.offset(1)));
}

#[test]
fn a_second_writer_is_refused_and_a_reader_is_not() {
    let (dir, frames, _) = recorded(2, 10);
    let _first = Store::open(dir.path(), KEEP).unwrap();
    assert!(matches!(Store::open(dir.path(), KEEP), Err(StoreError::Locked { .. })));
    assert_eq!(read_dir(dir.path()).frames, plain(&frames));
}

#[test]
fn the_directory_and_its_files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("ring");
    let mut machine = Machine::new(1, 2);
    store(&mut Store::open(&dir, KEEP).unwrap(), &machine.header.clone(), &machine.frames(70));
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for name in ["tail", "lock", "00000001.seg"] {
        assert_eq!(mode(&dir.join(name)), 0o600, "{name}");
    }
}

#[test]
fn numbers_that_are_missing_are_a_hole() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(1, 3);
    let mut frames = machine.frames(100);
    frames.drain(40..45);
    store(&mut Store::open(dir.path(), KEEP).unwrap(), &machine.header, &frames);
    let found = read_dir(dir.path());
    assert_eq!(found.frames.len(), 95);
    let [hole] = &found.holes[..] else { panic!("{:?}", found.holes) };
    assert_eq!((hole.gap.reason, hole.gap.count), (GapReason::NotRecorded, Some(5)));
    assert_eq!(hole.seqs, Some((FrameSeq(41), FrameSeq(45))));
    // Frame 40 was at second 40 and speaks for the second after it.
    assert_eq!(hole.gap.interval, Some(seconds(41, 46)));
}

#[test]
fn time_without_frames_is_a_hole_and_so_is_a_reboot() {
    let dir = tempfile::tempdir().unwrap();
    let mut open = Store::open(dir.path(), KEEP).unwrap();
    let mut machine = Machine::new(1, 4);
    let first = machine.frames(10);
    store(&mut open, &machine.header, &first);
    machine.sleep(29);
    let mut again = Machine::new(1, 5);
    (again.seq, again.at) = (machine.seq, machine.at);
    let second = again.frames(10);
    store(&mut open, &again.header, &second);
    let mut rebooted = Machine::new(2, 6);
    rebooted.at.wall = WallTime::from_secs(EPOCH + 99);
    let third = rebooted.frames(10);
    store(&mut open, &rebooted.header, &third);
    let found = read_dir(dir.path());
    assert_eq!(found.frames.len(), 30);
    let holes: Vec<_> = found.holes.iter().map(|h| (h.boot, h.gap.reason, h.gap.interval.unwrap(), h.seqs)).collect();
    let (old, new) = (machine.header.boot, rebooted.header.boot);
    assert_eq!(
        holes,
        [(old, GapReason::NotRecorded, seconds(11, 40), None), (new, GapReason::NodeRebooted, seconds(50, 100), None)]
    );
    assert_eq!(found.headers, [machine.header, rebooted.header]);
    // Both lie outside this window, and it lies within the first.
    let (cut, _) = cut(dir.path(), seconds(20, 30));
    assert_eq!(
        cut.gaps.iter().map(|g| (g.reason, g.interval.unwrap())).collect::<Vec<_>>(),
        [(GapReason::NotRecorded, seconds(20, 30))]
    );
}

#[test]
fn what_was_measured_just_before_the_window_covers_its_beginning_and_stays_out_of_it() {
    let (dir, frames, machine) = recorded(3, 130);
    // Half a second after a tick, for every tick that can be the last before a window: also the last of a block.
    for before in &frames[1..100] {
        let from = before.at.wall.offset(SECOND.cast_signed() / 2);
        let window = Window::new(from, from.offset(20 * SECOND.cast_signed())).unwrap();
        let (cut, _) = cut(dir.path(), window);
        assert_eq!(cut.frames, 20);
        for (sample, row) in before.samples.iter().zip(&cut.sources) {
            let every = machine.header.schema.sources[usize::from(sample.source.0)].every_nanos;
            let measured = matches!(sample.outcome, Outcome::Complete | Outcome::Partial { .. });
            if measured && every >= SECOND {
                assert_eq!(
                    row.covered.first().map(Window::from),
                    Some(from),
                    "{} after tick {}",
                    row.source,
                    before.seq
                );
            }
        }
    }
}

#[test]
fn a_source_that_was_not_due_in_a_short_window_covers_nothing_and_says_so() {
    let (dir, frames, machine) = recorded(3, 130);
    let sources = &machine.header.schema.sources;
    let slow = sources.iter().position(|s| s.every_nanos > 2 * SECOND).expect("a slow source in the test's schema");
    let measured = |f: &Frame| f.samples.iter().any(|s| usize::from(s.source.0) == slow && !s.outcome.is_not_due());
    let whole =
        |f: &Frame| f.samples.iter().any(|s| usize::from(s.source.0) == slow && matches!(s.outcome, Outcome::Complete));
    let before = (1..100).find(|&i| whole(&frames[i]) && !measured(&frames[i + 1])).expect("a tick before a quiet one");
    let from = frames[before].at.wall.offset(SECOND.cast_signed() / 2);
    let (cut, _) = cut(dir.path(), Window::new(from, from.offset(SECOND.cast_signed())).unwrap());
    let row = cut.sources.iter().find(|s| s.source == sources[slow].name).unwrap();
    assert_eq!((row.records, row.covered.len()), (0, 0), "{row:?}");
    assert!(row.gaps.iter().any(|g| g.reason == GapReason::NotRecorded), "{row:?}");
}

#[test]
fn a_hole_that_was_recorded_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(1, 7);
    let frames = machine.frames(20);
    let mut encoder = Encoder::new(machine.header.clone());
    let mut records = encoder.header();
    frames[..10].iter().for_each(|f| encoder.frame(f, &mut records));
    let gap = Gap::new(GapReason::CollectorAway, "away").over(seconds(11, 15)).counting(4);
    let hole = Hole { boot: machine.header.boot, seqs: Some((FrameSeq(11), FrameSeq(14))), gap };
    encoder.hole(&hole, &mut records);
    frames[14..].iter().for_each(|f| encoder.frame(f, &mut records));
    let mut open = Store::open(dir.path(), KEEP).unwrap();
    open.append(&records).unwrap();
    assert_eq!(read_dir(dir.path()).holes, std::slice::from_ref(&hole));
    drop(open);
    let mut open = Store::open(dir.path(), KEEP).unwrap();
    let more = machine.frames(1);
    store(&mut open, &machine.header, &more);
    assert_eq!(read_dir(dir.path()).holes, [hole]);
}

#[test]
fn a_bad_record_is_refused_and_what_was_stored_stays() {
    let (dir, frames, mut machine) = recorded(8, 10);
    let mut open = Store::open(dir.path(), KEEP).unwrap();
    let mut encoder = Encoder::new(machine.header.clone());
    let mut records = encoder.header();
    let more = machine.frames(3);
    more.iter().for_each(|f| encoder.frame(f, &mut records));
    let good = records.clone();
    *records.last_mut().unwrap() ^= 1;
    assert!(matches!(open.append(&records), Err(StoreError::Record(_))));
    assert!(matches!(open.append(&good[good.len() - 20..]), Err(StoreError::Record(_))));
    assert_eq!(read_dir(dir.path()).frames, plain(&frames));
    open.append(&good).unwrap();
    assert_eq!(read_dir(dir.path()).frames.len(), 13);
    assert!(matches!(open.append(&good), Err(StoreError::Record(_))), "frames that are there already");
    assert_eq!(open.last().unwrap().seq, FrameSeq(13));
}

/// What a skimmer tells of these records.
fn skimmed(header: &Header, records: &[u8]) -> Vec<Last> {
    let (mut skimmer, mut rest, mut frames) = (Skimmer::new(header.clone()), records, Vec::new());
    while let Some((said, taken)) = skimmer.next(rest).unwrap() {
        if let Skimmed::Frame { seq, at } = said {
            frames.push(Last { boot: header.boot, seq, at });
        }
        rest = &rest[taken..];
    }
    frames
}

#[test]
fn what_was_skimmed_is_stored_as_what_was_decoded() {
    let mut machine = Machine::new(2, 5);
    let (header, frames) = (machine.header.clone(), machine.frames(200));
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut decoded, mut known) = (Store::open(one.path(), KEEP).unwrap(), Store::open(other.path(), KEEP).unwrap());
    let mut encoder = Encoder::new(header.clone());
    let mut records = encoder.header();
    frames.iter().for_each(|frame| encoder.frame(frame, &mut records));
    decoded.append(&records).unwrap();
    let told = skimmed(&header, &records);
    assert_eq!(known.append_skimmed(&records, &told).unwrap(), told.len());
    assert_eq!((known.last(), known.held()), (decoded.last(), decoded.held()));
    drop((decoded, known));
    assert_eq!(read_dir(one.path()).frames, read_dir(other.path()).frames);
}

#[test]
fn frames_that_nobody_skimmed_are_refused() {
    let mut machine = Machine::new(2, 5);
    let (header, frames) = (machine.header.clone(), machine.frames(3));
    let mut encoder = Encoder::new(header.clone());
    let mut records = encoder.header();
    frames.iter().for_each(|frame| encoder.frame(frame, &mut records));
    let told = skimmed(&header, &records);
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), KEEP).unwrap();
    assert!(store.append_skimmed(&records, &told[..2]).is_err(), "one frame more than was told");
    let other = Last { boot: BootId::from_bytes([0xee; 16]), ..told[0] };
    assert!(store.append_skimmed(&records, &[other, told[1], told[2]]).is_err(), "of another boot");
    assert_eq!(store.last(), None);
    store.append_skimmed(&records, &told).unwrap();
    drop(store);
    // Opened again, it knows no keyframe.
    let mut store = Store::open(dir.path(), KEEP).unwrap();
    let (mut delta, next) = (encoder.header(), machine.frame());
    encoder.frame(&next, &mut delta);
    let told = Last { boot: header.boot, seq: next.seq, at: next.at };
    assert!(store.append_skimmed(&delta, &[told]).is_err());
}

#[test]
fn stores_of_one_log_hold_what_was_committed_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (log, root) = (dir.path().join("log"), dir.path().join("stores"));
    let mut machines = [Machine::new(1, 3), Machine::new(2, 4)];
    let mut encoders = [0, 1].map(|n: usize| Encoder::new(machines[n].header.clone()));
    let mut held = [Vec::new(), Vec::new()];
    for round in 0..4 {
        let wal = Wal::open(&log, &root, 1).unwrap().remove(0);
        let mut stores = ["1", "2"].map(|name| Store::open_logged(&root.join(name), KEEP, &wal).unwrap());
        for (n, store) in stores.iter_mut().enumerate() {
            assert_eq!(store.last().map(|last| last.seq), held[n].last().map(|frame: &Frame| frame.seq), "{round}");
            let mut records = encoders[n].header();
            encoders[n].restart();
            // Of more than a block: it closes within what is committed at once.
            for frame in machines[n].frames(70) {
                encoders[n].frame(&frame, &mut records);
                held[n].push(frame);
            }
            store.append(&records).unwrap();
        }
        wal.commit().unwrap();
        for (n, store) in stores.iter_mut().enumerate() {
            store.sync().unwrap();
            let read = read_dir(&root.join((n + 1).to_string()));
            assert_eq!(read.frames, plain(&held[n]), "what is committed is read at once");
        }
        // Appended, not committed, and killed.
        let mut lost = encoders[0].header();
        encoders[0].restart();
        let mut later = Machine::new(1, 3);
        later.frames(held[0].len());
        encoders[0].frame(&later.frame(), &mut lost);
        stores[0].append(&lost).unwrap();
        assert_eq!(read_dir(&root.join("1")).frames, plain(&held[0]));
    }
}
