//! When a record of the kernel log was made, on both clocks: the kernel stamps records with a clock of its own, which
//! does not count suspend and is not kept in step, and drifts away from the boot clock by seconds in a month.

use std::time::Duration;

use casefile_proto::time::{BootTime, Stamp, WallTime};
use rustix::time::{ClockId, clock_gettime};

use crate::host::Host;
use crate::text::{Unparsed, entries, number};

/// How the times of records become times of the node.
#[derive(Debug, Clone, Copy)]
pub(super) enum Times {
    /// The log of the kernel that runs here.
    Running {
        /// The end of reading.
        now: Stamp,
        /// By how much the boot clock is ahead of the clock of the log: the time suspended.
        ahead: Duration,
        /// What is read now was not there yet at this time; `None` where it may be older.
        after: Option<BootTime>,
    },
    /// A log in a fixture tree, where nothing is live but the time of boot in `proc/stat`.
    Fixture {
        /// When it booted.
        booted: WallTime,
    },
}

impl Times {
    /// Of what was read until `now`, when everything up to `after` had been read before.
    pub(super) fn running(now: Stamp, after: Option<BootTime>) -> Self {
        Self::Running { now, ahead: suspended(), after }
    }

    /// Of a fixture tree.
    pub(super) fn fixture(host: &Host, bad: &mut Unparsed) -> Self {
        /// As large as `/proc/stat` gets.
        const MAX_STAT: usize = 4 << 20;
        let mut buf = Vec::new();
        let booted = host.read("proc/stat", &mut buf, MAX_STAT).ok().and_then(|()| {
            entries(&buf, |line| Ok(line.strip_prefix(b"btime ").and_then(|secs| number(secs).ok())))
                .find_map(Result::ok)
        });
        if booted.is_none() {
            bad.lacks("time of boot in proc/stat beside it");
        }
        Self::Fixture { booted: WallTime::from_secs(booted.unwrap_or(0)) }
    }

    /// The instant of reading, for what has no other.
    pub(super) fn now(&self) -> Stamp {
        match *self {
            Self::Running { now, .. } => now,
            Self::Fixture { booted } => Stamp { wall: booted, boot: BootTime::from_nanos(0) },
        }
    }

    /// Whether a record is not older than this.
    pub(super) fn is_within(&self, micros: u64, age: Duration) -> bool {
        match *self {
            Self::Running { now, ahead, .. } => now.boot.since(boot(micros, ahead)) <= age,
            Self::Fixture { .. } => true,
        }
    }

    /// When a record of this time was made.
    pub(super) fn of(&self, micros: u64) -> Stamp {
        match *self {
            Self::Running { now, ahead, after } => {
                // The log's clock may have drifted, but what was not there a moment ago is not older than that, and
                // nothing is of the future.
                let earliest = after.map_or(BootTime::from_nanos(0), |after| after.min(now.boot));
                let boot = boot(micros, ahead).clamp(earliest, now.boot);
                let ago = i64::try_from(now.boot.since(boot).as_nanos()).unwrap_or(i64::MAX);
                Stamp { wall: now.wall.offset(-ago), boot }
            }
            Self::Fixture { booted } => {
                let boot = boot(micros, Duration::ZERO);
                Stamp { wall: booted.after(Duration::from_nanos(boot.nanos())), boot }
            }
        }
    }
}

fn boot(micros: u64, ahead: Duration) -> BootTime {
    let ahead = u64::try_from(ahead.as_nanos()).unwrap_or(u64::MAX);
    BootTime::from_nanos(micros.saturating_mul(1000).saturating_add(ahead))
}

/// For how long this machine was suspended since boot.
fn suspended() -> Duration {
    let nanos = |id| {
        let time = clock_gettime(id);
        time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
    };
    // Read first, the other clock can only be ahead by more than the truth, and by no more than this takes.
    let monotonic = nanos(ClockId::Monotonic);
    let ahead = Duration::from_nanos(nanos(ClockId::Boottime).saturating_sub(monotonic).max(0).unsigned_abs());
    if ahead < Duration::from_millis(1) { Duration::ZERO } else { ahead }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn running(after: Option<u64>) -> Times {
        let now = Stamp { wall: WallTime::from_secs(2_000), boot: BootTime::from_nanos(100 * SECOND) };
        Times::Running { now, ahead: Duration::from_secs(10), after: after.map(BootTime::from_nanos) }
    }

    #[test]
    fn time_suspended_is_added_and_the_wall_time_follows() {
        let at = running(None).of(80_000_000);
        assert_eq!((at.boot, at.wall), (BootTime::from_nanos(90 * SECOND), WallTime::from_secs(1_990)));
    }

    #[test]
    fn a_drifted_stamp_is_put_between_the_two_readings() {
        let times = running(Some(99 * SECOND));
        assert_eq!(times.of(80_000_000).boot, BootTime::from_nanos(99 * SECOND));
        assert_eq!(times.of(95_000_000).boot, BootTime::from_nanos(100 * SECOND));
        assert_eq!(times.of(89_500_000).boot, BootTime::from_nanos(99_500_000_000));
        assert_eq!(times.of(u64::MAX).wall, WallTime::from_secs(2_000));
    }

    #[test]
    fn only_what_is_fresh_is_within_an_age() {
        assert!(running(None).is_within(85_000_000, Duration::from_secs(5)));
        assert!(!running(None).is_within(84_999_999, Duration::from_secs(5)));
    }
}
