//! A rule, ready to be applied: what it looks for, where it is tried, and what it lets pass.

use regex::bytes::Regex;

use super::verdict::{entropy, is_nothing};

/// What a rule is, for people.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RuleInfo {
    /// Its name, which stands in the token: small letters, digits and dashes.
    pub id: String,
    /// What it finds, one sentence.
    pub about: String,
}

/// What a value must look like to be a secret, given the name before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Value {
    /// Anything that is not a placeholder.
    Any,
    /// Something that is not a word, a number or a name.
    Opaque,
    /// Anything up to the end of the line.
    Line,
}

/// What is found by code rather than by a regular expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Engine {
    /// PEM and PuTTY blocks, over several records.
    PrivateKey,
    /// The same, encoded once more.
    EncodedPrivateKey,
    /// `scheme://user:password@host`.
    UrlPassword,
    /// The values of a Kubernetes Secret.
    KubernetesSecret,
    /// What touches the end of a record that was cut off.
    Cut,
    /// The rest of a record in which more was found than may be replaced one by one.
    Crowded,
}

impl Engine {
    /// Where its code is to look.
    pub(crate) fn literals(self) -> &'static [&'static str] {
        match self {
            Self::PrivateKey => &["private key", "private-lines"],
            // `PRIVATE KEY` in base64, at each of the three places where it may fall.
            Self::EncodedPrivateKey => &["UFJJVkFURSBLRV", "BSSVZBVEUgS0VZ", "QUklWQVRFIEtFW"],
            Self::UrlPassword => &["://"],
            Self::KubernetesSecret => &[
                "\"kind\":\"secret\"",
                "\"kind\": \"secret\"",
                "kind\\\":\\\"secret",
                "kind\\\": \\\"secret",
                "kind: secret",
                "&secret{",
                "v1.secret{",
            ],
            Self::Cut | Self::Crowded => &[],
        }
    }
}

/// How a rule finds.
#[derive(Debug)]
pub(crate) enum Find {
    /// By a regular expression that is tried where one of the literals stands; the number of the group that is the secret.
    Starts(Vec<String>, Regex, usize),
    /// By a regular expression that is searched for in a record in which one of the keywords stands, or in every record
    /// if there are none; the number of the group that is the secret.
    Search(Vec<String>, Regex, usize),
    /// By the name that stands before: names, words that make it harmless, and how the value must look.
    Names(Vec<String>, Vec<String>, Value),
    /// By code.
    Engine(Engine),
}

/// A rule.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) info: RuleInfo,
    pub(crate) find: Find,
    /// The least bits of entropy of a byte of the secret.
    pub(crate) entropy: Option<f64>,
    /// What is not a secret although it looks like one.
    pub(crate) allow: Vec<Regex>,
    /// The same, as parts of it in lower case.
    pub(crate) stopwords: Vec<String>,
    pub(crate) samples: Samples,
    /// Whether it comes from a file in another format, whose ids may be ours as well.
    pub(crate) foreign: bool,
}

/// Texts that show what a rule is for, read as [`super::proof`] says.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    /// What is to go stands between `«` and `»`.
    pub(crate) positive: Vec<String>,
    /// Of these nothing is to go.
    pub(crate) negative: Vec<String>,
}

impl Rule {
    /// Whether something that was found by the regular expression of this rule is a secret.
    pub(crate) fn confirms(&self, secret: &[u8]) -> bool {
        !is_nothing(secret)
            && self.entropy.is_none_or(|least| entropy(secret) >= least)
            && !self.allow.iter().any(|a| a.is_match(secret))
            && (self.stopwords.is_empty() || {
                let folded = secret.to_ascii_lowercase();
                !self.stopwords.iter().any(|w| memchr::memmem::find(&folded, w.as_bytes()).is_some())
            })
    }
}

/// Letters, digits and underscores: what words and names of variables are made of.
pub(crate) fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}
