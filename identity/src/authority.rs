//! The authority of a collector: a key and a certificate that sign the collector's own certificate and those of its agents.
//!
//! The name of a node stands in its certificate as a URI, `spiffe://casefile/node/NAME`, and nowhere else. A certificate
//! of an agent is good for showing to this collector, and for nothing else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use casefile_proto::identity::Enrolled;
use casefile_proto::ids::NodeName;
use casefile_proto::item::Digest;
use casefile_proto::time::WallTime;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::certificate::{Certificate, CertificateError};
use crate::token::Pin;

/// The authority lives as long as its collector's data: everybody pins it.
const AUTHORITY_LIFE: Duration = Duration::from_hours(20 * 366 * 24);

/// The collector's own certificate; it makes another one well before.
pub const SERVER_LIFE: Duration = Duration::from_hours(366 * 24);

/// How long before it was issued a certificate of an agent counts: clocks of one machine are read twice.
const BACKDATED: Duration = Duration::from_mins(5);

/// What stands before the name of a node.
const NODE: &str = "spiffe://casefile/node/";

/// A key file holds one key.
const MAX_FILE: u64 = 64 << 10;

/// Why there is no authority, or why it does not sign.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The file system said no.
    #[error("{doing} {path}")]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// A file holds something else. Its content is not quoted.
    #[error("{path} holds no key or certificate of an authority")]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// A certificate could not be made.
    #[error("make a certificate")]
    Make(#[source] rcgen::Error),
    /// A request is none, or whoever sent it does not hold its key.
    #[error("the certificate request is none, or is not signed by its own key")]
    Request,
    /// There are no random numbers.
    #[error("read random numbers")]
    Random(#[source] io::Error),
}

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pin: Pin,
    since: WallTime,
}

impl Authority {
    /// The one in this directory, which exists: `authority.key` and `authority.pem`; a new one where there is none.
    pub fn load_or_make(dir: &Path, now: WallTime) -> Result<Self, AuthorityError> {
        let (key_path, path) = (dir.join("authority.key"), dir.join("authority.pem"));
        let key = match read(&key_path)? {
            Some(text) => KeyPair::from_pem(&text).map_err(|_| AuthorityError::Malformed { path: key_path.clone() })?,
            None => {
                let key = KeyPair::generate().map_err(AuthorityError::Make)?;
                write(&key_path, key.serialize_pem().as_bytes())?;
                key
            }
        };
        let malformed = || AuthorityError::Malformed { path: path.clone() };
        let certificate = match read(&path)? {
            Some(text) => CertificateDer::from_pem_slice(text.as_bytes()).map_err(|_| malformed())?,
            None => {
                let made = authority_params(now)?.self_signed(&key).map_err(AuthorityError::Make)?;
                write(&path, made.pem().as_bytes())?;
                made.der().clone()
            }
        };
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_| malformed())?;
        let since = WallTime::from_secs(parsed.validity().not_before.timestamp());
        let is_of_key = parsed.public_key().subject_public_key.data.as_ref() == key.der_bytes();
        if !is_of_key {
            return Err(malformed());
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|_| malformed())?;
        let pin = Pin(Digest(Sha256::digest(&certificate).into()));
        Ok(Self { issuer, certificate, pin, since })
    }

    /// Its digest, by which it is known.
    pub const fn pin(&self) -> Pin {
        self.pin
    }

    /// Its certificate.
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// A certificate for the collector itself, with a new key. It counts from the authority's first day on: a node whose
    /// clock is wrong takes the day of its own certificate instead, whichever that was.
    pub fn server(&self, now: WallTime) -> Result<Arc<CertifiedKey>, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::Make)?;
        let mut params = params(self.since, now.after(SERVER_LIFE))?;
        params.distinguished_name.push(DnType::CommonName, crate::COLLECTOR);
        params.subject_alt_names.push(SanType::DnsName(ia5(crate::COLLECTOR)?));
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        let made = params.signed_by(&key, &self.issuer).map_err(AuthorityError::Make)?;
        let chain = vec![made.der().clone(), self.certificate.clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let certified = CertifiedKey::from_der(chain, key, &crate::provider());
        Ok(Arc::new(certified.unwrap_or_else(|_| unreachable!("the key was made for this certificate"))))
    }

    /// Whether this is a request (PKCS#10, DER) of somebody who holds its key.
    pub fn check(request: &[u8]) -> Result<(), AuthorityError> {
        parsed(request).map(drop)
    }

    /// A certificate for a node, for the key in this request (PKCS#10, DER). Nothing else is taken from the request.
    pub fn issue(
        &self,
        node: &NodeName,
        request: &[u8],
        now: WallTime,
        life: Duration,
    ) -> Result<Enrolled, AuthorityError> {
        self.sign(node, &parsed(request)?.public_key, now, life)
    }

    /// A certificate for a node, with a new key: for an agent that is beside its collector, and for tests that play many.
    pub fn agent(&self, node: &NodeName, now: WallTime, life: Duration) -> Result<Certificate, CertificateError> {
        let key = KeyPair::generate().map_err(CertificateError::Key)?;
        let enrolled = self.sign(node, &key, now, life).map_err(|e| CertificateError::Unusable(e.to_string()))?;
        Certificate::new(&key, self.pin, enrolled)
    }

    fn sign(
        &self,
        node: &NodeName,
        key: &impl PublicKeyData,
        now: WallTime,
        life: Duration,
    ) -> Result<Enrolled, AuthorityError> {
        // Certificates know whole seconds; what is said is what stands in it.
        let issued = WallTime::from_secs(now.nanos().div_euclid(1_000_000_000));
        let expires = issued.after(Duration::from_secs(life.as_secs()));
        let mut params = params(issued.before(BACKDATED), expires)?;
        params.subject_alt_names.push(SanType::URI(ia5(&format!("{NODE}{node}"))?));
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        let made = params.signed_by(key, &self.issuer).map_err(AuthorityError::Make)?;
        let certificates = vec![made.der().to_vec(), self.certificate.to_vec()];
        Ok(Enrolled { node: node.clone(), certificates, issued, expires })
    }
}

