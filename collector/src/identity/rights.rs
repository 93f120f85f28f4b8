//! What somebody may do, one by one: which role of ours it takes, and which verb on which resource of `casefile.dev` says the same
//! in the Roles of a cluster.
//!
//! How to add one: a variant, a line in [`Right::ALL`] and one in [`Right::row`].

use std::fmt;

use casefile_proto::identity::Role;

/// Something that somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Right {
    /// See nodes and incidents, and how far they are.
    See,
    /// Open incidents.
    Collect,
    /// Read and fetch archives.
    Export,
    /// Make tokens, for anybody and anything.
    CreateTokens,
    /// See which tokens there are.
    ListTokens,
    /// Revoke tokens.
    DeleteTokens,
    /// Revoke what a node has to show.
    RevokeNodes,
    /// Read the collector's figures from another machine.
    ReadMetrics,
}

impl Right {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::See,
        Self::Collect,
        Self::Export,
        Self::CreateTokens,
        Self::ListTokens,
        Self::DeleteTokens,
        Self::RevokeNodes,
        Self::ReadMetrics,
    ];

    const fn row(self) -> (Role, &'static str, &'static str) {
        match self {
            Self::See => (Role::Viewer, "get", "incidents"),
            Self::Collect => (Role::Requester, "create", "collections"),
            Self::Export => (Role::Exporter, "get", "archives"),
            Self::CreateTokens => (Role::Admin, "create", "tokens"),
            Self::ListTokens => (Role::Admin, "list", "tokens"),
            Self::DeleteTokens => (Role::Admin, "delete", "tokens"),
            Self::RevokeNodes => (Role::Admin, "delete", "nodes"),
            Self::ReadMetrics => (Role::Viewer, "get", "metrics"),
        }
    }

    /// The role that has it, of those that tokens of ours give.
    pub const fn role(self) -> Role {
        self.row().0
    }

    /// The verb of a Role in a cluster.
    pub const fn verb(self) -> &'static str {
        self.row().1
    }

    /// The resource of a Role in a cluster.
    pub const fn resource(self) -> &'static str {
        self.row().2
    }
}

impl fmt::Display for Right {
    /// As `kubectl auth can-i` wants it, and as it stands in a Role.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}.casefile.dev", self.verb(), self.resource())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_rights_are_the_same_in_a_cluster() {
        let words: BTreeSet<_> = Right::ALL.iter().map(ToString::to_string).collect();
        assert_eq!(words.len(), Right::ALL.len());
        assert_eq!(Right::Collect.to_string(), "create collections.casefile.dev");
    }
}
