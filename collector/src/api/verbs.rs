//! What can be done with incidents, nodes and tests of connectivity, whichever way it is asked: gRPC and REST call the same functions.
//!
//! Who asks has passed the authoriser. What opens and what gives out evidence is written into the audit log before it is done,
//! here and nowhere else.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use casefile_proto::connectivity::{Judged, MAX_REMARKS, TargetList, TestAsk};
use casefile_proto::convert::ConvertError;
use casefile_proto::ids::IncidentId;
use casefile_proto::incident::{
    IncidentDetail, IncidentPage, IncidentState, IncidentSummary, IncidentView, ListAsk, OpenAsk, SealedArchive,
};
use casefile_proto::node::NodeList;
use casefile_review::connectivity::judge;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::sync::{Semaphore, watch};

use super::refused::{Kind, Refused};
use super::streams::{Outlet, Streams};
use crate::archives::{Archives, Failed, Failure, Here, NotHere};
use crate::audit::{Audit, AuditError, Entry, Outcome, Verb};
use crate::cluster::chooser::Chooser;
use crate::cluster::select::NotChosen;
use crate::connectivity::{Connectivity, Made, NotBegun};
use crate::identity::caller::Caller;
use crate::incident::Refusal;
use crate::incident::fleet::Fleet;
use crate::incident::handle::{Incidents, OpenError};
use crate::ingest::Clock;
use crate::store::StoreError;

/// Watchers at a time; each costs a task and one view.
const WATCHERS: usize = 1_000;

/// Downloads at a time; each costs a task, an open file and three pieces.
const DOWNLOADS: usize = 64;

/// Archives that are opened by their index at a time, each on a thread of its own; others wait. One whose index is damaged is read
/// from front to back before that is known.
const OPENINGS: usize = 8;

/// The shortest time between two updates of one watcher: nobody reads faster than this.
const UPDATE_EVERY: Duration = Duration::from_millis(250);

/// How long an answer over HTTP waits for an archive that is fetched from the archive store: less than it may take to begin.
pub(super) const FETCHED_WITHIN: Duration = Duration::from_secs(20);

/// Bytes of an archive in one message.
pub(super) const PIECE: usize = 256 << 10;

/// The verbs, over what they are about.
pub struct Verbs {
    incidents: Incidents,
    /// Where archives are kept.
    pub(super) archives: Archives,
    fleet: Arc<dyn Fleet>,
    audit: Arc<Audit>,
    clock: Clock,
    connectivity: Connectivity,
    chooser: Chooser,
    /// Answers that go on while an incident changes, of both ways together.
    pub(super) watchers: Streams,
    /// Answers that are evidence, of both ways together.
    pub(super) downloads: Streams,
    /// Turns to open an archive.
    pub(super) openings: Arc<Semaphore>,
}

impl Verbs {
    /// Over these incidents and nodes. What is opened and fetched is told this audit log first.
    pub fn new(
        incidents: Incidents,
        archives: Archives,
        fleet: Arc<dyn Fleet>,
        audit: Arc<Audit>,
        clock: Clock,
        connectivity: Connectivity,
        chooser: Chooser,
    ) -> Self {
        let (watchers, downloads) = (Streams::new("watchers", WATCHERS), Streams::new("downloads", DOWNLOADS));
        let openings = Arc::new(Semaphore::new(OPENINGS));
        Self { incidents, archives, fleet, audit, clock, connectivity, chooser, watchers, downloads, openings }
    }

    /// Opens an incident.
    pub async fn open(&self, caller: &Caller, mut ask: OpenAsk) -> Result<IncidentSummary, Refused> {
        // Who asks is who has proven it; what he says of himself stands beside it.
        let proven = caller.who.to_string();
        ask.ask.requested_by = match ask.ask.requested_by.as_str() {
            "" => proven,
            said => format!("{said} (as {proven})"),
        };
        let what = format!("{} of {} nodes: {}", ask.ask.window, ask.ask.nodes.len(), ask.ask.title);
        self.record(caller, Verb::OpenIncident, what).await?;
        let ask = self.chooser.chosen(ask).await.map_err(|e| not_chosen(&e))?;
        self.incidents.open(ask).await.map_err(|e| not_opened(&e))
    }

