//! One incident as a pure state machine: events and the time in, steps out.
//!
//! open → gathering → sealing → sealed or failed, and from sealed, when a node comes back that was missing, amending →
//! sealing → sealed. Each node goes its own way (waiting, asked, answering, answered, trimmed, last words, silent); a
//! deadline ends the waiting and keeps what has come. No clock, no disk, no network: [`super::gather`] does what the steps
//! say.

mod amendment;
mod step;
mod waves;

use std::collections::BTreeMap;
use std::time::Duration;

use casefile_proto::coverage::{NodeState, SourceCoverage};
use casefile_proto::gap::Gap;
use casefile_proto::ids::{NodeName, RequestId};
use casefile_proto::incident::{IncidentState, NodePhase, SealedArchive};
use casefile_proto::time::{BootTime, Stamp, WallTime, Window};
use serde::{Deserialize, Serialize};

use amendment::Amendment;
pub use amendment::{AMENDING, MAX_REVISIONS, TOGETHER, is_missing};
pub use step::{IncidentEvent, Step};
pub use waves::{WAVE, WAVE_EVERY};

/// How long after the end of a window nodes are asked: a frame is due once a second and may take most of a second to
/// be measured and written, so the last frame of a window is in the ring by then.
pub const FRAMES_IN_FLIGHT: Duration = Duration::from_millis(1500);

/// How long to wait before a node that is connected, but could not be asked, is asked again.
pub const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How long before sealing that failed is tried again; it doubles up to the most. A full disk is what fails most, and
/// somebody makes room: sealing reads everything that was gathered, so not every second.
const SEAL_AGAIN: Duration = Duration::from_secs(5);
const SEAL_AGAIN_MAX: Duration = Duration::from_mins(5);

/// The most sources of one node whose progress is kept; what a node says of more is in its answer only.
pub const MAX_SOURCES: usize = 256;

/// When an incident may ask and when it must end. Decided once, when it is opened; never moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The window, on the collector's clock.
    pub window: Window,
    /// When it was opened, on the collector's clock.
    pub opened_at: WallTime,
    /// When nodes may be asked: after the window has ended and the frames in flight have landed.
    pub ready_at: WallTime,
    /// Nanoseconds from `ready_at` to the deadline.
    pub patience_nanos: u64,
    /// Nanoseconds from the deadline until no node that is missing is waited for any more. Incidents of before there were
    /// amendments wait for none.
    #[serde(default)]
    pub return_nanos: u64,
}

impl Plan {
    /// For a window, opened now, waiting for nodes as long as `patience` after they could first be asked.
    pub fn new(window: Window, opened_at: WallTime, patience: Duration) -> Self {
        Self {
            window,
            opened_at,
            ready_at: window.until().after(FRAMES_IN_FLIGHT).max(opened_at),
            patience_nanos: nanos(patience),
            return_nanos: 0,
        }
    }

    /// The same, waiting this long after the deadline for nodes that are missing to come back.
    #[must_use]
    pub fn returning_within(self, wait: Duration) -> Self {
        Self { return_nanos: nanos(wait), ..self }
    }

    /// When a node that is missing is not waited for any more.
    pub fn over_at(&self) -> WallTime {
        self.deadline().after(Duration::from_nanos(self.return_nanos))
    }

    /// When gathering ends whatever has come.
    pub fn deadline(&self) -> WallTime {
        self.ready_at.after(Duration::from_nanos(self.patience_nanos))
    }
}

/// What a node said when it was done: its own rows of the coverage.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Answer {
    /// One row for every source that was asked.
    pub sources: Vec<SourceCoverage>,
    /// What is missing of the node as a whole.
    pub gaps: Vec<Gap>,
}

/// How far one source of one node is, as far as it was heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SourceHeard {
    /// Records so far.
    pub records: u64,
    /// Bytes so far, before compression.
    pub bytes: u64,
    /// Gaps so far.
    pub gaps: u64,
    /// Whether the node said that it is done with this source.
    pub done: bool,
}

/// Whether a node has a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Up,
    Down,
}

/// One node of an incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The request that asks this node for this incident; the same one when it is asked again.
    pub request: RequestId,
    /// How far it is.
    pub phase: NodePhase,
    /// What it said when it was done.
    pub answer: Option<Answer>,
    /// Items that arrived whole.
    pub items: u64,
    /// Its sources, as far as they have been heard of.
    pub sources: BTreeMap<String, SourceHeard>,
    /// What it was in the archive that is being amended, when it has come back since; otherwise `None`.
    back_from: Option<NodePhase>,
    link: Link,
    not_before: Option<BootTime>,
}

impl Member {
    /// A node that has not been asked.
    pub fn new(request: RequestId) -> Self {
        Self {
            request,
            phase: NodePhase::Waiting,
            answer: None,
            items: 0,
            sources: BTreeMap::new(),
            back_from: None,
            link: Link::Down,
            not_before: None,
        }
    }

