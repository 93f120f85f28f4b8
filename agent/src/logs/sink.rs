//! How a log source gives out what it found: the one place where the window and the budget are applied, records are
//! counted, and what is covered and what is missing is put into words. No log source can forget any of it, because
//! there is no other way to a [`LogSink`].

use std::ops::ControlFlow::{self, Break, Continue};
use std::time::Instant;

use casefile_evidence::logtime::times::Times;
use casefile_proto::coverage::Cost;
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::item::{EntryPath, ItemHead, ItemKind};
use casefile_proto::time::{WallTime, Window};
use casefile_proto::units::Bytes;

use super::budget::{Allowance, Budget};
use super::gaps::Gaps;
use super::{Covered, LogAsk, LogSink, Stop};

/// Once the budget of a log is used up, so many bytes more are looked at to say what was left out; then the log is
/// left alone, and the gap says "at least".
const COUNT_ON: u64 = 64 << 20;

/// Why reading a log ends before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Halt {
    /// Enough of this log; go on with the next one.
    Log,
    /// Enough of all.
    All(Stop),
}

/// To go on, or not.
pub(super) type Flow = ControlFlow<Halt>;

/// One reading of one log source.
pub(super) struct Giving<'a> {
    source: &'static str,
    window: Window,
    /// What lies in the future when it is read cannot be there yet.
    now: Option<WallTime>,
    out: &'a mut dyn LogSink,
    budget: Budget,
    covered: Covered,
    gaps: Gaps,
    stopped: Option<Stop>,
    began: Instant,
}

impl<'a> Giving<'a> {
    /// For so many logs at most. `now`: the node's time; `None` where the logs are not those of a running machine.
    pub(super) fn new(
        source: &'static str,
        ask: &LogAsk,
        now: Option<WallTime>,
        logs: usize,
        out: &'a mut dyn LogSink,
    ) -> Self {
        Self {
            source,
            window: ask.window,
            now,
            out,
            budget: Budget::new(ask.budget, logs),
            covered: Covered::default(),
            gaps: Gaps::default(),
            stopped: None,
            began: Instant::now(),
        }
    }

    /// What was asked.
    pub(super) fn window(&self) -> Window {
        self.window
    }

    /// Something is missing that no item carries.
    pub(super) fn gap(&mut self, gap: Gap) {
        self.gaps.push(gap);
    }

    /// Many things are missing that no item carries.
    pub(super) fn gaps(&mut self, gaps: Gaps) {
        self.gaps.append(gaps);
    }

    /// Begins a log. `None` when everything was stopped: the log is then counted as not read by whoever calls
    /// [`Giving::finish`].
    pub(super) fn item(&mut self, path: EntryPath, method: String) -> Option<Item<'_, 'a>> {
        self.dated_item(path, method, None)
    }

    /// The same for a log whose lines bear times in a form of their own.
    pub(super) fn dated_item(&mut self, path: EntryPath, method: String, times: Option<Times>) -> Option<Item<'_, 'a>> {
        if self.stopped.is_some() {
            return None;
        }
        let times = times.map(|t| t.to_string()).filter(|t| t.len() <= ItemHead::MAX_TIMES);
        let head = ItemHead { kind: ItemKind::Log, path, source: self.source.to_owned(), method, times };
        if let Break(stop) = self.out.begin(head) {
            self.stopped = Some(stop);
            return None;
        }
        let allowance = self.budget.part();
        let (long, bad) = (Damage::default(), Damage::default());
        Some(Item {
            giving: self,
            allowance,
            records: 0,
            gaps: Gaps::default(),
            long,
            bad,
            is_cut: false,
            cut_by: None,
        })
    }

    /// Something stopped it between two logs: no further one is begun.
    pub(super) fn stop(&mut self, stop: Stop) {
        self.stopped.get_or_insert(stop);
    }

    /// To be called now and then while much is read between two logs.
    pub(super) fn check(&mut self) {
        if let Break(stop) = self.out.check() {
            self.stop(stop);
        }
    }

    /// Whether everything was stopped.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// The row of the coverage. `unread`: logs that there are and that were not begun.
    pub(super) fn finish(mut self, unread: usize) -> Covered {
        if let Some(stop) = self.stopped
            && unread > 0
        {
            let gap = Gap::new(reason(stop), format!("{unread} logs were not read: {}", stop.why()));
            self.gaps.push(gap.over(self.window));
        }
        self.covered.gaps = std::mem::take(&mut self.gaps).finish();
        self.covered.covered = merged(std::mem::take(&mut self.covered.covered));
        self.covered.cost.took_nanos = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.covered
    }

