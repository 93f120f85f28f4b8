//! The key with which all agents replace secrets: one file, made at the first start, replaced by a new random key after
//! some days. Agents get it in their welcome, and again when it changes.
//!
//! With the key one can try out which secret a token stands for. So an old key is not kept: what was masked with it can
//! be compared, and never be guessed at again. Tokens of two keys cannot be compared; the coverage names the key's id.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use casefile_proto::item::Digest;
use casefile_proto::session::RedactionKey;
use casefile_proto::time::WallTime;
use serde::{Deserialize, Serialize};

use crate::data::hint;

/// How long one key is used when nothing is said.
pub const DEFAULT_LIFE: Duration = Duration::from_hours(30 * 24);

/// How often it is looked whether the key is old.
pub const LOOK_EVERY: Duration = Duration::from_mins(10);

/// The file is one short line of JSON.
const MAX_FILE: u64 = 4 << 10;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum RedactionKeyError {
    /// The file system said no.
    #[error("{doing} {path}{}", hint(source))]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The file holds no key. Its content is not quoted.
    #[error("{path} holds no redaction key: remove it, and a new one is made")]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    /// Of 32 bytes, too, and so written in the same way: 64 hexadecimal digits.
    key: Digest,
    made_at: WallTime,
}

/// A key and since when it is used.
#[derive(Debug, Clone)]
pub struct Issued {
    path: PathBuf,
    key: RedactionKey,
    made_at: WallTime,
}

impl Issued {
    /// The key of this file; a new one where there is none.
    pub fn load_or_make(path: &Path, now: WallTime) -> Result<Self, RedactionKeyError> {
        let failed = |doing| move |source| RedactionKeyError::Io { doing, path: path.to_owned(), source };
        let mut text = String::new();
        match File::open(path) {
            Ok(file) => file.take(MAX_FILE).read_to_string(&mut text).map_err(failed("read"))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Self::make(path, now),
            Err(e) => return Err(failed("read")(e)),
        };
        let malformed = |_| RedactionKeyError::Malformed { path: path.to_owned() };
        let stored: Stored = serde_json::from_str(&text).map_err(malformed)?;
        Ok(Self { path: path.to_owned(), key: RedactionKey(stored.key.0), made_at: stored.made_at })
    }

    /// The key.
    pub const fn key(&self) -> &RedactionKey {
        &self.key
    }

    /// Another key when this one has been used for its life; `None`: not yet. A clock that was set back makes no key old.
    pub fn renewed(&self, now: WallTime, life: Duration) -> Option<Result<Self, RedactionKeyError>> {
        (now >= self.made_at.after(life)).then(|| Self::make(&self.path, now))
    }

    /// Makes a key, and says so only when it is on disk: agents must not get one that the next start does not know.
    fn make(path: &Path, now: WallTime) -> Result<Self, RedactionKeyError> {
        let failed = |doing| move |source| RedactionKeyError::Io { doing, path: path.to_owned(), source };
        let key = casefile_identity::random().map_err(failed("make a key for"))?;
        let stored = Stored { key: Digest(key), made_at: now };
        let text = serde_json::to_string(&stored).map_err(io::Error::other).map_err(failed("write"))?;
        let text = format!("{text}\n");
        casefile_identity::file::write_private(path, text.as_bytes()).map_err(failed("write"))?;
        Ok(Self { path: path.to_owned(), key: RedactionKey(key), made_at: now })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn at(day: u64) -> WallTime {
        WallTime::from_secs(1_795_000_000).after(Duration::from_hours(24 * day))
    }

    #[test]
    fn a_key_is_made_once_and_found_again_and_is_ours_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("redaction.json");
        let made = Issued::load_or_make(&path, at(0)).unwrap();
        assert_eq!(Issued::load_or_make(&path, at(9)).unwrap().key(), made.key());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!format!("{made:?}").contains(&Digest(made.key().0).to_string()));
    }

    #[test]
    fn a_key_is_replaced_when_it_is_old_and_the_old_one_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("redaction.json");
        let made = Issued::load_or_make(&path, at(1)).unwrap();
        assert!(made.renewed(at(30), DEFAULT_LIFE).is_none() && made.renewed(at(0), DEFAULT_LIFE).is_none());
        let next = made.renewed(at(31), DEFAULT_LIFE).unwrap().unwrap();
        assert_ne!(next.key(), made.key());
        assert_eq!(Issued::load_or_make(&path, at(32)).unwrap().key(), next.key());
        for file in fs::read_dir(dir.path()).unwrap() {
            let bytes = fs::read(file.unwrap().path()).unwrap();
            assert!(!String::from_utf8_lossy(&bytes).contains(&Digest(made.key().0).to_string()));
        }
    }

    #[test]
    fn a_key_that_cannot_be_written_is_not_given_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("redaction.json");
        let made = Issued::load_or_make(&path, at(0)).unwrap();
        fs::create_dir(path.with_extension("new")).unwrap();
        assert!(made.renewed(at(40), DEFAULT_LIFE).unwrap().is_err());
        assert_eq!(Issued::load_or_make(&path, at(41)).unwrap().key(), made.key());
    }

    #[test]
    fn a_file_that_holds_no_key_is_refused_and_not_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("redaction.json");
        for text in ["", "{}", "root:$6$secret", "{\"key\":\"zz\",\"made_at\":\"2026-11-23T00:00:00Z\"}"] {
            fs::write(&path, text).unwrap();
            let error = Issued::load_or_make(&path, at(0)).unwrap_err().to_string();
            assert!(error.contains("holds no redaction key") && !error.contains("secret"), "{error}");
        }
    }
}
