//! The checks over the recorded objects of a real cluster: what is wrong in it is found, once each, and joined with what its node says;
//! what is well is not; and objects that are broken, too large or not there are named and never taken for health.

#![expect(clippy::unwrap_used, reason = "in a test everything that fails ends the test")]

mod cluster;
mod sealed;

use std::io::Read;
use std::sync::OnceLock;

use casefile_evidence::archive::layout::IncidentFile;
use casefile_evidence::archive::reader::{EntryInfo, OpenError};
use casefile_proto::coverage::Coverage;
use casefile_proto::item::EntryPath;
use casefile_proto::units::Bytes;
use casefile_review::casefile::CaseFile;
use casefile_review::entries::Entries;
use casefile_review::finding::{EvidenceKind, Finding, Severity};
use casefile_review::gpu::pods::Pods;
use casefile_review::kubernetes::{Cluster, Kind, NO_EVIDENCE};
use casefile_review::review::{CheckVerdict, Review};
use casefile_review::signatures::catalogue::catalogue;
use casefile_review::timeline::What;
use proptest::prelude::*;
use sealed::{Node, seal, seal_with};

fn reviewed(file: &std::path::Path) -> Review {
    let mut casefile = CaseFile::open(file).unwrap();
    Review::of(&mut casefile, &catalogue().signatures, None).unwrap()
}

fn of_cluster() -> (tempfile::TempDir, Review) {
    let dir = tempfile::tempdir().unwrap();
    let file = cluster::sealed(dir.path());
    let review = reviewed(&file);
    (dir, review)
}

fn about<'r>(review: &'r Review, kind: &str) -> Vec<&'r Finding> {
    review.findings.iter().filter(|finding| finding.kind == kind).collect()
}

#[test]
fn what_is_wrong_in_a_real_cluster_is_found_once_each_and_nothing_else_is() {
    let (_dir, review) = of_cluster();
    let mut found: Vec<_> = review
        .findings
        .iter()
        .filter(|finding| finding.severity >= Severity::Warning)
        .map(|finding| format!("{} {}", finding.kind, finding.subject.as_deref().unwrap_or("-")))
        .collect();
    found.sort();
    assert_eq!(
        found,
        [
            "k8s.job.failed Job shop/transcode",
            "k8s.pod.crashloop Deployment shop/api-gateway",
            "k8s.pod.crashloop Deployment shop/crasher",
            "k8s.pod.crashloop Pod shop/hungry",
            "k8s.pod.crashloop Pod shop/longlines",
            "k8s.pod.create_failed Pod shop/noconfig",
            "k8s.pod.image_pull Pod shop/nopull",
            "k8s.pod.unschedulable Pod shop/toobig",
            "k8s.volume.provisioning PersistentVolumeClaim shop/data",
            "mem.oom.memcg shop/hungry",
        ],
        "{:#?}",
        review.findings
    );
}

#[test]
fn a_kill_of_which_kernel_and_cluster_speak_is_one_finding() {
    let (_dir, review) = of_cluster();
    let [kill] = about(&review, "mem.oom.memcg")[..] else { panic!("{:#?}", review.findings) };
    assert!(kill.summary.contains("(container app, 4 restarts)"), "{}", kill.summary);
    let kinds: Vec<_> = kill.evidence.iter().map(|evidence| evidence.kind).collect();
    assert!(kinds.contains(&EvidenceKind::Line) && kinds.contains(&EvidenceKind::State), "{kinds:?}");
    assert!(about(&review, "k8s.pod.oomkilled").is_empty());
    // That it ends again and again stands behind why it does.
    let behind =
        about(&review, "k8s.pod.crashloop").into_iter().find(|f| f.subject.as_deref() == Some("Pod shop/hungry"));
    assert_eq!(behind.unwrap().part_of.as_deref(), Some(kill.id.as_str()));
}

