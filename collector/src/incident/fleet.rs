//! What is needed of the nodes, and nothing more: who is there, ask, cancel, test, last words.
//!
//! The real one is ingest with its last words; tests of everything around an incident bring nodes of their own.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use casefile_proto::connectivity::{ConnectivityAsk, NodeOutcome, UntestedReason};
use casefile_proto::ids::{IncidentId, NodeName, RequestId};
use casefile_proto::node::NodeStatus;
use casefile_proto::session::CollectionAsk;
use casefile_proto::time::WallTime;
use tokio::sync::oneshot;

use crate::ingest::{AskError, Ingest};
use crate::last_words::{LastWords, LastWordsError};

/// An answer that takes a while.
pub type Wait<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The nodes of a collector.
pub trait Fleet: Send + Sync + 'static {
    /// Every node that is connected or of which something is held, in order of name.
    fn nodes(&self) -> Vec<NodeStatus>;
    /// Asks a node to collect into a spool directory. Asking twice in one name is the same as asking once.
    fn ask<'a>(&'a self, node: &'a NodeName, ask: CollectionAsk, spool: PathBuf) -> Wait<'a, Result<(), AskError>>;
    /// Forgets a request; when it returns, its spool directory is at rest.
    fn cancel<'a>(&'a self, node: &'a NodeName, request: RequestId) -> Wait<'a, ()>;
    /// Has a node test connectivity; closed without a word when the node is gone. At once why it is not asked.
    fn test(&self, node: &NodeName, ask: ConnectivityAsk) -> Result<oneshot::Receiver<NodeOutcome>, UntestedReason>;
    /// Keeps the last words of a node from this time of its clock on, for this incident.
    fn pin<'a>(
        &'a self,
        node: &'a NodeName,
        incident: IncidentId,
        from: WallTime,
    ) -> Wait<'a, Result<(), LastWordsError>>;
    /// They need not be kept any more.
    fn unpin<'a>(&'a self, node: &'a NodeName, incident: IncidentId) -> Wait<'a, Result<(), LastWordsError>>;
    /// Where the last words of a node lie; `None`: nothing is held of it.
    fn last_words(&self, node: &NodeName) -> Option<PathBuf>;
}

/// The agents that dial this collector.
#[derive(Clone)]
pub struct Agents {
    /// Their sessions.
    pub ingest: Ingest,
    /// What they said last.
    pub last_words: LastWords,
}

impl Fleet for Agents {
    fn nodes(&self) -> Vec<NodeStatus> {
        self.ingest.nodes()
    }

    fn ask<'a>(&'a self, node: &'a NodeName, ask: CollectionAsk, spool: PathBuf) -> Wait<'a, Result<(), AskError>> {
        Box::pin(self.ingest.ask(node, ask, spool))
    }

    fn cancel<'a>(&'a self, node: &'a NodeName, request: RequestId) -> Wait<'a, ()> {
        Box::pin(self.ingest.cancel(node, request))
    }

    fn test(&self, node: &NodeName, ask: ConnectivityAsk) -> Result<oneshot::Receiver<NodeOutcome>, UntestedReason> {
        self.ingest.test(node, ask)
    }

    fn pin<'a>(
        &'a self,
        node: &'a NodeName,
        incident: IncidentId,
        from: WallTime,
    ) -> Wait<'a, Result<(), LastWordsError>> {
        Box::pin(self.last_words.pin(node, incident, from))
    }

    fn unpin<'a>(&'a self, node: &'a NodeName, incident: IncidentId) -> Wait<'a, Result<(), LastWordsError>> {
        Box::pin(self.last_words.unpin(node, incident))
    }

    fn last_words(&self, node: &NodeName) -> Option<PathBuf> {
        self.last_words.dir(node)
    }
}
