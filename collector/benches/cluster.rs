//! What recording a cluster costs: memory that stays, time, bytes on disk; through the code that the collector runs, from the
//! bytes of pages and watches on.
//!
//! `cargo bench -p casefile-collector --bench cluster`; `CLUSTER_NODES` and `CLUSTER_PODS` set the size, 5,000 and 150,000 by default.

#![expect(clippy::print_stdout, reason = "a bench prints its table")]

use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use casefile_collector::cluster::archive;
use casefile_collector::cluster::kinds::Kind;
use casefile_collector::cluster::record::log::{Limits, Log};
use casefile_collector::cluster::record::snapshot::Wanted;
use casefile_collector::cluster::sanitise::Sanitiser;
use casefile_proto::time::{WallTime, Window};
use casefile_proto::units::Bytes;
use casefile_redact::{Key, Pseudonyms, Redactor, RuleSet};
use serde_json::{Value, json};

type Fallible<T> = Result<T, Box<dyn Error>>;

/// Objects of one page, as the collector asks for them.
const PAGE: usize = 500;

fn main() -> Fallible<()> {
    let size = |name: &str, or: usize| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(or);
    let (nodes, pods) = (size("CLUSTER_NODES", 5_000), size("CLUSTER_PODS", 150_000));
    let dir = tempfile::tempdir()?;
    let idle = resident()?;
    let mut log = open(dir.path())?;
    println!("{nodes} nodes, {pods} pods, and what belongs to them; resident before: {} MiB", idle >> 20);

    let began = Instant::now();
    let mut sent = 0;
    sent += list(&mut log, "nodes", nodes, node)?;
    sent += list(&mut log, "leases", nodes, |n| lease(n, 0))?;
    sent += list(&mut log, "replicasets", pods / 10, replica_set)?;
    sent += list(&mut log, "endpointslices", pods / 30, slice)?;
    sent += list(&mut log, "services", pods / 30, service)?;
    sent += list(&mut log, "events", pods / 3, event)?;
    sent += list(&mut log, "pods", pods, |n| pod(n, nodes, "Running"))?;
    log.flush()?;
    row("listed", began, sent, &log, idle)?;

    let began = Instant::now();
    let (changed, mut sent) = (pods / 5, 0);
    for n in 0..changed {
        let mut object = pod(n * 5 % pods, nodes, "Failed");
        object["metadata"]["resourceVersion"] = json!(format!("c{n}"));
        sent += watched(&mut log, "pods", &object, at(100 + n / 1_000))?;
    }
    log.flush()?;
    row("a fifth of the pods changed", began, sent, &log, idle)?;

    let began = Instant::now();
    let mut sent = 0;
    for turn in 1..=6 {
        for n in 0..nodes {
            sent += watched(&mut log, "leases", &lease(n, turn), at(200 + 10 * turn))?;
        }
        log.sweep(at(200 + 10 * turn))?;
    }
    log.flush()?;
    row("a minute of renewed leases", began, sent, &log, idle)?;

    let window = Window::new(at(50), at(400))?;
    let began = Instant::now();
    let snapshot = log.snapshot(window, Wanted::default(), at(500));
    let held = began.elapsed();
    let fixed = archive::take(snapshot, Bytes::mib(2 << 10), &dir.path().join("taken"))?;
    let objects: u64 = fixed.coverage.kinds.iter().map(|row| row.objects).sum();
    let changes: u64 = fixed.coverage.kinds.iter().map(|row| row.changes).sum();
    row("taken for an archive", began, 0, &log, idle)?;
    println!("  {objects} objects, {changes} changes; the log was held for {:.0} ms", held.as_secs_f64() * 1e3);

    drop(log);
    let began = Instant::now();
    let log = open(dir.path())?;
    row("read back by another start", began, 0, &log, idle)
}

fn open(dir: &std::path::Path) -> Fallible<Log> {
    let redactor = Redactor::new(Arc::new(RuleSet::builtin()), Key::new([7; 32]), Pseudonyms::default());
    let limits = Limits { bytes: Bytes::mib(512), age: Duration::from_hours(24) };
    Ok(Log::open(&dir.join("log"), limits, Sanitiser::new([1; 32], redactor), at(0))?)
}

