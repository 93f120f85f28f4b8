//! By what series of two machines are matched: not by what must differ between them (numbers of processes, uids, addresses, names
//! that were made up), but by what they are for.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use casefile_proto::sample::{MetricDef, MetricKind, SourceDef};

use super::changes::Machines;
use crate::gpu::pods::Pods;
use crate::past::pods::pod_of;
use crate::seriesset::{OneSeries, SeriesSet};

/// Of the agent itself, which is no part of what is looked at.
const SKIPPED_SOURCES: [&str; 1] = ["agent"];

/// Times, and numbers that say only how much was looked at.
const SKIPPED: [&str; 5] = [
    "node_time_seconds",
    "node_boot_time_seconds",
    "casefile_boot_clock_seconds_total",
    "casefile_processes_read",
    "casefile_cgroups",
];

/// What is compared of processes; all else of them is detail.
const OF_PROCESSES: [&str; 6] = [
    "casefile_process_cpu_seconds_total",
    "casefile_process_resident_bytes",
    "casefile_process_threads",
    "casefile_process_major_faults_total",
    "casefile_process_storage_read_bytes_total",
    "casefile_process_storage_written_bytes_total",
];
const PROCESS: &str = "casefile_process_";
const PROCESS_INFO: &str = "casefile_process_info";
const GPU_PROCESS: &str = "casefile_gpu_process_";

/// Labels of a GPU that are its own alone; `gpu` is its number.
const OF_ONE_GPU: [&str; 5] = ["UUID", "pci_bus_id", "device", "modelName", "mig_uuid"];

/// Mounts that are made for a pod and go with it.
const OF_PODS: [&str; 3] = ["/var/lib/kubelet/pods/", "/run/containerd/", "/var/lib/containers/"];

/// Whether a series is compared.
pub(super) fn wants(source: &SourceDef, metric: &MetricDef) -> bool {
    let name = metric.name.as_str();
    if name == PROCESS_INFO {
        return true;
    }
    let skipped = metric.kind == MetricKind::Info
        || SKIPPED_SOURCES.contains(&source.name.as_str())
        || SKIPPED.contains(&name)
        || name.starts_with(GPU_PROCESS)
        || (name.starts_with(PROCESS) && !OF_PROCESSES.contains(&name));
    !skipped
}

/// By what a series is matched.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its metric.
    pub metric: String,
    /// Labels, in order.
    pub labels: Vec<(String, String)>,
    /// Whether all series that have it are added up.
    pub together: bool,
}

/// What is known of a side by its names.
pub struct Names<'s> {
    /// Of each process its name.
    processes: HashMap<(&'s str, &'s str), &'s str>,
    pods: &'s Pods,
    node: &'s str,
    machines: Machines,
    unnamed: RefCell<BTreeSet<String>>,
}

impl<'s> Names<'s> {
    /// Of a side.
    pub fn of(set: &'s SeriesSet, pods: &'s Pods, node: &'s str, machines: Machines) -> Self {
        let infos = set.of(PROCESS_INFO);
        let named = infos.filter_map(|info| Some(((info.label("pid")?, info.label("start")?), info.label("comm")?)));
        Self { processes: named.collect(), pods, node, machines, unnamed: RefCell::default() }
    }

    /// Pods that have no name here.
    pub fn unnamed(&self) -> usize {
        self.unnamed.borrow().len()
    }

    /// By what a series is matched; `None`: it is not compared.
    pub fn key(&self, series: &OneSeries) -> Option<Key> {
        if series.metric.kind == MetricKind::Info {
            return None;
        }
        let metric = series.metric.name.as_str();
        let key = |labels: Vec<(&str, String)>, together| {
            let labels = labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            Some(Key { metric: metric.to_owned(), labels, together })
        };
        if metric.starts_with(PROCESS) {
            let comm = self.processes.get(&(series.label("pid")?, series.label("start")?))?;
            return key(vec![("comm", program(comm))], true);
        }
        if let Some(id) = series.label("id").filter(|id| id.starts_with('/')) {
            let mut labels = self.cgroup(id)?;
            labels.extend(series.named().filter(|(n, _)| *n != "id").map(|(n, value)| (n, value.to_owned())));
            return key(labels, true);
        }
        let of_gpu = series.label("UUID").is_some();
        let (mut labels, mut together) = (Vec::new(), false);
        for (name, value) in series.named() {
            match name {
                // What all CPUs do together; one of them is as good as another.
                "cpu" => together = true,
                name if of_gpu && OF_ONE_GPU.contains(&name) => {}
                // What a file system is on is called differently on every machine.
                "device" if metric.starts_with("node_filesystem_") => {}
                "mountpoint" if OF_PODS.iter().any(|below| value.starts_with(below)) => return None,
                "device" => {
                    let (named, made_up) = interface(value);
                    together |= made_up;
                    labels.push((name, named));
                }
                "fstype" => {}
                _ => labels.push((name, value.to_owned())),
            }
        }
        key(labels, together)
    }

