//! The sandbox of the agent: what it forbids is refused to the real program, as root and as nobody, and what it leaves is
//! enough: a recorder inside records and hands over as much as one outside.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use casefile_evidence::recording::reader::{Piece, Recording};
use casefile_proto::sample::Outcome;
use casefile_proto::time::Window;
use casefile_tests::program::{Talking, Unprivileged, command, run, said, stdout};
use casefile_tests::{Rig, now, stop, wait};
use rustix::process::Signal;

/// The pieces that this kernel has none or not all of.
fn lacking(report: &serde_json::Value) -> Vec<String> {
    let pieces = report["pieces"].as_array().unwrap();
    assert_eq!(pieces.len(), 6, "{report}");
    let lacks = pieces.iter().filter(|piece| piece["state"] != "stands");
    lacks.map(|piece| format!("{}: {}", piece["piece"], piece["why"])).collect()
}

/// Skips, with the reason, where the kernel lacks a piece; where `CASEFILE_ALLOW_NO_SKIP` is set that fails the test.
fn is_whole(report: &serde_json::Value) -> bool {
    let lacking = lacking(report);
    if lacking.is_empty() {
        return true;
    }
    assert!(std::env::var_os("CASEFILE_ALLOW_NO_SKIP").is_none(), "no skip is allowed: {lacking:?}");
    eprintln!("skipped: this kernel has not all of the sandbox: {lacking:?}");
    false
}

fn config(dir: &Path, more: &str) -> PathBuf {
    let file = dir.join("agent.toml");
    let data = dir.join("data");
    fs::write(&file, format!("node = \"n1\"\ndata_dir = \"{}\"\n{more}", data.display())).unwrap();
    file
}

fn check(mut command: Command, config: &Path) -> (Output, serde_json::Value) {
    let output = command.args(["sandbox-check", "-o", "json", "--config"]).arg(config).output().unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(&output)));
    (output, report)
}

/// The tries that ended like this.
fn ended<'a>(report: &'a serde_json::Value, how: &str) -> Vec<&'a str> {
    let tries = report["tries"].as_array().unwrap();
    tries.iter().filter(|row| row["ended"] == how).map(|row| row["what"].as_str().unwrap()).collect()
}

/// Nothing forbidden got through, and nothing that is needed was refused.
fn assert_holds(output: &Output, report: &serde_json::Value) {
    for row in report["tries"].as_array().unwrap() {
        let (forbidden, ended) = (row["wanted"] != "allowed", row["ended"].as_str().unwrap());
        let right = if forbidden { "refused" } else { "allowed" };
        assert!(ended == right || ended == "not-applicable", "{row}");
        assert!(ended != "not-applicable" || !row["how"].as_str().unwrap().is_empty(), "{row}");
    }
    assert_eq!(output.status.code(), Some(0), "{}", said(output));
    let refused = ended(report, "refused");
    assert!(refused.len() >= 40, "only {} tries were refused: {refused:?}", refused.len());
}

#[test]
fn everything_that_is_forbidden_is_refused_to_root() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: not root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (output, report) =
        check(command("casefile-agent"), &config(dir.path(), "collector = \"https://127.0.0.1:1\"\n"));
    if is_whole(&report) {
        assert_holds(&output, &report);
        let works = ended(&report, "allowed");
        for needed in ["/proc/stat", "data directory", "the collector's port", "itself once more", "I/O of a process"] {
            assert!(works.iter().any(|what| what.contains(needed)), "{needed}: {works:?}");
        }
    }
    assert_eq!(fs::read_dir(dir.path().join("data")).unwrap().count(), 0, "it clears away what it made");
}

#[test]
fn everything_that_is_forbidden_is_refused_to_nobody() {
    let program = Unprivileged::new("casefile-agent");
    let dir = program.own_dir();
    let (output, report) = check(program.command(), &config(dir.path(), ""));
    if is_whole(&report) {
        assert_holds(&output, &report);
    }
}

