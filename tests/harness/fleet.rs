//! Thousands of agents in one process: each with a certificate of its own, a connection, a session, and a frame a second.
//!
//! They speak the real protocol over the real wire; what they record is made up once and shared, so that they cost little
//! beside the collector that they try. What each was promised (acknowledged) is kept here, outside of the collector.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use casefile_evidence::recording::Header;
use casefile_evidence::recording::delta::Encoder;
use casefile_identity::authority::Authority;
use casefile_identity::dial::{Address, Me, dial};
use casefile_proto::connectivity::Ability;
use casefile_proto::ids::{BootId, FrameSeq};
use casefile_proto::sample::{
    Frame, MetricDef, MetricIndex, MetricKind, Outcome, Reading, Sample, Schema, SeriesDef, SeriesId, SourceDef,
    SourceIndex,
};
use casefile_proto::session::{
    Buffer, ClockAnswer, CollectionDone, Ends, FrameBatch, FromAgent, Hello, PROTOCOL, ToAgent,
};
use casefile_proto::time::{BootTime, Stamp, WallTime};
use casefile_proto::units::{Scale, Unit};
use casefile_proto::wire::v1;
use casefile_proto::wire::v1::agent_service_client::AgentServiceClient;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::now;

/// Series of a simulated node: with these a frame is some 500 bytes, as that of a quiet machine is.
const SERIES: u32 = 120;

/// Of them, how many change from one frame to the next.
const CHANGING: u32 = 60;

/// The boot of every simulated agent.
pub const BOOT: BootId = BootId::from_bytes([0x5f; 16]);

/// So many nodes record for themselves, the others send what one of these recorded: keyframes come where a node has them.
const PHASES: usize = 64;

/// Connections that are being made at a time.
const DIALLING: usize = 64;

/// What is asked of a fleet.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The collector.
    pub to: Address,
    /// How many agents.
    pub nodes: usize,
    /// How many frames each sends, one a second.
    pub frames: u64,
    /// Over how much of each second the frames of all agents come: zero, and all come at once.
    pub spread: Duration,
}

/// What a fleet saw.
#[derive(Debug, Default)]
pub struct Seen {
    sent: AtomicU64,
    acked: AtomicU64,
    /// Sessions that ended though nobody wanted it, and why the last one did.
    broken: AtomicU64,
    why: Mutex<String>,
    /// When an agent was asked to collect something, and answered that it has nothing.
    asked: Mutex<Vec<Instant>>,
    /// When a frame was sent, and the microseconds until its ack.
    latencies: Mutex<Vec<(Instant, u32)>>,
}

impl Seen {
    /// Frames sent.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Frames acknowledged.
    pub fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// Sessions that ended by themselves, and why the last of them did.
    pub fn broken(&self) -> (u64, String) {
        (self.broken.load(Ordering::Relaxed), self.why.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// When agents were asked to collect something, each time.
    pub fn asked(&self) -> Vec<Instant> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// This share (0 to 1) of the frames was acknowledged within this time.
    pub fn latency(&self, share: f64) -> Duration {
        self.latency_of(share, |_| true)
    }

    /// [`Seen::latency`] of the frames that were sent at such a time.
    pub fn latency_of(&self, share: f64, of: impl Fn(Instant) -> bool) -> Duration {
        let all = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<u32> = all.iter().filter(|(sent, _)| of(*sent)).map(|(_, took)| *took).collect();
        all.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index into a list"
        )]
        let at = ((all.len() as f64 * share) as usize).min(all.len().saturating_sub(1));
        Duration::from_micros(u64::from(all.get(at).copied().unwrap_or(0)))
    }

    fn note(&self, latencies: Vec<(Instant, u32)>) {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).extend(latencies);
    }
}

/// A fleet whose sessions stand.
pub struct Fleet {
    tasks: JoinSet<Result<()>>,
    seen: Arc<Seen>,
    start: watch::Sender<Option<tokio::time::Instant>>,
}

/// The name of one simulated node.
pub fn name(number: usize) -> String {
    format!("sim-{number:05}")
}

