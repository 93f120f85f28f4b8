//! Sorts records that may be more than fit into memory: they are gathered up to a cap, each full heap is sorted and written
//! to a file that has no name, and in the end the runs are merged. Memory is the cap and one small buffer a run; an archive
//! of any size sorts on a laptop.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;

/// What records are ordered by: a time in nanoseconds, then the order in which they were given. No two are equal.
pub type Key = (i64, u64);

/// The most runs that are merged at a time; one more, and they become one.
const MAX_RUNS: usize = 128;

/// What is read of a run at once: all of them together take 8 MiB.
const RUN_BUFFER: usize = 64 << 10;

/// Gathers and sorts.
#[derive(Debug)]
pub struct Sorter {
    cap: usize,
    given: u64,
    bytes: Vec<u8>,
    heap: Vec<Held>,
    runs: Runs,
}

/// One record in memory.
#[derive(Debug, Clone, Copy)]
struct Held {
    key: Key,
    begin: usize,
    len: u32,
}

/// Sorted runs, one after the other in one file.
#[derive(Debug, Default)]
struct Runs {
    file: Option<File>,
    /// Where each ends; it begins where the one before ends.
    ends: Vec<u64>,
}

impl Sorter {
    /// Holds at most about this many bytes in memory.
    pub fn new(cap: usize) -> Self {
        Self { cap, given: 0, bytes: Vec::new(), heap: Vec::new(), runs: Runs::default() }
    }

    /// One more record. Those of one time stay in the order in which they come.
    pub fn push(&mut self, at: i64, head: &[u8], text: &[u8]) -> io::Result<()> {
        let len = head.len() + text.len();
        let held = self.bytes.len() + self.heap.len() * size_of::<Held>();
        if held + len > self.cap && !self.heap.is_empty() {
            self.spill()?;
        }
        let begin = self.bytes.len();
        let len = u32::try_from(len).map_err(io::Error::other)?;
        self.bytes.extend_from_slice(head);
        self.bytes.extend_from_slice(text);
        self.heap.push(Held { key: (at, self.given), begin, len });
        self.given += 1;
        Ok(())
    }

    /// All records, in order.
    pub fn finish(mut self, each: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) -> io::Result<()> {
        if self.runs.ends.is_empty() {
            self.heap.sort_unstable_by_key(|held| held.key);
            for held in &self.heap {
                if each(self.content(held)).is_break() {
                    break;
                }
            }
            return Ok(());
        }
        self.spill()?;
        self.bytes = Vec::new();
        self.heap = Vec::new();
        self.runs.merge(&mut |_, record| each(record))
    }

    fn content(&self, held: &Held) -> &[u8] {
        &self.bytes[held.begin..held.begin + held.len as usize]
    }

    fn spill(&mut self) -> io::Result<()> {
        self.heap.sort_unstable_by_key(|held| held.key);
        if self.runs.ends.len() == MAX_RUNS {
            self.runs = self.runs.as_one()?;
        }
        let mut run = self.runs.append()?;
        for held in &self.heap {
            run.write(held.key, &self.bytes[held.begin..held.begin + held.len as usize])?;
        }
        run.end()?;
        self.bytes.clear();
        self.heap.clear();
        Ok(())
    }
}

impl Runs {
    /// A new run behind the others.
    fn append(&mut self) -> io::Result<Run<'_>> {
        if self.file.is_none() {
            self.file = Some(tempfile::tempfile()?);
        }
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        // The cursor of the file stands at the end of the last run: nothing else moves it.
        Ok(Run {
            out: BufWriter::with_capacity(RUN_BUFFER, file),
            at: self.ends.last().copied().unwrap_or(0),
            ends: &mut self.ends,
        })
    }

    /// The same records in one run, in a new file.
    fn as_one(&self) -> io::Result<Self> {
        let mut one = Self::default();
        let mut run = one.append()?;
        let mut failed = Ok(());
        self.merge(&mut |key, record| match run.write(key, record) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Err(error);
                ControlFlow::Break(())
            }
        })?;
        failed?;
        run.end()?;
        Ok(one)
    }

    fn merge(&self, each: &mut dyn FnMut(Key, &[u8]) -> ControlFlow<()>) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        let mut readers: Vec<_> = begins
            .zip(&self.ends)
            .map(|(at, end)| BufReader::with_capacity(RUN_BUFFER, Section { file, at, end: *end }))
            .collect();
        let mut next = BinaryHeap::new();
        for (i, reader) in readers.iter_mut().enumerate() {
            if let Some((key, len)) = read_head(reader)? {
                next.push(Reverse((key, len, i)));
            }
        }
        let mut record = Vec::new();
        while let Some(Reverse((key, len, i))) = next.pop() {
            let reader = &mut readers[i];
            record.clear();
            if reader.take(len.into()).read_to_end(&mut record)? != len as usize {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if each(key, &record).is_break() {
                return Ok(());
            }
            if let Some((key, len)) = read_head(reader)? {
                next.push(Reverse((key, len, i)));
            }
        }
        Ok(())
    }
}

