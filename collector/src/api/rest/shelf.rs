//! Case files that are open because somebody looks at them: a few, the one that was used longest ago goes. Calls block.
//!
//! An archive never changes, so an open one stays right; it is known by the digest of its bytes.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use casefile_proto::incident::SealedArchive;
use casefile_proto::item::Digest;
use casefile_review::casefile::{CaseFile, CaseFileError};

/// Case files that are open at a time: each holds its index and its coverage in memory.
const OPEN: usize = 4;

/// People and archives of which it is remembered that one looked at the other.
const REMEMBERED: usize = 1_000;

/// A case file that several answers may want; they take turns.
pub(super) type Shared = Arc<Mutex<CaseFile>>;

/// The open case files.
#[derive(Default)]
pub(super) struct Shelf {
    /// The one that was used last stands last.
    open: Mutex<VecDeque<(Digest, Shared)>>,
    /// Who looks at which: told the audit log once, not with each of the hundred questions that a page asks.
    looking: Mutex<VecDeque<(String, Digest)>>,
}

impl Shelf {
    /// The case file of this archive.
    pub(super) fn take(&self, archive: &SealedArchive, path: &Path) -> Result<Shared, CaseFileError> {
        if let Some(case) = self.find(archive.sha256) {
            return Ok(case);
        }
        // Opened outside of the lock: two who come at once open it twice, and one of them is kept.
        let opened = Arc::new(Mutex::new(CaseFile::open(path)?));
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(known, _)| *known != archive.sha256);
        while open.len() >= OPEN {
            open.pop_front();
        }
        open.push_back((archive.sha256, Arc::clone(&opened)));
        Ok(opened)
    }

    fn find(&self, sha256: Digest) -> Option<Shared> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let at = open.iter().position(|(known, _)| *known == sha256)?;
        let found = open.remove(at)?;
        let case = Arc::clone(&found.1);
        open.push_back(found);
        Some(case)
    }

    /// Whether it is remembered that this one looks at this archive.
    pub(super) fn is_looking(&self, who: &str, archive: &SealedArchive) -> bool {
        let looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        looking.iter().any(|(known, of)| known == who && *of == archive.sha256)
    }

    /// Remembers it, now that it is recorded.
    pub(super) fn looks(&self, who: String, archive: &SealedArchive) {
        let mut looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        while looking.len() >= REMEMBERED {
            looking.pop_front();
        }
        looking.push_back((who, archive.sha256));
    }
}
