//! Secrets out of text. Everything that leaves a node goes through here first: each secret becomes a keyed token, the same for
//! equal secrets on every node, so that a leak stays traceable without being one.
//!
//! # What is guaranteed
//! - Nothing here reads a file, opens a connection or knows the time. The same bytes, rules and key give the same result.
//! - Work and memory are bounded by the length of the record: a record grows by at most [`MAX_GROWTH`], and what would
//!   need more is masked as one.
//! - What was masked stays masked: masking again changes nothing.
//! - A record without a secret comes back as it is, the same bytes in the same place.
//! - What was masked is counted by rule.
//!
//! # What is found
//! - Tokens with a form of their own (`ghp_…`, JSON web tokens, private keys in blocks), wherever they stand.
//! - Values of telling names (`password`, `clientSecret`, `X-Api-Key`) in logfmt, JSON at any depth of quoting, YAML, XML, dumps
//!   of Go, Rust and Python, environments, queries, connection strings and options of commands.
//! - What programs are told on command lines and in headers and addresses: `curl -u`, `Authorization:`, `scheme://user:password@host`.
//! - All of that behind colours, in UTF-16, with `%2F`, `\u003d` or `\/` in it; private keys over many records.
//!
//! # What cannot be found
//! - A secret that has neither a form nor a telling name or place before it: `login alice hunter2`, a key that is printed
//!   alone as hex, a password in prose.
//! - A value that stands in another record than its name, but for private keys in blocks.
//! - The words behind the first of a value of several words without quotes (`password: correct horse`), except for names
//!   that mean phrases.
//! - What was compressed, encrypted or encoded otherwise than in the ways above, nested twice, or split by other text.
//! - Values that look like a word, a number or the name of an object, where the name before is a word of everyday logs
//!   (`token=release`, `secret: db-credentials`).
//! - A password that is itself a placeholder (`none`, `***`, `${NAME}`).
//!
//! An operator who knows more adds rules, in the format of `rules.toml` or in that of gitleaks.

mod block;
mod explain;
mod filter;
mod format;
mod gitleaks;
mod key;
mod name;
mod proof;
mod pseudonym;
mod rule;
mod ruleset;
#[cfg(any(test, feature = "samples"))]
#[doc(hidden)]
pub mod samples;
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
