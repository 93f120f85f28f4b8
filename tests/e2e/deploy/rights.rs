//! What is allowed at the API server: the whole list, for every way to install. What is not in it fails.

use std::collections::{BTreeMap, BTreeSet};

use casefile_collector::cluster::kinds::{KINDS, Kind, NODE_LEASES, Scope};
use casefile_collector::identity::rights;
use casefile_proto::identity::Role;
use serde_json::{Value, json};

use super::manifests::{ALL, file, items, keys, name, of_kind, rendered, text};

/// Verbs on a resource of a group; the last: only on the object of this name.
type Right = (&'static str, &'static str, &'static [&'static str], Option<&'static str>);

const READ: &[&str] = &["list", "watch"];

/// What the collector may do in the whole cluster, besides what it follows.
const COLLECTOR: &[Right] = &[
    ("authentication.k8s.io", "tokenreviews", &["create"], None),
    ("authorization.k8s.io", "subjectaccessreviews", &["create"], None),
];

/// And where resources of the kind `Collection` open incidents.
const WITH_COLLECTIONS: &[Right] = &[
    ("casefile.dev", "collections", &["get", "list", "watch"], None),
    ("casefile.dev", "collections/status", &["patch"], None),
];

/// What it may do in its own namespace.
const COLLECTOR_AT_HOME: &[Right] =
    &[("", "configmaps", &["get", "patch"], Some("casefile-authority")), ("", "pods", &["get"], None)];

/// What it follows, which is what `kinds.rs` lists: in the whole cluster, or within one namespace.
fn followed(within: Option<&str>) -> Vec<Right> {
    let is_there = |kind: &&Kind| match kind.scope {
        Scope::Cluster | Scope::Namespaces => within.is_none(),
        Scope::Within(namespace) => within == Some(namespace),
    };
    let group = |kind: &'static Kind| if kind.version.contains('/') { kind.group() } else { "" };
    KINDS.iter().filter(is_there).map(|kind| (group(kind), kind.plural, READ, None)).collect()
}

/// What people may do with resources of the kind `Collection`, which the API server keeps: the collector asks nothing about it.
const fn kept(role: Role) -> &'static [&'static str] {
    match role {
        Role::Viewer | Role::Requester | Role::Exporter => &["get", "list", "watch"],
        Role::Admin => &["get", "list", "watch", "update", "patch", "delete"],
    }
}

/// What people may be given: what the role of the same name has with a token of ours, each by what `rights.rs` calls it in a
/// cluster.
fn people(role: Role) -> Single {
    let named = |resource: &str, verb: &str| ("casefile.dev".to_owned(), resource.to_owned(), None, verb.to_owned());
    let asked = rights::Right::ALL.into_iter().filter(|right| role.includes(right.role()));
    let asked = asked.map(|right| named(right.resource(), right.verb()));
    asked.chain(kept(role).iter().map(|verb| named("collections", verb))).collect()
}

/// Every single right: group, resource, name, verb.
pub(super) type Single = BTreeSet<(String, String, Option<String>, String)>;

fn singles(rights: &[Right]) -> Single {
    let one = |(group, resource, verbs, name): &Right| {
        let (group, resource, name) = (group.to_string(), resource.to_string(), name.map(str::to_owned));
        verbs.iter().map(|verb| (group.clone(), resource.clone(), name.clone(), verb.to_string())).collect::<Vec<_>>()
    };
    rights.iter().flat_map(one).collect()
}

/// What a role's rules say.
pub(super) fn ruled(role: &Value) -> Single {
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
        let mut everywhere = [COLLECTOR, &followed(None)].concat();
        if way != "chart-with-other-values" {
            everywhere.extend_from_slice(WITH_COLLECTIONS);
        }
        expected.insert(("ClusterRole", "", "casefile-collector".to_owned()), singles(&everywhere));
        let leases = singles(&followed(Some(NODE_LEASES)));
        expected.insert(("Role", NODE_LEASES, "casefile-collector".to_owned()), leases);
        expected.insert(("Role", "casefile", "casefile-collector".to_owned()), singles(COLLECTOR_AT_HOME));
        for role in Role::ALL {
            expected.insert(("ClusterRole", "", format!("casefile-{role}")), people(role));
        }
        let figures = singles(&[("casefile.dev", "metrics", &["get"], None)]);
        assert_eq!(rights::Right::ReadMetrics.to_string(), "get metrics.casefile.dev");
        expected.insert(("ClusterRole", "", "casefile-scraper".to_owned()), figures);
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
fn every_right_that_the_collector_asks_about_is_in_a_role_for_people_and_the_admin_has_all() {
    let all = people(Role::Admin);
    for right in rights::Right::ALL {
        let (resource, verb) = (right.resource().to_owned(), right.verb().to_owned());
        assert!(all.contains(&("casefile.dev".to_owned(), resource, None, verb)), "{right}");
        let document = file("README.md");
        let row = document.lines().find(|line| line.starts_with(&format!("| `casefile-{}` |", right.role())));
        let words = format!("`{} {}`", right.verb(), right.resource());
        assert!(row.is_some_and(|row| row.contains(&words)), "the document does not say who has {right}");
    }
}

/// `kubectl auth can-i get archives.casefile.dev` says no to everybody: it asks about kinds that the API server serves.
#[test]
fn nobody_is_told_to_ask_kubectl_about_one_of_the_resources_that_only_the_collector_knows() {
    for text in [file("README.md"), file("../README.md"), file("kustomize/base/people.yaml")] {
        assert!(text.contains("auth can-i --list"));
        for (_, asked) in text.match_indices("auth can-i ").map(|(at, asked)| text.split_at(at + asked.len())) {
            let what = asked.split_whitespace().nth(1).unwrap_or_default();
            assert!(!what.contains(".casefile.dev") || what.starts_with("collections."), "{what}");
        }
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
    let followed = [followed(None), followed(Some(NODE_LEASES))].concat();
    let rights = [COLLECTOR, &followed, WITH_COLLECTIONS, COLLECTOR_AT_HOME].concat();
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
