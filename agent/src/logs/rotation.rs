//! The files that one log consists of: the current one and those that rotation left, in the order in which they were
//! written, whatever happens to their names while they are looked for.
//!
//! Rotation renames: a file that was listed as `0.log` may be `0.log.20261123-144425` when it is opened, and a new `0.log`
//! in its place. So files are told apart by inode, and the directory is listed again until nothing new turns up, or until
//! it says itself that no name in it was changed since. A file that is held open cannot be lost, nor can its inode be
//! given to another.

use std::cmp::Reverse;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;

use casefile_proto::gap::{Gap, GapReason};

use super::open::{Dir, Listing, LogFile, Version, gap, too_many};
use crate::host::HostError;

/// The most files of one log that are held open at a time; the oldest beyond it are left out, and that is said.
pub(super) const MAX_FILES: usize = 64;

/// How often a directory is listed while its names keep changing.
const ROUNDS: usize = 16;

/// Where a file stands in its log; orders from old to new.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// A log that was begun anew (a container's restarts) has several groups.
    pub(super) group: u32,
    /// Within the group.
    pub(super) age: Age,
    /// Compressed; after the plain file of the same age, which is preferred.
    pub(super) packed: bool,
}

/// How a rotated file is told from the current one by its name; orders from old to new.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Age {
    /// `syslog.3`: the higher the older.
    Numbered(Reverse<u32>),
    /// `0.log.20261123-144425`, `syslog-20261123`.
    Dated(String),
    /// Written to at present.
    Current,
}

/// One file of a log.
#[derive(Debug)]
pub(super) struct Found {
    /// Where it stands.
    pub(super) place: Place,
    /// It.
    pub(super) file: LogFile,
}

/// What a container runtime and kubelet name the log of a container: `RESTARTS.log`, `….log.YYYYMMDD-HHMMSS`, and `….gz`.
pub(super) fn container_log(name: &OsStr) -> Option<Place> {
    let (restart, rest) = name.to_str()?.split_once(".log")?;
    let group = restart.bytes().all(|b| b.is_ascii_digit()).then(|| restart.parse().ok())??;
    let (rest, packed) = unpacked(rest);
    let age = match rest {
        "" if packed => return None,
        "" => Age::Current,
        dated => Age::Dated(dated.strip_prefix('.').filter(|d| is_date(d))?.to_owned()),
    };
    Some(Place { group, age, packed })
}

/// What logrotate makes of a log's name: `NAME.1`, `NAME-20261123`, `NAME.20261123`, and `….gz`.
pub(super) fn rotated_name(log: &OsStr, name: &OsStr) -> Option<Place> {
    let (rest, packed) = unpacked(name.to_str()?.strip_prefix(log.to_str()?)?);
    let age = match rest.strip_prefix(['.', '-']) {
        None if rest.is_empty() && !packed => Age::Current,
        Some(n) if n.len() <= 4 && rest.starts_with('.') && n.bytes().all(|b| b.is_ascii_digit()) => {
            Age::Numbered(Reverse(n.parse().ok()?))
        }
        Some(date) if is_date(date) => Age::Dated(date.to_owned()),
        _ => return None,
    };
    Some(Place { group: 0, age, packed })
}

/// The log of which rotation may have made a file of this name.
pub(super) fn log_of(name: &OsStr) -> Option<&OsStr> {
    let text = name.to_str()?;
    let ends = text.match_indices(['.', '-']).map(|(at, _)| OsStr::new(&text[..at]));
    ends.into_iter().find(|log| !log.is_empty() && rotated_name(log, name).is_some())
}

fn unpacked(rest: &str) -> (&str, bool) {
    rest.strip_suffix(".gz").map_or((rest, false), |r| (r, true))
}

/// `20261123` and what may follow it: `-144425`, `T144425`, a Unix time.
fn is_date(text: &str) -> bool {
    text.len() >= 8
        && text.bytes().take(8).all(|b| b.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'T' | b'_'))
}

