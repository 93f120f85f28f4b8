//! Measures all sources of a tick and never waits past a deadline: every source has an outcome at every tick, whatever
//! the others do. A blocked read cannot be cancelled, so its thread is given up and accounted for.
//!
//! Threads are in `runner/pool.rs`, what is decided about one source in `runner/lane.rs`, what all may cost in
//! `runner/thrift.rs`; frames are put together in `frame.rs`.

pub(crate) mod lane;
pub(crate) mod pool;
mod thrift;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use casefile_proto::event::Event;
use casefile_proto::sample::{Outcome, Sample, SourceIndex};

use crate::host::Host;
use crate::sources::{Measurement, SourceSpec};
use crate::stats::Stats;
use lane::{Lane, NO_TURN, Place, Plan};
use pool::{End, Job, Pool, Report, Unit};
use thrift::Thrift;

/// Threads that may be blocked and given up at a time, over all sources. When there are so many, no source that is
/// blocked is tried on yet another one: it is switched off until one comes back.
pub(crate) const MAX_ABANDONED: u64 = 8;

/// How long one source may keep the others waiting before a spare thread takes over. Long enough that a machine
/// that is merely busy does not start threads, short enough that what the others read is still of this tick.
const PATIENCE: Duration = Duration::from_millis(100);

/// The same once one was blocked at this tick: where one hangs, others like it often hang too.
const PATIENCE_AFTER: Duration = Duration::from_millis(20);

/// The part of a tick for which its frame waits; what is not there by then comes with a later one.
const FRAME_PART: (u32, u32) = (4, 5);

/// A frame waits at least this long, also where tests let ticks come faster than people do.
const FRAME_AT_LEAST: Duration = Duration::from_millis(200);

/// All that the sources said at one tick.
pub(crate) struct Ticked {
    /// One for each source, in order.
    pub(crate) samples: Vec<Sample>,
    /// What they reported.
    pub(crate) events: Vec<Event>,
    /// Sources whose outcome changed: index, and what to say.
    pub(crate) news: Vec<(usize, String)>,
}

/// The sources of one agent.
pub(crate) struct Runner {
    lanes: Vec<Lane>,
    /// By lane: ids for its series go on from here whatever happens to its measurement.
    ids: Vec<Arc<AtomicU32>>,
    /// By lane: the measurement that was asked last.
    numbers: Vec<u64>,
    pool: Pool,
    stats: Arc<Stats>,
    next_number: u64,
    blocked: u64,
    frame_limit: Duration,
    thrift: Thrift,
    events: Vec<Event>,
}

