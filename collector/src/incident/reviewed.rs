//! The review of an incident that is being sealed: its checks read the very entries that the archive will have.
//!
//! What they find goes into the archive, with the report of it, and never holds it up: so much evidence as would make sealing wait is not looked at
//! (and the review says so), and when a check fails by a defect of ours the archive is sealed without a review.

use std::io::{self, Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use casefile_evidence::archive::layout::{self, IncidentFile};
use casefile_evidence::archive::reader::{EntryInfo, OpenError};
use casefile_proto::coverage::Coverage;
use casefile_proto::item::EntryPath;
use casefile_review::casefile::CaseFile;
use casefile_review::entries::Entries;
use casefile_review::page::documents::Documents;
use casefile_review::report::{self, report_html};
use casefile_review::review::{Review, SEALING_BUDGET};
use casefile_review::signatures::catalogue::catalogue;

use super::entries::{Body, Entry};
use super::recorded::Plain;
use crate::chain::chain;

/// The documents of the review of these entries, each to be added to them. None when the review failed: that is logged, and an
/// archive without a review says so itself.
pub fn reviewed(
    entries: Vec<Entry>,
    incident: IncidentFile,
    coverage: &Coverage,
    scratch: &Path,
) -> (Vec<Entry>, io::Result<Vec<Entry>>) {
    let shared = Arc::new(entries);
    let documents = looked_at(&shared, incident, coverage);
    let made = documents.into_iter().enumerate().map(|(n, (path, bytes))| {
        let body = Body::of(bytes, &scratch.join(format!("review-{n}.chunks")))?;
        Ok(Entry { path, body })
    });
    let made = made.collect();
    // Nobody else holds them any more: the case file is gone, also when its checks failed.
    (Arc::into_inner(shared).unwrap_or_default(), made)
}

fn looked_at(entries: &Arc<Vec<Entry>>, incident: IncidentFile, coverage: &Coverage) -> Vec<(EntryPath, Vec<u8>)> {
    let mut casefile =
        CaseFile { entries: Box::new(Sealing::new(Arc::clone(entries))), incident, coverage: coverage.clone() };
    let look = || {
        let review = Review::of(&mut casefile, &catalogue().signatures, Some(SEALING_BUDGET)).map_err(|e| chain(&e))?;
        let documents = review.documents().map_err(|e| chain(&e))?;
        Ok((documents, Documents::of(review).map_err(|e| chain(&e))?))
    };
    let Some((documents, shown)) = guarded("review", look) else { return Vec::new() };
    let page = || Ok(report_html(&mut casefile, &shown, Some(report::SEALING_BUDGET)));
    let report = guarded("report", page).map(|page| (layout::path(layout::REPORT), page));
    documents.into_iter().chain(report).collect()
}

/// What it makes; `None` when it fails, which is logged.
fn guarded<T>(what: &str, make: impl FnOnce() -> Result<T, String>) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(make)) {
        Ok(Ok(made)) => Some(made),
        Ok(Err(error)) => {
            tracing::warn!(what, error, "the archive is sealed without one of its documents");
            None
        }
        Err(_) => {
            tracing::warn!(what, "the archive is sealed without one of its documents: a defect of ours");
            None
        }
    }
}

/// The entries of an incident before they are an archive.
struct Sealing {
    list: Vec<EntryInfo>,
    entries: Arc<Vec<Entry>>,
}

impl Sealing {
    fn new(entries: Arc<Vec<Entry>>) -> Self {
        let list =
            entries.iter().map(|entry| EntryInfo { path: entry.path.clone(), size: entry.body.size() }).collect();
        Self { list, entries }
    }

    fn position(&self, path: &EntryPath) -> Option<usize> {
        // They are sorted by path, as in the archive.
        self.entries.binary_search_by(|entry| entry.path.cmp(path)).ok()
    }
}

impl Entries for Sealing {
    fn list(&self) -> &[EntryInfo] {
        &self.list
    }

    fn find(&self, path: &EntryPath) -> Option<&EntryInfo> {
        self.position(path).and_then(|at| self.list.get(at))
    }

    fn entry(&mut self, path: &EntryPath) -> Result<Box<dyn Read + '_>, OpenError> {
        let entry = self.position(path).and_then(|at| self.entries.get(at));
        let entry = entry.ok_or_else(|| OpenError::NoEntry(path.to_string()))?;
        if let Body::Bytes(bytes) = &entry.body {
            return Ok(Box::new(Cursor::new(bytes)));
        }
        let failed = |source| OpenError::Io { path: path.as_str().into(), source };
        let (_, chunks) = entry.body.chunks().map_err(failed)?;
        Ok(Box::new(Plain::new(chunks)))
    }
}
