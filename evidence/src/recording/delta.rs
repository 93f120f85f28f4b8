//! Frames as records: the encoder that writes keyframes and sparse deltas ([`super::encoder`]), and a decoder that
//! trusts none of them.

use super::block::Block;
use super::bytes::{RecordType, split_record};
use super::facts;
use super::names::Names;
use super::tick::{Tick, TickDecoder};
use super::{Header, Hole};
use casefile_proto::sample::Frame;

pub use super::encoder::Encoder;

/// What one record said.
#[derive(Debug)]
pub enum Decoded {
    /// A header; the decoder speaks its schema from now on.
    Header(Header),
    /// A frame, whole; its `defined` names what is new to this decoder. [`SeriesId`]s are the decoder's own, not reused.
    ///
    /// [`SeriesId`]: casefile_proto::sample::SeriesId
    Frame(Frame),
    /// The frames of a columnar block, oldest first.
    Block(Vec<Frame>),
    /// A described hole.
    Hole(Hole),
}

/// Why bytes are no record.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end within the record.
    #[error("the record is cut off")]
    Torn,
    /// The checksum does not match.
    #[error("the record's checksum does not match")]
    Checksum,
    /// It breaks a rule of the format or a limit.
    #[error("the record is malformed: {0}")]
    Malformed(&'static str),
}

/// Reads records of one stream. Total: any bytes give records or an error, in bounded memory. After an error in a
/// frame the next frame must be a keyframe.
#[derive(Default)]
pub struct Decoder {
    header: Option<Header>,
    ticks: TickDecoder,
    tick: Tick,
    names: Names,
}

impl Decoder {
    /// A decoder that has seen nothing; the first record must be a header.
    pub fn new() -> Self {
        Self::default()
    }

    /// The first record of `bytes` and how many bytes it took; `None` when `bytes` is empty.
    pub fn next(&mut self, bytes: &[u8]) -> Result<Option<(Decoded, usize)>, DecodeError> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let (head, body) = split_record(bytes)?;
        let decoded = self.body(head.kind, body);
        if decoded.is_err() {
            self.ticks.restart();
        }
        Ok(Some((decoded?, head.total())))
    }

    fn body(&mut self, kind: RecordType, body: &[u8]) -> Result<Decoded, DecodeError> {
        if kind == RecordType::Header {
            let header = facts::header(body)?;
            if self.header.as_ref() != Some(&header) {
                self.ticks.restart();
                self.names.speak(header.schema.clone());
                self.header = Some(header.clone());
            }
            return Ok(Decoded::Header(header));
        }
        let Some(header) = &self.header else {
            return Err(DecodeError::Malformed("a record before the header"));
        };
        match kind {
            RecordType::Key => {
                self.ticks.key(&header.schema, body, &mut self.tick)?;
                self.names.begin_block();
            }
            RecordType::Delta => self.ticks.delta(&header.schema, body, &mut self.tick)?,
            RecordType::Block => {
                self.ticks.restart();
                self.names.begin_block();
                let mut block = Block::open(&header.schema, body)?;
                let mut frames = Vec::with_capacity(block.len());
                while block.next(&mut self.tick)? {
                    frames.push(self.names.frame(header.boot, &mut self.tick)?);
                }
                return Ok(Decoded::Block(frames));
            }
            RecordType::Hole | RecordType::Header => return Ok(Decoded::Hole(facts::hole(body)?)),
        }
        Ok(Decoded::Frame(self.names.frame(header.boot, &mut self.tick)?))
    }

    /// The header in force.
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// What a series is; for ids that this decoder gave out. A series that was in neither of the last two blocks of
    /// its source is forgotten, and gets a new id when it comes back.
    pub fn series(
        &self,
        source: casefile_proto::sample::SourceIndex,
        id: casefile_proto::sample::SeriesId,
    ) -> Option<&casefile_proto::sample::SeriesDef> {
        self.names.series(source, id)
    }
}
