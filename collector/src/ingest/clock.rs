//! How far a node's wall clock is ahead of ours, with a bound: probes, answers, and which answer to believe. Pure.
//!
//! A probe and its answer bracket one reading of the node's clock. The true offset lies within half the round trip of the
//! middle, whatever the network did; so the answer with the smallest delay wins (RFC 5905 §8, the clock filter over eight
//! answers, §10), and its bound grows with its age. Delays are taken on our boot clock, which is never stepped.

use std::collections::VecDeque;

use casefile_proto::session::{ClockAnswer, ProbeToken};
use casefile_proto::time::{BootTime, ClockOffset, Stamp};

/// Answers that are remembered: the eight stages of the clock filter.
const STAGES: usize = 8;

/// Probes that may be unanswered; the oldest is given up for a new one.
const MAX_OUTSTANDING: usize = 8;

/// How fast two clocks may drift apart, in parts per million: two quartzes that nobody disciplines (50 each). RFC 5905
/// counts 15 for one that NTP holds, which we cannot know of a node in trouble.
const DRIFT_PPM: u64 = 100;

/// A wall clock that moved by more than this against its own boot clock was stepped: reading two clocks takes less.
const STEP_NANOS: i128 = 1_000_000;

/// The probes of one session and what their answers say.
#[derive(Debug, Default)]
pub struct OffsetFilter {
    outstanding: VecDeque<(ProbeToken, Stamp)>,
    samples: VecDeque<Sample>,
    last_token: u64,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    ahead: i64,
    /// Half the round trip, rounded up.
    bound: u64,
    taken: BootTime,
    /// How far each wall clock was ahead of its own boot clock: changes only when it is stepped.
    node_epoch: i128,
    own_epoch: i128,
}

/// How far a wall clock is ahead of the boot clock that was read with it.
fn epoch(stamp: Stamp) -> i128 {
    i128::from(stamp.wall.nanos()) - i128::from(stamp.boot.nanos())
}

impl OffsetFilter {
    /// A new probe, to be sent now.
    pub fn probe(&mut self, now: Stamp) -> ProbeToken {
        // Two probes at one reading of a coarse clock still need two names.
        self.last_token = now.boot.nanos().max(self.last_token.saturating_add(1));
        let token = ProbeToken(self.last_token);
        if self.outstanding.len() == MAX_OUTSTANDING {
            self.outstanding.pop_front();
        }
        self.outstanding.push_back((token, now));
        token
    }

