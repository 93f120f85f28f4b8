//! The verbs over the past on a case file of two machines: what they print, for people and for programs, and how they end.
//!
//! `UPDATE_GOLDEN=1 cargo test -p casefile-review --test past` writes the goldens anew; read the diff before you commit it.

#![expect(clippy::unwrap_used, reason = "in a test everything that fails ends the test")]

mod goldens;
mod recorded;
mod sealed;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use casefile_proto::sample::MetricKind::{Counter, Gauge, Info};
use casefile_proto::units::Unit;
use goldens::golden;
use recorded::{Metric, Recorder, Said, kernel, said};
use sealed::{Node, at, log, seal};
use serde_json::Value;

const METRICS: &[Metric] = &[
    ("cpu", "node_cpu_seconds_total", Counter, Unit::Seconds, &["cpu", "mode"]),
    ("cpu", "node_procs_running", Gauge, Unit::Count, &[]),
    ("cpu", "node_procs_blocked", Gauge, Unit::Count, &[]),
    ("cpu", "node_intr_total", Counter, Unit::Count, &[]),
    ("cpu", "node_context_switches_total", Counter, Unit::Count, &[]),
    ("load", "node_load1", Gauge, Unit::Count, &[]),
    ("load", "node_load5", Gauge, Unit::Count, &[]),
    ("load", "node_load15", Gauge, Unit::Count, &[]),
    ("memory", "node_memory_MemTotal_bytes", Gauge, Unit::Bytes, &[]),
    ("memory", "node_memory_MemFree_bytes", Gauge, Unit::Bytes, &[]),
    ("memory", "node_memory_MemAvailable_bytes", Gauge, Unit::Bytes, &[]),
    ("memory", "node_memory_Buffers_bytes", Gauge, Unit::Bytes, &[]),
    ("memory", "node_memory_Cached_bytes", Gauge, Unit::Bytes, &[]),
    ("memory", "node_memory_SReclaimable_bytes", Gauge, Unit::Bytes, &[]),
    ("memory", "node_memory_SwapTotal_bytes", Gauge, Unit::Bytes, &[]),
    ("memory", "node_memory_SwapFree_bytes", Gauge, Unit::Bytes, &[]),
    ("memory", "node_vmstat_pswpin", Counter, Unit::Count, &[]),
    ("memory", "node_vmstat_pswpout", Counter, Unit::Count, &[]),
    ("memory", "node_vmstat_pgpgin", Counter, Unit::Count, &[]),
    ("memory", "node_vmstat_pgpgout", Counter, Unit::Count, &[]),
    ("disk", "node_disk_reads_completed_total", Counter, Unit::Count, &["device"]),
    ("disk", "node_disk_read_bytes_total", Counter, Unit::Bytes, &["device"]),
    ("disk", "node_disk_read_time_seconds_total", Counter, Unit::Seconds, &["device"]),
    ("disk", "node_disk_writes_completed_total", Counter, Unit::Count, &["device"]),
    ("disk", "node_disk_written_bytes_total", Counter, Unit::Bytes, &["device"]),
    ("disk", "node_disk_write_time_seconds_total", Counter, Unit::Seconds, &["device"]),
    ("disk", "node_disk_io_time_seconds_total", Counter, Unit::Seconds, &["device"]),
    ("disk", "node_disk_io_time_weighted_seconds_total", Counter, Unit::Seconds, &["device"]),
    ("network", "node_network_receive_bytes_total", Counter, Unit::Bytes, &["device"]),
    ("network", "node_network_transmit_bytes_total", Counter, Unit::Bytes, &["device"]),
    ("network", "node_sockstat_TCP_inuse", Gauge, Unit::Count, &[]),
    ("filesystem", "node_filesystem_size_bytes", Gauge, Unit::Bytes, &["device", "mountpoint", "fstype"]),
    ("filesystem", "node_filesystem_free_bytes", Gauge, Unit::Bytes, &["device", "mountpoint", "fstype"]),
    ("filesystem", "node_filesystem_avail_bytes", Gauge, Unit::Bytes, &["device", "mountpoint", "fstype"]),
    ("filesystem", "node_filesystem_device_error", Gauge, Unit::Count, &["device", "mountpoint", "fstype"]),
    ("process", "casefile_process_info", Info, Unit::Code, &["pid", "start", "ppid", "comm", "cgroup", "uid"]),
    ("process", "casefile_process_cpu_seconds_total", Counter, Unit::Seconds, &["pid", "start", "mode"]),
    ("process", "casefile_process_resident_bytes", Gauge, Unit::Bytes, &["pid", "start"]),
    ("process", "casefile_process_state", Gauge, Unit::Code, &["pid", "start"]),
    ("process", "casefile_processes", Gauge, Unit::Count, &[]),
    ("process", "casefile_processes_read", Gauge, Unit::Count, &[]),
    ("cgroup", "container_cpu_usage_seconds_total", Counter, Unit::Seconds, &["id"]),
    ("cgroup", "container_memory_usage_bytes", Gauge, Unit::Bytes, &["id"]),
    ("cgroup", "container_spec_memory_limit_bytes", Gauge, Unit::Bytes, &["id"]),
    ("inventory", "node_uname_info", Info, Unit::Code, &["release", "machine"]),
];

