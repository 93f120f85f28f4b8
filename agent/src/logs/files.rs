//! Plain log files named by globs below the host root, with the files that logrotate left of them. The form of their
//! times is found out for each file by itself; a file in which none is found is named as a gap, never guessed at.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use casefile_evidence::logtime::style::{HostZone, Stamper, Style, detect};
use casefile_evidence::logtime::times::Times;
use casefile_proto::gap::{Gap, GapReason};
use globset::{GlobBuilder, GlobMatcher};
use jiff::tz::TimeZone;

use super::history::{History, Recognised, SAMPLE};
use super::open::{Dir, LogFile, gap, too_many};
use super::rotation::{gather, rotated_name};
use super::sink::{Before, Giving};
use super::text::{Text, TextForm};
use super::window::read_up_to;
use super::{Covered, FilesConfig, LogAsk, LogSink, LogSource, LogSpec, MAX_LOGS, component, item_path, now};
use crate::host::{EntryKind, Host};

/// The log source.
pub(super) const SPEC: LogSpec = LogSpec {
    name: "files",
    about: "Plain log files below var/log, their times recognised file by file",
    open: |host, config| Box::new(Files { host: host.clone(), families: config.files.clone() }),
};

/// The most that a file of zone rules may have; the largest of the tz database has 3.5 KiB.
const ZONE_CAP: usize = 64 << 10;

struct Files {
    host: Host,
    families: Vec<FilesConfig>,
}

/// One log: the directory and the name of its current file, relative to the host root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Log {
    need: u64,
    dir: PathBuf,
    name: OsString,
}

impl LogSource for Files {
    fn read(&mut self, ask: &LogAsk, out: &mut dyn LogSink) -> Covered {
        let mut gaps = Vec::new();
        let mut logs = BTreeSet::new();
        for family in &self.families {
            if let Err(gap) = Search::new(family).and_then(|search| search.run(&self.host, &mut logs, &mut gaps)) {
                gaps.push(gap);
            }
        }
        if logs.is_empty() && gaps.is_empty() {
            gaps.push(Gap::new(GapReason::SourceAbsent, "no file matches the globs of the configuration"));
        }
        let zone = host_zone(&self.host);
        let mut logs: Vec<Log> = logs.into_iter().take(MAX_LOGS).collect();
        let mut quiet = Vec::new();
        if logs.iter().map(|l| l.need).fold(0, u64::saturating_add) > ask.budget.0 {
            for log in &mut logs {
                if let Ok(history) = open(&self.host, log, ask, &zone, &mut quiet) {
                    log.need = history.need(ask.window, &mut Text::new(zone.clone()));
                }
            }
        }
        logs.sort();
        let mut giving = Giving::new(SPEC.name, ask, now(&self.host), logs.len(), out);
        gaps.into_iter().for_each(|gap| giving.gap(gap));
        let mut unread = logs.len();
        for log in &logs {
            if giving.is_stopped() {
                break;
            }
            unread -= 1;
            give(&self.host, log, ask, &zone, &mut giving);
        }
        giving.finish(unread)
    }
}

fn open(host: &Host, log: &Log, ask: &LogAsk, zone: &HostZone, gaps: &mut Vec<Gap>) -> Result<History<TextForm>, Gap> {
    let mut dir = Dir::base(host, &log.dir).map_err(|e| gap(&e))?;
    let (found, refused) = gather(&mut dir, |name| rotated_name(&log.name, name)).map_err(|e| gap(&e))?;
    gaps.extend(refused);
    let mut before = None;
    Ok(History::survey(found, |sample, file| {
        let recognised = recognise(sample, file, zone, before);
        match recognised {
            Ok(recognised) => {
                before = recognised.form.style.or(before);
                Some(recognised)
            }
            // What was not touched since the window began holds nothing of it, whatever it holds.
            Err(_) if file.facts.changed < ask.window.from() => None,
            Err(why) => {
                gaps.push(Gap::new(GapReason::ParseFailed, format!("/{} {why}", file.path.display())));
                None
            }
        }
    }))
}

