//! `top`: the machine and its processes at an instant.
//!
//! A process that does something is read each second, one at rest every ten: what is shown is what was read last, up to
//! [`FRESH`] before. A process that was busy when it was read, and then was not read any more while others were, had ended.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use casefile_proto::sample::{MetricDef, SourceDef};
use casefile_proto::time::{WallTime, Window};
use serde::Serialize;

use super::table::{NOTHING, aligned, number, short_bytes, time};
use super::{Column, FRESH, FRESH_SLOW, Kind, Known, MOMENT, last_before};
use crate::display::safe;
use crate::gpu::pods::Pods;
use crate::seriesset::{OneSeries, SeriesSet, Value};

const INFO: &str = "casefile_process_info";
const CPU: &str = "casefile_process_cpu_seconds_total";
const RESIDENT: &str = "casefile_process_resident_bytes";
const VIRTUAL: &str = "casefile_process_virtual_bytes";
const STATE: &str = "casefile_process_state";
const THREADS: &str = "casefile_process_threads";
const READ: &str = "casefile_process_storage_read_bytes_total";
const WRITTEN: &str = "casefile_process_storage_written_bytes_total";
const LISTED: &str = "casefile_processes";
/// Has a value at every tick at which processes were read.
const TICKS: &str = "casefile_processes_read";
const BLOCKED: &str = "casefile_process_blocked";
const OF_PROCESSES: [&str; 11] = [INFO, CPU, RESIDENT, VIRTUAL, STATE, THREADS, READ, WRITTEN, LISTED, TICKS, BLOCKED];

const UPTIME: &str = "casefile_boot_clock_seconds_total";

/// A process that was busy is read again at the next tick. One tick may be short of time; two are not.
const BUSY_MISSED: usize = 2;

/// One at rest is read every ten ticks.
const SWEEP_MISSED: usize = 12;

/// By what processes are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Time of the CPU.
    Cpu,
    /// Resident memory.
    Memory,
    /// Bytes from and to storage.
    Io,
}

/// The machine at an instant.
#[derive(Debug, Clone, Serialize)]
pub struct Top {
    /// When, on the collector's clock.
    pub at: WallTime,
    /// Since when the machine ran, in seconds.
    pub uptime_seconds: Option<f64>,
    /// Values of the whole machine in base units, by name; what was not read is `null`.
    #[serde(flatten)]
    pub machine: BTreeMap<&'static str, Option<f64>>,
    /// How many processes were listed last.
    pub listed: Option<f64>,
    /// How many of those below have which state.
    pub states: BTreeMap<char, usize>,
    /// The processes, those of most first.
    pub processes: Vec<Process>,
}

/// A process as it was read last. Texts are the node's: escape before showing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Process {
    /// Its number.
    pub pid: u64,
    /// When it started, in clock ticks after the boot.
    pub start: String,
    /// Its parent.
    pub ppid: Option<u64>,
    /// Its real user's number; `None` where it is not known.
    pub uid: Option<u64>,
    /// Its name.
    pub comm: String,
    /// Its cgroup; empty where it is not known.
    pub cgroup: String,
    /// The pod that it belongs to, by name where the case file knows it.
    pub pod: Option<String>,
    /// `R`, `S`, `D`, …
    pub state: Option<char>,
    /// In which function of the kernel it is blocked.
    pub wchan: Option<String>,
    /// CPUs that it kept busy between its last two readings.
    pub cpus: Option<f64>,
    /// CPU time since it started.
    pub cpu_seconds: Option<f64>,
    /// Resident memory.
    pub resident_bytes: Option<f64>,
    /// Size of its address space.
    pub virtual_bytes: Option<f64>,
    /// Threads.
    pub threads: Option<f64>,
    /// Bytes a second from storage, between its last two readings.
    pub read_bytes_per_second: Option<f64>,
    /// Bytes a second to storage.
    pub written_bytes_per_second: Option<f64>,
    /// When it was read last.
    pub read_at: WallTime,
}

