//! OpenMetrics 1.0 text: every sample with its time, under the names that node_exporter and DCGM have, so that
//! `promtool tsdb create-blocks-from openmetrics` makes a Prometheus of a case file and every dashboard works on it.
//!
//! All samples of a family stand together, whatever node they are of: each node is read once, what it has of each metric goes
//! into a file without a name, and in the end the pieces are put in order. Labels `instance` and `incident` are ours.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};

use casefile_proto::sample::{MetricDef, MetricKind};
use casefile_proto::units::Unit;

use crate::casefile::{CaseFile, CaseFileError};
use crate::display::safe;
use crate::seriesset::{OneSeries, SeriesSet};

use super::{Ask, ExportError, Form, Shape, Target};

/// The name of the file.
const FILE: &str = "metrics.openmetrics";

/// The form.
pub(super) static FORM: Form = Form {
    name: "openmetrics",
    about: "every sample with its time, for Prometheus: names of node_exporter and DCGM",
    then: "promtool tsdb create-blocks-from openmetrics PATH data && prometheus --storage.tsdb.path=data",
    shape: Shape::File(FILE),
    write,
};

fn write(casefile: &mut CaseFile, ask: &Ask, target: &mut Target) -> Result<(), ExportError> {
    let incident = casefile.incident.id.map(|id| id.to_string());
    let mut gathered = Gathered::new().map_err(CaseFileError::Sort)?;
    for node in ask.nodes_of(casefile) {
        let set = SeriesSet::load(casefile, &node, &|_, metric| ask.wants_metric(&metric.name))?;
        let mut of = vec![("instance", safe(node.as_str()))];
        of.extend(incident.iter().map(|id| ("incident", id.clone())));
        gathered.take(&set, ask, &of).map_err(CaseFileError::Sort)?;
        target.done.damaged.extend(set.damaged);
        if set.left_out > 0 {
            target.left_out(format!("{} values of {}: more than fit into memory", set.left_out, safe(node.as_str())));
        }
    }
    if gathered.twice > 0 {
        target.left_out(format!(
            "{} samples of which the same series has another in the same millisecond",
            gathered.twice
        ));
    }
    let mut out = target.create(FILE)?;
    let samples = gathered.put_in_order(&mut out).map_err(ExportError::write(FILE))?;
    target.finish(FILE, out, samples)
}

/// What is known of a metric while nodes are read.
struct Metric {
    /// `None`: nodes do not agree.
    kind: Option<MetricKind>,
    unit: Unit,
    help: String,
    /// Where its samples lie: offset and length.
    pieces: Vec<(u64, u64)>,
}

struct Gathered {
    spool: BufWriter<File>,
    at: u64,
    /// By name.
    metrics: BTreeMap<String, Metric>,
    samples: u64,
    twice: u64,
}

impl Gathered {
    fn new() -> io::Result<Self> {
        let spool = BufWriter::with_capacity(256 << 10, tempfile::tempfile()?);
        Ok(Self { spool, at: 0, metrics: BTreeMap::new(), samples: 0, twice: 0 })
    }

    fn take(&mut self, set: &SeriesSet, ask: &Ask, of: &[(&str, String)]) -> io::Result<()> {
        let mut series: Vec<_> = set.series.iter().map(|one| (name(&one.metric.name), labels(one, of), one)).collect();
        series.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        let mut known = HashSet::new();
        for (name, labels, one) in series {
            let values = ask.range.map_or(one.values.as_slice(), |range| set.within(&one.values, range));
            if values.is_empty() {
                continue;
            }
            // Two sources with one series: the first has it, for a series has one value at a time.
            if !known.insert(format!("{name}{labels}")) {
                self.twice += values.len() as u64;
                continue;
            }
            let mut last = None;
            let begin = self.at;
            for value in values {
                let millis = set.at(*value).nanos().div_euclid(1_000_000);
                if last.is_some_and(|last| last >= millis) {
                    self.twice += 1;
                    continue;
                }
                last = Some(millis);
                let line = format!("{name}{labels} {} {}\n", number(value.value), seconds(millis));
                self.spool.write_all(line.as_bytes())?;
                self.at += line.len() as u64;
                self.samples += 1;
            }
            self.note(name, &one.metric, begin);
        }
        Ok(())
    }

    /// What was written since `begin` is of this metric.
    fn note(&mut self, name: String, def: &MetricDef, begin: u64) {
        let len = self.at - begin;
        let metric = self.metrics.entry(name).or_insert_with(|| Metric {
            kind: Some(def.kind),
            unit: def.unit,
            help: def.help.clone(),
            pieces: Vec::new(),
        });
        if metric.kind != Some(def.kind) {
            metric.kind = None;
        }
        match metric.pieces.last_mut().filter(|(at, length)| at + length == begin) {
            Some((_, length)) => *length += len,
            None => metric.pieces.push((begin, len)),
        }
    }

