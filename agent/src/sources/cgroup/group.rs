//! One cgroup: which of its files are due, reading them, and what a failure means.
//!
//! Which cgroups there are is found in `tree`; what is in a file, in `files`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;

use casefile_proto::gap::{Gap, GapReason};

use crate::cgroups::{Controller, Layout};
use crate::host::{Dir, Host, HostError, KeptFile};
use crate::lossy;
use crate::sources::Measurement;
use crate::sources::kept::unreadable;

use super::files::{FileSpec, Place, V1, V2, When};
use super::tree::{Inner, SWEEP};

/// What was missing or refused is tried again after this many ticks: a controller may be enabled later.
const TRY_AGAIN: u64 = 60;

/// Files that are kept open at most: each costs the kernel a page and some, so this is 8 MiB of kernel memory at most.
const MAX_KEPT: usize = 2_048;

/// The part of the limit of open files that this source takes; processes take a half.
const KEPT_SHARE: u64 = 4;

/// No file of a cgroup is longer; `memory.stat` is 2 KiB, `io.stat` a line for each disk.
const FILE_CAP: usize = 64 * 1024;

/// Files that are read in a tick at most: about 15 ms. Above that only what is read always is read at every tick.
const MAX_READS: usize = 4_096;

/// Block devices whose names are remembered.
const MAX_DEVICES: usize = 1_024;

/// A cgroup that is followed.
pub(super) struct Group {
    /// Below the root of the hierarchy, without a leading `/`.
    pub(super) path: String,
    id: Box<str>,
    /// Its place in the sweep.
    pub(super) slot: u8,
    /// Its directory, while there are directories in it.
    pub(super) inner: Option<Inner>,
    /// An open file of it said that it is gone: to be looked at.
    pub(super) suspect: bool,
    /// Everything is to be read: it is new, or was left over when there was no time for it.
    all_due: bool,
    /// CPU time used, at the last reading; whatever unit.
    used: Option<i64>,
    files: Box<[File]>,
}

#[derive(Debug)]
enum File {
    /// To be opened.
    Closed,
    Open(KeptFile),
    /// This cgroup has none, or the kernel has it switched off.
    Missing,
    /// The agent may not read it.
    Refused,
}

/// The hierarchies that files are read from.
pub(super) struct Hierarchies {
    /// What is read.
    specs: &'static [FileSpec],
    /// The directory for each of `specs`; `None` where that hierarchy is not mounted.
    dirs: Vec<Option<usize>>,
    opened: Vec<Dir>,
}

impl Hierarchies {
    pub(super) fn open(host: &Host, layout: &Layout) -> Result<Self, HostError> {
        let (specs, unified) = match layout {
            Layout::V2(root) => (V2, Some(root.as_path())),
            Layout::V1 { unified, .. } => (V1, unified.as_deref()),
        };
        let places = std::iter::once(Place::Unified).chain(Controller::ALL.map(Place::V1));
        let (mut opened, mut at): (Vec<Dir>, Vec<(Place, usize)>) = (Vec::new(), Vec::new());
        for place in places {
            let root = match place {
                Place::Unified => unified,
                Place::V1(controller) => layout.controller(controller),
            };
            if let Some(root) = root {
                at.push((place, opened.len()));
                opened.push(host.dir(root)?);
            }
        }
        let dirs =
            specs.iter().map(|spec| at.iter().find(|(place, _)| *place == spec.place).map(|(_, i)| *i)).collect();
        Ok(Self { specs, dirs, opened })
    }
}

/// Reads files into a buffer of its own, keeps count of what is open and of what it did in this tick.
pub(super) struct Reader {
    host: Host,
    buf: Vec<u8>,
    path: String,
    room: usize,
    kept: usize,
    reads: usize,
    devices: HashMap<Box<[u8]>, Box<str>>,
    /// Cgroups for which there was no time.
    pub(super) late: u64,
    /// The first of them.
    pub(super) resume: Option<String>,
    /// Some file may not be read.
    pub(super) refused: bool,
}

enum Failed {
    /// There is no such file, or the kernel has it switched off.
    Missing,
    /// The cgroup was removed.
    Gone,
    Refused,
    Broken(HostError),
}

