//! What a window of 15 minutes costs out of 24 hours of a systemd journal, beside `journalctl -o export` for the same
//! minutes of the same files in the same run: CPU time of both, and whether both gave the same bytes.
//!
//! `cargo bench -p casefile-agent --bench journal [-- MEGABYTES [DIR]]`: about 2000 MB by default, written by
//! `systemd-journal-remote` (of the package of that name) in the temporary directory and removed again; with DIR, made
//! there once and used again. Both read from the page cache: writing the data has put it there.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that cannot be made should say so and stop"
)]
#![expect(clippy::disallowed_methods, reason = "the tool to compare with is run here, by a bench and not by the agent")]

use std::fs::{self, File};
use std::io::{self, BufWriter, Read as _, Write};
use std::ops::ControlFlow::{self, Continue};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use casefile_agent::host::Host;
use casefile_agent::journal::{Export, Fragments, Journals, Walked};
use casefile_agent::logs::{ALL, LogAsk, LogConfig, LogSink, Selection, Stop};
use casefile_proto::gap::Gap;
use casefile_proto::item::ItemHead;
use casefile_proto::time::{WallTime, Window};
use casefile_proto::units::Bytes;
use rustix::time::{ClockId, clock_gettime};

/// As often is each measured; the best of them counts.
const RUNS: usize = 7;

const REMOTE: &str = "/lib/systemd/systemd-journal-remote";

/// What an entry takes on disk, about.
const BYTES_OF_AN_ENTRY: u64 = 730;

fn main() {
    let mut args = std::env::args().skip(1).filter(|a| !a.starts_with("--"));
    let megabytes = args.next().and_then(|a| a.parse::<u64>().ok()).unwrap_or(2000);
    let tmp = tempfile::tempdir().unwrap();
    let root = args.next().map_or_else(|| tmp.path().to_owned(), PathBuf::from);
    let dir = root.join("var/log/journal/0123456789abcdef0123456789abcdef");
    if !dir.exists() {
        fs::create_dir_all(&dir).unwrap();
        if let Err(e) = write_journal(&dir, megabytes * 1_000_000 / BYTES_OF_AN_ENTRY) {
            println!("not measured: {REMOTE}: {e}");
            return;
        }
    }
    let files: Vec<PathBuf> = fs::read_dir(&dir).unwrap().map(|f| f.unwrap().path()).collect();
    let size: u64 = files.iter().map(|f| f.metadata().unwrap().len()).sum();

    // First, while nothing else was done here: what it takes is the peak of the process.
    let mut count = Count::default();
    let source = best(|| {
        count = Count::default();
        extract(&root, &mut count);
    });
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).map_or("unknown", str::trim);
    let mut buffer = Vec::new();
    export(&files, &mut buffer);
    let ours = best(|| {
        let mut count = Counting(0);
        export(&files, &mut count);
        assert_eq!(count.0, buffer.len() as u64);
    });
    println!("{size} bytes in {} files; a window of 15 minutes has {} bytes as export", files.len(), buffer.len());
    println!(
        "log source: {} items, {} records, {} bytes, {} gaps",
        count.items, count.records, count.bytes, count.gaps
    );
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    println!("export, ours        {:>9.2} ms of CPU", ms(ours));
    println!("log source, whole   {:>9.2} ms of CPU", ms(source));
    println!("log source, whole   {peak} resident at most, this program and all");
    let mut theirs = Vec::new();
    let runs: io::Result<Vec<Duration>> = (0..RUNS).map(|_| journalctl(&dir, &mut theirs)).collect();
    match runs {
        Err(e) => println!("journalctl          not measured: {e}"),
        Ok(runs) => {
            let journalctl = runs.into_iter().min().unwrap();
            println!("journalctl -o export{:>9.2} ms of CPU", ms(journalctl));
            let times = journalctl.as_secs_f64() / ours.as_secs_f64();
            let verdict = if times >= 6.0 { "reached" } else { "MISSED" };
            println!(
                "figure | window out of the journal: CPU beside journalctl -o export | 1/{times:.1} | ≤ 1/6 | {verdict}"
            );
            let whole = journalctl.as_secs_f64() / source.as_secs_f64();
            println!("figure | the same as the log source gives it, text and JSON | 1/{whole:.1} | – | – |");
            let same = theirs == buffer;
            println!("figure | byte-identical with journalctl -o export | {same} | true | {} ", verdict_of(same));
            if !same {
                let at = theirs.iter().zip(&buffer).position(|(a, b)| a != b).unwrap_or(0);
                let show = |b: &[u8]| {
                    b[at.saturating_sub(200).min(b.len())..(at + 200).min(b.len())].escape_ascii().to_string()
                };
                println!(
                    "{} and {} bytes, first other at {at}:\n{}\n{}",
                    theirs.len(),
                    buffer.len(),
                    show(&theirs),
                    show(&buffer)
                );
            }
            assert!(same, "journalctl and we gave different bytes");
        }
    }
}

