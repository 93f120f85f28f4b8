//! The uplink: the agent's end of the session with its collector. It dials out and listens on nothing.
//!
//! [`live`] takes frames from the recorder, [`catch_up`] fetches older ones from the ring, [`stream`] puts both in order,
//! [`feed`] decides what goes when, [`session`] talks; [`collections`] run what is asked (and `crate::connectivity` tests), [`item`] and [`upload`] deliver it. A connection that ends, for
//! whatever reason, is the normal case: the next session resumes where the collector's disk ends.

mod backoff;
pub mod catch_up;
mod collections;
mod feed;
mod fit;
pub mod identity;
pub mod in_cluster;
mod item;
pub mod live;
mod session;
pub mod stream;
mod upload;

use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use casefile_identity::dial::{Address, Me};
use casefile_proto::session::Collectable;
use casefile_proto::units::Bytes;
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};

use crate::clock::Clock;
use crate::collect::Context;
use crate::connectivity::{Allowed, Tests};
use crate::runner::lane::chain;
use backoff::Backoff;
use collections::Collections;
use identity::{Identity, Join};
use in_cluster::is_over;
use live::Live;
use session::End;

/// A connection on which nothing comes back for both of them is dead.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// Bytes that the collector may send on one stream before we have read them: it says little.
const STREAM_WINDOW: u32 = 64 << 10;

/// Everything that an uplink works with.
pub struct Uplink {
    /// Where the collector is, and how this agent gets its certificate.
    pub collector: Collector,
    /// Where the certificate is kept.
    pub identity_file: PathBuf,
    /// The newest frames.
    pub live: Live,
    /// The ring, for frames that the collector missed.
    pub ring_dir: PathBuf,
    /// What collections work with.
    pub context: Arc<Context>,
    /// Where items wait until they are delivered. Emptied at start.
    pub spool_dir: PathBuf,
    /// What they leave free on its disk; `None`: what suits it.
    pub leave_free: Option<Bytes>,
    /// The node's clocks.
    pub clock: Clock,
    /// What can be collected besides the recording.
    pub collectable: Vec<Collectable>,
    /// What may be tested of connectivity; `None`: nothing.
    pub connectivity: Option<Allowed>,
}

/// Where a collector is, and how an agent becomes known to it.
#[derive(Debug, Clone)]
pub struct Collector {
    /// Its address.
    pub address: Address,
    /// How the agent gets its first certificate.
    pub join: Join,
}

/// Whether the uplink goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Run {
    Go,
    Stop,
}

/// Keeps a session with the collector until `shutdown` is ready, then ends it: what was sent is acknowledged or is sent
/// again by the next run.
pub async fn run(uplink: Uplink, shutdown: impl Future<Output = ()> + Send) {
    let (told, mut stop) = watch::channel(Run::Go);
    let spool = uplink.spool_dir.clone();
    let mut collections = Collections::new(Arc::clone(&uplink.context), spool, uplink.leave_free).await;
    let stats = Arc::clone(uplink.context.host.stats());
    let mut tests = Tests::new(uplink.connectivity.clone(), Arc::clone(&uplink.clock), stats);
    tokio::pin!(shutdown);
    {
        let dialling = dial(&uplink, (&mut collections, &mut tests), &mut stop);
        tokio::pin!(dialling);
        tokio::select! {
            // Only returns when it was told to stop.
            () = &mut dialling => {}
            // It is told to stop, and awaited: what it does has deadlines of its own.
            () = &mut shutdown => {
                told.send_replace(Run::Stop);
                dialling.await;
            }
        }
    }
    collections.stop().await;
}

async fn dial(uplink: &Uplink, (collections, tests): (&mut Collections, &mut Tests), stop: &mut watch::Receiver<Run>) {
    let mut backoff = Backoff::new(random());
    let Collector { address, join } = uplink.collector.clone();
    let node = uplink.context.node.clone();
    let mut identity = Identity::open(node, uplink.identity_file.clone(), join, Arc::clone(&uplink.clock));
    // What is the matter is told when it changes, not each time that it is tried again.
    let mut told = String::new();
    loop {
        let connected = tokio::select! {
            // Within deadlines of its own.
            connected = connect(&mut identity, &address) => connected,
            // The agent stops.
            _ = stop.wait_for(|run| *run == Run::Stop) => return,
        };
        match connected {
            Ok(Lanes { vitals, bulk }) => {
                let talking = session::talk(uplink, (collections, tests), (vitals.clone(), bulk), stop, &mut backoff);
                let end = tokio::select! {
                    // The session is over.
                    end = talking => end,
                    // Never ready.
                    () = identity.stay_fresh(vitals) => continue,
                };
                match end {
                    End::Stopped => return,
                    End::Broken(why) => tracing::info!(collector = %address, why, "session ended"),
                    End::NotTaken(why) => {
                        identity.doubt();
                        tracing::info!(collector = %address, why, "session ended");
                    }
                }
                told.clear();
            }
            Err(why) if why == told => tracing::debug!(collector = %address, why, "no session"),
            Err(why) => {
                tracing::warn!(collector = %address, why, "no session: what is recorded stays in the ring");
                told = why;
            }
        }
        tokio::select! {
            // Not at once again.
            () = tokio::time::sleep(backoff.wait()) => {}
            // The agent stops.
            _ = stop.wait_for(|run| *run == Run::Stop) => return,
        }
    }
}

/// The two ways to the collector. What is recorded has a connection of its own: on one that it shared with an upload it
/// would wait behind everything that the upload had handed to the kernel, and a node may have seconds left to live.
struct Lanes {
    /// For the session.
    vitals: Channel,
    /// For uploads; not connected before there is one.
    bulk: Channel,
}

/// Connections that show our certificate, or why there are none.
async fn connect(identity: &mut Identity, address: &Address) -> Result<Lanes, String> {
    let certificate = identity.certificate(address).await.map_err(|e| chain(&e))?;
    let me = Me::Agent(certificate);
    let dialled = async {
        let vitals = casefile_identity::dial::dial(address, &me, tuned).await?;
        Ok(Lanes { vitals, bulk: casefile_identity::dial::dial_when_needed(address, &me, tuned)? })
    };
    dialled.await.map_err(|error: tonic::transport::Error| {
        if is_over(&error) {
            identity.doubt();
        }
        let error: &dyn std::error::Error = &error;
        let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        format!("the collector is not reached: {why}")
    })
}

/// What an agent wants of HTTP/2.
fn tuned(endpoint: Endpoint) -> Endpoint {
    endpoint
        .initial_stream_window_size(STREAM_WINDOW)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
}

/// A number that differs between agents and runs; nothing secret rests on it.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
