//! The collector's configuration: one TOML file, checked as a whole so that all problems are named at once.

use std::fmt;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use casefile_evidence::recording::segment::Retention;
use casefile_proto::units::Bytes;
use serde::Deserialize;

use crate::archives::config::{self as archive_store, StoreConfig};
use crate::cluster::config::{self as cluster, ClusterConfig};
use crate::connectivity::targets::{Targets, Written};
use crate::identity::CERTIFICATE_LIFE;
use crate::incident::{MAX_PATIENCE, MAX_RETURNING};
use crate::ingest::{Clock, listener};
use crate::redaction;

/// Where the collector listens when nothing is said.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7443);

/// Where everything is kept when nothing is said.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/casefile/collector";

/// How long an incident waits for its nodes in a cluster: one reboots in about that.
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(120);

/// How long a sealed incident waits for nodes that are missing: as long as their rings go back.
pub const DEFAULT_RETURNING: Duration = Duration::from_hours(7 * 24);

/// What the last words of one node may hold when nothing is said.
pub const DEFAULT_LAST_WORDS: Retention = Retention { bytes: Bytes::mib(128), age: Duration::from_secs(6 * 60 * 60) };

/// The most bytes, before compression, of one incident over all its nodes.
pub const DEFAULT_BUDGET: Bytes = Bytes::mib(2 << 10);

/// Time between two clock probes of a session: a quartz drifts less than a tenth of a millisecond in it.
const PROBE_EVERY: Duration = Duration::from_secs(4);

/// How long a session of an agent lasts: then it dials again, and shows the certificate that it has by then.
const SESSION_AGE: Duration = Duration::from_hours(1);

/// The smallest last words: below this a busy node would not keep ten minutes.
const MIN_LAST_WORDS: Bytes = Bytes::mib(4);

/// The most that may be reserved.
const MAX_RESERVE: Bytes = Bytes::mib(1 << 20);

/// The smallest budget: below this one large log could leave nothing for the rest.
const MIN_BUDGET: Bytes = Bytes::mib(16);

/// A configuration file larger than this is none.
const MAX_FILE: u64 = 1 << 20;

/// What may stand in the file, for `--help` and the manual.
pub const KEYS: &str = "\
listen           = \"127.0.0.1:7443\"  where agents and people reach it
data_dir         = \"DIR\"             index, keys, last words, archives, audit log
                                     [/var/lib/casefile/collector]
deadline_secs    = 120               how long an incident waits for its nodes; 1 to 3600
return_hours     = 168               how long a sealed incident waits for nodes that are missing
                                     from it, to be amended; 0 to 744
incident_mib     = 2048              the most of one incident, uncompressed; at least 16
last_words_mib   = 128               the most of one node's last words; at least 4
last_words_hours = 6                 the oldest of them
redaction_key_days = 30              how long secrets become the same tokens; at least 1
certificate_hours = 24               how long an agent's certificate counts; 1 to 24
observe          = \"127.0.0.1:7444\"  where /metrics, /healthz and /readyz answer over HTTP;
                                     nowhere when it is not said. /metrics answers this machine,
                                     whoever shows the token of a viewer, and the next
metrics_token_file = \"FILE\"        the token of a scraper, which opens /metrics and nothing
                                     else: 32 to 4096 characters; read anew for each request, and
                                     nobody's where the file is not there
http             = \"127.0.0.1:7070\"  where the API (/api/v1) and the page answer over HTTP; nowhere
                                     when it is not said. On an address that others reach it is
                                     TLS with the collector's own certificate, unless the next is
http_plain       = false             true: without TLS there too, because a proxy or ingress has it
http_names       = []                host names that they are reached by, beside addresses
reserve_mib      = 256               space kept back to seal and to note who did what on a full
                                     disk; 0: none [the less of 256 and 2 % of the disk]
