//! One file of a recording's directory, with its name in every error. The only place of the store that writes, to the file
//! itself or by way of a log that several stores share.
//!
//! Writes go to a place that the caller names, never to "the end": what a failed write left behind is written over.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::segment::StoreError;
use super::wal::{Logged, Wal};

/// An open file.
#[derive(Debug)]
pub(crate) struct DiskFile {
    file: Arc<File>,
    path: PathBuf,
    log: Option<(Wal, Arc<Logged>)>,
    /// Bytes that may still be written: a disk that fills up, in tests.
    #[cfg(test)]
    pub(crate) room: Option<u64>,
}

/// Adds to an error what we were doing, and to which file.
pub(crate) fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { doing, path, source }
}

impl DiskFile {
    /// Opens or creates it for the owner alone; refuses to follow a link.
    pub(crate) fn open(path: PathBuf) -> Result<Self, StoreError> {
        Ok(Self {
            file: Arc::new(open_own(&path)?),
            path,
            log: None,
            #[cfg(test)]
            room: None,
        })
    }

    /// The same, written by way of a log where there is one.
    pub(crate) fn open_logged(path: PathBuf, log: Option<&Wal>) -> Result<Self, StoreError> {
        let mut file = Self::open(path)?;
        file.log = log.map(|wal| (wal.clone(), wal.file(&file.file, &file.path)));
        Ok(file)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn length(&self) -> Result<u64, StoreError> {
        self.file.metadata().map(|m| m.len()).map_err(io_error("look at", &self.path))
    }

    /// The first `length` bytes.
    pub(crate) fn read(&self, length: u64) -> Result<Vec<u8>, StoreError> {
        if let Some((wal, logged)) = &self.log
            && wal.is_waiting(logged)
        {
            wal.commit()?;
            self.outcome()?;
        }
        let length = usize::try_from(length).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge));
        let read = length.and_then(|length| {
            let mut bytes = vec![0; length];
            self.file.read_exact_at(&mut bytes, 0).map(|()| bytes)
        });
        read.map_err(io_error("read", &self.path))
    }

    /// Writes at this offset. When that fails the file is cut there again, as far as the disk lets us.
    pub(crate) fn write(&mut self, bytes: &[u8], offset: u64) -> Result<(), StoreError> {
        if let Some((wal, logged)) = &self.log {
            wal.write(logged, bytes, offset);
            return Ok(());
        }
        let written = self.write_all(bytes, offset);
        if written.is_err() {
            // A failure leaves bytes that are no whole record, or records that the next write goes over: both are read
            // as a torn end. The error that counts is the first.
            let _ = self.file.set_len(offset);
        }
        written.map_err(io_error("append to", &self.path))
    }

    #[cfg(not(test))]
    fn write_all(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    #[cfg(test)]
    fn write_all(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let Some(room) = &mut self.room else { return self.file.write_all_at(bytes, offset) };
        let fits = usize::try_from(*room).unwrap_or(usize::MAX).min(bytes.len());
        *room -= fits as u64;
        self.file.write_all_at(&bytes[..fits], offset)?;
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    pub(crate) fn cut(&mut self, length: u64) -> Result<(), StoreError> {
        if let Some((wal, logged)) = &self.log {
            wal.cut(logged, length);
            return Ok(());
        }
        self.file.set_len(length).map_err(io_error("cut", &self.path))
    }

    /// What was written is on the disk when this returns; in a log, it is there before anything that is written from now on.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        if self.log.is_some() { Ok(()) } else { self.file.sync_data().map_err(io_error("sync", &self.path)) }
    }

    /// Whether what a log was given for it has become part of it.
    pub(crate) fn outcome(&self) -> Result<(), StoreError> {
        let outcome = self.log.as_ref().map_or(Ok(()), |(_, logged)| logged.outcome());
        outcome.map_err(io_error("append to", &self.path))
    }
}

/// Opens or creates a file for the owner alone; refuses to follow a link.
pub(crate) fn open_own(path: &Path) -> Result<File, StoreError> {
    let nofollow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(nofollow);
    options.open(path).map_err(io_error("open", path))
}

/// Names that were created, renamed or removed are on the disk when this returns.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_error("sync", dir))
}

/// The number of a segment from its name: `00000042.seg`.
pub(crate) fn segment_number(name: &std::ffi::OsStr) -> Option<u32> {
    let digits = name.to_str()?.strip_suffix(".seg")?;
    let plain = digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// The name of a segment.
pub(crate) fn segment_name(number: u32) -> String {
    format!("{number:08}.seg")
}

/// The numbers of all segments of a directory, oldest first.
pub(crate) fn segment_numbers(dir: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        numbers.extend(segment_number(&entry?.file_name()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The tail's name.
pub(crate) const TAIL: &str = "tail";
/// The name of the file that is locked by the writer.
pub(crate) const LOCK: &str = "lock";
/// The name of the file that notes what the segments hold.
pub(crate) const LISTING: &str = "listing";
/// The name of the file that says up to which wall time retention removed segments: nanoseconds as decimal digits.
pub(crate) const FORGOTTEN: &str = "forgotten";
