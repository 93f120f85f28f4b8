//! The identity service: enrol, and tokens for whoever may give them.

use std::sync::Arc;

use casefile_identity::authority::Authority;
use casefile_proto::identity::{Credential, EnrolAsk, TokenAsk, TokenId};
use casefile_proto::ids::NodeName;
use casefile_proto::wire::v1;
use casefile_proto::wire::v1::identity_service_server::IdentityService;
use tonic::{Request, Response, Status};

use super::authorise::caller;
use super::caller::Caller;
use super::{Denied, Identity};
use crate::api::refused::{Kind, Refused};
use crate::audit::Verb;
use crate::chain::chain;
use crate::cluster::agents::{Agents, Claim, NoAgent, NotClaimed};
use crate::cluster::asking::Unknown;

/// The identity service.
pub struct Api {
    identity: Arc<Identity>,
    /// Who says of which node a service account's token is; `None`: there is no cluster.
    agents: Option<Arc<Agents>>,
}

impl Api {
    /// Over this identity.
    pub fn new(identity: Arc<Identity>) -> Self {
        Self { identity, agents: None }
    }

    /// The same, for agents of a cluster as well.
    #[must_use]
    pub fn with_cluster(self, agents: Option<Arc<Agents>>) -> Self {
        Self { agents, ..self }
    }

    /// The node that the token of a service account is of.
    async fn claim(&self, token: &str, caller: &Caller) -> Result<Claim, Refused> {
        let Some(agents) = &self.agents else {
            let text = "this collector takes no service account tokens: its configuration has no [cluster]";
            return Err(Refused::new(Kind::Unauthenticated, text));
        };
        let why = match agents.claim(token, caller.from.ip()).await {
            Ok(claim) => return Ok(claim),
            Err(NotClaimed::Unknown(unknown @ Unknown::Away)) => {
                return Err(Refused::new(Kind::Unavailable, unknown.to_string()));
            }
            Err(NotClaimed::Unknown(unknown @ Unknown::TooMany)) => {
                return Err(Refused::new(Kind::TooMany, unknown.to_string()));
            }
            Err(NotClaimed::NoAgent(why)) => why,
        };
        // What the cluster said is in our log; the audit log has a closed list of words for it.
        let what = match &why {
            NoAgent::NotTaken(_) => "service account token: not taken by the cluster".to_owned(),
            why => format!("service account token: {why}"),
        };
        if let Some(entry) = self.identity.refused(caller, Verb::Enrol, &what) {
            tracing::warn!(from = entry.from, %why, times = entry.times, "an enrolment in the cluster is refused");
            let recorded = self.identity.audit().recorded(entry).await;
            recorded.map_err(|error| denied(&Denied::Audit(error)))?;
        }
        Err(denied(&Denied::ServiceAccount))
    }
}

/// What the identity does, on a thread that may block.
pub async fn blocking<T: Send + 'static>(
    identity: &Arc<Identity>,
    call: impl FnOnce(&Identity) -> Result<T, Denied> + Send + 'static,
) -> Result<T, Refused> {
    let identity = Arc::clone(identity);
    match tokio::task::spawn_blocking(move || call(&identity)).await {
        Ok(done) => done.map_err(|e| denied(&e)),
        Err(panicked) => {
            tracing::error!(error = %panicked, "a call of the identity service failed");
            Err(Refused::new(Kind::Internal, "the collector failed at this; its log says how"))
        }
    }
}

#[tonic::async_trait]
impl IdentityService for Api {
    async fn enrol(&self, request: Request<v1::EnrolRequest>) -> Result<Response<v1::EnrolResponse>, Status> {
        let caller = caller(&request)?;
        let ask = EnrolAsk::try_from(request.into_inner()).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let enrolled = match ask.credential {
            Credential::ServiceAccount(token) => {
                // The request is looked at first: nobody is asked for one that gets nothing.
                Authority::check(&ask.request).map_err(|e| denied(&e.into()))?;
                let claim = self.claim(&token, &caller).await?;
                let call = move |identity: &Identity| identity.enrol_claimed(&claim, &ask.request, &caller);
                blocking(&self.identity, call).await?
            }
            _ => blocking(&self.identity, move |identity| identity.enrol(ask, &caller)).await?,
        };
        Ok(Response::new(enrolled.into()))
    }

    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        let caller = caller(&request)?;
        let ask = TokenAsk::try_from(request.into_inner()).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let made = blocking(&self.identity, move |identity| identity.create(ask, &caller)).await?;
        Ok(Response::new(made.into()))
    }

    async fn list_tokens(
        &self,
        _request: Request<v1::ListTokensRequest>,
    ) -> Result<Response<v1::ListTokensResponse>, Status> {
        let tokens = blocking(&self.identity, |identity| Ok(identity.list()?)).await?;
        Ok(Response::new(tokens.into()))
    }

    async fn revoke_token(
        &self,
        request: Request<v1::RevokeTokenRequest>,
    ) -> Result<Response<v1::RevokeTokenResponse>, Status> {
        let caller = caller(&request)?;
        let id = TokenId::try_from(request.into_inner()).map_err(|e| Status::invalid_argument(e.to_string()))?;
        blocking(&self.identity, move |identity| identity.revoke(&id, &caller)).await?;
        Ok(Response::new(v1::RevokeTokenResponse {}))
    }

    async fn revoke_node(
        &self,
        request: Request<v1::RevokeNodeRequest>,
    ) -> Result<Response<v1::RevokeNodeResponse>, Status> {
        let caller = caller(&request)?;
        let node = NodeName::try_from(request.into_inner()).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let is_known = blocking(&self.identity, move |identity| identity.revoke_node(&node, &caller)).await?;
        Ok(Response::new(v1::RevokeNodeResponse { is_known }))
    }
}

/// What is ours (paths, what the file system said) stays here; the log has it.
fn denied(error: &Denied) -> Refused {
    let text = error.to_string();
    let kind = match error {
        Denied::Token | Denied::ServiceAccount | Denied::NoCredential | Denied::NoLonger => Kind::Unauthenticated,
        Denied::Authority(casefile_identity::authority::AuthorityError::Request) => Kind::Malformed,
        Denied::TooLong => Kind::NotPossible,
        Denied::NoToken(_) => Kind::NoToken,
        Denied::Store(crate::store::StoreError::TooManyTokens) => Kind::TooMany,
        Denied::Authority(_) | Denied::Store(_) | Denied::Audit(_) | Denied::Random(_) => {
            tracing::error!(error = chain(error), "a token or certificate is not given");
            return match error {
                Denied::Audit(_) => Refused::new(Kind::NotRecorded, text),
                _ => {
                    let text = "the collector cannot do this now; its log says why (is its disk full?)";
                    Refused::new(Kind::Unavailable, text)
                }
            };
        }
    };
    Refused::new(kind, text)
}
