//! Since when a kind is followed, when it was not, and why: what the coverage of an archive says of it. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::time::{WallTime, Window};

use super::entry::GapHead;

/// A watch that stood again within this has missed nothing that anybody would see.
const MOMENT: Duration = Duration::from_secs(10);

/// The most gaps that are remembered of one kind; of more the oldest are told as one.
const MAX_GAPS: usize = 256;

/// Why a kind is not followed now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Since when.
    pub from: WallTime,
    /// Why.
    pub reason: GapReason,
    /// What exactly.
    pub detail: String,
}

/// How one kind is followed.
#[derive(Debug, Clone, Default)]
pub struct Contact {
    since: Option<WallTime>,
    heard: Option<WallTime>,
    lost: Option<Lost>,
    gaps: VecDeque<GapHead>,
}

impl Contact {
    /// As an earlier collector left it: followed since then, and heard of until then.
    pub fn restored(&mut self, since: WallTime, heard: WallTime) {
        (self.since, self.heard) = (Some(since), Some(heard));
        let detail = "the collector did not run, or was not yet following the cluster again".to_owned();
        self.lost = Some(Lost { from: heard, reason: GapReason::NotRecorded, detail });
    }

    /// A gap that an earlier collector wrote down.
    pub fn remembered(&mut self, gap: GapHead) {
        if self.gaps.len() == MAX_GAPS
            && let (Some(oldest), Some(next)) = (self.gaps.pop_front(), self.gaps.front_mut())
        {
            next.from = oldest.from;
        }
        self.gaps.push_back(gap);
    }

    /// Since when it is followed and when it was heard of last; `None`: it has never been listed.
    pub fn followed(&self) -> Option<(WallTime, WallTime)> {
        self.since.zip(self.heard)
    }

    /// Whether it was never listed, so that nobody knows since when its objects are as they are.
    pub fn is_new(&self) -> bool {
        self.since.is_none()
    }

    /// Whether what happens is heard now.
    pub fn is_followed(&self) -> bool {
        !self.is_new() && self.lost_since().is_none()
    }

    /// Something was heard: up to now nothing was missed.
    pub fn heard(&mut self, at: WallTime) {
        self.heard = self.heard.max(Some(at));
    }

    /// It is not followed any more. What was said last counts, but for the time.
    pub fn lost(&mut self, at: WallTime, reason: GapReason, detail: String) {
        let from = match &self.lost {
            Some(lost) => lost.from,
            None => self.heard.unwrap_or(at),
        };
        self.lost = Some(Lost { from, reason, detail });
    }

    /// Since when it is not followed; `None`: it is, or never was.
    pub fn lost_since(&self) -> Option<WallTime> {
        self.since?;
        self.lost.as_ref().map(|lost| lost.from)
    }

    /// It was listed as a whole: what happened while it was lost is known only by its results. The gap, to be written down.
    pub fn listed(&mut self, kind: &str, at: WallTime) -> Option<GapHead> {
        let lost = self.lost.take();
        let followed = self.since.is_some();
        self.since.get_or_insert(at);
        self.heard(at);
        let lost = lost.filter(|_| followed)?;
        self.closed(kind, lost, at)
    }

    /// It is followed from where it was lost: every version was told after all, only not when it happened.
    pub fn resumed(&mut self, kind: &str, at: WallTime) -> Option<GapHead> {
        let mut lost = self.lost.take()?;
        self.heard(at);
        if at < lost.from.after(MOMENT) {
            return None;
        }
        lost.detail.push_str("; what changed meanwhile was told afterwards, and bears the time of that");
        self.closed(kind, lost, at)
    }

    fn closed(&mut self, kind: &str, lost: Lost, at: WallTime) -> Option<GapHead> {
        let Lost { from, reason, detail } = lost;
        if from >= at {
            return None;
        }
        let gap = GapHead { kind: kind.to_owned(), from, until: at, reason, detail };
        self.remembered(gap.clone());
        Some(gap)
    }

    /// What of a window is covered and what is missing, as of now, when the log goes back to `begin`.
    pub fn covered(&self, window: Window, begin: WallTime, now: WallTime) -> (Vec<Window>, Vec<Gap>) {
        let mut gaps = Vec::new();
        let mut missing = |from: WallTime, until: WallTime, reason: GapReason, detail: &str| {
            let within = Window::new(from, until).ok().and_then(|gap| gap.intersect(&window));
            gaps.extend(within.map(|within| Gap::new(reason, detail).over(within)));
        };
        let Some(since) = self.since else {
            match &self.lost {
                Some(lost) => missing(window.from(), window.until(), lost.reason, &lost.detail),
                None => missing(window.from(), window.until(), GapReason::NotRecorded, "it was not listed yet"),
            }
            return (Vec::new(), gaps);
        };
        let start = since.max(begin);
        missing(window.from(), start, GapReason::NotRecorded, "the record of the cluster begins later");
        for gap in self.gaps.iter().filter(|gap| gap.until > start) {
            missing(gap.from.max(start), gap.until, gap.reason, &gap.detail);
        }
        match &self.lost {
            Some(lost) => missing(lost.from.max(start), window.until(), lost.reason, &lost.detail),
            None => missing(now.max(start), window.until(), GapReason::NotRecorded, "the archive was made before"),
        }
        (without(window, &gaps), gaps)
    }
}

