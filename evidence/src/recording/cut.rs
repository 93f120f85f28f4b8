//! Writes a window of a recording as one standalone segment, and counts what is in it.

use std::io::{self, Write};

use casefile_proto::gap::Gap;
use casefile_proto::time::Window;

use super::bytes::{RecordType, put_record};
use super::columns::BlockBuilder;
use super::pass::{Found, Stop};
use super::reader::{Cut, ReadError};
use super::tail::{finish, put_hole};
use super::tally::Tally;
use super::{Header, facts};

/// What is missing of the node that is told one by one; a recording with more holes has them, the report counts them.
const MAX_GAPS: usize = 4096;

/// Takes what a pass finds.
pub(crate) struct Cutter<'o> {
    out: &'o mut dyn Write,
    /// The header that was written last.
    header: Option<Header>,
    builder: BlockBuilder,
    buffer: Vec<u8>,
    tally: Tally,
    frames: u64,
    gaps: Vec<Gap>,
    gaps_left_out: u64,
}

impl<'o> Cutter<'o> {
    pub(crate) fn new(window: Window, out: &'o mut dyn Write) -> Self {
        Self {
            out,
            header: None,
            builder: BlockBuilder::default(),
            buffer: Vec::new(),
            tally: Tally::new(window),
            frames: 0,
            gaps: Vec::new(),
            gaps_left_out: 0,
        }
    }

    pub(crate) fn take(&mut self, found: Found<'_>) -> Result<(), Stop> {
        match found {
            Found::Begins(header) => {
                self.close();
                self.builder.forget_series();
                self.tally.speak(&header.schema);
            }
            Found::Other(tick) => {
                self.builder.define(tick)?;
                self.tally.before(tick);
            }
            Found::Tick(header, tick) => {
                self.speak(header);
                if !self.builder.fits(tick) {
                    self.close();
                }
                self.tally.tick(tick);
                self.builder.push(tick)?;
                self.frames += 1;
            }
            Found::Hole(header, hole) => {
                if let Some(header) = header {
                    self.speak(header);
                    self.close();
                    put_hole(&hole, &mut self.buffer);
                }
                if self.gaps.len() < MAX_GAPS { self.gaps.push(hole.gap) } else { self.gaps_left_out += 1 }
            }
        }
        self.write().map_err(Stop::Failed)
    }

    pub(crate) fn finish(mut self) -> Result<Cut, ReadError> {
        self.close();
        self.write()?;
        if let (Some(last), more @ 1..) = (self.gaps.last_mut(), self.gaps_left_out) {
            last.detail.push_str(&format!("; and {more} more gaps after this one, which the recording has"));
        }
        Ok(Cut { frames: self.frames, sources: self.tally.rows(), gaps: self.gaps })
    }

    /// Writes the header when it is another.
    fn speak(&mut self, header: &Header) {
        if self.header.as_ref() == Some(header) {
            return;
        }
        self.close();
        // A header that was read is below the limit of a record.
        let _ = put_record(&mut self.buffer, RecordType::Header, |body| {
            facts::put_header(body, header);
            Some(())
        });
        self.tally.speak(&header.schema);
        self.header = Some(header.clone());
    }

    /// Ends the block that is open.
    fn close(&mut self) {
        if let Some(header) = &self.header {
            finish(&mut self.builder, header, &mut self.buffer);
        }
    }

    fn write(&mut self) -> Result<(), ReadError> {
        let written = if self.buffer.is_empty() { Ok(()) } else { self.out.write_all(&self.buffer) };
        self.buffer.clear();
        written.map_err(|source: io::Error| ReadError::Write { source })
    }
}
