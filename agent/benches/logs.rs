//! What a window of 15 minutes costs out of 24 hours of container logs, beside `grep` for the same minutes over the same
//! files in the same run: CPU time of both, and whether both found the same records.
//!
//! `cargo bench -p casefile-agent --bench logs [-- MEGABYTES PODS]`: 1024 MB over 10 pods by default, made in the temporary
//! directory and removed again. Both read from the page cache: writing the data has put it there.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that cannot be made should say so and stop"
)]
#![expect(clippy::disallowed_methods, reason = "the tool to compare with is run here, by a bench and not by the agent")]

use std::fs::{self, File};
use std::io::{self, BufWriter, Read as _, Write as _};
use std::ops::ControlFlow::{self, Continue};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use casefile_agent::host::Host;
use casefile_agent::logs::{ALL, LogAsk, LogConfig, LogSink, Selection, Stop};
use casefile_proto::gap::Gap;
use casefile_proto::item::ItemHead;
use casefile_proto::time::{WallTime, Window};
use casefile_proto::units::Bytes;
use rustix::time::{ClockId, clock_gettime};

/// As often is each measured; the best of them counts.
const RUNS: usize = 5;

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

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|a| a.parse::<u64>().ok());
    let (megabytes, pods) = (numbers.next().unwrap_or(1024), numbers.next().unwrap_or(10).max(1));
    let root = tempfile::tempdir().unwrap();
    let files: Vec<PathBuf> = (0..pods).map(|pod| write_log(root.path(), pod, megabytes * 1_000_000 / pods)).collect();
    let size: u64 = files.iter().map(|f| f.metadata().unwrap().len()).sum();

    let (mut ours, mut count) = (Duration::MAX, Count::default());
    for _ in 0..RUNS {
        count = Count::default();
        let before = cpu_of_this_process();
        extract(root.path(), &mut count);
        ours = ours.min(cpu_of_this_process() - before);
    }
    println!(
        "{size} bytes in {pods} files; window of 15 minutes: {} records, {} bytes, {} gaps",
        count.records, count.bytes, count.gaps
    );
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).map_or("unknown", str::trim);
    println!("pods log source   {:>9.2} ms of CPU, {peak} resident at most", ours.as_secs_f64() * 1e3);
    match (0..RUNS).map(|_| grep(&files)).collect::<io::Result<Vec<_>>>() {
        Err(e) => println!("grep              not measured: {e}"),
        Ok(runs) => {
            let (theirs, lines) = runs.into_iter().min().unwrap();
            println!("grep              {:>9.2} ms of CPU, {lines} lines", theirs.as_secs_f64() * 1e3);
            let times = theirs.as_secs_f64() / ours.as_secs_f64();
            let verdict = if times >= 40.0 { "reached" } else { "MISSED" };
            println!("ratio             {times:>9.1}");
            println!("figure | window out of plain pod logs: CPU beside grep | 1/{times:.0} | ≤ 1/40 | {verdict}");
            assert_eq!(lines, count.records, "grep and we found different records");
        }
    }
}

fn extract(root: &Path, count: &mut Count) {
    let window = Window::new("2026-11-23T12:00:00Z".parse().unwrap(), "2026-11-23T12:15:00Z".parse().unwrap()).unwrap();
    let ask = LogAsk { window, budget: Bytes::mib(1 << 20), select: Selection::default() };
    let spec = ALL.iter().find(|s| s.name == "pods").unwrap();
    (spec.open)(&Host::new(root).unwrap(), &LogConfig::default()).read(&ask, count);
}

/// A day of lines of 60 to 250 bytes, evenly spread.
fn write_log(root: &Path, pod: u64, size: u64) -> PathBuf {
    let dir = root.join(format!("var/log/pods/shop_api-{pod}_0a1b2c3d/app"));
    fs::create_dir_all(&dir).unwrap();
    let path = dir.join("0.log");
    let mut file = BufWriter::with_capacity(1 << 20, File::create(&path).unwrap());
    let lines = (size / 155).max(1);
    let begin: WallTime = "2026-11-23T00:00:00Z".parse().unwrap();
    // A fixed sequence, so that every run measures the same bytes.
    let mut random = pod.wrapping_add(0x9e37_79b9_7f4a_7c15);
    for line in 0..lines {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let nanos = u128::from(line) * 86_400_000_000_000 / u128::from(lines) + u128::from(random >> 54);
        let at = begin.after(Duration::from_nanos(u64::try_from(nanos).unwrap()));
        let stream = if random >> 61 == 0 { "stderr" } else { "stdout" };
        let padding = "abcdefghijklmnopqrstuvwxyz0123456789".repeat(6);
        let padding = &padding[..usize::try_from(random >> 33).unwrap() % 190];
        writeln!(file, "{at} {stream} F level=info msg=served id={line} user=u{} {padding}", random >> 56).unwrap();
    }
    file.flush().unwrap();
    path
}

fn cpu_of_this_process() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

/// CPU time and lines of the fastest that `grep` can do here: fixed prefixes, no locale.
fn grep(files: &[PathBuf]) -> io::Result<(Duration, u64)> {
    let before = cpu_of_children()?;
    let mut child = Command::new("grep")
        .env("LC_ALL", "C")
        .args(["-h", "-e", "^2026-11-23T12:0", "-e", "^2026-11-23T12:1[0-4]"])
        .args(files)
        .stdout(Stdio::piped())
        .spawn()?;
    let (mut out, mut lines) = (child.stdout.take().unwrap(), 0);
    let mut buf = vec![0; 1 << 16];
    loop {
        match out.read(&mut buf)? {
            0 => break,
            n => lines += buf[..n].iter().filter(|b| **b == b'\n').count() as u64,
        }
    }
    child.wait()?;
    Ok((cpu_of_children()? - before, lines))
}

/// User and system time of the children that were waited for, in ticks of 10 ms.
fn cpu_of_children() -> io::Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = after_name.split_ascii_whitespace().skip(13).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}
