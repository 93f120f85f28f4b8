//! What the index must find again, and what it refuses.

use casefile_proto::coverage::{NodeCoverage, NodeState};
use casefile_proto::incident::{Resource, SealedArchive, Severity, Trigger};
use casefile_proto::item::Digest;
use casefile_proto::scope::{Scope, Selection};
use casefile_proto::time::{ClockOffset, WallTime, Window};

use super::*;
use crate::incident::machine::Answer;
use crate::store::{Asked, Bound, Copies, Copy, Resources, Sealed};

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
        resource: None,
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
    let narrow = IncidentAsk { scope: Scope { sources: vec!["pods".to_owned()], select, chosen: None }, ..ask() };
    let plan = Plan::new(window(), WallTime::from_secs(150), Duration::from_secs(30));
    let record = store.open_incident(&narrow, &plan, &[name("a")]).unwrap();
    assert_eq!(store.incident(record.id).unwrap().map(|r| r.ask), Some(narrow));
}

#[test]
fn a_sealed_incident_has_its_archive_and_coverage_and_is_finished() {
    let store = SqliteStore::in_memory();
    let mut record = open(&store, &["a"]);
    let node = NodeCoverage {
        node: name("a"),
        state: NodeState::Silent,
        clock: None,
        sources: vec![],
        gaps: vec![],
        amended: None,
    };
    let coverage = Coverage { window: window(), nodes: vec![node], scope: Scope::default(), cluster: None };
    assert_eq!(store.coverage(record.id).unwrap(), None);
    record.state = IncidentState::Sealed;
    record.archive = Some(SealedArchive {
        file_name: "x.tar.gz".to_owned(),
        size: 9,
        sha256: Digest([7; 32]),
        sealed_at: WallTime::from_secs(300),
        whole: false,
        revision: 1,
        kept: None,
    });
    record.over = true;
    store.save_sealed(&record, &coverage).unwrap();
    assert_eq!(store.incident(record.id).unwrap(), Some(record.clone()));
    assert_eq!(store.coverage(record.id).unwrap(), Some(coverage));
    assert_eq!(store.unfinished().unwrap(), []);
}

fn archive(revision: u32) -> SealedArchive {
    SealedArchive {
        file_name: format!("x_r{revision}.tar.gz"),
        size: 9,
        sha256: Digest([7; 32]),
        sealed_at: WallTime::from_secs(300),
        whole: false,
        revision,
        kept: None,
    }
}

#[test]
fn every_archive_of_an_incident_is_kept_and_a_missing_node_gets_another_request() {
    let store = SqliteStore::in_memory();
    let mut record = open(&store, &["a", "b"]);
    let coverage = Coverage { window: window(), nodes: vec![], scope: Scope::default(), cluster: None };
    let newer =
        Coverage { window: Window::new(WallTime::from_secs(1), WallTime::from_secs(2)).unwrap(), ..coverage.clone() };
    record.state = IncidentState::Sealed;
    record.members.get_mut(&name("a")).unwrap().phase = NodePhase::Answered;
    record.members.get_mut(&name("b")).unwrap().phase = NodePhase::LastWords;
    record.archive = Some(archive(1));
    let requests = store.save_sealed(&record, &coverage).unwrap();
    let old = record.members[&name("b")].request;
    assert_eq!(requests.keys().collect::<Vec<_>>(), [&name("b")]);
    assert!(requests[&name("b")] > old, "never the number of another");
    record.members.get_mut(&name("b")).unwrap().request = requests[&name("b")];
    assert_eq!(store.incident(record.id).unwrap(), Some(record.clone()));
    assert_eq!(store.unfinished().unwrap(), std::slice::from_ref(&record), "it waits for a node");

    record.members.get_mut(&name("b")).unwrap().phase = NodePhase::Answered;
    (record.earlier, record.archive, record.over) = (vec![archive(1)], Some(archive(2)), true);
    assert_eq!(store.save_sealed(&record, &newer).unwrap(), Requests::new());
    assert_eq!(store.incident(record.id).unwrap(), Some(record.clone()));
    assert_eq!(store.coverage(record.id).unwrap(), Some(newer));
    assert_eq!(store.unfinished().unwrap(), []);
}

/// The tables as version 1 made them.
const VERSION_1: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('schema', 1);
CREATE TABLE nodes (number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE,
    collectable TEXT NOT NULL DEFAULT '[]') STRICT;
CREATE TABLE incidents (id INTEGER PRIMARY KEY AUTOINCREMENT, state TEXT NOT NULL, ask TEXT NOT NULL,
    plan TEXT NOT NULL, failure TEXT) STRICT;
CREATE TABLE requests (id INTEGER PRIMARY KEY AUTOINCREMENT, incident INTEGER NOT NULL REFERENCES incidents(id),
    node INTEGER NOT NULL REFERENCES nodes(number), phase TEXT NOT NULL, answer TEXT, asked TEXT,
    UNIQUE (incident, node)) STRICT;
CREATE TABLE archives (incident INTEGER PRIMARY KEY REFERENCES incidents(id), archive TEXT NOT NULL,
    coverage TEXT NOT NULL) STRICT;
";

