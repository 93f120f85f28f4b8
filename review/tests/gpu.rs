//! `casefile gpu` over case files in which one GPU of three is lost at a known second, the source stops answering later, and a program
//! writes lines into the kernel's log.
//!
//! `UPDATE_GOLDEN=1 cargo test -p casefile-review --test gpu` writes the goldens anew; read the diff before you commit it.

#![expect(clippy::unwrap_used, reason = "in a test everything that fails ends the test")]

mod goldens;
mod gpus;
mod sealed;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::sample::Outcome;
use casefile_proto::time::WallTime;
use goldens::golden;
use gpus::{Gpu, Recorder, Said, kernel, of, process, said};
use sealed::{Node, at, log, seal};
use serde_json::Value;

const GPUS: [Gpu; 3] = [
    Gpu { index: "0", uuid: "GPU-aaaa", pci: "00000000:04:00.0" },
    Gpu { index: "1", uuid: "GPU-bbbb", pci: "00000000:84:00.0" },
    Gpu { index: "2", uuid: "GPU-cccc", pci: "00000000:C4:00.0" },
];

const TRAIN: &str = "0a1b2c3d-1111-2222-3333-444455556666";
const SERVE: &str = "0a1b2c3d-7777-8888-9999-000011112222";

/// The second at which GPU 1 is lost, and the one from which the source does not answer, both on the collector's clock.
const LOST: &str = "2026-12-31T23:00:30Z";
const STALLED: &str = "2026-12-31T23:00:41Z";

/// What a GPU says that does well: its use is the second of the minute, so that every tick differs.
fn well(gpu: Gpu, second: i64) -> Vec<Said> {
    of(
        gpu,
        1,
        &[
            ("DCGM_FI_DEV_GPU_UTIL", second),
            ("DCGM_FI_DEV_MEM_COPY_UTIL", 41),
            ("DCGM_FI_DEV_FB_TOTAL", 81_559 << 20),
            ("DCGM_FI_DEV_FB_USED", 40_123 << 20),
            ("DCGM_FI_DEV_SM_CLOCK", 1_980),
            ("DCGM_FI_DEV_MAX_SM_CLOCK", 1_980),
            ("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", if gpu.index == "2" { 0x84 } else { 0 }),
            ("DCGM_FI_DEV_POWER_USAGE", 312_400),
            ("DCGM_FI_DEV_ENFORCED_POWER_LIMIT", 700_000),
            ("DCGM_FI_DEV_GPU_TEMP", 41),
            ("DCGM_FI_DEV_PSTATE", 0),
            ("DCGM_FI_DEV_PERSISTENCE_MODE", 1),
            ("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", i64::from(gpu.index == "2")),
            ("DCGM_FI_DEV_ROW_REMAP_PENDING", i64::from(gpu.index == "2")),
            ("DCGM_FI_DEV_PCIE_LINK_GEN", 5),
            ("DCGM_FI_DEV_PCIE_LINK_WIDTH", if gpu.index == "2" { 8 } else { 16 }),
            ("DCGM_FI_DEV_PCIE_MAX_LINK_GEN", 5),
            ("DCGM_FI_DEV_PCIE_MAX_LINK_WIDTH", 16),
            ("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", 0),
            ("casefile_gpu_recovery_action", 0),
        ],
    )
}

