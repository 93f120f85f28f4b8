//! Maker and model of the machine, its disks, network interfaces, and devices on PCI with drivers and links: `/sys`.

use std::collections::BTreeMap;

use casefile_proto::gap::Gap;
use serde::Serialize;

use super::os::line;
use crate::host::Host;

/// A whole disk.
#[derive(Debug, Clone, Serialize)]
pub struct Disk {
    /// `vda`.
    pub name: String,
    /// Bytes.
    pub size_bytes: i64,
    /// What the maker calls it.
    pub model: Option<String>,
    /// The maker's number of this one: what a vendor asks for.
    pub serial: Option<String>,
    /// Version of its firmware.
    pub firmware: Option<String>,
    /// Whether it turns.
    pub rotational: Option<bool>,
    /// The I/O scheduler in use, among those that could be.
    pub scheduler: Option<String>,
    /// Driver of the device.
    pub driver: Option<String>,
}

/// A network interface.
#[derive(Debug, Clone, Serialize)]
pub struct Interface {
    /// `eth0`.
    pub name: String,
    /// Its hardware address.
    pub address: Option<String>,
    /// Bytes.
    pub mtu: Option<i64>,
    /// Mbit/s, as the link has it now.
    pub speed_mbits: Option<i64>,
    /// `up`, `down`, ….
    pub state: Option<String>,
    /// `bond`, `bridge`, `vlan`, …; `None` for a card.
    pub kind: Option<String>,
    /// Driver of the card.
    pub driver: Option<String>,
    /// Where the card sits.
    pub bus_address: Option<String>,
}

/// A device on PCI.
#[derive(Debug, Clone, Serialize)]
pub struct PciDevice {
    /// `0000:00:04.0`.
    pub address: String,
    /// Class, subclass and interface, hexadecimal.
    pub class: String,
    /// Vendor and device, hexadecimal.
    pub id: String,
    /// `None`: no driver has taken it.
    pub driver: Option<String>,
    /// `16.0 GT/s PCIe x16`.
    pub link: Option<String>,
    /// The best that it could have.
    pub best_link: Option<String>,
    /// NUMA node; `None` where the machine does not say.
    pub numa_node: Option<i64>,
}

/// Classes of PCI devices that are listed: storage, network, display, accelerators. The others are bridges and the like.
const CLASSES: [&str; 4] = ["0x01", "0x02", "0x03", "0x12"];

/// What the firmware says of the machine, with node_exporter's names; and the hypervisor, where the kernel names one.
pub(super) fn dmi(host: &Host, buf: &mut Vec<u8>, gaps: &mut Vec<Gap>) -> BTreeMap<String, String> {
    // Serial numbers and the UUID of the machine are for root only, and nobody needs them for what we are for.
    let files = [
        ("system_vendor", "sys/class/dmi/id/sys_vendor"),
        ("product_name", "sys/class/dmi/id/product_name"),
        ("product_version", "sys/class/dmi/id/product_version"),
        ("board_vendor", "sys/class/dmi/id/board_vendor"),
        ("board_name", "sys/class/dmi/id/board_name"),
        ("bios_vendor", "sys/class/dmi/id/bios_vendor"),
        ("bios_version", "sys/class/dmi/id/bios_version"),
        ("bios_date", "sys/class/dmi/id/bios_date"),
        ("hypervisor", "sys/hypervisor/type"),
    ];
    let said = files.into_iter().filter_map(|(key, path)| Some((key.to_owned(), line(host, path, buf, gaps)?)));
    said.filter(|(_, value)| !value.is_empty()).collect()
}

