//! What the first reading of the journal leaves for the text files, in fixed memory: the records of each, one behind the
//! other. Records of all files lie mixed in one buffer, as they came, each with the place of the next one of its file.

/// The most that is held.
pub(super) const HELD_CAP: usize = 10 << 20;

/// Of a record, before its bytes: the place of the next, how long it is, how much is left out, its time.
const HEAD: usize = 4 + 4 + 4 + 8;

/// No next one.
const NONE: u32 = u32::MAX;

/// Records of many files.
pub(super) struct Held {
    bytes: Vec<u8>,
    /// Of each file, the first and the last record.
    ends: Vec<(u32, u32)>,
}

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept<'a> {
    /// Microseconds since 1970.
    pub(super) at: u64,
    /// How many bytes of it are missing.
    pub(super) left_out: u64,
    pub(super) bytes: &'a [u8],
}

impl Held {
    /// Holds nothing.
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new(), ends: Vec::new() }
    }

    /// So much room a record takes.
    pub(super) fn room(len: usize) -> usize {
        HEAD + len
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Adds a record to a file. `false`: there is no room for it.
    pub(super) fn push(&mut self, file: usize, record: Kept<'_>) -> bool {
        let at = self.bytes.len();
        if at + Self::room(record.bytes.len()) > HELD_CAP {
            return false;
        }
        if self.bytes.capacity() < HELD_CAP && self.bytes.len() + Self::room(record.bytes.len()) > self.bytes.capacity()
        {
            // Not by doubling: it would end above the cap.
            self.bytes.reserve_exact((HELD_CAP / 10).max(Self::room(record.bytes.len())).min(HELD_CAP - at));
        }
        let as_u32 = |n: usize| u32::try_from(n).unwrap_or(NONE);
        if self.ends.len() <= file {
            self.ends.resize(file + 1, (NONE, NONE));
        }
        let here = as_u32(at);
        match &mut self.ends[file] {
            (first @ NONE, last) => (*first, *last) = (here, here),
            (_, last) => {
                let before = *last as usize;
                self.bytes[before..before + 4].copy_from_slice(&here.to_le_bytes());
                *last = here;
            }
        }
        self.bytes.extend_from_slice(&NONE.to_le_bytes());
        self.bytes.extend_from_slice(&as_u32(record.bytes.len()).to_le_bytes());
        self.bytes.extend_from_slice(&u32::try_from(record.left_out).unwrap_or(u32::MAX).to_le_bytes());
        self.bytes.extend_from_slice(&record.at.to_le_bytes());
        self.bytes.extend_from_slice(record.bytes);
        true
    }

    /// The records of a file, in the order in which they came.
    pub(super) fn of(&self, file: usize) -> impl Iterator<Item = Kept<'_>> {
        let mut next = self.ends.get(file).map_or(NONE, |e| e.0);
        std::iter::from_fn(move || {
            let head: &[u8; HEAD] = self.bytes.get(next as usize..)?.first_chunk()?;
            let number = |at: usize| head[at..].first_chunk().map_or(NONE, |b| u32::from_le_bytes(*b));
            let begin = next as usize + HEAD;
            let bytes = self.bytes.get(begin..begin + number(4) as usize)?;
            let at = head[12..].first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
            next = number(0);
            Some(Kept { at, left_out: u64::from(number(8)), bytes })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_records_of_each_file_come_back_in_order_until_there_is_no_more_room() {
        let mut held = Held::new();
        let text = |n: usize| format!("{n}").repeat(n % 700);
        let mut count = 0;
        while held.push(count % 7, Kept { at: count as u64, left_out: count as u64 % 3, bytes: text(count).as_bytes() })
        {
            count += 1;
        }
        assert!(count > 3000 && held.bytes.capacity() <= HELD_CAP);
        for file in 0..7 {
            let given: Vec<_> = held.of(file).map(|k| (k.at, k.left_out, k.bytes.to_vec())).collect();
            let expected: Vec<_> =
                (0..count).filter(|n| n % 7 == file).map(|n| (n as u64, n as u64 % 3, text(n).into_bytes())).collect();
            assert_eq!(given, expected);
        }
        assert_eq!(held.of(9).count(), 0);
        held.clear();
        assert_eq!(held.of(0).count(), 0);
    }
}
