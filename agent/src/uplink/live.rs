//! The newest frames as records, for the session: a bounded queue between the recorder's thread and the uplink.
//!
//! A series is defined once in a run, so whoever encodes must have seen every frame. Therefore encoding happens in
//! [`Live::push`], on the recorder's thread and with an encoder that lives as long as the run; what is bounded is the
//! queue of its records. When it is full it is emptied and begins again with a keyframe: what was in it the session
//! fetches from the ring. Nothing here blocks, waits or knows a connection.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use casefile_evidence::recording::Header;
use casefile_evidence::recording::delta::Encoder;
use casefile_proto::ids::FrameSeq;
use casefile_proto::sample::Frame;
use casefile_proto::session::Buffer;
use tokio::sync::Notify;

/// The most bytes of records that wait; when there are more the queue begins again. About ten minutes of a quiet node.
const MAX_QUEUED_BYTES: usize = 1 << 20;

/// Where the recorder puts frames and the uplink takes records. Cheap to clone.
#[derive(Clone)]
pub struct Live {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Notify,
    header: Header,
}

struct State {
    encoder: Encoder,
    scratch: Vec<u8>,
    follower: Follower,
    /// Counts keyframes that were forced: records of one stretch follow each other without a hole.
    stretch: u64,
    queue: VecDeque<Record>,
    queued_bytes: usize,
    dropped: u64,
    last: Option<FrameSeq>,
    floor: FrameSeq,
}

/// Whether a session takes records.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Follower {
    Present,
    Absent,
}

/// One frame as the record that the session sends.
#[derive(Debug, Clone)]
pub struct Record {
    /// The first record of a stretch is a keyframe, and its frames are contiguous.
    pub stretch: u64,
    /// The frame.
    pub seq: FrameSeq,
    /// The record.
    pub bytes: Buffer,
}