#[test]
fn where_connectivity_is_tested_every_port_is_open_and_nothing_else_is() {
    let dir = tempfile::tempdir().unwrap();
    let collector = "collector = \"https://127.0.0.1:1\"\n";
    let file = config(dir.path(), &format!("{collector}test_connectivity = true\n"));
    let (_, with) = check(command("casefile-agent"), &file);
    let (_, without) = check(command("casefile-agent"), &config(dir.path(), collector));
    let piece = |report: &serde_json::Value| {
        let pieces = report["pieces"].as_array().unwrap();
        pieces.iter().find(|piece| piece["piece"] == "connections").unwrap()["state"].clone()
    };
    assert_eq!(piece(&with), "not-meant");
    assert!(ended(&with, "allowed").contains(&"connect to any port, to test connectivity"), "{with}");
    let tried = |report: &serde_json::Value| {
        ["allowed", "refused", "not-applicable"]
            .map(|how| ended(report, how).iter().map(|what| (*what).to_owned()).collect::<Vec<_>>())
    };
    // What else is refused is refused there too, listening among it.
    let (with, [allowed, refused, _]) = (tried(&with), tried(&without));
    for what in refused.iter().filter(|what| !what.contains("somebody else")) {
        assert!(with[1].contains(what), "{what}: {with:?}");
    }
    assert!(allowed.iter().filter(|what| !what.contains("collector")).all(|what| with[0].contains(what)), "{with:?}");
}

#[test]
fn without_the_sandbox_the_same_tries_get_through_and_the_check_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (output, report) = check(command("casefile-agent"), &config(dir.path(), "[sandbox]\nenter = \"off\"\n"));
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert_eq!(lacking(&report).len(), 6);
    let allowed = ended(&report, "allowed");
    let forbidden =
        ["write a file that", "run a program of", "connect to somebody else", "take a TCP port", "signal a process"];
    for what in forbidden {
        assert!(allowed.iter().any(|tried| tried.contains(what)), "{what} would have been noticed: {allowed:?}");
    }
}

#[test]
fn the_table_names_every_piece_and_counts_the_tries() {
    let dir = tempfile::tempdir().unwrap();
    let file = config(dir.path(), "");
    let output = run("casefile-agent", &["sandbox-check", "--config", file.to_str().unwrap()]);
    let text = stdout(&output);
    for piece in ["no-new-privileges", "capabilities", "files", "connections", "processes", "calls"] {
        assert!(text.lines().any(|line| line.starts_with(piece)), "{text}");
    }
    assert!(text.lines().last().unwrap().contains(" refused, "), "{text}");
}

/// A recorder that runs as a program of its own, until it has recorded this many frames; its last line is awaited.
fn record(dir: &Path, more: &str) -> (BTreeMap<String, Outcome>, String) {
    let mut agent = command("casefile-agent");
    agent.args(["run", "--config"]).arg(config(dir, more));
    let mut agent = Talking::start(&mut agent, dir.join("said"));
    agent.until_it_says("recording");
    // A ring has a file once its first block is closed; what has not been closed is written at the end.
    let ring = dir.join("data/ring");
    wait::until_blocking("a segment", || fs::read_dir(&ring).ok()?.next().map(drop));
    wait::until_blocking("the first ticks", || (frames(&ring) > 1).then_some(()));
    let (status, said) = agent.stop(Signal::TERM);
    assert!(status.success(), "{said}");
    (first_outcomes(&ring), said)
}

fn frames(ring: &Path) -> u64 {
    let mut frames = 0;
    let read = Recording::open_dir(ring).and_then(|mut recording| {
        recording.pieces(None, &mut |piece| {
            frames += u64::from(matches!(piece, Piece::Frame(_)));
            ControlFlow::Continue(())
        })
    });
    if read.is_ok() { frames } else { 0 }
}

/// The best outcome of each source: what comes and goes on a busy machine is no matter of the sandbox.
fn first_outcomes(ring: &Path) -> BTreeMap<String, Outcome> {
    let (mut names, mut best) = (vec![], BTreeMap::<String, Outcome>::new());
    let mut each = |piece| {
        match piece {
            Piece::Header(header) => names = header.schema.sources.iter().map(|s| s.name.clone()).collect(),
            Piece::Frame(frame) => {
                for (name, sample) in names.iter().zip(frame.samples) {
                    if !sample.outcome.is_not_due() && best.get(name) != Some(&Outcome::Complete) {
                        best.insert(name.clone(), sample.outcome);
                    }
                }
            }
            Piece::Hole(_) => {}
        }
        ControlFlow::Continue(())
    };
    Recording::open_dir(ring).unwrap().pieces(None, &mut each).unwrap();
    best
}

