//! Where the time of each CPU went, and what the scheduler did: `/proc/stat`, with the CPUs that are online and the
//! counters of thermal throttling.
//!
//! Shares and rates are for review. Frequencies are not read: asking for one can wake an idle CPU.

use std::time::Duration;

use casefile_proto::sample::MetricSpec;
use casefile_proto::units::{Scale, Unit};

use super::kept::{Found, Kept, glance};
use super::spec::{count, counter, gauge, level, named};
use super::{Measurement, Opened, Source, SourceError, SourceSpec};
use crate::host::Host;
use crate::text::{self, BadLine, Fields, Unparsed, entries};

/// The source.
pub static SPEC: SourceSpec = SourceSpec {
    name: "cpu",
    about: "time of each CPU by mode, context switches, forks, interrupts and thermal throttling, from /proc/stat and /sys/devices/system/cpu",
    every: Duration::from_secs(1),
    deadline: Duration::from_secs(2),
    metrics: &METRICS,
    open,
};

static METRICS: [MetricSpec; 12] = [
    counter(
        "node_cpu_seconds_total",
        "time a CPU spent in each mode; user and nice include guests; idle and iowait may step back a little (/proc/stat)",
        Unit::Seconds,
        Scale::CENTI,
        &["cpu", "mode"],
    ),
    counter(
        "node_cpu_guest_seconds_total",
        "time a CPU spent running guests of KVM (/proc/stat)",
        Unit::Seconds,
        Scale::CENTI,
        &["cpu", "mode"],
    ),
    count("node_context_switches_total", "context switches of all CPUs (/proc/stat ctxt)", &[]),
    count("node_intr_total", "interrupts serviced (/proc/stat intr)", &[]),
    count("node_softirqs_total", "soft interrupts by kind (/proc/stat softirq)", &["vector"]),
    count("node_forks_total", "processes and threads created (/proc/stat processes)", &[]),
    level("node_procs_running", "tasks running or ready to run (/proc/stat)", &[]),
    level("node_procs_blocked", "tasks waiting for I/O to complete (/proc/stat)", &[]),
    gauge(
        "node_boot_time_seconds",
        "wall time of boot, as the wall clock says now (/proc/stat btime)",
        Unit::Seconds,
        Scale::ONE,
        &[],
    ),
    level(
        "node_cpu_online",
        "1 for each CPU that is online, 0 for one that is present and offline (/sys/devices/system/cpu)",
        &["cpu"],
    ),
    count(
        "node_cpu_core_throttles_total",
        "how often a core was throttled for heat (thermal_throttle/core_throttle_count)",
        &["package", "core"],
    ),
    count(
        "node_cpu_package_throttles_total",
        "how often a package was throttled for heat (thermal_throttle/package_throttle_count)",
        &["package"],
    ),
];

const SECONDS: &MetricSpec = named(&METRICS, "node_cpu_seconds_total");
const GUEST: &MetricSpec = named(&METRICS, "node_cpu_guest_seconds_total");
const CONTEXT_SWITCHES: &MetricSpec = named(&METRICS, "node_context_switches_total");
const INTERRUPTS: &MetricSpec = named(&METRICS, "node_intr_total");
const SOFTIRQS: &MetricSpec = named(&METRICS, "node_softirqs_total");
const FORKS: &MetricSpec = named(&METRICS, "node_forks_total");
const RUNNING: &MetricSpec = named(&METRICS, "node_procs_running");
const BLOCKED: &MetricSpec = named(&METRICS, "node_procs_blocked");
const BOOT_TIME: &MetricSpec = named(&METRICS, "node_boot_time_seconds");
const ONLINE: &MetricSpec = named(&METRICS, "node_cpu_online");
const CORE_THROTTLES: &MetricSpec = named(&METRICS, "node_cpu_core_throttles_total");
const PACKAGE_THROTTLES: &MetricSpec = named(&METRICS, "node_cpu_package_throttles_total");

/// The columns of a `cpuN` line, in the kernel's order; the last two, time in guests, are also inside `user` and `nice`.
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
const GUEST_MODES: [&str; 2] = ["user", "nice"];
const COLUMNS: usize = MODES.len() + GUEST_MODES.len();

/// The columns of the `softirq` line after its total, as `softirq_to_name` of the kernel has them.
const VECTORS: [&str; 10] =
    ["hi", "timer", "net_tx", "net_rx", "block", "block_iopoll", "tasklet", "sched", "hrtimer", "rcu"];

