//! The first answer: what was asked, what was concluded, what is there and what is missing, of every node.

use casefile_evidence::archive::layout::IncidentFile;
use casefile_proto::coverage::{NodeCoverage, NodeState, SourceCoverage, SourceKind};
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::ids::NodeName;
use casefile_proto::time::{ClockOffset, WallTime, Window};
use serde::Serialize;
use serde_json::Value;

use super::documents::Documents;
use crate::casefile::CaseFile;
use crate::finding::Finding;
use crate::logs::corrected;

/// The most gaps that are told one by one.
const MAX_GAPS: usize = 2_000;

/// The first answer.
#[derive(Debug, Clone, Serialize)]
pub struct Overview<'c> {
    /// What was asked.
    pub incident: &'c IncidentFile,
    /// Whether everything here was made up by a generator.
    pub synthetic: bool,
    /// The review; `None`: the case file has none.
    pub review: Option<&'c Value>,
    /// The findings in order of rank.
    pub findings: &'c [Finding],
    /// The nodes in order of name.
    pub nodes: Vec<NodeView<'c>>,
    /// The gaps that are not for want of the thing itself.
    pub gaps: Vec<GapView<'c>>,
    /// How many more there are.
    pub gaps_left_out: usize,
    /// What of the review could not be read, and why.
    pub unread: &'c [(String, String)],
    /// Whether the file ends early.
    pub truncated: bool,
    /// Whether the file has its index.
    pub indexed: bool,
}

/// What there is of a node.
#[derive(Debug, Clone, Serialize)]
pub struct NodeView<'c> {
    /// The node.
    pub node: &'c NodeName,
    /// Where its evidence comes from.
    pub state: NodeState,
    /// Its clock against the collector's.
    pub clock: Option<ClockOffset>,
    /// What is there of each source.
    pub sources: Vec<SourceView<'c>>,
}

/// How much there is of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Whole {
    /// All that was asked.
    Whole,
    /// A part of it.
    Part,
    /// Nothing.
    Missing,
    /// The machine has no such thing.
    Absent,
}

/// What there is of one source.
#[derive(Debug, Clone, Serialize)]
pub struct SourceView<'c> {
    /// Its name.
    pub source: &'c str,
    /// Its kind.
    pub kind: SourceKind,
    /// How much there is.
    pub whole: Whole,
    /// The part of the window that was read; `None` for what has no interval.
    pub covered: Option<f64>,
    /// Records found.
    pub records: u64,
    /// What is missing first, in words. May hold text from the node: escape before showing.
    pub why: Option<String>,
}

/// A gap.
#[derive(Debug, Clone, Serialize)]
pub struct GapView<'c> {
    /// The node.
    pub node: &'c NodeName,
    /// The source; `None`: the node as a whole.
    pub source: Option<&'c str>,
    /// The kind of the source.
    pub kind: Option<SourceKind>,
    /// Why.
    pub reason: GapReason,
    /// From when, on the collector's clock; `None`: it has no interval.
    pub from: Option<WallTime>,
    /// Until when.
    pub until: Option<WallTime>,
    /// How many records or readings.
    pub count: Option<u64>,
    /// What exactly. May hold text from the node: escape before showing.
    pub detail: &'c str,
}

/// Out of a case file and its documents.
pub fn overview<'c>(case: &'c CaseFile, documents: &'c Documents) -> Overview<'c> {
    let mut gaps: Vec<_> = case.coverage.nodes.iter().flat_map(gaps_of).collect();
    let gaps_left_out = gaps.len().saturating_sub(MAX_GAPS);
    gaps.truncate(MAX_GAPS);
    Overview {
        incident: &case.incident,
        synthetic: case.incident.synthetic,
        review: documents.review.as_ref(),
        findings: &documents.findings,
        nodes: case.coverage.nodes.iter().map(node).collect(),
        gaps,
        gaps_left_out,
        unread: &documents.unread,
        truncated: case.entries.truncated(),
        indexed: case.entries.indexed(),
    }
}

fn node(row: &NodeCoverage) -> NodeView<'_> {
    NodeView { node: &row.node, state: row.state, clock: row.clock, sources: row.sources.iter().map(source).collect() }
}

pub(super) fn source(row: &SourceCoverage) -> SourceView<'_> {
    let missing: Vec<_> = row.gaps.iter().filter(|gap| gap.reason != GapReason::SourceAbsent).collect();
    let covered = (row.kind != SourceKind::State).then(|| part(&row.covered, row.asked));
    let absent = missing.is_empty() && row.records == 0 && !row.gaps.is_empty();
    let nothing = row.records == 0 && covered.is_none_or(|part| part == 0.0);
    let whole = match (absent, missing.is_empty(), nothing) {
        (true, _, _) => Whole::Absent,
        (_, true, _) => Whole::Whole,
        (_, _, true) => Whole::Missing,
        (_, _, false) => Whole::Part,
    };
    let words = |gap: &Gap| {
        if gap.detail.is_empty() { gap.reason.to_string() } else { format!("{}: {}", gap.reason, gap.detail) }
    };
    let why = missing.first().copied().or(row.gaps.first()).map(words);
    SourceView { source: &row.source, kind: row.kind, whole, covered, records: row.records, why }
}

/// Which part of a window is covered, to a thousandth.
fn part(covered: &[Window], asked: Window) -> f64 {
    let of = |window: &Window| asked.intersect(window).map_or(0.0, |w| w.duration().as_secs_f64());
    let part = covered.iter().map(of).sum::<f64>() / asked.duration().as_secs_f64();
    (part * 1000.0).round() / 1000.0
}

/// The gaps of a node, on the collector's clock.
pub(crate) fn gaps_of(row: &NodeCoverage) -> impl Iterator<Item = GapView<'_>> {
    let of_node = row.gaps.iter().map(|gap| (None, gap));
    let of_sources = row.sources.iter().flat_map(|source| source.gaps.iter().map(move |gap| (Some(source), gap)));
    let told = of_node.chain(of_sources).filter(|(_, gap)| gap.reason != GapReason::SourceAbsent);
    told.map(move |(source, gap)| gap_view(row, source, gap))
}

fn gap_view<'c>(row: &'c NodeCoverage, source: Option<&'c SourceCoverage>, gap: &'c Gap) -> GapView<'c> {
    GapView {
        node: &row.node,
        source: source.map(|s| s.source.as_str()),
        kind: source.map(|s| s.kind),
        reason: gap.reason,
        from: gap.interval.map(|w| corrected(w.from(), row.clock)),
        until: gap.interval.map(|w| corrected(w.until(), row.clock)),
        count: gap.count,
        detail: &gap.detail,
    }
}
