//! People in a cluster: any token that the API server knows, and what the cluster's Roles say about it, over gRPC, over HTTP and
//! by the command. Nobody is told "forbidden" by an API server that is away, and nothing is allowed then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use casefile_collector::Collector;
use casefile_collector::cluster::config::{Access, ClusterConfig};
use casefile_collector::identity::rights::Right;
use casefile_collector::identity::routes::{Need, need};
use casefile_identity::dial::{Address, Me, dial, dial_as, dial_as_foreign};
use casefile_proto::time::{BootTime, Stamp};
use casefile_proto::wire::METHODS;
use casefile_proto::wire::v1::ListNodesRequest;
use casefile_proto::wire::v1::node_service_client::NodeServiceClient;
use casefile_tests::apiserver::ApiServer;
use casefile_tests::program::{run, said, stdout};
use casefile_tests::{Rig, SOON, scrape, stop};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::http::{Request, header};
use tonic::{Code, Status};

/// A collector in a cluster, whose clock can be set forward.
struct Cluster {
    rig: Rig,
    server: ApiServer,
    collector: Collector,
    ahead: Arc<AtomicU64>,
}

impl Cluster {
    async fn start(change: impl FnOnce(&mut ClusterConfig)) -> Self {
        let (rig, server) = (Rig::new().unwrap(), ApiServer::start().await.unwrap());
        server.kubeconfig(&rig.path("kubeconfig")).unwrap();
        let pin = json!({"pin": rig.authority().unwrap().pin().to_string()});
        let name = json!({"namespace": "casefile", "name": "casefile-authority"});
        server.put("configmaps", json!({"metadata": name, "data": pin}));
        let mut cluster = ClusterConfig::new(Access::Kubeconfig(rig.path("kubeconfig")));
        change(&mut cluster);
        let ahead = Arc::new(AtomicU64::new(0));
        let added = Arc::clone(&ahead);
        let clock = move || {
            let Stamp { wall, boot } = casefile_collector::clock::now();
            Stamp { wall, boot: BootTime::from_nanos(boot.nanos() + added.load(Ordering::Relaxed) * 1_000_000_000) }
        };
        let collector = rig
            .collector_with(|config| {
                config.cluster = Some(cluster);
                config.http = Some(([127, 0, 0, 1], 0).into());
                config.clock = Arc::new(clock);
            })
            .await
            .unwrap();
        server.reviews(|r| {
            for who in ["kim", "lee"] {
                r.token(&format!("token-of-{who}"), json!({"username": who, "groups": ["system:authenticated"]}), &[]);
            }
        });
        Self { rig, server, collector, ahead }
    }

    fn allow(&self, who: &str, right: Right) {
        self.server.reviews(|r| r.allow(who, right.verb(), right.resource()));
    }

    /// So many seconds pass for the collector.
    fn pass(&self, seconds: u64) {
        self.ahead.fetch_add(seconds, Ordering::Relaxed);
    }

    fn address(&self) -> Address {
        self.rig.url().parse().unwrap()
    }

    /// Asks for the nodes over gRPC.
    async fn nodes(&self, token: &str) -> Result<(), Status> {
        let (pin, token) = (self.rig.authority().unwrap().pin(), token.parse().unwrap());
        let channel = dial_as_foreign(&self.address(), pin, &token, |e| e).await.unwrap();
        NodeServiceClient::new(channel).list_nodes(ListNodesRequest {}).await.map(drop)
    }

