//! Evidence of the cluster: its objects as of the window's end and what changed in the window, whatever the API server does; and
//! what it did not show is declared.

use std::io::Read;
use std::time::Duration;

use casefile_agent::Agent;
use casefile_collector::Collector;
use casefile_collector::cluster::config::{Access, ClusterConfig};
use casefile_collector::cluster::kinds::{KINDS, Kind};
use casefile_proto::cluster::{ClusterCoverage, KindCoverage};
use casefile_proto::coverage::{Coverage, NodeState};
use casefile_proto::gap::GapReason;
use casefile_proto::node::Link;
use casefile_proto::time::{WallTime, Window};
use casefile_review::casefile::CaseFile;
use casefile_review::summary;
use casefile_tests::apiserver::ApiServer;
use casefile_tests::host::FakeHost;
use casefile_tests::{Rig, SOON, now, scrape, stop, wait};
use serde_json::{Value, json};

/// A secret in the objects, which must be in no archive.
const SECRET: &str = "hunter2-Tr0ub4dor";

struct Cluster {
    rig: Rig,
    server: ApiServer,
    collector: Collector,
    agent: Agent,
}

fn pod(name: &str, phase: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "labels": {"app": "api"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "api:1", "env": [{"name": "PASSWORD", "value": SECRET}]}]},
        "status": {"phase": phase}})
}

