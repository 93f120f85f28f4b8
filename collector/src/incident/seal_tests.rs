//! Sealing over real spools and last words: what is in the archive, in which order, and what a failure leaves.

use casefile_evidence::archive::Amends;
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
        self.answered_into(node, &format!("spool-{node}"))
    }

    /// The same, with its spool under this name; what lies there already stays.
    fn answered_into(&self, node: &str, spool: &str) -> SealNode {
        let spool = self.path(spool);
        if !spool.exists() {
            deposit(&spool, 0, recording(), &segment(self.dir.path(), node, 0..60), Sent::Whole);
            deposit(&spool, 1, log("logs/files/app.log"), b"one\ntwo\n", Sent::Whole);
        }
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
            resource: None,
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
            amends: None,
        };
        let key = SigningKey::load_or_create(&self.path("key")).unwrap();
        let (archives, scratch) = (self.path("archives"), self.path("scratch"));
        let connectivity = self.path("connectivity.jsonl");
        SealJob { title, nodes, archives, connectivity, scratch, key: Arc::new(key), before: None, cluster: None }
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
        "data/findings.jsonl",
        "data/incident.json",
        "data/nodes/a/items.jsonl",
        "data/nodes/a/logs/files/app.log",
        "data/nodes/a/recording/window.seg",
        "data/nodes/b/items.jsonl",
        "data/nodes/b/logs/files/app.log",
        "data/nodes/b/recording/window.seg",
        "data/report.html",
        "data/review.json",
        "data/timeline.jsonl",
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

fn amending(first: &SealedIncident, job: SealJob) -> SealJob {
    let SealedArchive { file_name, sha256, revision, .. } = first.archive.clone();
    let amends = Some(Amends { revision, file_name, sha256 });
    let sealed_at = WallTime::from_secs(START + 900);
    let title = Title { amends, sealed_at, ..job.title };
    SealJob { title, before: Some((first.archive.clone(), first.coverage.clone())), ..job }
}

#[test]
fn a_node_that_came_back_amends_the_archive_and_everything_of_the_first_is_in_the_second() {
    let bench = Bench::new();
    last_words(&bench.path("lw"), "b", 0..40);
    let mut gone = SealNode { last_words: Some(bench.path("lw")), ..bench.gone("b") };
    gone.spool = bench.path("first");
    deposit(&gone.spool, 0, log("logs/files/app.log"), b"one\ntw", Sent::CutShort);
    deposit(&gone.spool, 1, log("logs/files/gone.log"), b"was here\n", Sent::Whole);
    let first = seal(&bench.job(vec![bench.answered("a"), gone.clone()])).unwrap();
    let bytes = fs::read(bench.path("archives").join(&first.archive.file_name)).unwrap();

    // Its disk has not the last ten seconds of before; then it was off for ten, and it runs again.
    let mut back = bench.answered("b");
    back.spool = bench.path("second");
    let own = bench.path("own");
    last_words(&own, "b", 0..30);
    last_words(&own, "b", 50..60);
    let mut whole = Vec::new();
    Recording::open_dir(&own).unwrap().cut(bench.window, &mut whole).unwrap();
    deposit(&back.spool, 0, recording(), &whole, Sent::Whole);
    deposit(&back.spool, 1, log("logs/files/app.log"), b"one\ntwo\nthree\n", Sent::Whole);
    // The other one is not read again: nothing of it is in a spool any more.
    let other = SealNode { spool: bench.path("nothing"), ..bench.answered("a") };
    let second = seal(&amending(&first, bench.job(vec![other, back]))).unwrap();

    assert_eq!((second.archive.revision, first.archive.revision), (2, 1));
    assert!(second.archive.file_name.ends_with("_r2.tar.gz"));
    let still = fs::read(bench.path("archives").join(&first.archive.file_name)).unwrap();
    assert!(still == bytes, "the first stays as it is");
    let mut archive = bench.archive(&second);
    let info = String::from_utf8(entry(&mut archive, "bag-info.txt")).unwrap();
    let named =
        format!("Casefile-Revision: 2\nCasefile-Amends: {} {}\n", first.archive.file_name, first.archive.sha256);
    assert!(info.ends_with(&named), "{info}");
    let paths: Vec<_> = archive.entries().iter().map(|e| e.path.to_string()).collect();
    let of_b: Vec<_> = paths.iter().filter_map(|p| p.strip_prefix("data/nodes/b/")).collect();
    let expected = [
        "items.jsonl",
        "logs/files/app.log",
        "logs/files/gone.log",
        "recording/last-words.seg",
        "recording/window.seg",
    ];
    assert_eq!(of_b, expected);
    for same in ["items.jsonl", "logs/files/app.log", "recording/window.seg"] {
        let path = format!("data/nodes/a/{same}");
        assert_eq!(entry(&mut archive, &path), entry(&mut bench.archive(&first), &path), "{path}");
    }
    assert_eq!(entry(&mut archive, "data/nodes/b/logs/files/app.log"), b"one\ntwo\nthree\n");
    assert_eq!(entry(&mut archive, "data/nodes/b/logs/files/gone.log"), b"was here\n", "what is rotated away since");
    let before = seconds(&entry(&mut archive, "data/nodes/b/recording/last-words.seg"));
    assert_eq!(before, (30..40).collect::<Vec<_>>(), "what had not reached its disk, and no frame twice");

    let [a, b] = &second.coverage.nodes[..] else { panic!("two nodes") };
    assert_eq!(a, &first.coverage.nodes[0]);
    assert_eq!((b.state, first.coverage.nodes[1].state), (NodeState::Answered, NodeState::Trimmed));
    let load = b.sources.iter().find(|s| s.source == "load").unwrap();
    assert_eq!((load.outcomes.complete, &load.covered[..]), (50, &[window(0, 40), window(50, 60)][..]));
    let amended = b.amended.as_ref().unwrap();
    assert_eq!((amended.revision, amended.sealed_at), (2, WallTime::from_secs(START + 900)));
    let closed = |source: Option<&str>, reason| {
        amended.closed.iter().any(|c| c.source.as_deref() == source && c.gap.reason == reason)
    };
    assert!(closed(None, GapReason::NodeSilent) && closed(Some("files"), GapReason::NodeSilent), "{amended:#?}");
}

