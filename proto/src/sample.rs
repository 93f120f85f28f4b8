//! What a node says at one tick: readings, outcomes, samples, frames, and the schema that explains their numbers.
//!
//! Raw integers only; rates and ratios are for review. A series that was not read at a tick has no reading in that
//! tick's sample: absence is absence, never zero.

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::gap::Gap;
use crate::ids::{BootId, FrameSeq};
use crate::time::Stamp;
use crate::units::{Scale, Unit};

/// How a metric's integer moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MetricKind {
    /// Only grows, until it wraps or starts again at zero.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Always 1: its labels are the information.
    Info,
}

impl MetricKind {
    /// Every kind; the position is its number on the wire and at rest.
    pub const ALL: [Self; 3] = [Self::Counter, Self::Gauge, Self::Info];
}

/// One metric as a source declares it in its code. Readings can be made of declared metrics only.
#[derive(Debug)]
pub struct MetricSpec {
    /// The series name: node_exporter's where node_exporter has it, DCGM's for GPUs, cAdvisor's for containers.
    pub name: &'static str,
    /// What it is, and where the number comes from.
    pub help: &'static str,
    /// How it moves.
    pub kind: MetricKind,
    /// The base unit.
    pub unit: Unit,
    /// How many base units the recorded integer is.
    pub scale: Scale,
    /// The names of its labels, in the order in which a reading gives their values.
    pub labels: &'static [&'static str],
}

/// [`MetricSpec`] as it travels and rests: an archive explains its own numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MetricDef {
    /// The series name.
    pub name: String,
    /// What it is, and where the number comes from.
    pub help: String,
    /// How it moves.
    pub kind: MetricKind,
    /// The base unit.
    pub unit: Unit,
    /// How many base units the recorded integer is.
    pub scale: Scale,
    /// The names of its labels.
    pub labels: Vec<String>,
}

impl From<&MetricSpec> for MetricDef {
    fn from(spec: &MetricSpec) -> Self {
        Self {
            name: spec.name.to_owned(),
            help: spec.help.to_owned(),
            kind: spec.kind,
            unit: spec.unit,
            scale: spec.scale,
            labels: spec.labels.iter().map(|&l| l.to_owned()).collect(),
        }
    }
}

/// What a source is, as it travels and rests.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SourceDef {
    /// The name: `cpu`, `memory`, ….
    pub name: String,
    /// What it reads and what it is for, one sentence.
    pub about: String,
    /// Nanoseconds between two measurements.
    pub every_nanos: u64,
    /// Nanoseconds after which a measurement counts as timed out.
    pub deadline_nanos: u64,
    /// The metrics that it may emit; readings refer to them by position.
    pub metrics: Vec<MetricDef>,
}

/// All sources of one agent run. A [`SourceIndex`] is a position in `sources`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Schema {
    /// The sources, in the order of the agent's `ALL`.
    pub sources: Vec<SourceDef>,
}

/// The position of a source in its [`Schema`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceIndex(pub u16);

/// The position of a metric in its [`SourceDef`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MetricIndex(pub u16);

/// One series of one source: a metric with its label values. Given out by the agent (or the reader of a recording)
/// and never reused within one run of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SeriesId(pub u32);

/// What a series is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SeriesDef {
    /// The metric.
    pub metric: MetricIndex,
    /// One value for each of the metric's labels, in its order. Text from the node: escape before showing.
    pub labels: Box<[Box<str>]>,
}

/// One value of one series at one tick, in the metric's own integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reading {
    /// Which series.
    pub series: SeriesId,
    /// The integer; the metric's scale says what it means.
    pub value: i64,
}

/// How one measurement of one source went. Every source has one at every tick.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// Everything that this source reads was read.
    Complete,
    /// Some of it was read; the gaps say what was not. Never empty.
    Partial {
        /// What is missing.
        gaps: Vec<Gap>,
    },
    /// This machine has no such thing.
    Absent {
        /// What was looked for.
        why: String,
    },
    /// Nothing usable was read.
    Failed {
        /// The chain of errors.
        error: String,
    },
    /// The deadline passed; the measurement may still be blocked.
    TimedOut {
        /// Nanoseconds since it began.
        after_nanos: u64,
    },
    /// Not due at this tick, left out of it, or switched off.
    Skipped {
        /// `not due` ([`Outcome::NOT_DUE`]), [`Outcome::SAVED`], or why it was switched off.
        why: String,
    },
}

impl Outcome {
    /// The `why` of a source with a slower cadence at a tick between two measurements: no gap.
    pub const NOT_DUE: &'static str = "not due";

    /// The `why` of a source that is due and is measured less often, to spare the node: a gap like a budget that is used up.
    pub const SAVED: &'static str = "measured less often, because measuring takes more of this node's CPU than it may";

    /// A source that is not measured at this tick to spare the node.
    pub fn saved() -> Self {
        Self::Skipped { why: Self::SAVED.to_owned() }
    }

    /// Whether this is [`Outcome::saved`].
    pub fn is_saved(&self) -> bool {
        matches!(self, Self::Skipped { why } if why == Self::SAVED)
    }

    /// A source that is not measured at this tick because its cadence is slower.
    pub fn not_due() -> Self {
        Self::Skipped { why: Self::NOT_DUE.to_owned() }
    }

    /// Whether this is [`Outcome::not_due`]: nothing is missing.
    pub fn is_not_due(&self) -> bool {
        matches!(self, Self::Skipped { why } if why == Self::NOT_DUE)
    }

    /// The word for it: `complete`, `partial`, `absent`, `failed`, `timed out`, `skipped`.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Partial { .. } => "partial",
            Self::Absent { .. } => "absent",
            Self::Failed { .. } => "failed",
            Self::TimedOut { .. } => "timed out",
            Self::Skipped { .. } => "skipped",
        }
    }
}

/// All that one source said at one tick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Which source.
    pub source: SourceIndex,
    /// How it went.
    pub outcome: Outcome,
    /// Nanoseconds of wall time that measuring took; 0 for a source that was not measured.
    pub took_nanos: u64,
    /// Series that are new in this sample, to be known before its readings.
    pub defined: Vec<(SeriesId, SeriesDef)>,
    /// The readings, in the order in which they were made; no series twice.
    pub readings: Vec<Reading>,
}

/// All samples of one tick of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Which boot.
    pub boot: BootId,
    /// Contiguous within the boot.
    pub seq: FrameSeq,
    /// When the tick was due, on both clocks.
    pub at: Stamp,
    /// One sample for each source of the schema, in its order.
    pub samples: Vec<Sample>,
    /// What happened since the frame before.
    pub events: Vec<Event>,
}
