//! Services that nobody answers.

use super::{ClusterCheck, ClusterFacts, Found, at_most, counted};
use crate::finding::{Confidence, Severity};
use crate::kubernetes::Kind;

/// The checks of this file.
pub(super) const CHECKS: &[ClusterCheck] = &[ClusterCheck {
    id: "k8s.services",
    title: "Services without an endpoint that is ready",
    needs: &[Kind::Service, Kind::EndpointSlice],
    examine: |facts, _| examine(facts),
}];

fn examine(facts: &ClusterFacts<'_>) -> Found {
    let mut found = Vec::new();
    // Without a list of slices it cannot be told who answers: then nothing is found, and the framework says so.
    if facts.cluster.lacks(Kind::EndpointSlice).is_some() {
        return found.into();
    }
    let chosen = facts.cluster.services.iter().filter(|service| !service.selector.is_empty());
    for service in chosen.filter(|service| service.kind.as_deref() != Some("ExternalName")) {
        let slices: Vec<_> = facts.cluster.slices_of(service).collect();
        let endpoints = slices.iter().flat_map(|slice| &slice.endpoints);
        if endpoints.clone().any(|endpoint| endpoint.ready) {
            continue;
        }
        let pods = facts.cluster.pods.iter().filter(|pod| service.selects(pod)).count();
        let name = service.meta.called();
        let (severity, why) = match pods {
            0 if facts.cluster.lacks(Kind::Pod).is_some() => (Severity::Warning, String::new()),
            0 => (Severity::Warning, ", and no pod is chosen by its selector".to_owned()),
            pods => (Severity::Error, format!(", though its selector chooses {}", counted(pods, "pod"))),
        };
        let summary = format!("service {name} has no endpoint that is ready{why}");
        let subject = format!("Service {name}");
        let mut finding = facts.finding("k8s.service.no_endpoints", severity, Confidence::High, &subject, &summary);
        finding.not_proof = vec!["that somebody calls it".to_owned()];
        finding.evidence = vec![facts.cluster.says(&service.meta, None, summary.clone())];
        let slices = slices.iter().take(2);
        finding.evidence.extend(slices.map(|slice| {
            let text = format!(
                "EndpointSlice {}: {} not ready",
                slice.meta.called(),
                counted(slice.endpoints.len(), "endpoint")
            );
            facts.cluster.says(&slice.meta, None, text)
        }));
        found.push(finding);
    }
    at_most(found).into()
}
