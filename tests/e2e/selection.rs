//! What is selected is gathered, what is not is not missing, and the case file says which is which.

use std::time::Duration;

use casefile_proto::time::WallTime;
use casefile_tests::host::FakeHost;
use casefile_tests::program::{run, said, stdout};
use casefile_tests::{Rig, now, stop};

/// `Nov 23 02:44:10`, as rsyslog writes it: neither year nor zone.
fn syslog_time(at: WallTime) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = at.to_seconds_text();
    let month: usize = text[5..7].parse().unwrap();
    let day: u32 = text[8..10].parse().unwrap();
    format!("{} {day:>2} {}", MONTHS[month - 1], &text[11..19])
}

fn write_logs(host: &FakeHost, at: WallTime) {
    host.pod_line(at, "of the shop").unwrap();
    for pod in ["shop_db-0_0a1b2c3d-1111-2222-3333-444455556667", "pay_api-0_0a1b2c3d-1111-2222-3333-444455556668"] {
        let line = format!("{at} stdout F of {pod}\n");
        host.append(&format!("var/log/pods/{pod}/main/0.log"), &line).unwrap();
    }
    let line = format!("{} n1 app[7]: in the syslog\n", syslog_time(at));
    host.append("var/log/syslog", &line).unwrap();
}

async fn casefile(args: &[&str]) -> std::process::Output {
    let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
    tokio::task::spawn_blocking(move || run("casefile", &args.iter().map(String::as_str).collect::<Vec<_>>()))
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn collect_of_a_namespace_has_the_logs_of_its_pods_only_and_says_so() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    write_logs(&host, now().before(Duration::from_secs(60)));
    let collector = rig.collector().await.unwrap();
    let agent = rig.agent("n1", host.root()).unwrap();
    rig.client().await.unwrap().recorded("n1", Duration::from_secs(1)).await;

    let data = rig.path("collector");
    let data = data.to_str().unwrap();
    let collected =
        casefile(&["collect", "--data", data, "--since", "10m", "-n", "shop", "--pod", "api-0", "--wait"]).await;
    assert!(matches!(collected.status.code(), Some(0 | 5)), "{}", said(&collected));
    let told = "Asked: only pod logs of namespace shop, pod api-0. What was not asked is not missing.";
    assert!(stdout(&collected).contains(told), "{}", said(&collected));
    let file = rig.path("case.tar.gz");
    let file = file.to_str().unwrap();
    let fetched = casefile(&["download", "INC-000001", "--data", data, "-o", file]).await;
    assert!(fetched.status.success(), "{}", said(&fetched));

    let listed = stdout(&casefile(&["ls", file]).await);
    assert!(listed.contains("logs/pods/shop_api-0_"), "{listed}");
    assert!(!listed.contains("shop_db-0") && !listed.contains("pay_api-0"), "{listed}");
    for other in ["recording/window.seg", "state/mounts", "logs/files/var/log/syslog", "node.json"] {
        assert!(listed.contains(other), "the other evidence is still collected, {other} too: {listed}");
    }
    let shown = stdout(&casefile(&["show", file]).await);
    assert!(shown.contains(told), "{shown}");
    let incident = stdout(&casefile(&["cat", file, "data/incident.json"]).await);
    let incident: serde_json::Value = serde_json::from_str(&incident).unwrap();
    assert_eq!(incident["scope"]["select"], serde_json::json!({ "namespaces": ["shop"], "pods": ["api-0"] }));

    let logs = casefile(&["logs", file, "-o", "jsonl", "--source", "pods", "--source", "files"]).await;
    let lines: Vec<serde_json::Value> = stdout(&logs).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let with = |text: &str| lines.iter().find(|l| l["text"].as_str().is_some_and(|t| t.contains(text)));
    let (pod, syslog) = (with("of the shop"), with("in the syslog"));
    let (pod, syslog) =
        (pod.unwrap_or_else(|| panic!("{}", said(&logs))), syslog.unwrap_or_else(|| panic!("{}", said(&logs))));
    // The syslog says neither year nor zone; what the agent found out of it travels with the item.
    assert_eq!(pod["node_time"].as_str().unwrap()[..19], syslog["node_time"].as_str().unwrap()[..19]);
    assert!(!stdout(&logs).contains("pay_api"), "{}", said(&logs));
    agent.stop().await;
    stop(collector).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn collect_of_one_source_is_whole_without_the_others() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    // Older than the window, so that nothing of it was rotated away or not recorded.
    for back in [900, 60] {
        host.pod_line(now().before(Duration::from_secs(back)), "hello").unwrap();
    }
    let collector = rig.collector().await.unwrap();
    let agent = rig.agent("n1", host.root()).unwrap();
    rig.client().await.unwrap().recorded("n1", Duration::from_secs(1)).await;
    let data = rig.path("collector");
    let args = [
        "collect",
        "--data",
        data.to_str().unwrap(),
        "--since",
        "10m",
        "--until",
        "10s",
        "--source",
        "pods",
        "-n",
        "shop",
    ];
    let collected = casefile(&[&args[..], &["--wait", "-o", "json"]].concat()).await;
    assert_eq!(collected.status.code(), Some(0), "{}", said(&collected));
    let detail: serde_json::Value = serde_json::from_str(&stdout(&collected)).unwrap();
    let rows = detail["coverage"]["nodes"][0]["sources"].as_array().unwrap();
    assert_eq!(rows.iter().map(|r| r["source"].as_str().unwrap()).collect::<Vec<_>>(), ["pods"], "{detail}");
    assert_eq!(detail["coverage"]["scope"]["sources"], serde_json::json!(["pods"]));
    agent.stop().await;
    stop(collector).await;
}

