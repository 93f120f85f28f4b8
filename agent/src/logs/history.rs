//! One log with all the files that rotation left of it, read as one: which files can hold something of the window, from
//! where each is read, and what is said of those that cannot be read.

use std::io;
use std::ops::ControlFlow::{Break, Continue};

use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::time::{WallTime, Window};
use casefile_proto::units::Bytes;

use super::inflate::{GzipFeed, INFLATED_CAP, head};
use super::lines::{Lines, PlainFeed};
use super::open::LogFile;
use super::rotation::{Found, Place};
use super::sink::{Flow, Item};
use super::window::{Approach, Begin, Ended, Grammar, Order, SLACK, begin, estimate, read_up_to, scan};

/// How much of a file is looked at to recognise it.
pub(super) const SAMPLE: usize = 16 << 10;

/// What text compresses to; only to estimate how much a compressed file may hold.
const USUAL_RATIO: u64 = 8;

/// What was recognised of a file by what it begins with.
pub(super) struct Recognised<F> {
    /// What the grammar needs to know.
    pub(super) form: F,
    /// The first time in it.
    pub(super) first: Option<WallTime>,
}

/// One file of the log.
struct Piece<F> {
    file: LogFile,
    place: Place,
    recognised: Recognised<F>,
    begin: Option<Begin>,
}

/// One log: its files, oldest first.
pub(super) struct History<F> {
    pieces: Vec<Piece<F>>,
}

impl<F> History<F> {
    /// Looks at the beginning of every file. `recognise` is given the sample, the file and its place; files that it cannot make
    /// sense of are left out, and it says itself what that means.
    pub(super) fn survey(
        found: Vec<Found>,
        mut recognise: impl FnMut(&[u8], &LogFile, &Place) -> Option<Recognised<F>>,
    ) -> Self {
        let mut sample = vec![0; SAMPLE];
        let mut pieces = Vec::new();
        for Found { place, file } in found {
            let read = if place.packed {
                head(&file.file, &mut sample)
            } else {
                // An error is met again, and told, when the file is read.
                read_up_to(&file.file, &mut sample, 0).unwrap_or(0)
            };
            if let Some(recognised) = recognise(&sample[..read], &file, &place) {
                pieces.push(Piece { file, place, recognised, begin: None });
            }
        }
        Self { pieces }
    }

    /// Whether there is no file at all.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The files, oldest first.
    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        self.pieces.iter().map(|p| &p.place)
    }

    /// Each compressed file but the newest one of all, and the file after it.
    pub(super) fn each_packed(&mut self, mut each: impl FnMut(&mut F, &F)) {
        for at in 1..self.pieces.len() {
            let (older, newer) = self.pieces.split_at_mut(at);
            if let (Some(older), Some(newer)) = (older.last_mut(), newer.first())
                && older.place.packed
            {
                each(&mut older.recognised.form, &newer.recognised.form);
            }
        }
    }

    /// What was recognised of the newest file.
    pub(super) fn newest_form(&self) -> Option<&F> {
        self.pieces.last().map(|p| &p.recognised.form)
    }

    /// What was recognised of the files that are read, oldest first; for [`Self::plan`] to be called before.
    pub(super) fn planned_forms(&self) -> impl Iterator<Item = &F> {
        self.pieces.iter().filter(|p| p.begin.is_some()).map(|p| &p.recognised.form)
    }

    /// Leaves out the files that hold nothing of the window. What a file holds lies, give or take the slack, between
    /// its own first time and that of the file after it.
    fn needed(&self, window: Window) -> Vec<usize> {
        let first = |i: usize| self.pieces.get(i).and_then(|p| p.recognised.first);
        (0..self.pieces.len())
            .filter(|&i| {
                let begins_after = first(i).is_some_and(|t| t >= window.until().after(SLACK));
                let ends_before = match (first(i), first(i + 1)) {
                    (Some(this), Some(next)) => this <= next && next < window.from().before(SLACK),
                    _ => false,
                };
                !begins_after && !ends_before
            })
            .collect()
    }

    /// About how many bytes of the window there are.
    pub(super) fn need<G: Grammar<Form = F>>(&self, window: Window, grammar: &mut G) -> u64 {
        let one = |i: usize| {
            let piece = &self.pieces[i];
            let size = piece.file.facts.size;
            if piece.place.packed {
                return size.saturating_mul(USUAL_RATIO);
            }
            grammar.enter(&piece.recognised.form);
            estimate(&piece.file.file, size, window, |line| grammar.stamp(line)).unwrap_or(size)
        };
        self.needed(window).into_iter().map(one).fold(0, u64::saturating_add)
    }

    /// Finds where to begin in every file, and says in a word how the log will be read.
    pub(super) fn plan<G: Grammar<Form = F>>(&mut self, window: Window, grammar: &mut G) -> &'static str {
        let mut whole = false;
        for i in self.needed(window) {
            let piece = &mut self.pieces[i];
            let start = if piece.place.packed {
                Ok(Begin { offset: 0, in_order: true })
            } else {
                grammar.enter(&piece.recognised.form);
                begin(&piece.file.file, piece.file.facts.size, window.from(), |line| grammar.stamp(line))
            };
            // An error is met again, and told, when the file is read.
            let start = start.unwrap_or(Begin { offset: 0, in_order: true });
            whole |= !start.in_order;
            piece.begin = Some(start);
        }
        if whole { "not in order of time, read whole" } else { "bisected by time" }
    }

    /// Reads what was planned. Gives the time of the oldest record that the log holds.
    pub(super) fn read<G: Grammar<Form = F>>(&self, grammar: &mut G, item: &mut Item<'_, '_>) -> Option<WallTime> {
        let mut oldest = self.pieces.iter().filter_map(|p| p.recognised.first).min();
        let mut group = None;
        for (i, piece) in self.pieces.iter().enumerate() {
            let goes_on = group == Some(piece.place.group) && grammar.unfinished(item);
            let begin = match piece.begin {
                Some(begin) => begin,
                // The rest of a record may stand in a file that holds nothing else of the window.
                None if goes_on => Begin { offset: 0, in_order: true },
                None => continue,
            };
            if group.is_some_and(|g| g != piece.place.group) && grammar.break_off(item).is_break() {
                break;
            }
            group = Some(piece.place.group);
            grammar.enter(&piece.recognised.form);
            let mut order = Order::of(begin);
            let next = self.pieces.get(i + 1).and_then(|p| p.recognised.first);
            let flow = read_piece(piece, begin, &mut order, next, grammar, item);
            oldest = match (oldest, order.oldest) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            if let Some(twice) = order.step.and_then(|s| s.intersect(&item.window())) {
                let why = format!("the times in /{} run back by more than a minute", piece.file.path.display());
                item.gap(Gap::new(GapReason::ClockUncertain, why).over(twice));
            }
            if flow.is_break() {
                break;
            }
        }
        oldest
    }
}

