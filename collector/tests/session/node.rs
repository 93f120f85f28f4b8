//! A node whose frames are recorded by hand: the ring and the live records as the recorder writes them, and an uplink.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use casefile_agent::collect::Context;
use casefile_agent::host::Host;
use casefile_agent::logs::{FilesConfig, LogConfig};
use casefile_agent::redaction::{Masking, Redaction};
use casefile_agent::uplink::identity::Join;
use casefile_agent::uplink::live::Live;
use casefile_agent::uplink::{self, Collector as Membership, Uplink};
use casefile_evidence::recording::Header;
use casefile_evidence::recording::delta::Encoder;
use casefile_evidence::recording::segment::{Retention, Store};
use casefile_proto::coverage::SourceKind;
use casefile_proto::ids::{BootId, FrameSeq};
use casefile_proto::sample::{
    Frame, MetricDef, MetricIndex, MetricKind, Outcome, Reading, Sample, Schema, SeriesDef, SeriesId, SourceDef,
    SourceIndex,
};
use casefile_proto::session::Collectable;
use casefile_proto::time::{BootTime, Stamp, WallTime};
use casefile_proto::units::{Bytes, Scale, Unit};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) const BOOT: BootId = BootId::from_bytes([5; 16]);

/// When frame 0 would have been.
pub(crate) const START: i64 = 1_795_405_450;

/// Both clocks at a frame.
pub(crate) fn at(seq: u64) -> Stamp {
    Stamp {
        wall: WallTime::from_secs(START + i64::try_from(seq).unwrap()),
        boot: BootTime::from_nanos((1_000 + seq) * 1_000_000_000),
    }
}

pub(crate) struct Node {
    pub(crate) dir: PathBuf,
    pub(crate) name: &'static str,
    recorder: Recorder,
    /// What masks secrets; kept over connections, as an agent that runs does.
    pub(crate) redaction: Option<Arc<Redaction>>,
    uplink: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

/// What the agent's recorder does with a frame.
struct Recorder {
    ring: Store,
    encoder: Encoder,
    live: Live,
    next: u64,
    /// Series of this run are defined once.
    defined: u32,
}

fn header(name: &str) -> Header {
    let metric = MetricDef {
        name: "node_load1".to_owned(),
        help: String::new(),
        kind: MetricKind::Gauge,
        unit: Unit::Count,
        scale: Scale::CENTI,
        labels: vec!["of".to_owned()],
    };
    let source = SourceDef {
        name: "load".to_owned(),
        about: String::new(),
        every_nanos: 1_000_000_000,
        deadline_nanos: 1_000_000_000,
        metrics: vec![metric],
    };
    Header {
        node: name.parse().unwrap(),
        boot: BOOT,
        agent_version: "0.1.0".to_owned(),
        schema: Arc::new(Schema { sources: vec![source] }),
    }
}

impl Recorder {
    fn start(ring: &Path, name: &str) -> Self {
        let mut ring = Store::open(ring, Retention { bytes: Bytes::mib(64), age: super::SOON * 1000 }).unwrap();
        let encoder = Encoder::new(header(name));
        ring.append(&encoder.header()).unwrap();
        let last = ring.last().map(|last| last.seq);
        let live = Live::new(header(name), last);
        Self { ring, encoder, live, next: last.map_or(1, |last| last.0 + 1), defined: 0 }
    }

    fn record(&mut self) {
        self.next = self.next.max(self.live.floor().0 + 1);
        let seq = self.next;
        // A new series every tenth frame, so that definitions must travel too.
        let series: u32 = 1 + u32::try_from(seq / 10).unwrap();
        let new = self.defined..series;
        self.defined = series;
        let def = |id: u32| {
            (SeriesId(id), SeriesDef { metric: MetricIndex(0), labels: [format!("series {id}").into()].into() })
        };
        let value = i64::try_from(seq).unwrap();
        let frame = Frame {
            boot: BOOT,
            seq: FrameSeq(seq),
            at: at(seq),
            samples: vec![Sample {
                source: SourceIndex(0),
                outcome: Outcome::Complete,
                took_nanos: 1,
                defined: new.map(def).collect(),
                readings: (0..series).map(|id| Reading { series: SeriesId(id), value }).collect(),
            }],
            events: Vec::new(),
        };
        let mut record = Vec::new();
        self.encoder.frame(&frame, &mut record);
        self.ring.append(&record).unwrap();
        self.live.push(&frame);
        self.next += 1;
    }
}

impl Node {
    /// A node that records, and has no uplink yet.
    pub(crate) fn new(dir: &Path, name: &'static str) -> Self {
        let dir = dir.join(name);
        std::fs::create_dir_all(dir.join("host/var/log")).unwrap();
        let recorder = Recorder::start(&dir.join("ring"), name);
        Self { dir, name, recorder, redaction: None, uplink: None }
    }

    pub(crate) fn record(&mut self, frames: u64) {
        (0..frames).for_each(|_| self.recorder.record());
    }

    pub(crate) fn last(&self) -> u64 {
        self.recorder.next - 1
    }

    pub(crate) fn floor(&self) -> FrameSeq {
        self.recorder.live.floor()
    }

