//! Does what the incident machines say: one task owns all of them; events and commands in, asks, saves and seals out.
//!
//! Nothing is decided here. Whatever may take long (asking, sealing) is a job of its own that reports back as an event.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use casefile_evidence::archive::sign::SigningKey;
use casefile_proto::coverage::Coverage;
use casefile_proto::ids::{IncidentId, NodeName, RequestId};
use casefile_proto::incident::{IncidentAsk, IncidentState, IncidentSummary, IncidentView, OpenAsk, SealedArchive};
use casefile_proto::node::{Link, NodeStatus};
use casefile_proto::session::CollectionAsk;
use casefile_proto::time::{BootTime, ClockOffset, Window};
use casefile_proto::units::Bytes;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::calls::{self, CALL_DEADLINE};
use super::coalesce::answers_for;
use super::departed;
use super::fleet::Fleet;
use super::handle::{Command, Incidents, Left, OpenError};
use super::live::Live;
use super::machine::{Answer, Incident, IncidentEvent, Member, Saved, Step, settled_as};
use super::sealing::{self, Sealing};
use super::{Situation, admit, title_of, view};
use crate::chain::chain;
use crate::cluster::recorder::Recorder;
use crate::data::DataDir;
use crate::ingest::{AskError, Clock, NodeEvent};
use crate::space::Space;
use crate::stats::{Stage, Stats};
use crate::store::{Asked, Record, Requests, Store, StoreError, blocking};

/// Commands that wait while the task is busy; whoever sends one more waits with it.
const COMMANDS: usize = 64;

/// Incidents that are sealed at a time: it reads and writes as fast as the disk can, so more would only be slower.
const SEALING_AT_A_TIME: usize = 2;

/// Amendments that ask one node at a time: it refuses more collections than a few, and one that has come back is missing
/// from every incident of the time that it was away.
const AMENDING_AT_A_TIME: usize = 2;

/// The most sealed incidents that wait for nodes. One more, and the oldest waits no longer.
const MAX_WAITING: usize = 1_000;

/// The most nodes of all of them together: each is kept in memory.
const MAX_WAITING_NODES: usize = 200_000;

/// The longest sleep, so that a stepped wall clock or an injected one is noticed soon.
const NAP: Duration = Duration::from_secs(1);

/// The shortest time between two views of one incident; nobody reads faster, and a view of a large one is large.
const VIEW_EVERY: Duration = Duration::from_millis(200);

/// How long what nodes do may wait to be written into the index: with thousands of nodes each has something to say in the
/// same seconds. A restart in between asks them again, and they say it again.
const SAVE_WITHIN: Duration = Duration::from_millis(200);

/// The least that a node may send however many nodes share an incident's budget.
const MIN_NODE_BUDGET: Bytes = Bytes::mib(16);

/// What gathering works with.
pub struct Parts {
    /// The nodes.
    pub fleet: Arc<dyn Fleet>,
    /// The index.
    pub store: Arc<dyn Store>,
    /// Where spools and archives lie.
    pub data: Arc<DataDir>,
    /// Signs archives.
    pub key: Arc<SigningKey>,
    /// The collector's clocks.
    pub clock: Clock,
    /// Counts what happens.
    pub stats: Arc<Stats>,
    /// The disk that everything lies on.
    pub space: Space,
    /// How long to wait for nodes when nothing is said.
    pub patience: Duration,
    /// How long a sealed incident waits for nodes that are missing.
    pub returning: Duration,
    /// The most bytes, before compression, of one incident over all its nodes.
    pub budget: Bytes,
    /// What the cluster showed; `None`: the nodes belong to none.
    pub cluster: Option<Recorder>,
}

/// The part of an incident's budget that evidence of the cluster may have.
const CLUSTER_SHARE: u64 = 4;

/// Takes up what an earlier collector left unfinished, and starts the task.
pub async fn start(parts: Parts, events: mpsc::Receiver<NodeEvent>) -> Result<Incidents, StoreError> {
    let (commands, inbox) = mpsc::channel(COMMANDS);
    let handle = Incidents::new(commands, Arc::clone(&parts.store), Arc::clone(&parts.data));
    let unfinished = blocking(&parts.store, |store| store.unfinished()).await?;
    let mut gather = Gather {
        parts,
        live: BTreeMap::new(),
        jobs: JoinSet::new(),
        sealing: Arc::new(Semaphore::new(SEALING_AT_A_TIME)),
        returned: VecDeque::new(),
        stopping: false,
    };
    for record in unfinished {
        gather.resume(record).await;
    }
    tokio::spawn(gather.run(inbox, events));
    Ok(handle)
}

