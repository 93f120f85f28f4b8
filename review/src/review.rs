//! A case file looked at as a whole: every check of every node, the findings in order, the timeline, the verdict. And the three
//! documents that an archive has of it: `review.json`, `findings.jsonl`, `timeline.jsonl`.
//!
//! Made when an archive is sealed, and made again from it whenever somebody wants today's checks (`casefile check`).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, Read};

use casefile_evidence::archive::layout::{self, ItemLine};
use casefile_proto::ids::NodeName;
use casefile_proto::item::{Digest, EntryPath};
use casefile_proto::time::WallTime;
use casefile_proto::units::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::casefile::{CaseFile, CaseFileError};
use crate::checks::facts::{Need, NodeFacts};
use crate::checks::kubernetes::ClusterFacts;
use crate::checks::{self, Said, before, fleet};
use crate::connectivity;
use crate::finding::{Confidence, Finding, Severity};
use crate::kubernetes::{self, Cluster};
use crate::signatures::set::Signatures;
use crate::timeline::{self, Row};
use crate::verdict::{self, Verdict};
use crate::written::{self, Unread};

/// The most that is looked at for the checks, and again for the report, when an archive is sealed, in bytes of logs, of which a core
/// looks at some hundred MiB a second: sealing must not wait for a whole fleet. By bytes and not by time, so that the same evidence
/// gives the same documents.
pub const SEALING_BUDGET: Bytes = Bytes::mib(512);

/// How a check went, of all nodes of which it says the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRow {
    /// The check.
    pub id: String,
    /// What it looks for.
    pub title: String,
    /// `clear`, `found`, `cannot-tell`.
    pub verdict: CheckVerdict,
    /// The nodes; empty: it is about the whole.
    pub nodes: Vec<NodeName>,
    /// What was missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// The ids of what it found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
}

/// What a check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckVerdict {
    /// It was there.
    Found,
    /// Nothing was found, which means nothing.
    CannotTell,
    /// It was not there.
    Clear,
}

/// [`layout::REVIEW`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// The version of this form: 1.
    pub format: u32,
    /// Whose checks they are: `casefile 0.1.0`.
    pub by: String,
    /// What is on top.
    pub verdict: Verdict,
    /// Every check.
    pub checks: Vec<CheckRow>,
}

/// A case file looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Review {
    /// What is said of it.
    pub document: Document,
    /// The findings, in the order of rank.
    pub findings: Vec<Finding>,
    /// What happened, in the order of time.
    pub timeline: Vec<Row>,
}

impl Document {
    /// The form that this version writes.
    pub const FORMAT: u32 = 1;
}

/// Whose checks these are.
pub const BY: &str = concat!("casefile ", env!("CARGO_PKG_VERSION"));

