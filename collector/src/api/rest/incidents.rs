//! Incidents over HTTP: open, list, get. What is answered is what `casefile incidents -o json` prints.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::{self, HeaderValue};
use axum::response::Response;
use casefile_proto::ids::{IncidentId, NodeName};
use casefile_proto::incident::{IncidentAsk, IncidentDetail, ListAsk, MAX_SLACK, OpenAsk, Severity, Trigger};
use casefile_proto::scope::{Chosen, ClusterSelection, Scope, Selection};
use casefile_proto::time::Window;
use casefile_proto::wire::v1;
use serde::Deserialize;

use super::asked::{Asked, parsed};
use super::{Site, json};
use crate::api::refused::{Kind, Refused};
use crate::api::verbs::malformed;
use crate::incident::MAX_PATIENCE;

/// The most letters of a line for people.
const MAX_LINE: usize = 256;

/// The most letters of a text for people.
const MAX_TEXT: usize = 4_096;

/// Which part of the evidence is asked. A name that is mistyped must not mean everything.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Part {
    sources: Vec<String>,
    select: Select,
}

/// Which logs.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Select {
    namespaces: Vec<String>,
    pods: Vec<String>,
    units: Vec<String>,
}

impl From<Part> for Scope {
    fn from(Part { sources, select: Select { namespaces, pods, units } }: Part) -> Self {
        Self { sources, select: Selection { namespaces, pods, units }, chosen: None }
    }
}

/// What is asked when an incident is opened. Everything but the window may be left out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Opening {
    /// `[from, until)`, on the collector's clock.
    window: Window,
    #[serde(default)]
    title: String,
    #[serde(default)]
    reason: String,
    /// What the caller says of itself; who it is, its token says.
    #[serde(default)]
    requested_by: String,
    #[serde(default)]
    severity: Option<Severity>,
    #[serde(default)]
    runbook: Option<String>,
    /// Empty: every node that the collector knows.
    #[serde(default)]
    nodes: Vec<NodeName>,
    #[serde(default)]
    scope: Part,
    /// Pods and nodes in the cluster's words.
    #[serde(default)]
    cluster: ClusterSelection,
    /// How long to wait for the nodes after the window has ended.
    #[serde(default)]
    deadline_secs: Option<u64>,
    /// By how much the window of an incident that is open already may differ to answer for this one.
    #[serde(default)]
    slack_secs: u64,
}

impl Opening {
    fn ask(self) -> Result<OpenAsk, Refused> {
        let between = |name: &str, secs: u64, least: u64, most: Duration| {
            if (least..=most.as_secs()).contains(&secs) {
                return Ok(Duration::from_secs(secs));
            }
            Err(Refused::new(Kind::Malformed, format!("{name}: must be {least} to {}", most.as_secs())))
        };
        // Limits of letters, as the document has them; those of the conversion are of bytes, and wider.
        let runbook = self.runbook.as_deref().unwrap_or_default();
        for (name, text, most) in [
            ("title", self.title.as_str(), MAX_LINE),
            ("requested_by", &self.requested_by, MAX_LINE),
            ("runbook", runbook, MAX_LINE),
            ("reason", &self.reason, MAX_TEXT),
        ] {
            if text.chars().count() > most {
                return Err(Refused::new(Kind::Malformed, format!("{name}: must have at most {most} characters")));
            }
        }
        let ask = OpenAsk {
            ask: IncidentAsk {
                title: self.title,
                reason: self.reason,
                requested_by: self.requested_by,
                severity: self.severity.unwrap_or(Severity::Sev3),
                trigger: Trigger::Person,
                resource: None,
                runbook: self.runbook,
                window: self.window,
                nodes: self.nodes,
                scope: Scope {
                    chosen: Some(Box::new(Chosen { asked: self.cluster, ..Chosen::default() })),
                    ..self.scope.into()
                },
            },
            deadline: self.deadline_secs.map(|secs| between("deadline_secs", secs, 1, MAX_PATIENCE)).transpose()?,
            slack: between("slack_secs", self.slack_secs, 0, MAX_SLACK)?,
        };
        // Through the conversion, which knows every limit.
        OpenAsk::try_from(v1::OpenIncidentRequest::from(ask)).map_err(|e| malformed(&e))
    }
}

/// Opens an incident.
pub(super) async fn open(site: Arc<Site>, mut asked: Asked) -> Result<Response, Refused> {
    let [] = asked.query([])?;
    let ask = asked.json::<Opening>().await?.ask()?;
    let incident = site.verbs.open(&asked.caller, ask).await?;
    let at = format!("/api/v1/incidents/{}", incident.id);
    let mut answer = json(StatusCode::CREATED, &IncidentDetail { incident, coverage: None })?;
    if let Ok(at) = HeaderValue::from_str(&at) {
        answer.headers_mut().insert(header::LOCATION, at);
    }
    Ok(answer)
}

/// A page of incidents, newest first.
pub(super) async fn list(site: Arc<Site>, asked: Asked) -> Result<Response, Refused> {
    let [limit, before] = asked.query(["limit", "before"])?;
    let before: Option<IncidentId> = parsed("before", before)?;
    let request = v1::ListIncidentsRequest {
        page_size: match parsed("limit", limit)? {
            None => 0,
            Some(0) => return Err(Refused::new(Kind::Malformed, "limit: must be 1 or more")),
            Some(limit) => limit,
        },
        before: before.map(|id| id.to_string()).unwrap_or_default(),
    };
    let ask = ListAsk::try_from(request).map_err(|e| malformed(&e))?;
    json(StatusCode::OK, &site.verbs.list(ask).await?)
}

/// One incident, with its coverage once it is sealed.
pub(super) async fn get(site: Arc<Site>, asked: Asked) -> Result<Response, Refused> {
    let id: IncidentId = asked.param("incident")?;
    let [] = asked.query([])?;
    json(StatusCode::OK, &site.verbs.get(id).await?)
}
