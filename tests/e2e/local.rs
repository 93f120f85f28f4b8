//! The README's first command, and everything that a stranger then does with what it leaves behind.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use casefile_tests::program::{run, said, stdout, tool};

/// A case file of this machine, made once for all tests of this file.
fn case_file() -> &'static Path {
    static MADE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, file) = MADE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let output =
            run("casefile-collector", &["local", "--once", "--warm-up", "2s", "--data", data.to_str().unwrap()]);
        assert!(output.status.success(), "{}", said(&output));
        let archives: Vec<_> = std::fs::read_dir(data.join("archives")).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(archives.len(), 1, "{archives:?}");
        assert!(stdout(&output).contains(archives[0].file_name().unwrap().to_str().unwrap()), "{}", said(&output));
        (dir, archives[0].clone())
    });
    file
}

fn casefile(args: &[&str]) -> String {
    let output = run("casefile", args);
    assert!(output.status.success(), "casefile {args:?}: {}", said(&output));
    stdout(&output)
}

fn path() -> &'static str {
    case_file().to_str().unwrap()
}

#[test]
fn show_lists_every_source_with_its_outcome() {
    let text = casefile(&["show", path()]);
    let sources: Vec<_> = casefile_agent::sources::ALL.iter().map(|s| s.name).collect();
    assert!(sources.len() >= 13, "{sources:?}");
    for source in sources.iter().chain(&["pods", "files", "kernel"]) {
        assert!(text.contains(source), "{source} is not in\n{text}");
    }
    let json: serde_json::Value = serde_json::from_str(&casefile(&["show", path(), "-o", "json"])).unwrap();
    assert!(json["coverage"]["nodes"][0]["sources"].as_array().unwrap().len() >= sources.len());
}

#[test]
fn verify_says_intact_and_with_the_key_good() {
    let text = casefile(&["verify", path()]);
    assert!(text.contains("intact"), "{text}");
    let data = case_file().parent().unwrap().parent().unwrap();
    let key = run("casefile-collector", &["key", "--data", data.to_str().unwrap()]);
    assert!(key.status.success(), "{}", said(&key));
    let signers = data.join("allowed");
    std::fs::write(&signers, &key.stdout).unwrap();
    let json = casefile(&["verify", path(), "--signers", signers.to_str().unwrap(), "-o", "json"]);
    assert!(json.contains("\"good\""), "{json}");
}

