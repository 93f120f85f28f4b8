//! One pass over a recording from its oldest record to its newest: which files, which blocks, what is damaged, what is
//! there twice. What becomes of the ticks is the caller's.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use casefile_proto::ids::BootId;
use casefile_proto::time::{Stamp, Window};

use super::block::Block;
use super::bytes::{RecordHead, RecordType};
use super::columns::Summary;
use super::continuity::{Before, Continuity, Span};
use super::delta::DecodeError;
use super::disk::{FORGOTTEN, LOCK, TAIL, segment_name, segment_numbers};
use super::reader::ReadError;
use super::tick::{Tick, TickDecoder};
use super::walk::{Place, Step, Walk};
use super::{Header, Hole, facts, scan, tick_of};

/// The most of a tail that is read: what the writer lets it grow to.
const MAX_TAIL: u64 = 64 << 20;

/// Where a recording is.
#[derive(Debug)]
pub(crate) enum Input {
    Dir(PathBuf),
    Memory(Vec<u8>),
}

/// Which frames are wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted {
    Window(Option<Window>),
    After(BootId, u64),
}

impl Wanted {
    fn holds(&self, boot: BootId, seq: u64, at: Stamp) -> bool {
        match *self {
            Self::Window(window) => window.is_none_or(|w| w.contains(at.wall)),
            Self::After(after, last) => boot == after && seq > last,
        }
    }

    /// For a window also the block before it: what its last ticks measured reaches into the window.
    fn may_hold(&self, header: &Header, block: &Summary) -> bool {
        match self {
            Self::Window(window) => window.is_none_or(|w| {
                let slowest = header.schema.sources.iter().map(|s| s.every_nanos).max().unwrap_or(0);
                let reaches = block.wall_max.saturating_add_unsigned(slowest);
                block.wall_min < w.until().nanos() && reaches >= w.from().nanos()
            }),
            Self::After(after, last) => header.boot == *after && block.last_seq() > *last,
        }
    }
}

/// What a pass finds.
pub(crate) enum Found<'a> {
    /// Dense numbers mean something else from now on, and belong to this header's schema.
    Begins(&'a Header),
    /// A tick that is wanted, under its header.
    Tick(&'a Header, &'a mut Tick),
    /// One that is not, but may define series of those that are.
    Other(&'a Tick),
    /// Under the header in force, if there is any.
    Hole(Option<&'a Header>, Hole),
}

/// Ends a pass: the caller had enough, or could not go on.
pub(crate) enum Stop {
    Enough,
    Failed(ReadError),
    /// The block is not what it seemed: the pass goes on behind it.
    Damaged(DecodeError),
}

impl From<DecodeError> for Stop {
    fn from(error: DecodeError) -> Self {
        Self::Damaged(error)
    }
}

pub(crate) type Each<'e> = dyn FnMut(Found<'_>) -> Result<(), Stop> + 'e;

/// The state of a pass.
pub(crate) struct Pass<'e> {
    wanted: Wanted,
    continuity: Continuity,
    header: Option<Arc<Header>>,
    decoder: TickDecoder,
    tick: Tick,
    body: Vec<u8>,
    is_passed_over: bool,
    each: &'e mut Each<'e>,
}

pub(crate) fn read_error(path: &Path) -> impl FnOnce(io::Error) -> ReadError {
    let path = path.to_owned();
    move |source| ReadError::Io { path, source }
}

/// Opens a file of a recording to be read; `None`: there is none.
pub(crate) fn open(path: &Path) -> Result<Option<File>, ReadError> {
    let nofollow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    match std::fs::OpenOptions::new().read(true).custom_flags(nofollow).open(path) {
        Ok(file) => Ok(Some(file)),
        // Retention removed it since the directory was listed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(read_error(path)(error)),
    }
}

