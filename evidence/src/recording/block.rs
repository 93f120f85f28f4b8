//! Reads a Block record back, tick by tick: what [`super::columns`] wrote. Trusts nothing of it; memory is bounded by
//! the inflated size, which is capped.

use std::io::{Read, Write};

use casefile_proto::event::Event;
use casefile_proto::sample::{Outcome, Schema};
use casefile_proto::time::{BootTime, Stamp, WallTime};
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

use super::bytes::{Cursor, put_len, put_u64};
use super::columns::{
    MAX_BLOCK_READINGS, MAX_INFLATED, MODE_CONSTANT, MODE_FIRST, MODE_SECOND, SAME_PRESENCE, Summary,
};
use super::delta::DecodeError;
use super::facts::{self, MAX_LABELS, MAX_TEXT};
use super::tick::{MAX_BLOCK_SERIES, MAX_SERIES, Room, Tick, TickSample};

/// Above 6 deflate takes twice the time for a part in a hundred.
const LEVEL: u32 = 6;

/// A block that gives out its ticks, oldest first.
#[derive(Debug)]
pub(crate) struct Block {
    plain: Vec<u8>,
    summary: Summary,
    next: usize,
    times: Vec<Stamp>,
    sources: Vec<Source>,
    /// By position, oldest first; those that were given out are taken.
    events: Vec<(usize, Vec<Event>)>,
}

#[derive(Debug)]
struct Source {
    index: u16,
    present: u64,
    outcomes: std::vec::IntoIter<(u64, Outcome)>,
    outcome: (u64, Outcome),
    took: std::vec::IntoIter<u64>,
    /// Where the label values of each number are in `plain`, without their length.
    labels: Vec<(u32, u32)>,
    series: Vec<Column>,
}

#[derive(Debug)]
struct Column {
    metric: u16,
    mode: u8,
    defined: bool,
    labels: u32,
    present: u64,
    value: i64,
    slope: i64,
    /// Where its next difference is in `plain`.
    at: u32,
}

fn malformed<T>(why: &'static str) -> Result<T, DecodeError> {
    Err(DecodeError::Malformed(why))
}

/// Positions in `plain` fit: it is below [`MAX_INFLATED`].
fn position(plain: &[u8], at: &Cursor<'_>) -> u32 {
    u32::try_from(plain.len() - at.rest().len()).unwrap_or(u32::MAX)
}

impl Block {
    /// Inflates a block and finds its columns.
    pub(crate) fn open(schema: &Schema, body: &[u8]) -> Result<Self, DecodeError> {
        let summary = Summary::parse(body)?;
        let plain = inflate(&body[Summary::LENGTH..])?;
        let mut at = Cursor::new(&plain);
        let times = times(&summary, &mut at)?;
        let mut room = (MAX_BLOCK_READINGS, Room::default());
        let mut sources: Vec<Source> = Vec::new();
        for _ in 0..at.len(schema.sources.len(), "more samples than sources")? {
            let source = Source::open(schema, &plain, &mut at, times.len(), &mut room)?;
            if sources.last().is_some_and(|before| before.index >= source.index) {
                return malformed("samples out of order");
            }
            sources.push(source);
        }
        let mut events: Vec<(usize, Vec<Event>)> = Vec::new();
        for _ in 0..at.len(times.len(), "events of more frames than there are")? {
            let frame = at.len(times.len() - 1, "events of a frame that is none")?;
            if events.last().is_some_and(|before| before.0 >= frame) {
                return malformed("events out of order");
            }
            events.push((frame, facts::events(&mut at, times[frame])?));
        }
        at.end()?;
        Ok(Self { summary, next: 0, times, sources, events, plain })
    }

    /// How many ticks there are in all.
    pub(crate) fn len(&self) -> usize {
        self.times.len()
    }

    /// The next tick; false: there is none.
    pub(crate) fn next(&mut self, out: &mut Tick) -> Result<bool, DecodeError> {
        let position = self.next;
        let Some(&stamp) = self.times.get(position) else { return Ok(false) };
        self.next += 1;
        out.seq = self.summary.first_seq + position as u64;
        out.at = Some(stamp);
        let here = |s: &&mut Source| s.present >> position & 1 == 1;
        out.samples.resize_with(self.sources.iter_mut().filter(here).count(), TickSample::default);
        for (source, sample) in self.sources.iter_mut().filter(here).zip(&mut out.samples) {
            source.next(&self.plain, position, sample)?;
        }
        let events = self.events.iter_mut().find(|(frame, _)| *frame == position);
        out.events = events.map(|(_, events)| std::mem::take(events)).unwrap_or_default();
        Ok(true)
    }
}

