//! A node that we play: it speaks the agent's protocol itself and keeps what the real programs cannot tell of each other:
//! which frames were issued, which were acknowledged, which items were taken as whole.
//!
//! It records frames at a steady pace whatever becomes of its connection, sends what the collector has not, uploads one
//! item for each request, and goes on after every cut. What was promised to it is judged at the end ([`Ledger`]).

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use casefile_evidence::archive::chunk::{Chunk, Chunker, Pack};
use casefile_evidence::recording::delta::Encoder;
use casefile_proto::connectivity::Ability;
use casefile_proto::coverage::{Cost, OutcomeCounts, SourceCoverage, SourceKind};
use casefile_proto::ids::{BootId, FrameSeq, ItemNumber, NodeName, RequestId};
use casefile_proto::item::{Digest, ItemHead, ItemKind, ItemTail};
use casefile_proto::session::{
    ClockAnswer, Collectable, CollectionAsk, CollectionDone, Ends, FrameBatch, FromAgent, Hello, PROTOCOL, Piece,
    RunId, SessionToken, ToAgent, UploadAnswer, UploadBegin, UploadPart, Welcome,
};
use casefile_proto::time::Stamp;
use casefile_proto::wire::v1;
use casefile_proto::wire::v1::agent_service_client::AgentServiceClient;
use sha2::Digest as _;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::dial::{self, Ticket};
use crate::frames::{self, Series};
use crate::random::Random;

/// What is waited for longer is a broken connection.
const ANSWER: Duration = Duration::from_secs(10);

/// A collector that says nothing for this long is gone: it probes the clock every few seconds.
const SILENCE: Duration = Duration::from_secs(20);

/// Time between two attempts.
const AGAIN: std::ops::RangeInclusive<u64> = 20..=150;

/// The most frames of one batch.
const BATCH: u64 = 200;

/// The source that the node has logs of.
const SOURCE: &str = "exam-log";

/// Plain bytes of a piece of an item.
const PIECE: usize = 12 << 10;

/// What was issued, and what the collector promised.
pub(crate) struct Ledger {
    /// The node.
    pub(crate) node: NodeName,
    /// Its boot.
    pub(crate) boot: BootId,
    /// When each frame was taken; the first is frame 1.
    pub(crate) issued: Vec<Stamp>,
    /// The last frame that was acknowledged; 0: none.
    pub(crate) acked: u64,
    /// Items that were taken as whole: path below the node, and content.
    pub(crate) whole: BTreeMap<String, Digest>,
    /// Sessions that stood.
    pub(crate) sessions: u64,
    /// Promises that were broken while it was looked.
    pub(crate) faults: Vec<String>,
    uploads: BTreeMap<RequestId, Upload>,
}

/// The one item of a request.
#[derive(Clone)]
struct Upload {
    run: RunId,
    content: Arc<Content>,
    /// Up to here pieces were acknowledged.
    acked: u64,
    whole: bool,
}

struct Content {
    head: ItemHead,
    tail: ItemTail,
    /// Each with where it begins.
    pieces: Vec<(u64, Chunk)>,
}

/// A node that is played until it is dropped.
pub(crate) struct Peer {
    ledger: Arc<Mutex<Ledger>>,
    _tasks: JoinSet<()>,
}

impl Peer {
    /// Begins to record, every so often, and to talk.
    pub(crate) fn start(ticket: Ticket, every: Duration, mut random: Random) -> Self {
        let boot = BootId::from_bytes(u128::from(random.next() | 1).to_le_bytes());
        let ledger = Arc::new(Mutex::new(Ledger {
            node: ticket.node.clone(),
            boot,
            issued: Vec::new(),
            acked: 0,
            whole: BTreeMap::new(),
            sessions: 0,
            faults: Vec::new(),
            uploads: BTreeMap::new(),
        }));
        let last = watch::Sender::new(0);
        let follow = last.subscribe();
        let mut tasks = JoinSet::new();
        tasks.spawn(record(Arc::clone(&ledger), last, every));
        tasks.spawn(talk(Arc::clone(&ledger), ticket, follow, random));
        Self { ledger, _tasks: tasks }
    }

