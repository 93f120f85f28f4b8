//! Checks of a cluster: each looks at its objects as of the end of the window, or at what is reported and changed in it.
//!
//! How to add one: a file with a `CHECKS` and its line in [`ALL`]. A check gives findings, or nothing; whether nothing means *clear* the
//! framework says, by whether the lists that it needs are in the case file. Findings that were there before may be given more evidence:
//! what an object, an event and the kernel say of one thing is one finding.

mod applications;
mod events;
mod nodes;
mod oom;
mod pods;
mod rollouts;
mod scaling;
mod services;
mod storage;
mod workloads;

use std::collections::BTreeSet;

use casefile_proto::ids::NodeName;
use casefile_proto::time::{WallTime, Window};

use crate::finding::{Confidence, Evidence, Finding, Pod, Severity};
use crate::kubernetes::{self, Cluster, Kind};
use crate::signatures::explain::{Subject, explain};
use crate::signatures::set::Signatures;

/// A check of a cluster.
pub struct ClusterCheck {
    /// Its id.
    pub id: &'static str,
    /// What it looks for, in a few words.
    pub title: &'static str,
    /// The lists that must be there before nothing found means that nothing was.
    pub needs: &'static [Kind],
    /// Looks: gives what is new, and adds to what was found before.
    pub examine: fn(&ClusterFacts<'_>, &mut [Finding]) -> Found,
}

/// What a check of a cluster found.
#[derive(Debug, Default)]
pub struct Found {
    /// What is new.
    pub new: Vec<Finding>,
    /// Whether something was added to what was found before.
    pub added: bool,
}

impl From<Vec<Finding>> for Found {
    fn from(new: Vec<Finding>) -> Self {
        Self { new, added: false }
    }
}

/// All checks of a cluster, in the order in which they look: those of objects before those of events, which add to them.
pub const ALL: &[&[ClusterCheck]] = &[
    nodes::CHECKS,
    oom::CHECKS,
    pods::CHECKS,
    workloads::CHECKS,
    services::CHECKS,
    storage::CHECKS,
    scaling::CHECKS,
    applications::CHECKS,
    rollouts::CHECKS,
    events::CHECKS,
];

/// What stands for all of them where a case file has nothing of the cluster.
pub const ID: &str = "k8s";

/// What they look for together.
pub const TITLE: &str = "What the cluster says of its pods, nodes and workloads";

/// All checks of a cluster, one after the other.
pub fn all() -> impl Iterator<Item = &'static ClusterCheck> {
    ALL.iter().copied().flatten()
}

/// What the checks of a cluster look at.
pub struct ClusterFacts<'c> {
    /// Its objects, events and changes.
    pub cluster: &'c Cluster,
    /// The window.
    pub window: Window,
    /// What events mean.
    pub signatures: &'c Signatures,
    /// The nodes of the case file.
    pub nodes: BTreeSet<NodeName>,
    /// Names of the nodes that are not ready.
    lost: BTreeSet<&'c str>,
}

/// The most findings of one kind: a cluster in which everything fails says no more with more of them.
const MAX_ALIKE: usize = 30;

pub(crate) use events::subject;

/// How many objects a finding cites.
const CITED: usize = 3;

/// The longest sentence of an object or event that is repeated in a summary.
const MAX_QUOTED: usize = 200;

impl<'c> ClusterFacts<'c> {
    /// Of a cluster, a window and the nodes of a case file.
    pub fn new(cluster: &'c Cluster, window: Window, signatures: &'c Signatures, nodes: BTreeSet<NodeName>) -> Self {
        let is_lost = |node: &&kubernetes::Node| node.ready().is_some_and(|ready| ready.status != "True");
        let lost = cluster.nodes.iter().filter(is_lost).map(|node| node.meta.name.as_str()).collect();
        Self { cluster, window, signatures, nodes, lost }
    }
}

