//! Pods by their uid: a cgroup knows only the uid, and the directory of a pod's logs has the name beside it.

use std::collections::BTreeMap;

use casefile_proto::ids::NodeName;
use serde::Serialize;

use crate::casefile::CaseFile;
use crate::logs::origin::Origin;

/// A pod, as far as the case file knows it. Texts of the node: escape before showing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Pod {
    /// Its uid.
    pub uid: String,
    /// `namespace/name`; `None` where its logs are not in the case file.
    pub name: Option<String>,
}

impl Pod {
    /// Its name, or its uid where that is all that is known.
    pub fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.uid)
    }
}

/// The pods of a node whose logs are in the case file.
#[derive(Debug, Clone, Default)]
pub struct Pods(BTreeMap<String, String>);

impl Pods {
    /// By the paths of their logs: `logs/pods/<namespace>_<pod>_<uid>/…`.
    pub fn of(casefile: &CaseFile, node: &NodeName) -> Self {
        Self(casefile.node_entries(Some(node)).filter_map(|(_, _, item)| named(item.as_str())).collect())
    }

    /// The pod with this uid.
    pub fn pod(&self, uid: &str) -> Pod {
        Pod { uid: uid.to_owned(), name: self.0.get(uid).cloned() }
    }
}

impl Pods {
    /// The uid of a pod of this name; of several that followed one another that of the last in order of uid.
    pub fn uid(&self, name: &str) -> Option<&str> {
        self.0.iter().filter(|(_, of)| *of == name).map(|(uid, _)| uid.as_str()).next_back()
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Pods {
    fn from(pods: [(&str, &str); N]) -> Self {
        Self(pods.into_iter().map(|(uid, name)| (uid.to_owned(), name.to_owned())).collect())
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
