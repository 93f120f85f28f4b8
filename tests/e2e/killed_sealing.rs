//! Sealing that is killed at a system call leaves nothing or a whole archive, and the next collector gets to a sealed one.
//!
//! `cargo test` tries every seventh of each call that changes something on the disk. All of them, in some minutes:
//! `CASEFILE_EVERY_CALL=1 cargo test -p casefile-tests --test e2e killed_sealing`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use casefile_evidence::archive::reader::{Archive, Limits};
use casefile_evidence::archive::sign::AllowedSigners;
use casefile_proto::ids::IncidentId;
use casefile_proto::time::Window;
use casefile_tests::host::FakeHost;
use casefile_tests::program::{Running, Talking, binary, command, tool};
use casefile_tests::{Rig, now, stop, wait};
use rustix::process::Signal;

/// What changes a disk. Reading changes nothing, so dying there is dying before or after one of these.
const CALLS: [&str; 9] =
    ["write", "pwrite64", "fsync", "fdatasync", "rename", "unlink", "unlinkat", "ftruncate", "mkdir"];

/// No thread of a collector that seals one small incident makes one of these calls more often.
const MOST: usize = 2_000;

/// A data directory whose incident is about to be sealed from last words, as a collector left it that was stopped.
async fn about_to_seal(rig: &Rig) -> IncidentId {
    let host = FakeHost::new(rig.path("host")).unwrap();
    let collector = rig.collector().await.unwrap();
    let agent = rig.agent("n1", host.root()).unwrap();
    let mut client = rig.client().await.unwrap();
    client.recorded("n1", Duration::from_secs(1)).await;
    agent.stop().await;
    let window = Window::new(now().before(Duration::from_secs(5)), now()).unwrap();
    let id = client.open(window, &["n1"], Duration::from_secs(3)).await.unwrap().id;
    drop(client);
    stop(collector).await;
    id
}

#[expect(clippy::disallowed_methods, reason = "a stock tool, started by a test")]
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

/// Every archive in the directory verifies; how many there are.
fn whole(archives: &Path) -> usize {
    let files = std::fs::read_dir(archives).unwrap().map(|e| e.unwrap().path());
    let finished = files.filter(|path| path.extension().is_some_and(|e| e == "gz"));
    finished
        .map(|path| {
            let mut archive = Archive::open(&path, Limits::default()).unwrap();
            let found = archive.verify(&AllowedSigners::parse(""));
            assert!(found.is_intact() && !archive.truncated(), "{}: {found:?}", path.display());
        })
        .count()
}

/// Kills it when one of its threads makes this call for the nth time; whether it died of that.
fn dies_at(strace: Command, (call, nth): (&str, usize), config: &Path, heard: &Path) -> bool {
    let mut strace = strace;
    // As a grandchild, so that what we started is the collector.
    strace.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    strace.args(["-e", &format!("inject={call}:signal=KILL:when={nth}")]);
    strace.arg(binary("casefile-collector")).arg("serve").arg("--config").arg(config);
    let mut collector = Running::start(strace.stderr(std::fs::File::create(heard).unwrap()));
    let died = wait::until_blocking("the end of a collector, or of its sealing", || {
        let ended = collector.0.try_wait().unwrap().is_some();
        let sealed = String::from_utf8_lossy(&std::fs::read(heard).unwrap_or_default()).contains("incident sealed");
        if ended { Some(true) } else { sealed.then_some(false) }
    });
    collector.kill();
    died
}

#[tokio::test(flavor = "multi_thread")]
async fn sealing_that_is_killed_at_any_call_leaves_nothing_or_a_whole_archive_and_goes_on() {
    if tool("strace").is_none() {
        return;
    }
    let every = if std::env::var_os("CASEFILE_EVERY_CALL").is_some() { 1 } else { 7 };
    let rig = Rig::new().unwrap();
    let id = about_to_seal(&rig).await;
    let (data, before) = (rig.path("collector"), rig.path("before"));
    std::fs::rename(&data, &before).unwrap();
    let config = rig.path("collector.toml");
    let listen = rig.url().trim_start_matches("https://").to_owned();
    std::fs::write(&config, format!("listen = {listen:?}\ndata_dir = {data:?}\n")).unwrap();

    let (mut killed, mut left_whole) = (0, 0);
    for call in CALLS {
        for nth in (1..MOST).step_by(every) {
            let _ended = std::fs::remove_dir_all(&data);
            copy(&before, &data);
            let Some(strace) = tool("strace") else { return };
            if !dies_at(strace, (call, nth), &config, &rig.path("killed.err")) {
                break;
            }
            killed += 1;
            left_whole += whole(&data.join("archives"));
            let mut serve = command("casefile-collector");
            let mut again = Talking::start(serve.arg("serve").arg("--config").arg(&config), rig.path("again.err"));
            again.until_it_says("collector started");
            let sealed = rig.client().await.unwrap().sealed(id).await.unwrap().incident.archive.unwrap();
            let files: Vec<_> =
                std::fs::read_dir(data.join("archives")).unwrap().map(|e| e.unwrap().file_name()).collect();
            assert_eq!(files, [sealed.file_name.as_str()], "killed at {call} {nth}");
            assert_eq!(whole(&data.join("archives")), 1, "killed at {call} {nth}");
            again.stop(Signal::KILL);
        }
    }
    eprintln!("killed at {killed} calls, of which {left_whole} left a whole archive");
    assert!(killed > CALLS.len() / 2, "only {killed} kills: nothing was tried");
    assert!(left_whole < killed, "it was never killed before the archive was there");
}
