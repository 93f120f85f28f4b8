//! The node service: who is recorded, and how fresh it is.

use std::sync::Arc;

use casefile_proto::node::NodeList;
use casefile_proto::wire::v1;
use casefile_proto::wire::v1::node_service_server::NodeService;
use tonic::{Request, Response, Status};

use crate::incident::fleet::Fleet;
use crate::ingest::Clock;

/// The node service.
pub struct Api {
    fleet: Arc<dyn Fleet>,
    clock: Clock,
}

impl Api {
    /// Over these nodes.
    pub fn new(fleet: Arc<dyn Fleet>, clock: Clock) -> Self {
        Self { fleet, clock }
    }
}

#[tonic::async_trait]
impl NodeService for Api {
    async fn list_nodes(
        &self,
        _request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        let list = NodeList { nodes: self.fleet.nodes(), now: (self.clock)().wall };
        Ok(Response::new(list.into()))
    }
}
