//! Tests of servers of every kind on loopback: good ones, and those that never answer, reset, or talk without end.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use casefile_proto::connectivity::TestId;
use casefile_proto::connectivity::steps::{Failure, Step, Steps, Trust, Went};
use casefile_proto::connectivity::target::Target;
use casefile_proto::time::{BootTime, Stamp, WallTime};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ServerConfig, SupportedProtocolVersion};

use super::*;

/// Longer than anything here takes, on a busy machine too.
const LONG: Duration = Duration::from_secs(10);

/// For what never comes.
const SHORT: Duration = Duration::from_millis(150);

const GOOD: &str = "HTTP/1.1 204 No Content\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n";

/// A server of which each connection is served like this.
async fn server<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    at
}

/// Reads a request to its end, then says this.
async fn says(at: impl Fn() -> Vec<u8> + Send + 'static) -> SocketAddr {
    server(move |mut stream| {
        let answer = at();
        async move {
            answered(&mut stream, &answer).await;
        }
    })
    .await
}

async fn answered(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), answer: &[u8]) -> Vec<u8> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            break;
        }
    }
    // Whoever asked may have had enough.
    let _ = stream.write_all(answer).await;
    let _ = stream.shutdown().await;
    request
}

/// A closed port: nobody listens there any more.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

fn clock_at(wall: WallTime) -> Clock {
    Arc::new(move || Stamp { wall, boot: BootTime::from_nanos(1) })
}

fn now() -> WallTime {
    "2026-11-23T03:00:00Z".parse().unwrap()
}

fn allowed(reach: Reach, strangers: Strangers) -> Allowed {
    Allowed { reach, strangers }
}

async fn tested_with(strangers: Strangers, at: WallTime, target: &str, deadline: Duration) -> Steps {
    let allowed = allowed(Reach::LoopbackToo, strangers);
    let tester = Tester::new(allowed, clock_at(at), Arc::default());
    let target: Target = target.parse().unwrap();
    let steps = tester.test(&target, deadline).await;
    assert!(steps.is_sound(), "{steps:?}");
    let had: Vec<_> = Step::ALL.into_iter().filter(|step| steps.of(*step).is_some()).collect();
    assert_eq!(had, target.scheme().steps());
    steps
}

async fn tested(target: &str, deadline: Duration) -> Steps {
    tested_with(Strangers::unknown(), now(), target, deadline).await
}

#[tokio::test]
async fn a_name_alone_is_resolved_and_nothing_is_connected_to() {
    let steps = tested("dns://localhost", LONG).await;
    assert!(steps.resolve.went.is_ok() && steps.resolve.went.took_nanos() > Some(0));
    assert!(steps.resolve.addresses.iter().all(std::net::IpAddr::is_loopback), "{steps:?}");
}

#[tokio::test]
async fn a_port_is_open_or_refused() {
    let at = server(|_| async {}).await;
    let steps = tested(&format!("tcp://{at}"), LONG).await;
    assert_eq!((steps.failed(), steps.connect.unwrap().address), (None, Some(at)));
    let closed = nobody().await;
    let steps = tested(&format!("http://{closed}/"), LONG).await;
    assert_eq!(steps.failed(), Some((Step::Connect, Failure::Refused)));
    let connect = steps.connect.unwrap();
    assert_eq!((connect.address, connect.went.detail()), (Some(closed), format!("{closed}: refused").as_str()));
    assert_eq!(steps.http.unwrap().went, Went::NotReached);
}

