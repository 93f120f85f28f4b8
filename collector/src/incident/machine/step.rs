//! What happens to an incident, and what is to be done about it.

use std::collections::BTreeMap;

use casefile_proto::coverage::NodeState;
use casefile_proto::ids::{NodeName, RequestId};
use casefile_proto::incident::SealedArchive;

use super::Answer;

/// What happens to an incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IncidentEvent {
    /// It begins, or goes on after a restart; these nodes have a session.
    Started {
        /// Nodes with a session now.
        connected: Vec<NodeName>,
    },
    /// Time has passed.
    Tick,
    /// A node has a session.
    Connected {
        /// Which.
        node: NodeName,
    },
    /// A node's session has ended.
    Disconnected {
        /// Which.
        node: NodeName,
    },
    /// The ask could not be handed to the node.
    NotAsked {
        /// Which.
        node: NodeName,
    },
    /// A node tells how far a source is.
    Progress {
        /// Which node.
        node: NodeName,
        /// In answer to which request.
        request: RequestId,
        /// Which source.
        source: String,
        /// Records so far.
        records: u64,
        /// Bytes so far.
        bytes: u64,
    },
    /// An item is whole, checked and on disk.
    Item {
        /// Which node.
        node: NodeName,
        /// In answer to which request.
        request: RequestId,
        /// Its source.
        source: String,
        /// Its gaps.
        gaps: u64,
    },
    /// A node says that it is done.
    Done {
        /// Which node.
        node: NodeName,
        /// In answer to which request.
        request: RequestId,
        /// What it says.
        answer: Answer,
    },
    /// The archive lies there, verified.
    Sealed {
        /// The archive.
        archive: SealedArchive,
        /// What became of each node.
        nodes: Vec<(NodeName, NodeState)>,
        /// The requests in whose names nodes that are missing are asked when they come back.
        requests: BTreeMap<NodeName, RequestId>,
    },
    /// The archive could not be written.
    SealFailed {
        /// Why, for a person.
        why: String,
    },
}

impl IncidentEvent {
    /// The one node that it is about; `None`: the incident as a whole.
    pub const fn node(&self) -> Option<&NodeName> {
        match self {
            Self::Connected { node }
            | Self::Disconnected { node }
            | Self::NotAsked { node }
            | Self::Progress { node, .. }
            | Self::Item { node, .. }
            | Self::Done { node, .. } => Some(node),
            Self::Started { .. } | Self::Tick | Self::Sealed { .. } | Self::SealFailed { .. } => None,
        }
    }
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Keep the node's last words from the window's begin on until [`Step::Release`].
    Pin {
        /// Which node.
        node: NodeName,
    },
    /// Ask the node for the window.
    Ask {
        /// Which node.
        node: NodeName,
        /// In the name of which request.
        request: RequestId,
    },
    /// Nothing more of this request is wanted; its spool must be at rest before the next step.
    Cancel {
        /// Which node.
        node: NodeName,
        /// Which request.
        request: RequestId,
    },
    /// Write down the state: a restart goes on from here.
    Save,
    /// Write the archive, then say [`IncidentEvent::Sealed`] or [`IncidentEvent::SealFailed`].
    Seal,
    /// The archive is announced: the pins and the spool are no longer needed.
    Release,
}

impl Step {
    /// The node whose last words are to be kept.
    pub const fn pinned(&self) -> Option<&NodeName> {
        if let Self::Pin { node } = self { Some(node) } else { None }
    }

    /// The node that is to be asked.
    pub const fn asked(&self) -> Option<&NodeName> {
        if let Self::Ask { node, .. } = self { Some(node) } else { None }
    }

    /// Whether something is wanted of a node, or of what is held of it.
    pub const fn is_to_a_node(&self) -> bool {
        matches!(self, Self::Pin { .. } | Self::Ask { .. })
    }
}
