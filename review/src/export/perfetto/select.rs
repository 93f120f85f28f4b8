//! Which values of a series are shown: where it steps, and, when there are too many, the extremes. Pure.

use crate::seriesset::{OneSeries, SeriesSet, Value};

/// A hole is wider than this many ticks of a series.
const HOLE_TICKS: u64 = 20;

/// Whether all values are the same.
pub(super) fn stands_still(values: &[Value]) -> bool {
    values.iter().all(|value| value.value.to_bits() == values[0].value.to_bits())
}

/// The values without those between two that are the same: a counter keeps its value until the next. The two ends of a hole
/// stay.
pub(super) fn steps(set: &SeriesSet, series: &OneSeries, values: &[Value]) -> Vec<Value> {
    let longest = series.every_nanos.max(1).saturating_mul(HOLE_TICKS);
    let apart = |a: Value, b: Value| {
        a.value.to_bits() != b.value.to_bits() || set.at(b).nanos().abs_diff(set.at(a).nanos()) > longest
    };
    let kept = |n: &usize| {
        let value = values[*n];
        let before = n.checked_sub(1).and_then(|n| values.get(n));
        before.is_none_or(|before| apart(*before, value)) || values.get(n + 1).is_none_or(|after| apart(value, *after))
    };
    (0..values.len()).filter(kept).map(|n| values[n]).collect()
}

/// How many values each series may have so that all together have at most `budget`; what short ones leave goes to long ones.
pub(super) fn fair(lens: &[usize], budget: usize) -> usize {
    let mut lens = lens.to_vec();
    lens.sort_unstable();
    let mut left = budget;
    for (n, len) in lens.iter().enumerate() {
        let share = left / (lens.len() - n);
        if *len > share {
            return share.max(2);
        }
        left -= len;
    }
    usize::MAX
}

/// At most about `at_most` of the values: of each run of neighbours the smallest and the largest, in their order.
pub(super) fn thin(values: &[Value], at_most: usize) -> Vec<Value> {
    if values.len() <= at_most {
        return values.to_vec();
    }
    let run = values.len().div_ceil((at_most / 2).max(1));
    let mut out = Vec::with_capacity(at_most);
    for run in values.chunks(run) {
        let (mut min, mut max) = (0, 0);
        for (n, value) in run.iter().enumerate() {
            if value.value < run[min].value {
                min = n;
            }
            if value.value > run[max].value {
                max = n;
            }
        }
        out.push(run[min.min(max)]);
        if min != max {
            out.push(run[min.max(max)]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(list: &[f64]) -> Vec<Value> {
        list.iter().zip(0..).map(|(value, tick)| Value { tick, value: *value }).collect()
    }

    #[test]
    fn of_many_values_the_extremes_stay_in_their_order() {
        let many = values(&[1.0, 9.0, 2.0, 3.0, -1.0, 5.0, 5.0, 5.0]);
        let thin = |n| thin(&many, n).iter().map(|v| (v.tick, v.value)).collect::<Vec<_>>();
        assert_eq!(thin(4), [(0, 1.0), (1, 9.0), (4, -1.0), (5, 5.0)]);
        assert_eq!(thin(2), [(1, 9.0), (4, -1.0)]);
        assert_eq!(thin(0), [(1, 9.0), (4, -1.0)]);
        assert_eq!(thin(8).len(), 8);
    }

    #[test]
    fn what_short_series_leave_goes_to_long_ones() {
        assert_eq!(fair(&[10, 1000, 1000], 1010), 500);
        assert_eq!(fair(&[10, 20], 30), usize::MAX);
        assert_eq!(fair(&[], 0), usize::MAX);
        assert_eq!(fair(&[100; 10], 0), 2, "a series of which nothing is shown would be a lie");
    }
}
