//! One step of a collection on a thread of its own: it reads, compresses and sends; the collection takes what it sends
//! and never waits beyond the deadline. A step that hangs is left behind, with what it had sent.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use casefile_evidence::archive::chunk::Chunk;
use casefile_proto::coverage::SourceCoverage;
use casefile_proto::gap::Gap;
use casefile_proto::ids::ItemNumber;
use casefile_proto::item::{ItemHead, ItemTail};

use super::{ItemSink, SinkError};
use crate::logs;

/// Messages on their way from a step: a chunk in the making, one waiting, one being delivered. When it is full the step
/// waits: that is the back pressure.
const IN_FLIGHT: usize = 1;

/// How often a waiting collection looks whether it was cancelled.
const LOOK: Duration = Duration::from_millis(50);

/// A step's own buffers are on the heap; what is touched of its stack is small.
const STACK: usize = 1 << 20;

/// Threads of collections that hang may be left behind so often; with more of them nothing is begun until one ends.
const MAX_LEFT_BEHIND: u64 = 8;

/// How many threads of an agent's collections hang. Shared by all of them.
#[derive(Debug, Clone, Default)]
pub struct LeftBehind(Arc<AtomicU64>);

impl LeftBehind {
    /// Whether there are as many as there may be.
    pub(super) fn is_full(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= MAX_LEFT_BEHIND
    }
}

/// What a step's thread and whoever waits for it agree on: the first of the two to go marks it, the second accounts for it.
struct Parting {
    marked: AtomicBool,
    left_behind: LeftBehind,
}

impl Parting {
    /// The waiting side goes first, or was late by a hair.
    fn leave(&self) {
        self.left_behind.0.fetch_add(1, Ordering::Relaxed);
        self.part();
    }

    /// The thread ends.
    fn part(&self) {
        if self.marked.swap(true, Ordering::AcqRel) {
            self.left_behind.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

enum Message {
    Begin(ItemHead),
    Chunk(Chunk),
    End(ItemTail),
    Progress { source: &'static str, records: u64, bytes: u64 },
    Done(Result),
}

/// What a step says at its end.
#[derive(Debug, Default)]
pub(super) struct Result {
    pub(super) rows: Vec<SourceCoverage>,
    pub(super) gaps: Vec<Gap>,
    /// Plain bytes that it gave out.
    pub(super) bytes: u64,
    /// What each log of a log source needs, when that was the question.
    pub(super) needs: Vec<u64>,
}

/// How a step went.
pub(super) enum Went {
    /// It ended; when it was told to stop, what it says shows that.
    Done(Result),
    /// It did not end in time, and hangs.
    Hangs { bytes: u64 },
    /// It panicked.
    Panicked { why: String, bytes: u64 },
}

/// The other end is gone; there is nothing more to be done.
pub(super) struct Gone(pub(super) SinkError);

/// Whether to stop, for both sides of a step.
#[derive(Clone)]
pub(super) struct Until<'a> {
    pub(super) stop: &'a AtomicBool,
    pub(super) deadline: Instant,
    /// What a step that was told to stop gets to end its item in order.
    pub(super) grace: Duration,
}

impl Until<'_> {
    pub(super) fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || Instant::now() >= self.deadline
    }
}

/// The step's end: where it sends what it found.
pub(super) struct Feed {
    to: SyncSender<Message>,
    halt: Arc<AtomicBool>,
}

impl Feed {
    /// Whether to go on.
    pub(super) fn check(&self) -> ControlFlow<logs::Stop> {
        if self.halt.load(Ordering::Relaxed) {
            ControlFlow::Break(logs::Stop::Cancelled)
        } else {
            ControlFlow::Continue(())
        }
    }

    pub(super) fn begin(&self, head: ItemHead) -> std::io::Result<()> {
        self.send(Message::Begin(head))
    }

    pub(super) fn end(&self, tail: ItemTail) -> std::io::Result<()> {
        self.send(Message::End(tail))
    }

