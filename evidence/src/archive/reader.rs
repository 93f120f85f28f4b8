//! Reading an archive by its index, or from front to back when the index is gone (truncated file).
//!
//! By the index any entry is found at once and every chunk is checked before a byte of it is given out. Without it the
//! entries are found by walking through the file, and reading them in the order of the archive is one pass. Memory is
//! one chunk and the index, whatever the size.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use casefile_proto::item::{Digest, EntryPath};
use casefile_proto::units::Bytes;
use sha2::{Digest as _, Sha256};

use super::chunk::{Checker, Chunk};
use super::gzip::stored_len;
use super::index::{self, ChunkLine, Index, LOCATOR_FROM_END, Locator};
pub use super::limits::Limits;
use super::limits::Stop;
use super::sequential::{Next, Walk};
use super::tar::BLOCK;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryInfo {
    /// Its path below the top directory: `data/coverage.json`, `bagit.txt`.
    pub path: EntryPath,
    /// Its size.
    pub size: u64,
}

/// Why an archive cannot be opened or an entry not read.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file system said no.
    #[error("read {path}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// It is no archive of ours, or uses what our archives never contain (links, devices, `..`, duplicates, bombs).
    #[error("{path} is refused: {why}")]
    Refused {
        /// Which file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// No such entry.
    #[error("the archive has no {0}")]
    NoEntry(String),
}

/// An opened archive.
pub struct Archive {
    pub(super) file: Arc<File>,
    pub(super) path: PathBuf,
    pub(super) limits: Limits,
    pub(super) form: Form,
    entries: Vec<EntryInfo>,
    /// Positions in `entries`, in order of path.
    by_path: Vec<usize>,
}

/// How the entries are found.
pub(super) enum Form {
    /// The index is intact.
    Indexed(Indexed),
    /// It is not; the file was walked through.
    Walked(Walked),
}

/// What the index says.
pub(super) struct Indexed {
    pub(super) index: Index,
    pub(super) locator: Locator,
    /// Bytes of the file behind the end of the archive.
    pub(super) appended: u64,
}

/// What the walk found.
pub(super) struct Walked {
    top: String,
    pub(super) index: IndexState,
    pub(super) end: WalkEnd,
    cursor: Option<Box<Cursor>>,
}

/// What is known of an index that is not used.
pub(super) enum IndexState {
    /// No locator stands at the end of the archive.
    Nowhere,
    /// The locator is intact, and what it points to is not what it says.
    Damaged(Locator),
}

/// Where a walk ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WalkEnd {
    /// Where an archive ends; that many bytes of the file follow.
    Whole { appended: u64 },
    /// The file ends early.
    Truncated,
    /// The rest cannot be read.
    Damaged,
}

/// Where reading from the front stands.
struct Cursor {
    walk: Walk,
    /// The position of the next entry.
    next: usize,
}

