//! Records of the kernel, the GPU driver and the kubelet that signatures recognise: one finding for each signature and thing.
//!
//! Records of memory kills are `oom.rs`'s: there they are put together.

use std::collections::BTreeMap;

use casefile_proto::time::WallTime;

use super::facts::{Need, NodeFacts, called};
use super::seen::Seen;
use super::{CheckSpec, oom};
use crate::finding::{Confidence, Finding, Severity};

/// The checks of this file.
pub const CHECKS: &[CheckSpec] = &[
    CheckSpec {
        id: "records.kernel",
        title: "Records of the kernel and of drivers that mean a fault",
        needs: &[Need::Kernel],
        metrics: &["casefile_gpu_process_info"],
        examine: |facts| recognised(facts, true),
    },
    CheckSpec {
        id: "records.services",
        title: "Records of the kubelet and the container runtime that mean a fault",
        needs: &[Need::Log("journal")],
        metrics: &[],
        examine: |facts| recognised(facts, false),
    },
    CheckSpec {
        id: "records.unknown",
        title: "Records of the kernel at level error that no signature knows",
        needs: &[Need::Kernel],
        metrics: &[],
        examine: unknown,
    },
];

/// How many records a finding cites: the first ones say how it began, the last how it was then.
const CITED: usize = 3;

/// Names of parts that say what a record is about, in the order in which they are asked.
const SUBJECTS: [&str; 12] = [
    "dev",
    "device",
    "disk",
    "controller",
    "interface",
    "server",
    "mount",
    "array",
    "container",
    "pod",
    "unit",
    "cgroup",
];

/// What records of one finding have in common.
type Key<'s> = (&'s str, Option<u32>, Option<String>);

fn recognised(facts: &NodeFacts<'_>, kernel: bool) -> Vec<Finding> {
    let mut groups: BTreeMap<Key<'_>, Vec<&Seen<'_>>> = BTreeMap::new();
    for seen in facts.seen.iter().filter(|seen| is_kernels(seen) == kernel && !oom::is_one(seen.id())) {
        let code = seen.record.as_ref().and_then(|record| record.code);
        groups.entry((seen.id(), code, subject(seen).map(|s| thing(&s)))).or_default().push(seen);
    }
    groups.into_values().filter_map(|group| one(facts, &group)).collect()
}

fn is_kernels(seen: &Seen<'_>) -> bool {
    seen.record.as_ref().is_some_and(|record| !record.log.as_deref().unwrap_or("kernel").starts_with("journal:"))
}

fn one(facts: &NodeFacts<'_>, group: &[&Seen<'_>]) -> Option<Finding> {
    let (first, last) = (group.first()?, group.last()?);
    let explained = first.explained()?;
    let (severity, confidence) = first.severity();
    // "The link is up again" is no fault: it belongs to the timeline, and to the finding that it ends.
    if severity == Severity::Info && is_recovery(facts, &explained.id) {
        return None;
    }
    let subject = subject(first);
    let named = match (&explained.mnemonic, explained.subject.as_str()) {
        (Some(mnemonic), code) => format!("{} ({code}, {mnemonic})", explained.title),
        (None, code) if code != explained.id => format!("{} ({code})", explained.title),
        (None, _) => explained.title.clone(),
    };
    let about = subject.as_ref().map(|s| format!(": {s}")).unwrap_or_default();
    let over = recovered(facts, &explained.recovers_with, subject.as_deref(), last.at);
    let severity = if over.is_some() { severity.min(Severity::Warning) } else { severity };
    let times = if group.len() == 1 { String::new() } else { format!(", {} records", group.len()) };
    let ended = over.map(|at| format!(" (over at {})", at.to_seconds_text())).unwrap_or_default();
    let written = if confidence == Confidence::Low { ", written by a program and not by the kernel" } else { "" };
    let mut finding =
        facts.finding(&explained.id, severity, confidence, format!("{named}{about}{times}{ended}{written}"));
    finding.subject = subject;
    finding.meaning = Some(explained.meaning);
    finding.now = explained.now.map(|advice| match advice.word {
        Some(word) => format!("{word}: {}", advice.text),
        None => advice.text,
    });
    finding.not_proof = explained.not_proof;
    finding.first = group.iter().find_map(|seen| seen.at);
    finding.last = group.iter().rev().find_map(|seen| seen.at);
    finding.count = group.len() as u64;
    finding.pod = pod(facts, first);
    if let Some(pod) = &finding.pod {
        let how = if record_names_process(first) { "in use by" } else { "of" };
        finding.summary.push_str(&format!(", {how} {}", called(pod)));
    }
    let cited = group.iter().take(CITED).chain(group.iter().skip(CITED).last());
    finding.evidence = cited.map(|seen| seen.evidence(facts)).collect();
    Some(finding)
}

