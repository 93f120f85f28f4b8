//! A collector as far as sessions go: last words, ingest and its listener, and a list of what happened.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use casefile_collector::audit::{self, Audit, Entry};
use casefile_collector::identity::Identity;
use casefile_collector::identity::authorise::Authorise;
use casefile_collector::ingest::listener::{Limits, Secured, serve};
use casefile_collector::ingest::{Clock, Ingest, IngestConfig, NodeEvent};
use casefile_collector::last_words::LastWords;
use casefile_collector::space::Taking;
use casefile_collector::stats::Stats;
use casefile_collector::store::sqlite::SqliteStore;
use casefile_evidence::recording::segment::Retention;
use casefile_identity::authority::Authority;
use casefile_identity::certificate::Certificate;
use casefile_proto::ids::{NodeName, RequestId};
use casefile_proto::scope::Selection;
use casefile_proto::session::{CollectionAsk, RedactionKey};
use casefile_proto::time::{WallTime, Window};
use casefile_proto::units::Bytes;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tonic::service::Routes;

use super::node::{Numbers, START};

pub(crate) struct Server {
    pub(crate) ingest: Ingest,
    pub(crate) last_words: LastWords,
    pub(crate) address: SocketAddr,
    pub(crate) dir: PathBuf,
    events: Arc<Mutex<Vec<NodeEvent>>>,
    pub(crate) redaction_key: watch::Sender<RedactionKey>,
    pub(crate) taking: watch::Sender<Taking>,
    pub(crate) stats: Arc<Stats>,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Server {
    /// Starts on what lies in `dir`.
    pub(crate) async fn start(dir: &Path, numbers: &Arc<Numbers>, catch_up: Duration) -> Self {
        Self::aged(dir, numbers, catch_up, super::SOON * 100).await
    }

    /// The same, with sessions that last this long.
    pub(crate) async fn aged(dir: &Path, numbers: &Arc<Numbers>, catch_up: Duration, session_age: Duration) -> Self {
        let dir = dir.join("collector");
        std::fs::create_dir_all(dir.join("last-words")).unwrap();
        let retention = Retention { bytes: Bytes::mib(64), age: super::SOON * 1000 };
        let last_words = LastWords::open(&dir.join("last-words"), numbers.clone(), retention, Arc::default()).unwrap();
        let redaction_key = watch::Sender::new(RedactionKey([1; 32]));
        let clock: Clock = Arc::new(casefile_collector::clock::now);
        let audit = Arc::new(Audit::open(&dir.join("audit.jsonl"), Arc::clone(&clock)).unwrap());
        let tokens = Arc::new(SqliteStore::open(&dir.join("index")).unwrap());
        let life = Duration::from_hours(1);
        let identity = Identity::open(&keys(&dir), tokens, Arc::clone(&audit), clock, life).unwrap();
        let identity = Arc::new(identity);
        let (taking, stats) = (watch::Sender::new(Taking::Yes), Arc::new(Stats::default()));
        let config = IngestConfig {
            catch_up,
            probe_every: Duration::from_millis(100),
            clock: Arc::new(casefile_collector::clock::now),
            redaction_key: redaction_key.subscribe(),
            session_age,
            revoked: Arc::clone(identity.revoked()),
            audit: Arc::clone(&audit),
            taking: taking.subscribe(),
            stats: Arc::clone(&stats),
        };
        let (sender, mut receiver) = mpsc::channel(4);
        let ingest = Ingest::new(config, last_words.clone(), sender);
        let events = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&events);
        tokio::spawn(async move {
            while let Some(event) = receiver.recv().await {
                heard.lock().unwrap().push(event);
            }
        });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Routes::new(ingest.service());
        let secured = Secured { tls: identity.tls(), authorise: Authorise::new(identity) };
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            serve(listener, routes, secured, Limits::default(), Arc::default(), stopped).await.unwrap();
        });
        Self { ingest, last_words, address, dir, events, redaction_key, taking, stats, stop, serving }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// What the audit log says.
    pub(crate) fn audited(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        audit::read(&self.dir.join("audit.jsonl"), |line| entries.push(line.entry.clone())).unwrap();
        entries
    }

    /// Stops in order; what was acknowledged is on disk.
    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        self.ingest.close().await;
        tokio::time::timeout(super::SOON, self.serving).await.expect("the listener ends").unwrap();
        self.last_words.close().await;
    }

    /// Waits until the last words of a node end with this frame.
    pub(crate) async fn holds(&self, node: &str, seq: u64) {
        let node: NodeName = node.parse().unwrap();
        super::until(&format!("frame {seq} of {node}"), || {
            self.last_words.held(&node).and_then(|held| held.last).filter(|last| last.seq.0 >= seq)
        })
        .await;
    }

    /// Where they lie.
    pub(crate) fn words(&self, node: &str) -> PathBuf {
        self.last_words.dir(&node.parse().unwrap()).unwrap()
    }

    /// Waits for an event.
    pub(crate) async fn event<T>(&self, what: &str, find: impl Fn(&NodeEvent) -> Option<T>) -> T {
        super::until(what, || self.events.lock().unwrap().iter().find_map(&find)).await
    }

    pub(crate) async fn connected(&self, node: &str) {
        self.event("connected", |event| match event {
            NodeEvent::Connected { node: connected, .. } if connected.as_str() == node => Some(()),
            _ => None,
        })
        .await;
    }

    /// Counts events.
    pub(crate) fn count(&self, which: impl Fn(&NodeEvent) -> bool) -> usize {
        self.events.lock().unwrap().iter().filter(|event| which(event)).count()
    }

    /// The spool of a request.
    pub(crate) fn spool(&self, request: u64) -> PathBuf {
        self.dir.join(format!("spool/{request}"))
    }

    /// Asks for the first hour.
    pub(crate) async fn ask(&self, node: &str, request: u64, sources: &[&str]) {
        self.ingest.ask(&node.parse().unwrap(), ask(request, sources), self.spool(request)).await.unwrap();
    }
}

/// The keys of the collector in this directory.
fn keys(dir: &Path) -> PathBuf {
    let keys = dir.join("keys");
    std::fs::create_dir_all(&keys).unwrap();
    keys
}

/// A certificate of the collector in this directory for a node, as if it had joined.
pub(crate) fn certificate(dir: &Path, node: &str) -> Certificate {
    let now = casefile_collector::clock::now().wall;
    let authority = Authority::load_or_make(&keys(dir), now).unwrap();
    authority.agent(&node.parse().unwrap(), now, Duration::from_hours(1)).unwrap()
}

pub(crate) fn ask(request: u64, sources: &[&str]) -> CollectionAsk {
    CollectionAsk {
        request: RequestId(request),
        window: Window::new(WallTime::from_secs(START), WallTime::from_secs(START + 3_600)).unwrap(),
        budget: Bytes::mib(64),
        deadline: super::SOON * 4,
        sources: sources.iter().map(|&s| s.to_owned()).collect(),
        select: Selection::default(),
        clock: None,
    }
}