impl Runner {
    /// Measures these sources; together they may take this much of a core when ticks are a second apart.
    pub(crate) fn new(host: &Host, specs: &[&'static SourceSpec], every: Duration, cores: f64) -> Self {
        let ids: Vec<_> = specs.iter().map(|_| Arc::new(AtomicU32::new(0))).collect();
        let lanes = specs.iter().zip(&ids).map(|(spec, ids)| Lane::new(spec, fresh(spec, ids))).collect();
        let frame_limit = (every * FRAME_PART.0 / FRAME_PART.1).max(FRAME_AT_LEAST);
        Self {
            lanes,
            ids,
            numbers: vec![0; specs.len()],
            pool: Pool::new(host.clone(), specs.len()),
            stats: Arc::clone(host.stats()),
            next_number: 1,
            blocked: 0,
            frame_limit,
            thrift: Thrift::new(cores / every.as_secs_f64(), specs.iter().map(|spec| spec.name)),
            events: Vec::new(),
        }
    }

    /// Measures what is due at the tick number `turn`. Takes as long as the sources do, and at most until the frame
    /// cannot wait any longer.
    pub(crate) fn tick(&mut self, turn: u64) -> Ticked {
        let began = Instant::now();
        let limit = began + self.frame_limit;
        let first = self.next_number;
        let mut samples: Vec<Option<Sample>> = self.lanes.iter().map(|_| None).collect();
        // What ended since the tick before, within its deadline, belongs to this frame.
        self.take(self.pool.wait(first, began), turn, &mut samples);
        self.welcome_back();
        self.begin(turn, began, &mut samples);
        let mut patience = PATIENCE;
        let mut until = began + patience;
        loop {
            self.take(self.pool.wait(first, until), turn, &mut samples);
            let now = Instant::now();
            let next_deadline = self.give_up_late(turn, now, first, &mut samples);
            let awaited = |(lane, number): (&Lane, &u64)| *number >= first && matches!(lane.place, Place::Away);
            if !self.lanes.iter().zip(&self.numbers).any(awaited) {
                break;
            }
            if now >= limit {
                self.put_back(turn, &mut samples);
                break;
            }
            if self.pool.held_up().is_some_and(|since| now >= since + patience) {
                self.start_thread();
                patience = PATIENCE_AFTER;
            }
            until = next_deadline.map_or(limit, |d| d.min(limit)).min(now + patience);
        }
        self.stats.threads_abandoned.set(self.blocked);
        self.end(turn, samples)
    }

    /// Takes back the vectors of samples that nobody needs any more, for the next tick.
    pub(crate) fn recycle(&mut self, samples: Vec<Sample>) {
        for mut sample in samples {
            let lane = self.lanes.get_mut(usize::from(sample.source.0));
            if let (Some(Lane { place: Place::Here(unit), .. }), true) = (lane, sample.readings.capacity() > 0)
                && unit.out.readings.capacity() == 0
            {
                sample.readings.clear();
                unit.out.readings = sample.readings;
            }
        }
    }

    /// Starts, plans and queues.
    fn begin(&mut self, turn: u64, now: Instant, samples: &mut [Option<Sample>]) {
        let mut jobs = Vec::with_capacity(self.lanes.len());
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            if samples[index].is_some() {
                continue;
            }
            let unit = match lane.plan(turn, self.blocked, MAX_ABANDONED, now) {
                Plan::Say(outcome) => {
                    samples[index] = Some(unread(index, outcome));
                    continue;
                }
                Plan::Wait => continue,
                Plan::OpenAnew => {
                    lane.place = Place::Away;
                    fresh(lane.spec, &self.ids[index])
                }
                Plan::Measure => match std::mem::replace(&mut lane.place, Place::Away) {
                    Place::Here(unit) => unit,
                    elsewhere => {
                        lane.place = elsewhere;
                        continue;
                    }
                },
            };
            self.numbers[index] = self.next_number;
            jobs.push(Job { lane: index, number: self.next_number, spec: lane.spec, unit });
            self.next_number += 1;
        }
        self.pool.submit(jobs);
        if !self.pool.has_front() {
            self.start_thread();
        }
    }

    fn start_thread(&self) {
        if let Err(error) = self.pool.hand_over() {
            tracing::error!(%error, "no thread to measure with: sources are not read at this tick");
        }
    }

