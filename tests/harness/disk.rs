//! A disk so small that a test can fill it, and give room back: a tmpfs of its own below a rig.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::program::{said, tool};

/// What is written at once to fill it up: its last page too.
const PIECE: usize = 4096;

/// A mounted tmpfs; unmounted when it is dropped.
pub struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Mounts one of this size at a path that is made. `None`, said on standard error, where a file system may not be
    /// mounted: that is a privilege, not a tool, and many machines that build this do not give it.
    pub fn mount(at: &Path, kib: u32) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root may mount a small disk to fill");
            return None;
        }
        fs::create_dir_all(at).expect("make the mount point");
        let mounted = tool("mount")?
            .args(["-t", "tmpfs", "-o", &format!("size={kib}k,mode=0700"), "small"])
            .arg(at)
            .output()
            .expect("run mount");
        if !mounted.status.success() {
            eprintln!("skipped: no small disk to fill: {}", said(&mounted));
            return None;
        }
        Some(Self { at: at.to_owned() })
    }

    /// A path on it.
    pub fn path(&self, below: &str) -> PathBuf {
        self.at.join(below)
    }

    /// Takes all the room that is left.
    pub fn fill(&self) {
        let mut file = File::create(self.path("ballast")).expect("make the ballast");
        loop {
            match file.write_all(&[0; PIECE]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return,
                Err(error) => panic!("fill the small disk: {error}"),
            }
        }
    }

    /// Gives back what [`SmallDisk::fill`] took.
    pub fn make_room(&self) {
        fs::remove_file(self.path("ballast")).expect("remove the ballast");
    }

    /// Mounted again so that nothing can be written.
    pub fn make_read_only(&self) {
        let done = tool("mount").expect("it was there before").args(["-o", "remount,ro"]).arg(&self.at).output();
        assert!(done.as_ref().is_ok_and(|d| d.status.success()), "{done:?}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a program that a failed test left behind must not keep it.
        let done = tool("umount").map(|mut umount| umount.arg("-l").arg(&self.at).output());
        if !matches!(&done, Some(Ok(output)) if output.status.success()) {
            eprintln!("{} stays mounted: {done:?}", self.at.display());
        }
    }
}
