//! Tests of connectivity over HTTP. What is answered is what `casefile test-connectivity -o json` prints.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use casefile_proto::connectivity::{MAX_DEADLINE, TestAsk};
use casefile_proto::ids::NodeName;
use casefile_proto::wire::v1;
use serde::Deserialize;

use super::asked::Asked;
use super::{Site, json};
use crate::api::refused::{Kind, Refused};
use crate::api::verbs::malformed;

/// What is tested, and from where.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// Name or URL of a target of the list.
    target: String,
    /// Empty: every node that the collector knows.
    #[serde(default)]
    nodes: Vec<NodeName>,
    /// How long each node may take.
    #[serde(default)]
    deadline_secs: Option<u64>,
}

/// What may be tested.
pub(super) async fn targets(site: Arc<Site>, asked: Asked) -> Result<Response, Refused> {
    let [] = asked.query([])?;
    json(StatusCode::OK, &site.verbs.targets())
}

/// Has nodes test a target.
pub(super) async fn test(site: Arc<Site>, mut asked: Asked) -> Result<Response, Refused> {
    let [] = asked.query([])?;
    let Wanted { target, nodes, deadline_secs } = asked.json::<Wanted>().await?;
    let most = MAX_DEADLINE.as_secs();
    if deadline_secs.is_some_and(|secs| !(1..=most).contains(&secs)) {
        return Err(Refused::new(Kind::Malformed, format!("deadline_secs: must be 1 to {most}")));
    }
    let ask = TestAsk { target, nodes, deadline: deadline_secs.map(std::time::Duration::from_secs) };
    // Through the conversion, which knows every limit.
    let ask = TestAsk::try_from(v1::TestConnectivityRequest::from(ask)).map_err(|e| malformed(&e))?;
    json(StatusCode::OK, &site.verbs.test_connectivity(&asked.caller, ask).await?)
}
