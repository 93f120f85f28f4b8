//! Disks: waiting for them, saturated ones, ones that have stopped, ones that their driver has given up, arrays that lack a disk.

use std::time::Duration;

use super::CheckSpec;
use super::facts::{Need, NodeFacts};
use super::spans::{above, longest, smoothed};
use super::threshold::{MINUTE, lasting, over, percent};
use crate::finding::{Confidence, Finding, Severity};
use crate::seriesset::{OneSeries, Value};

/// The checks of this file.
pub const CHECKS: &[CheckSpec] = &[
    CheckSpec {
        id: "io.pressure",
        title: "Tasks wait for disks",
        needs: &[Need::Readings("pressure")],
        metrics: &["node_pressure_io_stalled_seconds_total"],
        examine: pressure,
    },
    CheckSpec {
        id: "disk.stopped",
        title: "A disk has requests and finishes none",
        needs: &[Need::Readings("disk")],
        metrics: &["node_disk_io_now", "node_disk_reads_completed_total", "node_disk_writes_completed_total"],
        examine: stopped,
    },
    CheckSpec {
        id: "disk.saturated",
        title: "A disk is busy all the time and a queue waits for it",
        needs: &[Need::Readings("disk")],
        metrics: &["node_disk_io_time_seconds_total", "node_disk_io_time_weighted_seconds_total"],
        examine: saturated,
    },
    CheckSpec {
        id: "disk.state",
        title: "A driver holds a disk for broken",
        needs: &[Need::Readings("disk")],
        metrics: &["casefile_nvme_state", "casefile_disk_state_info"],
        examine: state,
    },
    CheckSpec {
        id: "disk.array",
        title: "An array lacks a disk",
        needs: &[Need::Readings("disk")],
        metrics: &["node_md_disks", "node_md_disks_required"],
        examine: array,
    },
];

/// Half of the time nothing at all got on for the disks' sake. A machine that copies does that too: a warning.
const STALLED: f64 = 0.5;

/// Nothing finished for so long: no healthy disk, and no healthy network disk, takes that long.
const STOPPED: Duration = Duration::from_secs(30);

/// Busy nearly always, and on average so many requests in the queue: beyond it latency grows with every request.
const BUSY: f64 = 0.95;
const QUEUE: f64 = 10.0;

fn pressure(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let Some(series) = facts.set.of("node_pressure_io_stalled_seconds_total").next() else { return Vec::new() };
    let values = smoothed(&facts.timed(&facts.set.rates(series)), MINUTE);
    let Some(span) = longest(above(&values, STALLED, MINUTE)) else { return Vec::new() };
    let text = format!(
        "every task stood still for the disks {} of the time at the worst minute, for {}",
        percent(span.peak),
        lasting(&span)
    );
    vec![over(facts, "io.pressure", Severity::Warning, series, span, text)]
}

fn device<'s>(facts: &'s NodeFacts<'_>, metric: &str, device: &str) -> Option<&'s OneSeries> {
    facts.set.one(metric, &[("device", device)])
}

fn stopped(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let one = |queue: &OneSeries| {
        let name = queue.label("device")?;
        let done: Vec<_> = ["node_disk_reads_completed_total", "node_disk_writes_completed_total"]
            .iter()
            .filter_map(|metric| device(facts, metric, name))
            .map(|series| facts.set.rates(series))
            .collect();
        // Only where both were read: what was not read has not stopped.
        let [reads, writes] = &done[..] else { return None };
        let waiting: Vec<_> = queue
            .values
            .iter()
            .filter_map(|value| {
                let done = rate_at(reads, value.tick)? + rate_at(writes, value.tick)?;
                Some((facts.set.at(*value), if done == 0.0 { value.value } else { 0.0 }))
            })
            .collect();
        let span = longest(above(&waiting, 1.0, STOPPED))?;
        let text = format!("{name} had up to {:.0} requests and finished none for {}", span.peak, lasting(&span));
        let mut finding = over(facts, "disk.stopped", Severity::Error, queue, span, text);
        finding.confidence = Confidence::High;
        finding.subject = Some(name.to_owned());
        finding.now = Some(
            "look for records of its controller; what waits for it cannot be killed until it answers or is given up"
                .to_owned(),
        );
        Some(finding)
    };
    facts.set.of("node_disk_io_now").filter_map(one).collect()
}

/// The rate at a tick.
fn rate_at(values: &[Value], tick: u32) -> Option<f64> {
    values.binary_search_by_key(&tick, |v| v.tick).ok().and_then(|n| values.get(n)).map(|v| v.value)
}

