//! Lines out of bytes, in fixed memory whatever the bytes are: a line longer than [`LINE_CAP`] is cut and the cut is
//! counted, zero bytes before a line (what a crash or a truncating rotation leaves) are passed over and counted.
//!
//! What a line means is not known here.

use std::fs::File;
use std::io::{self, BufRead as _};
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use rustix::fs::SeekFrom;

use super::window::read_up_to;

/// The longest line that is kept whole: container runtimes cut at 16 KiB, and a stack trace on one line has been seen
/// at a few hundred.
pub(super) const LINE_CAP: usize = 1 << 20;

/// How much is read at once.
const BLOCK: usize = 128 << 10;

/// So many of the last lines of a block are looked at for one that bears a time: stack traces are not much longer.
const LOOK_BACK: usize = 64;

/// After so many bytes without a line, the caller is given the chance to stop.
const PATIENCE: u64 = 8 << 20;

/// Where bytes come from.
pub(super) trait Feed {
    /// Reads on. At the end: no bytes.
    fn feed(&mut self, into: &mut [u8]) -> io::Result<Fed>;

    /// The end was reached in the middle of a line. Waits a little where somebody may be writing just now; says what came of it.
    fn wait(&mut self) -> Wait {
        Wait::Static
    }
}

/// What waiting for the rest of a line came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// There may be more by now.
    Again,
    /// Nobody is writing: the line is as it is.
    Static,
    /// Somebody has written a moment ago, and the rest did not come.
    InVain,
}

/// What was read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fed {
    /// How many bytes.
    pub(super) bytes: usize,
    /// The length of a hole that was passed over before them: zero bytes that nobody wrote.
    pub(super) hole: u64,
}

/// A plain file from some position to its end, as far as it goes by then.
#[derive(Debug)]
pub(super) struct PlainFeed<'f> {
    file: &'f File,
    at: u64,
    in_zeros: bool,
    /// What the file begins with; empty: it is not looked at.
    mark: Vec<u8>,
    /// How often the rest of a line was waited for.
    waited: u32,
}

/// A file that was written to so lately may be in the middle of a line.
const LATELY: Duration = Duration::from_secs(2);

/// The rest of a line is looked for so often, so far apart: a writer that is interrupted goes on within milliseconds, one that
/// writes when its buffer is full may take as long as it likes.
const WAITS: u32 = 20;
const A_MOMENT: Duration = Duration::from_millis(10);

/// The error of a file that does not begin any more with what it began with: it was cut off and written anew. A truncation
/// has no other trace once the file is as long as it was, and what was read in one go may be of both.
pub(super) const WRITTEN_ANEW: io::ErrorKind = io::ErrorKind::StaleNetworkFileHandle;

impl<'f> PlainFeed<'f> {
    /// From this byte on.
    pub(super) fn new(file: &'f File, at: u64) -> Self {
        Self::marked(file, at, Vec::new())
    }

    /// From this byte on, as long as the file begins with this: else reading fails with [`WRITTEN_ANEW`], and gives nothing
    /// of what it read last.
    pub(super) fn marked(file: &'f File, at: u64, mark: Vec<u8>) -> Self {
        Self { file, at, in_zeros: false, mark, waited: 0 }
    }
}

impl Feed for PlainFeed<'_> {
    fn feed(&mut self, into: &mut [u8]) -> io::Result<Fed> {
        let mut hole = 0;
        if self.in_zeros {
            // A sparse file may hold terabytes of nothing. Not every file system can say; then the zeros are read.
            let data = match rustix::fs::seek(self.file, SeekFrom::Data(self.at)) {
                Ok(data) => data,
                // There is no more data: a hole up to the end.
                Err(rustix::io::Errno::NXIO) => self.file.metadata()?.len(),
                Err(_) => self.at,
            };
            hole = data.saturating_sub(self.at);
            self.at = self.at.max(data);
        }
        let bytes = loop {
            match self.file.read_at(into, self.at) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        // Looked at behind the reading: if any of it is of what was written anew, so is the beginning by now.
        if bytes > 0 && !self.mark.is_empty() && !begins_with(self.file, &self.mark)? {
            return Err(WRITTEN_ANEW.into());
        }
        self.at += bytes as u64;
        self.in_zeros = bytes == into.len() && into.iter().all(|b| *b == 0);
        Ok(Fed { bytes, hole })
    }

    fn wait(&mut self) -> Wait {
        let written = self.file.metadata().and_then(|meta| meta.modified()).ok();
        // A time to come is as good as none.
        if written.and_then(|at| at.elapsed().ok()).is_none_or(|ago| ago > LATELY) {
            return Wait::Static;
        }
        if self.waited == WAITS {
            return Wait::InVain;
        }
        self.waited += 1;
        std::thread::park_timeout(A_MOMENT);
        Wait::Again
    }
}

