//! Pods and containers: source `cgroup`, on a machine with cgroup v2 and systemd.

use super::Now;
use super::load::{Load, PodLoad};
use crate::DemoError;
use crate::board::{Board, Count, Series, Still, rounded, whole};
use crate::node::{Node, Pod};
use crate::random::Random;
use crate::story::LIMIT;

pub(super) struct Cgroups {
    /// For each pod its own cgroup and those of its runs.
    pods: Vec<(Group, Vec<Group>)>,
    services: Vec<(Group, PodLoad)>,
    followed: Series,
}

/// One cgroup.
struct Group {
    cpu: [Count; 3],
    memory: Series,
    /// `low`, `high`, `max`, `oom`.
    events: [Count; 4],
    kills: Count,
    killed: i64,
    io: [Count; 4],
    tasks: Series,
    /// cpu, memory and io: some and full.
    pressure: [Count; 6],
    /// `None` without a limit of CPU.
    periods: Option<(Count, Still)>,
    slow: [Series; 8],
    peak: f64,
    faults: [Count; 2],
    still: Still,
}

/// What the kubelet and the runtime take, whatever the pods do.
const SERVICES: [(&str, f64, f64); 2] =
    [("/system.slice/kubelet.service", 0.06, 96.0), ("/system.slice/containerd.service", 0.05, 148.0)];

const MIB: f64 = 1_048_576.0;
/// Memory of the kernel for a cgroup.
const KERNEL: f64 = 9.0 * MIB;

impl Cgroups {
    pub(super) fn of(node: &Node, board: &mut Board) -> Result<Self, DemoError> {
        let mut pods = Vec::new();
        for pod in &node.pods {
            let own = Group::of(node, &pod.slice(), Some(pod), board)?;
            let runs = pod.runs.iter().map(|run| Group::of(node, &pod.scope(run), Some(pod), board));
            pods.push((own, runs.collect::<Result<_, _>>()?));
        }
        let mut services = Vec::new();
        for (id, cpu, memory) in SERVICES {
            let load = PodLoad { cpu, anonymous: memory * MIB, cache: 30.0 * MIB, threads: 19.0, ..PodLoad::default() };
            services.push((Group::of(node, id, None, board)?, load));
        }
        Ok(Self { pods, services, followed: board.series("casefile_cgroups", &[])? })
    }

    pub(super) fn tick(&mut self, node: &Node, board: &mut Board, now: Now, load: &Load, random: &mut Random) {
        for (service, usual) in &mut self.services {
            let now_used = PodLoad { cpu: usual.cpu * random.between(0.4, 1.6), ..*usual };
            service.tick(board, now, &now_used, random);
        }
        let mut groups = 6;
        for ((pod, load), (own, runs)) in node.pods.iter().zip(&load.pods).zip(&mut self.pods) {
            own.tick(board, now, load, random);
            groups += 1;
            for (run, group) in pod.runs.iter().zip(runs) {
                if run.from <= now.t && now.t < run.until {
                    // A new cgroup knows of no kills before its own.
                    let before = i64::try_from(pod.runs.iter().filter(|r| r.until <= run.from).count()).unwrap_or(0);
                    let load = PodLoad { kills: (load.kills - before).max(0), ..*load };
                    group.tick(board, now, &load, random);
                    groups += 1;
                }
            }
        }
        board.say(self.followed, groups);
    }
}

