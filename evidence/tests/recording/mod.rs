//! A made-up machine whose frames the recording tests store: from a seed, so that a failure can be made again.
//!
//! Sources come and go, series are born, pause and die, values wrap, the clock is stepped: what a format must survive.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use casefile_evidence::recording::Header;
use casefile_proto::event::{Event, EventKind};
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::ids::{BootId, FrameSeq};
use casefile_proto::sample::{
    Frame, MetricDef, MetricIndex, MetricKind, Outcome, Reading, Sample, Schema, SeriesDef, SeriesId, SourceDef,
    SourceIndex,
};
use casefile_proto::time::{BootTime, Stamp, WallTime};
use casefile_proto::units::{Scale, Unit};

pub(crate) const SECOND: u64 = 1_000_000_000;
/// 2026-11-23T02:44:10Z.
pub(crate) const EPOCH: i64 = 1_795_401_850;

/// xorshift64*: small, and the same everywhere.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    /// 0 to `n` - 1.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    /// True one time out of `n`.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

fn metric(name: &str, kind: MetricKind, labels: &[&str]) -> MetricDef {
    MetricDef {
        name: name.to_owned(),
        help: format!("What {name} counts."),
        kind,
        unit: Unit::Count,
        scale: Scale::CENTI,
        labels: labels.iter().map(|&l| l.to_owned()).collect(),
    }
}

fn source(name: &str, every: u64, metrics: Vec<MetricDef>) -> SourceDef {
    SourceDef {
        name: name.to_owned(),
        about: format!("Reads {name}."),
        every_nanos: every * SECOND,
        deadline_nanos: SECOND / 2,
        metrics,
    }
}

/// Three sources: one without labels, one whose series come and go, one that is measured every third second.
pub(crate) fn schema() -> Arc<Schema> {
    let load = vec![metric("node_load1", MetricKind::Gauge, &[]), metric("node_forks_total", MetricKind::Counter, &[])];
    let process = vec![
        metric("process_cpu_seconds_total", MetricKind::Counter, &["pid", "comm"]),
        metric("process_resident_memory_bytes", MetricKind::Gauge, &["pid", "comm"]),
    ];
    let disk = vec![metric("node_disk_io_now", MetricKind::Gauge, &["device"])];
    Arc::new(Schema { sources: vec![source("load", 1, load), source("process", 1, process), source("disk", 3, disk)] })
}

pub(crate) fn header(boot: u8) -> Header {
    Header {
        node: "node-1".parse().unwrap(),
        boot: BootId::from_bytes([boot; 16]),
        agent_version: "0.1.0".to_owned(),
        schema: schema(),
    }
}

/// A machine that makes frames.
pub(crate) struct Machine {
    pub(crate) header: Header,
    dice: Dice,
    pub(crate) seq: u64,
    pub(crate) at: Stamp,
    next_id: u32,
    series: Vec<Vec<(SeriesId, i64)>>,
}

impl Machine {
    pub(crate) fn new(boot: u8, seed: u64) -> Self {
        let at = Stamp { wall: WallTime::from_secs(EPOCH), boot: BootTime::from_nanos(100 * SECOND) };
        Self { header: header(boot), dice: Dice::new(seed), seq: 0, at, next_id: 0, series: vec![Vec::new(); 3] }
    }

    /// Lets time pass in which nothing is recorded.
    pub(crate) fn sleep(&mut self, seconds: u64) {
        self.at.boot = BootTime::from_nanos(self.at.boot.nanos() + seconds * SECOND);
        self.at.wall = self.at.wall.offset((seconds * SECOND).cast_signed());
    }

    /// The next frame, one second after the one before.
    pub(crate) fn frame(&mut self) -> Frame {
        self.sleep(1);
        self.seq += 1;
        let samples = (0..3).map(|source| self.sample(source)).collect();
        let events = (0..self.dice.below(12).saturating_sub(9)).map(|_| self.event()).collect();
        Frame { boot: self.header.boot, seq: FrameSeq(self.seq), at: self.at, samples, events }
    }

    pub(crate) fn frames(&mut self, n: usize) -> Vec<Frame> {
        (0..n).map(|_| self.frame()).collect()
    }

    fn event(&mut self) -> Event {
        let kind = match self.dice.below(7) {
            0 => EventKind::Kernel { seq: Some(self.dice.below(1000)), facility: 0, level: 4 },
            1 => EventKind::Kernel { seq: None, facility: 3, level: 6 },
            2 => EventKind::Source { source: "disk".to_owned() },
            3 => EventKind::ClockStepped { by_nanos: self.dice.next().cast_signed() },
            4 => EventKind::PreviousBoot { found_in: "/sys/fs/pstore/dmesg-efi-179540185001001".to_owned() },
            5 => EventKind::Gpu { pci: "0000:84:00.0".to_owned(), xid: self.dice.one_in(2).then_some(79) },
            _ => EventKind::Lost { count: self.dice.one_in(2).then_some(7) },
        };
        let wall = self.at.wall.offset(-(self.dice.below(SECOND).cast_signed()));
        Event { at: Stamp { wall, boot: self.at.boot }, kind, text: format!("line {}\nü", self.dice.below(10)) }
    }

