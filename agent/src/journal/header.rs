//! The header of a journal file. Pure, and total on any bytes.

use std::fmt;

/// 128 bits that name a file, a boot or a row of sequence numbers; printed as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub [u8; 16]);

impl Id {
    /// As text.
    pub fn hex(self) -> [u8; 32] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut out = [0; 32];
        for (two, byte) in out.chunks_exact_mut(2).zip(self.0) {
            two[0] = DIGITS[usize::from(byte >> 4)];
            two[1] = DIGITS[usize::from(byte & 15)];
        }
        out
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// Why a file is not read at all.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The file system said no.
    #[error("it could not be read: {0}")]
    Io(#[source] std::io::Error),
    /// It ends within its header.
    #[error("it is cut within its header")]
    Short,
    /// Another kind of file.
    #[error("it is no journal file")]
    Foreign,
    /// Features that this reader does not know and that change how everything else is read.
    #[error("it was written by a newer systemd: unknown flags {0:#x}")]
    Newer(u32),
    /// Its header contradicts itself.
    #[error("its header is damaged")]
    Damaged,
}

/// All that every version of the format has.
pub(super) const MIN_HEADER: usize = 208;

const COMPACT: u32 = 1 << 4;
/// XZ, LZ4, keyed hash, ZSTD, compact.
const KNOWN: u32 = 0b1_1111;

const ONLINE: u8 = 1;

/// What is needed of a header.
#[derive(Debug, Clone)]
pub(super) struct Header {
    pub(super) compact: bool,
    /// It is being written to, or was when the machine died: the numbers of the tail may be old.
    pub(super) online: bool,
    pub(super) seqnum_id: Id,
    pub(super) size: u64,
    pub(super) entries: u64,
    pub(super) head_seqnum: u64,
    pub(super) entry_array: u64,
}

impl Header {
    pub(super) fn parse(bytes: &[u8], file_size: u64) -> Result<Self, Refused> {
        let signature = bytes.get(..8).ok_or(Refused::Short)?;
        if signature != b"LPKSHHRH" {
            return Err(Refused::Foreign);
        }
        if bytes.len() < MIN_HEADER {
            return Err(Refused::Short);
        }
        let flags = u32_at(bytes, 12);
        if flags & !KNOWN != 0 {
            return Err(Refused::Newer(flags & !KNOWN));
        }
        let mut seqnum_id = [0; 16];
        seqnum_id.copy_from_slice(&bytes[72..88]);
        let header = Self {
            compact: flags & COMPACT != 0,
            online: bytes[16] == ONLINE,
            seqnum_id: Id(seqnum_id),
            size: u64_at(bytes, 88),
            entries: u64_at(bytes, 152),
            head_seqnum: u64_at(bytes, 168),
            entry_array: u64_at(bytes, 176),
        };
        if header.size < MIN_HEADER as u64 || header.size > file_size || !header.size.is_multiple_of(8) {
            return Err(Refused::Damaged);
        }
        Ok(header)
    }
}

/// Little endian; 0 where there are too few bytes, which callers rule out.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |b| u64::from_le_bytes(*b))
}

/// Little endian; 0 where there are too few bytes, which callers rule out.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |b| u32::from_le_bytes(*b))
}