/// Whether a metric is needed.
pub fn wants(source: &SourceDef, metric: &MetricDef) -> bool {
    OF_PROCESSES.contains(&metric.name.as_str()) || metric.name == UPTIME || MACHINE.wants(source, metric)
}

const fn column(key: &'static str, needs: &'static [&'static str], of: fn(&super::Step<'_>) -> Option<f64>) -> Column {
    Column { heading: "", key, group: "", per: 1.0, decimals: 0, needs, of }
}

macro_rules! gauge {
    ($key:literal, $metric:literal) => {
        column($key, &[$metric], |s| s.gauge($metric))
    };
}

macro_rules! cpu {
    ($key:literal, $mode:literal) => {
        column($key, &[super::CPU], |s| s.cpu(&[$mode]))
    };
}

/// What is said of the machine.
static MACHINE: Kind = Kind { subject: None, columns: &MACHINE_COLUMNS };
static MACHINE_COLUMNS: [Column; 20] = [
    gauge!("load1", "node_load1"),
    gauge!("load5", "node_load5"),
    gauge!("load15", "node_load15"),
    cpu!("cpu_user_ratio", "user"),
    cpu!("cpu_system_ratio", "system"),
    cpu!("cpu_nice_ratio", "nice"),
    cpu!("cpu_idle_ratio", "idle"),
    cpu!("cpu_iowait_ratio", "iowait"),
    cpu!("cpu_irq_ratio", "irq"),
    cpu!("cpu_softirq_ratio", "softirq"),
    cpu!("cpu_steal_ratio", "steal"),
    gauge!("memory_total_bytes", "node_memory_MemTotal_bytes"),
    gauge!("memory_free_bytes", "node_memory_MemFree_bytes"),
    gauge!("memory_available_bytes", "node_memory_MemAvailable_bytes"),
    gauge!("memory_buffers_bytes", "node_memory_Buffers_bytes"),
    gauge!("memory_cached_bytes", "node_memory_Cached_bytes"),
    gauge!("memory_reclaimable_bytes", "node_memory_SReclaimable_bytes"),
    gauge!("swap_total_bytes", "node_memory_SwapTotal_bytes"),
    gauge!("swap_free_bytes", "node_memory_SwapFree_bytes"),
    gauge!("swap_cached_bytes", "node_memory_SwapCached_bytes"),
];

/// The machine at this instant.
pub fn at(set: &SeriesSet, at: WallTime, by: By, pods: &Pods) -> Top {
    let known = Known::of(set);
    let machine = machine(set, at);
    let processes = processes(set, &known, at, by, pods);
    let mut states = BTreeMap::new();
    processes.iter().filter_map(|process| process.state).for_each(|state| *states.entry(state).or_default() += 1);
    let last = |metric: &str, at_most: Duration| {
        let series = known.series(metric).first()?;
        last_before(set, &series.values, at, at_most)
    };
    let uptime = last(UPTIME, FRESH_SLOW);
    Top {
        at,
        // What went by since it was read is known.
        uptime_seconds: uptime.map(|up| up.value + at.nanos_since(set.at(up)) as f64 / 1e9),
        machine,
        listed: last(LISTED, FRESH).map(|listed| listed.value),
        states,
        processes,
    }
}

fn machine(set: &SeriesSet, at: WallTime) -> BTreeMap<&'static str, Option<f64>> {
    let mut all: BTreeMap<_, _> = MACHINE_COLUMNS.iter().map(|column| (column.key, None)).collect();
    let step = Window::new(at.before(MOMENT), at);
    if let Ok(step) = step {
        let table = super::table(set, &MACHINE, &[step]);
        all.extend(table.rows.into_iter().flat_map(|row| row.values));
    }
    all
}

/// The series of one process, by the place of their metric in [`OF_PROCESSES`].
type OfProcess<'s> = Vec<(usize, &'s OneSeries)>;

