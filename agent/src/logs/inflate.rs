//! Rotated logs that were compressed with gzip: any number of members, behind a cap on what they inflate to.

use std::fs::File;
use std::io::{self, Read};

use flate2::read::MultiGzDecoder;

use super::lines::{Fed, Feed, PlainFeed};

/// The most that one compressed file may inflate to: a hundred times kubelet's default size of a rotated log. A bomb is
/// cut here; in memory there is never more than a window of 32 KiB and a buffer.
pub(super) const INFLATED_CAP: u64 = 1 << 30;

/// The inflated bytes of a compressed file. Fails with `FileTooLarge` beyond [`INFLATED_CAP`].
pub(super) struct GzipFeed<'f> {
    decoder: MultiGzDecoder<PlainFeed<'f>>,
    given: u64,
}

impl<'f> GzipFeed<'f> {
    /// From its beginning; there is no other place to begin.
    pub(super) fn new(file: &'f File) -> Self {
        Self { decoder: MultiGzDecoder::new(PlainFeed::new(file, 0)), given: 0 }
    }
}

impl Feed for GzipFeed<'_> {
    fn feed(&mut self, into: &mut [u8]) -> io::Result<Fed> {
        if self.given >= INFLATED_CAP {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let bytes = self.decoder.read(into)?;
        self.given += bytes as u64;
        Ok(Fed { bytes, hole: 0 })
    }
}

impl Read for PlainFeed<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        // A hole in a compressed file is damage: the decoder fails on zeros as it would on any.
        Ok(self.feed(into)?.bytes)
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
