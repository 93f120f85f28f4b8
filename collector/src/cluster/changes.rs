//! One change of one object as a line of `changes.jsonl`: which of its fields are others than before, and for single values what
//! they were and are. Pure.

use std::collections::{BTreeMap, BTreeSet};

use casefile_proto::time::WallTime;
use serde::Serialize;
use serde_json::Value;

use super::record::entry::Change;
use super::record::snapshot::Changed;

/// The most fields that one line names, and the most values of either side.
const MAX_FIELDS: usize = 64;

/// The longest text that stands in a line; a longer one is cut.
const MAX_TEXT: usize = 512;

/// What is not worth a word: it changes whenever something else does.
const UNSAID: &[&str] = &["metadata.resourceVersion", "metadata.generation"];

/// What an event says, which nothing was before it.
const OF_EVENTS: &[&str] = &[
    "count",
    "firstTimestamp",
    "involvedObject.fieldPath",
    "involvedObject.kind",
    "involvedObject.name",
    "involvedObject.namespace",
    "lastTimestamp",
    "message",
    "reason",
    "series.count",
    "type",
];

/// One line.
#[derive(Debug, Serialize)]
struct Line<'l> {
    at: WallTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<WallTime>,
    kind: &'static str,
    namespace: Option<&'l str>,
    name: &'l str,
    uid: &'l str,
    change: Change,
    resource_version: &'l str,
    fields: BTreeSet<String>,
    was: BTreeMap<String, Value>,
    is: BTreeMap<String, Value>,
}

/// The line of a change, with its end; `None`: nothing changed that anybody would want to know.
pub fn line(changed: &Changed<'_>) -> serde_json::Result<Option<Vec<u8>>> {
    let head = changed.head;
    let parsed = |bytes: &[u8]| serde_json::from_slice(bytes).unwrap_or(Value::Null);
    let mut diff = Diff::default();
    match (head.change, changed.before) {
        (Change::Modified, Some(before)) => {
            diff.compare("", Some(&parsed(before)), Some(&parsed(changed.body)));
            if diff.fields.is_empty() {
                return Ok(None);
            }
        }
        (Change::Added, _) if changed.kind.plural == "events" => {
            let object = parsed(changed.body);
            for path in OF_EVENTS {
                let value = path.split('.').fold(&object, |value, field| &value[field]);
                if is_single(value) && !value.is_null() {
                    diff.is.insert((*path).to_owned(), short(value));
                }
            }
        }
        _ => {}
    }
    let line = Line {
        at: head.at,
        since: head.since,
        kind: changed.kind.kind,
        namespace: Some(head.namespace.as_ref()).filter(|name| !name.is_empty()),
        name: &head.name,
        uid: &head.uid,
        change: head.change,
        resource_version: &head.version,
        fields: diff.fields,
        was: diff.was,
        is: diff.is,
    };
    let mut bytes = serde_json::to_vec(&line)?;
    bytes.push(b'\n');
    Ok(Some(bytes))
}

#[derive(Debug, Default)]
struct Diff {
    fields: BTreeSet<String>,
    was: BTreeMap<String, Value>,
    is: BTreeMap<String, Value>,
}

impl Diff {
    fn compare(&mut self, path: &str, was: Option<&Value>, is: Option<&Value>) {
        if was == is || UNSAID.contains(&path) {
            return;
        }
        match (was, is) {
            (Some(Value::Object(was)), Some(Value::Object(is))) => {
                let names: BTreeSet<_> = was.keys().chain(is.keys()).collect();
                for name in names {
                    self.compare(&below(path, name), was.get(name), is.get(name));
                }
            }
            (Some(Value::Array(was)), Some(Value::Array(is))) => {
                self.field(path);
                self.elements(path, was, is);
            }
            _ => {
                self.field(path);
                if let Some(was) = was.filter(|value| is_single(value)).filter(|_| self.was.len() < MAX_FIELDS) {
                    self.was.insert(path.to_owned(), short(was));
                }
                if let Some(is) = is.filter(|value| is_single(value)).filter(|_| self.is.len() < MAX_FIELDS) {
                    self.is.insert(path.to_owned(), short(is));
                }
            }
        }
    }

