//! Every secret in one text: the filter says where something may be, the rules say whether it is.
//!
//! The work is bounded by the length of the text: what was taken is not looked at again, a regular expression that is
//! tried at a place sees [`WINDOW`] bytes, and after [`MAX_TRIES`] places in vain the rest of the text counts as a secret.

use std::ops::Range;

use super::block::{Block, Ends, is_base64};
use super::filter::Hit;
use super::key::token_at;
use super::name::Written;
use super::rule::{Engine, Find, Value, is_word};
use super::ruleset::{RuleSet, Try};
use super::{secret_object, url, value, verdict};

/// How much of the text a regular expression sees from the place where it is tried.
const WINDOW: usize = 2048;

/// The most places of one text where a regular expression is tried in vain.
const MAX_TRIES: usize = 1 << 14;

/// The most secrets that are found in one text one by one.
const MAX_FOUND: usize = 1 << 14;

/// A secret that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Secret {
    pub(crate) range: Range<usize>,
    pub(crate) rule: usize,
}

/// The memory of a scan, used again for the next text.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// What was found, in no order, possibly overlapping.
    pub(crate) found: Vec<Secret>,
    /// Rules that were searched for in this text already.
    searched: Vec<usize>,
    /// Where a name ended that was looked at.
    named: usize,
    /// Where the last value or token ended: what begins before is a part of it.
    taken: usize,
    tries: usize,
}

impl Scan {
    /// Finds the secrets of a text, and moves `block` on by it.
    pub(crate) fn run(&mut self, rules: &RuleSet, text: &[u8], block: &mut Block) {
        self.found.clear();
        self.searched.clear();
        (self.named, self.taken, self.tries) = (0, 0, 0);
        let mut ends = Ends::default();
        let mut ordinary = block.carry_on(text, &mut |range| {
            self.found.push(Secret { range, rule: rules.engine(Engine::PrivateKey) });
        });
        rules.filter.each(text, |hit| {
            let taken = self.taken;
            for what in &rules.tries[hit.literal] {
                match *what {
                    Try::Here(_) | Try::Name if hit.at < taken => {}
                    Try::Here(rule) => self.here(rules, rule, text, hit.at),
                    Try::Everywhere(rule) => self.everywhere(rules, rule, text),
                    Try::Token => self.pass(text, hit.at),
                    Try::Name => self.name(rules, text, hit),
                    Try::Engine(Engine::PrivateKey, rule) => {
                        if let Some(range) = block.found(text, hit.at..hit.at + hit.length, ordinary, &mut ends) {
                            ordinary = range.end;
                            self.take(range, rule);
                        }
                    }
                    Try::Engine(engine, rule) => self.engine(rules, engine, rule, text, hit),
                }
            }
        });
        for rule in &rules.always {
            self.everywhere(rules, *rule, text);
        }
    }

    fn take(&mut self, range: Range<usize>, rule: usize) {
        self.taken = self.taken.max(range.end);
        self.found.push(Secret { range, rule });
    }

    /// Passes over a token.
    fn pass(&mut self, text: &[u8], at: usize) {
        if let Some(length) = token_at(&text[at..]) {
            self.taken = self.taken.max(at + length);
        }
    }

    /// Tries the regular expression of a rule at one place, which must be the beginning of a word if the literal begins one.
    fn here(&mut self, rules: &RuleSet, rule: usize, text: &[u8], at: usize) {
        let Find::Starts(_, regex, group) = &rules.rules[rule].find else { return };
        if text[at].is_ascii_alphanumeric() && !begins_word(text, at) {
            return;
        }
        if self.full(rules, text, at) {
            return;
        }
        let end = text.len().min(at + WINDOW);
        let window = &text[at..end];
        let secret = if *group == 0 { regex.find(window) } else { regex.captures(window).and_then(|c| c.get(*group)) };
        match secret.map(|m| at + m.start()..at + m.end()) {
            Some(mut range) if rules.rules[rule].confirms(&text[range.clone()]) => {
                if range.end == end {
                    range.end += text[end..]
                        .iter()
                        .take_while(|b| is_base64(**b) || is_word(**b) || matches!(b, b'-' | b'.'))
                        .count();
                }
                self.take(range, rule);
            }
            _ => self.tries += 1,
        }
    }

