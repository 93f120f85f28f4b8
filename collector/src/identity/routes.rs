//! What each method needs: the one list that the authoriser goes by. What is not in it is refused.
//!
//! A test holds it against the service definitions: every method of every service is here, and nothing else.

use casefile_proto::identity::Role;

/// What a caller must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Anybody: what is asked proves itself, or tells nothing.
    Anybody,
    /// The agent of a node, by its certificate.
    Agent,
    /// A person with this role.
    Role(Role),
}

/// Every method, and what it needs.
pub const ALL: &[(&str, Need)] = &[
    // The credential is in the request.
    ("/casefile.v1.IdentityService/Enrol", Need::Anybody),
    ("/casefile.v1.IdentityService/CreateToken", Need::Role(Role::Admin)),
    ("/casefile.v1.IdentityService/ListTokens", Need::Role(Role::Admin)),
    ("/casefile.v1.IdentityService/RevokeToken", Need::Role(Role::Admin)),
    ("/casefile.v1.IdentityService/RevokeNode", Need::Role(Role::Admin)),
    ("/casefile.v1.AgentService/Session", Need::Agent),
    ("/casefile.v1.AgentService/Upload", Need::Agent),
    ("/casefile.v1.IncidentService/OpenIncident", Need::Role(Role::Requester)),
    ("/casefile.v1.IncidentService/GetIncident", Need::Role(Role::Viewer)),
    ("/casefile.v1.IncidentService/ListIncidents", Need::Role(Role::Viewer)),
    ("/casefile.v1.IncidentService/WatchIncident", Need::Role(Role::Viewer)),
    ("/casefile.v1.IncidentService/DownloadArchive", Need::Role(Role::Exporter)),
    ("/casefile.v1.NodeService/ListNodes", Need::Role(Role::Viewer)),
    // Says whether evidence is taken, and nothing of anybody.
    ("/grpc.health.v1.Health/Check", Need::Anybody),
    ("/grpc.health.v1.Health/Watch", Need::Anybody),
];

/// What a path needs. `None`: there is no such method.
pub fn need(path: &str) -> Option<Need> {
    ALL.iter().find(|(route, _)| *route == path).map(|(_, need)| *need)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_method_of_every_service_is_in_the_list_and_nothing_else() {
        let ours: BTreeSet<&str> = ALL.iter().map(|(route, _)| *route).collect();
        let health = ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"];
        let defined: BTreeSet<&str> = casefile_proto::wire::METHODS.iter().copied().chain(health).collect();
        assert_eq!(ours, defined);
        assert_eq!(ours.len(), ALL.len(), "one is there twice");
        assert_eq!(need("/casefile.v1.NodeService/"), None);
    }
}
