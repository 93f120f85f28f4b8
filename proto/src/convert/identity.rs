//! Tokens, people and certificates: `identity.proto`.

use super::node::text_or_none;
use super::{ConvertError, Fields, Problem, into_list, number_of};
use crate::identity::{
    Credential, EnrolAsk, Enrolled, MAX_FOREIGN_TOKEN, MAX_LIFE, NewToken, Person, Role, Subject, TokenAsk, TokenId,
    TokenInfo,
};
use crate::ids::NodeName;
use crate::time::WallTime;
use crate::wire::v1;

/// The most bytes of a token as text.
const MAX_TOKEN: usize = 256;
/// The most bytes of a certificate request: one with an elliptic key has some 250.
const MAX_REQUEST: usize = 8 << 10;
/// The most certificates of a chain, and the most bytes of each.
const MAX_CHAIN: usize = 4;
const MAX_CERTIFICATE: usize = 16 << 10;
/// The most tokens in one list.
const MAX_TOKENS: usize = 10_000;

impl TryFrom<v1::EnrolRequest> for EnrolAsk {
    type Error = ConvertError;
    fn try_from(r: v1::EnrolRequest) -> Result<Self, ConvertError> {
        let f = Fields("EnrolRequest");
        f.short("certificate_request", r.certificate_request.len(), MAX_REQUEST)?;
        Ok(Self {
            credential: match r.credential {
                None => Credential::Certificate,
                Some(v1::enrol_request::Credential::JoinToken(token)) => {
                    Credential::Join(f.name("join_token", token, MAX_TOKEN)?)
                }
                Some(v1::enrol_request::Credential::ServiceAccountToken(token)) => {
                    Credential::ServiceAccount(f.name("service_account_token", token, MAX_FOREIGN_TOKEN)?)
                }
            },
            request: r.certificate_request,
        })
    }
}

impl From<EnrolAsk> for v1::EnrolRequest {
    fn from(a: EnrolAsk) -> Self {
        Self {
            credential: match a.credential {
                Credential::Certificate => None,
                Credential::Join(token) => Some(v1::enrol_request::Credential::JoinToken(token)),
                Credential::ServiceAccount(token) => Some(v1::enrol_request::Credential::ServiceAccountToken(token)),
            },
            certificate_request: a.request,
        }
    }
}

impl TryFrom<v1::EnrolResponse> for Enrolled {
    type Error = ConvertError;
    fn try_from(r: v1::EnrolResponse) -> Result<Self, ConvertError> {
        let f = Fields("EnrolResponse");
        f.short("certificates", r.certificates.len(), MAX_CHAIN)?;
        for certificate in &r.certificates {
            f.short("certificates", certificate.len(), MAX_CERTIFICATE)?;
        }
        if r.certificates.is_empty() {
            return Err(f.wrong("certificates", Problem::Missing));
        }
        Ok(Self {
            node: f.parsed("node", &r.node)?,
            certificates: r.certificates,
            issued: WallTime::from_nanos(r.issued_unix_nanos),
            expires: WallTime::from_nanos(r.expires_unix_nanos),
        })
    }
}

impl From<Enrolled> for v1::EnrolResponse {
    fn from(e: Enrolled) -> Self {
        Self {
            node: e.node.into(),
            certificates: e.certificates,
            issued_unix_nanos: e.issued.nanos(),
            expires_unix_nanos: e.expires.nanos(),
        }
    }
}

impl TryFrom<v1::Person> for Person {
    type Error = ConvertError;
    fn try_from(p: v1::Person) -> Result<Self, ConvertError> {
        let f = Fields("Person");
        f.short("roles", p.roles.len(), Role::ALL.len())?;
        let mut roles =
            p.roles.iter().map(|number| f.choice("roles", &Role::ALL, *number)).collect::<Result<Vec<_>, _>>()?;
        if roles.is_empty() {
            return Err(f.wrong("roles", Problem::Missing));
        }
        roles.sort_unstable();
        roles.dedup();
        Ok(Self { name: f.parsed("name", &p.name)?, roles })
    }
}

impl From<Person> for v1::Person {
    fn from(p: Person) -> Self {
        Self { name: p.name.into(), roles: p.roles.iter().map(|role| number_of(&Role::ALL, role)).collect() }
    }
}

