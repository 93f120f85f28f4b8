//! A node as lists show it: whether it is connected, how fresh what is held of it is, how well its clock is known.

use serde::{Deserialize, Serialize};

use crate::ids::{BootId, NodeName};
use crate::time::{ClockOffset, WallTime, Window};
use crate::units::Bytes;

/// Whether a node's agent has a session now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Link {
    /// It has one.
    Connected,
    /// It has none.
    Away,
}

/// One node that a collector knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub node: NodeName,
    /// Whether its agent has a session now.
    pub link: Link,
    /// The boot of its last frame; `None`: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootId>,
    /// Its agent's version; `None`: no session since the collector was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
    /// When its last frame was received, on the collector's clock; `None`: not since the collector was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_frame: Option<WallTime>,
    /// Its clock against the collector's; `None`: not measured yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockOffset>,
    /// The interval of its last words that is held, on the node's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_words: Option<Window>,
    /// Bytes of its last words on the collector's disk.
    pub last_words_bytes: Bytes,
    /// The sources of its last frame that were not complete, each with its outcome: `pressure: absent`. Text from the node.
    pub troubles: Vec<String>,
}

/// Every node, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeList {
    /// In order of name.
    pub nodes: Vec<NodeStatus>,
    /// The collector's wall clock when it answered.
    pub now: WallTime,
}
