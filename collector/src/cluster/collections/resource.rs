//! A resource of the kind `Collection`: what of an object is kept, and the request that its specification makes.
//!
//! Nothing that comes from the API server is believed: names become parts of paths, so they are checked; what the schema
//! promises is checked again, because it may be another one that is installed.

use std::collections::BTreeMap;
use std::time::Duration;

use casefile_proto::ids::NodeName;
use casefile_proto::incident::{IncidentAsk, OpenAsk, Resource, Severity, Trigger};
use casefile_proto::scope::{Chosen, ClusterSelection, Scope, Selection};
use casefile_proto::time::{WallTime, Window};
use casefile_proto::wire::v1;
use casefile_review::when;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cluster::config::is_name;

/// Its group and version.
pub const API: &str = "casefile.dev/v1alpha1";

/// Its plural.
pub const PLURAL: &str = "collections";

/// Whoever says "the last half hour" means it to the second only when he says so: what a colleague asked for a moment ago will
/// do.
const SLACK: Duration = Duration::from_secs(30);

/// The longest window: no ring goes back further.
const LONGEST: Duration = Duration::from_hours(31 * 24);

/// Problems of one specification that are told.
const MAX_PROBLEMS: usize = 12;

/// A status larger than this was not written by us, and is taken for none.
const MAX_STATUS: usize = 64 << 10;

/// What is kept of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// Which one, with the generation that its specification has now.
    pub resource: Resource,
    /// Its version, for writing.
    pub version: String,
    /// What it asks for; or everything that is wrong with it.
    pub ask: Result<Box<OpenAsk>, Vec<String>>,
    /// Its status as it is; null: none.
    pub status: Value,
}

/// The specification, as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// One line for people.
    pub title: String,
    /// Why this evidence is wanted.
    pub reason: String,
    /// `sev1` to `sev4`.
    pub severity: Option<String>,
    /// The runbook that applies.
    pub runbook: Option<String>,
    /// Which time.
    pub window: WindowSpec,
    /// Names of nodes.
    pub nodes: Vec<String>,
    /// Labels of nodes.
    pub node_selector: BTreeMap<String, String>,
    /// Namespaces of pods.
    pub namespaces: Vec<String>,
    /// Labels of pods.
    pub selector: BTreeMap<String, String>,
    /// Services that pods are behind.
    pub services: Vec<String>,
    /// What pods belong to, `KIND/NAME`.
    pub workloads: Vec<String>,
    /// Names of pods.
    pub pods: Vec<String>,
    /// Units of the journal.
    pub units: Vec<String>,
    /// Sources.
    pub sources: Vec<String>,
    /// How long to wait for nodes.
    pub deadline: Option<String>,
    /// What this version does not know: it may ask for less than everything, so it is not passed over.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, Value>,
}

/// Which time: `since`, or `from` and `until`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WindowSpec {
    /// So long before the resource was created, until then.
    pub since: Option<String>,
    /// The begin.
    pub from: Option<String>,
    /// The end.
    pub until: Option<String>,
    /// What this version does not know.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, Value>,
}

impl Collection {
    /// Out of an object. `None`: it is none that an API server would have taken.
    pub fn read(mut object: Value) -> Option<Self> {
        let metadata = &object["metadata"];
        let name = metadata["name"].as_str().filter(|name| is_name(name))?.to_owned();
        let namespace = metadata["namespace"].as_str().filter(|name| is_name(name))?.to_owned();
        let uid = metadata["uid"].as_str().filter(|uid| is_name(uid))?.to_owned();
        let version = metadata["resourceVersion"].as_str().filter(|v| v.len() <= Resource::MAX_WORD)?.to_owned();
        // Every object of a custom kind has one.
        let generation = metadata["generation"].as_u64().unwrap_or(1);
        let created = metadata["creationTimestamp"].as_str().and_then(|text| text.parse().ok());
        let resource = Resource { namespace, name, uid, generation };
        let ask = ask(object["spec"].take(), created, &resource);
        let status = object["status"].take();
        let status = if status.to_string().len() > MAX_STATUS { Value::Null } else { status };
        Some(Self { resource, version, ask: ask.map(Box::new), status })
    }

    /// Whether it is of an earlier version than the other. Where versions are no numbers, nobody can tell.
    pub fn is_older_than(&self, other: &Self) -> bool {
        let number = |of: &Self| of.version.parse::<u64>().ok();
        matches!((number(self), number(other)), (Some(this), Some(other)) if this < other)
    }

