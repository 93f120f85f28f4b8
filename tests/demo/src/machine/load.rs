//! What a machine has to do at each second: from this all sources read, so that CPU, memory, disk and cgroups agree.
//!
//! The background is a busy and healthy machine. What the planted causes do to it is in [`crate::story`].

use super::Now;
use crate::board::rounded;
use crate::node::{Kind, Node, Role};
use crate::random::{Random, Wander};
use crate::story::{self, ramp};

/// One second of a machine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Load {
    /// CPUs' worth of time, by what for; the rest is idle.
    pub(crate) user: f64,
    pub(crate) system: f64,
    pub(crate) softirq: f64,
    pub(crate) iowait: f64,
    pub(crate) running: f64,
    pub(crate) blocked: f64,
    /// Bytes a second.
    pub(crate) received: f64,
    pub(crate) sent: f64,
    /// Of the disk of the machine's data; that of the system, where it is another one, idles along.
    pub(crate) data: Io,
    pub(crate) system_disk: Io,
    /// Parts of the second in which some or all tasks waited.
    pub(crate) cpu_some: f64,
    pub(crate) memory_some: f64,
    pub(crate) memory_full: f64,
    pub(crate) io_some: f64,
    pub(crate) io_full: f64,
    /// In the order of the node's pods.
    pub(crate) pods: Vec<PodLoad>,
}

/// What a disk does in a second.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Io {
    pub(crate) reads: f64,
    pub(crate) writes: f64,
    pub(crate) read_bytes: f64,
    pub(crate) written_bytes: f64,
    /// Seconds that one request takes.
    pub(crate) latency: f64,
    pub(crate) in_flight: f64,
    /// The part of the second in which it had something to do.
    pub(crate) busy: f64,
}

/// What a pod does in a second.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PodLoad {
    /// CPUs' worth of time.
    pub(crate) cpu: f64,
    /// Bytes: anonymous, and page cache.
    pub(crate) anonymous: f64,
    pub(crate) cache: f64,
    pub(crate) threads: f64,
    pub(crate) written_bytes: f64,
    pub(crate) read_bytes: f64,
    pub(crate) memory_stall: f64,
    pub(crate) io_stall: f64,
    /// Times a second that it is at its limit of memory.
    pub(crate) at_limit: f64,
    /// Processes of it that were killed so far.
    pub(crate) kills: i64,
}

/// What wanders.
pub(crate) struct Loads {
    pods: Vec<[Wander; 4]>,
    system: Wander,
    received: Wander,
    sent: Wander,
    reads: Wander,
    writes: Wander,
}

const MIB: f64 = 1_048_576.0;

/// CPUs, MiB of memory, MiB of page cache, KiB written a second.
fn usual(kind: Kind) -> [f64; 4] {
    match kind {
        Kind::Frontend => [0.42, 310.0, 48.0, 24.0],
        Kind::Api => [0.71, 452.0, 60.0, 36.0],
        Kind::Settlement => [1.15, 3_420.0, 610.0, 900.0],
        Kind::Reports => [0.55, 1_280.0, 420.0, 420.0],
        Kind::Postgres => [1.9, 11_800.0, 9_400.0, 14_200.0],
        Kind::Trainer => [2.6, 61_000.0, 12_500.0, 2_400.0],
        Kind::KubeProxy => [0.01, 38.0, 12.0, 0.0],
        Kind::NodeExporter => [0.02, 21.0, 6.0, 0.0],
    }
}

impl Loads {
    pub(crate) fn of(node: &Node) -> Self {
        let pod = |kind| {
            let [cpu, memory, cache, written] = usual(kind);
            [(cpu, 0.4), (memory, 0.008), (cache, 0.03), (written, 0.5)].map(|(m, s)| Wander::about(m, s))
        };
        let (received, sent, reads, writes) = match node.role {
            Role::Web => (4.2e6, 6.8e6, 3.0, 38.0),
            Role::Batch => (2.9e6, 1.7e6, 11.0, 64.0),
            Role::Database => (7.5e6, 9.6e6, 140.0, 620.0),
            Role::Gpu => (2.1e8, 2.1e8, 210.0, 48.0),
        };
        Self {
            pods: node.pods.iter().map(|p| pod(p.kind)).collect(),
            system: Wander::about(0.16, 0.4),
            received: Wander::about(received, 0.35),
            sent: Wander::about(sent, 0.35),
            reads: Wander::about(reads, 0.5),
            writes: Wander::about(writes, 0.4),
        }
    }