impl Archive {
    /// By its index; without one (truncated), by reading it from the front to the last whole chunk.
    ///
    /// A file with something behind the archive is opened like one whose index is gone, once, and then by its index.
    pub fn open(path: &Path, limits: Limits) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { path: path.to_owned(), source };
        let refused = |why: String| OpenError::Refused { path: path.to_owned(), why };
        // Asked before opening: opening a FIFO would wait for ever.
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(refused("it is no regular file".to_owned()));
        }
        let file = Arc::new(File::open(path).map_err(io)?);
        let len = file.metadata().map_err(io)?.len();
        let make = |form, entries: Vec<EntryInfo>| {
            let mut by_path: Vec<usize> = (0..entries.len()).collect();
            by_path.sort_by(|a, b| entries[*a].path.cmp(&entries[*b].path));
            Self { file: Arc::clone(&file), path: path.to_owned(), limits, form, entries, by_path }
        };
        let indexed = |index: Index, locator, appended| {
            let entries = index.entries.iter().map(|e| EntryInfo { path: e.path.clone(), size: e.size }).collect();
            make(Form::Indexed(Indexed { index, locator, appended }), entries)
        };
        match read_index(&file, len, &limits).map_err(io)? {
            Found::Index(index, locator) => Ok(indexed(index, locator, 0)),
            Found::Refused(why) => Err(refused(why)),
            Found::Not(state) => {
                let (mut walked, entries, end_at) = walk(&file, limits, state).map_err(|e| match e {
                    Stop::Io(source) => io(source),
                    Stop::Refused(why) | Stop::Damaged(why) => refused(why),
                    Stop::Truncated => refused("it ends before its first entry".to_owned()),
                })?;
                if let Some(appended) = end_at.map(|at| len.saturating_sub(at)).filter(|n| *n > 0) {
                    match read_index(&file, len - appended, &limits).map_err(io)? {
                        Found::Index(index, locator) => return Ok(indexed(index, locator, appended)),
                        Found::Refused(why) => return Err(refused(why)),
                        Found::Not(state) => walked.index = state,
                    }
                    walked.end = WalkEnd::Whole { appended };
                }
                Ok(make(Form::Walked(walked), entries))
            }
        }
    }

    /// The top directory's name.
    pub fn name(&self) -> &str {
        match &self.form {
            Form::Indexed(indexed) => &indexed.index.top,
            Form::Walked(walked) => &walked.top,
        }
    }

    /// Whether the file ends early; then [`Self::entries`] are those that begin in it.
    pub fn truncated(&self) -> bool {
        matches!(&self.form, Form::Walked(Walked { end: WalkEnd::Truncated, .. }))
    }

    /// Whether the entries are found by the index. Without it something is damaged, and entries behind the damage may be
    /// missing from [`Self::entries`].
    pub fn indexed(&self) -> bool {
        matches!(&self.form, Form::Indexed(_))
    }

    /// All entries but the index, in the order of the archive. When the index and something else are damaged, those that
    /// could be reached; [`Self::verify`] says so.
    pub fn entries(&self) -> &[EntryInfo] {
        &self.entries
    }

    /// The entry of this path.
    pub fn find(&self, path: &EntryPath) -> Option<&EntryInfo> {
        self.position(path).map(|i| &self.entries[i])
    }

    /// The content of one entry; a truncated or damaged one ends in an error, after what was whole.
    pub fn entry(&mut self, path: &EntryPath) -> Result<Box<dyn Read + '_>, OpenError> {
        let i = self.position(path).ok_or_else(|| OpenError::NoEntry(path.to_string()))?;
        match &mut self.form {
            Form::Indexed(Indexed { index, .. }) => {
                let entry = &index.entries[i];
                let chunks = &index.chunks[entry.chunks.clone()];
                Ok(Box::new(ChunkReader::new(&self.file, &entry.path, entry.content_at, chunks)))
            }
            Form::Walked(walked) => {
                let at = |stop: Stop| OpenError::Io { path: self.path.clone(), source: stop.into() };
                let walk = walked.walk_to(i, &self.file, self.limits).map_err(at)?;
                Ok(Box::new(WalkReader { walk }))
            }
        }
    }

    /// The content of one entry from this byte on: by the index what lies before is not inflated.
    pub fn entry_from(&mut self, path: &EntryPath, offset: u64) -> Result<Box<dyn Read + '_>, OpenError> {
        let i = self.position(path).ok_or_else(|| OpenError::NoEntry(path.to_string()))?;
        let file = self.path.clone();
        let io = |source| OpenError::Io { path: file, source };
        if !self.indexed() {
            let mut read = self.entry(path)?;
            io::copy(&mut (&mut read).take(offset), &mut io::sink()).map_err(io)?;
            return Ok(read);
        }
        let Form::Indexed(Indexed { index, .. }) = &self.form else { unreachable!("it was asked before") };
        let entry = &index.entries[i];
        let (mut at, mut skip, mut first) = (entry.content_at, offset, entry.chunks.start);
        for line in &index.chunks[entry.chunks.clone()] {
            let plain_len = u64::from(line.plain_len);
            if plain_len > skip {
                break;
            }
            (at, skip, first) = (at + u64::from(line.deflated_len), skip - plain_len, first + 1);
        }
        let chunks = &index.chunks[first..entry.chunks.end];
        let mut read = ChunkReader::new(&self.file, &entry.path, at, chunks);
        io::copy(&mut (&mut read).take(skip), &mut io::sink()).map_err(io)?;
        Ok(Box::new(read))
    }

    /// What the index says of the content of an entry; `None`: there is no such entry, or no index. It is the manifest and its
    /// signature that vouch for it, not the index.
    pub fn digest(&self, path: &EntryPath) -> Option<Digest> {
        match &self.form {
            Form::Indexed(Indexed { index, .. }) => self.position(path).map(|i| index.entries[i].sha256),
            Form::Walked(_) => None,
        }
    }

    /// The whole content of one small entry; refused when it is larger than `at_most`.
    pub fn read(&mut self, path: &EntryPath, at_most: Bytes) -> Result<Vec<u8>, OpenError> {
        let size = self.find(path).ok_or_else(|| OpenError::NoEntry(path.to_string()))?.size;
        if size > at_most.0 {
            let why = format!("{path} has {}, and more than {at_most} is not read at once", Bytes(size));
            return Err(OpenError::Refused { path: self.path.clone(), why });
        }
        let file = self.path.clone();
        let mut out = Vec::new();
        self.entry(path)?.read_to_end(&mut out).map_err(|source| OpenError::Io { path: file, source })?;
        Ok(out)
    }

    fn position(&self, path: &EntryPath) -> Option<usize> {
        self.by_path.binary_search_by(|i| self.entries[*i].path.cmp(path)).ok().map(|at| self.by_path[at])
    }
}

