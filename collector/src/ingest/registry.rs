//! Who is connected, what was asked of whom, and which tasks serve them. Short critical sections, nothing blocks in them.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use casefile_proto::connectivity::{Ability, ConnectivityAnswer, ConnectivityAsk, NodeOutcome, TestId, UntestedReason};
use casefile_proto::convert::MAX_NODES;
use casefile_proto::ids::{BootId, NodeName, RequestId};
use casefile_proto::node::{Link, NodeStatus};
use casefile_proto::session::{CollectionAsk, SessionToken};
use casefile_proto::time::{ClockOffset, Stamp};
use casefile_proto::units::Bytes;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::session::Facts;
use super::{IngestConfig, NodeEvent, Refusal};
use crate::last_words::LastWords;
use crate::spool::receive::Spool;

/// KiB of records that may wait in memory to be stored, over all sessions. When they are used up, sessions wait.
const IN_FLIGHT_KIB: usize = 64 << 10;

/// Uploads at a time, over all nodes; each has a thread while it lasts and at most a few MiB in memory.
const UPLOADS: usize = 64;

/// Uploads at a time of one session: one for each collection that an agent has under way, and one that is being replaced.
const UPLOADS_PER_SESSION: usize = 6;

/// Things to tell one session that wait. An agent that has this many requests waiting is treated as not connected.
pub(super) const COMMANDS: usize = 64;

/// How long tasks may take to end when the collector stops.
const GRACE: Duration = Duration::from_secs(10);

/// What a session is told from elsewhere.
#[derive(Debug)]
pub(super) enum Command {
    /// Ask the agent to collect. Boxed, as the queue of every session has room for many.
    Ask(Box<CollectionAsk>),
    /// Tell it to stop collecting.
    Cancel(RequestId),
    /// Have it test connectivity. Boxed as above.
    Test(Box<ConnectivityAsk>),
    /// Another session of this node began.
    Superseded,
}

/// How many nodes were heard how long ago: the classes do not overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heard {
    /// Nodes that have a session now.
    pub sessions: usize,
    /// Whose last frame came at most 2 s ago.
    pub within_2s: usize,
    /// At most 10 s ago.
    pub within_10s: usize,
    /// At most a minute ago.
    pub within_1m: usize,
    /// At most ten minutes ago.
    pub within_10m: usize,
    /// Longer ago, or not since the collector was started.
    pub silent: usize,
}

impl Heard {
    fn count(&mut self, ago: Option<Duration>) {
        let class = match ago.map(|ago| ago.as_secs_f64()) {
            Some(..=2.0) => &mut self.within_2s,
            Some(..=10.0) => &mut self.within_10s,
            Some(..=60.0) => &mut self.within_1m,
            Some(..=600.0) => &mut self.within_10m,
            Some(_) | None => &mut self.silent,
        };
        *class += 1;
    }
}

pub(super) struct Registry {
    pub(super) config: IngestConfig,
    pub(super) last_words: LastWords,
    pub(super) events: mpsc::Sender<NodeEvent>,
    /// Permits are KiB.
    pub(super) in_flight: Arc<Semaphore>,
    pub(super) uploads: Arc<Semaphore>,
    nodes: Mutex<Nodes>,
    stopping: watch::Sender<Stopping>,
    tasks: Mutex<JoinSet<()>>,
}

/// Whether the collector is stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopping {
    No,
    Yes,
}

#[derive(Default)]
struct Nodes {
    by_name: BTreeMap<NodeName, Node>,
    by_token: HashMap<SessionToken, NodeName>,
}

#[derive(Default)]
struct Node {
    link: Option<Joined>,
    facts: Option<Facts>,
    clock: Option<ClockOffset>,
    requests: BTreeMap<RequestId, Request>,
    /// Who waits for which test of connectivity, in this session.
    tests: BTreeMap<TestId, oneshot::Sender<NodeOutcome>>,
}

/// The session that a node has.
struct Joined {
    token: SessionToken,
    boot: BootId,
    commands: mpsc::Sender<Command>,
    /// Dropped with the session; its uploads end then.
    alive: watch::Sender<()>,
    uploads: Arc<Semaphore>,
}

struct Request {
    ask: CollectionAsk,
    spool: Spool,
}

/// What an upload works with.
pub(super) struct UploadTicket {
    pub(super) node: NodeName,
    pub(super) spool: Spool,
    /// Its sender is gone when the session is over.
    pub(super) alive: watch::Receiver<()>,
    pub(super) per_session: Arc<Semaphore>,
}

