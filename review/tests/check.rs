//! The checks over the recorded demonstration: its four causes are found and stand above everything else, nothing that is not there is
//! found, and what is missing is not taken for health. Over a case file of nothing, every check says that it cannot tell.

#![expect(clippy::unwrap_used, reason = "in a test everything that fails ends the test")]

mod sealed;

use std::path::PathBuf;
use std::sync::OnceLock;

use casefile_demo::PLANTED;
use casefile_evidence::archive::layout;
use casefile_proto::units::Bytes;
use casefile_review::casefile::CaseFile;
use casefile_review::checks;
use casefile_review::finding::{EvidenceKind, Finding, Severity};
use casefile_review::review::{CheckVerdict, Review};
use casefile_review::signatures::catalogue::catalogue;
use casefile_review::told;
use sealed::{Node, at, log, seal};

fn demo() -> &'static PathBuf {
    static MADE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = casefile_demo::write(dir.path()).unwrap();
        (dir, path)
    });
    &made.1
}

fn reviewed() -> &'static (CaseReview, String) {
    static MADE: OnceLock<(CaseReview, String)> = OnceLock::new();
    MADE.get_or_init(|| {
        let mut casefile = CaseFile::open(demo()).unwrap();
        let review = Review::of(&mut casefile, &catalogue().signatures, None).unwrap();
        let text = told::verdict(&review, &casefile.incident);
        (CaseReview(review), text)
    })
}

struct CaseReview(Review);

fn leading() -> Vec<&'static Finding> {
    reviewed().0.0.findings.iter().filter(|finding| finding.part_of.is_none()).collect()
}

#[test]
fn the_four_planted_causes_are_found_and_stand_above_everything_else() {
    let leading = leading();
    let mut first: Vec<_> = leading.iter().take(PLANTED.len()).map(|f| f.node.as_ref().unwrap().as_str()).collect();
    first.sort_unstable();
    let mut planted: Vec<_> = PLANTED.iter().map(|planted| planted.node).collect();
    planted.sort_unstable();
    assert_eq!(first, planted);
    for cause in PLANTED {
        let found = leading.iter().find(|f| f.node.as_ref().is_some_and(|node| node.as_str() == cause.node)).unwrap();
        assert!(found.severity >= Severity::Error, "{found:#?}");
        let away = found.first.unwrap().nanos_since(cause.at()).unsigned_abs();
        assert!(away <= 60_000_000_000, "{} is {away} ns from {}", cause.what, found.summary);
    }
}

/// What became of the causes in the cluster: the database without its disk, and the job without its GPU.
const BECAME: [(&str, &str); 5] = [
    ("k8s.argocd.health", "Application argocd/ledger"),
    ("k8s.pod.create_failed", "StatefulSet ledger/postgres"),
    ("k8s.pod.failed", "PyTorchJob ml/pretrain-70b"),
    ("k8s.pod.unhealthy", "Deployment shop/api"),
    ("k8s.service.no_endpoints", "Service ledger/postgres"),
];

#[test]
fn nothing_that_is_not_there_is_found() {
    let planted: Vec<_> = PLANTED.iter().map(|planted| planted.node).collect();
    let became = |finding: &Finding| BECAME.contains(&(&*finding.kind, finding.subject.as_deref().unwrap_or("")));
    for finding in &reviewed().0.0.findings {
        let node = finding.node.as_ref().map_or("", |node| node.as_str());
        let is_there = planted.contains(&node) || became(finding);
        assert!(is_there || finding.severity == Severity::Info, "on {node}: {}", finding.summary);
    }
    let others: Vec<_> = leading().into_iter().skip(PLANTED.len()).collect();
    assert!(others.iter().all(|finding| finding.severity == Severity::Info || became(finding)), "{others:#?}");
}

#[test]
fn what_became_of_the_causes_in_the_cluster_is_found_and_stands_behind_them() {
    let findings = &reviewed().0.0.findings;
    for (kind, subject) in BECAME {
        let is = |finding: &&Finding| finding.kind == kind && finding.subject.as_deref() == Some(subject);
        assert!(findings.iter().any(|finding| is(&finding)), "{kind} {subject}");
    }
    let of = |kind: &str| findings.iter().find(|finding| finding.kind == kind).unwrap();
    let (killed, silent) = (of("mem.oom.memcg"), of("node.silent"));
    assert!(killed.summary.contains("(container api, 2 restarts)"), "{}", killed.summary);
    assert_eq!(of("k8s.pod.crashloop").part_of.as_deref(), Some(killed.id.as_str()));
    assert_eq!(of("k8s.node.not_ready").part_of.as_deref(), Some(silent.id.as_str()));
    assert!(findings.iter().all(|finding| finding.kind != "k8s.pod.not_ready"), "told of the node");
}

