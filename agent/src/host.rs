//! The one door to the machine's files: everything is opened below a configurable root, with caps, and nothing is
//! executed. `proc/…` and `sys/…` paths are relative to the root (`--host-root`, `/` by default).
//!
//! Only regular files are read (and `/dev/kmsg`, by [`Host::kmsg`]). How a path is kept below its root: `host/beneath.rs`.

mod beneath;
mod error;

use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags, PROC_SUPER_MAGIC, RawDir, SeekFrom, fstat, fstatfs, open, readlinkat, seek};
use rustix::io::Errno;

use crate::details::Details;
use crate::sources::gpu::latest::Access;
use crate::stats::Stats;
use beneath::Resolver;
pub use beneath::Rule;
pub use error::HostError;

/// The machine below its root. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    dir: OwnedFd,
    resolver: Resolver,
    live: bool,
    stats: Arc<Stats>,
    gpu: Access,
    details: Details,
}

/// A file that is kept open and read again from its beginning: `/proc` and cgroup files at 1 Hz.
#[derive(Debug)]
pub struct KeptFile {
    fd: OwnedFd,
    path: PathBuf,
}

/// A directory that is kept open: listed again without a path, and others opened below it. Paths are relative to it.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
    rule: Rule,
    resolver: Resolver,
}

/// What a directory says that a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Link,
    /// Something else, or the file system does not say.
    Other,
}

/// The most names that a directory may have. `/proc` has one for each process; `pid_max` is 4 Mi, and a machine that
/// comes near to this has other worries.
pub const MAX_NAMES: usize = 1 << 18;

/// What a file's buffer begins with: a page, as `/proc` gives it out.
const FIRST_READ: usize = 4096;

/// Names are read from the kernel in pieces of this size, on the stack.
const NAMES_BUFFER: usize = 8 * 1024;

impl KeptFile {
    /// The whole content into `buf` (cleared first) by `pread` from 0 with at most `cap` bytes. Reading a file that is
    /// no longer than before allocates nothing.
    pub fn read(&self, buf: &mut Vec<u8>, cap: usize) -> Result<(), HostError> {
        self.fill(buf, cap, Until::End)
    }

    /// As [`KeptFile::read`], for files that the kernel gives out in one piece (`/proc/PID/stat`, `status`, one cgroup
    /// value): a read that comes back short is taken for the end, which saves the read that would say so. Files of
    /// many records (`/proc/net/tcp`, `/proc/diskstats`) may come back short in their middle: not for those.
    pub fn read_record(&self, buf: &mut Vec<u8>, cap: usize) -> Result<(), HostError> {
        self.fill(buf, cap, Until::Short)
    }

    /// Where it lies, below the root.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn fill(&self, buf: &mut Vec<u8>, cap: usize, until: Until) -> Result<(), HostError> {
        fill(self.fd.as_fd(), buf, cap, until).map_err(|e| e.of(&self.path, cap))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    End,
    Short,
}

enum FillError {
    Errno(Errno),
    TooLarge,
}

impl FillError {
    fn of(self, path: &Path, cap: usize) -> HostError {
        match self {
            Self::Errno(errno) => HostError::new("read", path, errno),
            Self::TooLarge => HostError::TooLarge { path: path.to_owned(), cap },
        }
    }
}

fn fill(fd: BorrowedFd<'_>, buf: &mut Vec<u8>, cap: usize, until: Until) -> Result<(), FillError> {
    buf.clear();
    loop {
        if buf.len() == buf.capacity() {
            // Doubling, but never more than what shows that the cap is passed.
            buf.reserve_exact(buf.len().max(FIRST_READ).min(cap.saturating_sub(buf.len()).saturating_add(1)));
        }
        let (room, offset) = (buf.capacity() - buf.len(), buf.len() as u64);
        let got = match rustix::io::pread(fd, rustix::buffer::spare_capacity(buf), offset) {
            Ok(got) => got,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(FillError::Errno(errno)),
        };
        if buf.len() > cap {
            buf.truncate(cap);
            return Err(FillError::TooLarge);
        }
        if got == 0 || (until == Until::Short && got < room) {
            return Ok(());
        }
    }
}

