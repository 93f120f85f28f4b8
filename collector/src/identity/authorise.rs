//! The authoriser: in front of every method, finds out who calls and whether that one may. Default is no.
//!
//! What passes has its [`Caller`] among the request's extensions. What does not is answered here, counted, and told to the
//! audit log in sums: a flood of refused calls must not become a flood of lines.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use casefile_identity::foreign::AnyToken;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Method, Request, Response, header};
use tower_service::Service;

use super::Identity;
use super::caller::{Caller, Peer, Who};
use super::routes::{Need, need};
use crate::api::refused::{Kind, Refused};
use crate::audit::Verb;
use crate::cluster::asking::Unknown;
use crate::cluster::people::{People, Said};

/// What is recorded of a path that is none of ours: it is a stranger's text.
pub const NO_METHOD: &str = "no method of ours";

/// Puts the authoriser in front of a service.
#[derive(Clone)]
pub struct Authorise {
    identity: Arc<Identity>,
    /// Who says what users of the cluster may do; `None`: there is no cluster, and no such users.
    people: Option<Arc<People>>,
}

/// A call that is stopped: who made it, as far as that was proven, and why.
type Stopped = (Caller, Refused);

impl Authorise {
    /// Over this identity.
    pub fn new(identity: Arc<Identity>) -> Self {
        Self { identity, people: None }
    }

    /// The same, for users of a cluster as well.
    #[must_use]
    pub fn with_cluster(self, people: Option<Arc<People>>) -> Self {
        Self { people, ..self }
    }

    /// Decides about a call of gRPC.
    async fn call(&self, request: &Request<()>) -> Result<Caller, Stopped> {
        // Every connection has a peer; a request without one came around the listener.
        let Some(peer) = request.extensions().get::<Peer>() else {
            let nowhere = ([0, 0, 0, 0], 0).into();
            let caller = Caller { who: Who::Nobody, from: nowhere };
            return Err((caller, Refused::new(Kind::Unauthenticated, "no connection")));
        };
        // What a browser can be made to send is no call, whatever credentials come with it.
        if !is_grpc(request) {
            let refused = Refused::new(Kind::NoCall, "only gRPC is spoken here: POST, application/grpc");
            return Err((self.caller(peer, request.headers()), refused));
        }
        self.admit(need(request.uri().path()), peer, request.headers()).await
    }

    /// Who calls, as far as it is known here: whose certificate the connection showed, or whose token of ours came with the
    /// request. Does not wait.
    pub fn caller(&self, peer: &Peer, headers: &HeaderMap) -> Caller {
        let who = match &peer.holder {
            Some(holder) => Who::Node(Arc::clone(holder)),
            None => bearer(headers).and_then(|text| self.identity.person(text)).map_or(Who::Nobody, Who::Person),
        };
        Caller { who, from: peer.from }
    }

    /// Lets through whoever may do what needs this. `None`: there is no such thing, so nobody may. The cluster is asked about a
    /// token that is none of ours, and about nothing else.
    pub async fn admit(&self, need: Option<Need>, peer: &Peer, headers: &HeaderMap) -> Result<Caller, Stopped> {
        let caller = self.caller(peer, headers);
        let right = match need {
            // Nothing that a user of the cluster could do.
            Some(Need::Anybody | Need::Agent) => return self.decided(need, caller, peer),
            Some(Need::Right(right)) => Some(right),
            None => None,
        };
        let foreign = match (&caller.who, &self.people) {
            (Who::Nobody, Some(people)) => bearer(headers).filter(|text| is_foreign(text)).map(|text| (people, text)),
            _ => None,
        };
        let Some((people, token)) = foreign else { return self.decided(need, caller, peer) };
        let said = people.may(token, right, peer.from.ip()).await;
        let (who, refused) = match said {
            Ok(Said::Allowed(name)) if right.is_some() => {
                peer.proven();
                return Ok(Caller { who: Who::User(name), ..caller });
            }
            Ok(Said::Allowed(name)) => {
                let text = format!("{name} may not do this");
                (Who::User(name), Refused::new(Kind::Forbidden, text))
            }
            Ok(Said::Denied(name)) => {
                let needed = right.map_or_else(String::new, |right| format!(": it needs {right}"));
                let text = format!("{name} may not do this{needed} (a Role or ClusterRole in the cluster gives it)");
                (Who::User(name), Refused::new(Kind::Forbidden, text))
            }
            Ok(Said::Unshowable) => {
                let text = "the cluster calls the owner of this token what cannot be shown in a log: use another user";
                (Who::Nobody, Refused::new(Kind::Forbidden, text))
            }
            Ok(Said::Nobody) => {
                let text = "who is asking? This collector and its cluster know no such token, or it has expired";
                (Who::Nobody, Refused::new(Kind::Unauthenticated, text))
            }
            Err(unknown @ Unknown::Away) => (Who::Nobody, Refused::new(Kind::Unavailable, unknown.to_string())),
            Err(unknown @ Unknown::TooMany) => (Who::Nobody, Refused::new(Kind::TooMany, unknown.to_string())),
        };
        Err((Caller { who, ..caller }, refused))
    }

    fn decided(&self, need: Option<Need>, caller: Caller, peer: &Peer) -> Result<Caller, Stopped> {
        match self.decide(need, &caller, peer) {
            Ok(()) => Ok(caller),
            Err(refused) => Err((caller, refused)),
        }
    }

    /// Whether this caller, who is known here, may do what needs this.
    fn decide(&self, need: Option<Need>, caller: &Caller, peer: &Peer) -> Result<(), Refused> {
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
            (Some(Need::Right(right)), Who::Person(person)) if person.may(right.role()) => {
                peer.proven();
                Ok(())
            }
            (_, Who::Nobody) => unproven(
                "who is asking? Give a token of this collector: --token-file, or --data with its data directory",
            ),
            (Some(Need::Right(right)), who) => {
                Err(Refused::new(Kind::Forbidden, format!("{who} may not do this: it needs the role {}", right.role())))
            }
            (_, who) => Err(Refused::new(Kind::Forbidden, format!("{who} may not do this"))),
        }
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

/// The token that came with a request.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// Whether a text may be a token of the cluster: one of ours, also one that counts no more, is shown to nobody else.
fn is_foreign(text: &str) -> bool {
    matches!(text.parse(), Ok(AnyToken::Foreign(_)))
}

/// Whether a request is a call of gRPC (gRPC over HTTP/2, "Requests"): tonic itself takes anything.
fn is_grpc<T>(request: &Request<T>) -> bool {
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
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The one that was ready takes the call.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let authorise = self.authorise.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let head = Request::from_parts(parts, ());
            match authorise.call(&head).await {
                Ok(caller) => {
                    let (mut parts, ()) = head.into_parts();
                    parts.extensions.insert(caller);
                    inner.call(Request::from_parts(parts, body)).await
                }
                Err((caller, refused)) => {
                    let path = head.uri().path();
                    authorise.refused(&caller, if need(path).is_some() { path } else { NO_METHOD });
                    Ok(Status::from(refused).into_http())
                }
            }
        })
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
