//! Last words: a rolling recording of every node, so that a node that died has said something.
//!
//! One evidence store for each node, in a directory named by a number of ours; those of one thread share a log, so that one
//! sync is enough for all of them. What lives here: who may write, what is held, what is pinned. The threads that write and
//! sync are in [`writer`]. What the records mean is checked before, by
//! the session.

mod writer;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use casefile_evidence::recording::segment::{Last, Retention, Store, StoreError};
use casefile_evidence::recording::wal::Wal;
use casefile_proto::ids::{FrameSeq, IncidentId, NodeName};
use casefile_proto::session::Buffer;
use casefile_proto::time::{WallTime, Window};
use casefile_proto::units::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::stats::Stats;
use writer::{Append, Job, Worker};

/// Threads that write, each with a log. More than one, so that one appends while another syncs; few, so that each sync is of
/// many nodes.
const WORKERS: usize = 2;

/// Threads that look at what is there at the start: the disk is what they wait for.
const OPENERS: usize = 8;

/// Jobs that wait for one thread. When it is full, sessions wait with reading, and with them their agents.
const QUEUE: usize = 1_024;

/// Gives every node a number that stays: paths are built from it and never from a name that came in.
pub trait NodeNumbers: Send + Sync {
    /// The number of this node; a new one is given out and kept. May block.
    fn number(&self, node: &NodeName) -> Result<u64, NoNumber>;
    /// Every node that has one. May block.
    fn known(&self) -> Result<Vec<(NodeName, u64)>, NoNumber>;
}