impl Host {
    /// Opens the root. Fails where it is no directory; what is missing below it shows when it is read.
    pub fn new(root: &Path) -> Result<Self, HostError> {
        Self::with_stats(root, Arc::new(Stats::new(crate::sources::ALL)))
    }

    /// The same, for a recorder whose own figures the `agent` source reads through [`Host::stats`].
    pub fn with_stats(root: &Path, stats: Arc<Stats>) -> Result<Self, HostError> {
        Self::with(root, stats, Access::default(), Details::default())
    }

    /// The same, where it is said how the GPUs are reached, and who reads details of processes.
    pub fn with(root: &Path, stats: Arc<Stats>, gpu: Access, details: Details) -> Result<Self, HostError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = open(root, flags, Mode::empty()).map_err(|e| HostError::new("open the host root", root, e))?;
        let resolver = Resolver::probe(dir.as_fd());
        let live = resolver
            .open(dir.as_fd(), Path::new("proc"), Rule::Kernel, OFlags::PATH | OFlags::DIRECTORY)
            .and_then(fstatfs)
            .is_ok_and(|fs| fs.f_type == PROC_SUPER_MAGIC);
        Ok(Self { inner: Arc::new(Inner { root: root.to_owned(), dir, resolver, live, stats, gpu, details }) })
    }

    #[cfg(test)]
    pub(crate) fn walking(root: &Path) -> Self {
        let host = Self::new(root).unwrap();
        let dir = rustix::io::dup(&host.inner.dir).unwrap();
        let Inner { root, live, stats, .. } = &*host.inner;
        let (stats, gpu, details) = (Arc::clone(stats), Access::default(), Details::default());
        let inner = Inner { root: root.clone(), dir, resolver: Resolver::Walk, live: *live, stats, gpu, details };
        Self { inner: Arc::new(inner) }
    }

    /// The root, for messages and for `statfs`.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Whether `proc` below the root is a kernel's own (`/`, or a host's mounted into a container), so that system calls
    /// about the machine (uname, adjtimex, syslog) are about the same one. Not so for a fixture tree.
    pub fn is_live(&self) -> bool {
        self.inner.live
    }

    /// What the agent says about itself; see [`Stats`].
    pub fn stats(&self) -> &Arc<Stats> {
        &self.inner.stats
    }

    /// How the GPUs of the machine are reached.
    pub fn gpu(&self) -> &Access {
        &self.inner.gpu
    }

    /// Who reads what only a process that may trace another is told.
    pub(crate) fn details(&self) -> &Details {
        &self.inner.details
    }

    /// A kernel file (`proc/stat`, `sys/fs/cgroup/…`) to keep open.
    pub fn keep(&self, path: impl AsRef<Path>) -> Result<KeptFile, HostError> {
        self.tree(Rule::Kernel).keep(path.as_ref(), path.as_ref())
    }

    /// A kernel file read once into `buf` (cleared first).
    pub fn read(&self, path: impl AsRef<Path>, buf: &mut Vec<u8>, cap: usize) -> Result<(), HostError> {
        self.keep(path)?.read(buf, cap)
    }

    /// The names in a directory of the kernel's, in no order.
    pub fn list(&self, path: impl AsRef<Path>) -> Result<Vec<OsString>, HostError> {
        let mut names = Vec::new();
        self.dir(path)?.each(&mut |name, _| names.push(name.to_owned()))?;
        Ok(names)
    }

    /// Where a kernel link points (`proc/1/ns/net`, `sys/class/net/eth0/device`).
    pub fn link(&self, path: impl AsRef<Path>) -> Result<PathBuf, HostError> {
        self.tree(Rule::Kernel).link(path.as_ref(), path.as_ref())
    }

    /// A directory of the kernel's to keep open.
    pub fn dir(&self, path: impl AsRef<Path>) -> Result<Dir, HostError> {
        self.tree(Rule::Kernel).dir(path.as_ref(), path.as_ref())
    }

    /// A directory that others may write to (`var/log/pods`), reached without links; below it nothing is followed and
    /// no mount is entered ([`Rule::Strict`]). Mounts on the way to it are entered: `var/log` is often one.
    pub fn strict_dir(&self, path: impl AsRef<Path>) -> Result<Dir, HostError> {
        let mut at = Dir {
            fd: rustix::io::dup(&self.inner.dir).map_err(|e| HostError::new("open", path.as_ref(), e))?,
            path: PathBuf::new(),
            rule: Rule::Strict,
            resolver: self.inner.resolver,
        };
        for name in path.as_ref().strip_prefix("/").unwrap_or(path.as_ref()) {
            let below = at.path.join(name);
            // One component at a time: a mount point is entered as the root of the next step, a link is not followed.
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            if name == OsStr::new("..") {
                return Err(HostError::new("open", &below, Errno::XDEV));
            }
            let fd =
                rustix::fs::openat(&at.fd, name, flags, Mode::empty()).map_err(|e| link_or(&at.fd, name, &below, e))?;
            at = Dir { fd, path: below, ..at };
        }
        Ok(at)
    }

    /// The kernel log device, opened for reading without blocking, at its oldest record. The one thing that is read
    /// and is no regular file; in a fixture tree it may be one.
    pub fn kmsg(&self) -> Result<OwnedFd, HostError> {
        let path = Path::new("dev/kmsg");
        let fd = self.tree(Rule::Kernel).open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW);
        let fd = fd.map_err(|e| HostError::new("open", path, e))?;
        let stat = fstat(&fd).map_err(|e| HostError::new("open", path, e))?;
        let is_kmsg = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)) == (1, 11);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::CharacterDevice if is_kmsg => Ok(fd),
            FileType::RegularFile => Ok(fd),
            _ => Err(HostError::Refused { path: path.to_owned(), why: "it is not the kernel log device" }),
        }
    }

    fn tree(&self, rule: Rule) -> Tree<'_> {
        Tree { dir: self.inner.dir.as_fd(), rule, resolver: self.inner.resolver }
    }
}

