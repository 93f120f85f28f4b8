//! The `casefile` command over the archive of format version 1 that is kept in `evidence/testdata`: what was sealed then
//! can be checked and read now. Scenarios with collectors and agents are in the workspace's `tests/`.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test everything that fails ends the test")]

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

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

#[expect(clippy::disallowed_methods, reason = "our own command, started by its test")]
fn explain(args: &[&str], lines: &[u8]) -> Output {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_casefile"))
        .arg("explain")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines).unwrap();
    child.wait_with_output().unwrap()
}

fn golden_text(name: &str, text: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let kept = std::fs::read(&path).unwrap_or_default();
    let (now, kept) = (String::from_utf8_lossy(text), String::from_utf8_lossy(&kept));
    assert_eq!(now, kept, "{name} changed; UPDATE_GOLDEN=1 takes it over");
}

#[test]
fn an_xid_and_an_sxid_are_explained_with_whose_opinion_it_is() {
    for (what, code) in [("xid", "79"), ("xid", "63"), ("xid", "61"), ("sxid", "20034")] {
        let output = explain(&[what, code], b"");
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{output:?}");
        golden_text(&format!("explain-{what}-{code}.txt"), &output.stdout);
    }
    let json: serde_json::Value = serde_json::from_slice(&explain(&["xid", "79", "-o", "json"], b"").stdout).unwrap();
    assert_eq!(
        (json["now"]["word"].as_str(), json["opinions"][0]["as_of"].as_str()),
        (Some("RESTART_BM"), Some("2025-10-29"))
    );
}

#[test]
fn a_code_that_is_in_no_catalogue_is_said_to_be_unknown_with_what_is_known() {
    for (args, known) in [(["xid", "999"], "codes 1 to 176"), (["sxid", "5"], "between 10001 and 24007")] {
        let output = explain(&args, b"");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{output:?}");
        assert!(told.contains(known) && told.contains("is not in the catalogue"), "{told}");
    }
    for wrong in [&["xid"][..], &["xid", "seventy"], &["79"], &["xid", "-1"]] {
        assert_eq!(explain(wrong, b"").status.code(), Some(2), "{wrong:?}");
    }
}

/// A second in which a GPU is lost, as `dmesg` prints it, with lines that are no business of the driver's and one that is forged.
const KERNEL_LOG: &[u8] = b"[12345.000001] eth0: renamed from veth1f2e3d4c
[12345.100000] NVRM: Xid (PCI:0000:84:00): 62, pid=77, name=train, 0000(0000) 00000000 00000000
[12345.900000] NVRM: Xid (PCI:0000:84:00): 45, pid=77, name=train, Ch 00000010
[12345.900001] NVRM: Xid (PCI:0000:84:00): 45, pid=77, name=tr\x1b[2Jain, Ch 00000011
[12346.000000] train[77]: NVRM: Xid (PCI:0000:85:00): 79, GPU has fallen off the bus.
2026-11-23T03:11:42.118000Z facility=1 level=5 seq=9 user=true NVRM: Xid (PCI:0000:86:00): 79, GPU has fallen off the bus.
[12347.000000] NVRM: The NVIDIA GPU 0000:84:00.0
               NVRM: (PCI ID: 10de:2330) installed in this system has
               NVRM: fallen off the bus and is not responding to commands.
[12348.000000] NVRM: Xid (PCI:0000:84:00): 999, new
";

#[test]
fn lines_that_are_known_are_explained_once_and_the_others_are_counted() {
    let output = explain(&[], KERNEL_LOG);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{told}");
    golden_text("explain-lines.txt", &output.stdout);
    assert!(!output.stdout.contains(&0x1b), "it would steer a terminal");
    assert!(told.contains("Xid 999 is not in the catalogue") && told.contains("4 line(s) are not among"), "{told}");

    let lines = String::from_utf8(explain(&["-o", "jsonl"], KERNEL_LOG).stdout).unwrap();
    let lines: Vec<serde_json::Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let codes: Vec<_> = lines.iter().map(|l| l["record"]["code"].as_u64().unwrap()).collect();
    assert_eq!(codes, [62, 45, 45, 79, 79, 999], "62 and 45 within a second are two");
    assert_eq!((lines[3]["record"]["author"].as_str(), lines[5]["explanation"].is_null()), (Some("program"), true));
    assert_eq!(lines[4]["record"]["pci"]["address"], "0000:84:00.0");
}

#[test]
fn where_nothing_is_explained_it_ends_with_1() {
    for lines in
        [&b""[..], b"eth0: renamed from veth1f2e3d4c\n", b"NVRM: Xid (PCI:0000:84:00): 999, new\n", &[0xff; 100_000]]
    {
        let output = explain(&[], lines);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(!output.stderr.is_empty());
    }
}
