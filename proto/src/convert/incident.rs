//! Incidents, their progress and their archives: `incident.proto`.

use super::node::text_or_none;
use super::scope::{asked_of_cluster, scope, selection};
use super::{
    ConvertError, Fields, MAX_LINE, MAX_NODES, MAX_PAGE, MAX_SOURCE_NAME, MAX_SOURCES, MAX_TEXT, into_list, nanos,
    number_of, optional,
};
use crate::ids::{IncidentId, NodeName};
use crate::incident::{
    ArchivePiece, DownloadAsk, IncidentAsk, IncidentDetail, IncidentPage, IncidentState, IncidentSummary, IncidentView,
    ListAsk, MAX_SLACK, NodePhase, NodeProgress, OpenAsk, Resource, SealedArchive, Severity, SourceProgress, Trigger,
    Whereabouts,
};
use crate::item::Digest;
use crate::scope::{Chosen, Scope};
use crate::session::MAX_PAYLOAD;
use crate::time::WallTime;
use crate::units::Bytes;
use crate::wire::v1;

/// The page that is given when none is asked for.
const DEFAULT_PAGE: u32 = 100;

/// The most archives that one incident may name; a collector makes far fewer.
const MAX_REVISIONS: usize = 1_000;

fn node_names(f: Fields, field: &'static str, names: &[String]) -> Result<Vec<NodeName>, ConvertError> {
    f.short(field, names.len(), MAX_NODES)?;
    names.iter().map(|name| f.parsed(field, name)).collect()
}

impl TryFrom<v1::OpenIncidentRequest> for OpenAsk {
    type Error = ConvertError;
    fn try_from(r: v1::OpenIncidentRequest) -> Result<Self, ConvertError> {
        let f = Fields("OpenIncidentRequest");
        Ok(Self {
            ask: IncidentAsk {
                title: f.text("title", r.title, MAX_LINE)?,
                reason: f.text("reason", r.reason, MAX_TEXT)?,
                requested_by: f.text("requested_by", r.requested_by, MAX_LINE)?,
                severity: match r.severity {
                    0 => Severity::Sev3,
                    number => f.choice("severity", &Severity::ALL, number)?,
                },
                // Whoever uses this call is a person or acts for one; the other triggers are the programs' own.
                trigger: Trigger::Person,
                resource: None,
                runbook: text_or_none(f.text("runbook", r.runbook, MAX_LINE)?),
                window: f.inner("window", r.window)?,
                nodes: node_names(f, "nodes", &r.nodes)?,
                scope: Scope { chosen: asked_of_cluster(r.cluster)?, ..scope(f, r.sources, r.select)? },
            },
            deadline: match r.deadline_nanos {
                0 => None,
                nanos => Some(f.duration("deadline_nanos", nanos)?),
            },
            slack: match f.duration("slack_nanos", r.slack_nanos)? {
                slack if slack > MAX_SLACK => return Err(f.out_of_range("slack_nanos", r.slack_nanos)),
                slack => slack,
            },
        })
    }
}

impl From<OpenAsk> for v1::OpenIncidentRequest {
    fn from(o: OpenAsk) -> Self {
        Self {
            title: o.ask.title,
            reason: o.ask.reason,
            requested_by: o.ask.requested_by,
            severity: number_of(&Severity::ALL, &o.ask.severity),
            runbook: o.ask.runbook.unwrap_or_default(),
            window: Some(o.ask.window.into()),
            nodes: into_list(o.ask.nodes),
            sources: o.ask.scope.sources,
            select: selection(o.ask.scope.select),
            deadline_nanos: o.deadline.map_or(0, nanos),
            slack_nanos: nanos(o.slack),
            cluster: o.ask.scope.chosen.map(|chosen| chosen.asked.into()),
        }
    }
}