    /// The row of a source that could not even begin: nothing is covered, for this reason.
    pub(super) fn nothing(mut self, gap: Gap) -> Covered {
        self.gap(gap.over(self.window));
        self.finish(0)
    }
}

/// Intervals in order, with what touches or overlaps made one.
fn merged(mut windows: Vec<Window>) -> Vec<Window> {
    windows.sort_unstable();
    let mut out: Vec<Window> = Vec::new();
    for next in windows {
        match out.last_mut() {
            Some(last) if next.from() <= last.until() => {
                // Both ends come from windows, the later end cannot lie before the begin.
                *last = Window::new(last.from(), last.until().max(next.until())).unwrap_or(*last);
            }
            _ => out.push(next),
        }
    }
    out
}

fn over(gap: Gap, interval: Option<Window>) -> Gap {
    match interval {
        Some(interval) => gap.over(interval),
        None => gap,
    }
}

fn reason(stop: Stop) -> GapReason {
    match stop {
        Stop::Budget => GapReason::Budget,
        Stop::Cancelled => GapReason::Cancelled,
        Stop::Gone => GapReason::CollectorAway,
    }
}

/// How the log that was read began: what decides why the begin of the window is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// Older records existed and were rotated away.
    RotatedAway,
    /// As far as can be seen nothing was recorded before.
    NotRecorded,
    /// The machine was not up.
    NodeRebooted,
}

/// Things of one kind that went wrong at some lines of a log.
#[derive(Debug, Default)]
struct Damage {
    lines: u64,
    bytes: u64,
    first: Option<WallTime>,
    last: Option<WallTime>,
}

impl Damage {
    fn add(&mut self, at: Option<WallTime>, bytes: u64) {
        self.lines += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        self.first = self.first.or(at);
        self.last = self.last.max(at);
    }

    /// From the first to the last of them, within the window.
    fn interval(&self, window: Window) -> Option<Window> {
        Window::new(self.first?, self.last?.offset(1)).ok()?.intersect(&window)
    }
}

/// One log being given out.
pub(super) struct Item<'g, 'a> {
    giving: &'g mut Giving<'a>,
    allowance: Allowance,
    records: u64,
    gaps: Gaps,
    long: Damage,
    bad: Damage,
    /// Whether the next record was cut.
    is_cut: bool,
    /// Why the sink did not take the first record that was left out; `None`: it did not fit into the budget.
    cut_by: Option<Stop>,
}

impl Item<'_, '_> {
    /// Whether a record of this time belongs to what was asked. **The** definition of the window.
    pub(super) fn wants(&self, at: WallTime) -> bool {
        self.giving.window.contains(at)
    }

    /// What was asked.
    pub(super) fn window(&self) -> Window {
        self.giving.window
    }

    /// One whole record with its line end; one outside of the window is passed over.
    pub(super) fn record(&mut self, at: WallTime, bytes: &[u8]) -> Flow {
        if !self.wants(at) {
            return Continue(());
        }
        if let Some(stop) = self.giving.stopped {
            return Break(Halt::All(stop));
        }
        if !self.allowance.takes(at, bytes.len()) {
            if self.allowance.cut().is_some_and(|c| c.bytes >= COUNT_ON) {
                self.allowance.stopped_counting();
                return Break(Halt::Log);
            }
            return Continue(());
        }
        if std::mem::take(&mut self.is_cut) {
            self.giving.out.cut();
        }
        if let Break(stop) = self.giving.out.record(at, bytes) {
            self.allowance.refused(at, bytes.len());
            self.cut_by = Some(stop);
            return self.stop(stop);
        }
        self.records += 1;
        Continue(())
    }

    /// To be called now and then while nothing is found.
    pub(super) fn check(&mut self) -> Flow {
        match self.giving.out.check() {
            Continue(()) => Continue(()),
            Break(stop) => self.stop(stop),
        }
    }

    fn stop(&mut self, stop: Stop) -> Flow {
        self.allowance.stopped_counting();
        self.giving.stopped = Some(stop);
        Break(Halt::All(stop))
    }