/// `before`: what the file before it in the same log was found to use.
fn recognise(
    sample: &[u8],
    file: &LogFile,
    zone: &HostZone,
    before: Option<Style>,
) -> Result<Recognised<TextForm>, &'static str> {
    let changed = file.facts.modified;
    if file.facts.size == 0 {
        return Ok(Recognised { form: TextForm { style: None, changed }, first: None });
    }
    let style = detect(sample).or_else(|| {
        // Its beginning may be one endless line, or the zeros that a truncation left.
        let mut end = vec![0; sample.len()];
        let at = file.facts.size.saturating_sub(end.len() as u64);
        let read = read_up_to(&file.file, &mut end, at).unwrap_or(0);
        let line = end[..read].iter().position(|b| *b == b'\n')?;
        detect(&end[line..read])
    });
    let binary = sample.iter().filter(|b| **b == 0).count() * 100 > sample.len();
    // A short file that is nothing but the rest of a record whose begin was rotated away.
    let style = style.or(before.filter(|_| !binary && sample.len() < SAMPLE));
    let Some(style) = style else {
        return Err(if binary { "is not text" } else { "bears no times that are understood" });
    };
    let mut stamper = Stamper::new(style, zone, changed);
    let first = sample.split(|b| *b == b'\n').find_map(|line| stamper.stamp(line));
    Ok(Recognised { form: TextForm { style: Some(style), changed }, first })
}

fn give(host: &Host, log: &Log, ask: &LogAsk, zone: &HostZone, giving: &mut Giving<'_>) {
    let mut gaps = Vec::new();
    let mut history = match open(host, log, ask, zone, &mut gaps) {
        Ok(history) => history,
        Err(gap) => return giving.gap(gap),
    };
    if history.is_empty() {
        return gaps.into_iter().for_each(|gap| giving.gap(gap));
    }
    let mut grammar = Text::new(zone.clone());
    let how = history.plan(giving.window(), &mut grammar);
    let form = history.newest_form().and_then(|f| f.style).map_or("empty".to_owned(), |s| s.describe(zone));
    let mut path = item_path("files");
    for part in log.dir.iter().chain([log.name.as_os_str()]) {
        path = path.child(&component(part));
    }
    let rotated = history.places().count() > 1 || history.places().any(|p| p.age != super::rotation::Age::Current);
    let method = format!("/{}, {form}, {how}", log.dir.join(&log.name).display());
    let times = Times::new(history.planned_forms().filter_map(|f| f.style), &zone.zone, giving.window());
    let Some(mut item) = giving.dated_item(path, method, times) else { return };
    gaps.into_iter().for_each(|gap| item.gap(gap));
    let oldest = history.read(&mut grammar, &mut item);
    // Whatever stopped it, the item knows; what is held back is given as far as it is taken.
    let _ = grammar.finish(&mut item);
    item.end(oldest, if rotated { Before::RotatedAway } else { Before::NotRecorded });
}

/// One glob, taken apart at its slashes.
struct Search {
    base: PathBuf,
    parts: Vec<GlobMatcher>,
    except: Vec<GlobMatcher>,
}

impl Search {
    fn new(family: &FilesConfig) -> Result<Self, Gap> {
        let bad = |glob: &str, why: &str| {
            Gap::new(GapReason::SourceFailed, format!("glob {glob:?} of the configuration: {why}"))
        };
        let matcher = |glob: &str| {
            let built = GlobBuilder::new(glob).literal_separator(true).backslash_escape(true).build();
            built.map(|g| g.compile_matcher()).map_err(|e| bad(glob, &e.to_string()))
        };
        let plain = |c: &Component<'_>| matches!(c, Component::Normal(_));
        let path = Path::new(&family.glob);
        if !path.components().all(|c| plain(&c)) || path.file_name().is_none() {
            return Err(bad(&family.glob, "is not relative to the host root"));
        }
        let mut names: Vec<&str> = family.glob.split('/').filter(|n| !n.is_empty()).collect();
        if names.iter().any(|n| n.contains("**")) {
            return Err(bad(&family.glob, "`**` is not supported"));
        }
        let wild = |n: &str| n.contains(['*', '?', '[', '{']);
        let fixed = names.iter().take_while(|n| !wild(n)).count().min(names.len() - 1);
        let parts = names.split_off(fixed).into_iter().map(matcher).collect::<Result<_, _>>()?;
        let except = family.except.iter().map(|e| matcher(e)).collect::<Result<_, _>>()?;
        Ok(Self { base: names.iter().collect(), parts, except })
    }

