//! Coverage of an incident: what was expected of each node, held against what really arrived. Pure.
//!
//! A node's own rows are believed only as far as their items are here; what it declared and did not send becomes a gap,
//! and so does everything of a node that did not answer. Reading spools and last words is [`super::seal`]'s business.

use std::collections::BTreeMap;
use std::time::Duration;

use casefile_evidence::recording::reader::Cut;
use casefile_proto::coverage::{
    Amendment, ClosedGap, Cost, Coverage, NodeCoverage, NodeState, OutcomeCounts, SourceCoverage, SourceKind,
};
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::ids::NodeName;
use casefile_proto::item::{ItemHead, ItemKind, ItemTail};
use casefile_proto::scope::Scope;
use casefile_proto::session::Collectable;
use casefile_proto::time::{ClockOffset, WallTime, Window};

use super::machine::Answer;

/// A clock that is known better than this needs no word: half a tick, so that no frame can change sides unnoticed by
/// more than its neighbour.
pub const CLOCK_BOUND_TOLERATED: Duration = Duration::from_millis(500);

/// The most gaps in one row; the rest are counted in a last one. A thousand lost files are one story, not a thousand.
pub const MAX_GAPS: usize = 256;

/// Where an agent puts what a crash left in persistent storage, below its node's directory.
const DUMPS: &str = "logs/pstore/";

/// Dumps that a gap names; the others are beside them.
const MAX_DUMPS_NAMED: usize = 3;

/// Who was asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Roster {
    /// The nodes, in order of name.
    pub nodes: Vec<Expected>,
    /// What each was asked for.
    pub scope: Scope,
}

/// One node that was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Which.
    pub node: NodeName,
    /// What its agent last said that it can collect besides the recording; empty: never heard.
    pub collectable: Vec<Collectable>,
}

/// What arrived of all nodes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Received {
    /// A node of which there is nothing at all, and never was, may be missing.
    pub nodes: BTreeMap<NodeName, FromNode>,
}

/// What arrived of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FromNode {
    /// Its clock against ours.
    pub clock: Option<ClockOffset>,
    /// The window on its clock.
    pub asked: Window,
    /// What it said when it was done; `None`: it never did.
    pub answer: Option<Answer>,
    /// How it was when gathering ended.
    pub ended: Ended,
    /// What lies in the archive, recording included.
    pub items: Vec<Arrived>,
    /// What we read ourselves out of the recording that is in the archive: last words, or the node's own when it never
    /// said that it was done. `None`: the node's recording came whole, and its answer tells what it covers.
    pub recorded: Option<Cut>,
}

/// How a node was when gathering ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It had a session.
    Connected,
    /// It had none.
    Away,
}

/// One item in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    /// What it is.
    pub head: ItemHead,
    /// What is known after its last byte; `None`: it was cut short.
    pub tail: Option<ItemTail>,
    /// Plain bytes of it that are in the archive.
    pub kept: u64,
    /// Who gave it.
    pub origin: Origin,
}

/// Where an item in the archive comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The node sent it for this incident.
    Node,
    /// We made it of what the node had streamed before.
    LastWords,
}

/// Holds what was expected against what is here. `window` is on the collector's clock.
pub fn coverage(expected: &Roster, window: Window, got: &Received) -> Coverage {
    let scope = &expected.scope;
    let nodes = expected.nodes.iter().map(|e| match got.nodes.get(&e.node) {
        Some(from) => heard(e, scope, from),
        None => unheard(e, scope, window),
    });
    Coverage { window, nodes: nodes.collect(), scope: Scope { chosen: None, ..scope.clone() }, cluster: None }
}