fn at(secs: usize) -> WallTime {
    WallTime::from_secs(1_795_000_000).after(Duration::from_secs(secs as u64))
}

fn kind(plural: &str) -> Fallible<&'static Kind> {
    Ok(Kind::named(plural).ok_or("no such kind")?)
}

fn list(log: &mut Log, plural: &str, count: usize, make: impl Fn(usize) -> Value) -> Fallible<usize> {
    let (kind, mut sent) = (kind(plural)?, 0);
    for from in (0..count).step_by(PAGE) {
        let items: Vec<_> = (from..count.min(from + PAGE)).map(&make).collect();
        let page = json!({"metadata": {"resourceVersion": "1", "continue": "more"}, "items": items}).to_string();
        sent += page.len();
        log.page(kind, page.as_bytes(), from == 0, at(1))?;
    }
    log.end_list(kind, at(1))?;
    Ok(sent)
}

fn watched(log: &mut Log, plural: &str, object: &Value, at: WallTime) -> Fallible<usize> {
    let line = json!({"type": "MODIFIED", "object": object}).to_string();
    log.line(kind(plural)?, line.as_bytes(), at)?;
    Ok(line.len())
}

fn row(what: &str, began: Instant, sent: usize, log: &Log, idle: u64) -> Fallible<()> {
    let (secs, now) = (began.elapsed().as_secs_f64(), resident()?);
    let (more, disk) = (now.saturating_sub(idle) >> 20, log.bytes() >> 20);
    println!("{what:<30}{secs:>8.1} s  {:>6} MiB in  {more:>5} MiB resident  {disk:>5} MiB on disk", sent >> 20);
    Ok(())
}

/// Resident bytes of this process.
fn resident() -> Fallible<u64> {
    let mut text = String::new();
    File::open("/proc/self/statm")?.take(256).read_to_string(&mut text)?;
    let pages: u64 = text.split(' ').nth(1).ok_or("statm has no second field")?.parse()?;
    Ok(pages * 4_096)
}

/// Digits that look like those of names that Kubernetes makes up, the same each time.
fn odd(n: usize) -> String {
    format!("{:010x}", (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24)
}

fn metadata(name: &str, namespace: &str, n: usize) -> Value {
    let uid = format!("{}-{}", odd(n), odd(n + 7));
    let mut metadata = json!({"name": name, "uid": uid, "resourceVersion": n.to_string(), "creationTimestamp": "2026-11-18T08:00:00Z",
        "managedFields": [{"manager": "kubelet", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": {"f:status": {"f:conditions":
            {"k:{\"type\":\"Ready\"}": {".": {}, "f:lastTransitionTime": {}, "f:status": {}, "f:type": {}}}}}}]});
    if !namespace.is_empty() {
        metadata["namespace"] = namespace.into();
    }
    metadata
}

fn space(n: usize) -> String {
    format!("team-{}", n / 10 % 200)
}

fn node(n: usize) -> Value {
    let name = format!("node-{n}");
    let mut meta = metadata(&name, "", n);
    meta["labels"] = json!({"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": format!("zone-{}", n % 3),
        "node.kubernetes.io/instance-type": "m7i.8xlarge", "kubernetes.io/arch": "amd64"});
    let condition = |what: &str| {
        json!({"type": what, "status": "False", "lastHeartbeatTime": "2026-11-18T08:00:00Z",
        "lastTransitionTime": "2026-11-01T08:00:00Z", "reason": format!("KubeletHas{what}"), "message": "kubelet is fine"})
    };
    let conditions = ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"].map(condition);
    let images: Vec<_> = (0..40)
        .map(|i| json!({"names": [format!("registry.example/team/app-{i}@sha256:{}{}", odd(i), odd(i + 1))], "sizeBytes": 1_000_000 * i}))
        .collect();
    json!({"metadata": meta, "spec": {"podCIDR": format!("10.{}.{}.0/24", n / 256, n % 256)}, "status": {
        "conditions": conditions, "images": images,
        "capacity": {"cpu": "32", "memory": "131072Mi", "pods": "110"}, "nodeInfo": {"kernelVersion": "6.18.0", "kubeletVersion": "v1.36.2"}}})
}

