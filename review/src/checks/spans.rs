//! Spans of time over which a value stayed beyond a threshold. Pure.

use std::time::Duration;

use casefile_proto::time::WallTime;

/// Values further apart than this do not belong to one span: nothing was read between them.
const APART: Duration = Duration::from_secs(30);

/// One span.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// The time of its first value.
    pub from: WallTime,
    /// The time of its last value.
    pub until: WallTime,
    /// The value furthest beyond the threshold.
    pub peak: f64,
    /// When that was.
    pub peak_at: WallTime,
    /// How many values.
    pub values: usize,
}

impl Span {
    /// How long it lasted, in seconds.
    pub fn seconds(&self) -> f64 {
        self.until.nanos_since(self.from) as f64 / 1e9
    }
}

/// The spans of at least this length over which values stayed at or above a threshold.
pub fn above(values: &[(WallTime, f64)], threshold: f64, at_least: Duration) -> Vec<Span> {
    spans(values, |value| value >= threshold, |value, peak| value > peak, at_least)
}

/// The spans of at least this length over which values stayed below a threshold.
pub fn below(values: &[(WallTime, f64)], threshold: f64, at_least: Duration) -> Vec<Span> {
    spans(values, |value| value < threshold, |value, peak| value < peak, at_least)
}

/// The longest of these spans; the earliest of several.
pub fn longest(spans: Vec<Span>) -> Option<Span> {
    spans.into_iter().reduce(|best, span| if span.seconds() > best.seconds() { span } else { best })
}

/// Means over the minute that ends at each value: a threshold over one second would tell of every hiccup.
pub fn smoothed(values: &[(WallTime, f64)], over: Duration) -> Vec<(WallTime, f64)> {
    let (mut out, mut first, mut sum) = (Vec::with_capacity(values.len()), 0, 0.0);
    for (n, (at, value)) in values.iter().enumerate() {
        sum += value;
        while values[first].0 < at.before(over) {
            sum -= values[first].1;
            first += 1;
        }
        out.push((*at, sum / (n - first + 1) as f64));
    }
    out
}

fn spans(
    values: &[(WallTime, f64)],
    beyond: impl Fn(f64) -> bool,
    further: impl Fn(f64, f64) -> bool,
    at_least: Duration,
) -> Vec<Span> {
    let (mut all, mut open): (Vec<Span>, Option<Span>) = (Vec::new(), None);
    for &(at, value) in values {
        if !beyond(value) {
            all.extend(open.take());
            continue;
        }
        match &mut open {
            Some(span) if at <= span.until.after(APART) => {
                span.until = at;
                span.values += 1;
                if further(value, span.peak) {
                    (span.peak, span.peak_at) = (value, at);
                }
            }
            _ => all.extend(open.replace(Span { from: at, until: at, peak: value, peak_at: at, values: 1 })),
        }
    }
    all.extend(open);
    all.retain(|span| span.seconds() >= at_least.as_secs_f64());
    all
}

/// A straight line through values: how much they grow a second, and how well it fits (1: exactly; R²). `None` for fewer than three.
pub fn line(values: &[(WallTime, f64)]) -> Option<(f64, f64)> {
    let [(begin, _), _, _, ..] = values else { return None };
    let count = values.len() as f64;
    let x = |at: WallTime| at.nanos_since(*begin) as f64 / 1e9;
    let mean = |f: &dyn Fn(&(WallTime, f64)) -> f64| values.iter().map(f).sum::<f64>() / count;
    let (mx, my) = (mean(&|v| x(v.0)), mean(&|v| v.1));
    let sum = |f: &dyn Fn(f64, f64) -> f64| values.iter().map(|v| f(x(v.0) - mx, v.1 - my)).sum::<f64>();
    let (xx, xy, yy) = (sum(&|a, _| a * a), sum(&|a, b| a * b), sum(&|_, b| b * b));
    if xx <= 0.0 || yy <= 0.0 {
        return None;
    }
    Some((xy / xx, xy * xy / (xx * yy)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(values: &[(i64, f64)]) -> Vec<(WallTime, f64)> {
        values.iter().map(|(s, v)| (WallTime::from_secs(*s), *v)).collect()
    }

    #[test]
    fn a_span_is_broken_by_a_value_within_and_by_a_hole() {
        let values = at(&[(0, 9.0), (10, 12.0), (20, 15.0), (30, 3.0), (40, 11.0), (100, 11.0), (110, 11.0)]);
        let found = above(&values, 10.0, Duration::from_secs(10));
        let short: Vec<_> = found.iter().map(|s| (s.seconds(), s.peak, s.values)).collect();
        assert_eq!(short, [(10.0, 15.0, 2), (10.0, 11.0, 2)]);
        assert_eq!(below(&values, 10.0, Duration::ZERO).len(), 2);
        assert!(above(&[], 1.0, Duration::ZERO).is_empty());
    }

    #[test]
    fn a_mean_is_over_the_time_before() {
        let smooth = smoothed(&at(&[(0, 0.0), (1, 10.0), (2, 20.0), (3, 30.0)]), Duration::from_secs(1));
        assert_eq!(smooth.iter().map(|v| v.1).collect::<Vec<_>>(), [0.0, 5.0, 15.0, 25.0]);
    }

    #[test]
    fn a_line_fits_what_is_one() {
        let (slope, fit) = line(&at(&[(0, 1.0), (10, 21.0), (20, 41.0)])).unwrap();
        assert!((slope - 2.0).abs() < 1e-9 && (fit - 1.0).abs() < 1e-9);
        assert!(line(&at(&[(0, 1.0), (1, 5.0), (2, 1.0), (3, 5.0)])).unwrap().1 < 0.5);
        assert_eq!(line(&at(&[(0, 1.0), (1, 1.0), (2, 1.0)])), None);
    }
}
