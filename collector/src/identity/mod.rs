//! Identity: who a connection or a token is, and what that one may do.
//!
//! [`authorise`] stands in front of every method and decides by [`routes`]; [`service`] is what the API offers about tokens
//! and certificates. Here: the authority, the tokens of people in memory, and the owner's token in a file that only the
//! owner of the data directory can read. Everything is recorded in the audit log before it is done.

pub mod authorise;
pub mod caller;
mod claimed;
pub mod revoked;
pub mod rights;
pub mod routes;
pub mod service;
pub mod user;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use casefile_identity::authority::{Authority, AuthorityError, Holder, SERVER_LIFE};
use casefile_identity::certificate::{Certificate, CertificateError};
use casefile_identity::serve::{self, Shown};
use casefile_identity::token::{self, Kind, Pin, Token};
use casefile_proto::identity::{
    Credential, EnrolAsk, Enrolled, NewToken, Person, Role, Subject, TokenAsk, TokenId, TokenInfo,
};
use casefile_proto::ids::NodeName;
use casefile_proto::item::Digest;
use casefile_proto::time::WallTime;

use crate::audit::{Audit, AuditError, Entry, Outcome, Sums, Verb};
use crate::ingest::Clock;
use crate::store::{StoreError, Tokens};
use caller::{Caller, Who};
use revoked::Revoked;

/// How long a certificate of an agent counts when nothing is said. It is renewed at two thirds of it.
pub const CERTIFICATE_LIFE: Duration = Duration::from_hours(24);

/// What the owner of the data directory is called in the audit log.
pub const OWNER: &str = "owner";

/// The longest that a join token may be lying around.
const MAX_JOIN: Duration = Duration::from_hours(24);

/// The most people in memory: as many as there can be tokens.
type People = HashMap<Digest, (Arc<Person>, WallTime)>;

/// Why a collector has no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// There is no authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The index did not say which tokens there are.
    #[error("read the tokens in the index")]
    Store(#[from] StoreError),
    /// The owner's token cannot be written.
    #[error("write the owner's token to {path}{}", crate::data::hint(source))]
    Owner {
        /// The file.
        path: std::path::PathBuf,
        /// What the file system said.
        #[source]
        source: std::io::Error,
    },
}