/// Whether the pod is known by the process that the record names, and not by the record itself.
fn record_names_process(seen: &Seen<'_>) -> bool {
    seen.record
        .as_ref()
        .is_some_and(|r| r.pid.is_some() && !r.parts.contains_key("pod_uid") && !r.parts.contains_key("cgroup"))
}

/// What a record is about, as people call it.
fn subject(seen: &Seen<'_>) -> Option<String> {
    let record = seen.record.as_ref()?;
    if let Some(pci) = &record.pci {
        let kind = if record.signature.id.starts_with("gpu.") { "GPU" } else { "PCI device" };
        return Some(format!("{kind} {pci}"));
    }
    let part = SUBJECTS.iter().find_map(|name| record.parts.get(*name));
    part.cloned().or_else(|| record.process.clone().filter(|_| record.signature.id.starts_with("proc.")))
}

/// A device by its bus address without the function, which the driver's own records lack; anything else as it is.
pub(crate) fn thing(subject: &str) -> String {
    let address = subject.rsplit(' ').next().unwrap_or(subject).to_ascii_lowercase();
    let parts: Vec<&str> = address.split(':').collect();
    let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
    match parts[..] {
        [domain, bus, slot] if is_hex(domain) && is_hex(bus) => {
            format!("{bus}:{}", slot.split('.').next().unwrap_or(slot))
        }
        _ => subject.to_owned(),
    }
}

fn pod(facts: &NodeFacts<'_>, seen: &Seen<'_>) -> Option<crate::finding::Pod> {
    let record = seen.record.as_ref()?;
    if let Some(uid) = record.parts.get("pod_uid") {
        return facts.pod_of_uid(uid);
    }
    if let Some(cgroup) = record.parts.get("cgroup") {
        return facts.pod_of(cgroup);
    }
    if let Some(pod) = record.parts.get("pod").and_then(|name| facts.pod_named(name)) {
        return Some(pod);
    }
    let pid = record.pid?.to_string();
    let holder = facts.set.one("casefile_gpu_process_info", &[("pid", pid.as_str())])?;
    facts.pod_of_uid(holder.label("pod_uid").filter(|uid| !uid.is_empty())?)
}

fn is_recovery(facts: &NodeFacts<'_>, id: &str) -> bool {
    let signatures = facts.seen.iter().filter_map(|seen| seen.record.as_ref()).map(|record| record.signature);
    signatures.flat_map(|s| &s.recovers_with).any(|other| other == id)
        || crate::signatures::catalogue::catalogue()
            .signatures
            .iter()
            .flat_map(|s| &s.recovers_with)
            .any(|other| other == id)
}

/// When a record behind the last one said that it is over, of the same thing.
fn recovered(facts: &NodeFacts<'_>, by: &[String], about: Option<&str>, last: Option<WallTime>) -> Option<WallTime> {
    let after = |seen: &&Seen<'_>| seen.at > last && by.iter().any(|id| id == seen.id());
    facts.seen.iter().filter(after).find(|seen| subject(seen).as_deref() == about).and_then(|seen| seen.at)
}

fn unknown(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let by_kernel = || facts.unknown.iter().filter(|seen| seen.author != crate::signatures::logged::Author::Program);
    let Some(first) = by_kernel().next() else { return Vec::new() };
    let count = by_kernel().count();
    let records = if count == 1 { "a record".to_owned() } else { format!("{count} records") };
    let mut finding = facts.finding(
        "records.unknown",
        Severity::Info,
        Confidence::Low,
        format!("{records} of the kernel at level error that no signature knows"),
    );
    finding.first = first.at;
    finding.last = by_kernel().next_back().and_then(|seen| seen.at);
    finding.count = count as u64;
    finding.not_proof =
        vec!["that something is wrong: drivers write at this level what is ordinary to them".to_owned()];
    finding.evidence = by_kernel().take(CITED).map(|seen| seen.evidence(facts)).collect();
    vec![finding]
}
