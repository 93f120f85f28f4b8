//! What a machine is, as facts by name, and which of them two machines (or one, then and now) do not share.
//!
//! Names, addresses and serial numbers must differ between machines and are no facts. What one side did not say at all is not
//! taken for a difference of every single fact.

use std::collections::{BTreeMap, BTreeSet};

use casefile_evidence::archive::layout;
use casefile_proto::ids::NodeName;
use casefile_proto::sample::{MetricDef, MetricKind};
use casefile_proto::time::Window;
use casefile_proto::units::Bytes;
use serde::Serialize;
use serde_json::Value;

use crate::casefile::CaseFile;
use crate::past::{BEFORE, last_before};
use crate::seriesset::SeriesSet;

/// The most of one document or table that is looked at.
const MAX_DOCUMENT: Bytes = Bytes::mib(16);

/// The most facts of one machine.
const MAX_FACTS: usize = 50_000;

/// Changes that are listed.
pub const MAX_CHANGES: usize = 500;

/// Which machines are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machines {
    /// Two: what belongs to each alone is no difference.
    Two,
    /// One, at two times.
    Same,
}

/// One thing that is different.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What: `kernel release`, `sysctl vm.swappiness`, `module nvidia`.
    pub what: String,
    /// What is looked at has this; `None`: not at all. Text of the node: escape before showing.
    pub a: Option<String>,
    /// What it is compared with has this.
    pub b: Option<String>,
}

/// What a machine is: subjects (`sysctl`, `module`), each with what is said under a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts(BTreeMap<String, BTreeMap<String, String>>);

/// Whether a series of the kind info says something of the machine, and not of a process or of what runs.
pub(super) fn wants(metric: &MetricDef) -> bool {
    metric.kind == MetricKind::Info
        && !metric.name.starts_with("casefile_process")
        && !metric.name.starts_with("casefile_gpu_process")
}

/// Labels that say which one it is of several.
const WHICH: [&str; 10] =
    ["device", "gpu", "chip", "sensor", "controller", "dimm", "port", "mig_uuid", "package", "address"];

/// What belongs to one machine, or to one boot, alone.
const OWN: [&str; 16] = [
    "address",
    "hardware_address",
    "nodename",
    "hostname",
    "domainname",
    "serial",
    "serial_number",
    "uuid",
    "UUID",
    "mig_uuid",
    "boot_id",
    "bus_address",
    "pci_bus_id",
    "asset_tag",
    "cntlid",
    "build_id",
];

/// Settings that count something, or name the machine.
const NO_SETTINGS: [&str; 8] = [
    "kernel.hostname",
    "kernel.domainname",
    "kernel.ns_last_pid",
    "kernel.pty.nr",
    "fs.file-nr",
    "fs.aio-nr",
    "fs.inode-nr",
    "fs.dentry-state",
];

/// Mounts that come and go with what runs.
const NO_MOUNTS: [&str; 8] = [
    "/var/lib/kubelet/pods/",
    "/run/containerd/",
    "/var/lib/containers/",
    "/var/lib/docker/",
    "/proc",
    "/sys",
    "/dev",
    "/run/user/",
];