#[test]
fn extract_by_hand_selects_too_and_its_logs_are_read_with_their_own_times() {
    let dir = tempfile::tempdir().unwrap();
    let host = FakeHost::new(dir.path().join("host")).unwrap();
    let at = now().before(Duration::from_secs(60));
    write_logs(&host, at);
    let file = dir.path().join("case.tar.gz");
    let file = file.to_str().unwrap();
    let since = now().before(Duration::from_secs(600)).to_string();
    let args = ["extract", "--since-time", &since, "--ring", "/nowhere", "--host-root", host.root().to_str().unwrap()];
    let made = run("casefile-agent", &[&args[..], &["-n", "pay", "-o", file]].concat());
    assert_eq!(made.status.code(), Some(5), "{}", said(&made));
    let logs = run("casefile", &["logs", file, "--source", "pods", "--source", "files"]);
    let text = stdout(&logs);
    assert!(text.contains("pay/api-0/main of pay_api-0") && !text.contains("of the shop"), "{}", said(&logs));
    let second = at.to_seconds_text();
    let syslog = text.lines().find(|l| l.contains("in the syslog")).unwrap_or_else(|| panic!("{}", said(&logs)));
    assert!(syslog.starts_with(second.trim_end_matches('Z')), "{syslog}");
    // One node, on its own clock: there is no other that it could be compared with.
    assert!(!said(&logs).contains("never compared"), "{}", said(&logs));

    let nobody =
        run("casefile-agent", &[&args[..], &["-n", "nobody", "--source", "pods", "-o", file, "--force"]].concat());
    assert_eq!(nobody.status.code(), Some(0), "what this node never had is no gap: {}", said(&nobody));
    let shown = stdout(&run("casefile", &["show", file]));
    assert!(shown.contains("no container of the selection (pod logs of namespace nobody) has a log here"), "{shown}");
    let empty = run("casefile-agent", &[&args[..], &["-n", "", "-o", file, "--force"]].concat());
    assert_eq!(empty.status.code(), Some(2), "{}", said(&empty));
}
