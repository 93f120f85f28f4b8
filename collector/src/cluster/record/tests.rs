//! The log as a whole: what it tells of a moment and of a window, when files have rolled, gone and been read back.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use casefile_proto::gap::GapReason;
use casefile_proto::time::{WallTime, Window};
use casefile_proto::units::Bytes;
use casefile_redact::{Key, Pseudonyms, Redactor, RuleSet};
use serde_json::{Value, json};

use super::entry::Change;
use super::intake::Told;
use super::log::{Applied, Limits, Log};
use super::snapshot::{Snapshot, Wanted};
use crate::cluster::kinds::Kind;
use crate::cluster::sanitise::Sanitiser;

fn at(secs: i64) -> WallTime {
    WallTime::from_secs(secs)
}

fn open(dir: &Path, bytes: u64, now: i64) -> Log {
    let redactor = Redactor::new(Arc::new(RuleSet::builtin()), Key::new([7; 32]), Pseudonyms::default());
    let limits = Limits { bytes: Bytes(bytes), age: Duration::from_hours(1) };
    Log::open(dir, limits, Sanitiser::new([1; 32], redactor), at(now)).unwrap()
}

fn kind(plural: &str) -> &'static Kind {
    Kind::named(plural).unwrap()
}

fn pod(name: &str, version: u32, status: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "resourceVersion": version.to_string()},
        "status": {"phase": status}})
}

fn list(log: &mut Log, plural: &str, objects: &[Value], now: i64) {
    let page = json!({"metadata": {"resourceVersion": "1"}, "items": objects}).to_string();
    log.page(kind(plural), page.as_bytes(), true, at(now)).unwrap();
    log.end_list(kind(plural), at(now)).unwrap();
}

fn event(log: &mut Log, plural: &str, change: &str, object: &Value, now: i64) -> Applied {
    let line = json!({"type": change, "object": object}).to_string();
    match log.line(kind(plural), line.as_bytes(), at(now)).unwrap() {
        Told::Version(_, applied) => applied,
        other => panic!("{other:?}"),
    }
}

fn window(from: i64, until: i64) -> Window {
    Window::new(at(from), at(until)).unwrap()
}

type Changes = Vec<(i64, String, Change, Option<String>)>;

/// What the log tells of a window: pods at its end with their phases, and the changes in it, with the phase before.
fn told(log: &Log, from: i64, until: i64) -> (BTreeMap<String, String>, Changes) {
    let mut snapshot = log.snapshot(window(from, until), Wanted::default(), at(9_999));
    let phase = |body: &[u8]| {
        let object: Value = serde_json::from_slice(body).unwrap();
        object["status"]["phase"].as_str().unwrap_or("-").to_owned()
    };
    let mut changes = Vec::new();
    let scanned = snapshot.scan(|changed| {
        let (head, secs) = (changed.head, changed.head.at.nanos() / 1_000_000_000);
        changes.push((secs, head.name.to_string(), head.change, changed.before.map(phase)));
        Ok(())
    });
    scanned.unwrap();
    (objects(&mut snapshot, "pods").into_iter().map(|(name, body)| (name, phase(&body))).collect(), changes)
}

fn objects(snapshot: &mut Snapshot, plural: &str) -> BTreeMap<String, Vec<u8>> {
    let picks = snapshot.kinds[kind(plural).position()].objects.clone();
    let all = picks.values().flatten();
    all.map(|(name, pick)| (name.to_string(), snapshot.read(pick).unwrap())).collect()
}

