//! The objects of the API server, every change of them with its version, and how they are listed in pages.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What every cluster has: group and version, plural, kind.
const KINDS: &[(&str, &str, &str)] = &[
    ("v1", "nodes", "Node"),
    ("v1", "namespaces", "Namespace"),
    ("v1", "pods", "Pod"),
    ("v1", "events", "Event"),
    ("v1", "services", "Service"),
    ("v1", "configmaps", "ConfigMap"),
    ("v1", "persistentvolumes", "PersistentVolume"),
    ("v1", "persistentvolumeclaims", "PersistentVolumeClaim"),
    ("apps/v1", "deployments", "Deployment"),
    ("apps/v1", "replicasets", "ReplicaSet"),
    ("apps/v1", "statefulsets", "StatefulSet"),
    ("apps/v1", "daemonsets", "DaemonSet"),
    ("batch/v1", "jobs", "Job"),
    ("discovery.k8s.io/v1", "endpointslices", "EndpointSlice"),
    ("networking.k8s.io/v1", "ingresses", "Ingress"),
    ("storage.k8s.io/v1", "storageclasses", "StorageClass"),
    ("autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler"),
    ("coordination.k8s.io/v1", "leases", "Lease"),
];

/// Namespace (empty: none) and name.
type Key = (String, String);

/// One kind.
#[derive(Debug, Default)]
struct Kind {
    version: String,
    kind: String,
    objects: BTreeMap<Key, Value>,
}

/// One change.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) plural: String,
    pub(crate) namespace: String,
    /// `ADDED`, `MODIFIED`, `DELETED`.
    pub(crate) change: &'static str,
    pub(crate) object: Value,
}

/// Why something is not done: a status of HTTP, a reason, a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct No(pub(crate) u16, pub(crate) &'static str, pub(crate) String);

/// Everything.
#[derive(Debug)]
pub struct Objects {
    version: u64,
    /// Changes up to this one are forgotten.
    compacted: u64,
    kinds: BTreeMap<String, Kind>,
    history: Vec<Change>,
    uids: u64,
}

/// What a page begins behind, and of which version it is: what a token to continue says.
fn token(version: u64, key: &Key) -> String {
    format!("{version}|{}|{}", key.0, key.1)
}

impl Objects {
    pub(crate) fn new() -> Self {
        let mut objects = Self { version: 1000, compacted: 0, kinds: BTreeMap::new(), history: Vec::new(), uids: 0 };
        for (version, plural, kind) in KINDS {
            objects.serve(version, plural, kind);
        }
        objects
    }

