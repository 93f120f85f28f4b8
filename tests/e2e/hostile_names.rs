//! Names and lines that an attacker chose: a process, a pod, a log. They are evidence, so they are recorded as they are;
//! a terminal is never given anything to obey.

use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::time::Duration;

use casefile_proto::ids::NodeName;
use casefile_proto::time::Window;
use casefile_tests::program::{Running, command, run, said, stdout, tool};
use casefile_tests::{Rig, host::FakeHost, now, stop};

/// A line end, brackets that look like the fields of a stat file, and codes that clear a screen and set its title.
const NAME: &str = "e\n) S 1 (\x1b[2J\x1b]";

/// Runs `casefile` in every form that prints, and sees to it that no terminal would obey it.
fn printed(args: &[&str]) -> String {
    for form in ["table", "json", "jsonl"] {
        let output = run("casefile", &[args, &["-o", form]].concat());
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        for stream in [&output.stdout, &output.stderr] {
            let obeyed = stream.iter().find(|b| **b < b' ' && !b"\n\t".contains(b));
            assert_eq!(obeyed, None, "{args:?} {form}: {}", said(&output));
        }
    }
    stdout(&run("casefile", args))
}

#[test]
fn a_process_with_a_hostile_name_is_recorded_under_it_and_printed_harmlessly() {
    let rig = Rig::new().unwrap();
    let Some(sleep) = tool("sleep") else { return };
    // The name of a process is that of the file it was started from.
    let file = rig.path(NAME);
    fs::copy(sleep.get_program(), &file).unwrap();
    #[expect(clippy::disallowed_methods, reason = "the process that is to be recorded")]
    let mut hostile = std::process::Command::new(&file);
    let hostile = Running::start(hostile.arg0("sleep").arg("600"));
    let pid = hostile.0.id();
    let data = rig.path("data");
    let data = data.to_str().unwrap();
    let made =
        run("casefile-collector", &["local", "--once", "--warm-up", "3s", "--listen", "127.0.0.1:0", "--data", data]);
    assert!(made.status.success(), "{}", said(&made));
    assert!(!made.stdout.contains(&0x1b) && !made.stderr.contains(&0x1b), "{}", said(&made));

    let case = stdout(&made).lines().next().unwrap().to_owned();
    printed(&["show", &case]);
    printed(&["series", &case]);
    let label = format!("pid={pid}");
    let shown = printed(&["series", &case, "casefile_process_info", "--label", &label]);
    assert!(shown.lines().any(|line| line.contains("\\u{1b}[2J")), "the name, escaped and on one line:\n{shown}");
    let top = printed(&["top", &case, "-n", "100000"]);
    assert!(top.lines().any(|line| line.contains("\\u{1b}[2J")), "{top}");
    let ring = rig.path("data/agent/ring");
    printed(&["replay", ring.to_str().unwrap(), "--series", "casefile_process_threads"]);
    printed(&["replay", ring.to_str().unwrap(), "--events"]);

    // In the table of processes it stands byte for byte, as JSON escapes it.
    let node = stdout(&run("casefile", &["ls", &case]));
    let table = node.lines().find_map(|l| l.split_whitespace().find(|w| w.ends_with("state/processes.jsonl"))).unwrap();
    let rows = stdout(&run("casefile", &["cat", &case, table]));
    let row = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
    let named = rows.lines().map(row).find(|row| row["pid"] == pid).unwrap();
    assert!(named.as_object().unwrap().values().any(|v| v.as_str() == Some(NAME)), "{named}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_lines_and_pods_are_kept_byte_for_byte_and_printed_harmlessly() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    let collector = rig.collector().await.unwrap();
    let agent = rig.agent("n1", host.root()).unwrap();
    let mut client = rig.client().await.unwrap();
    let (at, text) = (now(), "\x1b]0;owned\x07 \x1b[31m \r overwritten \u{202e}gnp.exe \u{9b}2J");
    host.plain_line(at, text).unwrap();
    let pod = "var/log/pods/shop_\x1b[2Japi_0a1b2c3d-9999-2222-3333-444455556666/ma\nin/0.log";
    host.append(pod, &format!("{at} stdout F from the hostile pod {text}\n")).unwrap();
    client.recorded("n1", Duration::from_secs(1)).await;
    let window = Window::new(at.before(Duration::from_secs(5)), now()).unwrap();
    let id = client.open(window, &[], Duration::from_secs(20)).await.unwrap().id;
    client.sealed(id).await.unwrap();
    let path = rig.path("case.tar.gz");
    let mut file = client.download(id, &path).await.unwrap();
    agent.stop().await;
    stop(collector).await;

    let node: NodeName = "n1".parse().unwrap();
    let mut logs: Vec<_> = file.entries.list().iter().map(|e| e.path.clone()).collect();
    logs.retain(|p| p.as_str().contains(&format!("{node}/logs/")));
    let mut all = Vec::new();
    for log in &logs {
        file.entries.entry(log).unwrap().read_to_end(&mut all).unwrap();
    }
    let found = all.windows(text.len()).filter(|w| *w == text.as_bytes()).count();
    assert_eq!(found, 2, "both lines, byte for byte, in {logs:?}");
    let case = path.to_str().unwrap();
    for verb in ["show", "ls", "logs", "verify"] {
        printed(&[verb, case]);
    }
    assert!(printed(&["logs", case, "--grep", "owned"]).contains("\\u{1b}]0;owned"));
}

#[test]
fn a_hostile_node_name_is_refused_where_it_is_said() {
    let rig = Rig::new().unwrap();
    let config = rig.path("agent.toml");
    fs::write(&config, format!("data_dir = {:?}\n", rig.path("agent"))).unwrap();
    for name in ["../../etc", "a\x1b[2J", "a b", &"n".repeat(300)] {
        let mut agent = command("casefile-agent");
        let output = agent.args(["run", "--config"]).arg(&config).env("CASEFILE_NODE", name).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains("CASEFILE_NODE") && !told.contains('\x1b'), "{told}");
    }
}
