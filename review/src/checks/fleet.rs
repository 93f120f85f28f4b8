//! Nodes against each other: those of one kind are compared, and one that stands out is told. No fault by itself.
//!
//! Of each node only a digest is kept, so that a fleet fits. A kind is what the machine is: processor, CPUs, memory, GPUs. Medians and
//! their deviations are used, because a mean is moved by the very node that is looked for.

use std::collections::BTreeMap;

use casefile_proto::ids::NodeName;

use super::before::short;
use super::facts::NodeFacts;
use super::threshold::share;
use crate::finding::{Confidence, Evidence, Finding, Severity};
use crate::seriesset::stats;

/// The id of the check.
pub const ID: &str = "outlier.twins";

/// What it looks for.
pub const TITLE: &str = "A node that stands out among those of its kind";

/// The metrics that it looks at.
pub const METRICS: &[&str] = &[
    "casefile_processor_info",
    "casefile_gpu_info",
    "node_memory_MemTotal_bytes",
    "node_memory_MemAvailable_bytes",
    "node_load1",
    "node_pressure_cpu_waiting_seconds_total",
    "node_pressure_memory_waiting_seconds_total",
    "node_pressure_io_waiting_seconds_total",
    "node_context_switches_total",
    "node_netstat_Tcp_RetransSegs",
    "node_netstat_Tcp_CurrEstab",
    "DCGM_FI_DEV_GPU_UTIL",
    "DCGM_FI_DEV_GPU_TEMP",
    "DCGM_FI_DEV_POWER_USAGE",
    "DCGM_FI_DEV_SM_CLOCK",
];

/// Fewer than so many of a kind have no middle.
const FEWEST: usize = 4;

/// So many deviations from the middle, and so much of it: with a handful of nodes three deviations are chance.
const DEVIATIONS: f64 = 8.0;
const RELATIVE: f64 = 0.5;

/// The most that is told of one node.
const MAX_TOLD: usize = 5;

/// What is kept of a node.
#[derive(Debug)]
pub struct Digest {
    node: NodeName,
    kind: String,
    figures: Vec<Figure>,
}

/// One figure of a node.
#[derive(Debug)]
struct Figure {
    name: String,
    mean: f64,
    /// Below it a difference is none that anybody would mind.
    floor: f64,
    evidence: Evidence,
}

/// What counts as no difference at all, by metric: a load of 0.3 is three times 0.1 and says nothing.
fn floor(metric: &str) -> f64 {
    match metric {
        "node_load1" => 1.0,
        "node_memory_MemAvailable_bytes" => 0.1,
        "node_context_switches_total" => 2000.0,
        "node_netstat_Tcp_RetransSegs" => 5.0,
        "node_netstat_Tcp_CurrEstab" => 50.0,
        "DCGM_FI_DEV_GPU_UTIL" => 10.0,
        "DCGM_FI_DEV_GPU_TEMP" => 8.0,
        "DCGM_FI_DEV_POWER_USAGE" => 50.0,
        "DCGM_FI_DEV_SM_CLOCK" => 150.0,
        // Pressure, in seconds of a second.
        _ => 0.05,
    }
}

/// The digest of a node; `None` for one of which nothing was recorded.
pub fn digest(facts: &NodeFacts<'_>) -> Option<Digest> {
    let (first, last) = (facts.set.ticks.first()?.at, facts.set.ticks.last()?.at);
    let mut figures = Vec::new();
    for metric in METRICS.iter().filter(|metric| !metric.ends_with("_info") && **metric != "node_memory_MemTotal_bytes")
    {
        // Of several series of one metric (the GPUs of a node) the mean: which one it was, the node's own findings say.
        let all: Vec<_> = facts.set.of(metric).collect();
        let Some(series) = all.first() else { continue };
        let mut means = Vec::new();
        for series in &all {
            let mean = if *metric == "node_memory_MemAvailable_bytes" {
                let total = facts.set.of("node_memory_MemTotal_bytes").next();
                let shares = total.map(|total| share(facts, series, total)).unwrap_or_default();
                (!shares.is_empty()).then(|| shares.iter().map(|s| s.1).sum::<f64>() / shares.len() as f64)
            } else {
                stats(&facts.set.moves(series)).map(|stats| stats.mean)
            };
            means.extend(mean);
        }
        if means.is_empty() {
            continue;
        }
        let mean = means.iter().sum::<f64>() / means.len() as f64;
        let evidence = facts.series(series, first, last, mean, format!("the mean of {metric} was {}", short(mean)));
        figures.push(Figure { name: (*metric).to_owned(), mean, floor: floor(metric), evidence });
    }
    Some(Digest { node: facts.name.clone(), kind: kind(facts), figures })
}

