//! The routes without a network: who gets in, what is answered, in which words it is refused, and what is recorded.

mod shape;

use std::collections::BTreeSet;
use std::path::PathBuf;

use axum::body::to_bytes;
use axum::http::response::Parts;
use axum::http::{Request as Builder, StatusCode};
use casefile_evidence::archive::limits::Limits;
use casefile_evidence::archive::reader::Archive;
use casefile_proto::identity::{Person, Role, Subject, TokenAsk};
use casefile_proto::item::Digest;
use casefile_proto::node::Link::Connected;
use casefile_proto::units::Bytes as Size;
use casefile_review::casefile::CaseFile;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio_stream::StreamExt as _;

use super::*;
use crate::api::tests::verbs;
use crate::audit::Audit;
use crate::identity::caller::{Caller, Who};
use crate::identity::routes::Need;
use crate::incident::test_nodes::window;
use crate::incident::test_rig::{Rig, SOON, ask};
use crate::ingest::Clock;
use crate::store::sqlite::SqliteStore;
use page::{Asset, Reply};

struct Served {
    rig: Rig,
    front: Front,
    audit: Arc<Audit>,
    identity: Arc<Identity>,
    owner: String,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The code of a problem, which must be one as the RFC has it.
    fn code(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        shape::check("Problem", &problem);
        assert_eq!(problem["status"], self.status);
        problem["code"].as_str().unwrap().to_owned()
    }
}

const ASSETS: &[Asset] = &[
    Asset { path: "index.html", content_type: "text/html; charset=utf-8", bytes: b"<!doctype html>" },
    Asset { path: "js/app.js", content_type: "text/javascript", bytes: b"1" },
];

/// Answers with what was asked of which case file.
fn told(case: &mut CaseFile, path: &str, query: &str) -> Reply {
    assert_ne!(path, "defect", "a question that ends in a defect");
    let body = format!("{} {path}?{query}", case.incident.title).into_bytes();
    Reply { status: if path == "none" { 404 } else { 200 }, content_type: "text/plain", body }
}

impl Served {
    async fn start() -> Self {
        let rig = Rig::start(&[("a", Connected)]).await;
        let now: Clock = Arc::new(crate::clock::now);
        let audit = Arc::new(Audit::open(&rig.data.audit(), Arc::clone(&now)).unwrap());
        let tokens = Arc::new(SqliteStore::in_memory());
        let life = Duration::from_hours(1);
        let identity = Identity::open(&rig.data.keys(), tokens, Arc::clone(&audit), now, life).unwrap();
        let identity = Arc::new(identity);
        let owner = casefile_identity::token::Token::load(&rig.data.keys().join("owner.token")).unwrap().reveal();
        let site = Site {
            verbs: Arc::new(verbs(&rig, &audit)),
            identity: Arc::clone(&identity),
            authorise: Authorise::new(Arc::clone(&identity)),
            names: Names::new(["casefile.example".to_owned()]),
            page: Page::new(ASSETS, told),
            stats: Arc::default(),
        };
        Self { rig, front: Front::new(site), audit, identity, owner }
    }

    /// The token of somebody with this role.
    fn token(&self, role: Role) -> String {
        let owner = Caller { who: Who::Nobody, from: ([127, 0, 0, 1], 1).into() };
        let person = Person { name: role.name().parse().unwrap(), roles: vec![role] };
        let ask = TokenAsk { subject: Subject::Person(person), ttl: Duration::from_hours(1) };
        self.identity.create(ask, &owner).unwrap().token
    }

    /// Asks as somebody with this token; `None`: nobody.
    async fn asked(&self, token: Option<&str>, line: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let (head, body) = self.begun(token, line, headers, body).await;
        let body = timeout(SOON, to_bytes(body, 64 << 20)).await.unwrap();
        Answer { status: head.status.as_u16(), headers: head.headers, body: body.unwrap().to_vec() }
    }

