//! An incident as everyone sees it: what was asked, by whom, and how far it is.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::coverage::Coverage;
use crate::ids::{IncidentId, NodeName};
use crate::item::Digest;
use crate::scope::Scope;
use crate::time::{WallTime, Window};
use crate::units::Bytes;

/// How bad it is: 1 wakes people at once, 4 can wait for days. As in the runbooks that Casefile grew out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Severity {
    /// Everything is down.
    Sev1,
    /// A large part is down or about to be.
    Sev2,
    /// Something is degraded.
    Sev3,
    /// A question, or a routine collection.
    Sev4,
}

impl Severity {
    /// Every severity; the position plus one is its number.
    pub const ALL: [Self; 4] = [Self::Sev1, Self::Sev2, Self::Sev3, Self::Sev4];
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Sev1 => "SEV1",
            Self::Sev2 => "SEV2",
            Self::Sev3 => "SEV3",
            Self::Sev4 => "SEV4",
        })
    }
}

impl FromStr for Severity {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|v| v.to_string().eq_ignore_ascii_case(s))
            .ok_or_else(|| format!("{s:?} is no severity: say sev1, sev2, sev3 or sev4"))
    }
}

/// What opened the incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// A person, through the command line or the API.
    Person,
    /// The collector itself: the first case file of `local`.
    Local,
    /// An agent that works alone: `casefile-agent extract`.
    Extract,
    /// A resource of Kubernetes, of the kind `Collection`.
    Resource,
}

impl Trigger {
    /// Every trigger; the position plus one is its number on the wire.
    pub const ALL: [Self; 4] = [Self::Person, Self::Local, Self::Extract, Self::Resource];
}

/// The resource of Kubernetes that an incident was opened for. The names are its own; the uid is one in all time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Resource {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What no other object has, also not the next one of its name.
    pub uid: String,
    /// Which of its specifications was followed: Kubernetes counts them from 1.
    pub generation: u64,
}

impl Resource {
    /// The most bytes of each of its words: what Kubernetes lets a name have.
    pub const MAX_WORD: usize = 253;
}

/// For a person: `shop/checkout-is-slow`. Names are as they came in.
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// How far an incident is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IncidentState {
    /// Opened; its window has not ended yet.
    Open,
    /// Nodes are being asked.
    Gathering,
    /// Everything that will come is here; the archive is being written.
    Sealing,
    /// The archive lies there, whole and verified.
    Sealed,
    /// The archive could not be written; the spool is kept, and sealing is tried again.
    Failed,
    /// Sealed before; a node that was missing has come back and is being asked. The archive before stays as it is.
    Amending,
}

impl IncidentState {
    /// Every state; the position plus one is its number on the wire.
    pub const ALL: [Self; 6] = [Self::Open, Self::Gathering, Self::Sealing, Self::Sealed, Self::Failed, Self::Amending];

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Gathering => "gathering",
            Self::Sealing => "sealing",
            Self::Sealed => "sealed",
            Self::Failed => "failed",
            Self::Amending => "amending",
        }
    }
}

/// What is asked when an incident is opened.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IncidentAsk {
    /// One line for people.
    pub title: String,
    /// Why this evidence is wanted; kept in the archive.
    pub reason: String,
    /// Who asked. Until identities exist: what the caller says of itself, marked as such in the archive.
    pub requested_by: String,
    /// How bad it is.
    pub severity: Severity,
    /// What opened it.
    pub trigger: Trigger,
    /// The resource that opened it, where it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<Resource>,
    /// The runbook that the alert names, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runbook: Option<String>,
    /// The window, on the collector's clock.
    pub window: Window,
    /// The nodes; empty means every node that the collector knows.
    pub nodes: Vec<NodeName>,
    /// What is asked of each.
    #[serde(default, skip_serializing_if = "Scope::is_everything")]
    pub scope: Scope,
}

/// The sealed result of an incident.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SealedArchive {
    /// The file's own name: `INC-000123_20261123T024410Z_20261123T031410Z.tar.gz`.
    pub file_name: String,
    /// Its size in bytes.
    pub size: u64,
    /// The digest of the whole file.
    pub sha256: Digest,
    /// When it was sealed, on the collector's clock.
    pub sealed_at: WallTime,
    /// Whether the coverage says that nothing is missing.
    pub whole: bool,
    /// Which one of the incident: 1, and one more each time that it was amended.
    #[serde(default = "first_revision")]
    pub revision: u32,
    /// Where it is kept. `None`: nobody looked, as while the incident is followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Whereabouts>,
}