/// The row of a node that came back, beside the one of the archive before: what of its gaps is none any more.
pub fn amended(before: &NodeCoverage, now: NodeCoverage, revision: u32, sealed_at: WallTime) -> NodeCoverage {
    let of_node = |gaps: &[Gap]| gaps.iter().map(|gap| (None, gap.clone())).collect::<Vec<_>>();
    let all = |node: &NodeCoverage| {
        let mut gaps = of_node(&node.gaps);
        for row in &node.sources {
            gaps.extend(row.gaps.iter().map(|gap| (Some(row.source.clone()), gap.clone())));
        }
        gaps
    };
    let open = all(&now);
    let closed = all(before).into_iter().filter(|gap| !open.contains(gap)).take(MAX_GAPS);
    let closed = closed.map(|(source, gap)| ClosedGap { source, gap }).collect();
    NodeCoverage { amended: Some(Amendment { revision, sealed_at, closed }), ..now }
}

/// Whether a log source, a table of state or the inventory was asked. What was not asked is not missing.
fn asks(scope: &Scope, what: &Collectable) -> bool {
    scope.wants(&[&what.name]) || (what.kind == SourceKind::State && scope.wants(&["state"]))
}

/// Whether a recording was asked. Which metrics a node records is not known here: a name that is nothing else that the node
/// can collect is taken for one of them, because more evidence than was asked does no harm.
pub fn asks_recording(scope: &Scope, collectable: &[Collectable]) -> bool {
    let other = |name: &String| name == "state" || collectable.iter().any(|c| c.name == *name);
    scope.sources.is_empty() || scope.sources.iter().any(|name| !other(name))
}

/// What two cuts of one recording cover that lie one after the other.
pub fn joined(first: Cut, then: Cut) -> Cut {
    let mut sources: Vec<_> = first.sources.into_iter().map(dated).collect();
    for row in then.sources.into_iter().map(dated) {
        let Some(known) = sources.iter_mut().find(|s| s.source == row.source) else {
            sources.push(row);
            continue;
        };
        known.covered.extend(row.covered);
        known.outcomes = sum(known.outcomes, row.outcomes);
        known.records = known.records.saturating_add(row.records);
        known.gaps.extend(row.gaps);
        known.cost.bytes = known.cost.bytes.saturating_add(row.cost.bytes);
        known.cost.took_nanos = known.cost.took_nanos.saturating_add(row.cost.took_nanos);
    }
    let gaps = first.gaps.into_iter().chain(then.gaps).collect();
    Cut { frames: first.frames.saturating_add(then.frames), sources, gaps }
}

/// A row whose gaps say when: "all of what was asked" will mean another window.
fn dated(mut row: SourceCoverage) -> SourceCoverage {
    for gap in &mut row.gaps {
        gap.interval.get_or_insert(row.asked);
    }
    row
}

/// A node of which nothing is here and nothing was ever known but, perhaps, what it could have given.
fn unheard(expected: &Expected, scope: &Scope, window: Window) -> NodeCoverage {
    let silent = |detail: &str| Gap::new(GapReason::NodeSilent, detail);
    let rows = expected
        .collectable
        .iter()
        .filter(|c| asks(scope, c))
        .map(|c| SourceCoverage { gaps: vec![silent("the node did not answer")], ..blank(&c.name, c.kind, window) });
    NodeCoverage {
        node: expected.node.clone(),
        state: NodeState::Silent,
        clock: None,
        sources: rows.collect(),
        gaps: vec![silent("the node did not answer, and nothing of it had arrived before")],
        amended: None,
    }
}

