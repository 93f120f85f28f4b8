//! Every way to choose, over a record that a test fills: in a window from 100 s to 200 s, of which some things are gone and to
//! which others came later.

use std::sync::Arc;
use std::time::Duration;

use casefile_proto::units::Bytes;
use casefile_redact::{Key, Pseudonyms, Redactor, RuleSet};
use serde_json::json;

use super::*;
use crate::cluster::record::log::Limits;
use crate::cluster::sanitise::Sanitiser;

fn at(secs: i64) -> WallTime {
    WallTime::from_secs(secs)
}

fn object(namespace: &str, name: &str, labels: &Value) -> Value {
    let mut metadata = json!({"name": name, "uid": format!("uid-{namespace}-{name}"), "labels": labels});
    if !namespace.is_empty() {
        metadata["namespace"] = namespace.into();
    }
    json!({"metadata": metadata})
}

fn owned(mut object: Value, kind: &str, name: &str) -> Value {
    object["metadata"]["ownerReferences"] = json!([
        // Whoever has a part in it and does not run it.
        {"kind": "Deployment", "name": "bystander"},
        {"kind": kind, "name": name, "controller": true},
    ]);
    object
}

fn pod(namespace: &str, name: &str, node: &str, app: &str) -> Value {
    let mut pod = object(namespace, name, &json!({"app": app}));
    if !node.is_empty() {
        pod["spec"] = json!({"nodeName": node});
    }
    pod
}

fn service(namespace: &str, name: &str, selector: &Value) -> Value {
    let mut service = object(namespace, name, &json!({}));
    service["spec"] = json!({"selector": selector});
    service
}

fn slice(namespace: &str, name: &str, service: &str, pods: &[&str]) -> Value {
    let mut slice = object(namespace, name, &json!({"kubernetes.io/service-name": service}));
    let target = |pod: &&str| json!({"targetRef": {"kind": "Pod", "name": pod}});
    slice["endpoints"] = pods.iter().map(target).collect();
    slice
}

/// What the API server showed, in time.
struct Cluster {
    _dir: tempfile::TempDir,
    log: Log,
    version: u32,
}

impl Cluster {
    /// With these objects at 50 s.
    fn new(shown: &[(&str, Vec<Value>)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let redactor = Redactor::new(Arc::new(RuleSet::builtin()), Key::new([7; 32]), Pseudonyms::default());
        let limits = Limits { bytes: Bytes::mib(64), age: Duration::from_hours(1) };
        let log = Log::open(dir.path(), limits, Sanitiser::new([1; 32], redactor), at(0)).unwrap();
        let mut cluster = Self { _dir: dir, log, version: 10 };
        for (plural, objects) in shown {
            let kind = Kind::named(plural).unwrap();
            let items: Vec<_> = objects.iter().map(|object| cluster.versioned(object)).collect();
            let page = json!({"metadata": {"resourceVersion": "1"}, "items": items}).to_string();
            cluster.log.page(kind, page.as_bytes(), true, at(50)).unwrap();
            cluster.log.end_list(kind, at(50)).unwrap();
        }
        cluster
    }

    fn versioned(&mut self, object: &Value) -> Value {
        self.version += 1;
        let mut object = object.clone();
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        object
    }

    fn event(&mut self, secs: i64, plural: &str, change: &str, object: &Value) {
        let line = json!({"type": change, "object": self.versioned(object)}).to_string();
        self.log.line(Kind::named(plural).unwrap(), line.as_bytes(), at(secs)).unwrap();
    }

    fn choose(&mut self, asked: &ClusterSelection) -> Result<Became, NotChosen> {
        let window = Window::new(at(100), at(200)).unwrap();
        let (mut known, snapshot) = Known::now(&self.log, window, at(300)).unwrap();
        known.then(snapshot)?;
        Words::of(asked)?.among(&known).made()
    }

    fn became(&mut self, asked: ClusterSelection) -> (String, String, String) {
        let became = self.choose(&asked).unwrap_or_else(|error| panic!("{asked}: {error}"));
        assert_eq!(became.chosen.asked, asked);
        assert_eq!(became.chosen.nodes, became.nodes.len() as u64);
        let nodes: Vec<_> = became.nodes.iter().map(NodeName::as_str).collect();
        (nodes.join(" "), became.select.namespaces.join(" "), became.select.pods.join(" "))
    }

    fn refused(&mut self, asked: &ClusterSelection) -> String {
        self.choose(asked).map_or_else(|error| error.to_string(), |became| panic!("{asked}: {became:?}"))
    }
}

fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(|text| (*text).to_owned()).collect()
}