/// The files of a log.
#[derive(Debug)]
pub(super) struct Gathered {
    /// Oldest first, as far as their names say it.
    pub(super) found: Vec<Found>,
    /// Whether the names are those of one moment. Else some were looked at before, and some after they had moved on.
    pub(super) still: bool,
    /// What could not be opened.
    pub(super) gaps: Vec<Gap>,
}

/// Opens every file of a directory to which `place` gives a place.
pub(super) fn gather(dir: &mut Dir, place: impl Fn(&OsStr) -> Option<Place>) -> Result<Gathered, HostError> {
    gather_from(dir, place, None)
}

/// The same, where somebody has listed the directory: the names that can have a place, and when that was so.
pub(super) fn gather_from(
    dir: &mut Dir,
    place: impl Fn(&OsStr) -> Option<Place>,
    mut listed: Option<(Vec<&OsStr>, Version)>,
) -> Result<Gathered, HostError> {
    let mut found: Vec<Found> = Vec::new();
    let mut gaps = Vec::new();
    let mut told: Vec<OsString> = Vec::new();
    // Names that were listed and gone when their turn came.
    let mut gone: Vec<Place> = Vec::new();
    let (mut settled, mut still) = (false, false);
    for _ in 0..ROUNDS {
        let (names, version) = match listed.take().filter(|(_, version)| dir.is_still(*version)) {
            Some((names, version)) => (names.into_iter().map(OsStr::to_owned).collect(), version),
            None => {
                let Listing { names, version } = dir.list(|name| place(name).is_some())?;
                if names.more && told.is_empty() {
                    gaps.push(too_many(dir.path()));
                    told.push(OsString::new());
                }
                (names.entries.into_iter().map(|(name, _)| name).collect::<Vec<_>>(), version)
            }
        };
        let mut places: Vec<(Place, OsString)> =
            names.into_iter().filter_map(|name| Some((place(&name)?, name))).collect();
        places.sort_by(|a, b| a.0.cmp(&b.0));
        let too_many = places.len().saturating_sub(MAX_FILES);
        if too_many > 0 && found.is_empty() {
            let why = format!("{too_many} older files of /{} were not looked at", dir.path().display());
            gaps.push(Gap::new(GapReason::Budget, why));
        }
        let mut news = false;
        for (place, name) in places.into_iter().skip(too_many) {
            let known = match dir.stat(&name) {
                Ok(facts) => found.iter_mut().find(|f| f.file.facts.identity == facts.identity),
                // Renamed since it was listed: the next listing has its new name.
                Err(e) if e.is_not_found() => {
                    news = true;
                    gone.push(place);
                    continue;
                }
                Err(_) => None,
            };
            if let Some(known) = known {
                known.place = place;
                continue;
            }
            if place.packed && found.iter().any(|f| f.place.group == place.group && f.place.age == place.age) {
                continue;
            }
            match dir.file(&name) {
                // Between the look and the opening it became one that is known.
                Ok(file) if found.iter().any(|f| f.file.facts.identity == file.facts.identity) => news = true,
                Ok(file) => {
                    found.push(Found { place, file });
                    news = true;
                }
                Err(e) if e.is_not_found() => {
                    news = true;
                    gone.push(place);
                }
                Err(_) if told.contains(&name) => {}
                Err(e) => {
                    gaps.push(gap(&e));
                    told.push(name);
                }
            }
        }
        still = dir.is_still(version);
        if !news || still {
            settled = true;
            break;
        }
    }
    if !settled {
        let why = format!("the names in /{} changed faster than they were listed", dir.path().display());
        gaps.push(Gap::new(GapReason::RotatedAway, why));
    }
    still = still || is_as_found(dir, &place, &found);
    found.sort_by(|a, b| a.place.cmp(&b.place));
    if is_lost(&gone, &found) {
        let why = format!("files of /{} were removed before they could be opened", dir.path().display());
        gaps.push(Gap::new(GapReason::RotatedAway, why));
    }
    Ok(Gathered { found, still, gaps })
}

