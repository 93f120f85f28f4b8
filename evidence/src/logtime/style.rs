//! The time that a line bears: where in the line it stands, in which of the forms of [`super::stamp`], and finding out
//! both for a log.
//!
//! A form without a year or a zone is completed from what the file and the host say of themselves; that is marked as
//! inferred, and nothing is invented for a line that bears no time. Pure: no file is opened here.

use casefile_proto::time::{NANOS_PER_SEC, WallTime};
use jiff::tz::TimeZone;

use super::stamp::{Civil, date_time, epoch, klog, syslog, zone_offset, zoned};
use super::zone::Offsets;

/// A time stands within this many first bytes of its line, or it is not found.
pub const REACH: usize = 256;

/// What stands before the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lead {
    /// Nothing.
    None,
    /// A bracket: `[2026-11-23 …`.
    Bracket,
    /// A syslog priority, as in `<34>Nov 23 …` and `<34>1 2026-11-23T…`.
    Priority,
    /// A key of logfmt: `time="…`, `ts=…`.
    Key,
    /// A key of JSON: `{"level":"info","ts":"…`.
    Json,
    /// One word: `update-alternatives 2026-11-23 …`.
    Word,
}

impl Lead {
    /// Every lead, in the order in which a line is looked at.
    pub const ALL: [Self; 6] = [Self::None, Self::Bracket, Self::Priority, Self::Key, Self::Json, Self::Word];

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Bracket => "bracket",
            Self::Priority => "priority",
            Self::Key => "key",
            Self::Json => "json",
            Self::Word => "word",
        }
    }

    /// The lead of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lead| lead.name() == name)
    }
}

/// How the time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// Date, time and zone: RFC 3339 and its relatives in ISO 8601.
    Zoned,
    /// Date and time without a zone.
    Local,
    /// `Nov 23 02:44:10`, RFC 3164: neither year nor zone.
    Syslog,
    /// `I1123 02:44:10.123456`, klog: neither year nor zone.
    Klog,
    /// Seconds, milli-, micro- or nanoseconds since 1970.
    Epoch,
}

impl Form {
    /// Every form, in the order in which a text is tried.
    pub const ALL: [Self; 5] = [Self::Zoned, Self::Local, Self::Syslog, Self::Klog, Self::Epoch];

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zoned => "zoned",
            Self::Local => "local",
            Self::Syslog => "syslog",
            Self::Klog => "klog",
            Self::Epoch => "epoch",
        }
    }

    /// The form of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.name() == name)
    }

    /// Whether a time in this form does not say its zone.
    pub const fn lacks_zone(self) -> bool {
        matches!(self, Self::Local | Self::Syslog | Self::Klog)
    }
}

/// What one log was found to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Style {
    /// What stands before the time.
    pub lead: Lead,
    /// How it is written.
    pub form: Form,
}

impl Style {
    /// For the `method` of an item.
    pub fn describe(self, zone: &HostZone) -> String {
        match self.form {
            Form::Zoned => "times with a zone".to_owned(),
            Form::Epoch => "times in seconds since 1970".to_owned(),
            Form::Local => format!("times without a zone: {}", zone.name),
            Form::Syslog | Form::Klog => {
                format!("times without year and zone: year inferred from the file's change time, {}", zone.name)
            }
        }
    }
}

/// The zone that a host writes its logs in.
#[derive(Debug, Clone)]
pub struct HostZone {
    /// The rules.
    pub zone: TimeZone,
    /// How they were found, for the `method` of an item: `UTC inferred`, `Europe/Berlin as configured`.
    pub name: String,
}

impl HostZone {
    /// UTC, and why.
    pub fn utc(name: impl Into<String>) -> Self {
        Self { zone: TimeZone::UTC, name: name.into() }
    }
}

/// Reads the times of one log.
#[derive(Debug, Clone)]
pub struct Stamper {
    style: Style,
    zone: Zone,
    /// No line can be later than this by more than a day: the last change of the file.
    changed: WallTime,
    minute: Minute,
}

/// What makes a local time a time.
#[derive(Debug, Clone)]
enum Zone {
    /// The rules of the host's zone.
    Rules(TimeZone),
    /// Its offsets in one window.
    Offsets(Offsets),
}

/// The last minute that was computed: logs say the same one thousands of times.
#[derive(Debug, Clone, Copy, Default)]
struct Minute {
    text: [u8; 16],
    length: usize,
    nanos: i64,
}

impl Stamper {
    /// For a log of this style that was last changed then.
    pub fn new(style: Style, zone: &HostZone, changed: WallTime) -> Self {
        Self { style, zone: Zone::Rules(zone.zone.clone()), changed, minute: Minute::default() }
    }

