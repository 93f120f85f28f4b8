//! Which holes there are between frames: missing numbers, time in which nothing was recorded, reboots, damage, and what
//! a window asks for before the first frame and after the last. Pure: spans of frames in, holes out.
//!
//! The rule: no stretch of one and a half ticks without a frame goes unexplained. A hole that is recorded explains what
//! it covers; the rest is derived here.

use std::time::Duration;

use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::ids::{BootId, FrameSeq};
use casefile_proto::time::{Stamp, WallTime, Window};

use super::Hole;

/// One frame, or those of a block that is passed over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) boot: BootId,
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    pub(crate) first: Stamp,
    pub(crate) last: Stamp,
    /// The time between two frames.
    pub(crate) tick: Duration,
}

/// What is in front of a span.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Before {
    /// It was there already: a block was closed and its tail not yet emptied.
    Seen,
    /// These holes; mostly none.
    Holes(Vec<Hole>),
}

/// Follows one recording from front to back.
#[derive(Debug, Default)]
pub(crate) struct Continuity {
    window: Option<Window>,
    /// Only frames of this boot above this number are of interest, and nothing of time.
    after: Option<(BootId, u64)>,
    /// Retention removed what was before.
    forgotten: Option<WallTime>,
    before: Option<Span>,
    /// Up to where recorded holes explain the time after the frame before; and which numbers.
    told_until: Option<WallTime>,
    told_seq: Option<(BootId, u64)>,
    told_reboot: bool,
    /// What was damaged since the frame before.
    damage: Option<String>,
}

impl Continuity {
    pub(crate) fn new(window: Option<Window>, forgotten: Option<WallTime>) -> Self {
        Self { window, forgotten, ..Self::default() }
    }

    /// For what comes after this frame.
    pub(crate) fn after(boot: BootId, seq: u64, forgotten: Option<WallTime>) -> Self {
        Self { after: Some((boot, seq)), forgotten, ..Self::default() }
    }

    /// Bytes that were no record.
    pub(crate) fn damaged(&mut self, what: &str) {
        self.damage.get_or_insert_with(|| what.to_owned());
    }

    /// Frames come.
    pub(crate) fn span(&mut self, span: Span) -> Before {
        let holes = match self.before {
            Some(before) if before.boot == span.boot && span.last_seq <= before.last_seq => return Before::Seen,
            before if self.after.is_some() => self.following(before, &span),
            Some(before) => self.between(before, &span),
            None => self.begin(span.boot, span.first.wall, span.tick),
        };
        self.before = Some(span);
        (self.told_until, self.told_seq, self.told_reboot, self.damage) = (None, None, false, None);
        Before::Holes(holes)
    }

    /// A recorded hole comes: what of it lies in the window, with what is derived in front of it.
    pub(crate) fn hole(&mut self, mut hole: Hole) -> Vec<Hole> {
        let mut holes = Vec::new();
        if let Some((boot, seq)) = self.after {
            let is_after = hole.seqs.map(|(_, last)| last.0).or(self.before.map(|b| b.last_seq));
            if hole.boot != boot || is_after.is_none_or(|last| last < seq || (hole.seqs.is_some() && last == seq)) {
                return holes;
            }
        }
        if let (None, Some(interval)) = (&self.before, hole.gap.interval) {
            holes = self.begin(hole.boot, interval.from(), Duration::ZERO);
        }
        if let Some((_, last)) = hole.seqs {
            let told = self.told_seq.filter(|(boot, _)| *boot == hole.boot).map_or(last.0, |(_, seq)| seq.max(last.0));
            self.told_seq = Some((hole.boot, told));
        }
        self.told_reboot |= hole.gap.reason == GapReason::NodeRebooted;
        if let Some(interval) = hole.gap.interval {
            self.told_until = Some(self.told_until.map_or(interval.until(), |told| told.max(interval.until())));
            match self.clip(interval) {
                Some(clipped) => hole.gap.interval = Some(clipped),
                None => return holes,
            }
        } else if !self.is_near(self.before.map(|b| b.last.wall)) {
            return holes;
        }
        holes.push(hole);
        holes
    }

