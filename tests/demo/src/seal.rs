//! The archive: what was made of each node, its list of items, its coverage, and all of it sealed by the real writers.

use std::io::Write;
use std::sync::Arc;

use casefile_evidence::archive::Title;
use casefile_evidence::archive::chunk::{Chunk, Chunker, Pack};
use casefile_evidence::archive::layout::{self, IncidentFile, ItemLine};
use casefile_evidence::archive::writer::{ArchiveWriter, ChunkedItem};
use casefile_evidence::recording::reader::Cut;
use casefile_proto::coverage::{Cost, Coverage, NodeCoverage, NodeState, OutcomeCounts, SourceCoverage, SourceKind};
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::ids::{IncidentId, NodeName};
use casefile_proto::incident::{IncidentAsk, Severity, Trigger};
use casefile_proto::item::{Digest, EntryPath, ItemHead, ItemKind, ItemTail};
use casefile_proto::sample::Schema;
use casefile_proto::scope::Scope;
use casefile_proto::time::Window;

use crate::logs::{Log, journal, kernel, pods};
use crate::node::Node;
use crate::state::{self, Table};
use crate::{DemoError, cluster, fleet, machine, random, schema, story};

/// No incident of a collector has this number for a long time.
const INCIDENT: IncidentId = IncidentId(999_999);

/// Seconds of the window at which it was sealed.
const SEALED: f64 = 1_809.41;

/// The log sources of an agent.
const LOG_SOURCES: [&str; 4] = ["kernel", "journal", "pods", "files"];

/// Something that goes into the archive.
struct Packed {
    path: EntryPath,
    size: u64,
    sha256: Digest,
    chunks: Vec<Chunk>,
}

/// The archive's file name and bytes.
pub(crate) fn sealed() -> Result<(String, Vec<u8>), DemoError> {
    let window = story::window().map_err(|error| DemoError::Name(error.to_string()))?;
    let schema = Arc::new(schema::schema()?);
    let fleet = fleet::fleet();
    let made = made(&fleet, &schema, window)?;
    let mut entries = Vec::new();
    let mut nodes = Vec::new();
    for (packed, coverage) in made {
        entries.extend(packed);
        nodes.push(coverage);
    }
    let coverage = Coverage { window, nodes, scope: Scope::default(), cluster: None };
    let title = title(window);
    let incident = IncidentFile { synthetic: true, ..IncidentFile::new(&title, &coverage, None) };
    let json = |constant, bytes: std::io::Result<Vec<u8>>| {
        pack(layout::path(constant), Pack::Deflate, &bytes.map_err(DemoError::Pack)?)
    };
    entries.push(json(layout::COVERAGE, layout::coverage_json(&coverage))?);
    entries.push(json(layout::INCIDENT, layout::incident_json(&incident))?);
    for (path, bytes) in cluster::files(&fleet) {
        let path = format!("data/cluster/{path}").parse().map_err(|error| DemoError::Name(format!("{error}")))?;
        entries.push(pack(path, Pack::Deflate, &bytes)?);
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    let name = format!("{}.tar.gz", title.name());
    let mut writer = ArchiveWriter::new(Vec::new(), title, None).map_err(DemoError::Seal)?;
    for Packed { path, size, sha256, chunks } in entries {
        let mut chunks = chunks.into_iter().map(Ok);
        let item = ChunkedItem { size, sha256, chunks: &mut chunks };
        writer.add_chunks(&path, item).map_err(DemoError::Seal)?;
    }
    let (_, bytes) = writer.seal().map_err(DemoError::Seal)?;
    Ok((name, bytes))
}

fn title(window: Window) -> Title {
    let ask = IncidentAsk {
        title: "SYNTHETIC: checkout errors, a ledger that cannot write, a training job that stands".to_owned(),
        reason: "made by a generator to show what a case file tells; no such machines, pods or people are known"
            .to_owned(),
        requested_by: "casefile demo".to_owned(),
        severity: Severity::Sev2,
        trigger: Trigger::Person,
        resource: None,
        runbook: None,
        window,
        nodes: Vec::new(),
        scope: Scope::default(),
    };
    let sealed_by = format!("casefile-demo {}", env!("CARGO_PKG_VERSION"));
    Title { ask, incident: Some(INCIDENT), sealed_at: story::at(SEALED), sealed_by, amends: None }
}

type Made = (Vec<Packed>, NodeCoverage);

/// Every node, in order of name; as many at a time as there are CPUs.
fn made(fleet: &[Node], schema: &Arc<Schema>, window: Window) -> Result<Vec<Made>, DemoError> {
    let lanes = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(fleet.len());
    let lane = |first: usize| {
        let own = fleet.iter().enumerate().skip(first).step_by(lanes);
        own.map(|(at, node)| Ok((at, of_node(node, schema, window)?))).collect::<Result<Vec<_>, DemoError>>()
    };
    let mut all = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..lanes).map(|first| scope.spawn(move || lane(first))).collect();
        let mut all = Vec::new();
        for lane in lanes {
            all.extend(lane.join().map_err(|_| DemoError::Thread)??);
        }
        Ok::<_, DemoError>(all)
    })?;
    all.sort_by_key(|(at, _)| *at);
    Ok(all.into_iter().map(|(_, made)| made).collect())
}

