//! `casefile-agent ready`, asked beside an agent as kubelet asks it: no before there is a ring, yes soon after the agent's start,
//! and of little cost. The times and the cost are printed; a test has no clock to hold them against.

use std::fs;
use std::time::Instant;

use casefile_tests::host::FakeHost;
use casefile_tests::program::{Running, command, run, said, stdout};
use casefile_tests::{Rig, wait};
use rustix::process::{Signal, kill_process};

#[test]
fn an_agent_is_ready_once_it_records_and_whoever_asks_is_told_why_it_is_not() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    let (config, data) = (rig.path("agent.toml"), rig.path("agent"));
    fs::write(&config, format!("node = \"n-1\"\ndata_dir = {data:?}\nhost_root = {:?}\n", host.root())).unwrap();
    let asked = || run("casefile-agent", &["ready", "--config", config.to_str().unwrap()]);
    let ready = || {
        let output = asked();
        output.status.success().then(|| stdout(&output))
    };

    let before = asked();
    assert_eq!(before.status.code(), Some(3), "{}", said(&before));
    assert_eq!(stdout(&before), format!("not ready: there is no ring at {} yet\n", data.join("ring").display()));

    let started = Instant::now();
    let agent = Running::start(command("casefile-agent").args(["run", "--config"]).arg(&config));
    assert_eq!(wait::until_blocking("a ready agent", ready), "ready\n");
    eprintln!("ready {} ms after the agent was started", started.elapsed().as_millis());

    // A boot of which there is nothing: the agent goes on with the one that it was started in.
    let boot = host.root().join("proc/sys/kernel/random/boot_id");
    let id = fs::read(&boot).unwrap();
    fs::write(&boot, "99999999-9999-9999-9999-999999999999\n").unwrap();
    assert_eq!(stdout(&asked()), "not ready: there is no frame of this boot in the ring yet\n");
    fs::write(&boot, id).unwrap();
    assert_eq!(ready().as_deref(), Some("ready\n"));

    // It stands still: after some seconds that is noticed. Then it goes on.
    let pid = rustix::process::Pid::from_child(&agent.0);
    kill_process(pid, Signal::STOP).unwrap();
    let old = wait::until_blocking("an old frame", || Some(asked()).filter(|output| !output.status.success()));
    assert_eq!(old.status.code(), Some(3), "{}", said(&old));
    let why = stdout(&old);
    assert!(why.starts_with("not ready: the newest frame") && why.ends_with("old, and may be 10 s\n"), "{why}");
    kill_process(pid, Signal::CONT).unwrap();
    wait::until_blocking("a ready agent", ready);
}
