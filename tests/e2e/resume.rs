//! A collector that goes away and comes back: agents go on from their rings, open incidents are taken up again.

use std::time::Duration;

use casefile_proto::incident::IncidentState;
use casefile_proto::time::Window;
use casefile_tests::{Rig, audit, host::FakeHost, now, stop};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_recorded_while_the_collector_was_away_is_streamed_when_it_is_back() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    let collector = rig.collector().await.unwrap();
    let agent = rig.agent("n1", host.root()).unwrap();
    let held = rig.client().await.unwrap().recorded("n1", Duration::from_secs(1)).await.last_words.unwrap();
    stop(collector).await;

    let collector = rig.collector().await.unwrap();
    let client = rig.client().await.unwrap();
    client.recorded("n1", held.duration() + Duration::from_secs(2)).await;
    agent.stop().await;
    stop(collector).await;
    let last_words = std::fs::read_dir(rig.path("collector/last-words")).unwrap().next().unwrap().unwrap().path();
    let audit = audit::directory(&last_words).unwrap();
    assert_eq!(audit.holes, [], "the ring had it all");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_that_was_open_when_the_collector_stopped_is_sealed_by_the_next_one() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    let collector = rig.collector().await.unwrap();
    let agent = rig.agent("n1", host.root()).unwrap();
    let mut client = rig.client().await.unwrap();
    client.recorded("n1", Duration::from_secs(1)).await;
    let end = now().after(Duration::from_secs(4));
    let window = Window::new(now().before(Duration::from_secs(1)), end).unwrap();
    let opened = client.open(window, &[], Duration::from_secs(20)).await.unwrap();
    assert_eq!(opened.state, IncidentState::Open, "its window has not ended");
    stop(collector).await;

    let collector = rig.collector().await.unwrap();
    let mut client = rig.client().await.unwrap();
    let detail = client.sealed(opened.id).await.unwrap();
    assert_eq!(detail.incident.ask.window, window);
    agent.stop().await;
    stop(collector).await;
}
