//! A user without any privilege: everything works, and what may not be read is told with the reason, at the terminal and
//! in the archive.

use std::fs;

use casefile_tests::program::{Unprivileged, run, said, stdout};

#[test]
fn without_root_a_case_file_is_made_and_says_what_may_not_be_read_and_why() {
    let program = Unprivileged::new("casefile-collector");
    let dir = program.own_dir();
    let output = program
        .command()
        .args(["local", "--once", "--warm-up", "2s", "--listen", "127.0.0.1:0", "--data"])
        .arg(dir.path().join("data"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(!said(&output).contains("panicked"), "{}", said(&output));
    let file = stdout(&output).lines().next().unwrap().to_owned();
    let shown = run("casefile", &["show", &file, "-o", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    let rows = json["coverage"]["nodes"][0]["sources"].as_array().unwrap();
    let row = |name: &str, kind: &str| rows.iter().find(|r| r["source"] == name && r["kind"] == kind).unwrap();
    for other in ["cpu", "memory", "network"] {
        assert_eq!(row(other, "metrics")["gaps"].as_array().unwrap().len(), 0, "{}", row(other, "metrics"));
        assert!(row(other, "metrics")["records"].as_u64() > Some(0), "{}", row(other, "metrics"));
    }
    assert!(run("casefile", &["verify", &file]).status.success());

    // Kernels differ in who may read their log.
    let restricted = fs::read("/proc/sys/kernel/dmesg_restrict").is_ok_and(|text| text.starts_with(b"1"));
    if !restricted {
        eprintln!("skipped in part: this kernel gives its log to everybody (kernel.dmesg_restrict is not 1)");
        return;
    }
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let kernel = told.lines().find(|line| line.trim_start().starts_with("may not") && line.contains("kernel"));
    assert!(
        kernel.is_some_and(|line| line.contains("not permitted")),
        "it says what it may not read, and why:\n{told}"
    );
    for kind in ["metrics", "logs"] {
        let gaps = row("kernel", kind)["gaps"].to_string();
        assert!(gaps.contains("permission-denied") && gaps.contains("not permitted"), "{kind}: {gaps}");
    }
}
