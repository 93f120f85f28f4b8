//! `casefile logs`: the records of all logs in the order in which they happened, for a person, a program or a pipe.
//!
//! A record came from a node, so an attacker may have written it: on a terminal it is always shown escaped, its further
//! lines are indented so that none can be taken for a record of another log, and every colour is ours.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anyhow::{Context, Result};
use casefile_proto::ids::NodeName;
use casefile_proto::time::WallTime;
use casefile_review::casefile::CaseFile;
use casefile_review::display::{escaped, safe, safe_text};
use casefile_review::logs::records::Stream;
use casefile_review::logs::{self, Line, Selector, Told};
use regex::bytes::Regex;
use serde::Serialize;

use crate::args::source::Place;
use crate::args::{Colour, Format, LogFormat, LogsArgs};
use crate::output::{self, Printing, STDOUT, talk};
use crate::{Ended, source};

/// Damaged entries that are named; more would not be read.
const MAX_DAMAGED: usize = 8;

/// Reads, sorts and prints.
pub(crate) fn run(args: &LogsArgs) -> Result<Ended> {
    Ok(print(&mut source::open(&args.source)?, args)?.0)
}

/// Reads, sorts and prints the records of an opened case file; and what is to be said of them.
pub(crate) fn print(casefile: &mut CaseFile, args: &LogsArgs) -> Result<(Ended, Told)> {
    let selector = selector(args, casefile)?;
    let terminal = io::stdout().is_terminal();
    let colours = match args.color {
        Colour::Always => true,
        Colour::Never => false,
        Colour::Auto => terminal && colours_are_welcome(),
    };
    let marks = args.highlight.iter().chain(&args.include).cloned().collect();
    let width = casefile.coverage.nodes.iter().map(|n| safe(n.node.as_str()).len()).max().unwrap_or(0);
    let paint = Paint { colours, marks, width: width.min(MAX_NODE_WIDTH) };
    let mut printer = match args.format {
        LogFormat::Table => Printer::Table(output::Stream::new(Format::Table), paint),
        LogFormat::Json => Printer::Json(output::Stream::new(Format::Json)),
        LogFormat::Jsonl => Printer::Json(output::Stream::new(Format::Jsonl)),
        LogFormat::Raw => Printer::Raw(Raw {
            out: io::BufWriter::new(io::stdout().lock()),
            paint: (terminal || colours).then_some(paint),
            timestamps: args.timestamps,
        }),
    };
    let mut printing = Printing::default();
    let told = logs::merged(casefile, &selector, logs::MEMORY, &mut |line| printing.did(printer.line(line)))?;
    printing.done()?;
    printer.finish()?;
    let whole = say(&told, &args.source.file, casefile);
    Ok((if whole { Ended::Done } else { Ended::Damage }, told))
}

/// What must be said besides the records: silence is not health. The answer is whether nothing is damaged.
pub(crate) fn say(told: &Told, file: &Place, casefile: &CaseFile) -> bool {
    for (entry, why) in told.damaged.iter().take(MAX_DAMAGED) {
        talk!("damaged: {entry}: {}", safe(why));
    }
    if told.damaged.len() > MAX_DAMAGED {
        talk!("damaged: {} more entries", told.damaged.len() - MAX_DAMAGED);
    }
    if !told.unclocked.is_empty() {
        let nodes: Vec<_> = told.unclocked.iter().take(MAX_DAMAGED).map(|n| safe(n.as_str())).collect();
        let more = told.unclocked.len() - nodes.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        talk!(
            "the clock of {}{more} was never compared with the others': its own times are shown, and their order \
             among other nodes is not certain",
            nodes.join(", ")
        );
    }
    if told.untimed > 0 {
        talk!("{} record(s) bear no time that is understood: they stand first, without one", told.untimed);
    }
    if told.unplaced > 0 {
        talk!(
            "{} record(s) bear no time that is understood and were left out: whether they belong to this part of the \
             window cannot be said",
            told.unplaced
        );
    }
    if told.shown == 0 {
        talk!("no record matches (casefile show {} says which logs are in it)", file);
    }
    if told.gaps > 0 {
        let gaps = if told.gaps == 1 { "1 gap".to_owned() } else { format!("{} gaps", told.gaps) };
        talk!("{gaps} in these logs: what is not here may still have happened (casefile show {} lists them)", file);
    }
    if casefile.entries.truncated() {
        talk!("this file ends early: records may be missing from here on, and whole logs");
    } else if !casefile.entries.indexed() {
        talk!("the index of this file is damaged: logs behind the damage may be missing (casefile verify says more)");
    }
    casefile.entries.indexed() && told.damaged.is_empty()
}

