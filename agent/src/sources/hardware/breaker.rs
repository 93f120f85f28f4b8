//! A circuit breaker: whether something that does harm when it fails may be asked now. Pure: the clock is an argument.
//!
//! Closed, it may be asked. A refusal opens it: for ten minutes nobody asks. Then it is tried once, and what comes of
//! that is known one measurement later: another refusal opens it for twice as long, up to a day; silence closes it.

use std::time::Duration;

use casefile_proto::time::BootTime;

/// How long nothing is asked after the first refusal.
pub(super) const FIRST_WAIT: Duration = Duration::from_secs(10 * 60);
/// And at most.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// See the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Breaker(State);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// May be asked. What it waited the last time is remembered for as long again: what fails, recovers and fails is
    /// not tried every ten minutes.
    Closed { since: BootTime, last_wait: Duration },
    /// Not to be asked before `until`.
    Open { until: BootTime, wait: Duration },
    /// Was asked once after a wait; not yet known how it went.
    Trying { wait: Duration },
}

/// What may be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Permit {
    /// Ask.
    Ask,
    /// The wait is over: one may be tried ([`Breaker::try_again`]).
    MayTry,
    /// Leave it alone, for as long as this at a time.
    Leave(Duration),
}

impl Breaker {
    /// Closed.
    pub(super) fn new() -> Self {
        Self(State::Closed { since: BootTime::from_nanos(0), last_wait: Duration::ZERO })
    }

    /// What may be done at this measurement. One that was tried at the measurement before, and of which no refusal
    /// was told since, closes.
    pub(super) fn permit(&mut self, now: BootTime) -> Permit {
        match self.0 {
            State::Closed { .. } => Permit::Ask,
            State::Trying { wait } => {
                self.0 = State::Closed { since: now, last_wait: wait };
                Permit::Ask
            }
            State::Open { until, .. } if now >= until => Permit::MayTry,
            State::Open { wait, .. } => Permit::Leave(wait),
        }
    }

    /// It is asked once after its wait.
    pub(super) fn try_again(&mut self) {
        if let State::Open { wait, .. } = self.0 {
            self.0 = State::Trying { wait };
        }
    }

    /// It was refused. An open one stays as it is: nothing was asked, so the refusal was somebody else's.
    pub(super) fn refused(&mut self, now: BootTime) {
        let wait = match self.0 {
            State::Open { .. } => return,
            State::Trying { wait } => longer(wait),
            State::Closed { since, last_wait } if passed(since, now) < last_wait => longer(last_wait),
            State::Closed { .. } => FIRST_WAIT,
        };
        let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        self.0 = State::Open { until: BootTime::from_nanos(now.nanos().saturating_add(nanos)), wait };
    }

    /// Whether it was asked once after a wait, and it is not yet known how that went.
    pub(super) fn is_trying(&self) -> bool {
        matches!(self.0, State::Trying { .. })
    }

    /// How long it is left alone at a time, while it is.
    pub(super) fn wait(&self) -> Option<Duration> {
        match self.0 {
            State::Open { wait, .. } => Some(wait),
            State::Closed { .. } | State::Trying { .. } => None,
        }
    }
}

fn longer(wait: Duration) -> Duration {
    wait.saturating_mul(2).clamp(FIRST_WAIT, LONGEST_WAIT)
}

fn passed(since: BootTime, now: BootTime) -> Duration {
    Duration::from_nanos(now.nanos().saturating_sub(since.nanos()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: u64 = 60;

    fn at(seconds: u64) -> BootTime {
        BootTime::from_nanos(seconds * 1_000_000_000)
    }

    fn minutes(n: u64) -> Duration {
        Duration::from_secs(n * MINUTE)
    }

    /// Refused at `now`, tried as soon as that is permitted, refused again: how long it is then left alone.
    fn refused_again(breaker: &mut Breaker, now: &mut u64) -> Duration {
        *now += breaker.wait().unwrap().as_secs();
        assert_eq!(breaker.permit(at(*now)), Permit::MayTry);
        breaker.try_again();
        breaker.refused(at(*now));
        breaker.wait().unwrap()
    }

    #[test]
    fn a_refusal_opens_it_for_ten_minutes() {
        let mut breaker = Breaker::new();
        assert_eq!(breaker.permit(at(5)), Permit::Ask);
        breaker.refused(at(5));
        assert_eq!(breaker.permit(at(6)), Permit::Leave(minutes(10)));
        assert_eq!(breaker.permit(at(5 + 10 * MINUTE - 1)), Permit::Leave(minutes(10)));
        assert_eq!(breaker.permit(at(5 + 10 * MINUTE)), Permit::MayTry);
    }

    #[test]
    fn a_trial_that_nobody_complains_about_closes_it() {
        let mut breaker = Breaker::new();
        breaker.refused(at(0));
        assert_eq!(breaker.permit(at(600)), Permit::MayTry);
        breaker.try_again();
        assert_eq!((breaker.permit(at(610)), breaker.permit(at(620))), (Permit::Ask, Permit::Ask));
    }

    #[test]
    fn each_refused_trial_doubles_the_wait_up_to_a_day() {
        let (mut breaker, mut now) = (Breaker::new(), 0);
        breaker.refused(at(0));
        let waits: Vec<_> = (0..9).map(|_| refused_again(&mut breaker, &mut now).as_secs() / MINUTE).collect();
        assert_eq!(waits, [20, 40, 80, 160, 320, 640, 1280, 1440, 1440]);
    }

    #[test]
    fn a_complaint_while_it_is_open_changes_nothing() {
        let mut breaker = Breaker::new();
        breaker.refused(at(0));
        let before = breaker;
        breaker.refused(at(300));
        assert_eq!(breaker, before);
    }

    #[test]
    fn one_that_is_due_waits_until_it_is_tried() {
        let mut breaker = Breaker::new();
        breaker.refused(at(0));
        assert_eq!((breaker.permit(at(700)), breaker.permit(at(800))), (Permit::MayTry, Permit::MayTry));
    }

    #[test]
    fn what_fails_soon_after_it_recovered_is_left_alone_for_longer() {
        let recovered = || {
            let mut breaker = Breaker::new();
            breaker.refused(at(0));
            breaker.permit(at(600));
            breaker.try_again();
            assert_eq!(breaker.permit(at(610)), Permit::Ask);
            breaker
        };
        let mut soon = recovered();
        soon.refused(at(610 + 599));
        assert_eq!(soon.wait(), Some(minutes(20)));
        let mut later = recovered();
        later.refused(at(610 + 600));
        assert_eq!(later.wait(), Some(minutes(10)));
    }

    proptest! {
        /// Whatever happens when: never asked before the wait is over, and the wait stays between its bounds.
        #[test]
        fn it_is_never_asked_too_early(steps in prop::collection::vec((0u64..100_000, 0u8..3), 1..60)) {
            let (mut breaker, mut now, mut not_before) = (Breaker::new(), 0, 0);
            for (passes, event) in steps {
                now += passes;
                let permit = breaker.permit(at(now));
                prop_assert!(matches!(permit, Permit::Leave(_)) == (now < not_before));
                match event {
                    0 if permit == Permit::MayTry => breaker.try_again(),
                    1 if permit == Permit::Ask => {
                        breaker.refused(at(now));
                        let wait = breaker.wait().unwrap();
                        prop_assert!((FIRST_WAIT..=LONGEST_WAIT).contains(&wait));
                        not_before = now + wait.as_secs();
                    }
                    _ => {}
                }
            }
        }
    }
}
