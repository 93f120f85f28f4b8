//! The node that broke: it is sealed from what it had said before, by the deadline, and the rest is declared missing.

use std::time::Duration;

use casefile_proto::coverage::NodeState;
use casefile_proto::time::Window;
use casefile_tests::{Rig, host::FakeHost, now, stop};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_never_answers_is_sealed_from_its_last_words_and_the_other_one_whole() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    let collector = rig.collector().await.unwrap();
    let alive = rig.agent("alive", host.root()).unwrap();
    let dead = rig.agent("dead", host.root()).unwrap();
    let mut client = rig.client().await.unwrap();
    for node in ["alive", "dead"] {
        client.recorded(node, Duration::from_secs(2)).await;
    }
    dead.stop().await;

    let window = Window::new(now().before(Duration::from_secs(2)), now()).unwrap();
    let opened = now();
    let id = client.open(window, &[], Duration::from_secs(3)).await.unwrap().id;
    let coverage = client.sealed(id).await.unwrap().coverage.unwrap();
    assert!(now().nanos_since(opened) < 30_000_000_000, "sealed long after its deadline");

    let state = |name: &str| coverage.nodes.iter().find(|n| n.node.as_str() == name).unwrap();
    assert_eq!(state("alive").state, NodeState::Answered);
    assert_eq!(state("dead").state, NodeState::LastWords);
    assert!(state("dead").sources.iter().any(|s| s.source == "cpu" && s.records > 0), "its last words are there");
    let silent = state("dead").gaps.iter().chain(state("dead").sources.iter().flat_map(|s| &s.gaps));
    assert!(silent.into_iter().any(|g| g.reason.name() == "node-silent"), "what it could not give is declared");

    let file = client.download(id, &rig.path("case.tar.gz")).await.unwrap();
    assert_eq!(file.recordings(None).len(), 2);
    alive.stop().await;
    stop(collector).await;
}
