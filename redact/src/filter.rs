//! Where the literals that begin or surround secrets stand in a text, at a few bytes a nanosecond: the one thing that
//! is done to every byte of every log.
//!
//! Each literal is represented by one group of four bytes of its own, the rarest that it has; a table says
//! which groups matter. A group that matters is compared in full, so the table decides about speed only.
//! Upper and lower case are not told apart. No state is carried from byte to byte, which is what makes it fast.

/// Bytes of a group.
const GROUP: usize = 4;

/// The shortest literal. One of three bytes stands for itself followed by any byte.
pub(crate) const MIN_LITERAL: usize = 3;

/// The longest, so that looking at a hit costs next to nothing.
pub(crate) const MAX_LITERAL: usize = 64;

/// Letters by how often they are met in logs; what is not in it is rarer than all of these.
const COMMON: &[u8] = b" e0t1ano2irs35l4d67c89u\"-mp.g:=/_fhybkvw";

/// Bits of a hash.
const HASH: u32 = 16;

/// Words of the bits.
const WORDS: usize = 1 << (HASH - 6);

/// A set of literals, with the number that was given to each.
#[derive(Debug)]
pub(crate) struct Filter {
    /// Which hashes of groups matter: a byte each, because asking for a bit takes as long as all the rest.
    known: Box<[u8; 1 << HASH]>,
    /// The same, one bit each, for counting.
    bits: Box<[u64; WORDS]>,
    /// For each word of `bits`, how many bits are set before it: the place of a hash in `starts`.
    ranks: Vec<u16>,
    /// For each hash that is set, in order, where its groups begin in `groups`.
    starts: Vec<u16>,
    groups: Vec<Group>,
    /// Folded to lower case.
    literals: Vec<Vec<u8>>,
}

/// A literal, and where in it its group lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    /// The folded group and what follows it in the literal, up to 8 bytes, and which bytes those are: most of what only
    /// begins like the group is told apart by this.
    value: u64,
    mask: u64,
    literal: u16,
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

/// Throws the cases of letters together, and a few signs; the comparison in full tells those apart again.
const FOLD: u64 = 0x2020_2020_2020_2020;

/// The hash of a folded group. The golden ratio: neighbouring groups fall far apart.
fn hash(group: u32) -> usize {
    (group.wrapping_mul(0x9e37_79b1) >> (32 - HASH)) as usize
}