#[tokio::test]
async fn an_answer_is_told_by_its_status_and_the_date_of_the_server() {
    let at = says(|| GOOD.into()).await;
    let steps = tested(&format!("http://{at}/healthz"), LONG).await;
    assert_eq!(steps.failed(), None);
    let answered = steps.http.unwrap().answered.unwrap();
    assert_eq!((answered.status, answered.node_time), (204, now()));
    assert_eq!(answered.server_time, Some("1994-11-06T08:49:37Z".parse().unwrap()));
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed_and_an_error_is_none() {
    let elsewhere = nobody().await;
    let at = says(move || format!("HTTP/1.1 302 Found\r\nLocation: http://{elsewhere}/\r\n\r\n").into()).await;
    let steps = tested(&format!("http://{at}/"), LONG).await;
    assert_eq!((steps.failed(), steps.http.unwrap().answered.unwrap().status), (None, 302));
    for status in [400, 404, 503, 999] {
        let at = says(move || format!("HTTP/1.1 {status} No\r\n\r\n").into()).await;
        let steps = tested(&format!("http://{at}/x"), LONG).await;
        assert_eq!(steps.failed(), Some((Step::Http, Failure::HttpStatus)));
        let http = steps.http.unwrap();
        assert_eq!(http.went.detail(), format!("/x was answered with {status}"));
        assert_eq!(http.answered.unwrap().status, status);
    }
}

#[tokio::test]
async fn what_is_asked_is_one_get_that_names_the_host() {
    let (tell, mut told) = tokio::sync::mpsc::channel(1);
    let at = server(move |mut stream| {
        let tell = tell.clone();
        async move {
            tell.send(answered(&mut stream, GOOD.as_bytes()).await).await.unwrap();
        }
    })
    .await;
    tested(&format!("http://localhost:{}/healthz?a=1", at.port()), LONG).await;
    let request = String::from_utf8(told.recv().await.unwrap()).unwrap();
    let lines: Vec<_> = request.split("\r\n").collect();
    assert_eq!(lines[..2], ["GET /healthz?a=1 HTTP/1.1", &format!("Host: localhost:{}", at.port())]);
    assert_eq!(lines[2..5].iter().filter(|l| l.starts_with("User-Agent: casefile-agent/")).count(), 1, "{request}");
    assert_eq!(lines[5..], ["", ""]);
}

#[tokio::test]
async fn a_server_that_never_answers_is_late_at_its_step() {
    let silent = || {
        server(|stream| async move {
            std::future::pending::<()>().await;
            drop(stream);
        })
    };
    let at = silent().await;
    for (target, step) in [(format!("http://{at}/"), Step::Http), (format!("tls://{at}"), Step::Tls)] {
        let steps = tested(&target, SHORT).await;
        assert_eq!(steps.failed(), Some((step, Failure::TimedOut)), "{target}");
        let took = Duration::from_nanos(steps.of(step).unwrap().took_nanos().unwrap());
        assert!(took < LONG && took > SHORT / 4, "{took:?}");
    }
}

#[tokio::test]
async fn a_server_that_resets_or_closes_is_told_apart_from_one_that_is_not_there() {
    let resets = server(|stream| async move {
        // Closed with something unread: the kernel answers with a reset.
        stream.readable().await.unwrap();
        socket_option(&stream);
    })
    .await;
    let closes = server(|mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
    })
    .await;
    for at in [resets, closes] {
        for (target, step) in [(format!("http://{at}/"), Step::Http), (format!("https://{at}/"), Step::Tls)] {
            assert_eq!(tested(&target, LONG).await.failed(), Some((step, Failure::Reset)), "{target}");
        }
    }
}

/// Has closing send a reset at once.
fn socket_option(stream: &TcpStream) {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
}

#[tokio::test]
async fn headers_without_end_are_read_no_further_than_their_cap() {
    let (tell, mut told) = tokio::sync::mpsc::channel(1);
    let at = server(move |mut stream| {
        let tell = tell.clone();
        async move {
            let mut sent = 0_u64;
            stream.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
            while stream.write_all(&[b'x'; 1024]).await.is_ok() {
                sent += 1024;
            }
            tell.send(sent).await.unwrap();
        }
    })
    .await;
    let steps = tested(&format!("http://{at}/"), LONG).await;
    assert_eq!(steps.failed(), Some((Step::Http, Failure::Malformed)));
    assert_eq!(steps.http.unwrap().went.detail(), "its head does not end within 16 KiB");
    // It ends, for nobody reads any more.
    told.recv().await.unwrap();
}

#[tokio::test]
async fn what_speaks_something_else_is_malformed() {
    let ssh = server(|mut stream| async move {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n").await;
        let _ = stream.read(&mut [0; 4096]).await;
    })
    .await;
    for (target, step) in [(format!("http://{ssh}/"), Step::Http), (format!("https://{ssh}/"), Step::Tls)] {
        assert_eq!(tested(&target, LONG).await.failed(), Some((step, Failure::Malformed)), "{target}");
    }
    let plain = says(|| b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()).await;
    let steps = tested(&format!("https://{plain}/"), SHORT).await;
    assert!(matches!(steps.failed(), Some((Step::Tls, Failure::Malformed | Failure::TimedOut))), "{steps:?}");
}

/// An authority, and a server that shows a certificate of these names under it.
struct Shop {
    ca: String,
    config: ServerConfig,
}

