//! Walks over the records of one file, or of bytes in memory, without decoding them; finds the next whole record after
//! a damaged one. A record that is cut off at the end is simply not there.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use casefile_proto::ids::BootId;

use super::bytes::{RECORD_HEAD, RecordHead, RecordType, split_record};
use super::columns::Summary;
use super::delta::DecodeError;
use super::facts;

/// Bytes that are searched for the next whole record after a damaged one.
const MAX_SEARCH: u64 = 16 << 20;
/// Bytes of candidates that are checksummed in one search: a file made to look like records everywhere ends here.
const MAX_CANDIDATES: u64 = 256 << 20;

/// Where records are.
#[derive(Debug)]
pub(crate) enum Place {
    File(File),
    Memory(Vec<u8>),
}

impl Place {
    pub(crate) fn length(&self) -> io::Result<u64> {
        match self {
            Self::File(file) => file.metadata().map(|m| m.len()),
            Self::Memory(bytes) => Ok(bytes.len() as u64),
        }
    }

    /// Exactly this many bytes.
    fn read(&self, offset: u64, length: usize, out: &mut Vec<u8>) -> io::Result<()> {
        out.clear();
        match self {
            Self::File(file) => {
                out.resize(length, 0);
                file.read_exact_at(out, offset)
            }
            Self::Memory(bytes) => {
                let from = usize::try_from(offset).ok();
                let part = from.and_then(|from| bytes.get(from..from.checked_add(length)?));
                out.extend_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }
}

/// What is next.
#[derive(Debug)]
pub(crate) enum Step {
    /// A record; its body has not been read.
    Record(RecordHead),
    /// Nothing: the end, or a record that is cut off.
    End,
    /// Bytes that are no record; [`Walk::search`] goes on behind them.
    Damaged(DecodeError),
}

/// A position in a file of records.
#[derive(Debug)]
pub(crate) struct Walk {
    place: Place,
    /// Where the next record begins.
    pub(crate) at: u64,
    /// Where it ends for us: what a live writer adds later is not seen.
    pub(crate) end: u64,
    head: Vec<u8>,
}

impl Walk {
    pub(crate) fn new(place: Place) -> io::Result<Self> {
        let end = place.length()?;
        Ok(Self { place, at: 0, end, head: Vec::new() })
    }

    /// Over bytes in memory.
    pub(crate) fn in_memory(bytes: Vec<u8>) -> Self {
        Self { end: bytes.len() as u64, place: Place::Memory(bytes), at: 0, head: Vec::new() }
    }

    /// The bytes of [`in_memory`](Self::in_memory) again.
    pub(crate) fn into_memory(self) -> Vec<u8> {
        match self.place {
            Place::Memory(bytes) => bytes,
            Place::File(_) => Vec::new(),
        }
    }

    /// The boot of a segment and the first frame of its first block; `None`: it does not begin so.
    pub(crate) fn begins(&mut self) -> io::Result<Option<(BootId, u64)>> {
        let Step::Record(head) = self.look()? else { return Ok(None) };
        let mut body = Vec::new();
        if head.kind != RecordType::Header || self.body(&head, &mut body)?.is_err() {
            return Ok(None);
        }
        let Ok(header) = facts::header(&body) else { return Ok(None) };
        self.skip(&head);
        match self.look()? {
            Step::Record(head) if head.kind == RecordType::Block => {
                Ok(self.summary(&head)?.ok().map(|summary| (header.boot, summary.first_seq)))
            }
            _ => Ok(None),
        }
    }

    /// What is next; does not move.
    pub(crate) fn look(&mut self) -> io::Result<Step> {
        let left = self.end.saturating_sub(self.at);
        if left < RECORD_HEAD as u64 {
            return Ok(Step::End);
        }
        self.place.read(self.at, RECORD_HEAD, &mut self.head)?;
        Ok(match RecordHead::parse(&self.head) {
            Ok(head) if head.total() as u64 <= left => Step::Record(head),
            Ok(_) => Step::End,
            Err(error) => Step::Damaged(error),
        })
    }

    /// Moves behind a record that [`look`](Self::look) found.
    pub(crate) fn skip(&mut self, head: &RecordHead) {
        self.at += head.total() as u64;
    }

    /// Reads and checks the body of a record that [`look`](Self::look) found; does not move.
    pub(crate) fn body(&mut self, head: &RecordHead, out: &mut Vec<u8>) -> io::Result<Result<(), DecodeError>> {
        self.place.read(self.at + RECORD_HEAD as u64, head.length, out)?;
        Ok(head.check(out))
    }

    /// What a block says of itself, without reading its columns; does not move.
    pub(crate) fn summary(&mut self, head: &RecordHead) -> io::Result<Result<Summary, DecodeError>> {
        if head.length < Summary::LENGTH {
            return Ok(Err(DecodeError::Malformed("a block without a summary")));
        }
        self.place.read(self.at + RECORD_HEAD as u64, Summary::LENGTH, &mut self.head)?;
        Ok(Summary::parse(&self.head))
    }

    /// The same from an earlier record on, whose length may have been what led here.
    pub(crate) fn search_from(&mut self, earlier: Option<u64>) -> io::Result<()> {
        self.at = earlier.unwrap_or(self.at);
        self.search()
    }

    /// Moves to the next whole record behind damage; to the end when there is none.
    pub(crate) fn search(&mut self) -> io::Result<()> {
        let length = self.end.saturating_sub(self.at).min(MAX_SEARCH);
        let mut bytes = Vec::new();
        self.place.read(self.at, usize::try_from(length).unwrap_or(usize::MAX), &mut bytes)?;
        let mut budget = MAX_CANDIDATES;
        for skip in 1..bytes.len().saturating_sub(RECORD_HEAD) {
            let rest = &bytes[skip..];
            let Ok(head) = RecordHead::parse(&rest[..RECORD_HEAD]) else { continue };
            if head.total() > rest.len() {
                continue;
            }
            if split_record(rest).is_ok() {
                self.at += skip as u64;
                return Ok(());
            }
            let Some(left) = budget.checked_sub(head.length as u64) else { break };
            budget = left;
        }
        self.at = self.end;
        Ok(())
    }
}
