//! HTTP/1 for those who probe and scrape: few connections, short requests without a body, a deadline for everything.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Asked, Site, answer, plain};

/// Connections at a time: a Prometheus pair, a kubelet, a person. More are closed at once.
const CONNECTIONS: usize = 32;

/// Bytes of one request with all its headers: the least that hyper takes.
const REQUEST: usize = 8 << 10;

/// Headers of one request.
const HEADERS: usize = 64;

/// The headers of a request must come within this; a connection that is kept open for the next one too.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);

/// An answer is made within this: the checks wait for a second each.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A connection is closed after this, whatever it does.
const CONNECTION_LIFE: Duration = Duration::from_secs(300);

/// How long the accept loop rests when the machine is out of file descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(50);

/// Serves for ever; dropping it closes every connection.
pub async fn serve(listener: TcpListener, site: Arc<Site>) {
    let mut open = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                while open.try_join_next().is_some() {}
                if open.len() < CONNECTIONS {
                    open.spawn(connection(stream, from, Arc::clone(&site)));
                } else {
                    tracing::debug!(%from, limit = CONNECTIONS, "connection refused");
                }
            }
            Err(error) => {
                tracing::debug!(%error, "cannot accept connections");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, from: SocketAddr, site: Arc<Site>) {
    let service = service_fn(|request: Request<Incoming>| respond(Arc::clone(&site), from, request));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(REQUEST)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    // What a peer did wrong is its own affair; a connection that lives too long is closed.
    if let Ok(Err(error)) = timeout(CONNECTION_LIFE, served).await {
        tracing::debug!(%from, %error, "connection ended");
    }
}

async fn respond(
    site: Arc<Site>,
    from: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    if !body.is_end_stream() {
        let mut refused = plain(StatusCode::PAYLOAD_TOO_LARGE, "nothing is taken here\n");
        refused.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        return Ok(refused);
    }
    let answered = timeout(ANSWER_WITHIN, answer(&site, Asked { from, head: &head })).await;
    Ok(answered.unwrap_or_else(|_| plain(StatusCode::SERVICE_UNAVAILABLE, "no answer in time\n")))
}
