//! The runbook's commands over the case file of a real cluster: what they print, for people and for programs, and how they end.
//!
//! `UPDATE_GOLDEN=1 cargo test -p casefile-review --test runbook` writes the goldens anew; read the diff before you commit it.

#![expect(clippy::unwrap_used, reason = "in a test everything that fails ends the test")]

#[expect(dead_code, reason = "what kubernetes.rs needs besides")]
mod cluster;
mod goldens;
#[expect(dead_code, reason = "what other files of tests need besides")]
mod recorded;
#[expect(dead_code, reason = "these case files have a window of their own")]
mod sealed;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::sample::MetricKind::{Counter, Gauge};
use casefile_proto::units::Unit;
use goldens::golden;
use recorded::{Metric, Recorder, said};
use sealed::{Node, log, seal_with};
use serde_json::Value;

const METRICS: &[Metric] = &[
    ("cgroup", "container_cpu_usage_seconds_total", Counter, Unit::Seconds, &["id"]),
    ("cgroup", "container_cpu_cfs_periods_total", Counter, Unit::Count, &["id"]),
    ("cgroup", "container_cpu_cfs_throttled_periods_total", Counter, Unit::Count, &["id"]),
    ("cgroup", "container_memory_usage_bytes", Gauge, Unit::Bytes, &["id"]),
    ("cgroup", "container_memory_total_inactive_file_bytes", Gauge, Unit::Bytes, &["id"]),
    ("cgroup", "container_oom_events_total", Counter, Unit::Count, &["id"]),
    ("cgroup", "container_pressure_cpu_waiting_seconds_total", Counter, Unit::Seconds, &["id"]),
];

const MIB: f64 = 1_048_576.0;

/// Seconds of the window.
const SECONDS: u32 = 300;

/// From this second on the gateway has twice as much to do: its second half.
const BUSY_FROM: u32 = 150;

