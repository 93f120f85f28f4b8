//! Room on the disk of the collector: an archive whose copy is in the store, and that no amendment needs, may go from here.
//!
//! Only when room is wanted, the oldest first, and each only after the store has said once more that it has it.

use std::fs;
use std::io;

use casefile_proto::units::Bytes;

use super::failure::{Failed, Failure};
use super::{Archives, Remote, decide, is_here, size, unindexed};
use crate::audit::Verb;
use crate::store::{Sealed, blocking};

impl Archives {
    /// Makes room if the disk is nearly as full as it may be. Says whether more is wanted than could be made.
    pub(super) async fn make_room(&self, remote: &Remote) -> Result<bool, Failed> {
        let look = remote.parts.space.last_look();
        match look.and_then(|(look, _)| decide::wanted(&look.disk)) {
            Some(wanted) => Ok(self.free(remote, wanted).await? < wanted),
            None => Ok(false),
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
