//! How content becomes an item: lines of a log, rows of a table, the bytes of a recording, each counted, hashed and cut
//! into chunks, within a budget.

use std::io::Write;
use std::ops::ControlFlow::{self, Break, Continue};
use std::time::{Duration, Instant};

use casefile_evidence::archive::chunk::{Chunk, Chunker, Pack};
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::item::{Digest, ItemHead, ItemTail};
use casefile_proto::time::{WallTime, Window};
use casefile_proto::units::Bytes;

use super::step::Feed;
use crate::logs::{LogSink, Stop};

type Chunks = Chunker<Box<dyn FnMut(Chunk) -> std::io::Result<()>>>;

/// Gaps of its items that a row of the coverage repeats; the rest are counted in one more. A node can have thousands
/// of logs that all lack the same thing.
const MAX_ROW_GAPS: usize = 64;

/// How often a log source says how far it is, at most.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// Records between two looks at the clock.
const LOOK_EVERY: u64 = 512;

fn chunker(feed: &Feed, pack: Pack) -> Chunks {
    Chunker::new(pack, Box::new(feed.chunks()))
}

/// Gathers the gaps of many items for one row.
#[derive(Debug, Default)]
pub(super) struct RowGaps {
    gaps: Vec<Gap>,
    more: u64,
}

impl RowGaps {
    pub(super) fn add(&mut self, gap: Gap) {
        if self.gaps.len() < MAX_ROW_GAPS {
            self.gaps.push(gap);
        } else {
            self.more += 1;
        }
    }

    pub(super) fn finish(mut self) -> Vec<Gap> {
        if let (1.., Some(last)) = (self.more, self.gaps.last()) {
            let text = format!("{} more gaps, named in the items that have them", self.more);
            self.gaps.push(Gap::new(last.reason, text).counting(self.more));
        }
        self.gaps
    }
}

/// Takes the records of one log source.
pub(super) struct Records<'a> {
    source: &'static str,
    feed: &'a Feed,
    window: Window,
    /// A last line of defence: the log source shares its budget out by itself.
    left: u64,
    open: Option<Open>,
    told: Instant,
    seen: u64,
    records: u64,
    pub(super) bytes: u64,
    pub(super) items: u64,
    pub(super) gaps: RowGaps,
}

struct Open {
    path: String,
    chunks: Chunks,
    records: u64,
    newest: Option<WallTime>,
    stop: Option<Stop>,
}

impl<'a> Records<'a> {
    pub(super) fn new(source: &'static str, feed: &'a Feed, window: Window, budget: Bytes) -> Self {
        Self {
            source,
            feed,
            window,
            left: budget.0,
            open: None,
            told: Instant::now(),
            seen: 0,
            records: 0,
            bytes: 0,
            items: 0,
            gaps: RowGaps::default(),
        }
    }

    /// Ends what the log source left open: it was stopped in the middle, and only what it gave is covered.
    pub(super) fn finish(&mut self) {
        if let Some(open) = &self.open {
            let seen = open.newest.and_then(|newest| Window::new(self.window.from(), newest).ok());
            let rest = seen.map_or(self.window.from(), |w| w.until());
            let reason = match open.stop {
                Some(Stop::Budget) => GapReason::Budget,
                Some(Stop::Cancelled) => GapReason::Cancelled,
                Some(Stop::Gone) | None => GapReason::SourceFailed,
            };
            let gap = Gap::new(reason, "reading it ended early");
            let gap = Window::new(rest, self.window.until()).map_or(gap.clone(), |rest| gap.over(rest));
            // The answer says whether to go on; this is the end.
            let _ = self.end(seen, vec![gap]);
        }
        self.feed.progress(self.source, self.records, self.bytes);
    }

    fn stopped(&mut self, stop: Stop) -> ControlFlow<Stop> {
        if let Some(open) = &mut self.open {
            open.stop = Some(stop);
        }
        Break(stop)
    }
}

