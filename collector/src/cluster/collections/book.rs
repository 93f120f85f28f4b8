//! Every resource that is known, and what is to be done for which of them next. Pure: news and answers and the time in, one
//! action at a time out.
//!
//! Nothing is opened before the index has said which resources have an incident already. What the API server refuses is tried
//! again later and later; what it accepts and does not keep, too. Incidents go on whatever becomes of a status.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use casefile_proto::ids::IncidentId;
use casefile_proto::incident::{IncidentState, IncidentSummary, OpenAsk, Resource};
use casefile_proto::time::{BootTime, Stamp};
use casefile_review::verdict::Counts;
use serde_json::Value;

use super::decide::{Decision, Known, Phase, Seen, decide, phase};
use super::resource::Collection;
use super::status::{SUCCEEDED, Status};
use crate::store::Bound;

/// Resources that are known at a time; what is more waits until others were deleted.
pub const MAX_RESOURCES: usize = 10_000;

/// Resources that were deleted and are remembered: an old event does not bring them back.
const MAX_DEAD: usize = 1_000;

/// How often an incident that is not sealed is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The shortest time between two writes of figures alone, for one resource. A condition that turns is written at once.
const FIGURES_EVERY: Duration = Duration::from_secs(2);

/// The shortest time between two writes for any: ten a second are not felt by an API server.
const WRITE_EVERY: Duration = Duration::from_millis(100);

/// How long before what failed is tried again; it doubles up to the most.
const AGAIN: Duration = Duration::from_millis(500);
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Look how an incident is.
    Look {
        /// For this resource.
        uid: String,
        /// Which one.
        incident: IncidentId,
    },
    /// Open an incident.
    Open {
        /// For this resource.
        uid: String,
        /// With this request.
        ask: Box<OpenAsk>,
    },
    /// Patch a status.
    Write {
        /// Of this resource.
        resource: Resource,
        /// In this version.
        version: String,
        /// With this.
        patch: Value,
    },
    /// Get a resource as it is now.
    Fetch {
        /// Which.
        resource: Resource,
    },
    /// Note that a resource is gone whose incident goes on.
    Gone {
        /// Which.
        resource: Resource,
        /// The incident.
        incident: IncidentId,
    },
}

/// What became of a write, or of a fetch.
#[derive(Debug)]
pub enum Wrote {
    /// It was done: the resource as it is now, where that can be read.
    Done(Option<Box<Collection>>),
    /// Somebody else was faster.
    Conflict,
    /// There is no such resource.
    NotThere,
    /// It will not be taken as it is.
    Unwanted,
    /// The API server is away, or has had enough; when it wants to be asked again, if it said so.
    Away(Option<Duration>),
}

/// One resource.
#[derive(Debug)]
struct Entry {
    collection: Collection,
    known: Known,
    look_at: BootTime,
    open_at: BootTime,
    write_at: BootTime,
    figures_at: BootTime,
    /// Times in a row that an incident was refused for now.
    refusals: u32,
    /// Times in a row that a write did not come to stay.
    failures: u32,
    /// What was written last, until it is seen that it was kept.
    written: Option<Status>,
    fetch: bool,
}

/// All of them.
#[derive(Debug)]
pub struct Book {
    entries: BTreeMap<String, Entry>,
    /// The uid of each name.
    names: BTreeMap<(String, String), String>,
    /// What the index says; `None`: it was not asked yet.
    bound: Option<BTreeMap<String, Bound>>,
    /// Whether every resource there is was heard of.
    complete: bool,
    /// Resources that may need something, and from when on.
    due: BTreeMap<String, BootTime>,
    gone: VecDeque<String>,
    /// Uids that were deleted, the newest last. None is ever given again.
    dead: VecDeque<String>,
    note_at: BootTime,
    write_at: BootTime,
    away: u32,
    /// Resources that there was no room for.
    left_out: BTreeSet<String>,
}

impl Default for Book {
    fn default() -> Self {
        let now = BootTime::from_nanos(0);
        Self {
            entries: BTreeMap::new(),
            names: BTreeMap::new(),
            bound: None,
            complete: false,
            due: BTreeMap::new(),
            gone: VecDeque::new(),
            dead: VecDeque::new(),
            note_at: now,
            write_at: now,
            away: 0,
            left_out: BTreeSet::new(),
        }
    }
}

impl Book {
    /// Every resource there is.
    pub fn listed(&mut self, all: Vec<Collection>, now: BootTime) {
        let there: BTreeSet<_> = all.iter().map(|c| c.resource.uid.clone()).collect();
        let missing: Vec<_> = self.entries.keys().filter(|uid| !there.contains(*uid)).cloned().collect();
        for uid in missing {
            self.deleted(&uid);
        }
        self.left_out.clear();
        // What is there is there, whatever was said before.
        self.dead.retain(|uid| !there.contains(uid));
        for collection in all {
            self.take(collection, now);
        }
        self.complete = true;
        self.sweep();
    }

