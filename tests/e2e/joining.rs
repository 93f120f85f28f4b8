//! A node joins as an operator makes it join: a token from one program to the other, by a pipe.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use casefile_proto::node::Link;
use casefile_tests::program::{Talking, command, run, said, stdout};
use casefile_tests::{Rig, host::FakeHost, stop};
use rustix::process::Signal;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_joins_with_a_token_renews_its_certificate_and_is_known_after_a_restart() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    // So short that it is renewed, and that sessions end and begin, many times within the test.
    let collector = rig.collector_with(|config| config.certificate_life = Duration::from_secs(9)).await.unwrap();
    let data = rig.path("collector").to_str().unwrap().to_owned();
    let config = rig.agent_config("n1", host.root()).unwrap().to_str().unwrap().to_owned();
    let agent = || Talking::start(command("casefile-agent").args(["run", "--config", &config]), rig.path("agent.err"));
    let join = |token: &str| {
        let mut join = command("casefile-agent");
        join.args(["join", "--config", &config]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut join = join.spawn().unwrap();
        join.stdin.take().unwrap().write_all(token.as_bytes()).unwrap();
        join.wait_with_output().unwrap()
    };
    let token = |node: &str| {
        let made = run("casefile-collector", &["token", "create", "--data", &data, "--node", node]);
        assert!(made.status.success(), "{}", said(&made));
        stdout(&made)
    };

    // Without a token it says what it waits for, and records.
    let mut alone = agent();
    alone.until_it_says("casefile-collector token create --node n1");
    // One that is for another node is not taken, and that is said as well.
    assert!(join(&token("n2")).status.success());
    alone.until_it_says("the token was for node n2, and this is node n1");
    let mine = token("n1");
    let joined = join(&mine);
    assert!(joined.status.success(), "{}", said(&joined));
    alone.until_it_says("joined node=n1");
    alone.until_it_says("session stands");
    alone.until_it_says("certificate renewed");
    let client = rig.client().await.unwrap();
    let held = client.recorded("n1", Duration::from_secs(12)).await.last_words.unwrap();
    let (ended, heard) = alone.stop(Signal::TERM);
    assert!(ended.success(), "{heard}");
    assert!(heard.matches("session stands").count() > 1, "sessions end with their certificates: {heard}");

    // Known by what it kept; the token is used up, for whoever else has it.
    let mut again = agent();
    again.until_it_says("session stands");
    client.recorded("n1", held.duration() + Duration::from_secs(2)).await;
    assert!(!again.said().contains("joined"), "{}", again.said());
    assert!(again.stop(Signal::TERM).0.success());
    let audit = casefile_tests::audit::directory(&last_words(&rig)).unwrap();
    assert!(audit.lost().is_empty(), "no frame is lost to a change of certificates: {audit:?}");
    std::fs::remove_file(rig.path("agent-n1/identity.json")).unwrap();
    let mut thief = agent();
    thief.until_it_says("the join token is not known, was used, or has expired");
    thief.stop(Signal::TERM);

    let log = run("casefile-collector", &["audit", "--data", &data]);
    assert!(log.status.success(), "{}", said(&log));
    let log = stdout(&log);
    assert!(log.contains("granted  create-token") && log.contains("node n1 from 127.0.0.1"), "{log}");
    assert!(log.contains("denied  enrol"), "{log}");
    let secret = mine.trim().rsplit('_').next().unwrap();
    assert!(!log.contains(secret), "a token is in no log");
    stop(collector).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_revoked_is_refused_within_seconds_and_is_back_when_it_joins_anew() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    let collector = rig.collector().await.unwrap();
    let data = rig.path("collector").to_str().unwrap().to_owned();
    let config = rig.agent_config("n1", host.root()).unwrap();
    rig.enlist("n1").unwrap();
    let mut agent =
        Talking::start(command("casefile-agent").arg("run").arg("--config").arg(&config), rig.path("a.err"));
    agent.until_it_says("session stands");
    let mut client = rig.client().await.unwrap();
    let held = client.recorded("n1", Duration::from_secs(2)).await.last_words.unwrap();
    let waiting = stdout(&run("casefile-collector", &["token", "create", "--data", &data, "--node", "n1"]));

    let mistyped = run("casefile-collector", &["node", "revoke", "n2", "--data", &data]);
    assert!(mistyped.status.success() && said(&mistyped).contains("is it right?"), "{}", said(&mistyped));
    let revoked = run("casefile-collector", &["node", "revoke", "n1", "--data", &data]);
    assert!(revoked.status.success() && !said(&revoked).contains("is it right?"), "{}", said(&revoked));
    agent.until_it_says("the certificate of node n1 was revoked: join with a new token");
    let link = async |client: &mut casefile_tests::client::Client| client.nodes().await.unwrap()[0].link;
    assert_eq!(link(&mut client).await, Link::Away);
    // Neither the certificate, nor the token that was made before, nor a restart of the collector brings it back.
    stop(collector).await;
    let collector = rig.collector().await.unwrap();
    let join = |token: &str| {
        let mut join = command("casefile-agent");
        join.arg("join").arg("--config").arg(&config).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut join = join.spawn().unwrap();
        join.stdin.take().unwrap().write_all(token.as_bytes()).unwrap();
        assert!(join.wait().unwrap().success());
    };
    join(&waiting);
    agent.until_it_says("the join token is not known, was used, or has expired");
    join(&stdout(&run("casefile-collector", &["token", "create", "--data", &data, "--node", "n1"])));
    agent.until_it_says("joined node=n1");
    let client = rig.client().await.unwrap();
    client.recorded("n1", held.duration() + Duration::from_secs(3)).await;
    agent.stop(Signal::TERM);
    let audit = casefile_tests::audit::directory(&last_words(&rig)).unwrap();
    assert!(audit.lost().is_empty(), "what it recorded meanwhile is fetched from its ring: {audit:?}");
    let log = stdout(&run("casefile-collector", &["audit", "--data", &data]));
    assert!(log.contains("granted  revoke-node  owner from 127.0.0.1") && log.contains("node n1"), "{log}");
    stop(collector).await;
}

