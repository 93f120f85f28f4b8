//! The byte budget of a collection, shared fairly between all logs of all log sources. Pure arithmetic.
//!
//! What is fair: there is one level, and every log gets what it needs or the level, whichever is less; the level is as high
//! as the budget allows. So a log that needs no more than the level is whole, however many others there are, how large
//! they are and which log source they belong to, and none gets more by taking it from one that got less.
//!
//! Between log sources this takes estimates ([`super::LogSource::needs`]): for the logs of the others as much is kept back
//! as they need, up to the level. One that is too high costs nobody anything as long as small sources come first: what was
//! not used is left to those after it. One that is too low is at the cost of the log source that made it.
//!
//! Within a log source it takes none: every log gets an equal part of what is left when its turn comes, which with the
//! small ones first is the same level. Whatever the order, no log gets less than an equal part of the whole.

use casefile_proto::time::{WallTime, Window};
use casefile_proto::units::Bytes;

/// The level: what each of these logs (the small ones first) may have of a budget. `u64::MAX` when all fit.
fn level(budget: u64, needs: &[u64]) -> u64 {
    let (mut left, mut logs) = (budget, needs.len() as u64);
    for need in needs {
        let equal = left / logs;
        if *need > equal {
            return equal;
        }
        (left, logs) = (left - need, logs - 1);
    }
    u64::MAX
}

/// What these logs get when each has what it needs, up to the level.
fn up_to(level: u64, needs: &[u64]) -> u64 {
    needs.iter().map(|need| level.min(*need)).fold(0, u64::saturating_add)
}

/// The part of a budget that one log source gets for its logs, while all other logs are still to come. Needs that are
/// not known count as without end.
pub(crate) fn part_of(budget: Bytes, own: &[u64], others: &[u64]) -> Bytes {
    let mut all: Vec<u64> = own.iter().chain(others).copied().collect();
    all.sort_unstable();
    Bytes(budget.0.saturating_sub(up_to(level(budget.0, &all), others)))
}

/// What is left of a budget, and for how many logs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    left: u64,
    logs: u64,
}

impl Budget {
    /// For so many logs.
    pub(super) fn new(total: Bytes, logs: usize) -> Self {
        Self { left: total.0, logs: logs as u64 }
    }

    /// The part of the log whose turn it is. More logs than were announced get what is left.
    pub(super) fn part(&self) -> Allowance {
        Allowance { part: self.left / self.logs.max(1), used: 0, cut: None }
    }

    /// Takes back what a log did not use.
    pub(super) fn settle(&mut self, allowance: &Allowance) {
        self.left = self.left.saturating_sub(allowance.used);
        self.logs = self.logs.saturating_sub(1);
    }
}

/// The part of one log. Records are taken whole until one does not fit; from there on nothing is taken, so that what
/// is there has no holes.
#[derive(Debug, Clone)]
pub(super) struct Allowance {
    part: u64,
    used: u64,
    cut: Option<Cut>,
}

/// What did not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    /// The time of the first record that was left out.
    pub(super) first: WallTime,
    /// Records left out, as far as they were looked at.
    pub(super) records: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// Whether all that is left out was looked at.
    pub(super) counted: bool,
}

impl Allowance {
    /// Whether a record of this time and size is taken; if not, it is counted as left out.
    pub(super) fn takes(&mut self, at: WallTime, bytes: usize) -> bool {
        let bytes = bytes as u64;
        if self.cut.is_none() && bytes <= self.part - self.used {
            self.used += bytes;
            return true;
        }
        let cut = self.cut.get_or_insert(Cut { first: at, records: 0, bytes: 0, counted: true });
        cut.records += 1;
        cut.bytes = cut.bytes.saturating_add(bytes);
        cut.first = cut.first.min(at);
        false
    }

    /// Gives back a record that was taken and could not be passed on; it is counted as left out.
    pub(super) fn refused(&mut self, at: WallTime, bytes: usize) {
        self.used = self.used.saturating_sub(bytes as u64);
        self.part = self.used;
        self.takes(at, bytes);
    }

    /// Says that there may be more left out than was looked at.
    pub(super) fn stopped_counting(&mut self) {
        if let Some(cut) = &mut self.cut {
            cut.counted = false;
        }
    }

    /// What did not fit.
    pub(super) fn cut(&self) -> Option<&Cut> {
        self.cut.as_ref()
    }

    /// The bytes that were taken.
    pub(super) fn used(&self) -> u64 {
        self.used
    }
}

