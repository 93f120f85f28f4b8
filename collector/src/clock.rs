//! The collector's clocks. Read here and nowhere else; everything that decides takes the time as an argument.

use casefile_proto::time::{BootTime, NANOS_PER_SEC, Stamp, WallTime};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// `CLOCK_REALTIME` and `CLOCK_BOOTTIME`, one after the other.
pub fn now() -> Stamp {
    let wall = nanos(clock_gettime(ClockId::Realtime));
    let boot = nanos(clock_gettime(ClockId::Boottime));
    Stamp { wall: WallTime::from_nanos(wall), boot: BootTime::from_nanos(boot.unsigned_abs()) }
}

fn nanos(time: Timespec) -> i64 {
    time.tv_sec.saturating_mul(NANOS_PER_SEC).saturating_add(time.tv_nsec)
}
