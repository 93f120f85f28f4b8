//! The metrics of the `cgroup` source: cAdvisor's names where cAdvisor has the series, with the label `id` (the cgroup's
//! path) that cAdvisor gives them too. What cAdvisor derives (the working set) is left to whoever reads.

use casefile_proto::sample::MetricSpec;
use casefile_proto::units::{Scale, Unit};

use crate::sources::spec::{count, counter, gauge, level, named};

const ID: &[&str] = &["id"];
const DEVICE: &[&str] = &["id", "device"];

const fn micros(name: &'static str, help: &'static str) -> MetricSpec {
    counter(name, help, Unit::Seconds, Scale::MICRO, ID)
}

const fn bytes(name: &'static str, help: &'static str) -> MetricSpec {
    gauge(name, help, Unit::Bytes, Scale::ONE, ID)
}

pub(super) static METRICS: [MetricSpec; 47] = [
    micros(
        "container_cpu_usage_seconds_total",
        "CPU time used (v2 cpu.stat usage_usec; v1 cpuacct.usage, cut to microseconds)",
    ),
    micros(
        "container_cpu_user_seconds_total",
        "CPU time in user mode (v2 cpu.stat user_usec; v1 cpuacct.stat, in hundredths of a second)",
    ),
    micros(
        "container_cpu_system_seconds_total",
        "CPU time in the kernel (v2 cpu.stat system_usec; v1 cpuacct.stat, in hundredths of a second)",
    ),
    count("container_cpu_cfs_periods_total", "periods of the quota that passed (cpu.stat nr_periods)", ID),
    count("container_cpu_cfs_throttled_periods_total", "periods in which it was throttled (cpu.stat nr_throttled)", ID),
    micros(
        "container_cpu_cfs_throttled_seconds_total",
        "time that its tasks were kept from running by the quota, added up over the CPUs (v2 cpu.stat throttled_usec; v1 throttled_time, cut to microseconds)",
    ),
    level(
        "container_spec_cpu_quota",
        "microseconds of CPU time a period; not given where there is no limit (v2 cpu.max, v1 cpu.cfs_quota_us)",
        ID,
    ),
    level("container_spec_cpu_period", "microseconds of a period (v2 cpu.max, v1 cpu.cfs_period_us)", ID),
    level("container_spec_cpu_shares", "share of the CPU under contention (v1 cpu.shares)", ID),
    level("casefile_cgroup_cpu_weight", "share of the CPU under contention (v2 cpu.weight)", ID),
    bytes(
        "container_memory_usage_bytes",
        "memory charged to it and to the cgroups below it, page cache included (v2 memory.current, v1 memory.usage_in_bytes)",
    ),
    bytes(
        "container_memory_max_usage_bytes",
        "the most memory that was ever charged to it (v2 memory.peak, v1 memory.max_usage_in_bytes)",
    ),
    bytes("container_memory_rss", "anonymous memory (memory.stat: v2 anon, v1 total_rss)"),
    bytes("container_memory_cache", "page cache (memory.stat: v2 file, v1 total_cache)"),
    bytes(
        "container_memory_mapped_file",
        "page cache that is mapped (memory.stat: v2 file_mapped, v1 total_mapped_file)",
    ),
    bytes("container_memory_swap", "memory in swap (v2 memory.swap.current, v1 memory.stat total_swap)"),
    bytes(
        "container_memory_kernel_usage",
        "memory of the kernel for it (v2 memory.stat kernel, v1 memory.kmem.usage_in_bytes)",
    ),
    bytes(
        "container_memory_total_active_file_bytes",
        "page cache used lately (memory.stat: v2 active_file, v1 total_active_file)",
    ),
    bytes(
        "container_memory_total_inactive_file_bytes",
        "page cache not used lately; usage less this is what cAdvisor calls the working set (memory.stat: v2 inactive_file, v1 total_inactive_file)",
    ),
    bytes("casefile_cgroup_memory_shmem_bytes", "shared memory and tmpfs (memory.stat: v2 shmem, v1 total_shmem)"),
    bytes(
        "casefile_cgroup_memory_dirty_bytes",
        "page cache to be written (memory.stat: v2 file_dirty, v1 total_dirty)",
    ),
    bytes(
        "casefile_cgroup_memory_writeback_bytes",
        "page cache being written (memory.stat: v2 file_writeback, v1 total_writeback)",
    ),
    bytes("casefile_cgroup_memory_slab_bytes", "slab objects of the kernel for it (v2 memory.stat slab)"),
    count(
        "container_memory_failures_total",
        "page faults, with the cgroups below it (memory.stat: v2 pgfault, pgmajfault; v1 total_*)",
        &["id", "failure_type", "scope"],
    ),
    count(
        "casefile_cgroup_memory_refaults_total",
        "pages that were needed again soon after they were reclaimed (memory.stat workingset_refault_*)",
        &["id", "kind"],
    ),
    count("container_memory_failcnt", "times that the memory limit was hit (v1 memory.failcnt)", ID),
    count(
        "casefile_cgroup_memory_events_total",
        "times that usage was above low, above high, at the limit, or out of memory, here or below (v2 memory.events)",
        &["id", "event"],
    ),
    count(
        "container_oom_events_total",
        "processes killed because it or a cgroup below it ran out of memory (v2 memory.events oom_kill, v1 memory.oom_control oom_kill)",
        ID,
    ),
    level(
        "casefile_cgroup_memory_under_oom",
        "1 while it is out of memory and its tasks may be stopped (v1 memory.oom_control)",
        ID,
    ),
    bytes(
        "container_spec_memory_limit_bytes",
        "the memory limit; not given where there is none (v2 memory.max, v1 memory.limit_in_bytes)",
    ),
    bytes(
        "container_spec_memory_reservation_limit_bytes",
        "what is left to it under pressure; not given where it is unlimited (v2 memory.low, v1 memory.soft_limit_in_bytes)",
    ),
    bytes(
        "casefile_cgroup_memory_high_bytes",
        "from here on its tasks are slowed down and made to reclaim; not given where there is none (v2 memory.high)",
    ),
    bytes("casefile_cgroup_swap_limit_bytes", "the swap limit; not given where there is none (v2 memory.swap.max)"),
    counter(
        "container_fs_reads_bytes_total",
        "bytes read from a block device, with the cgroups below it (v2 io.stat rbytes, v1 blkio.throttle.io_service_bytes_recursive)",
        Unit::Bytes,
        Scale::ONE,
        DEVICE,
    ),
    counter(
        "container_fs_writes_bytes_total",
        "bytes written to a block device (v2 io.stat wbytes, v1 blkio.throttle.io_service_bytes_recursive)",
        Unit::Bytes,
        Scale::ONE,
        DEVICE,
    ),
    count(
        "container_fs_reads_total",
        "reads from a block device (v2 io.stat rios, v1 blkio.throttle.io_serviced_recursive)",
        DEVICE,
    ),
    count(
        "container_fs_writes_total",
        "writes to a block device (v2 io.stat wios, v1 blkio.throttle.io_serviced_recursive)",
        DEVICE,
    ),
    level("container_threads", "tasks in it and below it (pids.current)", ID),
    level("container_threads_max", "the limit of tasks; not given where there is none (pids.max)", ID),
    count("casefile_cgroup_fork_failures_total", "forks that the limit of tasks refused (pids.events max)", ID),
    micros(
        "container_pressure_cpu_waiting_seconds_total",
        "time in which some task waited for a CPU (cpu.pressure some)",
    ),
    micros(
        "container_pressure_cpu_stalled_seconds_total",
        "time in which all tasks waited for a CPU (cpu.pressure full)",
    ),
    micros(
        "container_pressure_memory_waiting_seconds_total",
        "time in which some task waited for memory (memory.pressure some)",
    ),
    micros(
        "container_pressure_memory_stalled_seconds_total",
        "time in which all tasks waited for memory (memory.pressure full)",
    ),
    micros("container_pressure_io_waiting_seconds_total", "time in which some task waited for I/O (io.pressure some)"),
    micros("container_pressure_io_stalled_seconds_total", "time in which all tasks waited for I/O (io.pressure full)"),
    level("casefile_cgroups", "cgroups that are followed, in the hierarchy of the memory controller on v1", &[]),
];

