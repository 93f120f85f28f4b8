//! The collections that the collector asked for: each runs once, outlives sessions, and is answered when everything of it
//! was delivered or is declared missing.
//!
//! A collection reads on a thread that may block and writes items to the agent's disk; its uploads go through whatever
//! session stands. An agent that is restarted knows nothing of earlier ones: the collector asks again.

use std::collections::{HashMap, VecDeque};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::ids::RequestId;
use casefile_proto::item::ItemHead;
use casefile_proto::session::{CollectionAsk, CollectionDone, CollectionProgress, FromAgent, RunId};
use casefile_proto::units::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::backoff::Backoff;
use super::fit;
use super::item::{ITEMS, Item, Sink, Then, Written};
use super::upload::{Failed, Link, upload};
use crate::collect::{Ask, Collected, Context, collect};

/// Collections at a time: each may fill its budget on the disk. One more is answered at once with a gap.
const AT_A_TIME: usize = 4;

/// The most bytes that one collection may leave on the node's disk, whatever the collector allows.
const MAX_BUDGET: Bytes = Bytes::mib(2048);

/// Collections whose end is remembered, in case the collector did not hear it.
const REMEMBERED: usize = 16;

/// Progress messages that wait. When it is full they are left out: the next one says more.
const PROGRESS: usize = 64;

/// Time between two messages about the same source.
const PROGRESS_EVERY: Duration = Duration::from_millis(300);

/// How long after its deadline a collection still tries to deliver: the collector may be away for as long.
const DELIVER: Duration = Duration::from_secs(15 * 60);

/// How long after it came back a collector may take to ask again for what it does not know of.
const ASKED_AGAIN: Duration = Duration::from_secs(20);

/// How often an item that is refused is sent from its beginning before it is given up.
const ATTEMPTS: u32 = 3;

/// All collections of an agent.
pub(super) struct Collections {
    context: Arc<Context>,
    dir: PathBuf,
    leave_free: Option<Bytes>,
    link: watch::Sender<Option<Link>>,
    progress: (mpsc::Sender<CollectionProgress>, mpsc::Receiver<CollectionProgress>),
    running: HashMap<RequestId, Running>,
    tasks: JoinSet<Ended>,
    finished: VecDeque<(CollectionAsk, CollectionDone)>,
}

struct Running {
    ask: CollectionAsk,
    run: RunId,
    /// Told when the collector asks for it again.
    asked: watch::Sender<()>,
    stop: Stop,
}

/// A collection that has ended.
struct Ended {
    request: RequestId,
    run: RunId,
    /// `None`: nobody wants to know any more.
    done: Option<CollectionDone>,
}

/// Asks a collection to stop: its thread by the flag, its task by the channel.
#[derive(Clone)]
struct Stop {
    flag: Arc<AtomicBool>,
    told: watch::Sender<bool>,
}

impl Stop {
    fn new() -> Self {
        Self { flag: Arc::new(AtomicBool::new(false)), told: watch::Sender::new(false) }
    }

    fn stop(&self) {
        self.flag.store(true, Ordering::Relaxed);
        self.told.send_replace(true);
    }

    async fn stopped(&self) {
        let mut told = self.told.subscribe();
        // An error would mean that the sender is gone, and it is our own.
        let _ = told.wait_for(|stop| *stop).await;
    }
}

