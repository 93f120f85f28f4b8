//! One file of the cluster's log: blocks of records, each block deflated and with a checksum, written at the end and never again.
//!
//! A block is a chunk as archives and spools have them (`casefile_evidence::archive::chunk`): what is torn at the end is not
//! there. Nothing is synced: nobody was told that anything here is safe, and what a crash of the machine takes is asked of the
//! API server again or declared.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use casefile_evidence::archive::chunk::{Checker, Chunk, Chunker, Pack, SPOOL_HEADER, read_spooled, write_spooled};

use super::entry::{Head, HeadRef};

/// How a file begins: what it is, and the version of its form.
const MAGIC: &[u8; 8] = b"CFCLUS\x00\x01";

/// A block is written when it has so many plain bytes. Larger ones deflate better, smaller ones are read faster for one object.
pub(super) const BLOCK: usize = 256 << 10;

/// Blocks that a reader keeps: lists of objects are nearly in the order in which they were written.
const KEPT: usize = 32;

/// Bytes before each record: the lengths of its head and its body.
const LENGTHS: usize = 8;

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The number of the file.
    pub segment: u32,
    /// Where in it its block begins.
    pub block: u32,
    /// Where in the block it begins.
    pub at: u32,
}

/// A file that is open for reading; it stays readable when it is removed.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The file.
    pub file: Arc<File>,
    /// How much of it is whole.
    pub len: u64,
}

/// One file of the log.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    opened: Opened,
}

impl Segment {
    /// A new one.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all_at(MAGIC, 0)?;
        Ok(Self { path: path.to_owned(), opened: Opened { file: Arc::new(file), len: MAGIC.len() as u64 } })
    }

    /// One that is there; each whole block of it is given to `each` with its position. `None`: it is no such file.
    pub(super) fn open(path: &Path, mut each: impl FnMut(u32, &[u8])) -> io::Result<Option<Self>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut opened = Opened { file: Arc::new(file), len: u64::MAX };
        let mut blocks = Blocks::new(&opened)?;
        let Some(blocks) = &mut blocks else { return Ok(None) };
        while let Some((at, plain)) = blocks.next() {
            each(at, plain);
        }
        opened.len = blocks.at;
        Ok(Some(Self { path: path.to_owned(), opened }))
    }

    pub(super) fn len(&self) -> u64 {
        self.opened.len
    }

    pub(super) fn opened(&self) -> &Opened {
        &self.opened
    }

    /// Writes a block at the end. After an error nothing of it is there.
    pub(super) fn append(&mut self, plain: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut chunker = Chunker::new(Pack::Deflate, |chunk| write_spooled(&chunk, &mut bytes));
        io::Write::write_all(&mut chunker, plain)?;
        chunker.finish()?;
        // Over whatever an earlier attempt has left.
        self.opened.file.write_all_at(&bytes, self.opened.len)?;
        self.opened.len += bytes.len() as u64;
        Ok(())
    }

    /// Removes the file. Whoever reads it goes on reading.
    pub(super) fn remove(self) -> io::Result<()> {
        std::fs::remove_file(&self.path)
    }
}

/// The blocks of a file, from the front.
pub(super) struct Blocks {
    from: BufReader<io::Take<ReadAt>>,
    at: u64,
    checker: Checker,
    plain: Vec<u8>,
}

impl Blocks {
    /// `None`: it is no file of a log.
    pub(super) fn new(opened: &Opened) -> io::Result<Option<Self>> {
        let from = ReadAt { file: Arc::clone(&opened.file), at: 0 };
        let mut from = BufReader::with_capacity(BLOCK, from.take(opened.len));
        let mut magic = [0; MAGIC.len()];
        match from.read_exact(&mut magic) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        let at = MAGIC.len() as u64;
        Ok((magic == *MAGIC).then(|| Self { from, at, checker: Checker::new(), plain: Vec::new() }))
    }

    /// The next whole block and where it begins. What does not check is where the file ends.
    pub(super) fn next(&mut self) -> Option<(u32, &[u8])> {
        let chunk = read_spooled(&mut self.from).ok().flatten()?;
        self.checker.check(&chunk, &mut self.plain).ok()?;
        let at = u32::try_from(self.at).ok()?;
        self.at += (SPOOL_HEADER + chunk.deflated.len()) as u64;
        Some((at, &self.plain))
    }
}

