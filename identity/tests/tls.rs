//! Who is believed over TLS, and who is not: both ends as the programs set them up, over a pipe in memory.

#![cfg(feature = "authority")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::sync::Arc;
use std::time::Duration;

use casefile_identity::authority::{Authority, Holder, holder};
use casefile_identity::certificate::Certificate;
use casefile_identity::dial::{Me, client};
use casefile_identity::serve::{Shown, server};
use casefile_identity::{COLLECTOR, token};
use casefile_proto::time::WallTime;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

fn now() -> WallTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    WallTime::from_secs(0).after(since)
}

/// An authority in a directory of its own.
struct Home {
    dir: tempfile::TempDir,
    authority: Authority,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::load_or_make(dir.path(), now()).unwrap();
        Self { dir, authority }
    }

    fn agent(&self, node: &str) -> Certificate {
        self.authority.agent(&node.parse().unwrap(), now(), Duration::from_hours(1)).unwrap()
    }

    fn server(&self) -> ServerConfig {
        server(&self.authority, Shown::new(self.authority.server(now()).unwrap()))
    }
}

/// Both ends shake hands and say a word: whose certificate the server saw, or who refused first and why.
async fn meet(client: ClientConfig, server: ServerConfig) -> Result<Option<Holder>, String> {
    let (near, far) = tokio::io::duplex(64 << 10);
    let serving = tokio::spawn(async move {
        let mut stream = TlsAcceptor::from(Arc::new(server)).accept(far).await.map_err(|e| format!("server: {e}"))?;
        let seen = stream.get_ref().1.peer_certificates().and_then(|chain| holder(&chain[0]));
        let mut word = [0; 2];
        stream.read_exact(&mut word).await.map_err(|e| format!("server: {e}"))?;
        stream.write_all(b"ok").await.map_err(|e| format!("server: {e}"))?;
        stream.shutdown().await.map_err(|e| format!("server: {e}"))?;
        Ok::<_, String>(seen)
    });
    let name = COLLECTOR.try_into().unwrap();
    let near = async {
        let mut stream = TlsConnector::from(Arc::new(client)).connect(name, near).await?;
        stream.write_all(b"hi").await?;
        let mut word = [0; 2];
        stream.read_exact(&mut word).await.map(drop)
    };
    let (near, far) = tokio::join!(near, serving);
    match (near, far.unwrap()) {
        (Ok(()), Ok(seen)) => Ok(seen),
        (_, Err(server)) => Err(server),
        (Err(client), Ok(_)) => Err(format!("client: {client}")),
    }
}

#[tokio::test]
async fn an_agent_and_its_collector_believe_each_other_and_a_person_shows_nothing() {
    let home = Home::new();
    let seen = meet(client(&Me::Agent(home.agent("web-1"))), home.server()).await.unwrap();
    assert_eq!(seen.unwrap().node.as_str(), "web-1");
    assert_eq!(meet(client(&Me::Nobody(home.authority.pin())), home.server()).await, Ok(None));
}

#[tokio::test]
async fn a_collector_of_another_authority_is_not_believed() {
    let (home, other) = (Home::new(), Home::new());
    for me in [Me::Agent(home.agent("n")), Me::Nobody(home.authority.pin())] {
        let refused = meet(client(&me), other.server()).await.unwrap_err();
        assert!(refused.contains("UnknownCA") || refused.contains("UnknownIssuer"), "{refused}");
    }
}

#[tokio::test]
async fn an_agent_of_another_authority_is_not_believed() {
    let (home, other) = (Home::new(), Home::new());
    // It knows whom to expect; its own certificate is not of that authority.
    let file = home.dir.path().join("mixed.json");
    other.agent("n").save(&file).unwrap();
    let text = String::from_utf8(std::fs::read(&file).unwrap()).unwrap();
    let mixed = text.replace(&other.authority.pin().to_string(), &home.authority.pin().to_string());
    std::fs::write(&file, mixed).unwrap();
    let me = Me::Agent(Certificate::load(&file).unwrap().unwrap());
    let refused = meet(client(&me), home.server()).await.unwrap_err();
    // The two authorities have one name, and not one key.
    assert!(refused.contains("server: ") && refused.contains("BadSignature"), "{refused}");
}

#[tokio::test]
async fn a_certificate_that_has_expired_or_does_not_count_yet_is_refused() {
    let home = Home::new();
    let hour = Duration::from_hours(1);
    for (issued, word) in [(now().before(2 * hour), "expired"), (now().after(hour), "not valid yet")] {
        let certificate = home.authority.agent(&"n".parse().unwrap(), issued, hour).unwrap();
        let refused = meet(client(&Me::Agent(certificate)), home.server()).await.unwrap_err();
        assert!(refused.contains("server: ") && refused.contains(word), "{refused}");
    }
}

