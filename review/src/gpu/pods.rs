//! Pods by their uid: a cgroup knows only the uid, and the directory of a pod's logs has the name beside it; so have the cluster's
//! objects, where the case file has them, and the names of containers too.

use std::collections::BTreeMap;

use casefile_proto::ids::NodeName;
use serde::Serialize;

use crate::casefile::CaseFile;
use crate::kubernetes::{Cluster, Kind};
use crate::logs::origin::Origin;

/// A pod, as far as the case file knows it. Texts of the node: escape before showing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Pod {
    /// Its uid.
    pub uid: String,
    /// `namespace/name`; `None` where neither its logs nor its object are in the case file.
    pub name: Option<String>,
}

impl Pod {
    /// Its name, or its uid where that is all that is known.
    pub fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.uid)
    }
}

/// The pods of a node whose names are known.
#[derive(Debug, Clone, Default)]
pub struct Pods {
    names: BTreeMap<String, String>,
    /// Names of containers by their id, as the cluster's objects have them.
    containers: BTreeMap<String, String>,
}

impl Pods {
    /// By the paths of their logs: `logs/pods/<namespace>_<pod>_<uid>/…`.
    pub fn of(casefile: &CaseFile, node: &NodeName) -> Self {
        let named = casefile.node_entries(Some(node)).filter_map(|(_, _, item)| named(item.as_str()));
        Self { names: named.collect(), containers: BTreeMap::new() }
    }

    /// By the paths of their logs, and by the cluster's objects where the case file has them.
    pub fn known(casefile: &mut CaseFile, node: &NodeName) -> Self {
        let cluster = Cluster::read_of(casefile, &|kind| kind == Kind::Pod);
        Self::of(casefile, node).with(&cluster, node)
    }

    /// With what the cluster's objects of this node say: the names of pods that wrote no log, and those of containers.
    #[must_use]
    pub fn with(mut self, cluster: &Cluster, node: &NodeName) -> Self {
        for pod in cluster.pods_on(node.as_str()) {
            if let Some(uid) = &pod.meta.uid {
                // The kubelet's own directory is the node's word, and stands.
                self.names.entry(uid.clone()).or_insert_with(|| pod.meta.called());
            }
            let running = pod
                .containers
                .iter()
                .filter_map(|container| Some((container.status.as_ref()?.id.clone()?, container.name.clone())));
            let ended = pod.ended().filter_map(|(container, ended)| Some((ended.id.clone()?, container.name.clone())));
            self.containers.extend(running.chain(ended));
        }
        self
    }

    /// The name of a container by its id; `None`: only its id is known.
    pub fn container(&self, id: &str) -> Option<&str> {
        self.containers.get(id).map(String::as_str)
    }

    /// The pod with this uid.
    pub fn pod(&self, uid: &str) -> Pod {
        Pod { uid: uid.to_owned(), name: self.names.get(uid).cloned() }
    }
}

impl Pods {
    /// The uid of a pod of this name; of several that followed one another that of the last in order of uid.
    pub fn uid(&self, name: &str) -> Option<&str> {
        self.names.iter().filter(|(_, of)| *of == name).map(|(uid, _)| uid.as_str()).next_back()
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Pods {
    fn from(pods: [(&str, &str); N]) -> Self {
        let names = pods.into_iter().map(|(uid, name)| (uid.to_owned(), name.to_owned()));
        Self { names: names.collect(), containers: BTreeMap::new() }
    }
}

fn named(item: &str) -> Option<(String, String)> {
    let origin = Origin::of(item)?;
    let (namespace, pod) = (origin.namespace?, origin.pod?);
    Some((origin.pod_uid.filter(|uid| !uid.is_empty())?, format!("{namespace}/{pod}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_log_names_the_pod_of_a_uid() {
        let found = named("logs/pods/ml_train-0_0a1b2c3d-1111/main.log");
        assert_eq!(found, Some(("0a1b2c3d-1111".to_owned(), "ml/train-0".to_owned())));
        for no in ["logs/pods/odd/x.log", "logs/kernel.log", "recording/window.seg", "logs/pods/a_b_/x.log"] {
            assert_eq!(named(no), None, "{no}");
        }
    }
}
