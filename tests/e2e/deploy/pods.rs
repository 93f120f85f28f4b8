//! What the pods may do on a node: the whole list, for every way to install. A key that is not in it fails, whatever it says.

use std::collections::{BTreeMap, BTreeSet};

use casefile_agent::sandbox::plan::KEPT;
use serde_json::{Value, json};

use super::manifests::{ALL, file, items, keys, name, of_kind, one, pods, rendered, text};

/// Every mount of the agent out of the node: volume, path on the node, what must be there, path in the pod.
const FROM_THE_NODE: [(&str, &str, &str, &str); 7] = [
    ("proc", "/proc", "Directory", "/host/proc"),
    ("sys", "/sys", "Directory", "/host/sys"),
    ("log", "/var/log", "Directory", "/host/var/log"),
    ("run-log", "/run/log", "DirectoryOrCreate", "/host/run/log"),
    ("pstore", "/var/lib/systemd/pstore", "DirectoryOrCreate", "/host/var/lib/systemd/pstore"),
    ("os-release", "/usr/lib/os-release", "File", "/host/etc/os-release"),
    ("data", "/var/lib/casefile/agent", "DirectoryOrCreate", "/var/lib/casefile/agent"),
];

/// Its other mounts: volume and path in the pod.
const OTHER: [(&str, &str); 3] =
    [("config", "/etc/casefile"), ("identity", "/var/run/secrets/casefile"), ("authority", "/etc/casefile-authority")];

/// Whether a way to install has the capabilities for details of other users' processes.
fn has_details(way: &str) -> bool {
    ["process-detail", "everything", "chart-with-other-values"].contains(&way)
}

/// The Secret with the key of the archive store, where a way to install has one.
fn archive_store(way: &str) -> Option<&'static str> {
    match way {
        "s3" => Some("casefile-archive-store"),
        "chart-with-other-values" => Some("minio-key"),
        _ => None,
    }
}

/// Whether a way to install has agents of their own for nodes with GPUs.
fn has_gpus_apart(way: &str) -> bool {
    ["gpu", "everything", "chart-with-other-values"].contains(&way)
}

/// The agents of a way to install, each with its pods' spec.
fn agents(objects: &[Value]) -> Vec<(&str, &Value)> {
    pods(objects).into_iter().filter(|(name, _)| name.starts_with("casefile-agent")).collect()
}

#[test]
fn there_are_no_pods_but_agents_and_the_one_collector() {
    for way in ALL {
        let objects = rendered(way);
        let mut expected = vec!["casefile-agent", "casefile-collector"];
        if has_gpus_apart(way) {
            expected.insert(1, "casefile-agent-gpu");
        }
        let mut found: Vec<_> = pods(&objects).into_iter().map(|(name, _)| name).collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{way}");
        // Nothing else that could run something, now or later, or change what others run.
        let kinds: BTreeSet<_> = objects.iter().map(|object| text(&object["kind"])).collect();
        let known: BTreeSet<_> = [
            "ClusterRole",
            "ClusterRoleBinding",
            "ConfigMap",
            "CustomResourceDefinition",
            "DaemonSet",
            "Namespace",
            "NetworkPolicy",
            "PodDisruptionBudget",
            "PrometheusRule",
            "Role",
            "RoleBinding",
            "Service",
            "ServiceAccount",
            "ServiceMonitor",
            "StatefulSet",
        ]
        .into();
        assert!(kinds.is_subset(&known), "{way}: {kinds:?}");
        assert_eq!(one(&objects, "StatefulSet", "casefile-collector")["spec"]["replicas"], 1, "{way}");
    }
}

