//! Autoscalers that may make no more pods, or do not know what their pods use.

use super::{ClusterCheck, ClusterFacts, Found, at_most, quoted};
use crate::finding::{Confidence, Severity};
use crate::kubernetes::{Autoscaler, Kind};

/// The checks of this file.
pub(super) const CHECKS: &[ClusterCheck] = &[ClusterCheck {
    id: "k8s.autoscalers",
    title: "Autoscalers at their maximum, or without metrics",
    needs: &[Kind::HorizontalPodAutoscaler],
    examine: |facts, _| examine(facts),
}];

fn examine(facts: &ClusterFacts<'_>) -> Found {
    let mut found = Vec::new();
    for scaler in &facts.cluster.autoscalers {
        let name = scaler.meta.called();
        let holds = |kind: &str, status: &str| scaler.conditions.iter().find(|c| c.kind == kind && c.status == status);
        let mut tell = |kind: &str, severity: Severity, summary: &str, since| {
            let subject = format!("HorizontalPodAutoscaler {name}");
            let mut finding = facts.finding(kind, severity, Confidence::High, &subject, summary);
            facts.since(&mut finding, since);
            finding.evidence = vec![facts.cluster.says(&scaler.meta, since, summary.to_owned())];
            found.push(finding);
        };
        if is_at_maximum(scaler) {
            let limited = holds("ScalingLimited", "True").filter(|c| c.reason.as_deref() == Some("TooManyReplicas"));
            let max = scaler.max.unwrap_or_default();
            let summary = match limited {
                Some(_) => format!("autoscaler {name} of {} wants more than its maximum of {max} pods", scaler.target),
                None => format!("autoscaler {name} of {} is at its maximum of {max} pods", scaler.target),
            };
            let severity = if limited.is_some() { Severity::Warning } else { Severity::Info };
            tell("k8s.hpa.at_maximum", severity, &summary, limited.and_then(|c| c.since));
        }
        if let Some(blind) = holds("ScalingActive", "False") {
            let summary =
                format!("autoscaler {name} of {} cannot scale{}", scaler.target, quoted(blind.message.as_deref()));
            tell("k8s.hpa.no_metrics", Severity::Warning, &summary, blind.since);
        }
    }
    at_most(found).into()
}

fn is_at_maximum(scaler: &Autoscaler) -> bool {
    scaler.max.filter(|max| *max > 0).zip(scaler.current).is_some_and(|(max, current)| current >= max)
}
