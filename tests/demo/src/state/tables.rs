//! Tables of processes, mounts, sockets and the rest, row by row.

use serde_json::{Value, json};

use super::ASKED;
use crate::machine::network::interface;
use crate::machine::process::DAEMONS;
use crate::node::{Kind, Node, Role};
use crate::story::{self, Disk};

/// Settings that these machines have in common.
pub(crate) const SETTINGS: [(&str, &str); 20] = [
    ("fs.file-max", "9223372036854775807"),
    ("fs.inotify.max_user_instances", "8192"),
    ("fs.inotify.max_user_watches", "524288"),
    ("fs.nr_open", "1048576"),
    ("kernel.hung_task_timeout_secs", "120"),
    ("kernel.panic", "10"),
    ("kernel.panic_on_oops", "1"),
    ("kernel.pid_max", "4194304"),
    ("net.core.rmem_max", "16777216"),
    ("net.core.somaxconn", "4096"),
    ("net.core.wmem_max", "16777216"),
    ("net.ipv4.ip_forward", "1"),
    ("net.ipv4.ip_local_port_range", "32768\t60999"),
    ("net.ipv4.tcp_congestion_control", "cubic"),
    ("net.netfilter.nf_conntrack_max", "524288"),
    ("vm.dirty_background_ratio", "10"),
    ("vm.dirty_ratio", "20"),
    ("vm.max_map_count", "262144"),
    ("vm.overcommit_memory", "1"),
    ("vm.panic_on_oom", "0"),
];

pub(super) fn sysctl(node: &Node) -> Vec<Value> {
    let mut rows: Vec<_> = SETTINGS.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    if node.role == Role::Database {
        rows.push(json!({"name": "vm.swappiness", "value": "1"}));
    }
    rows
}

pub(super) fn limits(node: &Node) -> Vec<Value> {
    let row = |name: &str, used: i64, limit: i64, unit: &str| json!({"name": name, "used": used, "limit": limit, "unit": unit});
    vec![
        row("open-files", 3_260, i64::MAX, "files"),
        row("threads", 560, node.memory / 131_072, "tasks"),
        row("pids", 560, 4_194_304, "tasks"),
        row("conntrack", if node.role == Role::Web { 2_540 } else { 861 }, 524_288, "connections"),
        row("asynchronous-io", 64, 65_536, "requests"),
        row("committed-memory", node.memory / 4, node.memory / 2, "bytes"),
    ]
}

pub(super) fn interfaces(node: &Node) -> Vec<Value> {
    let (name, _) = interface(node.role);
    vec![
        json!({"interface": "lo", "index": 1, "hardware_address": "00:00:00:00:00:00", "mtu_bytes": 65_536, "state": "unknown",
            "flags": "0x9", "type": 772, "carrier": 1, "carrier_changes": 0, "link_index": 1}),
        json!({"interface": name, "index": 2, "hardware_address": node.mac, "mtu_bytes": 9_000, "state": "up", "flags": "0x1003",
            "type": 1, "carrier": 1, "carrier_changes": 2, "duplex": "full", "link_index": 2}),
        json!({"interface": name, "address": node.address, "prefix": 24}),
        json!({"interface": "cni0", "index": 3, "hardware_address": "0e:11:22:33:44:55", "mtu_bytes": 9_000, "state": "up",
            "flags": "0x1003", "type": 1, "carrier": 1, "carrier_changes": 1, "link_index": 3}),
    ]
}

pub(super) fn routes(node: &Node) -> Vec<Value> {
    let (name, _) = interface(node.role);
    vec![
        json!({"destination": "0.0.0.0", "prefix": 0, "gateway": "10.20.0.1", "interface": name, "metric": 100, "flags": 3}),
        json!({"destination": "10.20.0.0", "prefix": 24, "interface": name, "metric": 100, "flags": 1}),
        json!({"destination": "10.244.0.0", "prefix": 16, "interface": "cni0", "metric": 0, "flags": 1}),
    ]
}