const UID: &str = "0a1b2c3d-1111-2222-3333-444455556666";
const OTHER_UID: &str = "0a1b2c3d-7777-8888-9999-000011112222";
const MIB: f64 = 1_048_576.0;

/// The second from which on n1 is busy, on the collector's clock: 20 s before the end of the window.
const BUSY_FROM: u32 = 100;

/// Two minutes of a machine. That which is `sick` becomes busy: a process writes, the disk waits.
fn machine(node: &str, ahead: u64, sick: bool) -> Vec<u8> {
    let mut recorder = Recorder::new(node, METRICS);
    let uid = if sick { UID } else { OTHER_UID };
    // What grows faster from the moment on.
    let grown = |second: u32, calm: f64, busy: f64| {
        let late = if sick { second.saturating_sub(BUSY_FROM) } else { 0 };
        f64::from(second) * calm + f64::from(late) * (busy - calm)
    };
    for second in 0..120_u32 {
        // From 60 s on the agent was away for ten seconds.
        if (60..70).contains(&second) {
            continue;
        }
        let true_time = at("2026-12-31T22:59:00Z").after(Duration::from_secs(second.into()));
        let busy = sick && second >= BUSY_FROM;
        let mut all: Vec<Said> = Vec::new();
        for cpu in ["0", "1"] {
            for (mode, calm, then) in
                [("user", 0.1, 0.3), ("system", 0.05, 0.2), ("idle", 0.85, 0.1), ("iowait", 0.0, 0.4)]
            {
                all.push(said("node_cpu_seconds_total", &[cpu, mode], grown(second, calm, then)));
            }
        }
        for (name, value) in [
            ("node_procs_running", if busy { 5.0 } else { 1.0 }),
            ("node_procs_blocked", if busy { 3.0 } else { 0.0 }),
            ("node_intr_total", grown(second, 700.0, 2_000.0)),
            ("node_context_switches_total", grown(second, 1_200.0, 4_000.0)),
            ("node_load1", if busy { 4.25 } else { 0.5 }),
            ("node_load5", 1.1),
            ("node_load15", 0.9),
            ("node_memory_MemTotal_bytes", 16_000.0 * MIB),
            ("node_memory_MemFree_bytes", if busy { 400.0 } else { 4_000.0 } * MIB),
            ("node_memory_MemAvailable_bytes", if busy { 1_000.0 } else { 9_000.0 } * MIB),
            ("node_memory_Buffers_bytes", 100.0 * MIB),
            ("node_memory_Cached_bytes", 5_000.0 * MIB),
            ("node_memory_SReclaimable_bytes", 200.0 * MIB),
            ("node_memory_SwapTotal_bytes", 2_000.0 * MIB),
            ("node_memory_SwapFree_bytes", if busy { 500.0 } else { 2_000.0 } * MIB),
            ("node_vmstat_pswpin", grown(second, 0.0, 50.0)),
            ("node_vmstat_pswpout", grown(second, 0.0, 100.0)),
            ("node_vmstat_pgpgin", grown(second, 10.0, 300.0)),
            ("node_vmstat_pgpgout", grown(second, 20.0, 9_000.0)),
            ("node_sockstat_TCP_inuse", 17.0),
            ("casefile_processes", 3.0),
            ("casefile_processes_read", 2.0),
        ] {
            all.push(said(name, &[], value));
        }
        for (device, of) in [("nvme0n1", 1.0), ("sda", 0.0)] {
            for (name, calm, then) in [
                ("node_disk_reads_completed_total", 0.0, 0.0),
                ("node_disk_read_bytes_total", 0.0, 0.0),
                ("node_disk_read_time_seconds_total", 0.0, 0.0),
                ("node_disk_writes_completed_total", 10.0, 400.0),
                ("node_disk_written_bytes_total", 40_960.0, 9_216_000.0),
                ("node_disk_write_time_seconds_total", 0.01, 12.0),
                ("node_disk_io_time_seconds_total", 0.02, 0.99),
                ("node_disk_io_time_weighted_seconds_total", 0.01, 12.0),
            ] {
                all.push(said(name, &[device], grown(second, calm, then) * of));
            }
        }
        for (device, of) in [("eth0", 1.0), ("veth1f2e3d4c", 0.0)] {
            all.push(said("node_network_receive_bytes_total", &[device], f64::from(second) * 102_400.0 * of));
            all.push(said("node_network_transmit_bytes_total", &[device], f64::from(second) * 51_200.0 * of));
        }
        let pod = format!("/kubepods/burstable/pod{uid}");
        let of_pod = format!("{pod}/{}", "ab".repeat(32));
        for (id, of) in [(&pod, 1.0), (&of_pod, 0.95)] {
            all.push(said("container_cpu_usage_seconds_total", &[id], grown(second, 0.1, 0.5) * of));
            all.push(said("container_memory_usage_bytes", &[id], if busy { 900.0 } else { 200.0 } * MIB * of));
            all.push(said("container_spec_memory_limit_bytes", &[id], 1_000.0 * MIB));
        }
        // Busy processes are read each second, those at rest each tenth.
        let mut process = |pid: &str, comm: &str, cgroup: &str, cpu: f64, resident: f64, state: u8| {
            all.push(said("casefile_process_info", &[pid, "77", "1", comm, cgroup, "1000"], 1.0));
            all.push(said("casefile_process_cpu_seconds_total", &[pid, "77", "user"], cpu));
            all.push(said("casefile_process_resident_bytes", &[pid, "77"], resident));
            all.push(said("casefile_process_state", &[pid, "77"], state.into()));
        };
        let (pid, other) = if sick { ("4242", "4243") } else { ("777", "778") };
        process(
            pid,
            "api\x1b[2Jserver",
            &of_pod,
            grown(second, 0.1, 0.5),
            if busy { 850.0 } else { 150.0 } * MIB,
            b'R',
        );
        if second % 10 == 3 {
            process(other, "sshd", "/system.slice/ssh.service", 1.0, 9.0 * MIB, b'S');
        }
        if second % 10 == 0 {
            all.push(said("node_uname_info", &[if sick { "6.8.0-49" } else { "6.8.0-47" }, "x86_64"], 1.0));
            let root = ["/dev/nvme0n1p1", "/", "ext4"];
            let store = ["store:/export", "/mnt/store", "nfs4"];
            for (name, value) in [("size", 100_000.0), ("free", 30_000.0), ("avail", 25_000.0)] {
                let name = match name {
                    "size" => "node_filesystem_size_bytes",
                    "free" => "node_filesystem_free_bytes",
                    _ => "node_filesystem_avail_bytes",
                };
                all.push(said(name, &root, value * MIB));
            }
            all.push(said("node_filesystem_device_error", &root, 0.0));
            all.push(said("node_filesystem_device_error", &store, 1.0));
        }
        let here = true_time.after(Duration::from_secs(ahead));
        let events = match second {
            101 => vec![kernel(here, 0, 3, "nvme nvme0: I/O 12 QID 3 timeout, aborting")],
            102 => vec![kernel(here, 1, 5, "trainer: nvme nvme0: \x1b[2Jforged")],
            _ => vec![],
        };
        recorder.tick(here, all, events);
    }
    recorder.bytes()
}

