//! Sealing over real spools and last words: what is in the archive, in which order, and what a failure leaves.

use casefile_evidence::recording::reader::{Piece, Recording};
use casefile_proto::coverage::{NodeState, SourceCoverage};
use casefile_proto::gap::GapReason;
use casefile_proto::ids::IncidentId;
use casefile_proto::incident::{IncidentAsk, Severity, Trigger};
use casefile_proto::item::EntryPath;
use casefile_proto::scope::Scope;
use casefile_proto::time::{ClockOffset, WallTime, Window};
use casefile_proto::units::Bytes;
use std::io::Read;
use std::ops::ControlFlow;

use super::*;
use crate::incident::test_nodes::{
    START, Sent, answer, collectable, deposit, last_words, log, name, recording, segment, window,
};

struct Bench {
    dir: tempfile::TempDir,
    window: Window,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("archives")).unwrap();
        Self { dir, window: window(0, 60) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A node that answered with one log and its recording.
    fn answered(&self, node: &str) -> SealNode {
        let spool = self.path(&format!("spool-{node}"));
        deposit(&spool, 0, recording(), &segment(self.dir.path(), node, 0..60), Sent::Whole);
        deposit(&spool, 1, log("logs/files/app.log"), b"one\ntwo\n", Sent::Whole);
        SealNode {
            node: name(node),
            collectable: collectable(),
            spool,
            answer: Some(answer(self.window)),
            asked: Asked { window: self.window, clock: Some(ClockOffset { ahead_nanos: 0, bound_nanos: 9 }) },
            ended: Ended::Connected,
            last_words: None,
        }
    }

    /// A node that is gone and left nothing in its spool.
    fn gone(&self, node: &str) -> SealNode {
        let spool = self.path("no-spool");
        SealNode { spool, answer: None, ended: Ended::Away, ..self.answered(node) }
    }

    fn job(&self, nodes: Vec<SealNode>) -> SealJob {
        let ask = IncidentAsk {
            title: "t".to_owned(),
            reason: "r".to_owned(),
            requested_by: "me".to_owned(),
            severity: Severity::Sev3,
            trigger: Trigger::Person,
            runbook: None,
            window: self.window,
            nodes: vec![],
            scope: Scope::default(),
        };
        let title = Title {
            ask,
            incident: Some(IncidentId(7)),
            sealed_at: WallTime::from_secs(START + 100),
            sealed_by: "test".to_owned(),
        };
        let key = SigningKey::load_or_create(&self.path("key")).unwrap();
        let (archives, scratch) = (self.path("archives"), self.path("scratch"));
        SealJob { title, nodes, archives, scratch, key: Arc::new(key) }
    }

    fn archive(&self, sealed: &SealedIncident) -> Archive {
        Archive::open(&self.path("archives").join(&sealed.archive.file_name), Limits::default()).unwrap()
    }
}

fn entry(archive: &mut Archive, path: &str) -> Vec<u8> {
    let mut content = Vec::new();
    archive.entry(&path.parse::<EntryPath>().unwrap()).unwrap().read_to_end(&mut content).unwrap();
    content
}

fn seconds(segment: &[u8]) -> Vec<i64> {
    let mut seconds = Vec::new();
    let mut recording = Recording::from_segment(&mut &segment[..], Bytes::mib(1)).unwrap();
    let mut each = |piece| {
        if let Piece::Frame(frame) = piece {
            seconds.push(frame.at.wall.nanos() / 1_000_000_000 - START);
        }
        ControlFlow::Continue(())
    };
    recording.pieces(None, &mut each).unwrap();
    seconds
}

fn row<'a>(sealed: &'a SealedIncident, source: &str) -> &'a SourceCoverage {
    sealed.coverage.nodes[0].sources.iter().find(|s| s.source == source).unwrap()
}

#[test]
fn what_nodes_gave_lies_in_the_archive_as_they_gave_it_and_it_verifies() {
    let bench = Bench::new();
    let sealed = seal(&bench.job(vec![bench.answered("a"), bench.answered("b")])).unwrap();
    assert!(sealed.archive.whole, "{:#?}", sealed.coverage);
    let mut archive = bench.archive(&sealed);
    let payload: Vec<_> =
        archive.entries().iter().map(|e| e.path.to_string()).filter(|p| p.starts_with("data/")).collect();
    let expected = [
        "data/coverage.json",
        "data/incident.json",
        "data/nodes/a/items.jsonl",
        "data/nodes/a/logs/files/app.log",
        "data/nodes/a/recording/window.seg",
        "data/nodes/b/items.jsonl",
        "data/nodes/b/logs/files/app.log",
        "data/nodes/b/recording/window.seg",
    ];
    assert_eq!(payload, expected);
    assert_eq!(entry(&mut archive, "data/nodes/a/logs/files/app.log"), b"one\ntwo\n");
    assert_eq!(seconds(&entry(&mut archive, "data/nodes/b/recording/window.seg")), (0..60).collect::<Vec<_>>());
    let items = String::from_utf8(entry(&mut archive, "data/nodes/a/items.jsonl")).unwrap();
    assert_eq!(items.lines().count(), 2);
    assert!(items.contains("\"path\":\"data/nodes/a/logs/files/app.log\"") && items.contains("\"whole\":true"));
    assert_eq!(fs::read_dir(bench.path("archives")).unwrap().count(), 1, "nothing unfinished is left");
}

