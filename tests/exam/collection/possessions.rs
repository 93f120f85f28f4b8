//! What a simulated node has: a quarter of an hour of one of the demonstration's machines, moved to the one before now.

use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use casefile_evidence::archive::chunk::{Chunk, Chunker, Pack};
use casefile_evidence::archive::layout::{self, ItemLine, RECORDING_ITEM};
use casefile_evidence::recording::Header;
use casefile_evidence::recording::delta::Encoder;
use casefile_evidence::recording::reader::{Piece as Found, Recording};
use casefile_proto::coverage::{SourceCoverage, SourceKind};
use casefile_proto::ids::{FrameSeq, NodeName};
use casefile_proto::item::{ItemHead, ItemKind, ItemTail};
use casefile_proto::sample::Frame;
use casefile_proto::session::{Ends, FrameBatch, Piece};
use casefile_proto::time::{Stamp, WallTime, Window};
use casefile_proto::units::Bytes;
use casefile_review::casefile::CaseFile;

/// What was planted in the quarter of an hour that is taken, by the id of the finding.
pub(super) const PLANTED: [&str; 2] = ["disk.nvme.controller_down", "gpu.xid.79.fallen_off_bus"];

/// Where the quarter of an hour begins in the demonstration: all of its machines still run in it, and two break.
const BEGINS: Duration = Duration::from_mins(5);

/// More than any entry of the demonstration has.
const ENTRY: Bytes = Bytes::mib(64);

/// Frames of one batch.
const BATCH: usize = 30;

/// A container that logs a good deal: so many lines, of some 100 bytes each.
const BUSY_LINES: u32 = 10_000;

/// One of the demonstration's machines, in the quarter of an hour before now.
pub(super) struct Machine {
    /// Of its recording; the node's name is another.
    header: Header,
    frames: Vec<Frame>,
    /// Whose clock says what now.
    last: Stamp,
    items: Vec<Item>,
    /// What it says of its logs and tables.
    rows: Vec<SourceCoverage>,
}

/// Something that is uploaded.
pub(super) struct Item {
    pub(super) head: ItemHead,
    pub(super) tail: ItemTail,
    pub(super) pieces: Vec<Piece>,
}

/// What a node streams and brings.
pub(super) struct Possessions {
    /// What it says of itself first.
    pub(super) header: Header,
    /// All of its frames.
    pub(super) batches: Vec<FrameBatch>,
    /// What its clocks say at the moment of its last frame.
    pub(super) last: Stamp,
    /// What answers the incident, its own recording first.
    pub(super) items: Vec<Item>,
    /// What it says of each source.
    pub(super) rows: Vec<SourceCoverage>,
}

/// All of the demonstration's machines, as if what happened there had happened in this window.
pub(super) fn machines(window: Window) -> Result<Vec<Arc<Machine>>> {
    let dir = tempfile::tempdir()?;
    let mut file = CaseFile::open(&casefile_demo::write(dir.path())?)?;
    let nodes = file.coverage.nodes.clone();
    nodes.into_iter().map(|node| Ok(Arc::new(machine(&mut file, &node.node, node.sources, window)?))).collect()
}

fn machine(file: &mut CaseFile, node: &NodeName, mut rows: Vec<SourceCoverage>, window: Window) -> Result<Machine> {
    let from = file.incident.window.from().after(BEGINS);
    let moved = window.from().nanos_since(from);
    let then = Window::new(from.before(Duration::from_secs(1)), from.after(super::WINDOW + Duration::from_secs(1)))?;
    let read = |file: &mut CaseFile, item: &str| {
        let path = layout::node_item(node, &item.parse()?)?;
        file.entries.read(&path, ENTRY).with_context(|| path.to_string())
    };
    let (mut header, mut frames) = (None, Vec::new());
    let segment = read(file, RECORDING_ITEM)?;
    Recording::from_segment(&mut segment.as_slice(), ENTRY)?.pieces(Some(then), &mut |found| {
        match found {
            Found::Header(now) => header = Some(now),
            Found::Frame(frame) => frames.push(shifted(frame, moved)),
            Found::Hole(_) => {}
        }
        ControlFlow::Continue(())
    })?;
    for (number, frame) in (1..).zip(&mut frames) {
        frame.seq = FrameSeq(number);
    }
    let mut items = Vec::new();
    for line in read(file, layout::ITEMS_ITEM)?.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let line: ItemLine = serde_json::from_slice(line)?;
        let (_, path) = layout::split_node_item(&line.path).context("an item below its node")?;
        if line.kind == ItemKind::Recording {
            continue;
        }
        let mut content = file.entries.read(&line.path, ENTRY)?;
        if line.kind == ItemKind::Log && line.times.is_none() {
            content = moved_lines(&content, moved);
        }
        let head = ItemHead { kind: line.kind, path, source: line.source, method: line.method, times: line.times };
        let covered = line.covered.map(|_| window);
        items.push(item(head, &content, line.records.unwrap_or(0), covered, Pack::Deflate)?);
    }
    items.push(busy(window)?);
    rows.retain(|row| row.kind != SourceKind::Metrics);
    for row in &mut rows {
        row.asked = window;
        if row.kind == SourceKind::Logs {
            row.covered = vec![window];
        }
        row.gaps.clear();
        row.items = items.iter().filter(|item| item.head.source == row.source).count() as u64;
    }
    let last = frames.last().context("a frame in the quarter of an hour")?.at;
    Ok(Machine { header: header.context("a header")?, frames, last, items, rows })
}

