//! systemd's journal: one text file for each unit, and all entries with all of their fields as lines of JSON. The files are
//! read by [`crate::journal`]; what is here makes logs of their entries.
//!
//! - `logs/journal/<unit>.log`: what a unit wrote and what systemd says about it ([`units`]: an entry is in exactly one text
//!   file). `kernel.log` is the kernel's part, of this and earlier boots. Below `user/` are the units of users, below
//!   `identifier/` programs outside of units, and `other.log` is the rest.
//! - `logs/journal/entries.jsonl`: everything ([`json`]). It is always there, also when nothing was logged.
//!
//! The first reading finds out which units there are and how much they say, and keeps the lines if they fit into a few
//! megabytes; they do for minutes, not for days. If they do not, the files are read again, and the lines are kept of as many
//! units at a time as there is room for; of days, only the places of the entries. So the smallest come first and the entries
//! last, whatever the size, and memory is fixed: [`held::HELD_CAP`] and the caches of the reader, about 16 MiB in all.

mod fields;
mod found;
mod held;
mod json;
mod line;
mod told;
mod units;

use std::fs::File;
use std::ops::ControlFlow::{Break, Continue};

use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::time::WallTime;

use super::sink::{Before, Flow, Giving, Item};
use super::{Covered, LogAsk, LogSink, LogSource, LogSpec, Selection, Stop, item_path, now};
use crate::host::Host;
use crate::journal::{Entry, Fragments, JournalFile, Journals, Walked};
use fields::{Known, Seen};
use found::{Found, wall};
use held::{HELD_CAP, Held, Kept};
use json::{Json, Record};
use line::{Clock, line};
use told::{Dropped, file_gaps};
use units::{Numbers, Paths, is_selected, key};

/// The log source.
pub(super) const SPEC: LogSpec = LogSpec {
    name: "journal",
    about: "The systemd journal: a text file for each unit, and all entries as JSON lines",
    open: |host, _config| Box::new(Journal { host: host.clone() }),
};

/// So many entries, or bytes of their fields, may pass before the sink is asked whether to go on.
const CHECK_EVERY: u64 = 4096;
const CHECK_BYTES: u64 = 16 << 20;

/// Up to this many times what can be held, reading everything again and again costs less than reading entry by entry.
const READ_AGAIN: u64 = 4;

/// What a window takes as text and JSON is at most so many times what its files take: values that they share are written
/// out for each entry. Only to estimate; entries of nothing but shared values take more.
const TIMES_FILE: u64 = 4;

/// All fields of an entry as JSON, beside its line of text. Only to estimate.
const TIMES_TEXT: u64 = 8;

/// A place of an entry: the number of its file and its offset.
const PLACE: usize = 2 + 8;

struct Journal {
    host: Host,
}

impl LogSource for Journal {
    fn needs(&mut self, ask: &LogAsk, out: &mut dyn LogSink) -> Vec<u64> {
        let found = Found::open(&self.host, ask.window, out);
        if found.is_nothing() {
            return Vec::new();
        }
        let most = found.journals.files().iter().map(JournalFile::size).fold(0, u64::saturating_add);
        if most.saturating_mul(TIMES_FILE) <= ask.budget.0 {
            return vec![most.saturating_mul(TIMES_FILE)];
        }
        let mut reading = Reading::new(found, &ask.select);
        if reading.survey(out).is_break() {
            // What it was stopped for stops the reading, too, and is told there.
            return vec![u64::MAX];
        }
        let mut needs: Vec<u64> = reading.units.iter().map(|unit| unit.bytes).collect();
        let entries = needs.iter().fold(0_u64, |sum, need| sum.saturating_add(*need)).saturating_mul(TIMES_TEXT);
        needs.push(entries);
        needs
    }

    fn read(&mut self, ask: &LogAsk, out: &mut dyn LogSink) -> Covered {
        let now = now(&self.host);
        let mut found = Found::open(&self.host, ask.window, out);
        if found.is_nothing() {
            let mut giving = Giving::new(SPEC.name, ask, now, 0, out);
            let absent =
                || Gap::new(GapReason::SourceAbsent, "no journal files below /var/log/journal or /run/log/journal");
            let last = found.gaps.pop().unwrap_or_else(absent);
            found.gaps.into_iter().for_each(|gap| giving.gap(gap));
            return giving.nothing(last);
        }
        let gaps = std::mem::take(&mut found.gaps);
        let mut reading = Reading::new(found, &ask.select);
        let surveyed = reading.survey(out);
        let mut giving = Giving::new(SPEC.name, ask, now, reading.units.len() + 1, out);
        gaps.into_iter().for_each(|gap| giving.gap(gap));
        if let Break(stop) = surveyed {
            giving.stop(stop);
            return giving.finish(reading.units.len() + 1);
        }
        reading.give(&mut giving);
        let unread = reading.unread;
        giving.finish(unread)
    }
}

