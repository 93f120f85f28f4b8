//! Where the reading of one file is: the entry that comes next, by the file's index or by a walk over its objects.

use super::block::ReadAt;
use super::file::{JournalFile, Mode};
use super::object::Entry;
use super::scan::{Met, Scanner};
use super::search::Span;
use super::{Problem, SLACK_MICROS};

/// Entries outside of the window that are passed over before the caller is asked whether to go on.
const PASSED: u32 = 1 << 14;

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The next entry of the window is at hand.
    At(Entry),
    /// Nothing yet.
    Busy,
    /// The file must be read in another way: everything begins anew.
    Again,
    End,
}

enum Way {
    /// The number of the next entry, and where the last one stood.
    Index {
        next: u64,
        last: u64,
    },
    Objects(Scanner),
}

/// The reading of one file.
pub(super) struct Cursor {
    way: Way,
    /// The latest time so far.
    latest: u64,
    /// The time of the last good entry, and how many bad places were met since.
    good: u64,
    bad: u64,
}

impl Cursor {
    /// `None`: there is nothing of the window in it.
    pub(super) fn new<S>(file: &JournalFile<S>) -> Option<Self> {
        let way = match file.plan.mode {
            Mode::Outside => return None,
            Mode::From(next) => Way::Index { next, last: 0 },
            Mode::Whole => Way::Index { next: 0, last: 0 },
            Mode::Scan => Way::Objects(Scanner::new(file)),
        };
        Some(Self { way, latest: 0, good: 0, bad: 0 })
    }

    /// The next entry of the window. `settled`: the file must be read as it was before, so that a second reading gives
    /// what the first one gave.
    pub(super) fn next<S: ReadAt>(&mut self, file: &mut JournalFile<S>, span: Span, settled: bool) -> Step {
        for _ in 0..PASSED {
            let entry = match self.any(file) {
                Met::Entry(entry) => entry,
                Met::Busy => return Step::Busy,
                Met::Bad => {
                    self.bad += 1;
                    if !settled && file.plan.mode != Mode::Scan {
                        file.plan.mode = Mode::Scan;
                        return Step::Again;
                    }
                    continue;
                }
                Met::End => {
                    self.tell(file, span, u64::MAX);
                    return Step::End;
                }
            };
            let at = entry.realtime;
            self.tell(file, span, at);
            self.good = at;
            if file.plan.oldest.is_none_or(|oldest| at < oldest) {
                file.plan.oldest = Some(at);
            }
            if self.is_step_back(file, at) && !settled && matches!(file.plan.mode, Mode::From(_)) {
                file.plan.mode = Mode::Whole;
                return Step::Again;
            }
            if span.contains(at) {
                return Step::At(entry);
            }
            if span.is_past(at) && matches!(file.plan.mode, Mode::From(_)) {
                return Step::End;
            }
        }
        Step::Busy
    }

    fn any<S: ReadAt>(&mut self, file: &mut JournalFile<S>) -> Met {
        let (next, last) = match &mut self.way {
            Way::Objects(scanner) => return scanner.next(file),
            Way::Index { next, last } => (next, last),
        };
        let Some(mut chain) = file.chain.take() else { return Met::End };
        let place = (*next < chain.len()).then(|| chain.next_place(file, *next));
        file.chain = Some(chain);
        *next += 1;
        match place {
            None => Met::End,
            Some(Ok(at)) if at > *last => match file.entry(at) {
                Ok(entry) => {
                    *last = at;
                    Met::Entry(entry)
                }
                Err(_) => Met::Bad,
            },
            // Entries are written one behind the other, so an index that goes back is damaged.
            Some(_) => Met::Bad,
        }
    }

    fn is_step_back<S>(&mut self, file: &mut JournalFile<S>, at: u64) -> bool {
        let latest = self.latest;
        self.latest = latest.max(at);
        if at.saturating_add(SLACK_MICROS) >= latest {
            return false;
        }
        let (from, until) = file.notes.step.unwrap_or((at, latest));
        file.notes.step = Some((from.min(at), until.max(latest)));
        true
    }

    /// Notes the bad places since the last good entry, when what they held may be of the window.
    fn tell<S>(&mut self, file: &mut JournalFile<S>, span: Span, until: u64) {
        let bad = std::mem::take(&mut self.bad);
        // A clock that was set back in between does not turn the interval around.
        let (from, until) = (self.good.min(until), self.good.max(until));
        if bad == 0 || until < span.from || from >= span.until {
            return;
        }
        let notes = &mut file.notes;
        notes.bad_places += bad;
        let (first, last) = notes.bad_between.unwrap_or((from, until));
        notes.bad_between = Some((first.min(from), last.max(until)));
    }
}

/// Notes that a field of an entry could not be read.
pub(super) fn lost<S>(file: &mut JournalFile<S>, problem: &Problem) {
    match problem {
        Problem::Unread(_) => file.notes.packed_fields += 1,
        Problem::Io(_) | Problem::Damaged(_) => file.notes.lost_fields += 1,
    }
}
