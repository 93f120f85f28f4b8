//! How a cluster is: what is wrong in it now, what it warned of in the window, and what could not be looked at.
//!
//! The checks of the cluster (`checks/kubernetes/`) look, nothing else: this puts what they find into the two kinds that a person on
//! call knows, problems and warnings. What was not looked at is never well.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use casefile_proto::coverage::NodeState;
use casefile_proto::ids::NodeName;
use casefile_proto::time::{WallTime, Window};
use serde::Serialize;

use super::endpoints::Endpoints;
use super::{counted, cut, wrapped};
use crate::casefile::CaseFile;
use crate::checks::kubernetes::{self, ClusterFacts};
use crate::display::safe;
use crate::finding::{Finding, Severity};
use crate::kubernetes::{Cluster, Kind, State};
use crate::past::table::aligned;
use crate::signatures::set::Signatures;
use crate::summary;

/// The version of the form of the JSON.
pub const FORMAT: u32 = 1;

/// Groups of events in the table; JSON has up to [`MAX_EVENTS`].
const SHOWN_EVENTS: usize = 12;
const MAX_EVENTS: usize = 500;

/// Findings that say that a pod does not run, whatever their severity is among all that can go wrong.
const NOT_RUNNING: [&str; 6] = [
    "k8s.pod.crashloop",
    "k8s.pod.image_pull",
    "k8s.pod.create_failed",
    "k8s.pod.unschedulable",
    "k8s.pod.failed",
    "k8s.pod.pending",
];

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something does not run.
    Problem,
    /// Something may be about to, or did for a while.
    Warning,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Wrong {
    /// How bad.
    pub level: Level,
    /// What it is: what `casefile explain` takes.
    pub kind: String,
    /// What it is about: `Deployment shop/api`.
    pub subject: Option<String>,
    /// The node, where it is on one of the case file.
    pub node: Option<NodeName>,
    /// In a sentence. Text of the cluster: escape before showing.
    pub summary: String,
    /// Since when, as far as that is in the window.
    pub first: Option<WallTime>,
    /// When it was last seen.
    pub last: Option<WallTime>,
    /// How often.
    pub count: u64,
    /// What to do first.
    pub now: Option<String>,
}

/// Warnings of one reason about one thing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Warned {
    /// Why, in a word.
    pub reason: String,
    /// About what: `Pod shop/api-0`, or the workload that it belongs to.
    pub subject: String,
    /// How often.
    pub count: u64,
    /// When it was last seen.
    pub last: Option<WallTime>,
    /// The last one in a sentence.
    pub message: String,
}

/// How a cluster is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Health {
    /// The version of this form.
    pub format: u32,
    /// What was looked at ends with the window; events and changes are those in it.
    pub window: Window,
    /// What is wrong, problems first.
    pub wrong: Vec<Wrong>,
    /// Recent warnings, the most frequent first.
    pub warnings: Vec<Warned>,
    /// What was looked at, in words and numbers.
    pub looked_at: Vec<String>,
    /// What could not be looked at, and why.
    pub not_looked_at: Vec<String>,
    /// What nobody asked to be looked at.
    pub not_asked: Vec<String>,
}

impl Health {
    /// Of a case file.
    pub fn of(casefile: &mut CaseFile, signatures: &Signatures) -> Self {
        let cluster = Cluster::read(casefile);
        let endpoints = Endpoints::of(casefile);
        let nodes = casefile.coverage.nodes.iter().map(|row| row.node.clone()).collect();
        let window = casefile.incident.window;
        let facts = ClusterFacts::new(&cluster, window, signatures, nodes);
        let mut findings: Vec<Finding> = Vec::new();
        let mut lacking: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for check in kubernetes::all() {
            let mut found = (check.examine)(&facts, &mut findings).new;
            found.iter_mut().for_each(|finding| check.id.clone_into(&mut finding.check));
            findings.append(&mut found);
            for why in facts.lacks(check) {
                lacking.entry(why).or_default().push(check.title);
            }
        }
        let mut wrong: Vec<Wrong> = findings.into_iter().filter_map(wrong).chain(endpoints.wrong).collect();
        wrong.sort_by(|a, b| (a.level, a.first, &a.kind, &a.subject).cmp(&(b.level, b.first, &b.kind, &b.subject)));
        let mut not_looked_at: Vec<String> = lacking
            .into_iter()
            .map(|(why, titles)| if titles.len() > 3 { why } else { format!("{}: {why}", titles.join(", ")) })
            .collect();
        not_looked_at.extend(cluster.unread.iter().map(|(what, why)| format!("{what}: {why}")));
        not_looked_at.extend(endpoints.not_looked_at);
        not_looked_at.extend(silent(casefile));
        if casefile.entries.truncated() || !casefile.entries.indexed() {
            not_looked_at.push("the case file is damaged: what lies behind the damage".to_owned());
        }
        Self {
            format: FORMAT,
            window,
            wrong,
            warnings: warned(&facts),
            not_asked: not_asked(&cluster, endpoints.looked_at.is_some()),
            looked_at: looked_at(&cluster).into_iter().chain(endpoints.looked_at).collect(),
            not_looked_at,
        }
    }

