//! The logs of a case file as one: every record of every log of every node, in the order in which it happened.
//!
//! Times of a node are moved to the collector's clock by the node's measured offset. Records of one time keep the order of
//! node, source, entry and line, so that the same question always has the same answer. Memory does not grow with the
//! archive: what is selected is sorted on disk (`sort.rs`), one log is read at a time, and of it one record is held.

pub mod origin;
pub mod records;
mod select;
pub mod sort;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;

use casefile_evidence::archive::layout;
use casefile_proto::coverage::{NodeCoverage, SourceKind};
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::ids::NodeName;
use casefile_proto::incident::Trigger;
use casefile_proto::item::EntryPath;
use casefile_proto::time::{ClockOffset, WallTime, Window};

use crate::casefile::{CaseFile, CaseFileError};
use origin::{JOURNAL_ENTRIES, Origin};
use records::{Grammar, Record, Stream, records};
pub use select::Selector;
use sort::Sorter;

/// What is gathered in memory before it goes to disk.
pub const MEMORY: usize = 64 << 20;

/// How much of a log is looked at to find out how it bears its times, where nobody says so.
const SAMPLE: usize = 64 << 10;

/// The longest line of a list of items: a thousand gaps with their details fit.
const MAX_ITEM_LINE: u64 = 4 << 20;

/// One log of the case file.
#[derive(Debug, Clone)]
pub struct Log {
    /// The node.
    pub node: NodeName,
    /// The entry of the case file.
    pub entry: EntryPath,
    /// Where it comes from.
    pub origin: Origin,
    /// The node's clock against the collector's; `None`: never measured.
    pub clock: Option<ClockOffset>,
    /// What was asked of it, on the node's clock.
    asked: Window,
    /// How its lines bear their times, where the item says so.
    times: Option<String>,
}

/// When a record happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct When {
    /// On the collector's clock; the node's own where its offset is not known.
    pub corrected: WallTime,
    /// On the node's clock, as it stands in the log.
    pub node: WallTime,
}

/// One record, or a part of a very long one.
#[derive(Debug)]
pub struct Line<'a> {
    /// Its log.
    pub log: &'a Log,
    /// When; `None`: it bears no time that is understood.
    pub when: Option<When>,
    /// Its first line in the entry, from 1.
    pub number: u64,
    /// Which stream of a container.
    pub stream: Option<Stream>,
    /// Its text as it stands there, several lines of it perhaps: escape before showing.
    pub text: &'a [u8],
    /// Whether it goes on with the record before of the same log.
    pub continues: bool,
}

/// What is to be said besides the lines.
#[derive(Debug, Default)]
pub struct Told {
    /// Records that were given.
    pub shown: u64,
    /// Logs that were looked at.
    pub logs: u64,
    /// Records without a time that were given, before all others.
    pub untimed: u64,
    /// Records without a time that were left out, because only a part of the window was asked for.
    pub unplaced: u64,
    /// Nodes whose clock was never compared with the others'.
    pub unclocked: Vec<NodeName>,
    /// Entries that could not be read to their end, and why.
    pub damaged: Vec<(EntryPath, String)>,
    /// Known gaps of these logs in the part of the window that was asked for.
    pub gaps: u64,
}