impl Dir {
    /// Where it lies, below the root.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file below it to keep open.
    pub fn keep(&self, path: impl AsRef<Path>) -> Result<KeptFile, HostError> {
        self.tree().keep(path.as_ref(), &self.path.join(path.as_ref()))
    }

    /// A file below it, read once into `buf` (cleared first).
    pub fn read(&self, path: impl AsRef<Path>, buf: &mut Vec<u8>, cap: usize) -> Result<(), HostError> {
        self.fill(path.as_ref(), buf, cap, Until::End)
    }

    /// The same for a file that the kernel gives out in one piece: see [`KeptFile::read_record`].
    pub fn read_record(&self, path: impl AsRef<Path>, buf: &mut Vec<u8>, cap: usize) -> Result<(), HostError> {
        self.fill(path.as_ref(), buf, cap, Until::Short)
    }

    fn fill(&self, path: &Path, buf: &mut Vec<u8>, cap: usize, until: Until) -> Result<(), HostError> {
        // The whole path is put together only for an error: this is called for hundreds of processes a second.
        let fd = self.tree().file(path).map_err(|e| e.of("open", &self.path.join(path)))?;
        fill(fd.as_fd(), buf, cap, until).map_err(|e| e.of(&self.path.join(path), cap))
    }

    /// A regular file below it as a plain handle, for readers that seek.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<std::fs::File, HostError> {
        let path = path.as_ref();
        self.tree().file(path).map(std::fs::File::from).map_err(|e| e.of("open", &self.path.join(path)))
    }

    /// A directory below it.
    pub fn dir(&self, path: impl AsRef<Path>) -> Result<Self, HostError> {
        self.tree().dir(path.as_ref(), &self.path.join(path.as_ref()))
    }

    /// Where a link below it points.
    pub fn link(&self, path: impl AsRef<Path>) -> Result<PathBuf, HostError> {
        self.tree().link(path.as_ref(), &self.path.join(path.as_ref()))
    }

    /// Calls `each` for every name, in no order, without `.` and `..`; from the beginning every time.
    pub fn each(&mut self, each: &mut dyn FnMut(&OsStr, EntryKind)) -> Result<(), HostError> {
        self.each_from(0, &mut |name, kind, _| each(name, kind))
    }

    /// As [`Dir::each`], but from a place on: 0 is the beginning, and with every name comes the place of what follows it.
    /// What places mean is the file system's own business.
    pub fn each_from(&mut self, place: u64, each: &mut dyn FnMut(&OsStr, EntryKind, u64)) -> Result<(), HostError> {
        let failed = |errno| HostError::new("list", &self.path, errno);
        seek(&self.fd, SeekFrom::Start(place)).map_err(failed)?;
        let mut buffer = [MaybeUninit::uninit(); NAMES_BUFFER];
        let mut entries = RawDir::new(&self.fd, &mut buffer);
        let mut count = 0;
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            count += 1;
            if count > MAX_NAMES {
                return Err(HostError::TooLarge { path: self.path.clone(), cap: MAX_NAMES });
            }
            let kind = match entry.file_type() {
                FileType::RegularFile => EntryKind::File,
                FileType::Directory => EntryKind::Dir,
                FileType::Symlink => EntryKind::Link,
                _ => EntryKind::Other,
            };
            each(OsStr::from_bytes(name), kind, entry.next_entry_cookie());
        }
        Ok(())
    }

    fn tree(&self) -> Tree<'_> {
        Tree { dir: self.fd.as_fd(), rule: self.rule, resolver: self.resolver }
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A handle and the rule that holds below it: what [`Host`] and [`Dir`] have in common. `full` is for messages.
struct Tree<'a> {
    dir: BorrowedFd<'a>,
    rule: Rule,
    resolver: Resolver,
}

