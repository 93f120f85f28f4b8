//! The ring's store on a disk that belongs to the node: it gives way when the disk is nearly full, and stops before it
//! takes the last of it. What it does not write then is lost to the ring, and told like every other loss.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use casefile_evidence::recording::segment::{Last, Retention, Store, StoreError};
use casefile_proto::units::Bytes;

use super::Keep;
use crate::room::{Level, Room};
use crate::stats::Stats;

/// Time between two looks at the disk.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the ring may take of the disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    /// What it holds when there is room.
    pub(crate) retention: Retention,
    /// What it leaves free; `None`: what suits the disk.
    pub(crate) leave: Option<Bytes>,
}

/// An open ring.
pub(crate) struct OnDisk {
    store: Store,
    dir: PathBuf,
    share: Share,
    look_at: Option<Instant>,
    /// The last look found too little room, and that was said.
    low: bool,
    stats: Arc<Stats>,
}

impl OnDisk {
    /// Opens it, whatever room there is: what is held can be read. The first write looks.
    pub(crate) fn open(dir: &Path, share: Share, stats: &Arc<Stats>) -> Result<Self, StoreError> {
        let store = Store::open(dir, share.retention)?;
        Ok(Self { store, dir: dir.to_owned(), share, look_at: None, low: false, stats: Arc::clone(stats) })
    }

    /// Opens it after it failed: not before there is room again.
    pub(crate) fn open_again(dir: &Path, share: Share, stats: &Arc<Stats>) -> Result<Self, StoreError> {
        if let Ok(room) = Room::at(dir) {
            let leave = room.to_leave(share.leave);
            if !room.is_back(leave) {
                return Err(refused(dir, room, leave));
            }
        }
        // Where nobody knows how much room there is, writing finds it out.
        Self::open(dir, share, stats)
    }

    pub(crate) fn last(&self) -> Option<Last> {
        self.store.last()
    }

    /// Gives way to others on the disk; an error when there is no room to write at all.
    fn look(&mut self) -> Result<(), StoreError> {
        let Ok(room) = Room::at(&self.dir) else { return Ok(()) };
        let leave = room.to_leave(self.share.leave);
        let limit = room.for_ring(self.share.retention.bytes, self.store.held().0, leave);
        self.stats.ring_limit_bytes.set(limit.0);
        self.store.limit(limit)?;
        let low = room.level(leave) != Level::Enough;
        if low && !self.low {
            let (free, size) = (room.free, room.size);
            tracing::warn!(%free, %size, %leave, %limit, "the node's disk is nearly full: the ring gives up its oldest");
        }
        self.low = low;
        // Looked at again only where it matters: what was given up counts.
        match if low { Room::at(&self.dir) } else { Ok(room) } {
            Ok(now) if now.level(leave) == Level::Out => Err(refused(&self.dir, now, leave)),
            _ => Ok(()),
        }
    }
}

fn refused(dir: &Path, room: Room, leave: Bytes) -> StoreError {
    StoreError::Io { doing: "write", path: dir.to_owned(), source: room.refusal(leave) }
}

impl Keep for OnDisk {
    fn append(&mut self, records: &[u8]) -> Result<(), StoreError> {
        let now = Instant::now();
        if self.look_at.is_none_or(|at| now >= at) {
            self.look()?;
            self.look_at = Some(now + LOOK_EVERY);
        }
        self.store.append(records)
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.store.sync()
    }

    fn held(&self) -> Bytes {
        self.store.held().0
    }
}

#[cfg(test)]
mod tests {
    use casefile_evidence::recording::Header;
    use casefile_evidence::recording::delta::Encoder;
    use casefile_proto::ids::{BootId, FrameSeq};
    use casefile_proto::sample::{
        Frame, MetricDef, MetricIndex, MetricKind, Outcome, Reading, Sample, Schema, SeriesDef, SeriesId, SourceDef,
        SourceIndex,
    };
    use casefile_proto::time::{BootTime, Stamp, WallTime};
    use casefile_proto::units::{Scale, Unit};

    use super::*;

    const SERIES: u32 = 8_000;
    const WANTED: Retention = Retention { bytes: Bytes::mib(64), age: Duration::from_secs(1 << 20) };

