//! Resources of the kind `Collection`: each opens one incident, whatever happens, and its status tells what becomes of it.
//!
//! Here: doing what [`book`] says, one thing at a time. [`follow`] hears of resources, [`resource`] reads one, [`decide`] says
//! what one needs, [`status`] how that is written. Incidents need none of it: when the API server is away they go on, and
//! statuses catch up.
//!
//! One collector follows the resources of a cluster. Who made a resource is not known here, and is not claimed.

pub mod book;
pub mod decide;
pub mod follow;
pub mod resource;
pub mod status;

#[cfg(test)]
mod schema_tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use casefile_evidence::archive::layout;
use casefile_evidence::archive::reader::{Archive, Limits};
use casefile_proto::ids::IncidentId;
use casefile_proto::incident::{OpenAsk, Resource};
use casefile_proto::units::Bytes;
use casefile_review::verdict::Counts;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::codegen::http::Method;

use super::api::{Api, ApiError};
use super::chooser::Chooser;
use super::select::NotChosen;
use crate::audit::{Audit, Entry, Outcome, Verb};
use crate::chain::chain;
use crate::incident::Refusal;
use crate::incident::handle::{Incidents, OpenError};
use crate::ingest::Clock;
use crate::observe::health::Run;
use crate::stats::Stats;
use crate::stats::figure::Label;
use book::{Action, Book, Wrote};
use decide::{Known, Phase, Seen};
use follow::{News, Standing, follow};
use resource::{API, Collection, PLURAL};

/// News that wait while something is done; then the watch waits.
const NEWS: usize = 256;

/// The longest sleep, so that a stepped clock is noticed soon.
const NAP: Duration = Duration::from_secs(1);

/// How often the index is asked what became of incidents that are sealed: nodes that come back amend them, hours later.
const INDEX_EVERY: Duration = Duration::from_secs(5);

/// A resource, in an answer.
const OBJECT: usize = 4 << 20;

/// An answer about one resource must come within this.
const WITHIN: Duration = Duration::from_secs(10);

/// The most of a review that is read for its figures.
const REVIEW: Bytes = Bytes::mib(16);

/// Where it is noted that a request came from.
const FROM: &str = "cluster";

/// What it works with.
pub struct Parts {
    /// The API server.
    pub api: Api,
    /// The incidents.
    pub incidents: Incidents,
    /// Knows which nodes and logs the cluster's words mean.
    pub chooser: Chooser,
    /// Is told what is done.
    pub audit: Arc<Audit>,
    /// The collector's clocks.
    pub clock: Clock,
    /// Counts.
    pub stats: Arc<Stats>,
    /// How long before a kind that is not installed, or may not be read, is looked for again.
    pub missing_kind: Duration,
    /// Whether the collector stops.
    pub run: watch::Receiver<Run>,
}

/// Follows the resources until the collector stops; what is being done then is done to its end. The next one takes up where it
/// stood.
pub async fn run(parts: Parts) {
    let (tell, news) = mpsc::channel(NEWS);
    let (stats, api, clock) = (Arc::clone(&parts.stats), parts.api.clone(), Arc::clone(&parts.clock));
    let missing = parts.missing_kind;
    // Ends with this, when it is dropped.
    let mut following = JoinSet::new();
    let stood = std::sync::Mutex::new(None);
    let stands = move |standing, error: Option<&ApiError>| {
        let before = stood.lock().unwrap_or_else(std::sync::PoisonError::into_inner).replace(standing);
        if before != Some(standing) {
            tell_standing(&stats, standing, error);
        }
    };
    following.spawn(follow(api, clock, missing, tell, stands));
    Controller { parts, book: Book::default(), left_out: 0, forbidden: false }.run(news).await;
}

fn tell_standing(stats: &Stats, standing: Standing, error: Option<&ApiError>) {
    for one in Standing::ALL {
        stats.collections.of(*one).set(i64::from(*one == standing));
    }
    let error = error.map(|e| chain(e)).unwrap_or_default();
    match standing {
        Standing::Following => tracing::info!("collections of the cluster are followed"),
        Standing::Missing => tracing::info!(error, "the cluster has no kind Collection; it is looked for again"),
        Standing::Forbidden => tracing::warn!(error, "collections of the cluster may not be listed and watched"),
        Standing::Away => tracing::warn!(error, "collections of the cluster are not heard of; incidents go on"),
    }
}

struct Controller {
    parts: Parts,
    book: Book,
    /// As many as were said to be left out.
    left_out: usize,
    /// Whether it was said that statuses may not be written.
    forbidden: bool,
}

