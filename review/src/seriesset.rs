//! The series of one node side by side: what checks, pages, tables and exports look at.
//!
//! A series has a point where it was read, and none where it was not. Rates are derived here and nowhere else: over two points
//! of one boot, never over a counter that went back, never over a hole. Times are the collector's, by the node's measured offset.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use casefile_evidence::recording::Hole;
use casefile_evidence::recording::reader::Piece;
use casefile_proto::event::Event;
use casefile_proto::gap::Gap;
use casefile_proto::ids::{BootId, NodeName};
use casefile_proto::sample::{MetricDef, MetricKind, Schema, SourceDef};
use casefile_proto::time::{ClockOffset, WallTime, Window};

use crate::casefile::{CaseFile, CaseFileError};
use crate::logs::corrected;

/// A rate over more than so many of its source's ticks would say something of a time at which nothing was read.
const MAX_TICKS: u64 = 20;

/// The most points that are kept of one node: 5,000 series over two hours at 1 Hz.
const MAX_POINTS: usize = 36_000_000;

/// The most series of one source: more is no machine.
const MAX_SERIES: usize = 4 << 20;

/// A tick at which the node was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// When, on the collector's clock.
    pub at: WallTime,
    /// Which of [`SeriesSet::boots`].
    pub boot: usize,
}

/// One value of a series: the number of its tick, and the value in the metric's base unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Value {
    /// The position in [`SeriesSet::ticks`].
    pub tick: u32,
    /// The value.
    pub value: f64,
}

/// One series.
#[derive(Debug, Clone)]
pub struct OneSeries {
    /// The source that reads it.
    pub source: Arc<str>,
    /// How often it is read, in nanoseconds.
    pub every_nanos: u64,
    /// What it is.
    pub metric: Arc<MetricDef>,
    /// The values of its labels, in the order of the metric's. Text from the node: escape before showing.
    pub labels: Box<[Box<str>]>,
    /// Its values, in the order of time.
    pub values: Vec<Value>,
}

#[cfg(test)]
impl OneSeries {
    /// One that a test makes up: of a source `s` that is read once a second.
    pub(crate) fn made(
        name: &str,
        (kind, unit): (MetricKind, casefile_proto::units::Unit),
        labels: &[(&str, &str)],
        values: Vec<Value>,
    ) -> Self {
        let metric = MetricDef {
            name: name.to_owned(),
            help: String::new(),
            kind,
            unit,
            scale: casefile_proto::units::Scale::ONE,
            labels: labels.iter().map(|(name, _)| (*name).to_owned()).collect(),
        };
        Self {
            source: "s".into(),
            every_nanos: 1_000_000_000,
            metric: Arc::new(metric),
            labels: labels.iter().map(|(_, value)| (*value).into()).collect(),
            values,
        }
    }
}

/// Something that happened, on the collector's clock.
#[derive(Debug, Clone)]
pub struct Happened {
    /// When.
    pub at: WallTime,
    /// What; its own time is the node's.
    pub event: Event,
    /// Which of [`SeriesSet::boots`].
    pub boot: usize,
}

/// The recorded part of one node.
#[derive(Debug, Clone, Default)]
pub struct SeriesSet {
    /// The boots, oldest first.
    pub boots: Vec<BootId>,
    /// The ticks, oldest first.
    pub ticks: Vec<Tick>,
    /// The wanted series, in the order in which they came up.
    pub series: Vec<OneSeries>,
    /// What happened.
    pub events: Vec<Happened>,
    /// The holes; their intervals are on the node's clock.
    pub holes: Vec<Gap>,
    /// Recordings that could not be read to their end, and why.
    pub damaged: Vec<(String, String)>,
    /// Values that were left out because there were too many.
    pub left_out: u64,
}

/// By how much a counter grew, and in how many seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Growth {
    /// By how much, in the metric's base unit.
    pub by: f64,
    /// In which time: never 0.
    pub seconds: f64,
}

/// What can be said of a series over an interval.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Stats {
    /// How many values.
    pub count: usize,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// The mean of the values.
    pub mean: f64,
    /// The value that 95 of 100 do not exceed.
    pub p95: f64,
    /// The first.
    pub first: f64,
    /// The last.
    pub last: f64,
}

