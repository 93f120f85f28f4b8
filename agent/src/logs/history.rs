//! One log with all the files that rotation left of it, read as one: which files can hold something of the window, from
//! where each is read, and what is said of those that cannot be read.

use std::fs::File;
use std::io;
use std::ops::ControlFlow::{Break, Continue};
use std::os::unix::fs::MetadataExt as _;

use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::time::{WallTime, Window};
use casefile_proto::units::Bytes;

use super::inflate::{GzipFeed, INFLATED_CAP, head};
use super::lines::{Lines, PlainFeed, WRITTEN_ANEW, begins_with};
use super::open::LogFile;
use super::rotation::{Age, Found, Gathered, Place};
use super::sink::{Flow, Item};
use super::window::{
    Approach, Begin, Ended, Grammar, Order, SLACK, begin, estimate, is_before, nothing_follows, read_up_to, scan,
};

/// How much of a file is looked at to recognise it.
pub(super) const SAMPLE: usize = 16 << 10;

/// What text compresses to; only to estimate how much a compressed file may hold that does not say so credibly.
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
    /// What it began with when it was surveyed.
    mark: Vec<u8>,
}

/// So much of a file's beginning tells whether it is still the same content: in it stands a time.
const MARK: usize = 256;

/// One log: its files, oldest first.
pub(super) struct History<F> {
    pieces: Vec<Piece<F>>,
}

