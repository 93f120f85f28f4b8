//! Collections: every item whole and the same as on the node, through cuts and restarts.

use std::sync::Arc;
use std::time::Duration;

use casefile_collector::ingest::{Ended, NodeEvent};
use casefile_collector::spool::{SpooledItem, read_dir};
use casefile_evidence::archive::chunk::Checker;
use casefile_proto::coverage::SourceCoverage;
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::ids::RequestId;
use casefile_proto::session::RedactionKey;
use casefile_proto::time::WallTime;
use casefile_proto::units::Bytes;

use super::node::{Node, Numbers, START};
use super::server::{Server, ask};
use super::wire::Wire;

const ALL: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

fn plain(item: &SpooledItem) -> Vec<u8> {
    let (mut checker, mut plain, mut all) = (Checker::new(), Vec::new(), Vec::new());
    for chunk in item.chunks().unwrap() {
        checker.check(&chunk.unwrap(), &mut plain).unwrap();
        all.extend_from_slice(&plain);
    }
    all
}

async fn done(server: &Server, request: u64) -> (Vec<SourceCoverage>, Vec<Gap>) {
    server
        .event("done", |event| match event {
            NodeEvent::Done { request: of, sources, gaps, .. } if of.0 == request => {
                Some((sources.clone(), gaps.clone()))
            }
            _ => None,
        })
        .await
}

/// The logs in the spool are those on the node.
fn assert_logs(server: &Server, request: u64, node: &Node, names: &[&str]) {
    let items = read_dir(&server.spool(request)).unwrap();
    let logs: Vec<&SpooledItem> = items.iter().filter(|i| i.head.source == "files").collect();
    assert_eq!(logs.len(), names.len(), "{logs:?}");
    for (item, name) in logs.iter().zip(names) {
        let on_node = std::fs::read(node.dir.join("host/var/log").join(name)).unwrap();
        let tail = item.tail.as_ref().expect("whole");
        assert_eq!(tail.size, on_node.len() as u64, "{}", item.head.path);
        assert!(plain(item) == on_node, "{} differs", item.head.path);
        assert_eq!(item.content().unwrap().sha256, tail.sha256);
    }
}

