//! A write-ahead log that the stores of many directories share: one file is synced instead of thousands.
//!
//! What such a store writes goes into the log first, behind what the others write, and is synced once for all of them. Only
//! then it is written to its own file, which nobody waits for. So a file holds nothing that the log does not, and whatever a
//! power cut leaves of it: written from the log once more, in order, it is as it was. From time to time the files themselves
//! are synced, and meanwhile the log goes on in the other of its two halves.
//!
//! A half is a head (what it is, its generation) and behind 4 KiB records: the length and checksum of a body, and the body,
//! which is a list of writes: to which file (relative to the directory of all stores), where, what. The checksum counts the
//! generation and the checksum of the record before, so that what an earlier generation left behind is no record. The file
//! keeps its length when a generation ends: writing over what is there spares the file system its own journal.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::disk::{TAIL, io_error, open_own, segment_number, sync_dir};
use super::segment::StoreError;
use super::whole::Whole;
use crate::directory;

/// What a half begins with.
const MAGIC: &[u8; 8] = b"CFWAL\0\0\x01";

/// Magic, generation, checksum of both.
const HEAD: usize = 20;

/// Where the records of a half begin: its head shares no sector with them.
const FIRST: u64 = 4 << 10;

/// Length and checksum.
const RECORD_HEAD: usize = 8;

/// What a write is, in the log.
const BYTES: u8 = 0;
const CUT: u8 = 1;

/// A half that is longer is followed by the other one: some seconds of thousands of nodes.
const LONG: u64 = 16 << 20;

/// So is one that is older: what must be written again after a power cut stays little, also with few nodes.
const OLD: Duration = Duration::from_mins(1);

/// What could not be settled is tried again after this.
const AGAIN: Duration = Duration::from_secs(5);

/// Above this nothing more is taken: the files cannot be synced.
const FULL: u64 = 128 << 20;

/// By so many bytes a half grows.
const STEP: usize = 256 << 10;

/// What a record may keep in memory when it is written.
const SPARE: usize = 1 << 20;

/// A log. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Wal(Arc<Mutex<Log>>);

#[derive(Debug)]
struct Log {
    files: Arc<Files>,
    active: Half,
    other: Half,
    held: Held,
    /// What is to be written, not committed yet.
    writes: Vec<Write>,
    /// The record that it will be.
    record: Vec<u8>,
    /// The files that were written since the active half was begun.
    dirty: BTreeSet<Arc<str>>,
    begun: Instant,
    /// When it could not be settled last.
    failed: Option<Instant>,
}

/// The files of all stores.
#[derive(Debug)]
struct Files {
    root: PathBuf,
    /// Where many of them are synced at once.
    whole: Option<Whole>,
}

/// One of the two files of a log.
#[derive(Debug)]
struct Half {
    file: File,
    path: PathBuf,
    /// Bytes that it has.
    length: u64,
    generation: u64,
    /// The end of its records.
    end: u64,
    /// The checksum of the last one.
    chain: u32,
}

/// What became of what the half holds that is not written to.
#[derive(Debug)]
enum Held {
    /// It is in the files, synced.
    Settled,
    /// The files are being synced.
    Settling(JoinHandle<Result<(), StoreError>>),
    /// They could not be synced.
    Unsettled,
}

/// A file that is written by way of a log.
#[derive(Debug)]
pub(crate) struct Logged {
    file: Arc<File>,
    /// Relative to the directory of all stores.
    name: Arc<str>,
    /// Why something that it was to hold is not in it. It stays so until it is opened again.
    failed: Mutex<Option<io::Error>>,
}

#[derive(Debug)]
struct Write {
    to: Arc<Logged>,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    /// These bytes of the record.
    Bytes {
        at: u64,
        bytes: Range<usize>,
    },
    Cut {
        length: u64,
    },
}

