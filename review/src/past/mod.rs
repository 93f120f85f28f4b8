//! The familiar tables of a machine, made of what was recorded of it: as if one had been logged in then.
//!
//! Pure: a [`SeriesSet`] and a part of the window in, rows out. A column of which the series was never recorded is left out, a
//! value that was not read is `None`, and what nobody did has no average: `-`, and never a zero that was not read.

pub mod df;
pub mod dmesg;
pub mod iostat;
pub mod pods;
pub mod sar;
pub mod ss;
pub mod table;
pub mod top;
pub mod vmstat;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use casefile_proto::sample::{MetricDef, SourceDef};
use casefile_proto::time::{WallTime, Window};

use crate::seriesset::{Growth, OneSeries, SeriesSet, Value, stats};
use table::{Row, Table};

/// What was read longer before an instant is not its state. Most series are read each second; those that are read every ten
/// or every sixty are still good for a while longer than that.
pub const FRESH: Duration = Duration::from_secs(15);

/// How long a value of a source is good that is read every ten seconds.
pub const FRESH_SLOW: Duration = Duration::from_secs(35);

/// How much before a part of the window is read with it: the first step needs the values before it.
pub const BEFORE: Duration = Duration::from_secs(75);

/// The most steps of one table.
pub const MAX_STEPS: usize = 20_000;

/// The length of the step that ends at an instant, where nobody says another: some readings, so that a late one does no harm.
pub const MOMENT: Duration = Duration::from_secs(5);

/// Why there is no table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoTable {
    /// It would have too many rows.
    #[error(
        "that would be {0} steps, and more than {MAX_STEPS} are not shown: a longer --every or a shorter part helps"
    )]
    TooMany(i128),
}

/// A column of a table: what stands above it, what it is called as data, and how it is found out.
pub struct Column {
    /// What stands above it, as people know it.
    pub heading: &'static str,
    /// What it is called in JSON, with its base unit.
    pub key: &'static str,
    /// What stands above several: `swap`. Empty where nothing does.
    pub group: &'static str,
    /// What one of what is shown has in the base unit: 1024 for a column in KiB.
    pub per: f64,
    /// Digits behind the point.
    pub decimals: usize,
    /// The metrics that it is made of. Where one of them was never recorded the column is left out.
    pub needs: &'static [&'static str],
    /// The value in the base unit.
    pub of: fn(&Step<'_>) -> Option<f64>,
}

/// A table as it is defined: what each row is about, and its columns.
pub struct Kind {
    /// What is said of each: the label and the heading; `None` where a row is about the whole machine.
    pub subject: Option<(&'static str, &'static str)>,
    /// Its columns.
    pub columns: &'static [Column],
}

impl Kind {
    /// Whether a metric is needed for it.
    pub fn wants(&self, _source: &SourceDef, metric: &MetricDef) -> bool {
        self.columns.iter().any(|column| column.needs.contains(&metric.name.as_str()))
    }
}

/// The series of a set by the name of their metric.
pub struct Known<'s> {
    set: &'s SeriesSet,
    by_metric: HashMap<&'s str, Vec<&'s OneSeries>>,
}

impl<'s> Known<'s> {
    /// Those of a set.
    pub fn of(set: &'s SeriesSet) -> Self {
        let mut by_metric: HashMap<&str, Vec<&OneSeries>> = HashMap::new();
        for series in set.series.iter().filter(|series| !series.values.is_empty()) {
            by_metric.entry(series.metric.name.as_str()).or_default().push(series);
        }
        Self { set, by_metric }
    }

    /// The series of a metric.
    pub fn series(&self, metric: &str) -> &[&'s OneSeries] {
        self.by_metric.get(metric).map_or(&[], Vec::as_slice)
    }
}

/// One step of a table: what can be said of the interval, and of its end.
pub struct Step<'k> {
    known: &'k Known<'k>,
    window: Window,
    subject: Option<(&'static str, &'k str)>,
    ends: Ends,
}

/// What a gauge says of a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// Its last value, as a person who looked then would have seen it.
    Last,
    /// The mean of its values.
    Mean,
}

impl<'k> Step<'k> {
    fn is_of_it(&self, series: &OneSeries) -> bool {
        self.subject.is_none_or(|(label, value)| series.label(label) == Some(value))
    }

