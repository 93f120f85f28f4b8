//! Standard output: the one place that decides between table, JSON and JSON lines.
//!
//! Data goes here, talk and progress go to standard error. A reader that goes away (`| head`) ends us quietly.

use std::io::{self, Write};
use std::ops::ControlFlow;

use anyhow::{Context, Result};
use casefile_review::display::safe_json;
use comfy_table::{Table, presets};
use serde::Serialize;

use crate::args::Format;

/// A list of things: a table for people, a JSON array, or one object a line.
pub(crate) fn list<T: Serialize>(
    format: Format,
    header: &[&str],
    items: &[T],
    row: impl Fn(&T) -> Vec<String>,
) -> Result<()> {
    match format {
        Format::Table => {
            let mut table = Table::new();
            table.load_style(presets::NOTHING);
            table.set_header(header);
            table.add_rows(items.iter().map(row));
            if let Some(first) = table.column_mut(0) {
                first.set_padding((0, 1));
            }
            let text: String = table.lines().map(|l| l.trim_end().to_owned() + "\n").collect();
            text_out(&text)
        }
        Format::Json => one(format, &items, String::new),
        Format::Jsonl => items.iter().try_for_each(|item| json_line(item)),
    }
}

/// One thing: text for people, or one JSON document.
pub(crate) fn one<T: Serialize>(format: Format, item: &T, text: impl FnOnce() -> String) -> Result<()> {
    match format {
        Format::Table => text_out(&text()),
        Format::Json => text_out(&(safe_json(serde_json::to_string_pretty(item).context("write JSON")?) + "\n")),
        Format::Jsonl => json_line(item),
    }
}

/// A list of things of which people are shown a text of their own.
pub(crate) fn list_or<T: Serialize>(format: Format, items: &[T], text: impl FnOnce() -> String) -> Result<()> {
    match format {
        Format::Table | Format::Json => one(format, &items, text),
        Format::Jsonl => items.iter().try_for_each(|item| json_line(item)),
    }
}

/// Things that come one by one and may be many: a line each, a JSON array around them when that is asked.
pub(crate) struct Stream {
    out: io::BufWriter<io::StdoutLock<'static>>,
    format: Format,
    first: bool,
}

impl Stream {
    /// Begins.
    pub(crate) fn new(format: Format) -> Self {
        Self { out: io::BufWriter::new(io::stdout().lock()), format, first: true }
    }

    /// One more.
    pub(crate) fn push<T: Serialize>(&mut self, item: &T, text: impl FnOnce() -> String) -> Result<()> {
        let line = match self.format {
            Format::Table => text(),
            Format::Json | Format::Jsonl => safe_json(serde_json::to_string(item).context("write JSON")?),
        };
        let before = match (self.format, self.first) {
            (Format::Json, true) => "[\n",
            (Format::Json, false) => ",\n",
            (_, true) => "",
            (_, false) => "\n",
        };
        self.first = false;
        self.out.write_all(before.as_bytes()).and_then(|()| self.out.write_all(line.as_bytes())).context(STDOUT)
    }

    /// Ends.
    pub(crate) fn finish(mut self) -> Result<()> {
        let end = match (self.format, self.first) {
            (Format::Json, true) => "[]\n",
            (Format::Json, false) => "\n]\n",
            (_, true) => "",
            (_, false) => "\n",
        };
        self.out.write_all(end.as_bytes()).and_then(|()| self.out.flush()).context(STDOUT)
    }
}

/// Prints what comes one by one until that fails: then whoever gives it out need not go on, and why is kept.
#[derive(Default)]
pub(crate) struct Printing {
    failed: Option<anyhow::Error>,
}

impl Printing {
    /// One more was printed, or not: whether to go on.
    pub(crate) fn did(&mut self, printed: Result<()>) -> ControlFlow<()> {
        match printed {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failed = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    /// Whether all of it was printed.
    pub(crate) fn done(self) -> Result<()> {
        self.failed.map_or(Ok(()), Err)
    }
}

/// One line of talk on standard error. That nobody listens is no reason to fail, nor to panic as `eprintln!` does.
macro_rules! talk {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        let said = $crate::named::spoken(&format!($($arg)*));
        let _unheard = writeln!(std::io::stderr(), "{said}");
    }};
}
pub(crate) use talk;

/// What failed when standard output could not be written.
pub(crate) const STDOUT: &str = "write to standard output";

/// Text as it is.
pub(crate) fn text_out(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context(STDOUT)
}

fn json_line<T: Serialize>(item: &T) -> Result<()> {
    text_out(&(safe_json(serde_json::to_string(item).context("write JSON")?) + "\n"))
}

/// Whether the error is that whoever read our output has gone.
pub(crate) fn reader_gone(error: &anyhow::Error) -> bool {
    error.chain().any(|e| e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
}
