//! The spool: the evidence items of one request as they arrive, in one directory, until they are sealed.
//!
//! Each item is two files: `<run>-<item>.chunks` holds its checked chunks one after the other, `<run>-<item>.json` what is
//! known of it. Both numbers are ours; nothing that a node said becomes part of a path. What lives here: reading a spool.
//! Receiving into one is in [`receive`].

pub mod receive;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use casefile_evidence::archive::chunk::{Checker, Chunk, read_spooled};
use casefile_proto::ids::ItemNumber;
use casefile_proto::item::{Digest, EntryPath, ItemHead, ItemTail};
use casefile_proto::session::RunId;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The most bytes of the description of an item: a thousand gaps with the longest detail, escaped.
const MAX_META: u64 = 16 << 20;

/// One item of a spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpooledItem {
    /// The agent's number for it, within its run.
    pub number: ItemNumber,
    /// The run of the collection that made it.
    pub run: RunId,
    /// What it is and where it goes.
    pub head: ItemHead,
    /// What is known after its last byte; `None`: it was cut short.
    pub tail: Option<ItemTail>,
    /// The file with its chunks.
    pub path: PathBuf,
}

/// Size and digest of the content that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// Plain bytes.
    pub size: u64,
    /// Their digest.
    pub sha256: Digest,
}

/// [`SpooledItem`] as it lies on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Meta {
    number: ItemNumber,
    run: RunId,
    head: ItemHead,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tail: Option<ItemTail>,
}

/// Where the two files of an item lie: by the ordinal of its run in this spool and its number in the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Place {
    run: u32,
    item: ItemNumber,
}

impl Place {
    fn chunks(self, dir: &Path) -> PathBuf {
        dir.join(format!("{:03}-{:06}.chunks", self.run, self.item.0))
    }

    fn meta(self, dir: &Path) -> PathBuf {
        dir.join(format!("{:03}-{:06}.json", self.run, self.item.0))
    }

    /// From the name of the description; `None` for any other file.
    fn of(name: &str) -> Option<Self> {
        let (run, item) = name.strip_suffix(".json")?.split_once('-')?;
        Some(Self { run: run.parse().ok()?, item: ItemNumber(item.parse().ok()?) })
    }
}

/// Every item that is whole or has at least one whole chunk, each path of the archive once: a whole item before one that
/// was cut short, a later run before an earlier. In order of path, as the archive wants them. An absent directory is an
/// empty one.
pub fn read_dir(dir: &Path) -> io::Result<Vec<SpooledItem>> {
    let mut best: BTreeMap<EntryPath, ((bool, u32), SpooledItem)> = BTreeMap::new();
    for (place, meta) in metas(dir)? {
        let rank = (meta.tail.is_some(), place.run);
        let item = meta.into_item(place.chunks(dir));
        if item.tail.is_none() && is_empty(&item)? {
            continue;
        }
        match best.get(&item.head.path) {
            Some((there, _)) if *there >= rank => {}
            _ => drop(best.insert(item.head.path.clone(), (rank, item))),
        }
    }
    Ok(best.into_values().map(|(_, item)| item).collect())
}

/// Whether nothing of an item that was begun is there. The power may have failed before its file had a name.
fn is_empty(item: &SpooledItem) -> io::Result<bool> {
    match item.chunks() {
        Ok(mut chunks) => Ok(chunks.next().is_none()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(e) => Err(e),
    }
}

/// The description of every item, in order of run and number. One that is torn, or says that an item is whole of which there
/// is no file, is passed over: nothing of an item is acknowledged before both its names and its description were synced.
fn metas(dir: &Path) -> io::Result<Vec<(Place, Meta)>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(naming("list", dir, e)),
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| naming("list", dir, e))?;
        if let Some(place) = entry.file_name().to_str().and_then(Place::of) {
            match Meta::read(place, dir) {
                Ok(meta) => all.push((place, meta)),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    tracing::error!(%error, "the description of an item is not used: power failed before it counted");
                }
                Err(error) => return Err(error),
            }
        }
    }
    all.sort_unstable_by_key(|(place, _)| *place);
    Ok(all)
}