fn uid(pod: &str) -> String {
    let pods: Value = serde_json::from_slice(&cluster::fixture("pods.json")).unwrap();
    let all = pods["items"].as_array().unwrap();
    let of = all.iter().find(|one| one["metadata"]["name"] == pod).unwrap();
    of["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// Five minutes of the node: a gateway that becomes busy and is held back by its limit, and a pod that eats.
fn recording() -> Vec<u8> {
    let mut recorder = Recorder::new("node1", METRICS);
    let gateway = format!("/kubepods/burstable/pod{}", uid("api-gateway-54f59bc969-4q8vm"));
    let hungry = format!("/kubepods/burstable/pod{}", uid("hungry"));
    for second in 0..SECONDS {
        let calm = f64::from(second);
        let busy = f64::from(second.saturating_sub(BUSY_FROM));
        let at = cluster::window().from().offset(i64::from(second) * 1_000_000_000);
        let (gateway, hungry) = ([gateway.as_str()], [hungry.as_str()]);
        let all = vec![
            said("container_cpu_usage_seconds_total", &gateway, calm * 0.06 + busy * 0.08),
            said("container_cpu_cfs_periods_total", &gateway, calm * 10.0),
            said("container_cpu_cfs_throttled_periods_total", &gateway, busy * 4.0),
            said("container_memory_usage_bytes", &gateway, 20.0 * MIB + busy * 0.1 * MIB),
            said("container_memory_total_inactive_file_bytes", &gateway, 4.0 * MIB),
            said("container_oom_events_total", &gateway, 0.0),
            said("container_pressure_cpu_waiting_seconds_total", &gateway, calm * 0.01 + busy * 0.3),
            said("container_cpu_usage_seconds_total", &hungry, calm * 0.02),
            said("container_memory_usage_bytes", &hungry, f64::from(second % 60) * 0.5 * MIB),
            said("container_memory_total_inactive_file_bytes", &hungry, 0.0),
            said("container_oom_events_total", &hungry, f64::from(second / 60)),
        ];
        recorder.tick(at, all, vec![]);
    }
    recorder.bytes()
}

fn node() -> Node {
    let mut node = cluster::node();
    node.logs.push(log("recording/window.seg", None, recording()));
    node
}

fn file(dir: &Path) -> PathBuf {
    seal_with(dir, &[node()], cluster::window(), cluster::entries())
}

/// A case file of the same node without anything of the cluster.
fn bare(dir: &Path) -> PathBuf {
    seal_with(dir, &[node()], cluster::window(), Vec::new())
}

#[expect(clippy::disallowed_methods, reason = "the command itself is what is tested")]
fn casefile(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_casefile"));
    command.args(args).env_remove("CASEFILE_COLLECTOR").env_remove("CASEFILE_TOKEN").output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn printed(name: &str, given: &str) {
    golden(name, given.as_bytes());
    // A record is as long as whoever wrote it made it.
    for line in given.lines().filter(|_| name != "collect-logs.txt") {
        assert!(line.chars().count() <= 100, "{name}: wider than a terminal: {line}");
    }
}

#[test]
fn a_health_check_tells_problems_warnings_and_what_was_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let file = file(dir.path());
    let done = casefile(&["health-check", file.to_str().unwrap()]);
    printed("health-check.txt", text(&done.stdout));
    assert_eq!(done.status.code(), Some(3), "{}", text(&done.stderr));
    let done = casefile(&["health-check", file.to_str().unwrap(), "-o", "json"]);
    let json: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(json["format"], 1);
    let problems = json["wrong"].as_array().unwrap().iter().filter(|one| one["level"] == "problem").count();
    assert!(problems >= 5 && json["not_looked_at"].as_array().unwrap().is_empty(), "{json:#}");
}

#[test]
fn a_cluster_in_which_nothing_is_wrong_is_healthy_and_only_then() {
    let dir = tempfile::tempdir().unwrap();
    let calm = |without: &[&str]| {
        let mut entries = cluster::entries();
        for (path, bytes) in &mut entries {
            let kind = path.as_str().rsplit('/').nth(1).unwrap_or_default();
            if ["pods", "events", "jobs", "pvcs", "deployments"].contains(&kind) {
                let mut list: Value = serde_json::from_slice(bytes).unwrap();
                let well = |object: &Value| {
                    let name = object["metadata"]["name"].as_str().unwrap();
                    (name.starts_with("api-gateway") || name.starts_with("probe")) && kind != "events"
                };
                list["items"].as_array_mut().unwrap().retain(well);
                *bytes = serde_json::to_vec(&list).unwrap();
            }
        }
        entries.retain(|(path, _)| !without.iter().any(|kind| path.as_str().contains(kind)));
        let file = seal_with(dir.path(), &[node()], cluster::window(), entries);
        casefile(&["health-check", file.to_str().unwrap()])
    };
    let done = calm(&[]);
    assert!(text(&done.stdout).contains("nothing is wrong"), "{}", text(&done.stdout));
    assert_eq!(done.status.code(), Some(0));
    for missing in ["/nodes.json", "/events/", "/pods/"] {
        let done = calm(&[missing]);
        assert!(text(&done.stdout).contains("not everything could be looked at"), "{missing}: {}", text(&done.stdout));
        assert_eq!(done.status.code(), Some(5), "{missing}");
    }
}

#[test]
fn without_cluster_evidence_nobody_is_healthy() {
    let dir = tempfile::tempdir().unwrap();
    let done = casefile(&["health-check", bare(dir.path()).to_str().unwrap()]);
    let out = text(&done.stdout);
    assert!(out.contains("there is no cluster evidence in this archive") && !out.contains("nothing is wrong"), "{out}");
    assert_eq!(done.status.code(), Some(5));
}

#[test]
fn a_node_that_gave_nothing_was_not_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let file = file(dir.path());
    let mut casefile = casefile_review::casefile::CaseFile::open(&file).unwrap();
    casefile.coverage.nodes[0].state = casefile_proto::coverage::NodeState::Silent;
    let signatures = &casefile_review::signatures::catalogue::catalogue().signatures;
    let health = casefile_review::runbook::health::Health::of(&mut casefile, signatures);
    assert_eq!(health.not_looked_at, ["node node1: gave nothing"]);
}

#[test]
fn health_endpoints_are_as_the_newest_test_of_each_found_them() {
    let dir = tempfile::tempdir().unwrap();
    let at = |seconds| cluster::window().from().after(std::time::Duration::from_secs(seconds)).to_string();
    let line = |name: &str, seconds: u64, outcome: Value| {
        let target = format!("tcp://{name}.shop.svc:5432");
        let mut line = serde_json::json!({"at": at(seconds), "name": name, "target": target, "asked_by": "kim", "of": 1, "node": "node1"});
        line.as_object_mut().unwrap().extend(outcome.as_object().unwrap().clone());
        line
    };
    let connect = |went: Value| {
        let resolve = serde_json::json!({"went": "ok", "took_nanos": 1_000_000, "addresses": ["10.0.0.1"]});
        serde_json::json!({"tested": {"resolve": resolve, "connect": went}})
    };
    let ok = || connect(serde_json::json!({"went": "ok", "took_nanos": 1_000_000, "address": "10.0.0.1:5432"}));
    let refused = || {
        let failed = serde_json::json!({"went": "failed", "failure": "refused", "took_nanos": 1_000_000, "address": "10.0.0.1:5432"});
        connect(failed)
    };
    let untested = || serde_json::json!({"untested": {"reason": "switched-off"}});
    let health = |lines: &[Value]| {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let path = casefile_evidence::archive::layout::path(casefile_evidence::archive::layout::CONNECTIVITY);
        let entries = cluster::entries().into_iter().chain([(path, text.into_bytes())]).collect();
        let file = seal_with(dir.path(), &[node()], cluster::window(), entries);
        let done = casefile(&["health-check", file.to_str().unwrap(), "-o", "json"]);
        serde_json::from_slice::<Value>(&done.stdout).unwrap()
    };
    let of = |health: &Value| -> Vec<String> {
        let wrong = health["wrong"].as_array().unwrap().iter().filter(|one| one["kind"] == "test-connectivity");
        wrong.map(|one| one["subject"].as_str().unwrap().to_owned()).collect()
    };
    let told = |health: &Value, part: &str| health[part].to_string();
    let mended = health(&[line("db", 10, refused()), line("db", 20, ok()), line("api", 30, ok())]);
    assert!(of(&mended).is_empty(), "{mended:#}");
    assert!(told(&mended, "looked_at").contains("2 health endpoints: 2 reached"), "{mended:#}");
    let broken = health(&[line("db", 10, ok()), line("db", 20, refused())]);
    assert_eq!(of(&broken), ["target db"], "{broken:#}");
    let unsure = health(&[line("db", 10, untested())]);
    assert!(of(&unsure).is_empty() && told(&unsure, "not_looked_at").contains("target db"), "{unsure:#}");
    assert!(!told(&unsure, "not_asked").contains("health endpoints"), "{unsure:#}");
    assert!(told(&health(&[]), "not_asked").contains("health endpoints"));
}

#[test]
fn logs_are_merged_by_time_with_where_they_are_from() {
    let dir = tempfile::tempdir().unwrap();
    let file = file(dir.path());
    let done = casefile(&["collect-logs", file.to_str().unwrap(), "--namespace", "shop"]);
    printed("collect-logs.txt", text(&done.stdout));
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let one = casefile(&["collect-logs", file.to_str().unwrap(), "-n", "shop", "--pod", "hungry", "--format", "jsonl"]);
    let rows: Vec<Value> = text(&one.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0]["pod"].as_str(), rows[0]["text"].as_str()), (Some("hungry"), Some("eating")));
    let unit = casefile(&["collect-logs", file.to_str().unwrap(), "--unit", "kubelet", "--since", "2m"]);
    assert!(text(&unit.stdout).contains("SyncLoop"), "{}", text(&unit.stderr));
}

