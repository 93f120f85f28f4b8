//! How the small things are written: headers with their schema, outcomes, gaps, events, holes; and their limits.
//!
//! Each `put_` stands above the function that reads it back. Text that is too long is cut when it is written.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use casefile_proto::event::{Event, EventKind};
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::ids::{BootId, FrameSeq};
use casefile_proto::sample::{MetricDef, MetricKind, Outcome, Schema, SourceDef};
use casefile_proto::time::{BootTime, Stamp, WallTime, Window};
use casefile_proto::units::{Scale, Unit};

use super::bytes::{Cursor, put_i64, put_len, put_text, put_u64};
use super::delta::DecodeError;
use super::{Header, Hole};

/// The version of the format that is written; every earlier one is read. 2 added events of the kind 6.
pub(crate) const VERSION: u8 = 2;

/// Sources of one schema.
pub(crate) const MAX_SOURCES: usize = 256;
/// Metrics of one source.
pub(crate) const MAX_METRICS: usize = 1024;
/// Labels of one metric.
pub(crate) const MAX_LABELS: usize = 16;
/// Bytes of a name, a help text, a label value, a reason: what the agent keeps of a label value.
pub(crate) const MAX_TEXT: usize = 4096;
/// Gaps of one outcome.
pub(crate) const MAX_GAPS: usize = 1024;
/// Events of one frame.
pub(crate) const MAX_EVENTS: usize = 4096;

fn malformed<T>(why: &'static str) -> Result<T, DecodeError> {
    Err(DecodeError::Malformed(why))
}

/// The position of an item in its list, as it is written.
fn position<T: PartialEq>(all: &[T], item: &T) -> u8 {
    // The lists have a handful of entries and hold every value, so the position is found and fits.
    all.iter().position(|x| x == item).and_then(|i| u8::try_from(i).ok()).unwrap_or(u8::MAX)
}

pub(crate) fn put_header(out: &mut Vec<u8>, header: &Header) {
    out.push(VERSION);
    put_text(out, header.node.as_str(), MAX_TEXT);
    out.extend_from_slice(header.boot.as_bytes());
    put_text(out, &header.agent_version, MAX_TEXT);
    let sources = &header.schema.sources[..header.schema.sources.len().min(MAX_SOURCES)];
    put_len(out, sources.len());
    for source in sources {
        put_text(out, &source.name, MAX_TEXT);
        put_text(out, &source.about, MAX_TEXT);
        put_u64(out, source.every_nanos);
        put_u64(out, source.deadline_nanos);
        let metrics = &source.metrics[..source.metrics.len().min(MAX_METRICS)];
        put_len(out, metrics.len());
        for metric in metrics {
            put_text(out, &metric.name, MAX_TEXT);
            put_text(out, &metric.help, MAX_TEXT);
            out.push(position(&MetricKind::ALL, &metric.kind));
            out.push(position(&Unit::ALL, &metric.unit));
            put_u64(out, metric.scale.numerator);
            put_u64(out, metric.scale.denominator);
            let labels = &metric.labels[..metric.labels.len().min(MAX_LABELS)];
            put_len(out, labels.len());
            for label in labels {
                put_text(out, label, MAX_TEXT);
            }
        }
    }
}

pub(crate) fn header(body: &[u8]) -> Result<Header, DecodeError> {
    let mut at = Cursor::new(body);
    if !(1..=VERSION).contains(&at.byte()?) {
        return malformed("a version of the format that this build does not know");
    }
    let node = at.text(MAX_TEXT)?.parse().map_err(|_| DecodeError::Malformed("a node name that is none"))?;
    let boot = BootId::from_bytes(at.id()?);
    let agent_version = at.text(MAX_TEXT)?.to_owned();
    let sources = (0..at.len(MAX_SOURCES, "too many sources")?).map(|_| source(&mut at)).collect::<Result<_, _>>()?;
    at.end()?;
    Ok(Header { node, boot, agent_version, schema: shared(Schema { sources }) })
}

/// Schemas that are in use, so that those that are equal are one.
static IN_USE: Mutex<Vec<Weak<Schema>>> = Mutex::new(Vec::new());

/// Schemas that are remembered: one for each version of the agent that is about. What is beyond is kept apart, each.
const MAX_IN_USE: usize = 32;

/// One that is equal and in use already, or this one. A schema is tens of kilobytes, and a collector hears thousands of
/// agents that have the same.
fn shared(schema: Schema) -> Arc<Schema> {
    // Nothing that panics runs under this lock.
    let mut in_use = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
    in_use.retain(|known| known.strong_count() > 0);
    if let Some(known) = in_use.iter().filter_map(Weak::upgrade).find(|known| **known == schema) {
        return known;
    }
    let schema = Arc::new(schema);
    if in_use.len() < MAX_IN_USE {
        in_use.push(Arc::downgrade(&schema));
    }
    schema
}

