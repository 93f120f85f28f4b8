//! What an operator says of the cluster: the table `[cluster]` of the collector's configuration. Its keys are documented with
//! the others, in `config.rs`.

use std::path::PathBuf;
use std::time::Duration;

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
    /// How long before a kind that the cluster does not have is looked for again.
    pub missing_kind: Duration,
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
}

impl ClusterConfig {
    /// What says no more than how the API server is reached.
    pub fn new(access: Access) -> Self {
        let agents = Account::new("casefile", "casefile-agent").into_iter().collect();
        let (audience, user_audiences) = (DEFAULT_AUDIENCE.to_owned(), Vec::new());
        Self { access, audience, agents, user_audiences, authority: None, collections: true, missing_kind: MISSING_KIND }
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
        config
    }
}
