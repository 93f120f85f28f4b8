//! The agent's configuration: one TOML file, checked as a whole so that all problems are named at once.
//!
//! The data directory's own rules are in `data_dir.rs`, the log sources' stanzas in `logs/mod.rs`.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use casefile_evidence::recording::segment::Retention;
use casefile_identity::dial::Address;
use casefile_identity::stranger::Strangers;
use casefile_proto::ids::NodeName;
use casefile_proto::units::Bytes;
use casefile_redact::{Pseudonyms, RuleSet};
use serde::Deserialize;

use crate::connectivity::{Allowed, Reach};
use crate::data_dir::JOIN_TOKEN;
use crate::logs::declared::Declared;
use crate::logs::{FilesConfig, LogConfig};
use crate::redaction::Masking;
use crate::sandbox::plan::Wanted;
use crate::uplink::Collector;
use crate::uplink::identity::Join;
use crate::uplink::in_cluster::InCluster;

/// Where the ring, and items on their way up, are kept.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/casefile/agent";

/// What the ring may hold when nothing is said.
pub const DEFAULT_RETENTION: Retention = Retention { bytes: Bytes::mib(512), age: Duration::from_hours(7 * 24) };

/// The smallest ring: below this a busy node would not keep ten minutes.
pub const MIN_RING: Bytes = Bytes::mib(8);

/// The shortest age: a block has to be closed and a segment rotated before anything can go.
pub const MIN_AGE: Duration = Duration::from_mins(10);

/// What measuring may take of one core when nothing is said: several times what it takes on a node with some hundred
/// processes.
pub const DEFAULT_CPU_PERCENT: f64 = 2.0;

/// The least: below this the sources that are cheap on every node would not fit.
pub const MIN_CPU_PERCENT: f64 = 0.1;

/// A configuration file larger than this is none.
const MAX_FILE: u64 = 1 << 20;

/// What may stand in the file, for `--help` and the manual.
pub const KEYS: &str = "\
collector  = \"https://HOST:PORT\" without it the agent records and answers to nobody
join_token_file = \"FILE\"         the token with which it joins that collector [join-token below data_dir]
service_account_token = \"FILE\"   in a cluster, instead: the token that kubelet gives this pod, such as
                                 /var/run/secrets/casefile/token; it joins with it as often as it must
collector_pin_file = \"FILE\"      with it: which collector to trust, such as /etc/casefile-authority/pin, where the
                                 config map casefile-authority is mounted
node       = \"NAME\"              the node's name [$CASEFILE_NODE, else the host name]
data_dir   = \"DIR\"               ring and spool [/var/lib/casefile/agent]; ours alone, 0700
host_root  = \"DIR\"               where the machine's proc, sys and var are [/]
ring_mib   = 512                 the most that the ring holds on disk; at least 8
ring_hours = 168                 the oldest that the ring holds; at least 1
leave_free_mib = 1024            what is left free on the node's disk: below it the ring gives up its oldest, below
                                 half of it nothing is written [the less of 1024 and 5 % of the disk]
cpu_percent = 2                  what measuring may take of one core: where it takes more, the dearest source is read less
                                 often, down to a sixteenth, and the recording says so
test_connectivity = false        whether the collector may have this node tested against the targets of its list: a name resolved,
                                 TCP, TLS, the head of an answer of HTTP; one a second and ten seconds each at most, never
                                 link-local addresses. The sandbox then lets TCP out to every port
connectivity_ca = \"FILE\"         PEM with the roots that certificates are checked against then; without it nothing is said
                                 about whether they can be trusted
