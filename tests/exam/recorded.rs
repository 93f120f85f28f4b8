//! What a recording holds, read back for a judge: which frames, what each says, in which order, and which are declared
//! missing. Frames of two recordings can be compared: numbers of series are the reader's own and are not looked at.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result};
use casefile_evidence::recording::reader::{Piece, Recording};
use casefile_proto::ids::{BootId, FrameSeq, NodeName};
use casefile_proto::sample::{Frame, SeriesDef, SeriesId, SourceIndex};
use casefile_proto::time::WallTime;

/// One frame of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    /// When it was taken.
    pub(crate) wall: WallTime,
    /// What it says: samples, readings by the name of their series, events.
    pub(crate) says: u64,
}

/// A recording, read.
#[derive(Debug, Default)]
pub(crate) struct Recorded {
    /// Whose it is, as its newest header says.
    pub(crate) node: Option<NodeName>,
    /// The frames.
    pub(crate) frames: BTreeMap<(BootId, FrameSeq), Held>,
    /// Ranges of numbers that are declared missing.
    pub(crate) declared: Vec<(BootId, FrameSeq, FrameSeq)>,
    /// Frames that are there twice or out of order, and holes that nothing declares.
    pub(crate) faults: Vec<String>,
}

impl Recorded {
    /// Everything in a directory of segments.
    pub(crate) fn directory(dir: &Path) -> Result<Self> {
        Self::of(&mut Recording::open_dir(dir).with_context(|| format!("open {}", dir.display()))?, &mut |_| Ok(()))
    }

    /// [`Recorded::directory`]; each frame is shown to `check` too.
    pub(crate) fn checked(dir: &Path, check: &mut dyn FnMut(&Frame) -> Result<(), String>) -> Result<Self> {
        Self::of(&mut Recording::open_dir(dir).with_context(|| format!("open {}", dir.display()))?, check)
    }

    /// What a directory holds of a boot after a frame: what was added since it was read before. Holes between the two are
    /// not judged.
    pub(crate) fn since(dir: &Path, boot: BootId, after: FrameSeq) -> Result<Self> {
        let mut read = Self::default();
        let mut names = Names::default();
        let mut recording = Recording::open_dir(dir).with_context(|| format!("open {}", dir.display()))?;
        recording.after(boot, after, &mut |piece| {
            if let Piece::Frame(frame) = piece {
                let says = names.says(&frame);
                read.frames.insert((frame.boot, frame.seq), Held { wall: frame.at.wall, says });
            }
            ControlFlow::Continue(())
        })?;
        Ok(read)
    }

    /// Everything of a recording that is open.
    pub(crate) fn of(recording: &mut Recording, check: &mut dyn FnMut(&Frame) -> Result<(), String>) -> Result<Self> {
        let mut read = Self::default();
        let (mut names, mut hole_before) = (Names::default(), false);
        recording.pieces(None, &mut |piece| {
            match piece {
                Piece::Header(header) => read.node = Some(header.node),
                Piece::Hole(hole) => {
                    hole_before = true;
                    if let Some((first, last)) = hole.seqs {
                        read.declared.push((hole.boot, first, last));
                    }
                }
                Piece::Frame(frame) => {
                    read.faults.extend(check(&frame).err());
                    read.frame(&frame, &mut names, hole_before);
                    hole_before = false;
                }
            }
            ControlFlow::Continue(())
        })?;
        Ok(read)
    }

    fn frame(&mut self, frame: &Frame, names: &mut Names, hole_before: bool) {
        let before = self.frames.range((frame.boot, FrameSeq(0))..=(frame.boot, FrameSeq(u64::MAX))).next_back();
        if let Some(((_, before), _)) = before {
            if *before >= frame.seq {
                self.faults.push(format!("frame {} comes after frame {before}: twice, or out of order", frame.seq));
            } else if before.next() != frame.seq && !hole_before {
                self.faults.push(format!("frames between {before} and {} are missing undeclared", frame.seq));
            }
        }
        self.frames.insert((frame.boot, frame.seq), Held { wall: frame.at.wall, says: names.says(frame) });
    }

    /// Whether a frame is declared missing.
    pub(crate) fn declares(&self, boot: BootId, seq: FrameSeq) -> bool {
        self.declared.iter().any(|(b, first, last)| *b == boot && (*first..=*last).contains(&seq))
    }
}

/// What the numbers of series mean, as the frames said.
#[derive(Default)]
struct Names(HashMap<(SourceIndex, SeriesId), SeriesDef>);

impl Names {
    fn says(&mut self, frame: &Frame) -> u64 {
        let mut hasher = DefaultHasher::new();
        (frame.at.wall.nanos(), frame.at.boot.nanos()).hash(&mut hasher);
        for sample in &frame.samples {
            for (id, def) in &sample.defined {
                self.0.insert((sample.source, *id), def.clone());
            }
            (sample.source, &sample.outcome, sample.took_nanos).hash(&mut hasher);
            let readings = sample.readings.iter().map(|r| (self.0.get(&(sample.source, r.series)), r.value));
            let mut readings: Vec<u64> = readings
                .map(|reading| {
                    let mut hasher = DefaultHasher::new();
                    reading.hash(&mut hasher);
                    hasher.finish()
                })
                .collect();
            // A block tells them in another order than they were made.
            readings.sort_unstable();
            readings.hash(&mut hasher);
        }
        format!("{:?}", frame.events).hash(&mut hasher);
        hasher.finish()
    }
}
