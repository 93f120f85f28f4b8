//! What the checks of one node look at: its series, the records that are recognised in its logs, its events, its coverage.
//!
//! Read once for all checks, and dropped before the next node is read: memory does not grow with the fleet.

use std::fmt::Write;

use casefile_proto::coverage::{NodeCoverage, SourceCoverage, SourceKind};
use casefile_proto::event::EventKind;
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::ids::NodeName;
use casefile_proto::item::EntryPath;
use casefile_proto::time::{ClockOffset, WallTime, Window};

use super::seen::{self, Seen};
use crate::casefile::{CaseFile, CaseFileError};
use crate::finding::{Confidence, Evidence, EvidenceKind, Finding, Pod, Severity};
use crate::gpu::pods::Pods;
use crate::kubernetes::Cluster;
use crate::past::pods::pod_of;
use crate::seriesset::{OneSeries, SeriesSet, Value};
use crate::signatures::set::Signatures;

/// What a check needs in order to say that something is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Readings of this source over nearly the whole window.
    Readings(&'static str),
    /// All records of this log source.
    Log(&'static str),
    /// All records of the kernel, whether as a log or as events of the recording.
    Kernel,
    /// Nothing: it looks at what is said of the node itself.
    Nothing,
    /// Something that nobody records yet, said in a sentence: the check can never say that it is clear.
    NotRecorded(&'static str),
}

impl Need {
    /// In words; nothing for what needs nothing.
    pub fn words(&self) -> String {
        match self {
            Self::Readings(source) => format!("readings of the source {source} over the whole window"),
            Self::Log(source) => format!("all records of {source}"),
            Self::Kernel => "all records of the kernel, from its log or from the recording".to_owned(),
            Self::Nothing => String::new(),
            Self::NotRecorded(what) => (*what).to_owned(),
        }
    }
}

/// How a node stands to what a check needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// It is there.
    Enough,
    /// This machine has no such thing, or nobody asked for it.
    NotHere,
    /// It is not all there: what is missing, each a sentence.
    Missing(Vec<String>),
}

/// Everything that checks look at, of one node.
pub struct NodeFacts<'c> {
    /// Its name.
    pub name: NodeName,
    /// What the coverage says of it.
    pub row: NodeCoverage,
    /// The window, on the collector's clock.
    pub window: Window,
    /// Its series and events.
    pub set: SeriesSet,
    /// The records that are recognised, in the order of time.
    pub seen: Vec<Seen<'c>>,
    /// Records of the kernel at level error and worse that no signature knows.
    pub unknown: Vec<Seen<'c>>,
    /// Those that were left out of both because there were too many.
    pub left_out: u64,
    /// Entries with its recording.
    recordings: Vec<EntryPath>,
    /// Names of pods by uid.
    pods: Pods,
    /// Logs that could not be read to their end, and why.
    pub damaged: Vec<(EntryPath, String)>,
}

/// The part of a window that may be missing from readings of which it is said that a thing did not happen: a tick that came late.
const MAY_MISS: f64 = 0.02;

impl<'c> NodeFacts<'c> {
    /// Reads them; of the metrics those with these names.
    ///
    /// # Errors
    /// Never for what is damaged in the case file: that is told.
    pub fn load(
        casefile: &mut CaseFile,
        row: &NodeCoverage,
        metrics: &dyn Fn(&str) -> bool,
        signatures: &'c Signatures,
        cluster: &Cluster,
    ) -> Result<Self, CaseFileError> {
        let name = row.node.clone();
        let set = SeriesSet::load(casefile, &name, &|_, metric| metrics(&metric.name))?;
        let recordings = casefile.recordings(Some(&name)).into_iter().map(|(_, entry)| entry).collect();
        let pods = Pods::of(casefile, &name).with(cluster, &name);
        let window = casefile.coverage.window;
        let mut facts = Self {
            name,
            row: row.clone(),
            window,
            set,
            seen: Vec::new(),
            unknown: Vec::new(),
            left_out: 0,
            recordings,
            pods,
            damaged: Vec::new(),
        };
        seen::read(casefile, signatures, &mut facts);
        Ok(facts)
    }

