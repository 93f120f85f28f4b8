//! Pseudonyms for what identifies people and machines without being a secret.

use super::key::Keyed;

/// What is replaced by pseudonyms besides the secrets. All off by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pseudonyms {
    /// IP addresses: equal for equal ones, and in one subnet if they were.
    pub addresses: bool,
    /// Names of hosts.
    pub hosts: bool,
    /// Names of users.
    pub users: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Renaming;

impl Renaming {
    pub(crate) fn new(_keyed: &Keyed, _what: Pseudonyms) -> Option<Self> {
        None
    }

    pub(crate) fn rename(&self, _text: &[u8], _out: &mut Vec<u8>) -> bool {
        false
    }
}
