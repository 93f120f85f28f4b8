//! Receiving items into a spool: every chunk is checked before it is written, what is acknowledged was synced before, and
//! an upload that was cut resumes where the disk ends.
//!
//! Synchronous: the thin layer of an upload calls it on a thread where blocking is allowed. The newest upload of an item
//! wins; an older one that still holds on to it is refused from then on.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use casefile_evidence::archive::chunk::{self, Checker, Chunk, ChunkError, write_spooled};
use casefile_evidence::directory;
use casefile_proto::ids::ItemNumber;
use casefile_proto::item::{Digest, ItemHead, ItemTail};
use casefile_proto::session::{MAX_DEFLATED, MAX_PAYLOAD, Piece, RunId};
use casefile_proto::units::Bytes;
use sha2::{Digest as _, Sha256};

use super::{Chunks, Meta, Place, SpooledItem, Trust, metas, naming, spooled_len};

// What the wire lets through is what a chunk may be.
const _: () = assert!(MAX_PAYLOAD == chunk::MAX_PLAIN && MAX_DEFLATED == chunk::MAX_DEFLATED);

/// The most items of one run: containers of a large node, several files each, with room.
const MAX_ITEMS: u32 = 20_000;
/// The most runs of one request: how often an agent may be restarted and begin anew.
const MAX_RUNS: usize = 16;

