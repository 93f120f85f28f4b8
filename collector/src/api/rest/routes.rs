//! What there is over HTTP and what each needs: the one list that the router and the authoriser go by.
//!
//! A test holds it against `openapi.json`, both ways. Every GET answers HEAD as well.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::response::Response;

use super::asked::Asked;
use super::{Site, archive, connectivity, document, entries, events, incidents, nodes, tokens};
use crate::api::refused::Refused;
use crate::identity::rights::Right;
use crate::identity::routes::Need;

/// How it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Makes or does.
    Post,
    /// Takes away.
    Delete,
}

impl Method {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }
}

/// An answer that takes a while.
pub(super) type Answering = Pin<Box<dyn Future<Output = Result<Response, Refused>> + Send>>;

/// One thing that can be asked.
pub struct Operation {
    /// Its name in the document.
    pub id: &'static str,
    /// How.
    pub method: Method,
    /// Where; `{name}` is one part of the path, `{*name}` all that is left of it.
    pub path: &'static str,
    /// What whoever asks must be.
    pub need: Need,
    pub(super) serve: fn(Arc<Site>, Asked) -> Answering,
}

/// One operation.
macro_rules! operation {
    ($id:literal, $method:ident, $path:literal, $need:expr, $serve:path) => {
        Operation {
            id: $id,
            method: Method::$method,
            path: $path,
            need: $need,
            serve: |site, asked| Box::pin($serve(site, asked)),
        }
    };
}

const SEE: Need = Need::Right(Right::See);
const COLLECT: Need = Need::Right(Right::Collect);
const EXPORT: Need = Need::Right(Right::Export);
const REVOKE_NODES: Need = Need::Right(Right::RevokeNodes);
const LIST_TOKENS: Need = Need::Right(Right::ListTokens);
const CREATE_TOKENS: Need = Need::Right(Right::CreateTokens);
const DELETE_TOKENS: Need = Need::Right(Right::DeleteTokens);

/// Everything. How to add one: a line here, and its path in `openapi.json`.
pub const ALL: &[Operation] = &[
    operation!("document", Get, "/openapi.json", Need::Anybody, document::get),
    operation!("listIncidents", Get, "/api/v1/incidents", SEE, incidents::list),
    operation!("openIncident", Post, "/api/v1/incidents", COLLECT, incidents::open),
    operation!("getIncident", Get, "/api/v1/incidents/{incident}", SEE, incidents::get),
    operation!("watchIncident", Get, "/api/v1/incidents/{incident}/events", SEE, events::follow),
    operation!("downloadArchive", Get, "/api/v1/incidents/{incident}/archive", EXPORT, archive::download),
    operation!("listEntries", Get, "/api/v1/incidents/{incident}/entries", EXPORT, entries::list),
    operation!("readEntry", Get, "/api/v1/incidents/{incident}/entries/{*path}", EXPORT, entries::content),
    operation!("testConnectivity", Post, "/api/v1/connectivity", COLLECT, connectivity::test),
    operation!("listTargets", Get, "/api/v1/connectivity/targets", SEE, connectivity::targets),
    operation!("listNodes", Get, "/api/v1/nodes", SEE, nodes::list),
    operation!("revokeNode", Post, "/api/v1/nodes/{node}/revoke", REVOKE_NODES, nodes::revoke),
    operation!("listTokens", Get, "/api/v1/tokens", LIST_TOKENS, tokens::list),
    operation!("createToken", Post, "/api/v1/tokens", CREATE_TOKENS, tokens::create),
    operation!("revokeToken", Delete, "/api/v1/tokens/{token}", DELETE_TOKENS, tokens::revoke),
];