#[test]
fn a_node_that_stays_away_has_in_the_second_archive_what_it_had_in_the_first() {
    let bench = Bench::new();
    last_words(&bench.path("lw"), "b", 0..40);
    let away = SealNode { last_words: Some(bench.path("lw")), ..bench.gone("b") };
    let silent = bench.gone("c");
    let first = seal(&bench.job(vec![away.clone(), silent])).unwrap();
    // Its last words may be gone by then.
    let away = SealNode { last_words: None, ..away };
    let second = seal(&amending(&first, bench.job(vec![away, bench.answered("c")]))).unwrap();
    assert_eq!(second.coverage.nodes[0], first.coverage.nodes[0]);
    assert_eq!(second.coverage.nodes[1].state, NodeState::Answered);
    let path = "data/nodes/b/recording/window.seg";
    assert_eq!(entry(&mut bench.archive(&second), path), entry(&mut bench.archive(&first), path));
}

#[test]
fn a_node_that_came_back_without_its_recording_keeps_that_of_before() {
    let bench = Bench::new();
    last_words(&bench.path("lw"), "a", 0..40);
    let first = seal(&bench.job(vec![SealNode { last_words: Some(bench.path("lw")), ..bench.gone("a") }])).unwrap();
    let mut back = bench.gone("a");
    back.spool = bench.path("second");
    deposit(&back.spool, 0, log("logs/files/app.log"), b"one\n", Sent::Whole);
    let second = seal(&amending(&first, bench.job(vec![back]))).unwrap();
    assert_eq!(second.coverage.nodes[0].state, NodeState::Trimmed);
    assert_eq!(row(&second, "load").outcomes.complete, 40);
    let path = "data/nodes/a/recording/window.seg";
    assert_eq!(entry(&mut bench.archive(&second), path), entry(&mut bench.archive(&first), path));
}

#[test]
fn an_archive_that_is_not_what_was_sealed_is_not_amended() {
    let bench = Bench::new();
    let first = seal(&bench.job(vec![bench.gone("a")])).unwrap();
    let file = bench.path("archives").join(&first.archive.file_name);
    fs::write(&file, [fs::read(&file).unwrap(), vec![0]].concat()).unwrap();
    let refused = seal(&amending(&first, bench.job(vec![bench.answered("a")]))).unwrap_err();
    assert!(matches!(refused, SealError::Before(_)), "{refused}");
    assert_eq!(fs::read_dir(bench.path("archives")).unwrap().count(), 1);
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

#[test]
fn tests_of_connectivity_of_the_window_are_evidence_and_stay_so_when_it_is_amended() {
    use casefile_proto::connectivity::{ConnectivityTest, NodeOutcome, NodeResult, Untested, UntestedReason};
    let bench = Bench::new();
    let test = |at: i64| ConnectivityTest {
        at: WallTime::from_secs(START + at),
        name: "api".to_owned(),
        target: "tcp://api.shop.svc:80".parse().unwrap(),
        asked_by: "kim".to_owned(),
        nodes: vec![NodeResult {
            node: name("a"),
            outcome: NodeOutcome::Untested(Untested { reason: UntestedReason::TooOld, detail: String::new() }),
        }],
    };
    let path = bench.path("connectivity.jsonl");
    let kept = kept::Kept::open(&path).unwrap();
    [-1, 30, 60].into_iter().for_each(|at| kept.append(&test(at)).unwrap());
    let sealed = seal(&bench.job(vec![bench.answered("a"), bench.gone("b")])).unwrap();
    let mut archive = bench.archive(&sealed);
    let lines = entry(&mut archive, "data/connectivity.jsonl");
    let wanted = casefile_evidence::archive::connectivity::lines(&test(30)).unwrap();
    assert_eq!(lines, wanted.concat(), "those of the window and no other");
    let manifest = String::from_utf8(entry(&mut archive, "manifest-sha256.txt")).unwrap();
    assert!(manifest.contains("  data/connectivity.jsonl\n"), "{manifest}");
    let timeline = String::from_utf8(entry(&mut archive, "data/timeline.jsonl")).unwrap();
    let row = timeline.lines().find(|line| line.contains("\"timestamp_desc\":\"connectivity\"")).unwrap();
    assert!(row.contains("kim tested api (tcp://api.shop.svc:80) from 1 node: nobody can tell"), "{row}");
    // By then the collector has forgotten them.
    fs::remove_file(&path).unwrap();
    let mut job = bench.job(vec![bench.answered_into("b", "late")]);
    job.title.amends =
        Some(Amends { revision: 1, file_name: sealed.archive.file_name.clone(), sha256: sealed.archive.sha256 });
    job.before = Some((sealed.archive, sealed.coverage));
    let amended = seal(&job).unwrap();
    assert_eq!(entry(&mut bench.archive(&amended), "data/connectivity.jsonl"), lines);
}
