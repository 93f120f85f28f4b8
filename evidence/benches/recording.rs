//! What a tick costs: bytes in the tail and at rest, microseconds to encode and decode, milliseconds to close a block.
//!
//! `cargo bench -p casefile-evidence --bench recording`. The load is made up: 717 values of the node, 60 % of them
//! counters, and 376 processes of 13 values, of which the busy ones are read at every tick and the others in ten turns.
#![expect(clippy::unwrap_used, reason = "a measurement that fails has nothing to say")]
#![expect(clippy::print_stdout, reason = "its figures are its output")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use casefile_evidence::recording::delta::{Decoder, Encoder};
use casefile_evidence::recording::reader::Recording;
use casefile_evidence::recording::segment::{Retention, Store};
use casefile_evidence::recording::{BLOCK_TICKS, Header};
use casefile_proto::ids::{BootId, FrameSeq};
use casefile_proto::sample::{
    Frame, MetricDef, MetricIndex, MetricKind, Outcome, Reading, Sample, Schema, SeriesDef, SeriesId, SourceDef,
    SourceIndex,
};
use casefile_proto::time::{BootTime, Stamp, WallTime, Window};
use casefile_proto::units::{Bytes, Scale, Unit};

const NODE_SOURCES: usize = 8;
const NODE_VALUES: usize = 717;
const PROCESSES: usize = 376;
const VALUES: usize = 13;
const SWEEP: usize = 10;
const TICKS: usize = 20 * BLOCK_TICKS;

/// How much moves at a tick.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    /// Percent of the node's counters, and of its gauges.
    counters: u64,
    gauges: u64,
    processes: usize,
}

const LOADS: [Load; 2] = [
    Load { name: "quiet", counters: 20, gauges: 5, processes: 6 },
    Load { name: "busy", counters: 70, gauges: 30, processes: 60 },
];

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn metric(name: String, kind: MetricKind, labels: &[&str]) -> MetricDef {
    let labels = labels.iter().map(|&l| l.to_owned()).collect();
    let help = "A sentence that says what it is, and from which file of the kernel the number comes.".to_owned();
    MetricDef { name, help, kind, unit: Unit::Count, scale: Scale::ONE, labels }
}

fn header() -> Header {
    let source = |name: String, metrics| SourceDef {
        name,
        about: "One sentence about what it reads and what it is for.".to_owned(),
        every_nanos: 1_000_000_000,
        deadline_nanos: 500_000_000,
        metrics,
    };
    let mut sources: Vec<_> = (0..NODE_SOURCES)
        .map(|s| {
            let metrics = (0..12).map(|m| metric(format!("node_s{s}_m{m}_total"), MetricKind::Counter, &["device"]));
            source(format!("source{s}"), metrics.collect())
        })
        .collect();
    let process = (0..VALUES).map(|m| metric(format!("process_m{m}_total"), MetricKind::Counter, &["pid", "comm"]));
    sources.push(source("process".to_owned(), process.collect()));
    Header {
        node: "node-1".parse().unwrap(),
        boot: BootId::from_bytes([1; 16]),
        agent_version: "0.1.0".to_owned(),
        schema: Arc::new(Schema { sources }),
    }
}

