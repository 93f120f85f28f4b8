//! What changed in the workloads: another image, another template, another number of pods. A change is no fault; it is where a reader
//! looks first.

use std::collections::BTreeMap;

use casefile_proto::time::WallTime;

use super::{ClusterCheck, ClusterFacts, Found, at_most, cite};
use crate::finding::{Confidence, Evidence, EvidenceKind, Finding, Severity};
use crate::kubernetes::{Change, Kind, Workload, called};

/// The checks of this file.
pub(super) const CHECKS: &[ClusterCheck] = &[ClusterCheck {
    id: "k8s.rollouts",
    title: "Workloads that were changed in the window",
    needs: &[Kind::Deployment, Kind::ReplicaSet, Kind::StatefulSet, Kind::DaemonSet],
    examine: |facts, _| examine(facts),
}];

/// What a rollout is called.
const KIND: &str = "change.rollout";

fn examine(facts: &ClusterFacts<'_>) -> Found {
    let mut found: BTreeMap<String, Finding> = BTreeMap::new();
    for change in facts.cluster.changes.iter().filter(|change| is_workload(change) && facts.window.contains(change.at))
    {
        let Some(words) = words(change) else { continue };
        let subject = format!("{} {}", change.kind, change.called());
        let finding = found
            .entry(subject.clone())
            .or_insert_with(|| told(facts, &subject, change.at, &format!("{subject}: {words}")));
        finding.last = Some(change.at);
        cite(finding, line(change));
    }
    // A replica set is made when the template of its deployment changed: that is known without the list of changes too.
    for set in facts.cluster.workloads.iter().filter(|workload| workload.kind == Kind::ReplicaSet) {
        let made = set.meta.created.filter(|at| facts.window.contains(*at));
        let (Some(at), Some(owner)) = (made, &set.meta.owner) else { continue };
        let subject = format!("{} {}", owner.kind, called(set.meta.namespace.as_deref(), &owner.name));
        let Some(before) = before(facts, set, at) else { continue };
        let words = images(before, set).unwrap_or_else(|| "its template changed, the images did not".to_owned());
        let text = format!("ReplicaSet {} was made for it: {words}", set.meta.called());
        let finding =
            found.entry(subject.clone()).or_insert_with(|| told(facts, &subject, at, &format!("{subject}: {words}")));
        cite(finding, facts.cluster.says(&set.meta, Some(at), text));
    }
    at_most(found.into_values().collect()).into()
}

fn told(facts: &ClusterFacts<'_>, subject: &str, at: WallTime, summary: &str) -> Finding {
    let mut finding = facts.finding(KIND, Severity::Info, Confidence::High, subject, summary);
    (finding.first, finding.last) = (Some(at), Some(at));
    finding.not_proof = vec!["that it caused what followed".to_owned()];
    finding
}

fn is_workload(change: &Change) -> bool {
    matches!(change.kind.as_str(), "Deployment" | "StatefulSet" | "DaemonSet")
}

/// What was changed by somebody; `None`: only its status, or it came or went.
fn words(change: &Change) -> Option<String> {
    if change.change != "modified" {
        return Some(format!("was {}", change.change));
    }
    let images: Vec<_> = change.images().map(|(_, was, is)| format!("its image changed from {was} to {is}")).collect();
    if !images.is_empty() {
        return Some(images.join(", "));
    }
    let mut of_spec = change.fields.iter().filter(|field| field.starts_with("spec"));
    let first = of_spec.next()?;
    let more = of_spec.count();
    let value = |side: &BTreeMap<String, serde_json::Value>| side.get(first).map(ToString::to_string);
    let values = value(&change.was).zip(value(&change.is)).map(|(was, is)| format!(" from {was} to {is}"));
    let more = if more > 0 { format!(" and {more} more fields") } else { String::new() };
    Some(format!("{first} changed{}{more}", values.unwrap_or_default()))
}

fn line(change: &Change) -> Evidence {
    let mut evidence = Evidence::new(EvidenceKind::Line, None, change.text.as_str());
    evidence.entry = Some(casefile_evidence::archive::layout::path(crate::kubernetes::CHANGES));
    (evidence.line, evidence.offset) = (Some(change.line), Some(change.offset));
    evidence.at = Some(change.at);
    evidence
}

/// The replica set of the same owner that was made last before this one.
fn before<'c>(facts: &ClusterFacts<'c>, set: &Workload, at: WallTime) -> Option<&'c Workload> {
    let same = facts.cluster.workloads.iter().filter(|other| {
        other.kind == Kind::ReplicaSet
            && other.meta.namespace == set.meta.namespace
            && other.meta.owner == set.meta.owner
            && other.meta.created.is_some_and(|created| created < at)
    });
    same.max_by_key(|other| other.meta.created)
}

/// Which images differ.
fn images(before: &Workload, now: &Workload) -> Option<String> {
    let differs = |(name, image): &(String, String)| {
        let (_, was) = before.images.iter().find(|(of, _)| of == name)?;
        (was != image).then(|| format!("the image of container {name} changed from {was} to {image}"))
    };
    let all: Vec<_> = now.images.iter().filter_map(differs).collect();
    (!all.is_empty()).then(|| all.join(", "))
}