fn items_told(server: &Server, request: u64) -> usize {
    server.count(|event| matches!(event, NodeEvent::Item { request: of, .. } if of.0 == request))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_arrives_item_by_item_and_then_says_that_it_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &Arc::default(), ALL).await;
    let mut node = Node::new(dir.path(), "a");
    node.write_log("a.log", 3 << 20);
    node.write_log("b.log", 5_000);
    node.record(30);
    node.connect(&server.url(), 0);
    server.connected("a").await;
    server.ask("a", 1, &["recording", "files"]).await;
    server.ask("a", 1, &["recording", "files"]).await;
    let (sources, _) = done(&server, 1).await;
    let files = sources.iter().find(|row| row.source == "files").unwrap();
    assert_eq!((files.items, files.gaps.len()), (2, 0), "{files:?}");
    assert_logs(&server, 1, &node, &["a.log", "b.log"]);
    let items = read_dir(&server.spool(1)).unwrap();
    assert!(items.iter().any(|i| i.head.path.as_str() == "recording/window.seg"), "{items:?}");
    assert_eq!(items_told(&server, 1), items.len());
    assert!(std::fs::read_dir(node.dir.join("spool")).unwrap().next().is_none(), "nothing is left on the node");
    assert_eq!(server.count(|e| matches!(e, NodeEvent::Done { .. })), 1);
    node.disconnect().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_cut_resumes_and_arrives_with_the_same_digest() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &Arc::default(), ALL).await;
    let wire = Wire::to(server.address).await;
    let mut node = Node::new(dir.path(), "a");
    node.write_log("a.log", 24 << 20);
    node.record(3);
    node.connect(&wire.url(), 0);
    server.connected("a").await;
    // Hexadecimal noise deflates to about half: both cuts are in the middle of the one item.
    wire.cut_after(3 << 20);
    server.ask("a", 1, &["files"]).await;
    super::until("the first cut", || (wire.cuts() == 1).then_some(())).await;
    wire.cut_after(3 << 20);
    super::until("the second cut", || (wire.cuts() == 2).then_some(())).await;
    done(&server, 1).await;
    assert_logs(&server, 1, &node, &["a.log"]);
    let runs: std::collections::BTreeSet<_> = read_dir(&server.spool(1)).unwrap().iter().map(|i| i.run).collect();
    assert_eq!(runs.len(), 1, "one run, resumed");
    node.disconnect().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_survives_a_restart_of_the_collector() {
    let dir = tempfile::tempdir().unwrap();
    let numbers: Arc<Numbers> = Arc::default();
    let server = Server::start(dir.path(), &numbers, ALL).await;
    let wire = Wire::to(server.address).await;
    let mut node = Node::new(dir.path(), "a");
    node.write_log("a.log", 12 << 20);
    node.write_log("b.log", 1 << 20);
    node.connect(&wire.url(), 0);
    server.connected("a").await;
    wire.cut_after(3 << 20);
    server.ask("a", 1, &["files"]).await;
    super::until("the cut", || (wire.cuts() == 1).then_some(())).await;
    wire.lead(None);
    server.stop().await;
    let there: u64 =
        read_dir(&dir.path().join("collector/spool/1")).unwrap().iter().map(|item| item.content().unwrap().size).sum();
    let server = Server::start(dir.path(), &numbers, ALL).await;
    wire.lead(Some(server.address));
    server.connected("a").await;
    // Whoever gathers asks again for what it has not.
    server.ask("a", 1, &["files"]).await;
    done(&server, 1).await;
    assert_logs(&server, 1, &node, &["a.log", "b.log"]);
    assert!(there > 0, "something had arrived before");
    node.disconnect().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_restarted_collects_anew_and_nothing_is_mixed() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &Arc::default(), ALL).await;
    let wire = Wire::to(server.address).await;
    let mut node = Node::new(dir.path(), "a");
    node.write_log("a.log", 8 << 20);
    node.connect(&wire.url(), 0);
    server.connected("a").await;
    wire.cut_after(2 << 20);
    server.ask("a", 1, &["files"]).await;
    super::until("the cut", || (wire.cuts() == 1).then_some(())).await;
    node.kill_and_start().await;
    // Another content in the meantime.
    node.write_log("a.log", 2 << 20);
    node.connect(&wire.url(), 0);
    done(&server, 1).await;
    assert_logs(&server, 1, &node, &["a.log"]);
    node.disconnect().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_collection_is_said_again_when_it_was_not_heard() {
    let dir = tempfile::tempdir().unwrap();
    let numbers: Arc<Numbers> = Arc::default();
    let server = Server::start(dir.path(), &numbers, ALL).await;
    let wire = Wire::to(server.address).await;
    let mut node = Node::new(dir.path(), "a");
    node.write_log("a.log", 10_000);
    node.connect(&wire.url(), 0);
    server.connected("a").await;
    server.ask("a", 1, &["files"]).await;
    let (sources, _) = done(&server, 1).await;
    // A collector that was killed before it had written that down.
    wire.lead(None);
    server.stop().await;
    let server = Server::start(dir.path(), &numbers, ALL).await;
    wire.lead(Some(server.address));
    server.connected("a").await;
    server.ask("a", 1, &["files"]).await;
    assert_eq!(done(&server, 1).await.0, sources);
    assert_eq!(items_told(&server, 1), 0, "nothing was sent twice");
    assert_logs(&server, 1, &node, &["a.log"]);
    node.disconnect().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_collection_stops_and_leaves_its_spool_at_rest() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &Arc::default(), ALL).await;

    let mut node = Node::new(dir.path(), "a");
    node.write_log("a.log", 16 << 20);
    node.connect(&server.url(), 0);
    server.connected("a").await;
    server.ask("a", 1, &["files"]).await;
    super::until("something has arrived", || read_dir(&server.spool(1)).unwrap().pop()).await;
    server.ingest.cancel(&"a".parse().unwrap(), RequestId(1)).await;
    let before = read_dir(&server.spool(1)).unwrap();
    // The node's disk is given back.
    super::until("an empty spool on the node", || {
        std::fs::read_dir(node.dir.join("spool")).unwrap().next().is_none().then_some(())
    })
    .await;
    assert_eq!(read_dir(&server.spool(1)).unwrap(), before);
    assert_eq!(server.count(|e| matches!(e, NodeEvent::Done { .. })), 0);
    // And the next one works.
    server.ask("a", 2, &["files"]).await;
    done(&server, 2).await;
    assert_logs(&server, 2, &node, &["a.log"]);
    node.disconnect().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_the_collector_refuses_again_and_again_is_given_up_and_declared_and_the_rest_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &Arc::default(), ALL).await;
    let wire = Wire::to(server.address).await;
    let mut node = Node::new(dir.path(), "a");
    // The smaller one comes first.
    node.write_log("a.log", 8 << 20);
    node.write_log("b.log", 9 << 20);
    node.connect(&wire.url(), 0);
    server.connected("a").await;
    wire.cut_after(2 << 20);
    server.ask("a", 1, &["files"]).await;
    super::until("the cut", || (wire.cuts() == 1).then_some(())).await;
    wire.lead(None);
    let waiting = |number: u32| {
        let name = format!("{number:06}.chunks");
        let collections = std::fs::read_dir(node.dir.join("spool")).ok()?;
        collections.flatten().map(|entry| entry.path().join(&name)).find(|path| path.exists())
    };
    // The second is begun when the first is whole.
    super::until("the second item on the node's disk", || waiting(1)).await;
    let first = waiting(0).unwrap();
    // The node's disk does not give back what was written to it: a byte of the last chunk is another.
    let mut bytes = std::fs::read(&first).unwrap();
    let at = bytes.len() - 1_000;
    bytes[at] ^= 0x10;
    std::fs::write(&first, bytes).unwrap();
    wire.lead(Some(server.address));
    let (sources, _) = done(&server, 1).await;
    let files = sources.iter().find(|row| row.source == "files").unwrap();
    let gaps: Vec<_> = files.gaps.iter().map(|gap| (gap.reason, gap.detail.as_str())).collect();
    assert!(
        matches!(gaps[..], [(GapReason::SourceFailed, why)] if why.contains("a.log was not delivered")),
        "{gaps:?}"
    );
    assert_eq!(files.items, 1);
    let items = read_dir(&server.spool(1)).unwrap();
    let (whole, cut): (Vec<_>, Vec<_>) = items.iter().partition(|item| item.tail.is_some());
    assert!(matches!(whole[..], [b] if b.head.path.as_str().ends_with("b.log")), "{items:?}");
    // What was acknowledged of it before is evidence all the same.
    let on_node = std::fs::read(node.dir.join("host/var/log/a.log")).unwrap();
    assert!(matches!(cut[..], [a] if plain(a).len() > 1 << 20 && on_node.starts_with(&plain(a))), "{items:?}");
    assert_eq!(server.stats.uploads_ended.of(Ended::Damaged).get(), 3, "three tries, and no more");
    node.disconnect().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_the_collector_enforces_becomes_a_gap_and_the_rest_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &Arc::default(), ALL).await;
    let mut node = Node::new(dir.path(), "a");
    node.write_log("a.log", 3 << 20);
    node.connect(&server.url(), 0);
    server.connected("a").await;
    let small = casefile_proto::session::CollectionAsk { budget: Bytes::mib(1), ..ask(1, &["files"]) };
    server.ingest.ask(&"a".parse().unwrap(), small, server.spool(1)).await.unwrap();
    let (sources, _) = done(&server, 1).await;
    let files = sources.iter().find(|row| row.source == "files").unwrap();
    assert!(files.gaps.iter().any(|gap| gap.reason == GapReason::Budget), "{files:?}");
    let held: u64 = read_dir(&server.spool(1)).unwrap().iter().map(|i| i.content().unwrap().size).sum();
    assert!(held <= 1 << 20, "{held}");
    node.disconnect().await;
    server.stop().await;
}