/// One minute of three GPUs, on a node whose clock is two seconds ahead.
fn minute() -> Vec<u8> {
    let mut recorder = Recorder::new("gpu-17", true);
    let ahead = Duration::from_secs(2);
    let (lost, stalled) = (at(LOST), at(STALLED));
    for second in 0..60_u32 {
        let true_time = at("2026-12-31T23:00:00Z").after(Duration::from_secs(second.into()));
        let now = true_time.after(ahead);
        if true_time >= stalled {
            let after_nanos = u64::from(second - 40) * 1_000_000_000;
            recorder.tick(now, Outcome::TimedOut { after_nanos }, vec![], vec![]);
            continue;
        }
        let gone = true_time >= lost;
        let mut all = vec![said("casefile_gpu_driver_info", &["550.90.07", "12.550.90.07", "12.4"], 1)];
        for (by, count) in [("nvml", 3 - i64::from(gone)), ("pci", 3), ("driver", 3), ("last_boot", 3)] {
            all.push(said("casefile_gpu_devices", &[by], count));
        }
        for gpu in GPUS {
            if gone && gpu.index == "1" {
                all.extend(of(gpu, 2, &[]));
                continue;
            }
            all.extend(well(gpu, second.into()));
            all.push(said("casefile_gpu_nvlink_up", &[gpu.index, gpu.uuid, gpu.pci, "", "", "3"], 1));
            match gpu.index {
                "0" => all.extend(process(gpu, "77", "server", SERVE, Some(1 << 30))),
                "1" => all.extend(process(gpu, "1234", "python", TRAIN, Some(40_000 << 20))),
                _ => all.extend(process(gpu, "99", "\x1b[2Jnvidia-smi", "", None)),
            }
        }
        let outcome = match gone {
            false => Outcome::Complete,
            true => {
                Outcome::Partial { gaps: vec![Gap::new(GapReason::SourceFailed, "GPU 1 is lost: it fell off the bus")] }
            }
        };
        // Records of the second before it are in the frame of each tick.
        let ago = |millis| now.before(Duration::from_millis(millis));
        let events = match second {
            20 => vec![
                kernel(
                    ago(900),
                    0,
                    "NVRM: Xid (PCI:0000:84:00): 62, pid=1234, name=python, 0000(0000) 00000000 00000000",
                ),
                kernel(ago(100), 0, "NVRM: Xid (PCI:0000:84:00): 45, pid=1234, name=python, Ch 00000010"),
            ],
            25 => vec![
                kernel(ago(500), 1, "NVRM: Xid (PCI:0000:04:00): 79, GPU has fallen off the bus."),
                kernel(ago(400), 0, "eth0: link up"),
                kernel(ago(300), 0, "trainer: NVRM: Xid (PCI:0000:04:00): 79, GPU has fallen off the bus."),
            ],
            30 => vec![
                kernel(
                    ago(500),
                    0,
                    "NVRM: Xid (PCI:0000:84:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
                ),
                kernel(ago(499), 0, "NVRM: GPU 0000:84:00.0: GPU has fallen off the bus."),
            ],
            35 => vec![kernel(
                ago(200),
                0,
                "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 30 LTSSM Fault Up",
            )],
            _ => vec![],
        };
        recorder.tick(now, outcome, all, events);
    }
    recorder.bytes()
}

fn node(name: &'static str, ahead: Option<i64>, recording: Vec<u8>) -> Node {
    let pods = format!("logs/pods/ml_train-0_{TRAIN}/main.log");
    // A path of a test lives as long as the test.
    let pods: &'static str = Box::leak(pods.into_boxed_str());
    let logs =
        vec![log(pods, None, "2026-12-31T23:00:29Z stdout step 7\n"), log("recording/window.seg", None, recording)];
    Node { name, ahead, logs, gaps: vec![] }
}

fn made(nodes: &[Node]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = seal(dir.path(), nodes);
    (dir, file)
}

#[expect(clippy::disallowed_methods, reason = "our own command, started by its test")]
fn gpu(file: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_casefile")).arg("gpu").arg(file).args(args).output().unwrap()
}

fn json(file: &Path, args: &[&str]) -> (Option<i32>, Value) {
    let output = gpu(file, &[args, &["-o", "json"]].concat());
    let value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    (output.status.code(), value)
}

#[test]
fn before_a_gpu_is_lost_it_is_shown_as_it_was_and_afterwards_as_lost_with_what_was_last_known() {
    let (_dir, file) = made(&[node("gpu-17", Some(2), minute())]);
    for (name, at, code) in [
        ("gpu-before.txt", "2026-12-31T23:00:29Z", 0),
        ("gpu-lost.txt", "2026-12-31T23:00:36Z", 5),
        ("gpu-stalled.txt", "2026-12-31T23:01:00Z", 5),
    ] {
        let output = gpu(&file, &["--at", at]);
        assert_eq!((output.status.code(), output.stderr.len()), (Some(code), 0), "{output:?}");
        golden(name, &output.stdout);
        assert!(!output.stdout.contains(&0x1b), "{name} would steer a terminal");
    }

    let (_, before) = json(&file, &["--at", "2026-12-31T23:00:29Z"]);
    let gpu = &before[0]["gpus"][1];
    assert_eq!((gpu["state"].as_i64(), gpu["values"]["DCGM_FI_DEV_GPU_UTIL"].as_f64()), (Some(1), Some(29.0)));
    assert_eq!(gpu["values"]["DCGM_FI_DEV_POWER_USAGE"], 312.4);
    assert_eq!(gpu["processes"][0]["memory_bytes"].as_f64(), Some(41_943_040_000.0));
    assert_eq!(before[0]["gpus"][2]["held_back_by"], "software power cap, power brake");
    assert!(before[0]["gpus"][2]["processes"][0]["memory_bytes"].is_null(), "NVML did not say");

    let (_, lost) = json(&file, &["--at", "2026-12-31T23:00:36Z"]);
    let gpu = &lost[0]["gpus"][1];
    assert_eq!((gpu["state"].as_i64(), gpu["state_since"].as_str()), (Some(2), Some(LOST)));
    assert_eq!(
        (gpu["as_of"].as_str(), gpu["values"]["DCGM_FI_DEV_GPU_UTIL"].as_f64()),
        (Some("2026-12-31T23:00:29Z"), Some(29.0))
    );
    assert_eq!(gpu["processes"][0]["pod"]["name"], "ml/train-0");
    assert_eq!(lost[0]["gpus"][0]["values"]["DCGM_FI_DEV_GPU_UTIL"], 36.0);
}

