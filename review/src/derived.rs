//! Quantities that no kernel gives as one number: how busy the CPUs are, how much of memory is used, how long a disk lets wait.
//!
//! Derived out of the series of one node at each tick at which all of their parts were read, and at no other. How to add one: an
//! entry in [`ALL`] with the metrics that it needs.

use std::collections::BTreeMap;

use casefile_proto::units::Unit;

use crate::seriesset::{OneSeries, SeriesSet, Value};

/// A derived quantity.
pub struct Derived {
    /// Its name, where a metric could be named.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// The unit of its values.
    pub unit: Unit,
    /// The metrics that it is made of.
    pub needs: &'static [&'static str],
    derive: fn(&SeriesSet) -> Vec<Strand>,
}

/// One line of a chart: values with the labels that tell it from others of its name.
#[derive(Debug, Clone, PartialEq)]
pub struct Strand {
    /// The labels. Text from the node: escape before showing.
    pub labels: BTreeMap<String, String>,
    /// The values in the order of time; of a counter how fast it grew, per second.
    pub values: Vec<Value>,
}

/// Every derived quantity.
pub const ALL: &[Derived] = &[
    Derived {
        name: "cpu_busy_ratio",
        about: "part of the CPUs' time that is neither idle nor waits for I/O",
        unit: Unit::Ratio,
        needs: &["node_cpu_seconds_total"],
        derive: cpu_busy,
    },
    Derived {
        name: "memory_used_ratio",
        about: "part of memory that is not available to programs",
        unit: Unit::Ratio,
        needs: &["node_memory_MemAvailable_bytes", "node_memory_MemTotal_bytes"],
        derive: memory_used,
    },
    Derived {
        name: "filesystem_used_ratio",
        about: "part of a file system that is not available",
        unit: Unit::Ratio,
        needs: &["node_filesystem_avail_bytes", "node_filesystem_size_bytes"],
        derive: filesystem_used,
    },
    Derived {
        name: "disk_busy_ratio",
        about: "part of the time in which a disk had at least one request in flight",
        unit: Unit::Ratio,
        needs: &["node_disk_io_time_seconds_total"],
        derive: disk_busy,
    },
    Derived {
        name: "disk_wait_seconds",
        about: "how long a request to a disk took",
        unit: Unit::Seconds,
        needs: &[
            "node_disk_read_time_seconds_total",
            "node_disk_write_time_seconds_total",
            "node_disk_reads_completed_total",
            "node_disk_writes_completed_total",
        ],
        derive: disk_wait,
    },
    Derived {
        name: "disk_bytes_per_second",
        about: "bytes read from and written to a disk, a second",
        unit: Unit::BytesPerSecond,
        needs: &["node_disk_read_bytes_total", "node_disk_written_bytes_total"],
        derive: |set| added(set, &["node_disk_read_bytes_total", "node_disk_written_bytes_total"]),
    },
    Derived {
        name: "network_bytes_per_second",
        about: "bytes received and transmitted by an interface, a second",
        unit: Unit::BytesPerSecond,
        needs: &["node_network_receive_bytes_total", "node_network_transmit_bytes_total"],
        derive: |set| added(set, &["node_network_receive_bytes_total", "node_network_transmit_bytes_total"]),
    },
    Derived {
        name: "network_drops_per_second",
        about: "packets dropped or in error at an interface, a second",
        unit: Unit::Count,
        needs: NET_ERRORS,
        derive: |set| added(set, NET_ERRORS),
    },
];

/// What of an interface counts as an error.
pub const NET_ERRORS: &[&str] = &[
    "node_network_receive_errs_total",
    "node_network_transmit_errs_total",
    "node_network_receive_drop_total",
    "node_network_transmit_drop_total",
];

/// The derived quantity of this name.
pub fn named(name: &str) -> Option<&'static Derived> {
    ALL.iter().find(|derived| derived.name == name)
}

/// Whether `metric` is needed for one of `names`, which are metrics or derived quantities.
pub fn needed(names: &[&str], metric: &str) -> bool {
    names.iter().any(|name| named(name).map_or(*name == metric, |derived| derived.needs.contains(&metric)))
}

/// The strands of a metric or of a derived quantity.
pub fn strands(set: &SeriesSet, name: &str) -> Vec<Strand> {
    match named(name) {
        Some(derived) => (derived.derive)(set),
        None => moving(set, name),
    }
}

/// The unit of what [`strands`] gives; `None` where there is no such series. Of a counter the unit is that of what it counts.
pub fn unit(set: &SeriesSet, name: &str) -> Option<Unit> {
    named(name).map(|derived| derived.unit).or_else(|| set.of(name).next().map(|series| series.metric.unit))
}

