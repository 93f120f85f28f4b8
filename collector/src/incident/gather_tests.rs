//! Incidents end to end, with nodes that the test plays: asked, answered, sealed; failed, restarted, sealed all the same.

use casefile_evidence::archive::layout;
use casefile_evidence::archive::reader::{Archive, Limits};
use casefile_proto::incident::{ListAsk, NodePhase};
use casefile_proto::node::Link::{Away, Connected};
use casefile_proto::scope::{Scope, Selection};
use casefile_proto::time::WallTime;

use super::*;
use crate::incident::Refusal;
use crate::incident::test_nodes::{START, Sent, Told, collectable, deposit, log, name, window};
use crate::incident::test_rig::{Rig, SOON, ask};

fn phases(view: &IncidentView) -> Vec<NodePhase> {
    view.nodes.iter().map(|n| n.phase).collect()
}

#[tokio::test]
async fn an_incident_is_asked_answered_and_sealed_and_its_spool_is_gone() {
    let mut rig = Rig::start(&[("a", Connected)]).await;
    let opened = rig.incidents.open(ask(window(0, 50), &[], None)).await.unwrap();
    assert_eq!((opened.id, opened.expected.clone()), (IncidentId(1), vec![name("a")]));
    assert!(opened.ask.title.starts_with("every node, "), "{}", opened.ask.title);
    assert_eq!(rig.next().await, Told::Pin(name("a"), opened.id));
    let (node, asked, spool) = rig.asked().await;
    assert_eq!((asked.window, asked.budget), (window(0, 50), Bytes::mib(64)));
    rig.answer(&node, &asked, &spool).await;

    let view = rig.ended(opened.id).await;
    assert_eq!((view.incident.state, phases(&view)), (IncidentState::Sealed, vec![NodePhase::Answered]));
    let archive = view.incident.archive.unwrap();
    assert!(archive.whole);
    Archive::open(&rig.incidents.archive(&archive), Limits::default()).unwrap();
    assert_eq!(rig.next().await, Told::Unpin(name("a"), opened.id));
    let detail = rig.incidents.detail(opened.id).await.unwrap().unwrap();
    assert_eq!(detail.incident.archive, Some(archive));
    assert!(detail.coverage.unwrap().is_whole());
    let data = Arc::clone(&rig.data);
    rig.stop().await;
    assert!(!data.spool(opened.id).exists());
}

#[tokio::test]
async fn two_incidents_at_once_know_nothing_of_each_other() {
    let mut rig = Rig::start(&[("a", Connected), ("b", Connected)]).await;
    let slow = rig.incidents.open(ask(window(0, 50), &["a"], Some(Duration::from_secs(60)))).await.unwrap();
    let (_, first, _) = rig.asked().await;
    let quick = rig.incidents.open(ask(window(10, 40), &["a", "b"], None)).await.unwrap();
    for _ in 0..2 {
        let (node, asked, spool) = rig.asked().await;
        assert_ne!(asked.request, first.request);
        assert_eq!(asked.window, window(10, 40));
        rig.answer(&node, &asked, &spool).await;
    }
    assert_eq!(rig.ended(quick.id).await.incident.state, IncidentState::Sealed);
    assert_eq!(rig.view(slow.id, |_| true).await.incident.state, IncidentState::Gathering);
    rig.pass(60).await;
    let view = rig.ended(slow.id).await;
    assert_eq!((view.incident.state, phases(&view)), (IncidentState::Sealed, vec![NodePhase::Silent]));
}

#[tokio::test]
async fn the_deadline_seals_what_has_come_and_cancels_the_rest_first() {
    let mut rig = Rig::start(&[("a", Connected), ("b", Away)]).await;
    let opened = rig.incidents.open(ask(window(0, 50), &[], Some(Duration::from_secs(60)))).await.unwrap();
    let (node, asked, spool) = rig.asked().await;
    assert_eq!(node, name("a"), "who is away is not asked");
    deposit(&spool, 0, log("logs/files/app.log"), b"one\ntw", Sent::CutShort);
    let progress =
        NodeEvent::Progress { node, request: asked.request, source: "files".to_owned(), records: 2, bytes: Bytes(6) };
    rig.tell(progress).await;
    rig.pass(60).await;
    let view = rig.ended(opened.id).await;
    assert_eq!(phases(&view), [NodePhase::Trimmed, NodePhase::Silent]);
    assert!(!view.incident.archive.unwrap().whole);
    assert_eq!(rig.next().await, Told::Cancel(name("a"), asked.request));
}

