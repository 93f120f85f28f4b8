//! The `cgroup` source over trees made for the test.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use casefile_proto::gap::GapReason;

use super::*;

struct Machine {
    dir: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn v2() -> Self {
        let machine = Self::new();
        machine.write("cgroup.controllers", "cpu memory io pids\n");
        machine
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join("sys/fs/cgroup").join(below)
    }

    fn write(&self, below: &str, content: impl AsRef<[u8]>) {
        let path = self.path(below);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn add(&self, group: &str, used: u32) {
        let stat = format!("usage_usec {used}\nuser_usec {used}\nsystem_usec 0\n");
        self.write(&format!("{group}/cpu.stat"), stat);
        self.write(&format!("{group}/memory.current"), "4096\n");
        self.write(&format!("{group}/memory.max"), "max\n");
        self.write(&format!("{group}/pids.max"), "100\n");
        self.write(&format!("{group}/io.stat"), "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n");
    }

    fn recorder(&self) -> Recorder {
        let host = Host::new(self.dir.path()).unwrap();
        let Opened::Ready(source) = open(&host).unwrap() else { panic!("absent") };
        Recorder { source, out: Measurement::new(SPEC.metrics) }
    }
}

struct Recorder {
    source: Box<dyn Source>,
    out: Measurement,
}

impl Recorder {
    fn tick(&mut self) {
        self.out.begin();
        self.source.measure(&mut self.out).unwrap();
    }

    /// The cgroups of which a metric was read at this tick.
    fn told(&self, metric: &str) -> BTreeSet<String> {
        let mut told = BTreeSet::new();
        self.out.each(&mut |spec, labels, _| {
            if spec.name == metric {
                told.insert(labels[0].to_owned());
            }
        });
        told
    }

