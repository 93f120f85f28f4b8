//! What somebody may do who shows a token of the cluster: the API server says who he is, and the cluster's Roles what he may.
//!
//! Each answer counts for a moment, so that a page that asks a hundred things costs two questions; what was taken away ends with it.

use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use casefile_proto::identity::MAX_FOREIGN_TOKEN;
use casefile_proto::item::Digest;
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use super::asking::{Asking, Question, Unknown, WITHIN};
use super::remembered::Remembered;
use super::review::{self, Reviewed, User};
use crate::identity::rights::Right;
use crate::identity::user::UserName;

/// How long it counts that somebody is who he is, or may do something.
const YES_FOR: Duration = Duration::from_secs(30);

/// How long it counts that he is nobody, or may not.
const NO_FOR: Duration = Duration::from_secs(5);

/// Users that are remembered; each may be in hundreds of groups.
const USERS: usize = 512;

/// Rights that are remembered.
const RIGHTS: usize = 4_096;

/// What the cluster says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It does not know the token.
    Nobody,
    /// It knows whose it is, by a name that cannot be shown.
    Unshowable,
    /// It is his, and he may not.
    Denied(UserName),
    /// It is his, and he may; or nothing was asked for.
    Allowed(UserName),
}

/// Whose a token is; `None`: nobody's.
type Known = Option<Arc<User>>;

/// Says what users of the cluster may do.
pub struct People {
    asking: Asking,
    audiences: Vec<String>,
    namespace: String,
    users: Remembered<Digest, Known, Unknown>,
    rights: Remembered<(Digest, Right), bool, Unknown>,
}

impl People {
    /// With tokens for these audiences (none: the API server's own), and rights in this namespace.
    pub(super) fn new(asking: Asking, audiences: Vec<String>, namespace: String) -> Self {
        let (users, rights) = (Remembered::new(USERS), Remembered::new(RIGHTS));
        Self { asking, audiences, namespace, users, rights }
    }

    /// Whether whoever shows this token from there may do this; `None`: who he is.
    pub async fn may(&self, token: &str, right: Option<Right>, from: IpAddr) -> Result<Said, Unknown> {
        if token.is_empty() || token.len() > MAX_FOREIGN_TOKEN || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Ok(Said::Nobody);
        }
        // Both questions together.
        timeout(WITHIN, self.said(token, right, from)).await.unwrap_or(Err(Unknown::Away))
    }

    async fn said(&self, token: &str, right: Option<Right>, from: IpAddr) -> Result<Said, Unknown> {
        let digest = Digest(Sha256::digest(token).into());
        let Some(user) = self.known(Question::Token, &self.users, &digest, || self.user(token, from)).await? else {
            return Ok(Said::Nobody);
        };
        let Ok(name) = user.username.parse::<UserName>() else { return Ok(Said::Unshowable) };
        let Some(right) = right else { return Ok(Said::Allowed(name)) };
        let key = (digest, right);
        let may = self.known(Question::Access, &self.rights, &key, || self.has(&user, right)).await?;
        Ok(if may { Said::Allowed(name) } else { Said::Denied(name) })
    }

    /// What is remembered, or what is answered now.
    async fn known<K: Hash + Eq + Clone, V: Clone, F: Future<Output = Result<(V, Duration), Unknown>>>(
        &self,
        question: Question,
        answers: &Remembered<K, V, Unknown>,
        key: &K,
        ask: impl Fn() -> F,
    ) -> Result<V, Unknown> {
        let asked = AtomicBool::new(false);
        let asking = || {
            asked.store(true, Ordering::Relaxed);
            ask()
        };
        let answer = answers.get(key, || self.asking.now(), asking).await;
        if answer.is_ok() && !asked.load(Ordering::Relaxed) {
            self.asking.remembered(question);
        }
        answer
    }

    async fn user(&self, token: &str, from: IpAddr) -> Result<(Known, Duration), Unknown> {
        let paid = self.asking.pay(from)?;
        let asked = review::token(&self.asking.api, token, &self.audiences, WITHIN);
        let asked = self.asking.ask(Question::Token, asked).await;
        match asked {
            Ok(Reviewed::Of(user)) => {
                self.asking.pay_back(paid);
                Ok((Some(Arc::from(user)), YES_FOR))
            }
            Ok(Reviewed::NotTaken(why)) => {
                tracing::debug!(%from, why, "a token of the cluster is not taken");
                Ok((None, NO_FOR))
            }
            Err(unknown) => {
                self.asking.pay_back(paid);
                Err(unknown)
            }
        }
    }

    async fn has(&self, user: &User, right: Right) -> Result<(bool, Duration), Unknown> {
        let asked = review::access(&self.asking.api, user, right, &self.namespace, WITHIN);
        let may = self.asking.ask(Question::Access, asked).await?;
        Ok((may, if may { YES_FOR } else { NO_FOR }))
    }
}
