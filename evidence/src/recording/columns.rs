//! Writes a closed block as columns of differences, deflated: what a tick costs at rest.
//!
//! Ticks come in one by one and leave only what differs behind, so that closing a block takes little memory. The
//! reading half is [`super::block`].

use std::collections::HashMap;

use casefile_proto::event::Event;
use casefile_proto::sample::{Outcome, Schema};
use casefile_proto::time::Stamp;

use super::block::deflate;
use super::bytes::{Cursor, RecordType, put_i64, put_len, put_record, put_u64, varint_len, zigzag};
use super::delta::DecodeError;
use super::facts;
use super::tick::{Tick, TickSample};

/// Frames of one block: one bit each in a series' presence.
pub(crate) const MAX_BLOCK_FRAMES: usize = 64;
/// Readings of one block, over all its frames.
pub(crate) const MAX_BLOCK_READINGS: usize = 1 << 22;
/// Bytes of a block's columns before they are deflated.
pub(crate) const MAX_INFLATED: usize = 64 << 20;

/// Bytes before deflating at which a block ends early, so that it stays below the limit of a record whatever is in it.
const MAX_PLAIN: usize = 6 << 20;

/// How a series' values are written: first value and differences.
pub(crate) const MODE_FIRST: u8 = 0;
/// First value, then differences of differences.
pub(crate) const MODE_SECOND: u8 = 1;
/// One value, throughout.
pub(crate) const MODE_CONSTANT: u8 = 2;
/// Added when the presence is that of the series before with the same labels.
pub(crate) const SAME_PRESENCE: u8 = 4;

/// Collects ticks and writes them as Block records.
#[derive(Default)]
pub(crate) struct BlockBuilder {
    ticks: Vec<(u64, Stamp)>,
    readings: usize,
    /// About how much it will be before it is deflated.
    bytes: usize,
    sources: Vec<SourceColumns>,
    events: Vec<(usize, Vec<Event>)>,
}

#[derive(Default)]
struct SourceColumns {
    /// In which ticks there is a sample.
    present: u64,
    outcomes: Vec<(u64, Outcome)>,
    took: Vec<u64>,
    /// Distinct label values, as they are written.
    labels: Vec<Box<[u8]>>,
    label_index: HashMap<Box<[u8]>, u32>,
    series: Vec<Series>,
    /// Dense number of the source block → position in `series`.
    dense: Vec<u32>,
}

struct Series {
    metric: u16,
    labels: u32,
    present: u64,
    first: i64,
    last: i64,
    /// The last difference.
    slope: i64,
    /// Differences that are zero and not yet in `differences`.
    zeros: u32,
    /// What differences and differences of differences would take.
    cost: [u64; 2],
    differences: Vec<u8>,
}

impl BlockBuilder {
    /// Whether this tick can be added to the block that is open.
    pub(crate) fn fits(&self, tick: &Tick) -> bool {
        let readings: usize = tick.samples.iter().map(|s| s.readings.len()).sum();
        let follows = self.ticks.last().is_none_or(|(seq, _)| seq.checked_add(1) == Some(tick.seq));
        let small = self.bytes + 10 * readings <= MAX_PLAIN && self.readings + readings <= MAX_BLOCK_READINGS;
        follows && self.ticks.len() < MAX_BLOCK_FRAMES && (small || self.ticks.is_empty())
    }

    /// The numbers of the first and the last frame of the block that is open.
    pub(crate) fn seqs(&self) -> Option<(u64, u64)> {
        Some((self.ticks.first()?.0, self.ticks.last()?.0))
    }

    /// Dense numbers mean something else from now on. The block must have been finished.
    pub(crate) fn forget_series(&mut self) {
        self.sources.clear();
    }

    /// Notes the series of a tick that is not added itself.
    pub(crate) fn define(&mut self, tick: &Tick) -> Result<(), DecodeError> {
        tick.samples.iter().try_for_each(|sample| self.source(sample.source).define(sample))
    }

    fn source(&mut self, index: u16) -> &mut SourceColumns {
        let index = usize::from(index);
        if index >= self.sources.len() {
            self.sources.resize_with(index + 1, SourceColumns::default);
        }
        &mut self.sources[index]
    }