    /// What it knows. Not to be held over an await.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }
}

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    // Each critical section leaves it whole.
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn record(ledger: Arc<Mutex<Ledger>>, last: watch::Sender<u64>, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    loop {
        ticks.tick().await;
        let mut ledger = lock(&ledger);
        ledger.issued.push(casefile_collector::clock::now());
        last.send_replace(ledger.issued.len() as u64);
    }
}

async fn talk(ledger: Arc<Mutex<Ledger>>, ticket: Ticket, last: watch::Receiver<u64>, mut random: Random) {
    loop {
        // However it ends, the next one resumes: that is what is tried.
        let _ended = session(&ledger, &ticket, last.clone(), &mut random).await;
        tokio::time::sleep(Duration::from_millis(random.between(*AGAIN.start(), *AGAIN.end()))).await;
    }
}

async fn session(
    ledger: &Arc<Mutex<Ledger>>,
    ticket: &Ticket,
    mut last: watch::Receiver<u64>,
    random: &mut Random,
) -> Result<()> {
    let (node, boot) = {
        let ledger = lock(ledger);
        (ledger.node.clone(), ledger.boot)
    };
    let mut client = dial::node(ticket).await?;
    let encoder = Encoder::new(frames::header(&node, boot));
    let (outbox, messages) = mpsc::channel::<v1::SessionRequest>(64);
    let hello = Hello {
        protocol: PROTOCOL,
        node: node.clone(),
        boot,
        agent_version: "0.1.0".to_owned(),
        clock: casefile_collector::clock::now(),
        recording_header: encoder.header().into(),
        last_seq: Some(FrameSeq(*last.borrow())).filter(|seq| seq.0 > 0),
        collectable: vec![Collectable { name: SOURCE.to_owned(), kind: SourceKind::Logs }],
        connectivity: Ability::Unknown,
    };
    outbox.send(FromAgent::Hello(hello).into()).await?;
    let call = timeout(ANSWER, client.session(ReceiverStream::new(messages))).await??;
    let mut inbound = call.into_inner();
    let welcome = welcome(&mut inbound).await?;
    let have = welcome.have.map_or(0, |seq| seq.0);
    {
        let mut ledger = lock(ledger);
        ledger.sessions += 1;
        if have < ledger.acked {
            let acked = ledger.acked;
            ledger.faults.push(format!("{node}: frame {acked} was acknowledged, and then {have} is the last it has"));
        }
        if have > ledger.issued.len() as u64 {
            let issued = ledger.issued.len();
            ledger.faults.push(format!("{node}: it has frame {have}, and {issued} were issued"));
        }
    }
    let mut link = Link {
        ledger,
        encoder,
        boot,
        next: have + 1,
        series: Series::New,
        in_flight: Vec::new(),
        window: usize::try_from(welcome.window_batches)?,
        outbox,
    };
    let mut uploads = JoinSet::new();
    last.mark_changed();
    loop {
        tokio::select! {
            // The collector said something. Dropped between two messages it loses nothing.
            message = timeout(SILENCE, inbound.message()) => {
                let Some(message) = message?? else { return Ok(()) };
                match ToAgent::try_from(message)? {
                    ToAgent::Collect(ask) => {
                        let run = RunId(random.next() | 1);
                        let work = deliver(Arc::clone(ledger), client.clone(), welcome.token, ask, run, link.outbox.clone());
                        uploads.spawn(work);
                    }
                    said => link.hear(said).await?,
                }
            }
            // There is another frame.
            changed = last.changed(), if link.has_room() => {
                changed?;
                let newest = *last.borrow_and_update();
                link.send(newest).await?;
                if newest >= link.next {
                    // More than fits now.
                    last.mark_changed();
                }
            }
            // An upload ended; one that broke is taken up by the next session.
            Some(_) = uploads.join_next() => {}
        }
    }
}