    fn run(&self, host: &Host, logs: &mut BTreeSet<Log>, gaps: &mut Vec<Gap>) -> Result<(), Gap> {
        match Dir::base(host, &self.base) {
            Ok(mut dir) => self.walk(&mut dir, &self.parts, logs, gaps),
            // Most globs are for some distribution that this is not.
            Err(e) if e.is_not_found() => {}
            Err(e) => return Err(gap(&e)),
        }
        Ok(())
    }

    fn walk(&self, dir: &mut Dir, parts: &[GlobMatcher], logs: &mut BTreeSet<Log>, gaps: &mut Vec<Gap>) {
        let [part, deeper @ ..] = parts else { return };
        let names = match dir.names() {
            Ok(names) => names,
            Err(e) => return gaps.push(gap(&e)),
        };
        if names.more {
            gaps.push(too_many(dir.path()));
        }
        for (name, kind) in names.entries.into_iter().filter(|(name, _)| part.is_match(name)) {
            if self.except.iter().any(|e| e.is_match(dir.path().join(&name))) {
                continue;
            }
            if deeper.is_empty() {
                self.found(dir, name, logs, gaps);
            } else if matches!(kind, EntryKind::Dir | EntryKind::Other) {
                match dir.dir(&name) {
                    Ok(mut inner) => self.walk(&mut inner, deeper, logs, gaps),
                    Err(e) if e.is_not_found() => {}
                    Err(e) => gaps.push(gap(&e)),
                }
            }
        }
    }

    fn found(&self, dir: &Dir, name: OsString, logs: &mut BTreeSet<Log>, gaps: &mut Vec<Gap>) {
        // Everything but a regular file is refused when it is opened; here it is only about the size.
        let need = dir.stat(&name).map_or(0, |f| f.size);
        let log = Log { need, dir: dir.path().to_owned(), name };
        if logs.iter().any(|l| (&l.dir, &l.name) == (&log.dir, &log.name)) {
            return;
        }
        if logs.len() == MAX_LOGS {
            let why = format!("more than {MAX_LOGS} files: /{} was not looked at", log.dir.join(&log.name).display());
            return gaps.push(Gap::new(GapReason::Budget, why));
        }
        logs.insert(log);
    }
}

/// The zone of the host: where `etc/localtime` points, or what it holds; UTC when it does not say.
fn host_zone(host: &Host) -> HostZone {
    if let Ok(link) = host.link("etc/localtime") {
        let text = link.to_string_lossy();
        let name = text.rsplit_once("zoneinfo/").map_or(&*text, |(_, name)| name).to_owned();
        if matches!(&*name, "UTC" | "Etc/UTC" | "Universal" | "Zulu" | "Etc/UCT" | "UCT") {
            return HostZone::utc(name);
        }
        let path = Path::new("usr/share/zoneinfo").join(&name);
        let rules = path.parent().zip(path.file_name()).and_then(|(dir, file)| zone_file(host, dir, file, &name));
        return match rules {
            Some(zone) => HostZone { zone, name },
            None => HostZone::utc(format!("UTC (the rules of zone {name} could not be read)")),
        };
    }
    match zone_file(host, Path::new("etc"), "localtime".as_ref(), "localtime") {
        Some(zone) => HostZone { zone, name: "the zone of etc/localtime".to_owned() },
        None => HostZone::utc("UTC"),
    }
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
    use crate::logs::LogConfig;

    #[test]
    fn a_glob_that_leads_elsewhere_is_an_error_of_the_configuration() {
        for bad in ["/var/log/x", "../x", "var/../x", "var/**/x", "var/log/[", ""] {
            assert!(Search::new(&FilesConfig { glob: bad.to_owned(), except: Vec::new() }).is_err(), "{bad}");
        }
        let search = Search::new(&FilesConfig { glob: "var/log/*/x.log".to_owned(), except: Vec::new() });
        let search = search.map_err(|g| g.detail).unwrap();
        assert_eq!((search.base.to_str(), search.parts.len()), (Some("var/log"), 2));
        let literal = Search::new(&FilesConfig { glob: "var/log/syslog".to_owned(), except: Vec::new() });
        assert_eq!(literal.map_err(|g| g.detail).unwrap().base, Path::new("var/log"));
    }

    #[test]
    fn the_default_configuration_is_valid() {
        let config = LogConfig::builtin();
        assert!(!config.files.is_empty());
        for family in &config.files {
            Search::new(family).map_err(|g| g.detail).unwrap();
        }
    }
}
