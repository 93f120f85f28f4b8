//! What `deploy/` gives against what the programs do in a cluster: the kind Collection is the one that the collector follows, the
//! targets of tests can be reached, and a collector at work asks the API server for everything that its roles let it, and for
//! nothing else.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use casefile_agent::uplink::in_cluster::InCluster;
use casefile_collector::cluster::authority::PIN;
use casefile_collector::cluster::collections::resource::{API, PLURAL};
use casefile_collector::cluster::config::Access;
use casefile_collector::cluster::kinds::KINDS;
use casefile_collector::identity::rights::Right;
use casefile_identity::dial::dial_as_foreign;
use casefile_proto::wire::v1::ListNodesRequest;
use casefile_proto::wire::v1::node_service_client::NodeServiceClient;
use casefile_tests::apiserver::{ApiServer, Asked};
use casefile_tests::{Rig, host::FakeHost, stop, wait};
use serde_json::json;

use super::manifests::{ALL, file, items, keys, name, of_kind, one, rendered, text};
use super::rights::{Single, ruled};
use super::{agent_of, collector_of};

/// The namespace that is rendered.
const HOME: &str = "casefile";

#[test]
fn every_way_to_install_brings_the_kind_that_the_collector_follows() {
    let base = file("kustomize/base/crd-collections.yaml");
    assert!(
        base == file("helm/casefile/crds/collections.yaml"),
        "copy the base's to the chart: Helm reads no other file"
    );
    for way in ALL {
        let objects = rendered(way);
        let found = of_kind(&objects, "CustomResourceDefinition");
        let [kind] = &found[..] else { panic!("{way}: {}", found.len()) };
        let (group, version) = API.split_once('/').unwrap();
        assert_eq!(name(kind), format!("{PLURAL}.{group}"), "{way}");
        let versions: Vec<_> = items(&kind["spec"]["versions"]).iter().map(|v| text(&v["name"])).collect();
        assert_eq!((versions, &kind["spec"]["scope"]), (vec![version], &json!("Namespaced")), "{way}");
    }
}

#[test]
fn agents_reach_the_ports_of_the_targets_where_they_may_test_and_no_others_where_they_may_not() {
    for way in ALL {
        let objects = rendered(way);
        let (agent, collector) = (agent_of(&objects), collector_of(&objects));
        let egress = items(&one(&objects, "NetworkPolicy", "casefile-agent")["spec"]["egress"]);
        let anywhere: Vec<_> = egress.iter().filter(|rule| rule.get("to").is_none()).collect();
        if way != "chart-with-other-values" {
            assert!(agent.connectivity.is_none(), "{way}: nothing is tested unless it is said");
            assert!(anywhere.is_empty(), "{way}: {anywhere:?}");
            continue;
        }
        assert!(agent.connectivity.is_some(), "{way}");
        let named = |name: &str| collector.targets.find(name).unwrap_or_else(|| panic!("{way}: no target {name}"));
        let targets = ["api", "database", "proxy", "other-api", "name"].map(named);
        let mut ports: BTreeSet<_> = targets.iter().filter_map(|listed| listed.target.port()).collect();
        assert_eq!(ports, [443, 3128, 5432].into(), "{way}: one twice, one by its scheme, one without any");
        let [rule] = &anywhere[..] else { panic!("{way}: {anywhere:?}") };
        for port in items(&rule["ports"]) {
            assert_eq!((keys(port), &port["protocol"]), (["port", "protocol"].into(), &json!("TCP")), "{way}");
            assert!(ports.remove(&u16::try_from(port["port"].as_u64().unwrap()).unwrap()), "{way}: {port}");
        }
        assert!(ports.is_empty(), "{way}: cannot be reached: {ports:?}");
    }
}

