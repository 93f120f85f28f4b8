//! Rotated logs that were compressed with gzip (RFC 1952): any number of members, behind a cap on what they inflate to.
//!
//! The frame around the deflate stream is read here, so that the stream itself is handed over in large pieces: that is
//! most of what a window out of a compressed log costs.

use std::fs::File;
use std::io;

use crc32fast::Hasher;
use flate2::{Decompress, FlushDecompress, Status};

use super::lines::{Fed, Feed, PlainFeed};

/// The most that one compressed file may inflate to: a hundred times kubelet's default size of a rotated log. A bomb is
/// cut here; in memory there is never more than a window of 32 KiB and a buffer.
pub(super) const INFLATED_CAP: u64 = 1 << 30;

/// How much compressed text is read at once.
const INPUT: usize = 64 << 10;

/// What stands before the stream of one member: a name and a comment may, and nobody writes long ones.
const MAX_HEADER: usize = 64 << 10;

/// Kubelet writes one; whoever appends to a compressed log writes some. Empty ones would cost time and give nothing.
const MAX_MEMBERS: u32 = 1 << 16;

/// Where in the file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before the header of a member, or at the end.
    Between,
    /// In a member's stream.
    Stream,
    /// Behind it. What the stream gave last has been given before its checksum is looked at.
    Trailer,
}

/// The inflated bytes of a compressed file. Fails with `FileTooLarge` beyond [`INFLATED_CAP`].
pub(super) struct GzipFeed<'f> {
    source: PlainFeed<'f>,
    input: Box<[u8]>,
    /// The part of `input` that was read and not used yet.
    start: usize,
    end: usize,
    inflate: Decompress,
    /// Of what the member gave so far. Not the decoder's own sum, which takes a fifth of the time of inflating.
    crc: Hasher,
    length: u64,
    members: u32,
    at: At,
    given: u64,
    /// What is wrong behind the bytes that were given last.
    error: Option<io::Error>,
}

impl<'f> GzipFeed<'f> {
    /// From its beginning; there is no other place to begin.
    pub(super) fn new(file: &'f File) -> Self {
        Self {
            source: PlainFeed::new(file, 0),
            input: vec![0; INPUT].into_boxed_slice(),
            start: 0,
            end: 0,
            inflate: Decompress::new(false),
            crc: Hasher::new(),
            length: 0,
            members: 0,
            at: At::Between,
            given: 0,
            error: None,
        }
    }

    /// Whether there is input, reading on if need be.
    fn has_input(&mut self) -> io::Result<bool> {
        if self.start == self.end {
            // A hole in a compressed file is damage: the decoder fails on zeros as it would on any.
            self.end = self.source.feed(&mut self.input)?.bytes;
            self.start = 0;
        }
        Ok(self.start < self.end)
    }

    fn byte(&mut self) -> io::Result<u8> {
        if !self.has_input()? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.start += 1;
        Ok(self.input[self.start - 1])
    }

    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        for byte in &mut bytes {
            *byte = self.byte()?;
        }
        Ok(bytes)
    }

    /// What stands before a member's stream.
    fn header(&mut self) -> io::Result<()> {
        const CHECK: u8 = 2;
        const EXTRA: u8 = 4;
        const NAME: u8 = 8;
        const COMMENT: u8 = 16;
        const RESERVED: u8 = 0xe0;
        let mut sum = Hasher::new();
        let [0x1f, 0x8b, 8, flags, ..] = self.summed::<10>(&mut sum)? else {
            return damaged("what should be a gzip member is none");
        };
        if flags & RESERVED != 0 {
            return damaged("a gzip member is of a kind that does not exist");
        }
        if flags & EXTRA != 0 {
            let length = u16::from_le_bytes(self.summed(&mut sum)?);
            for _ in 0..length {
                self.summed::<1>(&mut sum)?;
            }
        }
        for _ in 0..(flags & (NAME | COMMENT)).count_ones() {
            let mut length = 0;
            while self.summed(&mut sum)? != [0] {
                length += 1;
                if length > MAX_HEADER {
                    return damaged("the header of a gzip member does not end");
                }
            }
        }
        // The lower half of the sum.
        if flags & CHECK != 0 && self.bytes::<2>()? != sum.finalize().to_le_bytes()[..2] {
            return damaged("the checksum of the header of a gzip member does not match");
        }
        Ok(())
    }

    fn summed<const N: usize>(&mut self, sum: &mut Hasher) -> io::Result<[u8; N]> {
        let bytes = self.bytes()?;
        sum.update(&bytes);
        Ok(bytes)
    }

    /// What stands behind it.
    fn trailer(&mut self) -> io::Result<()> {
        let sum = u32::from_le_bytes(self.bytes()?);
        let length = u32::from_le_bytes(self.bytes()?);
        if sum != self.crc.clone().finalize() || u64::from(length) != self.length & u64::from(u32::MAX) {
            return damaged("the checksum of a gzip member does not match its content");
        }
        Ok(())
    }
}

fn damaged<T>(why: &'static str) -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::InvalidData, why))
}