    /// Writes a log of this many bytes whose lines all lie within the first hour.
    pub(crate) fn write_log(&self, name: &str, bytes: usize) {
        let mut text = String::new();
        let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
        while text.len() < bytes {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            let at = WallTime::from_secs(START + i64::try_from(text.len() * 3_000 / bytes).unwrap());
            text.push_str(&format!("{at} app: {noise:016x}{:016x}\n", noise.rotate_left(17).wrapping_mul(0x9e37)));
        }
        std::fs::write(self.dir.join("host/var/log").join(name), text).unwrap();
    }

    /// Starts the uplink; its clock is ahead of the collector's by this much.
    pub(crate) fn connect(&mut self, url: &str, ahead_nanos: i64) {
        let root = self.dir.join("host");
        let clock: casefile_agent::clock::Clock = Arc::new(move || {
            let now = casefile_collector::clock::now();
            Stamp { wall: now.wall.offset(ahead_nanos), ..now }
        });
        let collector = self.dir.parent().unwrap().join("collector");
        let certificate = super::server::certificate(&collector, self.name);
        let context = Context {
            host: Host::new(&root).unwrap(),
            node: self.name.parse().unwrap(),
            boot: BOOT,
            clock: Arc::clone(&clock),
            ring_dir: Some(self.dir.join("ring")),
            sources: vec!["load"],
            logs: LogConfig { files: vec![FilesConfig { glob: "var/log/*.log".to_owned(), ..FilesConfig::default() }] },
            redaction: Arc::clone(self.redaction.get_or_insert_with(|| {
                Arc::new(Redaction::open(Masking::default(), self.dir.join("redaction.key")).unwrap())
            })),
            left_behind: casefile_agent::collect::LeftBehind::default(),
        };
        let uplink = Uplink {
            collector: Membership { address: url.parse().unwrap(), join: Join::Given(Box::new(certificate)) },
            identity_file: self.dir.join("identity.json"),
            live: self.recorder.live.clone(),
            ring_dir: self.dir.join("ring"),
            context: Arc::new(context),
            spool_dir: self.dir.join("spool"),
            leave_free: None,
            clock,
            collectable: vec![Collectable { name: "files".to_owned(), kind: SourceKind::Logs }],
            connectivity: None,
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            uplink::run(uplink, stopped).await;
        });
        self.uplink = Some((stop, task));
    }

    /// Stops the uplink as the agent does.
    pub(crate) async fn disconnect(&mut self) {
        let (stop, task) = self.uplink.take().unwrap();
        stop.send(()).unwrap();
        tokio::time::timeout(super::SOON, task).await.expect("the uplink ends").unwrap();
    }

    /// The agent is killed and started again: nothing of it is left but what is on its disk.
    pub(crate) async fn kill_and_start(&mut self) {
        if let Some((_, task)) = self.uplink.take() {
            task.abort();
            let _ = task.await;
        }
        self.start_again(Keep::Ring);
    }

    /// A new run of the agent, over its ring or without it.
    pub(crate) fn start_again(&mut self, keep: Keep) {
        let ring = self.dir.join("ring");
        if keep == Keep::Nothing {
            std::fs::remove_dir_all(&ring).unwrap();
        }
        // The lock of the store goes with the old recorder.
        let spare = self.dir.join("spare");
        self.recorder = Recorder::start(&spare, self.name);
        self.recorder = Recorder::start(&ring, self.name);
    }
}

#[derive(PartialEq, Eq)]
pub(crate) enum Keep {
    Ring,
    Nothing,
}

/// A recording of a node, read: its frames, and its holes as text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) frames: Vec<u64>,
    pub(crate) holes: Vec<(Option<(u64, u64)>, casefile_proto::gap::GapReason)>,
}

/// Reads a directory; every frame must be as it was recorded.
pub(crate) fn read(dir: &Path) -> Read {
    use casefile_evidence::recording::reader::{Piece, Recording};
    let mut read = Read::default();
    let each = &mut |piece: Piece| {
        match piece {
            Piece::Header(_) => {}
            Piece::Frame(frame) => {
                let seq = frame.seq.0;
                assert_eq!(frame.at, at(seq));
                assert_eq!(frame.samples[0].outcome, Outcome::Complete, "frame {seq}");
                let values: Vec<i64> = frame.samples[0].readings.iter().map(|r| r.value).collect();
                assert_eq!(values, vec![i64::try_from(seq).unwrap(); 1 + usize::try_from(seq / 10).unwrap()]);
                read.frames.push(seq);
            }
            Piece::Hole(hole) => read.holes.push((hole.seqs.map(|(a, b)| (a.0, b.0)), hole.gap.reason)),
        }
        std::ops::ControlFlow::Continue(())
    };
    Recording::open_dir(dir).unwrap().pieces(None, each).unwrap();
    read
}

/// The collector's numbers of nodes, in the order of asking; kept over restarts of the collector.
#[derive(Default)]
pub(crate) struct Numbers(Mutex<Vec<casefile_proto::ids::NodeName>>);

impl casefile_collector::last_words::NodeNumbers for Numbers {
    fn number(&self, node: &casefile_proto::ids::NodeName) -> Result<u64, casefile_collector::last_words::NoNumber> {
        let mut known = self.0.lock().unwrap();
        if !known.contains(node) {
            known.push(node.clone());
        }
        Ok(known.iter().position(|n| n == node).unwrap() as u64 + 1)
    }
    fn known(&self) -> Result<Vec<(casefile_proto::ids::NodeName, u64)>, casefile_collector::last_words::NoNumber> {
        Ok((1..).zip(&*self.0.lock().unwrap()).map(|(number, node)| (node.clone(), number)).collect())
    }
}
