//! Why an archive is not copied, or not fetched back: a closed list, and words that hold no key and no secret.

use std::fmt;

use casefile_proto::incident::SealedArchive;

use crate::stats::figure::Label;

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection, or no answer in time.
    Unreachable,
    /// There is no access key to show.
    Credentials,
    /// The store refuses the key, or what is asked in its name.
    Refused,
    /// There is no such bucket, or no such object in it.
    NotFound,
    /// Under the name of the archive lie other bytes.
    Differs,
    /// The archive here cannot be read, or is not what was sealed.
    Unreadable,
    /// There is no room here.
    NoRoom,
    /// It cannot be written down: the index or the audit log does not take it.
    Unrecorded,
    /// The store failed, or said something else.
    Other,
}

impl Label for Failure {
    const NAME: &'static str = "reason";
    const ALL: &'static [Self] = &[
        Self::Unreachable,
        Self::Credentials,
        Self::Refused,
        Self::NotFound,
        Self::Differs,
        Self::Unreadable,
        Self::NoRoom,
        Self::Unrecorded,
        Self::Other,
    ];

    fn value(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Credentials => "credentials",
            Self::Refused => "refused",
            Self::NotFound => "not-found",
            Self::Differs => "differs",
            Self::Unreadable => "unreadable",
            Self::NoRoom => "no-room",
            Self::Unrecorded => "unrecorded",
            Self::Other => "other",
        }
    }
}

impl Failure {
    /// Whether it is about one archive, so that the next may fare better.
    pub const fn is_of_one(self) -> bool {
        matches!(self, Self::Differs | Self::Unreadable)
    }
}

/// A failure, with its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// What kind.
    pub kind: Failure,
    /// What happened, for a person.
    pub text: String,
}

impl Failed {
    /// Of this kind, for this reason.
    pub fn new(kind: Failure, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    /// Other bytes lie under the name of this archive.
    pub fn differs(archive: &SealedArchive) -> Self {
        let name = &archive.file_name;
        let text =
            format!("what lies in the store as {name} is something else, and is not overwritten: move it away there");
        Self::new(Failure::Differs, text)
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failed {}