    /// Asks over HTTP: the status, and the body.
    async fn http(&self, line: &str, token: &str) -> (u16, String) {
        let at = self.collector.http().unwrap();
        let host = at.trim_start_matches("http://");
        let mut stream = TcpStream::connect(host).await.unwrap();
        let request = format!(
            "{line} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// What the API server was asked about people since it was last counted: tokens, rights.
    fn asked(&self) -> (usize, usize) {
        let asked = self.server.asked();
        let of = |what: &str| asked.iter().filter(|a| a.path.ends_with(what)).count();
        (of("tokenreviews"), of("subjectaccessreviews"))
    }

    /// How many questions were asked, failed, or remembered.
    fn figure(&self, what: &str, question: &str) -> f64 {
        let all = tokio::task::block_in_place(|| scrape::metrics(self.collector.observed_at().unwrap()));
        all.of(&format!("casefile_reviews_{what}_total{{question=\"{question}\"}}"))
    }

    fn audit(&self) -> String {
        let log = run("casefile-collector", &["audit", "--data", self.rig.path("collector").to_str().unwrap()]);
        assert!(log.status.success(), "{}", said(&log));
        stdout(&log)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_the_roles_of_the_cluster_let_may_and_nobody_else_and_two_questions_are_asked_for_many_calls() {
    let cluster = Cluster::start(|_| {}).await;
    cluster.allow("kim", Right::See);
    let all = futures_of(30, || cluster.nodes("token-of-kim")).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!(cluster.asked(), (1, 1), "of many at once one asks");
    assert_eq!(cluster.http("GET /api/v1/nodes", "token-of-kim").await.0, 200);
    assert_eq!(cluster.asked(), (0, 0), "over HTTP it is the same answer");
    for question in ["token", "access"] {
        assert_eq!(cluster.figure("asked", question), 1.0);
        assert_eq!(
            cluster.figure("remembered", question),
            30.0,
            "{question}: those that waited, and the one over HTTP"
        );
        assert_eq!(cluster.figure("failed", question), 0.0);
    }

    let denied = cluster.nodes("token-of-lee").await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    assert!(denied.message().contains("cluster:lee may not do this: it needs get incidents.casefile.dev"), "{denied}");
    let (status, body) = cluster.http("GET /api/v1/incidents/INC-000001/archive", "token-of-kim").await;
    assert!(status == 403 && body.contains("get archives.casefile.dev"), "{status} {body}");
    for nobody in ["token-of-nobody", "eyJhbGciOiJSUzI1NiJ9.e30.c2ln"] {
        assert_eq!(cluster.nodes(nobody).await.unwrap_err().code(), Code::Unauthenticated);
        assert_eq!(cluster.http("GET /api/v1/nodes", nobody).await.0, 401);
    }
    // There is nothing there: strangers are not told, users are.
    assert_eq!(cluster.http("GET /api/v1/secrets", "token-of-nobody").await.0, 401);
    assert_eq!(cluster.http("GET /api/v1/secrets", "token-of-lee").await.0, 404);

    // With our own tokens nobody is asked, also with those that count no more.
    cluster.asked();
    let owner = cluster.rig.owner().unwrap();
    let channel = dial_as(&cluster.address(), &owner, |e| e).await.unwrap();
    NodeServiceClient::new(channel).list_nodes(ListNodesRequest {}).await.unwrap();
    let gone = casefile_identity::token::Token::new(casefile_identity::token::Kind::Api, owner.pin()).unwrap();
    assert_eq!(cluster.http("GET /api/v1/nodes", &gone.reveal()).await.0, 401);
    assert_eq!(cluster.http("GET /api/v1/nodes", &gone.reveal()[..100]).await.0, 401);
    assert_eq!(cluster.http("GET /", "token-of-nobody-2").await.0, 200, "the page is for anybody");
    assert_eq!(cluster.asked(), (0, 0));

    let audit = cluster.audit();
    assert!(audit.contains("denied  call  cluster:lee") && !audit.contains("token-of"), "{audit}");
    stop(cluster.collector).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_needs_its_own_right_and_no_other_one_opens_it() {
    let cluster = Cluster::start(|_| {}).await;
    let pin = cluster.rig.authority().unwrap().pin();
    let channel = dial(&cluster.address(), &Me::Nobody(pin), |e| e).await.unwrap();
    for right in Right::ALL {
        let (who, token) = (format!("has-{}-{}", right.verb(), right.resource()), format!("token-{right:?}"));
        cluster.server.reviews(|r| r.token(&token, json!({"username": who}), &[]));
        cluster.allow(&who, right);
        for method in METHODS {
            let request = Request::post(format!("http://casefile{method}"))
                .header(header::CONTENT_TYPE, "application/grpc")
                .header(header::AUTHORIZATION, format!("Bearer {token}"));
            let mut channel = channel.clone();
            std::future::poll_fn(|cx| channel.poll_ready(cx)).await.unwrap();
            let answer = channel.call(request.body(Body::empty()).unwrap()).await.unwrap();
            let status = answer.headers().get("grpc-status").map(|code| code.to_str().unwrap().to_owned());
            let stopped = matches!(status.as_deref(), Some("7" | "14" | "16"));
            let opens = match need(method).unwrap() {
                Need::Anybody => continue,
                Need::Agent => false,
                Need::Right(needed) => needed == right,
            };
            assert_eq!(!stopped, opens, "{method} with {right}: {status:?}");
        }
    }
    stop(cluster.collector).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_away_ends_within_half_a_minute_and_what_was_given_begins_within_five_seconds() {
    let cluster = Cluster::start(|_| {}).await;
    assert_eq!(cluster.nodes("token-of-kim").await.unwrap_err().code(), Code::PermissionDenied);
    cluster.allow("kim", Right::See);
    assert!(cluster.nodes("token-of-kim").await.is_err(), "remembered for five seconds");
    cluster.pass(5);
    cluster.nodes("token-of-kim").await.unwrap();
    cluster.server.reviews(|r| r.deny("kim", Right::See.verb(), Right::See.resource()));
    cluster.pass(29);
    assert!(cluster.nodes("token-of-kim").await.is_ok());
    cluster.pass(1);
    assert_eq!(cluster.nodes("token-of-kim").await.unwrap_err().code(), Code::PermissionDenied);
    cluster.allow("kim", Right::See);
    cluster.pass(5);
    cluster.nodes("token-of-kim").await.unwrap();
    cluster.server.reviews(|r| r.forget("token-of-kim"));
    cluster.pass(30);
    assert_eq!(cluster.nodes("token-of-kim").await.unwrap_err().code(), Code::Unauthenticated, "the token itself");
    stop(cluster.collector).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_api_server_is_away_nothing_is_allowed_and_nobody_is_told_that_he_may_not() {
    let cluster = Cluster::start(|_| {}).await;
    cluster.allow("kim", Right::See);
    cluster.nodes("token-of-kim").await.unwrap();
    cluster.server.set_mood(|mood| mood.down = true);
    assert!(cluster.nodes("token-of-kim").await.is_ok(), "what it said a moment ago counts");
    cluster.pass(31);
    for token in ["token-of-kim", "token-of-lee", "token-of-nobody"] {
        let status = cluster.nodes(token).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{token}: {status}");
        assert!(status.message().contains("API server does not say"), "{status}");
        let (status, body) = cluster.http("GET /api/v1/nodes", token).await;
        assert!(status == 503 && body.contains("API server does not say"), "{status} {body}");
    }
    assert_eq!((cluster.figure("failed", "token"), cluster.figure("failed", "access")), (6.0, 0.0));
    cluster.server.set_mood(|mood| mood.down = false);
    cluster.nodes("token-of-kim").await.unwrap();
    // It knows him, and does not say what he may.
    cluster.pass(31);
    for (part, code) in [("subjectaccessreviews", 500), ("subjectaccessreviews", 403), ("tokenreviews", 401)] {
        cluster.server.set_mood(|mood| mood.failing = vec![(part.to_owned(), code)]);
        assert_eq!(cluster.nodes("token-of-kim").await.unwrap_err().code(), Code::Unavailable, "{part} {code}");
        cluster.pass(31);
    }
    let garbage = json!({"kind": "SubjectAccessReview", "status": "allowed"}).to_string();
    cluster.server.set_mood(|mood| {
        (mood.failing, mood.instead) = (vec![], vec![("subjectaccessreviews".to_owned(), garbage)]);
    });
    assert_eq!(cluster.nodes("token-of-kim").await.unwrap_err().code(), Code::Unavailable);
    // Slow is away, too, and not for longer than its deadline.
    cluster.server.set_mood(|mood| (mood.instead, mood.delay) = (vec![], SOON));
    let all = futures_of(20, || cluster.nodes("token-of-lee")).await;
    assert!(all.iter().all(|a| a.as_ref().is_err_and(|s| s.code() == Code::Unavailable)), "{all:?}");
    stop(cluster.collector).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_recorded_by_a_name_that_nobody_else_has_and_one_that_cannot_be_shown_does_nothing() {
    let cluster = Cluster::start(|cluster| cluster.user_audiences = vec!["casefile".to_owned()]).await;
    let names = ["owner", "system:serviceaccount:ci:bot", "oidc:kim@example.com"];
    for name in names.into_iter().chain(["kim\u{1b}[2J", "kim (as owner)", "node n1"]) {
        cluster.server.reviews(|r| r.token(&format!("t-{}", name.len()), json!({"username": name}), &["casefile"]));
        cluster.allow(name, Right::See);
    }
    for name in names {
        cluster.nodes(&format!("t-{}", name.len())).await.unwrap();
        let denied = cluster.http("GET /api/v1/tokens", &format!("t-{}", name.len())).await;
        assert_eq!(denied.0, 403, "{}", denied.1);
    }
    for name in ["kim\u{1b}[2J", "kim (as owner)", "node n1"] {
        let status = cluster.nodes(&format!("t-{}", name.len())).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        assert!(status.message().contains("cannot be shown") && !status.message().contains("kim"), "{status}");
    }
    assert_eq!(cluster.nodes("token-of-kim").await.unwrap_err().code(), Code::Unauthenticated, "for another audience");
    let audit = cluster.audit();
    for name in names {
        assert!(audit.contains(&format!("denied  call  cluster:{name} ")), "{name}: {audit}");
    }
    stop(cluster.collector).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_takes_a_token_of_the_cluster_and_is_told_whom_to_trust() {
    let cluster = Cluster::start(|_| {}).await;
    cluster.allow("kim", Right::See);
    let file = cluster.rig.path("kim.token");
    std::fs::write(&file, "token-of-kim\n").unwrap();
    let (url, file) = (cluster.rig.url(), file.to_str().unwrap().to_owned());
    let pin = cluster.rig.authority().unwrap().pin().to_string();
    let nodes =
        |more: &[&str]| run("casefile", &[&["nodes", "--collector", &url, "--token-file", &file], more].concat());
    let done = nodes(&["--pin", &pin]);
    assert!(done.status.success(), "{}", said(&done));
    let pin_file = cluster.rig.path("pin");
    std::fs::write(&pin_file, &pin).unwrap();
    let done = nodes(&["--pin-file", pin_file.to_str().unwrap()]);
    assert!(done.status.success(), "{}", said(&done));
    let trusting = nodes(&[]);
    assert_eq!(trusting.status.code(), Some(1));
    assert!(said(&trusting).contains("does not say which collector to trust"), "{}", said(&trusting));
    let other = nodes(&["--pin", &"0".repeat(64)]);
    assert!(said(&other).contains("is not the collector of this pin"), "{}", said(&other));
    assert_eq!(nodes(&["--pin", "abc"]).status.code(), Some(2));
    let done = run("casefile", &["incidents", "--collector", &url, "--token-file", &file, "--pin", &pin]);
    assert!(done.status.success(), "{}", said(&done));
    stop(cluster.collector).await;
}

/// So many at once.
async fn futures_of<T, F: Future<Output = T>>(many: usize, make: impl Fn() -> F) -> Vec<T> {
    let mut all: Vec<_> = (0..many).map(|_| Box::pin(make())).collect();
    let mut done: Vec<Option<T>> = all.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, done) in all.iter_mut().zip(&mut done).filter(|(_, done)| done.is_none()) {
            if let std::task::Poll::Ready(value) = future.as_mut().poll(cx) {
                *done = Some(value);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}
