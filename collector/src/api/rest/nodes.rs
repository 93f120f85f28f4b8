//! Nodes over HTTP: who is recorded, and revoking what one has to show.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use casefile_proto::ids::NodeName;
use serde::Serialize;

use super::asked::Asked;
use super::{Site, json, tokens};
use crate::api::refused::Refused;

/// What came of a revocation.
#[derive(Serialize)]
struct Revoked {
    /// Whether a node of that name has ever streamed to this collector.
    is_known: bool,
}

/// Every node.
pub(super) async fn list(site: Arc<Site>, asked: Asked) -> Result<Response, Refused> {
    let [] = asked.query([])?;
    json(StatusCode::OK, &site.verbs.nodes())
}

/// Revokes the certificates and join tokens of a node.
pub(super) async fn revoke(site: Arc<Site>, asked: Asked) -> Result<Response, Refused> {
    let node: NodeName = asked.param("node")?;
    let [] = asked.query([])?;
    let caller = asked.caller;
    let is_known = tokens::blocking(&site, move |identity| identity.revoke_node(&node, &caller)).await?;
    json(StatusCode::OK, &Revoked { is_known })
}
