//! What is kept of objects and what is not, on planted secrets and on objects of a real cluster.

use std::sync::Arc;

use casefile_redact::{Key, Pseudonyms, RuleSet};
use serde_json::json;

use super::*;

fn sanitiser(salt: u8) -> Sanitiser {
    let redactor = Redactor::new(Arc::new(RuleSet::builtin()), Key::new([7; 32]), Pseudonyms::default());
    Sanitiser::new([salt; 32], redactor)
}

fn kept(plural: &str, object: Value) -> (Value, bool) {
    let (ours, kind) = (sanitiser(1), Kind::named(plural).unwrap());
    let mut raw = ours.read(kind, object).unwrap();
    let (body, whole) = ours.body(kind, &mut raw);
    (serde_json::from_slice(&body).unwrap(), whole)
}

const SECRET: &str = "hunter2-Tr0ub4dor";

#[test]
fn a_planted_secret_is_nowhere_in_what_is_kept() {
    let container = json!({"name": "c", "image": "api:1", "env": [{"name": "DB", "value": SECRET},
            {"name": "REF", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}],
        "command": ["sh", "-c", format!("export DB_PASSWORD={SECRET}; run")],
        "args": ["--verbose", "--password", SECRET, format!("--api-token={SECRET}")]});
    let pod = json!({"metadata": {"name": "p", "namespace": "shop", "uid": "u", "resourceVersion": "7",
            "managedFields": [{"manager": SECRET}],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": SECRET, "example.com/password": SECRET,
                "large": SECRET.repeat(100), "note": "plain words"}},
        "spec": {"containers": [container], "initContainers": [container], "securityContext": {"sysctls": [{"name": "a.b", "value": "1"}]}},
        "status": {"containerStatuses": [{"name": "c", "state": {"waiting": {"message": format!("login with password={SECRET} failed")}}}]}});
    let (object, whole) = kept("pods", pod.clone());
    let text = object.to_string();
    assert!(whole && !text.contains(SECRET), "{text}");
    assert!(text.contains("plain words") && text.contains("--verbose") && text.contains("secretKeyRef"));
    assert!(!text.contains("managedFields") && !text.contains("last-applied"));
    assert_eq!(object.pointer("/spec/securityContext/sysctls/0/value"), Some(&json!("1")));
    let env = |n: usize| object["spec"]["containers"][0]["env"][n]["value"].clone();
    assert!(env(0).as_str().unwrap().starts_with("[hash:"), "{}", env(0));
    assert_eq!(object["spec"]["initContainers"][0]["env"][0]["value"], env(0), "equal values stay equal");
    let large = object["metadata"]["annotations"]["large"].as_str().unwrap();
    assert!(large.starts_with("[cut: 1700 bytes; [hash:"), "{large}");
    assert_eq!(kept("pods", pod).0, object, "twice the same");
}

#[test]
fn values_of_helm_and_messages_of_events_are_not_kept_as_they_are() {
    let application = json!({"metadata": {"name": "shop", "namespace": "argocd"}, "spec": {"source": {"repoURL": "https://git.example/x",
        "helm": {"values": format!("password: {SECRET}"), "parameters": [{"name": "token", "value": SECRET}],
                 "valuesObject": {"db": {"password": SECRET}}}}}, "status": {"sync": {"status": "OutOfSync"}}});
    let text = kept("applications", application).0.to_string();
    assert!(!text.contains(SECRET) && text.contains("OutOfSync") && text.contains("git.example"), "{text}");
    let event = json!({"metadata": {"name": "e", "namespace": "shop"}, "reason": "Failed",
        "message": format!("pull https://bob:{SECRET}@registry.example/v2: 401")});
    let text = kept("events", event).0.to_string();
    assert!(!text.contains(SECRET) && text.contains("registry.example"), "{text}");
}

#[test]
fn only_what_changed_changes_the_digest_and_a_heartbeat_is_no_change() {
    let ours = sanitiser(1);
    let node = |version: &str, beat: &str, ready: &str| {
        let object = json!({"metadata": {"name": "n1", "uid": "u", "resourceVersion": version, "managedFields": [beat]},
            "status": {"conditions": [{"type": "Ready", "status": ready, "lastHeartbeatTime": beat}]}});
        ours.read(Kind::named("nodes").unwrap(), object).unwrap()
    };
    let (a, b, c) = (node("1", "10:00", "True"), node("2", "10:05", "True"), node("3", "10:10", "False"));
    assert_eq!(a.digest, b.digest);
    assert_ne!(b.digest, c.digest);
    assert_eq!(b.pulse, ["10:05"]);
    let mut b = b;
    let (body, _) = ours.body(Kind::named("nodes").unwrap(), &mut b);
    let mut object: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(object.pointer("/status/conditions/0/lastHeartbeatTime"), Some(&json!("10:05")));
    assert_eq!(object["metadata"]["resourceVersion"], "2");
    restore(Kind::named("nodes").unwrap(), &mut object, &["10:30".to_owned()]);
    assert_eq!(object.pointer("/status/conditions/0/lastHeartbeatTime"), Some(&json!("10:30")));
    let other = sanitiser(2).read(Kind::named("nodes").unwrap(), json!({"metadata": {"name": "n1"}})).unwrap();
    let same = ours.read(Kind::named("nodes").unwrap(), json!({"metadata": {"name": "n1"}})).unwrap();
    assert_ne!(other.digest, same.digest, "nothing can be guessed without the key");
}

#[test]
fn an_object_that_is_too_large_is_kept_by_its_name_and_what_is_none_is_refused() {
    let status: Vec<_> = (0..100_000).map(|n| json!({"n": n})).collect();
    let pod = json!({"metadata": {"name": "p", "namespace": "shop", "uid": "u", "resourceVersion": "7"}, "status": {"all": status}});
    let (object, whole) = kept("pods", pod);
    assert!(!whole && object["status"].is_null() && object["metadata"]["name"] == "p", "{object}");
    assert!(object["metadata"]["annotations"][CUT].as_str().unwrap().contains("bytes"));
    let refused = |plural: &str, object: Value| sanitiser(1).read(Kind::named(plural).unwrap(), object).unwrap_err();
    assert_eq!(refused("pods", json!({"metadata": {"namespace": "shop"}})), NoObject::NoName);
    assert_eq!(refused("pods", json!("text")), NoObject::NoName);
    assert_eq!(refused("pods", json!({"metadata": {"name": "p"}})), NoObject::Scope);
    assert_eq!(refused("nodes", json!({"metadata": {"name": "../n"}})), NoObject::BadName);
}
