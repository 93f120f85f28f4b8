//! A tick between bytes and [`Frame`](casefile_proto::sample::Frame): series as the dense numbers of their block,
//! definitions as the bytes in which they are written. Reads the bodies of Key and Delta records; the store checks
//! records with it, the reader names the series ([`super::names`]) on top of it.

use casefile_proto::event::Event;
use casefile_proto::sample::{MetricIndex, Outcome, Schema, SeriesDef};
use casefile_proto::time::{BootTime, Stamp, WallTime};

use super::bytes::{Cursor, put_len, put_text, put_u64};
use super::delta::DecodeError;
use super::facts::{self, MAX_TEXT};

/// Series of one source in one block.
pub(crate) const MAX_SERIES: usize = 200_000;
/// Series of all sources in one block.
pub(crate) const MAX_BLOCK_SERIES: usize = 400_000;
/// Bytes of all definitions in one block.
pub(crate) const MAX_BLOCK_NAMES: usize = 16 << 20;

/// How the set of series of a sample is written, in the two bits above the outcome's three.
pub(crate) const SET_NONE: u8 = 0;
pub(crate) const SET_SAME: u8 = 1;
pub(crate) const SET_RUNS: u8 = 2;
/// The bit that says that definitions follow.
pub(crate) const HAS_DEFINITIONS: u8 = 1 << 5;

/// One tick. Reused from tick to tick, so that its buffers are allocated once.
#[derive(Debug, Default)]
pub(crate) struct Tick {
    pub(crate) seq: u64,
    pub(crate) at: Option<Stamp>,
    pub(crate) samples: Vec<TickSample>,
    pub(crate) events: Vec<Event>,
}

impl Tick {
    /// When it was due. Every tick that was filled has it.
    pub(crate) fn stamp(&self) -> Stamp {
        self.at.unwrap_or(Stamp { wall: WallTime::from_nanos(0), boot: BootTime::from_nanos(0) })
    }
}

/// What one source said.
#[derive(Debug)]
pub(crate) struct TickSample {
    pub(crate) source: u16,
    pub(crate) outcome: Outcome,
    pub(crate) took_nanos: u64,
    /// Dense numbers that are new, each with the end of its definition in `names`.
    pub(crate) defined: Vec<(u32, u32)>,
    pub(crate) names: Vec<u8>,
    /// Dense number and value.
    pub(crate) readings: Vec<(u32, i64)>,
}

impl Default for TickSample {
    fn default() -> Self {
        Self {
            source: 0,
            outcome: Outcome::Complete,
            took_nanos: 0,
            defined: Vec::new(),
            names: Vec::new(),
            readings: Vec::new(),
        }
    }
}

impl TickSample {
    /// Empties it for the next tick.
    pub(crate) fn begin(&mut self, source: u16) {
        self.source = source;
        self.took_nanos = 0;
        self.defined.clear();
        self.names.clear();
        self.readings.clear();
    }

    /// Adds a definition; `name` comes behind what `names` has of it already.
    pub(crate) fn define(&mut self, series: u32, name: &[u8]) {
        self.names.extend_from_slice(name);
        // Never cut: all names of a block are below MAX_BLOCK_NAMES.
        self.defined.push((series, u32::try_from(self.names.len()).unwrap_or(u32::MAX)));
    }

    /// The new dense numbers, each with its definition.
    pub(crate) fn definitions(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let mut from = 0;
        self.defined.iter().map(move |&(series, end)| {
            let until = end as usize;
            let name = self.names.get(from..until).unwrap_or_default();
            from = until;
            (series, name)
        })
    }
}

/// Appends what a series is: its metric and its label values, as many as the metric has labels (missing ones empty).
/// `None`, and nothing appended, when the schema has no such metric.
pub(crate) fn put_name(out: &mut Vec<u8>, def: &SeriesDef, schema: &Schema, source: u16) -> Option<()> {
    let metric = schema.sources.get(usize::from(source))?.metrics.get(usize::from(def.metric.0))?;
    put_u64(out, u64::from(def.metric.0));
    for i in 0..metric.labels.len().min(facts::MAX_LABELS) {
        put_text(out, def.labels.get(i).map_or("", |l| l), MAX_TEXT);
    }
    Some(())
}

