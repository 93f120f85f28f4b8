//! The threads that measure. One thread takes the sources of a tick one after the other; when one of them keeps it
//! longer than others should wait, a spare thread goes on with the rest. Nobody waits for a blocked thread, and no
//! thread is ever cancelled: a thread whose source was given up ends when its read returns.
//!
//! One thread instead of one for each source: the same isolation, measured at a fraction of the context switches and
//! resident stacks. Who is due, late or lost is decided in `runner.rs`.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::host::Host;
use crate::sources::{Measurement, Opened, Source, SourceError, SourceSpec};

/// Sources read small files into buffers of their own on the heap; only what is touched of a stack is resident.
const STACK: usize = 512 << 10;

/// A source with where its readings go: what travels to a thread and back.
pub(super) struct Unit {
    pub(super) source: Option<Box<dyn Source>>,
    pub(super) out: Measurement,
}

/// One measurement to be made.
pub(super) struct Job {
    pub(super) lane: usize,
    pub(super) number: u64,
    pub(super) spec: &'static SourceSpec,
    pub(super) unit: Box<Unit>,
}

/// How one measurement ended.
pub(super) enum End {
    Measured,
    /// The error of `measure`; what was read before it stands.
    Broke(SourceError),
    Absent(String),
    NotOpened(SourceError),
    Panicked(String),
}

/// A measurement that somebody still waits for has ended.
pub(super) struct Report {
    pub(super) lane: usize,
    pub(super) unit: Box<Unit>,
    pub(super) end: End,
    pub(super) took: Duration,
    pub(super) cpu_nanos: u64,
}

/// A measurement that a thread is busy with.
#[derive(Clone, Copy)]
pub(super) struct Running {
    number: u64,
    pub(super) began: Instant,
}

pub(super) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    host: Host,
    board: Mutex<Board>,
    for_workers: Condvar,
    for_runner: Condvar,
}

#[derive(Default)]
struct Board {
    queue: VecDeque<Job>,
    /// By lane: the measurement that is waited for and that a thread is busy with.
    running: Vec<Option<Running>>,
    /// By lane: the number of the measurement whose report is wanted.
    wanted: Vec<u64>,
    reports: Vec<Report>,
    /// The lanes of measurements that ended after they were given up.
    returned: Vec<usize>,
    /// The thread that takes jobs; every other one ends with what it has. 0: none was started yet.
    front: u64,
    /// Since when the front thread is busy with one source.
    busy_since: Option<Instant>,
    stop: bool,
}

impl Pool {
    pub(super) fn new(host: Host, lanes: usize) -> Self {
        let board = Board { running: vec![None; lanes], wanted: vec![0; lanes], ..Board::default() };
        let shared = Shared { host, board: Mutex::new(board), for_workers: Condvar::new(), for_runner: Condvar::new() };
        Self { shared: Arc::new(shared) }
    }

    /// Queues measurements, in this order.
    pub(super) fn submit(&self, jobs: Vec<Job>) {
        let mut board = self.shared.board();
        for job in jobs {
            board.wanted[job.lane] = job.number;
            board.queue.push_back(job);
        }
        self.shared.for_workers.notify_all();
    }

    /// Waits until nothing is queued and there are reports, or no measurement from number `first` on is running, or
    /// it is `until`; takes the reports. One wake-up for a whole tick where nothing blocks.
    pub(super) fn wait(&self, first: u64, until: Instant) -> Vec<Report> {
        let board = self.shared.board();
        let timeout = until.saturating_duration_since(Instant::now());
        let working = |b: &mut Board| {
            let busy = b.running.iter().flatten().any(|r| r.number >= first);
            !b.queue.is_empty() || (busy && b.reports.is_empty())
        };
        let (mut board, _) =
            self.shared.for_runner.wait_timeout_while(board, timeout, working).unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut board.reports)
    }

    /// What the source of this lane is busy with; `None`: it is queued, or nothing.
    pub(super) fn running(&self, lane: usize) -> Option<Running> {
        self.shared.board().running[lane]
    }

    /// Since when the front thread is busy with one source while others are queued; `None`: nobody waits, or for nobody.
    pub(super) fn held_up(&self) -> Option<Instant> {
        let board = self.shared.board();
        if board.queue.is_empty() { None } else { board.busy_since }
    }

    /// Whether there is a thread that takes jobs.
    pub(super) fn has_front(&self) -> bool {
        self.shared.board().front != 0
    }

    /// A new thread takes what is queued from now on; the one before ends with what it has.
    pub(super) fn hand_over(&self) -> std::io::Result<()> {
        let mut board = self.shared.board();
        let me = board.front + 1;
        let shared = Arc::clone(&self.shared);
        std::thread::Builder::new().name("sources".to_owned()).stack_size(STACK).spawn(move || shared.work(me))?;
        board.front = me;
        board.busy_since = None;
        Ok(())
    }

    /// Takes back what no thread has begun.
    pub(super) fn withdraw(&self) -> Vec<Job> {
        self.shared.board().queue.drain(..).collect()
    }

    /// Nobody waits for what this lane is busy with any more.
    pub(super) fn give_up(&self, lane: usize) {
        let mut board = self.shared.board();
        board.wanted[lane] = 0;
        board.running[lane] = None;
    }

    /// The lanes of measurements that were given up and have ended since the last call.
    pub(super) fn returned(&self) -> Vec<usize> {
        std::mem::take(&mut self.shared.board().returned)
    }
}

