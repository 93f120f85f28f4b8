//! The byte budget of one log source, shared fairly between its logs. Pure arithmetic.
//!
//! Every log gets an equal part of what is left when its turn comes, and what it does not need is left to those after
//! it. With the small ones first that is the fairest division there is: no log can get more without taking it from one
//! that got no more than it. Whatever the order, no log gets less than an equal part of the whole.

use casefile_proto::time::{WallTime, Window};
use casefile_proto::units::Bytes;

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
    use proptest::prelude::{prop_assert, proptest};

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
    fn after_the_first_record_that_does_not_fit_none_is_taken() {
        let mut part = Budget::new(Bytes(10), 1).part();
        let at = WallTime::from_secs;
        assert!(part.takes(at(1), 6) && !part.takes(at(2), 5) && !part.takes(at(3), 1));
        assert_eq!(part.cut(), Some(&Cut { first: at(2), records: 2, bytes: 6, counted: true }));
    }

    proptest! {
        #[test]
        fn shares_are_max_min_fair_when_the_small_come_first(
            mut needs in proptest::collection::vec(0_u64..300, 1..12), total in 0_u64..1500,
        ) {
            needs.sort_unstable();
            let given = divide(total, &needs);
            prop_assert!(given.iter().sum::<u64>() <= total);
            let most = given.iter().copied().max().unwrap();
            for (got, need) in given.iter().zip(&needs) {
                // Who did not get what it needs got as much as anyone, but for what does not divide.
                prop_assert!(got == need || *got + needs.len() as u64 >= most, "{given:?} of {needs:?}");
            }
            // Nothing is kept back while somebody is in need.
            let rest = total - given.iter().sum::<u64>();
            prop_assert!(given == needs || rest == 0, "{rest} left, {given:?} of {needs:?}");
        }
    }
}