/// Whether every file that was found still has the name by which its place was known.
fn is_as_found(dir: &mut Dir, place: &impl Fn(&OsStr) -> Option<Place>, found: &[Found]) -> bool {
    let Ok(names) = dir.names(|name| place(name).is_some()) else { return false };
    let mut as_found = 0;
    for (name, _) in names.entries {
        let (Some(place), Ok(facts)) = (place(&name), dir.stat(&name)) else { return false };
        match found.iter().find(|f| f.file.facts.identity == facts.identity) {
            Some(known) if known.place == place => as_found += 1,
            Some(_) => return false,
            // One that nobody wanted, or that is new.
            None => {}
        }
    }
    as_found == found.len()
}

/// Whether one of the names that were gone stood for a file that was not found under another name either. While the oldest
/// files are removed, one that is not the oldest of those that are held may go unread; what was rotated away before all of
/// them is told by the time of the first record.
fn is_lost(gone: &[Place], found: &[Found]) -> bool {
    let older = |place: &Place| found.iter().any(|f| f.place.group == place.group && f.place.age < place.age);
    gone.iter().filter(|place| older(place)).any(|place| match place.age {
        // The name says which file it was, packed or not.
        Age::Dated(_) => found.iter().all(|f| f.place.group != place.group || f.place.age != place.age),
        // Names move on: only where files were removed while others were looked for can one be missing.
        Age::Numbered(_) => found.iter().any(|f| f.file.file.metadata().is_ok_and(|m| m.nlink() == 0)),
        // It has a date or a number by now, and was found by it or is told by that.
        Age::Current => false,
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs;

    use super::*;
    use crate::host::Host;

    /// Gathers while `happens` is done to the directory between its first listing and the opening of what it listed.
    fn contents(happens: impl Fn(&std::path::Path)) -> Vec<String> {
        let (contents, gaps) = gathered(happens);
        assert!(gaps.is_empty(), "{gaps:?}");
        contents
    }

    fn gathered(happens: impl Fn(&std::path::Path)) -> (Vec<String>, Vec<Gap>) {
        let tmp = tempfile::tempdir().unwrap();
        let logs = tmp.path().join("app");
        fs::create_dir(&logs).unwrap();
        fs::write(logs.join("0.log.20261123-000001"), "first").unwrap();
        fs::write(logs.join("0.log"), "second").unwrap();
        let mut dir = Dir::base(&Host::new(tmp.path()).unwrap(), "app").unwrap();
        let listed = Cell::new(false);
        let place = |name: &OsStr| {
            if !listed.replace(true) {
                happens(&logs);
            }
            container_log(name)
        };
        let Gathered { found, gaps, .. } = gather(&mut dir, place).unwrap();
        (found.iter().map(|f| std::io::read_to_string(&f.file.file).unwrap()).collect(), gaps)
    }

    #[test]
    fn a_file_that_goes_before_it_is_opened_while_an_older_one_is_held_is_told() {
        let (contents, gaps) = gathered(|dir| {
            fs::rename(dir.join("0.log"), dir.join("0.log.20261123-000002")).unwrap();
            fs::write(dir.join("0.log"), "third").unwrap();
        });
        assert_eq!((contents.len(), gaps.len()), (3, 0));
        // Two rotations in the time of two openings: the older file is held, the one after it is gone for good.
        let tmp = tempfile::tempdir().unwrap();
        let logs = tmp.path().join("app");
        fs::create_dir(&logs).unwrap();
        for name in ["0.log.20261123-000001.gz", "0.log.20261123-000002.gz", "0.log.20261123-000003", "0.log"] {
            fs::write(logs.join(name), name).unwrap();
        }
        let mut dir = Dir::base(&Host::new(tmp.path()).unwrap(), "app").unwrap();
        let place = |name: &OsStr| {
            let _it_may_be_gone = fs::remove_file(logs.join("0.log.20261123-000002.gz"));
            container_log(name)
        };
        let Gathered { found, gaps, .. } = gather(&mut dir, place).unwrap();
        assert_eq!((found.len(), gaps.len()), (3, 1));
        assert_eq!(gaps[0].reason, GapReason::RotatedAway);
        assert!(gaps[0].detail.contains("removed before they could be opened"), "{gaps:?}");
    }

    #[test]
    fn a_rotation_between_listing_and_opening_loses_nothing_and_doubles_nothing() {
        assert_eq!(contents(|_| {}), ["first", "second"]);
        let rename = |dir: &std::path::Path| {
            fs::rename(dir.join("0.log"), dir.join("0.log.20261123-000002")).unwrap();
            fs::write(dir.join("0.log"), "third").unwrap();
        };
        assert_eq!(contents(rename), ["first", "second", "third"]);
        // Kubelet compresses the older file at the same time; nobody inflates it here.
        assert_eq!(
            contents(|dir| {
                rename(dir);
                fs::rename(dir.join("0.log.20261123-000001"), dir.join("0.log.20261123-000001.gz")).unwrap();
            }),
            ["first", "second", "third"]
        );
        // Renamed and not made anew yet.
        assert_eq!(
            contents(|dir| fs::rename(dir.join("0.log"), dir.join("0.log.20261123-000002")).unwrap()),
            ["first", "second"]
        );
        // A restart removes the oldest.
        assert_eq!(
            contents(|dir| {
                fs::remove_file(dir.join("0.log.20261123-000001")).unwrap();
                fs::write(dir.join("1.log"), "third").unwrap();
            }),
            ["second", "third"]
        );
    }

    #[test]
    fn names_are_put_in_the_order_in_which_they_were_written() {
        let order = |names: &[&str], place: &dyn Fn(&OsStr) -> Option<Place>| -> Vec<String> {
            let mut places: Vec<_> =
                names.iter().filter_map(|n| Some((place(OsStr::new(n))?, (*n).to_owned()))).collect();
            places.sort();
            places.into_iter().map(|(_, n)| n).collect()
        };
        let container = [
            "10.log",
            "0.log",
            "1.log.20261123-144425",
            "1.log",
            "0.log.20261123-144416.gz",
            "0.log.20261123-144425",
            "0.log.20261123-144425.gz.tmp",
            "a.log",
            ".log",
            "0.log.gz",
            "0.logx",
            "0.log.1",
            "+1.log",
            "99999999999.log",
        ];
        assert_eq!(
            order(&container, &container_log),
            ["0.log.20261123-144416.gz", "0.log.20261123-144425", "0.log", "1.log.20261123-144425", "1.log", "10.log"]
        );
        let syslog = ["syslog", "syslog.1", "syslog.10.gz", "syslog.2.gz", "syslog.old", "syslog2", "syslog.gz", "sys"];
        assert_eq!(
            order(&syslog, &|n| rotated_name(OsStr::new("syslog"), n)),
            ["syslog.10.gz", "syslog.2.gz", "syslog.1", "syslog"]
        );
        let logs = ["syslog.1", "a.log.10.gz", "a.log-20261123-1795401850", "a.log", ".1", "m-1", "a.1.2"];
        let logs: Vec<_> = logs.iter().map(|n| log_of(OsStr::new(n)).and_then(OsStr::to_str)).collect();
        assert_eq!(logs, [Some("syslog"), Some("a.log"), Some("a.log"), None, None, None, Some("a.1")]);
        let dated = ["m", "m-20261123", "m-20261101.gz", "m-20261123-1795401850", "m-2026"];
        assert_eq!(
            order(&dated, &|n| rotated_name(OsStr::new("m"), n)),
            ["m-20261101.gz", "m-20261123", "m-20261123-1795401850", "m"]
        );
    }
}
