//! Whether an incident that is open already answers for one that is asked for: forty people who look at one page ask for one
//! thing, and nodes should be asked for it once. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use casefile_proto::incident::{IncidentAsk, IncidentState, Trigger};

/// Whether it does: about the same nodes and sources, at least as severe, still being gathered, and over the same window but
/// for `slack` at either end. What an agent asks alone, or `local` for its first, is nobody else's.
pub fn answers_for(open: &IncidentAsk, state: IncidentState, asked: &IncidentAsk, slack: Duration) -> bool {
    let gathering = matches!(state, IncidentState::Open | IncidentState::Gathering);
    let nodes = |ask: &IncidentAsk| ask.nodes.iter().cloned().collect::<BTreeSet<_>>();
    let near = |a: i64| u128::from(a.unsigned_abs()) <= slack.as_nanos();
    gathering
        && is_shared(open.trigger)
        && is_shared(asked.trigger)
        && open.severity <= asked.severity
        && open.scope == asked.scope
        && open.runbook == asked.runbook
        && nodes(open) == nodes(asked)
        && near(open.window.from().nanos_since(asked.window.from()))
        && near(open.window.until().nanos_since(asked.window.until()))
}

/// Whether what was opened so is for everybody.
const fn is_shared(trigger: Trigger) -> bool {
    matches!(trigger, Trigger::Person | Trigger::Resource)
}

#[cfg(test)]
mod tests {
    use casefile_proto::incident::Severity;
    use casefile_proto::scope::Scope;
    use casefile_proto::time::{WallTime, Window};

    use super::*;

    fn ask(from: i64, until: i64, nodes: &[&str]) -> IncidentAsk {
        IncidentAsk {
            title: String::new(),
            reason: String::new(),
            requested_by: String::new(),
            severity: Severity::Sev2,
            trigger: Trigger::Person,
            resource: None,
            runbook: None,
            window: Window::new(WallTime::from_secs(from), WallTime::from_secs(until)).unwrap(),
            nodes: nodes.iter().map(|n| n.parse().unwrap()).collect(),
            scope: Scope::default(),
        }
    }

    const GATHERING: IncidentState = IncidentState::Gathering;
    const SLACK: Duration = Duration::from_secs(30);

    #[test]
    fn the_same_is_one_and_nearly_the_same_is_one_when_that_is_asked_for() {
        let open = ask(100, 200, &["a", "b"]);
        assert!(answers_for(&open, GATHERING, &ask(100, 200, &["b", "a"]), Duration::ZERO));
        assert!(!answers_for(&open, GATHERING, &ask(101, 201, &["a", "b"]), Duration::ZERO));
        assert!(answers_for(&open, GATHERING, &ask(101, 230, &["a", "b"]), SLACK));
        assert!(!answers_for(&open, GATHERING, &ask(101, 231, &["a", "b"]), SLACK));
        assert!(!answers_for(&open, GATHERING, &ask(69, 200, &["a", "b"]), SLACK));
    }

    #[test]
    fn what_asks_for_more_or_comes_too_late_is_another_one() {
        let open = ask(100, 200, &["a"]);
        let other = |change: &dyn Fn(&mut IncidentAsk)| {
            let mut asked = open.clone();
            change(&mut asked);
            answers_for(&open, GATHERING, &asked, SLACK)
        };
        assert!(other(&|_| {}) && other(&|ask| ask.severity = Severity::Sev4));
        assert!(other(&|ask| ask.title = "another title".to_owned()));
        assert!(other(&|ask| ask.trigger = Trigger::Resource), "a person and a resource may mean the same");
        assert!(!other(&|ask| ask.severity = Severity::Sev1));
        assert!(!other(&|ask| ask.nodes.push("b".parse().unwrap())));
        assert!(!other(&|ask| ask.nodes.clear()));
        assert!(!other(&|ask| ask.scope.sources.push("pods".to_owned())));
        assert!(!other(&|ask| ask.trigger = Trigger::Local));
        for state in [IncidentState::Sealing, IncidentState::Sealed, IncidentState::Failed] {
            assert!(!answers_for(&open, state, &open, SLACK));
        }
    }
}
