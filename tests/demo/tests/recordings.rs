//! The recordings of the synthetic incident tell the planted causes at their times, and nothing of the kind elsewhere.

#![expect(clippy::unwrap_used, reason = "in a test everything that fails ends the test")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::OnceLock;

use casefile_demo::story::{self, DEAD, DISK_GONE, GPU_LOST, GPU_WAITING, LEAKING};
use casefile_evidence::archive::layout;
use casefile_evidence::archive::limits::Limits;
use casefile_evidence::archive::reader::Archive;
use casefile_evidence::recording::Header;
use casefile_evidence::recording::reader::{Piece, Recording};
use casefile_proto::sample::{SeriesDef, SeriesId, SourceIndex};
use casefile_proto::units::Bytes;

/// Seconds of the window (on the node's own clock, which is off by less than a tenth) and value.
type Points = Vec<(f64, i64)>;

/// All series of all nodes, as `node metric{label,label}`.
fn series() -> &'static BTreeMap<String, Points> {
    static ALL: OnceLock<BTreeMap<String, Points>> = OnceLock::new();
    ALL.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = casefile_demo::write(dir.path()).unwrap();
        let mut archive = Archive::open(&path, Limits::default()).unwrap();
        let mut all = BTreeMap::new();
        for path in archive.entries().iter().map(|entry| entry.path.clone()).collect::<Vec<_>>() {
            let Some((node, item)) = layout::split_node_item(&path) else { continue };
            if item.as_str() == layout::RECORDING_ITEM {
                let segment = archive.entry(&path).unwrap();
                read(node.as_str(), segment, &mut all);
            }
        }
        all
    })
}

fn read(node: &str, mut segment: impl std::io::Read, all: &mut BTreeMap<String, Points>) {
    let mut recording = Recording::from_segment(&mut segment, Bytes::mib(64)).unwrap();
    let (mut header, mut names) = (None::<Header>, BTreeMap::<(SourceIndex, SeriesId), String>::new());
    let each = &mut |piece| {
        let frame = match piece {
            Piece::Header(new) => {
                header = Some(new);
                return ControlFlow::Continue(());
            }
            Piece::Hole(_) => return ControlFlow::Continue(()),
            Piece::Frame(frame) => frame,
        };
        let schema = &header.as_ref().unwrap().schema;
        let t = millis(frame.at.wall.nanos_since(story::FROM));
        for sample in frame.samples {
            let metrics = &schema.sources[usize::from(sample.source.0)].metrics;
            for (id, SeriesDef { metric, labels }) in sample.defined {
                let name = &metrics[usize::from(metric.0)].name;
                names.insert((sample.source, id), format!("{node} {name}{{{}}}", labels.join(",")));
            }
            for reading in sample.readings {
                let name = names.get(&(sample.source, reading.series)).unwrap();
                match all.get_mut(name) {
                    Some(points) => points.push((t, reading.value)),
                    None => drop(all.insert(name.clone(), vec![(t, reading.value)])),
                }
            }
        }
        ControlFlow::Continue(())
    };
    recording.pieces(None, each).unwrap();
}

fn millis(nanos: i64) -> f64 {
    f64::from(i32::try_from(nanos / 1_000_000).unwrap()) / 1_000.0
}

/// The series of a node whose name begins so and contains this.
fn of(node: &str, metric: &str, label: &str) -> Vec<&'static Points> {
    let begins = format!("{node} {metric}{{");
    let all = series().iter().filter(|(name, _)| name.starts_with(&begins) && name.contains(label));
    all.map(|(_, points)| points).collect()
}

fn one(node: &str, metric: &str, label: &str) -> &'static Points {
    let found = of(node, metric, label);
    assert_eq!(found.len(), 1, "{node} {metric} {label}");
    found[0]
}

/// The last value before a time.
fn at(points: &Points, t: f64) -> i64 {
    points.iter().take_while(|(when, _)| *when <= t).last().unwrap().1
}

fn nodes() -> Vec<&'static str> {
    let mut nodes: Vec<_> = series().keys().filter_map(|name| name.split(' ').next()).collect();
    nodes.dedup();
    nodes
}

/// The pod on the leaking node that has kills.
fn leaking_pod(metric: &str) -> &'static Points {
    let of_pods = series().iter().filter(|(name, _)| name.starts_with(&format!("{LEAKING} {metric}{{")));
    let slices: Vec<_> = of_pods.filter(|(name, _)| name.ends_with(".slice}")).collect();
    let kills = |name: &str| {
        let id = name.split('{').nth(1).unwrap().trim_end_matches('}');
        at(one(LEAKING, "container_oom_events_total", &format!("{{{id}}}")), 1_790.0)
    };
    slices.into_iter().find(|(name, _)| kills(name) > 0).unwrap().1
}

