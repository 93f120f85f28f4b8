//! Inflating a whole file from the front, with caps: the one place where the size of what comes out is not known before.
//!
//! Reading by the index inflates chunk by chunk (`chunk`), each with its claim. This is for a file whose index is gone,
//! and for whoever must not believe it. What the plain bytes mean is `sequential`'s.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use casefile_proto::units::Bytes;
use flate2::{Decompress, FlushDecompress, Status};

use super::gzip;

/// What a reader accepts; a hostile archive is refused, not obeyed. All reading is streamed: these bound the time and the
/// disk that an archive can cost, not the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries.
    pub entries: u64,
    /// Plain bytes of one entry.
    pub entry_bytes: Bytes,
    /// Plain bytes of all.
    pub total_bytes: Bytes,
}

impl Default for Limits {
    /// A million entries, 64 GiB each, 1 TiB together: far above what a window of a cluster gives, and still an end.
    fn default() -> Self {
        Self { entries: 1_000_000, entry_bytes: Bytes::mib(64 << 10), total_bytes: Bytes::mib(1 << 20) }
    }
}

impl Limits {
    /// Plain bytes of a tar file within these limits: at most 3 blocks of header more than a plain entry has, and padding.
    fn tar_bytes(&self) -> u64 {
        self.total_bytes.0.saturating_add(self.entries.saturating_mul(8 * 512)).saturating_add(gzip::END_OF_TAR as u64)
    }
}

/// Why no more comes.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The file ends before the stream does.
    Truncated,
    /// The stream is broken.
    Damaged(String),
    /// A cap was reached, or it is no gzip file of ours.
    Refused(String),
    /// The file system said no.
    Io(io::Error),
}

/// How much of the file is read at once.
const BUFFER: usize = 64 << 10;

/// The plain bytes of a file, from the front.
pub(crate) struct Inflated {
    file: Arc<File>,
    buffer: Box<[u8]>,
    /// What of the buffer is not inflated yet.
    begin: usize,
    end: usize,
    /// Where in the file the buffer ends.
    read_to: u64,
    inflate: Decompress,
    sum: gzip::Sum,
    left: u64,
    over: bool,
}

/// What stands after the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Where in the file the trailer ends.
    pub(crate) at: u64,
    /// Whether the trailer is that of the plain bytes.
    pub(crate) sum_matches: bool,
}

impl Inflated {
    pub(crate) fn begin(file: Arc<File>, limits: &Limits) -> Result<Self, Stop> {
        let mut this = Self {
            file,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            begin: 0,
            end: 0,
            read_to: 0,
            inflate: Decompress::new(false),
            sum: gzip::Sum::default(),
            left: limits.tar_bytes(),
            over: false,
        };
        let mut header = [0u8; gzip::HEADER.len()];
        this.raw(&mut header)?;
        if header != gzip::HEADER {
            return Err(Stop::Refused("it does not begin as a case file does".to_owned()));
        }
        Ok(this)
    }

    /// As `Read::read`: 0 for a buffer that is not empty means that the deflate stream has ended.
    pub(crate) fn read(&mut self, out: &mut [u8]) -> Result<usize, Stop> {
        while !self.over && !out.is_empty() {
            if self.begin == self.end && !self.refill()? {
                return Err(Stop::Truncated);
            }
            let (consumed, produced) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self
                .inflate
                .decompress(&self.buffer[self.begin..self.end], out, FlushDecompress::None)
                .map_err(|_| self.damaged())?;
            // Both differences are within the two slices, so the conversions cannot fail.
            let taken = usize::try_from(self.inflate.total_in() - consumed).unwrap_or(0);
            let given = usize::try_from(self.inflate.total_out() - produced).unwrap_or(0);
            self.begin += taken;
            self.over = status == Status::StreamEnd;
            self.left = self
                .left
                .checked_sub(given as u64)
                .ok_or_else(|| Stop::Refused("it inflates to more than the limits allow".to_owned()))?;
            if given > 0 {
                self.sum.add(&out[..given]);
                return Ok(given);
            }
            if taken == 0 && !self.over {
                return Err(self.damaged());
            }
        }
        Ok(0)
    }

    /// Reads the trailer; only after [`Self::read`] said that the stream has ended.
    pub(crate) fn trailer(&mut self) -> Result<Ended, Stop> {
        let mut trailer = [0u8; gzip::TRAILER];
        self.raw(&mut trailer)?;
        let at = self.read_to - (self.end - self.begin) as u64;
        Ok(Ended { at, sum_matches: trailer == self.sum.trailer() })
    }

    fn damaged(&self) -> Stop {
        let at = self.read_to - (self.end - self.begin) as u64;
        Stop::Damaged(format!("the compressed stream is broken near byte {at} of the file"))
    }

    fn raw(&mut self, out: &mut [u8]) -> Result<(), Stop> {
        for byte in out {
            if self.begin == self.end && !self.refill()? {
                return Err(Stop::Truncated);
            }
            *byte = self.buffer[self.begin];
            self.begin += 1;
        }
        Ok(())
    }

    /// Reads on; false at the end of the file.
    fn refill(&mut self) -> Result<bool, Stop> {
        (self.begin, self.end) = (0, 0);
        loop {
            match self.file.read_at(&mut self.buffer, self.read_to) {
                Ok(n) => {
                    self.end = n;
                    self.read_to += n as u64;
                    return Ok(n > 0);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Stop::Io(e)),
            }
        }
    }
}
