//! What an operator says of the cluster: the table `[cluster]` of the collector's configuration. Its keys are documented with
//! the others, in `config.rs`.

use std::path::PathBuf;
use std::time::Duration;

use casefile_proto::units::Bytes;
use serde::Deserialize;

/// How the API server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// As the pod that this is.
    Pod,
    /// As a kubeconfig says.
    Kubeconfig(PathBuf),
}

/// How long before a kind that the cluster does not have is looked for again: somebody may install it.
const MISSING_KIND: Duration = Duration::from_mins(3);

/// What the log of the cluster may hold when nothing is said: a day of a large cluster.
pub const DEFAULT_RECORD: Record = Record { keep: Bytes::mib(512), age: Duration::from_hours(24) };

/// The smallest log: below this the objects of a small cluster would not fit.
const MIN_KEEP: Bytes = Bytes::mib(64);

/// What is kept of what the cluster showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// The most of it on disk.
    pub keep: Bytes,
    /// The oldest of it.
    pub age: Duration,
}

/// The table, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// How the API server is reached.
    pub access: Access,
    /// What the tokens of agents are issued for.
    pub audience: String,
    /// The service accounts whose pods are agents.
    pub agents: Vec<Account>,
    /// What the tokens of people are issued for; empty: for the API server itself.
    pub user_audiences: Vec<String>,
    /// The config map that tells agents and people which authority is this collector's; `None`: `casefile-authority` in our own
    /// namespace.
    pub authority: Option<Account>,
    /// Whether resources of the kind `Collection` open incidents.
    pub collections: bool,
    /// How long before the kind `Collection` is looked for again when the cluster does not have it, or does not let us read it.
    pub missing_kind: Duration,
    /// What is kept of what it showed.
    pub record: Record,
}

/// The audience of agents' tokens when nothing is said.
pub const DEFAULT_AUDIENCE: &str = "casefile-collector";

/// The config map when nothing is said.
pub const DEFAULT_AUTHORITY: &str = "casefile-authority";

/// The longest audience: a URL.
const MAX_AUDIENCE: usize = 512;

/// The most service accounts or audiences.
const MAX_LIST: usize = 16;

/// Something in a namespace: `NAMESPACE/NAME`, both as Kubernetes has names (RFC 1123), so that they can stand in a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    namespace: String,
    name: String,
}

impl Account {
    /// From both of its names; `None`: one of them is no name of Kubernetes.
    pub fn new(namespace: &str, name: &str) -> Option<Self> {
        let fits = is_label(namespace) && is_name(name);
        fits.then(|| Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }

    /// Where it is.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// What it is called there.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl std::str::FromStr for Account {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        text.split_once('/').and_then(|(namespace, name)| Self::new(namespace, name)).ok_or(())
    }
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Whether this is the name of most things in Kubernetes (RFC 1123 subdomain).
pub(super) fn is_name(text: &str) -> bool {
    (1..=253).contains(&text.len()) && text.split('.').all(is_label)
}

/// Whether this is the name of a namespace (RFC 1123 label; parts of a subdomain may be longer than 63).
fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_audience(text: &str) -> bool {
    (1..=MAX_AUDIENCE).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// The table as written. A key that is not known is refused.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    api: String,
    audience: Option<String>,
    agents: Option<Vec<String>>,
    #[serde(default)]
    user_audiences: Vec<String>,
    authority: Option<String>,
    collections: Option<bool>,
    keep_mib: Option<u64>,
    keep_hours: Option<u64>,
}

impl ClusterConfig {
    /// What says no more than how the API server is reached.
    pub fn new(access: Access) -> Self {
        let agents = Account::new("casefile", "casefile-agent").into_iter().collect();
        let (audience, user_audiences) = (DEFAULT_AUDIENCE.to_owned(), Vec::new());
        Self {
            access,
            audience,
            agents,
            user_audiences,
            authority: None,
            collections: true,
            missing_kind: MISSING_KIND,
            record: DEFAULT_RECORD,
        }
    }

    /// Checks the table; what is wrong is added to the problems.
    pub(crate) fn check(table: Table, problems: &mut Vec<String>) -> Self {
        let access = match table.api.as_str() {
            "pod" => Access::Pod,
            path => Access::Kubeconfig(PathBuf::from(path)),
        };
        if matches!(&access, Access::Kubeconfig(path) if !path.is_absolute()) {
            problems.push("cluster.api: is neither \"pod\" nor the absolute path of a kubeconfig".to_owned());
        }
        let mut config = Self::new(access);
        match table.audience {
            None => {}
            Some(audience) if is_audience(&audience) => config.audience = audience,
            Some(_) => problems.push("cluster.audience: is empty, too long or has spaces".to_owned()),
        }
        if let Some(agents) = table.agents {
            config.agents = agents.iter().filter_map(|account| account.parse().ok()).collect();
            if agents.is_empty() || config.agents.len() != agents.len() || agents.len() > MAX_LIST {
                problems.push(format!("cluster.agents: 1 to {MAX_LIST} service accounts, each as NAMESPACE/NAME"));
            }
        }
        if !table.user_audiences.iter().all(|audience| is_audience(audience)) || table.user_audiences.len() > MAX_LIST {
            problems.push(format!("cluster.user_audiences: up to {MAX_LIST}, none empty, too long or with spaces"));
        }
        config.user_audiences = table.user_audiences;
        match table.authority.as_deref().map(str::parse) {
            None => {}
            Some(Ok(authority)) => config.authority = Some(authority),
            Some(Err(())) => problems.push("cluster.authority: is no config map as NAMESPACE/NAME".to_owned()),
        }
        config.collections = table.collections.unwrap_or(true);
        if let Some(mib) = table.keep_mib {
            config.record.keep = Bytes(mib.saturating_mul(1 << 20));
        }
        if config.record.keep < MIN_KEEP {
            problems.push(format!("cluster.keep_mib: {} is less than {MIN_KEEP}", config.record.keep));
        }
        match table.keep_hours {
            None => {}
            Some(0) => problems.push("cluster.keep_hours: must be at least 1".to_owned()),
            Some(hours) => config.record.age = Duration::from_secs(hours.saturating_mul(60 * 60)),
        }
        config
    }
}
