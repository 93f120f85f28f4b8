//! What a machine is and what it ran: `node.json` and the tables of its state, in the agent's forms, with texts for names.

use anyhow::Result;
use casefile_evidence::archive::layout;
use casefile_proto::ids::NodeName;
use casefile_proto::item::ItemKind;
use serde_json::{Value, json};

use super::{Items, SECONDS, Texts, at};

/// Rows of each table.
const ROWS: usize = 24;

/// Says a row.
type Row = fn(&mut Texts, usize) -> Value;

pub(super) fn tables(texts: &mut Texts, node: &NodeName, items: &mut Items) -> Result<()> {
    items.insert(
        layout::NODE_ITEM.to_owned(),
        (ItemKind::Inventory, serde_json::to_vec_pretty(&inventory(texts, node))?),
    );
    let rows: [(&str, Row); 12] = [
        ("state/limits.jsonl", |t, n| json!({"name": t.text(), "used": n, "limit": 100, "unit": t.text()})),
        ("state/sysctl.jsonl", |t, _| json!({"name": t.text(), "value": t.text()})),
        ("state/interfaces.jsonl", |t, n| {
            json!({"interface": t.text(), "index": n, "hardware_address": t.text(), "mtu_bytes": 1500,
            "state": t.text(), "flags": t.text(), "type": 1, "carrier": 1, "carrier_changes": 0, "link_index": n, "duplex": t.text()})
        }),
        ("state/routes.jsonl", |t, _| {
            json!({"destination": t.text(), "prefix": 0, "gateway": t.text(), "interface": t.text(),
            "metric": 100, "flags": 3})
        }),
        ("state/neighbours.jsonl", |t, _| {
            json!({"address": t.text(), "hardware_address": t.text(), "hardware_type": 1, "flags": 2,
            "interface": t.text()})
        }),
        ("state/mounts.jsonl", |t, n| {
            json!({"id": n + 20, "parent": 1, "device": t.text(), "root": t.text(), "mount_point": t.text(),
            "options": t.text(), "type": t.text(), "source": t.text(), "super_options": t.text()})
        }),
        ("state/modules.jsonl", |t, _| {
            json!({"name": t.text(), "size_bytes": 1, "references": 0, "used_by": [t.text()],
            "state": t.text(), "taint": t.text()})
        }),
        ("state/cgroups.jsonl", |t, _| {
            json!({"path": t.text(), "hierarchy": t.text(), "processes": 1, "pids": [1],
            "values": {"memory.max": t.text()}})
        }),
        ("state/sockets.jsonl", |t, n| {
            json!({"kind": (["tcp", "udp", "unix"][n % 3]), "state": if n % 2 == 0 { "LISTEN".to_owned() } else { t.text() },
            "local": t.text(), "remote": t.text(), "path": t.text(), "send_queue": 0, "receive_queue": 0, "retransmits": 0, "uid": 0,
            "inode": n, "pid": n + 1, "comm": t.text()})
        }),
        ("state/processes.jsonl", |t, n| {
            json!({"pid": n + 1, "start": 1, "ppid": 0, "comm": t.text(), "state": "S",
            "kernel_thread": false, "threads": 1, "uid": 0, "euid": 0, "gid": 0, "cgroup": t.text(), "wchan": t.text(),
            "cpu_user_ticks": 1, "cpu_system_ticks": 1, "virtual_bytes": 1, "resident_bytes": 1, "capabilities": t.text()})
        }),
        ("gpu/gpus.jsonl", |t, n| {
            json!({"index": n, "uuid": t.text(), "name": t.text(), "pci_bus_id": t.text(), "serial": t.text(),
            "driver_version": t.text()})
        }),
        ("gpu/processes.jsonl", |t, n| {
            json!({"gpu": t.text(), "pid": n, "comm": t.text(), "cgroup": t.text(), "pod": t.text(),
            "container": t.text(), "memory_bytes": 1})
        }),
    ];
    for (path, row) in rows {
        let mut bytes = Vec::new();
        for n in 0..ROWS {
            serde_json::to_writer(&mut bytes, &row(texts, n))?;
            bytes.push(b'\n');
        }
        items.insert(path.to_owned(), (ItemKind::State, bytes));
    }
    let report: String = (0..ROWS).map(|_| format!("    {} : {}\n", texts.line(), texts.line())).collect();
    items.insert("gpu/report.txt".to_owned(), (ItemKind::State, report.into_bytes()));
    Ok(())
}

fn inventory(t: &mut Texts, node: &NodeName) -> Value {
    #[expect(clippy::cast_precision_loss, reason = "a few minutes")]
    let collected = at(SECONDS as f64);
    json!({
        "agent_version": t.text(), "boot_id": t.text(), "node": node, "clock": null,
        "collected_at": {"wall": collected, "boot": 1},
        "inventory": {
            "kernel": {"sysname": t.text(), "hostname": t.text(), "release": t.text(), "version": t.text(), "machine": t.text(),
                "domainname": t.text(), "boot_id": t.text(), "command_line": t.text(), "build": t.text(), "tainted": 0},
            "distribution": {"id": t.text(), "name": t.text(), "pretty_name": t.text(), "version": t.text(), "version_id": t.text()},
            "machine": {"system_vendor": t.text(), "product": t.text(), "product_name": t.text(), "bios_version": t.text()},
            "processor": {"vendor": t.text(), "model": t.text(), "microcode": t.text(), "packages": 1, "cores": 1, "cpus": 1,
                "vulnerabilities": {t.text(): t.text()}},
            "memory": {"total_bytes": 1_073_741_824, "swap_bytes": 0, "numa_nodes": 1},
            "disks": [{"name": t.text(), "size_bytes": 1, "model": t.text(), "serial": t.text(), "firmware": t.text(),
                "scheduler": t.text(), "driver": t.text()}],
            "interfaces": [{"name": t.text(), "address": t.text(), "mtu": 1500, "state": t.text(), "driver": t.text()}],
            "pci_devices": [{"address": t.text(), "class": t.text(), "id": t.text(), "driver": t.text(), "link": t.text()}],
            "modules": [{"name": t.text(), "size_bytes": 1, "references": 0, "taint": t.text()}],
            "settings": {"vm.swappiness": t.text(), t.text(): t.text()},
            "mounts": [{"device": t.text(), "mountpoint": t.text(), "fstype": t.text(), "readonly": false}],
            "routes": [{"interface": t.text(), "destination": t.text(), "prefix": 0, "gateway": t.text(), "metric": 1}],
        },
    })
}
