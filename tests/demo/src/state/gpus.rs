//! GPUs when their machine was asked: rows, processes, and a text for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use casefile_proto::gap::{Gap, GapReason};
use serde_json::{Value, json};

use super::ASKED;
use crate::machine::gpu::{VERSIONS, is_lost, process};
use crate::node::{Gpu, Kind, Node};
use crate::story;

const LIBRARY: &str = "libnvidia-ml.so.1";

/// The driver, and each GPU.
pub(super) fn rows(node: &Node) -> Vec<Value> {
    let [driver, nvml, cuda] = VERSIONS;
    let mut rows = vec![json!({
        "collected_at": node.stamp(ASKED),
        "driver_version": driver,
        "nvml_version": nvml,
        "cuda_version": cuda,
        "library": LIBRARY,
        "gpus": node.gpus.len(),
    })];
    rows.extend(node.gpus.iter().map(|gpu| {
        let lost = is_lost(node, gpu.index, ASKED);
        let mut row = json!({
            "gpu": gpu.index,
            "uuid": gpu.uuid,
            "pci_bus_id": gpu.nvml(),
            "device": format!("nvidia{}", gpu.index),
            "name": Gpu::MODEL,
            "state": if lost { "lost: it fell off the bus" } else { "answers" },
            "architecture": "Hopper",
            "vbios_version": "96.00.A5.00.01",
            "serial": gpu.serial,
            "board_part_number": "692-2G520-0200-000",
            "gsp_firmware_version": driver,
            "values": {},
        });
        if !lost {
            let up: BTreeMap<u8, bool> = (0..18).map(|link| (link, true)).collect();
            row["values"] = json!(values(node));
            row["nvlinks_up"] = json!(up);
        }
        row
    }));
    rows
}

fn holds(node: &Node) -> bool {
    node.pod(Kind::Trainer).is_some_and(|pod| pod.run(ASKED).is_some())
}

fn values(node: &Node) -> BTreeMap<&'static str, f64> {
    let (works, held) = (story::trains(node.name, ASKED), holds(node));
    BTreeMap::from([
        ("DCGM_FI_DEV_GPU_UTIL", if works { 95.0 } else { 0.0 }),
        ("DCGM_FI_DEV_FB_TOTAL", 81_559.0),
        ("DCGM_FI_DEV_FB_USED", if held { 72_114.0 } else { 4.0 }),
        (
            "DCGM_FI_DEV_POWER_USAGE",
            if works {
                611.2
            } else if held {
                137.1
            } else {
                74.0
            },
        ),
        (
            "DCGM_FI_DEV_GPU_TEMP",
            if works {
                60.0
            } else if held {
                36.0
            } else {
                32.0
            },
        ),
        (
            "DCGM_FI_DEV_SM_CLOCK",
            if works {
                1_755.0
            } else if held {
                1_980.0
            } else {
                345.0
            },
        ),
        ("casefile_gpu_recovery_action", 0.0),
    ])
}

/// Who holds them.
pub(super) fn processes(node: &Node) -> Vec<Value> {
    let Some(pod) = node.pod(Kind::Trainer) else { return Vec::new() };
    let Some(run) = pod.run(ASKED) else { return Vec::new() };
    let row = |gpu: &Gpu| {
        json!({
            "gpu": gpu.index,
            "uuid": gpu.uuid,
            "pid": process(run.pid, gpu.index),
            "type": "C",
            "memory_bytes": (72_114_i64 - 420) << 20,
            "comm": Kind::Trainer.comm(),
            "cgroup": pod.scope(run),
            "pod_uid": pod.uid,
            "container_id": run.id,
        })
    };
    node.gpus.iter().map(row).collect()
}

/// The same for people.
pub(super) fn report(node: &Node) -> String {
    let [driver, nvml, cuda] = VERSIONS;
    let mut out = String::new();
    let mut line = |depth: usize, name: &str, value: &str| {
        let width = 44_usize.saturating_sub(depth * 4);
        // Writing to a String does not fail.
        let _ = if value.is_empty() {
            writeln!(out, "{:depth$}{name}", "", depth = depth * 4)
        } else {
            writeln!(out, "{:depth$}{name:<width$}: {value}", "", depth = depth * 4)
        };
    };
    line(0, "Time", &node.stamp(ASKED).wall.to_string());
    line(0, "Driver Version", driver);
    line(0, "NVML Version", nvml);
    line(0, "CUDA Version", cuda);
    line(0, "Library", LIBRARY);
    line(0, "GPUs", &node.gpus.len().to_string());
    for gpu in &node.gpus {
        let lost = is_lost(node, gpu.index, ASKED);
        line(0, "", "");
        line(0, &gpu.called(), "");
        line(1, "Product", Gpu::MODEL);
        line(1, "State", if lost { "lost: it fell off the bus" } else { "answers" });
        if !lost {
            for (name, value) in values(node) {
                line(
                    1,
                    name.trim_start_matches("DCGM_FI_DEV_").trim_start_matches("casefile_gpu_"),
                    &value.to_string(),
                );
            }
        }
        line(1, "Processes", if holds(node) && !lost { "" } else { "none" });
    }
    out
}

/// What could not be read.
pub(super) fn gaps(node: &Node) -> Vec<Gap> {
    let lost = node.gpus.iter().filter(|gpu| is_lost(node, gpu.index, ASKED));
    lost.map(|gpu| Gap::new(GapReason::SourceFailed, format!("{} is lost: it fell off the bus", gpu.called())))
        .collect()
}
