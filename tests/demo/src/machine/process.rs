//! Processes: source `process`. The agent follows every process of a machine; here those are that one would look at.

use super::Now;
use super::load::Load;
use crate::DemoError;
use crate::board::{Board, Count, Series, rounded, whole};
use crate::node::{Kind, Node};
use crate::random::Random;
use crate::story;

pub(super) struct Processes {
    daemons: Vec<Process>,
    /// For each pod the main process of each of its runs.
    pods: Vec<Vec<Process>>,
    /// What waits for the disk that goes.
    blocked: Vec<Series>,
    all: [Series; 2],
}

struct Process {
    cpu: [Count; 2],
    switches: [Count; 2],
    info: Series,
    state: Series,
    threads: Series,
    resident: Series,
    minor: Count,
    major: Count,
    usual_cpu: f64,
    usual_bytes: f64,
    threads_now: f64,
}

/// Daemons that every machine has: pid, name, cgroup, CPUs' worth of time, MiB, threads.
pub(crate) const DAEMONS: [(u32, &str, &str, f64, f64, f64); 5] = [
    (1, "systemd", "/init.scope", 0.004, 13.0, 1.0),
    (612, "systemd-journal", "/system.slice/systemd-journald.service", 0.006, 46.0, 1.0),
    (1_021, "containerd", "/system.slice/containerd.service", 0.05, 78.0, 38.0),
    (1_123, "kubelet", "/system.slice/kubelet.service", 0.06, 104.0, 19.0),
    (1_407, "casefile-agent", "/system.slice/casefile-agent.service", 0.012, 34.0, 14.0),
];

const MIB: f64 = 1_048_576.0;

/// A process of the machine that waits for a disk, as the state tables have it too: pid, name, what it waits in.
pub(crate) const WAITING: [(u32, &str, &str); 4] = [
    (418, "jbd2/nvme0n1p1-8", "jbd2_journal_commit_transaction"),
    (41_207, "postgres", "wait_on_page_writeback"),
    (41_209, "postgres", "jbd2_log_wait_commit"),
    (41_233, "postgres", "ext4_file_write_iter"),
];

impl Processes {
    pub(super) fn of(node: &Node, board: &mut Board) -> Result<Self, DemoError> {
        let mut daemons = Vec::new();
        for (pid, comm, cgroup, cpu, mib, threads) in DAEMONS {
            let ids = [pid.to_string(), if pid == 1 { 4 } else { 900 + i64::from(pid) }.to_string()];
            let who = [if pid == 1 { "0" } else { "1" }, comm, cgroup, "0"];
            daemons.push(Process::of(&ids, who, [cpu, mib * MIB, threads], board)?);
        }
        let mut pods = Vec::new();
        for pod in &node.pods {
            let mut runs = Vec::new();
            for run in &pod.runs {
                let ids = [run.pid.to_string(), run.start(node).to_string()];
                let (parent, uid) = ((run.pid - 61).to_string(), pod.kind.uid().to_string());
                let who = [parent.as_str(), pod.kind.comm(), &pod.scope(run), &uid];
                runs.push(Process::of(&ids, who, [0.0, 0.0, 0.0], board)?);
            }
            pods.push(runs);
        }
        let mut blocked = Vec::new();
        if node.name == story::DISK_GONE {
            for (pid, comm, wchan) in WAITING {
                let (pid, start) = (pid.to_string(), (51_000 + i64::from(pid)).to_string());
                blocked.push(board.series("casefile_process_blocked", &[&pid, &start, &pid, comm, wchan])?);
            }
        }
        let all = [board.series("casefile_processes", &[])?, board.series("casefile_processes_read", &[])?];
        Ok(Self { daemons, pods, blocked, all })
    }

    pub(super) fn tick(&mut self, node: &Node, board: &mut Board, now: Now, load: &Load, random: &mut Random) {
        let mut seen = 0;
        for process in &mut self.daemons {
            seen += 1;
            process.threads_now = process.threads_now.max(1.0);
            let (cpu, bytes) = (process.usual_cpu * random.between(0.3, 1.7), process.usual_bytes);
            process.tick(board, now, [cpu, bytes, 0.0], 'S');
        }
        for ((pod, of), runs) in node.pods.iter().zip(&load.pods).zip(&mut self.pods) {
            for (run, process) in pod.runs.iter().zip(runs) {
                // Whom the kernel killed is gone at once; his cgroup a little later.
                let killed = of.kills > 0 && run.until.is_finite() && now.t > run.until - 0.9 && pod.kind == Kind::Api;
                if !(run.from <= now.t && now.t < run.until) || killed {
                    continue;
                }
                seen += 1;
                process.threads_now = of.threads;
                let stuck = pod.kind == Kind::Postgres && of.io_stall > 0.5;
                process.tick(board, now, [of.cpu, of.anonymous * 0.97, of.memory_stall], if stuck { 'D' } else { 'S' });
            }
        }
        if story::disk(node.name, now.t) == story::Disk::Stalled && now.t > story::DISK_STALLS + 2.0 {
            for series in &self.blocked {
                board.say(*series, 1);
            }
        }
        for series in self.all {
            board.say(series, 241 + seen);
        }
    }
}

impl Process {
    fn of(
        ids: &[String; 2],
        [parent, comm, cgroup, uid]: [&str; 4],
        [usual_cpu, usual_bytes, threads_now]: [f64; 3],
        board: &mut Board,
    ) -> Result<Self, DemoError> {
        let [pid, start] = ids.each_ref().map(String::as_str);
        let i = &[pid, start][..];
        Ok(Self {
            cpu: [
                board.count("casefile_process_cpu_seconds_total", &[pid, start, "user"], 12_000.0)?,
                board.count("casefile_process_cpu_seconds_total", &[pid, start, "system"], 4_100.0)?,
            ],
            switches: [
                board.count("casefile_process_context_switches_total", &[pid, start, "voluntary"], 90_000.0)?,
                board.count("casefile_process_context_switches_total", &[pid, start, "involuntary"], 2_000.0)?,
            ],
            info: board.series("casefile_process_info", &[pid, start, parent, comm, cgroup, uid])?,
            state: board.series("casefile_process_state", i)?,
            threads: board.series("casefile_process_threads", i)?,
            resident: board.series("casefile_process_resident_bytes", i)?,
            minor: board.count("casefile_process_minor_faults_total", i, 31_000.0)?,
            major: board.count("casefile_process_major_faults_total", i, 12.0)?,
            usual_cpu,
            usual_bytes,
            threads_now,
        })
    }

    fn tick(&mut self, board: &mut Board, now: Now, [cpu, bytes, memory_stall]: [f64; 3], state: char) {
        // At rest it is read every ten seconds; a pod's process is never at rest.
        if !now.slow && self.usual_bytes > 0.0 {
            return;
        }
        let seconds = if self.usual_bytes > 0.0 { 10.0 } else { 1.0 };
        board.say(self.info, 1);
        board.say(self.state, i64::from(u32::from(state)));
        board.say(self.threads, whole(self.threads_now));
        board.say(self.resident, whole(rounded(bytes, 262_144.0)));
        self.cpu[0].add(board, cpu * 78.0 * seconds);
        self.cpu[1].add(board, cpu * 22.0 * seconds);
        self.switches[0].add(board, cpu * 900.0 * seconds);
        self.switches[1].add(board, cpu * 6.0 * seconds);
        self.minor.add(board, cpu * 64.0 * seconds);
        self.major.add(board, memory_stall * 300.0);
    }
}
