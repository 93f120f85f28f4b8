//! An archive for reading: the file here, which is fetched back from the archive store when it is not.
//!
//! Fetched as a whole and held against its digest, so that every way of reading stays the one that there is. Each is fetched
//! once however many want it, and goes on when nobody waits any more: the next one finds it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use casefile_proto::ids::IncidentId;
use casefile_proto::incident::SealedArchive;
use tokio::fs::OpenOptions;
use tokio::sync::{OwnedRwLockReadGuard, RwLock, watch};
use tokio::time::timeout;

use super::failure::{Failed, Failure};
use super::{Archives, Remote, is_here, size};
use crate::data::PARTIAL;
use crate::space::level::can_reserve;
use crate::store::{StoreError, blocking};

/// Archives that are fetched at a time; each needs a connection, and room for a whole archive.
const FETCHES: usize = 4;

/// How often an archive is fetched for one who wants it: it may go again in between, where room is short.
const TRIES: usize = 3;

/// How a fetch ended; `None`: it goes on.
type Ended = Option<Result<(), Failed>>;

/// What is being fetched.
#[derive(Default)]
pub(super) struct Fetches {
    /// By name of file.
    going_on: Mutex<BTreeMap<String, watch::Receiver<Ended>>>,
    /// Held to read by whoever is about to open a file; to remove one it takes all of it.
    pub(super) opening: Arc<RwLock<()>>,
}

/// An archive that can be opened here, and stays here as long as this lives.
#[derive(Debug)]
pub struct Here {
    path: PathBuf,
    _turn: Option<OwnedRwLockReadGuard<()>>,
}