#[test]
fn the_collector_has_an_archive_store_where_one_is_said_with_its_key_where_the_secret_is_mounted() {
    for way in ALL {
        let store = collector_of(&rendered(way)).archive_store;
        let name = store.as_ref().map(casefile_collector::archives::config::StoreConfig::name);
        let expected = match way {
            "s3" => Some("s3://casefile-archives"),
            "chart-with-other-values" => Some("s3://evidence/case/files at http://minio.storage.svc:9000"),
            _ => None,
        };
        assert_eq!(name.as_deref(), expected, "{way}");
        if let Some(store) = store {
            let key = Path::new("/etc/casefile-archive-store/credentials");
            assert_eq!(store.credentials.as_deref(), Some(key), "{way}");
            assert_eq!((store.plain, store.ca.is_some()), (way != "s3", way != "s3"), "{way}");
        }
    }
}

/// A right as it was used: where (empty: in all namespaces, or in none), and what.
type Used = (String, (String, String, Option<String>, String));

/// The right that a request takes; `None`: it is for every account of a cluster (`system:public-info-viewer`).
fn taken(asked: &Asked) -> Option<Used> {
    assert!(asked.agent.starts_with("casefile-collector/"), "nobody knows who asked: {asked:?}");
    let parts: Vec<_> = asked.path.split('/').skip(1).collect();
    let (group, rest) = match &parts[..] {
        ["version"] => return None,
        ["api", _, rest @ ..] => ("", rest),
        ["apis", group, _, rest @ ..] => (*group, rest),
        other => panic!("{other:?}"),
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
        rest => ("", rest),
    };
    let (resource, name) = match rest {
        [resource] => ((*resource).to_owned(), None),
        [resource, name] => ((*resource).to_owned(), Some((*name).to_owned())),
        [resource, name, sub] => (format!("{resource}/{sub}"), Some((*name).to_owned())),
        other => panic!("{other:?}"),
    };
    let watches = asked.query.split('&').any(|part| ["watch=1", "watch=true"].contains(&part));
    let verb = match (&*asked.method, &name) {
        ("GET", Some(_)) => "get",
        ("GET", None) if watches => "watch",
        ("GET", None) => "list",
        ("POST", None) => "create",
        ("PATCH", Some(_)) => "patch",
        other => panic!("{other:?}: {}", asked.path),
    };
    Some((namespace.to_owned(), (group.to_owned(), resource, name, verb.to_owned())))
}

