//! Which pids `/proc` lists: the whole list at every tenth tick, and in between only what lies behind the newest process.
//!
//! The kernel makes a directory entry for every process that it lists, so four hundred cost more than a hundred reads.
//! It gives out pids in rising order, and a place in the list of `/proc` is a pid and a constant; so the list can be
//! begun behind the newest process. Pids begin again at the bottom after `pid_max`: such a process is found by the next
//! whole list. Where `/proc` is not the kernel's own, as in a fixture, every list is a whole one.

use crate::host::{Dir, HostError};
use crate::pid;

/// Ticks between two whole lists.
const WHOLE: u64 = 10;

/// The pids of `/proc`.
#[derive(Debug)]
pub(super) struct Pids {
    lists: Lists,
    pids: Vec<u32>,
    /// What a place in the list is more than the pid that stands there; `None` where it is no such thing.
    constant: Option<u64>,
    /// The newest process: when it started, and its pid.
    newest: (i64, u32),
}

/// Which lists may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lists {
    /// The kernel's own `/proc`: where places are pids and a constant, lists may begin behind the newest process.
    Shortened,
    /// Some other file system.
    Whole,
}

/// What a list is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listed {
    /// Every process there is.
    All,
    /// Processes behind the newest that was known.
    Newer,
}

impl Pids {
    pub(super) const fn new(lists: Lists) -> Self {
        Self { lists, pids: Vec::new(), constant: None, newest: (-1, 0) }
    }

    /// What the last list had, in order.
    pub(super) fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// Lists what is due at this tick.
    pub(super) fn list(&mut self, proc: &mut Dir, tick: u64) -> Result<Listed, HostError> {
        self.pids.clear();
        if let Some(constant) = self.constant.filter(|_| tick % WHOLE != 1) {
            let (newest, pids) = (self.newest.1, &mut self.pids);
            let place = u64::from(newest) + 1 + constant;
            proc.each_from(place, &mut |name, _, _| {
                pids.extend(pid::from_name(name.as_encoded_bytes()).filter(|pid| *pid > newest));
            })?;
            return Ok(Listed::Newer);
        }
        let mut places = Places::default();
        let pids = &mut self.pids;
        proc.each_from(0, &mut |name, _, next| {
            let pid = pid::from_name(name.as_encoded_bytes());
            pids.extend(pid);
            places.entry(pid, next);
        })?;
        self.constant = places.constant().filter(|_| self.lists == Lists::Shortened);
        // The kernel lists them in order; a fixture's file system need not.
        self.pids.sort_unstable();
        self.pids.dedup();
        Ok(Listed::All)
    }

    /// A process was read: the newest of all is remembered.
    pub(super) fn saw(&mut self, start: i64, pid: u32) {
        self.newest = self.newest.max((start, pid));
    }
}

/// Finds out what places are from a whole list: the place of an entry is told by the entry before it.
#[derive(Debug, Default)]
struct Places {
    /// The place of the next entry.
    next: Option<u64>,
    /// The largest difference between a place and its pid. A process that ended just as the list came to it leaves a
    /// smaller one.
    largest: u64,
    agree: u32,
    differ: u32,
}

impl Places {
    fn entry(&mut self, pid: Option<u32>, next: u64) {
        if let (Some(pid), Some(place)) = (pid, self.next) {
            match place.checked_sub(u64::from(pid)) {
                Some(difference) if difference == self.largest => self.agree += 1,
                Some(difference) if difference > self.largest => {
                    self.differ += self.agree;
                    (self.largest, self.agree) = (difference, 1);
                }
                _ => self.differ += 1,
            }
        }
        self.next = pid.map(|_| next);
    }

    /// The constant, if nearly all places agree on it and it is as small as the kernel's own (258 today: 256 for what is
    /// no process, `self` and `thread-self`).
    fn constant(&self) -> Option<u64> {
        (self.agree >= 8 && self.differ <= self.agree / 8 && self.largest < 4_096).then_some(self.largest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;
    use std::path::Path;

    fn constant(entries: &[(u32, u64)]) -> Option<u64> {
        let mut places = Places::default();
        for (pid, next) in entries {
            places.entry(Some(*pid), *next);
        }
        places.constant()
    }

    #[test]
    fn the_constant_is_what_the_places_agree_on() {
        let mut pids: Vec<u32> = (1..20).map(|n| n * 7).collect();
        let entries: Vec<(u32, u64)> = pids.windows(2).map(|w| (w[0], u64::from(w[1]) + 258)).collect();
        assert_eq!(constant(&entries), Some(258));
        // The 71st ended between two calls: the place was its own, and what came next was another.
        pids[9] += 3;
        let mut raced = entries.clone();
        raced[9].0 = pids[9];
        assert_eq!(constant(&raced), Some(258));
        let hashes: Vec<(u32, u64)> = (1..40u32).map(|n| (n, u64::from(n.wrapping_mul(2_654_435_761)) << 20)).collect();
        assert_eq!(constant(&hashes), None);
        assert_eq!(constant(&entries[..4]), None, "too few to tell");
    }

    #[expect(clippy::disallowed_methods, reason = "a process to be found")]
    #[test]
    fn a_new_process_is_found_behind_the_newest_and_by_every_whole_list() {
        let host = Host::new(Path::new("/")).unwrap();
        let mut proc = host.dir("proc").unwrap();
        let mut pids = Pids::new(Lists::Shortened);
        assert_eq!(pids.list(&mut proc, 1).unwrap(), Listed::All);
        let own = std::process::id();
        assert!(pids.pids().contains(&own) && pids.pids().is_sorted());
        pids.saw(i64::MAX - 1, *pids.pids().last().unwrap());
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let newer = pids.list(&mut proc, 2).unwrap();
        let found = pids.pids().contains(&child.id());
        let wrapped = child.id() < pids.newest.1;
        assert!(found || (wrapped && newer == Listed::Newer));
        if newer == Listed::Newer {
            assert!(pids.pids().iter().all(|pid| *pid > pids.newest.1));
        }
        assert_eq!(pids.list(&mut proc, 11).unwrap(), Listed::All);
        assert!(pids.pids().contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
