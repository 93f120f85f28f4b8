//! One collection: a window of this node as evidence items, for an upload or for an archive.
//!
//! Recording cut from the ring, inventory, state tables, log sources, in this order; it never fails: what fails is a gap.
//! Each step runs on a thread of its own (`collect/step.rs`), so that one that hangs costs its own evidence only.

mod items;
mod step;
#[cfg(test)]
mod tests;

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use casefile_evidence::archive::chunk::Chunk;
use casefile_evidence::archive::layout::{NODE_ITEM, RECORDING_ITEM, path};
use casefile_evidence::recording::reader::{ReadError, Recording};
use casefile_proto::coverage::{Cost, OutcomeCounts, SourceCoverage, SourceKind};
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::ids::{BootId, ItemNumber, NodeName};
use casefile_proto::item::{EntryPath, ItemHead, ItemKind, ItemTail};
use casefile_proto::session::Collectable;
use casefile_proto::time::{ClockOffset, Window};
use casefile_proto::units::Bytes;
use casefile_redact::Redactor;

use crate::clock::Clock;
use crate::host::Host;
use crate::logs::budget::part_of;
use crate::logs::{self, LogAsk, LogConfig, LogSpec, Selection};
use crate::redaction::Redaction;
use crate::runner::lane::chain;
use crate::sources::inventory;
use crate::state::{self, StateSpec};
use items::{Content, OnlyAsked, Records};
pub use step::LeftBehind;
use step::{Delivery, Feed, Gone, Until, Went};

/// Names that stand for a group of evidence in [`Ask::sources`].
pub const RECORDING: &str = "recording";
/// The inventory, `node.json`.
pub const INVENTORY: &str = "inventory";
/// All state tables.
pub const STATE: &str = "state";

/// The part of the deadline that collecting may take: what is found still has to be delivered.
const COLLECTING: (u32, u32) = (9, 10);

/// What a step that was told to stop gets to end its item in order.
const GRACE: Duration = Duration::from_millis(500);

/// What is asked.
#[derive(Debug, Clone)]
pub struct Ask {
    /// On the node's own clock.
    pub window: Window,
    /// The most bytes, before compression, over all items.
    pub budget: Bytes,
    /// How long it may take; what is not there by then is a gap.
    pub deadline: Duration,
    /// Names of sources, log sources and state tables (or `recording`, `inventory`, `state`); empty: all.
    pub sources: Vec<String>,
    /// Which logs of the log sources.
    pub select: Selection,
    /// How well the node's clock is known, where somebody measured it.
    pub clock: Option<ClockOffset>,
}

/// What a collection works with.
#[derive(Clone)]
pub struct Context {
    /// The machine.
    pub host: Host,
    /// Its name.
    pub node: NodeName,
    /// Its boot.
    pub boot: BootId,
    /// Its clocks.
    pub clock: Clock,
    /// The ring; `None` where there is none (`extract` on a machine without an agent).
    pub ring_dir: Option<PathBuf>,
    /// The sources that are recorded here: each has a row in the coverage, whether the ring knows it or not.
    pub sources: Vec<&'static str>,
    /// The log sources' configuration.
    pub logs: LogConfig,
    /// What masks secrets.
    pub redaction: Arc<Redaction>,
    /// Threads of earlier collections that hang.
    pub left_behind: LeftBehind,
}

