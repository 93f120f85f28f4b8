//! The bucket of the archive store, through any S3 client's calls: look, put, read. The only file that knows the crate.
//!
//! What the store says is read for its kind and its code and never passed on: answers to a wrong key repeat the key. Memory is
//! bounded by one part of an upload at a time, and by one piece of a download.

mod credentials;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use casefile_proto::incident::SealedArchive;
use casefile_proto::item::Digest;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredentialProvider, Checksum};
use object_store::client::{HttpError, HttpErrorKind};
use object_store::path::Path as Key;
use object_store::{
    BackoffConfig, Certificate, ClientOptions, Error, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode,
    PutPayload, RetryConfig,
};
use sha2::{Digest as _, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_stream::StreamExt;

use super::config::StoreConfig;
use super::failure::{Failed, Failure};
use crate::chain::chain;
use credentials::{FromFile, NoKey};

/// One part of an upload, and the largest archive that is put in one request.
const PART: u64 = 8 << 20;

/// The same for archives that have more parts of [`PART`] than S3 takes.
const LARGE_PART: u64 = 16 << 20;

/// S3 takes 10,000 parts.
const MAX_PARTS: u64 = 10_000;

/// A connection stands within this.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// The store says something within this while it is read from.
const READ_WITHIN: Duration = Duration::from_secs(30);

/// A request without content, with its tries, is answered within this.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// One part is up within this, with its tries: 28 KiB a second.
const PART_WITHIN: Duration = Duration::from_mins(5);

/// Tries of one request after the first: for what passes in seconds. Everything else is tried again by the caller.
const TRIES: usize = 2;

/// The longest code of an error that is repeated: `InvalidAccessKeyId`.
const MAX_CODE: usize = 64;

/// What a store says when it does not let us in.
const REFUSALS: [&str; 5] =
    ["AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch"];

/// What S3 clients find in their environment.
const FROM_ENVIRONMENT: [(&str, AmazonS3ConfigKey); 9] = [
    ("AWS_ACCESS_KEY_ID", AmazonS3ConfigKey::AccessKeyId),
    ("AWS_SECRET_ACCESS_KEY", AmazonS3ConfigKey::SecretAccessKey),
    ("AWS_SESSION_TOKEN", AmazonS3ConfigKey::Token),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", AmazonS3ConfigKey::WebIdentityTokenFile),
    ("AWS_ROLE_ARN", AmazonS3ConfigKey::RoleArn),
    ("AWS_ROLE_SESSION_NAME", AmazonS3ConfigKey::RoleSessionName),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", AmazonS3ConfigKey::ContainerCredentialsRelativeUri),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", AmazonS3ConfigKey::ContainerCredentialsFullUri),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", AmazonS3ConfigKey::ContainerAuthorizationTokenFile),
];

/// Why there is no client for a store that the configuration names.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// The file with certificates cannot be read.
    #[error("read the certificates {path} of the archive store")]
    Certificates {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What is in it is none.
    #[error("there is no certificate in PEM in {path}, which the archive store is to be known by")]
    NoCertificate {
        /// The file.
        path: std::path::PathBuf,
    },
    /// An access key is incomplete, or the client cannot be made.
    #[error("the archive store cannot be spoken to: {0}")]
    Client(String),
}

/// A bucket, and the place in it.
#[derive(Clone)]
pub(super) struct Bucket {
    store: Arc<dyn ObjectStore>,
    /// Who we are there; `None`: it does not ask.
    credentials: Option<AwsCredentialProvider>,
    prefix: String,
}

