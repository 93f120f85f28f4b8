//! What is asked in the cluster's words becomes nodes and names of logs: which pods it was true of in the window, those that are
//! gone included, and where they ran.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use casefile_proto::ids::NodeName;
use casefile_proto::scope::{Chosen, ClusterSelection, Selection};
use casefile_proto::time::{WallTime, Window};
use serde_json::Value;

use super::kinds::Kind;
use super::labels::Selector;
use super::meta::{Behind, Labels, Meta, Shared};
use super::record::log::Log;
use super::record::snapshot::{Snapshot, Wanted};
use super::recorder::Recorder;

/// Kinds that choosing looks at.
const LOOKED_AT: [&str; 6] = ["nodes", "pods", "replicasets", "jobs", "services", "endpointslices"];

/// What people call the kinds that own pods, and what objects call them.
const WORKLOADS: &[(&[&str], &str, Option<&str>)] = &[
    (&["deployment", "deployments", "deploy"], "Deployment", Some("deployments")),
    (&["statefulset", "statefulsets", "sts"], "StatefulSet", Some("statefulsets")),
    (&["daemonset", "daemonsets", "ds"], "DaemonSet", Some("daemonsets")),
    (&["job", "jobs"], "Job", Some("jobs")),
    (&["replicaset", "replicasets", "rs"], "ReplicaSet", Some("replicasets")),
    (&["cronjob", "cronjobs", "cj"], "CronJob", None),
];

/// Why nothing was chosen.
#[derive(Debug, thiserror::Error)]
pub enum NotChosen {
    /// What was asked makes no sense.
    #[error("{0}")]
    Malformed(String),
    /// It makes sense, and there is no such thing.
    #[error("{0}")]
    Nothing(String),
    /// Nobody can say what it would be.
    #[error(
        "which pods these are cannot be told: {0}. Name nodes (--node), namespaces (-n) or pods (--pod): logs have those in \
         their paths"
    )]
    Unknown(&'static str),
    /// The record of the cluster could not be read.
    #[error("read the record of the cluster")]
    Unread(#[from] io::Error),
}

/// What it became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Became {
    /// The nodes; empty: all, because only names of logs were asked for and nobody knows where those are.
    pub nodes: Vec<NodeName>,
    /// The logs.
    pub select: Selection,
    /// How, for whoever reads it later.
    pub chosen: Chosen,
}

/// Finds out what was asked for. Blocks: it reads the window out of the log. `recorder` is `None` where there is no cluster.
pub fn choose(recorder: Option<&Recorder>, asked: &ClusterSelection, window: Window) -> Result<Became, NotChosen> {
    let words = Words::of(asked)?;
    let known = match recorder {
        None => Err("this collector belongs to no cluster (its configuration has no [cluster])"),
        Some(recorder) => Known::of(recorder, window)?.ok_or("what the cluster has was not listed yet"),
    };
    match known {
        Ok(known) => words.among(&known).made(),
        // Names alone are in the paths of logs, on every node.
        Err(why) if asked.is_names() => Ok(by_names(asked, why)),
        Err(why) => Err(NotChosen::Unknown(why)),
    }
}

fn by_names(asked: &ClusterSelection, why: &str) -> Became {
    let select = Selection { namespaces: asked.namespaces.clone(), pods: asked.pods.clone(), units: Vec::new() };
    let notes = vec![format!("every node was asked for logs of these names: {why}")];
    Became { nodes: Vec::new(), select, chosen: Chosen { asked: asked.clone(), pods: 0, nodes: 0, notes } }
}

/// `deployment/api`: the kind, as objects say it, and the name.
fn workload(text: &str) -> Result<(&'static str, Option<&'static str>, &str), NotChosen> {
    let kinds = "deployment, statefulset, daemonset, job, cronjob or replicaset";
    let wrong = || NotChosen::Malformed(format!("{text:?} is no workload: say KIND/NAME, where KIND is {kinds}"));
    let (kind, name) = text.split_once('/').filter(|(_, name)| !name.is_empty()).ok_or_else(wrong)?;
    // Also as kubectl prints it: deployment.apps/api.
    let kind = kind.split('.').next().unwrap_or(kind).to_ascii_lowercase();
    let found = WORKLOADS.iter().find(|(names, ..)| names.contains(&kind.as_str())).ok_or_else(wrong)?;
    Ok((found.1, found.2, name))
}

type Key = (Box<str>, Box<str>);

/// What there was in the window.
struct Known {
    /// By namespace and name; of one name in the window the last that was seen.
    metas: BTreeMap<&'static str, BTreeMap<Key, Meta>>,
    /// Pods that slices of endpoints named at any time in the window: namespace, service, pod.
    behind: BTreeSet<(Box<str>, Box<str>, Box<str>)>,
    /// Names of workloads that are there, by kind in paths.
    workloads: BTreeMap<&'static str, BTreeSet<Key>>,
}

