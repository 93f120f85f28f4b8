//! Case files made by a test: nodes with clocks of their own and logs of any bytes.

use std::io::Write;
use std::path::{Path, PathBuf};

use casefile_evidence::archive::Title;
use casefile_evidence::archive::chunk::{Chunker, Pack};
use casefile_evidence::archive::layout::{self, IncidentFile, ItemLine};
use casefile_evidence::archive::writer::{ArchiveWriter, ChunkedItem};
use casefile_proto::coverage::{Cost, Coverage, NodeCoverage, NodeState, OutcomeCounts, SourceCoverage, SourceKind};
use casefile_proto::gap::Gap;
use casefile_proto::ids::IncidentId;
use casefile_proto::incident::{IncidentAsk, Severity, Trigger};
use casefile_proto::item::{Digest, EntryPath, ItemHead, ItemKind};
use casefile_proto::scope::Scope;
use casefile_proto::time::{ClockOffset, WallTime, Window};

/// One log of a node: its path below the node's directory, how its lines bear their times, its bytes.
pub(crate) struct Log {
    pub(crate) path: &'static str,
    pub(crate) times: Option<&'static str>,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) fn log(path: &'static str, times: Option<&'static str>, bytes: impl Into<Vec<u8>>) -> Log {
    Log { path, times, bytes: bytes.into() }
}

/// One node: its name, how many seconds its clock is ahead (`None`: never measured), its logs, what is missing of its pods.
pub(crate) struct Node {
    pub(crate) name: &'static str,
    pub(crate) ahead: Option<i64>,
    pub(crate) logs: Vec<Log>,
    pub(crate) gaps: Vec<Gap>,
}

pub(crate) fn at(text: &str) -> WallTime {
    text.parse().unwrap()
}

pub(crate) fn window() -> Window {
    Window::new(at("2026-12-31T22:59:00Z"), at("2026-12-31T23:01:00Z")).unwrap()
}

fn rows(node: &Node, window: Window) -> NodeCoverage {
    let asked = window.shifted(node.ahead.unwrap_or(0) * 1_000_000_000).unwrap();
    let row = |source: &str, gaps: Vec<Gap>| SourceCoverage {
        source: source.to_owned(),
        kind: SourceKind::Logs,
        asked,
        covered: vec![asked],
        outcomes: OutcomeCounts::default(),
        records: 1,
        items: 1,
        gaps,
        cost: Cost::default(),
        redaction: None,
    };
    let clock = node.ahead.map(|s| ClockOffset { ahead_nanos: s * 1_000_000_000, bound_nanos: 1_000_000 });
    let sources = vec![row("files", vec![]), row("kernel", vec![]), row("pods", node.gaps.clone())];
    NodeCoverage {
        node: node.name.parse().unwrap(),
        state: NodeState::Answered,
        clock,
        sources,
        gaps: vec![],
        amended: None,
    }
}

/// Writes the case file of these nodes, in order of name.
pub(crate) fn seal(dir: &Path, nodes: &[Node]) -> PathBuf {
    seal_with(dir, nodes, window(), Vec::new())
}

/// The same of another window, with more entries: what the collector adds of the cluster.
pub(crate) fn seal_with(dir: &Path, nodes: &[Node], window: Window, more: Vec<(EntryPath, Vec<u8>)>) -> PathBuf {
    let ask = IncidentAsk {
        title: "a test".to_owned(),
        reason: String::new(),
        requested_by: "a test".to_owned(),
        severity: Severity::Sev4,
        trigger: Trigger::Person,
        resource: None,
        runbook: None,
        window,
        nodes: vec![],
        scope: Scope::default(),
    };
    let title = Title {
        ask,
        incident: Some(IncidentId(1)),
        sealed_at: window.until(),
        sealed_by: "a test".to_owned(),
        amends: None,
    };
    let rows = nodes.iter().map(|node| rows(node, window)).collect();
    let coverage = Coverage { window, nodes: rows, scope: Scope::default(), cluster: None };
    let incident = IncidentFile::new(&title, &coverage, None);
    let mut all: Vec<(EntryPath, Vec<u8>)> = vec![
        (layout::path(layout::COVERAGE), layout::coverage_json(&coverage).unwrap()),
        (layout::path(layout::INCIDENT), layout::incident_json(&incident).unwrap()),
    ];
    for node in nodes {
        let below = |item: &str| layout::node_item(&node.name.parse().unwrap(), &item.parse().unwrap()).unwrap();
        let mut list = Vec::new();
        for log in &node.logs {
            let head = ItemHead {
                kind: ItemKind::Log,
                path: log.path.parse().unwrap(),
                source: "x".to_owned(),
                method: "made by a test".to_owned(),
                times: log.times.map(str::to_owned),
            };
            let line = ItemLine::new(below(log.path), &head, None, log.bytes.len() as u64, Digest([0; 32]));
            list.extend(layout::item_json(&line).unwrap());
            all.push((below(log.path), log.bytes.clone()));
        }
        all.push((below(layout::ITEMS_ITEM), list));
    }
    all.extend(more);
    all.sort();
    let mut writer = ArchiveWriter::new(Vec::new(), title, None).unwrap();
    for (path, bytes) in all {
        let mut chunks = Vec::new();
        let mut chunker = Chunker::new(Pack::Deflate, |chunk| {
            chunks.push(Ok(chunk));
            Ok(())
        });
        chunker.write_all(&bytes).unwrap();
        let (size, sha256) = chunker.finish().unwrap();
        writer.add_chunks(&path, ChunkedItem { size, sha256, chunks: &mut chunks.into_iter() }).unwrap();
    }
    let file = dir.join("case.tar.gz");
    std::fs::write(&file, writer.seal().unwrap().1).unwrap();
    file
}
