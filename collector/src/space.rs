//! The room on the disk of the data directory: how much there is, whether evidence is taken, and a reserve for finishing.
//!
//! What is decided is in [`level`], pure. Here: one thread that looks at the file system four times a second and tries
//! to write there once a second, and when asked. It alone waits for a disk that hangs; whoever asks it waits for a second at most.

pub mod level;
mod reserve;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use casefile_proto::units::Bytes;
use rustix::fs::{StatVfsMountFlags, statvfs};
use tokio::sync::{oneshot, watch};

use level::{Access, Files, can_reserve, reserved_by_default, taking};
pub use level::{FileSystem, Taking, Why};
use reserve::Reserve;

use crate::stats::Stats;

/// Time between two looks: what fills the disk is noticed before it is full, and room again within two seconds.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Whoever asks whether the disk can be written waits so long.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Questions that wait for the thread. When it is full, the disk has not answered those before.
const QUESTIONS: usize = 16;

/// Time between two trials to write, also when nobody asks: since Linux 6.16 `statvfs` does not tell that the kernel made a
/// file system read-only after an error.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// Time before a reserve that could not be taken is tried again.
const TRY_RESERVE_EVERY: Duration = Duration::from_secs(10);

/// The name of the reserve, and of what is written as a trial, below the data directory.
const RESERVE: &str = "reserve";
const TRIAL: &str = "trial";

/// What the last look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// The file system.
    pub disk: FileSystem,
    /// Whether evidence is taken.
    pub taking: Taking,
    /// What is held in reserve.
    pub reserved: Bytes,
}

/// Why the data directory cannot be written, or nobody knows.
#[derive(Debug, thiserror::Error)]
pub enum NotWritable {
    /// The file system said no.
    #[error("the data directory cannot be written: {0}")]
    Refused(#[source] io::Error),
    /// It did not say anything.
    #[error("the disk does not answer")]
    NoAnswer,
}

/// Watches the disk of a data directory. Cheap to clone; the thread ends with the last clone.
#[derive(Clone)]
pub struct Space {
    shared: Arc<Shared>,
    questions: SyncSender<Question>,
    _thread: Arc<Thread>,
}

type Question = oneshot::Sender<io::Result<()>>;

struct Shared {
    root: PathBuf,
    /// What is to be held in reserve; `None`: as much as suits the file system.
    wanted: Option<Bytes>,
    reserve: Mutex<Reserve>,
    looked: Mutex<Option<(Look, Instant)>>,
    taking: watch::Sender<Taking>,
    stats: Arc<Stats>,
}

/// Joined nowhere: it may hang in the disk, and it holds nothing that anybody waits for.
struct Thread {
    _handle: JoinHandle<()>,
}

impl Space {
    /// Looks once, and then goes on looking on a thread. Blocks. `reserve` is what is to be reserved; `None`: what suits
    /// the size of the file system; 0: nothing.
    pub fn watch(root: &Path, reserve: Option<Bytes>, stats: Arc<Stats>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            root: root.to_owned(),
            wanted: reserve,
            reserve: Mutex::new(Reserve::at(root.join(RESERVE))),
            looked: Mutex::new(None),
            taking: watch::Sender::new(Taking::Yes),
            stats,
        });
        let mut watcher = Watcher {
            shared: Arc::clone(&shared),
            reserve_again: Instant::now(),
            failed: false,
            try_at: Instant::now(),
            refused: false,
        };
        watcher.look();
        let (questions, asked) = sync_channel(QUESTIONS);
        let handle = std::thread::Builder::new().name("space".to_owned()).spawn(move || watcher.run(&asked))?;
        Ok(Self { shared, questions, _thread: Arc::new(Thread { _handle: handle }) })
    }

    /// Whether evidence is taken, as it changes.
    pub fn taking(&self) -> watch::Receiver<Taking> {
        self.shared.taking.subscribe()
    }

    /// What the last look found, and how long ago that was. `None`: the file system has not told anything yet.
    pub fn last_look(&self) -> Option<(Look, Duration)> {
        let looked = *lock(&self.shared.looked);
        looked.map(|(look, at)| (look, at.elapsed()))
    }

    /// Whether a file can be made and written in the data directory now. Answers within a second, whatever the disk does.
    pub async fn try_to_write(&self) -> Result<(), NotWritable> {
        let (reply, answer) = oneshot::channel();
        // Full: it has not answered those before.
        self.questions.try_send(reply).map_err(|_| NotWritable::NoAnswer)?;
        match tokio::time::timeout(ANSWER_WITHIN, answer).await {
            Ok(Ok(tried)) => tried.map_err(NotWritable::Refused),
            Ok(Err(_)) | Err(_) => Err(NotWritable::NoAnswer),
        }
    }

    /// Gives up the reserve, so that what must be finished on a full disk can be: to be called when that failed for want
    /// of room, and to be followed by one more try. Says how much was given up; nothing is left to give when it is 0.
    /// The reserve is taken again when there is room. Blocks.
    pub fn give_up_reserve(&self) -> Bytes {
        match lock(&self.shared.reserve).give_up() {
            Ok(Bytes(0)) => Bytes(0),
            Ok(given) => {
                self.shared.stats.reserve_uses.one();
                tracing::warn!(%given, "the disk is full: the reserved space is given up to finish what was begun");
                given
            }
            Err(error) => {
                tracing::warn!(%error, "the reserved space could not be given up");
                Bytes(0)
            }
        }
    }
}

