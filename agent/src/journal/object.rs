//! Objects: their common head, entries, and the head of DATA. Pure, and total on any bytes.

use super::Problem;
use super::header::{Id, u32_at, u64_at};

/// What is at the head of every object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) kind: u8,
    pub(super) flags: u8,
    /// Head included, padding not.
    pub(super) size: u64,
}

pub(super) const DATA: u8 = 1;
pub(super) const ENTRY: u8 = 3;
pub(super) const ENTRY_ARRAY: u8 = 6;
const LAST_KIND: u8 = 7;

/// The head of every object.
pub(super) const OBJECT_HEAD: usize = 16;
/// What stands before the items of an entry.
pub(super) const ENTRY_HEAD: usize = 64;
/// What stands before the items of an entry array.
pub(super) const ARRAY_HEAD: usize = 24;

/// The most fields of an entry that are looked at; journald takes 1024.
const MAX_FIELDS: u64 = 2048;

/// Times are 55 bits of microseconds, as systemd checks them itself.
const TIME_LIMIT: u64 = 1 << 55;

impl Object {
    pub(super) fn parse(bytes: &[u8; OBJECT_HEAD]) -> Self {
        Self { kind: bytes[0], flags: bytes[1], size: u64_at(bytes, 8) }
    }

    /// Whether these bytes can be the head of an object of a file of this size, standing at `at`.
    pub(super) fn is_plausible(bytes: &[u8; OBJECT_HEAD], at: u64, file_size: u64) -> bool {
        let object = Self::parse(bytes);
        let least = match object.kind {
            DATA => 64,
            ENTRY => ENTRY_HEAD as u64,
            2 => 40,
            ENTRY_ARRAY => ARRAY_HEAD as u64,
            kind if kind <= LAST_KIND && kind > 0 => OBJECT_HEAD as u64,
            _ => return false,
        };
        let flags = if object.kind == DATA { object.flags <= 7 } else { object.flags == 0 };
        flags
            && bytes[2..8] == [0; 6]
            && object.size >= least
            && at.checked_add(object.size).is_some_and(|end| end <= file_size)
    }
}

/// An entry: all that is known of it without its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Which file it was read from.
    pub(super) file: u16,
    /// Where in it.
    pub(super) at: u64,
    pub(super) fields: u32,
    /// Its number in the row of numbers that its file belongs to.
    pub seqnum: u64,
    /// Microseconds since 1970, of the node's clock.
    pub realtime: u64,
    /// Microseconds since the boot.
    pub monotonic: u64,
    /// Which boot.
    pub boot: Id,
    /// A hash of what it says.
    pub xor_hash: u64,
}

impl Entry {
    /// From its head, and the file's layout.
    pub(super) fn parse(bytes: &[u8; ENTRY_HEAD], file: u16, at: u64, compact: bool) -> Result<Self, Problem> {
        let size = u64_at(bytes, 8);
        if bytes[0] != ENTRY {
            return Err(Problem::Damaged("no entry is where one should be"));
        }
        let item = if compact { 4 } else { 16 };
        let items = size.checked_sub(ENTRY_HEAD as u64).filter(|s| s % item == 0).map(|s| s / item);
        let Some(fields @ 1..=MAX_FIELDS) = items else {
            return Err(Problem::Damaged("an entry has an impossible size"));
        };
        let mut boot = [0; 16];
        boot.copy_from_slice(&bytes[40..56]);
        let entry = Self {
            file,
            at,
            fields: u32::try_from(fields).unwrap_or(0),
            seqnum: u64_at(bytes, 16),
            realtime: u64_at(bytes, 24),
            monotonic: u64_at(bytes, 32),
            boot: Id(boot),
            xor_hash: u64_at(bytes, 56),
        };
        let times = (1..TIME_LIMIT).contains(&entry.realtime) && entry.monotonic < TIME_LIMIT;
        if entry.seqnum == 0 || !times {
            return Err(Problem::Damaged("an entry has impossible numbers"));
        }
        Ok(entry)
    }

    /// How many bytes it takes in all.
    pub(super) fn size(&self, compact: bool) -> usize {
        ENTRY_HEAD + self.fields as usize * if compact { 4 } else { 16 }
    }

    /// Whether two entries of different rows of numbers are one and the same that was copied.
    pub(super) fn is_copy_of(&self, other: &Self) -> bool {
        (self.realtime, self.monotonic, self.boot, self.xor_hash)
            == (other.realtime, other.monotonic, other.boot, other.xor_hash)
    }
}

/// The offsets of the DATA of an entry, from what stands behind its head.
pub(super) fn items(bytes: &[u8], compact: bool) -> impl Iterator<Item = u64> {
    let step = if compact { 4 } else { 16 };
    bytes.chunks_exact(step).map(move |item| if compact { u64::from(u32_at(item, 0)) } else { u64_at(item, 0) })
}