connectivity_loopback = false    whether addresses of this machine itself may be tested too
[[files]]                        log files besides those that every agent knows
glob       = \"var/log/a/*.log\"   below host_root; `*` never crosses a `/`
except     = [\"var/log/a/x.log\"] what is left out of it
times      = \"iso\"               how their times are written, where that is not found out by itself: rfc3339, iso
                                 (with or without a zone), syslog, klog, epoch
lead       = \"word\"              what stands before the time: none, bracket, priority (<34>), key (ts=), json, word
zone       = \"Europe/Berlin\"     of times that name none [the host's]; also UTC, +01:00
[redaction]                      secrets are always masked; here is what is added to that
rules      = [\"/etc/rules.toml\"] rule files, in our own format or that of gitleaks
pseudonyms = [\"addresses\"]      what becomes a pseudonym: addresses, hosts, users
[gpu]                            GPUs of NVIDIA are read where there is a driver; here is what is added to that
library    = \"FILE\"              NVML's library, libnvidia-ml.so.1, where it is not found by itself
[sandbox]                        what the agent gives up once it runs; see sandbox-check
enter      = \"on\"                on: as much as this kernel has; required: all of it, or the agent does not start;
                                 off: nothing, to find out whether it is to blame for something";

/// An agent's configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the collector is and how to join it; `None`: record and answer to nobody.
    pub collector: Option<Collector>,
    /// The name that the node goes by.
    pub node: NodeName,
    /// The ring and the spool are below it.
    pub data_dir: PathBuf,
    /// Where the machine's `proc`, `sys` and `var` are: `/`, or where they are mounted in a container.
    pub host_root: PathBuf,
    /// What the ring may hold.
    pub retention: Retention,
    /// What is left free on the node's disk; `None`: what suits it.
    pub leave_free: Option<Bytes>,
    /// What measuring may take of one core, in percent.
    pub cpu_percent: f64,
    /// What may be tested of connectivity; `None`: nothing.
    pub connectivity: Option<Allowed>,
    /// Log files besides those that every agent knows.
    pub logs: LogConfig,
    /// What is masked.
    pub masking: Masking,
    /// How GPUs are read.
    pub gpu: GpuConfig,
    /// Whether the sandbox is entered.
    pub sandbox: Wanted,
}

/// How GPUs are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuConfig {
    /// NVML's library, where it is not to be looked for.
    pub library: Option<PathBuf>,
    /// The program that is started once more to read it; this very one where nothing is said.
    pub program: Option<PathBuf>,
    /// Whether that program goes into a sandbox of its own.
    pub confined: bool,
}

impl Default for GpuConfig {
    fn default() -> Self {
        Self { library: None, program: None, confined: true }
    }
}

/// Why a configuration cannot be used: every reason, one a line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// Where it was read.
    pub path: PathBuf,
    /// What is wrong. Content of the file is not quoted beyond the name of a key: it may be any file.
    pub problems: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be used:", self.path.display())?;
        self.problems.iter().try_for_each(|p| write!(f, "\n  {p}"))
    }
}

/// The file as written. Everything is optional; a key that is not known is refused.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    collector: Option<String>,
    join_token_file: Option<PathBuf>,
    service_account_token: Option<PathBuf>,
    collector_pin_file: Option<PathBuf>,
    node: Option<String>,
    data_dir: Option<PathBuf>,
    host_root: Option<PathBuf>,
    ring_mib: Option<u64>,
    ring_hours: Option<u64>,
    leave_free_mib: Option<u64>,
    cpu_percent: Option<f64>,
    test_connectivity: bool,
    connectivity_ca: Option<PathBuf>,
    connectivity_loopback: bool,
    files: Vec<FilesConfig>,
    redaction: RedactionFile,
    gpu: GpuFile,
    sandbox: SandboxFile,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SandboxFile {
    enter: Wanted,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct GpuFile {
    library: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RedactionFile {
    rules: Vec<PathBuf>,
    pseudonyms: Vec<Pseudonym>,
}

/// What can become a pseudonym.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Pseudonym {
    Addresses,
    Hosts,
    Users,
}

/// What a configuration takes from around it where the file is silent.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// `CASEFILE_NODE`: a container's host name is the pod's, so Kubernetes says the node's name here.
    pub node: Option<String>,
    /// The host name.
    pub hostname: Option<String>,
}

impl Surroundings {
    /// Of this process.
    pub fn of_process() -> Self {
        Self {
            node: std::env::var("CASEFILE_NODE").ok(),
            hostname: rustix::system::uname().nodename().to_str().ok().map(str::to_owned),
        }
    }
}

