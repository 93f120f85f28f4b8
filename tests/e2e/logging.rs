//! The log of both programs as JSON: one object a line, whatever happens, with time, level, target and message.

use casefile_proto::time::WallTime;
use casefile_tests::program::{Talking, command};
use casefile_tests::{Rig, wait};
use rustix::process::Signal;
use serde_json::Value;

/// The messages of a log, each of whose lines must be in order.
fn messages(said: &str) -> Vec<String> {
    let message = |line: &str| {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let text = |key: &str| object[key].as_str().unwrap_or_else(|| panic!("no {key}: {line}")).to_owned();
        assert!(text("timestamp").parse::<WallTime>().is_ok(), "{line}");
        assert!(["ERROR", "WARN", "INFO", "DEBUG"].contains(&text("level").as_str()), "{line}");
        assert!(text("target").starts_with("casefile_"), "{line}");
        object["fields"]["message"].as_str().unwrap_or_else(|| panic!("no message: {line}")).to_owned()
    };
    said.lines().map(message).collect()
}

#[test]
fn both_programs_log_one_json_object_a_line_when_they_are_asked_for_it() {
    let rig = Rig::new().unwrap();
    let (agent, collector) = (rig.path("agent.toml"), rig.path("collector.toml"));
    let listen = rig.url().trim_start_matches("https://").to_owned();
    std::fs::write(&collector, format!("listen = {listen:?}\ndata_dir = {:?}\n", rig.path("collector"))).unwrap();
    let text = format!("collector = {:?}\nnode = \"n1\"\ndata_dir = {:?}\n", rig.url(), rig.path("agent-n1"));
    std::fs::write(&agent, text).unwrap();
    let mut serving = Talking::start(
        command("casefile-collector").args(["serve", "--log-format", "json", "--config"]).arg(&collector),
        rig.path("collector.err"),
    );
    serving.until_it_says("collector started");
    rig.enlist("n1").unwrap();
    let mut recording = Talking::start(
        command("casefile-agent").args(["run", "--config"]).arg(&agent).env("CASEFILE_LOG_FORMAT", "json"),
        rig.path("agent.err"),
    );
    recording.until_it_says("session stands");
    wait::until_blocking("the node at the collector", || serving.said().contains("node connected").then_some(()));
    let (ended, said) = recording.stop(Signal::TERM);
    let messages_of_agent = messages(&said);
    assert!(ended.success() && messages_of_agent.iter().any(|m| m == "told to stop"), "{said}");
    let (ended, said) = serving.stop(Signal::TERM);
    let messages_of_collector = messages(&said);
    assert!(ended.success() && messages_of_collector.iter().any(|m| m == "collector stopped"), "{said}");
    let node = said
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .find_map(|o| o["fields"]["node"].as_str().map(str::to_owned));
    assert_eq!(node.as_deref(), Some("n1"), "fields are fields: {said}");
}

#[test]
fn why_a_program_did_not_start_is_json_too() {
    let rig = Rig::new().unwrap();
    let config = rig.path("bad.toml");
    std::fs::write(&config, "data_dir = \"d\"\nnode = \"a/b\"\nlisten = \"x\"\n").unwrap();
    for (name, verb) in [("casefile-agent", "run"), ("casefile-collector", "serve")] {
        let output = command(name).args([verb, "--log-format=json", "--config"]).arg(&config).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(messages(&said), ["ended"], "{said}");
        assert!(said.contains("cannot be used"), "{said}");
    }
    let usage = command("casefile-agent").args(["run", "--log-format", "xml"]).output().unwrap();
    assert_eq!(usage.status.code(), Some(2));
}