    /// One incident with its coverage.
    pub async fn get(&self, id: IncidentId) -> Result<IncidentDetail, Refused> {
        let mut found = self.incidents.detail(id).await.map_err(|e| unanswered(&e))?.ok_or_else(|| none(id))?;
        let placed = self.archives.place(vec![found.incident]).await.map_err(|e| unanswered(&e))?;
        found.incident = placed.into_iter().next().ok_or_else(|| none(id))?;
        Ok(found)
    }

    /// A page of incidents, newest first.
    pub async fn list(&self, ask: ListAsk) -> Result<IncidentPage, Refused> {
        let IncidentPage { incidents, more } = self.incidents.list(ask).await.map_err(|e| unanswered(&e))?;
        let incidents = self.archives.place(incidents).await.map_err(|e| unanswered(&e))?;
        Ok(IncidentPage { incidents, more })
    }

    /// An incident as it changes.
    pub async fn watch(&self, id: IncidentId) -> Result<watch::Receiver<IncidentView>, Refused> {
        self.incidents.watch(id).await.map_err(|e| unanswered(&e))?.ok_or_else(|| none(id))
    }

    /// Every node, with the collector's clock.
    pub fn nodes(&self) -> NodeList {
        NodeList { nodes: self.fleet.nodes(), now: (self.clock)().wall }
    }

    /// What may be tested.
    pub fn targets(&self) -> TargetList {
        self.connectivity.listed()
    }

    /// Has nodes test whether they reach a target of the list.
    pub async fn test_connectivity(&self, caller: &Caller, ask: TestAsk) -> Result<Judged, Refused> {
        let planned = match self.connectivity.plan(ask) {
            Ok(planned) => planned,
            Err(not) => {
                if let NotBegun::Unlisted(why) = &not {
                    self.refuse_target(caller, why).await;
                }
                return Err(not_begun(&not));
            }
        };
        self.record(caller, Verb::TestConnectivity, planned.told()).await?;
        let made = self.connectivity.test(planned, caller.who.to_string()).await;
        let Made { test, not_kept } = made.map_err(|not| not_begun(&not))?;
        let mut verdict = judge(&test, 0);
        if not_kept.is_some() {
            verdict.remarks.truncate(MAX_REMARKS - 1);
            verdict.remarks.push("this result could not be kept as evidence; the collector's log says why".to_owned());
        }
        Ok(Judged { test, verdict })
    }

    /// Somebody wanted to have tested what is not listed: that is told, often in sums.
    async fn refuse_target(&self, caller: &Caller, why: &str) {
        let who = caller.who.to_string();
        let Some(times) = self.connectivity.refused.count(&who, why, Instant::now()) else { return };
        tracing::warn!(who, why, times, "a test of connectivity was refused");
        let entry = Entry { times, ..caller.entry(Verb::TestConnectivity, why.to_owned(), Outcome::Denied) };
        if let Err(error) = self.audit.recorded(entry).await {
            // It is refused all the same.
            tracing::error!(error = crate::chain::chain(&error), "a refused test is not recorded");
        }
    }

    /// An archive of an incident: the one of this revision, or the newest.
    pub async fn archive(&self, id: IncidentId, revision: Option<u32>) -> Result<SealedArchive, Refused> {
        let incident = self.get(id).await?.incident;
        let state = incident.state;
        let mut archives = incident.earlier.into_iter().chain(incident.archive);
        match revision {
            None => archives.last().ok_or_else(|| unsealed(id, state)),
            Some(wanted) => archives.find(|a| a.revision == wanted).ok_or_else(|| no_revision(id, wanted)),
        }
    }

