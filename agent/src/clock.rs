//! The node's two clocks, the ticks, and steps of the wall clock. Ticks and steps are decided purely: clocks in,
//! decision out.

use std::sync::Arc;
use std::time::Duration;

use casefile_proto::time::{BootTime, NANOS_PER_SEC, Stamp, WallTime};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Reads both clocks of the node. An argument wherever a time is taken, so that tests can set it.
pub type Clock = Arc<dyn Fn() -> Stamp + Send + Sync>;

/// Two readings of the boot clock around one of the wall clock that are nearer than this are as good as one.
const TOGETHER_NANOS: u64 = 20_000;

/// How often the clocks are read for a narrow bracket: being descheduled between two readings would look like a step.
const TRIES: u32 = 4;

/// The clocks of this machine.
pub fn system() -> Clock {
    Arc::new(read)
}

fn nanos(time: Timespec) -> i64 {
    time.tv_sec.saturating_mul(NANOS_PER_SEC).saturating_add(time.tv_nsec)
}

/// `CLOCK_REALTIME` and `CLOCK_BOOTTIME` at one instant: the narrowest of a few brackets.
fn read() -> Stamp {
    let mut best: Option<(u64, Stamp)> = None;
    for _ in 0..TRIES {
        let before = nanos(clock_gettime(ClockId::Boottime)).unsigned_abs();
        let wall = nanos(clock_gettime(ClockId::Realtime));
        let after = nanos(clock_gettime(ClockId::Boottime)).unsigned_abs();
        let width = after.saturating_sub(before);
        let stamp = Stamp { wall: WallTime::from_nanos(wall), boot: BootTime::from_nanos(before + width / 2) };
        if best.is_none_or(|(narrowest, _)| width < narrowest) {
            best = Some((width, stamp));
        }
        if width <= TOGETHER_NANOS {
            break;
        }
    }
    best.map_or(Stamp { wall: WallTime::from_nanos(0), boot: BootTime::from_nanos(0) }, |(_, stamp)| stamp)
}

/// A tick that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// When it was due, on both clocks.
    pub at: Stamp,
    /// Ticks between the one before and this one that were not taken: the machine slept, or had no time for us.
    pub missed: u64,
    /// How late it is taken.
    pub late: Duration,
}

/// Says when ticks are due: at whole multiples of `every` on the wall clock, and at no two instants that lie nearer
/// than half of that on the boot clock, whatever the wall clock does.
#[derive(Debug)]
pub struct Ticker {
    every: i64,
    last: Option<Stamp>,
}

impl Ticker {
    /// `every` is at least a millisecond.
    pub fn new(every: Duration) -> Self {
        Self { every: i64::try_from(every.as_nanos()).unwrap_or(i64::MAX).max(1_000_000), last: None }
    }

    /// How long until the next tick is due.
    pub fn wait(&self, now: Stamp) -> Duration {
        let until = self.every - now.wall.nanos().rem_euclid(self.every);
        let early =
            self.last.is_some_and(|last| self.too_near(last, now.boot.nanos().saturating_add(until.unsigned_abs())));
        Duration::from_nanos(if early { until + self.every } else { until }.unsigned_abs())
    }

    /// The tick that is due now; `None` when none is yet. The first call is always a tick.
    pub fn take(&mut self, now: Stamp) -> Option<Tick> {
        let late = now.wall.nanos().rem_euclid(self.every);
        let due = now.boot.nanos().saturating_sub(late.unsigned_abs());
        if self.last.is_some_and(|last| self.too_near(last, due)) {
            return None;
        }
        let every = self.every.unsigned_abs();
        let passed = self.last.map_or(1, |last| (due - last.boot.nanos() + every / 2) / every);
        let at = Stamp { wall: now.wall.offset(-late), boot: BootTime::from_nanos(due) };
        self.last = Some(at);
        Some(Tick { at, missed: passed.saturating_sub(1), late: Duration::from_nanos(late.unsigned_abs()) })
    }

    fn too_near(&self, last: Stamp, due: u64) -> bool {
        due < last.boot.nanos() + self.every.unsigned_abs() / 2
    }
}

/// Notices that the wall clock was set. NTP's slewing moves both clocks alike, so any difference is a step; small ones
/// add up until they are told.
#[derive(Debug, Default)]
pub struct Steps {
    ahead: Option<i64>,
}

/// Steps smaller than this are told when they have added up to it: reading two clocks is not exact.
const SMALLEST_STEP: u64 = 1_000_000;