fn became(nodes: &str, namespaces: &str, pods: &str) -> (String, String, String) {
    (nodes.to_owned(), namespaces.to_owned(), pods.to_owned())
}

/// Two namespaces on three nodes, and every kind of owner.
fn shop() -> Cluster {
    Cluster::new(&[
        (
            "nodes",
            vec![
                object("", "n1", &json!({"zone": "a", "gpu": "true"})),
                object("", "n2", &json!({"zone": "b"})),
                object("", "n3", &json!({})),
            ],
        ),
        (
            "pods",
            vec![
                owned(pod("shop", "api-1-x", "n1", "api"), "ReplicaSet", "api-1"),
                owned(pod("shop", "api-1-y", "n2", "api"), "ReplicaSet", "api-1"),
                owned(pod("shop", "db-0", "n3", "db"), "StatefulSet", "db"),
                owned(pod("shop", "night-77-z", "n3", "night"), "Job", "night-77"),
                pod("shop", "waiting", "", "waiting"),
                owned(pod("bank", "api-1-x", "n3", "api"), "ReplicaSet", "api-1"),
                owned(pod("bank", "agent-q", "n1", "agent"), "DaemonSet", "agent"),
            ],
        ),
        (
            "replicasets",
            vec![
                owned(object("shop", "api-1", &json!({})), "Deployment", "api"),
                owned(object("bank", "api-1", &json!({})), "Deployment", "api"),
            ],
        ),
        ("jobs", vec![owned(object("shop", "night-77", &json!({})), "CronJob", "night")]),
        ("deployments", vec![object("shop", "api", &json!({})), object("shop", "idle", &json!({}))]),
        (
            "services",
            vec![
                service("shop", "api", &json!({"app": "api"})),
                service("shop", "db", &json!({"app": "db"})),
                service("shop", "outside", &json!({})),
                service("shop", "nobody", &json!({"app": "nobody"})),
                service("shop", "twice", &json!({"app": "api"})),
                service("bank", "twice", &json!({"app": "api"})),
            ],
        ),
        ("endpointslices", vec![slice("shop", "api-aaa", "api", &["api-1-x"])]),
    ])
}

fn asked(namespaces: &[&str]) -> ClusterSelection {
    ClusterSelection { namespaces: texts(namespaces), ..ClusterSelection::default() }
}

#[test]
fn a_namespace_is_the_nodes_of_its_pods_and_all_of_its_logs() {
    let mut shop = shop();
    assert_eq!(shop.became(asked(&["shop"])), became("n1 n2 n3", "shop", ""));
    assert_eq!(shop.became(asked(&["bank"])), became("n1 n3", "bank", ""));
    assert_eq!(shop.became(asked(&["bank", "shop"])), became("n1 n2 n3", "bank shop", ""));
    // One that is like the beginning of another.
    assert!(shop.refused(&asked(&["sho"])).contains("no pod was so"));
}