fn lease(n: usize, turn: usize) -> Value {
    let name = format!("node-{n}");
    let mut meta = metadata(&name, "kube-node-lease", n);
    meta["resourceVersion"] = json!(format!("{n}-{turn}"));
    json!({"metadata": meta, "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": at(10 * turn).to_string()}})
}

fn replica_set(n: usize) -> Value {
    let mut meta = metadata(&format!("app-{n}-{}", odd(n)), &space(n * 10), n);
    meta["ownerReferences"] =
        json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": format!("app-{n}"), "controller": true}]);
    json!({"metadata": meta, "spec": {"replicas": 10}, "status": {"replicas": 10, "readyReplicas": 10}})
}

fn service(n: usize) -> Value {
    json!({"metadata": metadata(&format!("svc-{n}"), &space(n * 30), n), "spec": {"selector": {"app": format!("app-{}", n * 3)}, "ports": [{"port": 80}]}})
}

fn slice(n: usize) -> Value {
    let mut meta = metadata(&format!("svc-{n}-{}", odd(n)), &space(n * 30), n);
    meta["labels"] = json!({"kubernetes.io/service-name": format!("svc-{n}")});
    let endpoints: Vec<_> = (0..30).map(|i| json!({"addresses": [format!("10.1.2.{i}")], "targetRef": {"kind": "Pod", "name": pod_name(n * 30 + i)}})).collect();
    json!({"metadata": meta, "addressType": "IPv4", "endpoints": endpoints})
}

fn event(n: usize) -> Value {
    json!({"metadata": metadata(&format!("{}.{}", pod_name(n), odd(n + 3)), &space(n), n), "type": "Normal", "reason": "Pulled", "count": 3,
        "message": format!("Container image \"registry.example/team/app-{}:v1\" already present on machine", n / 10),
        "involvedObject": {"kind": "Pod", "name": pod_name(n), "namespace": space(n)}, "lastTimestamp": "2026-11-18T08:00:00Z"})
}

fn pod_name(n: usize) -> String {
    format!("app-{}-{}-{}", n / 10, odd(n / 10), &odd(n)[..5])
}

fn pod(n: usize, nodes: usize, phase: &str) -> Value {
    let (app, hash) = (n / 10, odd(n / 10));
    let mut meta = metadata(&pod_name(n), &space(n), n);
    meta["labels"] = json!({"app": format!("app-{app}"), "pod-template-hash": hash, "tier": "web", "team": space(n)});
    meta["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("app-{app}-{hash}"), "controller": true}]);
    let env: Vec<_> =
        (0..12).map(|i| json!({"name": format!("SETTING_{i}"), "value": format!("value-{i}-of-{app}")})).collect();
    let container = |name: &str| {
        json!({"name": name, "image": format!("registry.example/team/app-{app}:v1"), "env": env,
        "args": ["--listen=:8080", "--log-level", "info"], "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}},
        "volumeMounts": [{"name": "kube-api-access", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true}]})
    };
    let status = |name: &str| {
        json!({"name": name, "ready": phase == "Running", "restartCount": n % 3, "image": format!("registry.example/team/app-{app}:v1"),
        "imageID": format!("registry.example/team/app-{app}@sha256:{}{}", odd(app), odd(app + 1)), "containerID": format!("containerd://{}{}", odd(n), odd(n + 9)),
        "state": {"running": {"startedAt": "2026-11-18T08:00:05Z"}}})
    };
    let condition = |what: &str| json!({"type": what, "status": "True", "lastProbeTime": null, "lastTransitionTime": "2026-11-18T08:00:05Z"});
    let conditions = ["Initialized", "Ready", "ContainersReady", "PodScheduled"].map(condition);
    json!({"metadata": meta, "spec": {"nodeName": format!("node-{}", n % nodes.max(1)), "serviceAccountName": "default", "schedulerName": "default-scheduler",
            "containers": [container("app"), container("proxy")], "volumes": [{"name": "kube-api-access", "projected": {"sources": [{"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}]}}],
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]},
        "status": {"phase": phase, "podIP": format!("10.{}.{}.{}", n >> 16 & 255, n >> 8 & 255, n & 255), "hostIP": "10.0.0.1", "startTime": "2026-11-18T08:00:00Z",
            "conditions": conditions, "containerStatuses": [status("app"), status("proxy")]}})
}