    fn of(&self, metric: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = &'k OneSeries> {
        let fits = |series: &&&OneSeries| {
            self.is_of_it(series) && labels.iter().all(|(name, value)| series.label(name) == Some(value))
        };
        self.known.series(metric).iter().filter(fits).copied()
    }

    /// What a gauge says: of all its series together, where there are several.
    pub fn gauge(&self, metric: &str) -> Option<f64> {
        self.gauge_with(metric, &[])
    }

    /// The same of those with these labels.
    pub fn gauge_with(&self, metric: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.of(metric, labels).filter_map(|series| self.level(series)).reduce(|a, b| a + b)
    }

    fn level(&self, series: &OneSeries) -> Option<f64> {
        let set = self.known.set;
        match self.ends {
            Ends::Mean => stats(set.within(&series.values, self.window)).map(|stats| stats.mean),
            // What was read at the very end belongs to the step after this one.
            Ends::Last => {
                let at_most = match fresh(series) {
                    // A tick may be late; one that is missing is not what was read before it.
                    FRESH => self.window.duration().max(Duration::from_nanos(series.every_nanos) * 5 / 2).min(FRESH),
                    longer => longer,
                };
                last_before(set, &series.values, self.window.until(), at_most).map(|value| value.value)
            }
        }
    }

    /// By how much a counter grew in the step: all its series together.
    pub fn growth(&self, metric: &str) -> Option<Growth> {
        self.growth_with(metric, &[])
    }

    /// The same of those with these labels.
    pub fn growth_with(&self, metric: &str, labels: &[(&str, &str)]) -> Option<Growth> {
        let all = self.of(metric, labels).filter_map(|series| self.known.set.grown_within(series, self.window));
        all.reduce(|a, b| Growth { by: a.by + b.by, seconds: a.seconds.max(b.seconds) })
    }

    /// How fast a counter grew, per second.
    pub fn rate(&self, metric: &str) -> Option<f64> {
        self.growth(metric).map(|growth| growth.by / growth.seconds)
    }

    /// By how much one counter grew for each of another: seconds for each read. `None` where the other did not grow.
    pub fn each(&self, metric: &str, other: &str) -> Option<f64> {
        let (by, of) = (self.growth(metric)?.by, self.growth(other)?.by);
        (of > 0.0).then(|| by / of)
    }

    /// The part of all CPU time that was spent in these modes.
    pub fn cpu(&self, modes: &[&str]) -> Option<f64> {
        let grown = |mode: &&str| self.growth_with(CPU, &[("mode", mode)]);
        let whole: f64 = CPU_MODES.iter().filter_map(grown).map(|growth| growth.by).sum();
        let part = modes.iter().filter_map(grown).map(|growth| growth.by).reduce(|a, b| a + b)?;
        (whole > 0.0).then(|| part / whole)
    }
}

/// Time of each CPU by mode; user and nice include guests.
pub(crate) const CPU: &str = "node_cpu_seconds_total";
const CPU_MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];

/// The last value before an instant, when it is not older than `at_most`.
pub(crate) fn last_before(set: &SeriesSet, values: &[Value], at: WallTime, at_most: Duration) -> Option<Value> {
    set.value_at(values, at.offset(-1), at_most)
}

/// How long a value is good: a series that is read seldom is not missing in between.
pub(crate) fn fresh(series: &OneSeries) -> Duration {
    match series.metric.name.as_str() {
        // Sockets are counted by state each minute.
        "node_tcp_connection_states" => BEFORE,
        _ if series.every_nanos > 5_000_000_000 => FRESH_SLOW,
        _ => FRESH,
    }
}

/// A length of a step that makes some twenty of a window, as a person would choose it.
pub fn every(window: Window) -> Duration {
    const CHOICES: [u64; 15] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 21_600];
    let seconds = window.duration().as_secs().div_ceil(20);
    Duration::from_secs(CHOICES.into_iter().find(|choice| *choice >= seconds).unwrap_or(86_400))
}