fn shop(names: &[&str], years: (i32, i32), versions: &[&'static SupportedProtocolVersion]) -> Shop {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "shop authority");
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let mut own = CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
    own.distinguished_name.push(DnType::CommonName, "api");
    own.not_before = date_time_ymd(years.0, 1, 1);
    own.not_after = date_time_ymd(years.1, 1, 1);
    let certificate = own.signed_by(&key, &issuer).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone(), ca_certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Shop { ca: ca_certificate.pem(), config }
}

async fn open(config: ServerConfig, answer: &'static str) -> SocketAddr {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    server(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                answered(&mut stream, answer.as_bytes()).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_certificate_is_told_and_is_trusted_only_under_a_root_that_was_given() {
    for (versions, word) in [([&TLS13], "TLSv1.3"), ([&TLS12], "TLSv1.2")] {
        let shop = shop(&["localhost"], (2026, 2027), &versions);
        let at = open(shop.config, GOOD).await;
        let target = format!("https://localhost:{}/healthz", at.port());
        let steps = tested(&target, LONG).await;
        assert_eq!(steps.failed(), None, "{steps:?}");
        let shown = steps.tls.unwrap().shown.unwrap();
        assert_eq!((shown.version.as_str(), shown.alpn.as_deref()), (word, Some("http/1.1")));
        assert_eq!((shown.name_fits, shown.trust), (true, Trust::NotChecked), "nobody gave a root");
        let [own, authority] = shown.certificates.as_slice() else { panic!("{shown:?}") };
        assert!(own.subject.contains("CN=api") && own.issuer.contains("CN=shop authority"), "{own:?}");
        assert_eq!(own.not_after, "2027-01-01T00:00:00Z".parse().unwrap());
        assert!(own.sha256 != authority.sha256 && authority.subject == own.issuer);
        assert_eq!(steps.http.unwrap().answered.unwrap().status, 204);

        let ours = Strangers::with_roots(shop.ca.as_bytes()).unwrap();
        let steps = tested_with(ours, now(), &target, LONG).await;
        assert_eq!((steps.failed(), steps.tls.unwrap().shown.unwrap().trust), (None, Trust::Trusted));
        let other = self::shop(&["localhost"], (2026, 2027), &versions);
        let theirs = Strangers::with_roots(other.ca.as_bytes()).unwrap();
        let steps = tested_with(theirs, now(), &target, LONG).await;
        assert_eq!(steps.failed(), Some((Step::Tls, Failure::Certificate)));
        let tls = steps.tls.unwrap();
        assert_eq!(tls.shown.as_ref().unwrap().trust, Trust::NotTrusted);
        assert!(tls.went.detail().starts_with("not trusted: "), "{tls:?}");
        assert_eq!(steps.http.unwrap().went, Went::NotReached, "nothing is sent to it then");
    }
}

#[tokio::test]
async fn a_certificate_of_another_name_or_another_time_fails_and_is_told_all_the_same() {
    let shop = shop(&["api.shop.svc"], (2026, 2027), &[&TLS13]);
    let at = open(shop.config, GOOD).await;
    let steps = tested(&format!("tls://localhost:{}", at.port()), LONG).await;
    assert_eq!(steps.failed(), Some((Step::Tls, Failure::Certificate)));
    let tls = steps.tls.unwrap();
    assert!(tls.went.detail().contains("is not of localhost") && !tls.shown.unwrap().name_fits);

    let shop = self::shop(&["localhost"], (2026, 2027), &[&TLS13]);
    let target = format!("tls://localhost:{}", open(shop.config, GOOD).await.port());
    for (when, word) in [("2027-02-01T00:00:00Z", "ended at 2027-01-01"), ("2025-02-01T00:00:00Z", "begins at 2026")] {
        let steps = tested_with(Strangers::unknown(), when.parse().unwrap(), &target, LONG).await;
        assert_eq!(steps.failed(), Some((Step::Tls, Failure::Certificate)));
        let tls = steps.tls.unwrap();
        assert!(tls.went.detail().contains(word) && tls.went.detail().contains("clock says"), "{tls:?}");
        assert!(tls.shown.is_some_and(|shown| shown.name_fits));
    }
}

#[tokio::test]
async fn an_alert_is_told_by_its_name() {
    // It wants a protocol that nobody offers.
    let mut shop = shop(&["localhost"], (2026, 2027), &[&TLS13]);
    shop.config.alpn_protocols = vec![b"smtp".to_vec()];
    let at = open(shop.config, GOOD).await;
    let steps = tested(&format!("tls://localhost:{}", at.port()), LONG).await;
    assert_eq!(steps.failed(), Some((Step::Tls, Failure::TlsAlert)));
    assert_eq!(steps.tls.unwrap().went.detail(), "no application protocol");
}

#[tokio::test]
async fn a_certificate_without_its_key_is_no_handshake() {
    let shop = shop(&["localhost"], (2026, 2027), &[&TLS13]);
    let other = KeyPair::generate().unwrap();
    // The resolver shows one certificate and signs with the key of another.
    let provider = ring::default_provider();
    let key = provider.key_provider.load_private_key(PrivateKeyDer::try_from(other.serialize_der()).unwrap()).unwrap();
    let made = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let stolen: CertificateDer<'static> = made.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone();
    #[derive(Debug)]
    struct Thief(Arc<tokio_rustls::rustls::sign::CertifiedKey>);
    impl tokio_rustls::rustls::server::ResolvesServerCert for Thief {
        fn resolve(
            &self,
            _hello: tokio_rustls::rustls::server::ClientHello<'_>,
        ) -> Option<Arc<tokio_rustls::rustls::sign::CertifiedKey>> {
            Some(Arc::clone(&self.0))
        }
    }
    let mut config = shop.config;
    config.cert_resolver = Arc::new(Thief(Arc::new(tokio_rustls::rustls::sign::CertifiedKey::new(vec![stolen], key))));
    let at = open(config, GOOD).await;
    let steps = tested(&format!("tls://localhost:{}", at.port()), LONG).await;
    assert_eq!(steps.failed(), Some((Step::Tls, Failure::Certificate)), "{steps:?}");
}

#[tokio::test]
async fn this_machine_and_metadata_are_not_connected_to_unless_the_configuration_says_so() {
    let (tell, mut told) = tokio::sync::mpsc::channel(1);
    let at = server(move |_| {
        let tell = tell.clone();
        async move { tell.send(()).await.unwrap() }
    })
    .await;
    let tester = Tester::new(allowed(Reach::Outside, Strangers::unknown()), clock_at(now()), Arc::default());
    for host in ["localhost", "127.0.0.1", "0.0.0.0", "2130706433"] {
        let target = format!("tcp://{host}:{}", at.port()).parse().unwrap();
        let steps = tester.test(&target, LONG).await;
        assert_eq!(steps.failed(), Some((Step::Connect, Failure::NotAllowed)), "{host}: {steps:?}");
        assert!(!steps.connect.unwrap().went.detail().is_empty());
    }
    let tester = Tester::new(allowed(Reach::LoopbackToo, Strangers::unknown()), clock_at(now()), Arc::default());
    for host in ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]"] {
        let steps = tester.test(&format!("http://{host}/latest/meta-data").parse().unwrap(), LONG).await;
        assert_eq!(steps.failed(), Some((Step::Connect, Failure::NotAllowed)), "{host}");
    }
    assert!(told.try_recv().is_err(), "somebody connected");
}

