//! Tokens over HTTP: made, listed, revoked, as over gRPC.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use casefile_proto::identity::{Subject, TokenAsk, TokenId, TokenInfo};
use casefile_proto::wire::v1;
use serde::{Deserialize, Serialize};

use super::asked::Asked;
use super::{Site, json};
use crate::api::refused::Refused;
use crate::api::verbs::malformed;
use crate::identity::{Denied, Identity, service};

/// Which token is wanted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// For a node that is to join, or for a person with roles.
    subject: Subject,
    /// How long it is taken.
    ttl_secs: u64,
}

/// A new token: what is kept of it, and the only time that it is told.
#[derive(Serialize)]
struct Made {
    token: String,
    #[serde(flatten)]
    kept: TokenInfo,
}

#[derive(Serialize)]
struct Listed {
    tokens: Vec<TokenInfo>,
}

/// Makes a token.
pub(super) async fn create(site: Arc<Site>, mut asked: Asked) -> Result<Response, Refused> {
    let [] = asked.query([])?;
    let Wanted { subject, ttl_secs } = asked.json().await?;
    let ask = TokenAsk { subject, ttl: Duration::from_secs(ttl_secs) };
    // Through the conversion, which knows every limit.
    let ask = TokenAsk::try_from(v1::CreateTokenRequest::from(ask)).map_err(|e| malformed(&e))?;
    let caller = asked.caller;
    let made = blocking(&site, move |identity| identity.create(ask, &caller)).await?;
    json(StatusCode::CREATED, &Made { token: made.token, kept: made.kept })
}

/// The tokens that are of use.
pub(super) async fn list(site: Arc<Site>, asked: Asked) -> Result<Response, Refused> {
    let [] = asked.query([])?;
    let tokens = blocking(&site, |identity| Ok(identity.list()?)).await?;
    json(StatusCode::OK, &Listed { tokens })
}

/// Revokes a token.
pub(super) async fn revoke(site: Arc<Site>, asked: Asked) -> Result<Response, Refused> {
    let id: TokenId = asked.param("token")?;
    let [] = asked.query([])?;
    let caller = asked.caller;
    blocking(&site, move |identity| identity.revoke(&id, &caller)).await?;
    let mut done = Response::new(Body::empty());
    *done.status_mut() = StatusCode::NO_CONTENT;
    Ok(done)
}

/// What the identity does, on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    site: &Site,
    call: impl FnOnce(&Identity) -> Result<T, Denied> + Send + 'static,
) -> Result<T, Refused> {
    service::blocking(&site.identity, call).await
}
