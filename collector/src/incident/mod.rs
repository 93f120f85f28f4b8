//! Incidents: what may be opened, how it proceeds, what it covers, how it is sealed.
//!
//! Here: which request to open one is accepted (pure). [`machine`] and [`coverage`] decide, [`gather`] and [`seal`] act.

pub mod before;
mod calls;
pub mod coalesce;
pub mod coverage;
mod departed;
pub mod entries;
pub mod fleet;
pub mod gather;
pub mod handle;
mod live;
pub mod machine;
pub mod recorded;
pub mod rejoined;
pub mod reviewed;
pub mod seal;
pub mod sealing;
pub mod view;

#[cfg(test)]
pub(crate) mod test_nodes;
#[cfg(test)]
pub(crate) mod test_rig;

use std::collections::BTreeSet;
use std::time::Duration;

use casefile_proto::ids::NodeName;
use casefile_proto::incident::OpenAsk;
use casefile_proto::time::{WallTime, Window};

use machine::Plan;

/// The furthest that a window may end in the future: an incident waits for its end, and one that waits for weeks is a
/// mistyped date.
pub const MAX_AHEAD: Duration = Duration::from_secs(24 * 60 * 60);

/// How far in the future a window may begin and still be taken for now: the asker's clock is another one than ours.
pub const MAX_SKEW: Duration = Duration::from_secs(2);

/// The longest that an incident may wait for its nodes.
pub const MAX_PATIENCE: Duration = Duration::from_secs(60 * 60);

/// The longest that a sealed incident may wait for nodes that are missing: no ring goes back further.
pub const MAX_RETURNING: Duration = Duration::from_hours(31 * 24);

/// The most incidents that are open, gathering or sealing at a time: each holds a spool.
pub const MAX_UNFINISHED: usize = 64;

/// Names that a refusal lists; more would not be read.
const MAX_LISTED: usize = 12;

/// Why an incident was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The window lies in the future.
    #[error(
        "the window begins at {from}, and it is {now} now: nothing of it has happened yet. It may end in the future, \
         but must begin in the past; times are UTC"
    )]
    Future {
        /// Its begin.
        from: WallTime,
        /// The collector's clock.
        now: WallTime,
    },
    /// The window ends too far in the future.
    #[error("the window ends at {until}, more than 24 hours ahead of now ({now}): is the date right?")]
    FarEnd {
        /// Its end.
        until: WallTime,
        /// The collector's clock.
        now: WallTime,
    },
    /// It would wait too long.
    #[error("a deadline of {} s is longer than the longest, {} s", asked.as_secs(), MAX_PATIENCE.as_secs())]
    Patience {
        /// What was asked.
        asked: Duration,
    },
    /// Nodes were named that nobody has ever heard of.
    #[error("{}: no such node. {}", listed(unknown), known_nodes(known))]
    UnknownNodes {
        /// Their names.
        unknown: Vec<NodeName>,
        /// All that are known.
        known: Vec<NodeName>,
    },
    /// There is no node at all.
    #[error(
        "no node is known yet, so there is nothing to gather: start an agent (casefile-agent run) that dials this \
         collector"
    )]
    NoNodes,
    /// There are [`MAX_UNFINISHED`].
    #[error("{MAX_UNFINISHED} incidents are being gathered already: wait until one is sealed (casefile incidents)")]
    TooMany,
}

