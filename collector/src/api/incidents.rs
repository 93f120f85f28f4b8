//! The incident service: open, get, list, watch, download.

use std::io::SeekFrom;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use casefile_proto::ids::IncidentId;
use casefile_proto::incident::{
    ArchivePiece, DownloadAsk, IncidentState, IncidentView, ListAsk, OpenAsk, SealedArchive,
};
use casefile_proto::wire::v1;
use casefile_proto::wire::v1::incident_service_server::IncidentService;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::streams::{Answers, Outlet, Streams};
use super::{malformed, not_opened, unanswered, unrecorded};
use crate::audit::{Audit, Outcome, Verb};
use crate::identity::authorise::caller;
use crate::incident::handle::Incidents;

/// Watchers at a time; each costs a task and one view.
const WATCHERS: usize = 1_000;

/// Downloads at a time; each costs a task, an open file and three pieces.
const DOWNLOADS: usize = 64;

/// The shortest time between two updates of one watcher: nobody reads faster than this.
const UPDATE_EVERY: Duration = Duration::from_millis(250);

/// Bytes of an archive in one message.
const PIECE: usize = 256 << 10;

/// The incident service.
pub struct Api {
    incidents: Incidents,
    audit: Arc<Audit>,
    watchers: Streams,
    downloads: Streams,
}

impl Api {
    /// Over these incidents. What is opened and fetched is told this audit log first.
    pub fn new(incidents: Incidents, audit: Arc<Audit>) -> Self {
        Self {
            incidents,
            audit,
            watchers: Streams::new("watchers", WATCHERS),
            downloads: Streams::new("downloads", DOWNLOADS),
        }
    }
}

#[tonic::async_trait]
impl IncidentService for Api {
    type WatchIncidentStream = Answers<v1::WatchIncidentResponse>;
    type DownloadArchiveStream = Answers<v1::DownloadArchiveResponse>;

    async fn open_incident(
        &self,
        request: Request<v1::OpenIncidentRequest>,
    ) -> Result<Response<v1::OpenIncidentResponse>, Status> {
        let caller = caller(&request)?;
        let mut ask = OpenAsk::try_from(request.into_inner()).map_err(|e| malformed(&e))?;
        // Who asks is who has proven it; what he says of himself stands beside it.
        let proven = caller.who.to_string();
        ask.ask.requested_by = match ask.ask.requested_by.as_str() {
            "" => proven,
            said => format!("{said} (as {proven})"),
        };
        let what = format!("{} of {} nodes: {}", ask.ask.window, ask.ask.nodes.len(), ask.ask.title);
        let entry = caller.entry(Verb::OpenIncident, what, Outcome::Granted);
        self.audit.recorded(entry).await.map_err(|e| unrecorded(&e))?;
        let summary = self.incidents.open(ask).await.map_err(|e| not_opened(&e))?;
        Ok(Response::new(summary.into()))
    }

    async fn get_incident(
        &self,
        request: Request<v1::GetIncidentRequest>,
    ) -> Result<Response<v1::GetIncidentResponse>, Status> {
        let id = IncidentId::try_from(request.into_inner()).map_err(|e| malformed(&e))?;
        let detail = self.incidents.detail(id).await.map_err(|e| unanswered(&e))?.ok_or_else(|| none(id))?;
        Ok(Response::new(detail.into()))
    }

    async fn list_incidents(
        &self,
        request: Request<v1::ListIncidentsRequest>,
    ) -> Result<Response<v1::ListIncidentsResponse>, Status> {
        let ask = ListAsk::try_from(request.into_inner()).map_err(|e| malformed(&e))?;
        let page = self.incidents.list(ask).await.map_err(|e| unanswered(&e))?;
        Ok(Response::new(page.into()))
    }

    async fn watch_incident(
        &self,
        request: Request<v1::WatchIncidentRequest>,
    ) -> Result<Response<Self::WatchIncidentStream>, Status> {
        let id = IncidentId::try_from(request.into_inner()).map_err(|e| malformed(&e))?;
        let view = self.incidents.watch(id).await.map_err(|e| unanswered(&e))?.ok_or_else(|| none(id))?;
        Ok(Response::new(self.watchers.open(|outlet| watch_view(view, outlet))?))
    }