async fn welcome(inbound: &mut Streaming<v1::SessionResponse>) -> Result<Welcome> {
    let first = timeout(ANSWER, inbound.message()).await??.context("a welcome")?;
    match ToAgent::try_from(first)? {
        ToAgent::Welcome(welcome) => Ok(welcome),
        other => bail!("{other:?} came before welcome"),
    }
}

/// The frames of one session.
struct Link<'a> {
    ledger: &'a Mutex<Ledger>,
    encoder: Encoder,
    boot: BootId,
    next: u64,
    series: Series,
    in_flight: Vec<u64>,
    window: usize,
    outbox: mpsc::Sender<v1::SessionRequest>,
}

impl Link<'_> {
    fn has_room(&self) -> bool {
        self.in_flight.len() < self.window
    }

    /// Sends what is new, as one batch.
    async fn send(&mut self, newest: u64) -> Result<()> {
        let last = newest.min(self.next + BATCH - 1);
        if last < self.next {
            return Ok(());
        }
        let mut records = Vec::new();
        for seq in self.next..=last {
            let at = lock(self.ledger).issued[usize::try_from(seq - 1)?];
            self.encoder.frame(&frames::frame(self.boot, FrameSeq(seq), at, self.series), &mut records);
            self.series = Series::Known;
        }
        let batch = FrameBatch {
            first: FrameSeq(self.next),
            last: FrameSeq(last),
            records: records.into(),
            skipped: Vec::new(),
            ends: Ends::Here,
        };
        self.in_flight.push(last);
        self.next = last + 1;
        Ok(timeout(ANSWER, self.outbox.send(FromAgent::Frames(batch).into())).await??)
    }

    async fn hear(&mut self, said: ToAgent) -> Result<()> {
        match said {
            ToAgent::Ack(up_to) => {
                self.in_flight.retain(|last| *last > up_to.0);
                let mut ledger = lock(self.ledger);
                if up_to.0 >= self.next {
                    let fault = format!("{}: frame {up_to} is acknowledged and was not sent", ledger.node);
                    ledger.faults.push(fault);
                }
                ledger.acked = ledger.acked.max(up_to.0);
                Ok(())
            }
            ToAgent::Probe(token) => {
                let answer = ClockAnswer { token, clock: casefile_collector::clock::now() };
                Ok(timeout(ANSWER, self.outbox.send(FromAgent::Clock(answer).into())).await??)
            }
            ToAgent::Welcome(_) => bail!("welcome came twice"),
            ToAgent::Collect(_) | ToAgent::Cancel(_) | ToAgent::Redact(_) | ToAgent::TestConnectivity(_) => Ok(()),
        }
    }
}

/// Answers a request: uploads its item, or goes on where it was cut, and says that it is done.
async fn deliver(
    ledger: Arc<Mutex<Ledger>>,
    client: AgentServiceClient<Channel>,
    token: SessionToken,
    ask: CollectionAsk,
    run: RunId,
    outbox: mpsc::Sender<v1::SessionRequest>,
) {
    let delivered = upload(&ledger, client, token, &ask, run).await;
    if let Ok(tail) = delivered {
        let row = SourceCoverage {
            source: SOURCE.to_owned(),
            kind: SourceKind::Logs,
            asked: ask.window,
            covered: vec![ask.window],
            outcomes: OutcomeCounts::default(),
            records: tail.records,
            items: 1,
            gaps: Vec::new(),
            cost: Cost { took_nanos: 1, bytes: tail.size },
            redaction: None,
        };
        let done = CollectionDone { request: ask.request, sources: vec![row], gaps: Vec::new() };
        // The session may be over: the next one is asked again.
        let _ = outbox.send(FromAgent::Done(done).into()).await;
    }
}

