//! The threads that write last words: everything that has arrived is appended, then the log of all its stores is synced once,
//! then all of it is answered. Under load one sync serves many batches; without load nothing waits.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use casefile_evidence::recording::segment::{Last, Store, StoreError};
use casefile_evidence::recording::wal::Wal;
use casefile_proto::ids::{FrameSeq, IncidentId, NodeName};
use casefile_proto::time::WallTime;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::{Held, LastWordsError, Records, Shared, Stored};
use crate::chain::chain;

/// The longest that appends are gathered before what is there is synced and answered.
const MAX_GATHER: Duration = Duration::from_millis(50);

/// So many bytes are not gathered for longer: when a fleet begins anew, each node says all that it is at once.
const MOST: usize = 4 << 20;

/// Time from one sync to the next at least: what comes sooner is gathered, and one sync serves it all. Far below what an ack
/// may take; what comes after a pause is synced at once.
const APART: Duration = Duration::from_millis(12);

/// Time between two looks for more.
const LOOK: Duration = Duration::from_millis(3);

/// What a thread is asked to do.
pub(super) enum Job {
    /// Give the right to append to a new session.
    Open { node: NodeName, reply: oneshot::Sender<Result<(u64, Option<Last>), LastWordsError>> },
    /// Append.
    Append(Append),
    /// Set or lift (`from: None`) the pin of an incident.
    Pin {
        node: NodeName,
        incident: IncidentId,
        from: Option<WallTime>,
        reply: oneshot::Sender<Result<(), LastWordsError>>,
    },
    /// Say that it is there.
    Answer { reply: oneshot::Sender<()> },
    /// Sync, close, end.
    Close { reply: oneshot::Sender<()> },
}

/// Records to append.
pub(super) struct Append {
    pub(super) node: NodeName,
    pub(super) turn: u64,
    pub(super) records: Records,
    pub(super) up_to: FrameSeq,
    pub(super) done: mpsc::Sender<Stored>,
    pub(super) _held_back: OwnedSemaphorePermit,
}

/// One thread and the stores that are its own.
pub(super) struct Worker {
    shared: Arc<Shared>,
    wal: Wal,
    stores: HashMap<NodeName, Open>,
    /// Appended, not yet synced, and their bytes.
    waiting: Vec<Append>,
    bytes: usize,
    /// Lasts longer than a store, which is closed after an error.
    pins: HashMap<NodeName, BTreeMap<IncidentId, WallTime>>,
    turns: u64,
    /// When that was done last.
    committed: Instant,
}

