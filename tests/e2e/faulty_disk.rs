//! A disk that gives errors: the process stays and says so, nothing is acknowledged that was not synced, and what can be
//! mended goes on by itself.

use std::time::Duration;

use casefile_proto::time::Window;
use casefile_tests::disk::SmallDisk;
use casefile_tests::program::{Serving, tool};
use casefile_tests::scrape::{Metrics, get, metrics};
use casefile_tests::{Rig, audit, host::FakeHost, now, wait};
use rustix::process::{Pid, Signal, kill_process};

/// Syncs of the log of last words that fail, one after the other.
const FAILING: u32 = 4;

const FAILURES: &str = "casefile_last_words_failures_total";
const ACKS: &str = "casefile_acks_sent_total";

async fn until_metrics(at: std::net::SocketAddr, what: &str, is: impl Fn(&Metrics) -> bool) -> Metrics {
    wait::until(what, async || {
        let now = metrics(at);
        is(&now).then_some(now)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_synced_is_not_acknowledged_and_comes_again_when_it_can() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    let Some(mut strace) = tool("strace") else { return };
    // Of the calls that sync a log, from the twentieth of its thread on, so many fail.
    let inject = format!("inject=fdatasync:error=EIO:when=20..{}", 20 + FAILING - 1);
    strace.args(["-f", "-qq", "-o"]).arg(rig.path("strace.log"));
    for log in ["0a", "0b", "1a", "1b"] {
        strace.arg("-P").arg(rig.path("data/last-words.wal").join(log));
    }
    strace.args(["-e", "trace=fdatasync", "-e", &inject]);
    let mut collector = Serving::start(&rig, &rig.path("data"), Some(strace));
    let at = collector.observed_at;
    let agent = rig.agent("n1", host.root()).unwrap();
    let failed = until_metrics(at, "a sync that failed", |now| now.of(FAILURES) >= 1.0).await;
    assert!(failed.of(FAILURES) < f64::from(FAILING), "looked too late: {failed:?}");
    let (acks, synced) = (failed.of(ACKS), failed.of("casefile_last_words_appends_total"));
    assert!(acks >= 1.0);
    let still = until_metrics(at, "more syncs that failed", |now| now.of(FAILURES) >= f64::from(FAILING - 1)).await;
    if still.of(FAILURES) < f64::from(FAILING) {
        assert_eq!(still.of(ACKS), acks, "something was acknowledged that no sync had put on the disk");
        assert!(still.of("casefile_last_words_appends_total") > synced, "it was tried");
    }
    assert_eq!(get(at, "/healthz", "").unwrap().status, 200, "the process works");
    collector.program.until_it_says("cannot store last words");
    let healed = until_metrics(at, "acknowledgements again", |now| now.of(ACKS) > acks + 5.0).await;
    assert_eq!(healed.of(FAILURES), f64::from(FAILING), "as often as it was made to fail");
    let ended = healed.of("casefile_sessions_ended_total{reason=\"storage\"}");
    assert_eq!(ended, f64::from(FAILING), "each was told as what it was");
    let last = agent.last().unwrap();
    agent.stop().await;

    // Not strace, which would leave it alone: the collector below it.
    stop_below(collector.program.pid());
    let ended = collector.program.ended();
    let said = collector.program.said();
    assert!(ended.success() && said.contains("collector stopped") && !said.contains("panicked"), "{ended}\n{said}");
    assert!(said.contains("Input/output error"), "it says why: {said}");
    let log = std::fs::read(rig.path("strace.log")).unwrap();
    let injected = String::from_utf8_lossy(&log).lines().filter(|line| line.contains("INJECTED")).count();
    assert_eq!(injected, FAILING as usize, "{}", String::from_utf8_lossy(&log));
    let audit = audit::directory(&rig.path("data/last-words/1")).unwrap();
    assert_eq!((audit.frames, audit.last.values().max()), (last.0, Some(&last)), "each once: {audit:?}");
}

/// Asks the only child of a process to stop.
fn stop_below(pid: u32) {
    let children = std::fs::read(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let child: i32 = String::from_utf8_lossy(&children).split_whitespace().next().unwrap().parse().unwrap();
    kill_process(Pid::from_raw(child).unwrap(), Signal::TERM).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_the_kernel_made_read_only_ends_nobody_and_what_it_holds_can_still_be_asked() {
    let rig = Rig::new().unwrap();
    let Some(disk) = SmallDisk::ext4(&rig.path("disk"), 64, &["-e", "remount-ro"]) else { return };
    let host = FakeHost::new(rig.path("host")).unwrap();
    let collector = Serving::start(&rig, &disk.path("data"), None);
    let at = collector.observed_at;
    let agent = rig.agent("n1", host.root()).unwrap();
    let mut client = rig.client().await.unwrap();
    client.recorded("n1", Duration::from_secs(1)).await;
    let window = Window::new(now().before(Duration::from_secs(1)), now()).unwrap();
    let id = client.open(window, &[], Duration::from_secs(30)).await.unwrap().id;
    client.sealed(id).await.unwrap();
    if !disk.fail() {
        return;
    }
    wait::until("/readyz that says why", async || {
        let answer = get(at, "/readyz", "").ok()?;
        let says = |text: &str| answer.body.contains(text);
        (answer.status == 503 && says("failed room: the disk is read-only") && says("failed disk: ")).then_some(())
    })
    .await;
    let failed = metrics(at);
    assert_eq!(failed.of("casefile_ingest_paused{reason=\"read-only\"}"), 1.0);
    assert_eq!(get(at, "/healthz", "").unwrap().status, 200, "the process works");
    let window = Window::new(now().before(Duration::from_secs(1)), now()).unwrap();
    let refused = client.open(window, &[], Duration::from_secs(30)).await.unwrap_err();
    assert!(refused.message().contains("cannot be written"), "{refused:?}");
    assert!(client.get(id).await.unwrap().incident.archive.is_some());
    let frames = agent.last();
    wait::until("frames that the agent records meanwhile", async || (agent.last() > frames).then_some(())).await;
    agent.stop().await;
    let (ended, said) = collector.program.stop(Signal::TERM);
    assert!(ended.success() && said.contains("collector stopped") && !said.contains("panicked"), "{ended}\n{said}");
    assert!(said.contains("the disk is read-only"), "{said}");
}
