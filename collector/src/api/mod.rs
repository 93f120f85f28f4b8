//! The API: what people and programs may ask of incidents and nodes, over gRPC, with a limit for everything.
//!
//! One file a service; here: the routes, the limits that all share, and how our errors become theirs. Requests and
//! answers are checked and made in `casefile_proto::convert`.

pub mod incidents;
pub mod nodes;
mod streams;

use std::sync::Arc;

use casefile_proto::convert::ConvertError;
use casefile_proto::wire::v1::identity_service_server::IdentityServiceServer;
use casefile_proto::wire::v1::incident_service_server::IncidentServiceServer;
use casefile_proto::wire::v1::node_service_server::NodeServiceServer;
use tonic::Status;
use tonic::service::Routes;

use crate::audit::{Audit, AuditError};
use crate::identity::{Identity, service};
use crate::incident::Refusal;
use crate::incident::fleet::{Agents, Fleet};
use crate::incident::handle::{Incidents, OpenError};
use crate::ingest::Clock;
use crate::store::StoreError;

/// The largest request that people may send: ten thousand node names fit, a mistake does not.
const MAX_REQUEST: usize = 4 << 20;

/// The largest request to the identity service: a token and a certificate request.
const MAX_IDENTITY: usize = 16 << 10;

/// The largest answer that is not a stream: the coverage of thousands of nodes.
const MAX_ANSWER: usize = 64 << 20;

/// Every service of a collector, as one set of routes: agents, incidents, nodes, identity. The authoriser is in front of it.
pub fn routes(incidents: Incidents, agents: &Agents, identity: Arc<Identity>, clock: Clock) -> Routes {
    let audit = Arc::clone(identity.audit());
    let identity = IdentityServiceServer::new(service::Api::new(identity))
        .max_decoding_message_size(MAX_IDENTITY)
        .max_encoding_message_size(MAX_REQUEST);
    people(incidents, Arc::new(agents.clone()), audit, clock).add_service(agents.ingest.service()).add_service(identity)
}

/// What people and programs use.
fn people(incidents: Incidents, fleet: Arc<dyn Fleet>, audit: Arc<Audit>, clock: Clock) -> Routes {
    let incidents = IncidentServiceServer::new(incidents::Api::new(incidents, audit))
        .max_decoding_message_size(MAX_REQUEST)
        .max_encoding_message_size(MAX_ANSWER);
    let nodes = NodeServiceServer::new(nodes::Api::new(fleet, clock))
        .max_decoding_message_size(MAX_REQUEST)
        .max_encoding_message_size(MAX_ANSWER);
    Routes::new(incidents).add_service(nodes)
}

/// What was asked is malformed; says which field and why.
fn malformed(error: &ConvertError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// What cannot be recorded is not done.
fn unrecorded(error: &AuditError) -> Status {
    tracing::error!(error = crate::chain::chain(error), "the audit log cannot be written");
    Status::unavailable(
        "the audit log cannot be written, so this is not done; the collector's log says why (is its disk full?)",
    )
}

fn not_opened(error: &OpenError) -> Status {
    match error {
        OpenError::Refused(refusal) => refused(refusal),
        OpenError::Store(error) => unanswered(error),
        OpenError::Stopping => Status::unavailable(error.to_string()),
    }
}

fn refused(refusal: &Refusal) -> Status {
    let text = refusal.to_string();
    match refusal {
        Refusal::Future { .. } | Refusal::FarEnd { .. } | Refusal::Patience { .. } => Status::invalid_argument(text),
        Refusal::UnknownNodes { .. } => Status::not_found(text),
        Refusal::NoNodes => Status::failed_precondition(text),
        Refusal::TooMany => Status::resource_exhausted(text),
    }
}

/// The index did not answer. What it said goes to the log; the caller learns that it is not his mistake.
fn unanswered(error: &StoreError) -> Status {
    match error {
        StoreError::TooManyNodes | StoreError::TooManyTokens => Status::resource_exhausted(error.to_string()),
        StoreError::Database { .. } | StoreError::Newer { .. } => {
            tracing::error!(error = crate::chain::chain(error), "the index did not answer");
            Status::internal("the collector's index did not answer; its log says why (is its disk full?)")
        }
    }
}

#[cfg(test)]
mod tests;