    pub(super) fn progress(&self, source: &'static str, records: u64, bytes: u64) {
        // Nobody misses it when the other end is gone; the next chunk tells.
        let _ = self.to.send(Message::Progress { source, records, bytes });
    }

    /// What a chunker calls.
    pub(super) fn chunks(&self) -> impl FnMut(Chunk) -> std::io::Result<()> + use<> {
        let to = self.to.clone();
        move |chunk| to.send(Message::Chunk(chunk)).map_err(|_| gone())
    }

    fn send(&self, message: Message) -> std::io::Result<()> {
        self.to.send(message).map_err(|_| gone())
    }
}

fn gone() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::BrokenPipe, "the receiver is gone")
}

/// Delivers items, numbered through all steps.
pub(super) struct Delivery<'a> {
    pub(super) out: &'a mut dyn ItemSink,
    next: u32,
    left_behind: LeftBehind,
}

impl<'a> Delivery<'a> {
    pub(super) fn new(out: &'a mut dyn ItemSink, left_behind: LeftBehind) -> Self {
        Self { out, next: 0, left_behind }
    }

    /// Runs a step to its end, or to the end of the patience with it.
    pub(super) fn run(
        &mut self,
        name: &'static str,
        until: &Until<'_>,
        step: impl FnOnce(&Feed) -> Result + Send + 'static,
    ) -> std::result::Result<Went, Gone> {
        let (to, from) = sync_channel(IN_FLIGHT);
        let halt = Arc::new(AtomicBool::new(false));
        let feed = Feed { to, halt: Arc::clone(&halt) };
        let parting = Arc::new(Parting { marked: AtomicBool::new(false), left_behind: self.left_behind.clone() });
        let ours = Arc::clone(&parting);
        let thread = std::thread::Builder::new().name(format!("get-{name}")).stack_size(STACK);
        let spawned = thread.spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(|| step(&feed)));
            if let Ok(result) = result {
                // Nobody waits for it when it was left behind.
                let _ = feed.to.send(Message::Done(result));
            }
            parting.part();
        });
        if let Err(error) = spawned {
            return Ok(Went::Panicked { why: format!("no thread for it: {error}"), bytes: 0 });
        }
        let went = self.receive(&from, &halt, until);
        if !matches!(went, Ok(Went::Done(_) | Went::Panicked { .. })) {
            halt.store(true, Ordering::Relaxed);
            ours.leave();
        }
        went
    }

    fn receive(
        &mut self,
        from: &Receiver<Message>,
        halt: &AtomicBool,
        until: &Until<'_>,
    ) -> std::result::Result<Went, Gone> {
        let mut bytes = 0;
        let mut given_up_at: Option<Instant> = None;
        loop {
            match from.recv_timeout(LOOK) {
                Ok(Message::Done(result)) => return Ok(Went::Done(result)),
                Ok(message) => bytes += self.deliver(message).map_err(Gone)?,
                Err(RecvTimeoutError::Disconnected) => {
                    return Ok(Went::Panicked { why: "a bug: it ended without a word".to_owned(), bytes });
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            match given_up_at {
                None if until.is_over() => {
                    halt.store(true, Ordering::Relaxed);
                    given_up_at = Some(Instant::now() + until.grace);
                }
                Some(at) if Instant::now() >= at => return Ok(Went::Hangs { bytes }),
                _ => {}
            }
        }
    }

    /// Gives on one message; how many plain bytes of content were in it.
    fn deliver(&mut self, message: Message) -> std::result::Result<u64, SinkError> {
        match message {
            Message::Begin(head) => {
                let number = ItemNumber(self.next);
                self.next += 1;
                self.out.begin(number, &head)?;
            }
            Message::Chunk(chunk) => {
                let plain = u64::from(chunk.plain_len);
                self.out.chunk(chunk)?;
                return Ok(plain);
            }
            Message::End(tail) => self.out.end(&tail)?,
            Message::Progress { source, records, bytes } => self.out.progress(source, records, bytes),
            Message::Done(_) => {}
        }
        Ok(0)
    }
}
