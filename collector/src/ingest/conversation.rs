//! One session, carried out: reads what the agent says, asks the state machine, does what it decides. Nothing is decided
//! here.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use casefile_identity::authority::Holder;
use casefile_proto::ids::{FrameSeq, NodeName};
use casefile_proto::node::Link;
use casefile_proto::session::{FromAgent, MAX_WINDOW_BATCHES, RedactionKey, SessionToken, ToAgent};
use casefile_proto::wire::v1;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::WatchStream;
use tonic::{Status, Streaming};

use super::rate::Rate;
use super::registry::{COMMANDS, Command, Registry};
use super::session::{Action, Session, SessionConfig};
use super::{Ended, NodeEvent, Refusal};
use crate::audit::{Entry, Outcome, Verb};
use crate::chain::chain;
use crate::last_words::{Records, Stored, Writer};
use crate::space::Taking;

/// Messages to the agent that wait to be sent. When it is full the session waits, for [`SEND`] at most.
pub(super) const OUTBOX: usize = 64;

/// An agent that does not read for this long is given up.
const SEND: Duration = Duration::from_secs(20);

/// How long what was appended may take to be synced when the agent has ended its side.
const LAST_SYNC: Duration = Duration::from_secs(10);

/// How long a node may go unannounced because its clock is not known yet. An agent answers the first probe at once.
pub(super) const CLOCK_WAIT: Duration = Duration::from_secs(2);

/// How often the state machine is told that time has passed, besides by what happens: there are thousands of sessions.
const TICK: Duration = Duration::from_secs(3);

/// How often lists are told what a session knows.
const NOTE: Duration = Duration::from_secs(1);

/// Whose agent is at the other end, and where that is.
pub(super) struct Agent {
    pub(super) holder: Arc<Holder>,
    pub(super) from: SocketAddr,
}

/// What is sent to the agent: messages, and at the end why.
pub(super) type Outbox = mpsc::Sender<Box<Said>>;

/// A message, or at the end why.
pub(super) type Said = Result<v1::SessionResponse, Status>;

/// One session that is being carried out.
pub(super) struct Conversation {
    registry: Arc<Registry>,
    session: Session,
    token: SessionToken,
    outbox: Outbox,
    commands: (mpsc::Sender<Command>, mpsc::Receiver<Command>),
    stored: (mpsc::Sender<Stored>, mpsc::Receiver<Stored>),
    agent: Agent,
    /// The session ends then.
    until: Instant,
    /// How fast the agent may stream.
    rate: Rate,
    /// When lists were told of it last.
    noted: Instant,
    /// The node, once it has said who it is, and the right to append to its last words.
    node: Option<(NodeName, Writer)>,
    /// The node is connected and nobody was told: until its clock is known, or until then.
    unannounced: Option<Instant>,
    /// The key with which agents replace secrets.
    redaction_key: WatchStream<RedactionKey>,
    /// Whether evidence is taken.
    taking: WatchStream<Taking>,
    /// Batches that were handed over for writing, and when: at most as many as may be in flight.
    handed_over: VecDeque<(FrameSeq, Instant)>,
}

/// How a session ended.
enum End {
    /// The agent ended it, or its connection is gone.
    Agent,
    /// We end it.
    Ours(Refusal),
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Ours(refusal)
    }
}

impl Conversation {
    pub(super) fn new(registry: Arc<Registry>, token: SessionToken, agent: Agent, outbox: Outbox) -> Self {
        let until = Instant::now() + age(&registry, &agent.holder, token);
        let redaction_key = registry.config.redaction_key.clone();
        let config = SessionConfig {
            node: agent.holder.node.clone(),
            token,
            catch_up: registry.config.catch_up,
            probe_every: registry.config.probe_every,
            redaction_key: redaction_key.borrow().clone(),
        };
        let mut session = Session::new(config, registry.now());
        let mut taking = registry.config.taking.clone();
        session.take(*taking.borrow_and_update(), registry.now());
        Self {
            session,
            token,
            agent,
            until,
            rate: Rate::new(registry.now().boot),
            noted: Instant::now(),
            outbox,
            commands: mpsc::channel(COMMANDS),
            // As many answers as batches can be in flight, so that the thread that answers never finds it full.
            stored: mpsc::channel(MAX_WINDOW_BATCHES as usize),
            node: None,
            unannounced: None,
            redaction_key: WatchStream::from_changes(redaction_key),
            taking: WatchStream::from_changes(taking),
            handed_over: VecDeque::new(),
            registry,
        }
    }