impl Review {
    /// Looks at a case file. Nodes beyond the budget (bytes of recordings and logs) are not looked at, and every check says so.
    ///
    /// # Errors
    /// Never for what is damaged or missing in the case file: that is told.
    pub fn of(casefile: &mut CaseFile, signatures: &Signatures, budget: Option<Bytes>) -> Result<Self, CaseFileError> {
        let mut rows = Rows::default();
        let (mut findings, mut timeline, mut digests) = (Vec::new(), Vec::new(), Vec::new());
        let mut left = budget.map_or(u64::MAX, |budget| budget.0);
        let cluster = of_cluster(casefile, &mut left);
        let mut unsure = BTreeSet::new();
        let nodes = casefile.coverage.nodes.clone();
        for node in &nodes {
            let size = to_read(casefile, &node.node);
            if size > left {
                left = 0;
                for check in checks::all() {
                    unsure.insert(node.node.clone());
                    rows.add(
                        check.id,
                        check.title,
                        CheckVerdict::CannotTell,
                        &node.node,
                        vec![NOT_LOOKED_AT.to_owned()],
                    );
                }
                continue;
            }
            left -= size;
            let facts = NodeFacts::load(casefile, node, &checks::looks_at, signatures, &cluster)?;
            for check in checks::all() {
                match checks::examine(check, &facts) {
                    Said::NotHere => {}
                    Said::Clear => rows.add(check.id, check.title, CheckVerdict::Clear, &node.node, Vec::new()),
                    Said::CannotTell(missing) => {
                        // What nobody records is no gap of this case file: it is listed, and not counted.
                        if !check.needs.iter().any(|need| matches!(need, Need::NotRecorded(_))) {
                            unsure.insert(node.node.clone());
                        }
                        rows.add(check.id, check.title, CheckVerdict::CannotTell, &node.node, missing);
                    }
                    Said::Found(found) => {
                        rows.add(check.id, check.title, CheckVerdict::Found, &node.node, Vec::new());
                        findings.extend(found);
                    }
                }
            }
            timeline.extend(timeline::of_node(&facts));
            digests.extend(fleet::digest(&facts));
        }
        let (outliers, alone) = fleet::compare(&digests);
        let compared = digests.len() > alone.len();
        if compared && outliers.is_empty() {
            rows.whole(fleet::ID, fleet::TITLE, CheckVerdict::Clear, Vec::new());
        }
        if !compared {
            rows.whole(
                fleet::ID,
                fleet::TITLE,
                CheckVerdict::CannotTell,
                vec!["there are too few nodes of one kind".to_owned()],
            );
        }
        for node in outliers.iter().filter_map(|finding| finding.node.clone()) {
            rows.add(fleet::ID, fleet::TITLE, CheckVerdict::Found, &node, Vec::new());
        }
        findings.extend(outliers);
        let names = nodes.iter().map(|row| row.node.clone()).collect();
        let facts = ClusterFacts::new(&cluster, casefile.incident.window, signatures, names);
        look_at_cluster(casefile, &facts, &mut findings, &mut rows);
        findings.extend(moved(casefile, &findings, &mut left, &mut rows)?);
        let mut findings = verdict::rank(findings);
        digested(casefile, &mut findings);
        timeline.extend(timeline::of_cluster(&facts));
        timeline.extend(timeline::of_findings(&findings));
        timeline.extend(timeline::of_people(&casefile.incident, &casefile.coverage));
        // Lines that cannot be read are told by whoever shows the tests themselves.
        timeline.extend(timeline::of_connectivity(&connectivity::kept(casefile, &mut Vec::new())));
        let timeline = timeline::ordered(timeline, &findings);
        let checks = rows.finish(&findings);
        let unsure: Vec<_> = unsure.into_iter().collect();
        let verdict = verdict::verdict(&findings, &casefile.coverage, &unsure);
        Ok(Self {
            document: Document { format: Document::FORMAT, by: BY.to_owned(), verdict, checks },
            findings,
            timeline,
        })
    }

    /// What an archive has of it; `None` when it was sealed without (by an earlier version, or because that failed), or when what it has
    /// of it is no review. What could not be read goes into `unread`.
    pub fn sealed(casefile: &mut CaseFile, unread: &mut Unread) -> Option<Self> {
        let document = written::document(casefile, unread)?;
        let findings = written::findings(casefile, unread);
        Some(Self { document, findings, timeline: written::rows(casefile, unread) })
    }

    /// What an archive has of it, or what today's checks say where it has nothing that can be read.
    ///
    /// # Errors
    /// Never for what is damaged or missing in the case file: that is told.
    pub fn of_file(
        casefile: &mut CaseFile,
        signatures: &Signatures,
        unread: &mut Unread,
    ) -> Result<Self, CaseFileError> {
        match Self::sealed(casefile, unread) {
            Some(review) => Ok(review),
            None => Self::of(casefile, signatures, None),
        }
    }

    /// The three documents as they stand in an archive.
    ///
    /// # Errors
    /// Never: all of it can be written as JSON.
    pub fn documents(&self) -> io::Result<[(EntryPath, Vec<u8>); 3]> {
        let mut review = serde_json::to_vec_pretty(&self.document)?;
        review.push(b'\n');
        Ok([
            (layout::path(layout::REVIEW), review),
            (layout::path(layout::FINDINGS), json_lines(&self.findings)?),
            (layout::path(layout::TIMELINE), json_lines(&self.timeline)?),
        ])
    }

    /// A finding by its id.
    pub fn finding(&self, id: &str) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.id.eq_ignore_ascii_case(id))
    }
}

/// What the case file has of the cluster, where the budget allows to look at it.
fn of_cluster(casefile: &mut CaseFile, left: &mut u64) -> Cluster {
    let size = kubernetes::size(casefile);
    // At most half of it: the nodes say why, the cluster what became of it.
    if size > *left / 2 {
        return Cluster::unread(NOT_LOOKED_AT);
    }
    *left -= size;
    Cluster::read(casefile)
}

