//! The cluster that the nodes belong to, asked through its API server. The only place that names kube.
//!
//! Everything here can be away: nodes are recorded and gathered without it, and what it would have told is declared as
//! missing. [`api`] asks, in answers of a bounded size within a deadline; [`config`] is what an operator says. [`agents`] and
//! [`people`] are who somebody is and what he may do, by what the cluster knows; [`authority`] tells it who we are.
//! [`collections`] opens incidents for resources.
//!
//! How a kind is followed, [`follow`] decides and [`following`] does: for [`collections`], and for [`recorder`], which follows
//! every kind of [`kinds`] and keeps what it sees, made clean by [`sanitise`], in the
//! log of [`record`]. [`archive`] takes of it what belongs into an incident, and [`select`] finds in it which
//! nodes and logs somebody means, for [`chooser`].

pub mod agents;
pub mod api;
pub mod archive;
pub mod asking;
pub mod authority;
pub mod changes;
pub mod chooser;
pub mod collections;
pub mod config;
mod failures;
pub mod follow;
mod following;
pub mod kinds;
pub mod labels;
pub mod meta;
pub mod people;
pub mod record;
pub mod recorder;
mod remembered;
mod review;
pub mod sanitise;
pub mod select;

use std::sync::Arc;

use casefile_identity::token::Pin;

pub use api::{Api, ApiError};
use asking::Asking;
use config::{Account, ClusterConfig, DEFAULT_AUTHORITY};

use crate::ingest::Clock;
use crate::stats::Stats;

/// What the cluster says about whoever shows one of its tokens.
#[derive(Clone)]
pub struct Reviews {
    /// Of which node an agent is.
    pub agents: Arc<agents::Agents>,
    /// What users may do.
    pub people: Arc<people::People>,
}

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

    /// Who somebody is, as this cluster says.
    pub fn reviews(&self, config: &ClusterConfig, clock: &Clock, stats: &Arc<Stats>) -> Reviews {
        let ClusterConfig { audience, agents, user_audiences, .. } = config.clone();
        let (api, namespace) = (self.api.clone(), self.api.namespace().to_owned());
        let asking = || Asking::new(api.clone(), Arc::clone(clock), Arc::clone(stats));
        Reviews {
            agents: Arc::new(agents::Agents::new(asking(), audience, agents)),
            people: Arc::new(people::People::new(asking(), user_audiences, namespace)),
        }
    }

    /// Sees to it that the cluster knows this authority as ours. Never ends.
    pub async fn tell_authority(self, config: ClusterConfig, pin: Pin) {
        let own = || Account::new(self.api.namespace(), DEFAULT_AUTHORITY);
        match config.authority.or_else(own) {
            Some(at) => authority::keep(self.api, at, pin).await,
            None => tracing::error!(namespace = self.api.namespace(), "our namespace has a name that cannot be one"),
        }
    }
}
