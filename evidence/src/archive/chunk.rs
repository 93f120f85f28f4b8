//! Chunks: at most 1 MiB of plain content as raw deflate from a fresh state, ended by a sync flush.
//!
//! What lives here: cutting content into chunks ([`Chunker`]), checking one that came from elsewhere ([`Checker`]), and
//! the spool file that holds them until they are sealed. A chunk that passed the check can stand after any other in one
//! deflate stream and be inflated alone. What does not: how chunks become an archive (`writer`).

use std::io::{self, Read, Write};

use casefile_proto::item::Digest;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use sha2::{Digest as _, Sha256};

use super::gzip::{FINAL_BLOCK, STORED_HEADER, put_stored, stored_len};

/// The most plain bytes in one chunk.
pub const MAX_PLAIN: usize = 1 << 20;

/// The most compressed bytes that a chunk may have: what does not compress is stored, in blocks of 65,535 bytes with 5
/// bytes each, and other compressors need a little more.
pub const MAX_DEFLATED: usize = MAX_PLAIN + 1024;

/// What ends every chunk: the empty stored block of a sync flush, without its three header bits.
const SYNC: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// Compression level of content: on container logs 2 gives 95 % of what 3 does and 89 % of what 6 does, for two thirds and
/// two fifths of their CPU, which is the node's; level 1 is a trap there. (`cargo bench -p casefile-agent --bench logs`)
const LEVEL: u32 = 2;

/// One compressed piece of content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Bytes when inflated: 1 to [`MAX_PLAIN`].
    pub plain_len: u32,
    /// CRC-32 of the plain bytes.
    pub plain_crc32: u32,
    /// The compressed bytes; at most [`MAX_DEFLATED`].
    pub deflated: Vec<u8>,
}

/// Why a chunk is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// A length is out of its limits, or the deflate stream is broken, ends wrongly or gives another length.
    #[error("the chunk is malformed: {0}")]
    Malformed(&'static str),
    /// The checksum of the plain bytes does not match.
    #[error("the chunk's checksum does not match its content")]
    Checksum,
}

impl Chunk {
    /// Inflates into `plain` (cleared first; never more than [`MAX_PLAIN`]) and checks length, checksum and that the
    /// deflate stream refers to nothing before it and ends in a sync flush. Whoever checks many keeps a [`Checker`].
    pub fn check(&self, plain: &mut Vec<u8>) -> Result<(), ChunkError> {
        Checker::new().check(self, plain)
    }

    /// What can be said without inflating: lengths within their limits, and the mark of a sync flush at the end.
    pub fn check_shape(&self) -> Result<(), ChunkError> {
        let plain_len = usize::try_from(self.plain_len).unwrap_or(usize::MAX);
        if plain_len == 0 || plain_len > MAX_PLAIN {
            return Err(ChunkError::Malformed("its length is not 1 byte to 1 MiB"));
        }
        if self.deflated.len() > MAX_DEFLATED {
            return Err(ChunkError::Malformed("it is longer than stored content would be"));
        }
        if !self.deflated.ends_with(&SYNC) {
            return Err(ChunkError::Malformed("it does not end in a sync flush"));
        }
        Ok(())
    }
}

/// Checks chunks one after the other with one inflater.
pub struct Checker {
    inflate: Decompress,
}

impl Default for Checker {
    fn default() -> Self {
        Self::new()
    }
}

impl Checker {
    /// An inflater of about 50 KiB.
    pub fn new() -> Self {
        Self { inflate: Decompress::new(false) }
    }

    /// As [`Chunk::check`].
    pub fn check(&mut self, chunk: &Chunk, plain: &mut Vec<u8>) -> Result<(), ChunkError> {
        plain.clear();
        chunk.check_shape()?;
        let plain_len = usize::try_from(chunk.plain_len).unwrap_or(usize::MAX);
        // A fresh state: a reference to something before the chunk is an error to the inflater.
        self.inflate.reset(false);
        // One byte more than is expected, so that a longer content is seen and not cut.
        plain.reserve_exact(plain_len + 1);
        let broken = |_| ChunkError::Malformed("it does not inflate");
        let status = self.inflate.decompress_vec(&chunk.deflated, plain, FlushDecompress::None).map_err(broken)?;
        if status == Status::StreamEnd {
            return Err(ChunkError::Malformed("it holds a final block"));
        }
        let consumed = self.inflate.total_in();
        if plain.len() != plain_len || consumed != chunk.deflated.len() as u64 {
            return Err(ChunkError::Malformed("it inflates to another length"));
        }
        // Only between two blocks and at a byte boundary is this exactly a final empty block: anywhere else it would
        // give content, end earlier or not end. So whatever follows the chunk is read from the same clean state.
        let mut nothing = [0u8; 1];
        let status = self.inflate.decompress(&FINAL_BLOCK, &mut nothing, FlushDecompress::None).map_err(broken)?;
        if status != Status::StreamEnd
            || self.inflate.total_in() != consumed + FINAL_BLOCK.len() as u64
            || self.inflate.total_out() != plain_len as u64
        {
            return Err(ChunkError::Malformed("it does not end between two blocks"));
        }
        if crc32fast::hash(plain) != chunk.plain_crc32 {
            return Err(ChunkError::Checksum);
        }
        Ok(())
    }
}