    /// Adds a tick that [`fits`](Self::fits).
    pub(crate) fn push(&mut self, tick: &mut Tick) -> Result<(), DecodeError> {
        let position = self.ticks.len();
        for sample in &mut tick.samples {
            let source = self.source(sample.source);
            source.define(sample)?;
            let bytes = source.push(sample, position)?;
            self.bytes += bytes + sample.names.len();
            self.readings += sample.readings.len();
        }
        if !tick.events.is_empty() {
            self.events.push((position, std::mem::take(&mut tick.events)));
        }
        self.ticks.push((tick.seq, tick.stamp()));
        Ok(())
    }

    /// Appends what was collected as one Block record, if there is anything, and begins the next one.
    pub(crate) fn finish(&mut self, schema: &Schema, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        if self.ticks.is_empty() {
            return Ok(());
        }
        let mut plain = Vec::new();
        self.put_times(&mut plain);
        let used = self.sources.iter().filter(|s| s.present != 0).count();
        put_len(&mut plain, used);
        for (index, source) in self.sources.iter_mut().enumerate().filter(|(_, s)| s.present != 0) {
            put_len(&mut plain, index);
            source.put(self.ticks.len(), schema.sources.get(index).map_or(0, |s| s.metrics.len()), &mut plain);
            source.next_block();
        }
        put_len(&mut plain, self.events.len());
        for (position, events) in self.events.drain(..) {
            put_len(&mut plain, position);
            facts::put_events(&mut plain, &events, self.ticks[position].1);
        }
        let summary = Summary::of(&self.ticks);
        self.ticks.clear();
        (self.readings, self.bytes) = (0, 0);
        if plain.len() > MAX_INFLATED {
            return Err(DecodeError::Malformed("a block above 64 MiB"));
        }
        put_record(out, RecordType::Block, |body| {
            summary.put(body);
            deflate(&plain, body)
        })
        .ok_or(DecodeError::Malformed("a block above 8 MiB"))
    }

    /// Boot clock as differences of differences, wall clock as what it moved against the boot clock.
    fn put_times(&self, plain: &mut Vec<u8>) {
        let mut slope = 0i64;
        for pair in self.ticks.windows(2) {
            let (a, b) = (pair[0].1, pair[1].1);
            let boot = b.boot.nanos().wrapping_sub(a.boot.nanos()).cast_signed();
            put_i64(plain, boot.wrapping_sub(slope));
            put_i64(plain, b.wall.nanos().wrapping_sub(a.wall.nanos()).wrapping_sub(boot));
            slope = boot;
        }
    }
}

impl SourceColumns {
    fn define(&mut self, sample: &TickSample) -> Result<(), DecodeError> {
        for (dense, name) in sample.definitions() {
            let mut at = Cursor::new(name);
            let metric = at.u64()?;
            let labels = match self.label_index.get(at.rest()) {
                Some(&known) => known,
                None => {
                    let number = u32::try_from(self.labels.len()).unwrap_or(u32::MAX);
                    self.labels.push(at.rest().into());
                    self.label_index.insert(at.rest().into(), number);
                    number
                }
            };
            let dense = dense as usize;
            if dense >= self.dense.len() {
                self.dense.resize(dense + 1, u32::MAX);
            }
            self.dense[dense] = u32::try_from(self.series.len()).unwrap_or(u32::MAX);
            self.series.push(Series::new(u16::try_from(metric).unwrap_or(u16::MAX), labels));
        }
        Ok(())
    }

    /// Adds a sample; returns about how many bytes that will be.
    fn push(&mut self, sample: &mut TickSample, position: usize) -> Result<usize, DecodeError> {
        self.present |= 1 << position;
        self.took.push(sample.took_nanos);
        let outcome = std::mem::replace(&mut sample.outcome, Outcome::Complete);
        match self.outcomes.last_mut() {
            Some((count, last)) if *last == outcome => *count += 1,
            _ => self.outcomes.push((1, outcome)),
        }
        let mut bytes = 0;
        for &(dense, value) in &sample.readings {
            let series = self.dense.get(dense as usize).and_then(|&i| self.series.get_mut(i as usize));
            bytes += series.ok_or(DecodeError::Malformed("a reading of a series that is none"))?.push(value, position);
        }
        Ok(bytes)
    }

