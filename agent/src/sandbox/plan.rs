//! What each of our processes may do, derived from the configuration: data, applied elsewhere.

use std::path::{Path, PathBuf};

use rustix::thread::CapabilitySet;

use crate::config::Config;
use crate::uplink::identity::Join;
use crate::uplink::in_cluster::InCluster;

/// The sandbox as the configuration asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    /// As much of it as there is to be had.
    #[default]
    On,
    /// All of it, or the agent does not start.
    Required,
    /// None: to find out whether it is to blame for something.
    Off,
}

/// What a process may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Files, connections and signals, by Landlock.
    pub access: Landlock,
    /// Capabilities that stay, where the process has them.
    pub keeps: CapabilitySet,
    /// System calls.
    pub calls: Calls,
}

/// Whether a process goes under Landlock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Landlock {
    /// It does, and this is what it may do.
    Only(Access),
    /// It is not meant to.
    NotMeant,
    /// It should, and what it is for would not come of it: why.
    Impossible(String),
}

/// What Landlock leaves open. A path that is not there is left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Access {
    /// Files and directories below these may be read.
    pub reads: Vec<PathBuf>,
    /// And these written, made and removed.
    pub writes: Vec<PathBuf>,
    /// These programs may be run.
    pub runs: Vec<PathBuf>,
    /// These devices may be opened for writing and controlled.
    pub devices: Vec<PathBuf>,
    /// What TCP may connect to.
    pub connects: Connects,
}

/// What TCP may connect to, at any address: Landlock knows ports and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connects {
    /// These ports.
    Only(Vec<u16>),
    /// Every port: connectivity is tested, and the targets are the collector's to name. That nothing is listened on is held to
    /// all the same.
    Any,
}

impl Default for Connects {
    fn default() -> Self {
        Self::Only(Vec::new())
    }
}

/// Which list of system calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calls {
    /// Of the recorder and of all that it starts: files, network out, its own program once more.
    Recorder,
    /// Of the child that reads GPUs: no network, no program, no file made or removed.
    GpuReader,
    /// Of the child that reads details of processes: files opened for reading, and nothing else.
    DetailReader,
}

/// A capability that stays where the process has it, for whom, and what it is used for.
pub struct Kept {
    /// The capability.
    pub capability: CapabilitySet,
    /// Its name.
    pub name: &'static str,
    /// Whether the recorder keeps it, or only the child that reads details.
    pub by_recorder: bool,
    /// Whether the child that reads details keeps it.
    pub by_detail_reader: bool,
    /// What for.
    pub uses: &'static str,
}

/// The capabilities that a source can use. None is needed to run, none is gained, and every other one is dropped by all of
/// our processes. To add one: a line here, and one in `SECURITY.md`.
pub const KEPT: [Kept; 3] = [
    Kept {
        capability: CapabilitySet::SYSLOG,
        name: "CAP_SYSLOG",
        by_recorder: true,
        by_detail_reader: false,
        uses: "the kernel log, by /dev/kmsg or syslog(2), where kernel.dmesg_restrict is set",
    },
    Kept {
        capability: CapabilitySet::DAC_READ_SEARCH,
        name: "CAP_DAC_READ_SEARCH",
        by_recorder: true,
        by_detail_reader: true,
        uses: "log files of other users, their processes' open files and I/O",
    },
    Kept {
        capability: CapabilitySet::SYS_PTRACE,
        name: "CAP_SYS_PTRACE",
        by_recorder: false,
        by_detail_reader: true,
        uses: "I/O, wait channel and sockets of other users' processes",
    },
];

fn kept(by: impl Fn(&Kept) -> bool) -> CapabilitySet {
    KEPT.iter().filter(|kept| by(kept)).fold(CapabilitySet::empty(), |all, kept| all | kept.capability)
}

/// DNS over TCP, for answers that are too long for UDP. UDP is not restricted by any Landlock.
const DNS: u16 = 53;

