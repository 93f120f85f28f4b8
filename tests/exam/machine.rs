//! Where and when an exam was run: what a figure is worth without it is little.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

/// Machine, build and moment.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    /// RFC 3339, UTC.
    pub(crate) date: String,
    /// CPUs that this process may use.
    pub(crate) cores: usize,
    /// What the CPU calls itself.
    pub(crate) cpu: String,
    /// Kernel name and release.
    pub(crate) kernel: String,
    /// Memory in MiB; `None`: not told.
    pub(crate) memory_mib: Option<u64>,
    /// The commit that was built, with a mark when the tree is changed; `None`: not known here.
    pub(crate) commit: Option<String>,
    /// `release` or `debug`.
    pub(crate) build: &'static str,
    /// The command line.
    pub(crate) command: String,
}

impl Machine {
    /// This one, now.
    pub(crate) fn here() -> Self {
        let told =
            |path: &str| std::fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            line.split_once(':').map(|(_, value)| value.trim().to_owned())
        };
        let kernel = rustix::system::uname();
        let memory = field(&told("/proc/meminfo"), "MemTotal");
        Self {
            date: casefile_tests::now().to_string(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            cpu: field(&told("/proc/cpuinfo"), "model name").unwrap_or_else(|| "not told".to_owned()),
            kernel: format!("{} {}", kernel.sysname().to_string_lossy(), kernel.release().to_string_lossy()),
            memory_mib: memory.and_then(|m| m.split(' ').next()?.parse::<u64>().ok()).map(|kib| kib / 1024),
            commit: commit(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
        }
    }

    /// For machines.
    pub(crate) fn json(&self) -> Value {
        json!({
            "date": self.date,
            "cores": self.cores,
            "cpu": self.cpu,
            "kernel": self.kernel,
            "memory_mib": self.memory_mib,
            "commit": self.commit,
            "build": self.build,
            "command": self.command,
        })
    }
}

fn commit() -> Option<String> {
    let git = |args: &[&str]| {
        #[expect(clippy::disallowed_methods, reason = "git, asked what was built")]
        let output =
            std::process::Command::new("git").args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changed.is_empty() { commit } else { format!("{commit}, changed") })
}

/// Lets this process open as many files as it may; how many that are. Programs that it starts inherit it.
pub(crate) fn raise_descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // Where it may not be raised, it is as it was.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
