//! Plain log files named by globs below the host root, with the files that logrotate left of them. The form of their
//! times is found out for each file by itself; a file in which none is found is named as a gap, never guessed at.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use casefile_evidence::logtime::style::HostZone;
use casefile_evidence::logtime::times::Times;
use casefile_proto::gap::{Gap, GapReason};
use globset::{GlobBuilder, GlobMatcher};

use super::declared::Declared;
use super::history::History;
use super::open::{Dir, gap, too_many};
use super::recognise::{differ, recognise};
use super::rotation::{gather, rotated_name};
use super::sink::{Before, Giving};
use super::text::{Text, TextForm};
use super::{Covered, FilesConfig, LogAsk, LogSink, LogSource, LogSpec, MAX_LOGS, component, item_path, now};
use crate::host::{EntryKind, Host};

/// The log source.
pub(super) const SPEC: LogSpec = LogSpec {
    name: "files",
    about: "Plain log files below var/log, their times recognised file by file",
    open: |host, config| Box::new(Files { host: host.clone(), families: config.files.clone() }),
};

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
    /// The position of its family.
    family: usize,
}

/// What is said of the times of a family, and the zone of those that name none.
struct FamilyTimes {
    declared: Declared,
    zone: Result<HostZone, Gap>,
}

impl LogSource for Files {
    fn read(&mut self, ask: &LogAsk, out: &mut dyn LogSink) -> Covered {
        let mut gaps = Vec::new();
        let mut logs = BTreeSet::new();
        // Where two globs name one file, the later counts: an operator's stanzas come after those that every agent knows.
        for (at, family) in self.families.iter().enumerate().rev() {
            if let Err(gap) = Search::new(family, at).and_then(|search| search.run(&self.host, &mut logs, &mut gaps)) {
                gaps.push(gap);
            }
        }
        if logs.is_empty() && gaps.is_empty() {
            gaps.push(Gap::new(GapReason::SourceAbsent, "no file matches the globs of the configuration"));
        }
        let times: Vec<_> = self.families.iter().map(|family| FamilyTimes::of(family, &self.host)).collect();
        let mut logs: Vec<Log> = logs.into_iter().take(MAX_LOGS).collect();
        let mut quiet = Vec::new();
        if logs.iter().map(|l| l.need).fold(0, u64::saturating_add) > ask.budget.0 {
            for log in &mut logs {
                let times = &times[log.family];
                if let Ok((history, zone)) = open(&self.host, log, ask, times, &mut quiet) {
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
            give(&self.host, log, ask, &times[log.family], &mut giving);
        }
        giving.finish(unread)
    }
}

impl FamilyTimes {
    fn of(family: &FilesConfig, host: &Host) -> Self {
        match Declared::of(family) {
            Ok(declared) => Self { zone: declared.zone(host), declared },
            Err(problems) => {
                let why = problems.iter().map(|(key, why)| format!("{key}: {why}")).collect::<Vec<_>>().join("; ");
                let gap = Gap::new(GapReason::SourceFailed, format!("the configuration of {:?}: {why}", family.glob));
                Self { zone: Err(gap), declared: Declared::default() }
            }
        }
    }
}

fn open<'t>(
    host: &Host,
    log: &Log,
    ask: &LogAsk,
    times: &'t FamilyTimes,
    gaps: &mut Vec<Gap>,
) -> Result<(History<TextForm>, &'t HostZone), Gap> {
    let zone = times.zone.as_ref().map_err(|gap| {
        Gap::new(gap.reason, format!("/{} was not read: {}", log.dir.join(&log.name).display(), gap.detail))
    })?;
    let mut dir = Dir::base(host, &log.dir).map_err(|e| gap(&e))?;
    let (found, refused) = gather(&mut dir, |name| rotated_name(&log.name, name)).map_err(|e| gap(&e))?;
    gaps.extend(refused);
    let mut before = None;
    let mut history = History::survey(found, |sample, file, place| {
        let recognised = recognise(sample, file, place.packed, zone, &times.declared, before);
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
    });
    // Of a compressed file the end was not looked at: if it went over to another form, the file after it is of that form.
    history.each_packed(|older, newer| {
        let changed = older.style.zip(newer.style).filter(|(old, new)| differ(*old, *new));
        older.other = older.other.or(changed.map(|(_, new)| new));
    });
    Ok((history, zone))
}

fn give(host: &Host, log: &Log, ask: &LogAsk, times: &FamilyTimes, giving: &mut Giving<'_>) {
    let mut gaps = Vec::new();
    let (mut history, zone) = match open(host, log, ask, times, &mut gaps) {
        Ok(opened) => opened,
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
    let times =
        Times::new(history.planned_forms().flat_map(|f| [f.style, f.other]).flatten(), &zone.zone, giving.window());
    let Some(mut item) = giving.dated_item(path, method, times) else { return };
    gaps.into_iter().for_each(|gap| item.gap(gap));
    let oldest = history.read(&mut grammar, &mut item);
    // Whatever stopped it, the item knows; what is held back is given as far as it is taken.
    let _ = grammar.finish(&mut item);
    item.end(oldest, if rotated { Before::RotatedAway } else { Before::NotRecorded });
}

/// One glob, taken apart at its slashes.
struct Search {
    family: usize,
    base: PathBuf,
    parts: Vec<GlobMatcher>,
    except: Vec<GlobMatcher>,
}

impl Search {
    fn new(family: &FilesConfig, at: usize) -> Result<Self, Gap> {
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
        Ok(Self { family: at, base: names.iter().collect(), parts, except })
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
        let log = Log { need, dir: dir.path().to_owned(), name, family: self.family };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::LogConfig;

    fn search(glob: &str) -> Result<Search, String> {
        let family = FilesConfig { glob: glob.to_owned(), ..FilesConfig::default() };
        Search::new(&family, 0).map_err(|gap| gap.detail)
    }

    #[test]
    fn a_glob_that_leads_elsewhere_is_an_error_of_the_configuration() {
        for bad in ["/var/log/x", "../x", "var/../x", "var/**/x", "var/log/[", ""] {
            assert!(search(bad).is_err(), "{bad}");
        }
        let wild = search("var/log/*/x.log").unwrap();
        assert_eq!((wild.base.to_str(), wild.parts.len()), (Some("var/log"), 2));
        assert_eq!(search("var/log/syslog").unwrap().base, Path::new("var/log"));
    }

    #[test]
    fn the_default_configuration_is_valid() {
        let config = LogConfig::builtin();
        assert!(!config.files.is_empty());
        for family in &config.files {
            Search::new(family, 0).map_err(|g| g.detail).unwrap();
            Declared::of(family).unwrap();
        }
    }
}
