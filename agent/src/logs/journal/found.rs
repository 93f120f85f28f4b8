//! The journal files of the host: persistent and volatile ones, of every machine id, namespace and user, rotated ones and
//! those that a crash left, and what was received from elsewhere; opened as every log is.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::ops::ControlFlow;
use std::path::PathBuf;

use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::time::{WallTime, Window};

use super::super::open::{Dir, LogFile, gap, too_many};
use super::super::sink::Before;
use super::super::{LogSink, Stop};
use crate::host::{EntryKind, Host, HostError};
use crate::journal::{Journals, Refused};

/// Where journald keeps its files, and in memory until there is a disk.
const BASES: [&str; 2] = ["var/log/journal", "run/log/journal"];

/// So many files are looked at: at journald's own limits a host has some hundred.
const MAX_FILES: usize = 2048;

/// So many hold something of the window and are read side by side; each has a block of 32 KiB.
const MAX_READ: usize = 128;

/// How often a directory is listed while its names keep changing.
const ROUNDS: usize = 5;

/// What there is.
pub(super) struct Found {
    pub(super) journals: Journals<File>,
    /// Of the files in `journals`, by their number.
    names: Vec<PathBuf>,
    /// Of files that are not in `journals`, and what could not be opened.
    pub(super) gaps: Vec<Gap>,
    /// What is known of each file: whether it is the system's own, its earliest time, whether it was the first of its row.
    begins: Vec<Begins>,
}

struct Begins {
    system: bool,
    /// Its number among those that are read, for what only reading shows.
    kept: Option<usize>,
    oldest: Option<u64>,
    first: bool,
}

impl Found {
    /// Opens them all.
    pub(super) fn open(host: &Host, window: Window, out: &mut dyn LogSink) -> Self {
        let mut found = Self {
            journals: Journals::new(micros(window.from()), micros(window.until())),
            names: Vec::new(),
            gaps: Vec::new(),
            begins: Vec::new(),
        };
        let mut search = Search { known: HashSet::new(), looked_at: 0, left_out: 0 };
        for base in BASES {
            if let Err(e) = search.base(host, base, &mut found, out)
                && !e.is_not_found()
            {
                found.gaps.push(gap(&e));
            }
        }
        if search.left_out > 0 {
            let why = format!(
                "{} journal files were not looked at: more than {MAX_FILES}, more than {MAX_READ} of the window, or no time",
                search.left_out
            );
            found.gaps.push(Gap::new(GapReason::Budget, why));
        }
        found
    }

    /// Whether no journal file could be read: because there is none, unless the gaps say otherwise.
    pub(super) fn is_nothing(&self) -> bool {
        self.begins.is_empty()
    }

    /// Relative to the host root.
    pub(super) fn name(&self, number: usize) -> &std::path::Path {
        self.names.get(number).map_or(std::path::Path::new(""), PathBuf::as_path)
    }

    /// Since when there is a journal, and what was before; to be asked when the files were read. The files of users begin
    /// when something of theirs is logged: where there are files of the system, these count.
    pub(super) fn begin(&self) -> (Option<WallTime>, Before) {
        let system = self.begins.iter().any(|b| b.system);
        let oldest = |b: &Begins| b.kept.and_then(|n| self.journals.files().get(n)?.oldest()).or(b.oldest);
        let files = self.begins.iter().filter(|b| b.system || !system);
        let begin = files.filter_map(|b| Some((oldest(b)?, !b.first))).min();
        let before = if begin.is_some_and(|(_, lost)| lost) { Before::RotatedAway } else { Before::NotRecorded };
        (begin.map(|(at, _)| wall(at)), before)
    }
}

struct Search {
    /// Device and inode: what is mounted in two places is one.
    known: HashSet<(u64, u64)>,
    looked_at: usize,
    left_out: u64,
}

impl Search {
    fn base(&mut self, host: &Host, base: &str, found: &mut Found, out: &mut dyn LogSink) -> Result<(), HostError> {
        let mut dir = Dir::base(host, base)?;
        self.files(&mut dir, found, out)?;
        for (name, kind) in dir.names(|_| true)?.entries {
            if kind == EntryKind::File || is_journal(&name) {
                continue;
            }
            match dir.dir(&name).and_then(|mut below| self.files(&mut below, found, out)) {
                Ok(()) => {}
                // It went away, or it is no directory.
                Err(e) if e.is_not_found() => {}
                Err(e) => found.gaps.push(gap(&e)),
            }
        }
        Ok(())
    }

    /// A rotation renames: `system.journal` may be another file when it is opened than when it was listed. So files are told
    /// apart by inode, and the directory is listed again until nothing new turns up.
    fn files(&mut self, dir: &mut Dir, found: &mut Found, out: &mut dyn LogSink) -> Result<(), HostError> {
        let mut told: Vec<OsString> = Vec::new();
        for round in 0..ROUNDS {
            let names = dir.names(|_| true)?;
            if names.more && round == 0 {
                found.gaps.push(too_many(dir.path()));
            }
            let mut names: Vec<_> = names.entries.into_iter().map(|(name, _)| name).filter(|n| is_journal(n)).collect();
            // Those that are written to at present first: of too many, they are wanted most.
            names.sort_by_key(|n| n.as_encoded_bytes().contains(&b'@'));
            let mut news = false;
            for name in names {
                let stop: ControlFlow<Stop> = out.check();
                if stop.is_break() || self.looked_at == MAX_FILES {
                    self.left_out += u64::from(round == 0);
                    continue;
                }
                match dir.stat(&name) {
                    Ok(facts) if self.known.contains(&facts.identity) => continue,
                    _ if told.contains(&name) => continue,
                    _ => self.looked_at += 1,
                }
                match dir.file(&name) {
                    Ok(file) => news |= self.file(&name, file, found),
                    // Renamed or removed since it was listed.
                    Err(e) if e.is_not_found() => news = true,
                    Err(e) => {
                        found.gaps.push(gap(&e));
                        told.push(name);
                    }
                }
            }
            if !news {
                break;
            }
        }
        Ok(())
    }

    /// Takes a file in. `false`: it is known under another name.
    fn file(&mut self, name: &OsStr, file: LogFile, found: &mut Found) -> bool {
        if !self.known.insert(file.facts.identity) {
            return false;
        }
        if found.names.len() == MAX_READ {
            self.left_out += 1;
            return true;
        }
        match found.journals.add(file.file) {
            Ok(added) => {
                found.begins.push(Begins {
                    system: name.as_encoded_bytes().starts_with(b"system"),
                    kept: added.kept,
                    oldest: added.oldest,
                    first: added.head_seqnum <= 1,
                });
                if added.kept.is_some() {
                    found.names.push(file.path);
                }
            }
            Err(e) => {
                let reason = match e {
                    Refused::Io(_) => GapReason::SourceFailed,
                    _ => GapReason::ParseFailed,
                };
                found.gaps.push(Gap::new(reason, format!("/{}: {e}", file.path.display())));
            }
        }
        true
    }
}

fn is_journal(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.ends_with(b".journal") || name.ends_with(b".journal~")
}

/// The first microsecond that does not lie before this time.
fn micros(at: WallTime) -> u64 {
    u64::try_from(at.nanos().div_euclid(1000) + i64::from(at.nanos().rem_euclid(1000) > 0)).unwrap_or(0)
}

/// A time of the journal.
pub(super) fn wall(micros: u64) -> WallTime {
    WallTime::from_nanos(i64::try_from(micros).unwrap_or(i64::MAX).saturating_mul(1000))
}