impl TryFrom<v1::Incident> for IncidentSummary {
    type Error = ConvertError;
    fn try_from(i: v1::Incident) -> Result<Self, ConvertError> {
        let f = Fields("Incident");
        Ok(Self {
            id: f.parsed("name", &i.name)?,
            ask: IncidentAsk {
                title: f.text("title", i.title, MAX_LINE)?,
                reason: f.text("reason", i.reason, MAX_TEXT)?,
                requested_by: f.text("requested_by", i.requested_by, MAX_LINE)?,
                severity: f.choice("severity", &Severity::ALL, i.severity)?,
                trigger: f.choice("trigger", &Trigger::ALL, i.trigger)?,
                resource: optional(i.opened_by)?,
                runbook: text_or_none(f.text("runbook", i.runbook, MAX_LINE)?),
                window: f.inner("window", i.window)?,
                nodes: node_names(f, "asked_nodes", &i.asked_nodes)?,
                scope: Scope {
                    chosen: i.chosen.map(Chosen::try_from).transpose()?.map(Box::new),
                    ..scope(f, i.sources, i.select)?
                },
            },
            expected: node_names(f, "expected_nodes", &i.expected_nodes)?,
            state: f.choice("state", &IncidentState::ALL, i.state)?,
            opened_at: WallTime::from_nanos(i.opened_unix_nanos),
            deadline: WallTime::from_nanos(i.deadline_unix_nanos),
            archive: optional(i.archive)?,
            earlier: f.list("earlier", i.earlier, MAX_REVISIONS)?,
            failure: text_or_none(f.text("failure", i.failure, MAX_TEXT)?),
        })
    }
}

impl From<IncidentSummary> for v1::Incident {
    fn from(i: IncidentSummary) -> Self {
        Self {
            name: i.id.into(),
            title: i.ask.title,
            reason: i.ask.reason,
            requested_by: i.ask.requested_by,
            severity: number_of(&Severity::ALL, &i.ask.severity),
            trigger: number_of(&Trigger::ALL, &i.ask.trigger),
            opened_by: i.ask.resource.map(Into::into),
            runbook: i.ask.runbook.unwrap_or_default(),
            window: Some(i.ask.window.into()),
            asked_nodes: into_list(i.ask.nodes),
            expected_nodes: into_list(i.expected),
            state: number_of(&IncidentState::ALL, &i.state),
            opened_unix_nanos: i.opened_at.nanos(),
            deadline_unix_nanos: i.deadline.nanos(),
            archive: i.archive.map(Into::into),
            earlier: into_list(i.earlier),
            failure: i.failure.unwrap_or_default(),
            sources: i.ask.scope.sources,
            select: selection(i.ask.scope.select),
            chosen: i.ask.scope.chosen.map(|chosen| (*chosen).into()),
        }
    }
}

impl TryFrom<v1::OpenedBy> for Resource {
    type Error = ConvertError;
    fn try_from(r: v1::OpenedBy) -> Result<Self, ConvertError> {
        let f = Fields("OpenedBy");
        Ok(Self {
            namespace: f.name("namespace", r.namespace, Self::MAX_WORD)?,
            name: f.name("name", r.name, Self::MAX_WORD)?,
            uid: f.name("uid", r.uid, Self::MAX_WORD)?,
            generation: f.quantity("generation", r.generation)?,
        })
    }
}

impl From<Resource> for v1::OpenedBy {
    fn from(r: Resource) -> Self {
        Self { namespace: r.namespace, name: r.name, uid: r.uid, generation: r.generation }
    }
}

impl TryFrom<v1::SealedArchive> for SealedArchive {
    type Error = ConvertError;
    fn try_from(a: v1::SealedArchive) -> Result<Self, ConvertError> {
        let f = Fields("SealedArchive");
        // A client may name a local file after it, so it must be a name and no path.
        let name: crate::item::EntryPath = f.parsed("file_name", &a.file_name)?;
        if name.as_str().contains('/') {
            return Err(f.wrong("file_name", super::Problem::Invalid("is a path".to_owned())));
        }
        Ok(Self {
            file_name: a.file_name,
            size: f.quantity("size", a.size)?,
            sha256: Digest(f.array("sha256", &a.sha256)?),
            sealed_at: WallTime::from_nanos(a.sealed_unix_nanos),
            whole: a.whole,
            revision: a.revision.max(1),
            kept: match a.kept {
                0 => None,
                kept => Some(f.choice("kept", &Whereabouts::ALL, kept)?),
            },
        })
    }
}