    /// Nothing comes any more.
    pub(crate) fn end(&mut self) -> Vec<Hole> {
        let Some(window) = self.window else {
            let Some((before, damage)) = self.before.zip(self.damage.take()) else { return Vec::new() };
            return vec![hole(before.boot, None, Gap::new(GapReason::ParseFailed, damage))];
        };
        let Some(before) = self.before else {
            return self.begin(BootId::from_bytes([0; 16]), window.until(), Duration::ZERO);
        };
        let known = before.last.wall.after(before.tick).max(self.told_until.unwrap_or(WallTime::MIN));
        let allowed = if self.told_until.is_some_and(|told| told >= known) { known } else { patience(&before) };
        let missing = Window::new(known.max(window.from()), window.until()).ok();
        let Some(missing) = missing.filter(|w| allowed < w.until()) else { return Vec::new() };
        let gap = self.reason(GapReason::NotRecorded, "nothing was recorded after this");
        vec![hole(before.boot, None, gap.over(missing))]
    }

    /// The holes in front of a span when only what is after a frame counts.
    fn following(&mut self, before: Option<Span>, span: &Span) -> Vec<Hole> {
        let Some((boot, seq)) = self.after else { return Vec::new() };
        if span.boot != boot || span.last_seq <= seq {
            return Vec::new();
        }
        if let Some(before) = before.filter(|before| before.boot == boot) {
            return self.between(before, span);
        }
        let told = self.told_seq.filter(|(b, _)| *b == boot).map_or(seq, |(_, told)| told.max(seq));
        let (first, last) = (told.saturating_add(1), span.first_seq.saturating_sub(1));
        if first > last {
            return Vec::new();
        }
        let reason = if self.forgotten.is_some() { GapReason::RingOverwritten } else { GapReason::NotRecorded };
        let gap = self.reason(reason, &format!("frames {first} to {last} are not in the recording"));
        vec![hole(boot, Some((FrameSeq(first), FrameSeq(last))), gap.counting(last - first + 1))]
    }

    /// The holes between two spans.
    fn between(&mut self, before: Span, span: &Span) -> Vec<Hole> {
        let from = before.last.wall.after(before.tick).max(self.told_until.unwrap_or(WallTime::MIN));
        let interval = Window::new(from, span.first.wall).ok();
        let told = self.told_seq.filter(|(boot, _)| *boot == span.boot).map(|(_, seq)| seq);
        let is_new_boot = before.boot != span.boot;
        let known = if is_new_boot { told.unwrap_or(0) } else { told.unwrap_or(0).max(before.last_seq) };
        let known = known.max(self.after.map_or(0, |(_, seq)| seq));
        let missing = (known.saturating_add(1), span.first_seq.saturating_sub(1));
        let seqs = (missing.0 <= missing.1).then_some((FrameSeq(missing.0), FrameSeq(missing.1)));
        let gap = if is_new_boot {
            if self.told_reboot {
                return Vec::new();
            }
            self.reason(GapReason::NodeRebooted, "the node was rebooted")
        } else if let Some((first, last)) = seqs {
            self.reason(GapReason::NotRecorded, &format!("frames {first} to {last} are not in the recording"))
        } else {
            let passed = span.first.boot.since(before.last.boot);
            if self.told_until.is_some() || told.is_some() || passed <= before.tick.max(span.tick).mul_f64(1.5) {
                return Vec::new();
            }
            Gap::new(GapReason::NotRecorded, "nothing was recorded: the agent was not running or was held up")
        };
        let gap = if let Some((first, last)) = seqs { gap.counting(last.0 - first.0 + 1) } else { gap };
        self.emit(hole(span.boot, seqs, gap), interval, [before.last.wall, span.first.wall])
    }