fn heard(expected: &Expected, scope: &Scope, from: &FromNode) -> NodeCoverage {
    let state = state(from);
    let mut gaps: Vec<_> = from.answer.iter().flat_map(|a| a.gaps.iter().cloned()).collect();
    gaps.extend(from.recorded.iter().flat_map(|cut| cut.gaps.iter().cloned()));
    match state {
        NodeState::Silent => {
            let why = "the node did not answer, and nothing of the window had arrived before";
            gaps.push(Gap::new(GapReason::NodeSilent, why));
        }
        NodeState::Trimmed | NodeState::LastWords if expected.collectable.is_empty() => {
            let why = "which logs and state the node could have given is not known";
            gaps.push(Gap::new(unfinished(from), why));
        }
        NodeState::Answered | NodeState::Trimmed | NodeState::LastWords => {}
    }
    if state != NodeState::Silent {
        gaps.extend(clock_gaps(from));
    }

    say_why_rebooted(&mut gaps, from);
    let mut sources = metric_rows(from);
    sources.extend(other_rows(expected, scope, from));
    for row in &mut sources {
        row.asked = from.asked;
        row.covered = merged(std::mem::take(&mut row.covered), from.asked);
        row.gaps = bounded(std::mem::take(&mut row.gaps));
    }
    NodeCoverage { node: expected.node.clone(), state, clock: from.clock, sources, gaps: bounded(gaps), amended: None }
}

/// Why a node was rebooted is in what its kernel left, if it left anything.
fn say_why_rebooted(gaps: &mut [Gap], from: &FromNode) {
    let paths = from.items.iter().map(|item| item.head.path.as_str());
    let dumps: Vec<_> = paths.filter(|path| path.starts_with(DUMPS)).take(MAX_DUMPS_NAMED).collect();
    let asked_kernel = from.answer.iter().flat_map(|a| &a.sources).any(|row| row.source == "kernel");
    let told = match (&dumps[..], asked_kernel) {
        ([], false) => return,
        ([], true) => "its kernel left no dump of the window".to_owned(),
        (dumps, _) => format!("its kernel left {}", dumps.join(", ")),
    };
    for gap in gaps.iter_mut().filter(|gap| gap.reason == GapReason::NodeRebooted) {
        let Gap { interval, count, .. } = *gap;
        *gap = Gap { interval, count, ..Gap::new(gap.reason, format!("{}; {told}", gap.detail)) };
    }
}

fn state(from: &FromNode) -> NodeState {
    let own = from.items.iter().any(|i| i.origin == Origin::Node && (i.tail.is_some() || i.kept > 0));
    if from.answer.is_some() {
        NodeState::Answered
    } else if own {
        NodeState::Trimmed
    } else if from.recorded.as_ref().is_some_and(|cut| cut.frames > 0) {
        NodeState::LastWords
    } else {
        NodeState::Silent
    }
}

/// Why what a node had not given yet is missing: it was too slow, or it was gone.
const fn unfinished(from: &FromNode) -> GapReason {
    match from.ended {
        Ended::Connected => GapReason::TimedOut,
        Ended::Away => GapReason::NodeSilent,
    }
}

/// The recording's rows: the node's own when its recording is here whole, else what we read ourselves.
fn metric_rows(from: &FromNode) -> Vec<SourceCoverage> {
    let own = from.answer.iter().flat_map(|a| &a.sources).filter(|row| row.kind == SourceKind::Metrics);
    let Some(cut) = &from.recorded else {
        return own.cloned().collect();
    };
    let mut rows = cut.sources.clone();
    // What the node told of a source that is nowhere in what we have: its name stays, its claims do not.
    for row in own.filter(|row| !cut.sources.iter().any(|c| c.source == row.source)) {
        let why = "the node's own recording did not arrive, and what it had streamed holds nothing of this source";
        let gap = Gap::new(unfinished(from), why);
        rows.push(SourceCoverage { gaps: vec![gap], ..blank(&row.source, row.kind, from.asked) });
    }
    rows
}