/// The steps of a window: they end at whole multiples of their length, so that rows read well, and with the window.
pub fn steps(window: Window, every: Duration) -> Result<Vec<Window>, NoTable> {
    let every = i128::try_from(every.as_nanos()).unwrap_or(i128::MAX).max(1);
    let (from, until) = (i128::from(window.from().nanos()), i128::from(window.until().nanos()));
    let count = (until - from) / every + 2;
    if count > MAX_STEPS as i128 {
        return Err(NoTable::TooMany(count));
    }
    let mut out = Vec::new();
    let mut begin = from;
    while begin < until {
        let end = ((begin.div_euclid(every) + 1) * every).min(until);
        let time = |nanos: i128| i64::try_from(nanos).map(WallTime::from_nanos).ok();
        let Some(step) = time(begin).zip(time(end)).and_then(|(from, until)| Window::new(from, until).ok()) else {
            break;
        };
        out.push(step);
        begin = end;
    }
    Ok(out)
}

/// A table: a row for each step, of each subject where there are several.
pub fn table(set: &SeriesSet, kind: &Kind, steps: &[Window]) -> Table {
    let known = Known::of(set);
    let recorded = |column: &&Column| column.needs.iter().all(|metric| !known.series(metric).is_empty());
    let (columns, left_out): (Vec<&Column>, Vec<&Column>) = kind.columns.iter().partition(recorded);
    let subjects = subjects(&known, kind);
    let rows = |window: &Window, ends: Ends| -> Vec<Row> {
        let row = |subject: Option<&String>| {
            let of = kind.subject.zip(subject).map(|((label, _), value)| (label, value.as_str()));
            let step = Step { known: &known, window: *window, subject: of, ends };
            let values = columns.iter().map(|column| (column.key, (column.of)(&step))).collect();
            Row { from: window.from(), until: window.until(), subject: of.map(|(l, v)| (l, v.to_owned())), values }
        };
        match kind.subject {
            None => vec![row(None)],
            Some(_) => subjects.iter().map(|subject| row(Some(subject))).collect(),
        }
    };
    let whole = match steps {
        [first, .., last] => Window::new(first.from(), last.until()).ok(),
        _ => None,
    };
    Table {
        heading: kind.subject.map(|(_, heading)| heading),
        average: whole.map(|whole| rows(&whole, Ends::Mean)).unwrap_or_default(),
        rows: steps.iter().flat_map(|step| rows(step, Ends::Last)).collect(),
        left_out: left_out.iter().map(|column| column.heading).collect(),
        columns,
        begins: set.ticks.first().map(|tick| tick.at),
    }
}

