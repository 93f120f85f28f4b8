//! What cannot be done is refused in words that say what to try.

use std::time::Duration;

use casefile_proto::time::Window;
use casefile_tests::{Rig, host::FakeHost, now, program, stop};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn a_window_in_the_future_and_a_node_that_nobody_knows_are_refused() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    let collector = rig.collector().await.unwrap();
    let agent = rig.agent("n1", host.root()).unwrap();
    let mut client = rig.client().await.unwrap();
    client.recorded("n1", Duration::from_secs(1)).await;

    let ahead = now().after(Duration::from_secs(3600));
    let future = Window::new(ahead, ahead.after(Duration::from_secs(60))).unwrap();
    let refused = client.open(future, &[], Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");

    let past = Window::new(now().before(Duration::from_secs(60)), now()).unwrap();
    let refused = client.open(past, &["n1", "no-such-node"], Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "{refused}");
    assert!(refused.message().contains("no-such-node"), "{refused}");
    agent.stop().await;
    stop(collector).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_collector_on_one_directory_is_refused_and_says_why() {
    let rig = Rig::new().unwrap();
    let collector = rig.collector().await.unwrap();
    let data = rig.path("collector");
    let second = tokio::task::spawn_blocking(move || {
        program::run("casefile-collector", &["local", "--once", "--warm-up", "1s", "--data", data.to_str().unwrap()])
    })
    .await
    .unwrap();
    assert_eq!(second.status.code(), Some(1), "{}", program::said(&second));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another collector"), "{}", program::said(&second));
    stop(collector).await;
}

#[test]
fn a_wrong_flag_a_reversed_window_and_a_missing_file_exit_as_documented() {
    let dir = tempfile::tempdir().unwrap();
    let none = dir.path().join("none.tar.gz");
    let cases: [(&[&str], i32); 8] = [
        (&["--no-such-flag"], 2),
        (&["collect", "--since", "yesterday"], 2),
        (&["collect", "--since", "2026-11-23T03:00:00Z", "--until", "2026-11-23T02:00:00Z"], 2),
        (&["collect", "--since", "2026-11-23T03:00:00Z", "--until", "2026-11-23T03:00:00Z"], 2),
        (&["show", none.to_str().unwrap()], 1),
        (&["incidents", "--collector", "http://127.0.0.1:1"], 1),
        (&["incidents", "--collector", "https://127.0.0.1:1"], 1),
        (&["incidents", "--token-file", none.to_str().unwrap()], 1),
    ];
    for (args, code) in cases {
        let output = program::run("casefile", args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", program::said(&output));
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{args:?}: {}", program::said(&output));
    }
}
