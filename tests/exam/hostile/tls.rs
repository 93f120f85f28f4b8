//! What comes instead of a good handshake: no TLS at all, half of it, an old one, and certificates that prove nothing.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use casefile_identity::COLLECTOR;
use casefile_identity::dial::{Me, client};
use rcgen::ExtendedKeyUsagePurpose;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;

use super::case::{Answer, Case, PATIENCE, Variant};
use super::certificates::{Wish, self_signed, showing};
use crate::random::Random;

/// What HTTP/2 begins with, and empty settings behind it.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

pub(super) const ALL: &[Variant] = &[
    Variant { name: "plain HTTP/2", tried: |c| Box::pin(async move { bytes(&c, PREFACE).await }) },
    Variant {
        name: "plain HTTP/1.1",
        tried: |c| Box::pin(async move { bytes(&c, b"GET / HTTP/1.1\r\nHost: collector\r\n\r\n").await }),
    },
    Variant {
        name: "noise instead of TLS",
        tried: |c| {
            Box::pin(async move {
                let mut random = Random::new(c.round << 16 | c.number as u64);
                let noise: Vec<u8> = (0..512).flat_map(|_| random.next().to_le_bytes()).collect();
                bytes(&c, &noise).await
            })
        },
    },
    Variant { name: "nothing at all", tried: |c| Box::pin(async move { bytes(&c, &[]).await }) },
    Variant { name: "an alert first", tried: |c| Box::pin(async move { bytes(&c, &[21, 3, 3, 0, 2, 2, 40]).await }) },
    Variant {
        name: "half a ClientHello, held",
        tried: |c| {
            Box::pin(async move {
                let hello = client_hello(&[3, 4]);
                bytes(&c, hello.get(..hello.len() / 2).unwrap_or_default()).await
            })
        },
    },
    Variant {
        name: "a TLS record longer than TLS has",
        tried: |c| {
            Box::pin(async move {
                let mut record = vec![22, 3, 1, 0xff, 0xff];
                record.resize(70_000, 1);
                bytes(&c, &record).await
            })
        },
    },
    Variant {
        name: "a ClientHello of 16 MiB",
        tried: |c| {
            Box::pin(async move {
                let mut sent = Vec::new();
                for part in 0..8 {
                    sent.extend([22, 3, 1, 0x40, 0]);
                    let mut body = vec![0u8; 0x4000];
                    if part == 0 {
                        body[..4].copy_from_slice(&[1, 0xff, 0xff, 0xff]);
                    }
                    sent.extend(body);
                }
                bytes(&c, &sent).await
            })
        },
    },
    Variant {
        name: "a ClientHello of TLS 1.2 only",
        tried: |c| Box::pin(async move { bytes(&c, &client_hello(&[])).await }),
    },
    Variant { name: "TLS 1.1 offered", tried: |c| Box::pin(async move { bytes(&c, &client_hello(&[3, 2])).await }) },
    Variant { name: "no ALPN", tried: |c| Box::pin(async move { alpn(&c, &[]).await }) },
    Variant { name: "ALPN http/1.1", tried: |c| Box::pin(async move { alpn(&c, &[b"http/1.1"]).await }) },
    Variant { name: "ALPN of no protocol", tried: |c| Box::pin(async move { alpn(&c, &[b"casefile"]).await }) },
    Variant {
        name: "a certificate of another authority",
        tried: |c| {
            Box::pin(async move {
                let shown = c.site.other.sign(&Wish::of(c.node()?.as_str()))?;
                handshake(&c, showing(c.site.pin, shown)).await
            })
        },
    },
    Variant {
        name: "a certificate signed by itself",
        tried: |c| {
            Box::pin(async move {
                let shown = self_signed(&Wish::of(c.node()?.as_str()))?;
                handshake(&c, showing(c.site.pin, shown)).await
            })
        },
    },
    Variant {
        name: "a certificate that has expired",
        tried: |c| Box::pin(async move { wished(&c, |wish| wish.counts = (-7_200, -60)).await }),
    },
    Variant {
        name: "a certificate that does not count yet",
        tried: |c| Box::pin(async move { wished(&c, |wish| wish.counts = (3_600, 7_200)).await }),
    },
    Variant {
        name: "a certificate for servers",
        tried: |c| Box::pin(async move { wished(&c, |wish| wish.usage = ExtendedKeyUsagePurpose::ServerAuth).await }),
    },
    Variant {
        name: "a certificate without a node's name",
        tried: |c| Box::pin(async move { wished(&c, |wish| wish.uris.clear()).await }),
    },
    Variant {
        name: "a certificate of two nodes",
        tried: |c| {
            Box::pin(
                async move { wished(&c, |wish| wish.uris.push("spiffe://casefile/node/another".to_owned())).await },
            )
        },
    },
    Variant {
        name: "a certificate with a DNS name beside the node's",
        tried: |c| Box::pin(async move { wished(&c, |wish| wish.names.push(COLLECTOR.to_owned())).await }),
    },
    Variant {
        name: "a certificate of a node named ../..",
        tried: |c| {
            Box::pin(
                async move { wished(&c, |wish| wish.uris = vec!["spiffe://casefile/node/../..".to_owned()]).await },
            )
        },
    },
    Variant {
        name: "a certificate of another domain",
        tried: |c| {
            Box::pin(async move { wished(&c, |wish| wish.uris = vec!["spiffe://elsewhere/node/a".to_owned()]).await })
        },
    },
    Variant {
        name: "the collector's own certificate",
        tried: |c| {
            Box::pin(async move {
                let own = c.site.authority.server(casefile_tests::now())?;
                handshake(&c, showing(c.site.pin, own)).await
            })
        },
    },
    Variant {
        name: "a certificate that an agent's certificate signed",
        tried: |c| {
            Box::pin(async move {
                let shown = c.site.signer.sign_below(&Wish::of(c.node()?.as_str()), &Wish::of(c.victim()?.as_str()))?;
                handshake(&c, showing(c.site.pin, shown)).await
            })
        },
    },
];

