//! The peers: other recorders over the same machine in the same minutes, measured by the kernel's own accounting.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::Context;

/// What a recorder costs.
pub(crate) struct Figures {
    pub(crate) name: String,
    pub(crate) cpu_percent: f64,
    pub(crate) resident_kib: u64,
    pub(crate) bytes_a_day: f64,
}

/// A recorder that runs beside ours.
pub(crate) struct Peer {
    name: &'static str,
    child: Child,
    file: PathBuf,
    began: Option<(Instant, u64, u64)>,
}

/// Those that are installed, recording into `dir` once a second.
pub(crate) fn start(dir: &Path) -> anyhow::Result<Vec<Peer>> {
    let mut peers = vec![];
    let mut add = |name: &'static str, program: &str, args: &[&str], file: PathBuf| -> anyhow::Result<()> {
        let child =
            Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        match child {
            Ok(child) => peers.push(Peer { name, child, file, began: None }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => println!("{name} is not installed"),
            Err(error) => return Err(error).context(name),
        }
        Ok(())
    };
    let atop = dir.join("atop.raw");
    add("atop", "atop", &["-w", &atop.to_string_lossy(), "1"], atop.clone())?;
    let sa = dir.join("sa.raw");
    let sadc = ["/usr/lib/sysstat/sadc", "/usr/lib64/sa/sadc", "/usr/lib/sa/sadc"];
    let sadc = sadc.into_iter().find(|p| Path::new(p).exists()).unwrap_or("sadc");
    add("sadc", sadc, &["-S", "ALL", "1", &sa.to_string_lossy()], sa.clone())?;
    Ok(peers)
}

impl Peer {
    pub(crate) fn begin(&mut self) -> anyhow::Result<()> {
        self.began = Some((Instant::now(), cpu_nanos(self.child.id())?, size_of(&self.file)?));
        Ok(())
    }

    pub(crate) fn end(&mut self) -> anyhow::Result<Figures> {
        let (at, cpu, size) = self.began.context("it was not begun")?;
        let wall = at.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "figures for people")]
        let (cpu, grown) =
            ((cpu_nanos(self.child.id())? - cpu) as f64 / 1e9, (size_of(&self.file)?.saturating_sub(size)) as f64);
        Ok(Figures {
            name: self.name.to_owned(),
            cpu_percent: 100.0 * cpu / wall,
            resident_kib: resident_kib(self.child.id())?,
            bytes_a_day: grown / wall * 86_400.0,
        })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time of all threads, in nanoseconds: the first field of `schedstat`, where `stat` has hundredths only.
fn cpu_nanos(pid: u32) -> anyhow::Result<u64> {
    let mut sum = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        sum += text.split(' ').next().context("an empty schedstat")?.parse::<u64>()?;
    }
    Ok(sum)
}

/// Context switches of all threads of this process, asked for and not.
pub(crate) fn context_switches() -> anyhow::Result<u64> {
    let mut sum = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let status = std::fs::read_to_string(task?.path().join("status"))?;
        let counts =
            status.lines().filter_map(|l| l.split_once("_ctxt_switches:")).map(|(_, n)| n.trim().parse::<u64>());
        sum += counts.sum::<Result<u64, _>>()?;
    }
    Ok(sum)
}

pub(crate) fn resident_kib(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Bytes of a file, or of all files in a directory; 0 for what is not there yet.
pub(crate) fn size_of(path: &Path) -> anyhow::Result<u64> {
    let Ok(meta) = path.metadata() else { return Ok(0) };
    if !meta.is_dir() {
        return Ok(meta.len());
    }
    let mut sum = 0;
    for entry in std::fs::read_dir(path)? {
        sum += size_of(&entry?.path())?;
    }
    Ok(sum)
}
