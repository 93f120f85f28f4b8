//! The authoriser: in front of every method, finds out who calls and whether that one may. Default is no.
//!
//! What passes has its [`Caller`] among the request's extensions. What does not is answered here, counted, and told to the
//! audit log in sums: a flood of refused calls must not become a flood of lines.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Method, Request, Response, header};
use tower_service::Service;

use super::Identity;
use super::caller::{Caller, Peer, Who};
use super::routes::{Need, need};
use crate::api::refused::{Kind, Refused};
use crate::audit::Verb;

/// What is recorded of a path that is none of ours: it is a stranger's text.
pub const NO_METHOD: &str = "no method of ours";

/// Puts the authoriser in front of a service.
#[derive(Clone)]
pub struct Authorise {
    identity: Arc<Identity>,
}

impl Authorise {
    /// Over this identity.
    pub fn new(identity: Arc<Identity>) -> Self {
        Self { identity }
    }

    /// Decides about a call of gRPC.
    fn call(&self, request: &Request<Body>) -> Result<Caller, (Caller, Refused)> {
        // Every connection has a peer; a request without one came around the listener.
        let Some(peer) = request.extensions().get::<Peer>() else {
            let nowhere = ([0, 0, 0, 0], 0).into();
            let caller = Caller { who: Who::Nobody, from: nowhere };
            return Err((caller, Refused::new(Kind::Unauthenticated, "no connection")));
        };
        let caller = self.caller(peer, request.headers());
        // What a browser can be made to send is no call, whatever credentials come with it.
        if !is_grpc(request) {
            let refused = Refused::new(Kind::NoCall, "only gRPC is spoken here: POST, application/grpc");
            return Err((caller, refused));
        }
        match self.decide(need(request.uri().path()), &caller, peer) {
            Ok(()) => Ok(caller),
            Err(refused) => Err((caller, refused)),
        }
    }

    /// Who calls: whose certificate the connection showed, or whose token came with the request.
    pub fn caller(&self, peer: &Peer, headers: &HeaderMap) -> Caller {
        let who = match &peer.holder {
            Some(holder) => Who::Node(Arc::clone(holder)),
            None => self.bearer(headers).map_or(Who::Nobody, Who::Person),
        };
        Caller { who, from: peer.from }
    }

    /// Whether this caller may do what needs this. `None`: there is no such thing, so nobody may.
    pub fn decide(&self, need: Option<Need>, caller: &Caller, peer: &Peer) -> Result<(), Refused> {
        let unproven = |text: &str| Err(Refused::new(Kind::Unauthenticated, text));
        match (need, &caller.who) {
            (Some(Need::Anybody), _) => Ok(()),
            // A connection may outlive the certificate that it began with.
            (Some(_), Who::Node(holder)) if self.identity.has_expired(holder) => {
                unproven("the certificate of this connection has expired: renew it")
            }
            (Some(_), Who::Node(holder)) if self.identity.revoked().covers(holder) => {
                unproven(&format!("the certificate of node {} was revoked: join with a new token", holder.node))
            }
            (Some(Need::Agent), Who::Node(_)) => Ok(()),
            (Some(Need::Role(role)), Who::Person(person)) if person.may(role) => {
                peer.proven();
                Ok(())
            }
            (_, Who::Nobody) => unproven(
                "who is asking? Give a token of this collector: --token-file, or --data with its data directory",
            ),
            (Some(Need::Role(role)), who) => {
                Err(Refused::new(Kind::Forbidden, format!("{who} may not do this: it needs the role {role}")))
            }
            (_, who) => Err(Refused::new(Kind::Forbidden, format!("{who} may not do this"))),
        }
    }

    fn bearer(&self, headers: &HeaderMap) -> Option<Arc<casefile_proto::identity::Person>> {
        let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        self.identity.person(value.strip_prefix("Bearer ")?)
    }

    /// Counts and records that this was refused. The text must be one of ours: a path that came in is a stranger's.
    pub fn refused(&self, caller: &Caller, what: &str) {
        let Some(entry) = self.identity.refused(caller, Verb::Call, what) else { return };
        tracing::warn!(who = entry.who, from = entry.from, what, times = entry.times, "call refused");
        let audit = Arc::clone(self.identity.audit());
        // Not awaited: nothing is done that would have to wait for it.
        tokio::task::spawn_blocking(move || {
            if let Err(error) = audit.record(entry) {
                tracing::error!(error = crate::chain::chain(&error), "a refused call is not recorded");
            }
        });
    }
}

/// Whether a request is a call of gRPC (gRPC over HTTP/2, "Requests"): tonic itself takes anything.
fn is_grpc(request: &Request<Body>) -> bool {
    let content = request.headers().get(header::CONTENT_TYPE).map_or(&[][..], |value| value.as_bytes());
    request.method() == Method::POST
        && content
            .strip_prefix(b"application/grpc")
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

impl<S> tower_layer::Layer<S> for Authorise {
    type Service = Authorised<S>;
    fn layer(&self, inner: S) -> Authorised<S> {
        Authorised { authorise: self.clone(), inner }
    }
}

/// A service behind the authoriser.
#[derive(Clone)]
pub struct Authorised<S> {
    authorise: Authorise,
    inner: S,
}

impl<S> Service<Request<Body>> for Authorised<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match self.authorise.call(&request) {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                Box::pin(self.inner.call(request))
            }
            Err((caller, refused)) => {
                let path = request.uri().path();
                self.authorise.refused(&caller, if need(path).is_some() { path } else { NO_METHOD });
                Box::pin(std::future::ready(Ok(Status::from(refused).into_http())))
            }
        }
    }
}

/// Who makes a call that came through the authoriser.
pub fn caller<T>(request: &tonic::Request<T>) -> Result<Caller, Status> {
    // Behind the authoriser there always is one; without it nothing is done.
    request.extensions().get::<Caller>().cloned().ok_or_else(|| Status::unauthenticated("who is asking?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_post_of_grpc_is_a_call() {
        let request = |method: &str, content: Option<&str>| {
            let mut request = Request::builder().method(method).uri("/casefile.v1.NodeService/ListNodes");
            if let Some(content) = content {
                request = request.header(header::CONTENT_TYPE, content);
            }
            is_grpc(&request.body(Body::empty()).unwrap())
        };
        for good in ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"] {
            assert!(request("POST", Some(good)), "{good}");
            assert!(!request("GET", Some(good)) && !request("OPTIONS", Some(good)), "{good}");
        }
        let bad = ["", "application/grpc-web", "application/json", "text/plain", "multipart/form-data"];
        assert!(!bad.iter().any(|bad| request("POST", Some(bad))) && !request("POST", None));
    }
}
