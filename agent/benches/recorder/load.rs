//! The load: sleeping children made by running this program again, some of them a little busy, and cgroups around them
//! where that is permitted. All of it goes when the bench does.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Tells a child what it is: `sleep` or `busy`.
const ROLE: &str = "CASEFILE_BENCH_CHILD";

/// Of each cgroup a recorder reads about this many files: cpu, memory, io, pids.
const FILES_A_CGROUP: usize = 4;

/// The children and cgroups of one run.
pub(crate) struct Load {
    children: Vec<Child>,
    cgroups: Vec<PathBuf>,
    busy: usize,
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (children, cgroups) = (self.children.len(), self.cgroups.len());
        write!(f, "{children} processes, {} of them a little busy, {cgroups} cgroups made", self.busy)?;
        let all = std::fs::read_dir("/proc").map_or(0, |d| {
            let pid = |e: &std::fs::DirEntry| e.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit());
            d.flatten().filter(pid).count()
        });
        write!(f, "; {all} processes on the machine")
    }
}

/// In a child: sleeps until it is killed, or until its parent is gone.
pub(crate) fn be_a_child_if_told() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let parent = rustix::process::getppid();
    loop {
        std::thread::sleep(if role == "busy" { Duration::from_millis(500) } else { Duration::from_secs(60) });
        if rustix::process::getppid() != parent {
            std::process::exit(0);
        }
        let until = Instant::now() + Duration::from_micros(300);
        while role == "busy" && Instant::now() < until {
            std::hint::spin_loop();
        }
    }
}

/// Where cgroups can be made: the one tree of v2, or those of the controllers that are read on v1.
fn roots() -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    if top.join("cgroup.controllers").exists() {
        return vec![top.to_owned()];
    }
    ["memory", "cpu", "pids", "blkio"].iter().map(|controller| top.join(controller)).filter(|d| d.exists()).collect()
}

impl Load {
    pub(crate) fn start(processes: usize, busy: usize, cgroup_files: usize) -> anyhow::Result<Self> {
        let this = std::env::current_exe()?;
        let mut load = Self { children: vec![], cgroups: vec![], busy: busy.min(processes) };
        for number in 0..processes {
            let role = if number < busy { "busy" } else { "sleep" };
            let child =
                Command::new(&this).env_clear().env(ROLE, role).stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
            load.children.push(child);
        }
        for number in 0..cgroup_files / FILES_A_CGROUP {
            for root in roots() {
                let dir = root.join(format!("casefile-bench-{}-{number}", std::process::id()));
                if std::fs::create_dir(&dir).is_err() {
                    continue;
                }
                if let Some(child) = load.children.get(number) {
                    // An empty cgroup is worth as much to the bench.
                    let _ = std::fs::write(dir.join("cgroup.procs"), child.id().to_string());
                }
                load.cgroups.push(dir);
            }
        }
        Ok(load)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
        }
        for child in &mut self.children {
            let _ = child.wait();
        }
        for dir in &self.cgroups {
            if let Err(error) = std::fs::remove_dir(dir) {
                eprintln!("{}: {error}", dir.display());
            }
        }
    }
}
