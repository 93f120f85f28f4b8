//! Unpacking safely: only regular files, only beneath a directory that did not exist before, over no link.
//!
//! Each component is opened from its parent's handle without following links, which holds on every system that has
//! `openat`; in a directory that only we have filled there is nothing to follow unless somebody puts it there meanwhile.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use casefile_proto::item::EntryPath;
use rustix::fs::{Mode, OFlags};

use super::reader::{Archive, EntryInfo, OpenError};
use super::verify::Problem;

/// Why nothing more was unpacked.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// The directory to unpack into is there already.
    #[error("{0} exists already, and nothing is unpacked over it")]
    Exists(PathBuf),
    /// The file system said no.
    #[error("{doing} {path}")]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

/// What was unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extracted {
    /// The directory that was made.
    pub dir: PathBuf,
    /// Files in it.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Entries of which only the first part is there, or nothing: the archive is damaged or truncated, or another entry was
    /// in the way.
    pub problems: Vec<Problem>,
}

/// Unpacks all entries into a new directory of the archive's own name below `dest`, which must exist. Reads what it can:
/// a damaged entry is cut at its first damaged chunk and reported. Verifying is another question.
pub fn extract(archive: &mut Archive, dest: &Path) -> Result<Extracted, ExtractError> {
    let dir = dest.join(archive.name());
    let root = make_root(&dir)?;
    let mut done = Extracted { dir: dir.clone(), files: 0, bytes: 0, problems: Vec::new() };
    let entries: Vec<EntryInfo> = archive.entries().to_vec();
    let mut buffer = vec![0u8; 256 << 10];
    for EntryInfo { path, .. } in entries {
        let shown = || dir.join(path.as_str());
        let problem = |what: String| Problem { entry: Some(path.to_string()), what };
        let mut file = match create(&root, &path) {
            Ok(file) => file,
            // The directory was empty when we began: two paths of the archive want the same place.
            Err(e) if collides(&e) => {
                done.problems.push(problem("another entry stands where it, or its directory, must be".to_owned()));
                continue;
            }
            Err(source) => return Err(ExtractError::Io { doing: "create", path: shown(), source }),
        };
        done.files += 1;
        let copied = match archive.entry(&path) {
            Ok(mut content) => copy(&mut content, &mut file, &mut buffer),
            Err(OpenError::Io { source, .. }) => Ok((0, Some(source.to_string()))),
            Err(e) => Ok((0, Some(e.to_string()))),
        };
        let (bytes, why) = copied.map_err(|source| ExtractError::Io { doing: "write", path: shown(), source })?;
        done.bytes += bytes;
        done.problems.extend(why.map(problem));
    }
    Ok(done)
}

/// How much was copied, and why no more was there to read; an error when it cannot be written.
fn copy(content: &mut dyn Read, file: &mut File, buffer: &mut [u8]) -> io::Result<(u64, Option<String>)> {
    let mut bytes = 0;
    loop {
        match content.read(buffer) {
            Ok(0) => return Ok((bytes, None)),
            Ok(n) => {
                file.write_all(&buffer[..n])?;
                bytes += n as u64;
            }
            Err(e) => return Ok((bytes, Some(e.to_string()))),
        }
    }
}

fn make_root(dir: &Path) -> Result<OwnedFd, ExtractError> {
    let io =
        |source: rustix::io::Errno| ExtractError::Io { doing: "create", path: dir.to_owned(), source: source.into() };
    match rustix::fs::mkdir(dir, Mode::from_raw_mode(0o755)) {
        Err(rustix::io::Errno::EXIST) => return Err(ExtractError::Exists(dir.to_owned())),
        made => made.map_err(io)?,
    }
    rustix::fs::open(dir, DIRECTORY, Mode::empty()).map_err(io)
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Whether something is in the way, as a file where a directory must be, or two names that this file system cannot tell
/// apart.
fn collides(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory)
}

/// A new file below `root`, with the directories that lead to it.
fn create(root: &OwnedFd, path: &EntryPath) -> io::Result<File> {
    let mut at = root.try_clone()?;
    let mut components = path.as_str().split('/').peekable();
    while let Some(component) = components.next() {
        if components.peek().is_none() {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            return Ok(File::from(rustix::fs::openat(&at, component, flags, Mode::from_raw_mode(0o644))?));
        }
        match rustix::fs::mkdirat(&at, component, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        at = rustix::fs::openat(&at, component, DIRECTORY, Mode::empty())?;
    }
    // `split` gives at least one component.
    Err(io::Error::other("an empty path"))
}