    /// A resource as it is now, or was: what is older than what is known of its name, or was deleted, is no news.
    pub fn set(&mut self, collection: Collection, now: BootTime) {
        let Resource { namespace, name, uid, .. } = &collection.resource;
        let known = self.names.get(&(namespace.clone(), name.clone())).and_then(|uid| self.entries.get(uid));
        let is_older = known.is_some_and(|known| collection.is_older_than(&known.collection));
        if !(is_older || self.dead.contains(uid)) {
            self.take(collection, now);
        }
    }

    fn take(&mut self, collection: Collection, now: BootTime) {
        let uid = collection.resource.uid.clone();
        if !self.entries.contains_key(&uid) && self.entries.len() >= MAX_RESOURCES {
            self.left_out.insert(uid);
            return;
        }
        self.left_out.remove(&uid);
        let name = (collection.resource.namespace.clone(), collection.resource.name.clone());
        if let Some(before) = self.names.insert(name, uid.clone())
            && before != uid
        {
            // Two of one name were never there at a time: that the first was deleted was not heard.
            self.deleted(&before);
            let name = (collection.resource.namespace.clone(), collection.resource.name.clone());
            self.names.insert(name, uid.clone());
        }
        match self.entries.get_mut(&uid) {
            Some(entry) => {
                let changed = entry.collection.resource.generation != collection.resource.generation;
                if changed && matches!(entry.known, Known::Refused { .. }) {
                    (entry.known, entry.open_at) = (Known::Nothing, now);
                }
                entry.collection = collection;
                entry.fetch = false;
            }
            None => {
                let entry = Entry {
                    collection,
                    known: Known::Nothing,
                    look_at: now,
                    open_at: now,
                    write_at: now,
                    figures_at: now,
                    refusals: 0,
                    failures: 0,
                    written: None,
                    fetch: false,
                };
                self.entries.insert(uid.clone(), entry);
            }
        }
        self.due.insert(uid, now);
    }

    /// A resource was deleted.
    pub fn deleted(&mut self, uid: &str) {
        self.left_out.remove(uid);
        self.due.remove(uid);
        if !self.dead.iter().any(|dead| dead == uid) {
            self.dead.push_back(uid.to_owned());
            if self.dead.len() > MAX_DEAD {
                self.dead.pop_front();
            }
        }
        if let Some(entry) = self.entries.remove(uid) {
            let Resource { namespace, name, .. } = entry.collection.resource;
            if self.names.get(&(namespace.clone(), name.clone())).is_some_and(|of| of == uid) {
                self.names.remove(&(namespace, name));
            }
            self.gone.push_back(uid.to_owned());
        }
    }

    /// What the index says of all resources that have an incident.
    pub fn bound(&mut self, all: Vec<Bound>, now: BootTime) {
        let first = self.bound.is_none();
        let before = self.bound.take().unwrap_or_default();
        let all: BTreeMap<_, _> = all.into_iter().map(|bound| (bound.resource.uid.clone(), bound)).collect();
        for (uid, _) in all.iter().filter(|(uid, bound)| before.get(*uid) != Some(*bound)) {
            if let Some(entry) = self.entries.get_mut(uid) {
                entry.look_at = now;
                self.due.insert(uid.clone(), now);
            }
        }
        self.bound = Some(all);
        if first {
            self.due.extend(self.entries.keys().map(|uid| (uid.clone(), now)));
            self.sweep();
        }
    }

    /// How far each resource is.
    pub fn phases(&self) -> impl Iterator<Item = Phase> {
        self.entries.values().map(|entry| phase(&entry.collection, &entry.known))
    }

    /// How many resources there was no room for.
    pub fn left_out(&self) -> usize {
        self.left_out.len()
    }

    /// When there is something to do next; `None`: not before something is heard.
    pub fn wakes_at(&self) -> Option<BootTime> {
        if !self.gone.is_empty() && self.bound.is_some() {
            return Some(self.note_at);
        }
        self.bound.as_ref().and_then(|_| self.due.values().min().copied())
    }

    /// The next thing to do. What comes of it is told before it is asked for another one.
    pub fn next(&mut self, now: Stamp) -> Option<Action> {
        self.bound.as_ref()?;
        if let Some(action) = self.next_gone(now.boot) {
            return Some(action);
        }
        let due: Vec<_> = self.due.iter().filter(|(_, at)| **at <= now.boot).map(|(uid, _)| uid.clone()).collect();
        for uid in due {
            match self.needs(&uid, now) {
                Needs::Done(action) => return Some(action),
                Needs::Time(at) => drop(self.due.insert(uid, at)),
                Needs::Nothing => drop(self.due.remove(&uid)),
            }
        }
        None
    }

