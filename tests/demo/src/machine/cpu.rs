//! Processors, load averages and pressure: sources `cpu`, `load` and `pressure`.

use super::load::Load;
use crate::DemoError;
use crate::board::{Board, Count, Series, Still, whole};
use crate::node::Node;
use crate::random::Random;

const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
const VECTORS: [(&str, f64); 6] =
    [("timer", 900.0), ("net_rx", 4_200.0), ("net_tx", 3.0), ("sched", 700.0), ("rcu", 620.0), ("block", 40.0)];

pub(super) struct Cpu {
    /// In hundredths of a second, by CPU and mode.
    modes: Vec<[Count; MODES.len()]>,
    switches: Count,
    interrupts: Count,
    forks: Count,
    softirqs: Vec<(Count, f64)>,
    running: Series,
    blocked: Series,
    averages: [(Series, f64, f64); 3],
    still: Still,
    files: Series,
    threads: Series,
    /// In microseconds.
    pressure: [Count; 5],
}

impl Cpu {
    pub(super) fn of(node: &Node, board: &mut Board) -> Result<Self, DemoError> {
        let mut still = Still::default();
        still.put(board, "node_boot_time_seconds", &[], node.booted().nanos() / 1_000_000_000)?;
        #[expect(clippy::cast_precision_loss, reason = "seconds of some weeks")]
        let up = node.up as f64;
        let mut modes = Vec::new();
        for cpu in 0..node.cpus {
            let cpu = cpu.to_string();
            still.put(board, "node_cpu_online", &[&cpu], 1)?;
            let mut count = |mode: &str| {
                let part = match mode {
                    "user" => 0.31,
                    "system" => 0.09,
                    "idle" => 0.57,
                    "iowait" => 0.01,
                    "softirq" => 0.01,
                    _ => 0.0,
                };
                board.count("node_cpu_seconds_total", &[&cpu, mode], up * 100.0 * part)
            };
            let [user, nice, system, idle, iowait, irq, softirq, steal] = MODES;
            modes.push([
                count(user)?,
                count(nice)?,
                count(system)?,
                count(idle)?,
                count(iowait)?,
                count(irq)?,
                count(softirq)?,
                count(steal)?,
            ]);
        }
        let mut softirqs = Vec::new();
        for (vector, rate) in VECTORS {
            softirqs.push((board.count("node_softirqs_total", &[vector], up * rate)?, rate));
        }
        still.put(board, "node_filefd_maximum", &[], 9_223_372_036_854_775_807)?;
        still.put(board, "node_processes_max_threads", &[], node.memory / 131_072)?;
        still.put(board, "node_processes_max_processes", &[], 4_194_304)?;
        still.put(board, "casefile_hung_tasks_detected_total", &[], 0)?;
        let start = if node.cpus > 4 { 3.1 } else { 1.7 };
        Ok(Self {
            modes,
            switches: board.count("node_context_switches_total", &[], up * 21_000.0)?,
            interrupts: board.count("node_intr_total", &[], up * 14_000.0)?,
            forks: board.count("node_forks_total", &[], up * 9.0)?,
            softirqs,
            running: board.series("node_procs_running", &[])?,
            blocked: board.series("node_procs_blocked", &[])?,
            averages: [
                (board.series("node_load1", &[])?, start, 60.0),
                (board.series("node_load5", &[])?, start, 300.0),
                (board.series("node_load15", &[])?, start, 900.0),
            ],
            still,
            files: board.series("node_filefd_allocated", &[])?,
            threads: board.series("node_processes_threads", &[])?,
            pressure: [
                board.count("node_pressure_cpu_waiting_seconds_total", &[], up * 21_000.0)?,
                board.count("node_pressure_memory_waiting_seconds_total", &[], up * 2.0)?,
                board.count("node_pressure_memory_stalled_seconds_total", &[], up)?,
                board.count("node_pressure_io_waiting_seconds_total", &[], up * 2_100.0)?,
                board.count("node_pressure_io_stalled_seconds_total", &[], up * 1_300.0)?,
            ],
        })
    }

    pub(super) fn tick(&mut self, board: &mut Board, load: &Load, random: &mut Random) {
        #[expect(clippy::cast_precision_loss, reason = "a few CPUs")]
        let cpus = self.modes.len() as f64;
        for counts in &mut self.modes {
            // No CPU has exactly its share.
            let share = random.between(0.82, 1.18) / cpus;
            let busy =
                [load.user, 0.0, load.system, 0.0, load.iowait, 0.0, load.softirq, 0.0].map(|n| n * share * 100.0);
            let all: f64 = busy.iter().sum();
            let fits = if all > 100.0 { 100.0 / all } else { 1.0 };
            for (mode, count) in counts.iter_mut().enumerate() {
                let amount = if MODES[mode] == "idle" { 100.0 - all * fits } else { busy[mode] * fits };
                count.add(board, amount);
            }
        }
        let used = load.user + load.system;
        self.switches.add(board, 6_000.0 + used * 7_500.0 * random.between(0.9, 1.1));
        self.interrupts.add(board, 4_000.0 + used * 4_400.0 * random.between(0.9, 1.1));
        self.forks.add(board, random.between(2.0, 16.0));
        let jitter = random.between(0.8, 1.2);
        for (count, rate) in &mut self.softirqs {
            count.add(board, *rate * jitter);
        }
        board.say(self.running, whole(load.running));
        board.say(self.blocked, whole(load.blocked));
        let active = load.running - 1.0 + load.blocked;
        for (series, average, seconds) in &mut self.averages {
            *average += (active - *average) / *seconds;
            board.say(*series, whole(*average * 100.0));
        }
        board.say(self.files, whole(3_200.0 + random.between(0.0, 120.0)));
        let threads: f64 = load.pods.iter().map(|pod| pod.threads).sum();
        board.say(self.threads, whole(290.0 + threads + random.between(0.0, 4.0)));
        self.still.say(board);
        let [cpu, memory, memory_full, io, io_full] = &mut self.pressure;
        cpu.add(board, load.cpu_some * 1e6);
        memory.add(board, load.memory_some * 1e6);
        memory_full.add(board, load.memory_full * 1e6);
        io.add(board, load.io_some * 1e6);
        io_full.add(board, load.io_full * 1e6);
    }
}
