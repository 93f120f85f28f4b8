//! Certificates that the collector would never issue, made by hand: with its own key, with another's, with nobody's.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use casefile_identity::dial::{Me, client};
use casefile_identity::token::Pin;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};

/// What a certificate is to say.
pub(super) struct Wish {
    /// URIs of the subject.
    pub(super) uris: Vec<String>,
    /// DNS names of the subject.
    pub(super) names: Vec<String>,
    /// Seconds from now, when it begins and ends to count.
    pub(super) counts: (i64, i64),
    /// What it is for.
    pub(super) usage: ExtendedKeyUsagePurpose,
}

impl Wish {
    /// As the collector makes them.
    pub(super) fn of(node: &str) -> Self {
        Self {
            uris: vec![format!("spiffe://casefile/node/{node}")],
            names: Vec::new(),
            counts: (-300, 3_600),
            usage: ExtendedKeyUsagePurpose::ClientAuth,
        }
    }

    fn params(&self) -> Result<CertificateParams> {
        let mut params = CertificateParams::new(self.names.clone())?;
        params.distinguished_name = DistinguishedName::new();
        for uri in &self.uris {
            params.subject_alt_names.push(SanType::URI(uri.as_str().try_into()?));
        }
        let now = casefile_tests::now().nanos().div_euclid(1_000_000_000);
        let at = |offset: i64| -> Result<_> {
            Ok(date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(now + offset)?))
        };
        (params.not_before, params.not_after) = (at(self.counts.0)?, at(self.counts.1)?);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![self.usage.clone()];
        Ok(params)
    }
}

/// Signs anything.
pub(super) struct Signer {
    issuer: Issuer<'static, KeyPair>,
}

impl Signer {
    /// With the key of the authority in this directory.
    pub(super) fn of(keys: &Path) -> Result<Self> {
        let path = keys.join("authority.key");
        let text = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let key = KeyPair::from_pem(&String::from_utf8_lossy(&text))?;
        Ok(Self { issuer: Issuer::new(authority(), key) })
    }

    /// A certificate, and its key.
    pub(super) fn sign(&self, wish: &Wish) -> Result<Arc<CertifiedKey>> {
        let key = KeyPair::generate()?;
        let made = wish.params()?.signed_by(&key, &self.issuer)?;
        certified(vec![made.der().clone()], &key)
    }

    /// One that was signed by one that this has signed.
    pub(super) fn sign_below(&self, between: &Wish, wish: &Wish) -> Result<Arc<CertifiedKey>> {
        let (mid_key, key) = (KeyPair::generate()?, KeyPair::generate()?);
        let mut params = between.params()?;
        params.distinguished_name.push(DnType::CommonName, "between");
        let mid = params.signed_by(&mid_key, &self.issuer)?;
        let below = Issuer::new(params, mid_key);
        let made = wish.params()?.signed_by(&key, &below)?;
        certified(vec![made.der().clone(), mid.der().clone()], &key)
    }
}

/// What an authority says of itself: only its name counts here.
fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "casefile authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params
}

/// One that only vouches for itself.
pub(super) fn self_signed(wish: &Wish) -> Result<Arc<CertifiedKey>> {
    let key = KeyPair::generate()?;
    let made = wish.params()?.self_signed(&key)?;
    certified(vec![made.der().clone()], &key)
}

/// A request for a certificate that names somebody.
pub(super) fn request(names: &[&str]) -> Result<Vec<u8>> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    for name in names {
        params.subject_alt_names.push(SanType::URI((*name).try_into()?));
    }
    Ok(params.serialize_request(&key)?.der().to_vec())
}

fn certified(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Result<Arc<CertifiedKey>> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok(Arc::new(CertifiedKey::from_der(chain, key, &default_provider()).map_err(|e| anyhow!("{e}"))?))
}

/// A client that knows the collector and shows this.
pub(super) fn showing(pin: Pin, shown: Arc<CertifiedKey>) -> ClientConfig {
    let mut config = client(&Me::Nobody(pin));
    config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(shown));
    config
}