    /// A node as it is known after a restart: what it answered, and how many items lie in its spool. Whether it was
    /// being asked when the collector stopped does not matter: it is asked again.
    pub fn resumed(request: RequestId, phase: NodePhase, answer: Option<Answer>, items: u64) -> Self {
        let phase = if is_settled(phase) { phase } else { NodePhase::Waiting };
        Self { phase, answer, items, ..Self::new(request) }
    }

    fn is_to_be_asked(&self, now: BootTime) -> bool {
        self.phase == NodePhase::Waiting && self.link == Link::Up && self.not_before.is_none_or(|at| now >= at)
    }

    fn was_heard(&self) -> bool {
        self.items > 0 || self.sources.values().any(|s| s.records > 0)
    }
}

/// An incident as it was last saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// How far it was.
    pub state: IncidentState,
    /// Its nodes.
    pub members: BTreeMap<NodeName, Member>,
    /// Its archives, oldest first.
    pub archives: Vec<SealedArchive>,
    /// Why sealing failed, when it did.
    pub failure: Option<String>,
}

/// An incident that is not finished.
#[derive(Debug, Clone)]
pub struct Incident {
    plan: Plan,
    state: IncidentState,
    members: BTreeMap<NodeName, Member>,
    archives: Vec<SealedArchive>,
    failure: Option<String>,
    /// Whether it is sealed and waits for nobody any more.
    over: bool,
    /// When the amendment that is being gathered stops waiting for more nodes, and when it ends.
    amendment: Option<Amendment>,
    /// The nodes that are being asked together: since when, and how many.
    wave: (BootTime, usize),
    /// Times that sealing has failed in a row, and when it is tried again.
    failures: u32,
    again: Option<BootTime>,
    // The same instants on this process's boot clock: a stepped wall clock must not move a deadline.
    ready: BootTime,
    deadline: BootTime,
    over_at: BootTime,
}

impl Incident {
    /// A new incident.
    pub fn open(plan: Plan, members: BTreeMap<NodeName, Member>, now: Stamp) -> Self {
        let saved = Saved { state: IncidentState::Open, members, archives: Vec::new(), failure: None };
        Self::resume(plan, saved, now)
    }

    /// An incident as it was last saved. One that was sealing, or failed, is sealed again; an amendment that was being
    /// gathered gets its whole patience again.
    pub fn resume(plan: Plan, saved: Saved, now: Stamp) -> Self {
        let Saved { state, members, archives, failure } = saved;
        // The wall clock may have been stepped while the collector was down: never wait longer than was ever planned.
        let boot_at = |at: WallTime, whole: WallTime| {
            let wait_for = wait(at, now.wall).min(wait(whole, plan.opened_at));
            BootTime::from_nanos(now.boot.nanos().saturating_add(wait_for))
        };
        let amendment = (state == IncidentState::Amending).then(|| Amendment::beginning(&plan, now));
        Self {
            state,
            members,
            archives,
            failure,
            over: false,
            amendment,
            wave: (now.boot, 0),
            failures: 0,
            again: None,
            ready: boot_at(plan.ready_at, plan.deadline()),
            deadline: boot_at(plan.deadline(), plan.deadline()),
            over_at: boot_at(plan.over_at(), plan.over_at()),
            plan,
        }
    }

    /// When it asks and when it ends.
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// How far it is.
    pub const fn state(&self) -> IncidentState {
        self.state
    }

    /// Its nodes, in order of name.
    pub const fn members(&self) -> &BTreeMap<NodeName, Member> {
        &self.members
    }

    /// When gathering ends, that of an amendment too, on this process's boot clock.
    pub fn deadline(&self) -> BootTime {
        self.amendment.map_or(self.deadline, |a| a.deadline)
    }

    /// The archives, once sealed, oldest first.
    pub fn archives(&self) -> &[SealedArchive] {
        &self.archives
    }

    /// Whether it is sealed and no node is waited for any more.
    pub const fn is_over(&self) -> bool {
        self.over
    }

    /// Why sealing failed, when it did.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// When the next [`IncidentEvent::Tick`] could change something, on the boot clock; `None`: never by itself.
    pub fn wakes_at(&self) -> Option<BootTime> {
        match self.state {
            IncidentState::Open => Some(self.ready),
            IncidentState::Gathering => {
                let again = self.members.values().filter_map(|m| m.not_before).min();
                again.into_iter().chain(self.next_wave()).chain([self.deadline]).min()
            }
            IncidentState::Failed => self.again,
            IncidentState::Amending => {
                let again =
                    self.members.values().filter(|m| m.phase == NodePhase::Waiting).filter_map(|m| m.not_before);
                // What has passed already wakes nobody again.
                let ends =
                    self.amendment.into_iter().flat_map(|a| [(!a.waited).then_some(a.together), Some(a.deadline)]);
                again.chain(self.next_wave()).chain(ends.flatten()).min()
            }
            IncidentState::Sealed if !self.over => Some(self.over_at),
            IncidentState::Sealing | IncidentState::Sealed => None,
        }
    }