    /// The same where the offsets of the zone are all that is known of it.
    pub(super) fn with_offsets(style: Style, zone: Offsets, changed: WallTime) -> Self {
        Self { style, zone: Zone::Offsets(zone), changed, minute: Minute::default() }
    }

    /// The time that the line bears. Only the first [`REACH`] bytes are looked at.
    pub fn stamp(&mut self, line: &[u8]) -> Option<WallTime> {
        let line = &line[..line.len().min(REACH)];
        let at = after_lead(self.style.lead, line)?;
        let text = &line[at..];
        match self.style.form {
            Form::Zoned => zoned(text, &mut self.minute.text, &mut self.minute.nanos).map(|(t, _)| t),
            Form::Epoch => epoch(text),
            Form::Local => {
                let (second, used) = date_time(text)?;
                // With a zone behind it, it is of another form than the log was found to use.
                if zone_offset(&text[used..]).is_some() {
                    return zoned(text, &mut [0; 16], &mut 0).map(|(t, _)| t);
                }
                self.local(&text[..16], |_| Some(second.minute))?.checked_add(second.nanos).map(WallTime::from_nanos)
            }
            Form::Syslog => {
                let (second, used) = syslog(text)?;
                self.local(&text[..used - 3], |s| s.latest_year(second.minute))
                    .and_then(|m| m.checked_add(second.nanos))
                    .map(WallTime::from_nanos)
            }
            Form::Klog => {
                let second = klog(text)?;
                self.local(&text[1..11], |s| s.latest_year(second.minute))
                    .and_then(|m| m.checked_add(second.nanos))
                    .map(WallTime::from_nanos)
            }
        }
    }

    /// The nanoseconds of a minute of the host's zone, kept for the next line that says the same.
    fn local(&mut self, text: &[u8], minute: impl Fn(&Self) -> Option<Civil>) -> Option<i64> {
        if self.minute.length == text.len() && self.minute.text[..text.len()] == *text {
            return Some(self.minute.nanos);
        }
        let nanos = self.in_zone(minute(self)?)?;
        let mut kept = [0; 16];
        kept.get_mut(..text.len())?.copy_from_slice(text);
        self.minute = Minute { text: kept, length: text.len(), nanos };
        Some(nanos)
    }

    fn in_zone(&self, minute: Civil) -> Option<i64> {
        let zone = match &self.zone {
            Zone::Rules(zone) => zone,
            Zone::Offsets(offsets) => return offsets.utc_nanos(minute.utc_nanos()?),
        };
        let Civil { year, month, day, hour, minute } = minute;
        let narrow = |n: u32| i8::try_from(n).ok();
        let civil = jiff::civil::DateTime::new(
            i16::try_from(year).ok()?,
            narrow(month)?,
            narrow(day)?,
            narrow(hour)?,
            narrow(minute)?,
            0,
            0,
        );
        // A time that the change to summer time skips or repeats: jiff takes the offset before the change.
        i64::try_from(zone.to_timestamp(civil.ok()?).ok()?.as_nanosecond()).ok()
    }

    /// The latest year in which this minute is not more than a day after the file was last changed.
    fn latest_year(&self, minute: Civil) -> Option<Civil> {
        let limit = self.changed.offset(86_400 * NANOS_PER_SEC).nanos();
        let year = i32::try_from(1970 + limit.div_euclid(31_556_952 * NANOS_PER_SEC)).ok()? + 1;
        // Nine years back: two 29ths of February can lie eight years apart.
        (0..10)
            .map(|back| Civil { year: year - back, ..minute })
            .find(|c| c.is_date() && self.in_zone(*c).is_some_and(|nanos| nanos <= limit))
    }
}

/// Which style most lines of a sample use, if it is enough of them to believe it. The sample is the beginning (or any
/// other part) of a log; a first and last line that are only partly in it do no harm.
pub fn detect(sample: &[u8]) -> Option<Style> {
    let (style, hits, lines) = most_used(sample, |_| true)?;
    // Most lines of a log full of stack traces bear no time. A date that parses to the second is one; ten digits may be
    // anything, and are believed where there are many.
    let enough = hits * if style.form == Form::Epoch { 8 } else { 50 } >= lines;
    enough.then_some(style)
}

/// Which of the styles that somebody says it may be most lines of a sample use; one line is enough.
pub fn detect_among(sample: &[u8], may_be: impl Fn(Style) -> bool) -> Option<Style> {
    most_used(sample, may_be).map(|(style, ..)| style)
}