    fn next_gone(&mut self, now: BootTime) -> Option<Action> {
        if now < self.note_at {
            return None;
        }
        while let Some(uid) = self.gone.front() {
            // One that nobody opened an incident for leaves nothing behind.
            let bound = self.bound.as_ref().and_then(|all| all.get(uid)).filter(|_| !self.entries.contains_key(uid));
            if let Some(bound) = bound {
                return Some(Action::Gone { resource: bound.resource.clone(), incident: bound.incident });
            }
            self.gone.pop_front();
        }
        None
    }

    fn needs(&self, uid: &str, now: Stamp) -> Needs {
        let Some(entry) = self.entries.get(uid) else { return Needs::Nothing };
        let resource = &entry.collection.resource;
        if entry.fetch {
            let at = entry.write_at.max(self.write_at);
            let fetch = Action::Fetch { resource: resource.clone() };
            return if at <= now.boot { Needs::Done(fetch) } else { Needs::Time(at) };
        }
        let bound = self.bound.as_ref().and_then(|all| all.get(uid));
        let mut later = None;
        if let Some(bound) = bound {
            if entry.shows(bound) {
                return Needs::Nothing;
            }
            if entry.is_stale(bound) {
                if entry.look_at <= now.boot {
                    return Needs::Done(Action::Look { uid: uid.to_owned(), incident: bound.incident });
                }
                later = Some(entry.look_at);
            }
            if !matches!(entry.known, Known::Incident(_)) {
                return Needs::Time(entry.look_at);
            }
        }
        let known = match &entry.known {
            Known::Refused { again: true, .. } if entry.open_at <= now.boot => &Known::Nothing,
            known => known,
        };
        let status = match decide(&entry.collection, known) {
            Decision::Leave => return Needs::of(later),
            Decision::Open(ask) if entry.open_at <= now.boot => {
                return Needs::Done(Action::Open { uid: uid.to_owned(), ask });
            }
            Decision::Open(_) => return Needs::Time(entry.open_at),
            Decision::Say(status) => status,
        };
        let patch = status.patch(&entry.collection.status, now.wall);
        if let Known::Refused { again: true, .. } = entry.known {
            // When its time has come it is asked for again.
            later = Some(entry.open_at);
        }
        let Some(patch) = patch else { return Needs::of(later) };
        let mut at = entry.write_at.max(self.write_at);
        if !status.is_a_turn(&entry.collection.status) {
            at = at.max(entry.figures_at);
        }
        if at > now.boot {
            return Needs::Time(later.map_or(at, |later| later.min(at)));
        }
        let version = entry.collection.version.clone();
        Needs::Done(Action::Write { resource: resource.clone(), version, patch })
    }

    /// An incident was opened for it, or not.
    pub fn opened(&mut self, uid: &str, opened: Result<IncidentSummary, Known>, now: BootTime) {
        match opened {
            Ok(summary) => {
                let resource = self.entries.get(uid).map(|entry| entry.collection.resource.clone());
                let (Some(bound), Some(resource)) = (&mut self.bound, resource) else { return };
                let revision = summary.archive.as_ref().map(|a| a.revision);
                let new = Bound { resource, incident: summary.id, state: summary.state, revision };
                bound.insert(uid.to_owned(), new);
                if let Some(entry) = self.entries.get_mut(uid) {
                    (entry.look_at, entry.refusals) = (now, 0);
                }
            }
            Err(known) => {
                if let Some(entry) = self.entries.get_mut(uid) {
                    entry.refusals += 1;
                    entry.open_at = later(now, entry.refusals);
                    entry.known = known;
                }
            }
        }
        if self.entries.contains_key(uid) {
            self.due.insert(uid.to_owned(), now);
        }
    }

    /// An incident was looked at; `None`: it could not be.
    pub fn looked(&mut self, uid: &str, seen: Option<Seen>, now: BootTime) {
        let bound = self.bound.as_mut().and_then(|all| all.get_mut(uid));
        let (Some(entry), Some(bound)) = (self.entries.get_mut(uid), bound) else { return };
        entry.look_at = now.plus(LOOK_EVERY);
        if let Some(seen) = seen {
            (bound.state, bound.revision) = (seen.state, seen.archive.as_ref().map(|a| a.revision));
            entry.known = Known::Incident(Box::new(seen));
        }
        self.due.insert(uid.to_owned(), now);
    }

    /// The generation of a resource that its incident follows.
    pub fn followed(&self, uid: &str) -> Option<u64> {
        self.bound.as_ref()?.get(uid).map(|bound| bound.resource.generation)
    }

