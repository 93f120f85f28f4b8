//! One signature: in which log and by which records it is recognised, what they mean, and whose opinion that is.
//!
//! Data alone. Files of them are read and checked in `pack.rs`; what recognises is in `recogniser.rs`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

use super::catalogue::{Source, Weight};
use super::logged::Stream;
use super::xid::{NvidiaKind, NvidiaLine};

/// One signature.
#[derive(Debug)]
pub struct Signature {
    /// Its id: lower case, stable, `domain.subject.slug`.
    pub id: String,
    /// What it is, in a few words.
    pub title: String,
    /// In which logs its records stand.
    pub logs: Vec<Log>,
    /// Which records of NVIDIA's driver it is about.
    pub(super) driver: Driver,
    /// The regular expressions of all other records, in the order in which they are tried.
    pub(super) patterns: Vec<String>,
    /// What it means; `None` where a code says so.
    pub meaning: Option<String>,
    /// What to do at once, likewise.
    pub now: Option<String>,
    /// When it is over, in words.
    pub over_when: Option<String>,
    /// Ids of the signatures whose records say that it is over.
    pub recovers_with: Vec<String>,
    /// How bad it is, and to whom; where a code says so, none.
    pub opinions: Vec<Judgement>,
    /// Names under which others know it, with whose name it is: `OOMKilling (node-problem-detector)`.
    pub aliases: Vec<String>,
    /// What else to look at.
    pub look_at: Vec<String>,
    /// Ids of signatures that often stand beside it.
    pub see_also: Vec<String>,
    /// What it does not prove.
    pub not_proof: Vec<String>,
    /// Records that it must recognise.
    pub(super) positive: Vec<Sample>,
    /// Records that it must not.
    pub(super) negative: Vec<Negative>,
}

/// What somebody says of a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Who, as of when, and where it was read.
    pub by: Source,
    /// How bad it is to them.
    pub weight: Weight,
    /// What they say and do, where that is more than a word.
    pub says: Option<String>,
}

/// A log in which records of a signature stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Log {
    /// The kernel's: `kernel`.
    Kernel,
    /// The journal's, of this unit or program: `journal:kubelet`.
    Journal(String),
    /// The cluster's events: `k8s`.
    Kubernetes,
}

impl Log {
    /// `kernel`, `k8s` or `journal:NAME`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None if text == "kernel" => Some(Self::Kernel),
            None if text == "k8s" => Some(Self::Kubernetes),
            Some(("journal", name)) if !name.is_empty() && !name.contains(char::is_whitespace) => {
                Some(Self::Journal(name.to_owned()))
            }
            _ => None,
        }
    }

    /// Whether a line of this stream may be one of this log. A line that does not say where it is from may be of any.
    pub(super) fn holds(&self, stream: Stream<'_>) -> bool {
        match (self, stream) {
            (_, Stream::Unknown) | (Self::Kernel, Stream::Kernel) | (Self::Kubernetes, Stream::Kubernetes) => true,
            (Self::Journal(name), Stream::Journal(of)) => name == of || of.strip_suffix(".service") == Some(name),
            _ => false,
        }
    }

    /// The stream of a line of this log.
    pub(super) fn stream(&self) -> Stream<'_> {
        match self {
            Self::Kernel => Stream::Kernel,
            Self::Journal(name) => Stream::Journal(name),
            Self::Kubernetes => Stream::Kubernetes,
        }
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel => f.write_str("kernel"),
            Self::Journal(name) => write!(f, "journal:{name}"),
            Self::Kubernetes => f.write_str("k8s"),
        }
    }
}

impl Serialize for Log {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A record that must be recognised.
#[derive(Debug)]
pub(super) struct Sample {
    /// Its text.
    pub(super) line: String,
    /// Its parts, all of them; `None`: whatever they are.
    pub(super) parts: Option<BTreeMap<String, String>>,
}

/// A record that must not be recognised as this signature.
#[derive(Debug)]
pub(super) struct Negative {
    /// Its text.
    pub(super) line: String,
    /// The id of what it is instead; `None`: nothing that is known.
    pub(super) is: Option<String>,
}

/// What a record of the driver is when it has no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Event {
    FallenOffBus,
    ApiMismatch,
}

/// Which records of NVIDIA's driver a signature is about: they are read by `xid.rs`, not by regular expressions.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Driver {
    /// Xids with these numbers.
    pub(super) xids: Vec<u32>,
    /// Every Xid.
    pub(super) any_xid: bool,
    /// Every SXid.
    pub(super) sxid: bool,
    /// A record without a number.
    pub(super) event: Option<Event>,
}

impl Signature {
    /// Whether a record of the driver is one of this signature.
    pub fn is_of(&self, line: &NvidiaLine<'_>) -> bool {
        match line.kind {
            NvidiaKind::Xid { code, .. } => self.is_of_xid(code),
            NvidiaKind::SXid { .. } => self.driver.sxid,
            NvidiaKind::FallenOffBus => self.driver.event == Some(Event::FallenOffBus),
            NvidiaKind::ApiMismatch { .. } => self.driver.event == Some(Event::ApiMismatch),
        }
    }

    /// Whether an Xid of this code is one of this signature.
    pub fn is_of_xid(&self, code: u32) -> bool {
        self.driver.any_xid || self.driver.xids.contains(&code)
    }

    /// Whether it is every SXid.
    pub fn is_of_sxid(&self) -> bool {
        self.driver.sxid
    }

    /// Whether numbers say what it means: then it has no meaning, advice and opinions of its own.
    pub(super) fn is_numbered(&self) -> bool {
        self.driver.any_xid || self.driver.sxid || !self.driver.xids.is_empty()
    }
}
