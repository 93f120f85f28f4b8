//! The part of the machine that begins when an incident is sealed: nodes that are missing are waited for, those that come
//! back are asked again, and what they bring is sealed as another revision.
//!
//! What was gathered for the first archive is the rest of the machine's business.

use std::time::Duration;

use casefile_proto::ids::NodeName;
use casefile_proto::incident::{IncidentState, NodePhase};
use casefile_proto::time::{BootTime, Stamp};

use super::{Incident, Link, Member, Plan, Step, is_settled, later};

/// How long after a node came back others are waited for, so that nodes that return within a little time, as they do after
/// a power cut, are one revision.
pub const TOGETHER: Duration = Duration::from_secs(30);

/// How long a node that came back may take at least, and longer when the incident was opened with more patience: nobody
/// waits at a screen for an amendment.
pub const AMENDING: Duration = Duration::from_mins(2);

/// The most archives of one incident; nodes that come back after the last are not asked any more.
pub const MAX_REVISIONS: usize = 16;

/// An amendment that is being gathered, on this process's boot clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Amendment {
    /// When it stops waiting for more nodes.
    pub(super) together: BootTime,
    /// When it ends.
    pub(super) deadline: BootTime,
    /// Whether `together` has passed.
    pub(super) waited: bool,
}

impl Incident {
    /// Whether this node is missing from the archive and would be asked if it came back now.
    pub fn awaits(&self, node: &NodeName) -> bool {
        let waiting = matches!(self.state, IncidentState::Sealed | IncidentState::Amending) && !self.over;
        waiting && self.members.get(node).is_some_and(|m| m.back_from.is_none() && is_missing(m.phase))
    }

    /// Whether this node has come back and is being asked.
    pub fn is_asking_again(&self, node: &NodeName) -> bool {
        self.members.get(node).is_some_and(|m| m.back_from.is_some() && !is_settled(m.phase))
    }

    /// A node has a session; one that is missing from the archive is asked again.
    pub(super) fn connected(&mut self, node: &NodeName, now: Stamp, steps: &mut Vec<Step>) {
        if self.awaits(node)
            && let Some(member) = self.members.get_mut(node)
        {
            member.back_from = Some(member.phase);
            member.phase = NodePhase::Waiting;
            member.items = 0;
            member.sources.clear();
            if self.state == IncidentState::Sealed {
                self.state = IncidentState::Amending;
                self.amendment = Some(Amendment::beginning(&self.plan, now));
                steps.push(Step::Save);
            }
        }
        self.link(node, Link::Up);
    }

    /// Whether everyone who came back is done and nobody else is waited for, or the amendment's time is up.
    pub(super) fn amendment_ends(&mut self, now: Stamp) -> bool {
        let Some(amendment) = &mut self.amendment else { return true };
        amendment.waited |= now.boot >= amendment.together;
        let mut back = self.members.values().filter(|m| m.back_from.is_some()).peekable();
        let more = self.members.values().any(|m| m.back_from.is_none() && is_missing(m.phase));
        let done = back.peek().is_some() && back.all(|m| is_settled(m.phase)) && (amendment.waited || !more);
        done || now.boot >= amendment.deadline
    }

    /// What came of nodes that are back is sealed; when nothing came, the archive stays the newest and they are missing as
    /// before.
    pub(super) fn end_amending(&mut self, now: Stamp, steps: &mut Vec<Step>) {
        let mut brought = false;
        for (node, member) in &mut self.members {
            let Some(before) = member.back_from else { continue };
            if !is_settled(member.phase) {
                steps.push(Step::Cancel { node: node.clone(), request: member.request });
                member.phase = if member.items > 0 { NodePhase::Trimmed } else { before };
            }
            brought |= member.phase == NodePhase::Answered || member.items > 0;
        }
        self.amendment = None;
        if brought {
            self.state = IncidentState::Sealing;
            return steps.extend([Step::Save, Step::Seal]);
        }
        for member in self.members.values_mut() {
            (member.back_from, member.not_before) = (None, None);
        }
        self.state = IncidentState::Sealed;
        steps.push(Step::Save);
        self.end_waiting(now, steps);
    }

    /// Whether a sealed incident still waits for somebody.
    pub(super) fn end_waiting(&mut self, now: Stamp, steps: &mut Vec<Step>) {
        let missing = self.members.values().any(|m| is_missing(m.phase));
        let may = self.archives.len() < MAX_REVISIONS && now.boot < self.over_at;
        let over = !(missing && may);
        if over && !self.over {
            self.over = true;
            if !steps.contains(&Step::Save) {
                steps.push(Step::Save);
            }
        }
    }
}

impl Amendment {
    /// That of a node that came back now.
    pub(super) fn beginning(plan: &Plan, now: Stamp) -> Self {
        let patience = Duration::from_nanos(plan.patience_nanos).max(AMENDING);
        let together = later(now.boot, TOGETHER);
        Self { together, deadline: later(now.boot, patience), waited: false }
    }
}

impl Member {
    /// A node of an incident that was being amended, as it is known after a restart. `before` is what it was in the
    /// archive that is amended; one that had answered then stays as it is.
    pub fn amending(before: NodePhase, resumed: Self) -> Self {
        if !is_missing(before) {
            return resumed;
        }
        let came_back = resumed.phase == NodePhase::Answered || resumed.items > 0;
        match (came_back, resumed.phase) {
            (false, _) => Self { phase: before, ..resumed },
            (true, NodePhase::Answered) => Self { back_from: Some(before), ..resumed },
            (true, _) => Self { phase: NodePhase::Waiting, back_from: Some(before), ..resumed },
        }
    }

    /// The phase that a restart goes on from: one that is being asked again is still missing.
    pub fn kept_phase(&self) -> NodePhase {
        self.back_from.filter(|_| !is_settled(self.phase)).unwrap_or(self.phase)
    }
}

/// Whether an archive lacks what this node could still give.
pub const fn is_missing(phase: NodePhase) -> bool {
    matches!(phase, NodePhase::Trimmed | NodePhase::LastWords | NodePhase::Silent)
}