/// The other end is gone: nothing more can be delivered.
#[derive(Debug, thiserror::Error)]
#[error("deliver evidence")]
pub struct SinkError(#[source] pub std::io::Error);

/// Where items go. Synchronous, on a thread that may block: blocking is the back pressure.
pub trait ItemSink {
    /// An item begins; its chunks follow. Items come one after the other, numbered from 0. One that comes while another
    /// was not ended means that the other was cut short: its reader hung beyond the deadline.
    fn begin(&mut self, number: ItemNumber, head: &ItemHead) -> Result<(), SinkError>;
    /// A piece of its content.
    fn chunk(&mut self, chunk: Chunk) -> Result<(), SinkError>;
    /// It is whole.
    fn end(&mut self, tail: &ItemTail) -> Result<(), SinkError>;
    /// How far a source is: a few times a second at most.
    fn progress(&mut self, source: &str, records: u64, bytes: u64);
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Collected {
    /// One row for every source of the schema, every log source and every kind of state that was asked.
    pub sources: Vec<SourceCoverage>,
    /// What is missing of the node as a whole.
    pub gaps: Vec<Gap>,
}

/// What can be collected besides the recording, as an agent says it in its hello.
pub fn collectable() -> Vec<Collectable> {
    let state = std::iter::once(INVENTORY).chain(state::ALL.iter().map(|s| s.name));
    let state = state.map(|name| Collectable { name: name.to_owned(), kind: SourceKind::State });
    let logs = logs::ALL.iter().map(|s| Collectable { name: s.name.to_owned(), kind: SourceKind::Logs });
    state.chain(logs).collect()
}

/// Whether something that can be asked has this name.
pub(crate) fn knows(context: &Context, name: &str) -> bool {
    names(context).any(|known| known == name)
}

/// Everything that can be asked by name.
pub(crate) fn names(context: &Context) -> impl Iterator<Item = &'static str> {
    let state = state::ALL.iter().map(|s| s.name);
    let logs = logs::ALL.iter().map(|s| s.name);
    [RECORDING, INVENTORY, STATE].into_iter().chain(state).chain(logs).chain(context.sources.clone())
}

/// Whether text has this name: a log source, a table of the state, the inventory. The kernel log and its source of
/// metrics share theirs.
pub(crate) fn is_text(name: &str) -> bool {
    let tables = state::ALL.iter().map(|s| s.name);
    [INVENTORY, STATE].into_iter().chain(tables).chain(logs::ALL.iter().map(|s| s.name)).any(|known| known == name)
}

/// Collects. Returns when everything is delivered, the deadline is near, or `stop` turned true.
pub fn collect(context: &Context, ask: &Ask, stop: &AtomicBool, out: &mut dyn ItemSink) -> Collected {
    let deadline = Instant::now() + ask.deadline * COLLECTING.0 / COLLECTING.1;
    let until = Until { stop, deadline, grace: GRACE };
    let steps = steps(context, ask);
    let mut run = Run {
        context,
        ask,
        redactor: context.redaction.current(),
        until,
        delivery: Delivery::new(out, context.left_behind.clone()),
        left: ask.budget,
        collected: Collected::default(),
    };
    // Everything but the logs is small; all logs of all log sources share fairly what it leaves.
    let (logs, others): (Vec<_>, Vec<_>) = steps.into_iter().partition(|s| matches!(s, Step::Log(_)));
    if let Err(Gone(error)) = run.steps(others).and_then(|()| run.logs(logs)) {
        run.collected.gaps.push(Gap::new(GapReason::Cancelled, chain(&error)));
    }
    for name in &ask.sources {
        if knows(context, name) {
            continue;
        }
        let what = format!("there is no source {:?} here", name.chars().take(64).collect::<String>());
        run.collected.gaps.push(Gap::new(GapReason::SourceAbsent, what));
    }
    run.collected
}

/// What there is to do, cheap and small first.
#[derive(Clone, Copy)]
enum Step {
    Recording,
    Inventory,
    Table(&'static StateSpec),
    Log(&'static LogSpec),
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Recording => RECORDING,
            Self::Inventory => INVENTORY,
            Self::Table(spec) => spec.name,
            Self::Log(spec) => spec.name,
        }
    }

    fn kind(self) -> SourceKind {
        match self {
            Self::Recording => SourceKind::Metrics,
            Self::Inventory | Self::Table(_) => SourceKind::State,
            Self::Log(_) => SourceKind::Logs,
        }
    }
}

fn steps(context: &Context, ask: &Ask) -> Vec<Step> {
    let wants = |names: &[&str]| ask.sources.is_empty() || names.iter().any(|n| ask.sources.iter().any(|s| s == n));
    let mut steps = Vec::new();
    // A recording is one stream: whoever asks for one of its sources gets all of them. The kernel's log and its source
    // of metrics share their name; who says it means the log.
    let recorded: Vec<_> = context.sources.iter().copied().filter(|name| !is_text(name)).collect();
    if wants(&[RECORDING]) || wants(&recorded) {
        steps.push(Step::Recording);
    }
    if wants(&[INVENTORY, STATE]) {
        steps.push(Step::Inventory);
    }
    steps.extend(state::ALL.iter().filter(|s| wants(&[s.name, STATE])).map(Step::Table));
    steps.extend(logs::ALL.iter().filter(|s| wants(&[s.name])).map(Step::Log));
    steps
}

struct Run<'a> {
    context: &'a Context,
    ask: &'a Ask,
    /// One key for the whole collection, so that its tokens can be compared.
    redactor: Redactor,
    until: Until<'a>,
    delivery: Delivery<'a>,
    left: Bytes,
    collected: Collected,
}

