//! What is asked in the cluster's words becomes nodes and logs: of pods that live, of pods that are gone, and of nothing.

use std::time::Duration;

use casefile_agent::Agent;
use casefile_collector::Collector;
use casefile_collector::cluster::config::{Access, ClusterConfig};
use casefile_collector::cluster::kinds::{KINDS, Kind};
use casefile_tests::apiserver::ApiServer;
use casefile_tests::host::FakeHost;
use casefile_tests::program::{command, run, said, stdout};
use casefile_tests::{Rig, now, stop, wait};
use serde_json::{Value, json};

struct Cluster {
    rig: Rig,
    server: ApiServer,
    collector: Collector,
    agents: Vec<Agent>,
}

fn pod(name: &str, node: &str, app: &str, owner: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "labels": {"app": app},
            "ownerReferences": [{"kind": "ReplicaSet", "name": owner, "controller": true}]},
        "spec": {"nodeName": node}, "status": {"phase": "Running"}})
}

/// Three nodes; two pods of a deployment on n1 and n2 behind a service, one of another on n3.
async fn cluster() -> Cluster {
    let (rig, server) = (Rig::new().unwrap(), ApiServer::start().await.unwrap());
    server.kubeconfig(&rig.path("kubeconfig")).unwrap();
    for (node, pool) in [("n1", "cpu"), ("n2", "cpu"), ("n3", "gpu")] {
        server.put("nodes", json!({"metadata": {"name": node, "labels": {"pool": pool}}}));
    }
    server.put("deployments", json!({"metadata": {"name": "api", "namespace": "shop"}}));
    let owner = json!([{"kind": "Deployment", "name": "api", "controller": true}]);
    server.put("replicasets", json!({"metadata": {"name": "api-5d", "namespace": "shop", "ownerReferences": owner}}));
    server.put("pods", pod("api-5d-1", "n1", "api", "api-5d"));
    server.put("pods", pod("api-5d-2", "n2", "api", "api-5d"));
    server.put("pods", pod("web-77-1", "n3", "web", "web-77"));
    let service = |name: &str, selector: Value| json!({"metadata": {"name": name, "namespace": "shop"}, "spec": {"selector": selector}});
    server.put("services", service("api-gateway", json!({"app": "somebody-else-says"})));
    server.put("services", service("no-endpoints", json!({"app": "web"})));
    server.put("services", service("nobody", json!({"app": "nobody"})));
    let endpoints = json!([{"targetRef": {"kind": "Pod", "name": "api-5d-1"}}]);
    let labels = json!({"kubernetes.io/service-name": "api-gateway"});
    server.put(
        "endpointslices",
        json!({"metadata": {"name": "s1", "namespace": "shop", "labels": labels}, "endpoints": endpoints}),
    );

    let access = Access::Kubeconfig(rig.path("kubeconfig"));
    let collector = rig.collector_with(|config| config.cluster = Some(ClusterConfig::new(access))).await.unwrap();
    let mut agents = Vec::new();
    for node in ["n1", "n2", "n3"] {
        let host = FakeHost::new(rig.path(&format!("host-{node}"))).unwrap();
        agents.push(rig.agent(node, host.root()).unwrap());
    }
    let client = rig.client().await.unwrap();
    for node in ["n1", "n2", "n3"] {
        client.recorded(node, Duration::from_secs(1)).await;
    }
    let cluster = Cluster { rig, server, collector, agents };
    for plural in KINDS.iter().map(|kind| kind.plural).filter(|plural| *plural != "applications") {
        let kind = Kind::named(plural).unwrap();
        wait::until(plural, async || {
            let recorder = cluster.collector.recorder()?;
            recorder.with_log(|log, _| log.tracked(kind).contact.followed())?
        })
        .await;
    }
    cluster
}

impl Cluster {
    /// Opens an incident of the last minute, and gives what was opened, or what was said instead.
    async fn collect(&self, words: &[&str]) -> Result<Value, String> {
        let data = self.rig.path("collector").to_str().unwrap().to_owned();
        let mut args: Vec<String> =
            ["collect", "--data", &data, "--since", "1m", "-o", "json"].map(str::to_owned).to_vec();
        args.extend(words.iter().map(|word| (*word).to_owned()));
        let done =
            tokio::task::spawn_blocking(move || run("casefile", &args.iter().map(String::as_str).collect::<Vec<_>>()));
        let done = done.await.unwrap();
        match done.status.code() {
            Some(0) => Ok(serde_json::from_str(&stdout(&done)).unwrap()),
            _ => Err(said(&done)),
        }
    }

    async fn stop(self) {
        for agent in self.agents {
            agent.stop().await;
        }
        stop(self.collector).await;
    }
}

