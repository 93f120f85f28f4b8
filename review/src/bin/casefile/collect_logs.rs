//! `casefile collect-logs`: logs of pods and units, live or out of a case file: `casefile logs`, with the way to them before it.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use casefile_proto::item::safe_component;
use casefile_proto::scope::{Scope, Selection};
use casefile_review::casefile::CaseFile;
use casefile_review::display::safe;
use casefile_review::logs::{self as review_logs, Line, Selector};
use regex::Regex;
use serde::Serialize;

use crate::args::runbook::CollectLogsArgs;
use crate::args::source::{Place, SourceArgs};
use crate::args::{Colour, Format, LogFormat, LogsArgs};
use crate::live::{self, Wanted};
use crate::output::{self, Printing, talk};
use crate::{Ended, logs};

/// How far back is looked where nobody says it.
const LAST: &str = "1h";

/// Reads the logs and writes them.
pub(crate) fn run(args: &CollectLogsArgs) -> Result<Ended> {
    let sources = sources(args);
    let select = Selection { namespaces: args.namespaces.clone(), pods: args.pods.clone(), units: args.units.clone() };
    let wanted = Wanted {
        since: args.since.as_deref().unwrap_or(LAST),
        until: args.until.as_deref(),
        purpose: "logs",
        scope: Scope { sources, select, chosen: None },
    };
    let live = args.look.file.is_none();
    let (mut casefile, place) = live::look_at(&args.look, wanted)?;
    let asked = as_logs(args, &place, live)?;
    let (ended, told) = match &args.into {
        None => logs::print(&mut casefile, &asked)?,
        Some(dir) => into_files(&mut casefile, &asked, dir)?,
    };
    if told.logs == 0 {
        talk!("none of these logs is in it: that nothing was written cannot be said");
    }
    Ok(match ended {
        Ended::Done if told.gaps > 0 || told.logs == 0 || casefile.entries.truncated() => Ended::Partial,
        ended => ended,
    })
}

/// The log sources in which they are.
fn sources(args: &CollectLogsArgs) -> Vec<String> {
    let named = [("pods", &args.namespaces), ("journal", &args.units)];
    named.into_iter().filter(|(_, names)| !names.is_empty()).map(|(source, _)| source.to_owned()).collect()
}

/// The same as it would be asked of `casefile logs`.
fn as_logs(args: &CollectLogsArgs, place: &Place, live: bool) -> Result<LogsArgs> {
    let whole = |name: &String| Regex::new(&format!("^{}$", regex::escape(name)));
    // What was gathered for the purpose is asked for already.
    let part = |time: &Option<String>| time.clone().filter(|_| !live);
    Ok(LogsArgs {
        source: SourceArgs { file: place.clone(), collector: args.look.collector.clone() },
        nodes: Vec::new(),
        // A gap of another source is none of these logs.
        sources: sources(args),
        units: args.units.clone(),
        namespaces: args.namespaces.clone(),
        pods: args.pods.iter().map(whole).collect::<Result<_, _>>().context("the name of a pod")?,
        exclude_pods: Vec::new(),
        containers: Vec::new(),
        exclude_containers: Vec::new(),
        include: Vec::new(),
        exclude: Vec::new(),
        highlight: Vec::new(),
        since: part(&args.since),
        until: part(&args.until),
        around: None,
        tail: -1,
        timestamps: true,
        color: Colour::Auto,
        format: args.format,
    })
}

/// A file that was written.
#[derive(Serialize)]
struct Written {
    file: PathBuf,
    node: String,
    log: String,
    records: u64,
}

/// Writes each log into a file of its own: time and text, byte for byte.
fn into_files(casefile: &mut CaseFile, asked: &LogsArgs, dir: &Path) -> Result<(Ended, review_logs::Told)> {
    let selector: Selector = logs::selector(asked, casefile)?;
    let mut open = Files { dir, current: None, written: BTreeMap::new() };
    let mut printing = Printing::default();
    let told = review_logs::unsorted(casefile, &selector, &mut |line| printing.did(open.line(line)))?;
    printing.done()?;
    open.close()?;
    let files: Vec<Written> = open.written.into_values().collect();
    let format = match asked.format {
        LogFormat::Table | LogFormat::Raw => Format::Table,
        LogFormat::Json => Format::Json,
        LogFormat::Jsonl => Format::Jsonl,
    };
    output::list(format, &["FILE", "NODE", "LOG", "RECORDS"], &files, |file| {
        vec![file.file.display().to_string(), safe(&file.node), safe(&file.log), file.records.to_string()]
    })?;
    let whole = logs::say(&told, &asked.source.file, casefile);
    Ok((if whole { Ended::Done } else { Ended::Damage }, told))
}

/// The files of a directory, of which one is open: logs come one after the other.
struct Files<'d> {
    dir: &'d Path,
    current: Option<(PathBuf, BufWriter<File>)>,
    written: BTreeMap<PathBuf, Written>,
}

impl Files<'_> {
    fn line(&mut self, line: &Line<'_>) -> Result<()> {
        let log = line.log;
        // Names of a node are made into names of files that lead nowhere else.
        let node = self.dir.join(safe_component(log.node.as_str()));
        let path = node.join(format!("{}.log", safe_component(&log.origin.label().replace('/', "_"))));
        let failed = || format!("write {}", path.display());
        if self.current.as_ref().is_none_or(|(open, _)| *open != path) {
            self.close()?;
            DirBuilder::new().recursive(true).mode(0o700).create(&node).with_context(failed)?;
            let known = self.written.contains_key(&path);
            // Only what we made ourselves a moment ago is gone on with.
            let mut options = OpenOptions::new();
            options.append(true).create_new(!known).mode(0o600);
            let file = options.open(&path).with_context(failed)?;
            self.current = Some((path.clone(), BufWriter::new(file)));
        }
        let Some((_, out)) = &mut self.current else { return Ok(()) };
        let time = logs::time_text(line);
        out.write_all(time.as_bytes())
            .and_then(|()| out.write_all(b" "))
            .and_then(|()| out.write_all(line.text))
            .and_then(|()| out.write_all(b"\n"))
            .with_context(failed)?;
        let written = self.written.entry(path.clone()).or_insert_with(|| Written {
            file: path,
            node: log.node.to_string(),
            log: log.origin.label(),
            records: 0,
        });
        written.records += u64::from(!line.continues);
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        match self.current.take() {
            Some((path, mut out)) => out.flush().with_context(|| format!("write {}", path.display())),
            None => Ok(()),
        }
    }
}
