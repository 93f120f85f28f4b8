//! Counts what a window of a recording holds of each source: the rows of the coverage. Pure.

use std::collections::HashMap;

use casefile_proto::coverage::{Cost, OutcomeCounts, SourceCoverage, SourceKind};
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::sample::{Outcome, Schema, SourceDef};
use casefile_proto::time::Window;

use super::tick::{Tick, TickSample};

/// Gaps of one row that are told one by one; those above it are counted in one more.
const MAX_GAPS: usize = 1024;

/// The rows of all sources, also over changes of the schema: a source is known by its name.
pub(crate) struct Tally {
    window: Window,
    rows: Vec<Row>,
    /// Position in the schema in force → row.
    sources: Vec<usize>,
}

struct Row {
    coverage: SourceCoverage,
    every_nanos: i64,
    /// What was missing at the measurement before: which gap it is in `coverage`.
    open: HashMap<(GapReason, String), usize>,
    /// The gap of measurements that were left out to spare the node, between others that were made.
    saved: Option<usize>,
    left_out: u64,
}

/// A source is never measured less often than so many times its cadence: measurements that were left out farther apart are
/// of two times at which the node was spared.
const SAVED_APART: i64 = 32;

impl Tally {
    pub(crate) fn new(window: Window) -> Self {
        Self { window, rows: Vec::new(), sources: Vec::new() }
    }

    /// Samples are of this schema from now on.
    pub(crate) fn speak(&mut self, schema: &Schema) {
        self.sources.clear();
        for source in &schema.sources {
            let known = self.rows.iter().position(|row| row.coverage.source == source.name);
            let index = known.unwrap_or_else(|| {
                self.rows.push(Row::new(source, self.window));
                self.rows.len() - 1
            });
            self.rows[index].every_nanos = source.every_nanos.max(1).cast_signed().max(1);
            self.sources.push(index);
        }
    }

    /// Counts a tick of the window.
    pub(crate) fn tick(&mut self, tick: &Tick) {
        let wall = tick.stamp().wall;
        for sample in &tick.samples {
            let row = self.sources.get(usize::from(sample.source)).and_then(|&i| self.rows.get_mut(i));
            let Some(row) = row.filter(|_| !sample.outcome.is_not_due()) else { continue };
            // Saturates at the end of time, where the window ends too.
            let at = Window::new(wall, wall.offset(row.every_nanos)).ok().and_then(|w| w.intersect(&self.window));
            if let Some(at) = at {
                row.count(sample, at);
            }
        }
    }

    /// A tick that was taken before the window and is not in it: what it measured still holds when the window begins.
    pub(crate) fn before(&mut self, tick: &Tick) {
        let wall = tick.stamp().wall;
        if wall >= self.window.from() {
            return;
        }
        for sample in &tick.samples {
            let row = self.sources.get(usize::from(sample.source)).and_then(|&i| self.rows.get_mut(i));
            let measured = matches!(sample.outcome, Outcome::Complete | Outcome::Partial { .. });
            let Some(row) = row.filter(|_| measured) else { continue };
            let reaches = Window::new(wall, wall.offset(row.every_nanos)).ok().and_then(|w| w.intersect(&self.window));
            if let Some(reaches) = reaches {
                cover(&mut row.coverage.covered, reaches, 0);
            }
        }
    }

    /// The rows, in the order in which the sources were met.
    pub(crate) fn rows(self) -> Vec<SourceCoverage> {
        self.rows.into_iter().map(Row::finish).collect()
    }
}

impl Row {
    fn new(source: &SourceDef, asked: Window) -> Self {
        let coverage = SourceCoverage {
            source: source.name.clone(),
            kind: SourceKind::Metrics,
            asked,
            covered: Vec::new(),
            outcomes: OutcomeCounts::default(),
            records: 0,
            items: 0,
            gaps: Vec::new(),
            cost: Cost::default(),
            redaction: None,
        };
        Self { coverage, every_nanos: 1, open: HashMap::new(), saved: None, left_out: 0 }
    }

    fn count(&mut self, sample: &TickSample, at: Window) {
        let row = &mut self.coverage;
        row.records += sample.readings.len() as u64;
        row.cost.took_nanos = row.cost.took_nanos.saturating_add(sample.took_nanos);
        let counter = match &sample.outcome {
            Outcome::Complete => &mut row.outcomes.complete,
            Outcome::Partial { .. } => &mut row.outcomes.partial,
            Outcome::Absent { .. } => &mut row.outcomes.absent,
            Outcome::Failed { .. } => &mut row.outcomes.failed,
            Outcome::TimedOut { .. } => &mut row.outcomes.timed_out,
            Outcome::Skipped { .. } => &mut row.outcomes.skipped,
        };
        *counter += 1;
        if matches!(sample.outcome, Outcome::Complete | Outcome::Partial { .. }) {
            cover(&mut row.covered, at, self.every_nanos / 2);
        }
        let before = std::mem::take(&mut self.open);
        match &sample.outcome {
            Outcome::Complete => {}
            Outcome::Partial { gaps } => gaps.iter().for_each(|gap| self.miss(&before, gap.clone(), at)),
            Outcome::Absent { why } => self.miss(&before, Gap::new(GapReason::SourceAbsent, why), at),
            Outcome::Failed { error } => self.miss(&before, Gap::new(GapReason::SourceFailed, error), at),
            Outcome::TimedOut { .. } => {
                let why = "measuring took longer than the deadline of the source";
                self.miss(&before, Gap::new(GapReason::TimedOut, why), at);
            }
            outcome if outcome.is_saved() => self.save(at),
            // Its time came and it was not read: it was still busy, or others were. What is switched off says so.
            Outcome::Skipped { why } => self.miss(&before, Gap::new(GapReason::TimedOut, why), at),
        }
    }