/// As much of the tail as is there. A writer that empties it meanwhile leaves bytes that do not decode, and a block.
fn read_tail(path: &Path) -> Result<Vec<u8>, ReadError> {
    let Some(file) = open(path)? else { return Ok(Vec::new()) };
    let mut bytes = Vec::new();
    let length = file.metadata().map_err(read_error(path))?.len().min(MAX_TAIL);
    bytes.resize(usize::try_from(length).unwrap_or(0), 0);
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(read_error(path)(error)),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Whether a directory looks like a recording: there is a segment, a tail or a lock.
pub(crate) fn is_recording(dir: &Path) -> Result<bool, ReadError> {
    let numbers = segment_numbers(dir).map_err(read_error(dir))?;
    Ok(!numbers.is_empty() || dir.join(TAIL).exists() || dir.join(LOCK).exists())
}

/// Runs over the input. `each` ends it early with [`Stop::Enough`].
pub(crate) fn run<'e>(input: &mut Input, wanted: Wanted, each: &'e mut Each<'e>) -> Result<(), ReadError> {
    let forgotten = match &*input {
        Input::Dir(dir) => scan::forgotten(&dir.join(FORGOTTEN)),
        Input::Memory(_) => None,
    };
    let continuity = match wanted {
        Wanted::Window(window) => Continuity::new(window, forgotten),
        Wanted::After(boot, seq) => Continuity::after(boot, seq, forgotten),
    };
    let mut pass = Pass {
        wanted,
        continuity,
        header: None,
        decoder: TickDecoder::default(),
        tick: Tick::default(),
        body: Vec::new(),
        is_passed_over: false,
        each,
    };
    let flow = match input {
        Input::Dir(dir) => pass.dir(dir)?,
        Input::Memory(bytes) => {
            let mut walk = Walk::in_memory(std::mem::take(bytes));
            let flow = pass.segment(&mut walk);
            *bytes = walk.into_memory();
            flow.map_err(read_error(Path::new("segment")))?
        }
    };
    match flow {
        ControlFlow::Break(Stop::Failed(error)) => Err(error),
        ControlFlow::Break(_) => Ok(()),
        ControlFlow::Continue(()) => match pass.end() {
            ControlFlow::Break(Stop::Failed(error)) => Err(error),
            _ => Ok(()),
        },
    }
}

type Flow = ControlFlow<Stop>;

