//! What entries refer to, decoded and rendered once. Most fields of most entries are shared with the entries before: unit,
//! host, program. The rendered text of each is kept by its place in its file, in fixed memory; when that is full, all of it
//! is forgotten, and what is in use is back at once.

use super::file::Data;

/// How DATA becomes the bytes that are wanted of it.
pub trait Form {
    /// Appends to `out` what is wanted of a `NAME=value`, which may be cut.
    fn render(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Rendered;
}

/// What a [`Form`] says of what it rendered; what it means is its own business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rendered {
    /// Which field it is.
    pub tag: u32,
    /// Where in the rendered bytes a second part begins.
    pub split: u32,
    /// How many bytes of the payload the form left out.
    pub left_out: u64,
}

/// One field of an entry, rendered.
#[derive(Debug, Clone, Copy)]
pub struct Fragment<'a> {
    /// The rendered bytes.
    pub bytes: &'a [u8],
    /// From the form.
    pub tag: u32,
    /// From the form.
    pub split: u32,
    /// How many bytes of the value are not in it.
    pub left_out: u64,
}

/// A power of two. With 24 bytes each: 768 KiB.
const SLOTS: usize = 1 << 15;
/// More than this and searching takes too long.
const FULL: usize = SLOTS / 4 * 3;
/// Two fields whose places fall on the same slot are looked for one after the other, but not for ever.
const PROBES: usize = 16;
/// Rendered bytes that are kept.
const ARENA: usize = 3 << 20;
/// One that is longer is rendered anew each time.
const LARGEST: usize = 64 << 10;

#[derive(Clone, Copy, Default)]
struct Slot {
    /// Number of the file and place in it; 0: free. No DATA is at place 0.
    key: u64,
    begin: u32,
    len: u32,
    tag: u32,
    split: u32,
}

/// The rendered fields of one form.
pub struct Fragments<F> {
    form: F,
    slots: Vec<Slot>,
    used: usize,
    arena: Vec<u8>,
    /// For what is not kept.
    once: Vec<u8>,
}

impl<F: Form> Fragments<F> {
    /// Empty.
    pub fn new(form: F) -> Self {
        Self { form, slots: vec![Slot::default(); SLOTS], used: 0, arena: Vec::with_capacity(ARENA), once: Vec::new() }
    }

    pub(super) fn key(file: u16, at: u64) -> u64 {
        (u64::from(file) << 48) | (at >> 3)
    }

    fn first_slot(key: u64) -> usize {
        let spread = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - SLOTS.trailing_zeros());
        usize::try_from(spread).unwrap_or(0)
    }

    pub(super) fn get(&self, key: u64) -> Option<Fragment<'_>> {
        let first = Self::first_slot(key);
        for i in first..first + PROBES {
            let slot = &self.slots[i % SLOTS];
            if slot.key == key {
                let begin = slot.begin as usize;
                let bytes = &self.arena[begin..begin + slot.len as usize];
                return Some(Fragment { bytes, tag: slot.tag, split: slot.split, left_out: 0 });
            }
            if slot.key == 0 {
                return None;
            }
        }
        None
    }

    /// Renders it, and keeps it when another entry may refer to it.
    pub(super) fn take(&mut self, key: u64, data: &Data<'_>) -> Fragment<'_> {
        let keep = data.shared && data.left_out == 0 && data.payload.len() <= LARGEST;
        if !keep {
            self.once.clear();
            if self.once.capacity() > LARGEST {
                self.once = Vec::new();
            }
            let Rendered { tag, split, left_out } = self.form.render(data.payload, &mut self.once);
            return Fragment { bytes: &self.once, tag, split, left_out: left_out.saturating_add(data.left_out) };
        }
        // A form may make much of little; what that is shows only afterwards.
        if self.used >= FULL || self.arena.len() + LARGEST > ARENA {
            self.slots.fill(Slot::default());
            self.arena.clear();
            self.used = 0;
        }
        let begin = self.arena.len();
        let Rendered { tag, split, left_out } = self.form.render(data.payload, &mut self.arena);
        if self.arena.len() > ARENA || left_out > 0 {
            self.once.clear();
            self.once.extend_from_slice(&self.arena[begin..]);
            self.arena.truncate(begin);
            self.arena.shrink_to(ARENA);
            return Fragment { bytes: &self.once, tag, split, left_out };
        }
        let first = Self::first_slot(key);
        let place = (first..first + PROBES).map(|i| i % SLOTS).find(|i| self.slots[*i].key == 0);
        let as_u32 = |n: usize| u32::try_from(n).unwrap_or(0);
        let len = self.arena.len() - begin;
        self.used += usize::from(place.is_some());
        self.slots[place.unwrap_or(first)] = Slot { key, begin: as_u32(begin), len: as_u32(len), tag, split };
        Fragment { bytes: &self.arena[begin..], tag, split, left_out: 0 }
    }
}