/// Calls `each` for every selected record, in order. `memory` is what may be held before the disk is used: [`MEMORY`].
pub fn merged(
    casefile: &mut CaseFile,
    selector: &Selector,
    memory: usize,
    each: &mut dyn FnMut(&Line<'_>) -> ControlFlow<()>,
) -> Result<Told, CaseFileError> {
    let mut sorter = Sorter::new(memory);
    // What bears no time comes before everything that does.
    let mut push = |_: &Log, at: Option<WallTime>, head: Head, text: &[u8]| {
        sorter.push(at.map_or(i64::MIN, WallTime::nanos), &head.pack(), text).map(|()| ControlFlow::Continue(()))
    };
    let mut gather = Gather { selector, each: &mut push, stopped: false, taken: Vec::new(), told: Told::default() };
    let logs = gather.all(casefile)?;
    let Gather { taken, mut told, .. } = gather;
    let first = |log: usize| match selector.tail {
        Some(tail) => taken[log].saturating_sub(tail),
        None => 0,
    };
    told.untimed = 0;
    let sorted = sorter.finish(&mut |packed| {
        let Some((head, text)) = Head::unpack(packed) else { return ControlFlow::Continue(()) };
        if head.order < first(head.log) {
            return ControlFlow::Continue(());
        }
        let log = &logs[head.log];
        told.shown += 1;
        told.untimed += u64::from(head.at.is_none());
        each(&Line {
            log,
            when: head.at.map(|node| When { corrected: corrected(node, log.clock), node }),
            number: head.line,
            stream: head.stream,
            text,
            continues: head.continues,
        })
    });
    sorted.map_err(CaseFileError::Sort)?;
    tell(casefile, selector, &logs, &mut told);
    Ok(told)
}

/// Calls `each` for every selected record, log by log in the order of the archive: nothing is kept, neither in memory nor on disk.
/// `tail` of the selector is not looked at.
///
/// # Errors
/// Never for what is damaged in the case file: that is told.
pub fn unsorted(
    casefile: &mut CaseFile,
    selector: &Selector,
    each: &mut dyn FnMut(&Line<'_>) -> ControlFlow<()>,
) -> Result<Told, CaseFileError> {
    let (mut shown, mut untimed) = (0, 0);
    let mut give = |log: &Log, at: Option<WallTime>, head: Head, text: &[u8]| {
        shown += 1;
        untimed += u64::from(at.is_none());
        Ok(each(&Line {
            log,
            when: head.at.zip(at).map(|(node, corrected)| When { corrected, node }),
            number: head.line,
            stream: head.stream,
            text,
            continues: head.continues,
        }))
    };
    let mut gather = Gather { selector, each: &mut give, stopped: false, taken: Vec::new(), told: Told::default() };
    let logs = gather.all(casefile)?;
    let mut told = gather.told;
    (told.shown, told.untimed) = (shown, untimed);
    tell(casefile, selector, &logs, &mut told);
    Ok(told)
}

/// A time of a node on the collector's clock.
pub(crate) fn corrected(at: WallTime, clock: Option<ClockOffset>) -> WallTime {
    match clock.and_then(ClockOffset::apart) {
        Some(ahead) => at.offset(ahead.saturating_neg()),
        None => at,
    }
}

/// What is done with a record that is selected: its log, its time on the collector's clock, what else is known of it, its text.
type Take<'a> = &'a mut dyn FnMut(&Log, Option<WallTime>, Head, &[u8]) -> std::io::Result<ControlFlow<()>>;

/// The first pass: reads and selects.
struct Gather<'a> {
    selector: &'a Selector,
    each: Take<'a>,
    /// Nobody wants more.
    stopped: bool,
    /// How many records of each log were taken.
    taken: Vec<u64>,
    told: Told,
}

impl Gather<'_> {
    /// Reads the logs in the order in which they lie in the archive, so that a file without an index is read once.
    fn all(&mut self, casefile: &mut CaseFile) -> Result<Vec<Log>, CaseFileError> {
        let mut wanted: Vec<(NodeName, Vec<(EntryPath, Origin)>)> = Vec::new();
        for (node, entry, item) in casefile.node_entries(None) {
            let Some(origin) = Origin::of(item.as_str()) else { continue };
            if !self.selector.wants(&node, &origin) {
                continue;
            }
            match wanted.last_mut().filter(|(last, _)| *last == node) {
                Some((_, logs)) => logs.push((entry, origin)),
                None => wanted.push((node, vec![(entry, origin)])),
            }
        }
        let mut logs = Vec::new();
        for (node, entries) in wanted {
            let mut times = self.times_of(casefile, &node);
            let coverage = casefile.coverage.nodes.iter().find(|n| n.node == node).cloned();
            let clock = coverage.as_ref().and_then(|n| n.clock);
            for (entry, origin) in entries {
                let asked = asked(coverage.as_ref(), &origin, clock, casefile.coverage.window);
                let times = times.remove(&entry);
                let log = Log { node: node.clone(), entry, origin, clock, asked, times };
                self.taken.push(0);
                if !self.stopped {
                    self.one(casefile, &log, logs.len())?;
                }
                logs.push(log);
            }
        }
        self.told.logs = logs.len() as u64;
        Ok(logs)
    }

    /// How the items of a node say that their lines bear their times. An archive without such a list is an older one.
    fn times_of(&mut self, casefile: &mut CaseFile, node: &NodeName) -> BTreeMap<EntryPath, String> {
        #[derive(serde::Deserialize)]
        struct Item {
            path: EntryPath,
            #[serde(default)]
            times: Option<String>,
        }
        let mut all = BTreeMap::new();
        let Ok(list) = layout::node_item(node, &layout::path(layout::ITEMS_ITEM)) else { return all };
        if casefile.entries.find(&list).is_none() {
            return all;
        }
        let mut read = match casefile.entries.entry(&list) {
            Ok(read) => BufReader::new(read),
            Err(error) => {
                self.told.damaged.push((list, error.to_string()));
                return all;
            }
        };
        let mut line = Vec::new();
        loop {
            line.clear();
            match (&mut read).take(MAX_ITEM_LINE).read_until(b'\n', &mut line) {
                Ok(0) => return all,
                Ok(_) => {}
                Err(error) => {
                    self.told.damaged.push((list, error.to_string()));
                    return all;
                }
            }
            // A line that is none says nothing of times, and the log is then read without.
            if let Ok(Item { path, times: Some(times) }) = serde_json::from_slice(&line) {
                all.insert(path, times);
            }
        }
    }

    fn one(&mut self, casefile: &mut CaseFile, log: &Log, number: usize) -> Result<(), CaseFileError> {
        let mut read = match casefile.entries.entry(&log.entry) {
            Ok(read) => BufReader::with_capacity(SAMPLE, read),
            Err(error) => {
                self.told.damaged.push((log.entry.clone(), crate::casefile::chain(&error)));
                return Ok(());
            }
        };
        // An error at the beginning is met again below, and told there.
        let sample = read.fill_buf().unwrap_or_default();
        let mut grammar = Grammar::new(&log.origin.source, log.times.as_deref(), sample, log.asked);
        let mut failed = Ok(());
        let ended = records(&mut read, &mut grammar, &mut |record| match self.take(log, number, record) {
            Ok(flow) => flow,
            Err(error) => {
                failed = Err(CaseFileError::Sort(error));
                ControlFlow::Break(())
            }
        });
        failed?;
        if let Err(error) = ended {
            self.told.damaged.push((log.entry.clone(), error.to_string()));
        }
        Ok(())
    }

    fn take(&mut self, log: &Log, number: usize, record: &Record<'_>) -> std::io::Result<ControlFlow<()>> {
        let at = record.at.map(|at| corrected(at, log.clock));
        let inside = self.selector.range.is_none_or(|range| at.is_some_and(|at| range.contains(at)));
        if !self.selector.wants_text(record.text) {
            return Ok(ControlFlow::Continue(()));
        }
        if !inside {
            self.told.unplaced += u64::from(at.is_none());
            return Ok(ControlFlow::Continue(()));
        }
        let order = self.taken[number];
        self.taken[number] += 1;
        let head = Head {
            log: number,
            order,
            line: record.line,
            at: record.at,
            stream: record.stream,
            continues: record.continues,
        };
        let flow = (self.each)(log, at, head, record.text)?;
        self.stopped = flow.is_break();
        Ok(flow)
    }
}

