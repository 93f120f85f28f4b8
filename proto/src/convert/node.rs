//! Nodes: `node.proto`.

use super::{ConvertError, Fields, MAX_LINE, MAX_NODES, MAX_SOURCES, MAX_VERSION, into_list, optional};
use crate::ids::BootId;
use crate::node::{Link, NodeList, NodeStatus};
use crate::time::WallTime;
use crate::units::Bytes;
use crate::wire::v1;

/// A wall time on the wire where 0 says never: nothing of ours happened in 1970.
pub(super) const fn time_or_never(nanos: i64) -> Option<WallTime> {
    if nanos == 0 { None } else { Some(WallTime::from_nanos(nanos)) }
}

/// A text on the wire where empty says none.
pub(super) fn text_or_none(text: String) -> Option<String> {
    if text.is_empty() { None } else { Some(text) }
}

impl TryFrom<v1::Node> for NodeStatus {
    type Error = ConvertError;
    fn try_from(n: v1::Node) -> Result<Self, ConvertError> {
        let f = Fields("Node");
        f.short("troubles", n.troubles.len(), MAX_SOURCES)?;
        Ok(Self {
            node: f.parsed("name", &n.name)?,
            link: if n.connected { Link::Connected } else { Link::Away },
            boot: match n.boot_id.as_slice() {
                [] => None,
                bytes => Some(BootId::from_bytes(f.array("boot_id", bytes)?)),
            },
            agent_version: text_or_none(f.text("agent_version", n.agent_version, MAX_VERSION)?),
            last_frame: time_or_never(n.last_frame_unix_nanos),
            clock: n.clock.map(Into::into),
            last_words: optional(n.last_words)?,
            last_words_bytes: Bytes(f.quantity("last_words_bytes", n.last_words_bytes)?),
            troubles: n.troubles.into_iter().map(|t| f.text("troubles", t, MAX_LINE)).collect::<Result<_, _>>()?,
        })
    }
}

impl From<NodeStatus> for v1::Node {
    fn from(n: NodeStatus) -> Self {
        Self {
            name: n.node.into(),
            connected: n.link == Link::Connected,
            boot_id: n.boot.map_or_else(Vec::new, |b| b.as_bytes().to_vec()),
            agent_version: n.agent_version.unwrap_or_default(),
            last_frame_unix_nanos: n.last_frame.map_or(0, WallTime::nanos),
            clock: n.clock.map(Into::into),
            last_words: n.last_words.map(Into::into),
            last_words_bytes: n.last_words_bytes.0,
            troubles: n.troubles,
        }
    }
}

impl TryFrom<v1::ListNodesResponse> for NodeList {
    type Error = ConvertError;
    fn try_from(r: v1::ListNodesResponse) -> Result<Self, ConvertError> {
        Ok(Self {
            nodes: Fields("ListNodesResponse").list("nodes", r.nodes, MAX_NODES)?,
            now: WallTime::from_nanos(r.now_unix_nanos),
        })
    }
}

impl From<NodeList> for v1::ListNodesResponse {
    fn from(l: NodeList) -> Self {
        Self { nodes: into_list(l.nodes), now_unix_nanos: l.now.nanos() }
    }
}