impl Fleet {
    /// Gives every node a certificate, as if it had joined, connects it, and waits until every session stands.
    pub async fn connect(plan: &Plan, authority: &Authority) -> Result<Self> {
        let recorded: Vec<_> =
            (0..PHASES.min(plan.nodes)).map(|n| Arc::new(Recorded::new(&name(n), plan.frames))).collect();
        let seen = Arc::new(Seen::default());
        let (start, _) = watch::channel(None);
        let dialling = Arc::new(Semaphore::new(DIALLING));
        let (standing, mut stands) = mpsc::channel(1);
        let mut tasks = JoinSet::new();
        for number in 0..plan.nodes {
            let permit = Arc::clone(&dialling).acquire_owned().await.context("a place to dial")?;
            let certificate = authority.agent(&name(number).parse()?, now(), Duration::from_hours(24))?;
            let offset = plan.spread.mul_f64(f64::from(u32::try_from(number)?) / f64::from(u32::try_from(plan.nodes)?));
            let agent = Agent {
                number,
                to: plan.to.clone(),
                me: Me::Agent(certificate),
                recorded: Arc::clone(&recorded[number % recorded.len()]),
                seen: Arc::clone(&seen),
                offset,
            };
            let (standing, begins) = (standing.clone(), start.subscribe());
            tasks.spawn(async move {
                let session = agent.open().await;
                drop(permit);
                let session = session.with_context(|| format!("connect {}", name(agent.number)))?;
                standing.send(()).await.context("the fleet is gone")?;
                drop(standing);
                let went = agent.send(session, begins).await;
                if let Err(error) = &went {
                    agent.seen.broken.fetch_add(1, Ordering::Relaxed);
                    *agent.seen.why.lock().unwrap_or_else(PoisonError::into_inner) = format!("{error:#}");
                }
                went
            });
        }
        drop(standing);
        for _ in 0..plan.nodes {
            tokio::select! {
                stands = stands.recv() => stands.context("an agent could not connect")?,
                Some(ended) = tasks.join_next() => ended??,
            }
        }
        Ok(Self { tasks, seen, start })
    }

    /// What it has seen so far.
    pub fn seen(&self) -> Arc<Seen> {
        Arc::clone(&self.seen)
    }

    /// Every agent sends its frames, one a second, and waits for the last ack; whoever does not get it in time is broken.
    pub async fn run(mut self) -> Result<Arc<Seen>> {
        self.start.send_replace(Some(tokio::time::Instant::now() + Duration::from_secs(1)));
        while let Some(ended) = self.tasks.join_next().await {
            // What went wrong is counted where it happened.
            drop(ended?);
        }
        Ok(self.seen)
    }
}

/// The records that many of them send.
struct Recorded {
    schema: Arc<Schema>,
    first: WallTime,
    frames: Vec<Buffer>,
}

impl Recorded {
    /// With keyframes where this node has them.
    fn new(node: &str, frames: u64) -> Self {
        let metrics = (0..SERIES).map(|n| MetricDef {
            name: format!("node_simulated_{n}_total"),
            help: "Made up.".to_owned(),
            kind: MetricKind::Counter,
            unit: Unit::Count,
            scale: Scale::ONE,
            labels: Vec::new(),
        });
        let source = SourceDef {
            name: "simulated".to_owned(),
            about: "what a simulated agent says".to_owned(),
            every_nanos: 1_000_000_000,
            deadline_nanos: 1_000_000_000,
            metrics: metrics.collect(),
        };
        let schema = Arc::new(Schema { sources: vec![source] });
        let first = now();
        let mut encoder = Encoder::new(header(node, &schema)).spread();
        let mut values: Vec<i64> = (0..i64::from(SERIES)).map(|n| n * 1_000_003).collect();
        let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
        let frames = (1..=frames).map(|seq| {
            for value in values.iter_mut().take(CHANGING as usize) {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                *value += i64::try_from(noise % 50_000).unwrap_or(0);
            }
            let define = |n: u32| {
                (
                    SeriesId(n),
                    SeriesDef { metric: MetricIndex(u16::try_from(n).expect("few metrics")), labels: Box::new([]) },
                )
            };
            let sample = Sample {
                source: SourceIndex(0),
                outcome: Outcome::Complete,
                took_nanos: 400_000 + noise % 100_000,
                defined: if seq == 1 { (0..SERIES).map(define).collect() } else { Vec::new() },
                readings: (0..SERIES)
                    .zip(&values)
                    .map(|(n, value)| Reading { series: SeriesId(n), value: *value })
                    .collect(),
            };
            let at =
                Stamp { wall: first.after(Duration::from_secs(seq)), boot: BootTime::from_nanos(seq * 1_000_000_000) };
            let frame = Frame { boot: BOOT, seq: FrameSeq(seq), at, samples: vec![sample], events: Vec::new() };
            let mut record = Vec::new();
            encoder.frame(&frame, &mut record);
            Buffer::from(record)
        });
        Self { frames: frames.collect(), schema, first }
    }
}

fn header(node: &str, schema: &Arc<Schema>) -> Header {
    let node = node.parse().expect("a name of ours");
    Header { node, boot: BOOT, agent_version: "0.0.0".to_owned(), schema: Arc::clone(schema) }
}

/// One simulated agent.
struct Agent {
    number: usize,
    to: Address,
    me: Me,
    recorded: Arc<Recorded>,
    seen: Arc<Seen>,
    /// How long after the full second it sends.
    offset: Duration,
}