fn make(load: Load) -> Vec<Frame> {
    let mut dice = Dice(0x1234_5678_9abc_def1);
    let mut node: Vec<i64> = (0..NODE_VALUES).map(|_| (dice.below(1 << 34) >> dice.below(30)).cast_signed()).collect();
    // Times, memory, faults and switches, then what is zero for most processes (swap, major faults, I/O).
    let widths: [u64; VALUES] = [12, 10, 30, 24, 16, 14, 12, 8, 1, 1, 20, 20, 4];
    let mut process: Vec<[i64; VALUES]> = (0..PROCESSES)
        .map(|_| {
            std::array::from_fn(|v| {
                let is_zero = v >= 8 && dice.below(5) > 0;
                if is_zero { 0 } else { (dice.below(1 << widths[v]) >> dice.below(widths[v])).cast_signed() }
            })
        })
        .collect();
    let mut at = Stamp { wall: WallTime::from_secs(1_795_401_850), boot: BootTime::from_nanos(100_000_000_000) };
    let mut frames = Vec::new();
    for tick in 0..TICKS {
        at = Stamp { wall: at.wall.offset(1_000_000_000), boot: BootTime::from_nanos(at.boot.nanos() + 1_000_000_000) };
        let mut samples = Vec::new();
        for source in 0..NODE_SOURCES {
            let mut sample = empty(source, 20_000 + dice.below(60_000));
            for i in (source..NODE_VALUES).step_by(NODE_SOURCES) {
                let is_counter = i % 5 < 3;
                if is_counter && dice.below(100) < load.counters {
                    node[i] += ((1 + dice.below(4000)) >> dice.below(10)).cast_signed();
                } else if !is_counter && dice.below(100) < load.gauges {
                    node[i] += dice.below(512).cast_signed() - 256;
                }
                let id = u32::try_from(i / NODE_SOURCES).unwrap();
                if tick == 0 {
                    sample.defined.push(definition(id, id % 12, &[&format!("dev{}", id / 12)]));
                }
                sample.readings.push(Reading { series: SeriesId(id), value: node[i] });
            }
            samples.push(sample);
        }
        let mut sample = empty(NODE_SOURCES, 900_000 + dice.below(500_000));
        for (p, values) in process.iter_mut().enumerate() {
            let is_busy = p * 7 % PROCESSES < load.processes;
            if !is_busy && p % SWEEP != tick % SWEEP && tick > 0 {
                continue;
            }
            for (v, value) in values.iter_mut().enumerate() {
                let moves = if is_busy { v < 7 } else { v < 2 && dice.below(4) == 0 };
                if moves {
                    *value += ((1 + dice.below(2000)) >> dice.below(9)).cast_signed();
                }
                let id = u32::try_from(p * VALUES + v).unwrap();
                if tick == 0 {
                    let (pid, comm) = ((1000 + p * 37).to_string(), format!("worker-{}", p % 40));
                    sample.defined.push(definition(id, u32::try_from(v).unwrap(), &[&pid, &comm]));
                }
                sample.readings.push(Reading { series: SeriesId(id), value: *value });
            }
        }
        samples.push(sample);
        let seq = FrameSeq(tick as u64 + 1);
        frames.push(Frame { boot: BootId::from_bytes([1; 16]), seq, at, samples, events: Vec::new() });
    }
    frames
}

fn empty(source: usize, took_nanos: u64) -> Sample {
    let source = SourceIndex(u16::try_from(source).unwrap());
    Sample { source, outcome: Outcome::Complete, took_nanos, defined: Vec::new(), readings: Vec::new() }
}

fn definition(id: u32, metric: u32, labels: &[&str]) -> (SeriesId, SeriesDef) {
    let metric = MetricIndex(u16::try_from(metric).unwrap());
    (SeriesId(id), SeriesDef { metric, labels: labels.iter().map(|&l| l.into()).collect() })
}

fn micros(time: Duration, count: usize) -> f64 {
    time.as_secs_f64() * 1e6 / count as f64
}

/// Resident memory in MiB, as the kernel counts it.
fn resident() -> f64 {
    let pages = std::fs::read("/proc/self/statm").unwrap();
    let pages = std::str::from_utf8(&pages).unwrap().split(' ').nth(1).unwrap();
    pages.parse::<f64>().unwrap() * rustix::param::page_size() as f64 / f64::from(1 << 20)
}

