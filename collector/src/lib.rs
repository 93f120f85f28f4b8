//! The collector: hears agents, keeps their last words, gathers incidents, seals them, answers people.
//!
//! Here: how the parts are put together, started and stopped. Each has a file; what they decide is pure, in
//! [`incident::machine`], [`incident::coverage`] and ingest's session.

pub mod admin;
pub mod api;
pub mod archives;
pub mod args;
pub mod audit;
mod chain;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod connectivity;
pub mod data;
pub mod identity;
pub mod incident;
pub mod ingest;
pub mod last_words;
pub mod local;
pub mod observe;
pub mod redaction;
pub mod signals;
pub mod space;
pub mod spool;
pub mod stats;
pub mod store;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use casefile_evidence::archive::sign::{KeyError, SigningKey};
use casefile_proto::session::RedactionKey;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tonic_health::server::HealthReporter;

use api::rest;
use api::rest::host::Names;
use api::verbs::Verbs;
use archives::{Archives, BucketError};
use audit::{Audit, AuditError};
use cluster::chooser::Chooser;
use cluster::recorder::{self, Recorder, Running};
use cluster::{ApiError, Cluster, collections};
use config::{Config, PortTaken};
use connectivity::Connectivity;
use connectivity::kept::Kept;
use data::{DataDir, DataError};
use identity::authorise::Authorise;
use identity::{Identity, IdentityError};
use incident::fleet::{Agents, Fleet};
use incident::gather::{self, Parts};
use incident::handle::{Incidents, Left};
use ingest::listener::{self, Secured};
use ingest::{Ingest, IngestConfig};
use last_words::{LastWords, LastWordsError};
use observe::Site;
use observe::health::{Health, Run};
use observe::metrics::{self, Metrics};
use observe::scraper::Scraper;
use redaction::{Issued, RedactionKeyError};
use space::Space;
use stats::{Counts, Stats};
use store::sqlite::SqliteStore;
use store::{Store, StoreError, Tokens};

/// Events of nodes that wait for gathering. When it is full the session that has something to say waits, and with it
/// its agent.
const EVENTS: usize = 1_024;

