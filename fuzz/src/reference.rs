//! What a log holds, found out in the simplest way that there is: everything in memory, line by line, no window, no budget,
//! no order of time. What the log sources give is compared with it.

use std::time::Duration;

use casefile_agent::logs::fuzzing::{Asked, Given, cri_line, stamps};
use casefile_proto::gap::GapReason;
use casefile_proto::time::WallTime;

/// Records, and whether their times are in order as far as [`SLACK`] goes.
pub(crate) struct Reference {
    pub(crate) records: Vec<(WallTime, Vec<u8>)>,
    pub(crate) in_order: bool,
}

/// What counts as being in order.
const SLACK: Duration = Duration::from_secs(60);

/// Lines without their ends and without the zeros before them, and whether there were any.
fn lines(bytes: &[u8]) -> impl Iterator<Item = (&[u8], bool)> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.split(|b| *b == b'\n').filter(|_| !bytes.is_empty()).map(|line| {
        let text = line.iter().position(|b| *b != 0).map_or(&line[line.len()..], |at| &line[at..]);
        (text, text.len() < line.len())
    })
}

/// Whether no time lies more than the slack before one above it.
#[derive(Default)]
struct Order {
    latest: Option<WallTime>,
    broken: bool,
}

impl Order {
    fn see(&mut self, at: WallTime) {
        self.broken |= self.latest.is_some_and(|latest| at.after(SLACK) < latest);
        self.latest = self.latest.max(Some(at));
    }
}

/// Container logs: these files one after the other.
pub(crate) fn cri(files: &[&[u8]]) -> Reference {
    let mut records: Vec<(WallTime, Vec<u8>)> = Vec::new();
    // For each stream the record that it has begun and not ended.
    let mut open: [Option<usize>; 2] = [None, None];
    let mut order = Order::default();
    for (line, _) in files.iter().flat_map(|file| lines(file)) {
        let Some((at, line)) = cri_line(line) else { continue };
        order.see(at);
        let Some(line) = line else { continue };
        let begun = &mut open[usize::from(line.stream == "stderr")];
        let record = *begun.get_or_insert_with(|| {
            records.push((at, [line.stamp, b" ", line.stream.as_bytes(), b" "].concat()));
            records.len() - 1
        });
        records[record].1.extend_from_slice(line.text);
        if !line.partial {
            *begun = None;
        }
    }
    records.iter_mut().for_each(|r| r.1.push(b'\n'));
    Reference { records, in_order: !order.broken }
}

/// A text log; `None`: it is not recognised as one.
pub(crate) fn text(bytes: &[u8], changed: WallTime) -> Option<Reference> {
    let lines: Vec<_> = lines(bytes).filter(|(line, zeros)| !(line.is_empty() && *zeros)).map(|l| l.0).collect();
    let mut records: Vec<(WallTime, Vec<u8>)> = Vec::new();
    let mut order = Order::default();
    for (line, at) in lines.iter().zip(stamps(bytes, &lines, changed)?) {
        if let Some(at) = at {
            order.see(at);
            records.push((at, Vec::new()));
        }
        if let Some((_, record)) = records.last_mut() {
            record.extend_from_slice(line);
            record.push(b'\n');
        }
    }
    Some(Reference { records, in_order: !order.broken })
}

impl Reference {
    /// Panics unless what was given is what is in the window: all of it when the times are in order, else nothing that is
    /// not in it; up to the budget, and then it is said.
    pub(crate) fn compare(&self, asked: Asked, given: &Given) {
        assert!(given.records.iter().all(|(at, _)| asked.window.contains(*at)));
        let mut wanted = self.records.iter().filter(|(at, _)| asked.window.contains(*at));
        let bytes: usize = given.records.iter().map(|(_, b)| b.len()).sum();
        assert!(bytes as u64 <= asked.budget.0);
        assert_eq!((given.covered.records, given.covered.cost.bytes), (given.records.len() as u64, bytes as u64));
        if !self.in_order {
            // What a clock that runs back hides may be missing; what is there is right, and in the order of the file.
            return assert!(given.records.iter().all(|record| wanted.any(|w| w == record)));
        }
        let mut left = asked.budget.0;
        for record in &given.records {
            let expected = wanted.next();
            assert_eq!(Some(record), expected, "{}", record.1.escape_ascii());
            left -= record.1.len() as u64;
        }
        if let Some((_, next)) = wanted.next() {
            assert!(next.len() as u64 > left, "not given although there is room: {}", next.escape_ascii());
            assert!(given.gaps.iter().any(|g| g.reason == GapReason::Budget), "{:?}", given.gaps);
        }
        let within = |w| asked.window.intersect(w) == Some(*w);
        assert!(given.interval.as_ref().is_none_or(within));
        assert!(given.gaps.iter().filter_map(|g| g.interval.as_ref()).all(within));
    }
}
