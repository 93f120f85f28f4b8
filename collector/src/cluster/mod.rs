//! The cluster that the nodes belong to, asked through its API server. The only place that names kube.
//!
//! Everything here can be away: nodes are recorded and gathered without it, and what it would have told is declared as
//! missing. [`api`] asks, in answers of a bounded size within a deadline; [`config`] is what an operator says.

pub mod api;
pub mod config;

pub use api::{Api, ApiError};
