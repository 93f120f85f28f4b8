//! An incident as it changes, as server-sent events (HTML, "Server-sent events"): `update` with the view, as gRPC streams it; the
//! stream ends behind the one that says that it is sealed or has failed.
//!
//! A comment comes when nothing changes, so that proxies and readers see that it lives; after [`MOST`] it ends, and whoever still
//! wants to know asks again: a token that was revoked meanwhile counts no more then.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::HeaderValue;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use casefile_proto::ids::IncidentId;

use super::asked::Asked;
use super::{Site, typed};
use crate::api::refused::{Kind, Refused};
use crate::api::verbs::{self, Told};

/// Time between two comments while nothing changes: proxies give up after a minute.
const BEAT: Duration = Duration::from_secs(15);

/// The longest that one stream lasts.
const MOST: Duration = Duration::from_secs(60 * 60);

/// Follows an incident.
pub(super) async fn follow(site: Arc<Site>, asked: Asked) -> Result<Response, Refused> {
    let id: IncidentId = asked.param("incident")?;
    let [] = asked.query([])?;
    let view = site.verbs.watch(id).await?;
    let mut answer = typed(StatusCode::OK, "text/event-stream", Body::empty());
    // nginx would collect the updates otherwise.
    answer.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    if asked.head.method != Method::HEAD {
        let feed = |outlet| async move {
            // Dropped in the middle of a wait, never of an event: the channel has it whole or not at all.
            let _ = tokio::time::timeout(MOST, verbs::follow(view, Some(BEAT), outlet, said)).await;
        };
        *answer.body_mut() = Body::from_stream(site.verbs.watchers.open(feed)?);
    }
    Ok(answer)
}

fn said(told: Told) -> Result<Bytes, Refused> {
    match told {
        Told::View(view) => {
            let text = serde_json::to_string(&view).map_err(|e| Refused::new(Kind::Internal, e.to_string()))?;
            // JSON has no line end of its own in it: they are escaped.
            Ok(format!("event: update\ndata: {text}\n\n").into())
        }
        Told::Beat => Ok(Bytes::from_static(b": nothing new\n\n")),
        Told::Stopping => Ok(Bytes::from_static(b"event: stopping\ndata: {}\n\n")),
    }
}
