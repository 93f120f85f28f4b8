//! `casefile logs` over case files with two and three nodes, clocks that differ, a new year, hostile bytes and damage.
//!
//! `UPDATE_GOLDEN=1 cargo test -p casefile-review --test logs` writes the goldens anew; read the diff before you commit it.

#![expect(clippy::unwrap_used, reason = "in a test everything that fails ends the test")]

mod goldens;
mod sealed;

use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::time::Window;
use casefile_review::casefile::CaseFile;
use casefile_review::logs::{MEMORY, Selector, merged};
use goldens::golden;
use sealed::{Log, Node, at, log, seal};

/// Bytes that a terminal would obey, that are no text, and a line that pretends to be another one.
const HOSTILE: &[u8] = b"evil \x1b[2J\x1b]0;t\x07 \xc2\x9b31m \xe2\x80\xae \xff\r back\\slash";

/// Seconds after 23:00:00 at which things truly happened: -3, -1 (with more lines), 0, 1, 2, 3.
fn nodes() -> Vec<Node> {
    let pods = [
        b"2026-12-31T22:59:58.5Z stdout {\"level\":\"info\"}\n2026-12-31T22:59:59Z stderr ".as_slice(),
        HOSTILE,
        b"\n",
    ]
    .concat();
    let lost = Gap::new(GapReason::RotatedAway, "gone")
        .over(Window::new(at("2026-12-31T22:58:57Z"), at("2026-12-31T22:59:10Z")).unwrap());
    vec![
        Node {
            name: "n-a",
            ahead: Some(2),
            logs: vec![
                log(
                    "logs/files/var/log/syslog",
                    Some("syslog lead=none zone=+01:00"),
                    "Dec 31 23:59:59 n-a app: last year\nJan  1 00:00:01 n-a app: panic\n\tat main\n2026-12-31T23:00:00.000000Z n-z forged\n",
                ),
                log(
                    "logs/kernel.log",
                    None,
                    "2026-12-31T23:00:02.000001Z facility=0 level=6 seq=1 user=false oom\n SUBSYSTEM=mem\n",
                ),
            ],
            gaps: vec![],
        },
        Node {
            name: "n-b",
            ahead: Some(-3),
            logs: vec![
                log("logs/kernel.log", None, "2026-12-31T23:00:00Z facility=0 level=6 seq=1 user=false link up\n"),
                log("logs/pods/shop_api-0_0a1b/main.log", None, pods),
            ],
            gaps: vec![lost],
        },
    ]
}

#[expect(clippy::disallowed_methods, reason = "our own command, started by its test")]
fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_casefile"))
}

fn logs(file: &Path, args: &[&str]) -> Output {
    command().arg("logs").arg(file).args(args).output().unwrap()
}

fn made(nodes: &[Node]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = seal(dir.path(), nodes);
    (dir, file)
}

