//! Which processes there are and which of them are due at a tick: pure bookkeeping over lists of pids.
//!
//! What is read of a process that is due, and how, is in `files`.

use crate::pid::Io;
use crate::pid::stat::Numbers;

use super::files::Files;

/// A process at rest is read at every tenth tick; which one it is stays the same for its life.
pub(super) const SWEEP: u64 = 10;

/// What changes seldom (`status`, the cgroup) is read again after this many ticks; a whole number of sweeps, so that it
/// falls on a tick at which the process is read anyway.
pub(super) const DETAILS: u64 = 60;

/// Processes that are followed. One of the kernel's has six series and any other up to 22, so a node with more than some
/// 2,900 of the latter meets the limit of series of one source first, and is told of that.
pub(super) const MAX_PROCESSES: usize = 4_000;

/// A process that is followed.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) pid: u32,
    /// Its place in the round of [`DETAILS`] ticks; modulo [`SWEEP`] its place in the sweep.
    slot: u8,
    /// It was due when there was no time left for it.
    pub(super) overdue: bool,
    /// The agent may not look at it; tried again when it is swept.
    pub(super) refused: bool,
    /// It was not there when it was to be read.
    pub(super) gone: bool,
    pub(super) files: Files,
    /// `None` until it was read for the first time.
    pub(super) known: Option<Known>,
}

/// What is known of a process from its last reading.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) numbers: Numbers,
    pub(super) io: Option<Io>,
    /// It did something in its last interval, or is new: read again at the next tick.
    pub(super) busy: bool,
    /// The tick of the reading.
    pub(super) at: u64,
    pub(super) comm: Box<str>,
    pub(super) cgroup: Box<str>,
    pub(super) uid: Option<u32>,
}

impl Entry {
    /// Whether it is to be read at this tick.
    pub(super) fn is_due(&self, tick: u64) -> bool {
        self.overdue
            || u64::from(self.slot) % SWEEP == tick % SWEEP
            || (!self.refused && self.known.as_ref().is_none_or(|known| known.busy))
    }

    /// Whether what changes seldom is to be read with it.
    pub(super) fn details_are_due(&self, tick: u64) -> bool {
        u64::from(self.slot) == tick % DETAILS
    }
}

/// Every process that is followed, in order of pid.
#[derive(Debug)]
pub(super) struct Table {
    entries: Vec<Entry>,
    /// How many processes have each slot: a new one takes the emptiest, so that no tick has more to do than another.
    slots: [u32; DETAILS as usize],
}

impl Table {
    pub(super) const fn new() -> Self {
        Self { entries: Vec::new(), slots: [0; DETAILS as usize] }
    }

    /// Takes up the pids that are new and drops those that are gone. `pids` is sorted and has none twice. The answer is
    /// how many there are too many to follow.
    pub(super) fn follow(&mut self, pids: &[u32]) -> usize {
        let mut listed = pids.iter().copied().peekable();
        let mut fresh = Vec::new();
        let slots = &mut self.slots;
        self.entries.retain(|entry| {
            while let Some(new) = listed.next_if(|pid| *pid < entry.pid) {
                fresh.push(new);
            }
            let stays = listed.next_if_eq(&entry.pid).is_some();
            if !stays {
                slots[usize::from(entry.slot)] -= 1;
            }
            stays
        });
        fresh.extend(listed);
        self.take_up(fresh)
    }

    /// Takes up the pids that are new; those that it has stay. The answer is as for [`Table::follow`].
    pub(super) fn add(&mut self, pids: &[u32]) -> usize {
        let is_new = |pid: &u32| self.entries.binary_search_by_key(pid, |entry| entry.pid).is_err();
        let fresh = pids.iter().copied().filter(is_new).collect();
        self.take_up(fresh)
    }

    /// Drops what was found to be gone.
    pub(super) fn drop_gone(&mut self) {
        let slots = &mut self.slots;
        self.entries.retain(|entry| {
            if entry.gone {
                slots[usize::from(entry.slot)] -= 1;
            }
            !entry.gone
        });
    }

