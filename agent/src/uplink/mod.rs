//! The uplink: the agent's end of the session with its collector. It dials out and listens on nothing.
//!
//! [`live`] takes frames from the recorder, [`catch_up`] fetches older ones from the ring, [`feed`] decides what goes when,
//! [`session`] talks; [`collections`] run what is asked, [`item`] and [`upload`] deliver it. A connection that ends, for
//! whatever reason, is the normal case: the next session resumes where the collector's disk ends.

mod backoff;
mod catch_up;
mod collections;
mod feed;
mod fit;
mod item;
pub mod live;
mod session;
mod upload;

use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use casefile_proto::session::Collectable;
use tokio::sync::watch;
use tonic::transport::Endpoint;

use crate::clock::Clock;
use crate::collect::Context;
use backoff::Backoff;
use collections::Collections;
use live::Live;
use session::End;

/// A collector that does not answer a connection within this is tried again.
const CONNECT: Duration = Duration::from_secs(5);

/// A connection on which nothing comes back for both of them is dead.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// Bytes that the collector may send on one stream before we have read them: it says little.
const STREAM_WINDOW: u32 = 64 << 10;

/// Everything that an uplink works with.
pub struct Uplink {
    /// The collector's address: `http://host:port`.
    pub collector: String,
    /// The newest frames.
    pub live: Live,
    /// The ring, for frames that the collector missed.
    pub ring_dir: PathBuf,
    /// What collections work with.
    pub context: Arc<Context>,
    /// Where items wait until they are delivered. Emptied at start.
    pub spool_dir: PathBuf,
    /// The node's clocks.
    pub clock: Clock,
    /// What can be collected besides the recording.
    pub collectable: Vec<Collectable>,
}

/// Whether the uplink goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Run {
    Go,
    Stop,
}

/// Keeps a session with the collector until `shutdown` is ready, then ends it: what was sent is acknowledged or is sent
/// again by the next run. Returns at once with an error when the address is none.
pub async fn run(uplink: Uplink, shutdown: impl Future<Output = ()> + Send) -> Result<(), InvalidCollector> {
    let endpoint = endpoint(&uplink.collector)?;
    let (told, mut stop) = watch::channel(Run::Go);
    let mut collections = Collections::new(Arc::clone(&uplink.context), uplink.spool_dir.clone()).await;
    tokio::pin!(shutdown);
    {
        let dialling = dial(&uplink, &endpoint, &mut collections, &mut stop);
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
    Ok(())
}

async fn dial(uplink: &Uplink, endpoint: &Endpoint, collections: &mut Collections, stop: &mut watch::Receiver<Run>) {
    let mut backoff = Backoff::new(random());
    loop {
        let connected = tokio::select! {
            // Within its own deadline.
            connected = endpoint.connect() => connected,
            // The agent stops.
            _ = stop.wait_for(|run| *run == Run::Stop) => return,
        };
        match connected {
            Ok(channel) => match session::talk(uplink, collections, channel, stop, &mut backoff).await {
                End::Stopped => return,
                End::Broken(why) => tracing::info!(collector = uplink.collector, why, "session ended"),
            },
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
                tracing::info!(collector = uplink.collector, why, "collector is not reached");
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

/// The collector's address is none.
#[derive(Debug, thiserror::Error)]
#[error("{address:?} is no address of a collector such as http://127.0.0.1:7443")]
pub struct InvalidCollector {
    /// What was given.
    pub address: String,
    /// What is wrong with it.
    #[source]
    pub source: tonic::transport::Error,
}

fn endpoint(address: &str) -> Result<Endpoint, InvalidCollector> {
    Endpoint::new(address.to_owned())
        .map(|endpoint| {
            endpoint
                .connect_timeout(CONNECT)
                .tcp_nodelay(true)
                .initial_stream_window_size(STREAM_WINDOW)
                .http2_keep_alive_interval(KEEPALIVE)
                .keep_alive_timeout(KEEPALIVE)
                .keep_alive_while_idle(true)
        })
        .map_err(|source| InvalidCollector { address: address.to_owned(), source })
}

/// A number that differs between agents and runs; nothing secret rests on it.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
