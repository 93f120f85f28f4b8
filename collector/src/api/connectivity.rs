//! The connectivity service of gRPC. What it does is [`super::verbs`].

use std::sync::Arc;

use casefile_proto::connectivity::TestAsk;
use casefile_proto::wire::v1;
use casefile_proto::wire::v1::connectivity_service_server::ConnectivityService;
use tonic::{Request, Response, Status};

use super::verbs::{Verbs, malformed};
use crate::identity::authorise::caller;

/// The connectivity service.
pub struct Api {
    verbs: Arc<Verbs>,
}

impl Api {
    /// Over these verbs.
    pub fn new(verbs: Arc<Verbs>) -> Self {
        Self { verbs }
    }
}

#[tonic::async_trait]
impl ConnectivityService for Api {
    async fn test_connectivity(
        &self,
        request: Request<v1::TestConnectivityRequest>,
    ) -> Result<Response<v1::TestConnectivityResponse>, Status> {
        let caller = caller(&request)?;
        let ask = TestAsk::try_from(request.into_inner()).map_err(|e| malformed(&e))?;
        Ok(Response::new(self.verbs.test_connectivity(&caller, ask).await?.into()))
    }

    async fn list_targets(
        &self,
        _request: Request<v1::ListTargetsRequest>,
    ) -> Result<Response<v1::ListTargetsResponse>, Status> {
        Ok(Response::new(self.verbs.targets().into()))
    }
}
