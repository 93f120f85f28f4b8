//! Nodes for tests: a fleet that only notes what is wanted of it, and evidence as agents would give it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use casefile_evidence::archive::chunk::{Chunker, Pack};
use casefile_evidence::recording::Header;
use casefile_evidence::recording::delta::Encoder;
use casefile_evidence::recording::reader::Recording;
use casefile_evidence::recording::segment::{Retention, Store};
use casefile_proto::connectivity::{ConnectivityAsk, NodeOutcome, UntestedReason};
use casefile_proto::coverage::{Cost, OutcomeCounts, SourceCoverage, SourceKind};
use casefile_proto::ids::{BootId, FrameSeq, IncidentId, ItemNumber, NodeName, RequestId};
use casefile_proto::item::{ItemHead, ItemKind, ItemTail};
use casefile_proto::node::{Link, NodeStatus};
use casefile_proto::sample::{
    Frame, MetricDef, MetricIndex, MetricKind, Outcome, Reading, Sample, Schema, SeriesDef, SeriesId, SourceDef,
    SourceIndex,
};
use casefile_proto::session::{Collectable, CollectionAsk, Piece, RunId};
use casefile_proto::time::{BootTime, ClockOffset, Stamp, WallTime, Window};
use casefile_proto::units::{Bytes, Scale, Unit};
use tokio::sync::{mpsc, oneshot};

use super::fleet::{Fleet, Wait};
use super::machine::Answer;
use crate::ingest::{AskError, NotConnected};
use crate::last_words::LastWordsError;
use crate::spool::SpooledItem;
use crate::spool::receive::{Begun, Spool};

/// When everything in these tests happens: seconds since the epoch.
pub(crate) const START: i64 = 1_800_000_000;

pub(crate) fn name(s: &str) -> NodeName {
    s.parse().unwrap()
}

/// `[from, until)` in seconds after [`START`].
pub(crate) fn window(from: i64, until: i64) -> Window {
    Window::new(WallTime::from_secs(START + from), WallTime::from_secs(START + until)).unwrap()
}

pub(crate) fn collectable() -> Vec<Collectable> {
    vec![Collectable { name: "files".to_owned(), kind: SourceKind::Logs }]
}

/// What a fleet was told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Ask(NodeName, CollectionAsk, PathBuf),
    Cancel(NodeName, RequestId),
    Pin(NodeName, IncidentId),
    Unpin(NodeName, IncidentId),
}

/// A fleet that notes what it is told, in order.
pub(crate) struct Noting {
    pub(crate) nodes: Mutex<BTreeMap<NodeName, (Link, Option<ClockOffset>)>>,
    pub(crate) last_words: Mutex<BTreeMap<NodeName, PathBuf>>,
    told: mpsc::UnboundedSender<Told>,
}

impl Noting {
    pub(crate) fn new(nodes: &[(&str, Link)]) -> (Arc<Self>, mpsc::UnboundedReceiver<Told>) {
        let clock = Some(ClockOffset { ahead_nanos: 0, bound_nanos: 1_000 });
        let nodes = nodes.iter().map(|(n, link)| (name(n), (*link, clock))).collect();
        let (told, heard) = mpsc::unbounded_channel();
        (Arc::new(Self { nodes: Mutex::new(nodes), last_words: Mutex::default(), told }), heard)
    }

    pub(crate) fn link(&self, node: &str, link: Link) {
        self.nodes.lock().unwrap().get_mut(&name(node)).unwrap().0 = link;
    }

    fn tell(&self, told: Told) {
        // A test that looks no further has dropped its end.
        let _ = self.told.send(told);
    }
}

impl Fleet for Noting {
    fn nodes(&self) -> Vec<NodeStatus> {
        let nodes = self.nodes.lock().unwrap();
        let status = nodes.iter().map(|(node, (link, clock))| NodeStatus {
            node: node.clone(),
            link: *link,
            boot: None,
            agent_version: None,
            last_frame: None,
            clock: *clock,
            last_words: None,
            last_words_bytes: Bytes(0),
            troubles: vec![],
        });
        status.collect()
    }

    fn ask<'a>(&'a self, node: &'a NodeName, ask: CollectionAsk, spool: PathBuf) -> Wait<'a, Result<(), AskError>> {
        let connected = self.nodes.lock().unwrap().get(node).is_some_and(|n| n.0 == Link::Connected);
        self.tell(Told::Ask(node.clone(), ask, spool));
        let answer = if connected { Ok(()) } else { Err(NotConnected { node: node.clone() }.into()) };
        Box::pin(std::future::ready(answer))
    }

    fn cancel<'a>(&'a self, node: &'a NodeName, request: RequestId) -> Wait<'a, ()> {
        self.tell(Told::Cancel(node.clone(), request));
        Box::pin(std::future::ready(()))
    }

    fn test(&self, node: &NodeName, _ask: ConnectivityAsk) -> Result<oneshot::Receiver<NodeOutcome>, UntestedReason> {
        let connected = self.nodes.lock().unwrap().get(node).is_some_and(|n| n.0 == Link::Connected);
        Err(if connected { UntestedReason::TooOld } else { UntestedReason::NotConnected })
    }

    fn pin<'a>(
        &'a self,
        node: &'a NodeName,
        incident: IncidentId,
        _from: WallTime,
    ) -> Wait<'a, Result<(), LastWordsError>> {
        self.tell(Told::Pin(node.clone(), incident));
        Box::pin(std::future::ready(Ok(())))
    }

    fn unpin<'a>(&'a self, node: &'a NodeName, incident: IncidentId) -> Wait<'a, Result<(), LastWordsError>> {
        self.tell(Told::Unpin(node.clone(), incident));
        Box::pin(std::future::ready(Ok(())))
    }

    fn last_words(&self, node: &NodeName) -> Option<PathBuf> {
        self.last_words.lock().unwrap().get(node).cloned()
    }
}

