//! Memory kills, put together: what was asked for, which limit it was, who was killed, what its memory had done before.
//!
//! The kernel writes three records of one kill, which other tools count as three. Where its log is missing, the counters
//! of the cgroup and of the node still say that something was killed.

use std::collections::BTreeMap;

use casefile_proto::time::WallTime;

use super::CheckSpec;
use super::facts::{Need, NodeFacts, called};
use super::seen::Seen;
use crate::finding::{Confidence, Evidence, Finding, Severity};
use crate::seriesset::{OneSeries, SeriesSet};

/// The checks of this file.
pub const CHECKS: &[CheckSpec] = &[CheckSpec {
    id: "mem.oom",
    title: "Processes killed for want of memory",
    needs: &[Need::Kernel, Need::Readings("memory")],
    metrics: &[
        "node_vmstat_oom_kill",
        "container_oom_events_total",
        "container_memory_usage_bytes",
        "container_spec_memory_limit_bytes",
    ],
    examine,
}];

/// How many kills of one victim are cited with all their records.
const CITED: usize = 2;

/// How long before a kill its memory is looked at.
const BEFORE: std::time::Duration = std::time::Duration::from_secs(1800);

/// Whether records of this signature are put together here.
pub(super) fn is_one(id: &str) -> bool {
    matches!(id, "mem.oom.memcg" | "mem.oom.system" | "mem.oom.invoked" | "mem.oom.killed" | "mem.oom.reaped")
}

/// The records of one kill.
#[derive(Default)]
struct Kill<'s, 'c> {
    records: Vec<&'s Seen<'c>>,
    /// It was a limit of a cgroup, and not the node's memory.
    limit: Option<String>,
    cgroup: Option<String>,
    process: Option<String>,
    pid: Option<u32>,
    done: bool,
}

fn examine(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let kills = kills(facts);
    let mut by_victim: BTreeMap<String, Vec<&Kill<'_, '_>>> = BTreeMap::new();
    for kill in &kills {
        by_victim.entry(victim(facts, kill)).or_default().push(kill);
    }
    let mut found: Vec<_> = by_victim.iter().filter_map(|(victim, kills)| one(facts, victim, kills)).collect();
    found.extend(counted_only(facts, &kills));
    found
}

/// The kills, in the order of time.
fn kills<'s, 'c>(facts: &'s NodeFacts<'c>) -> Vec<Kill<'s, 'c>> {
    let mut all: Vec<Kill<'s, 'c>> = Vec::new();
    for seen in facts.seen.iter().filter(|seen| is_one(seen.id())) {
        let Some(record) = &seen.record else { continue };
        let last = all.last_mut().filter(|kill| !kill.done);
        let kill = match (seen.id(), last) {
            // The reaper's record and the last one of a kill name the victim; all others belong to what is open.
            ("mem.oom.reaped", _) => {
                let of = all.iter_mut().rev().find(|kill| kill.pid == record.pid);
                if let Some(kill) = of {
                    kill.records.push(seen);
                }
                continue;
            }
            ("mem.oom.invoked", _) | (_, None) => {
                all.push(Kill::default());
                let Some(kill) = all.last_mut() else { continue };
                kill
            }
            (_, Some(kill)) => kill,
        };
        kill.records.push(seen);
        let part = |name: &str| record.parts.get(name).cloned();
        kill.limit = kill.limit.take().or_else(|| part("limit"));
        kill.cgroup = kill.cgroup.take().or_else(|| part("cgroup"));
        if seen.id() != "mem.oom.invoked" {
            kill.process = kill.process.take().or_else(|| record.process.clone());
            kill.pid = kill.pid.or(record.pid);
        }
        kill.done = record.text.contains("Kill process") || record.text.contains("Killed process");
    }
    // An allocation that asked for a kill and of which no kill is told is none.
    all.retain(|kill| kill.records.iter().any(|seen| seen.id() != "mem.oom.invoked"));
    all
}

impl Kill<'_, '_> {
    fn at(&self) -> Option<WallTime> {
        self.records.iter().find_map(|seen| seen.at)
    }
}

/// Whom it hit, as people call it.
fn victim(facts: &NodeFacts<'_>, kill: &Kill<'_, '_>) -> String {
    match (&kill.cgroup, &kill.process) {
        (Some(cgroup), _) if cgroup != "/" => facts.called(cgroup),
        (_, Some(process)) => process.clone(),
        _ => "unknown".to_owned(),
    }
}

