//! What an agent and its collector say to each other, as domain types: the session's messages and those of an upload.
//!
//! Values here have been checked by [`crate::convert`]: lengths are within the limits named below, numbers are what they
//! claim to be. Whether a message may be said *now* is decided by the session's state machines, not here.

use std::time::Duration;

/// Bytes that came in a message and are shared, not copied.
pub use bytes::Bytes as Buffer;

use crate::connectivity::{Ability, ConnectivityAnswer, ConnectivityAsk};
use crate::coverage::{SourceCoverage, SourceKind};
use crate::gap::Gap;
use crate::ids::{BootId, FrameSeq, ItemNumber, NodeName, RequestId};
use crate::item::{ItemHead, ItemTail};
use crate::scope::Selection;
use crate::time::{ClockOffset, Stamp, Window};
use crate::units::Bytes;

/// The version of the protocol that these types speak.
pub const PROTOCOL: u32 = 1;

/// The most bytes that the payload of one message may have: the records of a batch, the plain bytes of a chunk.
pub const MAX_PAYLOAD: usize = 1 << 20;

/// The most compressed bytes of a chunk: what does not compress grows by a few bytes a block.
pub const MAX_DEFLATED: usize = MAX_PAYLOAD + 1024;

/// The most bytes of one message, decoded: a payload that did not compress, and its envelope, which for a batch can be
/// 64 gaps of a little more than 1 KiB. Both ends refuse more before they allocate it.
pub const MAX_MESSAGE: usize = MAX_PAYLOAD + (128 << 10);

/// The most bytes of the recording header in a hello: some hundred metrics with their help.
pub const MAX_HEADER: usize = 512 << 10;

/// The most batches that a collector lets an agent have in flight: h2 gives up a connection with more than about 150
/// small unread messages, so the window stays far below.
pub const MAX_WINDOW_BATCHES: u32 = 31;

/// Names one session in its uploads. Chosen by the collector, not to be guessed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionToken(pub [u8; 16]);

impl std::fmt::Debug for SessionToken {
    /// Not the token: it must not end up in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionToken(…)")
    }
}

/// The key of the tokens that stand for secrets. The collector issues it to all agents.
#[derive(Clone, PartialEq, Eq)]
pub struct RedactionKey(pub [u8; 32]);

impl std::fmt::Debug for RedactionKey {
    /// Not the key: whoever has it can try out which secret a token stands for.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RedactionKey(…)")
    }
}

/// One run of one collection: a random number other than zero, chosen by the agent when it begins to collect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct RunId(pub u64);

/// What an agent says in a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromAgent {
    /// Who is speaking: exactly once, first.
    Hello(Hello),
    /// Frames of the recording.
    Frames(FrameBatch),
    /// The answer to a clock probe.
    Clock(ClockAnswer),
    /// How far a collection is.
    Progress(CollectionProgress),
    /// A collection has ended.
    Done(CollectionDone),
    /// How a test of connectivity went.
    Connectivity(ConnectivityAnswer),
}

/// What a collector says in a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToAgent {
    /// The session stands: exactly once, first.
    Welcome(Welcome),
    /// Frames up to this one are on the collector's disk.
    Ack(FrameSeq),
    /// Please answer at once with your clocks; comes back as it is.
    Probe(ProbeToken),
    /// Collect a window.
    Collect(CollectionAsk),
    /// Stop a collection.
    Cancel(RequestId),
    /// From now on secrets are replaced with tokens of this key.
    Redact(RedactionKey),
    /// Test whether a target is reached. Said to an agent that can.
    TestConnectivity(ConnectivityAsk),
}

/// Names one clock probe: the collector's boot clock in nanoseconds when it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeToken(pub u64);

/// Who is speaking, and what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The version of the protocol that the agent speaks.
    pub protocol: u32,
    /// The node.
    pub node: NodeName,
    /// The boot.
    pub boot: BootId,
    /// The agent's version; at most 64 bytes.
    pub agent_version: String,
    /// The node's clocks when this was sent.
    pub clock: Stamp,
    /// The header record of the recording; at most [`MAX_HEADER`] bytes, not yet decoded.
    pub recording_header: Buffer,
    /// The last frame of this boot in the agent's ring; `None`: none.
    pub last_seq: Option<FrameSeq>,
    /// What the agent can collect besides the recording; at most 256.
    pub collectable: Vec<Collectable>,
    /// Whether it tests connectivity when it is asked.
    pub connectivity: Ability,
}

