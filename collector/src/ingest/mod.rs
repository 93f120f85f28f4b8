//! Ingest: the collector's end of the sessions with its agents.
//!
//! [`session`] and [`clock`] decide and are pure; [`conversation`] and [`upload`] carry out for one stream each and are
//! meant to be dull; [`registry`] knows who is connected and what was asked; [`listener`] accepts connections within
//! limits. What the rest of the collector needs of it is here.

pub mod clock;
mod conversation;
mod ended;
pub mod listener;
mod rate;
mod refusal;
mod registry;
mod service;
pub mod session;
mod upload;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use casefile_proto::connectivity::{ConnectivityAsk, NodeOutcome, UntestedReason};
use casefile_proto::coverage::SourceCoverage;
use casefile_proto::gap::Gap;
use casefile_proto::ids::{NodeName, RequestId};
use casefile_proto::node::NodeStatus;
use casefile_proto::session::{Collectable, CollectionAsk, MAX_MESSAGE, RedactionKey};
use casefile_proto::time::Stamp;
use casefile_proto::units::Bytes;
use casefile_proto::wire::v1::agent_service_server::{AgentService, AgentServiceServer};
use tokio::sync::{mpsc, oneshot, watch};

pub use ended::{Ended, RefusedConnection};
pub use refusal::Refusal;
pub use registry::Heard;

use crate::audit::Audit;
use crate::identity::revoked::Revoked;
use crate::last_words::LastWords;
use crate::space::Taking;
use crate::spool::SpooledItem;
use crate::spool::receive::Spool;
use crate::stats::Stats;
use registry::Registry;

/// Reads the collector's clocks. An argument, so that tests can set them.
pub type Clock = Arc<dyn Fn() -> Stamp + Send + Sync>;

/// What ingest can be told.
#[derive(Clone)]
pub struct IngestConfig {
    /// How far back frames that the collector missed are still wanted in the live stream.
    pub catch_up: Duration,
    /// Time between two clock probes of a session.
    pub probe_every: Duration,
    /// The collector's clocks.
    pub clock: Clock,
    /// The key with which agents replace secrets: in the welcome, and told again when it changes.
    pub redaction_key: watch::Receiver<RedactionKey>,
    /// How long a session may last; then the agent dials again, and shows the certificate that it has by then.
    pub session_age: Duration,
    /// Whose certificates do not count any more: their sessions end.
    pub revoked: Arc<Revoked>,
    /// What is told of agents that are not who they say, or who are two.
    pub audit: Arc<Audit>,
    /// Whether evidence is taken. While it is not, sessions and uploads stand and nothing more is read of them.
    pub taking: watch::Receiver<Taking>,
    /// Counts what happens.
    pub stats: Arc<Stats>,
}

/// What happened to a node, for whoever gathers incidents. The channel is bounded: when it is full, the session that
/// has something to say waits, and with it its agent; only [`NodeEvent::Progress`] is left out then.
#[derive(Debug)]
pub enum NodeEvent {
    /// Its agent has a session now; also when a new session took the place of an old one. Told when its clock has been
    /// compared with ours, or has not been within two seconds, so that a window can be asked on it.
    Connected {
        /// Which node.
        node: NodeName,
        /// What its agent says it can collect besides the recording. Names from the node.
        collectable: Vec<Collectable>,
    },
    /// Its agent has none any more. Its requests stay known and are asked again when it comes back.
    Disconnected {
        /// Which node.
        node: NodeName,
    },
    /// One source of a collection got further.
    Progress {
        /// Which node.
        node: NodeName,
        /// Which request.
        request: RequestId,
        /// Which source. Text from the node.
        source: String,
        /// Records so far.
        records: u64,
        /// Bytes so far, before compression.
        bytes: Bytes,
    },
    /// An item is whole, checked and on disk. Told at least once for each item.
    Item {
        /// Which node.
        node: NodeName,
        /// Which request.
        request: RequestId,
        /// The item.
        item: SpooledItem,
    },
    /// The agent says that it is done. What it says is a claim: what is there, the spool says.
    Done {
        /// Which node.
        node: NodeName,
        /// Which request.
        request: RequestId,
        /// Its rows of the coverage.
        sources: Vec<SourceCoverage>,
        /// What is missing of the node as a whole.
        gaps: Vec<Gap>,
    },
}