fn source(at: &mut Cursor<'_>) -> Result<SourceDef, DecodeError> {
    Ok(SourceDef {
        name: at.text(MAX_TEXT)?.to_owned(),
        about: at.text(MAX_TEXT)?.to_owned(),
        every_nanos: at.u64()?,
        deadline_nanos: at.u64()?,
        metrics: (0..at.len(MAX_METRICS, "too many metrics")?).map(|_| metric(at)).collect::<Result<_, _>>()?,
    })
}

fn metric(at: &mut Cursor<'_>) -> Result<MetricDef, DecodeError> {
    let name = at.text(MAX_TEXT)?.to_owned();
    let help = at.text(MAX_TEXT)?.to_owned();
    let Some(&kind) = MetricKind::ALL.get(usize::from(at.byte()?)) else { return malformed("a metric of no kind") };
    let Some(&unit) = Unit::ALL.get(usize::from(at.byte()?)) else { return malformed("a metric of no unit") };
    let scale = Scale { numerator: at.u64()?, denominator: at.u64()? };
    if scale.numerator == 0 || scale.denominator == 0 {
        return malformed("a scale with a zero");
    }
    let labels = (0..at.len(MAX_LABELS, "too many labels")?)
        .map(|_| at.text(MAX_TEXT).map(str::to_owned))
        .collect::<Result<_, _>>()?;
    Ok(MetricDef { name, help, kind, unit, scale, labels })
}

/// A number that may be absent: 0, or one more than it. `u64::MAX` itself is written as absent.
fn put_maybe(out: &mut Vec<u8>, value: Option<u64>) {
    put_u64(out, value.and_then(|v| v.checked_add(1)).unwrap_or(0));
}

fn maybe(at: &mut Cursor<'_>) -> Result<Option<u64>, DecodeError> {
    Ok(at.u64()?.checked_sub(1))
}

pub(crate) fn put_gap(out: &mut Vec<u8>, gap: &Gap) {
    out.push(gap.reason.number());
    match gap.interval {
        None => out.push(0),
        Some(window) => {
            out.push(1);
            put_i64(out, window.from().nanos());
            put_i64(out, window.until().nanos());
        }
    }
    put_maybe(out, gap.count);
    put_text(out, &gap.detail, Gap::MAX_DETAIL);
}

pub(crate) fn gap(at: &mut Cursor<'_>) -> Result<Gap, DecodeError> {
    let Some(reason) = GapReason::from_number(at.byte()?) else { return malformed("a gap without a reason") };
    let interval = match at.byte()? {
        0 => None,
        1 => {
            let (from, until) = (WallTime::from_nanos(at.i64()?), WallTime::from_nanos(at.i64()?));
            Some(Window::new(from, until).map_err(|_| DecodeError::Malformed("a gap over an empty interval"))?)
        }
        _ => return malformed("an interval of no kind"),
    };
    let count = maybe(at)?;
    let mut gap = Gap::new(reason, at.text(Gap::MAX_DETAIL)?);
    (gap.interval, gap.count) = (interval, count);
    Ok(gap)
}

/// The number of an outcome: three bits. `not due` has one of its own, since most samples of slow sources are that.
pub(crate) fn outcome_number(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Complete => 0,
        Outcome::Skipped { .. } if outcome.is_not_due() => 1,
        Outcome::Partial { .. } => 2,
        Outcome::Absent { .. } => 3,
        Outcome::Failed { .. } => 4,
        Outcome::TimedOut { .. } => 5,
        Outcome::Skipped { .. } => 6,
    }
}

/// What an outcome has besides its number.
pub(crate) fn put_outcome(out: &mut Vec<u8>, outcome: &Outcome) {
    match outcome {
        Outcome::Complete => {}
        Outcome::Skipped { .. } if outcome.is_not_due() => {}
        Outcome::Partial { gaps } => {
            let gaps = &gaps[..gaps.len().min(MAX_GAPS)];
            put_len(out, gaps.len());
            gaps.iter().for_each(|gap| put_gap(out, gap));
        }
        Outcome::Absent { why } | Outcome::Skipped { why } => put_text(out, why, MAX_TEXT),
        Outcome::Failed { error } => put_text(out, error, MAX_TEXT),
        Outcome::TimedOut { after_nanos } => put_u64(out, *after_nanos),
    }
}

pub(crate) fn outcome(number: u8, at: &mut Cursor<'_>) -> Result<Outcome, DecodeError> {
    Ok(match number {
        0 => Outcome::Complete,
        1 => Outcome::not_due(),
        2 => Outcome::Partial {
            gaps: (0..at.len(MAX_GAPS, "too many gaps")?).map(|_| gap(at)).collect::<Result<_, _>>()?,
        },
        3 => Outcome::Absent { why: at.text(MAX_TEXT)?.to_owned() },
        4 => Outcome::Failed { error: at.text(MAX_TEXT)?.to_owned() },
        5 => Outcome::TimedOut { after_nanos: at.u64()? },
        6 => Outcome::Skipped { why: at.text(MAX_TEXT)?.to_owned() },
        _ => return malformed("an outcome of no kind"),
    })
}