    fn take_up(&mut self, mut fresh: Vec<u32>) -> usize {
        let room = MAX_PROCESSES.saturating_sub(self.entries.len());
        let left_out = fresh.len().saturating_sub(room);
        fresh.truncate(room);
        if fresh.is_empty() {
            return left_out;
        }
        for pid in fresh {
            let slot = self.emptiest_slot();
            self.slots[usize::from(slot)] += 1;
            let (files, known) = (Files::default(), None);
            self.entries.push(Entry { pid, slot, overdue: false, refused: false, gone: false, files, known });
        }
        // Two sorted runs: one merge.
        self.entries.sort_by_key(|entry| entry.pid);
        left_out
    }

    fn emptiest_slot(&self) -> u8 {
        let emptiest = (0u8..).zip(self.slots).min_by_key(|(_, load)| *load);
        emptiest.map_or(0, |(slot, _)| slot)
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn entries_mut(&mut self) -> &mut [Entry] {
        &mut self.entries
    }

    /// The process with this pid, as far as it was read.
    pub(super) fn known(&self, pid: u32) -> Option<&Known> {
        let at = self.entries.binary_search_by_key(&pid, |entry| entry.pid).ok()?;
        self.entries[at].known.as_ref()
    }

    /// The position of the first process with at least this pid.
    pub(super) fn position(&self, pid: u32) -> usize {
        self.entries.partition_point(|entry| entry.pid < pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn at_rest(table: &mut Table) {
        let numbers = crate::pid::stat::parse(b"1 (x) S 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1 0 5 0 0\n").unwrap().numbers;
        for entry in table.entries_mut() {
            let (comm, cgroup) = (Box::from("x"), Box::from("/"));
            entry.known = Some(Known { numbers, io: None, busy: false, at: 0, comm, cgroup, uid: None });
        }
    }

    #[test]
    fn a_process_at_rest_is_due_at_exactly_every_tenth_tick() {
        let mut table = Table::new();
        table.follow(&(1..=401).collect::<Vec<_>>());
        assert!(table.entries().iter().all(|entry| entry.is_due(3)), "new ones are due at once");
        at_rest(&mut table);
        for entry in table.entries() {
            let due: Vec<u64> = (100..140).filter(|tick| entry.is_due(*tick)).collect();
            assert_eq!(due.len(), 4);
            assert!(due.windows(2).all(|pair| pair[1] - pair[0] == SWEEP));
            let details: Vec<u64> = (100..220).filter(|tick| entry.details_are_due(*tick)).collect();
            assert_eq!(details.len(), 2);
            assert!(details.iter().all(|tick| entry.is_due(*tick)), "details come with a reading");
        }
        for tick in 0..10 {
            let due = table.entries().iter().filter(|entry| entry.is_due(tick)).count();
            assert!((40..=41).contains(&due), "tick {tick}: {due}");
        }
    }

    #[test]
    fn what_may_not_be_read_is_tried_again_only_when_it_is_swept() {
        let mut table = Table::new();
        table.follow(&[7]);
        table.entries_mut()[0].refused = true;
        assert_eq!((0..20).filter(|tick| table.entries()[0].is_due(*tick)).count(), 2);
    }

    #[test]
    fn more_processes_than_are_followed_are_counted() {
        let mut table = Table::new();
        let pids: Vec<u32> = (1..=u32::try_from(MAX_PROCESSES).unwrap() + 5).collect();
        assert_eq!(table.follow(&pids), 5);
        assert_eq!(table.follow(&pids[6..]), 0, "room comes back when processes end");
    }

    proptest! {
        /// Whatever comes and goes: the table has exactly what is listed, in order, and the slots add up.
        #[test]
        fn the_table_follows_the_list(lists in prop::collection::vec(prop::collection::btree_set(1u32..60, 0..40), 1..12)) {
            let mut table = Table::new();
            for pids in &lists {
                let pids: Vec<u32> = pids.iter().copied().collect();
                // The same list in two parts, and what vanished in between.
                table.add(&pids[pids.len() / 2..]);
                if let Some(entry) = table.entries_mut().first_mut() {
                    entry.gone = true;
                }
                table.drop_gone();
                table.follow(&pids);
                prop_assert_eq!(table.entries().iter().map(|e| e.pid).collect::<Vec<_>>(), pids.clone());
                prop_assert_eq!(table.slots.iter().sum::<u32>() as usize, pids.len());
            }
            let last: BTreeSet<u32> = lists.last().unwrap().clone();
            for pid in 1..60 {
                let at = table.position(pid);
                prop_assert_eq!(table.entries().get(at).map(|e| e.pid), last.range(pid..).next().copied());
            }
        }
    }
}
