//! The little of an object that choosing nodes and pods needs, kept in memory for each: labels, node, owner, who is behind a
//! service. What many objects have in common is kept once.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use serde_json::Value;

use super::kinds::Kind;

/// Labels, in order of name.
pub type Labels = Vec<(Box<str>, Box<str>)>;

/// Labels that are kept of one object; more are no labels that a person chose by.
const MAX_LABELS: usize = 64;

/// Pods that are kept of one slice of endpoints; Kubernetes puts at most 1,000 in one.
const MAX_TARGETS: usize = 1_000;

/// Whom an object belongs to: its controller.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    /// `ReplicaSet`.
    pub kind: Box<str>,
    /// Its name, in the namespace of the object.
    pub name: Box<str>,
}

/// What is known of one object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// Of pods and nodes.
    pub labels: Arc<Labels>,
    /// Where a pod runs; `None`: nowhere yet, or it is no pod.
    pub node: Option<Arc<str>>,
    /// Whom it belongs to.
    pub owner: Option<Arc<Owner>>,
    /// Of services and slices of endpoints.
    pub behind: Option<Box<Behind>>,
}

/// Who is behind a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behind {
    /// A service chooses pods with these labels; none: somebody else says who is behind it.
    Selector(Labels),
    /// A slice of endpoints names pods.
    Slice {
        /// The service that it is of.
        service: Box<str>,
        /// Names of pods in its namespace.
        pods: Vec<Box<str>>,
    },
}

/// What many objects have in common.
#[derive(Debug, Default)]
pub struct Shared {
    labels: HashSet<Arc<Labels>>,
    nodes: HashSet<Arc<str>>,
    owners: HashSet<Arc<Owner>>,
}

impl Shared {
    /// Forgets what nobody uses any more.
    pub fn sweep(&mut self) {
        self.labels.retain(|kept| Arc::strong_count(kept) > 1);
        self.nodes.retain(|kept| Arc::strong_count(kept) > 1);
        self.owners.retain(|kept| Arc::strong_count(kept) > 1);
    }
}

/// The one that is kept already, or this one from now on.
fn shared<T: Eq + Hash + ?Sized>(all: &mut HashSet<Arc<T>>, one: Arc<T>) -> Arc<T> {
    match all.get(&one) {
        Some(kept) => Arc::clone(kept),
        None => {
            all.insert(Arc::clone(&one));
            one
        }
    }
}

impl Meta {
    /// What is known of an object of this kind; `None`: nothing that choosing needs.
    pub fn of(kind: &Kind, object: &Value, known: &mut Shared) -> Option<Self> {
        let metadata = &object["metadata"];
        let mut meta = Self::default();
        match kind.plural {
            "pods" => {
                meta.labels = shared(&mut known.labels, Arc::new(labels(&metadata["labels"])));
                let node = object["spec"]["nodeName"].as_str().filter(|name| !name.is_empty());
                meta.node = node.map(|name| shared(&mut known.nodes, Arc::from(name)));
                meta.owner = owner(metadata, known);
            }
            "nodes" => meta.labels = shared(&mut known.labels, Arc::new(labels(&metadata["labels"]))),
            "replicasets" | "jobs" => meta.owner = owner(metadata, known),
            "services" => meta.behind = Some(Box::new(Behind::Selector(labels(&object["spec"]["selector"])))),
            "endpointslices" => {
                let service = metadata["labels"]["kubernetes.io/service-name"].as_str()?;
                let endpoints = object["endpoints"].as_array().into_iter().flatten();
                let pods = endpoints.map(|e| &e["targetRef"]).filter(|target| target["kind"] == "Pod");
                let pods = pods.filter_map(|target| target["name"].as_str()).take(MAX_TARGETS).map(Box::from).collect();
                meta.behind = Some(Box::new(Behind::Slice { service: service.into(), pods }));
            }
            _ => return None,
        }
        Some(meta)
    }
}

/// A map of texts, as labels.
pub fn labels(map: &Value) -> Labels {
    // A map of serde_json is in order of name.
    let all = map.as_object().into_iter().flatten().take(MAX_LABELS);
    all.filter_map(|(name, value)| Some((name.as_str().into(), value.as_str()?.into()))).collect()
}

fn owner(metadata: &Value, known: &mut Shared) -> Option<Arc<Owner>> {
    let owners = metadata["ownerReferences"].as_array()?;
    let owner = owners.iter().find(|owner| owner["controller"] == true)?;
    let owner = Owner { kind: owner["kind"].as_str()?.into(), name: owner["name"].as_str()?.into() };
    Some(shared(&mut known.owners, Arc::new(owner)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_of_one_replica_set_share_what_they_have_in_common() {
        let mut known = Shared::default();
        let pod = |name: &str| {
            json!({"metadata": {"name": name, "labels": {"app": "api"}, "ownerReferences":
                [{"kind": "ReplicaSet", "name": "api-1", "controller": true}]}, "spec": {"nodeName": "n1"}})
        };
        let kind = Kind::named("pods").unwrap();
        let (a, b) = (Meta::of(kind, &pod("a"), &mut known).unwrap(), Meta::of(kind, &pod("b"), &mut known).unwrap());
        assert_eq!(a.owner.as_ref().unwrap().name.as_ref(), "api-1");
        assert!(Arc::ptr_eq(&a.labels, &b.labels) && Arc::ptr_eq(a.node.as_ref().unwrap(), b.node.as_ref().unwrap()));
        drop((a, b));
        known.sweep();
        assert!(known.labels.is_empty() && known.nodes.is_empty() && known.owners.is_empty());
    }
}
