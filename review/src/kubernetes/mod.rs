//! What a case file says of the cluster: its objects as of the end of the window, its events, and what changed in the window.
//!
//! Objects came through an API server and hold what anybody with a right to write wrote: every text is as untrusted as a log. What
//! is broken or unknown is named and left out, and the rest is taken. A kind of which there is no list is unknown, never healthy.

mod change;
mod event;
mod node;
mod others;
mod pod;
mod quantity;
mod read;

mod value;
mod workload;

use std::collections::{BTreeMap, BTreeSet};

use casefile_proto::item::EntryPath;
use casefile_proto::time::WallTime;
use serde::Serialize;

pub use change::Change;
pub use event::{About, Event};
pub use node::Node;
pub use others::{Application, Autoscaler, Claim, Endpoint, Service, Slice};
pub use pod::{Amounts, Container, Ended, Pod, State, Status};
pub use quantity::quantity;
pub(crate) use read::{BELOW, CHANGES, size};
pub use workload::{Job, Workload};

use crate::finding::{Evidence, EvidenceKind};
use crate::written::Unread;

/// What is said where an archive has nothing of a cluster.
pub const NO_EVIDENCE: &str = "there is no cluster evidence in this archive";

/// A kind of object that is understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Kind {
    /// `pods`
    Pod,
    /// `nodes`
    Node,
    /// `events`
    Event,
    /// `deployments`
    Deployment,
    /// `replicasets`
    ReplicaSet,
    /// `statefulsets`
    StatefulSet,
    /// `daemonsets`
    DaemonSet,
    /// `jobs`
    Job,
    /// `services`
    Service,
    /// `endpointslices`
    EndpointSlice,
    /// `pvcs`
    PersistentVolumeClaim,
    /// `hpas`
    HorizontalPodAutoscaler,
    /// Argo CD's `applications.argoproj.io`
    Application,
}

impl Kind {
    /// All of them, with the names that their directories have: the first is that of our own archives.
    ///
    /// How to add one: a line here, a vector in [`Cluster`], an arm in `read.rs`.
    pub const ALL: [(Self, &'static [&'static str]); 13] = [
        (Self::Pod, &["pods"]),
        (Self::Node, &["nodes"]),
        (Self::Event, &["events"]),
        (Self::Deployment, &["deployments"]),
        (Self::ReplicaSet, &["replicasets"]),
        (Self::StatefulSet, &["statefulsets"]),
        (Self::DaemonSet, &["daemonsets"]),
        (Self::Job, &["jobs"]),
        (Self::Service, &["services"]),
        (Self::EndpointSlice, &["endpointslices"]),
        (Self::PersistentVolumeClaim, &["pvcs", "persistentvolumeclaims"]),
        (Self::HorizontalPodAutoscaler, &["hpas", "horizontalpodautoscalers"]),
        (Self::Application, &["applications.argoproj.io"]),
    ];

    /// As its objects call themselves.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pod => "Pod",
            Self::Node => "Node",
            Self::Event => "Event",
            Self::Deployment => "Deployment",
            Self::ReplicaSet => "ReplicaSet",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::Job => "Job",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::PersistentVolumeClaim => "PersistentVolumeClaim",
            Self::HorizontalPodAutoscaler => "HorizontalPodAutoscaler",
            Self::Application => "Application",
        }
    }

    /// As the coverage names it: `horizontalpodautoscalers`.
    fn of_plural(plural: &str) -> Option<Self> {
        let is = |name: &&str| name.split('.').next() == Some(plural);
        Self::ALL.iter().find(|(_, names)| names.iter().any(is)).map(|(kind, _)| *kind)
    }

    fn of_directory(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, names)| names.contains(&name)).map(|(kind, _)| *kind)
    }
}

/// What controls an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Owner {
    /// `ReplicaSet`, `Job`, …
    pub kind: String,
    /// Its name, in the object's own namespace.
    pub name: String,
}

/// What every object has.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Meta {
    /// Its namespace; `None`: it has none.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: Option<String>,
    /// Since when it is there.
    pub created: Option<WallTime>,
    /// Since when it is to be gone.
    pub deleting: Option<WallTime>,
    /// What controls it.
    pub owner: Option<Owner>,
    /// Which of [`Cluster::entries`] it stands in.
    pub(crate) entry: usize,
}

impl Meta {
    /// `namespace/name`, or the name.
    pub fn called(&self) -> String {
        called(self.namespace.as_deref(), &self.name)
    }
}