    /// A condition of its status, by type.
    pub fn condition(&self, kind: &str) -> Option<&Value> {
        self.status["conditions"].as_array()?.iter().find(|c| c["type"] == kind)
    }
}

/// The request that a specification makes; or everything that is wrong with it.
fn ask(spec: Value, created: Option<WallTime>, resource: &Resource) -> Result<OpenAsk, Vec<String>> {
    let spec: Spec = serde_json::from_value(spec).map_err(|e| vec![format!("spec: {e}")])?;
    let mut problems = Vec::new();
    let unknown = spec.unknown.keys().map(|key| format!("spec.{key}"));
    let unknown = unknown.chain(spec.window.unknown.keys().map(|key| format!("spec.window.{key}")));
    problems.extend(unknown.map(|path| format!("{}: this collector does not know it", shortened(&path))));
    let window = window(&spec.window, created, &mut problems);
    let severity = spec.severity.as_deref().map_or(Ok(Severity::Sev3), str::parse);
    let severity = noted("spec.severity", severity, &mut problems);
    let deadline = spec.deadline.as_deref().map(when::length).transpose();
    let deadline = noted("spec.deadline", deadline, &mut problems);
    let nodes = spec.nodes.iter().map(|name| name.parse::<NodeName>());
    let nodes: Vec<_> = nodes.filter_map(|node| noted("spec.nodes", node, &mut problems)).collect();
    let selector = labels("spec.selector", &spec.selector, &mut problems);
    let node_selector = labels("spec.nodeSelector", &spec.node_selector, &mut problems);
    let (Some(window), Some(severity), Some(deadline), true) = (window, severity, deadline, problems.is_empty()) else {
        let more = problems.len().saturating_sub(MAX_PROBLEMS);
        problems.truncate(MAX_PROBLEMS);
        problems.extend((more > 0).then(|| format!("and {more} more")));
        return Err(problems);
    };
    let asked = ClusterSelection {
        namespaces: spec.namespaces,
        selector,
        services: spec.services,
        workloads: spec.workloads,
        pods: spec.pods,
        node_selector,
    };
    let chosen = (!asked.is_empty()).then(|| Box::new(Chosen { asked, ..Chosen::default() }));
    let select = Selection { units: spec.units, ..Selection::default() };
    let ask = IncidentAsk {
        title: spec.title,
        reason: spec.reason,
        requested_by: format!("collection {resource}"),
        severity,
        trigger: Trigger::Resource,
        resource: None,
        runbook: spec.runbook,
        window,
        nodes,
        scope: Scope { sources: spec.sources, select, chosen },
    };
    let slack = if spec.window.since.is_some() { SLACK } else { Duration::ZERO };
    // Through the conversion, which knows every limit; who opens it does not travel.
    let asked = OpenAsk::try_from(v1::OpenIncidentRequest::from(OpenAsk { ask, deadline, slack }));
    let mut asked = asked.map_err(|e| vec![format!("spec: {e}")])?;
    (asked.ask.trigger, asked.ask.resource) = (Trigger::Resource, Some(resource.clone()));
    Ok(asked)
}

