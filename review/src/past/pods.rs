//! `top --pods`: what pods and containers use at an instant, by their cgroups; on a machine without pods, of every cgroup.
//!
//! The kernel knows a pod by its uid and a container by its id. The name of a pod is that of its logs in the case file; the cluster's
//! objects, where it has them, name containers too.

use std::collections::BTreeSet;

use casefile_proto::sample::{MetricDef, SourceDef};
use casefile_proto::time::{WallTime, Window};
use serde::Serialize;

use super::table::{NOTHING, aligned, number, short_bytes};
use super::top::By;
use super::{Known, MOMENT, Step};
use crate::display::safe;
use crate::gpu::pods::Pods;
use crate::seriesset::SeriesSet;

const CPU: &str = "container_cpu_usage_seconds_total";
const THROTTLED: &str = "container_cpu_cfs_throttled_seconds_total";
const PERIODS: &str = "container_cpu_cfs_periods_total";
const THROTTLED_PERIODS: &str = "container_cpu_cfs_throttled_periods_total";
const QUOTA: &str = "container_spec_cpu_quota";
const PERIOD: &str = "container_spec_cpu_period";
const MEMORY: &str = "container_memory_usage_bytes";
const INACTIVE: &str = "container_memory_total_inactive_file_bytes";
const LIMIT: &str = "container_spec_memory_limit_bytes";
const READ: &str = "container_fs_reads_bytes_total";
const WRITTEN: &str = "container_fs_writes_bytes_total";
const TASKS: &str = "container_threads";
const OOM: &str = "container_oom_events_total";
const METRICS: [&str; 13] =
    [CPU, THROTTLED, PERIODS, THROTTLED_PERIODS, QUOTA, PERIOD, MEMORY, INACTIVE, LIMIT, READ, WRITTEN, TASKS, OOM];

/// Whether a metric is needed.
pub fn wants(_source: &SourceDef, metric: &MetricDef) -> bool {
    METRICS.contains(&metric.name.as_str())
}

/// What one cgroup used. Texts are the node's: escape before showing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Used {
    /// Its path.
    pub cgroup: String,
    /// The pod: `namespace/name`, or its uid where that is all that is known.
    pub pod: Option<String>,
    /// The container's id; `None` for a pod as a whole.
    pub container_id: Option<String>,
    /// Its name, where the case file has the cluster's objects.
    pub container: Option<String>,
    /// CPUs that it kept busy.
    pub cpus: Option<f64>,
    /// CPUs that it may keep busy; `None`: it has no quota, or that was not read.
    pub cpu_limit: Option<f64>,
    /// Of the periods of its quota, the part in which it was throttled.
    pub throttled_ratio: Option<f64>,
    /// CPUs' time a second that its tasks were kept from running.
    pub throttled_seconds_per_second: Option<f64>,
    /// Memory less the page cache that is not in use: what cAdvisor calls the working set.
    pub working_set_bytes: Option<f64>,
    /// All memory that is charged to it.
    pub memory_bytes: Option<f64>,
    /// Its limit; `None`: it has none, or that was not read.
    pub memory_limit_bytes: Option<f64>,
    /// Bytes a second from storage.
    pub read_bytes_per_second: Option<f64>,
    /// Bytes a second to storage.
    pub written_bytes_per_second: Option<f64>,
    /// Tasks.
    pub tasks: Option<f64>,
    /// Processes that were killed because it ran out of memory, since it was made.
    pub oom_kills: Option<f64>,
}

/// What pods and containers used up to this instant, those of most first.
pub fn at(set: &SeriesSet, at: WallTime, by: By, pods: &Pods) -> Vec<Used> {
    let known = Known::of(set);
    let ids: BTreeSet<&str> = METRICS.iter().flat_map(|m| known.series(m)).filter_map(|s| s.label("id")).collect();
    let Ok(window) = Window::new(at.before(MOMENT), at) else { return Vec::new() };
    let of_pods = ids.iter().any(|id| pod_of(id).is_some());
    let wanted = ids.into_iter().filter(|id| !of_pods || pod_of(id).is_some());
    let mut out: Vec<Used> = wanted.map(|id| used(&known, window, id, pods)).filter(is_read).collect();
    let amount = |used: &Used| match by {
        By::Cpu => used.cpus,
        By::Memory => used.working_set_bytes,
        By::Io => {
            [used.read_bytes_per_second, used.written_bytes_per_second].into_iter().flatten().reduce(|a, b| a + b)
        }
    };
    // A pod before its containers, when they use the same.
    out.sort_by(|a, b| {
        let of = |used: &Used| amount(used).unwrap_or(-1.0);
        of(b).total_cmp(&of(a)).then_with(|| a.cgroup.cmp(&b.cgroup))
    });
    out
}

