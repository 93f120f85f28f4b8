//! Memory: what is left, waiting for it, containers that near their limit, and containers that grow on a straight line.

use std::collections::BTreeMap;

use super::CheckSpec;
use super::facts::{Need, NodeFacts};
use super::oom::size;
use super::spans::{Span, above, below, line, longest, smoothed};
use super::threshold::{Level, MINUTE, lasting, over, percent, reached, share};
use crate::finding::{Confidence, Finding, Severity};
use crate::seriesset::OneSeries;

/// The checks of this file.
pub const CHECKS: &[CheckSpec] = &[
    CheckSpec {
        id: "mem.available",
        title: "The node has hardly any memory left",
        needs: &[Need::Readings("memory")],
        metrics: &["node_memory_MemAvailable_bytes", "node_memory_MemTotal_bytes"],
        examine: available,
    },
    CheckSpec {
        id: "mem.pressure",
        title: "Tasks wait for memory",
        needs: &[Need::Readings("pressure")],
        metrics: &["node_pressure_memory_waiting_seconds_total", "node_pressure_memory_stalled_seconds_total"],
        examine: pressure,
    },
    CheckSpec {
        id: "mem.limit",
        title: "A container is near its memory limit",
        needs: &[Need::Readings("cgroup")],
        metrics: &["container_memory_rss", "container_spec_memory_limit_bytes"],
        examine: near_limit,
    },
    CheckSpec {
        id: "mem.growth",
        title: "A container's memory grows on a straight line towards its limit",
        needs: &[Need::Readings("cgroup")],
        metrics: &["container_memory_rss", "container_spec_memory_limit_bytes"],
        examine: growth,
    },
];

/// Below a twentieth the kernel reclaims all the time; below a fiftieth it soon kills.
const LITTLE: (f64, f64) = (0.05, 0.02);

/// A tenth of the time some task waited for memory: the node is short of it.
const WAITING: f64 = 0.1;

/// A fifth of the time all tasks stood still: nothing gets done.
const STALLED: f64 = 0.2;

/// So near the limit that an ordinary request may end it. What is not anonymous can be given back, and does not count.
const NEAR: f64 = 0.92;

/// How straight growth must be (R²), how long it must be seen, how much of the limit it must take, and how far off the limit may be.
const STRAIGHT: f64 = 0.95;
const SEEN_SECONDS: f64 = 480.0;
const TAKES: f64 = 0.15;
const AHEAD_SECONDS: f64 = 7200.0;

fn available(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let of = |name| facts.set.of(name).next();
    let (Some(available), Some(total)) = (of("node_memory_MemAvailable_bytes"), of("node_memory_MemTotal_bytes"))
    else {
        return Vec::new();
    };
    let values = share(facts, available, total);
    for (level, severity) in [(LITTLE.1, Severity::Error), (LITTLE.0, Severity::Warning)] {
        if let Some(span) = longest(below(&values, level, MINUTE / 2)) {
            let text = format!(
                "{} of the node's memory was available at the least, below {} for {}",
                percent(span.peak),
                percent(level),
                lasting(&span)
            );
            return vec![over(facts, "mem.available", severity, available, span, text)];
        }
    }
    Vec::new()
}

fn pressure(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let smooth = |name| {
        let series = facts.set.of(name).next()?;
        Some((series, smoothed(&facts.timed(&facts.set.rates(series)), MINUTE)))
    };
    if let Some((series, values)) = smooth("node_pressure_memory_stalled_seconds_total")
        && let Some((level, span)) = reached(&values, &[Level { at: STALLED, over: MINUTE, severity: Severity::Error }])
    {
        let text = format!(
            "every task stood still for want of memory {} of the time at the worst minute, for {}",
            percent(span.peak),
            lasting(&span)
        );
        return vec![over(facts, "mem.pressure", level.severity, series, span, text)];
    }
    if let Some((series, values)) = smooth("node_pressure_memory_waiting_seconds_total")
        && let Some((level, span)) =
            reached(&values, &[Level { at: WAITING, over: MINUTE, severity: Severity::Warning }])
    {
        let text = format!(
            "some task waited for memory {} of the time at the worst minute, for {}",
            percent(span.peak),
            lasting(&span)
        );
        return vec![over(facts, "mem.pressure", level.severity, series, span, text)];
    }
    Vec::new()
}

