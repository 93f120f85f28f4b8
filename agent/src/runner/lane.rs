//! What the runner knows of one source, and what it decides about it: due or not, opened anew when, given up or not.
//! Pure: ticks and outcomes in, decisions out.

use std::time::{Duration, Instant};

use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::sample::Outcome;

use super::pool::{End, Unit};
use crate::sources::{SourceError, SourceSpec};

/// Ticks between two looks for a thing that this machine does not have.
const ABSENT_RETRY: u64 = 60;

/// The most ticks between two tries to open a source that fails; it begins at one and doubles.
const FAILED_RETRY_MAX: u64 = 60;

/// Ticks before a source whose thread is blocked is tried on another thread; it doubles up to the most.
const BLOCKED_RETRY: u64 = 30;
const BLOCKED_RETRY_MAX: u64 = 600;

/// Ticks for which a source that changes between complete and partial is not told again: some processes always vanish
/// between two reads, and that is no news.
const FLAPPING: u64 = 60;

/// `why` of the outcome of a source that has not answered yet and still may: its deadline is longer than a tick.
pub(super) const STILL_MEASURING: &str = "still measuring since a tick before";
/// `why` of the outcome of a source whose turn did not come: the machine was too busy.
pub(super) const NO_TURN: &str = "its turn did not come within the tick";
/// `why` of the outcome of a source that is not opened again because too many threads are blocked already.
pub(super) const SWITCHED_OFF: &str =
    "switched off: it is blocked, and as many threads as are allowed are blocked already";

/// Where a source is.
pub(super) enum Place {
    /// Here, to be measured.
    Here(Box<Unit>),
    /// With a thread, or queued for one.
    Away,
    /// With a thread that did not come back in time, since then.
    Lost(Instant),
}

/// What is to be done with a source at a tick.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Measure it (opening it first if need be).
    Measure,
    /// Open it on another thread, because the one that it has is blocked.
    OpenAnew,
    /// Say this; nothing is measured.
    Say(Outcome),
    /// It is with a thread and has time left.
    Wait,
}

/// One source.
pub(super) struct Lane {
    pub(super) spec: &'static SourceSpec,
    /// Ticks between two measurements.
    pub(super) period: u64,
    /// How many times less often it is measured, because it is dear.
    pub(super) times: u64,
    pub(super) place: Place,
    next_due: u64,
    /// The tick at which it was due last.
    last_due: u64,
    /// The outcome that is repeated until the source is opened again: absent or failed.
    standing: Option<Outcome>,
    retry: u64,
    failures: u32,
    blocks: u32,
    told: Option<(Outcome, u64)>,
}

fn doubling(first: u64, times: u32, most: u64) -> u64 {
    first.checked_shl(times.min(32)).unwrap_or(most).min(most)
}

impl Lane {
    pub(super) fn new(spec: &'static SourceSpec, unit: Box<Unit>) -> Self {
        Self {
            spec,
            period: spec.every.as_secs().max(1),
            times: 1,
            place: Place::Here(unit),
            next_due: 0,
            last_due: 0,
            standing: None,
            retry: 0,
            failures: 0,
            blocks: 0,
            told: None,
        }
    }

    /// What to do at this tick, when `blocked` threads of `most` are lost.
    pub(super) fn plan(&mut self, turn: u64, blocked: u64, most: u64, now: Instant) -> Plan {
        let due = turn >= self.next_due;
        let since = match &self.place {
            Place::Away => return Plan::Wait,
            _ if !due && self.times > 1 && turn.saturating_sub(self.last_due).is_multiple_of(self.period) => {
                return Plan::Say(Outcome::saved());
            }
            _ if !due => return Plan::Say(Outcome::not_due()),
            Place::Here(_) => {
                (self.last_due, self.next_due) = (turn, turn + self.period * self.times);
                return match &self.standing {
                    Some(standing) if turn < self.retry => Plan::Say(standing.clone()),
                    _ => Plan::Measure,
                };
            }
            Place::Lost(since) => *since,
        };
        (self.last_due, self.next_due) = (turn, turn + self.period * self.times);
        if turn < self.retry {
            Plan::Say(timed_out(now.saturating_duration_since(since)))
        } else if blocked >= most {
            Plan::Say(Outcome::Skipped { why: SWITCHED_OFF.to_owned() })
        } else {
            Plan::OpenAnew
        }
    }

