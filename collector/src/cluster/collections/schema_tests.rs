//! The definition of the kind against the types that read and write it: the same fields, both ways.

use std::collections::{BTreeMap, BTreeSet};

use casefile_proto::time::WallTime;
use casefile_review::verdict::Counts;
use serde_json::{Value, json};

use super::resource::{API, Collection, PLURAL, Spec, WindowSpec};
use super::status::{ArchiveStatus, CONDITIONS, Condition, FIELDS, NodesStatus, Status, Truth, WindowStatus};

fn definition() -> Value {
    serde_saphyr::from_str(include_str!("../../../../deploy/kustomize/base/crd-collections.yaml")).unwrap()
}

fn version() -> Value {
    definition()["spec"]["versions"][0].clone()
}

fn schema(part: &str) -> Value {
    version()["schema"]["openAPIV3Schema"]["properties"][part].clone()
}

/// Every field below a schema: `window.since`, `conditions[].type`.
fn described(schema: &Value, at: &str, all: &mut BTreeMap<String, Value>) {
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{at}{name}");
        described(below, &format!("{path}."), all);
        described(&below["items"], &format!("{path}[]."), all);
        all.insert(path, below.clone());
    }
}

/// Every field of a value, in the same words.
fn written(value: &Value, at: &str, all: &mut BTreeSet<String>) {
    for (name, below) in value.as_object().into_iter().flatten() {
        let path = format!("{at}{name}");
        written(below, &format!("{path}."), all);
        for item in below.as_array().into_iter().flatten() {
            written(item, &format!("{path}[]."), all);
        }
        all.insert(path);
    }
}

fn fields(part: &str) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    described(&schema(part), "", &mut all);
    all
}

fn text() -> String {
    "x".to_owned()
}

/// Without `..`: a new field has to be said here.
fn spec() -> Spec {
    Spec {
        title: text(),
        reason: text(),
        severity: Some("sev1".to_owned()),
        runbook: Some(text()),
        window: WindowSpec {
            since: Some("1m".to_owned()),
            from: Some(text()),
            until: Some(text()),
            unknown: BTreeMap::new(),
        },
        nodes: vec![text()],
        node_selector: BTreeMap::new(),
        namespaces: vec![text()],
        selector: BTreeMap::new(),
        services: vec![text()],
        workloads: vec![text()],
        pods: vec![text()],
        units: vec![text()],
        sources: vec![text()],
        deadline: Some("1m".to_owned()),
        unknown: BTreeMap::new(),
    }
}

fn status() -> Status {
    let condition =
        |kind| Condition { kind, status: Truth::Unknown, reason: "Waiting", message: text(), observed_generation: 1 };
    Status {
        observed_generation: 1,
        conditions: CONDITIONS.map(condition).into(),
        incident: Some(text()),
        window: Some(WindowStatus { from: text(), until: text(), summary: text() }),
        nodes: Some(NodesStatus { expected: 1, answered: 1, summary: text() }),
        archive: Some(ArchiveStatus { file_name: text(), bytes: 1, sha256: text(), revision: 1, sealed_at: text() }),
        findings: Some(Counts { fatal: 1, error: 1, warning: 1, info: 1 }),
    }
}

#[test]
fn the_definition_and_the_types_have_the_same_fields_both_ways() {
    let mut ours = BTreeSet::new();
    written(&serde_json::to_value(spec()).unwrap(), "", &mut ours);
    assert_eq!(fields("spec").into_keys().collect::<BTreeSet<_>>(), ours);
    let mut ours = BTreeSet::new();
    written(&status().patch(&Value::Null, WallTime::from_secs(0)).unwrap(), "", &mut ours);
    assert_eq!(fields("status").into_keys().collect::<BTreeSet<_>>(), ours);
    let top: BTreeSet<_> = schema("status")["properties"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(top, FIELDS.map(str::to_owned).into());
}

#[test]
fn the_definition_is_of_the_kind_that_is_followed_and_every_field_of_it_is_described_and_bounded() {
    let definition = definition();
    let (group, version_of) = API.split_once('/').unwrap();
    assert_eq!((&definition["spec"]["group"], &version()["name"]), (&json!(group), &json!(version_of)));
    assert_eq!(definition["metadata"]["name"], format!("{PLURAL}.{group}"));
    assert_eq!(
        (&definition["spec"]["names"]["plural"], &definition["spec"]["scope"]),
        (&json!(PLURAL), &json!("Namespaced"))
    );
    assert_eq!(version()["subresources"], json!({"status": {}}));
    for part in ["spec", "status"] {
        for (path, field) in fields(part) {
            assert!(field["type"].is_string() && field["description"].is_string(), "{part}.{path} says too little");
            // The cost of a rule is reckoned from the longest that a value may be.
            match (part, field["type"].as_str()) {
                ("spec", Some("string")) => {
                    assert!(field["maxLength"].is_u64() || field["enum"].is_array(), "spec.{path} has no bound");
                }
                (_, Some("array")) => assert!(field["maxItems"].is_u64(), "{part}.{path} has no bound"),
                _ => {}
            }
        }
    }
}

#[test]
fn the_columns_are_few_lead_to_fields_and_come_in_their_order() {
    let version = version();
    let columns = version["additionalPrinterColumns"].as_array().unwrap();
    let shown = columns.iter().filter(|c| c["priority"].is_null()).map(|c| c["name"].as_str().unwrap().to_uppercase());
    let expected = ["SEVERITY", "WINDOW", "NODES", "SUCCEEDED", "REASON", "INCIDENT", "AGE"];
    assert_eq!(shown.collect::<Vec<_>>(), expected);
    for column in columns {
        let path = column["jsonPath"].as_str().unwrap();
        let (part, rest) = path.trim_start_matches('.').split_once('.').unwrap();
        let rest = rest.split_once("[?(").map_or(rest, |(list, _)| list);
        let known = part == "metadata" || fields(part).contains_key(rest);
        assert!(known, "{path} leads nowhere");
    }
}

#[test]
fn what_the_definition_takes_is_taken_by_the_collector() {
    let metadata = json!({"name": "x", "namespace": "y", "uid": "u", "resourceVersion": "1", "creationTimestamp": "2026-11-23T03:14:00Z"});
    let read = |spec: Value| Collection::read(json!({"metadata": metadata, "spec": spec})).unwrap().ask;
    // The longest list and texts that the schema lets through.
    let fields = fields("spec");
    let long = |path: &str| "a".repeat(usize::try_from(fields[path]["maxLength"].as_u64().unwrap()).unwrap());
    let many = |path: &str| {
        let (most, item) = (fields[path]["maxItems"].as_u64().unwrap(), &fields[path]["items"]);
        let length = usize::try_from(item["maxLength"].as_u64().unwrap()).unwrap();
        (0..most).map(|n| format!("{n:0>length$}")).collect::<Vec<_>>()
    };
    for severity in fields["severity"]["enum"].as_array().unwrap() {
        let spec = json!({"window": {"since": "1h30m"}, "deadline": "90s", "severity": severity, "title": long("title"), "reason": long("reason"),
            "runbook": long("runbook"), "nodes": many("nodes"), "namespaces": many("namespaces"), "pods": many("pods"),
            "units": many("units"), "sources": many("sources")});
        assert!(read(spec).is_ok(), "{severity}");
    }
    assert_eq!(fields["severity"]["default"], "sev3");
    assert_eq!(read(json!({"window": {"since": "1m"}})).unwrap().ask.severity.to_string(), "SEV3");
}
