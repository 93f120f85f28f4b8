//! The way to a collector: a channel over TLS 1.3 to whoever holds the pinned authority, whatever its address is called.

use std::fmt;
use std::future::Future;
use std::pin::Pin as Boxed;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::certificate::Certificate;
use crate::foreign::ForeignToken;
use crate::pinned::Pinned;
use crate::token::{Pin, Token};

/// A collector that does not answer a connection within this is tried again.
const CONNECT: Duration = Duration::from_secs(5);

/// Where a collector is: `https://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    shown: String,
    authority: String,
}

/// A text is no address of a collector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAddress {
    /// It asks for a connection that anybody could listen to, or answer.
    #[error("begins with http://, and a collector speaks only TLS: say https://HOST:PORT")]
    Plain,
    /// It is something else.
    #[error("is no https://HOST:PORT, such as https://casefile.example.org:7443")]
    Malformed,
}

impl std::str::FromStr for Address {
    type Err = NoAddress;
    fn from_str(text: &str) -> Result<Self, NoAddress> {
        if text.starts_with("http://") {
            return Err(NoAddress::Plain);
        }
        let authority = text.strip_prefix("https://").unwrap_or(text);
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let (host, port) = authority.rsplit_once(':').ok_or(NoAddress::Malformed)?;
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
        // A colon only within brackets: else it is a second port.
        let one = bare.len() != host.len() || !host.contains(':');
        let fits = port.parse::<u16>().is_ok_and(|p| p != 0) && !bare.is_empty() && bare.chars().all(plain) && one;
        if !fits {
            return Err(NoAddress::Malformed);
        }
        Ok(Self { shown: format!("https://{authority}"), authority: authority.to_owned() })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Whom to believe, and what to show.
#[derive(Debug, Clone)]
pub enum Me {
    /// Nothing is shown: a token says who this is, or nothing does.
    Nobody(Pin),
    /// An agent.
    Agent(Certificate),
}

/// Connects. `tune` sets what a client wants of HTTP/2.
pub async fn dial(
    to: &Address,
    me: &Me,
    tune: impl FnOnce(Endpoint) -> Endpoint,
) -> Result<Channel, tonic::transport::Error> {
    let (endpoint, connector) = way(to, me, tune)?;
    endpoint.connect_with_connector(connector).await
}

/// The same, connecting when there is something to be said for the first time, and again after the connection was lost.
pub fn dial_when_needed(
    to: &Address,
    me: &Me,
    tune: impl FnOnce(Endpoint) -> Endpoint,
) -> Result<Channel, tonic::transport::Error> {
    let (endpoint, connector) = way(to, me, tune)?;
    Ok(endpoint.connect_with_connector_lazy(connector))
}

fn way(
    to: &Address,
    me: &Me,
    tune: impl FnOnce(Endpoint) -> Endpoint,
) -> Result<(Endpoint, Connector), tonic::transport::Error> {
    // TLS is done below: what HTTP/2 is told of the address is only its authority.
    let endpoint = Endpoint::from_shared(format!("http://{}", to.authority))?;
    let connector = Connector { tls: TlsConnector::from(Arc::new(client(me))), to: to.authority.clone() };
    Ok((tune(endpoint.connect_timeout(CONNECT).tcp_nodelay(true)), connector))
}

/// A channel on which every call says whose it is.
pub type Api = InterceptedService<Channel, Bearer>;

/// Connects, and shows this token with every call.
pub async fn dial_as(
    to: &Address,
    token: &Token,
    tune: impl FnOnce(Endpoint) -> Endpoint,
) -> Result<Api, tonic::transport::Error> {
    let channel = dial(to, &Me::Nobody(token.pin()), tune).await?;
    Ok(InterceptedService::new(channel, Bearer::new(&token.reveal())))
}

/// The same with a token that a cluster issued, to the collector that this pin names: such a token names none.
pub async fn dial_as_foreign(
    to: &Address,
    pin: Pin,
    token: &ForeignToken,
    tune: impl FnOnce(Endpoint) -> Endpoint,
) -> Result<Api, tonic::transport::Error> {
    let channel = dial(to, &Me::Nobody(pin), tune).await?;
    Ok(InterceptedService::new(channel, Bearer::new(token.reveal())))
}

/// What TLS has against a connection: which end is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disbelief {
    /// The collector has another authority than the one that is pinned.
    OtherAuthority,
    /// The collector does not take our certificate: it has ended, or is of another authority.
    OurCertificate,
}

/// Whether a connection failed because one end does not believe the other, and which.
pub fn disbelief(error: &(dyn std::error::Error + 'static)) -> Option<Disbelief> {
    use rustls::{AlertDescription as Alert, CertificateError, Error as Tls};
    let mut next = Some(error);
    while let Some(error) = next {
        // What an I/O error was made from is not what it gives as its source.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = inner.and_then(|e| e.downcast_ref::<Tls>()).or_else(|| error.downcast_ref());
        match tls {
            Some(Tls::InvalidCertificate(CertificateError::UnknownIssuer)) => return Some(Disbelief::OtherAuthority),
            Some(Tls::AlertReceived(
                Alert::BadCertificate
                | Alert::CertificateExpired
                | Alert::CertificateRevoked
                | Alert::CertificateUnknown
                | Alert::DecryptError
                | Alert::UnknownCA
                | Alert::AccessDenied,
            )) => return Some(Disbelief::OurCertificate),
            _ => {}
        }
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// Shows a token with every call.
#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Bearer {
    fn new(token: &str) -> Self {
        let mut value = MetadataValue::try_from(format!("Bearer {token}"))
            .unwrap_or_else(|_| unreachable!("a token is visible ASCII"));
        // Kept out of logs, and out of tables that HTTP/2 compresses headers with.
        value.set_sensitive(true);
        Self(value)
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// The configuration of a client's TLS.
pub fn client(me: &Me) -> ClientConfig {
    let provider = crate::provider();
    let (pin, known) = match me {
        Me::Nobody(pin) => (*pin, None),
        Me::Agent(certificate) => (certificate.pin(), Some(certificate.issued())),
    };
    let verifier = Arc::new(Pinned::verifier(pin, known, Arc::clone(&provider)));
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap_or_else(|_| unreachable!("the provider has TLS 1.3"))
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match me {
        Me::Nobody(_) => builder.with_no_client_auth(),
        Me::Agent(certificate) => builder.with_client_cert_resolver(certificate.shown()),
    };
    config.alpn_protocols = vec![crate::H2.to_vec()];
    // A session that is resumed does not show its certificate again, however old it is by then.
    config.resumption = Resumption::disabled();
    config
}

#[derive(Clone)]
struct Connector {
    tls: TlsConnector,
    to: String,
}

type Io = TokioIo<TlsStream<TcpStream>>;

impl tower_service::Service<tonic::codegen::http::Uri> for Connector {
    type Response = Io;
    type Error = std::io::Error;
    type Future = Boxed<Box<dyn Future<Output = Result<Io, std::io::Error>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: tonic::codegen::http::Uri) -> Self::Future {
        let Self { tls, to } = self.clone();
        Box::pin(async move {
            let stream = TcpStream::connect(to).await?;
            // An error only delays small messages.
            let _ = stream.set_nodelay(true);
            Ok(TokioIo::new(tls.connect(name(), stream).await?))
        })
    }
}

/// The one name that a collector's certificate is of.
fn name() -> ServerName<'static> {
    ServerName::try_from(crate::COLLECTOR).unwrap_or_else(|_| unreachable!("it is a DNS name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port_over_tls() {
        for (text, shown) in [
            ("https://127.0.0.1:7443", "https://127.0.0.1:7443"),
            ("https://casefile.example.org:7443/", "https://casefile.example.org:7443"),
            ("[::1]:7443", "https://[::1]:7443"),
            ("host-1:1", "https://host-1:1"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown);
        }
        assert_eq!("http://127.0.0.1:7443".parse::<Address>(), Err(NoAddress::Plain));
        for bad in
            ["", "https://", "host", "host:0", "host:99999", "::1:7443", "user@host:1", "https://host:1/x", "a b:1"]
        {
            assert_eq!(bad.parse::<Address>(), Err(NoAddress::Malformed), "{bad:?}");
        }
    }
}