#[tokio::test]
async fn a_node_that_comes_back_is_asked_again_in_the_same_name() {
    let mut rig = Rig::start(&[("a", Connected)]).await;
    let opened = rig.incidents.open(ask(window(0, 50), &[], None)).await.unwrap();
    let (node, asked, _) = rig.asked().await;
    rig.fleet.link("a", Away);
    rig.tell(NodeEvent::Disconnected { node: node.clone() }).await;
    rig.view(opened.id, |view| phases(view) == [NodePhase::Waiting]).await;
    rig.fleet.link("a", Connected);
    rig.tell(NodeEvent::Connected { node, collectable: collectable() }).await;
    let (node, again, spool) = rig.asked().await;
    assert_eq!(again.request, asked.request);
    rig.answer(&node, &again, &spool).await;
    assert_eq!(phases(&rig.ended(opened.id).await), [NodePhase::Answered]);
}

#[tokio::test]
async fn a_collector_restarted_while_gathering_goes_on_with_what_has_come() {
    let mut rig = Rig::start(&[("a", Connected), ("b", Connected)]).await;
    let opened = rig.incidents.open(ask(window(0, 50), &[], None)).await.unwrap();
    let (node, asked, spool) = rig.asked().await;
    rig.answer(&node, &asked, &spool).await;
    rig.view(opened.id, |view| phases(view)[0] == NodePhase::Answered).await;
    let (_, second, _) = rig.asked().await;
    let (dir, left) = rig.stop().await;
    assert_eq!(left.unfinished, [(opened.id, IncidentState::Gathering)]);

    let mut rig = Rig::over(dir, &[("a", Connected), ("b", Connected)]).await;
    let (node, asked, spool) = rig.asked().await;
    assert_eq!((node.as_str(), asked.request), ("b", second.request), "only who had not answered is asked again");
    rig.answer(&node, &asked, &spool).await;
    let view = rig.ended(opened.id).await;
    assert_eq!(phases(&view), [NodePhase::Answered, NodePhase::Answered]);
    assert_eq!(view.incident.deadline, opened.deadline);
    let archive = view.incident.archive.unwrap();
    assert!(archive.whole);
    let archive = Archive::open(&rig.incidents.archive(&archive), Limits::default()).unwrap();
    assert!(archive.entries().iter().any(|e| e.path.as_str() == "data/nodes/a/logs/files/app.log"));
}

#[tokio::test]
async fn what_could_not_be_sealed_says_why_keeps_its_spool_and_is_sealed_at_the_next_start() {
    let mut rig = Rig::start(&[("a", Connected)]).await;
    let archives = rig.data.archives();
    std::fs::remove_dir(&archives).unwrap();
    std::fs::write(&archives, "in the way").unwrap();
    let opened = rig.incidents.open(ask(window(0, 50), &[], None)).await.unwrap();
    let (node, asked, spool) = rig.asked().await;
    rig.answer(&node, &asked, &spool).await;
    let view = rig.ended(opened.id).await;
    assert_eq!(view.incident.state, IncidentState::Failed);
    let why = view.incident.failure.unwrap();
    assert!(why.contains("What was gathered is kept in") && why.contains("next start"), "{why}");
    assert!(spool.exists());
    let (dir, left) = rig.stop().await;
    assert_eq!(left.unfinished, [(opened.id, IncidentState::Failed)]);

    std::fs::remove_file(&archives).unwrap();
    let rig = Rig::over(dir, &[("a", Away)]).await;
    let view = rig.ended(opened.id).await;
    assert_eq!((view.incident.state, view.incident.failure.clone()), (IncidentState::Sealed, None));
    assert_eq!(phases(&view), [NodePhase::Answered]);
}