/// Whether a file begins with this.
pub(super) fn begins_with(file: &File, mark: &[u8]) -> io::Result<bool> {
    let mut now = vec![0; mark.len()];
    Ok(read_up_to(file, &mut now, 0)? == mark.len() && now == mark)
}

/// One line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    /// Where it begins, with the zeros before it.
    pub(super) begins: u64,
    /// It, without its line feed; at most [`LINE_CAP`] bytes.
    pub(super) bytes: &'a [u8],
    /// Bytes of it that were left out because it was too long.
    pub(super) left_out: u64,
    /// Zero bytes that stood before it or lay in a hole within it.
    pub(super) zeros: u64,
}

/// What came next.
#[derive(Debug)]
pub(super) enum Next<'a> {
    /// A line.
    Line(Line<'a>),
    /// Nothing yet after a lot of bytes: ask again, or stop.
    Busy,
    /// There is no more.
    End,
}

/// Lines out of a feed.
#[derive(Debug)]
pub(super) struct Lines<F> {
    feed: F,
    buf: Vec<u8>,
    /// The unread part of `buf`.
    start: usize,
    end: usize,
    /// Bytes from `start` that are known to hold no line feed.
    searched: usize,
    /// Where `start` lies in the feed, holes included.
    offset: u64,
    /// Lines that begin here or later are not given.
    until: u64,
    left_out: u64,
    zeros: u64,
    /// Whether the line's first byte that is not zero has been seen.
    begun: bool,
    since_line: u64,
    ended: bool,
    /// An error that was met while looking ahead: told when what was read before it has been given.
    failed: Option<io::Error>,
    /// Lines that begin before this offset may have been passed over.
    leapt: u64,
    /// Whether the last line ends where its writer had got to.
    cut_short: bool,
}

impl<F: Feed> Lines<F> {
    /// Lines of a feed whose first byte lies at `offset`, up to the last one that begins before `until`.
    pub(super) fn new(feed: F, offset: u64, until: u64) -> Self {
        Self {
            feed,
            buf: vec![0; BLOCK],
            start: 0,
            end: 0,
            searched: 0,
            offset,
            until,
            left_out: 0,
            zeros: 0,
            begun: false,
            since_line: 0,
            ended: false,
            failed: None,
            leapt: 0,
            cut_short: false,
        }
    }

    /// Whether the last line that was given has no end, though somebody was writing it: the rest did not come.
    pub(super) fn cut_short(&self) -> bool {
        self.cut_short
    }

    /// Where the next line begins; at the end, how far the feed went.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The offset before which lines may have been passed over by [`Lines::leap`]; 0 when none were.
    pub(super) fn leapt(&self) -> u64 {
        self.leapt
    }

    /// Passes over all lines of the next block but its last ones, if the caller can say of one of those that nothing
    /// before it is wanted; what `early` says of it is given back. `None`: nothing was passed over.
    pub(super) fn leap<T>(&mut self, mut early: impl FnMut(&[u8]) -> Option<T>) -> Option<T> {
        if self.offset >= self.until || self.begun || self.zeros > 0 || self.left_out > 0 {
            return None;
        }
        while !self.ended && self.failed.is_none() && self.end - self.start < BLOCK {
            if let Err(e) = self.fill() {
                self.failed = Some(e);
            }
        }
        // Zeros that a truncation left are counted by whoever reads on from here.
        if self.zeros > 0 {
            return None;
        }
        let block = &self.buf[self.start..self.end];
        let mut end = last_line_feed(block)?;
        for _ in 0..LOOK_BACK {
            let begin = last_line_feed(&block[..end])? + 1;
            if self.offset + begin as u64 >= self.until {
                return None;
            }
            if let Some(said) = early(&block[begin..end]) {
                self.start += begin;
                self.offset += begin as u64;
                (self.searched, self.since_line, self.leapt) = (0, 0, self.offset);
                return Some(said);
            }
            end = begin - 1;
        }
        None
    }

