//! What of one node goes into an archive, under which paths, with the provenance of each item.
//!
//! An agent names its items; whatever it names, no two entries get one path and none is both a file and a directory.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use casefile_evidence::archive::chunk::{Chunk, Pack, spooled as chunks_of};
use casefile_evidence::archive::layout::{ITEMS_ITEM, ItemLine, NODES, item_json};
use casefile_evidence::archive::packed::Packed;
use casefile_evidence::archive::writer::MAX_ADDED;
use casefile_proto::ids::NodeName;
use casefile_proto::item::{EntryPath, ItemHead, ItemKind, ItemTail};

use super::before::Kept;
use super::coverage::{Arrived, Origin};
use super::recorded::{Plain, Spooled, spooled};
use crate::spool::{Content, SpooledItem};

/// What a node may have between two line ends before it counts as one line: more is no text, and is kept as it is.
const MAX_LINE: usize = 8 << 20;

/// One entry of the archive.
#[derive(Debug)]
pub struct Entry {
    /// The whole path below the archive's top directory.
    pub path: EntryPath,
    /// What it holds.
    pub body: Body,
}

/// What an entry holds.
#[derive(Debug)]
pub enum Body {
    /// Bytes made by us: small.
    Bytes(Vec<u8>),
    /// Content that was compressed earlier.
    Chunks(Spooled),
    /// An item as it arrived.
    Item(Box<SpooledItem>, Content),
    /// An entry of the archive before, as it lies there.
    Packed(Packed),
}

/// Chunks of one item, read as they are asked for.
pub type ChunkIter = Box<dyn Iterator<Item = io::Result<Chunk>>>;

impl Body {
    /// Bytes made by us; compressed into `file` when there are too many to be added at once.
    pub fn of(bytes: Vec<u8>, file: &Path) -> io::Result<Self> {
        if u64::try_from(bytes.len()).is_ok_and(|len| len <= MAX_ADDED) {
            return Ok(Self::Bytes(bytes));
        }
        let ((), content) = spooled(file, Pack::Deflate, |out| out.write_all(&bytes))?;
        Ok(Self::Chunks(Spooled { file: file.to_owned(), content }))
    }

    /// How many plain bytes it holds.
    pub fn size(&self) -> u64 {
        match self {
            Self::Packed(packed) => packed.size,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Chunks(s) => s.content.size,
            Self::Item(_, content) => content.size,
        }
    }

    /// What it holds and its chunks, in order; nothing for plain bytes, which have none.
    pub fn chunks(&self) -> io::Result<(Content, ChunkIter)> {
        Ok(match self {
            Self::Packed(packed) => {
                let content = Content { size: packed.size, sha256: packed.sha256 };
                (content, Box::new(packed.chunks()))
            }
            Self::Bytes(_) => return Err(io::Error::other("plain bytes have no chunks")),
            Self::Chunks(s) => (s.content, Box::new(chunks_of(BufReader::new(File::open(&s.file)?)))),
            Self::Item(item, content) => (*content, Box::new(item.chunks()?)),
        })
    }
}

/// The entries of one node, and what of them the coverage may count on: not on what is kept of the archive before, of which
/// the node's new answer says nothing.
pub fn entries(
    node: &NodeName,
    items: Vec<SpooledItem>,
    last_words: Vec<(ItemHead, ItemTail, Spooled)>,
    kept: Vec<Kept>,
    scratch: &Path,
) -> io::Result<(Vec<Entry>, Vec<Arrived>)> {
    let mut bodies = Vec::new();
    for (n, item) in items.into_iter().enumerate() {
        let head = item.head.clone();
        let tail = item.tail.clone();
        let body = body(item, &scratch.join(format!("trimmed-{n}.chunks")))?;
        bodies.push((head, tail, body, Origin::Node));
    }
    for (head, tail, spooled) in last_words {
        bodies.push((head, Some(tail), Body::Chunks(spooled), Origin::LastWords));
    }

    let mut paths = Paths::new(node)?;
    let list = paths.free(ITEMS_ITEM);
    let (mut entries, mut arrived, mut lines) = (Vec::new(), Vec::new(), Vec::new());
    for (head, tail, body, origin) in bodies {
        let content = match &body {
            Body::Chunks(s) => s.content,
            Body::Item(_, content) => *content,
            // Items are never made by us.
            Body::Bytes(_) | Body::Packed(_) => continue,
        };
        let path = paths.free(head.path.as_str());
        let line = ItemLine::new(path.clone(), &head, tail.as_ref(), content.size, content.sha256);
        lines.extend(item_json(&line)?);
        arrived.push(Arrived { head, tail, kept: content.size, origin });
        entries.push(Entry { path, body });
    }
    for Kept { path, line, packed } in kept {
        let path = paths.free(path.as_str());
        lines.extend(item_json(&ItemLine { path: path.clone(), ..line })?);
        entries.push(Entry { path, body: Body::Packed(packed) });
    }
    let list_body = Body::of(lines, &scratch.join("items.chunks"))?;
    entries.push(Entry { path: list, body: list_body });
    Ok((entries, arrived))
}

