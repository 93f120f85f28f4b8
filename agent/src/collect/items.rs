//! How content becomes an item: lines of a log, rows of a table, the bytes of a recording, each counted, hashed and cut
//! into chunks, within a budget. Text is masked first: nothing that was not leaves this file, and so the node.

use std::io::Write;
use std::ops::ControlFlow::{self, Break, Continue};
use std::time::{Duration, Instant};

use casefile_evidence::archive::chunk::{Chunk, Chunker, Pack};
use casefile_proto::coverage::Redaction;
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::item::{Digest, ItemHead, ItemTail};
use casefile_proto::time::{WallTime, Window};
use casefile_proto::units::Bytes;
use casefile_redact::{Redactor, Stream};

use super::step::Feed;
use crate::logs::{LogSink, Stop};
use crate::redaction;

type Chunks = Chunker<Box<dyn FnMut(Chunk) -> std::io::Result<()>>>;

/// Gaps of its items that a row of the coverage repeats; the rest are counted in one more. A node can have thousands
/// of logs that all lack the same thing.
const MAX_ROW_GAPS: usize = 64;

/// How often a log source says how far it is, at most.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// Records between two looks at the clock.
const LOOK_EVERY: u64 = 512;

/// A line of a table that is longer than this is masked in parts.
const MAX_LINE: usize = 1 << 20;

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

/// Is asked whether to go on, by a log source that says what it needs, and takes nothing.
pub(super) struct OnlyAsked<'a>(pub(super) &'a Feed);

impl LogSink for OnlyAsked<'_> {
    fn begin(&mut self, _head: ItemHead) -> ControlFlow<Stop> {
        Break(Stop::Budget)
    }
    fn record(&mut self, _at: WallTime, _bytes: &[u8]) -> ControlFlow<Stop> {
        Break(Stop::Budget)
    }
    fn end(&mut self, _covered: Option<Window>, _gaps: Vec<Gap>) -> ControlFlow<Stop> {
        Break(Stop::Budget)
    }
    fn check(&mut self) -> ControlFlow<Stop> {
        self.0.check()
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
    redactor: Redactor,
    /// What was masked in the items that have ended.
    pub(super) redaction: Redaction,
    /// Whether the record that comes next was cut at its end.
    is_cut: bool,
}

struct Open {
    path: String,
    /// Masks its records, before anything else is done with them.
    redact: Stream,
    chunks: Chunks,
    records: u64,
    newest: Option<WallTime>,
    stop: Option<Stop>,
}

impl<'a> Records<'a> {
    pub(super) fn new(source: &'static str, feed: &'a Feed, window: Window, budget: Bytes, redactor: Redactor) -> Self {
        Self {
            redaction: redaction::counts(&redactor),
            redactor,
            is_cut: false,
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
        let redact = self.redactor.stream();
        self.open = Some(Open { path, redact, chunks, records: 0, newest: None, stop: None });
        Continue(())
    }

    fn record(&mut self, at: WallTime, bytes: &[u8]) -> ControlFlow<Stop> {
        // Before it is taken: a break means that it was not.
        self.seen += 1;
        if self.seen.is_multiple_of(LOOK_EVERY) {
            self.check()?;
        }
        let whole = !std::mem::take(&mut self.is_cut);
        let Some(open) = &mut self.open else { return Continue(()) };
        let bytes = open.redact.record(bytes, whole);
        let len = bytes.len() as u64;
        if len > self.left {
            return self.stopped(Stop::Budget);
        }
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

    fn cut(&mut self) {
        self.is_cut = true;
    }

    fn end(&mut self, covered: Option<Window>, gaps: Vec<Gap>) -> ControlFlow<Stop> {
        let Some(open) = self.open.take() else { return Continue(()) };
        redaction::add_counts(&mut self.redaction, &open.redact);
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
    /// Masks text, line by line; `None` for a recording, whose words were masked when they were recorded.
    redact: Option<Stream>,
    /// The line that has no end yet.
    line: Vec<u8>,
    left: u64,
    /// Line ends so far.
    pub(super) lines: u64,
    pub(super) bytes: u64,
    /// Why it took no more.
    pub(super) stopped: Option<Stop>,
}

impl<'a> Content<'a> {
    /// For text.
    pub(super) fn text(feed: &'a Feed, head: ItemHead, budget: Bytes, redactor: &Redactor) -> Self {
        Self { redact: Some(redactor.stream()), ..Self::new(feed, head, Pack::Deflate, budget) }
    }

    /// For the frames of a recording.
    pub(super) fn recording(feed: &'a Feed, head: ItemHead, budget: Bytes) -> Self {
        Self::new(feed, head, Pack::Store, budget)
    }

    fn new(feed: &'a Feed, head: ItemHead, pack: Pack, budget: Bytes) -> Self {
        Self {
            feed,
            head: Some(head),
            chunks: None,
            pack,
            redact: None,
            line: Vec::new(),
            left: budget.0,
            lines: 0,
            bytes: 0,
            stopped: None,
        }
    }

    /// What was masked so far.
    pub(super) fn redaction(&self, redactor: &Redactor) -> Option<Redaction> {
        let stream = self.redact.as_ref()?;
        let mut counts = redaction::counts(redactor);
        redaction::add_counts(&mut counts, stream);
        Some(counts)
    }

    /// Ends the item. `false`: there was nothing, and there is no item. Text must have been flushed.
    pub(super) fn finish(mut self, records: u64, covered: Option<Window>, gaps: Vec<Gap>) -> bool {
        debug_assert!(self.line.is_empty() || self.stopped.is_some(), "the last line was not flushed");
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

impl Content<'_> {
    /// Masks the lines that are there, and puts them out. `whole`: they end where they end.
    fn put_lines(&mut self, whole: bool) -> std::io::Result<()> {
        let (Some(mut redact), lines) = (self.redact.take(), std::mem::take(&mut self.line)) else { return Ok(()) };
        let put = lines.split_inclusive(|b| *b == b'\n').try_for_each(|line| self.put(redact.record(line, whole)));
        self.redact = Some(redact);
        self.line = lines;
        self.line.clear();
        put
    }

    fn put(&mut self, buf: &[u8]) -> std::io::Result<()> {
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
        Ok(())
    }
}

impl Write for Content<'_> {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        if self.redact.is_none() {
            self.put(buf)?;
            return Ok(buf.len());
        }
        let ended = buf.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        self.line.extend_from_slice(&buf[..ended]);
        if ended > 0 {
            self.put_lines(true)?;
        }
        self.line.extend_from_slice(&buf[ended..]);
        if self.line.len() > MAX_LINE {
            self.put_lines(false)?;
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.put_lines(true)
    }
}
