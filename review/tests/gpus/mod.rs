//! Recordings of a `gpu` source made by a test: ticks with readings by name, outcomes, and events between them.

use std::collections::HashMap;
use std::sync::Arc;

use casefile_evidence::recording::Header;
use casefile_evidence::recording::delta::Encoder;
use casefile_proto::event::{Event, EventKind};
use casefile_proto::ids::{BootId, FrameSeq};
use casefile_proto::sample::{
    Frame, MetricDef, MetricIndex, MetricKind, Outcome, Reading, Sample, Schema, SeriesDef, SeriesId, SourceDef,
    SourceIndex,
};
use casefile_proto::time::{BootTime, Stamp, WallTime};
use casefile_proto::units::{Scale, Unit};

const OF: &[&str] = &["gpu", "UUID", "pci_bus_id", "device", "modelName"];
const INFO: &[&str] =
    &["gpu", "UUID", "pci_bus_id", "device", "modelName", "vbios_version", "serial", "board_part_number"];

/// The series of the source that are written: name, scale, labels.
const METRICS: &[(&str, Scale, &[&str])] = &[
    ("casefile_gpu_state", Scale::ONE, OF),
    ("casefile_gpu_devices", Scale::ONE, &["seen_by"]),
    ("casefile_gpu_driver_info", Scale::ONE, &["driver_version", "nvml_version", "cuda_version"]),
    ("casefile_gpu_info", Scale::ONE, INFO),
    (
        "casefile_gpu_process_info",
        Scale::ONE,
        &["gpu", "UUID", "pid", "type", "comm", "cgroup", "pod_uid", "container_id"],
    ),
    ("casefile_gpu_process_memory_bytes", Scale::ONE, &["gpu", "UUID", "pid"]),
    ("DCGM_FI_DEV_GPU_UTIL", Scale::ONE, OF),
    ("DCGM_FI_DEV_MEM_COPY_UTIL", Scale::ONE, OF),
    ("DCGM_FI_DEV_FB_TOTAL", Scale::per(1 << 20), OF),
    ("DCGM_FI_DEV_FB_USED", Scale::per(1 << 20), OF),
    ("DCGM_FI_DEV_SM_CLOCK", Scale::ONE, OF),
    ("DCGM_FI_DEV_MAX_SM_CLOCK", Scale::ONE, OF),
    ("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", Scale::ONE, OF),
    ("DCGM_FI_DEV_POWER_USAGE", Scale::MILLI, OF),
    ("DCGM_FI_DEV_ENFORCED_POWER_LIMIT", Scale::MILLI, OF),
    ("DCGM_FI_DEV_GPU_TEMP", Scale::ONE, OF),
    ("DCGM_FI_DEV_PSTATE", Scale::ONE, OF),
    ("DCGM_FI_DEV_PERSISTENCE_MODE", Scale::ONE, OF),
    ("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", Scale::ONE, OF),
    ("DCGM_FI_DEV_ROW_REMAP_PENDING", Scale::ONE, OF),
    ("DCGM_FI_DEV_PCIE_LINK_GEN", Scale::ONE, OF),
    ("DCGM_FI_DEV_PCIE_LINK_WIDTH", Scale::ONE, OF),
    ("DCGM_FI_DEV_PCIE_MAX_LINK_GEN", Scale::ONE, OF),
    ("DCGM_FI_DEV_PCIE_MAX_LINK_WIDTH", Scale::ONE, OF),
    ("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", Scale::ONE, OF),
    ("casefile_gpu_recovery_action", Scale::ONE, OF),
    ("casefile_gpu_nvlink_up", Scale::ONE, &["gpu", "UUID", "pci_bus_id", "device", "modelName", "link"]),
];

/// One GPU.
#[derive(Clone, Copy)]
pub(crate) struct Gpu {
    pub(crate) index: &'static str,
    pub(crate) uuid: &'static str,
    pub(crate) pci: &'static str,
}

impl Gpu {
    fn labels(self) -> Vec<String> {
        let device = if self.index.is_empty() { String::new() } else { format!("nvidia{}", self.index) };
        let model = if self.uuid.is_empty() { "" } else { "NVIDIA H100 80GB HBM3" };
        [self.index, self.uuid, self.pci, &device, model].map(str::to_owned).to_vec()
    }
}