/// Whether content is worth compressing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pack {
    /// Text and tables.
    Deflate,
    /// Recordings: their blocks are deflated already.
    Store,
}

/// Cuts plain bytes into chunks, counting and hashing. `F` gets each chunk when it is full; an error of it is the
/// writer's error. Holds at most about 2.5 MiB.
pub struct Chunker<F: FnMut(Chunk) -> io::Result<()>> {
    pack: Pack,
    each: F,
    deflate: Compress,
    plain: Vec<u8>,
    deflated: Vec<u8>,
    size: u64,
    sha256: Sha256,
}

impl<F: FnMut(Chunk) -> io::Result<()>> Chunker<F> {
    /// Compressing, or storing what is compressed already.
    pub fn new(pack: Pack, each: F) -> Self {
        Self {
            pack,
            each,
            deflate: Compress::new(Compression::new(LEVEL), false),
            plain: Vec::new(),
            deflated: Vec::new(),
            size: 0,
            sha256: Sha256::new(),
        }
    }

    /// Plain bytes taken so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The last chunk is given out; size and digest of all. Empty content has no chunk.
    pub fn finish(mut self) -> io::Result<(u64, Digest)> {
        if !self.plain.is_empty() {
            self.cut()?;
        }
        Ok((self.size, Digest(self.sha256.finalize().into())))
    }

    fn cut(&mut self) -> io::Result<()> {
        match self.pack {
            Pack::Deflate => deflate_into(&mut self.deflate, &self.plain, &mut self.deflated)?,
            Pack::Store => store_into(&self.plain, &mut self.deflated),
        }
        let chunk = Chunk {
            plain_len: u32::try_from(self.plain.len()).map_err(io::Error::other)?,
            plain_crc32: crc32fast::hash(&self.plain),
            deflated: self.deflated.clone(),
        };
        self.plain.clear();
        (self.each)(chunk)
    }
}

impl<F: FnMut(Chunk) -> io::Result<()>> Write for Chunker<F> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let taken = buf.len().min(MAX_PLAIN - self.plain.len());
        let taken_bytes = &buf[..taken];
        self.plain.extend_from_slice(taken_bytes);
        self.sha256.update(taken_bytes);
        self.size += taken as u64;
        if self.plain.len() == MAX_PLAIN {
            self.cut()?;
        }
        Ok(taken)
    }

    /// Does nothing: where chunks end must depend on the content alone, or the same content gives other bytes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn deflate_into(state: &mut Compress, plain: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    state.reset();
    out.clear();
    out.reserve(MAX_DEFLATED);
    state.compress_vec(plain, out, FlushCompress::Sync)?;
    // The flush is complete when there was room left (zlib.h, deflate()). What has grown is better stored.
    let whole = state.total_in() == plain.len() as u64 && out.len() < out.capacity();
    if !whole || out.len() > stored_len(plain.len()) + STORED_HEADER {
        store_into(plain, out);
    }
    Ok(())
}

fn store_into(plain: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.reserve(stored_len(plain.len()) + STORED_HEADER);
    put_stored(plain, out);
    out.push(0);
    out.extend_from_slice(&SYNC);
}

/// Bytes before each chunk of a spool file.
pub const SPOOL_HEADER: usize = 12;

/// Appends a chunk to a spool file: 12 bytes of header (plain_len, deflated length, crc, little endian), then the bytes.
pub fn write_spooled(chunk: &Chunk, out: &mut dyn Write) -> io::Result<()> {
    let deflated_len = u32::try_from(chunk.deflated.len()).map_err(io::Error::other)?;
    let mut header = [0u8; SPOOL_HEADER];
    header[0..4].copy_from_slice(&chunk.plain_len.to_le_bytes());
    header[4..8].copy_from_slice(&deflated_len.to_le_bytes());
    header[8..12].copy_from_slice(&chunk.plain_crc32.to_le_bytes());
    out.write_all(&header)?;
    out.write_all(&chunk.deflated)
}