impl Registry {
    pub(super) fn new(config: IngestConfig, last_words: LastWords, events: mpsc::Sender<NodeEvent>) -> Self {
        Self {
            config,
            last_words,
            events,
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT_KIB)),
            uploads: Arc::new(Semaphore::new(UPLOADS)),
            nodes: Mutex::default(),
            stopping: watch::Sender::new(Stopping::No),
            tasks: Mutex::default(),
        }
    }

    pub(super) fn now(&self) -> Stamp {
        (self.config.clock)()
    }

    /// Ready when the collector stops.
    pub(super) async fn stopped(&self) {
        let mut stopping = self.stopping.subscribe();
        // An error would mean that the sender is gone, and it is our own.
        let _ = stopping.wait_for(|s| *s == Stopping::Yes).await;
    }

    /// Runs a task of a session or an upload; refused when the collector is stopping.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Result<(), Refusal> {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if *self.stopping.borrow() == Stopping::Yes {
            return Err(Refusal::Stopping);
        }
        // Those that have ended are let go, so that the set is as large as what is going on.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
        Ok(())
    }

    pub(super) async fn close(&self) {
        let mut tasks = {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            self.stopping.send_replace(Stopping::Yes);
            std::mem::take(&mut *tasks)
        };
        let ended = tokio::time::timeout(GRACE, async { while tasks.join_next().await.is_some() {} }).await;
        if ended.is_err() {
            tracing::warn!(
                left = tasks.len(),
                "sessions did not end in time: they are cut, what is acknowledged is kept"
            );
            tasks.shutdown().await;
        }
    }

    /// A session of a node begins. Whoever had one before is told, and its uploads end. Says of which boot that was, when
    /// it was another one: two agents that live have one identity.
    pub(super) fn join(
        &self,
        node: &NodeName,
        token: SessionToken,
        boot: BootId,
        commands: mpsc::Sender<Command>,
    ) -> Result<Option<BootId>, Refusal> {
        let mut nodes = self.nodes();
        if !nodes.by_name.contains_key(node) && nodes.by_name.len() >= MAX_NODES {
            return Err(Refusal::Short("room for another node"));
        }
        let joined = Joined {
            token,
            boot,
            commands,
            alive: watch::Sender::new(()),
            uploads: Arc::new(Semaphore::new(UPLOADS_PER_SESSION)),
        };
        let known = nodes.by_name.entry(node.clone()).or_default();
        known.tests.clear();
        let before = known.link.replace(joined);
        let mut other = None;
        if let Some(before) = before {
            nodes.by_token.remove(&before.token);
            other = (before.boot != boot).then_some(before.boot);
            // Full or closed: then it finds out when it appends.
            let _ = before.commands.try_send(Command::Superseded);
        }
        nodes.by_token.insert(token, node.clone());
        Ok(other)
    }

    /// A session is over; whether it was the node's last.
    pub(super) fn leave(&self, node: &NodeName, token: SessionToken) -> Link {
        let mut nodes = self.nodes();
        nodes.by_token.remove(&token);
        match nodes.by_name.get_mut(node) {
            Some(known) if known.link.as_ref().is_some_and(|joined| joined.token == token) => {
                known.link = None;
                known.tests.clear();
                Link::Away
            }
            _ => Link::Connected,
        }
    }

    /// What a session says of its node, as long as it is the node's session.
    pub(super) fn note(&self, node: &NodeName, token: SessionToken, facts: Option<Facts>, clock: Option<ClockOffset>) {
        if let Some(known) = self.nodes().by_name.get_mut(node)
            && known.link.as_ref().is_some_and(|joined| joined.token == token)
        {
            known.facts = facts.or(known.facts.take());
            known.clock = clock.or(known.clock);
        }
    }

    pub(super) fn is_connected(&self, node: &NodeName) -> bool {
        self.nodes().by_name.get(node).is_some_and(|known| known.link.is_some())
    }

    pub(super) fn has_request(&self, node: &NodeName, request: RequestId) -> bool {
        self.nodes().by_name.get(node).is_some_and(|known| known.requests.contains_key(&request))
    }

    /// Remembers a request and has the agent asked; `false` when the node is not connected.
    pub(super) fn add_request(&self, node: &NodeName, ask: CollectionAsk, spool: Spool) -> bool {
        let mut nodes = self.nodes();
        let Some(known) = nodes.by_name.get_mut(node) else { return false };
        let Some(joined) = &known.link else { return false };
        if known.requests.contains_key(&ask.request) {
            return true;
        }
        if joined.commands.try_send(Command::Ask(Box::new(ask.clone()))).is_err() {
            return false;
        }
        known.requests.insert(ask.request, Request { ask, spool });
        true
    }

    /// Has a node test connectivity. What comes back is closed without a word when its session ends.
    pub(super) fn test(
        &self,
        node: &NodeName,
        ask: ConnectivityAsk,
    ) -> Result<oneshot::Receiver<NodeOutcome>, UntestedReason> {
        let mut nodes = self.nodes();
        let known = nodes.by_name.get_mut(node).ok_or(UntestedReason::NotConnected)?;
        let joined = known.link.as_ref().ok_or(UntestedReason::NotConnected)?;
        match known.facts.as_ref().map(|facts| facts.connectivity) {
            Some(Ability::On) => {}
            Some(Ability::Off) => return Err(UntestedReason::SwitchedOff),
            Some(Ability::Unknown) => return Err(UntestedReason::TooOld),
            // Its session is just beginning.
            None => return Err(UntestedReason::NotConnected),
        }
        let test = ask.test;
        joined.commands.try_send(Command::Test(Box::new(ask))).map_err(|_| UntestedReason::NotConnected)?;
        // Those of whom nobody waits any more are let go: there are as many as are waited for.
        known.tests.retain(|_, waiting| !waiting.is_closed());
        let (tell, told) = oneshot::channel();
        known.tests.insert(test, tell);
        Ok(told)
    }

    /// A node says how a test went, in this session of it. What nobody asked for, or waits for any more, is nobody's.
    pub(super) fn tested(&self, node: &NodeName, token: SessionToken, answer: ConnectivityAnswer) {
        let mut nodes = self.nodes();
        let Some(known) = nodes.by_name.get_mut(node) else { return };
        if known.link.as_ref().is_some_and(|joined| joined.token == token)
            && let Some(waiting) = known.tests.remove(&answer.test)
        {
            // It may have been given up meanwhile.
            let _ = waiting.send(answer.outcome);
        }
    }

    /// Forgets a request and has the agent told.
    pub(super) fn remove_request(&self, node: &NodeName, request: RequestId) -> Option<Spool> {
        let mut nodes = self.nodes();
        let known = nodes.by_name.get_mut(node)?;
        let removed = known.requests.remove(&request)?;
        if let Some(joined) = &known.link {
            // Full or closed: an agent that is not told goes on in vain until its deadline; its uploads are refused.
            let _ = joined.commands.try_send(Command::Cancel(request));
        }
        Some(removed.spool)
    }

    /// What is to be asked of a node whose session has just begun.
    pub(super) fn asks(&self, node: &NodeName) -> Vec<CollectionAsk> {
        self.nodes()
            .by_name
            .get(node)
            .map_or_else(Vec::new, |known| known.requests.values().map(|r| r.ask.clone()).collect())
    }

    /// A request is done.
    pub(super) fn finish(&self, node: &NodeName, request: RequestId) {
        if let Some(known) = self.nodes().by_name.get_mut(node) {
            known.requests.remove(&request);
        }
    }

    /// The right to upload: the token must be of a session that stands, and of this node, whose certificate the connection
    /// showed; the request must be one of its own.
    pub(super) fn ticket(
        &self,
        proven: &NodeName,
        token: SessionToken,
        request: RequestId,
    ) -> Result<UploadTicket, Refusal> {
        let nodes = self.nodes();
        let node = nodes.by_token.get(&token).filter(|node| *node == proven).ok_or(Refusal::Token)?;
        let known = nodes.by_name.get(node).ok_or(Refusal::Token)?;
        let joined = known.link.as_ref().ok_or(Refusal::Token)?;
        let spool = known.requests.get(&request).ok_or(Refusal::Request(request))?.spool.clone();
        Ok(UploadTicket {
            node: node.clone(),
            spool,
            alive: joined.alive.subscribe(),
            per_session: Arc::clone(&joined.uploads),
        })
    }

    /// Whether a request is still wanted.
    pub(super) fn wants(&self, node: &NodeName, request: RequestId) -> bool {
        self.has_request(node, request)
    }

    /// Every node that is connected or that something is held of, by how long ago its last frame came.
    pub(super) fn heard(&self) -> Heard {
        let (held, now) = (self.last_words.nodes(), self.now().boot);
        let nodes = self.nodes();
        let mut heard = Heard { sessions: nodes.by_token.len(), ..Heard::default() };
        for node in nodes.by_name.values() {
            let last = node.facts.as_ref().and_then(|facts| facts.last_frame);
            heard.count(last.map(|last| now.since(last.boot)));
        }
        // What earlier collectors heard of, and this one did not.
        heard.silent += held.iter().filter(|(name, _)| !nodes.by_name.contains_key(name)).count();
        heard
    }

    pub(super) fn nodes_status(&self) -> Vec<NodeStatus> {
        let held: BTreeMap<_, _> = self.last_words.nodes().into_iter().collect();
        let nodes = self.nodes();
        let mut names: Vec<&NodeName> = held.keys().chain(nodes.by_name.keys()).collect();
        names.sort_unstable();
        names.dedup();
        names
            .into_iter()
            .map(|name| {
                let (known, held) = (nodes.by_name.get(name), held.get(name));
                let facts = known.and_then(|n| n.facts.as_ref());
                NodeStatus {
                    node: name.clone(),
                    link: if known.is_some_and(|n| n.link.is_some()) { Link::Connected } else { Link::Away },
                    boot: facts.map(|f| f.boot).or_else(|| held.and_then(|h| h.last).map(|last| last.boot)),
                    agent_version: facts.map(|f| f.agent_version.clone()),
                    last_frame: facts.and_then(|f| f.last_frame).map(|at| at.wall),
                    clock: known.and_then(|n| n.clock),
                    last_words: held.and_then(|h| h.window),
                    last_words_bytes: held.map_or(Bytes(0), |h| h.bytes),
                    troubles: facts.map_or_else(Vec::new, |f| f.troubles.clone()),
                }
            })
            .collect()
    }

    fn nodes(&self) -> MutexGuard<'_, Nodes> {
        // Every critical section here leaves the maps whole at each step.
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