/// What the roles of the collector let it: where, and what.
fn let_it(way: &str) -> BTreeSet<(String, Single)> {
    let objects = rendered(way);
    let roles = of_kind(&objects, "ClusterRole").into_iter().chain(of_kind(&objects, "Role"));
    let own = roles.filter(|role| name(role) == "casefile-collector");
    own.map(|role| (role["metadata"]["namespace"].as_str().unwrap_or_default().to_owned(), ruled(role))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_at_work_asks_for_everything_that_its_roles_let_it_and_for_nothing_else() {
    let (rig, server) = (Rig::new().unwrap(), ApiServer::start().await.unwrap());
    let host = FakeHost::new(rig.path("host")).unwrap();
    server.kubeconfig(&rig.path("kubeconfig")).unwrap();
    server.serve("argoproj.io/v1alpha1", "applications", "Application");
    server.serve(API, PLURAL, "Collection");
    let mut of_base = collector_of(&rendered("base")).cluster.unwrap();
    of_base.access = Access::Kubeconfig(rig.path("kubeconfig"));
    // As the base makes it, and an agent's pod of a cluster whose tokens do not name nodes yet.
    server.put("configmaps", one(&rendered("base"), "ConfigMap", "casefile-authority").clone());
    let (namespace, account) = (of_base.agents[0].namespace(), of_base.agents[0].name());
    let pod = json!({"namespace": namespace, "name": "casefile-agent-n1", "uid": "uid-of-casefile-agent-n1"});
    let spec = json!({"nodeName": "n1", "serviceAccountName": account});
    server.put("pods", json!({"metadata": pod, "spec": spec}));
    server.reviews(|r| {
        r.pod_token("token-of-n1", (namespace, account), "casefile-agent-n1", None, &of_base.audience);
        r.token("token-of-kim", json!({"username": "kim", "groups": ["system:authenticated"]}), &[]);
        r.allow("kim", Right::See.verb(), Right::See.resource());
    });
    // The first write of a status meets an old version: then the collector reads the resource again.
    server.set_mood(|mood| mood.failing = vec![("/slow/status".to_owned(), 409)]);
    let collector = rig.collector_with(|config| config.cluster = Some(of_base.clone())).await.unwrap();

    let used = Mutex::new(BTreeSet::<Used>::new());
    let uses = |wanted: &Used| {
        let mut used = used.lock().unwrap();
        used.extend(server.asked().iter().filter_map(taken));
        used.contains(wanted)
    };
    let until = async |at: &str, group: &str, resource: &str, name: Option<&str>, verb: &str| {
        let what = (group.to_owned(), resource.to_owned(), name.map(str::to_owned), verb.to_owned());
        let wanted = (at.to_owned(), what);
        wait::until(&format!("{wanted:?}"), async || uses(&wanted).then_some(())).await;
    };
    // It tells its pin, which agents have mounted; an agent joins, and somebody looks.
    let told =
        async || server.object("configmaps", HOME, "casefile-authority")?["data"][PIN].as_str().map(str::to_owned);
    let pin = wait::until("the pin in the config map", told).await;
    let files = InCluster { token: rig.path("token"), pin: rig.path("pin") };
    std::fs::write(&files.token, "token-of-n1").unwrap();
    std::fs::write(&files.pin, pin).unwrap();
    let agent = rig.agent_in_cluster("n1", host.root(), files).unwrap();
    rig.client().await.unwrap().recorded("n1", Duration::from_secs(1)).await;
    let (pin, token) = (rig.authority().unwrap().pin(), "token-of-kim".parse().unwrap());
    let channel = dial_as_foreign(&rig.url().parse().unwrap(), pin, &token, |e| e).await.unwrap();
    NodeServiceClient::new(channel).list_nodes(ListNodesRequest {}).await.unwrap();
    // Somebody asks for evidence with kubectl, in a namespace of his own.
    let asked_for = json!({"metadata": {"name": "slow", "namespace": "shop"}, "spec": {"window": {"since": "10s"}}});
    server.put(PLURAL, asked_for);
    until("shop", "casefile.dev", PLURAL, Some("slow"), "get").await;
    server.set_mood(|mood| mood.failing.clear());
    wait::until("a case file", async || {
        let object = server.object(PLURAL, "shop", "slow")?;
        let conditions = object["status"]["conditions"].as_array()?;
        conditions.iter().any(|c| c["type"] == "Succeeded" && c["status"] == "True").then_some(())
    })
    .await;
    // Every kind is followed.
    for kind in KINDS {
        let path = kind.path();
        for (query, method) in [("", "GET"), ("watch=1", "GET")] {
            let asked = Asked {
                method: method.to_owned(),
                path: path.clone(),
                query: query.to_owned(),
                agent: "casefile-collector/1".to_owned(),
            };
            let wanted = taken(&asked).unwrap();
            wait::until(&format!("{wanted:?}"), async || uses(&wanted).then_some(())).await;
        }
    }
    agent.stop().await;
    stop(collector).await;

    let mut used = used.into_inner().unwrap();
    used.extend(server.asked().iter().filter_map(taken));
    let granted = let_it("base");
    let lets = |at: &str, right: &(String, String, Option<String>, String), used: &Used| {
        let (group, resource, name, verb) = &used.1;
        (at.is_empty() || at == used.0)
            && (&right.0, &right.1, &right.3) == (group, resource, verb)
            && (right.2.is_none() || right.2 == *name)
    };
    for one in &used {
        let may = granted.iter().any(|(at, rights)| rights.iter().any(|right| lets(at, right, one)));
        assert!(may, "the roles do not let it: {one:?}");
    }
    for (at, rights) in &granted {
        for right in rights {
            assert!(used.iter().any(|one| lets(at, right, one)), "a right that it does not use: {at} {right:?}");
        }
    }
}