#[test]
fn a_kill_of_which_only_the_cluster_speaks_is_told_with_that() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = cluster::node();
    node.logs.remove(0);
    let review = reviewed(&seal_with(dir.path(), &[node], cluster::window(), cluster::entries()));
    let [kill] = about(&review, "k8s.pod.oomkilled")[..] else { panic!("{:#?}", review.findings) };
    assert_eq!(
        kill.summary,
        "container app of shop/hungry was killed for want of memory, having a limit of 32 MiB, 4 restarts"
    );
    assert_eq!(kill.node.as_ref().unwrap().as_str(), "node1");
}

#[test]
fn an_event_adds_to_what_its_object_says_and_makes_no_second_finding() {
    let (_dir, review) = of_cluster();
    let [pull] = about(&review, "k8s.pod.image_pull")[..] else { panic!("{:#?}", review.findings) };
    assert!(pull.summary.contains("registry.example.invalid/shop/web:4.2.2"), "{}", pull.summary);
    assert!(pull.evidence.len() > 1 && pull.evidence[1].text.starts_with("Failed Pod shop/nopull"), "{pull:#?}");
    assert!(pull.meaning.is_some() && pull.first.is_some());
}

#[test]
fn what_changed_is_told_with_what_it_was() {
    let (_dir, review) = of_cluster();
    let [change] = about(&review, "change.rollout")[..] else { panic!("{:#?}", review.findings) };
    assert_eq!(
        change.summary,
        "Deployment shop/api-gateway: its image changed from docker.io/local/busybox:0 to docker.io/local/busybox:1"
    );
    assert_eq!((change.severity, change.first), (Severity::Info, Some(sealed::at("2026-11-23T14:41:50.118Z"))));
}

#[test]
fn every_citation_of_the_cluster_can_be_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = cluster::sealed(dir.path());
    let review = reviewed(&file);
    let mut casefile = CaseFile::open(&file).unwrap();
    let cited = review.findings.iter().filter(|f| f.kind.starts_with("k8s.") || f.kind == "change.rollout");
    let mut lines = 0;
    for evidence in cited.flat_map(|finding| &finding.evidence) {
        let entry = evidence.entry.as_ref().unwrap();
        let bytes = casefile.entries.read(entry, Bytes::mib(4)).unwrap();
        assert!(evidence.sha256.is_some(), "{evidence:?}");
        if evidence.kind == EvidenceKind::Line {
            lines += 1;
            let offset = usize::try_from(evidence.offset.unwrap()).unwrap();
            assert!(bytes[offset..].starts_with(evidence.text.as_bytes()), "{evidence:?}");
        }
    }
    assert_eq!(lines, 1);
}

#[test]
fn the_timeline_has_warnings_and_changes_of_the_cluster() {
    let (_dir, review) = of_cluster();
    let rows: Vec<_> = review.timeline.iter().filter(|row| row.timestamp_desc == What::Kubernetes).collect();
    assert!(
        rows.iter().any(|row| row.id == "k8s.pod.unschedulable" && row.message.starts_with("FailedScheduling Pod"))
    );
    assert!(rows.iter().any(|row| row.id == "k8s.pod.image_pull" && row.node == "node1" && row.until.is_some()));
    assert!(rows.iter().any(|row| row.message == "Pod shop/hungry: status.conditions.Ready from True to False"));
    assert!(!rows.iter().any(|row| row.message.starts_with("Pulled ")), "what is ordinary is left out");
    let rollout = rows.iter().find(|row| row.id == "k8s.change" && row.message.starts_with("Deployment")).unwrap();
    assert!(rollout.finding.is_some() && rollout.line == Some(1), "{rollout:?}");
}

#[test]
fn pods_without_logs_and_containers_have_the_names_that_their_objects_give_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut casefile = CaseFile::open(&cluster::sealed(dir.path())).unwrap();
    let pods = Pods::known(&mut casefile, &"node1".parse().unwrap());
    // Of this run, and of the one before.
    for id in [
        "df0797f5f517b5317686108220fe30b9662eec3158c48b6b1972dfff5036e783",
        "b7f57ca5c5278e3e492118d1f02cd8e14aeea4aa8eb87e834a224fd0dc3b8332",
    ] {
        assert_eq!(pods.container(id), Some("app"), "{id}");
    }
    let named: Vec<_> = Cluster::read(&mut casefile)
        .pods_on("node1")
        .map(|pod| pods.pod(pod.meta.uid.as_deref().unwrap()).name.unwrap())
        .collect();
    assert!(named.len() > 8 && named.iter().any(|name| name.starts_with("shop/crasher-")), "{named:?}");
    assert_eq!(Pods::known(&mut casefile, &"elsewhere".parse().unwrap()).container("df0797f5"), None);
}