impl LogSink for Records<'_> {
    fn begin(&mut self, head: ItemHead) -> ControlFlow<Stop> {
        self.feed.check()?;
        let path = head.path.as_str().to_owned();
        if self.feed.begin(head).is_err() {
            return Break(Stop::Gone);
        }
        self.items += 1;
        let chunks = chunker(self.feed, Pack::Deflate);
        self.open = Some(Open { path, chunks, records: 0, newest: None, stop: None });
        Continue(())
    }

    fn record(&mut self, at: WallTime, bytes: &[u8]) -> ControlFlow<Stop> {
        let len = bytes.len() as u64;
        if len > self.left {
            return self.stopped(Stop::Budget);
        }
        // Before it is taken: a break means that it was not.
        self.seen += 1;
        if self.seen.is_multiple_of(LOOK_EVERY) {
            self.check()?;
        }
        let Some(open) = &mut self.open else { return Continue(()) };
        if open.chunks.write_all(bytes).is_err() {
            return self.stopped(Stop::Gone);
        }
        open.records += 1;
        open.newest = open.newest.max(Some(at));
        self.left -= len;
        self.bytes += len;
        self.records += 1;
        Continue(())
    }

    fn end(&mut self, covered: Option<Window>, gaps: Vec<Gap>) -> ControlFlow<Stop> {
        let Some(open) = self.open.take() else { return Continue(()) };
        for gap in &gaps {
            self.gaps.add(Gap::new(gap.reason, format!("{}: {}", open.path, gap.detail)).like(gap));
        }
        let Ok((size, sha256)) = open.chunks.finish() else { return Break(Stop::Gone) };
        let tail = ItemTail { size, sha256, records: open.records, covered, gaps };
        match self.feed.end(tail) {
            Ok(()) => self.feed.check(),
            Err(_) => Break(Stop::Gone),
        }
    }

    fn check(&mut self) -> ControlFlow<Stop> {
        if self.told.elapsed() >= PROGRESS_EVERY {
            self.told = Instant::now();
            self.feed.progress(self.source, self.records, self.bytes);
        }
        match self.feed.check() {
            Break(stop) => self.stopped(stop),
            go_on => go_on,
        }
    }
}

/// The same kind of gap, over the same interval, as another one.
trait Like {
    fn like(self, other: &Gap) -> Self;
}

impl Like for Gap {
    fn like(mut self, other: &Gap) -> Self {
        self.interval = other.interval;
        self.count = other.count;
        self
    }
}

/// Content that is written as one stream: a table, a recording. The item begins with its first byte, so that what has
/// nothing to say leaves no item.
pub(super) struct Content<'a> {
    feed: &'a Feed,
    head: Option<ItemHead>,
    chunks: Option<Chunks>,
    pack: Pack,
    left: u64,
    /// Line ends so far.
    pub(super) lines: u64,
    pub(super) bytes: u64,
    /// Why it took no more.
    pub(super) stopped: Option<Stop>,
}

impl<'a> Content<'a> {
    pub(super) fn new(feed: &'a Feed, head: ItemHead, pack: Pack, budget: Bytes) -> Self {
        Self { feed, head: Some(head), chunks: None, pack, left: budget.0, lines: 0, bytes: 0, stopped: None }
    }

    /// Ends the item. `false`: there was nothing, and there is no item.
    pub(super) fn finish(mut self, records: u64, covered: Option<Window>, gaps: Vec<Gap>) -> bool {
        let Some(chunks) = self.chunks.take() else { return false };
        let Ok((size, sha256)): std::io::Result<(u64, Digest)> = chunks.finish() else { return true };
        // When the other end is gone, the collection notices by itself.
        let _ = self.feed.end(ItemTail { size, sha256, records, covered, gaps });
        true
    }

    fn stop(&mut self, stop: Stop, why: &'static str) -> std::io::Error {
        self.stopped = Some(stop);
        std::io::Error::other(why)
    }
}

impl Write for Content<'_> {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        if buf.len() as u64 > self.left {
            return Err(self.stop(Stop::Budget, "the budget of the collection is used up"));
        }
        if self.feed.check().is_break() {
            return Err(self.stop(Stop::Cancelled, "the collection was stopped"));
        }
        if let Some(head) = self.head.take() {
            self.feed.begin(head)?;
            self.chunks = Some(chunker(self.feed, self.pack));
        }
        if let Some(chunks) = &mut self.chunks {
            chunks.write_all(buf)?;
        }
        self.left -= buf.len() as u64;
        self.bytes += buf.len() as u64;
        self.lines += buf.iter().filter(|b| **b == b'\n').count() as u64;
        Ok(buf.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