/// Whole disks that hold something, in order of name.
pub(super) fn disks(host: &Host, buf: &mut Vec<u8>, gaps: &mut Vec<Gap>) -> Vec<Disk> {
    let mut disks = Vec::new();
    for name in names(host, "sys/block") {
        let base = format!("sys/block/{name}");
        let mut read = |file: &str| line(host, &format!("{base}/{file}"), buf, gaps).map(|s| s.trim().to_owned());
        let Some(sectors) = read("size").and_then(|s| s.parse::<i64>().ok()).filter(|sectors| *sectors > 0) else {
            continue;
        };
        disks.push(Disk {
            size_bytes: sectors.saturating_mul(512),
            model: read("device/model"),
            serial: read("device/serial").or_else(|| read("serial")).filter(|serial| !serial.is_empty()),
            firmware: read("device/firmware_rev").or_else(|| read("device/rev")),
            rotational: read("queue/rotational").map(|turns| turns == "1"),
            scheduler: read("queue/scheduler"),
            driver: target(host, &format!("{base}/device/driver"))
                .or_else(|| target(host, &format!("{base}/device/device/driver"))),
            name,
        });
    }
    disks
}

/// Cards, and interfaces that hold others together; not the ends of pods.
pub(super) fn interfaces(host: &Host, buf: &mut Vec<u8>, gaps: &mut Vec<Gap>) -> Vec<Interface> {
    let mut interfaces = Vec::new();
    for name in names(host, "sys/class/net") {
        let base = format!("sys/class/net/{name}");
        let bus_address = target(host, &format!("{base}/device"));
        let kind = kind(host, &base, buf);
        if bus_address.is_none() && kind.is_none() {
            continue;
        }
        let mut read = |file: &str| line(host, &format!("{base}/{file}"), buf, gaps);
        let number = |text: Option<String>| text.and_then(|text| text.parse::<i64>().ok());
        interfaces.push(Interface {
            address: read("address"),
            mtu: number(read("mtu")),
            state: read("operstate"),
            kind,
            driver: target(host, &format!("{base}/device/driver")),
            bus_address,
            speed_mbits: number(speed(host, &base, buf)).filter(|speed| *speed >= 0),
            name,
        });
    }
    interfaces
}

/// A link that is down answers `EINVAL`: it has no speed, and that is no gap.
fn speed(host: &Host, base: &str, buf: &mut Vec<u8>) -> Option<String> {
    let mut ignored = Vec::new();
    line(host, &format!("{base}/speed"), buf, &mut ignored)
}

fn kind(host: &Host, base: &str, buf: &mut Vec<u8>) -> Option<String> {
    /// Three short lines.
    const MAX_UEVENT: usize = 4096;
    host.read(format!("{base}/uevent"), buf, MAX_UEVENT).ok()?;
    let kind = buf.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(b"DEVTYPE="))?;
    crate::text::name(kind).map(str::to_owned)
}

/// Devices of the classes that matter, in order of address.
pub(super) fn pci(host: &Host, buf: &mut Vec<u8>, gaps: &mut Vec<Gap>) -> Vec<PciDevice> {
    let mut devices = Vec::new();
    for address in names(host, "sys/bus/pci/devices") {
        let base = format!("sys/bus/pci/devices/{address}");
        let mut read = |file: &str| line(host, &format!("{base}/{file}"), buf, gaps);
        let Some(class) = read("class").filter(|class| CLASSES.iter().any(|c| class.starts_with(c))) else { continue };
        let mut link = |speed: &str, width: &str| Some(format!("{} x{}", read(speed)?, read(width)?));
        let now = link("current_link_speed", "current_link_width");
        let best = link("max_link_speed", "max_link_width");
        let id = format!("{}:{}", read("vendor").unwrap_or_default(), read("device").unwrap_or_default());
        let numa_node = read("numa_node").and_then(|node| node.parse::<i64>().ok()).filter(|node| *node >= 0);
        let driver = target(host, &format!("{base}/driver"));
        devices.push(PciDevice { address, class, id, driver, link: now, best_link: best, numa_node });
    }
    devices
}

/// The names in a directory, sorted; none where there is no such directory.
pub(in crate::sources) fn names(host: &Host, path: &str) -> Vec<String> {
    let listed = host.list(path).unwrap_or_default();
    let mut names: Vec<String> = listed.into_iter().filter_map(|name| name.into_string().ok()).collect();
    names.sort_unstable();
    names
}

/// The last part of where a link points: a driver's or a device's name.
pub(in crate::sources) fn target(host: &Host, path: &str) -> Option<String> {
    host.link(path).ok()?.file_name()?.to_str().map(str::to_owned)
}
