//! Frames: once each, in order, without an undeclared hole, whoever is restarted and wherever the wire is cut.

use std::sync::Arc;
use std::time::Duration;

use casefile_collector::space::{Taking, Why};
use casefile_collector::stats::figure::{By, Counter};
use casefile_proto::gap::GapReason;
use casefile_proto::ids::{BootId, FrameSeq};
use casefile_proto::node::Link;

use super::node::{BOOT, Keep, Node, Numbers, Read, read};
use super::server::Server;
use super::wire::Wire;

/// Longer ago than any frame.
const ALL: Duration = Duration::from_secs(300 * 365 * 24 * 3600 / 2);

fn contiguous(last: u64) -> Read {
    Read { frames: (1..=last).collect(), holes: Vec::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_are_on_the_collectors_disk_soon_after_they_were_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &Arc::default(), ALL).await;
    let mut node = Node::new(dir.path(), "a");
    node.connect(&server.url(), 0);
    server.connected("a").await;
    for _ in 0..30 {
        node.record(1);
        server.holds("a", node.last()).await;
    }
    let status = server.ingest.nodes();
    assert_eq!((status.len(), status[0].link, status[0].boot), (1, Link::Connected, Some(BOOT)));
    assert_eq!((status[0].agent_version.as_deref(), status[0].troubles.len()), (Some("0.1.0"), 0));
    node.disconnect().await;
    super::until("away", || (server.ingest.nodes()[0].link == Link::Away).then_some(())).await;
    assert_eq!(read(&server.words("a")), contiguous(30));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_recorded_before_the_session_is_fetched_from_the_ring() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &Arc::default(), ALL).await;
    let mut node = Node::new(dir.path(), "a");
    node.record(1000);
    node.connect(&server.url(), 0);
    // And while it is fetched, recording goes on.
    for _ in 0..100 {
        node.record(1);
        tokio::task::yield_now().await;
    }
    server.holds("a", 1100).await;
    node.disconnect().await;
    assert_eq!(read(&server.words("a")), contiguous(1100));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_sent_before_a_restart_of_the_agent_is_not_stored_twice() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &Arc::default(), ALL).await;
    let mut node = Node::new(dir.path(), "a");
    for round in 1..=4 {
        node.connect(&server.url(), 0);
        node.record(25);
        server.holds("a", round * 25 - 10).await;
        node.kill_and_start().await;
        // Recorded by the new run before it has a session.
        node.record(10);
        server.holds("a", round * 25 - 10).await;
    }
    node.connect(&server.url(), 0);
    server.holds("a", node.last()).await;
    node.disconnect().await;
    assert_eq!(read(&server.words("a")), contiguous(node.last()));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_restarted_goes_on_where_its_disk_ends() {
    let dir = tempfile::tempdir().unwrap();
    let numbers: Arc<Numbers> = Arc::default();
    let server = Server::start(dir.path(), &numbers, ALL).await;
    let wire = Wire::to(server.address).await;
    let mut node = Node::new(dir.path(), "a");
    node.connect(&wire.url(), 0);
    node.record(20);
    server.holds("a", 20).await;
    server.stop().await;
    wire.lead(None);
    node.record(200);
    let server = Server::start(dir.path(), &numbers, ALL).await;
    assert_eq!(server.ingest.nodes()[0].boot, Some(BOOT), "known from its last words");
    wire.lead(Some(server.address));
    node.record(5);
    server.holds("a", 225).await;
    node.disconnect().await;
    assert_eq!(read(&server.words("a")), contiguous(225));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wire_that_is_cut_again_and_again_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &Arc::default(), ALL).await;
    let wire = Wire::to(server.address).await;
    let mut node = Node::new(dir.path(), "a");
    node.record(500);
    wire.cut_after(3_000);
    node.connect(&wire.url(), 0);
    for cut in 1..=3 {
        node.record(20);
        super::until("a cut", || (wire.cuts() >= cut).then_some(())).await;
        wire.cut_after(3_000 * cut);
        node.record(20);
    }
    super::until("the last cut", || (wire.cuts() >= 3).then_some(())).await;
    wire.cut_after(u64::MAX);
    node.record(1);
    server.holds("a", node.last()).await;
    node.disconnect().await;
    assert_eq!(read(&server.words("a")), contiguous(node.last()));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_old_to_catch_up_on_is_declared() {
    let dir = tempfile::tempdir().unwrap();
    // Frames lie years from the present of this machine or ahead of it: nothing or everything is caught up on.
    let server = Server::start(dir.path(), &Arc::default(), Duration::ZERO).await;
    let mut node = Node::new(dir.path(), "a");
    node.record(50);
    let now = casefile_collector::clock::now().wall.nanos();
    let years = 20 * 365 * 24 * 3600 * 1_000_000_000_i64;
    // So that the node's present is long after its frames.
    node.connect(&server.url(), super::node::START * 1_000_000_000 - now + years);
    server.connected("a").await;
    super::until("a session that follows", || {
        node.record(1);
        server.last_words.held(&"a".parse().unwrap()).and_then(|held| held.last)
    })
    .await;
    node.disconnect().await;
    let read = read(&server.words("a"));
    let first = read.frames[0];
    assert!(first > 50, "{read:?}");
    assert_eq!(read.holes, [(Some((1, first - 1)), GapReason::CollectorAway)]);
    let of = |counters: &By<GapReason, Counter>| counters.of(GapReason::CollectorAway).get();
    assert_eq!((of(&server.stats.stream_gaps), of(&server.stats.stream_frames_lost)), (1, first - 1), "it is counted");
    assert_eq!(server.stats.frames.get(), read.frames.len() as u64);
    assert_eq!(read.frames, (first..=*read.frames.last().unwrap()).collect::<Vec<_>>());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_no_evidence_is_taken_sessions_stand_and_afterwards_nothing_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &Arc::default(), ALL).await;
    let mut node = Node::new(dir.path(), "a");
    node.connect(&server.url(), 0);
    node.record(10);
    server.holds("a", 10).await;
    server.taking.send_replace(Taking::No(Why::Space));
    // A session that begins meanwhile stands too, and waits.
    let mut other = Node::new(dir.path(), "b");
    other.connect(&server.url(), 0);
    server.connected("b").await;
    other.record(5);
    // More than the window, the outbox and the live queue hold together: the rest waits in the ring.
    node.record(500);
    tokio::task::yield_now().await;
    let held =
        |node: &str| server.last_words.held(&node.parse().unwrap()).and_then(|held| held.last).map(|last| last.seq.0);
    assert_eq!(held("b"), None, "nothing of it was taken");
    // What was read before it was told is taken: at most what may be in flight.
    assert!(held("a").is_some_and(|seq| seq < 510), "{:?}", held("a"));
    assert!(server.ingest.nodes().iter().all(|node| node.link == Link::Connected));
    server.taking.send_replace(Taking::Yes);
    server.holds("a", 510).await;
    server.holds("b", 5).await;
    assert_eq!(server.stats.sessions_started.get(), 2, "no session was lost over it");
    node.disconnect().await;
    other.disconnect().await;
    assert_eq!((read(&server.words("a")), read(&server.words("b"))), (contiguous(510), contiguous(5)));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_of_a_ring_that_was_lost_are_not_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &Arc::default(), ALL).await;
    let mut node = Node::new(dir.path(), "a");
    node.connect(&server.url(), 0);
    node.record(40);
    server.holds("a", 40).await;
    node.disconnect().await;
    node.start_again(Keep::Nothing);
    node.record(3);
    assert_eq!(node.last(), 3);
    node.connect(&server.url(), 0);
    super::until("the floor", || (node.floor() == FrameSeq(40)).then_some(())).await;
    node.record(2);
    server.holds("a", 42).await;
    node.disconnect().await;
    assert_eq!(read(&server.words("a")).frames, (1..=42).collect::<Vec<_>>());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_offset_of_a_nodes_clock_is_known_with_a_bound_that_holds() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &Arc::default(), ALL).await;
    let mut node = Node::new(dir.path(), "a");
    let ahead = -7_123_456_789;
    node.connect(&server.url(), ahead);
    let clock = super::until("an offset", || server.ingest.nodes().first().and_then(|n| n.clock)).await;
    assert!(clock.ahead_nanos.abs_diff(ahead) <= clock.bound_nanos, "{clock:?}");
    node.disconnect().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_sessions_of_one_node_the_newer_stands() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &Arc::default(), ALL).await;
    let mut node = Node::new(dir.path(), "a");
    node.connect(&server.url(), 0);
    node.record(5);
    server.holds("a", 5).await;
    // The same name from elsewhere, with a boot of its own.
    let mut other = super::hostile::Client::dial(&server, "a").await;
    other.hello_as("a", BootId::from_bytes([6; 16])).await;
    // The agent comes back and takes its place again, from where it was.
    node.record(5);
    server.holds("a", 10).await;
    node.disconnect().await;
    assert_eq!(read(&server.words("a")), contiguous(10));
    server.stop().await;
}
