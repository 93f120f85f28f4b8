//! Tokens, people and certificates, within their limits.

use std::time::Duration;

use casefile_proto::identity::{
    Credential, EnrolAsk, Enrolled, NewToken, Person, Role, Subject, TokenAsk, TokenId, TokenInfo,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::subsequence;

use super::{node, wall};

fn person() -> impl Strategy<Value = Person> {
    ("[a-z0-9][a-z0-9._@-]{0,20}", subsequence(Role::ALL.to_vec(), 1..=4))
        .prop_map(|(name, roles)| Person { name: name.parse().unwrap(), roles })
}

fn subject() -> impl Strategy<Value = Subject> {
    prop_oneof![node().prop_map(Subject::Node), person().prop_map(Subject::Person)]
}

pub(crate) fn token_ask() -> impl Strategy<Value = TokenAsk> {
    (subject(), 1..1_000_000_000_000u64)
        .prop_map(|(subject, nanos)| TokenAsk { subject, ttl: Duration::from_nanos(nanos) })
}

pub(crate) fn token_id() -> impl Strategy<Value = TokenId> {
    "[0-9a-f]{16}".prop_map(|id| id.parse().unwrap())
}

fn token_info() -> impl Strategy<Value = TokenInfo> {
    (token_id(), subject(), wall(), wall()).prop_map(|(id, subject, created, expires)| TokenInfo {
        id,
        subject,
        created,
        expires,
    })
}

pub(crate) fn tokens() -> impl Strategy<Value = Vec<TokenInfo>> {
    vec(token_info(), 0..4)
}

pub(crate) fn new_token() -> impl Strategy<Value = NewToken> {
    ("[a-z0-9_]{1,160}", token_info()).prop_map(|(token, kept)| NewToken { token, kept })
}

pub(crate) fn enrol_ask() -> impl Strategy<Value = EnrolAsk> {
    let credential = prop_oneof![
        Just(Credential::Certificate),
        "[a-z0-9_]{1,160}".prop_map(Credential::Join),
        "[A-Za-z0-9._-]{1,1000}".prop_map(Credential::ServiceAccount),
    ];
    (credential, vec(any::<u8>(), 0..300)).prop_map(|(credential, request)| EnrolAsk { credential, request })
}

pub(crate) fn enrolled() -> impl Strategy<Value = Enrolled> {
    (node(), vec(vec(any::<u8>(), 0..300), 1..3), wall(), wall())
        .prop_map(|(node, certificates, issued, expires)| Enrolled { node, certificates, issued, expires })
}