/// One text file.
#[derive(Debug, Default, Clone)]
struct Unit {
    /// What was counted of it.
    records: u64,
    bytes: u64,
    /// The time of its last entry.
    last: Option<u64>,
    dropped: Dropped,
}

/// One reading of the journal.
struct Reading<'a> {
    found: Found,
    select: &'a Selection,
    known: Fragments<Known>,
    seen: Seen,
    clock: Clock,
    line: Vec<u8>,
    key: Vec<u8>,
    numbers: Numbers,
    units: Vec<Unit>,
    held: Held,
    /// Whether what is held are lines, not places.
    lines: bool,
    /// Logs that were not begun.
    unread: usize,
}

impl<'a> Reading<'a> {
    fn new(found: Found, select: &'a Selection) -> Self {
        Self {
            found,
            select,
            known: Fragments::new(Known),
            seen: Seen::default(),
            clock: Clock::default(),
            line: Vec::new(),
            key: Vec::new(),
            numbers: Numbers::default(),
            units: Vec::new(),
            held: Held::new(),
            lines: true,
            unread: 0,
        }
    }

    /// Finds out what there is. After it, every reading of the files gives the same entries.
    fn survey(&mut self, out: &mut dyn LogSink) -> std::ops::ControlFlow<Stop> {
        // Each file can turn out to be damaged, or not in order, once each.
        let attempts = 2 * self.found.journals.files().len() + 1;
        for _ in 0..attempts {
            self.numbers = Numbers::default();
            self.units.clear();
            self.held.clear();
            self.lines = true;
            let (mut walk, mut count) = (self.found.journals.walk(), 0_u64);
            loop {
                match walk.next(&mut self.found.journals) {
                    Walked::Entry(entry) => {
                        if let Some(unit) = self.look(&entry) {
                            self.count(unit, &entry);
                        }
                        count += 1;
                        if count.is_multiple_of(CHECK_EVERY) || self.found.journals.did(CHECK_BYTES) {
                            out.check()?;
                        }
                    }
                    Walked::Busy => out.check()?,
                    Walked::Again => break,
                    Walked::End => {
                        self.found.journals.settle();
                        return Continue(());
                    }
                }
            }
        }
        self.found.journals.settle();
        Continue(())
    }

    /// Reads what is looked at of an entry, and gives the number of its text file; `None`: it is not selected.
    fn look(&mut self, entry: &Entry) -> Option<usize> {
        self.seen.read(&mut self.found.journals, entry, &mut self.known);
        key(&self.seen, &mut self.key);
        is_selected(&self.key, &self.select.units).then(|| self.numbers.of(&self.key))
    }

    fn count(&mut self, number: usize, entry: &Entry) {
        if self.units.len() <= number {
            self.units.resize_with(number + 1, Unit::default);
        }
        let unit = &mut self.units[number];
        let left_out = line(entry, &self.seen, &mut self.clock, &mut self.line);
        unit.records += 1;
        unit.bytes += self.line.len() as u64;
        unit.dropped.see(&self.seen, unit.last, entry.realtime);
        unit.last = Some(entry.realtime);
        if self.lines {
            let kept = Kept { at: entry.realtime, left_out, bytes: &self.line };
            self.lines = self.held.push(number, kept);
            if !self.lines {
                self.held.clear();
            }
        }
    }

    /// Gives all text files, the small ones first, and then the entries.
    fn give(&mut self, giving: &mut Giving<'_>) {
        let mut order: Vec<usize> = (0..self.units.len()).filter(|n| self.units[*n].records > 0).collect();
        order.sort_by(|a, b| {
            (self.units[*a].bytes, &self.numbers.keys[*a]).cmp(&(self.units[*b].bytes, &self.numbers.keys[*b]))
        });
        self.unread = order.len() + 1;
        let mut paths = Paths::new(item_path("journal"));
        let mut rest = order.as_slice();
        let whole = self.lines;
        while !rest.is_empty() && !giving.is_stopped() {
            let batch = if whole { rest.len() } else { self.gather(rest, giving) };
            let (now, later) = rest.split_at(batch);
            for number in now {
                if giving.is_stopped() {
                    break;
                }
                self.give_unit(*number, &mut paths, giving);
            }
            rest = later;
        }
        self.held = Held::new();
        if self.select.units.is_empty() {
            // What was kept of fields for the text is of no use for the entries.
            self.known = Fragments::new(Known);
        }
        if !giving.is_stopped() {
            self.give_entries(giving);
        }
    }

