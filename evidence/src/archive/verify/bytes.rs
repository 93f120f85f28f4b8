//! Verifying by the index: every byte of the file has its place and its owner.
//!
//! Headers, padding, index and end have one form, so they are rendered and compared. Of compressed content the index has
//! checksums of both sides: a changed padding bit inside a deflate stream, which no inflater sees, is noticed as well.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use casefile_proto::item::Digest;
use sha2::{Digest as _, Sha256};

use super::{Content, Contents, MAX_TAG_FILE, Problems, is_tag};
use crate::archive::chunk::{Checker, MAX_PLAIN};
use crate::archive::gzip::{self, Sum, stored};
use crate::archive::index::{self, ChunkLine, EntryLine};
use crate::archive::reader::{Indexed, read_chunk_bytes};
use crate::archive::tar;

/// Reads the file from its first byte to its last.
pub(super) fn check(file: &File, indexed: &Indexed, problems: &mut Problems) -> Contents {
    let Indexed { index, locator, appended } = indexed;
    let mut pass = Pass {
        file,
        at: 0,
        before: Sha256::new(),
        sum: Sum::default(),
        checker: Checker::new(),
        plain: Vec::with_capacity(MAX_PLAIN + 1),
    };
    let mut contents = Contents::new();
    if let Some(why) = pass.differs(&gzip::HEADER) {
        problems.of_file(format!("the gzip header {why}"));
    }
    for (i, entry) in index.entries.iter().enumerate() {
        let header = index.header(i);
        if let Some(why) = pass.differs(&stored(&header)) {
            problems.of(entry.path.as_str(), format!("its tar header {why}"));
        }
        pass.sum.add(&header);
        contents.entries.push(pass.content(entry, &index.chunks[entry.chunks.clone()], &mut contents.bytes, problems));
        let padding = vec![0u8; tar::padding(entry.size)];
        if let Some(why) = pass.differs(&stored(&padding)) {
            problems.of(entry.path.as_str(), format!("the padding behind its content {why}"));
        }
        pass.sum.add(&padding);
    }
    let before = Digest(std::mem::take(&mut pass.before).finalize().into());
    if before != locator.before && problems.0.is_empty() {
        problems.of(index::NAME, "the file before it has another digest than it says, though every part is as it says");
    }
    let text = index.text();
    let expected = index::render(&index.top, index.mtime, &text, locator, pass.sum.clone());
    if let Some(why) = pass.differs(&expected.framed) {
        problems.of(index::NAME, format!("what frames or pads it {why}"));
    }
    // Three parts with three names: what stands there is known to the last byte.
    let end = gzip::end(expected.sum);
    let (tar_end, rest) = end.split_at(end.len() - gzip::FINAL_BLOCK.len() - gzip::TRAILER);
    let (last_block, trailer) = rest.split_at(gzip::FINAL_BLOCK.len());
    for (what, part) in
        [("the end of the tar file", tar_end), ("the last deflate block", last_block), ("the gzip trailer", trailer)]
    {
        if let Some(why) = pass.differs(part) {
            problems.of_file(format!("{what} {why}"));
        }
    }
    if *appended > 0 {
        problems.of_file(format!("{appended} bytes follow the end of the archive"));
    }
    contents
}

/// One pass over the file.
struct Pass<'a> {
    file: &'a File,
    at: u64,
    /// Over every byte that was read.
    before: Sha256,
    /// Over the plain bytes that should be there.
    sum: Sum,
    checker: Checker,
    plain: Vec<u8>,
}

impl Pass<'_> {
    /// Reads as many bytes as these and says how they differ, if they do.
    fn differs(&mut self, expected: &[u8]) -> Option<String> {
        let at = self.at;
        let mut found = vec![0u8; expected.len()];
        self.at += expected.len() as u64;
        if let Err(e) = self.file.read_exact_at(&mut found, at) {
            return Some(format!("cannot be read: {e}"));
        }
        self.before.update(&found);
        if found == expected {
            return None;
        }
        let first = found.iter().zip(expected).position(|(a, b)| a != b)?;
        Some(format!("was changed: byte {} of the file is not what it must be", at + first as u64))
    }

    /// Reads the chunks of one entry.
    fn content(
        &mut self,
        entry: &EntryLine,
        chunks: &[ChunkLine],
        bytes: &mut u64,
        problems: &mut Problems,
    ) -> Content {
        let path = entry.path.clone();
        let keep = is_tag(&path) && entry.size <= MAX_TAG_FILE;
        if is_tag(&path) && !keep {
            problems.of(path.as_str(), "it is larger than a tag file can be");
        }
        let (mut sha256, mut text, mut bad, mut first_bad) = (Sha256::new(), Vec::new(), 0u64, None);
        let mut begin = 0u64;
        for line in chunks {
            match self.chunk(line) {
                Ok(()) => {
                    sha256.update(&self.plain);
                    *bytes += self.plain.len() as u64;
                    if keep {
                        text.extend_from_slice(&self.plain);
                    }
                }
                Err(e) => {
                    bad += 1;
                    first_bad.get_or_insert((begin, e));
                }
            }
            self.sum.add_known(line.plain_crc32, line.plain_len);
            begin += u64::from(line.plain_len);
        }
        let sha256 = Digest(sha256.finalize().into());
        let whole = match first_bad {
            Some((begin, e)) => {
                let all = chunks.len();
                problems.of(path.as_str(), format!("{bad} of its {all} chunks cannot be trusted; the first begins at byte {begin} of its content: {e}"));
                false
            }
            None if sha256 != entry.sha256 => {
                problems.of(
                    path.as_str(),
                    format!("its content has the digest {sha256}, and the index says {}", entry.sha256),
                );
                true
            }
            None => true,
        };
        Content { path, size: entry.size, sha256: whole.then_some(sha256), text }
    }

    /// Reads one chunk into `plain`.
    fn chunk(&mut self, line: &ChunkLine) -> io::Result<()> {
        let at = self.at;
        self.at += u64::from(line.deflated_len);
        let chunk = read_chunk_bytes(self.file, at, line)?;
        self.before.update(&chunk.deflated);
        if crc32fast::hash(&chunk.deflated) != line.deflated_crc32 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its compressed bytes were changed"));
        }
        self.checker.check(&chunk, &mut self.plain).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    }
}
