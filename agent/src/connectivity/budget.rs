//! How much is tested: so many at a time, and on average no more than one a second. Pure: the clock is an argument.

use std::time::Instant;

/// Tests at a time: each has a connection, and a thread as long as a name is looked up.
pub const AT_A_TIME: usize = 4;

/// Tests a second, on average: with it a collector that was taken over scans no network.
pub const PER_SECOND: f64 = 1.0;

/// Tests that may follow each other at once after a time without any.
const BURST: f64 = 4.0;

/// What may be tested at once.
pub(super) struct Budget {
    left: f64,
    at: Instant,
}

impl Budget {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: BURST, at: now }
    }

    /// Takes one, when so many are running; or why not.
    pub(super) fn take(&mut self, running: usize, now: Instant) -> Result<(), String> {
        if running >= AT_A_TIME {
            return Err(format!("{AT_A_TIME} tests are under way"));
        }
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * PER_SECOND).min(BURST);
        self.at = now;
        if self.left < 1.0 {
            return Err(format!("more than {PER_SECOND} test a second, on average, is asked for"));
        }
        self.left -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn no_more_than_one_a_second_and_four_at_a_time_are_begun() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        assert!(budget.take(AT_A_TIME, start).is_err(), "all places are taken");
        let begun = (0..600_u64).filter(|n| budget.take(0, start + Duration::from_millis(n * 100)).is_ok()).count();
        assert!((60..=64).contains(&begun), "{begun} within a minute");
        let later = start + Duration::from_secs(3_600);
        assert_eq!((0..100).filter(|_| budget.take(0, later).is_ok()).count(), 4, "an hour of nothing is no stock");
    }
}
