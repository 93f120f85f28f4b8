//! What the cluster says of the same half hour: objects as of its end, events, changes. Everything follows from the pods of the fleet and
//! from the story; nothing is wrong in it that is not a consequence of a planted cause.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::node::{Kind, Node, Pod};
use crate::story;

/// How long after its last sign of life the cluster calls a node not ready, in seconds.
const GRACE: f64 = 44.0;

/// The file that a list becomes: its path below `data/`, and its bytes.
pub(crate) type File = (String, Vec<u8>);

/// All files.
pub(crate) fn files(fleet: &[Node]) -> Vec<File> {
    let pods: Vec<(&Node, &Pod)> = fleet.iter().flat_map(|node| node.pods.iter().map(move |pod| (node, pod))).collect();
    let mut lists: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut add = |kind: &str, namespace: &str, object: Value| {
        lists.entry(format!("cluster-resources/{kind}/{namespace}.json")).or_default().push(object);
    };
    for (node, pod) in &pods {
        add("pods", pod.namespace, self::pod(node, pod));
    }
    for workload in workloads(&pods) {
        add(workload.plural, workload.namespace, workload.object());
        if let Some(set) = workload.replica_set() {
            add("replicasets", workload.namespace, set);
        }
    }
    for (name, namespace, kind) in [
        ("api", "shop", Kind::Api),
        ("frontend", "shop", Kind::Frontend),
        ("postgres", "shop", Kind::Postgres),
        ("postgres", "ledger", Kind::Postgres),
    ] {
        let behind = pods.iter().filter(|(_, pod)| pod.namespace == namespace && pod.kind == kind);
        let endpoints = behind.map(|(node, pod)| {
            json!({
                "conditions": { "ready": is_ready(node, pod) },
                "nodeName": node.name,
                "targetRef": { "kind": "Pod", "namespace": namespace, "name": pod.name, "uid": pod.uid },
            })
        });
        let slice = json!({
            "metadata": { "name": format!("{name}-x7k2p"), "namespace": namespace, "labels": { "kubernetes.io/service-name": name } },
            "addressType": "IPv4",
            "endpoints": endpoints.collect::<Vec<_>>(),
        });
        add("endpointslices", namespace, slice);
        let service = json!({
            "metadata": { "name": name, "namespace": namespace },
            "spec": { "type": "ClusterIP", "selector": { "app": name } },
        });
        add("services", namespace, service);
    }
    add("hpas", "shop", scaler());
    add("custom-resources/applications.argoproj.io", "argocd", application("shop", "Healthy"));
    add("custom-resources/applications.argoproj.io", "argocd", application("ledger", "Degraded"));
    for (namespace, event) in events(fleet) {
        add("events", namespace, event);
    }
    // What there is none of is a list too: nobody says that it was not looked for.
    for empty in ["jobs", "pvcs"] {
        lists.entry(format!("cluster-resources/{empty}/shop.json")).or_default();
    }
    lists.insert("cluster-resources/nodes.json".to_owned(), fleet.iter().map(node).collect());
    let mut files: Vec<File> = lists.into_iter().map(|(path, items)| (path, list(&items))).collect();
    files.push(("changes.jsonl".to_owned(), changes(&pods)));
    files
}

fn list(items: &[Value]) -> Vec<u8> {
    let mut text = json!({ "kind": "List", "apiVersion": "v1", "metadata": {}, "items": items }).to_string();
    text.push('\n');
    text.into_bytes()
}

/// A time as the API writes it.
fn at(seconds: f64) -> String {
    story::at(seconds).to_seconds_text()
}

/// What a pod is called by those that choose it.
fn app(pod: &Pod) -> &'static str {
    pod.container
}

/// The controller of a pod, and what is above it.
fn owner(pod: &Pod) -> (&'static str, String) {
    let without = |parts: usize| pod.name.rsplitn(parts + 1, '-').last().unwrap_or_default().to_owned();
    match pod.kind {
        Kind::Frontend | Kind::Api | Kind::Settlement | Kind::Reports => ("ReplicaSet", without(1)),
        Kind::Postgres => ("StatefulSet", without(1)),
        Kind::Trainer => ("PyTorchJob", without(2)),
        Kind::KubeProxy | Kind::NodeExporter => ("DaemonSet", without(1)),
    }
}

fn is_ready(node: &Node, pod: &Pod) -> bool {
    node.name != story::DEAD && pod.run(1_800.0).is_some()
}

/// What the container cannot do any more on the disk that is gone.
const READ_ONLY: &str = "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: \
                         unable to start container process: error mounting \"/var/lib/postgresql\" to rootfs: input/output error";

