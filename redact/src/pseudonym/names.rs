//! Where names of users and of hosts stand: in fields that say so, in the sentences of login programs, in paths.

use std::ops::Range;
use std::sync::LazyLock;

use regex::bytes::Regex;

use super::super::rule::is_word;
use super::super::verdict::{is_nothing, is_sentence};

/// Users that every system has.
const SYSTEM: &[&str] = &[
    "root",
    "nobody",
    "daemon",
    "bin",
    "sys",
    "adm",
    "sync",
    "mail",
    "www-data",
    "messagebus",
    "syslog",
    "sshd",
    "postgres",
    "mysql",
    "redis",
    "nginx",
    "git",
    "ntp",
    "chrony",
    "polkitd",
    "dbus",
    "kube",
    "etcd",
    "containerd",
    "docker",
    "nonroot",
    "service",
    "system",
    "anonymous",
    "localhost",
    "agent",
    "uid",
    "name",
    "id",
];

/// The most names of hosts that are known, and the shortest.
const MAX_KNOWN: usize = 1024;
const MIN_KNOWN: usize = 3;

#[expect(clippy::expect_used, reason = "constants, read by the tests")]
fn regex(text: &str) -> Regex {
    Regex::new(&format!("(?-u){text}")).expect("a regular expression")
}

static USERS: LazyLock<Regex> = LazyLock::new(|| {
    regex(concat!(
        r#"(?i)(?:\b(?:r?user(?:[_-]?name)?|login|logname|acct|auid|account|owner)\\*["']?[ ]?[=:][ ]?\\*["']?"#,
        r#"|\b(?:for|by|from)(?: invalid)? user[= ]["']?|\b(?:accepted|failed) [a-z/-]{1,40} for (?:invalid user )?"#,
        r#"|/(?:home|users)/|\buid=\d{1,10}\(|\bsudo(?:\[\d{1,10}\])?: {1,8})([a-z_][a-z0-9._-]{0,63})"#,
    ))
});

static MAIL: LazyLock<Regex> = LazyLock::new(|| regex(r"(?i)\b([a-z0-9._+-]{1,64})@[a-z0-9][a-z0-9.-]{0,253}"));

static HOSTS: LazyLock<Regex> = LazyLock::new(|| {
    regex(concat!(
        r#"(?i)\b(?:_?host(?:_?name)?|node(?:_?name)?)\\*["']?[ ]?[=:][ ]?\\*["']?([a-z0-9][a-z0-9.-]{1,252})"#,
        r"|(?m:^)(?:[a-z]{3} [ \d]\d \d\d:\d\d:\d\d) ([a-z0-9][a-z0-9.-]{0,252}) [^ \[:]{1,64}(?:\[\d{1,10}\])?:",
        r"|\b((?:[a-z0-9][a-z0-9-]{0,62}\.){1,8}(?:internal|intranet|corp|lan|home|private|localdomain|local))\b",
    ))
});

/// Names of hosts that were told.
#[derive(Debug, Clone, Default)]
pub(super) struct Known(Vec<Vec<u8>>);

impl Known {
    pub(super) fn new(hosts: &[String]) -> Self {
        let mut known: Vec<_> =
            hosts.iter().filter(|h| h.len() >= MIN_KNOWN).take(MAX_KNOWN).map(|h| h.clone().into_bytes()).collect();
        known.sort_by_key(|h| usize::MAX - h.len());
        Self(known)
    }
}

/// Gives the names of users in a text.
pub(super) fn users(text: &[u8], found: &mut dyn FnMut(Range<usize>)) {
    for regex in [&USERS, &MAIL] {
        for hit in regex.captures_iter(text) {
            if let Some(name) = hit.get(1)
                && is_user(name.as_bytes())
            {
                let dots = name.as_bytes().iter().rev().take_while(|b| matches!(b, b'.' | b'-')).count();
                found(name.start()..name.end() - dots);
            }
        }
    }
}

fn is_user(name: &[u8]) -> bool {
    let system = SYSTEM.iter().any(|s| name.eq_ignore_ascii_case(s.as_bytes())) || name.starts_with(b"systemd-");
    !system && !is_nothing(name) && !is_sentence(name) && name.iter().any(u8::is_ascii_alphabetic)
}

/// Gives the names of hosts in a text.
pub(super) fn hosts(text: &[u8], known: &Known, found: &mut dyn FnMut(Range<usize>)) {
    for host in &known.0 {
        for at in memchr::memmem::find_iter(text, host) {
            let end = at + host.len();
            let apart = |b: Option<&u8>| b.is_none_or(|b| !is_word(*b) && *b != b'-');
            if apart(at.checked_sub(1).and_then(|b| text.get(b))) && apart(text.get(end)) {
                found(at..end);
            }
        }
    }
    for hit in HOSTS.captures_iter(text) {
        let Some(name) = hit.iter().skip(1).flatten().next() else { continue };
        let bytes = name.as_bytes();
        let plain = bytes.eq_ignore_ascii_case(b"localhost") || is_nothing(bytes) || is_sentence(bytes);
        // Names of services are not those of machines; addresses have pseudonyms of their own.
        let service = bytes.ends_with(b".cluster.local") || !bytes.iter().any(u8::is_ascii_alphabetic);
        if !plain && !service {
            found(name.range());
        }
    }
}
