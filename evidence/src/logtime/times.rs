//! How the lines of one item bear their times, as one line of text that travels with the item: `zoned lead=none`,
//! `syslog lead=priority zone=+01:00`, `local lead=none or zoned lead=none zone=+02:00,2026-10-25T01:00:00Z,+01:00`.
//!
//! The agent writes it when it cuts a log out; review reads the lines with it. A year that a form lacks is not written: every
//! record of an item lies inside its window, and so does the year.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use casefile_proto::time::{WallTime, Window};
use jiff::tz::TimeZone;

use super::style::{Form, Lead, Stamper, Style};
use super::zone::Offsets;

/// The most styles of one item: a log changes its form when its program is upgraded, not more often.
const MAX_STYLES: usize = 8;

/// See the head of this file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Times {
    /// In the order in which they come in the item.
    styles: Vec<Style>,
    /// For those forms that say no zone; `None`: all of them do.
    zone: Option<Offsets>,
}

impl Times {
    /// For a log with these styles, one after the other, whose local times are those of `zone`. `None` when there is no
    /// style, or what would have to be written has no end.
    pub fn new(styles: impl IntoIterator<Item = Style>, zone: &TimeZone, window: Window) -> Option<Self> {
        let mut kept: Vec<Style> = Vec::new();
        for style in styles {
            if kept.last() != Some(&style) && !kept.contains(&style) {
                kept.push(style);
            }
        }
        if kept.is_empty() || kept.len() > MAX_STYLES {
            return None;
        }
        let zone = if kept.iter().any(|s| s.form.lacks_zone()) { Some(Offsets::of(zone, window)?) } else { None };
        Some(Self { styles: kept, zone })
    }

    /// Reads the lines of an item that was asked with this window.
    pub fn reader(&self, window: Window) -> Reader {
        let zone = self.zone.clone().unwrap_or(Offsets::fixed(0));
        // A stamper takes the latest year that is not a day after the log's last change; here nothing lies after the window.
        let changed = window.until().offset(-1).before(Duration::from_secs(86_400));
        let stampers = self.styles.iter().map(|style| Stamper::with_offsets(*style, zone.clone(), changed)).collect();
        Reader { stampers, last: 0, window }
    }
}

/// Reads the times of one item, line by line.
#[derive(Debug)]
pub struct Reader {
    stampers: Vec<Stamper>,
    /// The style of the line before.
    last: usize,
    window: Window,
}

