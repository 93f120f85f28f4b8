//! What an operator says of the cluster: the table `[cluster]` of the collector's configuration. Its keys are documented with
//! the others, in `config.rs`.

use std::path::PathBuf;

use serde::Deserialize;

/// How the API server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// As the pod that this is.
    Pod,
    /// As a kubeconfig says.
    Kubeconfig(PathBuf),
}

/// The table, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// How the API server is reached.
    pub access: Access,
}

/// The table as written. A key that is not known is refused.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    api: String,
}

impl ClusterConfig {
    /// What says no more than how the API server is reached.
    pub fn new(access: Access) -> Self {
        Self { access }
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
        Self::new(access)
    }
}
