//! The collector about itself: `/metrics`, `/healthz` and `/readyz` over HTTP on an address of their own, and gRPC health
//! beside the other services.
//!
//! [`health`] asks and judges, [`metrics`] puts the figures together, [`scraper`] knows who may read them from elsewhere,
//! [`listener`] answers within limits, [`grpc`] tells those who ask over gRPC. Nothing here changes anything.

pub mod grpc;
pub mod health;
mod listener;
pub mod metrics;
mod once;
mod process;
pub mod scraper;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::http::request;
use hyper::{Method, Response, StatusCode};

pub use listener::serve;

use crate::api::refused::{Kind, Refused};
use crate::identity::authorise::Authorise;
use crate::identity::caller::Peer;
use crate::identity::rights::Right;
use crate::identity::routes::Need;
use crate::stats::text;
use health::{Health, Report};
use metrics::Metrics;
use scraper::Scraper;

/// What is answered from.
pub struct Site {
    /// How the collector does.
    pub health: Health,
    /// Its figures.
    pub metrics: Metrics,
    /// Who may read them from elsewhere.
    pub authorise: Authorise,
    /// What else may, and nothing but them.
    pub scraper: Scraper,
}

/// Who asks, and what.
struct Asked<'a> {
    from: SocketAddr,
    head: &'a request::Parts,
}

/// Whether the figures may be read: by this machine, by the scraper, and by whoever shows the token of a viewer. They name no
/// node and no incident, but they say how large and how busy a cluster is.
async fn may_read_metrics(asked: &Asked<'_>, site: &Site) -> Result<(), Refused> {
    if asked.from.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    let headers = &asked.head.headers;
    let shown = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    // The scraper's first: the cluster is not asked about a token that it does not know.
    if let Some(shown) = shown
        && site.scraper.is(shown).await
    {
        return Ok(());
    }
    let from = Peer::new(asked.from, None, Arc::default());
    let admitted = site.authorise.admit(Some(Need::Right(Right::ReadMetrics)), &from, headers).await;
    admitted.map(drop).map_err(|(_, refused)| refused)
}

/// The forms of a health report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Json,
}

impl Form {
    fn wanted(headers: &HeaderMap) -> Self {
        let json = |value: &HeaderValue| value.to_str().is_ok_and(|v| v.contains("application/json"));
        if headers.get_all(ACCEPT).iter().any(json) { Self::Json } else { Self::Text }
    }
}

async fn answer(site: &Arc<Site>, asked: Asked<'_>) -> Response<Full<Bytes>> {
    if !matches!(asked.head.method, Method::GET | Method::HEAD) {
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "GET it\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    let form = Form::wanted(&asked.head.headers);
    match asked.head.uri.path() {
        "/healthz" => told(&site.health.alive().await, form),
        "/readyz" => told(&site.health.ready().await, form),
        "/metrics" => match may_read_metrics(&asked, site).await {
            Ok(()) => typed(StatusCode::OK, text::CONTENT_TYPE, site.metrics.text(&site.health).await),
            // Nobody could say whether he may.
            Err(Refused { kind: Kind::Unavailable | Kind::TooMany, text }) => {
                plain(StatusCode::SERVICE_UNAVAILABLE, &format!("{text}\n"))
            }
            Err(_) => {
                plain(StatusCode::FORBIDDEN, "metrics are for this machine, and for the token of a viewer or scraper\n")
            }
        },
        _ => plain(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n"),
    }
}

fn told(report: &Report, form: Form) -> Response<Full<Bytes>> {
    let status = if report.is_good() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    match form {
        Form::Text => plain(status, &report.text()),
        Form::Json => typed(status, "application/json", report.json()),
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    typed(status, "text/plain; charset=utf-8", text.to_owned())
}

fn typed(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
