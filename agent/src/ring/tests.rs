//! The ring over a disk that fills, fails and hangs.

use casefile_evidence::recording::delta::{Decoded, Decoder};
use casefile_proto::ids::BootId;
use casefile_proto::sample::{
    MetricDef, MetricIndex, MetricKind, Outcome, Reading, Sample, Schema, SeriesDef, SeriesId, SourceDef, SourceIndex,
};
use casefile_proto::time::{BootTime, Stamp};
use casefile_proto::units::{Scale, Unit};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn header() -> Header {
    let metric = MetricDef {
        name: "m".to_owned(),
        help: String::new(),
        kind: MetricKind::Gauge,
        unit: Unit::Count,
        scale: Scale::ONE,
        labels: vec![],
    };
    let source = SourceDef {
        name: "s".to_owned(),
        about: String::new(),
        every_nanos: 1_000_000_000,
        deadline_nanos: 1_000_000_000,
        metrics: vec![metric],
    };
    Header {
        node: "n".parse().unwrap(),
        boot: BootId::from_bytes([1; 16]),
        agent_version: "0".to_owned(),
        schema: Arc::new(Schema { sources: vec![source] }),
    }
}

/// Its only series is defined in the frame number 1 and in no other.
fn frame(seq: u64) -> Frame {
    let id = SeriesId(0);
    let def = SeriesDef { metric: MetricIndex(0), labels: Box::new([]) };
    let sample = Sample {
        source: SourceIndex(0),
        outcome: Outcome::Complete,
        took_nanos: 1,
        defined: if seq == 1 { vec![(id, def)] } else { vec![] },
        readings: vec![Reading { series: id, value: i64::try_from(seq).unwrap() }],
    };
    let at = Stamp {
        wall: WallTime::from_secs(1_000 + i64::try_from(seq).unwrap()),
        boot: BootTime::from_nanos(seq * 1_000_000_000),
    };
    Frame { boot: BootId::from_bytes([1; 16]), seq: FrameSeq(seq), at, samples: vec![sample], events: vec![] }
}

#[derive(Default)]
struct DiskState {
    full: bool,
    hangs: bool,
    panics: bool,
    written: Vec<u8>,
    syncs: u32,
}

/// A disk whose mood the test sets.
#[derive(Clone, Default)]
struct Disk(Arc<(Mutex<DiskState>, Condvar)>);

impl Disk {
    fn set(&self, change: impl FnOnce(&mut DiskState)) {
        change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
    }

    fn open(&self) -> Open {
        let disk = self.clone();
        Box::new(move || if disk.0.0.lock().unwrap().full { Err(no_space()) } else { Ok(Box::new(disk.clone())) })
    }

    fn ring(&self, last: Option<FrameSeq>) -> (Ring, Arc<Stats>) {
        let stats = Arc::new(Stats::new(&[]));
        let ring = Ring::start(&header(), Some(Box::new(self.clone())), self.open(), last, SECOND, &stats).unwrap();
        (ring, stats)
    }

    /// What a reader finds: `f3=3` is frame 3 whose reading is 3, `h4-6:3` a hole of three frames from 4 to 6.
    fn read(&self) -> Vec<String> {
        let state = self.0.0.lock().unwrap();
        let (mut decoder, mut rest, mut found) = (Decoder::new(), state.written.as_slice(), vec![]);
        while let Some((decoded, len)) = decoder.next(rest).unwrap() {
            rest = &rest[len..];
            match decoded {
                Decoded::Header(_) => {}
                Decoded::Frame(f) => found.push(format!("f{}={}", f.seq, f.samples[0].readings[0].value)),
                Decoded::Hole(h) => {
                    let (first, last) = h.seqs.unwrap();
                    found.push(format!("h{first}-{last}:{}", h.gap.count.unwrap_or(0)));
                }
                Decoded::Block(_) => unreachable!("an encoder makes no blocks"),
            }
        }
        found
    }
}

fn no_space() -> StoreError {
    let source = std::io::Error::from_raw_os_error(28);
    StoreError::Io { doing: "append to", path: "tail".into(), source }
}

impl Keep for Disk {
    fn append(&mut self, records: &[u8]) -> Result<(), StoreError> {
        let state = self.0.0.lock().unwrap();
        let mut state = self.0.1.wait_while(state, |s| s.hangs).unwrap();
        if state.full {
            return Err(no_space());
        }
        if std::mem::take(&mut state.panics) {
            drop(state);
            panic!("a bug");
        }
        state.written.extend_from_slice(records);
        Ok(())
    }
    fn sync(&mut self) -> Result<(), StoreError> {
        self.0.0.lock().unwrap().syncs += 1;
        Ok(())
    }
    fn held(&self) -> Bytes {
        Bytes(self.0.0.lock().unwrap().written.len() as u64)
    }
}

