//! The recorder of the cluster while it runs: a task for each kind that follows it and keeps in the log what it sees, and one
//! that writes the log from time to time. What may block does so on threads for that.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use casefile_evidence::directory;
use casefile_proto::gap::GapReason;
use casefile_proto::ids::NodeName;
use casefile_proto::scope::Selection;
use casefile_proto::session::RedactionKey;
use casefile_proto::time::{WallTime, Window};
use casefile_redact::{Key, Pseudonyms, Redactor, RuleSet};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::api::{Api, ApiError, told};
use super::config::Record;
use super::follow::{Failure, Follow, Message};
use super::following::{Following, Keeper, failure};
use super::kinds::{KINDS, Kind};
use super::record::intake::{NotTaken, Page, Told};
use super::record::log::{Limits, Log};
use super::record::snapshot::{Snapshot, Wanted};
use super::sanitise::Sanitiser;
use crate::chain::chain;
use crate::ingest::Clock;
use crate::space::{Space, Taking};
use crate::stats::Stats;

/// The most bytes of what the server says of itself.
const VERSION_BYTES: usize = 64 << 10;

/// How often the server is asked whether it is there, and how long that may take.
const PULSE_EVERY: Duration = Duration::from_secs(5);
const PULSE_WITHIN: Duration = Duration::from_secs(5);

/// Pages that are asked for at a time, of all kinds: each is held in memory.
const PAGES_AT_A_TIME: usize = 2;

/// Time between two writes of what was seen: a crash loses so much of it.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// Time between two looks at leases, at the size of the log, and at what is shared in memory.
const SWEEP_EVERY: u32 = 10;

/// Time between two notes of how far each kind is followed.
const NOTE_EVERY: u32 = 60;

/// Below the data directory.
const DIR: &str = "cluster";

/// The recorder. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
}

struct Shared {
    /// `None`: it is still being read back, or could not be.
    log: Mutex<Option<Log>>,
    clock: Clock,
    taking: watch::Receiver<Taking>,
    key: watch::Receiver<RedactionKey>,
    rules: Arc<RuleSet>,
    stats: Arc<Stats>,
    /// The server's pulse; `None`: it was not felt yet.
    pulse: watch::Sender<Option<Pulse>>,
}

/// Whether the server was there when it was asked last.
#[derive(Debug, Clone, Copy)]
struct Pulse {
    answered: bool,
    /// When it was asked.
    at: WallTime,
}

/// What is held at one moment.
pub struct Held {
    /// Bytes of the log on disk.
    pub bytes: u64,
    /// For each kind.
    pub kinds: Vec<OfKind>,
}

/// What is held of one kind.
pub struct OfKind {
    /// Which.
    pub kind: &'static Kind,
    /// Objects that there are now, as far as is known.
    pub objects: usize,
    /// Whether what happens to them is heard.
    pub is_followed: bool,
    /// When something was heard last; `None`: it was never listed.
    pub heard: Option<WallTime>,
}

/// What a recorder works with.
pub struct Parts {
    /// The data directory.
    pub data: PathBuf,
    /// What is kept and for how long.
    pub record: Record,
    /// The clocks.
    pub clock: Clock,
    /// The disk, which may be full.
    pub space: Space,
    /// The key with which secrets become tokens.
    pub key: watch::Receiver<RedactionKey>,
    /// Counts.
    pub stats: Arc<Stats>,
}

/// Its tasks, for whoever stops it.
pub struct Running {
    recorder: Recorder,
    tasks: JoinSet<()>,
}

impl Running {
    /// The recorder.
    pub const fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Stops, and writes what was seen.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
        let recorder = self.recorder;
        let written = recorder.with(|log, now| {
            log.note(now)?;
            log.flush()
        });
        if let Err(error) = written.await {
            tracing::warn!(error = chain(&error), "what was seen of the cluster last was not written");
        }
    }
}

impl Recorder {
    /// Starts: reads back what is there, and then follows every kind. Waits for neither.
    pub fn start(api: &Api, parts: Parts) -> Running {
        let Parts { data, record, clock, space, key, stats } = parts;
        let rules = Arc::new(RuleSet::builtin());
        let (log, taking) = (Mutex::new(None), space.taking());
        let shared = Arc::new(Shared { log, clock, taking, key, rules, stats, pulse: watch::Sender::default() });
        let recorder = Self { shared };
        let mut tasks = JoinSet::new();
        tasks.spawn(recorder.clone().run(api.clone(), data.join(DIR), record));
        Running { recorder, tasks }
    }