#[test]
fn logs_become_files_with_names_that_lead_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = node();
    node.logs.push(log("logs/pods/shop_=2E=2E=2Fescape_u/x.log", None, "2026-11-23T14:43:54.1Z stdout out\n"));
    let file = seal_with(dir.path(), &[node], cluster::window(), Vec::new());
    let into = dir.path().join("logs");
    let args = ["collect-logs", file.to_str().unwrap(), "-n", "shop", "-o", into.to_str().unwrap(), "--format", "json"];
    let done = casefile(&args);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let written: Value = serde_json::from_slice(&done.stdout).unwrap();
    let files: Vec<&str> = written.as_array().unwrap().iter().map(|one| one["file"].as_str().unwrap()).collect();
    assert_eq!(files.len(), 3, "{files:?}");
    for file in files {
        let path = Path::new(file);
        let up = path.components().any(|part| part == std::path::Component::ParentDir);
        assert!(path.starts_with(&into) && !up, "{file}");
        assert_eq!(path.parent().unwrap().file_name().unwrap(), "node1");
    }
    let hungry = std::fs::read(into.join("node1/shop_hungry_app.log")).unwrap();
    assert_eq!(text(&hungry), "2026-11-23T14:43:54.100000Z eating\n");
    // What is there is never written over.
    let again = casefile(&args);
    assert_eq!(again.status.code(), Some(1));
    assert_eq!(std::fs::read(into.join("node1/shop_hungry_app.log")).unwrap(), hungry);
}