#[test]
fn every_pod_drops_all_capabilities_and_can_gain_none_nor_write_its_own_image() {
    for way in ALL {
        for (pod, spec) in pods(&rendered(way)) {
            assert_eq!(items(&spec["containers"]).len(), 1, "{way}, {pod}");
            for never in ["initContainers", "ephemeralContainers", "shareProcessNamespace", "hostUsers", "hostAliases"]
            {
                assert!(spec.get(never).is_none(), "{way}, {pod}: {never}");
            }
            for other in ["hostPID", "hostNetwork", "hostIPC"] {
                assert_ne!(spec[other], true, "{way}, {pod}: {other}");
            }
            assert_eq!(spec["securityContext"]["seccompProfile"], json!({"type": "RuntimeDefault"}), "{way}, {pod}");
            let context = &spec["containers"][0]["securityContext"];
            assert_eq!(context["capabilities"]["drop"], json!(["ALL"]), "{way}, {pod}");
            for (key, value) in
                [("privileged", false), ("allowPrivilegeEscalation", false), ("readOnlyRootFilesystem", true)]
            {
                assert_eq!(context[key], value, "{way}, {pod}: {key}");
            }
            for never in ["procMount", "windowsOptions"] {
                assert!(context.get(never).is_none(), "{way}, {pod}: {never}");
            }
        }
    }
}

#[test]
fn an_agent_has_what_is_listed_and_nothing_else() {
    for way in ALL {
        for (pod, spec) in agents(&rendered(way)) {
            let mut may: BTreeSet<_> = [
                "automountServiceAccountToken",
                "containers",
                "enableServiceLinks",
                "hostIPC",
                "hostNetwork",
                "hostPID",
                "priorityClassName",
                "securityContext",
                "serviceAccountName",
                "terminationGracePeriodSeconds",
                "tolerations",
                "volumes",
            ]
            .into();
            match pod {
                "casefile-agent" if has_gpus_apart(way) => may.extend(["affinity"]),
                "casefile-agent-gpu" => may.extend(["nodeSelector", "runtimeClassName"]),
                _ => {}
            }
            if way == "chart-with-other-values" {
                may.insert("imagePullSecrets");
            }
            assert_eq!(keys(spec), may, "{way}, {pod}");
            assert_eq!(spec["priorityClassName"], "system-node-critical", "{way}, {pod}");
            assert_eq!(spec["tolerations"], json!([{"operator": "Exists"}]), "{way}, {pod}: every taint");
            assert_eq!(keys(&spec["securityContext"]), ["seccompProfile"].into(), "{way}, {pod}");

            let container = &spec["containers"][0];
            let mut may: BTreeSet<_> =
                ["args", "env", "image", "name", "readinessProbe", "resources", "securityContext", "volumeMounts"]
                    .into();
            if way == "chart-with-other-values" {
                may.insert("imagePullPolicy");
            }
            // No ports: it listens on nothing. And no probe that kills.
            assert_eq!(keys(container), may, "{way}, {pod}");
            let probe = json!({
                "exec": {"command": ["casefile-agent", "ready", "--config", "/etc/casefile/agent.toml"]},
                "initialDelaySeconds": 2, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 3,
            });
            assert_eq!(container["readinessProbe"], probe, "{way}, {pod}");
            assert_eq!(container["args"], json!(["run", "--config", "/etc/casefile/agent.toml"]), "{way}, {pod}");
            assert_eq!(keys(&container["resources"]["limits"]), ["memory"].into(), "{way}, {pod}: no CPU limit");
            if way != "chart-with-other-values" {
                assert_eq!(container["resources"]["limits"]["memory"], "64Mi", "{way}, {pod}");
            }
            let mut may: BTreeSet<_> =
                ["allowPrivilegeEscalation", "capabilities", "privileged", "readOnlyRootFilesystem", "runAsUser"]
                    .into();
            if way == "chart-with-other-values" {
                may.extend(["appArmorProfile", "seLinuxOptions"]);
            }
            assert_eq!(keys(&container["securityContext"]), may, "{way}, {pod}");
        }
    }
}

