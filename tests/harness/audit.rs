//! The audit of a recording: no frame twice, and nothing missing that is not declared.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Result, ensure};
use casefile_evidence::recording::reader::{Piece, Recording};
use casefile_proto::gap::Gap;
use casefile_proto::ids::{BootId, FrameSeq};

/// What a recording holds, once it has passed.
#[derive(Debug, Default)]
pub struct Audit {
    /// Frames.
    pub frames: u64,
    /// The last frame of each boot.
    pub last: BTreeMap<BootId, FrameSeq>,
    /// Declared holes.
    pub holes: Vec<Gap>,
}

impl Audit {
    /// Holes that are somebody's loss: not that the recorder did not run, or that a busy machine held it up for a tick.
    pub fn lost(&self) -> Vec<&Gap> {
        self.holes.iter().filter(|hole| !hole.detail.starts_with("nothing was recorded: ")).collect()
    }
}

/// Reads a directory of segments and checks its order.
pub fn directory(dir: &Path) -> Result<Audit> {
    audit(&mut Recording::open_dir(dir)?)
}

/// Checks that frames are in order, none twice, and that every missing number follows a declared hole.
pub fn audit(recording: &mut Recording) -> Result<Audit> {
    let mut audit = Audit::default();
    let mut broken = Ok(());
    let mut hole_before = false;
    recording.pieces(None, &mut |piece| {
        match piece {
            Piece::Header(_) => {}
            Piece::Hole(hole) => {
                hole_before = true;
                audit.holes.push(hole.gap);
            }
            Piece::Frame(frame) => {
                audit.frames += 1;
                let before = audit.last.insert(frame.boot, frame.seq);
                broken = check(before, frame.seq, hole_before);
                hole_before = false;
                if broken.is_err() {
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    })?;
    broken.map(|()| audit)
}

fn check(before: Option<FrameSeq>, seq: FrameSeq, hole_before: bool) -> Result<()> {
    let Some(before) = before else { return Ok(()) };
    ensure!(seq > before, "frame {seq} comes after frame {before}: twice, or out of order");
    ensure!(seq == before.next() || hole_before, "frames between {before} and {seq} are missing, and nothing says so");
    Ok(())
}
