//! The inventory as a document: what `node.json` says of a machine. A field that is missing means that the machine does
//! not say it, or that it could not be read; then a gap says so.

use casefile_proto::gap::{Gap, GapReason};
use serde::Serialize;
use std::collections::BTreeMap;

use super::devices::{self, Disk, Interface, PciDevice};
use super::os::{self, Kernel, Module};
use super::processor::{self, Processor};
use super::settings;
use crate::host::Host;
use crate::sources::filesystem::mounts::{self, Mount};
use crate::sources::kept::unreadable;
use crate::text::{Fields, Unparsed, lines, lines_after_heading, number};

/// What a machine is.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Inventory {
    /// The kernel and how it was started.
    pub kernel: Kernel,
    /// `os-release`: keys in lower case.
    pub distribution: BTreeMap<String, String>,
    /// Maker, model, firmware; `hypervisor` where the kernel names one.
    pub machine: BTreeMap<String, String>,
    /// The processor.
    pub processor: Processor,
    /// Sizes of memory.
    pub memory: Memory,
    /// Whole disks.
    pub disks: Vec<Disk>,
    /// Network interfaces that lead out of the machine or hold others together.
    pub interfaces: Vec<Interface>,
    /// Storage, network, display and accelerator devices on PCI, with their drivers and links.
    pub pci_devices: Vec<PciDevice>,
    /// Loaded modules of the kernel.
    pub modules: Vec<Module>,
    /// Settings of the kernel that matter when something is wrong, by the name that `sysctl` has for them.
    pub settings: BTreeMap<String, String>,
    /// Mounts of process 1 that hold data.
    pub mounts: Vec<Mount>,
    /// IPv4 routes of process 1's network namespace.
    pub routes: Vec<Route>,
}

/// Sizes of memory in bytes.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Memory {
    /// What the kernel manages.
    pub total_bytes: Option<i64>,
    /// Swap space.
    pub swap_bytes: Option<i64>,
    /// NUMA nodes.
    pub numa_nodes: Option<usize>,
}

/// One IPv4 route, addresses as the kernel prints them: hexadecimal, in the byte order of the machine.
#[derive(Debug, Clone, Serialize)]
pub struct Route {
    /// The interface.
    pub interface: String,
    /// `0.0.0.0` is the default route.
    pub destination: String,
    /// The length of the prefix.
    pub prefix: u32,
    /// `None` for a network that is reached directly.
    pub gateway: Option<String>,
    /// Lower is preferred.
    pub metric: i64,
}

/// A list in the document is cut here, and that is a gap: a machine with more needs no longer document.
pub(super) const MAX_LIST: usize = 512;
/// As large as `/proc/1/mountinfo` gets on a node with many pods.
const MAX_MOUNTINFO: usize = 8 << 20;
/// A line has 128 bytes.
const MAX_ROUTES: usize = 1 << 20;
const MAX_MEMINFO: usize = 64 << 10;

/// Reads everything.
pub(super) fn read(host: &Host, gaps: &mut Vec<Gap>) -> Inventory {
    let mut buf = Vec::new();
    let mut kernel = os::kernel(host, &mut buf, gaps);
    kernel.build = os::line(host, "proc/version", &mut buf, gaps);
    Inventory {
        kernel,
        distribution: os::distribution(host, &mut buf, gaps),
        machine: devices::dmi(host, &mut buf, gaps),
        processor: processor::read(host, &mut buf, gaps),
        memory: memory(host, &mut buf, gaps),
        disks: cut("disks", devices::disks(host, &mut buf, gaps), gaps),
        interfaces: cut("interfaces", devices::interfaces(host, &mut buf, gaps), gaps),
        pci_devices: cut("PCI devices", devices::pci(host, &mut buf, gaps), gaps),
        modules: cut("modules", os::modules(host, &mut buf, gaps), gaps),
        settings: settings::read(host, &mut buf, gaps),
        mounts: cut("mounts", mounts(host, &mut buf, gaps), gaps),
        routes: cut("routes", routes(host, &mut buf, gaps), gaps),
    }
}

fn cut<T>(what: &str, mut list: Vec<T>, gaps: &mut Vec<Gap>) -> Vec<T> {
    let beyond = list.len().saturating_sub(MAX_LIST);
    if beyond > 0 {
        list.truncate(MAX_LIST);
        let why = format!("only {MAX_LIST} {what} are listed");
        gaps.push(Gap::new(GapReason::Budget, why).counting(beyond as u64));
    }
    list
}

