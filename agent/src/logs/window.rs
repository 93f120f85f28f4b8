//! The machinery of the window, the same for every log that is a file of lines in order of time: finding by bisection
//! where to begin, reading on, and knowing when to stop. Which records are *in* the window is decided in one place,
//! [`Item::wants`]; what is here only decides which bytes need not be looked at.
//!
//! # Why nothing is missed
//!
//! Call a log in order when no line's time lies more than [`SLACK`] before that of any line above it. Writers race each
//! other by microseconds, and a clock that is set back by less than the slack does no more than that.
//! - *Begin.* Let a line at offset `lo` bear a time before `from - SLACK`. A line above it with a time of `from` or later
//!   would make the line at `lo` lie more than the slack behind, so there is none: reading may begin at `lo`. Where lines
//!   of others may stand between the parts of a record, `lo` lies as much farther ahead as its parts may be apart
//!   ([`Grammar::APART`]), or the rest of a record from before the window would be taken for one of the window.
//!   The bisection moves `lo` only onto such lines, so its result is right whatever the lines between the probes are.
//! - *End.* After a line with a time of `until + SLACK` or later, by the same argument no line bears a time before `until`.
//!   A single such line may lie (a clock that was wrong for a moment), so [`NEAR`] bytes more are read, and a few looks
//!   farther ahead must agree ([`nothing_follows`]).
//!
//! Everything from `lo` on is read line by line and decided by its own time. A probe that meets no time (a line of
//! megabytes, zeros, garbage) moves the search to the left, which costs reading and loses nothing.
//!
//! A log that is *not* in order (a clock set back by more) is read whole. It is noticed by the probes (a grid over the
//! file and those of the bisection), and by every line that is read; in the latter case what lies before `lo` is read
//! after the rest. What can escape is a step back of more than the slack that lies between two probes and outside of
//! what was read, with less time than the step was long between the step and the next probe. A file of up to [`NEAR`]
//! bytes is always read whole, and nothing of it can.

use std::fs::File;
use std::io;
use std::ops::ControlFlow::{Break, Continue};
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use casefile_evidence::logtime::style::REACH;
use casefile_proto::time::{WallTime, Window};

use super::lines::{Feed, Line, Lines, Next};
use super::sink::{Flow, Halt, Item};

/// How far behind a line may lie in a log that counts as being in order. A minute more is read on both sides of the
/// window because of it.
pub(super) const SLACK: Duration = Duration::from_secs(60);

/// One probe; when it meets no time, a wider one.
const PROBES: [usize; 2] = [4 << 10, 64 << 10];

/// A stretch that is read rather than divided further.
const NEAR: u64 = 64 << 10;

/// Probes spread evenly over a file, to notice a log that is not in order.
const GRID: u64 = 16;

/// The grammar of one kind of log: what a line says of its time, and how lines become records.
pub(super) trait Grammar {
    /// What was recognised of one file of the log before it is read.
    type Form;

    /// How far apart the parts of one record may be with lines of other records in between.
    const APART: Duration;

    /// A line before this time has none of the window above it, nor the begin of a record of which a part is in it.
    fn early(window: Window) -> WallTime {
        window.from().before(SLACK + Self::APART)
    }

    /// The lines that follow are from a file of this form.
    fn enter(&mut self, form: &Self::Form);

    /// The time that a line bears, from its first [`REACH`] bytes; `None` when it bears none.
    fn stamp(&mut self, line: &[u8]) -> Option<WallTime>;

    /// Takes the next line with the time that it bears, and gives the records that are whole with it.
    fn line(&mut self, at: Option<WallTime>, line: &Line<'_>, item: &mut Item<'_, '_>) -> Flow;

    /// Whether a record of the window is not known to be whole yet. A line may be written in parts that lie far apart:
    /// reading goes on beyond the window until it is whole, but not for more than [`BEYOND`].
    fn unfinished(&self, item: &Item<'_, '_>) -> bool;

    /// The next line does not follow the last one: gives what was held back.
    fn break_off(&mut self, item: &mut Item<'_, '_>) -> Flow;
}

/// Where reading a file may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Begin {
    /// The beginning of a line.
    pub(super) offset: u64,
    /// Whether the probes saw nothing out of order; if they did, the offset is 0.
    pub(super) in_order: bool,
}

/// Probes one file.
struct Prober<'f, S> {
    file: &'f File,
    size: u64,
    stamp: S,
    buf: Vec<u8>,
    seen: Vec<(u64, WallTime)>,
}

