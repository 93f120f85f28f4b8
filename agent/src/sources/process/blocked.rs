//! Tasks in state D, uninterruptible sleep, and the kernel function that each waits in: what hangs on a disk, on NFS, on
//! a lock or on a driver.
//!
//! First threads show in the `stat` of their process. Other threads would cost a read each, so they are looked at in
//! turn; one that is found blocked is watched at every tick until it goes on.

use std::fmt::Write as _;

use casefile_proto::gap::{Gap, GapReason};

use crate::host::Dir;
use crate::pid;
use crate::sources::Measurement;
use crate::sources::kept::unreadable;

use super::files::{Missing, Reader, shown_name};
use super::metrics;
use super::table::Table;

/// Threads that are looked at in a tick: 0.1 to 0.2 ms. With 2,000 threads on the node a stuck one is found within two
/// minutes, which is when the kernel itself begins to complain (`hung_task_timeout_secs`).
const THREADS_A_TICK: usize = 16;

/// Blocked tasks that are named in a tick. A hung NFS server blocks thousands, all in the same function.
const MAX_NAMED: usize = 256;

/// Threads of one process that are taken up for one round.
const MAX_THREADS: usize = 32_768;

/// Looks for blocked tasks, tick by tick.
#[derive(Debug, Default)]
pub(super) struct Blocked {
    /// Threads that were blocked the last time.
    watched: Vec<Thread>,
    /// Threads of `process` that are still to be looked at in this round.
    queue: Vec<u32>,
    process: u32,
    labels: Labels,
}

/// A thread that is not its process's first.
#[derive(Debug, Clone, Copy)]
struct Thread {
    pid: u32,
    tid: u32,
}

#[derive(Debug, Default)]
struct Labels {
    pid: String,
    start: String,
    tid: String,
    comm: String,
    named: usize,
    left_out: u64,
}

impl Blocked {
    /// Emits one reading for every blocked task that is known at this tick. The table's processes were read just before.
    pub(super) fn measure(&mut self, proc: &Dir, table: &Table, tick: u64, reader: &mut Reader, out: &mut Measurement) {
        (self.labels.named, self.labels.left_out) = (0, 0);
        for entry in table.entries() {
            if let Some(known) = entry.known.as_ref().filter(|known| known.at == tick && known.numbers.state == b'D') {
                let task = Task { pid: entry.pid, start: known.numbers.start, tid: entry.pid, comm: &known.comm };
                self.labels.emit(&task, proc, reader, out);
            }
        }
        for thread in std::mem::take(&mut self.watched) {
            self.look_at(thread, proc, table, reader, out);
        }
        for _ in 0..THREADS_A_TICK {
            match self.next_thread(proc, table, out) {
                Some(thread) if self.watched.iter().any(|w| w.tid == thread.tid && w.pid == thread.pid) => {}
                Some(thread) => self.look_at(thread, proc, table, reader, out),
                None => break,
            }
        }
        if self.labels.left_out > 0 {
            let why = format!("tasks in state D beyond {MAX_NAMED} are counted and not named");
            out.gap(Gap::new(GapReason::Budget, why).counting(self.labels.left_out));
        }
    }

    fn look_at(&mut self, thread: Thread, proc: &Dir, table: &Table, reader: &mut Reader, out: &mut Measurement) {
        let Some(known) = table.known(thread.pid) else { return };
        match reader.task_stat(proc, thread.pid, thread.tid) {
            Ok(numbers) if numbers.state == b'D' => {
                self.watched.push(thread);
                let mut text = String::new();
                let comm = std::mem::take(&mut reader.comm);
                let shown = shown_name(&comm, &numbers, &mut text);
                let task = Task { pid: thread.pid, start: known.numbers.start, tid: thread.tid, comm: shown };
                self.labels.emit(&task, proc, reader, out);
                reader.comm = comm;
            }
            // It goes on, or it ended, or its process did; what may not be read is said of the process.
            Ok(_) | Err(Missing::Gone | Missing::Refused) => {}
            Err(Missing::Broken(gap)) => out.gap(gap),
        }
    }

    /// The next thread of this round; after the last process with several threads the next round begins, but not within
    /// one tick.
    fn next_thread(&mut self, proc: &Dir, table: &Table, out: &mut Measurement) -> Option<Thread> {
        loop {
            if let Some(tid) = self.queue.pop() {
                return Some(Thread { pid: self.process, tid });
            }
            let after = self.process.checked_add(1)?;
            let rest = &table.entries()[table.position(after)..];
            let several = |entry: &&super::table::Entry| entry.known.as_ref().is_some_and(|k| k.numbers.threads > 1);
            match rest.iter().find(several) {
                Some(entry) => {
                    self.process = entry.pid;
                    self.list_threads(proc, out);
                }
                None => {
                    self.process = 0;
                    return None;
                }
            }
        }
    }

    fn list_threads(&mut self, proc: &Dir, out: &mut Measurement) {
        let (process, queue) = (self.process, &mut self.queue);
        let listed = proc.dir(format!("{process}/task")).and_then(|mut tasks| {
            tasks.each(&mut |name, _| {
                if let Some(tid) = pid::from_name(name.as_encoded_bytes())
                    && tid != process
                    && queue.len() < MAX_THREADS
                {
                    queue.push(tid);
                }
            })
        });
        match listed {
            Err(error) if !error.is_not_found() && !error.is_permission() => out.gap(unreadable(&error)),
            // A process that ended has no threads; one that may not be read is told of elsewhere.
            _ => {}
        }
    }
}

struct Task<'a> {
    pid: u32,
    start: i64,
    tid: u32,
    comm: &'a str,
}

impl Labels {
    fn emit(&mut self, task: &Task<'_>, proc: &Dir, reader: &mut Reader, out: &mut Measurement) {
        if self.named == MAX_NAMED {
            self.left_out += 1;
            return;
        }
        let wchan = if task.tid == task.pid {
            reader.wchan(proc, (task.pid, None))
        } else {
            reader.wchan(proc, (task.pid, Some(task.tid)))
        };
        let wchan = match wchan {
            Ok(name) => name,
            // It ended meanwhile. It was blocked at this tick all the same, and where is not known.
            Err(Missing::Gone | Missing::Refused) => String::new(),
            Err(Missing::Broken(gap)) => {
                out.gap(gap);
                String::new()
            }
        };
        self.named += 1;
        let Self { pid, start, tid, comm, .. } = self;
        for (text, value) in [(pid, i64::from(task.pid)), (start, task.start), (tid, i64::from(task.tid))] {
            text.clear();
            // Writing to a String cannot fail.
            let _ = write!(text, "{value}");
        }
        comm.clear();
        comm.push_str(task.comm);
        out.reading(metrics::BLOCKED, &[&self.pid, &self.start, &self.tid, &self.comm, &wchan], 1);
    }
}
