//! Every process with what `/proc/PID` says of it, its blocked threads among that.
//!
//! Neither `environ` nor `cmdline` is read: both may hold secrets, and both wait for a lock that a stuck process may hold.

use std::io::Write;

use casefile_proto::gap::{Gap, GapReason};
use rustix::fs::fstat;
use serde::Serialize;

use super::rows::Rows;
use super::{StateSpec, Table};
use crate::cgroups::Paths;
use crate::details::Details;
use crate::host::{Dir, Host, HostError};
use crate::lossy;
use crate::pid::stat::Numbers;
use crate::pid::{self, membership, status};
use crate::text::{self, Fields};

/// The table.
pub(super) const SPEC: StateSpec = StateSpec {
    name: "processes",
    about: "processes with state, wait channel, cgroup, user, CPU, memory and open files, and their blocked threads, from /proc/PID; neither command lines nor environments, which may hold secrets",
    file: "state/processes.jsonl",
    write,
};

const MAX_ROWS: u64 = 65_536;

/// Threads that are looked at for being blocked, all processes together: a quarter of a second.
const MAX_THREADS: usize = 32_768;

/// Blocked threads that one row names.
const MAX_BLOCKED: usize = 64;

/// No file that is read here is longer, except that a cgroup path may be.
const FILE_CAP: usize = 64 * 1024;

/// The longest name and the longest path.
const COMM_CAP: usize = 256;
const PATH_CAP: usize = 4 * 1024;

