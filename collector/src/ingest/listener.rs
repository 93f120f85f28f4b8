//! The listener: an accept loop and TLS of our own in front of tonic, with limits that tonic does not have.
//!
//! tonic by itself caps neither connections nor streams, waits for ever for a handshake, and spins when file descriptors run
//! out. Here a connection is a stranger until it has proven who it is: strangers are few, have a deadline, and the oldest
//! goes when there are too many, so that whoever can prove himself gets in however many wait. [`guarded`] is one connection.

mod guarded;
mod pace;
pub(crate) mod strangers;

use std::collections::HashMap;
use std::fs::File;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use casefile_identity::authority::holder;
use casefile_proto::ids::NodeName;
use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::transport::Server;

use super::RefusedConnection as Full;
use crate::identity::authorise::Authorise;
use crate::identity::caller::Peer;
use crate::stats::Stats;
use crate::stats::figure::{Held, Label};
use guarded::{Guarded, Until};
use strangers::{Closed, Strangers};

/// The limits of the listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time that have proven who they are; fewer where there are not enough file descriptors.
    pub connections: usize,
    /// Connections at a time from one address. Loopback is exempt: there all come from one address, and who is there is
    /// on this machine already.
    pub connections_per_address: usize,
    /// Connections at a time with the certificate of one node: a session, its uploads, and the same once more while one is
    /// replaced. The oldest goes.
    pub connections_per_node: usize,
    /// Connections at a time that have not proven who they are. The oldest goes.
    pub strangers: usize,
    /// How long a connection may take for TLS and to say that it speaks HTTP/2.
    pub handshake: Duration,
    /// How long a connection without a certificate may take until a token has proven who it is.
    pub proof: Duration,
    /// Streams at a time on one connection: a session and its uploads, or what a person's client has open.
    pub streams_per_connection: u32,
    /// How long after `stop` calls may take to end.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 12_000,
            connections_per_address: 64,
            connections_per_node: 4,
            strangers: 512,
            handshake: Duration::from_secs(5),
            proof: Duration::from_secs(30),
            streams_per_connection: 32,
            grace: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// No more connections than leave two thirds of the file descriptors for files: a node whose last words are written has two
    /// of them open.
    fn within_descriptors(mut self) -> Self {
        if let Some(most) = getrlimit(Resource::Nofile).current.and_then(|most| usize::try_from(most).ok()) {
            let room = (most / 3).saturating_sub(32).max(8);
            self.strangers = self.strangers.min(room / 4);
            self.connections = self.connections.min(room - self.strangers);
        }
        self
    }
}

/// What HTTP/2 is called in the TLS handshake (RFC 9113 §3.2).
const H2: &[u8] = b"h2";
/// Bytes of all headers of one request.
const HEADER_LIST: u32 = 8 << 10;
/// Bytes that a peer may send on one stream, and on one connection, before we have read them.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// A peer that is not there any more is noticed after both of them.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Streams that a peer may reset before they were accepted: beyond this it attacks.
const PENDING_RESETS: usize = 20;

/// How long the accept loop rests when the machine is out of file descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(50);

/// Strangers that go when file descriptors have run out.
const SHED: usize = 16;

/// Connections that are through TLS and wait for tonic. When it is full they wait.
const ACCEPTED: usize = 16;

/// Who is served, and how connections are secured.
pub struct Secured {
    /// TLS.
    pub tls: Arc<ServerConfig>,
    /// In front of every method.
    pub authorise: Authorise,
}