/// The next chunk of a spool file; `None` at its end or where the tail is torn (a torn chunk is not there).
///
/// An error of kind `InvalidData` when a header says what no chunk can be. The content is not checked here.
pub fn read_spooled(from: &mut dyn Read) -> io::Result<Option<Chunk>> {
    let mut header = [0u8; SPOOL_HEADER];
    if !fill(from, &mut header)? {
        return Ok(None);
    }
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (plain_len, deflated_len, plain_crc32) = (word(0), word(4), word(8));
    let len = usize::try_from(deflated_len).unwrap_or(usize::MAX);
    if plain_len == 0 || plain_len as u64 > MAX_PLAIN as u64 || len > MAX_DEFLATED {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the spool file holds a header that no chunk can have"));
    }
    // Not a zeroed buffer: sealing is little more than this and a digest, and the zeroes would show.
    let mut deflated = Vec::with_capacity(len);
    if from.take(u64::from(deflated_len)).read_to_end(&mut deflated)? != len {
        return Ok(None);
    }
    Ok(Some(Chunk { plain_len, plain_crc32, deflated }))
}

/// The chunks of a spool file up to its end or its torn tail; after an error there is no more.
pub fn spooled(mut from: impl Read) -> impl Iterator<Item = io::Result<Chunk>> {
    let mut over = false;
    std::iter::from_fn(move || {
        if over {
            return None;
        }
        let next = read_spooled(&mut from).transpose();
        over = !matches!(next, Some(Ok(_)));
        next
    })
}