/// The nodes and pods that it became, and how many pods that were.
fn became(opened: &Value) -> (Value, Value, Value) {
    let ask = &opened["incident"]["ask"];
    let select = &ask["scope"]["select"];
    (opened["incident"]["expected"].clone(), select["pods"].clone(), ask["scope"]["chosen"]["pods"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn services_workloads_labels_and_namespaces_become_the_nodes_and_logs_of_their_pods() {
    let cluster = cluster().await;
    let api = || (json!(["n1", "n2"]), json!(["api-5d-1", "api-5d-2"]), json!(2));
    let web = || (json!(["n3"]), json!(["web-77-1"]), json!(1));
    for (words, expected) in [
        (&["-n", "shop", "-l", "app=api"][..], api()),
        (&["-l", "app in (api),!canary"], api()),
        (&["--workload", "deployment/api"], api()),
        (&["--workload", "deploy/api", "--node-selector", "pool=cpu"], api()),
        (&["--service", "api-gateway"], (json!(["n1"]), json!(["api-5d-1"]), json!(1))),
        // Without endpoints it is what the service would choose.
        (&["--service", "no-endpoints"], web()),
        (&["--pod", "web-77-1"], web()),
        (&["-n", "shop"], (json!(["n1", "n2", "n3"]), Value::Null, json!(3))),
        (&["--node-selector", "pool=gpu"], (json!(["n3"]), Value::Null, json!(0))),
        (&["-l", "app=api", "--node", "n2"], (json!(["n2"]), json!(["api-5d-1", "api-5d-2"]), json!(2))),
    ] {
        let opened = cluster.collect(words).await.unwrap_or_else(|said| panic!("{words:?}: {said}"));
        assert_eq!(became(&opened), expected, "{words:?}: {opened:#}");
    }

    // Pods that lived in the window and are gone count as well.
    cluster.server.delete("pods", "shop", "api-5d-1");
    cluster.server.put("pods", pod("api-5d-3", "n3", "api", "api-5d"));
    let pods = Kind::named("pods").unwrap();
    wait::until("the new pod", async || {
        let recorder = cluster.collector.recorder()?;
        recorder.with_log(|log, _| log.tracked(pods).get("shop", "api-5d-3").map(|_| ()))?
    })
    .await;
    let opened = cluster.collect(&["--workload", "deployment/api"]).await.unwrap();
    let all = json!(["api-5d-1", "api-5d-2", "api-5d-3"]);
    assert_eq!(became(&opened), (json!(["n1", "n2", "n3"]), all, json!(3)), "{opened:#}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_nothing_or_makes_no_sense_is_refused_with_the_reason() {
    let cluster = cluster().await;
    for (words, told) in [
        (&["--service", "nobody"][..], "the service nobody has no endpoints, and no pod had its labels in the window"),
        (&["--service", "missing"], "there was no service missing"),
        (&["-n", "shop", "--workload", "deployment/missing"], "there is no Deployment missing in shop"),
        (&["--workload", "api"], "say KIND/NAME"),
        (&["-l", "app=nothing"], "no pod was so in the window: labels app=nothing"),
        (&["-l", "app in (a"], "the parentheses do not match"),
        (&["--node-selector", "pool=tpu"], "no node had the labels"),
    ] {
        let said = cluster.collect(words).await.expect_err("it was opened");
        assert!(said.contains(told), "{words:?}: {said}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_cluster_names_choose_logs_as_ever_and_the_rest_is_refused() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    host.pod_line(now(), "hello").unwrap();
    let collector = rig.collector().await.unwrap();
    let agent = rig.agent("n1", host.root()).unwrap();
    rig.client().await.unwrap().recorded("n1", Duration::from_secs(1)).await;
    let server = ApiServer::start().await.unwrap();
    let cluster = Cluster { rig, server, collector, agents: vec![agent] };
    let opened = cluster.collect(&["-n", "shop", "--pod", "api-0"]).await.unwrap();
    assert_eq!(became(&opened), (json!(["n1"]), json!(["api-0"]), json!(0)));
    let note = opened["incident"]["ask"]["scope"]["chosen"]["notes"][0].as_str().unwrap();
    assert!(note.contains("belongs to no cluster"), "{note}");
    let said = cluster.collect(&["--service", "api"]).await.expect_err("it was opened");
    assert!(said.contains("belongs to no cluster") && said.contains("--pod"), "{said}");
    cluster.stop().await;
}

/// What a runbook asks live is asked of the cluster too: an incident that leaves the cluster's objects out has nothing to say.
#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_runbook_ask_the_cluster_as_well_when_they_look_live() {
    let cluster = cluster().await;
    let data = cluster.rig.path("collector").to_str().unwrap().to_owned();
    let cache = cluster.rig.path("cache");
    let look = async |args: &[&str]| {
        let mut command = command("casefile");
        command.args(args).args(["--data", &data, "--since", "1m"]).env("XDG_CACHE_HOME", &cache);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    };
    let health = look(&["health-check"]).await;
    let (text, code) = (stdout(&health), health.status.code());
    assert!(code == Some(3) && text.contains("service shop/no-endpoints has no endpoint"), "{}", said(&health));
    assert!(text.contains("3 pods in 1 namespace") && !text.contains("no cluster evidence"), "{text}");
    // There is no autoscaler and no job here, which is known: a healthy cluster without any is not looked at in part only.
    assert!(!text.contains("there is no list of"), "{text}");
    let resources = look(&["analyze-resources", "--service", "api-gateway", "-n", "shop"]).await;
    let text = stdout(&resources);
    assert!(text.contains("shop/api-5d-1 on n1, Running"), "{}", said(&resources));
    assert!(!text.contains("cannot tell: which pods"), "{text}");
    cluster.stop().await;
}
