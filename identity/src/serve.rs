//! The collector's end of TLS: its own certificate, which can be replaced while it serves, and what it takes from clients:
//! a certificate of its authority, or none. One that is wrong in any way ends the handshake.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{RootCertStore, ServerConfig};

use crate::authority::Authority;

/// The collector's own certificate, shown to whoever connects from now on.
#[derive(Debug)]
pub struct Shown(RwLock<Arc<CertifiedKey>>);

impl Shown {
    /// This one.
    pub fn new(certificate: Arc<CertifiedKey>) -> Arc<Self> {
        Arc::new(Self(RwLock::new(certificate)))
    }

    /// From now on that one. Connections that stand go on.
    pub fn replace(&self, certificate: Arc<CertifiedKey>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = certificate;
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// The configuration of TLS in front of HTTP/1.1: the same certificate is shown, and none is asked for.
pub fn http(shown: Arc<Shown>) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(crate::provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap_or_else(|_| unreachable!("the provider has TLS 1.3"))
        .with_no_client_auth()
        .with_cert_resolver(shown);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// The configuration of the collector's TLS.
pub fn server(authority: &Authority, shown: Arc<Shown>) -> ServerConfig {
    let provider = crate::provider();
    let mut roots = RootCertStore::empty();
    roots
        .add(authority.certificate().clone())
        .unwrap_or_else(|_| unreachable!("the authority's certificate was read before"));
    let clients: Arc<dyn ClientCertVerifier> =
        WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .unwrap_or_else(|_| unreachable!("there is a root"));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap_or_else(|_| unreachable!("the provider has TLS 1.3"))
        .with_client_cert_verifier(clients)
        .with_cert_resolver(shown);
    config.alpn_protocols = vec![crate::H2.to_vec()];
    // A session that is resumed would not show its certificate again, however old it is by then.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config
}