/// Containers and pods with a memory limit: what they hold that cannot be given back, their limit, their cgroup.
fn limited<'s>(facts: &'s NodeFacts<'_>) -> impl Iterator<Item = (&'s OneSeries, &'s OneSeries, &'s str)> {
    facts.set.of("container_memory_rss").filter_map(|used| {
        let id = used.label("id")?;
        Some((used, facts.set.one("container_spec_memory_limit_bytes", &[("id", id)])?, id))
    })
}

fn near_limit(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let mut worst: BTreeMap<String, (&OneSeries, Span, &str)> = BTreeMap::new();
    for (used, limit, id) in limited(facts) {
        let Some(span) = longest(above(&share(facts, used, limit), NEAR, MINUTE / 2)) else { continue };
        let entry = worst.entry(facts.called(id)).or_insert((used, span, id));
        if span.peak > entry.1.peak {
            *entry = (used, span, id);
        }
    }
    let one = |(called, (series, span, id)): (String, (&OneSeries, Span, &str))| {
        let text = format!(
            "{called} held up to {} of its memory limit, above {} for {}",
            percent(span.peak),
            percent(NEAR),
            lasting(&span)
        );
        let mut finding = over(facts, "mem.limit", Severity::Warning, series, span, text);
        finding.subject = Some(called);
        finding.pod = facts.pod_of(id);
        finding
    };
    worst.into_iter().map(one).collect()
}

fn growth(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let mut found: BTreeMap<String, Finding> = BTreeMap::new();
    for (used, limit, id) in limited(facts) {
        let values = facts.timed(&used.values);
        let Some(top) = (0..values.len()).max_by(|a, b| values[*a].1.total_cmp(&values[*b].1).then(b.cmp(a))) else {
            continue;
        };
        // Up to its peak: behind it something was freed, or killed.
        let rise = &values[..=top];
        let (Some((slope, fit)), Some((begin, from)), Some((end, to))) = (line(rise), rise.first(), rise.last()) else {
            continue;
        };
        let Some(limit_bytes) = limit.values.last().map(|value| value.value).filter(|limit| *limit > 0.0) else {
            continue;
        };
        let seconds = end.nanos_since(*begin) as f64 / 1e9;
        let left = (limit_bytes - to).max(0.0);
        let grows = slope > 0.0 && fit >= STRAIGHT && seconds >= SEEN_SECONDS && to - from >= TAKES * limit_bytes;
        if !grows || left / slope > AHEAD_SECONDS {
            continue;
        }
        let called = facts.called(id);
        let ahead = if left <= 0.05 * limit_bytes {
            "reached its limit".to_owned()
        } else {
            format!("reaches its limit in {:.0} min at that rate", left / slope / 60.0)
        };
        let text = format!(
            "{called} grew by {} a minute for {:.0} min, from {} to {} of {}: {ahead}",
            size(slope * 60.0),
            seconds / 60.0,
            size(*from),
            size(*to),
            size(limit_bytes)
        );
        let mut finding = facts.finding("mem.growth", Severity::Warning, Confidence::Low, text.clone());
        (finding.first, finding.last) = (Some(*begin), Some(*end));
        finding.subject = Some(called.clone());
        finding.pod = facts.pod_of(id);
        finding.now =
            Some("look whether it grows like that since it was started: a leak, or a cache without a bound".to_owned());
        finding.not_proof = vec!["a leak: a cache that fills looks the same until it is full".to_owned()];
        finding.evidence = vec![facts.series(used, *begin, *end, *to, text)];
        found.entry(called).or_insert(finding);
    }
    found.into_values().collect()
}
