//! The collector: hears agents, keeps their last words, gathers incidents, seals them, answers people.
//!
//! Here: how the parts are put together, started and stopped. Each has a file; what they decide is pure, in
//! [`incident::machine`], [`incident::coverage`] and ingest's session.

pub mod admin;
pub mod api;
pub mod args;
pub mod audit;
pub mod clock;
pub mod config;
pub mod data;
pub mod identity;
pub mod incident;
pub mod ingest;
pub mod last_words;
pub mod local;
pub mod redaction;
pub mod signals;
pub mod spool;
pub mod stats;
pub mod store;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use casefile_evidence::archive::sign::{KeyError, SigningKey};
use casefile_proto::session::RedactionKey;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, timeout_at};

use audit::{Audit, AuditError};
use config::{Config, PortTaken};
use data::{DataDir, DataError};
use identity::authorise::Authorise;
use identity::{Identity, IdentityError};
use incident::fleet::Agents;
use incident::gather::{self, Parts};
use incident::handle::{Incidents, Left};
use ingest::listener::{self, Secured};
use ingest::{Ingest, IngestConfig};
use last_words::{LastWords, LastWordsError};
use redaction::{Issued, RedactionKeyError};
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
    /// The address cannot be listened on.
    #[error("listen on {addr}: is another collector running there? `listen` in the configuration names another")]
    Listen {
        /// The address.
        addr: SocketAddr,
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
    hang_up: oneshot::Sender<()>,
    serving: JoinHandle<()>,
    renewing: [Renewing; 2],
}

/// The task that renews the key for secrets; it ends with the collector. What it writes replaces a file as a whole.
struct Renewing(AbortHandle);

impl Drop for Renewing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Collector {
    /// Starts everything, and takes up the incidents that an earlier collector left unfinished.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let dir = config.data_dir.clone();
        let data = Arc::new(tokio::task::spawn_blocking(move || DataDir::open(&dir)).await??);
        let opened = Arc::clone(&data);
        let retention = config.last_words;
        let (clock, life) = (Arc::clone(&config.clock), config.certificate_life);
        let opening = move || open_below(&opened, retention, clock, life);
        let Opened { store, key, last_words, identity } = tokio::task::spawn_blocking(opening).await??;
        let (path, now) = (data.redaction_key(), (config.clock)().wall);
        let issued = tokio::task::spawn_blocking(move || Issued::load_or_make(&path, now)).await??;
        let redaction_key = watch::Sender::new(issued.key().clone());
        let (listener, addr) = listen(config.listen, config.port_taken).await?;

        let (events, heard) = mpsc::channel(EVENTS);
        let ingest_config = IngestConfig {
            catch_up: config.catch_up,
            probe_every: config.probe_every,
            clock: Arc::clone(&config.clock),
            redaction_key: redaction_key.subscribe(),
            session_age: config.session_age,
            audit: Arc::clone(identity.audit()),
        };
        let renewing = renew(issued, redaction_key, config.redaction_key_life, Arc::clone(&config.clock));
        let renewing = tokio::spawn(renewing).abort_handle();
        let renewing_own = tokio::spawn(renew_own(Arc::clone(&identity))).abort_handle();
        let ingest = Ingest::new(ingest_config, last_words.clone(), events);
        let agents = Agents { ingest, last_words };
        let stats = Arc::new(Stats::default());
        let parts = Parts {
            fleet: Arc::new(agents.clone()),
            store,
            data: Arc::clone(&data),
            key: Arc::new(key),
            clock: Arc::clone(&config.clock),
            stats: Arc::clone(&stats),
            patience: config.patience,
            returning: config.returning,
            budget: config.budget,
        };
        let index = data.index();
        let started = gather::start(parts, heard).await;
        let incidents = started.map_err(|source| StartError::Index { path: index, source })?;