fn read_piece<G: Grammar>(
    piece: &Piece<G::Form>,
    begin: Begin,
    order: &mut Order,
    next: Option<WallTime>,
    grammar: &mut G,
    item: &mut Item<'_, '_>,
) -> Flow {
    let file = &piece.file;
    if piece.place.packed {
        let mut lines = Lines::new(GzipFeed::new(&file.file), 0, u64::MAX);
        let ended = scan(&mut lines, Approach::Leaps, order, grammar, item);
        let leapt = lines.leapt();
        told(ended, piece, order, next, item)?;
        if order.broken && leapt > 0 {
            grammar.break_off(item)?;
            let mut lines = Lines::new(GzipFeed::new(&file.file), 0, leapt);
            let ended = scan(&mut lines, Approach::Line, order, grammar, item);
            told(ended, piece, order, next, item)?;
        }
        return Continue(());
    }
    // What is written from now on is not part of what was asked when it was asked.
    let size = match file.size_now() {
        Ok(size) => size,
        Err(e) => return told(Ended::Broken(e), piece, order, next, item),
    };
    let mut lines = Lines::new(PlainFeed::new(&file.file, begin.offset), begin.offset, size);
    let ended = scan(&mut lines, Approach::Line, order, grammar, item);
    if matches!(ended, Ended::AtEnd) && lines.offset() < size {
        let why = format!(
            "/{} was truncated while it was read: {} were lost",
            file.path.display(),
            Bytes(size - lines.offset())
        );
        let gap = Gap::new(GapReason::RotatedAway, why);
        item.gap(match between(order.latest().or(piece.recognised.first), next, item.window()) {
            Some(interval) => gap.over(interval),
            None => gap,
        });
    }
    told(ended, piece, order, next, item)?;
    if order.broken && begin.offset > 0 {
        // Only now it is known that the bisection could not be trusted.
        grammar.break_off(item)?;
        let mut lines = Lines::new(PlainFeed::new(&file.file, 0), 0, begin.offset);
        let ended = scan(&mut lines, Approach::Line, order, grammar, item);
        told(ended, piece, order, next, item)?;
    }
    Continue(())
}

/// Puts the end of a scan into words, and says whether to go on with the next file.
fn told<F>(ended: Ended, piece: &Piece<F>, order: &Order, next: Option<WallTime>, item: &mut Item<'_, '_>) -> Flow {
    let error = match ended {
        Ended::Past | Ended::AtEnd => return Continue(()),
        Ended::Halted(halt) => return Break(halt),
        Ended::Broken(error) => error,
    };
    let path = piece.file.path.display();
    let (reason, why) = match error.kind() {
        io::ErrorKind::FileTooLarge => {
            (GapReason::Budget, format!("/{path} inflates to more than {}: the rest was not read", Bytes(INFLATED_CAP)))
        }
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            if piece.place.packed =>
        {
            (GapReason::ParseFailed, format!("/{path} is damaged: {error}"))
        }
        _ => (GapReason::SourceFailed, format!("read /{path}: {error}")),
    };
    let gap = Gap::new(reason, why);
    item.gap(match between(order.latest().or(piece.recognised.first), next, item.window()) {
        Some(interval) => gap.over(interval),
        None => gap,
    });
    Continue(())
}

/// From the last time known before something was lost to the first one after it, within the window.
fn between(before: Option<WallTime>, after: Option<WallTime>, window: Window) -> Option<Window> {
    let whole = Window::new(before.unwrap_or(WallTime::MIN), after.unwrap_or(WallTime::MAX)).ok()?;
    whole.intersect(&window)
}
