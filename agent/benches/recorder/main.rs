//! What the recorder costs a node: the real agent, in this process, at 1 Hz over this machine with a load of its own
//! making, beside `atop -w` and `sadc` in the same minutes where they are installed.
//!
//! `cargo bench -p casefile-agent --bench recorder [-- --seconds N --processes N --cgroup-files N --busy N]`. A run of whole
//! minutes shows the ring as it stays on disk: blocks are rewritten once a minute.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a bench starts its load and its peers, and waits"
)]

mod load;
mod peers;
mod series;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use casefile_agent::config::{Config, DEFAULT_CPU_PERCENT, DEFAULT_RETENTION, GpuConfig};
use casefile_agent::logs::LogConfig;
use casefile_agent::redaction::Masking;
use casefile_agent::sandbox::plan::Wanted;
use casefile_agent::stats::Stats;
use casefile_agent::{Agent, Setup};
use rustix::time::{ClockId, clock_gettime};

/// Sources are opened, series defined and buffers grown before anything is measured; in a run of minutes, also the first
/// segment begun: its header explains every metric, once in some MiB.
const WARM_UP: Duration = Duration::from_secs(5);
const WARM_UP_OF_MINUTES: Duration = Duration::from_secs(65);

struct Options {
    seconds: u64,
    processes: usize,
    cgroup_files: usize,
    busy: usize,
}

fn options() -> anyhow::Result<Options> {
    let mut options = Options { seconds: 120, processes: 400, cgroup_files: 160, busy: 8 };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        if arg == "--bench" {
            continue;
        }
        let value = args.next().with_context(|| format!("{arg} wants a number"))?;
        let value: usize = value.parse().with_context(|| format!("{arg} {value}"))?;
        match arg.as_str() {
            "--seconds" => options.seconds = value as u64,
            "--processes" => options.processes = value,
            "--cgroup-files" => options.cgroup_files = value,
            "--busy" => options.busy = value,
            other => bail!("{other} is no option of this bench"),
        }
    }
    Ok(options)
}

