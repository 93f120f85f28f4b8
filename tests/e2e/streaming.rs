//! Frames flow: from an agent's ticks to the collector's disk, acknowledged only once they lie there.

use std::time::Duration;

use casefile_proto::time::Window;
use casefile_tests::{Rig, audit, host::FakeHost, now, stop};

#[tokio::test(flavor = "multi_thread")]
async fn a_connected_node_is_recorded_without_a_hole_and_its_clock_is_known() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    let collector = rig.collector().await.unwrap();
    let agent = rig.agent("n1", host.root()).unwrap();
    let client = rig.client().await.unwrap();

    let node = client.recorded("n1", Duration::from_secs(2)).await;
    let offset = node.clock.unwrap();
    assert!(offset.ahead_nanos.unsigned_abs() <= offset.bound_nanos + 1_000_000, "one clock, yet {offset:?}");

    agent.stop().await;
    stop(collector).await;
    let last_words = std::fs::read_dir(rig.path("collector/last-words")).unwrap().next().unwrap().unwrap().path();
    let heard = audit::directory(&last_words).unwrap();
    let ring = audit::directory(&rig.ring("n1")).unwrap();
    assert!(heard.frames >= 15, "{heard:?}");
    assert_eq!(heard.holes, [], "nothing was lost on the way");
    assert!(ring.frames >= heard.frames, "the ring has at least what was streamed");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_incidents_at_once_are_both_sealed_and_each_has_its_own_window() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    let collector = rig.collector().await.unwrap();
    let agents = [rig.agent("n1", host.root()).unwrap(), rig.agent("n2", host.root()).unwrap()];
    let mut client = rig.client().await.unwrap();
    for node in ["n1", "n2"] {
        client.recorded(node, Duration::from_secs(2)).await;
    }
    let end = now();
    let long = Window::new(end.before(Duration::from_secs(2)), end).unwrap();
    let short = Window::new(end.before(Duration::from_secs(1)), end).unwrap();
    let first = client.open(long, &[], Duration::from_secs(30)).await.unwrap();
    let second = client.open(short, &["n2"], Duration::from_secs(30)).await.unwrap();
    assert_ne!(first.id, second.id);

    let (first, second) = (client.sealed(first.id).await.unwrap(), client.sealed(second.id).await.unwrap());
    assert_eq!(first.incident.expected.len(), 2);
    assert_eq!(second.incident.expected.len(), 1);
    let file = client.download(second.incident.id, &rig.path("second.tar.gz")).await.unwrap();
    assert_eq!(file.coverage.window, short);
    for agent in agents {
        agent.stop().await;
    }
    stop(collector).await;
}
