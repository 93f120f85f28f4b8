//! The `process` source over trees made for the test, and over this machine.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use casefile_proto::gap::GapReason;

use super::*;

/// A `proc` in a directory of its own.
struct Machine {
    dir: tempfile::TempDir,
}

/// One process of it. Fields as in its `stat`.
#[derive(Clone, Copy)]
struct Process<'a> {
    pid: u32,
    comm: &'a [u8],
    state: char,
    flags: u32,
    utime: u32,
    threads: u32,
    start: u32,
}

const QUIET: Process<'_> = Process { pid: 1, comm: b"x", state: 'S', flags: 0, utime: 0, threads: 1, start: 100 };

impl Machine {
    fn new() -> Self {
        let machine = Self { dir: tempfile::tempdir().unwrap() };
        machine.add(QUIET);
        machine
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join("proc").join(below)
    }

    fn write(&self, below: &str, content: impl AsRef<[u8]>) {
        let path = self.path(below);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn add(&self, process: Process<'_>) {
        let pid = process.pid;
        self.write(&format!("{pid}/stat"), stat(process));
        self.write(&format!("{pid}/status"), "Uid:\t1000\t0\t0\t0\nVmHWM:\t 8 kB\nVmSwap:\t 4 kB\n");
        self.write(&format!("{pid}/cgroup"), "0::/system.slice\n");
        self.write(
            &format!("{pid}/io"),
            "rchar: 1\nwchar: 2\nsyscr: 3\nsyscw: 4\nread_bytes: 5\nwrite_bytes: 6\ncancelled_write_bytes: 7\n",
        );
    }

    fn add_thread(&self, pid: u32, tid: u32, state: char) {
        self.write(&format!("{pid}/task/{tid}/stat"), stat(Process { pid: tid, comm: b"worker", state, ..QUIET }));
        self.write(&format!("{pid}/task/{tid}/wchan"), "rwsem_down_read");
    }

    fn remove(&self, pid: u32) {
        std::fs::remove_dir_all(self.path(&pid.to_string())).unwrap();
    }

    fn recorder(&self) -> Recorder {
        Recorder::of(self.dir.path())
    }
}

fn stat(p: Process<'_>) -> Vec<u8> {
    let Process { pid, state, flags, utime, threads, start, .. } = p;
    let vsize = if flags == 0 { 4_096_000 } else { 0 };
    let rest = format!(
        ") {state} 0 0 0 0 -1 {flags} 10 0 1 0 {utime} 7 0 0 20 0 {threads} 0 {start} {vsize} 50 0 0 0 0 0 0 0 0 0 0 0 0 0 17 3 0 0 0 0 0\n"
    );
    [format!("{pid} (").as_bytes(), p.comm, rest.as_bytes()].concat()
}

/// The source with its measurement.
struct Recorder {
    source: Box<dyn Source>,
    out: Measurement,
}

impl Recorder {
    fn of(root: &Path) -> Self {
        let host = Host::new(root).unwrap();
        let Opened::Ready(source) = open(&host).unwrap() else { panic!("absent") };
        Self { source, out: Measurement::new(SPEC.metrics) }
    }

    fn tick(&mut self) {
        self.out.begin();
        self.source.measure(&mut self.out).unwrap();
    }

    /// Values of one metric by the labels of its series.
    fn told(&self, metric: &str) -> Vec<(Vec<String>, i64)> {
        let mut told = Vec::new();
        self.out.each(&mut |spec, labels, value| {
            if spec.name == metric {
                told.push((labels.iter().map(|l| (*l).to_owned()).collect(), value));
            }
        });
        told
    }

    /// Pids whose CPU time was read at this tick.
    fn read(&self) -> Vec<u32> {
        let told = self.told("casefile_process_cpu_seconds_total");
        told.iter().filter(|(labels, _)| labels[2] == "user").map(|(labels, _)| labels[0].parse().unwrap()).collect()
    }

    fn info(&self, pid: u32) -> Option<Vec<String>> {
        let pid = pid.to_string();
        self.told("casefile_process_info").into_iter().map(|(labels, _)| labels).find(|labels| labels[0] == pid)
    }

