//! How an agent in a cluster becomes known to its collector: by the token that kubelet gives its pod, and by the pin of the
//! collector that the cluster has in a config map. Both are files that change, so both are read each time.
//!
//! It asks for a certificate when it has none, when its own has ended, or when the collector does not take it any more. A collector
//! with another authority is believed only when the one that we know is not there any more and the cluster names the other one.

use std::path::PathBuf;

use casefile_identity::certificate::Certificate;
use casefile_identity::dial::{Address, Disbelief, Me, dial, disbelief};
use casefile_identity::foreign::{ForeignFileError, ForeignToken, load_pin};
use casefile_identity::token::Pin;
use casefile_proto::identity::Credential;
use casefile_proto::ids::NodeName;
use tonic::transport::Channel;

use super::identity::NoIdentity;
use super::tuned;
use crate::runner::lane::chain;

/// Where both of them are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InCluster {
    /// The token of the service account.
    pub token: PathBuf,
    /// The pin of the collector.
    pub pin: PathBuf,
}

/// Why an agent in a cluster cannot ask for a certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotReady {
    /// There is no token.
    #[error(
        "there is no token of the service account in {0} yet: the pod has it from a projected volume (serviceAccountToken with \
         the audience casefile-collector)"
    )]
    NoToken(PathBuf),
    /// There is no pin.
    #[error(
        "{0} does not say yet which collector to trust: the collector writes its pin into the config map that is mounted there \
         when it first starts, and kubelet brings it within a minute or two"
    )]
    NoPin(PathBuf),
    /// A file holds something else.
    #[error(transparent)]
    File(#[from] ForeignFileError),
    /// The collector is another one than both the certificate and the file say.
    #[error("the collector at {to} has another authority than the one that {path} names: is it the right address?")]
    OtherAuthority { to: Address, path: PathBuf },
    /// The node is another one.
    #[error(
        "the cluster says that this agent runs on node {joined}, and it is configured as {node}: set CASEFILE_NODE from \
         spec.nodeName"
    )]
    OtherNode { joined: NodeName, node: NodeName },
}

impl InCluster {
    /// A certificate for this node, which has this one so far.
    pub(super) async fn enrol(
        &self,
        to: &Address,
        node: &NodeName,
        before: Option<&Certificate>,
    ) -> Result<Certificate, NoIdentity> {
        // The token first: without it nobody is asked, and then nothing of an authority is decided either.
        let token = self.token()?;
        let (channel, pin) = self.reach(to, before.map(Certificate::pin)).await?;
        let credential = Credential::ServiceAccount(token.reveal().to_owned());
        let certificate = Certificate::enrol(channel, pin, credential).await?;
        if certificate.node() != node {
            let (joined, node) = (certificate.node().clone(), node.clone());
            return Err(NotReady::OtherNode { joined, node }.into());
        }
        Ok(certificate)
    }

    fn token(&self) -> Result<ForeignToken, NotReady> {
        match ForeignToken::load(&self.token) {
            Err(ForeignFileError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Err(NotReady::NoToken(self.token.clone()))
            }
            loaded => Ok(loaded?),
        }
    }

    /// The collector that is known, else the one that the file names.
    async fn reach(&self, to: &Address, known: Option<Pin>) -> Result<(Channel, Pin), NoIdentity> {
        let unreached = |source| NoIdentity::Unreached { to: to.clone(), source };
        if let Some(known) = known {
            match dial(to, &Me::Nobody(known), tuned).await {
                Ok(channel) => return Ok((channel, known)),
                Err(error) if disbelief(&error) == Some(Disbelief::OtherAuthority) => {}
                Err(error) => return Err(unreached(error)),
            }
        }
        let named = load_pin(&self.pin).map_err(NotReady::File)?;
        let named = named.ok_or_else(|| NotReady::NoPin(self.pin.clone()))?;
        let other = || NotReady::OtherAuthority { to: to.clone(), path: self.pin.clone() };
        if known == Some(named) {
            return Err(other().into());
        }
        match dial(to, &Me::Nobody(named), tuned).await {
            Ok(channel) => {
                if let Some(known) = known {
                    tracing::warn!(
                        before = %known, now = %named, file = %self.pin.display(),
                        "the collector that this agent knew is not there any more; the cluster names another authority, which is \
                         believed from now on (was the collector's data lost?)"
                    );
                }
                Ok((channel, named))
            }
            Err(error) if disbelief(&error) == Some(Disbelief::OtherAuthority) => Err(other().into()),
            Err(error) => Err(unreached(error)),
        }
    }
}

/// Whether a certificate proves nothing any more, by what went wrong with it.
pub(super) fn is_over(error: &(dyn std::error::Error + 'static)) -> bool {
    let over = disbelief(error);
    if let Some(over) = over {
        tracing::debug!(?over, error = chain(error), "the certificate does not count");
    }
    over.is_some()
}
