//! One connection that is through TLS: counted, with a deadline until it has proven who it is, and closed when it must go.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::Place;
use super::pace::Pace;
use super::strangers::Closed;
use crate::identity::caller::Peer;
use crate::ingest::RefusedConnection as Refused;

/// Length of what an HTTP/2 client says first (RFC 9113 §3.4).
const PREFACE: usize = 24;

/// By when a new connection must have done what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Until {
    /// TLS, and that it speaks HTTP/2.
    pub(super) handshake: Instant,
    /// Proven who it is.
    pub(super) proof: Instant,
}

impl Until {
    pub(super) fn new(handshake: Duration, proof: Duration) -> Self {
        let now = Instant::now();
        Self { handshake: now + handshake, proof: now + handshake.max(proof) }
    }
}

/// A connection.
pub(super) struct Guarded {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    closed: Closed,
    deadline: Option<Deadline>,
    pace: Pace,
    /// Nothing is read until then.
    held: Option<Pin<Box<Sleep>>>,
    place: Place,
}

/// What it still has to do.
struct Deadline {
    timer: Pin<Box<Sleep>>,
    /// Bytes of the preface that have not come.
    preface: usize,
    until: Until,
}

impl Guarded {
    pub(super) fn new(stream: TlsStream<TcpStream>, peer: Peer, until: Until, closed: Closed, place: Place) -> Self {
        let timer = Box::pin(tokio::time::sleep_until(until.handshake));
        let deadline = Some(Deadline { timer, preface: PREFACE, until });
        Self { stream, peer, closed, deadline, pace: Pace::behind(PREFACE, Instant::now()), held: None, place }
    }

    /// Whether it must end now.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if Pin::new(&mut self.closed).poll(cx).is_ready() {
            // One that has proven who it is goes for a newer one of its node, and was not refused.
            if !self.closed.is_proven() {
                self.refused(Refused::Strangers);
            }
            return Poll::Ready(io::Error::new(io::ErrorKind::ConnectionAborted, "closed to make room"));
        }
        let Some(deadline) = &mut self.deadline else { return Poll::Pending };
        if deadline.preface == 0 && self.closed.is_proven() {
            self.deadline = None;
            return Poll::Pending;
        }
        if deadline.timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        let (why, missing) = if deadline.preface > 0 {
            (Refused::Handshake, "no HTTP/2 preface came in time")
        } else {
            (Refused::Proof, "nobody said who is asking")
        };
        self.refused(why);
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, missing))
    }

    /// Whether it may be read.
    fn poll_pace(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(held) = &mut self.held {
                if held.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.held = None;
            }
            match self.pace.wait(Instant::now) {
                None => return Poll::Ready(()),
                Some(until) => self.held = Some(Box::pin(tokio::time::sleep_until(until))),
            }
        }
    }

    fn refused(&self, why: Refused) {
        self.place.counts.stats.connections_refused.of(why).one();
    }

    fn went(&mut self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            self.pace.went(*bytes);
        }
    }

    /// These bytes have come.
    fn came(&mut self, bytes: &[u8]) {
        self.pace.came(bytes);
        let bytes = bytes.len();
        let Some(deadline) = &mut self.deadline else { return };
        if deadline.preface > 0 {
            deadline.preface = deadline.preface.saturating_sub(bytes);
            if deadline.preface == 0 {
                deadline.timer.as_mut().reset(deadline.until.proof);
            }
        }
    }
}

impl Connected for Guarded {
    type ConnectInfo = Peer;
    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Guarded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Poll::Ready(why) = this.poll_end(cx) {
            return Poll::Ready(Err(why));
        }
        if this.poll_pace(cx).is_pending() {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        let came = &buf.filled()[before..];
        if !came.is_empty() {
            this.came(came);
            // A new deadline must be polled once, so that it wakes this task.
            if let Poll::Ready(why) = this.poll_end(cx) {
                return Poll::Ready(Err(why));
            }
        }
        read
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.went(&written);
        written
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
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.went(&written);
        written
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
