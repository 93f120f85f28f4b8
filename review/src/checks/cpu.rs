//! CPU: waiting for it, being kept from it by a quota, having it taken away by the hypervisor.

use std::collections::BTreeMap;

use super::CheckSpec;
use super::facts::{Need, NodeFacts};
use super::spans::{above, longest, smoothed};
use super::threshold::{Level, MINUTE, lasting, over, percent, ratio, reached};
use crate::finding::{Finding, Severity};

/// The checks of this file.
pub const CHECKS: &[CheckSpec] = &[
    CheckSpec {
        id: "cpu.pressure",
        title: "Tasks wait for a CPU",
        needs: &[Need::Readings("pressure")],
        metrics: &["node_pressure_cpu_waiting_seconds_total"],
        examine: pressure,
    },
    CheckSpec {
        id: "cpu.throttled",
        title: "A container is kept from running by its CPU limit",
        needs: &[Need::Readings("cgroup")],
        metrics: &["container_cpu_cfs_periods_total", "container_cpu_cfs_throttled_periods_total"],
        examine: throttled,
    },
    CheckSpec {
        id: "cpu.steal",
        title: "The hypervisor gives the machine less CPU than it wants",
        needs: &[Need::Readings("cpu")],
        metrics: &["node_cpu_seconds_total"],
        examine: steal,
    },
];

/// Half of the time some task waited, for two minutes: work takes noticeably longer. A machine that builds does that too.
const WAITING: f64 = 0.5;

/// A quarter of all periods: what kubernetes-mixin's CPUThrottlingHigh alerts on.
const THROTTLED: f64 = 0.25;

/// A tenth of the CPUs.
const STOLEN: f64 = 0.1;

fn pressure(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let Some(series) = facts.set.of("node_pressure_cpu_waiting_seconds_total").next() else { return Vec::new() };
    let values = smoothed(&facts.timed(&facts.set.rates(series)), MINUTE);
    let level = Level { at: WAITING, over: 2 * MINUTE, severity: Severity::Warning };
    let Some((level, span)) = reached(&values, &[level]) else { return Vec::new() };
    let text = format!(
        "some task waited for a CPU {} of the time at the worst minute, for {}",
        percent(span.peak),
        lasting(&span)
    );
    vec![over(facts, "cpu.pressure", level.severity, series, span, text)]
}

fn throttled(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let mut worst = BTreeMap::new();
    for series in facts.set.of("container_cpu_cfs_throttled_periods_total") {
        let Some(id) = series.label("id") else { continue };
        let Some(periods) = facts.set.one("container_cpu_cfs_periods_total", &[("id", id)]) else { continue };
        let values = smoothed(&ratio(facts, series, periods, 1.0), MINUTE);
        let Some(span) = longest(above(&values, THROTTLED, MINUTE)) else { continue };
        // A pod and its one container say the same.
        let entry = worst.entry(facts.called(id)).or_insert((series, span, id));
        if span.peak > entry.1.peak {
            *entry = (series, span, id);
        }
    }
    let one = |(called, (series, span, id)): (String, (_, super::spans::Span, &str))| {
        let text = format!(
            "{called} was held back by its CPU limit in {} of the periods of the worst minute, for {}",
            percent(span.peak),
            lasting(&span)
        );
        let mut finding = over(facts, "cpu.throttled", Severity::Warning, series, span, text);
        finding.subject = Some(called);
        finding.pod = facts.pod_of(id);
        finding.now = Some("compare its use with its limit: raise the limit, or find out what it computes".to_owned());
        finding
    };
    worst.into_iter().map(one).collect()
}

fn steal(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let mut by_tick: BTreeMap<u32, (f64, u32)> = BTreeMap::new();
    let of_mode = || facts.set.of("node_cpu_seconds_total").filter(|s| s.label("mode") == Some("steal"));
    for series in of_mode() {
        for value in facts.set.rates(series) {
            let entry = by_tick.entry(value.tick).or_default();
            *entry = (entry.0 + value.value, entry.1 + 1);
        }
    }
    let at = |tick: u32| facts.set.ticks.get(tick as usize).map(|t| t.at);
    let values: Vec<_> =
        by_tick.iter().filter_map(|(tick, (sum, cpus))| Some((at(*tick)?, sum / f64::from(*cpus)))).collect();
    let Some(span) = longest(above(&smoothed(&values, MINUTE), STOLEN, MINUTE)) else { return Vec::new() };
    let Some(series) = of_mode().next() else { return Vec::new() };
    let text = format!(
        "{} of the CPU time of the worst minute went to other machines of the host, for {}",
        percent(span.peak),
        lasting(&span)
    );
    vec![over(facts, "cpu.steal", Severity::Warning, series, span, text)]
}