impl Reader {
    /// The time that the line bears. A time outside of the window is none of a record of this item, only a text in one.
    pub fn stamp(&mut self, line: &[u8]) -> Option<WallTime> {
        let in_order = (self.last..self.stampers.len()).chain(0..self.last);
        for i in in_order {
            if let Some(at) = self.stampers[i].stamp(line).filter(|at| self.window.contains(*at)) {
                self.last = i;
                return Some(at);
            }
        }
        None
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, style) in self.styles.iter().enumerate() {
            let or = if i > 0 { " or " } else { "" };
            write!(f, "{or}{} lead={}", style.form.name(), style.lead.name())?;
        }
        match &self.zone {
            Some(zone) => write!(f, " zone={zone}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Times {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{:?} does not say how times are written", text.chars().take(80).collect::<String>());
        let (styles, zone) = match text.split_once(" zone=") {
            Some((styles, zone)) => (styles, Some(zone.parse()?)),
            None => (text, None),
        };
        let style = |text: &str| {
            let (form, lead) = text.split_once(" lead=")?;
            Some(Style { form: Form::named(form)?, lead: Lead::named(lead)? })
        };
        let styles: Option<Vec<Style>> = styles.split(" or ").take(MAX_STYLES + 1).map(style).collect();
        let styles = styles.filter(|s| s.len() <= MAX_STYLES).ok_or_else(bad)?;
        if styles.iter().any(|s| s.form.lacks_zone()) != zone.is_some() {
            return Err(bad());
        }
        Ok(Self { styles, zone })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    fn at(text: &str) -> WallTime {
        text.parse().unwrap()
    }

    fn window(from: &str, until: &str) -> Window {
        Window::new(at(from), at(until)).unwrap()
    }

    fn read(times: &str, window: Window, lines: &[&str]) -> Vec<String> {
        let mut reader = times.parse::<Times>().unwrap().reader(window);
        let stamp = |line: &&str| reader.stamp(line.as_bytes()).map_or("-".to_owned(), |at| at.to_string());
        lines.iter().map(stamp).collect()
    }

    #[test]
    fn what_was_written_is_read_back() {
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let hour = window("2026-11-23T02:00:00Z", "2026-11-23T03:00:00Z");
        for form in Form::ALL {
            for lead in Lead::ALL {
                let times = Times::new([Style { lead, form }], &berlin, hour).unwrap();
                assert_eq!(times.to_string().parse(), Ok(times));
            }
        }
        let both = [Style { lead: Lead::None, form: Form::Local }, Style { lead: Lead::None, form: Form::Zoned }];
        let both = Times::new(both.into_iter().chain(both), &berlin, hour).unwrap();
        assert_eq!(both.to_string(), "local lead=none or zoned lead=none zone=+01:00");
        assert_eq!(both.to_string().parse(), Ok(both));
        assert_eq!(Times::new([], &berlin, hour), None);
        for bad in [
            "",
            "syslog",
            "syslog lead=none",
            "zoned lead=none zone=+01:00",
            "zoned lead=tail",
            "x lead=none",
            "zoned lead=none or ",
        ] {
            assert!(bad.parse::<Times>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn lines_without_a_year_across_a_new_year_get_the_year_of_the_window() {
        let night = window("2026-12-31T22:30:00Z", "2026-12-31T23:30:00Z");
        let lines =
            ["Dec 31 23:59:59 n x: a", "Jan  1 00:00:01 n x: b", "  more of b", "Jan  1 01:00:00 n x: too late"];
        let read = read("syslog lead=none zone=+01:00", night, &lines);
        assert_eq!(read, ["2026-12-31T22:59:59Z", "2026-12-31T23:00:01Z", "-", "-"]);
    }

    #[test]
    fn local_times_around_a_change_of_the_clocks_are_those_of_the_offset_then() {
        let night = window("2026-10-25T00:00:00Z", "2026-10-25T03:00:00Z");
        let lines = ["2026-10-25 02:10:00 first", "2026-10-25 03:10:00 after", "2026-10-25 02:10:00 again"];
        let read = read("local lead=none zone=+02:00,2026-10-25T01:00:00Z,+01:00", night, &lines);
        assert_eq!(read, ["2026-10-25T00:10:00Z", "2026-10-25T02:10:00Z", "2026-10-25T00:10:00Z"]);
    }

    #[test]
    fn a_log_that_changed_its_form_is_read_in_both() {
        let hour = window("2026-11-23T02:00:00Z", "2026-11-23T03:00:00Z");
        let lines = ["Nov 23 03:10:00 n x: old", "2026-11-23T02:20:00Z n x: new", "2020-01-01T00:00:00Z in a text"];
        let read = read("syslog lead=none or zoned lead=none zone=+01:00", hour, &lines);
        assert_eq!(read, ["2026-11-23T02:10:00Z", "2026-11-23T02:20:00Z", "-"]);
    }

    proptest! {
        #[test]
        fn any_text_and_any_line_are_read_or_not_but_never_a_panic(
            text in "(syslog|local|zoned|klog) lead=(none|word|json)( or epoch lead=key)?( zone=[-+0-9:]{6})?",
            line in proptest::collection::vec(any::<u8>(), 0..80),
            edges in any::<(i64, i64)>(),
        ) {
            if let (Ok(times), Ok(window)) = (text.parse::<Times>(), Window::new(WallTime::from_nanos(edges.0), WallTime::from_nanos(edges.1))) {
                let stamped = times.reader(window).stamp(&line);
                assert!(stamped.is_none_or(|at| window.contains(at)));
            }
        }
    }
}