async fn upload(
    ledger: &Mutex<Ledger>,
    mut client: AgentServiceClient<Channel>,
    token: SessionToken,
    ask: &CollectionAsk,
    run: RunId,
) -> Result<ItemTail> {
    let made = content(ask)?;
    let upload = {
        let mut ledger = lock(ledger);
        let fresh = Upload { run, content: Arc::new(made), acked: 0, whole: false };
        ledger.uploads.entry(ask.request).or_insert(fresh).clone()
    };
    let Content { head, tail, pieces } = &*upload.content;
    if upload.whole {
        return Ok(tail.clone());
    }
    let (parts, messages) = mpsc::channel::<v1::UploadRequest>(4);
    let begin = UploadBegin { token, request: ask.request, run: upload.run, item: ItemNumber(0), head: head.clone() };
    parts.send(UploadPart::Begin(begin).into()).await?;
    let mut answers = timeout(ANSWER, client.upload(ReceiverStream::new(messages))).await??.into_inner();
    let UploadAnswer::Resume(offset) = answer(&mut answers).await? else { bail!("no resume came first") };
    if offset < upload.acked {
        let acked = upload.acked;
        let mut ledger = lock(ledger);
        let fault = format!("{}: {} was on disk up to {acked}, and then {offset}", ledger.node, head.path);
        ledger.faults.push(fault);
    }
    let sending = async {
        for (at, chunk) in pieces.iter().filter(|(at, _)| *at >= offset) {
            let piece = Piece {
                offset: *at,
                plain_len: chunk.plain_len,
                plain_crc32: chunk.plain_crc32,
                deflated: chunk.deflated.clone().into(),
            };
            parts.send(UploadPart::Piece(piece).into()).await?;
        }
        parts.send(UploadPart::End(tail.clone()).into()).await?;
        // The call stays open until it is answered.
        std::future::pending::<Result<()>>().await
    };
    let hearing = async {
        loop {
            match answer(&mut answers).await? {
                UploadAnswer::Ack(offset) => {
                    if let Some(upload) = lock(ledger).uploads.get_mut(&ask.request) {
                        upload.acked = upload.acked.max(offset);
                    }
                }
                UploadAnswer::Done => return Ok(()),
                UploadAnswer::Resume(_) => bail!("resume came twice"),
            }
        }
    };
    tokio::select! {
        // It only returns when the connection is gone.
        sent = sending => sent?,
        // Done, or broken.
        heard = hearing => heard?,
    }
    let mut ledger = lock(ledger);
    if let Some(upload) = ledger.uploads.get_mut(&ask.request) {
        upload.whole = true;
    }
    ledger.whole.insert(head.path.to_string(), tail.sha256);
    Ok(tail.clone())
}

async fn answer(answers: &mut Streaming<v1::UploadResponse>) -> Result<UploadAnswer> {
    let message = timeout(ANSWER, answers.message()).await??.context("the call ended")?;
    Ok(UploadAnswer::try_from(message)?)
}

/// The item of a request: its name and content follow from the request's number.
fn content(ask: &CollectionAsk) -> Result<Content> {
    let mut random = Random::new(ask.request.0);
    let mut text = String::new();
    let lines = random.between(200, 3_000);
    for _ in 0..lines {
        text.push_str(&format!("{} exam: {:016x}{:016x}\n", ask.window.from(), random.next(), random.next()));
    }
    let bytes = text.into_bytes();
    let (mut pieces, mut at) = (Vec::new(), 0u64);
    for plain in bytes.chunks(PIECE) {
        let mut made = None;
        let mut chunker = Chunker::new(Pack::Deflate, |chunk| {
            made = Some(chunk);
            Ok(())
        });
        chunker.write_all(plain)?;
        chunker.finish()?;
        pieces.push((at, made.context("a chunk")?));
        at += plain.len() as u64;
    }
    ensure!(at == bytes.len() as u64, "pieces make the whole");
    let head = ItemHead {
        kind: ItemKind::Log,
        path: format!("logs/files/exam-{}.log", ask.request.0).parse()?,
        source: SOURCE.to_owned(),
        method: "made by the exam".to_owned(),
        times: None,
    };
    let tail = ItemTail {
        size: at,
        sha256: Digest(sha2::Sha256::digest(&bytes).into()),
        records: lines,
        covered: Some(ask.window),
        gaps: Vec::new(),
    };
    Ok(Content { head, tail, pieces })
}