fn pod(node: &Node, pod: &Pod) -> Value {
    let (kind, above) = owner(pod);
    let ready = is_ready(node, pod);
    let running = |from: f64| json!({ "running": { "startedAt": at(from.max(-86_400.0)) } });
    let ended = |reason: &str, code: u8, run: &crate::node::Run, until: f64| {
        json!({ "terminated": {
            "reason": reason, "exitCode": code, "startedAt": at(run.from.max(-86_400.0)), "finishedAt": at(until),
            "containerID": format!("containerd://{}", run.id),
        } })
    };
    let last = pod.runs.last();
    let before = pod.runs.len().checked_sub(2).and_then(|n| pod.runs.get(n));
    let (state, last_state, phase, restarts) = match (node.name, pod.kind, last) {
        (story::LEAKING, Kind::Api, Some(last)) => {
            let killed = before.map(|run| ended("OOMKilled", 137, run, story::SECOND_OOM));
            (running(last.from), killed, "Running", pod.runs.len() - 1)
        }
        (story::DISK_GONE, Kind::Postgres, Some(last)) => {
            let waiting = json!({ "waiting": { "reason": "CreateContainerError", "message": READ_ONLY } });
            (waiting, Some(ended("Error", 1, last, last.until)), "Running", 1)
        }
        (story::GPU_LOST, Kind::Trainer, Some(last)) => (ended("Error", 1, last, last.until), None, "Failed", 0),
        (_, _, last) => (running(last.map_or(0.0, |run| run.from)), None, "Running", 0),
    };
    let since = match (node.name, pod.kind) {
        (story::LEAKING, Kind::Api) => story::RESTARTS[1] + 6.0,
        (story::DISK_GONE, Kind::Postgres) => story::NVME_DISABLED + 2.1,
        (story::GPU_LOST, Kind::Trainer) => story::XID_79 + 6.3,
        (story::DEAD, _) => story::DEATH + GRACE,
        _ => -86_000.0,
    };
    let mut limits = json!({ "cpu": format!("{}m", pod.millicores), "memory": format!("{}Mi", pod.limit >> 20) });
    if pod.kind == Kind::Trainer {
        limits["nvidia.com/gpu"] = json!("4");
    }
    let requests = json!({ "cpu": format!("{}m", pod.millicores / 4), "memory": format!("{}Mi", pod.limit >> 21) });
    let mut status = json!({
        "name": pod.container, "ready": ready, "restartCount": restarts, "state": state,
        "containerID": last.map(|run| format!("containerd://{}", run.id)),
    });
    if let Some(last_state) = last_state {
        status["lastState"] = last_state;
    }
    json!({
        "metadata": {
            "name": pod.name, "namespace": pod.namespace, "uid": pod.uid, "creationTimestamp": at(-86_400.0),
            "labels": { "app": app(pod) },
            "ownerReferences": [{ "kind": kind, "name": above, "controller": true }],
        },
        "spec": {
            "nodeName": node.name,
            "containers": [{ "name": pod.container, "image": image(pod), "resources": { "requests": requests, "limits": limits } }],
        },
        "status": {
            "phase": phase,
            "conditions": [
                { "type": "PodScheduled", "status": "True", "lastTransitionTime": at(-86_400.0) },
                { "type": "Ready", "status": if ready { "True" } else { "False" }, "lastTransitionTime": at(since) },
            ],
            "containerStatuses": [status],
        },
    })
}

fn image(pod: &Pod) -> String {
    format!("registry.example.com/{}/{}:2.31.0", pod.namespace, pod.container)
}

fn node(node: &Node) -> Value {
    let dead = node.name == story::DEAD;
    let ready = if dead {
        json!({ "type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "lastTransitionTime": at(story::DEATH + GRACE),
                "message": "Kubelet stopped posting node status." })
    } else {
        json!({ "type": "Ready", "status": "True", "reason": "KubeletReady", "lastTransitionTime": at(-86_400.0),
                "message": "kubelet is posting ready status" })
    };
    let well = |kind: &str| json!({ "type": kind, "status": if dead { "Unknown" } else { "False" }, "lastTransitionTime": at(-86_400.0) });
    json!({
        "metadata": { "name": node.name, "creationTimestamp": at(-86_400.0 * 60.0) },
        "spec": {},
        "status": {
            "conditions": [well("MemoryPressure"), well("DiskPressure"), well("PIDPressure"), ready],
            "nodeInfo": { "kubeletVersion": "v1.33.4" },
        },
    })
}