impl Pass<'_> {
    fn dir(&mut self, dir: &Path) -> Result<Flow, ReadError> {
        // The tail first: a block that is closed after this is there twice, which is noticed; the other way round it
        // would be nowhere.
        let tail_path = dir.join(TAIL);
        let tail = read_tail(&tail_path)?;
        let numbers = segment_numbers(dir).map_err(read_error(dir))?;
        let skip = self.first_of_interest(dir, &numbers)?;
        for &number in &numbers[skip..] {
            let path = dir.join(segment_name(number));
            let Some(file) = open(&path)? else { continue };
            let mut walk = Walk::new(Place::File(file)).map_err(read_error(&path))?;
            if let ControlFlow::Break(stop) = self.segment(&mut walk).map_err(read_error(&path))? {
                return Ok(ControlFlow::Break(stop));
            }
        }
        let mut walk = Walk::in_memory(tail);
        // What is torn at the end of a tail is not there; nothing behind it could be understood.
        while let Step::Record(head) = walk.look().map_err(read_error(&tail_path))? {
            match self.record(&mut walk, &head).map_err(read_error(&tail_path))? {
                Ok(()) => walk.skip(&head),
                Err(Stop::Damaged(_)) => break,
                Err(stop) => return Ok(ControlFlow::Break(stop)),
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Frame numbers of one boot only grow: the newest segment that begins before what is wanted is where it begins.
    fn first_of_interest(&self, dir: &Path, numbers: &[u32]) -> Result<usize, ReadError> {
        let Wanted::After(boot, seq) = self.wanted else { return Ok(0) };
        for (i, &number) in numbers.iter().enumerate().rev() {
            let path = dir.join(segment_name(number));
            let Some(file) = open(&path)? else { continue };
            let begins = Walk::new(Place::File(file)).and_then(|mut walk| walk.begins());
            if begins.map_err(read_error(&path))?.is_some_and(|(b, first)| b == boot && first <= seq) {
                return Ok(i);
            }
        }
        Ok(0)
    }

    fn segment(&mut self, walk: &mut Walk) -> io::Result<Flow> {
        self.decoder.restart();
        // The last record, when it was passed over: its length was believed without its checksum.
        let mut believed = None;
        loop {
            let head = match walk.look()? {
                Step::Record(head) => head,
                Step::End if walk.at >= walk.end => return Ok(ControlFlow::Continue(())),
                // A block that was being written when the machine went down, which the tail still has; or a length that
                // was damaged.
                Step::End => {
                    self.damaged(&DecodeError::Torn);
                    walk.search_from(believed.take())?;
                    continue;
                }
                Step::Damaged(error) => {
                    self.damaged(&error);
                    walk.search_from(believed.take())?;
                    continue;
                }
            };
            self.is_passed_over = false;
            match self.record(walk, &head) {
                Ok(Ok(())) => {
                    believed = self.is_passed_over.then_some(walk.at);
                    walk.skip(&head);
                }
                Ok(Err(Stop::Damaged(error @ DecodeError::Malformed(_)))) => {
                    self.damaged(&error);
                    walk.skip(&head);
                }
                Ok(Err(Stop::Damaged(error))) => {
                    self.damaged(&error);
                    walk.search_from(believed.take())?;
                }
                Ok(Err(stop)) => return Ok(ControlFlow::Break(stop)),
                // The writer cut the file under us: what follows is in a block that we did not see yet.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(ControlFlow::Continue(())),
                Err(error) => return Err(error),
            }
        }
    }

    fn damaged(&mut self, error: &DecodeError) {
        self.decoder.restart();
        self.continuity.damaged(&error.to_string());
    }

    fn record(&mut self, walk: &mut Walk, head: &RecordHead) -> io::Result<Result<(), Stop>> {
        if head.kind == RecordType::Block {
            match (walk.summary(head)?, &self.header) {
                (Ok(summary), Some(header)) if !self.wanted.may_hold(header, &summary) => {
                    return Ok(self.pass_over(&summary));
                }
                (Err(error), _) => return Ok(Err(error.into())),
                _ => {}
            }
        }
        let mut body = std::mem::take(&mut self.body);
        let read = walk.body(head, &mut body);
        let result = read.map(|checked| match checked {
            Ok(()) => self.body(head.kind, &body),
            Err(error) => Err(error.into()),
        });
        self.body = body;
        result
    }

    fn body(&mut self, kind: RecordType, body: &[u8]) -> Result<(), Stop> {
        if kind == RecordType::Header {
            let header = facts::header(body)?;
            self.decoder.restart();
            self.header = Some(Arc::new(header));
            return Ok(());
        }
        let header = self.header.clone().ok_or(DecodeError::Malformed("a record before the header"))?;
        match kind {
            RecordType::Key => {
                self.decoder.key(&header.schema, body, &mut self.tick)?;
                (self.each)(Found::Begins(&header))?;
                self.ticked(&header)
            }
            RecordType::Delta => {
                self.decoder.delta(&header.schema, body, &mut self.tick)?;
                self.ticked(&header)
            }
            RecordType::Block => {
                let mut block = Block::open(&header.schema, body)?;
                (self.each)(Found::Begins(&header))?;
                while block.next(&mut self.tick)? {
                    self.ticked(&header)?;
                }
                Ok(())
            }
            RecordType::Hole | RecordType::Header => {
                let holes = self.continuity.hole(facts::hole(body)?);
                self.holes(&header, holes)
            }
        }
    }

    fn ticked(&mut self, header: &Header) -> Result<(), Stop> {
        let (seq, at) = (self.tick.seq, self.tick.stamp());
        let span = Span {
            boot: header.boot,
            first_seq: seq,
            last_seq: seq,
            first: at,
            last: at,
            tick: tick_of(&header.schema),
        };
        match self.continuity.span(span) {
            Before::Seen => return (self.each)(Found::Other(&self.tick)),
            Before::Holes(holes) => self.holes(header, holes)?,
        }
        if self.wanted.holds(header.boot, seq, at) {
            (self.each)(Found::Tick(header, &mut self.tick))
        } else {
            (self.each)(Found::Other(&self.tick))
        }
    }

    /// A block that has nothing of what is wanted.
    fn pass_over(&mut self, summary: &Summary) -> Result<(), Stop> {
        let Some(header) = self.header.clone() else { return Ok(()) };
        self.is_passed_over = true;
        let span = Span {
            boot: header.boot,
            first_seq: summary.first_seq,
            last_seq: summary.last_seq(),
            first: summary.first,
            last: summary.last,
            tick: tick_of(&header.schema),
        };
        match self.continuity.span(span) {
            Before::Seen => Ok(()),
            Before::Holes(holes) => self.holes(&header, holes),
        }
    }

    fn holes(&mut self, header: &Header, holes: Vec<Hole>) -> Result<(), Stop> {
        holes.into_iter().try_for_each(|hole| (self.each)(Found::Hole(Some(header), hole)))
    }

    fn end(&mut self) -> Flow {
        let holes = self.continuity.end();
        let header = self.header.take();
        match holes.into_iter().try_for_each(|hole| (self.each)(Found::Hole(header.as_deref(), hole))) {
            Ok(()) => ControlFlow::Continue(()),
            Err(stop) => ControlFlow::Break(stop),
        }
    }
}