impl Controller {
    async fn run(mut self, mut news: mpsc::Receiver<News>) {
        let mut index_at = Instant::now();
        while !self.is_stopping() {
            if index_at <= Instant::now() {
                self.ask_index().await;
                self.count();
                index_at = Instant::now() + INDEX_EVERY;
            }
            let now = (self.parts.clock)();
            let nap = self.book.wakes_at().map_or(NAP, |at| at.since(now.boot)).min(NAP);
            // All arms may be dropped: receiving loses nothing.
            tokio::select! {
                // What happens to resources.
                heard = news.recv() => match heard {
                    Some(heard) => self.hear(heard),
                    None => return,
                },
                // The collector stops, or is gone.
                _ = self.parts.run.changed() => return,
                // Time passes.
                () = tokio::time::sleep(nap) => {}
            }
            while let Some(action) = self.book.next((self.parts.clock)()) {
                if self.is_stopping() {
                    return;
                }
                self.act(action).await;
                // What has come meanwhile may make the next thing needless.
                while let Ok(heard) = news.try_recv() {
                    self.hear(heard);
                }
            }
        }
    }

    fn is_stopping(&self) -> bool {
        *self.parts.run.borrow() == Run::Stop
    }

    fn hear(&mut self, news: News) {
        let now = (self.parts.clock)().boot;
        match news {
            News::All(all) => self.book.listed(all, now),
            News::Is(one) => self.book.set(*one, now),
            News::Gone(uid) => self.book.deleted(&uid),
        }
        if self.book.left_out() > self.left_out {
            let most = book::MAX_RESOURCES;
            tracing::warn!(most, "there are more collections than are followed: delete some that are done");
        }
        self.left_out = self.book.left_out();
    }

    async fn ask_index(&mut self) {
        match self.parts.incidents.bound().await {
            Ok(all) => self.book.bound(all, (self.parts.clock)().boot),
            Err(error) => tracing::warn!(error = chain(&error), "the index does not say which collections it has"),
        }
    }

