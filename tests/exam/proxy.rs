//! A network that misbehaves: a TCP proxy that delays, stalls, cuts and resets what goes through it, as it is told.
//!
//! Bytes are carried in pieces, in order and unchanged: what TCP itself guarantees is not broken here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Bytes that are carried at once.
const PIECE: usize = 16 << 10;

/// What the network does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    /// It carries everything at once.
    Fair,
    /// It carries everything this much later, piece by piece.
    Slow(Duration),
    /// It carries nothing and closes nothing.
    Stalled,
    /// It takes no connection, and has closed those that there were; with a reset or in an orderly way.
    Down(Ending),
}

/// How connections are closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// FIN: the other end reads to the end.
    Closed,
    /// RST: what was on its way is lost.
    Reset,
}

/// The proxy. It ends when it is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    _accepting: JoinSet<()>,
}

impl Proxy {
    /// Listens, and leads everything to this address.
    pub(crate) async fn to(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen")?;
        let address = listener.local_addr().context("the proxy's address")?;
        let weather = watch::Sender::new(Weather::Fair);
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, target, weather.clone()));
        Ok(Self { address, weather, _accepting: accepting })
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the weather, for what is connected too.
    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, weather: watch::Sender<Weather>) {
    let mut carried = JoinSet::new();
    // A failed accept is the machine's trouble, and the next one may work.
    while let Ok((near, _)) = listener.accept().await {
        while carried.try_join_next().is_some() {}
        if matches!(*weather.borrow(), Weather::Down(_)) {
            continue;
        }
        let weather = weather.subscribe();
        carried.spawn(async move {
            if let Ok(far) = TcpStream::connect(target).await {
                carry(near, far, weather).await;
            }
        });
    }
}

async fn carry(near: TcpStream, far: TcpStream, mut weather: watch::Receiver<Weather>) {
    let (near, far) = (Arc::new(near), Arc::new(far));
    let _nodelay = near.set_nodelay(true).and_then(|()| far.set_nodelay(true));
    let ended = {
        let up = one_way(&near, &far, weather.clone());
        let down = one_way(&far, &near, weather.clone());
        tokio::select! {
            // Either side that ends ends both.
            () = up => Ending::Closed,
            () = down => Ending::Closed,
            // The weather ends them.
            ending = down_comes(&mut weather) => ending,
        }
    };
    if ended == Ending::Reset {
        for side in [&near, &far] {
            // Where it cannot be set, the connection is closed in an orderly way, which is a fault too.
            let _ = side.set_zero_linger();
        }
    }
}

async fn down_comes(weather: &mut watch::Receiver<Weather>) -> Ending {
    match weather.wait_for(|w| matches!(w, Weather::Down(_))).await.map(|w| *w) {
        Ok(Weather::Down(ending)) => ending,
        _ => Ending::Closed,
    }
}

async fn one_way(from: &TcpStream, to: &TcpStream, mut weather: watch::Receiver<Weather>) {
    let mut buffer = vec![0; PIECE];
    loop {
        if from.readable().await.is_err() {
            return;
        }
        if weather.wait_for(|w| *w != Weather::Stalled).await.is_err() {
            return;
        }
        let read = match from.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => return,
        };
        let now = *weather.borrow();
        if let Weather::Slow(by) = now {
            tokio::time::sleep(by).await;
        }
        if weather.wait_for(|w| *w != Weather::Stalled).await.is_err() {
            return;
        }
        if write_all(to, &buffer[..read]).await.is_err() {
            return;
        }
    }
}

async fn write_all(to: &TcpStream, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