    /// Elements that have a name or a type are compared with those of the same: `status.conditions[Ready].status`. The
    /// field is the list.
    fn elements(&mut self, path: &str, was: &[Value], is: &[Value]) {
        let named = |all: &[Value]| -> Option<BTreeMap<String, Value>> {
            let name = |one: &Value| one["name"].as_str().or(one["type"].as_str()).map(ToOwned::to_owned);
            all.iter().map(|one| Some((name(one)?, one.clone()))).collect()
        };
        let (Some(was), Some(is)) = (named(was), named(is)) else { return };
        let names: BTreeSet<_> = was.keys().chain(is.keys()).collect();
        for name in names {
            let mut inner = Self::default();
            inner.compare(&format!("{path}[{name}]"), was.get(name), is.get(name));
            let room = |all: &BTreeMap<String, Value>| MAX_FIELDS.saturating_sub(all.len());
            let (before, after) = (room(&self.was), room(&self.is));
            self.was.extend(inner.was.into_iter().take(before));
            self.is.extend(inner.is.into_iter().take(after));
        }
    }

    fn field(&mut self, path: &str) {
        if self.fields.len() < MAX_FIELDS {
            self.fields.insert(path.to_owned());
        }
    }
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn is_single(value: &Value) -> bool {
    !value.is_object() && !value.is_array()
}

fn short(value: &Value) -> Value {
    match value {
        Value::String(text) if text.len() > MAX_TEXT => {
            format!("{}…", &text[..text.floor_char_boundary(MAX_TEXT)]).into()
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::kinds::Kind;
    use crate::cluster::record::entry::VersionHead;

    fn told(plural: &str, change: Change, before: Option<Value>, body: Value) -> Option<Value> {
        let head = VersionHead {
            kind: plural.into(),
            at: WallTime::from_nanos(1_795_000_000_118_000_000),
            since: None,
            change,
            namespace: "shop".into(),
            name: "api-1".into(),
            uid: "u".into(),
            version: "123".into(),
            digest: 0,
            before: None,
            again: false,
        };
        let (body, before) = (body.to_string(), before.map(|before| before.to_string()));
        let kind = Kind::named(plural).unwrap();
        let changed =
            Changed { kind, head: &head, body: body.as_bytes(), before: before.as_deref().map(str::as_bytes) };
        line(&changed).unwrap().map(|line| serde_json::from_slice(&line).unwrap())
    }

    #[test]
    fn a_change_names_its_fields_and_single_values_before_and_after() {
        let pod = |phase: &str, ready: &str, restarts: u32| {
            json!({"metadata": {"resourceVersion": restarts.to_string()}, "status": {"phase": phase,
                "conditions": [{"type": "Ready", "status": ready}, {"type": "Other", "status": "True"}],
                "containerStatuses": [{"name": "c", "restartCount": restarts}]}})
        };
        let line = told("pods", Change::Modified, Some(pod("Running", "True", 0)), pod("Failed", "False", 1)).unwrap();
        assert_eq!(
            line,
            json!({"at": "2026-11-18T11:06:40.118Z", "kind": "Pod", "namespace": "shop", "name": "api-1", "uid": "u", "change": "modified",
                "resource_version": "123", "fields": ["status.conditions", "status.containerStatuses", "status.phase"],
                "was": {"status.phase": "Running", "status.conditions[Ready].status": "True", "status.containerStatuses[c].restartCount": 0},
                "is": {"status.phase": "Failed", "status.conditions[Ready].status": "False", "status.containerStatuses[c].restartCount": 1}})
        );
        assert_eq!(told("pods", Change::Modified, Some(pod("Running", "True", 0)), pod("Running", "True", 0)), None);
        let gone = told("pods", Change::Deleted, None, pod("Failed", "False", 1)).unwrap();
        assert_eq!((&gone["change"], &gone["fields"]), (&json!("deleted"), &json!([])));
    }

    #[test]
    fn a_new_event_says_what_it_says_and_a_huge_change_is_cut() {
        let event = json!({"reason": "OOMKilling", "message": "x".repeat(9_999), "type": "Warning", "involvedObject": {"kind": "Pod", "name": "api-1"}});
        let line = told("events", Change::Added, None, event).unwrap();
        assert_eq!(
            (&line["is"]["reason"], &line["is"]["involvedObject.name"]),
            (&json!("OOMKilling"), &json!("api-1"))
        );
        assert!(line["is"]["message"].as_str().unwrap().len() <= MAX_TEXT + 3);
        let many = |value: u32| Value::Object((0..1_000).map(|n| (format!("f{n}"), json!(value))).collect());
        let line = told("pods", Change::Modified, Some(many(1)), many(2)).unwrap();
        let count = |field: &str| {
            line[field].as_object().map_or_else(|| line[field].as_array().unwrap().len(), serde_json::Map::len)
        };
        assert_eq!((count("fields"), count("was"), count("is")), (MAX_FIELDS, MAX_FIELDS, MAX_FIELDS));
    }
}
