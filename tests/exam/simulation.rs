//! Simulation: agents and a collector in one thread, with a clock and a network that the seed decides. The same seed is the same
//! run, message by message, so whatever a run finds can be looked at as often as one likes.
//!
//! What decides is the real code: on the agent the ring, the queue of newest frames, what is fetched from the ring, what goes when;
//! at the collector the session, the stores and their log. What is played is what surrounds them: the connection, the disk's
//! delay, the clock, and who is killed when.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use casefile_agent::uplink::catch_up::Wanted;
use casefile_agent::uplink::live::Live;
use casefile_agent::uplink::stream::Stream;
use casefile_collector::ingest::Refusal;
use casefile_collector::ingest::session::{Action, Session, SessionConfig};
use casefile_evidence::recording::delta::Encoder;
use casefile_evidence::recording::segment::{Retention, Store};
use casefile_evidence::recording::wal::Wal;
use casefile_proto::connectivity::Ability;
use casefile_proto::ids::{BootId, FrameSeq, NodeName};
use casefile_proto::session::{ClockAnswer, FromAgent, Hello, PROTOCOL, RedactionKey, SessionToken, ToAgent};
use casefile_proto::time::{BootTime, Stamp, WallTime};
use casefile_proto::units::Bytes;
use casefile_proto::wire::v1;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::frames::{self, Series};
use crate::item::{Ask, Item};
use crate::random::Random;
use crate::recorded::Recorded;
use crate::report::Findings;

/// The item.
pub(crate) const ITEM: Item = Item {
    name: "simulation",
    proves: "Agents and collector, simulated under one seed, lose nothing acknowledged and declare every hole; a seed replays",
    counts: "runs, each of ten simulated minutes",
    short: 15,
    full: 3_000,
    needs: &[],
    run: run_item,
};

/// Steps of a run with faults, and how many more it may take until everything is where it belongs.
const STEPS: u64 = 6_000;
const PATIENCE: u64 = 3_000;

/// Simulated time of a step; an agent records a frame every ten.
const STEP: u64 = 100_000_000;
const A_FRAME: u64 = 10;

const NODES: usize = 3;

/// Older frames are not wanted any more: some outages are longer.
const CATCH_UP: Duration = Duration::from_secs(60);

const KEEP: Retention = Retention { bytes: Bytes::mib(64), age: Duration::from_secs(1 << 20) };

/// Answers of the ring that wait: all of them, as nobody takes any while it is read.
const FETCHED: usize = 1 << 14;

/// When it begins, in seconds.
const EPOCH: i64 = 1_795_000_000;

/// What happened in a run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    frames: u64,
    acked: u64,
    declared: u64,
    sessions: u64,
    cuts: u64,
    agents_killed: u64,
    reboots: u64,
    collectors_killed: u64,
    /// Of everything that was said, in order.
    trace: u64,
}

fn run_item(ask: &Ask) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut all = Seen::default();
    for number in 0..ask.times {
        let seed = ask.seed.wrapping_add(number);
        match simulate(seed) {
            Ok(seen) => {
                if number == 0 {
                    let again = simulate(seed)?;
                    findings.require(again == seen, || format!("seed {seed} is another run the second time"));
                }
                all.frames += seen.frames;
                all.acked += seen.acked;
                all.declared += seen.declared;
                all.sessions += seen.sessions;
                all.cuts += seen.cuts;
                all.agents_killed += seen.agents_killed;
                all.reboots += seen.reboots;
                all.collectors_killed += seen.collectors_killed;
            }
            Err(error) => findings.fault(format!("simulation --times 1 --seed {seed}: {error:#}")),
        }
    }
    findings.figure("frames recorded", all.frames);
    findings.figure("frames acknowledged", all.acked);
    findings.figure("frames declared missing: an outage was too long", all.declared);
    findings.figure("sessions that stood", all.sessions);
    findings.figure("connections cut", all.cuts);
    findings.figure("agents killed", all.agents_killed);
    findings.figure("nodes rebooted", all.reboots);
    findings.figure("collectors killed", all.collectors_killed);
    Ok(findings)
}