    pub(crate) fn serve(&mut self, version: &str, plural: &str, kind: &str) {
        let (version, kind) = (version.to_owned(), kind.to_owned());
        self.kinds.entry(plural.to_owned()).or_insert(Kind { version, kind, objects: BTreeMap::new() });
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn compact(&mut self) {
        self.compacted = self.version;
        self.history.clear();
    }

    /// Whether there is such a kind at this group and version.
    pub(crate) fn has(&self, version: &str, plural: &str) -> bool {
        self.kinds.get(plural).is_some_and(|k| k.version == version)
    }

    pub(crate) fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<&Value> {
        self.kinds.get(plural)?.objects.get(&(namespace.to_owned(), name.to_owned()))
    }

    pub(crate) fn put(&mut self, plural: &str, mut object: Value) -> u64 {
        self.version += 1;
        let text = |object: &Value, field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let key = (text(&object, "namespace"), text(&object, "name"));
        let kind = self.kinds.get_mut(plural).unwrap_or_else(|| panic!("{plural} is not served"));
        object["apiVersion"] = json!(kind.version);
        object["kind"] = json!(kind.kind);
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if object["metadata"]["uid"].is_null() {
            self.uids += 1;
            object["metadata"]["uid"] = json!(format!("00000000-0000-4000-8000-{:012}", self.uids));
        }
        let before = kind.objects.get(&key);
        if !KINDS.iter().any(|(_, known, _)| *known == plural) {
            // As every custom resource with a status has it: its specifications are counted.
            let count = |o: &Value| o["metadata"]["generation"].as_u64().unwrap_or(1);
            let same = before.is_some_and(|before| before["spec"] == object["spec"]);
            let counted = before.map_or(1, |before| if same { count(before) } else { count(before) + 1 });
            object["metadata"]["generation"] = json!(counted);
            if object["metadata"]["creationTimestamp"].is_null() {
                object["metadata"]["creationTimestamp"] = json!(crate::now().to_seconds_text());
            }
        }
        let change = if before.is_some() { "MODIFIED" } else { "ADDED" };
        kind.objects.insert(key.clone(), object.clone());
        let (version, plural, namespace) = (self.version, plural.to_owned(), key.0);
        self.history.push(Change { version, plural, namespace, change, object });
        version
    }

    pub(crate) fn delete(&mut self, plural: &str, namespace: &str, name: &str) -> bool {
        let Some(kind) = self.kinds.get_mut(plural) else { return false };
        let Some(mut object) = kind.objects.remove(&(namespace.to_owned(), name.to_owned())) else { return false };
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let (version, plural, namespace) = (self.version, plural.to_owned(), namespace.to_owned());
        self.history.push(Change { version, plural, namespace, change: "DELETED", object });
        true
    }

    /// A page of at most so many objects (0: all) behind a token to continue.
    pub(crate) fn list(&self, plural: &str, namespace: &str, limit: usize, from: &str) -> Result<Value, No> {
        let Some(kind) = self.kinds.get(plural) else { return Err(not_found(plural)) };
        let (version, behind) = match from.splitn(3, '|').collect::<Vec<_>>()[..] {
            [""] | [] => (self.version, None),
            [version, namespace, name] => {
                let version = version.parse().unwrap_or(0);
                if version < self.compacted {
                    let text = "The provided continue parameter is too old";
                    return Err(No(410, "Expired", text.to_owned()));
                }
                (version, Some((namespace.to_owned(), name.to_owned())))
            }
            _ => return Err(No(400, "BadRequest", "invalid continue token: continue key is not valid".to_owned())),
        };
        let within = |key: &&Key| namespace.is_empty() || key.0 == namespace;
        let mut keys = kind.objects.keys().filter(within).filter(|key| behind.as_ref().is_none_or(|b| *key > b));
        let page: Vec<_> = keys.by_ref().take(if limit == 0 { usize::MAX } else { limit }).collect();
        let more = keys.count();
        // As the real one: items of a list do not say what they are.
        let items = page.iter().map(|key| {
            let mut object = kind.objects[*key].clone();
            if let Some(fields) = object.as_object_mut() {
                fields.remove("apiVersion");
                fields.remove("kind");
            }
            object
        });
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if let (true, Some(last)) = (more > 0, page.last()) {
            metadata["continue"] = json!(token(version, last));
            metadata["remainingItemCount"] = json!(more);
        }
        let (list, api) = (format!("{}List", kind.kind), &kind.version);
        Ok(json!({"kind": list, "apiVersion": api, "metadata": metadata, "items": items.collect::<Vec<_>>()}))
    }

    /// Every change of a kind behind this version; `Err`: the version is gone.
    pub(crate) fn since(&self, plural: &str, namespace: &str, version: u64) -> Result<Vec<Change>, No> {
        if version < self.compacted {
            let text = format!("too old resource version: {version} ({})", self.compacted);
            return Err(No(410, "Expired", text));
        }
        let wanted = |c: &&Change| {
            c.version > version && c.plural == plural && (namespace.is_empty() || c.namespace == namespace)
        };
        Ok(self.history.iter().filter(wanted).cloned().collect())
    }

    /// A change that a client wants: a merge patch (`patch`) or a whole object. `status`: only that part of it.
    pub(crate) fn write(
        &mut self,
        plural: &str,
        namespace: &str,
        name: &str,
        sent: &Value,
        patch: bool,
        status: bool,
    ) -> Result<Value, No> {
        let Some(now) = self.get(plural, namespace, name) else { return Err(not_found(name)) };
        let mut next = now.clone();
        let said = &sent["metadata"]["resourceVersion"];
        if !said.is_null() && *said != now["metadata"]["resourceVersion"] {
            let text = format!("Operation cannot be fulfilled on {plural} {name:?}: the object has been modified");
            return Err(No(409, "Conflict", text));
        }
        match (patch, status) {
            (true, true) => merge(&mut next["status"], &sent["status"]),
            (false, true) => next["status"] = sent["status"].clone(),
            (true, false) => merge(&mut next, sent),
            (false, false) => next = sent.clone(),
        }
        self.put(plural, next);
        self.get(plural, namespace, name).cloned().ok_or_else(|| not_found(name))
    }
}

fn not_found(name: &str) -> No {
    No(404, "NotFound", format!("{name:?} not found"))
}

/// A merge patch (RFC 7386).
fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            if let Some(object) = target.as_object_mut() {
                object.remove(name);
            }
        } else {
            merge(&mut target[name], value);
        }
    }
}