    /// Makes frames that nothing can be saved of: every reading is another number.
    struct Frames {
        encoder: Encoder,
        seq: u64,
        random: u64,
    }

    impl Frames {
        fn new() -> Self {
            let metric = MetricDef {
                name: "m".to_owned(),
                help: String::new(),
                kind: MetricKind::Gauge,
                unit: Unit::Count,
                scale: Scale::ONE,
                labels: vec!["n".to_owned()],
            };
            let source = SourceDef {
                name: "s".to_owned(),
                about: String::new(),
                every_nanos: 1,
                deadline_nanos: 1,
                metrics: vec![metric],
            };
            let header = Header {
                node: "n".parse().unwrap(),
                boot: BootId::from_bytes([1; 16]),
                agent_version: "0".to_owned(),
                schema: Arc::new(Schema { sources: vec![source] }),
            };
            Self { encoder: Encoder::new(header), seq: 0, random: 1 }
        }

        fn next(&mut self) -> Vec<u8> {
            self.seq += 1;
            let def =
                |n: u32| (SeriesId(n), SeriesDef { metric: MetricIndex(0), labels: [n.to_string().into()].into() });
            let random = &mut self.random;
            let mut value = || {
                // xorshift64 of Marsaglia, 2003.
                *random ^= *random << 13;
                *random ^= *random >> 7;
                *random ^= *random << 17;
                random.cast_signed()
            };
            let sample = Sample {
                source: SourceIndex(0),
                outcome: Outcome::Complete,
                took_nanos: 1,
                defined: if self.seq == 1 { (0..SERIES).map(def).collect() } else { vec![] },
                readings: (0..SERIES).map(|n| Reading { series: SeriesId(n), value: value() }).collect(),
            };
            let at = Stamp {
                wall: WallTime::from_secs(i64::try_from(self.seq).unwrap()),
                boot: BootTime::from_nanos(self.seq * 1_000_000_000),
            };
            let boot = BootId::from_bytes([1; 16]);
            let frame = Frame { boot, seq: FrameSeq(self.seq), at, samples: vec![sample], events: vec![] };
            let mut records = if self.seq == 1 { self.encoder.header() } else { Vec::new() };
            self.encoder.frame(&frame, &mut records);
            records
        }
    }

    #[test]
    fn a_ring_gives_up_its_oldest_to_others_stops_before_the_last_and_goes_on_when_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let stats = Arc::new(Stats::new(&[]));
        let share = |leave: u64| Share { retention: WANTED, leave: Some(Bytes(leave)) };
        let mut ring = OnDisk::open(dir.path(), share(0), &stats).unwrap();
        let mut frames = Frames::new();
        while ring.held() < Bytes::mib(24) {
            ring.append(&frames.next()).unwrap();
        }
        assert_eq!(stats.ring_limit_bytes.get(), WANTED.bytes.0);

        // As if others had taken a quarter of what is to be left.
        let free = Room::at(dir.path()).unwrap().free.0;
        ring.share = share(free / 3 * 4);
        ring.look_at = None;
        ring.append(&frames.next()).unwrap();
        assert_eq!(stats.ring_limit_bytes.get(), Bytes::mib(8).0);
        let held = ring.held();
        // The newest segment and the open block stay whatever they are.
        assert!(held < Bytes::mib(16), "{held}");
        let used: u64 = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
        assert!(used < Bytes::mib(16).0, "it is gone from the disk too: {used}");

        // And now three quarters.
        ring.share = share(free * 4);
        ring.look_at = None;
        let refused = ring.append(&frames.next()).unwrap_err();
        let StoreError::Io { source, .. } = &refused else { panic!("{refused}") };
        assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
        assert!(source.to_string().contains("nearly full"), "{source}");
        let last = ring.last().unwrap().seq;
        drop(ring);
        assert!(OnDisk::open_again(dir.path(), share(free * 4), &stats).is_err(), "not before there is room");

        let mut ring = OnDisk::open_again(dir.path(), share(0), &stats).unwrap();
        assert_eq!(ring.last().unwrap().seq, last, "what it held it holds");
        frames.encoder.restart();
        let records = [frames.encoder.header(), frames.next()].concat();
        ring.append(&records).unwrap();
        assert_eq!(stats.ring_limit_bytes.get(), WANTED.bytes.0);
    }
}
