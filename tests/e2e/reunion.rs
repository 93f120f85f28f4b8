//! A node that died and comes back: its incident was sealed from its last words, and what its disk kept amends it.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use casefile_proto::coverage::NodeState;
use casefile_proto::gap::GapReason;
use casefile_proto::time::{NANOS_PER_SEC, WallTime, Window};
use casefile_review::casefile::CaseFile;
use casefile_tests::program::{Talking, command, run, said, tool};
use casefile_tests::{Rig, audit, host::FakeHost, now, stop, wait};
use rustix::process::Signal;

use super::window::all_text;

fn agent(rig: &Rig, config: &Path, heard: &str) -> Talking {
    let mut command = command("casefile-agent");
    Talking::start(command.arg("run").arg("--config").arg(config), rig.path(heard))
}

/// A journal that ends with the crash, as systemd writes it. `false`: systemd's program is not there.
fn journal_of_the_boot_before(host: &FakeHost, died: WallTime) -> bool {
    let Some(mut remote) = tool("/lib/systemd/systemd-journal-remote") else { return false };
    let dir = host.root().join("var/log/journal/0123456789abcdef0123456789abcdef");
    std::fs::create_dir_all(&dir).unwrap();
    let entry = format!(
        "__REALTIME_TIMESTAMP={}\n__MONOTONIC_TIMESTAMP=99000000\n_BOOT_ID=11111111111111111111111111111111\n\
         _SYSTEMD_UNIT=db.service\nSYSLOG_IDENTIFIER=db\nPRIORITY=3\nMESSAGE=the last words of the service\n\n",
        died.nanos() / 1_000
    );
    let to = dir.join("system.journal");
    let mut child = remote.arg("-o").arg(to).arg("-").stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(entry.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_killed_amends_its_incident_when_it_is_back_in_another_boot() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    let collector = rig.collector().await.unwrap();
    rig.enlist("n1").unwrap();
    let config = rig.agent_config("n1", host.root()).unwrap();
    let dying = agent(&rig, &config, "first.err");
    let mut client = rig.client().await.unwrap();
    let held = client.recorded("n1", Duration::from_secs(2)).await;
    let began = held.last_words.unwrap().from();
    let died = now();
    host.plain_line(died, "the last line before it died").unwrap();
    let (_, _) = dying.stop(Signal::KILL);

    let window = Window::new(began, now()).unwrap();
    let id = client.open(window, &["n1"], Duration::from_secs(2)).await.unwrap().id;
    let first = client.sealed(id).await.unwrap();
    assert_eq!(first.coverage.unwrap().nodes[0].state, NodeState::LastWords);
    let first = first.incident.archive.unwrap();
    client.download(id, &rig.path("first.tar.gz")).await.unwrap();

    // What the dying kernel and the journal left is on its disk when it boots again.
    let dump = format!("dmesg-efi-{}01001", died.nanos() / NANOS_PER_SEC);
    host.append(&format!("sys/fs/pstore/{dump}"), "Panic#1 Part1\n<0>[ 99.5] Kernel panic - not syncing\n").unwrap();
    let journal = journal_of_the_boot_before(&host, died);
    host.boots("22222222-2222-2222-2222-222222222222", now()).unwrap();
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
    let items: Vec<_> = node.sources.iter().map(|s| (s.source.as_str(), s.items)).collect();
    assert!(!journal || items.iter().any(|(source, items)| *source == "journal" && *items > 0), "{items:?}");
    let amended = node.amended.unwrap();
    assert_eq!(amended.revision, 2);
    assert!(amended.closed.iter().any(|c| c.gap.reason == GapReason::NodeSilent), "{amended:#?}");

    let newest = client.download(id, &rig.path("second.tar.gz")).await.unwrap();
    assert_eq!(
        newest.incident.amends.as_ref().map(|a| (&a.file_name, a.sha256)),
        Some((&first.file_name, first.sha256))
    );
    let mut file = CaseFile::open(&rig.path("second.tar.gz")).unwrap();
    let text = all_text(&mut file, &format!("logs/pstore/{dump}"));
    assert!(text.contains("Kernel panic - not syncing"), "{text}");
    if journal {
        let text = all_text(&mut file, "logs/journal/db.service.log");
        assert!(text.contains("the last words of the service"), "{text}");
    }
    let count = |file: &str| {
        let mut file = CaseFile::open(&rig.path(file)).unwrap();
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
    let fetched = command("casefile").args(args).arg("--token-file").arg(&token).output().unwrap();
    assert!(fetched.status.success(), "{}", said(&fetched));
    let bytes = |file: &Path| std::fs::read(file).unwrap();
    assert!(bytes(&again) == bytes(&rig.path("first.tar.gz")), "the first is as it was");
    // Where a file stands, the incident may stand: its newest case file is fetched once, and kept for this user alone.
    let cache = rig.path("cache");
    let shown = |args: &[&str]| {
        let mut casefile = command("casefile");
        casefile.args(args).args(["--collector", &rig.url()]).arg("--token-file").arg(&token);
        casefile.env("XDG_CACHE_HOME", &cache).output().unwrap()
    };
    let (first, second) = (shown(&["show", &id]), shown(&["ss", &id, "-a"]));
    assert!(said(&first).contains("fetching") && first.status.success(), "{}", said(&first));
    assert!(!said(&second).contains("fetching") && second.status.code().is_some_and(|c| c != 1), "{}", said(&second));
    let kept: Vec<_> = std::fs::read_dir(cache.join("casefile")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert!(bytes(&kept[0]) == bytes(&rig.path("second.tar.gz")), "the newest");
    back.stop(Signal::TERM);
    stop(collector).await;
}
