//! Series as columns of pixels: of each the smallest and the largest value of every part of the window, and nothing where nothing was read.

use std::collections::BTreeMap;

use casefile_proto::ids::NodeName;
use casefile_proto::sample::MetricKind;
use casefile_proto::time::{WallTime, Window};
use serde::Serialize;

use super::query::{Query, Refused};
use crate::casefile::CaseFile;
use crate::derived::{self, Strand};
use crate::seriesset::SeriesSet;

/// The most columns of one answer: more than a screen has pixels.
const MAX_COLUMNS: usize = 4_000;
/// How many columns there are when nobody says.
const COLUMNS: usize = 600;
/// The most metrics of one answer.
const MAX_METRICS: usize = 64;
/// The most strands of one metric in one answer; those with the largest values.
const MAX_STRANDS: usize = 64;
/// The most nodes of a heat map.
const MAX_NODES: usize = 1_000;
/// The most metrics in a list of them.
const MAX_LIST: usize = 5_000;

/// One strand as columns.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Columns {
    /// The node.
    pub node: NodeName,
    /// The metric, or derived quantity.
    pub metric: String,
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// The unit; of a counter that of what it counts, a second.
    pub unit: &'static str,
    /// `counter` (a rate stands here), `gauge`, `info` or `derived`.
    pub kind: &'static str,
    /// The smallest value of each column.
    pub min: Vec<Option<f64>>,
    /// The largest value of each column; absent where it is the smallest in all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<Vec<Option<f64>>>,
}

/// The series of one answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answered {
    from: WallTime,
    until: WallTime,
    cols: usize,
    series: Vec<Columns>,
    /// Strands of these metrics that are not here, because there were too many.
    left_out: usize,
}

/// `series?node=&metric=a,b&from=&until=&cols=`.
pub(super) fn series(case: &mut CaseFile, query: &Query) -> Result<Answered, Refused> {
    let node = query.node("node")?.ok_or_else(|| Refused::Question("`node` is missing".to_owned()))?;
    let metrics = query.metrics(MAX_METRICS)?;
    let window = query.window(case.incident.window)?;
    let cols = query.number("cols", COLUMNS, MAX_COLUMNS)?.max(1);
    known(case, &node)?;
    let set = SeriesSet::load(case, &node, &|_, metric| derived::needed(&metrics, &metric.name))?;
    let (mut series, mut left_out) = (Vec::new(), 0);
    for metric in metrics {
        let all = derived::strands(&set, metric);
        let (kept, without) = largest(all, MAX_STRANDS);
        left_out += without;
        series.extend(kept.into_iter().map(|strand| columns(&set, &node, metric, strand, window, cols)));
    }
    Ok(Answered { from: window.from(), until: window.until(), cols, series, left_out })
}

fn known(case: &CaseFile, node: &NodeName) -> Result<(), Refused> {
    match case.node(node) {
        Some(_) => Ok(()),
        None => Err(Refused::Nothing(format!("the case file knows of no node {node}"))),
    }
}

/// Those with the largest values, in their old order, and how many are left out.
pub(crate) fn largest(mut all: Vec<Strand>, most: usize) -> (Vec<Strand>, usize) {
    all.retain(|strand| !strand.values.is_empty());
    let without = all.len().saturating_sub(most);
    if without > 0 {
        let top = |s: &Strand| s.values.iter().map(|v| v.value).fold(f64::NEG_INFINITY, f64::max);
        let mut order: Vec<(usize, f64)> = all.iter().map(top).enumerate().collect();
        order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let keep: std::collections::BTreeSet<usize> = order.into_iter().take(most).map(|(n, _)| n).collect();
        let mut n = 0;
        all.retain(|_| {
            n += 1;
            keep.contains(&(n - 1))
        });
    }
    (all, without)
}

/// One strand as columns.
pub(crate) fn columns(
    set: &SeriesSet,
    node: &NodeName,
    metric: &str,
    strand: Strand,
    window: Window,
    cols: usize,
) -> Columns {
    let both = set.columns(&strand.values, window, cols);
    let min: Vec<_> = both.iter().map(|c| c.map(|(min, _)| short(min))).collect();
    let max: Vec<_> = both.iter().map(|c| c.map(|(_, max)| short(max))).collect();
    let kind = set.of(metric).next().map(|series| series.metric.kind);
    Columns {
        node: node.clone(),
        metric: metric.to_owned(),
        labels: strand.labels,
        unit: derived::unit(set, metric).map_or("count", casefile_proto::units::Unit::word),
        kind: kind.map_or("derived", word),
        max: (max != min).then_some(max),
        min,
    }
}

const fn word(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Info => "info",
    }
}

/// Six digits are more than a screen shows, and fewer bytes.
pub(crate) fn short(value: f64) -> f64 {
    if !value.is_normal() || value.abs() < 1e-290 {
        return value;
    }
    let digits = 5 - value.abs().log10().floor() as i32;
    if digits > 0 {
        // Of what is smaller the scale would not be finite.
        let scale = 10_f64.powi(digits.min(300));
        (value * scale).round() / scale
    } else {
        value.round()
    }
}

