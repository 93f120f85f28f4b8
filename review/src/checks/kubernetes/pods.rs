//! Pods that do not do what they are for: why, in the words of their own status, one finding for all pods of one workload.

use std::collections::BTreeMap;

use casefile_proto::time::WallTime;

use super::oom::is_kill;
use super::{CITED, ClusterCheck, ClusterFacts, Found, at_most, cite, counted, quoted};
use crate::finding::{Confidence, Finding, Severity};
use crate::kubernetes::{Container, Kind, Pod, State};

/// The checks of this file.
pub(super) const CHECKS: &[ClusterCheck] = &[ClusterCheck {
    id: "k8s.pods",
    title: "Pods that do not run, or that were started again in the window",
    needs: &[Kind::Pod],
    examine: |facts, _| examine(facts),
}];

/// A pod that still waits so long after it was made is worth a word: images are pulled in less.
const WAITS_TOO_LONG: i64 = 300;

/// A pod that is to be gone for so long does not end: most have half a minute for it.
const ENDS_TOO_LONG: i64 = 600;

/// A pod that is not ready for so long is not merely starting.
const NOT_READY_TOO_LONG: i64 = 60;

/// What is wrong with a pod.
struct Wrong<'p> {
    kind: &'static str,
    severity: Severity,
    words: String,
    message: Option<&'p str>,
    since: Option<WallTime>,
}

impl<'p> Wrong<'p> {
    fn new(kind: &'static str, severity: Severity, words: impl Into<String>) -> Self {
        Self { kind, severity, words: words.into(), message: None, since: None }
    }

    fn because(mut self, message: Option<&'p str>) -> Self {
        self.message = message;
        self
    }

    fn since(mut self, at: Option<WallTime>) -> Self {
        self.since = at;
        self
    }
}

fn examine(facts: &ClusterFacts<'_>) -> Found {
    let mut groups: BTreeMap<(&'static str, String), Vec<(&Pod, Wrong<'_>)>> = BTreeMap::new();
    for pod in &facts.cluster.pods {
        if let Some(wrong) = wrong(facts, pod) {
            groups.entry((wrong.kind, facts.cluster.subject(&pod.meta))).or_default().push((pod, wrong));
        }
    }
    let found = groups.into_iter().filter_map(|((kind, subject), group)| one(facts, kind, &subject, &group));
    at_most(found.collect()).into()
}

fn one(facts: &ClusterFacts<'_>, kind: &str, subject: &str, group: &[(&Pod, Wrong<'_>)]) -> Option<Finding> {
    let (pod, first) = group.first()?;
    let severity = group.iter().map(|(_, wrong)| wrong.severity).max()?;
    let who =
        if group.len() == 1 { pod.meta.called() } else { format!("{} of {subject}", counted(group.len(), "pod")) };
    let summary = format!("{who}: {}{}", first.words, quoted(first.message));
    let mut finding = facts.finding(kind, severity, Confidence::High, subject, &summary);
    if group.len() == 1 {
        facts.about_pod(&mut finding, pod);
    }
    facts.since(&mut finding, group.iter().filter_map(|(_, wrong)| wrong.since).min());
    finding.count = group.len() as u64;
    for (pod, wrong) in group.iter().take(CITED) {
        let text = format!("Pod {}: {}{}", pod.meta.called(), wrong.words, quoted(wrong.message));
        cite(&mut finding, facts.cluster.says(&pod.meta, wrong.since, text));
    }
    Some(finding)
}

fn wrong<'p>(facts: &ClusterFacts<'_>, pod: &'p Pod) -> Option<Wrong<'p>> {
    if let Some(ago) = pod.meta.deleting.and_then(|at| facts.ago(at)) {
        let stuck = || {
            Wrong::new("k8s.pod.stuck_terminating", Severity::Warning, "is to be gone and does not end")
                .since(pod.meta.deleting)
        };
        return (ago > ENDS_TOO_LONG).then(stuck);
    }
    if pod.is_done() {
        return None;
    }
    let phase = pod.phase.as_deref().unwrap_or("Unknown");
    if phase == "Failed" {
        return failed(pod);
    }
    if let Some(condition) = pod.condition("PodScheduled").filter(|c| c.status == "False") {
        let wrong = Wrong::new("k8s.pod.unschedulable", Severity::Warning, "no node takes it");
        return Some(wrong.because(condition.message.as_deref()).since(condition.since));
    }
    if let Some(wrong) = pod.containers.iter().find_map(|container| of_container(facts, container)) {
        return Some(wrong);
    }
    let created = pod.meta.created;
    if phase != "Running" {
        let long = created.and_then(|at| facts.ago(at)).is_some_and(|ago| ago > WAITS_TOO_LONG);
        let words = format!("{phase} for more than five minutes");
        return long.then(|| {
            Wrong::new("k8s.pod.pending", Severity::Warning, words).because(pod.message.as_deref()).since(created)
        });
    }
    if let Some(condition) = pod.condition("Ready").filter(|c| c.status != "True" && !facts.is_on_lost_node(pod)) {
        let long = condition.since.and_then(|at| facts.ago(at)).is_some_and(|ago| ago > NOT_READY_TOO_LONG);
        let wrong = Wrong::new("k8s.pod.not_ready", Severity::Warning, "runs and is not ready");
        return long.then(|| wrong.because(condition.message.as_deref()).since(condition.since));
    }
    None
}

