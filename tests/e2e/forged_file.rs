//! Case files that are cut short, of a newer form, without an index, without a node, or with documents that are no documents, too large,
//! or lies: what can be shown is shown, the rest is named, nothing panics, and none takes more than it may.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;

use casefile_evidence::archive::layout;
use casefile_tests::hostile_case::{Case, NODES, Words};
use casefile_tests::program::{command, said, tool};
use flate2::read::GzDecoder;
use flate2::{Compression, write::GzEncoder};

/// The most address space that a command may take, in KiB: its own text and stacks are in it.
const MEMORY: &str = "900000";

/// The most seconds of CPU that a command may take, of a build without optimisation on a busy machine.
const SECONDS: &str = "120";

fn case() -> &'static Case {
    static MADE: OnceLock<Case> = OnceLock::new();
    MADE.get_or_init(|| Case::new(Words::Harmless).unwrap().reviewed().unwrap())
}

/// The case file with some of its entries changed, or without them.
fn with(dir: &Path, change: impl FnOnce(&mut Case)) -> PathBuf {
    let mut case = case().clone();
    change(&mut case);
    case.write(dir, "case.tar.gz").unwrap()
}

/// Runs `casefile` with as much memory and time as it may have.
fn limited(args: &[&str]) -> Output {
    let own = command("casefile");
    let mut shell = tool("sh").expect("a shell is everywhere");
    let script = format!("ulimit -v {MEMORY} && ulimit -t {SECONDS} && exec \"$0\" \"$@\"");
    shell.args(["-c", &script]).arg(own.get_program()).args(args).output().unwrap()
}

/// Runs every verb that reads a case file; none panics, ends by a signal or says nothing. What each said, by verb.
fn every_verb(file: &Path, into: &Path) -> Vec<(String, Output)> {
    let file = file.to_str().unwrap();
    let [a, b, _] = NODES;
    let into = |name: &str| {
        let path = into.join(name);
        // Each is written anew.
        let _absent = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        path.to_str().unwrap().to_owned()
    };
    let (report, draft, csv, rows) = (into("report.html"), into("draft.md"), into("csv"), into("timeline"));
    let all: [&[&str]; 18] = [
        &["show", file],
        &["ls", file],
        &["verify", file],
        &["series", file],
        &["logs", file],
        &["check", file],
        &["findings", file],
        &["timeline", file],
        &["cite", file, "F1"],
        &["cite", file, "E1"],
        &["top", file, "--node", a],
        &["df", file, "--node", a],
        &["dmesg", file, "--node", a],
        &["compare", file, a, b],
        &["report", file, "-o", &report],
        &["export", file, "--to", "postmortem", "--into", &draft],
        &["export", file, "--to", "csv", "--into", &csv, "--metric", "node_load1"],
        &["export", file, "--to", "timeline", "--into", &rows],
    ];
    let mut done = Vec::new();
    for args in all {
        let output = limited(args);
        let what = args.iter().filter(|arg| !arg.contains('/')).copied().collect::<Vec<_>>().join(" ");
        assert!(output.status.code().is_some_and(|code| code != 101), "{what}: {}", said(&output));
        assert!(!said(&output).contains("panicked") && !said(&output).contains("defect"), "{what}: {}", said(&output));
        assert!(!output.stdout.is_empty() || !output.stderr.is_empty(), "{what} says nothing: {}", output.status);
        done.push((what, output));
    }
    done
}

fn of<'a>(done: &'a [(String, Output)], verb: &str) -> &'a Output {
    &done.iter().find(|(what, _)| what.starts_with(verb)).unwrap_or_else(|| panic!("{verb} was run")).1
}

/// Each of these verbs shows something, and each of these texts is said by one of them at least.
fn shown(done: &[(String, Output)], verbs: &[&str], named: &str) {
    for verb in verbs {
        let output = of(done, verb);
        assert!(matches!(output.status.code(), Some(0 | 3..=5)), "{verb}: {}", said(output));
        assert!(output.stdout.len() > 40 || verb.starts_with("report"), "{verb}: {}", said(output));
    }
    for verb in ["findings", "timeline", "report"] {
        let told = said(of(done, verb));
        assert!(told.contains(named), "{verb} does not say {named:?}: {}", &told[told.len().saturating_sub(2_000)..]);
    }
}

