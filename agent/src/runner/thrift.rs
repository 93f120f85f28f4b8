//! What measuring may cost the node: when it takes more of a core than it may, the dearest source is measured less often
//! until it does not. Pure: figures in, decisions out. What is not measured for it is told in the outcome of its tick.

use std::time::{Duration, Instant};

/// The time over which cost is looked at.
const LOOK: Duration = Duration::from_secs(10);

/// Looks between two changes for the better: what was dear comes back slowly, so that it does not go back and forth.
const CALM: u32 = 6;

/// The least often: so many times as many ticks apart as it wants to be.
pub(super) const MOST: u64 = 16;

/// A source is brought back only where its cost leaves so much of what is allowed.
const ROOM: f64 = 0.75;

/// Measured at each of their ticks whatever it costs: what a node that dies says last, and what tells of the agent's cost.
const ALWAYS: [&str; 2] = ["kernel", "agent"];

/// That a source is measured so many times less often from now on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Change {
    pub(super) lane: usize,
    pub(super) times: u64,
    /// What all sources took of a core, and this one.
    pub(super) all: f64,
    pub(super) one: f64,
}

/// The cost of all sources.
pub(super) struct Thrift {
    /// Of a core.
    limit: f64,
    lanes: Vec<Cost>,
    since: Option<Instant>,
    /// Looks since `calm_since`, where the last change was, or the last look at whether something may come back.
    calm: u32,
    calm_since: Option<Instant>,
}

struct Cost {
    always: bool,
    /// How many times less often.
    times: u64,
    /// CPU nanoseconds at the last look.
    before: u64,
    /// Of a core, since then.
    share: f64,
    /// CPU nanoseconds when the calm began: over a longer time what is measured seldom shows its cost too.
    calm_before: u64,
}

impl Thrift {
    /// Of these sources, which may take this much of a core.
    pub(super) fn new<'a>(limit: f64, names: impl Iterator<Item = &'a str>) -> Self {
        let cost = |name| Cost { always: ALWAYS.contains(&name), times: 1, before: 0, share: 0.0, calm_before: 0 };
        Self { limit, lanes: names.map(cost).collect(), since: None, calm: 0, calm_since: None }
    }

    /// To be called at every tick with the CPU nanoseconds that each source took so far.
    pub(super) fn look(&mut self, now: Instant, taken: impl Fn(usize) -> u64) -> Option<Change> {
        let first = self.since.is_none();
        let took = now.saturating_duration_since(*self.since.get_or_insert(now));
        if !first && took < LOOK {
            return None;
        }
        self.since = Some(now);
        for (lane, cost) in self.lanes.iter_mut().enumerate() {
            let taken = taken(lane);
            cost.share = share(cost.before, taken, took);
            cost.before = taken;
        }
        if first {
            self.begin_calm(now);
            return None;
        }
        self.calm += 1;
        let all: f64 = self.lanes.iter().map(|cost| cost.share).sum();
        let change = if all > self.limit {
            self.dearest().map(|(lane, times)| Change { lane, times, all, one: self.lanes[lane].share })
        } else if self.calm >= CALM {
            self.to_bring_back(now)
        } else {
            return None;
        };
        if let Some(Change { lane, times, .. }) = change {
            self.lanes[lane].times = times;
        }
        self.begin_calm(now);
        change
    }

    fn begin_calm(&mut self, now: Instant) {
        (self.calm, self.calm_since) = (0, Some(now));
        self.lanes.iter_mut().for_each(|cost| cost.calm_before = cost.before);
    }

    fn dearest(&self) -> Option<(usize, u64)> {
        let slower = self.lanes.iter().enumerate().filter(|(_, cost)| !cost.always && cost.times < MOST);
        let (lane, cost) = slower.max_by(|(_, a), (_, b)| a.share.total_cmp(&b.share))?;
        Some((lane, cost.times * 2))
    }

    /// The cheapest of those that are measured less often, if twice its cost fits.
    fn to_bring_back(&self, now: Instant) -> Option<Change> {
        let calm = now.saturating_duration_since(self.calm_since?);
        let shares = || self.lanes.iter().map(|cost| share(cost.calm_before, cost.before, calm));
        let all: f64 = shares().sum();
        let slow = self.lanes.iter().zip(shares()).enumerate().filter(|(_, (cost, _))| cost.times > 1);
        let (lane, (cost, one)) = slow.min_by(|(_, (_, a)), (_, (_, b))| a.total_cmp(b))?;
        (all + one <= self.limit * ROOM).then_some(Change { lane, times: cost.times / 2, all, one })
    }
}

/// Of a core.
#[expect(clippy::cast_precision_loss, reason = "CPU time of a minute")]
fn share(before: u64, after: u64, took: Duration) -> f64 {
    after.saturating_sub(before) as f64 / took.as_nanos().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = ["cpu", "process", "cgroup", "kernel"];

    /// Plays `seconds` ticks of sources that cost so many CPU microseconds each time that they are measured; the times by
    /// which each is slowed at the end, and how often that changed.
    fn play(
        thrift: &mut Thrift,
        from: Instant,
        seconds: u32,
        costs: [u64; 4],
        taken: &mut [u64; 4],
    ) -> ([u64; 4], u32) {
        let mut changes = 0;
        for second in 0..seconds {
            for lane in 0..4 {
                if u64::from(second).is_multiple_of(thrift.lanes[lane].times) {
                    taken[lane] += costs[lane] * 1_000;
                }
            }
            changes += u32::from(thrift.look(from + Duration::from_secs(second.into()), |lane| taken[lane]).is_some());
        }
        (std::array::from_fn(|lane| thrift.lanes[lane].times), changes)
    }

    #[test]
    fn what_is_cheap_is_left_alone() {
        let mut thrift = Thrift::new(0.02, NAMES.into_iter());
        let played = play(&mut thrift, Instant::now(), 600, [100, 3_000, 2_000, 100], &mut [0; 4]);
        assert_eq!(played, ([1; 4], 0));
    }

    #[test]
    fn the_dearest_is_measured_less_often_until_it_fits_and_comes_back_when_it_is_cheap_again() {
        let mut thrift = Thrift::new(0.02, NAMES.into_iter());
        let (from, mut taken) = (Instant::now(), [0; 4]);
        // 9 % of a core: the processes take 60 ms a second, the cgroups 20, the kernel log 10.
        let (times, changes) = play(&mut thrift, from, 600, [100, 60_000, 20_000, 10_000], &mut taken);
        assert_eq!((times[0], times[3]), (1, 1), "what is cheap, and what is always measured, stays");
        assert!(times[1] >= 8 && times[2] >= 4, "{times:?}");
        assert!(changes <= 12, "it does not go back and forth: {changes} changes");
        let later = from + Duration::from_secs(600);
        let (times, _) = play(&mut thrift, later, 3_600, [100, 3_000, 2_000, 100], &mut taken);
        assert_eq!(times, [1; 4]);
    }

    #[test]
    fn it_ends_at_the_most_where_even_that_is_dear() {
        let mut thrift = Thrift::new(0.02, NAMES.into_iter());
        let (times, _) = play(&mut thrift, Instant::now(), 900, [900_000, 0, 0, 900_000], &mut [0; 4]);
        assert_eq!((times[0], times[3]), (MOST, 1));
    }

    #[test]
    fn what_is_always_measured_is_there() {
        for name in ALWAYS {
            assert!(crate::sources::ALL.iter().any(|spec| spec.name == name), "{name}");
        }
    }
}