fn processes(set: &SeriesSet, known: &Known<'_>, at: WallTime, by: By, pods: &Pods) -> Vec<Process> {
    let mut all: HashMap<(&str, &str), OfProcess<'_>> = HashMap::new();
    for (n, metric) in OF_PROCESSES.iter().enumerate() {
        for series in known.series(metric) {
            let (Some(pid), Some(start)) = (series.label("pid"), series.label("start")) else { continue };
            all.entry((pid, start)).or_default().push((n, series));
        }
    }
    let ticks: Vec<u32> = known.series(TICKS).first().map_or(Vec::new(), |series| {
        let until = series.values.partition_point(|value| set.at(*value) < at);
        series.values[..until].iter().map(|value| value.tick).collect()
    });
    let look = Look { set, at, ticks: &ticks, pods };
    let mut out: Vec<Process> =
        all.iter().filter_map(|((pid, start), series)| look.process(pid, start, series)).collect();
    let amount = |process: &Process| match by {
        By::Cpu => process.cpus,
        By::Memory => process.resident_bytes,
        By::Io => {
            let both = [process.read_bytes_per_second, process.written_bytes_per_second];
            both.into_iter().flatten().reduce(|a, b| a + b)
        }
    };
    // What was not read comes last; what is alike in the order of pids.
    out.sort_by(|a, b| {
        let of = |process: &Process| amount(process).unwrap_or(-1.0);
        of(b).total_cmp(&of(a)).then(a.pid.cmp(&b.pid)).then_with(|| a.start.cmp(&b.start))
    });
    out
}

struct Look<'a> {
    set: &'a SeriesSet,
    at: WallTime,
    /// The ticks before the instant at which processes were read.
    ticks: &'a [u32],
    pods: &'a Pods,
}

impl Look<'_> {
    fn process(&self, pid: &str, start: &str, series: &OfProcess<'_>) -> Option<Process> {
        let named = |metric: &str| {
            let of = series.iter().filter(|(n, _)| OF_PROCESSES[*n] == metric).map(|(_, series)| *series);
            of.collect::<Vec<_>>()
        };
        // Its name or parent may have changed: what was said last counts.
        let (info, read) = named(INFO)
            .into_iter()
            .filter_map(|info| Some((info, last_before(self.set, &info.values, self.at, FRESH)?)))
            .max_by_key(|(_, read)| read.tick)?;
        let cpu = named(CPU);
        if self.had_ended(read.tick, &cpu) {
            return None;
        }
        let read_at = self.set.at(read);
        // All that is read of a process is read at once; details are older.
        let last = |metric: &str| {
            let values = named(metric).into_iter().filter_map(|series| self.last(series));
            values.filter(|value| value.tick == read.tick).map(|value| value.value).reduce(|a, b| a + b)
        };
        let rate = |series: &[&OneSeries]| {
            let rates = series.iter().filter_map(|series| self.rate(series, read.tick));
            rates.reduce(|a, b| a + b)
        };
        let text = |label: &str| info.label(label).unwrap_or_default().to_owned();
        let blocked = named(BLOCKED).into_iter().find(|blocked| {
            blocked.label("tid") == Some(pid) && self.last(blocked).is_some_and(|value| value.tick >= read.tick)
        });
        let cgroup = text("cgroup");
        Some(Process {
            pid: pid.parse().ok()?,
            start: start.to_owned(),
            ppid: text("ppid").parse().ok(),
            uid: text("uid").parse().ok(),
            comm: text("comm"),
            pod: super::pods::pod_of(&cgroup).map(|(uid, _)| self.pods.pod(&uid).label().to_owned()),
            cgroup,
            state: last(STATE).and_then(|code| char::from_u32(code as u32)).filter(char::is_ascii_alphabetic),
            wchan: blocked.and_then(|series| series.label("wchan")).filter(|w| !w.is_empty()).map(str::to_owned),
            cpus: rate(&cpu),
            cpu_seconds: last(CPU),
            resident_bytes: last(RESIDENT),
            virtual_bytes: last(VIRTUAL),
            threads: last(THREADS),
            read_bytes_per_second: rate(&named(READ)),
            written_bytes_per_second: rate(&named(WRITTEN)),
            read_at,
        })
    }

    fn last(&self, series: &OneSeries) -> Option<Value> {
        last_before(self.set, &series.values, self.at, FRESH)
    }

    /// How fast a counter grew up to the reading of this tick.
    fn rate(&self, series: &OneSeries, tick: u32) -> Option<f64> {
        let at = series.values.partition_point(|value| value.tick <= tick);
        let last = *series.values.get(at.checked_sub(1)?)?;
        if last.tick != tick {
            return None;
        }
        let end = self.set.at(last);
        let window = Window::new(end, end.offset(1)).ok()?;
        self.set.grown_within(series, window).map(|growth| growth.by / growth.seconds)
    }

    /// Whether it did something when it was read, or was new, and was then not read when it would have been.
    fn had_ended(&self, tick: u32, cpu: &[&OneSeries]) -> bool {
        let since = self.ticks.len() - self.ticks.partition_point(|t| *t <= tick);
        let rates: Vec<_> = cpu.iter().filter_map(|series| self.rate(series, tick)).collect();
        let busy = rates.is_empty() || rates.iter().any(|rate| *rate > 0.0);
        since >= if busy { BUSY_MISSED } else { SWEEP_MISSED }
    }
}

