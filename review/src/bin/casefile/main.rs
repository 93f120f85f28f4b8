//! `casefile`: opens incidents and reads case files. This file picks the verb; each verb has a file.

mod analyze_resources;
mod args;
mod check;
mod client;
mod collect;
mod collect_logs;
mod compare;
mod contents;
mod demo;
mod download;
mod explain;
mod export;
mod generate;
mod gpu;
mod health_check;
mod incidents;
mod live;
mod logs;
mod named;
mod nodes;
mod output;
mod past;
mod progress;
mod recordings;
mod redact;
mod report;
mod review;
mod show;
mod source;
mod test_connectivity;
mod verify;

use std::process::ExitCode;

use anyhow::Result;
use args::{Cli, Verb};
use casefile_review::when::InvalidWhen;
use clap::FromArgMatches;
use named::Called;

/// How a verb ended, when it did not fail: the exit codes that scripts rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Everything that was asked for.
    Done,
    /// Damage, or errors, were found.
    Damage,
    /// Warnings were found, and nothing worse.
    Warnings,
    /// Done, but evidence is missing.
    Partial,
}

impl From<Ended> for ExitCode {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Done => Self::SUCCESS,
            Ended::Damage => Self::from(3),
            Ended::Warnings => Self::from(4),
            Ended::Partial => Self::from(5),
        }
    }
}

fn main() -> ExitCode {
    let called = Called::by(std::env::args_os().next().as_deref());
    called.remember();
    let matches = called.command().get_matches();
    match run(Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit())) {
        Ok(ended) => ended.into(),
        Err(error) if output::reader_gone(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let chain: Vec<_> = error.chain().map(ToString::to_string).collect();
            crate::output::talk!("{}: {}", called.typed(), casefile_review::display::safe(&chain.join(": ")));
            // A time that is none, an empty or reversed window, or a node that was not said is a matter of what was typed.
            if error.is::<InvalidWhen>() || error.is::<source::WhichNode>() {
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn run(cli: Cli) -> Result<Ended> {
    match cli.verb {
        Verb::Collect(args) => collect::run(&args),
        Verb::Incidents { collector, limit, output } => incidents::run(&collector, limit, output.format),
        Verb::Nodes { collector, output } => nodes::run(&collector, output.format),
        Verb::Download { incident, revision, file, format, collector } => {
            download::run(&collector, (incident, revision), file, format)
        }
        Verb::Verify { file, signers, output } => verify::run(&file, signers.as_deref(), output.format),
        Verb::Show { source, output } => show::run(&source, output.format),
        Verb::Ls { file, output } => contents::ls(&file, output.format),
        Verb::Cat { file, entry } => contents::cat(&file, &entry),
        Verb::Extract { file, into, output } => contents::extract(&file, &into, output.format),
        Verb::Series { source, metric, node, labels, output } => {
            recordings::series(&source, metric, node.as_ref(), labels, output.format)
        }
        Verb::Logs(args) => logs::run(&args),
        Verb::Export(args) => export::run(&args),
        Verb::Gpu(args) => gpu::run(&args),
        Verb::Top(args) => past::top(&args),
        Verb::Vmstat(args) => past::vmstat(&args),
        Verb::Iostat(args) => past::iostat(&args),
        Verb::Sar(args) => past::sar(&args),
        Verb::Dmesg(args) => past::dmesg(&args),
        Verb::Ss(args) => past::ss(&args),
        Verb::Df(args) => past::df(&args),
        Verb::Compare(args) => compare::run(&args),
        Verb::Diff(args) => compare::diff(&args),
        Verb::Explain(args) => explain::run(&args),
        Verb::Check(args) => check::check(&args),
        Verb::Demo(args) => demo::run(&args),
        Verb::Findings(args) => check::findings(&args),
        Verb::Timeline(args) => check::timeline(&args),
        Verb::Cite(args) => check::cite(&args),
        Verb::TestConnectivity(args) => test_connectivity::run(&args),
        Verb::Report(args) => report::run(&args),
        Verb::Review(args) => review::run(&args),
        Verb::HealthCheck(args) => health_check::run(&args),
        Verb::CollectLogs(args) => collect_logs::run(&args),
        Verb::AnalyzeResources(args) => analyze_resources::run(&args),
        Verb::Redact { list: true, rules, output, .. } => redact::list(&rules, output.format),
        Verb::Redact { explain, rules, pseudonyms, output, .. } => {
            redact::run(explain, &rules, &pseudonyms, output.format)
        }
        Verb::Replay { dir, series, labels, events, window, output } => {
            recordings::replay(&dir, series, labels, events, &window, output.format)
        }
        Verb::Completions { shell } => generate::completions(shell),
        Verb::Man { dir } => generate::man(&dir),
    }
}
