//! Containers that Kubernetes says were killed for want of memory, joined with what the kernel's records say of the same pod.

use casefile_proto::time::WallTime;

use super::{ClusterCheck, ClusterFacts, Found, at_most, cite};
use crate::checks::oom::size;
use crate::finding::{Confidence, Finding, Severity};
use crate::kubernetes::{Container, Ended, Kind, Pod};

/// The checks of this file.
pub(super) const CHECKS: &[ClusterCheck] = &[ClusterCheck {
    id: "k8s.oom",
    title: "Containers that were killed for want of memory",
    needs: &[Kind::Pod],
    examine,
}];

/// How a run ended that was killed for want of memory.
pub(super) fn is_kill(ended: &Ended) -> bool {
    ended.reason.as_deref() == Some("OOMKilled")
}

fn examine(facts: &ClusterFacts<'_>, before: &mut [Finding]) -> Found {
    let mut found = Found::default();
    for pod in &facts.cluster.pods {
        let in_window = |at: Option<WallTime>| at.is_some_and(|at| facts.window.contains(at));
        let kills: Vec<(&Container, &Ended)> =
            pod.ended().filter(|(_, ended)| is_kill(ended) && in_window(ended.finished)).collect();
        let (Some((container, first)), Some((_, last))) = (kills.first(), kills.last()) else { continue };
        let told = sentence(container, first);
        let of_kernel = before.iter_mut().find(|finding| {
            finding.kind.starts_with("mem.oom")
                && pod.meta.uid.is_some()
                && finding.pod.as_ref().is_some_and(|of| of.uid == pod.meta.uid)
        });
        if let Some(finding) = of_kernel {
            finding.summary.push_str(&format!(" (container {}{})", container.name, restarts(container)));
            cite(finding, facts.cluster.says(&pod.meta, first.finished, told));
            found.added = true;
            continue;
        }
        found.new.push(alone(facts, pod, container, (first.finished, last.finished), told));
    }
    found.new = at_most(found.new);
    found
}

/// What Kubernetes says and the kernel's records do not, because they are not here.
fn alone(
    facts: &ClusterFacts<'_>,
    pod: &Pod,
    container: &Container,
    (first, last): (Option<WallTime>, Option<WallTime>),
    told: String,
) -> Finding {
    let limit = container.limits.memory.map(|limit| format!(" of {}", size(limit))).unwrap_or_default();
    let summary = format!(
        "container {} of {} was killed for want of memory, having a limit{limit}{}",
        container.name,
        pod.meta.called(),
        restarts(container)
    );
    let summary = if container.limits.memory.is_some() { summary } else { summary.replace(", having a limit", "") };
    let subject = facts.cluster.subject(&pod.meta);
    let mut finding = facts.finding("k8s.pod.oomkilled", Severity::Error, Confidence::High, &subject, &summary);
    finding.now = Some("casefile analyze-resources shows how its memory came to its limit".to_owned());
    finding.not_proof =
        vec!["that the node was out of memory: no record of the kernel says whose limit it was".to_owned()];
    facts.about_pod(&mut finding, pod);
    (finding.first, finding.last) = (first, last);
    finding.evidence = vec![facts.cluster.says(&pod.meta, first, told)];
    finding
}

fn sentence(container: &Container, ended: &Ended) -> String {
    let at = ended.finished.map_or_else(String::new, |at| format!(" at {at}"));
    let code = ended.exit_code.map_or_else(String::new, |code| format!(", exit code {code}"));
    format!("container {} ended{at}: OOMKilled{code}{}", container.name, restarts(container))
}

fn restarts(container: &Container) -> String {
    match container.status.as_ref().map(|status| status.restarts) {
        Some(1) => ", 1 restart".to_owned(),
        Some(count) => format!(", {count} restarts"),
        None => String::new(),
    }
}