#[test]
fn every_record_of_the_driver_is_an_event_with_the_pod_and_a_forged_one_does_not_count() {
    let (_dir, file) = made(&[node("gpu-17", Some(2), minute())]);
    let (_, view) = json(&file, &["--at", "2026-12-31T23:00:36Z"]);
    let view = &view[0];
    let events = view["events"].as_array().unwrap();
    let told: Vec<_> =
        events.iter().map(|e| (e["time"].as_str().unwrap(), e["code"].as_u64().unwrap(), e["gpu"].as_str())).collect();
    assert_eq!(
        told,
        [
            ("2026-12-31T23:00:19.1Z", 62, Some("1")),
            ("2026-12-31T23:00:19.9Z", 45, Some("1")),
            ("2026-12-31T23:00:24.5Z", 79, Some("0")),
            ("2026-12-31T23:00:29.5Z", 79, Some("1")),
            ("2026-12-31T23:00:29.501Z", 79, Some("1")),
            ("2026-12-31T23:00:34.8Z", 20034, None),
        ]
    );
    assert_eq!(
        (view["counted"].as_u64(), view["after"].as_u64(), events[2]["author"].as_str()),
        (Some(5), Some(0), Some("program"))
    );
    for named in [&events[0], &events[1]] {
        assert_eq!(named["pod"]["name"], "ml/train-0", "by its pid");
    }
    for unnamed in [&events[3], &events[4]] {
        assert_eq!(
            (unnamed["users"][0]["name"].as_str(), unnamed["pod"].is_null()),
            (Some("ml/train-0"), true),
            "by who was on it"
        );
    }
    let (code, early) = json(&file, &["--at", "2026-12-31T23:00:22Z"]);
    assert_eq!((code, early[0]["counted"].as_u64(), early[0]["after"].as_u64()), (Some(0), Some(2), Some(3)));
}

#[test]
fn a_source_that_does_not_answer_is_said_since_when_and_what_is_shown_is_called_old() {
    let (_dir, file) = made(&[node("gpu-17", Some(2), minute())]);
    // The last tick that was read is recent enough for a while.
    let (code, soon) = json(&file, &["--at", "2026-12-31T23:00:50Z"]);
    let trouble = &soon[0]["trouble"];
    assert_eq!((code, trouble["nothing"].as_bool(), trouble["since"].as_str()), (Some(5), Some(false), Some(STALLED)));
    let (_, late) = json(&file, &[]);
    let trouble = &late[0]["trouble"];
    assert_eq!((trouble["nothing"].as_bool(), trouble["outcome"].as_str()), (Some(true), Some("timed out")));
    assert_eq!(
        (late[0]["tick"].as_str(), late[0]["gpus"].as_array().unwrap().len()),
        (Some("2026-12-31T23:00:40Z"), 3)
    );
    // Before the recording begins there is nothing, and that is said too.
    let (code, none) = json(&file, &["--at", "2026-12-31T22:59:30Z"]);
    assert_eq!((code, none[0]["tick"].is_null(), none[0]["gpus"].as_array().unwrap().len()), (Some(5), true, 0));
    assert_eq!(none[0]["trouble"]["outcome"], "not recorded");
}