/// Why something is not taken into a spool.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The request was cancelled or sealed.
    #[error("the request is closed")]
    Closed,
    /// A newer upload of the same item began.
    #[error("a newer upload of this item began")]
    Superseded,
    /// The agent's numbers are beyond every sense.
    #[error("too many {what} in one request: at most {limit}")]
    TooMany {
        /// Items or runs.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The item was begun with another description.
    #[error("the item was begun as something else")]
    OtherItem,
    /// The piece does not follow what is on disk.
    #[error("the piece begins at {got} and {expected} is wanted")]
    Offset {
        /// Where it should begin.
        expected: u64,
        /// Where it says that it begins.
        got: u64,
    },
    /// The chunk did not pass its check.
    #[error("the chunk is refused")]
    Chunk(#[source] ChunkError),
    /// The budget of the request would be exceeded.
    #[error("the budget of {0} of this request is used up")]
    Budget(Bytes),
    /// What is on disk is not what the end of the item says; it was deleted, the item can be sent again.
    #[error("the item ends with {claimed} bytes and the collector has {held}, or its digest differs")]
    Content {
        /// What the agent says.
        claimed: u64,
        /// What is on disk.
        held: u64,
    },
    /// The file system said no.
    #[error("write the spool")]
    Io(#[source] io::Error),
}

/// The spool of one request, open for receiving. Cheap to clone.
#[derive(Clone)]
pub struct Spool {
    shared: Arc<Shared>,
}

struct Shared {
    dir: PathBuf,
    budget: Bytes,
    /// Held for reading by everything that writes, for writing by [`Spool::close`].
    gate: RwLock<Gate>,
    state: Mutex<State>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Gate {
    Open,
    Closed,
}

#[derive(Default)]
struct State {
    /// The position of a run is its number in names of files.
    runs: Vec<RunId>,
    /// Plain bytes on disk of each run. An earlier run does not take away from the budget of a later one.
    used: HashMap<RunId, u64>,
    /// The upload that may write each item.
    owners: HashMap<Place, Arc<Mutex<Owner>>>,
}

/// Who may write an item, and what is accounted for it.
#[derive(Default)]
struct Owner {
    /// Counts its uploads; the newest owns it.
    turn: u64,
    /// Plain bytes on disk.
    held: u64,
}

/// Stands where the number of a run is taken and none of its items is left. Never a run: 0 is refused on the wire.
const NO_RUN: RunId = RunId(0);

/// What beginning an item found.
pub enum Begun {
    /// It is on disk, whole, from before.
    Whole(Box<SpooledItem>),
    /// Pieces are wanted from [`Receiving::offset`] on.
    Open(Box<Receiving>),
}

impl Spool {
    /// Opens or creates (0700) the directory. `budget` is the most plain bytes of one run.
    pub fn open(dir: PathBuf, budget: Bytes) -> io::Result<Self> {
        directory::make(&dir).map_err(|e| naming("create", &dir, e))?;
        let mut state = State::default();
        for (place, meta) in metas(&dir)? {
            let at = usize::try_from(place.run).unwrap_or(usize::MAX);
            if at >= MAX_RUNS || state.runs.get(at).is_some_and(|run| *run != NO_RUN && *run != meta.run) {
                let why = io::Error::new(io::ErrorKind::InvalidData, "its run does not belong here");
                return Err(naming("read", &place.meta(&dir), why));
            }
            if state.runs.len() <= at {
                state.runs.resize(at + 1, NO_RUN);
            }
            state.runs[at] = meta.run;
            let held = match &meta.tail {
                Some(tail) => tail.size,
                None => match Chunks::open(&place.chunks(&dir), Trust::Nothing) {
                    Ok(chunks) => chunks.measure()?.size,
                    // Begun, and the power failed before its file had a name.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
                    Err(e) => return Err(e),
                },
            };
            *state.used.entry(meta.run).or_default() += held;
            lock(state.owners.entry(place).or_default()).held = held;
        }
        let shared = Shared { dir, budget, gate: RwLock::new(Gate::Open), state: Mutex::new(state) };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Begins or resumes an item of a run.
    pub fn begin(&self, run: RunId, number: ItemNumber, head: ItemHead) -> Result<Begun, Refusal> {
        let _open = self.shared.pass()?;
        let (place, owner) = self.shared.place(run, number)?;
        let mut current = lock(&owner);
        current.turn += 1;
        let (turn, dir) = (current.turn, &self.shared.dir);
        let path = place.chunks(dir);
        let (meta, is_new) = match Meta::read(place, dir) {
            Ok(meta) if meta.head != head => return Err(Refusal::OtherItem),
            Ok(meta) if meta.tail.is_some() => return Ok(Begun::Whole(Box::new(meta.into_item(path)))),
            Ok(meta) => (meta, false),
            // None, or one that is of no use, and nothing was promised of it.
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                let meta = Meta { number, run, head, tail: None };
                // Not synced: nothing is promised before the first sync, which includes it.
                write_meta(&place.meta(dir), &meta, Durable::Later).map_err(Refusal::Io)?;
                (meta, true)
            }
            Err(e) => return Err(Refusal::Io(e)),
        };
        let file = open_chunks(&path).map_err(Refusal::Io)?;
        if is_new {
            // Chunks whose description is lost may be another item's.
            file.set_len(0).map_err(|e| Refusal::Io(naming("cut", &path, e)))?;
        }
        let good = Chunks::open(&path, Trust::Nothing).and_then(Chunks::measure).map_err(Refusal::Io)?;
        file.set_len(good.file_len).map_err(|e| Refusal::Io(naming("cut", &path, e)))?;
        self.shared.account(run, &mut current, good.size);
        drop(current);
        Ok(Begun::Open(Box::new(Receiving {
            shared: Arc::clone(&self.shared),
            owner,
            turn,
            place,
            meta,
            path,
            file,
            file_len: good.file_len,
            held: good.size,
            sha256: good.sha256,
            checker: Checker::new(),
            plain: Vec::new(),
            buffer: Vec::new(),
            announced: Durable::Later,
        })))
    }

    /// Nothing is written into the directory after this returns. Waits for the write that is being done.
    pub fn close(&self) {
        *self.shared.gate.write().unwrap_or_else(PoisonError::into_inner) = Gate::Closed;
    }
}

impl Shared {
    fn pass(&self) -> Result<RwLockReadGuard<'_, Gate>, Refusal> {
        let gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        if *gate == Gate::Closed { Err(Refusal::Closed) } else { Ok(gate) }
    }

    fn place(&self, run: RunId, number: ItemNumber) -> Result<(Place, Arc<Mutex<Owner>>), Refusal> {
        if number.0 >= MAX_ITEMS {
            return Err(Refusal::TooMany { what: "items", limit: usize::try_from(MAX_ITEMS).unwrap_or(usize::MAX) });
        }
        let mut state = lock(&self.state);
        let at = match state.runs.iter().position(|r| *r == run) {
            Some(at) => at,
            None if state.runs.len() >= MAX_RUNS => return Err(Refusal::TooMany { what: "runs", limit: MAX_RUNS }),
            None => {
                state.runs.push(run);
                state.runs.len() - 1
            }
        };
        let place = Place { run: u32::try_from(at).unwrap_or(u32::MAX), item: number };
        Ok((place, Arc::clone(state.owners.entry(place).or_default())))
    }

    /// Whether this many bytes more fit into the budget of the run. They are accounted when they were written; uploads of
    /// one run that write at the same time can exceed it by one chunk each.
    fn fits(&self, run: RunId, more: u64) -> Result<(), Refusal> {
        let used = lock(&self.state).used.get(&run).copied().unwrap_or(0);
        if used.saturating_add(more) > self.budget.0 { Err(Refusal::Budget(self.budget)) } else { Ok(()) }
    }

    /// An item of this run has this many bytes now.
    fn account(&self, run: RunId, owner: &mut Owner, held: u64) {
        let mut state = lock(&self.state);
        let used = state.used.entry(run).or_default();
        *used = used.saturating_sub(owner.held).saturating_add(held);
        owner.held = held;
    }
}

/// An item that is being received. Dropping it keeps what is there.
pub struct Receiving {
    shared: Arc<Shared>,
    owner: Arc<Mutex<Owner>>,
    turn: u64,
    place: Place,
    meta: Meta,
    path: PathBuf,
    file: File,
    file_len: u64,
    held: u64,
    sha256: Sha256,
    checker: Checker,
    plain: Vec<u8>,
    buffer: Vec<u8>,
    /// Whether the description and the names of both files are known to be on disk.
    announced: Durable,
}

impl Receiving {
    /// Where the next piece must begin.
    pub fn offset(&self) -> u64 {
        self.held
    }

    /// Checks a piece and writes it; it is not on disk before [`Receiving::sync`].
    pub fn piece(&mut self, piece: Piece) -> Result<(), Refusal> {
        if piece.offset != self.held {
            return Err(Refusal::Offset { expected: self.held, got: piece.offset });
        }
        let chunk =
            Chunk { plain_len: piece.plain_len, plain_crc32: piece.plain_crc32, deflated: Vec::from(piece.deflated) };
        self.checker.check(&chunk, &mut self.plain).map_err(Refusal::Chunk)?;
        let (shared, owner) = (Arc::clone(&self.shared), Arc::clone(&self.owner));
        let _open = shared.pass()?;
        let mut mine = self.mine(&owner)?;
        let plain_len = u64::from(chunk.plain_len);
        shared.fits(self.meta.run, plain_len)?;
        self.buffer.clear();
        write_spooled(&chunk, &mut self.buffer)
            // What an error leaves behind is torn and so not there; the next write goes over it.
            .and_then(|()| self.file.write_all_at(&self.buffer, self.file_len))
            .map_err(|e| Refusal::Io(naming("append to", &self.path, e)))?;
        self.sha256.update(&self.plain);
        self.file_len += spooled_len(&chunk);
        self.held += plain_len;
        shared.account(self.meta.run, &mut mine, self.held);
        Ok(())
    }

    /// What was written is on disk when this returns; how much that is.
    pub fn sync(&mut self) -> Result<u64, Refusal> {
        let (shared, owner) = (Arc::clone(&self.shared), Arc::clone(&self.owner));
        let _open = shared.pass()?;
        let _mine = self.mine(&owner)?;
        self.sync_file()?;
        if self.announced == Durable::Later {
            let meta = self.place.meta(&shared.dir);
            File::open(&meta).and_then(|f| f.sync_all()).map_err(|e| Refusal::Io(naming("sync", &meta, e)))?;
            sync_dir(&shared.dir).map_err(Refusal::Io)?;
            self.announced = Durable::Now;
        }
        Ok(self.held)
    }

    /// The item is whole when what is on disk is what its end says, and synced when this returns.
    pub fn end(mut self, tail: ItemTail) -> Result<SpooledItem, Refusal> {
        let (shared, owner) = (Arc::clone(&self.shared), Arc::clone(&self.owner));
        let _open = shared.pass()?;
        let mut mine = self.mine(&owner)?;
        let sha256 = Digest(self.sha256.clone().finalize().into());
        if tail.size != self.held || tail.sha256 != sha256 {
            // Nobody can say which part is wrong, so none of it is kept.
            self.file.set_len(0).map_err(|e| Refusal::Io(naming("cut", &self.path, e)))?;
            shared.account(self.meta.run, &mut mine, 0);
            return Err(Refusal::Content { claimed: tail.size, held: self.held });
        }
        self.sync_file()?;
        self.meta.tail = Some(tail);
        write_meta(&self.place.meta(&shared.dir), &self.meta, Durable::Now).map_err(Refusal::Io)?;
        sync_dir(&shared.dir).map_err(Refusal::Io)?;
        Ok(self.meta.into_item(self.path))
    }

    fn sync_file(&self) -> Result<(), Refusal> {
        self.file.sync_data().map_err(|e| Refusal::Io(naming("sync", &self.path, e)))
    }

    /// The right to write, for as long as the guard lives.
    fn mine<'a>(&self, owner: &'a Mutex<Owner>) -> Result<MutexGuard<'a, Owner>, Refusal> {
        let current = lock(owner);
        if current.turn == self.turn { Ok(current) } else { Err(Refusal::Superseded) }
    }
}

/// Whether a file must be on disk at once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Durable {
    Now,
    Later,
}

/// Writes the description beside its place and renames it there: it is always a whole one.
fn write_meta(path: &Path, meta: &Meta, durable: Durable) -> io::Result<()> {
    let beside = path.with_extension("json.new");
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(&serde_json::to_vec(meta)?)?;
        if durable == Durable::Now {
            file.sync_all()?;
        }
        std::fs::rename(&beside, path)
    };
    write().map_err(|e| naming("write", path, e))
}

fn open_chunks(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|e| naming("open", path, e))
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(|e| naming("sync", dir, e))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while holding one of these; if something did, the state was consistent at each step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
