//! The `casefile` command over the archive of format version 1 that is kept in `evidence/testdata`: what was sealed then
//! can be checked and read now. Scenarios with collectors and agents are in the workspace's `tests/`.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test everything that fails ends the test")]

mod goldens;

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

#[test]
fn an_xid_and_an_sxid_are_explained_with_whose_opinion_it_is() {
    for (what, code) in [("xid", "79"), ("xid", "63"), ("xid", "61"), ("sxid", "20034")] {
        let output = explain(&[what, code], b"");
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{output:?}");
        goldens::golden(&format!("explain-{what}-{code}.txt"), &output.stdout);
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
    goldens::golden("explain-lines.txt", &output.stdout);
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

#[test]
fn a_signature_is_explained_by_its_id_by_the_beginning_of_ids_and_by_what_others_call_it() {
    for (name, golden) in [
        ("mem.oom.memcg", "explain-mem.oom.memcg.txt"),
        ("disk.io_error", "explain-disk.io_error.txt"),
        ("gpu.xid.needs_reset", "explain-gpu.xid.needs_reset.txt"),
    ] {
        let output = explain(&[name], b"");
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{output:?}");
        goldens::golden(golden, &output.stdout);
    }
    let ids = |args: &[&str]| -> Vec<String> {
        let found: serde_json::Value = serde_json::from_slice(&explain(args, b"").stdout).unwrap();
        found.as_array().unwrap().iter().map(|e| e["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&["OOMKilling", "-o", "json"]), ["mem.oom.memcg", "mem.oom.system", "mem.oom.killed"]);
    assert_eq!(ids(&["fs.nfs", "-o", "json"]), ["fs.nfs.stall", "fs.nfs.ok"]);
    assert_eq!(ids(&["NvidiaXID79Error", "-o", "json"]), ["gpu.xid.79.fallen_off_bus"]);
    let text = String::from_utf8(explain(&["OOMKilling"], b"").stdout).unwrap();
    assert_eq!(text.matches("\n\nmem.oom.").count(), 2, "{text}");
}

#[test]
fn of_a_name_that_nobody_has_the_nearest_are_named() {
    let output = explain(&["mem.oom.mmcg"], b"");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{told}");
    assert!(told.contains("nothing is known of mem.oom.mmcg; near it: mem.oom.memcg"), "{told}");
    let told = String::from_utf8_lossy(&explain(&["zzzzzzzzzzzzzzzz"], b"").stderr).into_owned();
    assert!(told.contains("--list has all ids") && !told.contains("near it"), "{told}");
    for wrong in [&["mem.oom.memcg", "5"][..], &["--list", "xid", "79"], &[""]] {
        assert_eq!(explain(wrong, b"").status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn every_id_is_listed_with_what_it_is() {
    let text = String::from_utf8(explain(&["--list"], b"").stdout).unwrap();
    assert!(text.lines().skip(1).is_sorted() && text.lines().count() > 60, "{text}");
    let line = text.lines().find(|l| l.starts_with("kernel.hung_task ")).unwrap();
    assert!(line.ends_with("A task has been waiting for something that does not come"), "{line}");
    let lines = String::from_utf8(explain(&["--list", "-o", "jsonl"], b"").stdout).unwrap();
    let one: serde_json::Value = lines
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .find(|l: &serde_json::Value| l["id"] == "k8s.kubelet.pleg")
        .unwrap();
    assert_eq!(one["streams"][0], "journal:kubelet");
}

/// One minute of a node, as `casefile logs` prints it.
const NODE_LOG: &[u8] = br#"2026-11-23T03:11:42.000000Z n-a kernel facility=0 level=6 seq=1 user=false yes invoked oom-killer: gfp_mask=0x500cc2(GFP_HIGHUSER|__GFP_ACCOUNT), order=0, oom_score_adj=1
2026-11-23T03:11:42.000001Z n-a kernel facility=0 level=6 seq=2 user=false oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=1b2d,mems_allowed=0,oom_memcg=/kubepods/burstable/podcf1a6d3a-58d1-412c-8c53-5c727cc1bb85,task_memcg=/kubepods/burstable/podcf1a6d3a-58d1-412c-8c53-5c727cc1bb85/1b2d,task=sh,pid=11293,uid=0
2026-11-23T03:11:42.000002Z n-a kernel facility=1 level=3 seq=3 user=true EXT4-fs (md0): Remounting filesystem read-only
2026-11-23T03:11:43.000000Z n-a kubelet.service <3> kubelet[812]: E1123 03:11:43.118000     812 kubelet.go:2412] "Skipping pod synchronization" err="PLEG is not healthy: pleg was last seen active 3m5.123s ago; threshold is 3m0s"
2026-11-23T03:11:43.000001Z n-a shop/api-0/main nf_conntrack: table full, dropping packet
2026-11-23T03:11:43.000002Z n-a train.service <6> train[77]: nf_conntrack: table full, dropping packet
"#;

#[test]
fn lines_of_the_kernel_and_of_the_journal_are_recognised_in_their_own_logs_only() {
    let output = explain(&["-o", "json"], NODE_LOG);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("2 line(s) are not among those that are known"), "{told}");
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let of =
        |n: usize| (found[n]["record"]["signature"].as_str().unwrap(), found[n]["record"]["author"].as_str().unwrap());
    assert_eq!(found.as_array().unwrap().len(), 4);
    assert_eq!([of(0), of(1)], [("mem.oom.invoked", "kernel"), ("mem.oom.memcg", "kernel")]);
    assert_eq!([of(2), of(3)], [("fs.readonly", "program"), ("k8s.kubelet.pleg", "unknown")]);
    assert_eq!(
        (&found[0]["record"]["log"], &found[3]["record"]["log"]),
        (&serde_json::json!("kernel"), &serde_json::json!("journal:kubelet.service"))
    );
    let parts = &found[1]["record"]["parts"];
    assert_eq!(parts["pod_uid"], "cf1a6d3a-58d1-412c-8c53-5c727cc1bb85");
    assert_eq!(
        (&found[1]["record"]["pid"], &found[1]["record"]["process"]),
        (&serde_json::json!(11293), &serde_json::json!("sh"))
    );
    goldens::golden("explain-node.txt", &explain(&[], NODE_LOG).stdout);
}

#[test]
fn signatures_of_an_operator_are_taken_as_a_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ours.toml");
    let pack = r#"
        [sources.us]
        who = "the storage team"
        as_of = "2026-11-01"
        source = "runbook 12"

        [[signature]]
        id = "disk.array.slow"
        title = "The array is slow"
        match = ['^ourarray (?P<dev>[a-z0-9]+): slow']
        meaning = "The array says that it is slow."
        now = "ask the storage team"
        opinions = [{ by = "us", weight = "warning" }]
        aliases = ["ArraySlow (ours)"]
        positive = [{ line = "ourarray a1: slow", dev = "a1" }]
        negative = ["ourarray a1: fast"]
    "#;
    std::fs::write(&file, pack).unwrap();
    let path = file.to_str().unwrap();
    let text = String::from_utf8(explain(&["--pack", path, "arrayslow"], b"").stdout).unwrap();
    assert!(
        text.starts_with("disk.array.slow: The array is slow\n") && text.contains("warning: the storage team"),
        "{text}"
    );
    let lines =
        explain(&["--pack", path], b"[12345.678901] ourarray a1: slow\n[12345.678902] VFS: file-max limit 7 reached\n");
    assert!(lines.status.success(), "{lines:?}");
    let lines = String::from_utf8(lines.stdout).unwrap();
    assert!(lines.contains("disk.array.slow") && lines.contains("limits.files"), "{lines}");

    std::fs::write(&file, pack.replace("'^our", "'our").replace("now =", "nwo =").replace("a1: fast", "a1: slow"))
        .unwrap();
    let output = explain(&["--pack", path, "--list"], b"");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{told}");
    for part in ["begins with ^", "nwo is not known here", "now is missing"] {
        assert!(
            told.contains(&format!("{path}: signature \"disk.array.slow\": ")) && told.contains(part),
            "{part}: {told}"
        );
    }
    let none = explain(&["--pack", "/no/such/file", "--list"], b"");
    assert!(String::from_utf8_lossy(&none.stderr).contains("/no/such/file"), "{none:?}");
}