impl Feed for GzipFeed<'_> {
    fn feed(&mut self, into: &mut [u8]) -> io::Result<Fed> {
        if self.given >= INFLATED_CAP {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        loop {
            let more = self.has_input()?;
            match self.at {
                At::Between if !more && self.members > 0 => return Ok(Fed::default()),
                At::Between if self.members == MAX_MEMBERS => {
                    return damaged("it has more members than anybody writes");
                }
                At::Between => {
                    self.header()?;
                    self.members += 1;
                    self.inflate.reset(false);
                    self.crc.reset();
                    self.length = 0;
                    self.at = At::Stream;
                    continue;
                }
                At::Trailer => {
                    self.trailer()?;
                    self.at = At::Between;
                    continue;
                }
                At::Stream => {}
            }
            let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
            let input = &self.input[self.start..self.end];
            let status = self.inflate.decompress(input, into, FlushDecompress::None);
            let read = usize::try_from(self.inflate.total_in() - read).unwrap_or(usize::MAX);
            let bytes = usize::try_from(self.inflate.total_out() - written).unwrap_or(usize::MAX).min(into.len());
            self.start = (self.start + read).min(self.end);
            self.crc.update(&into[..bytes]);
            self.length += bytes as u64;
            self.given += bytes as u64;
            let status = match status {
                Ok(status) => status,
                Err(e) if bytes == 0 => return Err(e.into()),
                // What stood before the damage is given first.
                Err(e) => {
                    self.error = Some(e.into());
                    return Ok(Fed { bytes, hole: 0 });
                }
            };
            if status == Status::StreamEnd {
                self.at = At::Trailer;
            } else if read == 0 && bytes == 0 {
                // Neither is wanted nor given anything: its input has ended, or it is stuck.
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if bytes > 0 {
                return Ok(Fed { bytes, hole: 0 });
            }
        }
    }
}

/// What a compressed file begins with, inflated: as much as fits, or as can be had.
pub(super) fn head(file: &File, into: &mut [u8]) -> usize {
    let mut feed = GzipFeed::new(file);
    let mut read = 0;
    while read < into.len() {
        // An error here is met again, and told, when the file is read.
        match feed.feed(&mut into[read..]) {
            Ok(Fed { bytes: 0, .. }) | Err(_) => break,
            Ok(fed) => read += fed.bytes,
        }
    }
    read
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, GzBuilder};
    use proptest::prelude::{any, proptest};

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    /// All that can be had, in pieces of a size, and how it ended.
    fn all(file: &File, piece: usize) -> (Vec<u8>, io::Result<()>) {
        let (mut feed, mut all, mut buf) = (GzipFeed::new(file), Vec::new(), vec![0; piece]);
        loop {
            match feed.feed(&mut buf) {
                Ok(Fed { bytes: 0, .. }) => return (all, Ok(())),
                Ok(fed) => all.extend_from_slice(&buf[..fed.bytes]),
                Err(e) => return (all, Err(e)),
            }
        }
    }

    fn member(text: &[u8]) -> Vec<u8> {
        let named = GzBuilder::new().filename("0.log").comment("rotated").extra(vec![1; 300]);
        let mut encoder = named.write(Vec::new(), Compression::new(6));
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn members_follow_one_another_whatever_their_headers_hold() {
        let text = b"a line of a log\n".repeat(20_000);
        let two = [member(&text), member(b""), member(b"the rest\n")].concat();
        for piece in [1000, 128 << 10] {
            let (read, ended) = all(&file(&two), piece);
            assert!(ended.is_ok() && read == [&text[..], b"the rest\n"].concat());
        }
    }

    #[test]
    fn what_came_before_damage_is_given_and_the_damage_is_an_error() {
        let text: Vec<u8> = (0..60_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let whole = member(&text);
        let kind = |bytes: &[u8]| all(&file(bytes), 4096).1.unwrap_err().kind();
        assert_eq!(kind(&whole[..whole.len() / 2]), io::ErrorKind::UnexpectedEof);
        assert!(all(&file(&whole[..whole.len() / 2]), 4096).0.len() > text.len() / 3);
        let mut other_sum = whole.clone();
        let at = other_sum.len() - 8;
        other_sum[at] ^= 1;
        assert_eq!(kind(&other_sum), io::ErrorKind::InvalidData);
        assert_eq!(all(&file(&other_sum), 4096).0, text);
        assert_eq!(kind(&[&whole[..], b"\0\0\0\0\0\0\0\0\0\0"].concat()), io::ErrorKind::InvalidData);
        assert_eq!(
            (kind(b""), kind(b"plain text, no gzip")),
            (io::ErrorKind::UnexpectedEof, io::ErrorKind::InvalidData)
        );
        let endless = [&[0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 0][..], &vec![b'x'; 100_000]].concat();
        assert_eq!(kind(&endless), io::ErrorKind::InvalidData);
        assert_eq!(kind(&member(b"").repeat(MAX_MEMBERS as usize + 1)), io::ErrorKind::InvalidData);
        let mut reserved = whole;
        reserved[3] |= 0x20;
        assert_eq!((all(&file(&reserved), 4096).0, kind(&reserved)), (Vec::new(), io::ErrorKind::InvalidData));
    }

    #[test]
    fn the_checksum_of_a_header_is_looked_at_where_there_is_one() {
        let member = member(b"a line\n");
        let stream = member.iter().skip(10 + 2 + 300).enumerate().filter(|(_, b)| **b == 0).nth(1).unwrap().0;
        let (head, rest) = member.split_at(10 + 2 + 300 + stream + 1);
        let mut head = head.to_vec();
        head[3] |= 2;
        let mut sum = Hasher::new();
        sum.update(&head);
        let [low, high, ..] = sum.finalize().to_le_bytes();
        let (read, ended) = all(&file(&[&head[..], &[low, high], rest].concat()), 100);
        assert!(ended.is_ok() && read == b"a line\n");
        let (read, ended) = all(&file(&[&head[..], &[low, !high], rest].concat()), 100);
        assert!(ended.is_err() && read.is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_inflate_or_fail_but_end(bytes in proptest::collection::vec(any::<u8>(), 0..300), flags in any::<u8>()) {
            let _ = all(&file(&bytes), 100);
            let _ = all(&file(&[&[0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 0][..], &bytes].concat()), 100);
        }
    }
}
