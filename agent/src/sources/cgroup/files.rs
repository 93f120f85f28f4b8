//! Which files of a cgroup are read, when, and which metric each of their keys becomes: one table for v2, one for v1.
//!
//! How to add a file: a line in [`V2`] or [`V1`]. The forms that files have are parsed in `parse`.

use casefile_proto::sample::MetricSpec;

use super::metrics::{
    ACTIVE_FILE, CACHE, CPU_STALLED, CPU_SYSTEM, CPU_USAGE, CPU_USER, CPU_WAITING, DIRTY, FAILCNT, FAULTS,
    FORK_FAILURES, INACTIVE_FILE, IO_STALLED, IO_WAITING, KERNEL, MAPPED_FILE, MEMORY, MEMORY_EVENTS, MEMORY_HIGH,
    MEMORY_LIMIT, MEMORY_LOW, MEMORY_PEAK, MEMORY_STALLED, MEMORY_WAITING, OOM_KILLS, PERIOD, PERIODS, QUOTA,
    READ_BYTES, READS, REFAULTS, RSS, SHARES, SHMEM, SLAB, SWAP, SWAP_LIMIT, TASKS, TASKS_MAX, THROTTLED,
    THROTTLED_TIME, UNDER_OOM, WEIGHT, WRITEBACK, WRITES, WRITTEN_BYTES,
};
use super::parse::{self, Direction, Single};
use crate::cgroups::Controller;
use crate::sources::Measurement;
use crate::text::{self, Fields};

/// A file that is read of every cgroup that has it.
#[derive(Debug)]
pub(super) struct FileSpec {
    /// The hierarchy that has it.
    pub(super) place: Place,
    /// Its name; the first that is there, where kernels differ.
    pub(super) names: &'static [&'static str],
    /// How often.
    pub(super) when: When,
    /// What is in it.
    form: Form,
}

/// Where a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The v2 hierarchy; on a hybrid machine the one without controllers.
    Unified,
    /// A v1 hierarchy.
    V1(Controller),
}

/// How often a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// At every tick: its first number tells whether anything ran in the cgroup since the tick before.
    Always,
    /// At every tick while something runs, else with the sweep.
    Busy,
    /// With the sweep, every tenth tick: limits, and what is dear to read.
    Seldom,
}

/// What a number in a file is, in the metric's own integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum In {
    Same,
    /// Nanoseconds where the metric has microseconds.
    Nanos,
    /// Clock ticks (hundredths of a second) where the metric has microseconds.
    Ticks,
}

