//! Lines of the logs in a case file, log by log, with where each came from.

use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;

use casefile_proto::ids::NodeName;
use casefile_proto::item::EntryPath;
use regex::bytes::Regex;

use crate::casefile::{CaseFile, CaseFileError};

/// The longest line that is held at once; a longer one comes in pieces of this size.
const MAX_LINE: u64 = 1 << 20;

/// Which lines are wanted.
#[derive(Debug, Clone, Default)]
pub struct Selector {
    /// Only this node.
    pub node: Option<NodeName>,
    /// Only this log source: `kernel`, `pods`, `files`, `journal`.
    pub source: Option<String>,
    /// Only lines that match.
    pub grep: Option<Regex>,
}

/// One line, without its line end.
#[derive(Debug)]
pub struct Line<'a> {
    /// The node.
    pub node: &'a NodeName,
    /// The log source.
    pub source: &'a str,
    /// The entry of the case file.
    pub entry: &'a EntryPath,
    /// Which line of it, from 1.
    pub number: u64,
    /// The bytes, as they stand there: escape before showing.
    pub bytes: &'a [u8],
}

/// Calls `each` for every selected line, in the order of the entries.
pub fn lines(
    casefile: &mut CaseFile,
    selector: &Selector,
    each: &mut dyn FnMut(&Line<'_>) -> ControlFlow<()>,
) -> Result<u64, CaseFileError> {
    let entries: Vec<_> = casefile
        .node_entries(selector.node.as_ref())
        .filter_map(|(node, entry, item)| source_of(item.as_str()).map(|source| (node, entry, source)))
        .filter(|(_, _, source)| selector.source.as_ref().is_none_or(|wanted| wanted == source))
        .collect();
    let mut found = 0;
    let mut bytes = Vec::new();
    for (node, entry, source) in entries {
        let failed = |source| CaseFileError::Read { entry: entry.to_string(), source };
        let mut read = BufReader::new(casefile.archive.entry(&entry)?);
        let mut number = 0;
        loop {
            bytes.clear();
            if (&mut read).take(MAX_LINE).read_until(b'\n', &mut bytes).map_err(failed)? == 0 {
                break;
            }
            number += 1;
            if bytes.ends_with(b"\n") {
                bytes.pop();
            }
            if selector.grep.as_ref().is_some_and(|re| !re.is_match(&bytes)) {
                continue;
            }
            found += 1;
            if each(&Line { node: &node, source: &source, entry: &entry, number, bytes: &bytes }).is_break() {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

/// `logs/kernel.log` → `kernel`, `logs/pods/…` → `pods`; `None` for what is no log.
fn source_of(below: &str) -> Option<String> {
    let rest = below.strip_prefix("logs/")?;
    Some(match rest.split_once('/') {
        Some((source, _)) => source.to_owned(),
        None => rest.strip_suffix(".log").unwrap_or(rest).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_of_a_log_is_in_its_path() {
        assert_eq!(source_of("logs/kernel.log").as_deref(), Some("kernel"));
        assert_eq!(source_of("logs/pods/a_b_c/main.log").as_deref(), Some("pods"));
        assert_eq!(source_of("state/mounts.jsonl"), None);
    }
}