    /// Carries it out to its end.
    pub(super) async fn run(mut self, mut inbound: Streaming<v1::SessionRequest>) {
        self.registry.config.stats.sessions_started.one();
        let end = match self.converse(&mut inbound).await {
            Ok(()) => End::Agent,
            Err(end) => end,
        };
        let ended = match &end {
            End::Agent => Ended::Agent,
            End::Ours(refusal) => Ended::from(refusal),
        };
        self.registry.config.stats.sessions_ended.of(ended).one();
        // What came since it was told last.
        self.note();
        let node = self.node.take().map(|(node, _)| node);
        if let End::Ours(refusal) = &end {
            let (node, error) = (node.as_ref().map(NodeName::as_str), chain(refusal));
            if refusal.is_their_fault() {
                tracing::warn!(node, error, "session refused");
                if let Refusal::OtherNode { claimed, .. } = refusal {
                    self.record(Verb::ClaimNode, format!("node {claimed}")).await;
                }
            } else {
                tracing::info!(node, error, "session ended");
            }
            // An agent that does not read its status is gone already.
            let _ = tokio::time::timeout(SEND, self.outbox.send(Box::new(Err(Status::from(refusal))))).await;
        }
        if let Some(node) = node
            && self.registry.leave(&node, self.token) == Link::Away
        {
            tracing::info!(%node, "node disconnected");
            self.tell(NodeEvent::Disconnected { node }).await;
        }
    }

    async fn converse(&mut self, inbound: &mut Streaming<v1::SessionRequest>) -> Result<(), End> {
        let mut ticks = tokio::time::interval(TICK);
        let registry = Arc::clone(&self.registry);
        let stopped = registry.stopped();
        let aged = tokio::time::sleep_until(self.until);
        tokio::pin!(stopped, aged);
        loop {
            let held = self.rate.wait(self.registry.now().boot);
            // Every arm only takes out of a queue or a stream, so that dropping it loses nothing.
            let actions = tokio::select! {
                // Something the agent said; not read as long as too much waits to be synced, or too much came.
                message = inbound.message(), if held.is_zero() && self.session.has_room() => match message {
                    Ok(Some(message)) => {
                        let message = FromAgent::try_from(message).map_err(Refusal::from)?;
                        self.session.on(message, self.registry.now())
                    }
                    Ok(None) => return self.finish().await,
                    Err(status) => return Err(Refusal::unreadable(status).map_or(End::Agent, End::Ours)),
                },
                // It may be read again.
                () = tokio::time::sleep(held), if !held.is_zero() => Vec::new(),
                // Something was synced.
                Some(stored) = self.stored.1.recv() => self.session.stored(stored.map_err(Refusal::from)?),
                // Something is wanted of the agent.
                Some(command) = self.commands.1.recv() => self.command(command)?,
                // There is another key for secrets. Nobody makes one any more when the sender is gone.
                Some(key) = self.redaction_key.next() => self.session.redact_with(key),
                // There is room on the disk, or none any more. When nobody looks any more it stays as it is.
                Some(taking) = self.taking.next() => {
                    self.session.take(taking, self.registry.now());
                    Vec::new()
                }
                // Time passes.
                _ = ticks.tick() => {
                    let holder = &self.agent.holder;
                    if self.registry.config.revoked.covers(holder) {
                        return Err(Refusal::Revoked(holder.node.clone()).into());
                    }
                    self.session.tick(self.registry.now())
                }
                // It has lasted long enough.
                () = &mut aged => {
                    self.finish().await?;
                    return Err(Refusal::Age.into());
                }
                // The collector stops.
                () = &mut stopped => {
                    self.finish().await?;
                    return Err(Refusal::Stopping.into());
                }
            };
            self.act(actions).await?;
            self.count();
            self.note_if_due();
            self.announce().await;
        }
    }

