//! A recording in the agent's own schema, of which the labels, the events and the words of outcomes are texts; and a source that
//! the agent does not have, of which even the names of metrics and labels are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use casefile_evidence::recording::Header;
use casefile_evidence::recording::delta::Encoder;
use casefile_proto::event::{Event, EventKind};
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::ids::{BootId, FrameSeq, NodeName};
use casefile_proto::sample::{
    Frame, MetricDef, MetricIndex, MetricKind, Outcome, Reading, Sample, Schema, SeriesDef, SeriesId, SourceDef,
    SourceIndex,
};
use casefile_proto::time::{BootTime, Stamp};
use casefile_proto::units::{Scale, Unit};

use super::{SECONDS, Texts, window};

/// The agent's sources and metrics, a line each.
const SCHEMA: &str = include_str!("../../demo/src/schema.jsonl");

/// Of each metric so many series: an ordinary one, some whose names are texts, one of which every label is.
const SERIES: usize = 4;

/// Labels that are numbers: with anything else in them a series says nothing.
const NUMBERS: [&str; 16] = [
    "cpu", "package", "core", "node", "pid", "start", "ppid", "uid", "gpu", "port", "packages", "cores", "cpus",
    "csrow", "link", "level",
];

/// What changed in the middle of the window.
const CHANGE: i64 = SECONDS / 2;

fn schema(texts: &mut Texts) -> Schema {
    let mut sources: Vec<SourceDef> = Vec::new();
    for line in SCHEMA.lines() {
        if let Ok(source) = serde_json::from_str::<SourceDef>(line) {
            sources.push(source);
        } else {
            let metric: MetricDef = serde_json::from_str(line).expect("a line of the schema");
            sources.last_mut().expect("a source comes first").metrics.push(metric);
        }
    }
    let metric = |texts: &mut Texts, kind| MetricDef {
        name: texts.text(),
        help: texts.text(),
        kind,
        unit: Unit::Count,
        scale: Scale::ONE,
        labels: vec![texts.text(), texts.text()],
    };
    let kinds = [MetricKind::Counter, MetricKind::Gauge, MetricKind::Info];
    sources.push(SourceDef {
        name: texts.text(),
        about: texts.text(),
        every_nanos: 1_000_000_000,
        deadline_nanos: 500_000_000,
        metrics: (0..30).map(|n| metric(texts, kinds[n % 3])).collect(),
    });
    Schema { sources }
}

/// The label of a series: the same for all metrics of a source, so that they are of one thing.
fn label(known: &mut BTreeMap<(usize, String, usize), String>, texts: &mut Texts, of: (usize, &str, usize)) -> String {
    let (source, name, one) = of;
    let make = || {
        let number = NUMBERS.contains(&name);
        match one {
            0 if number => "0".to_owned(),
            0 => format!("{name}0"),
            one if number && one < SERIES - 1 => (100 + one).to_string(),
            _ if name == "mountpoint" => format!("/{}", texts.text()),
            _ => texts.text(),
        }
    };
    known.entry((source, name.to_owned(), one)).or_insert_with(make).clone()
}

