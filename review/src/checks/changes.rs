//! What changed within the window: what the machine is and runs, and its mounts. A change is no fault; it is where a reader looks first.
//!
//! Only what is recorded over time can be told: of sysctl, modules and routes there is only the state at collection time, which the
//! check says instead of staying silent. Nodes of one kind are compared with each other in `fleet.rs`.

use casefile_proto::time::WallTime;

use super::CheckSpec;
use super::facts::{Need, NodeFacts};
use crate::finding::{Confidence, Finding, Severity};
use crate::seriesset::OneSeries;

/// The checks of this file.
pub const CHECKS: &[CheckSpec] = &[
    CheckSpec {
        id: "change.system",
        title: "Kernel, its command line, firmware, drivers or devices changed",
        needs: &[Need::Readings("inventory")],
        metrics: &SYSTEM,
        examine: |facts| changed(facts, "change.system", &SYSTEM),
    },
    CheckSpec {
        id: "change.mounts",
        title: "A file system was mounted or unmounted",
        needs: &[Need::Readings("filesystem")],
        metrics: &["node_filesystem_readonly"],
        examine: mounts,
    },
    CheckSpec {
        id: "change.settings",
        title: "sysctl, modules, routes or images changed",
        needs: &[Need::NotRecorded(
            "sysctl, modules, routes and images are recorded at collection time only: nothing here says what they were before",
        )],
        metrics: &[],
        examine: |_| Vec::new(),
    },
];

/// Series of which the labels are what the machine is.
const SYSTEM: [&str; 7] = [
    "node_uname_info",
    "casefile_boot_info",
    "casefile_processor_info",
    "node_dmi_info",
    "casefile_gpu_driver_info",
    "casefile_gpu_info",
    "node_infiniband_info",
];

/// The most changes of one metric that are told one by one.
const MAX_TOLD: usize = 6;

/// A series that begins within so long was there from the start, and likewise at the end: what seldom changes is read seldom.
const SLACK: std::time::Duration = std::time::Duration::from_secs(45);

/// When a series began and ended, where that is not with the recording itself.
fn ends(facts: &NodeFacts<'_>, series: &OneSeries) -> (Option<WallTime>, Option<WallTime>) {
    let of = |value: Option<&crate::seriesset::Value>| value.map(|value| facts.set.at(*value));
    let (first, last) = (of(series.values.first()), of(series.values.last()));
    let tick = |tick: Option<&crate::seriesset::Tick>| tick.map(|tick| tick.at);
    let (begin, end) = (tick(facts.set.ticks.first()), tick(facts.set.ticks.last()));
    let began = first.filter(|first| begin.is_some_and(|begin| *first > begin.after(SLACK)));
    let ended = last.filter(|last| end.is_some_and(|end| *last < end.before(SLACK)));
    (began, ended)
}

fn changed(facts: &NodeFacts<'_>, kind: &str, metrics: &[&str]) -> Vec<Finding> {
    metrics.iter().flat_map(|metric| of_metric(facts, kind, metric)).collect()
}

fn of_metric(facts: &NodeFacts<'_>, kind: &str, metric: &str) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for new in facts.set.of(metric) {
        let (Some(began), _) = ends(facts, new) else { continue };
        // What ended last before it began, with most of its labels: the same thing as it was before.
        let old = facts
            .set
            .of(metric)
            .filter(|old| !std::ptr::eq(*old, new))
            .filter_map(|old| Some((old, ends(facts, old).1.filter(|ended| *ended <= began)?)))
            .max_by_key(|(old, ended)| (same_labels(old, new), *ended))
            .map(|(old, _)| old);
        let differs: Vec<_> = new
            .named()
            .filter_map(|(name, value)| match old.and_then(|old| old.label(name)) {
                Some(before) if before == value => None,
                Some(before) => Some(format!("{name} from {before:?} to {value:?}")),
                None => Some(format!("{name} {value:?}")),
            })
            // Each boot has its own id; that it was restarted is a finding of its own.
            .filter(|text| !text.starts_with("boot_id"))
            .collect();
        if differs.is_empty() {
            continue;
        }
        let what = if old.is_some() { "changed" } else { "is new" };
        let text = format!("{metric} {what}: {}", differs.join(", "));
        found.push(told(facts, kind, new, began, text));
    }
    found.truncate(MAX_TOLD);
    found
}

fn same_labels(a: &OneSeries, b: &OneSeries) -> usize {
    a.labels.iter().zip(&b.labels).filter(|(a, b)| a == b).count()
}

fn told(facts: &NodeFacts<'_>, kind: &str, series: &OneSeries, at: WallTime, text: String) -> Finding {
    let mut finding = facts.finding(kind, Severity::Info, Confidence::High, text.clone());
    (finding.first, finding.last) = (Some(at), Some(at));
    finding.evidence = vec![facts.series(series, at, at, 1.0, text)];
    finding
}

/// Mounts of containers come and go with them.
fn of_containers(mount: &str) -> bool {
    [
        "/var/lib/kubelet/",
        "/run/containerd/",
        "/var/lib/containerd/",
        "/var/lib/docker/",
        "/run/k3s/",
        "/run/netns/",
        "/var/lib/containers/",
    ]
    .iter()
    .any(|prefix| mount.starts_with(prefix))
}

fn mounts(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for series in facts.set.of("node_filesystem_readonly") {
        let Some(mount) = series.label("mountpoint").filter(|mount| !of_containers(mount)) else { continue };
        let (began, ended) = ends(facts, series);
        if let Some(at) = began {
            found.push(told(facts, "change.mounts", series, at, format!("{mount} was mounted")));
        }
        if let Some(at) = ended {
            found.push(told(facts, "change.mounts", series, at, format!("{mount} was unmounted")));
        }
    }
    found.truncate(2 * MAX_TOLD);
    found
}
