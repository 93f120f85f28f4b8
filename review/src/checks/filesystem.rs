//! File systems: full or about to be, out of inodes, read-only all of a sudden, mounts that do not answer.

use std::collections::BTreeMap;

use super::CheckSpec;
use super::facts::{Need, NodeFacts};
use super::oom::size;
use super::spans::line;
use super::threshold::{percent, share};
use crate::finding::{Confidence, Finding, Severity};
use crate::seriesset::OneSeries;

/// The checks of this file.
pub const CHECKS: &[CheckSpec] = &[
    CheckSpec {
        id: "fs.space",
        title: "A file system is full or about to be",
        needs: &[Need::Readings("filesystem")],
        metrics: &["node_filesystem_avail_bytes", "node_filesystem_size_bytes"],
        examine: space,
    },
    CheckSpec {
        id: "fs.inodes",
        title: "A file system has hardly any inodes left",
        needs: &[Need::Readings("filesystem")],
        metrics: &["node_filesystem_files", "node_filesystem_files_free"],
        examine: inodes,
    },
    CheckSpec {
        id: "fs.remounted",
        title: "A file system became read-only",
        needs: &[Need::Readings("filesystem")],
        metrics: &["node_filesystem_readonly"],
        examine: remounted,
    },
    CheckSpec {
        id: "fs.stuck",
        title: "A mount does not answer",
        needs: &[Need::Readings("filesystem")],
        metrics: &["casefile_filesystem_stuck_mounts", "node_filesystem_device_error"],
        examine: stuck,
    },
];

/// What node-mixin's NodeFilesystemAlmostOutOfSpace warns of and calls critical.
const WARN: f64 = 0.05;
const CRITICAL: f64 = 0.03;

/// So straight, and full in less than so many seconds: node-mixin's critical horizon.
const STRAIGHT: f64 = 0.9;
const HORIZON: f64 = 4.0 * 3600.0;

/// Kinds of file systems that are full by nature, or that have no disk of their own.
const NO_DISK: [&str; 9] = ["squashfs", "iso9660", "erofs", "udf", "cramfs", "overlay", "tmpfs", "devtmpfs", "ramfs"];

/// File systems with a disk, each device once, at its shortest mount point: a bind mount is no second disk.
fn disks<'s>(facts: &'s NodeFacts<'_>, metric: &'s str) -> Vec<&'s OneSeries> {
    let mut by_device: BTreeMap<&str, &OneSeries> = BTreeMap::new();
    for series in facts.set.of(metric) {
        let (Some(device), Some(kind)) = (series.label("device"), series.label("fstype")) else { continue };
        if NO_DISK.contains(&kind) {
            continue;
        }
        let at = |series: &OneSeries| series.label("mountpoint").map_or(0, str::len);
        let kept = by_device.entry(device).or_insert(series);
        if at(series) < at(kept) {
            *kept = series;
        }
    }
    by_device.into_values().collect()
}

fn beside<'s>(facts: &'s NodeFacts<'_>, series: &OneSeries, metric: &str) -> Option<&'s OneSeries> {
    facts.set.of(metric).find(|other| other.labels == series.labels)
}

fn is_readonly(facts: &NodeFacts<'_>, series: &OneSeries) -> bool {
    beside(facts, series, "node_filesystem_readonly")
        .and_then(|readonly| readonly.values.first())
        .is_some_and(|value| value.value > 0.0)
}

fn space(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let one = |avail: &OneSeries| {
        // An image that was made full was never meant to be written to.
        if is_readonly(facts, avail) {
            return None;
        }
        let size_of = beside(facts, avail, "node_filesystem_size_bytes")?;
        let shares = share(facts, avail, size_of);
        let (begin, _) = *shares.first()?;
        let (end, last) = *shares.last()?;
        let (at, least) = shares.iter().copied().reduce(|a, b| if b.1 < a.1 { b } else { a })?;
        let mount = avail.label("mountpoint")?;
        let bytes = facts.timed(&avail.values);
        let falls = line(&bytes).filter(|(slope, fit)| *slope < 0.0 && *fit >= STRAIGHT);
        let left = bytes.last()?.1;
        let total = size_of.values.last()?.value;
        // Noise on a large disk is a straight line now and then: it must have taken a hundredth of the disk.
        let taken = bytes.first()?.1 - left;
        let eta = falls.map(|(slope, _)| left / -slope).filter(|eta| *eta < HORIZON && taken > total * 0.01);
        let (severity, text) = if least < CRITICAL {
            (Severity::Error, format!("{mount} had {} ({}) left at the least", size(least * total), percent(least)))
        } else if least < WARN {
            (Severity::Warning, format!("{mount} had {} ({}) left at the least", size(least * total), percent(least)))
        } else if let Some(eta) = eta {
            (
                Severity::Warning,
                format!(
                    "{mount} fills on a straight line: full in {:.0} min at that rate, {} left",
                    eta / 60.0,
                    percent(last)
                ),
            )
        } else {
            return None;
        };
        let mut finding = facts.finding("fs.space", severity, Confidence::Medium, text.clone());
        (finding.first, finding.last) = (Some(if eta.is_some() { begin } else { at }), Some(end));
        finding.subject = Some(mount.to_owned());
        finding.evidence = vec![facts.series(avail, begin, end, left, text)];
        Some(finding)
    };
    disks(facts, "node_filesystem_avail_bytes").into_iter().filter_map(one).collect()
}