    /// What the checks found in this revision of a resource's archive, where that was read already.
    pub fn findings(&self, uid: &str, revision: u32) -> Option<Counts> {
        match &self.entries.get(uid)?.known {
            Known::Incident(seen) => {
                seen.findings.filter(|_| seen.archive.as_ref().is_some_and(|a| a.revision == revision))
            }
            _ => None,
        }
    }

    /// What became of a write.
    pub fn wrote(&mut self, resource: &Resource, wrote: Wrote, now: Stamp) {
        let uid = resource.uid.as_str();
        self.write_at = now.boot.plus(WRITE_EVERY);
        if !matches!(wrote, Wrote::Away(_)) {
            self.away = 0;
        }
        let Some(entry) = self.entries.get_mut(uid) else { return };
        match wrote {
            Wrote::Done(kept) => {
                entry.figures_at = now.boot.plus(FIGURES_EVERY);
                entry.write_at = now.boot;
                let Decision::Say(said) = decide(&entry.collection, &entry.known) else { return };
                // What the server took and does not keep (a definition that lacks a field) is not written for ever.
                let again = entry.written.as_ref() == Some(&*said);
                entry.failures = if again { entry.failures + 1 } else { 0 };
                if again {
                    entry.write_at = later(now.boot, entry.failures);
                }
                entry.written = Some(*said);
                match kept {
                    Some(kept) => self.set(*kept, now.boot),
                    None => entry.fetch = true,
                }
            }
            Wrote::Conflict => {
                entry.failures += 1;
                (entry.fetch, entry.write_at) = (true, later(now.boot, entry.failures));
            }
            Wrote::NotThere => {
                // The watch will say so.
                self.due.remove(uid);
                return;
            }
            Wrote::Unwanted => {
                entry.failures += 1;
                entry.write_at = later(now.boot, entry.failures);
            }
            Wrote::Away(after) => {
                self.away += 1;
                self.write_at = after.map_or_else(|| later(now.boot, self.away), |after| now.boot.plus(after));
            }
        }
        if self.entries.contains_key(uid) {
            self.due.insert(uid.to_owned(), now.boot);
        }
    }

    /// A resource was fetched.
    pub fn fetched(&mut self, resource: &Resource, wrote: Wrote, now: Stamp) {
        match wrote {
            Wrote::Done(Some(is)) => {
                self.away = 0;
                self.set(*is, now.boot);
            }
            // What cannot be read is not ours.
            Wrote::Done(None) | Wrote::NotThere => drop(self.due.remove(&resource.uid)),
            other => self.wrote(resource, other, now),
        }
    }

    /// That it is gone was noted, or could not be.
    pub fn noted(&mut self, uid: &str, noted: bool, now: BootTime) {
        if noted {
            self.gone.retain(|other| other != uid);
            if let Some(bound) = &mut self.bound {
                bound.remove(uid);
            }
        } else {
            self.note_at = later(now, 1);
        }
    }

    /// Resources of the index that are not there were deleted while nobody looked.
    fn sweep(&mut self) {
        let Some(bound) = self.bound.as_ref().filter(|_| self.complete) else { return };
        let missing = bound.keys().filter(|uid| !self.entries.contains_key(*uid) && !self.left_out.contains(*uid));
        let missing: Vec<_> = missing.filter(|uid| !self.gone.contains(uid)).cloned().collect();
        self.gone.extend(missing);
    }
}

/// What a resource needs.
enum Needs {
    Done(Action),
    Time(BootTime),
    Nothing,
}

impl Needs {
    fn of(later: Option<BootTime>) -> Self {
        later.map_or(Self::Nothing, Self::Time)
    }
}

impl Entry {
    /// Whether its status shows the end of its incident as the index has it, so that nothing has to be looked at.
    fn shows(&self, bound: &Bound) -> bool {
        let status = &self.collection.status;
        let succeeded = self.collection.condition(SUCCEEDED).is_some_and(|c| c["status"] == "True");
        bound.state == IncidentState::Sealed
            && succeeded
            && bound.revision.is_some_and(|revision| status["archive"]["revision"] == revision)
            && status["incident"] == bound.incident.to_string()
            && status["observedGeneration"] == self.collection.resource.generation
    }

    /// Whether what is known of the incident may be old.
    fn is_stale(&self, bound: &Bound) -> bool {
        let Known::Incident(seen) = &self.known else { return true };
        let same = seen.state == bound.state && seen.archive.as_ref().map(|a| a.revision) == bound.revision;
        !(same && seen.state == IncidentState::Sealed)
    }
}

fn later(now: BootTime, failures: u32) -> BootTime {
    let wait = AGAIN.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(AGAIN_MAX);
    now.plus(wait)
}

/// A later time of the same boot.
trait Plus {
    fn plus(self, by: Duration) -> Self;
}

impl Plus for BootTime {
    fn plus(self, by: Duration) -> Self {
        Self::from_nanos(self.nanos().saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
