//! Memory does not grow with the logs: a pod log many times as large as what the programs may hold goes through agent,
//! collector and archive whole.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::time::{Duration, Instant};

use casefile_proto::time::Window;
use casefile_tests::program::{Talking, command, run, said};
use casefile_tests::{Rig, host::FakeHost, now};
use rustix::process::Signal;

/// The log, in MiB of its own text.
const LOG_MIB: u64 = 300;

/// The most that a process of a debug build may ever hold, in KiB: text, stacks and all that it works with.
const MOST_KIB: u64 = 64 << 10;

// Or the test would show nothing.
const _: () = assert!(LOG_MIB << 10 > 4 * MOST_KIB);

/// The most that a process has ever held, in KiB.
fn peak_kib(pid: u32) -> u64 {
    let status = fs::read(format!("/proc/{pid}/status")).unwrap();
    let line = String::from_utf8_lossy(&status).lines().find_map(|l| l.strip_prefix("VmHWM:").map(str::to_owned));
    line.unwrap().trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_300_mib_goes_through_agent_and_collector_in_little_memory() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    let at = now();
    // Lines that differ, so that the archive is not a small one.
    let log = host.root().join("var/log/pods/shop_api-0_0a1b2c3d-1111-2222-3333-444455556666/main/0.log");
    host.pod_line(at.before(Duration::from_secs(600)), "long before the window").unwrap();
    let mut out = BufWriter::new(File::options().append(true).open(&log).unwrap());
    let (mut written, mut lines, mut seed) = (0, 0u64, 0x9e37_79b9_7f4a_7c15_u64);
    let stamp = at.to_string();
    while written < LOG_MIB << 20 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let line =
            format!("{stamp} stdout F {lines} GET /api/v1/orders/{seed:016x} 200 {} ms {:0>160}\n", seed % 977, "x");
        out.write_all(line.as_bytes()).unwrap();
        written += line.len() as u64;
        lines += 1;
    }
    out.flush().unwrap();
    drop(out);

    let listen = rig.url().trim_start_matches("https://").to_owned();
    let (server, agent) = (rig.path("c.toml"), rig.agent_config("n1", host.root()).unwrap());
    fs::write(&server, format!("listen = {listen:?}\ndata_dir = {:?}\n", rig.path("collector"))).unwrap();
    rig.enlist("n1").unwrap();
    let mut server =
        Talking::start(command("casefile-collector").arg("serve").arg("--config").arg(&server), rig.path("c.err"));
    server.until_it_says("collector started");
    let mut agent = Talking::start(command("casefile-agent").arg("run").arg("--config").arg(&agent), rig.path("a.err"));
    agent.until_it_says("session stands");
    let mut client = rig.client().await.unwrap();
    client.recorded("n1", Duration::from_secs(1)).await;

    let began = Instant::now();
    let window = Window::new(at.before(Duration::from_secs(1)), now()).unwrap();
    let id = client.open(window, &[], Duration::from_secs(300)).await.unwrap().id;
    let coverage = client.sealed(id).await.unwrap().coverage.unwrap();
    let took = began.elapsed();
    let (of_agent, of_server) = (peak_kib(agent.pid()), peak_kib(server.pid()));
    eprintln!("{LOG_MIB} MiB took {took:?}; at most {of_agent} KiB in the agent, {of_server} KiB in the collector");
    assert!(of_agent < MOST_KIB, "the agent held {of_agent} KiB");
    assert!(of_server < MOST_KIB, "the collector held {of_server} KiB");

    let pods = coverage.nodes[0].sources.iter().find(|s| s.source == "pods").unwrap();
    assert_eq!((pods.records, pods.gaps.len()), (lines, 0), "all of it arrived: {:?}", pods.gaps);
    let archives: Vec<_> = fs::read_dir(rig.path("collector/archives")).unwrap().map(|e| e.unwrap().path()).collect();
    let verified = run("casefile", &["verify", archives[0].to_str().unwrap()]);
    assert!(verified.status.success(), "{}", said(&verified));
    // What was sent is gone from where it was kept meanwhile.
    assert_eq!(fs::read_dir(rig.path("collector/spool")).unwrap().count(), 0);
    for (program, name) in [(agent, "agent"), (server, "collector")] {
        let (ended, said) = program.stop(Signal::TERM);
        assert!(ended.success() && !said.contains("panicked"), "{name}: {said}");
    }
}
