//! A node at a glance: of each resource how much of it was used, how much waited for it, and what went wrong (utilisation,
//! saturation, errors), with the worst of the window and when that was.
//!
//! What was not read has no cell. The levels colour a cell and conclude nothing: conclusions are findings.

use std::collections::BTreeMap;

use casefile_proto::time::WallTime;
use serde::Serialize;

use crate::derived::{self, NET_ERRORS, Strand};
use crate::gpu::words;
use crate::seriesset::{SeriesSet, stats};

/// Used more than this: look at it.
const HIGH: f64 = 0.80;
/// Used more than this: little is left.
const FULL: f64 = 0.95;
/// Tasks waited for more than this part of a second.
const WAITED: f64 = 0.10;
/// Tasks waited for more than half of the time.
const STALLED: f64 = 0.50;
/// A request to a disk took longer than this, in seconds.
const SLOW: f64 = 0.05;
/// A request to a disk took longer than this, in seconds.
const VERY_SLOW: f64 = 0.5;
/// The most rows of one kind of resource: more file systems or interfaces are the mounts and ends of containers.
const MAX_ROWS: usize = 24;

/// How a cell is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Nothing to see.
    Quiet,
    /// Worth a look.
    High,
    /// Worth a look first.
    Worst,
}

/// One cell.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cell {
    /// The worst value of the window, in `unit`.
    pub worst: f64,
    /// The mean over the window.
    pub mean: Option<f64>,
    /// The unit of both.
    pub unit: &'static str,
    /// When it was worst, on the collector's clock; `None`: it was never otherwise.
    pub at: Option<WallTime>,
    /// What else is to be said, in words. May hold text from the node: escape before showing.
    pub words: Option<String>,
    /// How it is coloured.
    pub level: Level,
    /// The metric, or derived quantity, behind it.
    pub metric: &'static str,
    /// Its labels. Text from the node: escape before showing.
    pub labels: BTreeMap<String, String>,
}

/// One resource.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What kind: `cpu`, `memory`, `disk`, `filesystem`, `network`, `gpu`.
    pub kind: &'static str,
    /// Which one; empty where there is one only. Text from the node: escape before showing.
    pub name: String,
    /// How much of it was used.
    pub utilisation: Option<Cell>,
    /// How much waited for it.
    pub saturation: Option<Cell>,
    /// What went wrong.
    pub errors: Option<Cell>,
    /// What was left.
    pub headroom: Option<Cell>,
}

/// The metrics, and derived quantities, that [`matrix`] looks at.
pub const WANTED: &[&str] = &[
    "cpu_busy_ratio",
    "node_pressure_cpu_waiting_seconds_total",
    "memory_used_ratio",
    "node_pressure_memory_waiting_seconds_total",
    "node_vmstat_oom_kill",
    "node_memory_MemAvailable_bytes",
    "disk_busy_ratio",
    "disk_wait_seconds",
    "casefile_disk_readonly",
    "node_pressure_io_waiting_seconds_total",
    "filesystem_used_ratio",
    "node_filesystem_readonly",
    "node_filesystem_avail_bytes",
    "network_bytes_per_second",
    "network_drops_per_second",
    "node_network_speed_bytes",
    "DCGM_FI_DEV_GPU_UTIL",
    "DCGM_FI_DEV_CLOCKS_EVENT_REASONS",
    "casefile_gpu_state",
    "DCGM_FI_DEV_FB_FREE",
    "node_edac_uncorrectable_errors_total",
];

/// The matrix of one node. A resource of which nothing was read has no row.
pub fn matrix(set: &SeriesSet) -> Vec<Row> {
    let view = View { set };
    let mut rows = vec![view.cpu(), view.memory()];
    rows.extend(view.disks());
    rows.extend(view.filesystems());
    rows.extend(view.interfaces());
    rows.extend(view.gpus());
    rows.retain(|r| [&r.utilisation, &r.saturation, &r.errors, &r.headroom].into_iter().any(Option::is_some));
    rows
}

struct View<'s> {
    set: &'s SeriesSet,
}

