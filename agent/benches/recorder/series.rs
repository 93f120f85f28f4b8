//! What recognising series costs: as many readings as a node with 400 processes could give at once, with caches as cold
//! as they are when a recorder wakes once a second on a busy machine.

use std::time::{Duration, Instant};

use casefile_agent::sources::Measurement;
use casefile_proto::sample::{MetricKind, MetricSpec};
use casefile_proto::units::{Scale, Unit};

const READINGS: usize = 5_600;
const ROUNDS: u32 = 50;

/// More than any cache that a core has for itself, and most that it shares.
const OTHERS: usize = 64 << 20;

static METRICS: &[MetricSpec] = &[MetricSpec {
    name: "namedprocess_bench_seconds_total",
    help: "",
    kind: MetricKind::Counter,
    unit: Unit::Seconds,
    scale: Scale::CENTI,
    labels: &["pid", "comm", "container"],
}];

pub(crate) fn measure() {
    let pids: Vec<String> = (0..READINGS).map(|n| (1000 + n * 7).to_string()).collect();
    let mut measurement = Measurement::new(METRICS);
    let mut others = vec![0u8; OTHERS];
    let (mut warm, mut cold) = (Duration::ZERO, Duration::ZERO);
    for round in 0..=2 * ROUNDS {
        let is_cold = round % 2 == 0;
        if is_cold {
            others.iter_mut().step_by(64).for_each(|b| *b = b.wrapping_add(1));
        }
        let began = Instant::now();
        measurement.begin();
        for pid in &pids {
            measurement.reading(&METRICS[0], &[pid, "postgres: writer", "0a1b2c3d-1111-2222-3333-444455556666"], 1);
        }
        let took = began.elapsed();
        match (round, is_cold) {
            // Everything is defined in the first.
            (0, _) => {}
            (_, true) => cold += took,
            (_, false) => warm += took,
        }
    }
    std::hint::black_box(others);
    let micros = |total: Duration| (total / ROUNDS).as_micros();
    let (warm, cold) = (micros(warm), micros(cold));
    let verdict = if cold < 300 { "ok" } else { "MISSED" };
    println!("figure | recognising {READINGS} series | {warm} µs, {cold} µs with cold caches | < 300 µs | {verdict}");
}
