//! What lies where in an archive, and the form of the two files that describe it: `incident.json` and `coverage.json`.
//!
//! The one place that knows these paths and forms, for whoever writes and whoever reads. The tag files around the payload
//! are `bag`'s; what is inside an evidence item belongs to whoever made it.

use std::io;

use casefile_proto::coverage::Coverage;
use casefile_proto::gap::Gap;
use casefile_proto::ids::{IncidentId, NodeName};
use casefile_proto::incident::{Resource, Severity, Trigger};
use casefile_proto::item::{Digest, EntryPath, InvalidPath, ItemHead, ItemKind, ItemTail};
use casefile_proto::scope::Scope;
use casefile_proto::time::{ClockOffset, WallTime, Window};
use serde::{Deserialize, Serialize};

use super::sign::SigningKey;
use super::{Amends, Title};

/// The directory of the payload.
pub const DATA: &str = "data/";
/// What the incident is: [`IncidentFile`].
pub const INCIDENT: &str = "data/incident.json";
/// What is there, what is missing and why: [`Coverage`].
pub const COVERAGE: &str = "data/coverage.json";
/// What the checks said of it: the verdict, and each check with what it found or missed.
pub const REVIEW: &str = "data/review.json";
/// What the checks found, a finding a line.
pub const FINDINGS: &str = "data/findings.jsonl";
/// What happened, in the order of time, a row a line.
pub const TIMELINE: &str = "data/timeline.jsonl";
/// All of it as one page.
pub const REPORT: &str = "data/report.html";
/// Everything that is derived from the rest: made anew for each archive, and never taken over from another.
pub const DERIVED: [&str; 4] = [REVIEW, FINDINGS, TIMELINE, REPORT];
/// Tests of connectivity of the window, a node of a test a line: [`super::connectivity`].
pub const CONNECTIVITY: &str = "data/connectivity.jsonl";
/// Who asked for, read and exported it.
pub const CUSTODY: &str = "data/custody.jsonl";
/// The directory of the cluster.
pub const CLUSTER: &str = "data/cluster/";
/// What happened to the objects of the cluster in the window, a change a line.
pub const CLUSTER_CHANGES: &str = "data/cluster/changes.jsonl";
/// The directory of the nodes.
pub const NODES: &str = "data/nodes/";
/// Where an agent's recording of the window goes below its node's directory.
pub const RECORDING_ITEM: &str = "recording/window.seg";
/// Where the inventory goes below its node's directory.
pub const NODE_ITEM: &str = "node.json";
/// Where the list of a node's items goes below its node's directory: an [`ItemLine`] a line.
pub const ITEMS_ITEM: &str = "items.jsonl";

/// A path that is known to be right: one of the constants above.
pub fn path(constant: &'static str) -> EntryPath {
    // The test below holds every constant to this.
    constant.parse().unwrap_or_else(|_: InvalidPath| unreachable!("{constant} is a safe path"))
}

/// Where an item of a node lies: `data/nodes/<node>/<item>`. An error when the two together are too long.
pub fn node_item(node: &NodeName, item: &EntryPath) -> Result<EntryPath, InvalidPath> {
    format!("{NODES}{node}/{item}").parse()
}

/// Node and item of a path below `data/nodes/`; `None` for any other path.
pub fn split_node_item(path: &EntryPath) -> Option<(NodeName, EntryPath)> {
    let (node, item) = path.as_str().strip_prefix(NODES)?.split_once('/')?;
    Some((node.parse().ok()?, item.parse().ok()?))
}

/// `data/incident.json`: what was asked, by whom and why, and who sealed it. Keys come in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentFile {
    /// The version of this form: 1.
    pub format: u32,
    /// The incident's name; `null` when an agent worked alone.
    pub id: Option<IncidentId>,
    /// One line for people.
    pub title: String,
    /// How bad it is.
    pub severity: Severity,
    /// What opened it.
    pub trigger: Trigger,
    /// The resource of Kubernetes that opened it. Left out: none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<Resource>,
    /// The runbook that applies; `null`: none.
    pub runbook: Option<String>,
    /// The window, on the collector's clock (the node's own when an agent worked alone).
    pub window: Window,
    /// Who asked, as the caller says of itself.
    pub requested_by: String,
    /// Whether somebody checked that. Always `false` until identities exist.
    pub requested_by_verified: bool,
    /// Why this evidence was wanted.
    pub reason: String,
    /// The nodes that were named; empty: every node that the collector knew.
    pub asked_nodes: Vec<NodeName>,
    /// What was asked of each node; left out: everything. What was not asked is not missing.
    #[serde(default, skip_serializing_if = "Scope::is_everything")]
    pub scope: Scope,
    /// The nodes that were expected, in order of name.
    pub expected_nodes: Vec<NodeName>,
    /// The clock of each expected node against the collector's.
    pub clocks: Vec<NodeClock>,
    /// Who sealed it: `casefile-collector 0.1.0`.
    pub sealed_by: String,
    /// When, on the clock of whoever sealed it.
    pub sealed_at: WallTime,
    /// The fingerprint of the key that signed, `SHA256:…`; `null`: not signed.
    pub signing_key: Option<String>,
    /// The archive that this one amends: everything of it is in this one too. Left out: this is the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amends: Option<Amends>,
    /// Whether it was made up for a demonstration or a drill: nothing in it happened anywhere. Left out: it happened.
    #[serde(default, skip_serializing_if = "is_false")]
    pub synthetic: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// The clock of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeClock {
    /// The node.
    pub node: NodeName,
    /// Its offset; `null` when it was never measured: times of this node cannot be compared with those of others.
    pub offset: Option<ClockOffset>,
}

