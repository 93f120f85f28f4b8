//! How the API server speaks: HTTP/1 on loopback, answers in JSON, watches as lines for as long as they last.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::objects::{Change, No};
use super::{Asked, Inner, TOKEN, lock};

/// The most of a request.
const REQUEST: usize = 4 << 20;

/// Events that wait for a watcher; when it is full the watch waits.
const WAITING: usize = 64;

/// A watch that was not told how long ends after this.
const WATCH: Duration = Duration::from_secs(300);

type Answer = Response<BoxBody<Bytes, Infallible>>;

pub(super) async fn serve(listener: TcpListener, inner: Arc<Inner>) {
    let mut open = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while open.try_join_next().is_some() {}
        if lock(&inner.mood).down {
            continue;
        }
        let inner = Arc::clone(&inner);
        open.spawn(async move {
            let service = service_fn(|request| {
                let inner = Arc::clone(&inner);
                async move {
                    // A server that goes down closes what stands, too.
                    if lock(&inner.mood).down { Err(Down) } else { Ok(answer(request, inner).await) }
                }
            });
            // Whoever hangs up is not waited for.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

#[derive(Debug)]
struct Down;

impl std::fmt::Display for Down {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the API server is down")
    }
}

impl std::error::Error for Down {}

/// A path taken apart: `/apis/apps/v1/namespaces/shop/deployments/api/status`.
#[derive(Debug)]
struct Target {
    version: String,
    namespace: String,
    plural: String,
    name: Option<String>,
    status: bool,
}

fn target(path: &str) -> Option<Target> {
    let parts: Vec<_> = path.trim_matches('/').split('/').collect();
    let (version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] => ((*version).to_owned(), rest),
        ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
        _ => return None,
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, plural, ..] if *plural != "status" => ((*namespace).to_owned(), &rest[2..]),
        _ => (String::new(), rest),
    };
    let owned = |text: &&str| (*text).to_owned();
    let (plural, name, status) = match rest {
        [plural] => (owned(plural), None, false),
        [plural, name] => (owned(plural), Some(owned(name)), false),
        [plural, name, "status"] => (owned(plural), Some(owned(name)), true),
        _ => return None,
    };
    Some(Target { version, namespace, plural, name, status })
}

fn asked_for<'q>(query: &'q str, key: &str) -> &'q str {
    query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default()
}

async fn answer(request: Request<Incoming>, inner: Arc<Inner>) -> Answer {
    let (path, query) = (request.uri().path().to_owned(), request.uri().query().unwrap_or_default().to_owned());
    let method = request.method().clone();
    let patch = method == Method::PATCH;
    let agent = request.headers().get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default().to_owned();
    lock(&inner.asked).push(Asked { method: method.to_string(), path: path.clone(), query: query.clone(), agent });
    let (delay, failing, instead) = {
        let mood = lock(&inner.mood);
        let failing = mood.failing.iter().find(|(part, _)| path.contains(part)).map(|(_, status)| *status);
        (mood.delay, failing, mood.instead.iter().find(|(part, _)| path.contains(part)).map(|(_, text)| text.clone()))
    };
    tokio::time::sleep(delay).await;
    if let Some(status) = failing {
        return no(No(status, "InternalError", format!("told to answer {status}")));
    }
    if let Some(text) = instead {
        return respond(StatusCode::OK, Full::new(Bytes::from(text)).boxed());
    }
    if request.headers().get(AUTHORIZATION).is_none_or(|value| *value != format!("Bearer {TOKEN}")) {
        return no(No(401, "Unauthorized", "Unauthorized".to_owned()));
    }
    let body = match Limited::new(request.into_body(), REQUEST).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return no(No(413, "RequestEntityTooLarge", "the request is too large".to_owned())),
    };
    let sent: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    match path.as_str() {
        "/version" => {
            return json_of(&json!({"major": "1", "minor": "36", "gitVersion": "v1.36.2", "platform": "linux/amd64"}));
        }
        "/apis/authentication.k8s.io/v1/tokenreviews" => return created(&lock(&inner.reviews).review(&sent)),
        "/apis/authorization.k8s.io/v1/subjectaccessreviews" => return created(&lock(&inner.reviews).access(&sent)),
        _ => {}
    }
    let Some(target) = target(&path).filter(|t| lock(&inner.objects).has(&t.version, &t.plural)) else {
        return no(No(404, "NotFound", "the server could not find the requested resource".to_owned()));
    };
    match (method, &target.name) {
        (Method::GET, None) if matches!(asked_for(&query, "watch"), "1" | "true") => watch(target, &query, inner),
        (Method::GET, None) => {
            let most = lock(&inner.mood).page;
            let limit = asked_for(&query, "limit").parse().unwrap_or(0);
            let limit = if most > 0 && (limit == 0 || limit > most) { most } else { limit };
            let from = decoded(asked_for(&query, "continue"));
            let listed = lock(&inner.objects).list(&target.plural, &target.namespace, limit, &from);
            listed.map_or_else(no, |list| json_of(&list))
        }
        (Method::GET, Some(name)) => match lock(&inner.objects).get(&target.plural, &target.namespace, name) {
            Some(object) => json_of(object),
            None => no(No(404, "NotFound", format!("{} {name:?} not found", target.plural))),
        },
        (Method::PATCH | Method::PUT, Some(name)) => {
            let (written, version) = {
                let mut objects = lock(&inner.objects);
                let written = objects.write(&target.plural, &target.namespace, name, &sent, patch, target.status);
                (written, objects.version())
            };
            inner.news.send_modify(|news| news.version = version);
            written.map_or_else(no, |object| json_of(&object))
        }
        _ => no(No(405, "MethodNotAllowed", "the server does not allow this method".to_owned())),
    }
}