fn labels(series: &OneSeries) -> BTreeMap<String, String> {
    series.named().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn moving(set: &SeriesSet, metric: &str) -> Vec<Strand> {
    set.of(metric).map(|series| Strand { labels: labels(series), values: set.moves(series) }).collect()
}

/// At each tick the sum of what was read, and of how many series.
fn sums<'s>(set: &SeriesSet, series: impl Iterator<Item = &'s OneSeries>) -> BTreeMap<u32, (f64, usize)> {
    let mut sums = BTreeMap::new();
    for one in series {
        for value in set.moves(one) {
            let (sum, count) = sums.entry(value.tick).or_insert((0.0, 0));
            *sum += value.value;
            *count += 1;
        }
    }
    sums
}

fn cpu_busy(set: &SeriesSet) -> Vec<Strand> {
    // Of each CPU the ticks at which all its modes were read: idle may step back a little, and has no rate then. Time in
    // guests is counted among that of `user` already.
    let mut of: BTreeMap<&str, Vec<&OneSeries>> = BTreeMap::new();
    for series in set.of("node_cpu_seconds_total") {
        of.entry(series.label("cpu").unwrap_or_default()).or_default().push(series);
    }
    let mut total: BTreeMap<u32, (f64, f64)> = BTreeMap::new();
    for modes in of.values() {
        let idle = modes.iter().copied().filter(|s| matches!(s.label("mode"), Some("idle" | "iowait")));
        let idle = sums(set, idle);
        for (tick, (all, count)) in sums(set, modes.iter().copied()) {
            if let Some((idle, _)) = idle.get(&tick).filter(|_| count == modes.len()) {
                let (idle_sum, all_sum) = total.entry(tick).or_insert((0.0, 0.0));
                *idle_sum += idle;
                *all_sum += all;
            }
        }
    }
    let busy = |(tick, (idle, all)): (u32, (f64, f64))| {
        (all > 0.0).then(|| Value { tick, value: (1.0 - idle / all).clamp(0.0, 1.0) })
    };
    one_strand(total.into_iter().filter_map(busy).collect())
}

fn memory_used(set: &SeriesSet) -> Vec<Strand> {
    let of = |metric| set.of(metric).next();
    let (Some(available), Some(total)) = (of("node_memory_MemAvailable_bytes"), of("node_memory_MemTotal_bytes"))
    else {
        return Vec::new();
    };
    one_strand(joined(&available.values, &total.values, used))
}

fn filesystem_used(set: &SeriesSet) -> Vec<Strand> {
    let strand = |available: &OneSeries| {
        let size = set.of("node_filesystem_size_bytes").find(|size| size.labels == available.labels)?;
        Some(Strand { labels: labels(available), values: joined(&available.values, &size.values, used) })
    };
    set.of("node_filesystem_avail_bytes").filter_map(strand).collect()
}

fn used(available: f64, total: f64) -> Option<f64> {
    (total > 0.0).then(|| (1.0 - available / total).clamp(0.0, 1.0))
}

fn disk_busy(set: &SeriesSet) -> Vec<Strand> {
    let mut all = moving(set, "node_disk_io_time_seconds_total");
    // The kernel counts in ticks of its own: a second may hold a little more than a second of them.
    for value in all.iter_mut().flat_map(|strand| &mut strand.values) {
        value.value = value.value.min(1.0);
    }
    all
}

fn disk_wait(set: &SeriesSet) -> Vec<Strand> {
    let strand = |times: Strand, counts: &[Strand]| {
        let count = counts.iter().find(|count| count.labels == times.labels)?;
        // Where nothing was asked of the disk, nothing waited: that is no wait of zero.
        let values = joined(&times.values, &count.values, |time, count| (count > 0.0).then(|| time / count));
        Some(Strand { labels: times.labels, values })
    };
    let counts = added(set, &["node_disk_reads_completed_total", "node_disk_writes_completed_total"]);
    let times = added(set, &["node_disk_read_time_seconds_total", "node_disk_write_time_seconds_total"]);
    times.into_iter().filter_map(|times| strand(times, &counts)).collect()
}

/// The sum of several metrics for each set of labels, at ticks at which all that the labels have was read.
fn added(set: &SeriesSet, metrics: &[&str]) -> Vec<Strand> {
    let mut of: BTreeMap<BTreeMap<String, String>, Vec<&OneSeries>> = BTreeMap::new();
    for metric in metrics {
        for series in set.of(metric) {
            of.entry(labels(series)).or_default().push(series);
        }
    }
    let strand = |(labels, series): (_, Vec<&OneSeries>)| {
        let parts = series.len();
        let sums = sums(set, series.into_iter());
        let whole = sums.into_iter().filter(|(_, (_, count))| *count == parts);
        Strand { labels, values: whole.map(|(tick, (value, _))| Value { tick, value }).collect() }
    };
    of.into_iter().map(strand).collect()
}