#[test]
fn an_agent_mounts_what_is_listed_and_writes_only_its_own_directory() {
    for way in ALL {
        for (pod, spec) in agents(&rendered(way)) {
            let mut volumes: Vec<Value> = FROM_THE_NODE
                .iter()
                .map(|(name, path, kind, _)| json!({"name": name, "hostPath": {"path": path, "type": kind}}))
                .collect();
            let token = json!({"audience": "casefile-collector", "expirationSeconds": 3600, "path": "token"});
            volumes.extend([
                json!({"name": "config", "configMap": {"name": "casefile-agent"}}),
                json!({"name": "identity", "projected": {"sources": [{"serviceAccountToken": token}]}}),
                json!({"name": "authority", "configMap": {"name": "casefile-authority", "optional": true}}),
            ]);
            assert_eq!(items(&spec["volumes"]), volumes, "{way}, {pod}");

            let from_the_node = FROM_THE_NODE.iter().map(|(name, _, kind, at)| match (*name, *kind) {
                ("data", _) => json!({"name": name, "mountPath": at}),
                (_, "File") => json!({"name": name, "mountPath": at, "readOnly": true}),
                _ => json!({"name": name, "mountPath": at, "readOnly": true, "recursiveReadOnly": "IfPossible"}),
            });
            let other = OTHER.iter().map(|(name, at)| json!({"name": name, "mountPath": at, "readOnly": true}));
            let mounts: Vec<_> = from_the_node.chain(other).collect();
            assert_eq!(items(&spec["containers"][0]["volumeMounts"]), mounts, "{way}, {pod}");
        }
    }
}

#[test]
fn the_capabilities_of_an_agent_are_those_that_its_sources_use() {
    let kept = |by: fn(&casefile_agent::sandbox::plan::Kept) -> bool| -> BTreeSet<&str> {
        KEPT.iter().filter(|kept| by(kept)).map(|kept| kept.name.strip_prefix("CAP_").unwrap()).collect()
    };
    let all = kept(|_| true);
    assert!(kept(|kept| kept.by_recorder).contains("SYSLOG"), "the recorder drops what the manifests give it");
    for way in ALL {
        for (pod, spec) in agents(&rendered(way)) {
            let context = &spec["containers"][0]["securityContext"];
            assert_eq!(context["runAsUser"], 0, "{way}, {pod}: uid 0 reads root's own logs");
            assert_eq!(keys(&context["capabilities"]), ["add", "drop"].into(), "{way}, {pod}");
            let added: BTreeSet<_> = items(&context["capabilities"]["add"]).iter().map(text).collect();
            let expected = if has_details(way) { all.clone() } else { ["SYSLOG"].into() };
            assert_eq!(added, expected, "{way}, {pod}");
        }
    }
}

/// Every mount in the base's text with the comment above it, which names who needs it.
fn reasons() -> Vec<(String, Vec<String>)> {
    let text = file("kustomize/base/agent/daemonset.yaml");
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    lines
        .windows(2)
        .filter(|pair| pair[1].contains("mountPath: "))
        .map(|pair| {
            let path = pair[1].split("mountPath: ").nth(1).and_then(|rest| rest.split([',', '}']).next()).unwrap();
            let needs = pair[0].strip_prefix("# ").unwrap_or_else(|| panic!("no comment above {}", pair[1]));
            (path.to_owned(), needs.split(", ").map(str::to_owned).collect())
        })
        .collect()
}

#[test]
fn every_mount_out_of_the_node_names_sources_that_exist_and_every_source_has_one() {
    let known: BTreeSet<_> = casefile_agent::sources::ALL
        .iter()
        .map(|source| source.name)
        .chain(casefile_agent::logs::ALL.iter().map(|log| log.name))
        .collect();
    let reasons: BTreeMap<_, _> = reasons().into_iter().collect();
    let mounted: BTreeSet<_> =
        FROM_THE_NODE.iter().map(|(.., at)| *at).chain(OTHER.iter().map(|(_, at)| *at)).collect();
    assert_eq!(reasons.keys().map(String::as_str).collect::<BTreeSet<_>>(), mounted, "each has a comment");
    let mut served = BTreeSet::new();
    for (.., at) in FROM_THE_NODE {
        for need in &reasons[at] {
            assert!(
                known.contains(need.as_str()) || ["state", "ring"].contains(&need.as_str()),
                "{at} is for {need}, which is no source"
            );
            served.insert(need.as_str());
        }
    }
    assert!(known.is_subset(&served), "no mount is said to be for {:?}", known.difference(&served));
}