/// Labels that must all be there, as kubectl writes them. Their letters are checked, or one could say two things.
fn labels(field: &str, labels: &BTreeMap<String, String>, problems: &mut Vec<String>) -> String {
    let byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let fits = |key: &str, value: &str| {
        !key.is_empty() && key.bytes().all(|b| byte(b) || b == b'/') && value.bytes().all(byte)
    };
    if !labels.iter().all(|(key, value)| fits(key, value)) {
        problems.push(format!("{field}: a label has letters, digits and - _ ."));
    }
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

fn window(spec: &WindowSpec, created: Option<WallTime>, problems: &mut Vec<String>) -> Option<Window> {
    let length = spec.since.as_deref().map(when::length).transpose();
    let since = noted("spec.window.since", length, problems)?;
    let mut time = |name: &str, text: &Option<String>| {
        let at = text.as_deref().map(str::parse::<WallTime>).transpose();
        noted(name, at, problems)
    };
    let (from, until) = (time("spec.window.from", &spec.from)?, time("spec.window.until", &spec.until)?);
    let window = match (since, from, until, created) {
        (Some(since), None, None, Some(created)) => Window::new(created.before(since), created),
        (Some(_), None, None, None) => {
            problems.push("spec.window.since: the resource does not say when it was created".to_owned());
            return None;
        }
        (None, Some(from), Some(until), _) => Window::new(from, until),
        _ => {
            problems.push("spec.window: say either since, or from and until".to_owned());
            return None;
        }
    };
    let window = noted("spec.window", window, problems)?;
    if window.duration() > LONGEST {
        problems.push("spec.window: is longer than 31 days, and no node keeps its recording for so long".to_owned());
    }
    Some(window)
}

/// The value, or a problem more.
fn noted<T, E: ToString>(name: &str, value: Result<T, E>, problems: &mut Vec<String>) -> Option<T> {
    value.map_err(|e| problems.push(format!("{name}: {}", e.to_string()))).ok()
}

/// What somebody else named, short and without control characters.
fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(spec: Value) -> Collection {
        let metadata = json!({"name": "slow", "namespace": "shop", "uid": "u-1", "resourceVersion": "7", "generation": 2,
            "creationTimestamp": "2026-11-23T03:14:00Z"});
        Collection::read(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    #[test]
    fn a_specification_is_a_request_of_the_resource() {
        let collection = read(json!({"title": "t", "reason": "r", "severity": "sev2", "runbook": "infra",
            "window": {"since": "30m"}, "nodes": ["n1"], "namespaces": ["shop"], "pods": ["a"], "units": ["kubelet"],
            "sources": ["pods"], "deadline": "90s", "selector": {"app": "api", "tier": "web"}, "services": ["s"],
            "workloads": ["deployment/d"], "nodeSelector": {"gpu": "true"}}));
        let open = collection.ask.unwrap();
        assert_eq!(open.ask.window.to_string(), "[2026-11-23T02:44:00Z, 2026-11-23T03:14:00Z)");
        assert_eq!((open.ask.severity, open.ask.trigger), (Severity::Sev2, Trigger::Resource));
        assert_eq!((open.deadline, open.slack), (Some(Duration::from_secs(90)), SLACK));
        assert_eq!(open.ask.requested_by, "collection shop/slow");
        assert_eq!(open.ask.resource, Some(collection.resource));
        assert_eq!(open.ask.scope.select, Selection { units: vec!["kubelet".to_owned()], ..Selection::default() });
        let asked = &open.ask.scope.chosen.as_ref().unwrap().asked;
        let text = "namespace shop; service s; workload deployment/d; pod a; labels app=api,tier=web; labels of nodes gpu=true";
        assert_eq!(asked.to_string(), text);
        let problems = read(json!({"window": {"since": "1m"}, "selector": {"a,b": "c"}})).ask.unwrap_err();
        assert!(problems.iter().any(|problem| problem.starts_with("spec.selector: a label")), "{problems:?}");
        let exact = read(json!({"window": {"from": "2026-11-23T02:00:00Z", "until": "2026-11-23T03:00:00+01:00"}}));
        assert_eq!(
            exact.ask.unwrap_err(),
            ["spec.window: the window is empty: it begins and ends at 2026-11-23T02:00:00Z"]
        );
    }

    #[test]
    fn every_problem_is_named_at_once_and_what_is_not_known_is_not_passed_over() {
        let problems = read(json!({"severity": "bad", "deadline": "soon", "nodes": ["a/b"], "serviceTypo": 1,
            "window": {"since": "30m", "until": "2026-11-23T02:00:00Z", "sinse": 1}}))
        .ask
        .unwrap_err();
        let named = [
            "spec.serviceTypo",
            "spec.window.sinse",
            "spec.window: say",
            "spec.severity",
            "spec.deadline",
            "spec.nodes",
        ];
        for name in named {
            assert!(problems.iter().any(|p| p.starts_with(name)), "{name}: {problems:#?}");
        }
        assert_eq!(problems.len(), named.len());
        let many = read(json!({"window": {"since": "1m"}, "nodes": vec!["a/b"; 40]})).ask.unwrap_err();
        assert_eq!((many.len(), many[MAX_PROBLEMS].as_str()), (MAX_PROBLEMS + 1, "and 28 more"));
        assert!(read(json!(7)).ask.is_err() && read(Value::Null).ask.is_err());
        assert!(read(json!({"window": {"since": "40d"}})).ask.is_err());
    }

    #[test]
    fn an_object_whose_names_would_lead_elsewhere_is_none() {
        let object = |name: &str, namespace: &str| json!({"metadata": {"name": name, "namespace": namespace, "uid": "u", "resourceVersion": "1"}});
        assert!(Collection::read(object("a", "b")).is_some());
        for (name, namespace) in [("../x", "b"), ("a", "b/c"), ("", "b"), ("a", ""), (".", "b"), ("a?x", "b")] {
            assert!(Collection::read(object(name, namespace)).is_none(), "{name} {namespace}");
        }
    }
}
