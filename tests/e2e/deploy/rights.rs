//! What is allowed at the API server: the whole list, for every way to install. What is not in it fails.

use std::collections::{BTreeMap, BTreeSet};

use casefile_proto::identity::Role;
use serde_json::{Value, json};

use super::manifests::{ALL, file, items, keys, name, of_kind, rendered, text};

/// Verbs on a resource of a group; the last: only on the object of this name.
type Right = (&'static str, &'static str, &'static [&'static str], Option<&'static str>);

const READ: &[&str] = &["list", "watch"];

/// What the collector may do in the whole cluster.
const COLLECTOR: &[Right] = &[
    ("authentication.k8s.io", "tokenreviews", &["create"], None),
    ("authorization.k8s.io", "subjectaccessreviews", &["create"], None),
    ("", "nodes", READ, None),
    ("", "namespaces", READ, None),
    ("", "pods", &["get", "list", "watch"], None),
    ("", "events", READ, None),
    ("", "services", READ, None),
    ("", "persistentvolumes", READ, None),
    ("", "persistentvolumeclaims", READ, None),
    ("apps", "deployments", READ, None),
    ("apps", "replicasets", READ, None),
    ("apps", "statefulsets", READ, None),
    ("apps", "daemonsets", READ, None),
    ("batch", "jobs", READ, None),
    ("discovery.k8s.io", "endpointslices", READ, None),
    ("networking.k8s.io", "ingresses", READ, None),
    ("storage.k8s.io", "storageclasses", READ, None),
    ("autoscaling", "horizontalpodautoscalers", READ, None),
    ("argoproj.io", "applications", READ, None),
    ("casefile.dev", "collections", &["get", "list", "watch"], None),
    ("casefile.dev", "collections/status", &["get", "update", "patch"], None),
];

/// What it may do in the namespace of the kubelets' leases.
const COLLECTOR_AT_LEASES: &[Right] = &[("coordination.k8s.io", "leases", READ, None)];

/// What it may do in its own namespace.
const COLLECTOR_AT_HOME: &[Right] = &[("", "configmaps", &["get", "update", "patch"], Some("casefile-authority"))];

/// What every role of people has.
const SEE: &[&str] = &["get", "list", "watch"];

/// What people may be given.
fn people(role: Role) -> Vec<Right> {
    let group = "casefile.dev";
    let (nodes, collections): (&[&str], &[&str]) = match role {
        Role::Viewer | Role::Exporter => (SEE, SEE),
        Role::Requester => (SEE, &["create", "get", "list", "watch"]),
        Role::Admin => {
            (&["delete", "get", "list", "watch"], &["create", "delete", "get", "list", "patch", "update", "watch"])
        }
    };
    let mut rights =
        vec![(group, "nodes", nodes, None), (group, "incidents", SEE, None), (group, "collections", collections, None)];
    if role.includes(Role::Exporter) {
        rights.push((group, "archives", &["get"], None));
    }
    if role == Role::Admin {
        rights.push((group, "audit", &["get"], None));
        rights.push((group, "tokens", &["create", "delete", "list"], None));
    }
    rights
}

/// Every single right: group, resource, name, verb.
type Single = BTreeSet<(String, String, Option<String>, String)>;

fn singles(rights: &[Right]) -> Single {
    let one = |(group, resource, verbs, name): &Right| {
        let (group, resource, name) = (group.to_string(), resource.to_string(), name.map(str::to_owned));
        verbs.iter().map(|verb| (group.clone(), resource.clone(), name.clone(), verb.to_string())).collect::<Vec<_>>()
    };
    rights.iter().flat_map(one).collect()
}

/// What a role's rules say.
fn ruled(role: &Value) -> Single {
    let mut all = Single::new();
    for rule in items(&role["rules"]) {
        let known: BTreeSet<_> = ["apiGroups", "resources", "resourceNames", "verbs"].into();
        assert!(keys(rule).is_subset(&known), "{}: {rule}", name(role));
        let names: Vec<_> = match items(&rule["resourceNames"]) {
            [] => vec![None],
            names => names.iter().map(|name| Some(text(name).to_owned())).collect(),
        };
        for group in items(&rule["apiGroups"]) {
            for resource in items(&rule["resources"]) {
                for name in &names {
                    for verb in items(&rule["verbs"]) {
                        let verb = text(verb).to_owned();
                        all.insert((text(group).to_owned(), text(resource).to_owned(), name.clone(), verb));
                    }
                }
            }
        }
    }
    all
}

