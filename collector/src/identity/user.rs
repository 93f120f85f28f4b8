//! The name of a user of the cluster, as it is shown: in the audit log, in a terminal, in an archive.
//!
//! `cluster:` stands before it, and names of our own have no colon: nobody can be called by the cluster what somebody else is
//! called here. What cannot stand in any text is no name, and its user does nothing.

use std::fmt;
use std::str::FromStr;

/// What stands before it.
const OF_CLUSTER: &str = "cluster:";

/// The most bytes: a service account with a namespace of 63 and a name of 253 letters fits.
const MAX: usize = 384;

/// Beside letters and digits: what stands in service accounts, e-mail addresses, and names behind the URL of their issuer.
const MARKS: &[u8] = b"._-@:/+#=|";

/// The name of a user of the cluster, which can be shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UserName(String);

/// A text is no name that can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unshowable;

impl FromStr for UserName {
    type Err = Unshowable;
    fn from_str(text: &str) -> Result<Self, Unshowable> {
        let fits = (1..=MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || MARKS.contains(&b))
            && text.as_bytes()[0].is_ascii_alphanumeric();
        if fits { Ok(Self(text.to_owned())) } else { Err(Unshowable) }
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{OF_CLUSTER}{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use casefile_proto::identity::PersonName;

    use super::*;

    #[test]
    fn a_name_of_the_cluster_is_never_that_of_a_person_a_node_or_the_owner() {
        let good = [
            "kim",
            "owner",
            "system:serviceaccount:casefile:ci",
            "oidc:kim@example.com",
            "https://accounts.example.com#1234",
            "auth0|5f7c",
            "kim+oncall@example.com",
        ];
        for name in good {
            let shown = name.parse::<UserName>().unwrap().to_string();
            assert_eq!(shown, format!("cluster:{name}"));
            assert!(shown.parse::<PersonName>().is_err() && !shown.contains(' '), "{shown}");
        }
    }

    #[test]
    fn what_could_say_something_else_in_a_log_a_terminal_or_a_page_is_no_name() {
        let long = "x".repeat(MAX + 1);
        for bad in
            ["", "a b", "a\n", "a\u{1b}[2J", "<b>", "a\"", "a'", "a\\", "ä", "\u{202e}a", ":a", "-a", "a(as b)", &long]
        {
            assert_eq!(bad.parse::<UserName>(), Err(Unshowable), "{bad:?}");
        }
    }
}
