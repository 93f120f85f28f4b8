//! GPUs: lost ones, memory errors, clocks that are held back, heat, links. The records of their driver are `records.rs`'s.

use super::CheckSpec;
use super::facts::{Need, NodeFacts};
use super::spans::{above, longest};
use super::threshold::{MINUTE, lasting, over};
use crate::finding::{Confidence, Finding, Severity};
use crate::gpu::words::{reasons, state, whole};
use crate::seriesset::OneSeries;

const GPU: &[Need] = &[Need::Readings("gpu")];

/// The checks of this file.
pub const CHECKS: &[CheckSpec] = &[
    CheckSpec {
        id: "gpu.state",
        title: "A GPU does not answer",
        needs: GPU,
        metrics: &["casefile_gpu_state"],
        examine: lost,
    },
    CheckSpec {
        id: "gpu.ecc",
        title: "GPU memory errors that were not corrected",
        needs: GPU,
        metrics: &["DCGM_FI_DEV_ECC_DBE_VOL_TOTAL"],
        examine: |facts| {
            grew(
                facts,
                "gpu.ecc",
                "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL",
                Severity::Fatal,
                "memory errors that were not corrected",
            )
        },
    },
    CheckSpec {
        id: "gpu.remap",
        title: "GPU memory that has to be taken out of use",
        needs: GPU,
        metrics: &["DCGM_FI_DEV_ROW_REMAP_PENDING", "DCGM_FI_DEV_ROW_REMAP_FAILURE"],
        examine: remap,
    },
    CheckSpec {
        id: "gpu.throttle",
        title: "The clocks of a GPU are held back by heat or by its power supply",
        needs: GPU,
        metrics: &["DCGM_FI_DEV_CLOCKS_EVENT_REASONS"],
        examine: throttled,
    },
    CheckSpec {
        id: "gpu.temperature",
        title: "A GPU is too hot",
        needs: GPU,
        metrics: &["DCGM_FI_DEV_GPU_TEMP", "DCGM_FI_DEV_SLOWDOWN_TEMP"],
        examine: heat,
    },
    CheckSpec {
        id: "gpu.pcie_replay",
        title: "A GPU's PCIe link repeats what it sends",
        needs: GPU,
        metrics: &["DCGM_FI_DEV_PCIE_REPLAY_COUNTER"],
        examine: replays,
    },
    CheckSpec {
        id: "gpu.nvlink",
        title: "Errors of NVLink",
        needs: GPU,
        metrics: &[
            "casefile_gpu_nvlink_recoveries_failed_total",
            "DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL",
            "casefile_gpu_nvlink_integrity_errors_total",
        ],
        examine: nvlink,
    },
    CheckSpec {
        id: "gpu.count",
        title: "The machine has more GPUs than NVML lists",
        needs: GPU,
        metrics: &["casefile_gpu_devices"],
        examine: count,
    },
];

/// Bits of `nvmlClocksEventReason…` that are faults of cooling or power: hardware slowdown, software and hardware thermal, power brake.
const HELD_BACK: u64 = 8 | 32 | 64 | 128;

/// What a healthy PCIe 5.0 link with 16 lanes repeats in a minute (DCGM's own bound: 1.92 a lane).
const REPLAYS_A_MINUTE: f64 = 31.0;

fn called(series: &OneSeries) -> String {
    let label = |name| series.label(name).filter(|l| !l.is_empty());
    match (label("pci_bus_id"), label("gpu")) {
        (Some(pci), _) => format!("GPU {pci}"),
        (None, Some(number)) => format!("GPU {number}"),
        (None, None) => "a GPU".to_owned(),
    }
}

fn lost(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let one = |series: &OneSeries| {
        let bad: Vec<_> = facts.timed(&series.values).into_iter().filter(|(_, code)| *code > 1.0).collect();
        let (first, last) = (bad.first()?, bad.last()?);
        let again = series.values.last().is_some_and(|value| value.value == 1.0);
        let word = state(whole(first.1)?);
        let ended = if again { ", and it answers again" } else { "" };
        let text = format!("{}: {word}{ended}", called(series));
        let severity = if again { Severity::Error } else { Severity::Fatal };
        let mut finding = facts.finding("gpu.state", severity, Confidence::High, text.clone());
        (finding.first, finding.last, finding.count) = (Some(first.0), Some(last.0), bad.len() as u64);
        finding.subject = Some(called(series));
        finding.now = Some("take the node out of scheduling; look for the Xid and for PCIe errors of its parent port; it needs a reset or a restart".to_owned());
        finding.not_proof = vec!["that the GPU is broken: riser, power supply and root port look the same".to_owned()];
        finding.evidence = vec![facts.series(series, first.0, last.0, first.1, text)];
        Some(finding)
    };
    facts.set.of("casefile_gpu_state").filter_map(one).collect()
}

fn grew(facts: &NodeFacts<'_>, kind: &str, metric: &str, severity: Severity, what: &str) -> Vec<Finding> {
    let one = |series: &OneSeries| {
        let grown = facts.set.grown(series).filter(|grown| *grown >= 1.0)?;
        let values = facts.timed(&series.values);
        let step = values.windows(2).find(|pair| pair[1].1 > pair[0].1)?;
        let text = format!("{}: {grown:.0} {what}", called(series));
        let mut finding = facts.finding(kind, severity, Confidence::High, text.clone());
        (finding.first, finding.last) = (Some(step[1].0), values.last().map(|v| v.0));
        finding.subject = Some(called(series));
        finding.evidence = vec![facts.series(series, step[0].0, step[1].0, grown, text)];
        Some(finding)
    };
    facts.set.of(metric).filter_map(one).collect()
}

