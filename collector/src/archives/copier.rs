//! One task that copies every sealed archive to the archive store: one after the other, the oldest first, for ever.
//!
//! The index says what is to be done, so a restart goes on where it was. An archive has one name there, under which nothing is
//! ever overwritten; that it is there is noted after it was read back to its end and was what was sealed.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::failure::Failed;
use super::{Archives, Remote, decide, uncopied, unindexed};
use crate::audit::Verb;
use crate::observe::health::Run;
use crate::store::{Sealed, blocking};

/// Time between two looks at what was sealed and at the disk: both are in memory.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the task remembers.
struct Copier {
    archives: Archives,
    remote: Arc<Remote>,
    /// What was sealed when the index was asked last; `None`: it was not yet.
    sealed: Option<u64>,
    /// The store has answered since the start.
    let_in: bool,
    /// Passes that failed, one after the other.
    failures: u32,
    /// When to try again what failed.
    again: Option<Instant>,
    /// Archives of which the audit log was told that they leave, by name of file.
    told: BTreeSet<String>,
}

impl Archives {
    /// Copies, and makes room, until the collector stops. Returns at once where there is no store.
    pub async fn copy(self, mut run: watch::Receiver<Run>) {
        let Some(remote) = self.remote.clone() else { return };
        tokio::select! {
            // Neither ends by itself. Room is made also while something is being copied, which may take long.
            () = self.keep_copying(&remote) => {}
            () = self.keep_room(&remote) => {}
            // What is half copied is begun anew by the next one; nothing was noted of it.
            _ = run.wait_for(|run| matches!(run, Run::Stop)) => {}
        }
    }

    /// Copies whatever is sealed, for ever.
    pub(super) async fn keep_copying(&self, remote: &Arc<Remote>) {
        let mut copier = Copier {
            archives: self.clone(),
            remote: Arc::clone(remote),
            sealed: None,
            let_in: false,
            failures: 0,
            again: None,
            told: BTreeSet::new(),
        };
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            copier.look().await;
        }
    }
}

impl Copier {
    async fn look(&mut self) {
        let sealed = self.remote.parts.stats.sealed.get();
        if self.again.map_or(self.sealed != Some(sealed), |again| Instant::now() >= again) {
            let first = self.pass().await;
            self.judge(first);
            self.sealed = Some(sealed);
        }
    }

    /// Copies what is not copied. Gives the first failure; those of one archive do not keep the others back.
    async fn pass(&mut self) -> Option<Failed> {
        let left = match self.uncopied().await {
            Ok(left) => left,
            Err(failed) => return Some(failed),
        };
        if !self.let_in {
            // Also when there is nothing to copy: whoever has just written the configuration looks at the log now.
            if let Err(failed) = self.remote.bucket.knock().await {
                self.remote.parts.stats.copy_failures.of(failed.kind).one();
                return Some(failed);
            }
            self.let_in = true;
            tracing::info!(store = self.remote.name, waiting = left.len(), "the archive store lets us in");
        }
        let mut first = None;
        for sealed in left {
            let Err(failed) = self.copy(&sealed).await else { continue };
            let Sealed { incident, archive, .. } = sealed;
            self.remote.parts.stats.copy_failures.of(failed.kind).one();
            tracing::debug!(%incident, file = archive.file_name, reason = failed.text, "not copied");
            let goes_on = failed.kind.is_of_one();
            first.get_or_insert(Failed { text: format!("{}: {}", archive.file_name, failed.text), ..failed });
            if !goes_on {
                break;
            }
        }
        first
    }

    async fn uncopied(&self) -> Result<Vec<Sealed>, Failed> {
        let (name, data) = (self.remote.name.clone(), Arc::clone(&self.archives.data));
        let all = blocking(&self.archives.index, move |index| uncopied(index, &data, &name)).await;
        all.map_err(|e| unindexed(&e))
    }

    async fn copy(&mut self, sealed: &Sealed) -> Result<(), Failed> {
        let Sealed { incident, archive, .. } = sealed;
        let bucket = &self.remote.bucket;
        if !self.told.contains(&archive.file_name) {
            self.remote.record(Verb::CopyArchive, *incident, archive).await?;
            self.told.insert(archive.file_name.clone());
        }
        match bucket.size(archive).await? {
            None => bucket.put(archive, &self.archives.file(archive)).await?,
            Some(size) if size == archive.size => {}
            Some(_) => return Err(Failed::differs(archive)),
        }
        if bucket.read(archive, None).await? != archive.sha256 {
            return Err(Failed::differs(archive));
        }
        let (incident, revision, name) = (*incident, archive.revision, self.remote.name.clone());
        let noted = blocking(&self.archives.index, move |index| index.copied(incident, revision, &name)).await;
        noted.map_err(|e| unindexed(&e))?;
        self.told.remove(&archive.file_name);
        let stats = &self.remote.parts.stats;
        stats.archives_copied.one();
        stats.archives_copied_bytes.add(archive.size);
        tracing::info!(%incident, file = archive.file_name, size = archive.size, revision, "archive copied to the archive store, read back there and found whole");
        Ok(())
    }

    /// Says it once when copying begins to fail, and once when it is well again.
    fn judge(&mut self, first: Option<Failed>) {
        match first {
            None => {
                if self.failures > 0 {
                    tracing::info!(store = self.remote.name, "every archive is in the archive store again");
                }
                (self.failures, self.again) = (0, None);
            }
            Some(failed) => {
                if self.failures == 0 {
                    tracing::warn!(
                        store = self.remote.name,
                        reason = failed.text,
                        "archives cannot be copied to the archive store: they stay here, and it is tried again"
                    );
                }
                self.failures = self.failures.saturating_add(1);
                self.again = Some(Instant::now() + decide::wait(self.failures, dice()));
            }
        }
    }
}

/// A number that differs from call to call; nothing secret rests on it.
fn dice() -> u64 {
    RandomState::new().build_hasher().finish()
}
