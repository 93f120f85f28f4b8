//! What is wanted of the nodes' side for many nodes at once: each call has a deadline, and none waits for another.

use std::sync::Arc;
use std::time::Duration;

use casefile_proto::ids::{IncidentId, NodeName, RequestId};
use casefile_proto::time::WallTime;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::fleet::Fleet;
use crate::chain::chain;

/// How long one call to the nodes' side may take. It only hands over; a longer wait means that something hangs.
pub(super) const CALL_DEADLINE: Duration = Duration::from_secs(5);

/// Keeps the last words of each of these nodes, from then on of its clock.
pub(super) async fn pin_all(fleet: &Arc<dyn Fleet>, id: IncidentId, pins: impl Iterator<Item = (NodeName, WallTime)>) {
    let mut calls = JoinSet::new();
    for (node, from) in pins {
        let fleet = Arc::clone(fleet);
        calls.spawn(async move {
            match timeout(CALL_DEADLINE, fleet.pin(&node, id, from)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(incident = %id, %node, error = chain(&error), "last words are not pinned");
                }
                Err(_) => tracing::warn!(incident = %id, %node, "last words are not pinned in time"),
            }
        });
    }
    while calls.join_next().await.is_some() {}
}

/// They need not be kept any more.
pub(super) async fn unpin_all(fleet: &Arc<dyn Fleet>, id: IncidentId, nodes: impl Iterator<Item = NodeName>) {
    let mut calls = JoinSet::new();
    for node in nodes {
        let fleet = Arc::clone(fleet);
        calls.spawn(async move {
            match timeout(CALL_DEADLINE, fleet.unpin(&node, id)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(incident = %id, %node, error = chain(&error), "last words stay pinned");
                }
                Err(_) => tracing::warn!(incident = %id, %node, "last words were not unpinned in time"),
            }
        });
    }
    while calls.join_next().await.is_some() {}
}

/// Forgets these requests; when it returns, their spools are at rest.
pub(super) async fn cancel_all(fleet: &dyn Fleet, cancels: Vec<(NodeName, RequestId)>) {
    for (node, request) in cancels {
        if timeout(CALL_DEADLINE, fleet.cancel(&node, request)).await.is_err() {
            tracing::warn!(%node, %request, "a request was not cancelled in time");
        }
    }
}
