//! Which segments to forget: a pure decision over sizes and ages.

use casefile_proto::time::WallTime;

use super::segment::{Last, Retention};

/// What is known of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentInfo {
    pub(crate) number: u32,
    pub(crate) bytes: u64,
    /// The earliest and the latest wall time of its frames; `None`: it has none.
    pub(crate) walls: Option<(WallTime, WallTime)>,
    /// Its last frame.
    pub(crate) last: Option<Last>,
}

/// How many of the oldest segments go when `more` bytes come, with `others` bytes held beside the segments. The newest
/// segment stays, and so does everything from the first segment on that a pin holds.
pub(crate) fn to_forget(
    segments: &[SegmentInfo],
    others: u64,
    more: u64,
    retention: Retention,
    pin: Option<WallTime>,
) -> usize {
    let newest = segments.iter().filter_map(|s| s.walls).map(|(_, latest)| latest).max();
    let mut held = segments.iter().map(|s| s.bytes).sum::<u64>().saturating_add(others).saturating_add(more);
    let droppable = segments.len().saturating_sub(1);
    let mut count = 0;
    for segment in &segments[..droppable] {
        let latest = segment.walls.map(|(_, latest)| latest);
        let pinned = pin.is_some_and(|pin| latest.is_some_and(|latest| latest >= pin));
        let old = newest.zip(latest).is_some_and(|(newest, latest)| latest < newest.before(retention.age));
        if pinned || !(old || held > retention.bytes.0) {
            break;
        }
        held = held.saturating_sub(segment.bytes);
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use casefile_proto::units::Bytes;
    use std::time::Duration;

    fn segments() -> Vec<SegmentInfo> {
        let at = |n: u32| WallTime::from_secs(i64::from(n) * 100);
        (0..5).map(|n| SegmentInfo { number: n, bytes: 10, walls: Some((at(n), at(n + 1))), last: None }).collect()
    }

    fn keep(bytes: u64, secs: u64) -> Retention {
        Retention { bytes: Bytes(bytes), age: Duration::from_secs(secs) }
    }

    #[test]
    fn the_oldest_go_until_what_comes_fits() {
        let forget = |bytes, others, more| to_forget(&segments(), others, more, keep(bytes, 1 << 20), None);
        assert_eq!(forget(50, 0, 0), 0);
        assert_eq!(forget(50, 0, 1), 1);
        assert_eq!(forget(50, 5, 6), 2);
        assert_eq!(forget(0, 0, 0), 4, "the newest stays");
        assert_eq!(to_forget(&[], 0, 9, keep(0, 0), None), 0);
    }

    #[test]
    fn what_is_older_than_the_age_goes() {
        assert_eq!(to_forget(&segments(), 0, 0, keep(1 << 20, 250), None), 2);
        assert_eq!(to_forget(&segments(), 0, 0, keep(1 << 20, 0), None), 4);
    }

    #[test]
    fn what_is_pinned_stays_and_so_does_all_behind_it() {
        let forget = |pin| to_forget(&segments(), 0, 0, keep(0, 0), Some(WallTime::from_secs(pin)));
        assert_eq!(forget(0), 0);
        assert_eq!(forget(250), 2);
        assert_eq!(forget(1 << 20), 4);
    }
}