/// What a job reports.
enum Done {
    /// The node was asked.
    Asked,
    /// Requests that nobody wants any more were cancelled.
    Cancelled,
    NotAsked(IncidentId, NodeName),
    Sealed(IncidentId, SealedArchive, Box<(Coverage, Requests)>),
    SealFailed(IncidentId, String),
}

struct Gather {
    parts: Parts,
    live: BTreeMap<IncidentId, Live>,
    jobs: JoinSet<Done>,
    sealing: Arc<Semaphore>,
    /// Nodes that came back, and the sealed incidents that wait for them, in turn. At most one entry for each of both.
    returned: VecDeque<(IncidentId, NodeName)>,
    stopping: bool,
}

impl Gather {
    async fn run(mut self, mut inbox: mpsc::Receiver<Command>, mut events: mpsc::Receiver<NodeEvent>) {
        loop {
            let nap = self.nap();
            // Every arm may be dropped: receiving loses nothing, a job that ended stays in the set.
            tokio::select! {
                // What people ask.
                command = inbox.recv() => match command {
                    Some(Command::Open(ask, reply)) => {
                        let opened = self.open(*ask).await;
                        // Whoever asked may be gone; the incident stands all the same.
                        let _ = reply.send(opened);
                    }
                    Some(Command::Watch(id, reply)) => {
                        let _ = reply.send(self.subscribe(id));
                    }
                    Some(Command::Stop(deadline, reply)) => {
                        let left = self.drain(deadline).await;
                        let _ = reply.send(left);
                        return;
                    }
                    None => return,
                },
                // What nodes say.
                Some(event) = events.recv() => self.heard(event).await,
                // What was started here has ended.
                Some(done) = self.jobs.join_next() => self.done(done).await,
                // Time passes.
                () = tokio::time::sleep(nap) => {}
            }
            self.tick().await;
        }
    }

    /// How long there is nothing to do unless something is heard.
    fn nap(&self) -> Duration {
        let now = (self.parts.clock)().boot;
        let wakes = self.live.values().filter_map(|live| live.machine.wakes_at()).map(|at| at.since(now));
        let views =
            self.live.values().filter(|live| live.stale).map(|live| VIEW_EVERY.saturating_sub(live.shown.elapsed()));
        let saves = self.live.values().filter_map(|live| live.save_at).map(|at| at.duration_since(Instant::now()));
        wakes.chain(views).chain(saves).min().unwrap_or(NAP).min(NAP)
    }

