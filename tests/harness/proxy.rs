//! A TCP proxy between an agent and its collector that can be slow, late, cut or reset, for as long as a test wants it.
//!
//! It understands nothing of what passes. Its rate is one for all connections together, as that of a line is.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Bytes that are passed at once: what one connection may be ahead of another.
const PIECE: usize = 16 << 10;

/// Pieces that are under way when there is a delay. When it is full the sender waits.
const UNDER_WAY: usize = 64;

/// What the line is like.
#[derive(Debug, Clone, Copy, Default)]
pub struct Line {
    /// Bytes a second from whoever dials to where it leads; `None`: as many as can be.
    pub rate: Option<u64>,
    /// How long a piece is under way, each way.
    pub delay: Duration,
    /// Whether new connections are closed at once.
    pub down: bool,
}

/// How connections end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Both sides are told that it is the end.
    Cut(u64),
    /// Both sides are told that something is wrong.
    Reset(u64),
}

/// A proxy. It and all of its connections are gone when it is dropped.
pub struct Proxy {
    addr: SocketAddr,
    line: Arc<Mutex<Line>>,
    end: watch::Sender<End>,
    _accepting: JoinSet<()>,
}

impl Proxy {
    /// Leads to this address; as fast as it can.
    pub async fn start(to: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let line = Arc::new(Mutex::new(Line::default()));
        let (end, ends) = watch::channel(End::Cut(0));
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, to, Arc::clone(&line), ends));
        Ok(Self { addr, line, end, _accepting: accepting })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// From now on the line is like this.
    pub fn set(&self, line: Line) {
        *self.line.lock().unwrap_or_else(PoisonError::into_inner) = line;
    }

    /// Ends all connections in order.
    pub fn cut(&self) {
        self.end.send_modify(|end| *end = End::Cut(turn(*end) + 1));
    }

    /// Ends all connections with a reset.
    pub fn reset(&self) {
        self.end.send_modify(|end| *end = End::Reset(turn(*end) + 1));
    }
}

const fn turn(end: End) -> u64 {
    match end {
        End::Cut(turn) | End::Reset(turn) => turn,
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, line: Arc<Mutex<Line>>, ends: watch::Receiver<End>) {
    let mut connections = JoinSet::new();
    // When the line is free again; shared by all connections.
    let free = Arc::new(Mutex::new(Instant::now()));
    loop {
        tokio::select! {
            // Somebody dials.
            Ok((from, _)) = listener.accept() => {
                if !now(&line).down {
                    connections.spawn(connection(from, to, Arc::clone(&line), Arc::clone(&free), ends.clone()));
                }
            }
            // One has ended.
            Some(_) = connections.join_next() => {}
        }
    }
}

fn now(line: &Mutex<Line>) -> Line {
    *line.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn connection(
    from: TcpStream,
    to: SocketAddr,
    line: Arc<Mutex<Line>>,
    free: Arc<Mutex<Instant>>,
    mut ends: watch::Receiver<End>,
) {
    ends.mark_unchanged();
    let Ok(onward) = TcpStream::connect(to).await else { return };
    let _both = (from.set_nodelay(true), onward.set_nodelay(true));
    let (from_read, mut from_write) = from.into_split();
    let (onward_read, mut onward_write) = onward.into_split();
    let end = tokio::select! {
        // One side has ended, or is gone.
        () = pass(from_read, &mut onward_write, &line, Some(&free)) => None,
        () = pass(onward_read, &mut from_write, &line, None) => None,
        // It is cut or reset.
        changed = ends.changed() => changed.is_ok().then(|| *ends.borrow()),
    };
    if let Some(End::Reset(_)) = end {
        for half in [&from_write, &onward_write] {
            let stream: &TcpStream = half.as_ref();
            // An error only makes it an orderly end.
            let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
        }
    }
}

/// Passes one direction on to its end.
async fn pass(mut from: OwnedReadHalf, to: &mut OwnedWriteHalf, line: &Mutex<Line>, free: Option<&Mutex<Instant>>) {
    let (send, mut under_way) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    // Has the only sender: when it ends, so does what is under way.
    let read = async move {
        let mut piece = vec![0; PIECE];
        while let Ok(len @ 1..) = from.read(&mut piece).await {
            let Line { rate, delay, .. } = now(line);
            if let (Some(rate), Some(free)) = (rate, free) {
                let takes = Duration::from_secs_f64(len as f64 / rate.max(1) as f64);
                let passed = {
                    let mut free = free.lock().unwrap_or_else(PoisonError::into_inner);
                    *free = (*free).max(Instant::now()) + takes;
                    *free
                };
                sleep_until(passed).await;
            }
            if send.send((Instant::now() + delay, piece[..len].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let write = async {
        while let Some((due, piece)) = under_way.recv().await {
            sleep_until(due).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    tokio::pin!(read, write);
    tokio::select! {
        // The sender has ended: what is under way still arrives.
        () = &mut read => {}
        // The receiver is gone.
        () = &mut write => return,
    }
    write.await;
}
