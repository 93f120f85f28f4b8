//! What every variant has: the collector, credentials good and bad, names of its own; and what it may answer.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin as Pinned;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use casefile_collector::audit::Verb;
use casefile_identity::authority::Authority;
use casefile_identity::certificate::Certificate;
use casefile_identity::dial::{Address, Api, Me, dial, dial_as};
use casefile_identity::token::{Pin, Token};
use casefile_proto::identity::{NewToken, Person, Role, Subject, TokenAsk};
use casefile_proto::ids::{BootId, NodeName};
use casefile_proto::wire::v1;
use casefile_proto::wire::v1::identity_service_client::IdentityServiceClient;
use tonic::transport::Channel;

use super::certificates::Signer;
use super::uploads::Shared;
use crate::dial::Door;

/// Longer than anything is waited for by the collector before it gives a stranger up.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// How long tokens count that are to be good throughout.
const LONG: Duration = Duration::from_hours(2);

/// What became of a variant.
#[derive(Debug)]
pub(super) enum Answer {
    /// It was refused: how.
    Refused(String),
    /// It was not, or not in time: what happened instead.
    Accepted(String),
}

impl Answer {
    pub(super) fn refused(how: impl Into<String>) -> Self {
        Self::Refused(how.into())
    }

    pub(super) fn accepted(what: impl Into<String>) -> Self {
        Self::Accepted(what.into())
    }
}

/// The answer of a variant, once it is there. An error: it could not be tried, which is no pass.
pub(super) type Trying = Pinned<Box<dyn Future<Output = Result<Answer>> + Send>>;

/// One thing that must not be accepted.
pub(super) struct Variant {
    /// Its name.
    pub(super) name: &'static str,
    /// Tries it.
    pub(super) tried: fn(Case) -> Trying,
}

/// The collector, and what all variants share.
pub(super) struct Site {
    /// Where it listens.
    pub(super) at: SocketAddr,
    /// How its owner reaches it.
    pub(super) door: Door,
    /// The same, as it is dialled.
    pub(super) address: Address,
    /// Who it is.
    pub(super) pin: Pin,
    /// May do everything.
    pub(super) owner: Token,
    /// Signs what the collector would sign.
    pub(super) authority: Authority,
    /// The key of the collector's authority, to sign what the collector never would.
    pub(super) signer: Signer,
    /// The authority of another collector.
    pub(super) other: Signer,
    /// Who that other collector is.
    pub(super) other_pin: Pin,
    /// A token of a person for each role.
    pub(super) people: BTreeMap<&'static str, String>,
    pub(super) expected: Mutex<Expected>,
}

/// What may be found afterwards, and what must be.
#[derive(Default)]
pub(super) struct Expected {
    /// The frames of each node that were sent in good faith: 1 to this one, of this boot.
    pub(super) frames: BTreeMap<NodeName, (BootId, u64)>,
    /// Lines that the audit log must have: who, and what.
    pub(super) audited: BTreeSet<(String, &'static str)>,
}

impl Site {
    /// Makes the people, and another collector's authority below this directory.
    pub(super) async fn new(door: &Door, aside: &Path) -> Result<Self> {
        let (at, data, address) = (door.listen, &door.data, door.address()?);
        let owner = Token::load(&casefile_collector::data::owner_token_below(data))?;
        std::fs::create_dir_all(aside).context("make a directory")?;
        let other = Authority::load_or_make(aside, casefile_tests::now())?;
        let mut site = Self {
            at,
            door: door.clone(),
            pin: owner.pin(),
            authority: door.authority()?,
            signer: Signer::of(&data.join("keys"))?,
            other: Signer::of(aside)?,
            other_pin: other.pin(),
            address,
            owner,
            people: BTreeMap::new(),
            expected: Mutex::default(),
        };
        for role in [Role::Viewer, Role::Requester, Role::Exporter, Role::Admin] {
            let made = site.token(person(role.name(), role)?, LONG).await?;
            site.people.insert(role.name(), made.token);
        }
        Ok(site)
    }

    pub(super) fn expected(&self) -> MutexGuard<'_, Expected> {
        // Nothing panics under it.
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A token that the owner makes.
    pub(super) async fn token(&self, subject: Subject, ttl: Duration) -> Result<NewToken> {
        let mut client = IdentityServiceClient::new(self.as_owner().await?);
        let made = client.create_token(v1::CreateTokenRequest::from(TokenAsk { subject, ttl })).await?;
        Ok(NewToken::try_from(made.into_inner())?)
    }

    /// A connection of the owner.
    pub(super) async fn as_owner(&self) -> Result<Api> {
        dial_as(&self.address, &self.owner, |endpoint| endpoint).await.context("connect as the owner")
    }

    /// A connection without a certificate.
    pub(super) async fn nobody(&self) -> Result<Channel> {
        dial(&self.address, &Me::Nobody(self.pin), |endpoint| endpoint).await.context("connect as nobody")
    }

    /// A connection of an agent.
    pub(super) async fn agent(&self, node: &NodeName) -> Result<Channel> {
        self.showing(self.certificate(node)?).await
    }

    /// A certificate as the collector gives them.
    pub(super) fn certificate(&self, node: &NodeName) -> Result<Certificate> {
        Ok(self.authority.agent(node, casefile_tests::now(), Duration::from_hours(1))?)
    }

    /// A connection that shows this certificate.
    pub(super) async fn showing(&self, certificate: Certificate) -> Result<Channel> {
        let node = certificate.node().clone();
        let channel = dial(&self.address, &Me::Agent(certificate), |endpoint| endpoint).await;
        channel.with_context(|| format!("connect as {node}"))
    }
}

/// A person with one role.
pub(super) fn person(name: &str, role: Role) -> Result<Subject> {
    let name = name.parse().map_err(|e| anyhow::anyhow!("{name}: {e}"))?;
    Ok(Subject::Person(Person { name, roles: vec![role] }))
}

/// One try of one variant.
#[derive(Clone)]
pub(super) struct Case {
    /// What all share.
    pub(super) site: Arc<Site>,
    /// What the uploads of this round share.
    pub(super) shared: Arc<Shared>,
    /// Which round.
    pub(super) round: u64,
    /// Which variant.
    pub(super) number: usize,
}

impl Case {
    /// The node whose certificate the attacker has.
    pub(super) fn node(&self) -> Result<NodeName> {
        Ok(format!("bad-{}-{}", self.round, self.number).parse()?)
    }

    /// The node that is attacked.
    pub(super) fn victim(&self) -> Result<NodeName> {
        Ok(format!("victim-{}-{}", self.round, self.number).parse()?)
    }

    /// The audit log must have this.
    pub(super) fn audited(&self, who: impl Into<String>, verb: Verb) {
        self.site.expected().audited.insert((who.into(), verb.word()));
    }
}
