//! Whose the processes are that hold a GPU: name and cgroup of each, and from the cgroup its pod and container.
//!
//! NVML gives pids as the machine has them, and so has `/proc` below the host root. A process that `/proc` does not know
//! has gone while the driver still counts its context, which is worth seeing: its row stays, without a name.

use std::collections::HashMap;

use super::said::Process;
use crate::cgroups::Paths;
use crate::host::Host;
use crate::lossy;
use crate::pid::membership;

/// Names and cgroups are read again after so many ticks: a pid may have become another process.
const KEPT: u64 = 10;

/// Lines of `/proc/PID/cgroup`, and `comm`.
const MAX_FILE: usize = 64 << 10;
const MAX_COMM: usize = 64;
const MAX_PATH: usize = 4 << 10;

/// Who a process is. Texts are empty where that is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) comm: String,
    pub(super) cgroup: String,
    pub(super) pod_uid: String,
    pub(super) container: String,
}

/// Looks them up, and remembers them for a while.
pub(super) struct Owners {
    host: Host,
    paths: Option<Paths>,
    known: HashMap<u32, (u64, Owner)>,
    buf: Vec<u8>,
}

impl Owners {
    pub(super) fn new(host: &Host) -> Self {
        Self { host: host.clone(), paths: None, known: HashMap::new(), buf: Vec::new() }
    }

    /// Who this is, at this tick.
    pub(super) fn of(&mut self, process: &Process, tick: u64) -> &Owner {
        let fresh = self.known.get(&process.pid).is_some_and(|(at, _)| tick < at + KEPT);
        if !fresh {
            let owner = self.look(process.pid);
            self.known.insert(process.pid, (tick, owner));
        }
        &self.known.entry(process.pid).or_default().1
    }

    /// Forgets those that no GPU has any more.
    pub(super) fn forget(&mut self, tick: u64) {
        self.known.retain(|_, (at, _)| tick < *at + 2 * KEPT);
    }

    fn look(&mut self, pid: u32) -> Owner {
        let Self { host, paths, buf, .. } = self;
        let mut owner = Owner::default();
        let Ok(dir) = host.dir(format!("proc/{pid}")) else { return owner };
        if dir.read("comm", buf, MAX_COMM).is_ok() {
            owner.comm = lossy::capped(buf.trim_ascii_end(), MAX_COMM);
        }
        if dir.read("cgroup", buf, MAX_FILE).is_ok()
            && let Some(path) = membership::parse(buf)
        {
            let path = paths.get_or_insert_with(|| Paths::find(host)).of_machine(path);
            owner.cgroup = lossy::capped(&path, MAX_PATH);
            (owner.pod_uid, owner.container) = pod_of(&owner.cgroup).unwrap_or_default();
        }
        owner
    }
}

/// The pod's uid and the container's id out of a cgroup's path, as kubelet makes them: with systemd
/// `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid, _ for ->.slice/cri-containerd-<id>.scope`, else
/// `/kubepods/burstable/pod<uid>/<id>`.
pub(super) fn pod_of(cgroup: &str) -> Option<(String, String)> {
    let mut parts = cgroup.split('/').skip_while(|part| !part.starts_with("kubepods"));
    let uid = parts.find_map(|part| {
        let part = part.strip_suffix(".slice").unwrap_or(part);
        let uid = match part.rsplit_once("-pod") {
            Some((before, uid)) if before.starts_with("kubepods") => uid,
            _ => part.strip_prefix("pod")?,
        };
        let uid = uid.replace('_', "-");
        // A uid of a pod that the API server made, or the hash of a static one.
        let is_uid = uid.len() >= 32 && uid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        is_uid.then_some(uid)
    })?;
    let container = parts.next().unwrap_or_default();
    let container = container.strip_suffix(".scope").unwrap_or(container);
    let container = container.rsplit_once('-').map_or(container, |(_, id)| id);
    let is_id = container.len() == 64 && container.bytes().all(|b| b.is_ascii_hexdigit());
    Some((uid, if is_id { container.to_owned() } else { String::new() }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UID: &str = "0a1b2c3d-1111-2222-3333-444455556666";

    #[test]
    fn pods_and_containers_are_found_in_both_layouts() {
        let id = "ab".repeat(32);
        let (flat, short) = (UID.replace('-', "_"), "abc");
        for (path, expected) in [
            (
                format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{flat}.slice/cri-containerd-{id}.scope"
                ),
                Some((UID, id.as_str())),
            ),
            (format!("/kubepods.slice/kubepods-pod{flat}.slice/crio-{id}.scope/x"), Some((UID, id.as_str()))),
            (format!("/kubepods/besteffort/pod{UID}/{id}"), Some((UID, id.as_str()))),
            (format!("/kubepods/pod{}/{id}", "e".repeat(32)), Some((&*"e".repeat(32), id.as_str()))),
            (format!("/kubepods/pod{UID}"), Some((UID, ""))),
            (format!("/kubepods/pod{UID}/{short}"), Some((UID, ""))),
            ("/system.slice/kubelet.service".to_owned(), None),
            (format!("/user.slice/pod{UID}/{id}"), None),
            ("/kubepods/podsecurity/x".to_owned(), None),
        ] {
            let found = pod_of(&path);
            assert_eq!(found.as_ref().map(|(uid, id)| (uid.as_str(), id.as_str())), expected, "{path}");
        }
    }

    #[test]
    fn a_process_that_is_gone_keeps_its_row_without_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let proc = dir.path().join("proc/77");
        std::fs::create_dir_all(&proc).unwrap();
        std::fs::write(proc.join("comm"), "python3\n").unwrap();
        std::fs::write(proc.join("cgroup"), format!("0::/kubepods/pod{UID}/{}\n", "1".repeat(64))).unwrap();
        let mut owners = Owners::new(&Host::new(dir.path()).unwrap());
        let process = |pid| Process { pid, kind: 'C', memory: None };
        let owner = owners.of(&process(77), 0);
        assert_eq!((owner.comm.as_str(), owner.pod_uid.as_str()), ("python3", UID));
        assert_eq!(owners.of(&process(78), 0), &Owner::default());
        std::fs::remove_dir_all(&proc).unwrap();
        assert_eq!(owners.of(&process(77), KEPT - 1).comm, "python3");
        assert_eq!(owners.of(&process(77), KEPT), &Owner::default());
        owners.forget(5 * KEPT);
        assert!(owners.known.is_empty());
    }

    proptest! {
        #[test]
        fn no_path_makes_it_panic(path: String) {
            let _ = pod_of(&path);
        }
    }
}