    async fn tick(&mut self) {
        let now = (self.parts.clock)();
        let due = |live: &Live| {
            let woken = live.machine.wakes_at().is_some_and(|at| at <= now.boot);
            woken || (live.machine.state() == IncidentState::Open && now.wall >= live.machine.plan().ready_at)
        };
        let ids: Vec<_> = self.live.iter().filter(|(_, live)| due(live)).map(|(id, _)| *id).collect();
        for id in ids {
            self.apply(id, IncidentEvent::Tick).await;
        }
        self.welcome_back().await;
        let saves = self.live.iter().filter(|(_, live)| live.save_at.is_some_and(|at| at <= Instant::now()));
        for id in saves.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.save(id).await;
        }
        for live in self.live.values_mut().filter(|live| live.stale && live.shown.elapsed() >= VIEW_EVERY) {
            live.show();
        }
    }

    /// Has incidents ask nodes that came back, a few at a time.
    async fn welcome_back(&mut self) {
        for _ in 0..self.returned.len() {
            let Some((id, node)) = self.returned.pop_front() else { return };
            let Some(live) = self.live.get(&id) else { continue };
            if !live.machine.awaits(&node) {
                continue;
            }
            // An amendment that is under way takes everyone who comes back meanwhile.
            let begun = live.machine.state() == IncidentState::Amending;
            let asking = self.live.values().filter(|live| live.machine.is_asking_again(&node)).count();
            if asking < AMENDING_AT_A_TIME || begun {
                tracing::info!(incident = %id, %node, "a node that was missing is back; the incident is amended");
                self.apply(id, IncidentEvent::Connected { node }).await;
            } else {
                self.returned.push_back((id, node));
            }
        }
    }

    /// Bounds the incidents that are sealed and wait: those that are over are let go.
    async fn let_go(&mut self) {
        let waiting = self.live.iter().filter(|(_, live)| live.machine.state() == IncidentState::Sealed);
        let sizes: Vec<_> = waiting.map(|(id, live)| (*id, live.record.members.len())).collect();
        let mut nodes: usize = sizes.iter().map(|(_, size)| size).sum();
        let mut oldest = Vec::new();
        for (n, (id, size)) in sizes.iter().enumerate() {
            if sizes.len() - n <= MAX_WAITING && nodes <= MAX_WAITING_NODES {
                break;
            }
            nodes -= size;
            oldest.push(*id);
        }
        for id in oldest {
            tracing::warn!(incident = %id, "too many sealed incidents wait for nodes: this one waits no longer");
            if let Some(live) = self.live.get_mut(&id) {
                live.record.over = true;
            }
            self.save(id).await;
            self.live.remove(&id);
        }
    }

    async fn open(&mut self, mut open: OpenAsk) -> Result<IncidentSummary, OpenError> {
        if self.stopping {
            return Err(OpenError::Stopping);
        }
        if let Some(resource) = &open.ask.resource {
            let uid = resource.uid.clone();
            let opened = blocking(&self.parts.store, move |store| match store.opened_for(&uid)? {
                Some(id) => store.incident(id),
                None => Ok(None),
            });
            if let Some(record) = opened.await? {
                return Ok(record.summary());
            }
        }
        let mut running = self.live.values();
        if let Some(same) =
            running.find(|live| answers_for(&live.record.ask, live.machine.state(), &open.ask, open.slack))
        {
            tracing::info!(incident = %same.record.id, by = open.ask.requested_by, "another request for the same");
            let summary = same.record.summary();
            if let Some(resource) = open.ask.resource {
                blocking(&self.parts.store, move |store| store.bind(&resource, summary.id)).await?;
            }
            return Ok(summary);
        }
        let known = blocking(&self.parts.store, |store| {
            store.known().map_err(|e| StoreError::Database { doing: "read", source: Box::new(e) })
        });
        let status = self.parts.fleet.nodes();
        let situation = Situation {
            now: (self.parts.clock)().wall,
            held: self.held(&status, &open.ask).await,
            known: known.await?.into_iter().map(|(name, _)| name).collect(),
            unfinished: self.live.values().filter(|l| is_busy(l.machine.state())).count(),
            patience: self.parts.patience,
            returning: self.parts.returning,
        };
        let (plan, nodes) = admit(&open, &situation)?;
        if open.ask.title.is_empty() {
            open.ask.title = title_of(open.ask.window, &open.ask.nodes);
        }
        let ask = open.ask;
        let record = blocking(&self.parts.store, move |store| store.open_incident(&ask, &plan, &nodes)).await?;
        let summary = record.summary();
        tracing::info!(incident = %record.id, window = %plan.window, nodes = record.members.len(), "incident opened");
        self.parts.stats.opened.one();
        let members = record.members.iter().map(|(name, m)| (name.clone(), Member::new(m.request))).collect();
        let machine = Incident::open(plan, members, (self.parts.clock)());
        self.begin(record, machine, &status, Some(Instant::now())).await;
        Ok(summary)
    }

    /// Every node that an incident may be about: any that is named, else those that had not left the cluster.
    async fn held(&self, status: &[NodeStatus], ask: &IncidentAsk) -> Vec<NodeName> {
        let mut gone = BTreeMap::new();
        if let Some(recorder) = self.parts.cluster.clone().filter(|_| ask.nodes.is_empty()) {
            let away: Vec<_> = status.iter().filter(|s| s.link == Link::Away).map(|s| s.node.clone()).collect();
            gone = tokio::task::spawn_blocking(move || recorder.nodes_gone(&away)).await.unwrap_or_default();
        }
        departed::rest(status, &gone, ask.window.from())
    }

    async fn resume(&mut self, record: Record) {
        let counted = record.clone();
        let data = Arc::clone(&self.parts.data);
        // A spool that cannot be read is found when it is sealed; until then only the number shown is too small.
        let items = tokio::task::spawn_blocking(move || items_in(&data, &counted)).await.unwrap_or_default();
        let id = record.id;
        let before = match blocking(&self.parts.store, move |store| store.coverage(id)).await {
            Ok(coverage) => coverage,
            Err(error) => {
                tracing::warn!(incident = %id, error = chain(&error), "the coverage of an incident was not read");
                None
            }
        };
        let member = |(name, m): (&NodeName, &crate::store::MemberRecord)| {
            let arrived = items.get(name).copied().unwrap_or(0);
            let resumed = Member::resumed(m.request, m.phase, m.answer.clone(), arrived);
            let before = before.as_ref().and_then(|c| c.nodes.iter().find(|n| n.node == *name));
            let member = match before {
                Some(node) if record.state == IncidentState::Amending => {
                    Member::amending(settled_as(node.state), resumed)
                }
                _ => resumed,
            };
            (name.clone(), member)
        };
        let members = record.members.iter().map(member).collect();
        tracing::info!(incident = %record.id, state = record.state.name(), "incident taken up again");
        let now = (self.parts.clock)();
        let archives = record.earlier.iter().chain(&record.archive).cloned().collect();
        let saved = Saved { state: record.state, members, archives, failure: record.failure.clone() };
        let machine = Incident::resume(record.plan, saved, now);
        let status = self.parts.fleet.nodes();
        self.begin(record, machine, &status, None).await;
    }

    async fn begin(&mut self, record: Record, machine: Incident, status: &[NodeStatus], opened: Option<Instant>) {
        let id = record.id;
        let first = view::running(&record, machine.members().iter());
        let live = Live {
            record,
            machine,
            view: watch::channel(first).0,
            stale: false,
            shown: Instant::now(),
            empty_since: opened,
            gathering_since: opened,
            unsaved: BTreeSet::new(),
            save_at: None,
        };
        self.live.insert(id, live);
        let connected = status.iter().filter(|s| s.link == Link::Connected).map(|s| s.node.clone()).collect();
        self.apply(id, IncidentEvent::Started { connected }).await;
    }

    fn subscribe(&mut self, id: IncidentId) -> Option<watch::Receiver<IncidentView>> {
        let live = self.live.get_mut(&id)?;
        if live.machine.state() == IncidentState::Sealed {
            // The index knows more of its nodes than what is kept while it waits.
            return None;
        }
        live.show();
        Some(live.view.subscribe())
    }

    async fn heard(&mut self, event: NodeEvent) {
        match event {
            NodeEvent::Connected { node, collectable } => {
                let (name, list) = (node.clone(), collectable);
                let kept = blocking(&self.parts.store, move |store| store.set_collectable(&name, &list)).await;
                if let Err(error) = kept {
                    tracing::warn!(%node, error = chain(&error), "what the node can collect was not kept");
                }
                let sealed = |live: &Live| live.machine.state() == IncidentState::Sealed;
                let waiting = self.live.iter().filter(|(_, live)| live.machine.awaits(&node));
                let turns: Vec<_> = waiting.map(|(id, _)| (*id, node.clone())).collect();
                let told: Vec<_> = self
                    .live
                    .iter()
                    .filter(|(_, l)| !sealed(l) && !l.machine.awaits(&node))
                    .map(|(id, _)| *id)
                    .collect();
                for id in told {
                    self.apply(id, IncidentEvent::Connected { node: node.clone() }).await;
                }
                self.returned.retain(|(_, other)| *other != node);
                self.returned.extend(turns);
            }
            NodeEvent::Disconnected { node } => {
                self.returned.retain(|(_, other)| *other != node);
                self.tell_all(&node, |node| IncidentEvent::Disconnected { node }).await;
            }
            NodeEvent::Progress { node, request, source, records, bytes } => {
                let Some(id) = self.whose(&node, request) else { return };
                let event = IncidentEvent::Progress { node, request, source, records, bytes: bytes.0 };
                self.apply(id, event).await;
            }
            NodeEvent::Item { node, request, item } => {
                let Some(id) = self.whose(&node, request) else { return };
                let gaps = item.tail.as_ref().map_or(0, |t| u64::try_from(t.gaps.len()).unwrap_or(u64::MAX));
                self.parts.stats.items.one();
                if let Some(since) = self.live.get_mut(&id).and_then(|live| live.empty_since.take()) {
                    self.parts.stats.stages.of(Stage::FirstEvidence).took(since.elapsed());
                }
                self.apply(id, IncidentEvent::Item { node, request, source: item.head.source, gaps }).await;
            }
            NodeEvent::Done { node, request, sources, gaps } => {
                let Some(id) = self.whose(&node, request) else { return };
                let answer = Answer { sources, gaps };
                self.apply(id, IncidentEvent::Done { node, request, answer }).await;
            }
        }
    }

    fn whose(&self, node: &NodeName, request: RequestId) -> Option<IncidentId> {
        let asks = |live: &Live| live.machine.members().get(node).is_some_and(|m| m.request == request);
        self.live.iter().find(|(_, live)| asks(live)).map(|(id, _)| *id)
    }

    async fn tell_all(&mut self, node: &NodeName, event: impl Fn(NodeName) -> IncidentEvent) {
        let ids: Vec<_> = self.live.keys().copied().collect();
        for id in ids {
            self.apply(id, event(node.clone())).await;
        }
    }

    async fn done(&mut self, done: Result<Done, tokio::task::JoinError>) {
        match done {
            Ok(Done::Asked | Done::Cancelled) => {}
            Ok(Done::NotAsked(id, node)) => self.apply(id, IncidentEvent::NotAsked { node }).await,
            Ok(Done::Sealed(id, archive, sealed)) => {
                let (coverage, requests) = *sealed;
                tracing::info!(incident = %id, file = archive.file_name, size = archive.size, whole = archive.whole, revision = archive.revision, "incident sealed");
                self.parts.stats.sealed.one();
                self.parts.stats.archived.add(archive.size);
                for gap in
                    coverage.nodes.iter().flat_map(|n| n.gaps.iter().chain(n.sources.iter().flat_map(|s| &s.gaps)))
                {
                    self.parts.stats.coverage_gaps.of(gap.reason).one();
                }
                let nodes = coverage.nodes.iter().map(|n| (n.node.clone(), n.state)).collect();
                self.apply(id, IncidentEvent::Sealed { archive, nodes, requests }).await;
            }
            Ok(Done::SealFailed(id, why)) => {
                tracing::error!(incident = %id, why, "incident could not be sealed; what was gathered is kept, and it is tried again");
                self.parts.stats.failed.one();
                self.apply(id, IncidentEvent::SealFailed { why }).await;
            }
            // Jobs hand their own panics back as failures; this is one that was aborted.
            Err(error) => tracing::warn!(%error, "a job of gathering ended early"),
        }
    }

    /// Feeds one machine and does its steps, in their order.
    async fn apply(&mut self, id: IncidentId, event: IncidentEvent) {
        let now = (self.parts.clock)();
        let Some(live) = self.live.get_mut(&id) else { return };
        let before = live.machine.state();
        let of = event.node().cloned();
        let steps = live.machine.on(event, now);
        let moved = live.machine.state() != before;
        live.take_over();
        if moved {
            let all: Vec<_> = live.record.members.keys().cloned().collect();
            live.take_over_nodes(all.iter());
        } else {
            live.take_over_nodes(of.iter().chain(steps.iter().filter_map(Step::asked)));
        }
        let mut cancels = Vec::new();
        let pins: Vec<_> = steps.iter().filter_map(Step::pinned).cloned().collect();
        // Looked up once: it is long where nodes are many.
        let clocks = if steps.iter().any(Step::is_to_a_node) { self.parts.fleet.nodes() } else { Vec::new() };
        if !pins.is_empty() {
            self.pin(id, pins, &clocks).await;
        }
        for step in steps {
            match step {
                // All of them, above.
                Step::Pin { .. } => {}
                Step::Ask { node, request } => {
                    self.ask(id, node, request, now.boot, &clocks);
                    self.save_soon(id);
                }
                Step::Cancel { node, request } => cancels.push((node, request)),
                Step::Save if moved => self.save(id).await,
                Step::Save => self.save_soon(id),
                Step::Seal => self.seal(id, std::mem::take(&mut cancels)),
                Step::Release => self.release(id).await,
            }
        }
        if !cancels.is_empty() {
            // An amendment for which nothing came is not sealed.
            let fleet = Arc::clone(&self.parts.fleet);
            self.jobs.spawn(async move {
                calls::cancel_all(&*fleet, cancels).await;
                Done::Cancelled
            });
        }
        let Some(live) = self.live.get_mut(&id) else { return };
        live.stale = true;
        if live.machine.state() != before {
            live.show();
            match live.machine.state() {
                // Until now it waited for the end of its window, which is nobody's slowness.
                IncidentState::Gathering => live.gathering_since = live.gathering_since.map(|_| Instant::now()),
                IncidentState::Sealing => {
                    if let Some(since) = live.gathering_since.take() {
                        self.parts.stats.stages.of(Stage::Gathering).took(since.elapsed());
                    }
                }
                _ => {}
            }
        }
        if live.machine.is_over() {
            if live.save_at.is_some() {
                self.save(id).await;
            }
            // Watchers keep the last view; the index has the rest.
            self.live.remove(&id);
        } else if live.machine.state() == IncidentState::Sealed && before != IncidentState::Sealed {
            self.let_go().await;
        }
    }

    async fn pin(&self, id: IncidentId, nodes: Vec<NodeName>, clocks: &[NodeStatus]) {
        let Some(live) = self.live.get(&id) else { return };
        let window = live.record.ask.window;
        let pins = nodes.into_iter().map(|node| {
            let from = on_clock_of(&node, window, clocks).window.from();
            (node, from)
        });
        calls::pin_all(&self.parts.fleet, id, pins).await;
    }

    fn ask(&mut self, id: IncidentId, node: NodeName, request: RequestId, now: BootTime, clocks: &[NodeStatus]) {
        let Some(live) = self.live.get_mut(&id) else { return };
        let share = u64::try_from(live.record.members.len().max(1)).unwrap_or(u64::MAX);
        let asked = on_clock_of(&node, live.record.ask.window, clocks);
        let scope = live.record.ask.scope.clone();
        let Some(member) = live.record.members.get_mut(&node) else { return };
        member.asked = Some(asked);
        live.unsaved.insert(node.clone());
        let ask = CollectionAsk {
            request,
            window: asked.window,
            budget: Bytes(self.parts.budget.0 / share).max(MIN_NODE_BUDGET),
            deadline: live.machine.deadline().since(now),
            sources: scope.sources,
            select: scope.select,
            clock: asked.clock,
        };
        let spool = self.parts.data.spool_of(id, member.number);
        let fleet = Arc::clone(&self.parts.fleet);
        self.jobs.spawn(async move {
            match timeout(CALL_DEADLINE, fleet.ask(&node, ask, spool)).await {
                Ok(Ok(())) => return Done::Asked,
                // It has just gone; it is asked again when it is back.
                Ok(Err(AskError::NotConnected(_))) => {}
                Ok(Err(error @ AskError::Spool { .. })) => {
                    tracing::warn!(incident = %id, error = chain(&error), "a node cannot be asked yet");
                }
                Err(_) => tracing::warn!(incident = %id, %node, "a node could not be asked in time"),
            }
            Done::NotAsked(id, node)
        });
    }

    fn save_soon(&mut self, id: IncidentId) {
        if let Some(live) = self.live.get_mut(&id) {
            live.save_at.get_or_insert_with(|| Instant::now() + SAVE_WITHIN);
        }
    }

    /// Writes into the index what it does not know yet.
    async fn save(&mut self, id: IncidentId) {
        let Some(live) = self.live.get_mut(&id) else { return };
        live.save_at = None;
        let unsaved = std::mem::take(&mut live.unsaved);
        let record = live.record.only(&unsaved);
        if let Err(error) = blocking(&self.parts.store, move |store| store.save(&record)).await {
            // Nothing is lost while this process lives; a restart would go on from the state before.
            tracing::warn!(incident = %id, error = chain(&error), "the state of an incident was not saved");
            if let Some(live) = self.live.get_mut(&id) {
                live.unsaved.extend(unsaved);
            }
        }
    }

    fn seal(&mut self, id: IncidentId, cancels: Vec<(NodeName, RequestId)>) {
        let Some(live) = self.live.get(&id) else { return };
        let status = self.parts.fleet.nodes();
        let job = Sealing {
            record: live.record.clone(),
            asked: live.record.members.keys().map(|n| (n.clone(), asked_of(&live.record, n, &status))).collect(),
            connected: status.into_iter().filter(|s| s.link == Link::Connected).map(|s| s.node).collect(),
            sealed_at: (self.parts.clock)().wall,
            fleet: Arc::clone(&self.parts.fleet),
            store: Arc::clone(&self.parts.store),
            data: Arc::clone(&self.parts.data),
            key: Arc::clone(&self.parts.key),
            stats: Arc::clone(&self.parts.stats),
            space: self.parts.space.clone(),
            cluster: self.parts.cluster.clone(),
            cluster_budget: Bytes(self.parts.budget.0 / CLUSTER_SHARE),
        };
        let (permits, fleet) = (Arc::clone(&self.sealing), Arc::clone(&self.parts.fleet));
        self.jobs.spawn(async move {
            calls::cancel_all(&*fleet, cancels).await;
            // The semaphore is never closed; without a permit it would only be slower.
            let _permit = permits.acquire_owned().await;
            match sealing::run(job).await {
                Ok((archive, coverage, requests)) => Done::Sealed(id, archive, Box::new((coverage, requests))),
                Err(why) => Done::SealFailed(id, why),
            }
        });
    }

    /// The archive is announced: what it was made of may go.
    async fn release(&self, id: IncidentId) {
        let Some(live) = self.live.get(&id) else { return };
        calls::unpin_all(&self.parts.fleet, id, live.record.members.keys().cloned()).await;
        let spool = self.parts.data.spool(id);
        let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(spool)).await;
        if let Ok(Err(error)) = removed
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(incident = %id, %error, "the spool of a sealed incident was not removed");
        }
    }

    async fn drain(&mut self, deadline: Instant) -> Left {
        self.stopping = true;
        let unsaved = self.live.iter().filter(|(_, live)| live.save_at.is_some() || !live.unsaved.is_empty());
        for id in unsaved.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.save(id).await;
        }
        let sealing = |this: &Self| this.live.values().any(|l| l.machine.state() == IncidentState::Sealing);
        while sealing(self) {
            match timeout_at(deadline, self.jobs.join_next()).await {
                Ok(Some(done)) => self.done(done).await,
                Ok(None) | Err(_) => break,
            }
        }
        let states = self.live.iter().map(|(id, live)| (*id, live.machine.state()));
        let unfinished = states.filter(|(_, state)| *state != IncidentState::Sealed).collect();
        Left { unfinished }
    }
}