    async fn run(self, api: Api, dir: PathBuf, record: Record) {
        let this = self.clone();
        let opened = tokio::task::spawn_blocking(move || this.open(&dir, record)).await;
        match opened {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(error = chain(&error), "the cluster is not recorded: its log cannot be opened");
                return;
            }
            Err(error) => {
                tracing::error!(%error, "the cluster is not recorded: reading its log back failed");
                return;
            }
        }
        let mut tasks = JoinSet::new();
        let pages = Arc::new(Semaphore::new(PAGES_AT_A_TIME));
        for (n, kind) in KINDS.iter().enumerate() {
            // What differs from start to start and from kind to kind.
            let seed = (self.shared.clock)().wall.nanos().unsigned_abs().rotate_left(u32::try_from(n).unwrap_or(0));
            let keeper = Kept { recorder: self.clone(), kind, said: None };
            let (clock, pages) = (Arc::clone(&self.shared.clock), Arc::clone(&pages));
            let following = Following { api: api.clone(), clock, path: kind.path(), pages, keeper };
            tasks.spawn(following.run(Follow::new(seed)));
        }
        tasks.spawn(self.clone().feel_pulse(api));
        self.keep_writing().await;
    }

    /// Opens the log. Blocks: it reads all of it.
    fn open(&self, dir: &Path, record: Record) -> io::Result<()> {
        directory::make(dir)?;
        let salt = salt(&dir.join("salt"))?;
        let sanitiser = Sanitiser::new(salt, self.redactor());
        let limits = Limits { bytes: record.keep, age: record.age };
        let log = Log::open(&dir.join("log"), limits, sanitiser, (self.shared.clock)().wall)?;
        *self.lock() = Some(log);
        Ok(())
    }

    fn redactor(&self) -> Redactor {
        let key = Key::new(self.shared.key.borrow().0);
        Redactor::new(Arc::clone(&self.shared.rules), key, Pseudonyms::default())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Log>> {
        // A log is whole at every step.
        self.shared.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the log, if it is open. Blocks.
    pub fn with_log<T>(&self, work: impl FnOnce(&mut Log, WallTime) -> T) -> Option<T> {
        let now = (self.shared.clock)().wall;
        self.lock().as_mut().map(|log| work(log, now))
    }

    /// The log as of the end of a window, narrowed to the namespaces that are selected, or those of the pods that are. `None`: it is
    /// not open. Blocks, for a moment.
    pub fn snapshot(&self, window: Window, select: &Selection) -> Option<Snapshot> {
        self.with_log(|log, now| {
            let mut namespaces: BTreeSet<_> = select.namespaces.iter().cloned().collect();
            if namespaces.is_empty() {
                namespaces = log.namespaces_of_pods(&select.pods);
            }
            log.snapshot(window, Wanted { namespaces }, now)
        })
    }

    /// Nodes of these names that the cluster had and has not any more, with the time when that was seen. None where it is not followed
    /// now: then nobody knows. Blocks, for a moment.
    pub fn nodes_gone(&self, names: &[NodeName]) -> BTreeMap<NodeName, WallTime> {
        let gone = self.with_log(|log, _| {
            let tracked = log.tracked(Kind::named("nodes")?);
            let since = |name: &NodeName| Some((name.clone(), tracked.gone_since("", name.as_str())?));
            tracked.contact.is_followed().then(|| names.iter().filter_map(since).collect())
        });
        gone.flatten().unwrap_or_default()
    }

    /// What is held now. `None`: it is not open. Blocks, for a moment.
    pub fn held(&self) -> Option<Held> {
        self.with_log(|log, _| {
            let kinds = KINDS.iter().map(|kind| {
                let tracked = log.tracked(kind);
                let contact = &tracked.contact;
                let is_followed = contact.is_followed();
                let heard = contact.followed().map(|(_, heard)| heard);
                OfKind { kind, objects: tracked.len(), is_followed, heard }
            });
            Held { bytes: log.bytes(), kinds: kinds.collect() }
        })
    }

    /// The same on a thread that may block. Nothing is written while the disk takes nothing.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Log, WallTime) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let this = self.clone();
        if let Taking::No(why) = *self.shared.taking.borrow() {
            return Err(io::Error::new(io::ErrorKind::StorageFull, why.text()));
        }
        let done = tokio::task::spawn_blocking(move || this.with_log(work)).await.map_err(io::Error::other)?;
        done.unwrap_or_else(|| Err(io::Error::other("the log is not open")))
    }

    /// Writes what was seen, once a second.
    async fn keep_writing(self) {
        let mut ticks = tokio::time::interval(WRITE_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut key, mut failing) = (self.shared.key.clone(), false);
        for turn in 0u32.. {
            ticks.tick().await;
            let renewed = key.has_changed().unwrap_or(false).then(|| {
                key.mark_unchanged();
                self.redactor()
            });
            let written = self.with(move |log, now| {
                if let Some(redactor) = renewed {
                    log.set_redactor(redactor);
                }
                if turn.is_multiple_of(SWEEP_EVERY) {
                    log.sweep(now)?;
                    log.retain(now)?;
                }
                if turn.is_multiple_of(NOTE_EVERY) {
                    log.note(now)?;
                }
                log.flush()
            });
            match written.await {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    failing = true;
                    tracing::error!(error = chain(&error), "the cluster is not recorded: its log cannot be written");
                }
                Err(_) => {}
            }
        }
    }

    /// Asks the server what it is, again and again: clusters are upgraded, and a watch on which nothing happens does not say
    /// that nobody is there any more.
    async fn feel_pulse(self, api: Api) {
        let mut known = String::new();
        loop {
            let at = (self.shared.clock)().wall;
            let answer = api.get("/version", VERSION_BYTES, PULSE_WITHIN).await;
            // Whatever it says, it is there.
            let answered = !matches!(answer, Err(ApiError::Late(_) | ApiError::Away(_) | ApiError::Access(_)));
            self.shared.pulse.send_replace(Some(Pulse { answered, at }));
            if let Ok(answer) = answer
                && serde_json::from_slice::<serde_json::Value>(&answer).is_ok_and(|info| info.is_object())
            {
                let text = String::from_utf8_lossy(&answer).into_owned();
                let said = text.clone();
                // What cannot be written now is said again.
                if text != known && self.with(|log, now| log.set_server(said, now)).await.is_ok() {
                    known = text;
                }
            }
            tokio::time::sleep(PULSE_EVERY).await;
        }
    }
}

