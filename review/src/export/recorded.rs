//! What was recorded, as rows: samples, the metrics that explain them, and events. One pass over the recordings of each node,
//! in memory that does not grow with the case file.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use casefile_evidence::recording::reader::Piece;
use casefile_proto::event::EventKind;
use casefile_proto::ids::BootId;
use casefile_proto::sample::{Frame, MetricDef, MetricKind, Schema, SourceDef};
use casefile_proto::time::{ClockOffset, WallTime};
use casefile_proto::units::Scale;

use crate::casefile::{CaseFile, chain};
use crate::display::safe;
use crate::logs::corrected;

use super::cells::{Cell, Column, Group, Kind, Rows, Table, labels, lines};
use super::{Ask, ExportError, Exported};

/// Rows that are held to be put in the order of their series: 6 MiB, and 30 minutes of 145 series.
const HELD: usize = 1 << 18;

/// The most series of one node; more is no machine.
const MAX_SERIES: usize = 4 << 20;

/// Samples, metrics, events.
pub(super) static RECORDED: Group = Group {
    tables: &[
        Table { name: "samples", about: "a value of a series at a tick", columns: SAMPLES },
        Table {
            name: "metrics",
            about: "a metric that the agents know, and how many series of it were read",
            columns: METRICS,
        },
        Table { name: "events", about: "something that happened, as the agent recorded it", columns: EVENTS },
    ],
    there: |casefile| !casefile.recordings(None).is_empty(),
    fill,
};

const SAMPLES: &[Column] = &[
    ("time", Kind::Time),
    ("node", Kind::Text),
    ("boot", Kind::Text),
    ("source", Kind::Text),
    ("metric", Kind::Text),
    ("labels", Kind::Text),
    ("kind", Kind::Text),
    ("unit", Kind::Text),
    ("value", Kind::Real),
];

const METRICS: &[Column] = &[
    ("metric", Kind::Text),
    ("source", Kind::Text),
    ("kind", Kind::Text),
    ("unit", Kind::Text),
    ("every_seconds", Kind::Real),
    ("series", Kind::Integer),
    ("labels", Kind::Text),
    ("help", Kind::Text),
];

const EVENTS: &[Column] = &[
    ("time", Kind::Time),
    ("node", Kind::Text),
    ("boot", Kind::Text),
    ("kind", Kind::Text),
    ("level", Kind::Integer),
    ("facility", Kind::Integer),
    ("subject", Kind::Text),
    ("xid", Kind::Integer),
    ("count", Kind::Integer),
    ("by_nanos", Kind::Integer),
    ("text", Kind::Text),
];

/// The metrics that are known: by name and source what each is, how often it is read, and how many series of it there are.
type Metrics = BTreeMap<(String, String), (MetricDef, u64, u64)>;

fn fill(casefile: &mut CaseFile, ask: &Ask, done: &mut Exported, out: &mut dyn Rows) -> Result<(), ExportError> {
    let mut metrics = Metrics::new();
    for node in ask.nodes_of(casefile) {
        let clock = casefile.clock(&node);
        let name = safe(node.as_str());
        let mut reading = OfNode {
            ask,
            clock,
            node: &name,
            series: Vec::new(),
            known: HashMap::new(),
            boots: Vec::new(),
            held: Vec::new(),
            metrics: &mut metrics,
            out,
        };
        for (_, entry) in casefile.recordings(Some(&node)) {
            let mut recording = match casefile.recording(&entry) {
                Ok(recording) => recording,
                Err(error) => {
                    done.damaged.push((entry.to_string(), chain(&error)));
                    continue;
                }
            };
            let mut now = Now::default();
            let mut failed = Ok(());
            let read = recording.pieces(None, &mut |piece| {
                failed = reading.take(piece, &mut now);
                if failed.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            failed?;
            if let Err(error) = read {
                done.damaged.push((entry.to_string(), chain(&error)));
            }
        }
        reading.spill()?;
    }
    for ((name, source), (metric, every, series)) in &metrics {
        let label_names = super::cells::json(&metric.labels.iter().map(|l| safe(l)).collect::<Vec<_>>());
        let label_names = label_names.map_err(ExportError::write("metrics"))?;
        out.row(
            1,
            &[
                Cell::Text(&safe(name)),
                Cell::Text(&safe(source)),
                Cell::Text(kind(metric.kind)),
                Cell::Text(metric.unit.word()),
                Cell::Real(*every as f64 / 1e9),
                Cell::count(*series),
                Cell::Text(&label_names),
                Cell::Text(&safe(&metric.help)),
            ],
        )?;
    }
    Ok(())
}

/// How a metric moves, as a word.
pub(super) const fn kind(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Info => "info",
    }
}

/// A series as its cells.
struct Series {
    source: Arc<str>,
    metric: Arc<str>,
    labels: Box<str>,
    kind: &'static str,
    unit: &'static str,
    scale: Scale,
}

/// What a series is known by: source, metric and label values.
type Key = (Arc<str>, Arc<str>, Box<[Box<str>]>);

/// A value that waits for its row.
#[derive(Clone, Copy)]
struct Held {
    series: u32,
    boot: u32,
    at: WallTime,
    value: f64,
}

struct OfNode<'a> {
    ask: &'a Ask,
    clock: Option<ClockOffset>,
    node: &'a str,
    series: Vec<Series>,
    known: HashMap<Key, u32>,
    boots: Vec<(BootId, String)>,
    held: Vec<Held>,
    metrics: &'a mut Metrics,
    out: &'a mut dyn Rows,
}

