//! The disk, mounted: FUSE requests in, [`super::disk`] asked, answers out. After the power has failed every request is an
//! error, so that nothing that happens from then on can be taken for synced.
//!
//! The kernel writes through its cache: a write of a program is a request before it returns.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use casefile_tests::program::tool;
use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::disk::{Disk, Fate, FileData, Kind, Names, Refused};
use crate::random::Random;

/// How long the kernel may keep names and attributes: every change comes through it.
const KEEP: Duration = Duration::from_secs(3_600);

/// A disk that is mounted until it is dropped.
pub(crate) struct Mounted {
    shared: Arc<Mutex<Shared>>,
    session: Option<BackgroundSession>,
    at: PathBuf,
}

struct Shared {
    disk: Disk,
    power: Power,
    /// Changes until the power fails by itself: in the midst of what a program does, before it can sync it.
    left: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    On,
    Off,
}

impl Mounted {
    /// Mounts it at a directory, which is made.
    pub(crate) fn mount(disk: Disk, at: &Path) -> Result<Self> {
        std::fs::create_dir_all(at).with_context(|| format!("make {}", at.display()))?;
        let shared = Arc::new(Mutex::new(Shared { disk, power: Power::On, left: None }));
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::FSName("casefile-exam".to_owned()),
            MountOption::NoAtime,
            MountOption::DefaultPermissions,
        ];
        let session = fuser::spawn_mount(Requests(Arc::clone(&shared)), at, &config)
            .with_context(|| format!("mount a disk at {}", at.display()))?;
        Ok(Self { shared, session: Some(session), at: at.to_owned() })
    }

    /// The power fails now. What is left, and what became of what was not synced.
    pub(crate) fn cut(&self, random: &mut Random) -> (Disk, Fate) {
        let mut shared = lock(&self.shared);
        shared.power = Power::Off;
        shared.disk.cut(random)
    }

    /// The power will fail by itself after so many more changes, right behind the last of them.
    pub(crate) fn fail_after(&self, changes: u64) {
        lock(&self.shared).left = Some(changes);
    }

    /// Whether it has.
    pub(crate) fn has_failed(&self) -> bool {
        lock(&self.shared).power == Power::Off
    }

    /// Unmounts, once nobody uses it any more.
    pub(crate) fn unmount(mut self) -> Result<()> {
        let Some(session) = self.session.take() else { return Ok(()) };
        match session.umount_and_join() {
            // The thread that serves may be told of the end in other words than it knows; what counts is that it is gone.
            Err(error) if self.is_mounted().unwrap_or(true) => Err(error).context("unmount the disk"),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn is_mounted(&self) -> std::io::Result<bool> {
        let above = self.at.parent().unwrap_or(&self.at);
        Ok(std::fs::metadata(&self.at)?.dev() != std::fs::metadata(above)?.dev())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        lock(&self.shared).power = Power::Off;
        // Lazily: a program that an item left behind must not keep it.
        let done = tool("umount").map(|mut umount| umount.arg("-l").arg(&self.at).output());
        if !matches!(&done, Some(Ok(output)) if output.status.success()) {
            eprintln!("{} stays mounted: {done:?}", self.at.display());
        }
        drop(session);
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Requests(Arc<Mutex<Shared>>);

impl Requests {
    /// The disk, as long as there is power.
    fn disk<T>(&self, work: impl FnOnce(&mut Disk) -> Result<T, Refused>) -> Result<T, Errno> {
        let mut shared = lock(&self.0);
        if shared.power == Power::Off {
            return Err(Errno::EIO);
        }
        work(&mut shared.disk).map_err(errno)
    }

    /// The same, when it changes something.
    fn change<T>(&self, work: impl FnOnce(&mut Disk) -> Result<T, Refused>) -> Result<T, Errno> {
        let done = self.disk(work)?;
        let mut shared = lock(&self.0);
        if let Some(left) = &mut shared.left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                shared.power = Power::Off;
            }
        }
        Ok(done)
    }

    fn attributes(&self, number: u64) -> Result<FileAttr, Errno> {
        self.disk(|disk| attributes(disk, number))
    }
}

fn errno(refused: Refused) -> Errno {
    match refused {
        Refused::NotFound => Errno::ENOENT,
        Refused::Exists => Errno::EEXIST,
        Refused::NotADirectory => Errno::ENOTDIR,
        Refused::IsADirectory => Errno::EISDIR,
        Refused::NotEmpty => Errno::ENOTEMPTY,
    }
}

fn attributes(disk: &Disk, number: u64) -> Result<FileAttr, Refused> {
    let node = disk.node(number)?;
    let (kind, size) = match &node.kind {
        Kind::File(file) => (FileType::RegularFile, file.now.len() as u64),
        Kind::Directory(_) => (FileType::Directory, 0),
    };
    Ok(FileAttr {
        ino: INodeNo(number),
        size,
        blocks: size.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm: u16::try_from(node.mode & 0o7777).unwrap_or(0o700),
        nlink: 1,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    })
}

fn empty(done: Result<(), Errno>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

impl Filesystem for Requests {
    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.disk(|disk| disk.lookup(parent.0, name).and_then(|number| attributes(disk, number))) {
            Ok(attr) => reply.entry(&KEEP, &attr, Generation(0)),
            Err(errno) => reply.error(errno),
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(ino.0) {
            Ok(attr) => reply.attr(&KEEP, &attr),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let done = self.change(|disk| {
            if let Some(mode) = mode {
                disk.set_mode(ino.0, mode)?;
            }
            if let Some(size) = size {
                disk.set_length(ino.0, size)?;
            }
            attributes(disk, ino.0)
        });
        match done {
            Ok(attr) => reply.attr(&KEEP, &attr),
            Err(errno) => reply.error(errno),
        }
    }

    fn mkdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let made = self.change(|disk| {
            let number = disk.make(parent.0, name, mode & !umask, Kind::Directory(Names::default()))?;
            attributes(disk, number)
        });
        match made {
            Ok(attr) => reply.entry(&KEEP, &attr, Generation(0)),
            Err(errno) => reply.error(errno),
        }
    }

    fn create(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let made = self.change(|disk| {
            let number = disk.make(parent.0, name, mode & !umask, Kind::File(FileData::default()))?;
            attributes(disk, number)
        });
        match made {
            Ok(attr) => reply.created(&KEEP, &attr, Generation(0), FileHandle(0), FopenFlags::empty()),
            Err(errno) => reply.error(errno),
        }
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.change(|disk| disk.unlink(parent.0, name)), reply);
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.change(|disk| disk.rmdir(parent.0, name)), reply);
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let done = self.change(|disk| {
            if flags.contains(RenameFlags::RENAME_NOREPLACE) && disk.lookup(newparent.0, newname).is_ok() {
                return Err(Refused::Exists);
            }
            disk.rename((parent.0, name), (newparent.0, newname))
        });
        empty(done, reply);
    }

    fn link(&self, _req: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        match self.change(|disk| disk.link(ino.0, newparent.0, newname).and_then(|()| attributes(disk, ino.0))) {
            Ok(attr) => reply.entry(&KEEP, &attr, Generation(0)),
            Err(errno) => reply.error(errno),
        }
    }

    fn open(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.attributes(ino.0) {
            // What the kernel has of it is true: nobody else writes.
            Ok(_) => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE),
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = self.disk(|disk| match &disk.node(ino.0)?.kind {
            Kind::File(file) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX).min(file.now.len());
                let until = from.saturating_add(usize::try_from(size).unwrap_or(usize::MAX)).min(file.now.len());
                Ok(file.now[from..until].to_vec())
            }
            Kind::Directory(_) => Err(Refused::IsADirectory),
        });
        match read {
            Ok(bytes) => reply.data(&bytes),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.change(|disk| disk.write(ino.0, offset, data)) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(errno) => reply.error(errno),
        }
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        // Closing a file makes nothing certain.
        reply.ok();
    }

    fn fsync(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        empty(self.disk(|disk| disk.sync(ino.0)), reply);
    }

    fn fsyncdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        empty(self.disk(|disk| disk.sync(ino.0)), reply);
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listed = self.disk(|disk| match &disk.node(ino.0)?.kind {
            Kind::Directory(names) => {
                let mut all = Vec::new();
                for (name, number) in &names.now {
                    let kind = match disk.node(*number)?.kind {
                        Kind::File(_) => FileType::RegularFile,
                        Kind::Directory(_) => FileType::Directory,
                    };
                    all.push((*number, kind, name.clone()));
                }
                // By number, which is also where a reader goes on: what is removed meanwhile moves nobody else.
                all.sort_unstable_by_key(|(number, _, _)| *number);
                Ok(all)
            }
            Kind::File(_) => Err(Refused::NotADirectory),
        });
        match listed {
            Ok(all) => {
                let dots = [(1, "."), (2, "..")].map(|(at, name)| (at, ino.0, FileType::Directory, name.into()));
                let names = all.into_iter().map(|(number, kind, name)| (number + 2, number, kind, name));
                for (at, number, kind, name) in dots.into_iter().chain(names).filter(|(at, ..)| *at > offset) {
                    if reply.add(INodeNo(number), at, kind, name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        // Large and empty: a full disk is another exam.
        reply.statfs(1 << 24, 1 << 23, 1 << 23, 1 << 20, 1 << 19, 4096, 255, 4096);
    }
}
