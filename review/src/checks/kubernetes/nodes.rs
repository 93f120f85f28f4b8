//! Nodes that the cluster does not count on: not ready, short of something, closed for new pods.

use super::{ClusterCheck, ClusterFacts, Found, at_most, counted, quoted};
use crate::finding::{Confidence, Finding, Severity};
use crate::kubernetes::{Kind, Node};

/// The checks of this file.
pub(super) const CHECKS: &[ClusterCheck] = &[
    ClusterCheck {
        id: "k8s.nodes",
        title: "Nodes that are not ready, or short of memory, disk or process numbers",
        needs: &[Kind::Node],
        examine: |facts, _| examine(facts),
    },
    ClusterCheck {
        id: "k8s.cordoned",
        title: "Nodes that are closed for new pods",
        needs: &[Kind::Node],
        examine: |facts, _| cordoned(facts),
    },
];

fn examine(facts: &ClusterFacts<'_>) -> Found {
    let (mut ready, mut pressed) = (Vec::new(), Vec::new());
    for node in &facts.cluster.nodes {
        match node.ready() {
            Some(condition) if condition.status == "True" => {}
            Some(condition) => {
                let words = if condition.status == "Unknown" { "gives the cluster no sign" } else { "is not ready" };
                let on_it = facts.cluster.pods_on(&node.meta.name).count();
                let pods = if on_it > 0 { format!(", {} on it", counted(on_it, "pod")) } else { String::new() };
                let summary = format!("node {} {words}{}{pods}", node.meta.name, quoted(condition.message.as_deref()));
                ready.push(one(facts, node, "k8s.node.not_ready", Severity::Error, &summary, Some(condition.since)));
            }
            None => {
                let summary = format!("of node {} it is not said whether it is ready", node.meta.name);
                ready.push(one(facts, node, "k8s.node.not_ready", Severity::Warning, &summary, None));
            }
        }
        for condition in node.under_pressure() {
            let summary =
                format!("node {} has {}{}", node.meta.name, condition.kind, quoted(condition.message.as_deref()));
            pressed.push(one(facts, node, "k8s.node.pressure", Severity::Warning, &summary, Some(condition.since)));
        }
    }
    let mut all = at_most(ready);
    all.extend(at_most(pressed));
    all.into()
}

fn cordoned(facts: &ClusterFacts<'_>) -> Found {
    let closed = facts.cluster.nodes.iter().filter(|node| node.cordoned);
    let told = |node: &Node| {
        let summary = format!("node {} is closed for new pods", node.meta.name);
        one(facts, node, "k8s.node.cordoned", Severity::Info, &summary, None)
    };
    at_most(closed.map(told).collect()).into()
}

fn one(
    facts: &ClusterFacts<'_>,
    node: &Node,
    kind: &str,
    severity: Severity,
    summary: &str,
    since: Option<Option<casefile_proto::time::WallTime>>,
) -> Finding {
    let subject = format!("Node {}", node.meta.name);
    let mut finding = facts.finding(kind, severity, Confidence::High, &subject, summary);
    finding.node = facts.node(&node.meta.name);
    let at = since.flatten();
    facts.since(&mut finding, at);
    finding.evidence = vec![facts.cluster.says(&node.meta, at, format!("Node {}: {summary}", node.meta.name))];
    finding
}
