//! What each method needs: the one list that the authoriser goes by. What is not in it is refused.
//!
//! A test holds it against the service definitions: every method of every service is here, and nothing else.

use super::rights::Right;

/// What a caller must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Anybody: what is asked proves itself, or tells nothing.
    Anybody,
    /// The agent of a node, by its certificate.
    Agent,
    /// A person who may do this.
    Right(Right),
}

/// Every method, and what it needs.
pub const ALL: &[(&str, Need)] = &[
    // The credential is in the request.
    ("/casefile.v1.IdentityService/Enrol", Need::Anybody),
    ("/casefile.v1.IdentityService/CreateToken", Need::Right(Right::CreateTokens)),
    ("/casefile.v1.IdentityService/ListTokens", Need::Right(Right::ListTokens)),
    ("/casefile.v1.IdentityService/RevokeToken", Need::Right(Right::DeleteTokens)),
    ("/casefile.v1.IdentityService/RevokeNode", Need::Right(Right::RevokeNodes)),
    ("/casefile.v1.AgentService/Session", Need::Agent),
    ("/casefile.v1.AgentService/Upload", Need::Agent),
    ("/casefile.v1.IncidentService/OpenIncident", Need::Right(Right::Collect)),
    ("/casefile.v1.IncidentService/GetIncident", Need::Right(Right::See)),
    ("/casefile.v1.IncidentService/ListIncidents", Need::Right(Right::See)),
    ("/casefile.v1.IncidentService/WatchIncident", Need::Right(Right::See)),
    ("/casefile.v1.IncidentService/DownloadArchive", Need::Right(Right::Export)),
    ("/casefile.v1.ConnectivityService/TestConnectivity", Need::Right(Right::Collect)),
    ("/casefile.v1.ConnectivityService/ListTargets", Need::Right(Right::See)),
    ("/casefile.v1.NodeService/ListNodes", Need::Right(Right::See)),
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