impl Machine {
    /// What a node has that is this machine under another name.
    pub(super) fn as_node(&self, node: &NodeName, window: Window) -> Result<Possessions> {
        let header = Header { node: node.clone(), ..self.header.clone() };
        let mut encoder = Encoder::new(header.clone());
        let mut stream = encoder.header();
        let mut batches = Vec::new();
        for frames in self.frames.chunks(BATCH) {
            let mut records = Vec::new();
            frames.iter().for_each(|frame| encoder.frame(frame, &mut records));
            stream.extend_from_slice(&records);
            let (first, last) = (frames[0].seq, frames[frames.len() - 1].seq);
            batches.push(FrameBatch { first, last, records: records.into(), skipped: Vec::new(), ends: Ends::Here });
        }
        let mut segment = Vec::new();
        let cut = Recording::from_segment(&mut stream.as_slice(), ENTRY)?.cut(window, &mut segment)?;
        let head = ItemHead {
            kind: ItemKind::Recording,
            path: layout::path(RECORDING_ITEM),
            source: "recording".to_owned(),
            method: "made by the exam".to_owned(),
            times: None,
        };
        let mut items = vec![item(head, &segment, cut.frames, Some(window), Pack::Store)?];
        items.extend(self.items.iter().map(|item| Item {
            head: item.head.clone(),
            tail: item.tail.clone(),
            pieces: item.pieces.clone(),
        }));
        let rows = cut.sources.into_iter().chain(self.rows.iter().cloned()).collect();
        Ok(Possessions { header, batches, last: self.last, items, rows })
    }
}

fn shifted(mut frame: Frame, by: i64) -> Frame {
    frame.at.wall = frame.at.wall.offset(by);
    for event in &mut frame.events {
        event.at.wall = event.at.wall.offset(by);
    }
    frame
}

/// Lines that begin with their time, each at its new one.
fn moved_lines(text: &[u8], by: i64) -> Vec<u8> {
    let mut moved = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let time = line.split(|byte| *byte == b' ').next().unwrap_or_default();
        match std::str::from_utf8(time).ok().and_then(|time| time.parse::<WallTime>().ok()) {
            Some(at) => {
                moved.extend_from_slice(at.offset(by).to_string().as_bytes());
                moved.extend_from_slice(&line[time.len()..]);
            }
            None => moved.extend_from_slice(line),
        }
    }
    moved
}

/// The log of a container that says a lot.
fn busy(window: Window) -> Result<Item> {
    let step = super::WINDOW / BUSY_LINES;
    let (mut at, mut text, mut odd) = (window.from(), Vec::new(), 0x9e37_79b9_7f4a_7c15_u64);
    for _ in 0..BUSY_LINES {
        odd = odd.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let (took, status) = (odd >> 52, [200, 200, 200, 204, 404][usize::try_from(odd >> 33)? % 5]);
        writeln!(text, "{at} stdout F GET /api/v1/orders/{:08x} {status} {took} ms trace={odd:016x}", odd >> 32)?;
        at = at.after(step);
    }
    let head = ItemHead {
        kind: ItemKind::Log,
        path: "logs/pods/shop_busy-0_4f0c6a52-8f57-4bd3-8d1e-1d5d3c0a7d11/busy.log".parse()?,
        source: "pods".to_owned(),
        method: "made by the exam".to_owned(),
        times: None,
    };
    item(head, &text, u64::from(BUSY_LINES), Some(window), Pack::Deflate)
}

fn item(head: ItemHead, content: &[u8], records: u64, covered: Option<Window>, pack: Pack) -> Result<Item> {
    let (mut pieces, mut offset) = (Vec::new(), 0);
    let mut chunker = Chunker::new(pack, |chunk: Chunk| {
        let Chunk { plain_len, plain_crc32, deflated } = chunk;
        pieces.push(Piece { offset, plain_len, plain_crc32, deflated: deflated.into() });
        offset += u64::from(plain_len);
        Ok(())
    });
    chunker.write_all(content)?;
    let (size, sha256) = chunker.finish()?;
    Ok(Item { head, tail: ItemTail { size, sha256, records, covered, gaps: Vec::new() }, pieces })
}