/// Every check of the cluster. A case file of machines that run no pods has nothing of the kind, and nothing is said.
fn look_at_cluster(casefile: &CaseFile, facts: &ClusterFacts<'_>, findings: &mut Vec<Finding>, rows: &mut Rows) {
    if !facts.cluster.present {
        if runs_pods(casefile) {
            let missing = vec![kubernetes::NO_EVIDENCE.to_owned()];
            rows.whole(checks::kubernetes::ID, checks::kubernetes::TITLE, CheckVerdict::CannotTell, missing);
        }
        return;
    }
    for check in checks::kubernetes::all().filter(|check| !facts.is_about_nothing(check)) {
        let mut found = (check.examine)(facts, findings);
        found.new.retain(|finding| !finding.evidence.is_empty());
        found.new.iter_mut().for_each(|finding| check.id.clone_into(&mut finding.check));
        let missing = facts.lacks(check);
        let verdict = match (found.new.is_empty() && !found.added, missing.is_empty()) {
            (false, _) => CheckVerdict::Found,
            (true, true) => CheckVerdict::Clear,
            (true, false) => CheckVerdict::CannotTell,
        };
        let missing = if verdict == CheckVerdict::CannotTell { missing } else { Vec::new() };
        rows.whole(check.id, check.title, verdict, missing);
        findings.append(&mut found.new);
    }
}

/// Whether logs of pods were asked of any node and there were some.
fn runs_pods(casefile: &CaseFile) -> bool {
    let sources = casefile.coverage.nodes.iter().flat_map(|node| &node.sources);
    sources.filter(|source| source.source == "pods").any(|source| source.items > 0)
}

/// What moved on each node from its first anomaly on.
fn moved(
    casefile: &mut CaseFile,
    findings: &[Finding],
    left: &mut u64,
    rows: &mut Rows,
) -> Result<Vec<Finding>, CaseFileError> {
    let mut began: BTreeMap<NodeName, WallTime> = BTreeMap::new();
    let sure = findings.iter().filter(|f| f.severity >= Severity::Warning && f.confidence >= Confidence::Medium);
    for (node, at) in sure.filter_map(|finding| finding.node.clone().zip(finding.first)) {
        let first = began.entry(node).or_insert(at);
        *first = (*first).min(at);
    }
    let mut found = Vec::new();
    for (node, at) in began {
        let size = to_read(casefile, &node);
        let verdict = if size > *left {
            Err(NOT_LOOKED_AT.to_owned())
        } else {
            *left -= size;
            before::moved(casefile, &node, at)?.ok_or_else(|| TOO_LITTLE_BEFORE.to_owned())
        };
        match verdict {
            Ok(moved) => {
                let verdict = if moved.is_empty() { CheckVerdict::Clear } else { CheckVerdict::Found };
                rows.add(before::ID, before::TITLE, verdict, &node, Vec::new());
                found.extend(moved);
            }
            Err(why) => rows.add(before::ID, before::TITLE, CheckVerdict::CannotTell, &node, vec![why]),
        }
    }
    Ok(found)
}

const TOO_LITTLE_BEFORE: &str = "too little is recorded before its first anomaly";

const NOT_LOOKED_AT: &str =
    "not looked at: so much evidence would have held up sealing; casefile check looks at all of it";

/// A byte of a recording, which is packed in columns, is as much work as so many of a log.
const RECORDING_WEIGHS: u64 = 16;

/// What looking at entries of a case file costs, in bytes of logs.
pub(crate) fn cost(casefile: &CaseFile, node: Option<&NodeName>, wanted: impl Fn(&str) -> bool) -> u64 {
    let entries = casefile.node_entries(node).filter(|(_, _, item)| wanted(item.as_str()));
    let sizes = entries.filter_map(|(_, entry, item)| Some((casefile.entries.find(&entry)?.size, item)));
    let weighed = sizes
        .map(|(size, item)| if is_recording(item.as_str()) { size.saturating_mul(RECORDING_WEIGHS) } else { size });
    weighed.fold(0, u64::saturating_add)
}

/// Whether an item is a part of a recording.
fn is_recording(item: &str) -> bool {
    item.starts_with("recording/")
}