fn last_words(rig: &Rig) -> std::path::PathBuf {
    std::fs::read_dir(rig.path("collector/last-words")).unwrap().next().unwrap().unwrap().path()
}

#[tokio::test(flavor = "multi_thread")]
async fn people_use_the_api_with_tokens_of_their_own_and_only_as_far_as_their_roles_go() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    let collector = rig.collector().await.unwrap();
    let agent = rig.agent("n1", host.root()).unwrap();
    rig.client().await.unwrap().recorded("n1", Duration::from_secs(1)).await;
    let (data, url) = (rig.path("collector").to_str().unwrap().to_owned(), rig.url());
    let token = |name: &str, roles: &[&str]| {
        let mut args = vec!["token", "create", "--data", &data, "--user", name, "--ttl", "30d"];
        roles.iter().for_each(|role| args.extend(["--role", role]));
        let made = run("casefile-collector", &args);
        assert!(made.status.success(), "{}", said(&made));
        let path = rig.path(name);
        std::fs::write(&path, &made.stdout).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (viewer, requester) = (token("vi", &["viewer"]), token("re", &["requester"]));
    let exporter = token("ex", &["exporter"]);
    let casefile = |args: &[&str], token: &str| {
        let given = [args, &["--collector", &url, "--token-file", token]].concat();
        run("casefile", &given)
    };
    let file = rig.path("case.tar.gz").to_str().unwrap().to_owned();
    let collect = ["collect", "--since", "5s", "--deadline", "5s", "--wait"];
    let refused = casefile(&collect, &viewer);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("vi may not do this: it needs the role requester"), "{}", said(&refused));
    let opened = casefile(&collect, &requester);
    assert!(matches!(opened.status.code(), Some(0 | 5)), "{}", said(&opened));
    let fetch = ["download", "INC-000001", "-o", &file];
    assert!(said(&casefile(&fetch, &requester)).contains("needs the role exporter"));
    assert!(said(&casefile(&["show", "INC-000001"], &requester)).contains("needs the role exporter"));
    let fetched = casefile(&fetch, &exporter);
    assert!(fetched.status.success(), "{}", said(&fetched));
    let shown = stdout(&casefile(&["incidents", "-o", "json"], &viewer));
    assert!(shown.contains("(as re)"), "{shown}");

    let listed = stdout(&run("casefile-collector", &["token", "list", "--data", &data]));
    let line = listed.lines().find(|line| line.contains("vi (viewer)")).unwrap();
    let id = line.split_whitespace().next().unwrap();
    assert!(run("casefile-collector", &["token", "revoke", id, "--data", &data]).status.success());
    assert!(said(&casefile(&["nodes"], &viewer)).contains("who is asking?"));
    // Another collector of the same address is not believed, whatever it says.
    let other = Rig::new().unwrap();
    let theirs = other.collector().await.unwrap();
    let moved = run("casefile", &["nodes", "--collector", &other.url(), "--token-file", &exporter]);
    assert!(said(&moved).contains("is not the collector that made this token"), "{}", said(&moved));
    stop(theirs).await;
    agent.stop().await;
    stop(collector).await;

    // What was changed afterwards shows.
    let log = rig.path("collector/audit.jsonl");
    let text = std::fs::read(&log).unwrap();
    let text = String::from_utf8(text).unwrap().replace("download-archive", "open-incident");
    std::fs::write(&log, text).unwrap();
    let checked = run("casefile-collector", &["audit", "--data", &data]);
    assert_eq!(checked.status.code(), Some(3), "{}", said(&checked));
}
