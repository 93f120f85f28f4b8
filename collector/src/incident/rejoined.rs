//! The recording of a node that came back: its own, and of the archive before those frames that its own lacks.
//!
//! A node that lost power had streamed its last seconds before they were on its disk: they are in the archive before and
//! nowhere else. No frame goes into the new archive twice.

use std::collections::BTreeSet;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use casefile_evidence::archive::chunk::Pack;
use casefile_evidence::recording::reader::{Cut, Piece, ReadError, Recording};
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::ids::{BootId, FrameSeq};
use casefile_proto::item::{ItemHead, ItemKind, ItemTail};
use casefile_proto::time::{WallTime, Window};

use super::before::Kept;
use super::coverage::joined;
use super::recorded::{LAST_WORDS_PATH, MAX_READ, Plain, SOURCE, Spooled, hull, silent, spooled};
use crate::chain::chain;
use crate::spool::SpooledItem;

/// The most pieces that frames of before are cut into; the last one reaches to the end of what is left.
const MAX_RUNS: usize = 8;

/// How long a frame stands for the time after it when nothing follows.
const TICK: Duration = Duration::from_secs(1);

/// How far a gap may begin behind the last frame of before and still be what that closed.
const NEAR: Duration = Duration::from_secs(2);

/// The recording of a node that came back, as it goes into the new archive.
#[derive(Debug, Default)]
pub struct Rejoined {
    /// What we read of it ourselves; `None`: the node's own has everything, and its answer tells what it covers.
    pub cut: Option<Cut>,
    /// Frames of before that the node's own does not have.
    pub rest: Vec<(ItemHead, ItemTail, Spooled)>,
    /// What these cover.
    pub runs: Vec<Window>,
    /// Whether the recordings of before go into the new archive as they lie.
    pub keep: bool,
}

/// Decides what of the recordings of before is still needed beside the node's own. An error means that writing failed, or
/// that the archive before cannot be read.
pub fn rejoined(
    own: Option<&SpooledItem>,
    answered: bool,
    before: &[Kept],
    asked: Window,
    scratch: &Path,
) -> io::Result<Rejoined> {
    let recordings = before.iter().filter(|kept| kept.is_recording()).map(|kept| kept.recording());
    let mut before = recordings.collect::<Result<Vec<_>, _>>().map_err(io::Error::other)?;
    let Some(item) = own else { return as_before(&mut before, asked, None) };
    let mut own = match item
        .chunks()
        .map_err(|e| e.to_string())
        .and_then(|chunks| Recording::from_segment(&mut Plain::new(chunks), MAX_READ).map_err(|e| chain(&e)))
    {
        Ok(own) => own,
        Err(why) => return as_before(&mut before, asked, Some(why)),
    };
    let (frames, mut cut) = match frames(&mut own).and_then(|f| Ok((f, own.cut(asked, &mut io::sink())?))) {
        Ok(read) => read,
        Err(error) => return as_before(&mut before, asked, Some(chain(&error))),
    };
    let has: BTreeSet<_> = frames.iter().map(|f| f.name).collect();
    let mut rejoined = Rejoined::default();
    for recording in &mut before {
        let there = self::frames(recording).map_err(io::Error::other)?;
        for run in runs(&there, &has, asked) {
            let file = scratch.join(format!("before-{}.chunks", rejoined.rest.len()));
            let (run_cut, content) = spooled(&file, Pack::Store, |out| match recording.cut(run, out) {
                Err(ReadError::Write { source }) => Err(source),
                cut => cut.map_err(io::Error::other),
            })?;
            let head = ItemHead {
                kind: ItemKind::Recording,
                path: LAST_WORDS_PATH.parse().map_err(io::Error::other)?,
                source: SOURCE.to_owned(),
                method: "frames of the archive before that the node's own recording does not have".to_owned(),
                times: None,
            };
            let tail = ItemTail {
                size: content.size,
                sha256: content.sha256,
                records: run_cut.frames,
                covered: hull(&run_cut),
                gaps: Vec::new(),
            };
            rejoined.rest.push((head, tail, Spooled { file, content }));
            rejoined.runs.push(run);
            // What lies around them is told by the node's own.
            cut = joined(cut, without_gaps(run_cut));
        }
    }
    let whole = item.tail.is_some() && answered;
    if whole && rejoined.runs.is_empty() {
        return Ok(rejoined);
    }
    for row in &mut cut.sources {
        row.gaps = without(std::mem::take(&mut row.gaps), &rejoined.runs);
    }
    // The node has told the gaps of its recording in its answer.
    cut.gaps = if whole { Vec::new() } else { without(cut.gaps, &rejoined.runs) };
    Ok(Rejoined { cut: Some(cut), ..rejoined })
}