/// The window that was asked of a log, on its node's clock: every record of it lies inside.
fn asked(node: Option<&NodeCoverage>, origin: &Origin, clock: Option<ClockOffset>, window: Window) -> Window {
    let row = node.and_then(|n| n.sources.iter().find(|s| s.kind == SourceKind::Logs && s.source == row_of(origin)));
    let shifted = || clock.and_then(ClockOffset::apart).and_then(|ahead| window.shifted(ahead));
    row.map(|row| row.asked).or_else(shifted).unwrap_or(window)
}

/// The row of the coverage that a log counts for.
fn row_of(origin: &Origin) -> &str {
    if origin.source == JOURNAL_ENTRIES { "journal" } else { &origin.source }
}

/// What is kept of a record besides its text while it is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    log: usize,
    /// How many of its log come before it.
    order: u64,
    line: u64,
    at: Option<WallTime>,
    stream: Option<Stream>,
    continues: bool,
}

impl Head {
    const LEN: usize = 8 * 4 + 1;

    fn pack(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        let at = self.at.map_or(0, WallTime::nanos);
        let numbers = [self.log as u64, self.order, self.line, at.cast_unsigned()];
        for (place, number) in out.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let stream = match self.stream {
            None => 0,
            Some(Stream::Stdout) => 1,
            Some(Stream::Stderr) => 2,
        };
        out[Self::LEN - 1] = stream | u8::from(self.continues) << 2 | u8::from(self.at.is_some()) << 3;
        out
    }

