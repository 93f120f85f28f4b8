//! A window of this machine on a console: what an archive would hold, as plain text on standard output, item after item
//! and nothing between them. What each item is and what is missing is talk, and goes to standard error.
//!
//! The same collection as for an archive, so the same budget, masking and gaps; only the recording is left out, which is
//! no text. On a terminal, what could steer it is shown in a form that cannot: whoever wrote the log does not type here.

use std::io::{self, Write};
use std::sync::atomic::AtomicBool;

use casefile_evidence::archive::chunk::{Checker, Chunk};
use casefile_proto::coverage::{Coverage, SourceCoverage};
use casefile_proto::gap::Gap;
use casefile_proto::ids::ItemNumber;
use casefile_proto::item::{ItemHead, ItemTail};
use casefile_proto::units::Bytes;

use super::{Plan, coverage, hint_of_denied};
use crate::collect::{self, ItemSink, SinkError};

/// How text is put out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// To the byte: for a pipe or a file.
    Plain,
    /// Without anything that a terminal acts on: for eyes.
    Harmless,
}

/// What came of it.
#[derive(Debug)]
pub struct Shown {
    /// What it says of its own completeness.
    pub coverage: Coverage,
    /// Whether whoever read it went away before its end, as `head` does.
    pub reader_left: bool,
}

/// Collects and writes to `out`; says to `talk` what is what.
pub fn show(plan: &Plan, form: Form, stop: &AtomicBool, out: &mut dyn Write, talk: &mut dyn Write) -> Shown {
    let mut console = Console {
        out,
        talk,
        form,
        checker: Checker::new(),
        plain: Vec::new(),
        carried: Vec::new(),
        text: String::new(),
        reader_left: false,
    };
    let collected = collect::collect(&plan.context, &plan.ask, stop, &mut console);
    let reader_left = console.reader_left;
    let shown = Shown { coverage: coverage(plan, collected), reader_left };
    if !reader_left {
        // That nobody hears it is no reason to fail.
        let _ = summary(&shown.coverage, talk);
    }
    shown
}

/// One line for each source, and one for everything that is missing from it.
fn summary(coverage: &Coverage, talk: &mut dyn Write) -> io::Result<()> {
    for node in &coverage.nodes {
        for SourceCoverage { source, records, items, gaps, cost, .. } in &node.sources {
            writeln!(talk, "{source}: {records} records in {items} items, {}", Bytes(cost.bytes))?;
            gaps.iter().try_for_each(|gap| missing(gap, talk))?;
        }
        node.gaps.iter().try_for_each(|gap| missing(gap, talk))?;
    }
    let hint = hint_of_denied(coverage).trim_start();
    if !hint.is_empty() {
        writeln!(talk, "{hint}")?;
    }
    talk.flush()
}

fn missing(gap: &Gap, talk: &mut dyn Write) -> io::Result<()> {
    // What it says may quote names of files, and those are anybody's.
    let mut detail = String::new();
    harmless(gap.detail.as_bytes(), &mut detail);
    match gap.interval {
        Some(interval) => writeln!(talk, "  missing ({}) {interval}: {detail}", gap.reason.name()),
        None => writeln!(talk, "  missing ({}): {detail}", gap.reason.name()),
    }
}

struct Console<'a> {
    out: &'a mut dyn Write,
    talk: &'a mut dyn Write,
    form: Form,
    checker: Checker,
    plain: Vec<u8>,
    /// The begin of a character that the next chunk ends.
    carried: Vec<u8>,
    text: String,
    reader_left: bool,
}

impl Console<'_> {
    fn give(&mut self) -> Result<(), SinkError> {
        let bytes = match self.form {
            Form::Plain => self.plain.as_slice(),
            Form::Harmless => {
                self.carried.extend_from_slice(&self.plain);
                self.text.clear();
                let used = harmless_but_for_the_end(&self.carried, &mut self.text);
                self.carried.drain(..used);
                self.text.as_bytes()
            }
        };
        let given = self.out.write_all(bytes).and_then(|()| self.out.flush());
        self.reader_left |= given.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::BrokenPipe);
        given.map_err(SinkError)
    }
}

