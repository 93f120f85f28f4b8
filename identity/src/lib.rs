//! What proves who one is: tokens, certificates, and the pinned TLS connection to a collector.
//!
//! Every connection of ours is TLS 1.3 to a collector whose authority is pinned by digest: a token brings the digest along, so
//! that a stranger in between is not believed even the first time. Agents show a certificate, people a token. Who may do
//! what with it, and what is kept of tokens, is the collector's business. The one connection to somebody else is that of
//! `stranger`, which looks at what a server shows and tells it secrets of nobody.

#[cfg(feature = "authority")]
pub mod authority;
pub mod certificate;
pub mod dial;
pub mod file;
pub mod foreign;
mod pinned;
#[cfg(feature = "authority")]
pub mod serve;
#[cfg(feature = "stranger")]
pub mod stranger;
pub mod token;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// The name that a collector's certificate is of, whatever address it is reached at: the authority is pinned, and issues
/// no certificate of this name to anybody else.
pub const COLLECTOR: &str = "casefile-collector";

/// What HTTP/2 is called in the TLS handshake (RFC 9113 §3.2).
const H2: &[u8] = b"h2";

/// The one provider of cryptography, named where it is used: nothing of ours depends on a global default.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Makes it the default as well, for a client of somebody else's making that takes nothing else: that of the archive store.
pub fn provide_for_others() {
    // Taken already: by us, there is no other in this program.
    let _taken = rustls::crypto::ring::default_provider().install_default();
}

/// Random bytes that nobody can guess; from the kernel itself, so that they are to be had also when no file can be opened.
pub fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(more) => filled += more,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(bytes)
}