/// Where an agent has its own things and its machine's: what a look at it takes of its configuration, without the rules and
/// patterns that recording takes, which cost more to make than to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The ring and the spool are below it.
    pub data_dir: PathBuf,
    /// Where the machine's `proc`, `sys` and `var` are.
    pub host_root: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self { data_dir: PathBuf::from(DEFAULT_DATA_DIR), host_root: PathBuf::from("/") }
    }
}

impl Places {
    /// Reads them out of a configuration, whatever else is wrong in it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let broken = |problem: String| ConfigError { path: path.to_owned(), problems: vec![problem] };
        Ok(Self::of(&mut written(&read(path).map_err(broken)?).map_err(broken)?))
    }

    fn of(file: &mut File) -> Self {
        let default = Self::default();
        Self {
            data_dir: file.data_dir.take().unwrap_or(default.data_dir),
            host_root: file.host_root.take().unwrap_or(default.host_root),
        }
    }
}

/// The file as written, or what is no such file.
fn written(text: &str) -> Result<File, String> {
    // Not the parser's own rendering: that quotes the line, and the file may be one that the caller may not read.
    toml::from_str(text).map_err(|e| {
        let line = e.span().map_or(0, |s| text.get(..s.start).map_or(0, |t| t.matches('\n').count()) + 1);
        format!("line {line}: {}", e.message())
    })
}

impl Config {
    /// Reads and checks a file.
    pub fn load(path: &Path, around: &Surroundings) -> Result<Self, ConfigError> {
        let broken = |problem: String| ConfigError { path: path.to_owned(), problems: vec![problem] };
        let text = read(path).map_err(broken)?;
        Self::parse(&text, around).map_err(|problems| ConfigError { path: path.to_owned(), problems })
    }

    /// Checks a text: the configuration, or everything that is wrong with it. The rule files that it names are read.
    pub fn parse(text: &str, around: &Surroundings) -> Result<Self, Vec<String>> {
        let mut file = written(text).map_err(|problem| vec![problem])?;
        let Places { data_dir, host_root } = Places::of(&mut file);
        let mut problems = Vec::new();
        let connectivity = connectivity(&file).map_err(|p| problems.push(p)).ok().flatten();
        let node = node_name(file.node, around).map_err(|p| problems.push(p)).ok();
        let address = file.collector.as_deref().map(str::parse::<Address>).transpose();
        let address = address.map_err(|why| problems.push(format!("collector: {why}"))).ok().flatten();
        let join = join(&file.join_token_file, file.service_account_token, file.collector_pin_file, &mut problems)
            .unwrap_or_else(|| Join::File(file.join_token_file.unwrap_or_else(|| data_dir.join(JOIN_TOKEN))));
        for (key, dir) in [("data_dir", &data_dir), ("host_root", &host_root)] {
            if !dir.is_absolute() {
                problems.push(format!("{key}: is not an absolute path"));
            }
        }
        let bytes = file.ring_mib.map_or(DEFAULT_RETENTION.bytes, |n| Bytes(n.saturating_mul(1 << 20)));
        if bytes < MIN_RING {
            problems.push(format!("ring_mib: {bytes} is less than {MIN_RING}"));
        }
        let age = file.ring_hours.map_or(DEFAULT_RETENTION.age, |n| Duration::from_secs(n.saturating_mul(60 * 60)));
        if age < MIN_AGE {
            problems.push("ring_hours: must be at least 1".to_owned());
        }
        let cpu_percent = file.cpu_percent.unwrap_or(DEFAULT_CPU_PERCENT);
        if cpu_percent.is_nan() || cpu_percent < MIN_CPU_PERCENT {
            problems.push(format!("cpu_percent: {cpu_percent} is less than {MIN_CPU_PERCENT}"));
        }
        for (number, files) in file.files.iter().enumerate() {
            for (key, glob) in std::iter::once(("glob", &files.glob)).chain(files.except.iter().map(|g| ("except", g)))
            {
                if let Err(why) = check_glob(glob) {
                    problems.push(format!("files {}: {key}: {why}", number + 1));
                }
            }
            for (key, why) in Declared::of(files).err().into_iter().flatten() {
                problems.push(format!("files {}: {key}: {why}", number + 1));
            }
        }
        if file.gpu.library.as_ref().is_some_and(|path| !path.is_absolute()) {
            problems.push("gpu: library: is not an absolute path".to_owned());
        }
        let masking = masking(&file.redaction).map_err(|p| problems.extend(p)).ok();
        match node.zip(masking) {
            Some((node, masking)) if problems.is_empty() => Ok(Self {
                collector: address.map(|address| Collector { address, join }),
                node,
                data_dir,
                host_root,
                retention: Retention { bytes, age },
                leave_free: file.leave_free_mib.map(|mib| Bytes(mib.saturating_mul(1 << 20))),
                cpu_percent,
                connectivity,
                logs: logs_with(file.files),
                masking,
                gpu: GpuConfig {
                    library: file.gpu.library,
                    program: None,
                    confined: file.sandbox.enter != Wanted::Off,
                },
                sandbox: file.sandbox.enter,
            }),
            _ => Err(problems),
        }
    }
}

