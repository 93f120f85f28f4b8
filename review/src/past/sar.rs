//! `sar`: CPU, memory, paging, disks, network, run queue and pressure over time, in the columns that `sar` has.

use super::table::Table;
use super::{CPU, Column, Kind, Step, iostat};

const KIB: f64 = 1024.0;
const PERCENT: f64 = 0.01;

/// What a report is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// `sar -u`.
    Cpu,
    /// `sar -r`.
    Memory,
    /// `sar -B`.
    Paging,
    /// `sar -d`.
    Disk,
    /// `sar -n DEV`, and of `sar -n EDEV` errors and drops.
    Network,
    /// `sar -q`.
    Load,
    /// `sar -q PSI`.
    Pressure,
}

impl Report {
    /// Its table.
    pub const fn kind(self) -> &'static Kind {
        match self {
            Self::Cpu => &CPU_KIND,
            Self::Memory => &MEMORY_KIND,
            Self::Paging => &PAGING_KIND,
            Self::Disk => &iostat::SAR,
            Self::Network => &NETWORK_KIND,
            Self::Load => &LOAD_KIND,
            Self::Pressure => &PRESSURE_KIND,
        }
    }
}

/// Interfaces over which nothing ever went in the table are left out, as nobody looks for them: the two ends of every pod. The
/// answer is how many.
pub fn without_idle(table: &mut Table) -> usize {
    let moved = |row: &super::table::Row| row.values.iter().any(|(_, value)| value.is_some_and(|v| v > 0.0));
    let mut busy: Vec<String> = Vec::new();
    let mut all: Vec<String> = Vec::new();
    for row in &table.rows {
        let Some((_, name)) = &row.subject else { continue };
        if !all.contains(name) {
            all.push(name.clone());
        }
        if moved(row) && !busy.contains(name) {
            busy.push(name.clone());
        }
    }
    let is_busy = |row: &super::table::Row| row.subject.as_ref().is_some_and(|(_, name)| busy.contains(name));
    table.rows.retain(is_busy);
    table.average.retain(is_busy);
    all.len() - busy.len()
}

static CPU_KIND: Kind = Kind { subject: None, columns: &CPU_COLUMNS };
static MEMORY_KIND: Kind = Kind { subject: None, columns: &MEMORY_COLUMNS };
static PAGING_KIND: Kind = Kind { subject: None, columns: &PAGING_COLUMNS };
static NETWORK_KIND: Kind = Kind { subject: Some(("device", "IFACE")), columns: &NETWORK_COLUMNS };
static LOAD_KIND: Kind = Kind { subject: None, columns: &LOAD_COLUMNS };
static PRESSURE_KIND: Kind = Kind { subject: None, columns: &PRESSURE_COLUMNS };

const fn column(
    heading: &'static str,
    key: &'static str,
    per: f64,
    decimals: usize,
    needs: &'static [&'static str],
    of: fn(&Step<'_>) -> Option<f64>,
) -> Column {
    Column { heading, key, group: "", per, decimals, needs, of }
}

static CPU_COLUMNS: [Column; 6] = [
    column("%user", "user_ratio", PERCENT, 2, &[CPU], |s| s.cpu(&["user"])),
    column("%nice", "nice_ratio", PERCENT, 2, &[CPU], |s| s.cpu(&["nice"])),
    column("%system", "system_ratio", PERCENT, 2, &[CPU], |s| s.cpu(&["system", "irq", "softirq"])),
    column("%iowait", "iowait_ratio", PERCENT, 2, &[CPU], |s| s.cpu(&["iowait"])),
    column("%steal", "steal_ratio", PERCENT, 2, &[CPU], |s| s.cpu(&["steal"])),
    column("%idle", "idle_ratio", PERCENT, 2, &[CPU], |s| s.cpu(&["idle"])),
];

