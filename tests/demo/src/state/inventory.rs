//! What a machine is: `node.json`, in the agent's form.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::ASKED;
use super::tables::SETTINGS;
use crate::DemoError;
use crate::machine::network::interface;
use crate::machine::slow::{COMMAND_LINE, KERNEL, KERNEL_VERSION, machine, processor};
use crate::node::{Node, Role};
use crate::story::{self, Disk};

/// The document, indented as the agent writes it.
pub(crate) fn document(node: &Node) -> Result<Vec<u8>, DemoError> {
    let document = json!({
        "agent_version": crate::machine::AGENT,
        "boot_id": node.boot,
        "clock": node.clock,
        "collected_at": node.stamp(ASKED),
        "inventory": inventory(node),
        "node": node.name,
    });
    let mut bytes = serde_json::to_vec_pretty(&document).map_err(DemoError::Json)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn inventory(node: &Node) -> Value {
    let (vendor, model, microcode) = processor(node.role);
    let (maker, product) = machine(node.role);
    let (name, speed) = interface(node.role);
    let settings: BTreeMap<_, _> = SETTINGS.into_iter().collect();
    let gone = story::disk(node.name, ASKED) == Disk::Gone;
    let mounts = node.mounts.iter().map(|mount| {
        let readonly = gone && mount.device.starts_with("/dev/nvme");
        json!({"device": mount.device, "mountpoint": mount.point, "fstype": mount.fstype, "readonly": readonly})
    });
    json!({
        "kernel": {
            "sysname": "Linux", "hostname": node.name, "release": KERNEL, "version": KERNEL_VERSION, "machine": "x86_64",
            "domainname": "(none)", "boot_id": node.boot, "command_line": COMMAND_LINE,
            "build": format!("Linux version {KERNEL} (build@host) (gcc (GCC) 13.2.0, GNU ld (GNU Binutils) 2.41) {KERNEL_VERSION}"),
            "tainted": if node.role == Role::Gpu { 4_097 } else { 0 },
        },
        "distribution": {"id": "debian", "name": "Debian GNU/Linux", "pretty_name": "Debian GNU/Linux 13 (trixie)",
            "version": "13 (trixie)", "version_codename": "trixie", "version_id": "13"},
        "machine": {"system_vendor": maker, "product_name": product, "bios_version": "2.4.1", "bios_date": "09/11/2026"},
        "processor": {"vendor": vendor, "model": model, "microcode": microcode, "packages": 1, "cores": node.cpus / 2,
            "cpus": node.cpus, "cpus_present": node.cpus, "virtual_machine": false, "vulnerabilities": {}},
        "memory": {"total_bytes": node.memory, "swap_bytes": 0, "numa_nodes": 1},
        "disks": node.disks.iter().map(|disk| json!({
            "name": disk.name, "size_bytes": if gone && disk.name == "nvme0n1" { 0 } else { disk.bytes }, "model": disk.model,
            "serial": disk.serial, "firmware": disk.firmware, "rotational": false, "scheduler": "[none] mq-deadline",
            "driver": if disk.name.starts_with("nvme") { "nvme" } else { "mvsas" },
        })).collect::<Vec<_>>(),
        "interfaces": [{"name": name, "address": node.mac, "mtu": 9_000, "speed_mbits": speed * 8 / 1_000_000, "state": "up",
            "kind": null, "driver": "mlx5_core", "bus_address": "0000:41:00.0"}],
        "pci_devices": pci(node),
        "modules": super::tables::modules(node).into_iter().map(|row| json!({
            "name": row["name"], "size_bytes": row["size_bytes"], "references": row["references"], "taint": row.get("taint"),
        })).collect::<Vec<_>>(),
        "settings": settings,
        "mounts": mounts.collect::<Vec<_>>(),
        "routes": [
            {"interface": name, "destination": "0.0.0.0", "prefix": 0, "gateway": "10.20.0.1", "metric": 100},
            {"interface": name, "destination": "10.20.0.0", "prefix": 24, "gateway": null, "metric": 100},
        ],
    })
}

fn pci(node: &Node) -> Vec<Value> {
    let device = |address: String, class: &str, id: &str, driver: &str, link: &str| json!({"address": address, "class": class, "id": id, "driver": driver, "link": link, "best_link": link, "numa_node": 0});
    let mut all = vec![
        device("0000:41:00.0".to_owned(), "0x020000", "0x15b3:0x1021", "mlx5_core", "32.0 GT/s PCIe x16"),
        device("0000:61:00.0".to_owned(), "0x010802", "0x144d:0xa80a", "nvme", "16.0 GT/s PCIe x4"),
    ];
    for gpu in &node.gpus {
        let mut of = device(gpu.kernel(), "0x030200", "0x10de:0x2330", "nvidia", "32.0 GT/s PCIe x16");
        if crate::machine::gpu::is_lost(node, gpu.index, ASKED) {
            // What is off the bus is still listed, and says nothing of its link.
            of["link"] = Value::Null;
            of["best_link"] = Value::Null;
        }
        all.push(of);
    }
    all
}
