//! FORMAT.md is right: a reader in Python that was written from it reads what was recorded, and the recordings of
//! every version in `testdata` are still read as they were.

#![expect(clippy::unwrap_used, reason = "what helps a test may panic as the test does")]

#[expect(dead_code, reason = "other test crates use the rest")]
mod recording;
mod tools;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use casefile_evidence::recording::Hole;
use casefile_evidence::recording::delta::Encoder;
use casefile_evidence::recording::reader::{Piece, Recording};
use casefile_evidence::recording::segment::{Retention, Store};
use casefile_proto::event::{Event, EventKind};
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::ids::FrameSeq;
use casefile_proto::sample::Outcome;
use casefile_proto::time::{WallTime, Window};
use casefile_proto::units::Bytes;
use recording::{EPOCH, Machine, Names, Plain};
use serde_json::{Value, json};
use tools::tool;

const KEEP: Retention = Retention { bytes: Bytes::mib(64), age: Duration::from_secs(7 * 86_400) };

/// A recording with a closed block, a hole, and frames and events in the tail.
fn record(dir: &Path) {
    let mut machine = Machine::new(1, 31);
    let mut store = Store::open(dir, KEEP).unwrap();
    let mut encoder = Encoder::new(machine.header.clone());
    let mut records = encoder.header();
    machine.frames(70).iter().for_each(|frame| encoder.frame(frame, &mut records));
    let interval = Window::new(WallTime::from_secs(EPOCH + 71), WallTime::from_secs(EPOCH + 81)).unwrap();
    let gap = Gap::new(GapReason::CollectorAway, "the collector was away").over(interval).counting(10);
    encoder.hole(&Hole { boot: machine.header.boot, seqs: Some((FrameSeq(71), FrameSeq(80))), gap }, &mut records);
    machine.sleep(10);
    machine.seq += 10;
    machine.frames(5).iter().for_each(|frame| encoder.frame(frame, &mut records));
    store.append(&records).unwrap();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn gap(gap: &Gap) -> Value {
    let interval = gap.interval.map(|w| [w.from().nanos(), w.until().nanos()]);
    json!({"reason": gap.reason.number(), "interval": interval, "count": gap.count, "detail": gap.detail})
}

fn outcome(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Complete => json!([0]),
        Outcome::Skipped { .. } if outcome.is_not_due() => json!([1]),
        Outcome::Partial { gaps } => json!([2, gaps.iter().map(gap).collect::<Vec<_>>()]),
        Outcome::Absent { why } => json!([3, why]),
        Outcome::Failed { error } => json!([4, error]),
        Outcome::TimedOut { after_nanos } => json!([5, after_nanos]),
        Outcome::Skipped { why } => json!([6, why]),
    }
}

fn event(event: &Event) -> Value {
    let (kind, what) = match &event.kind {
        EventKind::Kernel { seq, facility, level } => (1, json!([facility, level, seq])),
        EventKind::AgentStarted => (2, Value::Null),
        EventKind::Source { source } => (3, json!(source)),
        EventKind::ClockStepped { by_nanos } => (4, json!(by_nanos)),
        EventKind::Lost { count } => (5, json!(count)),
        EventKind::PreviousBoot { found_in } => (6, json!(found_in)),
        EventKind::Gpu { pci, xid } => (7, json!([pci, xid])),
    };
    json!([[event.at.boot.nanos(), event.at.wall.nanos()], kind, what, event.text])
}

fn frame(frame: &Plain, schema: &casefile_proto::sample::Schema) -> Value {
    let samples = frame.samples.iter().map(|(source, result, took, readings)| {
        let source = &schema.sources[usize::from(*source)];
        let mut readings: Vec<_> = readings
            .iter()
            .map(|(metric, labels, value)| (source.metrics[usize::from(*metric)].name.clone(), labels.clone(), *value))
            .collect();
        readings.sort();
        json!([source.name, outcome(result), took, readings])
    });
    json!({
        "boot": hex(frame.boot.as_bytes()),
        "seq": frame.seq,
        "at": [frame.at.boot.nanos(), frame.at.wall.nanos()],
        "samples": samples.collect::<Vec<_>>(),
        "events": frame.events.iter().map(event).collect::<Vec<_>>(),
    })
}

/// What our reader says of a directory, as the Python reader prints it.
fn lines(recording: &mut Recording) -> Vec<Value> {
    let (mut lines, mut names, schema) = (Vec::new(), Names::default(), recording::schema());
    recording
        .pieces(None, &mut |piece| {
            match piece {
                Piece::Header(_) => {}
                Piece::Frame(f) => lines.push(frame(&names.plain(&f), &schema)),
                Piece::Hole(hole) => lines.push(json!({
                    "hole": hex(hole.boot.as_bytes()),
                    "numbers": hole.seqs.map(|(first, last)| [first.0, last.0]),
                    "gap": gap(&hole.gap),
                })),
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    lines
}

fn testdata(version: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata").join(version).join("recording")
}

fn assert_same(found: &[Value], expected: &[Value]) {
    assert_eq!(found.len(), expected.len());
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found, expected, "line {i}");
    }
}

#[test]
fn a_reader_written_from_the_description_reads_what_was_recorded() {
    let Some(python) = tool("python3", &["-c", "import zlib, json"]) else { return };
    let dir = tempfile::tempdir().unwrap();
    record(dir.path());
    let mut recording = Recording::open_dir(dir.path()).unwrap();
    let mut segment = Vec::new();
    recording.cut(Window::new(WallTime::MIN, WallTime::MAX).unwrap(), &mut segment).unwrap();
    std::fs::write(dir.path().join("window.seg"), segment).unwrap();
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/recording/reader.py");
    let print = |files: &[&str]| {
        let output = python.run(dir.path(), &[&[script.to_str().unwrap()], files].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    let expected = lines(&mut recording);
    assert_eq!(expected.len(), 76);
    assert_same(&print(&["00000001.seg", "tail"]), &expected);
    // A cut also tells what its window asks for in vain, at both ends.
    let cut = print(&["window.seg"]);
    assert_same(&cut[1..cut.len() - 1], &expected);
}

#[test]
fn a_recording_of_every_version_is_still_read_as_it_was() {
    ["v1", "v2"].iter().for_each(|version| is_read_as_it_was(&testdata(version)));
}

fn is_read_as_it_was(dir: &Path) {
    let golden = dir.join("frames.jsonl");
    if std::env::var_os("UPDATE_GOLDEN").is_some() && !dir.exists() {
        let made = tempfile::tempdir().unwrap();
        record(made.path());
        std::fs::create_dir_all(dir).unwrap();
        for name in ["00000001.seg", "tail"] {
            std::fs::copy(made.path().join(name), dir.join(name)).unwrap();
        }
        let text: String = lines(&mut Recording::open_dir(dir).unwrap()).iter().map(|l| format!("{l}\n")).collect();
        std::fs::write(&golden, text).unwrap();
    }
    let text = String::from_utf8(std::fs::read(&golden).unwrap()).unwrap();
    let expected: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(expected.len(), 76);
    assert_same(&lines(&mut Recording::open_dir(dir).unwrap()), &expected);
}

#[test]
fn the_same_frames_give_the_same_bytes() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    record(a.path());
    record(b.path());
    for name in ["00000001.seg", "tail"] {
        let read = |dir: &Path| std::fs::read(dir.join(name)).unwrap();
        assert!(read(a.path()) == read(b.path()), "{name}");
    }
}
