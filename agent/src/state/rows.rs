//! How a table is written and how its files are read: rows one by one, lines one by one, so that memory does not grow
//! with either.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};

use casefile_proto::gap::{Gap, GapReason};
use serde::Serialize;

use super::Table;
use crate::host::{Host, HostError};
use crate::lossy;
use crate::sources::kept::unreadable;

/// Gaps that one table names; the rest are counted in one more.
const MAX_GAPS: usize = 64;

/// The longest line that is read; a mount of many overlay layers has some thousand bytes.
const MAX_LINE: usize = 64 * 1024;

/// The longest text in a row; a longer one is cut.
pub(super) const MAX_TEXT: usize = 4 * 1024;

/// A small file read whole.
const MAX_SMALL: usize = 64 * 1024;

/// A table that is being written.
pub(super) struct Rows<'a> {
    out: &'a mut dyn Write,
    line: Vec<u8>,
    max: u64,
    left_out: u64,
    gaps_left_out: u64,
    table: Table,
}

impl<'a> Rows<'a> {
    /// A table of at most `max` rows; those beyond are counted.
    pub(super) fn new(out: &'a mut dyn Write, max: u64) -> Self {
        Self { out, line: Vec::new(), max, left_out: 0, gaps_left_out: 0, table: Table::default() }
    }

    /// Writes a row.
    pub(super) fn row(&mut self, row: &impl Serialize) -> std::io::Result<()> {
        if self.table.rows == self.max {
            self.left_out += 1;
            return Ok(());
        }
        self.line.clear();
        serde_json::to_writer(&mut self.line, row)?;
        self.line.push(b'\n');
        self.out.write_all(&self.line)?;
        self.table.rows += 1;
        Ok(())
    }

    /// How many rows there are.
    pub(super) fn count(&self) -> u64 {
        self.table.rows
    }

    /// Something is missing.
    pub(super) fn gap(&mut self, gap: Gap) {
        if self.table.gaps.len() < MAX_GAPS {
            self.table.gaps.push(gap);
        } else {
            self.gaps_left_out += gap.count.unwrap_or(1).max(1);
        }
    }

    /// A file could not be read. What is not there is told too, as absent.
    pub(super) fn unreadable(&mut self, error: &HostError) {
        self.gap(unreadable(error));
    }

    /// A line of a file is not what it should be.
    pub(super) fn unparsed(&mut self, file: &str, line: &[u8], why: &str) {
        let shown = lossy::capped(line, 200);
        self.gap(Gap::new(GapReason::ParseFailed, format!("/{file}: cannot parse {shown:?}: {why}")).counting(1));
    }

    /// Every line of a file, one by one. A file that cannot be read or breaks off is a gap; so is a line that is too long.
    pub(super) fn each_line(
        &mut self,
        host: &Host,
        path: &str,
        each: &mut dyn FnMut(&mut Self, &[u8]) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        // Opened by the directory, which gives out a plain handle: these files may be longer than memory should be.
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let file = match host.dir(dir).and_then(|dir| dir.open(name)) {
            Ok(file) => file,
            Err(error) => {
                self.unreadable(&error);
                return Ok(());
            }
        };
        let mut lines = Lines::new(file);
        loop {
            match lines.next() {
                Ok(None) => return Ok(()),
                Ok(Some(Line::Whole(line))) => each(self, line)?,
                Ok(Some(Line::TooLong(begin))) => {
                    self.unparsed(path, begin, "the line is longer than any should be");
                }
                Err(error) => {
                    self.gap(Gap::new(GapReason::SourceFailed, format!("read /{path}: {error}")));
                    return Ok(());
                }
            }
        }
    }

    /// The table is whole.
    pub(super) fn end(mut self) -> Table {
        if self.gaps_left_out > 0 {
            let reason = self.table.gaps.last().map_or(GapReason::ParseFailed, |gap| gap.reason);
            let why = "more of the kind, not named one by one";
            self.table.gaps.push(Gap::new(reason, why).counting(self.gaps_left_out));
        }
        if self.left_out > 0 {
            let why = format!("rows beyond {} are left out", self.max);
            self.table.gaps.push(Gap::new(GapReason::Budget, why).counting(self.left_out));
        }
        self.table
    }
}

