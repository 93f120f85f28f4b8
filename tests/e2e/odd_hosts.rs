//! Machines that are not as expected: files of /proc that are missing, garbled or hidden, no PSI. Every source says at
//! every tick how it fared, the others go on, and what cannot be read is a declared gap up to the archive.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use casefile_agent::config::GpuConfig;
use casefile_agent::logs::LogConfig;
use casefile_agent::redaction::Masking;
use casefile_agent::sandbox::plan::Wanted;
use casefile_agent::{Agent, Setup, sources};
use casefile_evidence::recording::reader::{Piece, Recording};
use casefile_evidence::recording::segment::Retention;
use casefile_proto::ids::FrameSeq;
use casefile_proto::sample::Outcome;
use casefile_proto::units::Bytes;
use casefile_tests::host::{FakeHost, fixtures};
use casefile_tests::program::{run, said, stdout};
use casefile_tests::{Rig, audit, now, wait};

/// Records a host for a few ticks with an agent that has no collector; the first outcome of each source that was due.
async fn outcomes(rig: &Rig, host: &Path) -> BTreeMap<String, Outcome> {
    let config = casefile_agent::config::Config {
        collector: None,
        node: "n1".parse().unwrap(),
        data_dir: rig.path("agent"),
        host_root: host.to_owned(),
        retention: Retention { bytes: Bytes::mib(64), age: Duration::from_secs(3600) },
        leave_free: None,
        cpu_percent: 100.0,
        connectivity: None,
        logs: LogConfig::builtin(),
        masking: Masking::default(),
        gpu: GpuConfig::default(),
        sandbox: Wanted::Off,
    };
    let setup = Setup { every: Duration::from_millis(100), ..Setup::default() };
    let agent = Agent::start(&config, setup).unwrap();
    wait::until("a few frames", async || agent.last().filter(|last| *last >= FrameSeq(5))).await;
    agent.stop().await;

    let ring = rig.path("agent/ring");
    assert!(audit::directory(&ring).unwrap().frames >= 5, "{}", host.display());
    let (mut names, mut first) = (vec![], BTreeMap::new());
    let mut each = |piece| {
        match piece {
            Piece::Header(header) => names = header.schema.sources.iter().map(|s| s.name.clone()).collect(),
            Piece::Frame(frame) => {
                assert_eq!(frame.samples.len(), sources::ALL.len(), "every source has an outcome at every tick");
                for (name, sample) in names.iter().zip(frame.samples) {
                    if !sample.outcome.is_not_due() {
                        first.entry(name.clone()).or_insert(sample.outcome);
                    }
                }
            }
            Piece::Hole(_) => {}
        }
        ControlFlow::Continue(())
    };
    Recording::open_dir(&ring).unwrap().pieces(None, &mut each).unwrap();
    first
}

#[tokio::test(flavor = "multi_thread")]
async fn no_host_stops_the_agent_and_no_source_fails_by_a_bug() {
    let mut seen = 0;
    for host in fs::read_dir(fixtures()).unwrap() {
        let host = host.unwrap().path();
        let rig = Rig::new().unwrap();
        for (source, outcome) in outcomes(&rig, &host).await {
            let text = format!("{outcome:?}");
            assert!(!text.contains("panic") && !text.contains("bug"), "{source} of {}: {text}", host.display());
        }
        seen += 1;
    }
    assert!(seen >= 6, "the fixture hosts are where they are looked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_proc_that_is_missing_costs_its_own_readings_only() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    for gone in ["proc/meminfo", "proc/diskstats", "proc/loadavg"] {
        fs::remove_file(host.root().join(gone)).unwrap();
    }
    fs::remove_dir_all(host.root().join("proc/pressure")).unwrap();
    let outcomes = outcomes(&rig, host.root()).await;
    for (source, file) in [("memory", "meminfo"), ("disk", "diskstats"), ("load", "loadavg")] {
        let text = format!("{:?}", outcomes[source]);
        assert!(text.contains(file) && !matches!(outcomes[source], Outcome::Complete), "{source}: {text}");
    }
    let Outcome::Absent { why } = &outcomes["pressure"] else { panic!("{:?}", outcomes["pressure"]) };
    assert!(why.contains("psi"), "it says what the kernel lacks: {why}");
    assert_eq!((&outcomes["cpu"], &outcomes["network"]), (&Outcome::Complete, &Outcome::Complete));
}

#[tokio::test(flavor = "multi_thread")]
async fn garbled_text_is_a_gap_that_names_the_file_and_never_a_reading() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    let garble = |file: &str, text: &[u8]| fs::write(host.root().join(file), text).unwrap();
    garble("proc/loadavg", b"\x1b[31m lots of \xff\0 nothing");
    garble("proc/meminfo", b"MemTotal: 12 kB\nMemFree: 99999999999999999999999 kB\nMemAvailable: -3 kB\n");
    garble("proc/pressure/io", b"some avg10=x avg60= avg300=0.00 total=\nfull");
    garble("proc/stat", &[b'9'; 100_000]);
    let outcomes = outcomes(&rig, host.root()).await;
    for (source, file) in [("load", "loadavg"), ("memory", "meminfo"), ("pressure", "pressure/io"), ("cpu", "stat")] {
        let text = format!("{:?}", outcomes[source]);
        assert!(text.contains(file), "{source}: {text}");
        assert!(matches!(outcomes[source], Outcome::Partial { .. } | Outcome::Failed { .. }), "{source}: {text}");
    }
    // What is right in a file with wrong lines is read.
    let replayed = run(
        "casefile",
        &["replay", rig.path("agent/ring").to_str().unwrap(), "--series", "node_memory_MemTotal_bytes"],
    );
    assert!(stdout(&replayed).contains("12288"), "{}", said(&replayed));
    let negative = run(
        "casefile",
        &["replay", rig.path("agent/ring").to_str().unwrap(), "--series", "node_memory_MemAvailable_bytes"],
    );
    assert!(!stdout(&negative).contains("-3"), "{}", said(&negative));
}

#[test]
fn an_archive_of_any_host_is_intact_partial_and_can_be_printed() {
    let rig = Rig::new().unwrap();
    let since = now().before(Duration::from_secs(3600)).to_string();
    for host in ["garbled", "hidepid", "hostile-names", "old-kernel"] {
        let file = rig.path(&format!("{host}.tar.gz"));
        let (file, root) = (file.to_str().unwrap(), fixtures().join(host));
        let args = ["extract", "--since-time", &since, "--ring", "/nowhere", "-o", file, "--host-root"];
        let made = run("casefile-agent", &[&args[..], &[root.to_str().unwrap()]].concat());
        assert_eq!(made.status.code(), Some(5), "{host}: {}", said(&made));
        let verified = run("casefile", &["verify", file]);
        assert!(verified.status.success(), "{host}: {}", said(&verified));
        for verb in ["show", "ls", "logs"] {
            let shown = run("casefile", &[verb, file]);
            assert!(shown.status.success(), "{host}: {}", said(&shown));
            for stream in [&shown.stdout, &shown.stderr, &made.stderr] {
                let obeyed = stream.iter().position(|b| *b < b' ' && !b"\n\t".contains(b));
                assert_eq!(obeyed, None, "{verb} {host}: a terminal would obey this: {}", said(&shown));
            }
        }
    }
}
