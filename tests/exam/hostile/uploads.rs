//! Uploads that nobody asked for, that go where they must not, that lie about their content, or that do not end.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use casefile_evidence::archive::chunk::{Chunk, Chunker, Pack};
use casefile_proto::ids::{NodeName, RequestId};
use casefile_proto::session::{CollectionDone, FromAgent, SessionToken};
use casefile_proto::wire::v1;
use casefile_proto::wire::v1::agent_service_client::AgentServiceClient;
use casefile_proto::wire::v1::upload_request::Message;
use sha2::Digest as _;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::transport::Channel;

use super::case::{Answer, Case, PATIENCE, Site, Variant};
use super::raw::by;
use super::speaker::{Speaker, boot};

/// What is uploaded where it does not matter. No archive may hold it.
const CONTENT: &[u8] = b"hostile content that nobody may find";

/// How long a collection that an attacker answers is waited for.
const DEADLINE: Duration = Duration::from_secs(20);

/// The same, where a whole round needs it.
const SHARED: Duration = Duration::from_secs(90);

/// The run of an attacker's upload.
const RUN: u64 = 9;

pub(super) const ALL: &[Variant] = &[
    Variant {
        name: "an upload that nobody asked for",
        tried: |c| {
            Box::pin(async move {
                let (me, welcome) = Speaker::stand(&c.site, &c.node()?, boot(2)).await?;
                Ok(upload(me.stub(), whole(welcome.token, RequestId(999), CONTENT)?).await)
            })
        },
    },
    Variant {
        name: "the path ../../etc/passwd",
        tried: |c| Box::pin(async move { path(&c, "../../etc/passwd").await }),
    },
    Variant { name: "the path /etc/passwd", tried: |c| Box::pin(async move { path(&c, "/etc/passwd").await }) },
    Variant { name: "the path logs/../../x", tried: |c| Box::pin(async move { path(&c, "logs/../../x").await }) },
    Variant { name: "the path logs//x", tried: |c| Box::pin(async move { path(&c, "logs//x").await }) },
    Variant { name: "the path logs\\..\\x", tried: |c| Box::pin(async move { path(&c, "logs\\..\\x").await }) },
    Variant { name: "a path with NUL", tried: |c| Box::pin(async move { path(&c, "logs/files/a\0.log").await }) },
    Variant {
        name: "a path with a line end",
        tried: |c| Box::pin(async move { path(&c, "logs/files/a\n.log").await }),
    },
    Variant { name: "no path", tried: |c| Box::pin(async move { path(&c, "").await }) },
    Variant {
        name: "a path of 5,000 letters",
        tried: |c| Box::pin(async move { path(&c, &"a/".repeat(2_500)).await }),
    },
    Variant {
        name: "a path in letters that look like others",
        tried: |c| Box::pin(async move { path(&c, "logs/files/\u{430}.log").await }),
    },
    Variant {
        name: "a path that reads backwards",
        tried: |c| Box::pin(async move { path(&c, "logs/\u{202e}gol.a").await }),
    },
    Variant { name: "an item of no kind", tried: |c| Box::pin(async move { begun(&c, |begin| begin.kind = 0).await }) },
    Variant {
        name: "an item of a kind that nobody knows",
        tried: |c| Box::pin(async move { begun(&c, |begin| begin.kind = 77).await }),
    },
    Variant { name: "run 0", tried: |c| Box::pin(async move { begun(&c, |begin| begin.run = 0).await }) },
    Variant {
        name: "item 4294967295",
        tried: |c| Box::pin(async move { begun(&c, |begin| begin.item = u32::MAX).await }),
    },
    Variant {
        name: "a source of 100 KiB",
        tried: |c| Box::pin(async move { begun(&c, |begin| begin.source = "s".repeat(100 << 10)).await }),
    },
    Variant {
        name: "a chunk that is longer than it says",
        tried: |c| Box::pin(async move { chunk(&c, |chunk| chunk.plain_len -= 1).await }),
    },
    Variant {
        name: "a chunk that is shorter than it says",
        tried: |c| Box::pin(async move { chunk(&c, |chunk| chunk.plain_len += 1).await }),
    },
    Variant {
        name: "a chunk of no bytes",
        tried: |c| Box::pin(async move { chunk(&c, |chunk| chunk.plain_len = 0).await }),
    },
    Variant {
        name: "a chunk of 4 GiB",
        tried: |c| Box::pin(async move { chunk(&c, |chunk| chunk.plain_len = u32::MAX).await }),
    },
    Variant {
        name: "a chunk that is a bomb",
        tried: |c| {
            Box::pin(async move {
                let bomb = zeros(64 << 20)?;
                chunk(&c, |chunk| chunk.deflated = bomb.into()).await
            })
        },
    },
    Variant {
        name: "a wrong checksum",
        tried: |c| Box::pin(async move { chunk(&c, |chunk| chunk.plain_crc32 ^= 1).await }),
    },
    Variant { name: "a wrong offset", tried: |c| Box::pin(async move { chunk(&c, |chunk| chunk.offset = 1).await }) },
    Variant {
        name: "the last offset that there can be",
        tried: |c| Box::pin(async move { chunk(&c, |chunk| chunk.offset = u64::MAX).await }),
    },
    Variant {
        name: "noise for compressed bytes",
        tried: |c| Box::pin(async move { chunk(&c, |chunk| chunk.deflated = vec![7; 4_000].into()).await }),
    },
    Variant {
        name: "a wrong digest at the end",
        tried: |c| {
            Box::pin(async move {
                tail(&c, |end| {
                    let mut digest = end.sha256.to_vec();
                    digest.reverse();
                    end.sha256 = digest;
                })
                .await
            })
        },
    },
    Variant {
        name: "a wrong size at the end",
        tried: |c| Box::pin(async move { tail(&c, |end| end.size += 1).await }),
    },
    Variant {
        name: "a digest of 31 bytes",
        tried: |c| Box::pin(async move { tail(&c, |end| end.sha256 = vec![0; 31]).await }),
    },
    Variant {
        name: "a chunk before begin",
        tried: |c| Box::pin(async move { c.shared.upload(vec![part(Message::Chunk(piece(0, CONTENT)?))]).await }),
    },
    Variant {
        name: "the end before begin",
        tried: |c| Box::pin(async move { c.shared.upload(vec![part(Message::End(end(CONTENT)))]).await }),
    },
    Variant {
        name: "an upload without a message",
        tried: |c| Box::pin(async move { c.shared.upload(vec![v1::UploadRequest { message: None }]).await }),
    },
    Variant {
        name: "begin twice",
        tried: |c| {
            Box::pin(async move {
                let (me, token, request) = collected(&c.site, &c.node()?).await?;
                Ok(upload(me.stub(), vec![begin(token, request, 0), begin(token, request, 0)]).await)
            })
        },
    },
    Variant {
        name: "an item that is another one the second time",
        tried: |c| {
            Box::pin(async move {
                let (me, token, request) = collected(&c.site, &c.node()?).await?;
                drop(upload(me.stub(), vec![begin(token, request, 0), part(Message::Chunk(piece(0, CONTENT)?))]).await);
                let mut other = raw_begin(token, request);
                other.path = "logs/files/another.log".to_owned();
                Ok(upload(me.stub(), vec![part(Message::Begin(other))]).await)
            })
        },
    },
    Variant {
        name: "20 runs of one request",
        tried: |c| {
            Box::pin(async move {
                let (me, token, request) = collected(&c.site, &c.node()?).await?;
                let mut last = Answer::accepted("nothing was tried");
                for run in 1..=20 {
                    let begin = v1::UploadBegin { run, ..raw_begin(token, request) };
                    last = upload(me.stub(), vec![part(Message::Begin(begin))]).await;
                }
                // A run that is cut short is ended as such: only one that is too many is refused as that.
                Ok(match last {
                    Answer::Refused(how) if how == "ResourceExhausted" => Answer::Refused(how),
                    other => Answer::accepted(format!("the last one: {other:?}")),
                })
            })
        },
    },
    Variant {
        name: "an older upload of an item goes on beside a newer one",
        tried: |c| {
            Box::pin(async move {
                let (me, token, request) = collected(&c.site, &c.node()?).await?;
                let (to, parts) = mpsc::channel(4);
                to.send(begin(token, request, 0)).await?;
                let stream = tokio_stream::wrappers::ReceiverStream::new(parts);
                let mut older = me.stub().upload(stream).await?.into_inner();
                older.message().await?.context("where to resume")?;
                drop(upload(me.stub(), vec![begin(token, request, 0)]).await);
                to.send(part(Message::Chunk(piece(0, CONTENT)?))).await?;
                to.send(part(Message::End(end(CONTENT)))).await?;
                Ok(heard(&mut older).await)
            })
        },
    },
];

