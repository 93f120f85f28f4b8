//! One machine against another, or against itself before: which series differ, by how much more than they vary, and what the
//! machines are that they are not both.
//!
//! Rates of counters and values of gauges are compared, over a window each. What is missing on one side is `None`: never a
//! zero. Which series belong together is in `keys`, what is not a number in `changes`.

pub mod changes;
pub mod keys;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use casefile_proto::ids::NodeName;
use casefile_proto::sample::{MetricDef, MetricKind, SourceDef};
use casefile_proto::time::{WallTime, Window};
use casefile_proto::units::Unit;
use serde::Serialize;

use crate::casefile::{CaseFile, CaseFileError};
use crate::gpu::pods::Pods;
use crate::past::{BEFORE, FRESH};
use crate::seriesset::{OneSeries, SeriesSet, Stats, Value, stats};
use changes::{Change, Facts, Machines};
use keys::{Key, Names};

/// Means that differ by less than this part of the larger are alike.
pub const RELEVANT: f64 = 0.1;

/// A difference counts from so many times the spread on (Cohen's "large").
pub const MIN_EFFECT: f64 = 0.8;

/// The spread is taken to be at least this part of the mean: what never varies would differ without bound otherwise.
pub const FLOOR: f64 = 0.05;

/// The effect of a counter that grew on one side alone, however seldom: an error that the other side does not have at all.
const ONE_SIDED: f64 = 1.0;

/// That it grew by at least this is no accident.
const ONE_SIDED_GROWTH: f64 = 2.0;

/// Fewer values than this say nothing of how much a series varies.
const MIN_POINTS: usize = 3;

/// Some series are read every ten seconds, some every thirty: in a shorter window none can be called missing.
const MIN_WINDOW: Duration = Duration::from_secs(40);

/// Series that belong together are added up in parts of so long.
const PART: Duration = Duration::from_secs(5);

/// A process at rest is read every ten seconds: a part that looks back a little longer has a reading of each.
const LOOK_BACK: Duration = Duration::from_secs(12);

/// Rows of one comparison; the rest are counted.
pub const MAX_ROWS: usize = 2_000;

/// How many times as long as a window is what lies before it and is compared with it.
pub const BASELINE: u32 = 4;

/// What is said of a series on one side.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Said {
    /// The mean of its rates or values.
    pub mean: f64,
    /// What 95 of 100 do not exceed.
    pub p95: f64,
    /// The largest.
    pub max: f64,
    /// How many.
    pub count: usize,
}

/// A series that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Its metric.
    pub metric: String,
    /// The labels by which it was matched. Texts of the node: escape before showing.
    pub labels: BTreeMap<String, String>,
    /// The unit: of a counter with `/second` behind it.
    pub unit: String,
    /// The side that is looked at; `None`: there is no such series.
    pub a: Option<Said>,
    /// The side that it is compared with.
    pub b: Option<Said>,
    /// The difference of the means over the spread: positive where `a` has more. `None` where one side is missing.
    pub effect: Option<f64>,
}

/// What differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// What is looked at: a node.
    pub a: String,
    /// What it is compared with.
    pub b: String,
    /// The window of `a`.
    #[serde(flatten)]
    pub window: Window,
    /// The window of `b`, where it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub b_window: Option<Window>,
    /// The series that differ, the most telling first; those that one side does not have behind them.
    pub rows: Vec<Row>,
    /// What the machines are that they are not both.
    pub changes: Vec<Change>,
    /// Series that both have and that are alike.
    pub alike: usize,
    /// Series that were read too seldom in one of the windows to be compared.
    pub too_few: usize,
    /// Rows that were too many.
    pub more: usize,
    /// Pods that could not be matched, because the case file knows only their uids.
    pub unnamed_pods: usize,
}

/// One side.
pub struct Side<'s> {
    /// What it is called.
    pub name: String,
    /// What was recorded.
    pub set: &'s SeriesSet,
    /// The part of it that is compared.
    pub window: Window,
    /// The names of its pods.
    pub pods: &'s Pods,
    /// What the machine is.
    pub facts: Facts,
}

/// Whether a series is compared, or says what a machine is.
pub fn wants(source: &SourceDef, metric: &MetricDef) -> bool {
    metric.kind == MetricKind::Info && changes::wants(metric) || keys::wants(source, metric)
}

