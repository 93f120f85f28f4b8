//! The metrics of the `process` source. Series of values carry pid and start time only; everything that describes the
//! process is in `casefile_process_info`, so that a name is stored once and not with every figure.

use casefile_proto::sample::MetricSpec;
use casefile_proto::units::{Scale, Unit};

use crate::sources::spec::{count, counter, gauge, info, level, named};

/// A process is its pid and the clock ticks after boot at which it started: pids come back, the pair does not.
const OF: &[&str] = &["pid", "start"];

pub(super) static METRICS: [MetricSpec; 23] = [
    info(
        "casefile_process_info",
        "one for each process that was read at this tick: parent, name (what a kworker did last is left off), cgroup (of the memory controller on v1), real user; cgroup and user are at most 60 s old; empty where not known",
        &["pid", "start", "ppid", "comm", "cgroup", "uid"],
    ),
    counter(
        "casefile_process_cpu_seconds_total",
        "CPU time of all threads by mode (/proc/PID/stat)",
        Unit::Seconds,
        Scale::CENTI,
        &["pid", "start", "mode"],
    ),
    count(
        "casefile_process_minor_faults_total",
        "page faults that needed no storage; not of kernel threads (/proc/PID/stat minflt)",
        OF,
    ),
    count(
        "casefile_process_major_faults_total",
        "page faults that waited for storage; not of kernel threads (/proc/PID/stat majflt)",
        OF,
    ),
    level("casefile_process_threads", "threads; not of kernel threads, which are one each (/proc/PID/stat)", OF),
    gauge(
        "casefile_process_resident_bytes",
        "resident memory, as exact as the kernel keeps it; only of what has an address space (/proc/PID/stat rss)",
        Unit::Bytes,
        Scale::ONE,
        OF,
    ),
    gauge(
        "casefile_process_virtual_bytes",
        "size of the address space; only of what has one (/proc/PID/stat vsize)",
        Unit::Bytes,
        Scale::ONE,
        OF,
    ),
    gauge(
        "casefile_process_state",
        "state of the first thread as the ASCII code of the kernel's letter: 82 R running, 83 S sleeping, 68 D blocked, 84 T stopped, 116 t traced, 90 Z zombie, 73 I idle kernel thread, 88 X dead, 80 P parked (/proc/PID/stat)",
        Unit::Code,
        Scale::ONE,
        OF,
    ),
    gauge(
        "casefile_process_processor",
        "CPU that the first thread ran on last (/proc/PID/stat)",
        Unit::Code,
        Scale::ONE,
        OF,
    ),
    counter(
        "casefile_process_blkio_delay_seconds_total",
        "time spent waiting for block I/O; only where delay accounting is on (/proc/PID/stat delayacct_blkio_ticks)",
        Unit::Seconds,
        Scale::CENTI,
        OF,
    ),
    counter(
        "casefile_process_read_chars_total",
        "bytes that read calls returned, from files, pipes and sockets alike; I/O is not read of kernel threads (/proc/PID/io rchar)",
        Unit::Bytes,
        Scale::ONE,
        OF,
    ),
    counter(
        "casefile_process_written_chars_total",
        "bytes that write calls took (/proc/PID/io wchar)",
        Unit::Bytes,
        Scale::ONE,
        OF,
    ),
    count("casefile_process_read_calls_total", "read calls (/proc/PID/io syscr)", OF),
    count("casefile_process_write_calls_total", "write calls (/proc/PID/io syscw)", OF),
    counter(
        "casefile_process_storage_read_bytes_total",
        "bytes fetched from storage for it (/proc/PID/io read_bytes)",
        Unit::Bytes,
        Scale::ONE,
        OF,
    ),
    counter(
        "casefile_process_storage_written_bytes_total",
        "bytes that it made dirty and that go to storage (/proc/PID/io write_bytes)",
        Unit::Bytes,
        Scale::ONE,
        OF,
    ),
    counter(
        "casefile_process_storage_cancelled_bytes_total",
        "of the bytes made dirty, those that were dropped before they were written (/proc/PID/io cancelled_write_bytes)",
        Unit::Bytes,
        Scale::ONE,
        OF,
    ),
    gauge(
        "casefile_process_resident_peak_bytes",
        "the most memory that was ever resident; once a minute (/proc/PID/status VmHWM)",
        Unit::Bytes,
        Scale::KIB,
        OF,
    ),
    gauge(
        "casefile_process_swapped_bytes",
        "memory that is swapped out; once a minute (/proc/PID/status VmSwap)",
        Unit::Bytes,
        Scale::KIB,
        OF,
    ),
    count(
        "casefile_process_context_switches_total",
        "times that its first thread (the kernel keeps no sum) gave up the CPU by itself or was made to; once a minute, not of kernel threads (/proc/PID/status)",
        &["pid", "start", "kind"],
    ),
    info(
        "casefile_process_blocked",
        "one for each task in state D at this tick, with the kernel function it waits in (empty where the kernel does not say); first threads whenever their process is read, other threads are looked at in turn, 16 a tick, and once found at every tick until they go on (/proc/PID/task/TID)",
        &["pid", "start", "tid", "comm", "wchan"],
    ),
    level("casefile_processes", "processes that /proc lists; at every tenth tick", &[]),
    level(
        "casefile_processes_read",
        "processes that were read at this tick: the new, the busy, and a tenth of the others, so that each is read at least every 10 s",
        &[],
    ),
];