/// Rows of logs, state and inventory.
fn other_rows(expected: &Expected, scope: &Scope, from: &FromNode) -> Vec<SourceCoverage> {
    let mut items: BTreeMap<(SourceKind, &str), Vec<&Arrived>> = BTreeMap::new();
    for item in &from.items {
        if let Some(kind) = kind_of(item.head.kind) {
            items.entry((kind, row_of(&item.head))).or_default().push(item);
        }
    }
    let mut rows = Vec::new();
    for row in from.answer.iter().flat_map(|a| &a.sources).filter(|row| row.kind != SourceKind::Metrics) {
        let arrived = items.remove(&(row.kind, row.source.as_str())).unwrap_or_default();
        rows.push(checked(row, &arrived, from));
    }
    for c in expected.collectable.iter().filter(|c| c.kind != SourceKind::Metrics && asks(scope, c)) {
        if rows.iter().any(|row| row.kind == c.kind && row.source == c.name) {
            continue;
        }
        let arrived = items.remove(&(c.kind, c.name.as_str())).unwrap_or_default();
        rows.push(unsaid(&c.name, c.kind, &arrived, from));
    }
    rows.extend(items.into_iter().map(|((kind, source), arrived)| unsaid(source, kind, &arrived, from)));
    rows
}

const fn kind_of(kind: ItemKind) -> Option<SourceKind> {
    match kind {
        ItemKind::Recording => None,
        ItemKind::Log => Some(SourceKind::Logs),
        ItemKind::State | ItemKind::Inventory => Some(SourceKind::State),
    }
}

/// The row that an item counts for. Tables of state are filed under one source, `state`, and have a row each, by the
/// name of their file.
fn row_of(head: &ItemHead) -> &str {
    if head.kind != ItemKind::State || head.source != "state" {
        return &head.source;
    }
    let path = head.path.as_str();
    let file = path.rsplit_once('/').map_or(path, |(_, file)| file);
    file.split_once('.').map_or(file, |(stem, _)| stem)
}

/// A row as the node told it, checked against its items.
fn checked(row: &SourceCoverage, arrived: &[&Arrived], from: &FromNode) -> SourceCoverage {
    let here = u64::try_from(arrived.iter().filter(|i| i.tail.is_some()).count()).unwrap_or(u64::MAX);
    let mut gaps = row.gaps.clone();
    for gap in item_gaps(arrived, from) {
        // A node may repeat the gaps of its items in its row.
        if !gaps.contains(&gap) {
            gaps.push(gap);
        }
    }
    if here >= row.items {
        return SourceCoverage { items: count(arrived), gaps, ..row.clone() };
    }
    let missing = row.items - here;
    let why = format!("the node declared {} items of this source, {here} arrived whole", row.items);
    gaps.push(Gap::new(GapReason::SourceFailed, why).counting(missing));
    SourceCoverage { gaps, cost: Cost { took_nanos: row.cost.took_nanos, ..cost(arrived) }, ..counted(row, arrived) }
}

/// A row of a source of which the node did not say what became of it.
fn unsaid(source: &str, kind: SourceKind, arrived: &[&Arrived], from: &FromNode) -> SourceCoverage {
    let row = counted(&blank(source, kind, from.asked), arrived);
    let mut gaps = item_gaps(arrived, from);
    let gap = match (&from.answer, from.ended) {
        (Some(_), _) if !arrived.is_empty() => None,
        (Some(_), _) => Some(Gap::new(GapReason::SourceFailed, "the node did not say what became of this source")),
        (None, Ended::Connected) => {
            Some(Gap::new(GapReason::TimedOut, "the deadline came before the node was done with this source"))
        }
        (None, Ended::Away) if arrived.is_empty() => {
            Some(Gap::new(GapReason::NodeSilent, "the node was not connected when it was asked"))
        }
        (None, Ended::Away) => Some(Gap::new(
            GapReason::NodeSilent,
            "the connection was lost before the node was done with this source, and it did not come back in time",
        )),
    };
    gaps.extend(gap);
    SourceCoverage { gaps, cost: cost(arrived), ..row }
}

/// The row with what its items say, and nothing else.
fn counted(row: &SourceCoverage, arrived: &[&Arrived]) -> SourceCoverage {
    let tails = || arrived.iter().filter_map(|i| i.tail.as_ref());
    SourceCoverage {
        items: count(arrived),
        records: tails().fold(0, |n, t| n.saturating_add(t.records)),
        covered: tails().filter_map(|t| t.covered).collect(),
        ..row.clone()
    }
}

