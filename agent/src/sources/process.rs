//! Every process: CPU, faults, memory, I/O, who and where it is, and what is blocked in the kernel. What is new or busy is
//! read at every tick, the rest once in ten, so that four hundred processes cost what ninety would.
//!
//! Neither environments nor command lines are read: both may hold secrets, and reading them waits for a lock that a
//! stuck process may hold. Which processes there are: `pids`. Which is due: `table`. Its files: `files`. Blocked tasks:
//! `blocked`.

mod blocked;
mod files;
mod metrics;
mod pids;
mod table;

use std::fmt::Write as _;
use std::time::Duration;

use casefile_proto::gap::{Gap, GapReason};

use super::{Measurement, Opened, Source, SourceError, SourceSpec};
use crate::cgroups::Paths;
use crate::host::{Dir, Host};
use crate::pid::stat::Numbers;
use crate::pid::{self, Io};
use blocked::Blocked;
use files::{Missing, Reader, shown_name};
use pids::{Listed, Lists, Pids};
use table::{Entry, Known, Table};

/// The source.
pub static SPEC: SourceSpec = SourceSpec {
    name: "process",
    about: "processes (CPU, faults, memory, I/O, name, cgroup) and blocked tasks with their wait channel, from /proc/PID: what is new or busy at every tick, the rest every 10 s",
    every: Duration::from_secs(1),
    deadline: Duration::from_secs(2),
    metrics: &metrics::METRICS,
    open,
};

/// Processes that are read in a tick at most: about 10 ms. What is left over is read first at the next tick and told.
const MAX_READS: usize = 1_024;

/// `proc/sys/kernel/task_delayacct`: a digit.
const SMALL_FILE: usize = 64;

fn open(host: &Host) -> Result<Opened, SourceError> {
    let mut proc = match host.dir("proc") {
        Ok(proc) => proc,
        Err(error) if error.is_not_found() => return Ok(Opened::Absent { why: "there is no /proc".to_owned() }),
        Err(error) => return Err(error.into()),
    };
    let mut pids = Pids::new(if host.is_live() { Lists::Shortened } else { Lists::Whole });
    pids.list(&mut proc, 1)?;
    let readable = |pid: &u32| proc.keep(format!("{pid}/stat")).map_or_else(|e| !e.is_not_found(), |_| true);
    if !pids.pids().iter().any(readable) {
        return Ok(Opened::Absent { why: format!("/proc shows none of its {} processes", pids.pids().len()) });
    }
    Ok(Opened::Ready(Box::new(Processes::new(host, proc, pids, MAX_READS))))
}

struct Processes {
    host: Host,
    proc: Dir,
    pids: Pids,
    table: Table,
    reader: Reader,
    blocked: Blocked,
    tick: u64,
    /// The pid to begin with: where the tick before had to stop.
    resume: u32,
    /// Processes that are read in a tick at most: [`MAX_READS`].
    max_reads: usize,
    /// `/proc` does not list pid 1.
    hides: bool,
    /// Processes that are too many to follow.
    left_out: usize,
    delay_accounting: bool,
    page: i64,
    paths_gap: Option<Gap>,
    labels: Labels,
}

/// The labels of the process that is being read.
#[derive(Debug, Default)]
struct Labels {
    pid: String,
    start: String,
    ppid: String,
    uid: String,
}

/// What a tick came to.
#[derive(Debug, Default)]
struct Tally {
    read: usize,
    late: u64,
}

impl Source for Processes {
    fn measure(&mut self, out: &mut Measurement) -> Result<(), SourceError> {
        self.tick += 1;
        self.table.drop_gone();
        let listed = self.pids.list(&mut self.proc, self.tick)?;
        let pids = self.pids.pids();
        match listed {
            Listed::All => {
                self.left_out = self.table.follow(pids);
                self.hides = pids.first() != Some(&1);
                out.reading(metrics::LISTED, &[], i64::try_from(pids.len()).unwrap_or(i64::MAX));
            }
            Listed::Newer => self.left_out += self.table.add(pids),
        }
        self.reader.holds(self.table.entries().iter().map(|entry| entry.files.kept()).sum());
        if self.tick % table::DETAILS == 1 {
            self.delay_accounting = self.accounts_delays();
        }
        let mut tally = Tally::default();
        let (begin, count) = (self.table.position(self.resume), self.table.entries().len());
        self.resume = 0;
        for at in (begin..count).chain(0..begin) {
            self.visit(at, &mut tally, out);
        }
        out.reading(metrics::READ, &[], i64::try_from(tally.read).unwrap_or(i64::MAX));
        self.blocked.measure(&self.proc, &self.table, self.tick, &mut self.reader, out);
        self.declare(&tally, out);
        Ok(())
    }
}