/// An event, its times as differences to those of its frame.
pub(crate) fn put_event(out: &mut Vec<u8>, event: &Event, frame: Stamp) {
    put_i64(out, event.at.boot.nanos().wrapping_sub(frame.boot.nanos()).cast_signed());
    put_i64(out, event.at.wall.nanos().wrapping_sub(frame.wall.nanos()));
    match &event.kind {
        EventKind::Kernel { seq, facility, level } => {
            out.extend_from_slice(&[1, *facility, *level]);
            put_maybe(out, *seq);
        }
        EventKind::AgentStarted => out.push(2),
        EventKind::Source { source } => {
            out.push(3);
            put_text(out, source, MAX_TEXT);
        }
        EventKind::ClockStepped { by_nanos } => {
            out.push(4);
            put_i64(out, *by_nanos);
        }
        EventKind::Lost { count } => {
            out.push(5);
            put_maybe(out, *count);
        }
        EventKind::PreviousBoot { found_in } => {
            out.push(6);
            put_text(out, found_in, MAX_TEXT);
        }
        EventKind::Gpu { pci, xid } => {
            out.push(7);
            put_text(out, pci, MAX_TEXT);
            put_maybe(out, *xid);
        }
    }
    put_text(out, &event.text, Event::MAX_TEXT);
}

pub(crate) fn event(at: &mut Cursor<'_>, frame: Stamp) -> Result<Event, DecodeError> {
    let boot = BootTime::from_nanos(frame.boot.nanos().wrapping_add(at.i64()?.cast_unsigned()));
    let wall = WallTime::from_nanos(frame.wall.nanos().wrapping_add(at.i64()?));
    let kind = match at.byte()? {
        1 => {
            let (facility, level) = (at.byte()?, at.byte()?);
            EventKind::Kernel { seq: maybe(at)?, facility, level }
        }
        2 => EventKind::AgentStarted,
        3 => EventKind::Source { source: at.text(MAX_TEXT)?.to_owned() },
        4 => EventKind::ClockStepped { by_nanos: at.i64()? },
        5 => EventKind::Lost { count: maybe(at)? },
        6 => EventKind::PreviousBoot { found_in: at.text(MAX_TEXT)?.to_owned() },
        7 => EventKind::Gpu { pci: at.text(MAX_TEXT)?.to_owned(), xid: maybe(at)? },
        _ => return malformed("an event of no kind"),
    };
    Ok(Event { at: Stamp { wall, boot }, kind, text: at.text(Event::MAX_TEXT)?.to_owned() })
}

/// The events of a frame; what is above [`MAX_EVENTS`] is left out, and the last one says how many that were.
pub(crate) fn put_events(out: &mut Vec<u8>, events: &[Event], frame: Stamp) {
    if events.len() <= MAX_EVENTS {
        put_len(out, events.len());
        events.iter().for_each(|event| put_event(out, event, frame));
        return;
    }
    let kept = MAX_EVENTS - 1;
    let lost = EventKind::Lost { count: Some((events.len() - kept) as u64) };
    put_len(out, MAX_EVENTS);
    events[..kept].iter().for_each(|event| put_event(out, event, frame));
    put_event(out, &Event { at: frame, kind: lost, text: "more events than a frame can hold".to_owned() }, frame);
}

pub(crate) fn events(at: &mut Cursor<'_>, frame: Stamp) -> Result<Vec<Event>, DecodeError> {
    (0..at.len(MAX_EVENTS, "too many events")?).map(|_| event(at, frame)).collect()
}

pub(crate) fn put_hole(out: &mut Vec<u8>, hole: &Hole) {
    out.extend_from_slice(hole.boot.as_bytes());
    match hole.seqs {
        None => out.push(0),
        Some((first, last)) => {
            out.push(1);
            put_u64(out, first.0);
            put_u64(out, last.0);
        }
    }
    put_gap(out, &hole.gap);
}

pub(crate) fn hole(body: &[u8]) -> Result<Hole, DecodeError> {
    let mut at = Cursor::new(body);
    let boot = BootId::from_bytes(at.id()?);
    let seqs = match at.byte()? {
        0 => None,
        1 => Some((FrameSeq(at.u64()?), FrameSeq(at.u64()?))),
        _ => return malformed("numbers of no kind"),
    };
    if seqs.is_some_and(|(first, last)| first > last) {
        return malformed("a hole whose numbers are reversed");
    }
    let gap = gap(&mut at)?;
    at.end()?;
    Ok(Hole { boot, seqs, gap })
}
