//! The index: the last entry of an archive, `casefile-index`, by which one file is found without reading the others.
//!
//! A text that lists every entry and chunk, not compressed, and at the very end a locator of fixed size at a fixed
//! distance from the end of the file. The text has one form for one archive: parsing renders it again and compares.
//! The index is for speed and for naming damage; what vouches for content are the manifests and the signature.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::ops::Range;

use casefile_proto::item::{Digest, EntryPath};
use casefile_proto::units::Bytes;

use super::chunk::{MAX_DEFLATED, MAX_PLAIN};
use super::gzip::{self, STORED_HEADER, stored, stored_len};
use super::limits::Limits;
use super::tar::{self, BLOCK};

/// The name of the index below the top directory.
pub(crate) const NAME: &str = "casefile-index";

/// The largest index that is written or read: about 3.5 TiB of content in whole chunks, or a million entries.
pub(crate) const MAX_TEXT: u64 = 128 << 20;

/// The longest name of a top directory: with everything of ours behind it, it fits a ustar header.
pub(crate) const MAX_TOP: usize = 100;

/// Where the locator lies, counted from the end of the file.
pub(crate) const LOCATOR_FROM_END: u64 = (BLOCK + gzip::END) as u64;

/// One chunk in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkLine {
    pub(crate) deflated_len: u32,
    pub(crate) deflated_crc32: u32,
    pub(crate) plain_len: u32,
    pub(crate) plain_crc32: u32,
}

/// One entry in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EntryLine {
    pub(crate) path: EntryPath,
    pub(crate) size: u64,
    pub(crate) sha256: Digest,
    /// Where in the file its tar header's stored block begins.
    pub(crate) begins_at: u64,
    /// Where in the file its first chunk begins.
    pub(crate) content_at: u64,
    /// Its chunks in [`Index::chunks`].
    pub(crate) chunks: Range<usize>,
}

/// The index, read: 16 bytes for each chunk and the paths.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) top: String,
    pub(crate) mtime: u64,
    pub(crate) entries: Vec<EntryLine>,
    pub(crate) chunks: Vec<ChunkLine>,
}

/// The index, as it grows while an archive is written.
pub(crate) struct IndexText {
    text: String,
    entries: u64,
    chunks: u64,
}

impl IndexText {
    pub(crate) fn new(top: &str, mtime: u64) -> Self {
        Self { text: format!("casefile-index 1\ntop {top}\nmtime {mtime}\n"), entries: 0, chunks: 0 }
    }

    /// One entry whose first chunk, if any, begins at `content_at`. Its chunks follow.
    pub(crate) fn entry(&mut self, path: &EntryPath, size: u64, sha256: Digest, content_at: u64) {
        // Writing into a String cannot fail.
        let _: std::fmt::Result = writeln!(self.text, "entry {content_at} {size} {sha256} {path}");
        self.entries += 1;
    }

    pub(crate) fn chunk(&mut self, c: &ChunkLine) {
        let _: std::fmt::Result = writeln!(
            self.text,
            "chunk {} {:08x} {} {:08x}",
            c.deflated_len, c.deflated_crc32, c.plain_len, c.plain_crc32
        );
        self.chunks += 1;
    }

    /// How much of [`MAX_TEXT`] is used.
    pub(crate) fn len(&self) -> u64 {
        self.text.len() as u64
    }

    pub(crate) fn finish(mut self) -> String {
        let _: std::fmt::Result = writeln!(self.text, "end {} {}", self.entries, self.chunks);
        self.text
    }
}

