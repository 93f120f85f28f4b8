//! What reading eight GPUs at 1 Hz costs: the agent's part and the child's, with a library that answers at once, so that
//! what is measured is ours. A real driver's own time comes on top, in the child.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench: what it cannot set up ends it; it prints figures"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use casefile_agent::config::GpuConfig;
use casefile_agent::details::Details;
use casefile_agent::host::Host;
use casefile_agent::sources::gpu::SPEC;
use casefile_agent::sources::gpu::latest::Access;
use casefile_agent::sources::{ALL, Measurement, Opened};
use casefile_agent::stats::Stats;
use casefile_stub_nvml::Copy;
use rustix::time::{ClockId, clock_gettime};

/// What is promised: of a core, and of memory.
const MOST_PERCENT: f64 = 0.3;
const MOST_MIB: f64 = 12.0;

/// Seconds that are measured.
const TICKS: u32 = 60;

fn own_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

#[expect(clippy::disallowed_methods, reason = "/proc of this machine, in a bench")]
fn text(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The one child of this process.
fn child() -> u32 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let children = tasks.map(|task| text(&format!("{}/children", task.unwrap().path().display())));
    children.flat_map(|c| c.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()).next().unwrap()
}

/// CPU time of all threads of a process.
fn cpu_of(pid: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let nanos = tasks.map(|task| {
        let stat = text(&format!("{}/schedstat", task.unwrap().path().display()));
        stat.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
    });
    Duration::from_nanos(nanos.sum())
}

/// The most memory that a process had resident.
fn resident_mib(pid: u32) -> f64 {
    let status = text(&format!("/proc/{pid}/status"));
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

fn verdict(reached: bool) -> &'static str {
    if reached { "reached" } else { "MISSED" }
}

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let library = Copy::new(dir.path(), &script()).unwrap();
    let config = GpuConfig {
        library: Some(library.path().to_owned()),
        program: Some(env!("CARGO_BIN_EXE_casefile-agent").into()),
        ..GpuConfig::default()
    };
    let host =
        Host::with(dir.path(), Arc::new(Stats::new(ALL)), Access::new(&config, None), Details::default()).unwrap();
    let Ok(Opened::Ready(mut source)) = (SPEC.open)(&host) else { panic!("it did not open") };
    let mut out = Measurement::new(SPEC.metrics);
    let mut tick = || {
        out.begin();
        let measured = source.measure(&mut out).is_ok();
        let mut readings = 0;
        out.each(&mut |_, _, _| readings += 1);
        (measured, readings)
    };
    while !tick().0 {}
    let child = child();
    let (began, own, theirs) = (Instant::now(), own_cpu(), cpu_of(child));
    let mut readings = 0;
    for n in 1..=TICKS {
        std::thread::park_timeout((began + n * Duration::from_secs(1)).saturating_duration_since(Instant::now()));
        let (measured, count) = tick();
        assert!(measured);
        readings += count;
    }
    let wall = began.elapsed().as_secs_f64();
    let percent = |cpu: Duration| cpu.as_secs_f64() / wall * 100.0;
    let (own, theirs) = (percent(own_cpu() - own), percent(cpu_of(child) - theirs));
    println!("8 GPUs, 16 processes, {TICKS} ticks, {} readings a tick", readings / u64::from(TICKS));
    println!("agent {own:.3} % of a core, child {theirs:.3} %");
    let (both, mib) = (own + theirs, resident_mib(child));
    println!(
        "figure | gpu: CPU of agent and child, 8 GPUs | {both:.2} % of a core | ≤ {MOST_PERCENT} % | {}",
        verdict(both <= MOST_PERCENT)
    );
    println!(
        "figure | gpu: resident memory of the child | {mib:.1} MiB | ≤ {MOST_MIB} MiB | {}",
        verdict(mib <= MOST_MIB)
    );
}

/// Eight GPUs, each with two processes.
fn script() -> String {
    let process = |n: u32| format!("process {} C {} 1073741824\n", n / 2, 1000 + n);
    "gpus 8\n".to_owned() + &(0..16).map(process).collect::<String>()
}
