//! The incidents of a collector, for whoever opens, watches, lists or downloads them. The task behind it is
//! [`super::gather`]; what is finished is read from the index.

use std::path::PathBuf;
use std::sync::Arc;

use casefile_proto::ids::IncidentId;
use casefile_proto::incident::{
    IncidentDetail, IncidentPage, IncidentState, IncidentSummary, IncidentView, ListAsk, OpenAsk, SealedArchive,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::{Refusal, view};
use crate::data::DataDir;
use crate::store::{Bound, Store, StoreError, blocking};

/// Why an incident was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It may not be.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The index could not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The collector is stopping.
    #[error("the collector is stopping: open the incident again when it is back")]
    Stopping,
}

/// What an orderly stop left.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Left {
    /// Incidents that are not sealed; they go on at the next start.
    pub unfinished: Vec<(IncidentId, IncidentState)>,
}

/// What the task of gathering is told.
pub(super) enum Command {
    Open(Box<OpenAsk>, oneshot::Sender<Result<IncidentSummary, OpenError>>),
    Watch(IncidentId, oneshot::Sender<Option<watch::Receiver<IncidentView>>>),
    Stop(Instant, oneshot::Sender<Left>),
}

/// The incidents of a collector. Cheap to clone.
#[derive(Clone)]
pub struct Incidents {
    commands: mpsc::Sender<Command>,
    store: Arc<dyn Store>,
    data: Arc<DataDir>,
}

impl Incidents {
    pub(super) fn new(commands: mpsc::Sender<Command>, store: Arc<dyn Store>, data: Arc<DataDir>) -> Self {
        Self { commands, store, data }
    }

    /// Opens an incident.
    pub async fn open(&self, ask: OpenAsk) -> Result<IncidentSummary, OpenError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Open(Box::new(ask), reply)).await.map_err(|_| OpenError::Stopping)?;
        answer.await.map_err(|_| OpenError::Stopping)?
    }

    /// An incident as it changes; a finished one once. `None`: there is no such incident.
    pub async fn watch(&self, id: IncidentId) -> Result<Option<watch::Receiver<IncidentView>>, StoreError> {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(Command::Watch(id, reply)).await.is_ok()
            && let Ok(Some(live)) = answer.await
        {
            return Ok(Some(live));
        }
        let found = blocking(&self.store, move |store| Ok((store.incident(id)?, store.coverage(id)?))).await?;
        let (Some(record), coverage) = found else { return Ok(None) };
        Ok(Some(watch::channel(view::stored(&record, coverage.as_ref())).1))
    }

    /// One incident with its coverage. `None`: there is no such incident.
    pub async fn detail(&self, id: IncidentId) -> Result<Option<IncidentDetail>, StoreError> {
        let found = blocking(&self.store, move |store| Ok((store.incident(id)?, store.coverage(id)?))).await?;
        Ok(found.0.map(|record| IncidentDetail { incident: record.summary(), coverage: found.1 }))
    }

    /// A page of incidents.
    pub async fn list(&self, ask: ListAsk) -> Result<IncidentPage, StoreError> {
        blocking(&self.store, move |store| store.list(ask)).await
    }

    /// Every resource of Kubernetes that an incident answers for and that was not deleted.
    pub async fn bound(&self) -> Result<Vec<Bound>, StoreError> {
        blocking(&self.store, |store| store.bound()).await
    }

    /// The resource of this uid was deleted. Whether that is news.
    pub async fn resource_gone(&self, uid: String) -> Result<bool, StoreError> {
        blocking(&self.store, move |store| store.resource_gone(&uid)).await
    }

    /// Where a sealed archive lies.
    pub fn archive(&self, archive: &SealedArchive) -> PathBuf {
        self.data.archives().join(&archive.file_name)
    }

    /// Takes nothing new, lets what is being sealed end until `deadline`, and says what is left.
    pub async fn stop(&self, deadline: Instant) -> Left {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(Command::Stop(deadline, reply)).await.is_err() {
            return Left::default();
        }
        answer.await.unwrap_or_default()
    }
}