impl Index {
    /// Parses the text of an index that begins at `index_at` in the file; says what is wrong with it otherwise. Every
    /// number in it is checked against the others, so that a reader may follow it blindly within the file.
    pub(crate) fn parse(text: &str, index_at: u64, limits: &Limits) -> Result<Self, String> {
        let mut lines = text.lines();
        if lines.next() != Some("casefile-index 1") {
            return Err("its first line is not that of version 1".to_owned());
        }
        let top = lines.next().and_then(|l| l.strip_prefix("top ")).ok_or("it names no top directory")?;
        if !is_top(top) {
            return Err("its top directory is no safe name".to_owned());
        }
        let mtime = lines.next().and_then(|l| l.strip_prefix("mtime ")).and_then(|m| m.parse().ok());
        let mtime: u64 = mtime.filter(|m| *m <= tar::MAX_OCTAL).ok_or("it has no time")?;
        let mut parser = Parser {
            index: Self { top: top.to_owned(), mtime, entries: Vec::new(), chunks: Vec::new() },
            at: gzip::HEADER.len() as u64,
            missing: 0,
            total: 0,
        };
        let mut paths = HashSet::new();
        for line in lines {
            let wrong = || format!("line {:?} is none of an index", line.chars().take(120).collect::<String>());
            let words: Vec<&str> = line.splitn(5, ' ').collect();
            match words[..] {
                ["entry", content_at, size, sha256, path] => {
                    let size = size.parse().map_err(|_| wrong())?;
                    let sha256 = sha256.parse().map_err(|_| wrong())?;
                    let path: EntryPath = path.parse().map_err(|e| format!("{e}"))?;
                    if !paths.insert(path.clone()) {
                        return Err(format!("it lists {path} twice"));
                    }
                    let entry = parser.entry(path, size, sha256, limits)?;
                    if content_at.parse() != Ok(entry.content_at) {
                        return Err(wrong());
                    }
                }
                ["chunk", deflated_len, deflated_crc32, plain_len, plain_crc32] => {
                    let crc = |text| u32::from_str_radix(text, 16).map_err(|_| wrong());
                    let chunk = ChunkLine {
                        deflated_len: deflated_len.parse().map_err(|_| wrong())?,
                        deflated_crc32: crc(deflated_crc32)?,
                        plain_len: plain_len.parse().map_err(|_| wrong())?,
                        plain_crc32: crc(plain_crc32)?,
                    };
                    parser.chunk(chunk)?;
                }
                ["end", _, _] => break,
                _ => return Err(wrong()),
            }
        }
        parser.close()?;
        if parser.at != index_at {
            return Err(format!("its entries end at byte {} and not where it begins, at byte {index_at}", parser.at));
        }
        if parser.index.text() != text {
            return Err("it is not written as Casefile writes it".to_owned());
        }
        Ok(parser.index)
    }

    /// The text that this index is.
    pub(crate) fn text(&self) -> String {
        let mut text = IndexText::new(&self.top, self.mtime);
        for entry in &self.entries {
            text.entry(&entry.path, entry.size, entry.sha256, entry.content_at);
            self.chunks[entry.chunks.clone()].iter().for_each(|c| text.chunk(c));
        }
        text.finish()
    }

    /// The header of the entry at `i`, as it must stand in the file.
    pub(crate) fn header(&self, i: usize) -> Vec<u8> {
        let entry = &self.entries[i];
        tar::header(&format!("{}/{}", self.top, entry.path), entry.size, self.mtime)
    }
}

/// Whether this can be a top directory: one safe component that fits, and none that is hidden or looks like an option,
/// so that unpacking never makes a `.ssh`.
pub(crate) fn is_top(name: &str) -> bool {
    name.len() <= MAX_TOP
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && !name.contains('/')
        && name.parse::<EntryPath>().is_ok()
}

/// Walks through the file in thought, as the lines say.
struct Parser {
    index: Index,
    /// Where in the file the next thing begins.
    at: u64,
    /// Plain bytes that the chunks of the last entry still owe.
    missing: u64,
    total: u64,
}

impl Parser {
    fn entry(&mut self, path: EntryPath, size: u64, sha256: Digest, limits: &Limits) -> Result<&EntryLine, String> {
        self.close()?;
        if size > limits.entry_bytes.0 {
            return Err(format!("{path} has {}, and the limit is {}", Bytes(size), limits.entry_bytes));
        }
        self.total = self.total.saturating_add(size);
        if self.total > limits.total_bytes.0 {
            return Err(format!("it has more than {} of content", limits.total_bytes));
        }
        if self.index.entries.len() as u64 >= limits.entries {
            return Err(format!("it has more than {} entries", limits.entries));
        }
        let begins_at = self.at;
        let header_len = tar::header_len(&format!("{}/{path}", self.index.top), size);
        self.at = self.at.saturating_add(stored_len(header_len) as u64);
        self.missing = size;
        let first = self.index.chunks.len();
        self.index.entries.push(EntryLine { path, size, sha256, begins_at, content_at: self.at, chunks: first..first });
        self.index.entries.last().ok_or_else(String::new)
    }