impl Processes {
    fn new(host: &Host, proc: Dir, pids: Pids, max_reads: usize) -> Self {
        let paths = Paths::find(host);
        let paths_gap = paths.gap();
        Self {
            host: host.clone(),
            proc,
            pids,
            table: Table::new(),
            reader: Reader::new(paths, host.details().clone()),
            blocked: Blocked::default(),
            tick: 0,
            resume: 0,
            hides: false,
            left_out: 0,
            delay_accounting: false,
            page: i64::try_from(rustix::param::page_size()).unwrap_or(4096),
            paths_gap,
            labels: Labels::default(),
            max_reads,
        }
    }

    /// Whether the kernel counts the time that tasks wait for block I/O. Switched on by a sysctl since Linux 5.14; where
    /// there is no such switch it is compiled in or not, and zeros cannot be told apart: they are not recorded either.
    fn accounts_delays(&self) -> bool {
        let mut buf = Vec::new();
        self.host.read("proc/sys/kernel/task_delayacct", &mut buf, SMALL_FILE).is_ok() && buf.trim_ascii() == b"1"
    }

    fn visit(&mut self, at: usize, tally: &mut Tally, out: &mut Measurement) {
        let Some(entry) = self.table.entries_mut().get_mut(at) else { return };
        if !entry.is_due(self.tick) {
            return;
        }
        if tally.read == self.max_reads {
            if tally.late == 0 {
                self.resume = entry.pid;
            }
            entry.overdue = true;
            tally.late += 1;
            return;
        }
        entry.overdue = false;
        let proc = &self.proc;
        match self.reader.stat(proc, entry.pid, &mut entry.files) {
            Ok(numbers) => {
                tally.read += 1;
                entry.refused = false;
                self.pids.saw(numbers.start, entry.pid);
                let pass = Pass { tick: self.tick, page: self.page, delays: self.delay_accounting };
                pass.process(proc, entry, numbers, &mut self.reader, &mut self.labels, out);
            }
            // It ended between the list and now: what is no longer there is not missing.
            Err(Missing::Gone) => entry.gone = true,
            Err(Missing::Refused) => {
                entry.refused = true;
                entry.known = None;
            }
            Err(Missing::Broken(gap)) => {
                tally.read += 1;
                out.gap(gap);
            }
        }
    }

    /// Says what was not read. Texts are the same at every tick as long as the state of things is: a recording then
    /// stores them once.
    fn declare(&self, tally: &Tally, out: &mut Measurement) {
        if self.hides {
            let why = "/proc does not show pid 1: it hides processes of other users (hidepid)";
            out.gap(Gap::new(GapReason::PermissionDenied, why));
        }
        let entries = self.table.entries();
        if entries.iter().any(|entry| entry.refused) {
            let why = "/proc/PID/stat of some processes may not be read (hidepid)";
            out.gap(Gap::new(GapReason::PermissionDenied, why));
        }
        if entries.iter().any(|entry| entry.files.io_is_refused()) {
            let why = "/proc/PID/io of other users' processes may not be read (CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH)";
            out.gap(Gap::new(GapReason::PermissionDenied, why));
        }
        if self.left_out > 0 {
            let why = format!("processes beyond {} are not read", table::MAX_PROCESSES);
            out.gap(Gap::new(GapReason::Budget, why).counting(u64::try_from(self.left_out).unwrap_or(u64::MAX)));
        }
        if tally.late > 0 {
            let why = format!("more than {} processes are new or busy: some are read later", self.max_reads);
            out.gap(Gap::new(GapReason::Budget, why).counting(tally.late));
        }
        if let Some(gap) = &self.paths_gap {
            out.gap(gap.clone());
        }
    }
}

/// One tick's way through the processes that are due.
struct Pass {
    tick: u64,
    page: i64,
    delays: bool,
}

impl Pass {
    /// What follows when the `stat` of a process was read: compared with what was known, the other files, the readings.
    fn process(
        &self,
        proc: &Dir,
        entry: &mut Entry,
        numbers: Numbers,
        reader: &mut Reader,
        labels: &mut Labels,
        out: &mut Measurement,
    ) {
        // Another start time: the pid was given away again, and nothing that was known holds.
        let before = entry.known.take().filter(|known| known.numbers.start == numbers.start);
        labels.of(entry.pid, &numbers);
        let mut text = String::new();
        let comm = shown_name(&reader.comm, &numbers, &mut text);
        // A new name is a new program (exec), which may have gone to its cgroup just before. A thread of the kernel stays
        // what and where it is, whatever a kworker calls itself.
        let same = before.as_ref().is_some_and(|known| *known.comm == *comm && known.numbers.ppid == numbers.ppid);
        let details = before.is_none() || (!numbers.is_kernel_thread() && (!same || entry.details_are_due(self.tick)));
        let comm: Box<str> = match &before {
            Some(known) if *known.comm == *comm => known.comm.clone(),
            _ => comm.into(),
        };
        self.readings(&numbers, labels, out);
        let (mut cgroup, mut uid) =
            before.as_ref().map_or_else(|| (Box::from(""), None), |known| (known.cgroup.clone(), known.uid));
        if details {
            entry.files.try_again();
            match reader.cgroup(proc, entry.pid) {
                Ok(path) => cgroup = path,
                Err(Missing::Gone | Missing::Refused) => {}
                Err(Missing::Broken(gap)) => out.gap(gap),
            }
            match reader.status(proc, entry.pid) {
                Ok((status, gap)) => {
                    gap.into_iter().for_each(|gap| out.gap(gap));
                    uid = status.uid.or(uid);
                    if !numbers.is_kernel_thread() {
                        labels.details(&status, out);
                    }
                }
                Err(Missing::Gone | Missing::Refused) => {}
                Err(Missing::Broken(gap)) => out.gap(gap),
            }
        }
        let moved = before.as_ref().is_none_or(|known| numbers.is_busy_since(&known.numbers));
        let mut io = None;
        if !numbers.is_kernel_thread() {
            match reader.io(proc, entry.pid, &mut entry.files, moved) {
                Ok(read) => {
                    labels.io(&read, out);
                    io = Some(read);
                }
                Err(Missing::Gone | Missing::Refused) => {}
                Err(Missing::Broken(gap)) => out.gap(gap),
            }
        }
        labels.info(&comm, &cgroup, uid, out);
        let busy = moved || before.is_none_or(|known| io.is_some() && known.io != io);
        entry.known = Some(Known { numbers, io, busy, at: self.tick, comm, cgroup, uid });
    }