/// How the agent joins in a cluster; `None`: with a join token. What is wrong is added to the problems.
fn join(
    join_token: &Option<PathBuf>,
    token: Option<PathBuf>,
    pin: Option<PathBuf>,
    problems: &mut Vec<String>,
) -> Option<Join> {
    let paths = [("join_token_file", join_token), ("service_account_token", &token), ("collector_pin_file", &pin)];
    for (key, path) in paths {
        if path.as_ref().is_some_and(|path| !path.is_absolute()) {
            problems.push(format!("{key}: is not an absolute path"));
        }
    }
    match (token, pin) {
        (None, None) => None,
        (Some(token), Some(pin)) => {
            if join_token.is_some() {
                problems.push("join_token_file: is not for an agent that has a service_account_token".to_owned());
            }
            Some(Join::Cluster(InCluster { token, pin }))
        }
        _ => {
            problems
                .push("service_account_token and collector_pin_file: one without the other is of no use".to_owned());
            None
        }
    }
}

/// A text of at most [`MAX_FILE`] bytes, or why not.
fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|e| format!("open it: {e}"))?;
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(|e| format!("read it: {e}"))?;
    if text.len() as u64 > MAX_FILE { Err("is larger than 1 MiB".to_owned()) } else { Ok(text) }
}

/// What may be tested; the file of roots is read now: later the sandbox might be in the way.
fn connectivity(file: &File) -> Result<Option<Allowed>, String> {
    if !file.test_connectivity {
        return if file.connectivity_ca.is_some() || file.connectivity_loopback {
            Err("connectivity_ca and connectivity_loopback: mean nothing without test_connectivity = true".to_owned())
        } else {
            Ok(None)
        };
    }
    let strangers = match &file.connectivity_ca {
        None => Strangers::unknown(),
        Some(path) => {
            let named = |why: String| format!("connectivity_ca: {}: {why}", path.display());
            let text = read(path).map_err(named)?;
            Strangers::with_roots(text.as_bytes()).map_err(|why| named(why.to_string()))?
        }
    };
    let reach = if file.connectivity_loopback { Reach::LoopbackToo } else { Reach::Outside };
    Ok(Some(Allowed { reach, strangers }))
}

