//! What the recordings are written in: the sources and metrics of the real agent, out of `schema.jsonl`.
//!
//! The file has a line for each source and below it one for each of its metrics. A test of the workspace's `tests` crate
//! holds it to the agent's code and writes it (`UPDATE_GOLDEN=1`).

use casefile_proto::sample::{MetricDef, Schema, SourceDef};
use serde::Deserialize;

use crate::DemoError;

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Source(SourceDef),
    Metric(MetricDef),
}

/// The agent's schema.
pub(crate) fn schema() -> Result<Schema, DemoError> {
    let mut schema = Schema::default();
    for line in include_str!("schema.jsonl").lines() {
        match serde_json::from_str(line).map_err(DemoError::Schema)? {
            Line::Source(source) => schema.sources.push(source),
            Line::Metric(metric) => {
                if let Some(source) = schema.sources.last_mut() {
                    source.metrics.push(metric);
                }
            }
        }
    }
    Ok(schema)
}