fn simulate(seed: u64) -> Result<Seen> {
    let dir = tempfile::tempdir()?;
    let mut world = World::new(dir.path(), seed)?;
    for _ in 0..STEPS {
        world.faults()?;
        world.step(Recording::Goes)?;
    }
    world.heal();
    for _ in 0..PATIENCE {
        if world.is_quiet() {
            return world.judge();
        }
        world.step(Recording::Stands)?;
    }
    bail!("it does not come to rest")
}

/// Whether agents record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Recording {
    Goes,
    Stands,
}

struct World {
    random: Random,
    step: u64,
    nodes: Vec<Node>,
    /// The collector's; `None`: it is down until then.
    wal: Option<Wal>,
    back: u64,
    dir: PathBuf,
    /// Reads what the ring gives.
    runtime: Runtime,
    seen: Seen,
    trace: DefaultHasher,
}

struct Node {
    name: NodeName,
    ring_dir: PathBuf,
    boots: u8,
    /// `None`: it is down until then.
    agent: Option<Agent>,
    back: u64,
    link: Option<Link>,
    /// No connection before then.
    cut_until: u64,
    /// The collector's.
    store: Option<Store>,
    recorded: BTreeMap<(BootId, FrameSeq), WallTime>,
    acked: BTreeMap<BootId, FrameSeq>,
}

struct Agent {
    ring: Store,
    encoder: Encoder,
    live: Live,
    boot: BootId,
    next: FrameSeq,
    series: Series,
    stream: Option<Stream>,
}

/// A connection, with what is on its way, and the collector's end.
struct Link {
    up: VecDeque<(u64, FromAgent)>,
    down: VecDeque<(u64, ToAgent)>,
    session: Session,
    /// Appended, not synced.
    waiting: Vec<FrameSeq>,
    stalled_until: u64,
}

impl World {
    fn new(dir: &Path, seed: u64) -> Result<Self> {
        let mut world = Self {
            random: Random::new(seed),
            step: 0,
            nodes: Vec::new(),
            wal: None,
            back: 0,
            dir: dir.to_owned(),
            runtime: tokio::runtime::Builder::new_current_thread().build()?,
            seen: Seen::default(),
            trace: DefaultHasher::new(),
        };
        for number in 1..=NODES {
            world.nodes.push(Node {
                name: format!("node-{number}").parse()?,
                ring_dir: dir.join(format!("ring-{number}")),
                boots: 1,
                agent: None,
                back: 0,
                link: None,
                cut_until: 0,
                store: None,
                recorded: BTreeMap::new(),
                acked: BTreeMap::new(),
            });
        }
        Ok(world)
    }

    fn now(&self) -> Stamp {
        let nanos = self.step * STEP;
        let wall = WallTime::from_secs(EPOCH).after(Duration::from_nanos(nanos));
        Stamp { wall, boot: BootTime::from_nanos(nanos) }
    }

    fn per_mille(&mut self, chance: u64) -> bool {
        self.random.below(1_000) < chance
    }

    /// What goes wrong in this step.
    fn faults(&mut self) -> Result<()> {
        for at in 0..self.nodes.len() {
            if self.per_mille(4) {
                let outage =
                    if self.random.percent(15) { self.random.between(600, 1_500) } else { self.random.below(60) };
                self.nodes[at].cut(self.step + outage);
                self.seen.cuts += 1;
            }
            if self.per_mille(5) {
                let until = self.step + self.random.below(80);
                if let Some(link) = &mut self.nodes[at].link {
                    link.stalled_until = until;
                }
            }
            if self.nodes[at].agent.is_some() && self.per_mille(2) {
                let back = self.step + self.random.below(50);
                let node = &mut self.nodes[at];
                node.cut(self.step);
                (node.agent, node.back) = (None, back);
                self.seen.agents_killed += 1;
                if self.random.percent(25) {
                    self.nodes[at].boots += 1;
                    self.seen.reboots += 1;
                }
            }
        }
        if self.wal.is_some() && self.per_mille(2) {
            let outage = if self.random.percent(20) { self.random.between(300, 900) } else { self.random.below(60) };
            self.nodes.iter_mut().for_each(|node| {
                node.cut(0);
                node.store = None;
            });
            // What it had not committed is gone with it.
            (self.wal, self.back) = (None, self.step + outage);
            self.seen.collectors_killed += 1;
        }
        Ok(())
    }

