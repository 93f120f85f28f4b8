//! The API over HTTP: an incident opened, followed and fetched by ranges over loopback, and every way in that must be closed.
//!
//! `UPDATE_GOLDEN=1` writes the table of roles anew; each cell that becomes `yes` is a door.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use casefile_collector::api::rest::page;
use casefile_collector::api::rest::routes::ALL;
use casefile_identity::token::{Kind, Token};
use casefile_proto::identity::Role;
use casefile_tests::program::{command, run, said, tool};
use casefile_tests::scrape::raw;
use casefile_tests::{Rig, SOON, host::FakeHost, now, stop, wait};
use serde_json::{Value, json};

/// An answer, its body as bytes.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|l| l.1))
    }
}

/// Someone who asks over HTTP.
#[derive(Clone)]
struct Asker {
    at: SocketAddr,
    token: Option<String>,
}

impl Asker {
    /// The head of a request; more header lines, each ended.
    fn head(&self, line: &str, more: &str) -> String {
        let token = self.token.as_ref().map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        format!("{line} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{token}{more}\r\n", self.at)
    }

    fn send(&self, request: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect_timeout(&self.at, SOON).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        BufReader::new(stream)
    }

    /// Asks and reads the answer to its end; in a thread, for the collector may be in this very process.
    async fn asked(&self, line: &str, more: &str, body: &str) -> Answer {
        let more = if body.is_empty() {
            more.to_owned()
        } else {
            format!("{more}Content-Type: application/json\r\nContent-Length: {}\r\n", body.len())
        };
        let (asker, request) = (self.clone(), self.head(line, &more) + body);
        let asking = tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::new();
            asker.send(&request).read_to_end(&mut bytes).unwrap();
            let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("an answer has a head");
            let body = bytes.split_off(end + 4);
            let head = String::from_utf8(bytes).unwrap();
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
            Answer { status, head, body: if chunked { unchunked(&body) } else { body } }
        });
        asking.await.unwrap()
    }

    async fn get(&self, path: &str, more: &str) -> Answer {
        self.asked(&format!("GET {path}"), more, "").await
    }
}

/// A body out of its chunks (RFC 9112 §7.1).
fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            break;
        }
        whole.extend_from_slice(&body[end + 2..end + 2 + size]);
        body = &body[end + size + 4..];
    }
    whole
}