    fn command(&mut self, command: Command) -> Result<Vec<Action>, End> {
        match command {
            Command::Ask(ask) => Ok(self.session.ask(*ask)),
            Command::Cancel(request) => Ok(self.session.cancel(request)),
            Command::Test(ask) => Ok(self.session.test(*ask)),
            Command::Superseded => Err(match &self.node {
                Some((node, _)) => Refusal::Superseded(node.clone()).into(),
                None => End::Agent,
            }),
        }
    }

    /// Nothing more is read: what was appended is still acknowledged.
    async fn finish(&mut self) -> Result<(), End> {
        let deadline = tokio::time::sleep(LAST_SYNC);
        tokio::pin!(deadline);
        while self.session.is_waiting() {
            let actions = tokio::select! {
                // Something was synced.
                Some(stored) = self.stored.1.recv() => self.session.stored(stored.map_err(Refusal::from)?),
                // The disk hangs: the agent keeps what was not acknowledged.
                () = &mut deadline => return Ok(()),
            };
            self.act(actions).await?;
        }
        Ok(())
    }

    async fn act(&mut self, actions: Vec<Action>) -> Result<(), End> {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Open(node) => actions.extend(self.open(node).await?),
                Action::Send(message) => {
                    let acked = if let ToAgent::Ack(up_to) = &message { Some(*up_to) } else { None };
                    let sent = tokio::time::timeout(SEND, self.outbox.send(Box::new(Ok(message.into())))).await;
                    match sent {
                        Ok(Ok(())) => acked.into_iter().for_each(|up_to| self.acked(up_to)),
                        // The connection is gone.
                        Ok(Err(_)) => return Err(End::Agent),
                        Err(_) => return Err(Refusal::Deaf.into()),
                    }
                }
                Action::Append { records, frames, up_to } => {
                    let Some((_, writer)) = &self.node else { continue };
                    let bytes = records.iter().map(|r| r.len()).sum::<usize>();
                    self.rate.took(bytes, self.registry.now().boot);
                    let permits = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
                    // Waits while too much waits to be synced over all sessions; the semaphore is never closed.
                    let held_back = Arc::clone(&self.registry.in_flight).acquire_many_owned(permits).await;
                    let held_back = held_back.map_err(|_| Refusal::Stopping)?;
                    let done = self.stored.0.clone();
                    self.handed_over.push_back((up_to, Instant::now()));
                    writer
                        .append(Records { bytes: records, frames }, up_to, done, held_back)
                        .await
                        .map_err(Refusal::from)?;
                }
                Action::Progress(progress) => {
                    if let Some((node, _)) = &self.node {
                        // Full: the next one says more anyway.
                        let _ = self.registry.events.try_send(NodeEvent::Progress {
                            node: node.clone(),
                            request: progress.request,
                            source: progress.source,
                            records: progress.records,
                            bytes: progress.bytes,
                        });
                    }
                }
                Action::Done(done) => {
                    if let Some((node, _)) = &self.node {
                        let (node, request) = (node.clone(), done.request);
                        self.registry.finish(&node, request);
                        let (sources, gaps) = (done.sources, done.gaps);
                        self.tell(NodeEvent::Done { node, request, sources, gaps }).await;
                    }
                }
                Action::Tested(answer) => {
                    if let Some((node, _)) = &self.node {
                        self.registry.tested(node, self.token, answer);
                    }
                }
                Action::Close(refusal) => return Err(refusal.into()),
            }
        }
        Ok(())
    }

    /// The node has said who it is.
    async fn open(&mut self, node: NodeName) -> Result<Vec<Action>, End> {
        let boot = self.session.boot();
        if let Some(other) = self.registry.join(&node, self.token, boot, self.commands.0.clone())? {
            tracing::warn!(%node, %boot, %other, "two agents of one node: the newer takes the place of the older");
            self.record(Verb::ReplaceSession, format!("boot {boot} takes the place of boot {other}")).await;
        }
        let opened = self.registry.last_words.writer(&node).await;
        let (writer, last) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.registry.leave(&node, self.token);
                return Err(Refusal::from(error).into());
            }
        };
        self.node = Some((node.clone(), writer));
        let mut actions = self.session.opened(last, self.registry.now());
        for ask in self.registry.asks(&node) {
            actions.extend(self.session.ask(ask));
        }
        self.note();
        tracing::info!(%node, have = last.map(|l| l.seq.0), "node connected");
        self.unannounced = Some(Instant::now() + CLOCK_WAIT);
        Ok(actions)
    }

    /// Tells that the node is connected, once that is of use.
    async fn announce(&mut self) {
        let (Some(until), Some((node, _))) = (self.unannounced, &self.node) else { return };
        if self.session.offset(self.registry.now().boot).is_none() && Instant::now() < until {
            return;
        }
        self.unannounced = None;
        let (node, collectable) = (node.clone(), self.session.collectable().to_vec());
        self.tell(NodeEvent::Connected { node, collectable }).await;
    }

    /// Tells the audit log.
    async fn record(&self, verb: Verb, what: String) {
        let outcome = if verb == Verb::ClaimNode { Outcome::Denied } else { Outcome::Noticed };
        let (who, from) = (format!("node {}", self.agent.holder.node), self.agent.from.to_string());
        let entry = Entry { who, from, verb, what, outcome, times: 1 };
        if let Err(error) = self.registry.config.audit.recorded(entry).await {
            tracing::error!(error = chain(&error), "what an agent did is not recorded");
        }
    }

    /// Lists are read by people: once a second is soon enough, and cheap with thousands of sessions.
    fn note_if_due(&mut self) {
        if self.noted.elapsed() >= NOTE {
            self.noted = Instant::now();
            self.note();
        }
    }

    /// An acknowledgement was sent.
    fn acked(&mut self, up_to: FrameSeq) {
        let stats = &self.registry.config.stats;
        stats.acks.one();
        while let Some((_, since)) = self.handed_over.pop_front_if(|(last, _)| *last <= up_to) {
            stats.ack_time.took(since.elapsed());
        }
    }

    /// Counts what came since it was counted last.
    fn count(&mut self) {
        let (stats, tally) = (&self.registry.config.stats, self.session.take_tally());
        stats.batches.add(tally.batches);
        stats.frames.add(tally.frames);
        stats.frame_bytes.add(tally.bytes);
        for (reason, frames) in tally.gaps {
            stats.stream_gaps.of(reason).one();
            stats.stream_frames_lost.of(reason).add(frames);
        }
    }

    fn note(&mut self) {
        self.count();
        if let Some((node, _)) = &self.node {
            let offset = self.session.offset(self.registry.now().boot);
            self.registry.note(node, self.token, self.session.facts(), offset);
        }
    }

    /// Waits until there is room, or the collector stops. Nobody listening any more is fine.
    async fn tell(&self, event: NodeEvent) {
        tokio::select! {
            // There was room; or the receiver is gone, and with it whoever wanted to know.
            _ = self.registry.events.send(event) => {}
            // The collector stops: whoever gathers reads the spools at the next start.
            () = self.registry.stopped() => {}
        }
    }
}

/// How long a session may last: not beyond its certificate, and not all of them until the same moment. The token is as
/// good as random.
fn age(registry: &Registry, holder: &Holder, token: SessionToken) -> Duration {
    let left = holder.expires.nanos_since(registry.now().wall);
    let left = Duration::from_nanos(u64::try_from(left).unwrap_or(0));
    let tenth = registry.config.session_age / 10;
    (registry.config.session_age - tenth.mul_f64(f64::from(token.0[0]) / 255.0)).min(left)
}
