//! The data directory: who may use it, and where everything lies below it.
//!
//! Paths are built from numbers that the index gave out, never from a string that came in. What is in the files is
//! their writers' business.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use casefile_evidence::directory;
use casefile_proto::ids::IncidentId;
use rustix::fs::FlockOperation;

/// What an archive is called while it is written.
pub const PARTIAL: &str = ".partial";

/// The most that is read of a lock or address file: both are one short line.
const SHORT: u64 = 256;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Another collector uses it.
    #[error(
        "{path} is in use by another collector{}: two would overwrite each other's evidence. Stop that one, or choose \
         another directory with --data",
        holder(*pid)
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The other's process id, where its lock file says it.
        pid: Option<u32>,
    },
    /// The file system said no.
    #[error("{doing} {path}{}", hint(source))]
    Io {
        /// What we were doing, such as `make the directory`.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

/// What a refusal of the file system means for the evidence, and what to try. Empty where the error says enough.
pub fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            " (nothing can be kept there: choose a directory that this user can write, with --data)"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            " (no room: new evidence cannot be kept until some is freed; what was acknowledged is safe)"
        }
        _ => "",
    }
}

/// A data directory that this process alone uses, for as long as the value lives.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the directory (0700) if need be, takes its lock, and removes what an earlier collector left half written.
    pub fn open(root: &Path) -> Result<Self, DataError> {
        make(root)?;
        let root = fs::canonicalize(root).map_err(io_error("find the directory", root))?;
        let lock = take_lock(&root)?;
        let data = Self { root, _lock: lock };
        for dir in [data.archives(), data.last_words(), data.spools(), data.keys()] {
            make(&dir)?;
        }
        data.remove_partials()?;
        Ok(data)
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The index.
    pub fn index(&self) -> PathBuf {
        self.root.join("index.sqlite")
    }

    /// The signing key.
    pub fn key(&self) -> PathBuf {
        key_below(&self.root)
    }

    /// The keys, the authority, and the owner's token.
    pub fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// The audit log.
    pub fn audit(&self) -> PathBuf {
        audit_below(&self.root)
    }

    /// The key with which agents replace secrets.
    pub fn redaction_key(&self) -> PathBuf {
        self.root.join("keys").join("redaction.json")
    }

    /// The results of tests of connectivity; what is older lies beside it.
    pub fn connectivity(&self) -> PathBuf {
        self.root.join("connectivity.jsonl")
    }

    /// The last words of all nodes.
    pub fn last_words(&self) -> PathBuf {
        self.root.join("last-words")
    }

    /// The sealed archives.
    pub fn archives(&self) -> PathBuf {
        self.root.join("archives")
    }

    /// The spools of all incidents.
    pub fn spools(&self) -> PathBuf {
        self.root.join("spool")
    }

    /// Everything that arrived for one incident.
    pub fn spool(&self, incident: IncidentId) -> PathBuf {
        self.spools().join(incident.0.to_string())
    }

    /// What one node, by its number, sent for one incident.
    pub fn spool_of(&self, incident: IncidentId, node: u64) -> PathBuf {
        self.spool(incident).join(node.to_string())
    }

    /// Writes down where the API listens, so that `casefile --data DIR` finds it.
    pub fn write_address(&self, addr: SocketAddr) -> Result<(), DataError> {
        let path = self.root.join("address");
        let new = self.root.join("address.new");
        fs::write(&new, format!("{addr}\n")).map_err(io_error("write", &new))?;
        fs::rename(&new, &path).map_err(io_error("write", &path))
    }

    /// The address is not valid any more. Best effort: a reader that follows a stale one is refused a connection.
    pub fn remove_address(&self) {
        if let Err(error) = fs::remove_file(self.root.join("address")) {
            tracing::debug!(%error, "the address file could not be removed");
        }
    }

    fn remove_partials(&self) -> Result<(), DataError> {
        let dir = self.archives();
        for entry in fs::read_dir(&dir).map_err(io_error("list", &dir))? {
            let path = entry.map_err(io_error("list", &dir))?.path();
            if path.as_os_str().as_encoded_bytes().ends_with(PARTIAL.as_bytes()) {
                fs::remove_file(&path).map_err(io_error("remove the unfinished", &path))?;
                tracing::info!(path = %path.display(), "removed an archive that was never finished");
            }
        }
        Ok(())
    }
}

/// Where the audit log of a data directory lies, whoever reads it.
pub fn audit_below(root: &Path) -> PathBuf {
    root.join("audit.jsonl")
}

/// Where the owner's token of a data directory lies: whoever can read it may do everything.
pub fn owner_token_below(root: &Path) -> PathBuf {
    root.join("keys").join("owner.token")
}

/// Where the signing key of a data directory lies, whoever uses it.
pub fn key_below(root: &Path) -> PathBuf {
    root.join("keys").join("signing")
}

fn make(dir: &Path) -> Result<(), DataError> {
    directory::make(dir).map_err(io_error("make the directory", dir))
}

/// The lock is the kernel's, so it goes with its process; the number in the file is only for the message.
fn take_lock(root: &Path) -> Result<File, DataError> {
    let path = root.join("collector.lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(io_error("open", &path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            // Without the number the message is still true.
            let pid = file.take(SHORT).read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(DataError::InUse { path: root.to_owned(), pid });
        }
        Err(errno) => return Err(io_error("lock", &path)(errno.into())),
    }
    let written = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .and_then(|()| file.flush());
    written.map_err(io_error("write", &path))?;
    Ok(file)
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataError {
    let path = path.to_owned();
    move |source| DataError::Io { doing, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_second_collector_on_the_same_directory_is_refused_and_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).unwrap();
        let refused = DataDir::open(dir.path()).unwrap_err();
        let pid = std::process::id();
        assert!(matches!(&refused, DataError::InUse { pid: Some(p), .. } if *p == pid), "{refused}");
        assert!(refused.to_string().contains(&format!("(process {pid})")), "{refused}");
        drop(first);
        DataDir::open(dir.path()).unwrap();
    }

    #[test]
    fn a_new_directory_is_private_and_unfinished_archives_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("a/data");
        drop(DataDir::open(&root).unwrap());
        assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o700);
        let archives = root.join("archives");
        fs::write(archives.join("INC-000001.tar.gz.partial"), "x").unwrap();
        fs::write(archives.join("INC-000001.tar.gz"), "y").unwrap();
        drop(DataDir::open(&root).unwrap());
        let left: Vec<_> = fs::read_dir(&archives).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["INC-000001.tar.gz"]);
    }

    #[test]
    fn a_directory_that_cannot_be_made_says_what_to_try() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        let refused = DataDir::open(&file.join("data")).unwrap_err();
        assert!(refused.to_string().starts_with("make the directory "), "{refused}");
        let full = DataError::Io { doing: "write", path: file, source: io::Error::from(rustix::io::Errno::NOSPC) };
        assert!(full.to_string().contains("no room"), "{full}");
    }
}
