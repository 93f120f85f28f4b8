//! TLS with a server that nobody vouches for: the handshake is made with whoever answers, and what was shown is told. Nothing is
//! ever sent over it that would be worth anything to a stranger.
//!
//! "Trusted" is only said where roots were given to check against. That the server holds the key of the certificate that it
//! shows is always checked: the handshake is signed with it.

use std::io;
use std::sync::Arc;

use casefile_proto::connectivity::detail;
use casefile_proto::connectivity::steps::{Certificate, MAX_CERTIFICATES, Shown, Trust};
use casefile_proto::item::Digest;
use casefile_proto::time::WallTime;
use rustls::client::danger::ServerCertVerified;
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, CertificateError, ClientConfig, Error, InvalidMessage, RootCertStore};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
pub use tokio_rustls::client::TlsStream;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::pinned::{Believes, Signed};

/// The most roots of a file: those of a whole distribution are some hundred and fifty.
const MAX_ROOTS: usize = 1_000;

/// The most bytes of a protocol of ALPN that are told.
const MAX_ALPN: usize = 64;

/// Why a file has no roots.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// It is no PEM.
    #[error("is no PEM")]
    Pem,
    /// One of its certificates can be no root.
    #[error("certificate {0} can be no root")]
    Root(usize),
    /// There are none, or too many.
    #[error("has {0} certificates, and 1 to {MAX_ROOTS} are wanted")]
    Count(usize),
}

/// Why a handshake did not come about.
#[derive(Debug)]
pub enum Handshake {
    /// The other end sent this alert.
    Alert(String),
    /// It is not TLS that is spoken there, or not as it must be.
    Malformed(String),
    /// The certificate is none that can be used.
    Certificate(String),
    /// The connection failed.
    Io(io::Error),
    /// Something else.
    Other(String),
}

/// How strangers are greeted: cheap to clone.
#[derive(Clone)]
pub struct Strangers {
    provider: Arc<CryptoProvider>,
    roots: Option<Arc<RootCertStore>>,
}

impl Strangers {
    /// Without roots: nobody is ever trusted.
    pub fn unknown() -> Self {
        Self { provider: crate::provider(), roots: None }
    }

    /// With the roots of a PEM file.
    ///
    /// # Errors
    /// When there is something in it that is none.
    pub fn with_roots(pem: &[u8]) -> Result<Self, RootsError> {
        let mut roots = RootCertStore::empty();
        for (n, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
            let certificate = certificate.map_err(|_| RootsError::Pem)?;
            roots.add(certificate).map_err(|_| RootsError::Root(n + 1))?;
            if n >= MAX_ROOTS {
                return Err(RootsError::Count(n + 1));
            }
        }
        if roots.is_empty() {
            return Err(RootsError::Count(0));
        }
        Ok(Self { provider: crate::provider(), roots: Some(Arc::new(roots)) })
    }

    /// Makes a handshake over a connection with the host of this name or address; says what was shown, and in the last place why
    /// a client that checks would not go on: `None`, it would. Has no deadline of its own.
    ///
    /// # Errors
    /// When the handshake does not come about.
    pub async fn greet(
        &self,
        stream: TcpStream,
        host: &str,
        alpn: &[&[u8]],
        now: WallTime,
    ) -> Result<(TlsStream<TcpStream>, Shown, Option<String>), Handshake> {
        let host = host.strip_suffix('.').unwrap_or(host).to_owned();
        let name = ServerName::try_from(host).map_err(|e| Handshake::Other(e.to_string()))?;
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|e| Handshake::Other(e.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Signed {
                believes: Anybody,
                provider: Arc::clone(&self.provider),
            }))
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        // A resumed session shows no certificate.
        config.resumption = Resumption::disabled();
        let stream = TlsConnector::from(Arc::new(config)).connect(name.clone(), stream).await.map_err(failed)?;
        let (_, session) = stream.get_ref();
        let chain = session.peer_certificates().unwrap_or_default();
        let (name_fits, trust, objection) = self.judge(chain, &name, now);
        let shown = Shown {
            version: session.protocol_version().and_then(|v| v.as_str()).unwrap_or("unknown").replace('_', "."),
            alpn: session.alpn_protocol().map(|alpn| {
                let text = String::from_utf8_lossy(alpn);
                text.get(..text.floor_char_boundary(MAX_ALPN)).unwrap_or_default().to_owned()
            }),
            certificates: chain.iter().take(MAX_CERTIFICATES).map(certificate).collect(),
            name_fits,
            trust,
        };
        Ok((stream, shown, objection))
    }

    /// Whether the name fits, whether the chain is trusted, and why not to go on.
    fn judge(
        &self,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: WallTime,
    ) -> (bool, Trust, Option<String>) {
        let trust_of = |trust| if self.roots.is_none() { Trust::NotChecked } else { trust };
        let Some((own, others)) = chain.split_first() else {
            return (false, trust_of(Trust::NotTrusted), Some("no certificate was shown".to_owned()));
        };
        let Ok(parsed) = ParsedCertificate::try_from(own) else {
            let why = "the certificate cannot be read".to_owned();
            return (false, trust_of(Trust::NotTrusted), Some(why));
        };
        let fits = verify_server_name(&parsed, name).is_ok();
        let mut why = None;
        let secs = u64::try_from(now.nanos() / 1_000_000_000).unwrap_or(0);
        let mut trust = Trust::NotChecked;
        if let Some(roots) = &self.roots {
            let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(secs));
            let algorithms = self.provider.signature_verification_algorithms.all;
            match verify_server_cert_signed_by_trust_anchor(&parsed, roots, others, at, algorithms) {
                Ok(()) => trust = Trust::Trusted,
                Err(error) => {
                    trust = Trust::NotTrusted;
                    why = Some(match error {
                        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                            "not trusted: no root that the agent was given has signed it".to_owned()
                        }
                        other => format!("not trusted: {other}"),
                    });
                }
            }
        }
        if !fits {
            why = Some(format!("the certificate is not of {}", name.to_str()));
        }
        // Said in the place of what the roots say: it is what a person looks for.
        let told = certificate(own);
        if now > told.not_after {
            why = Some(format!("the certificate ended at {}, and the node's clock says {now}", told.not_after));
        } else if now < told.not_before {
            why = Some(format!("the certificate begins at {}, and the node's clock says {now}", told.not_before));
        }
        (fits, trust, why)
    }
}

