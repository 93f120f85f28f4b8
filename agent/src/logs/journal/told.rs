//! What is missing, in words: what journald itself says it dropped, and what could not be read of its files.

use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::time::Window;

use super::fields::Seen;
use super::found::{Found, wall};
use super::units::{MISSED, SUPPRESSED, dropped, is_of_journald};

/// So many drops of one unit are told one by one; those that follow are added to the last of them.
const MAX_DROPS: usize = 16;

/// The drops of one unit.
#[derive(Debug, Default, Clone)]
pub(super) struct Dropped {
    drops: Vec<Drop>,
}

#[derive(Debug, Clone, Copy)]
struct Drop {
    reason: GapReason,
    /// Of the unit's last entry before; that of the message that tells of it. Microseconds.
    from: Option<u64>,
    until: u64,
    records: u64,
}

impl Dropped {
    /// Looks whether an entry of the unit says that others were dropped. `last`: the time of the entry before it.
    pub(super) fn see(&mut self, seen: &Seen, last: Option<u64>, at: u64) {
        let reason = if is_of_journald(seen, SUPPRESSED) {
            GapReason::RateLimited
        } else if is_of_journald(seen, MISSED) {
            GapReason::RotatedAway
        } else {
            return;
        };
        let records = dropped(seen);
        let full = self.drops.len() >= MAX_DROPS;
        match self.drops.last_mut().filter(|_| full) {
            Some(drop) => {
                drop.until = drop.until.max(at);
                drop.records = drop.records.saturating_add(records);
            }
            None => self.drops.push(Drop { reason, from: last, until: at, records }),
        }
    }

    /// The gaps of the unit.
    pub(super) fn gaps(&self, window: Window) -> impl Iterator<Item = Gap> {
        self.drops.iter().map(move |drop| {
            let n = drop.records;
            let why = match drop.reason {
                GapReason::RateLimited => format!("journald suppressed {n} messages of this unit"),
                _ => format!("journald missed {n} messages of the kernel"),
            };
            let gap = Gap::new(drop.reason, why).counting(n);
            let from = drop.from.map_or(window.from(), wall);
            over(gap, Window::new(from, wall(drop.until).offset(1)).ok(), window)
        })
    }
}

/// What could not be read.
pub(super) fn file_gaps(found: &Found, window: Window) -> Vec<Gap> {
    let mut gaps = Vec::new();
    for (number, file) in found.journals.files().iter().enumerate() {
        let (notes, path) = (file.notes(), found.name(number).display());
        let between = notes.bad_between.and_then(|(from, until)| Window::new(wall(from), wall(until).offset(1)).ok());
        if file.was_scanned() {
            let places = notes.bad_places;
            let why = format!("/{path} is damaged and was read from object to object: {places} bad places");
            gaps.push(over(Gap::new(GapReason::ParseFailed, why).counting(places), between, window));
        } else if notes.bad_places > 0 {
            let why = format!("/{path}: {} entries could not be read", notes.bad_places);
            gaps.push(over(Gap::new(GapReason::ParseFailed, why).counting(notes.bad_places), between, window));
        }
        for (fields, what) in [
            (notes.lost_fields, "fields of entries are damaged and were left out"),
            (notes.packed_fields, "fields are compressed with XZ or to a bomb and were left out"),
        ] {
            if fields > 0 {
                let why = format!("/{path}: {fields} {what}");
                gaps.push(Gap::new(GapReason::ParseFailed, why).counting(fields).over(window));
            }
        }
        let step = notes.step.and_then(|(from, until)| Window::new(wall(from), wall(until)).ok());
        if let Some(twice) = step.and_then(|s| s.intersect(&window)) {
            let why = format!("the times in /{path} run back by more than a minute");
            gaps.push(Gap::new(GapReason::ClockUncertain, why).over(twice));
        }
    }
    gaps
}

fn over(gap: Gap, interval: Option<Window>, window: Window) -> Gap {
    gap.over(interval.and_then(|i| i.intersect(&window)).unwrap_or(window))
}