    fn readings(&self, numbers: &Numbers, labels: &Labels, out: &mut Measurement) {
        let of: &[&str] = &[&labels.pid, &labels.start];
        out.reading(metrics::CPU, &[&labels.pid, &labels.start, "user"], numbers.utime);
        out.reading(metrics::CPU, &[&labels.pid, &labels.start, "system"], numbers.stime);
        out.reading(metrics::STATE, of, i64::from(numbers.state));
        if let Some(processor) = numbers.processor {
            out.reading(metrics::PROCESSOR, of, processor);
        }
        match numbers.blkio_ticks {
            Some(ticks) if self.delays || ticks > 0 => out.reading(metrics::BLKIO_DELAY, of, ticks),
            _ => {}
        }
        if numbers.is_kernel_thread() {
            return;
        }
        out.reading(metrics::MINOR_FAULTS, of, numbers.minflt);
        out.reading(metrics::MAJOR_FAULTS, of, numbers.majflt);
        out.reading(metrics::THREADS, of, numbers.threads);
        if numbers.has_memory() {
            out.reading(metrics::VIRTUAL, of, numbers.vsize);
            match numbers.rss_pages.checked_mul(self.page) {
                Some(resident) => out.reading(metrics::RESIDENT, of, resident),
                None => {
                    let why =
                        format!("/proc/{}/stat: {} resident pages are beyond 63 bits", labels.pid, numbers.rss_pages);
                    out.gap(Gap::new(GapReason::ParseFailed, why));
                }
            }
        }
    }
}

impl Labels {
    fn of(&mut self, pid: u32, numbers: &Numbers) {
        let Self { pid: own, start, ppid, .. } = self;
        for (text, value) in [(own, i64::from(pid)), (start, numbers.start), (ppid, i64::from(numbers.ppid))] {
            text.clear();
            // Writing to a String cannot fail.
            let _ = write!(text, "{value}");
        }
    }

    fn info(&mut self, comm: &str, cgroup: &str, uid: Option<u32>, out: &mut Measurement) {
        self.uid.clear();
        if let Some(uid) = uid {
            let _ = write!(self.uid, "{uid}");
        }
        out.reading(metrics::INFO, &[&self.pid, &self.start, &self.ppid, comm, cgroup, &self.uid], 1);
    }

    fn details(&self, status: &pid::status::Status, out: &mut Measurement) {
        let of: &[&str] = &[&self.pid, &self.start];
        for (metric, value) in [(metrics::RESIDENT_PEAK, status.vm_hwm_kib), (metrics::SWAPPED, status.vm_swap_kib)] {
            if let Some(value) = value {
                out.reading(metric, of, value);
            }
        }
        for (kind, value) in [("voluntary", status.voluntary_switches), ("involuntary", status.involuntary_switches)] {
            if let Some(value) = value {
                out.reading(metrics::SWITCHES, &[&self.pid, &self.start, kind], value);
            }
        }
    }

    fn io(&self, io: &Io, out: &mut Measurement) {
        for (metric, value) in [
            (metrics::READ_CHARS, io.rchar),
            (metrics::WRITTEN_CHARS, io.wchar),
            (metrics::READ_CALLS, io.syscr),
            (metrics::WRITE_CALLS, io.syscw),
            (metrics::STORAGE_READ, io.read_bytes),
            (metrics::STORAGE_WRITTEN, io.write_bytes),
            (metrics::STORAGE_CANCELLED, io.cancelled_write_bytes),
        ] {
            out.reading(metric, &[&self.pid, &self.start], value);
        }
    }
}

#[cfg(test)]
mod tests;