impl Known {
    /// `None`: pods were never listed.
    fn of(recorder: &Recorder, window: Window) -> Result<Option<Self>, NotChosen> {
        let taken = recorder.with_log(|log, now| Self::now(log, window, now));
        let Some((mut known, snapshot)) = taken.flatten() else { return Ok(None) };
        known.then(snapshot)?;
        Ok(Some(known))
    }

    /// What the log has in memory: what there is now and was there before the window's end; and what it takes to know the rest.
    fn now(log: &Log, window: Window, now: WallTime) -> Option<(Self, Snapshot)> {
        let mut known = Self { metas: BTreeMap::new(), behind: BTreeSet::new(), workloads: BTreeMap::new() };
        for kind in looked_at() {
            let all = log.tracked(kind).iter().filter(|(.., slot)| slot.at < window.until());
            let metas = all.filter_map(|(space, name, slot)| Some((key(space, name), slot.meta.as_deref()?.clone())));
            known.metas.insert(kind.plural, metas.collect());
        }
        for kind in WORKLOADS.iter().filter_map(|(.., plural)| Kind::named((*plural)?)) {
            let all = log.tracked(kind).iter().map(|(space, name, _)| key(space, name));
            known.workloads.insert(kind.plural, all.collect());
        }
        let listed = Kind::named("pods").is_some_and(|pods| log.tracked(pods).contact.followed().is_some());
        listed.then(|| (known, log.snapshot(window, Wanted::default(), now)))
    }

    /// Adds what there was in the window and is gone or another one by now. Blocks: it reads the window.
    fn then(&mut self, mut snapshot: Snapshot) -> Result<(), NotChosen> {
        let known = self;
        let mut shared = Shared::default();
        let mut seen: Vec<(&'static Kind, Key, Meta)> = Vec::new();
        let mut see = |kind: &'static Kind, key: Key, body: &[u8]| {
            if let Ok(object) = serde_json::from_slice::<Value>(body)
                && let Some(meta) = Meta::of(kind, &object, &mut shared)
            {
                seen.push((kind, key, meta));
            }
        };
        snapshot.scan(|changed| {
            if LOOKED_AT.contains(&changed.kind.plural) {
                let key = key(&changed.head.namespace, &changed.head.name);
                if let Some(before) = changed.before {
                    see(changed.kind, key.clone(), before);
                }
                see(changed.kind, key, changed.body);
            }
            Ok(())
        })?;
        // What changed after the window is what it was before that.
        for kind in looked_at() {
            let objects = std::mem::take(&mut snapshot.kinds[kind.position()].objects);
            for (space, names) in objects {
                for (name, pick) in names {
                    let key = (space.clone(), Box::from(&*name));
                    if !known.metas.get(kind.plural).is_some_and(|metas| metas.contains_key(&key)) {
                        see(kind, key, &snapshot.read(&pick)?);
                    }
                }
            }
        }
        let live: Vec<_> = known.metas.get("endpointslices").into_iter().flatten().collect();
        let live: Vec<_> = live.into_iter().map(|(key, meta)| (key.clone(), meta.clone())).collect();
        let slices = live.iter().map(|(key, meta)| (key, meta));
        let seen_slices =
            seen.iter().filter(|(kind, ..)| kind.plural == "endpointslices").map(|(_, key, meta)| (key, meta));
        for ((space, _), meta) in slices.chain(seen_slices) {
            if let Some(Behind::Slice { service, pods }) = meta.behind.as_deref() {
                known.behind.extend(pods.iter().map(|pod| (space.clone(), service.clone(), pod.clone())));
            }
        }
        for (kind, key, meta) in seen {
            // The newest of one name was seen last; what is known of now counts more.
            known.metas.entry(kind.plural).or_default().entry(key).or_insert(meta);
        }
        Ok(())
    }

    fn all(&self, plural: &str) -> impl Iterator<Item = (&Key, &Meta)> {
        self.metas.get(plural).into_iter().flatten()
    }

    /// Whom an object belongs to, and whom that belongs to: as kind and name.
    fn owners<'k>(&'k self, space: &str, meta: &'k Meta) -> Vec<(&'k str, &'k str)> {
        let mut owners = Vec::new();
        let mut next = meta.owner.as_deref();
        while let Some(owner) = next {
            owners.push((&*owner.kind, &*owner.name));
            let plural = match &*owner.kind {
                "ReplicaSet" => "replicasets",
                "Job" => "jobs",
                _ => break,
            };
            if owners.len() > 4 {
                break;
            }
            let above = self.metas.get(plural).and_then(|metas| metas.get(&key(space, &owner.name)));
            next = above.and_then(|meta| meta.owner.as_deref());
        }
        owners
    }
}

