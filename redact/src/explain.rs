//! What a rule would do to a text, for someone who writes or doubts one: places and reasons, never a secret.

use super::ruleset::RuleSet;
use super::stream::Mask;

/// One place that would be masked.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Explained {
    /// The line, from 1.
    pub line: usize,
    /// The first byte in that line, from 1.
    pub column: usize,
    /// How many bytes.
    pub length: usize,
    /// The id of the rule.
    pub rule: String,
    /// What the rule finds.
    pub about: String,
    /// What would stand there instead.
    pub token: String,
}

/// Tells of each mask where it lies, which are in order.
pub(crate) fn explained(
    bytes: &[u8],
    rules: &RuleSet,
    masks: &[Mask],
    token: impl Fn(&Mask) -> String,
) -> Vec<Explained> {
    let (mut line, mut begin, mut at) = (1, 0, 0);
    masks
        .iter()
        .map(|mask| {
            for feed in memchr::memchr_iter(b'\n', &bytes[at..mask.range.start]) {
                line += 1;
                begin = at + feed + 1;
            }
            at = mask.range.start;
            let info = &rules.rules[mask.rule].info;
            Explained {
                line,
                column: at - begin + 1,
                length: mask.range.len(),
                rule: info.id.clone(),
                about: info.about.clone(),
                token: token(mask),
            }
        })
        .collect()
}
