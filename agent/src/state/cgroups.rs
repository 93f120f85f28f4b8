//! The cgroup trees: what is in every cgroup, what it may use and what it uses, as the kernel's files say it.
//!
//! A limit that is not there stays the word `max` here: a table shows what is configured, also where that is nothing.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use casefile_proto::gap::{Gap, GapReason};
use serde::Serialize;

use super::rows::{Rows, optional};
use super::{StateSpec, Table};
use crate::cgroups::{Controller, Layout, MOUNT};
use crate::host::{EntryKind, Host};
use crate::lossy;
use crate::text;

/// The table.
pub(super) const SPEC: StateSpec = StateSpec {
    name: "cgroups",
    about: "every cgroup of every hierarchy with its processes, limits and use, from /sys/fs/cgroup",
    file: "state/cgroups.jsonl",
    write,
};

/// Rows; on v1 there is one for each controller of a cgroup.
const MAX_ROWS: u64 = 16_384;

/// Directories that wait to be looked at: depth first, so this is depth times breadth.
const MAX_WAITING: usize = 16_384;

/// How deep.
const MAX_DEPTH: usize = 32;

/// Pids that a row names; the others are counted.
const MAX_PIDS: usize = 64;

/// Some processes of a cgroup: a pid and a line end each.
const PROCS_CAP: usize = 1 << 20;

const V2_FILES: &[&str] = &[
    "cgroup.controllers",
    "cgroup.events",
    "cgroup.freeze",
    "cgroup.type",
    "cpu.max",
    "cpu.weight",
    "cpuset.cpus.effective",
    "cpuset.mems.effective",
    "io.max",
    "memory.current",
    "memory.events",
    "memory.high",
    "memory.low",
    "memory.max",
    "memory.min",
    "memory.oom.group",
    "memory.swap.current",
    "memory.swap.max",
    "pids.current",
    "pids.max",
];

const fn v1_files(controller: Controller) -> &'static [&'static str] {
    match controller {
        Controller::Memory => &[
            "memory.failcnt",
            "memory.limit_in_bytes",
            "memory.max_usage_in_bytes",
            "memory.memsw.limit_in_bytes",
            "memory.oom_control",
            "memory.soft_limit_in_bytes",
            "memory.usage_in_bytes",
        ],
        Controller::Cpu => &["cpu.cfs_period_us", "cpu.cfs_quota_us", "cpu.shares"],
        Controller::CpuAcct => &["cpuacct.usage"],
        Controller::Pids => &["pids.current", "pids.max"],
        Controller::Blkio => &["blkio.throttle.read_bps_device", "blkio.throttle.write_bps_device"],
    }
}

#[derive(Serialize)]
struct Row<'a> {
    /// From the root of the hierarchy.
    path: String,
    /// `unified` for v2, else the controllers.
    hierarchy: &'a str,
    /// Processes in it, not those below it. Absent for a cgroup of threads, which has none of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    processes: Option<usize>,
    /// Their pids, as the agent sees them, at most 64: in a container it sees its own only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pids: Vec<i64>,
    /// Files by name, as the kernel writes them; what this cgroup does not have is absent.
    values: BTreeMap<&'static str, String>,
}

/// One hierarchy to walk.
struct Hierarchy {
    name: String,
    root: PathBuf,
    files: Vec<&'static str>,
}

fn write(host: &Host, out: &mut dyn Write) -> std::io::Result<Table> {
    let mut rows = Rows::new(out, MAX_ROWS);
    match Layout::find(host) {
        None => rows.gap(Gap::new(GapReason::SourceAbsent, format!("there is no cgroup hierarchy below /{MOUNT}"))),
        Some(layout) => {
            for hierarchy in hierarchies(&layout) {
                walk(host, &hierarchy, &mut rows)?;
            }
        }
    }
    Ok(rows.end())
}

