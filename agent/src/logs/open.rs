//! How log files are opened: below a directory handle, never through a link, never across a mount, regular files only,
//! never blocking ([`crate::host::Host::strict_dir`]). What is refused is told apart from what is missing, so that a
//! refusal can stand in the coverage.
//!
//! Whoever can write into a log directory can swap a file for a link, a pipe or a device at any moment. So a name is
//! opened once beneath the handle of its directory, and what counts from then on is the handle.

use std::error::Error as _;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::time::WallTime;
use rustix::fs::{AtFlags, FileType, Stat, fstat, statat};
use rustix::time::{ClockId, clock_gettime};

use crate::host::{self, EntryKind, Host, HostError};

/// The most names that are taken from one directory, of those that are wanted: 256 bytes each, so that a directory with a
/// million files costs no more than a few megabytes.
pub(super) const MAX_NAMES: usize = 16 * 1024;

/// What the file system says of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    /// What it is.
    pub(super) kind: FileType,
    /// Device and inode: the file itself, whatever its name becomes.
    pub(super) identity: (u64, u64),
    /// In bytes, at the time of asking.
    pub(super) size: u64,
    /// When its content was last changed, as the file says; whoever owns it can say what they like.
    pub(super) modified: WallTime,
    /// The later of that and the last change of the inode, which cannot be set by hand.
    pub(super) changed: WallTime,
}

impl Facts {
    #[expect(
        clippy::useless_conversion,
        clippy::unnecessary_cast,
        reason = "the widths of struct stat differ between architectures"
    )]
    fn of(stat: &Stat) -> Self {
        let time = |secs: i64, nanos: i64| WallTime::from_secs(secs).offset(nanos);
        let modified = time(stat.st_mtime as i64, i64::try_from(stat.st_mtime_nsec).unwrap_or(0));
        let inode = time(stat.st_ctime as i64, i64::try_from(stat.st_ctime_nsec).unwrap_or(0));
        Self {
            kind: FileType::from_raw_mode(stat.st_mode),
            identity: (u64::from(stat.st_dev), u64::from(stat.st_ino)),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified,
            changed: modified.max(inode),
        }
    }
}

/// A regular file that was opened as said above.
#[derive(Debug)]
pub(super) struct LogFile {
    /// The handle. Read by position only.
    pub(super) file: File,
    /// What it was when it was opened.
    pub(super) facts: Facts,
    /// Relative to the host root, for messages.
    pub(super) path: PathBuf,
}

impl LogFile {
    /// The size now: it may have grown, or shrunk.
    pub(super) fn size_now(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

/// The names of a directory.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Sorted, without `.` and `..`.
    pub(super) entries: Vec<(OsString, EntryKind)>,
    /// Whether there are more, or so many of any kind that they were not all looked at.
    pub(super) more: bool,
}

impl Names {
    /// Those that begin with this.
    pub(super) fn beginning_with<'n>(&'n self, begin: &'n OsStr) -> impl Iterator<Item = &'n OsStr> {
        let first = self.entries.partition_point(|(name, _)| name.as_os_str() < begin);
        let all = self.entries[first..].iter().map(|(name, _)| name.as_os_str());
        all.take_while(|name| name.as_bytes().starts_with(begin.as_bytes()))
    }
}

/// When names in a directory were changed last, as it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    changed: WallTime,
    /// Whether that is so long ago that the next change cannot bear the same time: file systems count in ticks of the
    /// kernel, of up to 10 ms.
    settled: bool,
}

/// See [`Version`]; and some more, because it costs nothing.
const TICK: Duration = Duration::from_millis(50);

/// What lies in a directory and when that was so.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) names: Names,
    pub(super) version: Version,
}

/// A directory that is held open.
#[derive(Debug)]
pub(super) struct Dir {
    dir: host::Dir,
}

impl Dir {
    /// A directory that the operator or the distribution chose (`var/log/pods`), below the host root. Mounts may be
    /// crossed on the way to it, because `/var/log` often is one, and in a container always; links may not be followed.
    pub(super) fn base(host: &Host, path: impl AsRef<Path>) -> Result<Self, HostError> {
        Ok(Self { dir: host.strict_dir(path)? })
    }