/// The segment. With events, when the node has no log of its kernel.
pub(super) fn recording(texts: &mut Texts, node: &NodeName, with_events: bool) -> Vec<u8> {
    let schema = Arc::new(schema(texts));
    let boot = BootId::from_bytes([6; 16]);
    let header = Header { node: node.clone(), boot, agent_version: texts.text(), schema: schema.clone() };
    let mut encoder = Encoder::new(header);
    let mut bytes = encoder.header();
    let mut known = BTreeMap::new();
    let mut series: Vec<Vec<(usize, Vec<String>)>> = Vec::new();
    for (source, def) in schema.sources.iter().enumerate() {
        let mut own = Vec::new();
        // The same names twice would be one series twice.
        let mut taken = BTreeSet::new();
        for (metric, def) in def.metrics.iter().enumerate() {
            let many = if def.labels.is_empty() { 1 } else { SERIES };
            for one in 0..many {
                let labels: Vec<_> =
                    def.labels.iter().map(|name| label(&mut known, texts, (source, name, one))).collect();
                if taken.insert((metric, labels.clone())) {
                    own.push((metric, labels));
                }
            }
        }
        series.push(own);
    }
    let mut defined = BTreeSet::new();
    for second in 0..SECONDS {
        let wall = window().from().offset(second * 1_000_000_000);
        let stamp = Stamp { wall, boot: BootTime::from_nanos(u64::try_from(second).unwrap_or(0) * 1_000_000_000 + 1) };
        let mut samples = Vec::new();
        for (source, own) in series.iter().enumerate() {
            let def = &schema.sources[source];
            let every = i64::try_from(def.every_nanos / 1_000_000_000).unwrap_or(1).max(1);
            if second % every != 0 {
                continue;
            }
            let (mut new, mut readings) = (Vec::new(), Vec::new());
            for (id, (metric, labels)) in own.iter().enumerate() {
                let spec = &def.metrics[*metric];
                // A few of each source say enough at each second; the others would only make the file large.
                if *metric > 12 && second % 15 != 0 {
                    continue;
                }
                // Half of what a machine is, is so from the middle on only.
                if id % SERIES == 1 && second < CHANGE && spec.kind == MetricKind::Info {
                    continue;
                }
                let id = SeriesId(u32::try_from(id).unwrap_or(u32::MAX));
                if defined.insert((source, id)) {
                    let labels = labels.iter().map(|label| label.as_str().into()).collect();
                    new.push((id, SeriesDef { metric: MetricIndex(u16::try_from(*metric).unwrap_or(0)), labels }));
                }
                let value = match spec.kind {
                    MetricKind::Counter => second * (17 + i64::from(id.0 % 5)),
                    MetricKind::Gauge => 1_000 + (second * 7) % 100,
                    MetricKind::Info => 1,
                };
                readings.push(Reading { series: id, value });
            }
            let outcome = match (second, source % 4) {
                (60..66, 0) => Outcome::Partial { gaps: vec![Gap::new(GapReason::TimedOut, texts.text())] },
                (70..76, 1) => Outcome::Failed { error: texts.text() },
                (80..86, 2) => Outcome::Skipped { why: texts.text() },
                (90..96, 3) => Outcome::Absent { why: texts.text() },
                _ => Outcome::Complete,
            };
            let source = SourceIndex(u16::try_from(source).unwrap_or(0));
            samples.push(Sample { source, outcome, took_nanos: 1, defined: new, readings });
        }
        let events = if with_events { events(texts, stamp, second) } else { Vec::new() };
        let seq = FrameSeq(FrameSeq::FIRST.0 + u64::try_from(second).unwrap_or(0));
        encoder.frame(&Frame { boot, seq, at: stamp, samples, events }, &mut bytes);
    }
    bytes
}

fn events(texts: &mut Texts, at: Stamp, second: i64) -> Vec<Event> {
    let kind = match second % 6 {
        0 => EventKind::AgentStarted,
        1 => EventKind::Source { source: texts.text() },
        2 => EventKind::PreviousBoot { found_in: texts.text() },
        3 => EventKind::Gpu { pci: texts.text(), xid: Some(79) },
        4 => EventKind::Lost { count: None },
        _ => EventKind::ClockStepped { by_nanos: 1 },
    };
    let kernel = |text: String| Event { at, kind: EventKind::Kernel { seq: None, facility: 0, level: 3 }, text };
    let text = texts.text();
    let killed = format!("Out of memory: Killed process 7 ({}) total-vm:4kB, anon-rss:4kB, UID:0", texts.line());
    vec![Event { at, kind, text }, kernel(texts.text()), kernel(killed), kernel(texts.text())]
}
