//! What a resource's status says, and the patch that makes it so. Pure.
//!
//! Only our own fields are touched, and only what differs is written; conditions that somebody else added stay.

use casefile_proto::time::WallTime;
use casefile_review::verdict::Counts;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Conditions of others that are kept.
const MAX_FOREIGN: usize = 8;

/// The longest message of a condition.
const MAX_MESSAGE: usize = 1_024;

/// Whether the specification was taken.
pub const ACCEPTED: &str = "Accepted";

/// Whether the case file lies there.
pub const SUCCEEDED: &str = "Succeeded";

/// Whether the specification of now is the one that is followed; left out when it is.
pub const FOLLOWED: &str = "Followed";

/// Every condition that is ours, in the order in which they are written.
pub const CONDITIONS: [&str; 3] = [ACCEPTED, SUCCEEDED, FOLLOWED];

/// Every field that is ours.
pub const FIELDS: [&str; 7] =
    ["observedGeneration", "conditions", "incident", "window", "nodes", "archive", "findings"];

/// True, false or not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Truth {
    /// It is so.
    True,
    /// It is not so.
    False,
    /// Nobody can tell yet.
    Unknown,
}

/// A condition, but for the time of its last change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Whether.
    pub status: Truth,
    /// One word for programs.
    pub reason: &'static str,
    /// A sentence for people.
    pub message: String,
    /// The specification that it is about.
    pub observed_generation: u64,
}

/// The window of the incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WindowStatus {
    /// Its begin.
    pub from: String,
    /// Its end.
    pub until: String,
    /// For a column: `02:44Z+30m`.
    pub summary: String,
}

/// The nodes of the incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodesStatus {
    /// How many are expected.
    pub expected: usize,
    /// How many gave everything.
    pub answered: usize,
    /// For a column: `11/12`.
    pub summary: String,
}

/// The archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ArchiveStatus {
    /// Its own name.
    pub file_name: String,
    /// Its size.
    pub bytes: u64,
    /// Its digest, in hexadecimal.
    pub sha256: String,
    /// Which one of the incident.
    pub revision: u32,
    /// When it was sealed.
    pub sealed_at: String,
}

/// The whole of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The specification that was looked at last.
    pub observed_generation: u64,
    /// In the order of [`CONDITIONS`].
    pub conditions: Vec<Condition>,
    /// The incident that answers for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident: Option<String>,
    /// Its window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<WindowStatus>,
    /// Its nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodesStatus>,
    /// Its newest archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive: Option<ArchiveStatus>,
    /// How much the checks found in that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub findings: Option<Counts>,
}

impl Status {
    /// What is to be changed in a status so that it says this; `None`: nothing.
    pub fn patch(&self, present: &Value, now: WallTime) -> Option<Value> {
        // Numbers, texts and closed lists: there is nothing in it that JSON cannot say.
        let mut fields = serde_json::to_value(self).unwrap_or_else(|e| unreachable!("{e}"));
        fields["conditions"] = self.conditions(&present["conditions"], now);
        if self.findings.is_none() && self.archive.is_some() && fields["archive"] == present["archive"] {
            // It cannot be read here now, as when it is in the archive store alone: what was found in it still holds.
            fields["findings"] = present["findings"].clone();
        }
        let mut patch = Map::new();
        for name in FIELDS {
            let (is, shall) = (&present[name], &fields[name]);
            if is != shall {
                patch.insert(name.to_owned(), merged(is, shall));
            }
        }
        if patch.is_empty() { None } else { Some(Value::Object(patch)) }
    }

    /// Whether more than figures would change: a condition says something else.
    pub fn is_a_turn(&self, present: &Value) -> bool {
        let says = |of: &Value| (of["status"].clone(), of["reason"].clone());
        self.conditions.iter().any(|condition| {
            let now = serde_json::to_value(condition).unwrap_or_else(|e| unreachable!("{e}"));
            found(&present["conditions"], condition.kind).is_none_or(|before| says(before) != says(&now))
        })
    }

    fn conditions(&self, present: &Value, now: WallTime) -> Value {
        let ours = self.conditions.iter().map(|condition| {
            let condition = Condition { message: shortened(&condition.message), ..condition.clone() };
            let mut next = serde_json::to_value(&condition).unwrap_or_else(|e| unreachable!("{e}"));
            let before = found(present, condition.kind).filter(|before| before["status"] == next["status"]);
            let since = before.and_then(|b| b["lastTransitionTime"].as_str()?.parse::<WallTime>().ok());
            next["lastTransitionTime"] = json!(since.unwrap_or(now).to_seconds_text());
            next
        });
        let is_ours = |c: &&Value| CONDITIONS.iter().any(|kind| c["type"] == *kind);
        let foreign = present.as_array().into_iter().flatten().filter(|c| !is_ours(c)).take(MAX_FOREIGN).cloned();
        ours.chain(foreign).collect()
    }
}

