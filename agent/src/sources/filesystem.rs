//! How full each file system is, whether it can be written to, and whether it answers at all: the mounts of process 1
//! and `statfs` of each, on threads that can be given up.
//!
//! File systems that hold no data of anybody's (proc, sysfs, cgroup, overlays of containers, …) are left out, and one
//! that is mounted many times is asked once. Which are chosen is in `mounts`, how a mount is asked in `ask`.

mod ask;
pub(super) mod mounts;

use std::time::{Duration, Instant};

use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::sample::MetricSpec;
use casefile_proto::units::{Scale, Unit};

use super::kept::{Found, Kept, unreadable};
use super::spec::{gauge, level, named};
use super::{Measurement, Opened, Source, SourceError, SourceSpec};
use crate::host::Host;
use crate::text::Unparsed;
use ask::{Answer, Asker, Space, below_root};
use mounts::Mount;

/// The source.
pub static SPEC: SourceSpec = SourceSpec {
    name: "filesystem",
    about: "space, inodes and state of each mounted file system, and mounts that do not answer, from /proc/1/mountinfo and statfs",
    every: Duration::from_secs(10),
    deadline: Duration::from_secs(6),
    metrics: &METRICS,
    open,
};

const LABELS: &[&str] = &["device", "mountpoint", "fstype"];

static METRICS: [MetricSpec; 8] = [
    gauge("node_filesystem_size_bytes", "size (statfs)", Unit::Bytes, Scale::ONE, LABELS),
    gauge(
        "node_filesystem_free_bytes",
        "free, the part kept for root included (statfs)",
        Unit::Bytes,
        Scale::ONE,
        LABELS,
    ),
    gauge(
        "node_filesystem_avail_bytes",
        "free for programs without privilege (statfs)",
        Unit::Bytes,
        Scale::ONE,
        LABELS,
    ),
    level("node_filesystem_files", "inodes; file systems that make them as needed say 0 (statfs)", LABELS),
    level("node_filesystem_files_free", "free inodes (statfs)", LABELS),
    level(
        "node_filesystem_readonly",
        "1 if mounted read-only, by the mount or by the file system itself (/proc/1/mountinfo)",
        LABELS,
    ),
    level(
        "node_filesystem_device_error",
        "1 if the file system could not be asked or did not answer in time (statfs)",
        LABELS,
    ),
    level("casefile_filesystem_stuck_mounts", "mounts that have not answered yet, each of which holds a thread", &[]),
];

const SIZE: &MetricSpec = named(&METRICS, "node_filesystem_size_bytes");
const FREE: &MetricSpec = named(&METRICS, "node_filesystem_free_bytes");
const AVAILABLE: &MetricSpec = named(&METRICS, "node_filesystem_avail_bytes");
const FILES: &MetricSpec = named(&METRICS, "node_filesystem_files");
const FILES_FREE: &MetricSpec = named(&METRICS, "node_filesystem_files_free");
const READONLY: &MetricSpec = named(&METRICS, "node_filesystem_readonly");
const ERROR: &MetricSpec = named(&METRICS, "node_filesystem_device_error");
const STUCK: &MetricSpec = named(&METRICS, "casefile_filesystem_stuck_mounts");

/// About 200 bytes a mount; a node with 250 pods has some thousands.
const MAX_MOUNTINFO: usize = 8 << 20;
/// File systems that are asked at one measurement; the rest are a declared gap.
const MAX_ASKED: usize = 128;
/// A file system that takes longer than this counts as stuck until it answers.
const PATIENCE: Duration = Duration::from_secs(1);
/// All of them together, so that the measurement ends before its deadline.
const PASS: Duration = Duration::from_secs(4);

fn open(host: &Host) -> Result<Opened, SourceError> {
    let mountinfo = Kept::new("proc/1/mountinfo", MAX_MOUNTINFO);
    Ok(Opened::Ready(Box::new(Filesystem {
        asker: Asker::new(below_root(host.root())),
        host: host.clone(),
        mountinfo,
        buf: Vec::new(),
    })))
}

struct Filesystem {
    host: Host,
    mountinfo: Kept,
    asker: Asker,
    buf: Vec<u8>,
}

impl Source for Filesystem {
    fn measure(&mut self, out: &mut Measurement) -> Result<(), SourceError> {
        match self.mountinfo.read(&self.host, &mut self.buf) {
            Ok(Found::Read) => {}
            Ok(Found::Missing) => {
                let why = "/proc/1/mountinfo is not there: process 1 is hidden from the agent (hidepid)";
                out.gap(Gap::new(GapReason::PermissionDenied, why));
                return Ok(());
            }
            Err(error) => {
                out.gap(unreadable(&error));
                return Ok(());
            }
        }
        let mut bad = Unparsed::default();
        let all: Vec<Mount> = mounts::parse(&self.buf).filter_map(|mount| bad.keep(mount)).collect();
        if all.is_empty() {
            bad.lacks("mount, not even that of the root");
        }
        bad.gap(self.mountinfo.path()).into_iter().for_each(|gap| out.gap(gap));
        let mut chosen = mounts::choose(all);
        let beyond = chosen.len().saturating_sub(MAX_ASKED);
        if beyond > 0 {
            chosen.truncate(MAX_ASKED);
            let why = format!("more than {MAX_ASKED} file systems are mounted; the others are not asked");
            out.gap(Gap::new(GapReason::Budget, why).counting(beyond as u64));
        }
        if self.host.is_live() {
            self.pass(&chosen, out);
        } else {
            // What is below the root of a fixture tree is a part of this machine's own disk.
            chosen.iter().for_each(|mount| readonly(mount, out));
            out.gap(Gap::new(GapReason::SourceAbsent, "the file systems of a machine that is not running here"));
        }
        Ok(())
    }
}

