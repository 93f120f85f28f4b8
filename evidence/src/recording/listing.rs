//! What the segments of a directory hold, noted beside them, so that opening a directory does not read them again.
//!
//! A note and not a truth: a line counts when its checksum holds and its segment is at least as long as it says. What is
//! behind that length is looked at, and so is a segment without a line. That is why nothing here is ever synced: a line is
//! written after its blocks were, and one that a power cut took is missed for as long as a look takes.

use std::fmt::Write as _;
use std::path::Path;

use casefile_proto::ids::FrameSeq;
use casefile_proto::time::{BootTime, Stamp, WallTime};

use super::disk::{DiskFile, LISTING};
use super::retention::SegmentInfo;
use super::segment::{Last, StoreError};

/// Above this it is not read: some thousands of segments.
const MAX_BYTES: u64 = 1 << 20;

/// What is noted. Lines that are damaged are not there; nothing else is wrong with them.
pub(crate) fn read(dir: &Path) -> Vec<SegmentInfo> {
    let read = || -> Result<Vec<u8>, StoreError> {
        let path = dir.join(LISTING);
        // Opening would make it.
        if !path.exists() {
            return Ok(Vec::new());
        }
        let file = DiskFile::open(path)?;
        file.read(file.length()?.min(MAX_BYTES))
    };
    let bytes = read().unwrap_or_default();
    bytes.split(|byte| *byte == b'\n').filter_map(|line| parse(std::str::from_utf8(line).ok()?)).collect()
}

/// Notes what these segments hold, in place of what was noted.
pub(crate) fn write(dir: &Path, segments: &[SegmentInfo]) -> Result<(), StoreError> {
    let mut text = String::new();
    for segment in segments {
        put(&mut text, segment);
    }
    let mut file = DiskFile::open(dir.join(LISTING))?;
    file.write(text.as_bytes(), 0)?;
    file.cut(text.len() as u64)
}

/// A segment without frames, or without a last one, has no line.
fn put(out: &mut String, segment: &SegmentInfo) {
    let (Some((earliest, latest)), Some(last)) = (segment.walls, segment.last) else { return };
    let from = out.len();
    let (number, bytes) = (segment.number, segment.bytes);
    // Writing to a string does not fail.
    let _ = write!(
        out,
        "{number} {bytes} {} {} {} {} {} {}",
        earliest.nanos(),
        latest.nanos(),
        last.boot,
        last.seq.0,
        last.at.wall.nanos(),
        last.at.boot.nanos(),
    );
    let checksum = crc32fast::hash(&out.as_bytes()[from..]);
    let _ = writeln!(out, " {checksum:08x}");
}

fn parse(line: &str) -> Option<SegmentInfo> {
    let (said, checksum) = line.rsplit_once(' ')?;
    if u32::from_str_radix(checksum, 16).ok()? != crc32fast::hash(said.as_bytes()) {
        return None;
    }
    let fields: Vec<&str> = said.split(' ').collect();
    let [number, bytes, earliest, latest, boot, seq, wall, since_boot] = fields[..] else { return None };
    let at = Stamp { wall: parse_wall(wall)?, boot: BootTime::from_nanos(since_boot.parse().ok()?) };
    Some(SegmentInfo {
        number: number.parse().ok()?,
        bytes: bytes.parse().ok()?,
        walls: Some((parse_wall(earliest)?, parse_wall(latest)?)),
        last: Some(Last { boot: boot.parse().ok()?, seq: FrameSeq(seq.parse().ok()?), at }),
    })
}

fn parse_wall(text: &str) -> Option<WallTime> {
    text.parse().ok().map(WallTime::from_nanos)
}

#[cfg(test)]
mod tests {
    use casefile_proto::ids::BootId;

    use super::*;

    fn segment(number: u32) -> SegmentInfo {
        let at = Stamp { wall: WallTime::from_nanos(-7), boot: BootTime::from_nanos(9) };
        SegmentInfo {
            number,
            bytes: 1 << 20,
            walls: Some((WallTime::from_nanos(i64::MIN), WallTime::from_nanos(i64::MAX))),
            last: Some(Last { boot: BootId::from_bytes([number.to_le_bytes()[0]; 16]), seq: FrameSeq(u64::MAX), at }),
        }
    }

    #[test]
    fn what_is_noted_is_read_and_replaces_what_was() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()), [], "there is none");
        assert!(!dir.path().join(LISTING).exists(), "looking makes none");
        for segments in [vec![segment(1), segment(2)], vec![segment(2)], vec![]] {
            write(dir.path(), &segments).unwrap();
            assert_eq!(read(dir.path()), segments);
        }
        let empty = SegmentInfo { walls: None, last: None, ..segment(3) };
        write(dir.path(), &[empty, segment(4)]).unwrap();
        assert_eq!(read(dir.path()), [segment(4)]);
    }

    #[test]
    fn a_damaged_line_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let mut text = String::new();
        put(&mut text, &segment(1));
        let first = text.len();
        put(&mut text, &segment(2));
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            std::fs::write(dir.path().join(LISTING), &bytes).unwrap();
            let read = read(dir.path());
            // A line feed that is another character spoils what it keeps apart.
            let spared = if at < first { segment(2) } else { segment(1) };
            assert!(read == [spared] || (at + 1 == first && read.is_empty()), "{at}: {read:?}");
        }
        std::fs::write(dir.path().join(LISTING), &text.as_bytes()[..text.len() - 3]).unwrap();
        assert_eq!(read(dir.path()), [segment(1)], "a line that is cut off");
    }
}
