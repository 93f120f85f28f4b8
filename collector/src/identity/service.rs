//! The identity service: enrol, and tokens for whoever may give them.

use std::sync::Arc;

use casefile_proto::identity::{EnrolAsk, TokenAsk, TokenId};
use casefile_proto::ids::NodeName;
use casefile_proto::wire::v1;
use casefile_proto::wire::v1::identity_service_server::IdentityService;
use tonic::{Request, Response, Status};

use super::authorise::caller;
use super::{Denied, Identity};
use crate::api::refused::{Kind, Refused};
use crate::chain::chain;

/// The identity service.
pub struct Api {
    identity: Arc<Identity>,
}

impl Api {
    /// Over this identity.
    pub fn new(identity: Arc<Identity>) -> Self {
        Self { identity }
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
        let enrolled = blocking(&self.identity, move |identity| identity.enrol(ask, &caller)).await?;
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
        Denied::Token | Denied::NoCredential | Denied::NoLonger => Kind::Unauthenticated,
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