#[test]
fn an_index_of_before_there_were_revisions_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.sqlite");
    let made = SqliteStore::in_memory();
    open(&made, &["a"]);
    let kept = |column: &str| -> String {
        made.lock().query_row(&format!("SELECT {column} FROM incidents"), [], |row| row.get(0)).unwrap()
    };
    let mut plan: serde_json::Value = serde_json::from_str(&kept("plan")).unwrap();
    plan.as_object_mut().unwrap().remove("return_nanos").unwrap();
    let mut sealed = serde_json::to_value(archive(1)).unwrap();
    sealed.as_object_mut().unwrap().remove("revision").unwrap();
    let old = Connection::open(&path).unwrap();
    old.execute_batch(VERSION_1).unwrap();
    let coverage = Coverage { window: window(), nodes: vec![], scope: Scope::default(), cluster: None };
    for state in ["sealed", "gathering"] {
        let incident = params![state, kept("ask"), plan.to_string()];
        old.execute("INSERT INTO incidents (state, ask, plan) VALUES (?1, ?2, ?3)", incident).unwrap();
    }
    old.execute_batch(
        "INSERT INTO nodes (name) VALUES ('a');
         INSERT INTO requests (incident, node, phase) VALUES (1, 1, 'silent'), (2, 1, 'asked')",
    )
    .unwrap();
    let row = params![sealed.to_string(), serde_json::to_string(&coverage).unwrap()];
    old.execute("INSERT INTO archives VALUES (1, ?1, ?2)", row).unwrap();
    drop(old);

    for _ in 0..2 {
        let store = SqliteStore::open(&path).unwrap();
        let first = store.incident(IncidentId(1)).unwrap().unwrap();
        assert_eq!((first.archive, first.over, first.earlier.len()), (Some(archive(1)), true, 0));
        assert_eq!(store.coverage(IncidentId(1)).unwrap().as_ref(), Some(&coverage));
        let unfinished = store.unfinished().unwrap();
        assert_eq!(unfinished.iter().map(|r| (r.id.0, r.plan.return_nanos)).collect::<Vec<_>>(), [(2, 0)]);
        assert_eq!(store.uncopied("s3://a").unwrap().len(), 1, "what was sealed by then is to be copied too");
        assert_eq!(open(&store, &["a"]).members[&name("a")].phase, NodePhase::Waiting);
        store
            .lock()
            .execute_batch("DELETE FROM requests WHERE incident > 2; DELETE FROM incidents WHERE id > 2")
            .unwrap();
    }
}

#[test]
fn an_archive_has_one_copy_and_what_is_sealed_anew_has_none() {
    let store = SqliteStore::in_memory();
    let mut record = open(&store, &["a"]);
    let coverage = Coverage { window: window(), nodes: vec![], scope: Scope::default(), cluster: None };
    for revision in [1, 2] {
        record.archive = Some(archive(revision));
        store.save_sealed(&record, &coverage).unwrap();
        store.copied(record.id, revision, "s3://a").unwrap();
    }
    let revisions = |sealed: Vec<Sealed>| sealed.into_iter().map(|s| s.archive.revision).collect::<Vec<_>>();
    assert_eq!(revisions(store.uncopied("s3://a").unwrap()), [0; 0]);
    assert_eq!(revisions(store.spare("s3://a").unwrap()), [1], "the newest may be amended");
    record.over = true;
    store.save(&record).unwrap();
    assert_eq!(revisions(store.spare("s3://a").unwrap()), [1, 2]);

    store.copied(record.id, 1, "s3://b").unwrap();
    assert_eq!(revisions(store.uncopied("s3://a").unwrap()), [1], "it is in another store");
    let copies = [Copy { revision: 1, store: "s3://b".to_owned() }, Copy { revision: 2, store: "s3://a".to_owned() }];
    assert_eq!(store.copies(record.id).unwrap(), copies);
    store.save_sealed(&record, &coverage).unwrap();
    assert_eq!(store.copies(record.id).unwrap(), copies[..1], "the second is another file now");
    store.copy_lost(record.id, 1).unwrap();
    assert_eq!(revisions(store.uncopied("s3://b").unwrap()), [1, 2]);
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

fn resource(uid: &str) -> Resource {
    Resource { namespace: "shop".to_owned(), name: "slow".to_owned(), uid: uid.to_owned(), generation: 2 }
}

#[test]
fn a_resource_is_bound_to_one_incident_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.sqlite");
    let store = SqliteStore::open(&path).unwrap();
    let plan = Plan::new(window(), WallTime::from_secs(100), Duration::from_secs(1));
    let asked = IncidentAsk { trigger: Trigger::Resource, resource: Some(resource("u-1")), ..ask() };
    let first = store.open_incident(&asked, &plan, &[name("a")]).unwrap();
    assert!(store.open_incident(&asked, &plan, &[name("a")]).is_err(), "another one for the same resource");
    let other = open(&store, &["a"]);
    assert_eq!(
        ids(&store.list(ListAsk { page: 9, before: None }).unwrap()),
        [other.id.0, first.id.0],
        "nothing is left of it"
    );
    assert!(store.bind(&resource("u-1"), other.id).is_err(), "it is bound to the first");
    store.bind(&resource("u-2"), other.id).unwrap();
    drop(store);

    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(store.incident(first.id).unwrap().unwrap().ask, asked);
    let bound =
        |uid: &str, incident| Bound { resource: resource(uid), incident, state: IncidentState::Open, revision: None };
    assert_eq!(store.bound().unwrap(), [bound("u-1", first.id), bound("u-2", other.id)]);
    assert!(store.resource_gone("u-1").unwrap() && !store.resource_gone("u-1").unwrap(), "it is news once");
    assert!(!store.resource_gone("u-9").unwrap());
    assert_eq!(store.bound().unwrap(), [bound("u-2", other.id)]);
    assert_eq!(store.opened_for("u-1").unwrap(), Some(first.id), "deleted or not");
    assert_eq!(store.opened_for("u-9").unwrap(), None);
}