/// The key of the hashes of one data directory, made at the first start. It is never replaced: with another one every object
/// would look like another one.
fn salt(path: &Path) -> io::Result<[u8; 32]> {
    let mut salt = [0; 32];
    match std::fs::File::open(path).and_then(|mut file| io::Read::read_exact(&mut file, &mut salt)) {
        Ok(()) => return Ok(salt),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => {}
        Err(error) => return Err(error),
    }
    salt = casefile_identity::random()?;
    casefile_identity::file::write_private(path, &salt)?;
    Ok(salt)
}

/// What is seen of one kind, kept in the log.
struct Kept {
    recorder: Recorder,
    kind: &'static Kind,
    /// Why it is not followed, as it was said in our log; `None`: it is.
    said: Option<GapReason>,
}

impl Kept {
    async fn noted(&self, note: impl FnOnce(&mut Log, WallTime) -> io::Result<()> + Send + 'static) -> Message {
        match self.recorder.with(note).await {
            Ok(()) => Message::Elapsed,
            Err(error) => Message::Unwritten(chain(&error)),
        }
    }

    fn is_followed(&mut self) {
        if let Some(was) = self.said.take() {
            tracing::info!(kind = self.kind.plural, %was, "a kind of objects of the cluster is followed again");
        }
    }

    fn counted(&self, is_first: bool) {
        if is_first {
            self.recorder.shared.stats.cluster_lists.of(self.kind).one();
        }
    }

    /// What became of a page, or of a line.
    async fn taken<T: Send + 'static>(
        &self,
        take: impl FnOnce(&mut Log, WallTime) -> Result<T, NotTaken> + Send + 'static,
        then: impl FnOnce(T) -> Message,
    ) -> Message {
        let taken = self.recorder.with(move |log, now| match take(log, now) {
            Err(NotTaken::Unwritten(error)) => Err(error),
            other => Ok(other),
        });
        match taken.await {
            Ok(Ok(taken)) => then(taken),
            Ok(Err(error)) => Message::Failed(Failure::Malformed(chain(&error))),
            Err(error) => Message::Unwritten(chain(&error)),
        }
    }
}

