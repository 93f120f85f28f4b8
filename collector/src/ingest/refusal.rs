//! Why a session or an upload is refused, and the status that says so to the agent.
//!
//! The code tells an agent what to do: `UNAVAILABLE` and `ABORTED` mean try again, `UNAUTHENTICATED` wait for the next
//! session, `NOT_FOUND` the request is gone, `RESOURCE_EXHAUSTED` no more of this; everything else is a defect or an
//! attack, and the message says which.

use casefile_evidence::recording::delta::DecodeError;
use casefile_proto::convert::ConvertError;
use casefile_proto::ids::{FrameSeq, NodeName, RequestId};
use tonic::{Code, Status};

use crate::chain::chain;
use crate::last_words::LastWordsError;
use crate::spool::receive;

/// Why a session or an upload ends.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A message breaks a rule of its own.
    #[error("refuse a message")]
    Message(#[from] ConvertError),
    /// What came is no message, or a larger one than is allowed. The text is the transport's.
    #[error("refuse a message: {}", .0.message())]
    NoMessage(Status),
    /// Something else came first, or nothing came in time.
    #[error("the first message must be hello, within 5 s")]
    HelloFirst,
    /// Hello came again.
    #[error("hello is said once")]
    HelloTwice,
    /// Something came before the collector answered.
    #[error("after hello, wait for welcome")]
    BeforeWelcome,
    /// Another version of the protocol.
    #[error("the agent speaks protocol {theirs}, this collector speaks 1: upgrade the older of the two")]
    Protocol {
        /// The agent's.
        theirs: u32,
    },
    /// The header record holds something else.
    #[error("the recording header is not exactly one header record")]
    NoHeader,
    /// The header is of another node or boot than hello says.
    #[error("the recording header is of another node or boot than hello")]
    OtherHeader,
    /// The agent says that it is another node than its certificate says.
    #[error(
        "the certificate is of node {proven}, and the agent says that it is {claimed}: set node = \"{proven}\", or join anew"
    )]
    OtherNode {
        /// What the certificate says.
        proven: NodeName,
        /// What the agent says.
        claimed: NodeName,
    },
    /// The session has lasted long enough, or its certificate ends: another one begins at once.
    #[error("the session is as old as it may get: dial again")]
    Age,
    /// The certificate of the session was revoked.
    #[error("the certificate of node {0} was revoked: join with a new token")]
    Revoked(NodeName),
    /// A record does not decode.
    #[error("refuse a record")]
    Record(#[source] DecodeError),
    /// A batch holds something that is no frame.
    #[error("a batch holds frames only; what is left out is said in skipped")]
    NoFrame,
    /// A batch holds other frames than it says.
    #[error("a batch holds frame {got} where frame {wanted} must be")]
    OtherFrame {
        /// Which was expected.
        wanted: FrameSeq,
        /// Which came.
        got: FrameSeq,
    },
    /// A batch begins before what is wanted and ends after it.
    #[error("a batch begins at frame {got}, and frames from {wanted} on are wanted")]
    Overlap {
        /// Which is wanted.
        wanted: FrameSeq,
        /// Which it begins with.
        got: FrameSeq,
    },
    /// More batches are in flight than welcome allows.
    #[error("more batches are in flight than the window allows")]
    Window,
    /// The agent did not answer anything for too long.
    #[error("nothing was heard for 60 s")]
    Silent,
    /// The agent does not read what it is told.
    #[error("the agent does not read")]
    Deaf,
    /// Another session of the same node began.
    #[error("another session of {0} began")]
    Superseded(NodeName),
    /// The collector is stopping.
    #[error("the collector is stopping")]
    Stopping,
    /// The last words cannot be written.
    #[error("the collector cannot store what it was sent")]
    LastWords(#[from] LastWordsError),
    /// The collector cannot work at the moment.
    #[error("the collector is short of {0}")]
    Short(&'static str),
    /// The first message of an upload was something else, or did not come in time.
    #[error("the first message of an upload must be begin, within 5 s")]
    BeginFirst,
    /// Begin came again.
    #[error("begin is said once")]
    BeginTwice,
    /// The token is of no session.
    #[error("the session token is not known, or its session is over")]
    Token,
    /// The request is not open for this node.
    #[error("request {0} is not open")]
    Request(RequestId),
    /// Nothing came for too long in the middle of an upload.
    #[error("nothing came for 60 s")]
    Stalled,
    /// The agent ended the stream before the item's end.
    #[error("the upload ended before its end; what was acknowledged is kept")]
    CutShort,
    /// The spool refuses.
    #[error(transparent)]
    Spool(#[from] receive::Refusal),
}

impl Refusal {
    fn code(&self) -> Code {
        use receive::Refusal as S;
        match self {
            Self::NoMessage(_)
            | Self::Message(_)
            | Self::NoHeader
            | Self::OtherHeader
            | Self::Record(_)
            | Self::NoFrame => Code::InvalidArgument,
            Self::OtherFrame { .. } | Self::Overlap { .. } => Code::OutOfRange,
            Self::HelloFirst | Self::HelloTwice | Self::BeforeWelcome | Self::BeginFirst | Self::BeginTwice => {
                Code::FailedPrecondition
            }
            Self::OtherNode { .. } => Code::PermissionDenied,
            Self::Protocol { .. } => Code::Unimplemented,
            Self::Window => Code::ResourceExhausted,
            Self::Silent | Self::Deaf | Self::Stalled => Code::DeadlineExceeded,
            Self::Superseded(_) | Self::LastWords(LastWordsError::Superseded(_)) => Code::Aborted,
            Self::Age | Self::Stopping | Self::LastWords(_) | Self::Short(_) => Code::Unavailable,
            Self::Token | Self::Revoked(_) => Code::Unauthenticated,
            Self::Request(_) => Code::NotFound,
            Self::CutShort => Code::Cancelled,
            Self::Spool(refusal) => match refusal {
                S::Closed => Code::NotFound,
                S::Superseded => Code::Aborted,
                S::TooMany { .. } | S::Budget(_) => Code::ResourceExhausted,
                S::OtherItem => Code::AlreadyExists,
                S::Offset { .. } => Code::OutOfRange,
                S::Chunk(_) => Code::InvalidArgument,
                S::Content { .. } => Code::DataLoss,
                S::Io(_) => Code::Unavailable,
            },
        }
    }

    /// What a stream that cannot be read on says: a message that does not decode is refused; anything else (`None`) is a
    /// connection that is gone, to which nothing can be said.
    pub(crate) fn unreadable(status: Status) -> Option<Self> {
        // tonic's own words for a message that is too large or malformed (tonic/src/codec/decode.rs).
        matches!(status.code(), Code::OutOfRange | Code::Internal | Code::ResourceExhausted | Code::InvalidArgument)
            .then_some(Self::NoMessage(status))
    }

    /// Whether it is the peer's doing rather than ours or the network's.
    pub(crate) fn is_their_fault(&self) -> bool {
        !matches!(
            self.code(),
            Code::Unavailable | Code::Aborted | Code::Cancelled | Code::NotFound | Code::Unauthenticated
        )
    }
}

impl From<&Refusal> for Status {
    /// What is ours (paths, what the file system said) stays here; the log has it.
    fn from(refusal: &Refusal) -> Self {
        let text = match refusal {
            Refusal::LastWords(_) | Refusal::Spool(receive::Refusal::Io(_)) => refusal.to_string(),
            other => chain(other),
        };
        Self::new(refusal.code(), text)
    }
}