    fn chunk(&mut self, chunk: ChunkLine) -> Result<(), String> {
        let entry = self.index.entries.last_mut().ok_or("a chunk comes before any entry")?;
        let plain_len = u64::from(chunk.plain_len);
        if plain_len == 0 || plain_len > MAX_PLAIN as u64 || u64::from(chunk.deflated_len) > MAX_DEFLATED as u64 {
            return Err(format!("a chunk of {} has a length that no chunk can have", entry.path));
        }
        self.missing =
            self.missing.checked_sub(plain_len).ok_or_else(|| format!("the chunks of {} are too long", entry.path))?;
        self.at = self.at.saturating_add(u64::from(chunk.deflated_len));
        self.index.chunks.push(chunk);
        entry.chunks.end += 1;
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        if let Some(entry) = self.index.entries.last() {
            if self.missing != 0 {
                return Err(format!("the chunks of {} are too short", entry.path));
            }
            let padding = tar::padding(entry.size);
            self.at = self.at.saturating_add(stored_len(padding) as u64);
        }
        Ok(())
    }
}

/// Where the index lies and what it must be: the last 512 bytes of its entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Locator {
    /// Where in the file the stored block with the index's tar header begins.
    pub(crate) index_at: u64,
    /// The length of the text.
    pub(crate) text_len: u64,
    /// The digest of every byte of the file before `index_at`.
    pub(crate) before: Digest,
    /// The digest of the text.
    pub(crate) text: Digest,
}

impl Locator {
    pub(crate) fn render(&self) -> [u8; BLOCK] {
        let mut lines = format!(
            "casefile-locator 1\nindex-entry-at {:020}\nindex-text-bytes {:020}\n\
             sha256-of-the-file-before-the-index-entry {}\nsha256-of-the-index-text {}\n",
            self.index_at, self.text_len, self.before, self.text
        );
        let crc = crc32fast::hash(lines.as_bytes());
        let _: std::fmt::Result = writeln!(lines, "crc32-of-the-lines-above {crc:08x}");
        let mut out = [b'\n'; BLOCK];
        out[..lines.len()].copy_from_slice(lines.as_bytes());
        out
    }

    /// The locator that this block is, if it is one to the last byte.
    pub(crate) fn parse(block: &[u8; BLOCK]) -> Option<Self> {
        let mut lines = std::str::from_utf8(block).ok()?.lines();
        lines.next()?;
        let mut value = |keyword: &str| lines.next()?.strip_prefix(keyword)?.strip_prefix(' ');
        let found = Self {
            index_at: value("index-entry-at")?.parse().ok()?,
            text_len: value("index-text-bytes")?.parse().ok()?,
            before: value("sha256-of-the-file-before-the-index-entry")?.parse().ok()?,
            text: value("sha256-of-the-index-text")?.parse().ok()?,
        };
        (found.text_len <= MAX_TEXT && found.render() == *block).then_some(found)
    }

    /// The size of the whole file that ends in this locator; `None` when no file is that long.
    pub(crate) fn file_len(&self) -> Option<u64> {
        let padded = self.text_len.checked_next_multiple_of(BLOCK as u64)?;
        let text = stored_len(usize::try_from(padded).ok()?) as u64;
        let framed = (STORED_HEADER + BLOCK) as u64;
        self.index_at.checked_add(framed)?.checked_add(text)?.checked_add(STORED_HEADER as u64 + LOCATOR_FROM_END)
    }
}

/// The index entry as it stands in the file: tar header, text padded with newlines, locator; and the plain bytes of it.
pub(crate) struct IndexEntry {
    /// The bytes in the file.
    pub(crate) framed: Vec<u8>,
    /// CRC-32 and length of what they inflate to.
    pub(crate) sum: gzip::Sum,
}

/// Renders the entry whose tar header begins at `locator.index_at`; `sum` is that of all plain bytes before.
pub(crate) fn render(top: &str, mtime: u64, text: &str, locator: &Locator, mut sum: gzip::Sum) -> IndexEntry {
    let mut padded = text.as_bytes().to_vec();
    padded.resize(padded.len().next_multiple_of(BLOCK), b'\n');
    let header = tar::header(&format!("{top}/{NAME}"), (padded.len() + BLOCK) as u64, mtime);
    let mut framed = stored(&header);
    gzip::put_stored(&padded, &mut framed);
    gzip::put_stored(&locator.render(), &mut framed);
    for part in [&header[..], &padded, &locator.render()] {
        sum.add(part);
    }
    IndexEntry { framed, sum }
}

/// Where in the file the text's stored blocks begin.
pub(crate) fn text_at(index_at: u64) -> u64 {
    // The name of an index always fits a ustar header: `MAX_TOP`.
    index_at + (STORED_HEADER + BLOCK) as u64
}