pub(super) const CPU_USAGE: &MetricSpec = named(&METRICS, "container_cpu_usage_seconds_total");
pub(super) const CPU_USER: &MetricSpec = named(&METRICS, "container_cpu_user_seconds_total");
pub(super) const CPU_SYSTEM: &MetricSpec = named(&METRICS, "container_cpu_system_seconds_total");
pub(super) const PERIODS: &MetricSpec = named(&METRICS, "container_cpu_cfs_periods_total");
pub(super) const THROTTLED: &MetricSpec = named(&METRICS, "container_cpu_cfs_throttled_periods_total");
pub(super) const THROTTLED_TIME: &MetricSpec = named(&METRICS, "container_cpu_cfs_throttled_seconds_total");
pub(super) const QUOTA: &MetricSpec = named(&METRICS, "container_spec_cpu_quota");
pub(super) const PERIOD: &MetricSpec = named(&METRICS, "container_spec_cpu_period");
pub(super) const SHARES: &MetricSpec = named(&METRICS, "container_spec_cpu_shares");
pub(super) const WEIGHT: &MetricSpec = named(&METRICS, "casefile_cgroup_cpu_weight");
pub(super) const MEMORY: &MetricSpec = named(&METRICS, "container_memory_usage_bytes");
pub(super) const MEMORY_PEAK: &MetricSpec = named(&METRICS, "container_memory_max_usage_bytes");
pub(super) const RSS: &MetricSpec = named(&METRICS, "container_memory_rss");
pub(super) const CACHE: &MetricSpec = named(&METRICS, "container_memory_cache");
pub(super) const MAPPED_FILE: &MetricSpec = named(&METRICS, "container_memory_mapped_file");
pub(super) const SWAP: &MetricSpec = named(&METRICS, "container_memory_swap");
pub(super) const KERNEL: &MetricSpec = named(&METRICS, "container_memory_kernel_usage");
pub(super) const ACTIVE_FILE: &MetricSpec = named(&METRICS, "container_memory_total_active_file_bytes");
pub(super) const INACTIVE_FILE: &MetricSpec = named(&METRICS, "container_memory_total_inactive_file_bytes");
pub(super) const SHMEM: &MetricSpec = named(&METRICS, "casefile_cgroup_memory_shmem_bytes");
pub(super) const DIRTY: &MetricSpec = named(&METRICS, "casefile_cgroup_memory_dirty_bytes");
pub(super) const WRITEBACK: &MetricSpec = named(&METRICS, "casefile_cgroup_memory_writeback_bytes");
pub(super) const SLAB: &MetricSpec = named(&METRICS, "casefile_cgroup_memory_slab_bytes");
pub(super) const FAULTS: &MetricSpec = named(&METRICS, "container_memory_failures_total");
pub(super) const REFAULTS: &MetricSpec = named(&METRICS, "casefile_cgroup_memory_refaults_total");
pub(super) const FAILCNT: &MetricSpec = named(&METRICS, "container_memory_failcnt");
pub(super) const MEMORY_EVENTS: &MetricSpec = named(&METRICS, "casefile_cgroup_memory_events_total");
pub(super) const OOM_KILLS: &MetricSpec = named(&METRICS, "container_oom_events_total");
pub(super) const UNDER_OOM: &MetricSpec = named(&METRICS, "casefile_cgroup_memory_under_oom");
pub(super) const MEMORY_LIMIT: &MetricSpec = named(&METRICS, "container_spec_memory_limit_bytes");
pub(super) const MEMORY_LOW: &MetricSpec = named(&METRICS, "container_spec_memory_reservation_limit_bytes");
pub(super) const MEMORY_HIGH: &MetricSpec = named(&METRICS, "casefile_cgroup_memory_high_bytes");
pub(super) const SWAP_LIMIT: &MetricSpec = named(&METRICS, "casefile_cgroup_swap_limit_bytes");
pub(super) const READ_BYTES: &MetricSpec = named(&METRICS, "container_fs_reads_bytes_total");
pub(super) const WRITTEN_BYTES: &MetricSpec = named(&METRICS, "container_fs_writes_bytes_total");
pub(super) const READS: &MetricSpec = named(&METRICS, "container_fs_reads_total");
pub(super) const WRITES: &MetricSpec = named(&METRICS, "container_fs_writes_total");
pub(super) const TASKS: &MetricSpec = named(&METRICS, "container_threads");
pub(super) const TASKS_MAX: &MetricSpec = named(&METRICS, "container_threads_max");
pub(super) const FORK_FAILURES: &MetricSpec = named(&METRICS, "casefile_cgroup_fork_failures_total");
pub(super) const CPU_WAITING: &MetricSpec = named(&METRICS, "container_pressure_cpu_waiting_seconds_total");
pub(super) const CPU_STALLED: &MetricSpec = named(&METRICS, "container_pressure_cpu_stalled_seconds_total");
pub(super) const MEMORY_WAITING: &MetricSpec = named(&METRICS, "container_pressure_memory_waiting_seconds_total");
pub(super) const MEMORY_STALLED: &MetricSpec = named(&METRICS, "container_pressure_memory_stalled_seconds_total");
pub(super) const IO_WAITING: &MetricSpec = named(&METRICS, "container_pressure_io_waiting_seconds_total");
pub(super) const IO_STALLED: &MetricSpec = named(&METRICS, "container_pressure_io_stalled_seconds_total");
pub(super) const FOLLOWED: &MetricSpec = named(&METRICS, "casefile_cgroups");