    /// The worst that there is; `None`: nothing is wrong.
    pub fn worst(&self) -> Option<Level> {
        self.wrong.iter().map(|wrong| wrong.level).min()
    }

    /// For a person.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let mut line = |text: &str| {
            // Writing to a String does not fail.
            let _infallible = writeln!(out, "{text}");
        };
        let of = |level| self.wrong.iter().filter(|wrong| wrong.level == level).count();
        let (problems, warnings) = (of(Level::Problem), of(Level::Warning));
        let mut verdict = match (problems, warnings) {
            (0, 0) if self.not_looked_at.is_empty() => "nothing is wrong".to_owned(),
            (0, 0) => "nothing wrong was seen, and not everything could be looked at".to_owned(),
            (0, warnings) => counted(warnings, "warning"),
            (problems, warnings) => format!("{}, {}", counted(problems, "problem"), counted(warnings, "warning")),
        };
        if problems + warnings > 0 && !self.not_looked_at.is_empty() {
            verdict.push_str("; not everything could be looked at");
        }
        line(&format!("{}\n{verdict}", summary::window(self.window)));
        for wrong in &self.wrong {
            let word = if wrong.level == Level::Problem { "PROBLEM" } else { "WARNING" };
            line("");
            line(&wrapped(&format!("{word}  "), &safe(&wrong.summary)));
            let at = wrong.first.map(|first| format!("since {}, ", first.to_seconds_text())).unwrap_or_default();
            let times = if wrong.count > 1 { format!("{} times, ", wrong.count) } else { String::new() };
            let subject = wrong.subject.as_deref().unwrap_or("the cluster");
            line(&wrapped("         ", &safe(&format!("{at}{times}{subject} ({})", wrong.kind))));
        }
        if !self.warnings.is_empty() {
            line("\nWarnings that the cluster reported:");
            out.push_str(&self.warnings_text());
        }
        let mut part = |head: &str, texts: &[String]| {
            if !texts.is_empty() {
                let _infallible = writeln!(out, "\n{head}:");
                for text in texts {
                    let _infallible = writeln!(out, "{}", wrapped("  ", &safe(text)));
                }
            }
        };
        part("Looked at", &self.looked_at);
        part("Not looked at", &self.not_looked_at);
        part("Nobody asked for", &self.not_asked);
        out
    }

    fn warnings_text(&self) -> String {
        let row = |warned: &Warned| {
            let at = warned.last.map_or_else(|| "-".to_owned(), crate::past::table::time);
            vec![safe(&cut(&warned.reason, 24)), safe(&cut(&warned.subject, 40)), at, warned.count.to_string()]
        };
        let rows: Vec<_> = self.warnings.iter().take(SHOWN_EVENTS).map(row).collect();
        let mut out = aligned(3, &["REASON", "ABOUT", "LAST", "COUNT"], &rows);
        if self.warnings.len() > SHOWN_EVENTS {
            let _infallible = writeln!(out, "… and {} more (-o json has them)", self.warnings.len() - SHOWN_EVENTS);
        }
        out
    }
}

fn wrong(finding: Finding) -> Option<Wrong> {
    // What was only reported was so at some time; what an object says is so now.
    let reported = finding.check == "k8s.events";
    let level = match finding.severity {
        Severity::Info => return None,
        Severity::Error | Severity::Fatal if !reported => Level::Problem,
        _ if !reported && NOT_RUNNING.contains(&finding.kind.as_str()) => Level::Problem,
        _ => Level::Warning,
    };
    Some(Wrong {
        level,
        kind: finding.kind,
        subject: finding.subject,
        node: finding.node,
        summary: finding.summary,
        first: finding.first,
        last: finding.last,
        count: finding.count,
        now: finding.now,
    })
}

