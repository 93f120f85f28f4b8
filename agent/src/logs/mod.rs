//! Log sources: each answers one question, every record of `[from, until)`, exactly, under a budget, in order.
//!
//! How to add one: write `logs/<kind>.rs` with a `SPEC`; add it to [`ALL`]; `tests/logs.rs` then runs the shared suite.
//! A log that is a file of lines needs a [`window::Grammar`] and gets the rest from [`history`]; whatever it is, records
//! leave through [`sink::Giving`] only.

pub(crate) mod budget;
mod cri;
pub(crate) mod declared;
mod files;
#[doc(hidden)]
pub mod fuzzing;
mod gaps;
mod history;
mod inflate;
mod journal;
mod kernel;
mod lines;
mod open;
mod pods;
pub(crate) mod pstore;
mod recognise;
mod rotation;
mod sink;
mod text;
mod window;

use std::borrow::Cow;
use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::sync::LazyLock;

use casefile_proto::coverage::Cost;
use casefile_proto::gap::Gap;
use casefile_proto::item::{EntryPath, ItemHead};
pub use casefile_proto::scope::Selection;
use casefile_proto::time::{WallTime, Window};
use casefile_proto::units::Bytes;

use crate::host::Host;

/// What is asked of a log source.
#[derive(Debug, Clone)]
pub struct LogAsk {
    /// On the node's own clock.
    pub window: Window,
    /// The most bytes that this log source may give, over all of its items.
    pub budget: Bytes,
    /// Which of its logs.
    pub select: Selection,
}

/// What a log source is.
pub struct LogSpec {
    /// `pods`, `files`, `journal`, `kernel`.
    pub name: &'static str,
    /// What it reads, one sentence.
    pub about: &'static str,
    /// Makes a reader; cheap, opens nothing yet.
    pub open: fn(&Host, &LogConfig) -> Box<dyn LogSource>,
}

/// What log sources are configured with: `logs/default.toml` and the operator's additions.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Plain log files: one stanza for each family.
    pub files: Vec<FilesConfig>,
}

/// A family of plain log files.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesConfig {
    /// Where they lie, relative to the host root: `var/log/*.log`. `*` never crosses a `/`.
    pub glob: String,
    /// Globs of what is left out of it, whole paths relative to the host root.
    #[serde(default)]
    pub except: Vec<String>,
    /// How times are written, where it is not to be found out: `rfc3339`, `iso` (with or without a zone), `syslog`, `klog`,
    /// `epoch`.
    #[serde(default)]
    pub times: Option<String>,
    /// What stands before the time: `none`, `bracket`, `priority`, `key`, `json`, `word`.
    #[serde(default)]
    pub lead: Option<String>,
    /// The zone of times that name none, where it is not the host's: `UTC`, `+01:00`, `Europe/Berlin`.
    #[serde(default)]
    pub zone: Option<String>,
}

impl LogConfig {
    /// What `default.toml` says.
    pub fn builtin() -> Self {
        // A test reads it: a mistake in it does not get into a build.
        toml::from_str(include_str!("default.toml")).unwrap_or_default()
    }
}

/// Reads one kind of log.
pub trait LogSource: Send {
    /// About how many bytes of the window each of its logs holds, at least as many as there are; in no order. Asked
    /// before anything is read, so that all log sources can share one budget; `ask.budget` says up to which sum it is
    /// not worth looking closer. `out` is asked whether to go on, and given nothing.
    fn needs(&mut self, ask: &LogAsk, out: &mut dyn LogSink) -> Vec<u64> {
        let _ = (ask, out);
        vec![u64::MAX]
    }

    /// Gives every record of the window to the sink, item by item.
    fn read(&mut self, ask: &LogAsk, out: &mut dyn LogSink) -> Covered;
}

/// Where records go: budget → chunk → upload or archive.
pub trait LogSink {
    /// Begins an item; the records that follow belong to it.
    fn begin(&mut self, head: ItemHead) -> ControlFlow<Stop>;
    /// One record, whole, as it will stand in the archive (with its line end). When it breaks, it did not take the record.
    fn record(&mut self, at: WallTime, bytes: &[u8]) -> ControlFlow<Stop>;
    /// The record that follows was cut for its length: a secret may have been cut in two at its end.
    fn cut(&mut self) {}
    /// Ends the item: the interval that was really read, and what is missing from it.
    fn end(&mut self, covered: Option<Window>, gaps: Vec<Gap>) -> ControlFlow<Stop>;
    /// Asked now and then while much is read and nothing is found: whether to go on.
    fn check(&mut self) -> ControlFlow<Stop> {
        ControlFlow::Continue(())
    }
}

/// Why a log source is to stop. The item that was begun is still ended by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The budget of this source is used up.
    Budget,
    /// The collection was cancelled or its deadline passed.
    Cancelled,
    /// The other end is gone.
    Gone,
}

impl Stop {
    fn why(self) -> &'static str {
        match self {
            Self::Budget => "the budget of the collection is used up",
            Self::Cancelled => "the collection was stopped",
            Self::Gone => "the receiver is gone",
        }
    }
}

/// What a log source really read, as a whole: one row of the coverage is made from it.
#[derive(Debug, Clone, Default)]
pub struct Covered {
    /// Intervals, oldest first.
    pub covered: Vec<Window>,
    /// What is missing; those of single items are repeated here only when there is no item to carry them.
    pub gaps: Vec<Gap>,
    /// Records and items given out.
    pub records: u64,
    /// Items given out.
    pub items: u64,
    /// What it cost.
    pub cost: Cost,
}

/// Every log source, cheap and small ones first.
pub const ALL: &[LogSpec] = &[kernel::SPEC, journal::SPEC, files::SPEC, pods::SPEC];

/// The most logs that one source reads in one collection: a node runs a few hundred containers.
const MAX_LOGS: usize = 4096;

/// Where the items of a log source lie.
fn item_path(name: &str) -> EntryPath {
    LOGS.child(name)
}

static LOGS: LazyLock<EntryPath> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "a constant, read by every test of a log source")]
    "logs".parse().expect("a path")
});

/// The time of the running machine; `None` for a tree of files, whose logs have another present.
fn now(host: &Host) -> Option<WallTime> {
    host.is_live().then(|| crate::clock::system()().wall)
}

/// A file name as text: what is not UTF-8 in a form that keeps two such names apart.
fn component(name: &OsStr) -> Cow<'_, str> {
    match name.to_str() {
        Some(text) => Cow::Borrowed(text),
        None => Cow::Owned(name.as_bytes().escape_ascii().to_string()),
    }
}