    /// An answer of which the body is still to come.
    async fn begun(&self, token: Option<&str>, line: &str, headers: &[(&str, &str)], body: &str) -> (Parts, Body) {
        let (method, path) = line.split_once(' ').unwrap();
        let mut request = Builder::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "127.0.0.1:7070");
        }
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let from = ([127, 0, 0, 1], 50_000).into();
        let request = request.extension(Peer::new(from, None, Arc::default())).body(Body::from(body.to_owned()));
        timeout(SOON, self.front.answer(request.unwrap())).await.unwrap().into_parts()
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.asked(Some(&self.owner), &format!("GET {path}"), headers, "").await
    }

    async fn open(&self, body: &Value) -> Answer {
        let json = [("content-type", "application/json")];
        self.asked(Some(&self.owner), "POST /api/v1/incidents", &json, &body.to_string()).await
    }

    /// A sealed incident of node a: its address, and its archive as it lies on the disk.
    async fn sealed(&mut self) -> (String, PathBuf) {
        let opened = self.rig.incidents.open(ask(window(0, 50), &[], None)).await.unwrap();
        let (node, asked, spool) = self.rig.asked().await;
        self.rig.answer(&node, &asked, &spool).await;
        let archive = self.rig.ended(opened.id).await.incident.archive.unwrap();
        (format!("/api/v1/incidents/{}", opened.id), self.rig.incidents.archive(&archive))
    }

    /// The audit log: who, what, of what.
    fn recorded(&self) -> Vec<(String, &'static str, String)> {
        let mut lines = Vec::new();
        let each = |line: &crate::audit::Line| {
            lines.push((line.entry.who.clone(), line.entry.verb.word(), line.entry.what.clone()));
        };
        crate::audit::read(&self.rig.data.audit(), each).unwrap();
        lines
    }
}

fn document() -> Value {
    serde_json::from_str(document::TEXT).unwrap()
}

/// An address of this operation.
fn example(operation: &Operation) -> String {
    let path = operation.path.replace("{incident}", "INC-000009").replace("{*path}", "data/coverage.json");
    path.replace("{node}", "b").replace("{token}", "0123456789abcdef")
}

#[test]
fn every_route_is_in_the_document_and_every_route_of_the_document_is_there() {
    let document = document();
    let mut described = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let operations = operations.as_object().unwrap();
        for (method, operation) in operations {
            if method == "head" {
                assert!(operations.contains_key("get"), "{path}: every GET answers HEAD, and nothing else does");
                continue;
            }
            let id = operation["operationId"].as_str().unwrap().to_owned();
            let role = operation["x-role"].as_str().map(str::to_owned);
            assert_eq!(role.is_none(), operation["security"].is_array(), "{path}: nobody in particular");
            described.insert((id, method.to_uppercase(), path.clone(), role));
        }
    }
    let there = routes::ALL.iter().map(|o| {
        let role = match o.need {
            Need::Right(right) => Some(right.role().name().to_owned()),
            Need::Anybody => None,
            Need::Agent => panic!("no agent speaks HTTP"),
        };
        (o.id.to_owned(), o.method.name().to_owned(), o.path.replace("{*", "{"), role)
    });
    assert_eq!(there.collect::<BTreeSet<_>>(), described);
}