    fn method(&self) -> String {
        let files = self.found.journals.files();
        let count = |n: usize, how: &str| if n > 0 { format!(", {n} {how}") } else { String::new() };
        format!(
            "systemd journal, {} files with something of the window, bisected by time{}{}",
            files.len(),
            count(files.iter().filter(|f| f.was_out_of_order()).count(), "of them read whole: not in order of time"),
            count(files.iter().filter(|f| f.was_scanned()).count(), "of them read from object to object: damaged"),
        )
    }

    /// Reads again and keeps the lines, or else the places, of as many units as there is room for, and says how many; of the
    /// first at least, for which there may be no room: it is then read without.
    fn gather(&mut self, rest: &[usize], giving: &mut Giving<'_>) -> usize {
        self.held.clear();
        let lines = |unit: &Unit| unit.bytes.saturating_add(unit.records.saturating_mul(Held::room(0) as u64));
        let places = |unit: &Unit| unit.records.saturating_mul(Held::room(PLACE) as u64);
        let left: u64 = rest.iter().map(|n| lines(&self.units[*n])).sum();
        self.lines = left <= READ_AGAIN * HELD_CAP as u64 && lines(&self.units[rest[0]]) <= HELD_CAP as u64;
        let mut total = 0_u64;
        let fit = rest.iter().take_while(|n| {
            let unit = &self.units[**n];
            total = total.saturating_add(if self.lines { lines(unit) } else { places(unit) });
            total <= HELD_CAP as u64
        });
        let batch = &rest[..fit.count()];
        if batch.is_empty() {
            return 1;
        }
        let mut wanted = vec![false; self.units.len()];
        batch.iter().for_each(|n| wanted[*n] = true);
        let (mut walk, mut count) = (self.found.journals.walk(), 0_u64);
        while !giving.is_stopped() {
            match walk.next(&mut self.found.journals) {
                Walked::Entry(entry) => {
                    let number = self.look(&entry).filter(|n| wanted.get(*n) == Some(&true));
                    if let Some(number) = number {
                        self.hold(number, &entry);
                    }
                    count += 1;
                    if count.is_multiple_of(CHECK_EVERY) || self.found.journals.did(CHECK_BYTES) {
                        giving.check();
                    }
                }
                Walked::Busy | Walked::Again => giving.check(),
                Walked::End => break,
            }
        }
        batch.len()
    }

    /// There is room: as much was counted.
    fn hold(&mut self, number: usize, entry: &Entry) {
        if self.lines {
            let left_out = line(entry, &self.seen, &mut self.clock, &mut self.line);
            self.held.push(number, Kept { at: entry.realtime, left_out, bytes: &self.line });
        } else {
            let (file, at) = entry.place();
            let mut place = [0; PLACE];
            place[..2].copy_from_slice(&u16::try_from(file).unwrap_or(0).to_le_bytes());
            place[2..].copy_from_slice(&at.to_le_bytes());
            self.held.push(number, Kept { at: entry.realtime, left_out: 0, bytes: &place });
        }
    }

    fn give_unit(&mut self, number: usize, paths: &mut Paths, giving: &mut Giving<'_>) {
        let path = paths.of(&self.numbers.keys[number]);
        let Some(mut item) = giving.item(path, self.method()) else { return };
        self.unread -= 1;
        // Whatever stopped it, the item knows.
        let _ = self.give_records(number, &mut item);
        let window = item.window();
        self.units[number].dropped.gaps(window).for_each(|gap| item.gap(gap));
        let (oldest, before) = self.begin();
        item.end(oldest, before);
    }

    /// Before the first entry that is left there were others; a journal that begins within the window was begun then.
    fn begin(&self) -> (Option<WallTime>, Before) {
        self.found.begin()
    }