#[test]
fn labels_names_and_nodes_narrow_each_other() {
    let mut shop = shop();
    let api = ClusterSelection { selector: "app=api".to_owned(), ..asked(&[]) };
    assert_eq!(shop.became(api.clone()), became("n1 n2 n3", "bank shop", "api-1-x api-1-y"));
    let api = ClusterSelection { namespaces: texts(&["shop"]), ..api };
    assert_eq!(shop.became(api.clone()), became("n1 n2", "shop", "api-1-x api-1-y"));
    let in_zone = ClusterSelection { node_selector: "zone=b".to_owned(), ..api };
    assert_eq!(shop.became(in_zone.clone()), became("n2", "shop", "api-1-y"));
    let nowhere = ClusterSelection { pods: texts(&["api-1-x"]), ..in_zone };
    assert!(shop.refused(&nowhere).contains("no pod was so"));
    // A name in two namespaces is both.
    let named = ClusterSelection { pods: texts(&["api-1-x", "unheard-of"]), ..asked(&[]) };
    assert_eq!(shop.became(named), became("n1 n3", "bank shop", "api-1-x"));
    let not = ClusterSelection { selector: "app notin (api, db),!canary".to_owned(), ..asked(&["shop"]) };
    assert_eq!(shop.became(not), became("n3", "shop", "night-77-z waiting"));
}

#[test]
fn labels_of_nodes_alone_are_nodes_and_every_log() {
    let mut shop = shop();
    let on = |selector: &str| ClusterSelection { node_selector: selector.to_owned(), ..ClusterSelection::default() };
    assert_eq!(shop.became(on("zone")), became("n1 n2", "", ""));
    assert_eq!(shop.became(on("zone,!gpu")), became("n2", "", ""));
    assert_eq!(shop.refused(&on("zone=c")), "no node had the labels \"zone=c\" in the window");
    assert!(shop.refused(&on("zone in (a")).contains("parentheses"));
}

#[test]
fn workloads_are_the_pods_that_they_own_through_whatever_stands_between() {
    let mut shop = shop();
    let of =
        |namespaces: &[&str], workload: &str| ClusterSelection { workloads: texts(&[workload]), ..asked(namespaces) };
    let api = became("n1 n2", "shop", "api-1-x api-1-y");
    for text in ["deployment/api", "deploy/api", "Deployments.apps/api", "replicaset/api-1", "rs/api-1"] {
        assert_eq!(shop.became(of(&["shop"], text)), api, "{text}");
    }
    assert_eq!(shop.became(of(&[], "sts/db")), became("n3", "shop", "db-0"));
    assert_eq!(shop.became(of(&[], "ds/agent")), became("n1", "bank", "agent-q"));
    for text in ["cj/night", "job/night-77"] {
        assert_eq!(shop.became(of(&[], text)), became("n3", "shop", "night-77-z"), "{text}");
    }
    let several = "there is a Deployment api in several namespaces (bank, shop): say which one with -n";
    assert_eq!(shop.refused(&of(&[], "deployment/api")), several);
    assert_eq!(shop.refused(&of(&["shop"], "deployment/apx")), "there is no Deployment apx in shop");
    assert!(shop.refused(&of(&["shop"], "deployment/idle")).contains("no pod was so"), "it has no pods");
    // Whoever is named as an owner and runs nothing of it.
    assert!(shop.refused(&of(&[], "deployment/bystander")).contains("there is no Deployment bystander"));
    for text in ["api", "deployment/", "/api", "pod/api", "deployment"] {
        assert!(shop.refused(&of(&[], text)).contains("is no workload"), "{text}");
    }
}

#[test]
fn a_service_is_whom_its_endpoints_name_and_else_whom_it_would_choose() {
    let mut shop = shop();
    let of =
        |namespaces: &[&str], services: &[&str]| ClusterSelection { services: texts(services), ..asked(namespaces) };
    assert_eq!(shop.became(of(&[], &["api"])), became("n1", "shop", "api-1-x"), "one of two is ready");
    assert_eq!(shop.became(of(&[], &["db"])), became("n3", "shop", "db-0"), "nobody is, and this is why one asks");
    assert_eq!(shop.became(of(&["shop"], &["api", "db"])), became("n1 n3", "shop", "api-1-x db-0"));
    assert!(shop.refused(&of(&[], &["outside"])).contains("has no endpoints, and chooses no pods by labels"));
    assert!(shop.refused(&of(&[], &["nobody"])).contains("no pod had its labels"));
    assert_eq!(shop.refused(&of(&["bank"], &["api"])), "there was no service api in bank");
    assert!(shop.refused(&of(&[], &["twice"])).contains("several namespaces (bank, shop)"));
    // What is asked besides narrows it; pods and workloads that are named are added to it.
    let with = ClusterSelection { pods: texts(&["night-77-z"]), ..of(&["shop"], &["api"]) };
    assert_eq!(shop.became(with), became("n1 n3", "shop", "api-1-x night-77-z"));
    let without = ClusterSelection { selector: "app=db".to_owned(), ..of(&["shop"], &["api"]) };
    assert!(shop.refused(&without).contains("no pod was so"));
}

