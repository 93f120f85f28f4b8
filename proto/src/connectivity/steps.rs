//! The steps of a test on one node: how each went, how long it took, and what was found.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::item::Digest;
use crate::time::WallTime;

/// The most addresses of a name that are told.
pub const MAX_ADDRESSES: usize = 16;

/// The most certificates of a chain that are told.
pub const MAX_CERTIFICATES: usize = 8;

/// One step of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The name becomes addresses.
    Resolve,
    /// TCP connects.
    Connect,
    /// The TLS handshake, and the certificate.
    Tls,
    /// A GET is answered.
    Http,
}

impl Step {
    /// Every step, in order, which is also that of its numbers on the wire.
    pub const ALL: [Self; 4] = [Self::Resolve, Self::Connect, Self::Tls, Self::Http];

    /// For a person.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Resolve => "DNS",
            Self::Connect => "TCP",
            Self::Tls => "TLS",
            Self::Http => "HTTP",
        }
    }
}

/// Why a step failed. Closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// The name does not exist, or has no address.
    NoName,
    /// No name server gave an answer that one could use.
    NameServer,
    /// It did not come within the deadline.
    TimedOut,
    /// The connection was refused.
    Refused,
    /// There is no way there.
    Unreachable,
    /// The other end reset or closed the connection.
    Reset,
    /// The agent does not connect to addresses such as these.
    NotAllowed,
    /// The other end ended the handshake with an alert.
    TlsAlert,
    /// The certificate is not of this name, not valid now, or not signed by a root that the agent was given.
    Certificate,
    /// A status of 400 or more.
    HttpStatus,
    /// What came is not what is spoken there.
    Malformed,
    /// Something else, which the detail says.
    Other,
}

impl Failure {
    /// Every reason, in the order of its numbers on the wire. To add one: a variant, a line here and one in
    /// [`Failure::words`], and a value in `connectivity.proto`.
    pub const ALL: [Self; 12] = [
        Self::NoName,
        Self::NameServer,
        Self::TimedOut,
        Self::Refused,
        Self::Unreachable,
        Self::Reset,
        Self::NotAllowed,
        Self::TlsAlert,
        Self::Certificate,
        Self::HttpStatus,
        Self::Malformed,
        Self::Other,
    ];

    /// For a person, in a cell of a table.
    pub const fn words(self) -> &'static str {
        match self {
            Self::NoName => "no such name",
            Self::NameServer => "name server failed",
            Self::TimedOut => "timed out",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Reset => "reset",
            Self::NotAllowed => "not allowed",
            Self::TlsAlert => "TLS alert",
            Self::Certificate => "certificate",
            Self::HttpStatus => "status",
            Self::Malformed => "malformed",
            Self::Other => "failed",
        }
    }
}

/// How a step went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "went", rename_all = "kebab-case")]
pub enum Went {
    /// Well.
    Ok {
        /// How long it took.
        took_nanos: u64,
        /// What is worth saying all the same; empty: nothing.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        detail: String,
    },
    /// It failed.
    Failed {
        /// Why.
        failure: Failure,
        /// How long it took to fail.
        took_nanos: u64,
        /// More about it; at most [`super::MAX_DETAIL`] bytes.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        detail: String,
    },
    /// A step before it failed.
    NotReached,
}

impl Went {
    /// Whether it went well.
    pub const fn is_ok(&self) -> bool {
        matches!(self, Self::Ok { .. })
    }

    /// Why it failed.
    pub const fn failure(&self) -> Option<Failure> {
        if let Self::Failed { failure, .. } = self { Some(*failure) } else { None }
    }

    /// How long it took; `None`: it was not begun.
    pub const fn took_nanos(&self) -> Option<u64> {
        match self {
            Self::Ok { took_nanos, .. } | Self::Failed { took_nanos, .. } => Some(*took_nanos),
            Self::NotReached => None,
        }
    }

    /// More about it; empty: nothing.
    pub fn detail(&self) -> &str {
        match self {
            Self::Ok { detail, .. } | Self::Failed { detail, .. } => detail,
            Self::NotReached => "",
        }
    }
}

/// All steps of a test on one node. Those that its scheme does not have are `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steps {
    /// The name.
    pub resolve: Resolve,
    /// The connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<Connect>,
    /// The handshake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// The answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
}

impl Steps {
    /// How one step went; `None`: the target has no such step.
    pub fn of(&self, step: Step) -> Option<&Went> {
        match step {
            Step::Resolve => Some(&self.resolve.went),
            Step::Connect => self.connect.as_ref().map(|s| &s.went),
            Step::Tls => self.tls.as_ref().map(|s| &s.went),
            Step::Http => self.http.as_ref().map(|s| &s.went),
        }
    }

