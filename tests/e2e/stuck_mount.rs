//! A mount that never answers, on a real kernel: a FUSE file system of which nobody reads the requests, in name spaces of
//! its own so that nothing else on the machine hangs on it.

use std::time::{Duration, Instant};

use casefile_tests::Rig;
use casefile_tests::program::{binary, run, said, stdout, tool};

/// Run as pid 1 of a new pid name space: its mounts are what `filesystem` reads. Whoever execs holds the device open, so
/// the mount hangs as long as that program lives, and not longer.
const HANG_AND_RUN: &str = r#"
exec 3<>/dev/fuse || exit 90
mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 dead-server "$1" || exit 90
shift
exec "$@"
"#;

#[test]
fn a_mount_that_never_answers_costs_its_own_rows_and_nothing_else() {
    if !rustix::process::geteuid().is_root() || !std::path::Path::new("/dev/fuse").exists() {
        eprintln!("skipped: only root, and only with /dev/fuse, may mount something that hangs");
        return;
    }
    let (Some(mut unshare), Some(_)) = (tool("unshare"), tool("mount")) else { return };
    let rig = Rig::new().unwrap();
    let (dead, data) = (rig.path("dead"), rig.path("data"));
    std::fs::create_dir(&dead).unwrap();
    let began = Instant::now();
    let output = unshare
        .args(["-m", "-p", "-f", "--mount-proc", "sh", "-c", HANG_AND_RUN, "sh"])
        .arg(&dead)
        .arg(binary("casefile-collector"))
        .args(["local", "--once", "--warm-up", "3s", "--listen", "127.0.0.1:0", "--data"])
        .arg(&data)
        .output()
        .unwrap();
    if output.status.code() == Some(90) || said(&output).contains("unshare failed") {
        eprintln!("skipped: nothing that hangs can be mounted here: {}", said(&output));
        return;
    }
    assert!(output.status.success(), "{}", said(&output));
    assert!(began.elapsed() < Duration::from_secs(30), "it waited for what never answers");

    let file = stdout(&output).lines().next().unwrap().to_owned();
    let shown = run("casefile", &["show", &file, "-o", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    let rows = json["coverage"]["nodes"][0]["sources"].as_array().unwrap();
    let row = |name: &str| rows.iter().find(|r| r["source"] == name && r["kind"] == "metrics").unwrap();
    let gaps = row("filesystem")["gaps"].to_string();
    assert!(gaps.contains("timed-out") && gaps.contains("has not answered"), "{gaps}");
    for other in ["cpu", "load", "memory", "network", "process"] {
        assert!(!row(other)["gaps"].to_string().contains("timed-out"), "{}", row(other));
        assert!(row(other)["records"].as_u64() > Some(0), "{}", row(other));
    }
    // Other file systems went on being read.
    let sizes = run("casefile", &["series", &file, "node_filesystem_size_bytes", "-o", "jsonl"]);
    assert!(stdout(&sizes).lines().count() >= 1 && !stdout(&sizes).contains("dead-server"), "{}", said(&sizes));
    let stuck = run("casefile", &["series", &file, "node_filesystem_device_error", "-o", "jsonl"]);
    assert!(stdout(&stuck).contains("dead-server"), "{}", said(&stuck));
}