    /// One measurement was left out to spare the node. Others between them were made, and it is one gap all the same.
    fn save(&mut self, at: Window) {
        let apart = SAVED_APART * self.every_nanos;
        let gaps = &mut self.coverage.gaps;
        if let Some(gap) = self.saved.and_then(|index| gaps.get_mut(index))
            && let Some(interval) = gap.interval
            && at.from().nanos_since(interval.until()) < apart
        {
            gap.count = gap.count.map(|n| n.saturating_add(1));
            let whole = Window::new(interval.from().min(at.from()), interval.until().max(at.until()));
            gap.interval = Some(whole.unwrap_or(interval));
        } else if gaps.len() < MAX_GAPS {
            self.saved = Some(gaps.len());
            gaps.push(Gap::new(GapReason::Budget, Outcome::SAVED).over(at).counting(1));
        } else {
            self.left_out += 1;
        }
    }

    /// A gap at one measurement: the same as at the one before goes on.
    fn miss(&mut self, before: &HashMap<(GapReason, String), usize>, gap: Gap, at: Window) {
        let count = gap.count.unwrap_or(1);
        let interval = gap.interval.unwrap_or(at);
        let key = (gap.reason, gap.detail.clone());
        let gaps = &mut self.coverage.gaps;
        if let Some(&index) = before.get(&key).or(self.open.get(&key)) {
            if let Some(known) = gaps.get_mut(index) {
                known.count = known.count.map(|n| n.saturating_add(count));
                known.interval = known
                    .interval
                    .map(|w| Window::new(w.from().min(interval.from()), w.until().max(interval.until())).unwrap_or(w));
            }
            self.open.insert(key, index);
        } else if gaps.len() < MAX_GAPS {
            self.open.insert(key, gaps.len());
            gaps.push(gap.over(interval).counting(count));
        } else {
            self.left_out += 1;
        }
    }

    fn finish(mut self) -> SourceCoverage {
        if self.coverage.outcomes.total() == 0 && !self.coverage.covered.is_empty() {
            // It was measured before the window and was not due in it: nothing is lost, and nothing is here.
            self.coverage.covered.clear();
            let why = "no measurement fell into the window: it is shorter than the time between two of this source";
            self.coverage.gaps.push(Gap::new(GapReason::NotRecorded, why).over(self.coverage.asked));
        }
        if self.left_out > 0 {
            let why = "more gaps than a row of the coverage tells one by one; the recording has them all";
            let gap = Gap::new(GapReason::SourceFailed, why).counting(self.left_out);
            self.coverage.gaps.push(gap.over(self.coverage.asked));
        }
        self.coverage.covered.sort();
        let mut merged: Vec<Window> = Vec::new();
        for window in std::mem::take(&mut self.coverage.covered) {
            cover(&mut merged, window, 0);
        }
        self.coverage.covered = merged;
        self.coverage
    }
}

/// Adds an interval; one that begins before, or `slack` nanoseconds after the end of the last one goes on with it.
fn cover(covered: &mut Vec<Window>, more: Window, slack: i64) {
    if let Some(last) = covered.last_mut()
        && more.from() >= last.from()
        && more.from() <= last.until().offset(slack)
    {
        *last = Window::new(last.from(), last.until().max(more.until())).unwrap_or(*last);
    } else {
        covered.push(more);
    }
}

#[cfg(test)]
mod tests {
    use casefile_proto::time::WallTime;

    use super::*;

    fn seconds(from: i64, until: i64) -> Window {
        Window::new(WallTime::from_secs(from), WallTime::from_secs(until)).unwrap()
    }

    #[test]
    fn measurements_left_out_to_spare_the_node_are_one_gap_with_their_number() {
        let source = SourceDef {
            name: "process".to_owned(),
            about: String::new(),
            every_nanos: 1_000_000_000,
            deadline_nanos: 1_000_000_000,
            metrics: Vec::new(),
        };
        let mut row = Row::new(&source, seconds(0, 1_000));
        row.every_nanos = 1_000_000_000;
        let mut say = |at: i64, outcome: Outcome| {
            let sample = TickSample { outcome, ..TickSample::default() };
            row.count(&sample, seconds(at, at + 1));
        };
        // Every second one, then every fourth; and once more, long after.
        for at in 0..40 {
            let left_out = if at < 20 { at % 2 == 1 } else { at % 4 != 0 };
            say(at, if left_out { Outcome::saved() } else { Outcome::Complete });
        }
        (40..200).for_each(|at| say(at, Outcome::Complete));
        say(200, Outcome::saved());
        let coverage = row.finish();
        let gaps: Vec<_> = coverage.gaps.iter().map(|g| (g.reason, g.interval.unwrap(), g.count)).collect();
        let expected = [(seconds(1, 40), Some(25)), (seconds(200, 201), Some(1))];
        assert_eq!(gaps, expected.map(|(interval, count)| (GapReason::Budget, interval, count)));
        assert_eq!((coverage.outcomes.skipped, coverage.outcomes.complete), (26, 175));
    }
}