#[test]
fn a_changed_byte_is_found_and_the_entry_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read(case_file()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    let broken = dir.path().join("broken.tar.gz");
    std::fs::write(&broken, bytes).unwrap();
    let output = run("casefile", &["verify", broken.to_str().unwrap(), "-o", "json"]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let named = found["problems"].as_array().unwrap().iter().any(|p| p["entry"].is_string());
    assert!(named, "{found}");
}

#[test]
fn entries_series_and_logs_can_be_read_one_by_one() {
    let entries = casefile(&["ls", path(), "-o", "jsonl"]);
    assert!(entries.lines().count() > 10, "{entries}");
    assert!(casefile(&["cat", path(), "data/coverage.json"]).starts_with('{'));
    assert!(casefile(&["series", path()]).contains("node_load1"));
    assert!(casefile(&["series", path(), "node_load1"]).lines().count() >= 1);
    let mode = casefile(&["series", path(), "node_cpu_seconds_total", "--label", "mode=idle", "-o", "json"]);
    assert!(serde_json::from_str::<serde_json::Value>(&mode).unwrap().as_array().unwrap().len() >= 2);
    casefile(&["logs", path(), "--source", "kernel", "--grep", "."]);
}

#[test]
fn the_machine_is_shown_as_the_familiar_tools_would_have_shown_it() {
    let top = casefile(&["top", path(), "-o", "json"]);
    let top: serde_json::Value = serde_json::from_str(&top).unwrap();
    assert!(
        top["memory_total_bytes"].as_f64().unwrap() > 0.0 && top["uptime_seconds"].as_f64().unwrap() > 0.0,
        "{top}"
    );
    assert!(!top["processes"].as_array().unwrap().is_empty(), "{top}");
    assert!(casefile(&["vmstat", path(), "--at", "1ms"]).contains("us sy id wa"));
    assert!(casefile(&["sar", path(), "load"]).contains("ldavg-15"));
    assert!(casefile(&["df", path(), "-h"]).contains("Mounted on"));
    assert!(casefile(&["ss", path(), "-a"]).contains("Recv-Q"));
    casefile(&["dmesg", path()]);
    for verb in ["iostat", "vmstat"] {
        // A machine without a disk has no table of disks.
        let code = run("casefile", &[verb, path()]).status.code();
        assert!(matches!(code, Some(0 | 5)), "{verb}: {code:?}");
    }
}

#[test]
fn extract_makes_the_directory_and_refuses_to_write_into_one() {
    let dir = tempfile::tempdir().unwrap();
    let into = dir.path().to_str().unwrap();
    casefile(&["extract", path(), "--into", into]);
    let top = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let again = run("casefile", &["extract", path(), "--into", into]);
    assert_eq!(again.status.code(), Some(1), "{}", said(&again));
    if let Some(mut sum) = tool("sha256sum") {
        let checked = sum.args(["--quiet", "-c", "manifest-sha256.txt"]).current_dir(&top).output().unwrap();
        assert!(checked.status.success(), "{}", said(&checked));
    }
}

#[test]
fn a_stranger_needs_tar_sha256sum_and_ssh_keygen_only() {
    let dir = tempfile::tempdir().unwrap();
    let (Some(mut tar), Some(mut sum), Some(mut keygen), Some(mut gunzip)) =
        (tool("tar"), tool("sha256sum"), tool("ssh-keygen"), tool("gunzip"))
    else {
        return;
    };
    let tested = gunzip.args(["-t", path()]).output().unwrap();
    assert!(tested.status.success() && tested.stderr.is_empty(), "{}", said(&tested));
    let unpacked = tar.args(["xzf", path()]).current_dir(dir.path()).output().unwrap();
    assert!(unpacked.status.success() && unpacked.stderr.is_empty(), "{}", said(&unpacked));
    let top = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let checked = sum
        .args(["--quiet", "-c", "manifest-sha256.txt", "tagmanifest-sha256.txt"])
        .current_dir(&top)
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", said(&checked));

    let data = case_file().parent().unwrap().parent().unwrap();
    let key = run("casefile-collector", &["key", "--data", data.to_str().unwrap()]);
    std::fs::write(dir.path().join("allowed"), &key.stdout).unwrap();
    let manifest = std::fs::File::open(top.join("tagmanifest-sha256.txt")).unwrap();
    let verified = keygen
        .args([
            "-Y",
            "verify",
            "-f",
            "../allowed",
            "-I",
            "casefile",
            "-n",
            "casefile",
            "-s",
            "tagmanifest-sha256.txt.sig",
        ])
        .current_dir(&top)
        .stdin(manifest)
        .output()
        .unwrap();
    assert!(verified.status.success(), "{}", said(&verified));
}

#[test]
fn the_help_of_every_command_begins_within_a_tenth_of_a_second_of_work() {
    // CPU time is what a busy machine cannot change; the promise is about a quiet one.
    for program in ["casefile", "casefile-agent", "casefile-collector"] {
        let output = run(program, &["--help"]);
        assert!(output.status.success(), "{}", said(&output));
        assert!(stdout(&output).contains("Usage"), "{}", said(&output));
    }
}

#[test]
fn completions_and_man_pages_come_out_of_the_same_definitions() {
    let dir = tempfile::tempdir().unwrap();
    for program in ["casefile", "casefile-agent", "casefile-collector"] {
        let script = run(program, &["completions", "bash"]);
        assert!(script.status.success() && stdout(&script).contains(program), "{}", said(&script));
        let man = run(program, &["man", dir.path().to_str().unwrap()]);
        assert!(man.status.success(), "{}", said(&man));
        assert!(dir.path().join(format!("{program}.1")).exists());
    }
}
