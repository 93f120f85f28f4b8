//! The tail: the records of the block that is still open. Replayed when a directory is opened, read, or when the block
//! closes; what is torn at its end is not there.

use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::ids::{BootId, FrameSeq};
use casefile_proto::time::WallTime;

use super::bytes::{RecordType, put_record, split_record};
use super::columns::BlockBuilder;
use super::delta::DecodeError;
use super::facts;
use super::segment::Last;
use super::tick::{Tick, TickDecoder};
use super::{Header, Hole};

/// What the records of a tail say, in order.
pub(crate) enum Replayed<'a> {
    /// A frame, and whether its series begin anew.
    Tick(&'a mut Tick, RecordType),
    Hole(Hole),
}

/// Calls `each` for every whole record behind the header; returns the header, its length, and the length of all that
/// is whole. `None`: there is no whole header, so nothing can be understood.
pub(crate) fn replay(
    bytes: &[u8],
    each: &mut dyn FnMut(&Header, Replayed<'_>) -> Result<(), DecodeError>,
) -> Option<(Header, usize, usize)> {
    let (head, body) = split_record(bytes).ok()?;
    if head.kind != RecordType::Header {
        return None;
    }
    let header = facts::header(body).ok()?;
    let first = head.total();
    let (mut whole, mut decoder, mut tick) = (first, TickDecoder::default(), Tick::default());
    while let Ok((head, body)) = split_record(&bytes[whole..]) {
        let schema = &header.schema;
        let said = match head.kind {
            RecordType::Key => decoder.key(schema, body, &mut tick).map(|()| Replayed::Tick(&mut tick, head.kind)),
            RecordType::Delta => decoder.delta(schema, body, &mut tick).map(|()| Replayed::Tick(&mut tick, head.kind)),
            RecordType::Hole => facts::hole(body).map(Replayed::Hole),
            RecordType::Header | RecordType::Block => break,
        };
        if said.and_then(|said| each(&header, said)).is_err() {
            break;
        }
        whole += head.total();
    }
    Some((header, first, whole))
}

/// What a tail is when its directory is opened.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// Bytes that are whole; what follows them is torn.
    pub(crate) whole: usize,
    /// Its last frame that no block holds; `None`: there is nothing that must be kept but holes.
    pub(crate) last: Option<Last>,
    pub(crate) walls: Option<(WallTime, WallTime)>,
    pub(crate) holes: usize,
}

/// Whether a block that was already written holds this frame: the store was stopped between closing a block and
/// emptying the tail.
fn is_closed(closed: Option<(BootId, u64)>, header: &Header, seq: u64) -> bool {
    closed.is_some_and(|(boot, last)| boot == header.boot && seq <= last)
}

/// Looks at a tail whose frames up to `closed` are in blocks.
pub(crate) fn recover(bytes: &[u8], closed: Option<(BootId, u64)>) -> Recovered {
    let mut found = Recovered::default();
    let mut covered = 0usize;
    let replayed = replay(bytes, &mut |header, said| {
        match said {
            Replayed::Hole(_) => found.holes += 1,
            Replayed::Tick(tick, _) if is_closed(closed, header, tick.seq) => covered += 1,
            Replayed::Tick(tick, _) => {
                let at = tick.stamp();
                found.last = Some(Last { boot: header.boot, seq: FrameSeq(tick.seq), at });
                found.walls = join(found.walls, Some((at.wall, at.wall)));
            }
        }
        Ok(())
    });
    found.whole = replayed.map_or(0, |(_, _, whole)| whole);
    if found.last.is_none() && covered > 0 {
        // The block that holds these frames was written together with these holes.
        found.holes = 0;
    }
    found
}

/// A tail as it goes into a segment.
#[derive(Debug)]
pub(crate) struct Closed {
    /// The header record under which it must stand.
    pub(crate) header: Vec<u8>,
    /// Blocks and holes.
    pub(crate) records: Vec<u8>,
    /// The last frame.
    pub(crate) last: Option<Last>,
    pub(crate) walls: Option<(WallTime, WallTime)>,
}

/// Rewrites a tail as columns. `None`: there is nothing in it.
pub(crate) fn close(bytes: &[u8], closed: Option<(BootId, u64)>) -> Option<Closed> {
    let (mut builder, mut records, mut last, mut walls) = (BlockBuilder::default(), Vec::new(), None, None);
    let mut holes_of_closed = false;
    let (header, first, _) = replay(bytes, &mut |header, said| {
        match said {
            Replayed::Hole(hole) => {
                finish(&mut builder, header, &mut records);
                if !holes_of_closed {
                    put_hole(&hole, &mut records);
                }
            }
            Replayed::Tick(tick, kind) => {
                if kind == RecordType::Key || !builder.fits(tick) {
                    finish(&mut builder, header, &mut records);
                }
                if kind == RecordType::Key {
                    builder.forget_series();
                }
                holes_of_closed = is_closed(closed, header, tick.seq);
                if holes_of_closed {
                    return builder.define(tick);
                }
                let (at, seq) = (tick.stamp(), FrameSeq(tick.seq));
                builder.push(tick)?;
                walls = join(walls, Some((at.wall, at.wall)));
                last = Some(Last { boot: header.boot, seq, at });
            }
        }
        Ok(())
    })?;
    finish(&mut builder, &header, &mut records);
    let header = bytes[..first].to_vec();
    (!records.is_empty()).then_some(Closed { header, records, last, walls })
}

/// Writes the block that is open. One that is above the limits of a record becomes a hole that says so.
pub(crate) fn finish(builder: &mut BlockBuilder, header: &Header, out: &mut Vec<u8>) {
    let Some((first, last)) = builder.seqs() else { return };
    if let Err(error) = builder.finish(&header.schema, out) {
        let gap = Gap::new(GapReason::Budget, error.to_string()).counting(last - first + 1);
        put_hole(&Hole { boot: header.boot, seqs: Some((FrameSeq(first), FrameSeq(last))), gap }, out);
    }
}

/// Writes a hole.
pub(crate) fn put_hole(hole: &Hole, out: &mut Vec<u8>) {
    // A hole has at most 1 KiB of text: always below the limit of a record.
    let _ = put_record(out, RecordType::Hole, |body| {
        facts::put_hole(body, hole);
        Some(())
    });
}

/// The interval that holds both.
pub(crate) fn join(a: Option<(WallTime, WallTime)>, b: Option<(WallTime, WallTime)>) -> Option<(WallTime, WallTime)> {
    match (a, b) {
        (Some((from, until)), Some((f, u))) => Some((from.min(f), until.max(u))),
        (a, b) => a.or(b),
    }
}
