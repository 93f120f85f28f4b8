//! One upload of one item: begin, pieces from where the collector's disk ends, end. What to do when it fails is said by
//! how it failed; trying again is up to the caller.

use std::sync::Arc;
use std::time::Duration;

use casefile_evidence::archive::chunk::Chunk;
use casefile_proto::ids::RequestId;
use casefile_proto::session::{MAX_MESSAGE, Piece, RunId, SessionToken, UploadAnswer, UploadBegin, UploadPart};
use casefile_proto::wire::v1;
use casefile_proto::wire::v1::agent_service_client::AgentServiceClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::item::{Item, Then};

/// Messages that wait for the connection. When it is full, no more is read from the item's file.
const OUTBOX: usize = 4;

/// The collector may have to read what it has of a large item before it can say where to resume.
const ANSWER: Duration = Duration::from_secs(60);

/// An item that does not grow for this long is not kept open at the collector, which would give it up soon.
const IDLE: Duration = Duration::from_secs(30);

/// A session that stands: how to reach its collector, and what names it there.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) client: AgentServiceClient<Channel>,
    pub(super) token: SessionToken,
}

impl Link {
    pub(super) fn new(channel: Channel, token: SessionToken) -> Self {
        let client = AgentServiceClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        Self { client, token }
    }
}

/// How an upload failed.
#[derive(Debug)]
pub(super) enum Failed {
    /// The connection or the collector: try again later, what was acknowledged is kept.
    Later,
    /// The session is over: wait for the next.
    NoSession,
    /// The collector does not want the request any more.
    Gone,
    /// The budget or another limit of the collector is used up.
    Full(String),
    /// The collector refuses it, or it cannot be read here.
    Refused(String),
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        let said = || format!("{:?}: {}", status.code(), status.message());
        match status.code() {
            Code::Unauthenticated => Self::NoSession,
            Code::NotFound => Self::Gone,
            Code::ResourceExhausted => Self::Full(said()),
            Code::InvalidArgument
            | Code::OutOfRange
            | Code::DataLoss
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::PermissionDenied
            | Code::Unimplemented => Self::Refused(said()),
            // Everything else is how a connection or a collector goes away.
            _ => Self::Later,
        }
    }
}

/// Uploads what is there and what comes, to the end of the item. `acked` is raised to what the collector has on disk.
pub(super) async fn upload(
    link: &Link,
    request: RequestId,
    run: RunId,
    item: &Arc<Item>,
    acked: &mut u64,
) -> Result<(), Failed> {
    let begin = UploadBegin { token: link.token, request, run, item: item.number, head: item.head.clone() };
    let (outbox, messages) = mpsc::channel::<v1::UploadRequest>(OUTBOX);
    outbox.send(UploadPart::Begin(begin).into()).await.map_err(|_| Failed::Later)?;
    let mut client = link.client.clone();
    let call = client.upload(ReceiverStream::new(messages));
    let response = tokio::time::timeout(ANSWER, call).await.map_err(|_| Failed::Later)?;
    let mut answers = response?.into_inner();
    let offset = match answer(&mut answers).await? {
        UploadAnswer::Resume(offset) => offset,
        UploadAnswer::Ack(_) | UploadAnswer::Done => return Err(Failed::Refused("no resume came first".to_owned())),
    };
    *acked = (*acked).max(offset);
    let sending = send(item, offset, outbox);
    tokio::pin!(sending);
    let mut sent = None;
    loop {
        tokio::select! {
            // The collector said something. Dropping this between two messages loses nothing.
            said = answer(&mut answers) => match said? {
                UploadAnswer::Done => return Ok(()),
                UploadAnswer::Ack(offset) => {
                    *acked = offset;
                    // There is no end to be said of an item that was cut short: it is there when all of it is.
                    if sent == Some(Sent::Cut(offset)) {
                        return Ok(());
                    }
                }
                UploadAnswer::Resume(_) => return Err(Failed::Refused("resume came twice".to_owned())),
            },
            // Everything was handed over, or reading it failed.
            result = &mut sending, if sent.is_none() => {
                let result = result?;
                if result == Sent::Cut(*acked) {
                    return Ok(());
                }
                sent = Some(result);
            }
        }
    }
}

/// The next answer, in time.
async fn answer(answers: &mut Streaming<v1::UploadResponse>) -> Result<UploadAnswer, Failed> {
    match tokio::time::timeout(ANSWER, answers.message()).await {
        Ok(Ok(Some(message))) => UploadAnswer::try_from(message).map_err(|e| Failed::Refused(e.to_string())),
        Ok(Ok(None)) | Err(_) => Err(Failed::Later),
        Ok(Err(status)) => Err(status.into()),
    }
}

/// What was handed over.
#[derive(Debug, PartialEq)]
enum Sent {
    /// All of it with its end.
    Whole,
    /// An item that was cut short, up to here.
    Cut(u64),
}

async fn send(item: &Arc<Item>, offset: u64, outbox: mpsc::Sender<v1::UploadRequest>) -> Result<Sent, Failed> {
    let mut written = item.follow();
    let opened = Arc::clone(item);
    let mut reader = Some(blocking(move || opened.open_at(offset)).await?);
    loop {
        let there = written.borrow_and_update().clone();
        while let Some(mut from) = reader.take() {
            let at = from.offset();
            let seen = there.clone();
            let (back, chunk) = blocking(move || from.next(&seen).map(|chunk| (from, chunk))).await?;
            reader = Some(back);
            let Some(chunk) = chunk else { break };
            outbox.send(UploadPart::Piece(piece(at, chunk)).into()).await.map_err(|_| Failed::Later)?;
        }
        match there.then {
            Then::End(tail) => {
                outbox.send(UploadPart::End(tail).into()).await.map_err(|_| Failed::Later)?;
                return Ok(Sent::Whole);
            }
            Then::Cut => return Ok(Sent::Cut(there.plain)),
            Then::More => {
                let more = tokio::time::timeout(IDLE, written.changed()).await;
                more.map_err(|_| Failed::Later)?.map_err(|_| Failed::Later)?;
            }
        }
    }
}

fn piece(offset: u64, chunk: Chunk) -> Piece {
    let Chunk { plain_len, plain_crc32, deflated } = chunk;
    Piece { offset, plain_len, plain_crc32, deflated: deflated.into() }
}

/// Reads on a thread that may block.
async fn blocking<T: Send + 'static>(read: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> Result<T, Failed> {
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Failed::Refused(format!("read the item on the node: {error}"))),
        Err(panicked) => Err(Failed::Refused(format!("read the item on the node: {panicked}"))),
    }
}
