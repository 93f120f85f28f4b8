//! The container runtimes' log format (CRI): `TIME STREAM TAGS TEXT`, where the tag `P` says that the text goes on in the
//! next line of the same stream, and `F` that it is complete. Pure.
//!
//! In the archive a record is `TIME STREAM TEXT` and a line feed: the time and the stream exactly as the runtime wrote
//! them, the text to the byte, with the parts of one line joined. Its time is that of its first part. Records stand in
//! the order in which they began; one that was begun and not ended holds back those behind it, up to [`HOLD`] bytes.
//! The last part can come long after the first: runtimes flush half a line when they rotate.

use std::collections::VecDeque;
use std::ops::ControlFlow::Continue;
use std::time::Duration;

use casefile_evidence::logtime::stamp::zoned;
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::time::WallTime;

use super::fuzzing::CriLine;
use super::lines::{LINE_CAP, Line};
use super::sink::{Flow, Item};
use super::window::Grammar;

/// The most that is held back for the sake of order.
pub(super) const HOLD: usize = 2 * LINE_CAP;

/// Which of a container's two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

impl Stream {
    fn name(self) -> &'static [u8] {
        match self {
            Self::Out => b"stdout",
            Self::Err => b"stderr",
        }
    }
}

/// One line of a container log, after its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rest<'a> {
    /// Which stream.
    pub(super) stream: Stream,
    /// Whether its text goes on.
    pub(super) partial: bool,
    /// The text.
    pub(super) text: &'a [u8],
}

/// What follows the time in a line: ` stdout F text`.
pub(super) fn parse_rest(rest: &[u8]) -> Option<Rest<'_>> {
    let (stream, rest) = match rest {
        [b' ', b's', b't', b'd', b'o', b'u', b't', b' ', rest @ ..] => (Stream::Out, rest),
        [b' ', b's', b't', b'd', b'e', b'r', b'r', b' ', rest @ ..] => (Stream::Err, rest),
        _ => return None,
    };
    // More tags may follow the first one, after a colon.
    let space = rest.iter().take(64).position(|b| *b == b' ').unwrap_or(rest.len());
    let (tags, text) = (&rest[..space], rest.get(space + 1..).unwrap_or_default());
    match tags {
        [tag @ (b'P' | b'F')] | [tag @ (b'P' | b'F'), b':', ..] => Some(Rest { stream, partial: *tag == b'P', text }),
        _ => None,
    }
}

/// A record that was begun and is held back.
#[derive(Debug)]
struct Held {
    at: WallTime,
    stream: Stream,
    open: bool,
    /// Empty when the record lies outside of the window.
    bytes: Vec<u8>,
    left_out: u64,
}

impl Held {
    fn weight(&self) -> usize {
        self.bytes.len() + size_of::<Self>()
    }
}

/// Joins the lines of a container log to records.
#[derive(Debug, Default)]
pub(super) struct Cri {
    minute: [u8; 16],
    nanos: i64,
    /// How many bytes of the line last looked at are its time.
    stamp: usize,
    near: Option<WallTime>,
    /// Bytes without a time before the first line that has one.
    orphaned: u64,
    held: VecDeque<Held>,
    /// What all that is held takes.
    weight: usize,
    record: Vec<u8>,
}

impl Grammar for Cri {
    type Form = ();

    // A program that stalls in the middle of a long line, while its other stream goes on. The last part of one that takes
    // longer is given as a record of its own, if it lies in the window and the first ones were not read.
    const APART: Duration = Duration::from_secs(60);

    fn enter(&mut self, _form: &()) {}

    fn stamp(&mut self, line: &[u8]) -> Option<WallTime> {
        let (at, used) = zoned(line, &mut self.minute, &mut self.nanos)?;
        self.stamp = used;
        Some(at)
    }

    fn line(&mut self, at: Option<WallTime>, line: &Line<'_>, item: &mut Item<'_, '_>) -> Flow {
        self.near = at.or(self.near);
        let parsed = at.and_then(|at| Some((at, parse_rest(line.bytes.get(self.stamp..)?)?)));
        if line.zeros > 0 || parsed.is_none() {
            self.orphaned += line.zeros + if parsed.is_none() { line.bytes.len() as u64 + line.left_out } else { 0 };
            if self.near.is_some() {
                item.damaged(self.near, std::mem::take(&mut self.orphaned));
            }
        } else if self.orphaned > 0 {
            item.damaged(self.near, std::mem::take(&mut self.orphaned));
        }
        let Some((at, rest)) = parsed else { return Continue(()) };
        if self.held.is_empty() && !rest.partial {
            if !item.wants(at) {
                return Continue(());
            }
            item.cut_record(at, line.left_out);
            self.record.clear();
            begin(&mut self.record, &line.bytes[..self.stamp], &rest);
            self.record.push(b'\n');
            return item.record(at, &self.record);
        }
        match self.held.iter_mut().find(|h| h.open && h.stream == rest.stream) {
            Some(held) => {
                if item.wants(held.at) {
                    let room = LINE_CAP.saturating_sub(held.bytes.len()).min(rest.text.len());
                    held.bytes.extend_from_slice(&rest.text[..room]);
                    self.weight += room;
                    held.left_out += (rest.text.len() - room) as u64 + line.left_out;
                }
                held.open = rest.partial;
            }
            None => {
                let mut held =
                    Held { at, stream: rest.stream, open: rest.partial, bytes: Vec::new(), left_out: line.left_out };
                if item.wants(at) {
                    begin(&mut held.bytes, &line.bytes[..self.stamp], &rest);
                }
                self.weight += held.weight();
                self.held.push_back(held);
            }
        }
        self.release(item)
    }