impl Filesystem {
    fn pass(&mut self, mounts: &[Mount], out: &mut Measurement) {
        let mut invisible = Vec::new();
        let mut not_asked = 0_u64;
        self.asker.collect_late();
        let until = Instant::now() + PASS;
        for mount in mounts {
            readonly(mount, out);
            let labels = [&*mount.device, &*mount.point_text, &*mount.fstype];
            let patience = until.saturating_duration_since(Instant::now()).min(PATIENCE);
            let answer = if patience.is_zero() { Answer::NotAsked } else { self.asker.ask(mount, patience) };
            let error = match &answer {
                Answer::Space(space) => {
                    emit(space, &labels, out);
                    0
                }
                Answer::NotVisible => {
                    invisible.push(&*mount.point_text);
                    continue;
                }
                Answer::NotAsked => {
                    not_asked += 1;
                    continue;
                }
                Answer::Stuck { for_how_long } => {
                    let secs = for_how_long.as_secs();
                    let why = format!("{} ({}) has not answered statfs for {secs} s", mount.point_text, mount.fstype);
                    out.gap(Gap::new(GapReason::TimedOut, why));
                    1
                }
                Answer::Failed(error) => {
                    let denied = error.kind() == std::io::ErrorKind::PermissionDenied;
                    let reason = if denied { GapReason::PermissionDenied } else { GapReason::SourceFailed };
                    out.gap(Gap::new(reason, format!("statfs of {}: {error}", mount.point_text)));
                    1
                }
            };
            out.reading(ERROR, &labels, error);
        }
        out.reading(STUCK, &[], i64::try_from(self.asker.stuck()).unwrap_or(i64::MAX));
        if not_asked > 0 {
            let why = "file systems were not asked: others took all the time or all the threads";
            out.gap(Gap::new(GapReason::TimedOut, why).counting(not_asked));
        }
        if !invisible.is_empty() {
            // A container without mount propagation sees what lies under the mount instead: those would be the wrong numbers.
            let why = format!(
                "mounts of the host that are not to be seen below {}: {}",
                self.host.root().display(),
                invisible.join(", ")
            );
            out.gap(Gap::new(GapReason::SourceFailed, why).counting(invisible.len() as u64));
        }
    }
}

/// Said by the list of mounts: known whether or not the file system answers.
fn readonly(mount: &Mount, out: &mut Measurement) {
    let labels = [&*mount.device, &*mount.point_text, &*mount.fstype];
    out.reading(READONLY, &labels, i64::from(mount.readonly));
}

fn emit(space: &Space, labels: &[&str], out: &mut Measurement) {
    let bytes = |blocks: u64| blocks.checked_mul(space.block_size).and_then(|bytes| i64::try_from(bytes).ok());
    let mut beyond = false;
    for (metric, value) in [
        (SIZE, bytes(space.blocks)),
        (FREE, bytes(space.free)),
        (AVAILABLE, bytes(space.available)),
        (FILES, i64::try_from(space.files).ok()),
        (FILES_FREE, i64::try_from(space.files_free).ok()),
    ] {
        match value {
            Some(value) => out.reading(metric, labels, value),
            None => beyond = true,
        }
    }
    if beyond {
        // Some network file systems answer with all bits set for "as much as you like".
        out.gap(Gap::new(GapReason::ParseFailed, format!("statfs of {}: a number beyond 63 bits", labels[1])));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn this_machine_says_how_large_its_root_is() {
        let host = Host::new(Path::new("/")).unwrap();
        let Ok(Opened::Ready(mut source)) = open(&host) else { panic!() };
        let mut out = Measurement::new(&METRICS);
        out.begin();
        source.measure(&mut out).unwrap();
        let mut sizes = 0;
        out.each(&mut |metric, labels, value| {
            if metric.name == SIZE.name {
                sizes += 1;
                assert!(value > 0 && !labels[1].is_empty(), "{labels:?} {value}");
            }
        });
        assert!(sizes > 0 || !out.gaps().is_empty());
    }

    #[test]
    fn numbers_beyond_63_bits_are_a_gap_and_the_others_stay() {
        let mut out = Measurement::new(&METRICS);
        out.begin();
        let space = Space { blocks: u64::MAX, free: 2, available: 1, block_size: 4096, files: 5, files_free: u64::MAX };
        emit(&space, &["d", "/m", "nfs"], &mut out);
        assert_eq!(out.find("node_filesystem_free_bytes", &["d", "/m", "nfs"]), Some(8192));
        assert_eq!(out.find("node_filesystem_size_bytes", &["d", "/m", "nfs"]), None);
        assert_eq!(out.gaps()[0].reason, GapReason::ParseFailed);
    }
}