/// What of an outcome does not depend on how many processes there were just then.
fn shape(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Partial { gaps } => {
            let mut reasons: Vec<_> = gaps.iter().map(|gap| format!("{:?}", gap.reason)).collect();
            reasons.sort();
            reasons.dedup();
            format!("partial {reasons:?}")
        }
        other => other.word().to_owned(),
    }
}

#[test]
fn a_recorder_in_its_sandbox_records_every_source_as_whole_as_one_outside() {
    let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (with, said) = record(inside.path(), "");
    let (without, _) = record(outside.path(), "[sandbox]\nenter = \"off\"\n");
    assert!(with.len() > 10 && with.len() == without.len(), "{with:?}");
    for (source, outcome) in &with {
        assert_eq!(shape(outcome), shape(&without[source]), "{source}: {outcome:?} and {:?}\n{said}", without[source]);
    }
    // The recording says of itself which it was.
    let told = |dir: &Path| {
        let ring = dir.join("data/ring");
        stdout(&run("casefile", &["replay", ring.to_str().unwrap(), "--series", "casefile_agent_sandbox"]))
    };
    assert!(told(outside.path()).contains("switched off in the configuration"), "{}", told(outside.path()));
    assert!(told(inside.path()).contains("piece=capabilities state=stands"), "{}", told(inside.path()));
}

#[test]
fn an_agent_that_must_have_all_of_its_sandbox_starts_only_with_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (_, report) = check(command("casefile-agent"), &config(dir.path(), ""));
    let file = config(dir.path(), "[sandbox]\nenter = \"required\"\n");
    let mut agent = command("casefile-agent");
    let mut agent = Talking::start(agent.args(["run", "--config"]).arg(file), dir.path().join("said"));
    if lacking(&report).is_empty() {
        agent.until_it_says("recording");
        return;
    }
    assert_eq!(agent.ended().code(), Some(1), "{}", agent.said());
    assert!(agent.said().contains("the sandbox is required and not whole"), "{}", agent.said());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorder_in_its_sandbox_hands_over_a_whole_case() {
    let rig = Rig::new().unwrap();
    let collector = rig.collector().await.unwrap();
    rig.enlist("n1").unwrap();
    let data = rig.path("agent-n1");
    let file = rig.path("agent.toml");
    let text = format!("node = \"n1\"\ndata_dir = \"{}\"\ncollector = \"{}\"\n", data.display(), rig.url());
    fs::write(&file, text).unwrap();
    let mut agent = command("casefile-agent");
    let agent = Talking::start(agent.args(["run", "--config"]).arg(file), rig.path("said"));
    let mut client = rig.client().await.unwrap();
    client.recorded("n1", Duration::from_secs(2)).await;
    let window = Window::new(now().before(Duration::from_secs(60)), now()).unwrap();
    let opened = client.open(window, &["n1"], Duration::from_secs(50)).await.unwrap();
    let sealed = client.sealed(opened.id).await.unwrap();
    let file = rig.path("case.tar.gz");
    client.download(sealed.incident.id, &file).await.unwrap();
    let shown = run("casefile", &["show", file.to_str().unwrap(), "-o", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    let rows = json["coverage"]["nodes"][0]["sources"].as_array().unwrap();
    for row in rows {
        // Of a process that has more capabilities than root has here, root is not told either.
        let of_processes = ["process", "processes", "sockets"].iter().any(|name| row["source"] == *name);
        let refused = row["gaps"].to_string().contains("permission-denied");
        assert!(!refused || of_processes || !rustix::process::geteuid().is_root(), "{row}\n{}", agent.said());
    }
    let records = |name: &str| rows.iter().find(|row| row["source"] == name).and_then(|row| row["records"].as_u64());
    for table in ["processes", "sockets", "mounts", "process"] {
        assert!(records(table) > Some(0), "{table}: {json}\n{}", agent.said());
    }
    let (status, _) = tokio::task::spawn_blocking(move || agent.stop(Signal::TERM)).await.unwrap();
    assert!(status.success());
    stop(collector).await;
}