/// A cluster of one node, three namespaces, and a few objects in them.
fn populate(server: &ApiServer) {
    server.put("nodes", json!({"metadata": {"name": "n1", "uid": "node"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}));
    for namespace in ["shop", "pay", "default"] {
        server.put("namespaces", json!({"metadata": {"name": namespace, "uid": namespace}}));
    }
    for name in ["api-1", "api-2", "api-3"] {
        server.put("pods", pod(name, "Running"));
    }
    let mut other = pod("till-1", "Running");
    other["metadata"]["namespace"] = json!("pay");
    server.put("pods", other);
    server.put(
        "services",
        json!({"metadata": {"name": "api", "namespace": "shop"}, "spec": {"selector": {"app": "api"}}}),
    );
}

async fn collector(rig: &Rig) -> Collector {
    let access = Access::Kubeconfig(rig.path("kubeconfig"));
    rig.collector_with(|config| config.cluster = Some(ClusterConfig::new(access))).await.unwrap()
}

async fn cluster() -> Cluster {
    let (rig, server) = (Rig::new().unwrap(), ApiServer::start().await.unwrap());
    server.kubeconfig(&rig.path("kubeconfig")).unwrap();
    populate(&server);
    let host = FakeHost::new(rig.path("host")).unwrap();
    let collector = collector(&rig).await;
    let agent = rig.agent("n1", host.root()).unwrap();
    rig.client().await.unwrap().recorded("n1", Duration::from_secs(1)).await;
    let cluster = Cluster { rig, server, collector, agent };
    cluster.followed().await;
    cluster
}

impl Cluster {
    /// Until every kind that this cluster has is followed, and the watches stand.
    async fn followed(&self) {
        let recorder = self.collector.recorder().unwrap();
        wait::until("every kind followed", async || {
            let all = || KINDS.iter().filter(|kind| kind.plural != "applications");
            let stands = |kind: &&Kind| {
                recorder.with_log(|log, _| {
                    let contact = &log.tracked(kind).contact;
                    contact.followed().is_some() && contact.lost_since().is_none()
                })
            };
            all().all(|kind| stands(&kind) == Some(true)).then_some(())
        })
        .await;
    }

    /// Until the recorder has a pod of this name, or has none.
    async fn sees(&self, name: &str, there: bool) {
        let (recorder, pods) = (self.collector.recorder().unwrap(), Kind::named("pods").unwrap());
        wait::until(&format!("{name} seen"), async || {
            let seen = recorder.with_log(|log, _| log.tracked(pods).get("shop", name).is_some())?;
            (seen == there).then_some(())
        })
        .await;
    }

    /// A figure of pods.
    fn figure(&self, name: &str) -> f64 {
        let all = tokio::task::block_in_place(|| scrape::metrics(self.collector.observed_at().unwrap()));
        all.of(&format!("casefile_cluster_{name}{{kind=\"pods\"}}"))
    }

    async fn sealed(&self, from: WallTime) -> (CaseFile, Coverage) {
        let mut client = self.rig.client().await.unwrap();
        let window = Window::new(from, now()).unwrap();
        let id = client.open(window, &["n1"], SOON).await.unwrap().id;
        let coverage = client.sealed(id).await.unwrap().coverage.unwrap();
        let file = client.download(id, &self.rig.path(&format!("{id}.tar.gz"))).await.unwrap();
        (file, coverage)
    }

    async fn stop(self) {
        self.agent.stop().await;
        stop(self.collector).await;
    }
}

fn text(file: &mut CaseFile, path: &str) -> String {
    let mut text = String::new();
    let mut entry = file.entries.entry(&path.parse().unwrap()).unwrap_or_else(|e| panic!("{path}: {e}"));
    entry.read_to_string(&mut text).unwrap();
    text
}

fn names(file: &mut CaseFile, path: &str) -> Vec<String> {
    let list: Value = serde_json::from_str(&text(file, path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    let items = list["items"].as_array().unwrap_or_else(|| panic!("{path}: {list}"));
    items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

fn row<'c>(cluster: &'c ClusterCoverage, kind: &str) -> &'c KindCoverage {
    cluster.kinds.iter().find(|row| row.kind == kind).unwrap_or_else(|| panic!("no {kind}: {cluster:#?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_has_the_objects_as_of_its_end_and_what_changed_in_it_and_no_secret() {
    let cluster = cluster().await;
    let from = now();
    cluster.server.put("pods", pod("api-1", "Failed"));
    cluster.server.delete("pods", "shop", "api-2");
    let mut event = json!({"metadata": {"name": "e1", "namespace": "shop"}, "type": "Warning", "reason": "OOMKilling",
        "message": format!("login with password={SECRET} failed"), "involvedObject": {"kind": "Pod", "name": "api-1"}});
    cluster.server.put("events", event.clone());
    event["metadata"]["name"] = json!("forgotten");
    cluster.server.put("events", event);
    // As the cluster forgets events.
    cluster.server.delete("events", "shop", "forgotten");
    cluster.server.put("pods", pod("api-4", "Pending"));
    cluster.sees("api-4", true).await;
    let (mut file, coverage) = cluster.sealed(from).await;

    assert_eq!(names(&mut file, "data/cluster/cluster-resources/pods/shop.json"), ["api-1", "api-3", "api-4"]);
    assert_eq!(names(&mut file, "data/cluster/cluster-resources/pods/pay.json"), ["till-1"]);
    assert_eq!(names(&mut file, "data/cluster/cluster-resources/nodes.json"), ["n1"]);
    assert_eq!(names(&mut file, "data/cluster/cluster-resources/events/shop.json"), ["e1", "forgotten"]);
    // What `sbctl` and `omc` look for first; the tree as a whole is held against their sources where it is made.
    let same = text(&mut file, "data/cluster/cluster-resources/pods/shop.json");
    assert_eq!(text(&mut file, "data/cluster/namespaces/shop/core/pods.yaml"), same);
    let version: Value =
        serde_json::from_str(&text(&mut file, "data/cluster/cluster-info/cluster_version.json")).unwrap();
    assert_eq!((&version["string"], &version["info"]["major"]), (&json!("v1.36.2"), &json!("1")));

    let changes = text(&mut file, "data/cluster/changes.jsonl");
    let changes: Vec<Value> = changes.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of =
        |name: &str| changes.iter().find(|line| line["name"] == name).unwrap_or_else(|| panic!("{name}: {changes:#?}"));
    let failed = of("api-1");
    assert_eq!(
        (&failed["kind"], &failed["namespace"], &failed["change"]),
        (&json!("Pod"), &json!("shop"), &json!("modified"))
    );
    assert_eq!((&failed["fields"], &failed["was"]), (&json!(["status.phase"]), &json!({"status.phase": "Running"})));
    assert_eq!((&of("api-2")["change"], &of("api-4")["change"]), (&json!("deleted"), &json!("added")));
    assert_eq!(of("e1")["is"]["reason"], "OOMKilling");
    let gone: Value =
        serde_json::from_str(text(&mut file, "data/cluster/deleted.jsonl").lines().next().unwrap()).unwrap();
    assert_eq!((&gone["object"]["metadata"]["name"], &gone["object"]["kind"]), (&json!("api-2"), &json!("Pod")));

    let paths: Vec<_> = file.entries.list().iter().map(|entry| entry.path.to_string()).collect();
    for path in paths.iter().filter(|path| path.starts_with("data/cluster/")) {
        assert!(!text(&mut file, path).contains(SECRET), "{path}");
    }
    let told = coverage.cluster.clone().unwrap();
    let pods = row(&told, "pods");
    assert_eq!((pods.objects, pods.changes, &pods.gaps[..], pods.covered.len()), (4, 3, &[][..], 1));
    let argo = &row(&told, "applications").gaps;
    assert!(argo.iter().all(|gap| gap.reason == GapReason::SourceAbsent) && !argo.is_empty(), "{argo:#?}");
    assert!(told.is_whole(), "{told:#?}");
    let said = summary::render(&file.incident, &coverage);
    assert!(said.contains("pods") && said.contains("Cluster"), "{said}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_down_costs_no_node_anything_and_the_coverage_says_so() {
    let cluster = cluster().await;
    let from = now();
    assert_eq!((cluster.figure("objects"), cluster.figure("followed")), (4.0, 1.0));
    assert_eq!((cluster.figure("lists_total"), cluster.figure("losses_total")), (1.0, 0.0));
    assert!(cluster.figure("watches_total") >= 1.0);
    let heard = cluster.figure("heard_timestamp_seconds");
    assert!((heard - now().nanos() as f64 / 1e9).abs() < 60.0, "{heard}");
    cluster.server.set_mood(|mood| mood.down = true);
    let (recorder, pods) = (cluster.collector.recorder().unwrap(), Kind::named("pods").unwrap());
    wait::until("the loss noticed", async || recorder.with_log(|log, _| log.tracked(pods).contact.lost_since())?).await;
    assert!(cluster.figure("losses_total") >= 1.0);
    assert_eq!((cluster.figure("objects"), cluster.figure("followed")), (4.0, 0.0), "what is known is not forgotten");
    let (mut file, coverage) = cluster.sealed(from).await;
    assert_eq!(coverage.nodes[0].state, NodeState::Answered);
    let told = coverage.cluster.as_ref().unwrap();
    let gap = row(told, "pods").gaps.first().unwrap_or_else(|| panic!("{told:#?}"));
    assert_eq!(gap.reason, GapReason::SourceFailed, "{gap:#?}");
    assert!(!told.is_whole() && !coverage.is_whole());
    // What was seen before it went is evidence.
    assert_eq!(names(&mut file, "data/cluster/cluster-resources/pods/shop.json"), ["api-1", "api-2", "api-3"]);
    let said = summary::render(&file.incident, &coverage);
    assert!(said.contains("source-failed"), "{said}");

    // It changes while nobody looks, and is back.
    cluster.server.put("pods", pod("api-1", "Failed"));
    cluster.server.set_mood(|mood| mood.down = false);
    cluster.followed().await;
    let (mut file, _) = cluster.sealed(from).await;
    let changes = text(&mut file, "data/cluster/changes.jsonl");
    assert!(changes.contains("\"api-1\""), "what happened meanwhile was told afterwards: {changes}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forgotten_versions_repeated_events_and_a_restart_lose_nothing_and_ask_for_little() {
    let cluster = cluster().await;
    let from = now();
    cluster.server.asked();
    cluster.server.set_mood(|mood| (mood.twice, mood.page) = (true, 2));
    cluster.server.put("pods", pod("api-5", "Running"));
    cluster.sees("api-5", true).await;
    // The watches end, and where they ended is gone.
    cluster.server.put("pods", pod("api-6", "Running"));
    cluster.server.compact();
    cluster.server.end_watches();
    cluster.server.put("pods", pod("api-7", "Running"));
    cluster.server.delete("pods", "shop", "api-2");
    cluster.server.compact();
    cluster.sees("api-7", true).await;
    cluster.sees("api-2", false).await;
    cluster.followed().await;
    let asked = cluster.server.asked();
    let pods = asked.iter().filter(|asked| asked.path == "/api/v1/pods").count();
    assert!(pods <= 12, "no storm of requests: {pods}");
    let unlimited =
        asked.iter().find(|a| !a.query.contains("watch=1") && !a.query.contains("limit=") && a.path != "/version");
    assert_eq!(unlimited, None, "no list is without a limit");

    // A restart: what happened meanwhile is found, and that nobody looked is declared.
    let Cluster { rig, server, collector: old, agent } = cluster;
    stop(old).await;
    server.delete("pods", "shop", "api-3");
    let cluster = Cluster { collector: collector(&rig).await, rig, server, agent };
    cluster.followed().await;
    cluster.rig.client().await.unwrap().recorded("n1", Duration::from_secs(1)).await;
    let (mut file, coverage) = cluster.sealed(from).await;
    let there = names(&mut file, "data/cluster/cluster-resources/pods/shop.json");
    assert_eq!(there, ["api-1", "api-5", "api-6", "api-7"]);
    let told = coverage.cluster.unwrap();
    let gaps = &row(&told, "pods").gaps;
    assert!(
        gaps.iter().any(|gap| gap.reason == GapReason::NotRecorded && gap.detail.contains("did not run")),
        "{gaps:#?}"
    );
    let changes = text(&mut file, "data/cluster/changes.jsonl");
    let gone: Vec<Value> = changes.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let gone = gone.iter().find(|line| line["name"] == "api-3").unwrap_or_else(|| panic!("{changes}"));
    assert!(gone["since"].as_str() < gone["at"].as_str() && gone["since"].is_string(), "{gone}");
    cluster.stop().await;
}

/// Its watches stand and say nothing: that nothing happens cannot be told from that.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_is_a_gap_although_its_watches_stand() {
    let cluster = cluster().await;
    cluster.server.set_mood(|mood| mood.delay = Duration::from_secs(600));
    for kind in [Kind::named("pods").unwrap(), Kind::named("storageclasses").unwrap()] {
        wait::until(kind.plural, async || {
            cluster.collector.recorder()?.with_log(|log, _| log.tracked(kind).contact.lost_since())?
        })
        .await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_left_the_cluster_before_the_window_is_not_waited_for_and_one_that_is_silent_is() {
    let cluster = cluster().await;
    let node = |name: &str| json!({"metadata": {"name": name, "uid": format!("uid-{name}")}});
    cluster.server.put("nodes", node("left"));
    cluster.server.put("nodes", node("silent"));
    let client = cluster.rig.client().await.unwrap();
    for name in ["left", "silent"] {
        let host = FakeHost::new(cluster.rig.path(&format!("host-{name}"))).unwrap();
        let agent = cluster.rig.agent(name, host.root()).unwrap();
        client.recorded(name, Duration::from_secs(1)).await;
        agent.stop().await;
    }
    assert!(cluster.server.delete("nodes", "", "left"));
    let (recorder, nodes) = (cluster.collector.recorder().unwrap(), Kind::named("nodes").unwrap());
    let gone = || recorder.with_log(|log, _| log.tracked(nodes).gone_since("", "left"))?;
    wait::until("a node gone", async || gone()).await;
    wait::until("two nodes away", async || {
        let nodes = client.clone().nodes().await.ok()?;
        nodes.iter().filter(|n| n.node.as_str() != "n1").all(|n| n.link == Link::Away).then_some(())
    })
    .await;
    let from = now();
    let asked = async |from: WallTime, nodes: &[&str]| {
        let mut client = cluster.rig.client().await.unwrap();
        let window = Window::new(from, now()).unwrap();
        let id = client.open(window, nodes, Duration::from_secs(2)).await.unwrap().id;
        let coverage = client.sealed(id).await.unwrap().coverage.unwrap();
        coverage.nodes.iter().map(|node| (node.node.to_string(), node.state)).collect::<Vec<_>>()
    };
    let here = ("n1".to_owned(), NodeState::Answered);
    let state_of =
        |all: &[(String, NodeState)], name: &str| all.iter().find(|(n, _)| n == name).map(|(_, state)| *state);
    let all = asked(from, &[]).await;
    assert_eq!(all.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["n1", "silent"]);
    assert!(all.contains(&here) && state_of(&all, "silent") != Some(NodeState::Answered), "{all:?}");
    // Of a window in which it still was there it is part, and so it is when somebody names it.
    let all = asked(from.before(Duration::from_secs(600)), &[]).await;
    assert_eq!(state_of(&all, "left"), Some(NodeState::LastWords), "{all:?}");
    assert_eq!(asked(from, &["left"]).await.len(), 1);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_with_a_megabyte_of_annotations_is_kept_without_them() {
    let cluster = cluster().await;
    let from = now();
    let mut large = pod("large", "Running");
    large["metadata"]["annotations"] =
        json!({"blob": "x".repeat(1 << 20), "kubectl.kubernetes.io/last-applied-configuration": SECRET});
    cluster.server.put("pods", large);
    cluster.sees("large", true).await;
    let (mut file, coverage) = cluster.sealed(from).await;
    let list = text(&mut file, "data/cluster/cluster-resources/pods/shop.json");
    assert!(list.contains("[cut: 1048576 bytes; [hash:") && list.len() < 100_000 && !list.contains(SECRET));
    assert!(coverage.cluster.unwrap().is_whole());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_cluster_nothing_is_said_of_one() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    let collector = rig.collector().await.unwrap();
    let agent = rig.agent("n1", host.root()).unwrap();
    let mut client = rig.client().await.unwrap();
    client.recorded("n1", Duration::from_secs(1)).await;
    let window = Window::new(now().before(Duration::from_secs(1)), now()).unwrap();
    let id = client.open(window, &["n1"], SOON).await.unwrap().id;
    assert_eq!(client.sealed(id).await.unwrap().coverage.unwrap().cluster, None);
    let file = client.download(id, &rig.path("case.tar.gz")).await.unwrap();
    assert!(file.entries.list().iter().all(|entry| !entry.path.as_str().starts_with("data/cluster/")));
    agent.stop().await;
    stop(collector).await;
}