fn one(facts: &NodeFacts<'_>, victim: &str, kills: &[&Kill<'_, '_>]) -> Option<Finding> {
    let (first, last) = (kills.first()?, kills.last()?);
    let of_cgroup = first.records.iter().any(|seen| seen.id() == "mem.oom.memcg");
    let id = if of_cgroup { "mem.oom.memcg" } else { "mem.oom.system" };
    let told = first.records.iter().find(|seen| seen.id() == id).or(first.records.first())?;
    let explained = told.explained()?;
    let (severity, confidence) = told.severity();
    let process = first.process.as_deref().unwrap_or("a process");
    let count = kills.len();
    let often = if count == 1 { String::new() } else { format!(", {count} times") };
    let memory = first.cgroup.as_deref().and_then(|cgroup| history(facts, cgroup, first.at()?));
    let what = if of_cgroup { "at its memory limit" } else { "because the node was out of memory" };
    let mut summary = format!("{process} of {victim} was killed {what}{often}");
    if !of_cgroup && victim == process {
        summary = format!("{process} was killed {what}{often}");
    }
    if let Some((told, _)) = &memory {
        summary.push_str(", having ");
        summary.push_str(told);
    }
    let mut finding = facts.finding(id, severity, confidence, summary);
    finding.subject = Some(victim.to_owned());
    finding.meaning = Some(explained.meaning);
    finding.now = explained.now.map(|advice| advice.text);
    finding.not_proof = explained.not_proof;
    (finding.first, finding.last) = (first.at(), last.at());
    finding.count = count as u64;
    finding.pod = first.cgroup.as_deref().and_then(|cgroup| facts.pod_of(cgroup));
    let cited = kills.iter().take(CITED).flat_map(|kill| kill.records.iter().take(4));
    finding.evidence = cited.map(|seen| seen.evidence(facts)).collect();
    finding.evidence.extend(memory.into_iter().flat_map(|(_, evidence)| evidence));
    Some(finding)
}

/// What the memory of a cgroup did before it was killed in: in words, and the series.
fn history(facts: &NodeFacts<'_>, cgroup: &str, at: WallTime) -> Option<(String, Vec<Evidence>)> {
    let set = &facts.set;
    let used = nearest(set, "container_memory_usage_bytes", cgroup)?;
    let values = facts.timed(&used.values);
    let before: Vec<_> = values.iter().filter(|(t, _)| *t <= at && *t >= at.before(BEFORE)).copied().collect();
    let (begin, from) = *before.first()?;
    let (peak_at, peak) = before.iter().copied().reduce(|a, b| if b.1 > a.1 { b } else { a })?;
    let minutes = (peak_at.nanos_since(begin) as f64 / 60e9).round();
    let id = used.label("id")?;
    let limit = set.one("container_spec_memory_limit_bytes", &[("id", id)]);
    let limit_of = limit.and_then(|series| series.values.last()).map(|value| value.value);
    let of_limit = limit_of.map(|limit| format!(" of {} allowed", size(limit))).unwrap_or_default();
    let text = format!("used {} at first and {}{of_limit} {minutes} minutes later", size(from), size(peak));
    let mut evidence = vec![facts.series(used, begin, at, peak, text.clone())];
    if let (Some(limit), Some(value)) = (limit, limit_of) {
        evidence.push(facts.series(limit, begin, at, value, format!("its limit is {}", size(value))));
    }
    Some((text, evidence))
}

/// The series of a cgroup, or of the nearest one above it that has one: a container may be gone before it was ever read.
fn nearest<'s>(set: &'s SeriesSet, metric: &str, cgroup: &str) -> Option<&'s OneSeries> {
    let mut path = cgroup;
    loop {
        if let Some(series) = set.one(metric, &[("id", path)]).filter(|series| !series.values.is_empty()) {
            return Some(series);
        }
        path = path.rsplit_once('/').map(|(above, _)| above).filter(|above| !above.is_empty())?;
        super::facts::pod_uid(path)?;
    }
}

/// Kills that only the counters know of: the kernel's log of that time is not here.
fn counted_only(facts: &NodeFacts<'_>, kills: &[Kill<'_, '_>]) -> Vec<Finding> {
    let Some(series) = facts.set.of("node_vmstat_oom_kill").next() else { return Vec::new() };
    let grown = facts.set.grown(series).unwrap_or(0.0);
    let told = kills.len() as f64;
    if grown <= told {
        return Vec::new();
    }
    let values = facts.timed(&series.values);
    let steps: Vec<_> = values.windows(2).filter(|pair| pair[1].1 > pair[0].1).map(|pair| pair[1].0).collect();
    let (Some(first), Some(last)) = (steps.first(), steps.last()) else { return Vec::new() };
    let missing = grown - told;
    let mut finding = facts.finding(
        "mem.oom",
        Severity::Error,
        Confidence::Medium,
        format!("the kernel counted {grown} memory kills, of {missing} of which no records are here"),
    );
    (finding.first, finding.last, finding.count) = (Some(*first), Some(*last), steps.len() as u64);
    finding.evidence =
        vec![facts.series(series, *first, *last, grown, format!("the counter of memory kills grew by {grown}"))];
    let groups = facts.set.of("container_oom_events_total");
    let mut hit: Vec<_> = groups
        .filter_map(|series| Some((series, facts.set.grown(series).filter(|grown| *grown > 0.0)?)))
        .filter(|(series, _)| series.label("id").and_then(super::facts::pod_uid).is_some())
        .collect();
    hit.sort_by(|a, b| b.1.total_cmp(&a.1));
    for (series, grown) in hit.into_iter().take(CITED) {
        let pod = series.label("id").and_then(|id| facts.pod_of(id));
        let whose = pod.as_ref().map_or_else(String::new, called);
        finding.evidence.push(facts.series(series, *first, *last, grown, format!("{grown} in {whose}")));
        finding.pod = finding.pod.or(pod);
    }
    vec![finding]
}

/// `512 MiB`.
pub(super) fn size(bytes: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes, 0);
    while value.abs() >= 1024.0 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    if value >= 100.0 || value.fract() == 0.0 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}
