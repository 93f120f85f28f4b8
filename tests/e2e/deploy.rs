//! The manifests against the programs: what the agent reads is mounted, and what is mounted is read by something.

use std::path::Path;

fn manifest(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kustomize/base").join(name);
    #[expect(clippy::disallowed_methods, reason = "our own tree, not a node's")]
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()))
}

/// Every mount of the agent with the comment above it, which names who needs it.
fn mounts() -> Vec<(String, Vec<String>)> {
    let text = manifest("agent/daemonset.yaml");
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    lines
        .windows(2)
        .filter(|pair| pair[1].contains("mountPath: /host") || pair[1].contains("mountPath: /var/lib"))
        .map(|pair| {
            let path = pair[1].split("mountPath: ").nth(1).and_then(|rest| rest.split([',', '}']).next()).unwrap();
            let needs = pair[0].strip_prefix("# ").unwrap_or_else(|| panic!("no comment above {}", pair[1]));
            (path.to_owned(), needs.split(", ").map(str::to_owned).collect())
        })
        .collect()
}

#[test]
fn the_agent_of_nodes_with_gpus_is_the_agent_with_another_name_a_class_and_a_selector() {
    let (plain, gpu) = (manifest("agent/daemonset.yaml"), manifest("../../gpu/agent-gpu.yaml"));
    let own = |line: &&str| !line.starts_with('#');
    let plain: Vec<_> = plain.lines().filter(own).collect();
    let gpu: Vec<_> = gpu.lines().filter(own).collect();
    let added = ["      runtimeClassName: nvidia", "      nodeSelector: {nvidia.com/gpu.present: \"true\"}"];
    let rest: Vec<_> =
        gpu.iter().filter(|line| !added.contains(line)).map(|line| line.replace("agent-gpu", "agent")).collect();
    assert_eq!((gpu.len(), rest), (plain.len() + 2, plain.iter().map(|line| line.to_string()).collect()));
}

#[test]
fn every_mount_names_sources_that_exist() {
    let mut known: Vec<_> = casefile_agent::sources::ALL.iter().map(|s| s.name).collect();
    known.extend(casefile_agent::logs::ALL.iter().map(|l| l.name));
    known.extend(["state", "ring"]);
    let mounts = mounts();
    assert_eq!(mounts.len(), 7, "{mounts:?}");
    for (path, needs) in mounts {
        for source in needs {
            assert!(known.contains(&source.as_str()), "{path} is for {source}, which is no source");
        }
    }
}

#[test]
fn every_source_and_log_source_has_a_mount() {
    let needed: Vec<_> = mounts().into_iter().flat_map(|(_, needs)| needs).collect();
    let sources = casefile_agent::sources::ALL.iter().map(|s| s.name);
    for name in sources.chain(casefile_agent::logs::ALL.iter().map(|l| l.name)) {
        assert!(needed.iter().any(|n| n == name), "no mount is said to be for {name}");
    }
}

#[test]
fn the_configuration_in_the_manifests_is_accepted_by_the_programs() {
    let text = manifest("configuration.yaml");
    let block = |key: &str| -> String {
        let lines = text.lines().skip_while(|l| l.trim() != format!("{key}: |")).skip(1);
        lines.take_while(|l| l.starts_with("    ")).map(|l| format!("{}\n", l.trim())).collect()
    };
    let around = casefile_agent::config::Surroundings { node: Some("n1".to_owned()), hostname: None };
    let agent = casefile_agent::config::Config::parse(&block("agent.toml"), &around).unwrap();
    assert_eq!(agent.host_root, Path::new("/host"));
    let collector = casefile_collector::config::Config::parse(&block("collector.toml")).unwrap();
    assert_eq!(collector.listen.port(), 7443);
    let ports = manifest("collector.yaml");
    for (name, port) in [("grpc", collector.listen.port()), ("observe", collector.observe.unwrap().port())] {
        assert!(ports.contains(&format!("{{name: {name}, containerPort: {port}}}")), "{name} is on another port");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_manifests_probe_is_answered_by_the_collector() {
    let text = manifest("collector.yaml");
    let probes: Vec<_> = text.lines().filter(|line| line.contains("httpGet:")).collect();
    assert_eq!(probes.len(), 3, "{probes:?}");
    let rig = casefile_tests::Rig::new().unwrap();
    let collector = rig.collector().await.unwrap();
    for probe in probes {
        let path = probe.split("path: ").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
        let answer = casefile_tests::scrape::get(collector.observed_at().unwrap(), path, "").unwrap();
        assert!(answer.status == 200 && probe.contains("port: observe"), "{probe}: {answer:?}");
    }
    casefile_tests::stop(collector).await;
}

#[test]
fn the_agent_is_given_no_more_than_it_needs() {
    let text = manifest("agent/daemonset.yaml");
    for never in [
        "privileged: true",
        "hostPID: true",
        "hostNetwork: true",
        "hostIPC: true",
        "SYS_ADMIN",
        "path: /\n",
        "path: /}",
        "containerPort",
    ] {
        assert!(!text.contains(never), "the agent must not have {never}");
    }
    for always in [
        "automountServiceAccountToken: false",
        "drop: [ALL], add: [SYSLOG]",
        "operator: Exists",
        "readOnlyRootFilesystem: true",
    ] {
        assert!(text.contains(always), "the agent must have {always}");
    }
}