    /// It did not answer in time: its thread is lost until it comes back by itself.
    pub(super) fn lose(&mut self, began: Instant, turn: u64, now: Instant) -> Outcome {
        self.place = Place::Lost(began);
        self.retry = turn + doubling(BLOCKED_RETRY, self.blocks, BLOCKED_RETRY_MAX);
        self.blocks = self.blocks.saturating_add(1);
        timed_out(now.saturating_duration_since(began))
    }

    /// What is said of a source that has not answered when the frame has to go, and still may.
    pub(super) fn while_away(&self) -> Outcome {
        // One that is read every ten ticks is not missing while it is being read.
        if self.period > 1 { Outcome::not_due() } else { Outcome::Skipped { why: STILL_MEASURING.to_owned() } }
    }

    /// Its thread has come back: there is reason to try again at once.
    pub(super) fn came_back(&mut self) {
        if matches!(self.place, Place::Lost(_)) {
            self.retry = 0;
        }
    }

    /// From now on it is measured so many times less often than it wants to be.
    pub(super) fn slow_down(&mut self, times: u64) {
        self.times = times;
        self.next_due = self.next_due.min(self.last_due + self.period * times);
    }

    /// Its turn did not come: it is tried at the next tick.
    pub(super) fn put_back(&mut self, unit: Box<Unit>, turn: u64) {
        self.place = Place::Here(unit);
        self.next_due = turn + 1;
    }

    /// A measurement ended: what that means for this tick, and for when it is opened next.
    pub(super) fn end(&mut self, end: End, readings: usize, gaps: Vec<Gap>, turn: u64) -> Outcome {
        self.blocks = 0;
        let (outcome, retry) = match end {
            End::Measured => (from_gaps(gaps), None),
            End::Broke(error) if readings > 0 => {
                let mut gaps = gaps;
                gaps.push(gap_of(&error));
                (Outcome::Partial { gaps }, None)
            }
            End::Broke(SourceError::Stalled { after, .. }) => (timed_out(after), None),
            End::Absent(why) | End::Broke(SourceError::Absent { why }) => (Outcome::Absent { why }, Some(ABSENT_RETRY)),
            End::Broke(error) | End::NotOpened(error) => {
                (Outcome::Failed { error: chain(&error) }, Some(self.back_off()))
            }
            End::Panicked(error) => (Outcome::Failed { error }, Some(self.back_off())),
        };
        match retry {
            None => {
                self.failures = 0;
                self.standing = None;
            }
            Some(ticks) => {
                self.retry = turn + ticks;
                self.standing = Some(outcome.clone());
            }
        }
        outcome
    }

    fn back_off(&mut self) -> u64 {
        let ticks = doubling(1, self.failures, FAILED_RETRY_MAX);
        self.failures = self.failures.saturating_add(1);
        ticks
    }

    /// What an event should say of this outcome: `None` where it is no news.
    pub(super) fn news(&mut self, outcome: &Outcome, turn: u64) -> Option<String> {
        if matches!(outcome, Outcome::Skipped { why } if why != SWITCHED_OFF) {
            return None;
        }
        let text = match &self.told {
            // What was found at first, the event of the agent's start tells.
            None => None,
            Some((before, _)) if before.word() == outcome.word() => return None,
            Some((before, at)) if usable(before) && usable(outcome) && turn < at + FLAPPING => return None,
            Some((before, _)) => Some(format!("{}: {} → {}", self.spec.name, before.word(), told(outcome))),
        };
        self.told = Some((outcome.clone(), turn));
        text
    }
}

fn usable(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Complete | Outcome::Partial { .. })
}