/// Two nodes of a case file over the same part of its window.
///
/// # Errors
/// When the case file cannot be read; what is damaged in it is in the sets.
pub fn of_nodes(
    casefile: &mut CaseFile,
    (a, b): (&NodeName, &NodeName),
    window: Window,
) -> Result<(Comparison, Vec<(String, String)>), CaseFileError> {
    let (of_a, of_b) = (load(casefile, a, window)?, load(casefile, b, window)?);
    let (facts_a, facts_b) = changes::both(
        [
            (Facts::of_documents(casefile, a, Machines::Two), &of_a.0),
            (Facts::of_documents(casefile, b, Machines::Two), &of_b.0),
        ],
        [window, window],
        Machines::Two,
    );
    let a = Side { name: a.to_string(), set: &of_a.0, window, pods: &of_a.1, facts: facts_a };
    let b = Side { name: b.to_string(), set: &of_b.0, window, pods: &of_b.1, facts: facts_b };
    let done = compare(&a, &b, Machines::Two);
    Ok((done, damaged([&of_a.0, &of_b.0])))
}

/// A node over a part of the window against what lies right before it.
///
/// # Errors
/// As [`of_nodes`].
pub fn of_times(
    casefile: &mut CaseFile,
    node: &NodeName,
    since: Window,
    before: Window,
) -> Result<(Comparison, Vec<(String, String)>), CaseFileError> {
    let whole = Window::new(before.from().min(since.from()), since.until().max(before.until())).unwrap_or(since);
    let (set, pods) = load(casefile, node, whole)?;
    let facts = |window| Facts::of_series(&set, window, Machines::Same);
    let a = Side { name: node.to_string(), set: &set, window: since, pods: &pods, facts: facts(since) };
    let b = Side { name: node.to_string(), set: &set, window: before, pods: &pods, facts: facts(before) };
    let done = compare(&a, &b, Machines::Same);
    Ok((done, damaged([&set, &SeriesSet::default()])))
}

/// A node against the same node in another case file.
///
/// # Errors
/// As [`of_nodes`].
pub fn of_files(
    (casefile, window): (&mut CaseFile, Window),
    (other, other_window): (&mut CaseFile, Window),
    node: &NodeName,
) -> Result<(Comparison, Vec<(String, String)>), CaseFileError> {
    let (of_a, of_b) = (load(casefile, node, window)?, load(other, node, other_window)?);
    let documents = |casefile: &mut CaseFile| Facts::of_documents(casefile, node, Machines::Same);
    let (facts_a, facts_b) = changes::both(
        [(documents(casefile), &of_a.0), (documents(other), &of_b.0)],
        [window, other_window],
        Machines::Same,
    );
    let a = Side { name: node.to_string(), set: &of_a.0, window, pods: &of_a.1, facts: facts_a };
    let b = Side { name: node.to_string(), set: &of_b.0, window: other_window, pods: &of_b.1, facts: facts_b };
    let done = compare(&a, &b, Machines::Same);
    Ok((done, damaged([&of_a.0, &of_b.0])))
}

fn load(casefile: &mut CaseFile, node: &NodeName, window: Window) -> Result<(SeriesSet, Pods), CaseFileError> {
    let read = Window::new(window.from().before(BEFORE), window.until()).unwrap_or(window);
    let set = SeriesSet::load_within(casefile, node, Some(read), &wants)?;
    Ok((set, Pods::known(casefile, node)))
}

fn damaged(sets: [&SeriesSet; 2]) -> Vec<(String, String)> {
    sets.iter().flat_map(|set| set.damaged.iter().cloned()).collect()
}