/// Where name lookup, time zones, shared libraries and the kernel's own trees are when the host root is another place: a
/// container's own. `etc` as a whole, because its files are replaced and not written anew.
const SURROUNDINGS: [&str; 8] =
    ["/etc", "/lib", "/lib64", "/usr", "/proc", "/sys", "/run/systemd/resolve", "/run/nvidia"];

/// What every program reads and writes.
const NULL: &str = "/dev/null";
const RANDOM: [&str; 2] = ["/dev/urandom", "/dev/random"];

/// The dynamic loader is opened by the kernel as a program, with every program that is linked against it.
const LOADERS: [&str; 4] = [
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/ld-linux-aarch64.so.1",
    "/lib/ld-musl-x86_64.so.1",
    "/lib/ld-musl-aarch64.so.1",
];

/// This very program, also when its file was replaced meanwhile.
const OWN: &str = "/proc/self/exe";

impl Plan {
    /// Of the recorder, and of what it starts from within.
    pub fn of_recorder(config: &Config) -> Self {
        let collector = config.collector.as_ref();
        let mut reads = vec![config.host_root.clone()];
        if config.host_root != Path::new("/") {
            reads.extend(SURROUNDINGS.map(PathBuf::from));
            reads.extend(RANDOM.map(PathBuf::from));
            // Its directory: a token may come at any time.
            reads.extend(collector.into_iter().flat_map(|c| token_dirs(&c.join)));
            reads.extend(config.gpu.library.iter().flat_map(|library| library.parent()).map(Path::to_owned));
            // As its file's link says: `/etc/resolv.conf` is often one, and what it leads to is replaced as well.
            let resolver = std::fs::canonicalize("/etc/resolv.conf").ok();
            reads.extend(resolver.and_then(|file| file.parent().map(Path::to_owned)));
        }
        let port = collector.and_then(|c| port(&c.address.to_string()));
        let connects = match port {
            // Nobody could ask for a test.
            None => Connects::default(),
            Some(_) if config.connectivity.is_some() => Connects::Any,
            Some(port) => Connects::Only(vec![port, DNS]),
        };
        let runs = std::iter::once(OWN).chain(LOADERS).map(PathBuf::from).collect();
        let devices = gpu_devices(Path::new("/dev"));
        let access = Access { reads, writes: vec![config.data_dir.clone(), NULL.into()], runs, devices, connects };
        Self { access: Landlock::Only(access), keeps: kept(|kept| kept.by_recorder), calls: Calls::Recorder }
    }

    /// Of the child that reads GPUs. NVIDIA's library reads in places that nobody has listed: it may read whatever its user
    /// may, and do little else.
    pub fn of_gpu_reader(libraries: &[PathBuf]) -> Self {
        let mut reads = vec![PathBuf::from("/")];
        reads.extend(libraries.iter().filter(|path| path.is_absolute()).cloned());
        let access = Access { reads, devices: gpu_devices(Path::new("/dev")), ..Access::default() };
        Self { access: Landlock::Only(access), keeps: CapabilitySet::empty(), calls: Calls::GpuReader }
    }

    /// Of the child that reads details of processes.
    pub fn of_detail_reader() -> Self {
        Self { access: Landlock::NotMeant, keeps: kept(|kept| kept.by_detail_reader), calls: Calls::DetailReader }
    }

    /// The same without Landlock, for this reason: then the recorder looks at other processes itself.
    pub fn without_landlock(self, why: String) -> Self {
        Self { access: Landlock::Impossible(why), keeps: kept(|_| true), ..self }
    }
}

/// The nodes of NVIDIA's driver, as they are now: Landlock knows files, not names.
fn gpu_devices(dev: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dev) else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name());
    let mut found: Vec<_> =
        names.filter(|name| name.as_encoded_bytes().starts_with(b"nvidia")).map(|name| dev.join(name)).collect();
    found.sort_unstable();
    found
}

/// Where a token, or a pin, is looked for that is not below the data directory. Kubelet replaces both within their directories.
fn token_dirs(join: &Join) -> Vec<PathBuf> {
    let files: &[&PathBuf] = match join {
        Join::File(path) => &[path],
        Join::Cluster(InCluster { token, pin }) => &[token, pin],
        Join::Given(_) => &[],
    };
    files.iter().filter_map(|path| path.parent()).map(Path::to_owned).collect()
}