fn pairs(all: &[(&str, &str)]) -> BTreeMap<String, String> {
    all.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn a_window_shows_what_there_was_at_its_end_and_what_changed_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 1 << 26, 0);
    list(&mut log, "pods", &[pod("a", 1, "Running"), pod("b", 2, "Running"), pod("c", 3, "Running")], 10);
    assert_eq!(event(&mut log, "pods", "MODIFIED", &pod("a", 4, "Failed"), 20), Applied::New);
    assert_eq!(event(&mut log, "pods", "MODIFIED", &pod("a", 4, "Failed"), 21), Applied::Same);
    assert_eq!(event(&mut log, "pods", "DELETED", &pod("b", 5, "Succeeded"), 30), Applied::New);
    event(&mut log, "pods", "ADDED", &pod("d", 6, "Pending"), 40);
    event(&mut log, "pods", "MODIFIED", &pod("a", 7, "Running"), 50);
    event(&mut log, "pods", "DELETED", &pod("c", 8, "Running"), 60);
    let check = |log: &Log| {
        let (then, changes) = told(log, 15, 35);
        assert_eq!(then, pairs(&[("a", "Failed"), ("c", "Running")]));
        let running = Some("Running".to_owned());
        let a = (20, "a".to_owned(), Change::Modified, running.clone());
        assert_eq!(changes, [a, (30, "b".to_owned(), Change::Deleted, running)]);
        assert_eq!(told(log, 10, 20).0, pairs(&[("a", "Running"), ("b", "Running"), ("c", "Running")]));
        assert_eq!(told(log, 10, 20).1, [], "what was found when the record began is no change");
        assert_eq!(told(log, 40, 99).0, pairs(&[("a", "Running"), ("d", "Pending")]));
    };
    check(&log);
    log.flush().unwrap();
    check(&log);
    drop(log);
    // Another one, after a crash in the middle of a write.
    let newest = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).max().unwrap();
    std::io::Write::write_all(&mut std::fs::OpenOptions::new().append(true).open(newest).unwrap(), b"torn").unwrap();
    check(&open(dir.path(), 1 << 26, 100));
}

#[test]
fn an_object_of_the_same_name_is_another_one_and_an_old_version_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 1 << 26, 0);
    list(&mut log, "pods", &[pod("a", 1, "Running")], 10);
    event(&mut log, "pods", "MODIFIED", &pod("a", 2, "Failed"), 20);
    assert_eq!(event(&mut log, "pods", "MODIFIED", &pod("a", 1, "Running"), 21), Applied::Backwards);
    let mut other = pod("a", 9, "Pending");
    other["metadata"]["uid"] = json!("other");
    event(&mut log, "pods", "ADDED", &other, 30);
    let changes: Vec<_> = told(&log, 25, 35).1.into_iter().map(|(_, _, change, before)| (change, before)).collect();
    assert_eq!(changes, [(Change::Deleted, Some("Failed".to_owned())), (Change::Added, None)]);
}

#[test]
fn one_that_went_does_not_come_back_by_what_a_watch_repeats_but_by_a_list() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 1 << 26, 0);
    list(&mut log, "pods", &[pod("a", 1, "Running"), pod("b", 2, "Running")], 10);
    // It went while nobody looked, and then the server says again that it came.
    list(&mut log, "pods", &[pod("b", 2, "Running")], 20);
    assert_eq!(event(&mut log, "pods", "ADDED", &pod("a", 1, "Running"), 30), Applied::Backwards);
    event(&mut log, "pods", "DELETED", &pod("b", 5, "Running"), 40);
    assert_eq!(event(&mut log, "pods", "MODIFIED", &pod("b", 2, "Running"), 50), Applied::Backwards);
    assert_eq!(told(&log, 10, 60).0, pairs(&[]));
    let gone = |log: &Log| ["a", "b", "c"].map(|name| log.tracked(kind("pods")).gone_since("shop", name));
    assert_eq!(gone(&log), [Some(at(20)), Some(at(40)), None]);
    log.flush().unwrap();
    drop(log);
    let mut log = open(dir.path(), 1 << 26, 55);
    assert_eq!(gone(&log), [Some(at(20)), Some(at(40)), None], "another start knows it too");
    list(&mut log, "pods", &[pod("a", 6, "Running")], 60);
    assert_eq!(gone(&log), [None, Some(at(40)), None]);
    assert_eq!(event(&mut log, "pods", "MODIFIED", &pod("a", 7, "Failed"), 70), Applied::New);
    assert_eq!(told(&log, 10, 80).0, pairs(&[("a", "Failed")]));
}