#[test]
fn roles_hold_exactly_the_rights_that_are_listed() {
    for way in ALL {
        let objects = rendered(way);
        let mut expected: BTreeMap<(&str, &str, String), Single> = BTreeMap::new();
        expected.insert(("ClusterRole", "", "casefile-collector".to_owned()), singles(COLLECTOR));
        expected.insert(("Role", "kube-node-lease", "casefile-collector".to_owned()), singles(COLLECTOR_AT_LEASES));
        expected.insert(("Role", "casefile", "casefile-collector".to_owned()), singles(COLLECTOR_AT_HOME));
        for role in Role::ALL {
            expected.insert(("ClusterRole", "", format!("casefile-{role}")), singles(&people(role)));
        }
        let mut found = BTreeMap::new();
        for kind in ["ClusterRole", "Role"] {
            for role in of_kind(&objects, kind) {
                let known: BTreeSet<_> = ["apiVersion", "kind", "metadata", "rules"].into();
                assert_eq!(keys(role), known, "{way}, {}: nothing is aggregated into it", name(role));
                let labels = keys(&role["metadata"]["labels"]);
                assert!(!labels.iter().any(|label| label.contains("aggregate")), "{way}, {}: {labels:?}", name(role));
                let at = role["metadata"]["namespace"].as_str().unwrap_or_default();
                found.insert((kind, at, name(role).to_owned()), ruled(role));
            }
        }
        assert_eq!(found, expected, "{way}");
    }
}

#[test]
fn no_right_is_a_wildcard_and_none_reaches_secrets_programs_logs_or_kubelets() {
    for way in ALL {
        let objects = rendered(way);
        let roles = of_kind(&objects, "ClusterRole").into_iter().chain(of_kind(&objects, "Role"));
        for (group, resource, _, verb) in roles.flat_map(ruled) {
            let right = format!("{way}: {verb} {resource}.{group}");
            assert!(![&group, &resource, &verb].iter().any(|word| word.contains('*')), "{right}");
            assert!(
                !["secrets", "pods/exec", "pods/log", "pods/attach", "nodes/proxy"].contains(&&*resource),
                "{right}"
            );
            assert!(!["impersonate", "bind", "escalate"].contains(&&*verb), "{right}");
            let writes = !["get", "list", "watch"].contains(&&*verb);
            let reviews = ["authentication.k8s.io", "authorization.k8s.io"].contains(&&*group);
            let ours = group == "casefile.dev" || resource == "configmaps";
            assert!(!writes || reviews || ours, "{right}: nothing of the cluster is changed");
        }
    }
}

#[test]
fn the_collector_alone_has_rights_and_the_agent_has_none() {
    for way in ALL {
        let objects = rendered(way);
        let mut bound = BTreeSet::new();
        for kind in ["ClusterRoleBinding", "RoleBinding"] {
            for binding in of_kind(&objects, kind) {
                let at = binding["metadata"]["namespace"].as_str().unwrap_or_default();
                let subject =
                    json!([{"kind": "ServiceAccount", "name": "casefile-collector", "namespace": "casefile"}]);
                assert_eq!(binding["subjects"], subject, "{way}, {kind} {}", name(binding));
                let role = &binding["roleRef"];
                bound.insert((kind, at, text(&role["kind"]), text(&role["name"])));
            }
        }
        let expected: BTreeSet<_> = [
            ("ClusterRoleBinding", "", "ClusterRole", "casefile-collector"),
            ("RoleBinding", "casefile", "Role", "casefile-collector"),
            ("RoleBinding", "kube-node-lease", "Role", "casefile-collector"),
        ]
        .into();
        assert_eq!(bound, expected, "{way}");

        let accounts: BTreeMap<_, _> = of_kind(&objects, "ServiceAccount")
            .into_iter()
            .map(|account| (name(account), account["automountServiceAccountToken"] == true))
            .collect();
        assert_eq!(accounts, [("casefile-agent", false), ("casefile-collector", true)].into(), "{way}");
        for (pod, spec) in super::manifests::pods(&objects) {
            let account = if pod == "casefile-collector" { pod } else { "casefile-agent" };
            assert_eq!(spec["serviceAccountName"], account, "{way}, {pod}");
            assert_eq!(spec["automountServiceAccountToken"], accounts[account], "{way}, {pod}");
        }
    }
}

#[test]
fn the_one_config_map_that_the_collector_writes_is_made_by_the_install_and_left_empty() {
    for way in ALL {
        let objects = rendered(way);
        let authority = super::manifests::one(&objects, "ConfigMap", "casefile-authority");
        assert_eq!(keys(authority), ["apiVersion", "kind", "metadata"].into(), "{way}: an upgrade must not empty it");
    }
}

#[test]
fn the_document_says_what_every_right_is_for() {
    let document = file("README.md");
    let rows: Vec<_> = document.lines().filter(|line| line.starts_with('|')).collect();
    let rights = [COLLECTOR, COLLECTOR_AT_LEASES, COLLECTOR_AT_HOME].concat();
    for (group, resource, verbs, _) in rights {
        let row = rows.iter().any(|row| {
            row.contains(&format!("`{resource}`")) && verbs.iter().all(|verb| row.contains(&format!("`{verb}`")))
        });
        assert!(row, "no row of a table explains {verbs:?} on {resource}.{group}");
    }
    for role in Role::ALL {
        assert!(document.contains(&format!("`casefile-{role}`")), "casefile-{role} is not explained");
    }
}