impl<S: FnMut(&[u8]) -> Option<WallTime>> Prober<'_, S> {
    /// The first line with a time that begins at `at` or behind it, and not far behind.
    fn probe(&mut self, at: u64) -> io::Result<Option<(u64, WallTime)>> {
        // One byte earlier, so that a line that begins exactly here is seen to begin.
        let from = at.saturating_sub(1);
        for size in PROBES {
            self.buf.resize(size, 0);
            let read = read_up_to(self.file, &mut self.buf, from)?;
            let block = &self.buf[..read];
            let to_the_end = from + read as u64 >= self.size;
            let mut rest = if at == 0 { Some(0) } else { block.iter().position(|b| *b == b'\n').map(|i| i + 1) };
            while let Some(begin) = rest.filter(|b| *b < block.len()) {
                let end = block[begin..].iter().position(|b| *b == b'\n').map(|i| begin + i);
                if end.is_none() && !to_the_end && block.len() - begin < REACH {
                    break;
                }
                let line = &block[begin..end.unwrap_or(block.len())];
                if let Some(time) = (self.stamp)(&line[..line.len().min(REACH)]) {
                    let found = (from + begin as u64, time);
                    self.seen.push(found);
                    return Ok(Some(found));
                }
                rest = end.map(|e| e + 1);
            }
            if to_the_end {
                break;
            }
        }
        Ok(None)
    }

    /// The last line known to bear a time before `time`, between `lo` and `hi`; `lo` when there is none.
    fn bisect(&mut self, time: WallTime, mut lo: u64, mut hi: u64) -> io::Result<u64> {
        while hi - lo > NEAR {
            let middle = lo + (hi - lo) / 2;
            match self.probe(middle)? {
                Some((line, at)) if at < time && line < hi => lo = line,
                _ => hi = middle,
            }
        }
        Ok(lo)
    }

    /// Between which two probes of the grid `time` lies.
    fn bracket(&self, time: WallTime) -> (u64, u64) {
        let lo = self.seen.iter().filter(|(_, at)| *at < time).map(|(line, _)| *line).max().unwrap_or(0);
        let hi = self.seen.iter().filter(|(line, at)| *at >= time && *line > lo).map(|(line, _)| *line).min();
        (lo, hi.unwrap_or(self.size).max(lo))
    }

    fn in_order(&mut self) -> bool {
        self.seen.sort_unstable();
        let mut latest = WallTime::MIN;
        self.seen.iter().all(|(_, at)| {
            latest = latest.max(*at);
            at.after(SLACK) >= latest
        })
    }
}

fn prober<S: FnMut(&[u8]) -> Option<WallTime>>(file: &File, size: u64, stamp: S) -> io::Result<Prober<'_, S>> {
    let mut prober = Prober { file, size, stamp, buf: Vec::new(), seen: Vec::new() };
    for step in 0..GRID {
        prober.probe(size / GRID * step)?;
    }
    Ok(prober)
}

/// Where to begin reading a file of this size: at a line before the time that is [early](Grammar::early).
pub(super) fn begin(
    file: &File,
    size: u64,
    early: WallTime,
    stamp: impl FnMut(&[u8]) -> Option<WallTime>,
) -> io::Result<Begin> {
    if size <= NEAR {
        return Ok(Begin { offset: 0, in_order: true });
    }
    let mut prober = prober(file, size, stamp)?;
    let (lo, hi) = prober.bracket(early);
    let offset = prober.bisect(early, lo, hi)?;
    let in_order = prober.in_order();
    Ok(Begin { offset: if in_order { offset } else { 0 }, in_order })
}

/// Whether nothing of a file from `at` on seems to bear a time before `past`: looked at in distances that grow fourfold, so
/// that what lies at most three times as far behind as it is long is seen, and at the end.
pub(super) fn nothing_follows(
    file: &File,
    at: u64,
    size: u64,
    past: WallTime,
    stamp: impl FnMut(&[u8]) -> Option<WallTime>,
) -> io::Result<bool> {
    if at == 0 && size <= NEAR {
        // It costs no more to read it.
        return Ok(false);
    }
    let mut prober = Prober { file, size, stamp, buf: Vec::new(), seen: Vec::new() };
    let mut ahead = NEAR;
    while at + ahead < size {
        prober.probe(at + ahead)?;
        ahead *= 4;
    }
    prober.probe(size.saturating_sub(PROBES[0] as u64))?;
    Ok(prober.seen.iter().all(|(_, time)| time.after(SLACK) >= past))
}

/// Whether the end of a file seems to lie before this time.
pub(super) fn is_before(
    file: &File,
    size: u64,
    time: WallTime,
    stamp: impl FnMut(&[u8]) -> Option<WallTime>,
) -> io::Result<bool> {
    let mut prober = Prober { file, size, stamp, buf: Vec::new(), seen: Vec::new() };
    Ok(prober.probe(size.saturating_sub(PROBES[0] as u64))?.is_none_or(|(_, at)| at < time))
}

/// About how many bytes of a file lie in the window, at least as many as do; all of them for a file that is not in order.
pub(super) fn estimate(
    file: &File,
    size: u64,
    window: Window,
    stamp: impl FnMut(&[u8]) -> Option<WallTime>,
) -> io::Result<u64> {
    if size <= NEAR {
        return Ok(size);
    }
    let mut prober = prober(file, size, stamp)?;
    let mut edge = |time| {
        let (lo, hi) = prober.bracket(time);
        prober.bisect(time, lo, hi)
    };
    let (from, until) = (edge(window.from())?, edge(window.until())?);
    // The edges are the last lines known to lie before them: what follows within a stretch may belong to the window.
    Ok(if prober.in_order() { (until.saturating_sub(from) + NEAR).min(size) } else { size })
}

