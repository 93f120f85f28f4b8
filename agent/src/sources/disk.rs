//! What each disk does: `/proc/diskstats` for whole disks, what `/sys/block` says of their state, and software RAID.
//!
//! Partitions are left out (their disk counts the same I/O), and so are loop and RAM devices that never did any.
//! File systems and their space are in `filesystem`.

use std::collections::BTreeSet;
use std::time::Duration;

use casefile_proto::sample::MetricSpec;
use casefile_proto::units::{Scale, Unit};

use super::kept::{Kept, glance};
use super::mdstat;
use super::spec::{count, counter, gauge, info, level, named};
use super::{Measurement, Opened, Source, SourceError, SourceSpec};
use crate::host::Host;
use crate::text::{self, BadLine, Fields, Unparsed, entries};

/// The source.
pub static SPEC: SourceSpec = SourceSpec {
    name: "disk",
    about: "requests, bytes and time of each whole disk, their state, and software RAID, from /proc/diskstats, /sys/block and /proc/mdstat",
    every: Duration::from_secs(1),
    // Asking a driver for the state of a disk that does not answer may block.
    deadline: Duration::from_secs(2),
    metrics: &METRICS,
    open,
};

static METRICS: [MetricSpec; 27] = [
    count("node_disk_reads_completed_total", "reads completed (/proc/diskstats)", DEVICE),
    count("node_disk_reads_merged_total", "reads merged with another (/proc/diskstats)", DEVICE),
    sectors("node_disk_read_bytes_total", "bytes read (/proc/diskstats)"),
    millis("node_disk_read_time_seconds_total", "time of all reads, added up (/proc/diskstats)"),
    count("node_disk_writes_completed_total", "writes completed (/proc/diskstats)", DEVICE),
    count("node_disk_writes_merged_total", "writes merged with another (/proc/diskstats)", DEVICE),
    sectors("node_disk_written_bytes_total", "bytes written (/proc/diskstats)"),
    millis("node_disk_write_time_seconds_total", "time of all writes, added up (/proc/diskstats)"),
    level("node_disk_io_now", "requests in flight (/proc/diskstats)", DEVICE),
    millis("node_disk_io_time_seconds_total", "time during which at least one request was in flight (/proc/diskstats)"),
    millis("node_disk_io_time_weighted_seconds_total", "time in flight of all requests, added up (/proc/diskstats)"),
    count("node_disk_discards_completed_total", "discards completed (/proc/diskstats, Linux 4.18)", DEVICE),
    count("node_disk_discards_merged_total", "discards merged with another (/proc/diskstats, Linux 4.18)", DEVICE),
    count("node_disk_discarded_sectors_total", "sectors of 512 bytes discarded (/proc/diskstats, Linux 4.18)", DEVICE),
    millis("node_disk_discard_time_seconds_total", "time of all discards, added up (/proc/diskstats, Linux 4.18)"),
    count("node_disk_flush_requests_total", "flushes completed (/proc/diskstats, Linux 5.5)", DEVICE),
    millis("node_disk_flush_requests_time_seconds_total", "time of all flushes, added up (/proc/diskstats, Linux 5.5)"),
    gauge("casefile_disk_size_bytes", "size of the disk (/sys/block/*/size)", Unit::Bytes, Scale::SECTOR, DEVICE),
    level("casefile_disk_readonly", "1 where the kernel refuses to write to the disk (/sys/block/*/ro)", DEVICE),
    info(
        "casefile_disk_state_info",
        "state that the driver gives, such as running, offline, live, dead (/sys/block/*/device/state)",
        &["device", "state"],
    ),
    count("casefile_disk_scsi_errors_total", "commands that ended in an error (/sys/block/*/device/ioerr_cnt)", DEVICE),
    count(
        "casefile_disk_scsi_timeouts_total",
        "commands that timed out (/sys/block/*/device/iotmo_cnt, on kernels that count them)",
        DEVICE,
    ),
    info(
        "node_md_state",
        "state of an array: active, inactive, recovering, resync, check, reshape (/proc/mdstat)",
        &["device", "state"],
    ),
    level("node_md_disks", "disks of an array by state: active, failed, spare (/proc/mdstat)", &["device", "state"]),
    level("node_md_disks_required", "disks that an array should have (/proc/mdstat)", DEVICE),
    level("node_md_blocks", "blocks of 1 KiB of an array (/proc/mdstat)", DEVICE),
    level(
        "node_md_blocks_synced",
        "blocks of 1 KiB of an array that are in step; only while it is being synchronised (/proc/mdstat)",
        DEVICE,
    ),
];