impl Drop for Pool {
    /// Threads that wait end now, the others when their source lets them.
    fn drop(&mut self) {
        self.shared.board().stop = true;
        self.shared.for_workers.notify_all();
    }
}

impl Shared {
    fn board(&self) -> MutexGuard<'_, Board> {
        // Sources run outside of the lock and their panics are caught: the board is always whole.
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, me: u64) {
        let mut board = self.board();
        while !board.stop && board.front == me {
            let Some(job) = board.queue.pop_front() else {
                board = self.for_workers.wait(board).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let running = Running { number: job.number, began: Instant::now() };
            board.busy_since = Some(running.began);
            board.running[job.lane] = Some(running);
            drop(board);
            let report = measure(&self.host, job);
            board = self.board();
            if board.front == me {
                board.busy_since = None;
            }
            let lane = report.lane;
            if board.wanted[lane] == running.number {
                board.running[lane] = None;
                board.reports.push(report);
            } else {
                board.returned.push(lane);
                drop(board);
                // A source may block in its end as in its reads; this thread is the one that may be blocked.
                drop_quietly(report.unit);
                board = self.board();
            }
            if board.queue.is_empty() || board.front != me {
                self.for_runner.notify_one();
            }
        }
    }
}

fn measure(host: &Host, job: Job) -> Report {
    let Job { lane, spec, mut unit, .. } = job;
    name_thread(spec.name);
    let (cpu, began) = (thread_cpu_nanos(), Instant::now());
    let end = catch_unwind(AssertUnwindSafe(|| run(host, spec, &mut unit)))
        .unwrap_or_else(|payload| End::Panicked(panic_text(&*payload)));
    let usable = match &end {
        End::Measured => true,
        // It keeps a child that it has to see to, and tries again by itself.
        End::Broke(SourceError::Stalled { .. } | SourceError::Refused { .. }) => true,
        // What it holds open may be stale: it is opened anew.
        End::Broke(_) => !unit.out.readings.is_empty(),
        End::Absent(_) | End::NotOpened(_) | End::Panicked(_) => false,
    };
    if let Some(source) = unit.source.take_if(|_| !usable) {
        drop_quietly(source);
    }
    let took = began.elapsed();
    Report { lane, unit, end, took, cpu_nanos: thread_cpu_nanos().saturating_sub(cpu) }
}

fn run(host: &Host, spec: &SourceSpec, unit: &mut Unit) -> End {
    unit.out.begin();
    let source = match &mut unit.source {
        Some(source) => source,
        closed => match (spec.open)(host) {
            Ok(Opened::Ready(source)) => closed.insert(source),
            Ok(Opened::Absent { why }) => return End::Absent(why),
            Err(error) => return End::NotOpened(error),
        },
    };
    let end = source.measure(&mut unit.out);
    unit.out.end();
    end.map_or_else(End::Broke, |()| End::Measured)
}

fn drop_quietly<T>(value: T) {
    // A panic while dropping has nobody left to tell: the source is gone either way.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
}

fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("without a word"))
}

/// So that a blocked thread says in `ps -L` and in a core dump which source it is. Linux keeps 15 bytes.
fn name_thread(source: &str) {
    let name: Vec<u8> = b"src-".iter().chain(source.as_bytes()).copied().take(15).filter(|b| *b != 0).collect();
    if let Ok(name) = std::ffi::CString::new(name) {
        // Only a name: without it everything works.
        let _ = rustix::thread::set_name(&name);
    }
}

pub(crate) fn thread_cpu_nanos() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec.unsigned_abs().saturating_mul(1_000_000_000).saturating_add(time.tv_nsec.unsigned_abs())
}
