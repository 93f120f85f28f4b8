//! Health endpoints, by what tests of connectivity found of them: the newest test of each target in the case file.
//!
//! A target that was not tested is not known to be well; what a node could not test is said.

use std::collections::BTreeMap;

use casefile_evidence::archive::connectivity::KeptTest;

use super::counted;
use super::health::{Level, Wrong};
use crate::casefile::CaseFile;
use crate::connectivity::{self, Outcome};

/// What is wrong with an endpoint, as a kind: `casefile test-connectivity` shows more.
const FAULT: &str = "test-connectivity";

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Endpoints {
    /// What is wrong.
    pub(super) wrong: Vec<Wrong>,
    /// What was looked at, in words; `None`: no target was tested.
    pub(super) looked_at: Option<String>,
    /// What could not be.
    pub(super) not_looked_at: Vec<String>,
}

impl Endpoints {
    /// Of a case file.
    pub(super) fn of(casefile: &mut CaseFile) -> Self {
        let mut unread = Vec::new();
        let tests = connectivity::kept(casefile, &mut unread);
        let mut newest: BTreeMap<String, KeptTest> = BTreeMap::new();
        // In the order in which they were begun.
        for kept in tests {
            newest.insert(kept.test.name.clone(), kept);
        }
        let mut all = Self::default();
        all.not_looked_at.extend(unread.into_iter().map(|(what, why)| format!("{what}: {why}")));
        let mut fine = 0;
        for (name, kept) in &newest {
            let verdict = connectivity::judge(&kept.test, kept.missing);
            let mut wrong = |level, summary: String| {
                all.wrong.push(Wrong {
                    level,
                    kind: FAULT.to_owned(),
                    subject: Some(format!("target {name}")),
                    node: None,
                    summary,
                    first: Some(kept.test.at),
                    last: Some(kept.test.at),
                    count: 1,
                    now: Some(format!("casefile test-connectivity --target {name}")),
                });
            };
            // Certificates that end soon, nodes that are slow, clocks that are wrong.
            verdict.remarks.into_iter().for_each(|remark| wrong(Level::Warning, format!("{name}: {remark}")));
            match connectivity::outcome(kept) {
                Outcome::Fine => fine += 1,
                Outcome::Unsure => all.not_looked_at.push(format!("target {name}: {}", verdict.sentence)),
                Outcome::Fault => wrong(Level::Problem, format!("{name}: {}", verdict.sentence)),
            }
        }
        if !newest.is_empty() {
            let text =
                format!("{}: {fine} reached from every node that tested", counted(newest.len(), "health endpoint"));
            all.looked_at = Some(text);
        }
        all
    }
}