/// Two series at the ticks at which both were read.
fn joined(a: &[Value], b: &[Value], derive: impl Fn(f64, f64) -> Option<f64>) -> Vec<Value> {
    let mut b = b.iter().peekable();
    let mut out = Vec::with_capacity(a.len());
    for a in a {
        while b.next_if(|b| b.tick < a.tick).is_some() {}
        if let Some(b) = b.peek().filter(|b| b.tick == a.tick)
            && let Some(value) = derive(a.value, b.value)
        {
            out.push(Value { tick: a.tick, value });
        }
    }
    out
}

fn one_strand(values: Vec<Value>) -> Vec<Strand> {
    if values.is_empty() { Vec::new() } else { vec![Strand { labels: BTreeMap::new(), values }] }
}

#[cfg(test)]
mod tests {
    use casefile_proto::sample::MetricKind;
    use casefile_proto::time::WallTime;

    use super::*;
    use crate::seriesset::Tick;

    fn series(name: &str, kind: MetricKind, labels: &[(&str, &str)], values: &[(u32, f64)]) -> OneSeries {
        let values = values.iter().map(|(tick, value)| Value { tick: *tick, value: *value }).collect();
        OneSeries::made(name, (kind, Unit::Seconds), labels, values)
    }

    fn set(series: Vec<OneSeries>) -> SeriesSet {
        let ticks = (0..5).map(|s| Tick { at: WallTime::from_secs(s), boot: 0 }).collect();
        SeriesSet { ticks, series, ..SeriesSet::default() }
    }

    fn values(strand: &Strand) -> Vec<(u32, f64)> {
        strand.values.iter().map(|v| (v.tick, v.value)).collect()
    }

    #[test]
    fn how_busy_the_cpus_are_is_what_was_neither_idle_nor_waiting() {
        let cpu = |mode, values: &[(u32, f64)]| {
            series("node_cpu_seconds_total", MetricKind::Counter, &[("cpu", "0"), ("mode", mode)], values)
        };
        let set = set(vec![
            cpu("user", &[(0, 0.0), (1, 0.5), (2, 0.5)]),
            cpu("idle", &[(0, 0.0), (1, 0.25), (2, 1.25)]),
            cpu("iowait", &[(0, 0.0), (1, 0.25), (2, 0.25)]),
        ]);
        assert_eq!(values(&strands(&set, "cpu_busy_ratio")[0]), [(1, 0.5), (2, 0.0)]);
    }

    #[test]
    fn what_is_derived_has_no_value_where_a_part_of_it_was_not_read() {
        let gauge = |name, values: &[(u32, f64)]| series(name, MetricKind::Gauge, &[], values);
        let memory = set(vec![
            gauge("node_memory_MemAvailable_bytes", &[(0, 25.0), (2, 50.0), (3, 10.0)]),
            gauge("node_memory_MemTotal_bytes", &[(0, 100.0), (1, 100.0), (3, 100.0)]),
        ]);
        assert_eq!(values(&strands(&memory, "memory_used_ratio")[0]), [(0, 0.75), (3, 0.9)]);
        assert!(strands(&set(vec![]), "memory_used_ratio").is_empty());
    }

    #[test]
    fn a_disk_of_which_nothing_was_asked_lets_nobody_wait() {
        let disk = |name, values: &[(u32, f64)]| series(name, MetricKind::Counter, &[("device", "sda")], values);
        let set = set(vec![
            disk("node_disk_read_time_seconds_total", &[(0, 0.0), (1, 0.5), (2, 0.5)]),
            disk("node_disk_write_time_seconds_total", &[(0, 0.0), (1, 0.5), (2, 0.5)]),
            disk("node_disk_reads_completed_total", &[(0, 0.0), (1, 3.0), (2, 3.0)]),
            disk("node_disk_writes_completed_total", &[(0, 0.0), (1, 1.0), (2, 1.0)]),
        ]);
        assert_eq!(values(&strands(&set, "disk_wait_seconds")[0]), [(1, 0.25)]);
        assert!(needed(&["disk_wait_seconds", "x"], "node_disk_read_time_seconds_total") && needed(&["x"], "x"));
        assert!(!needed(&["disk_wait_seconds"], "disk_wait_seconds"));
    }
}
