//! Which pods are meant: those behind a service, of a workload, or by name. With the cluster's objects where the case file has them,
//! else by the directories of their logs.

use std::collections::{BTreeMap, BTreeSet};

use casefile_proto::ids::NodeName;

use crate::casefile::CaseFile;
use crate::kubernetes::{Cluster, Kind, NO_EVIDENCE, Pod, called};
use crate::logs::origin::Origin;

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Which {
    /// Only in this namespace.
    pub namespace: Option<String>,
    /// Those behind these services.
    pub services: Vec<String>,
    /// Those of these workloads, by name or as `deployment/name`.
    pub workloads: Vec<String>,
    /// Those of these names.
    pub pods: Vec<String>,
}

/// A pod that is meant.
#[derive(Debug, Clone)]
pub struct Target<'c> {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid; `None`: it is not known, and nothing that is recorded can be told to be its own.
    pub uid: Option<String>,
    /// The node of the case file that it is on.
    pub node: Option<NodeName>,
    /// Its object; `None`: it is not in the case file.
    pub object: Option<&'c Pod>,
}

/// What was found of what was asked for, and what is to be said besides.
#[derive(Debug, Default)]
pub struct Chosen<'c> {
    /// The pods, in order of namespace and name.
    pub pods: Vec<Target<'c>>,
    /// What could not be found out.
    pub unknown: Vec<String>,
}

/// Finds them.
pub fn choose<'c>(casefile: &CaseFile, cluster: &'c Cluster, which: &Which) -> Chosen<'c> {
    let nodes: BTreeSet<NodeName> = casefile.coverage.nodes.iter().map(|row| row.node.clone()).collect();
    let mut chosen: BTreeMap<(String, Option<String>), Target<'c>> = BTreeMap::new();
    let mut unknown = Vec::new();
    let of_logs = logs(casefile);
    let mut add = |pod: &'c Pod| {
        let node = pod.node.as_deref().and_then(|node| node.parse().ok()).filter(|node| nodes.contains(node));
        let target = Target {
            namespace: pod.meta.namespace.clone().unwrap_or_default(),
            name: pod.meta.name.clone(),
            uid: pod.meta.uid.clone(),
            node,
            object: Some(pod),
        };
        chosen.insert((pod.meta.called(), pod.meta.uid.clone()), target);
    };
    let here = |namespace: Option<&str>| which.namespace.is_none() || namespace == which.namespace.as_deref();
    for name in &which.services {
        if let Some(why) = cluster.lacks(Kind::Service).or_else(|| cluster.lacks(Kind::Pod)) {
            unknown.push(format!("which pods are behind service {name}: {why}"));
            continue;
        }
        let services = cluster.services.iter().filter(|s| s.meta.name == *name && here(s.meta.namespace.as_deref()));
        let mut any = false;
        for service in services {
            any = true;
            let pods = cluster.pods_of_service(service);
            if pods.is_empty() {
                unknown.push(format!("service {} has no pods", service.meta.called()));
            }
            pods.into_iter().for_each(&mut add);
        }
        if !any {
            unknown.push(format!("there is no service {}", called(which.namespace.as_deref(), name)));
        }
    }
    for pod in cluster.pods.iter().filter(|pod| here(pod.meta.namespace.as_deref())) {
        let of_workload = which.workloads.iter().any(|name| is_of(cluster, pod, name));
        if of_workload || which.pods.contains(&pod.meta.name) {
            add(pod);
        }
    }
    // A pod that is gone, or of which there is no object, still has its logs.
    for log in of_logs.into_iter().filter(|log| here(Some(log.namespace.as_str()))) {
        let of_workload = which.workloads.iter().any(|workload| made_by(&log.name, workload));
        if (of_workload || which.pods.contains(&log.name))
            && !chosen.contains_key(&(called(Some(&log.namespace), &log.name), log.uid.clone()))
        {
            chosen.insert((called(Some(&log.namespace), &log.name), log.uid.clone()), log);
        }
    }
    let named =
        which.workloads.iter().map(|name| (name, "workload")).chain(which.pods.iter().map(|name| (name, "pod")));
    for (name, what) in named {
        let found = chosen.values().any(|target| {
            target.name == *name
                || what == "workload"
                    && (made_by(&target.name, name) || target.object.is_some_and(|pod| is_of(cluster, pod, name)))
        });
        if !found {
            let because = if cluster.present { String::new() } else { format!(" by the logs, and {NO_EVIDENCE}") };
            unknown.push(format!("no pod of {what} {name} is known{because}"));
        }
    }
    Chosen { pods: chosen.into_values().collect(), unknown }
}

/// Whether a pod is of a workload: `api`, or `deployment/api`.
fn is_of(cluster: &Cluster, pod: &Pod, workload: &str) -> bool {
    let (kind, name) = workload.split_once('/').map_or((None, workload), |(kind, name)| (Some(kind), name));
    let owners = [cluster.top_owner(&pod.meta), pod.meta.owner.clone()];
    let fits = |owner: &crate::kubernetes::Owner| {
        owner.name == name && kind.is_none_or(|kind| owner.kind.eq_ignore_ascii_case(kind))
    };
    owners.iter().flatten().any(fits)
}

/// Whether a pod of this name looks as if a workload of that name made it: its name, a number or a hash or two.
fn made_by(pod: &str, workload: &str) -> bool {
    let name = workload.split_once('/').map_or(workload, |(_, name)| name);
    let Some(rest) = pod.strip_prefix(name).and_then(|rest| rest.strip_prefix('-')) else { return false };
    let parts: Vec<&str> = rest.split('-').collect();
    let is_suffix =
        |part: &&str| !part.is_empty() && part.len() <= 10 && part.bytes().all(|b| b.is_ascii_alphanumeric());
    // `api-worker-0` is of `api-worker`, and not of `api`: a suffix has a digit, or is one of five letters at the end.
    let generated = |part: &&str| part.bytes().any(|b| b.is_ascii_digit()) || part.len() == 5;
    parts.len() <= 2 && parts.iter().all(is_suffix) && parts.iter().all(generated)
}

/// The pods of which there are logs, each once.
fn logs<'c>(casefile: &CaseFile) -> Vec<Target<'c>> {
    let mut seen: BTreeSet<(String, String, Option<String>)> = BTreeSet::new();
    let mut all = Vec::new();
    for (node, _, item) in casefile.node_entries(None) {
        let Some(origin) = Origin::of(item.as_str()) else { continue };
        let (Some(namespace), Some(name)) = (origin.namespace, origin.pod) else { continue };
        let uid = origin.pod_uid.filter(|uid| !uid.is_empty());
        if seen.insert((namespace.clone(), name.clone(), uid.clone())) {
            all.push(Target { namespace, name, uid, node: Some(node), object: None });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_known_by_what_its_controller_would_call_it() {
        for (pod, workload, is) in [
            ("api-7c9f6d5b84-x2k9p", "api", true),
            ("postgres-0", "postgres", true),
            ("probe-ddcvk", "daemonset/probe", true),
            ("api-worker-0", "api", false),
            ("api", "api", false),
            ("apiserver-0", "api", false),
        ] {
            assert_eq!(made_by(pod, workload), is, "{pod} {workload}");
        }
    }
}