impl IncidentFile {
    /// The form that this version writes.
    pub const FORMAT: u32 = 1;

    /// Out of what is known when sealing; the expected nodes and their clocks are those of the coverage.
    pub fn new(title: &Title, coverage: &Coverage, key: Option<&SigningKey>) -> Self {
        let ask = &title.ask;
        Self {
            format: Self::FORMAT,
            id: title.incident,
            title: ask.title.clone(),
            severity: ask.severity,
            trigger: ask.trigger,
            resource: ask.resource.clone(),
            runbook: ask.runbook.clone(),
            window: ask.window,
            requested_by: ask.requested_by.clone(),
            requested_by_verified: false,
            reason: ask.reason.clone(),
            asked_nodes: ask.nodes.clone(),
            scope: ask.scope.clone(),
            expected_nodes: coverage.nodes.iter().map(|n| n.node.clone()).collect(),
            clocks: coverage.nodes.iter().map(|n| NodeClock { node: n.node.clone(), offset: n.clock }).collect(),
            sealed_by: title.sealed_by.clone(),
            sealed_at: title.sealed_at,
            signing_key: key.map(SigningKey::fingerprint),
            amends: title.amends.clone(),
            synthetic: false,
        }
    }
}

/// One line of a node's `items.jsonl`: where an item comes from and what is known of it. Keys come in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemLine {
    /// Its whole path below the archive's top directory.
    pub path: EntryPath,
    /// What it is.
    pub kind: ItemKind,
    /// The source or log source that made it.
    pub source: String,
    /// What was read and how, for a person.
    pub method: String,
    /// How the lines of a log bear their times: [`crate::logtime::times::Times`]. Left out: each line begins with its time,
    /// or it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<String>,
    /// The size of what is here.
    pub size: u64,
    /// The digest of what is here.
    pub sha256: Digest,
    /// Whether all of it is here; `false`: it was cut short, and the fields below are left out.
    pub whole: bool,
    /// Records in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
    /// The interval that was really read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covered: Option<Window>,
    /// What is missing from it.
    pub gaps: Vec<Gap>,
}

impl ItemLine {
    /// Out of what was said before and after its content.
    pub fn new(path: EntryPath, head: &ItemHead, tail: Option<&ItemTail>, size: u64, sha256: Digest) -> Self {
        Self {
            path,
            kind: head.kind,
            source: head.source.clone(),
            method: head.method.clone(),
            times: head.times.clone(),
            size,
            sha256,
            whole: tail.is_some(),
            records: tail.map(|t| t.records),
            covered: tail.and_then(|t| t.covered),
            gaps: tail.map_or_else(Vec::new, |t| t.gaps.clone()),
        }
    }
}

/// One line of `items.jsonl`, with its line end.
pub fn item_json(line: &ItemLine) -> io::Result<Vec<u8>> {
    let mut out = serde_json::to_vec(line)?;
    out.push(b'\n');
    Ok(out)
}

/// `data/incident.json` as bytes.
pub fn incident_json(incident: &IncidentFile) -> io::Result<Vec<u8>> {
    json(incident)
}

/// `data/coverage.json` as bytes: the form is that of the domain type.
pub fn coverage_json(coverage: &Coverage) -> io::Result<Vec<u8>> {
    json(coverage)
}

/// Indented, keys in the order of the type, a newline at the end: the same value gives the same bytes.
fn json(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut out = serde_json::to_vec_pretty(value)?;
    out.push(b'\n');
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_a_safe_one_below_the_payload() {
        for constant in [INCIDENT, COVERAGE, CONNECTIVITY, CUSTODY, CLUSTER_CHANGES].into_iter().chain(DERIVED) {
            assert!(path(constant).as_str().starts_with(DATA));
        }
        let node: NodeName = "n-1".parse().unwrap();
        for item in [RECORDING_ITEM, NODE_ITEM, ITEMS_ITEM] {
            let item = path(item);
            let whole = node_item(&node, &item).unwrap();
            assert_eq!(split_node_item(&whole), Some((node.clone(), item)));
        }
        assert_eq!(split_node_item(&path(INCIDENT)), None);
    }
}