fn memory(host: &Host, buf: &mut Vec<u8>, gaps: &mut Vec<Gap>) -> Memory {
    let mut memory = Memory::default();
    let mut bad = Unparsed::default();
    match host.read("proc/meminfo", buf, MAX_MEMINFO) {
        Err(error) => gaps.push(unreadable(&error)),
        Ok(()) => {
            for line in lines(buf) {
                let Some(line) = bad.keep(line) else { continue };
                let mut fields = Fields::of(line);
                let place = match fields.next() {
                    Some(b"MemTotal:") => &mut memory.total_bytes,
                    Some(b"SwapTotal:") => &mut memory.swap_bytes,
                    _ => continue,
                };
                *place = bad.keep(fields.number()).and_then(|kib| kib.checked_mul(1024));
            }
        }
    }
    bad.gap("proc/meminfo").into_iter().for_each(|gap| gaps.push(gap));
    // A kernel without NUMA has no such directory.
    memory.numa_nodes = host.list("sys/devices/system/node").ok().map(|names| {
        let is_node = |name: &str| name.strip_prefix("node").is_some_and(|digits| number(digits.as_bytes()).is_ok());
        names.iter().filter(|name| name.to_str().is_some_and(is_node)).count()
    });
    memory
}

fn mounts(host: &Host, buf: &mut Vec<u8>, gaps: &mut Vec<Gap>) -> Vec<Mount> {
    if let Err(error) = host.read("proc/1/mountinfo", buf, MAX_MOUNTINFO) {
        gaps.push(unreadable(&error));
        return Vec::new();
    }
    let mut bad = Unparsed::default();
    let all = mounts::parse(buf).filter_map(|mount| bad.keep(mount)).collect();
    bad.gap("proc/1/mountinfo").into_iter().for_each(|gap| gaps.push(gap));
    mounts::choose(all)
}

fn routes(host: &Host, buf: &mut Vec<u8>, gaps: &mut Vec<Gap>) -> Vec<Route> {
    if let Err(error) = host.read("proc/1/net/route", buf, MAX_ROUTES) {
        gaps.push(unreadable(&error));
        return Vec::new();
    }
    let mut bad = Unparsed::default();
    let routes = lines_after_heading(buf).filter_map(|line| bad.keep(line.and_then(route))).collect();
    bad.gap("proc/1/net/route").into_iter().for_each(|gap| gaps.push(gap));
    routes
}

/// `eth0 00000000 010200C0 0003 0 0 0 00000000 0 0 0`: interface, destination, gateway, flags, two that are not used,
/// metric, mask.
fn route(line: &[u8]) -> Result<Route, crate::text::BadLine<'_>> {
    let mut fields = Fields::of(line);
    let interface = fields.name()?.to_owned();
    let address = |fields: &mut Fields<'_>| {
        let hex = fields.next().and_then(|f| crate::text::hex(f).ok()).and_then(|n| u32::try_from(n).ok());
        hex.ok_or(crate::text::BadLine { line, why: "no address" })
    };
    let destination = address(&mut fields)?;
    let gateway = address(&mut fields)?;
    let (_flags, _references, _use) = (fields.hex()?, fields.number()?, fields.number()?);
    let metric = fields.number()?;
    let mask = address(&mut fields)?;
    // The file has the words as the machine holds them; a fixture from another byte order does not exist.
    let dotted = |word: u32| std::net::Ipv4Addr::from(word.to_le_bytes()).to_string();
    Ok(Route {
        interface,
        destination: dotted(destination),
        prefix: mask.count_ones(),
        gateway: (gateway != 0).then(|| dotted(gateway)),
        metric,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_default_route_is_told_with_its_gateway() {
        let got = route(b"eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0").unwrap();
        assert_eq!(
            (got.destination.as_str(), got.prefix, got.gateway.as_deref(), got.metric),
            ("0.0.0.0", 0, Some("192.0.2.1"), 100)
        );
        let got = route(b"cni0\t0000F40A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0").unwrap();
        assert_eq!((got.destination.as_str(), got.prefix, got.gateway), ("10.244.0.0", 24, None));
        assert!(route(b"eth0\t0").is_err());
    }

    #[test]
    fn a_list_that_is_too_long_is_cut_and_the_cut_declared() {
        let mut gaps = Vec::new();
        assert_eq!(cut("things", vec![0; MAX_LIST + 3], &mut gaps).len(), MAX_LIST);
        assert_eq!((gaps[0].reason, gaps[0].count), (GapReason::Budget, Some(3)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_route_or_bad(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = route(&bytes);
        }
    }
}
