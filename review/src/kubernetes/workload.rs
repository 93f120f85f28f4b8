//! What runs pods: deployments, replica sets, stateful sets, daemon sets; and jobs.

use casefile_proto::time::WallTime;
use serde_json::Value;

use super::value::{conditions, count, list, meta, text, time};
use super::{Condition, Kind, Meta};

/// A deployment, replica set, stateful set or daemon set.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// Which of them.
    pub kind: Kind,
    /// What every object has.
    pub meta: Meta,
    /// How many pods there should be.
    pub desired: Option<u64>,
    /// How many are ready; what is left out in an object is none.
    pub ready: u64,
    /// How many are of the newest template.
    pub updated: Option<u64>,
    /// Its containers and their images.
    pub images: Vec<(String, String)>,
    /// Its conditions.
    pub conditions: Vec<Condition>,
}

impl Workload {
    /// Out of an object; `None`: it has no name.
    pub(super) fn of(kind: Kind, object: &Value, entry: usize) -> Option<Self> {
        let image = |container: &Value| Some((text(container, &["name"])?, text(container, &["image"])?));
        let of_daemons = kind == Kind::DaemonSet;
        let (desired, ready, updated): (&[&str], &str, &str) = if of_daemons {
            (&["status", "desiredNumberScheduled"], "numberReady", "updatedNumberScheduled")
        } else {
            (&["spec", "replicas"], "readyReplicas", "updatedReplicas")
        };
        Some(Self {
            kind,
            meta: meta(object, entry)?,
            desired: count(object, desired),
            ready: count(object, &["status", ready]).unwrap_or(0),
            updated: count(object, &["status", updated]),
            images: list(object, &["spec", "template", "spec", "containers"]).filter_map(image).collect(),
            conditions: conditions(object),
        })
    }
}

/// A job.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// What every object has.
    pub meta: Meta,
    /// Pods of it that failed.
    pub failed: u64,
    /// Why it failed: in a word, in a sentence, and when.
    pub gave_up: Option<(Option<String>, Option<String>, Option<WallTime>)>,
    /// When it began.
    pub started: Option<WallTime>,
}

impl Job {
    /// Out of an object; `None`: it has no name.
    pub(super) fn of(object: &Value, entry: usize) -> Option<Self> {
        let failed = conditions(object).into_iter().find(|c| c.kind == "Failed" && c.status == "True");
        Some(Self {
            meta: meta(object, entry)?,
            failed: count(object, &["status", "failed"]).unwrap_or(0),
            gave_up: failed.map(|c| (c.reason, c.message, c.since)),
            started: time(object, &["status", "startTime"]),
        })
    }
}