#[test]
fn without_cluster_evidence_nothing_is_clear() {
    let dir = tempfile::tempdir().unwrap();
    let review = reviewed(&seal(dir.path(), &[Node { name: "n-1", ahead: Some(0), logs: vec![], gaps: vec![] }]));
    let rows: Vec<_> = review.document.checks.iter().filter(|row| row.id.starts_with("k8s")).collect();
    let [row] = rows[..] else { panic!("{rows:#?}") };
    assert_eq!((row.verdict, row.missing.as_slice()), (CheckVerdict::CannotTell, &[NO_EVIDENCE.to_owned()][..]));
}

#[test]
fn a_kind_of_which_there_is_no_list_is_not_clear() {
    let dir = tempfile::tempdir().unwrap();
    let mut entries = cluster::entries();
    entries.retain(|(path, _)| !path.as_str().contains("/nodes.json"));
    let review = reviewed(&seal_with(dir.path(), &[cluster::node()], cluster::window(), entries));
    let row = review.document.checks.iter().find(|row| row.id == "k8s.nodes").unwrap();
    assert_eq!(row.verdict, CheckVerdict::CannotTell);
    assert_eq!(row.missing, ["cluster: there is no list of Node objects"]);
}

fn with(kind: &str, bytes: impl Into<Vec<u8>>) -> Cluster {
    let dir = tempfile::tempdir().unwrap();
    let path: EntryPath = format!("data/cluster/cluster-resources/{kind}/shop.json").parse().unwrap();
    let file = seal_with(dir.path(), &[cluster::node()], cluster::window(), vec![(path, bytes.into())]);
    Cluster::read(&mut CaseFile::open(&file).unwrap())
}