/// One process. A key that is absent is not known: the agent may not read it, or a kernel thread has no such thing.
#[derive(Debug, Default, Serialize)]
struct Row {
    pid: u32,
    /// Clock ticks (hundredths of a second) after boot; with the pid this is the process in the recording.
    start: i64,
    ppid: u32,
    comm: String,
    /// The kernel's letter.
    state: char,
    kernel_thread: bool,
    threads: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    euid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cgroup: Option<String>,
    /// The kernel function that it waits in.
    #[serde(skip_serializing_if = "Option::is_none")]
    wchan: Option<String>,
    cpu_user_ticks: i64,
    cpu_system_ticks: i64,
    minor_faults: i64,
    major_faults: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    virtual_bytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resident_bytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resident_peak_bytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resident_anonymous_bytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resident_file_bytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resident_shared_bytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    swapped_bytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oom_score: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oom_score_adj: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    open_files: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    open_files_limit: Option<i64>,
    /// Its pids in the pid namespaces that it is in, the machine's first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    namespace_pids: Vec<u32>,
    /// Who traces it.
    #[serde(skip_serializing_if = "Option::is_none")]
    traced_by: Option<u32>,
    /// 0 off, 1 strict, 2 filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    seccomp: Option<i64>,
    /// Effective ones, a mask in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    capabilities: Option<String>,
    /// Of its first thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    voluntary_switches: Option<i64>,
    /// Of its first thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    involuntary_switches: Option<i64>,
    /// Threads other than the first in state D, at most 64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    blocked_threads: Vec<Blocked>,
    /// How many more there are.
    #[serde(skip_serializing_if = "is_zero")]
    blocked_threads_left_out: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[derive(Debug, Serialize)]
struct Blocked {
    tid: u32,
    comm: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    wchan: Option<String>,
}

fn write(host: &Host, out: &mut dyn Write) -> std::io::Result<Table> {
    let mut rows = Rows::new(out, MAX_ROWS);
    let mut proc = match host.dir("proc") {
        Ok(proc) => proc,
        Err(error) => {
            rows.unreadable(&error);
            return Ok(rows.end());
        }
    };
    let mut pids = Vec::new();
    if let Err(error) = proc.each(&mut |name, _| pids.extend(pid::from_name(name.as_encoded_bytes()))) {
        rows.unreadable(&error);
    }
    pids.sort_unstable();
    if pids.first() != Some(&1) {
        let why = "/proc does not show pid 1: it hides processes of other users (hidepid)";
        rows.gap(Gap::new(GapReason::PermissionDenied, why));
    }
    let paths = Paths::find(host);
    if let Some(gap) = paths.gap() {
        rows.gap(gap);
    }
    let refused = Refused::default();
    let is_live = host.is_live();
    let mut reader = Reader {
        proc,
        details: host.details().clone(),
        is_live,
        paths,
        buf: Vec::new(),
        threads_left: MAX_THREADS,
        refused,
        threads_left_out: 0,
    };
    for pid in pids {
        if let Some(row) = reader.process(pid, &mut rows) {
            rows.row(&row)?;
        }
    }
    reader.refused.declare(&mut rows);
    if reader.threads_left_out > 0 {
        let why = format!("threads beyond {MAX_THREADS} were not looked at for being blocked");
        rows.gap(Gap::new(GapReason::Budget, why).counting(reader.threads_left_out));
    }
    Ok(rows.end())
}

/// How many processes the agent may not read something of: one gap for each kind, not one for each process.
#[derive(Debug, Default)]
struct Refused {
    stat: u64,
    open_files: u64,
    other: u64,
}

impl Refused {
    fn declare(&self, rows: &mut Rows<'_>) {
        for (count, what) in [
            (self.stat, "processes that may not be looked at (hidepid)"),
            (self.open_files, "processes whose open files may not be counted (CAP_DAC_READ_SEARCH)"),
            (self.other, "files of processes that may not be read"),
        ] {
            if count > 0 {
                rows.gap(Gap::new(GapReason::PermissionDenied, what).counting(count));
            }
        }
    }
}

struct Reader {
    proc: Dir,
    details: Details,
    /// Whether `proc` is a kernel's own.
    is_live: bool,
    paths: Paths,
    buf: Vec<u8>,
    threads_left: usize,
    threads_left_out: u64,
    refused: Refused,
}

impl Reader {
    /// One row; `None` for a process that ended since the list was read, or that cannot be read at all.
    fn process(&mut self, pid: u32, rows: &mut Rows<'_>) -> Option<Row> {
        let (numbers, comm) = match self.stat(&format!("{pid}/stat"), rows) {
            Ok(found) => found?,
            Err(error) if error.is_permission() => {
                self.refused.stat += 1;
                return None;
            }
            Err(error) if error.is_not_found() => return None,
            Err(error) => {
                rows.unreadable(&error);
                return None;
            }
        };
        let page = i64::try_from(rustix::param::page_size()).unwrap_or(4096);
        let memory = |value: i64| Some(value).filter(|_| numbers.has_memory());
        let mut row = Row {
            pid,
            start: numbers.start,
            ppid: numbers.ppid,
            comm,
            state: char::from(numbers.state),
            kernel_thread: numbers.is_kernel_thread(),
            threads: numbers.threads,
            cpu_user_ticks: numbers.utime,
            cpu_system_ticks: numbers.stime,
            minor_faults: numbers.minflt,
            major_faults: numbers.majflt,
            virtual_bytes: memory(numbers.vsize),
            resident_bytes: numbers.rss_pages.checked_mul(page).and_then(memory),
            ..Row::default()
        };
        if self.read(&format!("{pid}/status"), rows) {
            let status = status::parse(&self.buf);
            if let Some(why) = status.bad {
                rows.unparsed(&format!("proc/{pid}/status"), &self.buf, why);
            }
            row.take_status(status);
        }
        if self.read(&format!("{pid}/cgroup"), rows) {
            match membership::parse(&self.buf) {
                Some(path) => row.cgroup = Some(lossy::capped(&self.paths.of_machine(path), PATH_CAP)),
                None => rows.unparsed(&format!("proc/{pid}/cgroup"), &self.buf, "names no path"),
            }
        }
        row.wchan = self.wchan((pid, None), rows);
        row.oom_score = self.number(&format!("{pid}/oom_score"), rows);
        row.oom_score_adj = self.number(&format!("{pid}/oom_score_adj"), rows);
        if !row.kernel_thread {
            row.open_files = self.open_files(pid, rows);
            if self.read(&format!("{pid}/limits"), rows) {
                row.open_files_limit = open_files_limit(&self.buf);
            }
        }
        if numbers.threads > 1 {
            self.blocked_threads(pid, &mut row, rows);
        }
        Some(row)
    }

    fn stat(&mut self, path: &str, rows: &mut Rows<'_>) -> Result<Option<(Numbers, String)>, HostError> {
        self.proc.read(path, &mut self.buf, FILE_CAP)?;
        match pid::stat::parse(&self.buf) {
            Ok(stat) => Ok(Some((stat.numbers, lossy::capped(stat.comm, COMM_CAP)))),
            Err(why) => {
                rows.unparsed(&format!("proc/{path}"), &self.buf, why);
                Ok(None)
            }
        }
    }

    /// Reads a file of a process that may be missing; whether it is in the buffer.
    fn read(&mut self, path: &str, rows: &mut Rows<'_>) -> bool {
        let read = self.proc.read(path, &mut self.buf, FILE_CAP);
        self.was_read(read, rows)
    }

    fn was_read(&mut self, read: Result<(), HostError>, rows: &mut Rows<'_>) -> bool {
        match read {
            Ok(()) => true,
            Err(error) => {
                if error.is_permission() {
                    self.refused.other += 1;
                } else if !error.is_not_found() {
                    rows.unreadable(&error);
                }
                false
            }
        }
    }