impl Bucket {
    /// A client for this store. Speaks to nobody yet. Blocks.
    pub(super) fn open(config: &StoreConfig) -> Result<Self, BucketError> {
        casefile_identity::provide_for_others();
        let mut options = ClientOptions::new()
            .with_allow_http(config.plain)
            .with_connect_timeout(CONNECT_WITHIN)
            .with_read_timeout(READ_WITHIN)
            // Of the whole answer: an archive may take long, as long as something of it comes.
            .with_timeout_disabled();
        if let Some(path) = &config.ca {
            for certificate in certificates(path)? {
                options = options.with_root_certificate(certificate);
            }
        }
        let backoff = BackoffConfig { max_backoff: Duration::from_secs(2), ..BackoffConfig::default() };
        let retry = RetryConfig { backoff, max_retries: TRIES, retry_timeout: ANSWER_WITHIN };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&config.bucket)
            .with_region(&config.region)
            .with_retry(retry)
            // A bucket with Object Lock takes nothing without one, and the store checks what it received by it.
            .with_checksum_algorithm(Checksum::SHA256)
            .with_client_options(options);
        if let Some(endpoint) = &config.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        match &config.credentials {
            Some(path) => builder = builder.with_credentials(Arc::new(FromFile::new(path.clone()))),
            None => {
                for (name, key) in FROM_ENVIRONMENT {
                    if let Ok(value) = std::env::var(name) {
                        builder = builder.with_config(key, value);
                    }
                }
            }
        }
        // Its texts name keys of a configuration, none of their values.
        let store = builder.build().map_err(|error| BucketError::Client(error.to_string()))?;
        let credentials = Some(Arc::clone(store.credentials()));
        Ok(Self { store: Arc::new(store), credentials, prefix: config.prefix.clone() })
    }

    /// Over another store, for tests.
    #[cfg(test)]
    pub(super) fn over(store: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        Self { store, credentials: None, prefix: prefix.to_owned() }
    }

    fn key(&self, archive: &SealedArchive) -> Key {
        // Both are names without escapes: the one was checked, the other is ours.
        Key::from_iter(self.prefix.split('/').filter(|part| !part.is_empty()).chain([archive.file_name.as_str()]))
    }

    /// Whether the bucket is there and lets us in.
    pub(super) async fn knock(&self) -> Result<(), Failed> {
        self.show_key().await?;
        let prefix = Key::from(self.prefix.as_str());
        match timeout(ANSWER_WITHIN, self.store.list(Some(&prefix)).next()).await {
            Err(_) => Err(too_slow()),
            Ok(Some(Err(error))) => Err(failed(&error)),
            Ok(None | Some(Ok(_))) => Ok(()),
        }
    }

    async fn show_key(&self) -> Result<(), Failed> {
        let Some(credentials) = &self.credentials else { return Ok(()) };
        let shown = timeout(ANSWER_WITHIN, credentials.get_credential()).await.map_err(|_| keyless(None))?;
        shown.map(|_| ()).map_err(|error| keyless(Some(&error)))
    }

    /// The size of what lies there under the name of this archive; `None`: nothing does.
    pub(super) async fn size(&self, archive: &SealedArchive) -> Result<Option<u64>, Failed> {
        self.show_key().await?;
        match within(ANSWER_WITHIN, self.store.head(&self.key(archive))).await {
            Ok(found) => Ok(Some(found.size)),
            Err(failed) if failed.kind == Failure::NotFound => Ok(None),
            Err(failed) => Err(failed),
        }
    }

    /// Puts an archive there from its file, if nothing lies under its name. What lies there then is to be read back: it may be
    /// something else. A file that is not what was sealed is not put.
    pub(super) async fn put(&self, archive: &SealedArchive, path: &Path) -> Result<(), Failed> {
        let unreadable = |error: io::Error| Failed::new(Failure::Unreadable, format!("the archive here: {error}"));
        let mut file = File::open(path).await.map_err(unreadable)?;
        if file.metadata().await.map_err(unreadable)?.len() != archive.size {
            return Err(other_than_sealed());
        }
        if archive.size <= PART {
            let bytes = part(&mut file, archive.size).await.map_err(unreadable)?;
            if sha256(Sha256::new_with_prefix(&bytes)) != archive.sha256 {
                return Err(other_than_sealed());
            }
            return self.put_small(&self.key(archive), bytes).await;
        }
        let size = if archive.size.div_ceil(PART) <= MAX_PARTS { PART } else { LARGE_PART };
        if archive.size.div_ceil(size) > MAX_PARTS {
            return Err(Failed::new(Failure::Unreadable, "the archive is larger than what S3 takes"));
        }
        let mut upload = within(ANSWER_WITHIN, self.store.put_multipart(&self.key(archive))).await?;
        let sent = send(&mut upload, &mut file, archive, size).await;
        if sent.is_err() {
            // Where this fails too, the store's own rule for what was never completed removes it.
            let _left = within(ANSWER_WITHIN, upload.abort()).await;
        }
        sent
    }

    async fn put_small(&self, key: &Key, bytes: Bytes) -> Result<(), Failed> {
        let put = |mode: PutMode| self.store.put_opts(key, PutPayload::from(bytes.clone()), mode.into());
        match timeout(PART_WITHIN, put(PutMode::Create)).await {
            Err(_) => Err(too_slow()),
            Ok(Ok(_) | Err(Error::AlreadyExists { .. } | Error::Precondition { .. })) => Ok(()),
            // Not every store knows the condition; we have looked before.
            Ok(Err(error)) if code(&error).as_deref() == Some("NotImplemented") => {
                within(PART_WITHIN, put(PutMode::Overwrite)).await.map(|_| ())
            }
            Ok(Err(error)) => Err(failed(&error)),
        }
    }

    /// Reads what lies there under the name of this archive to its end, and gives its digest. Written to `to`, where there is
    /// one. More than the archive has is not read.
    pub(super) async fn read(&self, archive: &SealedArchive, mut to: Option<&mut File>) -> Result<Digest, Failed> {
        let found = within(ANSWER_WITHIN, self.store.get(&self.key(archive))).await?;
        let (mut pieces, mut hash, mut left) = (found.into_stream(), Sha256::new(), archive.size);
        while let Some(piece) = timeout(ANSWER_WITHIN, pieces.next()).await.map_err(|_| too_slow())? {
            let piece = piece.map_err(|error| failed(&error))?;
            let len = u64::try_from(piece.len()).unwrap_or(u64::MAX);
            left = left.checked_sub(len).ok_or_else(|| Failed::differs(archive))?;
            hash.update(&piece);
            if let Some(file) = to.as_deref_mut() {
                file.write_all(&piece).await.map_err(|error| unwritten(&error))?;
            }
        }
        if let Some(file) = to {
            file.sync_all().await.map_err(|error| unwritten(&error))?;
        }
        if left > 0 { Err(Failed::differs(archive)) } else { Ok(sha256(hash)) }
    }
}