    /// Nothing goes wrong any more.
    fn heal(&mut self) {
        self.back = 0;
        for node in &mut self.nodes {
            (node.back, node.cut_until) = (0, 0);
            if let Some(link) = &mut node.link {
                link.stalled_until = 0;
            }
        }
    }

    fn step(&mut self, recording: Recording) -> Result<()> {
        self.step += 1;
        if self.wal.is_none() && self.back <= self.step {
            let wal = Wal::open(&self.dir.join("log"), &self.dir.join("stores"), 1)?.pop();
            self.wal = wal;
        }
        for at in 0..self.nodes.len() {
            self.agent(at, recording)?;
            self.connect(at)?;
            self.deliver(at)?;
            self.send(at)?;
        }
        if self.random.percent(50) {
            self.commit()?;
        }
        Ok(())
    }

    /// The agent starts, or records a frame.
    fn agent(&mut self, at: usize, recording: Recording) -> Result<()> {
        let (now, step) = (self.now(), self.step);
        let node = &mut self.nodes[at];
        if node.agent.is_none() && node.back <= step {
            node.agent = Some(Agent::start(node)?);
        }
        let Some(agent) = &mut node.agent else { return Ok(()) };
        // Not all of them in the same step.
        if recording == Recording::Goes && (step + at as u64).is_multiple_of(A_FRAME) {
            let frame = frames::frame(agent.boot, agent.next, now, agent.series);
            let mut record = Vec::new();
            agent.encoder.frame(&frame, &mut record);
            agent.ring.append(&record)?;
            agent.live.push(&frame);
            node.recorded.insert((agent.boot, agent.next), now.wall);
            (agent.next, agent.series) = (agent.next.next(), Series::Known);
            self.seen.frames += 1;
        }
        Ok(())
    }

    /// The agent dials.
    fn connect(&mut self, at: usize) -> Result<()> {
        let now = self.now();
        let dials = self.wal.is_some() && self.random.percent(20);
        let step = self.step;
        let node = &mut self.nodes[at];
        let Some(agent) = node.agent.as_ref().filter(|_| dials && node.link.is_none() && node.cut_until <= step) else {
            return Ok(());
        };
        let header = frames::header(&node.name, agent.boot);
        let hello = Hello {
            protocol: PROTOCOL,
            node: node.name.clone(),
            boot: agent.boot,
            agent_version: header.agent_version.clone(),
            clock: now,
            recording_header: Encoder::new(header).header().into(),
            last_seq: agent.live.last(),
            collectable: Vec::new(),
            connectivity: Ability::Unknown,
        };
        let config = SessionConfig {
            node: node.name.clone(),
            token: SessionToken([1; 16]),
            catch_up: CATCH_UP,
            probe_every: Duration::from_secs(10),
            redaction_key: RedactionKey([1; 32]),
        };
        let session = Session::new(config, now);
        node.link =
            Some(Link { up: VecDeque::new(), down: VecDeque::new(), session, waiting: Vec::new(), stalled_until: 0 });
        self.say(at, FromAgent::Hello(hello))
    }

    /// Puts a message of the agent on its way.
    fn say(&mut self, at: usize, message: FromAgent) -> Result<()> {
        let arrives = self.step + self.random.below(6);
        let Some(link) = &mut self.nodes[at].link else { return Ok(()) };
        // As it goes over the wire.
        let message = FromAgent::try_from(v1::SessionRequest::from(message)).context("a message of the agent")?;
        link.up.push_back((arrives, message));
        Ok(())
    }

