//! `casefile explain`: what a signature, an Xid, an SXid or a line of a log means. Offline: it opens no connection, and no file but an
//! operator's own packs.

use std::io::{BufRead, IsTerminal, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use casefile_review::checks::{self, About};
use casefile_review::signatures::catalogue::catalogue;
use casefile_review::signatures::explain::{self, Explanation, Subject, unknown};
use casefile_review::signatures::names;
use casefile_review::signatures::pack::MAX_FILE;
use casefile_review::signatures::page::{record_text, text};
use casefile_review::signatures::record::{Lines, Record};
use casefile_review::signatures::set::Signatures;
use casefile_review::signatures::signature::{Log, Signature};
use clap::CommandFactory;
use clap::error::ErrorKind;
use serde::Serialize;

use crate::Ended;
use crate::args::{Cli, ExplainArgs, Format, What};
use crate::output::{self, talk};

/// A longer line comes in pieces: no record of the kernel is as long.
const MAX_LINE: u64 = 64 << 10;

/// One code, what has a name, all that is known, or the lines of standard input.
pub(crate) fn run(args: &ExplainArgs) -> Result<Ended> {
    let own;
    let signatures = if args.packs.is_empty() {
        &catalogue().signatures
    } else {
        own = load(&args.packs)?;
        &own
    };
    let format = args.output.format;
    match (&args.what, args.code) {
        _ if args.list => list(signatures, format),
        (Some(What::Xid), Some(code)) => code_of(Subject::Xid(code), format),
        (Some(What::Sxid), Some(code)) => code_of(Subject::SXid(code), format),
        (Some(What::Name(name)), None) => named(signatures, name, format),
        (Some(What::Name(name)), Some(code)) => Cli::command()
            .error(
                ErrorKind::ArgumentConflict,
                format!("{name} has no number: only xid and sxid have, and {code} is one"),
            )
            .exit(),
        _ => lines(signatures, format),
    }
}

/// The signatures of an operator's own files, before ours.
pub(crate) fn load(files: &[PathBuf]) -> Result<Signatures> {
    let texts: Vec<_> =
        files.iter().map(|file| Ok((file.display().to_string(), read(file)?))).collect::<Result<_>>()?;
    match Signatures::with(&texts) {
        Ok(signatures) => Ok(signatures),
        Err(problems) => bail!("the signatures cannot be used:\n  {}", problems.join("\n  ")),
    }
}

fn read(file: &Path) -> Result<String> {
    let mut text = String::new();
    let open = std::fs::File::open(file).with_context(|| format!("open {}", file.display()))?;
    // What is longer is read so far that its length is seen.
    open.take(MAX_FILE as u64 + 1).read_to_string(&mut text).with_context(|| format!("read {}", file.display()))?;
    Ok(text)
}

/// One line of `--list`.
#[derive(Serialize)]
struct Listed<'a> {
    id: &'a str,
    title: &'a str,
    streams: &'a [Log],
    aliases: &'a [String],
}

impl<'a> From<&'a Signature> for Listed<'a> {
    fn from(s: &'a Signature) -> Self {
        Self { id: &s.id, title: &s.title, streams: &s.logs, aliases: &s.aliases }
    }
}

fn list(signatures: &Signatures, format: Format) -> Result<Ended> {
    let mut all: Vec<_> = signatures.iter().map(Listed::from).collect();
    let checks: Vec<_> = checks::every().collect();
    all.extend(checks.iter().map(|c| Listed { id: c.id, title: c.title, streams: &[], aliases: &[] }));
    all.sort_unstable_by_key(|s| s.id);
    output::list(format, &["ID", "WHAT IT IS"], &all, |s| vec![s.id.to_owned(), s.title.to_owned()])?;
    Ok(Ended::Done)
}

fn code_of(subject: Subject<'_>, format: Format) -> Result<Ended> {
    let Some(explained) = explain::explain(subject) else {
        bail!(unknown(subject));
    };
    output::one(format, &explained, || text(&explained))?;
    Ok(Ended::Done)
}

/// A name may be that of several things: they come one after the other, and as JSON always in a list.
fn named(signatures: &Signatures, name: &str, format: Format) -> Result<Ended> {
    let found = names::find(signatures, name);
    let explained: Vec<_> = found.into_iter().filter_map(explain::explain).collect();
    let checks = checks::about(name);
    if explained.is_empty() && !checks.is_empty() {
        return of_checks(&checks, format);
    }
    if explained.is_empty() {
        let near = names::nearest(signatures, name).join(", ");
        let near = if near.is_empty() { near } else { format!("; near it: {near}") };
        bail!("nothing is known of {name}{near} (casefile explain --list has all ids)");
    }
    let mut out = output::Stream::new(format);
    for (n, one) in explained.iter().enumerate() {
        let before = if n == 0 { "" } else { "\n" };
        out.push(one, || format!("{before}{}", text(one)).trim_end_matches('\n').to_owned())?;
    }
    out.finish()?;
    Ok(Ended::Done)
}

/// Checks: what their findings are called is their id, where it is not that of a signature.
fn of_checks(checks: &[About], format: Format) -> Result<Ended> {
    let mut out = output::Stream::new(format);
    for (n, check) in checks.iter().enumerate() {
        let before = if n == 0 { "" } else { "\n" };
        out.push(check, || {
            let needs = if check.needs.is_empty() {
                String::new()
            } else {
                format!("\n  needs     {}", check.needs.join("; "))
            };
            let metrics = check.metrics.join(", ");
            let looks = if metrics.is_empty() { String::new() } else { format!("\n  looks at  {metrics}") };
            format!("{before}{}  a check of casefile check\n  finds     {}{needs}{looks}", check.id, check.title)
        })?;
    }
    out.finish()?;
    Ok(Ended::Done)
}

/// One line that was recognised.
#[derive(Serialize)]
struct Explained<'a> {
    record: &'a Record<'a>,
    /// `null`: its code is in no catalogue.
    explanation: Option<&'a Explanation>,
}

fn lines(signatures: &Signatures, format: Format) -> Result<Ended> {
    if std::io::stdin().is_terminal() {
        talk!(
            "reading lines of a log from standard input (casefile explain xid 79 explains a number, casefile explain ID a signature)"
        );
    }
    let mut out = output::Stream::new(format);
    let mut known = Lines::new(signatures);
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
