//! The API as OpenAPI 3.1 describes it, at `/openapi.json`: a text that is kept beside the code, and held against it by tests.

use std::sync::Arc;

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;

use super::asked::Asked;
use super::{Site, typed};
use crate::api::refused::Refused;

/// The document.
pub const TEXT: &str = include_str!("openapi.json");

/// Gives it to anybody: it tells of nobody.
pub(super) async fn get(_site: Arc<Site>, asked: Asked) -> Result<Response, Refused> {
    let [] = asked.query([])?;
    Ok(typed(StatusCode::OK, "application/json", Body::from(TEXT)))
}