fn inodes(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let one = |free: &OneSeries| {
        if is_readonly(facts, free) {
            return None;
        }
        let all = beside(facts, free, "node_filesystem_files")?;
        let shares = share(facts, free, all);
        let (at, least) = shares.iter().copied().reduce(|a, b| if b.1 < a.1 { b } else { a })?;
        let severity = if least < CRITICAL { Severity::Error } else { Severity::Warning };
        if least >= WARN {
            return None;
        }
        let mount = free.label("mountpoint")?;
        let text = format!("{mount} had {} of its inodes left at the least", percent(least));
        let mut finding = facts.finding("fs.inodes", severity, Confidence::Medium, text.clone());
        (finding.first, finding.last) = (Some(at), shares.last().map(|last| last.0));
        finding.subject = Some(mount.to_owned());
        finding.evidence = vec![facts.series(free, shares.first()?.0, shares.last()?.0, least, text)];
        Some(finding)
    };
    disks(facts, "node_filesystem_files_free").into_iter().filter_map(one).collect()
}

fn remounted(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let one = |series: &OneSeries| {
        let values = facts.timed(&series.values);
        let change = values.windows(2).find(|pair| pair[0].1 == 0.0 && pair[1].1 > 0.0)?;
        let (mount, at, last) = (series.label("mountpoint")?, change[1].0, values.last()?);
        let back = if last.1 == 0.0 { ", and can be written to again" } else { "" };
        let text = format!("{mount} became read-only{back}");
        let severity = if last.1 == 0.0 { Severity::Error } else { Severity::Fatal };
        let mut finding = facts.finding("fs.remounted", severity, Confidence::High, text.clone());
        (finding.first, finding.last) = (Some(at), Some(last.0));
        finding.subject = Some(mount.to_owned());
        finding.meaning = Some(
            "the kernel does so when it can no longer trust what it writes; somebody may also have asked for it"
                .to_owned(),
        );
        finding.now = Some("stop what writes there, look for the errors of its disk before it, and check it before it is mounted again".to_owned());
        finding.evidence = vec![facts.series(series, change[0].0, last.0, 1.0, text)];
        Some(finding)
    };
    facts.set.of("node_filesystem_readonly").filter_map(one).collect()
}

fn stuck(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for series in facts.set.of("casefile_filesystem_stuck_mounts") {
        let stuck: Vec<_> = facts.timed(&series.values).into_iter().filter(|(_, mounts)| *mounts > 0.0).collect();
        let (Some(first), Some(last)) = (stuck.first(), stuck.last()) else { continue };
        let most = stuck.iter().map(|s| s.1).fold(0.0, f64::max);
        let text = format!("{most:.0} mounts did not answer");
        let mut finding = facts.finding("fs.stuck", Severity::Error, Confidence::High, text.clone());
        (finding.first, finding.last, finding.count) = (Some(first.0), Some(last.0), stuck.len() as u64);
        finding.now = Some("look for the server or disk behind it; processes that touch it stay in state D".to_owned());
        finding.evidence = vec![facts.series(series, first.0, last.0, most, text)];
        let which = facts.set.of("node_filesystem_device_error").filter(|s| s.values.iter().any(|v| v.value > 0.0));
        for error in which.take(4) {
            let mount = error.label("mountpoint").unwrap_or_default();
            let (Some(from), Some(until)) = (error.values.first(), error.values.last()) else { continue };
            let text = format!("{mount} could not be asked");
            finding.evidence.push(facts.series(error, facts.set.at(*from), facts.set.at(*until), 1.0, text));
            finding.subject.get_or_insert_with(|| mount.to_owned());
        }
        found.push(finding);
    }
    found
}