/// `namespace/name`, or the name.
pub fn called(namespace: Option<&str>, name: &str) -> String {
    namespace.map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"))
}

/// A condition of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// `Ready`, `MemoryPressure`, …
    pub kind: String,
    /// `True`, `False`, `Unknown`.
    pub status: String,
    /// Why, in a word.
    pub reason: Option<String>,
    /// Why, in a sentence.
    pub message: Option<String>,
    /// Since when.
    pub since: Option<WallTime>,
}

/// What a case file has of the cluster.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    /// Whether there is anything of a cluster in the case file.
    pub present: bool,
    /// The kinds of which there is a list, an empty one perhaps.
    pub kinds: BTreeSet<Kind>,
    /// The kinds of which a list could not be read to its end.
    pub partly: BTreeSet<Kind>,
    /// Pods, in order of namespace and name; and so are all others.
    pub pods: Vec<Pod>,
    /// Nodes.
    pub nodes: Vec<Node>,
    /// Events, in the order of time.
    pub events: Vec<Event>,
    /// Deployments, replica sets, stateful sets and daemon sets.
    pub workloads: Vec<Workload>,
    /// Jobs.
    pub jobs: Vec<Job>,
    /// Services.
    pub services: Vec<Service>,
    /// Endpoint slices.
    pub slices: Vec<Slice>,
    /// Claims of volumes.
    pub claims: Vec<Claim>,
    /// Autoscalers.
    pub autoscalers: Vec<Autoscaler>,
    /// Applications of Argo CD.
    pub applications: Vec<Application>,
    /// Whether there is a list of changes.
    pub has_changes: bool,
    /// What changed in the window, in the order of time.
    pub changes: Vec<Change>,
    /// What could not be read, and why; safe to show.
    pub unread: Unread,
    /// The entries in which objects stand.
    pub(crate) entries: Vec<EntryPath>,
    pods_by_uid: BTreeMap<String, usize>,
    pods_by_name: BTreeMap<String, usize>,
    pods_by_node: BTreeMap<String, Vec<usize>>,
    workloads_by_name: BTreeMap<(Kind, String), usize>,
}

impl Cluster {
    /// There is one, and nobody has looked at it.
    pub(crate) fn unread(why: &str) -> Self {
        Self { present: true, unread: vec![(BELOW.to_owned(), why.to_owned())], ..Self::default() }
    }

    /// Whether there is one and its lists were looked at.
    pub(crate) fn is_read(&self) -> bool {
        self.present && !self.kinds.is_empty()
    }

    /// Why nothing can be said of a kind; `None`: all of it is here.
    pub fn lacks(&self, kind: Kind) -> Option<String> {
        if !self.present {
            return Some(NO_EVIDENCE.to_owned());
        }
        if self.partly.contains(&kind) {
            return Some(format!("cluster: not all {} objects could be read", kind.name()));
        }
        if self.kinds.contains(&kind) {
            return None;
        }
        // Where a whole directory was not looked at, that is why.
        let whole = self.unread.iter().find(|(what, _)| what == BELOW).map(|(_, why)| why.clone());
        Some(whole.unwrap_or_else(|| format!("cluster: there is no list of {} objects", kind.name())))
    }

    /// A pod by its uid.
    pub fn pod_of_uid(&self, uid: &str) -> Option<&Pod> {
        self.pods_by_uid.get(uid).and_then(|n| self.pods.get(*n))
    }

    /// A pod by `namespace/name`.
    pub fn pod_named(&self, name: &str) -> Option<&Pod> {
        self.pods_by_name.get(name).and_then(|n| self.pods.get(*n))
    }

    /// The pods of a node.
    pub fn pods_on(&self, node: &str) -> impl Iterator<Item = &Pod> {
        self.pods_by_node.get(node).into_iter().flatten().filter_map(|n| self.pods.get(*n))
    }

    /// A workload by its kind and `namespace/name`.
    pub fn workload(&self, kind: Kind, name: &str) -> Option<&Workload> {
        self.workloads_by_name.get(&(kind, name.to_owned())).and_then(|n| self.workloads.get(*n))
    }

    /// What a person would say that an object belongs to: the deployment rather than its replica set.
    pub fn top_owner(&self, meta: &Meta) -> Option<Owner> {
        let mut owner = meta.owner.clone()?;
        if owner.kind == "ReplicaSet" {
            let set = self.workload(Kind::ReplicaSet, &called(meta.namespace.as_deref(), &owner.name));
            if let Some(above) = set.and_then(|set| set.meta.owner.clone()) {
                owner = above;
            }
        }
        Some(owner)
    }

