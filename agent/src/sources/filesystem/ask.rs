//! Asking a file system for its space without ever waiting for one that does not answer: on a thread that is given up
//! when its time is over, counted, and taken back when it returns. The number of threads that can be stuck is bounded.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxFlags, fstatvfs, open, openat, openat2, statx};
use rustix::io::Errno;

use super::mounts::Mount;

/// Threads that may be stuck on file systems that never answered yet. Eight dead servers are enough to know that the
/// network is the trouble.
const MAX_STUCK: usize = 8;

/// Threads that may be stuck in all: file systems that have answered before, the root's among them, go on being asked
/// while eight others are dead, and each of them may die too.
const MAX_STUCK_AT_ALL: usize = 2 * MAX_STUCK;

/// A system call or two on a short path; the kernel's own stack is not in this.
const STACK: usize = 128 << 10;

/// What a pod is given of the node's disks: a file system that is not to be seen where it is mounted may be seen there, as the
/// root's mostly is.
const WINDOWS: [&str; 4] = ["var/log", "run/log", "var/lib/systemd/pstore", "etc/os-release"];

/// What a file system says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Space {
    /// In blocks.
    pub(super) blocks: u64,
    pub(super) free: u64,
    pub(super) available: u64,
    /// Bytes.
    pub(super) block_size: u64,
    pub(super) files: u64,
    pub(super) files_free: u64,
}

/// How asking went.
#[derive(Debug)]
pub(super) enum Answer {
    Space(Space),
    /// It has not answered; while this is so it is not asked again.
    Stuck {
        for_how_long: Duration,
    },
    /// Too many others are stuck.
    NotAsked,
    /// What is at this path is another file system.
    NotVisible,
    Failed(io::Error),
}

/// Asks one mount; may block for ever. `None`: another file system is at this path.
pub(super) type Ask = Arc<dyn Fn(&Mount) -> io::Result<Option<Space>> + Send + Sync>;

/// The real question, of mounts below this root.
pub(super) fn below_root(root: &Path) -> Ask {
    let root = root.to_owned();
    Arc::new(move |mount| statfs(&root, mount))
}

/// One thread that asks and waits for the next question.
struct Worker {
    questions: SyncSender<Mount>,
    answers: Receiver<io::Result<Option<Space>>>,
}

struct Stuck {
    point: PathBuf,
    since: Instant,
    worker: Worker,
}

/// Asks mounts one after another.
pub(super) struct Asker {
    ask: Ask,
    idle: Option<Worker>,
    stuck: Vec<Stuck>,
    /// Mount points that have answered in time at their last question.
    answered: BTreeSet<PathBuf>,
}

impl Asker {
    pub(super) fn new(ask: Ask) -> Self {
        Self { ask, idle: None, stuck: Vec::new(), answered: BTreeSet::new() }
    }

    /// How many threads are stuck.
    pub(super) fn stuck(&self) -> usize {
        self.stuck.len()
    }

    /// Takes back the threads whose file systems have answered meanwhile. What they say is of then, not of now: it is
    /// dropped, and the file system is asked again.
    pub(super) fn collect_late(&mut self) {
        self.stuck.retain(|stuck| matches!(stuck.worker.answers.try_recv(), Err(TryRecvError::Empty)));
    }