enum FileError {
    Errno(Errno),
    NotAFile,
}

impl FileError {
    fn of(self, doing: &'static str, path: &Path) -> HostError {
        match self {
            Self::Errno(errno) => HostError::new(doing, path, errno),
            Self::NotAFile => HostError::Refused { path: path.to_owned(), why: "it is no regular file" },
        }
    }
}

impl Tree<'_> {
    fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        self.resolver.open(self.dir, path, self.rule, flags)
    }

    /// Opened without blocking (a pipe would wait for its writer) and given out only when it is a regular file.
    fn file(&self, path: &Path) -> Result<OwnedFd, FileError> {
        let fd = self.open(path, OFlags::RDONLY | OFlags::NONBLOCK).map_err(FileError::Errno)?;
        let stat = fstat(&fd).map_err(FileError::Errno)?;
        if FileType::from_raw_mode(stat.st_mode).is_file() { Ok(fd) } else { Err(FileError::NotAFile) }
    }

    fn keep(&self, path: &Path, full: &Path) -> Result<KeptFile, HostError> {
        let fd = self.file(path).map_err(|e| e.of("open", full))?;
        Ok(KeptFile { fd, path: full.to_owned() })
    }

    fn dir(&self, path: &Path, full: &Path) -> Result<Dir, HostError> {
        let fd = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(|e| HostError::new("open", full, e))?;
        Ok(Dir { fd, path: full.to_owned(), rule: self.rule, resolver: self.resolver })
    }

    fn link(&self, path: &Path, full: &Path) -> Result<PathBuf, HostError> {
        let failed = |errno| HostError::new("read the link", full, errno);
        let fd = self.open(path, OFlags::PATH | OFlags::NOFOLLOW).map_err(failed)?;
        let target = readlinkat(&fd, "", Vec::new()).map_err(failed)?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }
}

/// `O_NOFOLLOW | O_DIRECTORY` answers ENOTDIR for a link: told apart, because a link is refused and not just absent.
fn link_or(dir: &OwnedFd, name: &OsStr, full: &Path, errno: Errno) -> HostError {
    let is_link = errno == Errno::NOTDIR
        && rustix::fs::statat(dir, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|s| FileType::from_raw_mode(s.st_mode).is_symlink());
    HostError::new("open", full, if is_link { Errno::LOOP } else { errno })
}

#[cfg(test)]
mod tests;