/// Everything that the columns say something of, in order: numbers in names by their value.
fn subjects(known: &Known<'_>, kind: &Kind) -> Vec<String> {
    let Some((label, _)) = kind.subject else { return Vec::new() };
    let needed = kind.columns.iter().flat_map(|column| column.needs);
    let named = needed.flat_map(|metric| known.series(metric)).filter_map(|series| series.label(label));
    named.collect::<BTreeSet<_>>().into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
pub(crate) mod made {
    //! Sets made by tests.

    use std::sync::Arc;

    use casefile_proto::ids::BootId;
    use casefile_proto::sample::{MetricDef, MetricKind};
    use casefile_proto::time::WallTime;
    use casefile_proto::units::{Scale, Unit};

    use crate::seriesset::{OneSeries, SeriesSet, Tick, Value};

    /// A second of the day at which the tests play.
    pub(crate) fn second(n: i64) -> WallTime {
        "2026-11-23T03:00:00Z".parse::<WallTime>().unwrap().offset(n * 1_000_000_000)
    }

    /// A set with a tick each second.
    pub(crate) fn set(seconds: u32) -> SeriesSet {
        let ticks = (0..seconds).map(|n| Tick { at: second(i64::from(n)), boot: 0 }).collect();
        SeriesSet { boots: vec![BootId::from_bytes([1; 16])], ticks, ..SeriesSet::default() }
    }

    /// Adds a series: name, kind, labels, and its value at each tick where it was read.
    pub(crate) fn add(
        set: &mut SeriesSet,
        name: &str,
        kind: MetricKind,
        labels: &[(&str, &str)],
        value: impl Fn(u32) -> Option<f64>,
    ) {
        let unit = match name {
            _ if name.ends_with("bytes") || name.ends_with("bytes_total") => Unit::Bytes,
            _ if name.ends_with("seconds_total") => Unit::Seconds,
            _ => Unit::Count,
        };
        let metric = MetricDef {
            name: name.to_owned(),
            help: String::new(),
            kind,
            unit,
            scale: Scale::ONE,
            labels: labels.iter().map(|(name, _)| (*name).to_owned()).collect(),
        };
        let ticks = u32::try_from(set.ticks.len()).unwrap();
        let values = (0..ticks).filter_map(|tick| Some(Value { tick, value: value(tick)? })).collect();
        set.series.push(OneSeries {
            source: "test".into(),
            every_nanos: 1_000_000_000,
            metric: Arc::new(metric),
            labels: labels.iter().map(|(_, value)| (*value).into()).collect(),
            values,
        });
    }

    /// A counter that grows by so much a second, read at every tick.
    pub(crate) fn counter(set: &mut SeriesSet, name: &str, labels: &[(&str, &str)], per_second: f64) {
        add(set, name, MetricKind::Counter, labels, |n| Some(f64::from(n) * per_second));
    }

    /// A gauge that stays.
    pub(crate) fn gauge(set: &mut SeriesSet, name: &str, labels: &[(&str, &str)], value: f64) {
        add(set, name, MetricKind::Gauge, labels, |_| Some(value));
    }
}

#[cfg(test)]
mod tests {
    use super::made::{add, counter, gauge, second, set};
    use super::*;
    use casefile_proto::sample::MetricKind;

    fn window(from: i64, until: i64) -> Window {
        Window::new(second(from), second(until)).unwrap()
    }

    #[test]
    fn steps_end_at_whole_multiples_and_with_the_window() {
        let ends: Vec<_> = steps(window(3, 25), Duration::from_secs(10)).unwrap();
        assert_eq!(ends, [window(3, 10), window(10, 20), window(20, 25)]);
        assert!(matches!(steps(window(0, 30_000), Duration::from_secs(1)), Err(NoTable::TooMany(_))));
        assert_eq!(every(window(0, 1_800)), Duration::from_secs(120));
        assert_eq!(every(window(0, 10)), Duration::from_secs(1));
    }

    const KIND: Kind = Kind {
        subject: Some(("device", "Device")),
        columns: &[
            Column {
                heading: "n/s",
                key: "n",
                group: "",
                per: 1.0,
                decimals: 1,
                needs: &["n_total"],
                of: |s| s.rate("n_total"),
            },
            Column { heading: "g", key: "g", group: "", per: 1.0, decimals: 0, needs: &["g"], of: |s| s.gauge("g") },
            Column {
                heading: "each",
                key: "each",
                group: "",
                per: 1.0,
                decimals: 0,
                needs: &["n_total"],
                of: |s| s.each("n_total", "n_total"),
            },
            Column { heading: "x", key: "x", group: "", per: 1.0, decimals: 0, needs: &["never"], of: |_| Some(0.0) },
        ],
    };

    #[test]
    fn a_column_without_its_series_is_left_out_and_a_value_that_was_not_read_is_none() {
        let mut set = set(60);
        counter(&mut set, "n_total", &[("device", "a")], 2.0);
        gauge(&mut set, "g", &[("device", "a")], 7.0);
        // Of b nothing is read after the first seconds.
        add(&mut set, "n_total", MetricKind::Counter, &[("device", "b")], |n| (n < 5).then_some(3.0));
        let table = table(&set, &KIND, &steps(window(0, 60), Duration::from_secs(30)).unwrap());
        assert_eq!(table.left_out, ["x"]);
        let told: Vec<_> = table
            .rows
            .iter()
            .map(|row| (row.subject.as_ref().unwrap().1.as_str(), row.values.iter().map(|v| v.1).collect::<Vec<_>>()))
            .collect();
        assert_eq!(
            told,
            [
                ("a", vec![Some(2.0), Some(7.0), Some(1.0)]),
                ("b", vec![Some(0.0), None, None]),
                ("a", vec![Some(2.0), Some(7.0), Some(1.0)]),
                ("b", vec![None, None, None]),
            ],
            "what did not grow has no average, and what was not read is no zero"
        );
        assert_eq!(table.average.len(), 2);
        assert!(table.is_whole());
        // From the second step on nothing is read: that is one line, and what was asked for is not all there.
        set.series.iter_mut().for_each(|series| series.values.retain(|value| value.tick < 20));
        let gap = super::table(&set, &KIND, &steps(window(0, 60), Duration::from_secs(10)).unwrap());
        assert!(!gap.is_whole());
        let text = gap.text(table::Layout::Lines);
        assert!(text.contains("03:01:00Z  nothing was read since 03:00:20Z"), "{text}");
    }
}
