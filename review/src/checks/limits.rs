//! Limits of the machine and of cgroups: open files, tasks.

use super::CheckSpec;
use super::facts::{Need, NodeFacts};
use super::spans::{above, longest};
use super::threshold::{over, percent, share};
use crate::finding::{Finding, Severity};

/// The checks of this file.
pub const CHECKS: &[CheckSpec] = &[
    CheckSpec {
        id: "limits.open_files",
        title: "The machine is near its limit of open files",
        needs: &[Need::Readings("load")],
        metrics: &["node_filefd_allocated", "node_filefd_maximum"],
        examine: |facts| {
            near(
                facts,
                "limits.open_files",
                "node_filefd_allocated",
                "node_filefd_maximum",
                "open files of the machine",
            )
        },
    },
    CheckSpec {
        id: "limits.tasks",
        title: "A pod is near its limit of tasks",
        needs: &[Need::Readings("cgroup")],
        metrics: &["container_threads", "container_threads_max"],
        examine: |facts| near(facts, "limits.tasks", "container_threads", "container_threads_max", "tasks"),
    },
];

/// What EKS's agent warns of, and nearly at the limit.
const NEAR: (f64, f64) = (0.7, 0.95);

fn near(facts: &NodeFacts<'_>, kind: &str, used: &str, limit: &str, what: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    for series in facts.set.of(used) {
        let Some(limit) = facts.set.of(limit).find(|other| other.labels == series.labels) else { continue };
        let values = share(facts, series, limit);
        for (level, severity) in [(NEAR.1, Severity::Error), (NEAR.0, Severity::Warning)] {
            let Some(span) = longest(above(&values, level, std::time::Duration::from_secs(10))) else { continue };
            let id = series.label("id");
            let whose = id.map(|id| format!(" of {}", facts.called(id))).unwrap_or_default();
            let text = format!("{} of the {what}{whose} that may be", percent(span.peak));
            let mut finding = over(facts, kind, severity, series, span, text);
            finding.subject = id.map(|id| facts.called(id));
            finding.pod = id.and_then(|id| facts.pod_of(id));
            found.push(finding);
            break;
        }
    }
    found
}