impl Wal {
    /// Opens so many logs in `dir`, for the stores below `root`: both directories are made when they are not there. What logs
    /// that are there hold is written and synced first, however many there are; until then no store may be open.
    pub fn open(dir: &Path, root: &Path, count: usize) -> Result<Vec<Self>, StoreError> {
        directory::make(dir).map_err(io_error("create", dir))?;
        directory::make(root).map_err(io_error("create", root))?;
        let files = Arc::new(Files { root: root.to_owned(), whole: Whole::of(root) });
        let mut found = found(dir)?;
        found.sort_by_key(|half| half.generation);
        let newest = found.iter().map(|half| half.generation).max().unwrap_or(0);
        let known: Vec<PathBuf> = found.iter().map(|half| half.path.clone()).collect();
        files.write_again(found)?;
        // The older first: without it the newer is still all that its files lack, but not the other way around.
        for path in &known {
            Half::open(path.clone(), newest + 1)?;
        }
        let mut logs = Vec::with_capacity(count);
        for number in 0..count {
            let half = |name: &str, generation| Half::open(dir.join(format!("{number}{name}")), generation);
            let (active, other) = (half("a", newest + 1)?, half("b", newest + 2)?);
            let log = Log {
                files: Arc::clone(&files),
                active,
                other,
                held: Held::Settled,
                writes: Vec::new(),
                record: Vec::new(),
                dirty: BTreeSet::new(),
                begun: Instant::now(),
                failed: None,
            };
            logs.push(Self(Arc::new(Mutex::new(log))));
        }
        // There were more of them: what they held is where it belongs.
        let used: BTreeSet<PathBuf> = logs.iter().flat_map(Self::paths).collect();
        for path in known.iter().filter(|path| !used.contains(*path)) {
            std::fs::remove_file(path).map_err(io_error("remove", path))?;
        }
        sync_dir(dir)?;
        Ok(logs)
    }

    /// What its stores wrote is on the disk and in their files when this returns; where it is not,
    /// [`Store::sync`](super::segment::Store::sync) says so. An error: files of an earlier time could not be synced. Nothing is
    /// lost by it; the log grows, and it is tried again.
    pub fn commit(&self) -> Result<(), StoreError> {
        self.log().commit()
    }

    /// The same, and the files themselves are synced: whoever opens the log next has nothing to write again.
    pub fn close(&self) -> Result<(), StoreError> {
        let mut log = self.log();
        log.commit()?;
        log.settle()
    }

    /// Has a file written by way of this log.
    pub(crate) fn file(&self, file: &Arc<File>, path: &Path) -> Arc<Logged> {
        let log = self.log();
        let name = path.strip_prefix(&log.files.root).unwrap_or(path).to_string_lossy();
        Arc::new(Logged { file: Arc::clone(file), name: name.into(), failed: Mutex::new(None) })
    }

    pub(crate) fn write(&self, to: &Arc<Logged>, bytes: &[u8], at: u64) {
        let log = &mut *self.log();
        put_write(&mut log.record, &to.name, BYTES, at, bytes);
        let bytes = log.record.len() - bytes.len()..log.record.len();
        log.writes.push(Write { to: Arc::clone(to), what: What::Bytes { at, bytes } });
    }

    pub(crate) fn cut(&self, to: &Arc<Logged>, length: u64) {
        let log = &mut *self.log();
        put_write(&mut log.record, &to.name, CUT, length, &[]);
        log.writes.push(Write { to: Arc::clone(to), what: What::Cut { length } });
    }

    /// Whether something that was written is not in this file yet.
    pub(crate) fn is_waiting(&self, file: &Arc<Logged>) -> bool {
        self.log().writes.iter().any(|write| Arc::ptr_eq(&write.to, file))
    }

    fn paths(&self) -> [PathBuf; 2] {
        let log = self.log();
        [log.active.path.clone(), log.other.path.clone()]
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        // One thread uses it; when that panicked its stores are gone too, and the log is as good as after a power cut.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Logged {
    fn fail(&self, error: &io::Error) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| same(error));
    }

    /// Whether everything that was committed is in the file.
    pub(crate) fn outcome(&self) -> io::Result<()> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map_or(Ok(()), |error| Err(same(error)))
    }
}