/// Appends the columns, deflated, with their length in front.
pub(crate) fn deflate(plain: &[u8], out: &mut Vec<u8>) -> Option<()> {
    put_len(out, plain.len());
    let mut deflate = DeflateEncoder::new(out, Compression::new(LEVEL));
    deflate.write_all(plain).ok()?;
    deflate.finish().ok().map(|_| ())
}

fn inflate(deflated: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut at = Cursor::new(deflated);
    let length = at.len(MAX_INFLATED, "a block above 64 MiB")?;
    let mut plain = Vec::new();
    // One byte more than there should be shows that there is more.
    let read = DeflateDecoder::new(at.rest()).take(length as u64 + 1).read_to_end(&mut plain);
    if read.is_err() || plain.len() != length {
        return malformed("columns that do not inflate");
    }
    Ok(plain)
}

fn times(summary: &Summary, at: &mut Cursor<'_>) -> Result<Vec<Stamp>, DecodeError> {
    let mut stamp = summary.first;
    let mut slope = 0i64;
    let mut times = vec![stamp];
    for _ in 1..summary.frames {
        slope = slope.wrapping_add(at.i64()?);
        stamp.boot = BootTime::from_nanos(stamp.boot.nanos().wrapping_add(slope.cast_unsigned()));
        stamp.wall = WallTime::from_nanos(stamp.wall.nanos().wrapping_add(slope).wrapping_add(at.i64()?));
        times.push(stamp);
    }
    let walls = || times.iter().map(|t| t.wall.nanos());
    let bounds = (walls().min().unwrap_or(0), walls().max().unwrap_or(0));
    if stamp != summary.last || bounds != (summary.wall_min, summary.wall_max) {
        return malformed("a summary that is not that of the block");
    }
    Ok(times)
}

/// The ticks that are present, from runs of present, absent, present … ticks.
fn presence(at: &mut Cursor<'_>, ticks: usize) -> Result<u64, DecodeError> {
    let (mut present, mut told, mut is_present) = (0u64, 0, true);
    while told < ticks {
        let run = at.len(ticks - told, "a presence of more frames than there are")?;
        if run == 0 && told > 0 {
            return malformed("an empty run of frames");
        }
        if is_present && run > 0 {
            present |= (u64::MAX >> (64 - run)) << told;
        }
        told += run;
        is_present = !is_present;
    }
    Ok(present)
}

impl Source {
    fn open(
        schema: &Schema,
        plain: &[u8],
        at: &mut Cursor<'_>,
        ticks: usize,
        room: &mut (usize, Room),
    ) -> Result<Self, DecodeError> {
        let index = at.len(schema.sources.len().saturating_sub(1), "a sample of a source that is none")?;
        let present = presence(at, ticks)?;
        let samples = present.count_ones() as usize;
        let (mut outcomes, mut told) = (Vec::new(), 0);
        while told < samples {
            let run = at.len(samples - told, "more outcomes than samples")?;
            if run == 0 {
                return malformed("an empty run of outcomes");
            }
            let number = at.byte()?;
            outcomes.push((run as u64, facts::outcome(number, at)?));
            told += run;
        }
        let took = (0..samples).map(|_| at.u64()).collect::<Result<Vec<_>, _>>()?;
        let metrics = schema.sources.get(index).map_or(&[][..], |s| &s.metrics);
        let labels = label_table(plain, at)?;
        let mut series = Vec::new();
        for (metric, def) in metrics.iter().enumerate() {
            metric_columns(at, u16::try_from(metric).unwrap_or(u16::MAX), labels.len(), &mut series)?;
            for column in series.iter().rev().take_while(|c: &&Column| usize::from(c.metric) == metric) {
                let (from, until) = labels[column.labels as usize];
                let name = &plain[from as usize..until as usize];
                check_labels(name, def.labels.len())?;
                room.1.take(name)?;
            }
        }
        modes(at, present, ticks, labels.len(), &mut series)?;
        for column in &mut series {
            column.value = at.i64()?;
            let readings = column.present.count_ones() as usize;
            room.0 =
                room.0.checked_sub(readings).ok_or(DecodeError::Malformed("more readings than a block may have"))?;
        }
        for column in series.iter_mut().filter(|c| c.mode != MODE_CONSTANT) {
            column.at = position(plain, at);
            for _ in 1..column.present.count_ones() {
                at.u64()?;
            }
        }
        Ok(Self {
            index: u16::try_from(index).unwrap_or(u16::MAX),
            present,
            outcomes: outcomes.into_iter(),
            outcome: (0, Outcome::Complete),
            took: took.into_iter(),
            labels,
            series,
        })
    }

