//! What every question about a token passes: so many at a time, so many bad ones an address, and an answer within a deadline.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use casefile_proto::time::BootTime;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::failures::{Failures, Paid};
use super::{Api, ApiError};
use crate::ingest::Clock;
use crate::stats::Stats;
use crate::stats::figure::Label;

/// An answer comes within this, all that it takes together, or there is none.
pub(super) const WITHIN: Duration = Duration::from_secs(5);

/// Questions at a time; others wait, within their deadline.
const AT_A_TIME: usize = 8;

/// That an API server does not answer is told this often, however many ask.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Why nobody can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// The API server is away, slow, fails, or does not let us ask. Our log says which.
    #[error(
        "the cluster's API server does not say who this is, so nothing is allowed; try again (the collector's log says why)"
    )]
    Away,
    /// Too many bad tokens came from this address.
    #[error("too many tokens that the cluster does not know came from this address: try again in a moment")]
    TooMany,
}

/// What is asked about somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Whose a token is, and of which node.
    Token,
    /// Whether its owner may do something.
    Access,
}

impl Label for Question {
    const NAME: &'static str = "question";
    const ALL: &'static [Self] = &[Self::Token, Self::Access];

    fn value(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Access => "access",
        }
    }
}

/// Counts a question as failed, unless it was answered: also when whoever asked could wait no longer.
struct Unanswered<'a>(Option<(&'a Stats, Question)>);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some((stats, question)) = self.0 {
            stats.reviews_failed.of(question).one();
        }
    }
}

/// Asks one API server.
pub(super) struct Asking {
    pub(super) api: Api,
    pub(super) clock: Clock,
    stats: Arc<Stats>,
    turns: Semaphore,
    failures: Mutex<Failures>,
    told: Mutex<Option<BootTime>>,
}

impl Asking {
    pub(super) fn new(api: Api, clock: Clock, stats: Arc<Stats>) -> Self {
        let turns = Semaphore::new(AT_A_TIME);
        Self { api, clock, stats, turns, failures: Mutex::default(), told: Mutex::default() }
    }

    /// A question was answered out of memory.
    pub(super) fn remembered(&self, question: Question) {
        self.stats.reviews_remembered.of(question).one();
    }

    pub(super) fn now(&self) -> BootTime {
        (self.clock)().boot
    }

    /// Pays for a token that is shown from there.
    pub(super) fn pay(&self, from: IpAddr) -> Result<Paid, Unknown> {
        let now = self.now();
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).pay(from, now).ok_or(Unknown::TooMany)
    }

    /// It was good, or nobody could say.
    pub(super) fn pay_back(&self, paid: Paid) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).pay_back(paid);
    }

    /// Asks when it is its turn. That nobody answers is told our log.
    pub(super) async fn ask<T>(
        &self,
        question: Question,
        asked: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, Unknown> {
        self.stats.reviews_asked.of(question).one();
        let mut unanswered = Unanswered(Some((&self.stats, question)));
        let turn = async {
            // Never closed.
            let _turn = self.turns.acquire().await;
            asked.await
        };
        match timeout(WITHIN, turn).await.unwrap_or(Err(ApiError::Late(WITHIN))) {
            Ok(answer) => {
                unanswered.0 = None;
                Ok(answer)
            }
            Err(error) => {
                self.tell(&error);
                Err(Unknown::Away)
            }
        }
    }

    fn tell(&self, error: &ApiError) {
        let now = self.now();
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.is_some_and(|at| now.since(at) < TELL_EVERY) {
                return;
            }
            *told = Some(now);
        }
        let help = if error.is_forbidden() {
            "the collector's service account needs the cluster role system:auth-delegator, and to get pods in the agents' namespace"
        } else {
            "agents that have a certificate and people with a token of this collector go on"
        };
        tracing::error!(%error, help, "the API server is not heard: nobody new is let in");
    }
}