targets          = []                what nodes may be tested against, and nothing else is:
                                     [{name = \"api\", url = \"https://api.shop.svc/healthz\"}];
                                     also dns://HOST, tcp://HOST:PORT, tls://HOST:PORT, http://.
                                     Agents test only with test_connectivity = true in their own
[archive_store]                      where each sealed archive is copied to as well; nowhere when
                                     the table is not there
url              = \"s3://BUCKET\"     a bucket of S3 or of what speaks its language, with
                                     /PREFIX behind it for a place in it. Where room is short here,
                                     it has the only copy of archives of incidents that are over;
                                     they are fetched back when they are wanted
endpoint         = \"https://HOST\"    of a store that is not Amazon's
region           = \"NAME\"            such as eu-central-1; must be said where there is no endpoint
credentials_file = \"FILE\"            an access key as other S3 clients have it in a file, read
                                     anew for each request; else it is looked for in the
                                     environment, by web identity, and from the machine
ca_file          = \"FILE\"            authorities in PEM that it may be known by, beside those of
                                     the system; read at the start
allow_http       = false             true: http:// without TLS is wanted
[cluster]                            the Kubernetes cluster that the nodes belong to; none when
                                     the table is not there
api              = \"pod\"             with the service account of this pod, or the absolute path
                                     of a kubeconfig that runs no program
audience         = \"NAME\"            what the projected tokens of agents are issued for
                                     [casefile-collector]
agents           = [\"NS/NAME\"]       the service accounts whose pods are agents; of which node,
                                     the cluster says [casefile/casefile-agent]
user_audiences   = []                what tokens of people are issued for; empty: for the API
                                     server, as kubectl create token makes them. What each may
                                     do, Roles say over casefile.dev in the collector's namespace
authority        = \"NS/NAME\"         the config map in which the collector writes its pin, for
                                     agents and people to know it by [casefile-authority, in
                                     our namespace]
collections      = true              whether resources of the kind Collection open incidents;
                                     where it is not installed, it is looked for again
keep_mib         = 512               the most that is kept of what the cluster showed; at least 64
keep_hours       = 24                the oldest of it";

/// What to do when the port is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortTaken {
    /// Say so and stop: agents would dial in vain.
    Refuse,
    /// Take any free one and write it down.
    TakeAnother,
}

/// A collector's configuration, checked.
#[derive(Clone)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// When that port is taken.
    pub port_taken: PortTaken,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// How long an incident waits for its nodes when it is not told.
    pub patience: Duration,
    /// How long a sealed incident waits for nodes that are missing from it.
    pub returning: Duration,
    /// The most bytes of one incident.
    pub budget: Bytes,
    /// What the last words of one node may hold.
    pub last_words: Retention,
    /// How far back frames that were missed are still streamed: as far as last words are kept, unless told otherwise.
    pub catch_up: Duration,
    /// Time between two clock probes of a session.
    pub probe_every: Duration,
    /// How long a certificate of an agent counts.
    pub certificate_life: Duration,
    /// How long a session of an agent may last.
    pub session_age: Duration,
    /// How long agents replace secrets with tokens of one key.
    pub redaction_key_life: Duration,
    /// Where metrics and health answer; `None`: nowhere.
    pub observe: Option<SocketAddr>,
    /// The file with the token of a scraper; `None`: there is none.
    pub metrics_token: Option<PathBuf>,
    /// Where the API and the page answer over HTTP; `None`: nowhere.
    pub http: Option<SocketAddr>,
    /// When that port is taken.
    pub http_taken: PortTaken,
    /// Whether HTTP is without TLS also where others than this machine reach it: something in front of it has TLS.
    pub http_plain: bool,
    /// Names that browsers and programs reach it by, beside addresses and `localhost`.
    pub http_names: Vec<String>,
    /// What is kept back for finishing on a full disk; `None`: what suits the disk.
    pub reserve: Option<Bytes>,
    /// What connectivity may be tested to.
    pub targets: Targets,
    /// Where archives are copied to; `None`: nowhere.
    pub archive_store: Option<StoreConfig>,
    /// The cluster that the nodes belong to; `None`: none.
    pub cluster: Option<ClusterConfig>,
    /// Connections at a time.
    pub limits: listener::Limits,
    /// The clocks.
    pub clock: Clock,
}

/// Why a configuration cannot be used: every reason, one a line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// Where it was read.
    pub path: PathBuf,
    /// What is wrong. Content of the file is not quoted: it may be any file.
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
    listen: Option<String>,
    data_dir: Option<PathBuf>,
    deadline_secs: Option<u64>,
    return_hours: Option<u64>,
    incident_mib: Option<u64>,
    last_words_mib: Option<u64>,
    last_words_hours: Option<u64>,
    redaction_key_days: Option<u64>,
    certificate_hours: Option<u64>,
    observe: Option<String>,
    metrics_token_file: Option<PathBuf>,
    http: Option<String>,
    http_plain: bool,
    http_names: Vec<String>,
    reserve_mib: Option<u64>,
    targets: Vec<Written>,
    archive_store: Option<archive_store::Table>,
    cluster: Option<cluster::Table>,
}

