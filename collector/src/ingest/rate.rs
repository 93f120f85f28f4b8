//! How fast one agent may stream: a bucket that fills with time and is emptied by bytes. Pure: the time is an argument.

use std::time::Duration;

use casefile_proto::time::BootTime;

/// Bytes a second that one agent may stream for ever: a busy node says less than a hundredth of it.
const SUSTAINED: u64 = 2 << 20;

/// Bytes that it may stream at once: hours of frames that the collector missed.
const BURST: u64 = 16 << 20;

/// The bytes that an agent may stream now.
#[derive(Debug)]
pub(super) struct Rate {
    /// Below zero: too much came, and nothing is read until that is made up for.
    left: i64,
    at: BootTime,
}

impl Rate {
    pub(super) fn new(now: BootTime) -> Self {
        Self { left: signed(BURST), at: now }
    }

    /// So many bytes came.
    pub(super) fn took(&mut self, bytes: usize, now: BootTime) {
        self.fill(now);
        self.left = self.left.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// How long nothing is to be read.
    pub(super) fn wait(&mut self, now: BootTime) -> Duration {
        self.fill(now);
        let over = u64::try_from(-self.left).unwrap_or(0);
        Duration::from_nanos((u128::from(over) * 1_000_000_000 / u128::from(SUSTAINED)).try_into().unwrap_or(u64::MAX))
    }

    fn fill(&mut self, now: BootTime) {
        let came = u128::from(SUSTAINED) * now.since(self.at).as_nanos() / 1_000_000_000;
        let left = i128::from(self.left) + i128::try_from(came).unwrap_or(i128::MAX / 2);
        self.left = i64::try_from(left.min(i128::from(BURST))).unwrap_or(0);
        self.at = self.at.max(now);
    }
}

const fn signed(bytes: u64) -> i64 {
    bytes.cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> BootTime {
        BootTime::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn a_burst_passes_and_a_flood_is_held_to_its_rate() {
        let mut rate = Rate::new(at(0));
        rate.took(16 << 20, at(0));
        assert_eq!(rate.wait(at(0)), Duration::ZERO);
        rate.took(1 << 20, at(0));
        assert_eq!(rate.wait(at(0)), Duration::from_millis(500));
        assert_eq!(rate.wait(at(400)).as_millis(), 100);
        let (mut now, mut came) = (500_u64, 0_u64);
        while now < 60_500 {
            rate.took(1 << 20, at(now));
            came += 1 << 20;
            now += u64::try_from(rate.wait(at(now)).as_millis()).unwrap() + 1;
        }
        assert!((came / 60).abs_diff(SUSTAINED) < SUSTAINED / 20, "{} a second", came / 60);
    }

    #[test]
    fn rest_fills_it_up_and_no_further_and_a_clock_that_goes_back_gives_nothing() {
        let mut rate = Rate::new(at(0));
        rate.took(20 << 20, at(0));
        assert_eq!(rate.wait(at(3_600_000)), Duration::ZERO);
        rate.took(16 << 20, at(3_600_000));
        assert_eq!(rate.wait(at(3_600_000)), Duration::ZERO);
        rate.took(1, at(0));
        assert!(rate.wait(at(0)) > Duration::ZERO);
    }
}
