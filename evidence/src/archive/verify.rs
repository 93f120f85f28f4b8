//! What verification found: every problem, not the first.
//!
//! Two questions, asked apart. Is every byte of the file as it was written, and if not, in which entry (`bytes` by the
//! index, `walked` without it)? And do the digests, manifests and signature agree with the content ([`bag`])? The second
//! believes nothing that the index says.

mod bag;
mod bytes;
mod walked;

use casefile_proto::item::{Digest, EntryPath};
use serde::Serialize;

use super::layout::DATA;
use super::reader::{Archive, Form};
use super::sign::AllowedSigners;

/// What is true of the signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum SignatureState {
    /// Made by a key that the verifier believes.
    Good {
        /// The key.
        fingerprint: String,
    },
    /// A right signature, by a key that the verifier was not told to believe.
    UnknownKey {
        /// The key.
        fingerprint: String,
    },
    /// There is none.
    Unsigned,
    /// It does not match, or is none of ours.
    Broken {
        /// What is wrong.
        why: String,
    },
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The entry, `casefile-index` among them; `None` for the file as a whole (its header, its end).
    pub entry: Option<String>,
    /// What is wrong with it.
    pub what: String,
}

/// The whole answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Everything that is wrong; empty: intact.
    pub problems: Vec<Problem>,
    /// The signature. A broken one is among the problems too; an unknown key or none at all is for the caller to judge.
    pub signature: SignatureState,
    /// Entries that were read.
    pub entries: u64,
    /// Plain bytes that were hashed.
    pub bytes: u64,
}

impl Verification {
    /// Whether nothing is wrong. Says nothing of who signed.
    pub fn is_intact(&self) -> bool {
        self.problems.is_empty()
    }
}

impl Archive {
    /// Verifies everything: reads the whole file once, and inflates and hashes all content. Any changed, missing or
    /// added byte is a problem, whether or not an ordinary tool would see it.
    pub fn verify(&mut self, signers: &AllowedSigners) -> Verification {
        let mut problems = Problems::default();
        let contents = match &self.form {
            Form::Indexed(indexed) => bytes::check(&self.file, indexed, &mut problems),
            Form::Walked(walked) => walked::check(&self.file, self.limits, walked, &mut problems),
        };
        let signature = bag::check(&contents, signers, &mut problems);
        Verification {
            problems: problems.0,
            signature,
            entries: contents.entries.iter().filter(|e| e.sha256.is_some()).count() as u64,
            bytes: contents.bytes,
        }
    }
}

/// What has been found so far.
#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn of(&mut self, entry: &str, what: impl Into<String>) {
        self.0.push(Problem { entry: Some(entry.to_owned()), what: what.into() });
    }

    fn of_file(&mut self, what: impl Into<String>) {
        self.0.push(Problem { entry: None, what: what.into() });
    }
}

/// The largest tag file that is held in memory: the manifest of a million entries.
const MAX_TAG_FILE: u64 = 256 << 20;

/// What the content is, as it was read.
struct Contents {
    entries: Vec<Content>,
    /// Plain bytes that were hashed.
    bytes: u64,
    /// Whether the end of the archive was reached: what was not seen is missing then.
    complete: bool,
}

/// One entry.
struct Content {
    path: EntryPath,
    size: u64,
    /// `None` when it could not be read whole: that is a problem already.
    sha256: Option<Digest>,
    /// The content of a tag file that was read whole; empty for payload.
    text: Vec<u8>,
}

impl Contents {
    fn new() -> Self {
        Self { entries: Vec::new(), bytes: 0, complete: true }
    }

    fn payload(&self) -> impl Iterator<Item = &Content> {
        self.entries.iter().filter(|e| !is_tag(&e.path))
    }

    fn find(&self, name: &str) -> Option<&Content> {
        self.entries.iter().find(|e| e.path.as_str() == name)
    }
}

fn is_tag(path: &EntryPath) -> bool {
    !path.as_str().starts_with(DATA)
}