struct Open {
    number: u64,
    store: Store,
    /// Who may append.
    turn: u64,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, wal: Wal) -> Self {
        Self {
            shared,
            wal,
            stores: HashMap::new(),
            waiting: Vec::new(),
            bytes: 0,
            pins: HashMap::new(),
            turns: 0,
            committed: Instant::now(),
        }
    }

    /// Works until it is closed, or nobody can ask any more.
    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = jobs.blocking_recv() {
            let since = Instant::now();
            let mut next = Some(job);
            while let Some(job) = next {
                if self.take(job).is_break() {
                    return;
                }
                if since.elapsed() > MAX_GATHER || self.bytes > MOST {
                    break;
                }
                next = jobs.try_recv().ok();
                while next.is_none() && !self.waiting.is_empty() && self.committed.elapsed() < APART {
                    std::thread::park_timeout(LOOK);
                    next = jobs.try_recv().ok();
                }
            }
            self.commit();
        }
    }

    fn take(&mut self, job: Job) -> ControlFlow<()> {
        match job {
            Job::Open { node, reply } => {
                // Whoever asked may be gone: then the right is taken by the next.
                let _ = reply.send(self.give_right(&node));
            }
            Job::Append(append) => self.append(append),
            Job::Pin { node, incident, from, reply } => {
                let _ = reply.send(self.pin(&node, incident, from));
            }
            Job::Answer { reply } => {
                // Whoever asked may have given up.
                let _ = reply.send(());
            }
            Job::Close { reply } => {
                self.commit();
                if let Err(error) = self.wal.close() {
                    tracing::warn!(
                        error = chain(&error),
                        "last words are safe in their log: it is emptied at the next start"
                    );
                }
                self.stores.clear();
                let _ = reply.send(());
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    fn give_right(&mut self, node: &NodeName) -> Result<(u64, Option<Last>), LastWordsError> {
        // What was appended before must count in the answer.
        self.commit();
        self.turns += 1;
        let turn = self.turns;
        let open = self.open(node)?;
        open.turn = turn;
        Ok((turn, open.store.last()))
    }

    fn append(&mut self, append: Append) {
        let stored = match self.stores.get_mut(&append.node) {
            Some(open) if open.turn == append.turn => {
                let mut frames = &append.records.frames[..];
                append.records.bytes.iter().try_for_each(|records| {
                    let taken = open.store.append_skimmed(records, frames)?;
                    frames = frames.get(taken..).unwrap_or_default();
                    Ok(())
                })
            }
            _ => return answer(&append, Err(LastWordsError::Superseded(append.node.clone()))),
        };
        self.shared.stats.appends.one();
        let node = append.node.clone();
        self.bytes += append.records.bytes.iter().map(|records| records.len()).sum::<usize>();
        self.waiting.push(append);
        if let Err(source) = stored {
            self.fail(&node, source);
        }
    }

    /// Syncs what was appended and answers for it.
    fn commit(&mut self) {
        self.bytes = 0;
        if self.waiting.is_empty() {
            return;
        }
        let began = Instant::now();
        if let Err(error) = self.wal.commit() {
            tracing::warn!(error = chain(&error), "last words are safe in their log, which cannot be emptied");
        }
        self.shared.stats.syncs.one();
        self.shared.stats.sync_time.took(began.elapsed());
        self.committed = Instant::now();
        let mut failed = BTreeMap::new();
        let waiting = std::mem::take(&mut self.waiting);
        for append in &waiting {
            // Closed by what came behind it: its answer was an error already.
            let Some(open) = self.stores.get_mut(&append.node) else { continue };
            match open.store.sync() {
                Ok(()) => {
                    self.shared.hold(&append.node, open.number, held(&open.store));
                    answer(append, Ok(append.up_to));
                }
                Err(source) => drop(failed.insert(append.node.clone(), source)),
            }
        }
        self.waiting = waiting;
        for (node, source) in failed {
            self.fail(&node, source);
        }
        self.waiting.clear();
    }

    /// A store that failed is closed: nobody knows what of it is on disk. The next session opens it and asks it.
    fn fail(&mut self, node: &NodeName, source: StoreError) {
        tracing::error!(%node, error = chain(&source), "cannot store last words: nothing of it is acknowledged");
        self.shared.stats.last_words_failures.one();
        let source = Arc::new(source);
        self.stores.remove(node);
        for append in self.waiting.extract_if(.., |a| &a.node == node) {
            answer(&append, Err(LastWordsError::Store { node: node.clone(), source: Arc::clone(&source) }));
        }
    }

    fn pin(&mut self, node: &NodeName, incident: IncidentId, from: Option<WallTime>) -> Result<(), LastWordsError> {
        let pins = self.pins.entry(node.clone()).or_default();
        match from {
            Some(from) => drop(pins.insert(incident, from)),
            None => drop(pins.remove(&incident)),
        }
        if pins.is_empty() {
            self.pins.remove(node);
        }
        if let Some(open) = self.stores.get_mut(node) {
            apply_pins(&mut open.store, self.pins.get(node));
        }
        Ok(())
    }

    fn open(&mut self, node: &NodeName) -> Result<&mut Open, LastWordsError> {
        if !self.stores.contains_key(node) {
            let number = self.shared.numbers.number(node)?;
            let store = self.shared.open(node, number, &self.wal)?;
            self.take_over(node.clone(), number, store);
        }
        self.stores.get_mut(node).ok_or(LastWordsError::Closed)
    }

    /// From now on this store is written by this thread.
    pub(super) fn take_over(&mut self, node: NodeName, number: u64, mut store: Store) {
        apply_pins(&mut store, self.pins.get(&node));
        self.shared.hold(&node, number, held(&store));
        self.stores.insert(node, Open { number, store, turn: 0 });
    }
}

fn held(store: &Store) -> Held {
    let (bytes, window) = store.held();
    Held { bytes, window, last: store.last() }
}

fn apply_pins(store: &mut Store, pins: Option<&BTreeMap<IncidentId, WallTime>>) {
    match pins.and_then(|pins| pins.values().min()) {
        Some(from) => store.pin(*from),
        None => store.unpin(),
    }
}

fn answer(append: &Append, stored: Stored) {
    // Full or closed: the session is gone, or asked for more than it has room for; it learns when it comes back.
    let _ = append.done.try_send(stored);
}
