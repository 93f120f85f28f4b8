//! The synthetic incident against what it stands for: its recordings speak of the agent's own metrics, its planted faults
//! are recognised, and its healthy nodes are calm.

use std::fmt::Write as _;
use std::path::Path;

use casefile_agent::sources;
use casefile_demo::PLANTED;
use casefile_evidence::archive::layout;
use casefile_evidence::archive::limits::Limits;
use casefile_evidence::archive::reader::Archive;
use casefile_proto::item::EntryPath;
use casefile_proto::sample::{MetricDef, SourceDef};
use casefile_proto::time::WallTime;
use casefile_proto::units::Bytes;
use casefile_review::casefile::CaseFile;
use casefile_review::signatures::catalogue::Weight;
use casefile_review::signatures::explain::explain;
use casefile_review::signatures::record::Lines;
use casefile_review::summary;

/// The sources of the agent, a line each, and below each its metrics.
fn agents_schema() -> String {
    let mut out = String::new();
    for spec in sources::ALL {
        let source = SourceDef {
            name: spec.name.to_owned(),
            about: spec.about.to_owned(),
            every_nanos: u64::try_from(spec.every.as_nanos()).unwrap(),
            deadline_nanos: u64::try_from(spec.deadline.as_nanos()).unwrap(),
            metrics: Vec::new(),
        };
        writeln!(out, "{}", serde_json::to_string(&source).unwrap()).unwrap();
        for metric in spec.metrics {
            writeln!(out, "{}", serde_json::to_string(&MetricDef::from(metric)).unwrap()).unwrap();
        }
    }
    out
}

#[test]
fn the_demonstration_declares_the_sources_and_metrics_of_the_agent() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/src/schema.jsonl");
    let agents = agents_schema();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &agents).unwrap();
    }
    let demos = std::fs::read(&file).unwrap();
    assert_eq!(String::from_utf8(demos).unwrap(), agents, "UPDATE_GOLDEN=1 writes {}", file.display());
}

/// Text that a log of the archive has, by node and path below the node.
fn logs() -> Vec<(String, String, String)> {
    let dir = tempfile::tempdir().unwrap();
    let path = casefile_demo::write(dir.path()).unwrap();
    let mut archive = Archive::open(&path, Limits::default()).unwrap();
    let paths: Vec<EntryPath> = archive.entries().iter().map(|entry| entry.path.clone()).collect();
    let mut logs = Vec::new();
    for path in paths {
        let Some((node, item)) = layout::split_node_item(&path) else { continue };
        if item.as_str().starts_with("logs/") && item.as_str().ends_with(".log") {
            let bytes = archive.read(&path, Bytes::mib(16)).unwrap();
            logs.push((node.to_string(), item.to_string(), String::from_utf8(bytes).unwrap()));
        }
    }
    assert!(logs.len() > 80, "{} logs", logs.len());
    logs
}

/// What signatures recognise in a log: the id, how bad it is, and the line.
fn recognised(path: &str, text: &str) -> Vec<(String, Weight, String)> {
    let mut lines = Lines::default();
    let mut found = Vec::new();
    for line in text.lines() {
        // Pods may write what they like: their lines are nobody's records.
        let Some(record) = lines.line(line).filter(|_| !path.starts_with("logs/pods/")) else { continue };
        let explained = explain(record.subject).expect("what is recognised is explained");
        let weight = explained.opinions.iter().filter_map(|said| said.weight).max().unwrap_or(Weight::Info);
        found.push((record.signature.id.clone(), weight, line.to_owned()));
    }
    found
}

#[test]
fn each_planted_fault_is_recognised_in_the_kernel_log_of_its_node_and_at_its_time() {
    let logs = logs();
    for cause in PLANTED {
        let kernel = logs.iter().find(|(node, path, _)| node == cause.node && path == "logs/kernel.log");
        let Some((_, path, text)) = kernel else {
            assert!(cause.signatures.is_empty(), "{} has no kernel log", cause.node);
            continue;
        };
        let found = recognised(path, text);
        let mut ids: Vec<&str> = found.iter().map(|(id, ..)| id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut expected = cause.signatures.to_vec();
        expected.sort_unstable();
        assert_eq!(ids, expected, "{}", cause.node);
        // Its own clock is off by some milliseconds.
        let at: Vec<WallTime> = found.iter().filter_map(|(.., line)| line.split(' ').next()?.parse().ok()).collect();
        let near = |t: WallTime| at.iter().any(|at| at.nanos_since(t).abs() < 200_000_000);
        assert!(near(cause.at()), "{}: nothing at {} in {at:?}", cause.node, cause.at());
    }
}

#[test]
fn no_signature_finds_anything_on_a_node_without_a_planted_fault() {
    let mut others = 0;
    for (node, path, text) in logs() {
        if PLANTED.iter().any(|cause| cause.node == node) {
            continue;
        }
        others += 1;
        let found = recognised(&path, &text);
        let bad: Vec<_> = found.iter().filter(|(_, weight, _)| *weight >= Weight::Warning).collect();
        assert!(bad.is_empty(), "{node} {path}: {bad:#?}");
    }
    assert!(others > 50, "{others}");
}

#[test]
fn whoever_shows_it_says_that_it_is_synthetic_whatever_its_title() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = CaseFile::open(&casefile_demo::write(dir.path()).unwrap()).unwrap();
    file.incident.title = "all is well".to_owned();
    let shown = summary::render(&file.incident, &file.coverage);
    assert!(shown.lines().take(2).any(|line| line.starts_with("SYNTHETIC ")), "{shown}");
    file.incident.synthetic = false;
    assert!(!summary::render(&file.incident, &file.coverage).contains("SYNTHETIC"));
}