    fn unfinished(&self, item: &Item<'_, '_>) -> bool {
        self.held.iter().any(|h| h.open && item.wants(h.at))
    }

    fn break_off(&mut self, item: &mut Item<'_, '_>) -> Flow {
        self.held.iter_mut().for_each(|h| h.open = false);
        self.release(item)
    }
}

impl Cri {
    /// The line that was stamped last, taken apart.
    pub(super) fn rest_of<'l>(&self, line: &'l [u8]) -> Option<CriLine<'l>> {
        let (stamp, rest) = line.split_at_checked(self.stamp)?;
        let (at, _) = zoned(line, &mut [0; 16], &mut 0)?;
        let Rest { stream, partial, text } = parse_rest(rest)?;
        let stream = if stream == Stream::Out { "stdout" } else { "stderr" };
        Some(CriLine { at, stamp, stream, partial, text })
    }

    /// Says which records had not been ended when the log was read to its end, and gives them as they are.
    pub(super) fn finish(&mut self, item: &mut Item<'_, '_>) -> Flow {
        item.damaged(None, std::mem::take(&mut self.orphaned));
        for held in
            self.held.iter().filter(|h| h.open && item.wants(h.at)).map(|h| (h.at, h.stream)).collect::<Vec<_>>()
        {
            let name = String::from_utf8_lossy(held.1.name());
            let why = format!("the line that {name} began at {} had no end yet when it was read", held.0);
            item.gap(Gap::new(GapReason::NotRecorded, why).counting(1));
        }
        self.break_off(item)
    }

    /// Gives what need not be held back any more.
    fn release(&mut self, item: &mut Item<'_, '_>) -> Flow {
        while self.held.front().is_some_and(|h| !h.open) {
            if let Some(held) = self.held.pop_front() {
                self.weight -= held.weight();
                give(held, item)?;
            }
        }
        if self.weight > HOLD {
            // One that goes on for ever: what is whole goes before it.
            let (open, whole) = std::mem::take(&mut self.held).into_iter().partition(|h| h.open);
            self.held = open;
            self.weight = self.held.iter().map(Held::weight).sum();
            whole.into_iter().try_for_each(|h| give(h, item))?;
        }
        Continue(())
    }
}

fn begin(record: &mut Vec<u8>, stamp: &[u8], rest: &Rest<'_>) {
    record.extend_from_slice(stamp);
    record.push(b' ');
    record.extend_from_slice(rest.stream.name());
    record.push(b' ');
    record.extend_from_slice(rest.text);
}

fn give(mut held: Held, item: &mut Item<'_, '_>) -> Flow {
    if !item.wants(held.at) {
        return Continue(());
    }
    item.cut_record(held.at, held.left_out);
    held.bytes.push(b'\n');
    item.record(held.at, &held.bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    #[test]
    fn a_line_is_taken_apart_to_the_byte() {
        let rest = |stream, partial, text| Some(Rest { stream, partial, text });
        assert_eq!(parse_rest(b" stdout F text"), rest(Stream::Out, false, b"text"));
        assert_eq!(parse_rest(b" stderr P  two\xff\0\r"), rest(Stream::Err, true, b" two\xff\0\r"));
        assert_eq!(parse_rest(b" stdout F:tag x y"), rest(Stream::Out, false, b"x y"));
        assert_eq!(parse_rest(b" stdout F "), rest(Stream::Out, false, b""));
        assert_eq!(parse_rest(b" stdout F"), rest(Stream::Out, false, b""));
        let fake = b" stdout F 2026-11-23T02:44:10Z stderr F forged";
        assert_eq!(parse_rest(fake).unwrap().text, &fake[10..]);
        for bad in [&b""[..], b"stdout F x", b" stdin F x", b" stdout X x", b" stdout FP x", b" stdout", b" stdout  F"]
        {
            assert_eq!(parse_rest(bad), None, "{}", bad.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Some(rest) = parse_rest(&bytes) {
                assert!(bytes.ends_with(rest.text));
            }
        }
    }
}