#[tokio::test]
async fn a_collector_that_went_down_while_sealing_seals_at_the_next_start() {
    let rig = Rig::start(&[("a", Away)]).await;
    let plan = super::super::machine::Plan::new(window(0, 50), WallTime::from_secs(START + 55), Duration::from_secs(9));
    let mut record = rig.store.open_incident(&ask(window(0, 50), &[], None).ask, &plan, &[name("a")]).unwrap();
    record.state = IncidentState::Sealing;
    rig.store.save(&record).unwrap();
    let partial = rig.data.archives().join("INC-000001_x.tar.gz.partial");
    std::fs::write(&partial, "half").unwrap();
    let (dir, _) = rig.stop().await;
    let rig = Rig::over(dir, &[("a", Away)]).await;
    assert_eq!(rig.ended(record.id).await.incident.state, IncidentState::Sealed);
    assert!(!partial.exists());
}

#[tokio::test]
async fn what_may_not_be_opened_is_refused_and_leaves_nothing() {
    let rig = Rig::start(&[("a", Connected)]).await;
    let open = |from, until, nodes: &'static [&str]| rig.incidents.open(ask(window(from, until), nodes, None));
    assert!(matches!(open(100, 200, &[]).await, Err(OpenError::Refused(Refusal::Future { .. }))));
    let Err(OpenError::Refused(refusal)) = open(0, 50, &["nobody"]).await else { panic!("it was opened") };
    assert_eq!(refusal.to_string(), "nobody: no such node. Known: a");
    let page = rig.incidents.list(ListAsk { page: 10, before: None }).await.unwrap();
    assert_eq!(page.incidents, []);
    rig.incidents.stop(Instant::now() + SOON).await;
    assert!(matches!(open(0, 50, &[]).await, Err(OpenError::Stopping)));
}

#[tokio::test]
async fn a_node_is_asked_for_what_was_selected_and_the_archive_says_so() {
    let mut rig = Rig::start(&[("a", Connected)]).await;
    let scope = Scope {
        sources: vec!["files".to_owned(), "load".to_owned()],
        select: Selection { namespaces: vec!["shop".to_owned()], ..Selection::default() },
        chosen: None,
    };
    let mut open = ask(window(0, 50), &[], None);
    open.ask.scope = scope.clone();
    let opened = rig.incidents.open(open).await.unwrap();
    let (node, asked, spool) = rig.asked().await;
    assert_eq!((&asked.sources, &asked.select), (&scope.sources, &scope.select));
    rig.answer(&node, &asked, &spool).await;
    let sealed = rig.ended(opened.id).await.incident;
    assert_eq!(sealed.ask.scope, scope);
    let file = rig.incidents.archive(&sealed.archive.unwrap());
    let mut archive = Archive::open(&file, Limits::default()).unwrap();
    for document in [layout::INCIDENT, layout::COVERAGE] {
        let read = archive.read(&layout::path(document), Bytes::mib(1)).unwrap();
        let read: serde_json::Value = serde_json::from_slice(&read).unwrap();
        assert_eq!(read["scope"], serde_json::to_value(&scope).unwrap(), "{document}");
    }
}

#[tokio::test]
async fn a_window_is_asked_on_the_clock_of_the_node_when_that_is_known_to_differ() {
    let clock = |ahead_nanos, bound_nanos| ClockOffset { ahead_nanos, bound_nanos };
    let mut rig = Rig::start(&[("a", Connected), ("b", Connected)]).await;
    rig.fleet.nodes.lock().unwrap().get_mut(&name("a")).unwrap().1 = Some(clock(3_000_000_000, 1_000));
    rig.fleet.nodes.lock().unwrap().get_mut(&name("b")).unwrap().1 = Some(clock(900, 1_000));
    rig.incidents.open(ask(window(0, 50), &[], None)).await.unwrap();
    let mut windows = BTreeMap::new();
    for _ in 0..2 {
        let (node, asked, _) = rig.asked().await;
        windows.insert(node, asked.window);
    }
    assert_eq!(windows[&name("a")], window(3, 53));
    assert_eq!(windows[&name("b")], window(0, 50), "within its bound the offset is no sign of a difference");
}

