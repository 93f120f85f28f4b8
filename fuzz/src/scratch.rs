//! A directory in memory for parsers that want files, one for each thread.

use std::path::{Path, PathBuf};
use std::{fs, io};

use tempfile::TempDir;

/// A directory that is gone with whoever holds it; in memory where the machine has a place for that.
pub(crate) struct Scratch {
    dir: TempDir,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
        Self { dir: dir.unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file, making the directories on the way to it.
    pub(crate) fn write(&self, path: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(path);
        if let Err(e) = fs::write(&path, bytes) {
            assert_eq!(e.kind(), io::ErrorKind::NotFound, "{e}");
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, bytes).unwrap();
        }
        path
    }

    /// Removes all that is in it.
    pub(crate) fn clear(&self) {
        for entry in fs::read_dir(self.dir.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
    }
}