impl Top {
    /// As text, with so many processes.
    pub fn text(&self, count: usize) -> String {
        let value = |key: &str| self.machine.get(key).copied().flatten();
        let load = ["load1", "load5", "load15"].map(|key| number(value(key), 1.0, 2)).join(", ");
        let up = self.uptime_seconds.map_or_else(|| NOTHING.to_owned(), uptime);
        let mut out = format!("top - {} up {up},  load average: {load}\n", time(self.at));
        let of = |state: char| self.states.get(&state).copied().unwrap_or(0);
        let listed = number(self.listed, 1.0, 0);
        out.push_str(&format!(
            "Tasks: {listed} listed, {} read: {} running, {} sleeping, {} blocked, {} stopped, {} zombie\n",
            self.processes.len(),
            of('R'),
            of('S') + of('I') + of('P'),
            of('D'),
            of('T') + of('t'),
            of('Z')
        ));
        let percent = |key: &str| number(value(key), 0.01, 1);
        let modes = [
            ("us", "user"),
            ("sy", "system"),
            ("ni", "nice"),
            ("id", "idle"),
            ("wa", "iowait"),
            ("hi", "irq"),
            ("si", "softirq"),
            ("st", "steal"),
        ];
        let modes = modes.map(|(word, mode)| format!("{} {word}", percent(&format!("cpu_{mode}_ratio"))));
        out.push_str(&format!("%Cpu(s): {}\n", modes.join(", ")));
        const MIB: f64 = 1_048_576.0;
        let mib = |value: Option<f64>| number(value, MIB, 1);
        let sum = |keys: &[&str]| keys.iter().map(|key| value(key)).reduce(|a, b| Some(a? + b?)).flatten();
        let cache = sum(&["memory_buffers_bytes", "memory_cached_bytes", "memory_reclaimable_bytes"]);
        let (total, free) = (value("memory_total_bytes"), value("memory_free_bytes"));
        let available = value("memory_available_bytes");
        // As procps counts it since 4: what cannot be had.
        let used = total.zip(available).map(|(total, available)| total - available);
        let swap = (value("swap_total_bytes"), value("swap_free_bytes"));
        let swapped = swap.0.zip(swap.1).map(|(total, free)| total - free);
        out.push_str(&format!(
            "MiB Mem : {} total, {} free, {} used, {} buff/cache\nMiB Swap: {} total, {} free, {} used. {} avail Mem\n\n",
            mib(total),
            mib(free),
            mib(used),
            mib(cache),
            mib(swap.0),
            mib(swap.1),
            mib(swapped),
            mib(available)
        ));
        out.push_str(&self.table(count, total));
        if self.processes.len() > count {
            out.push_str(&format!("… and {} more (-n shows them)\n", self.processes.len() - count));
        }
        out
    }