/// What is known while one recording is read.
#[derive(Default)]
struct Now {
    schema: Option<Arc<Schema>>,
    /// Of each source, by the reader's number of a series, which of ours it is; [`NOT_WANTED`] where none.
    series: Vec<Vec<u32>>,
}

const NOT_WANTED: u32 = u32::MAX;

impl OfNode<'_> {
    fn take(&mut self, piece: Piece, now: &mut Now) -> Result<(), ExportError> {
        match piece {
            Piece::Hole(_) => Ok(()),
            Piece::Header(header) => {
                for source in &header.schema.sources {
                    for metric in source.metrics.iter().filter(|m| self.ask.wants_metric(&m.name)) {
                        self.metrics
                            .entry((metric.name.clone(), source.name.clone()))
                            .or_insert_with(|| (metric.clone(), source.every_nanos, 0));
                    }
                }
                now.series.resize_with(header.schema.sources.len(), Vec::new);
                now.schema = Some(header.schema);
                Ok(())
            }
            Piece::Frame(frame) => self.frame(frame, now),
        }
    }

    fn frame(&mut self, frame: Frame, now: &mut Now) -> Result<(), ExportError> {
        let at = corrected(frame.at.wall, self.clock);
        let boot = self.boot(frame.boot);
        for event in frame.events {
            let at = corrected(event.at.wall, self.clock);
            if self.ask.wants_time(at) {
                self.event(at, boot, &event.kind, &event.text)?;
            }
        }
        for sample in frame.samples {
            let source = usize::from(sample.source.0);
            for (id, def) in sample.defined {
                let Some(schema) = now.schema.clone() else { continue };
                let Some(of) = schema.sources.get(source) else { continue };
                let Some(metric) = of.metrics.get(usize::from(def.metric.0)) else { continue };
                let ours =
                    if self.ask.wants_metric(&metric.name) { self.number(of, metric, def.labels) } else { NOT_WANTED };
                let (Some(list), id) = (now.series.get_mut(source), id.0 as usize) else { continue };
                if id < MAX_SERIES {
                    if id >= list.len() {
                        list.resize(id + 1, NOT_WANTED);
                    }
                    list[id] = ours;
                }
            }
            if !self.ask.wants_time(at) {
                continue;
            }
            let Some(list) = now.series.get(source) else { continue };
            for reading in &sample.readings {
                let Some(&ours) = list.get(reading.series.0 as usize) else { continue };
                let Some(series) = self.series.get(ours as usize) else { continue };
                self.held.push(Held { series: ours, boot, at, value: series.scale.apply(reading.value) });
            }
        }
        if self.held.len() >= HELD { self.spill() } else { Ok(()) }
    }

    fn boot(&mut self, boot: BootId) -> u32 {
        let found = self.boots.iter().position(|(known, _)| *known == boot);
        let number = found.unwrap_or_else(|| {
            self.boots.push((boot, boot.to_string()));
            self.boots.len() - 1
        });
        u32::try_from(number).unwrap_or(u32::MAX)
    }

    fn number(&mut self, source: &SourceDef, metric: &MetricDef, values: Box<[Box<str>]>) -> u32 {
        let key = (Arc::from(source.name.as_str()), Arc::from(metric.name.as_str()), values);
        if let Some(number) = self.known.get(&key) {
            return *number;
        }
        let Ok(number) = u32::try_from(self.series.len()) else { return NOT_WANTED };
        let named = metric.labels.iter().map(String::as_str).zip(key.2.iter().map(AsRef::as_ref));
        self.series.push(Series {
            source: safe(&source.name).into(),
            metric: safe(&metric.name).into(),
            labels: labels(named).into(),
            kind: kind(metric.kind),
            unit: metric.unit.word(),
            scale: metric.scale,
        });
        self.known.insert(key, number);
        if let Some((_, _, series)) = self.metrics.get_mut(&(metric.name.clone(), source.name.clone())) {
            *series += 1;
        }
        number
    }

    /// Writes what is held, series by series: equal cells in a run are next to nothing in a column.
    fn spill(&mut self) -> Result<(), ExportError> {
        self.held.sort_by_key(|held| (held.series, held.at));
        for held in self.held.drain(..) {
            let Some(series) = self.series.get(held.series as usize) else { continue };
            let boot = self.boots.get(held.boot as usize).map(|(_, text)| text.as_str());
            self.out.row(
                0,
                &[
                    Cell::Time(held.at),
                    Cell::Text(self.node),
                    Cell::text(boot),
                    Cell::Text(&series.source),
                    Cell::Text(&series.metric),
                    Cell::Text(&series.labels),
                    Cell::Text(series.kind),
                    Cell::Text(series.unit),
                    Cell::Real(held.value),
                ],
            )?;
        }
        Ok(())
    }

    fn event(&mut self, at: WallTime, boot: u32, kind: &EventKind, text: &str) -> Result<(), ExportError> {
        let said = Said::of(kind);
        let subject = said.subject.map(safe);
        let boot = self.boots.get(boot as usize).map(|(_, text)| text.as_str());
        self.out.row(
            2,
            &[
                Cell::Time(at),
                Cell::Text(self.node),
                Cell::text(boot),
                Cell::Text(said.word),
                said.level.map_or(Cell::None, Cell::count),
                said.facility.map_or(Cell::None, Cell::count),
                Cell::text(subject.as_deref().filter(|s| !s.is_empty())),
                Cell::counted(said.xid),
                Cell::counted(said.count),
                said.by_nanos.map_or(Cell::None, Cell::Integer),
                Cell::Text(&lines(text.as_bytes())),
            ],
        )
    }
}

