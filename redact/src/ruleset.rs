//! A set of rules, compiled once and shared: the built-in ones of `rules.toml` and the operator's.

use std::collections::HashSet;

use super::filter::{Filter, MIN_LITERAL};
use super::format;
use super::gitleaks;
use super::name::{Name, Names, spellings};
use super::proof;
use super::rule::{Engine, Find, Rule, RuleInfo};

/// The rules that are always there.
const BUILTIN: &str = include_str!("rules.toml");

/// The most rules of a set, the operator's included.
const MAX_RULES: usize = 1000;

/// How a token begins: what stands in it has names in it, but no secret.
const TOKEN: &str = "[redacted:";

/// The most literals of a set.
const MAX_LITERALS: usize = 8192;

/// Compiled rules. Immutable; shared as `Arc`.
#[derive(Debug)]
pub struct RuleSet {
    pub(crate) rules: Vec<Rule>,
    pub(crate) filter: Filter,
    /// For each literal of the filter, what is to be tried where it stands.
    pub(crate) tries: Vec<Vec<Try>>,
    /// Rules without a keyword: searched for in every record.
    pub(crate) always: Vec<usize>,
    pub(crate) names: Names,
}

/// What is tried where a literal stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Try {
    /// The regular expression of this rule, here.
    Here(usize),
    /// The regular expression of this rule, in the whole record.
    Everywhere(usize),
    /// Which name this is.
    Name,
    /// The code of this rule.
    Engine(Engine, usize),
    /// Nothing, if a token stands here.
    Token,
}

impl RuleSet {
    /// The built-in rules.
    pub fn builtin() -> Self {
        #[expect(clippy::expect_used, reason = "a constant, read by every test of this crate")]
        Self::with(&[]).expect("the built-in rules are sound")
    }

    /// The built-in rules and those of the operator's files, each given as a name for messages and its text. A file is
    /// in our own format or in that of gitleaks; which of the two is seen from what it says.
    ///
    /// # Errors
    /// Every problem of every file.
    pub fn with(files: &[(String, String)]) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut rules = Vec::new();
        for (name, text) in
            [("rules.toml", BUILTIN)].into_iter().chain(files.iter().map(|(n, t)| (n.as_str(), t.as_str())))
        {
            let own = name == "rules.toml" && std::ptr::eq(text, BUILTIN);
            for rule in format::read(text, own, &mut |problem| problems.push(format!("{name}: {problem}"))) {
                rules.push((name, rule));
            }
        }
        let mut ids = HashSet::new();
        for (file, rule) in &mut rules {
            if rule.foreign && ids.contains(&rule.info.id) {
                // A file that others wrote cannot know our names.
                rule.info.id = gitleaks::another_id(&rule.info.id);
            }
            if !ids.insert(rule.info.id.clone()) {
                problems.push(format!("{file}: rule {}: there is another rule of this id", rule.info.id));
            }
        }
        if rules.len() > MAX_RULES {
            problems.push(format!("{} rules, and the most is {MAX_RULES}", rules.len()));
        }
        let builtin = rules.iter().filter(|(file, _)| *file == "rules.toml").count();
        let set = Self::compile(rules.into_iter().map(|(_, rule)| rule).collect());
        if set.tries.len() > MAX_LITERALS {
            problems.push(format!("{} literals in all rules, and the most is {MAX_LITERALS}", set.tries.len()));
        }
        // Those of the built-in rules are proven by a test.
        problems.extend((builtin..set.rules.len()).flat_map(|number| proof::problems(&set, number)));
        if problems.is_empty() { Ok(set) } else { Err(problems) }
    }

    pub(crate) fn compile(rules: Vec<Rule>) -> Self {
        let mut literals: Vec<(String, Try)> = vec![(TOKEN.to_owned(), Try::Token)];
        let (mut always, mut names) = (Vec::new(), Vec::new());
        for (number, rule) in rules.iter().enumerate() {
            match &rule.find {
                Find::Starts(starts, ..) => literals.extend(starts.iter().map(|s| (s.clone(), Try::Here(number)))),
                Find::Search(keywords, ..) if keywords.iter().any(|k| k.len() < MIN_LITERAL) || keywords.is_empty() => {
                    always.push(number);
                }
                Find::Search(keywords, ..) => {
                    literals.extend(keywords.iter().map(|k| (k.clone(), Try::Everywhere(number))));
                }
                Find::Names(words, except, value) => {
                    for word in words {
                        literals.extend(spellings(word).into_iter().map(|s| (s, Try::Name)));
                        names.push(Name {
                            letters: word.replace('-', "").into_bytes(),
                            except: except.iter().map(|e| e.clone().into_bytes()).collect(),
                            rule: number,
                            value: *value,
                        });
                    }
                }
                Find::Engine(engine) => {
                    literals.extend(engine.literals().iter().map(|l| ((*l).to_owned(), Try::Engine(*engine, number))));
                }
            }
        }
        for (literal, _) in &mut literals {
            literal.make_ascii_lowercase();
        }
        literals.sort_by(|a, b| a.0.cmp(&b.0));
        let (mut texts, mut tries): (Vec<String>, Vec<Vec<Try>>) = (Vec::new(), Vec::new());
        for (literal, what) in literals {
            if texts.last() != Some(&literal) {
                texts.push(literal);
                tries.push(Vec::new());
            }
            if let Some(here) = tries.last_mut()
                && !here.contains(&what)
            {
                here.push(what);
            }
        }
        let filter = Filter::new(texts.iter().map(String::as_bytes));
        Self { filter, rules, tries, always, names: Names::new(names) }
    }

    /// Every rule, in the order in which counts are given.
    pub fn rules(&self) -> impl Iterator<Item = &RuleInfo> {
        self.rules.iter().map(|r| &r.info)
    }

    /// The rule with this engine. Each set has them all: they are built in.
    pub(crate) fn engine(&self, engine: Engine) -> usize {
        // The first rules are the built-in ones, and those with an engine stand at their head.
        self.rules.iter().position(|r| matches!(r.find, Find::Engine(e) if e == engine)).unwrap_or_default()
    }
}