fn key(space: &str, name: &str) -> Key {
    (space.into(), name.into())
}

fn looked_at() -> impl Iterator<Item = &'static Kind> {
    LOOKED_AT.iter().filter_map(|plural| Kind::named(plural))
}

/// What was asked, understood.
struct Words<'c> {
    asked: &'c ClusterSelection,
    pods: Selector,
    nodes: Selector,
    workloads: Vec<(&'static str, Option<&'static str>, &'c str)>,
}

impl<'c> Words<'c> {
    fn of(asked: &'c ClusterSelection) -> Result<Self, NotChosen> {
        Ok(Self {
            asked,
            pods: Selector::parse(&asked.selector).map_err(NotChosen::Malformed)?,
            nodes: Selector::parse(&asked.node_selector).map_err(NotChosen::Malformed)?,
            workloads: asked.workloads.iter().map(|text| workload(text)).collect::<Result<_, _>>()?,
        })
    }

    fn among(self, known: &'c Known) -> Choice<'c> {
        let Self { asked, pods, nodes, workloads } = self;
        Choice { known, asked, pods, nodes, workloads }
    }
}

struct Choice<'c> {
    known: &'c Known,
    asked: &'c ClusterSelection,
    pods: Selector,
    nodes: Selector,
    workloads: Vec<(&'static str, Option<&'static str>, &'c str)>,
}

impl Choice<'_> {
    fn made(&self) -> Result<Became, NotChosen> {
        let on = self.nodes_by_labels()?;
        if self.asked.node_selector.is_empty() || self.says_of_pods() {
            return self.by_pods(&on);
        }
        let nodes: Vec<_> = on.iter().filter_map(|name| name.parse().ok()).collect();
        let chosen = Chosen { asked: self.asked.clone(), pods: 0, nodes: nodes.len() as u64, notes: Vec::new() };
        Ok(Became { nodes, select: Selection::default(), chosen })
    }

    fn says_of_pods(&self) -> bool {
        !ClusterSelection { node_selector: String::new(), ..self.asked.clone() }.is_empty()
    }

    fn nodes_by_labels(&self) -> Result<BTreeSet<&str>, NotChosen> {
        let nodes = self.known.all("nodes").filter(|(_, meta)| self.nodes.matches(&meta.labels));
        let nodes: BTreeSet<_> = nodes.map(|((_, name), _)| &**name).collect();
        if nodes.is_empty() && !self.nodes.is_empty() {
            let text = format!("no node had the labels {:?} in the window", self.asked.node_selector);
            return Err(NotChosen::Nothing(text));
        }
        Ok(nodes)
    }

    fn by_pods(&self, on: &BTreeSet<&str>) -> Result<Became, NotChosen> {
        let behind = self.behind_services()?;
        let is_list = !(self.asked.services.is_empty() && self.workloads.is_empty() && self.asked.pods.is_empty());
        let within = |space: &str| self.asked.namespaces.is_empty() || self.asked.namespaces.iter().any(|n| n == space);
        let mut chosen: BTreeMap<&Key, &Meta> = BTreeMap::new();
        for (key, meta) in self.known.all("pods") {
            let (space, name) = (&*key.0, &*key.1);
            if !within(space) || !self.pods.matches(&meta.labels) {
                continue;
            }
            let in_list = || {
                let owners = self.known.owners(space, meta);
                self.asked.pods.iter().any(|pod| pod == name)
                    || behind.contains(key)
                    || self.workloads.iter().any(|(kind, _, name)| owners.contains(&(*kind, *name)))
            };
            let is_on = self.nodes.is_empty() || meta.node.as_deref().is_some_and(|node| on.contains(node));
            if (!is_list || in_list()) && is_on {
                chosen.insert(key, meta);
            }
        }
        if chosen.is_empty() {
            return Err(NotChosen::Nothing(self.why_nothing()));
        }
        self.one_namespace(&chosen)?;
        let nodes: BTreeSet<NodeName> = chosen.values().filter_map(|meta| meta.node.as_deref()?.parse().ok()).collect();
        let mut notes = Vec::new();
        let nowhere = chosen.values().filter(|meta| meta.node.is_none()).count();
        if nowhere > 0 {
            notes.push(format!("{nowhere} of these pods ran on no node in the window"));
        }
        if nodes.is_empty() {
            return Err(NotChosen::Nothing("none of these pods ran on any node in the window".to_owned()));
        }
        let spaces: BTreeSet<_> = chosen.keys().map(|(space, _)| space.to_string()).collect();
        let mut names: BTreeSet<_> = chosen.keys().map(|(_, name)| name.to_string()).collect();
        let only_namespaces = *self.asked
            == ClusterSelection { namespaces: self.asked.namespaces.clone(), ..ClusterSelection::default() };
        if only_namespaces {
            // The whole namespace: also what the record of the cluster did not see.
            names.clear();
        } else if names.len() > Selection::MAX_NAMES {
            notes.push(format!("logs of whole namespaces were taken: {} pods are more than can be named", names.len()));
            names.clear();
        }
        let mut namespaces: Vec<_> = spaces.into_iter().collect();
        if namespaces.len() > Selection::MAX_NAMES {
            notes.push(format!("logs of all namespaces were taken: {} are more than can be named", namespaces.len()));
            namespaces.clear();
        }
        let select = Selection { namespaces, pods: names.into_iter().collect(), units: Vec::new() };
        let (pods, count) = (chosen.len() as u64, nodes.len() as u64);
        let chosen = Chosen { asked: self.asked.clone(), pods, nodes: count, notes };
        Ok(Became { nodes: nodes.into_iter().collect(), select, chosen })
    }

