//! A trace for Perfetto: of each node a group of tracks, with its series as counters (counters of ours as rates), its kernel
//! lines and other events as instants, its gaps and the findings as slices. Times are UTC: the trace's own clock is the real one.
//!
//! A counter track of Perfetto keeps its last value where nothing was read: that is what the tracks of gaps are for. With
//! more points than `--max-points`, of each short interval the smallest and the largest value stay.

mod select;
mod trace;

use std::fs::File;
use std::io::BufWriter;

use casefile_proto::event::EventKind;
use casefile_proto::gap::Gap;
use casefile_proto::ids::NodeName;
use casefile_proto::sample::MetricKind;
use casefile_proto::time::{ClockOffset, WallTime, Window};
use casefile_proto::units::Unit;

use crate::casefile::CaseFile;
use crate::display::safe;
use crate::finding::Finding;
use crate::logs::corrected;
use crate::seriesset::{OneSeries, SeriesSet};

use super::cells::{lines, word};
use super::recorded::event_word;
use super::{Ask, ExportError, Form, Shape, Target, reviewed};
use trace::{Amount, Trace, Track};

/// The name of the file.
const FILE: &str = "trace.pftrace";

/// The points of all counters when nobody says how many: some 30 MB, which the browser takes.
const MAX_POINTS: usize = 1_000_000;

/// The most instants of one node; a log is better read as a log.
const MAX_INSTANTS: usize = 100_000;

/// What the name of an instant repeats of a text; all of it stands in its arguments.
const MAX_NAME: usize = 160;

/// The form.
pub(super) static FORM: Form = Form {
    name: "perfetto",
    about: "a trace for ui.perfetto.dev: series as counters, kernel lines, gaps and findings on one time axis",
    then: "open https://ui.perfetto.dev and drop PATH on it (it stays in the browser)",
    shape: Shape::File(FILE),
    write,
};

fn write(casefile: &mut CaseFile, ask: &Ask, target: &mut Target) -> Result<(), ExportError> {
    let nodes = ask.nodes_of(casefile);
    let found = reviewed(casefile, &mut target.done)?.findings;
    let begin = casefile.coverage.window.from();
    let mut out = Out { trace: Trace::begin(target.create(FILE)?, begin).map_err(ExportError::write(FILE))?, ask };
    let whole: Vec<_> = found.iter().filter(|finding| finding.node.is_none()).collect();
    if !whole.is_empty() {
        let process = out.trace.process(&safe(&casefile.incident.title)).map_err(ExportError::write(FILE))?;
        out.findings(process, &whole)?;
    }
    let budget = ask.max_points.unwrap_or(MAX_POINTS) / nodes.len().max(1);
    let (mut still, mut thinned, mut instants) = (0, 0, 0);
    for node in &nodes {
        let set = SeriesSet::load(casefile, node, &|_, metric| {
            ask.wants_metric(&metric.name) && metric.kind != MetricKind::Info
        })?;
        let process = out.trace.process(&safe(node.as_str())).map_err(ExportError::write(FILE))?;
        let of_node: Vec<_> = found.iter().filter(|finding| finding.node.as_ref() == Some(node)).collect();
        out.findings(process, &of_node)?;
        out.gaps(process, casefile, node)?;
        instants += out.events(process, &set)?;
        let (quiet, thin) = out.counters(process, &set, budget)?;
        still += quiet;
        thinned += thin;
        target.done.damaged.extend(set.damaged);
    }
    if still > 0 {
        target.left_out(format!("{still} series that stayed at one value; --metric takes them too"));
    }
    if thinned > 0 {
        target.left_out(format!(
            "values of {thinned} series: of each short interval the smallest and the largest are here (--max-points)"
        ));
    }
    if instants > 0 {
        target.left_out(format!("{instants} events beyond the first {MAX_INSTANTS} of a node"));
    }
    let (file, points) = out.trace.end();
    target.finish(FILE, file, points)
}

struct Out<'a> {
    trace: Trace<BufWriter<File>>,
    ask: &'a Ask,
}