    /// Writes down what is about to be done. What cannot be recorded is not done.
    pub async fn record(&self, caller: &Caller, verb: Verb, what: String) -> Result<(), Refused> {
        self.audit.recorded(caller.entry(verb, what, Outcome::Granted)).await.map_err(|e| unrecorded(&e))
    }
}

/// What a watcher is told.
pub(super) enum Told {
    /// The incident as it is now.
    View(Box<IncidentView>),
    /// Nothing has changed for a while.
    Beat,
    /// The collector is stopping.
    Stopping,
}

/// The view now, and again when it has changed, until the incident is sealed or has failed. With a word in between when nothing
/// changes for this long.
pub(super) async fn follow<T>(
    mut view: watch::Receiver<IncidentView>,
    beat: Option<Duration>,
    outlet: Outlet<T>,
    say: impl Fn(Told) -> Result<T, Refused>,
) {
    loop {
        let now = view.borrow_and_update().clone();
        let ended = matches!(now.incident.state, IncidentState::Sealed | IncidentState::Failed);
        if outlet.send(say(Told::View(Box::new(now)))).await.is_err() || ended {
            return;
        }
        tokio::time::sleep(UPDATE_EVERY).await;
        let changed = loop {
            let quiet = async {
                match beat {
                    Some(beat) => tokio::time::sleep(beat).await,
                    None => std::future::pending().await,
                }
            };
            // All arms may be dropped: a change that was seen is still there to be read.
            tokio::select! {
                changed = view.changed() => break changed,
                () = outlet.closed() => return,
                () = quiet => {
                    if outlet.send(say(Told::Beat)).await.is_err() {
                        return;
                    }
                }
            }
        };
        if changed.is_err() {
            // Whoever has gone does not hear it.
            let _ = outlet.send(say(Told::Stopping)).await;
            return;
        }
    }
}

/// An archive that can be opened. One that is in the archive store alone is fetched; that takes `patience` at most.
pub(super) async fn here(
    archives: &Archives,
    id: IncidentId,
    archive: &SealedArchive,
    patience: Option<Duration>,
) -> Result<Here, Refused> {
    archives.here(id, archive, patience).await.map_err(|not| not_here(archive, &not))
}

/// Opens a sealed archive for reading; refused when it is not as it was sealed.
pub(super) async fn opened(path: &Path, archive: &SealedArchive) -> Result<File, Refused> {
    let open = async {
        let file = File::open(path).await?;
        if file.metadata().await?.len() != archive.size {
            return Err(std::io::Error::other("its size is not what was sealed"));
        }
        Ok(file)
    };
    open.await.map_err(|error| damaged(path, archive, &error))
}

/// A sealed archive cannot be read: evidence is lost, or its disk is. The log has the path.
pub(super) fn damaged(path: &Path, archive: &SealedArchive, error: &dyn std::error::Error) -> Refused {
    let why = crate::chain::chain(error);
    tracing::error!(path = %path.display(), error = why, "a sealed archive cannot be read");
    Refused::new(Kind::Damaged, format!("{} cannot be read on the collector: {why}", archive.file_name))
}

/// The next piece of a file: as long as a message may be, and no more than is left.
pub(super) async fn piece(file: &mut File, left: u64) -> std::io::Result<Bytes> {
    let want = u64::try_from(PIECE).unwrap_or(u64::MAX).min(left);
    let mut data = Vec::with_capacity(PIECE);
    file.take(want).read_to_end(&mut data).await?;
    if u64::try_from(data.len()).unwrap_or(u64::MAX) < want {
        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
    }
    Ok(data.into())
}

/// What was asked is malformed; says which field and why.
pub(super) fn malformed(error: &ConvertError) -> Refused {
    Refused::new(Kind::Malformed, error.to_string())
}

