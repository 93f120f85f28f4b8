//! `df`: how full each file system was at an instant, in bytes or inodes.
//!
//! One that did not answer has no numbers, and that is said.

use std::collections::BTreeMap;

use casefile_proto::sample::{MetricDef, SourceDef};
use casefile_proto::time::WallTime;
use serde::Serialize;

use super::table::{NOTHING, aligned, short_bytes};
use super::{FRESH_SLOW, last_before};
use crate::display::safe;
use crate::seriesset::SeriesSet;

const PREFIX: &str = "node_filesystem_";

/// Whether a metric is needed.
pub fn wants(_source: &SourceDef, metric: &MetricDef) -> bool {
    metric.name.starts_with(PREFIX)
}

/// One file system. Texts are the node's: escape before showing.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct FileSystem {
    /// `/dev/vda`, `server:/export`, `tmpfs`.
    pub device: String,
    /// Where it is mounted.
    pub mountpoint: String,
    /// `ext4`, `nfs4`, ….
    pub fstype: String,
    /// Its size.
    pub size_bytes: Option<f64>,
    /// Free, the part kept for root included.
    pub free_bytes: Option<f64>,
    /// Free for programs without privilege.
    pub available_bytes: Option<f64>,
    /// Inodes; file systems that make them as needed say 0.
    pub inodes: Option<f64>,
    /// Free inodes.
    pub inodes_free: Option<f64>,
    /// Whether it could not be written to.
    pub readonly: Option<bool>,
    /// Whether it could not be asked or did not answer.
    pub failed: Option<bool>,
}

/// The file systems at an instant, in order of mount points.
pub fn at(set: &SeriesSet, at: WallTime) -> Vec<FileSystem> {
    let mut all: BTreeMap<(&str, &str), FileSystem> = BTreeMap::new();
    for series in &set.series {
        let Some(what) = series.metric.name.strip_prefix(PREFIX) else { continue };
        let Some(value) = last_before(set, &series.values, at, FRESH_SLOW).map(|value| value.value) else { continue };
        let label = |name: &str| series.label(name).unwrap_or_default();
        let one = all.entry((label("mountpoint"), label("device"))).or_insert_with(|| FileSystem {
            device: label("device").to_owned(),
            mountpoint: label("mountpoint").to_owned(),
            fstype: label("fstype").to_owned(),
            ..FileSystem::default()
        });
        match what {
            "size_bytes" => one.size_bytes = Some(value),
            "free_bytes" => one.free_bytes = Some(value),
            "avail_bytes" => one.available_bytes = Some(value),
            "files" => one.inodes = Some(value),
            "files_free" => one.inodes_free = Some(value),
            "readonly" => one.readonly = Some(value > 0.0),
            "device_error" => one.failed = Some(value > 0.0),
            _ => {}
        }
    }
    all.into_values().collect()
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Blocks of 1 KiB.
    Kibibytes,
    /// Bytes with a unit, as with `df -h`.
    Human,
    /// Inodes, as with `df -i`.
    Inodes,
    /// Inodes with a unit.
    HumanInodes,
}

/// The table as `df` prints it.
pub fn text(all: &[FileSystem], of: Of) -> String {
    let inodes = matches!(of, Of::Inodes | Of::HumanInodes);
    let head = match of {
        Of::Kibibytes => ["Filesystem", "Type", "1K-blocks", "Used", "Available", "Use%"],
        Of::Human => ["Filesystem", "Type", "Size", "Used", "Avail", "Use%"],
        Of::Inodes | Of::HumanInodes => ["Filesystem", "Type", "Inodes", "IUsed", "IFree", "IUse%"],
    };
    let shown = |value: Option<f64>| match value {
        None => NOTHING.to_owned(),
        Some(bytes) if of == Of::Kibibytes => format!("{:.0}", (bytes / 1024.0).ceil()),
        Some(count) if of == Of::Inodes => format!("{count:.0}"),
        Some(value) => short_bytes(value),
    };
    let row = |fs: &FileSystem| {
        let (size, free, available) = match inodes {
            true => (fs.inodes, fs.inodes_free, fs.inodes_free),
            false => (fs.size_bytes, fs.free_bytes, fs.available_bytes),
        };
        let used = size.zip(free).map(|(size, free)| (size - free).max(0.0));
        vec![safe(&fs.device), safe(&fs.fstype), shown(size), shown(used), shown(available), percent(used, available)]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    let points = all.iter().map(|fs| {
        let failed = if fs.failed == Some(true) { "  DID NOT ANSWER" } else { "" };
        let readonly = if fs.readonly == Some(true) { "  (read-only)" } else { "" };
        format!("{}{readonly}{failed}", safe(&fs.mountpoint))
    });
    let points = std::iter::once("Mounted on".to_owned()).chain(points);
    aligned(2, &head, &rows).lines().zip(points).map(|(line, point)| format!("{line} {point}\n")).collect()
}

/// Rounded up, as `df` does: of what a program may use, the part that is used. `None` where there is nothing.
fn percent(used: Option<f64>, available: Option<f64>) -> String {
    let whole = used.zip(available).map(|(used, available)| (used, used + available)).filter(|(_, whole)| *whole > 0.0);
    whole.map_or_else(|| NOTHING.to_owned(), |(used, whole)| format!("{:.0}%", (used * 100.0 / whole).ceil()))
}

#[cfg(test)]
mod tests {
    use super::super::made::{add, gauge, second, set};
    use super::*;
    use casefile_proto::sample::MetricKind;

    #[test]
    fn a_file_system_is_as_full_as_df_says_and_one_that_does_not_answer_has_no_numbers() {
        let mut set = set(60);
        let root = [("device", "/dev/vda"), ("mountpoint", "/"), ("fstype", "ext4")];
        let nfs = [("device", "store:/x"), ("mountpoint", "/mnt/\u{1b}[2J"), ("fstype", "nfs4")];
        gauge(&mut set, "node_filesystem_size_bytes", &root, 1_024_000.0);
        gauge(&mut set, "node_filesystem_free_bytes", &root, 512_000.0);
        gauge(&mut set, "node_filesystem_avail_bytes", &root, 409_600.0);
        gauge(&mut set, "node_filesystem_files", &root, 0.0);
        gauge(&mut set, "node_filesystem_files_free", &root, 0.0);
        gauge(&mut set, "node_filesystem_readonly", &root, 1.0);
        gauge(&mut set, "node_filesystem_device_error", &nfs, 1.0);
        add(&mut set, "node_filesystem_size_bytes", MetricKind::Gauge, &nfs, |n| (n == 0).then_some(5.0));
        let all = at(&set, second(60));
        assert_eq!((all.len(), all[1].size_bytes, all[1].failed), (2, None, Some(true)));
        let text = |of| text(&all, of);
        assert!(
            text(Of::Kibibytes).contains("/dev/vda   ext4      1000  500       400  56% /  (read-only)\n"),
            "{}",
            text(Of::Kibibytes)
        );
        assert!(text(Of::Human).contains("1000K 500K  400K  56% /"), "{}", text(Of::Human));
        assert!(text(Of::Inodes).contains("0     0     0     - /"), "{}", text(Of::Inodes));
        assert!(text(Of::Human).contains("-    -     -    - /mnt/\\u{1b}[2J  DID NOT ANSWER"), "{}", text(Of::Human));
    }
}