/// Where a sealed archive is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Whereabouts {
    /// With the collector, and nowhere else as far as it knows.
    Here,
    /// With the collector, and a copy that it has checked is in the archive store.
    HereAndStore,
    /// In the archive store alone.
    Store,
    /// It is not with the collector any more, and no copy is known.
    Missing,
}

impl Whereabouts {
    /// Every one; the position plus one is its number on the wire.
    pub const ALL: [Self; 4] = [Self::Here, Self::HereAndStore, Self::Store, Self::Missing];

    /// The words for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::HereAndStore => "here and in the store",
            Self::Store => "in the store",
            Self::Missing => "missing",
        }
    }
}

/// Archives that were sealed before there were revisions are first ones.
const fn first_revision() -> u32 {
    1
}

/// An incident as lists and pages show it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IncidentSummary {
    /// Which one.
    pub id: IncidentId,
    /// What was asked.
    pub ask: IncidentAsk,
    /// The nodes that are expected, in order of name.
    pub expected: Vec<NodeName>,
    /// How far it is.
    pub state: IncidentState,
    /// When it was opened, on the collector's clock.
    pub opened_at: WallTime,
    /// When gathering ends whatever has come.
    pub deadline: WallTime,
    /// The archive, once sealed: the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<SealedArchive>,
    /// The archives that it amends, oldest first. They stay as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<SealedArchive>,
    /// Why sealing failed, when it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// What the API is asked when an incident is opened: [`IncidentAsk`], and how long to wait for the nodes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OpenAsk {
    /// What to gather.
    pub ask: IncidentAsk,
    /// How long to wait for the nodes after the window has ended; `None`: the collector's default.
    pub deadline: Option<Duration>,
    /// By how much the window of an incident that is open already may differ, at either end, to answer for this one.
    pub slack: Duration,
}

/// The most that a window may differ: beyond this it is another one.
pub const MAX_SLACK: Duration = Duration::from_secs(60);

/// How far one node of an incident is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodePhase {
    /// Not asked yet: the window has not ended, or the node is not connected.
    Waiting,
    /// Asked; nothing has come yet.
    Asked,
    /// Evidence is arriving.
    Answering,
    /// Everything is here.
    Answered,
    /// Cut short by the deadline or a lost connection.
    Trimmed,
    /// Did not answer; sealed from what it had streamed before.
    LastWords,
    /// Nothing at all is here.
    Silent,
}

impl NodePhase {
    /// Every phase; the position plus one is its number on the wire.
    pub const ALL: [Self; 7] =
        [Self::Waiting, Self::Asked, Self::Answering, Self::Answered, Self::Trimmed, Self::LastWords, Self::Silent];

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Asked => "asked",
            Self::Answering => "answering",
            Self::Answered => "answered",
            Self::Trimmed => "trimmed",
            Self::LastWords => "last words",
            Self::Silent => "silent",
        }
    }
}

/// How far one node is, and its sources as far as they have been heard of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NodeProgress {
    /// Which node.
    pub node: NodeName,
    /// How far it is.
    pub phase: NodePhase,
    /// Its sources.
    pub sources: Vec<SourceProgress>,
}

/// How far one source of one node is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SourceProgress {
    /// Which source.
    pub source: String,
    /// Records so far.
    pub records: u64,
    /// Bytes so far, before compression.
    pub bytes: Bytes,
    /// Gaps so far.
    pub gaps: u64,
    /// Whether the node said that it is done with this source.
    pub done: bool,
}

/// An incident at one moment, as whoever watches it sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentView {
    /// The incident.
    pub incident: IncidentSummary,
    /// Its nodes, in order of name.
    pub nodes: Vec<NodeProgress>,
}

/// An incident with its coverage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentDetail {
    /// The incident.
    pub incident: IncidentSummary,
    /// Its coverage; `None`: not sealed yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Coverage>,
}

/// Which page of the incidents, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListAsk {
    /// The most to return: 1 to 1000.
    pub page: u32,
    /// Only older ones than this; `None`: from the newest.
    pub before: Option<IncidentId>,
}

/// A page of incidents, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentPage {
    /// The incidents.
    pub incidents: Vec<IncidentSummary>,
    /// Whether there are older ones.
    pub more: bool,
}

/// Which archive, and from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DownloadAsk {
    /// Whose archive.
    pub incident: IncidentId,
    /// The first byte wanted.
    pub offset: u64,
    /// Which of its archives; `None`: the newest.
    pub revision: Option<u32>,
}

/// A piece of an archive file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivePiece {
    /// Where in the file it begins.
    pub offset: u64,
    /// The bytes; at most [`crate::session::MAX_PAYLOAD`].
    pub data: bytes::Bytes,
    /// The archive; in the first piece only.
    pub archive: Option<SealedArchive>,
}