impl Collections {
    /// None is under way. What an earlier run of the agent left in `dir` is removed.
    pub(super) async fn new(context: Arc<Context>, dir: PathBuf, leave_free: Option<Bytes>) -> Self {
        let old = dir.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || empty(&old)).await {
            tracing::warn!(dir = %dir.display(), %error, "cannot empty the spool of collections");
        }
        Self {
            context,
            dir,
            leave_free,
            link: watch::Sender::new(None),
            progress: mpsc::channel(PROGRESS),
            running: HashMap::new(),
            tasks: JoinSet::new(),
            finished: VecDeque::new(),
        }
    }

    /// A session stands, or none does any more.
    pub(super) fn set_link(&mut self, link: Option<Link>) {
        self.link.send_replace(link);
        // What waited was about the session before; ends are said again when they are asked for again.
        while self.progress.1.try_recv().is_ok() {}
    }

    /// The collector wants a collection. An answer is there at once if it has ended already, or cannot be begun.
    pub(super) fn ask(&mut self, ask: CollectionAsk) -> Option<CollectionDone> {
        let request = ask.request;
        if let Some((_, done)) = self.finished.iter().find(|(finished, _)| same(finished, &ask)) {
            return Some(done.clone());
        }
        match self.running.get(&request) {
            Some(running) if same(&running.ask, &ask) => {
                running.asked.send_replace(());
                return None;
            }
            // The same number for something else: another collector, or one that lost its data. The old one is nobody's.
            Some(_) => self.cancel(request),
            None => {}
        }
        if self.running.len() >= AT_A_TIME {
            let gap = Gap::new(GapReason::Budget, format!("{AT_A_TIME} collections are under way on the node already"));
            return Some(CollectionDone { request, sources: Vec::new(), gaps: vec![gap] });
        }
        let (stop, run) = (Stop::new(), RunId(super::random().max(1)));
        let asked = watch::Sender::new(());
        let asked_again = asked.subscribe();
        self.running.insert(request, Running { ask: ask.clone(), run, asked, stop: stop.clone() });
        let collection = Collection {
            dir: self.dir.join(format!("{}-{:016x}", request.0, run.0)),
            context: Arc::clone(&self.context),
            leave_free: self.leave_free,
            ask,
            run,
            link: self.link.subscribe(),
            asked_again,
            stop,
        };
        tracing::info!(%request, "collection begun");
        self.tasks.spawn(collection.run(self.progress.0.clone()));
        None
    }

    /// The collector does not want it any more.
    pub(super) fn cancel(&mut self, request: RequestId) {
        if let Some(running) = self.running.remove(&request) {
            tracing::info!(%request, "collection cancelled");
            running.stop.stop();
        }
    }

    /// The next thing to say about a collection. May be dropped while waiting: nothing is lost.
    pub(super) async fn next(&mut self) -> FromAgent {
        loop {
            tokio::select! {
                // One source of one got further.
                Some(progress) = self.progress.1.recv() => return FromAgent::Progress(progress),
                // One ended; one that was cancelled is nobody's.
                Some(ended) = self.tasks.join_next() => match ended {
                    Ok(Ended { request, run, done }) => {
                        if self.running.get(&request).is_some_and(|running| running.run == run)
                            && let Some(running) = self.running.remove(&request)
                            && let Some(done) = done
                        {
                            tracing::info!(%request, "collection done");
                            if self.finished.len() == REMEMBERED {
                                self.finished.pop_front();
                            }
                            self.finished.push_back((running.ask, done.clone()));
                            return FromAgent::Done(done);
                        }
                    }
                    // Its number stays taken: the collector trims it at its deadline and cancels it.
                    Err(error) => tracing::error!(%error, "a collection broke down"),
                },
                else => std::future::pending().await,
            }
        }
    }

    /// Stops all of them and waits until they have.
    pub(super) async fn stop(mut self) {
        for running in self.running.values() {
            running.stop.stop();
        }
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Whether two asks are the same: what is to be collected, not how long the collector waits or what it knows of clocks.
fn same(a: &CollectionAsk, b: &CollectionAsk) -> bool {
    (a.request, a.window, a.budget, &a.sources, &a.select) == (b.request, b.window, b.budget, &b.sources, &b.select)
}

/// One collection.
struct Collection {
    context: Arc<Context>,
    ask: CollectionAsk,
    run: RunId,
    dir: PathBuf,
    leave_free: Option<Bytes>,
    link: watch::Receiver<Option<Link>>,
    asked_again: watch::Receiver<()>,
    stop: Stop,
}

/// What could not be delivered.
struct Lost {
    head: ItemHead,
    gap: Gap,
}

/// Why delivering one item ended without it.
enum Stopped {
    /// The collector does not want the request any more.
    Gone,
    /// This item is given up.
    Lost(Gap),
}

impl Collection {
    async fn run(mut self, progress: mpsc::Sender<CollectionProgress>) -> Ended {
        let done = self.collect_and_deliver(progress).await;
        let dir = self.dir.clone();
        // What is left of it is removed at the next start if it cannot be now.
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(dir)).await {
            tracing::warn!(request = %self.ask.request, %error, "cannot remove the spool of a collection");
        }
        Ended { request: self.ask.request, run: self.run, done: done.map(fit::fit) }
    }

    async fn collect_and_deliver(&mut self, progress: mpsc::Sender<CollectionProgress>) -> Option<CollectionDone> {
        let request = self.ask.request;
        let failed = |detail: String| {
            let gaps = vec![Gap::new(GapReason::SourceFailed, detail)];
            Some(CollectionDone { request, sources: Vec::new(), gaps })
        };
        if let Err(error) = make_dir(&self.dir) {
            return failed(format!("cannot write the spool of the collection: {error}"));
        }
        let (queue, items) = mpsc::channel(ITEMS);
        let (flag, stats) = (Arc::clone(&self.stop.flag), Arc::clone(self.context.host.stats()));
        let sink = Sink::new(self.dir.clone(), self.leave_free, queue, flag, said(request, progress), stats);
        let (context, ask, stop) = (Arc::clone(&self.context), self.to_ask(), Arc::clone(&self.stop.flag));
        let collecting = tokio::task::spawn_blocking(move || {
            let mut sink = sink;
            collect(&context, &ask, &stop, &mut sink)
        });
        let stop = self.stop.clone();
        let patience = self.ask.deadline.saturating_add(DELIVER);
        let lost = tokio::select! {
            // Everything was delivered or given up, or the collector does not want it.
            lost = self.deliver(items) => lost,
            // It was cancelled, or the agent stops.
            () = stop.stopped() => None,
            // Nobody waits for it any more.
            () = tokio::time::sleep(patience) => None,
        };
        // It has ended by itself when everything was delivered.
        stop.stop();
        match collecting.await {
            Ok(Collected { sources, gaps }) => Some(with_lost(CollectionDone { request, sources, gaps }, lost?)),
            Err(panicked) => failed(format!("the collection broke down: {panicked}")),
        }
    }

    fn to_ask(&self) -> Ask {
        Ask {
            window: self.ask.window,
            budget: self.ask.budget.min(MAX_BUDGET),
            deadline: self.ask.deadline,
            sources: self.ask.sources.clone(),
            select: self.ask.select.clone(),
            clock: self.ask.clock,
        }
    }

    /// What was lost when everything else was delivered; `None`: the collector does not want the rest.
    async fn deliver(&mut self, mut items: mpsc::Receiver<Arc<Item>>) -> Option<Vec<Lost>> {
        let mut lost = Vec::new();
        while let Some(item) = items.recv().await {
            match self.deliver_item(&item).await {
                Ok(()) => {}
                Err(Stopped::Gone) => return None,
                Err(Stopped::Lost(gap)) => {
                    tracing::error!(request = %self.ask.request, path = %item.head.path, why = gap.detail, "item lost");
                    lost.push(Lost { head: item.head.clone(), gap });
                }
            }
        }
        Some(lost)
    }

    /// Until the collector has it on its disk, through as many sessions as it takes.
    async fn deliver_item(&mut self, item: &Arc<Item>) -> Result<(), Stopped> {
        let mut written = item.follow();
        let (mut acked, mut attempts, mut backoff) = (0, 0, Backoff::new(super::random()));
        loop {
            // Something must be there to be sent, so that an upload is not opened for nothing; the sender is the item's.
            let more = |there: &Written| there.plain > acked || there.then != Then::More;
            let there = written.wait_for(more).await.ok().map(|there| (*there).clone());
            if there.is_some_and(|there| there.then == Then::Cut && there.plain <= acked) {
                return Ok(());
            }
            let link = match self.link.wait_for(Option::is_some).await {
                Ok(link) => link.clone(),
                Err(_) => return Err(Stopped::Gone),
            };
            let Some(link) = link else { continue };
            self.asked_again.mark_unchanged();
            let failed = match upload(&link, self.ask.request, self.run, item, &mut acked).await {
                Ok(()) => return Ok(()),
                Err(failed) => failed,
            };
            match failed {
                Failed::Later => {}
                Failed::NoSession => {
                    // Closed: the agent stops.
                    self.link.changed().await.map_err(|_| Stopped::Gone)?;
                    continue;
                }
                Failed::Gone => {
                    // A collector that was restarted asks again soon after it is back.
                    let asked = tokio::time::timeout(ASKED_AGAIN, self.asked_again.changed()).await;
                    if !matches!(asked, Ok(Ok(()))) {
                        tracing::info!(request = %self.ask.request, "the collector does not want the collection any more");
                        return Err(Stopped::Gone);
                    }
                    continue;
                }
                Failed::Full(why) => return Err(Stopped::Lost(Gap::new(GapReason::Budget, why))),
                Failed::Refused(why) => {
                    attempts += 1;
                    tracing::warn!(request = %self.ask.request, path = %item.head.path, attempts, why, "upload refused");
                    if attempts == ATTEMPTS {
                        return Err(Stopped::Lost(Gap::new(GapReason::SourceFailed, why)));
                    }
                }
            }
            tokio::select! {
                // Not at once again.
                () = tokio::time::sleep(backoff.wait()) => {}
                // A new session.
                _ = self.link.changed() => {}
            }
        }
    }
}