/// Why a token or a certificate was not given.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// The token is none of ours, was used, or has expired: which, a stranger is not told.
    #[error(
        "the join token is not known, was used, or has expired: ask for another one with casefile-collector token create"
    )]
    Token,
    /// The token of a service account is of no agent: why, a stranger is not told.
    #[error(
        "the service account token does not prove an agent of this collector: is it for the audience and of the service \
         account in the collector's configuration, and does its pod still run? The collector's log says more"
    )]
    ServiceAccount,
    /// The certificate is revoked, or has expired while its connection stood.
    #[error("the certificate of this connection does not count any more: join with a new token")]
    NoLonger,
    /// There is neither a token nor a certificate.
    #[error("an enrolment needs a join token, or a connection with the certificate that is to be renewed")]
    NoCredential,
    /// The request for a certificate is wrong, or signing failed.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A join token for longer than makes sense.
    #[error("a join token lives for at most 24h: it is used once, by a node that is about to join")]
    TooLong,
    /// There is no token of this id.
    #[error("there is no token {0}")]
    NoToken(TokenId),
    /// The index did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be recorded, so it is not done.
    #[error("the audit log cannot be written, so this is not done")]
    Audit(#[from] AuditError),
    /// There are no random numbers.
    #[error("read random numbers")]
    Random(#[source] std::io::Error),
}

/// Who everybody is. Calls block unless they say otherwise.
pub struct Identity {
    authority: Authority,
    shown: Arc<Shown>,
    tokens: Arc<dyn Tokens>,
    people: RwLock<People>,
    revoked: Arc<Revoked>,
    audit: Arc<Audit>,
    clock: Clock,
    life: Duration,
    sums: Sums,
}

impl Identity {
    /// Opens that of a data directory: the authority in `keys`, the tokens in the index; and writes a new token for the owner.
    pub fn open(
        keys: &Path,
        tokens: Arc<dyn Tokens>,
        audit: Arc<Audit>,
        clock: Clock,
        life: Duration,
    ) -> Result<Self, IdentityError> {
        let now = clock().wall;
        let authority = Authority::load_or_make(keys, now)?;
        let shown = Shown::new(authority.server(now)?);
        let revoked = Arc::new(Revoked::new(tokens.revoked_nodes()?));
        let mut people: People = tokens.tokens(now)?.into_iter().filter_map(person).collect();
        let path = keys.join("owner.token");
        let written = Token::new(Kind::Api, authority.pin()).and_then(|owner| {
            token::save(&owner, &path)?;
            Ok(owner)
        });
        let owner = written.map_err(|source| IdentityError::Owner { path, source })?;
        let name = OWNER.parse().unwrap_or_else(|_| unreachable!("it is a name"));
        let everything = Person { name, roles: vec![Role::Admin] };
        people.insert(owner.digest(), (Arc::new(everything), WallTime::MAX));
        let (people, sums) = (RwLock::new(people), Sums::default());
        Ok(Self { authority, shown, tokens, people, revoked, audit, clock, life, sums })
    }

    /// What everybody who connects must know.
    pub const fn pin(&self) -> Pin {
        self.authority.pin()
    }

    /// The configuration of the listener's TLS.
    pub fn tls(&self) -> Arc<tokio_rustls::rustls::ServerConfig> {
        Arc::new(serve::server(&self.authority, Arc::clone(&self.shown)))
    }

    /// The same for HTTP: no certificate is asked for, whoever asks shows a token.
    pub fn tls_of_http(&self) -> Arc<tokio_rustls::rustls::ServerConfig> {
        Arc::new(serve::http(Arc::clone(&self.shown)))
    }

    /// Another certificate of our own: the old one is good for a long time still, and connections that stand go on.
    pub fn renew_own(&self) -> Result<(), AuthorityError> {
        self.shown.replace(self.authority.server((self.clock)().wall)?);
        Ok(())
    }

    /// How often [`Identity::renew_own`] is due.
    pub const RENEW_OWN_EVERY: Duration = Duration::from_secs(SERVER_LIFE.as_secs() / 3);

    /// The audit log.
    pub const fn audit(&self) -> &Arc<Audit> {
        &self.audit
    }

    /// What the audit log is told of something that was refused; `None`: it is counted, and told with the next. Does not
    /// block.
    pub fn refused(&self, caller: &Caller, verb: Verb, what: &str) -> Option<Entry> {
        let times = self.sums.count(&caller.who.to_string(), what, Instant::now())?;
        Some(Entry { times, ..caller.entry(verb, what.to_owned(), Outcome::Denied) })
    }

    /// Whether a certificate counts no more.
    pub fn has_expired(&self, holder: &Holder) -> bool {
        holder.expires <= (self.clock)().wall
    }

    /// Whose certificates were revoked.
    pub const fn revoked(&self) -> &Arc<Revoked> {
        &self.revoked
    }

    /// The person whose token this text is. Does not block.
    pub fn person(&self, text: &str) -> Option<Arc<Person>> {
        let token: Token = text.parse().ok()?;
        // The digest is looked up, so nothing of the secret is compared.
        let people = self.people.read().unwrap_or_else(PoisonError::into_inner);
        let (person, expires) = people.get(&token.digest())?;
        let mine = token.kind() == Kind::Api && token.pin() == self.pin() && (self.clock)().wall < *expires;
        mine.then(|| Arc::clone(person))
    }

    /// A certificate for whoever this credential names.
    pub fn enrol(&self, ask: EnrolAsk, caller: &Caller) -> Result<Enrolled, Denied> {
        let now = (self.clock)().wall;
        match (&ask.credential, &caller.who) {
            (Credential::Join(text), _) => {
                let token: Token = text.parse().map_err(|_| Denied::Token)?;
                let digest = token.digest();
                let id = token::id(&digest);
                // The request is looked at first: a token is not used up for one that gets nothing.
                Authority::check(&ask.request)?;
                let mine = token.kind() == Kind::Join && token.pin() == self.pin();
                let spent = if mine { self.tokens.spend_token(&digest, now)? } else { None };
                let Some(TokenInfo { subject: Subject::Node(node), .. }) = spent else {
                    if let Some(entry) = self.refused(caller, Verb::Enrol, &format!("token {id}")) {
                        self.audit.record(entry)?;
                    }
                    return Err(Denied::Token);
                };
                let entry = caller.entry(Verb::Enrol, format!("token {id}"), Outcome::Granted);
                self.audit.record(Entry { who: format!("node {node}"), ..entry })?;
                Ok(self.issue(&node, &ask.request)?)
            }
            // The cluster was to be asked first.
            (Credential::ServiceAccount(_), _) => Err(Denied::ServiceAccount),
            // A connection may outlive what it was begun with.
            (Credential::Certificate, Who::Node(holder)) if self.has_expired(holder) || self.revoked.covers(holder) => {
                Err(Denied::NoLonger)
            }
            // Of itself, over itself: nothing is granted that was not there.
            (Credential::Certificate, Who::Node(holder)) => Ok(self.issue(&holder.node, &ask.request)?),
            (Credential::Certificate, _) => Err(Denied::NoCredential),
        }
    }

    /// Makes a token.
    pub fn create(&self, ask: TokenAsk, caller: &Caller) -> Result<NewToken, Denied> {
        let (kind, what) = match &ask.subject {
            Subject::Node(_) if ask.ttl > MAX_JOIN => return Err(Denied::TooLong),
            Subject::Node(node) => (Kind::Join, format!("for node {node}")),
            Subject::Person(person) => {
                let roles: Vec<_> = person.roles.iter().map(|role| role.name()).collect();
                (Kind::Api, format!("for {} as {}", person.name, roles.join(", ")))
            }
        };
        let token = Token::new(kind, self.pin()).map_err(Denied::Random)?;
        let (digest, created) = (token.digest(), (self.clock)().wall);
        let id = token::id(&digest);
        self.audit.record(caller.entry(Verb::CreateToken, format!("{id} {what}"), Outcome::Granted))?;
        let kept = TokenInfo { id, subject: ask.subject, created, expires: created.after(ask.ttl) };
        self.tokens.add_token(&digest, &kept)?;
        if let Some((digest, held)) = person((digest, kept.clone())) {
            let mut people = self.people.write().unwrap_or_else(PoisonError::into_inner);
            people.retain(|_, (_, expires)| *expires > created);
            people.insert(digest, held);
        }
        Ok(NewToken { token: token.reveal(), kept })
    }

    /// The tokens that are of use.
    pub fn list(&self) -> Result<Vec<TokenInfo>, StoreError> {
        Ok(self.tokens.tokens((self.clock)().wall)?.into_iter().map(|(_, kept)| kept).collect())
    }

    /// Revokes a token: what its person asks for from now on is refused.
    pub fn revoke(&self, id: &TokenId, caller: &Caller) -> Result<(), Denied> {
        self.audit.record(caller.entry(Verb::RevokeToken, id.to_string(), Outcome::Granted))?;
        let removed = self.tokens.remove_token(id)?;
        self.people.write().unwrap_or_else(PoisonError::into_inner).retain(|digest, _| token::id(digest) != *id);
        removed.map(drop).ok_or_else(|| Denied::NoToken(id.clone()))
    }

    /// Revokes what a node has: its certificates count no more, nor do its join tokens, and it must join anew. Whether a node
    /// of that name has ever streamed to this collector.
    pub fn revoke_node(&self, node: &NodeName, caller: &Caller) -> Result<bool, Denied> {
        self.audit.record(caller.entry(Verb::RevokeNode, format!("node {node}"), Outcome::Granted))?;
        let now = (self.clock)().wall;
        let until = revoked::second(now);
        let is_known = self.tokens.revoke_node(node, until, now.before(self.life))?;
        self.revoked.add(node.clone(), until);
        Ok(is_known)
    }

    /// A certificate for the agent in this very process.
    pub fn agent(&self, node: &NodeName) -> Result<Certificate, CertificateError> {
        self.authority.agent(node, self.issued_at(node), self.life)
    }

    fn issue(&self, node: &NodeName, request: &[u8]) -> Result<Enrolled, AuthorityError> {
        self.authority.issue(node, request, self.issued_at(node), self.life)
    }

    /// Now, or as soon as a new certificate of this node is told from those that were revoked.
    fn issued_at(&self, node: &NodeName) -> WallTime {
        let now = (self.clock)().wall;
        self.revoked.earliest(node).map_or(now, |earliest| earliest.max(now))
    }
}

fn person((digest, kept): (Digest, TokenInfo)) -> Option<(Digest, (Arc<Person>, WallTime))> {
    match kept.subject {
        Subject::Person(person) => Some((digest, (Arc::new(person), kept.expires))),
        Subject::Node(_) => None,
    }
}

#[cfg(test)]
mod tests;