    /// The next line. An error is not the end: what was read before it has been given.
    pub(super) fn next(&mut self) -> io::Result<Next<'_>> {
        if self.offset >= self.until {
            return Ok(Next::End);
        }
        loop {
            if !self.begun {
                self.pass_zeros();
            }
            if let Some(length) = line_feed(&self.buf[self.start + self.searched..self.end]) {
                return Ok(self.give(self.searched + length, 1));
            }
            self.searched = self.end - self.start;
            if self.ended {
                if self.searched == 0 {
                    return Ok(if self.zeros == 0 { Next::End } else { self.give(0, 0) });
                }
                match self.feed.wait() {
                    Wait::Again => {
                        self.fill()?;
                        continue;
                    }
                    waited => self.cut_short = waited == Wait::InVain,
                }
                return Ok(self.give(self.searched, 0));
            }
            if self.since_line >= PATIENCE {
                self.since_line = 0;
                return Ok(Next::Busy);
            }
            self.fill()?;
        }
    }

    fn pass_zeros(&mut self) {
        let unread = &self.buf[self.start..self.end];
        let zeros = unread.iter().position(|b| *b != 0).unwrap_or(unread.len());
        self.start += zeros;
        self.zeros += zeros as u64;
        self.begun = self.start < self.end;
        self.searched = 0;
    }

    fn give(&mut self, length: usize, ending: usize) -> Next<'_> {
        let bytes = self.start..self.start + length.min(LINE_CAP);
        let (left_out, zeros) = (self.left_out + (length - bytes.len()) as u64, self.zeros);
        let begins = self.offset;
        self.start += length + ending;
        self.offset += (length + ending) as u64 + self.left_out + self.zeros;
        (self.left_out, self.zeros, self.searched, self.begun, self.since_line) = (0, 0, 0, false, 0);
        Next::Line(Line { begins, bytes: &self.buf[bytes], left_out, zeros })
    }

    /// Reads on behind what is there; beyond [`LINE_CAP`] the bytes of the same line make room for those that follow.
    fn fill(&mut self) -> io::Result<()> {
        if let Some(e) = self.failed.take() {
            return Err(e);
        }
        self.buf.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end > LINE_CAP {
            self.left_out += (self.end - LINE_CAP) as u64;
            self.end = LINE_CAP;
            self.searched = self.searched.min(LINE_CAP);
        }
        if self.buf.len() - self.end < BLOCK {
            self.buf.resize((2 * self.buf.len()).min(LINE_CAP + BLOCK), 0);
        }
        let fed = self.feed.feed(&mut self.buf[self.end..])?;
        self.end += fed.bytes;
        self.zeros += fed.hole;
        self.since_line += fed.bytes as u64;
        self.ended = fed.bytes == 0;
        Ok(())
    }
}

/// Where the first line feed lies. By way of `BufRead`, because that is where the standard library shows its `memchr`.
fn line_feed(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    // Reading from a slice never fails.
    let passed = rest.skip_until(b'\n').unwrap_or(0);
    passed.checked_sub(1).filter(|at| bytes[*at] == b'\n')
}