/// `/proc/stat` has a column for every interrupt line: a machine with 1,024 CPUs and 10,000 lines has about 200 KiB.
const MAX_STAT: usize = 4 << 20;
/// A list of ranges of CPUs.
const MAX_CPU_LIST: usize = 16 << 10;
/// One number.
const MAX_NUMBER: usize = 64;
/// The most CPUs that Linux can be built for (`NR_CPUS`).
const MAX_CPUS: u32 = 8192;

/// What changes seldom is read at every tenth measurement.
const SLOW: u32 = 10;

fn open(host: &Host) -> Result<Opened, SourceError> {
    Ok(Opened::Ready(Box::new(Cpu {
        host: host.clone(),
        stat: Kept::whole("proc/stat", MAX_STAT),
        tick: 0,
        throttles: None,
        buf: Vec::new(),
    })))
}

struct Cpu {
    host: Host,
    stat: Kept,
    tick: u32,
    /// Found at the first slow tick; CPUs of a package that come later are found when the set of CPUs changes.
    throttles: Option<(Vec<u32>, Vec<Throttle>)>,
    buf: Vec<u8>,
}

/// The throttle counters of one core, and of its package if this core speaks for it.
struct Throttle {
    package: String,
    core: String,
    core_count: Kept,
    package_count: Option<Kept>,
}

impl Source for Cpu {
    fn measure(&mut self, out: &mut Measurement) -> Result<(), SourceError> {
        let slow = self.tick.is_multiple_of(SLOW);
        self.tick = self.tick.wrapping_add(1);
        if let Some(text) = self.stat.read_expected(&self.host, &mut self.buf, out) {
            stat(text, out);
        }
        if slow {
            self.online(out);
            self.throttled(out);
        }
        Ok(())
    }
}

fn stat(text: &[u8], out: &mut Measurement) {
    let mut bad = Unparsed::default();
    let mut seen = Seen::default();
    for entry in parse(text).filter_map(|entry| bad.keep(entry)) {
        seen.note(&entry);
        match entry {
            Entry::Cpu { cpu, time } => {
                for (mode, value) in MODES.iter().zip(&time) {
                    value.iter().for_each(|value| out.reading(SECONDS, &[cpu, mode], *value));
                }
                for (mode, value) in GUEST_MODES.iter().zip(&time[MODES.len()..]) {
                    value.iter().for_each(|value| out.reading(GUEST, &[cpu, mode], *value));
                }
            }
            Entry::Softirqs(counts) => {
                for (vector, value) in VECTORS.iter().zip(&counts) {
                    value.iter().for_each(|value| out.reading(SOFTIRQS, &[vector], *value));
                }
            }
            Entry::Number(metric, value) => out.reading(metric, &[], value),
        }
    }
    seen.missing(&mut bad);
    bad.gap("proc/stat").into_iter().for_each(|gap| out.gap(gap));
}