#[tokio::test]
async fn a_node_that_comes_back_after_sealing_amends_the_incident_also_after_a_restart() {
    let mut rig = Rig::start(&[("a", Connected), ("b", Away)]).await;
    let opened = rig.incidents.open(ask(window(0, 50), &["a", "b"], Some(Duration::from_secs(30)))).await.unwrap();
    let (node, asked, spool) = rig.asked().await;
    rig.answer(&node, &asked, &spool).await;
    rig.view(opened.id, |view| view.nodes[0].phase == NodePhase::Answered).await;
    rig.pass(30).await;
    let first = rig.ended(opened.id).await;
    assert_eq!(phases(&first), [NodePhase::Answered, NodePhase::Silent]);
    let first = first.incident.archive.unwrap();
    let (dir, left) = rig.stop().await;
    assert_eq!(left.unfinished, [], "it is sealed, and waits");

    let mut rig = Rig::over(dir, &[("a", Connected), ("b", Connected)]).await;
    for back in ["a", "b"] {
        rig.tell(NodeEvent::Connected { node: name(back), collectable: collectable() }).await;
    }
    let (node, again, spool) = rig.asked().await;
    assert_eq!((&node, again.window), (&name("b"), window(0, 50)), "who has answered is not asked again");
    assert!(again.request > asked.request);
    let amending = rig.view(opened.id, |view| view.incident.state == IncidentState::Amending).await;
    assert_eq!(amending.incident.archive.as_ref(), Some(&first), "it can be fetched as it was");
    rig.answer(&node, &again, &spool).await;
    let second = rig.view(opened.id, |view| view.incident.state == IncidentState::Sealed).await;
    assert_eq!(phases(&second), [NodePhase::Answered, NodePhase::Answered]);
    let newest = second.incident.archive.unwrap();
    assert_eq!((newest.revision, second.incident.earlier), (2, vec![first.clone()]));
    assert!(newest.whole);
    for archive in [&first, &newest] {
        Archive::open(&rig.incidents.archive(archive), Limits::default()).unwrap();
    }
    let detail = rig.incidents.detail(opened.id).await.unwrap().unwrap();
    assert!(detail.coverage.unwrap().nodes[1].amended.is_some());
    assert_eq!(rig.store.unfinished().unwrap(), []);
}

#[tokio::test]
async fn a_node_that_is_missing_from_many_incidents_is_asked_by_a_few_at_a_time() {
    let mut rig = Rig::start(&[("a", Away)]).await;
    let mut opened = Vec::new();
    for n in 0..5 {
        let ask = ask(window(n, 50), &["a"], Some(Duration::from_secs(30)));
        opened.push(rig.incidents.open(ask).await.unwrap().id);
    }
    rig.pass(30).await;
    for id in &opened {
        rig.ended(*id).await;
    }
    rig.fleet.nodes.lock().unwrap().get_mut(&name("a")).unwrap().0 = Connected;
    rig.tell(NodeEvent::Connected { node: name("a"), collectable: collectable() }).await;
    let mut asking = VecDeque::new();
    for _ in 0..opened.len() {
        // Another one only after the oldest was answered.
        if asking.len() == AMENDING_AT_A_TIME {
            let (node, ask, spool): (NodeName, CollectionAsk, std::path::PathBuf) = asking.pop_front().unwrap();
            while let Ok(told) = rig.told.try_recv() {
                assert!(!matches!(told, Told::Ask(..)), "one too many at a time");
            }
            rig.answer(&node, &ask, &spool).await;
        }
        asking.push_back(rig.asked().await);
    }
    for (node, ask, spool) in asking {
        rig.answer(&node, &ask, &spool).await;
    }
    for id in opened {
        let over = |view: &IncidentView| view.incident.archive.as_ref().is_some_and(|a| a.revision == 2);
        let amended = rig.store.incident(id).unwrap().is_some_and(|record| record.over);
        assert!(amended || over(&rig.view(id, over).await));
    }
}
