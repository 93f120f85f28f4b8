//! The offsets of a zone over one window: all that is needed to read the local times of an item, without the rules of the
//! zone and without a database of zones, on whatever machine the archive is opened.
//!
//! Written `+01:00`, or `+02:00,2026-10-25T01:00:00Z,+01:00` where the clocks were changed within the window or a day
//! around it. Pure, and total on any text.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use casefile_proto::time::{NANOS_PER_SEC, WallTime, Window};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::stamp::zone_offset;

/// A change this far outside of the window still decides what a local time within it means.
const AROUND: Duration = Duration::from_secs(86_400);

/// The most changes that are written: a zone that changes twice a year, over 40 years.
const MAX_CHANGES: usize = 80;

/// Seconds east of UTC: first until the first change, then from each change on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offsets {
    first: i32,
    /// In order of time.
    changes: Vec<(WallTime, i32)>,
}

impl Offsets {
    /// Always the same offset, in seconds east of UTC.
    pub fn fixed(east: i32) -> Self {
        Self { first: east, changes: Vec::new() }
    }

    /// Those of a zone over a window; `None` when there are too many changes in it to be written down.
    pub fn of(zone: &TimeZone, window: Window) -> Option<Self> {
        let (from, until) = (timestamp(window.from().before(AROUND)), timestamp(window.until().after(AROUND)));
        let mut offsets = Self::fixed(zone.to_offset(from).seconds());
        let mut last = from;
        for change in zone.following(from) {
            // The rules are a file of the host: of one without any change the same instant can be told for ever.
            if change.timestamp() <= last || change.timestamp() >= until {
                break;
            }
            last = change.timestamp();
            if offsets.changes.len() == MAX_CHANGES {
                return None;
            }
            let east = change.offset().seconds();
            if east != offsets.last() {
                offsets
                    .changes
                    .push((WallTime::from_nanos(i64::try_from(change.timestamp().as_nanosecond()).ok()?), east));
            }
        }
        Some(offsets)
    }

    fn last(&self) -> i32 {
        self.changes.last().map_or(self.first, |(_, east)| *east)
    }

    /// The nanoseconds since 1970 of a local time, given as if it were UTC. A time that a change skips or repeats is read
    /// with the offset before the change.
    pub(super) fn utc_nanos(&self, local: i64) -> Option<i64> {
        let mut east = self.first;
        for (at, next) in &self.changes {
            let utc = less(local, east)?;
            // Before the change; or skipped by it, because it is before the change with the offset after it.
            if utc < at.nanos() || less(local, *next)? < at.nanos() {
                return Some(utc);
            }
            east = *next;
        }
        less(local, east)
    }
}

fn less(local: i64, east: i32) -> Option<i64> {
    local.checked_sub(i64::from(east) * NANOS_PER_SEC)
}

/// The nearest time that the zone's rules can be asked about.
fn timestamp(at: WallTime) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(at.nanos())).unwrap_or(if at.nanos() < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

impl fmt::Display for Offsets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        east(self.first, f)?;
        for (at, offset) in &self.changes {
            write!(f, ",{at},")?;
            east(*offset, f)?;
        }
        Ok(())
    }
}

fn east(seconds: i32, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (sign, all) = (if seconds < 0 { '-' } else { '+' }, seconds.unsigned_abs());
    write!(f, "{sign}{:02}:{:02}", all / 3600, all / 60 % 60)?;
    if all.is_multiple_of(60) { Ok(()) } else { write!(f, ":{:02}", all % 60) }
}

impl FromStr for Offsets {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{:?} is no offset of a zone", text.chars().take(80).collect::<String>());
        let mut words = text.split(',');
        let mut offsets = Self::fixed(words.next().and_then(offset).ok_or_else(bad)?);
        while let Some(at) = words.next() {
            let at: WallTime = at.parse().map_err(|_| bad())?;
            let east = words.next().and_then(offset).ok_or_else(bad)?;
            let in_order = offsets.changes.last().is_none_or(|(last, _)| *last < at);
            if offsets.changes.len() == MAX_CHANGES || !in_order {
                return Err(bad());
            }
            offsets.changes.push((at, east));
        }
        Ok(offsets)
    }
}

