//! HTTP/2 frames by hand (RFC 9113), over TLS: what no library would send.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use casefile_identity::COLLECTOR;
use casefile_identity::dial::{Me, client};
use casefile_tests::now;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::dial::Door;

/// What a client says first.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Kinds of frames.
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

/// Flags.
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// One connection; what comes back is read and thrown away.
pub(super) struct Http2 {
    to: WriteHalf<TlsStream<TcpStream>>,
    _reading: JoinSet<()>,
}

impl Http2 {
    /// Through TLS with this identity, and the preface said.
    pub(super) async fn connect(at: SocketAddr, me: &Me) -> Result<Self> {
        let stream = TcpStream::connect(at).await.context("connect")?;
        let tls = TlsConnector::from(Arc::new(client(me)));
        let (from, mut to) = tokio::io::split(tls.connect(COLLECTOR.try_into()?, stream).await.context("TLS")?);
        to.write_all(PREFACE).await?;
        to.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
        let mut reading = JoinSet::new();
        reading.spawn(ignore(from));
        Ok(Self { to, _reading: reading })
    }

    /// Sends bytes. An error: the other end has had enough.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(tokio::time::timeout(SEND, self.to.write_all(bytes)).await??)
    }
}

/// A collector that does not read for this long has stopped this connection, which is as good as the end.
const SEND: Duration = Duration::from_secs(2);

async fn ignore(mut from: ReadHalf<TlsStream<TcpStream>>) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(1..) = from.read(&mut buffer).await {}
}

/// One frame.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    let mut out = vec![length[1], length[2], length[3], kind, flags];
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// The headers of a call, as literals that are not kept (RFC 7541 §6.2.2).
pub(super) fn headers(path: &str) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", COLLECTOR),
        (":path", path),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ] {
        literal(&mut block, name, value);
    }
    block
}

/// A header as a literal.
pub(super) fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        length(block, text.len());
        block.extend(text.as_bytes());
    }
}

/// An integer with a prefix of seven bits (RFC 7541 §5.1).
fn length(block: &mut Vec<u8>, length: usize) {
    let byte = |value: usize| u8::try_from(value).unwrap_or(u8::MAX);
    if length < 127 {
        return block.push(byte(length));
    }
    block.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        block.push(byte(rest % 128 + 128));
        rest /= 128;
    }
    block.push(byte(rest));
}

/// An agent's identity for one attacker.
pub(super) fn agent(door: &Door, number: usize) -> Result<Me> {
    let node = format!("flood-{number}").parse()?;
    Ok(Me::Agent(door.authority()?.agent(&node, now(), Duration::from_hours(1))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_frames_are_as_the_documents_have_them() {
        let said = |n| {
            let mut block = Vec::new();
            length(&mut block, n);
            block
        };
        assert_eq!((said(10), said(127), said(1_337)), (vec![10], vec![127, 0], vec![127, 0xba, 9]));
        assert_eq!(frame(PING, 0, 1, &[7; 2]), [0, 0, 2, 6, 0, 0, 0, 0, 1, 7, 7]);
    }
}