impl ItemSink for Console<'_> {
    fn begin(&mut self, _number: ItemNumber, head: &ItemHead) -> Result<(), SinkError> {
        self.carried.clear();
        let (mut path, mut method) = (String::new(), String::new());
        harmless(head.path.as_str().as_bytes(), &mut path);
        harmless(head.method.as_bytes(), &mut method);
        // That nobody hears it is no reason to stop.
        let _ = writeln!(self.talk, "==> {path}: {method}").and_then(|()| self.talk.flush());
        Ok(())
    }

    fn chunk(&mut self, chunk: Chunk) -> Result<(), SinkError> {
        self.checker.check(&chunk, &mut self.plain).map_err(|e| SinkError(io::Error::other(e)))?;
        self.give()
    }

    fn end(&mut self, _tail: &ItemTail) -> Result<(), SinkError> {
        if self.carried.is_empty() {
            return Ok(());
        }
        self.text.clear();
        harmless(&std::mem::take(&mut self.carried), &mut self.text);
        self.out.write_all(self.text.as_bytes()).and_then(|()| self.out.flush()).map_err(SinkError)
    }

    fn progress(&mut self, source: &str, records: u64, bytes: u64) {
        tracing::debug!(source, records, bytes, "read");
    }
}

/// All of a text so that no terminal acts on it: control characters and what is no UTF-8 as `\xNN`, the marks that turn
/// the direction of writing as `\u{NNNN}`. Line feeds and tabs stay.
fn harmless(text: &[u8], out: &mut String) {
    let used = harmless_but_for_the_end(text, out);
    escape(&text[used..], out);
}

/// The same, but for a character that is not whole at the end. How many bytes were used.
fn harmless_but_for_the_end(text: &[u8], out: &mut String) -> usize {
    let mut used = 0;
    while used < text.len() {
        let rest = &text[used..];
        let (valid, broken) = match std::str::from_utf8(rest) {
            Ok(valid) => (valid, Some(0)),
            Err(e) => (std::str::from_utf8(&rest[..e.valid_up_to()]).unwrap_or_default(), e.error_len()),
        };
        for c in valid.chars() {
            match c {
                '\n' | '\t' => out.push(c),
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.extend(c.escape_unicode()),
                c if c.is_control() => escape(c.encode_utf8(&mut [0; 4]).as_bytes(), out),
                c => out.push(c),
            }
        }
        used += valid.len();
        let Some(broken) = broken else { break };
        escape(&text[used..used + broken], out);
        used += broken;
    }
    used
}

fn escape(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = std::fmt::Write::write_fmt(out, format_args!("\\x{byte:02x}"));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    fn shown(text: &[u8]) -> String {
        let mut out = String::new();
        harmless(text, &mut out);
        out
    }

    #[test]
    fn what_a_terminal_would_act_on_is_shown_and_text_is_left_alone() {
        assert_eq!(shown("grün\t日本\n".as_bytes()), "grün\t日本\n");
        assert_eq!(shown(b"\x1b]0;title\x07 \r\x08\x00"), r"\x1b]0;title\x07 \x0d\x08\x00");
        assert_eq!(shown(b"\x9b31m \xc2\x9b31m \xff"), r"\x9b31m \xc2\x9b31m \xff");
        assert_eq!(shown("a\u{202e}b\u{2066}".as_bytes()), r"a\u{202e}b\u{2066}");
        assert_eq!(shown("ü".as_bytes().split_at(1).0), r"\xc3");
    }

    proptest! {
        #[test]
        fn however_it_is_cut_the_same_is_shown_and_nothing_that_acts(
            text in proptest::collection::vec(any::<u8>(), 0..60), words in ".{0,20}", cut in 0_usize..80,
        ) {
            let text = [text, words.into_bytes()].concat();
            let whole = shown(&text);
            assert!(whole.chars().all(|c| !c.is_control() || c == '\n' || c == '\t'));
            let (a, b) = text.split_at(cut.min(text.len()));
            let mut out = String::new();
            let used = harmless_but_for_the_end(a, &mut out);
            harmless(&[&a[used..], b].concat(), &mut out);
            assert_eq!(out, whole);
        }
    }
}
