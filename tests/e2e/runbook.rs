//! The runbook's commands live: each asks a real collector, and what it saw is an incident like every other one.

use std::net::TcpListener;
use std::process::Output;
use std::time::Duration;

use casefile_agent::connectivity::{Allowed, Reach};
use casefile_collector::config::Config;
use casefile_identity::stranger::Strangers;
use casefile_tests::host::FakeHost;
use casefile_tests::program::{command, said, stdout};
use casefile_tests::{Rig, now, stop};

/// Runs our command with a cache of this test's own.
async fn casefile(rig: &Rig, args: &[&str]) -> Output {
    let mut command = command("casefile");
    command.args(args).env("XDG_CACHE_HOME", rig.path("cache"));
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_asked_live_has_the_answer_that_its_case_file_has_later() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    host.pod_line(now().before(Duration::from_secs(60)), "of the shop").unwrap();
    let collector = rig.collector().await.unwrap();
    let agent = rig.agent("n1", host.root()).unwrap();
    rig.client().await.unwrap().recorded("n1", Duration::from_secs(1)).await;
    let data = rig.path("collector");
    let data = data.to_str().unwrap();

    let logs = casefile(&rig, &["collect-logs", "--data", data, "-n", "shop", "--since", "10m"]).await;
    assert!(stdout(&logs).contains(" n1 shop/api-0/main of the shop"), "{}", said(&logs));
    let told = String::from_utf8_lossy(&logs.stderr).into_owned();
    assert!(told.contains("kept as INC-000001"), "{told}");
    // How long the container's log goes back cannot be known: it began after the window did.
    assert!(matches!(logs.status.code(), Some(0 | 5)), "{}", said(&logs));
    let later = casefile(&rig, &["collect-logs", "INC-000001", "--data", data, "-n", "shop"]).await;
    assert_eq!(stdout(&later), stdout(&logs), "{}", said(&later));
    assert_eq!(later.status.code(), logs.status.code());

    // No cluster was asked: nobody is healthy.
    let health = casefile(&rig, &["health-check", "--data", data, "--since", "5m"]).await;
    assert!(stdout(&health).contains("there is no cluster evidence in this archive"), "{}", said(&health));
    assert_eq!(health.status.code(), Some(5), "{}", said(&health));
    let later = casefile(&rig, &["health-check", "INC-000002", "--data", data]).await;
    assert_eq!(stdout(&later), stdout(&health), "{}", said(&later));

    let use_of = ["analyze-resources", "--data", data, "--pod", "api-0", "-n", "shop", "--since", "5m", "-o", "json"];
    let resources = casefile(&rig, &use_of).await;
    let json: serde_json::Value =
        serde_json::from_str(&stdout(&resources)).unwrap_or_else(|_| panic!("{}", said(&resources)));
    assert_eq!((&json["pods"][0]["pod"], &json["pods"][0]["node"]), (&"api-0".into(), &"n1".into()));
    assert_eq!((&json["pods"][0]["asked"]["known"], resources.status.code()), (&false.into(), Some(5)));

    let kept = stdout(&casefile(&rig, &["incidents", "--data", data, "-o", "json"]).await);
    let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
    let reasons: Vec<&str> = kept.as_array().unwrap().iter().filter_map(|one| one["ask"]["reason"].as_str()).collect();
    assert_eq!(reasons, ["resources", "health check", "logs"], "{kept:#}");
    agent.stop().await;
    stop(collector).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_health_check_tests_what_the_configuration_lists_without_being_told_of_it() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    let (open, closed) = (listener(), listener());
    let (there, gone) = (open.local_addr().unwrap(), closed.local_addr().unwrap());
    drop(closed);
    let list = format!(
        "targets = [{{name = \"there\", url = \"tcp://{there}\"}}, {{name = \"gone\", url = \"tcp://{gone}\"}}]"
    );
    let targets = Config::parse(&list).unwrap_or_else(|problems| panic!("{problems:?}")).targets;
    let collector = rig.collector_with(|config| config.targets = targets).await.unwrap();
    let allowed = Allowed { reach: Reach::LoopbackToo, strangers: Strangers::unknown() };
    let agent = rig.agent_with("n1", host.root(), |config| config.connectivity = Some(allowed)).unwrap();
    rig.client().await.unwrap().recorded("n1", Duration::from_secs(1)).await;
    let data = rig.path("collector");
    let data = data.to_str().unwrap();

    let all = casefile(&rig, &["health-check", "--data", data, "--since", "5m"]).await;
    let told = String::from_utf8_lossy(&all.stderr).into_owned();
    assert!(told.contains("testing there from every node (1 of 2)") && told.contains("testing gone"), "{told}");
    assert!(stdout(&all).contains("2 health endpoints: 1 reached from every node"), "{}", said(&all));
    assert!(stdout(&all).contains("gone"), "{}", said(&all));
    assert_eq!(all.status.code(), Some(3), "{}", said(&all));

    // Over an incident nothing is tested: it shows what was.
    let later = casefile(&rig, &["health-check", "INC-000001", "--data", data]).await;
    assert_eq!(stdout(&later), stdout(&all), "{}", said(&later));
    assert!(!String::from_utf8_lossy(&later.stderr).contains("testing"), "{}", said(&later));

    // What is named is tested and nothing else.
    let one = casefile(&rig, &["health-check", "--data", data, "--target", "there", "--since", "5m"]).await;
    let told = String::from_utf8_lossy(&one.stderr).into_owned();
    assert!(told.contains("(1 of 1)") && !told.contains("testing gone"), "{told}");
    agent.stop().await;
    stop(collector).await;
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_not_there_is_an_error_and_no_health() {
    let rig = Rig::new().unwrap();
    let data = rig.path("nobody");
    let done = casefile(&rig, &["health-check", "--data", data.to_str().unwrap()]).await;
    assert_eq!(done.status.code(), Some(1), "{}", said(&done));
    assert!(stdout(&done).is_empty(), "{}", said(&done));
}