const DEVICE: &[&str] = &["device"];

const fn sectors(name: &'static str, help: &'static str) -> MetricSpec {
    counter(name, help, Unit::Bytes, Scale::SECTOR, DEVICE)
}

const fn millis(name: &'static str, help: &'static str) -> MetricSpec {
    counter(name, help, Unit::Seconds, Scale::MILLI, DEVICE)
}

/// The columns of `/proc/diskstats` after the name, in the kernel's order: the first entries of [`METRICS`].
const COLUMNS: usize = 17;
/// Up to here every kernel has them: Linux 2.6.
const OLD_COLUMNS: usize = 11;

const SIZE: &MetricSpec = named(&METRICS, "casefile_disk_size_bytes");
const READONLY: &MetricSpec = named(&METRICS, "casefile_disk_readonly");
const STATE: &MetricSpec = named(&METRICS, "casefile_disk_state_info");
const SCSI_ERRORS: &MetricSpec = named(&METRICS, "casefile_disk_scsi_errors_total");
const SCSI_TIMEOUTS: &MetricSpec = named(&METRICS, "casefile_disk_scsi_timeouts_total");
const MD_STATE: &MetricSpec = named(&METRICS, "node_md_state");
const MD_DISKS: &MetricSpec = named(&METRICS, "node_md_disks");
const MD_REQUIRED: &MetricSpec = named(&METRICS, "node_md_disks_required");
const MD_BLOCKS: &MetricSpec = named(&METRICS, "node_md_blocks");
const MD_SYNCED: &MetricSpec = named(&METRICS, "node_md_blocks_synced");

/// About 130 bytes a line; a machine with 10,000 multipath devices has 1.3 MB.
const MAX_DISKSTATS: usize = 4 << 20;
const MAX_MDSTAT: usize = 256 << 10;
/// One word or number.
const MAX_VALUE: usize = 256;
/// States are asked at every tenth measurement, at another one than what other sources ask seldom.
const SLOW: u32 = 10;
const SLOW_AT: u32 = 3;

fn open(host: &Host) -> Result<Opened, SourceError> {
    Ok(Opened::Ready(Box::new(Disk {
        host: host.clone(),
        diskstats: Kept::new("proc/diskstats", MAX_DISKSTATS),
        mdstat: Kept::new("proc/mdstat", MAX_MDSTAT),
        whole: None,
        tick: 0,
        buf: Vec::new(),
    })))
}

struct Disk {
    host: Host,
    diskstats: Kept,
    mdstat: Kept,
    /// Names of whole disks, as `/sys/block` lists them; `None` where that cannot be listed: then everything counts.
    whole: Option<BTreeSet<String>>,
    tick: u32,
    buf: Vec<u8>,
}

impl Source for Disk {
    fn measure(&mut self, out: &mut Measurement) -> Result<(), SourceError> {
        let first = self.tick == 0;
        let slow = first || self.tick % SLOW == SLOW_AT;
        self.tick = self.tick.wrapping_add(1);
        if slow {
            self.whole = whole_disks(&self.host);
        }
        let mut known = true;
        if let Some(text) = self.diskstats.read_expected(&self.host, &mut self.buf, out) {
            known = disks(text, self.whole.as_ref(), self.diskstats.path(), out);
        }
        if !known {
            // A disk that came since the list was made: it is recorded from the next tick on at the latest.
            self.whole = whole_disks(&self.host);
        }
        if slow {
            self.states(out);
            self.arrays(out);
        }
        Ok(())
    }
}