/// A run being written.
struct Run<'a> {
    out: BufWriter<&'a File>,
    at: u64,
    ends: &'a mut Vec<u64>,
}

impl Run<'_> {
    fn write(&mut self, (at, order): Key, record: &[u8]) -> io::Result<()> {
        let len = u32::try_from(record.len()).map_err(io::Error::other)?;
        self.out.write_all(&at.to_le_bytes())?;
        self.out.write_all(&order.to_le_bytes())?;
        self.out.write_all(&len.to_le_bytes())?;
        self.out.write_all(record)?;
        self.at += HEAD as u64 + u64::from(len);
        Ok(())
    }

    fn end(mut self) -> io::Result<()> {
        self.out.flush()?;
        self.ends.push(self.at);
        Ok(())
    }
}

/// Time, order and length before each record.
const HEAD: usize = 8 + 8 + 4;

fn read_head(from: &mut impl Read) -> io::Result<Option<(Key, u32)>> {
    let mut head = Vec::with_capacity(HEAD);
    from.take(HEAD as u64).read_to_end(&mut head)?;
    let (at, rest) = head.split_at_checked(8).unwrap_or_default();
    let (order, len) = rest.split_at_checked(8).unwrap_or_default();
    match (at.try_into(), order.try_into(), len.try_into()) {
        (Ok(at), Ok(order), Ok(len)) => {
            Ok(Some(((i64::from_le_bytes(at), u64::from_le_bytes(order)), u32::from_le_bytes(len))))
        }
        _ if head.is_empty() => Ok(None),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// A part of a file, read without moving anybody's cursor.
struct Section<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let room = out.len().min(left);
        let read = self.file.read_at(&mut out[..room], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times that repeat and jump about, always the same.
    fn times(n: u64) -> impl Iterator<Item = i64> {
        (0..n).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 50).cast_signed() - 4_000)
    }

    fn sorted(cap: usize, n: u64) -> (Vec<(i64, u64)>, usize) {
        let mut sorter = Sorter::new(cap);
        for (i, at) in times(n).enumerate() {
            sorter.push(at, &at.to_le_bytes(), &(i as u64).to_le_bytes()).unwrap();
        }
        let runs = sorter.runs.ends.len();
        let mut out = Vec::new();
        sorter
            .finish(&mut |record| {
                let (at, i) = record.split_at(8);
                out.push((i64::from_le_bytes(at.try_into().unwrap()), u64::from_le_bytes(i.try_into().unwrap())));
                ControlFlow::Continue(())
            })
            .unwrap();
        (out, runs)
    }

    #[test]
    fn two_hundred_thousand_records_in_a_tiny_heap_come_out_as_they_would_of_a_large_one() {
        let (all, runs) = sorted(1 << 30, 200_000);
        assert_eq!((all.len(), runs), (200_000, 0));
        // Time first, then the order in which they were given; that is the record's own order here.
        assert!(all.is_sorted());
        // Enough runs that they are made one more than once.
        let (spilled, runs) = sorted(16 << 10, 200_000);
        assert!((1..=MAX_RUNS).contains(&runs), "{runs}");
        assert_eq!(spilled, all);
    }

    #[test]
    fn a_record_larger_than_the_heap_and_none_at_all_are_sorted_too() {
        let mut sorter = Sorter::new(16);
        for (at, text) in [(3, &b"a text longer than the cap"[..]), (1, b""), (2, b"x")] {
            sorter.push(at, b"", text).unwrap();
        }
        let mut out = Vec::new();
        sorter
            .finish(&mut |record| {
                out.push(record.to_vec());
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(out, [&b""[..], b"x", b"a text longer than the cap"]);
        Sorter::new(16).finish(&mut |_| panic!("there is nothing")).unwrap();
    }

    #[test]
    fn whoever_has_seen_enough_sees_no_more() {
        let mut sorter = Sorter::new(64);
        for at in 0..100 {
            sorter.push(at, b"", b"x").unwrap();
        }
        let mut seen = 0;
        sorter
            .finish(&mut |_| {
                seen += 1;
                if seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .unwrap();
        assert_eq!(seen, 3);
    }
}
