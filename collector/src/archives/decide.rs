//! When a failed copy is tried again, and how much room is to be made, decided. Pure.

use std::time::Duration;

use casefile_proto::units::Bytes;

use crate::space::FileSystem;
use crate::space::level::percent;

/// The longest wait: a store that is well again has everything within minutes.
const LONGEST: Duration = Duration::from_mins(5);

/// Room is made where less than this is free, in percent: more than taking evidence needs, and more than where the alert about a
/// disk that fills begins.
const FREE_PERCENT: u64 = 12;

/// How long to wait after this many failures one after the other: twice as long each time, up to five minutes, and of that
/// between half and all, as the dice say, so that many collectors do not come back at once.
pub(super) fn wait(failures: u32, dice: u64) -> Duration {
    let whole = Duration::from_secs(1 << failures.saturating_sub(1).min(16)).min(LONGEST);
    let half = u64::try_from(whole.as_nanos() / 2).unwrap_or(u64::MAX);
    whole - Duration::from_nanos(dice % (half + 1))
}

/// How much room archives must give up that are in the store as well. `None`: none, there is enough.
pub(super) fn wanted(disk: &FileSystem) -> Option<Bytes> {
    let enough = percent(disk.size.0, FREE_PERCENT);
    (disk.free.0 < enough).then(|| Bytes(enough - disk.free.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::level::{Access, Taking, taking};
    use proptest::prelude::*;

    #[test]
    fn it_waits_twice_as_long_each_time_and_never_longer_than_five_minutes() {
        let longest: Vec<_> = (1..=11).map(|failures| wait(failures, 0).as_secs()).collect();
        assert_eq!(longest, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(wait(u32::MAX, 0), LONGEST);
    }

    proptest! {
        #[test]
        fn whatever_the_dice_say_it_is_between_half_and_all(failures in 1u32..100, dice: u64) {
            let (whole, waited) = (wait(failures, 0), wait(failures, dice));
            prop_assert!(waited <= whole && waited >= whole / 2);
        }

        /// Otherwise evidence would be refused while a copy of what fills the disk is safe.
        #[test]
        fn room_is_made_before_evidence_is_refused(size in 1u64..1 << 44, free in any::<u64>()) {
            let (size, free) = (Bytes(size), Bytes(free % size));
            let disk = FileSystem { size, free, files: None, access: Access::Writable };
            if wanted(&disk).is_none() {
                prop_assert_eq!(taking(&disk, Taking::Yes), Taking::Yes);
            }
        }
    }
}