    /// The pods behind the services that were named: those that slices of endpoints name, and where there are none, those that
    /// the service would choose.
    fn behind_services(&self) -> Result<BTreeSet<Key>, NotChosen> {
        let mut behind = BTreeSet::new();
        for service in &self.asked.services {
            let within =
                |space: &str| self.asked.namespaces.is_empty() || self.asked.namespaces.iter().any(|n| n == space);
            let found = self.known.all("services").filter(|((space, name), _)| **name == **service && within(space));
            let found: Vec<_> = found.collect();
            match &found[..] {
                [] => return Err(NotChosen::Nothing(format!("there was no service {}", self.named(service)))),
                [_] => {}
                many => return Err(several("service", service, many.iter().map(|((space, _), _)| &**space))),
            }
            let before = behind.len();
            for ((space, name), meta) in found {
                let targets = self.known.behind.iter().filter(|(s, of, _)| s == space && of == name);
                behind.extend(targets.map(|(space, _, pod)| (space.clone(), pod.clone())));
                if behind.len() > before {
                    continue;
                }
                let selector: &Labels = match meta.behind.as_deref() {
                    Some(Behind::Selector(labels)) if !labels.is_empty() => labels,
                    _ => {
                        let text = format!(
                            "the service {} has no endpoints, and chooses no pods by labels: nothing is behind it",
                            self.named(service)
                        );
                        return Err(NotChosen::Nothing(text));
                    }
                };
                let selector = Selector::all(selector);
                let pods = self.known.all("pods").filter(|((s, _), meta)| s == space && selector.matches(&meta.labels));
                behind.extend(pods.map(|(key, _)| key.clone()));
                if behind.len() == before {
                    let text = format!(
                        "the service {} has no endpoints, and no pod had its labels in the window",
                        self.named(service)
                    );
                    return Err(NotChosen::Nothing(text));
                }
            }
        }
        Ok(behind)
    }

    /// A workload that is named without its namespace must be one.
    fn one_namespace(&self, chosen: &BTreeMap<&Key, &Meta>) -> Result<(), NotChosen> {
        if !self.asked.namespaces.is_empty() {
            return Ok(());
        }
        for (kind, _, name) in &self.workloads {
            let owned =
                chosen.iter().filter(|((space, _), meta)| self.known.owners(space, meta).contains(&(*kind, *name)));
            let spaces: BTreeSet<_> = owned.map(|((space, _), _)| &**space).collect();
            if spaces.len() > 1 {
                return Err(several(kind, name, spaces.into_iter()));
            }
        }
        Ok(())
    }

    fn why_nothing(&self) -> String {
        for (kind, plural, name) in &self.workloads {
            let there = plural.and_then(|plural| self.known.workloads.get(plural));
            if there.is_some_and(|all| !all.iter().any(|(_, known)| **known == **name)) {
                return format!("there is no {kind} {}", self.named(name));
            }
        }
        format!("no pod was so in the window: {}", self.asked)
    }

    fn named(&self, name: &str) -> String {
        match &self.asked.namespaces[..] {
            [] => name.to_owned(),
            spaces => format!("{name} in {}", spaces.join(", ")),
        }
    }
}

fn several<'s>(what: &str, name: &str, spaces: impl Iterator<Item = &'s str>) -> NotChosen {
    let spaces = spaces.collect::<Vec<_>>().join(", ");
    NotChosen::Malformed(format!("there is a {what} {name} in several namespaces ({spaces}): say which one with -n"))
}

#[cfg(test)]
#[path = "select_tests.rs"]
mod tests;
