//! A node that died and comes back: its incident was sealed from its last words, and what its disk kept amends it.

use std::path::Path;
use std::time::Duration;

use casefile_proto::coverage::NodeState;
use casefile_proto::gap::GapReason;
use casefile_proto::time::Window;
use casefile_tests::program::{Talking, command, run, said};
use casefile_tests::{Rig, audit, host::FakeHost, now, stop, wait};
use rustix::process::Signal;

fn agent(rig: &Rig, config: &Path, heard: &str) -> Talking {
    let mut command = command("casefile-agent");
    Talking::start(command.arg("run").arg("--config").arg(config), rig.path(heard))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_killed_amends_its_incident_when_it_is_back_in_another_boot() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    let collector = rig.collector().await.unwrap();
    rig.enlist("n1").unwrap();
    let config = rig.path("agent.toml");
    let text = format!(
        "collector = {:?}\nnode = \"n1\"\ndata_dir = {:?}\nhost_root = {:?}\n",
        rig.url(),
        rig.path("agent-n1"),
        host.root()
    );
    std::fs::write(&config, text).unwrap();
    let dying = agent(&rig, &config, "first.err");
    let mut client = rig.client().await.unwrap();
    let held = client.recorded("n1", Duration::from_secs(2)).await;
    let began = held.last_words.unwrap().from();
    host.plain_line(now(), "the last line before it died").unwrap();
    let (_, _) = dying.stop(Signal::KILL);

    let window = Window::new(began, now()).unwrap();
    let id = client.open(window, &["n1"], Duration::from_secs(2)).await.unwrap().id;
    let first = client.sealed(id).await.unwrap();
    assert_eq!(first.coverage.unwrap().nodes[0].state, NodeState::LastWords);
    let first = first.incident.archive.unwrap();
    client.download(id, &rig.path("first.tar.gz")).await.unwrap();

    host.boots("22222222-2222-2222-2222-222222222222").unwrap();
    let mut back = agent(&rig, &config, "second.err");
    back.until_it_says("session stands");
    let second = wait::until("the second revision", async || {
        let detail = client.clone().get(id).await.ok()?;
        detail.incident.archive.as_ref().is_some_and(|a| a.revision == 2).then_some(detail)
    })
    .await;
    assert_eq!(second.incident.earlier, std::slice::from_ref(&first));
    let node = second.coverage.as_ref().unwrap().nodes.first().unwrap().clone();
    assert_eq!(node.state, NodeState::Answered);
    let files = node.sources.iter().find(|s| s.source == "files").unwrap();
    assert!(files.items > 0 && files.gaps.iter().all(|g| g.reason != GapReason::NodeSilent), "{files:#?}");
    let amended = node.amended.unwrap();
    assert_eq!(amended.revision, 2);
    assert!(amended.closed.iter().any(|c| c.gap.reason == GapReason::NodeSilent), "{amended:#?}");

    let newest = client.download(id, &rig.path("second.tar.gz")).await.unwrap();
    assert_eq!(
        newest.incident.amends.as_ref().map(|a| (&a.file_name, a.sha256)),
        Some((&first.file_name, first.sha256))
    );
    let count = |file: &str| {
        let mut file = casefile_review::casefile::CaseFile::open(&rig.path(file)).unwrap();
        let entries = file.recordings(None);
        entries.iter().map(|(_, e)| audit::audit(&mut file.recording(e).unwrap()).unwrap().frames).sum::<u64>()
    };
    assert!(count("second.tar.gz") >= count("first.tar.gz"), "every frame of the first is in the second");
    for file in ["first.tar.gz", "second.tar.gz"] {
        let verified = run("casefile", &["verify", rig.path(file).to_str().unwrap()]);
        assert!(verified.status.success(), "{}", said(&verified));
    }
    // An older one can be had by its number.
    let again = rig.path("again.tar.gz");
    let token = casefile_collector::data::owner_token_below(&rig.path("collector"));
    let id = id.to_string();
    let args = ["download", &id, "--revision", "1", "-o", again.to_str().unwrap(), "--collector", &rig.url()];
    let fetched = command("casefile").args(args).arg("--token-file").arg(token).output().unwrap();
    assert!(fetched.status.success(), "{}", said(&fetched));
    let bytes = |file: &Path| std::fs::read(file).unwrap();
    assert!(bytes(&again) == bytes(&rig.path("first.tar.gz")), "the first is as it was");
    back.stop(Signal::TERM);
    stop(collector).await;
}