/// The word for an outcome and its reason.
pub(crate) fn told(outcome: &Outcome) -> String {
    let word = outcome.word();
    match outcome {
        Outcome::Complete => word.to_owned(),
        Outcome::Partial { gaps } => match gaps.first() {
            Some(gap) if gaps.len() == 1 => format!("{word} ({}: {})", gap.reason, gap.detail),
            Some(gap) => format!("{word} ({}: {}, and {} more gaps)", gap.reason, gap.detail, gaps.len() - 1),
            None => word.to_owned(),
        },
        Outcome::Absent { why } | Outcome::Skipped { why } => format!("{word} ({why})"),
        Outcome::Failed { error } => format!("{word} ({error})"),
        Outcome::TimedOut { after_nanos } => format!("{word} (after {:?})", Duration::from_nanos(*after_nanos)),
    }
}

fn from_gaps(gaps: Vec<Gap>) -> Outcome {
    if gaps.is_empty() { Outcome::Complete } else { Outcome::Partial { gaps } }
}

fn timed_out(after: Duration) -> Outcome {
    Outcome::TimedOut { after_nanos: u64::try_from(after.as_nanos()).unwrap_or(u64::MAX) }
}

/// What an error that ended a measurement early means for what was not read.
fn gap_of(error: &SourceError) -> Gap {
    let reason = match error {
        SourceError::Host(e) if e.is_permission() => GapReason::PermissionDenied,
        SourceError::Host(crate::host::HostError::Refused { .. }) => GapReason::RefusedUnsafePath,
        SourceError::Parse { .. } => GapReason::ParseFailed,
        SourceError::Stalled { .. } => GapReason::TimedOut,
        SourceError::Absent { .. } => GapReason::SourceAbsent,
        SourceError::Host(_) | SourceError::Call { .. } | SourceError::Refused { .. } => GapReason::SourceFailed,
    };
    Gap::new(reason, chain(error))
}