    /// Thread and wait channel of every blocked task.
    fn blocked(&self) -> Vec<(String, String)> {
        let told = self.told("casefile_process_blocked");
        told.into_iter().map(|(labels, _)| (labels[2].clone(), labels[4].clone())).collect()
    }
}

#[test]
fn what_is_busy_is_read_at_every_tick_and_what_is_not_at_every_tenth() {
    let machine = Machine::new();
    for pid in 2..25 {
        machine.add(Process { pid, ..QUIET });
    }
    let mut recorder = machine.recorder();
    recorder.tick();
    assert_eq!(recorder.read().len(), 24, "everything is new at first");
    recorder.tick();
    let mut times = std::collections::HashMap::<u32, u32>::new();
    for tick in 0..20 {
        machine.add(Process { pid: 7, utime: tick + 1, ..QUIET });
        recorder.tick();
        for pid in recorder.read() {
            *times.entry(pid).or_default() += 1;
        }
    }
    // The busy one is found out at its turn in the sweep, and read at every tick from then on.
    assert!(times[&7] > 10, "{times:?}");
    times.remove(&7);
    assert!(times.values().all(|n| *n == 2) && times.len() == 23, "{times:?}");
}

#[test]
fn a_pid_that_comes_back_is_another_process() {
    let machine = Machine::new();
    machine.add(Process { pid: 5, comm: b"old", start: 200, ..QUIET });
    let mut recorder = machine.recorder();
    recorder.tick();
    assert_eq!(recorder.info(5).unwrap()[1..4], ["200", "0", "old"]);
    machine.remove(5);
    machine.add(Process { pid: 5, comm: b"new", start: 300, ..QUIET });
    // A fixture's file lives on under its handle; that of a process answers ESRCH (see `host`), and is opened anew.
    let mut recorder = machine.recorder();
    recorder.tick();
    assert_eq!(recorder.info(5).unwrap()[1..4], ["300", "0", "new"]);
    let machine_time = recorder.told("casefile_process_cpu_seconds_total");
    assert!(machine_time.iter().all(|(labels, _)| labels[1] != "200"));
}

#[test]
fn a_process_that_ended_between_list_and_read_is_not_missing() {
    let machine = Machine::new();
    machine.write("77/comm", "ended\n");
    let mut recorder = machine.recorder();
    for _ in 0..12 {
        recorder.tick();
        assert_eq!(recorder.out.gaps(), []);
    }
}

#[test]
fn a_process_that_ended_is_no_longer_there() {
    let machine = Machine::new();
    machine.add(Process { pid: 5, state: 'R', ..QUIET });
    let mut recorder = machine.recorder();
    recorder.tick();
    assert!(recorder.read().contains(&5));
    machine.remove(5);
    recorder.tick();
    assert!(!recorder.read().contains(&5));
    assert_eq!(recorder.out.gaps(), []);
    assert_eq!(recorder.out.find("casefile_processes", &[]), Some(1));
}

#[test]
fn a_name_may_hold_any_bytes() {
    let names: [&[u8]; 6] = [b") R 1 (", b"a\nb", b"\x1b[31mred", b"\xff\xfe", b"((", "\u{202e}gpj.exe".as_bytes()];
    let machine = Machine::new();
    for (pid, comm) in (10..).zip(names) {
        machine.add(Process { pid, comm, ..QUIET });
    }
    let mut recorder = machine.recorder();
    recorder.tick();
    let shown: Vec<String> = (10..16).map(|pid| recorder.info(pid).unwrap()[3].clone()).collect();
    assert_eq!(shown, [") R 1 (", "a\nb", "\u{1b}[31mred", "\\xff\\xfe", "((", "\u{202e}gpj.exe"]);
    assert_eq!(recorder.out.gaps(), []);
}

#[test]
fn a_garbled_stat_is_a_gap_and_the_others_are_read() {
    let machine = Machine::new();
    machine.add(Process { pid: 6, ..QUIET });
    machine.write("5/stat", "5 (x) S not a number\n");
    machine.write("6/io", "rchar: x\n");
    let mut recorder = machine.recorder();
    recorder.tick();
    assert_eq!(recorder.read(), [1, 6]);
    let gaps: Vec<_> = recorder.out.gaps().iter().map(|gap| (gap.reason, gap.detail.clone())).collect();
    assert_eq!(gaps.len(), 2, "{gaps:?}");
    assert!(gaps.iter().all(|(reason, _)| *reason == GapReason::ParseFailed));
    assert!(gaps[0].1.starts_with("/proc/5/stat: cannot parse \"5 (x) S not"), "{gaps:?}");
}

#[test]
fn a_proc_that_hides_processes_says_so_at_every_tick() {
    let machine = Machine::new();
    machine.remove(1);
    machine.add(Process { pid: 4242, ..QUIET });
    let mut recorder = machine.recorder();
    for _ in 0..3 {
        recorder.tick();
        assert_eq!(recorder.out.gaps().iter().map(|gap| gap.reason).collect::<Vec<_>>(), [GapReason::PermissionDenied]);
    }
}

#[test]
fn kernel_threads_have_no_memory_and_their_io_is_not_read() {
    let machine = Machine::new();
    machine.add(Process { pid: 2, comm: b"kthreadd", flags: 0x0020_8040, ..QUIET });
    let mut recorder = machine.recorder();
    recorder.tick();
    for metric in ["casefile_process_resident_bytes", "casefile_process_read_chars_total", "casefile_process_threads"] {
        let pids: Vec<_> = recorder.told(metric).into_iter().map(|(labels, _)| labels[0].clone()).collect();
        assert_eq!(pids, ["1"], "{metric}");
    }
    let page = i64::try_from(rustix::param::page_size()).unwrap();
    assert_eq!(recorder.out.find("casefile_process_resident_bytes", &["1", "100"]), Some(50 * page));
    assert_eq!(recorder.out.find("casefile_process_swapped_bytes", &["1", "100"]), Some(4));
}

#[test]
fn delays_are_recorded_only_where_the_kernel_counts_them() {
    let machine = Machine::new();
    let delay = |machine: &Machine| {
        let mut recorder = machine.recorder();
        recorder.tick();
        recorder.out.find("casefile_process_blkio_delay_seconds_total", &["1", "100"])
    };
    assert_eq!(delay(&machine), None, "nothing says that they are counted");
    machine.write("sys/kernel/task_delayacct", "0\n");
    assert_eq!(delay(&machine), None);
    machine.write("sys/kernel/task_delayacct", "1\n");
    assert_eq!(delay(&machine), Some(0));
}

#[test]
fn blocked_tasks_are_named_with_where_they_wait_until_they_go_on() {
    let machine = Machine::new();
    machine.add(Process { pid: 5, state: 'D', ..QUIET });
    machine.write("5/wchan", "rpc_wait_bit_killable");
    machine.add(Process { pid: 6, threads: 60, ..QUIET });
    for tid in 100..160 {
        machine.add_thread(6, tid, if tid == 130 { 'D' } else { 'S' });
    }
    let mut recorder = machine.recorder();
    recorder.tick();
    let leader = ("5".to_owned(), "rpc_wait_bit_killable".to_owned());
    let thread = ("130".to_owned(), "rwsem_down_read".to_owned());
    assert!(recorder.blocked().contains(&leader));
    // Sixteen threads a tick: the one of sixty is found within four ticks, and then seen at every tick.
    let found = (2..=4).find(|_| {
        let found = recorder.blocked().contains(&thread);
        recorder.tick();
        found
    });
    assert!(found.is_some() || recorder.blocked().contains(&thread));
    for _ in 0..8 {
        recorder.tick();
        assert_eq!(recorder.blocked(), [leader.clone(), thread.clone()]);
    }
    machine.add_thread(6, 130, 'S');
    machine.write("5/wchan", "0");
    recorder.tick();
    assert_eq!(recorder.blocked(), [("5".to_owned(), String::new())], "it is blocked, and where is not known");
    assert_eq!(recorder.out.gaps(), []);
}

#[test]
fn files_that_are_not_kept_open_say_the_same() {
    let machine = Machine::new();
    for pid in 2..20 {
        machine.add(Process { pid, state: 'R', ..QUIET });
    }
    let host = Host::new(machine.dir.path()).unwrap();
    let proc = host.dir("proc").unwrap();
    let read = |room: usize| {
        let mut reader = Reader::new(Paths::Machine, crate::details::Details::default()).with_room(room);
        let mut all = Vec::new();
        for pid in 1..20 {
            let mut files = files::Files::default();
            for _ in 0..3 {
                let numbers = reader.stat(&proc, pid, &mut files).unwrap();
                all.push((numbers, reader.io(&proc, pid, &mut files, true).unwrap()));
            }
            assert!(files.kept() <= 2 && (room > 0 || files.kept() == 0));
        }
        all
    };
    assert_eq!(read(0), read(5));
    assert_eq!(read(0), read(1_000));
}

#[test]
fn more_than_can_be_read_in_a_tick_is_read_in_the_next_and_told() {
    let machine = Machine::new();
    for pid in 2..=30 {
        machine.add(Process { pid, ..QUIET });
    }
    let host = Host::new(machine.dir.path()).unwrap();
    let source = Processes::new(&host, host.dir("proc").unwrap(), Pids::new(Lists::Whole), 20);
    let mut recorder = Recorder { source: Box::new(source), out: Measurement::new(SPEC.metrics) };
    recorder.tick();
    assert_eq!(recorder.read(), (1..=20).collect::<Vec<_>>());
    let gap = &recorder.out.gaps()[0];
    assert_eq!((gap.reason, gap.count), (GapReason::Budget, Some(10)));
    recorder.tick();
    // Those that were left over come first; of the others there is room for ten.
    let read = recorder.read();
    assert_eq!((read.len(), &read[..10]), (20, &(21..=30).collect::<Vec<_>>()[..]));
}

#[test]
fn cgroups_seen_from_a_container_are_shown_as_the_machine_has_them() {
    let machine = Machine::new();
    machine.write("1/cgroup", "0::/../../../init.scope\n");
    machine.add(Process { pid: 5, ..QUIET });
    machine.write("5/cgroup", "0::/../c2\n");
    let mut recorder = machine.recorder();
    recorder.tick();
    assert_eq!(recorder.info(5).unwrap()[4], "/../c2", "where the agent is was not found");
    assert_eq!(recorder.out.gaps().len(), 1);

    let mount = "../sys/fs/cgroup";
    machine.write(&format!("{mount}/cgroup.controllers"), "cpu memory\n");
    machine.write(&format!("{mount}/kubepods/pod1/c1/cgroup.procs"), format!("0\n{}\n", std::process::id()));
    machine.write(&format!("{mount}/kubepods/pod1/c2/cgroup.procs"), "0\n");
    let mut recorder = machine.recorder();
    recorder.tick();
    assert_eq!(recorder.info(5).unwrap()[4], "/kubepods/pod1/c2");
    assert_eq!(recorder.info(1).unwrap()[4], "/init.scope");
    assert_eq!(recorder.out.gaps(), []);
}

#[test]
fn no_series_is_given_twice_or_undeclared_and_garbage_never_panics() {
    let machine = Machine::new();
    let garbage: [&[u8]; 5] = [b"", b"\0", b"1 (x) S 1\n", &[0xff; 300], b"\n\n\n"];
    for (pid, content) in (10..).zip(garbage) {
        for file in ["stat", "status", "io", "cgroup", "wchan", "task/99/stat"] {
            machine.write(&format!("{pid}/{file}"), content);
        }
        machine.add(Process { pid: pid + 20, threads: 2, state: 'D', ..QUIET });
        for file in ["status", "io", "cgroup", "wchan", "task/99/stat"] {
            machine.write(&format!("{}/{file}", pid + 20), content);
        }
    }
    let mut recorder = machine.recorder();
    for _ in 0..12 {
        recorder.tick();
        assert!(recorder.out.gaps().iter().all(|gap| !gap.detail.contains("twice")));
    }
}

/// A process that ends with the test.
struct Sleeper(Child);

impl Sleeper {
    #[expect(clippy::disallowed_methods, reason = "a process to be found")]
    fn new(program: impl AsRef<std::ffi::OsStr>) -> Self {
        Self(Command::new(program).arg("600").spawn().unwrap())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_process_of_this_machine_is_found_as_it_comes_and_is_gone_as_it_goes() {
    let mut recorder = Recorder::of(Path::new("/"));
    recorder.tick();
    let own = recorder.info(std::process::id()).unwrap();
    assert_eq!(own[2], rustix::process::getppid().unwrap().as_raw_nonzero().to_string());
    let sleeper = Sleeper::new("sleep");
    let pid = sleeper.0.id();
    // At the next tick; where the kernel's pids began again at the bottom just now, within ten.
    let seen = (0..11).any(|_| {
        recorder.tick();
        recorder.info(pid).is_some()
    });
    assert!(seen);
    drop(sleeper);
    for _ in 0..11 {
        recorder.tick();
        assert!(recorder.info(pid).is_none());
    }
    let garbled = recorder.out.gaps().iter().find(|gap| gap.reason == GapReason::ParseFailed);
    assert_eq!(garbled, None);
}

#[test]
fn a_name_that_is_no_text_is_found_on_this_machine_too() {
    // The name of a process is that of its file, cut at 15 bytes: here one with a newline, a bracket and no UTF-8.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(std::ffi::OsStr::from_bytes(b"a)\n\xff R 1"));
    std::fs::copy("/bin/sleep", &path).unwrap();
    let child = Sleeper::new(&path);
    let mut recorder = Recorder::of(Path::new("/"));
    let name = (0..1_000).find_map(|_| {
        recorder.tick();
        // Between fork and exec it still has the name of this test.
        recorder.info(child.0.id()).map(|info| info[3].clone()).filter(|name| name.starts_with("a)"))
    });
    assert_eq!(name.as_deref(), Some("a)\n\\xff R 1"));
}
