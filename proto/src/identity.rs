//! Who somebody is, and what he may do: roles, people, and what is kept of a token. The tokens themselves and everything
//! that proves something is `casefile-identity`'s.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::NodeName;
use crate::time::WallTime;

/// The longest that a token of a person may live: it is a secret in a file somewhere.
pub const MAX_LIFE: Duration = Duration::from_hours(366 * 24);

/// The most bytes of a token that is none of a collector's own: one that a cluster issued.
pub const MAX_FOREIGN_TOKEN: usize = 8 << 10;

/// The most bytes of the name of a person.
pub const MAX_PERSON: usize = 64;

/// What a person may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sees nodes and incidents, and how far they are.
    Viewer,
    /// Opens incidents, and sees what a viewer sees.
    Requester,
    /// Fetches archives, and sees what a viewer sees.
    Exporter,
    /// All of that, and gives tokens.
    Admin,
}

impl Role {
    /// All of them, in the order of their numbers on the wire.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Requester, Self::Exporter, Self::Admin];

    /// Its name, as in a command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Requester => "requester",
            Self::Exporter => "exporter",
            Self::Admin => "admin",
        }
    }

    /// Whether whoever has this role may do what `other` may. A viewer's rights are in every role, all are in an admin's.
    pub const fn includes(self, other: Self) -> bool {
        matches!(
            (self, other),
            (Self::Admin, _)
                | (_, Self::Viewer)
                | (Self::Requester, Self::Requester)
                | (Self::Exporter, Self::Exporter)
        )
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text is no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no role {0:?}: say viewer, requester, exporter or admin")]
pub struct NoRole(pub String);

impl FromStr for Role {
    type Err = NoRole;
    fn from_str(text: &str) -> Result<Self, NoRole> {
        Self::ALL.into_iter().find(|role| role.name() == text).ok_or_else(|| NoRole(text.to_owned()))
    }
}

/// The name of a person or a program in the audit log: letters, digits and `. _ - @`, so that it can stand in any text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PersonName(String);

/// A text is no name of a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a name of a person has 1 to {MAX_PERSON} letters, digits and . _ - @, and begins with a letter or digit")]
pub struct NoPerson;

impl PersonName {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PersonName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PersonName {
    type Err = NoPerson;
    fn from_str(text: &str) -> Result<Self, NoPerson> {
        let fits = (1..=MAX_PERSON).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'@'))
            && text.as_bytes()[0].is_ascii_alphanumeric();
        if fits { Ok(Self(text.to_owned())) } else { Err(NoPerson) }
    }
}

impl TryFrom<String> for PersonName {
    type Error = NoPerson;
    fn try_from(text: String) -> Result<Self, NoPerson> {
        text.parse()
    }
}

impl From<PersonName> for String {
    fn from(name: PersonName) -> Self {
        name.0
    }
}

/// A person or a program that uses the API.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Person {
    /// Its name in the audit log.
    pub name: PersonName,
    /// What it may do, each once, in order.
    pub roles: Vec<Role>,
}

impl Person {
    /// Whether one of its roles includes this one.
    pub fn may(&self, role: Role) -> bool {
        self.roles.iter().any(|has| has.includes(role))
    }
}

/// Whom a token names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// A node that is to join: the token can be used once.
    Node(NodeName),
    /// A person or a program.
    Person(Person),
}

/// Which token is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenAsk {
    /// For whom.
    pub subject: Subject,
    /// How long it is taken.
    pub ttl: Duration,
}

/// Names a token in lists and in the audit log: the first 8 bytes of the digest of its secret, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenId(String);

impl TokenId {
    /// The digits of an id.
    pub const LEN: usize = 16;

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text is no id of a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the id of a token has 16 hexadecimal digits")]
pub struct NoTokenId;

impl FromStr for TokenId {
    type Err = NoTokenId;
    fn from_str(text: &str) -> Result<Self, NoTokenId> {
        let fits = text.len() == Self::LEN && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if fits { Ok(Self(text.to_owned())) } else { Err(NoTokenId) }
    }
}

/// What is kept of a token.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TokenInfo {
    /// Names it.
    pub id: TokenId,
    /// For whom.
    pub subject: Subject,
    /// When it was made.
    pub created: WallTime,
    /// When it is not taken any more.
    pub expires: WallTime,
}

/// A token that was just made: shown this once.
#[derive(Clone, PartialEq, Eq)]
pub struct NewToken {
    /// The token itself.
    pub token: String,
    /// What is kept of it.
    pub kept: TokenInfo,
}

impl fmt::Debug for NewToken {
    /// Not the token: whoever has it is whom it names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewToken").field("kept", &self.kept).finish_non_exhaustive()
    }
}

/// What proves who wants a certificate.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A join token, as text.
    Join(String),
    /// A token of a service account of Kubernetes, as text.
    ServiceAccount(String),
    /// The certificate of the connection itself.
    Certificate,
}

impl fmt::Debug for Credential {
    /// Not the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Join(_) => "Join(…)",
            Self::ServiceAccount(_) => "ServiceAccount(…)",
            Self::Certificate => "Certificate",
        })
    }
}

/// A certificate is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolAsk {
    /// What proves who wants it.
    pub credential: Credential,
    /// The request: PKCS#10, DER.
    pub request: Vec<u8>,
}

/// A certificate that was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// The node that it is of.
    pub node: NodeName,
    /// DER: the certificate, then the one that signed it.
    pub certificates: Vec<Vec<u8>>,
    /// When it begins to count, on the collector's clock.
    pub issued: WallTime,
    /// When it ends to.
    pub expires: WallTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_sees_and_only_an_admin_may_do_everything() {
        for role in Role::ALL {
            assert!(role.includes(Role::Viewer) && role.includes(role) && Role::Admin.includes(role));
            assert_eq!(role.name().parse(), Ok(role));
        }
        assert!(!Role::Requester.includes(Role::Exporter) && !Role::Exporter.includes(Role::Requester));
        assert!(!Role::Viewer.includes(Role::Requester) && !Role::Exporter.includes(Role::Admin));
        assert!("Admin".parse::<Role>().is_err());
    }

    #[test]
    fn names_of_people_fit_into_any_text() {
        assert!("kim@example.org".parse::<PersonName>().is_ok());
        for bad in ["", "a b", "-a", "a\n", "ä", &"a".repeat(65)] {
            assert!(bad.parse::<PersonName>().is_err(), "{bad:?}");
        }
        assert!("0123456789abcdef".parse::<TokenId>().is_ok());
        assert!("0123456789ABCDEF".parse::<TokenId>().is_err() && "01".parse::<TokenId>().is_err());
    }
}
