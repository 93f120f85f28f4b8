//! `vmstat`: run queue, memory, swap, block I/O, interrupts and CPU, in the columns that `vmstat -t` has.
//!
//! `si` and `so` are counted in pages; the kernel's page is known of machines that have only one size.

use casefile_proto::time::Window;

use super::table::Table;
use super::{CPU, Column, Kind, Step};
use crate::seriesset::SeriesSet;

const KIB: f64 = 1024.0;
/// Shown as percent of a part.
const PERCENT: f64 = 0.01;

/// The table.
pub const KIND: Kind = Kind { subject: None, columns: &COLUMNS };

/// Machines on which a page has 4 KiB, whatever the kernel (`uname -m`).
const PAGES_OF_4_KIB: [&str; 6] = ["x86_64", "i686", "i586", "i386", "riscv64", "s390x"];

/// The table of a machine (as `uname -m` calls it). Where the size of a page is not known, `si` and `so` are left out.
pub fn table(set: &SeriesSet, steps: &[Window], machine: Option<&str>) -> Table {
    let mut table = super::table(set, &KIND, steps);
    if machine.is_some_and(|machine| PAGES_OF_4_KIB.contains(&machine)) {
        return table;
    }
    let of_pages = |key: &str| key.contains("_pages_");
    table.left_out.extend(table.columns.extract_if(.., |column| of_pages(column.key)).map(|column| column.heading));
    table.rows.iter_mut().chain(&mut table.average).for_each(|row| row.values.retain(|(key, _)| !of_pages(key)));
    table
}

const fn column(
    group: &'static str,
    heading: &'static str,
    key: &'static str,
    per: f64,
    needs: &'static [&'static str],
    of: fn(&Step<'_>) -> Option<f64>,
) -> Column {
    Column { heading, key, group, per, decimals: 0, needs, of }
}

const FREE: &str = "node_memory_MemFree_bytes";
const BUFFERS: &str = "node_memory_Buffers_bytes";
const CACHED: &str = "node_memory_Cached_bytes";
const RECLAIMABLE: &str = "node_memory_SReclaimable_bytes";
const SWAP_TOTAL: &str = "node_memory_SwapTotal_bytes";
const SWAP_FREE: &str = "node_memory_SwapFree_bytes";

static COLUMNS: [Column; 17] = [
    column("procs", "r", "running", 1.0, &["node_procs_running"], |s| s.gauge("node_procs_running")),
    column("procs", "b", "blocked", 1.0, &["node_procs_blocked"], |s| s.gauge("node_procs_blocked")),
    column("memory", "swpd", "swap_used_bytes", KIB, &[SWAP_TOTAL, SWAP_FREE], |s| {
        Some(s.gauge(SWAP_TOTAL)? - s.gauge(SWAP_FREE)?)
    }),
    column("memory", "free", "free_bytes", KIB, &[FREE], |s| s.gauge(FREE)),
    column("memory", "buff", "buffers_bytes", KIB, &[BUFFERS], |s| s.gauge(BUFFERS)),
    // As procps counts it: slabs that can be given back are cache.
    column("memory", "cache", "cache_bytes", KIB, &[CACHED, RECLAIMABLE], |s| {
        Some(s.gauge(CACHED)? + s.gauge(RECLAIMABLE)?)
    }),
    column("swap", "si", "swapped_in_pages_per_second", 0.25, &["node_vmstat_pswpin"], |s| {
        s.rate("node_vmstat_pswpin")
    }),
    column("swap", "so", "swapped_out_pages_per_second", 0.25, &["node_vmstat_pswpout"], |s| {
        s.rate("node_vmstat_pswpout")
    }),
    // The kernel counts these in KiB, whatever the size of a page.
    column("io", "bi", "read_bytes_per_second", KIB, &["node_vmstat_pgpgin"], |s| {
        s.rate("node_vmstat_pgpgin").map(|kib| kib * KIB)
    }),
    column("io", "bo", "written_bytes_per_second", KIB, &["node_vmstat_pgpgout"], |s| {
        s.rate("node_vmstat_pgpgout").map(|kib| kib * KIB)
    }),
    column("system", "in", "interrupts_per_second", 1.0, &["node_intr_total"], |s| s.rate("node_intr_total")),
    column("system", "cs", "context_switches_per_second", 1.0, &["node_context_switches_total"], |s| {
        s.rate("node_context_switches_total")
    }),
    column("cpu", "us", "cpu_user_ratio", PERCENT, &[CPU], |s| s.cpu(&["user", "nice"])),
    column("cpu", "sy", "cpu_system_ratio", PERCENT, &[CPU], |s| s.cpu(&["system", "irq", "softirq"])),
    column("cpu", "id", "cpu_idle_ratio", PERCENT, &[CPU], |s| s.cpu(&["idle"])),
    column("cpu", "wa", "cpu_iowait_ratio", PERCENT, &[CPU], |s| s.cpu(&["iowait"])),
    column("cpu", "st", "cpu_steal_ratio", PERCENT, &[CPU], |s| s.cpu(&["steal"])),
];