/// Says these bytes to the port, and looks what comes back: nothing but an alert may, and soon the end.
async fn bytes(case: &Case, said: &[u8]) -> Result<Answer> {
    let mut stream = TcpStream::connect(case.site.at).await.context("connect")?;
    // It may be closed before all of it is written.
    let _ = timeout(PATIENCE, stream.write_all(said)).await;
    let mut back = Vec::new();
    let read = timeout(PATIENCE, (&mut stream).take(1 << 16).read_to_end(&mut back)).await;
    Ok(match (read, back.as_slice()) {
        (Err(_), _) => Answer::accepted("still open"),
        (Ok(_), []) => Answer::refused("closed"),
        (Ok(_), [21, ..]) => Answer::refused("TLS alert"),
        (Ok(_), other) => Answer::accepted(format!("answered with {} bytes", other.len())),
    })
}

async fn alpn(case: &Case, offered: &[&[u8]]) -> Result<Answer> {
    let mut config = client(&Me::Nobody(case.site.pin));
    config.alpn_protocols = offered.iter().map(|protocol| protocol.to_vec()).collect();
    handshake(case, config).await
}

/// Shows a certificate of the collector's authority with something changed.
async fn wished(case: &Case, change: impl FnOnce(&mut Wish)) -> Result<Answer> {
    let mut wish = Wish::of(case.node()?.as_str());
    change(&mut wish);
    let shown = case.site.signer.sign(&wish)?;
    handshake(case, showing(case.site.pin, shown)).await
}

/// Shakes hands and begins with HTTP/2: no byte of it may come back.
async fn handshake(case: &Case, config: ClientConfig) -> Result<Answer> {
    let stream = TcpStream::connect(case.site.at).await.context("connect")?;
    let connecting = TlsConnector::from(Arc::new(config)).connect(COLLECTOR.try_into()?, stream);
    let mut stream = match timeout(PATIENCE, connecting).await {
        Err(_) => return Ok(Answer::accepted("no end of the handshake")),
        Ok(Err(error)) => return Ok(Answer::refused(error.to_string())),
        Ok(Ok(stream)) => stream,
    };
    // It may be closed before that is written.
    let _ = stream.write_all(PREFACE).await;
    let mut back = [0; 64];
    Ok(match timeout(PATIENCE, stream.read(&mut back)).await {
        Err(_) => Answer::accepted("still open"),
        Ok(Err(error)) => Answer::refused(error.to_string()),
        Ok(Ok(0)) => Answer::refused("closed"),
        Ok(Ok(n)) => Answer::accepted(format!("{n} bytes of HTTP/2 came back")),
    })
}

/// A ClientHello by hand. Without `supported` it says nothing of versions, and so means TLS 1.2.
fn client_hello(supported: &[u8]) -> Vec<u8> {
    let extension = |kind: u16, body: &[u8]| {
        let mut out = kind.to_be_bytes().to_vec();
        out.extend(u16::try_from(body.len()).unwrap_or(0).to_be_bytes());
        out.extend(body);
        out
    };
    let name = COLLECTOR.as_bytes();
    let length = u16::try_from(name.len()).unwrap_or(0);
    let mut server_name = (length + 3).to_be_bytes().to_vec();
    server_name.push(0);
    server_name.extend(length.to_be_bytes());
    server_name.extend(name);
    let mut extensions = extension(0, &server_name);
    // Groups x25519 and P-256; signatures ECDSA and RSA-PSS with SHA-256; ALPN h2.
    extensions.extend(extension(10, &[0, 4, 0, 0x1d, 0, 0x17]));
    extensions.extend(extension(11, &[1, 0]));
    extensions.extend(extension(13, &[0, 4, 4, 3, 8, 4]));
    extensions.extend(extension(16, &[0, 3, 2, b'h', b'2']));
    if !supported.is_empty() {
        let mut list = vec![u8::try_from(supported.len()).unwrap_or(0)];
        list.extend(supported);
        extensions.extend(extension(43, &list));
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    // Suites of TLS 1.2: ECDHE with AES-GCM and ChaCha20, for ECDSA and RSA.
    body.extend([0, 8, 0xc0, 0x2b, 0xc0, 0x2f, 0xcc, 0xa9, 0xcc, 0xa8, 1, 0]);
    body.extend(u16::try_from(extensions.len()).unwrap_or(0).to_be_bytes());
    body.extend(extensions);
    let mut handshake = vec![1];
    handshake.extend(&u32::try_from(body.len()).unwrap_or(0).to_be_bytes()[1..]);
    handshake.extend(body);
    let mut record = vec![22, 3, 1];
    record.extend(u16::try_from(handshake.len()).unwrap_or(0).to_be_bytes());
    record.extend(handshake);
    record
}

/// Longer than the deadline of a handshake, or what is held open would be called accepted.
const _: () = assert!(PATIENCE.as_secs() > Duration::from_secs(5).as_secs());