    /// The holes between the begin of the window and the first thing that there is.
    fn begin(&mut self, boot: BootId, first: WallTime, tick: Duration) -> Vec<Hole> {
        let Some(window) = self.window else { return Vec::new() };
        let from = window.from().max(self.told_until.unwrap_or(WallTime::MIN));
        if first <= from.after(tick.mul_f64(1.5)) {
            return Vec::new();
        }
        let end = first.min(window.until());
        // The first frame that is left follows the last that was removed, unless there was a hole already.
        let close = tick.max(Duration::from_secs(1)).mul_f64(1.5);
        let mark = self.forgotten.map(|mark| if mark.after(close) >= first { end } else { mark.min(end) });
        let mark = mark.unwrap_or(WallTime::MIN).max(from);
        let mut holes = Vec::new();
        if let Ok(interval) = Window::new(from, mark) {
            let gap = Gap::new(GapReason::RingOverwritten, "older frames made room for newer ones");
            holes.push(hole(boot, None, gap.over(interval)));
        }
        if let Ok(interval) = Window::new(mark, end) {
            let gap = self.reason(GapReason::NotRecorded, "nothing was recorded before this");
            holes.push(hole(boot, None, gap.over(interval)));
        }
        holes
    }

    fn reason(&self, reason: GapReason, detail: &str) -> Gap {
        match &self.damage {
            Some(damage) => Gap::new(GapReason::ParseFailed, format!("{detail}: {damage}")),
            None => Gap::new(reason, detail),
        }
    }

    /// The hole, as far as the window holds it; without an interval when the clock was stepped over it.
    fn emit(&self, mut hole: Hole, interval: Option<Window>, near: [WallTime; 2]) -> Vec<Hole> {
        let inside = match interval {
            Some(interval) => {
                hole.gap.interval = self.clip(interval);
                hole.gap.interval.is_some()
            }
            None => near.into_iter().any(|wall| self.is_near(Some(wall))),
        };
        if inside { vec![hole] } else { Vec::new() }
    }

    fn clip(&self, interval: Window) -> Option<Window> {
        self.window.map_or(Some(interval), |window| window.intersect(&interval))
    }

    fn is_near(&self, wall: Option<WallTime>) -> bool {
        self.window.is_none_or(|window| wall.is_some_and(|wall| window.contains(wall)))
    }
}

fn hole(boot: BootId, seqs: Option<(FrameSeq, FrameSeq)>, gap: Gap) -> Hole {
    Hole { boot, seqs, gap }
}