/// What is left of a window.
fn without(window: Window, gaps: &[Gap]) -> Vec<Window> {
    let mut holes: Vec<_> = gaps.iter().filter_map(|gap| gap.interval).collect();
    holes.sort_by_key(Window::from);
    let (mut from, mut left) = (window.from(), Vec::new());
    for hole in holes {
        left.extend(Window::new(from, hole.from()).ok());
        from = from.max(hole.until());
    }
    left.extend(Window::new(from, window.until()).ok());
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> WallTime {
        WallTime::from_secs(secs)
    }

    type Told = (Vec<(i64, i64)>, Vec<(GapReason, i64, i64)>);

    fn told(contact: &Contact, from: i64, until: i64) -> Told {
        let pair = |w: &Window| (w.from().nanos() / 1_000_000_000, w.until().nanos() / 1_000_000_000);
        let (covered, gaps) = contact.covered(Window::new(at(from), at(until)).unwrap(), at(0), at(1_000));
        let gaps = gaps.iter().map(|g| (g.reason, pair(&g.interval.unwrap()).0, pair(&g.interval.unwrap()).1));
        (covered.iter().map(pair).collect(), gaps.collect())
    }

    #[test]
    fn what_was_never_listed_is_missing_with_the_reason_that_it_was_not() {
        let mut contact = Contact::default();
        assert_eq!(told(&contact, 0, 10), (vec![], vec![(GapReason::NotRecorded, 0, 10)]));
        contact.lost(at(5), GapReason::PermissionDenied, "forbidden".to_owned());
        assert_eq!(told(&contact, 0, 10), (vec![], vec![(GapReason::PermissionDenied, 0, 10)]));
        assert_eq!(contact.listed("pods", at(20)), None, "nothing was followed that could have been lost");
        assert_eq!(told(&contact, 10, 30), (vec![(20, 30)], vec![(GapReason::NotRecorded, 10, 20)]));
    }

    #[test]
    fn a_gap_begins_with_what_was_heard_last_and_ends_with_the_next_list() {
        let mut contact = Contact::default();
        contact.listed("pods", at(10));
        contact.heard(at(50));
        contact.lost(at(60), GapReason::SourceFailed, "away".to_owned());
        contact.lost(at(70), GapReason::TimedOut, "late".to_owned());
        assert_eq!(told(&contact, 40, 100), (vec![(40, 50)], vec![(GapReason::TimedOut, 50, 100)]));
        let gap = contact.listed("pods", at(80)).unwrap();
        assert_eq!((gap.from, gap.until), (at(50), at(80)));
        assert_eq!(told(&contact, 40, 100), (vec![(40, 50), (80, 100)], vec![(GapReason::TimedOut, 50, 80)]));
    }

    #[test]
    fn what_is_resumed_at_once_has_no_gap_and_what_is_resumed_later_says_so() {
        let mut contact = Contact::default();
        contact.listed("pods", at(10));
        contact.lost(at(11), GapReason::SourceFailed, "the watch ended".to_owned());
        assert_eq!(contact.resumed("pods", at(15)), None);
        contact.lost(at(20), GapReason::SourceFailed, "away".to_owned());
        let gap = contact.resumed("pods", at(90)).unwrap();
        assert_eq!((gap.from, gap.until), (at(15), at(90)));
        assert!(gap.detail.contains("told afterwards"));
    }

    #[test]
    fn a_restart_is_a_gap_from_what_the_one_before_heard_last() {
        let mut contact = Contact::default();
        contact.restored(at(5), at(40));
        assert_eq!(told(&contact, 30, 60), (vec![(30, 40)], vec![(GapReason::NotRecorded, 40, 60)]));
        assert_eq!(contact.listed("pods", at(50)).map(|g| g.from), Some(at(40)));
        for n in 0..2 * i64::try_from(MAX_GAPS).unwrap() {
            contact.lost(at(100 + 20 * n), GapReason::SourceFailed, String::new());
            contact.listed("pods", at(110 + 20 * n));
        }
        assert_eq!((contact.gaps.len(), contact.gaps[0].from), (MAX_GAPS, at(40)), "nothing is forgotten, only joined");
    }
}