/// One reading: a series by name and labels, and its integer.
pub(crate) type Said = (&'static str, Vec<String>, i64);

/// Readings of one GPU, its state first.
pub(crate) fn of(gpu: Gpu, state: i64, values: &[(&'static str, i64)]) -> Vec<Said> {
    let state = ("casefile_gpu_state", gpu.labels(), state);
    std::iter::once(state).chain(values.iter().map(|(name, value)| (*name, gpu.labels(), *value))).collect()
}

/// A reading with labels of its own.
pub(crate) fn said(name: &'static str, labels: &[&str], value: i64) -> Said {
    (name, labels.iter().map(|&l| l.to_owned()).collect(), value)
}

/// A process on a GPU, with its memory.
pub(crate) fn process(gpu: Gpu, pid: &str, name: &str, pod_uid: &str, memory: Option<i64>) -> Vec<Said> {
    let container = if pod_uid.is_empty() { String::new() } else { "c0ffee".repeat(11)[..64].to_owned() };
    let who = [gpu.index, gpu.uuid, pid, "C", name, "/kubepods/x", pod_uid, &container];
    let memory = memory.map(|bytes| said("casefile_gpu_process_memory_bytes", &[gpu.index, gpu.uuid, pid], bytes));
    std::iter::once(said("casefile_gpu_process_info", &who, 1)).chain(memory).collect()
}

/// A record of the kernel log.
pub(crate) fn kernel(at: WallTime, facility: u8, text: &str) -> Event {
    let at = Stamp { wall: at, boot: BootTime::from_nanos(1) };
    Event { at, kind: EventKind::Kernel { seq: Some(1), facility, level: 3 }, text: text.to_owned() }
}

/// A recording in the making. The source is the second of two, as it is in an agent one of many.
pub(crate) struct Recorder {
    encoder: Encoder,
    bytes: Vec<u8>,
    seq: FrameSeq,
    ids: HashMap<(usize, Vec<String>), u32>,
}

impl Recorder {
    /// With the source, or without it.
    pub(crate) fn new(node: &str, with_gpus: bool) -> Self {
        let metric = |(name, scale, labels): &(&str, Scale, &[&str])| MetricDef {
            name: (*name).to_owned(),
            help: "made by a test".to_owned(),
            kind: MetricKind::Gauge,
            unit: Unit::Count,
            scale: *scale,
            labels: labels.iter().map(|&l| l.to_owned()).collect(),
        };
        let source = |name: &str, metrics| SourceDef {
            name: name.to_owned(),
            about: "made by a test".to_owned(),
            every_nanos: 1_000_000_000,
            deadline_nanos: 1_000_000_000,
            metrics,
        };
        let other = source("load", Vec::new());
        let gpus = with_gpus.then(|| source("gpu", METRICS.iter().map(metric).collect()));
        let schema = Arc::new(Schema { sources: std::iter::once(other).chain(gpus).collect() });
        let header = Header {
            node: node.parse().unwrap(),
            boot: BootId::from_bytes([7; 16]),
            agent_version: "test".to_owned(),
            schema,
        };
        let encoder = Encoder::new(header);
        let bytes = encoder.header();
        Self { encoder, bytes, seq: FrameSeq::FIRST, ids: HashMap::new() }
    }

    /// One tick.
    pub(crate) fn tick(&mut self, at: WallTime, outcome: Outcome, said: Vec<Said>, events: Vec<Event>) {
        let mut defined = Vec::new();
        let mut readings = Vec::new();
        for (name, labels, value) in said {
            let metric = METRICS.iter().position(|(n, ..)| *n == name).unwrap_or_else(|| panic!("no metric {name}"));
            let next = u32::try_from(self.ids.len()).unwrap();
            let id = *self.ids.entry((metric, labels.clone())).or_insert_with(|| {
                let labels = labels.iter().map(|l| l.as_str().into()).collect();
                defined
                    .push((SeriesId(next), SeriesDef { metric: MetricIndex(u16::try_from(metric).unwrap()), labels }));
                next
            });
            readings.push(Reading { series: SeriesId(id), value });
        }
        let load = Sample {
            source: SourceIndex(0),
            outcome: Outcome::Complete,
            took_nanos: 1,
            defined: vec![],
            readings: vec![],
        };
        let gpu = Sample { source: SourceIndex(1), outcome, took_nanos: 1, defined, readings };
        let at = Stamp { wall: at, boot: BootTime::from_nanos(self.seq.0 * 1_000_000_000) };
        let samples = vec![load, gpu];
        let frame = Frame { boot: BootId::from_bytes([7; 16]), seq: self.seq, at, samples, events };
        self.encoder.frame(&frame, &mut self.bytes);
        self.seq = self.seq.next();
    }

    /// One tick of an agent that has no such source.
    pub(crate) fn tick_without(&mut self, at: WallTime) {
        let load = Sample {
            source: SourceIndex(0),
            outcome: Outcome::Complete,
            took_nanos: 1,
            defined: vec![],
            readings: vec![],
        };
        let at = Stamp { wall: at, boot: BootTime::from_nanos(self.seq.0 * 1_000_000_000) };
        let frame = Frame { boot: BootId::from_bytes([7; 16]), seq: self.seq, at, samples: vec![load], events: vec![] };
        self.encoder.frame(&frame, &mut self.bytes);
        self.seq = self.seq.next();
    }

    /// Its bytes: one segment.
    pub(crate) fn bytes(self) -> Vec<u8> {
        self.bytes
    }
}