    fn ids(&self) -> BTreeSet<String> {
        self.told("container_cpu_usage_seconds_total")
    }
}

fn set(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

#[test]
fn while_nothing_runs_only_cpu_time_is_read_at_every_tick() {
    let machine = Machine::v2();
    machine.add("idle", 5);
    machine.add("busy", 5);
    let mut recorder = machine.recorder();
    recorder.tick();
    assert_eq!(recorder.told("container_memory_usage_bytes"), set(&["/busy", "/idle"]), "all of what is new is read");
    assert_eq!(recorder.told("container_threads_max"), set(&["/busy", "/idle"]));
    let (mut memory, mut limits) = ([0, 0], [0, 0]);
    for tick in 0..20 {
        machine.add("busy", 6 + tick);
        recorder.tick();
        assert_eq!(recorder.ids(), set(&["/busy", "/idle"]));
        for (i, id) in ["/busy", "/idle"].into_iter().enumerate() {
            memory[i] += i32::from(recorder.told("container_memory_usage_bytes").contains(id));
            limits[i] += i32::from(recorder.told("container_threads_max").contains(id));
        }
    }
    assert_eq!((memory, limits), ([20, 2], [2, 2]));
}

#[test]
fn a_limit_that_is_not_there_has_no_reading() {
    let machine = Machine::v2();
    machine.add("a", 1);
    let mut recorder = machine.recorder();
    recorder.tick();
    assert_eq!(recorder.told("container_spec_memory_limit_bytes"), set(&[]));
    machine.write("b/cpu.stat", "usage_usec 1\n");
    machine.write("b/memory.max", "1048576\n");
    let mut recorder = machine.recorder();
    recorder.tick();
    assert_eq!(recorder.out.find("container_spec_memory_limit_bytes", &["/b"]), Some(1_048_576));
    assert_eq!(recorder.out.gaps(), []);
}

#[test]
fn cgroups_that_come_and_go_are_followed_and_are_no_gaps() {
    let machine = Machine::v2();
    machine.add("kubepods/pod1/c1", 1);
    machine.add("kubepods/pod1", 1);
    machine.add("kubepods", 1);
    let mut recorder = machine.recorder();
    recorder.tick();
    assert_eq!(recorder.ids(), set(&["/kubepods", "/kubepods/pod1", "/kubepods/pod1/c1"]));
    machine.add("kubepods/pod1/c2", 1);
    machine.add("kubepods/pod-with-a-hyphen", 1);
    let seen = (0..11).any(|_| {
        recorder.tick();
        recorder.ids().len() == 5
    });
    assert!(seen, "{:?}", recorder.ids());
    std::fs::remove_dir_all(machine.path("kubepods/pod1")).unwrap();
    for _ in 0..11 {
        recorder.tick();
        assert_eq!(recorder.out.gaps(), []);
    }
    assert_eq!(recorder.ids(), set(&["/kubepods", "/kubepods/pod-with-a-hyphen"]));
    assert_eq!(recorder.out.find("casefile_cgroups", &[]), Some(2));
}

#[test]
fn too_deep_and_too_many_are_told_at_every_tick() {
    let machine = Machine::v2();
    let deep: Vec<&str> = std::iter::repeat_n("d", MAX_DEPTH + 1).collect();
    machine.write(&format!("{}/cpu.stat", deep.join("/")), "usage_usec 1\n");
    let mut recorder = machine.recorder();
    for _ in 0..25 {
        recorder.tick();
        assert_eq!(recorder.out.gaps().iter().map(|gap| gap.reason).collect::<Vec<_>>(), [GapReason::Budget]);
    }
    assert_eq!(recorder.out.find("casefile_cgroups", &[]), Some(i64::try_from(MAX_DEPTH).unwrap()));

    let machine = Machine::v2();
    for number in 0..8 {
        machine.write(&format!("g{number}/cpu.stat"), "usage_usec 1\n");
    }
    let host = Host::new(machine.dir.path()).unwrap();
    let source = Cgroups::open(&host, &Layout::find(&host).unwrap(), 5).unwrap();
    let mut recorder = Recorder { source: Box::new(source), out: Measurement::new(SPEC.metrics) };
    for _ in 0..25 {
        recorder.tick();
        assert_eq!(recorder.out.gaps().iter().map(|gap| gap.reason).collect::<Vec<_>>(), [GapReason::Budget]);
    }
    assert_eq!(recorder.ids().len(), 5);
    for number in 3..8 {
        std::fs::remove_dir_all(machine.path(&format!("g{number}"))).unwrap();
    }
    (0..22).for_each(|_| recorder.tick());
    assert_eq!((recorder.out.gaps(), recorder.ids().len()), (&[][..], 3), "room comes back");
}

#[test]
fn on_v1_each_file_is_read_from_its_own_hierarchy() {
    let machine = Machine::new();
    machine.write("cpu,cpuacct/pod/cpuacct.usage", "12345678\n");
    machine.write("cpu,cpuacct/pod/cpu.stat", "nr_periods 9\nnr_throttled 3\nthrottled_time 5000000\n");
    machine.write("memory/pod/memory.usage_in_bytes", "4096\n");
    machine.write("memory/pod/memory.limit_in_bytes", "9223372036854771712\n");
    machine.write("memory/pod/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n");
    machine.write("pids/pod/pids.current", "7\n");
    machine.write("unified/cgroup.controllers", "\n");
    machine.write("unified/pod/memory.pressure", "some avg10=0.00 total=11\nfull avg10=0.00 total=10\n");
    let mut recorder = machine.recorder();
    recorder.tick();
    for (metric, value) in [
        ("container_cpu_usage_seconds_total", Some(12_345)),
        ("container_cpu_cfs_throttled_periods_total", Some(3)),
        ("container_cpu_cfs_throttled_seconds_total", Some(5_000)),
        ("container_memory_usage_bytes", Some(4_096)),
        ("container_spec_memory_limit_bytes", None),
        ("container_oom_events_total", Some(2)),
        ("container_threads", Some(7)),
        ("container_pressure_memory_stalled_seconds_total", Some(10)),
    ] {
        assert_eq!(recorder.out.find(metric, &["/pod"]), value, "{metric}");
    }
    assert_eq!(recorder.out.gaps(), []);
}

#[test]
fn where_nothing_tells_whether_anything_ran_everything_is_read() {
    let machine = Machine::new();
    machine.write("memory/pod/memory.usage_in_bytes", "4096\n");
    let mut recorder = machine.recorder();
    for _ in 0..12 {
        recorder.tick();
        assert_eq!(recorder.told("container_memory_usage_bytes"), set(&["/pod"]));
    }
}

#[test]
fn devices_have_the_names_that_the_machine_gives_them() {
    let machine = Machine::v2();
    machine.add("a", 1);
    let block = machine.dir.path().join("sys/dev/block");
    std::fs::create_dir_all(&block).unwrap();
    let mut recorder = machine.recorder();
    recorder.tick();
    assert_eq!(
        recorder.out.find("container_fs_reads_bytes_total", &["/a", "8:0"]),
        Some(1),
        "the number for want of a name"
    );
    std::os::unix::fs::symlink("../../devices/pci0000:00/block/sda", block.join("8:0")).unwrap();
    let mut recorder = machine.recorder();
    recorder.tick();
    assert_eq!(recorder.out.find("container_fs_writes_total", &["/a", "sda"]), Some(4));
}

#[test]
fn a_garbled_file_is_a_gap_and_the_others_are_read() {
    let machine = Machine::v2();
    machine.add("a", 1);
    machine.write("a/memory.current", "\u{1b}[31mmany\n");
    machine.write("a/memory.events", [0xff; 20]);
    machine.write("a/io.stat", "");
    let mut recorder = machine.recorder();
    recorder.tick();
    let gaps: Vec<_> = recorder.out.gaps().iter().map(|gap| (gap.reason, gap.detail.as_str())).collect();
    assert_eq!(gaps.len(), 2, "{gaps:?}");
    assert!(gaps[0].1.starts_with("memory.current of cgroup /a: cannot parse \"\\u{1b}[31mmany\\n\""), "{gaps:?}");
    assert_eq!(recorder.ids(), set(&["/a"]));
}

#[test]
fn a_machine_without_cgroups_has_none() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::new(dir.path()).unwrap();
    assert!(matches!(open(&host), Ok(Opened::Absent { .. })));
    std::fs::create_dir_all(dir.path().join("sys/fs/cgroup")).unwrap();
    assert!(matches!(open(&host), Ok(Opened::Absent { .. })));
}

#[test]
fn this_machines_cgroups_are_read_without_garbage() {
    let host = Host::new(Path::new("/")).unwrap();
    let Ok(Opened::Ready(source)) = open(&host) else { return };
    let mut recorder = Recorder { source, out: Measurement::new(SPEC.metrics) };
    for _ in 0..12 {
        recorder.tick();
        let garbled = recorder.out.gaps().iter().find(|gap| gap.reason == GapReason::ParseFailed);
        assert_eq!(garbled, None);
    }
}
