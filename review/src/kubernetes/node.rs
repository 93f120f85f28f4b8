//! A node as the cluster sees it: its conditions, and whether new pods may come.

use serde_json::Value;

use super::value::{at, conditions, meta, text};
use super::{Condition, Meta};

/// A node.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What every object has.
    pub meta: Meta,
    /// Its conditions.
    pub conditions: Vec<Condition>,
    /// Whether it is closed for new pods.
    pub cordoned: bool,
    /// The kubelet's version.
    pub kubelet: Option<String>,
}

impl Node {
    /// Out of an object; `None`: it has no name.
    pub(super) fn of(object: &Value, entry: usize) -> Option<Self> {
        Some(Self {
            meta: meta(object, entry)?,
            conditions: conditions(object),
            cordoned: at(object, &["spec", "unschedulable"]).and_then(Value::as_bool) == Some(true),
            kubelet: text(object, &["status", "nodeInfo", "kubeletVersion"]),
        })
    }

    /// The condition `Ready`; `None`: nothing is said of it.
    pub fn ready(&self) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == "Ready")
    }

    /// Conditions other than `Ready` that hold and should not.
    pub fn under_pressure(&self) -> impl Iterator<Item = &Condition> {
        const BAD: [&str; 4] = ["MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"];
        self.conditions.iter().filter(|c| BAD.contains(&c.kind.as_str()) && c.status == "True")
    }
}
