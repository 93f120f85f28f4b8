//! The overview of a recording: what it holds, how each source fared, where its holes are, what happened.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use casefile_evidence::recording::Hole;
use casefile_evidence::recording::reader::{Piece, ReadError, Recording};
use casefile_proto::coverage::OutcomeCounts;
use casefile_proto::event::Event;
use casefile_proto::gap::Gap;
use casefile_proto::ids::{BootId, NodeName};
use casefile_proto::sample::Outcome;
use casefile_proto::time::{WallTime, Window};
use serde::Serialize;

/// One boot of the node in the recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Boot {
    /// Its id.
    pub boot: BootId,
    /// The versions of the agents that recorded it.
    pub agent_versions: Vec<String>,
    /// Its first frame here.
    pub first: WallTime,
    /// Its last frame here.
    pub last: WallTime,
    /// How many frames.
    pub frames: u64,
}

/// How one source fared.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct SourceOverview {
    /// How its ticks ended.
    pub outcomes: OutcomeCounts,
    /// Readings.
    pub readings: u64,
    /// What it said the last time that it was not complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_trouble: Option<String>,
}

/// What a recording holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Overview {
    /// The node; `None` for an empty recording.
    pub node: Option<NodeName>,
    /// Its boots, oldest first.
    pub boots: Vec<Boot>,
    /// Its holes, oldest first; at most [`Overview::MAX_HOLES`].
    pub holes: Vec<Gap>,
    /// Holes beyond that.
    pub more_holes: u64,
    /// Its sources.
    pub sources: BTreeMap<String, SourceOverview>,
    /// How many events.
    pub events: u64,
}

impl Overview {
    /// A damaged or hostile recording can have a hole at every other frame.
    pub const MAX_HOLES: usize = 1000;
}

/// Reads the whole window once and counts.
pub fn overview(recording: &mut Recording, window: Option<Window>) -> Result<Overview, ReadError> {
    let mut out = Overview::default();
    let mut header = None;
    recording.pieces(window, &mut |piece| {
        match piece {
            Piece::Header(h) => {
                out.node.get_or_insert_with(|| h.node.clone());
                header = Some(h);
            }
            Piece::Hole(Hole { gap, .. }) => {
                if out.holes.len() < Overview::MAX_HOLES {
                    out.holes.push(gap);
                } else {
                    out.more_holes += 1;
                }
            }
            Piece::Frame(frame) => {
                let Some(header) = &header else { return ControlFlow::Continue(()) };
                let at = frame.at.wall;
                match out.boots.last_mut() {
                    Some(boot) if boot.boot == frame.boot => {
                        boot.last = at;
                        boot.frames += 1;
                        if !boot.agent_versions.contains(&header.agent_version) {
                            boot.agent_versions.push(header.agent_version.clone());
                        }
                    }
                    _ => out.boots.push(Boot {
                        boot: frame.boot,
                        agent_versions: vec![header.agent_version.clone()],
                        first: at,
                        last: at,
                        frames: 1,
                    }),
                }
                out.events += frame.events.len() as u64;
                for sample in &frame.samples {
                    let Some(source) = header.schema.sources.get(usize::from(sample.source.0)) else { continue };
                    let row = out.sources.entry(source.name.clone()).or_default();
                    row.readings += sample.readings.len() as u64;
                    count(&sample.outcome, &mut row.outcomes);
                    if let Some(trouble) = trouble(&sample.outcome) {
                        row.last_trouble = Some(trouble);
                    }
                }
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok(out)
}

/// Calls `each` for every event of the window, in the order in which they were recorded.
pub fn events(
    recording: &mut Recording,
    window: Option<Window>,
    each: &mut dyn FnMut(&Event) -> ControlFlow<()>,
) -> Result<(), ReadError> {
    recording.pieces(window, &mut |piece| match piece {
        Piece::Frame(frame) => frame.events.iter().try_for_each(&mut *each),
        Piece::Header(_) | Piece::Hole(_) => ControlFlow::Continue(()),
    })
}

/// What a person should know of an outcome; `None` when nothing is missing.
pub fn trouble(outcome: &Outcome) -> Option<String> {
    Some(match outcome {
        Outcome::Complete => return None,
        outcome if outcome.is_not_due() => return None,
        Outcome::Partial { gaps } => {
            let first = gaps.first().map(|g| format!("{}: {}", g.reason, g.detail)).unwrap_or_default();
            match gaps.len() {
                0 | 1 => first,
                n => format!("{first} (and {} more)", n - 1),
            }
        }
        Outcome::Absent { why } | Outcome::Skipped { why } => why.clone(),
        Outcome::Failed { error } => error.clone(),
        Outcome::TimedOut { after_nanos } => format!("no answer after {:.1} s", *after_nanos as f64 / 1e9),
    })
}

fn count(outcome: &Outcome, counts: &mut OutcomeCounts) {
    match outcome {
        Outcome::Complete => counts.complete += 1,
        Outcome::Partial { .. } => counts.partial += 1,
        Outcome::Absent { .. } => counts.absent += 1,
        Outcome::Failed { .. } => counts.failed += 1,
        Outcome::TimedOut { .. } => counts.timed_out += 1,
        outcome if outcome.is_not_due() => {}
        Outcome::Skipped { .. } => counts.skipped += 1,
    }
}