/// Reads what a series is.
pub(crate) fn name(at: &mut Cursor<'_>, schema: &Schema, source: u16) -> Result<SeriesDef, DecodeError> {
    let metrics = schema.sources.get(usize::from(source)).map_or(&[][..], |s| &s.metrics);
    let index = at.len(u16::MAX.into(), "a series of a metric that is none")?;
    let metric = metrics.get(index).ok_or(DecodeError::Malformed("a series of a metric that is none"))?;
    let labels = metric.labels.iter().map(|_| at.text(MAX_TEXT).map(Into::into)).collect::<Result<_, _>>()?;
    // len() bounded it by u16::MAX.
    Ok(SeriesDef { metric: MetricIndex(u16::try_from(index).unwrap_or(u16::MAX)), labels })
}

/// A definition as Key and Delta records have it: the metric, doubled, plus one when the label values are those of the
/// definition before (a process has a dozen series of the same labels), else followed by the label values. Appends the
/// whole name to `out`; `labels` are those of the definition before, if there is one in this block.
fn definition(
    at: &mut Cursor<'_>,
    schema: &Schema,
    source: u16,
    labels: &mut Option<Vec<u8>>,
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    let code = at.len(2 * usize::from(u16::MAX) + 1, "a series of a metric that is none")?;
    let metric = code >> 1;
    let metrics = schema.sources.get(usize::from(source)).map_or(&[][..], |s| &s.metrics);
    let def = metrics.get(metric).ok_or(DecodeError::Malformed("a series of a metric that is none"))?;
    put_len(out, metric);
    if code & 1 == 1 {
        let labels = labels.as_ref().ok_or(DecodeError::Malformed("labels of a definition that is none"))?;
        let mut check = Cursor::new(labels);
        def.labels.iter().try_for_each(|_| check.text(MAX_TEXT).map(drop))?;
        check.end()?;
        out.extend_from_slice(labels);
        return Ok(());
    }
    let whole = at.rest();
    def.labels.iter().try_for_each(|_| at.text(MAX_TEXT).map(drop))?;
    let text = &whole[..whole.len() - at.rest().len()];
    out.extend_from_slice(text);
    let labels = labels.get_or_insert_default();
    labels.clear();
    labels.extend_from_slice(text);
    Ok(())
}

/// What the format allows in one block, over all sources.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Room {
    series: usize,
    names: usize,
}

impl Room {
    /// Takes room for one more series.
    pub(crate) fn take(&mut self, name: &[u8]) -> Result<(), DecodeError> {
        self.series += 1;
        self.names += name.len();
        if self.series > MAX_BLOCK_SERIES || self.names > MAX_BLOCK_NAMES {
            return Err(DecodeError::Malformed("more series than a block may have"));
        }
        Ok(())
    }
}

/// The series of one source since the keyframe, by dense number.
#[derive(Debug, Default)]
struct SourceState {
    last: Vec<i64>,
    /// The tick of the last reading.
    mark: Vec<u32>,
    /// The set of the last sample that had readings, in its order.
    set: Vec<u32>,
    /// The label values of the last definition.
    labels: Option<Vec<u8>>,
}

/// Reads Key and Delta records of one schema.
#[derive(Debug, Default)]
pub(crate) struct TickDecoder {
    /// The frame before; `None`: a keyframe must come.
    before: Option<(u64, Stamp)>,
    sources: Vec<SourceState>,
    room: Room,
    /// Ticks since the keyframe.
    tick: u32,
}

impl TickDecoder {
    /// The next record must be a keyframe.
    pub(crate) fn restart(&mut self) {
        self.before = None;
    }

    /// Reads a keyframe.
    pub(crate) fn key(&mut self, schema: &Schema, body: &[u8], out: &mut Tick) -> Result<(), DecodeError> {
        self.sources.resize_with(schema.sources.len(), SourceState::default);
        for source in &mut self.sources {
            source.last.clear();
            source.mark.clear();
            source.set.clear();
            source.labels = None;
        }
        (self.room, self.tick) = (Room::default(), 0);
        let mut at = Cursor::new(body);
        let seq = at.u64()?;
        let stamp = Stamp { boot: BootTime::from_nanos(at.u64()?), wall: WallTime::from_nanos(at.i64()?) };
        self.rest(schema, at, seq, stamp, out)
    }

    /// Reads a delta.
    pub(crate) fn delta(&mut self, schema: &Schema, body: &[u8], out: &mut Tick) -> Result<(), DecodeError> {
        let Some((seq, before)) = self.before else {
            return Err(DecodeError::Malformed("a delta without its keyframe"));
        };
        let mut at = Cursor::new(body);
        let next = at.u64()?;
        if Some(next) != seq.checked_add(1) {
            self.before = None;
            return Err(DecodeError::Malformed("a delta that does not follow the frame before"));
        }
        let boot = before.boot.nanos().wrapping_add(at.i64()?.cast_unsigned());
        let wall = before.wall.nanos().wrapping_add(at.i64()?);
        let stamp = Stamp { boot: BootTime::from_nanos(boot), wall: WallTime::from_nanos(wall) };
        self.rest(schema, at, next, stamp, out)
    }