#[test]
fn gaps_and_logs_that_are_not_there_are_told_and_exit_with_5() {
    let dir = tempfile::tempdir().unwrap();
    let gap = Gap::new(GapReason::RotatedAway, "gone").over(cluster::window());
    let file = seal_with(dir.path(), &[Node { gaps: vec![gap], ..node() }], cluster::window(), Vec::new());
    let done = casefile(&["collect-logs", file.to_str().unwrap(), "-n", "shop"]);
    assert!(text(&done.stderr).contains("1 gap in these logs"), "{}", text(&done.stderr));
    assert_eq!(done.status.code(), Some(5));
    let done = casefile(&["collect-logs", bare(dir.path()).to_str().unwrap(), "-n", "elsewhere"]);
    assert!(text(&done.stderr).contains("none of these logs is in it"), "{}", text(&done.stderr));
    assert_eq!(done.status.code(), Some(5));
    assert_eq!(casefile(&["collect-logs", file.to_str().unwrap()]).status.code(), Some(2), "what of?");
}

#[test]
fn what_the_pods_behind_a_service_use_is_compared_with_before() {
    let dir = tempfile::tempdir().unwrap();
    let file = file(dir.path());
    let done = casefile(&["analyze-resources", file.to_str().unwrap(), "--service", "api-gateway", "-n", "shop"]);
    printed("analyze-resources.txt", text(&done.stdout));
    assert_eq!(done.status.code(), Some(5), "of the second pod nothing was recorded");
    let args = ["analyze-resources", file.to_str().unwrap(), "--pod", "hungry", "-o", "json", "--before", "14:42:30Z"];
    let done = casefile(&args);
    let json: Value = serde_json::from_slice(&done.stdout).unwrap();
    let pod = &json["pods"][0];
    assert_eq!((&json["format"], &pod["restarts"]), (&1.into(), &4.into()));
    assert_eq!(pod["asked"]["memory_limit_bytes"].as_f64(), Some(32.0 * MIB));
    assert_eq!(pod["asked"]["cpu_limit"], Value::Null);
    assert_eq!((&pod["now"]["oom_kills"], &pod["before"]["oom_kills"]), (&2.0.into(), &2.0.into()));
    assert!(pod["now"]["throttled_ratio"].is_null(), "what was not recorded is not zero: {pod:#}");
    let near = |value: &Value, expected: f64| (value.as_f64().unwrap() - expected).abs() < 1e-6;
    assert!(near(&pod["now"]["cpus_mean"], 0.02) && near(&pod["now"]["working_set_bytes_max"], 29.5 * MIB), "{pod:#}");
}