fn masking(file: &RedactionFile) -> Result<Masking, Vec<String>> {
    let among = |what| file.pseudonyms.contains(&what);
    let pseudonyms = Pseudonyms {
        addresses: among(Pseudonym::Addresses),
        hosts: among(Pseudonym::Hosts),
        users: among(Pseudonym::Users),
    };
    if file.rules.is_empty() {
        return Ok(Masking { pseudonyms, ..Masking::default() });
    }
    let (mut texts, mut problems) = (Vec::new(), Vec::new());
    for path in &file.rules {
        match read(path) {
            Ok(text) => texts.push((path.display().to_string(), text)),
            Err(why) => problems.push(format!("redaction: rules: {}: {why}", path.display())),
        }
    }
    match RuleSet::with(&texts) {
        Ok(rules) if problems.is_empty() => Ok(Masking { rules: Arc::new(rules), pseudonyms }),
        Ok(_) => Err(problems),
        Err(more) => {
            problems.extend(more.into_iter().map(|why| format!("redaction: {why}")));
            Err(problems)
        }
    }
}

/// What every agent knows, and what the operator adds.
fn logs_with(mut files: Vec<FilesConfig>) -> LogConfig {
    let mut logs = LogConfig::builtin();
    logs.files.append(&mut files);
    logs
}

/// The name out of the file, the environment, the host name: the first that is there must be right.
pub(crate) fn node_name(given: Option<String>, around: &Surroundings) -> Result<NodeName, String> {
    let candidates =
        [("node", given), ("CASEFILE_NODE", around.node.clone()), ("the host name", around.hostname.clone())];
    for (from, name) in candidates {
        if let Some(name) = name.filter(|n| !n.is_empty()) {
            return name.parse().map_err(|e| format!("{from}: {e}"));
        }
    }
    Err("node: this machine has no host name: say one".to_owned())
}