    /// Waits no longer than `patience`.
    pub(super) fn ask(&mut self, mount: &Mount, patience: Duration) -> Answer {
        if let Some(stuck) = self.stuck.iter().find(|stuck| stuck.point == mount.point) {
            return Answer::Stuck { for_how_long: stuck.since.elapsed() };
        }
        let known = self.answered.remove(&mount.point);
        if self.stuck.len() >= if known { MAX_STUCK_AT_ALL } else { MAX_STUCK } {
            return Answer::NotAsked;
        }
        let since = Instant::now();
        let worker = match self.idle.take().map_or_else(|| self.worker(), Ok) {
            Ok(worker) => worker,
            Err(error) => return Answer::Failed(error),
        };
        // The thread takes one question at a time and has answered the one before: there is room.
        if worker.questions.try_send(mount.clone()).is_err() {
            return Answer::Failed(io::Error::other("the thread that asks has ended"));
        }
        match worker.answers.recv_timeout(patience) {
            Ok(answer) => {
                self.idle = Some(worker);
                self.answered.insert(mount.point.clone());
                match answer {
                    Ok(Some(space)) => Answer::Space(space),
                    Ok(None) => Answer::NotVisible,
                    Err(error) => Answer::Failed(error),
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                self.stuck.push(Stuck { point: mount.point.clone(), since, worker });
                Answer::Stuck { for_how_long: since.elapsed() }
            }
            Err(RecvTimeoutError::Disconnected) => Answer::Failed(io::Error::other("the thread that asks has ended")),
        }
    }

    fn worker(&self) -> io::Result<Worker> {
        // One question and one answer at a time: neither channel can fill up.
        let (questions, inbox) = sync_channel::<Mount>(1);
        let (outbox, answers) = sync_channel(1);
        let ask = Arc::clone(&self.ask);
        std::thread::Builder::new().name("statfs".to_owned()).stack_size(STACK).spawn(move || {
            while let Ok(mount) = inbox.recv() {
                if outbox.send(ask(&mount)).is_err() {
                    break;
                }
            }
        })?;
        Ok(Worker { questions, answers })
    }
}

/// Asks a file system where it is mounted; and where it is not to be seen there, anywhere else that it is.
fn statfs(root: &Path, mount: &Mount) -> io::Result<Option<Space>> {
    let dir = open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let path = mount.point.strip_prefix("/").unwrap_or(&mount.point);
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    // Subvolumes of btrfs have numbers of their own, which mountinfo does not show.
    let is_exact = mount.fstype != "btrfs";
    let found = at(&dir, path, is_exact.then_some(mount.number))?;
    if found.is_some() || !is_exact {
        return Ok(found);
    }
    // What cannot be asked there is not to be seen there either.
    Ok(WINDOWS.iter().find_map(|window| at(&dir, Path::new(window), Some(mount.number)).unwrap_or(None)))
}

/// Opens a path without following links or triggering an automount, and asks what is there, if it is of this number.
fn at(dir: &OwnedFd, path: &Path, number: Option<(u32, u32)>) -> io::Result<Option<Space>> {
    let point = match open_point(dir, path) {
        Ok(point) => point,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    // What the kernel knows already is enough: no question to a server.
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let found = statx(&point, "", flags, StatxFlags::BASIC_STATS)?;
    if number.is_some_and(|number| number != (found.stx_dev_major, found.stx_dev_minor)) {
        return Ok(None);
    }
    let stat = fstatvfs(&point)?;
    Ok(Some(Space {
        blocks: stat.f_blocks,
        free: stat.f_bfree,
        available: stat.f_bavail,
        block_size: if stat.f_frsize == 0 { stat.f_bsize } else { stat.f_frsize },
        files: stat.f_files,
        files_free: stat.f_ffree,
    }))
}

fn open_point(dir: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    match openat2(dir, path, flags, Mode::empty(), resolve) {
        // Linux before 5.6, or a container's filter of that age: the number of the device still tells a stranger.
        Err(Errno::NOSYS | Errno::PERM) => openat(dir, path, flags, Mode::empty()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};

    use super::*;

    fn mount(point: &str) -> Mount {
        Mount {
            number: (0, 1),
            whole: true,
            point: point.into(),
            point_text: point.to_owned(),
            fstype: "nfs4".to_owned(),
            device: "server:/export".to_owned(),
            readonly: false,
        }
    }

    const SPACE: Space = Space { blocks: 1, free: 1, available: 1, block_size: 1, files: 1, files_free: 1 };

    /// Blocks for every point that begins with `/dead` until it is opened.
    #[derive(Default)]
    struct Gate {
        open: Mutex<bool>,
        changed: Condvar,
    }

    impl Gate {
        fn asker(self: &Arc<Self>) -> Asker {
            let gate = Arc::clone(self);
            Asker::new(Arc::new(move |mount| {
                if mount.point.starts_with("/dead") || mount.point_text.starts_with("/dead") {
                    let open = gate.open.lock().unwrap();
                    drop(gate.changed.wait_while(open, |open| !*open).unwrap());
                }
                Ok(Some(SPACE))
            }))
        }

        fn open(&self) {
            *self.open.lock().unwrap() = true;
            self.changed.notify_all();
        }
    }

    const SHORT: Duration = Duration::from_millis(5);
    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_mount_that_never_answers_is_stuck_and_the_next_one_is_asked() {
        let gate = Arc::new(Gate::default());
        let mut asker = gate.asker();
        assert!(matches!(asker.ask(&mount("/live"), LONG), Answer::Space(SPACE)));
        assert!(matches!(asker.ask(&mount("/dead"), SHORT), Answer::Stuck { .. }));
        assert!(matches!(asker.ask(&mount("/live"), LONG), Answer::Space(SPACE)));
        // It is not asked a second time while its thread is stuck.
        assert!(matches!(asker.ask(&mount("/dead"), LONG), Answer::Stuck { .. }));
        assert_eq!(asker.stuck(), 1);
        gate.open();
        while asker.stuck() > 0 {
            std::thread::yield_now();
            asker.collect_late();
        }
        assert!(matches!(asker.ask(&mount("/dead"), LONG), Answer::Space(SPACE)));
    }

    #[test]
    fn no_more_threads_get_stuck_than_are_allowed() {
        let gate = Arc::new(Gate::default());
        let mut asker = gate.asker();
        assert!(matches!(asker.ask(&mount("/live"), LONG), Answer::Space(SPACE)));
        for i in 0..MAX_STUCK {
            assert!(matches!(asker.ask(&mount(&format!("/dead{i}")), SHORT), Answer::Stuck { .. }));
        }
        assert!(matches!(asker.ask(&mount("/dead-too"), LONG), Answer::NotAsked));
        // One that has answered before is asked all the same.
        assert!(matches!(asker.ask(&mount("/live"), LONG), Answer::Space(SPACE)));
        assert_eq!(asker.stuck(), MAX_STUCK);
        gate.open();
    }

    #[test]
    fn what_lies_under_a_mount_that_is_not_visible_is_not_taken_for_it() {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir(tmp.path().join("mnt")).unwrap();
        let other = Mount { number: (4095, 77), ..mount("/mnt") };
        assert_eq!(statfs(tmp.path(), &other).unwrap(), None);
        assert_eq!(statfs(tmp.path(), &Mount { number: (4095, 77), ..mount("/none") }).unwrap(), None);
        let own = statx(rustix::fs::CWD, tmp.path(), AtFlags::empty(), StatxFlags::BASIC_STATS).unwrap();
        let own = Mount { number: (own.stx_dev_major, own.stx_dev_minor), ..mount("/mnt") };
        assert!(statfs(tmp.path(), &own).unwrap().is_some_and(|space| space.block_size > 0));
    }
    /// In a pod the node's root is not there, and what the pod is given of it is.
    #[test]
    fn a_file_system_that_is_not_seen_where_it_is_mounted_is_asked_where_it_is() {
        let tmp = tempfile::tempdir().unwrap();
        let own = statx(rustix::fs::CWD, tmp.path(), AtFlags::empty(), StatxFlags::BASIC_STATS).unwrap();
        let number = (own.stx_dev_major, own.stx_dev_minor);
        let elsewhere = || Mount { number, ..mount("/not/there") };
        assert_eq!(statfs(tmp.path(), &elsewhere()).unwrap(), None);
        std::fs::create_dir_all(tmp.path().join("var/log")).unwrap();
        let root = statfs(tmp.path(), &Mount { number, ..mount("/") }).unwrap().unwrap();
        let found = statfs(tmp.path(), &elsewhere()).unwrap().unwrap();
        assert_eq!((found.blocks, found.block_size), (root.blocks, root.block_size));
        assert_eq!(statfs(tmp.path(), &Mount { number: (4095, 77), ..mount("/not/there") }).unwrap(), None);
        assert_eq!(statfs(tmp.path(), &Mount { fstype: "btrfs".to_owned(), ..elsewhere() }).unwrap(), None);
    }
}
