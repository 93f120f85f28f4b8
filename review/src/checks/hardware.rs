//! Hardware: memory modules, PCIe, heat of CPUs, InfiniBand ports, as their counters have it.

use super::CheckSpec;
use super::facts::{Need, NodeFacts};
use super::threshold::steps;
use crate::finding::{Confidence, Finding, Severity};
use crate::seriesset::OneSeries;

/// The checks of this file.
pub const CHECKS: &[CheckSpec] = &[
    CheckSpec {
        id: "hw.memory",
        title: "Errors of memory modules",
        needs: &[Need::Readings("hardware")],
        metrics: &["node_edac_uncorrectable_errors_total", "node_edac_correctable_errors_total"],
        examine: modules,
    },
    CheckSpec {
        id: "pcie.errors",
        title: "Errors of PCIe devices",
        needs: &[Need::Readings("hardware")],
        metrics: &["casefile_pcie_aer_errors_total"],
        examine: pcie,
    },
    CheckSpec {
        id: "cpu.heat",
        title: "CPUs slowed down by heat",
        needs: &[Need::Readings("cpu")],
        metrics: &["node_cpu_package_throttles_total"],
        examine: |facts| {
            counters(
                facts,
                "cpu.heat",
                "node_cpu_package_throttles_total",
                |_| Some(Severity::Warning),
                "times slowed down by heat",
            )
        },
    },
    CheckSpec {
        id: "ib.port",
        title: "An InfiniBand port is not active any more",
        needs: &[Need::Readings("hardware")],
        metrics: &["node_infiniband_state_id", "node_infiniband_link_downed_total"],
        examine: port,
    },
];

/// The most devices that are told one by one.
const MAX_TOLD: usize = 8;

fn counters(
    facts: &NodeFacts<'_>,
    kind: &str,
    metric: &str,
    severity: impl Fn(&OneSeries) -> Option<Severity>,
    what: &str,
) -> Vec<Finding> {
    let one = |series: &OneSeries| {
        let severity = severity(series)?;
        let grown = facts.set.grown(series).filter(|grown| *grown >= 1.0)?;
        let (first, last) = steps(facts, series)?;
        let subject = match series.label("address") {
            Some(address) => format!("PCI device {address}"),
            None => series.named().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(" "),
        };
        let text = format!("{subject}: {grown:.0} {what}");
        let mut finding = facts.finding(kind, severity, Confidence::High, text.clone());
        (finding.first, finding.last) = (Some(first), Some(last));
        finding.subject = Some(subject);
        finding.evidence = vec![facts.series(series, first, last, grown, text)];
        Some(finding)
    };
    facts.set.of(metric).filter_map(one).collect()
}

fn modules(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let mut found = counters(
        facts,
        "hw.memory",
        "node_edac_uncorrectable_errors_total",
        |_| Some(Severity::Fatal),
        "memory errors that were not corrected",
    );
    found.extend(counters(
        facts,
        "hw.memory",
        "node_edac_correctable_errors_total",
        |_| Some(Severity::Warning),
        "memory errors that were corrected",
    ));
    found
}

fn pcie(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let severity = |series: &OneSeries| match series.label("severity")? {
        "fatal" => Some(Severity::Error),
        "nonfatal" => Some(Severity::Warning),
        // Corrected ones are ordinary on many boards: their rate tells, and the records of the kernel name them.
        _ => None,
    };
    let mut found =
        counters(facts, "pcie.errors", "casefile_pcie_aer_errors_total", severity, "errors that were not corrected");
    // A switch or port that reports for every device below it would be told as often.
    found.truncate(MAX_TOLD);
    found
}

/// `IB_PORT_ACTIVE` and `IB_PORT_ACTIVE_DEFER`.
fn is_active(code: f64) -> bool {
    code == 4.0 || code == 5.0
}

fn port(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let one = |series: &OneSeries| {
        let values = facts.timed(&series.values);
        let change = values.windows(2).find(|pair| is_active(pair[0].1) && !is_active(pair[1].1))?;
        let last = values.last()?;
        let (severity, now) = if is_active(last.1) {
            (Severity::Error, "active again at the end")
        } else {
            (Severity::Fatal, "not active at the end")
        };
        let subject = format!("{} port {}", series.label("device")?, series.label("port")?);
        let text = format!("{subject} went out of state active, {now}");
        let mut finding = facts.finding("ib.port", severity, Confidence::High, text.clone());
        (finding.first, finding.last) = (Some(change[1].0), Some(last.0));
        finding.subject = Some(subject);
        finding.evidence = vec![facts.series(series, change[0].0, last.0, change[1].1, text)];
        Some(finding)
    };
    facts.set.of("node_infiniband_state_id").filter_map(one).collect()
}