/// Something that a collection can contain besides the recording.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Collectable {
    /// Its name; at most 128 bytes.
    pub name: String,
    /// Logs or state.
    pub kind: SourceKind,
}

/// The session stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// The version of the protocol that the collector speaks with this agent.
    pub protocol: u32,
    /// Names the session in uploads.
    pub token: SessionToken,
    /// The last frame of the agent's boot on the collector's disk; `None`: none. Frames after it are wanted.
    pub have: Option<FrameSeq>,
    /// How far back frames that the collector missed are still wanted.
    pub catch_up: Duration,
    /// The most batches in flight; 1 to [`MAX_WINDOW_BATCHES`].
    pub window_batches: u32,
    /// The key with which secrets are replaced on all nodes; `None`: the agent keeps its own.
    pub redaction_key: Option<RedactionKey>,
}

/// Some frames, as records of the recording format, whole and in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameBatch {
    /// The first frame in it.
    pub first: FrameSeq,
    /// The last frame in it; not before the first.
    pub last: FrameSeq,
    /// The records, not yet decoded; 1 to [`MAX_PAYLOAD`] bytes.
    pub records: Buffer,
    /// What this session leaves out before `first`, and why; at most 64. A batch with any begins with a keyframe.
    pub skipped: Vec<Gap>,
    /// Where its last record ends.
    pub ends: Ends,
}

/// Where the last record of a batch ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// In this batch.
    Here,
    /// In a later one: the batch is of a single frame whose record is larger than a message may be.
    Later,
}

/// The answer to a clock probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockAnswer {
    /// The probe's.
    pub token: ProbeToken,
    /// The node's clocks.
    pub clock: Stamp,
}

/// Collect a window and upload it item by item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionAsk {
    /// Names the request in everything that answers it.
    pub request: RequestId,
    /// On the node's own clock.
    pub window: Window,
    /// The most bytes, before compression, over all items; not zero.
    pub budget: Bytes,
    /// After this long the collector seals without what is still missing.
    pub deadline: Duration,
    /// Names of sources; empty: all. At most 1024.
    pub sources: Vec<String>,
    /// Which logs of the log sources.
    pub select: Selection,
    /// How well the node's clock is known.
    pub clock: Option<ClockOffset>,
}

/// How far one source of a collection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionProgress {
    /// Which request.
    pub request: RequestId,
    /// Which source; at most 128 bytes.
    pub source: String,
    /// Records so far.
    pub records: u64,
    /// Bytes so far, before compression.
    pub bytes: Bytes,
}

/// A collection has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionDone {
    /// Which request.
    pub request: RequestId,
    /// One row for every source that was asked; at most 1024.
    pub sources: Vec<SourceCoverage>,
    /// What is missing of the node as a whole; at most 1024.
    pub gaps: Vec<Gap>,
}

/// What an agent says in an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UploadPart {
    /// Which item: exactly once, first.
    Begin(UploadBegin),
    /// A piece of its content.
    Piece(Piece),
    /// All of it was sent.
    End(ItemTail),
}

/// What a collector says in an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadAnswer {
    /// Begin at this offset of the plain content: exactly once, first.
    Resume(u64),
    /// Pieces up to this offset are on disk.
    Ack(u64),
    /// The item is whole, checked and on disk: the last.
    Done,
}

/// Which item is uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadBegin {
    /// The session that it belongs to.
    pub token: SessionToken,
    /// The request that asked for it.
    pub request: RequestId,
    /// The run of the collection that made it.
    pub run: RunId,
    /// Which item of that run.
    pub item: ItemNumber,
    /// What it is and where it goes.
    pub head: ItemHead,
}

/// A piece of an item's content, compressed on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Where in the plain content it begins.
    pub offset: u64,
    /// Bytes when inflated: 1 to [`MAX_PAYLOAD`].
    pub plain_len: u32,
    /// CRC-32 of the plain bytes.
    pub plain_crc32: u32,
    /// The compressed bytes, not yet inflated; 1 to [`MAX_PAYLOAD`] + 1024.
    pub deflated: Buffer,
}
