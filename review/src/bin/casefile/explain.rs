//! `casefile explain`: what an Xid, an SXid or a line of the kernel log means. Offline: it opens no file and no connection.

use std::io::{BufRead, IsTerminal, Read};

use anyhow::{Context, Result, bail};
use casefile_review::signatures::explain::{self, Explanation, Subject, unknown};
use casefile_review::signatures::page::{record_text, text};
use casefile_review::signatures::record::{Lines, Record};
use serde::Serialize;

use crate::Ended;
use crate::args::{ExplainArgs, Format, Numbered};
use crate::output::{self, talk};

/// A longer line comes in pieces: no record of the kernel is as long.
const MAX_LINE: u64 = 64 << 10;

/// One code, or the lines of standard input.
pub(crate) fn run(args: &ExplainArgs) -> Result<Ended> {
    match (args.what, args.code) {
        (Some(Numbered::Xid), Some(code)) => code_of(Subject::Xid(code), args.output.format),
        (Some(Numbered::Sxid), Some(code)) => code_of(Subject::SXid(code), args.output.format),
        _ => lines(args.output.format),
    }
}

fn code_of(subject: Subject<'_>, format: Format) -> Result<Ended> {
    let Some(explained) = explain::explain(subject) else {
        bail!(unknown(subject));
    };
    output::one(format, &explained, || text(&explained))?;
    Ok(Ended::Done)
}

/// One line that was recognised.
#[derive(Serialize)]
struct Explained<'a> {
    record: &'a Record<'a>,
    /// `null`: its code is in no catalogue.
    explanation: Option<&'a Explanation>,
}

fn lines(format: Format) -> Result<Ended> {
    if std::io::stdin().is_terminal() {
        talk!("reading lines of the kernel log from standard input (casefile explain xid 79 explains a number)");
    }
    let mut out = output::Stream::new(format);
    let mut known = Lines::default();
    let mut said: Vec<Subject<'_>> = Vec::new();
    let (mut explained, mut unexplained, mut other) = (0_u64, 0_u64, 0_u64);
    let (mut input, mut line) = (std::io::stdin().lock(), Vec::new());
    loop {
        line.clear();
        if input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).context("read standard input")? == 0 {
            break;
        }
        let line = String::from_utf8_lossy(&line);
        let Some(record) = known.line(&line) else {
            other += u64::from(!line.trim().is_empty());
            continue;
        };
        let explanation = explain::explain(record.subject);
        if explanation.is_some() {
            explained += 1;
        } else {
            unexplained += 1;
            talk!("{}", unknown(record.subject));
        }
        let before = if said.is_empty() { "" } else { "\n" };
        let again = said.contains(&record.subject);
        out.push(&Explained { record: &record, explanation: explanation.as_ref() }, || {
            let below = match &explanation {
                Some(explained) if again => format!("  {} is explained above\n", explained.subject),
                Some(explained) => text(explained),
                None => format!("  {}\n", unknown(record.subject)),
            };
            format!("{before}{}{below}", record_text(&record)).trim_end_matches('\n').to_owned()
        })?;
        if !again {
            said.push(record.subject);
        }
    }
    out.finish()?;
    if other > 0 {
        talk!("{other} line(s) are not among those that are known");
    }
    match (explained, unexplained) {
        (0, 0) => bail!("no line was recognised"),
        (0, n) => bail!("{n} line(s) were recognised, and their codes are in no catalogue"),
        _ => Ok(Ended::Done),
    }
}