impl Config {
    /// What an empty file says, over this directory.
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            listen: DEFAULT_LISTEN,
            port_taken: PortTaken::Refuse,
            data_dir,
            patience: DEFAULT_PATIENCE,
            returning: DEFAULT_RETURNING,
            budget: DEFAULT_BUDGET,
            last_words: DEFAULT_LAST_WORDS,
            catch_up: DEFAULT_LAST_WORDS.age,
            probe_every: PROBE_EVERY,
            certificate_life: CERTIFICATE_LIFE,
            session_age: SESSION_AGE,
            redaction_key_life: redaction::DEFAULT_LIFE,
            observe: None,
            metrics_token: None,
            http: None,
            http_taken: PortTaken::Refuse,
            http_plain: false,
            http_names: Vec::new(),
            reserve: None,
            targets: Targets::default(),
            archive_store: None,
            cluster: None,
            limits: listener::Limits::default(),
            clock: Arc::new(crate::clock::now),
        }
    }

    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let broken = |problem: String| ConfigError { path: path.to_owned(), problems: vec![problem] };
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(|e| broken(format!("open it: {e}")))?;
        file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(|e| broken(format!("read it: {e}")))?;
        if u64::try_from(text.len()).is_ok_and(|len| len > MAX_FILE) {
            return Err(broken("is larger than 1 MiB".to_owned()));
        }
        Self::parse(&text).map_err(|problems| ConfigError { path: path.to_owned(), problems })
    }

    /// Checks a text: the configuration, or everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        // Not the parser's own rendering: that quotes the line, and the file may be one that the caller may not read.
        let file: File = toml::from_str(text).map_err(|e| {
            let line = e.span().map_or(0, |s| text.get(..s.start).map_or(0, |t| t.matches('\n').count()) + 1);
            vec![format!("line {line}: {}", e.message())]
        })?;
        let mut problems = Vec::new();
        let mut config = Self::new(file.data_dir.unwrap_or_else(|| PathBuf::from(DEFAULT_DATA_DIR)));
        if !config.data_dir.is_absolute() {
            problems.push("data_dir: is not an absolute path".to_owned());
        }
        match file.listen.as_deref().map(str::parse::<SocketAddr>) {
            None => {}
            Some(Ok(listen)) => config.listen = listen,
            Some(Err(_)) => problems.push("listen: is no ADDRESS:PORT such as 127.0.0.1:7443 or [::1]:7443".to_owned()),
        }
        match file.deadline_secs.map(Duration::from_secs) {
            None => {}
            Some(secs) if secs.is_zero() || secs > MAX_PATIENCE => {
                problems.push(format!("deadline_secs: must be 1 to {}", MAX_PATIENCE.as_secs()));
            }
            Some(secs) => config.patience = secs,
        }
        match file.return_hours.map(|hours| Duration::from_secs(hours.saturating_mul(60 * 60))) {
            None => {}
            Some(long) if long > MAX_RETURNING => {
                problems.push(format!("return_hours: must be 0 to {}", MAX_RETURNING.as_secs() / 3_600));
            }
            Some(hours) => config.returning = hours,
        }
        let mut size = |key: &str, mib: Option<u64>, least: Bytes, size: &mut Bytes| {
            let Some(mib) = mib else { return };
            *size = Bytes(mib.saturating_mul(1 << 20));
            if *size < least {
                problems.push(format!("{key}: {size} is less than {least}"));
            }
        };
        size("incident_mib", file.incident_mib, MIN_BUDGET, &mut config.budget);
        size("last_words_mib", file.last_words_mib, MIN_LAST_WORDS, &mut config.last_words.bytes);
        match file.last_words_hours {
            None => {}
            Some(0) => problems.push("last_words_hours: must be at least 1".to_owned()),
            Some(hours) => {
                config.last_words.age = Duration::from_secs(hours.saturating_mul(60 * 60));
                config.catch_up = config.last_words.age;
            }
        }
        match file.redaction_key_days {
            None => {}
            Some(0) => problems.push("redaction_key_days: must be at least 1".to_owned()),
            Some(days) => config.redaction_key_life = Duration::from_secs(days.saturating_mul(24 * 60 * 60)),
        }
        match file.certificate_hours {
            None => {}
            Some(hours @ 1..=24) => config.certificate_life = Duration::from_secs(hours * 60 * 60),
            Some(_) => problems.push("certificate_hours: must be 1 to 24".to_owned()),
        }
        match file.observe.as_deref().filter(|text| !text.is_empty()).map(str::parse::<SocketAddr>) {
            None => {}
            Some(Ok(observe)) => config.observe = Some(observe),
            Some(Err(_)) => problems.push("observe: is no ADDRESS:PORT such as 127.0.0.1:7444".to_owned()),
        }
        if file.metrics_token_file.as_deref().is_some_and(|path| !path.is_absolute()) {
            problems.push("metrics_token_file: is not an absolute path".to_owned());
        }
        config.metrics_token = file.metrics_token_file;
        match file.http.as_deref().filter(|text| !text.is_empty()).map(str::parse::<SocketAddr>) {
            None => {}
            Some(Ok(http)) => config.http = Some(http),
            Some(Err(_)) => problems.push("http: is no ADDRESS:PORT such as 127.0.0.1:7070".to_owned()),
        }
        config.http_plain = file.http_plain;
        if !file.http_names.iter().all(|name| is_host(name)) {
            problems.push("http_names: a host name has letters, digits, '.' and '-', and no port".to_owned());
        }
        config.http_names = file.http_names;
        config.reserve = file.reserve_mib.map(|mib| Bytes(mib.saturating_mul(1 << 20)));
        if config.reserve > Some(MAX_RESERVE) {
            problems.push(format!("reserve_mib: is more than {MAX_RESERVE}"));
        }
        match Targets::new(file.targets) {
            Ok(targets) => config.targets = targets,
            Err(more) => problems.extend(more),
        }
        config.archive_store = file.archive_store.map(|table| StoreConfig::check(table, &mut problems));
        config.cluster = file.cluster.map(|table| ClusterConfig::check(table, &mut problems));
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }
}