/// The same error once more.
fn same(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

impl Log {
    fn commit(&mut self) -> Result<(), StoreError> {
        if self.writes.is_empty() {
            return Ok(());
        }
        let committed = self.active.put(&mut self.record);
        for Write { to, what } in self.writes.drain(..) {
            if let Err(error) = &committed {
                to.fail(error);
            }
            // What a file lacks, nothing is written behind.
            if to.outcome().is_err() {
                continue;
            }
            if !self.dirty.contains(&to.name) {
                self.dirty.insert(Arc::clone(&to.name));
            }
            let written = match what {
                What::Bytes { at, bytes } => to.file.write_all_at(&self.record[bytes], at),
                What::Cut { length } => to.file.set_len(length),
            };
            if let Err(error) = written {
                to.fail(&error);
            }
        }
        self.record.clear();
        self.record.shrink_to(SPARE);
        if self.active.end > LONG || self.begun.elapsed() > OLD { self.turn() } else { Ok(()) }
    }

    /// Goes on in the other half, once what that holds is settled, and has what this one holds settled meanwhile.
    fn turn(&mut self) -> Result<(), StoreError> {
        if let Held::Settling(settling) = &self.held
            && !settling.is_finished()
            && self.active.end < FULL / 2
        {
            // As long as there is room, nobody waits.
            return Ok(());
        }
        self.wait();
        if matches!(self.held, Held::Unsettled) {
            if self.failed.is_some_and(|failed| failed.elapsed() < AGAIN) {
                return Ok(());
            }
            let settled = self.settle();
            self.failed = settled.is_err().then(Instant::now);
            return settled;
        }
        self.other.begin(self.active.generation + 1)?;
        std::mem::swap(&mut self.active, &mut self.other);
        self.begun = Instant::now();
        let (files, dirty) = (Arc::clone(&self.files), std::mem::take(&mut self.dirty));
        let settling = std::thread::Builder::new().name("wal".to_owned()).spawn(move || files.sync(&dirty));
        // Without a thread it is unsettled, and its turn comes before this half is long.
        self.held = settling.map_or(Held::Unsettled, Held::Settling);
        Ok(())
    }

    /// Waits for what is being settled.
    fn wait(&mut self) {
        self.held = match std::mem::replace(&mut self.held, Held::Unsettled) {
            // An error comes again when it is tried again.
            Held::Settling(settling) => match settling.join() {
                Ok(Ok(())) => Held::Settled,
                Ok(Err(_)) | Err(_) => Held::Unsettled,
            },
            held => held,
        };
    }

    /// Everything is in the files, synced, whatever became of it before; both halves are empty then.
    fn settle(&mut self) -> Result<(), StoreError> {
        self.wait();
        if matches!(self.held, Held::Settled) {
            self.files.sync(&self.dirty)?;
        } else {
            // A sync that failed may have dropped what it did not write, and says so only once.
            let halves = [self.other.read()?, self.active.read()?];
            self.files.write_again(halves.into_iter().flatten())?;
        }
        let newest = self.active.generation;
        self.dirty.clear();
        self.other.begin(newest + 1)?;
        self.held = Held::Settled;
        self.active.begin(newest + 2)?;
        self.begun = Instant::now();
        Ok(())
    }
}

impl Half {
    /// Opens one, made when it is not there; it is empty then.
    fn open(path: PathBuf, generation: u64) -> Result<Self, StoreError> {
        let file = open_own(&path)?;
        let length = file.metadata().map_err(io_error("look at", &path))?.len();
        let mut half = Self { file, path, length, generation, end: FIRST, chain: 0 };
        half.begin(generation)?;
        Ok(half)
    }

    /// It is empty from now on; what it held must be in the files, synced.
    fn begin(&mut self, generation: u64) -> Result<(), StoreError> {
        if self.length > 2 * LONG {
            self.file.set_len(LONG).map_err(io_error("cut", &self.path))?;
            self.length = LONG;
        }
        let mut head = Vec::with_capacity(HEAD);
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&generation.to_le_bytes());
        head.extend_from_slice(&crc32fast::hash(&head).to_le_bytes());
        let written = self.file.write_all_at(&head, 0).and_then(|()| self.file.sync_all());
        written.map_err(io_error("begin", &self.path))?;
        (self.generation, self.end, self.chain) = (generation, FIRST, 0);
        Ok(())
    }

    /// Appends a record, of which the body is there; it is on the disk when this returns.
    fn put(&mut self, record: &mut [u8]) -> io::Result<()> {
        let end = self.end + record.len() as u64;
        let (head, body) = record.split_at_mut(RECORD_HEAD);
        let length = u32::try_from(body.len()).ok().filter(|_| end <= FULL).ok_or(io::ErrorKind::StorageFull)?;
        let chain = chain(self.generation, self.chain, body);
        head[..4].copy_from_slice(&length.to_le_bytes());
        head[4..].copy_from_slice(&chain.to_le_bytes());
        self.file.write_all_at(record, self.end)?;
        if end > self.length {
            // Whole steps: what comes next writes over what is there, and its sync has no length to write.
            self.file.write_all_at(&vec![0; STEP], end)?;
            self.length = end + STEP as u64;
        }
        self.file.sync_data()?;
        (self.end, self.chain) = (end, chain);
        Ok(())
    }

    /// What it holds, as whoever opens it reads it.
    fn read(&self) -> Result<Option<Found>, StoreError> {
        read(&self.path).map_err(io_error("read", &self.path))
    }
}

