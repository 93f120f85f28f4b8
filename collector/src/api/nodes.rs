//! The node service of gRPC: who is recorded, and how fresh it is.

use std::sync::Arc;

use casefile_proto::wire::v1;
use casefile_proto::wire::v1::node_service_server::NodeService;
use tonic::{Request, Response, Status};

use super::verbs::Verbs;

/// The node service.
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
impl NodeService for Api {
    async fn list_nodes(
        &self,
        _request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        Ok(Response::new(self.verbs.nodes().into()))
    }
}