/// Sends a file in parts, one at a time, and completes the upload if it was what was sealed.
async fn send(
    upload: &mut Box<dyn MultipartUpload>,
    file: &mut File,
    archive: &SealedArchive,
    size: u64,
) -> Result<(), Failed> {
    let (mut left, mut hash) = (archive.size, Sha256::new());
    while left > 0 {
        let bytes = part(file, left.min(size)).await;
        let bytes = bytes.map_err(|e| Failed::new(Failure::Unreadable, format!("the archive here: {e}")))?;
        hash.update(&bytes);
        left -= left.min(size);
        within(PART_WITHIN, upload.put_part(bytes.into())).await?;
    }
    if sha256(hash) != archive.sha256 {
        return Err(other_than_sealed());
    }
    within(PART_WITHIN, upload.complete()).await.map(|_| ())
}

async fn part(file: &mut File, size: u64) -> io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
    file.read_exact(&mut bytes).await?;
    Ok(bytes.into())
}

fn sha256(hash: Sha256) -> Digest {
    Digest(hash.finalize().into())
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, BucketError> {
    let pem = std::fs::read(path).map_err(|source| BucketError::Certificates { path: path.to_owned(), source })?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(BucketError::NoCertificate { path: path.to_owned() }),
    }
}

async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, Error>>) -> Result<T, Failed> {
    timeout(limit, call).await.map_err(|_| too_slow())?.map_err(|error| failed(&error))
}

fn too_slow() -> Failed {
    Failed::new(Failure::Unreachable, "the store does not answer in time")
}

fn other_than_sealed() -> Failed {
    Failed::new(Failure::Unreadable, "the archive here is not what was sealed")
}

fn unwritten(error: &io::Error) -> Failed {
    let full = crate::space::is_for_want_of_room(error);
    Failed::new(if full { Failure::NoRoom } else { Failure::Other }, format!("it cannot be written here: {error}"))
}

/// There is no key: what is wrong with the file that should have one, and nothing of what anybody else said.
fn keyless(error: Option<&Error>) -> Failed {
    let why = match error {
        Some(Error::Generic { source, .. }) => source.downcast_ref::<NoKey>().map(|why| chain(why)),
        _ => None,
    };
    let why = why.unwrap_or_else(|| "neither the environment, nor web identity, nor the machine gives one".to_owned());
    Failed::new(Failure::Credentials, format!("there is no access key for the store: {why}"))
}

/// What an error is, in our words and the store's code.
fn failed(error: &Error) -> Failed {
    let code = code(error);
    let kind = match (error, code.as_deref()) {
        (_, Some("NoSuchBucket" | "NoSuchKey")) | (Error::NotFound { .. }, _) => Failure::NotFound,
        // A listing tells them by their code alone.
        (Error::PermissionDenied { .. } | Error::Unauthenticated { .. }, _) => Failure::Refused,
        (_, Some(code)) if REFUSALS.contains(&code) => Failure::Refused,
        _ if no_answer(error) => Failure::Unreachable,
        _ => Failure::Other,
    };
    let text = match kind {
        Failure::Unreachable => "the store cannot be reached",
        Failure::Refused => "the store refuses our access key, or what is asked in its name",
        Failure::NotFound => "the store has no such bucket, or no such object",
        _ => "the store failed at it",
    };
    Failed::new(kind, code.map_or_else(|| text.to_owned(), |code| format!("{text} ({code})")))
}

/// The code in an answer of the store: one word, whatever else it says.
fn code(error: &Error) -> Option<String> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        let found = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
        if let Some((code, _)) = found
            && (1..=MAX_CODE).contains(&code.len())
            && code.bytes().all(|b| b.is_ascii_alphabetic())
        {
            return Some(code.to_owned());
        }
        next = error.source();
    }
    None
}

fn no_answer(error: &Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(http) = error.downcast_ref::<HttpError>() {
            return !matches!(http.kind(), HttpErrorKind::Decode);
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
#[path = "bucket_tests.rs"]
mod tests;