pub(super) const INFO: &MetricSpec = named(&METRICS, "casefile_process_info");
pub(super) const CPU: &MetricSpec = named(&METRICS, "casefile_process_cpu_seconds_total");
pub(super) const MINOR_FAULTS: &MetricSpec = named(&METRICS, "casefile_process_minor_faults_total");
pub(super) const MAJOR_FAULTS: &MetricSpec = named(&METRICS, "casefile_process_major_faults_total");
pub(super) const THREADS: &MetricSpec = named(&METRICS, "casefile_process_threads");
pub(super) const RESIDENT: &MetricSpec = named(&METRICS, "casefile_process_resident_bytes");
pub(super) const VIRTUAL: &MetricSpec = named(&METRICS, "casefile_process_virtual_bytes");
pub(super) const STATE: &MetricSpec = named(&METRICS, "casefile_process_state");
pub(super) const PROCESSOR: &MetricSpec = named(&METRICS, "casefile_process_processor");
pub(super) const BLKIO_DELAY: &MetricSpec = named(&METRICS, "casefile_process_blkio_delay_seconds_total");
pub(super) const READ_CHARS: &MetricSpec = named(&METRICS, "casefile_process_read_chars_total");
pub(super) const WRITTEN_CHARS: &MetricSpec = named(&METRICS, "casefile_process_written_chars_total");
pub(super) const READ_CALLS: &MetricSpec = named(&METRICS, "casefile_process_read_calls_total");
pub(super) const WRITE_CALLS: &MetricSpec = named(&METRICS, "casefile_process_write_calls_total");
pub(super) const STORAGE_READ: &MetricSpec = named(&METRICS, "casefile_process_storage_read_bytes_total");
pub(super) const STORAGE_WRITTEN: &MetricSpec = named(&METRICS, "casefile_process_storage_written_bytes_total");
pub(super) const STORAGE_CANCELLED: &MetricSpec = named(&METRICS, "casefile_process_storage_cancelled_bytes_total");
pub(super) const RESIDENT_PEAK: &MetricSpec = named(&METRICS, "casefile_process_resident_peak_bytes");
pub(super) const SWAPPED: &MetricSpec = named(&METRICS, "casefile_process_swapped_bytes");
pub(super) const SWITCHES: &MetricSpec = named(&METRICS, "casefile_process_context_switches_total");
pub(super) const BLOCKED: &MetricSpec = named(&METRICS, "casefile_process_blocked");
pub(super) const LISTED: &MetricSpec = named(&METRICS, "casefile_processes");
pub(super) const READ: &MetricSpec = named(&METRICS, "casefile_processes_read");