/// The node's own recording did not come: what was there before is all there is.
fn as_before(before: &mut [Recording], asked: Window, unreadable: Option<String>) -> io::Result<Rejoined> {
    let mut cut = Cut::default();
    for recording in before {
        cut = joined(cut, silent(recording.cut(asked, &mut io::sink()).map_err(io::Error::other)?));
    }
    cut.gaps.extend(
        unreadable
            .map(|why| Gap::new(GapReason::ParseFailed, format!("what arrived of the node's own recording: {why}"))),
    );
    Ok(Rejoined { cut: Some(cut), keep: true, ..Rejoined::default() })
}

/// One frame, by name.
#[derive(Debug, Clone, Copy)]
struct Named {
    name: (BootId, FrameSeq),
    at: WallTime,
}

fn frames(recording: &mut Recording) -> Result<Vec<Named>, ReadError> {
    let mut frames = Vec::new();
    let each = &mut |piece| {
        if let Piece::Frame(frame) = piece {
            frames.push(Named { name: (frame.boot, frame.seq), at: frame.at.wall });
        }
        ControlFlow::Continue(())
    };
    recording.pieces(None, each)?;
    Ok(frames)
}

/// The stretches of these frames that are not among the others: from the first of each to the next that is, or to when
/// another one would have been due.
fn runs(there: &[Named], has: &BTreeSet<(BootId, FrameSeq)>, asked: Window) -> Vec<Window> {
    let mut runs: Vec<Window> = Vec::new();
    let mut rest = there;
    while let Some(first) = rest.iter().position(|f| !has.contains(&f.name)) {
        let lacking = &rest[first..];
        let last_run = runs.len() + 1 == MAX_RUNS;
        let len = lacking.iter().position(|f| has.contains(&f.name)).filter(|_| !last_run).unwrap_or(lacking.len());
        let until = match (lacking.get(len), lacking.get(len.saturating_sub(1))) {
            (Some(next), _) => next.at,
            (None, Some(last)) => last.at.after(TICK),
            (None, None) => return runs,
        };
        runs.extend(Window::new(lacking[0].at, until).ok().and_then(|w| w.intersect(&asked)));
        rest = &lacking[len..];
    }
    runs
}

fn without_gaps(mut cut: Cut) -> Cut {
    cut.gaps.clear();
    cut.sources.iter_mut().for_each(|row| row.gaps.clear());
    cut
}

/// The gaps, without what these runs close of their beginnings.
pub fn without(gaps: Vec<Gap>, runs: &[Window]) -> Vec<Gap> {
    let closed = |mut gap: Gap| {
        for run in runs {
            let Some(interval) = gap.interval else { continue };
            let begins = run.from() <= interval.from().after(NEAR) && run.until() > interval.from();
            if begins {
                gap.interval = Some(Window::new(run.until(), interval.until()).ok()?);
            }
        }
        Some(gap)
    };
    gaps.into_iter().filter_map(closed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(seconds: std::ops::Range<i64>) -> Vec<Named> {
        let name = |s: i64| (BootId::from_bytes([1; 16]), FrameSeq(u64::try_from(s).unwrap()));
        seconds.map(|s| Named { name: name(s), at: WallTime::from_secs(s) }).collect()
    }

    fn window(from: i64, until: i64) -> Window {
        Window::new(WallTime::from_secs(from), WallTime::from_secs(until)).unwrap()
    }

    fn has(frames: &[Named]) -> BTreeSet<(BootId, FrameSeq)> {
        frames.iter().map(|f| f.name).collect()
    }

    #[test]
    fn only_frames_that_the_nodes_own_lacks_are_kept_of_before() {
        let asked = window(0, 100);
        assert_eq!(runs(&named(1..9), &has(&named(1..9)), asked), []);
        assert_eq!(runs(&named(1..9), &has(&named(1..5)), asked), [window(5, 9)], "what was not yet on the disk");
        let odd: Vec<_> = named(1..9).into_iter().filter(|f| f.name.1.0 % 2 == 1).collect();
        assert_eq!(runs(&named(1..9), &has(&odd), asked).len(), 4);
        let odd: Vec<_> = named(1..90).into_iter().filter(|f| f.name.1.0 % 2 == 1).collect();
        let many = runs(&named(1..90), &has(&odd), asked);
        assert_eq!((many.len(), many[7].until()), (MAX_RUNS, WallTime::from_secs(90)), "bounded, and none is lost");
    }

    #[test]
    fn a_gap_begins_where_what_was_known_before_ends() {
        let gap = |from, until| Gap::new(GapReason::NodeRebooted, "it was rebooted").over(window(from, until));
        assert_eq!(without(vec![gap(10, 60)], &[window(10, 14)]), [gap(14, 60)]);
        assert_eq!(without(vec![gap(10, 12)], &[window(10, 14)]), []);
        assert_eq!(without(vec![gap(10, 60)], &[window(30, 34)]), [gap(10, 60)], "nothing is said of its middle");
    }
}