/// The node has no session now. Ask again on [`NodeEvent::Connected`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{node} is not connected")]
pub struct NotConnected {
    /// Which node.
    pub node: NodeName,
}

/// Why a node was not asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It has no session.
    #[error(transparent)]
    NotConnected(#[from] NotConnected),
    /// The spool of the request cannot be opened.
    #[error("open the spool of request {request} for {node}")]
    Spool {
        /// Which node.
        node: NodeName,
        /// Which request.
        request: RequestId,
        /// What the file system said.
        #[source]
        source: std::io::Error,
    },
}

/// The collector's end of all sessions. Cheap to clone.
#[derive(Clone)]
pub struct Ingest {
    registry: Arc<Registry>,
}

impl Ingest {
    /// Nothing is connected yet.
    pub fn new(config: IngestConfig, last_words: LastWords, events: mpsc::Sender<NodeEvent>) -> Self {
        Self { registry: Arc::new(Registry::new(config, last_words, events)) }
    }

    /// The gRPC service, with its limits, to be added to the server's routes.
    pub fn service(&self) -> AgentServiceServer<impl AgentService + use<>> {
        AgentServiceServer::new(service::Service::new(Arc::clone(&self.registry)))
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    /// Every node that is connected or that something is held of, in order of name.
    pub fn nodes(&self) -> Vec<NodeStatus> {
        self.registry.nodes_status()
    }

    /// How long ago each node was heard, as counts.
    pub fn heard(&self) -> Heard {
        self.registry.heard()
    }

    /// Asks a node to collect. The request stays known until it is done or cancelled: when the node's session is lost
    /// it is asked again as soon as the node is back. Asking twice for one request is the same as asking once.
    /// Items arrive in `spool_dir`, which is made if need be; what lies there from before is resumed.
    pub async fn ask(&self, node: &NodeName, ask: CollectionAsk, spool_dir: PathBuf) -> Result<(), AskError> {
        let not_connected = || NotConnected { node: node.clone() };
        if !self.registry.is_connected(node) {
            return Err(not_connected().into());
        }
        if self.registry.has_request(node, ask.request) {
            return Ok(());
        }
        let (request, budget) = (ask.request, ask.budget);
        let spool = match tokio::task::spawn_blocking(move || Spool::open(spool_dir, budget)).await {
            Ok(opened) => opened,
            Err(panicked) => Err(std::io::Error::other(panicked)),
        }
        .map_err(|source| AskError::Spool { node: node.clone(), request, source })?;
        if self.registry.add_request(node, ask, spool) { Ok(()) } else { Err(not_connected().into()) }
    }

    /// Forgets a request and tells the agent, if it is connected. When this returns, nothing more is written into the
    /// request's spool directory; what lies there stays. Events that were queued before can still be read.
    pub async fn cancel(&self, node: &NodeName, request: RequestId) {
        let Some(spool) = self.registry.remove_request(node, request) else { return };
        // Waits for the write that is being done.
        if let Err(panicked) = tokio::task::spawn_blocking(move || spool.close()).await {
            tracing::error!(%node, %request, error = %panicked, "closing a spool failed");
        }
    }

    /// Has a node test connectivity; says at once why it is not asked. What comes back is closed without a word when the node's
    /// session ends, and has no deadline of its own.
    pub fn test(
        &self,
        node: &NodeName,
        ask: ConnectivityAsk,
    ) -> Result<oneshot::Receiver<NodeOutcome>, UntestedReason> {
        self.registry.test(node, ask)
    }

    /// Ends all sessions: acknowledges what is synced, takes nothing more. Part of an orderly stop; returns after a few
    /// seconds at most.
    pub async fn close(&self) {
        self.registry.close().await;
    }
}
