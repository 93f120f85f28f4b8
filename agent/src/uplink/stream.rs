//! The frames of one session: where the next one comes from. What goes when, [`super::feed`] decides.
//!
//! They come from the queue of the newest ones; what is missing before those is fetched from the ring. Knows no connection and
//! no clock, so that whoever drives it, a session or a simulation, decides what happens when.

use std::path::PathBuf;

use casefile_proto::ids::FrameSeq;
use casefile_proto::session::{FrameBatch, Welcome};
use casefile_proto::time::WallTime;
use tokio::sync::mpsc;

use super::catch_up::{Fetched, Wanted};
use super::feed::Feed;
use super::live::Live;

/// The frames of a session that stands.
pub struct Stream {
    live: Live,
    ring_dir: PathBuf,
    catch_up: std::time::Duration,
    feed: Feed,
    source: Source,
}

/// Where the next frame comes from.
enum Source {
    /// The queue of the newest frames; the stretch that the last record was of.
    Live(Option<u64>),
    /// The ring.
    Ring(mpsc::Receiver<Fetched>),
}

impl Stream {
    /// Behind a welcome. From the next frame on, frames are kept for it; what was before is wanted of the ring, as
    /// [`Stream::take_live`] says it.
    pub fn begin(live: Live, ring_dir: PathBuf, welcome: &Welcome, now: WallTime) -> (Self, Option<Wanted>) {
        let next = welcome.have.map_or(FrameSeq::FIRST, FrameSeq::next);
        let last = live.follow();
        if let Some(have) = welcome.have.filter(|have| last.is_none_or(|last| *have > last)) {
            tracing::warn!(%have, last = last.map(|seq| seq.0), "the collector holds frames that the ring has lost");
            live.raise_floor(have);
        }
        let feed = Feed::new(next, welcome.window_batches);
        let stream = Self { live, ring_dir, catch_up: welcome.catch_up, feed, source: Source::Live(None) };
        let wanted = stream.wanted_up_to(last, now);
        (stream, wanted)
    }

    /// Takes what follows from the queue of the newest frames. `Some`: this is missing before them; [`Wanted::fetch`] is to be
    /// run, and what comes of it given to [`Stream::fetched_from`].
    #[must_use]
    pub fn take_live(&mut self, now: WallTime) -> Option<Wanted> {
        while let Source::Live(stretch) = self.source
            && self.feed.wants_more()
            && let Some((of, seq)) = self.live.front()
        {
            let next = self.feed.next();
            if seq > next {
                // The frame before is in the ring already: the recorder gives it there first.
                return self.wanted_up_to(Some(FrameSeq(seq.0 - 1)), now);
            } else if seq < next {
                // The collector has it. What follows leans on it, so begin anew with a keyframe.
                let last = self.live.follow();
                let wanted = self.wanted_up_to(last, now);
                if wanted.is_some() {
                    return wanted;
                }
            } else if let Some(record) = self.live.pop() {
                debug_assert!(stretch.is_none_or(|stretch| stretch <= of), "stretches go forward");
                self.feed.add(&record.bytes);
                self.source = Source::Live(Some(of));
            }
        }
        None
    }

    fn wanted_up_to(&self, last: Option<FrameSeq>, now: WallTime) -> Option<Wanted> {
        let from = self.feed.next();
        let to = last.filter(|last| *last >= from)?;
        let not_before = now.before(self.catch_up);
        Some(Wanted { ring_dir: self.ring_dir.clone(), header: self.live.header().clone(), from, to, not_before })
    }

    /// Here comes what was wanted of the ring.
    pub fn fetched_from(&mut self, fetched: mpsc::Receiver<Fetched>) {
        self.source = Source::Ring(fetched);
    }

    /// The next thing from the ring, for [`Stream::take_fetched`]; never ready when nothing is fetched.
    pub async fn fetched(&mut self) -> Option<Fetched> {
        match &mut self.source {
            Source::Ring(fetched) => fetched.recv().await,
            Source::Live(_) => std::future::pending().await,
        }
    }

    /// Whether something is fetched, and there is room for it.
    pub fn wants_fetched(&self) -> bool {
        matches!(self.source, Source::Ring(_)) && self.feed.wants_more()
    }

    /// Takes it; `None`: that was all.
    pub fn take_fetched(&mut self, fetched: Option<Fetched>) {
        match fetched {
            Some(Fetched::Record(record)) => self.feed.add(&record),
            Some(Fetched::Skip(to, gap)) => self.feed.skip(to, gap),
            None => self.source = Source::Live(None),
        }
    }

    /// The collector has everything up to here on its disk.
    pub fn acked(&mut self, up_to: FrameSeq) {
        self.feed.acked(up_to);
    }

    /// Whether [`Stream::take`] would give a batch.
    pub fn is_ready(&self) -> bool {
        self.feed.is_ready()
    }

    /// The next batch, if one may be sent now.
    pub fn take(&mut self) -> Option<FrameBatch> {
        self.feed.take()
    }

    /// Whether everything that was taken was sent and acknowledged.
    pub fn is_done(&self) -> bool {
        self.feed.is_done()
    }
}