impl Group {
    fn of(node: &Node, id: &str, pod: Option<&Pod>, board: &mut Board) -> Result<Self, DemoError> {
        #[expect(clippy::cast_precision_loss, reason = "seconds of some weeks")]
        let up = node.up.min(86_400) as f64;
        let device = node.disks.first().map_or("", |disk| disk.name);
        let i = &[id][..];
        let mut still = Still::default();
        still.put(board, "casefile_cgroup_cpu_weight", i, 79)?;
        let mut periods = None;
        if let Some(pod) = pod {
            still.put(board, "container_spec_memory_limit_bytes", i, pod.limit)?;
            still.put(board, "container_threads_max", i, 9_830)?;
            let mut throttled = Still::default();
            for name in ["container_cpu_cfs_throttled_periods_total", "container_cpu_cfs_throttled_seconds_total"] {
                throttled.put(board, name, i, 0)?;
            }
            still.put(board, "container_spec_cpu_quota", i, pod.millicores * 100)?;
            still.put(board, "container_spec_cpu_period", i, 100_000)?;
            periods = Some((board.count("container_cpu_cfs_periods_total", i, up * 9.0)?, throttled));
        }
        let mut count = |name: &str, rate: f64| board.count(name, i, (up * rate).floor());
        let cpu = [
            count("container_cpu_usage_seconds_total", 400_000.0)?,
            count("container_cpu_user_seconds_total", 310_000.0)?,
            count("container_cpu_system_seconds_total", 90_000.0)?,
        ];
        let pressure = [
            count("container_pressure_cpu_waiting_seconds_total", 9_000.0)?,
            count("container_pressure_cpu_stalled_seconds_total", 4_000.0)?,
            count("container_pressure_memory_waiting_seconds_total", 0.0)?,
            count("container_pressure_memory_stalled_seconds_total", 0.0)?,
            count("container_pressure_io_waiting_seconds_total", 300.0)?,
            count("container_pressure_io_stalled_seconds_total", 250.0)?,
        ];
        let kills = count("container_oom_events_total", 0.0)?;
        let mut event = |which: &str| board.count("casefile_cgroup_memory_events_total", &[id, which], 0.0);
        let events = [event("low")?, event("high")?, event("max")?, event("oom")?];
        let io = [
            board.count("container_fs_reads_bytes_total", &[id, device], up * 900.0)?,
            board.count("container_fs_writes_bytes_total", &[id, device], up * 30_000.0)?,
            board.count("container_fs_reads_total", &[id, device], up * 0.1)?,
            board.count("container_fs_writes_total", &[id, device], up * 3.0)?,
        ];
        let faults = [
            board.count("container_memory_failures_total", &[id, "pgfault", "hierarchy"], up * 300.0)?,
            board.count("container_memory_failures_total", &[id, "pgmajfault", "hierarchy"], 211.0)?,
        ];
        Ok(Self {
            cpu,
            memory: board.series("container_memory_usage_bytes", i)?,
            events,
            kills,
            killed: 0,
            io,
            tasks: board.series("container_threads", i)?,
            pressure,
            periods,
            slow: [
                board.series("container_memory_rss", i)?,
                board.series("container_memory_cache", i)?,
                board.series("container_memory_kernel_usage", i)?,
                board.series("container_memory_total_active_file_bytes", i)?,
                board.series("container_memory_total_inactive_file_bytes", i)?,
                board.series("container_memory_max_usage_bytes", i)?,
                board.series("casefile_cgroup_memory_dirty_bytes", i)?,
                board.series("container_memory_swap", i)?,
            ],
            peak: 0.0,
            faults,
            still,
        })
    }

    fn tick(&mut self, board: &mut Board, now: Now, load: &PodLoad, random: &mut Random) {
        for (count, part) in self.cpu.iter_mut().zip([1.0, 0.78, 0.22]) {
            count.add(board, load.cpu * part * 1e6);
        }
        #[expect(clippy::cast_precision_loss, reason = "2 GiB")]
        let limit = LIMIT as f64;
        let used = rounded(load.anonymous + load.cache + KERNEL, 262_144.0);
        let used = if load.at_limit > 0.0 { used.min(limit) } else { used };
        self.peak = self.peak.max(used);
        board.say(self.memory, whole(used / 4_096.0) * 4_096);
        let killed = if load.kills > self.killed { 1.0 } else { 0.0 };
        self.killed = load.kills;
        for (count, amount) in self.events.iter_mut().zip([0.0, 0.0, load.at_limit, killed]) {
            count.add(board, amount);
        }
        self.kills.add(board, killed);
        let writes = load.written_bytes / 11_000.0;
        for (count, amount) in
            self.io.iter_mut().zip([load.read_bytes, load.written_bytes, load.read_bytes / 65_536.0, writes])
        {
            count.add(board, amount);
        }
        board.say(self.tasks, whole(load.threads));
        let cpu = load.cpu * 0.012;
        let memory = load.memory_stall;
        let io = load.io_stall + if random.unit() < 0.02 { 0.000_4 } else { 0.0 };
        let waits = [cpu, cpu * 0.25, memory, memory * 0.7, io, io * 0.95];
        for (count, part) in self.pressure.iter_mut().zip(waits) {
            count.add(board, part * 1e6);
        }
        if let Some((periods, throttled)) = &mut self.periods {
            periods.add(board, if load.cpu > 0.0 { 10.0 } else { 0.0 });
            throttled.say(board);
        }
        if now.slow {
            let cached = load.cache;
            let dirty = load.written_bytes * 1.5;
            let values = [load.anonymous, cached, KERNEL, cached * 0.4, cached * 0.6, self.peak, dirty, 0.0];
            for (series, value) in self.slow.iter().zip(values) {
                board.say(*series, whole(value / 4_096.0) * 4_096);
            }
            self.faults[0].add(board, load.cpu * 9_000.0);
            self.faults[1].add(board, load.memory_stall * 3_000.0);
            self.still.say(board);
        }
    }
}
