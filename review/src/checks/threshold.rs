//! What checks over thresholds have in common: one series, one level, one length of time.

use std::time::Duration;

use casefile_proto::time::WallTime;

use super::facts::NodeFacts;
use super::spans::{Span, above, longest};
use crate::finding::{Confidence, Finding, Severity};
use crate::seriesset::OneSeries;

/// A threshold that values must stay at for a while.
#[derive(Debug, Clone, Copy)]
pub(super) struct Level {
    pub(super) at: f64,
    pub(super) over: Duration,
    pub(super) severity: Severity,
}

/// A minute: below it, a busy second would be told.
pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// The first of these levels (worst first) that values stayed at for long enough, and the longest span of it.
pub(super) fn reached(values: &[(WallTime, f64)], levels: &[Level]) -> Option<(Level, Span)> {
    levels.iter().find_map(|level| Some((*level, longest(above(values, level.at, level.over))?)))
}

/// A finding about a span of a series.
pub(super) fn over(
    facts: &NodeFacts<'_>,
    kind: &str,
    severity: Severity,
    series: &OneSeries,
    span: Span,
    summary: String,
) -> Finding {
    let mut finding = facts.finding(kind, severity, Confidence::Medium, summary.clone());
    (finding.first, finding.last) = (Some(span.from), Some(span.until));
    finding.count = span.values as u64;
    finding.evidence = vec![facts.series(series, span.from, span.until, span.peak, summary)];
    finding
}

/// `3 min 20 s`.
pub(super) fn lasting(span: &Span) -> String {
    let seconds = span.seconds().round();
    if seconds < 120.0 {
        return format!("{seconds:.0} s");
    }
    format!("{:.0} min", (seconds / 60.0).round())
}

/// `37 %`.
pub(super) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// When a counter first grew, and when it last did; `None`: it never did.
pub(super) fn steps(facts: &NodeFacts<'_>, series: &OneSeries) -> Option<(WallTime, WallTime)> {
    let values = facts.timed(&series.values);
    let mut steps = values.windows(2).filter(|pair| pair[1].1 > pair[0].1).map(|pair| pair[1].0);
    let first = steps.next()?;
    Some((first, steps.next_back().unwrap_or(first)))
}

/// How fast two counters grew against each other: the second for each of the first, at the times at which both were read.
pub(super) fn ratio(facts: &NodeFacts<'_>, of: &OneSeries, to: &OneSeries, at_least: f64) -> Vec<(WallTime, f64)> {
    let (part, whole) = (facts.set.rates(of), facts.set.rates(to));
    let mut whole = whole.into_iter().peekable();
    let mut out = Vec::new();
    for value in part {
        while whole.peek().is_some_and(|w| w.tick < value.tick) {
            whole.next();
        }
        if let Some(w) = whole.peek().filter(|w| w.tick == value.tick && w.value >= at_least && w.value > 0.0) {
            out.push((facts.set.at(value), value.value / w.value));
        }
    }
    out
}

/// One gauge against another, at the times at which both were read.
pub(super) fn share(facts: &NodeFacts<'_>, of: &OneSeries, to: &OneSeries) -> Vec<(WallTime, f64)> {
    let mut whole = to.values.iter().peekable();
    let mut latest = None;
    let mut out = Vec::new();
    for value in &of.values {
        // What is read seldom, such as a limit, holds until it is read again.
        while let Some(w) = whole.next_if(|w| w.tick <= value.tick) {
            latest = Some(w.value);
        }
        if let Some(w) = latest.filter(|w| *w > 0.0) {
            out.push((facts.set.at(*value), value.value / w));
        }
    }
    out
}
