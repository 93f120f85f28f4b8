//! Who this agent is, as it can prove it to its collector: the certificate that it has, the token that it may get one with,
//! and the next certificate before the old one ends.
//!
//! A certificate is kept below the data directory and outlives the agent. When it has ended, because the machine was off
//! for longer than it counts, a new join token is needed; until then the ring goes on. In a cluster none is: there the token of
//! the service account, which kubelet renews, proves the node as often as it must.

use std::path::PathBuf;
use std::time::Duration;

use casefile_identity::certificate::{Certificate, CertificateError};
use casefile_identity::dial::{Address, Me, dial};
use casefile_identity::token::{Kind, Token, TokenFileError};
use casefile_proto::identity::Credential;
use casefile_proto::ids::NodeName;
use casefile_proto::item::Digest;
use casefile_proto::time::BootTime;
use tonic::transport::Channel;

use super::in_cluster::{InCluster, NotReady};
use super::tuned;
use crate::clock::Clock;
use crate::runner::lane::chain;

/// How long after a renewal that failed it is tried again, at most.
const RENEW_AGAIN: Duration = Duration::from_mins(1);

/// How an agent gets its first certificate.
#[derive(Debug, Clone)]
pub enum Join {
    /// With the token in this file, as soon as there is one.
    File(PathBuf),
    /// With what kubelet gives its pod, as often as it must.
    Cluster(InCluster),
    /// It has one: it runs beside its collector.
    Given(Box<Certificate>),
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoIdentity {
    /// Nobody has said how to get one.
    #[error(
        "this agent has no certificate yet: casefile-collector token create --node {node} makes a token, and \
         casefile-agent join takes it (it is looked for in {path})"
    )]
    NoToken { node: NodeName, path: PathBuf },
    /// There is a file, and no token in it that can be used.
    #[error(transparent)]
    Token(#[from] TokenFileError),
    /// It is for something else.
    #[error("the token in {path} is for people, not for nodes: make one with --node")]
    NoJoinToken { path: PathBuf },
    /// The collector was not reached.
    #[error("join at {to}")]
    Unreached {
        to: Address,
        #[source]
        source: tonic::transport::Error,
    },
    /// The collector gave none.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// It is of another node.
    #[error("the token was for node {joined}, and this is node {node}: make one with --node {node}")]
    OtherNode { joined: NodeName, node: NodeName },
    /// What the cluster gives is not there, or does not fit.
    #[error(transparent)]
    NotReady(#[from] NotReady),
}

/// Who this agent is.
pub(super) struct Identity {
    node: NodeName,
    /// Where the certificate is kept.
    path: PathBuf,
    join: Join,
    clock: Clock,
    current: Option<Current>,
    /// A token that the collector does not take: not shown to it again.
    refused: Option<Digest>,
    /// Whether the collector did not take the certificate, or is another one than that says.
    doubted: bool,
}

struct Current {
    certificate: Certificate,
    /// When the next one is due, on the boot clock: the wall clock may be anything.
    renew_at: BootTime,
}

impl Identity {
    /// With what was kept.
    pub(super) fn open(node: NodeName, path: PathBuf, join: Join, clock: Clock) -> Self {
        let kept = match &join {
            Join::Given(certificate) => Some(Certificate::clone(certificate)),
            Join::File(_) | Join::Cluster(_) => Certificate::load(&path).unwrap_or_else(|error| {
                tracing::error!(error = chain(&error), "the certificate that was kept cannot be used");
                None
            }),
        };
        let mut identity = Self { node, path, join, clock, current: None, refused: None, doubted: false };
        if let Some(certificate) = kept.filter(|kept| kept.node() == &identity.node) {
            let age = (identity.clock)().wall.nanos_since(certificate.issued());
            let age = Duration::from_nanos(u64::try_from(age).unwrap_or(0));
            identity.use_from_now(certificate, age);
        }
        identity
    }

    /// The certificate to show: the one there is, or, when a token has come that was not used yet, a new one.
    pub(super) async fn certificate(&mut self, to: &Address) -> Result<Certificate, NoIdentity> {
        if let Join::Cluster(files) = &self.join {
            let files = files.clone();
            return self.in_cluster(to, &files).await;
        }
        match (self.token(), &self.current) {
            (Ok(Some(token)), _) => self.enrol(to, &token).await,
            (Ok(None), Some(current)) => Ok(current.certificate.clone()),
            (Err(error), Some(current)) => {
                tracing::warn!(error = chain(&error), "the join token cannot be used");
                Ok(current.certificate.clone())
            }
            (Ok(None), None) => Err(NoIdentity::NoToken { node: self.node.clone(), path: self.token_path() }),
            (Err(error), None) => Err(error),
        }
    }

    /// The collector does not take the certificate, or is another one: in a cluster that is mended before it is shown again.
    pub(super) fn doubt(&mut self) {
        self.doubted = true;
    }

    /// The certificate there is, while it counts; else a new one.
    async fn in_cluster(&mut self, to: &Address, files: &InCluster) -> Result<Certificate, NoIdentity> {
        let now = (self.clock)().wall;
        // Only once: when nothing came of it and the certificate is good by our clock, it is tried again in between.
        let doubted = std::mem::take(&mut self.doubted);
        match &self.current {
            Some(Current { certificate, .. }) if !doubted && now < certificate.expires() => Ok(certificate.clone()),
            current => {
                let before = current.as_ref().map(|current| &current.certificate);
                let certificate = files.enrol(to, &self.node, before).await?;
                Ok(self.joined(to, certificate))
            }
        }
    }

    /// A token that was not used yet.
    fn token(&self) -> Result<Option<Token>, NoIdentity> {
        let Join::File(path) = &self.join else { return Ok(None) };
        let token = match Token::load(path) {
            Ok(token) => token,
            Err(TokenFileError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if token.kind() != Kind::Join {
            return Err(NoIdentity::NoJoinToken { path: path.clone() });
        }
        let digest = token.digest();
        let joined = self.current.as_ref().and_then(|current| current.certificate.joined_with());
        Ok((joined != Some(digest) && self.refused != Some(digest)).then_some(token))
    }

    fn token_path(&self) -> PathBuf {
        match &self.join {
            Join::File(path) => path.clone(),
            Join::Cluster(InCluster { token, .. }) => token.clone(),
            Join::Given(_) => PathBuf::new(),
        }
    }

    async fn enrol(&mut self, to: &Address, token: &Token) -> Result<Certificate, NoIdentity> {
        let unreached = |source| NoIdentity::Unreached { to: to.clone(), source };
        let channel = dial(to, &Me::Nobody(token.pin()), tuned).await.map_err(unreached)?;
        let certificate = Certificate::enrol(channel, token.pin(), Credential::Join(token.reveal())).await;
        let certificate = certificate.inspect_err(|error| {
            if error.is_final() {
                self.refused = Some(token.digest());
            }
        })?;
        if certificate.node() != &self.node {
            self.refused = Some(token.digest());
            return Err(NoIdentity::OtherNode { joined: certificate.node().clone(), node: self.node.clone() });
        }
        Ok(self.joined(to, certificate))
    }

    fn joined(&mut self, to: &Address, certificate: Certificate) -> Certificate {
        tracing::info!(node = %self.node, collector = %to, expires = %certificate.expires(), "joined");
        self.keep(&certificate);
        self.use_from_now(certificate.clone(), Duration::ZERO);
        certificate
    }

    /// Asks for the next certificate whenever it is due, over a channel that shows the old one. Never ends.
    pub(super) async fn stay_fresh(&mut self, channel: Channel) {
        loop {
            let Some(current) = &self.current else { return std::future::pending().await };
            let due = current.renew_at.since((self.clock)().boot);
            tokio::time::sleep(due).await;
            let life = current.certificate.renew_after();
            let (pin, joined_with) = (current.certificate.pin(), current.certificate.joined_with());
            match Certificate::enrol(channel.clone(), pin, Credential::Certificate).await {
                Ok(next) => {
                    let next = next.with_token(joined_with);
                    tracing::info!(expires = %next.expires(), "certificate renewed");
                    self.keep(&next);
                    self.use_from_now(next, Duration::ZERO);
                }
                Err(error) => {
                    tracing::warn!(error = chain(&error), "the certificate could not be renewed");
                    tokio::time::sleep(RENEW_AGAIN.min(life / 16)).await;
                }
            }
        }
    }

    /// Remembers it for the next start. When that fails it is used all the same: the next renewal tries again.
    fn keep(&self, certificate: &Certificate) {
        match (certificate.save(&self.path), &self.join) {
            (Ok(()), _) | (Err(_), Join::Given(_)) => {}
            (Err(error), Join::File(_)) => {
                tracing::error!(
                    error = chain(&error),
                    "the certificate cannot be kept: a restart needs a new join token"
                );
            }
            (Err(error), Join::Cluster(_)) => {
                tracing::warn!(error = chain(&error), "the certificate cannot be kept: a restart asks for another one");
            }
        }
    }

    fn use_from_now(&mut self, certificate: Certificate, age: Duration) {
        let due = certificate.renew_after().saturating_sub(age);
        let now = (self.clock)().boot.nanos();
        let nanos = u64::try_from(due.as_nanos()).unwrap_or(u64::MAX);
        self.current = Some(Current { certificate, renew_at: BootTime::from_nanos(now.saturating_add(nanos)) });
    }
}
