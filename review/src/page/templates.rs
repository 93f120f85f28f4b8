//! What lines have in common: their text without what differs from one to the next, so that a hundred thousand become forty. Pure.

use std::collections::HashMap;

use casefile_proto::time::WallTime;
use serde::Serialize;

/// The most templates that are told apart; lines of all others count together.
const MAX_TEMPLATES: usize = 5_000;
/// How much of a line makes its template, in bytes.
const MAX_TEXT: usize = 400;

/// One template.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Template {
    /// The text with `#` for numbers and `*` for names made of digits. Text from the node: escape before showing.
    pub template: String,
    /// How many lines.
    pub count: u64,
    /// Whether none of them is from before the first anomaly; `None`: there is none, or no line bears a time.
    pub new: Option<bool>,
    /// The first.
    pub first: Option<WallTime>,
    /// The last.
    pub last: Option<WallTime>,
    /// On which nodes, by name; at most a few.
    pub nodes: Vec<String>,
    /// Where the first stands: entry and line.
    pub entry: String,
    /// The line in that entry.
    pub line: u64,
    /// The first, as it stands there.
    pub sample: String,
    /// From which log, in a word.
    pub label: String,
}

/// The most nodes that are named for a template.
const MAX_NODES: usize = 8;

/// Templates while lines are read.
#[derive(Default)]
pub(crate) struct Templates {
    all: Vec<Template>,
    known: HashMap<(String, String), usize>,
    /// Lines of templates that were too many.
    pub(crate) others: u64,
}

/// A line that is counted.
pub(crate) struct Seen<'a> {
    pub(crate) at: Option<WallTime>,
    pub(crate) node: &'a str,
    pub(crate) label: &'a str,
    pub(crate) entry: &'a str,
    pub(crate) line: u64,
    pub(crate) text: &'a str,
}

impl Templates {
    /// One more line.
    pub(crate) fn count(&mut self, seen: &Seen<'_>) {
        let key = (seen.label.to_owned(), template(seen.text));
        let number = match self.known.get(&key) {
            Some(number) => *number,
            None if self.all.len() >= MAX_TEMPLATES => {
                self.others += 1;
                return;
            }
            None => {
                self.all.push(Template {
                    template: key.1.clone(),
                    count: 0,
                    new: None,
                    first: seen.at,
                    last: None,
                    nodes: Vec::new(),
                    entry: seen.entry.to_owned(),
                    line: seen.line,
                    sample: cut(seen.text).to_owned(),
                    label: seen.label.to_owned(),
                });
                self.known.insert(key, self.all.len() - 1);
                self.all.len() - 1
            }
        };
        let one = &mut self.all[number];
        one.count += 1;
        // Lines come log by log: the first is the earliest of all of them.
        if seen.at.is_some_and(|at| one.first.is_none_or(|first| at < first)) {
            one.first = seen.at;
            seen.entry.clone_into(&mut one.entry);
            one.line = seen.line;
            cut(seen.text).clone_into(&mut one.sample);
        }
        one.last = one.last.max(seen.at);
        if one.nodes.len() < MAX_NODES && !one.nodes.iter().any(|n| n == seen.node) {
            one.nodes.push(seen.node.to_owned());
        }
    }

    /// All of them: new ones first, then the rarest, then the earliest.
    pub(crate) fn finish(mut self, anomaly: Option<WallTime>) -> Vec<Template> {
        for one in &mut self.all {
            one.new = one.first.zip(anomaly).map(|(first, anomaly)| first >= anomaly);
        }
        self.all.sort_by(|a, b| {
            let new = |t: &Template| t.new == Some(true);
            new(b).cmp(&new(a)).then(a.count.cmp(&b.count)).then(a.first.cmp(&b.first)).then(a.sample.cmp(&b.sample))
        });
        self.all
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}

/// The text with numbers and names made of digits taken out.
fn template(text: &str) -> String {
    let text = cut(bare(text));
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if !c.is_ascii_alphanumeric() {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        out.push_str(masked(word));
        rest = after;
    }
    out
}

/// A line of the kernel's log without the fields that an agent wrote before it.
fn bare(text: &str) -> &str {
    let mut rest = text;
    for field in ["facility=", "level=", "seq=", "user="] {
        rest = rest.strip_prefix(field).and_then(|after| after.split_once(' ')).map_or(rest, |(_, after)| after);
    }
    rest
}

fn masked(word: &str) -> &str {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let hex = word.strip_prefix("0x").unwrap_or(word).bytes().all(|b| b.is_ascii_hexdigit());
    if digits == 0 {
        word
    } else if digits == word.len() || hex {
        "#"
    } else if word.len() >= 8 || digits * 2 >= word.len() {
        // A name made by a machine: half of it digits, or long and with some.
        "*"
    } else {
        word
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_differ_in_numbers_only_are_one() {
        let one = "oom-kill: task=java,pid=4711,uid=0 at 0xffff8881 in pod4f9c1a2b";
        let two = "oom-kill: task=java,pid=9,uid=1000 at 0xdeadbeef in pod00aa77ff";
        assert_eq!(template(one), template(two));
        assert_eq!(template("eth0 up, größer 3.5s"), "eth0 up, größer #.*");
        assert_ne!(template("eth0 up"), template("eth1 up"), "a short name says which");
        assert_eq!(template("facility=kern level=err seq=7 user=false I/O error"), "I/O error");
        assert_eq!(template(&"1 ".repeat(1000)).len(), MAX_TEXT);
    }

    #[test]
    fn a_template_is_new_when_nothing_of_it_is_from_before_the_first_anomaly() {
        let mut all = Templates::default();
        for (second, text) in [(1, "tick 1"), (2, "tick 2"), (9, "boom 1")] {
            let at = Some(WallTime::from_secs(second));
            all.count(&Seen { at, node: "n1", label: "kernel", entry: "e", line: 1, text });
        }
        let all = all.finish(Some(WallTime::from_secs(5)));
        let told: Vec<_> = all.iter().map(|t| (t.template.as_str(), t.count, t.new)).collect();
        assert_eq!(told, [("boom #", 1, Some(true)), ("tick #", 2, Some(false))]);
    }
}