/// Appends, and waits until the writer has dealt with it, however slow the machine is.
fn append(ring: &mut Ring, seq: u64, now: Instant) {
    ring.append(&frame(seq), now);
    let busy = |ring: &Ring| {
        let state = ring.shared.state();
        ring.lost.is_none() && state.failed.is_none() && state.written < Some(FrameSeq(seq))
    };
    while busy(ring) {
        std::thread::yield_now();
    }
    ring.learn_of_failure(now);
}

#[test]
fn every_frame_is_written_and_synced_in_time() {
    let disk = Disk::default();
    let (mut ring, stats) = disk.ring(None);
    for seq in 1..=SYNC_EVERY.into() {
        ring.append(&frame(seq), Instant::now());
    }
    ring.close();
    assert_eq!(disk.read(), (1..=10).map(|n| format!("f{n}={n}")).collect::<Vec<_>>());
    // Once in time, once at the end.
    assert_eq!(disk.0.0.lock().unwrap().syncs, 2);
    assert_eq!(stats.ring_frames_lost.get(), 0);
}

#[test]
fn what_a_full_disk_lost_is_declared_when_there_is_space_again() {
    let disk = Disk::default();
    let (mut ring, stats) = disk.ring(None);
    let now = Instant::now();
    for seq in 1..=3 {
        append(&mut ring, seq, now);
    }
    disk.set(|d| d.full = true);
    for seq in 4..=6 {
        append(&mut ring, seq, now);
    }
    // Tried again a second later, in vain.
    append(&mut ring, 7, now + SECOND);
    disk.set(|d| d.full = false);
    // The second try is two seconds after the first.
    append(&mut ring, 8, now + 2 * SECOND);
    append(&mut ring, 9, now + 4 * SECOND);
    append(&mut ring, 10, now + 4 * SECOND);
    ring.close();
    assert_eq!(disk.read(), ["f1=1", "f2=2", "f3=3", "h4-8:5", "f9=9", "f10=10"]);
    assert_eq!((stats.ring_frames_lost.get(), stats.ring_errors.get()), (5, 2));
}

#[test]
fn a_ring_that_could_not_be_opened_is_tried_again() {
    let disk = Disk::default();
    let stats = Arc::new(Stats::new(&[]));
    disk.set(|d| d.full = true);
    let mut ring = Ring::start(&header(), None, disk.open(), None, SECOND, &stats).unwrap();
    let now = Instant::now();
    append(&mut ring, 1, now);
    disk.set(|d| d.full = false);
    append(&mut ring, 2, now + SECOND);
    ring.close();
    assert_eq!(disk.read(), ["h1-1:1", "f2=2"]);
}

#[test]
fn a_bug_in_writing_costs_one_frame_and_is_declared() {
    let disk = Disk::default();
    let (mut ring, _) = disk.ring(None);
    let now = Instant::now();
    append(&mut ring, 1, now);
    disk.set(|d| d.panics = true);
    append(&mut ring, 2, now);
    append(&mut ring, 3, now + SECOND);
    ring.close();
    assert_eq!(disk.read(), ["f1=1", "h2-2:1", "f3=3"]);
}

#[test]
fn a_disk_that_hangs_stops_nobody_and_its_loss_is_declared() {
    let disk = Disk::default();
    let (mut ring, stats) = disk.ring(None);
    let now = Instant::now();
    append(&mut ring, 1, now);
    disk.set(|d| d.hangs = true);
    ring.append(&frame(2), now);
    while !ring.shared.state().queue.is_empty() {
        std::thread::yield_now();
    }
    // One is being written, as many as fit wait, three are lost.
    let queued = 2 + MAX_QUEUED as u64;
    for seq in 3..=queued + 3 {
        ring.append(&frame(seq), now);
    }
    assert_eq!(stats.ring_frames_lost.get(), 3);
    disk.set(|d| d.hangs = false);
    // When the queue has room again is for the writer to say.
    let mut seq = queued + 3;
    while stats.ring_written_bytes.get() == 0 || ring.lost.is_some() {
        seq += 1;
        ring.append(&frame(seq), now);
        std::thread::yield_now();
    }
    ring.close();
    let read = disk.read();
    let lost = usize::try_from(queued).unwrap();
    assert_eq!(read[lost - 1], format!("f{queued}={queued}"));
    assert_eq!(read[lost], format!("h{}-{}:{}", queued + 1, seq - 1, seq - 1 - queued));
    assert_eq!(read[lost + 1..], [format!("f{seq}={seq}")]);
}

#[test]
fn numbers_that_are_left_out_are_declared_too() {
    let disk = Disk::default();
    let (mut ring, _) = disk.ring(None);
    ring.append(&frame(1), Instant::now());
    ring.append(&frame(100), Instant::now());
    ring.append(&frame(101), Instant::now());
    ring.close();
    assert_eq!(disk.read(), ["f1=1", "h2-99:0", "f100=100", "f101=101"]);
}