pub(super) fn neighbours(node: &Node) -> Vec<Value> {
    let (name, _) = interface(node.role);
    vec![
        json!({"address": "10.20.0.1", "hardware_address": "0c:42:a1:00:00:01", "hardware_type": 1, "flags": 2, "interface": name}),
        json!({"address": "10.20.0.2", "hardware_address": "0c:42:a1:00:00:02", "hardware_type": 1, "flags": 2, "interface": name}),
    ]
}

pub(super) fn mounts(node: &Node) -> Vec<Value> {
    let mut rows = vec![
        json!({"id": 22, "parent": 27, "device": "0:21", "root": "/", "mount_point": "/proc", "options": "rw,relatime", "type": "proc", "source": "proc", "super_options": "rw"}),
        json!({"id": 23, "parent": 27, "device": "0:22", "root": "/", "mount_point": "/sys", "options": "rw,relatime", "type": "sysfs", "source": "sysfs", "super_options": "rw"}),
    ];
    for (at, mount) in (27..).zip(&node.mounts) {
        let gone = mount.device.starts_with("/dev/nvme") && story::disk(node.name, ASKED) == Disk::Gone;
        // The kernel made the file system read-only; how it was mounted stays as it was.
        let super_options = if gone { "ro,emergency_ro,errors=remount-ro" } else { "rw,errors=remount-ro" };
        let device = if mount.device.starts_with("/dev/nvme") { "259:2" } else { "8:2" };
        rows.push(json!({"id": at, "parent": if mount.point == "/" { 1 } else { 27 }, "device": device, "root": "/",
            "mount_point": mount.point, "options": "rw,relatime", "type": mount.fstype, "source": mount.device, "super_options": super_options}));
    }
    rows
}

pub(crate) const MODULES: [(&str, i64, i64, &[&str]); 6] = [
    ("nf_conntrack", 204_800, 4, &["xt_conntrack", "nf_nat", "xt_MASQUERADE"]),
    ("overlay", 221_184, 14, &[]),
    ("br_netfilter", 36_864, 0, &[]),
    ("nvme", 65_536, 3, &[]),
    ("nvme_core", 241_664, 5, &["nvme"]),
    ("ext4", 1_130_496, 2, &[]),
];

pub(super) fn modules(node: &Node) -> Vec<Value> {
    let row = |(name, size, references, used_by): (&str, i64, i64, &[&str]), taint: Option<&str>| {
        let mut row =
            json!({"name": name, "size_bytes": size, "references": references, "used_by": used_by, "state": "Live"});
        if let Some(taint) = taint {
            row["taint"] = json!(taint);
        }
        row
    };
    let mut rows: Vec<_> = MODULES.map(|module| row(module, None)).into();
    if node.role == Role::Gpu {
        rows.push(row(("nvidia", 14_352_384, 412, &["nvidia_uvm", "nvidia_modeset"]), Some("OE")));
        rows.push(row(("nvidia_uvm", 1_933_312, 8, &[]), Some("OE")));
    }
    rows
}

pub(super) fn cgroups(node: &Node) -> Vec<Value> {
    let mut rows = vec![json!({"path": "/", "hierarchy": "unified", "processes": 96, "values": {}})];
    for pod in &node.pods {
        let used = if pod.kind == Kind::Api && node.name == story::LEAKING {
            crate::board::whole(story::leak(ASKED).bytes)
        } else {
            pod.limit / 5
        };
        let kills = if pod.kind == Kind::Api && node.name == story::LEAKING { story::leak(ASKED).kills } else { 0 };
        let values = |kills: i64| {
            json!({"memory.current": used.to_string(), "memory.max": pod.limit.to_string(), "pids.max": "9830",
                "memory.events": format!("low 0\nhigh 0\nmax {}\noom {kills}\noom_kill {kills}\noom_group_kill 0", kills * 2_412)})
        };
        rows.push(json!({"path": pod.slice(), "hierarchy": "unified", "processes": 0, "values": values(kills)}));
        if let Some(run) = pod.run(ASKED) {
            rows.push(json!({"path": pod.scope(run), "hierarchy": "unified", "processes": 1, "pids": [run.pid], "values": values(0)}));
        }
    }
    rows
}