    /// Takes one event at this time. Total: an event that makes no sense now changes nothing.
    pub fn on(&mut self, event: IncidentEvent, now: Stamp) -> Vec<Step> {
        let mut steps = Vec::new();
        match event {
            IncidentEvent::Started { connected } => self.start(&connected, now, &mut steps),
            IncidentEvent::Tick => {}
            IncidentEvent::Connected { node } => self.connected(&node, now, &mut steps),
            IncidentEvent::Disconnected { node } => self.link(&node, Link::Down),
            IncidentEvent::NotAsked { node } => self.not_asked(&node, now),
            IncidentEvent::Progress { node, request, source, records, bytes } => {
                if let Some(heard) = self.hear(&node, request, &source) {
                    // Told as totals; a node that was asked again begins anew, and less than before is not shown.
                    heard.records = heard.records.max(records);
                    heard.bytes = heard.bytes.max(bytes);
                }
            }
            IncidentEvent::Item { node, request, source, gaps } => {
                if let Some(heard) = self.hear(&node, request, &source) {
                    heard.gaps = heard.gaps.saturating_add(gaps);
                }
                if let Some(member) = self.answering(&node, request) {
                    member.items += 1;
                }
            }
            IncidentEvent::Done { node, request, answer } => self.done(&node, request, answer, &mut steps),
            IncidentEvent::Sealed { archive, nodes, requests } => self.sealed(archive, nodes, requests, &mut steps),
            IncidentEvent::SealFailed { why } => self.seal_failed(why, now, &mut steps),
        }
        self.advance(now, &mut steps);
        steps
    }

    fn start(&mut self, connected: &[NodeName], now: Stamp, steps: &mut Vec<Step>) {
        match self.state {
            IncidentState::Open | IncidentState::Gathering | IncidentState::Amending => {}
            IncidentState::Sealing => {
                self.pin_all(steps);
                steps.push(Step::Seal);
                return;
            }
            IncidentState::Failed => {
                self.pin_all(steps);
                return self.try_again(steps);
            }
            // Whoever announced it may have gone down before it let go of what it was made of.
            IncidentState::Sealed => return steps.push(Step::Release),
        }
        self.pin_all(steps);
        for node in connected {
            self.connected(node, now, steps);
        }
    }

    /// Last words of before the first archive are in it; an amendment needs none.
    fn pin_all(&self, steps: &mut Vec<Step>) {
        if !self.archives.is_empty() {
            return;
        }
        steps.extend(self.members.keys().map(|node| Step::Pin { node: node.clone() }));
    }

    fn link(&mut self, node: &NodeName, link: Link) {
        let Some(member) = self.members.get_mut(node) else { return };
        member.link = link;
        // Whatever was in flight is gone with the old session, also when its end was not heard of: ask (again).
        if !is_settled(member.phase) {
            member.phase = NodePhase::Waiting;
            member.not_before = None;
        }
    }

    fn not_asked(&mut self, node: &NodeName, now: Stamp) {
        let Some(member) = self.members.get_mut(node) else { return };
        if member.phase == NodePhase::Asked {
            member.phase = NodePhase::Waiting;
            member.not_before = Some(later(now.boot, ASK_AGAIN));
        }
    }

    /// The member, if an answer to this request is still wanted; it is answering from now on.
    fn answering(&mut self, node: &NodeName, request: RequestId) -> Option<&mut Member> {
        if !matches!(self.state, IncidentState::Open | IncidentState::Gathering | IncidentState::Amending) {
            return None;
        }
        let member = self.members.get_mut(node)?;
        if member.request != request || is_settled(member.phase) {
            return None;
        }
        member.phase = NodePhase::Answering;
        member.not_before = None;
        Some(member)
    }

    fn hear(&mut self, node: &NodeName, request: RequestId, source: &str) -> Option<&mut SourceHeard> {
        let member = self.answering(node, request)?;
        if member.sources.len() >= MAX_SOURCES && !member.sources.contains_key(source) {
            return None;
        }
        Some(member.sources.entry(source.to_owned()).or_default())
    }

    fn done(&mut self, node: &NodeName, request: RequestId, answer: Answer, steps: &mut Vec<Step>) {
        let Some(member) = self.answering(node, request) else { return };
        for row in answer.sources.iter().take(MAX_SOURCES) {
            let heard = member.sources.entry(row.source.clone()).or_default();
            heard.records = heard.records.max(row.records);
            heard.bytes = heard.bytes.max(row.cost.bytes);
            heard.gaps = heard.gaps.max(u64::try_from(row.gaps.len()).unwrap_or(u64::MAX));
            heard.done = true;
        }
        member.phase = NodePhase::Answered;
        member.answer = Some(answer);
        steps.push(Step::Save);
    }

