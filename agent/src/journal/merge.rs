//! Several journal files as one stream, each entry once, in the order in which they were written.
//!
//! Files of one row of sequence numbers (one journald: its system, user and rotated files) are merged by these numbers; the
//! rows by time. What stands in two files is given once: the same number with the same content, or, in different rows (a
//! copy that was received from elsewhere), the same boot, clocks and hash. Within one row and one microsecond two equal
//! messages are two.

use super::Problem;
use super::block::ReadAt;
use super::cursor::{Cursor, Step, lost};
use super::file::{JournalFile, Scratch};
use super::fragments::{Form, Fragment, Fragments};
use super::header::{Id, Refused};
use super::inflate::VALUE_CAP;
use super::object::Entry;
use super::search::{Span, plan};

/// The files of which something lies in a window.
pub struct Journals<S> {
    span: Span,
    files: Vec<JournalFile<S>>,
    scratch: Scratch,
    items: Vec<u64>,
    settled: bool,
    work: u64,
}

/// The most bytes of values that are decoded for one entry: one that refers to thousands of bombs costs no more. journald
/// takes no entry of more than this, either, but for coredumps of long ago.
const ENTRY_CAP: u64 = 16 << 20;

/// What was found out about a file when it was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Added {
    /// The earliest time that was met in it, in microseconds; `None`: it has no entry, or its index is damaged.
    pub oldest: Option<u64>,
    /// The number of its first entry: above 1, there were others before.
    pub head_seqnum: u64,
    /// Its place among the files, if it is kept: there may be something of the window in it.
    pub kept: Option<usize>,
}

impl<S: ReadAt> Journals<S> {
    /// For the entries with a time from `from` on and before `until`, in microseconds.
    pub fn new(from: u64, until: u64) -> Self {
        let span = Span { from, until };
        Self { span, files: Vec::new(), scratch: Scratch::default(), items: Vec::new(), settled: false, work: 0 }
    }

    /// Opens one more file.
    pub fn add(&mut self, source: S) -> Result<Added, Refused> {
        let number = u16::try_from(self.files.len()).unwrap_or(u16::MAX);
        let mut file = JournalFile::open(source, number, &mut self.scratch.pages)?;
        file.plan = plan(&mut file, &mut self.scratch.pages, self.span);
        file.blocks.rest();
        // The number is given to the next file, too, when this one is not kept.
        self.scratch.pages.forget(number);
        let kept = Cursor::new(&file).map(|_| self.files.len());
        let added = Added { oldest: file.plan.oldest, head_seqnum: file.header.head_seqnum, kept };
        if kept.is_some() {
            self.files.push(file);
        }
        Ok(added)
    }

    /// The files that were kept, in the order in which they were added.
    pub fn files(&self) -> &[JournalFile<S>] {
        &self.files
    }

    /// From now on every reading gives the same entries: what turns out to be damaged is noted and passed over.
    pub fn settle(&mut self) {
        self.settled = true;
    }

    /// Begins to read.
    pub fn walk(&mut self) -> Walk {
        let mut cursors = Vec::new();
        for (at, file) in self.files.iter_mut().enumerate() {
            file.noted = file.notes();
            file.notes = Default::default();
            if let Some(cursor) = Cursor::new(file) {
                cursors.push(Head { row: file.header.seqnum_id, file: at, cursor, next: Next::Unknown });
            }
        }
        cursors.sort_by_key(|c| (c.row, c.file));
        Walk { cursors }
    }

    /// One entry again: its number among the files, and where it stands in its file.
    pub fn entry_at(&mut self, file: usize, at: u64) -> Option<Entry> {
        self.files.get_mut(file)?.entry(at).ok()
    }

