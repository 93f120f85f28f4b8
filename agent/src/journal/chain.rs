//! The index of a journal file: its entries in the order in which they were written, as a chain of arrays.
//!
//! An array stands behind the one that points to it, because it was made later. A chain that does not obey this is
//! damaged, and with that no chain has a loop.

use super::Problem;
use super::block::{Pages, ReadAt};
use super::file::JournalFile;
use super::header::{u32_at, u64_at};
use super::object::{ARRAY_HEAD, ENTRY_ARRAY, OBJECT_HEAD, Object};

/// Arrays double in size: a file of an exabyte has no more.
const MAX_ARRAYS: usize = 128;

/// As many places are read at a time while the entries are followed.
const AHEAD: u64 = 256;

struct Array {
    /// Of its first place.
    at: u64,
    /// How many places lie in the arrays before it.
    before: u64,
    places: u64,
}

/// The chain, and how many entries are in it.
pub(super) struct Chain {
    arrays: Vec<Array>,
    entries: u64,
    width: usize,
    /// Places that were read ahead: the first of them, and their bytes.
    ahead: (u64, Vec<u8>),
}

impl Chain {
    /// Finds the arrays, and holds what is in them against what the header says.
    pub(super) fn read<S: ReadAt>(file: &mut JournalFile<S>, pages: &mut Pages) -> Result<Self, Problem> {
        let width = if file.header.compact { 4 } else { 8 };
        let mut chain = Self { arrays: Vec::new(), entries: 0, width, ahead: (0, Vec::new()) };
        let (mut next, mut last, mut places) = (file.header.entry_array, 0, 0);
        while next != 0 {
            file.check(next)?;
            if next <= last || chain.arrays.len() == MAX_ARRAYS {
                return Err(Problem::Damaged("the chain of its entries has a loop"));
            }
            let head = file.blocks.far(pages, next, ARRAY_HEAD)?;
            let object = head.first_chunk::<OBJECT_HEAD>().map(Object::parse);
            let size = object.filter(|o| o.kind == ENTRY_ARRAY).and_then(|o| o.size.checked_sub(ARRAY_HEAD as u64));
            let behind = u64_at(head, OBJECT_HEAD);
            let fits = |size: &u64| next.checked_add(ARRAY_HEAD as u64 + size).is_some_and(|e| e <= file.blocks.size());
            let Some(size) = size.filter(fits) else {
                return Err(Problem::Damaged("no array is where one should be"));
            };
            let here = size / width as u64;
            chain.arrays.push(Array { at: next + ARRAY_HEAD as u64, before: places, places: here });
            places += here;
            last = next;
            next = behind;
        }
        if file.header.entries > places {
            return Err(Problem::Damaged("fewer places than entries"));
        }
        chain.entries = file.header.entries;
        // What is linked is there, also when the machine died before it was counted.
        while chain.entries < places && chain.place(file, pages, chain.entries).is_ok_and(|at| at != 0) {
            chain.entries += 1;
        }
        chain.agrees(file, pages)?;
        Ok(chain)
    }

    /// The first entry is the one that the header names. Of the last one this cannot be asked: its number is counted up
    /// before it is linked, and when there is no room left to link it, it is counted and written anew to the next file.
    fn agrees<S: ReadAt>(&self, file: &JournalFile<S>, pages: &mut Pages) -> Result<(), Problem> {
        if self.entries == 0 {
            let empty = file.header.head_seqnum == 0 || file.header.online;
            return if empty { Ok(()) } else { Err(Problem::Damaged("it says that it has entries")) };
        }
        let first = file.lone_entry(self.place(file, pages, 0)?, pages)?;
        file.lone_entry(self.place(file, pages, self.entries - 1)?, pages)?;
        let same = first.seqnum == file.header.head_seqnum;
        if same { Ok(()) } else { Err(Problem::Damaged("its first entry is another one")) }
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> u64 {
        self.entries
    }

    /// Where the entry of this number stands.
    pub(super) fn place<S: ReadAt>(
        &self,
        file: &JournalFile<S>,
        pages: &mut Pages,
        number: u64,
    ) -> Result<u64, Problem> {
        let array = self.array(number)?;
        let at = array.at + (number - array.before) * self.width as u64;
        file.blocks.far(pages, at, self.width).map(|bytes| self.offset(bytes, 0))
    }

    /// The same, for one after the other.
    pub(super) fn next_place<S: ReadAt>(&mut self, file: &mut JournalFile<S>, number: u64) -> Result<u64, Problem> {
        let index = |ahead: &(u64, Vec<u8>)| usize::try_from(number.checked_sub(ahead.0)?).ok();
        let there = |ahead: &(u64, Vec<u8>)| index(ahead).filter(|i| (i + 1) * self.width <= ahead.1.len());
        let at = match there(&self.ahead) {
            Some(at) => at,
            None => {
                let array = self.array(number)?;
                let want = (array.places - (number - array.before)).min(AHEAD);
                let at = array.at + (number - array.before) * self.width as u64;
                let len = usize::try_from(want).unwrap_or(0) * self.width;
                self.ahead.0 = number;
                file.blocks.copy(at, len, &mut self.ahead.1)?;
                0
            }
        };
        Ok(self.offset(&self.ahead.1, at * self.width))
    }

    fn array(&self, number: u64) -> Result<&Array, Problem> {
        let found = self.arrays.iter().find(|a| number - a.before.min(number) < a.places && number >= a.before);
        found.ok_or(Problem::Damaged("fewer places than entries"))
    }

    fn offset(&self, bytes: &[u8], at: usize) -> u64 {
        if self.width == 4 { u64::from(u32_at(bytes, at)) } else { u64_at(bytes, at) }
    }
}
