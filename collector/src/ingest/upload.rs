//! One upload, carried out: what comes in goes to a thread that may block, which checks, writes, syncs and answers.

use std::sync::Arc;
use std::time::Duration;

use casefile_proto::ids::{NodeName, RequestId};
use casefile_proto::session::{UploadAnswer, UploadBegin, UploadPart};
use casefile_proto::wire::v1;
use tokio::sync::mpsc::{self, error::TryRecvError};
use tonic::{Status, Streaming};

use super::registry::{Registry, UploadTicket};
use super::{Ended, NodeEvent, Refusal};
use crate::chain::chain;
use crate::space::Taking;
use crate::spool::SpooledItem;
use crate::spool::receive::{Begun, Receiving};
use crate::stats::Stats;

/// The first message must come within this.
const BEGIN: Duration = Duration::from_secs(5);

/// A sender that says nothing for this long is given up. An agent that still reads sends its item piece by piece.
const STALL: Duration = Duration::from_secs(60);

/// Parts that wait for the thread that writes. When it is full nothing is read, and the agent waits.
const PARTS: usize = 4;

/// Answers that wait to be sent. When it is full the thread that writes waits.
pub(super) const ANSWERS: usize = 16;

/// Synced and acknowledged at least after this many bytes, also when pieces keep coming.
const SYNC_EVERY: u64 = 4 << 20;

pub(super) type Answers = mpsc::Sender<Result<v1::UploadResponse, Status>>;

/// The first message of an upload, with the right to it.
pub(super) async fn admit(
    registry: &Registry,
    node: &NodeName,
    inbound: &mut Streaming<v1::UploadRequest>,
) -> Result<(UploadBegin, UploadTicket), Refusal> {
    let first = tokio::time::timeout(BEGIN, inbound.message()).await;
    let message = match first {
        Ok(Ok(Some(message))) => message,
        Ok(Err(status)) => return Err(Refusal::unreadable(status).unwrap_or(Refusal::BeginFirst)),
        Ok(Ok(None)) | Err(_) => return Err(Refusal::BeginFirst),
    };
    let UploadPart::Begin(begin) = UploadPart::try_from(message)? else { return Err(Refusal::BeginFirst) };
    let ticket = registry.ticket(node, begin.token, begin.request)?;
    Ok((begin, ticket))
}

/// Carries an admitted upload out to its end.
pub(super) async fn run(
    registry: Arc<Registry>,
    begin: UploadBegin,
    ticket: UploadTicket,
    mut inbound: Streaming<v1::UploadRequest>,
    answers: Answers,
) {
    let (node, request, item) = (ticket.node.clone(), begin.request, begin.item);
    let mut alive = ticket.alive.clone();
    let result = tokio::select! {
        // It was carried out, or refused.
        result = receive(&registry, begin, &ticket, &mut inbound, &answers) => result,
        // The session that it belongs to is over. The thread that writes ends by itself when its queue is dropped.
        _ = alive.changed() => Err(Refusal::Token),
        // The collector stops.
        () = registry.stopped() => Err(Refusal::Stopping),
    };
    if let Err(refusal) = result {
        registry.config.stats.uploads_ended.of(Ended::from(&refusal)).one();
        let error = chain(&refusal);
        if refusal.is_their_fault() {
            tracing::warn!(%node, %request, %item, error, "upload refused");
        } else {
            tracing::info!(%node, %request, %item, error, "upload ended");
        }
        // An agent that is gone does not want to know.
        let _ = tokio::time::timeout(BEGIN, answers.send(Err(Status::from(&refusal)))).await;
    }
}

async fn receive(
    registry: &Registry,
    begin: UploadBegin,
    ticket: &UploadTicket,
    inbound: &mut Streaming<v1::UploadRequest>,
    answers: &Answers,
) -> Result<(), Refusal> {
    let _mine = ticket.per_session.try_acquire().map_err(|_| Refusal::Short("uploads of one session"))?;
    let _one = registry.uploads.acquire().await.map_err(|_| Refusal::Stopping)?;
    let request = begin.request;
    let (parts, queue) = mpsc::channel(PARTS);
    let (spool, to_agent, stats) = (ticket.spool.clone(), answers.clone(), Arc::clone(&registry.config.stats));
    let mut thread = tokio::task::spawn_blocking(move || match spool.begin(begin.run, begin.item, begin.head)? {
        Begun::Whole(item) => Ok((*item, Known::Before)),
        Begun::Open(receiving) => write(*receiving, queue, &to_agent, &stats).map(|item| (item, Known::Now)),
    });
    let result = tokio::select! {
        // The thread ended: the item is whole, or something of it was refused.
        result = &mut thread => result,
        // The agent broke a rule or is gone. Otherwise this goes on until all parts are handed over.
        broken = feed(registry, inbound, parts) => match broken {
            // The thread has its end, or reports that there was none.
            Ok(()) => thread.await,
            Err(refusal) => {
                // What is there is synced and kept; the agent's mistake is what is told.
                let _ = thread.await;
                return Err(refusal);
            }
        },
    };
    let (item, known) = result.map_err(|_| Refusal::Short("threads: one panicked"))??;
    complete(registry, ticket, request, item, known, answers).await
}

