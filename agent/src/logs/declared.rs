//! What the configuration says of the times of a family of files: in which form they are written, after what, and in
//! which zone. What it does not say is found out for each file; what it says wrongly is named when it is read.

use std::path::Path;

use casefile_evidence::logtime::style::{Form, HostZone, Lead, Style, detect, detect_among};
use casefile_proto::gap::{Gap, GapReason};
use jiff::tz::{Offset, TimeZone};

use super::FilesConfig;
use super::open::Dir;
use super::window::read_up_to;
use crate::host::Host;

/// What may be said of the form, and what it stands for. `iso` has two: `Local` reads times with a zone too.
const TIMES: [(&str, &[Form]); 5] = [
    ("rfc3339", &[Form::Zoned]),
    ("iso", &[Form::Local, Form::Zoned]),
    ("syslog", &[Form::Syslog]),
    ("klog", &[Form::Klog]),
    ("epoch", &[Form::Epoch]),
];

/// What may be said of what stands before the time.
const LEADS: [(&str, Lead); 6] = [
    ("none", Lead::None),
    ("bracket", Lead::Bracket),
    ("priority", Lead::Priority),
    ("key", Lead::Key),
    ("json", Lead::Json),
    ("word", Lead::Word),
];

/// The most that a file of zone rules may have; the largest of the tz database has 3.5 KiB.
const ZONE_CAP: usize = 64 << 10;

/// What is said of one family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Declared {
    forms: Option<&'static [Form]>,
    lead: Option<Lead>,
    zone: Option<Zone>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Zone {
    /// So many seconds east of UTC.
    Fixed(i32),
    /// A name of the tz database.
    Named(String),
}

impl Declared {
    /// Checked; else each key that is wrong, and why.
    pub(crate) fn of(config: &FilesConfig) -> Result<Self, Vec<(&'static str, String)>> {
        let mut problems = Vec::new();
        let mut among = |key, said: &Option<String>, known: &[&'static str]| {
            let at = said.as_ref().map(|said| known.iter().position(|name| name == said));
            if at == Some(None) {
                problems.push((key, format!("is none of {}", known.join(", "))));
            }
            at.flatten()
        };
        let times = among("times", &config.times, &TIMES.map(|(name, _)| name));
        let lead = among("lead", &config.lead, &LEADS.map(|(name, _)| name));
        let zone = config.zone.as_deref().map(zone);
        if let Some(None) = zone {
            problems.push(("zone", "is neither UTC, nor like +01:00, nor a name like Europe/Berlin".to_owned()));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self { forms: times.map(|at| TIMES[at].1), lead: lead.map(|at| LEADS[at].1), zone: zone.flatten() })
    }

    /// How the lines of a sample bear their times, within what was said.
    pub(super) fn style(&self, sample: &[u8]) -> Option<Style> {
        if self.forms.is_none() && self.lead.is_none() {
            return detect(sample);
        }
        let may_be = |style: Style| {
            self.forms.is_none_or(|forms| forms.contains(&style.form))
                && self.lead.is_none_or(|lead| lead == style.lead)
        };
        let style = detect_among(sample, may_be)?;
        // Where both are expected, that is the one that reads both.
        let form = self.forms.and_then(|forms| forms.first()).copied().unwrap_or(style.form);
        Some(Style { form, ..style })
    }

    /// Why a file in which no time was found is not read.
    pub(super) fn why_none(&self) -> &'static str {
        match (self.forms, self.lead) {
            (None, None) => "bears no times that are understood",
            _ => "bears no times of the form that the configuration names",
        }
    }

    /// The zone of times that name none. An error: it was said, and its rules are not to be had; to take another one
    /// would be to invent times.
    pub(super) fn zone(&self, host: &Host) -> Result<HostZone, Gap> {
        match &self.zone {
            None => Ok(host_zone(host)),
            Some(Zone::Fixed(0)) => Ok(HostZone::utc("UTC as configured")),
            Some(Zone::Fixed(seconds)) => {
                let (sign, minutes) = (if *seconds < 0 { '-' } else { '+' }, seconds.abs() / 60);
                let name = format!("{sign}{:02}:{:02} as configured", minutes / 60, minutes % 60);
                // Checked when it was parsed.
                let zone = Offset::from_seconds(*seconds).map_or(TimeZone::UTC, TimeZone::fixed);
                Ok(HostZone { zone, name })
            }
            Some(Zone::Named(name)) => match rules(host, name) {
                Some(zone) => Ok(HostZone { zone, name: format!("{name} as configured") }),
                None => {
                    let why =
                        format!("the rules of zone {name} are not in /{ZONES} (an offset such as +01:00 needs none)");
                    Err(Gap::new(GapReason::SourceFailed, why))
                }
            },
        }
    }
}

