//! Recordings of machines made by a test: any metrics, read when the test says so.

use std::collections::HashMap;
use std::sync::Arc;

use casefile_evidence::recording::Header;
use casefile_evidence::recording::delta::Encoder;
use casefile_proto::event::{Event, EventKind};
use casefile_proto::ids::{BootId, FrameSeq};
use casefile_proto::sample::{
    Frame, MetricDef, MetricIndex, MetricKind, Outcome, Reading, Sample, Schema, SeriesDef, SeriesId, SourceDef,
    SourceIndex,
};
use casefile_proto::time::{BootTime, Stamp, WallTime};
use casefile_proto::units::{Scale, Unit};

/// A metric: its source, its name, what it is, its unit, its labels.
pub(crate) type Metric = (&'static str, &'static str, MetricKind, Unit, &'static [&'static str]);

/// One reading: a series by name and labels, and its value. All are kept in thousandths.
pub(crate) struct Said(&'static str, Vec<String>, f64);

pub(crate) fn said(name: &'static str, labels: &[&str], value: f64) -> Said {
    Said(name, labels.iter().map(|label| (*label).to_owned()).collect(), value)
}

/// What the kernel logged.
pub(crate) fn kernel(at: WallTime, facility: u8, level: u8, text: &str) -> Event {
    let at = Stamp { wall: at, boot: BootTime::from_nanos(1) };
    Event { at, kind: EventKind::Kernel { seq: None, facility, level }, text: text.to_owned() }
}

/// Writes a recording, tick by tick.
pub(crate) struct Recorder {
    metrics: &'static [Metric],
    sources: Vec<&'static str>,
    encoder: Encoder,
    bytes: Vec<u8>,
    seq: FrameSeq,
    ids: HashMap<(usize, Vec<String>), u32>,
}

impl Recorder {
    /// Of a node that has these metrics. A source is read each second, `filesystem` and `inventory` each tenth.
    pub(crate) fn new(node: &str, metrics: &'static [Metric]) -> Self {
        let mut sources: Vec<&'static str> = metrics.iter().map(|metric| metric.0).collect();
        sources.dedup();
        let def = |metric: &&Metric| MetricDef {
            name: metric.1.to_owned(),
            help: String::new(),
            kind: metric.2,
            unit: metric.3,
            scale: Scale::MILLI,
            labels: metric.4.iter().map(|label| (*label).to_owned()).collect(),
        };
        let source = |name: &&'static str| SourceDef {
            name: (*name).to_owned(),
            about: String::new(),
            every_nanos: if matches!(*name, "filesystem" | "inventory") { 10_000_000_000 } else { 1_000_000_000 },
            deadline_nanos: 500_000_000,
            metrics: metrics.iter().filter(|metric| metric.0 == *name).map(|metric| def(&metric)).collect(),
        };
        let schema = Arc::new(Schema { sources: sources.iter().map(source).collect() });
        let header = Header {
            node: node.parse().unwrap(),
            boot: BootId::from_bytes([7; 16]),
            agent_version: "test".to_owned(),
            schema,
        };
        let encoder = Encoder::new(header);
        let bytes = encoder.header();
        Self { metrics, sources, encoder, bytes, seq: FrameSeq::FIRST, ids: HashMap::new() }
    }

    /// One tick: what is not said was not read.
    pub(crate) fn tick(&mut self, at: WallTime, all: Vec<Said>, events: Vec<Event>) {
        let count = self.sources.len();
        let (mut defined, mut readings) = (vec![Vec::new(); count], vec![Vec::new(); count]);
        for Said(name, labels, value) in all {
            let number = self.metrics.iter().position(|metric| metric.1 == name).unwrap_or_else(|| panic!("no {name}"));
            let source = self.sources.iter().position(|source| *source == self.metrics[number].0).unwrap();
            let of_source = self.metrics.iter().filter(|metric| metric.0 == self.sources[source]);
            let in_source = of_source.clone().position(|metric| metric.1 == name).unwrap();
            assert_eq!(labels.len(), self.metrics[number].4.len(), "{name}");
            let next =
                u32::try_from(self.ids.keys().filter(|(n, _)| self.metrics[*n].0 == self.sources[source]).count());
            let next = next.unwrap();
            let id = *self.ids.entry((number, labels.clone())).or_insert_with(|| {
                let labels = labels.iter().map(|label| label.as_str().into()).collect();
                let metric = MetricIndex(u16::try_from(in_source).unwrap());
                defined[source].push((SeriesId(next), SeriesDef { metric, labels }));
                next
            });
            #[expect(clippy::cast_possible_truncation, reason = "values of a test are small")]
            readings[source].push(Reading { series: SeriesId(id), value: (value * 1000.0).round() as i64 });
        }
        let samples = defined.into_iter().zip(readings).enumerate().filter(|(_, (_, readings))| !readings.is_empty());
        let sample = |(n, (defined, readings)): (usize, (Vec<_>, Vec<Reading>))| Sample {
            source: SourceIndex(u16::try_from(n).unwrap()),
            outcome: Outcome::Complete,
            took_nanos: 1,
            defined,
            readings,
        };
        let at = Stamp { wall: at, boot: BootTime::from_nanos(self.seq.0 * 1_000_000_000) };
        let samples = samples.map(sample).collect();
        let frame = Frame { boot: BootId::from_bytes([7; 16]), seq: self.seq, at, samples, events };
        self.encoder.frame(&frame, &mut self.bytes);
        self.seq = self.seq.next();
    }

    /// Its bytes: one segment.
    pub(crate) fn bytes(self) -> Vec<u8> {
        self.bytes
    }
}