#[test]
fn a_workload_is_its_pods_by_whatever_name_it_is_called() {
    let dir = tempfile::tempdir().unwrap();
    let file = file(dir.path());
    for name in ["api-gateway", "deployment/api-gateway", "ReplicaSet/api-gateway-54f59bc969"] {
        let done = casefile(&["analyze-resources", file.to_str().unwrap(), "--workload", name, "-o", "json"]);
        let json: Value = serde_json::from_slice(&done.stdout).unwrap();
        let pods: Vec<_> = json["pods"].as_array().unwrap().iter().map(|pod| pod["pod"].as_str().unwrap()).collect();
        assert!(pods.contains(&"api-gateway-54f59bc969-4q8vm") && pods.len() >= 2, "{name}: {pods:?}");
    }
    let none = casefile(&["analyze-resources", file.to_str().unwrap(), "--service", "nobody"]);
    assert!(text(&none.stdout).contains("there is no service nobody"), "{}", text(&none.stdout));
    assert_eq!(none.status.code(), Some(5));
    assert_eq!(casefile(&["analyze-resources", file.to_str().unwrap()]).status.code(), Some(2), "of what?");
}

#[test]
fn without_objects_a_pod_is_known_by_its_logs_and_its_limits_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let file = bare(dir.path());
    let done = casefile(&["analyze-resources", file.to_str().unwrap(), "--pod", "hungry"]);
    printed("analyze-resources-bare.txt", text(&done.stdout));
    assert_eq!(done.status.code(), Some(5));
    let done = casefile(&["analyze-resources", file.to_str().unwrap(), "--service", "api-gateway"]);
    assert!(text(&done.stdout).contains("there is no cluster evidence"), "{}", text(&done.stdout));
}

#[test]
fn texts_of_the_cluster_steer_no_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let mut entries = cluster::entries();
    for (path, bytes) in &mut entries {
        if path.as_str().contains("/pods/") || path.as_str().contains("/events/") {
            let text = String::from_utf8(bytes.clone()).unwrap();
            *bytes = text
                .replace("hungry", "hun\\u001b[2Jgry\\u202e")
                .replace("Back-off", "\\u001b]0;x\\u0007")
                .into_bytes();
        }
    }
    let file = seal_with(dir.path(), &[node()], cluster::window(), entries);
    let file = file.to_str().unwrap();
    for args in [
        vec!["health-check", file],
        vec!["health-check", file, "-o", "json"],
        vec!["analyze-resources", file, "--pod", "hun\u{1b}[2Jgry\u{202e}"],
        vec!["check", file],
        vec!["timeline", file],
    ] {
        let done = casefile(&args);
        let out = text(&done.stdout);
        assert!(!out.is_empty() && !out.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{args:?}: {out}");
    }
}

/// A case file in whose window five nodes tested a target: three reach it, one lacks the root, one may not test.
fn tested(dir: &Path) -> PathBuf {
    use serde_json::json;
    let at = |seconds| cluster::window().from().after(std::time::Duration::from_secs(seconds)).to_string();
    let ok = |micros: u64, mut more: Value| {
        more["went"] = "ok".into();
        more["took_nanos"] = (micros * 1_000).into();
        more
    };
    let shown = |trust: &str| {
        let certificate = json!({"subject": "CN=api-gateway", "issuer": "CN=shop authority",
            "not_before": "2026-06-17T00:00:00Z", "not_after": "2027-06-17T00:00:00Z", "sha256": "ab".repeat(32)});
        json!({"version": "TLSv1.3", "alpn": "http/1.1", "certificates": [certificate], "name_fits": true, "trust": trust})
    };
    let resolve = |micros| ok(micros, json!({"addresses": ["10.96.7.20"]}));
    let connect = |micros| ok(micros, json!({"address": "10.96.7.20:443"}));
    let reached = |all: [u64; 4]| {
        let answered = json!({"status": 200, "server_time": at(62), "node_time": at(62)});
        let tls = ok(all[2], json!({"shown": shown("trusted")}));
        let http = ok(all[3], json!({"answered": answered}));
        json!({"tested": {"resolve": resolve(all[0]), "connect": connect(all[1]), "tls": tls, "http": http}})
    };
    let tls = json!({"went": "failed", "failure": "certificate", "took_nanos": 4_600_000, "shown": shown("not-trusted"),
        "detail": "not trusted: no root that the agent was given has signed it"});
    let not_trusted = json!({"tested":
        {"resolve": resolve(280), "connect": connect(80), "tls": tls, "http": {"went": "not-reached"}}});
    let nodes = [
        ("node-1", reached([10_700, 100, 3_000, 1_600])),
        ("node-2", reached([360, 140, 3_200, 7_700])),
        ("node-3", not_trusted),
        ("node-4", reached([3_300, 110, 3_000, 4_100])),
        ("node-5", json!({"untested": {"reason": "switched-off"}})),
    ];
    let mut text = String::new();
    for (node, outcome) in nodes {
        let mut line = json!({"at": at(60), "name": "api-gateway", "target": "https://api.shop.svc:443/healthz",
            "asked_by": "kim", "of": 5, "node": node});
        line.as_object_mut().unwrap().extend(outcome.as_object().unwrap().clone());
        text.push_str(&format!("{line}\n"));
    }
    let path = casefile_evidence::archive::layout::path(casefile_evidence::archive::layout::CONNECTIVITY);
    seal_with(dir, &[node()], cluster::window(), vec![(path, text.into_bytes())])
}