    async fn download_archive(
        &self,
        request: Request<v1::DownloadArchiveRequest>,
    ) -> Result<Response<Self::DownloadArchiveStream>, Status> {
        let caller = caller(&request)?;
        let DownloadAsk { incident: id, offset, revision } =
            DownloadAsk::try_from(request.into_inner()).map_err(|e| malformed(&e))?;
        let detail = self.incidents.detail(id).await.map_err(|e| unanswered(&e))?.ok_or_else(|| none(id))?;
        let state = detail.incident.state;
        let mut archives = detail.incident.earlier.into_iter().chain(detail.incident.archive);
        let archive = match revision {
            None => archives.last().ok_or_else(|| unsealed(id, state))?,
            Some(wanted) => archives.find(|a| a.revision == wanted).ok_or_else(|| no_revision(id, wanted))?,
        };
        if offset > archive.size {
            let text = format!("offset {offset} is beyond the archive's end: it has {} bytes", archive.size);
            return Err(Status::out_of_range(text));
        }
        let what = format!("{id} {} from byte {offset}", archive.file_name);
        let entry = caller.entry(Verb::DownloadArchive, what, Outcome::Granted);
        self.audit.recorded(entry).await.map_err(|e| unrecorded(&e))?;
        let path = self.incidents.archive(&archive);
        Ok(Response::new(self.downloads.open(|outlet| download(path, archive, offset, outlet))?))
    }
}

fn none(id: IncidentId) -> Status {
    Status::not_found(format!("there is no incident {id}: casefile incidents lists them"))
}

fn no_revision(id: IncidentId, wanted: u32) -> Status {
    Status::not_found(format!("{id} has no revision {wanted}: casefile incidents says which is the newest"))
}

fn unsealed(id: IncidentId, state: IncidentState) -> Status {
    let text = match state {
        IncidentState::Failed => format!("{id} could not be sealed: casefile incidents says why"),
        other => format!("{id} is {} and not sealed yet: follow it, or try again later", other.name()),
    };
    Status::failed_precondition(text)
}

/// The view now, and again when it has changed, until the incident is sealed or has failed.
async fn watch_view(mut view: watch::Receiver<IncidentView>, outlet: Outlet<v1::WatchIncidentResponse>) {
    loop {
        let now = view.borrow_and_update().clone();
        let ended = matches!(now.incident.state, IncidentState::Sealed | IncidentState::Failed);
        if outlet.send(Ok(now.into())).await.is_err() || ended {
            return;
        }
        tokio::time::sleep(UPDATE_EVERY).await;
        // Both arms may be dropped: a change that was seen is still there to be read.
        let changed = tokio::select! {
            changed = view.changed() => changed,
            () = outlet.closed() => return,
        };
        if changed.is_err() {
            let _ =
                outlet.send(Err(Status::unavailable("the collector is stopping: watch again when it is back"))).await;
            return;
        }
    }
}

async fn download(path: PathBuf, archive: SealedArchive, offset: u64, outlet: Outlet<v1::DownloadArchiveResponse>) {
    if let Err(error) = pieces(&path, &archive, offset, &outlet).await {
        tracing::error!(path = %path.display(), %error, "a sealed archive cannot be read");
        let text = format!("{} cannot be read on the collector: {error}", archive.file_name);
        let _ = outlet.send(Err(Status::data_loss(text))).await;
    }
}

/// Sends the file from the offset on, a piece at a time.
async fn pieces(
    path: &std::path::Path,
    archive: &SealedArchive,
    mut offset: u64,
    outlet: &Outlet<v1::DownloadArchiveResponse>,
) -> std::io::Result<()> {
    let mut file = tokio::fs::File::open(path).await?;
    if file.metadata().await?.len() != archive.size {
        return Err(std::io::Error::other("its size is not what was sealed"));
    }
    file.seek(SeekFrom::Start(offset)).await?;
    let mut first = Some(archive.clone());
    loop {
        let want = u64::try_from(PIECE).unwrap_or(u64::MAX).min(archive.size - offset);
        let mut data = Vec::with_capacity(PIECE);
        (&mut file).take(want).read_to_end(&mut data).await?;
        let read = u64::try_from(data.len()).unwrap_or(u64::MAX);
        if read < want {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
        }
        let piece = ArchivePiece { offset, data: data.into(), archive: first.take() };
        if outlet.send(Ok(piece.into())).await.is_err() {
            return Ok(());
        }
        offset += read;
        if offset >= archive.size {
            return Ok(());
        }
    }
}