    pub(crate) fn next(&mut self, node: &Node, now: Now, random: &mut Random) -> Load {
        let mut load = Load { pods: Vec::with_capacity(node.pods.len()), ..Load::default() };
        let disk = story::disk(node.name, now.t);
        for (pod, wander) in node.pods.iter().zip(&mut self.pods) {
            let [cpu, memory, cache, written] = wander.each_mut().map(|w| w.next(random));
            let mut of = PodLoad {
                cpu,
                anonymous: rounded(memory * MIB, memory.max(32.0) * 1_024.0),
                cache: rounded(cache * MIB, cache.max(32.0) * 1_024.0),
                threads: threads(pod.kind),
                written_bytes: written * 1_024.0,
                ..PodLoad::default()
            };
            match pod.kind {
                Kind::Api if node.name == story::LEAKING => leaking(&mut of, now.t, random),
                Kind::Postgres if disk == story::Disk::Stalled => {
                    of = PodLoad { cpu: 0.04, written_bytes: 0.0, io_stall: random.between(0.93, 0.99), ..of };
                }
                Kind::Trainer if !story::trains(node.name, now.t) => {
                    // Eight threads ask again and again whether the others are there.
                    of = PodLoad { cpu: 0.35, written_bytes: 0.0, ..of };
                }
                _ => {}
            }
            if pod.run(now.t).is_none() {
                // What is left is the pause container.
                let kills = of.kills;
                of = PodLoad { anonymous: 0.4 * MIB, threads: 1.0, kills, ..PodLoad::default() };
            }
            load.user += of.cpu * 0.78;
            load.system += of.cpu * 0.22;
            load.pods.push(of);
        }
        let system = self.system.next(random);
        load.user += system * 0.6;
        load.system += system * 0.4;
        load.received = self.received.next(random);
        load.sent = self.sent.next(random);
        load.softirq = 0.015 + load.received / 6e9;
        self.disks(node, &mut load, random);
        self.stalls(node, disk, now.t, &mut load, random);
        load
    }

    fn disks(&mut self, node: &Node, load: &mut Load, random: &mut Random) {
        let written: f64 = load.pods.iter().map(|pod| pod.written_bytes).sum();
        let (reads, writes) = (self.reads.next(random), self.writes.next(random));
        let latency = random.between(0.000_09, 0.000_21);
        load.data = Io {
            reads,
            writes,
            read_bytes: reads * 22_000.0,
            written_bytes: written + writes * 6_000.0,
            latency,
            in_flight: if random.unit() < 0.12 { 1.0 } else { 0.0 },
            busy: ((reads + writes) * latency * 0.8).min(0.35),
        };
        if node.role == Role::Database {
            let writes = random.between(2.0, 14.0);
            load.system_disk = Io {
                writes,
                written_bytes: writes * 9_000.0,
                latency: 0.000_6,
                busy: writes * 0.000_5,
                ..Io::default()
            };
        }
    }

    fn stalls(&mut self, node: &Node, disk: story::Disk, t: f64, load: &mut Load, random: &mut Random) {
        #[expect(clippy::cast_precision_loss, reason = "a few CPUs")]
        let cpus = node.cpus as f64;
        let used = (load.user + load.system + load.softirq) / cpus;
        load.cpu_some = 0.012 + used * 0.05 + random.between(0.0, 0.012);
        load.running = 1.0 + (load.user + load.system).round() + if random.unit() < 0.25 { 1.0 } else { 0.0 };
        load.io_some = load.data.busy * 0.12 + random.between(0.0, 0.002);
        load.io_full = load.io_some * 0.6;
        load.iowait = load.data.busy * 0.25;
        load.blocked = if random.unit() < 0.04 { 1.0 } else { 0.0 };
        for pod in &load.pods {
            load.memory_some = load.memory_some.max(pod.memory_stall * 0.6);
        }
        load.memory_full = load.memory_some * 0.55;
        match disk {
            story::Disk::Well => {}
            story::Disk::Stalled => {
                // Backends come to wait one after the other.
                let waiting = 3.0 + 19.0 * ramp(t, story::DISK_STALLS, story::DISK_STALLS + 60.0);
                load.data = Io { in_flight: (waiting * 1.8).round(), busy: 1.0, ..Io::default() };
                load.blocked = waiting.round();
                load.io_some = random.between(0.97, 0.995);
                load.io_full = random.between(0.90, 0.96);
                load.iowait = (cpus - 2.0).min(waiting) * 0.9;
            }
            story::Disk::Gone => load.data = Io::default(),
        }
    }
}

fn threads(kind: Kind) -> f64 {
    match kind {
        Kind::Frontend | Kind::KubeProxy | Kind::NodeExporter => 11.0,
        Kind::Api => 17.0,
        Kind::Settlement | Kind::Reports => 24.0,
        Kind::Postgres => 46.0,
        Kind::Trainer => 188.0,
    }
}

fn leaking(of: &mut PodLoad, t: f64, random: &mut Random) {
    let leak = story::leak(t);
    // Page cache is what is given up first when the limit comes near.
    let kernel = 9.0 * MIB;
    #[expect(clippy::cast_precision_loss, reason = "2 GiB")]
    let limit = story::LIMIT as f64;
    let room = (limit - leak.bytes).max(0.0);
    of.cache = of.cache.min(room * 0.7);
    of.anonymous = rounded((leak.bytes - of.cache - kernel + random.between(-0.3, 0.3) * MIB).max(0.0), 65_536.0);
    of.anonymous = of.anonymous.min(limit - kernel - of.cache - random.between(0.0, 0.1) * MIB);
    of.memory_stall = leak.stall * random.between(0.36, 0.5);
    of.at_limit = leak.stall * random.between(20.0, 60.0);
    of.cpu += leak.stall * 0.5;
    of.read_bytes = leak.stall * 6.0 * MIB;
    of.kills = leak.kills;
}