/// Which records are wanted of a case file.
pub(crate) fn selector(args: &LogsArgs, casefile: &CaseFile) -> Result<Selector> {
    let range = source::range(
        args.around.as_deref(),
        args.since.as_deref(),
        args.until.as_deref(),
        casefile.incident.window.until(),
    )?;
    Ok(Selector {
        nodes: args.nodes.clone(),
        sources: args.sources.clone(),
        units: args.units.clone(),
        namespaces: args.namespaces.clone(),
        pods: args.pods.clone(),
        exclude_pods: args.exclude_pods.clone(),
        containers: args.containers.clone(),
        exclude_containers: args.exclude_containers.clone(),
        include: args.include.clone(),
        exclude: args.exclude.clone(),
        range,
        // As with stern: a negative number is all of them.
        tail: u64::try_from(args.tail).ok(),
    })
}

/// <https://no-color.org>, and terminals that say that they have none.
fn colours_are_welcome() -> bool {
    let says = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !says("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// One record of `-o json`.
#[derive(Serialize)]
struct Row<'a> {
    node: &'a NodeName,
    source: &'a str,
    /// On the collector's clock.
    time: Option<WallTime>,
    /// On the node's own.
    node_time: Option<WallTime>,
    /// The corrected time is right to within this; `null`: the node's clock was never compared.
    bound_nanos: Option<u64>,
    entry: &'a str,
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<Stream>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    /// Instead of `text` where the bytes are not UTF-8: such bytes as `\xff`, a backslash as `\\`.
    #[serde(skip_serializing_if = "Option::is_none")]
    text_escaped: Option<String>,
    /// The record goes on in this one: it is longer than what is held at once.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    continues: bool,
}

impl<'a> Row<'a> {
    fn of(line: &Line<'a>) -> Self {
        let (log, text) = (line.log, std::str::from_utf8(line.text).ok());
        Self {
            node: &log.node,
            source: &log.origin.source,
            time: line.when.map(|w| w.corrected),
            node_time: line.when.map(|w| w.node),
            bound_nanos: log.clock.map(|c| c.bound_nanos),
            entry: log.entry.as_str(),
            line: line.number,
            namespace: log.origin.namespace.as_deref(),
            pod: log.origin.pod.as_deref(),
            container: log.origin.container.as_deref(),
            unit: log.origin.unit.as_deref(),
            file: log.origin.file.as_deref(),
            stream: line.stream,
            text,
            text_escaped: text.is_none().then(|| escaped(line.text)),
            continues: line.continues,
        }
    }
}

/// What prints one record after the other.
enum Printer {
    Table(output::Stream, Paint),
    Json(output::Stream),
    Raw(Raw),
}

impl Printer {
    fn line(&mut self, line: &Line<'_>) -> Result<()> {
        match self {
            Self::Table(out, paint) => out.push(&(), || paint.record(line)),
            Self::Json(out) => out.push(&Row::of(line), String::new),
            Self::Raw(raw) => raw.line(line).context(STDOUT),
        }
    }

    fn finish(self) -> Result<()> {
        match self {
            Self::Table(out, _) | Self::Json(out) => out.finish(),
            Self::Raw(mut raw) => raw.out.flush().context(STDOUT),
        }
    }
}

/// The texts alone, byte for byte into a pipe or a file, escaped on a terminal.
struct Raw {
    out: io::BufWriter<io::StdoutLock<'static>>,
    paint: Option<Paint>,
    timestamps: bool,
}

impl Raw {
    fn line(&mut self, line: &Line<'_>) -> io::Result<()> {
        if self.timestamps {
            write!(self.out, "{} ", time_text(line))?;
        }
        match &self.paint {
            Some(paint) => {
                for (i, text) in line.text.split(|b| *b == b'\n').enumerate() {
                    let before = if i > 0 { "\n" } else { "" };
                    write!(self.out, "{before}{}", paint.text(text))?;
                }
            }
            None => self.out.write_all(line.text)?,
        }
        self.out.write_all(b"\n")
    }
}

/// A node's name is padded to the longest, and to no more than this.
const MAX_NODE_WIDTH: usize = 32;

/// Further lines of a record: no record begins with a blank.
const INDENT: &str = "    ";

/// How a record is shown to a person.
struct Paint {
    colours: bool,
    marks: Vec<Regex>,
    width: usize,
}

impl Paint {
    fn record(&self, line: &Line<'_>) -> String {
        let mut lines = line.text.split(|b| *b == b'\n').map(|text| self.text(text));
        let label = safe(&line.log.origin.label());
        let mark = if line.stream == Some(Stream::Stderr) { "!" } else { "" };
        let label = self.coloured(colour_of(&label), &format!("{label}{mark}"));
        let first = lines.next().unwrap_or_default();
        let node = safe(line.log.node.as_str());
        let mut out = format!("{} {node:<width$} {label} {first}", time_text(line), width = self.width);
        lines.for_each(|text| out.extend(["\n", INDENT, &text]));
        out
    }

    /// One line, with what was looked for marked.
    fn text(&self, text: &[u8]) -> String {
        if !self.colours {
            return safe_text(text);
        }
        let mut marked: Vec<_> = self.marks.iter().flat_map(|re| re.find_iter(text)).map(|m| m.range()).collect();
        marked.sort_by_key(|range| (range.start, range.end));
        let (mut out, mut at) = (String::new(), 0);
        for range in marked.into_iter().filter(|range| !range.is_empty()) {
            // What overlaps with the mark before is marked already.
            let from = range.start.max(at);
            if from < range.end {
                out.push_str(&safe_text(&text[at..from]));
                out.push_str(&self.coloured(MARKED, &safe_text(&text[from..range.end])));
                at = range.end;
            }
        }
        out.push_str(&safe_text(&text[at..]));
        out
    }

    fn coloured(&self, colour: u8, text: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Bold, whatever the terminal's colours are.
const MARKED: u8 = 1;

/// One of six colours (ECMA-48 §8.3.117) that can be read on dark and on light ground: always the same for one pod or unit.
fn colour_of(label: &str) -> u8 {
    let mut hasher = DefaultHasher::new();
    label.hash(&mut hasher);
    31 + u8::try_from(hasher.finish() % 6).unwrap_or(0)
}

/// The corrected time, always to the microsecond, so that texts begin in one column.
pub(crate) fn time_text(line: &Line<'_>) -> String {
    const UNKNOWN: &str = "-                          ";
    let Some(when) = line.when else { return UNKNOWN.to_owned() };
    let at = when.corrected;
    let micros = at.nanos().rem_euclid(1_000_000_000) / 1_000;
    let second = at.before(Duration::from_micros(micros.unsigned_abs())).to_seconds_text();
    format!("{}.{micros:06}Z", second.trim_end_matches('Z'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paint(colours: bool, marks: &[&str]) -> Paint {
        Paint { colours, marks: marks.iter().map(|re| Regex::new(re).unwrap()).collect(), width: 0 }
    }

    #[test]
    fn what_is_marked_is_escaped_like_the_rest() {
        let text = b"an oom of \x1b[2J oom-killer";
        assert_eq!(paint(false, &["oom"]).text(text), "an oom of \\u{1b}[2J oom-killer");
        assert_eq!(
            paint(true, &["oom", "oom-k", "J", ""]).text(text),
            "an \x1b[1moom\x1b[0m of \\u{1b}[2\x1b[1mJ\x1b[0m \x1b[1moom\x1b[0m\x1b[1m-k\x1b[0miller"
        );
        assert_eq!(paint(true, &[r"(?-u)\x1b\[2"]).text(text), "an oom of \x1b[1m\\u{1b}[2\x1b[0mJ oom-killer");
    }
}