/// Progress of each source, not more often than anybody can read it.
fn said(request: RequestId, progress: mpsc::Sender<CollectionProgress>) -> impl FnMut(&str, u64, u64) {
    let mut last: HashMap<String, Instant> = HashMap::new();
    move |source, records, bytes| {
        let now = Instant::now();
        if last.get(source).is_some_and(|last| now.duration_since(*last) < PROGRESS_EVERY) {
            return;
        }
        last.insert(source.to_owned(), now);
        // Full, or no session: the next one says more.
        let _ =
            progress.try_send(CollectionProgress { request, source: source.to_owned(), records, bytes: Bytes(bytes) });
    }
}

/// What was lost on the way belongs to the row of its source, or to the node.
fn with_lost(mut done: CollectionDone, lost: Vec<Lost>) -> CollectionDone {
    for Lost { head, mut gap } in lost {
        let detail = format!("{} was not delivered: {}", head.path, gap.detail);
        gap = Gap { interval: gap.interval, count: gap.count, ..Gap::new(gap.reason, detail) };
        match done.sources.iter_mut().find(|row| row.source == head.source) {
            Some(row) => {
                row.items = row.items.saturating_sub(1);
                row.gaps.push(gap);
            }
            None => done.gaps.push(gap),
        }
    }
    done
}

fn make_dir(dir: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Makes the directory, with nothing in it.
fn empty(dir: &Path) -> std::io::Result<()> {
    make_dir(dir)?;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
