//! Rule files in our own format, and the checks that every rule goes through.
//!
//! A rule has one way of finding: `starts` (the regular expression is tried where one of these literals stands), `keywords`
//! (it is searched for in records with one of these), `names` (the value behind such a name), or, for built-in ones only, `engine`.
//! Samples mark the secret with `«` and `»`; a `·` in them is left out, so that nothing in a file looks like a secret.

use std::borrow::Cow;

use regex::bytes::{Regex, RegexBuilder};
use serde::Deserialize;

use super::filter::MIN_LITERAL;
use super::gitleaks;
use super::key::{MAX_ID, is_id};
use super::rule::{Engine, Find, Rule, RuleInfo, Samples, Value};

/// The largest file of rules.
pub(crate) const MAX_FILE: usize = 1 << 20;

/// The most memory of one compiled regular expression.
const MAX_REGEX: usize = 512 << 10;

/// The most memory that one regular expression may use while it searches: there are many of them, and the agent has little.
const MAX_REGEX_CACHE: usize = 128 << 10;

/// The longest literal or name.
const MAX_TEXT: usize = 256;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    rules: Vec<RuleText>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RuleText {
    id: String,
    about: String,
    starts: Vec<String>,
    keywords: Vec<String>,
    names: Vec<String>,
    except: Vec<String>,
    value: Option<Value>,
    engine: Option<Engine>,
    regex: Option<String>,
    entropy: Option<f64>,
    allow: Vec<String>,
    positive: Vec<String>,
    negative: Vec<String>,
}

/// Reads a file of rules. What is wrong goes to `problem`, the rules that are sound come back.
pub(crate) fn read(text: &str, builtin: bool, problem: &mut dyn FnMut(String)) -> Vec<Rule> {
    if text.len() > MAX_FILE {
        problem(format!("{} bytes, and the most is {MAX_FILE}", text.len()));
        return Vec::new();
    }
    if gitleaks::is_it(text) {
        return gitleaks::read(text, problem);
    }
    match toml::from_str::<File>(text) {
        Ok(file) => file.rules.into_iter().filter_map(|rule| rule.check(builtin, problem)).collect(),
        Err(e) => {
            problem(one_line(&e.to_string()));
            Vec::new()
        }
    }
}

impl RuleText {
    fn check(self, builtin: bool, problem: &mut dyn FnMut(String)) -> Option<Rule> {
        let id = self.id.clone();
        let mut sound = true;
        let mut wrong = |what: String| {
            sound = false;
            problem(format!("rule {id:?}: {what}"));
        };
        if !is_id(&self.id) {
            wrong(format!("an id is 1 to {MAX_ID} small letters, digits and dashes"));
        }
        if self.about.is_empty() {
            wrong("about is missing: one sentence on what it finds".to_owned());
        }
        for text in [&self.starts, &self.keywords, &self.names].into_iter().flatten() {
            if !(MIN_LITERAL..=MAX_TEXT).contains(&text.len()) {
                wrong(format!("{text:?}: {MIN_LITERAL} to {MAX_TEXT} bytes"));
            }
        }
        let ways = [!self.starts.is_empty(), !self.keywords.is_empty(), !self.names.is_empty(), self.engine.is_some()];
        let regex = self.regex.as_deref().and_then(|r| {
            let anchored = if self.starts.is_empty() { Cow::Borrowed(r) } else { Cow::Owned(format!(r"\A(?:{r})")) };
            compile(&anchored).map_err(&mut wrong).ok()
        });
        if ways.iter().filter(|w| **w).count() != 1 {
            wrong("exactly one of starts, keywords, names is needed".to_owned());
        } else if (ways[0] || ways[1]) != self.regex.is_some() {
            wrong("starts and keywords need a regex, names do not have one".to_owned());
        }
        let allow: Vec<Regex> = self.allow.iter().filter_map(|a| compile(a).map_err(&mut wrong).ok()).collect();
        let find = match (regex, self.engine) {
            (None, Some(engine)) if builtin => Find::Engine(engine),
            (_, Some(_)) => {
                wrong("only built-in rules have an engine".to_owned());
                return None;
            }
            (Some(regex), None) if ways[0] => {
                let group = secret_group(&regex);
                Find::Starts(self.starts.clone(), regex, group)
            }
            (Some(regex), None) => {
                let group = secret_group(&regex);
                Find::Search(self.keywords.clone(), regex, group)
            }
            (None, None) => Find::Names(
                self.names.iter().map(|n| n.to_ascii_lowercase()).collect(),
                self.except.iter().map(|e| e.to_ascii_lowercase()).collect(),
                self.value.unwrap_or(Value::Any),
            ),
        };
        if !sound {
            return None;
        }
        let info = RuleInfo { id: self.id.clone(), about: self.about.clone() };
        let samples = Samples { positive: self.positive, negative: self.negative };
        Some(Rule { info, find, entropy: self.entropy, allow, stopwords: Vec::new(), samples, foreign: false })
    }
}

/// The number of the group called `secret`, or 0 for the whole.
pub(crate) fn secret_group(regex: &Regex) -> usize {
    regex.capture_names().position(|n| n == Some("secret")).unwrap_or(0)
}

/// A regular expression over bytes, within our limits.
pub(crate) fn compile(regex: &str) -> Result<Regex, String> {
    RegexBuilder::new(regex)
        .unicode(false)
        .size_limit(MAX_REGEX)
        .dfa_size_limit(MAX_REGEX_CACHE)
        .build()
        .map_err(|e| one_line(&e.to_string()))
}

/// A message of several lines as one.
pub(crate) fn one_line(message: &str) -> String {
    message.split('\n').map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" ")
}
