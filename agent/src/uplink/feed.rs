//! What of the frames goes up when: records in order in, batches out, within the window of the collector. Pure.
//!
//! A lone frame goes at once. While an ack is outstanding, frames are gathered until there are [`WORTH_SENDING`] bytes of
//! them: many tiny unread messages end an HTTP/2 connection, and each costs the collector a sync. What is left out is
//! carried by the next batch, which then begins with a keyframe.

use std::collections::VecDeque;

use casefile_proto::convert::MAX_SKIPPED;
use casefile_proto::gap::Gap;
use casefile_proto::ids::FrameSeq;
use casefile_proto::session::{Buffer, Ends, FrameBatch, MAX_PAYLOAD};
use casefile_proto::time::Window;

/// While an ack is outstanding, less than this is not worth a message.
const WORTH_SENDING: usize = 4 << 10;

/// A batch is closed before it grows beyond this. A single larger record still is one batch, or several when it is larger
/// than a message may be.
const BATCH: usize = 256 << 10;

/// With this much waiting to be sent, no more is wanted from queue or ring.
const ENOUGH: usize = 1 << 20;

/// The frames of one session on their way.
#[derive(Debug)]
pub(super) struct Feed {
    window: usize,
    next: FrameSeq,
    ready: VecDeque<FrameBatch>,
    open: Option<Open>,
    waiting: usize,
    skipped: Vec<Gap>,
    in_flight: VecDeque<FrameSeq>,
    /// Whether the last batch that was taken ends within a record: the next one belongs to it, whatever the window.
    midway: bool,
}

#[derive(Debug)]
struct Open {
    first: FrameSeq,
    last: FrameSeq,
    records: Vec<u8>,
    skipped: Vec<Gap>,
}

impl Feed {
    /// `next` is the first frame that the collector wants, `window` the most batches in flight.
    pub(super) fn new(next: FrameSeq, window: u32) -> Self {
        Self {
            window: usize::try_from(window).unwrap_or(usize::MAX).max(1),
            next,
            ready: VecDeque::new(),
            open: None,
            waiting: 0,
            skipped: Vec::new(),
            in_flight: VecDeque::new(),
            midway: false,
        }
    }

    /// The frame that must be added, or left out, next.
    pub(super) fn next(&self) -> FrameSeq {
        self.next
    }

    /// Whether there is room for more.
    pub(super) fn wants_more(&self) -> bool {
        self.waiting < ENOUGH
    }

    /// Adds the record of the next frame.
    pub(super) fn add(&mut self, record: &[u8]) {
        let seq = self.next;
        self.next = seq.next();
        self.waiting += record.len();
        if !self.skipped.is_empty() || self.open.as_ref().is_some_and(|open| open.records.len() + record.len() > BATCH)
        {
            self.close();
        }
        let skipped = &mut self.skipped;
        let open = self.open.get_or_insert_with(|| Open {
            first: seq,
            last: seq,
            records: Vec::with_capacity(record.len()),
            skipped: std::mem::take(skipped),
        });
        open.last = seq;
        open.records.extend_from_slice(record);
    }

    /// Leaves out everything before `to`; the record that is added next is a keyframe.
    pub(super) fn skip(&mut self, to: FrameSeq, gap: Gap) {
        self.next = self.next.max(to);
        let full = self.skipped.len() == MAX_SKIPPED;
        match self.skipped.last_mut() {
            // The same again; or more of them than a message may have: then the last one stands for the rest.
            Some(last) if full || last.reason == gap.reason => merge(last, &gap),
            _ => self.skipped.push(gap),
        }
    }

    /// The collector has everything up to here on disk.
    pub(super) fn acked(&mut self, up_to: FrameSeq) {
        while self.in_flight.front().is_some_and(|last| *last <= up_to) {
            self.in_flight.pop_front();
        }
    }

    /// Whether everything was sent and acknowledged.
    pub(super) fn is_done(&self) -> bool {
        self.in_flight.is_empty() && self.ready.is_empty() && self.open.is_none()
    }

    /// Whether [`Feed::take`] would give a batch.
    pub(super) fn is_ready(&self) -> bool {
        if self.midway {
            return true;
        }
        let worth = self.in_flight.is_empty() || self.waiting >= WORTH_SENDING;
        self.in_flight.len() < self.window && worth && (self.open.is_some() || !self.ready.is_empty())
    }

    /// The next batch, if one may be sent now.
    pub(super) fn take(&mut self) -> Option<FrameBatch> {
        if !self.is_ready() {
            return None;
        }
        if self.ready.is_empty() {
            self.close();
        }
        let batch = self.ready.pop_front()?;
        self.waiting -= batch.records.len();
        self.midway = batch.ends == Ends::Later;
        if !self.midway {
            self.in_flight.push_back(batch.last);
        }
        Some(batch)
    }

    fn close(&mut self) {
        let Some(Open { first, last, records, mut skipped }) = self.open.take() else { return };
        let mut rest = Buffer::from(records);
        while !rest.is_empty() {
            let records = rest.split_to(rest.len().min(MAX_PAYLOAD));
            let ends = if rest.is_empty() { Ends::Here } else { Ends::Later };
            self.ready.push_back(FrameBatch { first, last, records, skipped: std::mem::take(&mut skipped), ends });
        }
    }
}