/// The checksum of a record.
fn chain(generation: u64, before: u32, body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&generation.to_le_bytes());
    crc.update(&before.to_le_bytes());
    crc.update(body);
    crc.finalize()
}

/// Appends a write to a record, behind room for its head when it is the first.
fn put_write(record: &mut Vec<u8>, name: &str, kind: u8, at: u64, bytes: &[u8]) {
    if record.is_empty() {
        record.resize(RECORD_HEAD, 0);
    }
    // Names are two short components, and a write is below the limit of a tail.
    let (name_length, length) = (name.len().min(255), bytes.len());
    record.push(kind);
    record.push(u8::try_from(name_length).unwrap_or(u8::MAX));
    record.extend_from_slice(&name.as_bytes()[..name_length]);
    record.extend_from_slice(&at.to_le_bytes());
    record.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    record.extend_from_slice(bytes);
}

/// A write in the bytes of a half.
#[derive(Debug, PartialEq, Eq)]
struct Again {
    name: String,
    what: What,
}

/// The first write of a body that begins at `from`, and where the next one begins.
fn take_write(bytes: &[u8], from: usize, until: usize) -> Option<(Again, usize)> {
    let mut at = from;
    let mut take = |length: usize| {
        let end = at.checked_add(length).filter(|end| *end <= until)?;
        let taken = bytes.get(at..end)?;
        at = end;
        Some(taken)
    };
    let [kind, name_length] = <[u8; 2]>::try_from(take(2)?).ok()?;
    let name = std::str::from_utf8(take(usize::from(name_length))?).ok()?.to_owned();
    let place = u64::from_le_bytes(take(8)?.try_into().ok()?);
    let length = usize::try_from(u32::from_le_bytes(take(4)?.try_into().ok()?)).ok()?;
    take(length)?;
    let what = match kind {
        BYTES => What::Bytes { at: place, bytes: at - length..at },
        CUT => What::Cut { length: place },
        _ => return None,
    };
    Some((Again { name, what }, at))
}

/// A half that was found.
struct Found {
    path: PathBuf,
    generation: u64,
    bytes: Vec<u8>,
    /// In order.
    writes: Vec<Again>,
}

/// Everything that is whole in a half; `None`: it is none.
fn read(path: &Path) -> io::Result<Option<Found>> {
    let bytes = std::fs::read(path)?;
    let Some(head) = bytes.get(..HEAD) else { return Ok(None) };
    let (said, checksum) = head.split_at(HEAD - 4);
    let (Ok(generation), true) = (
        <[u8; 8]>::try_from(&said[MAGIC.len()..]),
        said.starts_with(MAGIC) && crc32fast::hash(said).to_le_bytes() == checksum,
    ) else {
        return Ok(None);
    };
    let mut found =
        Found { path: path.to_owned(), generation: u64::from_le_bytes(generation), bytes, writes: Vec::new() };
    let (mut at, mut before) = (usize::try_from(FIRST).unwrap_or(usize::MAX), 0);
    while let Some((until, checksum)) = found.record(at, before) {
        at += RECORD_HEAD;
        while let Some((write, next)) = take_write(&found.bytes, at, until) {
            found.writes.push(write);
            at = next;
        }
        (at, before) = (until, checksum);
    }
    Ok(Some(found))
}

