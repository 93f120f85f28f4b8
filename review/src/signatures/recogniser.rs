//! What finds out of which signature the text of a record is, by their regular expressions.
//!
//! Nearly every record is of none, and one pass over all expressions together says so; as all begin with `^`, it ends with the
//! first byte that none of them has. Only a record that is of one is read again for its parts.

use std::sync::OnceLock;

use regex::{Captures, Regex, RegexSet, RegexSetBuilder};

use super::logged::Stream;
use super::pack;
use super::signature::Signature;

/// What all expressions together may take when they are compiled: ours take less than two MiB, the rest is for operators.
const MAX_COMPILED: usize = 8 << 20;

/// The regular expressions of signatures.
#[derive(Debug)]
pub(super) struct Recogniser {
    set: RegexSet,
    /// Of each expression: the number of its signature, and itself once it is needed.
    each: Vec<(usize, OnceLock<Option<Regex>>)>,
}

impl Recogniser {
    /// Of these signatures, to be tried in this order.
    pub(super) fn new(signatures: &[Signature]) -> Result<Self, String> {
        let all = || signatures.iter().enumerate().flat_map(|(n, s)| s.patterns.iter().map(move |p| (n, p)));
        let set = RegexSetBuilder::new(all().map(|(_, pattern)| pattern)).size_limit(MAX_COMPILED).build();
        let set = set.map_err(|e| format!("all regular expressions together: {e}"))?;
        Ok(Self { set, each: all().map(|(n, _)| (n, OnceLock::new())).collect() })
    }

    /// The first signature that a text of this stream is of, and the parts of the text.
    pub(super) fn find<'s, 't>(
        &'s self,
        signatures: &'s [Signature],
        text: &'t str,
        stream: Stream<'_>,
    ) -> Option<(&'s Signature, &'s Regex, Captures<'t>)> {
        if !self.set.is_match(text) {
            return None;
        }
        self.set.matches(text).iter().find_map(|n| {
            let (of, regex) = self.each.get(n)?;
            let signature = signatures.get(*of).filter(|s| s.logs.iter().any(|log| log.holds(stream)))?;
            // Each was compiled before: an operator's when his file was checked, ours by a test.
            let regex =
                regex.get_or_init(|| self.set.patterns().get(n).and_then(|p| pack::compile(p).ok())).as_ref()?;
            Some((signature, regex, regex.captures(text)?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signatures::catalogue::catalogue;

    #[test]
    fn our_expressions_leave_an_operator_most_of_the_room() {
        let patterns = catalogue().signatures.iter().flat_map(|s| &s.patterns);
        assert!(RegexSetBuilder::new(patterns).size_limit(MAX_COMPILED / 4).build().is_ok());
    }
}
