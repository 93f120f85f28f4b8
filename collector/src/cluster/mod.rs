//! The cluster that the nodes belong to, asked through its API server. The only place that names kube.
//!
//! Everything here can be away: nodes are recorded and gathered without it, and what it would have told is declared as
//! missing. [`api`] asks, in answers of a bounded size within a deadline; [`config`] is what an operator says.

pub mod api;
pub mod config;

pub use api::{Api, ApiError};
use config::ClusterConfig;

/// The cluster, as far as this collector has to do with it.
#[derive(Clone)]
pub struct Cluster {
    api: Api,
}

impl Cluster {
    /// Finds the API server. Does not wait for it: it may be away.
    pub async fn open(config: &ClusterConfig) -> Result<Self, ApiError> {
        Ok(Self { api: Api::new(&config.access).await? })
    }

    /// Its API server.
    pub const fn api(&self) -> &Api {
        &self.api
    }
}
