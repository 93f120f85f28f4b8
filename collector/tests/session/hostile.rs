//! Clients that mean no good: each is refused with a clear status, and hurts nobody.

use std::sync::Arc;
use std::time::Duration;

use casefile_collector::audit::{Outcome, Verb};
use casefile_collector::ingest::NodeEvent;
use casefile_collector::spool::read_dir;
use casefile_evidence::archive::chunk::{Chunk, Chunker, Pack};
use casefile_evidence::recording::Header;
use casefile_evidence::recording::delta::Encoder;
use casefile_identity::dial::{Me, dial};
use casefile_proto::connectivity::Ability;
use casefile_proto::ids::{BootId, FrameSeq, ItemNumber, RequestId};
use casefile_proto::item::{ItemHead, ItemKind, ItemTail};
use casefile_proto::sample::{Frame, Schema};
use casefile_proto::session::{
    CollectionDone, Ends, FrameBatch, FromAgent, Hello, PROTOCOL, Piece, RunId, SessionToken, ToAgent, UploadAnswer,
    UploadBegin, UploadPart, Welcome,
};
use casefile_proto::wire::v1;
use casefile_proto::wire::v1::agent_service_client::AgentServiceClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::node::{Node, at, read};
use super::server::{Server, certificate};

const ALL: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
const BOOT: BootId = BootId::from_bytes([66; 16]);

/// Somebody who speaks the protocol by hand.
pub(crate) struct Client {
    stub: AgentServiceClient<Channel>,
    to: mpsc::Sender<v1::SessionRequest>,
    from: Streaming<v1::SessionResponse>,
}

fn encoder(node: &str, boot: BootId) -> Encoder {
    Encoder::new(Header {
        node: node.parse().unwrap(),
        boot,
        agent_version: "0.0.0".to_owned(),
        schema: Arc::new(Schema::default()),
    })
}

fn batch(encoder: &mut Encoder, seqs: std::ops::RangeInclusive<u64>) -> FrameBatch {
    let (first, last) = (FrameSeq(*seqs.start()), FrameSeq(*seqs.end()));
    let mut records = Vec::new();
    for seq in seqs {
        let frame = Frame { boot: BOOT, seq: FrameSeq(seq), at: at(seq), samples: Vec::new(), events: Vec::new() };
        encoder.frame(&frame, &mut records);
    }
    FrameBatch { first, last, records: records.into(), skipped: Vec::new(), ends: Ends::Here }
}

impl Client {
    /// With the certificate of this node.
    pub(crate) async fn dial(server: &Server, node: &str) -> Self {
        let me = Me::Agent(certificate(&server.dir, node));
        let channel = dial(&server.url().parse().unwrap(), &me, |endpoint| endpoint).await.unwrap();
        let stub = AgentServiceClient::new(channel).max_encoding_message_size(64 << 20);
        let (to, messages) = mpsc::channel(64);
        let from = stub.clone().session(ReceiverStream::new(messages)).await.unwrap().into_inner();
        Self { stub, to, from }
    }

    async fn say(&self, message: FromAgent) {
        // The other end may have closed already; what it said is looked at.
        let _ = self.to.send(message.into()).await;
    }

    pub(crate) async fn hello_as(&mut self, node: &str, boot: BootId) -> Welcome {
        self.say(FromAgent::Hello(hello(node, boot))).await;
        loop {
            match self.hear().await.unwrap() {
                ToAgent::Welcome(welcome) => return welcome,
                ToAgent::Probe(_) => {}
                other => panic!("{other:?} before welcome"),
            }
        }
    }

    /// The next thing that the collector says, or with what it ends the session.
    async fn hear(&mut self) -> Result<ToAgent, Status> {
        let heard = tokio::time::timeout(super::SOON, self.from.message()).await.expect("an answer");
        Ok(heard?.expect("a status").try_into().unwrap())
    }

    /// With what the collector ends the session; how often it acknowledged something before.
    async fn refused(mut self) -> (Code, String, usize) {
        let mut acks = 0;
        loop {
            match self.hear().await {
                Ok(ToAgent::Ack(_)) => acks += 1,
                Ok(_) => {}
                Err(status) => return (status.code(), status.message().to_owned(), acks),
            }
        }
    }