impl Found {
    /// Where the record at `at` ends, and its checksum; `None`: there is none.
    fn record(&self, at: usize, before: u32) -> Option<(usize, u32)> {
        let word = |from: usize| Some(u32::from_le_bytes(self.bytes.get(from..from + 4)?.try_into().ok()?));
        let (length, checksum) = (usize::try_from(word(at)?).ok()?, word(at + 4)?);
        let from = at + RECORD_HEAD;
        let body = self.bytes.get(from..from.checked_add(length)?)?;
        (length > 0 && chain(self.generation, before, body) == checksum).then_some((from + length, checksum))
    }
}

/// The halves of all logs of a directory.
fn found(dir: &Path) -> Result<Vec<Found>, StoreError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io_error("list", dir))? {
        let path = entry.map_err(io_error("list", dir))?.path();
        found.extend(read(&path).map_err(io_error("read", &path))?);
    }
    Ok(found)
}

impl Files {
    /// Writes what these halves hold, and syncs it. Halves of one log share files and come in the order of their generations;
    /// logs share none.
    fn write_again(&self, halves: impl IntoIterator<Item = Found>) -> Result<(), StoreError> {
        let mut halves: Vec<Found> = halves.into_iter().collect();
        halves.sort_by_key(|half| half.generation);
        let mut of_file: BTreeMap<Arc<str>, Vec<(&Found, &What)>> = BTreeMap::new();
        for half in &halves {
            for Again { name, what } in &half.writes {
                of_file.entry(name.as_str().into()).or_default().push((half, what));
            }
        }
        for (name, writes) in &of_file {
            let path = self.root.join(&**name);
            // A node's directory is there before anything is written in it; whoever removed it does not want it back.
            if !is_ours(name) || !path.parent().is_some_and(Path::is_dir) {
                continue;
            }
            let (file, is_segment) = (open_own(&path)?, name.ends_with(".seg"));
            let mut length = file.metadata().map_err(io_error("look at", &path))?.len();
            for (half, what) in writes {
                let written = match what {
                    // The rest of a segment that retention removed: nothing is written behind a hole. A tail may be shorter
                    // than it was, by a cut that is still to come.
                    What::Bytes { at, .. } if is_segment && *at > length => break,
                    What::Bytes { at, bytes } => {
                        length = length.max(at + bytes.len() as u64);
                        file.write_all_at(&half.bytes[bytes.clone()], *at)
                    }
                    What::Cut { length: to } => {
                        length = *to;
                        file.set_len(*to)
                    }
                };
                written.map_err(io_error("write again to", &path))?;
            }
            if length == 0 && is_segment {
                std::fs::remove_file(&path).map_err(io_error("remove", &path))?;
            }
        }
        self.sync(&of_file.into_keys().collect())
    }

    /// What was written to these files is on the disk when this returns, and so are their names.
    fn sync(&self, names: &BTreeSet<Arc<str>>) -> Result<(), StoreError> {
        if names.is_empty() || self.whole.as_ref().is_some_and(|whole| whole.sync().is_ok()) {
            return Ok(());
        }
        // Each file says for itself what became of it.
        let mut dirs = BTreeSet::new();
        for path in names.iter().map(|name| self.root.join(&**name)) {
            let synced = File::open(&path).and_then(|file| file.sync_data());
            match synced {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error("sync", &path)(error)),
                _ => dirs.extend(path.parent().map(Path::to_owned)),
            }
        }
        dirs.iter().filter(|dir| dir.is_dir()).try_for_each(|dir| sync_dir(dir))
    }
}

/// Whether this is the name of a file of a store: a directory that is a number, and a file in it.
fn is_ours(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    match (parts.next(), parts.next(), parts.next()) {
        (Some(Component::Normal(dir)), Some(Component::Normal(file)), None) => {
            dir.to_str().is_some_and(number) && (file == TAIL || segment_number(file).is_some())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
