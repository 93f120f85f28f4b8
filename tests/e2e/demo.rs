//! The synthetic incident against what it stands for: its recordings speak of the agent's own metrics, its planted faults
//! are recognised, and its healthy nodes are calm.

use std::fmt::Write as _;
use std::path::Path;

use casefile_agent::sources;
use casefile_proto::sample::{MetricDef, SourceDef};

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