    /// `None` never for what was packed here.
    fn unpack(packed: &[u8]) -> Option<(Self, &[u8])> {
        let (head, text) = packed.split_first_chunk::<{ Self::LEN }>()?;
        let (numbers, _) = head.as_chunks::<8>();
        let [log, order, line, at] = <[[u8; 8]; 4]>::try_from(numbers).ok()?.map(u64::from_le_bytes);
        let flags = head[Self::LEN - 1];
        let head = Self {
            log: usize::try_from(log).ok()?,
            order,
            line,
            at: (flags & 8 != 0).then(|| WallTime::from_nanos(at.cast_signed())),
            stream: [None, Some(Stream::Stdout), Some(Stream::Stderr), None][usize::from(flags & 3)],
            continues: flags & 4 != 0,
        };
        Some((head, text))
    }
}

/// What else must be said: whose clock is not known, and what is missing.
fn tell(casefile: &CaseFile, selector: &Selector, logs: &[Log], told: &mut Told) {
    let coverage = &casefile.coverage;
    for node in coverage.nodes.iter().filter(|n| selector.wants_node(&n.node)) {
        let here = logs.iter().any(|log| log.node == node.node);
        // An agent that worked alone has no other clock to be compared with.
        if here && node.clock.is_none() && casefile.incident.trigger != Trigger::Extract {
            told.unclocked.push(node.node.clone());
        }
        let range = selector.range.map(|range| match node.clock.and_then(ClockOffset::apart) {
            Some(ahead) => range.shifted(ahead).unwrap_or(range),
            None => range,
        });
        let counts = |gap: &&Gap| {
            let inside = match (range, gap.interval) {
                (Some(range), Some(interval)) => range.intersect(&interval).is_some(),
                _ => true,
            };
            inside && gap.reason != GapReason::SourceAbsent
        };
        let rows = node.sources.iter().filter(|s| s.kind == SourceKind::Logs && selector.wants_source(&s.source));
        let gaps = rows.flat_map(|s| &s.gaps).chain(&node.gaps).filter(counts).count();
        told.gaps += gaps as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_for_sorting_is_unpacked_as_it_was() {
        for (at, stream, continues) in [
            (None, None, false),
            (Some(WallTime::MIN), Some(Stream::Stdout), true),
            (Some(WallTime::from_nanos(-1)), Some(Stream::Stderr), false),
        ] {
            let head = Head { log: 7, order: 8, line: 9, at, stream, continues };
            let packed = [&head.pack()[..], b"text"].concat();
            assert_eq!(Head::unpack(&packed), Some((head, &b"text"[..])));
        }
        assert_eq!(Head::unpack(b"short"), None);
    }

    #[test]
    fn a_time_is_corrected_only_where_the_clocks_can_be_told_apart() {
        let at = WallTime::from_secs(100);
        let clock = |ahead_nanos, bound_nanos| Some(ClockOffset { ahead_nanos, bound_nanos });
        assert_eq!(corrected(at, clock(2_000_000_000, 1_000)), WallTime::from_secs(98));
        assert_eq!(corrected(at, clock(-3_000_000_000, 1_000)), WallTime::from_secs(103));
        assert_eq!(corrected(at, clock(900, 1_000)), at);
        assert_eq!(corrected(at, None), at);
    }
}
