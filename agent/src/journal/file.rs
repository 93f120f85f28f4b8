//! One journal file: its header, its entries and the DATA that they refer to, by offset. What was read wrongly, or not at
//! all, is noted here by whoever reads.

use std::io;

use super::Problem;
use super::block::{Blocks, Pages, ReadAt};
use super::chain::Chain;
use super::header::{Header, Id, MIN_HEADER, Refused, u64_at};
use super::inflate::{PACKED_CAP, VALUE_CAP, inflate};
use super::object::{DATA, ENTRY_HEAD, Entry, OBJECT_HEAD, Object, items};
use super::search::Plan;

/// Buffers that reading DATA needs, shared by all files.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) pages: Pages,
    packed: Vec<u8>,
    plain: Vec<u8>,
}

/// Above this a buffer is not kept for the next value.
const KEPT: usize = 256 << 10;

impl Scratch {
    /// After a large value: gives its memory back.
    pub(super) fn shrink(&mut self) {
        for buffer in [&mut self.packed, &mut self.plain] {
            if buffer.capacity() > KEPT {
                *buffer = Vec::new();
            }
        }
    }
}

/// One `NAME=value`.
pub(super) struct Data<'a> {
    /// At most [`VALUE_CAP`] of it.
    pub(super) payload: &'a [u8],
    /// How much more there is, at least.
    pub(super) left_out: u64,
    /// Whether other entries refer to it, too.
    pub(super) shared: bool,
}

/// What was seen of a file while it was read, as far as it concerns the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Notes {
    /// Places that were no objects, or not those that had to be there.
    pub bad_places: u64,
    /// Between which times these lie, in microseconds: that of the last good entry before them and of the first after.
    pub bad_between: Option<(u64, u64)>,
    /// Fields of entries of the window that could not be read.
    pub lost_fields: u64,
    /// Fields that are compressed in a way, or to a size, that is not read here.
    pub packed_fields: u64,
    /// The farthest step back of the clock.
    pub step: Option<(u64, u64)>,
}

impl Notes {
    /// The worse of two readings of one file.
    pub(super) fn worst(self, other: Self) -> Self {
        let (bad, good) = if other.bad_places > self.bad_places { (other, self) } else { (self, other) };
        Self {
            lost_fields: bad.lost_fields.max(good.lost_fields),
            packed_fields: bad.packed_fields.max(good.packed_fields),
            step: bad.step.or(good.step),
            ..bad
        }
    }
}

/// How a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Nothing of the window is in it.
    Outside,
    /// By its index, from this entry on, to where the window is over.
    From(u64),
    /// By its index, all of it: it is not in order of time.
    Whole,
    /// From object to object: its index is damaged.
    Scan,
}

/// An open journal file.
pub struct JournalFile<S> {
    pub(super) number: u16,
    pub(super) blocks: Blocks<S>,
    pub(super) header: Header,
    /// `None`: damaged.
    pub(super) chain: Option<Chain>,
    pub(super) plan: Plan,
    pub(super) notes: Notes,
    /// Of earlier readings.
    pub(super) noted: Notes,
}

impl<S: ReadAt> JournalFile<S> {
    /// Reads the header and finds the index.
    pub(super) fn open(source: S, number: u16, pages: &mut Pages) -> Result<Self, Refused> {
        let mut blocks = Blocks::new(source, number).map_err(Refused::Io)?;
        let size = blocks.size();
        let there = MIN_HEADER.min(usize::try_from(size).unwrap_or(MIN_HEADER));
        let header = match blocks.near(0, there) {
            Ok(bytes) => Header::parse(bytes, size)?,
            Err(Problem::Io(e)) => return Err(Refused::Io(e)),
            Err(_) => return Err(Refused::Short),
        };
        let mut file = Self {
            number,
            blocks,
            header,
            chain: None,
            plan: Plan::default(),
            notes: Notes::default(),
            noted: Notes::default(),
        };
        file.chain = Chain::read(&mut file, pages).ok();
        Ok(file)
    }