fn saturated(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let one = |busy: &OneSeries| {
        let name = busy.label("device")?;
        let span = longest(above(&smoothed(&facts.timed(&facts.set.rates(busy)), MINUTE), BUSY, 2 * MINUTE))?;
        let queue = device(facts, "node_disk_io_time_weighted_seconds_total", name)?;
        let queued: Vec<_> = facts
            .timed(&facts.set.rates(queue))
            .into_iter()
            .filter(|(at, _)| *at >= span.from && *at <= span.until)
            .collect();
        let mean = queued.iter().map(|v| v.1).sum::<f64>() / queued.len().max(1) as f64;
        if mean < QUEUE {
            return None;
        }
        let text = format!(
            "{name} was busy {} of the time with {mean:.0} requests waiting on average, for {}",
            percent(span.peak.min(1.0)),
            lasting(&span)
        );
        let mut finding = over(facts, "disk.saturated", Severity::Warning, busy, span, text);
        finding.subject = Some(name.to_owned());
        Some(finding)
    };
    facts.set.of("node_disk_io_time_seconds_total").filter_map(one).collect()
}

/// What a state of an NVMe controller is called (`enum nvme_ctrl_state`), as far as it is none of the ordinary ones.
fn nvme_word(code: f64) -> Option<(&'static str, Severity)> {
    Some(match code {
        2.0 => ("is being reset", Severity::Warning),
        3.0 => ("is being connected again", Severity::Warning),
        4.0 | 5.0 => ("is being removed", Severity::Error),
        6.0 => ("is dead", Severity::Fatal),
        _ => return None,
    })
}

fn state(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for series in facts.set.of("casefile_nvme_state") {
        let bad = facts.timed(&series.values).into_iter().filter_map(|(at, code)| Some((at, code, nvme_word(code)?)));
        let Some((_, code, (word, severity))) = bad.clone().max_by(|a, b| a.2.1.cmp(&b.2.1).then(b.0.cmp(&a.0))) else {
            continue;
        };
        let times: Vec<_> = bad.filter(|b| b.1 == code).map(|b| b.0).collect();
        let (Some(first), Some(last)) = (times.first(), times.last()) else { continue };
        let name = series.label("device").unwrap_or_default();
        let text = format!("the driver says that {name} {word}");
        let mut finding = facts.finding("disk.state", severity, Confidence::High, text.clone());
        (finding.first, finding.last, finding.count) = (Some(*first), Some(*last), times.len() as u64);
        finding.subject = Some(name.to_owned());
        finding.evidence = vec![facts.series(series, *first, *last, code, text)];
        found.push(finding);
    }
    for series in facts.set.of("casefile_disk_state_info") {
        let word = series.label("state").unwrap_or_default();
        if !matches!(word, "offline" | "dead" | "transport-offline" | "blocked") {
            continue;
        }
        let times = facts.timed(&series.values);
        let (Some(first), Some(last)) = (times.first(), times.last()) else { continue };
        let name = series.label("device").unwrap_or_default();
        let severity = if word == "blocked" { Severity::Warning } else { Severity::Error };
        let text = format!("the driver says that {name} is {word}");
        let mut finding = facts.finding("disk.state", severity, Confidence::High, text.clone());
        (finding.first, finding.last, finding.count) = (Some(first.0), Some(last.0), times.len() as u64);
        finding.subject = Some(name.to_owned());
        finding.evidence = vec![facts.series(series, first.0, last.0, 1.0, text)];
        found.push(finding);
    }
    found
}

fn array(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let one = |required: &OneSeries| {
        let name = required.label("device")?;
        let active = facts.set.one("node_md_disks", &[("device", name), ("state", "active")])?;
        let should = required.values.last()?.value;
        let lacking: Vec<_> = facts.timed(&active.values).into_iter().filter(|(_, has)| *has < should).collect();
        let (first, last) = (lacking.first()?, lacking.last()?);
        let text = format!("{name} has {} of {should} disks", last.1);
        let mut finding = facts.finding("disk.array", Severity::Error, Confidence::High, text.clone());
        (finding.first, finding.last, finding.count) = (Some(first.0), Some(last.0), lacking.len() as u64);
        finding.subject = Some(name.to_owned());
        finding.evidence = vec![facts.series(active, first.0, last.0, last.1, text)];
        Some(finding)
    };
    facts.set.of("node_md_disks_required").filter_map(one).collect()
}
