//! Rule files in the format of gitleaks (<https://github.com/gitleaks/gitleaks>, its README describes it), as far as its
//! rules say something about a text: what concerns paths and commits has no meaning here.

use regex::bytes::Regex;
use serde::Deserialize;

use super::filter::MAX_LITERAL;
use super::format::{compile, one_line, secret_group};
use super::key::MAX_ID;
use super::rule::{Find, Rule, RuleInfo, Samples};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    rules: Vec<RuleText>,
    #[serde(default)]
    allowlist: Option<Allow>,
    #[serde(default)]
    allowlists: Vec<Allow>,
    #[serde(default)]
    extend: Option<toml::Table>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuleText {
    id: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    regex: Option<String>,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    keywords: Vec<String>,
    #[serde(default)]
    entropy: Option<f64>,
    #[serde(default)]
    secret_group: usize,
    #[serde(default)]
    allowlist: Option<Allow>,
    #[serde(default)]
    allowlists: Vec<Allow>,
}

/// What a rule lets pass. `paths` and `commits` are read over.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Allow {
    regexes: Vec<String>,
    regex_target: Option<String>,
    stopwords: Vec<String>,
    condition: Option<String>,
    target_rules: Vec<String>,
}

/// Whether a file is in this format: it says `description` where ours says `about`, and has tables that ours has not.
pub(crate) fn is_it(text: &str) -> bool {
    let Ok(table) = text.parse::<toml::Table>() else { return false };
    let rules = table.get("rules").and_then(toml::Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let theirs = ["description", "secretGroup", "allowlist", "allowlists", "path", "tags"];
    ["title", "extend", "allowlist", "allowlists"].iter().any(|k| table.contains_key(*k))
        || rules.iter().any(|r| theirs.iter().any(|k| r.get(k).is_some()))
}

/// Reads such a file. What cannot be applied here goes to `problem`, rule by rule.
pub(crate) fn read(text: &str, problem: &mut dyn FnMut(String)) -> Vec<Rule> {
    let file: File = match toml::from_str(text) {
        Ok(file) => file,
        Err(e) => {
            problem(one_line(&e.to_string()));
            return Vec::new();
        }
    };
    for key in file.extend.iter().flat_map(toml::Table::keys) {
        // Theirs are not shipped with Casefile; an operator who wants them gives the whole file.
        problem(format!("extend.{key}: the rules that it names are not here; put them into this file"));
    }
    let everywhere: Vec<Allow> = file.allowlist.into_iter().chain(file.allowlists).collect();
    file.rules.into_iter().filter_map(|rule| rule.check(&everywhere, problem)).collect()
}

impl RuleText {
    fn check(self, everywhere: &[Allow], problem: &mut dyn FnMut(String)) -> Option<Rule> {
        let mut sound = true;
        let id = self.id.clone();
        let mut wrong = |what: String| {
            sound = false;
            problem(format!("rule {id:?}: {what}"));
        };
        let Some(regex) = &self.regex else {
            if self.path.is_none() {
                wrong("it has neither a regex nor a path".to_owned());
            }
            // A rule about paths alone says nothing about a text.
            return None;
        };
        let regex = compile(&translate(regex)).map_err(&mut wrong).ok();
        let (mut allow, mut stopwords) = (Vec::<Regex>::new(), Vec::new());
        let applies = |a: &&Allow| a.target_rules.is_empty() || a.target_rules.contains(&self.id);
        for list in self.allowlist.iter().chain(&self.allowlists).chain(everywhere.iter().filter(applies)) {
            // A list that needs a path or a commit as well can never apply here, nor can one that looks at more than the secret
            // be trusted to let it pass: both are left out, which masks more and not less.
            let only_secret = list.regex_target.as_deref().is_none_or(|t| t == "secret");
            let any = list.condition.as_deref().is_none_or(|c| c.eq_ignore_ascii_case("or"));
            if only_secret && any {
                allow.extend(list.regexes.iter().filter_map(|r| compile(&translate(r)).map_err(&mut wrong).ok()));
                stopwords.extend(list.stopwords.iter().map(|w| w.to_ascii_lowercase()));
            }
        }
        let regex = regex?;
        let groups = regex.captures_len();
        let group = match self.secret_group {
            // Theirs: without a number, the first group if there is one.
            0 => secret_group(&regex).max(usize::from(groups > 1)),
            n => n,
        };
        if group >= groups {
            wrong(format!("secretGroup {group}, and the regex has {} groups", groups - 1));
        }
        let keywords: Vec<String> = self
            .keywords
            .iter()
            .map(|k| k.chars().take(MAX_LITERAL).collect::<String>().to_ascii_lowercase())
            .collect();
        let about = if self.description.is_empty() { self.id.clone() } else { one_line(&self.description) };
        let info = RuleInfo { id: own_id(&self.id), about };
        let find = Find::Search(keywords, regex, group);
        sound.then_some(Rule {
            info,
            find,
            entropy: self.entropy,
            allow,
            stopwords,
            samples: Samples::default(),
            foreign: true,
        })
    }
}

/// What Go writes otherwise than Rust: `\z` is the same, `\Z` and `\C` do not exist there, `(?P<x>…)` is understood, and a
/// `{` that begins no repetition is an ordinary sign in Go.
fn translate(regex: &str) -> String {
    let mut out = String::with_capacity(regex.len() + 8);
    let bytes = regex.as_bytes();
    let mut escaped = false;
    for (at, c) in regex.char_indices() {
        if c == '{' && !escaped && !is_repetition(&bytes[at..]) && !after_class_escape(&bytes[..at]) {
            out.push('\\');
        }
        escaped = c == '\\' && !escaped;
        out.push(c);
    }
    out
}

/// `{3}`, `{3,}`, `{3,5}`.
fn is_repetition(rest: &[u8]) -> bool {
    let inside = rest[1..].iter().take(16).take_while(|b| b.is_ascii_digit() || **b == b',').count();
    inside > 0 && rest[1].is_ascii_digit() && rest.get(1 + inside) == Some(&b'}')
}

/// `\x{…}`, `\p{…}`, `\P{…}`.
fn after_class_escape(before: &[u8]) -> bool {
    matches!(before, [.., b'\\', b'x' | b'p' | b'P'])
}

/// What a rule is called if there is one of its id already.
pub(crate) fn another_id(id: &str) -> String {
    format!("{}-gitleaks", &id[..id.len().min(MAX_ID - "-gitleaks".len())])
}

/// Their ids hold underscores and capitals now and then; ours go into tokens.
fn own_id(id: &str) -> String {
    let id: String = id.to_ascii_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let id: String = id.chars().take(MAX_ID).collect();
    if id.is_empty() { "unnamed".to_owned() } else { id }
}