pub(super) fn sockets(node: &Node) -> Vec<Value> {
    let tcp = |state: &str, local: String, remote: Option<String>, inode: i64, pid: u32, comm: &str| {
        let mut row = json!({"kind": "tcp", "state": state, "local": local, "send_queue": 0, "receive_queue": 0, "retransmits": 0,
            "uid": 0, "inode": inode, "pid": pid, "comm": comm});
        if let Some(remote) = remote {
            row["remote"] = json!(remote);
        }
        row
    };
    let mut rows = vec![
        tcp("LISTEN", "127.0.0.1:10248".to_owned(), None, 21_410, 1_123, "kubelet"),
        tcp("LISTEN", "0.0.0.0:10250".to_owned(), None, 21_411, 1_123, "kubelet"),
        tcp(
            "ESTABLISHED",
            format!("{}:41822", node.address),
            Some("10.20.0.5:6443".to_owned()),
            22_871,
            1_123,
            "kubelet",
        ),
        tcp(
            "ESTABLISHED",
            format!("{}:50110", node.address),
            Some("10.20.0.6:7443".to_owned()),
            23_004,
            1_407,
            "casefile-agent",
        ),
    ];
    if let Some(run) = node.pod(Kind::Postgres).and_then(|pod| pod.run(ASKED)) {
        rows.push(tcp("LISTEN", "0.0.0.0:5432".to_owned(), None, 40_112, run.pid, "postgres"));
    }
    rows
}

pub(super) fn processes(node: &Node) -> Vec<Value> {
    const MIB: i64 = 1 << 20;
    let mut rows = Vec::new();
    for (pid, comm, cgroup, _, mib, threads) in DAEMONS {
        let resident = crate::board::whole(mib) * MIB;
        rows.push(process(
            [i64::from(pid), if pid == 1 { 4 } else { 900 + i64::from(pid) }, i64::from(pid != 1)],
            [comm, cgroup],
            0,
            crate::board::whole(threads),
            resident,
        ));
    }
    for pod in &node.pods {
        let Some(run) = pod.run(ASKED) else { continue };
        let resident = if pod.kind == Kind::Api && node.name == story::LEAKING {
            crate::board::whole(story::leak(ASKED).bytes * 0.97)
        } else {
            pod.limit / 6
        };
        let ids = [i64::from(run.pid), run.start(node), i64::from(run.pid) - 61];
        rows.push(process(ids, [pod.kind.comm(), &pod.scope(run)], pod.kind.uid(), 17, resident));
    }
    rows
}

fn process([pid, start, parent]: [i64; 3], [comm, cgroup]: [&str; 2], uid: i64, threads: i64, resident: i64) -> Value {
    json!({"pid": pid, "start": start, "ppid": parent, "comm": comm, "state": "S", "kernel_thread": false, "threads": threads,
        "uid": uid, "euid": uid, "gid": uid, "cgroup": cgroup, "cpu_user_ticks": 120_000, "cpu_system_ticks": 41_000,
        "minor_faults": 310_000, "major_faults": 12, "virtual_bytes": resident * 3, "resident_bytes": resident,
        "resident_peak_bytes": resident * 11 / 10, "resident_anonymous_bytes": resident * 9 / 10, "resident_file_bytes": resident / 10,
        "resident_shared_bytes": 0, "swapped_bytes": 0, "oom_score": 700, "oom_score_adj": if uid == 0 { -999 } else { 968 },
        "open_files": 41, "open_files_limit": 1_048_576, "namespace_pids": [pid], "seccomp": 2, "capabilities": "00000000a80425fb",
        "voluntary_switches": 90_000, "involuntary_switches": 2_000})
}