    /// Declares lost what is past its deadline; the next deadline of this tick's measurements.
    fn give_up_late(&mut self, turn: u64, now: Instant, first: u64, samples: &mut [Option<Sample>]) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            if !matches!(lane.place, Place::Away) {
                continue;
            }
            let Some(running) = self.pool.running(index) else { continue };
            let deadline = running.began + lane.spec.deadline;
            if now < deadline {
                if self.numbers[index] >= first {
                    next = Some(next.map_or(deadline, |n| n.min(deadline)));
                }
                continue;
            }
            self.pool.give_up(index);
            self.blocked += 1;
            if let Some(stats) = self.stats.source(index) {
                stats.timed_out.add(1);
            }
            samples[index] = Some(unread(index, lane.lose(running.began, turn, now)));
            tracing::warn!(source = lane.spec.name, blocked = self.blocked, "source is blocked beyond its deadline");
        }
        next
    }

    /// The frame is due: what no thread has begun is told as not read.
    fn put_back(&mut self, turn: u64, samples: &mut [Option<Sample>]) {
        for job in self.pool.withdraw() {
            self.lanes[job.lane].put_back(job.unit, turn);
            samples[job.lane] = Some(unread(job.lane, Outcome::Skipped { why: NO_TURN.to_owned() }));
        }
    }

    fn welcome_back(&mut self) {
        for index in self.pool.returned() {
            self.blocked = self.blocked.saturating_sub(1);
            self.lanes[index].came_back();
        }
    }

    fn take(&mut self, reports: Vec<Report>, turn: u64, samples: &mut [Option<Sample>]) {
        for report in reports {
            let index = report.lane;
            samples[index] = Some(self.sample(report, turn));
        }
    }

    fn sample(&mut self, report: Report, turn: u64) -> Sample {
        let Report { lane: index, mut unit, end, took, cpu_nanos } = report;
        let panicked = matches!(end, End::Panicked(_));
        let out = &mut unit.out;
        let (mut readings, gaps) = (std::mem::take(&mut out.readings), std::mem::take(&mut out.gaps));
        let mut defined = std::mem::take(&mut out.defined);
        self.events.append(&mut out.events);
        self.stats.events_dropped.add(std::mem::take(&mut out.events_left_out));
        let outcome = self.lanes[index].end(end, readings.len(), gaps, turn);
        if panicked {
            // A measurement that was left in the middle of anything is not trusted: its readings go, and it goes.
            readings.clear();
            defined.clear();
            unit = fresh(self.lanes[index].spec, &self.ids[index]);
        }
        let took_nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if let Some(stats) = self.stats.source(index) {
            stats.measured.add(1);
            stats.took_nanos.add(took_nanos);
            stats.cpu_nanos.add(cpu_nanos);
            stats.readings.add(readings.len() as u64);
            stats.series.set(unit.out.known() as u64);
            stats.failed.add(u64::from(matches!(outcome, Outcome::Failed { .. })));
            stats.panicked.add(u64::from(panicked));
        }
        self.lanes[index].place = Place::Here(unit);
        Sample { source: source_index(index), outcome, took_nanos, defined, readings }
    }

    fn end(&mut self, turn: u64, samples: Vec<Option<Sample>>) -> Ticked {
        let mut news = Vec::new();
        let mut off = 0;
        let samples: Vec<Sample> = samples
            .into_iter()
            .enumerate()
            .map(|(index, sample)| sample.unwrap_or_else(|| unread(index, self.lanes[index].while_away())))
            .collect();
        for (index, sample) in samples.iter().enumerate() {
            if let Some(text) = self.lanes[index].news(&sample.outcome, turn) {
                tracing::info!(source = self.lanes[index].spec.name, outcome = sample.outcome.word(), "source changed");
                news.push((index, text));
            }
            off += u64::from(matches!(&sample.outcome, Outcome::Skipped { why } if why == lane::SWITCHED_OFF));
        }
        self.stats.sources_off.set(off);
        news.extend(self.save());
        Ticked { samples, events: std::mem::take(&mut self.events), news }
    }

    /// Where measuring costs too much, one source less often; where it does not any more, one more often again.
    fn save(&mut self) -> Option<(usize, String)> {
        let taken = |index| self.stats.source(index).map_or(0, |source| source.cpu_nanos.get());
        let change = self.thrift.look(Instant::now(), taken)?;
        let lane = &mut self.lanes[change.lane];
        let (before, name) = (lane.times, lane.spec.name);
        lane.slow_down(change.times);
        self.stats.sources_slowed.set(self.lanes.iter().filter(|lane| lane.times > 1).count() as u64);
        let cadence = if change.times == 1 {
            "as often as it should be".to_owned()
        } else {
            format!("{} times less often than it should be", change.times)
        };
        let (all, one) = (change.all * 100.0, change.one * 100.0);
        let text = format!(
            "{name}: measured {cadence} from now on: all sources take {all:.1} % of a core, this one {one:.1} %"
        );
        if change.times > before {
            tracing::warn!(
                source = name,
                times = change.times,
                all_percent = all,
                "measuring costs too much: source slowed down"
            );
        }
        Some((change.lane, text))
    }
}

fn fresh(spec: &'static SourceSpec, ids: &Arc<AtomicU32>) -> Box<Unit> {
    Box::new(Unit { source: None, out: Measurement::going_on(spec.metrics, Arc::clone(ids)) })
}

fn source_index(index: usize) -> SourceIndex {
    // `ALL` is a slice in our own text, far shorter than 65,536.
    SourceIndex(u16::try_from(index).unwrap_or(u16::MAX))
}

/// The sample of a source that was not measured.
fn unread(index: usize, outcome: Outcome) -> Sample {
    Sample { source: source_index(index), outcome, took_nanos: 0, defined: Vec::new(), readings: Vec::new() }
}

#[cfg(test)]
mod tests;
