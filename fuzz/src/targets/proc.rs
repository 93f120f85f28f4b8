//! Files of the kernel with any content: the source or table that reads one gives readings, gaps or an error.

use std::cell::RefCell;

use casefile_agent::host::Host;
use casefile_agent::pid::{self, membership, stat, status};
use casefile_agent::sources::{self, Measurement, Opened, inventory};
use casefile_agent::state;

use crate::Target;
use crate::input::Input;
use crate::scratch::Scratch;

pub(crate) const TARGET: Target =
    Target { name: "proc", about: "Files of /proc and /sys (the first byte says which)", run, seeds };

/// Who reads a file.
enum By {
    Source(&'static str),
    Table(&'static str),
    Inventory,
}

/// Files of the kernel, and who reads them.
const FILES: &[(&str, By)] = &[
    ("proc/stat", By::Source("cpu")),
    ("proc/loadavg", By::Source("load")),
    ("proc/sys/fs/file-nr", By::Source("load")),
    ("proc/meminfo", By::Source("memory")),
    ("proc/vmstat", By::Source("memory")),
    ("proc/pressure/memory", By::Source("pressure")),
    ("proc/diskstats", By::Source("disk")),
    ("proc/mdstat", By::Source("disk")),
    ("proc/1/net/dev", By::Source("network")),
    ("proc/1/net/snmp", By::Source("network")),
    ("proc/1/net/netstat", By::Source("network")),
    ("proc/1/net/sockstat", By::Source("network")),
    ("proc/1/net/softnet_stat", By::Source("network")),
    ("proc/1/net/stat/nf_conntrack", By::Source("network")),
    ("proc/1/net/arp", By::Source("network")),
    ("proc/1/net/tcp", By::Source("network")),
    ("proc/1/mountinfo", By::Table("mounts")),
    ("proc/1/net/tcp", By::Table("sockets")),
    ("proc/1/net/unix", By::Table("sockets")),
    ("proc/1/net/route", By::Table("routes")),
    ("proc/1/net/ipv6_route", By::Table("routes")),
    ("proc/1/net/arp", By::Table("neighbours")),
    ("proc/modules", By::Table("modules")),
    ("proc/1/limits", By::Table("limits")),
    ("proc/7/stat", By::Table("processes")),
    ("proc/7/status", By::Table("processes")),
    ("proc/7/stat", By::Source("process")),
    ("proc/7/cgroup", By::Source("process")),
    ("proc/cpuinfo", By::Inventory),
    ("proc/version", By::Inventory),
    ("etc/os-release", By::Inventory),
    ("proc/cmdline", By::Inventory),
    ("sys/bus/pci/devices/0000:84:00.0/aer_dev_correctable", By::Source("hardware")),
    ("sys/devices/system/edac/mc/mc0/ce_count", By::Source("hardware")),
    ("sys/class/nvme/nvme0/state", By::Source("hardware")),
    ("sys/class/infiniband/mlx5_0/ports/1/rate", By::Source("hardware")),
    ("sys/class/infiniband/mlx5_0/ports/1/counters/link_downed", By::Source("hardware")),
];

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::new());
}

fn seeds() -> Vec<Vec<u8>> {
    // An empty file of each kind; what they hold on a machine is among the written seeds.
    (0..FILES.len()).map(|n| vec![u8::try_from(n).unwrap()]).collect()
}

fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (path, by) = &FILES[usize::from(input.byte()) % FILES.len()];
    let content = input.rest;
    pure(content);
    SCRATCH.with_borrow(|scratch| {
        scratch.clear();
        scratch.write(path, content);
        let host = Host::new(scratch.path()).unwrap();
        match by {
            By::Source(name) => measure(name, &host),
            By::Table(name) => write(name, &host),
            By::Inventory => drop(inventory::describe(&host)),
        }
    });
}

/// What needs no file.
fn pure(content: &[u8]) {
    if let Ok(stat) = stat::parse(content) {
        assert!(stat.comm.len() <= content.len());
    }
    let _ = (status::parse(content), pid::parse_io(content));
    assert!(
        membership::parse(content)
            .is_none_or(|path| content.windows(path.len().max(1)).any(|w| w == path) || path.is_empty())
    );
    assert!(pid::parse_wchan(content).is_none_or(|name| name.len() <= content.len()));
}

fn measure(name: &str, host: &Host) {
    let spec = sources::ALL.iter().find(|s| s.name == name).unwrap();
    let Ok(Opened::Ready(mut source)) = (spec.open)(host) else { return };
    let mut out = Measurement::new(spec.metrics);
    // Twice: what a source keeps from one tick to the next is part of it.
    for _ in 0..2 {
        out.begin();
        // Nothing at all may be right: a machine without disks has an empty file. An error is an answer too.
        let _ = source.measure(&mut out);
        out.each(&mut |metric, labels, _| {
            assert_eq!(metric.labels.len(), labels.len(), "{name}: {}", metric.name);
            assert!(spec.metrics.iter().any(|m| m.name == metric.name), "{name} does not declare {}", metric.name);
        });
        assert!(out.gaps().iter().all(|g| !g.detail.is_empty() && g.detail.len() <= 1024), "{name}: {:?}", out.gaps());
    }
}

fn write(name: &str, host: &Host) {
    let spec = state::ALL.iter().find(|s| s.name == name).unwrap();
    let mut out = Vec::new();
    let table = (spec.write)(host, &mut out).unwrap();
    let rows = out.iter().filter(|b| **b == b'\n').count();
    assert_eq!(table.rows as usize, rows);
    assert!(out.iter().all(|b| *b >= b' ' || *b == b'\n'), "a control character that is not escaped");
    assert!(std::str::from_utf8(&out).is_ok());
}
