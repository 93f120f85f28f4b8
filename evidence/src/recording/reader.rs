//! Reading a recording: a directory of segments (also while it is written) or one segment, cut to a window.

use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use casefile_proto::ids::{BootId, FrameSeq};
use casefile_proto::sample::Frame;
use casefile_proto::time::Window;

use super::bytes::{RecordType, split_record};
use super::cut::Cutter;
use super::names::Names;
use super::pass::{self, Found, Input, Stop, Wanted};
use super::{Header, Hole, facts};

/// A frame, or a described hole. There is no third thing.
#[derive(Debug)]
pub enum Piece {
    /// The header in force for the frames that follow; whenever it changes (agent restarted or upgraded, machine rebooted).
    Header(Header),
    /// A frame.
    Frame(Frame),
    /// Why there is none.
    Hole(Hole),
}

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file system said no.
    #[error("read {path}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: std::io::Error,
    },
    /// The cut could not be written.
    #[error("write the cut")]
    Write {
        /// What the writer said.
        #[source]
        source: std::io::Error,
    },
    /// It is no recording.
    #[error("{path} is no recording: {why}")]
    NotARecording {
        /// Which file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
}

/// An opened recording. Series ids are the reader's own, given out once: a second pass gives out others.
pub struct Recording {
    input: Input,
    names: Names,
}

impl Recording {
    /// A ring or last-words directory, without the writer's lock: a live one is read up to its last whole record.
    pub fn open_dir(dir: &Path) -> Result<Self, ReadError> {
        if !pass::is_recording(dir)? {
            let why = "there is no segment in it".to_owned();
            return Err(ReadError::NotARecording { path: dir.to_owned(), why });
        }
        Ok(Self { input: Input::Dir(dir.to_owned()), names: Names::default() })
    }

    /// One standalone segment out of memory or an archive entry (at most `limit` bytes are read).
    pub fn from_segment(read: &mut dyn Read, limit: casefile_proto::units::Bytes) -> Result<Self, ReadError> {
        let path = || PathBuf::from("segment");
        let mut bytes = Vec::new();
        let read = read.take(limit.0.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|source| ReadError::Io { path: path(), source })?;
        let why = match split_record(&bytes) {
            _ if bytes.len() as u64 > limit.0 => format!("it is above the limit of {limit}"),
            // Nothing at all: a cut of a recording that has nothing.
            _ if bytes.is_empty() => String::new(),
            Ok((head, _)) if head.kind != RecordType::Header => "it does not begin with a header".to_owned(),
            Ok((_, body)) => facts::header(body).err().map(|error| error.to_string()).unwrap_or_default(),
            Err(error) => error.to_string(),
        };
        if !why.is_empty() {
            return Err(ReadError::NotARecording { path: path(), why });
        }
        Ok(Self { input: Input::Memory(bytes), names: Names::default() })
    }

    /// Calls `each` for everything whose wall time lies in the window (`None`: everything), oldest first; memory is
    /// bounded by one block. Damaged blocks and missing sequence numbers come as holes with their reason.
    ///
    /// With a window there is a hole too for what it asks for before the first frame and after the last. Intervals of
    /// holes are cut to the window. A hole of a recording without any header has a boot id of zeros.
    pub fn pieces(
        &mut self,
        window: Option<Window>,
        each: &mut dyn FnMut(Piece) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.read(Wanted::Window(window), each)
    }

    /// Frames after this sequence number of this boot, oldest first: what a session catches up with. Same rules as `pieces`.
    pub fn after(
        &mut self,
        boot: BootId,
        seq: FrameSeq,
        each: &mut dyn FnMut(Piece) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.read(Wanted::After(boot, seq.0), each)
    }

    fn read(&mut self, wanted: Wanted, each: &mut dyn FnMut(Piece) -> ControlFlow<()>) -> Result<(), ReadError> {
        let names = &mut self.names;
        let (mut spoken, mut shown) = (None::<Header>, false);
        names.forget();
        pass::run(&mut self.input, wanted, &mut |found| {
            let mut give = |piece| match each(piece) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => Err(Stop::Enough),
            };
            match found {
                Found::Begins(header) => {
                    if spoken.as_ref() != Some(header) {
                        names.speak(header.schema.clone());
                        (spoken, shown) = (Some(header.clone()), false);
                    }
                    names.begin_block();
                    Ok(())
                }
                Found::Other(tick) => Ok(names.note(tick)?),
                Found::Tick(header, tick) => {
                    let frame = names.frame(header.boot, tick)?;
                    if !std::mem::replace(&mut shown, true) {
                        give(Piece::Header(header.clone()))?;
                    }
                    give(Piece::Frame(frame))
                }
                Found::Hole(header, hole) => {
                    if let Some(header) = header
                        && !(shown && spoken.as_ref() == Some(header))
                    {
                        if spoken.as_ref() != Some(header) {
                            names.speak(header.schema.clone());
                            spoken = Some(header.clone());
                        }
                        shown = true;
                        give(Piece::Header(header.clone()))?;
                    }
                    give(Piece::Hole(hole))
                }
            }
        })
    }

    /// What a series is; for ids in frames that this recording yielded, as long as its source had it in one of the last
    /// two blocks. Frames name their new series themselves ([`Sample::defined`](casefile_proto::sample::Sample)).
    pub fn series(
        &self,
        source: casefile_proto::sample::SourceIndex,
        id: casefile_proto::sample::SeriesId,
    ) -> Option<&casefile_proto::sample::SeriesDef> {
        self.names.series(source, id)
    }

    /// Writes the frames and holes of the window as one standalone segment (header, columnar blocks): exact at both ends.
    ///
    /// A recording that has not even a header gives no bytes, and a gap over the whole window.
    pub fn cut(&mut self, window: Window, out: &mut dyn Write) -> Result<Cut, ReadError> {
        let mut cutter = Cutter::new(window, out);
        pass::run(&mut self.input, Wanted::Window(Some(window)), &mut |found| cutter.take(found))?;
        cutter.finish()
    }
}

/// What a cut contains.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cut {
    /// Frames written.
    pub frames: u64,
    /// One row of the coverage for each source of the schema(s) in the window, `asked` being the window: covered
    /// intervals, outcomes, gaps. A tick covers the time until the next one is due, also that of the window behind the
    /// last tick before it, which is otherwise not counted.
    pub sources: Vec<casefile_proto::coverage::SourceCoverage>,
    /// What is missing of the node as a whole (no frames recorded, reboot, overwritten).
    pub gaps: Vec<casefile_proto::gap::Gap>,
}
