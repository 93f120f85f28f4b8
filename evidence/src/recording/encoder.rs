//! Frames to records: keyframes and sparse deltas.
//!
//! An encoder keeps of every series what it must write again in a keyframe, as the bytes that it will write. Nothing
//! here fails: a frame that the format cannot hold becomes a hole that says so.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::sample::{Frame, Outcome, Sample, Schema, SeriesDef, SeriesId};
use casefile_proto::time::{Stamp, Window};

use super::bytes::{Cursor, RecordType, put_i64, put_len, put_record, put_u64};
use super::facts;
use super::tick::{self, Room};
use super::{BLOCK_TICKS, Header, Hole, tick_of};

/// A series that was not read in this many measurements of its source is forgotten. The agent forgets it after 120 to
/// 180 and gives it a new id when it comes back, so nothing is forgotten here that could still be read.
const FORGET_AFTER: u32 = 4 * BLOCK_TICKS as u32;

/// No dense number in this block.
const NONE: u32 = u32::MAX;

/// Turns frames of one run into records. One encoder feeds one stream: the ring has its own, each session its own.
pub struct Encoder {
    header: Header,
    header_record: Vec<u8>,
    sources: Vec<SourceEncoder>,
    /// The frame before; `None`: the next one is a keyframe.
    before: Option<(u64, Stamp)>,
    /// Frames since the keyframe, itself included.
    in_block: usize,
    /// Frames so far.
    tick: u32,
    /// Keyframes also come where the number of the frame and this are together a multiple of a block.
    phase: Option<u64>,
    room: Room,
    scratch: Scratch,
}

#[derive(Default)]
struct Scratch {
    /// Slot and value of every reading of a sample.
    readings: Vec<(u32, i64)>,
    /// Slots that are new in the block.
    fresh: Vec<u32>,
    runs: Vec<u8>,
}

/// A frame breaks a limit of the format.
struct TooMuch;

impl Encoder {
    /// For the frames of one schema.
    pub fn new(header: Header) -> Self {
        let mut header_record = Vec::new();
        // A header above 8 MiB would need 256 sources with 1,024 metrics each: an agent has some hundred metrics.
        let _ = put_record(&mut header_record, RecordType::Header, |body| {
            facts::put_header(body, &header);
            Some(())
        });
        Self {
            sources: header.schema.sources.iter().map(|_| SourceEncoder::default()).collect(),
            header_record,
            header,
            before: None,
            in_block: 0,
            tick: 0,
            phase: None,
            room: Room::default(),
            scratch: Scratch::default(),
        }
    }

    /// Has this node's keyframes come at a place of their own within a block: whoever keeps the streams of thousands of nodes
    /// that began together closes their blocks one after the other, and not all of them in the same second.
    #[must_use]
    pub fn spread(mut self) -> Self {
        self.phase = Some(u64::from(crc32fast::hash(self.header.node.as_str().as_bytes())));
        self
    }

    /// The header record: first in every stream, segment and tail.
    pub fn header(&self) -> Vec<u8> {
        self.header_record.clone()
    }

    /// Appends the record of one frame to `out`: a keyframe at first, every [`BLOCK_TICKS`] frames and where a number
    /// is left out, else a delta. A frame that breaks a limit of the format becomes a hole.
    pub fn frame(&mut self, frame: &Frame, out: &mut Vec<u8>) {
        for sample in &frame.samples {
            if let Some(source) = self.sources.get_mut(usize::from(sample.source.0)) {
                source.learn(sample, &self.header.schema);
            }
        }
        let follows = self.before.is_some_and(|(seq, _)| seq.checked_add(1) == Some(frame.seq.0));
        let is_due = self.phase.is_some_and(|phase| (frame.seq.0.wrapping_add(phase)) % BLOCK_TICKS as u64 == 0);
        if follows && !is_due && self.in_block < BLOCK_TICKS && self.write(frame, RecordType::Delta, out).is_ok() {
            return;
        }
        if self.write(frame, RecordType::Key, out).is_err() {
            let tick = i64::try_from(tick_of(&self.header.schema).as_nanos()).unwrap_or(i64::MAX);
            let mut gap = Gap::new(GapReason::Budget, "a frame above the limits of the recording format").counting(1);
            gap.interval = Window::new(frame.at.wall, frame.at.wall.offset(tick)).ok();
            self.hole(&Hole { boot: self.header.boot, seqs: Some((frame.seq, frame.seq)), gap }, out);
        }
    }