fn measure(load: Load) {
    let (header, frames) = (header(), make(load));
    let readings: usize = frames.iter().flat_map(|f| &f.samples).map(|s| s.readings.len()).sum();
    println!("{}: {} readings a tick, {} series", load.name, readings / TICKS, NODE_VALUES + PROCESSES * VALUES);

    let before = resident();
    let mut encoder = Encoder::new(header.clone());
    let (mut records, mut ends) = (encoder.header(), Vec::new());
    records.reserve(16 << 20);
    let start = Instant::now();
    for frame in &frames {
        encoder.frame(frame, &mut records);
        ends.push(records.len());
    }
    println!("  encode            {:8.1} µs a tick", micros(start.elapsed(), TICKS));
    let keys: usize = (0..TICKS).step_by(BLOCK_TICKS).filter(|i| *i > 0).map(|i| ends[i] - ends[i - 1]).sum();
    let keys = keys / (TICKS / BLOCK_TICKS - 1);
    let deltas: usize = (1..BLOCK_TICKS).map(|i| ends[i] - ends[i - 1]).sum::<usize>() / (BLOCK_TICKS - 1);
    println!("  header {} B, keyframe {keys} B, delta {deltas} B", encoder.header().len());
    println!("  tail and stream   {:8.0} B a tick", (ends[TICKS - 1] - ends[0]) as f64 / (TICKS - 1) as f64);

    let (mut decoder, mut rest, start) = (Decoder::new(), records.as_slice(), Instant::now());
    while let Some((_, taken)) = decoder.next(rest).unwrap() {
        rest = &rest[taken..];
    }
    println!("  decode to frames  {:8.1} µs a tick", micros(start.elapsed(), TICKS));
    drop(decoder);

    let dir = tempfile::tempdir().unwrap();
    let keep = Retention { bytes: Bytes::mib(512), age: Duration::from_secs(7 * 86_400) };
    let mut store = Store::open(dir.path(), keep).unwrap();
    store.append(&encoder.header()).unwrap();
    let (mut append, mut close, mut closes, mut from) = (Duration::ZERO, Duration::ZERO, 0, encoder.header().len());
    for (i, &end) in ends.iter().enumerate() {
        let start = Instant::now();
        store.append(&records[from..end]).unwrap();
        if i > 0 && i % BLOCK_TICKS == 0 {
            close += start.elapsed();
            closes += 1;
        } else {
            append += start.elapsed();
        }
        from = end;
    }
    println!("  append            {:8.1} µs a tick (checked, not synced)", micros(append, TICKS - closes));
    println!("  close a block     {:8.2} ms (with its sync)", micros(close, closes) / 1000.0);
    println!(
        "  store, encoder and what they left to the allocator: {:.1} MiB",
        resident() - before - records.len() as f64 / f64::from(1 << 20)
    );
    let at_rest: u64 = dir
        .path()
        .read_dir()
        .unwrap()
        .map(|e| e.unwrap())
        .filter(|e| e.file_name() != "tail")
        .map(|e| e.metadata().unwrap().len())
        .sum();
    let a_tick = at_rest as f64 / (closes * BLOCK_TICKS) as f64;
    let a_day = a_tick * 86_400.0 / f64::from(1 << 20);
    println!("  at rest           {a_tick:8.0} B a tick, {a_day:.1} MiB a day");
    println!(
        "figure | recording, {} load: at rest | {a_tick:.0} B a tick, {a_day:.0} MiB a day | see the recorder | |",
        load.name
    );

    let all = Window::new(WallTime::MIN, WallTime::MAX).unwrap();
    let (start, mut out) = (Instant::now(), Vec::new());
    let cut = Recording::open_dir(dir.path()).unwrap().cut(all, &mut out).unwrap();
    assert_eq!(cut.frames, TICKS as u64);
    println!("  cut               {:8.1} µs a tick", micros(start.elapsed(), TICKS));
    let (start, mut count) = (Instant::now(), 0);
    let mut recording = Recording::open_dir(dir.path()).unwrap();
    recording
        .pieces(None, &mut |_| {
            count += 1;
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    println!("  read              {:8.1} µs a tick", micros(start.elapsed(), TICKS));

    // A directory on the disk that holds the sources, not on a tmpfs.
    let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let mut store = Store::open(dir.path(), keep).unwrap();
    store.append(&encoder.header()).unwrap();
    let (start, count) = (Instant::now(), 2 * BLOCK_TICKS);
    let mut from = encoder.header().len();
    for &end in &ends[..count] {
        store.append(&records[from..end]).unwrap();
        store.sync().unwrap();
        from = end;
    }
    let a_second = count as f64 / start.elapsed().as_secs_f64();
    println!("  append and sync   {a_second:8.0} frames a second");
    println!(
        "figure | last words, {} load: appended and synced one by one | {a_second:.0} frames a second | none yet | |",
        load.name
    );
}

fn main() {
    LOADS.into_iter().for_each(measure);
}