    /// Keeps what the series are, and nothing of what they were.
    fn next_block(&mut self) {
        self.present = 0;
        self.outcomes.clear();
        self.took.clear();
        for series in &mut self.series {
            *series = Series::new(series.metric, series.labels);
        }
    }

    fn put(&self, ticks: usize, metrics: usize, plain: &mut Vec<u8>) {
        put_presence(plain, self.present, ticks);
        for (count, outcome) in &self.outcomes {
            put_u64(plain, *count);
            plain.push(facts::outcome_number(outcome));
            facts::put_outcome(plain, outcome);
        }
        self.took.iter().for_each(|took| put_u64(plain, *took));

        // Only what was read in this block, by metric and then in order of definition.
        let mut order: Vec<&Series> = self.series.iter().filter(|s| s.present != 0).collect();
        order.sort_by_key(|s| s.metric);
        let mut number = vec![u32::MAX; self.labels.len()];
        let mut used = Vec::new();
        for series in &order {
            let slot = &mut number[series.labels as usize];
            if *slot == u32::MAX {
                *slot = u32::try_from(used.len()).unwrap_or(u32::MAX);
                used.push(series.labels);
            }
        }
        put_len(plain, used.len());
        for labels in &used {
            let text = &self.labels[*labels as usize];
            put_len(plain, text.len());
            plain.extend_from_slice(text);
        }
        put_metrics(plain, &order, &number, metrics);

        let mut presence = vec![0u64; used.len()];
        for series in &order {
            let before = &mut presence[number[series.labels as usize] as usize];
            let same = *before == series.present;
            plain.push(series.mode() | if same { SAME_PRESENCE } else { 0 });
            if !same {
                put_presence(plain, series.present, ticks);
            }
            *before = series.present;
        }
        order.iter().for_each(|series| put_i64(plain, series.first));
        order.iter().for_each(|series| series.put_differences(plain));
    }
}

/// For each metric of the schema: its label values, as runs of their numbers.
fn put_metrics(plain: &mut Vec<u8>, order: &[&Series], number: &[u32], metrics: usize) {
    let label = |at: usize| i64::from(number[order[at].labels as usize]);
    let mut at = 0;
    for metric in 0..metrics {
        let (mut runs, mut count, mut next) = (Vec::new(), 0, 0);
        while at < order.len() && usize::from(order[at].metric) == metric {
            let from = at;
            at += 1;
            while at < order.len() && order[at].metric == order[from].metric && label(at) == label(at - 1) + 1 {
                at += 1;
            }
            put_i64(&mut runs, label(from) - next);
            put_len(&mut runs, at - from);
            next = label(at - 1) + 1;
            count += 1;
        }
        put_len(plain, count);
        plain.extend_from_slice(&runs);
    }
}

/// Which of the ticks: lengths of runs of present, absent, present … ticks, until all are told.
fn put_presence(plain: &mut Vec<u8>, present: u64, ticks: usize) {
    let (mut rest, mut left, mut want_present) = (present, u32::try_from(ticks).unwrap_or(64), true);
    while left > 0 {
        let run = if want_present { rest.trailing_ones() } else { rest.trailing_zeros() }.min(left);
        put_u64(plain, u64::from(run));
        rest = rest.checked_shr(run).unwrap_or(0);
        left -= run;
        want_present = !want_present;
    }
}

impl Series {
    fn new(metric: u16, labels: u32) -> Self {
        let (present, first, last, slope, zeros) = (0, 0, 0, 0, 0);
        Self { metric, labels, present, first, last, slope, zeros, cost: [0; 2], differences: Vec::new() }
    }

