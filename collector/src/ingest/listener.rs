//! The listener: an accept loop of our own in front of tonic, with limits that tonic does not have.
//!
//! tonic by itself caps neither connections nor streams, waits for ever for the first byte of a connection, and spins when
//! file descriptors run out. Connections beyond a cap are closed at once; an agent that is refused tries again.

use std::collections::HashMap;
use std::fs::File;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::Connected;

/// The limits of the listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// Connections at a time from one address. Loopback is exempt: there all come from one address, and who is there is
    /// on this machine already.
    pub connections_per_address: usize,
    /// How long a connection may take to say that it speaks HTTP/2.
    pub handshake: Duration,
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
            handshake: Duration::from_secs(5),
            streams_per_connection: 32,
            grace: Duration::from_secs(10),
        }
    }
}

/// Bytes of all headers of one request.
const HEADER_LIST: u32 = 8 << 10;
/// Bytes that a peer may send on one stream, and on one connection, before we have read them.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// A peer that is not there any more is noticed after both of them.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Streams that a peer may reset before they were accepted: beyond this it attacks.
const PENDING_RESETS: usize = 20;

/// Length of what an HTTP/2 client says first (RFC 9113 §3.4).
const PREFACE: usize = 24;

/// How long the accept loop rests when the machine is out of file descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(50);

/// Accepted connections that wait for tonic. When it is full nothing is accepted.
const ACCEPTED: usize = 16;

/// Serves until `stop` is ready; then takes no new connection, lets calls end within the grace period, and returns.
pub async fn serve(
    listener: TcpListener,
    routes: Routes,
    limits: Limits,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let (accepted, incoming) = mpsc::channel(ACCEPTED);
    let counts = Arc::new(Counts::default());
    let (stopping, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = Server::builder()
        .max_concurrent_streams(limits.streams_per_connection)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_max_header_list_size(HEADER_LIST)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS))
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .add_routes(routes)
        .serve_with_incoming_shutdown(ReceiverStream::new(incoming), async {
            // An error means that `serve` is gone, and the server with it.
            let _ = stopped.await;
        });
    let grace = limits.grace;
    let until_stopped = async move {
        tokio::select! {
            // Never ready.
            () = accept(&listener, &limits, &counts, &accepted) => {}
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

/// Accepts for ever.
async fn accept(
    listener: &TcpListener,
    limits: &Limits,
    counts: &Arc<Counts>,
    accepted: &mpsc::Sender<io::Result<Guarded>>,
) {
    let mut reserve = reserve();
    loop {
        match listener.accept().await {
            Ok((stream, from)) => match counts.admit(from, limits) {
                Ok(place) => {
                    // An error only delays small answers.
                    let _ = stream.set_nodelay(true);
                    let guarded = Guarded::new(stream, from, limits.handshake, place);
                    if accepted.send(Ok(guarded)).await.is_err() {
                        return std::future::pending().await;
                    }
                }
                Err(full) => tracing::warn!(%from, limit = full.name(), "connection refused"),
            },
            Err(error) if is_transient(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                // With the reserved descriptor the one that waits is accepted and closed: it learns that it is refused.
                if reserve.take().is_some() {
                    let shed = tokio::time::timeout(BACK_OFF, listener.accept()).await;
                    drop(shed);
                }
                tokio::time::sleep(BACK_OFF).await;
                reserve = self::reserve();
            }
        }
    }
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
#[derive(Default)]
struct Counts {
    now: Mutex<(usize, HashMap<IpAddr, usize>)>,
}

/// Which cap is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Full {
    Connections,
    ConnectionsPerAddress,
}

impl Full {
    /// The name of the limit in [`Limits`].
    const fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerAddress => "connections_per_address",
        }
    }
}

/// A counted connection; dropping it counts it out.
struct Place {
    counts: Arc<Counts>,
    from: IpAddr,
}

