//! A Kubernetes API server in this process: lists in pages, watches from a resource version on, reviews of tokens and of
//! access, objects that are written, as the API conventions have it; and, where a test wants it, slow, failing or down.
//!
//! It is no kinder than a real one: it wants a bearer token, pages whether or not it was asked kindly, forgets old versions
//! (`410 Gone`), ends watches, refuses writes of an old version. [`objects`] keeps the objects, [`reviews`] knows tokens
//! and rights, [`http`] speaks.

mod http;
pub mod objects;
pub mod reviews;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use objects::Objects;
use reviews::Reviews;

/// The token that whoever asks must show.
pub const TOKEN: &str = "the-collector-in-the-cluster";

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The query, without the question mark.
    pub query: String,
    /// Who says that he asks: a real server writes what stands before the slash into `managedFields`, and `unknown` for nobody.
    pub agent: String,
}

/// How it behaves.
#[derive(Debug, Clone, Default)]
pub struct Mood {
    /// No connection is answered.
    pub down: bool,
    /// Every answer comes so late.
    pub delay: Duration,
    /// Requests to paths that contain this are answered with this status, instead.
    pub failing: Vec<(String, u16)>,
    /// Requests to paths that contain this are answered with this text, instead, as if all were well.
    pub instead: Vec<(String, String)>,
    /// Every event of a watch comes twice.
    pub twice: bool,
    /// A page has at most so many objects, whatever was asked; 0: as asked.
    pub page: usize,
}

/// Everything that it knows.
pub(crate) struct Inner {
    pub(crate) objects: Mutex<Objects>,
    pub(crate) reviews: Mutex<Reviews>,
    pub(crate) mood: Mutex<Mood>,
    pub(crate) asked: Mutex<Vec<Asked>>,
    /// Counts changes, so that watches wake; and how often watches were told to end and given a bookmark.
    pub(crate) news: watch::Sender<News>,
}

/// What watches wait for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) version: u64,
    pub(crate) ended: u64,
    pub(crate) bookmarks: u64,
}

/// The server. It ends when it is dropped.
pub struct ApiServer {
    inner: Arc<Inner>,
    addr: SocketAddr,
    serving: AbortHandle,
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl ApiServer {
    /// Starts one that has every kind that Kubernetes itself has of those that a collector reads, and no object.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen for the API server")?;
        let addr = listener.local_addr().context("ask where the API server listens")?;
        let inner = Arc::new(Inner {
            objects: Mutex::new(Objects::new()),
            reviews: Mutex::default(),
            mood: Mutex::default(),
            asked: Mutex::default(),
            news: watch::Sender::default(),
        });
        let serving = tokio::spawn(http::serve(listener, Arc::clone(&inner))).abort_handle();
        Ok(Self { inner, addr, serving })
    }

    /// Where it listens, in plain HTTP.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Writes a kubeconfig that leads here.
    pub fn kubeconfig(&self, to: &Path) -> Result<()> {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": format!("http://{}", self.addr)}}],
            "users": [{"name": "collector", "user": {"token": TOKEN}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "collector", "namespace": "casefile"}}],
        });
        std::fs::write(to, config.to_string()).with_context(|| format!("write {}", to.display()))
    }

    /// Adds a kind that not every cluster has: `serve("argoproj.io/v1alpha1", "applications", "Application")`.
    pub fn serve(&self, version: &str, plural: &str, kind: &str) {
        lock(&self.inner.objects).serve(version, plural, kind);
    }

    /// Adds an object, or replaces the one of its name. `plural`: `pods`. Gives its resource version.
    pub fn put(&self, plural: &str, object: Value) -> u64 {
        self.changed(|objects| objects.put(plural, object))
    }

    /// Adds every item of a list, or of a recorded answer.
    pub fn put_all(&self, plural: &str, list: &Value) {
        for item in list["items"].as_array().into_iter().flatten() {
            self.put(plural, item.clone());
        }
    }

    /// Deletes an object; whether it was there. `namespace` is empty for what has none.
    pub fn delete(&self, plural: &str, namespace: &str, name: &str) -> bool {
        self.changed(|objects| objects.delete(plural, namespace, name))
    }

    /// An object as it is now.
    pub fn object(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        lock(&self.inner.objects).get(plural, namespace, name).cloned()
    }

    /// Changes an object that is there, as whoever may do anything can.
    pub fn edit(&self, plural: &str, namespace: &str, name: &str, change: impl FnOnce(&mut Value)) {
        let mut object =
            self.object(plural, namespace, name).unwrap_or_else(|| panic!("there is no {namespace}/{name}"));
        change(&mut object);
        self.put(plural, object);
    }

    /// Forgets every version before now: watches and pages from earlier ones are told `410 Gone`.
    pub fn compact(&self) {
        lock(&self.inner.objects).compact();
    }

    /// Ends every watch, as a server does every few minutes.
    pub fn end_watches(&self) {
        self.inner.news.send_modify(|news| news.ended += 1);
    }

    /// Gives every watch that wants them a bookmark.
    pub fn bookmark(&self) {
        self.inner.news.send_modify(|news| news.bookmarks += 1);
    }

    /// Changes how it behaves. Watches that stand end when it goes down.
    pub fn set_mood(&self, change: impl FnOnce(&mut Mood)) {
        let down = {
            let mut mood = lock(&self.inner.mood);
            change(&mut mood);
            mood.down
        };
        if down {
            self.end_watches();
        }
    }

    /// Changes which tokens and rights it knows.
    pub fn reviews(&self, change: impl FnOnce(&mut Reviews)) {
        change(&mut lock(&self.inner.reviews));
    }

    /// What was asked since the last time that somebody wanted to know.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut lock(&self.inner.asked))
    }

    fn changed<T>(&self, change: impl FnOnce(&mut Objects) -> T) -> T {
        let (done, version) = {
            let mut objects = lock(&self.inner.objects);
            (change(&mut objects), objects.version())
        };
        self.inner.news.send_modify(|news| news.version = version);
        done
    }
}

/// A test that panicked elsewhere has failed anyway.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
