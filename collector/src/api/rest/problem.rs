//! How a refusal is told over HTTP: `application/problem+json` (RFC 9457), with a code for programs.

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{self, HeaderValue};
use axum::response::Response;
use serde::Serialize;

use super::typed;
use crate::api::refused::{Kind, Refused};

/// When whoever met a limit may try again, in seconds.
const AGAIN_AFTER: &str = "5";

/// A problem. There is no `type`: it is `about:blank` then (§4.2.1), and `code` is what a program goes by.
#[derive(Debug, Serialize)]
struct Problem<'a> {
    title: &'static str,
    status: u16,
    code: &'static str,
    detail: &'a str,
}

/// The answer that says it.
pub(super) fn refusal(refused: &Refused) -> Response {
    let kind = refused.kind;
    let problem = Problem { title: kind.title(), status: kind.http(), code: kind.code(), detail: &refused.text };
    // Three texts and a number: there is nothing in it that JSON cannot say.
    let text = serde_json::to_vec(&problem).unwrap_or_else(|e| unreachable!("{e}"));
    let status = StatusCode::from_u16(kind.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = typed(status, "application/problem+json", Body::from(text));
    let more = match kind {
        Kind::Unauthenticated => Some((header::WWW_AUTHENTICATE, "Bearer realm=\"casefile\"")),
        Kind::TooMany => Some((header::RETRY_AFTER, AGAIN_AFTER)),
        Kind::TooSlow => Some((header::CONNECTION, "close")),
        _ => None,
    };
    if let Some((name, value)) = more {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}
