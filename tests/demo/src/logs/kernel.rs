//! The kernel log of a machine: now and then an ordinary line, and what the planted causes make a kernel say.
//!
//! The lines of the faults are those of real kernels, with the names of this incident in them.

use std::fmt::Write as _;

use super::{Log, micros};
use crate::node::{Kind, Node, Pod, Role, Run};
use crate::random::Random;
use crate::story;

/// One record.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// Seconds of the window, on the collector's clock.
    pub(crate) t: f64,
    pub(crate) level: u8,
    pub(crate) facility: u8,
    pub(crate) seq: u64,
    pub(crate) text: String,
}

/// When the port above the GPU corrected an error, one for each.
pub(crate) const CORRECTED: [f64; 5] = [story::FIRST_AER, 1_018.442, 1_025.709, 1_031.093, 1_034.660];

const LEVELS: [&str; 8] = ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"];

/// What a kernel says in half an hour, in order of time.
pub(crate) fn lines(node: &Node) -> Vec<Line> {
    let mut told = Told { lines: Vec::new() };
    ordinary(node, &mut told);
    match node.name {
        story::LEAKING => {
            if let Some(pod) = node.pod(Kind::Api) {
                for (at, run) in [story::FIRST_OOM, story::SECOND_OOM].into_iter().zip(&pod.runs) {
                    oom(pod, run, at, &mut told);
                }
            }
        }
        story::DISK_GONE => nvme(&mut told),
        story::GPU_LOST => gpu(node, &mut told),
        _ => {}
    }
    let mut lines = told.lines;
    lines.sort_by(|a, b| a.t.total_cmp(&b.t));
    let first = 1_000 + Random::of(&format!("{} kmsg", node.name)).next() % 40_000;
    for (seq, line) in (first..).zip(&mut lines) {
        line.seq = seq;
    }
    if node.name == story::DEAD {
        lines.retain(|line| line.t < story::DEATH);
    }
    lines
}