/// What a zone may look like.
fn zone(text: &str) -> Option<Zone> {
    if matches!(text, "UTC" | "Z") {
        return Some(Zone::Fixed(0));
    }
    if let [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] = text.as_bytes() {
        let two = |a: &u8, b: &u8| Some(i32::from(digit(*a)? * 10 + digit(*b)?));
        let (hours, minutes) = (two(h1, h2)?, two(m1, m2)?);
        let seconds = (hours <= 18 && minutes < 60).then_some(hours * 3600 + minutes * 60)?;
        return Some(Zone::Fixed(if *sign == b'-' { -seconds } else { seconds }));
    }
    let named = text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-+/".contains(&b))
        && !text.split('/').any(str::is_empty);
    named.then(|| Zone::Named(text.to_owned()))
}

fn digit(b: u8) -> Option<u8> {
    b.is_ascii_digit().then(|| b - b'0')
}

/// Where a host has the rules of zones.
const ZONES: &str = "usr/share/zoneinfo";

/// The zone of the host: where `etc/localtime` points, or what it holds; UTC when it does not say.
fn host_zone(host: &Host) -> HostZone {
    if let Ok(link) = host.link("etc/localtime") {
        let text = link.to_string_lossy();
        let name = text.rsplit_once("zoneinfo/").map_or(&*text, |(_, name)| name);
        if matches!(name, "UTC" | "Etc/UTC" | "Universal" | "Zulu" | "Etc/UCT" | "UCT") {
            return HostZone::utc(format!("{name} inferred"));
        }
        return match rules(host, name) {
            Some(zone) => HostZone { zone, name: format!("{name} inferred") },
            None => HostZone::utc(format!("UTC (the rules of zone {name} could not be read) inferred")),
        };
    }
    match zone_file(host, Path::new("etc"), "localtime".as_ref(), "localtime") {
        Some(zone) => HostZone { zone, name: "the zone of etc/localtime inferred".to_owned() },
        None => HostZone::utc("UTC inferred"),
    }
}

fn rules(host: &Host, name: &str) -> Option<TimeZone> {
    let path = Path::new(ZONES).join(name);
    zone_file(host, path.parent()?, path.file_name()?, name)
}

fn zone_file(host: &Host, dir: &Path, file: &std::ffi::OsStr, name: &str) -> Option<TimeZone> {
    let file = Dir::base(host, dir).ok()?.file(file).ok()?;
    let mut rules = vec![0; ZONE_CAP];
    let read = read_up_to(&file.file, &mut rules, 0).ok()?;
    TimeZone::tzif(name, &rules[..read]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(times: Option<&str>, lead: Option<&str>, zone: Option<&str>) -> FilesConfig {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        FilesConfig {
            glob: "x".to_owned(),
            except: Vec::new(),
            times: owned(times),
            lead: owned(lead),
            zone: owned(zone),
        }
    }

    #[test]
    fn what_is_not_understood_is_named_key_by_key() {
        let problems = Declared::of(&config(Some("ISO"), Some("Word"), Some("Europe//Berlin"))).unwrap_err();
        assert_eq!(problems.iter().map(|(key, _)| *key).collect::<Vec<_>>(), ["times", "lead", "zone"]);
        assert_eq!(problems[0].1, "is none of rfc3339, iso, syslog, klog, epoch");
        for bad in ["", "+1:00", "+25:00", "+01:60", "../etc/passwd", "/etc", "Europe/../x", "a b", "é", "+01:00x"] {
            assert_eq!(zone(bad), None, "{bad}");
        }
    }

    #[test]
    fn zones_are_an_offset_a_name_or_utc() {
        assert_eq!((zone("UTC"), zone("+00:00")), (Some(Zone::Fixed(0)), Some(Zone::Fixed(0))));
        assert_eq!((zone("-05:30"), zone("+01:00")), (Some(Zone::Fixed(-19_800)), Some(Zone::Fixed(3600))));
        assert_eq!(zone("America/Argentina/Buenos_Aires"), Some(Zone::Named("America/Argentina/Buenos_Aires".into())));
        assert_eq!(zone("Etc/GMT+1"), Some(Zone::Named("Etc/GMT+1".into())));
    }

    #[test]
    fn what_is_said_decides_where_a_line_could_be_read_in_two_ways() {
        let sample = b"1795401850 2026-11-23 02:44:10 x\n1795401851 2026-11-23 02:44:11 y\n";
        let style = |times, lead| Declared::of(&config(times, lead, None)).unwrap().style(sample);
        assert_eq!(style(None, None), Some(Style { lead: Lead::None, form: Form::Epoch }));
        assert_eq!(style(Some("iso"), None), Some(Style { lead: Lead::Word, form: Form::Local }));
        assert_eq!(style(None, Some("word")), Some(Style { lead: Lead::Word, form: Form::Local }));
        assert_eq!(style(Some("klog"), None), None);
        // Too few to be found out, and enough when it was said.
        let mut rare = "a line without a time\n".repeat(100);
        rare.push_str("1795401850 x\n");
        assert_eq!(detect(rare.as_bytes()), None);
        let said = Declared::of(&config(Some("epoch"), None, None)).unwrap();
        assert_eq!(said.style(rare.as_bytes()), Some(Style { lead: Lead::None, form: Form::Epoch }));
    }
}