fn remap(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let of = |metric, severity, what: &str| -> Vec<Finding> {
        let one = |series: &OneSeries| {
            let set: Vec<_> = facts.timed(&series.values).into_iter().filter(|(_, value)| *value > 0.0).collect();
            let (first, last) = (set.first()?, set.last()?);
            let text = format!("{}: {what}", called(series));
            let mut finding = facts.finding("gpu.remap", severity, Confidence::High, text.clone());
            (finding.first, finding.last) = (Some(first.0), Some(last.0));
            finding.subject = Some(called(series));
            finding.evidence = vec![facts.series(series, first.0, last.0, first.1, text)];
            Some(finding)
        };
        facts.set.of(metric).filter_map(one).collect()
    };
    let mut found = of(
        "DCGM_FI_DEV_ROW_REMAP_FAILURE",
        Severity::Fatal,
        "memory could not be taken out of use: a candidate for replacement",
    );
    found.extend(of(
        "DCGM_FI_DEV_ROW_REMAP_PENDING",
        Severity::Warning,
        "memory is to be taken out of use at the next reset",
    ));
    found
}

fn throttled(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let one = |series: &OneSeries| {
        let held = |code: f64| whole(code).and_then(|code| u64::try_from(code).ok()).map_or(0, |bits| bits & HELD_BACK);
        let values: Vec<_> = facts
            .timed(&series.values)
            .into_iter()
            .map(|(at, code)| (at, if held(code) == 0 { 0.0 } else { 1.0 }))
            .collect();
        let span = longest(above(&values, 1.0, MINUTE / 2))?;
        let window = facts.timed(&series.values);
        let bits = window
            .iter()
            .filter(|(at, _)| *at >= span.from && *at <= span.until)
            .fold(0, |bits, (_, code)| bits | held(*code));
        let text = format!("{}: clocks held back for {}: {}", called(series), lasting(&span), reasons(bits));
        let mut finding = over(facts, "gpu.throttle", Severity::Warning, series, span, text);
        finding.subject = Some(called(series));
        finding.not_proof = vec![
            "a fault of the GPU: a power brake comes from the power supply or the rack, heat from the air".to_owned(),
        ];
        Some(finding)
    };
    facts.set.of("DCGM_FI_DEV_CLOCKS_EVENT_REASONS").filter_map(one).collect()
}

fn heat(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let one = |series: &OneSeries| {
        let limit = facts.set.of("DCGM_FI_DEV_SLOWDOWN_TEMP").find(|l| l.label("UUID") == series.label("UUID"))?;
        let limit = limit.values.last()?.value;
        let span = longest(above(&facts.timed(&series.values), limit, MINUTE / 6))?;
        let text =
            format!("{}: up to {:.0} °C, at or above {limit:.0} °C for {}", called(series), span.peak, lasting(&span));
        let mut finding = over(facts, "gpu.temperature", Severity::Warning, series, span, text);
        finding.subject = Some(called(series));
        Some(finding)
    };
    facts.set.of("DCGM_FI_DEV_GPU_TEMP").filter_map(one).collect()
}

fn replays(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let one = |series: &OneSeries| {
        let grown = facts.set.grown(series)?;
        let values = facts.timed(&series.values);
        let (first, last) = (values.first()?.0, values.last()?.0);
        let minutes = last.nanos_since(first) as f64 / 60e9;
        if minutes < 1.0 || grown / minutes <= REPLAYS_A_MINUTE {
            return None;
        }
        let text = format!("{}: the PCIe link repeated {:.0} packets a minute", called(series), grown / minutes);
        let mut finding = facts.finding("gpu.pcie_replay", Severity::Warning, Confidence::Medium, text.clone());
        (finding.first, finding.last) = (Some(first), Some(last));
        finding.subject = Some(called(series));
        finding.evidence = vec![facts.series(series, first, last, grown, text)];
        Some(finding)
    };
    facts.set.of("DCGM_FI_DEV_PCIE_REPLAY_COUNTER").filter_map(one).collect()
}

fn nvlink(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let mut found = grew(
        facts,
        "gpu.nvlink",
        "casefile_gpu_nvlink_recoveries_failed_total",
        Severity::Error,
        "NVLink recoveries that failed",
    );
    found.extend(grew(
        facts,
        "gpu.nvlink",
        "DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL",
        Severity::Warning,
        "NVLink recoveries",
    ));
    found.extend(grew(
        facts,
        "gpu.nvlink",
        "casefile_gpu_nvlink_integrity_errors_total",
        Severity::Warning,
        "NVLink integrity errors",
    ));
    found
}

fn count(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let seen_by = |who: &str| facts.set.one("casefile_gpu_devices", &[("seen_by", who)]);
    let (Some(nvml), Some(bus)) = (seen_by("nvml"), seen_by("pci")) else { return Vec::new() };
    let on_bus = facts.timed(&bus.values);
    let listed = facts.timed(&nvml.values);
    let short: Vec<_> = listed
        .iter()
        .filter_map(|(at, nvml)| {
            let bus = on_bus.iter().take_while(|(t, _)| t <= at).last()?.1;
            (*nvml < bus).then_some((*at, *nvml, bus))
        })
        .collect();
    let (Some(first), Some(last)) = (short.first(), short.last()) else { return Vec::new() };
    let text = format!("NVML lists {} GPUs of {} on the PCI bus", first.1, first.2);
    let mut finding = facts.finding("gpu.count", Severity::Error, Confidence::High, text.clone());
    (finding.first, finding.last, finding.count) = (Some(first.0), Some(last.0), short.len() as u64);
    finding.evidence = vec![facts.series(nvml, first.0, last.0, first.1, text)];
    vec![finding]
}