impl Here {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Why an archive cannot be read here now. It is not lost.
#[derive(Debug, thiserror::Error)]
pub enum NotHere {
    /// It is on its way.
    #[error("it is being fetched from the archive store: ask again in a moment")]
    Fetching,
    /// Too many others are.
    #[error("too many others are being fetched from the archive store: ask again in a moment")]
    TooMany,
    /// It could not be fetched.
    #[error("it is in the archive store, and could not be fetched: {0}")]
    Failed(#[from] Failed),
    /// The configuration does not name the store that has it.
    #[error("it is in an archive store that the collector's configuration does not name (any more)")]
    Elsewhere,
    /// Nobody knows.
    #[error(transparent)]
    Index(#[from] StoreError),
}

impl Archives {
    /// An archive that can be opened. One that lies in the archive store alone is fetched, which is waited for `patience`, or
    /// as long as it takes. One that is nowhere gives a path that cannot be opened.
    pub async fn here(
        &self,
        incident: IncidentId,
        archive: &SealedArchive,
        patience: Option<Duration>,
    ) -> Result<Here, NotHere> {
        for _ in 0..TRIES {
            let turn = match &self.remote {
                Some(remote) => Some(Arc::clone(&remote.fetches.opening).read_owned().await),
                None => None,
            };
            match self.alone_in(incident, archive).await? {
                None => return Ok(Here { path: self.file(archive), _turn: turn }),
                // Without the turn: room may have to be made for it.
                Some(store) => {
                    drop(turn);
                    self.bring(incident, archive, &store, patience).await?;
                }
            }
        }
        Err(NotHere::Fetching)
    }

    /// The store that an archive is in, and in no other place. `None`: it is here, or nowhere.
    async fn alone_in(&self, incident: IncidentId, archive: &SealedArchive) -> Result<Option<String>, StoreError> {
        let (data, wanted) = (Arc::clone(&self.data), archive.clone());
        blocking(&self.index, move |index| {
            if is_here(&data, &wanted) {
                return Ok(None);
            }
            let mut copies = index.copies(incident)?.into_iter();
            Ok(copies.find(|copy| copy.revision == wanted.revision).map(|copy| copy.store))
        })
        .await
    }

    /// Waits until an archive is here that is in this store alone.
    async fn bring(
        &self,
        incident: IncidentId,
        archive: &SealedArchive,
        store: &str,
        patience: Option<Duration>,
    ) -> Result<(), NotHere> {
        let Some(remote) = self.remote.as_ref().filter(|remote| remote.name == store) else {
            tracing::warn!(%incident, file = archive.file_name, store, "an archive that is wanted is in an archive store that the configuration does not name");
            return Err(NotHere::Elsewhere);
        };
        let mut ended = self.fetch(remote, incident, archive)?;
        let waiting = async move { ended.wait_for(Option::is_some).await.ok().and_then(|ended| ended.clone()) };
        let ended = match patience {
            None => waiting.await,
            Some(patience) => timeout(patience, waiting).await.map_err(|_| NotHere::Fetching)?,
        };
        // Its task is gone without a word only when the collector is.
        Ok(ended.ok_or(NotHere::Fetching)??)
    }

    /// Begins to fetch one, or joins those who wait for it.
    fn fetch(
        &self,
        remote: &Arc<Remote>,
        incident: IncidentId,
        archive: &SealedArchive,
    ) -> Result<watch::Receiver<Ended>, NotHere> {
        let mut going_on = remote.fetches.going_on.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ended) = going_on.get(&archive.file_name) {
            return Ok(ended.clone());
        }
        if going_on.len() >= FETCHES {
            return Err(NotHere::TooMany);
        }
        let (tell, ended) = watch::channel(None);
        going_on.insert(archive.file_name.clone(), ended.clone());
        let (archives, remote, archive) = (self.clone(), Arc::clone(remote), archive.clone());
        // Ends with the collector: what it leaves then is a file that the next one removes.
        tokio::spawn(async move {
            let done = archives.fetched(&remote, &archive).await;
            match &done {
                Ok(()) => {
                    remote.parts.stats.archives_fetched.one();
                    tracing::info!(%incident, file = archive.file_name, "an archive was fetched from the archive store");
                }
                Err(failed) => {
                    remote.parts.stats.copy_failures.of(failed.kind).one();
                    tracing::warn!(%incident, file = archive.file_name, reason = failed.text, "an archive could not be fetched from the archive store");
                }
            }
            remote.fetches.going_on.lock().unwrap_or_else(PoisonError::into_inner).remove(&archive.file_name);
            tell.send_replace(Some(done));
        });
        Ok(ended)
    }

    async fn fetched(&self, remote: &Remote, archive: &SealedArchive) -> Result<(), Failed> {
        self.room_for(remote, archive).await?;
        let path = self.file(archive);
        let partial = self.data.archives().join(format!("{}.fetched{PARTIAL}", archive.file_name));
        let done = self.put_down(remote, archive, &partial, &path).await;
        if done.is_err() {
            // One that is not there has been renamed, or was never made; another the next start removes.
            let _gone = tokio::fs::remove_file(&partial).await;
        }
        done
    }

    async fn put_down(
        &self,
        remote: &Remote,
        archive: &SealedArchive,
        partial: &Path,
        path: &Path,
    ) -> Result<(), Failed> {
        let unwritten = |error: io::Error| Failed::new(Failure::Other, format!("it cannot be written here: {error}"));
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(partial).await;
        let mut file = file.map_err(unwritten)?;
        if remote.bucket.read(archive, Some(&mut file)).await? != archive.sha256 {
            return Err(Failed::differs(archive));
        }
        let (partial, path, dir) = (partial.to_owned(), path.to_owned(), self.data.archives());
        let renamed = tokio::task::spawn_blocking(move || {
            fs::rename(partial, path)?;
            fs::File::open(dir)?.sync_all()
        });
        renamed.await.map_err(io::Error::other).and_then(|done| done).map_err(unwritten)
    }

    /// Evidence that is coming in has the room first.
    async fn room_for(&self, remote: &Remote, archive: &SealedArchive) -> Result<(), Failed> {
        let Some((look, _)) = remote.parts.space.last_look() else { return Ok(()) };
        if can_reserve(&look.disk, size(archive)) {
            return Ok(());
        }
        let made = self.free(remote, size(archive)).await?;
        let disk = crate::space::FileSystem {
            free: casefile_proto::units::Bytes(look.disk.free.0.saturating_add(made.0)),
            ..look.disk
        };
        if can_reserve(&disk, size(archive)) {
            return Ok(());
        }
        Err(Failed::new(Failure::NoRoom, "there is no room for it on the collector's disk"))
    }
}