impl Filter {
    /// A filter for these literals, each of [`MIN_LITERAL`] to [`MAX_LITERAL`] bytes; longer ones count up to there.
    pub(crate) fn new<'a>(literals: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let literals: Vec<Vec<u8>> =
            literals.into_iter().map(|l| l[..l.len().min(MAX_LITERAL)].to_ascii_lowercase()).collect();
        let mut all: Vec<(usize, Group)> = Vec::new();
        for (number, literal) in literals.iter().enumerate() {
            let number = u16::try_from(number).unwrap_or(u16::MAX);
            let mut add = |group: [u8; GROUP], offset: u8| {
                let folded = u32::from_le_bytes(group) | FOLD as u32;
                let mut value = [0; 8];
                let rest = literal[usize::from(offset)..].iter().copied().chain(std::iter::repeat(0));
                value.iter_mut().zip(rest).for_each(|(to, from)| *to = from);
                let length = (literal.len() - usize::from(offset)).min(8);
                let mask = u64::MAX >> (64 - 8 * length);
                let value = (u64::from_le_bytes(value) | FOLD) & mask;
                all.push((hash(folded), Group { value, mask, literal: number, offset }));
            };
            if let [a, b, c] = literal[..] {
                // Only a name in an address may begin with what is not ASCII.
                let last = if c == b'/' { u8::MAX } else { 0x7f };
                // Folded, these are all that can follow.
                (b' '..=last).filter(|any| *any | b' ' == *any).for_each(|any| add([a, b, c, any], 0));
            } else if let Some((offset, group)) = rarest(literal) {
                add(group, offset);
            }
        }
        all.sort_unstable();
        all.dedup();
        let mut bits = Box::new([0_u64; WORDS]);
        let mut known = Box::new([0; 1 << HASH]);
        for (hash, _) in &all {
            bits[hash >> 6] |= 1 << (hash & 63);
            known[*hash] = 1;
        }
        let mut ranks = Vec::with_capacity(bits.len());
        let mut rank = 0_usize;
        for word in bits.iter() {
            ranks.push(u16::try_from(rank).unwrap_or(u16::MAX));
            rank += word.count_ones() as usize;
        }
        let new = |at: &usize| *at == 0 || all[at - 1].0 != all[*at].0;
        let end = [all.len()];
        let starts = (0..all.len()).filter(new).chain(end).map(|at| u16::try_from(at).unwrap_or(u16::MAX)).collect();
        Self { known, bits, ranks, starts, groups: all.into_iter().map(|(_, group)| group).collect(), literals }
    }

    /// Gives every occurrence of a literal in `text` to `hit`, in the order of their groups. One of three bytes counts
    /// only before something that is ASCII: nothing is found behind another.
    pub(crate) fn each(&self, text: &[u8], mut hit: impl FnMut(Hit)) {
        // Four groups at a time: the question that is nearly always answered with no is asked once for all.
        let matters = |group: u64| self.known[hash(group as u32)];
        let mut at = 0;
        while let Some(stretch) = text.get(at..at + 8) {
            let word = stretch.try_into().map_or(0, u64::from_le_bytes) | FOLD;
            if matters(word) | matters(word >> 8) | matters(word >> 16) | matters(word >> 24) != 0 {
                for n in 0..4 {
                    if matters(word >> (8 * n)) != 0 {
                        self.compare(text, at + n, &mut hit);
                    }
                }
            }
            at += 4;
        }
        (at..(text.len() + 1).saturating_sub(GROUP)).for_each(|at| self.compare(text, at, &mut hit));
    }

    /// Gives the literals whose group stands at `at`.
    fn compare(&self, text: &[u8], at: usize, hit: &mut impl FnMut(Hit)) {
        let next = eight(text, at);
        let hash = hash(next as u32);
        if self.known[hash] == 0 {
            return;
        }
        let below = (self.bits[hash >> 6] & ((1 << (hash & 63)) - 1)).count_ones() as usize;
        let place = usize::from(self.ranks[hash >> 6]) + below;
        for group in &self.groups[usize::from(self.starts[place])..usize::from(self.starts[place + 1])] {
            if next & group.mask != group.value {
                continue;
            }
            let literal = &self.literals[usize::from(group.literal)];
            let Some(start) = at.checked_sub(usize::from(group.offset)) else { continue };
            let end = start + literal.len();
            if end.max(at + GROUP) <= text.len() && text[start..end].eq_ignore_ascii_case(literal) {
                hit(Hit { literal: usize::from(group.literal), at: start, length: literal.len() });
            }
        }
    }
}

/// The 8 bytes at `at`, folded; what lies beyond the end is made up.
fn eight(text: &[u8], at: usize) -> u64 {
    let load = |at: usize| text.get(at..at + 8).and_then(|e| e.try_into().ok()).map(u64::from_le_bytes);
    let word = load(at).or_else(|| {
        let last = text.len().checked_sub(8)?;
        Some(load(last)?.checked_shr(8 * u32::try_from(at - last).ok()?).unwrap_or(0))
    });
    let short = || text.iter().skip(at).rev().fold(0, |word, b| word << 8 | u64::from(*b));
    word.unwrap_or_else(short) | FOLD
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
                for at in 0..text.len().saturating_sub(literal.len() - 1) {
                    let end = at + literal.len();
                    // One of three bytes needs something behind it.
                    let short = literal.len() < GROUP && text.get(end).is_none_or(|b| *b > 0x7f);
                    if !short && text[at..end].eq_ignore_ascii_case(literal) {
                        expected.push((number, at));
                    }
                }
            }
            assert_eq!(found(&literals, &text), expected);
        }
    }
}