    fn sealed(
        &mut self,
        archive: SealedArchive,
        nodes: Vec<(NodeName, NodeState)>,
        requests: BTreeMap<NodeName, RequestId>,
        steps: &mut Vec<Step>,
    ) {
        if self.state != IncidentState::Sealing {
            return;
        }
        for (node, state) in nodes {
            if let Some(member) = self.members.get_mut(&node) {
                member.phase = settled_as(state);
            }
        }
        for (node, request) in requests {
            if let Some(member) = self.members.get_mut(&node) {
                member.request = request;
            }
        }
        for member in self.members.values_mut() {
            member.back_from = None;
        }
        self.state = IncidentState::Sealed;
        self.archives.push(archive);
        self.amendment = None;
        (self.failure, self.failures) = (None, 0);
        steps.extend([Step::Save, Step::Release]);
    }

    /// What was gathered is kept, and room may come back: it is tried again until it is sealed. An amendment is given up
    /// when its nodes would not be waited for any more: the archive before it stands.
    fn seal_failed(&mut self, why: String, now: Stamp, steps: &mut Vec<Step>) {
        if self.state == IncidentState::Sealing {
            self.state = IncidentState::Failed;
            self.failure = Some(why);
            let wait = SEAL_AGAIN.saturating_mul(1 << self.failures.min(8)).min(SEAL_AGAIN_MAX);
            self.failures = self.failures.saturating_add(1);
            if !self.archives.is_empty() && now.boot >= self.over_at {
                (self.state, self.over) = (IncidentState::Sealed, true);
                return steps.extend([Step::Save, Step::Release]);
            }
            self.again = Some(later(now.boot, wait));
            steps.push(Step::Save);
        }
    }

    fn try_again(&mut self, steps: &mut Vec<Step>) {
        if self.state == IncidentState::Failed {
            self.state = IncidentState::Sealing;
            self.again = None;
            steps.extend([Step::Save, Step::Seal]);
        }
    }

    /// What the time and the nodes' phases bring by themselves.
    fn advance(&mut self, now: Stamp, steps: &mut Vec<Step>) {
        // Either clock may say that the window has ended: the wall clock because windows are told on it, the boot
        // clock because a wall clock that was set back must not make an incident wait for hours.
        if self.state == IncidentState::Open && (now.wall >= self.plan.ready_at || now.boot >= self.ready) {
            self.state = IncidentState::Gathering;
            steps.push(Step::Save);
        }
        if self.again.is_some_and(|at| now.boot >= at) {
            return self.try_again(steps);
        }
        match self.state {
            IncidentState::Gathering => {
                if now.boot >= self.deadline || self.members.values().all(|m| is_settled(m.phase)) {
                    return self.end_gathering(steps);
                }
            }
            IncidentState::Amending => {
                if self.amendment_ends(now) {
                    return self.end_amending(now, steps);
                }
            }
            IncidentState::Sealed => return self.end_waiting(now, steps),
            IncidentState::Open | IncidentState::Sealing | IncidentState::Failed => return,
        }
        self.ask_those_who_wait(now, steps);
    }

    fn end_gathering(&mut self, steps: &mut Vec<Step>) {
        for (node, member) in &mut self.members {
            if is_settled(member.phase) {
                continue;
            }
            // Also where we think it is not connected: the spool must be at rest, whoever comes back.
            steps.push(Step::Cancel { node: node.clone(), request: member.request });
            member.phase = if member.was_heard() { NodePhase::Trimmed } else { NodePhase::LastWords };
        }
        self.state = IncidentState::Sealing;
        steps.extend([Step::Save, Step::Seal]);
    }
}

/// Whether nothing more will come of a node.
const fn is_settled(phase: NodePhase) -> bool {
    matches!(phase, NodePhase::Answered | NodePhase::Trimmed | NodePhase::LastWords | NodePhase::Silent)
}

/// What became of a node, as a phase.
pub const fn settled_as(state: NodeState) -> NodePhase {
    match state {
        NodeState::Answered => NodePhase::Answered,
        NodeState::Trimmed => NodePhase::Trimmed,
        NodeState::LastWords => NodePhase::LastWords,
        NodeState::Silent => NodePhase::Silent,
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds from `now` until `at`; none when it has passed.
fn wait(at: WallTime, now: WallTime) -> u64 {
    u64::try_from(at.nanos_since(now)).unwrap_or(0)
}

fn later(at: BootTime, by: Duration) -> BootTime {
    BootTime::from_nanos(at.nanos().saturating_add(nanos(by)))
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