    /// The record that is given next, of this time, was too long, and so many bytes of it were left out.
    pub(super) fn cut_record(&mut self, at: WallTime, left_out: u64) {
        if left_out > 0 && self.wants(at) {
            self.long.add(Some(at), left_out);
            self.is_cut = true;
        }
    }

    /// So many bytes could not be understood and were left out. `near` is the time of what stood before them.
    pub(super) fn damaged(&mut self, near: Option<WallTime>, bytes: u64) {
        if bytes > 0 && near.is_none_or(|at| self.wants(at)) {
            self.bad.add(near, bytes);
        }
    }

    /// Something is missing from this log.
    pub(super) fn gap(&mut self, gap: Gap) {
        self.gaps.push(gap);
    }

    /// Ends the log. `oldest` is the time of the oldest record that it holds, in the window or not; `None` when it
    /// holds none. `before` says why there is nothing older.
    pub(super) fn end(mut self, oldest: Option<WallTime>, before: Before) {
        let window = self.giving.window;
        let begin = oldest.map_or(window.until(), |t| t.clamp(window.from(), window.until()));
        if let Ok(missing) = Window::new(window.from(), begin) {
            let (reason, why) = match (oldest, before) {
                (None, _) => (GapReason::NotRecorded, "the log holds no record".to_owned()),
                (Some(t), Before::RotatedAway) => {
                    (GapReason::RotatedAway, format!("the oldest record that is left is of {t}"))
                }
                (Some(t), Before::NotRecorded) => (GapReason::NotRecorded, format!("the log begins at {t}")),
                (Some(t), Before::NodeRebooted) => {
                    (GapReason::NodeRebooted, format!("this boot's first record is of {t}"))
                }
            };
            self.gaps.push(Gap::new(reason, why).over(missing));
        }
        let mut until = window.until();
        if let Some(now) = self.giving.now
            && now < until
        {
            until = now.max(begin);
            if let Ok(future) = Window::new(until, window.until()) {
                self.gaps.push(Gap::new(GapReason::NotRecorded, "read before the window was over").over(future));
            }
        }
        if let Some(cut) = self.allowance.cut() {
            until = until.min(cut.first.max(begin));
        }
        if self.giving.stopped.is_some() && self.cut_by.is_none() {
            // Stopped between two records: how far it had come cannot be said, so nothing counts as covered.
            until = begin;
        }
        self.close(Window::new(begin, until).ok());
    }

    /// Ends a log whose records bear no date: which part of the window they are of cannot be said, and that is said.
    pub(super) fn end_undated(mut self, why: String) {
        self.gaps.push(Gap::new(GapReason::ClockUncertain, why).over(self.giving.window));
        self.close(None);
    }

    /// Puts into words what was cut, left out and damaged, and hands it over.
    fn close(mut self, covered: Option<Window>) {
        let window = self.giving.window;
        if let Some(cut) = self.allowance.cut() {
            let (reason, why) = match self.cut_by {
                Some(stop) => (reason(stop), stop.why().to_owned()),
                None => (
                    GapReason::Budget,
                    format!("this log's part of the budget, {}, is used up", Bytes(self.allowance.used())),
                ),
            };
            let gap = Gap::new(reason, format!("{why}: {}", cut.describe()));
            let gap = if cut.counted { gap.counting(cut.records) } else { gap };
            self.gaps.push(over(gap, cut.interval(window)));
        }
        if let Some(stop) = self.giving.stopped
            && self.cut_by.is_none()
        {
            self.gaps.push(Gap::new(reason(stop), stop.why()).over(window));
        }
        for (damage, reason, what) in [
            (&self.long, GapReason::Budget, "records were longer than 1 MiB and were cut"),
            (&self.bad, GapReason::ParseFailed, "places could not be understood"),
        ] {
            if damage.lines > 0 {
                let gap = Gap::new(reason, format!("{} {what}: {} left out", damage.lines, Bytes(damage.bytes)));
                self.gaps.push(over(gap.counting(damage.lines), damage.interval(window)));
            }
        }
        let totals = &mut self.giving.covered;
        totals.covered.extend(covered);
        totals.items += 1;
        totals.records += self.records;
        totals.cost = Cost { bytes: totals.cost.bytes + self.allowance.used(), ..totals.cost };
        self.giving.budget.settle(&self.allowance);
        if let Break(stop) = self.giving.out.end(covered, self.gaps.finish()) {
            self.giving.stopped.get_or_insert(stop);
        }
    }
}
