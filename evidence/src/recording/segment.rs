//! A directory of segments, written: the agent's ring and the collector's last words of one node.
//!
//! `NNNNNNNN.seg` are closed blocks, `tail` is the block that is open, `lock` is held by the writer, `forgotten` says up to
//! when retention removed segments, `listing` notes what the segments hold. A block is synced before the tail that held its
//! frames is emptied.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use casefile_proto::ids::{BootId, FrameSeq};
use casefile_proto::time::{WallTime, Window};
use casefile_proto::units::Bytes;

use super::bytes::{RecordType, split_record};
use super::delta::DecodeError;
use super::disk::{DiskFile, FORGOTTEN, LOCK, TAIL, io_error, segment_name, segment_numbers, sync_dir};
use super::retention::{SegmentInfo, to_forget};
use super::tail::{self, join};
use super::tick::{Tick, TickDecoder};
use super::wal::Wal;
use super::{Header, facts, listing, scan};
use crate::directory;

/// A segment that would grow above this is followed by another; below a small retention, an eighth of that.
const MAX_SEGMENT: u64 = 4 << 20;
/// The least size at which a segment is followed by another: each begins with a header of some KiB.
const MIN_SEGMENT: u64 = 64 << 10;
/// A tail grows when its blocks cannot be closed. Above this nothing more is taken: the disk is full or broken.
const MAX_TAIL: u64 = 64 << 20;

/// How much a directory may hold. The oldest segments go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Bytes of all segments.
    pub bytes: Bytes,
    /// Age of the newest frame of a segment against the newest frame of the directory.
    pub age: Duration,
}

/// Why a directory could not be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system said no.
    #[error("{doing} {path}")]
    Io {
        /// What we were doing, such as `append to`.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: std::io::Error,
    },
    /// Another process writes here.
    #[error("{path} is in use by another process")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// What was to be appended is no valid record.
    #[error("refuse to store a bad record")]
    Record(#[source] DecodeError),
}

/// The last frame that a store holds of its newest boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Last {
    /// The boot.
    pub boot: BootId,
    /// Its newest frame.
    pub seq: FrameSeq,
    /// When that was, on the node's clocks.
    pub at: casefile_proto::time::Stamp,
}

/// Appends records; closes blocks as columns; forgets the oldest.
pub struct Store {
    dir: PathBuf,
    wal: Option<Wal>,
    retention: Retention,
    pin: Option<WallTime>,
    /// Held until the store is dropped.
    _lock: DiskFile,
    /// Oldest first.
    segments: Vec<SegmentInfo>,
    /// The header record of the newest segment, when it can be appended to; the same bytes as below, where they are equal.
    open: Option<Arc<[u8]>>,
    /// The segment that was written to since the last sync.
    written: Option<DiskFile>,
    /// The last frame that a block holds.
    closed: Option<(BootId, u64)>,
    tail: DiskFile,
    /// Bytes of the tail that are whole; 0: not even its header.
    tail_bytes: u64,
    tail_walls: Option<(WallTime, WallTime)>,
    /// The header in force, and its record.
    header: Option<(Header, Arc<[u8]>)>,
    decoder: TickDecoder,
    /// Whether a keyframe came since the header.
    is_keyed: bool,
    last: Option<Last>,
    is_synced: bool,
    /// Whether the listing says what the segments hold.
    is_listed: bool,
}

/// A record that was checked.
struct Checked {
    kind: RecordType,
    from: usize,
    until: usize,
    header: Option<Header>,
    frame: Option<Last>,
}

impl Store {
    /// Opens or creates the directory (0700), recovers a torn tail (what is torn is not there), takes the writer's lock.
    pub fn open(dir: &Path, retention: Retention) -> Result<Self, StoreError> {
        Self::open_with(dir, retention, None)
    }

    /// The same, for one of many stores that write by way of one log: then a [`Wal::commit`] syncs them all, and
    /// [`Store::sync`] only says what became of this one. The directory lies in that of the log's stores, and its name is a
    /// number.
    pub fn open_logged(dir: &Path, retention: Retention, wal: &Wal) -> Result<Self, StoreError> {
        // What an earlier store wrote here may still be on its way.
        wal.commit()?;
        Self::open_with(dir, retention, Some(wal))
    }