    /// The text, family by family; says how many samples it has.
    fn put_in_order(mut self, out: &mut dyn Write) -> io::Result<u64> {
        self.spool.flush()?;
        let mut spool = self.spool.into_inner().map_err(io::IntoInnerError::into_error)?;
        for (name, metric) in &self.metrics {
            let (family, kind) = family(name, metric.kind, &self.metrics);
            writeln!(out, "# TYPE {family} {kind}")?;
            if let Some(unit) = unit(family, metric.unit) {
                writeln!(out, "# UNIT {family} {unit}")?;
            }
            writeln!(out, "# HELP {family} {}", escaped(&safe(&metric.help)))?;
            for (at, len) in &metric.pieces {
                spool.seek(SeekFrom::Start(*at))?;
                io::copy(&mut Read::take(&spool, *len), out)?;
            }
        }
        writeln!(out, "# EOF")?;
        Ok(self.samples)
    }
}

/// The family of a metric, and its type. A counter has samples with `_total`, as node_exporter's have; the counters of the
/// kernel that node_exporter passes on under other names (`node_vmstat_oom_kill`) are of no known type there and here, because
/// another name would be found by no dashboard.
fn family<'n>(name: &'n str, kind: Option<MetricKind>, all: &BTreeMap<String, Metric>) -> (&'n str, &'static str) {
    let (suffix, word) = match kind {
        Some(MetricKind::Counter) => ("_total", "counter"),
        Some(MetricKind::Info) => ("_info", "info"),
        Some(MetricKind::Gauge) => return (name, "gauge"),
        None => return (name, "unknown"),
    };
    let other = if kind == Some(MetricKind::Info) { "gauge" } else { "unknown" };
    // A family has one name: where another metric is called that, this one keeps its own.
    match name.strip_suffix(suffix).filter(|base| !base.is_empty() && !all.contains_key(*base)) {
        Some(base) if kind == Some(MetricKind::Info) && all.contains_key(&format!("{base}_total")) => (name, other),
        Some(base) => (base, word),
        None => (name, other),
    }
}

/// The unit, where the name ends in it as the specification demands.
fn unit(family: &str, unit: Unit) -> Option<&'static str> {
    let word = unit.word();
    family.strip_suffix(word)?.ends_with('_').then_some(word)
}

/// A name of a metric as the text form allows it.
fn name(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let name: String = name.chars().map(|c| if allowed(c) { c } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == ':') { name } else { format!("_{name}") }
}

/// The labels of a series in braces: `of` first, then its own. One of its own that has a name of ours becomes `exported_…`, as
/// Prometheus does it.
fn labels(series: &OneSeries, of: &[(&str, String)]) -> String {
    let mut taken: HashSet<String> = HashSet::new();
    let mut pairs: Vec<(String, String)> = Vec::new();
    for (name, value) in of {
        taken.insert((*name).to_owned());
        pairs.push(((*name).to_owned(), value.clone()));
    }
    let mut own: Vec<_> = series.named().collect();
    own.sort_unstable();
    for (label, value) in own {
        let mut label = name(label).replace(':', "_");
        // Two underscores are Prometheus's own.
        if label.starts_with("__") {
            label.insert_str(0, "label");
        }
        while !taken.insert(label.clone()) {
            label.insert_str(0, "exported_");
        }
        pairs.push((label, safe(value)));
    }
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

/// A text within quotes, or of a help.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn number(value: f64) -> String {
    match value {
        value if value.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        value => value.to_string(),
    }
}