fn verdict_of(good: bool) -> &'static str {
    if good { "reached" } else { "MISSED" }
}

fn best(mut run: impl FnMut()) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..RUNS {
        let before = cpu_of_this_process();
        run();
        best = best.min(cpu_of_this_process() - before);
    }
    best
}

fn window() -> Window {
    Window::new("2026-11-23T12:00:00Z".parse().unwrap(), "2026-11-23T12:15:00Z".parse().unwrap()).unwrap()
}

struct Counting(u64);

impl Write for Counting {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0 += buf.len() as u64;
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn export(files: &[PathBuf], out: &mut impl Write) {
    let micros = |t: WallTime| u64::try_from(t.nanos() / 1000).unwrap();
    let mut journals = Journals::new(micros(window().from()), micros(window().until()));
    for file in files {
        journals.add(File::open(file).unwrap()).unwrap();
    }
    let mut fragments = Fragments::new(Export);
    let mut line = Vec::new();
    let mut walk = journals.walk();
    loop {
        match walk.next(&mut journals) {
            Walked::Entry(entry) => {
                line.clear();
                let row = journals.files()[entry.place().0].seqnum_id();
                Export::begin(&entry, row, &mut line);
                journals.fields(&entry, &mut fragments, |f| line.extend_from_slice(f.bytes));
                line.push(b'\n');
                out.write_all(&line).unwrap();
            }
            Walked::Busy => {}
            Walked::Again => panic!("the journal is damaged"),
            Walked::End => return,
        }
    }
}

#[derive(Default)]
struct Count {
    items: u64,
    records: u64,
    bytes: u64,
    gaps: usize,
}

impl LogSink for Count {
    fn begin(&mut self, _head: ItemHead) -> ControlFlow<Stop> {
        self.items += 1;
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

fn extract(root: &Path, count: &mut Count) {
    let ask = LogAsk { window: window(), budget: Bytes::mib(1 << 20), select: Selection::default() };
    let Some(spec) = ALL.iter().find(|s| s.name == "journal") else { return };
    (spec.open)(&Host::new(root).unwrap(), &LogConfig::default()).read(&ask, count);
}

fn journalctl(dir: &Path, out: &mut Vec<u8>) -> io::Result<Duration> {
    let mut child = Command::new("journalctl")
        .env("TZ", "UTC")
        .arg("-D")
        .arg(dir)
        .args(["-q", "-o", "export", "--since=2026-11-23 12:00:00", "--until=2026-11-23 12:15:00"])
        .stdout(Stdio::piped())
        .spawn()?;
    out.clear();
    child.stdout.take().unwrap().read_to_end(out)?;
    // Between its end and our waiting for it the kernel knows its CPU time to the nanosecond.
    let about = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", child.id()));
    while !about("stat")?.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z")) {
        std::thread::yield_now();
    }
    let ran = about("schedstat")?;
    child.wait()?;
    let nanos = ran.split_ascii_whitespace().next().and_then(|n| n.parse().ok());
    nanos.map(Duration::from_nanos).ok_or_else(|| io::Error::other("no CPU time of journalctl"))
}

/// A day of a busy node: some 60 units of a few programs each, a process or two of each that is replaced now and then.
fn write_journal(dir: &Path, entries: u64) -> io::Result<()> {
    let mut child = Command::new(REMOTE)
        .arg("-o")
        .arg(dir.join("system.journal"))
        .arg("-")
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut out = BufWriter::with_capacity(1 << 20, child.stdin.take().unwrap());
    let begin = 1_795_392_000_000_000_u64; // 2026-11-23T00:00:00Z
    // A fixed sequence, so that every run measures the same.
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for number in 0..entries {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let micros = u64::try_from(u128::from(number) * 86_400_000_000 / u128::from(entries)).unwrap();
        // Some units say much, most say little.
        let unit = ((random >> 20) % 60).min((random >> 33) % 60);
        write_entry(&mut out, begin + micros + 1 + (random >> 60), micros + 5_000_000, unit, random >> 8, number)?;
    }
    out.flush()?;
    drop(out);
    if child.wait()?.success() { Ok(()) } else { Err(io::Error::other("it failed")) }
}

fn write_entry(
    out: &mut impl Write,
    realtime: u64,
    monotonic: u64,
    unit: u64,
    random: u64,
    number: u64,
) -> io::Result<()> {
    const WORDS: &str = "accepted connection from upstream while reading response header for request served in \
                         milliseconds with status and retried after backoff because the peer closed the stream early ";
    let priority = [6, 6, 6, 6, 5, 4, 3, 6][usize::try_from(random % 8).unwrap()];
    // A process lives for some minutes or for the day.
    let pid = 1000 + unit * 500 + if unit.is_multiple_of(3) { (monotonic / 240_000_000) % 400 } else { 0 };
    let begin = usize::try_from(random % 60).unwrap();
    let words = &WORDS.repeat(4)[begin..begin + 40 + usize::try_from((random >> 10) % 400).unwrap()];
    write!(
        out,
        "__REALTIME_TIMESTAMP={realtime}\n__MONOTONIC_TIMESTAMP={monotonic}\n\
         _BOOT_ID=0f0e0d0c0b0a09080706050403020100\n_MACHINE_ID=0123456789abcdef0123456789abcdef\n_HOSTNAME=node-17\n\
         _RUNTIME_SCOPE=system\nPRIORITY={priority}\nSYSLOG_FACILITY=3\nSYSLOG_IDENTIFIER=worker-{unit}\n\
         _TRANSPORT=stdout\n_STREAM_ID={:032x}\n_PID={pid}\n_UID={}\n_GID={}\n_COMM=worker-{unit}\n\
         _EXE=/usr/local/bin/worker-{unit}\n_CMDLINE=/usr/local/bin/worker-{unit} --config /etc/worker/{unit}.toml --listen \
         0.0.0.0:{}\n_CAP_EFFECTIVE=0\n_SELINUX_CONTEXT=unconfined\\n\n_SYSTEMD_CGROUP=/system.slice/worker-{unit}.service\n\
         _SYSTEMD_UNIT=worker-{unit}.service\n_SYSTEMD_SLICE=system.slice\n_SYSTEMD_INVOCATION_ID={:032x}\n",
        u128::from(pid) << 64 | 7,
        unit % 5,
        unit % 5,
        8000 + unit,
        u128::from(unit + pid) << 32 | 11,
    )?;
    if random.is_multiple_of(3) {
        writeln!(out, "_SOURCE_REALTIME_TIMESTAMP={}", realtime - 20)?;
    }
    if random.is_multiple_of(997) {
        // Not text: a value with its length before it.
        let message = format!("id={number} \u{1b}[31m{words}\nsecond line");
        out.write_all(b"MESSAGE\n")?;
        out.write_all(&(message.len() as u64).to_le_bytes())?;
        writeln!(out, "{message}")?;
    } else if random.is_multiple_of(499) {
        // Long enough to be compressed.
        writeln!(out, "MESSAGE=id={number} {}", words.repeat(20))?;
    } else {
        writeln!(out, "MESSAGE=level=info id={number} took={} {words}", random % 1000)?;
    }
    writeln!(out)
}

fn cpu_of_this_process() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}