impl Facts {
    fn add(&mut self, subject: &str, name: &str, value: impl Into<String>) {
        let count: usize = self.0.values().map(BTreeMap::len).sum();
        if count < MAX_FACTS {
            self.0.entry(subject.to_owned()).or_default().insert(name.to_owned(), value.into());
        }
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the documents of a node say: its inventory, and the tables of its state at collection time.
    pub fn of_documents(casefile: &mut CaseFile, node: &NodeName, machines: Machines) -> Self {
        let mut facts = Self::default();
        if let Some(document) =
            read(casefile, node, layout::NODE_ITEM).and_then(|text| serde_json::from_slice(&text).ok())
        {
            facts.node(&document, machines);
        }
        let mut table = |file: &str, each: &mut dyn FnMut(&mut Self, &Value)| {
            let Some(text) = read(casefile, node, file) else { return };
            let rows = text.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
            rows.for_each(|row| each(&mut facts, &row));
        };
        table("state/sysctl.jsonl", &mut |facts, row| {
            if let (Some(name), Some(value)) = (text(row, "name"), text(row, "value")) {
                facts.setting(&name, &value);
            }
        });
        table("state/modules.jsonl", &mut |facts, row| facts.module(row));
        table("state/mounts.jsonl", &mut |facts, row| {
            if let Some(point) = text(row, "mount_point").filter(|point| !is_passing(point)) {
                let readonly = text(row, "super_options").is_some_and(|options| options.split(',').any(|o| o == "ro"));
                let readonly = if readonly { ", file system read-only" } else { "" };
                let said = |name| text(row, name).unwrap_or_default();
                facts.add("mount", &point, format!("{} {}{readonly}", said("type"), said("options")));
            }
        });
        table("state/routes.jsonl", &mut |facts, row| facts.route(row, machines));
        table("gpu/gpus.jsonl", &mut |facts, row| {
            // The first row is of the driver.
            for name in ["driver_version", "nvml_version", "cuda_version", "gpus"] {
                if row.get("library").is_some()
                    && let Some(value) = text(row, name)
                {
                    facts.add("gpu", name, value);
                }
            }
        });
        facts
    }

    /// `node.json`.
    fn node(&mut self, document: &Value, machines: Machines) {
        if let Some(version) = text(document, "agent_version") {
            self.add("agent", "version", version);
        }
        let inventory = &document["inventory"];
        for subject in ["kernel", "machine", "processor", "memory"] {
            self.flat(subject, "", &inventory[subject]);
        }
        for name in ["id", "version_id", "pretty_name", "version"] {
            if let Some(value) = text(&inventory["distribution"], name) {
                self.add("distribution", name, value);
            }
        }
        for (list, subject, key) in
            [("disks", "disk", "name"), ("interfaces", "interface", "name"), ("pci_devices", "pci", "address")]
        {
            for one in inventory[list].as_array().into_iter().flatten() {
                if let Some(name) = text(one, key) {
                    self.flat(subject, &name, one);
                }
            }
        }
        for module in inventory["modules"].as_array().into_iter().flatten() {
            self.module(module);
        }
        for (name, value) in inventory["settings"].as_object().into_iter().flatten() {
            self.setting(name, &shown(value));
        }
        for route in inventory["routes"].as_array().into_iter().flatten() {
            self.route(route, machines);
        }
    }

    /// Every field of an object that is no list, under its name; of objects in it too.
    fn flat(&mut self, subject: &str, name: &str, value: &Value) {
        for (field, value) in value.as_object().into_iter().flatten() {
            let name = if name.is_empty() { field.clone() } else { format!("{name} {field}") };
            match value {
                _ if OWN.contains(&field.as_str()) || field == "name" => {}
                Value::Object(_) => self.flat(subject, &name, value),
                Value::Array(_) | Value::Null => {}
                value => self.add(subject, &name, shown(value)),
            }
        }
    }

    fn setting(&mut self, name: &str, value: &str) {
        if !NO_SETTINGS.contains(&name) && !name.starts_with("kernel.random.") {
            self.add("sysctl", name, value.split_ascii_whitespace().collect::<Vec<_>>().join(" "));
        }
    }

    fn module(&mut self, row: &Value) {
        if let Some(name) = text(row, "name") {
            let taint = text(row, "taint").map(|taint| format!(", taints the kernel ({taint})")).unwrap_or_default();
            self.add("module", &name, format!("loaded{taint}"));
        }
    }

    /// Of two machines only where the default route leads: networks and gateways are their own.
    fn route(&mut self, row: &Value, machines: Machines) {
        let said = |name| text(row, name).unwrap_or_default();
        let (destination, prefix, interface) = (said("destination"), said("prefix"), said("interface"));
        let is_default = prefix == "0" && matches!(destination.as_str(), "0.0.0.0" | "::") && interface != "lo";
        let name = format!("{destination}/{prefix}");
        match machines {
            Machines::Two if is_default => self.add("route", &name, interface),
            Machines::Two => {}
            Machines::Same => {
                let via = text(row, "gateway").map(|gateway| format!(" via {gateway}")).unwrap_or_default();
                self.add("route", &format!("{name} on {interface}"), format!("metric {}{via}", said("metric")));
            }
        }
    }

    /// What the recording says all the time, as it was last in a window. What is read seldom may have been read before it.
    pub fn of_series(set: &SeriesSet, window: Window, machines: Machines) -> Self {
        let mut last: BTreeMap<(String, String), (u32, String)> = BTreeMap::new();
        for series in set.series.iter().filter(|series| wants(&series.metric)) {
            let at_most = window.duration().max(BEFORE);
            let Some(read) = last_before(set, &series.values, window.until(), at_most) else { continue };
            let which: Vec<&str> = series.named().filter(|(name, _)| WHICH.contains(name)).map(|(_, v)| v).collect();
            let which = which.join(" ");
            for (name, value) in series.named().filter(|(name, _)| !WHICH.contains(name)) {
                if machines == Machines::Two && OWN.contains(&name) {
                    continue;
                }
                let fact = if which.is_empty() { name.to_owned() } else { format!("{which} {name}") };
                let known = last.entry((series.metric.name.clone(), fact)).or_default();
                // A series that says something else began later.
                if known.1.is_empty() || read.tick >= known.0 {
                    *known = (read.tick, value.to_owned());
                }
            }
        }
        let mut facts = Self::default();
        last.into_iter().for_each(|((subject, name), (_, value))| facts.add(&subject, &name, value));
        facts
    }
}

/// The facts of both sides: those of the documents where both have some, else those of the recordings.
pub(super) fn both(
    [(a, set_a), (b, set_b)]: [(Facts, &SeriesSet); 2],
    [window_a, window_b]: [Window; 2],
    machines: Machines,
) -> (Facts, Facts) {
    if !a.is_empty() && !b.is_empty() {
        return (a, b);
    }
    (Facts::of_series(set_a, window_a, machines), Facts::of_series(set_b, window_b, machines))
}

/// What is different; of a subject of which one side says nothing, that alone.
pub(super) fn between(a: &Facts, b: &Facts) -> Vec<Change> {
    let subjects: BTreeSet<&String> = a.0.keys().chain(b.0.keys()).collect();
    let mut out = Vec::new();
    for subject in subjects {
        match (a.0.get(subject), b.0.get(subject)) {
            (Some(in_a), Some(in_b)) => {
                let names: BTreeSet<&String> = in_a.keys().chain(in_b.keys()).collect();
                let change = |name: &String| {
                    let (a, b) = (in_a.get(name), in_b.get(name));
                    let same = a == b || a.zip(b).is_some_and(|(a, b)| nearly(subject, a, b));
                    (!same).then(|| Change { what: format!("{subject} {name}"), a: a.cloned(), b: b.cloned() })
                };
                out.extend(names.into_iter().filter_map(change));
            }
            (in_a, in_b) => {
                let count = |facts: Option<&BTreeMap<String, String>>| facts.map(|f| format!("{} known", f.len()));
                out.push(Change { what: format!("{subject} (all)"), a: count(in_a), b: count(in_b) });
            }
        }
    }
    out.truncate(MAX_CHANGES);
    out
}

/// Memory of the same modules differs by what the firmware keeps for itself.
fn nearly(subject: &str, a: &str, b: &str) -> bool {
    let (Ok(a), Ok(b)) = (a.parse::<f64>(), b.parse::<f64>()) else { return false };
    subject == "memory" && (a - b).abs() <= 0.01 * a.max(b)
}

fn is_passing(point: &str) -> bool {
    NO_MOUNTS.iter().any(|below| point.starts_with(below))
}

fn text(row: &Value, name: &str) -> Option<String> {
    row.get(name).filter(|value| !value.is_null()).map(shown)
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// An item of the node; one that is not there, or cannot be read, says nothing.
fn read(casefile: &mut CaseFile, node: &NodeName, item: &str) -> Option<Vec<u8>> {
    let entry = layout::node_item(node, &item.parse().ok()?).ok()?;
    casefile.entries.read(&entry, MAX_DOCUMENT).ok()
}