    /// Appends the record of a described hole; the next frame is a keyframe.
    pub fn hole(&mut self, hole: &Hole, out: &mut Vec<u8>) {
        // A hole has at most 1 KiB of text: always below the limit.
        let _ = put_record(out, RecordType::Hole, |body| {
            facts::put_hole(body, hole);
            Some(())
        });
        self.restart();
    }

    /// The next frame will be a keyframe. To be called when a record that was encoded did not reach its stream.
    pub fn restart(&mut self) {
        self.before = None;
    }

    fn write(&mut self, frame: &Frame, kind: RecordType, out: &mut Vec<u8>) -> Result<(), TooMuch> {
        let before = self.before.take();
        self.tick = self.tick.wrapping_add(1);
        if kind == RecordType::Key {
            (self.room, self.in_block) = (Room::default(), 0);
            self.sources.iter_mut().for_each(SourceEncoder::begin_block);
        }
        let written = put_record(out, kind, |body| {
            put_u64(body, frame.seq.0);
            let (boot, wall) = (frame.at.boot.nanos(), frame.at.wall.nanos());
            match before.filter(|_| kind == RecordType::Delta) {
                None => {
                    put_u64(body, boot);
                    put_i64(body, wall);
                }
                Some((_, at)) => {
                    put_i64(body, boot.wrapping_sub(at.boot.nanos()).cast_signed());
                    put_i64(body, wall.wrapping_sub(at.wall.nanos()));
                }
            }
            self.samples(&frame.samples, body).ok()?;
            facts::put_events(body, &frame.events, frame.at);
            Some(())
        });
        written.ok_or(TooMuch)?;
        self.before = Some((frame.seq.0, frame.at));
        self.in_block += 1;
        Ok(())
    }

    fn samples(&mut self, samples: &[Sample], body: &mut Vec<u8>) -> Result<(), TooMuch> {
        let mut least = 0;
        for sample in samples {
            if sample.source.0 < least || usize::from(sample.source.0) >= self.sources.len() {
                return Err(TooMuch);
            }
            least = sample.source.0 + 1;
        }
        put_len(body, samples.len());
        for sample in samples {
            put_u64(body, u64::from(sample.source.0));
            let source = &mut self.sources[usize::from(sample.source.0)];
            source.put(sample, self.tick, &mut self.room, &mut self.scratch, body)?;
        }
        Ok(())
    }
}

/// The series of one source.
#[derive(Default)]
struct SourceEncoder {
    slots: Vec<Slot>,
    by_id: HashMap<u32, u32, BuildHasherDefault<Spread>>,
    /// What the series are, as it is written.
    names: Vec<u8>,
    /// The slots of the last sample that had readings, in its order.
    set: Vec<u32>,
    /// Where the label values of the last definition in this block are in `names`, and how many bytes.
    labels: Option<(usize, usize)>,
    /// Series defined in this block.
    dense: u32,
    /// Measurements so far.
    measured: u32,
}

struct Slot {
    id: u32,
    dense: u32,
    name: u32,
    name_len: u32,
    /// The measurement that read it last.
    read: u32,
    /// The frame that read it last.
    tick: u32,
    last: i64,
}