#[tokio::test]
async fn an_agent_cannot_pass_for_the_collector() {
    let home = Home::new();
    // What an agent has on its disk, shown as a server shows it.
    let file = home.dir.path().join("identity.json");
    home.agent("web-1").save(&file).unwrap();
    let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let chain = CertificateDer::pem_slice_iter(kept["chain"].as_str().unwrap().as_bytes()).collect::<Result<_, _>>();
    let key = PrivateKeyDer::from_pem_slice(kept["key"].as_str().unwrap().as_bytes()).unwrap();
    let provider = rustls::crypto::ring::default_provider();
    let stolen = Arc::new(CertifiedKey::from_der(chain.unwrap(), key, &provider).unwrap());
    let impostor = server(&home.authority, Shown::new(stolen));
    let refused = meet(client(&Me::Agent(home.agent("victim"))), impostor).await.unwrap_err();
    assert!(refused.contains("UnsupportedCertificate") || refused.contains("BadCertificate"), "{refused}");
}

#[tokio::test]
async fn the_collectors_own_certificate_is_of_no_use_to_a_client() {
    let home = Home::new();
    let own = home.authority.server(now()).unwrap();
    let mut config = client(&Me::Nobody(home.authority.pin()));
    config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(own));
    let refused = meet(config, home.server()).await.unwrap_err();
    assert!(refused.contains("server: "), "{refused}");
}

#[derive(Debug)]
struct At(u64);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0)))
    }
}

#[tokio::test]
async fn a_node_whose_clock_is_wrong_by_decades_still_reaches_its_collector_and_no_other() {
    let (home, other) = (Home::new(), Home::new());
    for wrong in [0, 4_000_000_000] {
        let mut config = client(&Me::Agent(home.agent("n")));
        config.time_provider = Arc::new(At(wrong));
        assert!(meet(config.clone(), home.server()).await.is_ok(), "at {wrong}");
        assert!(meet(config, other.server()).await.is_err(), "at {wrong}");
        // Who has never met it has no better time than its own.
        let mut config = client(&Me::Nobody(home.authority.pin()));
        config.time_provider = Arc::new(At(wrong));
        assert!(meet(config, home.server()).await.is_err(), "at {wrong}");
    }
}

#[test]
fn a_certificate_comes_back_from_its_file_and_a_file_that_is_none_is_not_quoted() {
    let home = Home::new();
    let file = home.dir.path().join("identity.json");
    assert!(Certificate::load(&file).unwrap().is_none());
    let token = token::Token::new(token::Kind::Join, home.authority.pin()).unwrap();
    let made = home.agent("n").with_token(Some(token.digest()));
    made.save(&file).unwrap();
    let back = Certificate::load(&file).unwrap().unwrap();
    assert_eq!((back.node(), back.pin(), back.joined_with()), (made.node(), made.pin(), Some(token.digest())));
    assert_eq!((back.issued(), back.expires()), (made.issued(), made.expires()));
    assert_eq!(back.renew_after(), Duration::from_mins(40));
    assert!(!format!("{back:?}").contains("PRIVATE"));
    let good = std::fs::read(&file).unwrap();
    for cut in (0..good.len() - 1).step_by(7) {
        std::fs::write(&file, &good[..cut]).unwrap();
        let refused = Certificate::load(&file).unwrap_err().to_string();
        assert!(refused.contains("holds no certificate") && !refused.contains("PRIVATE"), "{refused}");
    }
}

#[test]
fn an_authority_is_made_once_and_a_file_that_is_none_is_refused_and_not_replaced() {
    let home = Home::new();
    let again = Authority::load_or_make(home.dir.path(), now()).unwrap();
    assert_eq!(again.pin(), home.authority.pin());
    let key = home.dir.path().join("authority.key");
    // Another key than the certificate's is a mix-up, not an authority.
    let other = Home::new();
    std::fs::copy(other.dir.path().join("authority.key"), &key).unwrap();
    assert!(Authority::load_or_make(home.dir.path(), now()).is_err());
    std::fs::write(&key, "root:$6$secret").unwrap();
    let refused = Authority::load_or_make(home.dir.path(), now()).map(drop).unwrap_err().to_string();
    assert!(refused.contains("holds no key") && !refused.contains("secret"), "{refused}");
    assert_eq!(std::fs::read(&key).unwrap(), b"root:$6$secret");
}
