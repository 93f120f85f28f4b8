//! The API over HTTP: the same verbs as over gRPC, in JSON, behind the same authoriser and told to the same audit log.
//!
//! [`routes`] is the list of what there is, one file has one subject, [`listener`] takes the connections. Here: what every
//! request passes and every answer carries. There are no cookies: whoever asks shows a token in `Authorization`, so a page of
//! somebody else cannot ask in a person's name.

pub mod archive;
mod asked;
pub mod connectivity;
pub mod document;
pub mod entries;
pub mod events;
pub mod host;
pub mod incidents;
pub mod listener;
pub mod nodes;
pub mod page;
pub mod problem;
pub mod range;
pub mod routes;
mod shelf;
pub mod tokens;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, RawPathParams, Request};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use tokio::time::timeout;
use tower_service::Service;

use super::refused::{Kind, Refused};
use super::verbs::Verbs;
use crate::identity::Identity;
use crate::identity::authorise::{Authorise, NO_METHOD};
use crate::identity::caller::Peer;
use crate::stats::{Class, Stats};
use asked::Asked;
use host::Names;
use page::Page;
use routes::Operation;

/// An answer is begun within this: a body has come, the index has answered, what is about to be done is recorded.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// What every answer carries unless it says otherwise: nothing of it is a page, nothing is kept, nobody embeds it.
const ALWAYS: [(HeaderName, &str); 6] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CACHE_CONTROL, "no-store"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'; sandbox"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// What is answered from.
pub struct Site {
    /// What can be done with incidents and nodes.
    pub verbs: Arc<Verbs>,
    /// Tokens, and certificates of nodes.
    pub identity: Arc<Identity>,
    /// In front of every route.
    pub authorise: Authorise,
    /// The hosts that this is.
    pub names: Names,
    /// The page.
    pub page: Page,
    /// Counts what is answered.
    pub stats: Arc<Stats>,
}

/// The site with its routes.
#[derive(Clone)]
pub struct Front {
    site: Arc<Site>,
    router: Router,
}

impl Front {
    /// Every route of [`routes::ALL`], and those of the page.
    pub fn new(site: Site) -> Self {
        let site = Arc::new(site);
        let mut router = Router::new();
        for operation in routes::ALL.iter().chain(page::ALL) {
            let here = Arc::clone(&site);
            let serve = move |request: Request| served(Arc::clone(&here), operation, request);
            router = router.route(operation.path, on(filter(operation.method), serve));
        }
        let here = Arc::clone(&site);
        let nowhere = move |request: Request| nowhere(Arc::clone(&here), request);
        let no_method = async || refusal(&Refused::new(Kind::NoMethod, "see /openapi.json for what can be done here"));
        let router = router.fallback(nowhere).method_not_allowed_fallback(no_method);
        Self { site, router }
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request) -> Response {
        let mut answer = match self.site.names.check(request.uri(), request.headers()) {
            Ok(()) => self.router.clone().call(request).await.unwrap_or_else(|never| match never {}),
            Err(refused) => {
                // Somebody's page may be trying: that is worth a line.
                if let Some(peer) = request.extensions().get::<Peer>() {
                    let caller = self.site.authorise.caller(peer, request.headers());
                    self.site.authorise.refused(&caller, refused.kind.title());
                }
                refusal(&refused)
            }
        };
        self.site.stats.http_answers.of(Class::of(answer.status().as_u16())).one();
        for (name, value) in ALWAYS {
            answer.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
        }
        answer
    }
}

const fn filter(method: routes::Method) -> MethodFilter {
    match method {
        routes::Method::Get => MethodFilter::GET,
        routes::Method::Post => MethodFilter::POST,
        routes::Method::Delete => MethodFilter::DELETE,
    }
}

/// A request to a route that there is: who asks is found out first, and whether that one may.
async fn served(site: Arc<Site>, operation: &'static Operation, request: Request) -> Response {
    let (mut head, body) = request.into_parts();
    let Some(peer) = head.extensions.get::<Peer>().cloned() else {
        return refusal(&Refused::new(Kind::Unauthenticated, "no connection"));
    };
    let caller = match site.authorise.admit(Some(operation.need), &peer, &head.headers).await {
        Ok(caller) => caller,
        Err((caller, refused)) => {
            site.authorise.refused(&caller, &format!("{} {}", operation.method.name(), operation.path));
            return refusal(&refused);
        }
    };
    let Ok(params) = RawPathParams::from_request_parts(&mut head, &()).await else {
        return refusal(&Refused::new(Kind::Malformed, "the path is not UTF-8"));
    };
    let params = params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let asked = Asked { caller, head, params, body };
    match timeout(ANSWER_WITHIN, (operation.serve)(site, asked)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(refused)) => refusal(&refused),
        Err(_) => refusal(&Refused::new(Kind::TooSlow, "no answer could be begun in time")),
    }
}

/// There is no such route. Strangers do not learn below `/api/` which there are.
async fn nowhere(site: Arc<Site>, request: Request) -> Response {
    let peer = request.extensions().get::<Peer>().cloned();
    if let Some(peer) = peer.filter(|_| request.uri().path().starts_with("/api/")) {
        // Whoever has proven who he is, is told.
        if let Err((caller, refused)) = site.authorise.admit(None, &peer, request.headers()).await
            && refused.kind != Kind::Forbidden
        {
            site.authorise.refused(&caller, NO_METHOD);
            return refusal(&refused);
        }
    }
    refusal(&Refused::new(Kind::NoRoute, "there is nothing here: /openapi.json says what there is"))
}

/// An answer in JSON.
fn json(status: axum::http::StatusCode, value: &impl serde::Serialize) -> Result<Response, Refused> {
    let text = serde_json::to_vec(value).map_err(|error| {
        tracing::error!(%error, "an answer cannot be written as JSON");
        Refused::new(Kind::Internal, "the collector failed at this; its log says how")
    })?;
    Ok(typed(status, "application/json", Body::from(text)))
}

fn typed(status: axum::http::StatusCode, kind: &'static str, body: Body) -> Response {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

use problem::refusal;

/// A header's one value as text; `None` also when it is there twice.
fn single(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests;