    /// `namespace` and `pod` of the workload, or the path of a cgroup that is no pod's. A container's own cgroup is left out: its id
    /// is all that is known of it, and the pod's has what it used.
    fn cgroup(&self, id: &str) -> Option<Vec<(&'static str, String)>> {
        let Some((uid, container)) = pod_of(id) else { return Some(vec![("id", path(id))]) };
        if container.is_some() {
            return None;
        }
        let pod = self.pods.pod(&uid);
        let Some((namespace, name)) = pod.name.as_deref().and_then(|name| name.split_once('/')) else {
            self.unnamed.borrow_mut().insert(uid);
            return None;
        };
        let name = match self.machines {
            Machines::Same => name.to_owned(),
            Machines::Two => workload(name, self.node),
        };
        Some(vec![("namespace", namespace.to_owned()), ("pod", name)])
    }
}

/// `kworker/3:1-events` is a kworker, `ksoftirqd/0` a ksoftirqd.
fn program(comm: &str) -> String {
    let base = comm.split_once('/').map_or(comm, |(base, rest)| {
        let of_kernel = base == "kworker" || rest.bytes().all(|b| b.is_ascii_digit());
        if of_kernel && !base.is_empty() { base } else { comm }
    });
    base.to_owned()
}

/// Letters of which Kubernetes makes up the ends of names (`k8s.io/apimachinery/pkg/util/rand`): no vowels, so that no word is one.
const MADE_UP: &str = "bcdfghjklmnpqrstvwxz2456789";

/// The workload of a pod: its name without what was made up for it, and without the node of a static one.
fn workload(pod: &str, node: &str) -> String {
    if let Some(name) = pod.strip_suffix(node).and_then(|name| name.strip_suffix('-')) {
        return name.to_owned();
    }
    let made_up = |end: &str, lengths: std::ops::RangeInclusive<usize>| {
        lengths.contains(&end.len()) && end.chars().all(|c| MADE_UP.contains(c))
    };
    // `name-<hash of the replica set>-<pod>`, or `name-<pod>`.
    let Some((name, _)) = pod.rsplit_once('-').filter(|(_, end)| made_up(end, 5..=5)) else {
        return pod.to_owned();
    };
    let name = name.rsplit_once('-').filter(|(_, hash)| made_up(hash, 6..=10)).map_or(name, |(name, _)| name);
    name.to_owned()
}

/// An interface, or what those of its kind are called that a container network makes up, and whether it is such a one.
fn interface(device: &str) -> (String, bool) {
    const MADE: [&str; 6] = ["veth", "cali", "lxc", "eni", "tap", "vnet"];
    let made = MADE.iter().find(|prefix| {
        device
            .strip_prefix(**prefix)
            .is_some_and(|rest| rest.len() >= 3 && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
    });
    made.map_or_else(|| (device.to_owned(), false), |prefix| (format!("{prefix}*"), true))
}

/// The path of a cgroup with `*` for what was made up: long hexadecimal numbers, and numbers of sessions and runs.
fn path(id: &str) -> String {
    let part = |part: &str| {
        let (stem, kind) = part.rsplit_once('.').map_or((part, ""), |(stem, kind)| (stem, kind));
        let pieces: Vec<&str> = stem
            .split('-')
            .map(|piece| {
                let long = piece.len() >= 12 && piece.bytes().all(|b| b.is_ascii_hexdigit());
                let number = kind == "scope" && !piece.is_empty() && piece.bytes().all(|b| b.is_ascii_digit());
                if long || number { "*" } else { piece }
            })
            .collect();
        let stem = pieces.join("-");
        if kind.is_empty() { stem } else { format!("{stem}.{kind}") }
    };
    id.split('/').map(part).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_up_is_no_part_of_a_name() {
        for (pod, expected) in [
            ("api-7d9f8b6c5-x2x9k", "api"),
            ("kube-proxy-x7k2p", "kube-proxy"),
            ("kube-apiserver-n7", "kube-apiserver"),
            ("train-0", "train-0"),
            ("cache-redis", "cache-redis"),
            ("batch-mpi-xzvqw", "batch-mpi"),
        ] {
            assert_eq!(workload(pod, "n7"), expected, "{pod}");
        }
        for (comm, expected) in [
            ("kworker/3:1-events", "kworker"),
            ("ksoftirqd/0", "ksoftirqd"),
            ("a/b", "a/b"),
            ("/x", "/x"),
            ("nginx", "nginx"),
        ] {
            assert_eq!(program(comm), expected, "{comm}");
        }
        for (device, expected) in [
            ("eth0", ("eth0", false)),
            ("veth1f2e3d4c", ("veth*", true)),
            ("cali0a1b2c3d4e5", ("cali*", true)),
            ("eno1", ("eno1", false)),
        ] {
            assert_eq!(interface(device), (expected.0.to_owned(), expected.1), "{device}");
        }
        assert_eq!(path("/user.slice/user-0.slice/session-12.scope"), "/user.slice/user-0.slice/session-*.scope");
        assert_eq!(path("/process_api/20a13da22e0151e8bba8d8c84f954012"), "/process_api/*");
        assert_eq!(path("/system.slice/nginx.service"), "/system.slice/nginx.service");
    }
}