#[test]
fn every_word_of_a_closed_list_is_in_the_document() {
    let document = document();
    let words = |pointer: &str| -> Vec<String> {
        let found =
            document.pointer(&format!("/components/schemas/{pointer}/enum")).unwrap_or_else(|| panic!("{pointer}"));
        found.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    fn said<T: serde::Serialize>(all: &[T]) -> Vec<String> {
        all.iter().map(|one| serde_json::to_value(one).unwrap().as_str().unwrap().to_owned()).collect()
    }
    use casefile_proto::{coverage, gap, incident, node};
    assert_eq!(words("GapReason"), said(&gap::GapReason::ALL));
    assert_eq!(words("Severity"), said(&incident::Severity::ALL));
    assert_eq!(words("Ask/properties/trigger"), said(&incident::Trigger::ALL));
    assert_eq!(words("Incident/properties/state"), said(&incident::IncidentState::ALL));
    assert_eq!(words("NodeProgress/properties/phase"), said(&incident::NodePhase::ALL));
    assert_eq!(words("NodeCoverage/properties/state"), said(&coverage::NodeState::ALL));
    assert_eq!(words("SourceCoverage/properties/kind"), said(&coverage::SourceKind::ALL));
    assert_eq!(words("Node/properties/link"), said(&[Connected, node::Link::Away]));
    use casefile_proto::connectivity::{Blame, UntestedReason, steps};
    assert_eq!(words("ConnectivityFailure"), said(&steps::Failure::ALL));
    assert_eq!(words("ConnectivityVerdict/properties/blame"), said(&Blame::ALL));
    assert_eq!(words("ConnectivityVerdict/properties/step"), said(&steps::Step::ALL));
    let untested = "ConnectivityResult/properties/untested/properties/reason";
    assert_eq!(words(untested), said(&UntestedReason::ALL));
    let trust = "ConnectivitySteps/properties/tls/properties/shown/properties/trust";
    assert_eq!(words(trust), said(&steps::Trust::ALL));
    let roles = "Subject/oneOf/1/properties/person/properties/roles/items";
    assert_eq!(words(roles), said(&Role::ALL));
}

#[tokio::test]
async fn nobody_and_whoever_lacks_the_role_is_stopped_before_every_route_and_that_is_recorded() {
    let served = Served::start().await;
    let tokens: Vec<_> = Role::ALL.into_iter().map(|role| (role, served.token(role))).collect();
    for operation in routes::ALL {
        let Need::Right(needed) = operation.need else { continue };
        let needed = needed.role();
        let line = format!("{} {}", operation.method.name(), example(operation));
        for wrong in [None, Some("cft_nonsense"), Some("")] {
            let answer = served.asked(wrong, &line, &[], "").await;
            assert_eq!((answer.status, answer.code().as_str()), (401, "unauthenticated"), "{line}");
            assert!(answer.header("www-authenticate").starts_with("Bearer"), "{line}");
        }
        for (role, token) in &tokens {
            let answer = served.asked(Some(token), &line, &[], "").await;
            let refused = answer.status == 403;
            assert_eq!(refused, !role.includes(needed), "{line} as {role}: {}", answer.status);
        }
    }
    let nowhere = served.asked(None, "GET /api/v1/secrets", &[], "").await;
    assert_eq!(nowhere.status, 401, "strangers do not learn what there is");
    assert_eq!(served.get("/api/v1/secrets", &[]).await.code(), "no-route");
    let denied = |who: &str, what: &str| {
        let wanted = (who.to_owned(), "call", what.to_owned());
        served.recorded().contains(&wanted)
    };
    let all_there = || {
        denied("nobody", "GET /api/v1/incidents")
            && denied("nobody", "no method of ours")
            && denied("viewer", "GET /api/v1/incidents/{incident}/archive")
            && denied("exporter", "POST /api/v1/incidents")
    };
    crate::incident::test_rig::until("lines of what was refused", || all_there().then_some(())).await;
}

#[tokio::test]
async fn a_target_that_is_not_listed_is_refused_and_recorded_and_one_that_is_has_a_row_for_every_node() {
    let served = Served::start().await;
    let test = async |body: Value| {
        let headers = [("content-type", "application/json")];
        served.asked(Some(&served.owner), "POST /api/v1/connectivity", &headers, &body.to_string()).await
    };
    for target in ["http://169.254.169.254/latest/meta-data", "https://api.shop.svc/admin", "API"] {
        let answer = test(json!({"target": target})).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "unlisted-target"), "{target}");
        assert!(answer.json()["detail"].as_str().unwrap().ends_with(": api"), "{:?}", answer.json());
    }
    for (body, code) in [
        (json!({"target": ""}), "malformed"),
        (json!({"target": "api", "node": "a"}), "malformed"),
        (json!({"target": "api", "deadline_secs": 11}), "malformed"),
        (json!({"target": "api", "nodes": ["b"]}), "no-node"),
    ] {
        assert_eq!(test(body.clone()).await.code(), code, "{body}");
    }
    let listed = served.get("/api/v1/connectivity/targets", &[]).await.json();
    assert_eq!(listed, json!({"targets": [{"name": "api", "target": "https://api.shop.svc:443/healthz"}]}));
    let answer = test(json!({"target": "https://api.shop.svc:443/healthz"})).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    let judged: casefile_proto::connectivity::Judged = serde_json::from_value(answer.json()).unwrap();
    assert_eq!((judged.test.nodes.len(), judged.test.asked_by.as_str()), (1, "owner"));
    assert_eq!(answer.json()["test"]["nodes"][0]["untested"]["reason"], "too-old");
    assert_eq!(judged.verdict.sentence, "nobody can tell: no node could test api");
    let recorded = served.recorded();
    let tests: Vec<_> = recorded.iter().filter(|(_, verb, _)| *verb == "test-connectivity").collect();
    assert_eq!(tests.len(), 4, "{recorded:?}");
    assert!(tests[0].2.starts_with("\"http://169.254.169.254/latest/meta-data\" is not among"), "{tests:?}");
    assert_eq!(tests[3].2, "api https://api.shop.svc:443/healthz from 1 nodes");
}

