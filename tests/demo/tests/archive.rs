//! The synthetic incident as an archive: the same bytes each time, whole, small, and labelled as what it is.

#![expect(clippy::unwrap_used, reason = "in a test everything that fails ends the test")]

use std::io::Read;
use std::path::PathBuf;
use std::sync::OnceLock;

use casefile_demo::{PLANTED, story};
use casefile_evidence::archive::layout::{self, IncidentFile};
use casefile_evidence::archive::limits::Limits;
use casefile_evidence::archive::reader::Archive;
use casefile_evidence::archive::sign::AllowedSigners;
use casefile_evidence::archive::verify::SignatureState;
use casefile_proto::coverage::{Coverage, NodeState};
use casefile_proto::gap::GapReason;

/// Larger than it must become: it is downloaded, mailed, and opened in a browser.
const MAX_BYTES: usize = 6 << 20;

fn written() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = casefile_demo::write(dir.path()).unwrap();
    (dir, path)
}

/// The archive, made once for all tests that only read it.
fn open() -> Archive {
    static MADE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = MADE.get_or_init(written);
    Archive::open(path, Limits::default()).unwrap()
}

fn entry(archive: &mut Archive, path: &'static str) -> Vec<u8> {
    let mut bytes = Vec::new();
    archive.entry(&layout::path(path)).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn two_times_give_the_same_bytes_and_not_many() {
    let (_first, one) = written();
    let (_second, two) = written();
    let (one, two) = (std::fs::read(one).unwrap(), std::fs::read(two).unwrap());
    assert!(one == two, "{} and {} bytes", one.len(), two.len());
    assert!(one.len() < MAX_BYTES, "{} bytes", one.len());
}

#[test]
fn it_verifies_as_intact_and_unsigned() {
    let mut archive = open();
    let verification = archive.verify(&AllowedSigners::default());
    assert!(verification.problems.is_empty(), "{:?}", verification.problems);
    assert!(matches!(verification.signature, SignatureState::Unsigned), "{:?}", verification.signature);
}

#[test]
fn it_says_that_it_is_synthetic() {
    let mut archive = open();
    let incident: IncidentFile = serde_json::from_slice(&entry(&mut archive, layout::INCIDENT)).unwrap();
    assert!(incident.synthetic && incident.title.starts_with("SYNTHETIC"));
    assert_eq!(incident.window, story::window().unwrap());
    assert_eq!(incident.expected_nodes.len(), 12);
}

#[test]
fn what_is_missing_is_declared_and_nothing_else_is_missing() {
    let mut archive = open();
    let coverage: Coverage = serde_json::from_slice(&entry(&mut archive, layout::COVERAGE)).unwrap();
    for node in &coverage.nodes {
        let expected = if node.node.as_str() == story::DEAD { NodeState::LastWords } else { NodeState::Answered };
        assert_eq!(node.state, expected, "{}", node.node);
        let of_node = node.gaps.iter().map(|gap| ("", gap));
        let gaps = of_node.chain(node.sources.iter().flat_map(|s| s.gaps.iter().map(|gap| (s.source.as_str(), gap))));
        let mut found: Vec<(&str, GapReason)> =
            gaps.map(|(source, gap)| (source, gap.reason)).filter(|(_, r)| *r != GapReason::SourceAbsent).collect();
        match node.node.as_str() {
            story::DEAD => assert!(found.len() > 15 && found.iter().all(|(_, r)| *r == GapReason::NodeSilent)),
            story::RATE_LIMITED => assert_eq!(found, [("journal", GapReason::RateLimited)]),
            story::GPU_LOST => {
                found.sort_unstable();
                let of_gpu = ["gpu", "gpu-processes", "gpu-report", "gpus"].map(|s| (s, GapReason::SourceFailed));
                assert_eq!(found, of_gpu);
            }
            well => assert!(found.is_empty(), "{well}: {found:?}"),
        }
        // What is said to be covered is the whole window, but for the node that died in it.
        for row in node.sources.iter().filter(|row| !row.covered.is_empty()) {
            let whole = row.covered == [row.asked];
            assert_eq!(whole, node.node.as_str() != story::DEAD, "{} {}: {:?}", node.node, row.source, row.covered);
        }
    }
}

#[test]
fn the_planted_causes_are_on_four_nodes_of_it() {
    let mut archive = open();
    let coverage: Coverage = serde_json::from_slice(&entry(&mut archive, layout::COVERAGE)).unwrap();
    for cause in PLANTED {
        assert!(coverage.nodes.iter().any(|node| node.node.as_str() == cause.node), "{}", cause.node);
        assert!(coverage.window.contains(cause.at()) && cause.begins <= cause.certain, "{}", cause.what);
    }
}
