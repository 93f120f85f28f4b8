//! A small case file for the tests: one node that answered and one that did not, a log, a stored recording, an empty
//! file, a name too long for ustar. The same each time.

use std::path::{Path, PathBuf};

use casefile_evidence::archive::Title;
use casefile_evidence::archive::chunk::{Chunk, Chunker, Pack};
use casefile_evidence::archive::layout::{self, IncidentFile};
use casefile_evidence::archive::sign::SigningKey;
use casefile_evidence::archive::writer::{ArchiveWriter, ChunkedItem, Sealed};
use casefile_proto::coverage::{Cost, Coverage, NodeCoverage, NodeState, OutcomeCounts, SourceCoverage, SourceKind};
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::ids::IncidentId;
use casefile_proto::incident::{IncidentAsk, Severity, Trigger};
use casefile_proto::item::{Digest, EntryPath};
use casefile_proto::scope::Scope;
use casefile_proto::time::{ClockOffset, WallTime, Window};

/// What goes into an archive.
pub(crate) struct Content {
    pub(crate) path: String,
    pub(crate) pack: Pack,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) fn content(path: &str, pack: Pack, bytes: impl Into<Vec<u8>>) -> Content {
    Content { path: path.to_owned(), pack, bytes: bytes.into() }
}

pub(crate) fn window() -> Window {
    Window::new(WallTime::from_secs(1_795_401_850), WallTime::from_secs(1_795_403_650)).unwrap()
}

pub(crate) fn title() -> Title {
    Title {
        ask: IncidentAsk {
            title: "disk of n-1 is slow".to_owned(),
            reason: "latency alert".to_owned(),
            requested_by: "someone@example.com".to_owned(),
            severity: Severity::Sev2,
            trigger: Trigger::Person,
            resource: None,
            runbook: None,
            window: window(),
            nodes: vec![],
            scope: Scope::default(),
        },
        incident: Some(IncidentId(123)),
        sealed_at: WallTime::from_secs(1_795_403_700),
        sealed_by: "casefile-collector 0.1.0".to_owned(),
        amends: None,
    }
}

pub(crate) fn coverage() -> Coverage {
    let source = SourceCoverage {
        source: "kernel".to_owned(),
        kind: SourceKind::Logs,
        asked: window(),
        covered: vec![window()],
        outcomes: OutcomeCounts::default(),
        records: 2,
        items: 1,
        gaps: vec![],
        cost: Cost { took_nanos: 1_000_000, bytes: 90 },
        redaction: None,
    };
    let silent = Gap::new(GapReason::NodeSilent, "it did not answer").over(window());
    Coverage {
        window: window(),
        cluster: None,
        nodes: vec![
            NodeCoverage {
                node: "n-1".parse().unwrap(),
                state: NodeState::Answered,
                clock: Some(ClockOffset { ahead_nanos: -1_200_000, bound_nanos: 300_000 }),
                sources: vec![source],
                gaps: vec![],
                amended: None,
            },
            NodeCoverage {
                node: "n-2".parse().unwrap(),
                state: NodeState::Silent,
                clock: None,
                sources: vec![],
                gaps: vec![silent],
                amended: None,
            },
        ],
        scope: Scope::default(),
    }
}

/// The payload of the small archive.
pub(crate) fn contents(key: Option<&SigningKey>) -> Vec<Content> {
    let incident = IncidentFile::new(&title(), &coverage(), key);
    let mut all = vec![
        content(layout::COVERAGE, Pack::Deflate, layout::coverage_json(&coverage()).unwrap()),
        content(layout::INCIDENT, Pack::Deflate, layout::incident_json(&incident).unwrap()),
        content("data/nodes/n-1/logs/empty.log", Pack::Deflate, ""),
        content(
            "data/nodes/n-1/logs/kernel.log",
            Pack::Deflate,
            "6,101,5000000,-;nvme0: I/O timeout, reset controller\n".repeat(8),
        ),
        content("data/nodes/n-1/recording/window.seg", Pack::Store, (0u8..=255).collect::<Vec<u8>>()),
        content(&format!("data/nodes/n-1/state/{}", "x".repeat(120)), Pack::Deflate, "long name\n"),
    ];
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all
}

/// Content as chunks, as an agent would have made them.
pub(crate) fn chunked(content: &Content) -> (Vec<Chunk>, u64, Digest) {
    let mut chunks = Vec::new();
    let mut chunker = Chunker::new(content.pack, |c| {
        chunks.push(c);
        Ok(())
    });
    std::io::Write::write_all(&mut chunker, &content.bytes).unwrap();
    let (size, sha256) = chunker.finish().unwrap();
    (chunks, size, sha256)
}

pub(crate) fn seal(contents: &[Content], key: Option<&SigningKey>) -> (Vec<u8>, Sealed) {
    let mut writer = ArchiveWriter::new(Vec::new(), title(), key).unwrap();
    for content in contents {
        let (chunks, size, sha256) = chunked(content);
        let item = ChunkedItem { size, sha256, chunks: &mut chunks.into_iter().map(Ok) };
        writer.add_chunks(&path(&content.path), item).unwrap();
    }
    let (sealed, bytes) = writer.seal().unwrap();
    (bytes, sealed)
}

pub(crate) fn path(text: &str) -> EntryPath {
    text.parse().unwrap()
}

pub(crate) fn key(dir: &Path) -> SigningKey {
    SigningKey::load_or_create(&dir.join("signing")).unwrap()
}

/// The small archive in a file.
pub(crate) fn write_small(dir: &Path, key: Option<&SigningKey>) -> PathBuf {
    let file = dir.join("small.tar.gz");
    std::fs::write(&file, seal(&contents(key), key).0).unwrap();
    file
}