impl Out<'_> {
    /// The series of a node, in groups by source; says how many stood still and how many were thinned.
    fn counters(&mut self, process: Track, set: &SeriesSet, budget: usize) -> Result<(u64, u64), ExportError> {
        let fail = ExportError::write(FILE);
        let mut chosen: Vec<(&OneSeries, Vec<crate::seriesset::Value>)> = Vec::new();
        let mut still = 0;
        for series in &set.series {
            let moves = set.moves(series);
            let moves = self.ask.range.map_or(moves.as_slice(), |range| set.within(&moves, range));
            if moves.is_empty() {
                continue;
            }
            if self.ask.metrics.is_empty() && select::stands_still(moves) {
                still += 1;
                continue;
            }
            chosen.push((series, select::steps(set, series, moves)));
        }
        chosen.sort_by(|(a, _), (b, _)| {
            (&a.source, &a.metric.name, &a.labels).cmp(&(&b.source, &b.metric.name, &b.labels))
        });
        let each = select::fair(&chosen.iter().map(|(_, values)| values.len()).collect::<Vec<_>>(), budget);
        let (mut thinned, mut group) = (0, None);
        for (series, values) in chosen {
            let parent = match &group {
                Some((source, track)) if *source == series.source => *track,
                _ => {
                    let track = self.trace.track(process, &safe(&series.source)).map_err(&fail)?;
                    group = Some((series.source.clone(), track));
                    track
                }
            };
            let counts = series.metric.kind == MetricKind::Counter;
            let track = self.trace.counter(parent, &title(series), &amount(series.metric.unit, counts));
            let track = track.map_err(&fail)?;
            thinned += u64::from(values.len() > each);
            for value in select::thin(&values, each) {
                self.trace.value(track, set.at(value), value.value).map_err(&fail)?;
            }
        }
        Ok((still, thinned))
    }

    /// The events of a node, a track for each kind; says how many there were too many.
    fn events(&mut self, process: Track, set: &SeriesSet) -> Result<usize, ExportError> {
        let fail = ExportError::write(FILE);
        let wanted: Vec<_> = set.events.iter().filter(|happened| self.ask.wants_time(happened.at)).collect();
        let mut tracks: Vec<(&str, Track)> = Vec::new();
        for happened in wanted.iter().take(MAX_INSTANTS) {
            let kind = event_word(&happened.event.kind);
            let track = match tracks.iter().find(|(known, _)| *known == kind) {
                Some((_, track)) => *track,
                None => {
                    let track = self.trace.track(process, kind).map_err(&fail)?;
                    tracks.push((kind, track));
                    track
                }
            };
            let text = lines(happened.event.text.as_bytes());
            let mut said = vec![("text", text.clone())];
            if let EventKind::Kernel { level, facility, .. } = &happened.event.kind {
                said.push(("level", level.to_string()));
                said.push(("facility", facility.to_string()));
            }
            self.trace.instant(track, happened.at, kind, name(&text), &said).map_err(&fail)?;
        }
        Ok(wanted.len().saturating_sub(MAX_INSTANTS))
    }

    fn findings(&mut self, process: Track, findings: &[&Finding]) -> Result<(), ExportError> {
        let shown = findings.iter().filter_map(|finding| {
            let first = finding.first?;
            let last = finding.last.filter(|last| *last > first);
            let refs: Vec<_> = finding.evidence.iter().map(|evidence| safe(&evidence.reference)).collect();
            let said = vec![
                ("id", safe(&finding.id)),
                ("severity", word(finding.severity)),
                ("kind", safe(&finding.kind)),
                ("evidence", refs.join(" ")),
            ];
            let named = format!("{}: {}", safe(&finding.id), lines(finding.summary.as_bytes()));
            Some(Shown { from: first, until: last, name: named, said })
        });
        self.lanes(process, "findings", shown.collect())
    }

    /// What is missing, on tracks of its own: a counter that stands still where nothing was read says nothing.
    fn gaps(&mut self, process: Track, casefile: &CaseFile, node: &NodeName) -> Result<(), ExportError> {
        let Some(row) = casefile.node(node) else { return Ok(()) };
        let window = casefile.coverage.window;
        let clock = row.clock;
        let whole = row.gaps.iter().map(|gap| (None, gap));
        let of_sources = row.sources.iter().flat_map(|s| s.gaps.iter().map(|gap| (Some(s.source.as_str()), gap)));
        let shown = whole.chain(of_sources).map(|(source, gap)| shown_gap(source, gap, clock, window));
        self.lanes(process, "gaps", shown.collect())
    }

    /// Slices on as few tracks as it takes that none overlaps another.
    fn lanes(&mut self, process: Track, title: &str, mut shown: Vec<Shown>) -> Result<(), ExportError> {
        let fail = ExportError::write(FILE);
        shown.sort_by(|a, b| (a.from, &a.name).cmp(&(b.from, &b.name)));
        let mut lanes: Vec<(Track, WallTime)> = Vec::new();
        for one in shown {
            let end = one.until.unwrap_or(one.from);
            let lane = match lanes.iter_mut().find(|(_, busy)| *busy < one.from) {
                Some(lane) => lane,
                None => {
                    let track = self.trace.track(process, title).map_err(&fail)?;
                    lanes.push((track, end));
                    let last = lanes.len() - 1;
                    &mut lanes[last]
                }
            };
            lane.1 = end;
            let track = lane.0;
            match one.until {
                None => self.trace.instant(track, one.from, title, name(&one.name), &one.said).map_err(&fail)?,
                Some(until) => {
                    self.trace.slice(track, (one.from, until), title, name(&one.name), &one.said).map_err(&fail)?;
                }
            }
        }
        Ok(())
    }
}

/// Something on a lane.
struct Shown {
    from: WallTime,
    until: Option<WallTime>,
    name: String,
    said: Vec<(&'static str, String)>,
}

fn shown_gap(source: Option<&str>, gap: &Gap, clock: Option<ClockOffset>, window: Window) -> Shown {
    let source = source.map_or_else(|| "node".to_owned(), safe);
    // A gap without an interval is about the whole window.
    let (from, until) = gap.interval.map_or((window.from(), window.until()), |interval| {
        (corrected(interval.from(), clock), corrected(interval.until(), clock))
    });
    Shown {
        from,
        until: Some(until),
        name: format!("{source}: {}", gap.reason),
        said: vec![("reason", gap.reason.name().to_owned()), ("detail", safe(&gap.detail))],
    }
}

/// The name of a counter: the metric with its labels.
fn title(series: &OneSeries) -> String {
    let labels: Vec<_> = series.named().map(|(label, value)| format!("{}={:?}", safe(label), safe(value))).collect();
    let name = safe(&series.metric.name);
    if labels.is_empty() { name } else { format!("{name}{{{}}}", labels.join(",")) }
}

fn amount(unit: Unit, per_second: bool) -> Amount {
    let word = if unit == Unit::Count { "" } else { unit.word() };
    match (unit, per_second) {
        (Unit::Bytes, false) => Amount::Bytes,
        (Unit::Count, false) => Amount::Count,
        (_, false) => Amount::Of(word.to_owned()),
        (_, true) => Amount::Of(format!("{word}/s")),
    }
}

/// The beginning of a text, on one line.
fn name(text: &str) -> &str {
    let line = text.split('\n').next().unwrap_or_default();
    &line[..line.floor_char_boundary(MAX_NAME)]
}
