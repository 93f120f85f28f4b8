//! The verdict: findings in the order of rank, put into groups, and one sentence on top that says nothing which they do not.
//!
//! Deterministic: the same findings give the same order, the same names and the same words.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write;

use casefile_proto::cluster::ClusterCoverage;
use casefile_proto::coverage::{Coverage, NodeState};
use casefile_proto::gap::GapReason;
use casefile_proto::ids::NodeName;
use casefile_proto::time::WallTime;
use serde::{Deserialize, Serialize};

use crate::checks::records::thing;
use crate::finding::{Confidence, Finding, Severity};

/// Kinds of findings that are about one thing when they are of one node: the beginnings of their ids, those first that say more of
/// several that are as bad. A finding that belongs to no family stands alone.
///
/// It says what belongs together, and not what caused what.
const FAMILIES: [(&str, &[&str]); 5] = [
    (
        "storage",
        &[
            "disk.",
            "io.",
            "fs.readonly",
            "fs.remounted",
            "fs.ext4",
            "fs.xfs",
            "fs.superblock",
            "fs.beyond_end",
            "fs.stuck",
            "fs.nfs",
            "raid.",
            "proc.blocked",
            "kernel.hung",
        ],
    ),
    ("gpu", &["gpu.xid.79", "gpu.", "pcie."]),
    ("memory", &["mem.", "k8s.pod.oomkilled", "k8s.pod.crashloop"]),
    ("network", &["net.", "nic.", "ib."]),
    ("node", &["node.", "k8s.node.not_ready"]),
];

/// How many findings the sentence names.
const NAMED: usize = 4;

/// What is said on top.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// One sentence, with what it cites in brackets.
    pub sentence: String,
    /// What it cites.
    pub cites: Vec<String>,
    /// What was seen first of all that is a warning or worse.
    pub first_anomaly: Option<FirstAnomaly>,
    /// How many findings of each severity.
    pub counts: Counts,
    /// How much there was to look at.
    pub coverage: Covered,
}

/// What was seen first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstAnomaly {
    /// When, on the collector's clock.
    pub at: WallTime,
    /// Where.
    pub node: Option<NodeName>,
    /// The finding.
    pub finding: String,
}

/// How many findings of each severity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Fatal ones.
    pub fatal: u64,
    /// Errors.
    pub error: u64,
    /// Warnings.
    pub warning: u64,
    /// The rest.
    pub info: u64,
}

/// The coverage in figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Covered {
    /// Nodes that were asked.
    pub nodes: u64,
    /// Those that answered.
    pub answered: u64,
    /// Those that were cut short.
    pub trimmed: u64,
    /// Those of which there is only what they had sent before.
    pub last_words: u64,
    /// Those of which there is nothing.
    pub silent: u64,
    /// Gaps, other than things that a machine does not have.
    pub gaps: u64,
    /// Whether nothing is missing.
    pub whole: bool,
}

impl Covered {
    /// Of a coverage.
    pub fn of(coverage: &Coverage) -> Self {
        let state = |state| coverage.nodes.iter().filter(|node| node.state == state).count() as u64;
        let gaps = coverage.nodes.iter().flat_map(|n| n.gaps.iter().chain(n.sources.iter().flat_map(|s| &s.gaps)));
        let gaps = gaps.chain(coverage.cluster.iter().flat_map(ClusterCoverage::gaps));
        Self {
            nodes: coverage.nodes.len() as u64,
            answered: state(NodeState::Answered),
            trimmed: state(NodeState::Trimmed),
            last_words: state(NodeState::LastWords),
            silent: state(NodeState::Silent),
            gaps: gaps.filter(|gap| gap.reason != GapReason::SourceAbsent).count() as u64,
            whole: coverage.is_whole(),
        }
    }
}

/// Ranks findings, names them and their evidence, and says who belongs to whom.
pub fn rank(mut findings: Vec<Finding>) -> Vec<Finding> {
    let leads = leaders(&findings);
    let rank = |n: usize, finding: &Finding| {
        let leader = leads[n];
        (
            leader.is_some(),
            Reverse(finding.severity),
            // What the cluster sees is mostly what became of it; why, the nodes' own evidence says.
            finding.kind.starts_with("k8s."),
            Reverse(finding.confidence),
            finding.first,
            finding.node.clone(),
            finding.kind.clone(),
            finding.subject.clone(),
            finding.summary.clone(),
        )
    };
    let mut order: Vec<usize> = (0..findings.len()).collect();
    order.sort_by_cached_key(|n| rank(*n, &findings[*n]));
    let mut place = vec![0; findings.len()];
    for (new, old) in order.iter().enumerate() {
        place[*old] = new;
    }
    let names: Vec<Option<String>> = leads.iter().map(|leader| leader.map(|n| format!("F{}", place[n] + 1))).collect();
    for (finding, leader) in findings.iter_mut().zip(names) {
        finding.part_of = leader;
    }
    let mut slots: Vec<Option<Finding>> = findings.into_iter().map(Some).collect();
    let mut ranked: Vec<Finding> = order.into_iter().filter_map(|n| slots[n].take()).collect();
    let mut references = 0;
    for (n, finding) in ranked.iter_mut().enumerate() {
        finding.id = format!("F{}", n + 1);
        for evidence in &mut finding.evidence {
            references += 1;
            evidence.reference = format!("E{references}");
        }
    }
    ranked
}