    /// What has arrived is heard.
    fn deliver(&mut self, at: usize) -> Result<()> {
        let (now, step) = (self.now(), self.step);
        while let Some(link) = &mut self.nodes[at].link
            && link.stalled_until <= step
            && link.session.has_room()
            && link.up.front().is_some_and(|(arrives, _)| *arrives <= step)
            && let Some((_, message)) = link.up.pop_front()
        {
            format!("{step} {at} {message:?}").hash(&mut self.trace);
            let actions = link.session.on(message, now);
            self.act(at, actions)?;
        }
        if step.is_multiple_of(30)
            && let Some(link) = &mut self.nodes[at].link
        {
            let actions = link.session.tick(now);
            self.act(at, actions)?;
        }
        while let Some(link) = &mut self.nodes[at].link
            && link.stalled_until <= step
            && link.down.front().is_some_and(|(arrives, _)| *arrives <= step)
            && let Some((_, message)) = link.down.pop_front()
        {
            format!("{step} {at} {message:?}").hash(&mut self.trace);
            self.hear(at, message)?;
        }
        Ok(())
    }

    /// What the session at the collector wants done.
    fn act(&mut self, at: usize, actions: Vec<Action>) -> Result<()> {
        let now = self.now();
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            let arrives = self.step + self.random.below(6);
            match action {
                Action::Open(_) => {
                    // What was appended before counts in what is there.
                    self.commit()?;
                    let wal = self.wal.as_ref().context("a collector that runs")?;
                    let node = &mut self.nodes[at];
                    if node.store.is_none() {
                        let dir = self.dir.join("stores").join((at + 1).to_string());
                        node.store = Some(Store::open_logged(&dir, KEEP, wal)?);
                    }
                    let last = node.store.as_ref().and_then(Store::last);
                    let link = node.link.as_mut().context("a connection")?;
                    actions.extend(link.session.opened(last, now));
                }
                Action::Send(message) => {
                    let link = self.nodes[at].link.as_mut().context("a connection")?;
                    let wire = v1::SessionResponse::from(message);
                    link.down.push_back((arrives, ToAgent::try_from(wire).context("a message of the collector")?));
                }
                Action::Append { records, frames, up_to } => {
                    let node = &mut self.nodes[at];
                    let store = node.store.as_mut().context("a store")?;
                    let mut frames = &frames[..];
                    for records in &records {
                        let taken = store.append_skimmed(records, frames)?;
                        frames = &frames[taken..];
                    }
                    node.link.as_mut().context("a connection")?.waiting.push(up_to);
                }
                // A connection stalled for longer than anybody waits: it is given up, and dialled anew.
                Action::Close(Refusal::HelloFirst | Refusal::Silent) => {
                    self.nodes[at].cut(self.step);
                    self.seen.cuts += 1;
                    return Ok(());
                }
                Action::Close(refusal) => bail!("an honest agent is refused: {refusal}"),
                Action::Progress(_) | Action::Done(_) | Action::Tested(_) => bail!("an answer to what nobody asked"),
            }
        }
        Ok(())
    }

    /// The collector's disk has everything.
    fn commit(&mut self) -> Result<()> {
        let Some(wal) = &self.wal else { return Ok(()) };
        wal.commit()?;
        for at in 0..self.nodes.len() {
            let node = &mut self.nodes[at];
            if let Some(store) = &mut node.store {
                store.sync()?;
            }
            let Some(link) = &mut node.link else { continue };
            let mut actions = Vec::new();
            for up_to in std::mem::take(&mut link.waiting) {
                actions.extend(link.session.stored(up_to));
            }
            self.act(at, actions)?;
        }
        Ok(())
    }

    /// The agent hears the collector.
    fn hear(&mut self, at: usize, message: ToAgent) -> Result<()> {
        let now = self.now();
        let node = &mut self.nodes[at];
        let Some(agent) = &mut node.agent else { return Ok(()) };
        match message {
            ToAgent::Welcome(welcome) => {
                self.seen.sessions += 1;
                let (mut stream, wanted) = Stream::begin(agent.live.clone(), node.ring_dir.clone(), &welcome, now.wall);
                fetch(&mut stream, wanted);
                agent.stream = Some(stream);
            }
            ToAgent::Ack(up_to) => {
                if let Some(stream) = &mut agent.stream {
                    stream.acked(up_to);
                }
                let before = node.acked.entry(agent.boot).or_insert(FrameSeq(0));
                *before = up_to.max(*before);
            }
            ToAgent::Probe(token) => {
                self.say(at, FromAgent::Clock(ClockAnswer { token, clock: now }))?;
            }
            ToAgent::Collect(_) | ToAgent::Cancel(_) | ToAgent::Redact(_) | ToAgent::TestConnectivity(_) => {
                bail!("nobody asked for anything")
            }
        }
        Ok(())
    }

    /// The agent sends what may be sent.
    fn send(&mut self, at: usize) -> Result<()> {
        let now = self.now();
        let mut batches = Vec::new();
        if let Some(stream) = self.nodes[at].agent.as_mut().and_then(|agent| agent.stream.as_mut()) {
            loop {
                let wanted = stream.take_live(now.wall);
                fetch(stream, wanted);
                if !stream.wants_fetched() {
                    break;
                }
                let fetched = self.runtime.block_on(stream.fetched());
                stream.take_fetched(fetched);
            }
            batches.extend(std::iter::from_fn(|| stream.take()));
        }
        batches.into_iter().try_for_each(|batch| self.say(at, FromAgent::Frames(batch)))
    }

    /// Whether everything that was recorded has been acknowledged.
    fn is_quiet(&self) -> bool {
        self.nodes.iter().all(|node| {
            let last = node.agent.as_ref().and_then(|agent| agent.live.last().map(|last| (agent.boot, last)));
            let held = node.store.as_ref().and_then(Store::last).map(|last| (last.boot, last.seq));
            let done = node.agent.as_ref().and_then(|agent| agent.stream.as_ref()).is_some_and(Stream::is_done);
            done && (last.is_none() || last == held)
        })
    }

    /// Nothing that was acknowledged is missing, nothing is there twice, and every hole is declared.
    fn judge(mut self) -> Result<Seen> {
        for (number, node) in (1..).zip(&self.nodes) {
            let read = Recorded::checked(&self.dir.join("stores").join(number.to_string()), &mut frames::check)?;
            if let Some(fault) = read.faults.first() {
                bail!("{}: {fault}", node.name);
            }
            for (key, held) in &read.frames {
                if node.recorded.get(key) != Some(&held.wall) {
                    bail!("{}: frame {} is there and was not recorded so", node.name, key.1);
                }
            }
            for (boot, acked) in &node.acked {
                let sent = node.recorded.range((*boot, FrameSeq::FIRST)..=(*boot, *acked));
                for ((_, seq), _) in sent {
                    self.seen.acked += 1;
                    if read.frames.contains_key(&(*boot, *seq)) {
                        continue;
                    }
                    if !read.declares(*boot, *seq) {
                        bail!("{}: frame {seq} of what was acknowledged is neither there nor declared", node.name);
                    }
                    self.seen.declared += 1;
                }
            }
        }
        self.seen.trace = self.trace.finish();
        Ok(self.seen)
    }
}

