//! Writing an archive: entries are copied chunk by chunk, never recompressed; sealing adds the tag files and the index.
//!
//! The same title, key and content give the same bytes. Holds one line of text for each entry and chunk (about 30 bytes
//! for a MiB of content) and, while small content is added, that content compressed; nothing else grows.

use std::io::{self, BufWriter, Read, Write};

use casefile_proto::item::{Digest, EntryPath};
use sha2::{Digest as _, Sha256};

use super::bag::{self, Oxum};
use super::chunk::{Chunk, Chunker, Pack};
use super::gzip::{self, Sum, stored};
use super::index::{self, ChunkLine, IndexText, Locator};
use super::layout::DATA;
use super::sign::SigningKey;
use super::{Title, manifest, readme, tar};

/// The most plain bytes that [`ArchiveWriter::add`] takes: a tar header says the size before the content, so the content
/// waits in memory. What is larger is spooled as chunks first.
pub const MAX_ADDED: u64 = 16 << 20;

/// Small writes are gathered up to this; most chunks are larger and pass by.
const BUFFER: usize = 64 << 10;

/// Why an archive could not be written. A path that is refused leaves the writer as it was; after anything else it is
/// useless, and says so.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Writing or reading failed.
    #[error("write the archive")]
    Io(#[source] io::Error),
    /// An entry of this path is there already.
    #[error("the archive has two entries {0}")]
    Twice(EntryPath),
    /// Entries must come in order of path, so that the same incident gives the same bytes.
    #[error("the entry {0} comes out of order")]
    Order(EntryPath),
    /// A chunk is malformed, or the content is not what its size and digest promised.
    #[error("the content of {path} is refused: {why}")]
    Content {
        /// Which entry.
        path: EntryPath,
        /// What is wrong.
        why: String,
    },
    /// Signing failed.
    #[error("sign the archive: {0}")]
    Sign(String),
    /// An entry failed before, and what was written of it cannot be taken back.
    #[error("the archive was given up when an entry before could not be written")]
    GivenUp,
}

/// Content that was compressed and checked earlier.
pub struct ChunkedItem<'a> {
    /// The size of the plain content.
    pub size: u64,
    /// Its digest, as checked on receipt.
    pub sha256: Digest,
    /// The chunks, in order.
    pub chunks: &'a mut dyn Iterator<Item = io::Result<Chunk>>,
}

/// Streams an archive out. Entries are payload below `data/` and come in order of path (bytewise).
pub struct ArchiveWriter<W: Write> {
    out: Hashed<W>,
    title: Title,
    top: String,
    mtime: u64,
    key: Option<SigningKey>,
    sum: Sum,
    index: IndexText,
    manifest: String,
    tag_manifest: String,
    oxum: Oxum,
    last: Option<EntryPath>,
    given_up: bool,
}

/// What was sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Bytes of the file.
    pub size: u64,
    /// Digest of the whole file.
    pub sha256: Digest,
    /// Payload entries.
    pub entries: u64,
    /// Bytes of the payload before compression.
    pub plain: u64,
}

impl<W: Write> ArchiveWriter<W> {
    /// Begins; writes `bagit.txt` and `README.txt`. Sealing will sign with `key`; without one the archive is unsigned, and
    /// says so.
    pub fn new(out: W, title: Title, key: Option<&SigningKey>) -> Result<Self, WriteError> {
        let (top, mtime) = (title.name(), title.mtime());
        let mut this = Self {
            out: Hashed { out: BufWriter::with_capacity(BUFFER, out), sha256: Sha256::new(), written: 0 },
            index: IndexText::new(&top, mtime),
            title,
            top,
            mtime,
            key: key.cloned(),
            sum: Sum::default(),
            manifest: String::new(),
            tag_manifest: String::new(),
            oxum: Oxum::default(),
            last: None,
            given_up: false,
        };
        this.out.write(&gzip::HEADER)?;
        this.tag(bag::BAGIT, bag::BAGIT_TEXT)?;
        this.tag(bag::README, &readme::text(&this.title, this.fingerprint().as_deref()))?;
        Ok(this)
    }

    /// One payload entry out of chunks: copied, its size checked; the digest is the caller's, checked on receipt.
    pub fn add_chunks(&mut self, path: &EntryPath, item: ChunkedItem<'_>) -> Result<Digest, WriteError> {
        self.admit(path)?;
        let (size, sha256) = (item.size, item.sha256);
        self.entry(path, item)?;
        manifest::put_line(path, sha256, &mut self.manifest);
        self.oxum.octets = self.oxum.octets.saturating_add(size);
        self.oxum.streams += 1;
        self.last = Some(path.clone());
        Ok(sha256)
    }

    /// One payload entry out of at most [`MAX_ADDED`] plain bytes, compressed here.
    pub fn add(&mut self, path: &EntryPath, body: &mut dyn Read) -> Result<Digest, WriteError> {
        let (chunks, size, sha256) = compress(&mut body.take(MAX_ADDED + 1))?;
        if size > MAX_ADDED {
            let why = format!("it is larger than {MAX_ADDED} bytes, and must come in chunks");
            return Err(WriteError::Content { path: path.clone(), why });
        }
        self.add_chunks(path, ChunkedItem { size, sha256, chunks: &mut chunks.into_iter().map(Ok) })
    }

