//! Where in a file to begin reading, by bisection through its index; the same argument as for logs of lines holds
//! (`logs::window`): a file is in order when no time lies more than the slack before one above it, a begin is only ever moved
//! onto an entry from before the window less the slack, and reading ends at one from the window's end plus the slack.
//! A grid of probes notices a file that is not in order: one in which the clock was set back. It is then read whole.
//!
//! The times of the header are not used. They are those of the first and the last entry, which are not the earliest and the
//! latest when the clock was set back, and of a file that is being written to they are old.

use super::block::{Pages, ReadAt};
use super::file::{JournalFile, Mode};
use super::{Problem, SLACK_MICROS};

/// Probes spread evenly over a file, and its last entry.
const GRID: u64 = 16;

/// So many entries are read rather than divided further.
const NEAR: u64 = 8;

/// How to read a file for one window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) mode: Mode,
    /// The earliest time that was met, in microseconds.
    pub(super) oldest: Option<u64>,
}

impl Default for Plan {
    fn default() -> Self {
        Self { mode: Mode::Outside, oldest: None }
    }
}

/// Half-open, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: u64,
    pub(super) until: u64,
}

impl Span {
    pub(super) fn contains(self, at: u64) -> bool {
        (self.from..self.until).contains(&at)
    }

    /// Whether nothing of the window can follow a time like this in a file that is in order.
    pub(super) fn is_past(self, at: u64) -> bool {
        at >= self.until.saturating_add(SLACK_MICROS)
    }
}

/// Decides how a file is read.
pub(super) fn plan<S: ReadAt>(file: &mut JournalFile<S>, pages: &mut Pages, span: Span) -> Plan {
    let scan = Plan { mode: Mode::Scan, oldest: None };
    let Some(chain) = file.chain.take() else { return scan };
    let planned = probe(file, pages, span, chain.len(), |pages, file, n| {
        let at = chain.place(file, pages, n)?;
        file.lone_entry(at, pages).map(|e| e.realtime)
    });
    file.chain = Some(chain);
    planned.unwrap_or(scan)
}

fn probe<S: ReadAt>(
    file: &JournalFile<S>,
    pages: &mut Pages,
    span: Span,
    entries: u64,
    time: impl Fn(&mut Pages, &JournalFile<S>, u64) -> Result<u64, Problem>,
) -> Result<Plan, Problem> {
    if entries == 0 {
        return Ok(Plan::default());
    }
    let mut seen = Vec::new();
    for step in 0..GRID {
        let number = entries / GRID * step + entries % GRID * step / GRID;
        if seen.last().is_none_or(|(n, _)| *n < number) {
            seen.push((number, time(pages, file, number)?));
        }
    }
    if seen.last().is_none_or(|(n, _)| *n < entries - 1) {
        seen.push((entries - 1, time(pages, file, entries - 1)?));
    }
    let oldest = seen.iter().map(|(_, at)| *at).min();
    let target = span.from.saturating_sub(SLACK_MICROS);
    if in_order(&seen) {
        let (first, last) = (seen[0].1, seen[seen.len() - 1].1);
        let latest = seen.iter().map(|(_, at)| *at).max().unwrap_or(last);
        if latest.max(last) < target || span.is_past(first.min(oldest.unwrap_or(first))) {
            return Ok(Plan { mode: Mode::Outside, oldest });
        }
    }
    let mut lo = seen.iter().filter(|(_, at)| *at < target).map(|(n, _)| *n).max().unwrap_or(0);
    let after = seen.iter().filter(|(n, at)| *at >= target && *n > lo).map(|(n, _)| *n).min();
    let mut hi = after.unwrap_or(entries);
    while hi - lo > NEAR {
        let middle = lo + (hi - lo) / 2;
        let at = time(pages, file, middle)?;
        seen.push((middle, at));
        if at < target { lo = middle } else { hi = middle }
    }
    seen.sort_unstable();
    let mode = if in_order(&seen) { Mode::From(lo) } else { Mode::Whole };
    Ok(Plan { mode, oldest })
}

/// Whether no time lies more than the slack before one above it.
fn in_order(seen: &[(u64, u64)]) -> bool {
    let mut latest = 0;
    seen.iter().all(|(_, at)| {
        latest = latest.max(*at);
        at.saturating_add(SLACK_MICROS) >= latest
    })
}