fn failed(pod: &Pod) -> Option<Wrong<'_>> {
    if pod.reason.as_deref() == Some("Evicted") {
        let wrong = Wrong::new("k8s.pod.evicted", Severity::Warning, "was evicted");
        return Some(wrong.because(pod.message.as_deref()));
    }
    // A pod of a job may fail: whether the job gave up is a check of its own.
    if pod.meta.owner.as_ref().is_some_and(|owner| owner.kind == "Job") {
        return None;
    }
    let ended = pod.ended().last();
    let how = ended.and_then(|(container, ended)| {
        Some(format!(", container {} ended with exit code {}", container.name, ended.exit_code?))
    });
    let why = pod.reason.as_deref().map(|reason| format!(", {reason}")).unwrap_or_default();
    let wrong = Wrong::new("k8s.pod.failed", Severity::Warning, format!("failed{why}{}", how.unwrap_or_default()));
    Some(wrong.because(pod.message.as_deref()).since(ended.and_then(|(_, ended)| ended.finished)))
}

fn of_container<'p>(facts: &ClusterFacts<'_>, container: &'p Container) -> Option<Wrong<'p>> {
    let status = container.status.as_ref()?;
    let name = &container.name;
    let ended = status.last.as_ref();
    let again = |ended: Option<&crate::kubernetes::Ended>| {
        let code = ended.and_then(|ended| ended.exit_code).map(|code| format!("exit code {code}, "));
        let killed = if ended.is_some_and(is_kill) { "killed for want of memory, " } else { "" };
        format!(
            "container {name} ends again and again ({}{killed}{} restarts)",
            code.unwrap_or_default(),
            status.restarts
        )
    };
    match &status.state {
        State::Waiting(reason, message) => {
            let message = message.as_deref();
            match reason.as_deref()? {
                "CrashLoopBackOff" => {
                    let since = ended.and_then(|ended| ended.finished);
                    Some(Wrong::new("k8s.pod.crashloop", Severity::Warning, again(ended)).since(since))
                }
                reason @ ("ImagePullBackOff" | "ErrImagePull" | "ErrImageNeverPull" | "InvalidImageName") => {
                    let image = container.image.as_deref().unwrap_or("of it");
                    let words = format!("the image {image} of container {name} cannot be had, {reason}");
                    Some(Wrong::new("k8s.pod.image_pull", Severity::Warning, words).because(message))
                }
                reason @ ("CreateContainerConfigError"
                | "CreateContainerError"
                | "RunContainerError"
                | "StartError") => {
                    let words = format!("container {name} cannot be made, {reason}");
                    Some(Wrong::new("k8s.pod.create_failed", Severity::Warning, words).because(message))
                }
                _ => None,
            }
        }
        // It has ended, and is started again or has been for some time.
        State::Terminated(now) if !container.init && status.restarts >= 2 && now.exit_code != Some(0) => {
            Some(Wrong::new("k8s.pod.crashloop", Severity::Warning, again(Some(now))).since(now.finished))
        }
        State::Running(_) => {
            let ended = ended.filter(|ended| ended.exit_code != Some(0) && !is_kill(ended))?;
            let at = ended.finished.filter(|at| facts.window.contains(*at))?;
            let code = ended.exit_code.map(|code| format!(" with exit code {code}")).unwrap_or_default();
            let words = format!("container {name} ended{code} and was started again, {} restarts", status.restarts);
            Some(Wrong::new("k8s.pod.restarted", Severity::Warning, words).since(Some(at)))
        }
        _ => None,
    }
}
