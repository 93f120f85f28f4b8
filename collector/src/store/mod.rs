//! The index: what the collector knows of nodes and incidents, and finds again after a restart.
//!
//! The contract only; [`sqlite`] keeps it in one file. Calls block: async code makes them on blocking threads. Evidence
//! itself is never in here.

pub mod sqlite;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use casefile_proto::coverage::Coverage;
use casefile_proto::identity::{Subject, TokenId, TokenInfo};
use casefile_proto::ids::{IncidentId, NodeName, RequestId};
use casefile_proto::incident::{
    IncidentAsk, IncidentPage, IncidentState, IncidentSummary, ListAsk, NodePhase, Resource, SealedArchive,
};
use casefile_proto::item::Digest;
use casefile_proto::session::Collectable;
use casefile_proto::time::{ClockOffset, WallTime, Window};
use serde::{Deserialize, Serialize};

use crate::incident::machine::{Answer, Plan};
use crate::last_words::NodeNumbers;

/// The most nodes that get a number: names are believed for now, and a stranger must not fill the index with them.
pub const MAX_NODES: u64 = 10_000;

/// Why the index did not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database said no.
    #[error("{doing} the index")]
    Database {
        /// What we were doing, such as `read`.
        doing: &'static str,
        /// What it said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It was written by a newer collector.
    #[error(
        "the index has version {found}, and this collector knows only up to {known}: start the newer collector again"
    )]
    Newer {
        /// The version in the file.
        found: i64,
        /// The newest that we know.
        known: i64,
    },
    /// There are [`MAX_NODES`] already.
    #[error("the index has {MAX_NODES} nodes already and takes no new one")]
    TooManyNodes,
    /// There are as many tokens as make sense.
    #[error("there are too many tokens: revoke some that nobody uses")]
    TooManyTokens,
}

impl StoreError {
    /// Whether it is because the disk is full.
    pub fn is_for_want_of_room(&self) -> bool {
        matches!(self, Self::Database { source, .. } if sqlite::is_disk_full(source.as_ref()))
    }
}

/// Everything that is kept of one incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Which one.
    pub id: IncidentId,
    /// What was asked.
    pub ask: IncidentAsk,
    /// When it asks and ends.
    pub plan: Plan,
    /// How far it is.
    pub state: IncidentState,
    /// Its nodes.
    pub members: BTreeMap<NodeName, MemberRecord>,
    /// The archive, once sealed: the newest.
    pub archive: Option<SealedArchive>,
    /// The archives that it amends, oldest first.
    pub earlier: Vec<SealedArchive>,
    /// Why sealing failed, when it did.
    pub failure: Option<String>,
    /// Whether it is sealed and no node is waited for any more.
    pub over: bool,
}

impl Record {
    /// The same with these nodes only.
    #[must_use]
    pub fn only(&self, nodes: &BTreeSet<NodeName>) -> Self {
        let members = nodes.iter().filter_map(|node| self.members.get_key_value(node));
        Self {
            id: self.id,
            ask: self.ask.clone(),
            plan: self.plan,
            state: self.state,
            members: members.map(|(node, member)| (node.clone(), member.clone())).collect(),
            archive: self.archive.clone(),
            earlier: self.earlier.clone(),
            failure: self.failure.clone(),
            over: self.over,
        }
    }
}

/// What is kept of one node of an incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRecord {
    /// The node's number: its directory in the spool.
    pub number: u64,
    /// The request that asks it.
    pub request: RequestId,
    /// How far it is.
    pub phase: NodePhase,
    /// What it said when it was done.
    pub answer: Option<Answer>,
    /// How it was asked last.
    pub asked: Option<Asked>,
}

/// How a node was asked: the window moved to its clock, by what was known of it then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The window on the node's clock.
    pub window: Window,
    /// The offset that was used; `None`: none was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockOffset>,
}

/// The requests in whose names nodes are asked.
pub type Requests = BTreeMap<NodeName, RequestId>;

impl Record {
    /// As lists and pages show it.
    pub fn summary(&self) -> IncidentSummary {
        IncidentSummary {
            id: self.id,
            ask: self.ask.clone(),
            expected: self.members.keys().cloned().collect(),
            state: self.state,
            opened_at: self.plan.opened_at,
            deadline: self.plan.deadline(),
            archive: self.archive.clone(),
            earlier: self.earlier.clone(),
            failure: self.failure.clone(),
        }
    }
}

/// Which incident answers for a resource of Kubernetes, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// The resource.
    pub resource: Resource,
    /// The incident.
    pub incident: IncidentId,
    /// How far it is.
    pub state: IncidentState,
    /// The revision of its newest archive; `None`: it has none.
    pub revision: Option<u32>,
}

/// Keeps which incident answers for which resource of Kubernetes: one for each, for ever. What a call returned `Ok` for
/// survives a crash of the machine.
pub trait Resources: Send + Sync {
    /// The incident that answers for the resource of this uid.
    fn opened_for(&self, uid: &str) -> Result<Option<IncidentId>, StoreError>;
    /// This incident, which was opened for something else, answers for this resource too. An error when another one does.
    fn bind(&self, resource: &Resource, incident: IncidentId) -> Result<(), StoreError>;
    /// Every resource that was not deleted, as far as is known, in the order of uids.
    fn bound(&self) -> Result<Vec<Bound>, StoreError>;
    /// The resource of this uid was deleted. Whether that is news.
    fn resource_gone(&self, uid: &str) -> Result<bool, StoreError>;
}

