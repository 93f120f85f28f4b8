//! Findings: conclusions with a severity, each of which cites what it rests on. The forms of `findings.jsonl`.
//!
//! What a finding says is what its evidence says; what that may mean, and what it does not prove, stand apart from it.

use std::collections::BTreeMap;

use casefile_proto::ids::NodeName;
use casefile_proto::item::{Digest, EntryPath};
use casefile_proto::time::WallTime;
use serde::{Deserialize, Serialize};

pub use crate::signatures::catalogue::Weight as Severity;

/// How sure a finding is of what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// Derived: a comparison or a tendency; something else can look like it.
    Low,
    /// Measured, over a threshold that is a matter of opinion; or a record that a program may have written itself.
    Medium,
    /// A record of whoever knows, or a value that can mean only one thing.
    High,
}

/// A pod that something is about, by the names that the node's own paths give it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pod {
    /// Its namespace; `None`: only its uid is known.
    pub namespace: Option<String>,
    /// Its name; `None`: only its uid is known.
    pub name: Option<String>,
    /// Its uid.
    pub uid: Option<String>,
}

impl Finding {
    /// A finding of which times, evidence and whose it is are still to be said.
    pub(crate) fn new(kind: &str, severity: Severity, confidence: Confidence, summary: String) -> Self {
        Self {
            id: String::new(),
            kind: kind.to_owned(),
            check: String::new(),
            severity,
            confidence,
            node: None,
            subject: None,
            summary,
            meaning: None,
            now: None,
            not_proof: Vec::new(),
            first: None,
            last: None,
            count: 1,
            pod: None,
            part_of: None,
            evidence: Vec::new(),
        }
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// `F1`, `F2`, …, in the order of rank.
    pub id: String,
    /// What it is: the id of a signature (`gpu.xid.79`) or of a check (`fs.space`). What `casefile explain` takes.
    pub kind: String,
    /// The check that found it.
    pub check: String,
    /// How bad.
    pub severity: Severity,
    /// How sure.
    pub confidence: Confidence,
    /// The node; `None`: it is about the whole.
    pub node: Option<NodeName>,
    /// What on the node: `GPU 0000:84:00.0`, `/var/lib/postgresql`.
    pub subject: Option<String>,
    /// One sentence.
    pub summary: String,
    /// What it means.
    pub meaning: Option<String>,
    /// What to do first.
    pub now: Option<String>,
    /// What it does not prove.
    pub not_proof: Vec<String>,
    /// When it was first seen, on the collector's clock; `None`: it has no time.
    pub first: Option<WallTime>,
    /// When it was last seen.
    pub last: Option<WallTime>,
    /// How often.
    pub count: u64,
    /// The pod that it is about.
    pub pod: Option<Pod>,
    /// The id of the finding that leads the group to which it belongs: of the same node and the same kind of thing, such as an I/O
    /// error beside a controller that went away. Left out: it leads, or stands alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_of: Option<String>,
    /// What it rests on; never empty.
    pub evidence: Vec<Evidence>,
}

/// What kind of evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceKind {
    /// A record of a log.
    Line,
    /// A part of a series.
    Series,
    /// An event of a recording.
    Event,
    /// A row of a table of state, or of the inventory.
    State,
    /// What the coverage says.
    Coverage,
}

/// Something in the case file that a finding rests on: enough to find the bytes again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// `E1`, `E2`, …: unique in the case file.
    #[serde(rename = "ref")]
    pub reference: String,
    /// What kind.
    pub kind: EvidenceKind,
    /// The node; `None`: it is about the whole.
    pub node: Option<NodeName>,
    /// The entry in which it stands.
    pub entry: Option<EntryPath>,
    /// The digest of that entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// Its first line in the entry, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Where that line begins in the entry, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// When, on the collector's clock.
    pub at: Option<WallTime>,
    /// The text of the record as it stands there, cut at [`Evidence::MAX_TEXT`]; of all else a sentence. Escape before showing.
    pub text: String,
    /// The metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// The labels of the series.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The beginning of the part of the series.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<WallTime>,
    /// The end of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<WallTime>,
    /// The value that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Its unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

impl Evidence {
    /// The most of a record's text that a citation repeats, in bytes; the whole stands in the entry.
    pub const MAX_TEXT: usize = 2048;

    /// Of this kind, of this node, and nothing else yet.
    pub fn new(kind: EvidenceKind, node: Option<&NodeName>, text: impl Into<String>) -> Self {
        let mut text = text.into();
        text.truncate(text.floor_char_boundary(Self::MAX_TEXT));
        Self {
            reference: String::new(),
            kind,
            node: node.cloned(),
            entry: None,
            sha256: None,
            line: None,
            offset: None,
            at: None,
            text,
            metric: None,
            labels: BTreeMap::new(),
            from: None,
            until: None,
            value: None,
            unit: None,
        }
    }
}
