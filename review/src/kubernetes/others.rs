//! Services and their endpoints, claims of volumes, autoscalers, applications of Argo CD.

use std::collections::BTreeMap;

use casefile_proto::time::WallTime;
use serde_json::Value;

use super::value::{at, conditions, count, list, meta, text, texts, time};
use super::{Condition, Meta, Pod};

/// A service.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// What every object has.
    pub meta: Meta,
    /// Which pods it is for; empty: it has no selector, and somebody else says its endpoints.
    pub selector: BTreeMap<String, String>,
    /// `ClusterIP`, `LoadBalancer`, `ExternalName`, …
    pub kind: Option<String>,
}

impl Service {
    pub(super) fn of(object: &Value, entry: usize) -> Option<Self> {
        Some(Self {
            meta: meta(object, entry)?,
            selector: texts(object, &["spec", "selector"]).collect(),
            kind: text(object, &["spec", "type"]),
        })
    }

    /// Whether its selector chooses a pod.
    pub fn selects(&self, pod: &Pod) -> bool {
        let chosen = |(key, value): (&String, &String)| pod.labels.get(key) == Some(value);
        !self.selector.is_empty() && pod.meta.namespace == self.meta.namespace && self.selector.iter().all(chosen)
    }
}

/// Where a service is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether it takes requests.
    pub ready: bool,
    /// The pod, in the slice's namespace; `None`: it is none.
    pub pod: Option<String>,
}

/// A part of the endpoints of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Slice {
    /// What every object has.
    pub meta: Meta,
    /// The service, in the same namespace.
    pub service: Option<String>,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
}

impl Slice {
    pub(super) fn of(object: &Value, entry: usize) -> Option<Self> {
        let endpoint = |value: &Value| Endpoint {
            // Nothing said is to be taken as ready: so the API has it.
            ready: at(value, &["conditions", "ready"]).and_then(Value::as_bool).unwrap_or(true),
            pod: text(value, &["targetRef", "name"])
                .filter(|_| text(value, &["targetRef", "kind"]).as_deref() == Some("Pod")),
        };
        Some(Self {
            meta: meta(object, entry)?,
            service: text(object, &["metadata", "labels", "kubernetes.io/service-name"]),
            endpoints: list(object, &["endpoints"]).map(endpoint).collect(),
        })
    }
}

/// A claim of a volume.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// What every object has.
    pub meta: Meta,
    /// `Pending`, `Bound`, `Lost`.
    pub phase: Option<String>,
    /// The storage class.
    pub class: Option<String>,
}

impl Claim {
    pub(super) fn of(object: &Value, entry: usize) -> Option<Self> {
        Some(Self {
            meta: meta(object, entry)?,
            phase: text(object, &["status", "phase"]),
            class: text(object, &["spec", "storageClassName"]),
        })
    }
}

/// An autoscaler.
#[derive(Debug, Clone, PartialEq)]
pub struct Autoscaler {
    /// What every object has.
    pub meta: Meta,
    /// What it scales: `Deployment api`.
    pub target: String,
    /// The most pods that it may make.
    pub max: Option<u64>,
    /// How many there are.
    pub current: Option<u64>,
    /// How many it wants.
    pub desired: Option<u64>,
    /// Its conditions.
    pub conditions: Vec<Condition>,
}

impl Autoscaler {
    pub(super) fn of(object: &Value, entry: usize) -> Option<Self> {
        let part = |name: &str| text(object, &["spec", "scaleTargetRef", name]).unwrap_or_default();
        Some(Self {
            meta: meta(object, entry)?,
            target: format!("{} {}", part("kind"), part("name")),
            max: count(object, &["spec", "maxReplicas"]),
            current: count(object, &["status", "currentReplicas"]),
            desired: count(object, &["status", "desiredReplicas"]),
            conditions: conditions(object),
        })
    }
}

/// What Argo CD says of an application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplicationStatus {
    /// `Healthy`, `Degraded`, …
    pub health: Option<String>,
    /// `Synced`, `OutOfSync`, `Unknown`.
    pub sync: Option<String>,
}

/// An application of Argo CD, as its own status has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Application {
    /// What every object has.
    pub meta: Meta,
    /// Its health and whether it is as its repository says.
    pub status: ApplicationStatus,
    /// What it is at.
    pub revision: Option<String>,
    /// Since when its health is what it is.
    pub since: Option<WallTime>,
}

impl Application {
    pub(super) fn of(object: &Value, entry: usize) -> Option<Self> {
        Some(Self {
            meta: meta(object, entry)?,
            status: ApplicationStatus {
                health: text(object, &["status", "health", "status"]),
                sync: text(object, &["status", "sync", "status"]),
            },
            revision: text(object, &["status", "sync", "revision"]),
            since: time(object, &["status", "health", "lastTransitionTime"]),
        })
    }
}