    fn next(&mut self, plain: &[u8], position: usize, out: &mut TickSample) -> Result<(), DecodeError> {
        out.begin(self.index);
        if self.outcome.0 == 0 {
            self.outcome = self.outcomes.next().ok_or(DecodeError::Malformed("fewer outcomes than samples"))?;
        }
        self.outcome.0 -= 1;
        out.outcome.clone_from(&self.outcome.1);
        out.took_nanos = self.took.next().unwrap_or(0);
        let mut name = Vec::new();
        for (number, column) in (0u32..).zip(&mut self.series) {
            if column.present >> position & 1 == 0 {
                continue;
            }
            if column.defined {
                column.step(plain)?;
            } else {
                column.defined = true;
                let (from, until) = self.labels[column.labels as usize];
                name.clear();
                put_u64(&mut name, u64::from(column.metric));
                name.extend_from_slice(&plain[from as usize..until as usize]);
                out.define(number, &name);
            }
            out.readings.push((number, column.value));
        }
        Ok(())
    }
}

impl Column {
    /// Moves to its next value.
    fn step(&mut self, plain: &[u8]) -> Result<(), DecodeError> {
        if self.mode == MODE_CONSTANT {
            return Ok(());
        }
        let mut at = Cursor::new(&plain[self.at as usize..]);
        let difference = at.i64()?;
        self.at = position(plain, &at);
        self.slope = if self.mode == MODE_SECOND { self.slope.wrapping_add(difference) } else { difference };
        self.value = self.value.wrapping_add(self.slope);
        Ok(())
    }
}

fn label_table(plain: &[u8], at: &mut Cursor<'_>) -> Result<Vec<(u32, u32)>, DecodeError> {
    let count = at.len(MAX_SERIES, "too many series")?;
    let mut table = Vec::new();
    for _ in 0..count {
        let length = at.len(MAX_LABELS * (MAX_TEXT + 2), "labels that are too long")?;
        let from = position(plain, at);
        at.take(length)?;
        table.push((from, position(plain, at)));
    }
    Ok(table)
}

fn check_labels(text: &[u8], count: usize) -> Result<(), DecodeError> {
    let mut at = Cursor::new(text);
    for _ in 0..count {
        at.text(MAX_TEXT)?;
    }
    at.end()
}

/// The series of one metric: runs of label numbers.
fn metric_columns(
    at: &mut Cursor<'_>,
    metric: u16,
    labels: usize,
    series: &mut Vec<Column>,
) -> Result<(), DecodeError> {
    const NONE: DecodeError = DecodeError::Malformed("a series of labels that are none");
    let mut next = 0i64;
    for _ in 0..at.len(labels, "more runs than labels")? {
        let start = usize::try_from(next.wrapping_add(at.i64()?)).map_err(|_| NONE)?;
        let length = at.len(labels, "a run that is too long")?;
        let end = start.checked_add(length).filter(|end| *end <= labels).ok_or(NONE)?;
        if length == 0 {
            return malformed("an empty run of series");
        }
        if series.len() + length > MAX_SERIES.min(MAX_BLOCK_SERIES) {
            return malformed("too many series");
        }
        series.extend((start..end).map(|labels| Column {
            metric,
            mode: MODE_CONSTANT,
            defined: false,
            labels: u32::try_from(labels).unwrap_or(u32::MAX),
            present: 0,
            value: 0,
            slope: 0,
            at: 0,
        }));
        next = i64::try_from(end).map_err(|_| NONE)?;
    }
    Ok(())
}

/// How each series is written, and in which ticks it was read.
fn modes(
    at: &mut Cursor<'_>,
    sampled: u64,
    ticks: usize,
    labels: usize,
    series: &mut [Column],
) -> Result<(), DecodeError> {
    let mut before = vec![0u64; labels];
    for column in series {
        let code = at.byte()?;
        column.mode = code & !SAME_PRESENCE;
        if !matches!(column.mode, MODE_FIRST | MODE_SECOND | MODE_CONSTANT) {
            return malformed("values of no kind");
        }
        let before = &mut before[column.labels as usize];
        column.present = if code & SAME_PRESENCE == 0 { presence(at, ticks)? } else { *before };
        if column.present == 0 || column.present & !sampled != 0 {
            return malformed("readings where there is no sample");
        }
        *before = column.present;
    }
    Ok(())
}