    /// A finding about this node, of which times and evidence are still to be said.
    pub fn finding(&self, kind: &str, severity: Severity, confidence: Confidence, summary: String) -> Finding {
        Finding { node: Some(self.name.clone()), ..Finding::new(kind, severity, confidence, summary) }
    }

    /// Its clock against the collector's.
    pub fn clock(&self) -> Option<ClockOffset> {
        self.row.clock
    }

    /// How it stands to a need.
    pub fn knows(&self, need: Need) -> Known {
        match need {
            Need::Nothing => Known::Enough,
            Need::NotRecorded(what) => Known::Missing(vec![what.to_owned()]),
            Need::Readings(source) => self.readings(source),
            Need::Log(source) => self.log(source),
            Need::Kernel => match (self.log("kernel"), self.readings("kernel")) {
                // Both are the same records: the ones that a cut-off log lacks, the recording has.
                (Known::Enough, _) | (_, Known::Enough) => Known::Enough,
                (Known::NotHere, other) | (other, _) => other,
            },
        }
    }

    fn source(&self, kind: SourceKind, source: &str) -> Option<&SourceCoverage> {
        self.row.sources.iter().find(|s| s.kind == kind && s.source == source)
    }

    fn readings(&self, source: &str) -> Known {
        let Some(row) = self.source(SourceKind::Metrics, source) else { return self.not_at_all(source) };
        let missing = missing(source, row.gaps.iter());
        if row.outcomes.total() > 0 && row.outcomes.absent == row.outcomes.total() {
            return Known::NotHere;
        }
        let length = |window: &Window| window.until().nanos_since(window.from()).max(0) as f64;
        let covered: f64 = row.covered.iter().map(length).sum();
        if covered >= length(&row.asked) * (1.0 - MAY_MISS) {
            return Known::Enough;
        }
        if row.gaps.iter().all(|gap| gap.reason == GapReason::SourceAbsent) && !row.gaps.is_empty() {
            return Known::NotHere;
        }
        let whole = || self.whole_gaps(source);
        Known::Missing(if missing.is_empty() { whole() } else { missing })
    }

    fn log(&self, source: &str) -> Known {
        let Some(row) = self.source(SourceKind::Logs, source) else { return self.not_at_all(source) };
        if row.gaps.iter().any(|gap| gap.reason == GapReason::SourceAbsent) && row.covered.is_empty() {
            return Known::NotHere;
        }
        let missing = missing(source, row.gaps.iter());
        if !missing.is_empty() {
            return Known::Missing(missing);
        }
        if row.covered.is_empty() {
            return Known::Missing(self.whole_gaps(source));
        }
        Known::Enough
    }

    /// There is no row: the node never said that it has the source.
    fn not_at_all(&self, source: &str) -> Known {
        let missing = missing(source, self.row.gaps.iter());
        if missing.is_empty() { Known::NotHere } else { Known::Missing(missing) }
    }

    fn whole_gaps(&self, source: &str) -> Vec<String> {
        let missing = missing(source, self.row.gaps.iter());
        if missing.is_empty() { vec![format!("{source}: not all of the window is covered")] } else { missing }
    }

    /// Evidence: a part of a series.
    pub fn series(&self, series: &OneSeries, from: WallTime, until: WallTime, value: f64, text: String) -> Evidence {
        let mut evidence = Evidence::new(EvidenceKind::Series, Some(&self.name), text);
        evidence.entry = self.recordings.first().cloned();
        evidence.at = Some(from);
        evidence.metric = Some(series.metric.name.clone());
        evidence.labels = series.named().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        (evidence.from, evidence.until) = (Some(from), Some(until));
        evidence.value = Some(value);
        evidence.unit = Some(series.metric.unit.word().to_owned());
        evidence
    }

    /// Evidence: an event of the recording.
    pub fn event(&self, at: WallTime, text: &str) -> Evidence {
        let mut evidence = Evidence::new(EvidenceKind::Event, Some(&self.name), text);
        evidence.entry = self.recordings.first().cloned();
        evidence.at = Some(at);
        evidence
    }

    /// Evidence: what the coverage says.
    pub fn coverage(&self, at: Option<WallTime>, text: String) -> Evidence {
        let mut evidence = Evidence::new(EvidenceKind::Coverage, Some(&self.name), text);
        evidence.entry = Some(casefile_evidence::archive::layout::path(casefile_evidence::archive::layout::COVERAGE));
        evidence.at = at;
        evidence
    }

