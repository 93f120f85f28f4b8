//! The `casefile` command over the archive of format version 1 that is kept in `evidence/testdata`: what was sealed then
//! can be checked and read now. Scenarios with collectors and agents are in the workspace's `tests/`.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test everything that fails ends the test")]

use std::path::Path;
use std::process::Output;

fn golden() -> String {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../evidence/testdata/v1");
    let mut found = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path());
    let file = found.find(|p| p.to_string_lossy().ends_with(".tar.gz")).expect("the golden archive");
    file.to_str().unwrap().to_owned()
}

#[expect(clippy::disallowed_methods, reason = "our own command, started by its test")]
fn casefile(args: &[&str]) -> Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_casefile")).args(args).output().unwrap()
}

#[test]
fn an_archive_of_version_1_is_still_intact_and_its_entries_can_be_listed() {
    let file = golden();
    let verified = casefile(&["verify", &file, "-o", "json"]);
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
    let verified: serde_json::Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!(verified["problems"], serde_json::json!([]));

    let listed = casefile(&["ls", &file, "-o", "jsonl"]);
    let entries: Vec<serde_json::Value> =
        String::from_utf8(listed.stdout).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    for entry in &entries {
        let path = entry["path"].as_str().unwrap();
        let content = casefile(&["cat", &file, path]);
        assert!(content.status.success(), "{content:?}");
        assert_eq!(Some(content.stdout.len() as u64), entry["size"].as_u64(), "{path}");
    }
    assert!(entries.len() >= 8, "{entries:?}");
}

#[test]
fn an_entry_that_is_not_there_is_an_error_that_names_it() {
    let missing = casefile(&["cat", &golden(), "data/no-such-entry"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("data/no-such-entry"), "{missing:?}");
}