/// Takes the block headers out of a text that was read as it stands in the file.
pub(crate) fn unframe(framed: &[u8], text_len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(framed.len());
    for piece in framed.chunks(STORED_HEADER + gzip::MAX_STORED) {
        out.extend_from_slice(piece.get(STORED_HEADER..).unwrap_or_default());
    }
    out.truncate(text_len);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { entries: 10, entry_bytes: Bytes(1 << 30), total_bytes: Bytes(1 << 31) };

    fn sample() -> (String, u64) {
        let mut text = IndexText::new("INC-000001_a_b", 77);
        let sha256 = Digest([7; 32]);
        let header = stored_len(BLOCK) as u64;
        let mut at = 10;
        for (path, chunks) in
            [("bagit.txt", vec![(30, 55)]), ("data/x", vec![(100, 1 << 20), (9, 3)]), ("data/y", vec![])]
        {
            let size = chunks.iter().map(|(_, plain)| u64::from(*plain)).sum();
            text.entry(&path.parse().unwrap(), size, sha256, at + header);
            at += header;
            for (deflated_len, plain_len) in chunks {
                text.chunk(&ChunkLine { deflated_len, deflated_crc32: 5, plain_len, plain_crc32: 0xabcd_ef01 });
                at += u64::from(deflated_len);
            }
            at += stored_len(tar::padding(size)) as u64;
        }
        (text.finish(), at)
    }

    proptest! {
        #[test]
        fn any_changed_byte_of_the_text_is_an_error_or_only_another_checksum(at in any::<prop::sample::Index>(), change in 1u8..128) {
            let (text, index_at) = sample();
            let mut bytes = text.clone().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= change;
            if let Ok(changed) = Index::parse(&String::from_utf8_lossy(&bytes), index_at, &LIMITS) {
                let good = Index::parse(&text, index_at, &LIMITS).unwrap();
                prop_assert_eq!(changed.chunks.len(), good.chunks.len());
                for (a, b) in changed.entries.iter().zip(&good.entries) {
                    prop_assert_eq!((a.size, a.begins_at, &a.chunks), (b.size, b.begins_at, &b.chunks));
                }
            }
        }

        #[test]
        fn any_changed_byte_of_a_locator_is_noticed(at in 0usize..BLOCK, change in 1u8..) {
            let locator = Locator { index_at: 12, text_len: 345, before: Digest([1; 32]), text: Digest([2; 32]) };
            let mut block = locator.render();
            prop_assert_eq!(Locator::parse(&block), Some(locator));
            block[at] ^= change;
            prop_assert_eq!(Locator::parse(&block), None);
        }

        #[test]
        fn a_framed_text_comes_back(len in 0usize..200_000) {
            let mut padded = vec![b'x'; len];
            padded.resize(len.next_multiple_of(BLOCK), b'\n');
            prop_assert_eq!(unframe(&stored(&padded), len), vec![b'x'; len]);
        }
    }

    #[test]
    fn an_index_is_read_as_it_was_written() {
        let (text, index_at) = sample();
        let index = Index::parse(&text, index_at, &LIMITS).unwrap();
        assert_eq!(
            index.entries.iter().map(|e| e.path.as_str()).collect::<Vec<_>>(),
            ["bagit.txt", "data/x", "data/y"]
        );
        assert_eq!(index.entries[1].chunks, 1..3);
        assert!(Index::parse(&text, index_at + 1, &LIMITS).is_err());
    }

    #[test]
    fn an_index_beyond_the_limits_is_refused() {
        let (text, index_at) = sample();
        for limits in [
            Limits { entries: 2, ..LIMITS },
            Limits { entry_bytes: Bytes(1 << 20), ..LIMITS },
            Limits { total_bytes: Bytes(1 << 20), ..LIMITS },
        ] {
            assert!(Index::parse(&text, index_at, &limits).is_err(), "{limits:?}");
        }
    }

    #[test]
    fn an_index_entry_is_as_long_as_its_locator_says() {
        for len in [0, 1, 511, 512, 65_535, 70_000, 131_071] {
            let locator =
                Locator { index_at: 99, text_len: len as u64, before: Digest([1; 32]), text: Digest([2; 32]) };
            let entry = render("top", 0, &"x".repeat(len), &locator, gzip::Sum::default());
            assert_eq!(locator.file_len(), Some(99 + (entry.framed.len() + gzip::END) as u64), "{len}");
        }
    }
}
