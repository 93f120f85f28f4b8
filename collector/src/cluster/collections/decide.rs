//! What a resource needs, by what is known of its incident: to be opened, to be told something, or nothing. Pure.
//!
//! What the index says outranks what a status says: a status may be old, lost, or written by somebody else. Where the index
//! knows nothing and a status names an incident, that incident is not here any more, and none is opened in its place.

use casefile_proto::ids::{IncidentId, NodeName};
use casefile_proto::incident::{IncidentState, IncidentView, NodePhase, OpenAsk, SealedArchive};
use casefile_proto::time::{WallTime, Window};
use casefile_review::verdict::Counts;

use super::resource::Collection;
use super::status::{
    ACCEPTED, ArchiveStatus, Condition, FOLLOWED, NodesStatus, SUCCEEDED, Status, Truth, WindowStatus,
};

use crate::stats::figure::Label;

/// Names of nodes in a message.
const MAX_NAMED: usize = 8;

/// What was seen of an incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Which one.
    pub incident: IncidentId,
    /// The generation of the resource that it follows.
    pub followed: u64,
    /// How far it is.
    pub state: IncidentState,
    /// Its window.
    pub window: Window,
    /// Its nodes that are expected.
    pub expected: usize,
    /// Those that gave everything.
    pub answered: usize,
    /// The others, once it is sealed.
    pub missing: Vec<NodeName>,
    /// Its newest archive.
    pub archive: Option<SealedArchive>,
    /// What the checks found in that; `None`: it was not read.
    pub findings: Option<Counts>,
    /// Why it could not be sealed.
    pub failure: Option<String>,
}

impl Seen {
    /// Out of a view.
    pub fn of(view: &IncidentView, followed: u64, findings: Option<Counts>) -> Self {
        let answered = |phase| phase == NodePhase::Answered;
        let missing = view.nodes.iter().filter(|n| !answered(n.phase)).map(|n| n.node.clone());
        Self {
            incident: view.incident.id,
            followed,
            state: view.incident.state,
            window: view.incident.ask.window,
            expected: view.incident.expected.len(),
            answered: view.nodes.iter().filter(|n| answered(n.phase)).count(),
            missing: missing.collect(),
            archive: view.incident.archive.clone(),
            findings,
            failure: view.incident.failure.clone(),
        }
    }
}

/// What is known of the incident of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// No incident answers for it.
    Nothing,
    /// It was asked for, and refused.
    Refused {
        /// Why.
        why: String,
        /// Whether it makes sense to ask again.
        again: bool,
    },
    /// This one does.
    Incident(Box<Seen>),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// An incident is to be opened.
    Open(Box<OpenAsk>),
    /// Its status is to say this.
    Say(Box<Status>),
    /// Nothing.
    Leave,
}

/// Decides.
pub fn decide(collection: &Collection, known: &Known) -> Decision {
    match known {
        Known::Incident(seen) => Decision::Say(Box::new(followed(collection, seen))),
        Known::Refused { why, again: true } => {
            let waiting = [(ACCEPTED, Truth::Unknown), (SUCCEEDED, Truth::Unknown)];
            said(collection, waiting, "Waiting", &format!("it is asked again: {why}"))
        }
        Known::Refused { why, again: false } => said(collection, NO, "Refused", why),
        Known::Nothing if is_over(collection) => Decision::Leave,
        Known::Nothing => match (collection.status["incident"].as_str(), &collection.ask) {
            (Some(_), _) => {
                let why = "the collector's index does not have the incident that is named here, so whether there is a case file \
                           is not known: make another resource to collect anew";
                said(collection, NO, "Lost", why)
            }
            (None, Ok(ask)) => Decision::Open(ask.clone()),
            (None, Err(problems)) => said(collection, NO, "Invalid", &problems.join("; ")),
        },
    }
}

/// How far a resource is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing was done for it yet.
    New,
    /// It was asked for and could not be opened; that is tried again.
    Waiting,
    /// It makes no sense, or was refused: only another specification changes that.
    Refused,
    /// An incident gathers for it.
    Gathering,
    /// There is a case file.
    Sealed,
}

impl Label for Phase {
    const NAME: &'static str = "phase";
    const ALL: &'static [Self] = &[Self::New, Self::Waiting, Self::Refused, Self::Gathering, Self::Sealed];

    fn value(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Waiting => "waiting",
            Self::Refused => "refused",
            Self::Gathering => "gathering",
            Self::Sealed => "sealed",
        }
    }
}

/// How far this one is.
pub fn phase(collection: &Collection, known: &Known) -> Phase {
    match known {
        Known::Incident(seen) if seen.archive.is_some() => Phase::Sealed,
        Known::Incident(_) => Phase::Gathering,
        Known::Refused { again: true, .. } => Phase::Waiting,
        Known::Refused { again: false, .. } => Phase::Refused,
        // What an earlier collector made of it.
        Known::Nothing if is_over(collection) => match collection.condition(SUCCEEDED) {
            Some(condition) if condition["status"] == "True" => Phase::Sealed,
            _ => Phase::Refused,
        },
        Known::Nothing => match &collection.ask {
            Ok(_) => Phase::New,
            Err(_) => Phase::Refused,
        },
    }
}