/// Fills the buffer, or says that the input ended before.
fn fill(from: &mut dyn Read, buf: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(buf) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chunks(pack: Pack, pieces: &[&[u8]]) -> (Vec<Chunk>, u64, Digest) {
        let mut all = Vec::new();
        let mut chunker = Chunker::new(pack, |c| {
            all.push(c);
            Ok(())
        });
        for piece in pieces {
            chunker.write_all(piece).unwrap();
        }
        let (size, digest) = chunker.finish().unwrap();
        (all, size, digest)
    }

    fn joined(chunks: &[Chunk]) -> Vec<u8> {
        let (mut checker, mut plain, mut all) = (Checker::new(), Vec::new(), Vec::new());
        for chunk in chunks {
            checker.check(chunk, &mut plain).unwrap();
            all.extend_from_slice(&plain);
        }
        all
    }

    fn one(plain: &[u8]) -> Chunk {
        chunks(Pack::Deflate, &[plain]).0.remove(0)
    }

    /// Bytes that do not compress, the same each time.
    fn noise(len: usize) -> Vec<u8> {
        let mut x = 0x9e37_79b9_7f4a_7c15_u64;
        std::iter::repeat_with(|| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x.to_le_bytes()[3]
        })
        .take(len)
        .collect()
    }

    proptest! {
        #[test]
        fn content_comes_back_however_it_was_written(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 0..8),
            text in "[a-d \n]{0,4000}",
            store in any::<bool>(),
        ) {
            let mut pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            pieces.push(text.as_bytes());
            let whole = pieces.concat();
            let pack = if store { Pack::Store } else { Pack::Deflate };
            let (cut, size, digest) = chunks(pack, &pieces);
            prop_assert_eq!(&joined(&cut), &whole);
            prop_assert_eq!(size, whole.len() as u64);
            prop_assert_eq!(digest.0, <[u8; 32]>::from(Sha256::digest(&whole)));
            prop_assert_eq!(cut, chunks(pack, &[&whole]).0, "how it was written must not show");
        }

        #[test]
        fn a_chunk_with_any_bit_changed_is_refused_or_says_the_same(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let text = b"2026-11-23T02:44:10.000000001Z stdout F a line of a log\n".repeat(30);
            let mut chunk = one(&text);
            let at = at.index(chunk.deflated.len());
            chunk.deflated[at] ^= 1 << bit;
            let mut plain = Vec::new();
            if chunk.check(&mut plain).is_ok() {
                // Only padding bits can do this; the archive's index has a checksum of the compressed bytes for them.
                prop_assert_eq!(plain, text);
            }
        }

        #[test]
        fn any_bytes_as_a_spool_file_end_or_fail_but_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for chunk in spooled(bytes.as_slice()).flatten() {
                let _: Result<(), ChunkError> = chunk.check(&mut Vec::new());
            }
        }
    }

    #[test]
    fn content_is_cut_at_one_mib_and_empty_content_has_no_chunk() {
        for pack in [Pack::Deflate, Pack::Store] {
            assert_eq!(chunks(pack, &[b""]).0, vec![]);
            for content in [noise(MAX_PLAIN * 2 + 1), vec![0u8; MAX_PLAIN], b"ab".repeat(MAX_PLAIN)] {
                let (cut, ..) = chunks(pack, &[&content]);
                assert_eq!(cut.len(), content.len().div_ceil(MAX_PLAIN));
                assert!(cut.iter().all(|c| c.deflated.len() <= MAX_DEFLATED));
                assert_eq!(joined(&cut), content);
            }
        }
    }

    #[test]
    fn a_chunk_does_not_depend_on_those_before_it() {
        let (a, b) = (b"first ".repeat(200_000), b"second ".repeat(1000));
        let both = [&a[..MAX_PLAIN], &b].concat();
        assert_eq!(chunks(Pack::Deflate, &[&both]).0[1], one(&b));
    }

    #[test]
    fn chunks_behind_each_other_are_one_deflate_stream() {
        let content = [noise(MAX_PLAIN + 77), b"text ".repeat(300_000)].concat();
        let mut stream: Vec<u8> = chunks(Pack::Deflate, &[&content]).0.into_iter().flat_map(|c| c.deflated).collect();
        stream.extend_from_slice(&FINAL_BLOCK);
        let mut out = Vec::with_capacity(content.len() + 1);
        let status = Decompress::new(false).decompress_vec(&stream, &mut out, FlushDecompress::None).unwrap();
        assert_eq!(status, Status::StreamEnd);
        assert!(out == content);
    }

    #[test]
    fn a_chunk_that_would_swallow_what_follows_is_refused() {
        let malformed = |deflated: &[u8], plain: &[u8]| {
            let chunk = Chunk {
                plain_len: u32::try_from(plain.len()).unwrap(),
                plain_crc32: crc32fast::hash(plain),
                deflated: deflated.to_vec(),
            };
            assert!(matches!(chunk.check(&mut Vec::new()), Err(ChunkError::Malformed(_))), "{deflated:02x?}");
        };
        // A stored block that claims two bytes more than the chunk has left.
        malformed(&[0, 6, 0, 0xf9, 0xff, 0x00, 0x00, 0xff, 0xff], &[0x00, 0x00, 0xff, 0xff]);
        // The same without the mark at its end.
        malformed(&[0, 2, 0, 0xfd, 0xff, b'a', b'b'], b"ab");
        // A final block inside; no content at all; a reference to before the chunk.
        malformed(&[1, 2, 0, 0xfd, 0xff, b'a', b'b', 1, 0, 0, 0xff, 0xff], b"ab");
        malformed(&[0, 0, 0, 0xff, 0xff], b"");
        let mut reference = Compress::new(Compression::new(6), false);
        reference.set_dictionary(b"what came before").unwrap();
        let mut out = Vec::with_capacity(200);
        reference.compress_vec(b"what came before", &mut out, FlushCompress::Sync).unwrap();
        malformed(&out, b"what came before");
    }

    #[test]
    fn a_claim_that_is_too_large_or_does_not_fit_is_refused() {
        let good = one(&[7u8; 5000]);
        let mut plain = Vec::new();
        for plain_len in [0, 4999, 5001, 1 << 20, (1 << 20) + 1, u32::MAX] {
            let chunk = Chunk { plain_len, ..good.clone() };
            assert!(matches!(chunk.check(&mut plain), Err(ChunkError::Malformed(_))), "{plain_len}");
        }
        let wrong = Chunk { plain_crc32: !good.plain_crc32, ..good.clone() };
        assert_eq!(wrong.check(&mut plain), Err(ChunkError::Checksum));
        assert_eq!(good.check(&mut plain), Ok(()));
    }

    #[test]
    fn a_bomb_is_not_inflated_beyond_its_claim() {
        let mut deflate = Compress::new(Compression::new(9), false);
        let mut out = Vec::with_capacity(MAX_DEFLATED);
        deflate.compress_vec(&vec![0u8; 64 << 20], &mut out, FlushCompress::Sync).unwrap();
        let chunk = Chunk { plain_len: 1 << 20, plain_crc32: 0, deflated: out };
        let mut plain = Vec::new();
        assert!(matches!(chunk.check(&mut plain), Err(ChunkError::Malformed(_))));
        assert!(plain.capacity() <= 2 * MAX_PLAIN);
    }

    #[test]
    fn a_spool_file_cut_anywhere_yields_its_whole_chunks() {
        let (a, b) = (one(b"first"), one(&noise(100)));
        let mut file = Vec::new();
        write_spooled(&a, &mut file).unwrap();
        let second = file.len();
        write_spooled(&b, &mut file).unwrap();
        for end in 0..=file.len() {
            let read: Vec<Chunk> = spooled(&file[..end]).map(Result::unwrap).collect();
            let expected = usize::from(end >= second) + usize::from(end == file.len());
            assert_eq!(read, [a.clone(), b.clone()][..expected], "cut at {end}");
        }
    }
}