/// What a certificate says of itself. One that cannot be read has its digest and nothing else.
fn certificate(der: &CertificateDer<'_>) -> Certificate {
    let sha256 = Digest(Sha256::digest(der).into());
    let at = |time: x509_parser::time::ASN1Time| WallTime::from_secs(time.timestamp());
    match X509Certificate::from_der(der) {
        Ok((_, parsed)) => Certificate {
            subject: detail(parsed.subject().to_string()),
            issuer: detail(parsed.issuer().to_string()),
            not_before: at(parsed.validity().not_before),
            not_after: at(parsed.validity().not_after),
            sha256,
        },
        // Times that leave open when it is valid: nothing is said of it.
        Err(_) => Certificate {
            subject: String::new(),
            issuer: String::new(),
            not_before: WallTime::MIN,
            not_after: WallTime::MAX,
            sha256,
        },
    }
}

fn failed(error: io::Error) -> Handshake {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    inner.map_or_else(|| Handshake::Io(io::Error::from(error.kind())), of_tls)
}

/// What a failure of TLS means; also of one that comes with the first byte that is read, as an alert of TLS 1.3 does.
pub fn of_tls(error: &Error) -> Handshake {
    match error {
        Error::AlertReceived(alert) => Handshake::Alert(alert_words(*alert)),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            Handshake::Malformed("what answers does not speak TLS".to_owned())
        }
        Error::InvalidMessage(_)
        | Error::PeerMisbehaved(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. } => Handshake::Malformed(error.to_string()),
        Error::InvalidCertificate(_) | Error::NoCertificatesPresented | Error::UnsupportedNameType => {
            Handshake::Certificate(error.to_string())
        }
        _ => Handshake::Other(error.to_string()),
    }
}

/// What a failed read or write over TLS means; `None`: it is not TLS that failed.
pub fn of_io(error: &io::Error) -> Option<Handshake> {
    error.get_ref()?.downcast_ref::<Error>().map(of_tls)
}

/// `HandshakeFailure` as `handshake failure`.
fn alert_words(alert: AlertDescription) -> String {
    let name = format!("{alert:?}");
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() && !words.ends_with(|c: char| c.is_ascii_uppercase()) {
            words.push(' ');
        }
        words.push(letter);
    }
    words.to_ascii_lowercase()
}

/// Takes every certificate as it comes: what of it is to be held against its owner is found out afterwards.
#[derive(Debug)]
struct Anybody;

impl Believes for Anybody {
    const TLS_1_2: bool = true;

    fn believes(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
        _provider: &Arc<CryptoProvider>,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_told_in_words() {
        assert_eq!(alert_words(AlertDescription::HandshakeFailure), "handshake failure");
        assert_eq!(alert_words(AlertDescription::UnknownCA), "unknown ca");
        assert_eq!(alert_words(AlertDescription::NoApplicationProtocol), "no application protocol");
    }

    #[test]
    fn a_file_without_roots_is_refused() {
        assert!(matches!(Strangers::with_roots(b""), Err(RootsError::Count(0))));
        let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(Strangers::with_roots(broken), Err(RootsError::Root(1))));
        let torn = b"-----BEGIN CERTIFICATE-----\nAAAA\n";
        assert!(Strangers::with_roots(torn).is_err());
    }

    #[test]
    fn a_certificate_that_cannot_be_read_is_told_by_its_digest_alone() {
        let told = certificate(&CertificateDer::from(vec![0x30, 0x82]));
        assert_eq!((told.subject.as_str(), told.not_before), ("", WallTime::MIN));
        assert_eq!(told.sha256, Digest(Sha256::digest([0x30, 0x82]).into()));
    }
}