    fn rest(
        &mut self,
        schema: &Schema,
        mut at: Cursor<'_>,
        seq: u64,
        stamp: Stamp,
        out: &mut Tick,
    ) -> Result<(), DecodeError> {
        // Whatever fails below leaves half a state: only a keyframe may follow it.
        self.before = None;
        self.tick = self.tick.wrapping_add(1);
        (out.seq, out.at) = (seq, Some(stamp));
        let count = at.len(schema.sources.len(), "more samples than sources")?;
        out.samples.resize_with(count, TickSample::default);
        let mut least = 0;
        for sample in &mut out.samples {
            let index = at.len(schema.sources.len().saturating_sub(1), "a sample of a source that is none")?;
            if index < least {
                return Err(DecodeError::Malformed("samples out of order"));
            }
            least = index + 1;
            sample.begin(u16::try_from(index).unwrap_or(u16::MAX));
            let Some(state) = self.sources.get_mut(index) else {
                return Err(DecodeError::Malformed("a sample of a source that is none"));
            };
            state.sample(schema, &mut at, self.tick, &mut self.room, sample)?;
        }
        out.events = facts::events(&mut at, stamp)?;
        at.end()?;
        self.before = Some((seq, stamp));
        Ok(())
    }
}

impl SourceState {
    fn sample(
        &mut self,
        schema: &Schema,
        at: &mut Cursor<'_>,
        tick: u32,
        room: &mut Room,
        out: &mut TickSample,
    ) -> Result<(), DecodeError> {
        let how = at.byte()?;
        out.outcome = facts::outcome(how & 7, at)?;
        out.took_nanos = at.u64()?;
        if how & HAS_DEFINITIONS != 0 {
            for _ in 0..at.len(MAX_SERIES, "too many series")? {
                let series = self.last.len();
                if series >= MAX_SERIES {
                    return Err(DecodeError::Malformed("too many series"));
                }
                let from = out.names.len();
                definition(at, schema, out.source, &mut self.labels, &mut out.names)?;
                room.take(&out.names[from..])?;
                out.define(u32::try_from(series).unwrap_or(u32::MAX), &[]);
                self.last.push(0);
                self.mark.push(0);
            }
        }
        match how >> 3 {
            n if n & 3 == SET_NONE => return Ok(()),
            n if n & 3 == SET_SAME => {}
            n if n & 3 == SET_RUNS => self.runs(at)?,
            _ => return Err(DecodeError::Malformed("a set of no kind")),
        }
        out.readings.reserve(self.set.len());
        let mut zeros = 0u64;
        for &series in &self.set {
            let difference = if zeros > 0 {
                zeros -= 1;
                0
            } else {
                let difference = at.i64()?;
                if difference == 0 {
                    zeros = at.u64()?;
                }
                difference
            };
            let i = series as usize;
            let (Some(last), Some(mark)) = (self.last.get_mut(i), self.mark.get_mut(i)) else {
                return Err(DecodeError::Malformed("a reading of a series that is none"));
            };
            if std::mem::replace(mark, tick) == tick {
                return Err(DecodeError::Malformed("two readings of one series"));
            }
            *last = last.wrapping_add(difference);
            out.readings.push((series, *last));
        }
        if zeros > 0 {
            return Err(DecodeError::Malformed("more values than series"));
        }
        Ok(())
    }

    /// The set as runs of dense numbers.
    fn runs(&mut self, at: &mut Cursor<'_>) -> Result<(), DecodeError> {
        const NONE: DecodeError = DecodeError::Malformed("a reading of a series that is none");
        self.set.clear();
        let known = self.last.len();
        let mut next = 0i64;
        for _ in 0..at.len(known, "more runs than series")? {
            let start = usize::try_from(next.wrapping_add(at.i64()?)).map_err(|_| NONE)?;
            let length = at.len(known, "a run that is too long")?;
            let end = start.checked_add(length).filter(|end| *end <= known).ok_or(NONE)?;
            if self.set.len() + length > known {
                return Err(DecodeError::Malformed("two readings of one series"));
            }
            self.set.extend((start..end).map(|i| u32::try_from(i).unwrap_or(u32::MAX)));
            next = i64::try_from(end).map_err(|_| NONE)?;
        }
        Ok(())
    }
}
