//! Applications of Argo CD that are not as their repository says, or not well.

use super::{ClusterCheck, ClusterFacts, Found, at_most};
use crate::finding::{Confidence, Severity};
use crate::kubernetes::Kind;

/// The checks of this file.
pub(super) const CHECKS: &[ClusterCheck] = &[ClusterCheck {
    id: "k8s.argocd",
    title: "Argo CD applications that are out of sync or not healthy",
    needs: &[Kind::Application],
    examine: |facts, _| examine(facts),
}];

fn examine(facts: &ClusterFacts<'_>) -> Found {
    let mut found = Vec::new();
    for application in &facts.cluster.applications {
        let name = application.meta.called();
        let mut tell = |kind: &str, summary: &str, since| {
            let subject = format!("Application {name}");
            let mut finding = facts.finding(kind, Severity::Warning, Confidence::High, &subject, summary);
            facts.since(&mut finding, since);
            finding.evidence = vec![facts.cluster.says(&application.meta, since, summary.to_owned())];
            found.push(finding);
        };
        if let Some(health @ ("Degraded" | "Missing" | "Unknown")) = application.status.health.as_deref() {
            tell("k8s.argocd.health", &format!("Argo CD calls application {name} {health}"), application.since);
        }
        if let Some(sync @ ("OutOfSync" | "Unknown")) = application.status.sync.as_deref() {
            let at = application.revision.as_deref().map(|revision| format!(" at {revision}")).unwrap_or_default();
            tell("k8s.argocd.sync", &format!("Argo CD calls application {name} {sync}{at}"), None);
        }
    }
    at_most(found).into()
}
