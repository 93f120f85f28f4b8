//! A disk so small that a test can fill it, and give room back: a tmpfs of its own below a rig, or an ext4 in a file
//! where a test needs what only a real file system does.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::program::{said, tool};

/// What is written at once to fill it up: its last page too.
const PIECE: usize = 4096;

/// A mounted file system; unmounted when it is dropped.
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
        Self::mounted(at, tool("mount")?.args(["-t", "tmpfs", "-o", &format!("size={kib}k,mode=0700"), "small"]))
    }

    /// The same as an ext4 of so many MiB in a file beside it, made with these arguments more.
    pub fn ext4(at: &Path, mib: u64, arguments: &[&str]) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root may mount a small disk");
            return None;
        }
        let image = at.with_extension("img");
        File::create(&image).and_then(|file| file.set_len(mib << 20)).expect("make the file of a disk");
        let made =
            tool("mkfs.ext4")?.args(["-q", "-F", "-m", "0"]).args(arguments).arg(&image).output().expect("run mkfs");
        assert!(made.status.success(), "{}", said(&made));
        Self::mounted(at, tool("mount")?.args(["-o", "loop"]).arg(&image))
    }

    fn mounted(at: &Path, mount: &mut std::process::Command) -> Option<Self> {
        fs::create_dir_all(at).expect("make the mount point");
        let mounted = mount.arg(at).output().expect("run mount");
        if !mounted.status.success() {
            eprintln!("skipped: no small disk: {}", said(&mounted));
            return None;
        }
        Some(Self { at: at.to_owned() })
    }

    /// From now on whoever writes waits, until what this returns is dropped. Only on [`SmallDisk::ext4`]. `None`, said on
    /// standard error, where that cannot be done.
    pub fn freeze(&self) -> Option<Frozen<'_>> {
        let done = tool("fsfreeze")?.arg("--freeze").arg(&self.at).output().expect("run fsfreeze");
        if !done.status.success() {
            eprintln!("skipped: the disk cannot be frozen: {}", said(&done));
            return None;
        }
        Some(Frozen(self))
    }

    /// Makes the kernel find an error on it, and so make it read-only: as a disk that fails does. Only on
    /// [`SmallDisk::ext4`] made with `-e remount-ro`. `false`, said on standard error, where that cannot be done.
    pub fn fail(&self) -> bool {
        let mounts = fs::read("/proc/self/mountinfo").expect("read the mounts");
        let mounts = String::from_utf8_lossy(&mounts);
        let at = fs::canonicalize(&self.at).expect("the mount point is there");
        let at = at.to_str().expect("a plain path");
        let device = mounts.lines().find(|line| line.split(' ').nth(4) == Some(at)).and_then(|line| {
            line.split_once(" - ").and_then(|(_, rest)| rest.split(' ').nth(1)).and_then(|d| d.strip_prefix("/dev/"))
        });
        let trigger = Path::new("/sys/fs/ext4").join(device.expect("the disk is mounted")).join("trigger_fs_error");
        match fs::write(&trigger, "by a test") {
            Ok(()) => true,
            Err(error) => {
                eprintln!("skipped: {}: {error}", trigger.display());
                false
            }
        }
    }

    /// Takes all the files that are left, with nothing in them.
    pub fn use_up_files(&self) {
        let dir = self.path("many");
        fs::create_dir_all(&dir).expect("make a directory for files");
        for n in 0.. {
            match File::create(dir.join(format!("{n}"))) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return,
                Err(error) => panic!("use up the files: {error}"),
            }
        }
    }

    /// Gives back what [`SmallDisk::use_up_files`] took.
    pub fn give_files_back(&self) {
        fs::remove_dir_all(self.path("many")).expect("remove the files");
    }

    /// A path on it.
    pub fn path(&self, below: &str) -> PathBuf {
        self.at.join(below)
    }

    /// Takes the room that is left but for so many KiB.
    pub fn fill_to(&self, left_kib: u64) {
        let free =
            rustix::fs::statvfs(&self.at).map(|found| found.f_bavail * found.f_frsize).expect("look at the disk");
        let take = free.saturating_sub(left_kib << 10);
        let mut file = File::create(self.path("ballast")).expect("make the ballast");
        for _ in 0..take / PIECE as u64 {
            file.write_all(&[0; PIECE]).expect("there is room");
        }
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

/// A disk that hangs, until this is dropped.
pub struct Frozen<'a>(&'a SmallDisk);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let done = tool("fsfreeze").map(|mut thaw| thaw.arg("--unfreeze").arg(&self.0.at).output());
        if !matches!(&done, Some(Ok(output)) if output.status.success()) {
            eprintln!("{} stays frozen: {done:?}", self.0.at.display());
        }
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