#[test]
fn what_lived_in_the_window_counts_and_what_came_later_or_went_before_does_not() {
    let mut shop = shop();
    let named = |name: &str| ClusterSelection { pods: texts(&[name]), ..asked(&["shop"]) };
    shop.event(60, "pods", "DELETED", &pod("shop", "waiting", "", "waiting"));
    assert!(shop.refused(&named("waiting")).contains("no pod was so"), "gone before");
    // Born and gone within the window, and its replica set as well.
    let short = owned(pod("shop", "api-2-s", "n3", "api"), "ReplicaSet", "api-2");
    let set = owned(object("shop", "api-2", &json!({})), "Deployment", "api");
    shop.event(120, "replicasets", "ADDED", &set);
    shop.event(121, "pods", "ADDED", &short);
    shop.event(150, "pods", "DELETED", &short);
    shop.event(151, "replicasets", "DELETED", &set);
    assert_eq!(shop.became(named("api-2-s")), became("n3", "shop", "api-2-s"));
    let api = ClusterSelection { workloads: texts(&["deployment/api"]), ..asked(&["shop"]) };
    assert_eq!(shop.became(api), became("n1 n2 n3", "shop", "api-1-x api-1-y api-2-s"));
    // It was behind the service for a moment.
    shop.event(130, "endpointslices", "MODIFIED", &slice("shop", "api-aaa", "api", &["api-1-x", "api-2-s"]));
    shop.event(140, "endpointslices", "MODIFIED", &slice("shop", "api-aaa", "api", &["api-1-y"]));
    let behind = ClusterSelection { services: texts(&["api"]), ..asked(&[]) };
    assert_eq!(shop.became(behind), became("n1 n2 n3", "shop", "api-1-x api-1-y api-2-s"));
    // After it.
    shop.event(250, "pods", "ADDED", &pod("shop", "late", "n3", "late"));
    assert!(shop.refused(&named("late")).contains("no pod was so"));
    shop.event(260, "pods", "DELETED", &owned(pod("shop", "db-0", "n3", "db"), "StatefulSet", "db"));
    assert_eq!(shop.became(named("db-0")), became("n3", "shop", "db-0"), "it was there all the time");
}

#[test]
fn pods_that_ran_nowhere_are_told_and_alone_are_nothing() {
    let mut shop = shop();
    let waiting = ClusterSelection { pods: texts(&["waiting"]), ..asked(&["shop"]) };
    assert_eq!(shop.refused(&waiting), "none of these pods ran on any node in the window");
    let both = ClusterSelection { pods: texts(&["waiting", "db-0"]), ..asked(&["shop"]) };
    let chosen = shop.choose(&both).unwrap().chosen;
    assert_eq!((chosen.pods, chosen.nodes), (2, 1));
    assert_eq!(chosen.notes, ["1 of these pods ran on no node in the window"]);
}

