//! Why something of the host could not be read, and what that means: not there, not permitted, switched off, refused.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// Why something of the host could not be read.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The file system said no; `NotFound` is how most things say that this machine has none.
    #[error("{doing} /{path}")]
    Io {
        /// `open`, `read`, `list`.
        doing: &'static str,
        /// Below the root.
        path: PathBuf,
        /// What it said.
        #[source]
        source: std::io::Error,
    },
    /// It is larger than the reader's cap.
    #[error("/{path} is larger than {cap}")]
    TooLarge {
        /// Below the root.
        path: PathBuf,
        /// The cap: bytes, or names in a directory.
        cap: usize,
    },
    /// It is a link, a device, a pipe, or lies on another file system than it should.
    #[error("/{path} is refused: {why}")]
    Refused {
        /// Below the root.
        path: PathBuf,
        /// What it is.
        why: &'static str,
    },
}

impl HostError {
    pub(super) fn new(doing: &'static str, path: &Path, errno: Errno) -> Self {
        let path = path.strip_prefix("/").unwrap_or(path).to_owned();
        match errno {
            Errno::LOOP => Self::Refused { path, why: "it leads through a link" },
            Errno::XDEV => Self::Refused { path, why: "it leads out of its tree or into another mount" },
            other => Self::Io { doing, path, source: other.into() },
        }
    }

    /// What another process was told by the file system, or why nothing came of asking it.
    pub(crate) fn at(doing: &'static str, path: PathBuf, source: std::io::Error) -> Self {
        Self::Io { doing, path, source }
    }

    /// What the file system said, where it was the file system.
    pub(crate) fn errno(&self) -> Option<Errno> {
        match self {
            Self::Io { source, .. } => Errno::from_io_error(source),
            Self::TooLarge { .. } | Self::Refused { .. } => None,
        }
    }

    /// Whether the thing is not there (as opposed to: may not be read, broke). A process that has gone (`ESRCH`) and a
    /// cgroup that was removed under an open file (`ENODEV`) are not there either.
    pub fn is_not_found(&self) -> bool {
        matches!(self.errno(), Some(Errno::NOENT | Errno::SRCH | Errno::NODEV | Errno::NOTDIR | Errno::NXIO))
    }

    /// Whether the agent may not read it.
    pub fn is_permission(&self) -> bool {
        matches!(self.errno(), Some(Errno::ACCESS | Errno::PERM))
    }

    /// Whether the file is there and the kernel says that what it would show is switched off (`EOPNOTSUPP`: PSI).
    pub fn is_unsupported(&self) -> bool {
        matches!(self.errno(), Some(Errno::OPNOTSUPP | Errno::NOSYS))
    }
}