/// What runs pods.
struct Workload<'f> {
    plural: &'static str,
    namespace: &'static str,
    name: String,
    /// The name of its replica set, where it has one.
    set: Option<String>,
    pods: Vec<(&'f Node, &'f Pod)>,
}

fn workloads<'f>(pods: &[(&'f Node, &'f Pod)]) -> Vec<Workload<'f>> {
    let mut all: BTreeMap<(&str, &str, String), Workload<'f>> = BTreeMap::new();
    for (node, pod) in pods {
        let (kind, above) = owner(pod);
        let (plural, name, set) = match kind {
            "ReplicaSet" => {
                let name = above.rsplit_once('-').map_or(above.as_str(), |(name, _)| name).to_owned();
                ("deployments", name, Some(above))
            }
            "StatefulSet" => ("statefulsets", above, None),
            "DaemonSet" => ("daemonsets", above, None),
            _ => continue,
        };
        let workload = all.entry((plural, pod.namespace, name.clone())).or_insert_with(|| Workload {
            plural,
            namespace: pod.namespace,
            name,
            set,
            pods: Vec::new(),
        });
        workload.pods.push((node, pod));
    }
    all.into_values().collect()
}

impl Workload<'_> {
    fn ready(&self) -> usize {
        self.pods.iter().filter(|(node, pod)| is_ready(node, pod)).count()
    }

    fn template(&self) -> Value {
        let containers = self.pods.first().map(|(_, pod)| json!([{ "name": pod.container, "image": image(pod) }]));
        json!({ "spec": { "containers": containers } })
    }

    fn object(&self) -> Value {
        let (count, ready) = (self.pods.len(), self.ready());
        let status = if self.plural == "daemonsets" {
            json!({ "desiredNumberScheduled": count, "numberReady": ready, "updatedNumberScheduled": count })
        } else {
            json!({ "replicas": count, "readyReplicas": ready, "updatedReplicas": count })
        };
        json!({
            "metadata": { "name": self.name, "namespace": self.namespace, "creationTimestamp": at(-86_400.0 * 30.0) },
            "spec": { "replicas": count, "template": self.template() },
            "status": status,
        })
    }

    fn replica_set(&self) -> Option<Value> {
        let owner = json!([{ "kind": "Deployment", "name": self.name, "controller": true }]);
        Some(json!({
            "metadata": {
                "name": self.set.as_ref()?, "namespace": self.namespace, "creationTimestamp": at(-86_400.0 * 2.0),
                "ownerReferences": owner,
            },
            "spec": { "replicas": self.pods.len(), "template": self.template() },
            "status": { "replicas": self.pods.len(), "readyReplicas": self.ready() },
        }))
    }
}

fn scaler() -> Value {
    json!({
        "metadata": { "name": "frontend", "namespace": "shop" },
        "spec": { "scaleTargetRef": { "kind": "Deployment", "name": "frontend" }, "minReplicas": 2, "maxReplicas": 8 },
        "status": { "currentReplicas": 4, "desiredReplicas": 4,
                    "conditions": [{ "type": "ScalingActive", "status": "True", "reason": "ValidMetricFound" }] },
    })
}

fn application(name: &str, health: &str) -> Value {
    let since = if health == "Healthy" { -86_400.0 } else { story::NVME_DISABLED + 30.0 };
    json!({
        "metadata": { "name": name, "namespace": "argocd" },
        "status": {
            "health": { "status": health, "lastTransitionTime": at(since) },
            "sync": { "status": "Synced", "revision": "9c1f0de7a4b2" },
        },
    })
}

/// An event: about what, why, how often and when.
struct Told<'t> {
    warning: bool,
    reason: &'t str,
    message: String,
    about: (&'t str, Option<&'static str>, &'t str, Option<&'t str>),
    times: (f64, f64, u32),
    by: (&'t str, Option<&'t str>),
}

impl Told<'_> {
    fn object(&self, n: usize) -> (&'static str, Value) {
        let (kind, namespace, name, uid) = self.about;
        let (first, last, count) = self.times;
        // Events of what is in no namespace are in `default`.
        let of = namespace.unwrap_or("default");
        let event = json!({
            "metadata": { "name": format!("{name}.18a2{n:012x}"), "namespace": of, "creationTimestamp": at(first) },
            "involvedObject": { "kind": kind, "namespace": namespace, "name": name, "uid": uid },
            "type": if self.warning { "Warning" } else { "Normal" },
            "reason": self.reason,
            "message": self.message,
            "source": { "component": self.by.0, "host": self.by.1 },
            "firstTimestamp": at(first), "lastTimestamp": at(last), "count": count,
        });
        (of, event)
    }
}