#[tokio::test]
async fn a_request_for_another_host_or_from_another_page_is_refused() {
    let served = Served::start().await;
    let nodes = "/api/v1/nodes";
    assert_eq!(served.get(nodes, &[("host", "casefile.example")]).await.status, 200);
    assert_eq!(served.get(nodes, &[("host", "evil.example:7070")]).await.code(), "foreign-host");
    assert_eq!(served.get("/", &[("host", "evil.example:7070")]).await.status, 421, "the page neither");
    assert_eq!(served.get(nodes, &[("origin", "http://evil.example")]).await.code(), "foreign-origin");
    assert_eq!(served.get(nodes, &[("origin", "http://127.0.0.1:7070")]).await.status, 200);
    let recorded = || served.recorded().iter().any(|(_, verb, what)| *verb == "call" && what == "This is another host");
    crate::incident::test_rig::until("a line of it", || recorded().then_some(())).await;
}

#[tokio::test]
async fn every_answer_says_that_it_is_no_page_and_the_page_says_what_it_may() {
    let served = Served::start().await;
    for path in ["/api/v1/nodes", "/api/v1/none", "/openapi.json", "/nothing"] {
        let answer = served.get(path, &[]).await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
        assert!(answer.header("content-security-policy").starts_with("default-src 'none'"), "{path}");
        assert!(!answer.header("content-type").contains("html"), "{path}");
    }
    for (path, bytes) in
        [("/", &b"<!doctype html>"[..]), ("/ui/index.html", b"<!doctype html>"), ("/ui/js/app.js", b"1")]
    {
        let answer = served.asked(None, &format!("GET {path}"), &[], "").await;
        assert_eq!((answer.status, answer.body.as_slice()), (200, bytes), "{path}");
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("script-src 'self'") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("cross-origin-opener-policy"), "same-origin");
    }
    assert_eq!(served.get("/ui/../index.html", &[]).await.status, 404);
    assert_eq!(served.asked(None, "GET /openapi.json", &[], "").await.json(), document());
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_its_reason() {
    let served = Served::start().await;
    let window = json!({"from": "2026-11-23T02:44:10Z", "until": "2026-11-23T03:14:10Z"});
    let cases = [
        (json!({}), 400, "malformed", "window"),
        (json!({"window": window, "nodse": []}), 400, "malformed", "nodse"),
        (json!({"window": window, "scope": {"source": []}}), 400, "malformed", "source"),
        (json!({"window": {"from": "now", "until": "then"}}), 400, "malformed", "RFC 3339"),
        (json!({"window": {"from": window["until"], "until": window["from"]}}), 400, "malformed", "reversed"),
        (json!({"window": window, "title": "x".repeat(2_000)}), 400, "malformed", "title"),
        (json!({"window": window, "runbook": "x".repeat(257)}), 400, "malformed", "runbook"),
        (json!({"window": window, "reason": "x".repeat(4_097)}), 400, "malformed", "reason"),
        (json!({"window": window, "deadline_secs": 0}), 400, "malformed", "deadline_secs"),
        (json!({"window": window, "slack_secs": 61}), 400, "malformed", "slack_secs"),
        (json!({"window": window, "nodes": ["../b"]}), 400, "malformed", "node name"),
        (json!({"window": window, "nodes": ["b"]}), 404, "no-node", "Known: a"),
        (
            json!({"window": {"from": "2200-01-01T00:00:00Z", "until": "2200-01-02T00:00:00Z"}}),
            422,
            "not-possible",
            "nothing of it",
        ),
        (json!({"window": window, "reason": "x".repeat(70_000)}), 413, "too-large", "64 KiB"),
    ];
    for (body, status, code, words) in cases {
        let answer = served.open(&body).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{body}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(words), "{:?}", answer.json());
    }
    let plain = [("content-type", "text/plain")];
    let form = served.asked(Some(&served.owner), "POST /api/v1/incidents", &plain, "{}").await;
    assert_eq!(form.code(), "wrong-type", "a form of another site cannot say JSON");
    for (path, code) in [
        ("/api/v1/incidents?limt=1", "malformed"),
        ("/api/v1/incidents?limit=0", "malformed"),
        ("/api/v1/incidents?limit=1&limit=2", "malformed"),
        ("/api/v1/incidents?limit=%ff", "malformed"),
        ("/api/v1/incidents?before=x", "malformed"),
        ("/api/v1/incidents/x", "malformed"),
        ("/api/v1/incidents/INC-000009", "no-incident"),
        ("/api/v1/incidents/INC-000009/events", "no-incident"),
        ("/api/v1/incidents/INC-000009/archive", "no-incident"),
        ("/api/v1/incidents/INC-000009/entries/../../etc/passwd", "malformed"),
        ("/api/v1/incidents/INC-000009/entries/%2e%2e/x", "malformed"),
    ] {
        assert_eq!(served.get(path, &[]).await.code(), code, "{path}");
    }
    let wrong = served.asked(Some(&served.owner), "PUT /api/v1/incidents", &[], "").await;
    assert_eq!(wrong.code(), "no-method");
    assert!(wrong.header("allow").contains("POST"), "{:?}", wrong.headers);
}

