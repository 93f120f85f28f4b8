//! The state of a machine when it was asked, a few seconds after the window: tables as lines of JSON, in the agent's forms.

mod gpus;
pub(crate) mod inventory;
mod tables;

use casefile_proto::gap::{Gap, GapReason};
use serde_json::Value;

use crate::DemoError;
use crate::node::{Node, Role};

/// When the machines were asked, in seconds of the window.
pub(crate) const ASKED: f64 = 1_804.2;

/// A table.
pub(crate) struct Table {
    /// The row of the coverage that it has.
    pub(crate) name: &'static str,
    /// Below the node's directory.
    pub(crate) path: &'static str,
    pub(crate) method: &'static str,
    /// `None`: this machine has no such thing.
    pub(crate) bytes: Option<Vec<u8>>,
    pub(crate) records: u64,
    /// What is missing of it.
    pub(crate) gaps: Vec<Gap>,
}

/// The tables of a machine, in the agent's order.
pub(crate) fn tables(node: &Node) -> Result<Vec<Table>, DemoError> {
    let table = |name, path, method, rows: Vec<Value>| -> Result<Table, DemoError> {
        let records = u64::try_from(rows.len()).unwrap_or(0);
        Ok(Table { name, path, method, bytes: Some(lines(&rows)?), records, gaps: Vec::new() })
    };
    let mut tables = vec![
        table(
            "limits",
            "state/limits.jsonl",
            "limits of the kernel with what is used of them, from /proc/sys, /proc/loadavg, /proc/meminfo, /proc/key-users",
            tables::limits(node),
        )?,
        table(
            "sysctl",
            "state/sysctl.jsonl",
            "chosen sysctls, from /proc/sys; those below net/ are of the agent's own network namespace, which is the machine's only where the agent runs in it",
            tables::sysctl(node),
        )?,
        table(
            "interfaces",
            "state/interfaces.jsonl",
            "network interfaces and addresses in the network namespace of pid 1, from /proc/1/net/{dev,if_inet6,fib_trie} and /sys/class/net",
            tables::interfaces(node),
        )?,
        table(
            "routes",
            "state/routes.jsonl",
            "routes in the network namespace of pid 1: the main IPv4 table and all IPv6 tables, from /proc/1/net/{route,ipv6_route}",
            tables::routes(node),
        )?,
        table(
            "neighbours",
            "state/neighbours.jsonl",
            "IPv4 neighbours (ARP) in the network namespace of pid 1, from /proc/1/net/arp; the kernel has no file for those of IPv6",
            tables::neighbours(node),
        )?,
        table(
            "mounts",
            "state/mounts.jsonl",
            "mounts of pid 1 with type, source and options, from /proc/1/mountinfo; the file systems themselves are not asked",
            tables::mounts(node),
        )?,
        table(
            "modules",
            "state/modules.jsonl",
            "kernel modules with size, users and taint, from /proc/modules",
            tables::modules(node),
        )?,
        table(
            "cgroups",
            "state/cgroups.jsonl",
            "every cgroup of every hierarchy with its processes, limits and use, from /sys/fs/cgroup",
            tables::cgroups(node),
        )?,
        table(
            "sockets",
            "state/sockets.jsonl",
            "TCP, UDP, raw, packet and Unix sockets in the network namespace of pid 1 with addresses, state, queues and owner, from /proc/1/net and /proc/PID/fd",
            tables::sockets(node),
        )?,
        table(
            "processes",
            "state/processes.jsonl",
            "processes with state, wait channel, cgroup, user, CPU, memory and open files, and their blocked threads, from /proc/PID; neither command lines nor environments, which may hold secrets",
            tables::processes(node),
        )?,
    ];
    tables.extend(gpus(node, table)?);
    Ok(tables)
}

const GPUS: [(&str, &str, &str); 3] = [
    (
        "gpus",
        "gpu/gpus.jsonl",
        "the driver (first row) and each GPU with everything that NVML says of it, at most 5 s old; limits and settings at most 15 s",
    ),
    (
        "gpu-processes",
        "gpu/processes.jsonl",
        "processes that hold a GPU, with the memory that they hold, from NVML; name and cgroup from /proc; pod and container from the cgroup",
    ),
    ("gpu-report", "gpu/report.txt", "the same as a text for people, in the manner of nvidia-smi -q"),
];

fn gpus(
    node: &Node,
    table: impl Fn(&'static str, &'static str, &'static str, Vec<Value>) -> Result<Table, DemoError>,
) -> Result<Vec<Table>, DemoError> {
    if node.role != Role::Gpu {
        let why = "no GPU of NVIDIA on the PCI bus, and no driver (/proc/driver/nvidia)";
        let gap = || vec![Gap::new(GapReason::SourceAbsent, why)];
        let absent = |(name, path, method)| Table { name, path, method, bytes: None, records: 0, gaps: gap() };
        return Ok(GPUS.map(absent).into());
    }
    let [of_gpus, of_processes, report] = GPUS;
    let mut tables = vec![
        table(of_gpus.0, of_gpus.1, of_gpus.2, gpus::rows(node))?,
        table(of_processes.0, of_processes.1, of_processes.2, gpus::processes(node))?,
        Table {
            name: report.0,
            path: report.1,
            method: report.2,
            bytes: Some(gpus::report(node).into_bytes()),
            records: 1,
            gaps: Vec::new(),
        },
    ];
    for table in &mut tables {
        table.gaps = gpus::gaps(node);
    }
    Ok(tables)
}

fn lines(rows: &[Value]) -> Result<Vec<u8>, DemoError> {
    let mut out = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut out, row).map_err(DemoError::Json)?;
        out.push(b'\n');
    }
    Ok(out)
}