#[test]
fn agents_of_nodes_with_gpus_are_the_same_agents_on_the_nodes_that_the_others_leave_out() {
    for way in ALL.into_iter().filter(|way| has_gpus_apart(way)) {
        let objects = rendered(way);
        let plain = one(&objects, "DaemonSet", "casefile-agent");
        let gpu = one(&objects, "DaemonSet", "casefile-agent-gpu");
        let class = &gpu["spec"]["template"]["spec"]["runtimeClassName"];
        assert!(text(class).starts_with("nvidia"), "{way}: {class}");
        let label = keys(&gpu["spec"]["template"]["spec"]["nodeSelector"]);
        assert_eq!(label.len(), 1, "{way}");
        let label = label.first().unwrap();
        assert_eq!(gpu["spec"]["template"]["spec"]["nodeSelector"][label], "true", "{way}");
        let left_out = json!([{"matchExpressions": [{"key": label, "operator": "NotIn", "values": ["true"]}]}]);
        let affinity = json!({"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": left_out}}});
        assert_eq!(plain["spec"]["template"]["spec"]["affinity"], affinity, "{way}");

        let mut same = gpu.clone();
        let spec = same["spec"]["template"]["spec"].as_object_mut().unwrap();
        spec.remove("runtimeClassName");
        spec.remove("nodeSelector");
        spec.insert("affinity".to_owned(), affinity);
        let same: Value =
            serde_json::from_str(&same.to_string().replace("\"casefile-agent-gpu\"", "\"casefile-agent\"")).unwrap();
        let same: Value = serde_json::from_str(&same.to_string().replace("\"agent-gpu\"", "\"agent\"")).unwrap();
        assert_eq!(&same, plain, "{way}");
    }
}

#[test]
fn the_collector_needs_nothing_of_its_node() {
    for way in ALL {
        let objects = rendered(way);
        let set = one(&objects, "StatefulSet", "casefile-collector");
        let spec = &set["spec"]["template"]["spec"];
        let mut may: BTreeSet<_> = [
            "automountServiceAccountToken",
            "containers",
            "enableServiceLinks",
            "securityContext",
            "serviceAccountName",
            "terminationGracePeriodSeconds",
            "volumes",
        ]
        .into();
        let mut of_container: BTreeSet<_> = [
            "args",
            "image",
            "livenessProbe",
            "name",
            "ports",
            "readinessProbe",
            "resources",
            "securityContext",
            "startupProbe",
            "volumeMounts",
        ]
        .into();
        if way == "chart-with-other-values" {
            may.extend(["imagePullSecrets", "nodeSelector", "tolerations"]);
            of_container.insert("imagePullPolicy");
        }
        assert_eq!(keys(spec), may, "{way}");
        assert_eq!(keys(&spec["containers"][0]), of_container, "{way}");
        let user = &spec["securityContext"];
        assert_eq!((&user["runAsNonRoot"], &user["runAsUser"]), (&json!(true), &json!(65532)), "{way}");
        let context = &spec["containers"][0]["securityContext"];
        assert_eq!(keys(&context["capabilities"]), ["drop"].into(), "{way}");
        assert!(context.get("runAsUser").is_none() && context.get("runAsNonRoot").is_none(), "{way}: as the pod says");
        let mut volumes = vec![
            json!({"name": "config", "configMap": {"name": "casefile-collector"}}),
            json!({"name": "metrics-token", "secret": {"secretName": "casefile-metrics", "optional": true}}),
        ];
        let mut mounts = vec![
            json!({"name": "data", "mountPath": "/var/lib/casefile"}),
            json!({"name": "config", "mountPath": "/etc/casefile", "readOnly": true}),
            json!({"name": "metrics-token", "mountPath": "/etc/casefile-metrics", "readOnly": true}),
        ];
        if let Some(secret) = archive_store(way) {
            volumes.push(json!({"name": "archive-store", "secret": {"secretName": secret, "optional": true}}));
            let at = "/etc/casefile-archive-store";
            mounts.push(json!({"name": "archive-store", "mountPath": at, "readOnly": true}));
        }
        assert_eq!(items(&spec["volumes"]), volumes, "{way}");
        assert_eq!(items(&spec["containers"][0]["volumeMounts"]), mounts, "{way}");
        assert_eq!(items(&set["spec"]["volumeClaimTemplates"]).len(), 1, "{way}");
    }
}