    fn table(&self, count: usize, total: Option<f64>) -> String {
        let shown = self.processes.iter().take(count);
        let with_pods = shown.clone().any(|process| process.pod.is_some());
        let mut head =
            vec!["PID", "UID", "S", "%CPU", "%MEM", "VIRT", "RES", "THR", "READ/s", "WRITE/s", "TIME+", "AGE"];
        head.push("COMMAND");
        head.extend(with_pods.then_some("POD"));
        let bytes = |value: Option<f64>| value.map_or_else(|| NOTHING.to_owned(), short_bytes);
        let mut rows = vec![head.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()];
        for process in shown {
            let part = process.resident_bytes.zip(total).filter(|(_, total)| *total > 0.0);
            let mut row = vec![
                process.pid.to_string(),
                process.uid.map_or_else(|| NOTHING.to_owned(), |uid| uid.to_string()),
                process.state.map_or_else(|| NOTHING.to_owned(), |state| state.to_string()),
                number(process.cpus, 0.01, 1),
                number(part.map(|(resident, total)| resident / total), 0.01, 1),
                bytes(process.virtual_bytes),
                bytes(process.resident_bytes),
                number(process.threads, 1.0, 0),
                bytes(process.read_bytes_per_second),
                bytes(process.written_bytes_per_second),
                process.cpu_seconds.map_or_else(|| NOTHING.to_owned(), cpu_time),
                format!("{}s", self.at.nanos_since(process.read_at).max(0) / 1_000_000_000),
            ];
            let wchan = process.wchan.as_ref().map(|wchan| format!(" [{}]", safe(wchan))).unwrap_or_default();
            row.push(format!("{}{wchan}", safe(&process.comm)));
            row.extend(with_pods.then(|| process.pod.as_deref().map_or_else(String::new, safe)));
            rows.push(row);
        }
        // Names stand at the end and to the left.
        let widths = |n: usize| rows.iter().map(|row| row.get(n).map_or(0, |c| c.chars().count())).max().unwrap_or(0);
        let comm = widths(NAMES_AT);
        let (first, names): (Vec<_>, Vec<_>) =
            rows.into_iter().map(|mut row| (row.clone(), row.split_off(NAMES_AT))).unzip();
        let numbers: Vec<Vec<String>> = first.into_iter().map(|mut row| row.drain(..NAMES_AT).collect()).collect();
        let head: Vec<&str> = head.into_iter().take(NAMES_AT).collect();
        let lines = aligned(0, &head, numbers.get(1..).unwrap_or_default());
        let with_names = lines.lines().zip(names).map(|(line, names)| {
            let name = names.first().map(String::as_str).unwrap_or_default();
            let pod = names.get(1).map(String::as_str).unwrap_or_default();
            format!("{line} {}\n", format!("{name:<comm$} {pod}").trim_end())
        });
        with_names.collect()
    }
}

/// The place of the names in a row.
const NAMES_AT: usize = 12;

/// `12 days,  4:05`, as `uptime` says it.
fn uptime(seconds: f64) -> String {
    let minutes = (seconds / 60.0) as u64;
    let (days, hours, minutes) = (minutes / 1_440, minutes / 60 % 24, minutes % 60);
    let days = match days {
        0 => String::new(),
        1 => "1 day, ".to_owned(),
        n => format!("{n} days, "),
    };
    format!("{days}{hours:>2}:{minutes:02}").trim_start().to_owned()
}