impl Live {
    /// For the frames of one run. `last` is the last frame of this boot that the ring holds from before.
    pub fn new(header: Header, last: Option<FrameSeq>) -> Self {
        let state = State {
            encoder: Encoder::new(header.clone()).spread(),
            scratch: Vec::new(),
            follower: Follower::Absent,
            stretch: 0,
            queue: VecDeque::new(),
            queued_bytes: 0,
            dropped: 0,
            last,
            floor: FrameSeq(0),
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), changed: Notify::new(), header }) }
    }

    /// The header of the run.
    pub fn header(&self) -> &Header {
        &self.shared.header
    }

    /// Takes a frame, right after the ring took it. Every frame of the run must come here, in order. Never blocks.
    pub fn push(&self, frame: &Frame) {
        {
            let mut state = self.state();
            let contiguous = state.last.is_none_or(|last| last.next() == frame.seq);
            // A lone record stays, however large: it is what the session must begin with.
            if state.queued_bytes > MAX_QUEUED_BYTES && state.queue.len() > 1 {
                state.dropped += state.queue.len() as u64;
                state.empty();
            }
            if !contiguous {
                state.begin_stretch();
            }
            let state = &mut *state;
            state.scratch.clear();
            // Also with nobody there: the encoder must know every series that was ever defined.
            state.encoder.frame(frame, &mut state.scratch);
            state.last = Some(frame.seq);
            if state.follower == Follower::Absent {
                return;
            }
            let bytes = Buffer::copy_from_slice(&state.scratch);
            state.queued_bytes += bytes.len();
            state.queue.push_back(Record { stretch: state.stretch, seq: frame.seq, bytes });
        }
        self.shared.changed.notify_one();
    }

    /// The last frame of this boot that the ring holds.
    pub fn last(&self) -> Option<FrameSeq> {
        self.state().last
    }

    /// Frames that a session was too slow for since the run began; it fetches them from the ring.
    pub fn dropped(&self) -> u64 {
        self.state().dropped
    }

    /// The recorder's next frame must have a number above this: the collector holds frames of this boot up to it, from
    /// a ring that was lost. 0 as long as nothing is known.
    pub fn floor(&self) -> FrameSeq {
        self.state().floor
    }

    /// Raises [`Live::floor`].
    pub(crate) fn raise_floor(&self, to: FrameSeq) {
        let mut state = self.state();
        state.floor = state.floor.max(to);
    }

    /// A session begins: from the next frame on records are kept, and that one is a keyframe. The frame before it, which is
    /// the last one in the ring.
    pub(crate) fn follow(&self) -> Option<FrameSeq> {
        let mut state = self.state();
        state.empty();
        state.follower = Follower::Present;
        state.last
    }

    /// The session is over: nothing is kept.
    pub fn unfollow(&self) {
        let mut state = self.state();
        state.empty();
        state.follower = Follower::Absent;
    }

    /// Stretch and number of the oldest record that waits.
    pub(crate) fn front(&self) -> Option<(u64, FrameSeq)> {
        self.state().queue.front().map(|r| (r.stretch, r.seq))
    }

    /// Takes the oldest record.
    pub(crate) fn pop(&self) -> Option<Record> {
        let mut state = self.state();
        let record = state.queue.pop_front()?;
        state.queued_bytes -= record.bytes.len();
        Some(record)
    }

    /// Ready when a record was pushed since the last call. For one waiter.
    pub(crate) async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every critical section leaves the state whole at each step, so a panic elsewhere does not spoil it.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn empty(&mut self) {
        self.queue.clear();
        self.queued_bytes = 0;
        self.begin_stretch();
    }

    fn begin_stretch(&mut self) {
        self.stretch += 1;
        self.encoder.restart();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use casefile_evidence::recording::delta::{Decoded, Decoder};
    use casefile_proto::event::{Event, EventKind};
    use casefile_proto::ids::BootId;
    use casefile_proto::sample::Schema;
    use casefile_proto::time::{BootTime, Stamp, WallTime};

    const BOOT: BootId = BootId::from_bytes([1; 16]);

    fn live(last: Option<u64>) -> Live {
        let header = Header {
            node: "n".parse().unwrap(),
            boot: BOOT,
            agent_version: "0.1.0".to_owned(),
            schema: Arc::new(Schema::default()),
        };
        Live::new(header, last.map(FrameSeq))
    }

    /// A frame of about this many bytes.
    fn frame(seq: u64, bytes: usize) -> Frame {
        let at = Stamp { wall: WallTime::from_secs(9), boot: BootTime::from_nanos(seq) };
        let event = |_| Event { at, kind: EventKind::AgentStarted, text: "x".repeat(Event::MAX_TEXT) };
        let events = (0..bytes / Event::MAX_TEXT).map(event).collect();
        Frame { boot: BOOT, seq: FrameSeq(seq), at, samples: Vec::new(), events }
    }

    fn taken(live: &Live) -> Vec<(u64, u64)> {
        std::iter::from_fn(|| live.pop()).map(|record| (record.stretch, record.seq.0)).collect()
    }

    #[test]
    fn nothing_is_kept_as_long_as_nobody_follows_and_then_a_keyframe_comes_first() {
        let live = live(Some(4));
        assert_eq!(live.last(), Some(FrameSeq(4)));
        live.push(&frame(5, 0));
        assert!(live.front().is_none());
        live.follow();
        live.push(&frame(6, 0));
        live.push(&frame(7, 0));
        let (first, second) = (live.pop().unwrap(), live.pop().unwrap());
        assert_eq!((first.seq, second.seq, first.stretch), (FrameSeq(6), FrameSeq(7), second.stretch));
        let mut decoder = Decoder::new();
        let header = Encoder::new(live.header().clone()).header();
        decoder.next(&header).unwrap();
        for (record, seq) in [(first, 6), (second, 7)] {
            let Some((Decoded::Frame(frame), _)) = decoder.next(&record.bytes).unwrap() else { panic!("no frame") };
            assert_eq!(frame.seq.0, seq);
        }
        live.unfollow();
        live.push(&frame(8, 0));
        assert!(live.front().is_none() && live.last() == Some(FrameSeq(8)));
    }

    #[test]
    fn a_queue_that_is_full_begins_again_with_a_new_stretch() {
        let live = live(None);
        live.follow();
        for seq in 1..=3 {
            live.push(&frame(seq, MAX_QUEUED_BYTES / 2 + 1));
        }
        live.push(&frame(4, 0));
        let taken = taken(&live);
        assert_eq!(taken.iter().map(|t| t.1).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(taken[0].0, taken[1].0);
        // A lone record stays, however large.
        live.push(&frame(5, 2 * MAX_QUEUED_BYTES));
        live.push(&frame(6, 0));
        assert_eq!(live.front().map(|f| f.1), Some(FrameSeq(5)));
    }

    #[test]
    fn a_number_that_is_left_out_begins_a_new_stretch() {
        let live = live(None);
        live.follow();
        live.push(&frame(1, 0));
        live.raise_floor(FrameSeq(9));
        live.raise_floor(FrameSeq(7));
        assert_eq!(live.floor(), FrameSeq(9));
        live.push(&frame(10, 0));
        let taken = taken(&live);
        assert!(taken[0].0 < taken[1].0, "{taken:?}");
    }
}