/// Whether it holds a spool that grows.
const fn is_busy(state: IncidentState) -> bool {
    !matches!(state, IncidentState::Failed | IncidentState::Sealed)
}

fn items_in(data: &DataDir, record: &Record) -> BTreeMap<NodeName, u64> {
    let count = |number: u64| {
        let items = crate::spool::read_dir(&data.spool_of(record.id, number)).unwrap_or_default();
        u64::try_from(items.len()).unwrap_or(u64::MAX)
    };
    record.members.iter().map(|(name, m)| (name.clone(), count(m.number))).collect()
}

/// The window on the clock of a node, by what is known of it now. Where the clocks cannot be told apart the window stays as
/// it was asked, on its whole seconds.
fn on_clock_of(node: &NodeName, window: Window, status: &[NodeStatus]) -> Asked {
    // In order of name.
    let known = status.binary_search_by(|s| s.node.cmp(node)).ok();
    let clock = known.and_then(|n| status[n].clock);
    match clock.and_then(ClockOffset::apart).map(|ahead| window.shifted(ahead)) {
        None => Asked { window, clock },
        Some(Some(moved)) => Asked { window: moved, clock },
        // An offset that moves the window off the end of time is no offset.
        Some(None) => Asked { window, clock: None },
    }
}

/// How a node was asked; one that never was, as it would be now.
fn asked_of(record: &Record, node: &NodeName, status: &[NodeStatus]) -> Asked {
    let kept = record.members.get(node).and_then(|m| m.asked);
    kept.unwrap_or_else(|| on_clock_of(node, record.ask.window, status))
}

#[cfg(test)]
#[path = "gather_tests.rs"]
mod tests;
