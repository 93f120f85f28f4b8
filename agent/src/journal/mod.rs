//! systemd's journal files, read natively: no library of systemd's, no `journalctl`, no map of memory that a truncation
//! turns into a signal.
//!
//! The format is systemd's own (`JOURNAL_FILE_FORMAT` in its documentation): a header, then objects one behind the other.
//! A DATA object is one `NAME=value`, shared by all the entries that say the same; an ENTRY refers to its DATA; ENTRY_ARRAYs,
//! chained and doubling in size, list all entries in the order in which they were written. Files come in two layouts
//! (compact: offsets of 32 bits), and DATA may be compressed.
//!
//! What is needed of it here is little: the chain of arrays to find a time by bisection ([`chain`], [`search`]), entries and
//! the DATA that they refer to ([`file`], [`object`], [`inflate`]), and, where the index is damaged, a walk from object to
//! object ([`scan`]). The hash tables are never looked at, so no hash chain can lead astray and it does not matter how they
//! are keyed. Several files are merged to one stream in which each entry is there once ([`merge`]).
//!
//! Everything is bounded whatever the bytes are: offsets in a chain only grow, an object is looked at once, memory is that of
//! the named caps. Nothing here knows of windows of logs, items or gaps: `logs::journal` does.

mod block;
mod chain;
mod cursor;
mod export;
mod file;
mod fragments;
mod header;
mod inflate;
mod merge;
mod object;
mod scan;
mod search;

pub use block::ReadAt;
pub use export::Export;
pub(crate) use export::decimal;
pub use file::{JournalFile, Notes};
pub use fragments::{Form, Fragment, Fragments, Rendered};
pub use header::{Id, Refused};
pub use merge::{Added, Journals, Walk, Walked};
pub use object::Entry;

/// How far behind a time may lie in a file that counts as being in order; see the window of the other logs.
const SLACK_MICROS: u64 = 60_000_000;

/// What went wrong at one place of a file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    /// The file system said no.
    #[error("read")]
    Io(#[source] std::io::Error),
    /// What is there is not what must be there.
    #[error("{0}")]
    Damaged(&'static str),
    /// It may well be whole, but it is not read here: a compression or a size.
    #[error("{0}")]
    Unread(&'static str),
}
