//! The audit log: who asked for, fetched, granted or was refused what. One line of JSON each, synced before what it
//! tells is done, and chained: the hash of each line covers the line before.
//!
//! Whoever changes, removes or inserts a line breaks the chain from there on. Whoever can write the whole file can write
//! a new chain: copies of the newest hash elsewhere show that. A line that was cut by a crash was never acted upon.

mod line;
mod sums;

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use casefile_proto::item::Digest;

pub use line::{Entry, Line, Outcome, Verb};
pub use sums::Sums;

use crate::ingest::Clock;
use crate::space::{Space, is_for_want_of_room};

/// The longest line: names, addresses and reasons are short.
const MAX_LINE: u64 = 16 << 10;

/// Why the audit log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file system said no.
    #[error("{doing} the audit log {path}")]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// Its last line is none of ours.
    #[error(
        "the audit log {path} does not end as we left it: look at it with casefile-collector audit, and move it away"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

/// The audit log of a collector.
pub struct Audit {
    path: PathBuf,
    clock: Clock,
    /// Gives up what is held in reserve when there is no room for a line.
    space: Option<Space>,
    end: Mutex<End>,
}

/// Where the chain ends.
struct End {
    /// `None` after a failed write: nobody knows what of it is on the disk, so it is opened anew.
    file: Option<File>,
    last: u64,
    head: Digest,
}

impl Audit {
    /// Opens it, or begins a new one. Blocks.
    pub fn open(path: &Path, clock: Clock) -> Result<Self, AuditError> {
        let end = reopen(path)?;
        Ok(Self { path: path.to_owned(), clock, space: None, end: Mutex::new(end) })
    }

    /// The same, which may use up what is held in reserve: who did what must be known also when the disk is full.
    #[must_use]
    pub fn with_reserve(self, space: Space) -> Self {
        Self { space: Some(space), ..self }
    }

    /// Writes one line, synced when this returns. Blocks.
    pub fn record(&self, entry: Entry) -> Result<(), AuditError> {
        let Err(error) = self.write(entry.clone()) else { return Ok(()) };
        match &self.space {
            Some(space) if is_for_want_of_room(&error) && space.give_up_reserve().0 > 0 => self.write(entry),
            _ => Err(error),
        }
    }

    fn write(&self, entry: Entry) -> Result<(), AuditError> {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        if end.file.is_none() {
            *end = reopen(&self.path)?;
        }
        let line = Line::next(end.last, end.head, (self.clock)().wall, entry);
        let mut text = line.to_string();
        text.push('\n');
        let written = match &mut end.file {
            Some(file) => file.write_all(text.as_bytes()).and_then(|()| file.sync_data()),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        match written {
            Ok(()) => {
                (end.last, end.head) = (line.number, line.hash);
                Ok(())
            }
            Err(source) => {
                end.file = None;
                Err(AuditError::Io { doing: "write", path: self.path.clone(), source })
            }
        }
    }

    /// Makes it unwritable: the file is moved aside, and a directory is in its place.
    #[cfg(test)]
    pub(crate) fn spoil(&self, aside: &Path) {
        self.end.lock().unwrap().file = None;
        std::fs::rename(&self.path, aside).unwrap();
        std::fs::create_dir(&self.path).unwrap();
    }

    /// The same, from async code.
    pub async fn recorded(self: &Arc<Self>, entry: Entry) -> Result<(), AuditError> {
        let audit = Arc::clone(self);
        let recording = tokio::task::spawn_blocking(move || audit.record(entry)).await;
        recording.unwrap_or_else(|panicked| {
            Err(AuditError::Io { doing: "write", path: self.path.clone(), source: io::Error::other(panicked) })
        })
    }
}

/// Opens the file at its end. What a crash left of a line is cut off: nothing was done in its name.
fn reopen(path: &Path) -> Result<End, AuditError> {
    let failed = |doing| move |source| AuditError::Io { doing, path: path.to_owned(), source };
    let mut file =
        OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).map_err(failed("open"))?;
    let len = file.metadata().map_err(failed("open"))?.len();
    let from = len.saturating_sub(2 * MAX_LINE);
    file.seek(SeekFrom::Start(from)).map_err(failed("read"))?;
    let mut tail = Vec::new();
    (&file).take(2 * MAX_LINE).read_to_end(&mut tail).map_err(failed("read"))?;
    let whole = tail.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    if whole == 0 && from > 0 {
        return Err(AuditError::Malformed { path: path.to_owned() });
    }
    if whole < tail.len() {
        tracing::warn!(path = %path.display(), bytes = tail.len() - whole, "the audit log ended in a piece of a line");
        let end = from + u64::try_from(whole).unwrap_or(u64::MAX);
        file.set_len(end).and_then(|()| file.sync_all()).map_err(failed("cut"))?;
    }
    let last = tail[..whole].split(|b| *b == b'\n').rfind(|line| !line.is_empty());
    let (last, head) = match last {
        None => (0, Digest([0; 32])),
        Some(text) => {
            let line: Option<Line> = str::from_utf8(text).ok().and_then(|text| text.parse().ok());
            let line = line.ok_or_else(|| AuditError::Malformed { path: path.to_owned() })?;
            (line.number, line.hash)
        }
    };
    if len == 0 {
        // A new file survives a crash only with its directory.
        path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all()).map_err(failed("make"))?;
    }
    Ok(End { file: Some(file), last, head })
}

/// What reading a log back found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// Lines that stand where they belong.
    pub lines: u64,
    /// Numbers of lines in the file (from 1) that are none, or do not follow from the one before.
    pub broken: Vec<u64>,
    /// The hash of the last line.
    pub head: Option<Digest>,
}

/// Reads a log, gives each line to `each`, and follows the chain. Goes on behind what is broken.
pub fn read(path: &Path, mut each: impl FnMut(&Line)) -> Result<Verified, AuditError> {
    let failed = |doing| move |source| AuditError::Io { doing, path: path.to_owned(), source };
    let mut file = BufReader::new(File::open(path).map_err(failed("open"))?);
    let (mut found, mut at) = (Verified::default(), 0);
    let (mut last, mut head) = (0, Digest([0; 32]));
    loop {
        let mut text = Vec::new();
        let read = file.by_ref().take(MAX_LINE).read_until(b'\n', &mut text).map_err(failed("read"))?;
        if read == 0 {
            return Ok(found);
        }
        at += 1;
        let said = text.strip_suffix(b"\n").and_then(|text| str::from_utf8(text).ok());
        // As it was written to the letter: what reads the same is not the same.
        let line = said.and_then(|said| said.parse::<Line>().ok().filter(|line| line.to_string() == said));
        let Some(line) = line else {
            found.broken.push(at);
            continue;
        };
        each(&line);
        if line.follows(last, head) {
            found.lines += 1;
        } else {
            found.broken.push(at);
        }
        // From here the chain is followed anew: one change is one break.
        (last, head) = (line.number, line.hash);
        found.head = Some(head);
    }
}

#[cfg(test)]
mod tests;