/// The lines of a file, in bounded memory.
struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
}

enum Line<'a> {
    /// Without its end.
    Whole(&'a [u8]),
    /// Its begin; the rest is skipped.
    TooLong(&'a [u8]),
}

impl Lines<File> {
    fn new(file: File) -> Self {
        Self::of(file)
    }
}

impl<R: Read> Lines<R> {
    fn of(reader: R) -> Self {
        Self { reader: BufReader::with_capacity(16 * 1024, reader), line: Vec::new() }
    }

    fn next(&mut self) -> std::io::Result<Option<Line<'_>>> {
        self.line.clear();
        let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
        if self.reader.by_ref().take(limit).read_until(b'\n', &mut self.line)? == 0 {
            return Ok(None);
        }
        if self.line.ends_with(b"\n") {
            self.line.pop();
        } else if self.line.len() == MAX_LINE {
            self.reader.skip_until(b'\n')?;
            return Ok(Some(Line::TooLong(&self.line)));
        }
        Ok(Some(Line::Whole(&self.line)))
    }
}

/// A small file as text without the blanks at its ends, cut at [`MAX_TEXT`]; an error is the caller's to judge.
pub(super) fn small(host: &Host, path: &str, buf: &mut Vec<u8>) -> Result<String, HostError> {
    host.read(path, buf, MAX_SMALL)?;
    Ok(lossy::capped(buf.trim_ascii(), MAX_TEXT))
}

/// The same, for what is not there on many machines: `None` without a gap when it is missing or the driver has no answer.
pub(super) fn optional(host: &Host, path: &str, buf: &mut Vec<u8>, rows: &mut Rows<'_>) -> Option<String> {
    match small(host, path, buf) {
        Ok(text) => Some(text),
        Err(error) if error.is_not_found() || error.is_unsupported() || is_invalid(&error) => None,
        Err(error) => {
            rows.unreadable(&error);
            None
        }
    }
}

/// `EINVAL`: what a driver says when a link that is down is asked for its speed.
fn is_invalid(error: &HostError) -> bool {
    let invalid = rustix::io::Errno::INVAL.raw_os_error();
    matches!(error, HostError::Io { source, .. } if source.raw_os_error() == Some(invalid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_an_end_is_a_line_and_a_long_one_is_skipped_whole() {
        let long = vec![b'x'; MAX_LINE * 2 + 5];
        let text = [b"a\n\n", &long[..], b"\nb"].concat();
        let mut lines = Lines::of(&text[..]);
        let mut seen = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            seen.push(match line {
                Line::Whole(line) => String::from_utf8(line.to_vec()).unwrap(),
                Line::TooLong(begin) => format!("too long after {}", begin.len()),
            });
        }
        assert_eq!(seen, ["a", "", "too long after 65536", "b"]);
    }

    #[test]
    fn rows_and_gaps_beyond_their_caps_are_counted() {
        let mut out = Vec::new();
        let mut rows = Rows::new(&mut out, 2);
        for n in 0..5 {
            rows.row(&n).unwrap();
        }
        for _ in 0..MAX_GAPS + 3 {
            rows.unparsed("proc/x", b"\x1b[31m", "is garbled");
        }
        let table = rows.end();
        assert_eq!((table.rows, table.gaps.len()), (2, MAX_GAPS + 2));
        assert_eq!((table.gaps[MAX_GAPS].count, table.gaps[MAX_GAPS + 1].count), (Some(3), Some(3)));
        assert_eq!(out, b"0\n1\n");
    }

    #[test]
    fn a_write_that_fails_ends_the_table() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        assert!(Rows::new(&mut Full, 9).row(&1).is_err());
    }
}
