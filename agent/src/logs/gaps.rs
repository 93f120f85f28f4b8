//! Gaps, as many as are worth naming: whoever makes a million files that are refused gets one line for most of them.

use casefile_proto::gap::{Gap, GapReason};

/// So many gaps of one item or one log source are named; the rest are counted by their reason.
const MAX_NAMED: usize = 256;

/// Gathers gaps in bounded memory.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    named: Vec<Gap>,
    /// How many more there were of each reason, which are few.
    more: Vec<(GapReason, u64)>,
}

impl Gaps {
    /// One more.
    pub(super) fn push(&mut self, gap: Gap) {
        if self.named.len() < MAX_NAMED {
            return self.named.push(gap);
        }
        self.count(gap.reason, 1);
    }

    /// All of another list.
    pub(super) fn append(&mut self, other: Self) {
        self.extend(other.named);
        for (reason, count) in other.more {
            self.count(reason, count);
        }
    }

    fn count(&mut self, reason: GapReason, count: u64) {
        match self.more.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, n)) => *n += count,
            None => self.more.push((reason, count)),
        }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    /// All of them, those that are not named as one for each reason.
    pub(super) fn finish(self) -> Vec<Gap> {
        let more = self.more.into_iter();
        let more = more.map(|(reason, n)| Gap::new(reason, format!("{n} more of the same kind")).counting(n));
        self.named.into_iter().chain(more).collect()
    }
}

impl Extend<Gap> for Gaps {
    fn extend<I: IntoIterator<Item = Gap>>(&mut self, gaps: I) {
        gaps.into_iter().for_each(|gap| self.push(gap));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_gaps_are_a_few_and_their_number() {
        let mut gaps = Gaps::default();
        gaps.extend((0..1_000_000).map(|n| Gap::new(GapReason::RefusedUnsafePath, format!("{n} is a link"))));
        gaps.push(Gap::new(GapReason::Budget, "one more"));
        // Passed on, they are no more than before.
        let mut passed_on = Gaps::default();
        passed_on.append(gaps);
        let gaps = passed_on;
        let all = gaps.finish();
        assert_eq!(all.len(), MAX_NAMED + 2);
        let last: Vec<_> = all[MAX_NAMED..].iter().map(|g| (g.reason, g.count)).collect();
        let rest = 1_000_000 - MAX_NAMED as u64;
        assert_eq!(last, [(GapReason::RefusedUnsafePath, Some(rest)), (GapReason::Budget, Some(1))]);
    }
}