/// What the machine is.
fn kind(facts: &NodeFacts<'_>) -> String {
    let processor = facts.set.of("casefile_processor_info").next();
    let label = |name| processor.and_then(|p| p.label(name)).unwrap_or("?").to_owned();
    let memory = facts.set.of("node_memory_MemTotal_bytes").next().and_then(|m| m.values.last());
    // Two machines of one kind differ by what their firmware keeps: two significant digits are enough.
    let gib = memory
        .map_or_else(|| "?".to_owned(), |m| format!("{:.0}", (m.value / (8.0 * f64::from(1 << 30))).round() * 8.0));
    let gpus: Vec<_> = facts.set.of("casefile_gpu_info").filter_map(|gpu| gpu.label("modelName")).collect();
    let model = gpus.first().copied().unwrap_or("no GPU");
    format!("{} × {}, {gib} GiB, {} × {model}", label("cpus"), label("model_name"), gpus.len())
}

/// The nodes that stand out, and those of which nothing can be said because there are too few of their kind.
pub fn compare(digests: &[Digest]) -> (Vec<Finding>, Vec<NodeName>) {
    let mut kinds: BTreeMap<&str, Vec<&Digest>> = BTreeMap::new();
    for digest in digests {
        kinds.entry(&digest.kind).or_default().push(digest);
    }
    let (mut found, mut alone) = (Vec::new(), Vec::new());
    for (kind, nodes) in kinds {
        if nodes.len() < FEWEST {
            alone.extend(nodes.iter().map(|digest| digest.node.clone()));
            continue;
        }
        let mut by_node: BTreeMap<&NodeName, Vec<(f64, Finding)>> = BTreeMap::new();
        for metric in METRICS {
            for (node, score, finding) in standing_out(kind, &nodes, metric) {
                by_node.entry(node).or_default().push((score, finding));
            }
        }
        for mut findings in by_node.into_values() {
            findings.sort_by(|a, b| b.0.total_cmp(&a.0));
            found.extend(findings.into_iter().take(MAX_TOLD).map(|(_, finding)| finding));
        }
    }
    (found, alone)
}

fn standing_out<'d>(kind: &str, nodes: &[&'d Digest], metric: &str) -> Vec<(&'d NodeName, f64, Finding)> {
    let of: Vec<(&'d NodeName, &'d Figure)> = nodes
        .iter()
        .filter_map(|digest| Some((&digest.node, digest.figures.iter().find(|figure| figure.name == metric)?)))
        .collect();
    if of.len() < FEWEST {
        return Vec::new();
    }
    let middle = median(of.iter().map(|(_, figure)| figure.mean).collect());
    let spread = median(of.iter().map(|(_, figure)| (figure.mean - middle).abs()).collect()) * 1.4826;
    let mut out = Vec::new();
    for (node, figure) in &of {
        let away = (figure.mean - middle).abs();
        let deviations = away / spread.max(figure.floor / DEVIATIONS);
        if deviations < DEVIATIONS || away < figure.floor || away < RELATIVE * middle.abs() {
            continue;
        }
        let summary = format!(
            "{metric} was {} on average, {} in the middle of the {} nodes of its kind ({kind})",
            short(figure.mean),
            short(middle),
            of.len()
        );
        let finding = Finding {
            id: String::new(),
            kind: ID.to_owned(),
            check: ID.to_owned(),
            severity: Severity::Info,
            confidence: Confidence::Low,
            node: Some((*node).clone()),
            subject: Some(metric.to_owned()),
            summary,
            meaning: None,
            now: None,
            not_proof: vec!["a fault: it may have other work to do".to_owned()],
            first: figure.evidence.from,
            last: figure.evidence.until,
            count: 1,
            pod: None,
            part_of: None,
            evidence: vec![figure.evidence.clone()],
        };
        out.push((*node, deviations, finding));
    }
    out
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() % 2 {
        _ if values.is_empty() => 0.0,
        0 => f64::midpoint(values[half - 1], values[half]),
        _ => values[half],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::EvidenceKind;

    fn digests(loads: &[f64]) -> Vec<Digest> {
        let one = |(n, mean): (usize, &f64)| {
            let node: NodeName = format!("n{n}").parse().unwrap();
            let evidence = Evidence::new(EvidenceKind::Series, Some(&node), "");
            let figure = Figure { name: "node_load1".to_owned(), mean: *mean, floor: 1.0, evidence };
            Digest { node, kind: "k".to_owned(), figures: vec![figure] }
        };
        loads.iter().enumerate().map(one).collect()
    }

    #[test]
    fn one_that_stands_out_is_told_and_ordinary_differences_are_not() {
        let (found, alone) = compare(&digests(&[2.0, 2.2, 1.9, 2.1, 30.0]));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].node.as_ref().unwrap().as_str(), "n4");
        assert!(alone.is_empty());
        assert!(compare(&digests(&[0.1, 0.2, 0.1, 0.15, 0.6])).0.is_empty(), "below what anybody would mind");
        assert!(compare(&digests(&[2.0, 4.0, 6.0, 8.0, 10.0])).0.is_empty(), "wide apart all of them");
    }

    #[test]
    fn of_too_few_nothing_is_said() {
        let (found, alone) = compare(&digests(&[2.0, 2.0, 30.0]));
        assert!(found.is_empty());
        assert_eq!(alone.len(), 3);
    }
}