impl Site {
    /// Opens an incident about this node, now.
    async fn open_incident(&self, node: &NodeName, deadline: Duration) -> Result<()> {
        let mut client = crate::dial::person(&self.door).await?;
        let window = crate::incidents::the_last(Duration::from_secs(2))?;
        client.open(window, &[node.as_str()], deadline).await.context("open an incident")?;
        Ok(())
    }

    /// What the collector shows of the incidents about this node, as text.
    pub(super) async fn progress_of(&self, node: &NodeName) -> Result<String> {
        let mut client = v1::incident_service_client::IncidentServiceClient::new(self.as_owner().await?);
        let listed = client.list_incidents(v1::ListIncidentsRequest::default()).await?.into_inner();
        let mut text = String::new();
        for incident in listed.incidents {
            let ask = v1::GetIncidentRequest { incident: incident.name };
            let detail = format!("{:?}", client.get_incident(ask).await?.into_inner());
            if detail.contains(node.as_str()) {
                text.push_str(&detail);
            }
        }
        Ok(text)
    }
}

/// One session that was asked to collect, for all uploads of a round that need nothing of their own: an incident for
/// each would be the owner's load, not the attackers'.
pub(super) struct Shared {
    stub: AgentServiceClient<Channel>,
    token: SessionToken,
    request: RequestId,
    /// A session may have six uploads: one that finds no room is not refused for what it is.
    room: Semaphore,
    to: mpsc::Sender<v1::SessionRequest>,
    _session: JoinSet<()>,
}