/// What differs between two sides.
pub fn compare(a: &Side<'_>, b: &Side<'_>, machines: Machines) -> Comparison {
    let (of_a, unnamed_a) = groups(a, machines);
    let (of_b, unnamed_b) = groups(b, machines);
    let sources = |of: &HashMap<Key, Vec<&OneSeries>>| -> BTreeSet<String> {
        of.values().flatten().filter(|s| !s.values.is_empty()).map(|s| s.source.to_string()).collect()
    };
    let (sources_a, sources_b) = (sources(&of_a), sources(&of_b));
    let mut changes: Vec<Change> = sources_a
        .symmetric_difference(&sources_b)
        .map(|source| {
            let on = |has: &BTreeSet<String>| has.contains(source).then(|| "recorded".to_owned());
            Change { what: format!("source {source}"), a: on(&sources_a), b: on(&sources_b) }
        })
        .collect();
    changes.extend(changes::between(&a.facts, &b.facts));
    let keys: BTreeSet<&Key> = of_a.keys().chain(of_b.keys()).collect();
    let (mut rows, mut alike, mut too_few) = (Vec::new(), 0, 0);
    for key in keys {
        let (in_a, in_b) = (of_a.get(key).map_or(&[][..], Vec::as_slice), of_b.get(key).map_or(&[][..], Vec::as_slice));
        let Some(first) = in_a.first().or(in_b.first()) else { continue };
        // That a source is not recorded on one side is said once, and not with every series.
        if !(sources_a.contains(&*first.source) && sources_b.contains(&*first.source)) {
            continue;
        }
        let (points_a, points_b) = (points(a, key, in_a), points(b, key, in_b));
        match differs(first, (&points_a, a.window), (&points_b, b.window)) {
            Differs::Yes(effect) => rows.push(row(key, first, &points_a, &points_b, effect)),
            Differs::No => alike += usize::from(!points_a.is_empty() && !points_b.is_empty()),
            Differs::Unknown => too_few += 1,
        }
    }
    let size = |row: &Row| row.effect.map_or(-1.0, f64::abs);
    rows.sort_by(|x, y| size(y).total_cmp(&size(x)).then_with(|| (&x.metric, &x.labels).cmp(&(&y.metric, &y.labels))));
    let more = rows.len().saturating_sub(MAX_ROWS);
    rows.truncate(MAX_ROWS);
    Comparison {
        a: a.name.clone(),
        b: b.name.clone(),
        window: a.window,
        b_window: (b.window != a.window).then_some(b.window),
        rows,
        changes,
        alike,
        too_few,
        more,
        unnamed_pods: unnamed_a + unnamed_b,
    }
}

/// The series of a side that are compared, by what they are matched by, and how many pods have no name.
fn groups<'s>(side: &Side<'s>, machines: Machines) -> (HashMap<Key, Vec<&'s OneSeries>>, usize) {
    let names = Names::of(side.set, side.pods, &side.name, machines);
    let mut all: HashMap<Key, Vec<&OneSeries>> = HashMap::new();
    for series in &side.set.series {
        if let Some(key) = names.key(series) {
            all.entry(key).or_default().push(series);
        }
    }
    (all, names.unnamed())
}

/// The rates of a counter, or the values of a gauge, in the window; of several series, what they are together.
fn points(side: &Side<'_>, key: &Key, series: &[&OneSeries]) -> Vec<Value> {
    match series {
        [] => Vec::new(),
        // Of a machine that has one CPU, one is all.
        [one] if !key.together => side.set.within(&side.set.moves(one), side.window).to_vec(),
        many => parts(side, many),
    }
}

fn parts(side: &Side<'_>, series: &[&OneSeries]) -> Vec<Value> {
    let mut out = Vec::new();
    let mut end = side.window.from().after(PART).min(side.window.until());
    loop {
        let part = Window::new(end.before(LOOK_BACK).max(side.window.from()), end);
        let of_part = |one: &&&OneSeries| -> Option<f64> {
            let window = part.as_ref().ok()?;
            if one.metric.kind == MetricKind::Counter {
                return side.set.grown_within(one, *window).map(|growth| growth.by / growth.seconds);
            }
            side.set.value_at(side.set.within(&one.values, side.window), end.offset(-1), FRESH).map(|value| value.value)
        };
        let values: Vec<f64> = series.iter().filter_map(|one| of_part(&one)).collect();
        if !values.is_empty() {
            let tick = u32::try_from(out.len()).unwrap_or(u32::MAX);
            out.push(Value { tick, value: values.iter().sum() });
        }
        if end >= side.window.until() {
            return out;
        }
        end = end.after(PART).min(side.window.until());
    }
}

enum Differs {
    No,
    /// Too little was read to say.
    Unknown,
    /// With the effect; `None` where one side has no such series.
    Yes(Option<f64>),
}