    /// Whether enough is enough: then what follows is taken as it is.
    fn full(&mut self, rules: &RuleSet, text: &[u8], at: usize) -> bool {
        let full = self.tries > MAX_TRIES || self.found.len() >= MAX_FOUND;
        if full && self.taken < text.len() {
            self.take(at..text.len(), rules.engine(Engine::Crowded));
        }
        full
    }

    /// Searches for a rule in the whole text, once.
    fn everywhere(&mut self, rules: &RuleSet, rule: usize, text: &[u8]) {
        if self.searched.contains(&rule) {
            return;
        }
        self.searched.push(rule);
        let Find::Search(_, regex, group) = &rules.rules[rule].find else { return };
        for hit in regex.captures_iter(text) {
            if let Some(whole) = hit.get(0)
                && self.full(rules, text, whole.start())
            {
                return;
            }
            if let Some(secret) = hit.get(*group)
                && rules.rules[rule].confirms(secret.as_bytes())
            {
                self.found.push(Secret { range: secret.range(), rule });
            }
        }
    }

    /// Looks at a name and at the value behind it.
    fn name(&mut self, rules: &RuleSet, text: &[u8], hit: Hit) {
        if hit.at < self.named || Written::is_hopeless(text, hit.at + hit.length) || self.full(rules, text, hit.at) {
            return;
        }
        let written = Written::around(text, hit.at..hit.at + hit.length);
        let Some(name) = written.which(text, &rules.names) else { return };
        self.named = written.range.end;
        let Some(mut found) = value::after(text, &written, name.value == Value::Line) else { return };
        let scheme = verdict::scheme(&text[found.range.clone()]);
        let mut kind = name.value;
        if scheme == found.range.len() && scheme > 0 {
            // `Authorization: Bearer abc`: the scheme was taken for the value, what counts comes behind it.
            found = value::extent(
                text,
                found.range.end + value::blanks(text, found.range.end),
                value::Link::Colon,
                false,
                false,
            );
            kind = Value::Any;
        } else {
            found.range.start += scheme;
        }
        let strong = written.is_option || written.is_variable;
        if verdict::is_secret(text, &found, kind, strong) {
            self.take(found.range, name.rule);
        }
    }

    fn engine(&mut self, rules: &RuleSet, engine: Engine, rule: usize, text: &[u8], hit: Hit) {
        match engine {
            Engine::UrlPassword if !self.full(rules, text, hit.at) => {
                if let Some(range) = url::secret(text, hit.at + hit.length) {
                    self.take(range, rule);
                }
            }
            Engine::EncodedPrivateKey if hit.at >= self.taken => {
                // `https://` before it is not a part of it.
                let in_run = |b: &&u8| is_base64(**b) && **b != b'/';
                let before = text[self.taken..hit.at].iter().rev().take_while(in_run).count();
                let after = text[hit.at..].iter().take_while(|b| is_base64(**b)).count();
                self.take(hit.at - before..hit.at + after, rule);
            }
            Engine::KubernetesSecret if !self.searched.contains(&rule) => {
                self.searched.push(rule);
                let rest = rules.engine(Engine::Crowded);
                secret_object::values(text, &mut |range| match self.found.len() {
                    0..MAX_FOUND => self.found.push(Secret { range, rule }),
                    MAX_FOUND => self.found.push(Secret { range: range.start..text.len(), rule: rest }),
                    _ => {}
                });
            }
            _ => {}
        }
    }
}

/// Whether a word begins here: behind something else than a letter or a digit, or behind an escape that ends with one.
fn begins_word(text: &[u8], at: usize) -> bool {
    match text[..at] {
        [.., b'\\', b'n' | b'r' | b't' | b'f' | b'b'] => true,
        [.., last] => !last.is_ascii_alphanumeric(),
        [] => true,
    }
}