/// One gap for two: over the interval of both, with the count of both where both are known.
fn merge(into: &mut Gap, gap: &Gap) {
    into.interval = match (into.interval, gap.interval) {
        (Some(a), Some(b)) => Window::new(a.from().min(b.from()), a.until().max(b.until())).ok(),
        _ => None,
    };
    into.count = into.count.zip(gap.count).map(|(a, b)| a.saturating_add(b));
}

#[cfg(test)]
mod tests {
    use super::*;
    use casefile_proto::gap::GapReason;
    use proptest::prelude::*;

    fn feed() -> Feed {
        Feed::new(FrameSeq(1), 4)
    }

    #[test]
    fn a_lone_frame_goes_at_once() {
        let mut feed = feed();
        feed.add(b"one");
        let batch = feed.take().unwrap();
        assert_eq!((batch.first, batch.last, &batch.records[..]), (FrameSeq(1), FrameSeq(1), &b"one"[..]));
        assert!(!feed.is_done());
        feed.acked(FrameSeq(1));
        assert!(feed.is_done());
    }

    #[test]
    fn small_frames_are_gathered_while_an_ack_is_outstanding() {
        let mut feed = feed();
        feed.add(&[1; 100]);
        feed.take().unwrap();
        feed.add(&[2; 100]);
        feed.add(&[3; 100]);
        assert_eq!(feed.take(), None);
        feed.add(&[4; 4096]);
        assert_eq!(feed.take().map(|b| (b.first, b.last)), Some((FrameSeq(2), FrameSeq(4))));
        feed.add(&[5; 100]);
        assert_eq!(feed.take(), None);
        feed.acked(FrameSeq(4));
        assert_eq!(feed.take().map(|b| b.first), Some(FrameSeq(5)));
    }

    #[test]
    fn no_more_batches_are_in_flight_than_the_window() {
        let mut feed = feed();
        for _ in 0..10 {
            feed.add(&[0; BATCH]);
        }
        assert_eq!(std::iter::from_fn(|| feed.take()).count(), 4);
        feed.acked(FrameSeq(2));
        assert_eq!(std::iter::from_fn(|| feed.take()).count(), 2);
    }

    #[test]
    fn what_is_left_out_is_said_by_the_batch_after_it() {
        let mut feed = feed();
        feed.add(b"one");
        feed.skip(FrameSeq(5), Gap::new(GapReason::CollectorAway, "old").counting(3));
        feed.skip(FrameSeq(7), Gap::new(GapReason::CollectorAway, "old").counting(2));
        feed.add(b"seven");
        assert_eq!(feed.take().map(|b| (b.last, b.skipped)), Some((FrameSeq(1), vec![])));
        feed.acked(FrameSeq(1));
        let batch = feed.take().unwrap();
        assert_eq!((batch.first, batch.last), (FrameSeq(7), FrameSeq(7)));
        assert_eq!(batch.skipped, [Gap::new(GapReason::CollectorAway, "old").counting(5)]);
    }

    #[test]
    fn a_record_larger_than_a_message_goes_in_pieces_that_count_as_one() {
        let mut feed = Feed::new(FrameSeq(1), 1);
        feed.skip(FrameSeq(3), Gap::new(GapReason::CollectorAway, ""));
        feed.add(&[3; 2 * MAX_PAYLOAD + 1]);
        feed.add(b"four");
        let pieces: Vec<FrameBatch> = std::iter::from_fn(|| feed.take()).collect();
        let shape = |b: &FrameBatch| (b.first.0, b.last.0, b.records.len(), b.skipped.len(), b.ends);
        assert_eq!(
            pieces.iter().map(shape).collect::<Vec<_>>(),
            [(3, 3, MAX_PAYLOAD, 1, Ends::Later), (3, 3, MAX_PAYLOAD, 0, Ends::Later), (3, 3, 1, 0, Ends::Here)]
        );
        feed.acked(FrameSeq(3));
        assert_eq!(feed.take().map(|b| b.first), Some(FrameSeq(4)));
    }

    proptest! {
        /// Whatever comes and whenever acks come: every frame is in exactly one batch or left out with a word, in order.
        #[test]
        fn every_frame_is_sent_once_or_declared(steps in prop::collection::vec((0u8..4, 1usize..9000), 1..200)) {
            let mut feed = feed();
            let mut sent: Vec<FrameBatch> = Vec::new();
            for (what, n) in steps {
                match what {
                    0 | 1 => feed.add(&vec![7; n]),
                    2 => {
                        let to = FrameSeq(feed.next().0 + n as u64);
                        feed.skip(to, Gap::new(GapReason::CollectorAway, "").counting(n as u64));
                    }
                    _ => {
                        if let Some(batch) = sent.last() { feed.acked(batch.last); }
                    }
                }
                sent.extend(feed.take());
                prop_assert!(feed.in_flight.len() <= 4);
            }
            let mut next = FrameSeq(1);
            for batch in &sent {
                let declared: u64 = batch.skipped.iter().filter_map(|g| g.count).sum();
                prop_assert_eq!(batch.first.0, next.0 + declared);
                prop_assert!(batch.last >= batch.first && batch.skipped.len() <= MAX_SKIPPED);
                next = batch.last.next();
            }
        }
    }
}