    /// Where it failed and why; `None`: it did not.
    pub fn failed(&self) -> Option<(Step, Failure)> {
        Step::ALL.into_iter().find_map(|step| Some((step, self.of(step)?.failure()?)))
    }

    /// Whether they are as one test can leave them: nothing goes on behind a step that failed, and nothing is left out in front
    /// of one that was begun.
    pub fn is_sound(&self) -> bool {
        let mut open = true;
        Step::ALL.into_iter().filter_map(|step| self.of(step)).all(|went| {
            let fits = open != matches!(went, Went::NotReached);
            open &= went.is_ok();
            fits
        })
    }
}

/// The name became addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolve {
    /// How it went.
    #[serde(flatten)]
    pub went: Went,
    /// In the order in which they came; at most [`MAX_ADDRESSES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
}

/// A connection was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connect {
    /// How it went.
    #[serde(flatten)]
    pub went: Went,
    /// The address that it was made to, or the last one that was tried; `None`: none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
}

/// A handshake was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// How it went.
    #[serde(flatten)]
    pub went: Went,
    /// What the other end showed; `None`: it did not get that far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<Shown>,
}

/// Whether a certificate was checked against roots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trust {
    /// The agent was given no roots: nothing is said about whether it can be believed.
    NotChecked,
    /// Signed by a root that the agent was given.
    Trusted,
    /// Not so.
    NotTrusted,
}

impl Trust {
    /// All of them, in the order of their numbers on the wire.
    pub const ALL: [Self; 3] = [Self::NotChecked, Self::Trusted, Self::NotTrusted];
}

/// What the other end of a handshake showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Such as `TLSv1.3`; at most 32 bytes.
    pub version: String,
    /// What was agreed on by ALPN; `None`: nothing. At most 64 bytes, text from the other end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpn: Option<String>,
    /// The server's own first; at most [`MAX_CERTIFICATES`].
    pub certificates: Vec<Certificate>,
    /// Whether the server's own is of the name or address that was asked for.
    pub name_fits: bool,
    /// Whether they lead to a root.
    pub trust: Trust,
}

/// One certificate, as it says of itself. Text from the other end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Whose it is; at most [`super::MAX_DETAIL`] bytes.
    pub subject: String,
    /// Who signed it; at most [`super::MAX_DETAIL`] bytes.
    pub issuer: String,
    /// From when it is valid.
    pub not_before: WallTime,
    /// Until when.
    pub not_after: WallTime,
    /// The digest of all of it.
    pub sha256: Digest,
}

/// HTTP answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Http {
    /// How it went; what it took is the time to the first byte.
    #[serde(flatten)]
    pub went: Went,
    /// The head of the answer; `None`: none that can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<Answered>,
}

/// The head of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// 100 to 999.
    pub status: u16,
    /// The `Date` of the server, to the second; `None`: none that can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_time: Option<WallTime>,
    /// The node's own wall clock when it came.
    pub node_time: WallTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(resolve: Went, connect: Went) -> Steps {
        Steps {
            resolve: Resolve { went: resolve, addresses: Vec::new() },
            connect: Some(Connect { went: connect, address: None }),
            tls: None,
            http: None,
        }
    }

    #[test]
    fn nothing_goes_on_behind_a_step_that_failed() {
        let ok = || Went::Ok { took_nanos: 5, detail: String::new() };
        let failed = || Went::Failed { failure: Failure::Refused, took_nanos: 7, detail: String::new() };
        assert!(steps(ok(), ok()).is_sound() && steps(ok(), failed()).is_sound());
        assert!(steps(failed(), Went::NotReached).is_sound());
        assert!(!steps(failed(), ok()).is_sound() && !steps(failed(), failed()).is_sound());
        assert!(!steps(ok(), Went::NotReached).is_sound() && !steps(Went::NotReached, ok()).is_sound());
        assert_eq!(steps(ok(), failed()).failed(), Some((Step::Connect, Failure::Refused)));
        assert_eq!(steps(ok(), ok()).failed(), None);
    }

    #[test]
    fn a_step_is_one_flat_object_in_json() {
        let step = steps(Went::Ok { took_nanos: 5, detail: String::new() }, Went::NotReached);
        let text = serde_json::to_string(&step).unwrap();
        assert_eq!(text, r#"{"resolve":{"went":"ok","took_nanos":5},"connect":{"went":"not-reached"}}"#);
        assert_eq!(serde_json::from_str::<Steps>(&text).unwrap(), step);
    }
}
