//! What it costs to look for signatures in a log in which there are none, as almost every log is.
//!
//! `cargo bench -p casefile-review --bench signatures [-- MEGABYTES]`: 64 MB of kernel log, in memory, on one core; the best of
//! several runs.
#![expect(clippy::print_stdout, reason = "a measurement prints its figures")]

use std::time::{Duration, Instant};

use casefile_review::signatures::record::Lines;

/// What a kernel says when all is well.
const ORDINARY: &str = include_str!("../src/signatures/ordinary.log");

/// On a shared machine one of them is left alone.
const RUNS: usize = 9;

fn main() {
    let megabytes: usize = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(64);
    let log = ORDINARY.repeat(megabytes * 1_000_000 / ORDINARY.len());
    let mut best = Duration::MAX;
    for _ in 0..RUNS {
        let mut lines = Lines::default();
        let began = Instant::now();
        let known = log.lines().filter(|line| lines.line(line).is_some()).count();
        best = best.min(began.elapsed());
        assert_eq!(known, 0, "the ordinary log is not ordinary");
    }
    #[expect(clippy::cast_precision_loss, reason = "some megabytes")]
    let rate = log.len() as f64 / 1e6 / best.as_secs_f64();
    let verdict = if rate >= 100.0 { "reached" } else { "MISSED" };
    println!("figure | signatures in a kernel log without any, one core | {rate:.0} MB/s | ≥ 100 MB/s | {verdict}");
}
