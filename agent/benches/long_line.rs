//! What a line of 10 GiB without an end costs: memory over the same collection without it, how long other logs wait for it,
//! how late a recorder at 1 Hz gets meanwhile, and how long a cancel takes.
//!
//! `cargo bench -p casefile-agent --bench long_line [-- GIB]`. The line is written to the temporary directory (`TMPDIR`), which
//! needs the room; not a part of what `bench/run` does by itself.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement that cannot be made should say so and stop; a recorder waits for its next second"
)]

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use casefile_agent::collect::{Ask, Context, ItemSink, LeftBehind, SinkError, collect};
use casefile_agent::host::Host;
use casefile_agent::logs::{LogConfig, Selection};
use casefile_agent::redaction::{Masking, Redaction};
use casefile_agent::sources::{ALL, Measurement, Opened};
use casefile_evidence::archive::chunk::Chunk;
use casefile_proto::ids::{BootId, ItemNumber};
use casefile_proto::item::{ItemHead, ItemTail};
use casefile_proto::time::Window;
use casefile_proto::units::Bytes;

/// The item of the line.
const LONG: &str = "logs/files/var/log/long.log";

struct Sink<'a> {
    began: Instant,
    /// When the last item was ended that is not the line.
    others: Duration,
    /// When the line was begun.
    long: Option<Duration>,
    /// Set when the line was begun and so much time has passed.
    stop: &'a AtomicBool,
    cancel: bool,
    in_long: bool,
}

impl ItemSink for Sink<'_> {
    fn begin(&mut self, _number: ItemNumber, head: &ItemHead) -> Result<(), SinkError> {
        self.in_long = head.path.as_str() == LONG;
        if self.in_long {
            self.long = Some(self.began.elapsed());
            self.stop.store(self.cancel, Relaxed);
        }
        Ok(())
    }
    fn chunk(&mut self, _chunk: Chunk) -> Result<(), SinkError> {
        Ok(())
    }
    fn end(&mut self, _tail: &ItemTail) -> Result<(), SinkError> {
        if !self.in_long {
            self.others = self.began.elapsed();
        }
        Ok(())
    }
    fn progress(&mut self, _source: &str, _records: u64, _bytes: u64) {}
}

fn main() {
    let gib = std::env::args().skip(1).find_map(|a| a.parse::<u64>().ok()).unwrap_or(10);
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let text: String = (0..60).map(|s| format!("2026-11-23T00:00:{s:02}Z stdout F x\n")).collect();
    for n in 0..40 {
        write(&format!("var/log/pods/shop_api-{n}_u/app/0.log"), &text);
        write(&format!("var/log/app-{n}.log"), &text);
    }
    let (without, usual, ..) = run(dir.path(), false);
    println!("without the line: {without:?}, at most {usual} KiB held");

    let mut file = BufWriter::with_capacity(1 << 20, File::create(dir.path().join("var/log/long.log")).unwrap());
    file.write_all(b"2026-11-23T00:00:01Z ").unwrap();
    for _ in 0..gib << 10 {
        file.write_all(&[b'x'; 1 << 20]).unwrap();
    }
    file.flush().unwrap();
    drop(file);

    let (took, most, others, late) = run(dir.path(), false);
    println!(
        "with {gib} GiB in one line: {took:?}, at most {most} KiB held; other logs after {others:?}; a tick late by {late:?}"
    );
    let (cancelled, ..) = run(dir.path(), true);
    println!("cancelled when the line was begun: {cancelled:?} in all");
    let verdict = |reached: bool| if reached { "reached" } else { "MISSED" };
    let over = most.saturating_sub(usual);
    println!(
        "figure | a line of {gib} GiB: memory over the baseline | {over} KiB | ≤ 8192 KiB | {}",
        verdict(over <= 8192)
    );
    let second = Duration::from_secs(1);
    let delay = others.saturating_sub(without);
    println!(
        "figure | a line of {gib} GiB: other logs are delayed by | {delay:?} | ≤ 1 s | {}",
        verdict(delay <= second)
    );
    println!(
        "figure | a line of {gib} GiB: a tick at 1 Hz is late by | {late:?} | ≤ 1 s | {}",
        verdict(late <= second)
    );
    let answer = cancelled.saturating_sub(without);
    println!(
        "figure | a line of {gib} GiB: a cancel is answered in | {answer:?} | ≤ 1 s | {}",
        verdict(answer <= second)
    );
}

/// One collection beside a recorder: how long it took, the most that was held in KiB, when the last other item was there,
/// and by how much the latest tick was late.
fn run(root: &Path, cancel: bool) -> (Duration, u64, Duration, Duration) {
    let context = Context {
        boot: BootId::from_bytes([7; 16]),
        host: Host::new(root).unwrap(),
        node: "n-1".parse().unwrap(),
        clock: casefile_agent::clock::system(),
        ring_dir: None,
        sources: vec![],
        logs: LogConfig::builtin(),
        redaction: Arc::new(Redaction::for_once(Masking::default(), Path::new("/nonexistent")).unwrap()),
        left_behind: LeftBehind::default(),
    };
    let window = Window::new("2026-11-23T00:00:00Z".parse().unwrap(), "2026-11-24T00:00:00Z".parse().unwrap()).unwrap();
    let ask = Ask {
        window,
        budget: Bytes::mib(256),
        deadline: Duration::from_secs(3600),
        sources: vec!["files".to_owned(), "pods".to_owned()],
        select: Selection::default(),
        clock: None,
    };
    let (stop, done) = (AtomicBool::new(false), AtomicBool::new(false));
    // Sets what was the most back to what is held now (proc(5), clear_refs).
    fs::write("/proc/self/clear_refs", "5").unwrap();
    std::thread::scope(|scope| {
        let recorder = scope.spawn(|| record(&done));
        let began = Instant::now();
        let mut sink = Sink { began, others: Duration::ZERO, long: None, stop: &stop, cancel, in_long: false };
        collect(&context, &ask, &stop, &mut sink);
        let took = began.elapsed();
        done.store(true, Relaxed);
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let most = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
        let most = most.trim().trim_end_matches(" kB").parse().unwrap();
        (took, most, sink.others, recorder.join().unwrap())
    })
}

/// Measures this machine each second; by how much a tick was late at most.
fn record(done: &AtomicBool) -> Duration {
    let host = Host::new(Path::new("/")).unwrap();
    let mut sources: Vec<_> = ALL
        .iter()
        .filter(|s| ["cpu", "memory", "disk", "network"].contains(&s.name))
        .filter_map(|s| match (s.open)(&host) {
            Ok(Opened::Ready(source)) => Some((source, Measurement::new(s.metrics))),
            _ => None,
        })
        .collect();
    let (mut next, mut late) = (Instant::now(), Duration::ZERO);
    while !done.load(Relaxed) {
        for (source, out) in &mut sources {
            out.begin();
            // It is about the time that it takes.
            let _ = source.measure(out);
        }
        late = late.max(next.elapsed());
        next += Duration::from_secs(1);
        while Instant::now() < next && !done.load(Relaxed) {
            std::thread::sleep(Duration::from_millis(10).min(next.saturating_duration_since(Instant::now())));
        }
    }
    late
}
