//! `casefile export` over a case file with two nodes and hostile logs, over the archive of format version 1 and over a directory
//! of segments. The tools that the forms are for read them in `tests/exports/run`.
//!
//! `UPDATE_GOLDEN=1 cargo test -p casefile-review --test export` writes the goldens anew; read the diff before you commit it.

#![expect(clippy::unwrap_used, reason = "in a test everything that fails ends the test")]

mod goldens;
mod sealed;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::time::Window;
use casefile_review::casefile::CaseFile;
use casefile_review::export::{self, Ask};
use goldens::golden;
use sealed::{Node, at, log, seal};

/// Texts that act somewhere: in a page, a terminal, a spreadsheet, Markdown, SQL.
const PAYLOADS: &[&str] = &[
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1)) ![](http://e.vil/x.png) http://e.vil/ www.e.vil <http://e.vil>",
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(1)",
    "a;=1+1",
    "\"; =1",
    "\x1b[2J\x1b]0;owned\x07 \u{9b}31m \u{202e}cod.exe\u{2066} \u{e0041} \u{200b}",
    "'; DROP TABLE samples; --",
    "| a | b |\\| `code` ``` ~~~ # head",
    "\t=1",
    "{\"message\":\"forged\",\"datetime\":\"1970-01-01T00:00:00Z\"}",
];

fn case(dir: &Path) -> PathBuf {
    let kernel: String = PAYLOADS
        .iter()
        .zip(0..)
        .map(|(text, n)| format!("2026-12-31T23:00:{n:02}Z facility=0 level=3 seq={n} user=false {text}\n"))
        .collect();
    let oom = "2026-12-31T23:00:30Z facility=0 level=3 seq=77 user=false Out of memory: Killed process 4711 ([x](http://e.vil)|<img>`=1) total-vm:1kB, anon-rss:1kB, file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:1kB oom_score_adj:0\n";
    let pod: Vec<u8> = PAYLOADS
        .iter()
        .flat_map(|text| format!("2026-12-31T23:00:01Z stdout F {text}\n").into_bytes())
        .chain(*b"2026-12-31T23:00:02Z stdout F \xff no text\n")
        .collect();
    let lost = Gap::new(GapReason::RotatedAway, "=gone <i>")
        .over(Window::new(at("2026-12-31T22:58:57Z"), at("2026-12-31T22:59:10Z")).unwrap());
    let nodes = [
        Node { name: "n-a", ahead: Some(2), logs: vec![log("logs/kernel.log", None, kernel + oom)], gaps: vec![] },
        Node {
            name: "n-b",
            ahead: None,
            logs: vec![log("logs/pods/shop_api-0_0a1b/main.log", None, pod)],
            gaps: vec![lost],
        },
    ];
    seal(dir, &nodes)
}

fn exported(file: &Path, form: &str, into: &Path) -> export::Exported {
    std::fs::create_dir_all(into).unwrap();
    let mut casefile = CaseFile::open(file).unwrap();
    export::export(&mut casefile, export::form(form).unwrap(), &Ask::default(), into).unwrap()
}

/// Every file below a directory, by its name.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            all.push((path, bytes));
        }
    }
    all.sort();
    all
}

fn v1(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../evidence/testdata/v1");
    let mut found = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    found.find(|p| p.to_string_lossy().ends_with(name)).unwrap()
}

/// The records of a CSV file as RFC 4180 reads them.
fn records(text: &str) -> Vec<Vec<String>> {
    let (mut all, mut record, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' if quoted && rest.peek() == Some(&'"') => {
                cell.push('"');
                rest.next();
            }
            '"' => quoted = !quoted,
            ',' if !quoted => record.push(std::mem::take(&mut cell)),
            '\r' if !quoted && rest.peek() == Some(&'\n') => {
                rest.next();
                record.push(std::mem::take(&mut cell));
                all.push(std::mem::take(&mut record));
            }
            c => cell.push(c),
        }
    }
    assert!(cell.is_empty() && record.is_empty() && !quoted, "the file ends within a record");
    all
}

#[test]
fn the_same_case_file_gives_the_same_bytes_in_every_form() {
    let dir = tempfile::tempdir().unwrap();
    let case = case(dir.path());
    for file in [&case, &v1("recording")] {
        for form in export::ALL {
            let into = |n: u8| dir.path().join(format!("{}-{n}", form.name));
            let (first, second) = (exported(file, form.name, &into(1)), exported(file, form.name, &into(2)));
            assert_eq!(first, second);
            let bytes = |n| files(&into(n)).into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>();
            assert!(bytes(1) == bytes(2), "{}", form.name);
            assert_eq!(bytes(1).len(), first.files.len(), "{}", form.name);
            (1..=2).for_each(|n| std::fs::remove_dir_all(into(n)).unwrap());
        }
    }
}

#[test]
fn what_a_person_reads_is_what_was_meant() {
    let dir = tempfile::tempdir().unwrap();
    let case = case(dir.path());
    for (form, file, name) in [
        ("csv", "logs.csv", "export-logs.csv"),
        ("csv", "gaps.csv", "export-gaps.csv"),
        ("csv", "findings.csv", "export-findings.csv"),
        ("timeline", "timeline.jsonl", "export-timeline.jsonl"),
        ("postmortem", "postmortem.md", "export-postmortem.md"),
    ] {
        let into = dir.path().join(form);
        if !into.exists() {
            exported(&case, form, &into);
        }
        golden(name, &std::fs::read(into.join(file)).unwrap());
    }
}

