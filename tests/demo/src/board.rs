//! What a node says at one tick, gathered series by series and put into a frame. Series are known by the agent's names.

use std::collections::HashMap;
use std::sync::Arc;

use casefile_proto::event::Event;
use casefile_proto::ids::{BootId, FrameSeq};
use casefile_proto::sample::{Frame, MetricIndex, Outcome, Reading, Sample, Schema, SeriesDef, SeriesId, SourceIndex};
use casefile_proto::time::Stamp;

use crate::DemoError;
use crate::random::Random;

/// One series.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Series {
    source: usize,
    id: u32,
}

/// A series that only grows, with what has come together so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Count {
    series: Series,
    total: f64,
}

/// Series that do not change in this half hour.
#[derive(Debug, Default)]
pub(crate) struct Still(Vec<(Series, i64)>);

#[derive(Debug, Default)]
struct Slot {
    /// Series that were never read; their definitions go with their first reading.
    fresh: Vec<Option<SeriesDef>>,
    defined: Vec<(SeriesId, SeriesDef)>,
    readings: Vec<Reading>,
    outcome: Option<Outcome>,
}

/// All series of a node.
#[derive(Debug)]
pub(crate) struct Board {
    schema: Arc<Schema>,
    metrics: HashMap<String, (usize, u16)>,
    slots: Vec<Slot>,
    events: Vec<Event>,
    took: Random,
}

impl Board {
    pub(crate) fn new(schema: Arc<Schema>, node: &str) -> Self {
        let mut metrics = HashMap::new();
        for (source, def) in schema.sources.iter().enumerate() {
            for (metric, def) in (0..).zip(&def.metrics) {
                metrics.insert(def.name.clone(), (source, metric));
            }
        }
        let slots = schema.sources.iter().map(|_| Slot::default()).collect();
        Self { schema, metrics, slots, events: Vec::new(), took: Random::of(&format!("{node} took")) }
    }

    /// A series of a metric that the agent has.
    pub(crate) fn series(&mut self, metric: &str, labels: &[&str]) -> Result<Series, DemoError> {
        let unknown = || DemoError::Metric(metric.to_owned());
        let (source, index) = *self.metrics.get(metric).ok_or_else(unknown)?;
        let def = &self.schema.sources[source].metrics[usize::from(index)];
        if def.labels.len() != labels.len() {
            return Err(unknown());
        }
        let fresh = &mut self.slots[source].fresh;
        let id = u32::try_from(fresh.len()).map_err(|_| unknown())?;
        let labels = labels.iter().map(|&label| label.into()).collect();
        fresh.push(Some(SeriesDef { metric: MetricIndex(index), labels }));
        Ok(Series { source, id })
    }

    /// A series that begins at `total`, in the metric's own integers.
    pub(crate) fn count(&mut self, metric: &str, labels: &[&str], total: f64) -> Result<Count, DemoError> {
        Ok(Count { series: self.series(metric, labels)?, total })
    }

    /// A reading of this tick.
    pub(crate) fn say(&mut self, series: Series, value: i64) {
        let slot = &mut self.slots[series.source];
        let id = SeriesId(series.id);
        if let Some(def) = slot.fresh.get_mut(series.id as usize).and_then(Option::take) {
            slot.defined.push((id, def));
        }
        slot.readings.push(Reading { series: id, value });
    }

    /// How a source fared at this tick, where that is not as usual.
    pub(crate) fn outcome(&mut self, source: &str, outcome: Outcome) {
        if let Some(at) = self.schema.sources.iter().position(|def| def.name == source) {
            self.slots[at].outcome = Some(outcome);
        }
    }

    /// Something that happened since the frame before.
    pub(crate) fn event(&mut self, event: Event) {
        self.events.push(event);
    }

    /// The frame of this tick; the board is empty again. `turn` is the number of the tick since the agent started.
    pub(crate) fn frame(&mut self, boot: BootId, turn: u64, at: Stamp) -> Frame {
        let mut samples = Vec::with_capacity(self.slots.len());
        for ((index, slot), def) in (0..).zip(&mut self.slots).zip(&self.schema.sources) {
            let due = turn.is_multiple_of((def.every_nanos / 1_000_000_000).max(1));
            let outcome = match slot.outcome.take() {
                Some(outcome) if due => outcome,
                _ if due => Outcome::Complete,
                _ => Outcome::not_due(),
            };
            let took_nanos = if due { took(slot.readings.len(), &mut self.took) } else { 0 };
            samples.push(Sample {
                source: SourceIndex(index),
                outcome,
                took_nanos,
                defined: std::mem::take(&mut slot.defined),
                readings: std::mem::take(&mut slot.readings),
            });
        }
        let events = std::mem::take(&mut self.events);
        Frame { boot, seq: FrameSeq(turn + 1), at, samples, events }
    }
}

/// Nanoseconds that so many readings take an agent.
fn took(readings: usize, random: &mut Random) -> u64 {
    let readings = u64::try_from(readings).unwrap_or(0);
    60_000 + readings * 4_000 + random.next() % (20_000 + readings * 1_500)
}

impl Count {
    /// Adds, in the metric's own integers, and says what there is now.
    pub(crate) fn add(&mut self, board: &mut Board, amount: f64) {
        self.total += coarse(amount.max(0.0));
        board.say(self.series, whole(self.total));
    }
}

impl Still {
    /// Adds a series.
    pub(crate) fn put(
        &mut self,
        board: &mut Board,
        metric: &str,
        labels: &[&str],
        value: i64,
    ) -> Result<(), DemoError> {
        self.0.push((board.series(metric, labels)?, value));
        Ok(())
    }

    /// Says all of them.
    pub(crate) fn say(&self, board: &mut Board) {
        for (series, value) in &self.0 {
            board.say(*series, *value);
        }
    }
}

/// Large amounts to four binary digits: what varies from second to second is what one sees, and the digits behind it are
/// what would make the archive large.
fn coarse(amount: f64) -> f64 {
    let mut unit = 1.0;
    while amount / unit >= 16.0 && amount >= 128.0 {
        unit *= 2.0;
    }
    if unit > 1.0 { (amount / unit).round() * unit } else { amount }
}

/// To whole multiples of this.
pub(crate) fn rounded(value: f64, unit: f64) -> f64 {
    (value / unit).round() * unit
}

/// The integer below.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a cast of a double saturates, and nothing here comes near the ends"
)]
pub(crate) fn whole(value: f64) -> i64 {
    value.floor() as i64
}