/// `metrics?node=`: what can be asked of a node.
pub(super) fn metrics(case: &mut CaseFile, query: &Query) -> Result<serde_json::Value, Refused> {
    let node = query.node("node")?.ok_or_else(|| Refused::Question("`node` is missing".to_owned()))?;
    known(case, &node)?;
    let set = SeriesSet::load(case, &node, &|_, metric| metric.kind != MetricKind::Info)?;
    #[derive(Serialize)]
    struct One<'a> {
        metric: &'a str,
        source: &'a str,
        kind: &'static str,
        unit: &'static str,
        labels: &'a [String],
        help: &'a str,
        series: usize,
    }
    let mut all: BTreeMap<&str, One<'_>> = BTreeMap::new();
    for series in set.series.iter().filter(|series| !series.values.is_empty()) {
        let metric = &*series.metric;
        let one = One {
            metric: &metric.name,
            source: &series.source,
            kind: word(metric.kind),
            unit: metric.unit.word(),
            labels: &metric.labels,
            help: &metric.help,
            series: 0,
        };
        all.entry(&metric.name).or_insert(one).series += 1;
    }
    for derived in derived::ALL {
        if derived.needs.iter().any(|metric| all.contains_key(metric)) {
            let one = One {
                metric: derived.name,
                source: "derived",
                kind: "derived",
                unit: derived.unit.word(),
                labels: &[],
                help: derived.about,
                series: derived::strands(&set, derived.name).len(),
            };
            all.insert(derived.name, one);
        }
    }
    let left_out = all.len().saturating_sub(MAX_LIST);
    let list: Vec<_> = all.into_values().take(MAX_LIST).collect();
    Ok(serde_json::json!({ "node": node, "metrics": list, "left_out": left_out }))
}

/// `heat?metric=&from=&until=&cols=`: of each node the largest value of all strands of a metric in each column.
pub(super) fn heat(case: &mut CaseFile, query: &Query) -> Result<serde_json::Value, Refused> {
    let metrics = query.metrics(1)?;
    let window = query.window(case.incident.window)?;
    let cols = query.number("cols", COLUMNS, MAX_COLUMNS)?.max(1);
    let nodes: Vec<_> = case.coverage.nodes.iter().map(|row| row.node.clone()).collect();
    let left_out = nodes.len().saturating_sub(MAX_NODES);
    let (mut rows, mut unit) = (Vec::new(), None);
    for node in nodes.into_iter().take(MAX_NODES) {
        let set = SeriesSet::load(case, &node, &|_, metric| derived::needed(&metrics, &metric.name))?;
        let metric = metrics.first().copied().unwrap_or_default();
        unit = unit.or_else(|| derived::unit(&set, metric));
        let values = hottest(&set, metric, window, cols);
        rows.push(serde_json::json!({ "node": node, "values": values }));
    }
    let unit = unit.map_or("count", casefile_proto::units::Unit::word);
    Ok(serde_json::json!({
        "metric": metrics.first(), "unit": unit, "from": window.from(), "until": window.until(), "cols": cols,
        "nodes": rows, "left_out": left_out,
    }))
}

/// In each column the largest value of all strands of a metric.
pub(crate) fn hottest(set: &SeriesSet, metric: &str, window: Window, cols: usize) -> Vec<Option<f64>> {
    let mut out: Vec<Option<f64>> = vec![None; cols];
    for strand in derived::strands(set, metric) {
        for (place, column) in out.iter_mut().zip(set.columns(&strand.values, window, cols)) {
            if let Some((_, max)) = column {
                *place = Some(place.map_or(max, |v| v.max(max)));
            }
        }
    }
    out.into_iter().map(|v| v.map(short)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seriesset::Value;

    #[test]
    fn a_value_keeps_six_digits() {
        for (value, shown) in [
            (0.0, 0.0),
            (0.123_456_789, 0.123_457),
            (123_456_789.0, 123_456_789.0),
            (-1.5, -1.5),
            (1.234_567_8, 1.234_57),
        ] {
            assert_eq!(short(value), shown);
        }
        assert!(short(f64::NAN).is_nan() && short(1e-308) > 0.0);
    }

    #[test]
    fn of_too_many_strands_the_largest_are_kept_in_their_order() {
        let strand = |n: u32, value: f64| Strand {
            labels: BTreeMap::from([("n".to_owned(), n.to_string())]),
            values: vec![Value { tick: 0, value }],
        };
        let (kept, without) = largest(vec![strand(0, 3.0), strand(1, 1.0), strand(2, 9.0)], 2);
        let names: Vec<_> = kept.iter().map(|s| s.labels["n"].as_str()).collect();
        assert_eq!((names, without), (vec!["0", "2"], 1));
    }
}
