//! Pseudonyms for what identifies people and machines without being a secret. All are off unless an operator wants them.
//!
//! Equal names get equal pseudonyms on every node that has the key. They are applied once, after the secrets are gone: an
//! address that went through twice would have another pseudonym.

mod addresses;
mod names;

use std::ops::Range;

use super::key::{Keyed, next_token};
use names::Known;

/// What is replaced by pseudonyms besides the secrets. All off by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pseudonyms {
    /// IP addresses. Two that were in one subnet of any length still are; what is private stays recognisable as private; and
    /// loopback, link-local, multicast, unspecified addresses and network masks stay as they are.
    pub addresses: bool,
    /// Names of hosts: those that are known ([`Redactor::knowing`](super::Redactor::knowing)), those that fields called
    /// host or node name, and whole names under private domains (`.internal`, `.corp`, …).
    pub hosts: bool,
    /// Names of users in the fields, sentences and paths that usually hold them, and the local parts of mail addresses.
    /// Those of the system (`root`, `nobody`, …) stay.
    pub users: bool,
}

/// Replaces names in texts.
#[derive(Debug, Clone)]
pub(crate) struct Renaming {
    keyed: Keyed,
    what: Pseudonyms,
    known: Known,
}

impl Renaming {
    pub(crate) fn new(keyed: &Keyed, what: Pseudonyms) -> Option<Self> {
        (what != Pseudonyms::default()).then(|| Self { keyed: keyed.clone(), what, known: Known::default() })
    }

    /// These are names of hosts, wherever they stand as a word.
    pub(crate) fn know(&mut self, hosts: &[String]) {
        self.known = Known::new(hosts);
    }

    /// Writes the text with pseudonyms to `out`; false, and nothing of use there, if it is the same text.
    pub(crate) fn rename(&self, text: &[u8], out: &mut Vec<u8>) -> bool {
        let mut found: Vec<(Range<usize>, String)> = Vec::new();
        if self.what.addresses {
            addresses::each(text, &self.keyed, &mut |range, name| found.push((range, name)));
        }
        if self.what.hosts {
            names::hosts(text, &self.known, &mut |range| {
                found.push((range.clone(), pseudonym(&self.keyed, "host", &text[range])));
            });
        }
        if self.what.users {
            names::users(text, &mut |range| {
                found.push((range.clone(), pseudonym(&self.keyed, "user", &text[range])));
            });
        }
        found.sort_by_key(|(range, _)| range.start);
        out.clear();
        let (mut done, mut token) = (0, next_token(text, 0));
        for (range, name) in found {
            while token.as_ref().is_some_and(|t| t.end <= range.start) {
                token = token.and_then(|t| next_token(text, t.end));
            }
            let in_token = token.as_ref().is_some_and(|t| t.start < range.end);
            if range.start < done || in_token || text[range.clone()] == *name.as_bytes() {
                continue;
            }
            out.extend_from_slice(&text[done..range.start]);
            out.extend_from_slice(name.as_bytes());
            done = range.end;
        }
        out.extend_from_slice(&text[done..]);
        done > 0
    }
}

/// `user-3fa9c2d1`. One that is a pseudonym already stays.
fn pseudonym(keyed: &Keyed, kind: &str, name: &[u8]) -> String {
    let name = name.to_ascii_lowercase();
    let digits = name.strip_prefix(kind.as_bytes()).and_then(|n| n.strip_prefix(b"-")).unwrap_or_default();
    if digits.len() == 8 && digits.iter().all(u8::is_ascii_hexdigit) {
        return String::from_utf8_lossy(&name).into_owned();
    }
    let digest = keyed.digest(kind.as_bytes(), &name);
    format!("{kind}-{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3])
}

#[cfg(test)]
mod tests {
    use super::super::key::Key;
    use super::*;

    fn renamed(what: Pseudonyms, text: &str) -> String {
        let mut renaming = Renaming::new(&Keyed::new(&Key::new([3; 32])), what).unwrap();
        renaming.know(&["node-7".to_owned()]);
        let mut out = vec![];
        if renaming.rename(text.as_bytes(), &mut out) { String::from_utf8(out).unwrap() } else { text.to_owned() }
    }

    const USERS: Pseudonyms = Pseudonyms { addresses: false, hosts: false, users: true };
    const HOSTS: Pseudonyms = Pseudonyms { addresses: false, hosts: true, users: false };

    #[test]
    fn a_user_is_the_same_pseudonym_wherever_the_name_stands() {
        let text = "user=alice; session opened for user alice(uid=1000); cd /home/alice/x; mail alice@example.org; Accepted publickey for Alice from";
        let renamed = renamed(USERS, text);
        let name = &renamed[5..18];
        assert!(name.starts_with("user-"), "{renamed}");
        assert_eq!(renamed.matches(name).count(), 5, "{renamed}");
        assert!(!renamed.to_lowercase().contains("alice"), "{renamed}");
    }

    #[test]
    fn users_of_the_system_and_words_stay() {
        for text in [
            "user=root",
            "session opened for user nobody by",
            "no such user: not found",
            "user-agent: x",
            "user=[redacted:x:0123456789abcdef]",
            "username=true",
        ] {
            assert_eq!(renamed(USERS, text), text);
        }
    }

    #[test]
    fn hosts_that_are_known_or_private_are_renamed() {
        for text in ["on node-7 now", "db1.prod.internal:5432", "hostname=web-3 x", "Nov 23 02:00:00 web-3 sshd[7]: x"]
        {
            let renamed = renamed(HOSTS, text);
            assert!(renamed.contains("host-") && !renamed.contains("web-3") && !renamed.contains("db1"), "{renamed}");
        }
        for text in ["on node-77 now", "api.github.com", "api.shop.svc.cluster.local", "host=localhost"] {
            assert_eq!(renamed(HOSTS, text), text);
        }
    }

    #[test]
    fn renaming_users_and_hosts_twice_changes_nothing_more() {
        let both = Pseudonyms { addresses: false, hosts: true, users: true };
        let once = renamed(both, "user=alice on node-7 db1.prod.internal bob@web.corp");
        assert_eq!(renamed(both, &once), once);
    }
}