/// Serves until `stop` is ready; then takes no new connection, lets calls end within the grace period, and returns.
pub async fn serve(
    listener: TcpListener,
    routes: Routes,
    secured: Secured,
    limits: Limits,
    stats: Arc<Stats>,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let limits = Arc::new(limits.within_descriptors());
    let (accepted, incoming) = mpsc::channel(ACCEPTED);
    let (stopping, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = Server::builder()
        .max_concurrent_streams(limits.streams_per_connection)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_max_header_list_size(HEADER_LIST)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS))
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .layer(secured.authorise)
        .add_routes(routes)
        .serve_with_incoming_shutdown(ReceiverStream::new(incoming), async {
            // An error means that `serve` is gone, and the server with it.
            let _ = stopped.await;
        });
    let grace = limits.grace;
    let acceptor = Acceptor {
        limits,
        tls: TlsAcceptor::from(secured.tls),
        counts: Arc::new(Counts { now: Mutex::default(), stats }),
        strangers: Strangers::default(),
        accepted,
    };
    let until_stopped = async move {
        tokio::select! {
            // Never ready.
            () = acceptor.run(&listener) => {}
            // Connections that wait to be accepted are refused by the system when the listener is dropped.
            () = stop => {}
        }
        drop(listener);
        let _ = stopping.send(());
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        // Every call has ended, or the server failed.
        result = server => result,
        // Some calls go on; their connections end with their tasks.
        () = until_stopped => {
            tracing::warn!("calls did not end within the grace period");
            Ok(())
        }
    }
}

/// Accepts, and sees connections through TLS.
struct Acceptor {
    limits: Arc<Limits>,
    tls: TlsAcceptor,
    counts: Arc<Counts>,
    strangers: Strangers,
    accepted: mpsc::Sender<io::Result<Guarded>>,
}

impl Acceptor {
    /// For ever.
    async fn run(mut self, listener: &TcpListener) {
        let mut reserve = reserve();
        // Those that are not through TLS; they end by their deadline, or when they are closed to make room.
        let mut handshakes = JoinSet::new();
        loop {
            match listener.accept().await {
                Ok((stream, from)) => {
                    while handshakes.try_join_next().is_some() {}
                    match self.counts.admit(from, &self.limits) {
                        Ok(place) => self.see_through(&mut handshakes, stream, place),
                        Err(full) => {
                            self.counts.stats.connections_refused.of(full).one();
                            tracing::debug!(%from, limit = full.value(), "connection refused");
                        }
                    }
                }
                Err(error) if is_transient(&error) => {}
                Err(error) => {
                    self.counts.stats.connections_refused.of(Full::System).one();
                    tracing::warn!(%error, "cannot accept connections");
                    // Strangers give up theirs. Where there is none, with the reserved descriptor the one that waits is
                    // accepted and closed: it learns that it is refused.
                    if self.strangers.close_oldest(SHED) == 0 && reserve.take().is_some() {
                        let shed = tokio::time::timeout(BACK_OFF, listener.accept()).await;
                        drop(shed);
                    }
                    tokio::time::sleep(BACK_OFF).await;
                    reserve = reserve.or_else(self::reserve);
                }
            }
        }
    }

    fn see_through(&mut self, handshakes: &mut JoinSet<()>, stream: TcpStream, place: Place) {
        // An error only delays small answers.
        let _ = stream.set_nodelay(true);
        let closed = self.strangers.add(self.limits.strangers);
        let (tls, counts) = (self.tls.clone(), Arc::clone(&self.counts));
        let (accepted, limits) = (self.accepted.clone(), Arc::clone(&self.limits));
        let until = Until::new(limits.handshake, limits.proof);
        handshakes.spawn(async move {
            match secured(&tls, stream, place, closed, until, &counts, &limits).await {
                // The server is gone: so is the connection.
                Ok(connection) => drop(accepted.send(Ok(connection)).await),
                // A stranger's doing: at debug, or he could fill the log.
                Err((from, why, error)) => {
                    counts.stats.connections_refused.of(why).one();
                    tracing::debug!(%from, error, "connection closed before it said anything");
                }
            }
        });
    }
}

