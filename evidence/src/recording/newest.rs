//! The newest frame of a directory of segments, while others write it: out of the tail, else out of the newest segment. For
//! whoever asks every few seconds: records are checked and not decoded, blocks are not inflated, nothing is written.
//!
//! What a whole pass would say of damage before it is not asked here.

use std::io;
use std::path::Path;
use std::time::Duration;

use casefile_proto::ids::FrameSeq;
use casefile_proto::time::{BootTime, Stamp, WallTime};

use super::bytes::{Cursor, RecordType};
use super::delta::DecodeError;
use super::disk::{TAIL, segment_name, segment_numbers};
use super::pass::{open, read_error};
use super::reader::ReadError;
use super::segment::Last;
use super::walk::{Place, Step, Walk};
use super::{Header, facts, tick_of};

/// Looks at a tail that is not whole, because its writer empties it or adds to it meanwhile, before it is taken for torn.
const TRIES: u32 = 3;

/// Segments that are looked at, the newest first: one that holds no block yet has one before it.
const SEGMENTS: usize = 2;

/// The newest frame that lies in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newest {
    /// Which it is, and when it was taken.
    pub frame: Last,
    /// The time between two frames of its recording.
    pub every: Duration,
}

/// The newest frame of a ring or of last words, without the writer's lock. `None`: there is a directory, and no frame in it.
///
/// Reads the tail, which is the block that is open; where that has no frame, the summaries of the newest segment.
pub fn newest(dir: &Path) -> Result<Option<Newest>, ReadError> {
    for left in (0..TRIES).rev() {
        match in_file(&dir.join(TAIL))? {
            (Some(found), End::Whole) => return Ok(Some(found)),
            (Some(found), End::Torn) if left == 0 => return Ok(Some(found)),
            (Some(_), End::Torn) => continue,
            (None, _) => {}
        }
        let numbers = segment_numbers(dir).map_err(read_error(dir))?;
        for number in numbers.iter().rev().take(SEGMENTS) {
            if let (Some(found), _) = in_file(&dir.join(segment_name(*number)))? {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

/// How a file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// With a record.
    Whole,
    /// With something that is none.
    Torn,
}

/// The last frame of one file, as far as it is whole; `None`: there is none, or no file.
fn in_file(path: &Path) -> Result<(Option<Newest>, End), ReadError> {
    let Some(file) = open(path)? else { return Ok((None, End::Whole)) };
    match Walk::new(Place::File(file)).and_then(last) {
        // It became shorter: its writer closed the block, and a segment has it.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok((None, End::Torn)),
        looked => looked.map_err(read_error(path)),
    }
}

fn last(mut walk: Walk) -> io::Result<(Option<Newest>, End)> {
    let (mut header, mut frame, mut body) = (None::<Header>, None, Vec::new());
    // What is behind damage is left alone: the writer cuts it off when it opens the directory.
    while let Step::Record(head) = walk.look()? {
        let whole = match (head.kind, &header) {
            // Without reading it: a segment is megabytes, and what a block says of itself stands in front.
            (RecordType::Block, Some(header)) => walk.summary(&head)?.map(|block| {
                frame = Some(Last { boot: header.boot, seq: FrameSeq(block.last_seq()), at: block.last });
            }),
            (RecordType::Header, _) => match walk.body(&head, &mut body)? {
                Ok(()) => facts::header(&body).map(|said| header = Some(said)),
                damaged => damaged,
            },
            (RecordType::Key | RecordType::Delta, Some(header)) => match walk.body(&head, &mut body)? {
                Ok(()) => taken(head.kind, &body, frame.as_ref()).map(|(seq, at)| {
                    frame = Some(Last { boot: header.boot, seq, at });
                }),
                damaged => damaged,
            },
            (RecordType::Hole, Some(_)) => Ok(()),
            (_, None) => Err(DecodeError::Malformed("a record before the header")),
        };
        if whole.is_err() {
            break;
        }
        walk.skip(&head);
    }
    let newest = frame.zip(header).map(|(frame, header)| Newest { frame, every: tick_of(&header.schema) });
    Ok((newest, if walk.at == walk.end { End::Whole } else { End::Torn }))
}

/// What a frame begins with: its number and its times, which a delta says by what lies between.
fn taken(kind: RecordType, body: &[u8], before: Option<&Last>) -> Result<(FrameSeq, Stamp), DecodeError> {
    let mut at = Cursor::new(body);
    let seq = FrameSeq(at.u64()?);
    if kind == RecordType::Key {
        return Ok((seq, Stamp { boot: BootTime::from_nanos(at.u64()?), wall: WallTime::from_nanos(at.i64()?) }));
    }
    let before = before.ok_or(DecodeError::Malformed("a delta without its keyframe"))?.at;
    let boot = before.boot.nanos().wrapping_add(at.i64()?.cast_unsigned());
    let wall = before.wall.nanos().wrapping_add(at.i64()?);
    Ok((seq, Stamp { boot: BootTime::from_nanos(boot), wall: WallTime::from_nanos(wall) }))
}