#[test]
fn what_was_not_read_is_not_there_and_never_a_zero() {
    let mut recorder = Recorder::new("n", true);
    let start = at("2026-12-31T23:00:00Z");
    recorder.tick(
        start,
        Outcome::Complete,
        of(GPUS[0], 1, &[("DCGM_FI_DEV_GPU_UTIL", 50), ("DCGM_FI_DEV_GPU_TEMP", 40)]),
        vec![],
    );
    // Only the temperature; and a GPU on the bus that NVML never listed.
    let unlisted = Gpu { index: "", uuid: "", pci: "00000000:C4:00.0" };
    let second = [of(GPUS[0], 1, &[("DCGM_FI_DEV_GPU_TEMP", 41)]), of(unlisted, 5, &[])].concat();
    recorder.tick(start.after(Duration::from_secs(1)), Outcome::Complete, second, vec![]);
    let (_dir, file) = made(&[node("n", Some(0), recorder.bytes())]);
    let (code, view) = json(&file, &["--at", "2026-12-31T23:00:02Z"]);
    assert_eq!(code, Some(0));
    assert_eq!(view[0]["gpus"][0]["values"], serde_json::json!({"DCGM_FI_DEV_GPU_TEMP": 41.0}));
    let unlisted = &view[0]["gpus"][1];
    assert_eq!((unlisted["state"].as_i64(), unlisted["as_of"].is_null()), (Some(5), true));
    let text = String::from_utf8(gpu(&file, &["--at", "2026-12-31T23:00:02Z"]).stdout).unwrap();
    let row = text.lines().find(|l| l.starts_with("0 ")).unwrap();
    assert!(row.contains("41 C") && row.contains(" - ") && !row.contains("0 %"), "{row}");
    assert!(text.contains("never answered") && text.contains("NOT LISTED"), "{text}");
}

#[test]
fn a_gpu_that_the_source_names_no_more_is_not_left_out() {
    let mut recorder = Recorder::new("n", true);
    let start = at("2026-12-31T23:00:00Z");
    recorder.tick(
        start,
        Outcome::Complete,
        [of(GPUS[0], 1, &[]), of(GPUS[1], 1, &[("DCGM_FI_DEV_GPU_TEMP", 40)])].concat(),
        vec![],
    );
    // NVML numbers those that are left anew: the UUID says which is which.
    let renumbered = Gpu { index: "0", ..GPUS[1] };
    recorder.tick(
        start.after(Duration::from_secs(1)),
        Outcome::Complete,
        of(renumbered, 1, &[("DCGM_FI_DEV_GPU_TEMP", 41)]),
        vec![],
    );
    let (_dir, file) = made(&[node("n", None, recorder.bytes())]);
    let (_, view) = json(&file, &["--at", "2026-12-31T23:00:02Z"]);
    let gpus = view[0]["gpus"].as_array().unwrap();
    let by = |uuid: &str| gpus.iter().find(|g| g["uuid"] == uuid).unwrap();
    assert_eq!(
        (by("GPU-bbbb")["index"].as_str(), by("GPU-bbbb")["values"]["DCGM_FI_DEV_GPU_TEMP"].as_f64()),
        (Some("0"), Some(41.0))
    );
    assert!(by("GPU-aaaa")["state"].is_null() && by("GPU-aaaa")["as_of"] == "2026-12-31T23:00:00Z", "{view}");
}

fn without_gpus(absent: bool) -> Vec<u8> {
    let mut recorder = Recorder::new("plain", absent);
    let start = at("2026-12-31T23:00:00Z");
    for second in 0..3 {
        let now: WallTime = start.after(Duration::from_secs(second));
        let why = "no GPU of NVIDIA on the PCI bus".to_owned();
        if absent { recorder.tick(now, Outcome::Absent { why }, vec![], vec![]) } else { recorder.tick_without(now) }
    }
    recorder.bytes()
}

#[test]
fn a_node_whose_gpus_were_never_recorded_is_an_error_and_beside_others_a_remark() {
    let (_dir, file) = made(&[node("plain", None, without_gpus(false))]);
    let output = gpu(&file, &[]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("no node of this case file has recorded its GPUs"),
        "{output:?}"
    );

    let (_dir, file) = made(&[node("absent", None, without_gpus(true)), node("gpu-17", Some(2), minute())]);
    let output = gpu(&file, &["--at", "2026-12-31T23:00:29Z", "-o", "jsonl"]);
    assert_eq!(
        (output.status.code(), output.stdout.iter().filter(|b| **b == b'\n').count()),
        (Some(0), 1),
        "{output:?}"
    );
    assert!(String::from_utf8_lossy(&output.stderr).contains("no GPUs were recorded on absent"), "{output:?}");
    let asked = gpu(&file, &["--node", "absent", "--at", "2026-12-31T23:00:02Z"]);
    let text = String::from_utf8_lossy(&asked.stdout);
    assert_eq!(asked.status.code(), Some(5), "{asked:?}");
    assert!(text.contains("NOTHING WAS READ since 2026-12-31T23:00:00Z: absent; no GPU of NVIDIA"), "{text}");

    assert_eq!(gpu(&file, &["--node", "nobody"]).status.code(), Some(1));
    assert_eq!(gpu(&file, &["--at", "yesterday"]).status.code(), Some(2));
}