/// An error and what caused it, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text.truncate(text.floor_char_boundary(Gap::MAX_DETAIL));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::{Measurement, Opened};

    static SPEC: SourceSpec = SourceSpec {
        name: "fake",
        about: "",
        every: Duration::from_secs(10),
        deadline: Duration::from_secs(2),
        metrics: &[],
        open: |_| Ok(Opened::Absent { why: String::new() }),
    };

    fn unit() -> Box<Unit> {
        Box::new(Unit { source: None, out: Measurement::new(&[]) })
    }

    #[test]
    fn a_source_is_due_every_so_many_ticks_and_says_so_in_between() {
        let mut lane = Lane::new(&SPEC, unit());
        let now = Instant::now();
        let plans: Vec<_> = (0..21).map(|turn| lane.plan(turn, 0, 8, now) == Plan::Measure).collect();
        let due: Vec<_> = plans.iter().enumerate().filter(|(_, due)| **due).map(|(turn, _)| turn).collect();
        assert_eq!(due, [0, 10, 20]);
        assert_eq!(lane.plan(25, 0, 8, now), Plan::Say(Outcome::not_due()));
        // After ticks that were missed it is measured at once.
        assert_eq!(lane.plan(90, 0, 8, now), Plan::Measure);
    }

    #[test]
    fn a_dear_source_is_measured_less_often_and_says_so_when_it_would_be_due() {
        let mut lane = Lane::new(&SPEC, unit());
        let now = Instant::now();
        let said = |lane: &mut Lane, turns: std::ops::Range<u64>| -> Vec<(u64, &str)> {
            let plans = turns.map(|turn| (turn, lane.plan(turn, 0, 8, now)));
            plans
                .filter_map(|(turn, plan)| match plan {
                    Plan::Measure => Some((turn, "measured")),
                    Plan::Say(outcome) if outcome.is_not_due() => None,
                    Plan::Say(outcome) if outcome.is_saved() => Some((turn, "saved")),
                    other => panic!("{other:?}"),
                })
                .collect()
        };
        assert_eq!(said(&mut lane, 0..5), [(0, "measured")]);
        lane.slow_down(2);
        assert_eq!(said(&mut lane, 5..15), [(10, "measured")], "what is due already is not put off");
        assert_eq!(said(&mut lane, 15..45), [(20, "saved"), (30, "measured"), (40, "saved")]);
        lane.slow_down(1);
        assert_eq!(said(&mut lane, 45..65), [(45, "measured"), (55, "measured")]);
    }

    #[test]
    fn a_failing_source_is_tried_again_after_ever_longer_times() {
        let mut lane = Lane::new(&SPEC, unit());
        lane.period = 1;
        let mut tries = vec![];
        for turn in 0..200 {
            if lane.plan(turn, 0, 8, Instant::now()) == Plan::Measure {
                tries.push(turn);
                let outcome = lane.end(End::Panicked("x".to_owned()), 0, vec![], turn);
                assert_eq!(outcome.word(), "failed");
            }
        }
        assert_eq!(tries, [0, 1, 3, 7, 15, 31, 63, 123, 183]);
        assert_eq!(lane.end(End::Measured, 1, vec![], 200), Outcome::Complete);
        assert_eq!(
            (lane.plan(201, 0, 8, Instant::now()), lane.plan(202, 0, 8, Instant::now())),
            (Plan::Measure, Plan::Measure)
        );
    }

    #[test]
    fn a_thing_that_is_absent_is_looked_for_once_a_minute() {
        let mut lane = Lane::new(&SPEC, unit());
        lane.period = 1;
        let mut tries = vec![];
        for turn in 0..150 {
            match lane.plan(turn, 0, 8, Instant::now()) {
                Plan::Measure => {
                    tries.push(turn);
                    lane.end(End::Absent("none".to_owned()), 0, vec![], turn);
                }
                said => assert_eq!(said, Plan::Say(Outcome::Absent { why: "none".to_owned() })),
            }
        }
        assert_eq!(tries, [0, 60, 120]);
    }

    #[test]
    fn a_lost_source_is_tried_on_another_thread_unless_too_many_are_lost() {
        let mut lane = Lane::new(&SPEC, unit());
        lane.period = 1;
        let began = Instant::now();
        let now = began + Duration::from_secs(2);
        assert_eq!(lane.lose(began, 5, now), Outcome::TimedOut { after_nanos: 2_000_000_000 });
        assert!(matches!(lane.plan(6, 1, 8, now), Plan::Say(Outcome::TimedOut { .. })));
        assert!(matches!(lane.plan(35, 8, 8, now), Plan::Say(Outcome::Skipped { .. })));
        assert_eq!(lane.plan(36, 7, 8, now), Plan::OpenAnew);
    }

    #[test]
    fn an_error_after_some_readings_is_partial_and_before_any_it_is_failed() {
        let mut lane = Lane::new(&SPEC, unit());
        let error = || SourceError::Parse { file: "proc/x".to_owned(), line: "?".to_owned(), why: "no number" };
        match lane.end(End::Broke(error()), 3, vec![], 0) {
            Outcome::Partial { gaps } => assert_eq!(gaps[0].reason, GapReason::ParseFailed),
            other => panic!("{other:?}"),
        }
        assert_eq!(lane.end(End::Broke(error()), 0, vec![], 1).word(), "failed");
        assert!(lane.standing.is_some());
    }

    #[test]
    fn only_a_change_is_news_and_flapping_is_none() {
        let mut lane = Lane::new(&SPEC, unit());
        let partial = Outcome::Partial { gaps: vec![Gap::new(GapReason::TimedOut, "/mnt hangs")] };
        assert_eq!(lane.news(&Outcome::Complete, 0), None);
        assert_eq!(lane.news(&Outcome::not_due(), 1), None);
        assert_eq!(lane.news(&partial, 70).as_deref(), Some("fake: complete → partial (timed-out: /mnt hangs)"));
        assert_eq!((lane.news(&Outcome::Complete, 71), lane.news(&partial, 72)), (None, None));
        let absent = Outcome::Absent { why: "no PSI".to_owned() };
        assert_eq!(lane.news(&absent, 73).as_deref(), Some("fake: partial → absent (no PSI)"));
        assert_eq!(lane.news(&Outcome::Complete, 74).as_deref(), Some("fake: absent → complete"));
        assert_eq!(lane.news(&Outcome::Complete, 75), None);
    }
}