    fn open_with(dir: &Path, retention: Retention, wal: Option<&Wal>) -> Result<Self, StoreError> {
        // Where there is a tail, the directory's own name was synced before it.
        if !dir.join(TAIL).exists() {
            directory::make(dir).map_err(io_error("create", dir))?;
        }
        let lock = DiskFile::open(dir.join(LOCK))?;
        match rustix::fs::flock(lock.file(), rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(StoreError::Locked { path: dir.to_owned() }),
            Err(error) => return Err(io_error("lock", lock.path())(error.into())),
        }
        let numbers = segment_numbers(dir).map_err(io_error("list", dir))?;
        let found = scan::segments(dir, &numbers)?;
        let mut tail = DiskFile::open_logged(dir.join(TAIL), wal)?;
        let length = tail.length()?;
        let recovered = tail::recover(&tail.read(length.min(2 * MAX_TAIL))?, found.last.map(|l| (l.boot, l.seq.0)));
        let is_empty = recovered.last.is_none() && recovered.holes == 0;
        let tail_bytes = if is_empty { 0 } else { recovered.whole as u64 };
        if tail_bytes < length {
            tail.cut(tail_bytes)?;
        }
        sync_dir(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            wal: wal.cloned(),
            retention,
            pin: None,
            _lock: lock,
            segments: found.segments,
            open: found.open.map(Into::into),
            written: None,
            closed: found.last.map(|l| (l.boot, l.seq.0)),
            tail,
            tail_bytes,
            tail_walls: recovered.walls,
            header: None,
            decoder: TickDecoder::default(),
            is_keyed: false,
            last: recovered.last.or(found.last),
            is_synced: false,
            is_listed: found.is_listed,
        })
    }

    /// The newest frame held; `None` when empty.
    pub fn last(&self) -> Option<Last> {
        self.last
    }

    /// Appends records exactly as an [`super::delta::Encoder`] made them: a header first, then keyframes, deltas, holes.
    /// One `write(2)`; the tail is closed into a columnar block when a keyframe arrives. Returns without syncing.
    ///
    /// Frame numbers of one boot only grow. Bytes that break a rule are refused before any of them is stored. After an
    /// error, of whatever kind, the next frame must be a keyframe ([`super::delta::Encoder::restart`]);
    /// [`Store::last`] says what is held.
    pub fn append(&mut self, records: &[u8]) -> Result<(), StoreError> {
        self.append_known(records, None).map(|_| ())
    }

    /// The same for records that were read already, by a [`Skimmer`](super::skim::Skimmer) that has read everything since the
    /// keyframe: they are not decoded once more. Of these `frames`, as it told them, the first so many that this returns were in
    /// these records.
    pub fn append_skimmed(&mut self, records: &[u8], frames: &[Last]) -> Result<usize, StoreError> {
        self.append_known(records, Some(frames))
    }

    fn append_known(&mut self, records: &[u8], frames: Option<&[Last]>) -> Result<usize, StoreError> {
        let checked = self.check(records, frames).map_err(StoreError::Record);
        let count = checked.as_ref().map_or(0, |checked| checked.iter().filter(|c| c.frame.is_some()).count());
        let stored = checked.and_then(|checked| self.store(checked, records));
        if stored.is_err() {
            self.decoder.restart();
            self.is_keyed = false;
        }
        stored.map(|()| count)
    }

    /// What was appended is on the disk when this returns. After an error nobody knows what of it is there: the store is to
    /// be opened again.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        if let Some(wal) = &self.wal {
            wal.commit()?;
            self.written.take().map_or(Ok(()), |segment| segment.outcome())?;
            self.tail.outcome()?;
        } else if !self.is_synced {
            self.tail.sync()?;
            self.is_synced = true;
        }
        self.list();
        Ok(())
    }

    /// Notes what the segments hold, once that is on the disk.
    fn list(&mut self) {
        if !self.is_listed {
            // It only saves whoever opens the directory a look at them.
            let _ = listing::write(&self.dir, &self.segments);
            self.is_listed = true;
        }
    }

    /// Bytes on disk, and the interval of wall time held.
    pub fn held(&self) -> (Bytes, Option<Window>) {
        let bytes = self.segments.iter().map(|s| s.bytes).sum::<u64>() + self.tail_bytes;
        let walls = self.segments.iter().fold(self.tail_walls, |all, s| join(all, s.walls));
        (Bytes(bytes), walls.and_then(|(from, last)| Window::new(from, last.offset(1)).ok()))
    }

    /// From now on this is the most that it holds, and the oldest goes at once where it holds more. The newest segment stays.
    pub fn limit(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        if self.retention.bytes != bytes {
            self.retention.bytes = bytes;
            self.forget(0)?;
        }
        Ok(())
    }

    /// Nothing at or after this time is forgotten by retention until [`Store::unpin`] (an open incident's range).
    pub fn pin(&mut self, from: WallTime) {
        self.pin = Some(from);
    }

    /// Lifts the pin.
    pub fn unpin(&mut self) {
        self.pin = None;
    }

    /// Decodes everything, unless the `frames` are known: what cannot be read back is not stored.
    fn check(&mut self, records: &[u8], frames: Option<&[Last]>) -> Result<Vec<Checked>, DecodeError> {
        let (mut checked, mut from, mut last) = (Vec::new(), 0, self.last);
        let mut known = frames.map(|frames| frames.iter());
        // Not kept between calls: a collector has a store for each of thousands of nodes.
        let mut tick = Tick::default();
        let mut new = None;
        while from < records.len() {
            let (head, body) = split_record(&records[from..])?;
            let until = from + head.total();
            let mut record = Checked { kind: head.kind, from, until, header: None, frame: None };
            from = until;
            let header: Option<&Header> = new.as_ref().or(self.header.as_ref().map(|(header, _)| header));
            if head.kind == RecordType::Header {
                let said = facts::header(body)?;
                if header != Some(&said) {
                    self.decoder.restart();
                    self.is_keyed = false;
                    new = Some(said.clone());
                }
                record.header = Some(said);
                checked.push(record);
                continue;
            }
            let header = header.ok_or(DecodeError::Malformed("a record before the header"))?;
            let frame = match (head.kind, &mut known) {
                (RecordType::Hole, _) => {
                    facts::hole(body)?;
                    None
                }
                (RecordType::Block | RecordType::Header, _) => {
                    return Err(DecodeError::Malformed("a block where frames are expected"));
                }
                (RecordType::Key | RecordType::Delta, Some(known)) => {
                    self.is_keyed |= head.kind == RecordType::Key;
                    let frame = known.next().filter(|frame| self.is_keyed && frame.boot == header.boot);
                    Some(*frame.ok_or(DecodeError::Malformed("a frame that nobody has looked at"))?)
                }
                (kind @ (RecordType::Key | RecordType::Delta), None) => {
                    if kind == RecordType::Key {
                        self.decoder.key(&header.schema, body, &mut tick)?;
                    } else {
                        self.decoder.delta(&header.schema, body, &mut tick)?;
                    }
                    Some(Last { boot: header.boot, seq: FrameSeq(tick.seq), at: tick.stamp() })
                }
            };
            if let Some(frame) = frame {
                if last.is_some_and(|last| last.boot == frame.boot && last.seq >= frame.seq) {
                    return Err(DecodeError::Malformed("a frame that is not after the one before"));
                }
                last = Some(frame);
                record.frame = last;
            }
            checked.push(record);
        }
        Ok(checked)
    }

    fn store(&mut self, checked: Vec<Checked>, records: &[u8]) -> Result<(), StoreError> {
        // What is to be written together, and the frames in it.
        let (mut pending, mut frames) = (0..0, Vec::new());
        for record in checked {
            let bytes = &records[record.from..record.until];
            if let Some(header) = record.header {
                self.write(&records[pending], &mut frames)?;
                pending = record.until..record.until;
                if self.header.as_ref().is_none_or(|(_, known)| **known != *bytes) {
                    self.close()?;
                    self.header = Some((header, shared(self.open.as_ref(), bytes)));
                }
                continue;
            }
            if record.kind == RecordType::Key && (self.tail_bytes > 0 || !pending.is_empty()) {
                self.write(&records[pending], &mut frames)?;
                pending = record.from..record.from;
                self.close()?;
            }
            pending.end = record.until;
            frames.extend(record.frame);
        }
        self.write(&records[pending], &mut frames)
    }

    /// Appends to the tail.
    fn write(&mut self, records: &[u8], frames: &mut Vec<Last>) -> Result<(), StoreError> {
        let Some((_, header)) = self.header.as_ref().filter(|_| !records.is_empty()) else { return Ok(()) };
        if self.tail_bytes + records.len() as u64 > MAX_TAIL {
            let full = std::io::Error::from(std::io::ErrorKind::FileTooLarge);
            return Err(io_error("append to", self.tail.path())(full));
        }
        let first = if self.tail_bytes == 0 { [&**header, records].concat() } else { Vec::new() };
        self.forget(records.len().max(first.len()) as u64)?;
        self.is_synced = false;
        if self.tail_bytes == 0 {
            self.tail.write(&first, 0)?;
            self.tail_bytes = first.len() as u64;
        } else {
            self.tail.write(records, self.tail_bytes)?;
            self.tail_bytes += records.len() as u64;
        }
        for frame in frames.drain(..) {
            self.tail_walls = join(self.tail_walls, Some((frame.at.wall, frame.at.wall)));
            self.last = Some(frame);
        }
        Ok(())
    }

    /// Rewrites the tail as blocks of a segment, and empties it.
    fn close(&mut self) -> Result<(), StoreError> {
        if self.tail_bytes == 0 {
            return Ok(());
        }
        if let Some(closed) = tail::close(&self.tail.read(self.tail_bytes)?, self.closed) {
            self.forget((closed.header.len() + closed.records.len()) as u64)?;
            self.put_block(&closed)?;
            self.closed = closed.last.map(|last| (last.boot, last.seq.0)).or(self.closed);
        }
        self.tail.cut(0)?;
        (self.tail_bytes, self.tail_walls) = (0, None);
        Ok(())
    }

    fn put_block(&mut self, closed: &tail::Closed) -> Result<(), StoreError> {
        self.is_listed = false;
        let more = closed.records.len() as u64;
        let limit = MAX_SEGMENT.min((self.retention.bytes.0 / 8).max(MIN_SEGMENT));
        if let (Some(header), Some(info)) = (&self.open, self.segments.last_mut())
            && **header == *closed.header
            && info.bytes + more <= limit
        {
            let mut file = segment(&self.dir, info.number, self.wal.as_ref())?;
            file.write(&closed.records, info.bytes)?;
            file.sync()?;
            self.written = Some(file);
            info.bytes += more;
            info.walls = join(info.walls, closed.walls);
            info.last = closed.last.or(info.last);
            return Ok(());
        }
        let number = self.segments.last().map_or(1, |s| s.number.saturating_add(1));
        let mut file = segment(&self.dir, number, self.wal.as_ref())?;
        let whole = [closed.header.as_slice(), &closed.records].concat();
        let mut written = file.write(&whole, 0).and_then(|()| file.sync());
        if self.wal.is_none() {
            written = written.and_then(|()| sync_dir(&self.dir));
        }
        if written.is_err() {
            // The tail still holds all of it; a file without a block would only be in the way.
            let _ = std::fs::remove_file(file.path());
        }
        written?;
        self.written = Some(file);
        let known = self.header.as_ref().map(|(_, known)| known);
        self.open = Some(shared(known, &closed.header));
        self.segments.push(SegmentInfo { number, bytes: whole.len() as u64, walls: closed.walls, last: closed.last });
        Ok(())
    }

    /// Makes room for `more` bytes. What goes is noted before it goes.
    fn forget(&mut self, more: u64) -> Result<(), StoreError> {
        let count = to_forget(&self.segments, self.tail_bytes, more, self.retention, self.pin);
        let latest = self.segments[..count].iter().filter_map(|s| s.walls).map(|(_, latest)| latest).max();
        let note = || latest.map_or(Ok(()), |t| scan::put_forgotten(&self.dir.join(FORGOTTEN), t.offset(1)));
        let noted = note();
        for _ in 0..count {
            let path = self.dir.join(segment_name(self.segments[0].number));
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(io_error("remove", &path)(error));
                }
                _ => drop(self.segments.remove(0)),
            }
        }
        // On a full disk there was no room for the note before something went.
        noted.or_else(|_| note())
    }
}

