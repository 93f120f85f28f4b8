//! How a client knows its collector: the chain that it shows must end at the authority whose digest is pinned, and the
//! certificate must be of the collector's one name.
//!
//! A node whose clock is wrong by years still has evidence to give. So when its own time makes the certificate invalid, the
//! time counts at which the collector is known to have been right: when it issued the node's own certificate.

use std::sync::Arc;

use casefile_proto::item::Digest;
use casefile_proto::time::WallTime;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use sha2::{Digest as _, Sha256};

use crate::token::Pin;

/// Decides whom to believe; that he holds the key of what he shows is checked by [`Signed`].
pub(crate) trait Believes: std::fmt::Debug + Send + Sync {
    /// Whether TLS 1.2 may be spoken with him.
    const TLS_1_2: bool;

    /// Whether he who shows this chain is believed.
    fn believes(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
        provider: &Arc<CryptoProvider>,
    ) -> Result<ServerCertVerified, Error>;
}

/// Checks that a handshake is signed with the key of the certificate that was shown, whoever is believed.
#[derive(Debug)]
pub(crate) struct Signed<B> {
    pub(crate) believes: B,
    pub(crate) provider: Arc<CryptoProvider>,
}

impl<B: Believes> ServerCertVerifier for Signed<B> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.believes.believes(end_entity, intermediates, server_name, ocsp_response, now, &self.provider)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if !B::TLS_1_2 {
            return Err(Error::PeerIncompatible(rustls::PeerIncompatible::ServerDoesNotSupportTls12Or13));
        }
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Believes one authority.
#[derive(Debug)]
pub(crate) struct Pinned {
    pin: Pin,
    /// When the collector's time was known last; `None`: never yet.
    known: Option<WallTime>,
}

impl Pinned {
    pub(crate) fn verifier(pin: Pin, known: Option<WallTime>, provider: Arc<CryptoProvider>) -> Signed<Self> {
        Signed { believes: Self { pin, known }, provider }
    }
}

impl Believes for Pinned {
    /// No connection to a collector is made over it.
    const TLS_1_2: bool = false;

    fn believes(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
        provider: &Arc<CryptoProvider>,
    ) -> Result<ServerCertVerified, Error> {
        let pinned = |c: &&CertificateDer<'_>| Digest(Sha256::digest(c).into()) == self.pin.0;
        // Not what it shows as its own: an authority answers nobody itself.
        let authority =
            intermediates.iter().find(pinned).ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(provider))
            .build()
            .map_err(|_| Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let verify = |now| verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now);
        match (verify(now), self.known) {
            (Err(Error::InvalidCertificate(error)), Some(known)) if is_of_time(&error) => {
                let secs = u64::try_from(known.nanos() / 1_000_000_000).unwrap_or(0);
                verify(UnixTime::since_unix_epoch(std::time::Duration::from_secs(secs)))
            }
            (verified, _) => verified,
        }
    }
}

const fn is_of_time(error: &CertificateError) -> bool {
    matches!(
        error,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
    )
}
