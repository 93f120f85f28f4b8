//! Where the cgroup hierarchies of a machine are: v1, v2 or both; and where the agent itself is in them.
//!
//! The 1 Hz source (`sources::cgroup`) and the state table walk the trees by themselves; no cgroup is read here but the
//! agent's own. Hierarchies are recognised by their files, not by mount tables, so that a tree mounted elsewhere
//! (`/host/sys/fs/cgroup`) or a fixture is recognised too.

use std::borrow::Cow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use casefile_proto::gap::{Gap, GapReason};

use crate::host::{EntryKind, Host};
use crate::pid::membership;
use crate::text;

/// Where cgroups are, below the host root.
pub const MOUNT: &str = "sys/fs/cgroup";

/// A v1 hierarchy that is of use here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Controller {
    /// Memory use, limits, out-of-memory kills.
    Memory,
    /// Quotas and throttling.
    Cpu,
    /// CPU time used.
    CpuAcct,
    /// Tasks.
    Pids,
    /// Block I/O.
    Blkio,
}

impl Controller {
    /// Every one, in the order in which one is preferred to walk the tree by: runtimes put every container into the first.
    pub const ALL: [Self; 5] = [Self::Memory, Self::Cpu, Self::CpuAcct, Self::Pids, Self::Blkio];

    /// The names that its directory may have: on most machines cpu and cpuacct are mounted together, and the single
    /// names are links to that.
    const fn directories(self) -> &'static [&'static str] {
        match self {
            Self::Memory => &["memory"],
            Self::Cpu => &["cpu,cpuacct", "cpuacct,cpu", "cpu"],
            Self::CpuAcct => &["cpu,cpuacct", "cpuacct,cpu", "cpuacct"],
            Self::Pids => &["pids"],
            Self::Blkio => &["blkio"],
        }
    }

    /// The kernel's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::CpuAcct => "cpuacct",
            Self::Pids => "pids",
            Self::Blkio => "blkio",
        }
    }
}

/// The hierarchies of one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// One hierarchy for everything, at this path.
    V2(PathBuf),
    /// One for each controller; never empty. Hybrid machines have a v2 hierarchy without controllers beside them.
    V1 {
        /// Those that are mounted, in the order of [`Controller::ALL`].
        controllers: Vec<(Controller, PathBuf)>,
        /// The v2 hierarchy of a hybrid machine: it has pressure figures.
        unified: Option<PathBuf>,
    },
}

impl Layout {
    /// Looks for the hierarchies of this machine; `None` when it has none.
    pub fn find(host: &Host) -> Option<Self> {
        let mount = Path::new(MOUNT);
        if host.keep(mount.join("cgroup.controllers")).is_ok() {
            return Some(Self::V2(mount.to_owned()));
        }
        let controllers: Vec<_> = Controller::ALL
            .into_iter()
            .filter_map(|controller| {
                let mut paths = controller.directories().iter().map(|name| mount.join(name));
                Some((controller, paths.find(|path| host.dir(path).is_ok())?))
            })
            .collect();
        let unified = Some(mount.join("unified")).filter(|path| host.keep(path.join("cgroup.controllers")).is_ok());
        match (controllers.is_empty(), unified) {
            (true, None) => None,
            // A v2 hierarchy in systemd's hybrid place with nothing beside it is still just v2.
            (true, Some(path)) => Some(Self::V2(path)),
            (false, unified) => Some(Self::V1 { controllers, unified }),
        }
    }

    /// The hierarchy whose directories are taken for the list of all cgroups.
    pub fn tree(&self) -> &Path {
        match self {
            Self::V2(path) => path,
            // Never empty, by construction; the mount itself would only be an empty tree.
            Self::V1 { controllers, .. } => controllers.first().map_or(Path::new(MOUNT), |(_, path)| path),
        }
    }

    /// Where a v1 controller is mounted.
    pub fn controller(&self, wanted: Controller) -> Option<&Path> {
        match self {
            Self::V2(_) => None,
            Self::V1 { controllers, .. } => controllers.iter().find(|(c, _)| *c == wanted).map(|(_, p)| p.as_path()),
        }
    }
}

/// How the paths in `/proc/PID/cgroup` are to be read: the kernel shows them relative to the *reader's* cgroup namespace,
/// and a container mostly has one of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Paths {
    /// As the machine has them.
    Machine,
    /// Relative to the agent's own cgroup, which is this.
    Below(Vec<u8>),
    /// Relative to the agent's own cgroup, which was not found: they stay as they are, with `/..` in front.
    Relative,
}

impl Paths {
    /// Finds out from where pid 1 is: that is never inside of a container's namespace but for its own processes.
    pub fn find(host: &Host) -> Self {
        let mut buf = Vec::new();
        let leaves = host.read("proc/1/cgroup", &mut buf, PROCS_CAP).is_ok()
            && membership::parse(&buf).is_some_and(membership::leaves_namespace);
        if !leaves {
            return Self::Machine;
        }
        let own = Layout::find(host).and_then(|layout| find_own(host, &layout, std::process::id()));
        own.map_or(Self::Relative, Self::Below)
    }

    /// The path as the machine has it, where that can be told.
    pub fn of_machine<'a>(&self, path: &'a [u8]) -> Cow<'a, [u8]> {
        match self {
            Self::Machine | Self::Relative => Cow::Borrowed(path),
            Self::Below(own) => Cow::Owned(membership::from_namespace(own, path)),
        }
    }

    /// What is not known of the paths.
    pub fn gap(&self) -> Option<Gap> {
        let why = "cgroups of processes are relative to the agent's own cgroup, and that was not found";
        (*self == Self::Relative).then(|| Gap::new(GapReason::SourceFailed, why))
    }
}

/// The most cgroups that are looked at to find the agent's own.
const OWN_SEARCH_MAX: usize = 8192;

/// `cgroup.procs` of the agent's own cgroup is small; of any other it need not be read further.
const PROCS_CAP: usize = 64 * 1024;

/// The path of the cgroup that `pid` (as the reader calls itself) is in, found by looking into the tree.
///
/// The tree below the host root has no namespace, and seen from a container's pid namespace the `cgroup.procs` of all other
/// containers name only zeros: the number is found once, or not at all.
fn find_own(host: &Host, layout: &Layout, pid: u32) -> Option<Vec<u8>> {
    let mut left = vec![PathBuf::new()];
    let mut buf = Vec::new();
    let mut looked = 0;
    while let Some(path) = left.pop() {
        looked += 1;
        if looked > OWN_SEARCH_MAX {
            return None;
        }
        let full = layout.tree().join(&path);
        let read = host.read(full.join("cgroup.procs"), &mut buf, PROCS_CAP);
        if read.is_ok() && text::lines(&buf).flatten().any(|line| text::number(line) == Ok(i64::from(pid))) {
            return Some([b"/", path.as_os_str().as_bytes()].concat());
        }
        // A cgroup that vanished meanwhile was not the agent's.
        if let Ok(mut dir) = host.dir(&full) {
            let _ = dir.each(&mut |name, kind| {
                if kind == EntryKind::Dir && left.len() < OWN_SEARCH_MAX {
                    left.push(path.join(name));
                }
            });
        }
    }
    None
}