/// Reads the ring to the end, at once: what is read when is decided here and by no thread.
fn fetch(stream: &mut Stream, wanted: Option<Wanted>) {
    if let Some(wanted) = wanted {
        let (out, fetched) = mpsc::channel(FETCHED);
        wanted.fetch(out);
        stream.fetched_from(fetched);
    }
}

impl Node {
    /// The connection breaks: what was on its way is lost.
    fn cut(&mut self, until: u64) {
        self.link = None;
        self.cut_until = self.cut_until.max(until);
        if let Some(agent) = &mut self.agent {
            agent.stream = None;
            agent.live.unfollow();
        }
    }
}

impl Agent {
    fn start(node: &Node) -> Result<Self> {
        let boot = BootId::from_bytes([node.boots; 16]);
        let header = frames::header(&node.name, boot);
        let mut ring = Store::open(&node.ring_dir, KEEP)?;
        let last = ring.last().filter(|last| last.boot == boot).map(|last| last.seq);
        let encoder = Encoder::new(header.clone());
        ring.append(&encoder.header())?;
        Ok(Self {
            ring,
            encoder,
            live: Live::new(header, last),
            boot,
            next: last.map_or(FrameSeq::FIRST, FrameSeq::next),
            series: Series::New,
            stream: None,
        })
    }
}