/// Whether this can be the name of a host, as browsers send it: without a port and without a dot at the end.
fn is_host(name: &str) -> bool {
    let byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    (1..=253).contains(&name.len()) && name.bytes().all(byte) && !name.ends_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_a_whole_configuration() {
        let config = Config::parse("").unwrap_or_else(|p| panic!("{p:?}"));
        assert_eq!((config.listen, config.patience), (DEFAULT_LISTEN, DEFAULT_PATIENCE));
        assert_eq!((config.data_dir.as_path(), config.budget), (Path::new(DEFAULT_DATA_DIR), DEFAULT_BUDGET));
    }

    #[test]
    fn every_key_is_taken_and_documented() {
        let text = "listen = \"0.0.0.0:1\"\ndata_dir = \"/d\"\ndeadline_secs = 7\nreturn_hours = 2\n\
                    incident_mib = 16\nlast_words_mib = 4\nlast_words_hours = 1\nredaction_key_days = 2\ncertificate_hours = 3\n\
                    observe = \"0.0.0.0:7444\"\nmetrics_token_file = \"/m/token\"\n\
                    http = \"0.0.0.0:7070\"\nhttp_plain = true\nhttp_names = [\"a.example\"]\n\
                    reserve_mib = 3\ntargets = [{name = \"api\", url = \"tcp://api:80\"}]\n\
                    [archive_store]\nurl = \"s3://evidence/a\"\nendpoint = \"http://s3:9000\"\nregion = \"x\"\n\
                    credentials_file = \"/c\"\nca_file = \"/ca\"\nallow_http = true\n\
                    [cluster]\napi = \"pod\"\naudience = \"a\"\nagents = [\"a/b\"]\n\
                    user_audiences = [\"https://x\"]\nauthority = \"n/c\"\ncollections = false\n\
                    keep_mib = 64\nkeep_hours = 2\n";
        let config = Config::parse(text).unwrap_or_else(|p| panic!("{p:?}"));
        assert_eq!((config.listen.port(), config.patience), (1, Duration::from_secs(7)));
        assert_eq!((config.budget, config.last_words.bytes), (Bytes::mib(16), Bytes::mib(4)));
        assert_eq!((config.last_words.age, config.catch_up), (Duration::from_secs(3_600), Duration::from_secs(3_600)));
        assert_eq!(config.returning, Duration::from_hours(2));
        assert_eq!(config.certificate_life, Duration::from_secs(3 * 60 * 60));
        assert_eq!((config.observe, config.reserve), ("0.0.0.0:7444".parse().ok(), Some(Bytes::mib(3))));
        assert_eq!(config.metrics_token.as_deref(), Some(Path::new("/m/token")));
        assert_eq!((config.http, config.http_plain), ("0.0.0.0:7070".parse().ok(), true));
        assert_eq!(config.http_names, ["a.example"]);
        let store = StoreConfig {
            bucket: "evidence".to_owned(),
            prefix: "a".to_owned(),
            endpoint: Some("http://s3:9000".to_owned()),
            region: "x".to_owned(),
            credentials: Some(PathBuf::from("/c")),
            ca: Some(PathBuf::from("/ca")),
            plain: true,
        };
        assert_eq!(config.archive_store, Some(store));
        let cluster = ClusterConfig {
            audience: "a".to_owned(),
            agents: vec!["a/b".parse().unwrap()],
            user_audiences: vec!["https://x".to_owned()],
            authority: "n/c".parse().ok(),
            collections: false,
            record: cluster::Record { keep: Bytes::mib(64), age: Duration::from_hours(2) },
            ..ClusterConfig::new(cluster::Access::Pod)
        };
        assert_eq!(config.cluster, Some(cluster));
        for key in text.lines().filter_map(|l| l.split(' ').next()) {
            assert!(KEYS.contains(key), "{key} is not documented");
        }
    }

    #[test]
    fn all_problems_are_named_at_once() {
        let text = "listen = \"somewhere\"\ndata_dir = \"d\"\ndeadline_secs = 0\nreturn_hours = 745\nincident_mib = 1\n\
                    last_words_mib = 1\nlast_words_hours = 0\nredaction_key_days = 0\ncertificate_hours = 25\n\
                    observe = \"here\"\nmetrics_token_file = \"token\"\n\
                    http = \"there\"\nhttp_names = [\"a:1\"]\nreserve_mib = 99999999\n\
                    targets = [{name = \"a b\", url = \"http://x/\"}, {name = \"b\", url = \"gopher://x\"}]\n\
                    [archive_store]\nurl = \"evidence\"\nendpoint = \"http://s3\"\nregion = \"a b\"\n\
                    credentials_file = \"c\"\nca_file = \"ca\"\n\
                    [cluster]\napi = \"kubeconfig\"\n\
                    audience = \"\"\nagents = [\"a\"]\nuser_audiences = [\" \"]\nauthority = \"../x\"\n\
                    keep_mib = 1\nkeep_hours = 0\n";
        let Err(problems) = Config::parse(text) else { panic!("it was taken") };
        assert_eq!(problems.len(), 28, "{problems:#?}");
    }

    #[test]
    fn what_is_no_toml_is_named_by_its_line_without_quoting_it() {
        let Err(problems) = Config::parse("\nroot:$6$secret:19000\n") else { panic!("it was taken") };
        assert!(problems[0].starts_with("line 2") && !problems[0].contains("secret"), "{problems:?}");
        let Err(problems) = Config::parse("lisen = \"x\"") else { panic!("it was taken") };
        assert!(problems[0].contains("unknown field"), "{problems:?}");
    }
}