const KERNEL_LOG: &str = "\
2026-12-31T23:00:43.118000Z facility=kern level=err seq=11 user=false nvme nvme0: I/O 12 QID 3 timeout, aborting
2026-12-31T23:00:44.000001Z facility=user level=notice seq=12 user=true trainer: forged=\\x1b[2J
2026-12-31T23:00:45.500000Z facility=kern level=info seq=13 user=false eth0: link up
";

const SOCKETS: &str = r#"{"kind":"tcp","state":"LISTEN","local":"0.0.0.0:22","send_queue":128,"receive_queue":0,"uid":0,"inode":7,"pid":4243,"comm":"sshd"}
{"kind":"tcp","state":"ESTABLISHED","local":"192.0.2.2:22","remote":"192.0.2.9:50000","send_queue":36,"receive_queue":0,"uid":0,"inode":8,"pid":4243,"comm":"ss\u001b[2Jhd"}
{"kind":"udp","state":"CLOSE","local":"0.0.0.0:53","send_queue":0,"receive_queue":0,"inode":9}
"#;

fn node_json(release: &str, governor: &str, hostname: &str) -> String {
    serde_json::json!({
        "agent_version": "0.1.0", "boot_id": "x", "collected_at": { "wall": "2026-12-31T23:01:07Z" },
        "inventory": {
            "kernel": { "release": release, "hostname": hostname, "command_line": "quiet" },
            "memory": { "total_bytes": 16_777_216_000_u64 },
            "disks": [{ "name": "nvme0n1", "firmware": "1.2", "serial": hostname }],
            "settings": { "vm.swappiness": governor, "kernel.hostname": hostname },
        }
    })
    .to_string()
}

/// n1 is sick and two seconds ahead; n2 is well and has no kernel log.
fn made() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let n1 = vec![
        log("recording/window.seg", None, machine("n1", 2, true)),
        log("logs/kernel.log", None, KERNEL_LOG),
        log("logs/pods/shop_api-7d9f8b6c5-x2x9k_0a1b2c3d-1111-2222-3333-444455556666/main.log", None, ""),
        log("node.json", None, node_json("6.8.0-49", "60", "n1")),
        log("state/sockets.jsonl", None, SOCKETS),
    ];
    let n2 = vec![
        log("recording/window.seg", None, machine("n2", 0, false)),
        log("logs/pods/shop_api-7d9f8b6c5-p4q7z_0a1b2c3d-7777-8888-9999-000011112222/main.log", None, ""),
        log("node.json", None, node_json("6.8.0-47", "60", "n2")),
    ];
    let nodes = [
        Node { name: "n1", ahead: Some(2), logs: n1, gaps: vec![] },
        Node { name: "n2", ahead: Some(0), logs: n2, gaps: vec![] },
    ];
    let file = seal(dir.path(), &nodes);
    (dir, file)
}

