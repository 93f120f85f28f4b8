//! Plain log files named by globs below the host root, with the files that logrotate left of them. The form of their
//! times is found out for each file by itself; a file in which none is found is named as a gap, never guessed at.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use casefile_evidence::logtime::style::HostZone;
use casefile_evidence::logtime::times::Times;
use casefile_proto::gap::{Gap, GapReason};
use globset::{GlobBuilder, GlobMatcher};

use super::declared::Declared;
use super::gaps::Gaps;
use super::history::History;
use super::open::{Dir, Listing, Version, gap, too_many};
use super::recognise::{differ, recognise};
use super::rotation::{gather_from, log_of, rotated_name};
use super::sink::{Before, Giving};
use super::text::{Text, TextForm};
use super::{Covered, FilesConfig, LogAsk, LogSink, LogSource, LogSpec, MAX_LOGS, component, item_path, now};
use crate::host::{EntryKind, Host, HostError};

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

/// What was found: directory and name of each log, its family, and how large its files are.
type Sizes = BTreeMap<(PathBuf, OsString), (usize, u64)>;

impl LogSource for Files {
    fn needs(&mut self, ask: &LogAsk, out: &mut dyn LogSink) -> Vec<u64> {
        // What is wrong is told when it is read.
        let mut logs = self.list(&mut Gaps::default());
        self.look_closer(&mut logs, ask, &self.times(), out);
        logs.into_iter().map(|l| l.need).collect()
    }

    fn read(&mut self, ask: &LogAsk, out: &mut dyn LogSink) -> Covered {
        let mut gaps = Gaps::default();
        let mut logs = self.list(&mut gaps);
        if logs.is_empty() && gaps.is_empty() {
            gaps.push(Gap::new(GapReason::SourceAbsent, "no file matches the globs of the configuration"));
        }
        let times = self.times();
        self.look_closer(&mut logs, ask, &times, out);
        logs.sort();
        let mut giving = Giving::new(SPEC.name, ask, now(&self.host), logs.len(), out);
        giving.gaps(gaps);
        let (mut unread, mut listed) = (logs.len(), Listed::of(&logs));
        for log in &logs {
            if giving.is_stopped() {
                break;
            }
            unread -= 1;
            give(&self.host, log, ask, &times[log.family], &mut listed, &mut giving);
        }
        giving.finish(unread)
    }
}

impl Files {
    /// Every log that the globs find.
    fn list(&self, gaps: &mut Gaps) -> Vec<Log> {
        let mut sizes = Sizes::new();
        // Where two globs name one file, the later counts: an operator's stanzas come after those that every agent knows.
        for (at, family) in self.families.iter().enumerate().rev() {
            if let Err(gap) = Search::new(family, at).and_then(|search| search.run(&self.host, &mut sizes, gaps)) {
                gaps.push(gap);
            }
        }
        sizes.into_iter().map(|((dir, name), (family, need))| Log { need, dir, name, family }).collect()
    }

    /// What is said of the times of each family.
    fn times(&self) -> Vec<FamilyTimes> {
        self.families.iter().map(|family| FamilyTimes::of(family, &self.host)).collect()
    }