fn not_chosen(error: &NotChosen) -> Refused {
    let kind = match error {
        NotChosen::Malformed(_) => Kind::Malformed,
        NotChosen::Nothing(_) | NotChosen::Unknown(_) => Kind::NotPossible,
        NotChosen::Unread(_) => Kind::Internal,
    };
    Refused::new(kind, crate::chain::chain(error))
}

fn none(id: IncidentId) -> Refused {
    Refused::new(Kind::NoIncident, format!("there is no incident {id}: casefile incidents lists them"))
}

fn no_revision(id: IncidentId, wanted: u32) -> Refused {
    let text = format!("{id} has no revision {wanted}: casefile incidents says which is the newest");
    Refused::new(Kind::NoRevision, text)
}

/// An archive is in the archive store, and that is away or has it no more: no reason to say that there is none.
fn not_here(archive: &SealedArchive, not: &NotHere) -> Refused {
    let name = &archive.file_name;
    let (kind, why) = match not {
        NotHere::Index(error) => return unanswered(error),
        NotHere::Failed(Failed { kind: Failure::Differs, .. }) => (Kind::Damaged, not.to_string()),
        // What is wrong with it names a file of ours; the log has that.
        NotHere::Failed(Failed { kind: Failure::Credentials, .. }) => {
            (Kind::Unavailable, "it is in the archive store, to which the collector has no access key".to_owned())
        }
        _ => (Kind::Unavailable, not.to_string()),
    };
    Refused::new(kind, format!("{name}: {why}"))
}

fn unsealed(id: IncidentId, state: IncidentState) -> Refused {
    match state {
        IncidentState::Failed => {
            Refused::new(Kind::NotSealable, format!("{id} could not be sealed: casefile incidents says why"))
        }
        other => {
            let text = format!("{id} is {} and not sealed yet: follow it, or try again later", other.name());
            Refused::new(Kind::NotSealed, text)
        }
    }
}

fn unrecorded(error: &AuditError) -> Refused {
    tracing::error!(error = crate::chain::chain(error), "the audit log cannot be written");
    let text = "the audit log cannot be written, so this is not done; the collector's log says why (is its disk full?)";
    Refused::new(Kind::NotRecorded, text)
}

fn not_begun(not: &NotBegun) -> Refused {
    let kind = match not {
        NotBegun::Unlisted(_) => Kind::UnlistedTarget,
        NotBegun::NoNode(_) => Kind::NoNode,
        NotBegun::NoNodes => Kind::NoNodes,
        NotBegun::TooMany => Kind::TooMany,
        NotBegun::Defect => Kind::Internal,
    };
    Refused::new(kind, not.to_string())
}

fn not_opened(error: &OpenError) -> Refused {
    match error {
        OpenError::Refused(refusal) => {
            let kind = match refusal {
                Refusal::Future { .. } | Refusal::FarEnd { .. } | Refusal::Patience { .. } => Kind::NotPossible,
                Refusal::UnknownNodes { .. } => Kind::NoNode,
                Refusal::NoNodes => Kind::NoNodes,
                Refusal::TooMany => Kind::TooMany,
            };
            Refused::new(kind, refusal.to_string())
        }
        OpenError::Store(error) => unanswered(error),
        OpenError::Stopping => Refused::new(Kind::Stopping, error.to_string()),
    }
}

/// The index did not answer. What it said goes to the log; the caller learns that it is not his mistake.
pub(super) fn unanswered(error: &StoreError) -> Refused {
    match error {
        StoreError::TooManyNodes | StoreError::TooManyTokens => Refused::new(Kind::TooMany, error.to_string()),
        StoreError::Database { .. } | StoreError::Newer { .. } => {
            tracing::error!(error = crate::chain::chain(error), "the index did not answer");
            let text = "the collector's index did not answer; its log says why (is its disk full?)";
            Refused::new(Kind::Internal, text)
        }
    }
}
