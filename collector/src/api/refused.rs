//! Why something is not done, in one list for both ways of asking: what it is called, and what it is in gRPC and in HTTP.
//!
//! How to add one: a variant, a line in [`Kind::ALL`] and one in [`Kind::row`]. The code of a kind is part of the API: programs
//! go by it, so it is never changed.

use std::fmt;

use tonic::{Code, Status};

/// What kind of refusal it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What was asked makes no sense.
    Malformed,
    /// It makes sense, and cannot be had.
    NotPossible,
    /// Who asks has not proven who that is.
    Unauthenticated,
    /// Who asks may not do this.
    Forbidden,
    /// There is no such incident.
    NoIncident,
    /// The incident has no such archive.
    NoRevision,
    /// No such node was ever heard of.
    NoNode,
    /// There is no such token.
    NoToken,
    /// The archive has no such entry.
    NoEntry,
    /// The collector's configuration does not list this target.
    UnlistedTarget,
    /// No node is known at all.
    NoNodes,
    /// The incident is not sealed yet.
    NotSealed,
    /// The incident could not be sealed.
    NotSealable,
    /// What is wanted lies behind the end.
    BeyondEnd,
    /// There are as many of these as there may be.
    TooMany,
    /// It cannot be written into the audit log, so it is not done.
    NotRecorded,
    /// The collector is stopping.
    Stopping,
    /// It did not come in time.
    TooSlow,
    /// The collector cannot do it now.
    Unavailable,
    /// The index did not answer, or the collector failed at it.
    Internal,
    /// A sealed archive cannot be read as it was sealed.
    Damaged,
    /// HTTP: there is nothing at this address.
    NoRoute,
    /// HTTP: not with this method.
    NoMethod,
    /// HTTP: the request is for another host than this one.
    ForeignHost,
    /// HTTP: a page of somebody else asks.
    ForeignOrigin,
    /// HTTP: the body is too large.
    TooLarge,
    /// HTTP: the body is of another type.
    WrongType,
    /// gRPC: it is no call of gRPC.
    NoCall,
}

/// What a kind is elsewhere: its code, its title for a person, its number in HTTP, its number in gRPC.
type Row = (&'static str, &'static str, u16, Code);

impl Kind {
    /// Every kind.
    pub const ALL: &[Self] = &[
        Self::Malformed,
        Self::NotPossible,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NoIncident,
        Self::NoRevision,
        Self::NoNode,
        Self::NoToken,
        Self::NoEntry,
        Self::UnlistedTarget,
        Self::NoNodes,
        Self::NotSealed,
        Self::NotSealable,
        Self::BeyondEnd,
        Self::TooMany,
        Self::NotRecorded,
        Self::Stopping,
        Self::TooSlow,
        Self::Unavailable,
        Self::Internal,
        Self::Damaged,
        Self::NoRoute,
        Self::NoMethod,
        Self::ForeignHost,
        Self::ForeignOrigin,
        Self::TooLarge,
        Self::WrongType,
        Self::NoCall,
    ];

    const fn row(self) -> Row {
        match self {
            Self::Malformed => ("malformed", "The request makes no sense", 400, Code::InvalidArgument),
            Self::NotPossible => ("not-possible", "This cannot be had", 422, Code::InvalidArgument),
            Self::Unauthenticated => ("unauthenticated", "Who is asking?", 401, Code::Unauthenticated),
            Self::Forbidden => ("forbidden", "The caller may not do this", 403, Code::PermissionDenied),
            Self::NoIncident => ("no-incident", "There is no such incident", 404, Code::NotFound),
            Self::NoRevision => ("no-revision", "The incident has no such archive", 404, Code::NotFound),
            Self::NoNode => ("no-node", "There is no such node", 404, Code::NotFound),
            Self::NoToken => ("no-token", "There is no such token", 404, Code::NotFound),
            Self::NoEntry => ("no-entry", "The archive has no such entry", 404, Code::NotFound),
            Self::UnlistedTarget => ("unlisted-target", "This target is not on the list", 403, Code::PermissionDenied),
            Self::NoNodes => ("no-nodes", "No node is known yet", 409, Code::FailedPrecondition),
            Self::NotSealed => ("not-sealed", "The incident is not sealed yet", 409, Code::FailedPrecondition),
            Self::NotSealable => ("not-sealable", "The incident could not be sealed", 409, Code::FailedPrecondition),
            Self::BeyondEnd => ("beyond-end", "This lies behind the end", 416, Code::OutOfRange),
            Self::TooMany => ("too-many", "There are too many at a time", 429, Code::ResourceExhausted),
            Self::NotRecorded => ("not-recorded", "The audit log cannot be written", 503, Code::Unavailable),
            Self::Stopping => ("stopping", "The collector is stopping", 503, Code::Unavailable),
            Self::TooSlow => ("too-slow", "It took too long", 408, Code::DeadlineExceeded),
            Self::Unavailable => ("unavailable", "The collector cannot do this now", 503, Code::Unavailable),
            Self::Internal => ("internal", "The collector failed at this", 500, Code::Internal),
            Self::Damaged => ("damaged", "A sealed archive cannot be read", 500, Code::DataLoss),
            Self::NoRoute => ("no-route", "There is nothing at this address", 404, Code::Unimplemented),
            Self::NoMethod => ("no-method", "Not with this method", 405, Code::Unimplemented),
            Self::ForeignHost => ("foreign-host", "This is another host", 421, Code::PermissionDenied),
            Self::ForeignOrigin => ("foreign-origin", "Another site is asking", 403, Code::PermissionDenied),
            Self::TooLarge => ("too-large", "The request is too large", 413, Code::ResourceExhausted),
            Self::WrongType => ("wrong-type", "The body is of another type", 415, Code::InvalidArgument),
            Self::NoCall => ("no-call", "This is no call of gRPC", 501, Code::Unimplemented),
        }
    }

    /// Its name for programs; stable.
    pub const fn code(self) -> &'static str {
        self.row().0
    }

    /// Its name for people.
    pub const fn title(self) -> &'static str {
        self.row().1
    }

    /// Its status in HTTP.
    pub const fn http(self) -> u16 {
        self.row().2
    }

    /// Its status in gRPC.
    pub const fn grpc(self) -> Code {
        self.row().3
    }
}

/// Something is not done, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What kind of refusal it is.
    pub kind: Kind,
    /// What happened and what to try, for a person. Says nothing of our paths, nor what the file system said.
    pub text: String,
}

impl Refused {
    /// Of this kind, for this reason.
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.code(), self.text)
    }
}

impl std::error::Error for Refused {}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        Self::new(refused.kind.grpc(), refused.text)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_a_code_of_its_own_and_a_status_that_is_an_error() {
        let codes: BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.code()).collect();
        assert_eq!(codes.len(), Kind::ALL.len());
        for kind in Kind::ALL {
            assert!((400..600).contains(&kind.http()) && kind.grpc() != Code::Ok, "{kind:?}");
            assert!(kind.code().bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{kind:?}");
        }
    }
}
