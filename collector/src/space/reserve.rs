//! A file that holds space which is needed later: to seal what was gathered, and to write down who did what, on a disk
//! that is full. Giving it up makes that room; nothing is ever read from it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use casefile_proto::units::Bytes;
use rustix::fs::FallocateFlags;

/// The reserve of one data directory.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    /// Held now.
    held: Bytes,
}

impl Reserve {
    /// What an earlier collector left there is taken over.
    pub(super) fn at(path: PathBuf) -> Self {
        // A file that is not there, or cannot be looked at, holds nothing that could be given up.
        let held = fs::metadata(&path).map_or(0, |m| m.len());
        Self { path, held: Bytes(held) }
    }

    pub(super) fn held(&self) -> Bytes {
        self.held
    }

    /// Makes it this large. An error leaves nothing of it.
    pub(super) fn take(&mut self, size: Bytes) -> io::Result<()> {
        let taken = allocate(&self.path, size);
        match taken {
            Ok(()) => self.held = size,
            Err(_) => drop(self.give_up()),
        }
        taken
    }

    /// Gives the space back. Says how much it was.
    pub(super) fn give_up(&mut self) -> io::Result<Bytes> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(std::mem::replace(&mut self.held, Bytes(0))),
        }
    }
}

fn allocate(path: &Path, size: Bytes) -> io::Result<()> {
    let file: File = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, size.0)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn it_holds_blocks_until_it_is_given_up_and_is_found_again_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reserve");
        let mut reserve = Reserve::at(path.clone());
        assert_eq!(reserve.held(), Bytes(0));
        reserve.take(Bytes::mib(1)).unwrap();
        assert!(fs::metadata(&path).unwrap().blocks() * 512 >= 1 << 20, "it is no hole");
        let mut next = Reserve::at(path.clone());
        assert_eq!((next.held(), next.give_up().unwrap()), (Bytes::mib(1), Bytes::mib(1)));
        assert!(!path.exists());
        assert_eq!(next.give_up().unwrap(), Bytes(0), "there was nothing left to give");
    }
}