impl ClusterFacts<'_> {
    /// What a check lacks before it can say that nothing was found.
    pub fn lacks(&self, check: &ClusterCheck) -> Vec<String> {
        let wanted = check.needs.iter().filter(|kind| !self.is_not_here(**kind));
        let mut lacks: Vec<String> = wanted.filter_map(|kind| self.cluster.lacks(*kind)).collect();
        lacks.dedup();
        lacks
    }

    /// Whether a check is about something that this cluster does not have, as far as its case file says.
    pub fn is_about_nothing(&self, check: &ClusterCheck) -> bool {
        check.needs.iter().all(|kind| self.is_not_here(*kind))
    }

    /// Not every cluster has Argo CD.
    fn is_not_here(&self, kind: Kind) -> bool {
        kind == Kind::Application && self.cluster.is_read() && !self.cluster.kinds.contains(&kind)
    }

    /// A finding of which times and evidence are still to be said; what its signature says stands in it, where there is one.
    fn finding(&self, kind: &str, severity: Severity, confidence: Confidence, subject: &str, summary: &str) -> Finding {
        let signature = self.signatures.iter().find(|signature| signature.id == kind);
        let explained = signature.and_then(|signature| explain(Subject::Signature(signature)));
        let (meaning, now, not_proof) = explained.map_or((None, None, Vec::new()), |explained| {
            (Some(explained.meaning), explained.now.map(|advice| advice.text), explained.not_proof)
        });
        // The sentence of the verdict puts summaries behind one another with semicolons.
        let finding = Finding::new(kind, severity, confidence, summary.replace(';', ","));
        Finding { subject: Some(subject.to_owned()), meaning, now, not_proof, ..finding }
    }

    /// Says since when: a time in the window is the finding's, an earlier one is told in words.
    fn since(&self, finding: &mut Finding, at: Option<WallTime>) {
        match at {
            Some(at) if self.window.contains(at) => {
                finding.first = Some(at);
                finding.last = finding.last.max(Some(at));
            }
            Some(at) if at < self.window.from() => {
                finding.summary.push_str(&format!(" (since {})", at.to_seconds_text()));
            }
            _ => {}
        }
    }

    /// A node that is in the case file.
    fn node(&self, name: &str) -> Option<NodeName> {
        name.parse().ok().filter(|node| self.nodes.contains(node))
    }

    /// Sets node and pod of a finding that is about one pod.
    fn about_pod(&self, finding: &mut Finding, pod: &kubernetes::Pod) {
        finding.node = pod.node.as_deref().and_then(|node| self.node(node));
        finding.pod = Some(Pod {
            namespace: pod.meta.namespace.clone(),
            name: Some(pod.meta.name.clone()),
            uid: pod.meta.uid.clone(),
        });
    }

    /// Whether a pod is on a node that is not ready: then that is told of the node, once.
    fn is_on_lost_node(&self, pod: &kubernetes::Pod) -> bool {
        pod.node.as_deref().is_some_and(|node| self.lost.contains(node))
    }

    /// How long before the end of the window a time lies, in seconds; `None` behind it.
    fn ago(&self, at: WallTime) -> Option<i64> {
        let nanos = self.window.until().nanos_since(at);
        (nanos >= 0).then_some(nanos / 1_000_000_000)
    }
}

/// A sentence of an object or event, short enough to stand in a summary, in brackets.
fn quoted(message: Option<&str>) -> String {
    let Some(message) = message.map(str::trim).filter(|message| !message.is_empty()) else { return String::new() };
    let line = message.lines().next().unwrap_or_default();
    let cut = line.floor_char_boundary(MAX_QUOTED);
    let dots = if cut < message.len() { "…" } else { "" };
    format!(" ({}{dots})", line[..cut].trim_end_matches('.'))
}

/// `1 pod`, `3 pods`.
fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Evidence that a finding has too little room for is not cited; the case file has all of it.
fn cite(finding: &mut Finding, evidence: Evidence) {
    const MAX_CITED: usize = 12;
    if finding.evidence.len() < MAX_CITED {
        finding.evidence.push(evidence);
    }
}

/// Keeps the first of too many that are alike, and says of how many.
fn at_most(mut findings: Vec<Finding>) -> Vec<Finding> {
    if findings.len() > MAX_ALIKE {
        let more = findings.len() - MAX_ALIKE;
        findings.truncate(MAX_ALIKE);
        if let Some(last) = findings.last_mut() {
            last.summary.push_str(&format!(", and {more} more of this kind that are not told one by one"));
        }
    }
    findings
}
