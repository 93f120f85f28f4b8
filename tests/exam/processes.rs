//! The programs under exam as processes that can be killed at any instant and started again on what they left.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use casefile_proto::ids::NodeName;
use casefile_tests::program::{Running, command};
use rustix::process::{Pid, Signal, kill_process};

use crate::dial::{self, Door};

/// How long a program may take to end when it is asked to.
const END: Duration = Duration::from_secs(30);

/// One program, which runs or not.
pub(crate) struct Process {
    name: &'static str,
    verb: &'static str,
    config: PathBuf,
    said: PathBuf,
    running: Option<Running>,
}

impl Process {
    /// A collector, not started yet.
    pub(crate) fn collector(dir: &Path, door: &Door) -> Result<Self> {
        let config = dir.join("collector.toml");
        std::fs::write(&config, dial::collector_config(door)).context("write a configuration")?;
        let said = dir.join("collector.log");
        Ok(Self { name: "casefile-collector", verb: "serve", config, said, running: None })
    }

    /// An agent of a node, not started yet, with this configuration.
    pub(crate) fn agent(dir: &Path, node: &NodeName, config_text: &str) -> Result<Self> {
        let config = dir.join(format!("agent-{node}.toml"));
        std::fs::write(&config, config_text).context("write a configuration")?;
        let said = dir.join(format!("agent-{node}.log"));
        Ok(Self { name: "casefile-agent", verb: "run", config, said, running: None })
    }

    /// Starts it.
    pub(crate) fn start(&mut self) -> Result<()> {
        self.start_as(command(self.name))
    }

    /// Starts it by way of another program, which is given it as arguments.
    pub(crate) fn start_under(&mut self, mut tool: Command) -> Result<()> {
        tool.arg(casefile_tests::program::binary(self.name));
        self.start_as(tool)
    }

    fn start_as(&mut self, mut command: Command) -> Result<()> {
        let said = OpenOptions::new().create(true).append(true).open(&self.said).context("open a log")?;
        command.arg(self.verb).arg("--config").arg(&self.config).stdin(std::process::Stdio::null());
        self.running = Some(Running::start(command.stdout(std::process::Stdio::null()).stderr(said)));
        Ok(())
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.kill();
        }
    }

    /// Whether it still runs; a program that ended by itself does not.
    pub(crate) fn runs(&mut self) -> Result<bool> {
        let Some(running) = &mut self.running else { return Ok(false) };
        Ok(running.0.try_wait().context("look at a program")?.is_none())
    }

    /// The CPU that it has used; an error when it does not run.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        Ok(Usage::of(self.pid().with_context(|| format!("{} runs", self.name))?)?.cpu)
    }

    /// Its number, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.0.id())
    }

    /// Asks it to end, and waits for that.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        kill_process(Pid::from_child(&running.0), Signal::TERM).context("signal a program")?;
        let deadline = Instant::now() + END;
        loop {
            if let Some(status) = running.0.try_wait()? {
                ensure!(status.success(), "{} ended with {status}; it said last:\n{}", self.name, self.tail());
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{} did not end when it was asked to; it said last:\n{}", self.name, self.tail());
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// The last lines that it said.
    pub(crate) fn tail(&self) -> String {
        let said = std::fs::read(&self.said).unwrap_or_default();
        let text = String::from_utf8_lossy(&said);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

/// What a process has used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// CPU, user and system.
    pub(crate) cpu: Duration,
    /// The most that it had resident, ever.
    pub(crate) peak_resident_mib: f64,
}

impl Usage {
    /// Of another process.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        Self::read(&pid.to_string())
    }

    /// Of this one.
    pub(crate) fn own() -> Result<Self> {
        Self::read("self")
    }

    fn read(pid: &str) -> Result<Self> {
        let text = |file: &str| {
            let bytes =
                std::fs::read(format!("/proc/{pid}/{file}")).with_context(|| format!("read {file} of {pid}"))?;
            Ok::<_, anyhow::Error>(String::from_utf8_lossy(&bytes).into_owned())
        };
        let (stat, status) = (text("stat")?, text("status")?);
        // The name of the program is in brackets and may hold anything; user and system time are the 12th and 13th behind it.
        let behind = stat.rsplit_once(')').context("a stat file")?.1;
        let ticks = behind.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        let cpu = Duration::from_secs(ticks) / u32::try_from(rustix::param::clock_ticks_per_second())?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("a status file")?;
        let kib: f64 = peak.trim().trim_end_matches(" kB").parse()?;
        Ok(Self { cpu, peak_resident_mib: kib / 1024.0 })
    }
}