/// These bytes, and where they are those that are known, the same ones: a header record has some KiB, and a collector has
/// thousands of stores.
fn shared(known: Option<&Arc<[u8]>>, bytes: &[u8]) -> Arc<[u8]> {
    known.filter(|known| ***known == *bytes).map_or_else(|| bytes.into(), Arc::clone)
}

/// A segment, open to be written.
fn segment(dir: &Path, number: u32, wal: Option<&Wal>) -> Result<DiskFile, StoreError> {
    #[cfg_attr(not(test), expect(unused_mut, reason = "changed in tests alone"))]
    let mut file = DiskFile::open_logged(dir.join(segment_name(number)), wal)?;
    #[cfg(test)]
    {
        file.room = tests::ROOM.get();
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    //! A disk that fills up, by way of [`DiskFile::room`]. Everything else is tested from outside.

    use std::ops::ControlFlow;

    use casefile_proto::sample::{
        Frame, MetricDef, MetricIndex, MetricKind, Outcome, Reading, Sample, Schema, SeriesDef, SeriesId, SourceDef,
        SourceIndex,
    };
    use casefile_proto::time::{BootTime, Stamp};
    use casefile_proto::units::{Scale, Unit};

    use super::*;
    use crate::recording::delta::Encoder;
    use crate::recording::reader::{Piece, Recording};

    thread_local! {
        /// Bytes that may still be written to segments.
        pub(super) static ROOM: std::cell::Cell<Option<u64>> = const { std::cell::Cell::new(None) };
    }

    const KEEP: Retention = Retention { bytes: Bytes::mib(8), age: Duration::from_secs(86_400) };

    fn header() -> Header {
        let metric = MetricDef {
            name: "node_load1".to_owned(),
            help: String::new(),
            kind: MetricKind::Gauge,
            unit: Unit::Count,
            scale: Scale::CENTI,
            labels: Vec::new(),
        };
        let source = SourceDef {
            name: "load".to_owned(),
            about: String::new(),
            every_nanos: 1_000_000_000,
            deadline_nanos: 1_000_000_000,
            metrics: vec![metric],
        };
        let schema = Arc::new(Schema { sources: vec![source] });
        let boot = BootId::from_bytes([1; 16]);
        Header { node: "n".parse().unwrap(), boot, agent_version: "1".to_owned(), schema }
    }

    fn frame(seq: u64) -> Frame {
        let at = Stamp {
            wall: WallTime::from_secs(i64::try_from(seq).unwrap()),
            boot: BootTime::from_nanos(seq * 1_000_000_000),
        };
        let def = SeriesDef { metric: MetricIndex(0), labels: Box::new([]) };
        let sample = Sample {
            source: SourceIndex(0),
            outcome: Outcome::Complete,
            took_nanos: 5,
            defined: if seq == 1 { vec![(SeriesId(0), def)] } else { Vec::new() },
            readings: vec![Reading { series: SeriesId(0), value: i64::try_from(seq * seq).unwrap() }],
        };
        Frame { boot: BootId::from_bytes([1; 16]), seq: FrameSeq(seq), at, samples: vec![sample], events: Vec::new() }
    }

    fn seqs(dir: &Path) -> Vec<u64> {
        let mut seqs = Vec::new();
        let mut recording = Recording::open_dir(dir).unwrap();
        recording
            .pieces(None, &mut |piece| {
                if let Piece::Frame(frame) = piece {
                    seqs.push(frame.seq.0);
                }
                ControlFlow::Continue(())
            })
            .unwrap();
        seqs
    }

    /// Appends a frame; says whether it is held.
    fn append(store: &mut Store, encoder: &mut Encoder, seq: u64) -> bool {
        let mut records = encoder.header();
        encoder.frame(&frame(seq), &mut records);
        let stored = store.append(&records).is_ok();
        if !stored {
            encoder.restart();
        }
        stored
    }

    #[test]
    fn on_a_full_disk_what_was_stored_stays_and_it_goes_on_when_there_is_room() {
        for room in 0..60 {
            let dir = tempfile::tempdir().unwrap();
            let (mut store, mut encoder) = (Store::open(dir.path(), KEEP).unwrap(), Encoder::new(header()));
            let mut held: Vec<u64> = (1..=10).filter(|seq| append(&mut store, &mut encoder, *seq)).collect();
            store.tail.room = Some(room);
            held.extend((11..=20).filter(|seq| append(&mut store, &mut encoder, *seq)));
            assert!(held.len() < 20 && seqs(dir.path()) == held, "{room}");
            assert_eq!(store.last().unwrap().seq.0, *held.last().unwrap());
            store.tail.room = None;
            held.extend((21..=100).filter(|seq| append(&mut store, &mut encoder, *seq)));
            assert_eq!(held.last(), Some(&100));
            assert_eq!(seqs(dir.path()), held, "{room}");
            drop(store);
            assert_eq!(Store::open(dir.path(), KEEP).unwrap().last().unwrap().seq.0, 100);
            assert_eq!(seqs(dir.path()), held, "{room}");
        }
    }

    #[test]
    fn a_block_that_cannot_be_written_stays_in_the_tail_until_it_can() {
        for room in [0, 1, 10, 100] {
            let dir = tempfile::tempdir().unwrap();
            let (mut store, mut encoder) = (Store::open(dir.path(), KEEP).unwrap(), Encoder::new(header()));
            let mut held: Vec<u64> = (1..=61).filter(|seq| append(&mut store, &mut encoder, *seq)).collect();
            // The second block goes to the same segment.
            ROOM.set(Some(room));
            held.extend((62..=130).filter(|seq| append(&mut store, &mut encoder, *seq)));
            assert_eq!(held, (1..=120).collect::<Vec<_>>(), "the block of 61 to 120 could not be closed");
            assert_eq!(seqs(dir.path()), held);
            ROOM.set(None);
            held.extend((131..=200).filter(|seq| append(&mut store, &mut encoder, *seq)));
            assert_eq!(held.len(), 190);
            assert_eq!(seqs(dir.path()), held);
        }
    }
}