/// One line of `/proc/stat`, as far as it is recorded.
#[derive(Debug)]
pub(crate) enum Entry<'a> {
    /// `cpuN`: columns that this kernel does not have are `None`.
    Cpu { cpu: &'a str, time: [Option<i64>; COLUMNS] },
    /// Soft interrupts by vector.
    Softirqs([Option<i64>; VECTORS.len()]),
    /// A line with one number, or whose first number is the total.
    Number(&'static MetricSpec, i64),
}

/// The lines of `/proc/stat`, in order (`proc(5)`). The sum line `cpu` is left out: it adds up what is recorded.
pub(crate) fn parse(text: &[u8]) -> impl Iterator<Item = Result<Entry<'_>, BadLine<'_>>> {
    entries(text, |line| {
        let mut fields = Fields::of(line);
        let key = fields.word()?;
        let metric = match key {
            b"ctxt" => CONTEXT_SWITCHES,
            b"intr" => INTERRUPTS,
            b"processes" => FORKS,
            b"procs_running" => RUNNING,
            b"procs_blocked" => BLOCKED,
            b"btime" => BOOT_TIME,
            b"softirq" => {
                let _total = fields.number()?;
                let mut counts = [None; VECTORS.len()];
                for count in &mut counts {
                    *count = fields.optional_number()?;
                }
                return Ok(Some(Entry::Softirqs(counts)));
            }
            b"cpu" => return Ok(None),
            _ => {
                let Some(digits) = key.strip_prefix(b"cpu") else {
                    // A key that a later kernel added is none of ours; bytes that are no key at all are damage.
                    let key_like = key.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_');
                    return if key_like { Ok(None) } else { Err(fields.bad("no line of this file")) };
                };
                text::number(digits).map_err(|why| fields.bad(why))?;
                let cpu = text::name(digits).ok_or_else(|| fields.bad("not a name"))?;
                let mut time = [None; COLUMNS];
                // Linux 2.6.0 already had seven columns; fewer is a line that was cut.
                for value in &mut time[..7] {
                    *value = Some(fields.number()?);
                }
                for value in &mut time[7..] {
                    *value = fields.optional_number()?;
                }
                return Ok(Some(Entry::Cpu { cpu, time }));
            }
        };
        Ok(Some(Entry::Number(metric, fields.number()?)))
    })
}

/// Which lines were there, of those that every kernel has.
#[derive(Default)]
struct Seen {
    cpus: bool,
    numbers: [bool; EXPECTED.len()],
}

const EXPECTED: [(&MetricSpec, &str); 6] = [
    (CONTEXT_SWITCHES, "line ctxt"),
    (INTERRUPTS, "line intr"),
    (FORKS, "line processes"),
    (RUNNING, "line procs_running"),
    (BLOCKED, "line procs_blocked"),
    (BOOT_TIME, "line btime"),
];

impl Seen {
    fn note(&mut self, entry: &Entry<'_>) {
        match entry {
            Entry::Cpu { .. } => self.cpus = true,
            Entry::Number(metric, _) => {
                for (seen, _) in self.numbers.iter_mut().zip(EXPECTED).filter(|(_, (m, _))| m.name == metric.name) {
                    *seen = true;
                }
            }
            Entry::Softirqs(_) => {}
        }
    }

    fn missing(&self, bad: &mut Unparsed) {
        if !self.cpus {
            bad.lacks("line of any CPU");
        }
        self.numbers.iter().zip(EXPECTED).filter(|(seen, _)| !**seen).for_each(|(_, (_, what))| bad.lacks(what));
    }
}

impl Cpu {
    /// CPUs that are present and offline have no line in `/proc/stat`: that they are offline is said here.
    fn online(&mut self, out: &mut Measurement) {
        let mut cpus = |file: &str, out: &mut Measurement| {
            let path = format!("sys/devices/system/cpu/{file}");
            let text = glance(&self.host, &path, MAX_CPU_LIST, &mut self.buf, out)?;
            let list = text::single(text).and_then(parse_cpu_list);
            list.map_err(|bad| {
                let mut unparsed = Unparsed::default();
                unparsed.add(bad);
                unparsed.gap(&path).into_iter().for_each(|gap| out.gap(gap));
            })
            .ok()
        };
        let Some(online) = cpus("online", out) else { return };
        let present = cpus("present", out).unwrap_or_default();
        let mut name = String::new();
        let mut all: Vec<u32> = online.iter().chain(&present).copied().collect();
        all.sort_unstable();
        all.dedup();
        for cpu in all {
            name.clear();
            use std::fmt::Write as _;
            // Writing to a String cannot fail.
            let _ = write!(name, "{cpu}");
            out.reading(ONLINE, &[&name], i64::from(online.contains(&cpu)));
        }
        if self.throttles.as_ref().is_none_or(|(of, _)| *of != online) {
            let throttles = find_throttles(&self.host, &online, &mut self.buf, out);
            self.throttles = throttles.map(|throttles| (online, throttles));
        }
    }

    fn throttled(&mut self, out: &mut Measurement) {
        let Some((_, throttles)) = &mut self.throttles else { return };
        for throttle in throttles {
            let Throttle { package, core, core_count, package_count } = throttle;
            if let Some(value) = single(core_count, &self.host, &mut self.buf, out) {
                out.reading(CORE_THROTTLES, &[package, core], value);
            }
            if let Some(value) = package_count.as_mut().and_then(|kept| single(kept, &self.host, &mut self.buf, out)) {
                out.reading(PACKAGE_THROTTLES, &[package], value);
            }
        }
    }
}

/// The counter files of each core: one of its threads speaks for the core, one of its cores for the package. `None` if
/// something could not be found out, which is a gap.
fn find_throttles(host: &Host, cpus: &[u32], buf: &mut Vec<u8>, out: &mut Measurement) -> Option<Vec<Throttle>> {
    let mut found: Vec<Throttle> = Vec::new();
    let mut whole = true;
    for cpu in cpus {
        let base = format!("sys/devices/system/cpu/cpu{cpu}");
        let kept = |file: &str| Kept::whole(format!("{base}/thermal_throttle/{file}"), MAX_NUMBER);
        let mut core_count = kept("core_throttle_count");
        // Virtual machines and other architectures have no such counters: that is no gap.
        if matches!(core_count.read(host, buf), Ok(Found::Missing)) {
            continue;
        }
        let mut id =
            |file: &str| single(&mut Kept::whole(format!("{base}/topology/{file}"), MAX_NUMBER), host, buf, out);
        let (Some(package), Some(core)) = (id("physical_package_id"), id("core_id")) else {
            whole = false;
            continue;
        };
        let (package, core) = (package.to_string(), core.to_string());
        if found.iter().any(|t| t.package == package && t.core == core) {
            continue;
        }
        let first_of_package = !found.iter().any(|t| t.package == package);
        let package_count = first_of_package.then(|| kept("package_throttle_count"));
        found.push(Throttle { package, core, core_count, package_count });
    }
    whole.then_some(found)
}

/// A kept file that holds one number; missing is no gap, garbled is one.
fn single(kept: &mut Kept, host: &Host, buf: &mut Vec<u8>, out: &mut Measurement) -> Option<i64> {
    let text = kept.read_if_there(host, buf, out)?;
    let mut bad = Unparsed::default();
    let value = bad.keep(text::single_number(text));
    bad.gap(kept.path()).into_iter().for_each(|gap| out.gap(gap));
    value
}

/// A list of CPUs as the kernel prints it: `0-3,8,10-11` (`Documentation/admin-guide/cputopology.rst`). Empty is allowed.
pub(crate) fn parse_cpu_list(line: &[u8]) -> Result<Vec<u32>, BadLine<'_>> {
    let bad = |why| BadLine { line, why };
    let cpu = |field: &[u8]| {
        let number = text::number(field).map_err(bad)?;
        u32::try_from(number).ok().filter(|n| *n < MAX_CPUS).ok_or(bad("a CPU beyond 8191"))
    };
    let mut cpus = Vec::new();
    for range in line.trim_ascii().split(|b| *b == b',').filter(|range| !range.is_empty()) {
        match range.iter().position(|b| *b == b'-') {
            Some(dash) => cpus.extend(cpu(&range[..dash])?..=cpu(&range[dash + 1..])?),
            None => cpus.push(cpu(range)?),
        }
    }
    if cpus.len() > MAX_CPUS as usize {
        return Err(bad("more CPUs than there can be"));
    }
    Ok(cpus)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cpu_line_of_an_old_kernel_has_no_guest_columns() {
        let line = b"cpu3 1 2 3 4 5 6 7 8\n";
        let Some(Ok(Entry::Cpu { cpu, time })) = parse(line).next() else { panic!() };
        assert_eq!(cpu, "3");
        assert_eq!(time, [Some(1), Some(2), Some(3), Some(4), Some(5), Some(6), Some(7), Some(8), None, None]);
    }

    #[test]
    fn a_line_of_a_later_kernel_is_passed_over_and_damage_is_not() {
        assert_eq!(parse(b"new_key 1 2 3\n").count(), 0);
        assert!(matches!(parse(b"ct\xffxt 1\n").next(), Some(Err(_))));
        assert!(matches!(parse(b"cpu0 1 2 x 4 5 6 7\n").next(), Some(Err(_))));
        assert!(matches!(parse(b"cpu0 1 2 3\n").next(), Some(Err(BadLine { why: "too few fields", .. }))));
        assert!(matches!(parse(b"ctxt 18446744073709551615\n").next(), Some(Err(_))));
    }

    #[test]
    fn a_list_of_cpus_is_spread_out() {
        assert_eq!(parse_cpu_list(b"0-2,5,7-8\n").unwrap(), [0, 1, 2, 5, 7, 8]);
        assert!(parse_cpu_list(b"").unwrap().is_empty());
        for bad in [&b"a"[..], b"1-", b"0-8192", b"-1"] {
            assert!(parse_cpu_list(bad).is_err(), "{bad:?}");
        }
        assert!(parse_cpu_list("0-8191,".repeat(3).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_bad(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            parse(&bytes).for_each(drop);
            parse(&[b"cpu0 ", &bytes[..], b"\n"].concat()).for_each(drop);
            let _ = parse_cpu_list(&bytes);
        }
    }
}