fn decoded(text: &str) -> String {
    text.replace("%7C", "|").replace("%7c", "|")
}

fn watch(target: Target, query: &str, inner: Arc<Inner>) -> Answer {
    let (tell, told) = mpsc::channel(WAITING);
    let from = asked_for(query, "resourceVersion").parse::<u64>().unwrap_or(0);
    let bookmarks = asked_for(query, "allowWatchBookmarks") == "true";
    let last = asked_for(query, "timeoutSeconds").parse().map_or(WATCH, Duration::from_secs);
    tokio::spawn(async move {
        // Whoever hangs up ends it, and so does the time.
        let _ = tokio::time::timeout(last, events(target, from, bookmarks, inner, tell)).await;
    });
    let lines = ReceiverStream::new(told).map(|line: Value| {
        let mut text = line.to_string();
        text.push('\n');
        Ok(Frame::data(Bytes::from(text)))
    });
    respond(StatusCode::OK, StreamBody::new(lines).boxed())
}

async fn events(target: Target, from: u64, bookmarks: bool, inner: Arc<Inner>, tell: mpsc::Sender<Value>) {
    let mut news = inner.news.subscribe();
    let begun = *news.borrow_and_update();
    let (mut seen, mut marked) = (from, begun.bookmarks);
    if from == 0 {
        let (all, version) = {
            let objects = lock(&inner.objects);
            (objects.list(&target.plural, &target.namespace, 0, ""), objects.version())
        };
        let items = all.ok().and_then(|all| all["items"].as_array().cloned()).unwrap_or_default();
        for object in items {
            if tell.send(json!({"type": "ADDED", "object": object})).await.is_err() {
                return;
            }
        }
        seen = version;
    }
    loop {
        let changes = lock(&inner.objects).since(&target.plural, &target.namespace, seen);
        let changes = match changes {
            Ok(changes) => changes,
            Err(gone) => {
                // The status is in the stream, and the stream ends.
                let _ = tell.send(json!({"type": "ERROR", "object": status(&gone)})).await;
                return;
            }
        };
        for Change { version, change, object, .. } in changes {
            seen = version;
            let times = if lock(&inner.mood).twice { 2 } else { 1 };
            for _ in 0..times {
                if tell.send(json!({"type": change, "object": object})).await.is_err() {
                    return;
                }
            }
        }
        let now = *news.borrow();
        if now.ended != begun.ended {
            return;
        }
        if bookmarks && now.bookmarks != marked {
            marked = now.bookmarks;
            seen = seen.max(now.version);
            let object = json!({"metadata": {"resourceVersion": seen.to_string()}});
            if tell.send(json!({"type": "BOOKMARK", "object": object})).await.is_err() {
                return;
            }
        }
        // First arm: something changed. Second: nobody listens any more.
        tokio::select! {
            changed = news.changed() => if changed.is_err() { return },
            () = tell.closed() => return,
        }
    }
}

fn status(No(code, reason, message): &No) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code})
}

fn no(why: No) -> Answer {
    respond(StatusCode::from_u16(why.0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), full(&status(&why)))
}

fn json_of(value: &Value) -> Answer {
    respond(StatusCode::OK, full(value))
}

fn created(value: &Value) -> Answer {
    respond(StatusCode::CREATED, full(value))
}

fn full(value: &Value) -> BoxBody<Bytes, Infallible> {
    Full::new(Bytes::from(value.to_string())).boxed()
}

fn respond(status: StatusCode, body: BoxBody<Bytes, Infallible>) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    response
}
