//! GPUs from end to end, with a library that does what a script says: a call that never returns hurts nobody else, and a
//! GPU that falls off the bus is seen to, with the Xid and the pod that used it.

use std::io::Read;
use std::time::Duration;

use casefile_proto::coverage::{NodeCoverage, SourceCoverage, SourceKind};
use casefile_proto::gap::GapReason;
use casefile_proto::time::Window;
use casefile_review::casefile::CaseFile;
use casefile_stub_nvml::Copy;
use casefile_tests::{Rig, host::FakeHost, now, program, stop, wait};

const POD: &str = "0a1b2c3d-1111-2222-3333-444455556666";

fn row<'a>(node: &'a NodeCoverage, name: &str, kind: SourceKind) -> &'a SourceCoverage {
    node.sources.iter().find(|row| row.source == name && row.kind == kind).unwrap()
}

fn entry(file: &mut CaseFile, suffix: &str) -> String {
    let path = file.entries.list().iter().map(|e| e.path.clone()).find(|p| p.as_str().ends_with(suffix)).unwrap();
    let mut text = String::new();
    file.entries.entry(&path).unwrap().read_to_string(&mut text).unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_never_returns_delays_nothing_else_and_is_told_since_when() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    let library = Copy::new(host.root(), "gpus 8\n").unwrap();
    let collector = rig.collector().await.unwrap();
    let agent = rig.agent_with_gpus("n1", host.root(), library.path()).unwrap();
    let mut client = rig.client().await.unwrap();
    client.recorded("n1", Duration::from_secs(2)).await;

    let before = agent.stats().ticks_missed.get();
    let hung_at = now();
    library.script("gpus 8\nhang nvmlDeviceGetPowerUsage 3\n").unwrap();
    let timed_out = || agent.stats().sources().find(|(name, _)| *name == "gpu").unwrap().1.measured.get();
    let measured = timed_out();
    // The pass that hangs, and some after it that are told at once.
    wait::until("measurements of a library that hangs", async || (timed_out() > measured + 6).then_some(())).await;
    let until = now();
    assert_eq!(agent.stats().ticks_missed.get(), before, "no tick was missed");
    assert_eq!(agent.stats().threads_abandoned.get(), 0, "no thread of the agent hangs");

    let window = Window::new(hung_at, until).unwrap();
    let id = client.open(window, &["n1"], Duration::from_secs(20)).await.unwrap().id;
    client.sealed(id).await.unwrap();
    let mut file = client.download(id, &rig.path("hung.tar.gz")).await.unwrap();
    let node = &file.coverage.nodes[0];
    let (gpu, cpu) = (row(node, "gpu", SourceKind::Metrics), row(node, "cpu", SourceKind::Metrics));
    assert!(gpu.outcomes.timed_out > 4, "{:?}", gpu.outcomes);
    let gap = gpu.gaps.iter().find(|gap| gap.reason == GapReason::TimedOut).unwrap();
    let since = gap.interval.unwrap().from();
    assert!(since < hung_at.after(Duration::from_secs(4)), "since {since}, hung at {hung_at}");
    assert!(gpu.gaps.iter().all(|gap| gap.reason == GapReason::TimedOut) && gpu.gaps.len() <= 3, "{:?}", gpu.gaps);
    assert_eq!(cpu.outcomes.complete, cpu.outcomes.complete + cpu.outcomes.timed_out + cpu.outcomes.skipped);
    assert!(cpu.gaps.is_empty(), "{:?}", cpu.gaps);
    for table in ["gpus", "gpu-processes", "gpu-report"] {
        let gaps = &row(node, table, SourceKind::State).gaps;
        assert!(gaps.iter().any(|g| g.reason == GapReason::TimedOut && g.detail.contains("of GPU 3")), "{gaps:?}");
    }
    assert!(entry(&mut file, "state/mounts.jsonl").lines().count() > 0);

    // It answers again, and so does the next collection.
    library.script("gpus 8\n").unwrap();
    let complete = async || {
        let from = now().before(Duration::from_secs(1));
        let id =
            client.clone().open(Window::new(from, now()).unwrap(), &["n1"], Duration::from_secs(20)).await.ok()?.id;
        client.clone().sealed(id).await.ok()?;
        let file = client.clone().download(id, &rig.path("after.tar.gz")).await.ok()?;
        (row(&file.coverage.nodes[0], "gpus", SourceKind::State).gaps.is_empty()).then_some(file)
    };
    let mut file = wait::until("a collection in which the GPUs answer", complete).await;
    assert_eq!(entry(&mut file, "gpu/gpus.jsonl").lines().count(), 1 + 8);
    assert!(entry(&mut file, "gpu/report.txt").contains("GPU 3 at 0000:83:00.0"));
    agent.stop().await;
    stop(collector).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_falls_off_the_bus_is_shown_with_its_xid_and_the_pod_that_used_it() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    host.append("proc/4711/comm", "python3\n").unwrap();
    let id = "1".repeat(64);
    host.append("proc/4711/cgroup", &format!("0::/kubepods/pod{POD}/{id}\n")).unwrap();
    host.pod_line(now(), "training").unwrap();
    let script = "gpus 8\nprocess 5 C 4711 1073741824\n";
    let library = Copy::new(host.root(), script).unwrap();
    let collector = rig.collector().await.unwrap();
    let agent = rig.agent_with_gpus("n1", host.root(), library.path()).unwrap();
    let mut client = rig.client().await.unwrap();
    client.recorded("n1", Duration::from_secs(2)).await;

    let from = now().before(Duration::from_secs(1));
    let lost_at = now();
    library.script(&format!("{script}lost 5\nevent 5 79\n")).unwrap();
    client.recorded("n1", Duration::from_secs(6)).await;
    let window = Window::new(from, now()).unwrap();
    let id = client.open(window, &["n1"], Duration::from_secs(20)).await.unwrap().id;
    client.sealed(id).await.unwrap();
    let path = rig.path("lost.tar.gz");
    client.download(id, &path).await.unwrap();
    agent.stop().await;
    stop(collector).await;

    let path = path.to_str().unwrap();
    let before = program::stdout(&program::run("casefile", &["gpu", path, "--at", &lost_at.to_string()]));
    assert!(!before.contains("lost") && before.contains("python3"), "{before}");
    let after = program::stdout(&program::run("casefile", &["gpu", path]));
    for text in ["lost", "0000:85:00.0", "79", "python3", "shop/api-0"] {
        assert!(after.contains(text), "{text:?} is not in\n{after}");
    }
}