/// The port of a collector's address, which was checked.
fn port(collector: &str) -> Option<u16> {
    collector.trim_end_matches('/').rsplit(':').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Surroundings;

    fn plan(text: &str) -> Access {
        let around = Surroundings { node: None, hostname: Some("n".to_owned()) };
        match Plan::of_recorder(&Config::parse(text, &around).unwrap()).access {
            Landlock::Only(access) => access,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_the_data_directory_is_written_and_only_the_collector_is_called() {
        let access = plan("data_dir = \"/d\"\ncollector = \"https://[::1]:7443\"\n");
        assert_eq!(access.writes, [Path::new("/d"), Path::new(NULL)]);
        assert_eq!(access.connects, Connects::Only(vec![7443, DNS]));
        assert_eq!(access.reads, [Path::new("/")]);
        assert!(access.runs.iter().all(|path| path == Path::new(OWN) || path.to_string_lossy().contains("/ld-")));
    }

    #[test]
    fn without_a_collector_nothing_is_called() {
        assert_eq!(plan("").connects, Connects::default());
        assert_eq!(plan("test_connectivity = true\n").connects, Connects::default());
    }

    #[test]
    fn only_where_connectivity_is_tested_every_port_may_be_connected_to() {
        let text = "data_dir = \"/d\"\ncollector = \"https://c:7443\"\n";
        let with = plan(&format!("{text}test_connectivity = true\n"));
        let without = plan(text);
        assert_eq!((&with.connects, &without.connects), (&Connects::Any, &Connects::Only(vec![7443, DNS])));
        assert_eq!(
            Access { connects: Connects::default(), ..with },
            Access { connects: Connects::default(), ..without }
        );
    }

    #[test]
    fn in_a_container_the_host_and_what_programs_need_is_read() {
        let access = plan(
            "host_root = \"/host\"\ncollector = \"https://c:7443\"\njoin_token_file = \"/run/secrets/t/token\"\n\
             [gpu]\nlibrary = \"/opt/nv/l.so\"\n",
        );
        let cluster = plan(
            "host_root = \"/host\"\ncollector = \"https://c:7443\"\nservice_account_token = \"/var/run/secrets/c/token\"\n\
             collector_pin_file = \"/pin/d/pin\"\n",
        );
        for path in ["/var/run/secrets/c", "/pin/d"] {
            assert!(cluster.reads.iter().any(|p| p == Path::new(path)), "{path}: {:?}", cluster.reads);
        }
        for path in ["/host", "/etc", "/proc", "/opt/nv", "/run/secrets/t"] {
            assert!(access.reads.iter().any(|p| p == Path::new(path)), "{path}: {:?}", access.reads);
        }
        assert!(!access.reads.iter().any(|p| p == Path::new("/") || p == Path::new("/run") || p == Path::new("/dev")));
    }

    #[test]
    fn only_nodes_of_nvidia_are_devices() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["nvidia0", "nvidiactl", "sda", "kmsg", "mem"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(gpu_devices(dir.path()), [dir.path().join("nvidia0"), dir.path().join("nvidiactl")]);
    }

    #[test]
    fn no_process_but_the_one_without_a_network_may_trace() {
        let recorder = Plan::of_recorder(
            &Config::parse("", &Surroundings { node: None, hostname: Some("n".to_owned()) }).unwrap(),
        );
        assert_eq!(recorder.keeps, CapabilitySet::SYSLOG | CapabilitySet::DAC_READ_SEARCH);
        assert_eq!(Plan::of_gpu_reader(&[]).keeps, CapabilitySet::empty());
        let details = Plan::of_detail_reader();
        assert_eq!((details.calls, details.access), (Calls::DetailReader, Landlock::NotMeant));
        assert_eq!(details.keeps, CapabilitySet::SYS_PTRACE | CapabilitySet::DAC_READ_SEARCH);
    }
}