#[test]
fn the_same_incident_sealed_twice_gives_the_same_bytes() {
    let bench = Bench::new();
    let job = bench.job(vec![bench.answered("a"), bench.answered("b")]);
    let first = seal(&job).unwrap();
    let second = seal(&job).unwrap();
    assert_eq!(first.archive, second.archive);
}

#[test]
fn a_node_that_died_is_sealed_from_its_last_words() {
    let bench = Bench::new();
    last_words(&bench.path("lw"), "a", -30..40);
    let node = SealNode { last_words: Some(bench.path("lw")), ..bench.gone("a") };
    let sealed = seal(&bench.job(vec![node])).unwrap();
    assert_eq!(sealed.coverage.nodes[0].state, NodeState::LastWords);
    assert_eq!(row(&sealed, "load").outcomes.complete, 40);
    assert_eq!(row(&sealed, "files").gaps[0].reason, GapReason::NodeSilent);
    let gaps: Vec<_> = sealed.coverage.nodes[0].gaps.iter().map(|g| (g.reason, g.interval)).collect();
    assert_eq!(
        gaps,
        [(GapReason::NodeSilent, Some(window(40, 60)))],
        "its ring may hold the rest: nobody says that it is not recorded"
    );
    let segment = entry(&mut bench.archive(&sealed), "data/nodes/a/recording/window.seg");
    assert_eq!(seconds(&segment), (0..40).collect::<Vec<_>>(), "the window, and nothing outside it");
}

#[test]
fn a_node_of_which_there_is_nothing_is_silent() {
    let bench = Bench::new();
    let sealed = seal(&bench.job(vec![bench.gone("a")])).unwrap();
    assert_eq!(sealed.coverage.nodes[0].state, NodeState::Silent);
    assert!(!sealed.archive.whole);
}

#[test]
fn a_recording_that_was_cut_short_goes_on_with_last_words_and_no_frame_is_there_twice() {
    let bench = Bench::new();
    let mut node = bench.gone("a");
    node.spool = bench.path("cut");
    deposit(&node.spool, 0, recording(), &segment(bench.dir.path(), "a", 0..25), Sent::CutShort);
    last_words(&bench.path("lw"), "a", 10..60);
    node.last_words = Some(bench.path("lw"));
    let sealed = seal(&bench.job(vec![node])).unwrap();
    assert_eq!(sealed.coverage.nodes[0].state, NodeState::Trimmed);
    assert_eq!(row(&sealed, "load").outcomes.complete, 60);
    assert_eq!(row(&sealed, "load").gaps, [], "{:#?}", sealed.coverage);
    let mut archive = bench.archive(&sealed);
    assert_eq!(seconds(&entry(&mut archive, "data/nodes/a/recording/window.seg")), (0..25).collect::<Vec<_>>());
    assert_eq!(seconds(&entry(&mut archive, "data/nodes/a/recording/last-words.seg")), (25..60).collect::<Vec<_>>());
}

#[test]
fn a_recording_without_an_answer_is_read_to_see_what_it_covers() {
    let bench = Bench::new();
    let mut node = bench.gone("a");
    node.spool = bench.path("unanswered");
    deposit(&node.spool, 0, recording(), &segment(bench.dir.path(), "a", 0..60), Sent::Whole);
    let sealed = seal(&bench.job(vec![node])).unwrap();
    assert_eq!((sealed.coverage.nodes[0].state, row(&sealed, "load").outcomes.complete), (NodeState::Trimmed, 60));
}

#[test]
fn a_log_that_was_cut_short_ends_at_a_line_end_and_says_so() {
    let bench = Bench::new();
    let mut node = bench.gone("a");
    node.spool = bench.path("cut-log");
    deposit(&node.spool, 0, log("logs/files/app.log"), b"one\ntwo\nthr", Sent::CutShort);
    let sealed = seal(&bench.job(vec![node])).unwrap();
    assert_eq!(entry(&mut bench.archive(&sealed), "data/nodes/a/logs/files/app.log"), b"one\ntwo\n");
    let gaps: Vec<_> = row(&sealed, "files").gaps.iter().map(|g| g.detail.as_str()).collect();
    assert!(gaps[0].contains("app.log is cut short after 8 bytes"), "{gaps:?}");
}

#[test]
fn a_full_or_missing_disk_leaves_the_spool_and_nothing_else() {
    let bench = Bench::new();
    let mut job = bench.job(vec![bench.answered("a")]);
    job.archives = bench.path("not-there");
    let error = seal(&job).unwrap_err();
    assert!(error.to_string().starts_with("make "), "{error}");
    assert!(!job.scratch.exists());
    job.archives = bench.path("archives");
    assert!(seal(&job).is_ok(), "it is sealed when it is tried again");
}

#[test]
fn evidence_that_changed_on_our_own_disk_is_not_sealed() {
    let bench = Bench::new();
    let node = bench.answered("a");
    let chunks = fs::read_dir(&node.spool).unwrap().map(|e| e.unwrap().path());
    let file = chunks.filter(|p| p.extension().is_some_and(|e| e == "chunks")).max().unwrap();
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 0xff;
    fs::write(&file, bytes).unwrap();
    let job = bench.job(vec![node]);
    assert!(seal(&job).is_err());
    assert_eq!(fs::read_dir(&job.archives).unwrap().count(), 0);
}