fn item_gaps(arrived: &[&Arrived], from: &FromNode) -> Vec<Gap> {
    let mut gaps = Vec::new();
    for item in arrived {
        match &item.tail {
            Some(tail) => gaps.extend(tail.gaps.iter().cloned()),
            None => {
                let why = format!("{} is cut short after {} bytes", item.head.path, item.kept);
                gaps.push(Gap::new(unfinished(from), why));
            }
        }
    }
    gaps
}

fn clock_gaps(from: &FromNode) -> Vec<Gap> {
    let Some(clock) = from.clock else {
        let why =
            "the node's clock was never compared with the collector's: the window was read on its own clock as it is";
        return vec![Gap::new(GapReason::ClockUncertain, why)];
    };
    if u128::from(clock.bound_nanos) <= CLOCK_BOUND_TOLERATED.as_nanos() {
        return Vec::new();
    }
    let bound = i64::try_from(clock.bound_nanos).unwrap_or(i64::MAX);
    let edge = |at: WallTime| Window::new(at.offset(-bound), at.offset(bound)).ok();
    let gap = |interval| {
        let why = format!("the node's clock is known to within {:?} only", Duration::from_nanos(clock.bound_nanos));
        Gap::new(GapReason::ClockUncertain, why).over(interval)
    };
    [from.asked.from(), from.asked.until()].into_iter().filter_map(edge).map(gap).collect()
}

fn blank(source: &str, kind: SourceKind, asked: Window) -> SourceCoverage {
    SourceCoverage {
        source: source.to_owned(),
        kind,
        asked,
        covered: Vec::new(),
        outcomes: OutcomeCounts::default(),
        records: 0,
        items: 0,
        gaps: Vec::new(),
        cost: Cost::default(),
        redaction: None,
    }
}

fn count(arrived: &[&Arrived]) -> u64 {
    u64::try_from(arrived.len()).unwrap_or(u64::MAX)
}

fn cost(arrived: &[&Arrived]) -> Cost {
    Cost { took_nanos: 0, bytes: arrived.iter().fold(0, |n, i| n.saturating_add(i.kept)) }
}

const fn sum(a: OutcomeCounts, b: OutcomeCounts) -> OutcomeCounts {
    OutcomeCounts {
        complete: a.complete.saturating_add(b.complete),
        partial: a.partial.saturating_add(b.partial),
        absent: a.absent.saturating_add(b.absent),
        failed: a.failed.saturating_add(b.failed),
        timed_out: a.timed_out.saturating_add(b.timed_out),
        skipped: a.skipped.saturating_add(b.skipped),
    }
}

/// Sorted, inside `asked`, and what touches or overlaps made one.
fn merged(mut intervals: Vec<Window>, asked: Window) -> Vec<Window> {
    intervals.sort();
    let mut out: Vec<Window> = Vec::new();
    for interval in intervals.into_iter().filter_map(|w| w.intersect(&asked)) {
        match out.last_mut() {
            Some(last) if interval.from() <= last.until() => {
                if let Ok(both) = Window::new(last.from(), last.until().max(interval.until())) {
                    *last = both;
                }
            }
            _ => out.push(interval),
        }
    }
    out
}

fn bounded(mut gaps: Vec<Gap>) -> Vec<Gap> {
    if gaps.len() > MAX_GAPS {
        let rest = gaps.split_off(MAX_GAPS - 1);
        let reason = rest.first().map_or(GapReason::SourceFailed, |g| g.reason);
        let missing = rest.iter().map(|g| g.count.unwrap_or(1)).fold(0, u64::saturating_add);
        gaps.push(Gap::new(reason, format!("and {} more gaps", rest.len())).counting(missing));
    }
    gaps
}

#[cfg(test)]
#[path = "coverage_tests.rs"]
mod tests;