impl Shared {
    /// For this round.
    pub(super) async fn new(site: &Arc<Site>, round: u64) -> Result<Self> {
        let node = format!("bad-{round}-shared").parse()?;
        let (speaker, token, request) = collected_for(site, &node, SHARED).await?;
        let (stub, to) = (speaker.stub(), speaker.sender());
        let mut session = JoinSet::new();
        session.spawn(speaker.stay());
        Ok(Self { stub, token, request, room: Semaphore::new(4), to, _session: session })
    }

    /// The round is over: its incident need not wait any more.
    pub(super) async fn done(&self) -> Result<()> {
        let done = CollectionDone { request: self.request, sources: Vec::new(), gaps: Vec::new() };
        Ok(timeout(PATIENCE, self.to.send(FromAgent::Done(done).into())).await??)
    }

    /// Uploads these parts, made for this item.
    async fn upload(&self, parts: Vec<v1::UploadRequest>) -> Result<Answer> {
        let _room = self.room.acquire().await?;
        Ok(upload(self.stub.clone(), parts).await)
    }

    fn begin(&self, case: &Case) -> v1::UploadBegin {
        let item = u32::try_from(case.number).unwrap_or(u32::MAX);
        v1::UploadBegin { item, ..raw_begin(self.token, self.request) }
    }
}

/// A session of this node that was asked to collect: its token, and the request.
pub(super) async fn collected(site: &Arc<Site>, node: &NodeName) -> Result<(Speaker, SessionToken, RequestId)> {
    collected_for(site, node, DEADLINE).await
}

async fn collected_for(
    site: &Arc<Site>,
    node: &NodeName,
    deadline: Duration,
) -> Result<(Speaker, SessionToken, RequestId)> {
    let (mut speaker, welcome) = Speaker::stand(site, node, boot(1)).await?;
    speaker.frames(1).await?;
    site.open_incident(node, deadline).await?;
    let ask = speaker.asked().await?;
    Ok((speaker, welcome.token, ask.request))
}

fn part(message: Message) -> v1::UploadRequest {
    v1::UploadRequest { message: Some(message) }
}