    fn wchan(&mut self, task: (u32, Option<u32>), rows: &mut Rows<'_>) -> Option<String> {
        let read = self.details.waits(&self.proc, task, &mut self.buf);
        let found = self.was_read(read, rows);
        pid::parse_wchan(&self.buf).filter(|_| found).map(|name| lossy::capped(name, COMM_CAP))
    }

    fn number(&mut self, path: &str, rows: &mut Rows<'_>) -> Option<i64> {
        let found = self.read(path, rows);
        text::signed(self.buf.trim_ascii()).ok().filter(|_| found)
    }

    /// How many files it has open. The kernel says so in the size of the directory (Linux 6.2); an older one is listed.
    fn open_files(&mut self, pid: u32, rows: &mut Rows<'_>) -> Option<u64> {
        let mut count = 0;
        let counted = self.proc.dir(format!("{pid}/fd")).and_then(|mut dir| {
            match fstat(&dir).ok().and_then(|stat| u64::try_from(stat.st_size).ok()) {
                // A fixture's file system has sizes that mean something else.
                Some(size) if size > 0 && self.is_live => count = size,
                _ => dir.each(&mut |_, _| count += 1)?,
            }
            Ok(())
        });
        match counted {
            Ok(()) => Some(count),
            Err(error) => {
                if error.is_permission() {
                    self.refused.open_files += 1;
                } else if !error.is_not_found() {
                    rows.unreadable(&error);
                }
                None
            }
        }
    }

    fn blocked_threads(&mut self, pid: u32, row: &mut Row, rows: &mut Rows<'_>) {
        let mut tids = Vec::new();
        let listed = self.proc.dir(format!("{pid}/task")).and_then(|mut dir| {
            dir.each(&mut |name, _| tids.extend(pid::from_name(name.as_encoded_bytes()).filter(|tid| *tid != pid)))
        });
        match listed {
            Err(error) if error.is_permission() => self.refused.other += 1,
            Err(error) if !error.is_not_found() => rows.unreadable(&error),
            _ => {}
        }
        tids.sort_unstable();
        for (looked, tid) in tids.iter().copied().enumerate() {
            if self.threads_left == 0 {
                self.threads_left_out += u64::try_from(tids.len() - looked).unwrap_or(u64::MAX);
                break;
            }
            self.threads_left -= 1;
            // A thread that ended, or may not be read, was not seen blocked; of the process it is told above.
            let Ok(Some((numbers, comm))) = self.stat(&format!("{pid}/task/{tid}/stat"), rows) else { continue };
            if numbers.state != b'D' {
                continue;
            }
            if row.blocked_threads.len() == MAX_BLOCKED {
                row.blocked_threads_left_out += 1;
                continue;
            }
            let wchan = self.wchan((pid, Some(tid)), rows);
            row.blocked_threads.push(Blocked { tid, comm, wchan });
        }
    }
}

/// The soft limit in the line `Max open files`; `None` also where there is none.
fn open_files_limit(file: &[u8]) -> Option<i64> {
    let line = text::lines(file).flatten().find_map(|line| line.strip_prefix(b"Max open files"))?;
    Fields::of(line).next().and_then(|soft| text::number(soft).ok())
}

impl Row {
    fn take_status(&mut self, status: status::Status) {
        let bytes = |kib: Option<i64>| kib.and_then(|kib| kib.checked_mul(1024));
        (self.uid, self.euid, self.gid) = (status.uid, status.euid, status.gid);
        self.resident_peak_bytes = bytes(status.vm_hwm_kib);
        self.resident_anonymous_bytes = bytes(status.rss_anon_kib);
        self.resident_file_bytes = bytes(status.rss_file_kib);
        self.resident_shared_bytes = bytes(status.rss_shmem_kib);
        self.swapped_bytes = bytes(status.vm_swap_kib);
        self.namespace_pids = status.ns_pids;
        self.traced_by = status.tracer.filter(|pid| *pid != 0);
        self.seccomp = status.seccomp;
        self.capabilities = status.cap_eff.map(|mask| format!("{mask:x}"));
        self.voluntary_switches = status.voluntary_switches;
        self.involuntary_switches = status.involuntary_switches;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_open_files_is_the_soft_one() {
        let file = b"Limit                     Soft Limit           Hard Limit           Units     \nMax open files            1024                 524288               files     \n";
        assert_eq!(open_files_limit(file), Some(1024));
        assert_eq!(
            open_files_limit(b"Max open files            unlimited            unlimited            files\n"),
            None
        );
        assert_eq!(open_files_limit(b""), None);
    }
}
