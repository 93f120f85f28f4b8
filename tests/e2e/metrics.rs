//! `/metrics` during a real run: the text is in order, and every figure is what happened.

use std::collections::BTreeMap;
use std::time::Duration;

use casefile_proto::incident::IncidentState;
use casefile_proto::time::Window;
use casefile_tests::scrape::{get, metrics, raw};
use casefile_tests::{Rig, audit, host::FakeHost, now, stop, wait};

#[tokio::test(flavor = "multi_thread")]
async fn the_figures_are_what_happened() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    let collector = rig.collector().await.unwrap();
    let at = collector.observed_at().unwrap();
    let empty = metrics(at);
    assert_eq!((empty.of("casefile_sessions"), empty.of("casefile_frames_received_total")), (0.0, 0.0));
    assert!(empty.of("process_resident_memory_bytes") > 1e6 && empty.of("casefile_disk_size_bytes") > 0.0);

    let agents = [rig.agent("n1", host.root()).unwrap(), rig.agent("n2", host.root()).unwrap()];
    let mut client = rig.client().await.unwrap();
    for node in ["n1", "n2"] {
        client.recorded(node, Duration::from_secs(1)).await;
    }
    let running = metrics(at);
    assert_eq!(running.of("casefile_sessions"), 2.0);
    let classes: BTreeMap<_, _> = running.family("casefile_nodes").collect();
    assert_eq!(classes["heard_within=\"2s\""], 2.0, "{classes:?}");
    assert_eq!(classes.values().sum::<f64>(), 2.0, "{classes:?}");
    assert!(running.of("casefile_connections") >= 3.0, "two agents and us");

    let window = Window::new(now().before(Duration::from_secs(1)), now()).unwrap();
    let id = client.open(window, &[], Duration::from_secs(30)).await.unwrap().id;
    let sealed = client.sealed(id).await.unwrap();
    for agent in agents {
        agent.stop().await;
    }
    let ended = wait::until("the end of both sessions", async || {
        let now = metrics(at);
        (now.of("casefile_sessions") == 0.0 && now.sum("casefile_sessions_ended_total") == 2.0).then_some(now)
    })
    .await;

    let held: u64 =
        [1, 2].map(|n| audit::directory(&rig.path(&format!("collector/last-words/{n}"))).unwrap().frames).iter().sum();
    #[expect(clippy::cast_precision_loss, reason = "a few hundred frames")]
    let held = held as f64;
    assert_eq!(ended.of("casefile_frames_received_total"), held, "each that is held was received once");
    let batches = ended.of("casefile_frame_batches_received_total");
    assert!(batches >= 2.0 && batches <= held, "{batches}");
    assert_eq!(ended.of("casefile_last_words_appends_total"), batches);
    assert_eq!(ended.of("casefile_ack_seconds_count"), batches, "every batch was acknowledged, and that took its time");
    assert_eq!(ended.of("casefile_acks_sent_total"), batches);
    let syncs = ended.of("casefile_last_words_syncs_total");
    assert!(syncs >= 1.0 && syncs <= batches && ended.of("casefile_last_words_sync_seconds_count") == syncs, "{syncs}");
    assert!(ended.of("casefile_frames_received_bytes_total") > held * 10.0);
    assert_eq!(ended.sum("casefile_stream_frames_lost_total"), 0.0);
    assert_eq!(ended.of("casefile_last_words_failures_total"), 0.0);
    assert!(ended.of("casefile_last_words_bytes") > 0.0);

    for state in IncidentState::ALL {
        let expected = if state == IncidentState::Sealed { 1.0 } else { 0.0 };
        assert_eq!(ended.of(&format!("casefile_incidents{{state=\"{}\"}}", state.name())), expected);
    }
    assert_eq!((ended.of("casefile_incidents_opened_total"), ended.of("casefile_incidents_sealed_total")), (1.0, 1.0));
    let archive = sealed.incident.archive.unwrap();
    #[expect(clippy::cast_precision_loss, reason = "a small archive")]
    let size = archive.size as f64;
    assert_eq!(ended.of("casefile_archives_sealed_bytes_total"), size);
    #[expect(clippy::cast_precision_loss, reason = "a few items")]
    let items = collector.counts().items as f64;
    assert!(items >= 2.0 && ended.of("casefile_upload_items_received_total") == items, "{items}");
    assert!(ended.of("casefile_uploads_received_bytes_total") > 0.0);
    for stage in ["first-evidence", "gathering", "sealing", "reread"] {
        assert_eq!(ended.of(&format!("casefile_incident_stage_seconds_count{{stage=\"{stage}\"}}")), 1.0, "{stage}");
    }
    let mut declared: BTreeMap<String, f64> = BTreeMap::new();
    for node in &sealed.coverage.unwrap().nodes {
        for gap in node.gaps.iter().chain(node.sources.iter().flat_map(|s| &s.gaps)) {
            *declared.entry(format!("reason=\"{}\"", gap.reason)).or_default() += 1.0;
        }
    }
    let counted: BTreeMap<_, _> = ended
        .family("casefile_coverage_gaps_total")
        .filter(|(_, n)| *n > 0.0)
        .map(|(l, n)| (l.to_owned(), n))
        .collect();
    assert!(!declared.is_empty(), "a fixture host has gaps");
    assert_eq!(counted, declared);

    stop(collector).await;
    let again = rig.collector().await.unwrap();
    let after = metrics(again.observed_at().unwrap());
    assert_eq!(after.of("casefile_nodes{heard_within=\"silent\"}"), 2.0, "known from before, and not heard");
    assert_eq!(after.of("casefile_incidents{state=\"sealed\"}"), 1.0);
    stop(again).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_short_request_without_a_body_is_refused_and_hurts_nobody() {
    let rig = Rig::new().unwrap();
    let collector = rig.collector().await.unwrap();
    let at = collector.observed_at().unwrap();
    let head = |method: &str, path: &str, more: &str| {
        raw(at, &format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}\r\n")).unwrap()
    };
    assert_eq!(head("GET", "/", "").status, 404);
    assert_eq!(head("POST", "/metrics", "").status, 405);
    assert_eq!(head("DELETE", "/healthz", "").status, 405);
    assert_eq!(head("GET", "/healthz", "Content-Length: 5\r\n").status, 413);
    assert_eq!(head("GET", "/healthz", "Transfer-Encoding: chunked\r\n").status, 413);
    assert_eq!(head("GET", "/healthz", &format!("X: {}\r\n", "x".repeat(9_000))).status, 431);
    assert_eq!(head("GET", "/healthz", &"X: x\r\n".repeat(100)).status, 431);
    let silent: Vec<_> = (0..100).map(|_| std::net::TcpStream::connect(at).unwrap()).collect();
    drop(silent);
    wait::until("an answer after a flood of silent connections", async || get(at, "/healthz", "").ok()).await;
    assert!(metrics(at).get("casefile_build_info{version=\"0.1.0\"}").is_some());
    stop(collector).await;
}