impl Run<'_> {
    fn steps(&mut self, steps: Vec<Step>) -> Result<(), Gone> {
        steps.into_iter().try_for_each(|step| self.step(step, self.left))
    }

    /// The log sources, the one with the least to read first: no other waits for the one with the most.
    fn logs(&mut self, steps: Vec<Step>) -> Result<(), Gone> {
        let enough = Bytes(self.left.0 / steps.len().max(1) as u64);
        let mut weighed = Vec::new();
        for step in &steps {
            weighed.push((*step, self.needs(*step, enough)?));
        }
        weighed.sort_by_key(|(_, needs)| needs.iter().fold(0_u64, |sum, need| sum.saturating_add(*need)));
        let begun = self.collected.sources.len();
        for (turn, (step, own)) in weighed.iter().enumerate() {
            let others: Vec<u64> = weighed[turn + 1..].iter().flat_map(|(_, needs)| needs).copied().collect();
            self.step(*step, part_of(self.left, own, &others))?;
        }
        // Their rows stand in the order of the list, whatever was read first.
        let place = |row: &SourceCoverage| steps.iter().position(|s| s.name() == row.source);
        self.collected.sources[begun..].sort_by_key(place);
        Ok(())
    }

    /// What the logs of a log source need; one without end where it cannot be said, which is told when it is read.
    fn needs(&mut self, step: Step, enough: Bytes) -> Result<Vec<u64>, Gone> {
        let unknown = vec![u64::MAX];
        let Step::Log(spec) = step else { return Ok(unknown) };
        if self.until.is_over() || self.context.left_behind.is_full() {
            return Ok(unknown);
        }
        let context = self.context.clone();
        let ask = LogAsk { window: self.ask.window, budget: enough, select: self.ask.select.clone() };
        let went = self.delivery.run(spec.name, &self.until, move |feed| {
            let needs = (spec.open)(&context.host, &context.logs).needs(&ask, &mut OnlyAsked(feed));
            step::Result { needs, ..Default::default() }
        })?;
        Ok(if let Went::Done(done) = went { done.needs } else { unknown })
    }

    fn step(&mut self, step: Step, budget: Bytes) -> Result<(), Gone> {
        if self.until.is_over() {
            let gap = self.why_over("it was not begun");
            self.rows(step, vec![], gap);
            return Ok(());
        }
        if self.context.left_behind.is_full() {
            let why = "it was not begun: too many threads of earlier collections hang";
            self.rows(step, vec![], Gap::new(GapReason::TimedOut, why));
            return Ok(());
        }
        let began = Instant::now();
        let (context, window) = (self.context.clone(), self.ask.window);
        let (select, offset, redactor) = (self.ask.select.clone(), self.ask.clock, self.redactor.clone());
        let went = self.delivery.run(step.name(), &self.until, move |feed| match step {
            Step::Recording => recording(&context, feed, window, budget),
            Step::Inventory => inventory_item(&context, feed, window, offset, budget, &redactor),
            Step::Table(spec) => table(&context, feed, spec, window, budget, &redactor),
            Step::Log(spec) => log(&context, feed, spec, LogAsk { window, budget, select }, redactor),
        })?;
        let (done, bytes) = match went {
            Went::Done(done) => {
                let bytes = done.bytes;
                (Some(done), bytes)
            }
            Went::Hangs { bytes } => {
                tracing::warn!(step = step.name(), "a step of the collection hangs and is left behind");
                let gap = self.why_over("it did not answer");
                self.rows(step, vec![], gap);
                (None, bytes)
            }
            Went::Panicked { why, bytes } => {
                tracing::error!(step = step.name(), why, "a step of the collection failed");
                self.rows(step, vec![], Gap::new(GapReason::SourceFailed, why));
                (None, bytes)
            }
        };
        self.left = self.left.minus(bytes);
        if let Some(done) = done {
            self.collected.gaps.extend(done.gaps);
            let gap = Gap::new(GapReason::NotRecorded, "nothing of it was recorded in the window");
            self.rows(step, done.rows, gap);
        }
        let took = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        tracing::debug!(step = step.name(), took, bytes, "collected");
        Ok(())
    }

    fn why_over(&self, what: &str) -> Gap {
        if self.until.stop.load(Ordering::Relaxed) {
            Gap::new(GapReason::Cancelled, format!("{what}: the collection was cancelled"))
        } else {
            Gap::new(GapReason::TimedOut, format!("{what}: the deadline of the collection had come"))
        }
    }

    /// The rows of a step, and one with this gap for whatever of it has none.
    fn rows(&mut self, step: Step, rows: Vec<SourceCoverage>, gap: Gap) {
        let (window, kind) = (self.ask.window, step.kind());
        let missing = |name: &str| {
            let mut row = row(name, kind, window);
            row.gaps = vec![gap.clone().over(window)];
            row
        };
        let expected: Vec<&str> = match step {
            Step::Recording => self.context.sources.clone(),
            _ => vec![step.name()],
        };
        let absent: Vec<_> =
            expected.into_iter().filter(|name| rows.iter().all(|r| r.source != *name)).map(missing).collect();
        self.collected.sources.extend(rows);
        self.collected.sources.extend(absent);
    }
}