/// The warnings of the window by reason and what they are about.
fn warned(facts: &ClusterFacts<'_>) -> Vec<Warned> {
    let mut groups: BTreeMap<(&str, String), Warned> = BTreeMap::new();
    let in_window = |at: Option<WallTime>| at.is_some_and(|at| facts.window.contains(at));
    for event in facts.cluster.events.iter().filter(|event| event.warning && in_window(event.last)) {
        let subject = kubernetes::subject(facts, event);
        let group = groups.entry((&event.reason, subject.clone())).or_insert_with(|| Warned {
            reason: event.reason.clone(),
            subject,
            count: 0,
            last: None,
            message: String::new(),
        });
        group.count += event.count;
        // Events are in the order of time.
        group.last = event.last;
        event.message.clone_into(&mut group.message);
    }
    let mut all: Vec<Warned> = groups.into_values().collect();
    all.sort_by(|a, b| (b.count, &a.reason, &a.subject).cmp(&(a.count, &b.reason, &b.subject)));
    all.truncate(MAX_EVENTS);
    all
}

/// Nodes of which the case file has nothing of the time at which it was asked.
fn silent(casefile: &CaseFile) -> Vec<String> {
    let of = |state: NodeState| -> Vec<String> {
        let rows = casefile.coverage.nodes.iter().filter(|row| row.state == state);
        rows.map(|row| row.node.to_string()).collect()
    };
    let told = |names: Vec<String>, what: &str| {
        const NAMED: usize = 5;
        let more = names.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        (!names.is_empty()).then(|| {
            let named: Vec<_> = names.iter().take(NAMED).map(String::as_str).collect();
            format!("node {}{more}: {what}", named.join(", "))
        })
    };
    let silent = told(of(NodeState::Silent), "gave nothing");
    silent.into_iter().chain(told(of(NodeState::LastWords), "did not answer, and has last words only")).collect()
}

/// What there was, in words and numbers.
fn looked_at(cluster: &Cluster) -> Vec<String> {
    let has = |kind: Kind| cluster.kinds.contains(&kind);
    let mut all = Vec::new();
    if has(Kind::Pod) {
        let pods = &cluster.pods;
        let done = pods.iter().filter(|pod| pod.is_done()).count();
        let ready = pods.iter().filter(|pod| pod.is_ready()).count();
        let namespaces: BTreeSet<_> = pods.iter().map(|pod| &pod.meta.namespace).collect();
        let running = pods.iter().flat_map(|pod| &pod.containers).filter_map(|container| container.status.as_ref());
        let running = running.filter(|status| matches!(status.state, State::Running(_))).count();
        all.push(format!(
            "{} in {}: {ready} ready, {done} done; {} run",
            counted(pods.len(), "pod"),
            counted(namespaces.len(), "namespace"),
            counted(running, "container")
        ));
    }
    if has(Kind::Node) {
        let ready = cluster.nodes.iter().filter(|node| node.ready().is_some_and(|c| c.status == "True")).count();
        all.push(format!("{}: {ready} ready", counted(cluster.nodes.len(), "node")));
    }
    let counts = [
        (Kind::Deployment, "deployment", cluster.workloads.iter().filter(|w| w.kind == Kind::Deployment).count()),
        (Kind::StatefulSet, "stateful set", cluster.workloads.iter().filter(|w| w.kind == Kind::StatefulSet).count()),
        (Kind::DaemonSet, "daemon set", cluster.workloads.iter().filter(|w| w.kind == Kind::DaemonSet).count()),
        (Kind::Job, "job", cluster.jobs.len()),
        (Kind::Service, "service", cluster.services.len()),
        (Kind::PersistentVolumeClaim, "volume claim", cluster.claims.len()),
        (Kind::HorizontalPodAutoscaler, "autoscaler", cluster.autoscalers.len()),
        (Kind::Application, "Argo CD application", cluster.applications.len()),
        (Kind::Event, "event", cluster.events.len()),
    ];
    let known: Vec<_> = counts.iter().filter(|(kind, ..)| has(*kind)).map(|(_, name, n)| counted(*n, name)).collect();
    if !known.is_empty() {
        all.push(known.join(", "));
    }
    all
}

/// What a case file of this kind may not have.
fn not_asked(cluster: &Cluster, endpoints: bool) -> Vec<String> {
    let mut all = Vec::new();
    if cluster.present && !cluster.kinds.contains(&Kind::Application) {
        all.push("Argo CD: there are no applications in this archive".to_owned());
    }
    if !endpoints {
        all.push("health endpoints and certificates: no test of connectivity was made in the window".to_owned());
    }
    all
}
