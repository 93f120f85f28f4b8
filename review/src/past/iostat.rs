//! `iostat -x`: requests, bytes, waits, queue and use of each disk.
//!
//! A wait is that of the requests that ended in the step: where none did there is none, and no zero.

use super::{Column, Kind, Step};

const KIB: f64 = 1024.0;
/// Times are shown in milliseconds.
const MILLI: f64 = 0.001;
const PERCENT: f64 = 0.01;

const READS: &str = "node_disk_reads_completed_total";
const READ_BYTES: &str = "node_disk_read_bytes_total";
const READS_MERGED: &str = "node_disk_reads_merged_total";
const READ_TIME: &str = "node_disk_read_time_seconds_total";
const WRITES: &str = "node_disk_writes_completed_total";
const WRITTEN_BYTES: &str = "node_disk_written_bytes_total";
const WRITES_MERGED: &str = "node_disk_writes_merged_total";
const WRITE_TIME: &str = "node_disk_write_time_seconds_total";
const DISCARDS: &str = "node_disk_discards_completed_total";
const DISCARDED: &str = "node_disk_discarded_sectors_total";
const DISCARD_TIME: &str = "node_disk_discard_time_seconds_total";
const FLUSHES: &str = "node_disk_flush_requests_total";
const FLUSH_TIME: &str = "node_disk_flush_requests_time_seconds_total";
const BUSY: &str = "node_disk_io_time_seconds_total";
const WEIGHTED: &str = "node_disk_io_time_weighted_seconds_total";
/// The kernel counts discards in these.
const SECTOR: f64 = 512.0;

/// The table.
pub const KIND: Kind = Kind { subject: Some(("device", "Device")), columns: &COLUMNS };

/// The same in the columns of `sar -d`.
pub const SAR: Kind = Kind { subject: Some(("device", "DEV")), columns: &SAR_COLUMNS };

const fn column(
    heading: &'static str,
    key: &'static str,
    per: f64,
    needs: &'static [&'static str],
    of: fn(&Step<'_>) -> Option<f64>,
) -> Column {
    Column { heading, key, group: "", per, decimals: 2, needs, of }
}

const QUEUE: Column = column("aqu-sz", "requests_in_flight", 1.0, &[WEIGHTED], |s| s.rate(WEIGHTED));
// One request in flight for the whole step, and rounding of the kernel, may give a little more than all of it.
const USE: Column = Column {
    decimals: 1,
    ..column("%util", "busy_ratio", PERCENT, &[BUSY], |s| s.rate(BUSY).map(|ratio| ratio.min(1.0)))
};
const READ_RATE: Column = column("rkB/s", "read_bytes_per_second", KIB, &[READ_BYTES], |s| s.rate(READ_BYTES));
const WRITE_RATE: Column =
    column("wkB/s", "written_bytes_per_second", KIB, &[WRITTEN_BYTES], |s| s.rate(WRITTEN_BYTES));
const DISCARD_RATE: Column =
    column("dkB/s", "discarded_bytes_per_second", KIB, &[DISCARDED], |s| s.rate(DISCARDED).map(|n| n * SECTOR));

static COLUMNS: [Column; 17] = [
    column("r/s", "reads_per_second", 1.0, &[READS], |s| s.rate(READS)),
    READ_RATE,
    column("rrqm/s", "reads_merged_per_second", 1.0, &[READS_MERGED], |s| s.rate(READS_MERGED)),
    column("r_await", "read_wait_seconds", MILLI, &[READ_TIME, READS], |s| s.each(READ_TIME, READS)),
    column("rareq-sz", "read_request_bytes", KIB, &[READ_BYTES, READS], |s| s.each(READ_BYTES, READS)),
    column("w/s", "writes_per_second", 1.0, &[WRITES], |s| s.rate(WRITES)),
    WRITE_RATE,
    column("wrqm/s", "writes_merged_per_second", 1.0, &[WRITES_MERGED], |s| s.rate(WRITES_MERGED)),
    column("w_await", "write_wait_seconds", MILLI, &[WRITE_TIME, WRITES], |s| s.each(WRITE_TIME, WRITES)),
    column("wareq-sz", "write_request_bytes", KIB, &[WRITTEN_BYTES, WRITES], |s| s.each(WRITTEN_BYTES, WRITES)),
    column("d/s", "discards_per_second", 1.0, &[DISCARDS], |s| s.rate(DISCARDS)),
    DISCARD_RATE,
    column("d_await", "discard_wait_seconds", MILLI, &[DISCARD_TIME, DISCARDS], |s| s.each(DISCARD_TIME, DISCARDS)),
    column("f/s", "flushes_per_second", 1.0, &[FLUSHES], |s| s.rate(FLUSHES)),
    column("f_await", "flush_wait_seconds", MILLI, &[FLUSH_TIME, FLUSHES], |s| s.each(FLUSH_TIME, FLUSHES)),
    QUEUE,
    USE,
];

/// Everything that a request can be, added up; what a kernel does not count is not there.
fn all(step: &Step<'_>, metrics: &[&str]) -> Option<super::Growth> {
    let grown = metrics.iter().filter_map(|metric| step.growth(metric));
    grown.reduce(|a, b| super::Growth { by: a.by + b.by, seconds: a.seconds.max(b.seconds) })
}

static SAR_COLUMNS: [Column; 8] = [
    column("tps", "requests_per_second", 1.0, &[READS, WRITES], |s| {
        all(s, &[READS, WRITES, DISCARDS]).map(|growth| growth.by / growth.seconds)
    }),
    READ_RATE,
    WRITE_RATE,
    DISCARD_RATE,
    column("areq-sz", "request_bytes", KIB, &[READS, WRITES, READ_BYTES, WRITTEN_BYTES], |s| {
        let (bytes, requests) = (all(s, &[READ_BYTES, WRITTEN_BYTES])?.by, all(s, &[READS, WRITES])?.by);
        (requests > 0.0).then(|| bytes / requests)
    }),
    QUEUE,
    column("await", "wait_seconds", MILLI, &[READS, WRITES, READ_TIME, WRITE_TIME], |s| {
        let (time, requests) = (all(s, &[READ_TIME, WRITE_TIME])?.by, all(s, &[READS, WRITES])?.by);
        (requests > 0.0).then(|| time / requests)
    }),
    USE,
];