fn seconds(millis: i64) -> String {
    let sign = if millis < 0 { "-" } else { "" };
    let millis = millis.unsigned_abs();
    format!("{sign}{}.{:03}", millis / 1000, millis % 1000)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use casefile_proto::time::WallTime;
    use casefile_proto::units::Scale;

    use super::*;
    use crate::seriesset::{Tick, Value};

    fn series(name: &str, kind: MetricKind, unit: Unit, label: Option<(&str, &str)>, values: &[f64]) -> OneSeries {
        let labels: Vec<String> = label.iter().map(|(name, _)| (*name).to_owned()).collect();
        let metric =
            MetricDef { name: name.to_owned(), help: format!("of \"{name}\""), kind, unit, scale: Scale::ONE, labels };
        OneSeries {
            source: "s".into(),
            every_nanos: 1_000_000_000,
            metric: Arc::new(metric),
            labels: label.iter().map(|(_, value)| Box::from(*value)).collect(),
            values: values.iter().zip(0..).map(|(value, tick)| Value { tick, value: *value }).collect(),
        }
    }

    fn text(series: Vec<OneSeries>) -> String {
        let at = |nanos| Tick { at: WallTime::from_nanos(nanos), boot: 0 };
        let ticks = vec![at(1_795_403_502_000_000_000), at(1_795_403_503_250_999_999), at(1_795_403_503_251_000_001)];
        let set = SeriesSet { ticks, series, ..SeriesSet::default() };
        let mut gathered = Gathered::new().unwrap();
        for node in ["n1", "n2"] {
            let of = [("instance", node.to_owned()), ("incident", "INC-1".to_owned())];
            gathered.take(&set, &Ask::default(), &of).unwrap();
        }
        let mut out = Vec::new();
        gathered.put_in_order(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_family_stands_together_and_a_counter_has_total_on_its_samples_only() {
        let text = text(vec![
            series("node_cpu_seconds_total", MetricKind::Counter, Unit::Seconds, Some(("cpu", "0")), &[1.0, 2.5]),
            series("node_vmstat_oom_kill", MetricKind::Counter, Unit::Count, None, &[3.0]),
            series("gpu_info", MetricKind::Info, Unit::Count, Some(("instance", "a\"\\\n\u{202e}")), &[1.0]),
            series("node_temp_celsius", MetricKind::Gauge, Unit::Celsius, None, &[f64::NAN, -1.0, f64::INFINITY]),
        ]);
        let expected = r##"# TYPE gpu info
# HELP gpu of \"gpu_info\"
gpu_info{instance="n1",incident="INC-1",exported_instance="a\"\\\\u{a}\\u{202e}"} 1 1795403502.000
gpu_info{instance="n2",incident="INC-1",exported_instance="a\"\\\\u{a}\\u{202e}"} 1 1795403502.000
# TYPE node_cpu_seconds counter
# UNIT node_cpu_seconds seconds
# HELP node_cpu_seconds of \"node_cpu_seconds_total\"
node_cpu_seconds_total{instance="n1",incident="INC-1",cpu="0"} 1 1795403502.000
node_cpu_seconds_total{instance="n1",incident="INC-1",cpu="0"} 2.5 1795403503.250
node_cpu_seconds_total{instance="n2",incident="INC-1",cpu="0"} 1 1795403502.000
node_cpu_seconds_total{instance="n2",incident="INC-1",cpu="0"} 2.5 1795403503.250
# TYPE node_temp_celsius gauge
# UNIT node_temp_celsius celsius
# HELP node_temp_celsius of \"node_temp_celsius\"
node_temp_celsius{instance="n1",incident="INC-1"} NaN 1795403502.000
node_temp_celsius{instance="n1",incident="INC-1"} -1 1795403503.250
node_temp_celsius{instance="n1",incident="INC-1"} +Inf 1795403503.251
node_temp_celsius{instance="n2",incident="INC-1"} NaN 1795403502.000
node_temp_celsius{instance="n2",incident="INC-1"} -1 1795403503.250
node_temp_celsius{instance="n2",incident="INC-1"} +Inf 1795403503.251
# TYPE node_vmstat_oom_kill unknown
# HELP node_vmstat_oom_kill of \"node_vmstat_oom_kill\"
node_vmstat_oom_kill{instance="n1",incident="INC-1"} 3 1795403502.000
node_vmstat_oom_kill{instance="n2",incident="INC-1"} 3 1795403502.000
# EOF
"##;
        assert_eq!(text, expected);
    }

    #[test]
    fn two_metrics_never_become_one_family() {
        let text = text(vec![
            series("a_total", MetricKind::Counter, Unit::Count, None, &[1.0]),
            series("a", MetricKind::Gauge, Unit::Count, None, &[1.0]),
            series("a", MetricKind::Gauge, Unit::Count, None, &[7.0]),
            series("9 b", MetricKind::Gauge, Unit::Count, Some(("__x:y", "")), &[1.0]),
        ]);
        let heads: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        assert_eq!(heads, ["# TYPE _9_b gauge", "# TYPE a gauge", "# TYPE a_total unknown"]);
        assert!(text.contains("_9_b{instance=\"n1\",incident=\"INC-1\",label__x_y=\"\"} 1 "), "{text}");
        assert!(!text.contains(" 7 "), "a series has one value at a time: {text}");
    }

    #[test]
    fn of_two_samples_in_one_millisecond_the_first_counts() {
        let mut gathered = Gathered::new().unwrap();
        let ticks = [0, 400_000, 1_000_000].map(|n| Tick { at: WallTime::from_nanos(n), boot: 0 }).into();
        let one = series("m", MetricKind::Gauge, Unit::Count, None, &[1.0, 2.0, 3.0]);
        let set = SeriesSet { ticks, series: vec![one], ..SeriesSet::default() };
        gathered.take(&set, &Ask::default(), &[]).unwrap();
        assert_eq!((gathered.samples, gathered.twice), (2, 1));
        assert_eq!((seconds(-1), seconds(1_500)), ("-0.001".to_owned(), "1.500".to_owned()));
    }
}
