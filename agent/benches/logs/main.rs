//! What a window of 15 minutes costs out of 24 hours of container logs, beside `grep` over the same files, and, rotated as
//! kubelet does it, beside `zcat` and `awk`: CPU time of both in one run, and whether both found the same bytes.
//!
//! `cargo bench -p casefile-agent --bench logs [-- MEGABYTES PODS [DIR]]`: 4096 MB over 40 pods by default, made in DIR (the
//! temporary directory) and removed again; about three minutes and 7 GB. All read from the page cache: writing the data
//! has put it there. What the levels of deflate would give on the same text is printed too.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a measurement that cannot be made should say so and stop; three digits of it are printed"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "the tools to compare with are run here, by a bench and not by the agent"
)]

mod data;
mod levels;
mod tools;

use std::collections::BTreeMap;
use std::ops::ControlFlow::{self, Continue};
use std::path::{Path, PathBuf};
use std::time::Duration;

use casefile_agent::host::Host;
use casefile_agent::logs::{ALL, LogAsk, LogConfig, LogSink, Selection, Stop};
use casefile_proto::gap::Gap;
use casefile_proto::item::ItemHead;
use casefile_proto::time::{WallTime, Window};
use casefile_proto::units::Bytes;
use rustix::time::{ClockId, clock_gettime};
use sha2::{Digest as _, Sha256};

use data::Logs;
use tools::Ran;

/// As often is each measured; the best of them counts. The tools take seconds.
const RUNS: usize = 5;
const RUNS_OF_TOOLS: usize = 3;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let number = |i: usize, otherwise| args.get(i).map_or(otherwise, |a| a.parse::<u64>().unwrap());
    let (megabytes, pods) = (number(0, 4096), number(1, 40).max(1));
    let dir = args.get(2).map_or_else(std::env::temp_dir, PathBuf::from);
    let (for_plain, for_rotated) = (tempfile::tempdir_in(&dir).unwrap(), tempfile::tempdir_in(&dir).unwrap());

    let plain = data::plain(for_plain.path(), pods, megabytes * 1_000_000);
    println!("{:.2} GB in {pods} plain files", plain.size() as f64 / 1e9);
    let mut ours = extract("plain", &plain);
    let theirs = best("grep", &plain, &mut ours, || tools::grep(&plain.files().collect::<Vec<_>>()));
    figure("plain pod logs: CPU beside grep", &ours, theirs, (40.0, 50.0));
    let mut packer = levels::Packer::default();
    let took = cpu(|| read(&plain.root, &mut packer));
    levels::print_pipeline(&packer, took);
    levels::measure(&plain.files().collect::<Vec<_>>());

    let rotated = data::rotated(for_rotated.path(), &plain);
    let (size, packed) = (rotated.size() as f64 / 1e9, rotated.packed());
    let left = rotated.files().count() - packed;
    println!("the same lines, rotated: {size:.2} GB in {packed} .gz and {left} plain files");
    let mut ours = extract("rotated", &rotated);
    let files: Vec<_> = rotated.files().collect();
    let mut fastest = None;
    for filter in &tools::FILTERS {
        let ran = best(&format!("zcat | {}", filter.name), &rotated, &mut ours, || tools::zcat(&files, filter));
        if filter.is_awk() {
            fastest = [fastest, ran].into_iter().flatten().min();
        }
    }
    figure("rotated pod logs: CPU beside zcat | awk", &ours, fastest, (20.0, 25.0));
}

/// What was found, item by item, and what it cost.
struct Ours {
    cpu: Duration,
    records: u64,
}

/// Reads the window, best of some runs, and holds what was found against the tools' bytes.
fn extract(what: &str, logs: &Logs) -> Ours {
    let mut count = Count::default();
    // Forgets how much was resident at most until now: making the logs took some.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let took = (0..RUNS).map(|_| {
        count = Count::default();
        cpu(|| read(&logs.root, &mut count))
    });
    let took = took.min().unwrap();
    println!(
        "pods log source, {what:<8} {:>9.2} ms of CPU, {} records, {} bytes, {} gaps",
        took.as_secs_f64() * 1e3,
        count.records,
        count.bytes,
        count.gaps
    );
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).map_or("unknown", str::trim);
    println!("{peak} resident at most, the bench itself included");
    let mut kept = Digests::default();
    read(&logs.root, &mut kept);
    for files in &logs.containers {
        let dir = files[0].parent().unwrap().strip_prefix(&logs.root).unwrap().to_str().unwrap();
        let item = format!("{}.log", dir.replacen("var/log/", "logs/", 1));
        match tools::content(files) {
            Ok(content) => assert_eq!(kept.items.get(&item), Some(&content), "other bytes of {item}"),
            Err(e) => return ours_unchecked(took, &count, &e),
        }
    }
    println!("byte comparison  {} items, each the same as zcat and grep give", kept.items.len());
    Ours { cpu: took, records: count.records }
}