const TOTAL: &str = "node_memory_MemTotal_bytes";
const FREE: &str = "node_memory_MemFree_bytes";
const AVAILABLE: &str = "node_memory_MemAvailable_bytes";
const BUFFERS: &str = "node_memory_Buffers_bytes";
const CACHED: &str = "node_memory_Cached_bytes";
const SLAB: &str = "node_memory_Slab_bytes";
const COMMITTED: &str = "node_memory_Committed_AS_bytes";
const SWAP: &str = "node_memory_SwapTotal_bytes";
const ACTIVE: &str = "node_memory_Active_bytes";
const INACTIVE: &str = "node_memory_Inactive_bytes";
const DIRTY: &str = "node_memory_Dirty_bytes";
const USED: &[&str] = &[TOTAL, FREE, BUFFERS, CACHED, SLAB];

/// As sysstat counts it since 12: what is neither free nor cache, buffer or slab.
fn used(s: &Step<'_>) -> Option<f64> {
    let rest = s.gauge(FREE)? + s.gauge(BUFFERS)? + s.gauge(CACHED)? + s.gauge(SLAB)?;
    Some((s.gauge(TOTAL)? - rest).max(0.0))
}

static MEMORY_COLUMNS: [Column; 11] = [
    column("kbmemfree", "free_bytes", KIB, 0, &[FREE], |s| s.gauge(FREE)),
    column("kbavail", "available_bytes", KIB, 0, &[AVAILABLE], |s| s.gauge(AVAILABLE)),
    column("kbmemused", "used_bytes", KIB, 0, USED, used),
    column("%memused", "used_ratio", PERCENT, 2, USED, |s| Some(used(s)? / s.gauge(TOTAL).filter(|n| *n > 0.0)?)),
    column("kbbuffers", "buffers_bytes", KIB, 0, &[BUFFERS], |s| s.gauge(BUFFERS)),
    column("kbcached", "cached_bytes", KIB, 0, &[CACHED], |s| s.gauge(CACHED)),
    column("kbcommit", "committed_bytes", KIB, 0, &[COMMITTED], |s| s.gauge(COMMITTED)),
    column("%commit", "committed_ratio", PERCENT, 2, &[COMMITTED, TOTAL, SWAP], |s| {
        let all = s.gauge(TOTAL)? + s.gauge(SWAP)?;
        (all > 0.0).then_some(s.gauge(COMMITTED)? / all)
    }),
    column("kbactive", "active_bytes", KIB, 0, &[ACTIVE], |s| s.gauge(ACTIVE)),
    column("kbinact", "inactive_bytes", KIB, 0, &[INACTIVE], |s| s.gauge(INACTIVE)),
    column("kbdirty", "dirty_bytes", KIB, 0, &[DIRTY], |s| s.gauge(DIRTY)),
];

static PAGING_COLUMNS: [Column; 7] = [
    column("pgpgin/s", "paged_in_bytes_per_second", KIB, 2, &["node_vmstat_pgpgin"], |s| {
        s.rate("node_vmstat_pgpgin").map(|kib| kib * KIB)
    }),
    column("pgpgout/s", "paged_out_bytes_per_second", KIB, 2, &["node_vmstat_pgpgout"], |s| {
        s.rate("node_vmstat_pgpgout").map(|kib| kib * KIB)
    }),
    column("fault/s", "faults_per_second", 1.0, 2, &["node_vmstat_pgfault"], |s| s.rate("node_vmstat_pgfault")),
    column("majflt/s", "major_faults_per_second", 1.0, 2, &["node_vmstat_pgmajfault"], |s| {
        s.rate("node_vmstat_pgmajfault")
    }),
    column("pgscank/s", "scanned_by_kswapd_per_second", 1.0, 2, &["node_vmstat_pgscan_kswapd"], |s| {
        s.rate("node_vmstat_pgscan_kswapd")
    }),
    column("pgscand/s", "scanned_directly_per_second", 1.0, 2, &["node_vmstat_pgscan_direct"], |s| {
        s.rate("node_vmstat_pgscan_direct")
    }),
    column(
        "pgsteal/s",
        "reclaimed_per_second",
        1.0,
        2,
        &["node_vmstat_pgsteal_kswapd", "node_vmstat_pgsteal_direct"],
        |s| Some(s.rate("node_vmstat_pgsteal_kswapd")? + s.rate("node_vmstat_pgsteal_direct")?),
    ),
];

