//! Series out of recordings: one metric over a window, in base units, in the order of time.
//!
//! A series has a point where it was read, and none where it was not: nothing is filled in.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use casefile_evidence::recording::reader::{Piece, ReadError, Recording};
use casefile_proto::ids::NodeName;
use casefile_proto::sample::{MetricDef, MetricKind, Schema, SeriesDef};
use casefile_proto::time::{WallTime, Window};
use serde::Serialize;

/// Which series are wanted.
#[derive(Debug, Clone, Default)]
pub struct Selector {
    /// The metric's name, whole.
    pub metric: String,
    /// Labels that must have these values.
    pub labels: Vec<(String, String)>,
}

/// One value of one series at one tick.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point<'a> {
    /// When, on the node's clock.
    pub time: WallTime,
    /// The node.
    pub node: &'a NodeName,
    /// The metric's labels with their values.
    pub labels: BTreeMap<&'a str, &'a str>,
    /// The value in the metric's base unit.
    pub value: f64,
}

/// A metric that a recording can contain, and how it is to be read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct MetricInfo {
    /// Its name.
    pub metric: String,
    /// The source that reads it.
    pub source: String,
    /// How it moves.
    pub kind: &'static str,
    /// The base unit.
    pub unit: &'static str,
    /// Its labels.
    pub labels: Vec<String>,
    /// What it is.
    pub help: String,
}

/// Calls `each` for every point of the selected series, oldest first; says how many there were.
pub fn points(
    recording: &mut Recording,
    window: Option<Window>,
    selector: &Selector,
    each: &mut dyn FnMut(&Point<'_>) -> ControlFlow<()>,
) -> Result<u64, ReadError> {
    let mut found = 0;
    let mut known: Option<(NodeName, Arc<Schema>)> = None;
    // The recording lends its series while it lends its pieces; what it defines is kept here instead.
    let mut series = BTreeMap::new();
    recording.pieces(window, &mut |piece| {
        match piece {
            Piece::Header(header) => known = Some((header.node, header.schema)),
            Piece::Hole(_) => {}
            Piece::Frame(frame) => {
                let Some((node, schema)) = &known else { return ControlFlow::Continue(()) };
                for sample in &frame.samples {
                    let Some(source) = schema.sources.get(usize::from(sample.source.0)) else { continue };
                    for (id, def) in &sample.defined {
                        if let Some(metric) = source.metrics.get(usize::from(def.metric.0))
                            && selected(selector, metric, def)
                        {
                            series.insert((sample.source, *id), (metric.clone(), def.clone()));
                        }
                    }
                    for reading in &sample.readings {
                        let Some((metric, def)) = series.get(&(sample.source, reading.series)) else { continue };
                        found += 1;
                        let point = Point {
                            time: frame.at.wall,
                            node,
                            labels: labelled(metric, def).collect(),
                            value: metric.scale.apply(reading.value),
                        };
                        if each(&point).is_break() {
                            return ControlFlow::Break(());
                        }
                    }
                }
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// The metrics that the recording's schemas declare, in order of name.
pub fn metrics(recording: &mut Recording) -> Result<Vec<MetricInfo>, ReadError> {
    let mut all = std::collections::BTreeSet::new();
    recording.pieces(None, &mut |piece| {
        if let Piece::Header(header) = piece {
            for source in &header.schema.sources {
                all.extend(source.metrics.iter().map(|metric| info(&source.name, metric)));
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok(all.into_iter().collect())
}

fn info(source: &str, metric: &MetricDef) -> MetricInfo {
    MetricInfo {
        metric: metric.name.clone(),
        source: source.to_owned(),
        kind: match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Info => "info",
        },
        unit: metric.unit.word(),
        labels: metric.labels.clone(),
        help: metric.help.clone(),
    }
}

fn labelled<'a>(metric: &'a MetricDef, def: &'a SeriesDef) -> impl Iterator<Item = (&'a str, &'a str)> {
    metric.labels.iter().map(String::as_str).zip(def.labels.iter().map(AsRef::as_ref))
}

fn selected(selector: &Selector, metric: &MetricDef, def: &SeriesDef) -> bool {
    metric.name == selector.metric
        && selector.labels.iter().all(|(name, value)| labelled(metric, def).any(|(n, v)| n == name && v == value))
}
