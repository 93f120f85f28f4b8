//! An agent's own certificate: how it asks for one, and how it keeps it.
//!
//! The key is made here and leaves this process only into a file for this user alone, below the agent's data directory: an
//! agent that is started again goes on with the certificate that it has.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use casefile_proto::identity::{Credential, EnrolAsk, Enrolled};
use casefile_proto::ids::NodeName;
use casefile_proto::item::Digest;
use casefile_proto::time::WallTime;
use casefile_proto::wire::v1;
use casefile_proto::wire::v1::identity_service_client::IdentityServiceClient;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use serde::{Deserialize, Serialize};
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::token::{Pin, Token};

/// The answer to an enrolment must come within this.
const ENROL: Duration = Duration::from_secs(15);

/// The file holds a key, two certificates and some numbers.
const MAX_FILE: u64 = 64 << 10;

/// Who a node is, as it can prove it.
#[derive(Clone)]
pub struct Certificate {
    kept: Kept,
    shown: Arc<SingleCertAndKey>,
}

impl fmt::Debug for Certificate {
    /// Not the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Kept { node, pin, issued, expires, .. } = &self.kept;
        write!(f, "Certificate({node} by {pin}, {issued} to {expires})")
    }
}

/// As it lies in the file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// Whose it is.
    node: NodeName,
    /// The collector that issued it.
    pin: Pin,
    /// PEM.
    key: String,
    /// PEM, one after the other.
    chain: String,
    /// On the collector's clock.
    issued: WallTime,
    expires: WallTime,
    /// The digest of the secret of the token that it, or the first of its line, was got with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    joined_with: Option<Digest>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
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
    /// The file holds none. Its content is not quoted.
    #[error("{path} holds no certificate of an agent")]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// A key or a request could not be made.
    #[error("make a key")]
    Key(#[source] rcgen::Error),
    /// The collector refused.
    #[error("the collector issues no certificate: {}", .0.message())]
    Refused(Box<Status>),
    /// What the collector issued cannot be used.
    #[error("the collector issued a certificate that cannot be used: {0}")]
    Unusable(String),
}

impl CertificateError {
    /// Whether asking again with the same credential is of no use.
    pub fn is_final(&self) -> bool {
        use tonic::Code::{InvalidArgument, PermissionDenied, Unauthenticated};
        matches!(self, Self::Refused(status)
            if matches!(status.code(), Unauthenticated | PermissionDenied | InvalidArgument))
    }
}

impl Certificate {
    /// The one that lies in this file; `None`: there is no file.
    pub fn load(path: &Path) -> Result<Option<Self>, CertificateError> {
        let failed = |doing| move |source| CertificateError::Io { doing, path: path.to_owned(), source };
        let mut text = String::new();
        match std::fs::File::open(path) {
            Ok(file) => file.take(MAX_FILE).read_to_string(&mut text).map_err(failed("read"))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed("read")(e)),
        };
        let malformed = || CertificateError::Malformed { path: path.to_owned() };
        let kept: Kept = serde_json::from_str(&text).map_err(|_| malformed())?;
        Self::of(kept).map(Some).map_err(|_| malformed())
    }

    /// Keeps it in this file, synced, for this user alone.
    pub fn save(&self, path: &Path) -> Result<(), CertificateError> {
        let text = serde_json::to_string_pretty(&self.kept).map_err(io::Error::other);
        text.and_then(|text| crate::file::write_private(path, text.as_bytes())).map_err(|source| CertificateError::Io {
            doing: "write",
            path: path.to_owned(),
            source,
        })
    }

    /// Asks for one over this channel: with a join token, or, over a connection that shows a certificate, for the next one.
    pub async fn enrol(channel: Channel, pin: Pin, credential: Credential) -> Result<Self, CertificateError> {
        let joined_with = match &credential {
            Credential::Join(text) => text.parse::<Token>().ok().map(|token| token.digest()),
            Credential::ServiceAccount(_) | Credential::Certificate => None,
        };
        let key = KeyPair::generate().map_err(CertificateError::Key)?;
        let mut params = CertificateParams::default();
        // The collector takes the key from the request and nothing else: who this is, the credential says.
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&key).map_err(CertificateError::Key)?;
        let ask = EnrolAsk { credential, request: request.der().to_vec() };
        let mut request = Request::new(v1::EnrolRequest::from(ask));
        request.set_timeout(ENROL);
        let refused = |status| CertificateError::Refused(Box::new(status));
        let answer = IdentityServiceClient::new(channel).enrol(request).await.map_err(refused)?.into_inner();
        let enrolled = Enrolled::try_from(answer).map_err(|e| CertificateError::Unusable(e.to_string()))?;
        Ok(Self::new(&key, pin, enrolled)?.with_token(joined_with))
    }

    /// The same, got with this token.
    #[must_use]
    pub fn with_token(mut self, digest: Option<Digest>) -> Self {
        self.kept.joined_with = digest;
        self
    }

    /// The digest of the secret of the token that it, or the first of its line, was got with; `None`: with none.
    pub const fn joined_with(&self) -> Option<Digest> {
        self.kept.joined_with
    }

    pub(crate) fn new(key: &KeyPair, pin: Pin, enrolled: Enrolled) -> Result<Self, CertificateError> {
        let Enrolled { node, certificates, issued, expires } = enrolled;
        let chain = certificates.into_iter().map(|der| pem::encode(&pem::Pem::new("CERTIFICATE", der))).collect();
        Self::of(Kept { node, pin, key: key.serialize_pem(), chain, issued, expires, joined_with: None })
    }

    fn of(kept: Kept) -> Result<Self, CertificateError> {
        let unusable = |why: &dyn fmt::Display| CertificateError::Unusable(why.to_string());
        let key = PrivatePkcs8KeyDer::from_pem_slice(kept.key.as_bytes()).map_err(|e| unusable(&e))?;
        let chain = CertificateDer::pem_slice_iter(kept.chain.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| unusable(&e))?;
        let certified =
            CertifiedKey::from_der(chain, PrivateKeyDer::Pkcs8(key), &crate::provider()).map_err(|e| unusable(&e))?;
        certified.keys_match().map_err(|e| unusable(&e))?;
        Ok(Self { kept, shown: Arc::new(SingleCertAndKey::from(certified)) })
    }

    /// The node that it is of.
    pub const fn node(&self) -> &NodeName {
        &self.kept.node
    }

    /// The collector that issued it.
    pub const fn pin(&self) -> Pin {
        self.kept.pin
    }

    /// When it was issued, on the collector's clock.
    pub const fn issued(&self) -> WallTime {
        self.kept.issued
    }

    /// When it ends to count, on the collector's clock.
    pub const fn expires(&self) -> WallTime {
        self.kept.expires
    }

    /// How long after it was issued the next one is asked for: two thirds of its life.
    pub fn renew_after(&self) -> Duration {
        let life = self.kept.expires.nanos_since(self.kept.issued);
        Duration::from_nanos(u64::try_from(life).unwrap_or(0) / 3 * 2)
    }

    pub(crate) fn shown(&self) -> Arc<SingleCertAndKey> {
        Arc::clone(&self.shown)
    }
}
