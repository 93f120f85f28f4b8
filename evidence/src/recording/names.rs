//! Gives series ids that stay the same from block to block: a series is recognised by its definition.
//!
//! Bounded: a series that was in neither of the last two blocks of its source that had readings is forgotten; when it
//! comes back it gets a new id. Ids are never used twice.

use std::collections::HashMap;
use std::sync::Arc;

use casefile_proto::ids::{BootId, FrameSeq};
use casefile_proto::sample::{Frame, Reading, Sample, Schema, SeriesDef, SeriesId, SourceIndex};

use super::bytes::Cursor;
use super::delta::DecodeError;
use super::tick::{self, Tick, TickSample};

/// The names of all sources of one schema.
#[derive(Debug, Default)]
pub(crate) struct Names {
    schema: Arc<Schema>,
    sources: Vec<SourceNames>,
    next: u32,
}

#[derive(Debug, Default)]
struct SourceNames {
    by_name: HashMap<Box<[u8]>, u32>,
    by_id: HashMap<u32, Known>,
    /// Dense number in this block → id.
    dense: Vec<Option<u32>>,
    /// Ids that no frame has announced yet.
    fresh: Vec<u32>,
    /// The number of this block, of those in which this source defined something. The first is 1.
    block: u32,
}

#[derive(Debug)]
struct Known {
    def: SeriesDef,
    block: u32,
}

impl Names {
    /// Other sources from now on: all names are forgotten, ids go on.
    pub(crate) fn speak(&mut self, schema: Arc<Schema>) {
        self.sources = schema.sources.iter().map(|_| SourceNames { block: 1, ..SourceNames::default() }).collect();
        self.schema = schema;
    }

    /// Knows nothing any more; ids go on.
    pub(crate) fn forget(&mut self) {
        self.sources.clear();
    }

    /// Dense numbers mean something else from now on.
    pub(crate) fn begin_block(&mut self) {
        for source in self.sources.iter_mut().filter(|s| !s.dense.is_empty()) {
            source.dense.clear();
            source.block += 1;
            let block = source.block;
            source.by_id.retain(|_, known| known.block + 2 >= block);
            let by_id = &source.by_id;
            source.by_name.retain(|_, id| by_id.contains_key(id));
            source.fresh.retain(|id| by_id.contains_key(id));
        }
    }

    /// Notes what a tick defines. For a tick that is left out; [`Names::frame`] does it by itself.
    pub(crate) fn note(&mut self, tick: &Tick) -> Result<(), DecodeError> {
        for sample in &tick.samples {
            self.define(sample)?;
        }
        Ok(())
    }

    /// The tick as a frame.
    pub(crate) fn frame(&mut self, boot: BootId, tick: &mut Tick) -> Result<Frame, DecodeError> {
        let mut samples = Vec::with_capacity(tick.samples.len());
        for from in &mut tick.samples {
            let source = self.define(from)?;
            let by_id = &source.by_id;
            let announced = source.fresh.drain(..).filter_map(|id| Some((SeriesId(id), by_id.get(&id)?.def.clone())));
            let defined = announced.collect();
            let readings = from.readings.iter().map(|&(series, value)| {
                let id = source.dense.get(series as usize).copied().flatten();
                let id = id.ok_or(DecodeError::Malformed("a reading of a series that is none"))?;
                Ok(Reading { series: SeriesId(id), value })
            });
            samples.push(Sample {
                source: SourceIndex(from.source),
                outcome: std::mem::replace(&mut from.outcome, casefile_proto::sample::Outcome::Complete),
                took_nanos: from.took_nanos,
                readings: readings.collect::<Result<_, DecodeError>>()?,
                defined,
            });
        }
        Ok(Frame { boot, seq: FrameSeq(tick.seq), at: tick.stamp(), samples, events: std::mem::take(&mut tick.events) })
    }

    /// What a series is.
    pub(crate) fn series(&self, source: SourceIndex, id: SeriesId) -> Option<&SeriesDef> {
        self.sources.get(usize::from(source.0))?.by_id.get(&id.0).map(|known| &known.def)
    }

    /// Names what the sample defines.
    fn define(&mut self, sample: &TickSample) -> Result<&mut SourceNames, DecodeError> {
        let source = self.sources.get_mut(usize::from(sample.source));
        let source = source.ok_or(DecodeError::Malformed("a sample of a source that is none"))?;
        for (series, name) in sample.definitions() {
            let known = source.by_name.get(name).copied();
            // Two series of one name in one block: the recorder held them apart, and so do we.
            let known = known.filter(|id| source.by_id.get(id).is_some_and(|k| k.block < source.block));
            let id = match known {
                Some(id) => id,
                None => {
                    let def = tick::name(&mut Cursor::new(name), &self.schema, sample.source)?;
                    let id = self.next;
                    self.next = id.checked_add(1).ok_or(DecodeError::Malformed("more series than there are ids"))?;
                    source.fresh.push(id);
                    source.by_name.insert(name.into(), id);
                    source.by_id.insert(id, Known { def, block: source.block });
                    id
                }
            };
            if let Some(known) = source.by_id.get_mut(&id) {
                known.block = source.block;
            }
            let at = series as usize;
            if at >= source.dense.len() {
                source.dense.resize(at + 1, None);
            }
            source.dense[at] = Some(id);
        }
        Ok(source)
    }
}