const EVIDENCE: [&str; 6] = ["ls", "series", "logs", "check", "top", "dmesg"];

fn entry(constant: &'static str) -> casefile_proto::item::EntryPath {
    layout::path(constant)
}

#[test]
fn of_a_file_that_ends_early_what_is_there_is_shown_wherever_it_ends() {
    let whole = case().seal().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("case.tar.gz");
    for part in [0, 1, 20, 300, 2_000, 10_000] {
        fs::write(&file, &whole[..part]).unwrap();
        for verb in ["show", "ls", "verify", "findings", "timeline", "report"] {
            let out = dir.path().join("r.html");
            let mut args = vec![verb, file.to_str().unwrap()];
            args.extend(["-o", out.to_str().unwrap()].into_iter().filter(|_| verb == "report"));
            let output = limited(&args);
            assert!(
                matches!(output.status.code(), Some(0..=5)) && !said(&output).contains("panicked"),
                "{verb} of {part}: {}",
                said(&output)
            );
        }
    }
    // From here on the documents are in it, and ever more of the nodes.
    for tenths in [7, 9] {
        fs::write(&file, &whole[..whole.len() * tenths / 10]).unwrap();
        let done = every_verb(&file, dir.path());
        let told = said(of(&done, "show"));
        assert!(told.contains("ENDS EARLY") || told.contains("ends early"), "{tenths}: {told}");
        let report = fs::read(dir.path().join("report.html")).unwrap();
        assert!(String::from_utf8_lossy(&report).contains("The file ends early"), "{tenths}");
    }
}

#[test]
fn a_file_without_its_index_is_read_from_the_front_and_says_so() {
    let mut tar = Vec::new();
    GzDecoder::new(case().seal().unwrap().as_slice()).read_to_end(&mut tar).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("case.tar.gz");
    let mut out = GzEncoder::new(fs::File::create(&file).unwrap(), Compression::new(6));
    out.write_all(&tar).unwrap();
    out.finish().unwrap();
    let done = every_verb(&file, dir.path());
    let told = said(of(&done, "verify"));
    assert!(told.contains("index"), "{told}");
    for verb in EVIDENCE.into_iter().chain(["show", "findings", "timeline"]) {
        assert!(matches!(of(&done, verb).status.code(), Some(0 | 3..=5)), "{verb}: {}", said(of(&done, verb)));
    }
}

#[test]
fn a_file_without_what_one_node_gave_shows_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let gone = format!("data/nodes/{}/", NODES[0]);
    let file = with(dir.path(), |case| case.entries.retain(|path, _| !path.as_str().starts_with(&gone)));
    let done = every_verb(&file, dir.path());
    for verb in ["show", "ls", "series", "logs", "check", "findings", "timeline", "cite", "report", "export"] {
        assert!(matches!(of(&done, verb).status.code(), Some(0 | 3..=5)), "{verb}: {}", said(of(&done, verb)));
    }
    // Its evidence is cited and is not there: the citation stands, and where it led is said.
    let report = String::from_utf8(fs::read(dir.path().join("report.html")).unwrap()).unwrap();
    assert!(report.contains(NODES[0]) && report.contains("\"unread\":\""), "what is cited and not there is named");
}

/// A document as another version may write it.
fn newer(case: &mut Case, constant: &'static str, change: impl FnOnce(&mut serde_json::Value)) {
    let bytes = case.entries.get_mut(&entry(constant)).unwrap();
    let mut document: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    document["format"] = 2.into();
    document["what_nobody_knows_yet"] = serde_json::json!({"a": [1, 2, {"b": null}]});
    change(&mut document);
    *bytes = serde_json::to_vec(&document).unwrap();
}