    fn give_records(&mut self, number: usize, item: &mut Item<'_, '_>) -> Flow {
        if self.lines {
            for kept in self.held.of(number) {
                item.cut_record(wall(kept.at), kept.left_out);
                item.record(wall(kept.at), kept.bytes)?;
            }
            return Continue(());
        }
        let held = std::mem::replace(&mut self.held, Held::new());
        let flow = if held.of(number).next().is_some() {
            held.of(number).try_for_each(|kept| self.give_place(&kept, item))
        } else {
            self.give_by_walking(number, item)
        };
        self.held = held;
        flow
    }

    fn give_place(&mut self, kept: &Kept<'_>, item: &mut Item<'_, '_>) -> Flow {
        let Some((file, at)) = kept.bytes.split_first_chunk::<2>() else { return Continue(()) };
        let Some(at) = at.first_chunk() else { return Continue(()) };
        let place = (usize::from(u16::from_le_bytes(*file)), u64::from_le_bytes(*at));
        match self.found.journals.entry_at(place.0, place.1) {
            Some(entry) => {
                self.seen.read(&mut self.found.journals, &entry, &mut self.known);
                self.give_line(&entry, item)
            }
            // It was there when it was counted: the file was cut or removed since.
            None => {
                item.damaged(Some(wall(kept.at)), 1);
                Continue(())
            }
        }
    }

    fn give_line(&mut self, entry: &Entry, item: &mut Item<'_, '_>) -> Flow {
        let at = wall(entry.realtime);
        let left_out = line(entry, &self.seen, &mut self.clock, &mut self.line);
        item.cut_record(at, left_out);
        item.record(at, &self.line)
    }

    /// A unit with so many entries that even their places are too many.
    fn give_by_walking(&mut self, number: usize, item: &mut Item<'_, '_>) -> Flow {
        let (mut walk, mut count) = (self.found.journals.walk(), 0_u64);
        loop {
            match walk.next(&mut self.found.journals) {
                Walked::Entry(entry) => {
                    if self.look(&entry) == Some(number) {
                        self.give_line(&entry, item)?;
                    }
                    count += 1;
                    if count.is_multiple_of(CHECK_EVERY) || self.found.journals.did(CHECK_BYTES) {
                        item.check()?;
                    }
                }
                Walked::Busy | Walked::Again => item.check()?,
                Walked::End => return Continue(()),
            }
        }
    }

    fn give_entries(&mut self, giving: &mut Giving<'_>) {
        let path = item_path("journal").child("entries.jsonl");
        let Some(mut item) = giving.item(path, self.method()) else { return };
        self.unread -= 1;
        // Whatever stopped it, the item knows.
        let _ = self.give_json(&mut item);
        let window = item.window();
        file_gaps(&self.found, window).into_iter().for_each(|gap| item.gap(gap));
        if self.numbers.overflow {
            let why = format!("more than {} units: those of the rest are in other.log", units::MAX_UNITS);
            item.gap(Gap::new(GapReason::Budget, why));
        }
        let (oldest, before) = self.begin();
        item.end(oldest, before);
    }

    fn give_json(&mut self, item: &mut Item<'_, '_>) -> Flow {
        let (mut fragments, mut record) = (Fragments::new(Json), Record::default());
        let (mut walk, mut count) = (self.found.journals.walk(), 0_u64);
        loop {
            match walk.next(&mut self.found.journals) {
                Walked::Entry(entry) => {
                    count += 1;
                    if count.is_multiple_of(CHECK_EVERY) || self.found.journals.did(CHECK_BYTES) {
                        item.check()?;
                    }
                    if !self.select.units.is_empty() && self.look(&entry).is_none() {
                        continue;
                    }
                    give_entry(&mut self.found.journals, &entry, &mut fragments, &mut record, item)?;
                }
                Walked::Busy | Walked::Again => item.check()?,
                Walked::End => return Continue(()),
            }
        }
    }
}

fn give_entry(
    journals: &mut Journals<File>,
    entry: &Entry,
    fragments: &mut Fragments<Json>,
    record: &mut Record,
    item: &mut Item<'_, '_>,
) -> Flow {
    let row = journals.files().get(entry.place().0).map(|f| f.seqnum_id());
    let Some(row) = row else { return Continue(()) };
    record.begin(entry, row);
    journals.fields(entry, fragments, |field| record.add(field));
    let at = wall(entry.realtime);
    let (line, left_out) = record.finish();
    item.cut_record(at, left_out);
    item.record(at, line)
}
