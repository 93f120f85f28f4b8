//! Which part of a node's evidence is asked. Nothing named means everything; what was not asked is not missing.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which logs of the log sources. An empty list selects everything; names are exact.
///
/// Namespaces and pods narrow the pod logs only, units the journal only; every other source is read whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Selection {
    /// Kubernetes namespaces. With pods named as well, both must match.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// Names of pods.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<String>,
    /// Units of the journal, with or without `.service`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<String>,
}

impl Selection {
    /// The most names of one kind.
    pub const MAX_NAMES: usize = 256;
    /// The most bytes of one name: a name of a Kubernetes object has at most 253, that of a unit 255.
    pub const MAX_NAME: usize = 255;

    /// Whether everything is selected.
    pub fn is_everything(&self) -> bool {
        self.namespaces.is_empty() && self.pods.is_empty() && self.units.is_empty()
    }
}

/// For a person: `pod logs of namespace shop; journal of unit kubelet`. Names are as they came in.
impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |one: &str, names: &[String]| match names {
            [] => None,
            [name] => Some(format!("{one} {name}")),
            many => Some(format!("{one}s {}", many.join(", "))),
        };
        let pods: Vec<_> =
            [named("namespace", &self.namespaces), named("pod", &self.pods)].into_iter().flatten().collect();
        let pods = (!pods.is_empty()).then(|| format!("pod logs of {}", pods.join(", ")));
        let units = named("unit", &self.units).map(|units| format!("journal of {units}"));
        f.write_str(&pods.into_iter().chain(units).collect::<Vec<_>>().join("; "))
    }
}

/// Pods and nodes, as the cluster calls them. An empty field says nothing; a pod is chosen when all that is said is true of it, where
/// services, workloads and pods are one list: it belongs to any of those.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterSelection {
    /// Its namespace is one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// Its labels are such, as kubectl writes it: `app=api,tier in (web, edge),!canary`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub selector: String,
    /// It is behind one of these services.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
    /// It belongs to one of these, `KIND/NAME`: `deployment/api`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<String>,
    /// It is called one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<String>,
    /// Labels of the node that it runs on; of nodes alone when nothing is said of pods.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node_selector: String,
}

impl ClusterSelection {
    /// The most bytes of a selector.
    pub const MAX_SELECTOR: usize = 4096;

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it says no more than names of namespaces and pods, which logs have in their paths: that needs no cluster.
    pub fn is_names(&self) -> bool {
        let names = Self { namespaces: self.namespaces.clone(), pods: self.pods.clone(), ..Self::default() };
        *self == names
    }
}

/// For a person: `namespace shop, service api, labels app=api`. Names are as they came in.
impl fmt::Display for ClusterSelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let lists = [
            ("namespace", &self.namespaces),
            ("service", &self.services),
            ("workload", &self.workloads),
            ("pod", &self.pods),
        ];
        for (one, names) in lists {
            parts.extend((!names.is_empty()).then(|| format!("{one} {}", names.join(", "))));
        }
        for (what, selector) in [("labels", &self.selector), ("labels of nodes", &self.node_selector)] {
            parts.extend((!selector.is_empty()).then(|| format!("{what} {selector}")));
        }
        f.write_str(&parts.join("; "))
    }
}

/// What was chosen in the cluster's words, and what it became: nodes and names of logs stand where they always do.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Chosen {
    /// What was asked.
    pub asked: ClusterSelection,
    /// Pods that it was true of in the window, those that are gone included.
    pub pods: u64,
    /// Nodes that they ran on.
    pub nodes: u64,
    /// What could not be done as it was asked, and what was done instead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Chosen {
    /// The most notes.
    pub const MAX_NOTES: usize = 16;
}

/// What of a node's evidence is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Scope {
    /// Names of sources, log sources and tables of state, or the groups `recording`, `inventory` and `state`; empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// Which logs of the log sources.
    #[serde(skip_serializing_if = "Selection::is_everything")]
    pub select: Selection,
    /// What of it was chosen in the cluster's words; `None`: nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chosen: Option<Box<Chosen>>,
}

impl Scope {
    /// Whether everything is asked.
    pub fn is_everything(&self) -> bool {
        self.sources.is_empty() && self.select.is_everything() && self.chosen.is_none()
    }

    /// Whether a source of this name, or of one of these groups, is asked.
    pub fn wants(&self, names: &[&str]) -> bool {
        self.sources.is_empty() || self.sources.iter().any(|s| names.contains(&s.as_str()))
    }
}

/// For a person: `only pods, kernel; pod logs of namespace shop`. Empty when everything is asked.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources = (!self.sources.is_empty()).then(|| format!("only {}", self.sources.join(", ")));
        let select = (!self.select.is_everything()).then(|| format!("only {}", self.select));
        let chosen = self.chosen.as_ref().map(|chosen| format!("chosen by {}", chosen.asked));
        f.write_str(&sources.into_iter().chain(select).chain(chosen).collect::<Vec<_>>().join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn a_scope_reads_like_what_was_typed() {
        let mut scope = Scope::default();
        assert_eq!((scope.to_string().as_str(), scope.is_everything()), ("", true));
        scope.select = Selection { namespaces: names(&["shop"]), pods: names(&["a", "b"]), units: names(&["kubelet"]) };
        assert_eq!(scope.to_string(), "only pod logs of namespace shop, pods a, b; journal of unit kubelet");
        scope.sources = names(&["pods"]);
        assert!(scope.wants(&["pods"]) && !scope.wants(&["files", "state"]) && !scope.is_everything());
    }

    #[test]
    fn what_was_written_before_there_was_a_scope_asks_for_everything() {
        assert!(serde_json::from_str::<Scope>("{}").unwrap().is_everything());
        assert_eq!(serde_json::to_string(&Scope::default()).unwrap(), "{}");
    }
}
