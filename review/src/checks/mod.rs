//! Checks: each looks for one thing and says *clear*, *found* (citing evidence) or *cannot tell* (naming what is missing).
//!
//! How to add one: a file `checks/<id>.rs` with a `CHECKS` (or one more line in the file of its subject) and, for a new file, its line
//! in [`ALL`]. A check is a pure function of [`NodeFacts`](facts::NodeFacts): it returns findings, or nothing. Whether nothing means
//! *clear* is not its business: the framework looks whether what the check needs was there at all, and says *cannot tell* when it was
//! not. What compares nodes with each other is in `fleet.rs`, what compares one with itself in `before.rs`, what looks at the cluster in
//! `kubernetes/`.
//!
//! Thresholds are constants with a reason, and a healthy busy machine stays below *error* in all of them.

pub mod before;
pub mod changes;
pub mod clock;
pub mod cpu;
pub mod disk;
pub mod facts;
pub mod filesystem;
pub mod fleet;
pub mod gpu;
pub mod hardware;
pub mod kubernetes;
pub mod limits;
pub mod memory;
pub mod network;
pub mod node;
pub mod oom;
pub mod process;
pub mod records;
pub mod seen;
pub mod spans;
mod threshold;

use facts::{Known, Need, NodeFacts};
use serde::Serialize;

use crate::finding::Finding;

/// A check of one node.
pub struct CheckSpec {
    /// Its id: what `casefile check` prints, and the kind of what it finds where that is one thing.
    pub id: &'static str,
    /// What it looks for, in a few words.
    pub title: &'static str,
    /// What must be there before nothing found means that nothing was.
    pub needs: &'static [Need],
    /// The metrics that it looks at.
    pub metrics: &'static [&'static str],
    /// Looks.
    pub examine: fn(&NodeFacts<'_>) -> Vec<Finding>,
}

/// All checks of a node, in the order in which they are listed.
pub const ALL: &[&[CheckSpec]] = &[
    records::CHECKS,
    oom::CHECKS,
    node::CHECKS,
    cpu::CHECKS,
    memory::CHECKS,
    disk::CHECKS,
    filesystem::CHECKS,
    network::CHECKS,
    gpu::CHECKS,
    hardware::CHECKS,
    process::CHECKS,
    limits::CHECKS,
    clock::CHECKS,
    changes::CHECKS,
];

/// All checks of a node, one after the other.
pub fn all() -> impl Iterator<Item = &'static CheckSpec> {
    ALL.iter().copied().flatten()
}

/// What a check is, for whoever reads its id in a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct About {
    /// Its id.
    pub id: &'static str,
    /// What it looks for.
    pub title: &'static str,
    /// What must be there before it can say that nothing was found.
    pub needs: Vec<String>,
    /// The metrics that it looks at.
    pub metrics: &'static [&'static str],
}

/// The checks of which the id is this, or begins with it and a dot.
pub fn about(name: &str) -> Vec<About> {
    let name = name.trim().to_ascii_lowercase();
    let below = format!("{name}.");
    every().filter(|about| about.id == name || about.id.starts_with(&below)).collect()
}

/// Every check, those of a whole fleet too.
pub fn every() -> impl Iterator<Item = About> {
    let of_node = all().map(|check| About {
        id: check.id,
        title: check.title,
        needs: check.needs.iter().map(Need::words).filter(|words| !words.is_empty()).collect(),
        metrics: check.metrics,
    });
    let of_fleet = [(fleet::ID, fleet::TITLE, fleet::METRICS), (before::ID, before::TITLE, &[][..])]
        .into_iter()
        .map(|(id, title, metrics)| About { id, title, needs: vec!["recordings".to_owned()], metrics });
    let of_cluster = kubernetes::all().map(|check| About {
        id: check.id,
        title: check.title,
        needs: check.needs.iter().map(|kind| format!("the list of {} objects", kind.name())).collect(),
        metrics: &[],
    });
    of_node.chain(of_fleet).chain(of_cluster)
}

/// What a check says of a node.
#[derive(Debug)]
pub enum Said {
    /// What it looks for was not there.
    Clear,
    /// It was there.
    Found(Vec<Finding>),
    /// Nothing was found, and that means nothing: this was missing.
    CannotTell(Vec<String>),
    /// The machine has nothing of the kind.
    NotHere,
}

/// Lets a check look at a node.
pub fn examine(check: &CheckSpec, facts: &NodeFacts<'_>) -> Said {
    let mut found = (check.examine)(facts);
    // A finding without evidence would be an opinion.
    found.retain(|finding| !finding.evidence.is_empty());
    if !found.is_empty() {
        for finding in &mut found {
            check.id.clone_into(&mut finding.check);
        }
        return Said::Found(found);
    }
    let mut missing = Vec::new();
    for need in check.needs {
        match facts.knows(*need) {
            Known::Enough => {}
            Known::NotHere => return Said::NotHere,
            Known::Missing(what) => missing.extend(what),
        }
    }
    if missing.is_empty() { Said::Clear } else { Said::CannotTell(missing) }
}

/// Whether a metric is looked at by any check.
pub fn looks_at(metric: &str) -> bool {
    all().any(|check| check.metrics.contains(&metric)) || fleet::METRICS.contains(&metric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_has_an_id_of_its_own_and_says_what_it_needs() {
        let mut ids: Vec<_> = every().map(|check| check.id).collect();
        let all_of_them = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all_of_them);
        for check in all() {
            assert!(!check.needs.is_empty(), "{}", check.id);
            assert!(check.id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'_'));
        }
    }
}