#[test]
fn two_recordings_of_one_node_are_one_story_in_the_order_of_time() {
    let start = at("2026-12-31T23:00:00Z");
    let one = |second: u64, temp: i64| {
        let mut recorder = Recorder::new("n", true);
        recorder.tick(
            start.after(Duration::from_secs(second)),
            Outcome::Complete,
            of(GPUS[0], 1, &[("DCGM_FI_DEV_GPU_TEMP", temp)]),
            vec![],
        );
        recorder.bytes()
    };
    // By name the later one comes first.
    let logs = vec![log("recording/a.seg", None, one(5, 50)), log("recording/b.seg", None, one(1, 40))];
    let (_dir, file) = made(&[Node { name: "n", ahead: None, logs, gaps: vec![] }]);
    for (at, temp) in [("2026-12-31T23:00:02Z", 40.0), ("2026-12-31T23:00:06Z", 50.0)] {
        let (code, view) = json(&file, &["--at", at]);
        assert_eq!(
            (code, view[0]["gpus"][0]["values"]["DCGM_FI_DEV_GPU_TEMP"].as_f64()),
            (Some(0), Some(temp)),
            "{view}"
        );
    }
}

#[test]
fn an_event_belongs_to_the_process_of_the_table_before_it() {
    let mut recorder = Recorder::new("n", true);
    let start = at("2026-12-31T23:00:00Z");
    let tick = |second| start.after(Duration::from_secs(second));
    let held = [of(GPUS[1], 1, &[]), process(GPUS[1], "1234", "python", TRAIN, None)].concat();
    recorder.tick(tick(0), Outcome::Complete, held, vec![]);
    // It died of it: the next table has it no more.
    let died = kernel(
        start.after(Duration::from_millis(400)),
        0,
        "NVRM: Xid (PCI:0000:84:00): 31, pid=1234, name=python, Ch 8",
    );
    recorder.tick(tick(1), Outcome::Complete, of(GPUS[1], 1, &[]), vec![died]);
    let again = kernel(
        start.after(Duration::from_millis(1_400)),
        0,
        "NVRM: Xid (PCI:0000:84:00): 31, pid=1234, name=python, Ch 8",
    );
    recorder.tick(tick(2), Outcome::Complete, of(GPUS[1], 1, &[]), vec![again]);
    let (_dir, file) = made(&[node("n", None, recorder.bytes())]);
    let (_, view) = json(&file, &["--at", "2026-12-31T23:00:03Z"]);
    let events = view[0]["events"].as_array().unwrap();
    assert_eq!((events[0]["pod"]["name"].as_str(), events[1]["pod"].is_null()), (Some("ml/train-0"), true), "{view}");
    assert!(view[0]["gpus"][0]["processes"].as_array().unwrap().is_empty(), "{view}");
}

#[test]
fn where_the_recording_has_a_hole_it_says_so_and_from_when() {
    let mut recorder = Recorder::new("n", true);
    let start = at("2026-12-31T23:00:00Z");
    for second in [0, 1, 40] {
        let temp = i64::try_from(second).unwrap();
        let said = of(GPUS[0], 1, &[("DCGM_FI_DEV_GPU_TEMP", temp)]);
        recorder.tick(start.after(Duration::from_secs(second)), Outcome::Complete, said, vec![]);
    }
    let (_dir, file) = made(&[node("n", None, recorder.bytes())]);
    let (code, view) = json(&file, &["--at", "2026-12-31T23:00:30Z"]);
    let trouble = &view[0]["trouble"];
    assert_eq!(
        (code, trouble["outcome"].as_str(), trouble["since"].as_str()),
        (Some(5), Some("not recorded"), Some("2026-12-31T23:00:01Z"))
    );
    assert_eq!(view[0]["gpus"][0]["values"]["DCGM_FI_DEV_GPU_TEMP"], 1.0);
    assert_eq!(json(&file, &["--at", "2026-12-31T23:00:16Z"]).0, Some(0), "15 s are recent enough");
    assert_eq!(json(&file, &["--at", "2026-12-31T23:00:45Z"]).0, Some(0));
}