#[test]
fn a_newer_form_is_read_as_far_as_it_is_known_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = with(dir.path(), |case| newer(case, layout::INCIDENT, |_| {}));
    let done = every_verb(&file, dir.path());
    shown(&done, &EVIDENCE, "data/incident.json: it is of form 2");
    let report = String::from_utf8(fs::read(dir.path().join("report.html")).unwrap()).unwrap();
    assert!(report.contains("it is of form 2"), "the report says so too");

    // One whose shape is another cannot be read: that, and why, is all that is said.
    let file = with(dir.path(), |case| {
        newer(case, layout::INCIDENT, |document| document["window"] = serde_json::json!([1, 2]));
    });
    for (verb, output) in every_verb(&file, dir.path()) {
        if !verb.starts_with("verify") && !verb.starts_with("ls") {
            assert_eq!(output.status.code(), Some(1), "{verb}: {}", said(&output));
            assert!(
                said(&output).contains("it is of form 2, which a newer version may read"),
                "{verb}: {}",
                said(&output)
            );
        }
    }

    let file = with(dir.path(), |case| newer(case, layout::REVIEW, |_| {}));
    let done = every_verb(&file, dir.path());
    shown(&done, &EVIDENCE, "data/review.json: it is of form 2");

    // A review of another shape is none: today's checks say what they say.
    let file = with(dir.path(), |case| newer(case, layout::REVIEW, |document| document["verdict"] = 7.into()));
    let done = every_verb(&file, dir.path());
    shown(&done, &EVIDENCE, "data/review.json: it is of form 2");
    assert!(of(&done, "findings").stdout.len() > 1_000, "today's checks were asked: {}", said(of(&done, "findings")));
    let report = String::from_utf8(fs::read(dir.path().join("report.html")).unwrap()).unwrap();
    assert!(report.contains("it is of form 2"), "the report says so too");
}

#[test]
fn documents_that_are_none_are_named_and_what_is_whole_in_them_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let noise: Vec<u8> = (0_u32..200_000).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let file = with(dir.path(), |case| {
        for constant in [layout::REVIEW, layout::FINDINGS, layout::TIMELINE] {
            case.entries.insert(entry(constant), noise.clone());
        }
    });
    let done = every_verb(&file, dir.path());
    shown(&done, &EVIDENCE, "data/review.json: ");

    // One broken line among good ones; a control code in what the parser says of it is no code any more.
    let file = with(dir.path(), |case| {
        for constant in [layout::FINDINGS, layout::TIMELINE] {
            let good = case.entries[&entry(constant)].clone();
            let mut bytes = b"{\"severity\":\"\\u001b[2J\\u202e\",\"datetime\":\"\\u001b]0;x\\u0007\"}\n\n".to_vec();
            bytes.extend(&good);
            bytes.extend(b"{\"id\":");
            case.entries.insert(entry(constant), bytes);
        }
    });
    let done = every_verb(&file, dir.path());
    shown(&done, &["findings", "timeline", "cite"], "not read: data/findings.jsonl: line 1: ");
    for (verb, output) in &done {
        assert!(!output.stderr.contains(&0x1b) && !said(output).contains('\u{202e}'), "{verb}: {}", said(output));
    }
}

#[test]
fn documents_that_are_huge_are_read_as_far_as_somebody_could_look_at_them() {
    let dir = tempfile::tempdir().unwrap();
    let row = |n: usize| {
        let second = n % 60;
        format!(
            "{{\"datetime\":\"2026-11-23T03:01:{second:02}.000000000+00:00\",\"message\":\"m\",\"timestamp_desc\":\"kernel\",\"node\":\"\",\"severity\":\"INFO\",\"id\":\"\"}}\n"
        )
    };
    let finding = |n: usize| {
        format!(
            "{{\"id\":\"F{n}\",\"kind\":\"k\",\"check\":\"c\",\"severity\":\"fatal\",\"confidence\":\"low\",\"node\":null,\"subject\":null,\"summary\":\"s\",\"meaning\":null,\"now\":null,\"not_proof\":[],\"first\":null,\"last\":null,\"count\":1,\"pod\":null,\"evidence\":[]}}\n"
        )
    };
    let file = with(dir.path(), |case| {
        case.entries.insert(entry(layout::TIMELINE), (0..400_000).map(row).collect::<String>().into_bytes());
        case.entries.insert(entry(layout::FINDINGS), (0..100_000).map(finding).collect::<String>().into_bytes());
    });
    let done = every_verb(&file, dir.path());
    shown(&done, &["findings", "timeline"], "only the first 5000 lines are looked at");
    let page = fs::metadata(dir.path().join("report.html")).unwrap().len();
    assert!(page < 16 << 20, "the report has {page} bytes");

    // Lines that do not end, brackets that do not close, a review of nothing but numbers.
    let file = with(dir.path(), |case| {
        case.entries.insert(entry(layout::TIMELINE), vec![b'x'; 80 << 20]);
        case.entries.insert(entry(layout::FINDINGS), vec![b'['; 40 << 20]);
        let mut numbers = String::from("{\"format\":1,\"by\":[0");
        for _ in 0..3_000_000 {
            let _infallible = write!(numbers, ",0");
        }
        case.entries.insert(entry(layout::REVIEW), numbers.into_bytes());
    });
    let done = every_verb(&file, dir.path());
    shown(&done, &EVIDENCE, "data/review.json: ");
}