const NO: [(&str, Truth); 2] = [(ACCEPTED, Truth::False), (SUCCEEDED, Truth::False)];

/// Whether its status says that nothing more will become of the specification of now.
fn is_over(collection: &Collection) -> bool {
    collection.condition(SUCCEEDED).is_some_and(|condition| {
        let final_word = condition["status"] == "True" || condition["status"] == "False";
        final_word && condition["observedGeneration"] == collection.resource.generation
    })
}

/// A status without an incident, for one reason.
fn said<const N: usize>(
    collection: &Collection,
    conditions: [(&'static str, Truth); N],
    reason: &'static str,
    why: &str,
) -> Decision {
    let observed_generation = collection.resource.generation;
    let conditions = conditions.map(|(kind, status)| Condition {
        kind,
        status,
        reason,
        message: why.to_owned(),
        observed_generation,
    });
    Decision::Say(Box::new(Status {
        observed_generation,
        conditions: conditions.into(),
        // One that is named and not known stays named.
        incident: collection.status["incident"].as_str().map(str::to_owned),
        window: None,
        nodes: None,
        archive: None,
        findings: None,
    }))
}

/// The status of one that an incident answers for.
fn followed(collection: &Collection, seen: &Seen) -> Status {
    let condition =
        |kind, status, reason, message| Condition { kind, status, reason, message, observed_generation: seen.followed };
    let now = collection.resource.generation;
    let mut conditions = vec![
        condition(ACCEPTED, Truth::True, "Opened", format!("{} answers for it", seen.incident)),
        succeeded(seen, condition),
    ];
    if now != seen.followed {
        let message = format!(
            "the specification was changed after it was accepted, and is not followed: {} gathers what was asked at \
             generation {}",
            seen.incident, seen.followed
        );
        let changed = condition(FOLLOWED, Truth::False, "SpecChanged", message);
        conditions.push(Condition { observed_generation: now, ..changed });
    }
    let (from, until) = (seen.window.from(), seen.window.until());
    Status {
        observed_generation: now,
        conditions,
        incident: Some(seen.incident.to_string()),
        window: Some(WindowStatus {
            from: from.to_seconds_text(),
            until: until.to_seconds_text(),
            summary: short(seen.window),
        }),
        nodes: Some(NodesStatus {
            expected: seen.expected,
            answered: seen.answered,
            summary: format!("{}/{}", seen.answered, seen.expected),
        }),
        archive: seen.archive.as_ref().map(|archive| ArchiveStatus {
            file_name: archive.file_name.clone(),
            bytes: archive.size,
            sha256: archive.sha256.to_string(),
            revision: archive.revision,
            sealed_at: archive.sealed_at.to_seconds_text(),
        }),
        findings: seen.findings,
    }
}

fn succeeded(seen: &Seen, condition: impl Fn(&'static str, Truth, &'static str, String) -> Condition) -> Condition {
    let nodes = format!("{}/{} nodes", seen.answered, seen.expected);
    let (status, reason, message) = match (&seen.archive, seen.state) {
        // Also while it is amended: the archive lies there, and stays.
        (Some(archive), _) if archive.whole => (Truth::True, "Sealed", nodes),
        (Some(_), IncidentState::Amending) => {
            (Truth::True, "PartialCoverage", format!("{nodes}; a node that was missing is back and is being asked"))
        }
        (Some(_), _) => (Truth::True, "PartialCoverage", format!("{nodes}{}", not_all(&seen.missing))),
        (None, IncidentState::Open) => {
            let until = seen.window.until();
            (Truth::Unknown, "Waiting", format!("the window ends at {}", until.to_seconds_text()))
        }
        (None, IncidentState::Failed) => {
            let why = seen.failure.as_deref().unwrap_or("the collector's log says why");
            (Truth::False, "Failed", format!("it could not be sealed, is kept, and is tried again: {why}"))
        }
        (None, IncidentState::Gathering) => (Truth::Unknown, "Gathering", nodes),
        (None, IncidentState::Sealing | IncidentState::Sealed | IncidentState::Amending) => {
            (Truth::Unknown, "Sealing", nodes)
        }
    };
    condition(SUCCEEDED, status, reason, message)
}

/// Which nodes did not give everything. Where all did, it is parts that are missing.
fn not_all(missing: &[NodeName]) -> String {
    if missing.is_empty() {
        return "; parts are missing: the coverage in the case file says which".to_owned();
    }
    let mut text = missing.iter().take(MAX_NAMED).map(NodeName::as_str).collect::<Vec<_>>().join(", ");
    if missing.len() > MAX_NAMED {
        text.push_str(&format!(" and {} more", missing.len() - MAX_NAMED));
    }
    format!("; not or not wholly: {text}")
}

/// `02:44Z+30m`: the time of day at which it begins and how long it is, in the largest unit that fits.
fn short(window: Window) -> String {
    let at: String = WallTime::to_seconds_text(window.from()).chars().skip(11).take(5).collect();
    let seconds = window.duration().as_secs();
    let long = match seconds {
        0 => format!("{}ms", window.duration().as_millis()),
        s if s % 86_400 == 0 => format!("{}d", s / 86_400),
        s if s % 3_600 == 0 => format!("{}h", s / 3_600),
        s if s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    };
    format!("{at}Z+{long}")
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
