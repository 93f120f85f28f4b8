//! Where the literals that begin or surround secrets stand in a text, at a few bytes a nanosecond: the one thing that
//! is done to every byte of every log.
//!
//! Each literal is represented by one group of four bytes of its own, the rarest that it has; a table of 65,536 bits says
//! which groups matter. A group that matters is compared in full, so the table decides about speed only.
//! Upper and lower case are not told apart. No state is carried from byte to byte, which is what makes it fast.

/// Bytes of a group.
const GROUP: usize = 4;

/// The shortest literal. One of three bytes stands for itself followed by any byte.
pub(crate) const MIN_LITERAL: usize = 3;

/// The longest, so that looking at a hit costs next to nothing.
pub(crate) const MAX_LITERAL: usize = 64;

/// Letters by how often they are met in logs; what is not in it is rarer than all of these.
const COMMON: &[u8] = b"e0t1ano2irs35l4d67c89u-mp.g:_/fhybkvw\"= ";

/// A set of literals, with the number that was given to each.
#[derive(Debug)]
pub(crate) struct Filter {
    /// One bit for each hash of a group.
    bits: Vec<u64>,
    /// Sorted by hash.
    groups: Vec<Group>,
    /// Folded to lower case.
    literals: Vec<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    hash: u16,
    literal: u16,
    /// Where in the literal the group lies.
    offset: u8,
}

/// A literal and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hit {
    /// Its number: its place in the list that the filter was made from.
    pub(crate) literal: usize,
    /// Its first byte.
    pub(crate) at: usize,
    /// Its length.
    pub(crate) length: usize,
}

/// Case and a few signs are thrown together; the comparison in full tells them apart again.
fn hash(group: [u8; GROUP]) -> u16 {
    let folded = u32::from_le_bytes(group) | 0x2020_2020;
    // The golden ratio: neighbouring groups fall far apart.
    (folded.wrapping_mul(0x9e37_79b1) >> 16) as u16
}

impl Filter {
    /// A filter for these literals, each of [`MIN_LITERAL`] to [`MAX_LITERAL`] bytes; longer ones count up to there.
    pub(crate) fn new<'a>(literals: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let literals: Vec<Vec<u8>> =
            literals.into_iter().map(|l| l[..l.len().min(MAX_LITERAL)].to_ascii_lowercase()).collect();
        let mut filter = Self { bits: vec![0; 1 << 10], groups: Vec::new(), literals: Vec::new() };
        for (number, literal) in literals.iter().enumerate() {
            let number = u16::try_from(number).unwrap_or(u16::MAX);
            if let [a, b, c] = literal[..] {
                (0..=u8::MAX).for_each(|any| filter.add([a, b, c, any], number, 0));
            } else if let Some((offset, group)) = rarest(literal) {
                filter.add(group, number, offset);
            }
        }
        filter.groups.sort_unstable();
        filter.groups.dedup();
        filter.literals = literals;
        filter
    }

    fn add(&mut self, group: [u8; GROUP], literal: u16, offset: u8) {
        let hash = hash(group);
        self.bits[usize::from(hash >> 6)] |= 1 << (hash & 63);
        self.groups.push(Group { hash, literal, offset });
    }

    fn matters(&self, group: [u8; GROUP]) -> bool {
        let hash = hash(group);
        self.bits[usize::from(hash >> 6)] >> (hash & 63) & 1 == 1
    }

    /// Gives every occurrence of a literal in `text` to `hit`, in the order of their groups. A literal of three bytes
    /// at the very end is not an occurrence: nothing follows it.
    pub(crate) fn each(&self, text: &[u8], mut hit: impl FnMut(Hit)) {
        // Four groups at a time: the question that is nearly always answered with no is asked once for all.
        let mut at = 0;
        while let Some(stretch) = text.get(at..at + GROUP + 3) {
            let some = self.matters([stretch[0], stretch[1], stretch[2], stretch[3]])
                | self.matters([stretch[1], stretch[2], stretch[3], stretch[4]])
                | self.matters([stretch[2], stretch[3], stretch[4], stretch[5]])
                | self.matters([stretch[3], stretch[4], stretch[5], stretch[6]]);
            if some {
                (at..at + 4).for_each(|at| self.compare(text, at, &mut hit));
            }
            at += 4;
        }
        (at..text.len()).for_each(|at| self.compare(text, at, &mut hit));
    }

    /// Gives the literals whose group stands at `at`.
    fn compare(&self, text: &[u8], at: usize, hit: &mut impl FnMut(Hit)) {
        let Some(&[a, b, c, d]) = text.get(at..at + GROUP) else { return };
        let group = [a, b, c, d];
        if !self.matters(group) {
            return;
        }
        let hash = hash(group);
        let first = self.groups.partition_point(|g| g.hash < hash);
        for group in self.groups[first..].iter().take_while(|g| g.hash == hash) {
            let literal = &self.literals[usize::from(group.literal)];
            let Some(start) = at.checked_sub(usize::from(group.offset)) else { continue };
            if text.get(start..start + literal.len()).is_some_and(|t| t.eq_ignore_ascii_case(literal)) {
                hit(Hit { literal: usize::from(group.literal), at: start, length: literal.len() });
            }
        }
    }
}

/// The group of a literal that is least often met in logs.
fn rarest(literal: &[u8]) -> Option<(u8, [u8; GROUP])> {
    let rarity = |group: &[u8]| -> usize {
        group.iter().map(|b| COMMON.iter().position(|c| c == b).unwrap_or(COMMON.len())).sum()
    };
    let (offset, group) = literal.windows(GROUP).enumerate().max_by_key(|(_, group)| rarity(group))?;
    Some((u8::try_from(offset).ok()?, group.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

    use super::*;

    fn found(literals: &[Vec<u8>], text: &[u8]) -> Vec<(usize, usize)> {
        let mut all = vec![];
        Filter::new(literals.iter().map(Vec::as_slice)).each(text, |hit| all.push((hit.literal, hit.at)));
        all.sort_unstable();
        all
    }

    #[test]
    fn a_literal_is_found_at_either_end_and_in_any_case() {
        let literals = [b"Secret".to_vec(), b"eyJ".to_vec(), b"abcd".to_vec()];
        assert_eq!(found(&literals, b"sEcReTeyjxABCD"), [(0, 0), (1, 6), (2, 10)]);
        assert_eq!(found(&literals, b"eyJ"), []);
        assert_eq!(found(&literals, b""), []);
    }

    proptest! {
        #[test]
        fn exactly_the_occurrences_are_found(
            literals in proptest::collection::vec("[abAB_]{3,9}", 1..20),
            text in proptest::collection::vec(prop_oneof![Just("a"), Just("b"), Just("A"), Just("_")], 0..80)
                .prop_map(|letters| letters.concat()),
            tail in proptest::collection::vec(any::<u8>(), 0..6),
        ) {
            let text = [text.as_bytes(), &tail].concat();
            let literals: Vec<Vec<u8>> = literals.into_iter().map(String::into_bytes).collect();
            let mut expected = vec![];
            for (number, literal) in literals.iter().enumerate() {
                // One of three bytes needs one more behind it.
                let reach = literal.len().max(GROUP);
                for at in 0..text.len().saturating_sub(reach - 1) {
                    if text[at..at + literal.len()].eq_ignore_ascii_case(literal) {
                        expected.push((number, at));
                    }
                }
            }
            assert_eq!(found(&literals, &text), expected);
        }
    }
}