struct ReadAt {
    file: Arc<File>,
    at: u64,
}

impl Read for ReadAt {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.file.read_at(buf, self.at)?;
        self.at += len as u64;
        Ok(len)
    }
}

/// Adds a record to a block. Says where in it.
pub(super) fn put(block: &mut Vec<u8>, head: &HeadRef<'_>, body: &[u8]) -> io::Result<u32> {
    let at = u32::try_from(block.len()).map_err(io::Error::other)?;
    let head = serde_json::to_vec(head)?;
    for part in [head.as_slice(), body] {
        block.extend_from_slice(&u32::try_from(part.len()).map_err(io::Error::other)?.to_le_bytes());
    }
    block.extend_from_slice(&head);
    block.extend_from_slice(body);
    Ok(at)
}

/// The record that begins here in a block, and where the next one does. `None`: there is none.
pub(super) fn record(block: &[u8], at: u32) -> Option<(Head, &[u8], u32)> {
    let rest = block.get(usize::try_from(at).ok()?..)?;
    let word = |n: usize| Some(u32::from_le_bytes(rest.get(4 * n..4 * n + 4)?.try_into().ok()?));
    let (head_len, body_len) = (word(0)?, word(1)?);
    let head_end = LENGTHS.checked_add(usize::try_from(head_len).ok()?)?;
    let end = head_end.checked_add(usize::try_from(body_len).ok()?)?;
    let (head, body) = (rest.get(LENGTHS..head_end)?, rest.get(head_end..end)?);
    Some((serde_json::from_slice(head).ok()?, body, at.checked_add(u32::try_from(end).ok()?)?))
}

/// Every record of a block, with where it begins.
pub(super) fn records(block: &[u8]) -> impl Iterator<Item = (u32, Head, &[u8])> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let at = next;
        let (head, body, end) = record(block, at)?;
        next = end;
        Some((at, head, body))
    })
}

/// A block by the number of its file and where in it it begins.
type Unpacked = ((u32, u32), Arc<Vec<u8>>);

/// Reads single records, with the blocks that were read last at hand.
pub(super) struct Reader {
    kept: VecDeque<Unpacked>,
    checker: Checker,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self { kept: VecDeque::new(), checker: Checker::new() }
    }

    /// The block at this place.
    pub(super) fn block(&mut self, opened: &Opened, place: Place) -> io::Result<Arc<Vec<u8>>> {
        let key = (place.segment, place.block);
        if let Some(n) = self.kept.iter().position(|(kept, _)| *kept == key)
            && let Some(found) = self.kept.remove(n)
        {
            let block = Arc::clone(&found.1);
            self.kept.push_back(found);
            return Ok(block);
        }
        let mut from = ReadAt { file: Arc::clone(&opened.file), at: u64::from(place.block) };
        let chunk: Chunk = read_spooled(&mut from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut plain = Vec::new();
        self.checker.check(&chunk, &mut plain).map_err(io::Error::other)?;
        let block = Arc::new(plain);
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back((key, Arc::clone(&block)));
        Ok(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(opened: &Opened) -> Vec<(u32, Vec<u8>)> {
        let mut all = Vec::new();
        let Some(mut blocks) = Blocks::new(opened).unwrap() else { return all };
        while let Some((at, plain)) = blocks.next() {
            all.push((at, plain.to_vec()));
        }
        all
    }

    #[test]
    fn a_file_cut_at_every_byte_has_its_whole_blocks_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1");
        let mut segment = Segment::create(&path).unwrap();
        for text in ["one", "two and more", "three"] {
            segment.append(text.as_bytes()).unwrap();
        }
        let whole = blocks(segment.opened());
        assert_eq!(whole.len(), 3);
        let bytes = std::fs::read(&path).unwrap();
        let cut = dir.path().join("cut");
        for len in 0..bytes.len() {
            std::fs::write(&cut, &bytes[..len]).unwrap();
            let mut seen = Vec::new();
            let Some(mut again) = Segment::open(&cut, |at, plain| seen.push((at, plain.to_vec()))).unwrap() else {
                assert!(len < MAGIC.len());
                continue;
            };
            assert_eq!(seen, whole[..seen.len()], "cut at {len}");
            // What is written behind a torn end is found again.
            again.append(b"four").unwrap();
            assert_eq!(blocks(again.opened()).last().unwrap().1, b"four", "cut at {len}");
        }
    }
}