#[tokio::test]
async fn an_agent_that_was_not_allowed_to_tests_nothing_and_one_that_was_takes_only_so_much() {
    let ask = |test| ConnectivityAsk {
        test: TestId(test),
        target: "dns://127.0.0.1".parse().unwrap(),
        deadline: Duration::from_secs(3_600),
    };
    let reason = |answer: Option<ConnectivityAnswer>| match answer.map(|answer| answer.outcome) {
        Some(NodeOutcome::Untested(untested)) => Some(untested.reason),
        _ => None,
    };
    let mut off = Tests::new(None, clock_at(now()), Arc::default());
    assert_eq!((off.ability(), reason(off.ask(ask(1)))), (Ability::Off, Some(UntestedReason::SwitchedOff)));
    let allowed = allowed(Reach::LoopbackToo, Strangers::unknown());
    let mut on = Tests::new(Some(allowed), clock_at(now()), Arc::default());
    assert_eq!(on.ability(), Ability::On);
    for test in 0..4 {
        assert_eq!(on.ask(ask(test)), None);
    }
    assert_eq!(reason(on.ask(ask(4))), Some(UntestedReason::Busy), "four are under way");
    let mut seen: Vec<u64> = Vec::new();
    for _ in 0..4 {
        seen.push(on.next().await.test.0);
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3]);
    assert_eq!(reason(on.ask(ask(5))), Some(UntestedReason::Busy), "four within a second are enough");
}
