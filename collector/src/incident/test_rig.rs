//! Incidents as they run in a collector, over a directory of their own and nodes that a test plays.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use casefile_evidence::archive::sign::SigningKey;
use casefile_proto::ids::{IncidentId, NodeName};
use casefile_proto::incident::{IncidentAsk, IncidentState, IncidentView, OpenAsk, Severity, Trigger};
use casefile_proto::node::Link;
use casefile_proto::scope::Scope;
use casefile_proto::session::CollectionAsk;
use casefile_proto::time::{BootTime, Stamp, WallTime, Window};
use casefile_proto::units::Bytes;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::gather::{self, Parts};
use super::handle::{Incidents, Left};
use super::test_nodes::{Noting, START, Sent, Told, answer, collectable, deposit, log, name, recording, segment};
use crate::config::Config;
use crate::connectivity::Connectivity;
use crate::connectivity::kept::Kept;
use crate::data::DataDir;
use crate::ingest::{Clock, NodeEvent};
use crate::space::Space;
use crate::stats::Stats;
use crate::store::Store;
use crate::store::sqlite::SqliteStore;

/// Longer than anything in these tests takes.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// The clocks of these tests: they begin a minute after [`START`], go on, and can be put forward by these seconds.
pub(crate) fn clock(ahead: Arc<AtomicU64>) -> Clock {
    let began = Instant::now();
    Arc::new(move || {
        let passed = began.elapsed() + Duration::from_secs(ahead.load(Ordering::Relaxed));
        let boot = BootTime::from_nanos(u64::try_from((Duration::from_secs(1_000) + passed).as_nanos()).unwrap());
        Stamp { wall: WallTime::from_secs(START + 60).after(passed), boot }
    })
}

pub(crate) fn ask(window: Window, nodes: &[&str], deadline: Option<Duration>) -> OpenAsk {
    let ask = IncidentAsk {
        title: String::new(),
        reason: "a test".to_owned(),
        requested_by: "test".to_owned(),
        severity: Severity::Sev3,
        trigger: Trigger::Person,
        resource: None,
        runbook: None,
        window,
        nodes: nodes.iter().map(|n| name(n)).collect(),
        scope: Scope::default(),
    };
    OpenAsk { ask, deadline, slack: Duration::ZERO }
}

/// Looks until there is something; panics with what was waited for when [`SOON`] has passed.
pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) struct Rig {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) fleet: Arc<Noting>,
    pub(crate) told: mpsc::UnboundedReceiver<Told>,
    pub(crate) events: mpsc::Sender<NodeEvent>,
    pub(crate) incidents: Incidents,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) data: Arc<DataDir>,
    ahead: Arc<AtomicU64>,
}

impl Rig {
    pub(crate) async fn start(nodes: &[(&str, Link)]) -> Self {
        Self::over(tempfile::tempdir().unwrap(), nodes).await
    }

    /// Starts over a directory that may hold what an earlier one left.
    pub(crate) async fn over(dir: tempfile::TempDir, nodes: &[(&str, Link)]) -> Self {
        let data = Arc::new(DataDir::open(&dir.path().join("data")).unwrap());
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&data.index()).unwrap());
        for (node, _) in nodes {
            store.set_collectable(&name(node), &collectable()).unwrap();
        }
        let (fleet, told) = Noting::new(nodes);
        let (events, heard) = mpsc::channel(16);
        let ahead = Arc::new(AtomicU64::new(0));
        let stats = Arc::new(Stats::default());
        let parts = Parts {
            fleet: Arc::clone(&fleet) as _,
            store: Arc::clone(&store),
            data: Arc::clone(&data),
            key: Arc::new(SigningKey::load_or_create(&data.key()).unwrap()),
            clock: clock(Arc::clone(&ahead)),
            space: Space::watch(data.root(), Some(Bytes(0)), Arc::clone(&stats)).unwrap(),
            stats,
            patience: SOON,
            returning: Duration::from_hours(24),
            budget: Bytes::mib(64),
            cluster: None,
        };
        let incidents = gather::start(parts, heard).await.unwrap();
        Self { dir, fleet, told, events, incidents, store, data, ahead }
    }

    /// Stops in order and gives back the directory.
    /// Tests of connectivity to one target, `api`, which none of its nodes can.
    pub(crate) fn connectivity(&self) -> Connectivity {
        let config = Config::parse("targets = [{name = \"api\", url = \"https://api.shop.svc/healthz\"}]")
            .unwrap_or_else(|e| panic!("{e:?}"));
        let kept = Kept::open(&self.data.connectivity()).unwrap();
        Connectivity::new(config.targets, Arc::clone(&self.fleet) as _, kept, clock(Arc::default()))
    }

    pub(crate) async fn stop(self) -> (tempfile::TempDir, Left) {
        let left = self.incidents.stop(tokio::time::Instant::now() + SOON).await;
        (self.dir, left)
    }

    /// Puts the clocks forward, and has somebody look at them.
    pub(crate) async fn pass(&self, seconds: u64) {
        self.ahead.fetch_add(seconds, Ordering::Relaxed);
        self.tell(NodeEvent::Disconnected { node: name("nobody") }).await;
    }

    pub(crate) async fn next(&mut self) -> Told {
        timeout(SOON, self.told.recv()).await.expect("the fleet is told something").expect("it lives")
    }

    /// The next ask, whatever else the fleet is told before.
    pub(crate) async fn asked(&mut self) -> (NodeName, CollectionAsk, std::path::PathBuf) {
        loop {
            if let Told::Ask(node, ask, spool) = self.next().await {
                return (node, ask, spool);
            }
        }
    }

    pub(crate) async fn tell(&self, event: NodeEvent) {
        timeout(SOON, self.events.send(event)).await.expect("events are taken").unwrap();
    }

    /// Plays a node that gives its recording and one log, and says that it is done.
    pub(crate) async fn answer(&self, node: &NodeName, ask: &CollectionAsk, spool: &std::path::Path) {
        let (from, until) = (ask.window.from(), ask.window.until());
        let seconds = |at: WallTime| at.nanos() / 1_000_000_000 - START;
        let segment = segment(self.dir.path(), node.as_str(), seconds(from)..seconds(until));
        let items = [
            deposit(spool, 0, recording(), &segment, Sent::Whole),
            deposit(spool, 1, log("logs/files/app.log"), b"one\ntwo\n", Sent::Whole),
        ];
        for item in items.into_iter().flatten() {
            self.tell(NodeEvent::Item { node: node.clone(), request: ask.request, item }).await;
        }
        let answer = answer(ask.window);
        let (node, request) = (node.clone(), ask.request);
        self.tell(NodeEvent::Done { node, request, sources: answer.sources, gaps: answer.gaps }).await;
    }

    pub(crate) async fn view(&self, id: IncidentId, when: impl Fn(&IncidentView) -> bool) -> IncidentView {
        let mut watched = self.incidents.watch(id).await.unwrap().expect("there is such an incident");
        timeout(SOON, watched.wait_for(|view| when(view))).await.expect("it comes to that").unwrap().clone()
    }

    pub(crate) async fn ended(&self, id: IncidentId) -> IncidentView {
        let ended = |view: &IncidentView| matches!(view.incident.state, IncidentState::Sealed | IncidentState::Failed);
        self.view(id, ended).await
    }
}