impl Cut {
    /// The interval that is not covered any more.
    pub(super) fn interval(&self, window: Window) -> Option<Window> {
        Window::new(self.first.max(window.from()), window.until()).ok()
    }

    /// For the detail of a gap.
    pub(super) fn describe(&self) -> String {
        let least = if self.counted { "" } else { "at least " };
        format!("{least}{} records, {least}{} left out", self.records, Bytes(self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy as _, prop_assert, proptest};

    use super::*;

    /// What each log gets of a budget, in the order given, when each is one byte a record.
    fn divide(total: u64, needs: &[u64]) -> Vec<u64> {
        let mut budget = Budget::new(Bytes(total), needs.len());
        needs
            .iter()
            .map(|need| {
                let mut part = budget.part();
                for _ in 0..*need {
                    part.takes(WallTime::from_nanos(0), 1);
                }
                budget.settle(&part);
                part.used()
            })
            .collect()
    }

    #[test]
    fn a_huge_log_costs_a_small_one_nothing() {
        assert_eq!(divide(100, &[5, 10, 1_000_000]), [5, 10, 85]);
        assert_eq!(divide(100, &[50, 60, 70]), [33, 33, 34]);
        assert_eq!(divide(0, &[1, 2]), [0, 0]);
        assert_eq!(divide(7, &[]), [0_u64; 0]);
    }

    #[test]
    fn a_log_source_gets_what_the_others_do_not_need() {
        let part = |own: &[u64], others: &[u64]| part_of(Bytes(1000), own, others).0;
        assert_eq!((part(&[900], &[10]), part(&[10], &[900])), (990, 100));
        // Ninety-nine logs of one source and one of another: one level for all hundred.
        assert_eq!((part(&[10; 99], &[500]), part(&[500], &[10; 99])), (990, 10));
        assert_eq!((part(&[u64::MAX], &[u64::MAX]), part(&[], &[u64::MAX])), (500, 0));
        assert_eq!(part_of(Bytes(u64::MAX), &[u64::MAX; 3], &[u64::MAX]).0, u64::MAX - u64::MAX / 4);
    }

    #[test]
    fn after_the_first_record_that_does_not_fit_none_is_taken() {
        let mut part = Budget::new(Bytes(10), 1).part();
        let at = WallTime::from_secs;
        assert!(part.takes(at(1), 6) && !part.takes(at(2), 5) && !part.takes(at(3), 1));
        assert_eq!(part.cut(), Some(&Cut { first: at(2), records: 2, bytes: 6, counted: true }));
    }

    /// The highest level at which all that is taken fits, found by trying.
    fn highest(total: u64, needs: &[u64]) -> u64 {
        (0..=total).rev().find(|level| up_to(*level, needs) <= total).unwrap_or(0)
    }

    proptest! {
        #[test]
        fn every_log_of_every_source_is_whole_or_gets_the_level(
            (sources, order) in proptest::collection::vec(proptest::collection::vec(0_u64..300, 0..8), 1..5)
                .prop_flat_map(|s| { let n = (0..s.len()).collect::<Vec<_>>(); (Just(s), Just(n).prop_shuffle()) }),
            total in 0_u64..1500,
        ) {
            let all: Vec<u64> = sources.iter().flatten().copied().collect();
            let level = highest(total, &all);
            let (mut left, mut given) = (total, 0);
            // Whatever the order of the sources: in each the small ones come first.
            for (turn, which) in order.iter().enumerate() {
                let others: Vec<u64> = order[turn + 1..].iter().flat_map(|s| &sources[*s]).copied().collect();
                let mut own = sources[*which].clone();
                own.sort_unstable();
                let part = part_of(Bytes(left), &own, &others).0;
                prop_assert!(part <= left);
                for (need, got) in own.iter().zip(divide(part, &own)) {
                    prop_assert!(got >= level.min(*need), "{got} of {need}, the level is {level}");
                    (left, given) = (left - got, given + got);
                }
            }
            // Nothing is kept back while somebody is in need, but for what does not divide.
            prop_assert!(given == all.iter().sum::<u64>() || given + all.len() as u64 >= total);
        }

        #[test]
        fn whatever_is_said_of_the_logs_none_gets_less_than_an_equal_part(
            needs in proptest::collection::vec(0_u64..300, 1..12), total in 0_u64..1500,
        ) {
            let given = divide(total, &needs);
            prop_assert!(given.iter().sum::<u64>() <= total);
            let equal = total / needs.len() as u64;
            prop_assert!(given.iter().zip(&needs).all(|(got, need)| *got >= equal.min(*need)), "{given:?} of {needs:?}");
        }
    }
}