fn check_glob(glob: &str) -> Result<(), String> {
    if glob.is_empty() || glob.starts_with('/') || glob.split('/').any(|c| c == "..") {
        return Err("is a pattern below host_root, without a leading / and without ..".to_owned());
    }
    globset::GlobBuilder::new(glob).literal_separator(true).build().map(drop).map_err(|e| e.kind().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around() -> Surroundings {
        Surroundings { node: None, hostname: Some("host-1".to_owned()) }
    }

    #[test]
    fn an_empty_file_is_a_whole_configuration() {
        let config = Config::parse("", &around()).unwrap();
        assert!(config.node.as_str() == "host-1" && config.collector.is_none());
        assert_eq!(config.data_dir, Path::new(DEFAULT_DATA_DIR));
        assert_eq!((config.host_root.as_path(), config.retention), (Path::new("/"), DEFAULT_RETENTION));
    }

    #[test]
    fn every_key_is_taken() {
        let text = "collector = \"https://[::1]:7443\"\njoin_token_file = \"/t\"\nnode = \"n\"\ndata_dir = \"/d\"\nhost_root = \"/h\"\n\
                    ring_mib = 8\nring_hours = 1\nleave_free_mib = 9\ncpu_percent = 4\n\
                    test_connectivity = true\nconnectivity_loopback = true\n[[files]]\nglob = \"var/log/*.log\"\n\
                    times = \"iso\"\nlead = \"word\"\nzone = \"+01:00\"\n\
                    [redaction]\nrules = []\npseudonyms = [\"addresses\"]\n[gpu]\nlibrary = \"/l.so\"\n\
                    [sandbox]\nenter = \"required\"\n";
        let config = Config::parse(text, &Surroundings { node: Some("env".to_owned()), ..around() }).unwrap();
        assert_eq!((config.node.as_str(), config.logs.files.len()), ("n", 1 + LogConfig::builtin().files.len()));
        assert_eq!(config.retention, Retention { bytes: MIN_RING, age: Duration::from_hours(1) });
        assert_eq!(config.leave_free, Some(Bytes::mib(9)));
        assert!((config.cpu_percent - 4.0).abs() < 1e-9);
        assert_eq!(config.connectivity.map(|allowed| allowed.reach), Some(Reach::LoopbackToo));
        assert!(config.masking.pseudonyms.addresses && !config.masking.pseudonyms.hosts);
        assert_eq!(config.gpu.library.as_deref(), Some(Path::new("/l.so")));
        assert_eq!((config.sandbox, config.gpu.confined), (Wanted::Required, true));
        for key in text.lines().filter_map(|l| l.split([' ', '=']).next()).filter(|k| !k.is_empty()) {
            assert!(KEYS.contains(key), "{key} is not documented");
        }
    }

    #[test]
    fn in_a_cluster_it_joins_with_two_files_and_no_join_token() {
        let token = "service_account_token = \"/t/token\"\n";
        let pin = "collector_pin_file = \"/p/pin\"\n";
        let collector = "collector = \"https://c:7443\"\n";
        let config = Config::parse(&[collector, token, pin].concat(), &around()).unwrap();
        let files = InCluster { token: "/t/token".into(), pin: "/p/pin".into() };
        assert!(matches!(config.collector.unwrap().join, Join::Cluster(found) if found == files));
        for key in ["service_account_token", "collector_pin_file"] {
            assert!(KEYS.contains(key), "{key} is not documented");
        }
        let join = "join_token_file = \"/j\"\n";
        for (text, said) in [
            (token.to_owned(), "one without the other"),
            (pin.to_owned(), "one without the other"),
            ([token, pin, join].concat(), "is not for an agent"),
            ([pin, "service_account_token = \"t\"\n"].concat(), "service_account_token: is not an absolute path"),
        ] {
            let problems = Config::parse(&text, &around()).unwrap_err();
            assert!(problems.len() == 1 && problems[0].contains(said), "{problems:?}");
        }
    }

    #[test]
    fn the_environment_names_the_node_where_the_file_does_not() {
        let env = Surroundings { node: Some("env-1".to_owned()), ..around() };
        assert_eq!(Config::parse("", &env).unwrap().node.as_str(), "env-1");
        let bad = Surroundings { node: Some("../x".to_owned()), ..around() };
        assert!(Config::parse("", &bad).unwrap_err()[0].starts_with("CASEFILE_NODE"));
    }

    #[test]
    fn nothing_is_tested_unless_it_is_said_and_roots_are_read_at_once() {
        assert!(Config::parse("", &around()).unwrap().connectivity.is_none());
        let of = |text: &str| Config::parse(text, &around()).map(|config| config.connectivity.is_some());
        assert_eq!(of("test_connectivity = true\n"), Ok(true));
        assert!(of("connectivity_loopback = true\n").unwrap_err()[0].contains("mean nothing"));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        let text = format!("test_connectivity = true\nconnectivity_ca = \"{}\"\n", file.display());
        assert!(of(&text).unwrap_err()[0].contains("open it"));
        std::fs::write(&file, "no certificate").unwrap();
        assert!(of(&text).unwrap_err()[0].contains("has 0 certificates"), "{:?}", of(&text));
    }

    #[test]
    fn all_problems_are_named_at_once() {
        let text = "collector = \"ftp://x\"\nnode = \"a/b\"\ndata_dir = \"d\"\nhost_root = \"h\"\njoin_token_file = \"t\"\nring_mib = 1\n\
                    ring_hours = 0\ncpu_percent = nan\n[[files]]\nglob = \"../etc/shadow\"\n[[files]]\nglob = \"/abs\"\n[[files]]\nglob = \"a[\"\n\
                    [[files]]\nglob = \"x\"\ntimes = \"dmy\"\nlead = \"x\"\nzone = \"CET-ish!\"\n[gpu]\nlibrary = \"l.so\"\n";
        let problems = Config::parse(text, &around()).unwrap_err();
        assert_eq!(problems.len(), 15, "{problems:#?}");
        assert_eq!(problems[11], "files 4: times: is none of rfc3339, iso, syslog, klog, epoch");
    }

    #[test]
    fn what_is_no_toml_is_named_by_its_line_without_quoting_it() {
        let problems = Config::parse("\nroot:$6$secret:19000\n", &around()).unwrap_err();
        assert!(problems[0].starts_with("line 2") && !problems[0].contains("secret"), "{problems:?}");
        assert!(Config::parse("colector = \"x\"", &around()).unwrap_err()[0].contains("unknown field"));
        let plain = Config::parse("collector = \"http://h:1\"", &around()).unwrap_err();
        assert!(plain[0].contains("only TLS"), "{plain:?}");
    }
}