/// Why a node got no number.
#[derive(Debug, thiserror::Error)]
#[error("number a node")]
pub struct NoNumber(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Why last words could not be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum LastWordsError {
    /// The index said no.
    #[error(transparent)]
    Number(#[from] NoNumber),
    /// The store said no.
    #[error("last words of {node}")]
    Store {
        /// Which node.
        node: NodeName,
        /// What it said.
        #[source]
        source: Arc<StoreError>,
    },
    /// The logs said no.
    #[error("open the logs of the last words")]
    Log(#[source] StoreError),
    /// A thread could not be started.
    #[error("start a thread for last words")]
    Thread(#[source] std::io::Error),
    /// A newer session of this node writes now.
    #[error("a newer session of {0} began")]
    Superseded(NodeName),
    /// The collector is stopping, or the thread that writes is gone.
    #[error("last words are closed")]
    Closed,
}

/// Threads that write do not answer: their disk hangs, or they have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{silent} of {of} threads that write do not answer")]
pub struct NoAnswer {
    /// So many.
    pub silent: usize,
    /// Of so many.
    pub of: usize,
}

/// What is held of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// On disk.
    pub bytes: Bytes,
    /// The interval, on the node's clock.
    pub window: Option<Window>,
    /// The newest frame.
    pub last: Option<Last>,
}

/// The last words of all nodes. Cheap to clone; the threads end when [`LastWords::close`] was called or the last clone is
/// gone.
#[derive(Clone)]
pub struct LastWords {
    shared: Arc<Shared>,
    workers: Arc<[mpsc::Sender<Job>]>,
}

struct Shared {
    dir: PathBuf,
    numbers: Arc<dyn NodeNumbers>,
    retention: Retention,
    stats: Arc<Stats>,
    held: Mutex<BTreeMap<NodeName, (u64, Held)>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Shared {
    fn dir_of(&self, number: u64) -> PathBuf {
        self.dir.join(number.to_string())
    }

    fn open(&self, node: &NodeName, number: u64, wal: &Wal) -> Result<Store, LastWordsError> {
        Store::open_logged(&self.dir_of(number), self.retention, wal)
            .map_err(|source| LastWordsError::Store { node: node.clone(), source: Arc::new(source) })
    }

    fn hold(&self, node: &NodeName, number: u64, held: Held) {
        let mut all = self.held();
        match all.get_mut(node) {
            Some(known) => *known = (number, held),
            None => drop(all.insert(node.clone(), (number, held))),
        }
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<NodeName, (u64, Held)>> {
        // Only inserts and reads happen under it.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LastWords {
    /// Opens those of every known node below `dir` and starts the threads that write. Their logs lie beside it, in a directory
    /// with the ending `.wal`. Blocks.
    pub fn open(
        dir: &Path,
        numbers: Arc<dyn NodeNumbers>,
        retention: Retention,
        stats: Arc<Stats>,
    ) -> Result<Self, LastWordsError> {
        let known = numbers.known()?;
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            numbers,
            retention,
            stats,
            held: Mutex::new(BTreeMap::new()),
            threads: Mutex::new(Vec::new()),
        });
        let logs = Wal::open(&dir.with_extension("wal"), dir, WORKERS).map_err(LastWordsError::Log)?;
        let mut workers: Vec<Worker> = logs.iter().map(|wal| Worker::new(Arc::clone(&shared), wal.clone())).collect();
        for (node, number, store) in open_all(&shared, &logs, &known)? {
            workers[shard(&node)].take_over(node, number, store);
        }
        let mut queues = Vec::with_capacity(WORKERS);
        for worker in workers {
            let (queue, jobs) = mpsc::channel(QUEUE);
            let thread = std::thread::Builder::new()
                .name("last-words".to_owned())
                .spawn(move || worker.run(jobs))
                .map_err(LastWordsError::Thread)?;
            shared.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
            queues.push(queue);
        }
        Ok(Self { shared, workers: queues.into() })
    }

    /// Where those of a node lie: for `Recording::open_dir`. `None`: nothing is held of it.
    pub fn dir(&self, node: &NodeName) -> Option<PathBuf> {
        self.shared.held().get(node).map(|(number, _)| self.shared.dir_of(*number))
    }

    /// What is held of a node. `None`: nothing.
    pub fn held(&self, node: &NodeName) -> Option<Held> {
        self.shared.held().get(node).map(|(_, held)| *held)
    }

    /// Every node that something is held of, in order of name.
    pub fn nodes(&self) -> Vec<(NodeName, Held)> {
        self.shared.held().iter().map(|(node, (_, held))| (node.clone(), *held)).collect()
    }

    /// The right to append to those of a node, and the newest frame that is there. Takes the right from whoever had it
    /// before: what that one appended is in, what it appends from now on is refused.
    pub async fn writer(&self, node: &NodeName) -> Result<(Writer, Option<Last>), LastWordsError> {
        let queue = self.queue(node);
        let (reply, answer) = oneshot::channel();
        let job = Job::Open { node: node.clone(), reply };
        queue.send(job).await.map_err(|_| LastWordsError::Closed)?;
        let (turn, last) = answer.await.map_err(|_| LastWordsError::Closed)??;
        Ok((Writer { node: node.clone(), turn, queue: queue.clone() }, last))
    }

    /// Keeps what lies at or after `from`, for as long as any incident pins it. The same incident pins anew.
    pub async fn pin(&self, node: &NodeName, incident: IncidentId, from: WallTime) -> Result<(), LastWordsError> {
        self.set_pin(node, incident, Some(from)).await
    }

    /// Lifts the pin of an incident. One that has none is fine.
    pub async fn unpin(&self, node: &NodeName, incident: IncidentId) -> Result<(), LastWordsError> {
        self.set_pin(node, incident, None).await
    }

    /// Bytes on disk of all nodes together.
    pub fn bytes(&self) -> Bytes {
        Bytes(self.shared.held().values().map(|(_, held)| held.bytes.0).sum())
    }

    /// Whether every thread that writes answers within this time; else how many do not.
    pub async fn answer(&self, within: Duration) -> Result<(), NoAnswer> {
        let deadline = tokio::time::Instant::now() + within;
        let mut answers = Vec::with_capacity(WORKERS);
        for queue in self.workers.iter() {
            let (reply, answer) = oneshot::channel();
            // Full for so long, or closed: it does not answer, because whoever would is not asked.
            let asked = tokio::time::timeout_at(deadline, queue.send(Job::Answer { reply })).await;
            answers.extend(matches!(asked, Ok(Ok(()))).then_some(answer));
        }
        let mut silent = WORKERS - answers.len();
        for answer in answers {
            silent += usize::from(!matches!(tokio::time::timeout_at(deadline, answer).await, Ok(Ok(()))));
        }
        if silent == 0 { Ok(()) } else { Err(NoAnswer { silent, of: WORKERS }) }
    }

    /// Syncs and closes every store. What is appended afterwards is refused.
    pub async fn close(&self) {
        for queue in self.workers.iter() {
            let (reply, answer) = oneshot::channel();
            // An error means that it is closed already.
            if queue.send(Job::Close { reply }).await.is_ok() {
                let _closed = answer.await;
            }
        }
        let threads = std::mem::take(&mut *self.shared.threads.lock().unwrap_or_else(PoisonError::into_inner));
        // They have answered and are about to end; joining takes no time, but it may block.
        let joined = tokio::task::spawn_blocking(move || threads.into_iter().all(|t| t.join().is_ok())).await;
        if !matches!(joined, Ok(true)) {
            tracing::error!("a thread of last words panicked: what it had not synced was not acknowledged");
        }
    }

    async fn set_pin(
        &self,
        node: &NodeName,
        incident: IncidentId,
        from: Option<WallTime>,
    ) -> Result<(), LastWordsError> {
        let (reply, answer) = oneshot::channel();
        let job = Job::Pin { node: node.clone(), incident, from, reply };
        self.queue(node).send(job).await.map_err(|_| LastWordsError::Closed)?;
        answer.await.map_err(|_| LastWordsError::Closed)?
    }

    fn queue(&self, node: &NodeName) -> &mpsc::Sender<Job> {
        &self.workers[shard(node)]
    }
}

/// The stores of all known nodes that have a directory.
fn open_all(
    shared: &Shared,
    logs: &[Wal],
    known: &[(NodeName, u64)],
) -> Result<Vec<(NodeName, u64, Store)>, LastWordsError> {
    let open = |(node, number): &(NodeName, u64)| {
        if !shared.dir_of(*number).exists() {
            return Ok(None);
        }
        shared.open(node, *number, &logs[shard(node)]).map(|store| Some((node.clone(), *number, store)))
    };
    let part = known.len().div_ceil(OPENERS).max(1);
    std::thread::scope(|scope| {
        let threads: Vec<_> = known
            .chunks(part)
            .map(|part| scope.spawn(move || part.iter().filter_map(|node| open(node).transpose()).collect()))
            .collect();
        let mut stores = Vec::with_capacity(known.len());
        for thread in threads {
            let opened: Result<Vec<_>, LastWordsError> = thread.join().map_err(|_| LastWordsError::Closed)?;
            stores.extend(opened?);
        }
        Ok(stores)
    })
}

/// The thread that a node belongs to. Nothing but an even load rests on it.
fn shard(node: &NodeName) -> usize {
    let mut hasher = DefaultHasher::new();
    node.hash(&mut hasher);
    usize::try_from(hasher.finish() % WORKERS as u64).unwrap_or(0)
}

/// Records to append, and the frames in them, as a [`Skimmer`](casefile_evidence::recording::skim::Skimmer) told them.
#[derive(Debug)]
pub struct Records {
    /// Records of the recording format.
    pub bytes: Vec<Buffer>,
    /// The frames, in order.
    pub frames: Vec<Last>,
}

/// What became of an append: the frame up to which everything is on disk, or why it is not.
pub type Stored = Result<FrameSeq, LastWordsError>;

/// The right to append to the last words of one node.
pub struct Writer {
    node: NodeName,
    turn: u64,
    queue: mpsc::Sender<Job>,
}

impl Writer {
    /// Appends records that end with the frame `up_to`. Returns when they are queued; `done` gets the answer when they are
    /// synced. `done` must have room for all answers that are outstanding: the thread that writes waits for nobody.
    /// `held_back` is dropped with the answer: it limits what waits in memory.
    pub async fn append(
        &self,
        records: Records,
        up_to: FrameSeq,
        done: mpsc::Sender<Stored>,
        held_back: tokio::sync::OwnedSemaphorePermit,
    ) -> Result<(), LastWordsError> {
        let append = Append { node: self.node.clone(), turn: self.turn, records, up_to, done, _held_back: held_back };
        self.queue.send(Job::Append(append)).await.map_err(|_| LastWordsError::Closed)
    }
}

#[cfg(test)]
mod tests;