impl TryFrom<v1::CreateTokenRequest> for TokenAsk {
    type Error = ConvertError;
    fn try_from(r: v1::CreateTokenRequest) -> Result<Self, ConvertError> {
        use v1::create_token_request::Subject as S;
        let f = Fields("CreateTokenRequest");
        let subject = match f.needed("subject", r.subject)? {
            S::Node(node) => Subject::Node(f.parsed("node", &node)?),
            S::Person(person) => Subject::Person(person.try_into()?),
        };
        let ttl = f.duration("ttl_nanos", r.ttl_nanos)?;
        if ttl.is_zero() || ttl > MAX_LIFE {
            return Err(f.out_of_range("ttl_nanos", r.ttl_nanos));
        }
        Ok(Self { subject, ttl })
    }
}

impl From<TokenAsk> for v1::CreateTokenRequest {
    fn from(a: TokenAsk) -> Self {
        use v1::create_token_request::Subject as S;
        Self {
            subject: Some(match a.subject {
                Subject::Node(node) => S::Node(node.into()),
                Subject::Person(person) => S::Person(person.into()),
            }),
            ttl_nanos: super::nanos(a.ttl),
        }
    }
}

impl TryFrom<v1::Token> for TokenInfo {
    type Error = ConvertError;
    fn try_from(t: v1::Token) -> Result<Self, ConvertError> {
        use v1::token::Subject as S;
        let f = Fields("Token");
        Ok(Self {
            id: f.parsed("id", &t.id)?,
            subject: match f.needed("subject", t.subject)? {
                S::Node(node) => Subject::Node(f.parsed("node", &node)?),
                S::Person(person) => Subject::Person(person.try_into()?),
            },
            created: WallTime::from_nanos(t.created_unix_nanos),
            expires: WallTime::from_nanos(t.expires_unix_nanos),
        })
    }
}

impl From<TokenInfo> for v1::Token {
    fn from(t: TokenInfo) -> Self {
        use v1::token::Subject as S;
        Self {
            id: t.id.as_str().to_owned(),
            subject: Some(match t.subject {
                Subject::Node(node) => S::Node(node.into()),
                Subject::Person(person) => S::Person(person.into()),
            }),
            created_unix_nanos: t.created.nanos(),
            expires_unix_nanos: t.expires.nanos(),
        }
    }
}

impl TryFrom<v1::CreateTokenResponse> for NewToken {
    type Error = ConvertError;
    fn try_from(r: v1::CreateTokenResponse) -> Result<Self, ConvertError> {
        let f = Fields("CreateTokenResponse");
        let token = f.text("token", r.token, MAX_TOKEN)?;
        let token = text_or_none(token).ok_or_else(|| f.wrong("token", Problem::Missing))?;
        Ok(Self { token, kept: f.inner("kept", r.kept)? })
    }
}

impl From<NewToken> for v1::CreateTokenResponse {
    fn from(t: NewToken) -> Self {
        Self { token: t.token, kept: Some(t.kept.into()) }
    }
}

impl TryFrom<v1::ListTokensResponse> for Vec<TokenInfo> {
    type Error = ConvertError;
    fn try_from(r: v1::ListTokensResponse) -> Result<Self, ConvertError> {
        Fields("ListTokensResponse").list("tokens", r.tokens, MAX_TOKENS)
    }
}

impl From<Vec<TokenInfo>> for v1::ListTokensResponse {
    fn from(tokens: Vec<TokenInfo>) -> Self {
        Self { tokens: into_list(tokens) }
    }
}

impl TryFrom<v1::RevokeTokenRequest> for TokenId {
    type Error = ConvertError;
    fn try_from(r: v1::RevokeTokenRequest) -> Result<Self, ConvertError> {
        Fields("RevokeTokenRequest").parsed("id", &r.id)
    }
}

impl TryFrom<v1::RevokeNodeRequest> for NodeName {
    type Error = ConvertError;
    fn try_from(r: v1::RevokeNodeRequest) -> Result<Self, ConvertError> {
        Fields("RevokeNodeRequest").parsed("node", &r.node)
    }
}

impl From<NodeName> for v1::RevokeNodeRequest {
    fn from(node: NodeName) -> Self {
        Self { node: node.as_str().to_owned() }
    }
}

impl From<TokenId> for v1::RevokeTokenRequest {
    fn from(id: TokenId) -> Self {
        Self { id: id.as_str().to_owned() }
    }
}