impl Steps {
    /// By how many nanoseconds the wall clock was set since the last one that was told.
    pub fn look(&mut self, now: Stamp) -> Option<i64> {
        let ahead = now.wall.nanos().saturating_sub(i64::try_from(now.boot.nanos()).unwrap_or(i64::MAX));
        let by = ahead.saturating_sub(*self.ahead.get_or_insert(ahead));
        if by.unsigned_abs() < SMALLEST_STEP {
            return None;
        }
        self.ahead = Some(ahead);
        Some(by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn stamp(wall_millis: i64, boot_millis: u64) -> Stamp {
        Stamp {
            wall: WallTime::from_nanos(wall_millis * 1_000_000),
            boot: BootTime::from_nanos(boot_millis * 1_000_000),
        }
    }

    #[test]
    fn ticks_are_due_at_whole_seconds() {
        let mut ticker = Ticker::new(SECOND);
        assert_eq!(ticker.take(stamp(10_400, 5_400)).unwrap().at, stamp(10_000, 5_000));
        assert_eq!(ticker.wait(stamp(10_400, 5_400)), Duration::from_millis(600));
        assert_eq!(ticker.take(stamp(10_999, 5_999)), None);
        let tick = ticker.take(stamp(11_001, 6_001)).unwrap();
        assert_eq!((tick.at, tick.missed, tick.late), (stamp(11_000, 6_000), 0, Duration::from_millis(1)));
    }

    #[test]
    fn a_sleeping_machine_misses_ticks() {
        let mut ticker = Ticker::new(SECOND);
        ticker.take(stamp(10_000, 5_000)).unwrap();
        assert_eq!(ticker.take(stamp(70_250, 65_250)).unwrap().missed, 59);
        assert_eq!(ticker.take(stamp(71_000, 66_000)).unwrap().missed, 0);
    }

    #[test]
    fn a_wall_clock_that_is_set_costs_no_tick_and_makes_none() {
        for step in [-3_600_000, -1_000, -700, -300, 300, 700, 1_000, 86_400_000] {
            let mut ticker = Ticker::new(SECOND);
            ticker.take(stamp(100_000_000, 5_000)).unwrap();
            let (mut boot, mut ticks, mut missed) = (5_000, 0, 0);
            for _ in 0..10 {
                let now = stamp(100_000_000 + step + i64::try_from(boot).unwrap() - 5_000, boot);
                boot += u64::try_from(ticker.wait(now).as_millis()).unwrap();
                let now = stamp(100_000_000 + step + i64::try_from(boot).unwrap() - 5_000, boot);
                let tick = ticker.take(now).unwrap();
                ticks += 1;
                missed += tick.missed;
            }
            assert_eq!((ticks, missed), (10, 0), "step {step}");
            assert!((14_400..=15_600).contains(&boot), "step {step}: {boot}");
        }
    }

    #[test]
    fn steps_of_the_wall_clock_are_told_once_and_small_ones_add_up() {
        let mut steps = Steps::default();
        assert_eq!(steps.look(stamp(1_000_000, 1_000)), None);
        assert_eq!(steps.look(stamp(1_001_000, 2_000)), None);
        assert_eq!(steps.look(stamp(1_005_500, 3_000)), Some(3_500_000_000));
        assert_eq!(steps.look(stamp(1_006_500, 4_000)), None);
        assert_eq!(steps.look(stamp(1_000_000, 5_000)), Some(-7_500_000_000));
        let at = stamp(1_000_000, 5_000);
        let moved = |micros: i64| Stamp { wall: at.wall.offset(micros * 1_000), ..at };
        assert_eq!((steps.look(moved(400)), steps.look(moved(800))), (None, None));
        assert_eq!(steps.look(moved(1_200)), Some(1_200_000));
    }

    #[test]
    fn the_clocks_of_this_machine_go_forward_together() {
        let clock = system();
        let (a, b) = (clock(), clock());
        assert!(a.boot <= b.boot && Steps::default().look(a).is_none());
    }

    proptest! {
        /// Waking whenever `wait` says, early or late by anything: never two ticks within half a second, and every
        /// second that passed is either ticked or missed.
        #[test]
        fn every_second_is_ticked_once_or_missed(jitter in prop::collection::vec(-900i64..5_000, 1..100)) {
            let mut ticker = Ticker::new(SECOND);
            let mut now: u64 = 1_000_000;
            let mut last = ticker.take(stamp(i64::try_from(now).unwrap(), now)).unwrap().at;
            for late in jitter {
                let wait = i64::try_from(ticker.wait(stamp(i64::try_from(now).unwrap(), now)).as_millis()).unwrap();
                prop_assert!(wait > 0 && wait <= 1_500);
                now += u64::try_from((wait + late).max(1)).unwrap();
                if let Some(tick) = ticker.take(stamp(i64::try_from(now).unwrap(), now)) {
                    let passed = tick.at.boot.since(last.boot);
                    prop_assert_eq!(passed, SECOND * u32::try_from(tick.missed + 1).unwrap());
                    last = tick.at;
                }
            }
        }
    }
}
