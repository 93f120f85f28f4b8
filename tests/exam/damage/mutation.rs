//! What can happen to a file: bits that change, bytes that are lost, parts that change places. Each is decided by a seed.

use std::ops::Range;

use crate::archives::{Parts, Subject};
use crate::random::Random;

/// What is done to an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// One bit changes.
    Bit,
    /// One byte becomes another.
    Byte,
    /// Two to nine bits change, anywhere.
    Bits,
    /// A piece becomes zeros, as a sector that was never written.
    Zeros,
    /// A piece becomes a copy of another one.
    Overwritten,
    /// The end is missing.
    Cut,
    /// A piece in the middle is missing.
    CutOut,
    /// A piece is there twice.
    Doubled,
    /// Something follows the end.
    Appended,
    /// Two pieces of the same length change places.
    Swapped,
    /// Two members change places.
    MembersSwapped,
    /// A member is missing, with its header.
    MemberDropped,
    /// A member is there twice.
    MemberDoubled,
    /// Two chunks of one member change places.
    ChunksSwapped,
    /// A chunk is missing.
    ChunkDropped,
    /// A chunk stands where one of another member was.
    ChunkMoved,
}

impl Mutation {
    /// All, each with how often it is tried.
    pub(crate) const ALL: &[(Self, u64)] = &[
        (Self::Bit, 24),
        (Self::Byte, 8),
        (Self::Bits, 8),
        (Self::Zeros, 5),
        (Self::Overwritten, 5),
        (Self::Cut, 8),
        (Self::CutOut, 5),
        (Self::Doubled, 4),
        (Self::Appended, 3),
        (Self::Swapped, 6),
        (Self::MembersSwapped, 5),
        (Self::MemberDropped, 4),
        (Self::MemberDoubled, 4),
        (Self::ChunksSwapped, 6),
        (Self::ChunkDropped, 3),
        (Self::ChunkMoved, 2),
    ];

    /// One of them.
    pub(crate) fn choose(random: &mut Random) -> Self {
        let all: u64 = Self::ALL.iter().map(|(_, weight)| weight).sum();
        let mut at = random.below(all);
        for (mutation, weight) in Self::ALL {
            if at < *weight {
                return *mutation;
            }
            at -= weight;
        }
        Self::Bit
    }

    /// The archive after it. `None`: it changes nothing here, and another one is to be drawn.
    pub(crate) fn apply(self, subject: &Subject, random: &mut Random) -> Option<Vec<u8>> {
        let (bytes, parts) = (&subject.bytes, &subject.parts);
        let at = random.index(bytes.len());
        let changed = match self {
            Self::Bit => flipped(bytes, &[(at, 1 << random.below(8))]),
            Self::Byte => flipped(bytes, &[(at, u8::try_from(random.between(1, 255)).ok()?)]),
            Self::Bits => {
                let flips: Vec<_> =
                    (0..random.between(2, 9)).map(|_| (random.index(bytes.len()), 1 << random.below(8))).collect();
                flipped(bytes, &flips)
            }
            Self::Zeros => {
                let range = piece(bytes.len(), random);
                let mut changed = bytes.clone();
                changed[range].fill(0);
                changed
            }
            Self::Overwritten => {
                let to = piece(bytes.len(), random);
                let from = random.index(bytes.len() - to.len());
                let mut changed = bytes.clone();
                changed.copy_within(from..from + to.len(), to.start);
                changed
            }
            Self::Cut => bytes[..at].to_vec(),
            Self::CutOut => {
                let out = piece(bytes.len(), random);
                [&bytes[..out.start], &bytes[out.end..]].concat()
            }
            Self::Doubled => {
                let twice = piece(bytes.len(), random);
                [&bytes[..twice.end], &bytes[twice.start..]].concat()
            }
            Self::Appended => {
                let from = piece(bytes.len(), random);
                let zeros = vec![0; from.len()];
                let more = if random.percent(50) { &bytes[from] } else { &zeros[..] };
                [&bytes[..], more].concat()
            }
            Self::Swapped => {
                let one = piece(bytes.len(), random);
                let other = random.index(bytes.len() - one.len());
                let other = other..other + one.len();
                swapped(bytes, one, other)?
            }
            Self::MembersSwapped => {
                let (one, other) = (member(parts, random)?, member(parts, random)?);
                swapped(bytes, one, other)?
            }
            Self::MemberDropped => {
                let out = member(parts, random)?;
                [&bytes[..out.start], &bytes[out.end..]].concat()
            }
            Self::MemberDoubled => {
                let (twice, behind) = (member(parts, random)?, member(parts, random)?);
                [&bytes[..behind.end], &bytes[twice], &bytes[behind.end..]].concat()
            }
            Self::ChunksSwapped => {
                let several: Vec<_> = parts.members.iter().filter(|m| m.chunks.len() > 1).collect();
                let chunks = &random.pick(&several)?.chunks;
                let (one, other) = (random.pick(chunks)?.clone(), random.pick(chunks)?.clone());
                swapped(bytes, one, other)?
            }
            Self::ChunkDropped => {
                let out = chunk(parts, random)?;
                [&bytes[..out.start], &bytes[out.end..]].concat()
            }
            Self::ChunkMoved => {
                let (from, to) = (chunk(parts, random)?, chunk(parts, random)?);
                [&bytes[..to.start], &bytes[from], &bytes[to.end..]].concat()
            }
        };
        (changed != *bytes).then_some(changed)
    }
}

fn flipped(bytes: &[u8], flips: &[(usize, u8)]) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    for (at, mask) in flips {
        changed[*at] ^= mask;
    }
    changed
}

/// A piece of a length that sectors, pages and writes have; always shorter than the file.
fn piece(length: usize, random: &mut Random) -> Range<usize> {
    const LENGTHS: [usize; 7] = [1, 3, 16, 64, 512, 4096, 65_536];
    let most = random.pick(&LENGTHS).copied().unwrap_or(1).min(length / 2);
    // Most of what a disk does is aligned; not all.
    let at = random.index(length - most);
    let at = if random.percent(50) { at - at % most.max(1) } else { at };
    at..at + most
}

fn member(parts: &Parts, random: &mut Random) -> Option<Range<usize>> {
    random.pick(&parts.members).map(|member| member.whole.clone())
}

fn chunk(parts: &Parts, random: &mut Random) -> Option<Range<usize>> {
    let all: Vec<_> = parts.members.iter().flat_map(|member| &member.chunks).collect();
    random.pick(&all).map(|range| (*range).clone())
}

/// Both ranges in each other's place; `None` where they overlap.
fn swapped(bytes: &[u8], one: Range<usize>, other: Range<usize>) -> Option<Vec<u8>> {
    let (one, other) = if one.start <= other.start { (one, other) } else { (other, one) };
    if one.end > other.start {
        return None;
    }
    Some(
        [&bytes[..one.start], &bytes[other.clone()], &bytes[one.end..other.start], &bytes[one], &bytes[other.end..]]
            .concat(),
    )
}
