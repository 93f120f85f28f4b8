//! The GPUs at one instant as a case file has them: rows for machines, and a text for people in the manner of
//! `nvidia-smi -q`. What was not read is not in them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use casefile_proto::gap::Gap;
use casefile_proto::time::Stamp;
use casefile_proto::units::Unit;
use serde::Serialize;

use super::metrics::METRICS;
use super::owners::{Owner, Owners};
use super::said::{Gpu, Snapshot, State, Versions};
use super::{Measurement, name};

/// All GPUs at one instant.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    at: Option<Stamp>,
    versions: Versions,
    gpus: Vec<Gpu>,
    not_offered: Vec<String>,
    /// By pid.
    owners: BTreeMap<u32, Owner>,
    /// What changes seldom was read at this pass too.
    pub(super) slow: bool,
}

/// The driver: the first row of the table of GPUs.
#[derive(Serialize)]
struct DriverRow<'a> {
    collected_at: Option<Stamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    driver_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nvml_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cuda_version: Option<&'a str>,
    library: &'a str,
    gpus: usize,
    /// Functions of NVML that this driver does not have.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    not_offered: &'a [String],
}

#[derive(Serialize)]
struct GpuRow<'a> {
    gpu: u32,
    uuid: &'a str,
    pci_bus_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    name: &'a str,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    architecture: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vbios_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    board_part_number: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gsp_firmware_version: Option<&'a str>,
    /// By metric, in the metric's unit.
    values: BTreeMap<&'static str, f64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    nvlinks_up: BTreeMap<u8, bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mig: Vec<MigRow<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_read: Vec<String>,
}

#[derive(Serialize)]
struct MigRow<'a> {
    uuid: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_total_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_used_bytes: Option<u64>,
}

#[derive(Serialize)]
struct ProcessRow<'a> {
    gpu: u32,
    uuid: &'a str,
    pid: u32,
    /// `C` compute, `G` graphics, `M` compute through MPS.
    r#type: char,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_bytes: Option<u64>,
    /// Empty: `/proc` does not know the process.
    comm: &'a str,
    cgroup: &'a str,
    pod_uid: &'a str,
    container_id: &'a str,
}

/// Where a table goes: one row, or one line.
pub(crate) type Give<'a> = dyn FnMut(serde_json::Result<serde_json::Value>) -> std::io::Result<()> + 'a;

impl Report {
    pub(super) fn of(at: Stamp, versions: &Versions, snapshot: Snapshot, owners: &mut Owners, tick: u64) -> Self {
        let mut known = BTreeMap::new();
        for process in snapshot.gpus.iter().flat_map(|gpu| &gpu.processes) {
            known.entry(process.pid).or_insert_with(|| owners.of(process, tick).clone());
        }
        let Snapshot { gpus, not_offered, slow, .. } = snapshot;
        Self { at: Some(at), versions: versions.clone(), gpus, not_offered, owners: known, slow }
    }

    /// The same with what an older one has and this one was not asked for.
    pub(super) fn with_slow(mut self, older: &Self) -> Self {
        for gpu in &mut self.gpus {
            let Some(before) = older.gpus.iter().find(|old| old.id.uuid == gpu.id.uuid) else { continue };
            if gpu.state != State::Answers {
                continue;
            }
            for value in &before.values {
                if gpu.values.iter().all(|(place, _)| *place != value.0) {
                    gpu.values.push(*value);
                }
            }
            if gpu.links.is_empty() {
                gpu.links.clone_from(&before.links);
            }
            if gpu.mig.is_empty() {
                gpu.mig.clone_from(&before.mig);
            }
        }
        self
    }

    /// What is missing of it.
    pub(crate) fn gaps(&self) -> Vec<Gap> {
        let mut out = Measurement::new(&METRICS);
        self.gpus.iter().for_each(|gpu| super::gaps(gpu, &mut out));
        out.gaps().to_vec()
    }

    /// A row for the driver, and one for each GPU.
    pub(crate) fn gpu_rows(&self, give: &mut Give<'_>) -> std::io::Result<()> {
        give(serde_json::to_value(DriverRow {
            collected_at: self.at,
            driver_version: self.versions.driver.as_deref(),
            nvml_version: self.versions.nvml.as_deref(),
            cuda_version: self.versions.cuda.as_deref(),
            library: &self.versions.library,
            gpus: self.gpus.len(),
            not_offered: &self.not_offered,
        }))?;
        self.gpus.iter().try_for_each(|gpu| give(serde_json::to_value(row(gpu))))
    }

    /// A row for each process that holds a GPU.
    pub(crate) fn process_rows(&self, give: &mut Give<'_>) -> std::io::Result<()> {
        let nobody = Owner::default();
        for gpu in &self.gpus {
            for process in &gpu.processes {
                let owner = self.owners.get(&process.pid).unwrap_or(&nobody);
                give(serde_json::to_value(ProcessRow {
                    gpu: gpu.id.index,
                    uuid: &gpu.id.uuid,
                    pid: process.pid,
                    r#type: process.kind,
                    memory_bytes: process.memory,
                    comm: &owner.comm,
                    cgroup: &owner.cgroup,
                    pod_uid: &owner.pod_uid,
                    container_id: &owner.container,
                }))?;
            }
        }
        Ok(())
    }