#[tokio::test]
async fn an_incident_is_opened_followed_to_its_end_and_shown_as_the_command_shows_it() {
    let mut served = Served::start().await;
    let from = window(0, 50);
    let body = json!({"window": from, "title": "why", "nodes": ["a"], "deadline_secs": 600});
    let opened = served.open(&body).await;
    assert_eq!((opened.status, opened.header("location")), (201, "/api/v1/incidents/INC-000001"));
    shape::check("IncidentDetail", &opened.json());
    assert_eq!(opened.json()["incident"]["ask"]["requested_by"], "owner", "who asked is who has proven it");
    assert_eq!(served.get("/api/v1/incidents/1/archive", &[]).await.code(), "not-sealed");

    let (node, asked, spool) = served.rig.asked().await;
    let (head, body) = served.begun(Some(&served.owner), "GET /api/v1/incidents/INC-000001/events", &[], "").await;
    assert_eq!(head.headers["content-type"], "text/event-stream");
    let mut pieces = body.into_data_stream();
    // The first event is waited for: how far the incident is by then, is known.
    let mut text = timeout(SOON, pieces.next()).await.unwrap().unwrap().unwrap().to_vec();
    served.rig.answer(&node, &asked, &spool).await;
    while let Some(piece) = timeout(SOON, pieces.next()).await.unwrap() {
        text.extend_from_slice(&piece.unwrap());
    }
    let text = String::from_utf8(text).unwrap();
    let views: Vec<Value> = text
        .split("\n\n")
        .filter_map(|event| event.strip_prefix("event: update\ndata: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    views.iter().for_each(|view| shape::check("IncidentView", view));
    assert_eq!(views[0]["incident"]["state"], "gathering");
    assert_eq!(views.last().unwrap()["incident"]["state"], "sealed");
    assert_eq!(views.last().unwrap()["nodes"][0]["phase"], "answered");

    let shown = served.get("/api/v1/incidents/INC-000001", &[]).await.json();
    shape::check("IncidentDetail", &shown);
    assert_eq!(shown["coverage"]["nodes"][0]["node"], "a");
    let page = served.get("/api/v1/incidents?limit=1", &[]).await.json();
    shape::check("IncidentPage", &page);
    assert_eq!(page["incidents"][0], shown["incident"]);
    assert_eq!(page["more"], false);
    let nodes = served.get("/api/v1/nodes", &[]).await.json();
    shape::check("NodeList", &nodes);
    let lines = served.recorded();
    assert_eq!((lines[0].0.as_str(), lines[0].1), ("owner", "open-incident"));
}

#[tokio::test]
async fn an_archive_and_its_entries_are_given_out_whole_and_in_parts_and_each_time_that_is_recorded() {
    let mut served = Served::start().await;
    let (at, path) = served.sealed().await;
    let file = std::fs::read(&path).unwrap();
    let tag = format!("\"{}\"", Digest(Sha256::digest(&file).into()));
    let archive = format!("{at}/archive");
    let head = served.asked(Some(&served.owner), &format!("HEAD {archive}"), &[], "").await;
    assert_eq!((head.status, head.header("content-length")), (200, file.len().to_string().as_str()));
    assert!(head.body.is_empty() && served.recorded().is_empty(), "nothing was given out");

    let whole = served.get(&archive, &[]).await;
    assert_eq!((whole.status, whole.header("etag"), whole.header("accept-ranges")), (200, tag.as_str(), "bytes"));
    assert!(whole.header("content-disposition").starts_with("attachment; filename=\"INC-000001_"));
    assert!(whole.body == file, "the bytes are those of the file");
    let middle = file.len() / 2;
    let mut parts = served.get(&archive, &[("range", &format!("bytes=0-{}", middle - 1))]).await.body;
    let rest = served.get(&archive, &[("range", &format!("bytes={middle}-")), ("if-range", &tag)]).await;
    let said = format!("bytes {middle}-{}/{}", file.len() - 1, file.len());
    assert_eq!((rest.status, rest.header("content-range")), (206, said.as_str()));
    parts.extend(rest.body);
    assert!(parts == file, "two parts are the whole");
    let other = served.get(&archive, &[("range", "bytes=0-1"), ("if-range", "\"other\"")]).await;
    assert_eq!((other.status, other.body.len()), (200, file.len()), "a part of another file would be no part");
    let behind = served.get(&archive, &[("range", &format!("bytes={}-", file.len()))]).await;
    assert_eq!(
        (behind.code().as_str(), behind.header("content-range")),
        ("beyond-end", format!("bytes */{}", file.len()).as_str())
    );
    assert_eq!(served.get(&archive, &[("if-none-match", &tag)]).await.status, 304);
    assert_eq!(served.get(&format!("{archive}?revision=2"), &[]).await.code(), "no-revision");
    assert_eq!(served.get(&format!("{archive}?revision=1"), &[]).await.status, 200);
    let downloads = served.recorded();
    assert_eq!(downloads.len(), 5, "{downloads:?}");
    assert!(downloads.iter().all(|(who, verb, _)| (who.as_str(), *verb) == ("owner", "download-archive")));

    let listed = served.get(&format!("{at}/entries"), &[]).await.json();
    shape::check("EntryPage", &listed);
    let mut opened = Archive::open(&path, Limits::default()).unwrap();
    let entries = opened.entries().to_vec();
    assert_eq!(listed["entries"].as_array().unwrap().len(), entries.len());
    for (entry, row) in entries.iter().zip(listed["entries"].as_array().unwrap()) {
        let bytes = opened.read(&entry.path, Size::mib(64)).unwrap();
        let sha256 = Digest(Sha256::digest(&bytes).into()).to_string();
        assert_eq!((row["path"].as_str(), row["sha256"].as_str()), (Some(entry.path.as_str()), Some(sha256.as_str())));
        let got = served.get(&format!("{at}/entries/{}", entry.path), &[]).await;
        assert_eq!((got.status, got.header("etag")), (200, format!("\"{sha256}\"").as_str()), "{}", entry.path);
        assert!(got.body == bytes, "{}", entry.path);
        assert!(got.header("content-disposition").starts_with("attachment"), "{}", entry.path);
        let kind = got.header("content-type");
        assert!(kind == "application/octet-stream" || kind.starts_with("text/plain"), "{}: {kind}", entry.path);
    }
    let log = entries.iter().find(|entry| entry.path.as_str().ends_with("app.log")).unwrap();
    let part = served.get(&format!("{at}/entries/{}", log.path), &[("range", "bytes=4-6")]).await;
    assert_eq!((part.status, part.body.as_slice()), (206, &b"two"[..]));
    let lines = served.recorded();
    let (who, verb, what) = lines.last().unwrap();
    assert_eq!((who.as_str(), *verb), ("owner", "read-entry"));
    assert!(what.contains(log.path.as_str()) && what.ends_with("bytes 4 to 7"), "{what}");
    assert_eq!(served.get(&format!("{at}/entries/data/none"), &[]).await.code(), "no-entry");

    let first = served.get(&format!("{at}/entries?limit=1"), &[]).await.json();
    assert_eq!((first["entries"].as_array().unwrap().len(), &first["more"]), (1, &json!(true)));
    let next = format!("{at}/entries?after={}", first["entries"][0]["path"].as_str().unwrap());
    assert_eq!(served.get(&next, &[]).await.json()["entries"].as_array().unwrap().len(), entries.len() - 1);
}

#[tokio::test]
async fn the_page_asks_about_a_case_file_where_it_lies_and_that_is_recorded_once() {
    let mut served = Served::start().await;
    let (at, path) = served.sealed().await;
    let title = CaseFile::open(&path).unwrap().incident.title;
    for _ in 0..3 {
        let answer = served.get(&format!("{at}/page/series?node=a&cols=3"), &[]).await;
        let body = String::from_utf8(answer.body).unwrap();
        assert_eq!((answer.status, body), (200, format!("{title} series?node=a&cols=3")));
    }
    assert_eq!(served.get(&format!("{at}/page/none"), &[]).await.status, 404);
    let requester = served.token(Role::Requester);
    let refused = served.asked(Some(&requester), &format!("GET {at}/page/review"), &[], "").await;
    assert_eq!(refused.code(), "forbidden", "what is in an archive is for whoever may fetch it");
    assert_eq!(served.get(&format!("{at}/page/defect"), &[]).await.code(), "internal");
    assert_eq!(served.get(&format!("{at}/page/review"), &[]).await.status, 200, "a defect is over when it is over");
    let exporter = served.token(Role::Exporter);
    assert_eq!(served.asked(Some(&exporter), &format!("GET {at}/page/review"), &[], "").await.status, 200);
    let looked = served.recorded().into_iter().filter(|(_, verb, _)| *verb == "review-archive").map(|(who, ..)| who);
    assert_eq!(looked.collect::<Vec<_>>(), ["owner", "exporter"]);
    assert_eq!(served.get("/api/v1/incidents/9/page/review", &[]).await.code(), "no-incident");
}

#[tokio::test]
async fn nothing_is_given_out_that_is_not_recorded_or_not_as_it_was_sealed() {
    let mut served = Served::start().await;
    let (at, path) = served.sealed().await;
    served.audit.spoil(&served.rig.dir.path().join("aside"));
    for path in ["archive", "entries/data/coverage.json", "page/review"].map(|path| format!("{at}/{path}")) {
        let refused = served.get(&path, &[]).await;
        assert_eq!((refused.status, refused.code().as_str()), (503, "not-recorded"), "{path}");
    }
    let body = json!({"window": window(0, 50)});
    assert_eq!(served.open(&body).await.code(), "not-recorded");
    let file = std::fs::read(&path).unwrap();
    std::fs::write(&path, &file[..file.len() / 2]).unwrap();
    for path in ["archive", "entries", "entries/data/coverage.json"].map(|path| format!("{at}/{path}")) {
        let refused = served.get(&path, &[]).await;
        assert_eq!((refused.status, refused.code().as_str()), (500, "damaged"), "{path}");
        let told = refused.json().to_string();
        assert!(!told.contains(served.rig.dir.path().to_str().unwrap()), "our paths stay here: {told}");
    }
}

#[tokio::test]
async fn tokens_are_made_listed_and_revoked_and_nodes_too() {
    let served = Served::start().await;
    let json_type = [("content-type", "application/json")];
    let ask = json!({"subject": {"person": {"name": "kim", "roles": ["viewer"]}}, "ttl_secs": 600}).to_string();
    let made = served.asked(Some(&served.owner), "POST /api/v1/tokens", &json_type, &ask).await;
    assert_eq!(made.status, 201);
    shape::check("TokenMade", &made.json());
    let token = made.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(served.asked(Some(&token), "GET /api/v1/nodes", &[], "").await.status, 200);
    let listed = served.get("/api/v1/tokens", &[]).await;
    shape::check("TokenList", &listed.json());
    assert!(!String::from_utf8(listed.body.clone()).unwrap().contains(&token), "secrets are told once");
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let revoked = served.asked(Some(&served.owner), &format!("DELETE /api/v1/tokens/{id}"), &[], "").await;
    assert_eq!((revoked.status, revoked.body.len()), (StatusCode::NO_CONTENT.as_u16(), 0));
    assert_eq!(served.asked(Some(&token), "GET /api/v1/nodes", &[], "").await.status, 401);
    let again = served.asked(Some(&served.owner), &format!("DELETE /api/v1/tokens/{id}"), &[], "").await;
    assert_eq!(again.code(), "no-token");
    let node = served.asked(Some(&served.owner), "POST /api/v1/nodes/b/revoke", &[], "").await.json();
    assert_eq!(node, json!({"is_known": false}));
    let long = json!({"subject": {"node": "b"}, "ttl_secs": 100_000}).to_string();
    let refused = served.asked(Some(&served.owner), "POST /api/v1/tokens", &json_type, &long).await;
    assert_eq!(refused.code(), "not-possible");
}