#[test]
fn broken_objects_are_named_and_the_rest_is_taken() {
    let good = r#"{"metadata":{"name":"a","namespace":"shop"},"status":{"phase":"Running"}}"#;
    for (text, pods, why) in [
        (format!(r#"{{"items":[{good},{{"metadata":7}},{good}]}}"#), 2, "object 2 has no name"),
        (format!(r#"{{"items":[{good},"x",null]}}"#), 1, "object 3 has no name"),
        (format!(r#"[{good},{good}"#), 2, "object 3: EOF"),
        (format!(r#"{{"items":[{good}],"kind":"#), 1, "EOF"),
        (good.to_owned(), 0, "no list of objects"),
        ("\u{0}".to_owned(), 0, "expected value"),
        (format!(r#"{{"items":[{good},{}]}}"#, "[".repeat(500)), 1, "recursion limit"),
        (
            format!(r#"{{"items":[{good},{{"metadata":{{"name":"{}"}}}},{good}]}}"#, "x".repeat(5 << 20)),
            1,
            "larger than",
        ),
    ] {
        let cluster = with("pods", text.clone());
        assert_eq!(cluster.pods.len(), pods, "{}", &text[..text.len().min(200)]);
        assert!(cluster.unread.iter().any(|(_, said)| said.contains(why)), "{why}: {:?}", cluster.unread);
        assert!(cluster.lacks(Kind::Pod).is_some(), "what could not be read to its end is not all of it");
    }
    let sound = with("pods", format!(r#"{{"kind":"PodList","items":[{good}],"metadata":{{}}}}"#));
    assert_eq!((sound.pods.len(), sound.lacks(Kind::Pod), sound.unread.len()), (1, None, 0));
    assert_eq!(with("pods", r#"{"items":null}"#).lacks(Kind::Pod), None);
}

/// One entry in memory.
struct One(EntryInfo, Vec<u8>);

impl Entries for One {
    fn list(&self) -> &[EntryInfo] {
        std::slice::from_ref(&self.0)
    }

    fn find(&self, path: &EntryPath) -> Option<&EntryInfo> {
        (self.0.path == *path).then_some(&self.0)
    }

    fn entry(&mut self, _: &EntryPath) -> Result<Box<dyn Read + '_>, OpenError> {
        Ok(Box::new(self.1.as_slice()))
    }
}

/// What a list or the changes of these bytes are read as.
fn read_as(path: &str, bytes: &[u8]) -> Cluster {
    static CASE: OnceLock<(IncidentFile, Coverage)> = OnceLock::new();
    let (incident, coverage) = CASE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let casefile = CaseFile::open(&seal(dir.path(), &[])).unwrap();
        (casefile.incident, casefile.coverage)
    });
    let info = EntryInfo { path: path.parse().unwrap(), size: bytes.len() as u64 };
    let entries = Box::new(One(info, bytes.to_vec()));
    Cluster::read(&mut CaseFile { entries, incident: incident.clone(), coverage: coverage.clone() })
}

const LISTS: [(&str, &str); 4] = [
    ("pods.json", "data/cluster/cluster-resources/pods/shop.json"),
    ("events.json", "data/cluster/cluster-resources/events/shop.json"),
    ("endpointslices.json", "data/cluster/cluster-resources/endpointslices/shop.json"),
    ("nodes.json", "data/cluster/cluster-resources/nodes.json"),
];

#[test]
fn a_list_that_is_cut_anywhere_gives_what_was_whole_and_says_so() {
    let whole = cluster::fixture("pods.json");
    let text = whole.trim_ascii_end();
    let mut before = 0;
    for cut in (0..text.len()).step_by(131) {
        let cluster = read_as(LISTS[0].1, &text[..cut]);
        assert!(cluster.pods.len() >= before && cluster.lacks(Kind::Pod).is_some(), "at {cut}");
        before = cluster.pods.len();
    }
    assert!(before >= 10, "{before}");
    assert_eq!((read_as(LISTS[0].1, &whole).pods.len(), read_as(LISTS[0].1, &whole).lacks(Kind::Pod)), (11, None));
}

proptest! {
    #[test]
    fn no_bytes_end_it(which in 0..LISTS.len(), at in any::<prop::sample::Index>(), bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let (fixture, path) = LISTS[which];
        let mut text = cluster::fixture(fixture);
        let at = at.index(text.len());
        let until = (at + bytes.len()).min(text.len());
        text.splice(at..until, bytes.iter().copied());
        let cluster = read_as(path, &text);
        prop_assert!(cluster.present && cluster.unread.iter().all(|(_, why)| !why.is_empty()));
        let changes = read_as("data/cluster/changes.jsonl", &bytes);
        prop_assert!(changes.has_changes && changes.changes.is_empty());
    }
}

#[test]
fn names_that_are_traps_name_nothing_else() {
    let cluster = with(
        "pods",
        r#"{"items":[{"metadata":{"name":"../../etc","namespace":"\u001b[2J","uid":"u"},"spec":{"nodeName":"n; rm -rf /"},"status":{"phase":"Pending","conditions":[{"type":"PodScheduled","status":"False","message":"; F1 forged\nsecond"}]}}]}"#,
    );
    assert_eq!(cluster.pods[0].meta.called(), "\u{1b}[2J/../../etc");
    let dir = tempfile::tempdir().unwrap();
    let path: EntryPath = "data/cluster/cluster-resources/pods/shop.json".parse().unwrap();
    let text = r#"{"items":[{"metadata":{"name":"a","namespace":"b"},"spec":{"nodeName":"n; rm"},"status":{"phase":"Pending","conditions":[{"type":"PodScheduled","status":"False","message":"; F1 forged\nsecond"}]}}]}"#;
    let review = reviewed(&seal_with(dir.path(), &[], cluster::window(), vec![(path, text.into())]));
    let [one] = about(&review, "k8s.pod.unschedulable")[..] else { panic!("{:#?}", review.findings) };
    assert_eq!((one.summary.as_str(), one.node.as_ref()), ("b/a: no node takes it (, F1 forged…)", None));
}