/// Whether an item became whole by this upload.
#[derive(PartialEq, Eq)]
enum Known {
    Before,
    Now,
}

/// Tells whoever gathers, then the agent: in this order, so that done of a collection comes after all of its items.
async fn complete(
    registry: &Registry,
    ticket: &UploadTicket,
    request: RequestId,
    item: SpooledItem,
    known: Known,
    answers: &Answers,
) -> Result<(), Refusal> {
    // The offset is what a sender that knows nothing of the item's end waits for first.
    let size = item.tail.as_ref().map_or(0, |tail| tail.size);
    if known == Known::Before {
        answer(answers, UploadAnswer::Resume(size)).await;
    }
    if registry.wants(&ticket.node, request) {
        // Nobody listening any more is fine: the spool has it.
        let _ = registry.events.send(NodeEvent::Item { node: ticket.node.clone(), request, item }).await;
    }
    answer(answers, UploadAnswer::Done).await;
    Ok(())
}

async fn answer(answers: &Answers, answer: UploadAnswer) {
    // An agent that is gone asks again.
    let _ = answers.send(Ok(answer.into())).await;
}

/// Hands parts over until the end of the item.
async fn feed(
    registry: &Registry,
    inbound: &mut Streaming<v1::UploadRequest>,
    parts: mpsc::Sender<UploadPart>,
) -> Result<(), Refusal> {
    let mut taking = registry.config.taking.clone();
    loop {
        // As long as there is no room nothing is read. An error means that nobody looks any more.
        let _ = taking.wait_for(|taking| *taking == Taking::Yes).await;
        let message = tokio::time::timeout(STALL, inbound.message()).await.map_err(|_| Refusal::Stalled)?;
        let message = match message {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(()),
            Err(status) => return Refusal::unreadable(status).map_or(Ok(()), Err),
        };
        let part = UploadPart::try_from(message)?;
        let last = match &part {
            UploadPart::Begin(_) => return Err(Refusal::BeginTwice),
            UploadPart::Piece(_) => false,
            UploadPart::End(_) => true,
        };
        // Closed: the thread has refused something, and says so itself.
        if parts.send(part).await.is_err() || last {
            return Ok(());
        }
    }
}

/// On a thread that may block: writes what comes, syncs when nothing more waits, answers what is synced.
fn write(
    mut item: Receiving,
    mut parts: mpsc::Receiver<UploadPart>,
    answers: &Answers,
    stats: &Stats,
) -> Result<SpooledItem, Refusal> {
    let say = |answer: UploadAnswer| {
        // An agent that is gone asks where to resume.
        let _ = answers.blocking_send(Ok(answer.into()));
    };
    let mut synced = item.offset();
    say(UploadAnswer::Resume(synced));
    loop {
        let part = match parts.try_recv() {
            Ok(part) => Some(part),
            Err(TryRecvError::Disconnected) => None,
            Err(TryRecvError::Empty) => {
                sync(&mut item, &mut synced, &say)?;
                parts.blocking_recv()
            }
        };
        match part {
            Some(UploadPart::Piece(piece)) => {
                let bytes = u64::from(piece.plain_len);
                let refused = item.piece(piece);
                if refused.is_ok() {
                    stats.upload_bytes.add(bytes);
                }
                if refused.is_err() || item.offset() - synced >= SYNC_EVERY {
                    sync(&mut item, &mut synced, &say)?;
                }
                refused?;
            }
            Some(UploadPart::End(tail)) => return Ok(item.end(tail)?),
            // `feed` lets no second begin through.
            Some(UploadPart::Begin(_)) => return Err(Refusal::BeginTwice),
            None => {
                sync(&mut item, &mut synced, &say)?;
                return Err(Refusal::CutShort);
            }
        }
    }
}

fn sync(item: &mut Receiving, synced: &mut u64, say: &dyn Fn(UploadAnswer)) -> Result<(), Refusal> {
    if item.offset() > *synced {
        *synced = item.sync()?;
        say(UploadAnswer::Ack(*synced));
    }
    Ok(())
}