#[derive(Debug)]
enum Form {
    One(&'static MetricSpec, In),
    /// `key value` lines: key, metric, further labels.
    Keyed(&'static [(&'static str, &'static MetricSpec, &'static [&'static str], In)]),
    CpuMax,
    Pressure {
        waiting: &'static MetricSpec,
        stalled: &'static MetricSpec,
    },
    IoStat,
    Blkio {
        read: &'static MetricSpec,
        written: &'static MetricSpec,
    },
}

const fn v2(name: &'static [&'static str; 1], when: When, form: Form) -> FileSpec {
    FileSpec { place: Place::Unified, names: name, when, form }
}

const fn v1(controller: Controller, names: &'static [&'static str], when: When, form: Form) -> FileSpec {
    FileSpec { place: Place::V1(controller), names, when, form }
}

const NO: &[&str] = &[];
const CPU_PRESSURE: Form = Form::Pressure { waiting: CPU_WAITING, stalled: CPU_STALLED };
const MEMORY_PRESSURE: Form = Form::Pressure { waiting: MEMORY_WAITING, stalled: MEMORY_STALLED };
const IO_PRESSURE: Form = Form::Pressure { waiting: IO_WAITING, stalled: IO_STALLED };

/// What is read of a cgroup of the v2 hierarchy.
pub(super) const V2: &[FileSpec] = &[
    v2(
        &["cpu.stat"],
        When::Always,
        Form::Keyed(&[
            ("usage_usec", CPU_USAGE, NO, In::Same),
            ("user_usec", CPU_USER, NO, In::Same),
            ("system_usec", CPU_SYSTEM, NO, In::Same),
            ("nr_periods", PERIODS, NO, In::Same),
            ("nr_throttled", THROTTLED, NO, In::Same),
            ("throttled_usec", THROTTLED_TIME, NO, In::Same),
        ]),
    ),
    v2(&["memory.current"], When::Busy, Form::One(MEMORY, In::Same)),
    v2(
        &["memory.events"],
        When::Busy,
        Form::Keyed(&[
            ("low", MEMORY_EVENTS, &["low"], In::Same),
            ("high", MEMORY_EVENTS, &["high"], In::Same),
            ("max", MEMORY_EVENTS, &["max"], In::Same),
            ("oom", MEMORY_EVENTS, &["oom"], In::Same),
            ("oom_kill", OOM_KILLS, NO, In::Same),
        ]),
    ),
    v2(&["io.stat"], When::Busy, Form::IoStat),
    v2(&["pids.current"], When::Busy, Form::One(TASKS, In::Same)),
    v2(&["cpu.pressure"], When::Busy, CPU_PRESSURE),
    v2(&["memory.pressure"], When::Busy, MEMORY_PRESSURE),
    v2(&["io.pressure"], When::Busy, IO_PRESSURE),
    v2(
        &["memory.stat"],
        When::Seldom,
        Form::Keyed(&[
            ("anon", RSS, NO, In::Same),
            ("file", CACHE, NO, In::Same),
            ("kernel", KERNEL, NO, In::Same),
            ("shmem", SHMEM, NO, In::Same),
            ("file_mapped", MAPPED_FILE, NO, In::Same),
            ("file_dirty", DIRTY, NO, In::Same),
            ("file_writeback", WRITEBACK, NO, In::Same),
            ("inactive_file", INACTIVE_FILE, NO, In::Same),
            ("active_file", ACTIVE_FILE, NO, In::Same),
            ("slab", SLAB, NO, In::Same),
            ("workingset_refault_anon", REFAULTS, &["anon"], In::Same),
            ("workingset_refault_file", REFAULTS, &["file"], In::Same),
            ("pgfault", FAULTS, &["pgfault", "hierarchy"], In::Same),
            ("pgmajfault", FAULTS, &["pgmajfault", "hierarchy"], In::Same),
        ]),
    ),
    v2(&["memory.swap.current"], When::Seldom, Form::One(SWAP, In::Same)),
    v2(&["memory.peak"], When::Seldom, Form::One(MEMORY_PEAK, In::Same)),
    v2(&["memory.max"], When::Seldom, Form::One(MEMORY_LIMIT, In::Same)),
    v2(&["memory.high"], When::Seldom, Form::One(MEMORY_HIGH, In::Same)),
    v2(&["memory.low"], When::Seldom, Form::One(MEMORY_LOW, In::Same)),
    v2(&["memory.swap.max"], When::Seldom, Form::One(SWAP_LIMIT, In::Same)),
    v2(&["cpu.max"], When::Seldom, Form::CpuMax),
    v2(&["cpu.weight"], When::Seldom, Form::One(WEIGHT, In::Same)),
    v2(&["pids.max"], When::Seldom, Form::One(TASKS_MAX, In::Same)),
    v2(&["pids.events"], When::Seldom, Form::Keyed(&[("max", FORK_FAILURES, NO, In::Same)])),
];

/// What is read of a cgroup of v1 hierarchies, and its pressure where the machine is a hybrid.
pub(super) const V1: &[FileSpec] = &[
    v1(Controller::CpuAcct, &["cpuacct.usage"], When::Always, Form::One(CPU_USAGE, In::Nanos)),
    v1(
        Controller::CpuAcct,
        &["cpuacct.stat"],
        When::Busy,
        Form::Keyed(&[("user", CPU_USER, NO, In::Ticks), ("system", CPU_SYSTEM, NO, In::Ticks)]),
    ),
    v1(
        Controller::Cpu,
        &["cpu.stat"],
        When::Busy,
        Form::Keyed(&[
            ("nr_periods", PERIODS, NO, In::Same),
            ("nr_throttled", THROTTLED, NO, In::Same),
            ("throttled_time", THROTTLED_TIME, NO, In::Nanos),
        ]),
    ),
    v1(Controller::Memory, &["memory.usage_in_bytes"], When::Busy, Form::One(MEMORY, In::Same)),
    v1(Controller::Memory, &["memory.failcnt"], When::Busy, Form::One(FAILCNT, In::Same)),
    v1(
        Controller::Memory,
        &["memory.oom_control"],
        When::Busy,
        Form::Keyed(&[("oom_kill", OOM_KILLS, NO, In::Same), ("under_oom", UNDER_OOM, NO, In::Same)]),
    ),
    v1(
        Controller::Blkio,
        &["blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"],
        When::Busy,
        Form::Blkio { read: READ_BYTES, written: WRITTEN_BYTES },
    ),
    v1(Controller::Pids, &["pids.current"], When::Busy, Form::One(TASKS, In::Same)),
    v2(&["cpu.pressure"], When::Busy, CPU_PRESSURE),
    v2(&["memory.pressure"], When::Busy, MEMORY_PRESSURE),
    v2(&["io.pressure"], When::Busy, IO_PRESSURE),
    v1(
        Controller::Blkio,
        &["blkio.throttle.io_serviced_recursive", "blkio.throttle.io_serviced"],
        When::Seldom,
        Form::Blkio { read: READS, written: WRITES },
    ),
    v1(
        Controller::Memory,
        &["memory.stat"],
        When::Seldom,
        Form::Keyed(&[
            ("total_rss", RSS, NO, In::Same),
            ("total_cache", CACHE, NO, In::Same),
            ("total_shmem", SHMEM, NO, In::Same),
            ("total_mapped_file", MAPPED_FILE, NO, In::Same),
            ("total_dirty", DIRTY, NO, In::Same),
            ("total_writeback", WRITEBACK, NO, In::Same),
            ("total_inactive_file", INACTIVE_FILE, NO, In::Same),
            ("total_active_file", ACTIVE_FILE, NO, In::Same),
            ("total_swap", SWAP, NO, In::Same),
            ("total_workingset_refault_anon", REFAULTS, &["anon"], In::Same),
            ("total_workingset_refault_file", REFAULTS, &["file"], In::Same),
            ("total_pgfault", FAULTS, &["pgfault", "hierarchy"], In::Same),
            ("total_pgmajfault", FAULTS, &["pgmajfault", "hierarchy"], In::Same),
        ]),
    ),
    v1(Controller::Memory, &["memory.max_usage_in_bytes"], When::Seldom, Form::One(MEMORY_PEAK, In::Same)),
    v1(Controller::Memory, &["memory.kmem.usage_in_bytes"], When::Seldom, Form::One(KERNEL, In::Same)),
    v1(Controller::Memory, &["memory.limit_in_bytes"], When::Seldom, Form::One(MEMORY_LIMIT, In::Same)),
    v1(Controller::Memory, &["memory.soft_limit_in_bytes"], When::Seldom, Form::One(MEMORY_LOW, In::Same)),
    v1(Controller::Cpu, &["cpu.cfs_quota_us"], When::Seldom, Form::One(QUOTA, In::Same)),
    v1(Controller::Cpu, &["cpu.cfs_period_us"], When::Seldom, Form::One(PERIOD, In::Same)),
    v1(Controller::Cpu, &["cpu.shares"], When::Seldom, Form::One(SHARES, In::Same)),
    v1(Controller::Pids, &["pids.max"], When::Seldom, Form::One(TASKS_MAX, In::Same)),
    v1(Controller::Pids, &["pids.events"], When::Seldom, Form::Keyed(&[("max", FORK_FAILURES, NO, In::Same)])),
];

impl In {
    /// `None` where the number does not fit any more.
    fn convert(self, value: i64) -> Option<i64> {
        match self {
            Self::Same => Some(value),
            Self::Nanos => Some(value / 1_000),
            Self::Ticks => value.checked_mul(10_000),
        }
    }
}

/// Why a file gave no readings, or not all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bad(pub(super) &'static str);

const BEYOND: Bad = Bad("a number beyond 63 bits");

impl FileSpec {
    /// Emits what the file says about the cgroup `id`. Gives its first number: for [`When::Always`] the one that moves
    /// when something runs. `device` names a block device by its `major:minor`.
    pub(super) fn emit(
        &self,
        file: &[u8],
        id: &str,
        device: &mut dyn FnMut(&[u8]) -> Box<str>,
        out: &mut Measurement,
    ) -> Result<Option<i64>, Bad> {
        // Every line of these files has an end. An empty one is a device list without devices, or an error below.
        if !file.is_empty() && !file.ends_with(b"\n") {
            return Err(Bad("is cut off"));
        }
        match &self.form {
            Form::One(metric, unit) => match parse::single(file).map_err(Bad)? {
                Single::Unlimited => Ok(None),
                Single::Number(value) => {
                    out.reading(metric, &[id], unit.convert(value).ok_or(BEYOND)?);
                    Ok(Some(value))
                }
            },
            Form::Keyed(keys) => keyed(keys, file, id, out),
            Form::CpuMax => {
                let (quota, period) = parse::cpu_max(file).map_err(Bad)?;
                if let Single::Number(quota) = quota {
                    out.reading(QUOTA, &[id], quota);
                }
                out.reading(PERIOD, &[id], period);
                Ok(None)
            }
            Form::Pressure { waiting, stalled } => {
                let pressure = parse::pressure(file).map_err(Bad)?;
                for (metric, total) in [(waiting, pressure.some), (stalled, pressure.full)] {
                    if let Some(total) = total {
                        out.reading(metric, &[id], total);
                    }
                }
                Ok(None)
            }
            Form::IoStat => {
                let mut bad = None;
                for (at, io) in parse::io_stat(file).enumerate() {
                    if at == MAX_DEVICES {
                        return Err(TOO_MANY);
                    }
                    let Ok(io) = io.map_err(|why| bad = Some(Bad(why))) else { continue };
                    let name = device(io.device);
                    for (metric, value) in [
                        (READ_BYTES, io.read_bytes),
                        (WRITTEN_BYTES, io.written_bytes),
                        (READS, io.reads),
                        (WRITES, io.writes),
                    ] {
                        if let Some(value) = value {
                            out.reading(metric, &[id, &name], value);
                        }
                    }
                }
                bad.map_or(Ok(None), Err)
            }
            Form::Blkio { read, written } => {
                let mut bad = None;
                for (at, io) in parse::blkio(file).enumerate() {
                    if at == 2 * MAX_DEVICES {
                        return Err(TOO_MANY);
                    }
                    let Ok(io) = io.map_err(|why| bad = Some(Bad(why))) else { continue };
                    let metric = if io.direction == Direction::Read { read } else { written };
                    out.reading(metric, &[id, &device(io.device)], io.value);
                }
                bad.map_or(Ok(None), Err)
            }
        }
    }
}

/// Block devices of one cgroup that are recorded. A file of 64 KiB could name thousands; machines have dozens.
const MAX_DEVICES: usize = 256;

const TOO_MANY: Bad = Bad("names more devices than are recorded");

fn keyed(
    keys: &'static [(&'static str, &'static MetricSpec, &'static [&'static str], In)],
    file: &[u8],
    id: &str,
    out: &mut Measurement,
) -> Result<Option<i64>, Bad> {
    let (mut first, mut bad) = (None, None);
    // The kernel writes keys in one order, mostly that of the table: the search begins behind the key found last.
    let mut expected = 0;
    for line in text::lines(file).map_while(Result::ok) {
        let mut words = Fields::of(line);
        let Some(key) = words.next() else { continue };
        let Some(at) = (expected..keys.len()).chain(0..expected).find(|at| keys[*at].0.as_bytes() == key) else {
            continue;
        };
        expected = at + 1;
        let (_, metric, labels, unit) = keys[at];
        let value = words.next().ok_or("a key has no value").and_then(text::number);
        match value.map_err(Bad).and_then(|n| unit.convert(n).ok_or(BEYOND).map(|converted| (n, converted))) {
            Ok((raw, value)) => {
                match labels {
                    [] => out.reading(metric, &[id], value),
                    [one] => out.reading(metric, &[id, one], value),
                    [one, two, ..] => out.reading(metric, &[id, one, two], value),
                }
                first.get_or_insert(raw);
            }
            Err(why) => bad = Some(why),
        }
    }
    match bad {
        Some(bad) => Err(bad),
        None if first.is_none() => Err(Bad("has none of the keys")),
        None => Ok(first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn emitted(spec: &FileSpec, file: &[u8]) -> (Vec<String>, Result<Option<i64>, Bad>) {
        let mut out = Measurement::new(&super::super::metrics::METRICS);
        let result = spec.emit(file, "/a", &mut |d| String::from_utf8_lossy(d).into(), &mut out);
        let mut lines = Vec::new();
        out.each(&mut |metric, labels, value| lines.push(format!("{} {} {value}", metric.name, labels.join(","))));
        (lines, result)
    }

    fn spec(table: &'static [FileSpec], name: &str) -> &'static FileSpec {
        table.iter().find(|spec| spec.names.contains(&name)).unwrap()
    }

    #[test]
    fn one_file_at_most_tells_whether_something_ran_and_it_comes_first() {
        for table in [V2, V1] {
            let always: Vec<usize> = (0..table.len()).filter(|at| table[*at].when == When::Always).collect();
            assert_eq!(always, [0]);
        }
    }

    #[test]
    fn times_are_microseconds_whatever_the_kernel_counts_in() {
        let (v2, ran) = emitted(spec(V2, "cpu.stat"), b"usage_usec 12345\nuser_usec 12000\nsystem_usec 345\n");
        assert_eq!(v2[0], "container_cpu_usage_seconds_total /a 12345");
        assert_eq!((v2.len(), ran), (3, Ok(Some(12_345))));
        let (v1, ran) = emitted(spec(V1, "cpuacct.usage"), b"12345678\n");
        assert_eq!((v1[0].as_str(), ran), ("container_cpu_usage_seconds_total /a 12345", Ok(Some(12_345_678))));
        assert_eq!(
            emitted(spec(V1, "cpuacct.stat"), b"user 3\nsystem 1\n").0[0],
            "container_cpu_user_seconds_total /a 30000"
        );
    }

    #[test]
    fn a_limit_that_is_not_there_is_not_recorded() {
        assert_eq!(emitted(spec(V2, "memory.max"), b"max\n"), (vec![], Ok(None)));
        assert_eq!(emitted(spec(V1, "memory.limit_in_bytes"), b"9223372036854771712\n").0, [""; 0]);
        assert_eq!(emitted(spec(V2, "cpu.max"), b"max 100000\n").0, ["container_spec_cpu_period /a 100000"]);
        assert_eq!(emitted(spec(V1, "cpu.cfs_quota_us"), b"-1\n").0, [""; 0]);
        assert_eq!(emitted(spec(V2, "memory.max"), b"64\n").0, ["container_spec_memory_limit_bytes /a 64"]);
    }

    #[test]
    fn keys_with_labels_and_devices_become_series() {
        let (events, _) =
            emitted(spec(V2, "memory.events"), b"low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\noom_group_kill 5\n");
        assert_eq!(events[3..], ["casefile_cgroup_memory_events_total /a,oom 3", "container_oom_events_total /a 4"]);
        let (io, _) = emitted(spec(V2, "io.stat"), b"8:0 rbytes=1 wbytes=2 rios=3 wios=4\n");
        assert_eq!(io[3], "container_fs_writes_total /a,8:0 4");
        let (v1, _) = emitted(spec(V1, "blkio.throttle.io_service_bytes"), b"8:0 Read 7\n8:0 Write 8\nTotal 15\n");
        assert_eq!(v1, ["container_fs_reads_bytes_total /a,8:0 7", "container_fs_writes_bytes_total /a,8:0 8"]);
    }

    #[test]
    fn a_number_that_is_none_leaves_the_others() {
        let (lines, result) =
            emitted(spec(V2, "cpu.stat"), b"usage_usec 1\nuser_usec x\nsystem_usec 18446744073709551615\n");
        assert_eq!(lines, ["container_cpu_usage_seconds_total /a 1"]);
        assert!(result.is_err());
        assert!(emitted(spec(V2, "cpu.stat"), b"").1.is_err(), "an empty file is not a cgroup at rest");
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_file_panic(bytes: Vec<u8>) {
            for spec in V2.iter().chain(V1) {
                let _ = emitted(spec, &bytes);
            }
        }
    }
}