/// The log, as the agent brings it.
pub(crate) fn log(node: &Node, lines: &[Line]) -> Log {
    let mut text = String::new();
    let mut records = 0;
    for line in lines.iter().filter(|line| is_inside(line.t)) {
        let (at, level) = (micros(node.stamp(line.t).wall), LEVELS[usize::from(line.level & 7)]);
        let (facility, user) = if line.facility == 0 { ("kern", false) } else { ("user", true) };
        // Writing to a String does not fail.
        let _ = writeln!(text, "{at} facility={facility} level={level} seq={} user={user} {}", line.seq, line.text);
        records += 1;
    }
    Log {
        path: "logs/kernel.log".to_owned(),
        source: "kernel",
        method: "/dev/kmsg, times computed from the time since boot".to_owned(),
        times: None,
        bytes: text.into_bytes(),
        records,
        gaps: Vec::new(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "half an hour of seconds")]
pub(crate) fn is_inside(t: f64) -> bool {
    (0.0..story::SECONDS as f64).contains(&t)
}

struct Told {
    lines: Vec<Line>,
}

impl Told {
    fn say(&mut self, t: f64, level: u8, text: impl Into<String>) {
        self.lines.push(Line { t, level, facility: 0, seq: 0, text: text.into() });
    }

    /// One after the other, some microseconds apart.
    fn burst(&mut self, t: f64, level: u8, texts: impl IntoIterator<Item = String>) -> f64 {
        let mut at = t;
        for text in texts {
            self.say(at, level, text);
            at += 0.000_019;
        }
        at
    }
}

fn ordinary(node: &Node, told: &mut Told) {
    let mut random = Random::of(&format!("{} kernel", node.name));
    let mut t = random.between(5.0, 140.0);
    while t < 1_800.0 {
        let (veth, peer, port) = (random.hex(8), random.hex(8), random.below(9) + 2);
        match random.below(5) {
            0 => {
                told.say(t, 6, format!("cni0: port {port}(veth{veth}) entered blocking state"));
                told.say(t + 0.000_031, 6, format!("cni0: port {port}(veth{veth}) entered forwarding state"));
                told.say(t + 0.412, 6, format!("eth0: renamed from veth{peer}"));
            }
            1 => told.say(t, 6, format!("IPv6: ADDRCONF(NETDEV_CHANGE): veth{veth}: link becomes ready")),
            2 => {
                let (secs, id) = (1_795_401_840 + crate::board::whole(t), random.below(900) + 60);
                let text = format!(
                    "audit: type=1400 audit({secs}.118:{id}): apparmor=\"DENIED\" operation=\"open\" profile=\"cri-containerd.apparmor.d\" name=\"/proc/1/stat\" pid={} comm=\"ps\"",
                    random.below(30_000) + 900
                );
                told.say(t, 5, text);
            }
            3 => {
                let text = "overlayfs: fs on '/var/lib/containerd/l/AB' does not support file handles, falling back to xino=off.";
                told.say(t, 4, text);
            }
            _ => {
                told.say(t, 6, format!("cni0: port {port}(veth{veth}) entered disabled state"));
                told.say(t + 0.000_052, 6, format!("veth{veth}: left promiscuous mode"));
            }
        }
        t += random.between(110.0, 420.0);
    }
    if node.role == Role::Web {
        told.say(
            312.442 + random.between(0.0, 200.0),
            6,
            "nf_conntrack: default automatic helper assignment has been turned off for security reasons",
        );
    }
}

/// A container at its limit: what `dump_header` and `oom_kill_process` print on a machine with cgroup v2.
fn oom(pod: &Pod, run: &Run, at: f64, told: &mut Told) {
    let (pid, pause) = (run.pid, run.pid.saturating_sub(140));
    let (slice, scope) = (pod.slice(), pod.scope(run));
    let mut lines = vec![
        "api-server invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=968".to_owned(),
        format!("CPU: 2 UID: 1000 PID: {pid} Comm: api-server Not tainted 6.18.44 #1 PREEMPT(none) "),
        "Call Trace:".to_owned(),
        " <TASK>".to_owned(),
    ];
    lines.extend(
        [
            " dump_stack_lvl+0x57/0x80",
            " dump_header+0x43/0x1c0",
            " oom_kill_process.cold+0x8/0x8a",
            " out_of_memory+0x214/0x500",
            " mem_cgroup_out_of_memory+0xc0/0x110",
            " try_charge_memcg+0x422/0x6f0",
            " charge_memcg+0x3d/0xa0",
            " __mem_cgroup_charge+0x2c/0x90",
            " alloc_anon_folio+0x1d2/0x4b0",
            " do_anonymous_page+0x9c/0x3c0",
            " __handle_mm_fault+0x5f5/0x6b0",
            " handle_mm_fault+0x10a/0x2e0",
            " do_user_addr_fault+0x21f/0x680",
            " exc_page_fault+0x7f/0x170",
            " asm_exc_page_fault+0x26/0x30",
            "RIP: 0033:0x4f1a2c",
            " </TASK>",
        ]
        .map(str::to_owned),
    );
    lines.push("memory: usage 2097152kB, limit 2097152kB, failcnt 4821".to_owned());
    lines.push("swap: usage 0kB, limit 0kB, failcnt 0".to_owned());
    lines.push(format!("Memory cgroup stats for {slice}:"));
    lines.extend(
        [
            "anon 2136670208",
            "file 0",
            "kernel 10812416",
            "kernel_stack 360448",
            "pagetables 4493312",
            "sec_pagetables 0",
            "percpu 1440",
            "sock 4096",
            "shmem 0",
            "file_mapped 0",
            "file_dirty 0",
            "file_writeback 0",
            "swapcached 0",
            "inactive_anon 2136649728",
            "active_anon 20480",
            "inactive_file 0",
            "active_file 0",
            "unevictable 0",
            "slab_reclaimable 1218816",
            "slab_unreclaimable 4415488",
        ]
        .map(str::to_owned),
    );
    lines.push("Tasks state (memory values in pages):".to_owned());
    lines.push("[  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes swapents oom_score_adj name".to_owned());
    lines.push(format!("[{pause:7}] 65535 {pause:5}      256      165        1      164         0    40960        0          -998 pause"));
    lines.push(format!("[{pid:7}]  1000 {pid:5}   908212   522411   521648      763         0  4493312        0           968 api-server"));
    lines.push(format!(
        "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=cri-containerd-{}.scope,mems_allowed=0,oom_memcg={slice},task_memcg={scope},task=api-server,pid={pid},uid=1000",
        run.id
    ));
    let end = told.burst(at, 6, lines);
    told.say(end, 3, format!(
        "Memory cgroup out of memory: Killed process {pid} (api-server) total-vm:3632848kB, anon-rss:2086592kB, file-rss:3052kB, shmem-rss:0kB, UID:1000 pgtables:4388kB oom_score_adj:968"
    ));
    told.say(
        at + 0.171,
        6,
        format!("oom_reaper: reaped process {pid} (api-server), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB"),
    );
    // The first record of a kill is a warning, and so are its stack and tables.
    for line in told.lines.iter_mut().filter(|line| line.t >= at && line.t < end) {
        line.level = 4;
    }
}

fn nvme(told: &mut Told) {
    for (n, (tag, id, queue)) in [(30, "d01e", 1), (112, "7070", 3), (113, "7071", 3)].into_iter().enumerate() {
        let text = format!(
            "nvme nvme0: I/O tag {tag} ({id}) opcode 0x1 (I/O Cmd) QID {queue} timeout, aborting req_op:WRITE(1) size:131072"
        );
        told.say(story::NVME_TIMEOUT + f64::from(u32::try_from(n).unwrap_or(0)) * 0.000_044, 4, text);
    }
    told.say(
        story::NVME_RESET,
        4,
        "nvme nvme0: I/O tag 30 (d01e) opcode 0x1 (I/O Cmd) QID 1 timeout, reset controller",
    );
    told.say(story::NVME_RESET + 21.404, 3, "nvme nvme0: Device not ready; aborting reset, CSTS=0x1");
    told.say(story::NVME_DISABLED, 4, "nvme nvme0: Disabling device after reset failure: -19");
    let io = |sector: u64, flags: &str| {
        format!("I/O error, dev nvme0n1, sector {sector} op 0x1:(WRITE) flags {flags} phys_seg 16 prio class 2")
    };
    let at = told.burst(
        story::NVME_DISABLED + 0.000_31,
        3,
        [
            io(4_297_063_424, "0x8800"),
            io(4_297_063_680, "0x8800"),
            io(5_368_713_216, "0x800"),
            "Buffer I/O error on dev nvme0n1p1, logical block 469762079, lost sync page write".to_owned(),
            "JBD2: I/O error when updating journal superblock for nvme0n1p1-8.".to_owned(),
            "Aborting journal on device nvme0n1p1-8.".to_owned(),
            "EXT4-fs error (device nvme0n1p1): ext4_journal_check_start:87: comm postgres: Detected aborted journal"
                .to_owned(),
        ],
    );
    told.say(at + 0.000_2, 2, "EXT4-fs (nvme0n1p1): Remounting filesystem read-only");
    told.say(at + 0.000_9, 3, "Buffer I/O error on dev nvme0n1p1, logical block 0, lost sync page write");
    told.say(at + 0.001, 3, "EXT4-fs (nvme0n1p1): I/O error while writing superblock");
}

fn gpu(node: &Node, told: &mut Told) {
    let port = crate::machine::hardware::PORT;
    for at in CORRECTED {
        told.say(at, 4, format!("pcieport {port}: AER: Correctable error message received from {port}"));
        told.say(
            at + 0.000_012,
            4,
            format!("pcieport {port}: PCIe Bus Error: severity=Correctable, type=Data Link Layer, (Receiver ID)"),
        );
        told.say(
            at + 0.000_019,
            4,
            format!("pcieport {port}:   device [8086:352a] error status/mask=00000040/00002000"),
        );
        told.say(at + 0.000_025, 4, format!("pcieport {port}:    [ 6] BadTLP                "));
    }
    let fatal = story::FATAL_AER;
    told.say(fatal, 3, format!("pcieport {port}: AER: Uncorrectable (Fatal) error message received from {port}"));
    told.say(
        fatal + 0.000_014,
        3,
        format!("pcieport {port}: PCIe Bus Error: severity=Uncorrectable (Fatal), type=Data Link Layer, (Receiver ID)"),
    );
    told.say(
        fatal + 0.000_022,
        3,
        format!("pcieport {port}:   device [8086:352a] error status/mask=00000020/00100000"),
    );
    told.say(fatal + 0.000_029, 3, format!("pcieport {port}:    [ 5] SDES                   (First)"));
    let xid = story::XID_79;
    let process = node.pod(Kind::Trainer).and_then(|pod| pod.runs.first());
    let pid = process.map_or(0, |run| crate::machine::gpu::process(run.pid, crate::machine::gpu::LOST));
    told.say(xid, 4, format!("NVRM: Xid (PCI:0000:84:00): 79, pid={pid}, name=python3, GPU has fallen off the bus."));
    told.say(xid + 0.000_041, 4, "NVRM: GPU 0000:84:00.0: GPU has fallen off the bus.");
    told.say(
        xid + 0.003,
        4,
        "NVRM: Xid (PCI:0000:84:00): 154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)",
    );
}
