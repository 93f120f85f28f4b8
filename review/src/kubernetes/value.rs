//! Parts of an object, as far as they are there and are what they should be. Pure and total.

use casefile_proto::time::WallTime;
use serde_json::Value;

use super::{Condition, Meta, Owner};

/// The longest text that is kept of an object, in bytes: what is longer is cut, and the bytes stay in the case file.
const MAX_TEXT: usize = 2 << 10;

/// The most entries of a list in an object that are looked at: a pod has no more containers.
pub(super) const MAX_LIST: usize = 2_000;

/// What lies at a path.
pub(super) fn at<'v>(value: &'v Value, path: &[&str]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, key| value.get(key))
}

/// A text that says something.
pub(super) fn text(value: &Value, path: &[&str]) -> Option<String> {
    let text = at(value, path)?.as_str()?;
    let text = &text[..text.floor_char_boundary(MAX_TEXT)];
    (!text.is_empty()).then(|| text.to_owned())
}

/// A number that counts something.
pub(super) fn count(value: &Value, path: &[&str]) -> Option<u64> {
    at(value, path)?.as_u64()
}

/// A time as the API writes it.
pub(super) fn time(value: &Value, path: &[&str]) -> Option<WallTime> {
    at(value, path)?.as_str()?.parse().ok()
}

/// The elements of a list.
pub(super) fn list<'v>(value: &'v Value, path: &[&str]) -> impl Iterator<Item = &'v Value> + use<'v> {
    at(value, path).and_then(Value::as_array).into_iter().flatten().take(MAX_LIST)
}

/// The texts of a map.
pub(super) fn texts<'v>(value: &'v Value, path: &[&str]) -> impl Iterator<Item = (String, String)> + use<'v> {
    let map = at(value, path).and_then(Value::as_object).into_iter().flatten().take(MAX_LIST);
    map.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
}

/// What every object has; `None`: it has no name.
pub(super) fn meta(object: &Value, entry: usize) -> Option<Meta> {
    let owner = list(object, &["metadata", "ownerReferences"])
        .find(|owner| at(owner, &["controller"]).and_then(Value::as_bool) == Some(true))
        .or_else(|| list(object, &["metadata", "ownerReferences"]).next());
    let owner = owner.and_then(|owner| Some(Owner { kind: text(owner, &["kind"])?, name: text(owner, &["name"])? }));
    Some(Meta {
        namespace: text(object, &["metadata", "namespace"]),
        name: text(object, &["metadata", "name"])?,
        uid: text(object, &["metadata", "uid"]),
        created: time(object, &["metadata", "creationTimestamp"]),
        deleting: time(object, &["metadata", "deletionTimestamp"]),
        owner,
        entry,
    })
}

/// The conditions of an object.
pub(super) fn conditions(object: &Value) -> Vec<Condition> {
    let condition = |value: &Value| {
        Some(Condition {
            kind: text(value, &["type"])?,
            status: text(value, &["status"])?,
            reason: text(value, &["reason"]),
            message: text(value, &["message"]),
            since: time(value, &["lastTransitionTime"]),
        })
    };
    list(object, &["status", "conditions"]).filter_map(condition).collect()
}
