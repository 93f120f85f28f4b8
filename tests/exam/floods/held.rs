//! Connections that are opened and held: silent, silent behind TLS, and with a byte a second.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use casefile_identity::COLLECTOR;
use casefile_identity::dial::{Me, client};
use casefile_identity::token::Token;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::http2::PREFACE;
use crate::dial::Door;
use crate::machine;
use crate::report::Findings;

/// A way to be there.
pub(super) struct Way {
    /// Its name in the report.
    pub(super) name: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Silent,
    SilentBehindTls,
    AByteASecond,
}

/// Not a word.
pub(super) const SILENT: Way = Way { name: "silent connections", kind: Kind::Silent };

/// All ways.
pub(super) const ALL: &[Way] = &[
    SILENT,
    Way { name: "silent behind TLS", kind: Kind::SilentBehindTls },
    Way { name: "a byte a second", kind: Kind::AByteASecond },
];

/// Connections that are being made at a time.
const DIALLING: usize = 128;

/// One that cannot be made within this is not made: the collector had no room for it.
const CONNECT: Duration = Duration::from_secs(5);

/// Connections from one address: far below the number of its ports.
const PER_ADDRESS: usize = 1_000;

/// How many connections this process can hold, at most as many as were asked for; said when it is fewer.
pub(super) fn most(asked: usize, findings: &mut Findings) -> usize {
    let now = usize::try_from(machine::raise_descriptors()).unwrap_or(usize::MAX);
    let most = asked.min(now.saturating_sub(200));
    findings.figure("connections held", most);
    if most < asked {
        findings.figure("fewer than asked for: descriptors of this process", now);
    }
    most
}

impl Way {
    /// Opens so many, from several addresses, and holds them until the set is dropped, or the collector closes them to make
    /// room. Returns when each has its connection, or none.
    pub(super) async fn open(&self, door: &Door, count: usize) -> Result<JoinSet<()>> {
        let owner = Token::load(&casefile_collector::data::owner_token_below(&door.data))?;
        let to = door.listen;
        let tls = TlsConnector::from(Arc::new(client(&Me::Nobody(owner.pin()))));
        let (kind, dialling) = (self.kind, Arc::new(Semaphore::new(DIALLING)));
        let mut held = JoinSet::new();
        let (opened, mut all) = tokio::sync::mpsc::channel::<()>(1);
        for number in 0..count {
            let (tls, dialling, opened) = (tls.clone(), Arc::clone(&dialling), opened.clone());
            let last = u8::try_from(number / PER_ADDRESS + 2).unwrap_or(u8::MAX);
            held.spawn(async move {
                let from = Ipv4Addr::new(127, 0, 0, last);
                let connected = {
                    let _turn = dialling.acquire().await;
                    tokio::time::timeout(CONNECT, connect(from, to)).await
                };
                let stream = match connected {
                    Ok(Ok(stream)) => stream,
                    Ok(Err(_)) | Err(_) => return,
                };
                if kind == Kind::Silent {
                    drop(opened);
                    return stay(stream, None).await;
                }
                let name = COLLECTOR.try_into();
                let Ok(name) = name else { return };
                let shaken = {
                    let _turn = dialling.acquire().await;
                    tokio::time::timeout(CONNECT, tls.connect(name, stream)).await
                };
                drop(opened);
                if let Ok(Ok(stream)) = shaken {
                    let each = (kind == Kind::AByteASecond).then(|| Duration::from_secs(1));
                    stay(stream, each).await;
                }
            });
        }
        drop(opened);
        // Each has its connection, or none.
        let waited = tokio::time::timeout(Duration::from_secs(120), all.recv()).await;
        waited.context("connections were not opened in time")?;
        Ok(held)
    }
}

async fn connect(from: Ipv4Addr, to: SocketAddr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    Ok(socket.connect(to).await?)
}

/// Holds it until the other end closes it.
async fn stay(mut stream: impl AsyncRead + AsyncWrite + Unpin, each: Option<Duration>) {
    let mut ticks = each.map(tokio::time::interval);
    let (mut buffer, mut preface) = ([0; 256], PREFACE.iter());
    loop {
        let tick = async {
            match &mut ticks {
                Some(ticks) => drop(ticks.tick().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Something came, which is thrown away, or it is over.
            read = stream.read(&mut buffer) => match read {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            },
            // Another byte of the preface.
            () = tick => {
                let Some(byte) = preface.next() else { continue };
                if stream.write_all(&[*byte]).await.is_err() {
                    return;
                }
            }
        }
    }
}
