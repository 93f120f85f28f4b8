//! One line of the audit log: what it says, how it is chained to the line before, how it is written and read.

use std::fmt;
use std::str::FromStr;

use casefile_proto::item::Digest;
use casefile_proto::time::WallTime;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// What somebody did, or tried to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Opened an incident.
    OpenIncident,
    /// Fetched an archive.
    DownloadArchive,
    /// Read an entry of an archive, or a part of it.
    ReadEntry,
    /// Looked at an archive on the page; once for each who does.
    ReviewArchive,
    /// Had nodes test whether they reach a target; denied: one that the configuration does not list.
    TestConnectivity,
    /// Copied an archive to the archive store; told before it leaves.
    CopyArchive,
    /// Removed an archive from the collector's disk whose copy is in the archive store.
    RemoveArchive,
    /// Made a token.
    CreateToken,
    /// Revoked a token.
    RevokeToken,
    /// Revoked the certificates of a node.
    RevokeNode,
    /// Joined with a token, and got a certificate.
    Enrol,
    /// Claimed to be another node than its certificate says.
    ClaimNode,
    /// Took the place of a session of the same node in another boot that was alive.
    ReplaceSession,
    /// Deleted a resource whose incident goes on.
    DeleteResource,
    /// Used something else that it may not.
    Call,
}

impl Verb {
    /// As it is written.
    pub const fn word(self) -> &'static str {
        match self {
            Self::OpenIncident => "open-incident",
            Self::DownloadArchive => "download-archive",
            Self::ReadEntry => "read-entry",
            Self::ReviewArchive => "review-archive",
            Self::TestConnectivity => "test-connectivity",
            Self::CopyArchive => "copy-archive",
            Self::RemoveArchive => "remove-archive",
            Self::CreateToken => "create-token",
            Self::RevokeToken => "revoke-token",
            Self::RevokeNode => "revoke-node",
            Self::Enrol => "enrol",
            Self::ClaimNode => "claim-node",
            Self::ReplaceSession => "replace-session",
            Self::DeleteResource => "delete-resource",
            Self::Call => "call",
        }
    }
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It may, and it was begun.
    Granted,
    /// It may not.
    Denied,
    /// It happened, and somebody should know.
    Noticed,
}

impl Outcome {
    /// As it is written.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Denied => "denied",
            Self::Noticed => "noticed",
        }
    }
}

/// What is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Who, as it was proven: `kim`, `node web-1`, `nobody`.
    pub who: String,
    /// From which address.
    pub from: String,
    /// What.
    pub verb: Verb,
    /// Of what: an incident, a token, a node, a route.
    pub what: String,
    /// How it went.
    pub outcome: Outcome,
    /// How often since the last line that says the same; only a denial is told in sums.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub times: u64,
}

const fn once() -> u64 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_once(times: &u64) -> bool {
    *times == 1
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Counts from 1.
    pub number: u64,
    /// When, on the collector's clock.
    pub at: WallTime,
    /// What is recorded.
    #[serde(flatten)]
    pub entry: Entry,
    /// The hash of the line before; of the first one: zeros.
    pub before: Digest,
    /// SHA-256 of this line without this field.
    pub hash: Digest,
}

/// The line as it is hashed.
#[derive(Serialize)]
struct Hashed<'a> {
    number: u64,
    at: WallTime,
    #[serde(flatten)]
    entry: &'a Entry,
    before: &'a Digest,
}

impl Line {
    /// The line after the one with this number and hash.
    pub(super) fn next(last: u64, head: Digest, at: WallTime, entry: Entry) -> Self {
        let (number, before) = (last + 1, head);
        let hash = hash(&Hashed { number, at, entry: &entry, before: &before });
        Self { number, at, entry, before, hash }
    }

    /// Whether it is the line after that one, and as it was written.
    pub(super) fn follows(&self, last: u64, head: Digest) -> bool {
        let Self { number, at, entry, before, hash: claimed } = self;
        *number == last + 1 && *before == head && *claimed == hash(&Hashed { number: *number, at: *at, entry, before })
    }
}

fn hash(line: &Hashed<'_>) -> Digest {
    // Numbers, texts and closed lists: there is nothing in it that JSON cannot say.
    let text = serde_json::to_vec(line).unwrap_or_else(|e| unreachable!("{e}"));
    Digest(Sha256::digest(text).into())
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).unwrap_or_else(|e| unreachable!("{e}")))
    }
}

impl FromStr for Line {
    type Err = serde_json::Error;
    fn from_str(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}
