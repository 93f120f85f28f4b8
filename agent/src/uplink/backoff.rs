//! How long to wait before dialling again: longer each time, and never the same for two agents. Pure.

use std::time::Duration;

/// The first wait is up to this.
const FIRST: Duration = Duration::from_millis(500);

/// No wait is longer than this: a collector that is back is found within half a minute.
const LONGEST: Duration = Duration::from_secs(30);

/// Waits between half and all of a span that doubles: a thousand agents that lost one collector do not come back at once.
#[derive(Debug)]
pub(super) struct Backoff {
    span: Duration,
    random: u64,
}

impl Backoff {
    /// `seed` should differ between agents.
    pub(super) fn new(seed: u64) -> Self {
        Self { span: FIRST, random: seed | 1 }
    }

    /// The next wait.
    pub(super) fn wait(&mut self) -> Duration {
        // xorshift64: anything that spreads is good enough.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let half = self.span / 2;
        let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
        self.span = (self.span * 2).min(LONGEST);
        half + Duration::from_nanos(self.random % nanos.max(1))
    }

    /// It worked: begin with the shortest again.
    pub(super) fn reset(&mut self) {
        self.span = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_half_a_minute_and_begin_again() {
        let mut backoff = Backoff::new(7);
        let waits: Vec<Duration> = (0..12).map(|_| backoff.wait()).collect();
        assert!(waits[0] >= FIRST / 2 && waits[0] <= FIRST);
        assert!(waits.iter().all(|w| *w <= LONGEST) && waits[11] >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.wait() <= FIRST);
    }

    #[test]
    fn two_agents_do_not_wait_the_same() {
        assert_ne!(Backoff::new(2).wait(), Backoff::new(5).wait());
    }
}
