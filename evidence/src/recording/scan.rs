//! What a directory of segments holds, found without inflating a block: for the store that goes on writing it.

use std::io;
use std::path::Path;

use casefile_proto::ids::FrameSeq;
use casefile_proto::time::WallTime;

use super::bytes::{RecordHead, RecordType, put_record};
use super::disk::{DiskFile, io_error, segment_name, sync_dir};
use super::retention::SegmentInfo;
use super::segment::{Last, StoreError};
use super::tail::join;
use super::walk::{Place, Step, Walk};
use super::{Header, facts, listing};

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) segments: Vec<SegmentInfo>,
    /// The last frame that a block holds.
    pub(crate) last: Option<Last>,
    /// The header record of the newest segment, when blocks can be appended to it.
    pub(crate) open: Option<Vec<u8>>,
    /// Whether the listing says all of it.
    pub(crate) is_listed: bool,
}

/// Looks at the segments with these numbers, as far as the listing does not say what they hold. A torn block at the end of
/// the newest is cut off: the tail still has it.
pub(crate) fn segments(dir: &Path, numbers: &[u32]) -> Result<Found, StoreError> {
    let listed = listing::read(dir);
    let mut found = Found::default();
    for &number in numbers {
        let path = dir.join(segment_name(number));
        let is_newest = numbers.last() == Some(&number);
        let known = listed.iter().find(|info| info.number == number).copied();
        if let Some(known) = known.filter(|_| !is_newest)
            && path.metadata().map_err(io_error("look at", &path))?.len() == known.bytes
        {
            found.segments.push(known);
            found.last = known.last.or(found.last);
            continue;
        }
        let mut file = DiskFile::open(path.clone())?;
        let place = file.file().try_clone().map(Place::File);
        let scanned = place.and_then(Walk::new).and_then(|walk| scan(walk, is_newest, known));
        let scanned = scanned.map_err(io_error("read", &path))?;
        if scanned.is_newest_torn {
            file.cut(scanned.whole)?;
        }
        let bytes = if scanned.is_newest_torn { scanned.whole } else { file.length()? };
        if is_newest && known.is_none_or(|known| known.bytes != bytes) {
            // Whoever wrote it may have been killed before it synced it, and now it is about to be listed.
            file.sync()?;
        }
        found.segments.push(SegmentInfo { number, bytes, walls: scanned.walls, last: scanned.last });
        found.last = scanned.last.or(found.last);
        found.open = scanned.header.filter(|_| bytes == scanned.whole);
    }
    found.is_listed = found.segments == listed;
    Ok(found)
}

#[derive(Default)]
struct Scanned {
    /// The header record.
    header: Option<Vec<u8>>,
    walls: Option<(WallTime, WallTime)>,
    last: Option<Last>,
    /// Where the records end that follow each other without damage.
    whole: u64,
    /// The newest segment ends in something that is no whole block.
    is_newest_torn: bool,
}

/// What lies behind the bytes that are `known` is looked at; behind its header, where nothing is known.
fn scan(mut walk: Walk, is_newest: bool, known: Option<SegmentInfo>) -> io::Result<Scanned> {
    let (mut scanned, mut header, mut body) = (Scanned::default(), None::<Header>, Vec::new());
    let mut damaged = false;
    if let Some(known) = known.filter(|known| known.bytes <= walk.end)
        && let Step::Record(head) = walk.look()?
        && head.kind == RecordType::Header
        && scanned.record(&mut walk, &head, &mut header, &mut body, is_newest)?
    {
        (scanned.walls, scanned.last, scanned.whole) = (known.walls, known.last, known.bytes);
        walk.at = known.bytes;
    }
    while walk.at < walk.end {
        let record = match walk.look()? {
            Step::Record(head) => scanned.record(&mut walk, &head, &mut header, &mut body, is_newest)?.then_some(head),
            Step::End | Step::Damaged(_) => None,
        };
        match record {
            Some(head) => walk.skip(&head),
            // What comes behind damage must be known too, or its numbers would be given out again.
            None => {
                let first = !std::mem::replace(&mut damaged, true);
                walk.search()?;
                scanned.is_newest_torn = is_newest && first && walk.at == walk.end;
            }
        }
        if !damaged {
            scanned.whole = walk.at;
        }
    }
    Ok(scanned)
}

impl Scanned {
    /// Takes in a record; false: it is damaged.
    fn record(
        &mut self,
        walk: &mut Walk,
        head: &RecordHead,
        header: &mut Option<Header>,
        body: &mut Vec<u8>,
        is_newest: bool,
    ) -> io::Result<bool> {
        match head.kind {
            RecordType::Header => {
                if walk.body(head, body)?.is_err() {
                    return Ok(false);
                }
                let Ok(new) = facts::header(body) else { return Ok(false) };
                let mut record = Vec::new();
                // The body was read from a record: it is below the limit of one.
                let _ = put_record(&mut record, RecordType::Header, |out| {
                    out.extend_from_slice(body);
                    Some(())
                });
                (self.header, *header) = (Some(record), Some(new));
            }
            RecordType::Block => {
                // A crash may leave the length of the last block without all of its bytes, and a length that is wrong
                // leads past what follows it. In older segments that would only make retention a little wrong.
                if is_newest && walk.body(head, body)?.is_err() {
                    return Ok(false);
                }
                let (Ok(summary), Some(header)) = (walk.summary(head)?, header) else { return Ok(false) };
                let walls = (WallTime::from_nanos(summary.wall_min), WallTime::from_nanos(summary.wall_max));
                self.walls = join(self.walls, Some(walls));
                self.last = Some(Last { boot: header.boot, seq: FrameSeq(summary.last_seq()), at: summary.last });
            }
            RecordType::Hole | RecordType::Key | RecordType::Delta => {}
        }
        Ok(true)
    }
}

/// Notes up to which wall time segments were removed. Whole or not at all.
pub(crate) fn put_forgotten(path: &Path, until: WallTime) -> Result<(), StoreError> {
    let until = forgotten(path).map_or(until, |before| before.max(until));
    let new = path.with_extension("new");
    let text = format!("{}\n", until.nanos());
    let mut file = DiskFile::open(new.clone())?;
    file.cut(0)?;
    file.write(text.as_bytes(), 0)?;
    file.sync()?;
    std::fs::rename(&new, path).map_err(io_error("rename", &new))?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Up to which wall time segments were removed; `None`: none were, as far as is known.
pub(crate) fn forgotten(path: &Path) -> Option<WallTime> {
    use std::io::Read;
    let mut text = String::new();
    // The longest i64 has 20 characters. An unreadable note says nothing: a reader then says `not-recorded`.
    std::fs::File::open(path).ok()?.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok().map(WallTime::from_nanos)
}