/// Of each finding the one that leads its group; `None` for those that lead or stand alone.
fn leaders(findings: &[Finding]) -> Vec<Option<usize>> {
    let mut groups: BTreeMap<(Option<&NodeName>, &str, String), Vec<usize>> = BTreeMap::new();
    for (n, finding) in findings.iter().enumerate() {
        // What is only worth knowing belongs to nothing: it would hide behind what it has nothing to do with.
        if finding.severity == Severity::Info {
            continue;
        }
        if let Some((family, mut thing)) = family(finding) {
            if finding.kind.starts_with("pcie.") {
                thing = device_below(findings, finding).unwrap_or(thing);
            }
            groups.entry((finding.node.as_ref(), family, thing)).or_default().push(n);
        }
    }
    let mut leads = vec![None; findings.len()];
    for group in groups.values() {
        let key = |n: &&usize| {
            (
                Reverse(findings[**n].severity),
                Reverse(findings[**n].confidence),
                position(&findings[**n]),
                findings[**n].first,
                **n,
            )
        };
        let Some(leader) = group.iter().min_by_key(key) else { continue };
        for member in group.iter().filter(|member| *member != leader) {
            leads[*member] = Some(*leader);
        }
    }
    leads
}

/// The family of a finding and, where a node has several things of it that fail on their own, which thing.
fn family(finding: &Finding) -> Option<(&'static str, String)> {
    let (family, _) = FAMILIES.iter().find(|(_, kinds)| kinds.iter().any(|kind| finding.kind.starts_with(kind)))?;
    let thing = match *family {
        "gpu" => finding.subject.as_deref().map(thing).unwrap_or_default(),
        "memory" => {
            // Several pods of one workload are a thing of their own.
            let several = || finding.subject.clone().filter(|_| finding.kind.starts_with("k8s."));
            finding.pod.as_ref().and_then(|pod| pod.uid.clone()).or_else(several).unwrap_or_default()
        }
        _ => String::new(),
    };
    Some((family, thing))
}

/// Where a kind stands in its family.
fn position(finding: &Finding) -> usize {
    let kinds = FAMILIES.iter().flat_map(|(_, kinds)| kinds.iter().enumerate());
    kinds.filter(|(_, kind)| finding.kind.starts_with(*kind)).map(|(n, _)| n).next().unwrap_or(usize::MAX)
}

/// Errors of a port go to the device that was lost below it: the one GPU of the node that failed within so long of them.
const BELOW_A_PORT: std::time::Duration = std::time::Duration::from_secs(120);

fn device_below(findings: &[Finding], port: &Finding) -> Option<String> {
    let (node, at) = (port.node.as_ref()?, port.last.or(port.first)?);
    let lost = findings
        .iter()
        .filter(|f| f.node.as_ref() == Some(node) && f.kind.starts_with("gpu.") && f.severity == Severity::Fatal);
    let near = lost
        .filter(|f| f.first.is_some_and(|first| first >= at.before(BELOW_A_PORT) && first <= at.after(BELOW_A_PORT)));
    let things: std::collections::BTreeSet<_> = near.filter_map(|f| f.subject.as_deref().map(thing)).collect();
    let mut things = things.into_iter();
    things.next().filter(|_| things.next().is_none())
}