/// What kinds of events have of their own.
#[derive(Default)]
struct Said<'a> {
    word: &'static str,
    level: Option<u8>,
    facility: Option<u8>,
    subject: Option<&'a str>,
    xid: Option<u64>,
    count: Option<u64>,
    by_nanos: Option<i64>,
}

impl<'a> Said<'a> {
    fn of(kind: &'a EventKind) -> Self {
        let word = event_word(kind);
        match kind {
            EventKind::Kernel { facility, level, .. } => {
                Self { word, level: Some(*level), facility: Some(*facility), ..Self::default() }
            }
            EventKind::AgentStarted => Self { word, ..Self::default() },
            EventKind::Source { source } => Self { word, subject: Some(source), ..Self::default() },
            EventKind::ClockStepped { by_nanos } => Self { word, by_nanos: Some(*by_nanos), ..Self::default() },
            EventKind::PreviousBoot { found_in } => Self { word, subject: Some(found_in), ..Self::default() },
            EventKind::Gpu { pci, xid } => Self { word, subject: Some(pci), xid: *xid, ..Self::default() },
            EventKind::Lost { count } => Self { word, count: *count, ..Self::default() },
        }
    }
}

/// The kind of an event, as recordings name it.
pub(super) const fn event_word(kind: &EventKind) -> &'static str {
    match kind {
        EventKind::Kernel { .. } => "kernel",
        EventKind::AgentStarted => "agent-started",
        EventKind::Source { .. } => "source",
        EventKind::ClockStepped { .. } => "clock-stepped",
        EventKind::PreviousBoot { .. } => "previous-boot",
        EventKind::Gpu { .. } => "gpu",
        EventKind::Lost { .. } => "lost",
    }
}