fn is_read(used: &Used) -> bool {
    [used.cpus, used.memory_bytes, used.tasks].iter().any(Option::is_some)
}

fn used(known: &Known<'_>, window: Window, id: &str, pods: &Pods) -> Used {
    let step = Step { known, window, subject: Some(("id", id)), ends: super::Ends::Last };
    let memory = step.gauge(MEMORY);
    let (pod, container) = match pod_of(id) {
        Some((uid, container)) => (Some(pods.pod(&uid).label().to_owned()), container),
        None => (None, None),
    };
    Used {
        cgroup: id.to_owned(),
        pod,
        container: container.as_deref().and_then(|id| pods.container(id)).map(str::to_owned),
        container_id: container,
        cpus: step.rate(CPU),
        cpu_limit: step
            .gauge(QUOTA)
            .zip(step.gauge(PERIOD))
            .filter(|(_, p)| *p > 0.0)
            .map(|(quota, period)| quota / period),
        throttled_ratio: step.each(THROTTLED_PERIODS, PERIODS),
        throttled_seconds_per_second: step.rate(THROTTLED),
        working_set_bytes: memory.zip(step.gauge(INACTIVE)).map(|(memory, inactive)| (memory - inactive).max(0.0)),
        memory_bytes: memory,
        memory_limit_bytes: step.gauge(LIMIT),
        read_bytes_per_second: step.rate(READ),
        written_bytes_per_second: step.rate(WRITTEN),
        tasks: step.gauge(TASKS),
        oom_kills: step.gauge(OOM),
    }
}

/// The table, with so many rows.
pub fn text(all: &[Used], count: usize) -> String {
    let with_pods = all.iter().any(|used| used.pod.is_some());
    let first = if with_pods { ["POD", "CONTAINER"] } else { ["CGROUP", ""] };
    let head =
        [&first[..], &["CPU", "LIMIT", "%THROTTLED", "MEMORY", "LIMIT", "%LIMIT", "READ/s", "WRITE/s", "TASKS", "OOM"]]
            .concat();
    let bytes = |value: Option<f64>| value.map_or_else(|| NOTHING.to_owned(), short_bytes);
    let row = |used: &Used| {
        let names = match (&used.pod, &used.container_id) {
            (Some(pod), id) => {
                let id = id.as_deref().map_or_else(String::new, |id| safe(&short(id)));
                [safe(pod), used.container.as_deref().map_or(id, safe)]
            }
            (None, _) => [safe(&used.cgroup), String::new()],
        };
        let memory = used.working_set_bytes.or(used.memory_bytes);
        let full = memory.zip(used.memory_limit_bytes).filter(|(_, limit)| *limit > 0.0);
        let numbers = [
            number(used.cpus, 1.0, 2),
            number(used.cpu_limit, 1.0, 2),
            number(used.throttled_ratio, 0.01, 1),
            bytes(memory),
            bytes(used.memory_limit_bytes),
            number(full.map(|(memory, limit)| memory / limit), 0.01, 1),
            bytes(used.read_bytes_per_second),
            bytes(used.written_bytes_per_second),
            number(used.tasks, 1.0, 0),
            number(used.oom_kills, 1.0, 0),
        ];
        names.into_iter().chain(numbers).collect::<Vec<_>>()
    };
    let rows: Vec<_> = all.iter().take(count).map(row).collect();
    let mut out = aligned(2, &head, &rows);
    if all.len() > count {
        out.push_str(&format!("… and {} more (-n shows them)\n", all.len() - count));
    }
    out
}

