//! Why sessions, uploads and connections ended, as closed lists that can be counted: what [`Refusal`] says in full.

use super::Refusal;
use crate::last_words::LastWordsError;
use crate::spool::receive;
use crate::stats::figure::Label;

/// How a session or an upload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The agent ended it, or its connection is gone.
    Agent,
    /// A newer one of the same node or item began.
    Superseded,
    /// The collector stopped.
    Stopping,
    /// It lasted as long as it may.
    Age,
    /// Its certificate was revoked.
    Revoked,
    /// Nothing was heard for too long.
    Silent,
    /// The agent did not read.
    Deaf,
    /// A message broke a rule.
    Protocol,
    /// What came was damaged on its way, or is not what it says.
    Damaged,
    /// It belongs to no session, or to a request that is not open.
    Unknown,
    /// A budget or a limit was used up.
    Budget,
    /// The collector could not store it.
    Storage,
    /// The collector could not work at the moment.
    Short,
}

impl Label for Ended {
    const NAME: &'static str = "reason";
    const ALL: &'static [Self] = &[
        Self::Agent,
        Self::Superseded,
        Self::Stopping,
        Self::Age,
        Self::Revoked,
        Self::Silent,
        Self::Deaf,
        Self::Protocol,
        Self::Damaged,
        Self::Unknown,
        Self::Budget,
        Self::Storage,
        Self::Short,
    ];

    fn value(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Superseded => "superseded",
            Self::Stopping => "stopping",
            Self::Age => "age",
            Self::Revoked => "revoked",
            Self::Silent => "silent",
            Self::Deaf => "deaf",
            Self::Protocol => "protocol",
            Self::Damaged => "damaged",
            Self::Unknown => "unknown",
            Self::Budget => "budget",
            Self::Storage => "storage",
            Self::Short => "short",
        }
    }
}

impl From<&Refusal> for Ended {
    fn from(refusal: &Refusal) -> Self {
        use receive::Refusal as S;
        match refusal {
            Refusal::Message(_)
            | Refusal::NoMessage(_)
            | Refusal::HelloFirst
            | Refusal::HelloTwice
            | Refusal::BeforeWelcome
            | Refusal::Protocol { .. }
            | Refusal::NoHeader
            | Refusal::OtherHeader
            | Refusal::OtherNode { .. }
            | Refusal::NoFrame
            | Refusal::OtherFrame { .. }
            | Refusal::Overlap { .. }
            | Refusal::Window
            | Refusal::BeginFirst
            | Refusal::BeginTwice => Self::Protocol,
            Refusal::Record(_) => Self::Damaged,
            Refusal::Age => Self::Age,
            Refusal::Revoked(_) => Self::Revoked,
            Refusal::Silent | Refusal::Stalled => Self::Silent,
            Refusal::Deaf => Self::Deaf,
            Refusal::Superseded(_) | Refusal::LastWords(LastWordsError::Superseded(_)) => Self::Superseded,
            Refusal::Stopping | Refusal::LastWords(LastWordsError::Closed) => Self::Stopping,
            Refusal::LastWords(_) => Self::Storage,
            Refusal::Short(_) => Self::Short,
            Refusal::Token | Refusal::Request(_) => Self::Unknown,
            Refusal::CutShort => Self::Agent,
            Refusal::Spool(refusal) => match refusal {
                S::Closed => Self::Unknown,
                S::Superseded => Self::Superseded,
                S::TooMany { .. } | S::Budget(_) => Self::Budget,
                S::OtherItem | S::Offset { .. } => Self::Protocol,
                S::Chunk(_) | S::Content { .. } => Self::Damaged,
                S::Io(_) => Self::Storage,
            },
        }
    }
}

/// Why a connection was not taken, or given up before it said anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedConnection {
    /// There are as many as there may be.
    Connections,
    /// There are as many from its address as there may be.
    ConnectionsPerAddress,
    /// TLS failed, or it did not say in time that it speaks HTTP/2.
    Handshake,
    /// Nobody proved in time who is asking.
    Proof,
    /// It had not proven who it is, and others needed its place.
    Strangers,
    /// The system gave no descriptor or memory for it.
    System,
}

impl Label for RefusedConnection {
    const NAME: &'static str = "reason";
    const ALL: &'static [Self] =
        &[Self::Connections, Self::ConnectionsPerAddress, Self::Handshake, Self::Proof, Self::Strangers, Self::System];

    /// The name of the limit, where it is one of the listener's limits.
    fn value(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerAddress => "connections_per_address",
            Self::Handshake => "handshake",
            Self::Proof => "proof",
            Self::Strangers => "strangers",
            Self::System => "system",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_of_a_closed_list_can_be_counted() {
        fn all<L: Label + std::fmt::Debug>() {
            let counted = crate::stats::figure::By::<L, crate::stats::figure::Counter>::default();
            for (n, label) in L::ALL.iter().enumerate() {
                counted.of(*label).one();
                assert!(L::ALL[..n].iter().all(|other| other.value() != label.value()), "{label:?}");
                assert_eq!(counted.of(*label).get(), 1, "{label:?}");
            }
        }
        all::<Ended>();
        all::<RefusedConnection>();
        all::<crate::space::Why>();
        all::<crate::stats::Stage>();
        all::<casefile_proto::gap::GapReason>();
    }

    #[test]
    fn a_disk_that_failed_is_not_told_as_the_agents_doing() {
        let io = receive::Refusal::Io(std::io::Error::from(rustix::io::Errno::IO));
        assert_eq!(Ended::from(&Refusal::Spool(io)), Ended::Storage);
        assert_eq!(Ended::from(&Refusal::CutShort), Ended::Agent);
    }
}