/// A sealed archive, and where the index says that a copy of it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Of which incident.
    pub incident: IncidentId,
    /// The archive.
    pub archive: SealedArchive,
    /// The archive store that has a checked copy; `None`: none.
    pub store: Option<String>,
}

/// A checked copy of one archive of an incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// Which archive of the incident.
    pub revision: u32,
    /// The archive store that it lies in.
    pub store: String,
}

/// Keeps which archive was copied to which archive store. What a call returned `Ok` for survives a crash of the machine.
pub trait Copies: Send + Sync {
    /// Every archive that this store has not, oldest first.
    fn uncopied(&self, store: &str) -> Result<Vec<Sealed>, StoreError>;
    /// Every archive that this store has and that no amendment will need again, oldest first.
    fn spare(&self, store: &str) -> Result<Vec<Sealed>, StoreError>;
    /// The copies of the archives of an incident.
    fn copies(&self, incident: IncidentId) -> Result<Vec<Copy>, StoreError>;
    /// This store has this archive: it was read back there, and is what was sealed.
    fn copied(&self, incident: IncidentId, revision: u32, store: &str) -> Result<(), StoreError>;
    /// There is no copy of this archive any more.
    fn copy_lost(&self, incident: IncidentId, revision: u32) -> Result<(), StoreError>;
}

/// Keeps the index. What a call returned `Ok` for survives a crash of the machine.
pub trait Store: NodeNumbers + Resources + Copies {
    /// A new incident in state open, with a number of its own and a request for each node. When a resource asks for it, it is
    /// bound to that in the same instant: an error when another incident answers for that resource already.
    fn open_incident(&self, ask: &IncidentAsk, plan: &Plan, nodes: &[NodeName]) -> Result<Record, StoreError>;
    /// The incident is now like this, and so are those of its nodes that are in the record; the others are as they were.
    fn save(&self, record: &Record) -> Result<(), StoreError>;
    /// The incident is now like this, sealed, with this coverage of its newest archive. Nodes that are missing get another
    /// request each, which asks them when they come back: what was said in the name of the old one counts no more.
    fn save_sealed(&self, record: &Record, coverage: &Coverage) -> Result<Requests, StoreError>;
    /// One incident.
    fn incident(&self, id: IncidentId) -> Result<Option<Record>, StoreError>;
    /// Every incident that is not over, oldest first.
    fn unfinished(&self) -> Result<Vec<Record>, StoreError>;
    /// A page of incidents, newest first.
    fn list(&self, ask: ListAsk) -> Result<IncidentPage, StoreError>;
    /// The coverage of the newest archive of an incident.
    fn coverage(&self, id: IncidentId) -> Result<Option<Coverage>, StoreError>;
    /// What the agent of a node last said that it can collect; empty: never heard.
    fn collectable(&self, node: &NodeName) -> Result<Vec<Collectable>, StoreError>;
    /// The agent of a node says that it can collect this.
    fn set_collectable(&self, node: &NodeName, collectable: &[Collectable]) -> Result<(), StoreError>;
    /// How many incidents are in each state. Reads the index, so it says as well that it answers.
    fn count_by_state(&self) -> Result<Vec<(IncidentState, u64)>, StoreError>;
    /// For callers that need only the numbers.
    fn numbers(self: Arc<Self>) -> Arc<dyn NodeNumbers>;
}

/// Keeps what is known of tokens: the digests of their secrets, and whom they name. What a call returned `Ok` for survives
/// a crash of the machine.
pub trait Tokens: Send + Sync {
    /// A new token.
    fn add_token(&self, digest: &Digest, kept: &TokenInfo) -> Result<(), StoreError>;
    /// Uses a join token up. `None`: there is none with this digest, or it has expired, or it is no node's.
    fn spend_token(&self, digest: &Digest, now: WallTime) -> Result<Option<TokenInfo>, StoreError>;
    /// The tokens that have not expired, oldest first.
    fn tokens(&self, now: WallTime) -> Result<Vec<(Digest, TokenInfo)>, StoreError>;
    /// Forgets a token, and says whose it was. `None`: there is none.
    fn remove_token(&self, id: &TokenId) -> Result<Option<Subject>, StoreError>;
    /// Certificates of this node that were issued until then are revoked, and its join tokens are gone; what was revoked
    /// until `forget` is forgotten. Whether a node of that name is known.
    fn revoke_node(&self, node: &NodeName, until: WallTime, forget: WallTime) -> Result<bool, StoreError>;
    /// The id in the cluster of the node of this name that enrolled last. `None`: none did.
    fn node_uid(&self, node: &NodeName) -> Result<Option<String>, StoreError>;
    /// The node of this name is this one. Of too many, those that enrolled longest ago are forgotten.
    fn set_node_uid(&self, node: &NodeName, uid: &str, now: WallTime) -> Result<(), StoreError>;
    /// The nodes whose certificates are revoked, and until when.
    fn revoked_nodes(&self) -> Result<Vec<(NodeName, WallTime)>, StoreError>;
}

/// Makes a call to the index on a thread that may block.
pub async fn blocking<T, F>(store: &Arc<dyn Store>, call: F) -> Result<T, StoreError>
where
    T: Send + 'static,
    F: FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
{
    let store = Arc::clone(store);
    let done = tokio::task::spawn_blocking(move || call(&*store)).await;
    done.unwrap_or_else(|panicked| Err(StoreError::Database { doing: "use", source: Box::new(panicked) }))
}