/// Ids are small numbers in a row: one multiplication spreads them.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |h, &b| h.rotate_left(8) ^ u64::from(b));
    }
    fn write_u32(&mut self, id: u32) {
        self.0 = u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl SourceEncoder {
    /// Takes in what a sample defines.
    fn learn(&mut self, sample: &Sample, schema: &Schema) {
        for (id, def) in &sample.defined {
            self.define(*id, def, schema, sample.source.0);
        }
        if !matches!(sample.outcome, Outcome::Skipped { .. }) {
            self.measured = self.measured.wrapping_add(1);
        }
    }

    fn define(&mut self, id: SeriesId, def: &SeriesDef, schema: &Schema, source: u16) {
        let name = self.names.len();
        if tick::put_name(&mut self.names, def, schema, source).is_none() {
            return;
        }
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let slot = Slot {
            id: id.0,
            dense: NONE,
            name: number(name),
            name_len: number(self.names.len() - name),
            read: self.measured,
            tick: 0,
            last: 0,
        };
        match self.by_id.get(&id.0).and_then(|&i| self.slots.get_mut(i as usize)) {
            Some(known) => *known = slot,
            None => {
                self.by_id.insert(id.0, number(self.slots.len()));
                self.slots.push(slot);
            }
        }
    }

    fn begin_block(&mut self) {
        let measured = self.measured;
        let old = |slot: &Slot| measured.wrapping_sub(slot.read) > FORGET_AFTER;
        // Moving everything for a few series is not worth it.
        if self.slots.iter().filter(|s| old(s)).count() * 8 > self.slots.len() {
            self.slots.retain(|s| !old(s));
            let mut names = Vec::new();
            for slot in &mut self.slots {
                let from = slot.name as usize;
                slot.name = u32::try_from(names.len()).unwrap_or(u32::MAX);
                names.extend_from_slice(&self.names[from..from + slot.name_len as usize]);
            }
            self.names = names;
            self.slots.shrink_to_fit();
            self.by_id.clear();
            self.by_id.extend((0u32..).zip(&self.slots).map(|(i, slot)| (slot.id, i)));
            self.by_id.shrink_to_fit();
        }
        for slot in &mut self.slots {
            (slot.dense, slot.last) = (NONE, 0);
        }
        self.dense = 0;
        self.labels = None;
        self.set.clear();
    }

    /// The slot of a series. Sources read the same series in the same order, or at least neighbours after another.
    fn find(&self, id: u32, position: usize, before: u32) -> Option<u32> {
        let is = |i: &u32| self.slots.get(*i as usize).is_some_and(|slot| slot.id == id);
        if let Some(i) = self.set.get(position).copied().filter(&is) {
            return Some(i);
        }
        let next = before.wrapping_add(1);
        if is(&next) { Some(next) } else { self.by_id.get(&id).copied() }
    }

    fn put(
        &mut self,
        sample: &Sample,
        tick: u32,
        room: &mut Room,
        scratch: &mut Scratch,
        body: &mut Vec<u8>,
    ) -> Result<(), TooMuch> {
        let Scratch { readings, fresh, runs } = scratch;
        readings.clear();
        fresh.clear();
        runs.clear();
        let (mut undefined, mut twice, mut slot) = (0u64, 0u64, NONE);
        let mut same = sample.readings.len() == self.set.len();
        for (position, reading) in sample.readings.iter().enumerate() {
            let Some(found) = self.find(reading.series.0, position, slot) else {
                undefined += 1;
                continue;
            };
            slot = found;
            same = same && self.set[position] == found;
            let entry = &mut self.slots[found as usize];
            if entry.tick == tick {
                twice += 1;
                continue;
            }
            (entry.tick, entry.read) = (tick, self.measured);
            if entry.dense == NONE {
                entry.dense = self.dense;
                self.dense += 1;
                fresh.push(found);
            }
            readings.push((found, reading.value));
        }
        if self.dense as usize > tick::MAX_SERIES {
            return Err(TooMuch);
        }
        let outcome = left_out(&sample.outcome, undefined, twice);
        let outcome = outcome.as_ref().unwrap_or(&sample.outcome);
        same = same && undefined + twice == 0;
        let set = match (readings.is_empty(), same) {
            (true, _) => tick::SET_NONE,
            (false, true) => tick::SET_SAME,
            (false, false) => tick::SET_RUNS,
        };
        let definitions = if fresh.is_empty() { 0 } else { tick::HAS_DEFINITIONS };
        body.push(facts::outcome_number(outcome) | set << 3 | definitions);
        facts::put_outcome(body, outcome);
        put_u64(body, sample.took_nanos);
        if !fresh.is_empty() {
            put_len(body, fresh.len());
            for &i in fresh.iter() {
                let slot = &self.slots[i as usize];
                let name = &self.names[slot.name as usize..][..slot.name_len as usize];
                room.take(name).map_err(|_| TooMuch)?;
                let mut at = Cursor::new(name);
                let metric = at.u64().map_err(|_| TooMuch)?;
                let length = at.rest().len();
                let labels = (slot.name as usize + name.len() - length, length);
                let same = self.labels.is_some_and(|(from, n)| self.names[from..from + n] == *at.rest());
                put_u64(body, metric << 1 | u64::from(same));
                if !same {
                    body.extend_from_slice(at.rest());
                }
                self.labels = Some(labels);
            }
        }
        if set == tick::SET_RUNS {
            self.put_runs(readings, runs, body);
            self.set.clear();
            self.set.extend(readings.iter().map(|r| r.0));
        }
        self.put_values(readings, body);
        Ok(())
    }

    fn put_runs(&self, readings: &[(u32, i64)], runs: &mut Vec<u8>, body: &mut Vec<u8>) {
        let dense = |at: usize| i64::from(self.slots[readings[at].0 as usize].dense);
        let (mut count, mut next, mut at) = (0, 0, 0);
        while at < readings.len() {
            let start = dense(at);
            let from = at;
            at += 1;
            while at < readings.len() && dense(at) == dense(at - 1) + 1 {
                at += 1;
            }
            put_i64(runs, start - next);
            put_len(runs, at - from);
            next = dense(at - 1) + 1;
            count += 1;
        }
        put_len(body, count);
        body.extend_from_slice(runs);
    }

    fn put_values(&mut self, readings: &[(u32, i64)], body: &mut Vec<u8>) {
        let mut zeros = 0u64;
        for &(i, value) in readings {
            let last = &mut self.slots[i as usize].last;
            let difference = value.wrapping_sub(std::mem::replace(last, value));
            if difference == 0 {
                zeros += 1;
                continue;
            }
            put_zeros(body, &mut zeros);
            put_i64(body, difference);
        }
        put_zeros(body, &mut zeros);
    }
}

/// A run of zero differences: a zero, and how many more follow it.
fn put_zeros(body: &mut Vec<u8>, zeros: &mut u64) {
    if let Some(more) = std::mem::take(zeros).checked_sub(1) {
        body.push(0);
        put_u64(body, more);
    }
}

/// The outcome of a sample some of whose readings cannot be written: an agent that keeps the rules has none of these,
/// but nothing is left out in silence.
fn left_out(outcome: &Outcome, undefined: u64, twice: u64) -> Option<Outcome> {
    let reasons = [
        (undefined, "readings of series that were never defined were left out of the recording"),
        (twice, "readings of series that were read twice in one sample were left out of the recording"),
    ];
    let more = reasons.into_iter().filter(|(n, _)| *n > 0);
    let more: Vec<_> = more.map(|(n, why)| Gap::new(GapReason::ParseFailed, why).counting(n)).collect();
    if more.is_empty() {
        return None;
    }
    let mut gaps = match outcome {
        Outcome::Complete => Vec::new(),
        Outcome::Partial { gaps } => gaps.clone(),
        // It says already that readings are missing.
        Outcome::Absent { .. } | Outcome::Failed { .. } | Outcome::TimedOut { .. } | Outcome::Skipped { .. } => {
            return None;
        }
    };
    gaps.truncate(facts::MAX_GAPS - more.len());
    gaps.extend(more);
    Some(Outcome::Partial { gaps })
}