/// A whole item is copied. Of a text that was cut short the last, incomplete line is left out: it would be read as one.
fn body(item: SpooledItem, trimmed: &Path) -> io::Result<Body> {
    let is_text = matches!(item.head.kind, ItemKind::Log | ItemKind::State);
    if item.tail.is_some() || !is_text {
        let content = item.content()?;
        return Ok(Body::Item(Box::new(item), content));
    }
    let mut plain = Plain::new(item.chunks()?);
    let ((), content) = spooled(trimmed, Pack::Deflate, |out| copy_lines(&mut plain, out))?;
    Ok(Body::Chunks(Spooled { file: trimmed.to_owned(), content }))
}

/// Copies up to the last line end.
fn copy_lines(from: &mut dyn Read, out: &mut dyn Write) -> io::Result<()> {
    let mut buf = vec![0; 64 << 10];
    let mut line = Vec::new();
    loop {
        let len = from.read(&mut buf)?;
        if len == 0 {
            return Ok(());
        }
        let read = &buf[..len];
        match read.iter().rposition(|b| *b == b'\n') {
            Some(end) => {
                out.write_all(&line)?;
                out.write_all(&read[..=end])?;
                line.clear();
                line.extend_from_slice(&read[end + 1..]);
            }
            None => line.extend_from_slice(read),
        }
        if line.len() > MAX_LINE {
            out.write_all(&line)?;
            line.clear();
        }
    }
}

/// Gives out the paths of one node.
struct Paths {
    base: EntryPath,
    files: BTreeSet<String>,
    dirs: BTreeSet<String>,
}

impl Paths {
    fn new(node: &NodeName) -> io::Result<Self> {
        let nodes: EntryPath = NODES.trim_end_matches('/').parse().map_err(io::Error::other)?;
        Ok(Self { base: nodes.child(node.as_str()), files: BTreeSet::new(), dirs: BTreeSet::new() })
    }

    /// This path below the node's directory, or one as near to it as possible that is free.
    fn free(&mut self, below: &str) -> EntryPath {
        let mut n = 1_u32;
        loop {
            let named = if n == 1 { below.to_owned() } else { format!("{below}~{n}") };
            // A path that leads through a file, or is too long once it lies below the node's directory, becomes one
            // component: with its slashes escaped, cut if need be, and then with its hash.
            let whole = format!("{}/{named}", self.base).parse().ok().filter(|path| !self.leads_through_a_file(path));
            let path = whole.unwrap_or_else(|| self.base.child(&named));
            if self.take(&path) {
                return path;
            }
            n += 1;
        }
    }

    fn leads_through_a_file(&self, path: &EntryPath) -> bool {
        parents(path).any(|parent| self.files.contains(parent))
    }

    fn take(&mut self, path: &EntryPath) -> bool {
        let text = path.as_str();
        if self.files.contains(text) || self.dirs.contains(text) || self.leads_through_a_file(path) {
            return false;
        }
        self.dirs.extend(parents(path).map(str::to_owned));
        self.files.insert(text.to_owned())
    }
}

/// The directories that a path leads through.
fn parents(path: &EntryPath) -> impl Iterator<Item = &str> {
    let text = path.as_str();
    text.match_indices('/').map(|(at, _)| &text[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_entries_share_a_path_and_none_is_a_file_and_a_directory() {
        let mut paths = Paths::new(&"n1".parse().unwrap()).unwrap();
        let mut free = |below: &str| paths.free(below).to_string();
        assert_eq!(free("logs/a"), "data/nodes/n1/logs/a");
        assert_eq!(free("logs/a"), "data/nodes/n1/logs/a~2");
        assert_eq!(free("logs/a/b"), "data/nodes/n1/logs=2Fa=2Fb", "below a file there is nothing");
        assert_eq!(free("logs/a/b"), "data/nodes/n1/logs=2Fa=2Fb~2");
        assert_eq!(free("logs"), "data/nodes/n1/logs~2");
        let long = "x/".repeat(505) + "end";
        assert!(free(&long).len() < 300);
    }

    #[test]
    fn a_text_that_was_cut_short_ends_at_a_line_end() {
        let cut = |text: &[u8]| {
            let mut out = Vec::new();
            copy_lines(&mut &text[..], &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(cut(b"one\ntwo\nthr"), "one\ntwo\n");
        assert_eq!(cut(b"one\n"), "one\n");
        assert_eq!(cut(b"no end"), "");
        let long = [vec![b'x'; 100_000], b"\n".to_vec(), vec![b'y'; 100_000]].concat();
        assert_eq!(cut(&long).len(), 100_001);
    }
}
