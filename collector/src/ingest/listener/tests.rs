//! The listener over loopback: who gets in, who is closed, who makes room.

use std::sync::atomic::AtomicBool;

use casefile_identity::dial::{Me, client, dial, dial_as};
use casefile_identity::token::{Kind, Token};
use casefile_proto::wire::v1;
use casefile_proto::wire::v1::identity_service_client::IdentityServiceClient;
use tokio::io::AsyncReadExt;
use tonic::Code;

use super::*;
use crate::audit::Audit;
use crate::identity::{CERTIFICATE_LIFE, Identity, service};
use crate::ingest::Clock;
use crate::store::sqlite::SqliteStore;
use casefile_proto::wire::v1::identity_service_server::IdentityServiceServer;

/// A listener with the identity service, over a directory that goes away.
struct Served {
    dir: tempfile::TempDir,
    identity: Arc<Identity>,
    at: SocketAddr,
    stop: tokio::sync::oneshot::Sender<()>,
    server: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
}

const SOON: Duration = Duration::from_secs(20);

impl Served {
    async fn start(limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock: Clock = Arc::new(crate::clock::now);
        let audit = Arc::new(Audit::open(&dir.path().join("audit"), Arc::clone(&clock)).unwrap());
        let tokens = Arc::new(SqliteStore::in_memory());
        let identity = Arc::new(Identity::open(dir.path(), tokens, audit, clock, CERTIFICATE_LIFE).unwrap());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        let routes = Routes::new(IdentityServiceServer::new(service::Api::new(Arc::clone(&identity))));
        let secured = Secured { tls: identity.tls(), authorise: Authorise::new(Arc::clone(&identity)) };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, routes, secured, limits, Arc::default(), async {
            let _ = stopped.await;
        }));
        Self { dir, identity, at, stop, server }
    }

    fn owner(&self) -> Token {
        Token::load(&self.dir.path().join("owner.token")).unwrap()
    }

    /// What listing the tokens with this token says.
    async fn lists(&self, token: &Token) -> Result<(), Code> {
        let to = self.at.to_string().parse().unwrap();
        let channel = dial_as(&to, token, |endpoint| endpoint).await.map_err(|_| Code::Unknown)?;
        let listed = IdentityServiceClient::new(channel).list_tokens(v1::ListTokensRequest {}).await;
        listed.map(drop).map_err(|status| status.code())
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        tokio::time::timeout(SOON, self.server).await.unwrap().unwrap().unwrap();
    }
}

/// Ready when the other end has closed.
async fn closed(mut stream: TcpStream) {
    let mut rest = Vec::new();
    // The end, or an error: it is closed either way.
    let end = tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await;
    assert!(end.is_ok(), "still open");
}

#[test]
fn connections_are_capped_by_address_and_by_node_and_counted_out() {
    let counts = Arc::new(Counts { now: Mutex::default(), stats: Arc::default() });
    let from = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 7);
    let limits = Limits { connections: 3, connections_per_address: 2, connections_per_node: 2, ..Limits::default() };
    let a1 = counts.admit(from("10.0.0.1"), &limits).map_err(Full::value);
    let a2 = counts.admit(from("::ffff:10.0.0.1"), &limits).map_err(Full::value);
    assert!(a1.is_ok() && a2.is_ok());
    assert_eq!(counts.admit(from("10.0.0.1"), &limits).err(), Some(Full::ConnectionsPerAddress));
    let mut strangers = Strangers::default();
    let node: NodeName = "n".parse().unwrap();
    let mut proven: Vec<_> = (0..3)
        .map(|_| {
            let mut place = counts.admit(from("127.0.0.1"), &limits).ok().unwrap();
            let closed = strangers.add(100);
            counts.prove(&mut place, &node, closed.closer(), &limits).unwrap();
            // In the order in which a connection lets go of them.
            (closed, place)
        })
        .collect();
    let mut over = counts.admit(from("127.0.0.1"), &limits).ok().unwrap();
    assert_eq!(counts.prove(&mut over, &node, strangers.add(100).closer(), &limits), Err(Full::Connections));
    let ready = |closed: &mut Closed| {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::Pin::new(closed).poll(&mut cx).is_ready()
    };
    assert_eq!(proven.iter_mut().map(|(c, _)| ready(c)).collect::<Vec<_>>(), [true, false, false], "the oldest goes");
    drop((a1, a2, proven, over));
    let now = counts.now();
    assert!(now.proven == 0 && now.by_address.is_empty() && now.by_node.is_empty());
}