/// How long after a frame the next one may come without a word.
fn patience(span: &Span) -> WallTime {
    span.last.wall.after(span.tick.mul_f64(1.5))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn boot(n: u8) -> BootId {
        BootId::from_bytes([n; 16])
    }

    /// A frame at this second of both clocks, in tenths.
    fn frame(of: u8, seq: u64, tenths: i64) -> Span {
        let at = Stamp {
            wall: WallTime::from_nanos(tenths * SECOND / 10),
            boot: casefile_proto::time::BootTime::from_nanos((tenths * SECOND / 10).unsigned_abs()),
        };
        let tick = Duration::from_secs(1);
        Span { boot: boot(of), first_seq: seq, last_seq: seq, first: at, last: at, tick }
    }

    fn window(from: i64, until: i64) -> Window {
        Window::new(WallTime::from_nanos(from * SECOND / 10), WallTime::from_nanos(until * SECOND / 10)).unwrap()
    }

    fn told(holes: &[Hole]) -> Vec<(GapReason, Option<Window>, Option<u64>)> {
        holes.iter().map(|h| (h.gap.reason, h.gap.interval, h.gap.count)).collect()
    }

    fn holes(before: Before) -> Vec<Hole> {
        match before {
            Before::Seen => panic!("seen"),
            Before::Holes(holes) => holes,
        }
    }

    #[test]
    fn a_tick_may_come_half_a_tick_late_and_no_later() {
        let mut all = Continuity::new(None, None);
        assert_eq!(holes(all.span(frame(1, 1, 0))), []);
        assert_eq!(holes(all.span(frame(1, 2, 15))), []);
        let late = holes(all.span(frame(1, 3, 31)));
        assert_eq!(told(&late), [(GapReason::NotRecorded, Some(window(25, 31)), None)]);
        assert_eq!(all.end(), []);
    }

    #[test]
    fn a_frame_that_was_there_already_is_seen_and_one_of_another_boot_is_not() {
        let mut all = Continuity::new(None, None);
        assert_eq!(holes(all.span(frame(1, 7, 0))), []);
        assert_eq!(all.span(frame(1, 7, 0)), Before::Seen);
        assert_eq!(all.span(frame(1, 3, 0)), Before::Seen);
        let reboot = holes(all.span(frame(2, 1, 300)));
        assert_eq!(told(&reboot), [(GapReason::NodeRebooted, Some(window(10, 300)), None)]);
        assert_eq!(reboot[0].boot, boot(2));
    }

    #[test]
    fn what_a_recorded_hole_leaves_unexplained_is_derived() {
        let mut all = Continuity::new(None, None);
        all.span(frame(1, 1, 0));
        let gap = Gap::new(GapReason::CollectorAway, "away").over(window(10, 40)).counting(3);
        let recorded = hole(boot(1), Some((FrameSeq(2), FrameSeq(4))), gap);
        assert_eq!(all.hole(recorded.clone()), [recorded]);
        let rest = holes(all.span(frame(1, 7, 60)));
        assert_eq!(told(&rest), [(GapReason::NotRecorded, Some(window(40, 60)), Some(2))]);
        assert_eq!(rest[0].seqs, Some((FrameSeq(5), FrameSeq(6))));
    }

    #[test]
    fn a_hole_that_a_window_lies_in_is_told_within_the_window() {
        let mut part = Continuity::new(Some(window(100, 200)), None);
        assert_eq!(holes(part.span(frame(1, 1, 0))), []);
        let between = holes(part.span(frame(1, 51, 500)));
        assert_eq!(told(&between), [(GapReason::NotRecorded, Some(window(100, 200)), Some(49))]);
        assert_eq!(part.end(), []);
    }

    #[test]
    fn what_retention_removed_ends_where_it_says_unless_the_next_frame_followed_it() {
        let begin = |mark: i64| {
            let forgotten = Some(WallTime::from_nanos(mark * SECOND / 10));
            let mut part = Continuity::new(Some(window(0, 1000)), forgotten);
            told(&holes(part.span(frame(1, 90, 900))))
        };
        assert_eq!(begin(890), [(GapReason::RingOverwritten, Some(window(0, 900)), None)]);
        assert_eq!(
            begin(500),
            [
                (GapReason::RingOverwritten, Some(window(0, 500)), None),
                (GapReason::NotRecorded, Some(window(500, 900)), None)
            ]
        );
        assert_eq!(begin(-50), [(GapReason::NotRecorded, Some(window(0, 900)), None)]);
        assert_eq!(begin(5000), [(GapReason::RingOverwritten, Some(window(0, 900)), None)]);
    }

    #[test]
    fn damage_is_the_reason_of_what_is_missing_where_it_lies_and_only_there() {
        let mut all = Continuity::new(None, None);
        all.span(frame(1, 1, 0));
        all.damaged("the record's checksum does not match");
        assert_eq!(told(&holes(all.span(frame(1, 5, 40))))[0].0, GapReason::ParseFailed);
        assert_eq!(told(&holes(all.span(frame(1, 9, 80))))[0].0, GapReason::NotRecorded);
        // A torn block whose frames the tail still had.
        all.damaged("the record is cut off");
        assert_eq!(holes(all.span(frame(1, 10, 90))), []);
        all.damaged("the record's checksum does not match");
        assert_eq!(told(&all.end()), [(GapReason::ParseFailed, None, None)]);
    }

    #[test]
    fn a_clock_that_was_set_back_leaves_a_hole_without_an_interval() {
        let mut all = Continuity::new(None, None);
        all.span(frame(1, 1, 1000));
        let mut next = frame(1, 3, 1020);
        next.first.wall = WallTime::from_secs(1);
        assert_eq!(told(&holes(all.span(next))), [(GapReason::NotRecorded, None, Some(1))]);
    }

    #[test]
    fn a_session_hears_of_numbers_that_are_gone() {
        let mut after = Continuity::after(boot(2), 10, Some(WallTime::MIN));
        assert_eq!(holes(after.span(frame(1, 500, 0))), []);
        let gone = holes(after.span(frame(2, 31, 400)));
        assert_eq!(told(&gone), [(GapReason::RingOverwritten, None, Some(20))]);
        let mut after = Continuity::after(boot(1), 10, None);
        assert_eq!(holes(after.span(frame(1, 9, 0))), []);
        assert_eq!(holes(after.span(frame(1, 10, 10))), []);
        assert_eq!(holes(after.span(frame(1, 11, 20))), []);
    }
}