#[test]
fn agents_hear_nobody_and_every_pod_is_under_a_policy_in_both_directions() {
    for way in ALL {
        let objects = rendered(way);
        let of = |policy: &str| &one(&objects, "NetworkPolicy", policy)["spec"];
        let policies: BTreeSet<_> = of_kind(&objects, "NetworkPolicy").into_iter().map(name).collect();
        let mut expected: BTreeSet<_> = ["casefile-agent", "casefile-collector"].into();
        if of_kind(&objects, "ServiceMonitor").len() == 1 {
            expected.insert("casefile-collector-metrics");
        }
        if archive_store(way).is_some() {
            expected.insert("casefile-collector-archive-store");
        }
        assert_eq!(policies, expected, "{way}");

        if expected.contains("casefile-collector-metrics") {
            let prometheus = json!({"matchLabels": {"app.kubernetes.io/name": "prometheus"}});
            let rule = json!([{
                "from": [{"namespaceSelector": {}, "podSelector": prometheus}],
                "ports": [{"protocol": "TCP", "port": 7444}],
            }]);
            let opened = of("casefile-collector-metrics");
            assert_eq!((&opened["ingress"], &opened["policyTypes"]), (&rule, &json!(["Ingress"])), "{way}");
        }

        if expected.contains("casefile-collector-archive-store") {
            let storage = json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "storage"}}}]);
            let rule = if way == "s3" {
                json!([{"ports": [{"protocol": "TCP", "port": 443}]}])
            } else {
                json!([{"ports": [{"protocol": "TCP", "port": 9000}], "to": storage}])
            };
            let opened = of("casefile-collector-archive-store");
            assert_eq!((&opened["egress"], &opened["policyTypes"]), (&rule, &json!(["Egress"])), "{way}");
            assert_eq!(opened["podSelector"], of("casefile-collector")["podSelector"], "{way}");
        }

        let agent = of("casefile-agent");
        let components =
            json!([{"key": "app.kubernetes.io/component", "operator": "In", "values": ["agent", "agent-gpu"]}]);
        assert_eq!(agent["podSelector"]["matchExpressions"], components, "{way}");
        for policy in ["casefile-agent", "casefile-collector"] {
            assert_eq!(of(policy)["policyTypes"], json!(["Ingress", "Egress"]), "{way}, {policy}");
        }
        // Nothing comes in. A real API server drops an empty list, and counts a generation more each time that one is applied.
        assert!(agent.get("ingress").is_none(), "{way}: {}", agent["ingress"]);
        let collector = json!({"matchLabels":
            {"app.kubernetes.io/name": "casefile", "app.kubernetes.io/component": "collector"}});
        assert_eq!(of("casefile-collector")["podSelector"], collector, "{way}");
        let other = usize::from(way == "chart-with-other-values");
        let egress = items(&agent["egress"]);
        assert_eq!(
            egress.len(),
            2 + 2 * other,
            "{way}: the collector, DNS, and the targets and what else the values add"
        );
        assert_eq!(egress[0]["to"], json!([{"podSelector": collector}]), "{way}");
        let ingress = items(&of("casefile-collector")["ingress"]);
        assert_eq!(ingress.len(), 1 + other, "{way}: the agents, and what the values add");
        assert_eq!(ingress[0]["ports"], json!([{"protocol": "TCP", "port": 7443}]), "{way}");
    }
}