    /// How many bytes it has.
    pub fn size(&self) -> u64 {
        self.blocks.size()
    }

    /// The row of sequence numbers that its entries are numbered in.
    pub fn seqnum_id(&self) -> Id {
        self.header.seqnum_id
    }

    /// The earliest time that was met in it so far, in microseconds.
    pub fn oldest(&self) -> Option<u64> {
        self.plan.oldest
    }

    /// Whether its index was damaged, so that it was read from object to object.
    pub fn was_scanned(&self) -> bool {
        self.plan.mode == Mode::Scan
    }

    /// Whether it was read whole because its times are not in order.
    pub fn was_out_of_order(&self) -> bool {
        self.plan.mode == Mode::Whole
    }

    /// What was seen of it while it was read; the worst of all readings.
    pub fn notes(&self) -> Notes {
        self.notes.worst(self.noted)
    }

    pub(super) fn entry(&mut self, at: u64) -> Result<Entry, Problem> {
        self.check(at)?;
        let bytes = self.blocks.near(at, ENTRY_HEAD)?;
        let (number, compact) = (self.number, self.header.compact);
        bytes.first_chunk().map_or(Err(SHORT), |head| Entry::parse(head, number, at, compact))
    }

    /// The same for one that is looked at alone.
    pub(super) fn lone_entry(&self, at: u64, pages: &mut Pages) -> Result<Entry, Problem> {
        self.check(at)?;
        let bytes = self.blocks.far(pages, at, ENTRY_HEAD)?;
        bytes.first_chunk().map_or(Err(SHORT), |head| Entry::parse(head, self.number, at, self.header.compact))
    }

    /// The offsets of what an entry refers to.
    pub(super) fn items(&mut self, entry: &Entry, into: &mut Vec<u64>) -> Result<(), Problem> {
        into.clear();
        let compact = self.header.compact;
        let bytes = self.blocks.near(entry.at, entry.size(compact))?;
        into.extend(items(&bytes[ENTRY_HEAD..], compact));
        Ok(())
    }

    /// Offsets are multiples of 8 and lie behind the header.
    pub(super) fn check(&self, at: u64) -> Result<(), Problem> {
        if !at.is_multiple_of(8) || at < self.header.size {
            return Err(Problem::Damaged("an offset points to no object"));
        }
        Ok(())
    }

    pub(super) fn data<'a>(&'a self, at: u64, scratch: &'a mut Scratch) -> Result<Data<'a>, Problem> {
        self.check(at)?;
        let head_size = if self.header.compact { 72 } else { 64 };
        let head = self.blocks.far(&mut scratch.pages, at, head_size)?;
        let object = head.first_chunk::<OBJECT_HEAD>().map(Object::parse).ok_or(SHORT)?;
        let shared = u64_at(head, 56) > 1;
        let len = match object.size.checked_sub(head_size as u64) {
            Some(len) if object.kind == DATA && len > 0 => len,
            _ => return Err(Problem::Damaged("no field is where one should be")),
        };
        if at.checked_add(object.size).is_none_or(|end| end > self.blocks.size()) {
            return Err(Problem::Damaged("a field ends behind the end of the file"));
        }
        let at = at + head_size as u64;
        if object.flags == 0 {
            let read = len.min(VALUE_CAP as u64);
            let payload = self.blocks.far(&mut scratch.pages, at, usize::try_from(read).unwrap_or(VALUE_CAP))?;
            return Ok(Data { payload, left_out: len - read, shared });
        }
        if len > PACKED_CAP {
            return Err(Problem::Unread("compressed, and too large"));
        }
        self.blocks.copy(at, usize::try_from(len).unwrap_or(0), &mut scratch.packed)?;
        let left_out = inflate(object.flags, &scratch.packed, &mut scratch.plain)?;
        Ok(Data { payload: &scratch.plain, left_out, shared })
    }
}

const SHORT: Problem = Problem::Damaged("it is too short");

impl From<io::Error> for Problem {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}