/// `+01:00` or `-00:25:21`.
fn offset(text: &str) -> Option<i32> {
    let (minutes, seconds) = text.split_at_checked(6)?;
    let (east, used) = zone_offset(minutes.as_bytes()).filter(|_| minutes.starts_with(['+', '-']))?;
    let more: i64 = match seconds.as_bytes() {
        [] => 0,
        [b':', a @ b'0'..=b'5', b @ b'0'..=b'9'] => i64::from(a - b'0') * 10 + i64::from(b - b'0'),
        _ => return None,
    };
    let more = if minutes.starts_with('-') { -more } else { more };
    i32::try_from(east + more).ok().filter(|_| used == 6)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    fn at(text: &str) -> WallTime {
        text.parse().unwrap()
    }

    fn berlin(from: &str, until: &str) -> (TimeZone, Offsets) {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let offsets = Offsets::of(&zone, Window::new(at(from), at(until)).unwrap()).unwrap();
        (zone, offsets)
    }

    #[test]
    fn the_offsets_of_a_window_are_written_with_the_changes_in_it() {
        for (from, until, text) in [
            ("2026-11-23T02:00:00Z", "2026-11-23T03:00:00Z", "+01:00"),
            ("2026-10-25T00:00:00Z", "2026-10-25T03:00:00Z", "+02:00,2026-10-25T01:00:00Z,+01:00"),
            ("2026-10-25T06:00:00Z", "2026-10-25T07:00:00Z", "+02:00,2026-10-25T01:00:00Z,+01:00"),
        ] {
            let offsets = berlin(from, until).1;
            assert_eq!(offsets.to_string(), text);
            assert_eq!(text.parse(), Ok(offsets));
        }
        assert_eq!("-00:25:21".parse(), Ok(Offsets::fixed(-1521)));
        assert_eq!(Offsets::fixed(-1521).to_string(), "-00:25:21");
        for bad in
            ["", "01:00", "+1", "Z", "+01:00,", "+01:00,2026-10-25T01:00:00Z", "+01:00,x,+02:00", "+25:00", "+01:0é"]
        {
            assert!(bad.parse::<Offsets>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn rules_without_any_change_have_one_offset() {
        // Version 1 of RFC 8536: one type of local time, two hours east, and no change to it.
        let mut rules = b"TZif".to_vec();
        rules.extend([0; 16]);
        rules.extend([0_u32, 0, 0, 0, 1, 4].into_iter().flat_map(u32::to_be_bytes));
        rules.extend(7200_i32.to_be_bytes());
        rules.extend(*b"\0\0XST\0");
        let zone = TimeZone::tzif("X", &rules).unwrap();
        let window = Window::new(at("2026-11-23T02:00:00Z"), at("2026-11-23T03:00:00Z")).unwrap();
        assert_eq!(Offsets::of(&zone, window), Some(Offsets::fixed(7200)));
    }

    #[test]
    fn a_window_of_a_century_has_too_many_changes_to_be_written() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let window = Window::new(at("1980-01-01T00:00:00Z"), at("2080-01-01T00:00:00Z")).unwrap();
        assert_eq!(Offsets::of(&zone, window), None);
        assert_eq!(
            Offsets::of(&TimeZone::UTC, Window::new(WallTime::MIN, WallTime::MAX).unwrap()),
            Some(Offsets::fixed(0))
        );
    }

    #[test]
    fn a_local_time_means_what_the_rules_of_the_zone_say() {
        for (from, until) in
            [("2026-10-25T00:00:00Z", "2026-10-25T03:00:00Z"), ("2026-03-29T00:00:00Z", "2026-03-29T03:00:00Z")]
        {
            let (zone, offsets) = berlin(from, until);
            // Every minute of the local day of the change, the hour that is skipped or repeated among them.
            for minute in -60..300 {
                let local = at(from).nanos() + minute * 60 * NANOS_PER_SEC;
                let civil = TimeZone::UTC.to_datetime(Timestamp::from_nanosecond(i128::from(local)).unwrap());
                let ruled = zone.to_timestamp(civil).unwrap().as_nanosecond();
                assert_eq!(offsets.utc_nanos(local).map(i128::from), Some(ruled), "{civil}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_offset_or_not_but_never_a_panic(text in "[-+,:0-9TZé]{0,40}", local in any::<i64>()) {
            if let Ok(offsets) = text.parse::<Offsets>() {
                offsets.utc_nanos(local);
                assert_eq!(offsets.to_string().parse(), Ok(offsets));
            }
        }
    }
}