    /// Adds a value; returns about how many bytes that will be.
    fn push(&mut self, value: i64, position: usize) -> usize {
        let mut bytes = 12;
        if self.present == 0 {
            self.first = value;
        } else {
            let difference = value.wrapping_sub(self.last);
            let second = difference.wrapping_sub(self.slope);
            bytes = varint_len(zigzag(difference));
            self.cost[0] += bytes;
            self.cost[1] += varint_len(zigzag(second));
            self.slope = difference;
            if difference == 0 {
                self.zeros += 1;
            } else {
                self.differences.resize(self.differences.len() + std::mem::take(&mut self.zeros) as usize, 0);
                put_i64(&mut self.differences, difference);
            }
        }
        self.present |= 1 << position;
        self.last = value;
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    fn mode(&self) -> u8 {
        match (self.differences.is_empty(), self.cost[1] < self.cost[0]) {
            (true, _) => MODE_CONSTANT,
            (false, true) => MODE_SECOND,
            (false, false) => MODE_FIRST,
        }
    }

    fn put_differences(&self, plain: &mut Vec<u8>) {
        match self.mode() {
            MODE_CONSTANT => {}
            MODE_FIRST => {
                plain.extend_from_slice(&self.differences);
                plain.resize(plain.len() + self.zeros as usize, 0);
            }
            _ => {
                let (mut at, mut slope) = (Cursor::new(&self.differences), 0i64);
                while let Ok(difference) = at.i64() {
                    put_i64(plain, difference.wrapping_sub(slope));
                    slope = difference;
                }
                for _ in 0..self.zeros {
                    put_i64(plain, 0i64.wrapping_sub(slope));
                    slope = 0;
                }
            }
        }
    }
}

/// What a block says of itself before its columns: enough to skip it without inflating it. Has a checksum of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) frames: u64,
    pub(crate) first_seq: u64,
    pub(crate) first: Stamp,
    pub(crate) last: Stamp,
    /// The earliest and the latest wall time: not those of the first and the last frame when the clock was stepped.
    pub(crate) wall_min: i64,
    pub(crate) wall_max: i64,
}

impl Summary {
    /// Bytes that it takes at the begin of a Block's body.
    pub(crate) const LENGTH: usize = 8 * 8 + 4;

    fn of(ticks: &[(u64, Stamp)]) -> Self {
        // Only called for blocks with ticks.
        let at = |i: usize| ticks[i].1;
        let walls = || ticks.iter().map(|t| t.1.wall.nanos());
        Self {
            frames: ticks.len() as u64,
            first_seq: ticks[0].0,
            first: at(0),
            last: at(ticks.len() - 1),
            wall_min: walls().min().unwrap_or(0),
            wall_max: walls().max().unwrap_or(0),
        }
    }

    pub(crate) fn last_seq(&self) -> u64 {
        self.first_seq.saturating_add(self.frames.saturating_sub(1))
    }

    fn put(&self, body: &mut Vec<u8>) {
        let start = body.len();
        let numbers = [self.frames, self.first_seq, self.first.boot.nanos(), self.last.boot.nanos()];
        numbers.iter().for_each(|n| body.extend_from_slice(&n.to_le_bytes()));
        let walls = [self.first.wall.nanos(), self.last.wall.nanos(), self.wall_min, self.wall_max];
        walls.iter().for_each(|n| body.extend_from_slice(&n.to_le_bytes()));
        let crc = crc32fast::hash(&body[start..]);
        body.extend_from_slice(&crc.to_le_bytes());
    }

    /// From the first [`Summary::LENGTH`] bytes of a body.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, DecodeError> {
        use casefile_proto::time::{BootTime, WallTime};
        let bytes = Cursor::new(body).take(Self::LENGTH)?;
        let mut at = Cursor::new(bytes);
        let (frames, first_seq) = (at.u64_le()?, at.u64_le()?);
        let (first_boot, last_boot) = (BootTime::from_nanos(at.u64_le()?), BootTime::from_nanos(at.u64_le()?));
        let (first_wall, last_wall) = (WallTime::from_nanos(at.i64_le()?), WallTime::from_nanos(at.i64_le()?));
        let (wall_min, wall_max) = (at.i64_le()?, at.i64_le()?);
        if at.u32_le()? != crc32fast::hash(&bytes[..Self::LENGTH - 4]) {
            return Err(DecodeError::Checksum);
        }
        if frames == 0 || frames > MAX_BLOCK_FRAMES as u64 || first_seq.checked_add(frames - 1).is_none() {
            return Err(DecodeError::Malformed("a block of no or too many frames"));
        }
        let stamp = |wall, boot| Stamp { wall, boot };
        let (first, last) = (stamp(first_wall, first_boot), stamp(last_wall, last_boot));
        Ok(Self { frames, first_seq, first, last, wall_min, wall_max })
    }
}