const RECEIVED: &str = "node_network_receive_bytes_total";
const SENT: &str = "node_network_transmit_bytes_total";
const SPEED: &str = "node_network_speed_bytes";

static NETWORK_COLUMNS: [Column; 10] = [
    column("rxpck/s", "received_packets_per_second", 1.0, 2, &["node_network_receive_packets_total"], |s| {
        s.rate("node_network_receive_packets_total")
    }),
    column("txpck/s", "sent_packets_per_second", 1.0, 2, &["node_network_transmit_packets_total"], |s| {
        s.rate("node_network_transmit_packets_total")
    }),
    column("rxkB/s", "received_bytes_per_second", KIB, 2, &[RECEIVED], |s| s.rate(RECEIVED)),
    column("txkB/s", "sent_bytes_per_second", KIB, 2, &[SENT], |s| s.rate(SENT)),
    column("rxmcst/s", "received_multicast_per_second", 1.0, 2, &["node_network_receive_multicast_total"], |s| {
        s.rate("node_network_receive_multicast_total")
    }),
    // Of a link that goes both ways at once, the busier direction.
    column("%ifutil", "busy_ratio", PERCENT, 2, &[RECEIVED, SENT, SPEED], |s| {
        let speed = s.gauge(SPEED).filter(|speed| *speed > 0.0)?;
        Some(s.rate(RECEIVED)?.max(s.rate(SENT)?) / speed)
    }),
    column("rxerr/s", "receive_errors_per_second", 1.0, 2, &["node_network_receive_errs_total"], |s| {
        s.rate("node_network_receive_errs_total")
    }),
    column("txerr/s", "send_errors_per_second", 1.0, 2, &["node_network_transmit_errs_total"], |s| {
        s.rate("node_network_transmit_errs_total")
    }),
    column("rxdrop/s", "receive_drops_per_second", 1.0, 2, &["node_network_receive_drop_total"], |s| {
        s.rate("node_network_receive_drop_total")
    }),
    column("txdrop/s", "send_drops_per_second", 1.0, 2, &["node_network_transmit_drop_total"], |s| {
        s.rate("node_network_transmit_drop_total")
    }),
];

static LOAD_COLUMNS: [Column; 6] = [
    column("runq-sz", "running", 1.0, 0, &["node_procs_running"], |s| s.gauge("node_procs_running")),
    column("plist-sz", "threads", 1.0, 0, &["node_processes_threads"], |s| s.gauge("node_processes_threads")),
    column("ldavg-1", "load1", 1.0, 2, &["node_load1"], |s| s.gauge("node_load1")),
    column("ldavg-5", "load5", 1.0, 2, &["node_load5"], |s| s.gauge("node_load5")),
    column("ldavg-15", "load15", 1.0, 2, &["node_load15"], |s| s.gauge("node_load15")),
    column("blocked", "blocked", 1.0, 0, &["node_procs_blocked"], |s| s.gauge("node_procs_blocked")),
];

const fn pressure(
    heading: &'static str,
    key: &'static str,
    needs: &'static [&'static str],
    of: fn(&Step<'_>) -> Option<f64>,
) -> Column {
    column(heading, key, PERCENT, 2, needs, of)
}

static PRESSURE_COLUMNS: [Column; 5] = [
    pressure("%scpu", "cpu_waiting_ratio", &["node_pressure_cpu_waiting_seconds_total"], |s| {
        s.rate("node_pressure_cpu_waiting_seconds_total")
    }),
    pressure("%sio", "io_waiting_ratio", &["node_pressure_io_waiting_seconds_total"], |s| {
        s.rate("node_pressure_io_waiting_seconds_total")
    }),
    pressure("%fio", "io_stalled_ratio", &["node_pressure_io_stalled_seconds_total"], |s| {
        s.rate("node_pressure_io_stalled_seconds_total")
    }),
    pressure("%smem", "memory_waiting_ratio", &["node_pressure_memory_waiting_seconds_total"], |s| {
        s.rate("node_pressure_memory_waiting_seconds_total")
    }),
    pressure("%fmem", "memory_stalled_ratio", &["node_pressure_memory_stalled_seconds_total"], |s| {
        s.rate("node_pressure_memory_stalled_seconds_total")
    }),
];