#[test]
fn every_finding_cites_what_can_be_found_again() {
    let mut casefile = CaseFile::open(demo()).unwrap();
    let mut references = std::collections::BTreeSet::new();
    for finding in &reviewed().0.0.findings {
        assert!(!finding.evidence.is_empty(), "{}", finding.summary);
        assert!(
            !finding.summary.contains(';'),
            "the sentence of the verdict is made of parts with a semicolon between: {}",
            finding.summary
        );
        for evidence in &finding.evidence {
            assert!(references.insert(evidence.reference.clone()), "{} twice", evidence.reference);
            let entry = evidence.entry.as_ref().unwrap();
            assert!(casefile.entries.find(entry).is_some(), "{entry}");
            if evidence.kind == EvidenceKind::Coverage {
                continue;
            }
            assert!(evidence.sha256.is_some(), "{}", evidence.text);
            if evidence.kind == EvidenceKind::Line {
                let bytes = casefile.entries.read(entry, Bytes::mib(64)).unwrap();
                let offset = usize::try_from(evidence.offset.unwrap()).unwrap();
                let line = bytes[offset..].split(|b| *b == b'\n').next().unwrap();
                assert!(String::from_utf8_lossy(line).ends_with(&evidence.text), "{}", evidence.text);
                let number = bytes[..offset].iter().filter(|b| **b == b'\n').count() as u64 + 1;
                assert_eq!(Some(number), evidence.line);
            }
        }
    }
}

#[test]
fn silence_is_not_health() {
    let review = &reviewed().0.0;
    let dead = "batch-02";
    let cannot_tell =
        review.document.checks.iter().filter(|row| {
            row.verdict == CheckVerdict::CannotTell && row.nodes.iter().any(|node| node.as_str() == dead)
        });
    assert!(cannot_tell.count() > 30, "a node of which a quarter of the window is missing is clear of nearly nothing");
    assert!(review.document.verdict.sentence.contains(dead));
}

#[test]
fn the_same_case_file_gives_the_same_documents() {
    let mut casefile = CaseFile::open(demo()).unwrap();
    let again = Review::of(&mut casefile, &catalogue().signatures, None).unwrap();
    assert_eq!(again.documents().unwrap(), reviewed().0.0.documents().unwrap());
}

#[test]
fn beyond_the_budget_nothing_is_looked_at_and_every_check_says_so() {
    let mut casefile = CaseFile::open(demo()).unwrap();
    let review = Review::of(&mut casefile, &catalogue().signatures, Some(Bytes(1))).unwrap();
    assert!(review.findings.is_empty());
    assert!(review.document.checks.iter().all(|row| row.verdict == CheckVerdict::CannotTell));
    assert!(review.document.verdict.sentence.contains("12 nodes"), "{}", review.document.verdict.sentence);
}

#[test]
fn of_a_case_file_of_nothing_nothing_is_clear_but_what_was_never_there() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node { name: "n-1", ahead: None, logs: vec![], gaps: vec![] };
    let file = seal(dir.path(), &[node]);
    let mut casefile = CaseFile::open(&file).unwrap();
    casefile.coverage.nodes[0].sources.clear();
    casefile.coverage.nodes[0].gaps = vec![casefile_proto::gap::Gap::new(
        casefile_proto::gap::GapReason::SourceFailed,
        "nothing was read".to_owned(),
    )];
    let review = Review::of(&mut casefile, &catalogue().signatures, None).unwrap();
    assert!(review.findings.is_empty(), "{:#?}", review.findings);
    let nothing_needed = ["node.silent", "node.previous_boot", "evidence.damaged"];
    for row in &review.document.checks {
        let may = nothing_needed.contains(&row.id.as_str());
        assert_eq!(row.verdict == CheckVerdict::Clear, may, "{}", row.id);
    }
    assert_eq!(review.document.checks.len(), checks::all().count() + 1);
}

#[test]
fn a_record_that_a_program_wrote_itself_is_no_fault_of_the_kernel() {
    let line = "2026-12-31T22:59:30.000000Z facility=user level=err seq=7 user=true NVRM: Xid (PCI:0000:84:00): 79, pid=1, GPU has fallen off the bus.\n";
    let dir = tempfile::tempdir().unwrap();
    let node = Node { name: "n-1", ahead: Some(0), logs: vec![log("logs/kernel.log", None, line)], gaps: vec![] };
    let mut casefile = CaseFile::open(&seal(dir.path(), &[node])).unwrap();
    let review = Review::of(&mut casefile, &catalogue().signatures, None).unwrap();
    let [finding] = &review.findings[..] else { panic!("{:#?}", review.findings) };
    assert_eq!(finding.severity, Severity::Warning);
    assert!(finding.summary.contains("written by a program"), "{}", finding.summary);
    assert_eq!(finding.first, Some(at("2026-12-31T22:59:30Z")));
}

#[test]
fn the_verdict_reads_as_it_should() {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/verdict.txt");
    let text = &reviewed().1;
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, text).unwrap();
    }
    let kept = std::fs::read(&golden).unwrap();
    assert_eq!(String::from_utf8(kept).unwrap(), *text, "UPDATE_GOLDEN=1 writes it anew");
}

#[test]
fn the_documents_are_read_again_as_they_were_written() {
    let review = &reviewed().0.0;
    let [document, findings, timeline] = review.documents().unwrap();
    assert_eq!(document.0, layout::path(layout::REVIEW));
    assert_eq!(serde_json::from_slice::<casefile_review::review::Document>(&document.1).unwrap(), review.document);
    let lines = |bytes: &[u8]| bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()).count();
    assert_eq!((lines(&findings.1), lines(&timeline.1)), (review.findings.len(), review.timeline.len()));
    for line in timeline.1.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
        let row: serde_json::Value = serde_json::from_slice(line).unwrap();
        for field in ["message", "datetime", "timestamp_desc"] {
            assert!(row[field].is_string(), "{row}");
        }
    }
    assert!(review.timeline.is_sorted_by_key(|row| row.datetime));
}