fn page(page: Page) -> Message {
    Message::Page { version: page.version, next: page.next }
}

impl Keeper for Kept {
    fn may_ask(&self) -> Result<(), String> {
        match *self.recorder.shared.taking.borrow() {
            Taking::No(why) => Err(why.text().to_owned()),
            _ => Ok(()),
        }
    }

    async fn page(&mut self, bytes: Vec<u8>, is_first: bool) -> Message {
        let kind = self.kind;
        self.counted(is_first);
        self.taken(move |log, now| log.page(kind, &bytes, is_first, now), page).await
    }

    async fn passed(&mut self, bytes: Vec<u8>, is_first: bool) -> Message {
        let kind = self.kind;
        self.counted(is_first);
        self.taken(move |log, now| log.passed(kind, &bytes, is_first, now), page).await
    }

    async fn listed(&mut self) -> Message {
        let kind = self.kind;
        self.is_followed();
        self.noted(move |log, now| log.end_list(kind, now)).await
    }

    fn opened(&mut self) {
        self.recorder.shared.stats.cluster_watches.of(self.kind).one();
    }

    async fn resumed(&mut self) -> Message {
        let kind = self.kind;
        self.is_followed();
        self.noted(move |log, now| log.resumed(kind, now)).await
    }

    async fn line(&mut self, bytes: Vec<u8>) -> Message {
        let kind = self.kind;
        let heard = |heard| match heard {
            Told::Version(version, applied) => Message::Version(version, applied),
            Told::Bookmark(version) => Message::Bookmark(version),
            Told::Error(status) => Message::Failed(failure(told(status))),
            Told::Garbage(what) => Message::Garbage(what),
        };
        self.taken(move |log, now| log.line(kind, &bytes, now), heard).await
    }

    async fn too_large(&mut self) -> Message {
        let kind = self.kind;
        let passed_over = move |log: &mut Log, _| {
            log.passed_over(kind);
            Ok(())
        };
        self.noted(passed_over).await
    }

    async fn ended(&mut self) -> Message {
        let kind = self.kind;
        let heard = move |log: &mut Log, now| {
            log.heard(kind, now);
            Ok(())
        };
        match self.noted(heard).await {
            Message::Elapsed => Message::Ended,
            unwritten => unwritten,
        }
    }

    async fn quiet(&mut self) -> Message {
        let pulse = *self.recorder.shared.pulse.borrow();
        match pulse {
            None => {}
            Some(Pulse { answered: false, .. }) => {
                return Message::Failed(Failure::Late("the API server does not answer, and says nothing".to_owned()));
            }
            Some(Pulse { answered: true, at }) => {
                let (recorder, kind) = (self.recorder.clone(), self.kind);
                // In memory alone, so it can be noted on a full disk.
                let note = move || recorder.with_log(|log, _| log.heard(kind, at));
                if let Err(error) = tokio::task::spawn_blocking(note).await {
                    tracing::error!(%error, "that the cluster is heard of was not noted");
                }
            }
        }
        Message::Quiet
    }

    /// That it is lost is noted then.
    fn failed(&mut self, _: &ApiError) {}

    async fn lost(&mut self, reason: GapReason, detail: String) {
        let kind = self.kind;
        self.recorder.shared.stats.cluster_losses.of(kind).one();
        // Once for each reason: it is tried again and again.
        if !matches!(reason, GapReason::SourceAbsent) && self.said.replace(reason) != Some(reason) {
            tracing::info!(kind = kind.plural, %reason, detail, "a kind of objects of the cluster is not followed");
        }
        let recorder = self.recorder.clone();
        let note = move || recorder.with_log(|log, now| log.lost(kind, now, reason, &detail));
        // It is in memory alone, so it can be noted on a full disk.
        if let Err(error) = tokio::task::spawn_blocking(note).await {
            tracing::error!(%error, "what was lost of the cluster was not noted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_hashes_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("salt");
        let made = salt(&path).unwrap();
        assert_eq!(salt(&path).unwrap(), made);
        assert_ne!(made, [0; 32]);
    }
}
