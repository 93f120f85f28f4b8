//! Room on the disk of the collector: an archive whose copy is in the store, and that no amendment needs, may go from here.
//!
//! Only when room is wanted, the oldest first, and each only after the store has said once more that it has it.

use std::fs;
use std::io;

use std::time::Duration;

use casefile_proto::units::Bytes;

use super::copier::LOOK_EVERY;
use super::failure::{Failed, Failure};
use super::{Archives, Remote, decide, is_here, size, unindexed};
use crate::audit::Verb;
use crate::store::{Sealed, blocking};

/// Time before room is looked for again after too little was found, or none could be made.
const FREE_AGAIN: Duration = Duration::from_mins(1);

impl Archives {
    /// Makes room whenever the disk is nearly as full as it may be, for ever.
    pub(super) async fn keep_room(&self, remote: &Remote) {
        loop {
            let look = remote.parts.space.last_look();
            let wait = match look.and_then(|(look, _)| decide::wanted(&look.disk)) {
                None => LOOK_EVERY,
                Some(wanted) => match self.free(remote, wanted).await {
                    Ok(made) if made >= wanted => LOOK_EVERY,
                    Ok(_) => FREE_AGAIN,
                    Err(failed) => {
                        remote.parts.stats.copy_failures.of(failed.kind).one();
                        let reason = failed.text;
                        tracing::warn!(reason, "no room could be made of archives that are in the archive store");
                        FREE_AGAIN
                    }
                },
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Removes archives from here until so much is free, or no more may go. Says how much that made.
    pub(super) async fn free(&self, remote: &Remote, wanted: Bytes) -> Result<Bytes, Failed> {
        let _alone = remote.freeing.lock().await;
        let (name, data) = (remote.name.clone(), std::sync::Arc::clone(&self.data));
        let spare = blocking(&self.index, move |index| {
            Ok(index.spare(&name)?.into_iter().filter(|sealed| is_here(&data, &sealed.archive)).collect::<Vec<_>>())
        });
        let mut made = Bytes(0);
        for sealed in spare.await.map_err(|e| unindexed(&e))? {
            if made >= wanted {
                break;
            }
            if self.remove(remote, &sealed).await? {
                made = Bytes(made.0.saturating_add(size(&sealed.archive).0));
            }
        }
        Ok(made)
    }

    /// Removes one from here, if the store still has it and nobody is about to read it here. Says whether.
    async fn remove(&self, remote: &Remote, sealed: &Sealed) -> Result<bool, Failed> {
        let Sealed { incident, archive, .. } = sealed;
        if remote.bucket.size(archive).await? != Some(archive.size) {
            tracing::error!(%incident, file = archive.file_name, "the archive store lost a copy: it stays here, and is copied again");
            let (incident, revision) = (*incident, archive.revision);
            let forgotten = blocking(&self.index, move |index| index.copy_lost(incident, revision)).await;
            forgotten.map_err(|e| unindexed(&e))?;
            return Ok(false);
        }
        // Whoever opens one now reads it to its end, also after it has gone from its directory.
        let Ok(_turn) = remote.fetches.opening.try_write() else { return Ok(false) };
        remote.record(Verb::RemoveArchive, *incident, archive).await?;
        let path = self.file(archive);
        let removed = tokio::task::spawn_blocking(move || fs::remove_file(path)).await.map_err(io::Error::other);
        if let Err(error) = removed.and_then(|removed| removed) {
            return Err(Failed::new(Failure::Other, format!("it cannot be removed here: {error}")));
        }
        remote.parts.stats.archives_removed.one();
        tracing::info!(%incident, file = archive.file_name, size = archive.size, "an archive is in the archive store alone now: its room here was wanted");
        Ok(true)
    }
}