impl<F> History<F> {
    /// Looks at the beginning of every file. `recognise` is given the sample, the file and its place; files that it cannot make
    /// sense of are left out, and it says itself what that means.
    pub(super) fn survey(
        gathered: Gathered,
        mut recognise: impl FnMut(&[u8], &LogFile, &Place) -> Option<Recognised<F>>,
    ) -> Self {
        let mut sample = vec![0; SAMPLE];
        let mut pieces: Vec<Piece<F>> = Vec::new();
        for Found { place, file } in gathered.found {
            let read = if place.packed {
                head(&file.file, &mut sample)
            } else {
                // An error is met again, and told, when the file is read.
                read_up_to(&file.file, &mut sample, 0).unwrap_or(0)
            };
            // By the very bytes that say later whether the file was written anew: the copy is left out only for what it holds.
            if let Some(before) = pieces.last()
                && is_copy(&before.file, &before.place, &file, &place, &sample[..read])
            {
                pieces.pop();
            }
            if let Some(recognised) = recognise(&sample[..read], &file, &place) {
                let mark = sample[..read.min(MARK)].to_vec();
                pieces.push(Piece { file, place, recognised, begin: None, mark });
            }
        }
        if !gathered.still {
            // What the files hold knows their order better than their names.
            for group in pieces.chunk_by_mut(|a, b| a.place.group == b.place.group) {
                // One without a whole line has just been begun.
                let first = |piece: &Piece<F>| match piece.recognised.first {
                    None if piece.place.age == Age::Current => Some(WallTime::MAX),
                    first => first,
                };
                if group.iter().all(|piece| first(piece).is_some()) {
                    group.sort_by_key(first);
                }
            }
            // A file that was opened under its old name and has been compressed and removed since is there twice.
            pieces.dedup_by(|later, earlier| {
                is_packed_twin(earlier, later) || {
                    let twin = is_packed_twin(later, earlier);
                    if twin {
                        std::mem::swap(earlier, later);
                    }
                    twin
                }
            });
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
    ///
    /// A first time that lies (a clock that was wrong for a moment) is believed only if the files after it, and a few
    /// looks into the file itself, agree.
    fn needed<G: Grammar<Form = F>>(&self, window: Window, grammar: &mut G) -> Vec<usize> {
        let first = |i: usize| self.pieces.get(i).and_then(|p| p.recognised.first);
        let (before, past) = (G::early(window), window.until().after(SLACK));
        let mut all_past = true;
        let mut begins_after: Vec<bool> = (0..self.pieces.len())
            .rev()
            .map(|i| {
                all_past &= first(i).is_none_or(|t| t >= past);
                let piece = &self.pieces[i];
                let mut goes_on = || {
                    grammar.enter(&piece.recognised.form);
                    // An error is met again, and told, when the file is read.
                    piece.place.packed
                        || nothing_follows(&piece.file.file, 0, piece.file.facts.size, past, |l| grammar.stamp(l))
                            .unwrap_or(false)
                };
                all_past && first(i).is_some() && goes_on()
            })
            .collect();
        begins_after.reverse();
        let mut latest = WallTime::MIN;
        (0..self.pieces.len())
            .filter(|&i| {
                latest = first(i).map_or(latest, |t| t.max(latest));
                let piece = &self.pieces[i];
                let said = first(i).is_some() && first(i + 1).is_some_and(|next| latest <= next && next < before);
                let mut ends_before = || {
                    grammar.enter(&piece.recognised.form);
                    let (file, size) = (&piece.file.file, piece.file.facts.size);
                    piece.place.packed || is_before(file, size, before, |l| grammar.stamp(l)).unwrap_or(false)
                };
                let elsewhere = begins_after[i] || (said && ends_before());
                !elsewhere
            })
            .collect()
    }

    /// About how many bytes of the window there are.
    pub(super) fn need<G: Grammar<Form = F>>(&self, window: Window, grammar: &mut G) -> u64 {
        let needed = self.needed(window, grammar);
        let one = |i: usize| {
            let piece = &self.pieces[i];
            let size = piece.file.facts.size;
            if piece.place.packed {
                return inflated_size(&piece.file.file, size);
            }
            grammar.enter(&piece.recognised.form);
            estimate(&piece.file.file, size, window, |line| grammar.stamp(line)).unwrap_or(size)
        };
        needed.into_iter().map(one).fold(0, u64::saturating_add)
    }

    /// Finds where to begin in every file, and says in a word how the log will be read.
    pub(super) fn plan<G: Grammar<Form = F>>(&mut self, window: Window, grammar: &mut G) -> &'static str {
        let mut whole = false;
        for i in self.needed(window, grammar) {
            let piece = &mut self.pieces[i];
            let start = if piece.place.packed {
                Ok(Begin { offset: 0, in_order: true })
            } else {
                grammar.enter(&piece.recognised.form);
                begin(&piece.file.file, piece.file.facts.size, G::early(window), |line| grammar.stamp(line))
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

/// Whether `packed` is what a plain file became that is still held open.
fn is_packed_twin<F>(plain: &Piece<F>, packed: &Piece<F>) -> bool {
    let removed = || plain.file.file.metadata().is_ok_and(|meta| meta.nlink() == 0);
    packed.place.packed
        && !plain.place.packed
        && plain.place.group == packed.place.group
        && plain.recognised.first.is_some()
        && plain.recognised.first == packed.recognised.first
        && removed()
}

/// Whether a rotated file is a copy of the current one: what `copytruncate` leaves between copying and truncating. Then
/// the current file, which begins with `head`, holds it all.
fn is_copy(file: &LogFile, place: &Place, current: &LogFile, at: &Place, head: &[u8]) -> bool {
    let may_be = !place.packed && at.age == Age::Current && place.group == at.group && file.facts.size > 0;
    if !may_be || file.facts.size > current.facts.size {
        return false;
    }
    let length = usize::try_from(file.facts.size).unwrap_or(NEAR_COPY).min(NEAR_COPY);
    let block = |file: &File, at: u64| {
        let mut block = vec![0; length];
        matches!(read_up_to(file, &mut block, at), Ok(read) if read == length).then_some(block)
    };
    // As much at the beginning, and as much at the end of what was copied: two files of one log differ in their times.
    let end = file.facts.size - length as u64;
    head.len() >= length
        && block(&file.file, 0).is_some_and(|copied| copied == head[..length])
        && block(&file.file, end).is_some_and(|copied| block(&current.file, end).is_some_and(|now| now == copied))
}

/// As much of two files is compared to find that one is a copy of the other.
const NEAR_COPY: usize = 4 << 10;

/// What a compressed file says that it inflates to (RFC 1952: the last four bytes, of its last member), where that can be
/// true: text that does not get smaller is not compressed, and a size that is said falsely is at the log's own cost.
fn inflated_size(file: &File, size: u64) -> u64 {
    let mut said = [0; 4];
    let read = size.checked_sub(4).is_some_and(|at| matches!(read_up_to(file, &mut said, at), Ok(4)));
    let said = u64::from(u32::from_le_bytes(said));
    if read && said >= size { said } else { size.saturating_mul(USUAL_RATIO) }
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
    let size = match file.size_now() {
        Ok(size) => size,
        Err(e) => return told(Ended::Broken(e), piece, order, next, item),
    };
    // What was written since it was looked at is not part of what was asked, nor was it recognised.
    if size < file.facts.size || !is_same(piece) {
        item.gap(truncated(piece, order, next, item));
        return grammar.break_off(item);
    }
    let size = file.facts.size;
    let feed = PlainFeed::marked(&file.file, begin.offset, piece.mark.clone());
    let mut lines = Lines::new(feed, begin.offset, size);
    let mut ended = scan(&mut lines, Approach::Line, order, grammar, item);
    if let Ended::Past = ended {
        // One line that is past may lie: a few looks ahead must agree before the rest is left alone.
        let past = item.window().until().after(SLACK);
        match nothing_follows(&file.file, lines.offset(), size, past, |line| grammar.stamp(line)) {
            Ok(true) => {}
            Ok(false) => {
                order.broken = true;
                ended = scan(&mut lines, Approach::Line, order, grammar, item);
            }
            Err(e) => ended = Ended::Broken(e),
        }
    }
    let anew = matches!(&ended, Ended::Broken(e) if e.kind() == WRITTEN_ANEW);
    if anew || (matches!(ended, Ended::AtEnd) && lines.offset() < size) || !is_same(piece) {
        item.gap(truncated(piece, order, next, item));
    }
    if matches!(ended, Ended::AtEnd)
        && lines.cut_short()
        && let Some(interval) = between(order.latest().or(piece.recognised.first), None, item.window())
    {
        let why = format!("the last line of /{} had no end yet when it was read", file.path.display());
        item.gap(Gap::new(GapReason::NotRecorded, why).counting(1).over(interval));
    }
    if anew {
        // What is there now is of another reading; a record that had begun has no end.
        return grammar.break_off(item);
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

/// Whether a plain file still begins with what it began with. It may have been empty.
fn is_same<F>(piece: &Piece<F>) -> bool {
    // An error is met, and told, where the file is read.
    begins_with(&piece.file.file, &piece.mark).unwrap_or(true)
}

fn truncated<F>(piece: &Piece<F>, order: &Order, next: Option<WallTime>, item: &Item<'_, '_>) -> Gap {
    let why = format!("/{} was truncated while it was read: what was not read yet is lost", piece.file.path.display());
    let gap = Gap::new(GapReason::RotatedAway, why);
    match between(order.latest().or(piece.recognised.first), next, item.window()) {
        Some(interval) => gap.over(interval),
        None => gap,
    }
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