/// A row that says nothing yet.
fn row(source: &str, kind: SourceKind, asked: Window) -> SourceCoverage {
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

fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// The frames of the window, out of the ring.
fn recording(context: &Context, feed: &Feed, window: Window, budget: Bytes) -> step::Result {
    let failed =
        |reason, why: String| step::Result { gaps: vec![Gap::new(reason, why).over(window)], ..Default::default() };
    let Some(dir) = &context.ring_dir else {
        return failed(GapReason::NotRecorded, "there is no ring on this machine".to_owned());
    };
    let mut recording = match Recording::open_dir(dir) {
        Ok(recording) => recording,
        Err(ReadError::Io { path, source }) if source.kind() == ErrorKind::PermissionDenied => {
            return failed(GapReason::PermissionDenied, format!("{} may not be read by this user", path.display()));
        }
        Err(error) => return failed(GapReason::SourceFailed, chain(&error)),
    };
    let head = ItemHead {
        kind: ItemKind::Recording,
        path: path(RECORDING_ITEM),
        source: RECORDING.to_owned(),
        method: "the frames of the window, cut from the agent's ring".to_owned(),
        times: None,
    };
    let mut content = Content::recording(feed, head, budget);
    match recording.cut(window, &mut content) {
        Ok(mut cut) => {
            let bytes = content.bytes;
            let items = u64::from(content.finish(cut.frames, covered(&cut.sources), cut.gaps.clone()));
            for row in &mut cut.sources {
                row.items = items.min(row.records);
            }
            step::Result { rows: cut.sources, gaps: cut.gaps, bytes, ..Default::default() }
        }
        Err(error) => {
            let (reason, bytes) = (stopped(&content, GapReason::SourceFailed), content.bytes);
            let gap = Gap::new(reason, format!("cutting the recording ended early: {}", chain(&error))).over(window);
            content.finish(0, None, vec![gap.clone()]);
            step::Result { rows: vec![], gaps: vec![gap], bytes, ..Default::default() }
        }
    }
}

/// From the first to the last instant that any source covers.
fn covered(rows: &[SourceCoverage]) -> Option<Window> {
    let all = || rows.iter().flat_map(|r| &r.covered);
    Window::new(all().map(Window::from).min()?, all().map(Window::until).max()?).ok()
}

fn stopped(content: &Content<'_>, otherwise: GapReason) -> GapReason {
    match content.stopped {
        Some(logs::Stop::Budget) => GapReason::Budget,
        Some(logs::Stop::Cancelled) => GapReason::Cancelled,
        Some(logs::Stop::Gone) | None => otherwise,
    }
}

/// `node.json`: what this machine is, and its clock when it was asked.
fn inventory_item(
    context: &Context,
    feed: &Feed,
    window: Window,
    offset: Option<ClockOffset>,
    budget: Bytes,
    redactor: &Redactor,
) -> step::Result {
    let began = Instant::now();
    let (inventory, gaps) = inventory::describe(&context.host);
    let node = serde_json::json!({
        "node": context.node,
        "boot_id": context.boot,
        "agent_version": env!("CARGO_PKG_VERSION"),
        "collected_at": (context.clock)(),
        "clock": offset,
        "inventory": inventory,
    });
    let head = ItemHead {
        kind: ItemKind::Inventory,
        path: path(NODE_ITEM),
        source: INVENTORY.to_owned(),
        method: "what this machine is, read at collection time".to_owned(),
        times: None,
    };
    let mut row = row(INVENTORY, SourceKind::State, window);
    let mut content = Content::text(feed, head, budget, redactor);
    let mut text = serde_json::to_vec_pretty(&node).unwrap_or_default();
    text.push(b'\n');
    row.gaps.clone_from(&gaps);
    match content.write_all(&text).and_then(|()| content.flush()) {
        Ok(()) => row.records = 1,
        Err(error) => row.gaps.push(Gap::new(stopped(&content, GapReason::SourceFailed), error.to_string())),
    }
    row.cost = Cost { took_nanos: nanos(began), bytes: content.bytes };
    row.redaction = content.redaction(redactor);
    let bytes = content.bytes;
    row.items = u64::from(content.finish(row.records, None, gaps));
    step::Result { rows: vec![row], bytes, ..Default::default() }
}

/// One table of the state at collection time.
fn table(
    context: &Context,
    feed: &Feed,
    spec: &'static StateSpec,
    window: Window,
    budget: Bytes,
    redactor: &Redactor,
) -> step::Result {
    let began = Instant::now();
    let mut row = row(spec.name, SourceKind::State, window);
    let Ok(path): Result<EntryPath, _> = spec.file.parse() else {
        row.gaps.push(Gap::new(GapReason::SourceFailed, format!("{} is no name of a file", spec.file)));
        return step::Result { rows: vec![row], ..Default::default() };
    };
    let head =
        ItemHead { kind: ItemKind::State, path, source: STATE.to_owned(), method: spec.about.to_owned(), times: None };
    let mut content = Content::text(feed, head, budget, redactor);
    let written = (spec.write)(&context.host, &mut content);
    match written.and_then(|table| content.flush().map(|()| table)) {
        Ok(table) => {
            row.records = table.rows;
            row.gaps = table.gaps;
        }
        Err(error) => {
            row.records = content.lines;
            let reason = stopped(&content, GapReason::SourceFailed);
            row.gaps.push(Gap::new(reason, format!("the table ends early: {}", chain(&error))));
        }
    }
    row.cost = Cost { took_nanos: nanos(began), bytes: content.bytes };
    row.redaction = content.redaction(redactor);
    let bytes = content.bytes;
    row.items = u64::from(content.finish(row.records, None, row.gaps.clone()));
    feed.progress(spec.name, row.records, bytes);
    step::Result { rows: vec![row], bytes, ..Default::default() }
}

/// One log source.
fn log(context: &Context, feed: &Feed, spec: &'static LogSpec, ask: LogAsk, redactor: Redactor) -> step::Result {
    let began = Instant::now();
    let mut source = (spec.open)(&context.host, &context.logs);
    let mut records = Records::new(spec.name, feed, ask.window, ask.budget, redactor);
    let covered = source.read(&ask, &mut records);
    records.finish();
    let mut row = row(spec.name, SourceKind::Logs, ask.window);
    row.covered = covered.covered;
    row.records = covered.records;
    row.items = records.items;
    for gap in covered.gaps {
        records.gaps.add(gap);
    }
    let bytes = records.bytes;
    row.gaps = std::mem::take(&mut records.gaps).finish();
    row.cost = Cost { took_nanos: nanos(began), bytes };
    row.redaction = Some(records.redaction);
    step::Result { rows: vec![row], bytes, ..Default::default() }
}