/// `cciss/c0d0` is `cciss!c0d0` in sysfs.
fn whole_disks(host: &Host) -> Option<BTreeSet<String>> {
    let names = host.list("sys/block").ok()?;
    Some(names.iter().filter_map(|name| Some(name.to_str()?.replace('!', "/"))).collect())
}

/// Pushes the readings. `false` if there was a name that is neither a listed disk nor a partition of one.
fn disks(text: &[u8], whole: Option<&BTreeSet<String>>, file: &str, out: &mut Measurement) -> bool {
    let mut bad = Unparsed::default();
    let mut known = true;
    for line in parse(text).filter_map(|line| bad.keep(line)) {
        if let Some(whole) = whole
            && !whole.contains(line.device)
        {
            known &= whole.iter().any(|disk| is_partition(line.device, disk));
            continue;
        }
        // A device that never did anything: eight loop devices on most machines.
        if line.columns.iter().all(|column| matches!(column, None | Some(0))) {
            continue;
        }
        for (metric, value) in METRICS.iter().zip(line.columns) {
            value.iter().for_each(|value| out.reading(metric, &[line.device], *value));
        }
    }
    bad.gap(file).into_iter().for_each(|gap| out.gap(gap));
    known
}

/// `sda1` of `sda`, `nvme0n1p2` of `nvme0n1`.
fn is_partition(name: &str, disk: &str) -> bool {
    name.strip_prefix(disk)
        .map(|rest| rest.strip_prefix('p').unwrap_or(rest))
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// One line of `/proc/diskstats`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    device: &'a str,
    /// In the kernel's order; `None` where this kernel has no such column.
    columns: [Option<i64>; COLUMNS],
}

/// ` 254  0 vda 1155463 77690 …` (`Documentation/admin-guide/iostats.rst`). Columns of later kernels are passed over.
pub(crate) fn parse(text: &[u8]) -> impl Iterator<Item = Result<Line<'_>, BadLine<'_>>> {
    entries(text, |line| {
        let mut fields = Fields::of(line);
        let (_major, _minor) = (fields.number()?, fields.number()?);
        let device = fields.name()?;
        let mut columns = [None; COLUMNS];
        for (i, column) in columns.iter_mut().enumerate() {
            *column = if i < OLD_COLUMNS { Some(fields.number()?) } else { fields.optional_number()? };
        }
        Ok(Some(Line { device, columns }))
    })
}

