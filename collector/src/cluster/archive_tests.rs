//! The tree that is taken: held against what the sources of the tools that open it read, and taken twice.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use casefile_proto::time::WallTime;
use casefile_redact::{Key, Pseudonyms, Redactor, RuleSet};

use super::*;
use crate::cluster::kinds::Scope;
use crate::cluster::record::log::{Limits, Log};
use crate::cluster::record::snapshot::Wanted;
use crate::cluster::sanitise::Sanitiser;
use crate::incident::recorded::Plain;

fn log(dir: &Path) -> Log {
    let redactor = Redactor::new(Arc::new(RuleSet::builtin()), Key::new([7; 32]), Pseudonyms::default());
    let limits = Limits { bytes: Bytes::mib(64), age: Duration::from_hours(1) };
    Log::open(dir, limits, Sanitiser::new([1; 32], redactor), WallTime::from_secs(0)).unwrap()
}

/// A log with one object of each kind in the namespace `shop`, and one in `pay` of those that have a namespace.
fn filled(dir: &Path) -> Log {
    let mut log = log(dir);
    for kind in KINDS {
        let spaces: &[&str] = match kind.scope {
            Scope::Cluster => &[""],
            Scope::Namespaces => &["shop", "pay"],
            Scope::Within(namespace) => &[namespace],
        };
        let item = |space: &&str| {
            let name = if kind.plural == "namespaces" { "shop".to_owned() } else { format!("a-{}", kind.plural) };
            json!({"metadata": {"name": name, "namespace": space, "uid": kind.plural, "resourceVersion": "1"}, "spec": {"n": 1}})
        };
        let items: Vec<_> = spaces.iter().map(item).collect();
        let page = json!({"metadata": {"resourceVersion": "1"}, "items": items}).to_string();
        log.page(kind, page.as_bytes(), true, WallTime::from_secs(1)).unwrap();
        log.end_list(kind, WallTime::from_secs(1)).unwrap();
    }
    let pods = Kind::named("pods").unwrap();
    let metadata = json!({"name": "a-pods", "namespace": "shop", "uid": "pods", "resourceVersion": "2"});
    let line = json!({"type": "MODIFIED", "object": {"metadata": metadata, "spec": {"n": 2}}}).to_string();
    log.line(pods, line.as_bytes(), WallTime::from_secs(10)).unwrap();
    log.set_server(r#"{"major":"1","minor":"36","gitVersion":"v1.36.2"}"#.to_owned(), WallTime::from_secs(11)).unwrap();
    log
}

fn window() -> Window {
    Window::new(WallTime::from_secs(5), WallTime::from_secs(20)).unwrap()
}

/// Everything that was taken, by path.
fn tree(log: &Log, wanted: Wanted, budget: Bytes, dir: &Path) -> (BTreeMap<String, Vec<u8>>, ClusterCoverage) {
    let fixed = take(log.snapshot(window(), wanted, WallTime::from_secs(30)), budget, dir).unwrap();
    let again = taken(dir).unwrap().unwrap();
    assert_eq!(again.coverage, fixed.coverage);
    let entries = again.entries(dir).into_iter().map(|entry| {
        let mut bytes = Vec::new();
        Plain::new(entry.body.chunks().unwrap().1).read_to_end(&mut bytes).unwrap();
        (entry.path.to_string(), bytes)
    });
    (entries.collect(), fixed.coverage)
}

#[test]
fn sbctl_and_omc_find_every_file_where_their_sources_look_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let log = filled(&dir.path().join("log"));
    let (tree, coverage) = tree(&log, Wanted::default(), Bytes::mib(16), &dir.path().join("taken"));
    assert!(coverage.kinds.iter().all(|row| row.objects > 0), "{coverage:#?}");

    // replicatedhq/sbctl at 40625c60: pkg/sbctl/support-bundle.go (FindClusterData: a directory `cluster-resources`, a file
    // `cluster_version.json`), pkg/api/server.go (`{"info": …}`; resources.json; groups.json; `<resource>.json` and
    // `<resource>/<namespace>.json`, or below `custom-resources/<resource>.<group>`), pkg/util/support-bundle.go (the names).
    let named = [
        ("persistentvolumeclaims", "pvcs"),
        ("persistentvolumes", "pvs"),
        ("storageclasses", "storage-classes"),
        ("ingresses", "ingress"),
    ];
    let named: BTreeMap<_, _> = named.into_iter().collect();
    let read = |path: &str| {
        let bytes = tree.get(&format!("data/cluster/{path}")).unwrap_or_else(|| panic!("no {path}: {:?}", tree.keys()));
        serde_json::from_slice::<Value>(bytes).unwrap_or_else(|e| panic!("{path}: {e}"))
    };
    assert_eq!(read("cluster-info/cluster_version.json")["info"]["minor"], "36");
    let resources = read("cluster-resources/resources.json");
    let groups = read("cluster-resources/groups.json");
    for kind in KINDS {
        let version = resources.as_array().unwrap().iter().find(|list| list["groupVersion"] == kind.version).unwrap();
        assert!(version["apiVersion"].is_null(), "getAPIV1 takes the one without it");
        let one = version["resources"].as_array().unwrap().iter().find(|one| one["name"] == kind.plural).unwrap();
        // Without them kubectl knows no `deploy`, and no `get all`.
        let short: Vec<_> = one["shortNames"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        assert_eq!((short, !one["categories"].is_null()), (kind.called.short.to_vec(), kind.called.of_all));
        let is_grouped = groups.as_array().unwrap().iter().any(|group| group["name"] == kind.group());
        assert_eq!(is_grouped, kind.version.contains('/'), "{}", kind.plural);

        let resource = named.get(kind.plural).copied().unwrap_or(kind.plural);
        let resource = match kind.group() {
            "argoproj.io" => format!("custom-resources/{resource}.{}", kind.group()),
            _ => resource.to_owned(),
        };
        let space = if let Scope::Within(namespace) = kind.scope { namespace } else { "shop" };
        let path = match kind.is_namespaced() {
            true => format!("cluster-resources/{resource}/{space}.json"),
            false => format!("cluster-resources/{resource}.json"),
        };
        let list = read(&path);
        assert_eq!((&list["apiVersion"], &list["kind"]), (&json!(kind.version), &json!(format!("{}List", kind.kind))));
        assert_eq!(
            (&list["items"][0]["kind"], &list["items"][0]["apiVersion"]),
            (&json!(kind.kind), &json!(kind.version))
        );

        // gmeghnag/omc at fa18a996: cmd/get/get.go (getNamespacedResources, getNamespacesResources, getClusterScopedResources:
        // lists below namespaces/<namespace>/<group>/<plural>.yaml, single objects below cluster-scoped-resources/<group>/<plural>/), cmd/describe/core/node.go
        // (cluster-scoped-resources/core/nodes), cmd/use/use.go (findMustGatherIn: a directory with one of these names).
        let name = format!("a-{}", kind.plural);
        let object = match (kind.plural, kind.is_namespaced()) {
            ("namespaces", _) => read("namespaces/shop/shop.yaml"),
            (plural, false) => read(&format!("cluster-scoped-resources/{}/{plural}/{name}.yaml", kind.group())),
            (plural, true) => read(&format!("namespaces/{space}/{}/{plural}.yaml", kind.group()))["items"][0].clone(),
        };
        assert_eq!(object["kind"], kind.kind);
    }
}

#[test]
fn what_was_taken_twice_is_the_same_to_the_byte() {
    let dir = tempfile::tempdir().unwrap();
    let log = filled(&dir.path().join("log"));
    let first = tree(&log, Wanted::default(), Bytes::mib(16), &dir.path().join("a"));
    assert_eq!(tree(&log, Wanted::default(), Bytes::mib(16), &dir.path().join("b")), first);
    assert_eq!(tree(&log, Wanted::default(), Bytes::mib(16), &dir.path().join("a")), first, "over what was there");
    let changes = String::from_utf8(first.0["data/cluster/changes.jsonl"].clone()).unwrap();
    assert!(changes.lines().count() == 1 && changes.contains("\"was\":{\"spec.n\":1}"), "{changes}");
}

#[test]
fn of_other_namespaces_only_what_belongs_to_the_cluster_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = filled(&dir.path().join("log"));
    let event = |name: &str, kind: &str| {
        let metadata = json!({"name": name, "namespace": "default", "uid": name, "resourceVersion": name});
        json!({"type": "ADDED", "object": {"metadata": metadata, "involvedObject": {"kind": kind}}}).to_string()
    };
    for (name, kind) in [("of-a-node", "Node"), ("of-a-pod", "Pod")] {
        log.line(Kind::named("events").unwrap(), event(name, kind).as_bytes(), WallTime::from_secs(12)).unwrap();
    }
    let wanted = Wanted { namespaces: ["shop".to_owned()].into() };
    let (tree, coverage) = tree(&log, wanted, Bytes::mib(16), &dir.path().join("taken"));
    assert!(tree.keys().all(|path| !path.contains("pay")), "{:?}", tree.keys());
    for path in [
        "cluster-resources/pods/shop.json",
        "cluster-resources/leases/kube-node-lease.json",
        "cluster-resources/nodes.json",
    ] {
        assert!(tree.contains_key(&format!("data/cluster/{path}")), "{path}: {:?}", tree.keys());
    }
    let events = String::from_utf8(tree["data/cluster/cluster-resources/events/default.json"].clone()).unwrap();
    assert!(events.contains("of-a-node") && !events.contains("of-a-pod"), "{events}");
    assert_eq!(coverage.namespaces, ["shop"]);
}

#[test]
fn what_does_not_fit_into_the_budget_is_left_out_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let log = filled(&dir.path().join("log"));
    let (_, coverage) = tree(&log, Wanted::default(), Bytes(1_000), &dir.path().join("taken"));
    let count = |row: &KindCoverage| {
        row.gaps.iter().filter(|gap| gap.reason == GapReason::Budget).filter_map(|gap| gap.count).sum::<u64>()
    };
    let (kept, left_out) =
        coverage.kinds.iter().fold((0, 0), |(kept, out), row| (kept + row.objects, out + count(row)));
    let all: u64 = KINDS.iter().map(|kind| if kind.scope == Scope::Namespaces { 2 } else { 1 }).sum();
    assert!(kept > 0 && left_out > 0 && kept + left_out == all, "{kept} + {left_out} of {all}");
    assert_eq!(coverage.kinds[0].objects, 1, "what explains most comes first");
}