#[test]
fn documents_that_lie_lead_nowhere_and_say_that() {
    let dir = tempfile::tempdir().unwrap();
    let max = u64::MAX;
    let evidence = |n: usize, entry: &str| {
        serde_json::json!({"ref": format!("E{n}"), "kind": "line", "node": NODES[n % 3], "entry": entry, "line": max, "offset": max,
            "at": "2262-04-11T23:47:16.854775807Z", "text": "x".repeat(100_000), "metric": "no_such_metric", "labels": {"a": "b"},
            "from": "1677-09-21T00:12:43.145224192Z", "until": "2262-04-11T23:47:16.854775807Z", "value": 1e308, "unit": "parsecs"})
    };
    let places =
        ["data/nodes/no-such-node/logs/kernel.log", "data/incident.json", "data/nodes/n__2__/recording/window.seg"];
    let mut findings = String::new();
    for n in 0..40 {
        let cited: Vec<_> = (0..20).map(|e| evidence(n * 20 + e, places[e % 3])).collect();
        let finding = serde_json::json!({"id": format!("F{}", n % 7), "kind": "", "check": "", "severity": "fatal", "confidence": "high",
            "node": "not-a-node", "subject": "", "summary": "", "meaning": null, "now": null, "not_proof": [], "first": "2262-04-11T23:47:16.854775807Z",
            "last": "1677-09-21T00:12:43.145224192Z", "count": max, "pod": {"namespace": null, "name": null, "uid": ""}, "part_of": format!("F{}", n % 7),
            "evidence": cited});
        let _infallible = writeln!(findings, "{finding}");
    }
    let mut rows = String::new();
    for at in ["1677-09-21T00:12:43.145224192Z", "2262-04-11T23:47:16.854775807Z", "2026-11-23T03:01:00Z"] {
        let row = serde_json::json!({"datetime": at, "until": "1677-09-21T00:12:43.145224192Z", "message": "", "timestamp_desc": "gap", "node": "not a node",
            "severity": "WORSE", "id": "", "evidence": "E0", "entry": "../../etc/passwd", "line": max});
        let _infallible = writeln!(rows, "{row}");
    }
    let file = with(dir.path(), |case| {
        case.entries.insert(entry(layout::FINDINGS), findings.into_bytes());
        case.entries.insert(entry(layout::TIMELINE), rows.into_bytes());
        let bytes = case.entries.get_mut(&entry(layout::REVIEW)).unwrap();
        let mut review: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        review["verdict"]["cites"] = serde_json::json!(["E999999999999999999999"]);
        review["verdict"]["sentence"] = "all is well [E18446744073709551615, E, E-1] [E".into();
        review["verdict"]["counts"] = serde_json::json!({"fatal": max, "error": max, "warning": max, "info": max});
        review["verdict"]["coverage"]["gaps"] = max.into();
        *bytes = serde_json::to_vec(&review).unwrap();
    });
    let done = every_verb(&file, dir.path());
    for verb in EVIDENCE.into_iter().chain(["show", "findings", "timeline", "cite", "report", "export"]) {
        assert!(matches!(of(&done, verb).status.code(), Some(0 | 3..=5)), "{verb}: {}", said(of(&done, verb)));
    }
    let page = fs::metadata(dir.path().join("report.html")).unwrap().len();
    assert!(page < 16 << 20, "the report has {page} bytes");
}