    fn outcome(&mut self) -> Outcome {
        match self.dice.below(24) {
            0 => Outcome::Failed { error: "read /proc/loadavg: permission denied".to_owned() },
            1 => Outcome::TimedOut { after_nanos: 500_000_000 },
            2 => Outcome::Partial { gaps: vec![Gap::new(GapReason::PermissionDenied, "pid 7").counting(3)] },
            3 => Outcome::Absent { why: "no such thing".to_owned() },
            4 => Outcome::Skipped { why: "three threads lost".to_owned() },
            _ => Outcome::Complete,
        }
    }

    fn sample(&mut self, source: u16) -> Sample {
        let index = SourceIndex(source);
        let empty = |outcome| Sample { source: index, outcome, took_nanos: 0, defined: vec![], readings: vec![] };
        if source == 2 && !self.seq.is_multiple_of(3) {
            return empty(Outcome::not_due());
        }
        let outcome = self.outcome();
        if !matches!(outcome, Outcome::Complete | Outcome::Partial { .. }) {
            return empty(outcome);
        }
        let mut defined = Vec::new();
        let (metrics, births) = match source {
            0 => (2, u64::from(self.series[0].is_empty())),
            1 => (2, u64::from(self.dice.one_in(2))),
            _ => (1, u64::from(self.dice.one_in(3))),
        };
        for _ in 0..births {
            let number = self.next_id;
            for metric in 0..metrics {
                let labels: Box<[Box<str>]> = match source {
                    0 => Box::new([]),
                    1 => Box::new([number.to_string().into(), format!("worker/{}", number % 3).into()]),
                    _ => Box::new([format!("sd{number}").into()]),
                };
                let id = SeriesId(self.next_id);
                self.next_id += 1;
                defined.push((id, SeriesDef { metric: MetricIndex(metric), labels }));
                let start = if self.dice.one_in(9) { self.dice.next().cast_signed() } else { 1000 };
                self.series[usize::from(source)].push((id, start));
            }
        }
        if source == 1 && (self.series[1].len() > 40 || self.series[1].len() > 8 && self.dice.one_in(3)) {
            let gone = self.dice.below(4) as usize * 2;
            self.series[1].drain(gone..gone + 2);
        }
        let all = source == 0 || self.dice.one_in(2);
        let mut readings = Vec::new();
        for (id, value) in &mut self.series[usize::from(source)] {
            let is_new = defined.iter().any(|d| d.0 == *id);
            if !(all || is_new || self.dice.one_in(3)) {
                continue;
            }
            let step = match self.dice.below(20) {
                0 => self.dice.next(),
                1..=8 => 0,
                n => n,
            };
            *value = value.wrapping_add(step.cast_signed());
            readings.push(Reading { series: *id, value: *value });
        }
        Sample { source: index, outcome, took_nanos: self.dice.below(1 << 22), defined, readings }
    }
}

/// A source, its outcome, what it took, and its readings: metric, labels, value.
pub(crate) type PlainSample = (u16, Outcome, u64, Vec<(u16, Vec<String>, i64)>);

/// A frame without series ids: readings by what they are, in order of that.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plain {
    pub(crate) boot: BootId,
    pub(crate) seq: u64,
    pub(crate) at: Stamp,
    pub(crate) samples: Vec<PlainSample>,
    pub(crate) events: Vec<Event>,
}

/// Turns frames of one run into what can be compared.
#[derive(Default)]
pub(crate) struct Names(HashMap<(u16, u32), SeriesDef>);

impl Names {
    pub(crate) fn plain(&mut self, frame: &Frame) -> Plain {
        let samples = frame.samples.iter().map(|sample| {
            for (id, def) in &sample.defined {
                let before = self.0.insert((sample.source.0, id.0), def.clone());
                assert!(before.is_none(), "{id:?} was given out twice");
            }
            let mut readings: Vec<_> = sample.readings.iter().map(|r| self.reading(sample.source.0, r)).collect();
            readings.sort();
            (sample.source.0, sample.outcome.clone(), sample.took_nanos, readings)
        });
        let samples = samples.collect();
        Plain { boot: frame.boot, seq: frame.seq.0, at: frame.at, samples, events: frame.events.clone() }
    }

    fn reading(&self, source: u16, reading: &Reading) -> (u16, Vec<String>, i64) {
        let def = self.0.get(&(source, reading.series.0)).unwrap();
        (def.metric.0, def.labels.iter().map(|l| l.to_string()).collect(), reading.value)
    }
}

pub(crate) fn plain(frames: &[Frame]) -> Vec<Plain> {
    let mut names = Names::default();
    frames.iter().map(|f| names.plain(f)).collect()
}

/// How often each outcome was there, by source: what a cut must count.
pub(crate) fn count_outcomes(frames: &[Plain]) -> BTreeMap<(u16, &'static str), u64> {
    let mut counts = BTreeMap::new();
    for (source, outcome, ..) in frames.iter().flat_map(|f| &f.samples).filter(|s| !s.1.is_not_due()) {
        *counts.entry((*source, outcome.word())).or_insert(0) += 1;
    }
    counts
}