impl SeriesSet {
    /// Reads the recordings of a node; of its metrics those that are wanted.
    ///
    /// A recording that cannot be read to its end gives what was whole, and is named in [`SeriesSet::damaged`].
    ///
    /// # Errors
    /// Never for what is in the case file: a damaged recording is told, not an error.
    pub fn load(
        casefile: &mut CaseFile,
        node: &NodeName,
        wanted: &dyn Fn(&SourceDef, &MetricDef) -> bool,
    ) -> Result<Self, CaseFileError> {
        Self::load_within(casefile, node, None, wanted)
    }

    /// [`Self::load`] of what lies in this window of the collector's clock alone.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_within(
        casefile: &mut CaseFile,
        node: &NodeName,
        window: Option<Window>,
        wanted: &dyn Fn(&SourceDef, &MetricDef) -> bool,
    ) -> Result<Self, CaseFileError> {
        let clock = casefile.clock(node);
        // The recording is on the node's clock.
        let ahead = clock.and_then(ClockOffset::apart).unwrap_or(0);
        let window = window.and_then(|window| window.shifted(ahead));
        let mut loading = Loading { set: Self::default(), clock, wanted, known: HashMap::new(), points: 0 };
        for (_, entry) in casefile.recordings(Some(node)) {
            let mut recording = match casefile.recording(&entry) {
                Ok(recording) => recording,
                Err(error) => {
                    loading.set.damaged.push((entry.to_string(), crate::casefile::chain(&error)));
                    continue;
                }
            };
            let mut of_this = OfRecording::default();
            let read = recording.pieces(window, &mut |piece| {
                loading.take(piece, &mut of_this);
                ControlFlow::Continue(())
            });
            if let Err(error) = read {
                loading.set.damaged.push((entry.to_string(), crate::casefile::chain(&error)));
            }
        }
        Ok(loading.finish())
    }

    /// The time of a value.
    pub fn at(&self, value: Value) -> WallTime {
        self.ticks.get(value.tick as usize).map_or(WallTime::MIN, |tick| tick.at)
    }

    /// The series of a metric.
    pub fn of<'s, 'm>(&'s self, metric: &'m str) -> impl Iterator<Item = &'s OneSeries> + use<'s, 'm> {
        self.series.iter().filter(move |s| s.metric.name == metric)
    }

    /// The series of a metric with these labels.
    pub fn one(&self, metric: &str, labels: &[(&str, &str)]) -> Option<&OneSeries> {
        self.of(metric).find(|s| labels.iter().all(|(name, value)| s.label(name) == Some(value)))
    }

    /// How fast a counter grew, per second: each value stands at the end of the time that it is about. Of a gauge its values.
    pub fn moves(&self, series: &OneSeries) -> Vec<Value> {
        if series.metric.kind == MetricKind::Counter { self.rates(series) } else { series.values.clone() }
    }

    /// How fast a counter grew, per second.
    pub fn rates(&self, series: &OneSeries) -> Vec<Value> {
        let rate = |pair: &[Value]| {
            let growth = self.growth(series, pair)?;
            Some(Value { tick: pair.last()?.tick, value: growth.by / growth.seconds })
        };
        series.values.windows(2).filter_map(rate).collect()
    }

    /// By how much a counter grew between two neighbouring values, where that can be said.
    fn growth(&self, series: &OneSeries, pair: &[Value]) -> Option<Growth> {
        let longest = series.every_nanos.max(1).saturating_mul(MAX_TICKS);
        let [before, after] = pair else { return None };
        let (from, until) = (self.ticks.get(before.tick as usize)?, self.ticks.get(after.tick as usize)?);
        let nanos = until.at.nanos().checked_sub(from.at.nanos()).filter(|n| *n > 0)?;
        let whole = from.boot == until.boot && nanos.unsigned_abs() <= longest && after.value >= before.value;
        whole.then(|| Growth { by: after.value - before.value, seconds: nanos as f64 / 1e9 })
    }

    /// By how much a counter grew over the pairs of values that end in a window, and over how long a time that can be said;
    /// `None` where there is no such pair.
    pub fn grown_within(&self, series: &OneSeries, window: Window) -> Option<Growth> {
        let from = series.values.partition_point(|value| self.at(*value) < window.from()).saturating_sub(1);
        let until = series.values.partition_point(|value| self.at(*value) < window.until());
        let pairs = series.values.get(from..until)?.windows(2);
        let ends_in_it = pairs.filter(|pair| pair.last().is_some_and(|last| self.at(*last) >= window.from()));
        let sum = |a: Growth, b: Growth| Growth { by: a.by + b.by, seconds: a.seconds + b.seconds };
        ends_in_it.filter_map(|pair| self.growth(series, pair)).reduce(sum)
    }

    /// By how much a counter grew in all, counted over every pair of values of one boot; `None` where there are not two.
    pub fn grown(&self, series: &OneSeries) -> Option<f64> {
        let boot = |value: &Value| self.ticks.get(value.tick as usize).map(|tick| tick.boot);
        let pairs = series.values.windows(2).filter(|pair| boot(&pair[0]) == boot(&pair[1]));
        pairs.map(|pair| (pair[1].value - pair[0].value).max(0.0)).reduce(|a, b| a + b)
    }

    /// The last value at or before an instant, when it is not older than `at_most`.
    pub fn value_at(&self, values: &[Value], at: WallTime, at_most: Duration) -> Option<Value> {
        let behind = values.partition_point(|value| self.at(*value) <= at);
        let value = *values.get(behind.checked_sub(1)?)?;
        (self.at(value) >= at.before(at_most)).then_some(value)
    }

    /// The values of an interval.
    pub fn within<'v>(&self, values: &'v [Value], window: Window) -> &'v [Value] {
        let from = values.partition_point(|value| self.at(*value) < window.from());
        let until = values.partition_point(|value| self.at(*value) < window.until());
        values.get(from..until).unwrap_or_default()
    }

    /// The smallest and the largest value of each of `columns` equal parts of a window; `None` where nothing was read.
    pub fn columns(&self, values: &[Value], window: Window, columns: usize) -> Vec<Option<(f64, f64)>> {
        let mut out = vec![None; columns];
        let (from, len) =
            (window.from().nanos(), i128::from(window.until().nanos()) - i128::from(window.from().nanos()));
        for value in self.within(values, window) {
            let into = i128::from(self.at(*value).nanos()) - i128::from(from);
            let Ok(column) = usize::try_from(into * columns as i128 / len.max(1)) else { continue };
            let Some(place) = out.get_mut(column) else { continue };
            let (min, max) = place.unwrap_or((value.value, value.value));
            *place = Some((min.min(value.value), max.max(value.value)));
        }
        out
    }
}