    /// Consumes the writer: bag-info, manifests, signature, index, end. The file is flushed and not synced.
    pub fn seal(mut self) -> Result<(Sealed, W), WriteError> {
        if self.given_up {
            return Err(WriteError::GivenUp);
        }
        let fingerprint = self.fingerprint();
        self.tag(bag::BAG_INFO, &bag::info(&self.title, self.oxum, fingerprint.as_deref()))?;
        let manifest = std::mem::take(&mut self.manifest);
        self.tag(bag::MANIFEST, &manifest)?;
        let tag_manifest = std::mem::take(&mut self.tag_manifest);
        self.tag(bag::TAG_MANIFEST, &tag_manifest)?;
        if let Some(key) = &self.key {
            let signature = key.sign(tag_manifest.as_bytes()).map_err(|e| WriteError::Sign(e.to_string()))?;
            self.tag(bag::SIGNATURE, &signature)?;
        }
        let text = std::mem::replace(&mut self.index, IndexText::new("", 0)).finish();
        let locator = Locator {
            index_at: self.out.written,
            text_len: text.len() as u64,
            before: Digest(self.out.sha256.clone().finalize().into()),
            text: Digest(Sha256::digest(&text).into()),
        };
        let entry = index::render(&self.top, self.mtime, &text, &locator, self.sum);
        self.out.write(&entry.framed)?;
        self.out.write(&gzip::end(entry.sum))?;
        let Hashed { out, sha256, written } = self.out;
        let out = out.into_inner().map_err(|e| WriteError::Io(e.into_error()))?;
        let sealed = Sealed {
            size: written,
            sha256: Digest(sha256.finalize().into()),
            entries: self.oxum.streams,
            plain: self.oxum.octets,
        };
        Ok((sealed, out))
    }

    fn fingerprint(&self) -> Option<String> {
        self.key.as_ref().map(SigningKey::fingerprint)
    }

    /// Whether this may be the next payload entry.
    fn admit(&self, path: &EntryPath) -> Result<(), WriteError> {
        if self.given_up {
            return Err(WriteError::GivenUp);
        }
        if !path.as_str().starts_with(DATA) {
            return Err(WriteError::Content { path: path.clone(), why: format!("it does not lie below {DATA}") });
        }
        match self.last.as_ref().map(|last| path.cmp(last)) {
            Some(std::cmp::Ordering::Equal) => Err(WriteError::Twice(path.clone())),
            Some(std::cmp::Ordering::Less) => Err(WriteError::Order(path.clone())),
            Some(std::cmp::Ordering::Greater) | None => Ok(()),
        }
    }

    fn tag(&mut self, name: &'static str, text: &str) -> Result<(), WriteError> {
        let path = super::layout::path(name);
        let (chunks, size, sha256) = compress(&mut text.as_bytes())?;
        self.entry(&path, ChunkedItem { size, sha256, chunks: &mut chunks.into_iter().map(Ok) })?;
        manifest::put_line(&path, sha256, &mut self.tag_manifest);
        Ok(())
    }

    /// Header, content, padding. What fails here leaves half an entry behind.
    fn entry(&mut self, path: &EntryPath, item: ChunkedItem<'_>) -> Result<(), WriteError> {
        self.given_up = true;
        let header = tar::header(&format!("{}/{path}", self.top), item.size, self.mtime);
        self.out.write(&stored(&header))?;
        self.sum.add(&header);
        self.index.entry(path, item.size, item.sha256, self.out.written);
        let refused = |why: String| WriteError::Content { path: path.clone(), why };
        let mut left = item.size;
        for chunk in item.chunks {
            let chunk = chunk.map_err(WriteError::Io)?;
            chunk.check_shape().map_err(|e| refused(e.to_string()))?;
            left = left
                .checked_sub(u64::from(chunk.plain_len))
                .ok_or_else(|| refused("its chunks are longer than its size".to_owned()))?;
            self.out.write(&chunk.deflated)?;
            self.sum.add_known(chunk.plain_crc32, chunk.plain_len);
            self.index.chunk(&ChunkLine {
                deflated_len: u32::try_from(chunk.deflated.len()).map_err(|e| refused(e.to_string()))?,
                deflated_crc32: crc32fast::hash(&chunk.deflated),
                plain_len: chunk.plain_len,
                plain_crc32: chunk.plain_crc32,
            });
        }
        if left != 0 {
            return Err(refused(format!("its chunks are {left} bytes shorter than its size")));
        }
        // The tag files and the end still need a little room.
        if self.index.len() > index::MAX_TEXT - (64 << 10) {
            return Err(refused("the index would be too large with it".to_owned()));
        }
        let zeros = [0u8; tar::BLOCK];
        let padding = &zeros[..tar::padding(item.size)];
        self.out.write(&stored(padding))?;
        self.sum.add(padding);
        self.given_up = false;
        Ok(())
    }
}