/// The style that most lines use, how many these are, and of how many.
fn most_used(sample: &[u8], may_be: impl Fn(Style) -> bool) -> Option<(Style, usize, usize)> {
    let mut found: Vec<(Style, usize)> = Vec::new();
    let mut lines = 0;
    for line in sample.split(|b| *b == b'\n').filter(|l| !l.is_empty()).take(256) {
        let line = &line[..line.len().min(REACH)];
        lines += 1;
        let style = Lead::ALL.into_iter().find_map(|lead| {
            let text = &line[after_lead(lead, line)?..];
            let style = |form: Form| Style { lead, form };
            let form = Form::ALL.into_iter().filter(|form| may_be(style(*form))).find(|form| match form {
                Form::Zoned => zoned(text, &mut [0; 16], &mut 0).is_some(),
                Form::Local => date_time(text).is_some(),
                Form::Syslog => syslog(text).is_some(),
                Form::Klog => klog(text).is_some(),
                Form::Epoch => epoch(text).is_some(),
            })?;
            Some(style(form))
        });
        if let Some(style) = style {
            match found.iter_mut().find(|(s, _)| *s == style) {
                Some((_, n)) => *n += 1,
                None => found.push((style, 1)),
            }
        }
    }
    let (style, hits) = found.into_iter().max_by_key(|(style, n)| (*n, std::cmp::Reverse(*style)))?;
    Some((style, hits, lines))
}

/// Where the time begins in a line with such a lead.
fn after_lead(lead: Lead, line: &[u8]) -> Option<usize> {
    match lead {
        Lead::None => Some(0),
        Lead::Bracket => (line.first() == Some(&b'[')).then_some(1),
        Lead::Priority => {
            let close = line.iter().take(5).position(|b| *b == b'>').filter(|_| line.first() == Some(&b'<'))?;
            line[1..close].iter().all(u8::is_ascii_digit).then_some(())?;
            let rest = &line[close + 1..];
            Some(close + 1 + if rest.starts_with(b"1 ") { 2 } else { 0 })
        }
        Lead::Key => {
            let key = [&b"time="[..], b"ts=", b"t=", b"timestamp="].into_iter().find(|k| line.starts_with(k))?;
            Some(key.len() + usize::from(line.get(key.len()) == Some(&b'"')))
        }
        Lead::Json => {
            (line.first() == Some(&b'{')).then_some(())?;
            let keys = [&b"\"ts\":"[..], b"\"time\":", b"\"timestamp\":", b"\"@timestamp\":"];
            let after = keys.into_iter().filter_map(|k| Some(find(line, k)? + k.len())).min()?;
            let rest = &line[after..];
            let space = usize::from(rest.first() == Some(&b' '));
            Some(after + space + usize::from(rest.get(space) == Some(&b'"')))
        }
        Lead::Word => {
            let space = line.iter().take(64).position(|b| *b == b' ').filter(|at| *at > 0)?;
            Some(space + 1 + usize::from(line.get(space + 1) == Some(&b'[')))
        }
    }
}