impl View<'_> {
    fn cpu(&self) -> Row {
        Row {
            kind: "cpu",
            name: String::new(),
            utilisation: self.one("cpu_busy_ratio", "ratio", by(HIGH, FULL)),
            saturation: self.one("node_pressure_cpu_waiting_seconds_total", "ratio", by(WAITED, STALLED)),
            errors: None,
            headroom: None,
        }
    }

    fn memory(&self) -> Row {
        let kills = self.grown("node_vmstat_oom_kill", &BTreeMap::new(), "OOM kills");
        let uncorrectable =
            self.grown("node_edac_uncorrectable_errors_total", &BTreeMap::new(), "uncorrectable errors");
        let worse = |a: &Cell, b: &Cell| a.worst.total_cmp(&b.worst);
        Row {
            kind: "memory",
            name: String::new(),
            utilisation: self.one("memory_used_ratio", "ratio", by(HIGH, FULL)),
            saturation: self.one("node_pressure_memory_waiting_seconds_total", "ratio", by(WAITED, STALLED)),
            errors: [kills, uncorrectable].into_iter().flatten().max_by(worse),
            headroom: self.least("node_memory_MemAvailable_bytes", &BTreeMap::new(), "bytes"),
        }
    }

    fn disks(&self) -> Vec<Row> {
        let all = self.strands("disk_busy_ratio");
        // A loop device or a RAM disk that nothing used is no news.
        let used = all.into_iter().filter(|s| !is_virtual(s) || s.values.iter().any(|v| v.value > 0.0));
        let row = |strand: Strand| {
            let device = strand.labels.get("device").cloned().unwrap_or_default();
            let labels = strand.labels.clone();
            let readonly = self.worst_of("casefile_disk_readonly", &labels, "code", |v| level(v, 1.0, f64::INFINITY));
            let errors = readonly.map(|cell| Cell {
                words: (cell.worst > 0.0).then(|| "the kernel refuses to write to it".to_owned()),
                ..cell
            });
            Row {
                kind: "disk",
                name: device,
                utilisation: self.cell("disk_busy_ratio", "ratio", strand, by(HIGH, FULL)),
                saturation: self.worst_of("disk_wait_seconds", &labels, "seconds", by(SLOW, VERY_SLOW)),
                errors,
                headroom: None,
            }
        };
        used.take(MAX_ROWS).map(row).collect()
    }

    fn filesystems(&self) -> Vec<Row> {
        let row = |strand: Strand| {
            let labels = strand.labels.clone();
            let words = |v: f64| (v > 0.0).then(|| "read-only".to_owned());
            let readonly = self.worst_of("node_filesystem_readonly", &labels, "code", |_| Level::Quiet);
            // What was read-only all the time is mounted so; what became it has a reason.
            let became = |cell: &Cell| cell.worst > 0.0 && cell.mean.is_some_and(|mean| mean < 1.0);
            Row {
                kind: "filesystem",
                name: labels.get("mountpoint").cloned().unwrap_or_default(),
                utilisation: self.cell("filesystem_used_ratio", "ratio", strand, by(HIGH, FULL)),
                saturation: None,
                errors: readonly.map(|cell| Cell {
                    words: words(cell.worst),
                    level: if became(&cell) { Level::Worst } else { Level::Quiet },
                    ..cell
                }),
                headroom: self.least("node_filesystem_avail_bytes", &labels, "bytes"),
            }
        };
        // One file system may be mounted a hundred times; each device counts once.
        let mut seen = std::collections::BTreeSet::new();
        let mut all = self.strands("filesystem_used_ratio");
        all.sort_by(|a, b| length(a).cmp(&length(b)).then_with(|| a.labels.cmp(&b.labels)));
        all.retain(|s| s.labels.get("device").is_none_or(|d| !d.starts_with('/') || seen.insert(d.clone())));
        all.into_iter().take(MAX_ROWS).map(row).collect()
    }

    fn interfaces(&self) -> Vec<Row> {
        let mut all = self.strands("network_bytes_per_second");
        all.retain(|s| s.labels.get("device").is_some_and(|d| d != "lo" && !d.starts_with("veth")));
        all.retain(|s| s.values.iter().any(|v| v.value > 0.0));
        let row = |strand: Strand| {
            let labels = strand.labels.clone();
            let speed = self.strand("node_network_speed_bytes", &labels).and_then(|s| s.values.last().map(|v| v.value));
            let lost: f64 =
                NET_ERRORS.iter().filter_map(|metric| self.grown(metric, &labels, "").map(|cell| cell.worst)).sum();
            let drops = self.worst_of("network_drops_per_second", &labels, "count", |_| Level::Quiet);
            let colour = move |v: f64| speed.filter(|s| *s > 0.0).map_or(Level::Quiet, |s| level(v / s, HIGH, FULL));
            let of = |cell: Cell| Cell {
                words: speed.filter(|s| *s > 0.0).map(|s| format!("{:.1} % of the link", 100.0 * cell.worst / s)),
                ..cell
            };
            let name = labels.get("device").cloned().unwrap_or_default();
            Row {
                kind: "network",
                name,
                utilisation: self.cell("network_bytes_per_second", "bytes/second", strand, colour).map(of),
                saturation: None,
                errors: drops.map(|cell| Cell {
                    worst: lost,
                    mean: None,
                    level: level(lost, 1.0, 1000.0),
                    words: Some("dropped or in error".to_owned()),
                    at: cell.at.filter(|_| lost > 0.0),
                    ..cell
                }),
                headroom: None,
            }
        };
        all.into_iter().take(MAX_ROWS).map(row).collect()
    }

    fn gpus(&self) -> Vec<Row> {
        let row = |state: Strand| {
            let labels = state.labels.clone();
            let name = ["gpu", "pci_bus_id", "device", "UUID"].into_iter().find_map(|label| labels.get(label));
            let name = name.cloned().unwrap_or_default();
            let held = self.worst_of("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", &labels, "code", |_| Level::Quiet);
            let errors = self.cell("casefile_gpu_state", "code", state, |v| level(v, 2.0, 2.0)).map(|cell| Cell {
                words: Some(words::state(cell.worst as i64)),
                mean: None,
                ..cell
            });
            Row {
                kind: "gpu",
                name,
                utilisation: self.worst_of("DCGM_FI_DEV_GPU_UTIL", &labels, "percent", |_| Level::Quiet),
                saturation: held.map(|cell| {
                    // Idle (1) and the clocks that a program asked for (2) hold nothing back.
                    let bits = cell.worst as u64 & !3;
                    let level = if bits == 0 { Level::Quiet } else { Level::High };
                    Cell { words: Some(words::reasons(bits)), level, mean: None, ..cell }
                }),
                errors,
                headroom: self.least("DCGM_FI_DEV_FB_FREE", &labels, "mebibytes"),
            }
        };
        self.strands("casefile_gpu_state").into_iter().take(MAX_ROWS).map(row).collect()
    }

    fn strands(&self, metric: &str) -> Vec<Strand> {
        derived::strands(self.set, metric)
    }

    /// The strand with those of these labels that it has.
    fn strand(&self, metric: &str, labels: &BTreeMap<String, String>) -> Option<Strand> {
        let same = |s: &Strand| s.labels.iter().all(|(name, value)| labels.get(name).is_none_or(|v| v == value));
        self.strands(metric).into_iter().find(same)
    }

    fn one(&self, metric: &'static str, unit: &'static str, colour: impl Fn(f64) -> Level) -> Option<Cell> {
        self.cell(metric, unit, self.strands(metric).into_iter().next()?, colour)
    }

    fn worst_of(
        &self,
        metric: &'static str,
        labels: &BTreeMap<String, String>,
        unit: &'static str,
        colour: impl Fn(f64) -> Level,
    ) -> Option<Cell> {
        self.cell(metric, unit, self.strand(metric, labels)?, colour)
    }

    fn cell(
        &self,
        metric: &'static str,
        unit: &'static str,
        strand: Strand,
        colour: impl Fn(f64) -> Level,
    ) -> Option<Cell> {
        let stats = stats(&strand.values)?;
        let worst = strand.values.iter().max_by(|a, b| a.value.total_cmp(&b.value).then(b.tick.cmp(&a.tick)))?;
        let at = (stats.min < stats.max).then(|| self.set.at(*worst));
        let level = colour(stats.max);
        Some(Cell {
            worst: stats.max,
            mean: Some(stats.mean),
            unit,
            at,
            words: None,
            level,
            metric,
            labels: strand.labels,
        })
    }

    /// What was left when least was.
    fn least(&self, metric: &'static str, labels: &BTreeMap<String, String>, unit: &'static str) -> Option<Cell> {
        let strand = self.strand(metric, labels)?;
        let stats = stats(&strand.values)?;
        let least = strand.values.iter().min_by(|a, b| a.value.total_cmp(&b.value).then(a.tick.cmp(&b.tick)))?;
        let at = (stats.min < stats.max).then(|| self.set.at(*least));
        Some(Cell {
            worst: stats.min,
            mean: Some(stats.mean),
            unit,
            at,
            words: None,
            level: Level::Quiet,
            metric,
            labels: strand.labels,
        })
    }

    /// By how much a counter of errors grew over the window.
    fn grown(&self, metric: &'static str, labels: &BTreeMap<String, String>, words: &str) -> Option<Cell> {
        let has = |s: &crate::seriesset::OneSeries| labels.iter().all(|(n, v)| s.label(n).is_none_or(|l| l == v));
        let grown = self.set.of(metric).filter(|s| has(s)).filter_map(|s| self.set.grown(s)).reduce(|a, b| a + b)?;
        let rises = self.strand(metric, labels).unwrap_or_else(|| Strand { labels: labels.clone(), values: vec![] });
        let first = rises.values.iter().find(|v| v.value > 0.0).map(|v| self.set.at(*v));
        Some(Cell {
            worst: grown,
            mean: None,
            unit: "count",
            at: first,
            words: Some(words.to_owned()),
            level: if grown > 0.0 { Level::Worst } else { Level::Quiet },
            metric,
            labels: labels.clone(),
        })
    }
}

