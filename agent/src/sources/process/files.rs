//! Reads the files of one process: kept open where there is room for it, opened each time where there is not.
//!
//! Which process is due is decided in `table`; what becomes of the numbers is in the source itself.

use std::fmt::Write as _;

use casefile_proto::gap::{Gap, GapReason};

use crate::cgroups::Paths;
use crate::details::Details;
use crate::host::{Dir, HostError, KeptFile};
use crate::lossy;
use crate::pid::stat::Numbers;
use crate::pid::status::Status;
use crate::pid::{self, Io, membership};
use crate::sources::kept::unreadable;

/// Files of processes that are kept open at most. Reading an open `stat` costs less than half of opening, reading and
/// closing it; what is open costs the kernel a page and some, so this is 8 MiB of kernel memory at most.
const MAX_KEPT: usize = 2_048;

/// The part of the limit of open files that this source takes: the rest is for the other sources, logs and the network.
const KEPT_SHARE: u64 = 2;

/// `stat` has 52 numbers and a name of 64 bytes at most, `status` some 60 lines. Nothing that is read here is longer,
/// except that a line of `cgroup` may be as long as a path.
const FILE_CAP: usize = 64 * 1024;

/// The longest name of a task that is kept: the kernel's own are up to 64 bytes, a process has 15.
const COMM_CAP: usize = 64;

/// The longest cgroup path that is kept.
const CGROUP_CAP: usize = 2_048;

/// The handles of one process.
#[derive(Debug, Default)]
pub(super) struct Files {
    stat: Option<KeptFile>,
    io: IoFile,
}

/// What is known of a process's `io`.
#[derive(Debug, Default)]
enum IoFile {
    /// To be opened.
    #[default]
    Closed,
    /// Kept open.
    Open(KeptFile),
    /// The agent may not read it; not tried again before the details are due.
    Refused,
    /// There is none: the kernel was built without task I/O accounting.
    Missing,
}

impl Files {
    /// How many are kept open.
    pub(super) fn kept(&self) -> usize {
        usize::from(self.stat.is_some()) + usize::from(matches!(self.io, IoFile::Open(_)))
    }

    /// Whether the agent was refused its `io`.
    pub(super) fn io_is_refused(&self) -> bool {
        matches!(self.io, IoFile::Refused)
    }

    /// What was refused or missing is tried again.
    pub(super) fn try_again(&mut self) {
        if matches!(self.io, IoFile::Refused | IoFile::Missing) {
            self.io = IoFile::Closed;
        }
    }
}

/// Why a file of a process was not read.
#[derive(Debug)]
pub(super) enum Missing {
    /// The process ended, or has no such file: nothing is missing.
    Gone,
    /// The agent may not.
    Refused,
    /// It could not be read or parsed.
    Broken(Gap),
}

impl From<HostError> for Missing {
    fn from(error: HostError) -> Self {
        match error {
            _ if error.is_not_found() => Self::Gone,
            _ if error.is_permission() => Self::Refused,
            _ => Self::Broken(unreadable(&error)),
        }
    }
}

/// Reads files of processes into buffers of its own, and keeps count of what is kept open.
#[derive(Debug)]
pub(super) struct Reader {
    buf: Vec<u8>,
    path: String,
    /// The name in the `stat` that was read last.
    pub(super) comm: Vec<u8>,
    /// Files that may be kept open, and that are.
    room: usize,
    kept: usize,
    paths: Paths,
    details: Details,
}

/// Whether a file is worth keeping open when room is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worth {
    /// Read at most ticks.
    Much,
    /// Read by the sweep: only while at least half of the room is free.
    Some,
}

