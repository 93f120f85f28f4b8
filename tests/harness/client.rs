//! A client of the collector's API, as the `casefile` command is one.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use casefile_identity::dial::{Address, Api, dial_as};
use casefile_identity::token::Token;
use casefile_proto::ids::{IncidentId, NodeName};
use casefile_proto::incident::{
    ArchivePiece, DownloadAsk, IncidentAsk, IncidentDetail, IncidentState, IncidentSummary, IncidentView, OpenAsk,
    Severity, Trigger,
};
use casefile_proto::node::{Link, NodeList, NodeStatus};
use casefile_proto::scope::Scope;
use casefile_proto::time::Window;
use casefile_proto::wire::v1::incident_service_client::IncidentServiceClient;
use casefile_proto::wire::v1::node_service_client::NodeServiceClient;
use casefile_proto::wire::v1::{GetIncidentRequest, ListIncidentsRequest, ListNodesRequest, WatchIncidentRequest};
use casefile_review::casefile::CaseFile;

use crate::wait;

/// A connection.
#[derive(Clone)]
pub struct Client {
    incidents: IncidentServiceClient<Api>,
    nodes: NodeServiceClient<Api>,
}

impl Client {
    /// Connects, and shows this token.
    pub async fn connect(to: &Address, token: &Token) -> Result<Self> {
        let channel = dial_as(to, token, |endpoint| endpoint).await.context("connect")?;
        Ok(Self { incidents: IncidentServiceClient::new(channel.clone()), nodes: NodeServiceClient::new(channel) })
    }

    /// Opens an incident; the answer of the collector when it refuses.
    pub async fn open(
        &mut self,
        window: Window,
        nodes: &[&str],
        deadline: Duration,
    ) -> Result<IncidentSummary, tonic::Status> {
        let ask = IncidentAsk {
            title: "a test".to_owned(),
            reason: "to see".to_owned(),
            requested_by: "tests".to_owned(),
            severity: Severity::Sev4,
            trigger: Trigger::Person,
            resource: None,
            runbook: None,
            window,
            nodes: nodes
                .iter()
                .map(|n| n.parse::<NodeName>())
                .collect::<Result<_, _>>()
                .map_err(|e| tonic::Status::internal(e.to_string()))?,
            scope: Scope::default(),
        };
        let answer = self
            .incidents
            .open_incident(tonic::Request::new(OpenAsk { ask, deadline: Some(deadline), slack: Duration::ZERO }.into()))
            .await?;
        IncidentSummary::try_from(answer.into_inner()).map_err(|e| tonic::Status::internal(e.to_string()))
    }

    /// Watches an incident until it is sealed.
    pub async fn sealed(&mut self, id: IncidentId) -> Result<IncidentDetail> {
        let mut views = self.incidents.watch_incident(WatchIncidentRequest::from(id)).await?.into_inner();
        loop {
            let view = views.message().await?.context("the watch ended before the incident was sealed")?;
            match IncidentView::try_from(view)?.incident {
                i if i.state == IncidentState::Sealed => break,
                i if i.state == IncidentState::Failed => bail!("sealing failed: {:?}", i.failure),
                _ => {}
            }
        }
        self.get(id).await
    }

    /// An incident as it is now.
    pub async fn get(&mut self, id: IncidentId) -> Result<IncidentDetail> {
        Ok(self
            .incidents
            .get_incident(tonic::Request::new(GetIncidentRequest::from(id)))
            .await?
            .into_inner()
            .try_into()?)
    }

    /// All incidents, newest first.
    pub async fn list(&mut self) -> Result<Vec<IncidentSummary>> {
        let (mut all, mut before) = (Vec::new(), String::new());
        loop {
            let page = ListIncidentsRequest { page_size: 0, before: before.clone() };
            let page = self.incidents.list_incidents(page).await?.into_inner();
            let summaries = page.incidents.into_iter().map(|incident| Ok(IncidentSummary::try_from(incident)?));
            all.extend(summaries.collect::<Result<Vec<_>>>()?);
            match all.last() {
                Some(last) if page.more => before = last.id.to_string(),
                _ => return Ok(all),
            }
        }
    }

    /// Fetches the archive and opens it.
    pub async fn download(&mut self, id: IncidentId, to: &Path) -> Result<CaseFile> {
        let ask = DownloadAsk { incident: id, offset: 0, revision: None };
        let mut pieces = self.incidents.download_archive(tonic::Request::new(ask.into())).await?.into_inner();
        let mut bytes = vec![];
        while let Some(piece) = pieces.message().await? {
            bytes.extend_from_slice(&ArchivePiece::try_from(piece)?.data);
        }
        std::fs::write(to, bytes).with_context(|| format!("write {}", to.display()))?;
        Ok(CaseFile::open(to)?)
    }

    /// The nodes.
    pub async fn nodes(&mut self) -> Result<Vec<NodeStatus>> {
        Ok(NodeList::try_from(self.nodes.list_nodes(ListNodesRequest {}).await?.into_inner())?.nodes)
    }

    /// Waits until a node is connected and frames of at least this length of time are at the collector.
    pub async fn recorded(&self, node: &str, at_least: Duration) -> NodeStatus {
        let client = self.clone();
        wait::until(&format!("{} ms of {node}", at_least.as_millis()), async || {
            client.clone().nodes().await.ok()?.into_iter().find(|n| {
                n.node.as_str() == node
                    && n.link == Link::Connected
                    && n.clock.is_some()
                    && n.last_words.is_some_and(|held| held.duration() >= at_least)
            })
        })
        .await
    }
}