fn main() -> anyhow::Result<()> {
    load::be_a_child_if_told();
    // As the program does.
    casefile_agent::calls::keep_the_heap_small();
    let options = options()?;
    let load = load::Load::start(options.processes, options.busy, options.cgroup_files)?;
    println!("load: {load}");
    let dir = tempfile::tempdir()?;
    let mut peers = peers::start(dir.path())?;
    let config = Config {
        collector: None,
        node: "bench".parse()?,
        data_dir: dir.path().join("agent"),
        host_root: "/".into(),
        retention: DEFAULT_RETENTION,
        leave_free: None,
        cpu_percent: DEFAULT_CPU_PERCENT,
        connectivity: None,
        logs: LogConfig::builtin(),
        masking: Masking::default(),
        gpu: GpuConfig::default(),
        sandbox: Wanted::Off,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let agent = Agent::start(&config, Setup::default())?;
    std::thread::sleep(if options.seconds < 60 { WARM_UP } else { WARM_UP_OF_MINUTES });

    let begin = Reading::take(&agent, &config.data_dir)?;
    for peer in &mut peers {
        peer.begin()?;
    }
    std::thread::sleep(Duration::from_secs(options.seconds));
    let end = Reading::take(&agent, &config.data_dir)?;
    let measured: Vec<_> = peers.iter_mut().map(peers::Peer::end).collect::<Result<_, _>>()?;

    let ours = report(&begin, &end, agent.stats());
    compare(&ours, &measured);
    runtime.block_on(agent.stop());
    drop((peers, load));
    series::measure();
    Ok(())
}

/// What is known at one instant.
struct Reading {
    at: Instant,
    cpu: Duration,
    switches: u64,
    disk: u64,
    written: u64,
    frames: u64,
    recorder: u64,
    ring: u64,
    sources: Vec<(&'static str, u64, u64, u64)>,
}

impl Reading {
    fn take(agent: &Agent, data_dir: &Path) -> anyhow::Result<Self> {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let stats = agent.stats();
        let source = |(name, s): (&'static str, &casefile_agent::stats::SourceStats)| {
            (name, s.cpu_nanos.get(), s.readings.get(), s.measured.get())
        };
        Ok(Self {
            at: Instant::now(),
            cpu: Duration::new(cpu.tv_sec.unsigned_abs(), 0) + Duration::from_nanos(cpu.tv_nsec.unsigned_abs()),
            switches: peers::context_switches()?,
            // Without the block that is still open: it is rewritten within the minute.
            disk: peers::size_of(&data_dir.join("ring"))?.saturating_sub(peers::size_of(&data_dir.join("ring/tail"))?),
            written: stats.ring_written_bytes.get(),
            frames: stats.frames.get(),
            recorder: stats.recorder_cpu_nanos.get(),
            ring: stats.ring_cpu_nanos.get(),
            sources: stats.sources().map(source).collect(),
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn per(total: u64, count: u64) -> f64 {
    total as f64 / count.max(1) as f64
}

fn report(begin: &Reading, end: &Reading, stats: &Stats) -> peers::Figures {
    let ticks = end.frames - begin.frames;
    let wall = end.at - begin.at;
    let cpu = end.cpu - begin.cpu;
    println!("\n{:<12} {:>14} {:>14} {:>14}", "source", "µs a reading", "µs a tick", "readings a tick");
    let mut in_sources = 0;
    for ((name, cpu0, readings0, measured0), (_, cpu1, readings1, measured1)) in begin.sources.iter().zip(&end.sources)
    {
        in_sources += cpu1 - cpu0;
        let micros = |count| per(cpu1 - cpu0, count) / 1000.0;
        println!(
            "{name:<12} {:>14.1} {:>14.1} {:>14.1}",
            micros(measured1 - measured0),
            micros(ticks),
            per(readings1 - readings0, ticks)
        );
    }
    let micros = |nanos: u64| per(nanos, ticks) / 1000.0;
    println!("{:<12} {:>14} {:>14.1}", "sources", "", micros(in_sources));
    println!("{:<12} {:>14} {:>14.1}   encodes, twice", "recorder", "", micros(end.recorder - begin.recorder));
    println!("{:<12} {:>14} {:>14.1}   writes", "ring", "", micros(end.ring - begin.ring));
    let all = u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX);
    println!("{:<12} {:>14} {:>14.1}", "process", "", micros(all));
    println!("context switches a tick: {:.1}", per(end.switches.saturating_sub(begin.switches), ticks));
    println!(
        "ticks: {ticks} taken, {} missed; ring: {:.0} bytes a tick appended, {:.0} kept; lost {}",
        stats.ticks_missed.get(),
        per(end.written - begin.written, ticks),
        per(end.disk.saturating_sub(begin.disk), ticks),
        stats.ring_frames_lost.get(),
    );
    peers::Figures {
        name: "casefile-agent".to_owned(),
        cpu_percent: 100.0 * cpu.as_secs_f64() / wall.as_secs_f64(),
        resident_kib: peers::resident_kib(std::process::id()).unwrap_or(0),
        bytes_a_day: per(end.disk.saturating_sub(begin.disk), 1) / wall.as_secs_f64() * 86_400.0,
    }
}

/// One table, and the lines that `bench/run` collects.
fn compare(ours: &peers::Figures, others: &[peers::Figures]) {
    const MIB: f64 = 1024.0 * 1024.0;
    println!("\n{:<16} {:>10} {:>12} {:>12}", "recorder", "% of a core", "resident MiB", "MiB a day");
    for f in std::iter::once(ours).chain(others) {
        #[expect(clippy::cast_precision_loss, reason = "figures for people")]
        let resident = f.resident_kib as f64 / 1024.0;
        println!("{:<16} {:>10.3} {:>12.1} {:>12.0}", f.name, f.cpu_percent, resident, f.bytes_a_day / MIB);
    }
    let verdict = |good: bool| if good { "ok" } else { "MISSED" };
    println!();
    let (cpu, mib) = (ours.cpu_percent, ours.resident_kib / 1024);
    println!("figure | recorder: CPU | {cpu:.2} % of a core | < 0.5 % | {}", verdict(cpu < 0.5));
    println!("figure | recorder: resident | {mib} MiB | ≤ 24 MiB | {}", verdict(mib <= 24));
    match others.iter().find(|f| f.name == "atop") {
        Some(atop) => {
            let (cpu, disk) = (atop.cpu_percent / ours.cpu_percent, atop.bytes_a_day / ours.bytes_a_day);
            println!("figure | recorder: CPU beside atop -w | 1/{cpu:.1} | ≤ 1/6 | {}", verdict(cpu >= 6.0));
            println!(
                "figure | recorder: bytes a day beside atop -w | 1/{disk:.0} | ≤ 1/15 | {}",
                verdict(disk >= 15.0)
            );
        }
        None => println!("figure | recorder: CPU beside atop -w | atop is not installed | ≤ 1/6 | skipped"),
    }
}