/// Why a collector could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The index cannot be used.
    #[error("start with the index {path}")]
    Index {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// There is no usable signing key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// There is no usable authority, or no token for the owner.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The audit log cannot be used.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// There is no usable key for secrets.
    #[error(transparent)]
    RedactionKey(#[from] RedactionKeyError),
    /// The last words cannot be used.
    #[error(transparent)]
    LastWords(#[from] LastWordsError),
    /// The configuration does not lead to an API server.
    #[error("start with the cluster of the configuration")]
    Cluster(#[from] ApiError),
    /// The configuration does not lead to an archive store.
    #[error("start with the archive store of the configuration")]
    ArchiveStore(#[from] BucketError),
    /// The disk cannot be watched.
    #[error("start a thread that watches the disk")]
    Space(#[source] io::Error),
    /// The address cannot be listened on.
    #[error("listen on {addr}: is another collector running there? `{key}` in the configuration names another")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// The key of the configuration that says it.
        key: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The results of tests of connectivity cannot be kept.
    #[error("open the results of tests of connectivity at {path}{}", data::hint(source))]
    Results {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A task of ours ended in a defect.
    #[error("start")]
    Task(#[from] tokio::task::JoinError),
}

/// A collector that runs. Stop it with [`Collector::stop`]; dropping it leaves its tasks to the runtime.
pub struct Collector {
    addr: SocketAddr,
    data: Arc<DataDir>,
    agents: Agents,
    incidents: Incidents,
    identity: Arc<Identity>,
    stats: Arc<Stats>,
    space: Space,
    cluster: Option<Cluster>,
    recording: Option<Running>,
    /// Opens incidents for resources; stops when `run` says so.
    following: Option<JoinHandle<()>>,
    hang_up: oneshot::Sender<()>,
    serving: JoinHandle<()>,
    run: watch::Sender<Run>,
    health: HealthReporter,
    observed_at: Option<SocketAddr>,
    http: Option<Http>,
    /// Tasks that hold nothing: they end with the collector.
    tasks: Vec<Ending>,
}

/// The API over HTTP, while it answers.
struct Http {
    addr: SocketAddr,
    has_tls: bool,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

/// A task that ends with this. That which renews the key for secrets writes, but replaces a file as a whole.
struct Ending(JoinHandle<()>);

impl Ending {
    fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task))
    }

    /// Ends it. Afterwards it holds nothing any more: neither a file nor the lock of the data directory.
    async fn end(mut self) {
        self.0.abort();
        // It was cut off, or had ended before.
        let _ = (&mut self.0).await;
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Http {
    fn start(listener: TcpListener, addr: SocketAddr, tls: Option<TlsAcceptor>, site: rest::Site) -> Self {
        let has_tls = tls.is_some();
        let (stop, stopped) = oneshot::channel();
        let front = rest::Front::new(site);
        // Stops when it is told, and when whoever could tell it is gone.
        let stopped = async { drop(stopped.await) };
        let serving = tokio::spawn(rest::listener::serve(listener, tls, front, stopped));
        tracing::info!(%addr, tls = has_tls, "the API answers over HTTP");
        Self { addr, has_tls, stop, serving }
    }
}

impl Collector {
    /// Starts everything, and takes up the incidents that an earlier collector left unfinished.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        open_as_many_files_as_allowed();
        let stats = Arc::new(Stats::default());
        let cluster = match &config.cluster {
            Some(config) => Some(Cluster::open(config).await?),
            None => None,
        };
        let reviews =
            cluster.as_ref().zip(config.cluster.as_ref()).map(|(c, says)| c.reviews(says, &config.clock, &stats));
        let (agents_by, people_by) = reviews.map(|r| (r.agents, r.people)).unzip();
        let dir = config.data_dir.clone();
        let data = Arc::new(tokio::task::spawn_blocking(move || DataDir::open(&dir)).await??);
        let (opened, counted) = (Arc::clone(&data), Arc::clone(&stats));
        let (retention, reserve) = (config.last_words, config.reserve);
        let (clock, life) = (Arc::clone(&config.clock), config.certificate_life);
        let opening = move || open_below(&opened, retention, reserve, clock, life, &counted);
        let Opened { store, key, last_words, identity, space } = tokio::task::spawn_blocking(opening).await??;
        let (path, now) = (data.redaction_key(), (config.clock)().wall);
        let issued = tokio::task::spawn_blocking(move || Issued::load_or_make(&path, now)).await??;
        let redaction_key = watch::Sender::new(issued.key().clone());
        let (listener, addr) = listen(config.listen, config.port_taken, "listen").await?;
        let observing = match config.observe {
            Some(addr) => Some(listen(addr, PortTaken::Refuse, "observe").await?),
            None => None,
        };
        let http = match config.http {
            Some(addr) => Some(listen(addr, config.http_taken, "http").await?),
            None => None,
        };

        let (events, heard) = mpsc::channel(EVENTS);
        let ingest_config = IngestConfig {
            catch_up: config.catch_up,
            probe_every: config.probe_every,
            clock: Arc::clone(&config.clock),
            redaction_key: redaction_key.subscribe(),
            session_age: config.session_age,
            revoked: Arc::clone(identity.revoked()),
            audit: Arc::clone(identity.audit()),
            taking: space.taking(),
            stats: Arc::clone(&stats),
        };
        let recording = config.cluster.as_ref().zip(cluster.as_ref()).map(|(asked, cluster)| {
            let parts = recorder::Parts {
                data: data.root().to_owned(),
                record: asked.record,
                clock: Arc::clone(&config.clock),
                space: space.clone(),
                key: redaction_key.subscribe(),
                stats: Arc::clone(&stats),
            };
            Recorder::start(cluster.api(), parts)
        });
        let renewing = renew(issued, redaction_key, config.redaction_key_life, Arc::clone(&config.clock));
        let mut tasks = vec![Ending::spawn(renewing), Ending::spawn(renew_own(Arc::clone(&identity)))];
        if let Some((cluster, says)) = cluster.clone().zip(config.cluster.clone()) {
            tasks.push(Ending::spawn(cluster.tell_authority(says, identity.pin())));
        }
        let ingest = Ingest::new(ingest_config, last_words.clone(), events);
        let agents = Agents { ingest, last_words };
        let parts = Parts {
            fleet: Arc::new(agents.clone()),
            store: Arc::clone(&store),
            data: Arc::clone(&data),
            key: Arc::new(key),
            clock: Arc::clone(&config.clock),
            stats: Arc::clone(&stats),
            space: space.clone(),
            patience: config.patience,
            returning: config.returning,
            budget: config.budget,
            cluster: recording.as_ref().map(|running| running.recorder().clone()),
        };
        let index = data.index();
        let started = gather::start(parts, heard).await;
        let incidents = started.map_err(|source| StartError::Index { path: index, source })?;

        let run = watch::Sender::new(Run::Go);
        let mut archives = Archives::local(Arc::clone(&data), Arc::clone(&store));
        if let Some(says) = config.archive_store {
            let (space, stats, audit) = (space.clone(), Arc::clone(&stats), Arc::clone(identity.audit()));
            let parts = archives::Parts { space, stats, audit };
            archives = tokio::task::spawn_blocking(move || archives.with_store(&says, parts)).await??;
            tasks.push(Ending::spawn(archives.clone().copy(run.subscribe())));
        }
        let figures = metrics::Parts {
            stats: Arc::clone(&stats),
            ingest: agents.ingest.clone(),
            last_words: agents.last_words.clone(),
            space: space.clone(),
            spools: data.spools(),
            archives: archives.clone(),
            cluster: recording.as_ref().map(|running| running.recorder().clone()),
        };
        let site = Arc::new(Site {
            health: Health::new(agents.last_words.clone(), space.clone(), store, run.subscribe()),
            metrics: Metrics::new(figures, &config.clock),
            authorise: Authorise::new(Arc::clone(&identity)).with_cluster(people_by.clone()),
            scraper: Scraper::new(config.metrics_token.clone()),
        });
        let (health, health_service) = observe::grpc::service();
        tasks.push(Ending::spawn(observe::grpc::tell(health.clone(), Arc::clone(&site))));
        let fleet: Arc<dyn Fleet> = Arc::new(agents.clone());
        let chooser = Chooser::new(Arc::clone(&fleet), recording.as_ref().map(|running| running.recorder().clone()));
        let mut following = None;
        if let (Some(cluster), Some(said)) = (&cluster, config.cluster.as_ref().filter(|config| config.collections)) {
            let parts = collections::Parts {
                api: cluster.api().clone(),
                incidents: incidents.clone(),
                chooser: chooser.clone(),
                audit: Arc::clone(identity.audit()),
                clock: Arc::clone(&config.clock),
                stats: Arc::clone(&stats),
                missing_kind: said.missing_kind,
                run: run.subscribe(),
            };
            following = Some(tokio::spawn(collections::run(parts)));
        }
        let audit = Arc::clone(identity.audit());
        let results = data.connectivity();
        let opening = move || Kept::open(&results).map_err(|source| StartError::Results { path: results, source });
        let kept = tokio::task::spawn_blocking(opening).await??;
        let connectivity = Connectivity::new(config.targets, Arc::clone(&fleet), kept, Arc::clone(&config.clock));
        let verbs = Verbs::new(incidents.clone(), archives, fleet, audit, config.clock, connectivity, chooser);
        let verbs = Arc::new(verbs);
        let service = identity::service::Api::new(Arc::clone(&identity)).with_cluster(agents_by);
        let routes = api::routes(Arc::clone(&verbs), &agents, service).add_service(health_service);
        let authorise = site.authorise.clone();
        let secured = Secured { tls: identity.tls(), authorise: authorise.clone() };
        let http = http.map(|(listener, addr)| {
            let (names, identity) = (Names::new(config.http_names), Arc::clone(&identity));
            let has_tls = !(addr.ip().is_loopback() || config.http_plain);
            let tls = has_tls.then(|| TlsAcceptor::from(identity.tls_of_http()));
            Http::start(
                listener,
                addr,
                tls,
                rest::Site {
                    verbs,
                    identity,
                    authorise,
                    names,
                    page: rest::page::Page::new(casefile_review::page::ASSETS, casefile_review::page::answer),
                    stats: Arc::clone(&stats),
                },
            )
        });
        let counted = Arc::clone(&stats);
        let (hang_up, hung_up) = oneshot::channel();
        let serving = tokio::spawn(async move {
            // Stops when it is told, and when whoever could tell it is gone.
            let stop = async { drop(hung_up.await) };
            if let Err(error) = listener::serve(listener, routes, secured, config.limits, counted, stop).await {
                tracing::error!(%error, "the listener ended; nobody is heard any more");
            }
        });
        let address = Arc::clone(&data);
        tokio::task::spawn_blocking(move || address.write_address(addr)).await??;
        let observed_at = observing.as_ref().map(|(_, addr)| *addr);
        if let Some((listener, addr)) = observing {
            tasks.push(Ending::spawn(observe::serve(listener, site)));
            tracing::info!(%addr, "metrics and health answer");
        }
        tracing::info!(%addr, data = %data.root().display(), "collector started");
        Ok(Self {
            addr,
            data,
            agents,
            incidents,
            identity,
            stats,
            space,
            cluster,
            recording,
            following,
            hang_up,
            serving,
            run,
            health,
            observed_at,
            http,
            tasks,
        })
    }

    /// Where it listens.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where everything is kept.
    pub fn data(&self) -> &DataDir {
        &self.data
    }

    /// Its incidents.
    pub const fn incidents(&self) -> &Incidents {
        &self.incidents
    }

    /// Its nodes.
    pub const fn agents(&self) -> &Agents {
        &self.agents
    }

    /// Who everybody is.
    pub const fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// Where metrics and health answer; `None`: nowhere.
    pub const fn observed_at(&self) -> Option<SocketAddr> {
        self.observed_at
    }

    /// Where the API answers over HTTP: `http://127.0.0.1:7070`; `None`: nowhere.
    pub fn http(&self) -> Option<String> {
        self.http.as_ref().map(|http| format!("{}://{}", if http.has_tls { "https" } else { "http" }, http.addr))
    }

    /// Where the page is; `None`: nothing is answered over HTTP.
    pub fn page(&self) -> Option<String> {
        self.http().map(|at| format!("{at}/"))
    }

    /// The room on its disk, and the reserve for what must be finished.
    pub const fn space(&self) -> &Space {
        &self.space
    }

    /// The cluster that it belongs to; `None`: the configuration names none.
    pub const fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    /// What the cluster showed; `None`: the configuration names none.
    pub fn recorder(&self) -> Option<&Recorder> {
        self.recording.as_ref().map(Running::recorder)
    }

    /// What happened since it was started.
    pub fn counts(&self) -> Counts {
        self.stats.counts()
    }

    /// Takes nothing new; what is being sealed and what is on its way to the disk may end within `grace`. Says which
    /// incidents are left: they go on at the next start.
    pub async fn stop(self, grace: Duration) -> Left {
        let deadline = Instant::now() + grace;
        self.run.send_replace(Run::Stop);
        observe::grpc::end(&self.health).await;
        let left = self.incidents.stop(deadline).await;
        if let Some(mut following) = self.following
            && timeout_at(deadline, &mut following).await.is_err()
        {
            // What it was about to tell the next one tells.
            following.abort();
        }
        // Each of these may take until the deadline; after it they are cut off, and only what nobody was told is lost.
        let closed = timeout_at(deadline, self.agents.ingest.close()).await.is_ok();
        // The other end is gone only when serving has ended already.
        let _ = self.hang_up.send(());
        let mut served = timeout_at(deadline, self.serving).await.is_ok();
        if let Some(http) = self.http {
            // The other end is gone only when serving has ended already.
            let _ = http.stop.send(());
            let ending = http.serving.abort_handle();
            served &= timeout_at(deadline, http.serving).await.is_ok();
            ending.abort();
        }
        let synced = timeout_at(deadline, self.agents.last_words.close()).await.is_ok();
        if let Some(recording) = self.recording
            && timeout_at(deadline, recording.stop()).await.is_err()
        {
            tracing::warn!("what was seen of the cluster last was not written within the grace period");
        }
        if !(closed && served && synced) {
            tracing::warn!(closed, served, synced, "not everything ended within the grace period");
        }
        let data = Arc::clone(&self.data);
        for task in self.tasks {
            // Each is cut off even when there is no time left to see it end.
            let _ = timeout_at(deadline, task.end()).await;
        }
        if tokio::task::spawn_blocking(move || data.remove_address()).await.is_err() {
            tracing::debug!("the address file was not removed");
        }
        tracing::info!(counts = %self.stats.counts(), unfinished = left.unfinished.len(), "collector stopped");
        left
    }
}

/// Each node has a connection and two files; the limit at the start is often 1,024.
fn open_as_many_files_as_allowed() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // Where it may not be raised, fewer connections are taken: the listener looks at the limit.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

/// What was opened from the data directory.
struct Opened {
    store: Arc<dyn Store>,
    key: SigningKey,
    last_words: LastWords,
    identity: Arc<Identity>,
    space: Space,
}

/// What is opened from the data directory, on a thread that may block.
fn open_below(
    data: &DataDir,
    retention: casefile_evidence::recording::segment::Retention,
    reserve: Option<casefile_proto::units::Bytes>,
    clock: ingest::Clock,
    life: Duration,
    stats: &Arc<Stats>,
) -> Result<Opened, StartError> {
    let space = Space::watch(data.root(), reserve, Arc::clone(stats)).map_err(StartError::Space)?;
    let index = data.index();
    let store = SqliteStore::open(&index).map_err(|source| StartError::Index { path: index, source })?;
    let store = Arc::new(store);
    let audit = Arc::new(Audit::open(&data.audit(), Arc::clone(&clock))?.with_reserve(space.clone()));
    let tokens: Arc<dyn Tokens> = Arc::clone(&store) as _;
    let identity = Arc::new(Identity::open(&data.keys(), tokens, audit, clock, life)?);
    let store: Arc<dyn Store> = store;
    let key = SigningKey::load_or_create(&data.key())?;
    let last_words = LastWords::open(&data.last_words(), Arc::clone(&store).numbers(), retention, Arc::clone(stats))?;
    Ok(Opened { store, key, last_words, identity, space })
}

/// Makes another certificate of our own from time to time.
async fn renew_own(identity: Arc<Identity>) {
    loop {
        tokio::time::sleep(Identity::RENEW_OWN_EVERY).await;
        if let Err(error) = identity.renew_own() {
            tracing::warn!(error = chain::chain(&error), "the collector's own certificate could not be renewed");
        }
    }
}

/// Makes a new key for secrets whenever the old one has been used for its life. When it cannot be written, the old one
/// goes on being used, and that is said.
async fn renew(mut issued: Issued, to: watch::Sender<RedactionKey>, life: Duration, clock: ingest::Clock) {
    let mut looks = tokio::time::interval(redaction::LOOK_EVERY);
    loop {
        looks.tick().await;
        let (old, now) = (issued.clone(), clock().wall);
        match tokio::task::spawn_blocking(move || old.renewed(now, life)).await {
            Ok(None) => {}
            Ok(Some(Ok(next))) => {
                tracing::info!("secrets are replaced with tokens of a new key");
                to.send_replace(next.key().clone());
                issued = next;
            }
            Ok(Some(Err(error))) => {
                tracing::warn!(error = chain::chain(&error), "the redaction key could not be renewed");
            }
            Err(error) => tracing::error!(%error, "renewing the redaction key failed"),
        }
    }
}

async fn listen(
    addr: SocketAddr,
    taken: PortTaken,
    key: &'static str,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let bound = match (TcpListener::bind(addr).await, taken) {
        (Err(error), PortTaken::TakeAnother) if error.kind() == io::ErrorKind::AddrInUse => {
            TcpListener::bind((addr.ip(), 0)).await
        }
        (bound, _) => bound,
    };
    let listener = bound.map_err(|source| StartError::Listen { addr, key, source })?;
    let addr = listener.local_addr().map_err(|source| StartError::Listen { addr, key, source })?;
    Ok((listener, addr))
}
