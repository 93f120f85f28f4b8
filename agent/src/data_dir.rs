//! The agent's own directory: made if need be, and refused unless it is ours alone. The ring holds what only root may
//! read, so nobody else may look in, and nobody else may have put a link there.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use casefile_evidence::directory;

/// What a refusal of the file system means for the evidence, and what to try. Empty where the error says enough.
fn hint(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
            " (nothing can be recorded there: give data_dir a directory that this user can write)"
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            " (no room: nothing can be recorded there until some is freed)"
        }
        _ => "",
    }
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// The file system said no.
    #[error("{doing} {path}{}", hint(source))]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What it said.
        #[source]
        source: std::io::Error,
    },
    /// It is not ours alone.
    #[error("{path} is refused: {why}; give the agent a directory of its own (chmod 0700)")]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// The directory of the recording.
pub const RING: &str = "ring";

/// The file of the key with which secrets are masked.
pub const REDACTION_KEY: &str = "redaction.key";

/// The file in which it is remembered which GPUs there were.
pub const GPUS: &str = "gpus.json";

/// The file of the certificate.
pub const IDENTITY: &str = "identity.json";

/// The file in which the token is looked for with which a node joins.
pub const JOIN_TOKEN: &str = "join-token";

/// The directory and what is below it.
#[derive(Debug, Clone)]
pub struct DataDir {
    /// The recording.
    pub ring: PathBuf,
    /// Items on their way up.
    pub spool: PathBuf,
    /// The key with which secrets are masked.
    pub redaction_key: PathBuf,
    /// The certificate with which the agent shows who it is.
    pub identity: PathBuf,
    /// Which GPUs there were, in this boot and the one before it.
    pub gpus: PathBuf,
}

impl DataDir {
    /// Makes the directory (0700) or checks the one that is there: a directory and no link, owned by this user, closed
    /// to all others. An empty one that is merely too open is closed: that is how Kubernetes makes them.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let failed = |doing| move |source| DataDirError::Io { doing, path: path.to_owned(), source };
        match std::fs::symlink_metadata(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => directory::make(path).map_err(failed("make"))?,
            Err(e) => return Err(failed("look at")(e)),
            // Whoever made it may have been killed before its name was on the disk.
            Ok(meta) if meta.is_dir() => directory::make(path).map_err(failed("sync"))?,
            Ok(_) => {}
        }
        let meta = std::fs::symlink_metadata(path).map_err(failed("look at"))?;
        let refused = |why: String| Err(DataDirError::NotOurs { path: path.to_owned(), why });
        if !meta.is_dir() {
            return refused("it is no directory".to_owned());
        }
        let own = rustix::process::geteuid().as_raw();
        if meta.uid() != own {
            return refused(format!("it belongs to user {}, and we are {own}", meta.uid()));
        }
        if meta.mode() & 0o077 != 0 {
            let empty = std::fs::read_dir(path).map_err(failed("list"))?.next().is_none();
            if !empty {
                return refused(format!("others may enter it (mode {:04o})", meta.mode() & 0o7777));
            }
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).map_err(failed("close"))?;
        }
        Ok(Self {
            ring: path.join(RING),
            spool: path.join("spool"),
            redaction_key: path.join(REDACTION_KEY),
            identity: path.join(IDENTITY),
            gpus: path.join(GPUS),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_directory_is_made_for_us_alone() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("a/b");
        DataDir::open(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn an_open_directory_is_closed_when_empty_and_refused_when_not() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("d");
        std::fs::create_dir(&path).unwrap();
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, open.clone()).unwrap();
        DataDir::open(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        std::fs::set_permissions(&path, open).unwrap();
        std::fs::write(path.join("planted"), "").unwrap();
        assert!(matches!(DataDir::open(&path), Err(DataDirError::NotOurs { .. })));
    }

    #[test]
    fn a_link_and_a_file_are_refused() {
        let tmp = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(tmp.path(), tmp.path().join("link")).unwrap();
        std::fs::write(tmp.path().join("file"), "").unwrap();
        for name in ["link", "file"] {
            assert!(matches!(DataDir::open(&tmp.path().join(name)), Err(DataDirError::NotOurs { .. })), "{name}");
        }
    }
}
