//! What recording processes and cgroups costs at 1 Hz: thread CPU time of a tick of the `process` and `cgroup` sources over
//! this machine, with 400 sleeping processes and (where cgroups can be made) 40 cgroups added, beside a floor program
//! that reads `/proc/PID/stat` of every process and four files of every cgroup over kept-open files and does nothing else.
//!
//! `cargo bench -p casefile-agent --bench processes [-- TICKS MILLIS]`: 60 ticks, 1000 ms apart, by default.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]
#![expect(
    clippy::disallowed_methods,
    reason = "it starts the processes that it measures, and waits a second between ticks"
)]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use casefile_agent::host::Host;
use casefile_agent::sources::{Measurement, Opened, Source, SourceSpec, cgroup, process};

const PROCESSES: usize = 400;
const CGROUPS: usize = 40;

/// Made for the run and taken away after it.
struct Load {
    processes: Vec<Child>,
    cgroups: Vec<PathBuf>,
}

impl Load {
    fn new(processes: usize, cgroups: usize) -> Self {
        let sleep = || Command::new("sleep").arg("3600").stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let processes: Vec<Child> = (0..processes).filter_map(|_| sleep().ok()).collect();
        let mount = Path::new("/sys/fs/cgroup");
        let roots: Vec<PathBuf> = if mount.join("cgroup.controllers").exists() {
            vec![mount.to_owned()]
        } else {
            ["memory", "cpu", "cpuacct", "pids", "blkio"].iter().map(|name| mount.join(name)).collect()
        };
        let mut made = Vec::new();
        for number in 0..cgroups {
            for root in &roots {
                let path = root.join(format!("casefile-bench-{number}"));
                if std::fs::create_dir(&path).is_ok() {
                    // A process in it makes it one that can be busy; it is moved back to the root by ending.
                    if let Some(child) = processes.get(number) {
                        let _ = std::fs::write(path.join("cgroup.procs"), child.id().to_string());
                    }
                    made.push(path);
                }
            }
        }
        Self { processes, cgroups: made }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for child in &mut self.processes {
            let _ = child.kill();
            let _ = child.wait();
        }
        for path in &self.cgroups {
            let _ = std::fs::remove_dir(path);
        }
    }
}

struct Row {
    name: &'static str,
    source: Box<dyn Source>,
    out: Measurement,
    cost: Cost,
}

#[derive(Default)]
struct Cost {
    ticks: u32,
    cpu: Duration,
    first: Duration,
    readings: usize,
}

impl Cost {
    fn add(&mut self, cpu: Duration) {
        if self.ticks == 0 {
            self.first = cpu;
        } else {
            self.cpu += cpu;
        }
        self.ticks += 1;
    }

    fn print(&self, name: &str, what: &str) {
        let ticks = self.ticks.saturating_sub(1).max(1);
        let each = self.cpu.as_secs_f64() / f64::from(ticks);
        println!(
            "{name:<28} {:>7.0} us a tick  {:>6.3} % of a core at 1 Hz  first tick {:>6.1} ms  {what}",
            each * 1e6,
            each * 100.0,
            self.first.as_secs_f64() * 1e3
        );
    }
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn timed(cost: &mut Cost, run: impl FnOnce()) {
    let before = cpu_time();
    run();
    cost.add(cpu_time().saturating_sub(before));
}

fn open(spec: &'static SourceSpec, host: &Host) -> Option<Row> {
    match (spec.open)(host) {
        Ok(Opened::Ready(source)) => {
            Some(Row { name: spec.name, source, out: Measurement::new(spec.metrics), cost: Cost::default() })
        }
        Ok(Opened::Absent { why }) => {
            println!("{}: absent: {why}", spec.name);
            None
        }
        Err(error) => {
            println!("{}: {error}", spec.name);
            None
        }
    }
}

fn kept_stats() -> Vec<File> {
    let names = std::fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.file_name());
    let pids = names.filter(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit));
    pids.filter_map(|pid| File::open(Path::new("/proc").join(pid).join("stat")).ok()).collect()
}

fn main() {
    // `cargo bench` adds `--bench`; `cargo test --all-targets` does not: then two ticks show that it runs.
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let is_bench = std::env::args().any(|arg| arg == "--bench");
    let ticks = numbers.first().copied().unwrap_or(if is_bench { 60 } else { 2 });
    let pace = Duration::from_millis(numbers.get(1).copied().unwrap_or(if is_bench { 1_000 } else { 1 }));

    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);

    let load = if is_bench { Load::new(PROCESSES, CGROUPS) } else { Load::new(3, 0) };
    let Ok(host) = Host::new(Path::new("/")) else { return };
    let mut rows: Vec<Row> = [&process::SPEC, &cgroup::SPEC].into_iter().filter_map(|spec| open(spec, &host)).collect();
    let stats = kept_stats();
    let v1 = ["cpuacct/cpuacct.usage", "memory/memory.usage_in_bytes", "memory/memory.failcnt", "cpu/cpu.stat"];
    let v2 = ["cpu.stat", "memory.current", "memory.events", "io.stat"];
    let cgroup_files: Vec<File> = (0..CGROUPS)
        .flat_map(|number| {
            let v1 = v1.map(|name| {
                let (root, file) = name.split_once('/').unwrap_or(("", name));
                format!("/sys/fs/cgroup/{root}/casefile-bench-{number}/{file}")
            });
            v1.into_iter().chain(v2.map(|file| format!("/sys/fs/cgroup/casefile-bench-{number}/{file}")))
        })
        .filter_map(|path| File::open(path).ok())
        .collect();

    let (mut floor_processes, mut floor_cgroups) = (Cost::default(), Cost::default());
    let mut buf = [0u8; 4096];
    for _ in 0..ticks {
        for row in &mut rows {
            row.out.begin();
            let Row { source, out, cost, .. } = row;
            timed(cost, || {
                let _ = source.measure(out);
            });
            let mut readings = 0;
            row.out.each(&mut |_, _, _| readings += 1);
            row.cost.readings = readings;
        }
        timed(&mut floor_processes, || stats.iter().for_each(|file| drop(file.read_at(&mut buf, 0))));
        timed(&mut floor_cgroups, || cgroup_files.iter().for_each(|file| drop(file.read_at(&mut buf, 0))));
        std::thread::sleep(pace);
    }
    for row in &rows {
        row.cost.print(row.name, &format!("{} readings at the last tick", row.cost.readings));
        for gap in row.out.gaps() {
            println!("    {}: {}", gap.reason, gap.detail);
        }
    }
    floor_processes.print("floor: every stat, kept open", &format!("{} processes", stats.len()));
    floor_cgroups.print("floor: cgroup files, kept open", &format!("{} files", cgroup_files.len()));
    drop(load);
}