    /// The fields of an entry, in their order in it. Those that cannot be read are noted and left out.
    pub fn fields<F: Form>(&mut self, entry: &Entry, kept: &mut Fragments<F>, mut each: impl FnMut(Fragment<'_>)) {
        let Self { files, scratch, items, work, .. } = self;
        let Some(file) = files.get_mut(usize::from(entry.file)) else { return };
        if let Err(problem) = file.items(entry, items) {
            return lost(file, &problem);
        }
        let mut decoded = 0;
        for at in &*items {
            let key = Fragments::<F>::key(entry.file, *at);
            if let Some(fragment) = kept.get(key) {
                each(fragment);
                continue;
            }
            if decoded > ENTRY_CAP {
                lost(file, &Problem::Unread("more than an entry may have"));
                continue;
            }
            match file.data(*at, scratch) {
                Ok(data) => {
                    decoded += data.payload.len() as u64 + data.left_out.min(ENTRY_CAP);
                    each(kept.take(key, &data));
                }
                Err(problem) => {
                    // What was inflated in vain was inflated, too.
                    decoded += VALUE_CAP as u64;
                    lost(file, &problem);
                }
            }
            scratch.shrink();
        }
        *work += decoded;
    }

    /// Whether so many bytes were decoded since this was last true: then it is time to look whether to go on.
    pub fn did(&mut self, enough: u64) -> bool {
        let is_enough = self.work >= enough;
        if is_enough {
            self.work = 0;
        }
        is_enough
    }
}

impl Entry {
    /// The place of its file among the files, and its own place in the file.
    pub fn place(&self) -> (usize, u64) {
        (usize::from(self.file), self.at)
    }
}

/// What a step of a walk came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walked {
    /// The next entry.
    Entry(Entry),
    /// None yet: a moment to look whether to go on.
    Busy,
    /// A file turned out to be damaged or not in order, and must be read in another way: what was read so far is void, and
    /// a new walk gives all of it. Each file does this twice at most.
    Again,
    /// There are no more.
    End,
}

enum Next {
    Unknown,
    Is(Entry),
    None,
}

struct Head {
    row: Id,
    file: usize,
    cursor: Cursor,
    next: Next,
}

/// A walk over all files.
pub struct Walk {
    /// By row.
    cursors: Vec<Head>,
}

impl Walk {
    /// The next entry of the window.
    pub fn next<S: ReadAt>(&mut self, journals: &mut Journals<S>) -> Walked {
        let (span, settled) = (journals.span, journals.settled);
        for head in self.cursors.iter_mut().filter(|h| matches!(h.next, Next::Unknown)) {
            head.next = match head.cursor.next(&mut journals.files[head.file], span, settled) {
                Step::At(entry) => Next::Is(entry),
                Step::End => Next::None,
                Step::Busy => return Walked::Busy,
                Step::Again => return Walked::Again,
            };
        }
        let mut best: Option<(usize, Entry)> = None;
        let mut of_row: Option<(usize, Entry)> = None;
        for (i, head) in self.cursors.iter().enumerate() {
            if i > 0 && self.cursors[i - 1].row != head.row {
                best = earlier(best, of_row.take());
            }
            if let Next::Is(entry) = head.next
                && of_row.is_none_or(|(_, e)| entry.seqnum < e.seqnum)
            {
                of_row = Some((i, entry));
            }
        }
        let Some((which, entry)) = earlier(best, of_row) else { return Walked::End };
        let given = self.cursors[which].row;
        // In each row, the number of the entry that is the same: only one, and it may be in several files.
        let mut same = (given, Some(entry.seqnum));
        for head in &mut self.cursors {
            let Next::Is(other) = head.next else { continue };
            if head.row != same.0 {
                same = (head.row, (head.row == given).then_some(entry.seqnum));
            }
            if entry.is_copy_of(&other) && same.1.is_none_or(|seqnum| seqnum == other.seqnum) {
                same.1 = Some(other.seqnum);
                head.next = Next::Unknown;
            }
        }
        Walked::Entry(entry)
    }
}

fn earlier(a: Option<(usize, Entry)>, b: Option<(usize, Entry)>) -> Option<(usize, Entry)> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.1.realtime < a.1.realtime { b } else { a }),
        (a, b) => a.or(b),
    }
}