fn find(line: &[u8], what: &[u8]) -> Option<usize> {
    line.windows(what.len()).position(|w| w == what)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    fn at(text: &str) -> WallTime {
        text.parse().unwrap()
    }

    fn stamp(line: &str) -> Option<(Style, String)> {
        let style = detect(line.as_bytes())?;
        let changed = at("2026-11-23T12:00:00Z");
        let at = Stamper::new(style, &HostZone::utc("UTC"), changed).stamp(line.as_bytes())?;
        Some((style, at.to_string()))
    }

    #[test]
    fn every_form_is_recognised_and_read() {
        use {Form::*, Lead::*};
        for (line, lead, form, read) in [
            ("2026-11-23T02:44:10.123456789Z x", None, Zoned, "2026-11-23T02:44:10.123456789Z"),
            ("2026-11-23T02:44:10+01:00 host x", None, Zoned, "2026-11-23T01:44:10Z"),
            ("2026-11-23 02:44:10,5 +0530: x", None, Zoned, "2026-11-22T21:14:10.5Z"),
            ("2026/11/23 02:44:10 UTC x", None, Zoned, "2026-11-23T02:44:10Z"),
            ("2026-11-23 02:44:10 status installed", None, Local, "2026-11-23T02:44:10Z"),
            ("2026-11-23 02:44:10,123 - util.py", None, Local, "2026-11-23T02:44:10.123Z"),
            ("2026/11/23 02:44:10 [error] 7#7", None, Local, "2026-11-23T02:44:10Z"),
            ("2026-11-23 02:44:10 -15 degrees", None, Local, "2026-11-23T02:44:10Z"),
            ("[2026-11-23 02:44:10] x", Bracket, Local, "2026-11-23T02:44:10Z"),
            ("Nov 23 02:44:10 node kernel: x", None, Syslog, "2026-11-23T02:44:10Z"),
            ("Dec  3 02:44:10 node kernel: x", None, Syslog, "2025-12-03T02:44:10Z"),
            ("<13>Nov 23 02:44:10.25 node x", Priority, Syslog, "2026-11-23T02:44:10.25Z"),
            ("<34>1 2026-11-23T02:44:10Z node x", Priority, Zoned, "2026-11-23T02:44:10Z"),
            ("I1123 02:44:10.123456    7 main.go:1] x", None, Klog, "2026-11-23T02:44:10.123456Z"),
            ("time=\"2026-11-23T02:44:10Z\" level=info", Key, Zoned, "2026-11-23T02:44:10Z"),
            ("ts=1795401850.5 level=info", Key, Epoch, "2026-11-23T02:44:10.5Z"),
            ("{\"level\":\"info\",\"ts\":\"2026-11-23T02:44:10.5Z\"}", Json, Zoned, "2026-11-23T02:44:10.5Z"),
            ("{\"ts\": 1795401850123, \"m\": 1}", Json, Epoch, "2026-11-23T02:44:10.123Z"),
            ("1795401850 x", None, Epoch, "2026-11-23T02:44:10Z"),
            ("1795401850123456789 x", None, Epoch, "2026-11-23T02:44:10.123456789Z"),
            ("update-alternatives 2026-11-23 02:44:10: run", Word, Local, "2026-11-23T02:44:10Z"),
        ] {
            assert_eq!(stamp(line), Some((Style { lead, form }, read.to_owned())), "{line}");
        }
    }

    #[test]
    fn what_is_no_time_is_not_taken_for_one() {
        for line in [
            "",
            "plain text",
            "2026-13-01 00:00:00",
            "2026-02-29 00:00:00 x",
            "2026-11-23 24:00:00",
            "2026-11-23",
            "Nov 31 02:44:10 x",
            "Nox 23 02:44:10 x",
            "179540185 x",
            "12345678901 x",
            "1795401850abc",
            "I1399 00:00:00.1",
            "\0\0\0\0",
            "{\"a\":1}",
            "<>",
            "<34>",
            "time=",
            "  at java.lang.Thread.run(Thread.java:1)",
        ] {
            assert_eq!(stamp(line), None, "{line}");
        }
    }

    #[test]
    fn a_log_of_stack_traces_is_recognised_by_its_few_times() {
        let mut text = String::from("2026-11-23 02:44:10,123 ERROR\n");
        text.extend((0..40).map(|n| format!("\tat x.y.Z.m(Z.java:{n})\n")));
        assert_eq!(detect(text.as_bytes()), Some(Style { lead: Lead::None, form: Form::Local }));
    }

    #[test]
    fn a_zone_of_the_host_is_applied_with_its_summer_time() {
        let zone = HostZone { zone: TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap(), name: "CET".into() };
        let style = Style { lead: Lead::None, form: Form::Local };
        let mut stamper = Stamper::new(style, &zone, at("2026-11-23T12:00:00Z"));
        assert_eq!(stamper.stamp(b"2026-11-23 02:44:10 x"), Some(at("2026-11-23T01:44:10Z")));
        assert_eq!(stamper.stamp(b"2026-07-23 02:44:10 x"), Some(at("2026-07-23T00:44:10Z")));
        assert_eq!(stamper.stamp(b"2026-07-23 02:44:11 x"), Some(at("2026-07-23T00:44:11Z")));
    }

    #[test]
    fn a_leap_day_without_a_year_is_found_in_the_last_leap_year() {
        let style = Style { lead: Lead::None, form: Form::Syslog };
        let mut stamper = Stamper::new(style, &HostZone::utc("UTC"), at("2027-01-01T00:00:05Z"));
        assert_eq!(stamper.stamp(b"Feb 29 02:44:10 x"), Some(at("2024-02-29T02:44:10Z")));
        assert_eq!(stamper.stamp(b"Dec 31 23:59:59 x"), Some(at("2026-12-31T23:59:59Z")));
        assert_eq!(stamper.stamp(b"Jan  1 00:00:01 x"), Some(at("2027-01-01T00:00:01Z")));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_time_or_not_but_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let zone = HostZone::utc("UTC");
            if let Some(style) = detect(&bytes) {
                for line in bytes.split(|b| *b == b'\n') {
                    Stamper::new(style, &zone, WallTime::MAX).stamp(line);
                    Stamper::new(style, &zone, WallTime::MIN).stamp(line);
                }
            }
        }
    }
}
