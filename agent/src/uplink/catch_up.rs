//! Frames that the session missed, fetched from the ring on a thread that may block.
//!
//! Only frames that the session's own header explains are sent: what an agent with other sources recorded in the same boot
//! is declared, and stays in the ring, where a collection finds it.

use std::ops::ControlFlow;
use std::path::PathBuf;

use casefile_evidence::recording::delta::Encoder;
use casefile_evidence::recording::reader::{Piece, Recording};
use casefile_evidence::recording::{Header, Hole};
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::ids::FrameSeq;
use casefile_proto::sample::Frame;
use casefile_proto::time::{WallTime, Window};
use tokio::sync::mpsc;

/// What is wanted of the ring.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Where the ring is.
    pub ring_dir: PathBuf,
    /// The header of the session.
    pub header: Header,
    /// The first frame.
    pub from: FrameSeq,
    /// The last frame.
    pub to: FrameSeq,
    /// Frames before this are not wanted any more.
    pub not_before: WallTime,
}

/// What came of it. Frames come in order and without a hole that is not said.
#[derive(Debug)]
pub enum Fetched {
    /// The next frame as a record; a keyframe after everything that was left out, and at first.
    Record(Vec<u8>),
    /// Everything before this frame is left out.
    Skip(FrameSeq, Gap),
}

impl Wanted {
    /// Fetches all of it into `out`; what it does not give at the end is not in the ring. Blocks; ends when
    /// nobody takes it any more.
    pub fn fetch(self, out: mpsc::Sender<Fetched>) {
        let wanted = self;
        let to = wanted.to;
        let opened = Recording::open_dir(&wanted.ring_dir);
        let (boot, after) = (wanted.header.boot, FrameSeq(wanted.from.0.saturating_sub(1)));
        let mut fetch = Fetch::new(wanted);
        let failed = match opened {
            Ok(mut ring) => ring
                .after(boot, after, &mut |piece| {
                    for fetched in fetch.piece(piece) {
                        if out.blocking_send(fetched).is_err() {
                            return ControlFlow::Break(());
                        }
                    }
                    if fetch.next > to { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                })
                .err(),
            Err(error) => Some(error),
        };
        let rest = match failed {
            Some(error) => Gap::new(GapReason::SourceFailed, format!("reading the node's ring failed: {error}")),
            None => Gap::new(GapReason::RingOverwritten, "no longer in the node's ring"),
        };
        if let Some(rest) = fetch.rest(to, rest) {
            // Nobody takes it any more: the next session begins anew.
            let _ = out.blocking_send(rest);
        }
    }
}

/// Pieces of a recording in, records and gaps out. Pure.
struct Fetch {
    wanted: Wanted,
    encoder: Encoder,
    scratch: Vec<u8>,
    next: FrameSeq,
    schema: SchemaIs,
    /// The next record must be a keyframe.
    restart: bool,
    hole: Option<Hole>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SchemaIs {
    Ours,
    Another,
}

impl Fetch {
    fn new(wanted: Wanted) -> Self {
        Self {
            encoder: Encoder::new(wanted.header.clone()),
            scratch: Vec::new(),
            next: wanted.from,
            schema: SchemaIs::Ours,
            restart: false,
            hole: None,
            wanted,
        }
    }

    fn piece(&mut self, piece: Piece) -> Vec<Fetched> {
        match piece {
            Piece::Header(header) => {
                let same = header.schema == self.wanted.header.schema;
                self.schema = if same { SchemaIs::Ours } else { SchemaIs::Another };
                Vec::new()
            }
            Piece::Hole(hole) => {
                // Holes in time that miss no frame are told by the clocks of the frames around them.
                if hole.seqs.is_some() && hole.boot == self.wanted.header.boot {
                    self.hole = Some(hole);
                }
                Vec::new()
            }
            Piece::Frame(frame) if frame.seq < self.next || frame.seq > self.wanted.to => Vec::new(),
            Piece::Frame(frame) => self.frame(&frame),
        }
    }

    fn frame(&mut self, frame: &Frame) -> Vec<Fetched> {
        let mut out = Vec::new();
        if frame.seq > self.next {
            let missing = frame.seq.0 - self.next.0;
            let gap = match self.hole.take() {
                Some(hole) => hole.gap,
                None => Gap::new(GapReason::RingOverwritten, "not in the node's ring"),
            };
            out.push(self.skip(frame.seq, gap.counting(missing)));
        }
        let at = Window::new(frame.at.wall, frame.at.wall.offset(1)).ok();
        let left_out = |reason, why: &str| {
            let gap = Gap::new(reason, why).counting(1);
            match at {
                Some(at) => gap.over(at),
                None => gap,
            }
        };
        if self.schema == SchemaIs::Another {
            let gap = left_out(GapReason::CollectorAway, "recorded by another version of the agent before it was sent");
            out.push(self.skip(frame.seq.next(), gap));
            return out;
        }
        if self.restart {
            self.encoder.restart();
        }
        self.scratch.clear();
        // Also when it is not sent: the encoder must know every series.
        self.encoder.frame(frame, &mut self.scratch);
        if frame.at.wall < self.wanted.not_before {
            let gap = left_out(GapReason::CollectorAway, "older than what is caught up on");
            out.push(self.skip(frame.seq.next(), gap));
        } else {
            self.restart = false;
            self.next = frame.seq.next();
            out.push(Fetched::Record(self.scratch.clone()));
        }
        out
    }