        let routes = api::routes(incidents.clone(), &agents, Arc::clone(&identity), config.clock);
        let secured = Secured { tls: identity.tls(), authorise: Authorise::new(Arc::clone(&identity)) };
        let (hang_up, hung_up) = oneshot::channel();
        let serving = tokio::spawn(async move {
            // Stops when it is told, and when whoever could tell it is gone.
            let stop = async { drop(hung_up.await) };
            if let Err(error) = listener::serve(listener, routes, secured, config.limits, stop).await {
                tracing::error!(%error, "the listener ended; nobody is heard any more");
            }
        });
        let address = Arc::clone(&data);
        tokio::task::spawn_blocking(move || address.write_address(addr)).await??;
        tracing::info!(%addr, data = %data.root().display(), "collector started");
        let renewing = [Renewing(renewing), Renewing(renewing_own)];
        Ok(Self { addr, data, agents, incidents, identity, stats, hang_up, serving, renewing })
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

    /// What happened since it was started.
    pub fn counts(&self) -> Counts {
        self.stats.counts()
    }

    /// Takes nothing new; what is being sealed and what is on its way to the disk may end within `grace`. Says which
    /// incidents are left: they go on at the next start.
    pub async fn stop(self, grace: Duration) -> Left {
        let deadline = Instant::now() + grace;
        let left = self.incidents.stop(deadline).await;
        // Each of these may take until the deadline; after it they are cut off, and only what nobody was told is lost.
        let closed = timeout_at(deadline, self.agents.ingest.close()).await.is_ok();
        // The other end is gone only when serving has ended already.
        let _ = self.hang_up.send(());
        let served = timeout_at(deadline, self.serving).await.is_ok();
        let synced = timeout_at(deadline, self.agents.last_words.close()).await.is_ok();
        if !(closed && served && synced) {
            tracing::warn!(closed, served, synced, "not everything ended within the grace period");
        }
        let data = Arc::clone(&self.data);
        drop(self.renewing);
        if tokio::task::spawn_blocking(move || data.remove_address()).await.is_err() {
            tracing::debug!("the address file was not removed");
        }
        tracing::info!(counts = %self.stats.counts(), unfinished = left.unfinished.len(), "collector stopped");
        left
    }
}

/// What was opened from the data directory.
struct Opened {
    store: Arc<dyn Store>,
    key: SigningKey,
    last_words: LastWords,
    identity: Arc<Identity>,
}

/// What is opened from the data directory, on a thread that may block.
fn open_below(
    data: &DataDir,
    retention: casefile_evidence::recording::segment::Retention,
    clock: ingest::Clock,
    life: Duration,
) -> Result<Opened, StartError> {
    let index = data.index();
    let store = SqliteStore::open(&index).map_err(|source| StartError::Index { path: index, source })?;
    let store = Arc::new(store);
    let audit = Arc::new(Audit::open(&data.audit(), Arc::clone(&clock))?);
    let tokens: Arc<dyn Tokens> = Arc::clone(&store) as _;
    let identity = Arc::new(Identity::open(&data.keys(), tokens, audit, clock, life)?);
    let store: Arc<dyn Store> = store;
    let key = SigningKey::load_or_create(&data.key())?;
    let last_words = LastWords::open(&data.last_words(), Arc::clone(&store).numbers(), retention)?;
    Ok(Opened { store, key, last_words, identity })
}

/// Makes another certificate of our own from time to time.
async fn renew_own(identity: Arc<Identity>) {
    loop {
        tokio::time::sleep(Identity::RENEW_OWN_EVERY).await;
        if let Err(error) = identity.renew_own() {
            tracing::warn!(error = ingest::chain(&error), "the collector's own certificate could not be renewed");
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
                tracing::warn!(error = incident::sealing::chain(&error), "the redaction key could not be renewed");
            }
            Err(error) => tracing::error!(%error, "renewing the redaction key failed"),
        }
    }
}

async fn listen(addr: SocketAddr, taken: PortTaken) -> Result<(TcpListener, SocketAddr), StartError> {
    let bound = match (TcpListener::bind(addr).await, taken) {
        (Err(error), PortTaken::TakeAnother) if error.kind() == io::ErrorKind::AddrInUse => {
            TcpListener::bind((addr.ip(), 0)).await
        }
        (bound, _) => bound,
    };
    let listener = bound.map_err(|source| StartError::Listen { addr, source })?;
    let addr = listener.local_addr().map_err(|source| StartError::Listen { addr, source })?;
    Ok((listener, addr))
}