struct Session {
    to: mpsc::Sender<v1::SessionRequest>,
    from: Streaming<v1::SessionResponse>,
}

impl Agent {
    async fn open(&self) -> Result<Session> {
        let channel = dial(&self.to, &self.me, |endpoint| endpoint).await.map_err(|e| {
            let cause = std::error::Error::source(&e).map(ToString::to_string).unwrap_or_default();
            anyhow::anyhow!("{e}: {cause}")
        })?;
        let (to, messages) = mpsc::channel(8);
        let header = header(&name(self.number), &self.recorded.schema);
        let hello = Hello {
            protocol: PROTOCOL,
            node: header.node.clone(),
            boot: BOOT,
            agent_version: header.agent_version.clone(),
            clock: self.clock(),
            recording_header: Encoder::new(header).header().into(),
            last_seq: None,
            collectable: Vec::new(),
            connectivity: Ability::Unknown,
        };
        to.send(FromAgent::Hello(hello).into()).await?;
        let mut from = AgentServiceClient::new(channel).session(ReceiverStream::new(messages)).await?.into_inner();
        match from.message().await?.map(ToAgent::try_from).transpose()? {
            Some(ToAgent::Welcome(welcome)) if welcome.have.is_none() => Ok(Session { to, from }),
            other => bail!("not welcome: {other:?}"),
        }
    }

    fn clock(&self) -> Stamp {
        let wall = now();
        let passed = wall.nanos_since(self.recorded.first);
        Stamp { wall, boot: BootTime::from_nanos(u64::try_from(passed).unwrap_or(0)) }
    }

    async fn send(
        &self,
        mut session: Session,
        mut begins: watch::Receiver<Option<tokio::time::Instant>>,
    ) -> Result<()> {
        let mut start = None;
        let mut sent_at = Vec::with_capacity(self.recorded.frames.len());
        let mut acked = 0;
        let mut latencies = Vec::with_capacity(self.recorded.frames.len());
        while acked < self.recorded.frames.len() {
            let next = sent_at.len();
            let due = start.map(|start: tokio::time::Instant| {
                start + self.offset + Duration::from_secs(u64::try_from(next).unwrap_or(0))
            });
            // Once all is sent, the last ack must come within this.
            let patience = tokio::time::Instant::now() + crate::SOON;
            tokio::select! {
                said = session.from.message() => match said?.map(ToAgent::try_from).transpose()? {
                    Some(ToAgent::Ack(FrameSeq(up_to))) => {
                        let up_to = usize::try_from(up_to)?;
                        anyhow::ensure!(up_to <= sent_at.len(), "frame {up_to} was acknowledged and never sent");
                        for sent in sent_at.iter().take(up_to).skip(acked) {
                            let took: Duration = Instant::now() - *sent;
                            latencies.push((*sent, u32::try_from(took.as_micros()).unwrap_or(u32::MAX)));
                        }
                        self.seen.acked.fetch_add(u64::try_from(up_to.saturating_sub(acked))?, Ordering::Relaxed);
                        acked = acked.max(up_to);
                    }
                    Some(ToAgent::Probe(token)) => {
                        session.to.send(FromAgent::Clock(ClockAnswer { token, clock: self.clock() }).into()).await?;
                    }
                    Some(ToAgent::Collect(ask)) => {
                        self.seen.asked.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
                        let done = CollectionDone { request: ask.request, sources: Vec::new(), gaps: Vec::new() };
                        session.to.send(FromAgent::Done(done).into()).await?;
                    }
                    Some(_) => {}
                    None => bail!("the collector closed the session"),
                },
                begun = begun(&mut begins), if start.is_none() => start = Some(begun?),
                () = tokio::time::sleep_until(due.unwrap_or(patience)), if start.is_some() && next < self.recorded.frames.len() => {
                    let seq = FrameSeq(u64::try_from(next + 1)?);
                    let records = self.recorded.frames[next].clone();
                    let batch = FrameBatch { first: seq, last: seq, records, skipped: Vec::new(), ends: Ends::Here };
                    sent_at.push(Instant::now());
                    self.seen.sent.fetch_add(1, Ordering::Relaxed);
                    session.to.send(FromAgent::Frames(batch).into()).await?;
                }
                () = tokio::time::sleep_until(patience), if next == self.recorded.frames.len() => bail!("the last ack did not come"),
            }
        }
        self.seen.note(latencies);
        Ok(())
    }
}

/// When all of them begin. Keeps no guard of the channel, which must not be held across a wait.
async fn begun(begins: &mut watch::Receiver<Option<tokio::time::Instant>>) -> Result<tokio::time::Instant> {
    let begins = begins.wait_for(Option::is_some).await.context("the fleet is gone")?;
    begins.context("no time to begin at")
}