/// Whether an item is sent to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    Whole,
    CutShort,
}

/// Puts an item into a spool as an upload would; a bare number as content is its number.
pub(crate) fn deposit(spool: &Path, number: u32, head: ItemHead, content: &[u8], sent: Sent) -> Option<SpooledItem> {
    let spool = Spool::open(spool.to_owned(), Bytes::mib(64)).unwrap();
    let Begun::Open(mut receiving) = spool.begin(RunId(7), ItemNumber(number), head).unwrap_or_else(|e| panic!("{e}"))
    else {
        panic!("it is there already")
    };
    let mut chunks = Vec::new();
    let mut chunker = Chunker::new(Pack::Deflate, |chunk| {
        chunks.push(chunk);
        Ok(())
    });
    std::io::Write::write_all(&mut chunker, content).unwrap();
    let (size, sha256) = chunker.finish().unwrap();
    let mut offset = 0;
    for chunk in chunks {
        let plain_len = chunk.plain_len;
        let piece = Piece { offset, plain_len, plain_crc32: chunk.plain_crc32, deflated: chunk.deflated.into() };
        receiving.piece(piece).unwrap_or_else(|e| panic!("{e}"));
        offset += u64::from(plain_len);
    }
    receiving.sync().unwrap_or_else(|e| panic!("{e}"));
    let lines = content.iter().filter(|b| **b == b'\n').count();
    let tail = ItemTail { size, sha256, records: u64::try_from(lines).unwrap(), covered: None, gaps: vec![] };
    (sent == Sent::Whole).then(|| receiving.end(tail).unwrap_or_else(|e| panic!("{e}")))
}

pub(crate) fn log(path: &str) -> ItemHead {
    ItemHead {
        kind: ItemKind::Log,
        path: path.parse().unwrap(),
        source: "files".to_owned(),
        method: "read by a test".to_owned(),
        times: None,
    }
}

pub(crate) fn recording() -> ItemHead {
    ItemHead {
        kind: ItemKind::Recording,
        path: "recording/window.seg".parse().unwrap(),
        source: "recording".to_owned(),
        method: "cut by a test".to_owned(),
        times: None,
    }
}

/// What a node says that gave one log file and its recording.
pub(crate) fn answer(asked: Window) -> Answer {
    let row = |source: &str, kind, items| SourceCoverage {
        source: source.to_owned(),
        kind,
        asked,
        covered: vec![asked],
        outcomes: OutcomeCounts::default(),
        records: 1,
        items,
        gaps: vec![],
        cost: Cost::default(),
        redaction: None,
    };
    Answer { sources: vec![row("load", SourceKind::Metrics, 1), row("files", SourceKind::Logs, 1)], gaps: vec![] }
}

/// A directory of last words with one frame at each of these seconds after [`START`].
pub(crate) fn last_words(dir: &Path, node: &str, seconds: std::ops::Range<i64>) {
    let retention = Retention { bytes: Bytes::mib(64), age: std::time::Duration::from_secs(86_400) };
    let mut store = Store::open(dir, retention).unwrap();
    let mut encoder = Encoder::new(header(node));
    let mut records = encoder.header();
    for second in seconds {
        encoder.frame(&frame(second), &mut records);
    }
    store.append(&records).unwrap();
    store.sync().unwrap();
}

/// A standalone segment with one frame at each of these seconds.
pub(crate) fn segment(scratch: &Path, node: &str, seconds: std::ops::Range<i64>) -> Vec<u8> {
    let dir = tempfile::tempdir_in(scratch).unwrap();
    last_words(dir.path(), node, seconds.clone());
    let mut segment = Vec::new();
    Recording::open_dir(dir.path()).unwrap().cut(window(seconds.start, seconds.end), &mut segment).unwrap();
    segment
}

fn header(node: &str) -> Header {
    let load1 = MetricDef {
        name: "node_load1".to_owned(),
        help: "load".to_owned(),
        kind: MetricKind::Gauge,
        unit: Unit::Count,
        scale: Scale::CENTI,
        labels: vec![],
    };
    let load = SourceDef {
        name: "load".to_owned(),
        about: "load".to_owned(),
        every_nanos: 1_000_000_000,
        deadline_nanos: 500_000_000,
        metrics: vec![load1],
    };
    let schema = Arc::new(Schema { sources: vec![load] });
    Header { node: name(node), boot: boot(), agent_version: "test".to_owned(), schema }
}

const fn boot() -> BootId {
    BootId::from_bytes([3; 16])
}

fn frame(second: i64) -> Frame {
    let defined = SeriesDef { metric: MetricIndex(0), labels: Box::default() };
    let uptime = u64::try_from(1_000_000 + second).unwrap();
    Frame {
        boot: boot(),
        seq: FrameSeq(uptime),
        at: Stamp { wall: WallTime::from_secs(START + second), boot: BootTime::from_nanos(uptime * 1_000_000_000) },
        samples: vec![Sample {
            source: SourceIndex(0),
            outcome: Outcome::Complete,
            took_nanos: 5,
            // Encoders take a definition that they have already.
            defined: vec![(SeriesId(0), defined)],
            readings: vec![Reading { series: SeriesId(0), value: second }],
        }],
        events: vec![],
    }
}
