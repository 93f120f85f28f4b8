//! Tests of connectivity that the collector asks for: a name resolved, TCP connected, a TLS handshake, the head of an answer of
//! HTTP. Off unless the configuration of this very agent says `test_connectivity = true`.
//!
//! Whatever the collector says, here are the limits: how many at a time and how many a second ([`budget`]), how long, which addresses
//! never ([`allowed`]), how much is read. No proxy is used, no redirect followed, no body read, nothing sent but one GET.

mod allowed;
mod budget;
pub mod http;
mod lookup;
mod tester;

use std::sync::Arc;
use std::time::Instant;

use casefile_identity::stranger::Strangers;
use casefile_proto::connectivity::{
    Ability, ConnectivityAnswer, ConnectivityAsk, MAX_DEADLINE, NodeOutcome, Untested, UntestedReason,
};
use tokio::task::JoinSet;

pub use allowed::Reach;
pub use budget::{AT_A_TIME, PER_SECOND};

use crate::clock::Clock;
use crate::stats::Stats;
use budget::Budget;
use tester::Tester;

/// What the configuration allows.
#[derive(Clone)]
pub struct Allowed {
    /// Whether addresses of this machine may be tested too.
    pub reach: Reach,
    /// With which roots certificates are checked, if with any.
    pub strangers: Strangers,
}

impl std::fmt::Debug for Allowed {
    /// Without the roots, of which there may be hundreds.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Allowed").field("reach", &self.reach).finish_non_exhaustive()
    }
}

/// All tests of an agent. Outlives sessions, so that its limits do.
pub struct Tests {
    tester: Option<Arc<Tester>>,
    budget: Budget,
    running: JoinSet<ConnectivityAnswer>,
}

impl Tests {
    /// As the configuration allows them.
    pub fn new(allowed: Option<Allowed>, clock: Clock, stats: Arc<Stats>) -> Self {
        let tester = allowed.map(|allowed| Arc::new(Tester::new(allowed, clock, stats)));
        Self { tester, budget: Budget::new(Instant::now()), running: JoinSet::new() }
    }

    /// What hello says.
    pub fn ability(&self) -> Ability {
        if self.tester.is_some() { Ability::On } else { Ability::Off }
    }

    /// Begins a test; an answer is there at once if it is not done.
    pub fn ask(&mut self, ask: ConnectivityAsk) -> Option<ConnectivityAnswer> {
        let ConnectivityAsk { test, target, deadline } = ask;
        let untested = |reason, detail: String| {
            let outcome = NodeOutcome::Untested(Untested { reason, detail });
            Some(ConnectivityAnswer { test, outcome })
        };
        let Some(tester) = self.tester.clone() else { return untested(UntestedReason::SwitchedOff, String::new()) };
        if let Err(why) = self.budget.take(self.running.len(), Instant::now()) {
            return untested(UntestedReason::Busy, why);
        }
        if let Err(why) = lookup::may_begin(tester.stats()) {
            return untested(UntestedReason::Busy, why);
        }
        self.running.spawn(async move {
            let steps = tester.test(&target, deadline.min(MAX_DEADLINE)).await;
            ConnectivityAnswer { test, outcome: NodeOutcome::Tested(Box::new(steps)) }
        });
        None
    }

    /// The next that has ended. May be dropped while waiting: nothing is lost.
    pub async fn next(&mut self) -> ConnectivityAnswer {
        loop {
            match self.running.join_next().await {
                Some(Ok(answer)) => return answer,
                // The collector finds that there was no answer.
                Some(Err(error)) => tracing::error!(%error, "a test of connectivity broke down"),
                None => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests;
