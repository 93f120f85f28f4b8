//! A pod: what it asks for, how its containers are, how they ended last.

use std::collections::BTreeMap;

use casefile_proto::time::WallTime;
use serde_json::Value;

use super::value::{at, conditions, count, list, meta, text, texts, time};
use super::{Condition, Meta, quantity};

/// What is requested, or the limit; `None`: nothing is said.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Amounts {
    /// CPUs.
    pub cpus: Option<f64>,
    /// Bytes of memory.
    pub memory: Option<f64>,
    /// GPUs, of whatever maker.
    pub gpus: Option<f64>,
}

/// How a run of a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// `OOMKilled`, `Error`, `Completed`, …
    pub reason: Option<String>,
    /// The exit code.
    pub exit_code: Option<i64>,
    /// When it began.
    pub started: Option<WallTime>,
    /// When it ended.
    pub finished: Option<WallTime>,
    /// The container's id, without the runtime's name.
    pub id: Option<String>,
}

/// How a container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It runs, since then.
    Running(Option<WallTime>),
    /// It waits: why in a word, and in a sentence.
    Waiting(Option<String>, Option<String>),
    /// It has ended.
    Terminated(Ended),
    /// It is not said.
    Unknown,
}

/// What is said of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whether it is ready.
    pub ready: bool,
    /// How often it was started again.
    pub restarts: u64,
    /// How it is.
    pub state: State,
    /// How its run before ended.
    pub last: Option<Ended>,
    /// Its id, without the runtime's name.
    pub id: Option<String>,
}

/// A container of a pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: Option<String>,
    /// Whether it only runs before the others.
    pub init: bool,
    /// What it requests.
    pub requests: Amounts,
    /// Its limits.
    pub limits: Amounts,
    /// How it is; `None`: nothing is said of it.
    pub status: Option<Status>,
}

/// A pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Pod {
    /// What every object has.
    pub meta: Meta,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The node that it is on; `None`: on none.
    pub node: Option<String>,
    /// `Pending`, `Running`, `Succeeded`, `Failed`, `Unknown`.
    pub phase: Option<String>,
    /// Why, in a word: `Evicted`.
    pub reason: Option<String>,
    /// Why, in a sentence.
    pub message: Option<String>,
    /// Its conditions.
    pub conditions: Vec<Condition>,
    /// Its containers, those that run before the others first.
    pub containers: Vec<Container>,
}

impl Pod {
    /// Out of an object; `None`: it has no name.
    pub(crate) fn of(object: &Value, entry: usize) -> Option<Self> {
        let mut containers = containers(object, "initContainers", "initContainerStatuses", true);
        containers.extend(self::containers(object, "containers", "containerStatuses", false));
        Some(Self {
            meta: meta(object, entry)?,
            labels: texts(object, &["metadata", "labels"]).collect(),
            node: text(object, &["spec", "nodeName"]),
            phase: text(object, &["status", "phase"]),
            reason: text(object, &["status", "reason"]),
            message: text(object, &["status", "message"]),
            conditions: conditions(object),
            containers,
        })
    }

    /// A condition.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }

    /// Whether it has done what it was for.
    pub fn is_done(&self) -> bool {
        self.phase.as_deref() == Some("Succeeded")
    }

    /// Whether it runs and is ready.
    pub fn is_ready(&self) -> bool {
        self.phase.as_deref() == Some("Running") && self.condition("Ready").is_some_and(|c| c.status == "True")
    }

    /// How often its containers were started again.
    pub fn restarts(&self) -> Option<u64> {
        let known = self.containers.iter().filter_map(|container| container.status.as_ref());
        known.map(|status| status.restarts).reduce(u64::saturating_add)
    }

    /// Its ended runs that are known: container, how it ended, and whether the container stands still since.
    pub fn ended(&self) -> impl Iterator<Item = (&Container, &Ended)> {
        self.containers.iter().flat_map(|container| {
            let status = container.status.as_ref();
            let now = status.and_then(|status| match &status.state {
                State::Terminated(ended) => Some(ended),
                _ => None,
            });
            let last = status.and_then(|status| status.last.as_ref());
            last.into_iter().chain(now).map(move |ended| (container, ended))
        })
    }

    /// The container with this id, of this run or of the one before.
    pub fn container_of_id(&self, id: &str) -> Option<&Container> {
        let of_this = |container: &&Container| {
            let running = container.status.as_ref().and_then(|status| status.id.as_deref());
            running == Some(id)
        };
        let before = || self.ended().find(|(_, ended)| ended.id.as_deref() == Some(id)).map(|(container, _)| container);
        self.containers.iter().find(of_this).or_else(before)
    }
}

fn containers(object: &Value, specs: &str, statuses: &str, init: bool) -> Vec<Container> {
    let container = |spec: &Value| {
        let name = text(spec, &["name"])?;
        let status =
            list(object, &["status", statuses]).find(|status| text(status, &["name"]).as_deref() == Some(&*name));
        Some(Container {
            image: text(spec, &["image"]),
            init,
            requests: amounts(spec, "requests"),
            limits: amounts(spec, "limits"),
            status: status.map(self::status),
            name,
        })
    };
    list(object, &["spec", specs]).filter_map(container).collect()
}

fn amounts(spec: &Value, which: &str) -> Amounts {
    let of = |name: &str| amount(at(spec, &["resources", which, name])?);
    let all = at(spec, &["resources", which]).and_then(Value::as_object).into_iter().flatten();
    let gpus = all.filter(|(name, _)| name.ends_with("/gpu")).filter_map(|(_, value)| amount(value));
    Amounts { cpus: of("cpu"), memory: of("memory"), gpus: gpus.reduce(|a, b| a + b) }
}

fn amount(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| quantity(value.as_str()?))
}

fn status(value: &Value) -> Status {
    let state = match at(value, &["state"]) {
        Some(state) if state.get("running").is_some() => State::Running(time(state, &["running", "startedAt"])),
        Some(state) if state.get("waiting").is_some() => {
            State::Waiting(text(state, &["waiting", "reason"]), text(state, &["waiting", "message"]))
        }
        Some(state) => state.get("terminated").map_or(State::Unknown, |ended| State::Terminated(self::ended(ended))),
        None => State::Unknown,
    };
    Status {
        ready: at(value, &["ready"]).and_then(Value::as_bool).unwrap_or(false),
        restarts: count(value, &["restartCount"]).unwrap_or(0),
        state,
        last: at(value, &["lastState", "terminated"]).map(ended),
        id: id(value),
    }
}

fn ended(value: &Value) -> Ended {
    Ended {
        reason: text(value, &["reason"]),
        exit_code: at(value, &["exitCode"]).and_then(Value::as_i64),
        started: time(value, &["startedAt"]),
        finished: time(value, &["finishedAt"]),
        id: id(value),
    }
}

/// `containerd://<id>` without the runtime's name.
fn id(value: &Value) -> Option<String> {
    let id = text(value, &["containerID"])?;
    Some(id.split_once("://").map_or(id.as_str(), |(_, id)| id).to_owned())
}