/// Whether an error, or one of its causes, means that there is no room.
pub fn is_for_want_of_room(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>()
            && matches!(io.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        {
            return true;
        }
        if let Some(store) = error.downcast_ref::<crate::store::StoreError>()
            && store.is_for_want_of_room()
        {
            return true;
        }
        next = error.source();
    }
    false
}

/// What the thread works with.
struct Watcher {
    shared: Arc<Shared>,
    reserve_again: Instant,
    /// The last look failed, and that was said.
    failed: bool,
    /// When to try to write again.
    try_at: Instant,
    /// The last trial found the file system read-only.
    refused: bool,
}

impl Watcher {
    fn run(mut self, asked: &Receiver<Question>) {
        let mut next = Instant::now() + LOOK_EVERY;
        loop {
            match asked.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(question) => {
                    // One trial answers everybody who waits; who has gone is not told.
                    let waiting: Vec<_> = std::iter::once(question).chain(asked.try_iter()).collect();
                    let tried = self.attempt();
                    for reply in waiting {
                        let told = tried.as_ref().copied().map_err(|e| io::Error::new(e.kind(), e.to_string()));
                        let _ = reply.send(told);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.look();
                    next = Instant::now() + LOOK_EVERY;
                }
                // Nobody is left to ask.
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn attempt(&mut self) -> io::Result<()> {
        let tried = trial(&self.shared.root.join(TRIAL));
        self.try_at = Instant::now() + TRY_EVERY;
        self.refused = tried.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::ReadOnlyFilesystem);
        tried
    }

    fn look(&mut self) {
        if Instant::now() >= self.try_at {
            // What else it may fail for is told to whoever asks, and by whoever writes.
            let _tried = self.attempt();
        }
        let disk = match look_at(&self.shared.root) {
            Ok(disk) if self.refused => FileSystem { access: Access::ReadOnly, ..disk },
            Ok(disk) => disk,
            Err(error) => {
                if !self.failed {
                    tracing::warn!(%error, "the room on the disk of the data directory is not known");
                }
                self.failed = true;
                return;
            }
        };
        self.failed = false;
        self.keep_reserve(&disk);
        let before = *self.shared.taking.borrow();
        let now = taking(&disk, before);
        let reserved = lock(&self.shared.reserve).held();
        *lock(&self.shared.looked) = Some((Look { disk, taking: now, reserved }, Instant::now()));
        if now != before {
            self.change(before, now, &disk);
        }
    }

    fn change(&self, before: Taking, now: Taking, disk: &FileSystem) {
        let stats = &self.shared.stats;
        if let Taking::No(why) = before {
            stats.paused.of(why).set(0);
        }
        match now {
            Taking::No(why) => {
                stats.paused.of(why).set(1);
                stats.pauses.of(why).one();
                let (free, size) = (disk.free, disk.size);
                tracing::warn!(
                    why = why.text(),
                    %free,
                    %size,
                    "no evidence is taken: agents keep it in their rings until there is room"
                );
            }
            Taking::Yes => tracing::info!(free = %disk.free, "evidence is taken again"),
        }
        self.shared.taking.send_replace(now);
    }

    /// Takes the reserve, or takes it again, when there is room for it.
    fn keep_reserve(&mut self, disk: &FileSystem) {
        let wanted = self.shared.wanted.unwrap_or_else(|| reserved_by_default(disk.size));
        let mut reserve = lock(&self.shared.reserve);
        if reserve.held() == wanted || Instant::now() < self.reserve_again {
            return;
        }
        // One of another size was left by another configuration; its space counts as free.
        let held = reserve.held();
        let without = FileSystem { free: Bytes(disk.free.0.saturating_add(held.0)), ..*disk };
        if wanted == Bytes(0) {
            if let Err(error) = reserve.give_up() {
                tracing::warn!(%error, "the reserved space could not be given up");
                self.reserve_again = Instant::now() + TRY_RESERVE_EVERY;
            }
        } else if can_reserve(&without, wanted)
            && let Err(error) = reserve.take(wanted)
        {
            tracing::warn!(%error, %wanted, "no space could be reserved for finishing on a full disk");
            self.reserve_again = Instant::now() + TRY_RESERVE_EVERY;
        }
    }
}

fn look_at(root: &Path) -> io::Result<FileSystem> {
    let found = statvfs(root)?;
    let read_only = found.f_flag.contains(StatVfsMountFlags::RDONLY);
    Ok(FileSystem {
        size: Bytes(found.f_blocks.saturating_mul(found.f_frsize)),
        // What this user may take, not what root could.
        free: Bytes(found.f_bavail.saturating_mul(found.f_frsize)),
        // Some file systems make files out of room, and say 0.
        files: (found.f_files > 0).then_some(Files { all: found.f_files, free: found.f_favail }),
        access: if read_only { Access::ReadOnly } else { Access::Writable },
    })
}

/// Makes a file, writes it, removes it. Not synced: that would cost every disk something at every question.
fn trial(path: &Path) -> io::Result<()> {
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(b"can this directory be written\n"));
    let removed = match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    written.and(removed)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these is whole at every step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_that_can_be_written_has_room_a_reserve_and_no_trace_of_the_trial() {
        let dir = tempfile::tempdir().unwrap();
        let stats = Arc::new(Stats::default());
        let space = Space::watch(dir.path(), Some(Bytes::mib(1)), Arc::clone(&stats)).unwrap();
        let (look, _) = space.last_look().unwrap();
        assert_eq!((look.taking, look.reserved), (Taking::Yes, Bytes::mib(1)));
        space.try_to_write().await.unwrap();
        assert!(!dir.path().join(TRIAL).exists());
        assert_eq!((space.give_up_reserve(), space.give_up_reserve()), (Bytes::mib(1), Bytes(0)));
        assert_eq!(stats.reserve_uses.get(), 1);
        crate::incident::test_rig::until("the reserve taken again", || {
            space.last_look().filter(|(look, _)| look.reserved == Bytes::mib(1))
        })
        .await;
    }

    #[tokio::test]
    async fn a_directory_that_is_gone_cannot_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let space = Space::watch(dir.path(), Some(Bytes(0)), Arc::default()).unwrap();
        drop(dir);
        assert!(matches!(space.try_to_write().await, Err(NotWritable::Refused(_))));
    }

    #[test]
    fn want_of_room_is_found_below_other_errors() {
        let full = || io::Error::from(rustix::io::Errno::NOSPC);
        let error = crate::data::DataError::Io { doing: "write", path: PathBuf::from("/x"), source: full() };
        assert!(is_for_want_of_room(&error) && is_for_want_of_room(&full()));
        assert!(!is_for_want_of_room(&io::Error::from(rustix::io::Errno::IO)));
    }
}
