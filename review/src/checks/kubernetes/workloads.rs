//! Workloads that have fewer ready pods than they should, and jobs that gave up.

use std::collections::BTreeMap;

use super::{ClusterCheck, ClusterFacts, Found, at_most, cite, quoted};
use crate::finding::{Confidence, Finding, Severity};
use crate::kubernetes::{Kind, Workload};

/// The checks of this file.
pub(super) const CHECKS: &[ClusterCheck] = &[
    ClusterCheck {
        id: "k8s.workloads",
        title: "Deployments, stateful sets and daemon sets with fewer ready pods than they should have",
        needs: &[Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet],
        examine: unavailable,
    },
    ClusterCheck { id: "k8s.jobs", title: "Jobs that gave up", needs: &[Kind::Job], examine: |facts, _| jobs(facts) },
];

fn unavailable(facts: &ClusterFacts<'_>, before: &mut [Finding]) -> Found {
    let mut found = Found::default();
    let mut lost: BTreeMap<String, u64> = BTreeMap::new();
    for pod in facts.cluster.pods.iter().filter(|pod| facts.is_on_lost_node(pod)) {
        *lost.entry(facts.cluster.subject(&pod.meta)).or_default() += 1;
    }
    // A replica set is its deployment's matter.
    let wanted = facts.cluster.workloads.iter().filter(|workload| workload.kind != Kind::ReplicaSet);
    for workload in wanted {
        let Some(desired) = workload.desired.filter(|desired| workload.ready < *desired) else { continue };
        let subject = format!("{} {}", workload.kind.name(), workload.meta.called());
        let summary = format!("{subject} has {} of {desired} pods ready", workload.ready);
        let evidence = facts.cluster.says(&workload.meta, since(workload), summary.clone());
        // What its pods say is why.
        let of_pods = |finding: &&mut Finding| {
            finding.kind.starts_with("k8s.pod.") && finding.subject.as_deref() == Some(&*subject)
        };
        if let Some(finding) = before.iter_mut().find(of_pods) {
            finding.summary.push_str(&format!(", {} of {desired} pods ready", workload.ready));
            if workload.ready == 0 {
                finding.severity = finding.severity.max(Severity::Error);
            }
            cite(finding, evidence);
            found.added = true;
            continue;
        }
        let lost = lost.get(&subject).copied().unwrap_or(0);
        let severity = match workload.ready {
            // What is wrong is told of the node.
            _ if lost >= desired - workload.ready => Severity::Info,
            0 => Severity::Error,
            _ => Severity::Warning,
        };
        let mut finding = facts.finding("k8s.workload.unavailable", severity, Confidence::High, &subject, &summary);
        facts.since(&mut finding, since(workload));
        finding.evidence = vec![evidence];
        found.new.push(finding);
    }
    found.new = at_most(found.new);
    found
}

/// Since when it is not available.
fn since(workload: &Workload) -> Option<casefile_proto::time::WallTime> {
    let available = workload.conditions.iter().find(|condition| condition.kind == "Available");
    available.filter(|condition| condition.status == "False").and_then(|condition| condition.since)
}

fn jobs(facts: &ClusterFacts<'_>) -> Found {
    let mut found = Vec::new();
    for job in &facts.cluster.jobs {
        let Some((reason, message, at)) = &job.gave_up else { continue };
        let subject = format!("Job {}", job.meta.called());
        let why = reason.as_deref().map(|reason| format!(", {reason}")).unwrap_or_default();
        let summary = format!("job {} gave up{why}{}", job.meta.called(), quoted(message.as_deref()));
        let mut finding = facts.finding("k8s.job.failed", Severity::Warning, Confidence::High, &subject, &summary);
        facts.since(&mut finding, *at);
        finding.evidence = vec![facts.cluster.says(&job.meta, *at, format!("Job {}: {summary}", job.meta.called()))];
        found.push(finding);
    }
    at_most(found).into()
}
