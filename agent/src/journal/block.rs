//! The bytes of a journal file by position, through two small caches: one block that moves along with the entries, and
//! pages for what lies elsewhere. Entries and what is new in them are written one behind the other, so that most reads are
//! answered by the block; what many entries share was written earlier, anywhere.

use std::fs::File;
use std::io;

use super::Problem;

/// Where the bytes of a journal file come from.
pub trait ReadAt: Send {
    /// As many bytes as there are from `at` on, up to the size of the buffer; 0 at the end.
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize>;
    /// How many bytes there are now.
    fn size(&self) -> io::Result<u64>;
}

impl ReadAt for File {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < buf.len() {
            match std::os::unix::fs::FileExt::read_at(self, &mut buf[read..], at + read as u64) {
                Ok(0) => break,
                Ok(n) => read += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(read)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let rest = usize::try_from(at).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let read = rest.len().min(buf.len());
        buf[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

/// The block that moves along: each file that is being read has one.
pub(super) const BLOCK: usize = 32 << 10;

/// What is read for one entry somewhere: not worth a block.
const LEAP: usize = 4 << 10;

/// Where an entry is, what is new in it was written just before.
const BACK: u64 = 1 << 10;

/// One page, and what of an object that begins near its end stands behind it.
const PAGE: u64 = 4 << 10;
const OVERLAP: usize = 1 << 10;

/// So many pages are kept, over all files: 1.25 MiB.
const PAGES: usize = 256;

/// Some bytes of a file.
#[derive(Default)]
struct Piece {
    at: u64,
    bytes: Vec<u8>,
}

impl Piece {
    fn get(&self, at: u64, len: usize) -> Option<&[u8]> {
        let begin = usize::try_from(at.checked_sub(self.at)?).ok()?;
        self.bytes.get(begin..begin.checked_add(len)?)
    }

    fn end(&self) -> u64 {
        self.at + self.bytes.len() as u64
    }

    fn fill(&mut self, source: &impl ReadAt, at: u64, len: usize) -> Result<(), Problem> {
        self.at = at;
        self.bytes.resize(len, 0);
        match source.read_at(&mut self.bytes, at) {
            Ok(read) => {
                self.bytes.truncate(read);
                Ok(())
            }
            Err(e) => {
                self.bytes.clear();
                Err(Problem::Io(e))
            }
        }
    }
}

/// Pages of all files.
pub(super) struct Pages {
    slots: Vec<(u64, Piece)>,
    /// For what is longer than a page.
    long: Piece,
}

impl Default for Pages {
    fn default() -> Self {
        let empty = || (u64::MAX, Piece::default());
        Self { slots: std::iter::repeat_with(empty).take(PAGES).collect(), long: Piece::default() }
    }
}

impl Pages {
    /// Forgets what was read of a file.
    pub(super) fn forget(&mut self, number: u16) {
        for slot in self.slots.iter_mut().filter(|s| s.0 >> 48 == u64::from(number)) {
            slot.0 = u64::MAX;
        }
    }
}

/// The bytes of one file, as it was when it was opened: what was written behind its end since does not exist.
pub(super) struct Blocks<S> {
    source: S,
    /// Tells the pages of this file from those of others.
    number: u16,
    size: u64,
    near: Piece,
}

impl<S: ReadAt> Blocks<S> {
    pub(super) fn new(source: S, number: u16) -> io::Result<Self> {
        let size = source.size()?;
        Ok(Self { source, number, size, near: Piece::default() })
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Gives back the memory of the block.
    pub(super) fn rest(&mut self) {
        self.near = Piece::default();
    }

    fn within(&self, at: u64, len: usize) -> Result<(), Problem> {
        match at.checked_add(len as u64) {
            Some(end) if end <= self.size => Ok(()),
            _ => Err(Problem::Damaged("it ends before the end of what is in it")),
        }
    }

    /// Bytes along the way: entries, or object behind object.
    pub(super) fn near(&mut self, at: u64, len: usize) -> Result<&[u8], Problem> {
        self.within(at, len)?;
        if self.near.get(at, len).is_none() {
            let end = self.near.end();
            // Going on where the block ends, or within reach of it?
            let follows = at >= self.near.at && at <= end + BLOCK as u64 && end > 0;
            let begin = if follows && end <= at && at + len as u64 - end <= BLOCK as u64 {
                end
            } else {
                at.saturating_sub(BACK)
            };
            let want = if follows { BLOCK } else { LEAP };
            let want = want.max(len + usize::try_from(at - begin).unwrap_or(0));
            self.near.fill(&self.source, begin, want)?;
        }
        self.near.get(at, len).ok_or(Problem::Damaged("it was truncated while it was read"))
    }

    /// Bytes anywhere: what entries refer to.
    pub(super) fn far<'a>(&'a self, pages: &'a mut Pages, at: u64, len: usize) -> Result<&'a [u8], Problem> {
        self.within(at, len)?;
        let short = Problem::Damaged("it was truncated while it was read");
        if let Some(bytes) = self.near.get(at, len) {
            return Ok(bytes);
        }
        let page = at / PAGE;
        let ends = usize::try_from(at % PAGE).unwrap_or(0) + len;
        if ends > PAGE as usize + OVERLAP {
            pages.long.fill(&self.source, at, len)?;
            return pages.long.get(at, len).ok_or(short);
        }
        let key = (u64::from(self.number) << 48) | page;
        let spread = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let slot = &mut pages.slots[usize::try_from(spread).unwrap_or(0) % PAGES];
        if slot.0 != key || slot.1.get(at, len).is_none() {
            slot.0 = key;
            slot.1.fill(&self.source, page * PAGE, PAGE as usize + OVERLAP)?;
        }
        slot.1.get(at, len).ok_or(short)
    }

    /// Bytes of any number into a buffer; for what is compressed.
    pub(super) fn copy(&self, at: u64, len: usize, into: &mut Vec<u8>) -> Result<(), Problem> {
        self.within(at, len)?;
        into.resize(len, 0);
        let read = self.source.read_at(into, at).map_err(Problem::Io)?;
        if read < len { Err(Problem::Damaged("it was truncated while it was read")) } else { Ok(()) }
    }
}