/// Small content as chunks, with size and digest.
fn compress(body: &mut dyn Read) -> Result<(Vec<Chunk>, u64, Digest), WriteError> {
    let mut chunks = Vec::new();
    let mut chunker = Chunker::new(Pack::Deflate, |chunk| {
        chunks.push(chunk);
        Ok(())
    });
    io::copy(body, &mut chunker).map_err(WriteError::Io)?;
    let (size, sha256) = chunker.finish().map_err(WriteError::Io)?;
    Ok((chunks, size, sha256))
}

/// The file, and the digest of what was written to it.
struct Hashed<W: Write> {
    out: BufWriter<W>,
    sha256: Sha256,
    written: u64,
}

impl<W: Write> Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.out.write_all(bytes).map_err(WriteError::Io)?;
        self.sha256.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use casefile_proto::incident::{IncidentAsk, Severity, Trigger};
    use casefile_proto::scope::Scope;
    use casefile_proto::time::{WallTime, Window};

    fn title() -> Title {
        let ask = IncidentAsk {
            title: String::new(),
            reason: String::new(),
            requested_by: String::new(),
            severity: Severity::Sev3,
            trigger: Trigger::Extract,
            resource: None,
            runbook: None,
            window: Window::new(WallTime::from_secs(1), WallTime::from_secs(2)).unwrap(),
            nodes: vec![],
            scope: Scope::default(),
        };
        Title { ask, incident: None, sealed_at: WallTime::from_secs(3), sealed_by: "a test".to_owned(), amends: None }
    }

    fn path(text: &str) -> EntryPath {
        text.parse().unwrap()
    }

    fn add(writer: &mut ArchiveWriter<impl Write>, name: &str) -> Result<Digest, WriteError> {
        writer.add(&path(name), &mut &b"content"[..])
    }

    #[test]
    fn entries_out_of_order_twice_or_elsewhere_are_refused_and_nothing_of_them_is_written() {
        let mut writer = ArchiveWriter::new(Vec::new(), title(), None).unwrap();
        let mut plain = ArchiveWriter::new(Vec::new(), title(), None).unwrap();
        for name in ["data/a", "data/b/c"] {
            add(&mut writer, name).unwrap();
            add(&mut plain, name).unwrap();
        }
        assert!(matches!(add(&mut writer, "data/b/c"), Err(WriteError::Twice(_))));
        assert!(matches!(add(&mut writer, "data/a"), Err(WriteError::Order(_))));
        assert!(matches!(add(&mut writer, "manifest-sha256.txt"), Err(WriteError::Content { .. })));
        let large = writer.add(&path("data/large"), &mut io::repeat(0));
        assert!(matches!(large, Err(WriteError::Content { .. })));
        assert_eq!(writer.seal().unwrap(), plain.seal().unwrap());
    }

    #[test]
    fn content_that_is_not_what_it_promised_gives_the_archive_up() {
        let (chunks, size, sha256) = compress(&mut &b"content"[..]).unwrap();
        let bad = |chunk: fn(&mut Chunk)| {
            let mut chunks = chunks.clone();
            chunk(&mut chunks[0]);
            chunks
        };
        for (size, chunks) in [
            (size + 1, chunks.clone()),
            (size - 1, chunks.clone()),
            (size, vec![]),
            (size, bad(|c| c.deflated.truncate(4))),
            (0, bad(|c| c.plain_len = 0)),
        ] {
            let mut writer = ArchiveWriter::new(Vec::new(), title(), None).unwrap();
            let item = ChunkedItem { size, sha256, chunks: &mut chunks.into_iter().map(Ok) };
            assert!(matches!(writer.add_chunks(&path("data/a"), item), Err(WriteError::Content { .. })));
            assert!(matches!(add(&mut writer, "data/b"), Err(WriteError::GivenUp)));
            assert!(matches!(writer.seal(), Err(WriteError::GivenUp)));
        }
        let mut writer = ArchiveWriter::new(Vec::new(), title(), None).unwrap();
        let mut chunks = std::iter::once(Err(io::Error::other("the spool is gone")));
        let item = ChunkedItem { size, sha256, chunks: &mut chunks };
        assert!(matches!(writer.add_chunks(&path("data/a"), item), Err(WriteError::Io(_))));
        assert!(matches!(writer.seal(), Err(WriteError::GivenUp)));
    }

    /// A disk with this much room.
    struct Full(usize);

    impl Write for Full {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let n = buf.len().min(self.0);
            self.0 -= n;
            Ok(n)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_is_an_error_wherever_it_happens() {
        let seal = |out: Full| {
            let mut writer = ArchiveWriter::new(out, title(), None)?;
            add(&mut writer, "data/a")?;
            writer.seal()
        };
        let size = usize::try_from(seal(Full(usize::MAX)).unwrap().0.size).unwrap();
        assert!(seal(Full(size)).is_ok());
        for room in (0..size).step_by(97) {
            assert!(matches!(seal(Full(room)), Err(WriteError::Io(_))), "{room} of {size} bytes");
        }
    }
}