#[test]
fn what_happened_while_nobody_looked_is_told_with_the_time_between() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 1 << 26, 0);
    list(&mut log, "pods", &[pod("a", 1, "Running"), pod("b", 1, "Running")], 10);
    log.lost(kind("pods"), at(40), GapReason::SourceFailed, "password=hunter2-Tr0ub4dor is in this error");
    list(&mut log, "pods", &[pod("a", 5, "Failed"), pod("c", 6, "Running")], 80);
    let snapshot = log.snapshot(window(0, 100), Wanted::default(), at(100));
    let pods = &snapshot.kinds[kind("pods").position()];
    let gaps: Vec<_> = pods.gaps.iter().map(|gap| (gap.reason, gap.interval.unwrap())).collect();
    assert_eq!(gaps, [(GapReason::NotRecorded, window(0, 10)), (GapReason::SourceFailed, window(10, 80))]);
    assert!(!pods.gaps[1].detail.contains("hunter2"), "{}", pods.gaps[1].detail);
    let mut seen = Vec::new();
    let mut snapshot = snapshot;
    let scanned = snapshot.scan(|changed| {
        seen.push((changed.head.name.to_string(), changed.head.change, changed.head.since, changed.head.at));
        Ok(())
    });
    scanned.unwrap();
    let told = |name: &str, change| (name.to_owned(), change, Some(at(10)), at(80));
    assert_eq!(seen, [told("a", Change::Modified), told("c", Change::Added), told("b", Change::Deleted)]);
}

#[test]
fn a_lease_that_is_renewed_is_one_version_and_one_that_stops_is_two() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 1 << 26, 0);
    let lease = |name: &str, version: i64, renewed: i64| {
        json!({"metadata": {"name": name, "namespace": "kube-node-lease", "uid": name, "resourceVersion": version.to_string()},
            "spec": {"holderIdentity": name, "renewTime": at(renewed).to_string()}})
    };
    list(&mut log, "leases", &[lease("n1", 1, 0), lease("n2", 2, 0)], 0);
    for turn in 1..30 {
        event(&mut log, "leases", "MODIFIED", &lease("n1", 100 + turn, 10 * turn), 10 * turn);
        if turn < 5 {
            event(&mut log, "leases", "MODIFIED", &lease("n2", 200 + turn, 10 * turn), 10 * turn);
        }
        log.sweep(at(10 * turn)).unwrap();
    }
    let changes = |log: &Log, from: i64, until: i64| {
        let mut all = Vec::new();
        let mut snapshot = log.snapshot(window(from, until), Wanted::default(), at(999));
        let scanned = snapshot.scan(|changed| {
            all.push((changed.head.name.to_string(), changed.head.at));
            Ok(())
        });
        scanned.unwrap();
        let renewed = objects(&mut snapshot, "leases").into_iter().map(|(name, body)| {
            let object: Value = serde_json::from_slice(&body).unwrap();
            (name, object["spec"]["renewTime"].as_str().unwrap().to_owned())
        });
        (all, renewed.collect::<BTreeMap<_, _>>())
    };
    let (seen, renewed) = changes(&log, 0, 300);
    assert_eq!(seen, [("n2".to_owned(), at(80))], "40 s after its last renewal");
    assert_eq!(renewed["n2"], at(40).to_string());
    event(&mut log, "leases", "MODIFIED", &lease("n2", 900, 310), 310);
    event(&mut log, "leases", "MODIFIED", &lease("n2", 901, 320), 320);
    assert_eq!(changes(&log, 300, 400).0, [("n2".to_owned(), at(310))], "it is back");
}

