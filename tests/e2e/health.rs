//! `/healthz`, `/readyz` and gRPC health: they are well when the collector is, fail when it is not, say why, and come back.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use casefile_identity::dial::{Me, dial};
use casefile_tests::disk::SmallDisk;
use casefile_tests::program::Serving;
use casefile_tests::scrape::{get, metrics};
use casefile_tests::{Rig, SOON, audit, host::FakeHost, stop, wait};
use rustix::process::Signal;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// From room on the disk to the first frame that is acknowledged again.
const RELIEF: Duration = Duration::from_secs(2);

/// A connection of somebody who does not say who he is.
async fn channel(rig: &Rig) -> Channel {
    let nobody = Me::Nobody(rig.owner().unwrap().pin());
    dial(&rig.url().parse().unwrap(), &nobody, |endpoint| endpoint).await.unwrap()
}

async fn until_ready(at: SocketAddr, status: u16, says: &str) {
    wait::until(&format!("/readyz with {status} and {says:?}"), async || {
        let answer = get(at, "/readyz", "").ok()?;
        (answer.status == status && answer.body.contains(says)).then_some(())
    })
    .await;
}

async fn acks_after(at: SocketAddr, before: f64) {
    wait::until("an acknowledgement", async || (metrics(at).of("casefile_acks_sent_total") > before).then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_works_says_so_as_text_as_json_and_over_grpc_and_stops_saying_it_when_it_stops() {
    let rig = Rig::new().unwrap();
    let collector = rig.collector().await.unwrap();
    let at = collector.observed_at().unwrap();
    for path in ["/healthz", "/readyz"] {
        let answer = get(at, path, "").unwrap();
        assert!(answer.status == 200 && answer.body.lines().all(|line| line.starts_with("ok ")), "{answer:?}");
        assert!(answer.body.contains("ok writers"), "{answer:?}");
        let json = get(at, path, "Accept: application/json\r\n").unwrap();
        assert!(json.head.contains("application/json"), "{json:?}");
        let json: serde_json::Value = serde_json::from_str(&json.body).unwrap();
        assert!(json["ok"] == true && json["checks"].as_array().unwrap().len() >= 3, "{json}");
    }
    let mut client = HealthClient::new(channel(&rig).await);
    for service in ["", "casefile.v1.AgentService", "casefile.v1.IncidentService", "casefile.v1.NodeService"] {
        let ask = HealthCheckRequest { service: service.to_owned() };
        let mut client = client.clone();
        wait::until("serving", async || {
            let answer = client.check(ask.clone()).await.ok()?.into_inner();
            (answer.status() == ServingStatus::Serving).then_some(())
        })
        .await;
    }
    let unknown = client.check(HealthCheckRequest { service: "no.such.Service".to_owned() }).await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);

    let mut watched = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let began = Instant::now();
    stop(collector).await;
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "whoever watches does not hold up the stop: {:?}",
        began.elapsed()
    );
    let last = tokio::time::timeout(SOON, watched.message()).await.unwrap().unwrap();
    assert!(last.is_none_or(|last| last.status() != ServingStatus::Serving), "{last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_stops_taking_before_it_is_full_and_taking_goes_on_within_two_seconds_of_relief() {
    let rig = Rig::new().unwrap();
    let Some(disk) = SmallDisk::mount(&rig.path("collector"), 32 << 10) else { return };
    let host = FakeHost::new(rig.path("host")).unwrap();
    let collector = rig.collector().await.unwrap();
    let at = collector.observed_at().unwrap();
    let agent = rig.agent("n1", host.root()).unwrap();
    let client = rig.client().await.unwrap();
    client.recorded("n1", Duration::from_secs(1)).await;
    until_ready(at, 200, "ok room").await;

    disk.fill_to(512);
    until_ready(at, 503, "failed room: the disk is nearly full").await;
    let full = metrics(at);
    assert_eq!(full.of("casefile_ingest_paused{reason=\"space\"}"), 1.0);
    assert_eq!(full.of("casefile_ingest_pauses_total{reason=\"space\"}"), 1.0);
    assert!(full.of("casefile_disk_free_bytes") > 0.0, "it stopped before the disk was full");
    let mut health = HealthClient::new(channel(&rig).await);
    wait::until("not serving", async || {
        let answer = health.check(HealthCheckRequest::default()).await.ok()?.into_inner();
        (answer.status() == ServingStatus::NotServing).then_some(())
    })
    .await;
    assert_eq!(get(at, "/healthz", "").unwrap().status, 200, "the process works");
    // What was on its way is taken; then frames stay where they are recorded.
    let (acks, frames) = wait::until("frames that stay with the agent", async || {
        let (now, ring) = (metrics(at), audit::directory(&rig.ring("n1")).ok()?.frames);
        let taken = now.of("casefile_frames_received_total");
        (f64::from(u32::try_from(ring).ok()?) > taken + 30.0).then(|| (now.of("casefile_acks_sent_total"), taken))
    })
    .await;

    disk.make_room();
    let relieved = Instant::now();
    acks_after(at, acks).await;
    let took = relieved.elapsed();
    eprintln!("from relief to the first acknowledgement: {} ms", took.as_millis());
    assert!(took <= RELIEF, "{took:?}");
    until_ready(at, 200, "ok room").await;
    let after = metrics(at);
    assert_eq!(after.of("casefile_ingest_paused{reason=\"space\"}"), 0.0);
    assert_eq!(after.of("casefile_sessions_started_total"), 1.0, "the session stood all the time");
    assert_eq!(after.of("casefile_last_words_failures_total"), 0.0, "no write failed");
    assert!(after.of("casefile_frames_received_total") > frames);
    agent.stop().await;
    stop(collector).await;
    let audit = audit::directory(&disk.path("last-words/1")).unwrap();
    let last: u64 = audit.last.values().map(|last| last.0).sum();
    assert_eq!(audit.frames, last, "the ring had all of it, and gave it: {audit:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_files_left_stops_taking_and_goes_on_when_there_are_some() {
    let rig = Rig::new().unwrap();
    let Some(disk) = SmallDisk::ext4(&rig.path("collector"), 64, &["-N", "64"]) else { return };
    let host = FakeHost::new(rig.path("host")).unwrap();
    let collector = rig.collector().await.unwrap();
    let at = collector.observed_at().unwrap();
    let agent = rig.agent("n1", host.root()).unwrap();
    rig.client().await.unwrap().recorded("n1", Duration::from_secs(1)).await;
    disk.use_up_files();
    until_ready(at, 503, "failed room: the disk can hold nearly no more files").await;
    until_ready(at, 503, "failed disk: the data directory cannot be written").await;
    let full = metrics(at);
    assert_eq!(full.of("casefile_ingest_paused{reason=\"inodes\"}"), 1.0);
    assert_eq!(full.of("casefile_disk_files_free"), 0.0);
    disk.give_files_back();
    let relieved = Instant::now();
    acks_after(at, full.of("casefile_acks_sent_total")).await;
    assert!(relieved.elapsed() <= RELIEF, "{:?}", relieved.elapsed());
    until_ready(at, 200, "ok disk").await;
    agent.stop().await;
    stop(collector).await;
    let audit = audit::directory(&disk.path("last-words/1")).unwrap();
    assert_eq!(audit.frames, audit.last.values().map(|last| last.0).sum::<u64>(), "{audit:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_is_told_by_both_and_the_process_answers_all_the_time() {
    let rig = Rig::new().unwrap();
    let Some(disk) = SmallDisk::ext4(&rig.path("disk"), 64, &[]) else { return };
    let host = FakeHost::new(rig.path("host")).unwrap();
    let collector = Serving::start(&rig, &disk.path("data"), None);
    let at = collector.observed_at;
    let agent = rig.agent("n1", host.root()).unwrap();
    rig.client().await.unwrap().recorded("n1", Duration::from_secs(1)).await;
    assert_eq!(get(at, "/healthz", "").unwrap().status, 200);

    let Some(frozen) = disk.freeze() else { return };
    until_ready(at, 503, "failed disk: the disk does not answer").await;
    wait::until("/healthz that names the thread", async || {
        let answer = get(at, "/healthz", "").ok()?;
        (answer.status == 503 && answer.body.contains("failed writers: 1 of 2 threads that write do not answer"))
            .then_some(())
    })
    .await;
    // Many questions cost no more than one.
    let threads = metrics(at).of("process_threads");
    for _ in 0..5 {
        assert_eq!(get(at, "/readyz", "").unwrap().status, 503);
    }
    assert!(metrics(at).of("process_threads") <= threads + 2.0);
    let acks = metrics(at).of("casefile_acks_sent_total");
    drop(frozen);
    acks_after(at, acks).await;
    until_ready(at, 200, "ok disk").await;
    assert_eq!(get(at, "/healthz", "").unwrap().status, 200);
    agent.stop().await;
    let (ended, said) = collector.program.stop(Signal::TERM);
    assert!(ended.success() && !said.contains("panicked"), "{ended}\n{said}");
}