/// Each directory once: on most v1 machines cpu and cpuacct are one.
fn hierarchies(layout: &Layout) -> Vec<Hierarchy> {
    let unified =
        |root: &Path| Hierarchy { name: "unified".to_owned(), root: root.to_owned(), files: V2_FILES.to_vec() };
    match layout {
        Layout::V2(root) => vec![unified(root)],
        Layout::V1 { controllers, unified: v2 } => {
            let mut found: Vec<Hierarchy> = Vec::new();
            for (controller, root) in controllers {
                match found.iter_mut().find(|h| h.root == *root) {
                    Some(same) => {
                        same.name = format!("{},{}", same.name, controller.name());
                        same.files.extend(v1_files(*controller));
                    }
                    None => found.push(Hierarchy {
                        name: controller.name().to_owned(),
                        root: root.clone(),
                        files: v1_files(*controller).to_vec(),
                    }),
                }
            }
            found.extend(v2.as_deref().map(unified));
            found
        }
    }
}

fn walk(host: &Host, hierarchy: &Hierarchy, rows: &mut Rows<'_>) -> std::io::Result<()> {
    let mut waiting = vec![PathBuf::new()];
    let mut cut = 0u64;
    let mut buf = Vec::new();
    while let Some(path) = waiting.pop() {
        let full = hierarchy.root.join(&path);
        let mut below = Vec::new();
        let listed = host.dir(&full).and_then(|mut dir| {
            dir.each(&mut |name, kind| {
                if kind == EntryKind::Dir {
                    below.push(path.join(name));
                }
            })
        });
        match listed {
            Ok(()) => {}
            // Removed since its parent was listed: no longer there is not missing.
            Err(error) if error.is_not_found() => continue,
            Err(error) => rows.unreadable(&error),
        }
        // Rows come in order of path, whatever order the kernel lists in.
        below.sort_unstable();
        if path.components().count() >= MAX_DEPTH {
            cut += u64::try_from(below.len()).unwrap_or(u64::MAX);
            below.clear();
        }
        let room = MAX_WAITING.saturating_sub(waiting.len());
        cut += u64::try_from(below.len().saturating_sub(room)).unwrap_or(u64::MAX);
        below.truncate(room);
        waiting.extend(below.into_iter().rev());
        let row = describe(host, hierarchy, &path, &full, &mut buf, rows);
        rows.row(&row)?;
    }
    if cut > 0 {
        let why = format!("cgroups of {} that are too deep or too many", hierarchy.name);
        rows.gap(Gap::new(GapReason::Budget, why).counting(cut));
    }
    Ok(())
}

fn describe<'a>(
    host: &Host,
    hierarchy: &'a Hierarchy,
    path: &Path,
    full: &Path,
    buf: &mut Vec<u8>,
    rows: &mut Rows<'_>,
) -> Row<'a> {
    let (mut processes, mut pids) = (None, Vec::new());
    match host.read(full.join("cgroup.procs"), buf, PROCS_CAP) {
        Ok(()) => {
            let lines = text::lines(buf).flatten().filter_map(|line| text::number(line).ok());
            let mut count = 0;
            for pid in lines {
                count += 1;
                // A process of another pid namespace is a zero: it is counted, and has no number here.
                if pid != 0 && pids.len() < MAX_PIDS {
                    pids.push(pid);
                }
            }
            processes = Some(count);
        }
        Err(error) if error.is_not_found() || error.is_unsupported() => {}
        Err(error) => rows.unreadable(&error),
    }
    let mut values = BTreeMap::new();
    for name in &hierarchy.files {
        // A path that is no UTF-8 cannot be written down as text, and is not asked further.
        let Some(file) = full.join(name).to_str().map(str::to_owned) else { continue };
        if let Some(value) = optional(host, &file, buf, rows) {
            values.insert(*name, value);
        }
    }
    let mut shown = String::from("/");
    shown.push_str(&lossy::capped(path.as_os_str().as_encoded_bytes(), super::rows::MAX_TEXT));
    Row { path: shown, hierarchy: &hierarchy.name, processes, pids, values }
}