impl OneSeries {
    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.named().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// Its labels with their values.
    pub fn named(&self) -> impl Iterator<Item = (&str, &str)> {
        self.metric.labels.iter().map(String::as_str).zip(self.labels.iter().map(AsRef::as_ref))
    }
}

/// What can be said of these values; `None` of none.
pub fn stats(values: &[Value]) -> Option<Stats> {
    let (first, last) = (values.first()?.value, values.last()?.value);
    let mut sorted: Vec<f64> = values.iter().map(|value| value.value).collect();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len();
    let p95 = sorted[(count * 95).div_ceil(100).saturating_sub(1).min(count - 1)];
    let mean = sorted.iter().sum::<f64>() / count as f64;
    Some(Stats { count, min: sorted[0], max: sorted[count - 1], mean, p95, first, last })
}

/// The series that are known, by source, metric and labels.
type Known = HashMap<(Arc<str>, String, Box<[Box<str>]>), usize>;

struct Loading<'w> {
    set: SeriesSet,
    clock: Option<ClockOffset>,
    wanted: &'w dyn Fn(&SourceDef, &MetricDef) -> bool,
    known: Known,
    points: usize,
}

/// What is known while one recording is read.
#[derive(Default)]
struct OfRecording {
    schema: Option<Arc<Schema>>,
    /// Of each source its wanted metrics.
    wanted: Vec<Vec<Option<Arc<MetricDef>>>>,
    /// Of each source, by the reader's number of a series, which of ours it is.
    series: Vec<Vec<u32>>,
}

