//! A case file of a real cluster: the objects of `fixtures/kubernetes`, one node with the kernel's records of a kill, changes.

use std::path::{Path, PathBuf};

use casefile_proto::item::EntryPath;
use casefile_proto::time::Window;

use crate::sealed::{Node, at, log, seal_with};

/// The kernel's records of the kill of a container of the pod `hungry`, as the agent writes them.
const KERNEL: &str = "\
2026-11-23T14:43:57.000101Z facility=kern level=warn seq=901 user=false yes invoked oom-killer: gfp_mask=0x500cc2(GFP_HIGHUSER|__GFP_ACCOUNT), order=0, oom_score_adj=1
2026-11-23T14:43:57.000201Z facility=kern level=info seq=902 user=false oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=df0797f5,mems_allowed=0,oom_memcg=/kubepods/burstable/podcf1a6d3a-58d1-412c-8c53-5c727cc1bb85,task_memcg=/kubepods/burstable/podcf1a6d3a-58d1-412c-8c53-5c727cc1bb85/df0797f5f517b5317686108220fe30b9662eec3158c48b6b1972dfff5036e783,task=sh,pid=11293,uid=0
2026-11-23T14:43:57.000301Z facility=kern level=err seq=903 user=false Memory cgroup out of memory: Killed process 11293 (sh) total-vm:57568kB, anon-rss:31872kB, file-rss:1584kB, shmem-rss:0kB, UID:0 pgtables:112kB oom_score_adj:1
";

const CHANGES: &str = r#"{"at":"2026-11-23T14:41:50.118Z","kind":"Deployment","namespace":"shop","name":"api-gateway","uid":"1e181371-2d4c-4725-9747-f261f1ce3da9","change":"modified","resource_version":"811","fields":["spec.template.spec.containers.gateway.image"],"was":{"spec.template.spec.containers.gateway.image":"docker.io/local/busybox:0"},"is":{"spec.template.spec.containers.gateway.image":"docker.io/local/busybox:1"}}
{"at":"2026-11-23T14:43:57.402Z","kind":"Pod","namespace":"shop","name":"hungry","uid":"cf1a6d3a-58d1-412c-8c53-5c727cc1bb85","change":"modified","resource_version":"1435","fields":["status.conditions.Ready"],"was":{"status.conditions.Ready":"True"},"is":{"status.conditions.Ready":"False"}}
"#;

/// The window of the recorded objects.
pub(crate) fn window() -> Window {
    Window::new(at("2026-11-23T14:40:00Z"), at("2026-11-23T14:45:00Z")).unwrap()
}

/// The kinds of which there is a list for the namespace `shop`.
const OF_SHOP: [&str; 9] =
    ["pods", "events", "services", "deployments", "replicasets", "daemonsets", "jobs", "endpointslices", "pvcs"];

pub(crate) fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kubernetes").join(name);
    std::fs::read(path).unwrap()
}

/// The entries of the cluster, as the collector writes them.
pub(crate) fn entries() -> Vec<(EntryPath, Vec<u8>)> {
    let path = |text: String| text.parse::<EntryPath>().unwrap();
    let resources = "data/cluster/cluster-resources";
    let mut all: Vec<_> = OF_SHOP
        .iter()
        .map(|kind| (path(format!("{resources}/{kind}/shop.json")), fixture(&format!("{kind}.json"))))
        .collect();
    all.push((path(format!("{resources}/nodes.json")), fixture("nodes.json")));
    for empty in ["statefulsets/shop", "hpas/shop"] {
        all.push((path(format!("{resources}/{empty}.json")), br#"{"kind":"List","items":[]}"#.to_vec()));
    }
    all.push((path("data/cluster/changes.jsonl".to_owned()), CHANGES.as_bytes().to_vec()));
    all
}

/// The node that they are on.
pub(crate) fn node() -> Node {
    let pod = "logs/pods/shop_hungry_cf1a6d3a-58d1-412c-8c53-5c727cc1bb85/app.log";
    let gateway = "logs/pods/shop_api-gateway-54f59bc969-4q8vm_0a1b2c3d-0000-0000-0000-000000000001/gateway.log";
    let logs = vec![
        log("logs/kernel.log", None, KERNEL),
        log(pod, None, "2026-11-23T14:43:54.100000000Z stdout eating\n"),
        log(
            gateway,
            None,
            "2026-11-23T14:43:54.050000000Z stdout level=info msg=served id=1\n2026-11-23T14:43:55.000000000Z stderr level=error msg=upstream\n",
        ),
        log(
            "logs/journal/kubelet.service.log",
            None,
            "2026-11-23T14:43:58.000000Z node1 kubelet.service <6> kubelet[812]: I1123 14:43:58.000000     812 kubelet.go:2412] \"SyncLoop\"\n",
        ),
    ];
    Node { name: "node1", ahead: Some(0), logs, gaps: vec![] }
}

/// The whole case file.
pub(crate) fn sealed(dir: &Path) -> PathBuf {
    seal_with(dir, &[node()], window(), entries())
}