fn events(fleet: &[Node]) -> Vec<(&'static str, Value)> {
    let find = |node: &str, kind: Kind| fleet.iter().find(|of| of.name == node).and_then(|node| node.pod(kind));
    let mut told = Vec::new();
    if let Some(api) = find(story::LEAKING, Kind::Api) {
        let about = ("Pod", Some(api.namespace), api.name.as_str(), Some(api.uid.as_str()));
        let by = ("kubelet", Some(story::LEAKING));
        let [first, second] = story::RESTARTS;
        let refused = "Readiness probe failed: dial tcp 10.244.2.17:8080: connect: connection refused".to_owned();
        let times = (story::FIRST_OOM + 1.0, story::SECOND_OOM + 8.0, 4);
        told.push(Told { warning: true, reason: "Unhealthy", message: refused, about, times, by });
        let back_off = format!("Back-off restarting failed container api in pod {}_shop({})", api.name, api.uid);
        let times = (story::SECOND_OOM + 1.4, story::SECOND_OOM + 1.4, 1);
        told.push(Told { warning: true, reason: "BackOff", message: back_off, about, times, by });
        let started = "Started container api".to_owned();
        told.push(Told { warning: false, reason: "Started", message: started, about, times: (first, second, 2), by });
    }
    if let Some(postgres) = find(story::DISK_GONE, Kind::Postgres) {
        let about = ("Pod", Some(postgres.namespace), postgres.name.as_str(), Some(postgres.uid.as_str()));
        let times = (story::NVME_DISABLED + 3.0, 1_791.0, 58);
        let by = ("kubelet", Some(story::DISK_GONE));
        told.push(Told { warning: true, reason: "Failed", message: format!("Error: {READ_ONLY}"), about, times, by });
    }
    let (at, by) = (story::DEATH + GRACE, ("node-controller", None));
    let message = format!("Node {} status is now: NodeNotReady", story::DEAD);
    let about = ("Node", None, story::DEAD, None);
    told.push(Told { warning: false, reason: "NodeNotReady", message, about, times: (at, at, 1), by });
    for pod in fleet.iter().filter(|node| node.name == story::DEAD).flat_map(|node| &node.pods) {
        let about = ("Pod", Some(pod.namespace), pod.name.as_str(), Some(pod.uid.as_str()));
        let message = "Node is not ready".to_owned();
        told.push(Told { warning: true, reason: "NodeNotReady", message, about, times: (at, at, 1), by });
    }
    told.iter().enumerate().map(|(n, told)| told.object(n)).collect()
}

/// What the collector saw change.
fn changes(pods: &[(&Node, &Pod)]) -> Vec<u8> {
    let mut all: Vec<(f64, Value)> = Vec::new();
    let mut change = |t: f64, kind: &str, namespace: Option<&str>, name: &str, field: &str, was: &str, is: &str| {
        let line = json!({
            "at": story::at(t), "kind": kind, "namespace": namespace, "name": name, "uid": null, "change": "modified",
            "resource_version": format!("{}", 881_000_f64 + t), "fields": [field], "was": { field: was }, "is": { field: is },
        });
        all.push((t, line));
    };
    for (node, pod) in pods {
        let mut ready = |t: f64, is: bool| {
            let word = |ready: bool| if ready { "True" } else { "False" };
            change(t, "Pod", Some(pod.namespace), &pod.name, "status.conditions.Ready", word(!is), word(is));
        };
        match (node.name, pod.kind) {
            (story::LEAKING, Kind::Api) => {
                let [first, second] = story::RESTARTS;
                let times = [
                    (story::FIRST_OOM + 0.9, false),
                    (first + 6.1, true),
                    (story::SECOND_OOM + 0.9, false),
                    (second + 6.1, true),
                ];
                times.into_iter().for_each(|(t, is)| ready(t, is));
            }
            (story::DISK_GONE, Kind::Postgres) => ready(story::NVME_DISABLED + 2.3, false),
            (story::GPU_LOST, Kind::Trainer) => {
                let t = story::XID_79 + 6.5;
                change(t, "Pod", Some(pod.namespace), &pod.name, "status.phase", "Running", "Failed");
            }
            (story::DEAD, _) => ready(story::DEATH + GRACE + 0.2, false),
            _ => {}
        }
    }
    change(story::DEATH + GRACE, "Node", None, story::DEAD, "status.conditions.Ready", "True", "Unknown");
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all.iter().flat_map(|(_, line)| format!("{line}\n").into_bytes()).collect()
}
