//! A whole agent over a small tree of files: started, stopped, started again, started twice, started on a bad disk.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use casefile_agent::collect::{self, Ask, ItemSink, SinkError};
use casefile_agent::config::{Config, DEFAULT_RETENTION, GpuConfig};
use casefile_agent::logs::{LogConfig, Selection};
use casefile_agent::redaction::Masking;
use casefile_agent::sandbox::plan::Wanted;
use casefile_agent::sources::{self, SourceSpec};
use casefile_agent::{Agent, Setup, StartError};
use casefile_evidence::archive::chunk::Chunk;
use casefile_evidence::recording::reader::{Piece, Recording};
use casefile_proto::event::EventKind;
use casefile_proto::ids::{BootId, FrameSeq, ItemNumber};
use casefile_proto::item::{ItemHead, ItemTail};
use casefile_proto::sample::Frame;
use casefile_proto::time::Window;
use casefile_proto::units::Bytes;

const EVERY: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(30);

static SOURCES: &[&SourceSpec] = &[&sources::load::SPEC, &sources::pressure::SPEC];

struct Machine {
    tmp: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self { tmp: tempfile::tempdir().unwrap() };
        machine.write("proc/loadavg", "0.10 0.20 0.30 1/100 4242\n");
        machine.boot("11111111-1111-1111-1111-111111111111");
        machine
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.tmp.path().join("host").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn boot(&self, id: &str) {
        self.write("proc/sys/kernel/random/boot_id", &format!("{id}\n"));
    }

    fn data(&self) -> std::path::PathBuf {
        self.tmp.path().join("data")
    }

    fn start(&self) -> Result<Agent, StartError> {
        let config = Config {
            collector: None,
            node: "n-1".parse().unwrap(),
            data_dir: self.data(),
            host_root: self.tmp.path().join("host"),
            retention: DEFAULT_RETENTION,
            leave_free: None,
            cpu_percent: 100.0,
            connectivity: None,
            logs: LogConfig::default(),
            masking: Masking::default(),
            gpu: GpuConfig::default(),
            sandbox: Wanted::Off,
        };
        Agent::start(&config, Setup { every: EVERY, sources: SOURCES, ..Setup::default() })
    }

    fn frames(&self) -> (Vec<Frame>, usize) {
        let (mut frames, mut holes) = (vec![], 0);
        let mut each = |piece| {
            match piece {
                Piece::Frame(frame) => frames.push(frame),
                Piece::Hole(_) => holes += 1,
                Piece::Header(_) => {}
            }
            ControlFlow::Continue(())
        };
        Recording::open_dir(&self.data().join("ring")).unwrap().pieces(None, &mut each).unwrap();
        (frames, holes)
    }
}

async fn until(what: &str, mut there: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !there() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("no {what} within {PATIENCE:?}"));
}

async fn recorded(agent: &Agent, frames: u64) {
    until("frames", || agent.stats().frames.get() >= frames).await;
}

fn starts(frames: &[Frame]) -> Vec<FrameSeq> {
    let started = |f: &&Frame| f.events.iter().any(|e| e.kind == EventKind::AgentStarted);
    frames.iter().filter(started).map(|f| f.seq).collect()
}

#[tokio::test]
async fn an_agent_that_is_started_again_goes_on_counting_and_says_when() {
    let machine = Machine::new();
    let agent = machine.start().unwrap();
    recorded(&agent, 5).await;
    agent.stop().await;
    let (first, _) = machine.frames();
    let agent = machine.start().unwrap();
    recorded(&agent, 5).await;
    agent.stop().await;
    let (all, _) = machine.frames();
    assert_eq!(all.iter().map(|f| f.seq.0).collect::<Vec<_>>(), (1..=all.len() as u64).collect::<Vec<_>>());
    assert_eq!(starts(&all), [FrameSeq(1), FrameSeq(first.len() as u64 + 1)]);
    for frame in &all {
        assert_eq!(frame.samples.len(), SOURCES.len());
        assert_eq!(frame.samples[0].outcome.word(), "complete");
        assert_eq!(frame.samples[1].outcome.word(), "absent", "the tree has no proc/pressure");
        assert_eq!(frame.at.wall.nanos() % 20_000_000, 0, "ticks are aligned");
    }
}

