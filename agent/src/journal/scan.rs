//! A damaged file read from object to object, without its index.
//!
//! Every object says how long it is, so the next one is known. Where what follows is no object, the size may be what is
//! damaged: then the search goes on 8 bytes behind the object's begin, not behind its end. Bytes that merely look like an
//! entry (a message can be made to) have to pass the same checks as any entry, and a search steps into the inside of a value
//! only where a file is damaged; that it was, is said.

use super::Problem;
use super::block::ReadAt;
use super::file::JournalFile;
use super::object::{ENTRY, ENTRY_HEAD, Entry, OBJECT_HEAD, Object};

/// A region that cannot be read is left behind by this much at a time.
const UNREADABLE: u64 = 4 << 10;

/// So many steps are made before the caller is asked whether to go on.
const STEPS: u32 = 1 << 16;

/// Where a walk over a file is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scanner {
    at: u64,
    /// Within a stretch that is no object: one stretch is one bad place.
    lost: bool,
}

/// What a walk met next.
pub(super) enum Met {
    Entry(Entry),
    /// The begin of a stretch that is no object.
    Bad,
    /// Nothing yet.
    Busy,
    End,
}

impl Scanner {
    pub(super) fn new<S>(file: &JournalFile<S>) -> Self {
        Self { at: file.header.size, lost: false }
    }

    pub(super) fn next<S: ReadAt>(&mut self, file: &mut JournalFile<S>) -> Met {
        for _ in 0..STEPS {
            let size = file.blocks.size();
            if self.at + OBJECT_HEAD as u64 > size {
                return Met::End;
            }
            let head = match head(file, self.at) {
                Ok(head) => head,
                Err(Problem::Io(_)) => {
                    self.at = (self.at / UNREADABLE + 1) * UNREADABLE;
                    if !std::mem::replace(&mut self.lost, true) {
                        return Met::Bad;
                    }
                    continue;
                }
                Err(_) => return Met::End,
            };
            // What was allocated and not written yet.
            if head == [0; OBJECT_HEAD] {
                self.at += 8;
                continue;
            }
            let object = Object::parse(&head);
            if !Object::is_plausible(&head, self.at, size) {
                self.at += 8;
                if !std::mem::replace(&mut self.lost, true) {
                    return Met::Bad;
                }
                continue;
            }
            let at = self.at;
            let next = at + object.size.next_multiple_of(8);
            let whole = leads_on(file, next);
            let entry = (object.kind == ENTRY).then(|| file.entry(at));
            match entry {
                Some(Ok(entry)) if entry.size(file.header.compact) as u64 == object.size => {
                    (self.at, self.lost) = (if whole { next } else { at + ENTRY_HEAD as u64 }, false);
                    return Met::Entry(entry);
                }
                Some(_) => {
                    self.at += 8;
                    if !std::mem::replace(&mut self.lost, true) {
                        return Met::Bad;
                    }
                }
                None if whole => (self.at, self.lost) = (next, false),
                None => {
                    self.at += 8;
                    if !std::mem::replace(&mut self.lost, true) {
                        return Met::Bad;
                    }
                }
            }
        }
        Met::Busy
    }
}

fn head<S: ReadAt>(file: &mut JournalFile<S>, at: u64) -> Result<[u8; OBJECT_HEAD], Problem> {
    let bytes = file.blocks.near(at, OBJECT_HEAD)?;
    bytes.first_chunk().copied().ok_or(Problem::Damaged("it is too short"))
}

/// Whether an object, or nothing any more, stands here.
fn leads_on<S: ReadAt>(file: &mut JournalFile<S>, at: u64) -> bool {
    let size = file.blocks.size();
    if at + OBJECT_HEAD as u64 > size {
        // The last one may end without its padding.
        return at <= size.next_multiple_of(8);
    }
    head(file, at).is_ok_and(|head| head == [0; OBJECT_HEAD] || Object::is_plausible(&head, at, size))
}