#[expect(clippy::disallowed_methods, reason = "our own command, started by its test")]
fn casefile(file: &Path, verb: &str, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_casefile")).arg(verb).arg(file).args(args).output().unwrap()
}

fn ended(name: &str, output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{name}: {output:?}");
    golden(name, &output.stdout);
    assert!(!output.stdout.contains(&0x1b), "{name} would steer a terminal");
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

#[test]
fn processes_and_pods_are_shown_as_they_were() {
    let (_dir, file) = made();
    ended("past-top.txt", &casefile(&file, "top", &["--node", "n1", "--at", "23:00:50Z"]), 0);
    ended("past-top-pods.txt", &casefile(&file, "top", &["--node", "n1", "--at", "10s", "--pods"]), 0);
    let calm = json(&casefile(&file, "top", &["--node", "n1", "--at", "30s", "-o", "json"]));
    let first = &calm["processes"][0];
    assert_eq!((first["pid"].as_u64(), first["pod"].as_str()), (Some(4242), Some("shop/api-7d9f8b6c5-x2x9k")));
    assert!((first["cpus"].as_f64().unwrap() - 0.1).abs() < 1e-6, "{first}");
    assert!(first["threads"].is_null() && calm["cpu_steal_ratio"].is_null(), "what was not read is no zero: {calm}");
    // In the hole there is nothing, and that is no machine at rest.
    let hole = casefile(&file, "top", &["--node", "n1", "--at", "2026-12-31T22:58:00Z", "-o", "json"]);
    assert_eq!((hole.status.code(), json(&hole)["processes"].as_array().unwrap().len()), (Some(5), 0));
}

#[test]
fn tables_over_time_are_those_of_the_familiar_tools() {
    let (_dir, file) = made();
    // The agent was away for ten seconds: that is a hole, and not all was there that was asked for.
    ended("past-vmstat.txt", &casefile(&file, "vmstat", &["--node", "n1", "--every", "5s", "--since", "70s"]), 5);
    ended("past-iostat.txt", &casefile(&file, "iostat", &["--node", "n1", "--every", "10s", "--since", "30s"]), 0);
    ended("past-sar-cpu.txt", &casefile(&file, "sar", &["cpu", "--node", "n1", "--every", "10s", "--since", "30s"]), 0);
    ended("past-sar-network.txt", &casefile(&file, "sar", &["network", "--node", "n1", "--at", "10s"]), 0);
    ended("past-ss-summary.txt", &casefile(&file, "ss", &["-s", "--node", "n1", "--at", "10s"]), 0);

    let rows = json(&casefile(&file, "iostat", &["--node", "n1", "--at", "5s", "-o", "json"]));
    let (busy, idle) = (&rows[0], &rows[1]);
    assert_eq!((busy["device"].as_str(), busy["writes_per_second"].as_f64()), (Some("nvme0n1"), Some(400.0)));
    assert!((busy["write_wait_seconds"].as_f64().unwrap() - 0.03).abs() < 1e-9, "{busy}");
    assert!(busy["read_wait_seconds"].is_null() && busy["reads_per_second"] == 0.0, "no read, no wait: {busy}");
    assert!(idle["write_wait_seconds"].is_null(), "{idle}");
    assert!(busy.get("discards_per_second").is_none(), "never recorded: {busy}");
    assert_eq!(rows[0]["until"], "2026-12-31T23:00:55Z");
}

#[test]
fn file_systems_sockets_and_the_kernels_log_are_shown_as_the_familiar_tools_do() {
    let (_dir, file) = made();
    ended("past-df.txt", &casefile(&file, "df", &["--node", "n1", "-h", "--at", "5s"]), 0);
    let sockets = casefile(&file, "ss", &["--node", "n1", "-a"]);
    ended("past-ss.txt", &sockets, 0);
    let told = String::from_utf8_lossy(&sockets.stderr);
    assert!(told.contains("at collection time, 2026-12-31T23:01:05Z"), "on the collector's clock: {told}");
    let none = casefile(&file, "ss", &["--node", "n2"]);
    assert_eq!((none.status.code(), none.stdout.len()), (Some(5), 0), "{none:?}");

    ended("past-dmesg.txt", &casefile(&file, "dmesg", &["--node", "n1"]), 0);
    let streamed = casefile(&file, "dmesg", &["--node", "n2"]);
    ended("past-dmesg-streamed.txt", &streamed, 0);
    assert!(String::from_utf8_lossy(&streamed.stderr).contains("has no kernel log of n2"), "{streamed:?}");
    let errors = json(&casefile(&file, "dmesg", &["--node", "n1", "-l", "err,crit", "-o", "json"]));
    assert_eq!(errors.as_array().unwrap().len(), 1);
    assert_eq!((errors[0]["at"].as_str(), errors[0]["seq"].as_u64()), (Some("2026-12-31T23:00:41.118Z"), Some(11)));
}

#[test]
fn a_sick_node_is_told_apart_from_a_well_one_and_from_itself_before() {
    let (_dir, file) = made();
    ended("past-compare.txt", &casefile(&file, "compare", &["n1", "n2", "--since", "15s", "-n", "12"]), 0);
    ended("past-diff.txt", &casefile(&file, "diff", &["--node", "n1", "--before", "20s", "-n", "8"]), 0);
    let found = json(&casefile(&file, "compare", &["n1", "n2", "-o", "json"]));
    let rows = found["rows"].as_array().unwrap();
    let row = |metric: &str| rows.iter().find(|row| row["metric"] == metric);
    // The pods of the two nodes have other names and uids, and are of one workload.
    assert!(row("container_cpu_usage_seconds_total").is_none_or(|row| row["labels"]["pod"] == "api"), "{found}");
    assert!(rows.iter().all(|row| row["labels"].get("pid").is_none() && row["labels"]["device"] != "veth1f2e3d4c"));
    assert!(row("node_network_receive_bytes_total").is_none(), "alike");
    assert_eq!(
        found["changes"],
        serde_json::json!([{ "what": "kernel release", "a": "6.8.0-49", "b": "6.8.0-47" }]),
        "names and serial numbers must differ"
    );
    assert_eq!((found["a"].as_str(), found["from"].as_str()), (Some("n1"), Some("2026-12-31T22:59:00Z")));
    let same = casefile(&file, "diff", &["--node", "n2", "--with", file.to_str().unwrap(), "-o", "json"]);
    assert_eq!((json(&same)["rows"].as_array().unwrap().len(), same.status.code()), (0, Some(0)), "{same:?}");
}

#[test]
fn a_node_that_was_not_said_or_is_not_there_is_a_matter_of_what_was_typed() {
    let (dir, file) = made();
    for args in [
        &["top"][..],
        &["df", "--node", "n3"],
        &["vmstat", "--node", "n1", "--since", "10"],
        &["diff", "--node", "n1", "--before", "2027-01-01T00:00:00Z"],
    ] {
        let output = casefile(&file, args[0], &args[1..]);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
    }
    let told = casefile(&file, "iostat", &[]);
    assert!(String::from_utf8_lossy(&told.stderr).contains("n1, n2"), "{told:?}");
    let long = casefile(&file, "vmstat", &["--node", "n1", "--every", "1ms"]);
    assert!(String::from_utf8_lossy(&long.stderr).contains("more than 20000"), "{long:?}");
    // A directory of segments has one node, and needs no name.
    let ring = dir.path().join("ring");
    std::fs::create_dir(&ring).unwrap();
    std::fs::write(ring.join("00000001.seg"), machine("n1", 0, true)).unwrap();
    let top = casefile(&ring, "top", &["-o", "json", "-n", "1"]);
    assert_eq!(json(&top)["processes"][0]["pid"], 4242, "{top:?}");
}