fn listed(names: &[NodeName]) -> String {
    let mut text = names.iter().take(MAX_LISTED).map(NodeName::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > MAX_LISTED {
        text.push_str(&format!(" and {} more", names.len() - MAX_LISTED));
    }
    text
}

fn known_nodes(known: &[NodeName]) -> String {
    if known.is_empty() { "None is known yet".to_owned() } else { format!("Known: {}", listed(known)) }
}

/// What is known when an incident is to be opened.
#[derive(Debug, Clone)]
pub struct Situation {
    /// The collector's clock.
    pub now: WallTime,
    /// Nodes that are connected, or of which something is held.
    pub held: Vec<NodeName>,
    /// Every node that was ever heard of.
    pub known: Vec<NodeName>,
    /// Incidents that are not finished.
    pub unfinished: usize,
    /// How long to wait for nodes when nothing is said.
    pub patience: Duration,
    /// How long to wait for nodes that are missing once it is sealed.
    pub returning: Duration,
}

/// Whether an incident may be opened: its plan, and the nodes that it asks, in order of name.
pub fn admit(open: &OpenAsk, situation: &Situation) -> Result<(Plan, Vec<NodeName>), Refusal> {
    let now = situation.now;
    let window = open.ask.window;
    if window.from() >= now.after(MAX_SKEW) {
        return Err(Refusal::Future { from: window.from(), now });
    }
    if window.until() > now.after(MAX_AHEAD) {
        return Err(Refusal::FarEnd { until: window.until(), now });
    }
    let patience = open.deadline.unwrap_or(situation.patience);
    if patience > MAX_PATIENCE {
        return Err(Refusal::Patience { asked: patience });
    }
    let nodes = chosen(&open.ask.nodes, situation)?;
    if situation.unfinished >= MAX_UNFINISHED {
        return Err(Refusal::TooMany);
    }
    Ok((Plan::new(window, now, patience).returning_within(situation.returning), nodes))
}

fn chosen(asked: &[NodeName], situation: &Situation) -> Result<Vec<NodeName>, Refusal> {
    if asked.is_empty() {
        let all: BTreeSet<_> = situation.held.iter().cloned().collect();
        return if all.is_empty() { Err(Refusal::NoNodes) } else { Ok(all.into_iter().collect()) };
    }
    let known: BTreeSet<_> = situation.held.iter().chain(&situation.known).cloned().collect();
    let asked: BTreeSet<_> = asked.iter().cloned().collect();
    let unknown: Vec<_> = asked.difference(&known).cloned().collect();
    if unknown.is_empty() {
        Ok(asked.into_iter().collect())
    } else {
        Err(Refusal::UnknownNodes { unknown, known: known.into_iter().collect() })
    }
}

/// A title for an incident that was given none: what a list needs to tell it from others.
pub fn title_of(window: Window, nodes: &[NodeName]) -> String {
    let whom = match nodes {
        [] => "every node".to_owned(),
        [one] => one.to_string(),
        many => format!("{} nodes", many.len()),
    };
    let (from, until) = (window.from().to_seconds_text(), window.until().to_seconds_text());
    format!("{whom}, {from} to {until}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use casefile_proto::incident::{IncidentAsk, Severity, Trigger};
    use casefile_proto::scope::Scope;

    const NOW: i64 = 1_000_000;

    fn names(names: &[&str]) -> Vec<NodeName> {
        names.iter().map(|n| n.parse().unwrap()).collect()
    }

    fn situation() -> Situation {
        Situation {
            now: WallTime::from_secs(NOW),
            held: names(&["b", "a"]),
            known: names(&["a", "b", "old"]),
            unfinished: 0,
            patience: Duration::from_secs(30),
            returning: Duration::from_hours(1),
        }
    }

    fn ask(from: i64, until: i64, nodes: &[&str]) -> OpenAsk {
        let window = Window::new(WallTime::from_secs(NOW + from), WallTime::from_secs(NOW + until)).unwrap();
        let ask = IncidentAsk {
            title: String::new(),
            reason: String::new(),
            requested_by: String::new(),
            severity: Severity::Sev3,
            trigger: Trigger::Person,
            resource: None,
            runbook: None,
            window,
            nodes: names(nodes),
            scope: Scope::default(),
        };
        OpenAsk { ask, deadline: None, slack: Duration::ZERO }
    }

    #[test]
    fn a_window_may_end_in_the_future_and_may_not_begin_there() {
        assert!(admit(&ask(-60, 60, &[]), &situation()).is_ok());
        assert!(admit(&ask(1, 60, &[]), &situation()).is_ok(), "the asker's clock may be a little ahead");
        assert!(matches!(admit(&ask(10, 60, &[]), &situation()), Err(Refusal::Future { .. })));
        assert!(matches!(admit(&ask(-60, 100_000, &[]), &situation()), Err(Refusal::FarEnd { .. })));
    }

    #[test]
    fn nobody_in_particular_means_everyone_of_whom_something_is_held() {
        assert_eq!(admit(&ask(-60, 0, &[]), &situation()).unwrap().1, names(&["a", "b"]));
        assert_eq!(admit(&ask(-60, 0, &["old", "a", "a"]), &situation()).unwrap().1, names(&["a", "old"]));
        let empty = Situation { held: vec![], ..situation() };
        assert_eq!(admit(&ask(-60, 0, &[]), &empty), Err(Refusal::NoNodes));
    }

    #[test]
    fn a_name_that_does_not_exist_is_refused_with_those_that_do() {
        let refused = admit(&ask(-60, 0, &["a", "typo"]), &situation()).unwrap_err().to_string();
        assert_eq!(refused, "typo: no such node. Known: a, b, old");
    }

    #[test]
    fn patience_and_the_number_of_incidents_are_bounded() {
        let long = OpenAsk { deadline: Some(Duration::from_secs(9_999)), ..ask(-60, 0, &[]) };
        assert!(matches!(admit(&long, &situation()), Err(Refusal::Patience { .. })));
        let busy = Situation { unfinished: MAX_UNFINISHED, ..situation() };
        assert_eq!(admit(&ask(-60, 0, &[]), &busy), Err(Refusal::TooMany));
        let own = OpenAsk { deadline: Some(Duration::from_secs(7)), ..ask(-60, 0, &[]) };
        assert_eq!(admit(&own, &situation()).unwrap().0.patience_nanos, 7_000_000_000);
    }
}