fn parsed(request: &[u8]) -> Result<CertificateSigningRequestParams, AuthorityError> {
    let request = CertificateSigningRequestDer::from(request);
    CertificateSigningRequestParams::from_der(&request).map_err(|_| AuthorityError::Request)
}

/// Whose certificate this is, and until when it counts. Its signature was verified before. `None`: it is no node's.
pub fn holder(certificate: &CertificateDer<'_>) -> Option<Holder> {
    let (rest, parsed) = X509Certificate::from_der(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok().flatten()?;
    let [GeneralName::URI(uri)] = names.value.general_names.as_slice() else { return None };
    let node = uri.strip_prefix(NODE)?.parse().ok()?;
    let at = |time: x509_parser::time::ASN1Time| WallTime::from_secs(time.timestamp());
    let validity = parsed.validity();
    rest.is_empty().then(|| Holder {
        node,
        issued: at(validity.not_before).after(BACKDATED),
        expires: at(validity.not_after),
    })
}

/// What a certificate of an agent says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Which node.
    pub node: NodeName,
    /// When it was issued.
    pub issued: WallTime,
    /// When it ends to count.
    pub expires: WallTime,
}

fn authority_params(now: WallTime) -> Result<CertificateParams, AuthorityError> {
    let mut params = params(now.before(Duration::from_hours(24)), now.after(AUTHORITY_LIFE))?;
    params.distinguished_name.push(DnType::CommonName, "casefile authority");
    // It signs no further authorities.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    Ok(params)
}

fn params(from: WallTime, until: WallTime) -> Result<CertificateParams, AuthorityError> {
    let at = |wall: WallTime| {
        let secs = u64::try_from(wall.nanos().div_euclid(1_000_000_000)).unwrap_or(0);
        date_time_ymd(1970, 1, 1) + Duration::from_secs(secs)
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    (params.not_before, params.not_after) = (at(from), at(until));
    params.serial_number = Some(SerialNumber::from_slice(&crate::random::<16>().map_err(AuthorityError::Random)?));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    Ok(params)
}

fn ia5(text: &str) -> Result<Ia5String, AuthorityError> {
    Ia5String::try_from(text).map_err(AuthorityError::Make)
}

fn read(path: &Path) -> Result<Option<String>, AuthorityError> {
    use io::Read;
    let mut text = String::new();
    match fs::File::open(path).and_then(|file| file.take(MAX_FILE).read_to_string(&mut text)) {
        Ok(_) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(AuthorityError::Io { doing: "read", path: path.to_owned(), source }),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), AuthorityError> {
    crate::file::write_private(path, bytes).map_err(|source| AuthorityError::Io {
        doing: "write",
        path: path.to_owned(),
        source,
    })
}
