//! Forty people who look at one page ask for one thing.

use std::time::Duration;

use casefile_tests::program::{run, said, stdout};
use casefile_tests::{Rig, host::FakeHost, stop};

#[tokio::test(flavor = "multi_thread")]
async fn forty_requests_for_the_last_minute_are_one_incident_and_one_collection() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    let collector = rig.collector().await.unwrap();
    let agent = rig.agent("n1", host.root()).unwrap();
    rig.client().await.unwrap().recorded("n1", Duration::from_secs(1)).await;
    let data = rig.path("collector").to_str().unwrap().to_owned();
    let asks: Vec<_> = (0..40)
        .map(|_| {
            let data = data.clone();
            tokio::task::spawn_blocking(move || run("casefile", &["collect", "--since", "1m", "--data", &data]))
        })
        .collect();
    let mut names = std::collections::BTreeSet::new();
    for ask in asks {
        let opened = ask.await.unwrap();
        assert!(opened.status.success(), "{}", said(&opened));
        names.insert(stdout(&opened).trim().to_owned());
    }
    // Some may come when the first is sealed already: then a second begins, and never a third of a kind.
    assert!(names.len() < 10, "{names:?}");
    let audited = stdout(&run("casefile-collector", &["audit", "--data", &data]));
    assert_eq!(audited.matches("open-incident").count(), 40, "each of them is recorded: {audited}");
    agent.stop().await;
    stop(collector).await;
}