/// What stands where an index would end.
enum Found {
    Index(Index, Locator),
    /// It is whole, and no reader may follow it.
    Refused(String),
    Not(IndexState),
}

/// The index of an archive that ends at `end`.
fn read_index(file: &File, end: u64, limits: &Limits) -> io::Result<Found> {
    let mut block = [0u8; BLOCK];
    let Some(at) = end.checked_sub(LOCATOR_FROM_END) else { return Ok(Found::Not(IndexState::Nowhere)) };
    file.read_exact_at(&mut block, at)?;
    let Some(locator) = Locator::parse(&block).filter(|l| l.file_len() == Some(end)) else {
        return Ok(Found::Not(IndexState::Nowhere));
    };
    // At most `index::MAX_TEXT`, and inside the file: `file_len` is `end`.
    let text_len = usize::try_from(locator.text_len).map_err(io::Error::other)?;
    let mut framed = vec![0u8; stored_len(text_len.next_multiple_of(BLOCK))];
    file.read_exact_at(&mut framed, index::text_at(locator.index_at))?;
    let text = index::unframe(&framed, text_len);
    drop(framed);
    if Digest(Sha256::digest(&text).into()) != locator.text {
        return Ok(Found::Not(IndexState::Damaged(locator)));
    }
    let parsed = std::str::from_utf8(&text)
        .map_err(|_| "it is no text".to_owned())
        .and_then(|text| Index::parse(text, locator.index_at, limits));
    Ok(match parsed {
        Ok(index) => Found::Index(index, locator),
        // The digest is right, so this is no damage.
        Err(why) => Found::Refused(format!("its index is not to be followed: {why}")),
    })
}