impl From<SealedArchive> for v1::SealedArchive {
    fn from(a: SealedArchive) -> Self {
        Self {
            file_name: a.file_name,
            size: a.size,
            sha256: a.sha256.0.to_vec(),
            sealed_unix_nanos: a.sealed_at.nanos(),
            whole: a.whole,
            revision: a.revision,
            kept: a.kept.map_or(0, |kept| number_of(&Whereabouts::ALL, &kept)),
        }
    }
}

impl TryFrom<v1::NodeProgress> for NodeProgress {
    type Error = ConvertError;
    fn try_from(p: v1::NodeProgress) -> Result<Self, ConvertError> {
        let f = Fields("NodeProgress");
        Ok(Self {
            node: f.parsed("node", &p.node)?,
            phase: f.choice("state", &NodePhase::ALL, p.state)?,
            sources: f.list("sources", p.sources, MAX_SOURCES)?,
        })
    }
}

impl From<NodeProgress> for v1::NodeProgress {
    fn from(p: NodeProgress) -> Self {
        Self { node: p.node.into(), state: number_of(&NodePhase::ALL, &p.phase), sources: into_list(p.sources) }
    }
}

impl TryFrom<v1::SourceProgress> for SourceProgress {
    type Error = ConvertError;
    fn try_from(p: v1::SourceProgress) -> Result<Self, ConvertError> {
        let f = Fields("SourceProgress");
        Ok(Self {
            source: f.name("source", p.source, MAX_SOURCE_NAME)?,
            records: f.quantity("records", p.records)?,
            bytes: Bytes(f.quantity("bytes", p.bytes)?),
            gaps: f.quantity("gaps", p.gaps)?,
            done: p.done,
        })
    }
}

impl From<SourceProgress> for v1::SourceProgress {
    fn from(p: SourceProgress) -> Self {
        Self { source: p.source, records: p.records, bytes: p.bytes.0, gaps: p.gaps, done: p.done }
    }
}

impl TryFrom<v1::OpenIncidentResponse> for IncidentSummary {
    type Error = ConvertError;
    fn try_from(r: v1::OpenIncidentResponse) -> Result<Self, ConvertError> {
        Fields("OpenIncidentResponse").inner("incident", r.incident)
    }
}

impl From<IncidentSummary> for v1::OpenIncidentResponse {
    fn from(i: IncidentSummary) -> Self {
        Self { incident: Some(i.into()) }
    }
}

impl TryFrom<v1::GetIncidentRequest> for IncidentId {
    type Error = ConvertError;
    fn try_from(r: v1::GetIncidentRequest) -> Result<Self, ConvertError> {
        Fields("GetIncidentRequest").parsed("incident", &r.incident)
    }
}

impl From<IncidentId> for v1::GetIncidentRequest {
    fn from(id: IncidentId) -> Self {
        Self { incident: id.into() }
    }
}

impl TryFrom<v1::GetIncidentResponse> for IncidentDetail {
    type Error = ConvertError;
    fn try_from(r: v1::GetIncidentResponse) -> Result<Self, ConvertError> {
        Ok(Self {
            incident: Fields("GetIncidentResponse").inner("incident", r.incident)?,
            coverage: optional(r.coverage)?,
        })
    }
}

impl From<IncidentDetail> for v1::GetIncidentResponse {
    fn from(d: IncidentDetail) -> Self {
        Self { incident: Some(d.incident.into()), coverage: d.coverage.map(Into::into) }
    }
}