    fn count(&self) {
        let phases: Vec<_> = self.book.phases().collect();
        for one in Phase::ALL {
            let count = phases.iter().filter(|phase| *phase == one).count();
            self.parts.stats.collections_held.of(*one).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    async fn act(&mut self, action: Action) {
        match action {
            Action::Look { uid, incident } => {
                let seen = self.look(&uid, incident).await;
                self.book.looked(&uid, seen, (self.parts.clock)().boot);
            }
            Action::Open { uid, ask } => {
                let opened = self.open(*ask).await;
                self.book.opened(&uid, opened, (self.parts.clock)().boot);
            }
            Action::Write { resource, version, patch } => {
                let metadata = json!({"resourceVersion": version, "uid": resource.uid});
                let body = json!({"metadata": metadata, "status": patch});
                let path = format!("{}/status", path(&resource));
                let sent = self.parts.api.send_json(Method::PATCH, &path, &body, OBJECT, WITHIN).await;
                if sent.is_ok() {
                    self.parts.stats.collection_writes.one();
                }
                let wrote = self.wrote(&resource, sent);
                self.book.wrote(&resource, wrote, (self.parts.clock)());
            }
            Action::Fetch { resource } => {
                let got = self.parts.api.get(&path(&resource), OBJECT, WITHIN).await;
                let wrote = self.wrote(&resource, got);
                self.book.fetched(&resource, wrote, (self.parts.clock)());
            }
            Action::Gone { resource, incident } => {
                let noted = self.gone(&resource, incident).await;
                self.book.noted(&resource.uid, noted, (self.parts.clock)().boot);
            }
        }
    }

    async fn open(&self, ask: OpenAsk) -> Result<casefile_proto::incident::IncidentSummary, Known> {
        let again = |why: String| Err(Known::Refused { why, again: true });
        let what = format!("{} of {} nodes: {}", ask.ask.window, ask.ask.nodes.len(), ask.ask.title);
        let uid = ask.ask.resource.as_ref().map_or("", |resource| &resource.uid);
        let entry = entry(&ask.ask.requested_by, Verb::OpenIncident, format!("{what} (uid {uid})"), Outcome::Granted);
        if let Err(error) = self.parts.audit.recorded(entry).await {
            tracing::error!(error = chain(&error), "the audit log cannot be written");
            return again("the collector's audit log cannot be written".to_owned());
        }
        let ask = match self.parts.chooser.chosen(ask).await {
            Ok(ask) => ask,
            // The record of the cluster may know it in a moment.
            Err(error @ (NotChosen::Unknown(_) | NotChosen::Unread(_))) => return again(chain(&error)),
            Err(error @ (NotChosen::Malformed(_) | NotChosen::Nothing(_))) => {
                return Err(Known::Refused { why: chain(&error), again: false });
            }
        };
        match self.parts.incidents.open(ask).await {
            Ok(summary) => Ok(summary),
            Err(OpenError::Refused(refusal)) => {
                let again = match &refusal {
                    Refusal::NoNodes | Refusal::TooMany => true,
                    Refusal::Future { .. } | Refusal::FarEnd { .. } => false,
                    Refusal::Patience { .. } | Refusal::UnknownNodes { .. } => false,
                };
                Err(Known::Refused { why: refusal.to_string(), again })
            }
            Err(OpenError::Store(error)) => {
                tracing::error!(error = chain(&error), "the index did not answer");
                again("the collector's index did not answer".to_owned())
            }
            Err(error @ OpenError::Stopping) => again(error.to_string()),
        }
    }

    /// An incident as it is now; `None`: the index did not answer, or lost it.
    async fn look(&self, uid: &str, incident: IncidentId) -> Option<Seen> {
        let followed = self.book.followed(uid)?;
        let view = match self.parts.incidents.watch(incident).await {
            Ok(view) => view?.borrow().clone(),
            Err(error) => {
                tracing::warn!(%incident, error = chain(&error), "the incident of a collection was not read");
                return None;
            }
        };
        let findings = match &view.incident.archive {
            None => None,
            Some(archive) => match self.book.findings(uid, archive.revision) {
                Some(counts) => Some(counts),
                None => {
                    let file = self.parts.incidents.archive(archive);
                    tokio::task::spawn_blocking(move || findings(file)).await.unwrap_or_default()
                }
            },
        };
        Some(Seen::of(&view, followed, findings))
    }

    /// What an answer about a resource means.
    fn wrote(&mut self, resource: &Resource, answer: Result<Vec<u8>, ApiError>) -> Wrote {
        let error = match answer {
            Ok(bytes) => {
                let object = serde_json::from_slice::<Value>(&bytes).ok();
                let kept = object.and_then(Collection::read).filter(|kept| is_of(kept, resource));
                return Wrote::Done(kept.map(Box::new));
            }
            Err(error) => error,
        };
        if error.is_conflict() {
            return Wrote::Conflict;
        }
        if error.is_not_found() {
            return Wrote::NotThere;
        }
        if error.is_forbidden() && !std::mem::replace(&mut self.forbidden, true) {
            tracing::warn!(error = chain(&error), "statuses of collections may not be written; incidents go on");
        }
        match &error {
            ApiError::Said { code: 400 | 413 | 422, .. } | ApiError::TooLarge(_) | ApiError::Malformed(_) => {
                tracing::warn!(%resource, error = chain(&error), "the status of a collection was not taken");
                Wrote::Unwanted
            }
            ApiError::Said { retry_after, .. } => Wrote::Away(*retry_after),
            ApiError::Access(_) | ApiError::Away(_) | ApiError::Late(_) => Wrote::Away(None),
        }
    }

    /// Notes that a resource is gone; whether that is done, now or before.
    async fn gone(&self, resource: &Resource, incident: IncidentId) -> bool {
        let what = format!("collection {resource} (uid {}): {incident} goes on", resource.uid);
        // Nobody proved who he is: that the API server told it is all that is known.
        let entry = entry("nobody", Verb::DeleteResource, what, Outcome::Noticed);
        if let Err(error) = self.parts.audit.recorded(entry).await {
            tracing::error!(error = chain(&error), "the audit log cannot be written");
            return false;
        }
        tracing::info!(%incident, %resource, "a collection was deleted; its incident goes on");
        match self.parts.incidents.resource_gone(resource.uid.clone()).await {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(error = chain(&error), "that a collection is gone was not kept");
                false
            }
        }
    }
}

fn entry(who: &str, verb: Verb, what: String, outcome: Outcome) -> Entry {
    Entry { who: who.to_owned(), from: FROM.to_owned(), verb, what, outcome, times: 1 }
}

/// Whether an object is the resource that was meant, or the next one of its name.
fn is_of(collection: &Collection, resource: &Resource) -> bool {
    (&collection.resource.namespace, &collection.resource.name) == (&resource.namespace, &resource.name)
}

fn path(resource: &Resource) -> String {
    // Checked when it was read: neither leads elsewhere.
    let Resource { namespace, name, .. } = resource;
    format!("/apis/{API}/namespaces/{namespace}/{PLURAL}/{name}")
}

/// How much the checks found in a case file. `None`: it has no review, or cannot be read now.
fn findings(file: PathBuf) -> Option<Counts> {
    #[derive(Deserialize)]
    struct Review {
        verdict: Verdict,
    }
    #[derive(Deserialize)]
    struct Verdict {
        counts: Counts,
    }
    let mut archive = Archive::open(&file, Limits::default()).ok()?;
    let bytes = archive.read(&layout::path(layout::REVIEW), REVIEW).ok()?;
    serde_json::from_slice::<Review>(&bytes).ok().map(|review| review.verdict.counts)
}
