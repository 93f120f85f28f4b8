//! The journal beside systemd's own programs: a file that `systemd-journal-remote` wrote, read by us and by `journalctl`.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::tree::{Tree, ask, window};

const REMOTE: &str = "/lib/systemd/systemd-journal-remote";

/// Whether the programs are there; said on standard error if not, and a failure where nothing may be skipped.
fn there() -> bool {
    #[expect(clippy::disallowed_methods, reason = "a stock tool that a stranger would use")]
    let journalctl = Command::new("journalctl").arg("--version").stdout(Stdio::null()).status().is_ok();
    let there = journalctl && Path::new(REMOTE).exists();
    if !there {
        let why = "journalctl or systemd-journal-remote is not installed";
        assert!(std::env::var_os("CASEFILE_ALLOW_NO_SKIP").is_none(), "{why}, and no skip is allowed");
        // Not eprintln!, which the harness swallows when the test passes.
        let mut stderr = std::io::stderr();
        writeln!(stderr, "SKIPPED the journal beside journalctl: {why}").unwrap();
    }
    there
}

#[expect(clippy::disallowed_methods, reason = "a stock tool that a stranger would use")]
fn write_with_systemd(path: &Path, export: &[u8], compact: &str) {
    let mut child = Command::new(REMOTE)
        .arg("-o")
        .arg(path)
        .arg("-")
        .env("SYSTEMD_JOURNAL_COMPACT", compact)
        .env("SYSTEMD_JOURNAL_KEYED_HASH", compact)
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(export).unwrap();
    assert!(child.wait().unwrap().success());
}

#[expect(clippy::disallowed_methods, reason = "a stock tool that a stranger would use")]
fn journalctl(dir: &Path, args: &[&str]) -> Vec<u8> {
    let output = Command::new("journalctl").env("TZ", "UTC").arg("-q").arg("-D").arg(dir).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn a_window_out_of_systemds_own_file_is_what_journalctl_shows() {
    if !there() {
        return;
    }
    let mut export = Vec::new();
    for n in 0..4000_u64 {
        let (unit, long) = (n % 7, "many words ".repeat(if n % 50 == 0 { 300 } else { 1 }));
        let realtime = 1_795_401_850_000_000 + n * 500_000;
        write!(
            export,
            "__REALTIME_TIMESTAMP={realtime}\n__MONOTONIC_TIMESTAMP={}\n_BOOT_ID=0f0e0d0c0b0a09080706050403020100\n\
             _SYSTEMD_UNIT=u{unit}.service\nSYSLOG_IDENTIFIER=u{unit}\n_PID={}\nPRIORITY={}\n_TRANSPORT=stdout\n",
            n * 500_000 + 9,
            n % 90,
            n % 8,
        )
        .unwrap();
        if n % 11 == 0 {
            let message = format!("{n} \u{1b}[1m\nsecond \u{e9}");
            export.extend_from_slice(b"MESSAGE\n");
            export.extend_from_slice(&(message.len() as u64).to_le_bytes());
            export.extend_from_slice(message.as_bytes());
            export.push(b'\n');
        } else {
            writeln!(export, "MESSAGE={n} {long}").unwrap();
        }
        export.extend_from_slice(b"TWICE=a\nTWICE=b\n\n");
    }
    for compact in ["0", "1"] {
        let tree = Tree::new();
        let dir = tree.path("var/log/journal/0123456789abcdef0123456789abcdef/system.journal");
        let dir = dir.parent().unwrap();
        write_with_systemd(&dir.join("system.journal"), &export, compact);
        let reading = tree.read("journal", &ask(window("2026-11-23T02:50:00Z", "2026-11-23T03:05:00Z")));
        // journalctl's end is closed, and one entry lies on it.
        let theirs = journalctl(dir, &["-o", "json", "--since=2026-11-23 02:50:00", "--until=2026-11-23 03:04:59.9"]);
        let parse = |line: &str| serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(line).unwrap();
        let theirs: Vec<_> = std::str::from_utf8(&theirs).unwrap().lines().map(parse).collect();
        let ours = reading.item("logs/journal/entries.jsonl").text();
        let ours: Vec<_> = ours.lines().map(parse).collect();
        assert_eq!((theirs.len(), ours.len()), (1800, 1800));
        for (mut theirs, mut ours) in theirs.into_iter().zip(ours) {
            theirs.remove("__CURSOR");
            for added in ["__SEQNUM", "__SEQNUM_ID"] {
                // journalctl says these since systemd 254.
                assert!(ours.remove(added).is_some() && theirs.remove(added).is_none_or(|v| v.is_string()));
            }
            // It gives what is not plain text as an array of numbers.
            if let Some(serde_json::Value::Array(bytes)) = theirs.get("MESSAGE") {
                let bytes: Vec<u8> = bytes.iter().map(|b| u8::try_from(b.as_u64().unwrap()).unwrap()).collect();
                theirs.insert("MESSAGE".to_owned(), String::from_utf8(bytes).unwrap().into());
            }
            assert_eq!(theirs, ours);
        }
        let text =
            journalctl(dir, &["-o", "cat", "-u", "u3", "--since=2026-11-23 02:50:00", "--until=2026-11-23 03:04:59.9"]);
        let lines = reading.item("logs/journal/u3.service.log").text();
        let messages: String = lines
            .lines()
            .map(|l| match l.split_once("]: ") {
                Some((_, message)) if !l.starts_with(' ') => format!("{message}\n"),
                _ => format!("{}\n", &l[1..]),
            })
            .collect();
        assert_eq!(messages, String::from_utf8(text).unwrap());
        assert!(fs::read_dir(dir).unwrap().count() == 1);
    }
}