#[test]
fn nothing_that_a_node_wrote_acts_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let case = case(dir.path());
    let steers = |c: char| {
        (c.is_control() && !matches!(c, '\n' | '\t' | '\r'))
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{e0000}'..='\u{e007f}')
    };
    for form in ["csv", "timeline", "openmetrics"] {
        exported(&case, form, &dir.path().join(form));
        for (path, bytes) in files(&dir.path().join(form)) {
            let text = String::from_utf8(bytes).unwrap();
            assert_eq!(text.chars().find(|c| steers(*c)), None, "{}", path.display());
        }
    }
    let mut texts = 0;
    for (path, bytes) in files(&dir.path().join("csv")) {
        let text = String::from_utf8(bytes).unwrap();
        let rows = records(&text);
        assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{}: a row has another width", path.display());
        for cell in rows.iter().flatten() {
            // Where another locale splits a line or a cell, too.
            for part in cell.split([';', '\n', '\t']) {
                assert!(!part.starts_with(['=', '+', '-', '@']), "{}: {cell:?}", path.display());
            }
            texts += 1;
        }
    }
    assert!(texts > 500, "only {texts} cells");
    for (_, bytes) in files(&dir.path().join("timeline")) {
        // JSON lines that a node forged stay texts within ours.
        let text = String::from_utf8(bytes).unwrap();
        assert!(!text.lines().any(|line| line.starts_with("{\"message\"")), "{text}");
    }
    exported(&case, "postmortem", &dir.path().join("md"));
    let text = String::from_utf8(std::fs::read(dir.path().join("md/postmortem.md")).unwrap()).unwrap();
    for active in ["<script", "<img", "<b>", "](", "://", "www.e"] {
        assert!(!text.contains(active), "{active}: {text}");
    }
}

#[expect(clippy::disallowed_methods, reason = "our own command, started by its test")]
fn casefile(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_casefile")).current_dir(dir).args(args).output().unwrap()
}

#[test]
fn the_command_overwrites_nothing_and_leaves_nothing_half_written() {
    let dir = tempfile::tempdir().unwrap();
    case(dir.path());
    let run = |args: &[&str]| casefile(dir.path(), &[&["export", "case.tar.gz"], args].concat());
    let listed = || {
        let mut names: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let done = run(&["--to", "csv", "-o", "json"]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let done: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(done["path"], "case.csv");
    for file in done["files"].as_array().unwrap() {
        let text = std::fs::read(dir.path().join("case.csv").join(file["file"].as_str().unwrap())).unwrap();
        let rows = records(&String::from_utf8(text).unwrap()).len() as u64 - 1;
        assert_eq!(file["rows"].as_u64(), Some(rows), "{file}");
    }
    let again = run(&["--to", "csv"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("nothing is overwritten"), "{again:?}");
    assert_eq!(run(&["--to", "openmetrics", "--into", "case.tar.gz"]).status.code(), Some(1));
    let piped = run(&["--to", "openmetrics", "--into", "-"]);
    assert!(piped.stdout.ends_with(b"# EOF\n") && piped.status.success(), "{piped:?}");
    assert_eq!(run(&["--to", "csv", "--into", "-"]).status.code(), Some(1));
    assert_eq!(run(&["--to", "xlsx"]).status.code(), Some(2));
    assert_eq!(run(&["--to", "csv", "--node", "n-z"]).status.code(), Some(1));
    assert_eq!(listed(), ["case.csv", "case.tar.gz"]);
}

#[test]
fn only_what_is_asked_for_is_exported() {
    let dir = tempfile::tempdir().unwrap();
    case(dir.path());
    let args = ["export", "case.tar.gz", "--to", "csv", "--into", "o", "--node", "n-a", "--around", "23:00:05Z±3s"];
    assert!(casefile(dir.path(), &args).status.success());
    let logs = records(&String::from_utf8(std::fs::read(dir.path().join("o/logs.csv")).unwrap()).unwrap());
    let times: Vec<_> = logs[1..].iter().map(|row| (row[0].as_str(), row[2].as_str())).collect();
    assert_eq!(times.first(), Some(&("2026-12-31T23:00:02Z", "n-a")));
    assert_eq!((times.len(), times.iter().all(|(_, node)| *node == "n-a")), (6, true));
    let gaps = records(&String::from_utf8(std::fs::read(dir.path().join("o/gaps.csv")).unwrap()).unwrap());
    assert_eq!(gaps.len(), 1, "the gap is of the other node");
}

#[test]
fn of_a_damaged_case_file_the_rest_is_exported_and_the_damage_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = v1(".tar.gz");
    let done = casefile(dir.path(), &["export", file.to_str().unwrap(), "--to", "csv", "--into", "o"]);
    // The recording of that archive is a text that was sealed before recordings had a form.
    assert_eq!(done.status.code(), Some(3), "{done:?}");
    assert!(String::from_utf8_lossy(&done.stderr).contains("damaged: data/nodes/n-1/recording/window.seg"), "{done:?}");
    let logs = std::fs::read(dir.path().join("o/logs.csv")).unwrap();
    assert_eq!(records(&String::from_utf8(logs).unwrap()).len(), 9);
}