#[test]
fn the_leak_grows_to_its_limit_is_killed_twice_and_the_machine_counts_it() {
    let used = leaking_pod("container_memory_usage_bytes");
    let limit = at(leaking_pod("container_spec_memory_limit_bytes"), 100.0);
    assert_eq!(limit, 2 << 30);
    assert!(at(used, 100.0) < limit / 3 && at(used, story::FIRST_OOM) > limit / 100 * 99);
    assert!(at(used, story::FIRST_OOM + 2.0) < limit / 10, "what was killed gives its memory back");
    let kills = leaking_pod("container_oom_events_total");
    let machine = one(LEAKING, "node_vmstat_oom_kill", "");
    for counted in [kills, machine] {
        let when = [story::FIRST_OOM - 1.0, story::FIRST_OOM + 2.0, story::SECOND_OOM - 1.0, story::SECOND_OOM + 2.0];
        assert_eq!(when.map(|t| at(counted, t)), [0, 1, 1, 2]);
    }
    let stalled = one(LEAKING, "node_pressure_memory_waiting_seconds_total", "");
    let grows = |from: f64, until: f64| at(stalled, until) - at(stalled, from);
    assert!(grows(1_480.0, 1_518.0) > 100_000 && grows(100.0, 1_400.0) == 0);
}

#[test]
fn nobody_else_has_kills_pressure_of_memory_or_a_read_only_file_system() {
    for node in nodes() {
        let kills = at(one(node, "node_vmstat_oom_kill", ""), 1_799.0);
        assert_eq!(kills > 0, node == LEAKING, "{node}");
        let stalled = one(node, "node_pressure_memory_waiting_seconds_total", "");
        let grew = stalled.last().unwrap().1 - stalled[0].1;
        assert_eq!(grew > 0, node == LEAKING, "{node}");
        let full = one(node, "node_pressure_io_stalled_seconds_total", "");
        let part = millis((full.last().unwrap().1 - full[0].1) * 1_000) / 1_800.0;
        assert_eq!(part > 0.02, node == DISK_GONE, "{node}: {part}");
        let readonly = of(node, "node_filesystem_readonly", "").iter().any(|points| points.iter().any(|p| p.1 == 1));
        assert_eq!(readonly, node == DISK_GONE, "{node}");
    }
}

#[test]
fn the_disk_takes_requests_and_finishes_none_and_then_its_file_system_is_read_only() {
    let in_flight = one(DISK_GONE, "node_disk_io_now", "nvme0n1");
    let written = one(DISK_GONE, "node_disk_writes_completed_total", "nvme0n1");
    let (stalls, gone) = (story::DISK_STALLS, story::NVME_DISABLED);
    assert!(at(in_flight, stalls - 5.0) <= 1 && at(in_flight, gone - 5.0) > 30 && at(in_flight, gone + 5.0) == 0);
    assert!(at(written, stalls) - at(written, stalls - 60.0) > 10_000);
    assert_eq!(at(written, gone - 1.0), at(written, stalls + 1.0));
    let readonly = one(DISK_GONE, "node_filesystem_readonly", "/var/lib/postgresql");
    assert_eq!([gone - 1.0, gone + 11.0].map(|t| at(readonly, t)), [0, 1]);
    let state = one(DISK_GONE, "casefile_nvme_state", "");
    assert_eq!([stalls, story::NVME_RESET + 11.0, gone + 11.0].map(|t| at(state, t)), [1, 2, 6]);
}

#[test]
fn a_gpu_that_is_lost_has_a_state_and_no_numbers_and_its_job_stands_elsewhere_too() {
    let state = one(GPU_LOST, "casefile_gpu_state", "84:00.0");
    assert_eq!([story::XID_79 - 1.0, story::XID_79 + 2.0, 1_799.0].map(|t| at(state, t)), [1, 2, 2]);
    for metric in ["DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_POWER_USAGE", "DCGM_FI_DEV_FB_USED"] {
        let last = one(GPU_LOST, metric, "84:00.0").last().unwrap().0;
        assert!((last - story::XID_79).abs() < 1.5, "{metric} until {last}");
    }
    for node in [GPU_LOST, GPU_WAITING] {
        for points in of(node, "DCGM_FI_DEV_GPU_UTIL", "") {
            assert!(at(points, story::XID_79 - 2.0) > 85);
            assert!(points.iter().filter(|(t, _)| *t > story::XID_79 + 3.0).all(|(_, util)| *util == 0));
        }
    }
    let waiting = of(GPU_WAITING, "casefile_gpu_state", "");
    assert!(waiting.len() == 4 && waiting.iter().all(|points| points.iter().all(|(_, state)| *state == 1)));
    for node in ["gpu-01", "gpu-02"] {
        assert!(of(node, "DCGM_FI_DEV_GPU_UTIL", "").iter().all(|p| p.iter().all(|(_, util)| *util > 80)), "{node}");
    }
}

#[test]
fn the_node_that_dies_was_well_to_its_last_frame() {
    let load = one(DEAD, "node_load1", "");
    let last = load.last().unwrap().0;
    assert!(last <= story::DEATH && story::DEATH - last < 1.1, "{last}");
    assert!(load.iter().all(|(_, value)| *value < 400), "below its four CPUs");
}

#[test]
fn machines_are_busy_and_none_is_short_of_anything() {
    for node in nodes() {
        let idle: i64 = of(node, "node_cpu_seconds_total", ",idle}").iter().map(|p| p.last().unwrap().1 - p[0].1).sum();
        let all: i64 = of(node, "node_cpu_seconds_total", "").iter().map(|p| p.last().unwrap().1 - p[0].1).sum();
        assert!(idle * 100 / all > 25 && idle * 100 / all < 97, "{node}: {} % idle", idle * 100 / all);
        let free = one(node, "node_memory_MemAvailable_bytes", "");
        let total = one(node, "node_memory_MemTotal_bytes", "")[0].1;
        assert!(free.iter().all(|(_, kib)| *kib > total / 5), "{node}");
    }
}
