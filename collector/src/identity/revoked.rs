//! Nodes whose certificates of before do not count any more: a key was stolen, or a machine is gone for good.
//!
//! A certificate ends by itself after a day, but whoever holds it could renew it for ever. A revocation is kept for as long
//! as a certificate of before it could count, and no list of them is handed out: there is one collector, and it knows.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use casefile_identity::authority::Holder;
use casefile_proto::ids::NodeName;
use casefile_proto::time::{NANOS_PER_SEC, WallTime};

/// Up to when certificates of which nodes are revoked.
#[derive(Debug, Default)]
pub struct Revoked(RwLock<HashMap<NodeName, WallTime>>);

impl Revoked {
    /// As they were kept.
    pub(super) fn new(kept: Vec<(NodeName, WallTime)>) -> Self {
        Self(RwLock::new(kept.into_iter().collect()))
    }

    /// Whether this certificate does not count any more.
    pub fn covers(&self, holder: &Holder) -> bool {
        self.until(&holder.node).is_some_and(|until| holder.issued <= until)
    }

    /// The earliest that a certificate of this node may be issued, so that it is not one of before.
    pub(super) fn earliest(&self, node: &NodeName) -> Option<WallTime> {
        self.until(node).map(|until| until.offset(NANOS_PER_SEC))
    }

    /// What was issued until this second does not count any more: certificates tell whole seconds.
    pub(super) fn add(&self, node: NodeName, until: WallTime) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(node, until);
    }

    fn until(&self, node: &NodeName) -> Option<WallTime> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(node).copied()
    }
}

/// The whole second that a time is in.
pub(super) fn second(at: WallTime) -> WallTime {
    WallTime::from_secs(at.nanos().div_euclid(NANOS_PER_SEC))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn issued(node: &str, at: WallTime) -> Holder {
        Holder { node: node.parse().unwrap(), issued: at, expires: at.after(Duration::from_hours(24)) }
    }

    #[test]
    fn what_was_issued_until_then_is_revoked_and_what_comes_after_is_not() {
        let revoked = Revoked::default();
        let now = WallTime::from_nanos(100 * NANOS_PER_SEC + 400_000_000);
        assert!(!revoked.covers(&issued("a", second(now))));
        revoked.add("a".parse().unwrap(), second(now));
        assert!(revoked.covers(&issued("a", second(now))) && revoked.covers(&issued("a", WallTime::from_secs(1))));
        assert!(!revoked.covers(&issued("b", second(now))), "another node's");
        let next = revoked.earliest(&"a".parse().unwrap()).unwrap();
        assert!(next > second(now) && !revoked.covers(&issued("a", second(next))), "in the same second still");
    }
}