/// Sees one connection through TLS.
async fn secured(
    tls: &TlsAcceptor,
    stream: TcpStream,
    mut place: Place,
    mut closed: Closed,
    until: Until,
    counts: &Arc<Counts>,
    limits: &Limits,
) -> Result<Guarded, (SocketAddr, Full, String)> {
    let from = place.from;
    let stream = tokio::select! {
        // It is through, or is none of ours.
        stream = tls.accept(stream) => stream.map_err(|e| (from, Full::Handshake, e.to_string()))?,
        // It takes too long.
        () = tokio::time::sleep_until(until.handshake) => {
            return Err((from, Full::Handshake, "no TLS handshake in time".to_owned()));
        }
        // Somebody else needs its place.
        () = &mut closed => return Err((from, Full::Strangers, "closed to make room".to_owned())),
    };
    // TLS lets a client through that names no protocol at all; ours always do.
    if stream.get_ref().1.alpn_protocol() != Some(H2) {
        return Err((from, Full::Handshake, "it does not say that it speaks HTTP/2".to_owned()));
    }
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let shown = match shown.map(|certificate| holder(certificate)) {
        None => None,
        Some(Some(holder)) => Some(Arc::new(holder)),
        // Signed by our authority and no node's: what it is for, it does not say.
        Some(None) => return Err((from, Full::Handshake, "its certificate is of no node".to_owned())),
    };
    let proven = closed.proven();
    if let Some(holder) = &shown {
        let oldest = counts.prove(&mut place, &holder.node, closed.closer(), limits);
        oldest.map_err(|full| (from, full, format!("{} reached", full.value())))?;
    }
    let peer = Peer::new(from, shown, proven);
    if peer.holder.is_some() {
        peer.proven();
    }
    Ok(Guarded::new(stream, peer, until, closed, place))
}

/// A file descriptor to give up when there are no others. `None`: there is none even now.
fn reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Errors of one connection that is gone before it was accepted.
fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// Connections at the moment.
struct Counts {
    now: Mutex<Now>,
    stats: Arc<Stats>,
}

#[derive(Default)]
struct Now {
    /// That have shown a certificate.
    proven: usize,
    by_address: HashMap<IpAddr, usize>,
    by_node: HashMap<NodeName, Vec<strangers::Closer>>,
}

/// A counted connection; dropping it counts it out.
struct Place {
    counts: Arc<Counts>,
    from: SocketAddr,
    node: Option<NodeName>,
    _open: Held,
}

/// An address of IPv4 is one address, also when it comes to us as IPv6.
fn address(from: SocketAddr) -> IpAddr {
    from.ip().to_canonical()
}

impl Counts {
    /// A connection comes in.
    fn admit(self: &Arc<Self>, from: SocketAddr, limits: &Limits) -> Result<Place, Full> {
        let mut now = self.now();
        let here = now.by_address.entry(address(from)).or_default();
        if *here >= limits.connections_per_address && !address(from).is_loopback() {
            return Err(Full::ConnectionsPerAddress);
        }
        *here += 1;
        self.stats.connections_accepted.one();
        Ok(Place { counts: Arc::clone(self), from, node: None, _open: self.stats.connections.held() })
    }

    /// It has shown the certificate of a node. When that node has too many, its oldest is closed.
    fn prove(
        &self,
        place: &mut Place,
        node: &NodeName,
        closer: strangers::Closer,
        limits: &Limits,
    ) -> Result<(), Full> {
        let mut now = self.now();
        if now.proven >= limits.connections {
            return Err(Full::Connections);
        }
        now.proven += 1;
        let of_node = now.by_node.entry(node.clone()).or_default();
        of_node.retain(|closer| !closer.is_gone());
        while of_node.len() >= limits.connections_per_node.max(1) {
            of_node.remove(0).close();
        }
        of_node.push(closer);
        place.node = Some(node.clone());
        Ok(())
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        // Only arithmetic happens under it.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let from = address(self.from);
        let mut now = self.counts.now();
        if let Some(here) = now.by_address.get_mut(&from) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                now.by_address.remove(&from);
            }
        }
        if let Some(node) = self.node.take() {
            now.proven = now.proven.saturating_sub(1);
            if let Some(of_node) = now.by_node.get_mut(&node) {
                of_node.retain(|closer| !closer.is_gone());
                if of_node.is_empty() {
                    now.by_node.remove(&node);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