/// An item of a node, with what the coverage has to know of it.
struct Item {
    head: ItemHead,
    tail: ItemTail,
    packed: Packed,
}

fn of_node(node: &Node, schema: &Arc<Schema>, window: Window) -> Result<Made, DemoError> {
    let bad = |error: &dyn std::fmt::Display| DemoError::Name(error.to_string());
    let name: NodeName = node.name.parse().map_err(|error| bad(&error))?;
    let asked = node.clock.apart().map_or(Some(window), |ahead| window.shifted(ahead));
    let asked = asked.ok_or_else(|| DemoError::Name("a window that falls off the clock".to_owned()))?;
    let said = kernel::lines(node);
    let (segment, cut) = machine::recording(node, schema, &said, asked)?;
    let dead = node.name == story::DEAD;
    let mut items = vec![recording(&name, node, &cut, &segment, asked)?];
    let mut rows = cut.sources.clone();
    let mut gaps = cut.gaps.clone();
    if dead {
        let own = rows.iter_mut().flat_map(|row| &mut row.gaps).chain(&mut gaps);
        own.for_each(silent);
        rows.extend(unanswered(node, asked)?);
    } else {
        let mut random = random::Random::of(&format!("{} cost", node.name));
        let mut took = || 400_000 + random.next() % 9_000_000;
        let tables = state::tables(node)?;
        let inventory = state::inventory::document(node)?;
        let head = head(
            ItemKind::Inventory,
            layout::NODE_ITEM,
            "inventory",
            "what this machine is, read at collection time",
            None,
        )?;
        rows.push(row("inventory", SourceKind::State, asked, &[&inventory], 1, Vec::new(), took()));
        items.push(item(&name, head, Pack::Deflate, &inventory, 1, None, Vec::new())?);
        for table in tables {
            let Table { name: of, path, method, bytes, records, gaps } = table;
            let contents: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
            rows.push(row(of, SourceKind::State, asked, &contents, records, gaps.clone(), took()));
            if let Some(bytes) = bytes {
                let head = self::head(ItemKind::State, path, "state", method, None)?;
                items.push(item(&name, head, Pack::Deflate, &bytes, records, None, gaps)?);
            }
        }
        let mut logs = vec![kernel::log(node, &said)];
        logs.extend(journal::logs(node, &said, asked)?);
        logs.extend(pods::logs(node));
        logs.push(dpkg());
        for source in LOG_SOURCES {
            let own: Vec<&Log> = logs.iter().filter(|log| log.source == source).collect();
            let contents: Vec<&[u8]> = own.iter().map(|log| log.bytes.as_slice()).collect();
            let gaps = own.iter().flat_map(|log| log.gaps.clone()).collect();
            let records = own.iter().map(|log| log.records).sum();
            let mut row = row(source, SourceKind::Logs, asked, &contents, records, gaps, took());
            row.covered = vec![asked];
            rows.push(row);
        }
        for log in logs {
            let head = self::head(ItemKind::Log, &log.path, log.source, &log.method, log.times)?;
            items.push(item(&name, head, Pack::Deflate, &log.bytes, log.records, Some(asked), log.gaps)?);
        }
    }
    items.sort_by(|a, b| a.packed.path.cmp(&b.packed.path));
    let mut list = Vec::new();
    for Item { head, tail, packed } in &items {
        let line = ItemLine::new(packed.path.clone(), head, Some(tail), tail.size, tail.sha256);
        list.extend(layout::item_json(&line).map_err(DemoError::Pack)?);
    }
    let path = layout::node_item(&name, &layout::path(layout::ITEMS_ITEM)).map_err(|error| bad(&error))?;
    let mut packed: Vec<Packed> = items.into_iter().map(|item| item.packed).collect();
    packed.push(pack(path, Pack::Deflate, &list)?);
    let state = if dead { NodeState::LastWords } else { NodeState::Answered };
    Ok((packed, NodeCoverage { node: name, state, clock: Some(node.clock), sources: rows, gaps, amended: None }))
}