impl TryFrom<v1::ListIncidentsRequest> for ListAsk {
    type Error = ConvertError;
    fn try_from(r: v1::ListIncidentsRequest) -> Result<Self, ConvertError> {
        let f = Fields("ListIncidentsRequest");
        Ok(Self {
            page: match r.page_size {
                0 => DEFAULT_PAGE,
                1..=MAX_PAGE => r.page_size,
                n => return Err(f.out_of_range("page_size", n)),
            },
            before: text_or_none(r.before).map(|name| f.parsed("before", &name)).transpose()?,
        })
    }
}

impl From<ListAsk> for v1::ListIncidentsRequest {
    fn from(l: ListAsk) -> Self {
        Self { page_size: l.page, before: l.before.map_or_else(String::new, String::from) }
    }
}

impl TryFrom<v1::ListIncidentsResponse> for IncidentPage {
    type Error = ConvertError;
    fn try_from(r: v1::ListIncidentsResponse) -> Result<Self, ConvertError> {
        let limit = usize::try_from(MAX_PAGE).unwrap_or(usize::MAX);
        Ok(Self { incidents: Fields("ListIncidentsResponse").list("incidents", r.incidents, limit)?, more: r.more })
    }
}

impl From<IncidentPage> for v1::ListIncidentsResponse {
    fn from(p: IncidentPage) -> Self {
        Self { incidents: into_list(p.incidents), more: p.more }
    }
}

impl TryFrom<v1::WatchIncidentRequest> for IncidentId {
    type Error = ConvertError;
    fn try_from(r: v1::WatchIncidentRequest) -> Result<Self, ConvertError> {
        Fields("WatchIncidentRequest").parsed("incident", &r.incident)
    }
}

impl From<IncidentId> for v1::WatchIncidentRequest {
    fn from(id: IncidentId) -> Self {
        Self { incident: id.into() }
    }
}

impl TryFrom<v1::WatchIncidentResponse> for IncidentView {
    type Error = ConvertError;
    fn try_from(r: v1::WatchIncidentResponse) -> Result<Self, ConvertError> {
        let f = Fields("WatchIncidentResponse");
        Ok(Self { incident: f.inner("incident", r.incident)?, nodes: f.list("nodes", r.nodes, MAX_NODES)? })
    }
}

impl From<IncidentView> for v1::WatchIncidentResponse {
    fn from(v: IncidentView) -> Self {
        Self { incident: Some(v.incident.into()), nodes: into_list(v.nodes) }
    }
}

impl TryFrom<v1::DownloadArchiveRequest> for DownloadAsk {
    type Error = ConvertError;
    fn try_from(r: v1::DownloadArchiveRequest) -> Result<Self, ConvertError> {
        let f = Fields("DownloadArchiveRequest");
        Ok(Self {
            incident: f.parsed("incident", &r.incident)?,
            offset: f.quantity("offset", r.offset)?,
            revision: Some(r.revision).filter(|revision| *revision > 0),
        })
    }
}

impl From<DownloadAsk> for v1::DownloadArchiveRequest {
    fn from(d: DownloadAsk) -> Self {
        Self { incident: d.incident.into(), offset: d.offset, revision: d.revision.unwrap_or(0) }
    }
}

impl TryFrom<v1::DownloadArchiveResponse> for ArchivePiece {
    type Error = ConvertError;
    fn try_from(r: v1::DownloadArchiveResponse) -> Result<Self, ConvertError> {
        let f = Fields("DownloadArchiveResponse");
        // Empty is allowed: the answer to a download from the very end.
        f.short("data", r.data.len(), MAX_PAYLOAD)?;
        Ok(Self { offset: f.quantity("offset", r.offset)?, data: r.data, archive: optional(r.archive)? })
    }
}

impl From<ArchivePiece> for v1::DownloadArchiveResponse {
    fn from(p: ArchivePiece) -> Self {
        Self { offset: p.offset, data: p.data, archive: p.archive.map(Into::into) }
    }
}