fn length(strand: &Strand) -> usize {
    strand.labels.get("mountpoint").map_or(0, String::len)
}

fn is_virtual(strand: &Strand) -> bool {
    strand.labels.get("device").is_some_and(|d| ["loop", "ram", "zram"].iter().any(|kind| d.starts_with(kind)))
}

fn by(high: f64, worst: f64) -> impl Fn(f64) -> Level {
    move |value| level(value, high, worst)
}

fn level(value: f64, high: f64, worst: f64) -> Level {
    if value >= worst {
        Level::Worst
    } else if value >= high {
        Level::High
    } else {
        Level::Quiet
    }
}

#[cfg(test)]
mod tests {
    use casefile_proto::sample::MetricKind;
    use casefile_proto::units::Unit;

    use super::*;
    use crate::seriesset::{OneSeries, Tick, Value};

    fn gauge(name: &str, labels: &[(&str, &str)], values: &[f64]) -> OneSeries {
        let values = (0..).zip(values).map(|(tick, value)| Value { tick, value: *value }).collect();
        OneSeries::made(name, (MetricKind::Gauge, Unit::Bytes), labels, values)
    }

    #[test]
    fn a_cell_has_the_worst_of_the_window_and_what_was_not_read_has_none() {
        let ticks = (0..3).map(|s| Tick { at: WallTime::from_secs(s), boot: 0 }).collect();
        let root = [("device", "/dev/sda"), ("fstype", "ext4"), ("mountpoint", "/")];
        let bind = [("device", "/dev/sda"), ("fstype", "ext4"), ("mountpoint", "/var/lib/kubelet/x")];
        let series = vec![
            gauge("node_memory_MemAvailable_bytes", &[], &[50.0, 4.0, 50.0]),
            gauge("node_memory_MemTotal_bytes", &[], &[100.0, 100.0, 100.0]),
            gauge("node_filesystem_avail_bytes", &bind, &[10.0, 10.0, 10.0]),
            gauge("node_filesystem_size_bytes", &bind, &[100.0, 100.0, 100.0]),
            gauge("node_filesystem_avail_bytes", &root, &[10.0, 10.0, 10.0]),
            gauge("node_filesystem_size_bytes", &root, &[100.0, 100.0, 100.0]),
            gauge("node_filesystem_readonly", &root, &[0.0, 0.0, 1.0]),
        ];
        let rows = matrix(&SeriesSet { ticks, series, ..SeriesSet::default() });
        let names: Vec<_> = rows.iter().map(|r| (r.kind, r.name.as_str())).collect();
        assert_eq!(names, [("memory", ""), ("filesystem", "/")], "a device counts once, by its shortest mount");
        let used = rows[0].utilisation.as_ref().unwrap();
        assert_eq!((used.worst, used.level, used.at), (0.96, Level::Worst, Some(WallTime::from_secs(1))));
        assert_eq!((&rows[0].saturation, &rows[0].errors), (&None, &None));
        assert_eq!(rows[0].headroom.as_ref().unwrap().worst, 4.0);
        let readonly = rows[1].errors.as_ref().unwrap();
        assert_eq!((readonly.level, readonly.words.as_deref()), (Level::Worst, Some("read-only")));
        assert!(matrix(&SeriesSet::default()).is_empty());
    }
}