    /// What a finding about a pod is about: `Deployment shop/api`, or `Pod shop/hungry` where nothing controls it.
    pub fn subject(&self, pod: &Meta) -> String {
        match self.top_owner(pod) {
            Some(owner) => format!("{} {}", owner.kind, called(pod.namespace.as_deref(), &owner.name)),
            None => format!("Pod {}", pod.called()),
        }
    }

    /// What a pod that is gone belonged to: its controller named it after itself. `None` where no such controller is known.
    pub(crate) fn made_by(&self, pod: &About) -> Option<String> {
        let (name, _) = pod.name.rsplit_once('-')?;
        let name = called(pod.namespace.as_deref(), name);
        let kinds = [Kind::ReplicaSet, Kind::StatefulSet, Kind::DaemonSet];
        let workload = kinds.into_iter().find_map(|kind| self.workload(kind, &name))?;
        let of_itself = || format!("{} {name}", workload.kind.name());
        let above = workload.meta.owner.as_ref();
        Some(above.map_or_else(of_itself, |owner| {
            format!("{} {}", owner.kind, called(workload.meta.namespace.as_deref(), &owner.name))
        }))
    }

    /// The pods behind a service: those that its endpoint slices name, else those that its selector chooses.
    pub fn pods_of_service(&self, service: &Service) -> Vec<&Pod> {
        let namespace = service.meta.namespace.as_deref();
        let mut named: BTreeSet<String> = BTreeSet::new();
        for slice in self.slices_of(service) {
            let pods = slice.endpoints.iter().filter_map(|endpoint| endpoint.pod.as_deref());
            named.extend(pods.map(|pod| called(namespace, pod)));
        }
        if named.is_empty() {
            return self.pods.iter().filter(|pod| service.selects(pod)).collect();
        }
        named.iter().filter_map(|name| self.pod_named(name)).collect()
    }

    /// The endpoint slices of a service.
    pub fn slices_of<'c>(&'c self, service: &'c Service) -> impl Iterator<Item = &'c Slice> {
        self.slices.iter().filter(|slice| {
            slice.meta.namespace == service.meta.namespace && slice.service.as_deref() == Some(&*service.meta.name)
        })
    }

    /// The entry in which an object stands.
    pub(crate) fn entry_of(&self, meta: &Meta) -> Option<&EntryPath> {
        self.entries.get(meta.entry)
    }

    /// Evidence: what an object says.
    pub(crate) fn says(&self, meta: &Meta, at: Option<WallTime>, text: String) -> Evidence {
        let mut evidence = Evidence::new(EvidenceKind::State, None, text);
        evidence.entry = self.entry_of(meta).cloned();
        evidence.at = at;
        evidence
    }

    /// Puts everything in order, and finds it by name.
    pub(crate) fn index(&mut self) {
        let key = |meta: &Meta| (meta.namespace.clone(), meta.name.clone());
        self.pods.sort_by_cached_key(|pod| key(&pod.meta));
        self.nodes.sort_by_cached_key(|node| key(&node.meta));
        self.workloads.sort_by_cached_key(|workload| (key(&workload.meta), workload.kind));
        self.jobs.sort_by_cached_key(|job| key(&job.meta));
        self.services.sort_by_cached_key(|service| key(&service.meta));
        self.slices.sort_by_cached_key(|slice| key(&slice.meta));
        self.claims.sort_by_cached_key(|claim| key(&claim.meta));
        self.autoscalers.sort_by_cached_key(|scaler| key(&scaler.meta));
        self.applications.sort_by_cached_key(|application| key(&application.meta));
        self.events.sort_by_cached_key(|event| (event.last, key(&event.meta)));
        let uids = self.pods.iter().enumerate().filter_map(|(n, pod)| Some((pod.meta.uid.clone()?, n)));
        self.pods_by_uid = uids.collect();
        self.pods_by_name = self.pods.iter().enumerate().map(|(n, pod)| (pod.meta.called(), n)).collect();
        self.pods_by_node.clear();
        for (n, pod) in self.pods.iter().enumerate() {
            if let Some(node) = &pod.node {
                self.pods_by_node.entry(node.clone()).or_default().push(n);
            }
        }
        let workloads = self.workloads.iter().enumerate();
        self.workloads_by_name = workloads.map(|(n, of)| ((of.kind, of.meta.called()), n)).collect();
    }
}