/// The token that stands for a password in the one item that a request brought, and the key that its coverage names.
async fn token(server: &Server, node: &str, request: u64) -> (String, String) {
    server.ask(node, request, &["files"]).await;
    let (sources, _) = done(server, request).await;
    let files = sources.iter().find(|row| row.source == "files").unwrap();
    let redaction = files.redaction.clone().expect("what was masked is told");
    assert_eq!(redaction.rules.values().sum::<u64>(), 1, "{redaction:?}");
    let items = read_dir(&server.spool(request)).unwrap();
    let text = String::from_utf8(plain(&items[0])).unwrap();
    assert!(!text.contains("hunter2-hunter2"), "{text}");
    let begin = text.find("[redacted:").expect("a token");
    let end = begin + text[begin..].find(']').unwrap();
    (text[begin..=end].to_owned(), redaction.key_id)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_secret_is_the_same_token_on_every_node_and_another_one_under_the_next_key() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &Arc::default(), ALL).await;
    let mut nodes = ["a", "b"].map(|name| Node::new(dir.path(), name));
    for node in &mut nodes {
        let line = format!("{} app: login password=hunter2-hunter2 failed\n", WallTime::from_secs(START + 1));
        std::fs::write(node.dir.join("host/var/log/a.log"), line).unwrap();
        node.record(3);
        node.connect(&server.url(), 0);
        server.connected(node.name).await;
    }
    let (a, b) = (token(&server, "a", 1).await, token(&server, "b", 2).await);
    assert_eq!(a, b);
    server.redaction_key.send_replace(RedactionKey([2; 32]));
    let key = || nodes.each_ref().map(|node| node.redaction.as_ref().unwrap().current().key_id().to_string());
    super::until("the next key", || key().iter().all(|id| *id != a.1).then_some(())).await;
    let (a_next, b_next) = (token(&server, "a", 3).await, token(&server, "b", 4).await);
    assert_eq!(a_next, b_next);
    assert_ne!(a_next, a);
    // It is kept for the next start.
    super::until("the key on disk", || {
        nodes.iter().all(|n| std::fs::read(n.dir.join("redaction.key")).is_ok_and(|key| key == [2; 32])).then_some(())
    })
    .await;
    for node in &mut nodes {
        node.disconnect().await;
    }
    server.stop().await;
}