/// Where the last line feed lies.
fn last_line_feed(bytes: &[u8]) -> Option<usize> {
    bytes.iter().rposition(|b| *b == b'\n')
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_rest_of_a_line_that_is_being_written_is_waited_for_and_of_an_old_one_it_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let first = |file: &File| {
            let mut lines = Lines::new(PlainFeed::new(file, 0), 0, 100);
            let Next::Line(line) = lines.next().unwrap() else { panic!("no line") };
            let bytes = line.bytes.to_vec();
            (bytes, lines.cut_short())
        };
        std::fs::write(&path, "half").unwrap();
        let file = File::open(&path).unwrap();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| first(&file));
            std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b" and half\nmore\n").unwrap();
            assert_eq!(reader.join().unwrap(), (b"half and half".to_vec(), false));
        });
        std::fs::write(&path, "half").unwrap();
        assert_eq!(first(&file), (b"half".to_vec(), true), "and it is told when it does not come");
        let old = std::time::SystemTime::now() - 2 * LATELY;
        File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        assert_eq!(first(&file), (b"half".to_vec(), false));
    }

    #[test]
    fn nothing_is_given_of_a_file_that_was_written_anew_behind_what_was_read() {
        use std::io::Write as _;

        use super::{Feed as _, PlainFeed, WRITTEN_ANEW};

        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"the first line\nthe second line\nthe third\n").unwrap();
        let mut feed = PlainFeed::marked(&file, 0, b"the first".to_vec());
        let mut buf = [0; 15];
        assert_eq!((feed.feed(&mut buf).unwrap().bytes, &buf), (15, b"the first line\n"));
        // As long as before, and longer than what was read.
        file.set_len(0).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"another line here\nand one more\nand a fourth\n", 0).unwrap();
        assert_eq!(feed.feed(&mut buf).unwrap_err().kind(), WRITTEN_ANEW);
        assert!(PlainFeed::new(&file, 15).feed(&mut buf).is_ok(), "nobody asked");
    }

    use std::io::Write as _;

    use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

    use super::*;

    /// Gives its bytes in pieces of the sizes named, over and over.
    struct Dribble<'a> {
        bytes: &'a [u8],
        sizes: std::iter::Cycle<std::vec::IntoIter<usize>>,
    }

    impl Feed for Dribble<'_> {
        fn feed(&mut self, into: &mut [u8]) -> io::Result<Fed> {
            let n = self.sizes.next().unwrap().min(self.bytes.len()).min(into.len());
            into[..n].copy_from_slice(&self.bytes[..n]);
            self.bytes = &self.bytes[n..];
            Ok(Fed { bytes: n, hole: 0 })
        }
    }

    fn all<F: Feed>(mut lines: Lines<F>) -> Vec<(u64, Vec<u8>, u64, u64)> {
        let mut out = Vec::new();
        loop {
            let offset = lines.offset();
            match lines.next().unwrap() {
                Next::Line(l) => out.push((offset, l.bytes.to_vec(), l.left_out, l.zeros)),
                Next::Busy => {}
                Next::End => return out,
            }
        }
    }

    proptest! {
        #[test]
        fn lines_are_the_bytes_between_line_feeds_however_they_arrive(
            lines in proptest::collection::vec(
                prop_oneof![
                    proptest::collection::vec(any::<u8>().prop_filter("no line feed", |b| *b != b'\n'), 0..40),
                    Just(vec![0_u8; 7]), Just(Vec::new()), Just(b"text\0\0\r".to_vec()),
                ], 0..30),
            sizes in proptest::collection::vec(1_usize..50, 1..5),
            ended in any::<bool>(),
        ) {
            let mut bytes = lines.join(&b'\n');
            if ended && !lines.is_empty() { bytes.push(b'\n') }
            let given = all(Lines::new(Dribble { bytes: &bytes, sizes: sizes.into_iter().cycle() }, 0, u64::MAX));
            let mut offset = 0;
            for line in given.iter() {
                assert_eq!(line.0, offset);
                let end = offset as usize + line.3 as usize + line.1.len();
                assert_eq!(&bytes[offset as usize + line.3 as usize..end], &line.1[..]);
                assert!(bytes[offset as usize..][..line.3 as usize].iter().all(|b| *b == 0));
                offset = end as u64 + u64::from(end < bytes.len());
            }
            assert_eq!(offset, bytes.len() as u64);
            assert!(given.iter().all(|l| !l.1.contains(&b'\n') && l.1.first() != Some(&0)));
        }
    }

    #[test]
    fn a_line_of_three_mebibytes_is_cut_and_the_next_one_is_not_touched() {
        let mut bytes = vec![b'x'; 3 << 20];
        bytes.extend_from_slice(b"\nnext\n");
        let sizes = vec![100_000, 1].into_iter().cycle();
        let given = all(Lines::new(Dribble { bytes: &bytes, sizes }, 0, u64::MAX));
        assert_eq!(given.len(), 2);
        assert_eq!((given[0].1.len(), given[0].2), (LINE_CAP, (3 << 20) - LINE_CAP as u64));
        assert_eq!(given[1], ((3 << 20) + 1, b"next".to_vec(), 0, 0));
    }

    #[test]
    fn a_hole_of_a_tebibyte_is_passed_over() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"one\n").unwrap();
        file.set_len(1 << 40).unwrap();
        file.write_all_at(b"two\nthree", 1 << 40).unwrap();
        let given = all(Lines::new(PlainFeed::new(&file, 0), 0, u64::MAX));
        assert_eq!(given.iter().map(|l| l.1.as_slice()).collect::<Vec<_>>(), [&b"one"[..], b"two", b"three"]);
        assert_eq!(given[1].3, (1 << 40) - 4);
        assert_eq!(given[2].0, (1 << 40) + 4);
    }

    #[test]
    fn a_hole_at_the_end_is_passed_over_too() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"one\n").unwrap();
        file.set_len(1 << 40).unwrap();
        let given = all(Lines::new(PlainFeed::new(&file, 0), 0, u64::MAX));
        assert_eq!((given.len(), given[0].1.as_slice()), (2, &b"one"[..]));
        assert_eq!((given[1].1.len(), given[1].3), (0, (1 << 40) - 4));
    }

    #[test]
    fn a_line_that_begins_at_the_limit_is_not_given_and_one_before_it_is_given_whole() {
        let lines = |until| {
            let sizes = vec![64].into_iter().cycle();
            all(Lines::new(Dribble { bytes: b"ab\ncdef\ngh\n", sizes }, 0, until)).len()
        };
        assert_eq!((lines(0), lines(1), lines(3), lines(4), lines(8), lines(9)), (0, 1, 1, 2, 2, 3));
    }
}