#[tokio::test]
async fn another_boot_begins_again_at_one() {
    let machine = Machine::new();
    for boot in ["11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"] {
        machine.boot(boot);
        let agent = machine.start().unwrap();
        recorded(&agent, 3).await;
        assert_eq!(agent.header().boot, boot.parse::<BootId>().unwrap());
        agent.stop().await;
    }
    assert_eq!(starts(&machine.frames().0), [FrameSeq(1), FrameSeq(1)]);
}

#[tokio::test]
async fn a_second_agent_on_the_same_data_is_refused() {
    let machine = Machine::new();
    let agent = machine.start().unwrap();
    assert!(matches!(machine.start(), Err(StartError::Running(_))));
    recorded(&agent, 2).await;
    agent.stop().await;
    machine.start().unwrap().stop().await;
}

#[tokio::test]
async fn a_ring_that_cannot_be_opened_does_not_stop_the_recorder() {
    let machine = Machine::new();
    machine.start().unwrap().stop().await;
    let ring = machine.data().join("ring");
    std::fs::remove_dir_all(&ring).unwrap();
    std::fs::write(&ring, "in the way").unwrap();
    let agent = machine.start().unwrap();
    recorded(&agent, 3).await;
    until("loss", || agent.stats().ring_frames_lost.get() >= 2).await;
    // No number is used that a frame of this boot may have had.
    assert!(agent.last().unwrap() > FrameSeq(1000));
    std::fs::remove_file(&ring).unwrap();
    let lost = || agent.stats().ring_frames_lost.get();
    until("ring", || agent.stats().ring_written_bytes.get() > 0).await;
    let lost = lost();
    recorded(&agent, agent.stats().frames.get() + 3).await;
    agent.stop().await;
    let (frames, holes) = machine.frames();
    assert!(lost >= 2 && holes >= 1, "{holes} holes tell of {lost} frames");
    assert!(frames.len() >= 3);
}

/// Counts items, and keeps the recording.
#[derive(Default)]
struct Sink {
    recording: Vec<u8>,
    current: Option<ItemHead>,
    ended: usize,
}

impl ItemSink for Sink {
    fn begin(&mut self, _number: ItemNumber, head: &ItemHead) -> Result<(), SinkError> {
        self.current = Some(head.clone());
        Ok(())
    }
    fn chunk(&mut self, chunk: Chunk) -> Result<(), SinkError> {
        if self.current.as_ref().is_some_and(|h| h.source == collect::RECORDING) {
            let mut plain = vec![];
            chunk.check(&mut plain).unwrap();
            self.recording.extend(plain);
        }
        Ok(())
    }
    fn end(&mut self, _tail: &ItemTail) -> Result<(), SinkError> {
        self.ended += 1;
        Ok(())
    }
    fn progress(&mut self, _source: &str, _records: u64, _bytes: u64) {}
}

#[tokio::test]
async fn a_window_is_cut_out_of_the_ring_of_an_agent_that_runs() {
    let machine = Machine::new();
    let agent = machine.start().unwrap();
    recorded(&agent, 10).await;
    let (frames, _) = machine.frames();
    // From the third frame to before the seventh.
    let window = Window::new(frames[2].at.wall, frames[6].at.wall).unwrap();
    let ask = Ask {
        window,
        budget: Bytes::mib(16),
        deadline: PATIENCE,
        sources: vec!["load".to_owned()],
        select: Selection::default(),
        clock: None,
    };
    let mut sink = Sink::default();
    let collected = collect::collect(agent.context(), &ask, &AtomicBool::new(false), &mut sink);
    agent.stop().await;
    assert_eq!(sink.ended, 1);
    let mut found = vec![];
    let mut recording = Recording::from_segment(&mut sink.recording.as_slice(), Bytes::mib(16)).unwrap();
    let mut each = |piece| {
        if let Piece::Frame(frame) = piece {
            found.push(frame.seq.0);
        }
        ControlFlow::Continue(())
    };
    recording.pieces(None, &mut each).unwrap();
    assert_eq!(found, [3, 4, 5, 6]);
    let row = collected.sources.iter().find(|r| r.source == "load").unwrap();
    assert_eq!((row.outcomes.complete, row.items), (4, 1));
    assert_eq!(row.gaps, []);
    assert!(Path::new(&machine.data()).join("ring").exists());
}