fn raw_begin(token: SessionToken, request: RequestId) -> v1::UploadBegin {
    v1::UploadBegin {
        session_token: token.0.to_vec(),
        request_id: request.0,
        item: 0,
        kind: v1::ItemKind::Log.into(),
        path: "logs/files/hostile.log".to_owned(),
        source: "hostile".to_owned(),
        method: "made up".to_owned(),
        run: RUN,
        times: String::new(),
    }
}

/// The first message of an upload, in good faith.
pub(super) fn begin(token: SessionToken, request: RequestId, item: u32) -> v1::UploadRequest {
    part(Message::Begin(v1::UploadBegin { item, ..raw_begin(token, request) }))
}

fn piece(offset: u64, plain: &[u8]) -> Result<v1::UploadChunk> {
    let mut made = None;
    let mut chunker = Chunker::new(Pack::Deflate, |chunk: Chunk| {
        made = Some(chunk);
        Ok(())
    });
    chunker.write_all(plain)?;
    chunker.finish()?;
    let Chunk { plain_len, plain_crc32, deflated } = made.context("a chunk")?;
    Ok(v1::UploadChunk { offset, plain_len, plain_crc32, deflated: deflated.into() })
}

fn end(plain: &[u8]) -> v1::UploadEnd {
    v1::UploadEnd {
        size: plain.len() as u64,
        sha256: sha2::Sha256::digest(plain).to_vec(),
        records: 1,
        ..v1::UploadEnd::default()
    }
}

fn whole(token: SessionToken, request: RequestId, plain: &[u8]) -> Result<Vec<v1::UploadRequest>> {
    Ok(vec![begin(token, request, 0), part(Message::Chunk(piece(0, plain)?)), part(Message::End(end(plain)))])
}

/// So many zeros, deflated.
fn zeros(count: usize) -> Result<Vec<u8>> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![0; count])?;
    Ok(encoder.finish()?)
}

/// Uploads these parts: only done is success.
pub(super) async fn upload(mut stub: AgentServiceClient<Channel>, parts: Vec<v1::UploadRequest>) -> Answer {
    match timeout(PATIENCE, stub.upload(tokio_stream::iter(parts))).await {
        Err(_) => Answer::accepted("no answer"),
        Ok(Err(status)) => by(&status),
        Ok(Ok(answers)) => heard(&mut answers.into_inner()).await,
    }
}

async fn heard(answers: &mut tonic::Streaming<v1::UploadResponse>) -> Answer {
    loop {
        match timeout(PATIENCE, answers.message()).await {
            Err(_) => return Answer::accepted("no end"),
            Ok(Err(status)) => return by(&status),
            Ok(Ok(None)) => return Answer::accepted("it ended well"),
            Ok(Ok(Some(v1::UploadResponse { message: Some(v1::upload_response::Message::Done(_)) }))) => {
                return Answer::accepted("done");
            }
            Ok(Ok(Some(_))) => {}
        }
    }
}

async fn path(case: &Case, path: &str) -> Result<Answer> {
    begun(case, |begin| begin.path = path.to_owned()).await
}

/// An upload that is whole but for its begin.
async fn begun(case: &Case, change: impl FnOnce(&mut v1::UploadBegin)) -> Result<Answer> {
    let mut begin = case.shared.begin(case);
    change(&mut begin);
    changed(case, begin, piece(0, CONTENT)?, end(CONTENT)).await
}

/// An upload with a chunk that is changed.
async fn chunk(case: &Case, change: impl FnOnce(&mut v1::UploadChunk)) -> Result<Answer> {
    let mut chunk = piece(0, CONTENT)?;
    change(&mut chunk);
    changed(case, case.shared.begin(case), chunk, end(CONTENT)).await
}

/// An upload with an end that is changed.
async fn tail(case: &Case, change: impl FnOnce(&mut v1::UploadEnd)) -> Result<Answer> {
    let mut last = end(CONTENT);
    change(&mut last);
    changed(case, case.shared.begin(case), piece(0, CONTENT)?, last).await
}

async fn changed(case: &Case, begin: v1::UploadBegin, chunk: v1::UploadChunk, end: v1::UploadEnd) -> Result<Answer> {
    let parts = [Message::Begin(begin), Message::Chunk(chunk), Message::End(end)];
    case.shared.upload(parts.map(part).into()).await
}