fn recording(name: &NodeName, node: &Node, cut: &Cut, segment: &[u8], asked: Window) -> Result<Item, DemoError> {
    let method = if node.name == story::DEAD {
        "frames that the node had streamed to the collector, cut to the window"
    } else {
        "the frames of the window, cut from the agent's ring"
    };
    let head = head(ItemKind::Recording, layout::RECORDING_ITEM, "recording", method, None)?;
    let until = cut.sources.iter().flat_map(|row| &row.covered).map(Window::until).max();
    let covered = until.and_then(|until| Window::new(asked.from(), until).ok());
    // Its blocks are compressed already; its header, with the help of some hundred metrics, is not.
    item(name, head, Pack::Deflate, segment, cut.frames, covered, Vec::new())
}

/// What a node that did not answer did not give may well have been recorded: that nobody did is not to be said of it.
fn silent(gap: &mut Gap) {
    if gap.reason == GapReason::NotRecorded {
        gap.reason = GapReason::NodeSilent;
        "the node had streamed nothing of this, and it did not give its own recording".clone_into(&mut gap.detail);
    }
}

/// What a node that did not answer would have been asked for.
fn unanswered(node: &Node, asked: Window) -> Result<Vec<SourceCoverage>, DemoError> {
    let gap = || vec![Gap::new(GapReason::NodeSilent, "the node was not connected when it was asked")];
    let state =
        std::iter::once("inventory").chain(state::tables(node)?.iter().map(|table| table.name)).collect::<Vec<_>>();
    let state = state.into_iter().map(|name| row(name, SourceKind::State, asked, &[], 0, gap(), 0));
    let logs = LOG_SOURCES.into_iter().map(|name| row(name, SourceKind::Logs, asked, &[], 0, gap(), 0));
    Ok(state.chain(logs).collect())
}

/// A log of a file, in which nothing was written.
fn dpkg() -> Log {
    Log {
        path: "logs/files/var/log/dpkg.log".to_owned(),
        source: "files",
        method: "/var/log/dpkg.log, times without a zone: Etc/UTC inferred, bisected by time".to_owned(),
        times: Some("local lead=none zone=+00:00"),
        bytes: Vec::new(),
        records: 0,
        gaps: Vec::new(),
    }
}

fn row(
    source: &str,
    kind: SourceKind,
    asked: Window,
    contents: &[&[u8]],
    records: u64,
    gaps: Vec<Gap>,
    took_nanos: u64,
) -> SourceCoverage {
    let bytes = contents.iter().map(|bytes| bytes.len() as u64).sum();
    SourceCoverage {
        source: source.to_owned(),
        kind,
        asked,
        covered: Vec::new(),
        outcomes: OutcomeCounts::default(),
        records,
        items: contents.len() as u64,
        gaps,
        cost: Cost { took_nanos, bytes },
        redaction: None,
    }
}

fn head(kind: ItemKind, path: &str, source: &str, method: &str, times: Option<&str>) -> Result<ItemHead, DemoError> {
    let path = path.parse().map_err(|error| DemoError::Name(format!("{error}")))?;
    Ok(ItemHead { kind, path, source: source.to_owned(), method: method.to_owned(), times: times.map(str::to_owned) })
}

fn item(
    node: &NodeName,
    head: ItemHead,
    how: Pack,
    bytes: &[u8],
    records: u64,
    covered: Option<Window>,
    gaps: Vec<Gap>,
) -> Result<Item, DemoError> {
    let path = layout::node_item(node, &head.path).map_err(|error| DemoError::Name(error.to_string()))?;
    let packed = pack(path, how, bytes)?;
    let tail = ItemTail { size: packed.size, sha256: packed.sha256, records, covered, gaps };
    Ok(Item { head, tail, packed })
}

fn pack(path: EntryPath, how: Pack, bytes: &[u8]) -> Result<Packed, DemoError> {
    let mut chunks = Vec::new();
    let mut chunker = Chunker::new(how, |chunk| {
        chunks.push(chunk);
        Ok(())
    });
    chunker.write_all(bytes).map_err(DemoError::Pack)?;
    let (size, sha256) = chunker.finish().map_err(DemoError::Pack)?;
    Ok(Packed { path, size, sha256, chunks })
}