/// A series that is not wanted.
const NOT_WANTED: u32 = u32::MAX;

impl Loading<'_> {
    fn take(&mut self, piece: Piece, of_this: &mut OfRecording) {
        match piece {
            Piece::Header(header) => {
                let wanted = |source: &SourceDef| {
                    source.metrics.iter().map(|m| (self.wanted)(source, m).then(|| Arc::new(m.clone()))).collect()
                };
                of_this.wanted = header.schema.sources.iter().map(wanted).collect();
                of_this.series.resize_with(header.schema.sources.len(), Vec::new);
                of_this.schema = Some(header.schema);
            }
            Piece::Hole(Hole { gap, .. }) => self.set.holes.push(gap),
            Piece::Frame(frame) => {
                let at = corrected(frame.at.wall, self.clock);
                if self.set.boots.last() != Some(&frame.boot) {
                    self.set.boots.push(frame.boot);
                }
                let boot = self.set.boots.len() - 1;
                let Ok(tick) = u32::try_from(self.set.ticks.len()) else { return };
                self.set.ticks.push(Tick { at, boot });
                for event in frame.events {
                    self.set.events.push(Happened { at: corrected(event.at.wall, self.clock), event, boot });
                }
                for sample in frame.samples {
                    let source = usize::from(sample.source.0);
                    for (id, def) in sample.defined {
                        let Ok(id) = usize::try_from(id.0) else { continue };
                        self.define(of_this, source, id, usize::from(def.metric.0), def.labels);
                    }
                    let Some(series) = of_this.series.get(source).filter(|s| !s.is_empty()) else { continue };
                    let (set, points) = (&mut self.set, &mut self.points);
                    for reading in sample.readings {
                        let Some(&ours) = series.get(reading.series.0 as usize) else { continue };
                        let Some(one) = set.series.get_mut(ours as usize) else { continue };
                        if *points >= MAX_POINTS {
                            set.left_out += 1;
                            continue;
                        }
                        *points += 1;
                        one.values.push(Value { tick, value: one.metric.scale.apply(reading.value) });
                    }
                }
            }
        }
    }

    fn define(&mut self, of_this: &mut OfRecording, source: usize, id: usize, metric: usize, labels: Box<[Box<str>]>) {
        if id >= MAX_SERIES {
            return;
        }
        let wanted = of_this.wanted.get(source).and_then(|m| m.get(metric)).and_then(Option::as_ref);
        let ours = match (wanted, of_this.schema.as_ref().and_then(|s| s.sources.get(source))) {
            (Some(metric), Some(source)) => self.number(source, metric, labels),
            _ => NOT_WANTED,
        };
        let Some(series) = of_this.series.get_mut(source) else { return };
        if ours == NOT_WANTED && id >= series.len() {
            return;
        }
        if id >= series.len() {
            series.resize(id + 1, NOT_WANTED);
        }
        series[id] = ours;
    }

    fn number(&mut self, source: &SourceDef, metric: &Arc<MetricDef>, labels: Box<[Box<str>]>) -> u32 {
        let name: Arc<str> = source.name.as_str().into();
        let next = self.set.series.len();
        let number = *self.known.entry((name.clone(), metric.name.clone(), labels.clone())).or_insert(next);
        if number == next {
            self.set.series.push(OneSeries {
                source: name,
                every_nanos: source.every_nanos,
                metric: Arc::clone(metric),
                labels,
                values: Vec::new(),
            });
        }
        u32::try_from(number).unwrap_or(NOT_WANTED)
    }

    /// In the order of time: a clock that was stepped back, or two recordings of one node, would break every search.
    fn finish(self) -> SeriesSet {
        let mut set = self.set;
        if !set.ticks.is_sorted_by_key(|tick| tick.at) {
            let mut order: Vec<usize> = (0..set.ticks.len()).collect();
            order.sort_by_key(|n| set.ticks[*n].at);
            let mut now_at = vec![0_u32; order.len()];
            for (new, old) in order.iter().enumerate() {
                now_at[*old] = u32::try_from(new).unwrap_or(u32::MAX);
            }
            set.ticks = order.iter().map(|n| set.ticks[*n]).collect();
            for series in &mut set.series {
                for value in &mut series.values {
                    value.tick = now_at[value.tick as usize];
                }
                series.values.sort_by_key(|value| value.tick);
            }
        }
        set.events.sort_by_key(|happened| happened.at);
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use casefile_proto::units::{Scale, Unit};

    fn set(ticks: &[(i64, usize)]) -> SeriesSet {
        let ticks = ticks.iter().map(|(s, boot)| Tick { at: WallTime::from_secs(*s), boot: *boot }).collect();
        SeriesSet { ticks, ..SeriesSet::default() }
    }

    fn series(kind: MetricKind, values: &[(u32, f64)]) -> OneSeries {
        let metric = MetricDef {
            name: "m".to_owned(),
            help: String::new(),
            kind,
            unit: Unit::Count,
            scale: Scale::ONE,
            labels: vec!["l".to_owned()],
        };
        OneSeries {
            source: "s".into(),
            every_nanos: 1_000_000_000,
            metric: Arc::new(metric),
            labels: Box::new(["v".into()]),
            values: values.iter().map(|(tick, value)| Value { tick: *tick, value: *value }).collect(),
        }
    }

    #[test]
    fn a_rate_is_over_two_points_of_one_boot_and_never_over_a_reset_or_a_hole() {
        let set = set(&[(0, 0), (1, 0), (3, 0), (4, 0), (5, 1), (6, 1), (100, 1)]);
        let counter = [(0, 10.0), (1, 12.0), (2, 18.0), (3, 2.0), (4, 5.0), (5, 6.0), (6, 900.0)];
        let rates = set.rates(&series(MetricKind::Counter, &counter));
        let rates: Vec<_> = rates.iter().map(|v| (v.tick, v.value)).collect();
        assert_eq!(rates, [(1, 2.0), (2, 3.0), (5, 1.0)], "reset, reboot and a hole of 94 s have none");
        assert_eq!(set.grown(&series(MetricKind::Counter, &counter)), Some(2.0 + 6.0 + 0.0 + 1.0 + 894.0));
        assert_eq!(set.grown(&series(MetricKind::Counter, &[(0, 1.0)])), None);
        let within = |from, until| {
            let window = Window::new(WallTime::from_secs(from), WallTime::from_secs(until)).unwrap();
            set.grown_within(&series(MetricKind::Counter, &counter), window).map(|g| (g.by, g.seconds))
        };
        assert_eq!(within(1, 4), Some((8.0, 3.0)), "the pair that ends at 1 began before it");
        assert_eq!((within(4, 6), within(6, 7), within(7, 200)), (None, Some((1.0, 1.0)), None));
    }

    #[test]
    fn a_column_without_a_reading_is_empty_and_not_zero() {
        let set = set(&[(0, 0), (1, 0), (8, 0), (9, 0)]);
        let gauge = series(MetricKind::Gauge, &[(0, 1.0), (1, 3.0), (2, 7.0), (3, 5.0)]);
        let window = Window::new(WallTime::from_secs(0), WallTime::from_secs(10)).unwrap();
        let columns = set.columns(&gauge.values, window, 5);
        assert_eq!(columns, [Some((1.0, 3.0)), None, None, None, Some((5.0, 7.0))]);
        let at = |s| set.value_at(&gauge.values, WallTime::from_secs(s), Duration::from_secs(2)).map(|v| v.value);
        assert_eq!((at(1), at(3), at(4), at(9)), (Some(3.0), Some(3.0), None, Some(5.0)));
    }

    #[test]
    fn statistics_are_of_what_was_read() {
        assert_eq!(stats(&[]), None);
        let values: Vec<_> = (1..=100).map(|n| Value { tick: n, value: f64::from(n) }).collect();
        let all = stats(&values).unwrap();
        assert_eq!((all.count, all.min, all.max, all.mean, all.p95), (100, 1.0, 100.0, 50.5, 95.0));
    }
}
