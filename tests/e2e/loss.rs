//! What is acknowledged is kept, nothing is kept twice, and every hole is declared: under SIGKILL, and when either side
//! goes away and comes back.

use std::time::Duration;

use casefile_tests::program::{Running, command};
use casefile_tests::{Rig, audit, host::FakeHost, stop};

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_in_mid_stream_leaves_no_frame_twice_and_no_undeclared_hole() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    let collector = rig.collector().await.unwrap();
    let client = rig.client().await.unwrap();
    let config = rig.agent_config("n1", host.root()).unwrap();
    rig.enlist("n1").unwrap();
    let start = || Running::start(command("casefile-agent").arg("run").arg("--config").arg(&config));

    let mut held = Duration::from_secs(1);
    for _ in 0..3 {
        let agent = start();
        let node = client.recorded("n1", held + Duration::from_secs(2)).await;
        held = node.last_words.unwrap().duration();
        agent.kill();
    }
    stop(collector).await;

    let last_words = std::fs::read_dir(rig.path("collector/last-words")).unwrap().next().unwrap().unwrap().path();
    for dir in [last_words, rig.ring("n1")] {
        let audit = audit::directory(&dir).unwrap();
        assert!(audit.frames >= 6, "{audit:?}");
        assert_eq!(audit.last.len(), 1, "one boot: {audit:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_restarted_goes_on_with_its_numbers() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    let collector = rig.collector().await.unwrap();
    let client = rig.client().await.unwrap();
    let first = rig.agent("n1", host.root()).unwrap();
    let held = client.recorded("n1", Duration::from_secs(1)).await.last_words.unwrap().duration();
    first.stop().await;
    let before = audit::directory(&rig.ring("n1")).unwrap();
    let second = rig.agent("n1", host.root()).unwrap();
    client.recorded("n1", held + Duration::from_secs(1)).await;
    second.stop().await;
    stop(collector).await;

    let after = audit::directory(&rig.ring("n1")).unwrap();
    assert!(after.frames > before.frames);
    assert_eq!(after.last.len(), 1, "one boot, one sequence: {after:?}");
}
