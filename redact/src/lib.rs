//! Secrets out of text: what leaves a node goes through here first.
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "tests"))]

mod block;
mod explain;
mod filter;
mod format;
mod gitleaks;
mod key;
mod name;
mod pseudonym;
mod rule;
mod ruleset;
mod scan;
mod secret_object;
mod stream;
mod url;
mod value;
mod verdict;
mod view;

pub use explain::Explained;
pub use key::{Key, KeyId};
pub use pseudonym::Pseudonyms;
pub use rule::RuleInfo;
pub use ruleset::RuleSet;
pub use stream::{MAX_GROWTH, Redactor, Stream};