/// `132:05.17`: minutes, seconds and hundredths, as `top` has them.
fn cpu_time(seconds: f64) -> String {
    let hundredths = (seconds * 100.0).round() as u64;
    format!("{}:{:02}.{:02}", hundredths / 6_000, hundredths / 100 % 60, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::super::made::{add, counter, gauge, second, set};
    use super::*;
    use casefile_proto::sample::MetricKind;

    /// A process that is read at the ticks for which `read` says so, and uses `cpus` of a CPU.
    fn process(set: &mut SeriesSet, pid: &str, comm: &str, cpus: f64, resident: f64, read: impl Fn(u32) -> bool) {
        let of = [("pid", pid), ("start", "77")];
        let info = [("pid", pid), ("start", "77"), ("ppid", "1"), ("comm", comm), ("cgroup", "/x"), ("uid", "0")];
        let mode = [("pid", pid), ("start", "77"), ("mode", "user")];
        add(set, INFO, MetricKind::Info, &info, |n| read(n).then_some(1.0));
        add(set, CPU, MetricKind::Counter, &mode, |n| read(n).then_some(f64::from(n) * cpus));
        add(set, RESIDENT, MetricKind::Gauge, &of, |n| read(n).then_some(resident));
        add(set, STATE, MetricKind::Gauge, &of, |n| read(n).then_some(f64::from(b'S')));
    }

    fn machine() -> SeriesSet {
        let mut set = set(60);
        gauge(&mut set, TICKS, &[], 3.0);
        gauge(&mut set, LISTED, &[], 4.0);
        gauge(&mut set, "node_load1", &[], 1.5);
        counter(&mut set, UPTIME, &[], 1.0);
        process(&mut set, "10", "busy", 0.5, 1e6, |_| true);
        process(&mut set, "20", "idle", 0.0, 9e6, |n| n % 10 == 3);
        process(&mut set, "30", "ended", 1.0, 2e6, |n| n <= 35);
        process(&mut set, "40", "new", 1.0, 3e6, |n| n == 39);
        set
    }

    #[test]
    fn what_is_at_rest_is_shown_as_it_was_read_last_and_what_had_ended_is_not_there() {
        let set = machine();
        let top = at(&set, second(40), By::Cpu, &Pods::default());
        let told: Vec<_> = top.processes.iter().map(|p| (p.comm.as_str(), p.cpus)).collect();
        assert_eq!(told, [("busy", Some(0.5)), ("idle", Some(0.0)), ("new", None)], "one reading gives no rate");
        assert_eq!((top.processes[1].read_at, top.listed, top.uptime_seconds), (second(33), Some(4.0), Some(40.0)));
        assert_eq!((top.machine["load1"], top.machine["memory_total_bytes"]), (Some(1.5), None));
        assert_eq!(top.states, [('S', 3)].into());
        let by_memory = at(&set, second(40), By::Memory, &Pods::default());
        assert_eq!(by_memory.processes[0].comm, "idle");
        let while_it_ran = at(&set, second(36), By::Cpu, &Pods::default());
        assert_eq!(while_it_ran.processes[0].comm, "ended");
    }

    #[test]
    fn before_the_recording_there_is_nothing_and_no_zero() {
        let top = at(&machine(), second(-100), By::Cpu, &Pods::default());
        assert_eq!((top.processes.len(), top.listed, top.uptime_seconds), (0, None, None));
        assert!(top.machine.values().all(Option::is_none));
        let text = top.text(10);
        assert!(text.contains("load average: -, -, -") && text.contains("- us"), "{text}");
    }

    #[test]
    fn times_are_written_as_top_does() {
        assert_eq!((cpu_time(7925.17).as_str(), cpu_time(0.0).as_str()), ("132:05.17", "0:00.00"));
        assert_eq!((uptime(1_051_500.0).as_str(), uptime(300.0).as_str()), ("12 days,  4:05", "0:05"));
    }
}
