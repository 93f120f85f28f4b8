//! Frames as a collector looks at them that keeps what it is sent: which frame of which boot, taken when, how each source
//! fared; every record checked to the last byte, and nothing of the readings kept but what the next record leans on.
//!
//! Names of series are left alone: whoever wants them reads with [`super::delta::Decoder`], which holds all of them.

use casefile_proto::ids::FrameSeq;
use casefile_proto::sample::{Outcome, SourceIndex};
use casefile_proto::time::Stamp;

use super::bytes::{RecordType, split_record};
use super::delta::DecodeError;
use super::tick::{Tick, TickDecoder};
use super::{Header, Hole, facts};

/// Reads records of one stream under one header. Total, in bounded memory. After an error in a frame the next must be a
/// keyframe.
pub struct Skimmer {
    header: Header,
    ticks: TickDecoder,
    outcomes: Vec<(SourceIndex, Outcome)>,
}

/// What a record says.
#[derive(Debug, PartialEq)]
pub enum Skimmed {
    /// A frame; how its sources fared, [`Skimmer::outcomes`] says.
    Frame {
        /// Its number.
        seq: FrameSeq,
        /// When it was taken.
        at: Stamp,
    },
    /// A described hole.
    Hole(Hole),
    /// A header or a block: nothing that is streamed.
    Other,
}

impl Skimmer {
    /// Under this header; the first frame must be a keyframe.
    pub fn new(header: Header) -> Self {
        Self { header, ticks: TickDecoder::default(), outcomes: Vec::new() }
    }

    /// The first record of `bytes` and how many bytes it took; `None` when `bytes` is empty.
    pub fn next(&mut self, bytes: &[u8]) -> Result<Option<(Skimmed, usize)>, DecodeError> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let (head, body) = split_record(bytes)?;
        let schema = &self.header.schema;
        // Not kept between frames: there is one skimmer for each of thousands of nodes.
        let mut tick = Tick::default();
        let read = match head.kind {
            RecordType::Key => self.ticks.key(schema, body, &mut tick),
            RecordType::Delta => self.ticks.delta(schema, body, &mut tick),
            RecordType::Hole => return Ok(Some((Skimmed::Hole(facts::hole(body)?), head.total()))),
            RecordType::Header | RecordType::Block => return Ok(Some((Skimmed::Other, head.total()))),
        };
        if let Err(error) = read {
            self.ticks.restart();
            return Err(error);
        }
        let frame = Skimmed::Frame { seq: FrameSeq(tick.seq), at: tick.stamp() };
        self.outcomes.clear();
        self.outcomes.extend(tick.samples.into_iter().map(|sample| (SourceIndex(sample.source), sample.outcome)));
        Ok(Some((frame, head.total())))
    }

    /// How each source fared in the frame that was read last.
    pub fn outcomes(&self) -> &[(SourceIndex, Outcome)] {
        &self.outcomes
    }
}