/// The script for machines with a GPU, over the stub and a program that answers as nvidia-smi does.
#[test]
fn the_script_that_compares_with_nvidia_smi_finds_what_is_the_same_and_what_differs() {
    let Some(mut python) = program::tool("python3") else { return };
    let dir = tempfile::tempdir().unwrap();
    let library = Copy::new(dir.path(), "gpus 2\nvalue nvmlDeviceGetUtilizationRates * 50\n").unwrap();
    let config = dir.path().join("agent.toml");
    let text = format!("data_dir = {0:?}\n[gpu]\nlibrary = {1:?}\n", dir.path().join("data"), library.path());
    std::fs::write(&config, text).unwrap();
    let archive = dir.path().join("gpu.tar.gz");
    let (config_path, archive) = (config.to_str().unwrap(), archive.to_str().unwrap());
    let extract =
        ["extract", "--config", config_path, "--since", "1m", "--source", "gpus", "--source", "mounts", "-o", archive];
    let extracted = program::run("casefile-agent", &extract);
    assert!(std::path::Path::new(archive).exists(), "{}", program::said(&extracted));
    assert!(program::stdout(&program::run("casefile", &["ls", archive])).contains("gpu/gpus.jsonl"));

    let scripts = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("gpu");
    let agent = program::binary("casefile-agent");
    python.arg(scripts.join("against-nvidia-smi")).arg(agent).arg("--config").arg(&config);
    python.arg("--nvidia-smi").arg(scripts.join("fake-nvidia-smi"));
    let same = python.output().unwrap();
    let told = program::stdout(&same);
    assert!(same.status.success() && told.ends_with("\n0 differences\n"), "{}", program::said(&same));
    assert_eq!(told.lines().filter(|line| line.starts_with("same")).count(), 2 + 2 * (5 + 38), "{told}");
    assert!(told.contains("not known to this nvidia-smi: memory.reserved"), "{told}");
    let differs = python.env("FAKE_TEMPERATURE", "90").output().unwrap();
    let told = program::stdout(&differs);
    assert!(differs.status.code() == Some(1) && told.ends_with("\n2 differences\n"), "{}", program::said(&differs));
    assert!(told.contains("DIFFER GPU 1 DCGM_FI_DEV_GPU_TEMP"), "{told}");
}
