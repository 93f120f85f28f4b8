//! Warnings that the cluster reports as events: those that signatures know, one finding for each signature and thing.
//!
//! What an object says of itself and what is reported of it are one finding: an event adds to it.

use std::collections::BTreeMap;

use super::{CITED, ClusterCheck, ClusterFacts, Found, at_most, cite, quoted};
use crate::finding::{Confidence, Finding, Severity};
use crate::kubernetes::{Event, Kind};
use crate::signatures::logged::{Author, Stream, Written};
use crate::signatures::record::Lines;
use crate::signatures::signature::Signature;

/// The checks of this file.
pub(super) const CHECKS: &[ClusterCheck] =
    &[ClusterCheck { id: "k8s.events", title: "Warnings that the cluster reports", needs: &[Kind::Event], examine }];

/// A probe that fails so seldom belongs to a pod that starts.
const ORDINARY_PROBES: u64 = 3;

/// Reasons that are named of those that no signature knows.
const NAMED: usize = 6;

fn examine(facts: &ClusterFacts<'_>, before: &mut [Finding]) -> Found {
    let mut found = Found::default();
    let mut groups: BTreeMap<(&str, String), (&Signature, Vec<&Event>)> = BTreeMap::new();
    let mut unknown: Vec<&Event> = Vec::new();
    let mut lines = Lines::new(facts.signatures);
    let in_window = |event: &&Event| event.last.is_some_and(|at| facts.window.contains(at));
    for event in facts.cluster.events.iter().filter(in_window) {
        let line = event.line();
        let written = Written { text: &line, author: Author::Unknown, stream: Stream::Kubernetes };
        match lines.record(written) {
            // That a node is not ready is reported of the node, and of each of its pods once more.
            Some(known) if known.signature.id == "k8s.node.not_ready" && event.about.kind == "Pod" => {}
            Some(known) => {
                let key = (known.signature.id.as_str(), subject(facts, event));
                groups.entry(key).or_insert_with(|| (known.signature, Vec::new())).1.push(event);
            }
            None if event.warning => unknown.push(event),
            None => {}
        }
    }
    let mut by_signature: BTreeMap<&str, Vec<Finding>> = BTreeMap::new();
    for ((id, subject), (signature, events)) in groups {
        // The kubelet's own log may have said it of the pod.
        let of_pod = |finding: &Finding| {
            let uid = finding.pod.as_ref().and_then(|pod| pod.uid.as_ref());
            uid.is_some() && events.iter().all(|event| event.about.uid.as_ref() == uid)
        };
        let same = |finding: &&mut Finding| {
            finding.kind == id && (finding.subject.as_deref() == Some(&*subject) || of_pod(finding))
        };
        if let Some(finding) = before.iter_mut().find(same) {
            add(facts, finding, &events);
            found.added = true;
        } else {
            by_signature.entry(id).or_default().extend(one(facts, signature, &subject, &events));
        }
    }
    found.new.extend(by_signature.into_values().flat_map(at_most));
    found.new.extend(of_unknown(facts, &unknown));
    found
}

/// What it is about: of a pod what it belongs to.
pub(crate) fn subject(facts: &ClusterFacts<'_>, event: &Event) -> String {
    let about = &event.about;
    let pod = (about.kind == "Pod").then(|| facts.cluster.pod_named(&about.called())).flatten();
    if let Some(pod) = pod {
        return facts.cluster.subject(&pod.meta);
    }
    let gone = (about.kind == "Pod").then(|| facts.cluster.made_by(about)).flatten();
    gone.unwrap_or_else(|| format!("{} {}", about.kind, about.called()))
}

fn one(facts: &ClusterFacts<'_>, signature: &Signature, subject: &str, events: &[&Event]) -> Option<Finding> {
    let last = events.last()?;
    let weight = signature.opinions.first().map_or(Severity::Warning, |opinion| opinion.weight);
    let often: u64 = events.iter().map(|event| event.count).sum();
    let severity = if signature.id == "k8s.pod.unhealthy" && often < ORDINARY_PROBES { Severity::Info } else { weight };
    let summary = format!("{subject}: {}{}", signature.title, quoted(Some(&last.message)));
    // Whoever may write events in a namespace may have written this one.
    let mut finding = facts.finding(&signature.id, severity, Confidence::Medium, subject, &summary);
    let pod = facts.cluster.pod_named(&last.about.called()).filter(|_| last.about.kind == "Pod");
    match pod.filter(|_| events.iter().all(|event| event.about.name == last.about.name)) {
        Some(pod) => facts.about_pod(&mut finding, pod),
        None if last.about.kind == "Node" => finding.node = facts.node(&last.about.name),
        None => {}
    }
    finding.count = 0;
    add(facts, &mut finding, events);
    Some(finding)
}

/// Adds what is reported to a finding.
fn add(facts: &ClusterFacts<'_>, finding: &mut Finding, events: &[&Event]) {
    let inside = |at: Option<casefile_proto::time::WallTime>| at.filter(|at| facts.window.contains(*at));
    let first = events.iter().filter_map(|event| inside(event.first).or(inside(event.last))).min();
    let last = events.iter().filter_map(|event| inside(event.last)).max();
    finding.first = finding.first.into_iter().chain(first).min();
    finding.last = finding.last.max(last);
    finding.count += events.iter().map(|event| event.count).sum::<u64>();
    for event in events.iter().take(CITED) {
        cite(finding, facts.cluster.says(&event.meta, event.last, event.line()));
    }
}

fn of_unknown(facts: &ClusterFacts<'_>, events: &[&Event]) -> Option<Finding> {
    let first = events.first()?;
    let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
    for event in events {
        *reasons.entry(&event.reason).or_default() += event.count;
    }
    let mut named: Vec<_> = reasons.keys().copied().take(NAMED).collect();
    if reasons.len() > NAMED {
        named.push("…");
    }
    let summary = format!("warnings of the cluster that no signature knows: {}", named.join(", "));
    let mut finding = facts.finding("k8s.events.unknown", Severity::Info, Confidence::Low, "cluster", &summary);
    finding.not_proof = vec!["that something is wrong: a warning is what its writer calls one".to_owned()];
    finding.first = first.first.filter(|at| facts.window.contains(*at)).or(first.last);
    finding.count = 0;
    add(facts, &mut finding, events);
    Some(finding)
}