    /// An answer that arrived now. One to no probe of ours says nothing; nor does one during which our clock was stepped.
    pub fn answer(&mut self, answer: ClockAnswer, now: Stamp) {
        let Some(at) = self.outstanding.iter().position(|(token, _)| *token == answer.token) else { return };
        // Answers come in order: what was asked before this one will not be answered any more.
        let Some((_, sent)) = self.outstanding.drain(..=at).next_back() else { return };
        let own_epoch = epoch(now);
        if (own_epoch - epoch(sent)).abs() > STEP_NANOS {
            return;
        }
        let delay = now.boot.nanos().saturating_sub(sent.boot.nanos());
        let middle = i128::from(now.wall.nanos()) - i128::from(delay / 2);
        let ahead = i128::from(answer.clock.wall.nanos()) - middle;
        let sample = Sample {
            ahead: i64::try_from(ahead).unwrap_or(if ahead < 0 { i64::MIN } else { i64::MAX }),
            bound: delay / 2 + 1,
            // The node read its clock at some time since then.
            taken: sent.boot,
            node_epoch: epoch(answer.clock),
            own_epoch,
        };
        // What was measured before one of the clocks was stepped says nothing about now.
        self.samples.retain(|old| {
            (old.node_epoch - sample.node_epoch).abs() <= STEP_NANOS
                && (old.own_epoch - sample.own_epoch).abs() <= STEP_NANOS
        });
        if self.samples.len() == STAGES {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// What is known now; `None` before the first answer.
    pub fn offset(&self, now: BootTime) -> Option<ClockOffset> {
        self.samples
            .iter()
            .map(|s| ClockOffset { ahead_nanos: s.ahead, bound_nanos: s.bound.saturating_add(drift(now, s.taken)) })
            .min_by_key(|offset| offset.bound_nanos)
    }

    /// Whether as many answers are here as are remembered: from then on probes need not hurry.
    pub fn is_full(&self) -> bool {
        self.samples.len() == STAGES
    }
}

/// How far the clocks may have drifted apart since.
fn drift(now: BootTime, since: BootTime) -> u64 {
    let age = now.nanos().saturating_sub(since.nanos());
    u64::try_from(u128::from(age) * u128::from(DRIFT_PPM) / 1_000_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use casefile_proto::time::WallTime;
    use proptest::prelude::*;

    /// Our clocks `t` nanoseconds after some moment, the wall clock at `wall`.
    fn ours(t: u64, wall: i64) -> Stamp {
        Stamp {
            wall: WallTime::from_nanos(wall.saturating_add(i64::try_from(t).unwrap())),
            boot: BootTime::from_nanos(1_000_000_000 + t),
        }
    }

    /// The node's: another boot, its wall clock `ahead` of ours.
    fn node(t: u64, wall: i64, ahead: i64) -> Stamp {
        Stamp {
            wall: WallTime::from_nanos(wall + i64::try_from(t).unwrap() + ahead),
            boot: BootTime::from_nanos(77_000_000_000 + t),
        }
    }

    const WALL: i64 = 1_795_405_450_000_000_000;
    const MS: u64 = 1_000_000;

    fn exchange(filter: &mut OffsetFilter, sent: u64, there: u64, back: u64, ahead: i64) {
        let token = filter.probe(ours(sent, WALL));
        let clock = node(sent + there, WALL, ahead);
        filter.answer(ClockAnswer { token, clock }, ours(sent + there + back, WALL));
    }

    #[test]
    fn the_answer_with_the_smallest_delay_wins() {
        let mut filter = OffsetFilter::default();
        assert_eq!(filter.offset(BootTime::from_nanos(0)), None);
        exchange(&mut filter, 0, 40 * MS, 2 * MS, 5_000_000);
        exchange(&mut filter, 100 * MS, MS, MS, 5_000_000);
        exchange(&mut filter, 200 * MS, 2 * MS, 90 * MS, 5_000_000);
        let offset = filter.offset(ours(300 * MS, WALL).boot).unwrap();
        assert_eq!(offset.ahead_nanos, 5_000_000, "there and back took the same time, so it is exact");
        assert!((MS..2 * MS).contains(&offset.bound_nanos), "{offset:?}");
    }

    #[test]
    fn a_node_clock_that_was_stepped_is_measured_anew() {
        let mut filter = OffsetFilter::default();
        exchange(&mut filter, 0, MS, MS, 0);
        exchange(&mut filter, 1000 * MS, 50 * MS, 50 * MS, 30_000_000);
        assert_eq!(filter.offset(ours(1100 * MS, WALL).boot).unwrap().ahead_nanos, 30_000_000);
    }

    #[test]
    fn an_answer_around_a_step_of_our_own_clock_says_nothing() {
        let mut filter = OffsetFilter::default();
        let token = filter.probe(ours(0, WALL));
        let answer = ClockAnswer { token, clock: node(MS, WALL, 0) };
        filter.answer(answer, ours(2 * MS, WALL + 60_000_000_000));
        assert_eq!(filter.offset(ours(3 * MS, WALL).boot), None);
    }

    #[test]
    fn an_answer_to_no_probe_says_nothing_and_a_second_answer_neither() {
        let mut filter = OffsetFilter::default();
        filter.answer(ClockAnswer { token: ProbeToken(1), clock: node(0, WALL, 0) }, ours(MS, WALL));
        assert_eq!(filter.offset(ours(MS, WALL).boot), None);
        let token = filter.probe(ours(0, WALL));
        filter.answer(ClockAnswer { token, clock: node(MS, WALL, 0) }, ours(2 * MS, WALL));
        filter.answer(ClockAnswer { token, clock: node(MS, WALL, 999) }, ours(2 * MS, WALL));
        assert_eq!(filter.offset(ours(2 * MS, WALL).boot).unwrap().ahead_nanos, 0);
    }

    #[test]
    fn probes_at_one_instant_have_names_of_their_own() {
        let mut filter = OffsetFilter::default();
        assert_ne!(filter.probe(ours(0, WALL)), filter.probe(ours(0, WALL)));
    }

    proptest! {
        /// Whatever the network does and however the quartz runs, the true offset lies within the bound.
        #[test]
        fn the_true_offset_is_within_the_bound(
            start_ahead in -1_000_000_000_000i64..1_000_000_000_000,
            exchanges in prop::collection::vec((0u64..3_000 * MS, 0u64..3_000 * MS), 1..30),
            drift_ppm in -90i64..90,
            later in 0u64..600_000 * MS,
        ) {
            let mut filter = OffsetFilter::default();
            let ahead_at = |t: u64| start_ahead + i64::try_from(t).unwrap() / 1_000_000 * drift_ppm;
            let mut t = 0;
            for (there, back) in exchanges {
                let token = filter.probe(ours(t, WALL));
                let stamp = node(t + there, WALL, ahead_at(t + there));
                // The node's boot clock drifts with its wall clock.
                let stamp = Stamp { boot: BootTime::from_nanos(stamp.boot.nanos().saturating_add_signed(ahead_at(t + there) - start_ahead)), ..stamp };
                filter.answer(ClockAnswer { token, clock: stamp }, ours(t + there + back, WALL));
                t += there + back + 3_000 * MS;
            }
            t += later;
            let offset = filter.offset(ours(t, WALL).boot).unwrap();
            let error = offset.ahead_nanos.abs_diff(ahead_at(t));
            // One part of a million of rounding in `ahead_at`.
            prop_assert!(error <= offset.bound_nanos + 1_000, "{offset:?} is wrong by {error}");
        }

        #[test]
        fn any_answer_of_a_node_is_survived(wall in any::<i64>(), boot in any::<u64>(), back in any::<u32>()) {
            let mut filter = OffsetFilter::default();
            let token = filter.probe(ours(0, WALL));
            let clock = Stamp { wall: WallTime::from_nanos(wall), boot: BootTime::from_nanos(boot) };
            filter.answer(ClockAnswer { token, clock }, ours(u64::from(back), WALL));
            prop_assert!(filter.offset(BootTime::from_nanos(u64::MAX)).is_some());
        }
    }
}