/// What a merge patch needs so that this becomes that: what is there no more is null.
fn merged(is: &Value, shall: &Value) -> Value {
    let (Some(is), Some(shall)) = (is.as_object(), shall.as_object()) else { return shall.clone() };
    let mut patch = shall.clone();
    for name in is.keys().filter(|name| !shall.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    Value::Object(patch)
}

fn found<'a>(conditions: &'a Value, kind: &str) -> Option<&'a Value> {
    conditions.as_array()?.iter().find(|c| c["type"] == kind)
}

/// A message of a bounded length, without control characters.
fn shortened(text: &str) -> String {
    let mut short: String = text.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect();
    if short.len() < text.len() && short.chars().count() == MAX_MESSAGE {
        short.pop();
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(truth: Truth, reason: &'static str) -> Status {
        let message = "m".to_owned();
        let condition = Condition { kind: SUCCEEDED, status: truth, reason, message, observed_generation: 1 };
        Status {
            observed_generation: 1,
            conditions: vec![condition],
            incident: Some("INC-000001".to_owned()),
            window: None,
            nodes: None,
            archive: None,
            findings: None,
        }
    }

    /// A merge patch (RFC 7386).
    fn apply(target: &mut Value, patch: &Value) {
        let Some(fields) = patch.as_object() else {
            *target = patch.clone();
            return;
        };
        if !target.is_object() {
            *target = json!({});
        }
        for (name, value) in fields {
            match value {
                Value::Null => drop(target.as_object_mut().unwrap().remove(name)),
                value => apply(&mut target[name], value),
            }
        }
    }

    fn say(present: &mut Value, status: &Status, at: WallTime) {
        let patch = status.patch(present, at).unwrap();
        apply(present, &patch);
    }

    #[test]
    fn only_what_differs_is_written_and_a_time_changes_with_its_status_alone() {
        let (early, late) = (WallTime::from_secs(1_000), WallTime::from_secs(2_000));
        let mut present = Value::Null;
        say(&mut present, &status(Truth::Unknown, "Gathering"), early);
        assert_eq!(present["conditions"][0]["lastTransitionTime"], "1970-01-01T00:16:40Z");
        assert_eq!(status(Truth::Unknown, "Gathering").patch(&present, late), None);
        let sealing = status(Truth::Unknown, "Sealing");
        assert!(sealing.is_a_turn(&present));
        let patch = sealing.patch(&present, late).unwrap();
        assert_eq!(patch.as_object().unwrap().keys().collect::<Vec<_>>(), ["conditions"]);
        apply(&mut present, &patch);
        assert_eq!(present["conditions"][0]["lastTransitionTime"], "1970-01-01T00:16:40Z");
        say(&mut present, &status(Truth::True, "Sealed"), late);
        assert_eq!(present["conditions"][0]["lastTransitionTime"], "1970-01-01T00:33:20Z");
        assert!(!status(Truth::True, "Sealed").is_a_turn(&present));
    }

    #[test]
    fn what_was_found_in_an_archive_stays_said_while_it_cannot_be_read() {
        let archive = |revision| ArchiveStatus {
            file_name: "x".to_owned(),
            bytes: 1,
            sha256: String::new(),
            revision,
            sealed_at: "1970-01-01T00:00:00Z".to_owned(),
        };
        let findings = Some(Counts { fatal: 1, ..Counts::default() });
        let read = Status { archive: Some(archive(1)), findings, ..status(Truth::True, "Sealed") };
        let mut present = Value::Null;
        say(&mut present, &read, WallTime::from_secs(0));
        assert_eq!(present["findings"]["fatal"], 1);
        let unread = Status { findings: None, ..read.clone() };
        assert_eq!(unread.patch(&present, WallTime::from_secs(9)), None);
        say(&mut present, &Status { archive: Some(archive(2)), ..unread }, WallTime::from_secs(9));
        assert_eq!(present.get("findings"), None, "it was found in another one");
    }

    #[test]
    fn what_others_wrote_stays_and_what_is_no_more_goes() {
        let mut present = json!({"mine": 1, "archive": {"fileName": "x", "odd": 1},
            "conditions": [{"type": "Theirs", "status": "True"}, {"type": SUCCEEDED, "status": "False", "lastTransitionTime": "?"}]});
        say(&mut present, &status(Truth::False, "Refused"), WallTime::from_secs(0));
        assert_eq!(present["mine"], 1);
        assert_eq!(present.get("archive"), None);
        assert_eq!(present["conditions"][1]["type"], "Theirs");
        assert_eq!(
            present["conditions"][0]["lastTransitionTime"], "1970-01-01T00:00:00Z",
            "what is no time is replaced"
        );
        let long = Status {
            conditions: vec![Condition {
                message: "ä".repeat(5_000),
                ..status(Truth::False, "Invalid").conditions[0].clone()
            }],
            ..status(Truth::False, "Invalid")
        };
        say(&mut present, &long, WallTime::from_secs(0));
        assert_eq!(present["conditions"][0]["message"].as_str().unwrap().chars().count(), MAX_MESSAGE);
        assert_eq!(long.patch(&present, WallTime::from_secs(9)), None);
    }
}
