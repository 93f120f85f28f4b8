//! The kinds of objects that are followed: one list. To add one, add a line to [`KINDS`], its right to the manifests, and its
//! line to `evidence/FORMAT.md`.
//!
//! The order is that in which an archive takes them when its budget does not suffice for all: what explains most comes first.

use crate::stats::figure::Label;

/// One kind of object.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// Group and version, as objects say it: `v1`, `apps/v1`.
    pub version: &'static str,
    /// As paths of the API say it, and this program: `pods`.
    pub plural: &'static str,
    /// As objects say it: `Pod`.
    pub kind: &'static str,
    /// Where objects of this kind live.
    pub scope: Scope,
    /// What the directory, or the file, below `cluster-resources/` is called.
    pub file: &'static str,
    /// What people call it to kubectl, as the API's discovery has it: `po`; and whether it is one of `all`.
    pub called: Called,
}

/// What people call a kind to kubectl.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Called {
    /// Shorter names.
    pub short: &'static [&'static str],
    /// Whether `kubectl get all` means it too.
    pub of_all: bool,
}

/// Where objects of a kind live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In no namespace.
    Cluster,
    /// In namespaces.
    Namespaces,
    /// In namespaces, and only those of this one are followed.
    Within(&'static str),
}

impl Kind {
    /// The group; `core` for the one without a name.
    pub fn group(&self) -> &'static str {
        self.version.split_once('/').map_or("core", |(group, _)| group)
    }

    /// Whether its objects have a namespace.
    pub const fn is_namespaced(&self) -> bool {
        !matches!(self.scope, Scope::Cluster)
    }

    /// The path of the API that lists and watches all that is followed of it.
    pub fn path(&self) -> String {
        let root = if self.version.contains('/') { "apis" } else { "api" };
        let (version, plural) = (self.version, self.plural);
        match self.scope {
            Scope::Within(namespace) => format!("/{root}/{version}/namespaces/{namespace}/{plural}"),
            Scope::Cluster | Scope::Namespaces => format!("/{root}/{version}/{plural}"),
        }
    }

    /// Where the kind stands in [`KINDS`].
    pub fn position(&self) -> usize {
        KINDS.iter().position(|k| k == self).unwrap_or_default()
    }

    /// The kind that is called this in paths.
    pub fn named(plural: &str) -> Option<&'static Self> {
        KINDS.iter().find(|k| k.plural == plural)
    }
}

const fn kind(
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
    scope: Scope,
    file: &'static str,
    short: &'static [&'static str],
) -> Kind {
    Kind { version, plural, kind, scope, file, called: Called { short, of_all: false } }
}

impl Kind {
    /// The same, as one of `all`.
    const fn of_all(mut self) -> Self {
        self.called.of_all = true;
        self
    }
}

/// The namespace in which nodes renew their leases.
pub const NODE_LEASES: &str = "kube-node-lease";

/// Every kind. What each is called is what `kubectl api-resources` of 1.36 says, and Argo CD of its own.
///
/// The names of files are those of `replicatedhq/sbctl` (`pkg/util/support-bundle.go`: `persistentvolumeclaims` is `pvcs`,
/// `persistentvolumes` is `pvs`, `storageclasses` is `storage-classes`, `ingresses` is `ingress`, every other one is itself), and
/// what is no kind of Kubernetes itself lies below `custom-resources/PLURAL.GROUP` (`pkg/api/server.go`).
pub const KINDS: &[Kind] = &[
    kind("v1", "nodes", "Node", Scope::Cluster, "nodes", &["no"]),
    kind("v1", "namespaces", "Namespace", Scope::Cluster, "namespaces", &["ns"]),
    kind("coordination.k8s.io/v1", "leases", "Lease", Scope::Within(NODE_LEASES), "leases", &[]),
    kind("v1", "events", "Event", Scope::Namespaces, "events", &["ev"]),
    kind("apps/v1", "deployments", "Deployment", Scope::Namespaces, "deployments", &["deploy"]).of_all(),
    kind("apps/v1", "statefulsets", "StatefulSet", Scope::Namespaces, "statefulsets", &["sts"]).of_all(),
    kind("apps/v1", "daemonsets", "DaemonSet", Scope::Namespaces, "daemonsets", &["ds"]).of_all(),
    kind("batch/v1", "jobs", "Job", Scope::Namespaces, "jobs", &[]).of_all(),
    kind("v1", "services", "Service", Scope::Namespaces, "services", &["svc"]).of_all(),
    kind("networking.k8s.io/v1", "ingresses", "Ingress", Scope::Namespaces, "ingress", &["ing"]),
    kind(
        "autoscaling/v2",
        "horizontalpodautoscalers",
        "HorizontalPodAutoscaler",
        Scope::Namespaces,
        "horizontalpodautoscalers",
        &["hpa"],
    )
    .of_all(),
    kind("v1", "persistentvolumes", "PersistentVolume", Scope::Cluster, "pvs", &["pv"]),
    kind("v1", "persistentvolumeclaims", "PersistentVolumeClaim", Scope::Namespaces, "pvcs", &["pvc"]),
    kind("storage.k8s.io/v1", "storageclasses", "StorageClass", Scope::Cluster, "storage-classes", &["sc"]),
    kind(
        "argoproj.io/v1alpha1",
        "applications",
        "Application",
        Scope::Namespaces,
        "custom-resources/applications.argoproj.io",
        &["app", "apps"],
    ),
    kind("v1", "pods", "Pod", Scope::Namespaces, "pods", &["po"]).of_all(),
    kind("apps/v1", "replicasets", "ReplicaSet", Scope::Namespaces, "replicasets", &["rs"]).of_all(),
    kind("discovery.k8s.io/v1", "endpointslices", "EndpointSlice", Scope::Namespaces, "endpointslices", &[]),
];

/// Each of them.
const EACH: [&Kind; KINDS.len()] = {
    let (mut each, mut n) = ([&KINDS[0]; KINDS.len()], 0);
    while n < KINDS.len() {
        each[n] = &KINDS[n];
        n += 1;
    }
    each
};

impl Label for &'static Kind {
    const NAME: &'static str = "kind";
    const ALL: &'static [Self] = &EACH;

    fn value(self) -> &'static str {
        self.plural
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_kind_is_there_once_and_its_path_is_that_of_the_api() {
        let plurals: BTreeSet<_> = KINDS.iter().map(|k| k.plural).collect();
        let files: BTreeSet<_> = KINDS.iter().map(|k| k.file).collect();
        assert_eq!((plurals.len(), files.len()), (KINDS.len(), KINDS.len()));
        let path = |plural: &str| Kind::named(plural).unwrap().path();
        assert_eq!(path("pods"), "/api/v1/pods");
        assert_eq!(path("leases"), "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases");
        assert_eq!(path("jobs"), "/apis/batch/v1/jobs");
        for (n, kind) in KINDS.iter().enumerate() {
            assert_eq!(kind.position(), n);
        }
    }
}