#[test]
fn files_go_and_what_is_alive_stays_with_every_moment_since_the_oldest_begins() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 1 << 20, 0);
    let noise = |n: u64| {
        (0..400).map(|k| format!("{:016x}", (n * 1_000 + k).wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect::<String>()
    };
    let old: Vec<_> = (0..20).map(|n| pod(&format!("old-{n:02}"), 1, "Running")).collect();
    list(&mut log, "pods", &old, 0);
    for n in 1..1_000 {
        let mut busy = pod("busy", 10 + u32::try_from(n).unwrap(), &format!("Phase-{n}"));
        busy["status"]["noise"] = noise(n).into();
        event(&mut log, "pods", "MODIFIED", &busy, i64::try_from(n).unwrap());
        log.flush().unwrap();
        log.retain(at(i64::try_from(n).unwrap())).unwrap();
        assert!(log.bytes() < (1 << 20) + (64 << 10), "{}", log.bytes());
    }
    let begin = log.begin().nanos() / 1_000_000_000;
    assert!(begin > 100, "the oldest files are gone: {begin}");
    // One that never changed changes now: what it was before is known, though its file went long ago.
    event(&mut log, "pods", "MODIFIED", &pod("old-07", 5_000, "Failed"), 1_000);
    let check = |log: &Log| {
        for moment in begin..1_000 {
            if moment % 97 == 0 || moment == begin {
                let (then, _) = told(log, moment, moment + 1);
                assert_eq!((then.len(), then["old-07"].as_str()), (21, "Running"), "as of {moment}");
                assert_eq!(then["busy"], format!("Phase-{moment}"), "as of {moment}");
            }
        }
        let (then, changes) = told(log, 999, 1_001);
        assert_eq!(then["old-07"], "Failed");
        assert_eq!(changes[1], (1_000, "old-07".to_owned(), Change::Modified, Some("Running".to_owned())));
    };
    check(&log);
    log.flush().unwrap();
    drop(log);
    check(&open(dir.path(), 1 << 20, 2_000));
}

#[test]
fn what_is_alive_and_does_not_fit_is_bounded_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 1 << 19, 0);
    let noise = |n: u64| {
        (0..400).map(|k| format!("{:016x}", (n * 1_000 + k).wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect::<String>()
    };
    log.page(kind("pods"), br#"{"metadata":{"resourceVersion":"1"},"items":[]}"#, true, at(0)).unwrap();
    log.end_list(kind("pods"), at(0)).unwrap();
    for n in 0..400 {
        let mut one = pod(&format!("p{n}"), 1, "Running");
        one["status"]["noise"] = noise(n).into();
        event(&mut log, "pods", "ADDED", &one, i64::try_from(n).unwrap());
        log.flush().unwrap();
        log.retain(at(i64::try_from(n).unwrap())).unwrap();
    }
    let pods = log.tracked(kind("pods"));
    assert!(log.bytes() <= (1 << 19) + (64 << 10), "{}", log.bytes());
    assert!(pods.cut > 0 && pods.len() as u64 + pods.cut == 400, "{} kept, {} not", pods.len(), pods.cut);
}

#[test]
fn objects_of_a_real_cluster_come_back_as_they_went_in() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 1 << 26, 0);
    let text = include_str!("../testdata/pods.json");
    let page = log.page(kind("pods"), text.as_bytes(), true, at(1)).unwrap();
    assert!(!page.version.is_empty());
    log.end_list(kind("pods"), at(1)).unwrap();
    let given: Value = serde_json::from_str(text).unwrap();
    let mut snapshot = log.snapshot(window(0, 10), Wanted::default(), at(20));
    snapshot.scan(|_| Ok(())).unwrap();
    let kept = objects(&mut snapshot, "pods");
    let items = given["items"].as_array().unwrap();
    assert_eq!(kept.len(), items.len());
    for item in items {
        let object: Value = serde_json::from_slice(&kept[item["metadata"]["name"].as_str().unwrap()]).unwrap();
        assert_eq!(object["status"]["phase"], item["status"]["phase"]);
        assert_eq!(object["metadata"]["resourceVersion"], item["metadata"]["resourceVersion"]);
        assert_eq!(object["spec"]["containers"][0]["image"], item["spec"]["containers"][0]["image"]);
        assert_eq!((object["kind"].as_str(), object["apiVersion"].as_str()), (Some("Pod"), Some("v1")));
        assert!(object["metadata"]["managedFields"].is_null());
    }
}
