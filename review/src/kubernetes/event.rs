//! An event of the cluster: what somebody reports of an object, and how often. Both forms: core/v1 and events.k8s.io/v1.

use casefile_proto::time::WallTime;
use serde_json::Value;

use super::value::{at, count, meta, text, time};
use super::{Meta, called};

/// What an event is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct About {
    /// `Pod`, `Node`, …
    pub kind: String,
    /// Its namespace; `None`: it has none.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: Option<String>,
}

impl About {
    /// `namespace/name`, or the name.
    pub fn called(&self) -> String {
        called(self.namespace.as_deref(), &self.name)
    }
}

/// An event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What every object has.
    pub meta: Meta,
    /// Whether it is a warning.
    pub warning: bool,
    /// What, in a word.
    pub reason: String,
    /// What, in a sentence.
    pub message: String,
    /// About what.
    pub about: About,
    /// When it was first seen.
    pub first: Option<WallTime>,
    /// When it was last seen.
    pub last: Option<WallTime>,
    /// How often.
    pub count: u64,
    /// Who reports it.
    pub by: Option<String>,
    /// From which node.
    pub host: Option<String>,
}

impl Event {
    /// Out of an object; `None`: it has no name or no reason.
    pub(super) fn of(object: &Value, entry: usize) -> Option<Self> {
        let meta = meta(object, entry)?;
        let about = at(object, &["involvedObject"]).or_else(|| at(object, &["regarding"]));
        let about = about.map_or_else(About::default, |about| About {
            kind: text(about, &["kind"]).unwrap_or_default(),
            namespace: text(about, &["namespace"]),
            name: text(about, &["name"]).unwrap_or_default(),
            uid: text(about, &["uid"]),
        });
        let any = |paths: &[&[&str]]| paths.iter().find_map(|path| time(object, path));
        let first = any(&[&["firstTimestamp"], &["deprecatedFirstTimestamp"], &["eventTime"]]);
        let last = any(&[
            &["series", "lastObservedTime"],
            &["lastTimestamp"],
            &["deprecatedLastTimestamp"],
            &["eventTime"],
            &["metadata", "creationTimestamp"],
        ]);
        let often = [&["series", "count"][..], &["count"], &["deprecatedCount"]];
        let either = |one: &[&str], other: &[&str], third: &[&str]| {
            text(object, one).or_else(|| text(object, other)).or_else(|| text(object, third))
        };
        Some(Self {
            warning: text(object, &["type"]).as_deref() == Some("Warning"),
            reason: text(object, &["reason"])?,
            message: text(object, &["message"]).or_else(|| text(object, &["note"])).unwrap_or_default(),
            about,
            first: first.or(last),
            last,
            count: often.iter().find_map(|path| count(object, path)).unwrap_or(1).max(1),
            by: either(&["source", "component"], &["reportingComponent"], &["reportingController"]),
            host: either(&["source", "host"], &["deprecatedSource", "host"], &["reportingInstance"]),
            meta,
        })
    }

    /// As one line: `FailedScheduling Pod shop/toobig: 0/1 nodes are available`. What signatures of the stream `k8s` are matched to.
    pub fn line(&self) -> String {
        let message = self.message.trim_end().replace('\n', " ");
        format!("{} {} {}: {message}", self.reason, self.about.kind, self.about.called())
    }
}