    /// Only when not everything fits is it worth looking how much of each log is asked for.
    fn look_closer(&self, logs: &mut [Log], ask: &LogAsk, times: &[FamilyTimes], out: &mut dyn LogSink) {
        if logs.iter().map(|l| l.need).fold(0, u64::saturating_add) <= ask.budget.0 {
            return;
        }
        let (mut quiet, mut listed) = (Gaps::default(), Listed::of(logs));
        for log in logs {
            if out.check().is_break() {
                return;
            }
            let times = &times[log.family];
            if let Ok((history, zone)) = open(&self.host, log, ask, times, &mut listed, &mut quiet) {
                log.need = history.need(ask.window, &mut Text::new(zone.clone()));
            }
        }
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

/// Logs of one directory from which on it is listed once for all of them: each for itself would be a square of names where
/// somebody makes very many.
const LISTED_ONCE: usize = 16;

/// The directory that was listed last for many logs in it.
#[derive(Default)]
struct Listed {
    /// How many logs lie in each directory, and their names.
    logs: BTreeMap<PathBuf, BTreeSet<OsString>>,
    last: Option<(PathBuf, Listing)>,
}

impl Listed {
    fn of(logs: &[Log]) -> Self {
        let mut all: BTreeMap<PathBuf, BTreeSet<OsString>> = BTreeMap::new();
        for log in logs {
            all.entry(log.dir.clone()).or_default().insert(log.name.clone());
        }
        all.retain(|_, names| names.len() >= LISTED_ONCE);
        Self { logs: all, last: None }
    }

    /// The names that rotation may have given to files of this log, if its directory is listed once for all.
    fn names<'n>(
        &'n mut self,
        dir: &mut Dir,
        log: &'n Log,
        gaps: &mut Gaps,
    ) -> Result<Option<(Vec<&'n OsStr>, Version)>, HostError> {
        let Some(logs) = self.logs.get(&log.dir) else { return Ok(None) };
        if !self.last.as_ref().is_some_and(|(path, listing)| *path == log.dir && dir.is_still(listing.version)) {
            let listing = dir.list(|name| is_of_any(logs, name))?;
            if listing.names.more {
                gaps.push(too_many(dir.path()));
            }
            self.last = Some((log.dir.clone(), listing));
        }
        Ok(self.last.as_ref().map(|(_, l)| (l.names.beginning_with(&log.name).collect(), l.version)))
    }
}

/// Whether a name is that of one of these logs, or one that rotation may have made of it.
fn is_of_any(logs: &BTreeSet<OsString>, name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    let ends = bytes.iter().enumerate().filter(|(_, b)| matches!(b, b'.' | b'-')).map(|(at, _)| at);
    ends.chain([bytes.len()]).any(|end| logs.contains(OsStr::from_bytes(&bytes[..end])))
}

fn open<'t>(
    host: &Host,
    log: &Log,
    ask: &LogAsk,
    times: &'t FamilyTimes,
    listed: &mut Listed,
    gaps: &mut Gaps,
) -> Result<(History<TextForm>, &'t HostZone), Gap> {
    let zone = times.zone.as_ref().map_err(|gap| {
        Gap::new(gap.reason, format!("/{} was not read: {}", log.dir.join(&log.name).display(), gap.detail))
    })?;
    let mut dir = Dir::base(host, &log.dir).map_err(|e| gap(&e))?;
    let names = listed.names(&mut dir, log, gaps).map_err(|e| gap(&e))?;
    let place = |name: &OsStr| rotated_name(&log.name, name);
    let mut gathered = gather_from(&mut dir, place, names).map_err(|e| gap(&e))?;
    gaps.extend(std::mem::take(&mut gathered.gaps));
    let mut before = None;
    let mut history = History::survey(gathered, |sample, file, place| {
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

fn give(host: &Host, log: &Log, ask: &LogAsk, times: &FamilyTimes, listed: &mut Listed, giving: &mut Giving<'_>) {
    let mut gaps = Gaps::default();
    let (mut history, zone) = match open(host, log, ask, times, listed, &mut gaps) {
        Ok(opened) => opened,
        Err(gap) => return giving.gap(gap),
    };
    let gaps = gaps.finish();
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

/// What is wrong with a family, if anything.
pub(super) fn check(family: &FilesConfig) -> Result<(), Gap> {
    Search::new(family, 0).map(|_| ())
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

    fn run(&self, host: &Host, logs: &mut Sizes, gaps: &mut Gaps) -> Result<(), Gap> {
        match Dir::base(host, &self.base) {
            Ok(mut dir) => self.walk(&mut dir, &self.parts, logs, gaps),
            // Most globs are for some distribution that this is not.
            Err(e) if e.is_not_found() => {}
            Err(e) => return Err(gap(&e)),
        }
        Ok(())
    }

    fn walk(&self, dir: &mut Dir, parts: &[GlobMatcher], logs: &mut Sizes, gaps: &mut Gaps) {
        let [part, deeper @ ..] = parts else { return };
        // A log whose current file is not there at the moment is found by what rotation left of it.
        let log_of = |name: &OsStr| {
            let rotated = log_of(name).filter(|log| deeper.is_empty() && part.is_match(log));
            rotated.or_else(|| part.is_match(name).then_some(name)).map(OsStr::to_owned)
        };
        let names = match dir.names(|name| log_of(name).is_some()) {
            Ok(names) => names,
            Err(e) => return gaps.push(gap(&e)),
        };
        if names.more {
            gaps.push(too_many(dir.path()));
        }
        for (name, kind) in names.entries {
            let Some(log) = log_of(&name) else { continue };
            if self.except.iter().any(|e| e.is_match(dir.path().join(&log))) {
                continue;
            }
            if deeper.is_empty() {
                self.found(dir, &name, log, logs, gaps);
            } else if matches!(kind, EntryKind::Dir | EntryKind::Other) {
                match dir.dir(&name) {
                    Ok(mut inner) => self.walk(&mut inner, deeper, logs, gaps),
                    Err(e) if e.is_not_found() => {}
                    Err(e) => gaps.push(gap(&e)),
                }
            }
        }
    }

    fn found(&self, dir: &Dir, name: &OsStr, log: OsString, logs: &mut Sizes, gaps: &mut Gaps) {
        let log = (dir.path().to_owned(), log);
        if logs.len() >= MAX_LOGS && !logs.contains_key(&log) {
            let why = format!("more than {MAX_LOGS} files: /{} was not looked at", log.0.join(&log.1).display());
            return gaps.push(Gap::new(GapReason::Budget, why));
        }
        // Everything but a regular file is refused when it is opened; here it is only about the size.
        let size = dir.stat(name).map_or(0, |f| f.size);
        let (family, all) = logs.entry(log).or_insert((self.family, 0));
        if *family == self.family {
            *all = all.saturating_add(size);
        }
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
