//! Who calls: a node by its certificate, a person by a token, or nobody.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use casefile_identity::authority::Holder;
use casefile_proto::identity::Person;

use super::user::UserName;
use crate::audit::{Entry, Outcome, Verb};

/// Who.
#[derive(Debug, Clone)]
pub enum Who {
    /// Nothing was proven.
    Nobody,
    /// The agent of a node.
    Node(Arc<Holder>),
    /// A person or a program.
    Person(Arc<Person>),
    /// A user of the cluster, who may do what he is about to: it said so a moment ago.
    User(UserName),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("nobody"),
            Self::Node(holder) => write!(f, "node {}", holder.node),
            Self::Person(person) => person.name.fmt(f),
            Self::User(name) => name.fmt(f),
        }
    }
}

/// Who calls, and from where.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who.
    pub who: Who,
    /// From where.
    pub from: SocketAddr,
}

impl Caller {
    /// A line of the audit log about this one.
    pub fn entry(&self, verb: Verb, what: String, outcome: Outcome) -> Entry {
        Entry { who: self.who.to_string(), from: self.from.to_string(), verb, what, outcome, times: 1 }
    }
}

/// What the listener knows of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where it comes from.
    pub from: SocketAddr,
    /// Whose certificate it showed.
    pub holder: Option<Arc<Holder>>,
    /// Whether somebody has proven himself over it: until then the listener may close it to make room.
    proven: Arc<AtomicBool>,
}

impl Peer {
    /// A new connection.
    pub fn new(from: SocketAddr, holder: Option<Arc<Holder>>, proven: Arc<AtomicBool>) -> Self {
        Self { from, holder, proven }
    }

    /// Somebody has proven himself over it.
    pub fn proven(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }
}
