//! The disk fills up and gets room again: nobody ends, nothing acknowledged is lost, what could not be kept is declared,
//! and all of it goes on by itself.

use std::time::Duration;

use casefile_evidence::archive::reader::{Archive, Limits};
use casefile_evidence::archive::sign::AllowedSigners;
use casefile_proto::gap::GapReason;
use casefile_proto::incident::IncidentState;
use casefile_proto::time::Window;
use casefile_tests::disk::SmallDisk;
use casefile_tests::program::{Talking, command, run, said};
use casefile_tests::scrape::metrics;
use casefile_tests::{Rig, audit, host::FakeHost, now, stop, wait};
use rustix::process::Signal;

#[test]
fn an_agent_whose_disk_was_full_has_what_it_had_goes_on_and_declares_the_rest() {
    let rig = Rig::new().unwrap();
    let Some(disk) = SmallDisk::mount(&rig.path("disk"), 4096) else { return };
    let ring = disk.path("agent/ring");
    let config = rig.path("agent.toml");
    std::fs::write(&config, format!("node = \"n1\"\ndata_dir = {:?}\n", disk.path("agent"))).unwrap();
    let mut agent =
        Talking::start(command("casefile-agent").arg("run").arg("--config").arg(&config), rig.path("agent.err"));
    let frames = || audit::directory(&ring).ok().map_or(0, |audit| audit.frames);
    wait::until_blocking("the first frames", || (frames() >= 2).then_some(()));

    disk.fill();
    agent.until_it_says("the ring cannot be written");
    let before = frames();
    disk.make_room();
    agent.until_it_says("the ring is written again");
    wait::until_blocking("frames after the full disk", || (frames() >= before + 2).then_some(()));

    let (ended, said) = agent.stop(Signal::TERM);
    assert!(ended.success() && !said.contains("panicked"), "{ended}\n{said}");
    assert!(said.contains("the node's disk is nearly full"), "it says why:\n{said}");
    // That every missing number follows a declared hole is what the audit is for.
    let audit = audit::directory(&ring).unwrap();
    assert!(audit.frames > before, "what was there before is there still: {audit:?}");
    let declared = audit.holes.iter().filter(|gap| gap.reason == GapReason::NotRecorded);
    let lost: u64 = declared.map(|gap| gap.count.unwrap_or(0)).sum();
    assert!(lost >= 1 && said.contains(&format!("lost={lost}")), "{audit:?}\n{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_whose_disk_was_full_has_all_it_acknowledged_and_seals_what_it_could_not_seal() {
    let rig = Rig::new().unwrap();
    let Some(disk) = SmallDisk::mount(&rig.path("disk"), 8192) else { return };
    let host = FakeHost::new(rig.path("host")).unwrap();
    // Where the harness looks for the collector's keys.
    std::fs::create_dir(disk.path("data")).unwrap();
    std::os::unix::fs::symlink(disk.path("data"), rig.path("collector")).unwrap();
    let config = rig.path("collector.toml");
    let listen = rig.url().trim_start_matches("https://").to_owned();
    // Nothing is kept back, so that it cannot be sealed meanwhile.
    let text = format!("listen = {listen:?}\ndata_dir = {:?}\nreserve_mib = 0\n", disk.path("data"));
    std::fs::write(&config, text).unwrap();
    let mut collector = Talking::start(
        command("casefile-collector").arg("serve").arg("--config").arg(&config),
        rig.path("collector.err"),
    );
    collector.until_it_says("collector started");
    let agent = rig.agent("n1", host.root()).unwrap();
    let mut client = rig.client().await.unwrap();
    let held = client.recorded("n1", Duration::from_secs(2)).await.last_words.unwrap();

    // Opened while there is room, and due when there is none.
    let window = Window::new(now().before(Duration::from_secs(1)), now().after(Duration::from_secs(1))).unwrap();
    let id = client.open(window, &[], Duration::from_secs(3)).await.unwrap().id;
    disk.fill();
    collector.until_it_says("no evidence is taken");
    collector.until_it_says("could not be sealed");
    let refused = run("casefile", &["collect", "--since", "5s", "--data", disk.path("data").to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("disk full"), "{}", said(&refused));

    disk.make_room();
    let room = now();
    client.recorded("n1", held.duration() + Duration::from_secs(2)).await;
    let sealed = wait::until("the incident sealed by itself", async || {
        client.clone().get(id).await.ok().filter(|detail| detail.incident.state == IncidentState::Sealed)
    });
    let detail = sealed.await;
    assert!(detail.incident.failure.is_none() && detail.incident.archive.unwrap().sealed_at >= room);
    let path = rig.path("case.tar.gz");
    client.download(id, &path).await.unwrap();
    let mut file = Archive::open(&path, Limits::default()).unwrap();
    assert_eq!(file.verify(&AllowedSigners::default()).problems, []);
    wait::until("what came after it at the collector", async || {
        let nodes = client.clone().nodes().await.ok()?;
        nodes.into_iter().find_map(|n| n.last_words).filter(|held| held.until() > room)
    })
    .await;
    agent.stop().await;

    let (ended, said) = collector.stop(Signal::TERM);
    assert!(ended.success() && !said.contains("panicked"), "{ended}\n{said}");
    let audit = audit::directory(&disk.path("data/last-words/1")).unwrap();
    assert!(audit.lost().is_empty(), "the ring had all of it, and gave it: {audit:?}");
    assert_eq!(audit.frames, audit.last.values().map(|last| last.0).sum::<u64>(), "from the first frame on");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_gathered_is_sealed_on_a_full_disk_out_of_what_was_kept_back_for_that() {
    let rig = Rig::new().unwrap();
    let Some(disk) = SmallDisk::mount(&rig.path("collector"), 64 << 10) else { return };
    let host = FakeHost::new(rig.path("host")).unwrap();
    let collector = rig.collector().await.unwrap();
    let at = collector.observed_at().unwrap();
    let agent = rig.agent("n1", host.root()).unwrap();
    let mut client = rig.client().await.unwrap();
    client.recorded("n1", Duration::from_secs(2)).await;
    let kept_back = metrics(at).of("casefile_reserve_bytes");
    assert!(kept_back > 1e6, "{kept_back}");

    let window = Window::new(now().before(Duration::from_secs(1)), now().after(Duration::from_secs(1))).unwrap();
    let id = client.open(window, &[], Duration::from_secs(3)).await.unwrap().id;
    disk.fill();
    let detail = client.sealed(id).await.unwrap();
    let path = rig.path("case.tar.gz");
    client.download(id, &path).await.unwrap();
    let mut file = Archive::open(&path, Limits::default()).unwrap();
    assert_eq!(file.verify(&AllowedSigners::default()).problems, []);
    assert!(detail.incident.archive.unwrap().size > 0);
    let full = metrics(at);
    assert_eq!((full.of("casefile_reserve_uses_total"), full.of("casefile_incident_seal_failures_total")), (1.0, 0.0));
    assert_eq!(full.of("casefile_ingest_paused{reason=\"space\"}"), 1.0);

    disk.make_room();
    wait::until("the space kept back again", async || {
        (metrics(at).of("casefile_reserve_bytes") == kept_back).then_some(())
    })
    .await;
    agent.stop().await;
    stop(collector).await;
}

#[test]
fn an_archive_for_which_there_is_no_room_is_told_and_leaves_nothing_behind() {
    let rig = Rig::new().unwrap();
    let Some(disk) = SmallDisk::mount(&rig.path("disk"), 1024) else { return };
    let host = FakeHost::new(rig.path("host")).unwrap();
    let root = host.root().to_str().unwrap();
    let since = now().before(Duration::from_secs(60)).to_string();
    let extract = |to: &std::path::Path| {
        let to = to.to_str().unwrap();
        let args = ["extract", "--since-time", &since, "--host-root", root, "--ring", "/nowhere", "-o", to];
        run("casefile-agent", &args)
    };
    let whole = rig.path("whole.tar.gz");
    assert_eq!(extract(&whole).status.code(), Some(5), "with room it is written");
    disk.fill();
    let refused = extract(&disk.path("out.tar.gz"));
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("no archive was written, for want of room"), "{}", said(&refused));
    let into = disk.path("");
    let left: Vec<_> = std::fs::read_dir(&into).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["ballast"]);
    let unpacked = run("casefile", &["extract", whole.to_str().unwrap(), "--into", into.to_str().unwrap()]);
    assert_eq!(unpacked.status.code(), Some(1), "{}", said(&unpacked));
    assert!(said(&unpacked).contains("No space left"), "{}", said(&unpacked));
}
