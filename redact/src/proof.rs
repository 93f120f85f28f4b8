//! Whether the samples of a rule show what they are meant to show.
//!
//! In a positive sample exactly what stands between `«` and `»` is to be found by the rule; without these signs, anything. In a
//! negative one the rule is to find nothing. A `·` is left out before.

use std::ops::Range;

use super::block::Block;
use super::ruleset::RuleSet;
use super::scan::Scan;
use super::view::View;

/// A sample without its signs, and what stood between them.
pub(crate) fn read(sample: &str) -> (String, Vec<Range<usize>>) {
    let (mut text, mut secrets, mut begin) = (String::with_capacity(sample.len()), Vec::new(), None);
    for c in sample.chars() {
        match c {
            '·' => {}
            '«' => begin = Some(text.len()),
            '»' => secrets.extend(begin.take().map(|b| b..text.len())),
            c => text.push(c),
        }
    }
    (text, secrets)
}

/// What is wrong with the samples of the rule of this number.
pub(crate) fn problems(set: &RuleSet, number: usize) -> Vec<String> {
    let rule = &set.rules[number];
    let mut problems = Vec::new();
    for sample in &rule.samples.positive {
        let (text, secrets) = read(sample);
        let found = found(set, number, text.as_bytes());
        let missed = secrets.iter().find(|s| !found.contains(s));
        let more = found.iter().find(|f| !secrets.is_empty() && !secrets.contains(f));
        if found.is_empty() || missed.is_some() {
            problems
                .push(format!("rule {:?}: does not find the secret of its positive sample {sample:?}", rule.info.id));
        } else if more.is_some() {
            problems.push(format!("rule {:?}: finds something else in its positive sample {sample:?}", rule.info.id));
        }
    }
    for sample in &rule.samples.negative {
        if !found(set, number, read(sample).0.as_bytes()).is_empty() {
            problems.push(format!("rule {:?}: finds something in its negative sample {sample:?}", rule.info.id));
        }
    }
    problems
}

/// What this rule finds, as it stands or as it was meant.
fn found(set: &RuleSet, number: usize, text: &[u8]) -> Vec<Range<usize>> {
    let mut scan = Scan::default();
    scan.run(set, text, &mut Block::default());
    let mut all: Vec<_> = scan.found.iter().filter(|s| s.rule == number).map(|s| s.range.clone()).collect();
    if View::differs(text) {
        let mut view = View::default();
        view.look(text);
        scan.run(set, &view.text, &mut Block::default());
        all.extend(scan.found.iter().filter(|s| s.rule == number).map(|s| view.origin(text, &s.range)));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_samples_of_the_built_in_rules_show_what_they_are_meant_to_show() {
        let set = RuleSet::builtin();
        let problems: Vec<_> = (0..set.rules.len()).flat_map(|n| problems(&set, n)).collect();
        assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
    }
}