    fn skip(&mut self, to: FrameSeq, gap: Gap) -> Fetched {
        self.next = to;
        self.restart = true;
        Fetched::Skip(to, gap)
    }

    /// What was not given.
    fn rest(&mut self, to: FrameSeq, gap: Gap) -> Option<Fetched> {
        let missing = (to.0 + 1).checked_sub(self.next.0).filter(|n| *n > 0)?;
        Some(self.skip(to.next(), gap.counting(missing)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use casefile_evidence::recording::segment::{Retention, Store};
    use casefile_proto::ids::BootId;
    use casefile_proto::sample::{Schema, SourceDef};
    use casefile_proto::time::{BootTime, Stamp};
    use casefile_proto::units::Bytes;

    use super::*;

    const BOOT: BootId = BootId::from_bytes([1; 16]);

    fn header(source: &str) -> Header {
        let source = SourceDef {
            name: source.to_owned(),
            about: String::new(),
            every_nanos: 1_000_000_000,
            deadline_nanos: 1_000_000_000,
            metrics: Vec::new(),
        };
        Header {
            node: "n".parse().unwrap(),
            boot: BOOT,
            agent_version: "0.1.0".to_owned(),
            schema: Arc::new(Schema { sources: vec![source] }),
        }
    }

    fn record(ring: &mut Store, header: Header, seqs: std::ops::RangeInclusive<u64>) {
        let mut encoder = Encoder::new(header);
        let mut records = encoder.header();
        for seq in seqs {
            let wall = WallTime::from_secs(i64::try_from(seq).unwrap());
            let at = Stamp { wall, boot: BootTime::from_nanos(seq * 1_000_000_000) };
            let frame = Frame { boot: BOOT, seq: FrameSeq(seq), at, samples: Vec::new(), events: Vec::new() };
            encoder.frame(&frame, &mut records);
        }
        ring.append(&records).unwrap();
    }

    /// Where a gap leads, its reason and its count.
    type Left = (u64, GapReason, Option<u64>);

    /// Records as `Ok`, gaps as `Err`.
    fn fetched(wanted: Wanted) -> Vec<Result<(), Left>> {
        let (out, mut fetched) = mpsc::channel(1000);
        wanted.fetch(out);
        std::iter::from_fn(|| fetched.blocking_recv())
            .map(|f| match f {
                Fetched::Record(_) => Ok(()),
                Fetched::Skip(to, gap) => Err((to.0, gap.reason, gap.count)),
            })
            .collect()
    }

    fn wanted(dir: &std::path::Path, from: u64, to: u64, not_before: i64) -> Wanted {
        Wanted {
            ring_dir: dir.to_owned(),
            header: header("cpu"),
            from: FrameSeq(from),
            to: FrameSeq(to),
            not_before: WallTime::from_secs(not_before),
        }
    }

    #[test]
    fn every_frame_that_is_wanted_is_given_or_declared() {
        let dir = tempfile::tempdir().unwrap();
        let mut ring =
            Store::open(dir.path(), Retention { bytes: Bytes::mib(64), age: std::time::Duration::from_secs(9999) })
                .unwrap();
        record(&mut ring, header("cpu"), 3..=70);
        record(&mut ring, header("another agent's"), 71..=73);
        record(&mut ring, header("cpu"), 74..=80);
        assert_eq!(fetched(wanted(dir.path(), 10, 12, 0)), [Ok(()); 3]);
        let gone = |to, n| Err((to, GapReason::RingOverwritten, Some(n)));
        // The ring knows that it never had these.
        let never = |to, n| Err((to, GapReason::NotRecorded, Some(n)));
        let away = |to| Err((to, GapReason::CollectorAway, Some(1)));
        assert_eq!(fetched(wanted(dir.path(), 1, 4, 0)), [never(3, 2), Ok(()), Ok(())]);
        assert_eq!(fetched(wanted(dir.path(), 70, 74, 0)), [Ok(()), away(72), away(73), away(74), Ok(())]);
        assert_eq!(fetched(wanted(dir.path(), 76, 78, 78)), [away(77), away(78), Ok(())]);
        assert_eq!(fetched(wanted(dir.path(), 80, 83, 0)), [Ok(()), gone(84, 3)]);
    }

    #[test]
    fn a_ring_that_cannot_be_read_is_a_gap_over_all_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let absent = wanted(&dir.path().join("absent"), 5, 9, 0);
        assert_eq!(fetched(absent), [Err((10, GapReason::SourceFailed, Some(5)))]);
    }
}