fn shown(file: &Path, args: &[&str]) -> Vec<String> {
    let output = logs(file, args);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn two_nodes_whose_clocks_differ_are_shown_in_the_order_in_which_it_happened() {
    let (_dir, file) = made(&nodes());
    for (form, name) in [("table", "logs.txt"), ("jsonl", "logs.jsonl")] {
        let output = logs(&file, &["-o", form]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        golden(name, &output.stdout);
        assert!(
            !output.stdout.iter().any(|b| *b < b' ' && *b != b'\n' && *b != b'\t'),
            "{form} would steer a terminal"
        );
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(told.starts_with("1 gap in these logs"), "{told}");
    }
    let json: serde_json::Value = serde_json::from_slice(&logs(&file, &["-o", "json"]).stdout).unwrap();
    let lines: Vec<serde_json::Value> =
        shown(&file, &["-o", "jsonl"]).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json, serde_json::Value::Array(lines));
}

#[test]
fn the_texts_go_into_a_pipe_byte_for_byte() {
    let (_dir, file) = made(&nodes());
    let raw = logs(&file, &["-n", "shop", "-o", "raw"]);
    assert_eq!(raw.stdout, [b"{\"level\":\"info\"}\n", HOSTILE, b"\n"].concat());
    let dated = logs(&file, &["-n", "shop", "-o", "raw", "-t", "--tail", "1"]);
    assert_eq!(dated.stdout, [b"2026-12-31T23:00:02.000000Z ", HOSTILE, b"\n"].concat());
    // Colours mean a person, who is shown nothing that a terminal obeys but them.
    let painted = logs(&file, &["-n", "shop", "-o", "raw", "--color", "always", "-i", "level"]).stdout;
    assert_eq!(painted, b"{\"\x1b[1mlevel\x1b[0m\":\"info\"}\n");
}

#[test]
fn what_is_asked_for_is_shown_and_nothing_else() {
    let (_dir, file) = made(&nodes());
    let count = |args: &[&str]| shown(&file, &[args, &["-o", "jsonl"]].concat()).len();
    assert_eq!(count(&[]), 6);
    for (args, records) in [
        (&["--node", "n-a"][..], 3),
        (&["--source", "kernel"], 2),
        (&["--source", "kernel", "--source", "files"], 4),
        (&["--pod", "^api", "-c", "ma"], 2),
        (&["--exclude-pod", "api"], 4),
        (&["-E", "main"], 4),
        (&["--unit", "kubelet"], 0),
        (&["--grep", "oom|panic"], 2),
        (&["-i", "at main"], 1),
        (&["-e", "n-a app"], 4),
        // 60 seconds before the end of the window is 23:00:00, corrected.
        (&["--since", "60s"], 4),
        (&["--since", "60s", "--until", "2026-12-31T23:00:03Z"], 3),
        (&["--around", "23:00Z±1s"], 2),
        (&["--tail", "1"], 4),
        (&["--tail", "-1"], 6),
        (&["--tail", "0"], 0),
    ] {
        assert_eq!(count(args), records, "{args:?}");
    }
    let none = logs(&file, &["--grep", "no such thing"]);
    assert_eq!((none.status.code(), none.stdout.len()), (Some(0), 0), "{none:?}");
    assert!(String::from_utf8_lossy(&none.stderr).contains("no record matches"), "{none:?}");
    let later = logs(&file, &["--since", "60s"]);
    assert!(later.stderr.is_empty(), "the gap lies before: {later:?}");
    for wrong in
        [&["--since", "yesterday"][..], &["--until", "5m", "--since", "1m"], &["--grep", "("], &["--tail", "x"]]
    {
        assert_eq!(logs(&file, wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn a_clock_that_was_never_compared_is_said_once_and_a_record_without_a_time_gets_none() {
    let mut nodes = nodes();
    nodes.push(Node {
        name: "n-c",
        ahead: None,
        logs: vec![
            log("logs/kernel.log", None, "2026-12-31T23:00:00.5Z facility=0 own time\n"),
            log("logs/pstore/dmesg-ramoops-0", None, "<4>[   12.3] Oops\n"),
        ],
        gaps: vec![],
    });
    let (_dir, file) = made(&nodes);
    let output = logs(&file, &[]);
    let (out, told) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(out.starts_with("- ") && out.lines().next().unwrap().ends_with("<4>[   12.3] Oops"), "{out}");
    assert!(out.contains("2026-12-31T23:00:00.500000Z n-c kernel facility=0 own time"), "{out}");
    assert_eq!(told.matches("the clock of n-c was never compared").count(), 1, "{told}");
    assert!(told.contains("1 record(s) bear no time"), "{told}");
    let part = logs(&file, &["--since", "1m", "--source", "pstore"]);
    assert!(part.stdout.is_empty(), "{part:?}");
    assert!(String::from_utf8_lossy(&part.stderr).contains("were left out"), "{part:?}");
}

fn many() -> Vec<Node> {
    // Two logs that interleave record by record, and one second behind which the clock of the second node is.
    let lines = |from: u32| -> Vec<u8> {
        let line = |i: u32| format!("2026-12-31T23:00:{:02}.{:06}Z stdout record {i}\n", i / 10_000, i % 10_000 * 100);
        (0..100_000).map(|i| i * 2 + from).map(line).collect::<String>().into_bytes()
    };
    let pod = |lines| -> Vec<Log> { vec![log("logs/pods/shop_api-0_u/main.log", None, lines)] };
    vec![
        Node { name: "n-a", ahead: Some(0), logs: pod(lines(0)), gaps: vec![] },
        Node { name: "n-b", ahead: Some(0), logs: pod(lines(1)), gaps: vec![] },
    ]
}

#[test]
fn more_records_than_memory_holds_are_in_the_same_order_as_if_it_held_them() {
    let (_dir, file) = made(&many());
    for memory in [32 << 10, MEMORY] {
        let mut casefile = CaseFile::open(&file).unwrap();
        let mut next = 0;
        let told = merged(&mut casefile, &Selector::default(), memory, &mut |line| {
            assert_eq!(line.text, format!("record {next}").as_bytes());
            next += 1;
            ControlFlow::Continue(())
        });
        let told = told.unwrap();
        assert_eq!((next, told.shown, told.logs, told.damaged.len()), (200_000, 200_000, 2, 0));
    }
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let (_dir, file) = made(&many());
    let mut child = command().arg("logs").arg(&file).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 100];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{output:?}");
}

#[test]
fn of_a_damaged_file_what_can_be_read_is_shown_and_the_rest_is_named() {
    let (dir, file) = made(&nodes());
    let whole = std::fs::read(&file).unwrap();
    let spoilt = dir.path().join("spoilt.tar.gz");
    let (mut flipped, mut cut) = (0, 0);
    for at in (2_000..whole.len() - 4_000).step_by(97) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&spoilt, &bytes).unwrap();
        let output = logs(&spoilt, &["-o", "jsonl"]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        match output.status.code() {
            // A document, a tar header or padding: the logs are whole, or nothing can be understood.
            Some(0 | 1) => {}
            Some(3) => {
                assert!(told.contains("damaged: data/nodes/") || told.contains("index"), "{told}");
                flipped += 1;
            }
            code => panic!("byte {at}: {code:?} {told}"),
        }
        std::fs::write(&spoilt, &whole[..at]).unwrap();
        let output = logs(&spoilt, &["-o", "jsonl"]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(1 | 3)) && !told.is_empty(), "cut at {at}: {told}");
        cut += usize::from(!output.stdout.is_empty());
    }
    assert!(flipped > 0 && cut > 0, "{flipped} {cut}");
}
