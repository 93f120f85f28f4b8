//! Private keys in blocks of lines: PEM, OpenPGP, SSH2 and PuTTY, in one record or over many.
//!
//! A block that was opened and not closed is carried to the next record. There a line may hold more than a part of the
//! key (a time, the name of a stream), so only what can be base64 is taken; and the block is given up when nothing
//! of the kind comes any more.

use std::ops::Range;

use super::rule::is_word;

/// So many records may follow the opening of a block: a key of 16,384 bits has 200 lines.
const MAX_RECORDS: u32 = 400;

/// After so many without anything like a key, there was none.
const MAX_MISSES: u32 = 16;

/// A run of base64 that is taken wherever it stands in an open block.
const LONG: usize = 16;

/// How far before `PRIVATE KEY` its `BEGIN` may stand.
const MARKER: usize = 48;

/// The block that is open at the beginning of a record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Block {
    open: bool,
    records: u32,
    misses: u32,
    /// Whether the last record held a line of a key: only then may a short one be the last.
    in_body: bool,
}

impl Block {
    /// Takes what belongs to a block that an earlier record opened, and gives the place from which on the record is
    /// an ordinary one again.
    pub(crate) fn carry_on(&mut self, text: &[u8], take: &mut dyn FnMut(Range<usize>)) -> usize {
        if !self.open {
            return 0;
        }
        let end = end_marker(text, 0);
        // A block that begins before the end of this one: this one had none.
        let end = memchr::memmem::find(&text[..end.unwrap_or(text.len())], b"-BEGIN ").or(end);
        let body = &text[..end.unwrap_or(text.len())];
        let mut long = false;
        let mut at = 0;
        while at < body.len() {
            let run = body[at..].iter().take_while(|b| is_base64(**b)).count();
            if run >= LONG || (run > 0 && self.in_body && ends_line(&text[at + run..])) {
                long |= run >= LONG;
                take(at..at + run);
            }
            at += run + 1;
        }
        self.records += 1;
        self.misses = if long { 0 } else { self.misses + 1 };
        self.in_body = long;
        if end.is_some() || self.records > MAX_RECORDS || self.misses > MAX_MISSES {
            *self = Self::default();
        }
        end.unwrap_or(0)
    }

    /// Looks at a place where `PRIVATE KEY` or `Private-Lines` stands. `from` is where an earlier block ended.
    pub(crate) fn found(
        &mut self,
        text: &[u8],
        place: Range<usize>,
        from: usize,
        ends: &mut Ends,
    ) -> Option<Range<usize>> {
        let begin = opening(text, &place)?;
        if place.start < from {
            return None;
        }
        let end = ends.after(text, begin);
        let body = trim(text, begin..end.unwrap_or(text.len()));
        if end.is_some() {
            *self = Self::default();
            return (!body.is_empty()).then_some(body);
        }
        let first = text[body.clone()].iter().take_while(|b| is_base64(**b)).count();
        let header = text[body.clone()].starts_with(b"Proc-Type") || text[body.clone()].starts_with(b"Version:");
        let in_body = first >= LONG || header;
        *self = Self { open: true, records: 0, misses: 0, in_body };
        in_body.then_some(body)
    }

    /// The block that is open when either of two readings of a record leaves one open.
    pub(crate) fn or(self, other: Self) -> Self {
        if self.open { self } else { other }
    }
}

/// Where the next marker stands that closes a block: looked for once, however many open one.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    /// From where it was looked for, and what was found.
    known: Option<(usize, Option<usize>)>,
}

impl Ends {
    fn after(&mut self, text: &[u8], from: usize) -> Option<usize> {
        match self.known {
            Some((begin, end)) if begin <= from && end.is_none_or(|e| e >= from) => end,
            _ => {
                let end = end_marker(text, from);
                self.known = Some((from, end));
                end
            }
        }
    }
}

/// Where the body begins behind a marker that opens a block.
fn opening(text: &[u8], place: &Range<usize>) -> Option<usize> {
    let rest = &text[place.end..];
    if text[place.start..place.end].eq_ignore_ascii_case(b"private-lines") {
        let number = rest.strip_prefix(b":")?.iter().take(12).take_while(|b| **b == b' ' || b.is_ascii_digit()).count();
        return Some(place.end + 1 + number);
    }
    let before = &text[place.start.saturating_sub(MARKER)..place.start];
    let begin = memchr::memmem::rfind(before, b"BEGIN ")?;
    // `-----END … PRIVATE KEY-----` behind a `BEGIN` of something else.
    if !before[begin + 6..].iter().all(|b| is_word(*b) || *b == b' ') {
        return None;
    }
    let rest = rest.strip_prefix(b" BLOCK").unwrap_or(rest);
    let block = text.len() - rest.len();
    let dashes = rest.iter().take(6).take_while(|b| matches!(b, b'-' | b' ')).count();
    (dashes >= 4).then_some(block + dashes)
}

/// Where the marker stands that closes a block.
fn end_marker(text: &[u8], from: usize) -> Option<usize> {
    let pem =
        memchr::memmem::find(&text[from..], b"---END ").or_else(|| memchr::memmem::find(&text[from..], b"--- END "));
    let putty = memchr::memmem::find(&text[from..], b"Private-MAC:");
    let at = from + pem.into_iter().chain(putty).min()?;
    let dashes = text[from..at].iter().rev().take(2).take_while(|b| **b == b'-').count();
    Some(at - dashes)
}

/// Without the line ends, the blanks and the quotes around it, escaped or not.
fn trim(text: &[u8], range: Range<usize>) -> Range<usize> {
    let Range { mut start, mut end } = range;
    while start < end {
        match &text[start..end] {
            [b'\\', b'n' | b'r' | b't' | b'\\', ..] => start += 2,
            [b' ' | b'\t' | b'\r' | b'\n' | b'"' | b'\'' | b',', ..] => start += 1,
            _ => break,
        }
    }
    while start < end {
        match &text[start..end] {
            [.., b'\\', b'n' | b'r' | b't' | b'\\' | b'"' | b'\''] => end -= 2,
            [.., b' ' | b'\t' | b'\r' | b'\n' | b'"' | b'\'' | b',' | b'\\'] => end -= 1,
            _ => break,
        }
    }
    start..end
}

fn ends_line(rest: &[u8]) -> bool {
    matches!(rest, [] | [b'\n' | b'\r' | b'"', ..] | [b'\\', b'n' | b'r' | b'\\', ..])
}

/// The letters of base64.
pub(crate) fn is_base64(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=')
}