    /// The pod of a cgroup, as far as it is known.
    pub fn pod_of(&self, cgroup: &str) -> Option<Pod> {
        self.pod_of_uid(&pod_uid(cgroup)?)
    }

    /// A pod by its uid.
    pub fn pod_of_uid(&self, uid: &str) -> Option<Pod> {
        let uid = uid.replace('_', "-");
        let named = self.pods.pod(&uid).name;
        let (namespace, name) = match named.as_deref().and_then(|name| name.split_once('/')) {
            Some((namespace, name)) => (Some(namespace.to_owned()), Some(name.to_owned())),
            None => (None, None),
        };
        Some(Pod { namespace, name, uid: Some(uid) })
    }

    /// A pod by `namespace/name`.
    pub fn pod_named(&self, name: &str) -> Option<Pod> {
        let (namespace, pod) = name.split_once('/')?;
        let uid = self.pods.uid(name).map(str::to_owned);
        Some(Pod { namespace: Some(namespace.to_owned()), name: Some(pod.to_owned()), uid })
    }

    /// A cgroup as people call it: its pod, or its path.
    pub fn called(&self, cgroup: &str) -> String {
        match self.pod_of(cgroup) {
            Some(pod) => called(&pod),
            None => cgroup.to_owned(),
        }
    }

    /// How a series moved, with the times of its values.
    pub fn timed(&self, values: &[Value]) -> Vec<(WallTime, f64)> {
        values.iter().map(|value| (self.set.at(*value), value.value)).collect()
    }

    /// Events of the recording that are not the kernel's: when, and what.
    pub fn events(&self) -> impl Iterator<Item = (WallTime, &EventKind, &str)> {
        self.set.events.iter().map(|happened| (happened.at, &happened.event.kind, happened.event.text.as_str()))
    }
}

/// `namespace/name`, or the uid.
pub fn called(pod: &Pod) -> String {
    match (&pod.namespace, &pod.name, &pod.uid) {
        (Some(namespace), Some(name), _) => format!("{namespace}/{name}"),
        (_, _, Some(uid)) => format!("pod {uid}"),
        _ => "a pod".to_owned(),
    }
}

/// The uid of the pod in a cgroup's path: `…/kubepods-burstable-pod0a1b_….slice/…`, `/kubepods/burstable/pod0a1b-…/…`.
pub fn pod_uid(cgroup: &str) -> Option<String> {
    pod_of(cgroup).map(|(uid, _)| uid)
}

/// What is missing, each as a sentence: the source, why, and when.
fn missing<'g>(source: &str, gaps: impl Iterator<Item = &'g Gap>) -> Vec<String> {
    /// More than so many say no more.
    const MAX: usize = 4;
    let real: Vec<_> = gaps.filter(|gap| gap.reason != GapReason::SourceAbsent).collect();
    let mut out: Vec<_> = real.iter().take(MAX).map(|gap| one_missing(source, gap)).collect();
    if real.len() > MAX {
        out.push(format!("{source}: {} more gaps", real.len() - MAX));
    }
    out
}

fn one_missing(source: &str, gap: &Gap) -> String {
    let mut text = format!("{source}: {}", gap.reason);
    if let Some(interval) = gap.interval {
        // Writing to a String does not fail.
        let _infallible =
            write!(text, " {} to {}", interval.from().to_seconds_text(), interval.until().to_seconds_text());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_found_in_the_paths_of_both_drivers_and_in_nothing_else() {
        let uid = "a8697f49-441d-4d4f-90d2-6d8e1fa3bbe7";
        for cgroup in [
            "/kubepods/burstable/poda8697f49-441d-4d4f-90d2-6d8e1fa3bbe7/3fc2",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-poda8697f49_441d_4d4f_90d2_6d8e1fa3bbe7.slice/cri-containerd-3fc2.scope",
        ] {
            assert_eq!(pod_uid(cgroup).as_deref(), Some(uid), "{cgroup}");
        }
        for cgroup in ["/system.slice/podman.service", "/", "/podx", "/kubepods/poda8697f49-441d"] {
            assert_eq!(pod_uid(cgroup), None, "{cgroup}");
        }
    }
}
