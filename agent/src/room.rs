//! The room on the node's disk, of which the agent never takes the last: it is there for the node, not the other way round.
//!
//! Here: how much there is, and what the ring may hold of it, decided. The ring asks before it writes
//! ([`crate::ring`]), and so does the spool of a collection.

use std::io;
use std::path::Path;

use casefile_proto::units::Bytes;

/// What is left free on the disk when nothing is said: this part of it, in percent,
const LEAVE_PERCENT: u64 = 5;

/// and on a large one this much.
const LEAVE: Bytes = Bytes::mib(1024);

/// A ring that has to give way keeps this much: the last ten minutes of a busy node.
const KEEP: Bytes = Bytes::mib(8);

/// A file system at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// Its size.
    pub(crate) size: Bytes,
    /// What may still be written.
    pub(crate) free: Bytes,
}

/// How nearly full the disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// There is what is to be left free, or more.
    Enough,
    /// There is less: what grows has to give way.
    Low,
    /// There is less than half of that: nothing more is written.
    Out,
}

impl Room {
    /// Looks. May block where the file system does.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        let found = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| Bytes(blocks.saturating_mul(found.f_frsize));
        Ok(Self { size: bytes(found.f_blocks), free: bytes(found.f_bavail) })
    }

    /// What is to be left free of it: as it was configured, or as suits its size.
    pub(crate) fn to_leave(self, configured: Option<Bytes>) -> Bytes {
        configured.unwrap_or_else(|| Bytes(self.size.0 / 100 * LEAVE_PERCENT).min(LEAVE))
    }

    /// How nearly full it is, where so much is to be left.
    pub(crate) fn level(self, leave: Bytes) -> Level {
        if self.free >= leave {
            Level::Enough
        } else if self.free.0 >= leave.0 / 2 {
            Level::Low
        } else {
            Level::Out
        }
    }

    /// Whether there is room again after there was none: a little more than where it ended, so that it does not end at once.
    pub(crate) fn is_back(self, leave: Bytes) -> bool {
        self.free.0 >= leave.0 / 4 * 3
    }

    /// What a ring may hold that wants this much and holds that much, so that what is to be left stays free.
    pub(crate) fn for_ring(self, wanted: Bytes, held: Bytes, leave: Bytes) -> Bytes {
        let allowed = held.0.saturating_add(self.free.0).saturating_sub(leave.0);
        Bytes(allowed.max(KEEP.0).min(wanted.0))
    }

    /// That nothing is written any more, and why.
    pub(crate) fn refusal(self, leave: Bytes) -> io::Error {
        let Self { size, free } = self;
        let why = format!("the node's disk is nearly full: {free} of {size} are free, and {leave} are to be left");
        io::Error::new(io::ErrorKind::StorageFull, why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn room(size: u64, free: u64) -> Room {
        Room { size: Bytes::mib(size), free: Bytes::mib(free) }
    }

    #[test]
    fn a_twentieth_is_left_and_of_a_large_disk_a_gibibyte() {
        assert_eq!(room(100, 0).to_leave(None), Bytes::mib(5));
        assert_eq!(room(1 << 20, 0).to_leave(None), LEAVE);
        assert_eq!(room(100, 0).to_leave(Some(Bytes::mib(7))), Bytes::mib(7));
    }

    #[test]
    fn a_ring_may_grow_as_long_as_enough_is_left_and_gives_way_when_others_take_it() {
        let (wanted, leave) = (Bytes::mib(512), Bytes::mib(1024));
        assert_eq!(room(100_000, 50_000).for_ring(wanted, Bytes::mib(10), leave), wanted);
        assert_eq!(room(100_000, 1_100).for_ring(wanted, Bytes::mib(100), leave), Bytes::mib(176));
        assert_eq!(room(100_000, 1_000).for_ring(wanted, Bytes::mib(100), leave), Bytes::mib(76));
        assert_eq!(room(100_000, 1_000).for_ring(wanted, Bytes::mib(10), leave), KEEP);
        assert_eq!(room(100_000, 0).for_ring(Bytes::mib(4), Bytes::mib(3), leave), Bytes::mib(4));
    }

    #[test]
    fn it_ends_at_half_of_what_is_to_be_left_and_comes_back_above_that() {
        let leave = Bytes::mib(100);
        let levels = [100, 99, 50, 49].map(|free| room(2_000, free).level(leave));
        assert_eq!(levels, [Level::Enough, Level::Low, Level::Low, Level::Out]);
        assert!(room(2_000, 75).is_back(leave) && !room(2_000, 74).is_back(leave));
    }

    proptest! {
        /// Holding what it may, what is to be left stays free; unless that is less than a ring is of any use with.
        #[test]
        fn what_a_ring_may_hold_leaves_what_is_to_be_left(
            size in 1u64..1 << 44, free in any::<u64>(), held in 0u64..1 << 40, wanted in 1u64..1 << 40,
        ) {
            let now = Room { size: Bytes(size), free: Bytes(free % size) };
            let leave = now.to_leave(None);
            let may = now.for_ring(Bytes(wanted), Bytes(held), leave);
            prop_assert!(may <= Bytes(wanted));
            let free_then = (now.free.0 + held).saturating_sub(may.0);
            prop_assert!(free_then >= leave.0 || may <= KEEP, "{may:?} leaves {free_then} of {leave:?}");
        }
    }
}