impl Disk {
    fn states(&mut self, out: &mut Measurement) {
        for device in self.whole.iter().flatten() {
            let base = format!("sys/block/{}", device.replace('/', "!"));
            let mut value = |file: &str, parse: fn(&[u8]) -> Result<i64, BadLine<'_>>, out: &mut Measurement| {
                let path = format!("{base}/{file}");
                let text = glance(&self.host, &path, MAX_VALUE, &mut self.buf, out)?;
                let mut bad = Unparsed::default();
                let value = bad.keep(parse(text));
                bad.gap(&path).into_iter().for_each(|gap| out.gap(gap));
                value
            };
            // A loop device without a file, a card reader without a card: there is no disk in it.
            match value("size", text::single_number, out) {
                None | Some(0) => continue,
                Some(size) => out.reading(SIZE, &[device], size),
            }
            if let Some(readonly) = value("ro", text::single_number, out) {
                out.reading(READONLY, &[device], readonly);
            }
            if let Some(errors) = value("device/ioerr_cnt", single_hex, out) {
                out.reading(SCSI_ERRORS, &[device], errors);
            }
            if let Some(timeouts) = value("device/iotmo_cnt", single_hex, out) {
                out.reading(SCSI_TIMEOUTS, &[device], timeouts);
            }
            let path = format!("{base}/device/state");
            if let Some(text) = glance(&self.host, &path, MAX_VALUE, &mut self.buf, out) {
                let mut bad = Unparsed::default();
                let word = text::single(text)
                    .and_then(|line| text::name(line.trim_ascii()).ok_or(BadLine { line, why: "not a name" }));
                if let Some(state) = bad.keep(word) {
                    out.reading(STATE, &[device, state], 1);
                }
                bad.gap(&path).into_iter().for_each(|gap| out.gap(gap));
            }
        }
    }

    fn arrays(&mut self, out: &mut Measurement) {
        // No driver for software RAID: no file, and no gap.
        let Some(text) = self.mdstat.read_if_there(&self.host, &mut self.buf, out) else { return };
        let mut bad = Unparsed::default();
        for array in mdstat::parse(text, &mut bad) {
            out.reading(MD_STATE, &[array.device, array.state], 1);
            for (state, disks) in [("active", array.active), ("failed", array.failed), ("spare", array.spare)] {
                out.reading(MD_DISKS, &[array.device, state], disks);
            }
            for (metric, value) in [(MD_REQUIRED, array.required), (MD_BLOCKS, array.blocks), (MD_SYNCED, array.synced)]
            {
                value.iter().for_each(|value| out.reading(metric, &[array.device], *value));
            }
        }
        bad.gap(self.mdstat.path()).into_iter().for_each(|gap| out.gap(gap));
    }
}

/// `0x1f`, as SCSI counts.
fn single_hex(text: &[u8]) -> Result<i64, BadLine<'_>> {
    let line = text::single(text)?;
    text::hex(line.trim_ascii()).map_err(|why| BadLine { line, why })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn columns_that_an_old_kernel_has_not_are_absent_and_not_zero() {
        let line = parse(b"   8       0 sda 1 2 3 4 5 6 7 8 9 10 11\n").next().unwrap().unwrap();
        assert_eq!((line.device, line.columns[10], line.columns[11]), ("sda", Some(11), None));
        let line = parse(b" 254 0 vda 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18\n").next().unwrap().unwrap();
        assert_eq!(line.columns[16], Some(17));
    }

    #[test]
    fn a_line_that_is_cut_is_bad() {
        for bad in [
            &b" 8 0 sda 1 2 3\n"[..],
            b" 8 0\n",
            b" 8 0 sda 1 2 3 4 5 6 7 8 9 10 11",
            b" 8 0 sda 1 2 3 4 5 6 7 8 9 10 x\n",
            b"\n",
        ] {
            assert!(parse(bad).all(|line| line.is_err()), "{bad:?}");
        }
    }

    #[test]
    fn a_partition_is_told_from_a_disk() {
        assert!(is_partition("sda1", "sda") && is_partition("nvme0n1p12", "nvme0n1"));
        assert!(!is_partition("sdaa", "sda") && !is_partition("sda", "sda") && !is_partition("nvme0n1px", "nvme0n1"));
    }

    #[test]
    fn a_disk_that_nobody_listed_is_noticed() {
        let whole = BTreeSet::from(["sda".to_owned()]);
        let mut out = Measurement::new(&METRICS);
        let line = |name: &str| format!(" 8 0 {name} 1 2 3 4 5 6 7 8 9 10 11\n");
        assert!(disks((line("sda") + &line("sda1")).as_bytes(), Some(&whole), "x", &mut out));
        assert!(!disks(line("sdb").as_bytes(), Some(&whole), "x", &mut out));
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_bad(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            parse(&bytes).for_each(drop);
            parse(&[b" 8 0 sda ", &bytes[..], b"\n"].concat()).for_each(drop);
            let _ = single_hex(&bytes);
        }
    }
}