/// What reading has seen of a log's order.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Order {
    /// The earliest time of a line.
    pub(super) oldest: Option<WallTime>,
    latest: Option<WallTime>,
    /// The farthest step back of more than the slack: what the clock ran through twice.
    pub(super) step: Option<Window>,
    /// Whether the log is known not to be in order.
    pub(super) broken: bool,
}

impl Order {
    /// Before the first line, with what the probes have seen.
    pub(super) fn of(begin: Begin) -> Self {
        Self { broken: !begin.in_order, ..Self::default() }
    }

    fn see(&mut self, at: WallTime) {
        self.oldest = Some(self.oldest.map_or(at, |t| t.min(at)));
        let latest = *self.latest.get_or_insert(at);
        if at > latest {
            self.latest = Some(at);
        } else if at.after(SLACK) < latest {
            self.broken = true;
            let from = self.step.map_or(at, |s| s.from().min(at));
            let until = self.step.map_or(latest, |s| s.until().max(latest));
            self.step = Window::new(from, until).ok();
        }
    }

    /// The latest time of a line.
    pub(super) fn latest(&self) -> Option<WallTime> {
        self.latest
    }
}

/// How a scan ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// At a line so far behind the window that nothing of it can follow.
    Past,
    /// With the last byte there was.
    AtEnd,
    /// Because the sink or the budget said so.
    Halted(Halt),
    /// With an error; what came before it was given.
    Broken(io::Error),
}

/// How a feed is read up to the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Approach {
    /// Line by line: where to begin was found by bisection, or the log is not in order.
    Line,
    /// From block to block by the time of each block's last line, for what cannot be bisected: it is the same argument
    /// as that of the bisection, with a probe in every block.
    Leaps,
}

/// After a block in which no time was found, or none before the window, so many bytes are read line by line.
const LEAP_AGAIN: u64 = 128 << 10;

/// Reads lines on until nothing of the window can follow, or to the end if the log is not in order.
pub(super) fn scan<G: Grammar, F: Feed>(
    lines: &mut Lines<F>,
    approach: Approach,
    order: &mut Order,
    grammar: &mut G,
    item: &mut Item<'_, '_>,
) -> Ended {
    let past = item.window().until().after(SLACK);
    let early = G::early(item.window());
    let (mut unchecked, mut beyond) = (0, 0);
    let mut leap_at = if approach == Approach::Leaps { 0 } else { u64::MAX };
    let mut past_at = None;
    loop {
        if unchecked > CHECK_EVERY {
            unchecked = 0;
            if let Break(halt) = item.check() {
                return Ended::Halted(halt);
            }
        }
        if lines.offset() >= leap_at {
            let from = lines.offset();
            let last = match order.broken || grammar.unfinished(item) {
                true => None,
                false => lines.leap(|line| grammar.stamp(&line[..line.len().min(REACH)]).filter(|at| *at < early)),
            };
            match last {
                Some(at) => {
                    order.see(at);
                    unchecked += lines.offset() - from;
                    if let Break(halt) = grammar.break_off(item) {
                        return Ended::Halted(halt);
                    }
                    continue;
                }
                None => leap_at = from + LEAP_AGAIN,
            }
        }
        let line = match lines.next() {
            Ok(Next::Line(line)) => line,
            Ok(Next::Busy) => match item.check() {
                Continue(()) => continue,
                Break(halt) => return Ended::Halted(halt),
            },
            Ok(Next::End) => return Ended::AtEnd,
            Err(e) => return Ended::Broken(e),
        };
        let at = grammar.stamp(&line.bytes[..line.bytes.len().min(REACH)]);
        let mut enough = false;
        if let Some(at) = at {
            order.see(at);
            if at >= early {
                leap_at = u64::MAX;
            }
            if at >= past && !order.broken {
                let near = line.begins - *past_at.get_or_insert(line.begins) < NEAR;
                enough = !near && (beyond > BEYOND || !grammar.unfinished(item));
                beyond += line.bytes.len() as u64;
            }
        }
        unchecked += line.bytes.len() as u64 + line.left_out;
        if let Break(halt) = grammar.line(at, &line, item) {
            return Ended::Halted(halt);
        }
        if enough {
            return Ended::Past;
        }
    }
}

/// How far beyond the window reading goes for the sake of a record that was begun in it.
pub(super) const BEYOND: u64 = 4 << 20;

/// So many bytes may pass before the sink is asked whether to go on.
const CHECK_EVERY: u64 = 4 << 20;

/// As many bytes as there are, up to the size of the buffer.
pub(super) fn read_up_to(file: &File, buf: &mut [u8], at: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < buf.len() {
        match file.read_at(&mut buf[read..], at + read as u64) {
            Ok(0) => break,
            Ok(n) => read += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(read)
}