    /// Everything, for people.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a String does not fail.
        let mut line = |depth: usize, name: &str, value: &str| {
            let _infallible = if value.is_empty() {
                writeln!(out, "{:depth$}{}", "", plain(name), depth = depth * 4)
            } else {
                let width = 44_usize.saturating_sub(depth * 4);
                writeln!(out, "{:depth$}{:<width$}: {}", "", plain(name), plain(value), depth = depth * 4)
            };
        };
        if let Some(at) = self.at {
            line(0, "Time", &at.wall.to_string());
        }
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "not told".to_owned());
        line(0, "Driver Version", &text(&self.versions.driver));
        line(0, "NVML Version", &text(&self.versions.nvml));
        line(0, "CUDA Version", &text(&self.versions.cuda));
        line(0, "Library", &self.versions.library);
        if !self.not_offered.is_empty() {
            line(0, "Not offered by this driver", &self.not_offered.join(", "));
        }
        line(0, "GPUs", &self.gpus.len().to_string());
        for gpu in &self.gpus {
            line(0, "", "");
            line(0, &name(&gpu.id), "");
            line(1, "Product", &gpu.id.name);
            line(1, "State", word(gpu.state));
            for (name, value) in [
                ("Architecture", &gpu.about.architecture),
                ("VBIOS Version", &gpu.about.vbios),
                ("Serial Number", &gpu.about.serial),
                ("Board Part Number", &gpu.about.part_number),
                ("GSP Firmware Version", &gpu.about.gsp_firmware),
            ] {
                if let Some(value) = value {
                    line(1, name, value);
                }
            }
            let mut values: Vec<_> =
                gpu.values.iter().filter_map(|(p, v)| Some((*p, METRICS.get(usize::from(*p))?, *v))).collect();
            values.sort_by_key(|(place, ..)| *place);
            for (_, metric, value) in values {
                let short = metric.name.trim_start_matches("DCGM_FI_DEV_").trim_start_matches("casefile_gpu_");
                line(1, short, &format!("{}{}", metric.scale.apply(value), unit(metric.unit)));
            }
            for (link, _, up) in &gpu.links {
                line(1, &format!("NVLink {link}"), if *up == 1 { "up" } else { "down" });
            }
            for mig in &gpu.mig {
                line(1, &format!("MIG {}", mig.uuid), &mig.name);
            }
            for not_read in row(gpu).not_read {
                line(1, "Not read", &not_read);
            }
            line(1, "Processes", if gpu.processes.is_empty() { "none" } else { "" });
            for process in &gpu.processes {
                let owner = self.owners.get(&process.pid).cloned().unwrap_or_default();
                let memory = process.memory.map_or("memory not told".to_owned(), |b| format!("{} MiB", b >> 20));
                let who = if owner.comm.is_empty() { "gone, or not known to /proc" } else { &owner.comm };
                let whose =
                    if owner.pod_uid.is_empty() { "no pod".to_owned() } else { format!("pod {}", owner.pod_uid) };
                line(2, &format!("{} {}", process.kind, process.pid), &format!("{who}, {memory}, {whose}"));
            }
        }
        out
    }
}

/// Text of the node's for a text of ours: without what would end a line or drive a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Percent => " %",
        Unit::Mebibytes => " MiB",
        Unit::Megahertz => " MHz",
        Unit::Watts => " W",
        Unit::Celsius => " C",
        Unit::Millijoules => " mJ",
        Unit::Seconds => " s",
        _ => "",
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Answers => "answers",
        State::Lost => "lost: it fell off the bus",
        State::NeedsReset => "does not answer until it is reset",
        State::NoHandle => "listed by NVML, which gives no handle to it",
    }
}

fn row(gpu: &Gpu) -> GpuRow<'_> {
    let values = gpu.values.iter().filter_map(|(place, value)| {
        let metric = METRICS.get(usize::from(*place))?;
        Some((metric.name, metric.scale.apply(*value)))
    });
    let mig = gpu.mig.iter().map(|mig| MigRow {
        uuid: &mig.uuid,
        name: &mig.name,
        memory_total_bytes: mig.memory_total,
        memory_used_bytes: mig.memory_used,
    });
    let not_read = gpu.failed.iter().map(|failed| {
        let others = if failed.more == 0 { String::new() } else { format!(" and {} more calls", failed.more) };
        format!("{}{others}: {}", failed.call, failed.text)
    });
    GpuRow {
        gpu: gpu.id.index,
        uuid: &gpu.id.uuid,
        pci_bus_id: &gpu.id.pci,
        device: gpu.id.minor.map(|minor| format!("nvidia{minor}")),
        name: &gpu.id.name,
        state: word(gpu.state),
        architecture: gpu.about.architecture.as_deref(),
        vbios_version: gpu.about.vbios.as_deref(),
        serial: gpu.about.serial.as_deref(),
        board_part_number: gpu.about.part_number.as_deref(),
        gsp_firmware_version: gpu.about.gsp_firmware.as_deref(),
        values: values.collect(),
        nvlinks_up: gpu.links.iter().map(|(link, _, up)| (*link, *up == 1)).collect(),
        mig: mig.collect(),
        not_read: not_read.collect(),
    }
}