impl Reader {
    /// A reader of nothing yet; `paths` says how cgroups are to be read, and `details` who reads details.
    pub(super) fn new(paths: Paths, details: Details) -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let room =
            limit.map_or(MAX_KEPT, |limit| usize::try_from(limit / KEPT_SHARE).unwrap_or(MAX_KEPT).min(MAX_KEPT));
        Self { buf: Vec::new(), path: String::new(), comm: Vec::new(), room, kept: 0, paths, details }
    }

    /// How many files are kept open now, all processes together: said at the begin of every tick.
    pub(super) fn holds(&mut self, kept: usize) {
        self.kept = kept;
    }

    #[cfg(test)]
    pub(super) fn with_room(mut self, room: usize) -> Self {
        self.room = room;
        self
    }

    fn has_room(&self, worth: Worth) -> bool {
        self.kept < if worth == Worth::Much { self.room } else { self.room / 2 }
    }

    /// `/proc/PID/stat`; the name is left in [`Reader::comm`].
    pub(super) fn stat(&mut self, proc: &Dir, pid: u32, files: &mut Files) -> Result<Numbers, Missing> {
        if let Some(file) = &files.stat {
            match file.read_record(&mut self.buf, FILE_CAP) {
                Ok(()) => return self.parse_stat(pid),
                // It ended. Its number may already be somebody else's, so that it is still listed.
                Err(error) if error.is_not_found() => {
                    files.stat = None;
                    self.kept = self.kept.saturating_sub(1);
                    files.io = IoFile::Closed;
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.path.clear();
        // Writing to a String cannot fail.
        let _ = write!(self.path, "{pid}/stat");
        let file = proc.keep(&self.path)?;
        file.read_record(&mut self.buf, FILE_CAP)?;
        if self.has_room(Worth::Much) {
            files.stat = Some(file);
            self.kept += 1;
        }
        self.parse_stat(pid)
    }

    /// `/proc/PID/task/TID/stat`, opened and closed; the name is left in [`Reader::comm`].
    pub(super) fn task_stat(&mut self, proc: &Dir, pid: u32, tid: u32) -> Result<Numbers, Missing> {
        self.path.clear();
        let _ = write!(self.path, "{pid}/task/{tid}/stat");
        proc.keep(&self.path)?.read_record(&mut self.buf, FILE_CAP)?;
        self.parse_stat(pid)
    }

    fn parse_stat(&mut self, pid: u32) -> Result<Numbers, Missing> {
        match pid::stat::parse(&self.buf) {
            Ok(stat) => {
                self.comm.clear();
                self.comm.extend_from_slice(stat.comm);
                Ok(stat.numbers)
            }
            Err(why) => Err(Missing::Broken(self.unparsed(pid, "stat", why))),
        }
    }

    fn unparsed(&self, pid: u32, file: &str, why: &str) -> Gap {
        let shown = lossy::capped(&self.buf, 200);
        Gap::new(GapReason::ParseFailed, format!("/proc/{pid}/{file}: cannot parse {shown:?}: {why}"))
    }

    /// `/proc/PID/io`; `Gone` where the kernel has none.
    pub(super) fn io(&mut self, proc: &Dir, pid: u32, files: &mut Files, busy: bool) -> Result<Io, Missing> {
        let read = match &files.io {
            IoFile::Open(file) => file.read_record(&mut self.buf, FILE_CAP),
            IoFile::Refused => return Err(Missing::Refused),
            IoFile::Missing => return Err(Missing::Gone),
            IoFile::Closed => match self.details.io(pid, &mut self.buf) {
                Some(read) => read,
                None => self.open_io(proc, pid, files, busy),
            },
        };
        if let Err(error) = read {
            if matches!(files.io, IoFile::Open(_)) {
                self.kept = self.kept.saturating_sub(1);
            }
            let missing = Missing::from(error);
            files.io = match missing {
                Missing::Refused => IoFile::Refused,
                Missing::Gone => IoFile::Missing,
                Missing::Broken(_) => IoFile::Closed,
            };
            return Err(missing);
        }
        pid::parse_io(&self.buf).map_err(|why| Missing::Broken(self.unparsed(pid, "io", why)))
    }

    /// Reads it here, and keeps it open where it is worth it.
    fn open_io(&mut self, proc: &Dir, pid: u32, files: &mut Files, busy: bool) -> Result<(), HostError> {
        self.path.clear();
        let _ = write!(self.path, "{pid}/io");
        let file = proc.keep(&self.path)?;
        file.read_record(&mut self.buf, FILE_CAP)?;
        if self.has_room(if busy { Worth::Much } else { Worth::Some }) {
            files.io = IoFile::Open(file);
            self.kept += 1;
        }
        Ok(())
    }

    /// `/proc/PID/status`, and what of it did not parse.
    pub(super) fn status(&mut self, proc: &Dir, pid: u32) -> Result<(Status, Option<Gap>), Missing> {
        self.path.clear();
        let _ = write!(self.path, "{pid}/status");
        proc.keep(&self.path)?.read_record(&mut self.buf, FILE_CAP)?;
        let status = pid::status::parse(&self.buf);
        let gap = status.bad.map(|why| self.unparsed(pid, "status", why));
        Ok((status, gap))
    }

    /// The path of its cgroup, as the machine sees it.
    pub(super) fn cgroup(&mut self, proc: &Dir, pid: u32) -> Result<Box<str>, Missing> {
        self.path.clear();
        let _ = write!(self.path, "{pid}/cgroup");
        proc.keep(&self.path)?.read_record(&mut self.buf, FILE_CAP)?;
        let Some(path) = membership::parse(&self.buf) else {
            return Err(Missing::Broken(self.unparsed(pid, "cgroup", "names no path")));
        };
        Ok(lossy::capped(&self.paths.of_machine(path), CGROUP_CAP).into())
    }

    /// Where a process waits, or one of its threads. Empty when the kernel does not say.
    pub(super) fn wchan(&mut self, proc: &Dir, task: (u32, Option<u32>)) -> Result<String, Missing> {
        self.details.waits(proc, task, &mut self.buf)?;
        Ok(pid::parse_wchan(&self.buf).map_or_else(String::new, |name| lossy::capped(name, COMM_CAP)))
    }
}

/// The name of a task as it is recorded. A kworker's name has what it does after a `+`, or what it did last after a `-`;
/// the latter changes all the time and says nothing of now, so it is left off.
pub(super) fn shown_name<'a>(comm: &'a [u8], numbers: &Numbers, text: &'a mut String) -> &'a str {
    let mut name = &comm[..comm.len().min(COMM_CAP)];
    if numbers.is_kernel_thread() && name.starts_with(b"kworker/") {
        let number = name.iter().position(|b| *b == b':').unwrap_or(name.len());
        let what = name[number..].iter().position(|b| matches!(b, b'+' | b'-')).map(|at| number + at);
        if let Some(dash) = what.filter(|at| name[*at] == b'-') {
            name = &name[..dash];
        }
    }
    match std::str::from_utf8(name) {
        Ok(name) => name,
        Err(_) => {
            *text = lossy::capped(name, COMM_CAP * 4);
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kworker_did_last_is_left_off_and_what_it_does_stays() {
        let kernel = pid::stat::parse(b"1 (x) I 2 0 0 0 0 69238880 0 0 0 0 0 0 0 0 0 0 1 0 5 0 0\n").unwrap().numbers;
        let user = Numbers { flags: 0, ..kernel };
        let mut text = String::new();
        assert_eq!(shown_name(b"kworker/u8:1-events_unbound", &kernel, &mut text), "kworker/u8:1");
        assert_eq!(shown_name(b"kworker/u8:1+flush-8:0", &kernel, &mut text), "kworker/u8:1+flush-8:0");
        assert_eq!(shown_name(b"kworker/R-rcu_gp", &kernel, &mut text), "kworker/R-rcu_gp");
        assert_eq!(shown_name(b"kworker/0:1-x", &user, &mut text), "kworker/0:1-x", "anybody may take such a name");
        assert_eq!(shown_name(b"\xffa", &user, &mut text), "\\xffa");
    }
}
