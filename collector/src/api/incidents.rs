//! The incident service of gRPC: open, get, list, watch, download. What they do is [`super::verbs`].

use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use casefile_proto::ids::IncidentId;
use casefile_proto::incident::{ArchivePiece, DownloadAsk, ListAsk, OpenAsk, SealedArchive};
use casefile_proto::wire::v1;
use casefile_proto::wire::v1::incident_service_server::IncidentService;
use tokio::fs::File;
use tokio::io::AsyncSeekExt;
use tonic::{Request, Response, Status};

use super::refused::{Kind, Refused};
use super::streams::{Answers, Outlet};
use super::verbs::{self, Told, Verbs, malformed};
use crate::archives::Archives;
use crate::audit::Verb;
use crate::identity::authorise::caller;

/// The incident service.
pub struct Api {
    verbs: Arc<Verbs>,
}

impl Api {
    /// Over these verbs.
    pub fn new(verbs: Arc<Verbs>) -> Self {
        Self { verbs }
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
        let ask = OpenAsk::try_from(request.into_inner()).map_err(|e| malformed(&e))?;
        Ok(Response::new(self.verbs.open(&caller, ask).await?.into()))
    }

    async fn get_incident(
        &self,
        request: Request<v1::GetIncidentRequest>,
    ) -> Result<Response<v1::GetIncidentResponse>, Status> {
        let id = IncidentId::try_from(request.into_inner()).map_err(|e| malformed(&e))?;
        Ok(Response::new(self.verbs.get(id).await?.into()))
    }

    async fn list_incidents(
        &self,
        request: Request<v1::ListIncidentsRequest>,
    ) -> Result<Response<v1::ListIncidentsResponse>, Status> {
        let ask = ListAsk::try_from(request.into_inner()).map_err(|e| malformed(&e))?;
        Ok(Response::new(self.verbs.list(ask).await?.into()))
    }

    async fn watch_incident(
        &self,
        request: Request<v1::WatchIncidentRequest>,
    ) -> Result<Response<Self::WatchIncidentStream>, Status> {
        let id = IncidentId::try_from(request.into_inner()).map_err(|e| malformed(&e))?;
        let view = self.verbs.watch(id).await?;
        let say = |told| match told {
            Told::View(view) => Ok((*view).into()),
            // There is none: HTTP/2 has its own.
            Told::Beat | Told::Stopping => {
                Err(Refused::new(Kind::Stopping, "the collector is stopping: watch again when it is back"))
            }
        };
        Ok(Response::new(self.verbs.watchers.open(|outlet| verbs::follow(view, None, outlet, say))?))
    }

    async fn download_archive(
        &self,
        request: Request<v1::DownloadArchiveRequest>,
    ) -> Result<Response<Self::DownloadArchiveStream>, Status> {
        let caller = caller(&request)?;
        let DownloadAsk { incident: id, offset, revision } =
            DownloadAsk::try_from(request.into_inner()).map_err(|e| malformed(&e))?;
        let archive = self.verbs.archive(id, revision).await?;
        if offset > archive.size {
            let text = format!("offset {offset} is beyond the archive's end: it has {} bytes", archive.size);
            return Err(Refused::new(Kind::BeyondEnd, text).into());
        }
        let what = format!("{id} {} from byte {offset}", archive.file_name);
        self.verbs.record(&caller, Verb::DownloadArchive, what).await?;
        let archives = self.verbs.archives.clone();
        Ok(Response::new(self.verbs.downloads.open(|outlet| download(archives, id, archive, offset, outlet))?))
    }
}

async fn download(
    archives: Archives,
    id: IncidentId,
    archive: SealedArchive,
    offset: u64,
    outlet: Outlet<v1::DownloadArchiveResponse>,
) {
    // Both may be dropped: what is being fetched goes on being fetched.
    let opened = tokio::select! {
        opened = opened(&archives, id, &archive) => opened,
        // Nobody waits for it any more.
        () = outlet.closed() => return,
    };
    let sent = match opened {
        Ok((file, path)) => pieces(file, &path, &archive, offset, &outlet).await,
        Err(refused) => Err(refused),
    };
    if let Err(refused) = sent {
        // Whoever has gone does not hear it.
        let _ = outlet.send(Err(refused)).await;
    }
}

/// Opens the archive, which is fetched for as long as that takes.
async fn opened(archives: &Archives, id: IncidentId, archive: &SealedArchive) -> Result<(File, PathBuf), Refused> {
    let here = verbs::here(archives, id, archive, None).await?;
    Ok((verbs::opened(here.path(), archive).await?, here.path().to_owned()))
}

/// Sends the file from the offset on, a piece at a time.
async fn pieces(
    mut file: File,
    path: &Path,
    archive: &SealedArchive,
    mut offset: u64,
    outlet: &Outlet<v1::DownloadArchiveResponse>,
) -> Result<(), Refused> {
    let broken = |error: std::io::Error| verbs::damaged(path, archive, &error);
    file.seek(SeekFrom::Start(offset)).await.map_err(broken)?;
    let mut first = Some(archive.clone());
    loop {
        let data = verbs::piece(&mut file, archive.size - offset).await.map_err(broken)?;
        let read = u64::try_from(data.len()).unwrap_or(u64::MAX);
        let piece = ArchivePiece { offset, data, archive: first.take() };
        if outlet.send(Ok(piece.into())).await.is_err() {
            return Ok(());
        }
        offset += read;
        if offset >= archive.size {
            return Ok(());
        }
    }
}
