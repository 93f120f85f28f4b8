//! What a collection says at its end, made to fit into one message: what does not fit is counted, never just left out. Pure.

use casefile_proto::convert::{MAX_COVERED, MAX_GAPS, MAX_SOURCES};
use casefile_proto::coverage::SourceCoverage;
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::session::{CollectionDone, MAX_PAYLOAD};
use casefile_proto::time::Window;

/// Bytes on the wire of a gap besides its detail, of a covered interval, of a count by rule besides the rule's name, and
/// of a row besides all of them; rounded up.
const GAP: usize = 64;
const COVERED: usize = 24;
const RULE: usize = 16;
const ROW: usize = 256;

/// The message with as many gaps as fit.
pub(super) fn fit(mut done: CollectionDone) -> CollectionDone {
    if done.sources.len() > MAX_SOURCES {
        let left = done.sources.len() - MAX_SOURCES;
        done.sources.truncate(MAX_SOURCES);
        done.gaps.push(
            Gap::new(GapReason::Budget, "rows of the coverage: more sources than a message may have")
                .counting(left as u64),
        );
    }
    for row in &mut done.sources {
        row.covered = join(std::mem::take(&mut row.covered));
    }
    for limit in [MAX_GAPS, 256, 64, 16, 4, 1] {
        done.gaps = gaps(done.gaps, limit);
        for row in &mut done.sources {
            row.gaps = gaps(std::mem::take(&mut row.gaps), limit);
        }
        if size(&done) <= MAX_PAYLOAD {
            break;
        }
    }
    done
}

/// At most `limit` gaps: the last stands for those that are not listed.
pub(super) fn gaps(mut gaps: Vec<Gap>, limit: usize) -> Vec<Gap> {
    if gaps.len() <= limit {
        return gaps;
    }
    let rest = gaps.split_off(limit.saturating_sub(1));
    // One of the reasons, so that a list cut to nothing still says that something is missing.
    let reason = rest.first().map_or(GapReason::Budget, |gap| gap.reason);
    let hull = rest.iter().map(|gap| gap.interval).reduce(|a, b| {
        let (a, b) = (a?, b?);
        Window::new(a.from().min(b.from()), a.until().max(b.until())).ok()
    });
    let mut last = Gap::new(reason, format!("and {} more gaps that do not fit into the message", rest.len()));
    last.interval = hull.flatten();
    gaps.push(last);
    gaps
}

/// At most [`MAX_COVERED`] intervals: the oldest are kept, because a covered interval must not be claimed wider than it is.
fn join(mut covered: Vec<Window>) -> Vec<Window> {
    covered.truncate(MAX_COVERED);
    covered
}

fn size(done: &CollectionDone) -> usize {
    let gaps = |gaps: &[Gap]| gaps.iter().map(|gap| GAP + gap.detail.len()).sum::<usize>();
    let rules = |row: &SourceCoverage| {
        row.redaction.iter().flat_map(|r| r.rules.keys()).map(|rule| RULE + rule.len()).sum::<usize>()
    };
    let row =
        |row: &SourceCoverage| ROW + row.source.len() + row.covered.len() * COVERED + gaps(&row.gaps) + rules(row);
    gaps(&done.gaps) + done.sources.iter().map(row).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use casefile_proto::coverage::{Cost, OutcomeCounts, SourceKind};
    use casefile_proto::ids::RequestId;
    use casefile_proto::time::WallTime;

    fn window(from: i64, until: i64) -> Window {
        Window::new(WallTime::from_secs(from), WallTime::from_secs(until)).unwrap()
    }

    #[test]
    fn gaps_that_do_not_fit_are_counted_over_their_interval() {
        let all: Vec<Gap> =
            (0..10).map(|i| Gap::new(GapReason::Budget, format!("gap {i}")).over(window(i, i + 1))).collect();
        let cut = gaps(all.clone(), 4);
        assert_eq!(cut[..3], all[..3]);
        assert_eq!(cut[3].interval, Some(window(3, 10)));
        assert!(cut[3].detail.starts_with("and 7 more"), "{}", cut[3].detail);
        assert_eq!(gaps(all.clone(), 10), all);
    }

    #[test]
    fn a_collection_with_too_much_to_say_fits_and_no_source_loses_all_of_its_gaps() {
        let row = SourceCoverage {
            source: "pods".to_owned(),
            kind: SourceKind::Logs,
            asked: window(0, 9),
            covered: vec![],
            outcomes: OutcomeCounts::default(),
            records: 0,
            items: 0,
            gaps: vec![Gap::new(GapReason::RotatedAway, "x".repeat(1000)); 2000],
            cost: Cost::default(),
            redaction: None,
        };
        let done = fit(CollectionDone { request: RequestId(1), sources: vec![row; 300], gaps: vec![] });
        assert!(size(&done) <= MAX_PAYLOAD);
        assert!(done.sources.len() == 300 && done.sources.iter().all(|row| !row.gaps.is_empty()));
    }
}
