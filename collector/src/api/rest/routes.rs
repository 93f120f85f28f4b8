//! What there is over HTTP and what each needs: the one list that the router and the authoriser go by.
//!
//! A test holds it against `openapi.json`, both ways. Every GET answers HEAD as well.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::response::Response;
use casefile_proto::identity::Role;

use super::asked::Asked;
use super::{Site, archive, document, entries, events, incidents, nodes, tokens};
use crate::api::refused::Refused;
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

const VIEWER: Need = Need::Role(Role::Viewer);
const REQUESTER: Need = Need::Role(Role::Requester);
const EXPORTER: Need = Need::Role(Role::Exporter);
const ADMIN: Need = Need::Role(Role::Admin);

/// Everything. How to add one: a line here, and its path in `openapi.json`.
pub const ALL: &[Operation] = &[
    operation!("document", Get, "/openapi.json", Need::Anybody, document::get),
    operation!("listIncidents", Get, "/api/v1/incidents", VIEWER, incidents::list),
    operation!("openIncident", Post, "/api/v1/incidents", REQUESTER, incidents::open),
    operation!("getIncident", Get, "/api/v1/incidents/{incident}", VIEWER, incidents::get),
    operation!("watchIncident", Get, "/api/v1/incidents/{incident}/events", VIEWER, events::follow),
    operation!("downloadArchive", Get, "/api/v1/incidents/{incident}/archive", EXPORTER, archive::download),
    operation!("listEntries", Get, "/api/v1/incidents/{incident}/entries", EXPORTER, entries::list),
    operation!("readEntry", Get, "/api/v1/incidents/{incident}/entries/{*path}", EXPORTER, entries::content),
    operation!("listNodes", Get, "/api/v1/nodes", VIEWER, nodes::list),
    operation!("revokeNode", Post, "/api/v1/nodes/{node}/revoke", ADMIN, nodes::revoke),
    operation!("listTokens", Get, "/api/v1/tokens", ADMIN, tokens::list),
    operation!("createToken", Post, "/api/v1/tokens", ADMIN, tokens::create),
    operation!("revokeToken", Delete, "/api/v1/tokens/{token}", ADMIN, tokens::revoke),
];