#[test]
fn more_than_can_be_named_is_taken_as_a_whole_and_told() {
    let many = |count: usize, namespace: &dyn Fn(usize) -> String| {
        let pods = (0..count).map(|n| pod(&namespace(n), &format!("p-{n}"), "n1", "many")).collect();
        Cluster::new(&[("pods", pods)])
    };
    let all = ClusterSelection { selector: "app=many".to_owned(), ..asked(&[]) };
    let most = Selection::MAX_NAMES;
    let fits = many(most, &|_| "shop".to_owned()).choose(&all).unwrap();
    assert_eq!((fits.select.pods.len(), fits.chosen.notes.len()), (most, 0));
    let pods = many(most + 1, &|_| "shop".to_owned()).choose(&all).unwrap();
    assert_eq!((pods.select.namespaces, pods.select.pods), (texts(&["shop"]), vec![]));
    assert_eq!(pods.chosen.pods, most as u64 + 1);
    let more = most + 1;
    assert_eq!(
        pods.chosen.notes,
        [format!("logs of whole namespaces were taken: {more} pods are more than can be named")]
    );
    let spaces = many(most + 1, &|n| format!("space-{n}")).choose(&all).unwrap();
    assert_eq!((spaces.select.namespaces, spaces.select.pods), (vec![], vec![]));
    assert_eq!(spaces.chosen.notes.len(), 2, "{:?}", spaces.chosen.notes);
}

#[test]
fn names_and_labels_that_are_traps_mean_no_more_than_themselves() {
    let mut traps = Cluster::new(&[
        (
            "pods",
            vec![
                // An owner of itself, and two of each other.
                owned(pod("shop", "circle", "n1", "a"), "ReplicaSet", "one"),
                // A node whose name cannot be one, and a label with what a selector is made of.
                pod("shop", "astray", "../../etc", "a,b=c"),
                object("shop", "bare", &Value::Null),
            ],
        ),
        (
            "replicasets",
            vec![
                owned(object("shop", "one", &json!({})), "ReplicaSet", "two"),
                owned(object("shop", "two", &json!({})), "ReplicaSet", "one"),
            ],
        ),
        // One that names pods of other namespaces is believed of its own alone.
        ("services", vec![service("evil", "api", &json!({}))]),
        ("endpointslices", vec![slice("evil", "api-1", "api", &["circle"])]),
    ]);
    let of = |workload: &str| ClusterSelection { workloads: texts(&[workload]), ..asked(&[]) };
    assert_eq!(traps.became(of("rs/two")), became("n1", "shop", "circle"));
    assert!(traps.refused(&of("rs/three")).contains("no ReplicaSet three"));
    let astray = ClusterSelection { pods: texts(&["astray"]), ..asked(&["shop"]) };
    assert_eq!(traps.refused(&astray), "none of these pods ran on any node in the window");
    let label = ClusterSelection { selector: "app=a".to_owned(), ..asked(&[]) };
    assert_eq!(traps.became(label), became("n1", "shop", "circle"));
    let behind = ClusterSelection { services: texts(&["api"]), ..asked(&[]) };
    assert!(traps.refused(&behind).contains("no pod was so"));
    let bare = ClusterSelection { selector: "!app".to_owned(), ..asked(&["shop"]) };
    assert_eq!(traps.refused(&bare), "none of these pods ran on any node in the window");
}

#[test]
fn without_a_cluster_names_are_enough_for_logs_and_nothing_else_is() {
    let window = Window::new(at(100), at(200)).unwrap();
    let names = ClusterSelection { pods: texts(&["api-1-x"]), ..asked(&["shop"]) };
    let became = choose(None, &names, window).unwrap();
    assert_eq!((became.nodes.len(), became.select.pods, became.chosen.nodes), (0, texts(&["api-1-x"]), 0));
    assert!(became.chosen.notes[0].starts_with("every node was asked"), "{:?}", became.chosen.notes);
    let labels = ClusterSelection { selector: "app=api".to_owned(), ..names };
    assert!(matches!(choose(None, &labels, window), Err(NotChosen::Unknown(_))));
}

#[test]
fn before_pods_were_listed_nobody_knows_and_that_is_not_nothing() {
    let cluster = Cluster::new(&[("nodes", vec![object("", "n1", &json!({}))])]);
    assert!(Known::now(&cluster.log, Window::new(at(100), at(200)).unwrap(), at(300)).is_none());
}