    /// Where it lies, relative to the host root.
    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A directory in this one, on the same mount.
    pub(super) fn dir(&self, name: &OsStr) -> Result<Self, HostError> {
        Ok(Self { dir: self.dir.dir(name)? })
    }

    /// A regular file in this one, on the same mount.
    ///
    /// Its kind is looked at before it is opened as well as after: opening a device can do things, and only a race
    /// should get as far as the second look.
    pub(super) fn file(&self, name: &OsStr) -> Result<LogFile, HostError> {
        let path = self.path().join(name);
        regular(self.stat(name)?.kind, &path)?;
        let file = self.dir.open(name)?;
        let facts = fstat(&file).map(|s| Facts::of(&s)).map_err(|e| failed("stat", &path, e))?;
        regular(facts.kind, &path)?;
        Ok(LogFile { file, facts, path })
    }

    /// What lies under a name, without opening or following it.
    pub(super) fn stat(&self, name: &OsStr) -> Result<Facts, HostError> {
        statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW)
            .map(|s| Facts::of(&s))
            .map_err(|e| failed("stat", &self.path().join(name), e))
    }

    /// To be asked before its names are; [`Dir::is_still`] then says whether they can have changed.
    pub(super) fn version(&self) -> Result<Version, HostError> {
        let facts = fstat(&self.dir).map(|s| Facts::of(&s)).map_err(|e| failed("stat", self.path(), e))?;
        let now = clock_gettime(ClockId::RealtimeCoarse);
        let now = WallTime::from_secs(now.tv_sec).offset(now.tv_nsec);
        Ok(Version { changed: facts.changed, settled: facts.changed.after(TICK) < now })
    }

    /// Whether no name in it has changed since this version was asked for.
    pub(super) fn is_still(&self, version: Version) -> bool {
        version.settled && self.version().is_ok_and(|now| now.changed == version.changed)
    }

    /// Its names and when they were asked for.
    pub(super) fn list(&mut self, wanted: impl Fn(&OsStr) -> bool) -> Result<Listing, HostError> {
        let version = self.version()?;
        Ok(Listing { names: self.names(wanted)?, version })
    }

    /// Its names, as far as they are wanted: what else lies in the directory takes no room from them.
    pub(super) fn names(&mut self, wanted: impl Fn(&OsStr) -> bool) -> Result<Names, HostError> {
        let mut names = Names::default();
        let listed = self.dir.each(&mut |name, kind| {
            if !wanted(name) {
                return;
            }
            if names.entries.len() < MAX_NAMES {
                names.entries.push((name.to_owned(), kind));
            } else {
                names.more = true;
            }
        });
        match listed {
            Ok(()) => {}
            Err(HostError::TooLarge { .. }) => names.more = true,
            Err(e) => return Err(e),
        }
        names.entries.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(names)
    }
}

/// What a failure to open means for the evidence.
pub(super) fn gap(error: &HostError) -> Gap {
    let reason = match error {
        e if e.is_permission() => GapReason::PermissionDenied,
        e if e.is_not_found() => GapReason::SourceAbsent,
        HostError::Refused { .. } => GapReason::RefusedUnsafePath,
        HostError::Io { .. } | HostError::TooLarge { .. } => GapReason::SourceFailed,
    };
    let why = error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
    Gap::new(reason, why)
}

/// A directory has more names than are looked at.
pub(super) fn too_many(dir: &Path) -> Gap {
    let why = format!("/{} holds too many names: not all were looked at", dir.display());
    Gap::new(GapReason::Budget, why)
}

fn failed(doing: &'static str, path: &Path, errno: rustix::io::Errno) -> HostError {
    HostError::Io { doing, path: path.to_owned(), source: errno.into() }
}

fn regular(kind: FileType, path: &Path) -> Result<(), HostError> {
    let why = match kind {
        FileType::RegularFile => return Ok(()),
        FileType::Symlink => "it is a link",
        FileType::Directory => "it is a directory",
        FileType::Fifo => "it is a pipe",
        FileType::Socket => "it is a socket",
        FileType::BlockDevice | FileType::CharacterDevice => "it is a device",
        FileType::Unknown => "it is no regular file",
    };
    Err(HostError::Refused { path: path.to_owned(), why })
}