impl Counts {
    fn admit(self: &Arc<Self>, from: SocketAddr, limits: &Limits) -> Result<Place, Full> {
        // An address of IPv4 is one address, also when it comes to us as IPv6.
        let from = from.ip().to_canonical();
        let mut now = self.now();
        let (all, by_address) = &mut *now;
        if *all >= limits.connections {
            return Err(Full::Connections);
        }
        let here = by_address.get(&from).copied().unwrap_or(0);
        if here >= limits.connections_per_address && !from.is_loopback() {
            return Err(Full::ConnectionsPerAddress);
        }
        *all += 1;
        by_address.insert(from, here + 1);
        Ok(Place { counts: Arc::clone(self), from })
    }

    fn now(&self) -> MutexGuard<'_, (usize, HashMap<IpAddr, usize>)> {
        // Only arithmetic happens under it.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut now = self.counts.now();
        now.0 = now.0.saturating_sub(1);
        if let Some(here) = now.1.get_mut(&self.from) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                now.1.remove(&self.from);
            }
        }
    }
}

/// A connection that is counted, and that must say something in time.
struct Guarded {
    stream: TcpStream,
    from: SocketAddr,
    handshake: Option<Handshake>,
    _place: Place,
}

struct Handshake {
    deadline: Pin<Box<Sleep>>,
    left: usize,
}

impl Guarded {
    fn new(stream: TcpStream, from: SocketAddr, within: Duration, place: Place) -> Self {
        let deadline = Box::pin(tokio::time::sleep(within));
        Self { stream, from, handshake: Some(Handshake { deadline, left: PREFACE }), _place: place }
    }
}

impl Connected for Guarded {
    type ConnectInfo = SocketAddr;
    fn connect_info(&self) -> SocketAddr {
        self.from
    }
}

impl AsyncRead for Guarded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let Some(handshake) = &mut this.handshake else { return Pin::new(&mut this.stream).poll_read(cx, buf) };
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Ready(result) => {
                handshake.left = handshake.left.saturating_sub(buf.filled().len() - before);
                if handshake.left == 0 {
                    this.handshake = None;
                }
                Poll::Ready(result)
            }
            Poll::Pending => {
                ready!(handshake.deadline.as_mut().poll(cx));
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no HTTP/2 preface came in time")))
            }
        }
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    fn limits(connections: usize, connections_per_address: usize) -> Limits {
        Limits { connections, connections_per_address, ..Limits::default() }
    }

    #[test]
    fn connections_are_capped_in_all_and_by_address_and_counted_out() {
        let counts = Arc::new(Counts::default());
        let from = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 7);
        let limits = limits(4, 2);
        let a1 = counts.admit(from("10.0.0.1"), &limits).map_err(Full::name);
        let a2 = counts.admit(from("::ffff:10.0.0.1"), &limits).map_err(Full::name);
        assert!(a1.is_ok() && a2.is_ok());
        assert_eq!(counts.admit(from("10.0.0.1"), &limits).err(), Some(Full::ConnectionsPerAddress));
        let others: Vec<_> = (0..2).map(|_| counts.admit(from("127.0.0.1"), &limits).ok().unwrap()).collect();
        assert_eq!(counts.admit(from("10.0.0.2"), &limits).err(), Some(Full::Connections));
        drop(a1);
        assert!(counts.admit(from("10.0.0.1"), &limits).is_ok());
        drop((a2, others));
        assert_eq!(*counts.now(), (0, HashMap::new()));
    }

    #[tokio::test]
    async fn a_connection_that_says_nothing_is_closed() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let limits = Limits { handshake: Duration::from_millis(50), ..Limits::default() };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, Routes::default(), limits, async {
            let _ = stopped.await;
        }));
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut rest = Vec::new();
        // The server's own settings may come first; then the end.
        let end = tokio::time::timeout(Duration::from_secs(10), silent.read_to_end(&mut rest)).await;
        assert!(end.is_ok(), "still open");
        stop.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(10), server).await.unwrap().unwrap().unwrap();
    }
}