/// What is to be said of ranked findings. `unsure` are the nodes of which checks could not tell, in order of name.
pub fn verdict(findings: &[Finding], coverage: &Coverage, unsure: &[NodeName]) -> Verdict {
    let mut counts = Counts::default();
    for finding in findings {
        *match finding.severity {
            Severity::Fatal => &mut counts.fatal,
            Severity::Error => &mut counts.error,
            Severity::Warning => &mut counts.warning,
            Severity::Info => &mut counts.info,
        } += 1;
    }
    let leading = |least: Severity| findings.iter().filter(move |f| f.part_of.is_none() && f.severity >= least);
    let mut cites = Vec::new();
    let mut sentence = String::new();
    let shown = if leading(Severity::Error).next().is_some() { Severity::Error } else { Severity::Warning };
    for (n, finding) in leading(shown).take(NAMED).enumerate() {
        let node = finding.node.as_ref().map(|node| format!("{node}: ")).unwrap_or_default();
        let at = finding.first.map(|at| format!(" at {}", at.to_seconds_text())).unwrap_or_default();
        let reference = finding.evidence.first().map(|e| e.reference.clone()).unwrap_or_default();
        let separator = if n == 0 { "" } else { "; " };
        // Writing to a String does not fail.
        let _infallible = write!(sentence, "{separator}{node}{}{at} [{reference}]", finding.summary);
        cites.push(reference);
    }
    let more = leading(shown).count().saturating_sub(NAMED);
    if more > 0 {
        let _infallible = write!(sentence, "; and {more} more");
    }
    if sentence.is_empty() {
        sentence.push_str("Nothing was found that is a warning or worse");
    } else if shown == Severity::Warning {
        sentence.insert_str(0, "Nothing worse than a warning: ");
    }
    sentence.push('.');
    match unsure {
        [] => {}
        all if all.len() <= NAMED => {
            let names: Vec<_> = all.iter().map(NodeName::as_str).collect();
            let _infallible =
                write!(sentence, " Of {} not all can be told, because evidence is missing.", names.join(", "));
        }
        all => {
            let _infallible =
                write!(sentence, " Of {} nodes not all can be told, because evidence is missing.", all.len());
        }
    }
    let anomalies = findings.iter().filter(|f| f.severity >= Severity::Warning && f.confidence >= Confidence::Medium);
    let first = anomalies.filter_map(|f| Some((f.first?, f))).min_by_key(|(at, f)| (*at, f.id.len(), f.id.clone()));
    Verdict {
        sentence,
        cites,
        first_anomaly: first.map(|(at, f)| FirstAnomaly { at, node: f.node.clone(), finding: f.id.clone() }),
        counts,
        coverage: Covered::of(coverage),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::{Evidence, EvidenceKind, Pod};
    use casefile_proto::scope::Scope;
    use casefile_proto::time::Window;

    fn finding(node: &str, kind: &str, severity: Severity, at: i64, subject: &str) -> Finding {
        let node: NodeName = node.parse().unwrap();
        Finding {
            id: String::new(),
            kind: kind.to_owned(),
            check: "c".to_owned(),
            severity,
            confidence: Confidence::High,
            node: Some(node.clone()),
            subject: Some(subject.to_owned()),
            summary: format!("{kind} of {subject}"),
            meaning: None,
            now: None,
            not_proof: vec![],
            first: Some(WallTime::from_secs(at)),
            last: None,
            count: 1,
            pod: None,
            part_of: None,
            evidence: vec![Evidence::new(EvidenceKind::Line, Some(&node), "x")],
        }
    }

    fn nothing() -> Coverage {
        let window = Window::new(WallTime::from_secs(0), WallTime::from_secs(1)).unwrap();
        Coverage { window, nodes: vec![], scope: Scope::default(), cluster: None }
    }

    #[test]
    fn what_leads_comes_before_what_belongs_to_it_whatever_its_severity() {
        let ranked = rank(vec![
            finding("a", "fs.readonly", Severity::Fatal, 30, "nvme0n1"),
            finding("a", "disk.nvme.disabled", Severity::Fatal, 20, "nvme0"),
            finding("a", "disk.io_error", Severity::Error, 10, "nvme0n1"),
            finding("b", "cpu.pressure", Severity::Warning, 5, "cpu"),
            finding("c", "mem.oom.memcg", Severity::Error, 40, "shop/api"),
        ]);
        let order: Vec<_> = ranked.iter().map(|f| (f.id.as_str(), f.kind.as_str(), f.part_of.as_deref())).collect();
        assert_eq!(
            order,
            [
                ("F1", "disk.nvme.disabled", None),
                ("F2", "mem.oom.memcg", None),
                ("F3", "cpu.pressure", None),
                ("F4", "fs.readonly", Some("F1")),
                ("F5", "disk.io_error", Some("F1")),
            ]
        );
        let said = verdict(&ranked, &nothing(), &["n7".parse().unwrap()]);
        assert_eq!(
            said.sentence,
            "a: disk.nvme.disabled of nvme0 at 1970-01-01T00:00:20Z [E1]; c: mem.oom.memcg of shop/api at 1970-01-01T00:00:40Z [E2]. Of n7 not all can be told, because evidence is missing."
        );
        assert_eq!(said.cites, ["E1", "E2"]);
        assert_eq!(said.first_anomaly.unwrap().finding, "F3");
    }

    #[test]
    fn two_gpus_and_two_pods_that_fail_are_two_things() {
        let pod = |uid: &str| Some(Pod { namespace: None, name: None, uid: Some(uid.to_owned()) });
        let mut first = finding("a", "mem.oom.memcg", Severity::Error, 1, "x");
        first.pod = pod("1");
        let mut second = finding("a", "mem.oom.memcg", Severity::Error, 2, "y");
        second.pod = pod("2");
        let ranked = rank(vec![
            finding("a", "gpu.xid.79", Severity::Fatal, 1, "GPU 0000:84:00"),
            finding("a", "gpu.state", Severity::Fatal, 2, "GPU 00000000:84:00.0"),
            finding("a", "gpu.xid.79", Severity::Fatal, 3, "GPU 0000:85:00"),
            first,
            second,
        ]);
        let led: Vec<_> = ranked.iter().filter(|f| f.part_of.is_some()).map(|f| f.kind.as_str()).collect();
        assert_eq!(led, ["gpu.state"]);
    }

    #[test]
    fn of_nothing_it_says_nothing_and_not_that_all_is_well() {
        let said = verdict(&[], &nothing(), &[]);
        assert_eq!(said.sentence, "Nothing was found that is a warning or worse.");
        assert_eq!((said.cites.len(), said.first_anomaly), (0, None));
    }
}