fn ours_unchecked(cpu: Duration, count: &Count, why: &std::io::Error) -> Ours {
    println!("byte comparison  not made: {why}");
    Ours { cpu, records: count.records }
}

/// The best of some runs of a tool. Ours runs before each of them again: the machine is never quiet for long, and both are
/// to have had the same chances.
fn best(name: &str, logs: &Logs, ours: &mut Ours, run: impl Fn() -> std::io::Result<Ran>) -> Option<Ran> {
    let each = |_| {
        ours.cpu = ours.cpu.min(cpu(|| read(&logs.root, &mut Count::default())));
        run()
    };
    match (0..RUNS_OF_TOOLS).map(each).collect::<std::io::Result<Vec<_>>>() {
        Err(e) => {
            println!("{name:<25}not measured: {e}");
            None
        }
        Ok(runs) => {
            let best = runs.into_iter().min()?;
            println!("{name:<25}{:>9.2} ms of CPU, {} lines", best.cpu.as_secs_f64() * 1e3, best.lines);
            Some(best)
        }
    }
}

fn figure(name: &str, ours: &Ours, theirs: Option<Ran>, (must, aim): (f64, f64)) {
    let Some(theirs) = theirs else { return println!("figure | {name} | not measured | ≤ 1/{must} | MISSED") };
    assert_eq!(theirs.lines, ours.records, "the tool and we found different records");
    let times = theirs.cpu.as_secs_f64() / ours.cpu.as_secs_f64();
    println!("ours, best of all runs   {:>9.2} ms of CPU", ours.cpu.as_secs_f64() * 1e3);
    let verdict = if times >= must { "reached" } else { "MISSED" };
    println!("figure | {name} | 1/{times:.0} | ≤ 1/{must} (aim 1/{aim}) | {verdict}");
}

fn read(root: &Path, sink: &mut dyn LogSink) {
    let ask = LogAsk { window: data::window(), budget: Bytes::mib(1 << 20), select: Selection::default() };
    let spec = ALL.iter().find(|s| s.name == "pods").unwrap();
    (spec.open)(&Host::new(root).unwrap(), &LogConfig::default()).read(&ask, sink);
}

fn cpu(work: impl FnOnce()) -> Duration {
    let before = cpu_of_this_process();
    work();
    cpu_of_this_process() - before
}

pub(crate) fn cpu_of_this_process() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

/// Takes everything and keeps nothing.
#[derive(Default)]
struct Count {
    records: u64,
    bytes: u64,
    gaps: usize,
}

impl LogSink for Count {
    fn begin(&mut self, _head: ItemHead) -> ControlFlow<Stop> {
        Continue(())
    }
    fn record(&mut self, _at: WallTime, bytes: &[u8]) -> ControlFlow<Stop> {
        self.records += 1;
        self.bytes += bytes.len() as u64;
        Continue(())
    }
    fn end(&mut self, _covered: Option<Window>, gaps: Vec<Gap>) -> ControlFlow<Stop> {
        self.gaps += gaps.len();
        Continue(())
    }
}

/// The digest of every item.
#[derive(Default)]
struct Digests {
    items: BTreeMap<String, [u8; 32]>,
    open: Option<(String, Sha256)>,
}

impl LogSink for Digests {
    fn begin(&mut self, head: ItemHead) -> ControlFlow<Stop> {
        self.open = Some((head.path.as_str().to_owned(), Sha256::new()));
        Continue(())
    }
    fn record(&mut self, _at: WallTime, bytes: &[u8]) -> ControlFlow<Stop> {
        self.open.as_mut().unwrap().1.update(bytes);
        Continue(())
    }
    fn end(&mut self, _covered: Option<Window>, _gaps: Vec<Gap>) -> ControlFlow<Stop> {
        let (item, sha256) = self.open.take().unwrap();
        self.items.insert(item, sha256.finalize().into());
        Continue(())
    }
}