/// What the checks of a node cost.
fn to_read(casefile: &CaseFile, node: &NodeName) -> u64 {
    let logs = |item: &str| {
        item.starts_with("logs/kernel") || item.starts_with("logs/journal/") && !item.ends_with("entries.jsonl")
    };
    cost(casefile, Some(node), |item| is_recording(item) || logs(item))
}

fn json_lines<T: Serialize>(items: &[T]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    for item in items {
        serde_json::to_writer(&mut out, item)?;
        out.push(b'\n');
    }
    Ok(out)
}

/// The digest of an entry that is in no node's list of items; `None` where it cannot be read to its end.
fn hashed(casefile: &mut CaseFile, entry: &EntryPath) -> Option<Digest> {
    let mut read = casefile.entries.entry(entry).ok()?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 64 << 10]);
    loop {
        match read.read(&mut buffer).ok()? {
            0 => return Some(Digest(hash.finalize().into())),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// Gives each citation the digest of the entry in which it stands, as the lists of items have it.
fn digested(casefile: &mut CaseFile, findings: &mut [Finding]) {
    let mut of_cluster: BTreeMap<EntryPath, Option<Digest>> = BTreeMap::new();
    let mut by_node: BTreeMap<NodeName, BTreeMap<EntryPath, Digest>> = BTreeMap::new();
    for evidence in findings.iter_mut().flat_map(|finding| &mut finding.evidence) {
        let Some(entry) = &evidence.entry else { continue };
        if entry.as_str().starts_with(kubernetes::BELOW) {
            evidence.sha256 = *of_cluster.entry(entry.clone()).or_insert_with(|| hashed(casefile, entry));
            continue;
        }
        let Some(node) = &evidence.node else { continue };
        let digests = by_node.entry(node.clone()).or_insert_with(|| digests(casefile, node));
        evidence.sha256 = digests.get(entry).copied();
    }
}

/// The digests of a node's items. A list that cannot be read gives none: a digest is never invented.
fn digests(casefile: &mut CaseFile, node: &NodeName) -> BTreeMap<EntryPath, Digest> {
    /// The longest line of a list of items: a thousand gaps with their details fit.
    const MAX_LINE: u64 = 4 << 20;
    let mut all = BTreeMap::new();
    let Ok(list) = layout::node_item(node, &layout::path(layout::ITEMS_ITEM)) else { return all };
    let Ok(read) = casefile.entries.entry(&list) else { return all };
    let mut read = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut read).take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return all,
            Ok(_) => all.extend(serde_json::from_slice::<ItemLine>(&line).map(|item| (item.path, item.sha256))),
        }
    }
}

/// Rows of checks while they are gathered: nodes of which a check says the same stand in one.
#[derive(Default)]
struct Rows {
    rows: BTreeMap<(CheckVerdict, usize, Vec<String>), CheckRow>,
    order: Vec<&'static str>,
}

impl Rows {
    fn add(&mut self, id: &'static str, title: &str, verdict: CheckVerdict, node: &NodeName, missing: Vec<String>) {
        let row = self.row(id, title, verdict, missing);
        if row.nodes.last() != Some(node) {
            row.nodes.push(node.clone());
        }
    }

    fn whole(&mut self, id: &'static str, title: &str, verdict: CheckVerdict, missing: Vec<String>) {
        self.row(id, title, verdict, missing);
    }

    fn row(&mut self, id: &'static str, title: &str, verdict: CheckVerdict, missing: Vec<String>) -> &mut CheckRow {
        let place = self.order.iter().position(|known| *known == id).unwrap_or_else(|| {
            self.order.push(id);
            self.order.len() - 1
        });
        self.rows.entry((verdict, place, missing.clone())).or_insert_with(|| CheckRow {
            id: id.to_owned(),
            title: title.to_owned(),
            verdict,
            nodes: Vec::new(),
            missing,
            findings: Vec::new(),
        })
    }

    fn finish(self, findings: &[Finding]) -> Vec<CheckRow> {
        let named = |mut row: CheckRow| {
            if row.verdict == CheckVerdict::Found {
                row.findings = findings.iter().filter(|f| f.check == row.id).map(|f| f.id.clone()).collect();
            }
            row
        };
        self.rows.into_values().map(named).collect()
    }
}