#[test]
fn a_test_that_a_case_file_holds_is_shown_as_it_was_when_it_was_made() {
    let dir = tempfile::tempdir().unwrap();
    let file = tested(dir.path());
    let shown = |more: &[&str]| casefile(&[&["test-connectivity", file.to_str().unwrap()], more].concat());
    let all = shown(&[]);
    assert_eq!(all.status.code(), Some(3), "{}", text(&all.stderr));
    assert!(text(&all.stdout).contains("The fault is with node-3"), "{}", text(&all.stdout));
    assert_eq!(shown(&["--target", "https://api.shop.svc/healthz"]).stdout, all.stdout, "by its URL as well");
    let none = shown(&["--target", "db"]);
    assert_eq!((none.status.code(), none.stdout.len()), (Some(5), 0), "{}", text(&none.stdout));
}

/// The README's examples of these commands, run over the demonstration (`FILE`), or the case file with a test of connectivity
/// (`TESTED`): what stands below each is what it prints.
#[test]
fn the_readme_shows_what_the_commands_print() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = String::from_utf8(std::fs::read(&path).unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let demo = casefile_demo::write(dir.path()).unwrap();
    let demo = demo.to_str().unwrap();
    let others = tempfile::tempdir().unwrap();
    let tested = tested(others.path());
    let tested = tested.to_str().unwrap();
    const BEGINS: &str = "```console\n$ casefile ";
    let (mut made, mut rest, mut count) = (String::new(), readme.as_str(), 0);
    while let Some(at) = rest.find(BEGINS) {
        made.push_str(&rest[..at]);
        let block = &rest[at..];
        let end = block[BEGINS.len()..].find("```").unwrap() + BEGINS.len();
        let line = block["```console\n".len()..].lines().next().unwrap();
        let file = |arg| match arg {
            "FILE" => demo,
            "TESTED" => tested,
            arg => arg,
        };
        let args: Vec<&str> = line["$ casefile ".len()..].split(' ').map(file).collect();
        let done = casefile(&args);
        assert!(done.status.code() != Some(1) && done.status.code() != Some(2), "{line}: {}", text(&done.stderr));
        let out = text(&done.stdout);
        assert!(out.lines().count() > 3 && !out.contains(demo), "{line}: {out}");
        // A record is as long as whoever wrote it made it, and a sentence about nodes as long as their names.
        let is_wide = line.contains("collect-logs") || line.contains("test-connectivity");
        assert!(is_wide || out.lines().all(|line| line.chars().count() <= 100), "wider than a terminal: {out}");
        made.push_str(&format!("```console\n{line}\n{out}"));
        rest = &block[end..];
        count += 1;
    }
    made.push_str(rest);
    assert_eq!(count, 4);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let now = std::fs::read(&path).unwrap();
    assert!(text(&now) == made, "UPDATE_GOLDEN=1 writes the README's examples anew:\n{made}");
}
