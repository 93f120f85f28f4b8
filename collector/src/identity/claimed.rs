//! Certificates for nodes that a cluster vouches for.
//!
//! The cluster says which node of a name is the present one: when another one has come in its place, what the one before had to
//! show counts no more. A machine that was taken out and keeps its disk cannot go on speaking in the name of its successor.

use casefile_identity::authority::Authority;
use casefile_proto::identity::Enrolled;

use super::caller::Caller;
use super::{Denied, Identity, revoked};
use crate::audit::{Entry, Outcome, Verb};
use crate::cluster::agents::Claim;

impl Identity {
    /// A certificate for the node that the cluster says it is. Blocks.
    pub fn enrol_claimed(&self, claim: &Claim, request: &[u8], caller: &Caller) -> Result<Enrolled, Denied> {
        Authority::check(request)?;
        let Claim { node, uid, .. } = claim;
        let now = (self.clock)().wall;
        let who = format!("node {node}");
        let entry = caller.entry(Verb::Enrol, claim.to_string(), Outcome::Granted);
        self.audit.record(Entry { who: who.clone(), ..entry })?;
        if let Some(uid) = uid {
            if let Some(before) = self.tokens.node_uid(node)?.filter(|before| before != uid) {
                let what = format!("{who}: another node of this name, {uid}, is in the place of {before}");
                self.audit.record(Entry { who, ..caller.entry(Verb::RevokeNode, what, Outcome::Noticed) })?;
                tracing::warn!(%node, before, uid, "another node of this name: what the one before had to show counts no more");
                let until = revoked::second(now);
                self.tokens.revoke_node(node, until, now.before(self.life))?;
                self.revoked.add(node.clone(), until);
            }
            // Last: what was not done is done by the next one who comes.
            self.tokens.set_node_uid(node, uid, now)?;
        }
        Ok(self.issue(node, request)?)
    }
}
