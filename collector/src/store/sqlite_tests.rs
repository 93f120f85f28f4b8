//! What the index must find again, and what it refuses.

use casefile_proto::coverage::{NodeCoverage, NodeState};
use casefile_proto::incident::{SealedArchive, Severity, Trigger};
use casefile_proto::item::Digest;
use casefile_proto::scope::{Scope, Selection};
use casefile_proto::time::{ClockOffset, WallTime, Window};

use super::*;
use crate::incident::machine::Answer;
use crate::store::Asked;

fn name(s: &str) -> NodeName {
    s.parse().unwrap()
}

fn window() -> Window {
    Window::new(WallTime::from_secs(100), WallTime::from_secs(200)).unwrap()
}

fn ask() -> IncidentAsk {
    IncidentAsk {
        title: "t".to_owned(),
        reason: "because \"quotes\" and \u{1b}[31m".to_owned(),
        requested_by: "me".to_owned(),
        severity: Severity::Sev2,
        trigger: Trigger::Person,
        runbook: None,
        window: window(),
        nodes: vec![],
        scope: Scope::default(),
    }
}

fn open(store: &SqliteStore, nodes: &[&str]) -> Record {
    let plan = Plan::new(window(), WallTime::from_secs(150), Duration::from_secs(30));
    let nodes: Vec<_> = nodes.iter().map(|n| name(n)).collect();
    store.open_incident(&ask(), &plan, &nodes).unwrap()
}

fn ids(page: &IncidentPage) -> Vec<u64> {
    page.incidents.iter().map(|i| i.id.0).collect()
}

#[test]
fn an_incident_is_found_again_after_a_restart_as_it_was_saved() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.sqlite");
    let mut record = open(&SqliteStore::open(&path).unwrap(), &["b", "a"]);
    record.state = IncidentState::Failed;
    record.failure = Some("the disk is full".to_owned());
    let member = record.members.get_mut(&name("a")).unwrap();
    member.phase = NodePhase::Answered;
    member.answer = Some(Answer::default());
    member.asked = Some(Asked { window: window(), clock: Some(ClockOffset { ahead_nanos: -5, bound_nanos: 7 }) });
    SqliteStore::open(&path).unwrap().save(&record).unwrap();

    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(store.incident(record.id).unwrap().as_ref(), Some(&record));
    assert_eq!(store.unfinished().unwrap(), std::slice::from_ref(&record));
    assert_eq!(record.summary().expected, [name("a"), name("b")]);
    assert_eq!(store.incident(IncidentId(99)).unwrap(), None);
}

#[test]
fn an_incident_of_before_there_was_a_scope_asks_for_everything() {
    let store = SqliteStore::in_memory();
    let record = open(&store, &["a"]);
    let kept: String = store.lock().query_row("SELECT ask FROM incidents", [], |row| row.get(0)).unwrap();
    assert!(!kept.contains("scope"), "what asks for nothing special is kept as it always was: {kept}");
    assert_eq!(store.incident(record.id).unwrap(), Some(record));

    let select = Selection { pods: vec!["api".to_owned()], ..Selection::default() };
    let narrow = IncidentAsk { scope: Scope { sources: vec!["pods".to_owned()], select }, ..ask() };
    let plan = Plan::new(window(), WallTime::from_secs(150), Duration::from_secs(30));
    let record = store.open_incident(&narrow, &plan, &[name("a")]).unwrap();
    assert_eq!(store.incident(record.id).unwrap().map(|r| r.ask), Some(narrow));
}

#[test]
fn a_sealed_incident_has_its_archive_and_coverage_and_is_finished() {
    let store = SqliteStore::in_memory();
    let mut record = open(&store, &["a"]);
    let node = NodeCoverage { node: name("a"), state: NodeState::Silent, clock: None, sources: vec![], gaps: vec![] };
    let coverage = Coverage { window: window(), nodes: vec![node], scope: Scope::default() };
    assert_eq!(store.coverage(record.id).unwrap(), None);
    record.state = IncidentState::Sealed;
    record.archive = Some(SealedArchive {
        file_name: "x.tar.gz".to_owned(),
        size: 9,
        sha256: Digest([7; 32]),
        sealed_at: WallTime::from_secs(300),
        whole: false,
    });
    store.save_sealed(&record, &coverage).unwrap();
    assert_eq!(store.incident(record.id).unwrap(), Some(record.clone()));
    assert_eq!(store.coverage(record.id).unwrap(), Some(coverage));
    assert_eq!(store.unfinished().unwrap(), []);
}

#[test]
fn a_node_keeps_its_number_and_no_two_share_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.sqlite");
    let first = SqliteStore::open(&path).unwrap();
    let (a, b) = (first.number(&name("a")).unwrap(), first.number(&name("b")).unwrap());
    assert_ne!(a, b);
    drop(first);
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(store.number(&name("a")).unwrap(), a);
    assert_eq!(store.known().unwrap(), [(name("a"), a), (name("b"), b)]);
    assert_eq!(open(&store, &["b"]).members[&name("b")].number, b);
}

#[test]
fn pages_go_back_from_the_newest_and_say_whether_there_are_older_ones() {
    let store = SqliteStore::in_memory();
    for _ in 0..5 {
        open(&store, &["a"]);
    }
    let page = |page, before| store.list(ListAsk { page, before }).unwrap();
    let first = page(2, None);
    assert_eq!((ids(&first), first.more), (vec![5, 4], true));
    let last = page(3, Some(IncidentId(4)));
    assert_eq!((ids(&last), last.more), (vec![3, 2, 1], false));
    assert_eq!(ids(&page(9, Some(IncidentId(1)))), Vec::<u64>::new());
}

#[test]
fn requests_are_never_numbered_twice() {
    let store = SqliteStore::in_memory();
    let mut seen: Vec<_> = (0..3).flat_map(|_| open(&store, &["a", "b"]).members.into_values()).collect();
    seen.sort_by_key(|m| m.request);
    seen.dedup_by_key(|m| m.request);
    assert_eq!(seen.len(), 6);
}

#[test]
fn what_an_agent_can_collect_is_remembered() {
    let store = SqliteStore::in_memory();
    assert_eq!(store.collectable(&name("a")).unwrap(), []);
    let pods = Collectable { name: "pods".to_owned(), kind: SourceKind::Logs };
    store.set_collectable(&name("a"), std::slice::from_ref(&pods)).unwrap();
    assert_eq!(store.collectable(&name("a")).unwrap(), [pods]);
}

#[test]
fn an_index_of_a_newer_collector_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.sqlite");
    let store = SqliteStore::open(&path).unwrap();
    store.lock().execute("UPDATE meta SET value = 9 WHERE key = 'schema'", []).unwrap();
    drop(store);
    let Err(refused) = SqliteStore::open(&path) else { panic!("it was opened") };
    assert!(refused.to_string().contains("version 9"), "{refused}");
}

#[test]
fn strangers_cannot_fill_the_index_with_names() {
    let store = SqliteStore::in_memory();
    store
        .lock()
        .execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
             INSERT INTO nodes (name) SELECT 'n' || i FROM n",
        )
        .unwrap();
    assert!(store.number(&name("one-more")).is_err());
    assert!(store.number(&name("n7")).is_ok());
}
