//! The first bytes of an input decide how the rest is used.

use casefile_agent::logs::fuzzing::Asked;
use casefile_proto::time::{NANOS_PER_SEC, WallTime, Window};
use casefile_proto::units::Bytes;

/// 2026-11-23T00:00:00Z, as in all written seeds.
pub(crate) const BEGIN: WallTime = WallTime::from_secs(1_795_392_000);

/// What is left of an input.
pub(crate) struct Input<'a> {
    pub(crate) rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next byte; 0 when there is none.
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    /// Two bytes, the higher one first.
    pub(crate) fn short(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// Four bytes: the size of a piece, the first second after [`BEGIN`] and the length of the window in seconds, and the
    /// budget in pieces of 16 bytes, 255 being as much as one likes.
    pub(crate) fn asked(&mut self) -> Asked {
        let piece = usize::from(self.byte()) + 1;
        let from = BEGIN.offset(i64::from(self.byte()) * NANOS_PER_SEC);
        let until = from.offset((i64::from(self.byte()) + 1) * NANOS_PER_SEC);
        let budget = match self.byte() {
            255 => Bytes(1 << 40),
            n => Bytes(u64::from(n) * 16),
        };
        Asked { window: Window::new(from, until).unwrap(), budget, piece }
    }

    /// The rest in parts apart by this byte.
    pub(crate) fn parts(&self, apart: u8) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.rest.split(move |b| *b == apart)
    }
}