impl Meta {
    /// `InvalidData`: it is there and is none, or it is of a whole item whose file is not there.
    fn read(place: Place, dir: &Path) -> io::Result<Self> {
        let path = &place.meta(dir);
        let file = File::open(path).map_err(|e| naming("open", path, e))?;
        let meta: Self = serde_json::from_reader(BufReader::new(file).take(MAX_META)).map_err(|e| {
            let why = if e.is_io() { e.into() } else { io::Error::new(io::ErrorKind::InvalidData, e) };
            naming("read", path, why)
        })?;
        // The power may have failed between the two names.
        if meta.tail.is_some() && !place.chunks(dir).try_exists()? {
            let why = io::Error::new(
                io::ErrorKind::InvalidData,
                "it says that the item is whole, and there is no file of it",
            );
            return Err(naming("believe", path, why));
        }
        Ok(meta)
    }

    fn into_item(self, path: PathBuf) -> SpooledItem {
        let Self { number, run, head, tail } = self;
        SpooledItem { number, run, head, tail, path }
    }
}

impl SpooledItem {
    /// Size and digest: the tail's; for an item that was cut short, of the chunks that [`SpooledItem::chunks`] gives.
    pub fn content(&self) -> io::Result<Content> {
        match &self.tail {
            Some(tail) => Ok(Content { size: tail.size, sha256: tail.sha256 }),
            None => self.chunks()?.measure().map(|measured| measured.content()),
        }
    }

    /// Its chunks, in order. Of an item that was cut short: those up to the first that is torn or does not pass its
    /// check, because what was not synced when the collector went down can be anything.
    pub fn chunks(&self) -> io::Result<Chunks> {
        let trust = if self.tail.is_some() { Trust::Received } else { Trust::Nothing };
        Chunks::open(&self.path, trust)
    }
}

/// Whether chunks of a spool file are taken as they lie.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// They were synced and the item is whole: an error is an error.
    Received,
    /// The first one that is not right is where the content ends.
    Nothing,
}

/// The chunks of one item.
pub struct Chunks {
    from: BufReader<File>,
    trust: Trust,
    checker: Checker,
    plain: Vec<u8>,
    over: bool,
}

/// What the good chunks of a spool file hold.
struct Measured {
    size: u64,
    sha256: Sha256,
    file_len: u64,
}

impl Measured {
    fn content(&self) -> Content {
        Content { size: self.size, sha256: Digest(self.sha256.clone().finalize().into()) }
    }
}

impl Chunks {
    fn open(path: &Path, trust: Trust) -> io::Result<Self> {
        let file = File::open(path).map_err(|e| naming("open", path, e))?;
        Ok(Self {
            from: BufReader::with_capacity(1 << 16, file),
            trust,
            checker: Checker::new(),
            plain: Vec::new(),
            over: false,
        })
    }

    /// The next chunk; for [`Trust::Nothing`] its plain bytes are in `self.plain` afterwards.
    fn advance(&mut self) -> io::Result<Option<Chunk>> {
        let chunk = match (read_spooled(&mut self.from), self.trust) {
            (Ok(Some(chunk)), _) => chunk,
            (Ok(None), _) => return Ok(None),
            (Err(e), Trust::Nothing) if e.kind() == io::ErrorKind::InvalidData => return Ok(None),
            (Err(e), _) => return Err(e),
        };
        if self.trust == Trust::Nothing && self.checker.check(&chunk, &mut self.plain).is_err() {
            return Ok(None);
        }
        Ok(Some(chunk))
    }

    /// Reads all good chunks.
    fn measure(mut self) -> io::Result<Measured> {
        self.trust = Trust::Nothing;
        let mut measured = Measured { size: 0, sha256: Sha256::new(), file_len: 0 };
        while let Some(chunk) = self.advance()? {
            measured.size += u64::from(chunk.plain_len);
            measured.sha256.update(&self.plain);
            measured.file_len += spooled_len(&chunk);
        }
        Ok(measured)
    }
}

/// Bytes of a chunk in a spool file.
fn spooled_len(chunk: &Chunk) -> u64 {
    (casefile_evidence::archive::chunk::SPOOL_HEADER + chunk.deflated.len()) as u64
}

impl Iterator for Chunks {
    type Item = io::Result<Chunk>;
    fn next(&mut self) -> Option<io::Result<Chunk>> {
        if self.over {
            return None;
        }
        let next = self.advance().transpose();
        self.over = !matches!(next, Some(Ok(_)));
        next
    }
}

/// The error with what we were doing, to which file.
fn naming(doing: &str, path: &Path, e: io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("{doing} {}: {e}", path.display()))
}

#[cfg(test)]
mod tests;
