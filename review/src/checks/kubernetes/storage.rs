//! Claims of volumes that are not bound.

use super::{ClusterCheck, ClusterFacts, Found, at_most};
use crate::finding::{Confidence, Severity};
use crate::kubernetes::{Claim, Kind};

/// The checks of this file.
pub(super) const CHECKS: &[ClusterCheck] = &[ClusterCheck {
    id: "k8s.claims",
    title: "Claims of volumes that are pending or lost",
    needs: &[Kind::PersistentVolumeClaim, Kind::Event],
    examine: |facts, _| examine(facts),
}];

/// A volume is made in less.
const TOO_LONG: i64 = 120;

fn examine(facts: &ClusterFacts<'_>) -> Found {
    let mut found = Vec::new();
    for claim in &facts.cluster.claims {
        let phase = claim.phase.as_deref().unwrap_or("Unknown");
        if phase == "Bound" {
            continue;
        }
        let refused = reported(facts, claim, "ProvisioningFailed");
        let young = claim.meta.created.and_then(|at| facts.ago(at)).is_none_or(|ago| ago <= TOO_LONG);
        // A class may wait for the first pod that wants the volume.
        let waits = reported(facts, claim, "WaitForFirstConsumer");
        if phase == "Pending" && !refused && (young || waits) {
            continue;
        }
        let name = claim.meta.called();
        let class = claim.class.as_deref().map(|class| format!(" of class {class}")).unwrap_or_default();
        let summary = format!("claim {name}{class} is {phase}");
        let kind = if refused { "k8s.volume.provisioning" } else { "k8s.volume.pending" };
        let severity = if phase == "Lost" { Severity::Error } else { Severity::Warning };
        let subject = format!("PersistentVolumeClaim {name}");
        let mut finding = facts.finding(kind, severity, Confidence::High, &subject, &summary);
        facts.since(&mut finding, claim.meta.created.filter(|_| phase == "Pending"));
        finding.evidence = vec![facts.cluster.says(&claim.meta, None, summary.clone())];
        found.push(finding);
    }
    at_most(found).into()
}

fn reported(facts: &ClusterFacts<'_>, claim: &Claim, reason: &str) -> bool {
    let about = |event: &&crate::kubernetes::Event| {
        event.about.kind == "PersistentVolumeClaim"
            && event.about.name == claim.meta.name
            && event.about.namespace == claim.meta.namespace
    };
    facts.cluster.events.iter().filter(about).any(|event| event.reason == reason)
}
