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
use std::path::{Path, PathBuf};

use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::time::WallTime;
use rustix::fs::{AtFlags, FileType, Stat, fstat, statat};

use crate::host::{self, EntryKind, Host, HostError};

/// The most names that are taken from one directory: 256 bytes each, so that a directory with a million files costs no
/// more than a few megabytes.
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
    /// Whether there are more than [`MAX_NAMES`].
    pub(super) more: bool,
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

    /// Its names.
    pub(super) fn names(&mut self) -> Result<Names, HostError> {
        let mut names = Names::default();
        let listed = self.dir.each(&mut |name, kind| {
            if names.entries.len() < MAX_NAMES {
                names.entries.push((name.to_owned(), kind));
            } else {
                names.more = true;
            }
        });
        match listed {
            Err(e) if !matches!(e, HostError::TooLarge { .. }) => return Err(e),
            _ => names.entries.sort_by(|a, b| a.0.cmp(&b.0)),
        }
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
    let why = format!("/{} holds more than {MAX_NAMES} names: the rest was not looked at", dir.display());
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
