//! Sealed archives: where each is kept, with the collector or in an archive store, and how it comes to be read.
//!
//! Sealing knows nothing of this: an archive is written and synced here, whatever the store does. [`copier`] takes it there
//! afterwards, [`fetch`] brings back what is there alone, [`room`] makes room of what is in both places.

mod bucket;
pub mod config;
mod copier;
mod decide;
mod failure;
mod fetch;
mod room;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use casefile_proto::ids::IncidentId;
use casefile_proto::incident::{IncidentSummary, SealedArchive, Whereabouts};
use casefile_proto::time::WallTime;
use casefile_proto::units::Bytes;

use crate::audit::{Audit, Entry, Outcome, Verb};
use crate::chain::chain;
use crate::data::DataDir;
use crate::space::Space;
use crate::stats::Stats;
use crate::store::{Copy, Sealed, Store, StoreError, blocking};
use bucket::Bucket;
pub use bucket::BucketError;
use config::StoreConfig;
pub use failure::{Failed, Failure};
use fetch::Fetches;
pub use fetch::{Here, NotHere};

/// Who copies and removes, as the audit log says it.
const WHO: &str = "the collector";

/// The archives of a collector. Cheap to clone.
#[derive(Clone)]
pub struct Archives {
    data: Arc<DataDir>,
    index: Arc<dyn Store>,
    /// Where copies go; `None`: nowhere.
    remote: Option<Arc<Remote>>,
}

/// What copying works with, besides the index and the files.
pub struct Parts {
    /// The disk, which may be full.
    pub space: Space,
    /// Counts.
    pub stats: Arc<Stats>,
    /// Is told before a copy leaves and before a file goes.
    pub audit: Arc<Audit>,
}

/// An archive store that is spoken to.
struct Remote {
    bucket: Bucket,
    name: String,
    parts: Parts,
    fetches: Fetches,
    /// One makes room at a time.
    freeing: tokio::sync::Mutex<()>,
}

/// What is not in the store yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting {
    /// As many archives.
    pub count: u64,
    /// Of so many bytes.
    pub bytes: u64,
    /// When the oldest of them was sealed; `None`: there is none.
    pub oldest: Option<WallTime>,
}

impl Archives {
    /// Those that lie in this directory, and nowhere else as far as this collector can do anything about it.
    pub fn local(data: Arc<DataDir>, index: Arc<dyn Store>) -> Self {
        Self { data, index, remote: None }
    }

    /// The same, with copies in this store. Speaks to nobody yet. Blocks.
    pub fn with_store(self, config: &StoreConfig, parts: Parts) -> Result<Self, BucketError> {
        Ok(self.with_bucket(Bucket::open(config)?, config.name(), parts))
    }

    fn with_bucket(self, bucket: Bucket, name: String, parts: Parts) -> Self {
        let remote =
            Remote { bucket, name, parts, fetches: Fetches::default(), freeing: tokio::sync::Mutex::default() };
        Self { remote: Some(Arc::new(remote)), ..self }
    }

    /// What is not in the store yet; `None`: there is no store. Blocks.
    pub fn waiting(&self) -> Result<Option<Waiting>, StoreError> {
        let Some(remote) = &self.remote else { return Ok(None) };
        let uncopied = uncopied(&*self.index, &self.data, &remote.name)?;
        Ok(Some(sum(uncopied.iter().map(|sealed| &sealed.archive))))
    }

    /// Says of the archives of these incidents where they are kept.
    pub async fn place(&self, mut incidents: Vec<IncidentSummary>) -> Result<Vec<IncidentSummary>, StoreError> {
        let data = Arc::clone(&self.data);
        blocking(&self.index, move |index| {
            for incident in &mut incidents {
                if incident.archive.is_none() {
                    continue;
                }
                let copies = index.copies(incident.id)?;
                for archive in incident.earlier.iter_mut().chain(&mut incident.archive) {
                    archive.kept = Some(whereabouts(&data, archive, &copies));
                }
            }
            Ok(incidents)
        })
        .await
    }

    fn file(&self, archive: &SealedArchive) -> PathBuf {
        file(&self.data, archive)
    }
}

impl Remote {
    /// Writes into the audit log what is about to be done. What cannot be recorded is not done.
    async fn record(&self, verb: Verb, incident: IncidentId, archive: &SealedArchive) -> Result<(), Failed> {
        let what = format!("{incident} {} {}", archive.file_name, self.name);
        let (who, from) = (WHO.to_owned(), "here".to_owned());
        let entry = Entry { who, from, verb, what, outcome: Outcome::Granted, times: 1 };
        let recorded = self.parts.audit.recorded(entry).await;
        recorded.map_err(|e| Failed::new(Failure::Unrecorded, format!("it cannot be recorded: {}", chain(&e))))
    }
}

fn unindexed(error: &StoreError) -> Failed {
    Failed::new(Failure::Unrecorded, format!("the index did not answer: {}", chain(error)))
}

fn file(data: &DataDir, archive: &SealedArchive) -> PathBuf {
    data.archives().join(&archive.file_name)
}

/// Whether the file lies here. One that cannot be looked at does: what is wrong with it is said by whoever reads it.
fn is_here(data: &DataDir, archive: &SealedArchive) -> bool {
    !matches!(file(data, archive).symlink_metadata(), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

fn whereabouts(data: &DataDir, archive: &SealedArchive, copies: &[Copy]) -> Whereabouts {
    let copied = copies.iter().any(|copy| copy.revision == archive.revision);
    match (is_here(data, archive), copied) {
        (true, false) => Whereabouts::Here,
        (true, true) => Whereabouts::HereAndStore,
        (false, true) => Whereabouts::Store,
        (false, false) => Whereabouts::Missing,
    }
}

/// What there is to copy to this store, oldest first. What is in another store alone cannot be.
fn uncopied(index: &dyn Store, data: &DataDir, store: &str) -> Result<Vec<Sealed>, StoreError> {
    let mut all = index.uncopied(store)?;
    all.retain(|sealed| sealed.store.is_none() || is_here(data, &sealed.archive));
    Ok(all)
}

/// The sum of what waits.
fn sum<'a>(archives: impl Iterator<Item = &'a SealedArchive>) -> Waiting {
    archives.fold(Waiting::default(), |sum, archive| Waiting {
        count: sum.count + 1,
        bytes: sum.bytes.saturating_add(archive.size),
        oldest: Some(sum.oldest.map_or(archive.sealed_at, |oldest| oldest.min(archive.sealed_at))),
    })
}

/// The size of an archive, as the disk counts.
const fn size(archive: &SealedArchive) -> Bytes {
    Bytes(archive.size)
}

#[cfg(test)]
#[path = "archives/tests.rs"]
mod tests;