/// An address of this machine that is not loopback; `None`, said on standard error, where it has no network. With
/// `CASEFILE_ALLOW_NO_SKIP` set that fails.
fn own_address() -> Option<std::net::IpAddr> {
    // Nothing is sent: the system only says which address it would use. 192.0.2.0/24 is nobody's.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let address = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr()).ok().map(|at| at.ip());
    let address = address.filter(|ip| !ip.is_loopback() && !ip.is_unspecified());
    if address.is_none() {
        assert!(std::env::var_os("CASEFILE_ALLOW_NO_SKIP").is_none(), "no network, and no skip is allowed");
        eprintln!("skipped: this machine has no address but loopback");
    }
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn from_elsewhere_the_token_of_the_scraper_opens_the_figures_and_nothing_else() {
    let Some(ip) = own_address() else { return };
    let rig = Rig::new().unwrap();
    let token = "5d3f0c7e9a1b2c4d5d3f0c7e9a1b2c4d";
    let path = rig.path("token");
    let collector = rig
        .collector_with(|config| {
            config.observe = Some(std::net::SocketAddr::from(([0, 0, 0, 0], 0)));
            config.metrics_token = Some(path.clone());
        })
        .await
        .unwrap();
    let at = std::net::SocketAddr::new(ip, collector.observed_at().unwrap().port());
    let shown = |what: &str, token: &str| get(at, what, &format!("Authorization: Bearer {token}\r\n")).unwrap().status;
    assert_eq!(shown("/metrics", token), 403, "there is no file");
    std::fs::write(&path, format!("{token}\n")).unwrap();
    assert_eq!(shown("/metrics", token), 200);
    assert_eq!((shown("/metrics", &token[1..]), shown("/metrics", "")), (403, 403));
    assert_eq!(get(at, "/metrics", "").unwrap().status, 403);
    assert_eq!(get(at, "/metrics", &format!("Authorization: Basic {token}\r\n")).unwrap().status, 403);
    assert_eq!(get(at, "/healthz", "").unwrap().status, 200, "health is everybody's");
    let nobody = token.parse::<casefile_identity::token::Token>();
    assert!(nobody.is_err(), "the API does not take it for a token of anybody");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(shown("/metrics", token), 403);
    stop(collector).await;
}