/// Walks through the whole file: what there is, and where the archive ends if it does.
fn walk(file: &Arc<File>, limits: Limits, index: IndexState) -> Result<(Walked, Vec<EntryInfo>, Option<u64>), Stop> {
    let mut walk = Walk::begin(Arc::clone(file), limits)?;
    let (mut entries, mut end_at, mut index_seen) = (Vec::new(), None, false);
    let end = loop {
        match walk.next() {
            Ok(Next::Entry { path, .. }) if index_seen => {
                return Err(Stop::Refused(format!("the entry {path} follows its index")));
            }
            Ok(Next::Entry { path, .. }) if path.as_str() == index::NAME => index_seen = true,
            Ok(Next::Entry { path, size }) => entries.push(EntryInfo { path, size }),
            Ok(Next::End(ended)) => {
                end_at = Some(ended.at);
                break WalkEnd::Whole { appended: 0 };
            }
            Err(stop) if entries.is_empty() => return Err(stop),
            Err(Stop::Truncated) => break WalkEnd::Truncated,
            Err(Stop::Damaged(_)) => break WalkEnd::Damaged,
            Err(stop) => return Err(stop),
        }
    };
    let top = walk.top().unwrap_or_default().to_owned();
    Ok((Walked { top, index, end, cursor: None }, entries, end_at))
}

impl Walked {
    /// Goes on to the entry at this position, or begins again when it lies behind.
    fn walk_to(&mut self, position: usize, file: &Arc<File>, limits: Limits) -> Result<&mut Walk, Stop> {
        let mut cursor = match self.cursor.take().filter(|c| c.next <= position) {
            Some(cursor) => cursor,
            None => Box::new(Cursor { walk: Walk::begin(Arc::clone(file), limits)?, next: 0 }),
        };
        while cursor.next <= position {
            match cursor.walk.next()? {
                Next::Entry { .. } => cursor.next += 1,
                Next::End(_) => return Err(Stop::Damaged("the file has changed while it was read".to_owned())),
            }
        }
        Ok(&mut self.cursor.insert(cursor).walk)
    }
}

/// The content of an entry from the front.
struct WalkReader<'a> {
    walk: &'a mut Walk,
}

impl Read for WalkReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.walk.read(out).map_err(io::Error::from)
    }
}

/// The content of an entry by the index: chunk by chunk, each checked before it is given out.
struct ChunkReader<'a> {
    file: &'a File,
    path: &'a EntryPath,
    at: u64,
    chunks: &'a [ChunkLine],
    done: usize,
    checker: Checker,
    plain: Vec<u8>,
    given: usize,
}

impl<'a> ChunkReader<'a> {
    fn new(file: &'a File, path: &'a EntryPath, at: u64, chunks: &'a [ChunkLine]) -> Self {
        Self { file, path, at, chunks, done: 0, checker: Checker::new(), plain: Vec::new(), given: 0 }
    }
}

impl Read for ChunkReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.given == self.plain.len() {
            let Some(line) = self.chunks.get(self.done) else { return Ok(0) };
            self.given = 0;
            self.plain.clear();
            let read = read_chunk_bytes(self.file, self.at, line);
            let checked = read.and_then(|chunk| {
                self.checker.check(&chunk, &mut self.plain).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
            });
            if let Err(e) = checked {
                self.plain.clear();
                let (i, n) = (self.done + 1, self.chunks.len());
                return Err(io::Error::new(e.kind(), format!("chunk {i} of {n} of {}: {e}", self.path)));
            }
            self.at += u64::from(line.deflated_len);
            self.done += 1;
        }
        let n = out.len().min(self.plain.len() - self.given);
        out[..n].copy_from_slice(&self.plain[self.given..self.given + n]);
        self.given += n;
        Ok(n)
    }
}

/// One chunk as it stands in the file, checked against nothing.
pub(super) fn read_chunk_bytes(file: &File, at: u64, line: &ChunkLine) -> io::Result<Chunk> {
    let mut deflated = vec![0u8; usize::try_from(line.deflated_len).map_err(io::Error::other)?];
    file.read_exact_at(&mut deflated, at)?;
    Ok(Chunk { plain_len: line.plain_len, plain_crc32: line.plain_crc32, deflated })
}