/// The beginning of a container's id, as the tools of runtimes show it.
fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

/// The pod's uid and the container's id out of the path of a cgroup, as kubelet makes them: with systemd
/// `/kubepods.slice/…-pod<uid, _ for ->.slice/cri-containerd-<id>.scope`, else `/kubepods/burstable/pod<uid>/<id>`. What is
/// deeper in a container belongs to it and is `None`.
pub fn pod_of(cgroup: &str) -> Option<(String, Option<String>)> {
    let mut parts = cgroup.split('/').skip_while(|part| !part.starts_with("kubepods"));
    let uid = parts.find_map(|part| {
        let part = part.strip_suffix(".slice").unwrap_or(part);
        let uid = match part.rsplit_once("-pod") {
            Some((before, uid)) if before.starts_with("kubepods") => uid,
            _ => part.strip_prefix("pod")?,
        };
        let uid = uid.replace('_', "-");
        // A uid of a pod that the API server made, or the hash of a static one.
        let is_uid = uid.len() >= 32 && uid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        is_uid.then_some(uid)
    })?;
    let Some(container) = parts.next() else { return Some((uid, None)) };
    let container = container.strip_suffix(".scope").unwrap_or(container);
    let container = container.rsplit_once('-').map_or(container, |(_, id)| id);
    Some((uid, (!container.is_empty()).then(|| container.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::super::made::{add, counter, gauge, second, set};
    use super::*;
    use casefile_proto::sample::MetricKind;

    const UID: &str = "0a1b2c3d-1111-2222-3333-444455556666";

    #[test]
    fn pods_and_containers_are_found_in_both_layouts() {
        let (id, flat) = ("ab".repeat(32), UID.replace('-', "_"));
        let pod = |container: Option<&str>| Some((UID.to_owned(), container.map(str::to_owned)));
        for (path, expected) in [
            (format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{flat}.slice"), pod(None)),
            (format!("/kubepods.slice/kubepods-pod{flat}.slice/cri-containerd-{id}.scope"), pod(Some(id.as_str()))),
            (format!("/kubepods/besteffort/pod{UID}/{id}"), pod(Some(id.as_str()))),
            ("/system.slice/podman.service".to_owned(), None),
            ("/kubepods.slice/kubepods-burstable.slice".to_owned(), None),
        ] {
            assert_eq!(pod_of(&path), expected, "{path}");
        }
    }

    #[test]
    fn a_pod_has_its_name_what_it_uses_of_its_limits_and_no_limit_that_was_not_read() {
        let mut set = set(30);
        let path = format!("/kubepods/burstable/pod{UID}/{}", "ab".repeat(32));
        let id = [("id", path.as_str())];
        counter(&mut set, CPU, &id, 0.4);
        counter(&mut set, PERIODS, &id, 10.0);
        counter(&mut set, THROTTLED_PERIODS, &id, 5.0);
        gauge(&mut set, QUOTA, &id, 50_000.0);
        gauge(&mut set, PERIOD, &id, 100_000.0);
        gauge(&mut set, MEMORY, &id, 100.0);
        gauge(&mut set, INACTIVE, &id, 40.0);
        counter(&mut set, CPU, &[("id", "/system.slice")], 2.0);
        add(&mut set, TASKS, MetricKind::Gauge, &[("id", "/kubepods/podgone")], |n| (n < 3).then_some(1.0));
        let all = at(&set, second(30), By::Cpu, &Pods::from([(UID, "shop/api")]));
        assert_eq!(all.len(), 1, "{all:?}");
        let used = &all[0];
        assert_eq!((used.pod.as_deref(), used.cpus.map(|n| (n * 100.0).round())), (Some("shop/api"), Some(40.0)));
        assert_eq!((used.cpu_limit, used.throttled_ratio), (Some(0.5), Some(0.5)));
        assert_eq!((used.working_set_bytes, used.memory_limit_bytes, used.tasks), (Some(60.0), None, None));
        assert!(text(&all, 10).contains("shop/api abababababab 0.40  0.50       50.0"), "{}", text(&all, 10));
    }
}
