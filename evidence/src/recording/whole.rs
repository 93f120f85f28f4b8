//! Syncing thousands of files at once: one `syncfs(2)` of the file system instead of an `fdatasync(2)` for each.
//!
//! Only where the file system is known to make everything that was written durable by it, and to report what it could not
//! write: ext4, XFS and btrfs on Linux 5.8 and newer. In user space `syncfs` may be a promise of nobody, so elsewhere every file
//! is synced by itself.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{fstatfs, syncfs};

/// The magic numbers of file systems that keep the promise (linux/magic.h).
const TRUSTED: [u64; 3] = [0xEF53, 0x5846_5342, 0x9123_683E];

/// A file system.
#[derive(Debug)]
pub(crate) struct Whole {
    /// Open for as long as it is used: errors of writing are reported once to each open file.
    dir: File,
}

impl Whole {
    /// That of this directory. `None`: it is not trusted to be synced as a whole.
    pub(crate) fn of(dir: &Path) -> Option<Self> {
        let dir = File::open(dir).ok()?;
        let kind = u64::try_from(fstatfs(&dir).ok()?.f_type).ok()?;
        (TRUSTED.contains(&kind) && newer_than_5_8()).then_some(Self { dir })
    }

    /// Everything that was written is on the disk when this returns.
    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(syncfs(&self.dir)?)
    }
}

/// Before, `syncfs` said that all was well whatever had happened.
fn newer_than_5_8() -> bool {
    let uname = rustix::system::uname();
    let mut numbers = uname.release().to_str().unwrap_or("").split(['.', '-']).map_while(|n| n.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(5), Some(8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_is_synced_as_a_whole_or_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "b").unwrap();
        if let Some(disk) = Whole::of(dir.path()) {
            disk.sync().unwrap();
        }
        assert!(Whole::of(Path::new("/proc")).is_none());
        assert!(Whole::of(&dir.path().join("none")).is_none());
    }
}