    /// An upload by hand: what it says, then with what it is ended.
    async fn upload(&self, parts: Vec<UploadPart>) -> (Vec<UploadAnswer>, Result<(), Status>) {
        let messages = tokio_stream::iter(parts.into_iter().map(v1::UploadRequest::from).collect::<Vec<_>>());
        let mut answers = Vec::new();
        let mut from = match self.stub.clone().upload(messages).await {
            Ok(response) => response.into_inner(),
            Err(status) => return (answers, Err(status)),
        };
        loop {
            match tokio::time::timeout(super::SOON, from.message()).await.expect("an answer") {
                Ok(Some(answer)) => answers.push(answer.try_into().unwrap()),
                Ok(None) => return (answers, Ok(())),
                Err(status) => return (answers, Err(status)),
            }
        }
    }
}

fn hello(node: &str, boot: BootId) -> Hello {
    Hello {
        protocol: PROTOCOL,
        node: node.parse().unwrap(),
        boot,
        agent_version: "0.0.0".to_owned(),
        clock: at(0),
        recording_header: encoder(node, boot).header().into(),
        last_seq: None,
        collectable: Vec::new(),
        connectivity: Ability::Unknown,
    }
}

fn begin(token: SessionToken, request: u64, item: u32) -> UploadPart {
    let head = ItemHead {
        kind: ItemKind::Log,
        path: format!("logs/files/{item}.log").parse().unwrap(),
        source: "files".to_owned(),
        method: String::new(),
        times: None,
    };
    UploadPart::Begin(UploadBegin { token, request: RequestId(request), run: RunId(9), item: ItemNumber(item), head })
}

fn piece(offset: u64, plain: &[u8]) -> UploadPart {
    use std::io::Write as _;
    let mut made = None;
    let mut chunker = Chunker::new(Pack::Deflate, |chunk: Chunk| {
        made = Some(chunk);
        Ok(())
    });
    chunker.write_all(plain).unwrap();
    chunker.finish().unwrap();
    let Chunk { plain_len, plain_crc32, deflated } = made.unwrap();
    UploadPart::Piece(Piece { offset, plain_len, plain_crc32, deflated: deflated.into() })
}

