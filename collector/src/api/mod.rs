//! The API: what people and programs may ask of incidents and nodes, with a limit for everything.
//!
//! [`verbs`] is what can be done; over gRPC it is called by [`incidents`], [`nodes`] and [`connectivity`], over HTTP by [`rest`]. [`refused`] is how
//! both say no. Here: the routes of gRPC and their limits. Requests and answers of gRPC are checked and made in
//! `casefile_proto::convert`.

pub mod connectivity;
pub mod incidents;
pub mod nodes;
pub mod refused;
pub mod rest;
mod streams;
pub mod verbs;

use std::sync::Arc;

use casefile_proto::wire::v1::connectivity_service_server::ConnectivityServiceServer;
use casefile_proto::wire::v1::identity_service_server::IdentityServiceServer;
use casefile_proto::wire::v1::incident_service_server::IncidentServiceServer;
use casefile_proto::wire::v1::node_service_server::NodeServiceServer;
use tonic::service::Routes;

use crate::identity::service;
use crate::incident::fleet::Agents;
use verbs::Verbs;

/// The largest request that people may send: ten thousand node names fit, a mistake does not.
const MAX_REQUEST: usize = 4 << 20;

/// The largest request to the identity service: a token and a certificate request.
const MAX_IDENTITY: usize = 16 << 10;

/// The largest answer that is not a stream: the coverage of thousands of nodes.
const MAX_ANSWER: usize = 64 << 20;

/// Every service of a collector, as one set of routes: agents, incidents, nodes, identity. The authoriser is in front of it.
pub fn routes(verbs: Arc<Verbs>, agents: &Agents, identity: service::Api) -> Routes {
    let identity = IdentityServiceServer::new(identity)
        .max_decoding_message_size(MAX_IDENTITY)
        .max_encoding_message_size(MAX_REQUEST);
    people(verbs).add_service(agents.ingest.service()).add_service(identity)
}

/// What people and programs use.
fn people(verbs: Arc<Verbs>) -> Routes {
    let incidents = IncidentServiceServer::new(incidents::Api::new(Arc::clone(&verbs)))
        .max_decoding_message_size(MAX_REQUEST)
        .max_encoding_message_size(MAX_ANSWER);
    let connectivity = ConnectivityServiceServer::new(connectivity::Api::new(Arc::clone(&verbs)))
        .max_decoding_message_size(MAX_REQUEST)
        .max_encoding_message_size(MAX_ANSWER);
    let nodes = NodeServiceServer::new(nodes::Api::new(verbs))
        .max_decoding_message_size(MAX_REQUEST)
        .max_encoding_message_size(MAX_ANSWER);
    Routes::new(incidents).add_service(connectivity).add_service(nodes)
}

#[cfg(test)]
mod tests;