/// Where a collector answers over HTTP.
fn http_at(collector: &casefile_collector::Collector) -> SocketAddr {
    collector.http().unwrap().strip_prefix("http://").unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_is_opened_followed_fetched_by_ranges_and_read_by_entries_and_all_that_is_recorded() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    let collector = rig.collector_with(|config| config.http = Some(([127, 0, 0, 1], 0).into())).await.unwrap();
    let agent = rig.agent("n1", host.root()).unwrap();
    rig.client().await.unwrap().recorded("n1", Duration::from_secs(1)).await;
    let asker = Asker { at: http_at(&collector), token: Some(rig.owner().unwrap().reveal()) };
    let nodes = asker.get("/api/v1/nodes", "").await.json();
    assert_eq!((&nodes["nodes"][0]["node"], &nodes["nodes"][0]["link"]), (&json!("n1"), &json!("connected")));

    let window = json!({"from": now().before(Duration::from_secs(1)).to_string(), "until": now().to_string()});
    let ask = json!({"window": window, "title": "over HTTP", "nodes": ["n1"], "deadline_secs": 30}).to_string();
    let opened = asker.asked("POST /api/v1/incidents", "", &ask).await;
    assert_eq!(opened.status, 201, "{}", opened.json());
    let at = opened.header("location").unwrap().to_owned();
    // Read to its end: the stream ends by itself when the incident is sealed.
    let events = asker.get(&format!("{at}/events"), "").await;
    let events = String::from_utf8(events.body).unwrap();
    let last = events.trim_end().rsplit("\n\n").next().unwrap().strip_prefix("event: update\ndata: ").unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["incident"]["state"], "sealed", "{events}");

    let name = last["incident"]["archive"]["file_name"].as_str().unwrap();
    let path = rig.path("collector/archives").join(name);
    let file = std::fs::read(&path).unwrap();
    let mut fetched = Vec::new();
    for part in 0..4 {
        let (from, until) = (file.len() * part / 4, file.len() * (part + 1) / 4);
        let answer = asker.get(&format!("{at}/archive"), &format!("Range: bytes={from}-{}\r\n", until - 1)).await;
        assert_eq!(answer.status, 206, "{}", answer.head);
        fetched.extend(answer.body);
    }
    assert!(fetched == file, "the parts together are the file");
    let entries = asker.get(&format!("{at}/entries"), "").await.json();
    let count = entries["entries"].as_array().unwrap().len();
    assert!(count > 10, "{entries}");
    for entry in ["data/coverage.json", "bagit.txt"] {
        let cat = run("casefile", &["cat", path.to_str().unwrap(), entry]);
        assert!(cat.status.success(), "{}", said(&cat));
        let answer = asker.get(&format!("{at}/entries/{entry}"), "").await;
        assert!(answer.status == 200 && answer.body == cat.stdout, "{entry}: {}", answer.head);
    }
    // What the command prints is what is answered.
    let owner = rig.path("collector");
    let listed = run("casefile", &["incidents", "--data", owner.to_str().unwrap(), "-o", "json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(asker.get("/api/v1/incidents", "").await.json()["incidents"], listed);

    let log = run("casefile-collector", &["audit", "--data", owner.to_str().unwrap(), "--json"]);
    assert!(log.status.success(), "{}", said(&log));
    let log = String::from_utf8(log.stdout).unwrap();
    let lines = |verb: &str| log.lines().filter(|line| line.contains(&format!("\"verb\":\"{verb}\""))).count();
    assert_eq!((lines("open-incident"), lines("download-archive"), lines("read-entry")), (1, 4, 2), "{log}");
    agent.stop().await;
    stop(collector).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_lets_through_whom_it_should_and_nobody_else() {
    let rig = Rig::new().unwrap();
    let collector = rig.collector_with(|config| config.http = Some(([127, 0, 0, 1], 0).into())).await.unwrap();
    let (at, owner) = (http_at(&collector), rig.owner().unwrap());
    let me = Asker { at, token: Some(owner.reveal()) };
    let made = async |subject: Value| {
        let ask = json!({"subject": subject, "ttl_secs": 600}).to_string();
        let made = me.asked("POST /api/v1/tokens", "", &ask).await;
        assert_eq!(made.status, 201, "{}", made.json());
        made.json()
    };
    let token = |made: &Value| Some(made["token"].as_str().unwrap().to_owned());
    let gone = made(json!({"person": {"name": "gone", "roles": ["admin"]}})).await;
    let revoked = me.asked(&format!("DELETE /api/v1/tokens/{}", gone["id"].as_str().unwrap()), "", "").await;
    assert_eq!(revoked.status, 204);
    let forged = Token::new(Kind::Api, owner.pin()).unwrap().reveal();
    let join = made(json!({"node": "n"})).await;
    let mut callers =
        vec![("nobody", None), ("forged", Some(forged)), ("join-token", token(&join)), ("revoked", token(&gone))];
    for role in Role::ALL {
        let made = made(json!({"person": {"name": role.name(), "roles": [role.name()]}})).await;
        callers.push((role.name(), token(&made)));
    }
    let mut table = format!("{:<56}", "route");
    callers.iter().for_each(|(name, _)| write!(table, " {name:>10}").unwrap());
    let pages = if collector.page().is_some() { page::ALL } else { &[] };
    let routes = ALL.iter().chain(pages).map(|o| format!("{} {}", o.method.name(), o.path));
    let unknown = ["GET /api/v1/secrets", "GET /api/v1", "GET /metrics"].map(str::to_owned);
    for route in routes.chain(unknown) {
        write!(table, "\n{route:<56}").unwrap();
        let line = route.replace("{incident}", "INC-9").replace("{*path}", "data/x");
        let line = line.replace("{node}", "nobody-knows").replace("{token}", "0123456789abcdef");
        for (_, token) in &callers {
            let answer = Asker { at, token: token.clone() }.asked(&line, "", "").await;
            let through = match answer.status {
                401 | 403 => "-",
                404 if answer.json()["code"] == "no-route" => "nothing",
                _ => "yes",
            };
            write!(table, " {through:>10}").unwrap();
        }
    }
    table.push('\n');
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/golden/roles-http.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    let kept = std::fs::read(&path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    assert_eq!(table, kept, "the table of roles changed; UPDATE_GOLDEN=1 takes it over");
    stop(collector).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_foreign_hosts_and_requests_that_are_too_large_get_nothing_and_hurt_nobody() {
    let rig = Rig::new().unwrap();
    let collector = rig.collector_with(|config| config.http = Some(([127, 0, 0, 1], 0).into())).await.unwrap();
    let at = http_at(&collector);
    let me = Asker { at, token: Some(rig.owner().unwrap().reveal()) };
    let nobody = Asker { at, token: None };
    assert_eq!(nobody.get("/api/v1/nodes", "").await.status, 401);
    let head = me.head("GET /api/v1/nodes", "").replace(&format!("Host: {at}"), "Host: evil.example");
    let foreign = tokio::task::spawn_blocking(move || raw(at, &head).unwrap()).await.unwrap();
    assert_eq!(foreign.status, 421, "{foreign:?}");
    assert_eq!(me.get("/api/v1/nodes", "Origin: http://evil.example\r\n").await.status, 403);
    assert_eq!(me.get("/api/v1/nodes", &format!("X: {}\r\n", "x".repeat(20_000))).await.status, 431);
    assert_eq!(me.get("/api/v1/nodes", &"X: x\r\n".repeat(100)).await.status, 431);
    let large = json!({"window": {}, "reason": "x".repeat(100_000)}).to_string();
    assert_eq!(me.asked("POST /api/v1/incidents", "", &large).await.status, 413);
    // More silent connections than there may be strangers: whoever can prove himself gets in all the same.
    let silent: Vec<_> = (0..300).map(|_| TcpStream::connect(at).unwrap()).collect();
    wait::until("an answer behind a flood of silent connections", async || {
        let asker = me.clone();
        let asking = tokio::task::spawn_blocking(move || {
            let mut stream = asker.send(&asker.head("GET /api/v1/nodes", ""));
            let mut line = String::new();
            stream.read_line(&mut line).ok().filter(|_| line.contains(" 200 "))
        });
        asking.await.unwrap()
    })
    .await;
    drop(silent);
    stop(collector).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_an_incident_is_told_that_the_collector_stops() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    let collector = rig.collector_with(|config| config.http = Some(([127, 0, 0, 1], 0).into())).await.unwrap();
    let agent = rig.agent("n1", host.root()).unwrap();
    rig.client().await.unwrap().recorded("n1", Duration::from_secs(1)).await;
    let asker = Asker { at: http_at(&collector), token: Some(rig.owner().unwrap().reveal()) };
    let (from, until) = (now().before(Duration::from_secs(1)), now().after(Duration::from_secs(600)));
    let ask = json!({"window": {"from": from.to_string(), "until": until.to_string()}}).to_string();
    let opened = asker.asked("POST /api/v1/incidents", "", &ask).await;
    assert_eq!(opened.status, 201, "{}", opened.json());
    let at = opened.header("location").unwrap().to_owned();
    let (begun, began) = tokio::sync::oneshot::channel();
    let following = tokio::task::spawn_blocking(move || {
        let mut lines = asker.send(&asker.head(&format!("GET {at}/events"), "")).lines().map_while(Result::ok);
        lines.find(|line| line.starts_with("event: update")).expect("it begins with the view");
        begun.send(()).unwrap();
        lines.any(|line| line.starts_with("event: stopping"))
    });
    // The incident waits for the end of its window, so that nothing but the stop can end the stream.
    tokio::time::timeout(SOON, began).await.unwrap().unwrap();
    agent.stop().await;
    stop(collector).await;
    assert!(following.await.unwrap(), "the stream ended without a word");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_others_reach_it_there_is_tls_unless_something_in_front_is_said_to_have_it() {
    let Some(mut curl) = tool("curl") else { return };
    let rig = Rig::new().unwrap();
    let anywhere = Some(([0, 0, 0, 0], 0).into());
    let collector = rig.collector_with(|config| config.http = anywhere).await.unwrap();
    let url = collector.http().unwrap();
    let port = url.strip_prefix("https://0.0.0.0:").unwrap().to_owned();
    // Its certificate is of its own authority, which curl does not know: what it says is not looked at here, that it is there is.
    curl.args(["--silent", "--show-error", "--insecure", "--write-out", " %{http_code} %{http_version}"]);
    curl.arg(format!("https://127.0.0.1:{port}/api/v1/nodes"));
    let answered = tokio::task::spawn_blocking(move || curl.output().unwrap()).await.unwrap();
    let text = String::from_utf8_lossy(&answered.stdout).into_owned();
    assert!(text.contains("unauthenticated") && text.ends_with(" 401 1.1"), "{}", said(&answered));
    let at: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
    let plain = tokio::task::spawn_blocking(move || raw(at, "GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"));
    assert!(plain.await.unwrap().is_err(), "it was answered without TLS");
    stop(collector).await;

    let plain = |config: &mut casefile_collector::config::Config| (config.http, config.http_plain) = (anywhere, true);
    let collector = rig.collector_with(plain).await.unwrap();
    let at = collector.http().unwrap().strip_prefix("http://0.0.0.0:").unwrap().parse().unwrap();
    let asker = Asker { at: ([127, 0, 0, 1], at).into(), token: None };
    assert_eq!(asker.get("/openapi.json", "").await.status, 200);
    stop(collector).await;
}

#[test]
fn local_says_where_it_answers_and_tells_the_token_to_terminals_only() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut local = command("casefile-collector");
    local.args(["local", "--once", "--warm-up", "1s", "--http", "127.0.0.1:0", "--data", data.to_str().unwrap()]);
    let output = local.output().unwrap();
    let text = said(&output);
    assert!(output.status.success() && text.contains("http://127.0.0.1:"), "{text}");
    let token = std::fs::read(data.join("keys/owner.token")).unwrap();
    assert!(!text.contains(std::str::from_utf8(&token).unwrap().trim()), "a log would have the token: {text}");
    let off = run("casefile-collector", &["local", "--http", "0.0.0.0:7070", "--data", data.to_str().unwrap()]);
    assert_eq!(off.status.code(), Some(2), "{}", said(&off));
}
