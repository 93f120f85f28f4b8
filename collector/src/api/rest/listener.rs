//! HTTP/1.1 for people, programs and browsers: few connections, a deadline for everything that another end can be slow at.
//!
//! As on the port of gRPC a connection is a stranger until somebody has proven himself over it; when there are too many of
//! them, the oldest goes. Downloads and event streams may last, but not while nobody reads them.

mod unread;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::Front;
use crate::identity::caller::Peer;
use crate::ingest::listener::strangers::{Closed, Strangers};
use unread::Unread;

/// Connections at a time. A browser takes six.
const CONNECTIONS: usize = 256;

/// Of those, connections over which nobody has proven himself. The oldest goes.
const STRANGERS: usize = 64;

/// How long a connection may take for TLS.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// The headers of a request must come within this; a connection that is kept open for the next one is closed after it too.
const HEADERS_WITHIN: Duration = Duration::from_secs(30);

/// Bytes of one request with all its headers.
const REQUEST: usize = 16 << 10;

/// Headers of one request.
const HEADERS: usize = 64;

/// How long the accept loop rests when the machine is out of file descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(50);

/// What connections are served with.
#[derive(Clone)]
struct Served {
    front: Front,
    tls: Option<TlsAcceptor>,
    stopping: watch::Receiver<bool>,
}

/// Serves until `stop` is ready; then takes no new connection, lets answers end, and returns when all have. Dropping it closes
/// every connection.
pub async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, front: Front, stop: impl Future<Output = ()>) {
    let (stopping, stopped) = watch::channel(false);
    let served = Served { front, tls, stopping: stopped };
    let mut open = JoinSet::new();
    let accepting = async {
        let mut strangers = Strangers::default();
        let most = most();
        loop {
            match listener.accept().await {
                Ok((stream, from)) => {
                    while open.try_join_next().is_some() {}
                    let closed = strangers.add(STRANGERS.min(most));
                    if open.len() < most {
                        // An error only delays small answers.
                        let _ = stream.set_nodelay(true);
                        open.spawn(connection(stream, from, closed, served.clone()));
                    } else {
                        tracing::debug!(%from, limit = most, "connection refused");
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot accept connections");
                    strangers.close_oldest(1);
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
        }
    };
    tokio::select! {
        // Never ready.
        () = accepting => {}
        // Connections that wait to be accepted are refused by the system when the listener is dropped.
        () = stop => {}
    }
    drop(listener);
    stopping.send_replace(true);
    while open.join_next().await.is_some() {}
}

/// No more than leaves seven eighths of the file descriptors for agents and files.
fn most() -> usize {
    let allowed = getrlimit(Resource::Nofile).current.and_then(|most| usize::try_from(most).ok());
    allowed.map_or(CONNECTIONS, |most| (most / 8).clamp(8, CONNECTIONS))
}

async fn connection(stream: TcpStream, from: SocketAddr, closed: Closed, served: Served) {
    let peer = Peer::new(from, None, closed.proven());
    let Served { front, tls, stopping } = served;
    let _open = front.site.stats.http_connections.held();
    let serving = async {
        match tls {
            None => http(stream, peer, front, stopping).await,
            Some(tls) => match timeout(HANDSHAKE, tls.accept(stream)).await {
                Ok(Ok(stream)) => http(stream, peer, front, stopping).await,
                Ok(Err(error)) => tracing::debug!(%from, %error, "no TLS handshake"),
                Err(_) => tracing::debug!(%from, "no TLS handshake in time"),
            },
        }
    };
    tokio::select! {
        // It has ended.
        () = serving => {}
        // Somebody else needs its place. It has proven nothing, so nothing of use is cut off.
        () = closed => {}
    }
}

async fn http<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    peer: Peer,
    front: Front,
    mut stopping: watch::Receiver<bool>,
) {
    let from = peer.from;
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        let front = front.clone();
        async move { Ok::<_, Infallible>(front.answer(request.map(Body::new)).await) }
    });
    let mut serving = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS_WITHIN)
            .max_buf_size(REQUEST)
            .max_headers(HEADERS)
            .serve_connection(TokioIo::new(Unread::new(stream, unread::UNREAD)), service)
    );
    // The sender lives as long as this does.
    let stopped = async move { drop(stopping.wait_for(|stopping| *stopping).await) };
    let ended = tokio::select! {
        // The other end has gone, or was too slow.
        ended = serving.as_mut() => Some(ended),
        // The collector stops.
        () = stopped => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            // What is being answered may end; nothing new is taken.
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    // What a peer did wrong is its own affair.
    if let Err(error) = ended {
        tracing::debug!(%from, %error, "connection ended");
    }
}
