//! gRPC health (`grpc.health.v1`), for whoever balances or probes over gRPC: serving while evidence can be taken.

use std::sync::Arc;
use std::time::Duration;

use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health as HealthService, HealthServer};
use tonic_health::server::HealthReporter;

use super::Site;
use super::health::Report;

/// Time between two looks. Whoever watches learns of a change a second late at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The names that can be asked for: the server as a whole, and its services.
const NAMES: [&str; 4] = ["", "casefile.v1.AgentService", "casefile.v1.IncidentService", "casefile.v1.NodeService"];

/// The service, and who tells it.
pub fn service() -> (HealthReporter, HealthServer<impl HealthService>) {
    tonic_health::server::health_reporter()
}

/// Tells how the collector does, for as long as it runs. What fails and what is well again is logged once.
pub async fn tell(reporter: HealthReporter, site: Arc<Site>) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut before: Option<bool> = None;
    loop {
        looks.tick().await;
        let report = site.health.ready().await;
        let good = report.is_good();
        if before != Some(good) {
            say(before, &report);
            set(&reporter, if good { ServingStatus::Serving } else { ServingStatus::NotServing }).await;
            before = Some(good);
        }
    }
}

/// The collector stops: nobody is served any more, and whoever watches is let go.
pub async fn end(reporter: &HealthReporter) {
    let mut reporter = reporter.clone();
    set(&reporter, ServingStatus::NotServing).await;
    for name in NAMES {
        reporter.clear_service_status(name).await;
    }
}

async fn set(reporter: &HealthReporter, status: ServingStatus) {
    for name in NAMES {
        reporter.set_service_status(name, status).await;
    }
}

fn say(before: Option<bool>, report: &Report) {
    let checks = report.text();
    let failed: Vec<_> = checks.lines().filter_map(|line| line.strip_prefix("failed ")).collect();
    match (before, failed.is_empty()) {
        (_, false) => tracing::warn!(why = failed.join("; "), "the collector is not ready for evidence"),
        (Some(_), true) => tracing::info!("the collector is ready for evidence again"),
        (None, true) => tracing::debug!("the collector is ready for evidence"),
    }
}