impl Reader {
    pub(super) fn new(host: &Host) -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let room =
            limit.map_or(MAX_KEPT, |limit| usize::try_from(limit / KEPT_SHARE).unwrap_or(MAX_KEPT).min(MAX_KEPT));
        Self {
            host: host.clone(),
            buf: Vec::new(),
            path: String::new(),
            room,
            kept: 0,
            reads: 0,
            devices: HashMap::new(),
            late: 0,
            resume: None,
            refused: false,
        }
    }

    /// A new tick begins, with so many files open.
    pub(super) fn begin(&mut self, kept: usize) {
        (self.kept, self.reads, self.late, self.refused) = (kept, 0, 0, false);
        self.resume = None;
    }

    /// Reads one file of a cgroup into the buffer.
    fn read(&mut self, spec: &FileSpec, dir: &Dir, group: &str, file: &mut File) -> Result<(), Failed> {
        self.reads += 1;
        let read = match file {
            File::Open(open) => open.read_record(&mut self.buf, FILE_CAP),
            File::Closed => match self.open(spec, dir, group) {
                Ok(opened) => {
                    let read = opened.read_record(&mut self.buf, FILE_CAP);
                    // What is read seldom is kept open only while there is plenty of room.
                    let room = if spec.when == When::Seldom { self.room / 2 } else { self.room };
                    if read.is_ok() && self.kept < room {
                        self.kept += 1;
                        *file = File::Open(opened);
                    }
                    read
                }
                Err(error) if error.is_not_found() => return Err(Failed::Missing),
                Err(error) => Err(error),
            },
            File::Missing => return Err(Failed::Missing),
            File::Refused => return Err(Failed::Refused),
        };
        read.map_err(|error| match error {
            _ if error.is_not_found() => Failed::Gone,
            _ if error.is_unsupported() => Failed::Missing,
            _ if error.is_permission() => Failed::Refused,
            _ => Failed::Broken(error),
        })
    }

    fn open(&mut self, spec: &FileSpec, dir: &Dir, group: &str) -> Result<KeptFile, HostError> {
        let mut names = spec.names.iter();
        let mut first = names.next().copied().unwrap_or_default();
        loop {
            self.path.clear();
            // Writing to a String cannot fail.
            let _ = write!(self.path, "{group}/{first}");
            match (dir.keep(&self.path), names.next()) {
                (Err(error), Some(other)) if error.is_not_found() => first = other,
                (opened, _) => return opened,
            }
        }
    }

    /// The name of a block device, from `/sys/dev/block`; its number where that does not say.
    fn device(host: &Host, devices: &mut HashMap<Box<[u8]>, Box<str>>, number: &[u8]) -> Box<str> {
        if let Some(name) = devices.get(number) {
            return name.clone();
        }
        let text = lossy::text(number);
        let link = host.link(Path::new("sys/dev/block").join(&*text)).ok();
        let name = link.as_ref().and_then(|link| link.file_name());
        let name: Box<str> = name.map_or_else(|| text.as_ref().into(), |n| lossy::text(n.as_encoded_bytes()).into());
        // Numbers come back with other disks: what was remembered is forgotten now and then.
        if devices.len() >= MAX_DEVICES {
            devices.clear();
        }
        devices.insert(number.into(), name.clone());
        name
    }

    /// The names of devices are asked anew.
    pub(super) fn forget_devices(&mut self) {
        self.devices.clear();
    }
}

impl Group {
    pub(super) fn new(path: String, slot: u8) -> Self {
        let id = format!("/{path}").into();
        Self { path, id, slot, inner: None, suspect: false, all_due: true, used: None, files: Box::default() }
    }

    /// Whether this is its tick of the sweep.
    pub(super) fn is_swept(&self, tick: u64) -> bool {
        u64::from(self.slot) == tick % SWEEP
    }

    /// How many of its files are kept open.
    pub(super) fn kept(&self) -> usize {
        self.files.iter().filter(|file| matches!(file, File::Open(_))).count()
    }

    /// Reads what is due of it.
    pub(super) fn read(&mut self, from: &Hierarchies, tick: u64, reader: &mut Reader, out: &mut Measurement) {
        if self.files.is_empty() {
            self.files = from.specs.iter().map(|_| File::Closed).collect();
        }
        if tick % TRY_AGAIN == u64::from(self.slot) {
            for file in self.files.iter_mut().filter(|file| matches!(file, File::Missing | File::Refused)) {
                *file = File::Closed;
            }
        }
        let all_due = self.all_due || self.is_swept(tick);
        self.all_due = false;
        // Where nothing tells whether anything ran, it may have.
        let mut ran = true;
        for ((spec, dir), file) in from.specs.iter().zip(&from.dirs).zip(&mut self.files) {
            let due = match spec.when {
                When::Always => true,
                When::Busy => all_due || ran,
                When::Seldom => all_due,
            };
            let Some(dir) = dir.filter(|_| due).and_then(|at| from.opened.get(at)) else { continue };
            if spec.when != When::Always && reader.reads >= MAX_READS {
                // Said once of this cgroup; all of it is due at the next tick.
                self.all_due = true;
                reader.late += 1;
                reader.resume.get_or_insert_with(|| self.path.clone());
                return;
            }
            match reader.read(spec, dir, &self.path, file) {
                Ok(()) => {
                    let Reader { host, devices, buf, .. } = reader;
                    match spec.emit(buf, &self.id, &mut |number| Reader::device(host, devices, number), out) {
                        Ok(first) if spec.when == When::Always => {
                            ran = first.is_none() || self.used != first;
                            self.used = first;
                        }
                        Ok(_) => {}
                        Err(bad) => {
                            let (name, shown) = (spec.names.first().unwrap_or(&""), lossy::capped(buf, 200));
                            let why = format!("{name} of cgroup {}: cannot parse {shown:?}: {}", self.id, bad.0);
                            out.gap(Gap::new(GapReason::ParseFailed, why));
                        }
                    }
                }
                Err(Failed::Missing) => *file = File::Missing,
                Err(Failed::Refused) => *file = File::Refused,
                Err(Failed::Gone) => {
                    // Not a gap: what was removed is no longer there. The tree finds out whether all of it was.
                    *file = File::Closed;
                    self.suspect = true;
                }
                Err(Failed::Broken(error)) => out.gap(unreadable(&error)),
            }
        }
        reader.refused |= self.files.iter().any(|file| matches!(file, File::Refused));
    }
}