#[tokio::test]
async fn a_connection_that_says_nothing_or_no_tls_is_closed() {
    let served = Served::start(Limits { handshake: Duration::from_millis(100), ..Limits::default() }).await;
    closed(TcpStream::connect(served.at).await.unwrap()).await;
    let mut plain = TcpStream::connect(served.at).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut plain, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    closed(plain).await;
    served.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_name_the_protocol_is_closed() {
    let served = Served::start(Limits::default()).await;
    let mut config = client(&Me::Nobody(served.identity.pin()));
    config.alpn_protocols.clear();
    let stream = TcpStream::connect(served.at).await.unwrap();
    let name = casefile_identity::COLLECTOR.try_into().unwrap();
    let mut silent = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let mut rest = Vec::new();
    // The end, or an error; settings of HTTP/2 would come at once.
    let end = tokio::time::timeout(Limits::default().handshake / 2, silent.read_to_end(&mut rest)).await;
    assert!(end.is_ok() && rest.is_empty(), "{end:?}, {} bytes", rest.len());
    served.stop().await;
}

#[tokio::test]
async fn a_connection_through_tls_that_proves_nothing_is_closed_and_one_that_does_stays() {
    let limits =
        Limits { handshake: Duration::from_millis(300), proof: Duration::from_millis(500), ..Limits::default() };
    let served = Served::start(limits).await;
    let tls = tokio_rustls::TlsConnector::from(Arc::new(client(&Me::Nobody(served.identity.pin()))));
    let stream = TcpStream::connect(served.at).await.unwrap();
    let name = casefile_identity::COLLECTOR.try_into().unwrap();
    let mut silent = tls.connect(name, stream).await.unwrap();
    let mut rest = Vec::new();
    assert!(tokio::time::timeout(SOON, silent.read_to_end(&mut rest)).await.is_ok(), "still open");
    // A channel that has shown a token lives on, and one that has not is closed under it.
    let to = served.at.to_string().parse().unwrap();
    let channel = dial_as(&to, &served.owner(), |endpoint| endpoint).await.unwrap();
    let mut proven = IdentityServiceClient::new(channel);
    proven.list_tokens(v1::ListTokensRequest {}).await.unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    proven.list_tokens(v1::ListTokensRequest {}).await.unwrap();
    served.stop().await;
}

#[tokio::test]
async fn whoever_can_prove_himself_gets_in_however_many_strangers_wait() {
    let served = Served::start(Limits { strangers: 4, ..Limits::default() }).await;
    let mut waiting = Vec::new();
    for _ in 0..40 {
        waiting.push(TcpStream::connect(served.at).await.unwrap());
    }
    assert_eq!(tokio::time::timeout(Duration::from_secs(4), served.lists(&served.owner())).await, Ok(Ok(())));
    closed(waiting.remove(0)).await;
    served.stop().await;
}

#[tokio::test]
async fn only_who_is_known_is_answered_and_only_this_collector_is_believed() {
    let served = Served::start(Limits::default()).await;
    assert_eq!(served.lists(&served.owner()).await, Ok(()));
    let stranger = Token::new(Kind::Api, served.identity.pin()).unwrap();
    assert_eq!(served.lists(&stranger).await, Err(Code::Unauthenticated));
    let other = Served::start(Limits::default()).await;
    assert_eq!(served.lists(&other.owner()).await, Err(Code::Unknown), "another authority is pinned");
    let to = served.at.to_string().parse().unwrap();
    // An agent of another collector does not get through TLS; one of ours may do what agents may, and no more.
    for (identity, expected) in [(&other.identity, None), (&served.identity, Some(Code::PermissionDenied))] {
        let certificate = identity.agent(&"n".parse().unwrap()).unwrap();
        let me = Me::Agent(certificate);
        let said = match dial(&to, &me, |endpoint| endpoint).await {
            Ok(channel) => {
                let listed = IdentityServiceClient::new(channel).list_tokens(v1::ListTokensRequest {}).await;
                Some(listed.unwrap_err().code())
            }
            Err(_) => None,
        };
        assert_eq!(said, expected);
    }
    served.stop().await;
    other.stop().await;
}

#[test]
fn a_peer_is_proven_once_for_all_of_its_calls() {
    let proven = Arc::new(AtomicBool::new(false));
    let peer = Peer::new(([127, 0, 0, 1], 7).into(), None, Arc::clone(&proven));
    peer.clone().proven();
    assert!(proven.load(std::sync::atomic::Ordering::Relaxed));
}