fn differs(of: &OneSeries, (a, window_a): (&[Value], Window), (b, window_b): (&[Value], Window)) -> Differs {
    let short = |points: &[Value], window: Window| points.is_empty() && window.duration() < MIN_WINDOW;
    let (sa, sb) = match (stats(a), stats(b)) {
        (None, None) => return Differs::No,
        _ if short(a, window_a) || short(b, window_b) => return Differs::Unknown,
        // What one side does not have, and the other has without doing anything, is no difference that anybody feels.
        (Some(one), None) | (None, Some(one)) => {
            let matters = one.max.abs().max(one.min.abs()) >= least(of).max(f64::MIN_POSITIVE);
            return if matters { Differs::Yes(None) } else { Differs::No };
        }
        (Some(sa), Some(sb)) if sa.count.min(sb.count) < MIN_POINTS => {
            return if sa.mean == sb.mean { Differs::No } else { Differs::Unknown };
        }
        (Some(sa), Some(sb)) => (sa, sb),
    };
    if of.metric.unit == Unit::Code {
        return codes(a, b, sa.mean - sb.mean);
    }
    let (difference, larger) = (sa.mean - sb.mean, sa.mean.abs().max(sb.mean.abs()));
    if difference.abs() < RELEVANT * larger || difference.abs() < least(of) || larger == 0.0 {
        return Differs::No;
    }
    let spread = pooled(a, &sa, b, &sb).max(FLOOR * larger);
    let mut effect = difference / spread;
    let is_one_sided = |still: &Stats, moved: &Stats, every: f64| {
        still.max == 0.0 && still.min == 0.0 && moved.mean * moved.count as f64 * every >= ONE_SIDED_GROWTH
    };
    let every = of.every_nanos as f64 / 1e9;
    if of.metric.kind == MetricKind::Counter && (is_one_sided(&sb, &sa, every) || is_one_sided(&sa, &sb, every)) {
        effect = effect.abs().max(ONE_SIDED) * difference.signum();
    }
    if effect.abs() < MIN_EFFECT { Differs::No } else { Differs::Yes(Some(effect)) }
}

/// A code is no amount: what counts is how much of the time it was another one.
fn codes(a: &[Value], b: &[Value], direction: f64) -> Differs {
    let shares = |values: &[Value]| {
        let mut all: HashMap<u64, usize> = HashMap::new();
        for value in values {
            *all.entry(value.value.to_bits()).or_default() += 1;
        }
        all.into_iter().map(|(code, count)| (code, count as f64 / values.len() as f64)).collect::<HashMap<_, _>>()
    };
    let (a, b) = (shares(a), shares(b));
    let all: BTreeSet<&u64> = a.keys().chain(b.keys()).collect();
    let share = |of: &HashMap<u64, f64>, code: &u64| of.get(code).copied().unwrap_or(0.0);
    let apart = all.into_iter().map(|code| (share(&a, code) - share(&b, code)).abs()).sum::<f64>() / 2.0;
    if apart < 0.5 { Differs::No } else { Differs::Yes(Some(apart / FLOOR * direction.signum())) }
}

fn pooled(a: &[Value], sa: &Stats, b: &[Value], sb: &Stats) -> f64 {
    let squares = |values: &[Value], mean: f64| values.iter().map(|v| (v.value - mean).powi(2)).sum::<f64>();
    let degrees = (a.len() + b.len()).saturating_sub(2).max(1);
    ((squares(a, sa.mean) + squares(b, sb.mean)) / degrees as f64).sqrt()
}

/// A difference below this is none that matters: a hundredth of a CPU, some MiB, some KiB a second.
fn least(of: &OneSeries) -> f64 {
    match (of.metric.unit, of.metric.kind) {
        (Unit::Seconds, MetricKind::Counter) => 0.01,
        (Unit::Bytes, MetricKind::Counter) => 16_384.0,
        (Unit::Bytes, _) => 4_194_304.0,
        _ => 0.0,
    }
}

fn row(key: &Key, of: &OneSeries, a: &[Value], b: &[Value], effect: Option<f64>) -> Row {
    let said = |values: &[Value]| stats(values).map(|s| Said { mean: s.mean, p95: s.p95, max: s.max, count: s.count });
    let unit = match of.metric.kind {
        MetricKind::Counter => format!("{}/second", of.metric.unit.word()),
        MetricKind::Gauge | MetricKind::Info => of.metric.unit.word().to_owned(),
    };
    Row {
        metric: key.metric.clone(),
        labels: key.labels.iter().cloned().collect(),
        unit,
        a: said(a),
        b: said(b),
        effect,
    }
}

/// What lies right before a window, up to [`BASELINE`] times as long, as far as there is anything: `None` where nothing is.
pub fn before(window: Window, first: WallTime) -> Option<Window> {
    let longest = window.duration().saturating_mul(BASELINE);
    Window::new(window.from().before(longest).max(first), window.from()).ok()
}

#[cfg(test)]
mod tests;