fn end(plain: &[u8]) -> UploadPart {
    use std::io::Write as _;
    let mut chunker = Chunker::new(Pack::Store, |_| Ok(()));
    chunker.write_all(plain).unwrap();
    let (size, sha256) = chunker.finish().unwrap();
    UploadPart::End(ItemTail { size, sha256, records: 0, covered: None, gaps: Vec::new() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_breaks_the_rules_is_refused_by_name_and_a_good_one_beside_it_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &Arc::default(), ALL).await;
    let mut good = Node::new(dir.path(), "good");
    good.connect(&server.url(), 0);
    server.connected("good").await;

    let client = Client::dial(&server, "bad").await;
    client.say(FromAgent::Frames(batch(&mut encoder("bad", BOOT), 1..=1))).await;
    assert_eq!(client.refused().await.0, Code::FailedPrecondition, "before hello");
    good.record(1);

    let mut client = Client::dial(&server, "bad").await;
    client.hello_as("bad", BOOT).await;
    let garbage = FrameBatch { records: vec![0xa5; 3000].into(), ..batch(&mut encoder("bad", BOOT), 1..=1) };
    client.say(FromAgent::Frames(garbage)).await;
    let (code, message, acks) = client.refused().await;
    assert_eq!((code, acks), (Code::InvalidArgument, 0), "{message}");
    good.record(1);

    let mut client = Client::dial(&server, "bad").await;
    client.hello_as("bad", BOOT).await;
    client.say(FromAgent::Hello(hello("bad", BOOT))).await;
    assert_eq!(client.refused().await.0, Code::FailedPrecondition, "hello twice");

    let mut client = Client::dial(&server, "bad").await;
    client.hello_as("bad", BOOT).await;
    let huge = v1::SessionRequest {
        message: Some(v1::session_request::Message::Frames(v1::FrameBatch {
            first_seq: 1,
            last_seq: 1,
            records: vec![0; 8 << 20].into(),
            ..v1::FrameBatch::default()
        })),
    };
    client.to.send(huge).await.unwrap();
    let (code, message, _) = client.refused().await;
    assert_eq!(code, Code::InvalidArgument, "{message}");

    let client = Client::dial(&server, "bad").await;
    client.to.send(v1::SessionRequest { message: None }).await.unwrap();
    assert_eq!(client.refused().await.0, Code::InvalidArgument, "a message without one");

    let client = Client::dial(&server, "bad").await;
    client.say(FromAgent::Hello(Hello { protocol: 99, ..hello("bad", BOOT) })).await;
    let (code, message, _) = client.refused().await;
    assert!(code == Code::Unimplemented && message.contains("99"), "{code:?} {message}");

    good.record(1);
    server.holds("good", 3).await;
    assert_eq!(server.count(|e| matches!(e, NodeEvent::Disconnected { node } if node.as_str() == "good")), 0);
    good.disconnect().await;
    assert_eq!(read(&server.words("good")).frames, [1, 2, 3]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_sent_twice_are_acknowledged_twice_and_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &Arc::default(), ALL).await;
    for have in [None, Some(FrameSeq(5))] {
        let mut client = Client::dial(&server, "twice").await;
        assert_eq!(client.hello_as("twice", BOOT).await.have, have);
        client.say(FromAgent::Frames(batch(&mut encoder("twice", BOOT), 1..=5))).await;
        loop {
            match client.hear().await.unwrap() {
                ToAgent::Ack(up_to) => break assert_eq!(up_to, FrameSeq(5)),
                ToAgent::Probe(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    let words = server.words("twice");
    server.stop().await;
    let mut frames = Vec::new();
    casefile_evidence::recording::reader::Recording::open_dir(&words)
        .unwrap()
        .pieces(None, &mut |piece| {
            if let casefile_evidence::recording::reader::Piece::Frame(frame) = piece {
                frames.push(frame.seq.0);
            }
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(frames, [1, 2, 3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_half_closed_gets_its_acks_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &Arc::default(), ALL).await;
    let mut client = Client::dial(&server, "half").await;
    client.hello_as("half", BOOT).await;
    let mut encoder = encoder("half", BOOT);
    client.say(FromAgent::Frames(batch(&mut encoder, 1..=3))).await;
    client.say(FromAgent::Frames(batch(&mut encoder, 4..=9))).await;
    let Client { to, mut from, .. } = client;
    drop(to);
    let mut last = None;
    while let Some(heard) = tokio::time::timeout(super::SOON, from.message()).await.unwrap().unwrap() {
        if let ToAgent::Ack(up_to) = heard.try_into().unwrap() {
            last = Some(up_to);
        }
    }
    assert_eq!(last, Some(FrameSeq(9)));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_breaks_the_rules_is_refused_by_name_and_what_was_acknowledged_stays() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &Arc::default(), ALL).await;
    let mut client = Client::dial(&server, "bad").await;
    let token = client.hello_as("bad", BOOT).await.token;
    let code = |result: Result<(), Status>| result.unwrap_err().code();
    let content = b"some content".as_slice();

    let (_, refused) = client.upload(vec![begin(token, 1, 0)]).await;
    assert_eq!(code(refused), Code::NotFound, "nobody asked");
    server.ask("bad", 1, &[]).await;
    let (_, refused) = client.upload(vec![begin(SessionToken([0; 16]), 1, 0)]).await;
    assert_eq!(code(refused), Code::Unauthenticated, "another token");
    let (_, refused) = client.upload(vec![piece(0, content)]).await;
    assert_eq!(code(refused), Code::FailedPrecondition, "no begin");
    let (_, refused) = client.upload(Vec::new()).await;
    assert_eq!(code(refused), Code::FailedPrecondition, "nothing");
    let (_, refused) = client.upload(vec![begin(token, 1, 0), begin(token, 1, 0)]).await;
    assert_eq!(code(refused), Code::FailedPrecondition, "begin twice");

    // The first half arrives; then something is wrong.
    let (answers, refused) = client.upload(vec![begin(token, 1, 0), piece(0, &content[..5])]).await;
    assert_eq!((answers.last(), code(refused)), (Some(&UploadAnswer::Ack(5)), Code::Cancelled), "half closed");
    for (wrong, expected) in [
        (piece(0, content), Code::OutOfRange),
        (piece(6, content), Code::OutOfRange),
        (
            UploadPart::Piece(Piece { offset: 5, plain_len: 100, plain_crc32: 0, deflated: vec![7; 90].into() }),
            Code::InvalidArgument,
        ),
        (end(content), Code::DataLoss),
    ] {
        let (answers, refused) = client.upload(vec![begin(token, 1, 0), wrong]).await;
        assert_eq!((answers.first(), code(refused)), (Some(&UploadAnswer::Resume(5)), expected));
    }
    // A wrong end says that what is there cannot be trusted: from the beginning, then.
    let (answers, _) = client.upload(vec![begin(token, 1, 0), piece(0, content)]).await;
    assert_eq!(answers.first(), Some(&UploadAnswer::Resume(0)));
    let (answers, ended) = client.upload(vec![begin(token, 1, 0), end(content)]).await;
    assert_eq!(answers, [UploadAnswer::Resume(12), UploadAnswer::Done]);
    assert!(ended.is_ok());
    let (answers, _) = client.upload(vec![begin(token, 1, 0)]).await;
    assert_eq!(answers, [UploadAnswer::Resume(12), UploadAnswer::Done], "it is whole already");

    let other = match begin(token, 1, 0) {
        UploadPart::Begin(mut begin) => {
            begin.head.path = "logs/files/other.log".parse().unwrap();
            UploadPart::Begin(begin)
        }
        other => other,
    };
    let (_, refused) = client.upload(vec![other]).await;
    assert_eq!(code(refused), Code::AlreadyExists);
    let huge = Piece { offset: 0, plain_len: 1 << 20, plain_crc32: 0, deflated: vec![0; 4 << 20].into() };
    let (_, refused) = client.upload(vec![begin(token, 1, 1), UploadPart::Piece(huge)]).await;
    assert_eq!(code(refused), Code::InvalidArgument, "larger than a message may be");

    let items = read_dir(&server.spool(1)).unwrap();
    assert_eq!(items.len(), 1);
    assert_eq!(items[0].tail.as_ref().map(|t| t.size), Some(12));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_of_another_node_finds_no_request_and_one_of_a_session_that_is_over_no_session() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &Arc::default(), ALL).await;
    let (mut mine, mut theirs) = (Client::dial(&server, "mine").await, Client::dial(&server, "theirs").await);
    let my_token = mine.hello_as("mine", BOOT).await.token;
    let their_token = theirs.hello_as("theirs", BOOT).await.token;
    server.ask("mine", 1, &[]).await;
    let (_, refused) = theirs.upload(vec![begin(their_token, 1, 0)]).await;
    assert_eq!(refused.unwrap_err().code(), Code::NotFound);
    // The token of another node's session is of no use, also while that session stands.
    let (_, refused) = theirs.upload(vec![begin(my_token, 1, 0)]).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    // What somebody says is done without being asked is done for nobody.
    theirs.say(FromAgent::Done(CollectionDone { request: RequestId(1), sources: Vec::new(), gaps: Vec::new() })).await;
    let Client { stub, to, from } = mine;
    drop((to, from));
    server
        .event("disconnected", |event| match event {
            NodeEvent::Disconnected { node } if node.as_str() == "mine" => Some(()),
            _ => None,
        })
        .await;
    assert_eq!(server.count(|e| matches!(e, NodeEvent::Done { .. })), 0);
    theirs.stub = stub;
    let (_, refused) = theirs.upload(vec![begin(my_token, 1, 0)]).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_claims_to_be_another_node_is_refused_and_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &Arc::default(), ALL).await;
    let client = Client::dial(&server, "liar").await;
    client.say(FromAgent::Hello(hello("victim", BOOT))).await;
    let (code, message, _) = client.refused().await;
    assert!(code == Code::PermissionDenied && message.contains("liar") && message.contains("victim"), "{message}");
    assert!(server.ingest.nodes().is_empty(), "nothing is held of either");
    let line = super::until("a line", || server.audited().pop()).await;
    assert_eq!((line.who.as_str(), line.what.as_str()), ("node liar", "node victim"));
    assert_eq!((line.verb, line.outcome), (Verb::ClaimNode, Outcome::Denied));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_agents_with_one_identity_the_newer_is_heard_and_that_is_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &Arc::default(), ALL).await;
    let mut first = Client::dial(&server, "twin").await;
    first.hello_as("twin", BOOT).await;
    let mut second = Client::dial(&server, "twin").await;
    second.hello_as("twin", BootId::from_bytes([3; 16])).await;
    assert_eq!(first.refused().await.0, Code::Aborted);
    let line = super::until("a line", || server.audited().pop()).await;
    assert_eq!((line.who.as_str(), line.verb, line.outcome), ("node twin", Verb::ReplaceSession, Outcome::Noticed));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_its_age_and_the_next_one_goes_on_without_losing_a_frame() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::aged(dir.path(), &Arc::default(), ALL, Duration::from_millis(300)).await;
    let mut node = Node::new(dir.path(), "old");
    node.connect(&server.url(), 0);
    let sessions = || server.count(|e| matches!(e, NodeEvent::Connected { .. }));
    while sessions() < 3 {
        node.record(1);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.holds("old", node.last()).await;
    node.disconnect().await;
    let held = read(&server.words("old"));
    assert_eq!(held.frames, (1..=node.last()).collect::<Vec<_>>());
    assert!(held.holes.is_empty(), "{:?}", held.holes);
    server.stop().await;
}
